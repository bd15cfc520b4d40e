"Kind: the absence of marks is taken as a mark: scans and names that find nothing, and say something all the same"
import pytest, torch
from torch import nn
import torchvision.models as tv
from robustfm.attacks import PGD,Linf
from robustfm.finetuning import Classifier
from robustfm.methods.autolora import AutoLoRa,LowRank
from robustfm.models import Encoder,one_branch,tiny
from robustfm.zoo import load_released
import zoo_reference as ref

FAULTS = [('bugs-ml-A5', 'absent marks', 'test_a_file_that_bears_no_mark_is_asked_about'),
          ('researcher-F9b', 'absent marks', 'test_autolora_reaches_linear_layers'),
          ('researcher-F9b', 'absent marks', 'test_autolora_refuses_what_has_no_place')]

def meta(make):
    with torch.device('meta'): sd = make().state_dict()
    return {k:torch.zeros(v.shape, dtype=v.dtype) for k,v in sd.items()}

def kuangliu():
    return {k.replace('downsample','shortcut').replace('fc.','linear.'):v for k,v in meta(lambda: ref.resnet.__wrapped__(classes=10) if hasattr(ref.resnet, '__wrapped__') else tv.resnet18(num_classes=10)).items()}

@pytest.mark.parametrize('make,families', [
    (lambda: meta(tv.resnet50), ('sat-imagenet224','torchvision')),
    (lambda: {k:v for k,v in meta(tv.resnet50).items() if not k.startswith('fc.')}, ('sat-imagenet224','torchvision')),
    (lambda: meta(tv.resnet18), ('advcl-one','torchvision')),
    (lambda: meta(tv.resnet34), ('advcl-one','torchvision')),
    (kuangliu, ('kuangliu','kuangliu-as-is')),
    (lambda: {'module.'+k:v for k,v in meta(tv.resnet50).items()}, ('sat-imagenet224','torchvision'))],
    ids=['bugs-ml-A5-resnet50','bugs-ml-A5-without-head','bugs-ml-A5-resnet18','own-resnet34','own-kuangliu','own-data-parallel'])
def test_a_file_that_bears_no_mark_is_asked_about(make, families):
    with pytest.raises(ValueError, match='say which with family=') as e: load_released(make())
    assert all(repr(f) in str(e.value) for f in families)

def test_a_wide_network_of_ten_classes_is_not_said_to_be_of_imagenet():
    sd = meta(lambda: ref.WRN(10))
    with pytest.raises(ValueError, match="'sat-imagenet32'.*'wrn'"): load_released(sd)

def test_torchvisions_network_is_normalised_as_it_was_trained():
    torch.manual_seed(0)
    m = tv.resnet18(num_classes=3).eval()
    n = load_released(m.state_dict(), family='torchvision')
    x = torch.rand(2,3,64,64)
    mean,std = (torch.tensor(s).view(1,3,1,1) for s in ref.imagenet)
    with torch.no_grad(): assert (n(x)-m((x-mean)/std)).abs().max()<1e-4
    assert 'adversarial' not in n.report.about and n.card['released']['family']=='torchvision'

class Block(nn.Module):
    "A transformer's two linear layers behind a patch embedding"
    def __init__(self):
        super().__init__()
        self.patches,self.fc1,self.fc2,self.num_features = nn.Conv2d(1,8,2,2),nn.Linear(8,16),nn.Linear(16,8),8
        self.spec = dict(channels=1)
    def forward(self, x): return self.fc2(self.fc1(self.patches(x).flatten(2).transpose(1,2)).relu()).mean(1)

def test_autolora_reaches_linear_layers():
    torch.manual_seed(0)
    lora = AutoLoRa(Classifier(Encoder(Block(), 'adv'), 3), attack=PGD(Linf(.1), steps=1))
    assert [n for _,n,_ in lora.places]==['fc1','fc2']
    for *_,low in lora.places: nn.init.normal_(low.B)
    nn.init.normal_(lora.net.head.weight)
    x = torch.rand(4,1,8,8)
    with lora.natural(): z = lora.net(x)
    assert (z-lora.net(x)).abs().max()>1e-3
    lora(x, torch.arange(4)%3)[0].backward()
    assert all(low.B.grad.abs().max()>0 for *_,low in lora.places)
    lora.end()
    assert not any(isinstance(m, LowRank) for m in lora.net.modules())

class Bare(nn.Module):
    num_features,spec = 64,dict(channels=1)
    def forward(self, x): return x.flatten(1)

class One(Bare):
    def __init__(self): super().__init__(); self.f = nn.Linear(64, 64)
    def forward(self, x): return self.f(x.flatten(1))

@pytest.mark.parametrize('make', [Bare,One], ids=['researcher-F9b-nothing','own-only-the-first'])
def test_autolora_refuses_what_has_no_place(make):
    with pytest.raises(ValueError, match='there is no branch'): AutoLoRa(Classifier(Encoder(make(), 'adv'), 3))

def test_convolutions_of_any_shape_have_a_branch():
    for c in (nn.Conv2d(4,6,3,groups=2), nn.Conv2d(4,6,(1,3)), nn.Conv2d(4,6,1,stride=2), nn.Linear(4,6)):
        low = LowRank(c, 2)
        low.on = True
        nn.init.normal_(low.B)
        x = torch.rand(2,4,6,6) if isinstance(c, nn.Conv2d) else torch.rand(2,4)
        assert low(x).shape==c(x).shape and not torch.equal(low(x), c(x))

def test_a_layer_that_pads_itself_keeps_doing_so():
    "A subclass with a forward of its own, as timm's Conv2dSame: the branch changes its weight, not what it does"
    class Same(nn.Conv2d):
        def forward(self, x): return super().forward(nn.functional.pad(x, (1,1,1,1)))
    low = LowRank(Same(1,2,3), 2)
    x   = torch.rand(1,1,5,5)
    low.on = True
    assert low(x).shape==(1,2,5,5) and (low(x)-low.layer(x)).abs().max()<1e-6
