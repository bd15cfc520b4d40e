"Kind: what people bring is taken for what we expected: 16-bit pictures, half precision, pictures too many for memory, backbones and arrays of other origins"
import os, subprocess, sys, warnings
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from robustfm.attacks import PGD
from robustfm.augment import crop_flip,views
from robustfm.data import Batches,Images,Pictures,Stream,batched,decode
from robustfm.datasets import imagenet32,images
from robustfm.evaluation import evaluate,robustness_curve
from robustfm.finetuning import accuracy,finetune
from robustfm.methods.acl import ACL
from robustfm.methods.deacl import Teacher
from robustfm.methods.rcs import RCS,Random
from robustfm.models import DualBN,Encoder,branch_of,imagenet_stats,projector,stats_of,tiny,trained
from robustfm.objective import SimCLR
from robustfm.runs import open_run,pretrain

FAULTS = [('bugs-ml-A6', 'pictures of many bits', 'test_a_picture_of_many_bits_keeps_its_greys'),
          ('bugs-ml-A6', 'pictures of many bits', 'test_greys_of_unknown_range_are_refused'),
          ('bugs-ml-A10', 'half precision', 'test_views_of_any_precision_are_finite'),
          ('bugs-ml-B2', 'saved too late', 'test_statistics_of_any_kind_are_saved'),
          ('bugs-ml-B2', 'saved too late', 'test_tied_weights_are_saved'),
          ('bugs-ml-B5', 'backbones of others', 'test_channels_are_those_of_the_backbone'),
          ('bugs-ml-B6', 'pictures that are decoded when asked for', 'test_pictures_go_where_images_go'),
          ('bugs-ml-B10', 'backbones of others', 'test_timm_says_its_width_in_two_places'),
          ('bugs-ml-B10', 'backbones of others', 'test_a_backbone_of_another_width_is_named'),
          ('researcher-F3', 'statistics of ImageNet', 'test_a_backbone_is_asked_for_its_statistics'),
          ('researcher-F5', 'pictures that are decoded when asked for', 'test_pictures_go_where_images_go'),
          ('researcher-F9', 'branches that are one', 'test_a_network_without_batchnorm_says_so'),
          ('researcher-F9', 'branches that are one', 'test_norms_that_keep_no_statistics_have_branches'),
          ('researcher-F10', 'backbones of others', 'test_a_backbone_of_another_width_is_named'),
          ('breaker-1.1', 'import beside the checkout', 'test_a_folder_of_our_name_does_not_hide_us'),
          ('breaker-1.1', 'import beside the checkout', 'test_an_editable_install_is_a_path'),
          ('breaker-1.1', 'import beside the checkout', 'test_everything_is_imported_beside_the_checkout'),
          ('breaker-2.8', 'arrays on trust', 'test_arrays_of_imagenet32_are_looked_at')]

rng = np.random.default_rng(0)

# --- pictures of more than eight bits

ramp = np.linspace(0, 65535, 1024).reshape(32,32)
many_bits = {
    'bugs-ml-A6-png':   ('x.png',  lambda: Image.fromarray(ramp.astype('uint16'))),
    'own-tif':          ('x.tif',  lambda: Image.fromarray(ramp.astype('uint16'))),
    'own-big-endian':   ('x.tif',  lambda: Image.fromarray(ramp.astype('>u2'))),
    'own-32-bit-tif':   ('x.tif',  lambda: Image.fromarray(ramp.astype('int32'))),
    'own-floats':       ('x.tif',  lambda: Image.fromarray((ramp/65535).astype('float32'))),
    'own-pgm':          ('x.pgm',  lambda: Image.fromarray(ramp.astype('uint16')))}

@pytest.mark.parametrize('name,make', many_bits.values(), ids=many_bits)
def test_a_picture_of_many_bits_keeps_its_greys(tmp_path, name, make):
    (tmp_path/'a').mkdir()
    make().save(tmp_path/'a'/name)
    x = images(tmp_path, 32).x[0]
    want = torch.from_numpy((ramp/257).round()).byte()
    assert (x.int()-want.int()).abs().max()<=1 and len(x.unique())==256
    assert decode(make(), rgb=False)[0].equal(decode(tmp_path/'a'/name, rgb=False)[0])
    assert Pictures([tmp_path/'a'/name], [0], size=32, workers=0)[0][0].equal(x)

@pytest.mark.parametrize('a', [ramp.astype('float32'), (ramp/65535-.5).astype('float32'), (ramp*3).astype('int32'), np.full((4,4), np.nan, 'float32'), -ramp.astype('int32')],
                         ids=['bugs-ml-A6-floats-to-65535','own-below-0','own-24-bits','own-nan','own-negative'])
def test_greys_of_unknown_range_are_refused(tmp_path, a):
    Image.fromarray(a).save(tmp_path/'x.tif')
    with pytest.raises(ValueError, match='pixels span') as e: decode(tmp_path/'x.tif')
    assert 'x.tif' in str(e.value)

# --- precision

@pytest.mark.parametrize('make', [lambda: views(), lambda: views(mode='bicubic'), lambda: views(p_gray=1.), lambda: views(jitter=(.8,.8,.8,.5), p_jitter=1.), lambda: views(size=5), lambda: crop_flip(2)],
                         ids=['plain','own-bicubic','own-gray','own-strong','own-small','own-crop-flip'])
@pytest.mark.parametrize('dtype', [torch.float16,torch.bfloat16,torch.float64], ids=['bugs-ml-A10-half','own-bfloat16','own-double'])
def test_views_of_any_precision_are_finite(make, dtype):
    x = torch.rand(16,3,12,12, generator=torch.Generator().manual_seed(0))
    x[:4] = x[:4,:1]                                                # gray: no chroma
    x[4],x[5],x[6] = 0.,1.,.5
    x[7,0] += 1e-4                                                  # hardly any
    x = x.clamp(0,1)
    a,seen = make(),[]
    for o in (x, x.to(dtype)):
        torch.manual_seed(0)
        seen.append(a(o))
    assert seen[1].dtype==dtype and seen[1].isfinite().all() and 0<=seen[1].min() and seen[1].max()<=1.01
    assert (seen[0]-seen[1].float()).abs().mean()<.03

# --- what is saved after the work

x3 = torch.rand(4,3,8,8)
statistics = {'bugs-ml-B2-tensors':  lambda: (x3.mean((0,2,3)),x3.std((0,2,3))), 'bugs-ml-B2-numpy': lambda: (x3.mean((0,2,3)).numpy(),x3.std((0,2,3)).numpy()),
              'own-float64': lambda: (np.array([.1,.2,.3]),np.array([.4,.5,.6])), 'own-lists-of-numpy': lambda: ([np.float32(.5)]*3,[np.float64(.5)]*3),
              'own-lists-of-tensors': lambda: ([torch.tensor(.5)]*3,[torch.tensor(.25)]*3), 'own-one-tensor': lambda: torch.tensor([[.1,.2,.3],[.4,.5,.6]]),
              'own-four-axes': lambda: (x3.mean((0,2,3), keepdim=True),x3.std((0,2,3), keepdim=True)), 'own-whole-numbers': lambda: ((0,0,0),(1,1,1))}

@pytest.mark.parametrize('make', statistics.values(), ids=statistics)
def test_statistics_of_any_kind_are_saved(tmp_path, make):
    net = Encoder(tiny(3, 2), 'clean', stats=make()).eval()
    net.save(tmp_path/'n.safetensors')
    again = Encoder.load(tmp_path/'n.safetensors')
    assert again(x3).equal(net(x3)) and again.spec==net.spec
    assert np.allclose(net.mean.flatten().numpy(), np.array([float(v) for v in np.ravel(make()[0])]))

def test_a_run_with_own_statistics_ends(tmp_path):
    "bugs-ml-B2: the last line of a training"
    net = Encoder(tiny(3, 2), 'clean', stats=statistics['bugs-ml-B2-tensors']())
    data = Images((torch.rand(16,3,8,8)*255).byte())
    pretrain(SimCLR(net, views()), Batches(data, bs=8), 1, opt='adam', run=tmp_path/'r', show=False)
    assert open_run(tmp_path/'r').encoder().mean.equal(net.mean)

class Tied(nn.Module):
    "Two layers that share what `tie` says"
    num_features = 8
    def __init__(self, tie):
        super().__init__()
        self.a,self.b,self.c = nn.Conv2d(3, 3, 3, padding=1),nn.Conv2d(3, 3, 3, padding=1),nn.Conv2d(3, 8, 3)
        if tie=='module': self.b = self.a
        if tie=='weight': self.b.weight = self.a.weight
        if tie=='both':   self.b.weight,self.b.bias = self.a.weight,self.a.bias
        if tie=='buffer':
            self.register_buffer('m', torch.ones(3))
            self.register_buffer('n', self.m)
        if tie=='view': self.register_buffer('part', self.c.weight.detach()[:2])
    def forward(self, x): return self.c(self.b(self.a(x))).mean((2,3))

@pytest.mark.parametrize('tie', ['module','weight','both','buffer','view'], ids=lambda t: ('bugs-ml-B2-' if t=='module' else 'own-')+t)
def test_tied_weights_are_saved(tmp_path, tie):
    net = Encoder(Tied(tie), 'clean').eval()
    net.save(tmp_path/'n.safetensors')
    again = Encoder.load(tmp_path/'n.safetensors', Tied(tie))
    assert again(x3).equal(net(x3))
    if tie in ('weight','both'): assert again.f.b.weight is again.f.a.weight        # and go on sharing
    if tie=='module': assert again.f.a is again.f.b

# --- backbones of other people

def own(channels, d=6): return nn.Sequential(nn.Conv2d(channels, d, 3), nn.BatchNorm2d(d), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

@pytest.mark.parametrize('channels', [1,2,3,4,13], ids=lambda c: 'bugs-ml-B5-gray' if c==1 else f'own-{c}')
def test_channels_are_those_of_the_backbone(tmp_path, channels):
    net,x = Encoder(own(channels), num_features=6).eval(),torch.rand(2,channels,8,8)
    assert net(x).shape==(2,6) and net.mean.numel()==channels
    assert (net.mean.flatten()==torch.tensor(imagenet_stats[0] if channels==3 else (.5,)*channels)).all()
    net.save(tmp_path/'n.safetensors')
    assert Encoder.load(tmp_path/'n.safetensors', own(channels))(x).equal(net(x))
    with pytest.raises(ValueError, match=rf'\(N,{channels},H,W\).*channels={channels}'): net(torch.rand(2,channels+1,8,8))

def test_channels_can_be_said():
    class Doubled(nn.Module):
        def __init__(self): super().__init__(); self.f = own(2)
        def forward(self, x): return self.f(torch.cat([x,1-x], 1))
    net = Encoder(Doubled(), channels=1, num_features=6)
    assert net(torch.rand(2,1,8,8)).shape==(2,6) and (net.spec['channels'],net.spec['num_features'])==(1,6)
    assert Encoder(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)), channels=1, num_features=64)(torch.rand(2,1,8,8)).shape==(2,64)

def test_a_gray_network_of_timm(tmp_path):
    "bugs-ml-B5"
    timm = pytest.importorskip('timm')
    net = Encoder(timm.create_model('resnet10t', num_classes=0, in_chans=1), 'clean')
    assert net.eval().features(torch.rand(2,1,32,32)).shape==(2,512) and net.mean.flatten().tolist()==[.5]

@pytest.mark.parametrize('name', ['mobilenetv3_small_050','ghostnet_050','mobilenetv4_conv_small_035','hardcorenas_a','resnet10t','repvgg_a0','levit_128s'],
                         ids=lambda n: ('bugs-ml-B10-' if n[:3] in ('mob','gho','har') else 'own-')+n)
def test_timm_says_its_width_in_two_places(name):
    timm = pytest.importorskip('timm')
    with torch.device('meta'):
        net = Encoder(timm.create_model(name, num_classes=0), 'clean').eval()
        size = net.f.pretrained_cfg['input_size'][-1]
        assert net(torch.rand(2,3,size,size)).shape==(2,net.num_features)

class Boxed(nn.Module):
    "A network whose output is an object, as transformers' are"
    num_features = 6
    def __init__(self): super().__init__(); self.f = own(3)
    def forward(self, x): return dict(pooler_output=self.f(x))

def with_classes(f, n=10):
    f = nn.Sequential(*f, nn.Linear(6, n))
    f.num_features = 6
    return f

def a_map():
    f = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1))
    f.num_features = 6
    return f

@pytest.mark.parametrize('make,says', [(lambda: with_classes(own(3)), r'\(2, 10\), not \(N,6\).*num_classes=0'), (a_map, r'\(2, 6, 1, 1\), not \(N,6\)'), (Boxed, r'gives dict, not \(N,6\)'),
                                       (lambda: with_classes(own(3), 1), r'\(2, 1\), not')], ids=['bugs-ml-B10-classifier','researcher-F10-map','researcher-F10-object','own-one-output'])
@pytest.mark.parametrize('call', [lambda n,x: n(x), lambda n,x: n.features(x), lambda n,x: n.embed(x[:1],x[1:])], ids=['forward','features','embed'])
def test_a_backbone_of_another_width_is_named(make, says, call):
    with pytest.raises(ValueError, match=says) as e: call(Encoder(make(), 'clean').eval(), torch.rand(2,3,8,8))
    assert '\n' not in str(e.value)

def test_a_backbone_that_says_no_width():
    "researcher-F10: torchvision's own say none"
    from torchvision.models import resnet18
    with torch.device('meta'):
        with pytest.raises(ValueError, match='ResNet has no num_features'): Encoder(resnet18())
        with pytest.raises(ValueError, match=r'gives \(2, 1000\), not \(N,512\).*fc=nn.Identity'): Encoder(resnet18(), 'clean', num_features=512).eval()(torch.rand(2,3,32,32))

# --- statistics

def said(**kw):
    f = own(kw.pop('channels', 3))
    for k,v in kw.items(): setattr(f, k, v)
    return f

half = (.5,.5,.5)
@pytest.mark.parametrize('make,want', [
    (lambda: said(pretrained_cfg=dict(mean=half, std=half)), (half,half)), (lambda: said(image_mean=half, image_std=half), (half,half)), (lambda: said(), imagenet_stats),
    (lambda: said(pretrained_cfg={}), imagenet_stats), (lambda: said(pretrained_cfg=None), imagenet_stats), (lambda: said(channels=1, pretrained_cfg=dict(mean=half, std=half)), ((.5,),(.5,))),
    (lambda: said(channels=1, pretrained_cfg=dict(mean=(.1,), std=(.2,))), ((.1,),(.2,))), (lambda: said(image_mean=[.1,.2,.3], image_std=[.4,.5,.6]), ([.1,.2,.3],[.4,.5,.6]))],
    ids=['researcher-F3-timm','researcher-F3-open-clip','own-silent','own-empty','own-none','own-of-other-channels','own-gray','own-lists'])
def test_a_backbone_is_asked_for_its_statistics(make, want):
    assert [list(s) for s in stats_of(make())]==[list(s) for s in want]
    net = Encoder(make(), 'clean', num_features=6)
    assert net.spec['stats']==[list(s) for s in want] and net.std.flatten().tolist()==pytest.approx(list(want[1]))

@pytest.mark.parametrize('name', ['vit_tiny_patch16_224','mixer_s32_224','resnet10t'], ids=['researcher-F3-vit','own-mixer','own-resnet'])
def test_statistics_of_timm_reach_encoder_and_teacher(name):
    timm = pytest.importorskip('timm')
    with torch.device('meta'): f = timm.create_model(name, num_classes=0)
    want = [list(f.pretrained_cfg[k]) for k in ('mean','std')]
    assert [list(s) for s in stats_of(f)]==want
    if name=='resnet10t':
        t = Teacher(timm.create_model(name))
        assert torch.stack([t.mean,t.std]).flatten().allclose(torch.tensor(want).flatten())

def test_what_is_said_by_hand_counts():
    "own: statistics given are those used, whatever the backbone says"
    assert Encoder(said(image_mean=half, image_std=half), 'clean', stats=imagenet_stats, num_features=6).spec['stats']==[list(s) for s in imagenet_stats]

# --- branches

def normed(norm): return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

without = {'researcher-F9-layer-norm': lambda: nn.LayerNorm((8,6,6)), 'own-group-norm': lambda: nn.GroupNorm(2, 8), 'own-instance-norm': lambda: nn.InstanceNorm2d(8, affine=True),
           'own-no-norm': lambda: nn.Identity(), 'own-dropout': lambda: nn.Dropout(.1)}

@pytest.mark.parametrize('norm', without.values(), ids=without)
def test_a_network_without_batchnorm_says_so(norm):
    with pytest.warns(UserWarning, match='no BatchNorm.*clean, adv are one and the same'): net = Encoder(normed(norm()), num_features=8).eval()
    x = torch.rand(2,3,8,8)
    assert net.features(x).equal(net.features(x, 'adv'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        Encoder(normed(norm()), 'clean', num_features=8)            # one branch was asked for
        Encoder(normed(nn.BatchNorm2d(8)), num_features=8)

def test_a_transformer_says_so():
    "researcher-F9"
    timm = pytest.importorskip('timm')
    with torch.device('meta'), pytest.warns(UserWarning, match='no BatchNorm'): net = Encoder(timm.create_model('vit_tiny_patch16_224', num_classes=0))
    assert not any(isinstance(m, DualBN) for m in net.f.modules())

@pytest.mark.parametrize('kw', [dict(track_running_stats=False), dict(affine=False), dict(momentum=None), dict(affine=False, track_running_stats=False), dict()],
                         ids=['researcher-F9-no-statistics','own-not-affine','own-no-momentum','own-bare','own-plain'])
def test_norms_that_keep_no_statistics_have_branches(kw):
    net = Encoder(normed(nn.BatchNorm2d(8, **kw)), proj=projector(8, layers=0), num_features=8)
    assert not trained(net, 'clean') and branch_of(net)=='adv'
    net(torch.rand(4,3,8,8))
    kept = kw.get('track_running_stats', True)
    assert trained(net, 'clean')==kept and not trained(net, 'adv') and branch_of(net)==('clean' if kept else 'adv')

# --- pictures that are decoded when they are asked for

@pytest.fixture(scope='module')
def both():
    "Twenty-four pictures, decoded when asked for and in memory"
    items = [(Image.fromarray(np.random.default_rng(i).integers(0, 256, (12,12,3), np.uint8)), i%2) for i in range(24)]
    p = Pictures(items, [y for _,y in items], size=8, classes=['a','b'], workers=0)
    return p,Images.of(p)

def net3(branches='clean'):
    torch.manual_seed(0)
    return Encoder(tiny(3, 2), branches)

def fitted(data, mode):
    torch.manual_seed(0)
    return finetune(net3(), data, mode=mode, attack=PGD(steps=1), epochs=1, show=False).eval().state_dict() if mode!='slf' else finetune(net3(), data, epochs=1, show=False).state_dict()

def chosen(train, valid, make):
    torch.manual_seed(0)
    o = ACL(net3(('clean','adv')), views(), PGD(steps=1, start='none'))
    c = make(o, train, valid)
    c.set_epoch(1)
    return [y.tolist() for _,y in c]

def same(a, b):
    if isinstance(a, dict): return all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a==b

def clf(): return finetune(net3(), Images((torch.rand(8,3,8,8, generator=torch.Generator().manual_seed(0))*255).byte(), torch.arange(8)%2, ['a','b']), epochs=1, show=False)

uses = {'bugs-ml-B6-slf': lambda d: fitted(d, 'slf'), 'bugs-ml-B6-alf': lambda d: fitted(d, 'alf'), 'researcher-F5-aff': lambda d: fitted(d, 'aff'),
        'bugs-ml-B6-accuracy': lambda d: accuracy(clf(), d), 'own-accuracy-attacked': lambda d: accuracy(clf(), d, PGD(steps=1)),
        'bugs-ml-B6-evaluate': lambda d: [(r.attack,r.accuracy) for r in evaluate(clf(), d, ('clean','pgd2'), show=False, checks=None).rows],
        'own-curve': lambda d: robustness_curve(clf(), d, eps=(0,8), show=False, checks=None).accuracy,
        'bugs-ml-B6-batches': lambda d: [y.tolist() for _,y in Batches(d, bs=8)], 'own-batched': lambda d: torch.cat([x for x,_ in batched(d, 5)]),
        'bugs-ml-B6-random': lambda d: chosen(d, None, lambda o,t,v: Random(t, fraction=.5, warmup=0, every=1, bs=8)),
        'researcher-F5-rcs': lambda d: chosen(d, d[:8], lambda o,t,v: RCS(o, t, Images.of(v).__class__(255-Images.of(v).x), fraction=.5, warmup=0, every=1, bs=8)),
        'own-rcs-held-out': lambda d: chosen(*d.split(16, 0), lambda o,t,v: RCS(o, t, v, fraction=.5, warmup=0, every=1, bs=8)),
        'own-split': lambda d: [o.y for o in d.split(.5, 3)]}

@pytest.mark.parametrize('use', uses.values(), ids=uses)
def test_pictures_go_where_images_go(both, use):
    a,b = (use(d) for d in both)
    assert all(map(same, a, b)) if isinstance(a, list) and torch.is_tensor(a[0]) else same(a, b)

def test_a_stream_is_batches(both):
    "researcher-F5: the same order, whether decoded or in memory"
    p,im = both
    for (x,y),(a,b) in zip(Stream(p, bs=8, workers=0), Batches(im, bs=8)): assert x.equal(a) and y.equal(b)

# --- arrays of ImageNet-32

def npz(folder, name, n=4, **kw):
    good = dict(data=rng.integers(0, 256, (n,3072), np.uint8), labels=np.arange(1, n+1))
    np.savez(folder/f'{name}.npz', **{k:v for k,v in (good|kw).items() if v is not None})

broken = {'breaker-2.8-floats': dict(data=rng.random((4,3072))), 'breaker-2.8-thousands': dict(data=np.full((4,3072), 1000)), 'breaker-2.8-nan-labels': dict(labels=np.full(4, np.nan)),
          'breaker-2.8-labels-from-0': dict(labels=np.arange(4)), 'breaker-2.8-fewer-labels': dict(labels=np.arange(1, 4)), 'breaker-2.8-more-labels': dict(labels=np.arange(1, 9)),
          'own-labels-to-1001': dict(labels=np.array([1,2,3,1001])), 'own-signed': dict(data=rng.integers(0, 100, (4,3072), np.int8)), 'own-other-size': dict(data=rng.integers(0, 256, (4,64*64*3), np.uint8)),
          'own-objects': dict(labels=np.array([1,'a',None,2], object)), 'own-text': dict(labels=np.array(list('abcd'))), 'own-no-data': dict(data=None), 'own-no-labels': dict(labels=None)}

@pytest.mark.parametrize('part', ['train_data_batch_1','val_data'])
@pytest.mark.parametrize('kw', broken.values(), ids=broken)
def test_arrays_of_imagenet32_are_looked_at(tmp_path, kw, part):
    for name in ('train_data_batch_1','val_data'): npz(tmp_path, name, **(kw if name==part else {}))
    with pytest.raises(ValueError, match=f'ImageNet-32: .*{part}.*fetch it again') as e: imagenet32(tmp_path)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('kw', [dict(), dict(labels=[1,1000,3,4]), dict(labels=np.arange(1, 5, dtype=np.uint16)[:,None]), dict(data=rng.integers(0, 256, (4,3,32,32), np.uint8)), dict(n=2)],
                         ids=['own-plain','own-list','own-column','own-four-axes','own-two'])
def test_arrays_as_published_open(tmp_path, kw):
    for name in ('train_data_batch_1','val_data'): npz(tmp_path, name, **kw)
    train,_ = imagenet32(tmp_path)
    assert train.x.shape[1:]==(3,32,32) and train.y.min()==0 and train.y.max()<1000

# --- where it is imported from

root = Path(__file__).parents[2]

def beside(folder, *args):
    "Python in a folder, with the root of the checkout on its path as the editable install puts it there"
    r = subprocess.run([sys.executable, *args], cwd=folder, env=os.environ|dict(PYTHONPATH=str(root)), capture_output=True, text=True)
    assert not r.returncode, r.stderr[-500:]
    return r.stdout

def a_checkout(d): (d/'robustfm').symlink_to(root, target_is_directory=True)
def an_empty_folder(d): (d/'robustfm').mkdir()
def runs_of_ours(d): (d/'robustfm'/'runs'/'acl').mkdir(parents=True)
def a_folder_with_python(d):
    (d/'robustfm'/'models').mkdir(parents=True)
    (d/'robustfm'/'models'/'mine.py').write_text('1/0')
def nothing(d): pass

@pytest.mark.parametrize('make', [a_checkout,an_empty_folder,runs_of_ours,a_folder_with_python,nothing], ids=lambda f: ('breaker-1.1-' if f is a_checkout else 'own-')+f.__name__)
def test_a_folder_of_our_name_does_not_hide_us(tmp_path, make):
    "The folder of a checkout is called robustfm, too, and a program beside it sees that first"
    make(tmp_path)
    say = 'import robustfm; from robustfm import _compat; print(robustfm.__file__, robustfm.__version__)'
    assert beside(tmp_path, '-c', say).split()[0]==str(root/'robustfm'/'__init__.py')
    (tmp_path/'say.py').write_text(say)
    assert beside(tmp_path.parent, str(tmp_path/'say.py')).split()[0]==str(root/'robustfm'/'__init__.py')

def test_an_editable_install_is_a_path():
    "breaker-1.1: an import finder comes after all paths, so any folder of our name would come first"
    assert "editable_wheel=dict(mode='compat')" in (root/'setup.py').read_text()

@pytest.mark.slow
def test_everything_is_imported_beside_the_checkout(tmp_path):
    "breaker-1.1"
    a_checkout(tmp_path)
    beside(tmp_path, '-c', 'import robustfm.all; from robustfm.recipes import recipe; recipe("acl", "cifar10")')
