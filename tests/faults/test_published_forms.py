"Kind: the published form differs from the equation's, and an argument is it: who passes together, which norms, which network, what it costs"
import pytest, torch
from torch import nn
import torch.nn.functional as F
from robustfm.attacks import PGD,Linf
from robustfm.augment import views
from robustfm.costs import step_cost
from robustfm.losses import nt_xent
from robustfm.methods.advcl import AdvCL,high_frequency
from robustfm.methods.ainfonce import AInfoNCE,AdaptiveDegree,Asymmetric,a_infonce
from robustfm.methods.rocl import RoCL
from robustfm.models import DualBN,Encoder,projector,resnet18,tiny
from robustfm.recipes import build,recipe

FAULTS = [('differential-F1', 'published forms', 'test_views_pass_by_themselves'), ('differential-F1', 'published forms', 'test_a_whole_step_by_hand'),
          ('differential-F1', 'published forms', 'test_batches_that_norms_count'), ('differential-F2', 'published forms', 'test_recipes_build_the_released_network'),
          ('differential-F5', 'published forms', 'test_rocl_as_released_costs_43'), ('differential-F6', 'published forms', 'test_the_degree_is_measured_in_training_mode'),
          ('differential-F6', 'published forms', 'test_the_attack_on_the_asymmetric_contrast')]

pgd = PGD(Linf(.1), .05, 2, start='none')
branches = 'clean','adv','pseudo'
def left(x): return x.roll(1, 3)
def still(x): return x
def small(g=None): return Encoder(tiny(width=4), branches, g)
x = torch.rand(12,1,8,8, generator=torch.Generator().manual_seed(0))
y = torch.stack([torch.arange(12)%k for k in (2,3)], 1)

def made(cls=AdvCL, **kw):
    torch.manual_seed(0)
    return cls(small(), left, pgd, ks=(2,3), weak=still, **kw).double()

# --- AdvCL

@pytest.mark.parametrize('cls', [AdvCL,AInfoNCE], ids=lambda c: f'differential-F1-{c.__name__}')
def test_views_pass_by_themselves(cls):
    "Three clean passes, each of one kind of view: ordinary, ordinary, of mean zero"
    o,passed = made(cls),[]
    o.net.register_forward_hook(lambda m,args,kw,out: passed.append((args[0].detach(),kw.get('bn'))) if m.training else None, with_kwargs=True)
    o(x.double(), y)
    clean = [v for v,bn in passed if bn=='clean']
    assert [len(v) for v in clean]==[12]*3
    torch.testing.assert_close(clean[2], high_frequency(x.double()))
    assert clean[2].mean().abs()<1e-9<.1<clean[0].mean()

def by_hand(net, heads, x, y, k=2, alpha=.05, eps=.1):
    "Loss of a step, written with no part of the package's: passes of their own, attack with running statistics"
    def embed(v, bn, train=True):
        net.train(train)
        net.route(bn)
        return net.g(net.f((v-net.mean)/net.std))
    def contrast(*z):
        z = F.normalize(torch.stack(z, 1).flatten(0, 1), dim=1)
        v = len(z)//len(x)
        own = torch.arange(len(z))//v
        s = (z@z.T/.5).fill_diagonal_(-torch.inf).log_softmax(1)
        return -torch.stack([s[i,j] for i in range(len(z)) for j in range(len(z)) if i!=j and own[i]==own[j]]).mean()
    def classify(v, train=True):
        net.train(train)
        net.route('pseudo')
        h = net.f((v-net.mean)/net.std)
        return sum(F.cross_entropy(head(h), t) for head,t in zip(heads, y.T))/2
    views = left(x),left(x),high_frequency(x)
    z = [embed(v, 'clean') for v in views]
    a = p = x
    for _ in range(k):
        a,p = a.detach().requires_grad_(),p.detach().requires_grad_()
        ga,gp = torch.autograd.grad(contrast(embed(a, 'adv', False), *[e.detach() for e in z])+classify(p, False), (a,p))
        a,p = ((x+(o+alpha*g.sign()-x).clamp(-eps, eps)).clamp(0, 1).detach() for o,g in ((a,ga),(p,gp)))
    return .5/.07*contrast(embed(a, 'adv'), *z)+.2*classify(p)

def test_a_whole_step_by_hand():
    "Loss, every gradient and every statistic"
    from copy import deepcopy
    o = made()
    o.train()
    net,heads = deepcopy(o.net),deepcopy(o.heads)
    l = o(x.double(), y)[0]
    want = by_hand(net, heads, x.double(), y)
    torch.testing.assert_close(l, want, rtol=1e-9, atol=1e-9)
    ps,qs = ([p for p in n.parameters() if p.requires_grad] for n in (o.net,net))
    for a,b in zip(torch.autograd.grad(l, ps), torch.autograd.grad(want, qs)): torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    net.train()
    for (k,a),b in zip(o.net.state_dict().items(), net.state_dict().values()): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=k)

@pytest.mark.parametrize('mode,counts', [('eval',(3,1,1)), ('train',(9,3,3))], ids=['differential-F1-eval','differential-F1-train'])
def test_batches_that_norms_count(mode, counts):
    "As released: 3(K+1), K+1 and K+1 with K=2, where the attack is in training mode"
    o = made(attack_mode=mode)
    o(x.double(), y)
    for m in o.net.f.modules():
        if isinstance(m, DualBN): assert tuple(int(m.bns[b].num_batches_tracked) for b in branches)==counts

# --- networks

def sizes(*layers): return sum(sum(p.numel() for p in l.parameters()) for l in layers)
def resnet(branches):
    "ResNet-18's parameters, each norm once a branch: counted in torchvision's, less its classifier, with a 3×3 stem"
    import torchvision
    f = torchvision.models.resnet18()
    f.conv1,f.fc = nn.Conv2d(3, 64, 3, bias=False),nn.Identity()
    norms = sum(sizes(m) for m in f.modules() if isinstance(m, nn.BatchNorm2d))
    return sizes(f)+(branches-1)*norms

heads = { # of the released classes, layer by layer
    'acl':   (2, sizes(nn.Linear(512,512), nn.Linear(512,512,bias=False), nn.Linear(512,512,bias=False)) + 2*3*sizes(nn.BatchNorm1d(512))),
    'advcl': (3, sizes(nn.Linear(512,512), nn.BatchNorm1d(512), nn.Linear(512,128))),
    'rocl':  (1, sizes(nn.Linear(512,2048), nn.Linear(2048,128)))}
heads |= {k:heads[v] for k,v in {'dynacl':'acl', 'acl-air':'acl', 'dynacl-air':'acl', 'advcl-ip':'advcl', 'advcl-hn':'advcl', 'ainfonce':'advcl', 'rocl-ip':'rocl'}.items()}

@pytest.mark.parametrize('name', heads, ids=lambda n: f'differential-F2-{n}')
def test_recipes_build_the_released_network(name):
    n,head = heads[name]
    net = build(recipe(name, 'cifar10')).net
    assert sum(p.numel() for p in net.parameters())==resnet(n)+head
    assert len(net.branches)==n

def test_the_shared_norm_belongs_to_no_branch():
    "It counts every pass, of whichever branch; it is saved, loaded and rebuilt"
    torch.manual_seed(0)
    net = small(projector(64, out=16, layers=2, norm='shared'))
    for bn in branches: net(x, bn=bn)
    norms = [m for m in net.g.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms)==1 and norms[0].num_batches_tracked==3 and not any(isinstance(m, DualBN) for m in net.g.modules())
    again = small(projector(**net.spec['proj']))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(x), net.eval()(x))
    o = AdvCL(net, left, pgd, ks=(2,3), weak=still)
    o(x, y)[0].backward()
    assert all(p.grad is not None for p in net.parameters())

# --- A-InfoNCE

def test_the_degree_is_measured_in_training_mode():
    "Two passes through the clean branch, which move its statistics; in evaluation mode another number, and no trace"
    o = made(AInfoNCE, adaptive=AdaptiveDegree())
    o.train()
    a = (x+.1*torch.rand_like(x)).clamp(0,1).double()
    before = {k:v.clone() for k,v in o.state_dict().items()}
    o.measure = 'eval'
    d = o.distance(x.double(), a)
    assert all(v.equal(before[k]) for k,v in o.state_dict().items()) and o.net.training
    o.measure = 'train'
    e = o.distance(x.double(), a)
    h,ha = (o.net.features(v, 'clean') for v in (x.double(),a))
    torch.testing.assert_close(e, (h.float()-ha.float()).norm(dim=1).detach())
    assert (d-e).abs().mean()>.01 and not e.requires_grad
    moved = {k.split('.')[-2] for k,v in o.state_dict().items() if not v.equal(before[k])}
    assert moved=={'clean'}
    with pytest.raises(ValueError, match="measure='both' is unknown"): made(AInfoNCE, measure='both')

@pytest.mark.parametrize('weight', [1.,1.2], ids=lambda w: f'differential-F6-w={w}')
def test_the_attack_on_the_asymmetric_contrast(weight):
    "As released it climbs the baseline: towards natural views w+w², towards the adversary 0"
    o = made(AInfoNCE, asym=Asymmetric(.2, weight), attack_on='asymmetric')
    z = torch.randn(4,12,8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.ones(4,4, dtype=torch.float64)
    w[0,1:],w[1:,0] = weight+weight**2,0
    torch.testing.assert_close(o.criterion(*z), nt_xent(*z, weights=w))
    torch.testing.assert_close(o.criterion(*z), a_infonce(*z, alpha=None, weight=weight, mode='released'))
    torch.testing.assert_close(made(AInfoNCE).criterion(*z), nt_xent(*z))
    with pytest.raises(ValueError, match="attack_on='baseline' is unknown"): made(AInfoNCE, attack_on='baseline')

# --- RoCL

class ReleasedRoCL(RoCL, name=''):
    "As its code does it: v2 goes along in every attack step, forward and back, and the further term is a pass of its own"
    def terms(self, x, y=None):
        v1,v2 = self.augment(x),self.augment(x)
        a = self.perturb(lambda a,b: nt_xent(*self.net.embed(a, b), t=self.t), v1, v2)[0]
        za,z1,z2 = self.net.embed(a, v1, v2)
        return dict(contrast=2*self.contrast(za, z1, z2), instance=self.pair(*self.net.embed(a.requires_grad_(), v2))/self.lam)

@pytest.mark.parametrize('cls,units', [(RoCL,24), (ReleasedRoCL,43)], ids=['differential-F5-ours','differential-F5-released'])
def test_rocl_as_released_costs_43(cls, units):
    net = Encoder(resnet18(), 'clean', projector(512, out=128, layers=1, norm=False))
    got = step_cost(cls(net, views()), torch.rand(2,3,8,8))
    assert abs(got-units)<.04*units
    assert RoCL.cost(7)==24
