"FARE, Sim-CLIP, ProFeAT, TARO, LORE and robustify: what the papers' equations promise, resumed bit for bit, on plain networks"
from copy import deepcopy
import pytest, torch
from torch import nn
from robustfm.attacks import Linf,PGD
from robustfm.costs import counted
from robustfm.data import Batches,Images
from robustfm.datasets import digits
from robustfm.foundation import ZeroShot,as_encoder,given_back,robustify
from robustfm.losses import minibatches
from robustfm.methods.fare import FARE,squared
from robustfm.methods.lore import LORE,excess
from robustfm.methods.profeat import ProFeAT
from robustfm.methods.rcs import RCS
from robustfm.methods.simclip import SimCLIP
from robustfm.methods.taro import TARO,SimSiam
from robustfm.models import Encoder,tiny
from robustfm.objective import methods
from robustfm.runs import open_run,pretrain
from robustfm.tools import evaluating
from robustfm.train import optimizer,steps

pgd,x = PGD(Linf(.1), .05, 3),torch.rand(16,1,8,8, generator=torch.Generator().manual_seed(0))
def same(x): return x
def net():
    torch.manual_seed(0)
    e = Encoder(tiny(width=4), 'clean')
    for _ in range(20): e(torch.rand(16,1,8,8))
    return e

make = dict(fare=lambda n: FARE(n, attack=pgd), simclip=lambda n: SimCLIP(n, attack=pgd), released_simclip=lambda n: SimCLIP(n, attack=pgd, anchor='original'),
            profeat=lambda n: ProFeAT(n, same, pgd, weak=same), taro=lambda n: TARO(n, same, pgd), simsiam=lambda n: SimSiam(n, same), lore=lambda n: LORE(n, attack=pgd, descents=2))

def taught(name): return name not in ('taro','simsiam')

@pytest.mark.parametrize('name', make)
def test_the_counter_agrees_with_the_formula(name):
    o = make[name](net()).train()
    with counted(o) as spent:
        for o.descent in range(o.descents): o(x)
    want = dict(released_simclip=2*3+4, lore=LORE.cost(3, 2)).get(name) or o.cost(3)
    assert spent[0]/len(x)==want

@pytest.mark.parametrize('name', [n for n in make if taught(n)])
def test_the_original_never_moves(name):
    "Parameters and statistics of the teacher, bit for bit; the student's change; flags and modes stay"
    o = make[name](net())
    teacher,student = deepcopy(o.teacher.state_dict()),deepcopy(o.net.f.state_dict())
    for _ in steps(o, Batches(digits()[0][:64], 32), optimizer(o, 'adamw', 1e-3), 1): pass
    assert all(v.equal(teacher[k]) for k,v in o.teacher.state_dict().items())
    assert not all(v.equal(student[k]) for k,v in o.net.f.state_dict().items())
    assert all(p.requires_grad for p in o.net.parameters()) and all(p.grad is None for p in o.teacher.parameters())

@pytest.mark.parametrize('name', [n for n in make if n not in ('taro','lore')])
def test_mini_batches_side_by_side_are_those_apart(name):
    o = make[name](net())
    if o.attack: o.attack = PGD(Linf(.1), steps=2, start=lambda x, ball: (x+.03).clamp(0,1))
    with evaluating(o):
        with minibatches(2): both = sum(o.terms(x).values())
        halves = sum(sum(o.terms(h).values()) for h in x.split(8))
    torch.testing.assert_close(both, halves, rtol=1e-4, atol=1e-5)

def test_fare_sees_scale_and_no_labels():
    class Scaled(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c,self.w = c,nn.Parameter(torch.eye(64)[:5])
        def features(self, x, bn=None): return self.c*x.flatten(1)@self.w.T
    def loss(c):
        torch.manual_seed(0)
        return FARE(Scaled(c), attack=pgd)(x)[0].item()
    assert loss(3.)==pytest.approx(9*loss(1.), rel=1e-4)

def test_fare_finds_the_known_worst_case():
    "One linear output: ε times the sign of its weights, up to [0,1]"
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.linspace(-1, 1, 64))
        def features(self, x, bn=None): return (x.flatten(1)@self.w)[:,None]
    o = FARE(Linear(), attack=PGD(Linf(.1), .05, 10))
    with torch.no_grad(): v = .2+.6*x
    a = o.worst(v, o.taught(v))
    sign = o.net.w.detach().sign().view(1,1,8,8)
    assert all(torch.allclose(d, .1*sign, atol=1e-5) or torch.allclose(d, -.1*sign, atol=1e-5) for d in a-v)

def test_momentum_of_a_sign_is_inert():
    "The released attack adds 0.9 of the last sign to the new one: the sum has the sign of the new one"
    o = FARE(net(), attack=pgd)
    target = o.taught(x)
    def climbed(momentum):
        torch.manual_seed(0)
        a,v = pgd.begin(x),torch.zeros_like(x)
        for _ in range(3):
            a.requires_grad_()
            g, = torch.autograd.grad(squared(o.seen(a), target), a)
            v = momentum*v.sign()+g.sign()
            a = pgd.step(x, a.detach(), v)
        return a
    with evaluating(o): assert climbed(0.).equal(climbed(.9))

def test_lore_prices_only_in_the_last_step_and_resumes_bit_for_bit(tmp_path):
    def run(folder, stop=None):
        o = LORE(net(), attack=pgd, rho=.01, descents=2)
        show = (lambda h: len(h)==stop) if stop else False
        pretrain(o, Batches(digits()[0][:96], 32), 4, 1e-3, 'adamw', run=folder, show=show, clip=1.)
        return o
    whole = run(tmp_path/'a')
    run(tmp_path/'b', 2)
    assert not open_run(tmp_path/'b').finished
    cut = run(tmp_path/'b')
    for (k,p),q in zip(whole.state_dict().items(), cut.state_dict().values()): assert p.equal(q), k
    assert 'violated' in open_run(tmp_path/'b').history.names and whole.descent==0
    start = LORE(net(), attack=pgd, rho=.01).price.state_dict()
    assert not all(p.equal(q) for p,q in zip(whole.price.state_dict().values(), start.values()))

def test_a_constraint_without_scale():
    h,h0 = torch.randn(50,6),torch.randn(50,6)
    assert (excess(5*h, 5*h0)>0).equal(excess(h, h0)>0) and (excess(h0, h0)<0).all()

@pytest.mark.parametrize('method', ['fare','lore','simclip','profeat','deacl'])
def test_every_method_mends_a_network_of_torchvision(method):
    "In, out, the same class and names; batch statistics included"
    from torchvision.models import resnet18
    torch.manual_seed(0)
    model = resnet18(num_classes=3)
    some = Images((torch.rand(8,3,32,32)*255).to(torch.uint8), None)
    new = robustify(model, some, method, epochs=1, bs=4, steps=1, show=False)
    assert type(new) is type(model) and list(new.state_dict())==list(model.state_dict()) and new.fc.weight.equal(model.fc.weight)
    assert not new.conv1.weight.equal(model.conv1.weight) and not new.training

def test_names_that_begin_alike_find_their_places():
    timm = pytest.importorskip('timm')
    model = timm.create_model('vit_tiny_patch16_224', img_size=16, patch_size=8, embed_dim=32, depth=1, num_heads=2, num_classes=7).eval()
    v = torch.rand(2,3,16,16)
    back = given_back(as_encoder(model), model)
    assert back(v).equal(model(v)) and type(back) is type(model)

def test_rcs_asks_the_teacher():
    train,valid,_ = digits()
    for kw in (dict(against='teacher'),dict(params='features', against='teacher')):
        o = FARE(net(), attack=pgd) if 'params' in kw else SimSiam(net(), same)
        if 'params' in kw:
            rcs = RCS(o, train[:128], valid[:64], .25, 0, 1, bs=32, **kw)
            rcs.set_epoch(0)
            assert sum(len(v) for v,_ in rcs)==32 and rcs.selections[0]['divergence_before']>0
        else:
            with pytest.raises(ValueError, match="needs params='features'"): RCS(o, train[:128], valid[:64], .25, 0, 1, bs=32, **kw)

def test_zero_shot_does_not_see_length():
    e,w = net().eval(),torch.randn(4,64)
    a,b = ZeroShot(e, w),ZeroShot(e, 7*w)
    with torch.no_grad():
        assert torch.allclose(a(x), b(x), atol=1e-4) and a(x).abs().max()<=100.001
