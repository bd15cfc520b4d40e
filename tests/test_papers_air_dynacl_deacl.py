"AIR, DynACL, DeACL and the recipes: worked numbers in every reading, properties, schedules, bad input"
import copy, csv
from itertools import groupby
import pytest, torch
from torch import nn
from house import root
from robustfm.attacks import PGD,Linf
from robustfm.augment import crop_flip
from robustfm.datasets import digits
from robustfm.losses import cos,kl,minibatches,nt_xent,unit
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR,agreement,air,kl_general,kl_renorm,kl_reversed,recognition,released_kl,rowwise,sir
from robustfm.methods.deacl import DeACL,Teacher
from robustfm.methods.dynacl import DynACL,strength_at,weight_at
from robustfm.models import Encoder,tiny
from robustfm.methods.lp_aft import lp_aft
from robustfm.probes import (agreement_gap, consistency, content_probe, independence_curves, jensen_shannon,
    recognition_gap, style_probe, variance_split)
from robustfm.tools import Table
from robustfm.recipes import build,recipe,recipes,reference_results
from test_papers_all import aug, pgd, small

readings = kl,kl_renorm,kl_general,released_kl,kl_reversed,rowwise
by_name = dict(ids=lambda o: getattr(o, '__name__', None))
rows = dict(z1=[[1,2],[-2,1],[3,-1]], z2=[[2,1],[-1,2],[1,-2]], z0=[[1,1],[-1,1],[2,-1]], a1=[[2,-1],[-1,-1],[1,1]], a2=[[-1,3],[1,2],[2,-3]])

@pytest.fixture(params=[(torch.float64,1e-5), (torch.float32,1e-4)], ids=['float64','float32'])
def exact(request):
    "The worked example in a given precision, and a comparison as strict as that allows"
    dtype,tol = request.param
    o = {k:torch.tensor(v, dtype=dtype) for k,v in rows.items()}
    def check(got, want): torch.testing.assert_close(torch.as_tensor(got).double(), torch.as_tensor(want).double(), rtol=0, atol=tol)
    return o,check

# --- AIR: the worked example

def test_agreements(exact):
    o,check = exact
    check(agreement(o['z1'],o['z0']), [.324041,.324041,.351919]);  check(agreement(o['z2'],o['z0']), [.364595,.364595,.270811])
    check(agreement(o['a1'],o['z0']), [.395056,.209888,.395056]);  check(agreement(o['a2'],o['z0']), [.244458,.188119,.567423])
    check(agreement(o['a1'],o['z1']), [.187682,.353260,.459058]);  check(agreement(o['a2'],o['z2']), [.111290,.278467,.610242])
    check(nt_xent(o['z1'],o['z2']), .631673); check(nt_xent(o['a1'],o['a2']), 3.288813)

@pytest.mark.parametrize('div,s,a', [(kl,.015776,-.017197), (kl_renorm,.015776,.203923), (kl_general,.015776,.079016), (released_kl,-1.421089,-.688478),
                                     (kl_reversed,.015037,.178474), (rowwise,.132942,.174530)], **by_name)
def test_readings(exact, div, s, a):
    o,check = exact
    check(sir(o['z1'],o['z2'],o['z0'], div=div), s)
    check(air(o['a1'],o['a2'],o['z1'],o['z2'],o['z0'], div=div), a)

def test_two_parts_of_air_and_its_literal_limit(exact):
    o,check = exact
    A,C = ([agreement(o[f'a{i}'], o[w.format(i)]) for i in (1,2)] for w in ('z0','z{}'))
    q = A[0]*C[0]
    check((q*(A[0]/A[1]).log()).sum(), -.021957); check((q*(C[0]/C[1]).log()).sum(), .004760)
    check(air(o['z1'],o['z2'],o['z1'],o['z2'],o['z0']), .005259)              # no attack: SIR/N
    p,r = (recognition(o[f'z{i}'],o['z0']) for i in (1,2))
    check(torch.xlogy(p, p/r).sum(-1), [.220296,.077683,.100846])

@pytest.mark.parametrize('w,base,totals,literal', [(0,3.920486,(3.919775,4.030335,2.865702,4.017242),3.914517), (1/3,4.806199,(4.805489,4.916049,3.751415,4.902955),4.800230),
                                                   (19/30,5.603342,(5.602631,5.713191,4.548558,5.700097),5.597373)])
def test_totals_through_the_classes(exact, w, base, totals, literal):
    o,check = exact
    class Constant(nn.Module):
        num_features = 2
        def embed(self, *v, bn): return [o['a1'],o['a2']] if bn=='adv' else [o['z1'],o['z2']]
        def forward(self, x, bn): return o['z0']
    total = lambda **kw: ACL(Constant(), lambda x: x, lambda loss,*xs: xs, weight=w, **kw)(torch.zeros(3,1,1,1))[0]
    for div,want in zip((kl,kl_renorm,released_kl,kl_reversed), totals): check(total(reg=AIR(div=div)), want)
    check(total(reg=AIR(0,0)), base); check(total(), base/2); check(total(scale=1.), base); check(total(reg=AIR(), scale=.5), totals[0]-base/2)
    check(total(reg=AIR(scale_by_batch=True)), totals[0]+.5*2*-.017197); check(total(reg=AIR(lam1=.5/3)), literal)         # literally, λ₁ weighs SIR/N

@pytest.mark.parametrize('n,s,a', [(3,-1.431946,-.769445), (256,-5.549084,-.043322), (336,-5.820087,-.034626), (512,-6.240278,-.024368)])
def test_released_values_of_a_uniform_batch(n, s, a):
    z = torch.eye(n, dtype=torch.float64)
    assert sir(z,z,z, div=released_kl).item()==pytest.approx(s, abs=1e-6) and air(z,z,z,z,z, div=released_kl).item()==pytest.approx(a, abs=1e-6)

# --- AIR: properties

def some(n=7, d=5, seed=0): return torch.randn(5, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)    # a1 a2 z1 z2 z0
def both(div, zs, t=.5): return torch.stack([sir(*zs[2:], t, div), air(*zs, t, div)])

@pytest.mark.parametrize('n,d', [(2,3), (7,5), (33,16)])
@pytest.mark.parametrize('div', readings, **by_name)
def test_order_and_length_do_not_matter(div, n, d):
    zs,p = some(n, d),torch.randperm(n)
    torch.testing.assert_close(both(div, zs[:,p]), both(div, zs)); torch.testing.assert_close(both(div, zs*(.1+torch.rand(5,n,1))), both(div, zs))

@pytest.mark.parametrize('div', readings, **by_name)
def test_equal_views(div):
    a,_,z,_,z0 = some()
    got = both(div, (a,a,z,z,z0))
    if div is released_kl: assert (got<-.1).all()
    else: torch.testing.assert_close(got, torch.zeros_like(got), atol=1e-12, rtol=0)

def test_only_differences_of_similarities_matter():
    flat = lambda c: torch.stack([c, (1-c**2).sqrt()], 1)                      # rows whose cosine to (1,0) is c
    c1,c2 = torch.rand(2,9, dtype=torch.float64)*.5
    z0 = torch.tensor([[1.,0.]]*9, dtype=torch.float64)
    for div in readings[:-1]: torch.testing.assert_close(sir(flat(c1),flat(c2),z0, div=div), sir(flat(c1-.4),flat(c2+.3),z0, div=div))

def test_swapped_views(exact):
    o,check = exact
    check(sir(o['z2'],o['z1'],o['z0']), .015037); check(sir(o['z2'],o['z1'],o['z0'], div=released_kl), -1.429432); check(sir(o['z1'],o['z1'],o['z0'], div=released_kl), -1.431693)

@pytest.mark.parametrize('div', readings, **by_name)
def test_mini_batches_side_by_side_add_up(div):
    zs = some(24)
    with minibatches(4): got = both(div, zs)
    torch.testing.assert_close(got, sum(both(div, o) for o in zs.chunk(4, 1)))

@pytest.mark.parametrize('div', readings, **by_name)
@pytest.mark.parametrize('t', [.01,.1,.5])
def test_finite_in_single_precision(div, t):
    zs = some(64).float().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16): l = both(div, zs, t)
    assert l.dtype==torch.float32 and l.isfinite().all() and torch.autograd.grad(l.sum(), zs)[0].isfinite().all()
    assert both(div, zs.detach().bfloat16(), t).dtype==torch.float32

def test_never_negative():
    for s in range(20):
        zs = some(seed=s)
        for div in (kl_renorm,kl_general,rowwise): assert (both(div, zs)>=-1e-12).all()
    assert any(air(*some(3, 2, s))<0 for s in range(20))                       # the paper's reading can be

def test_air_describes_itself_without_addresses(): assert repr(AIR(div=rowwise))=='AIR(lam1=0.5, lam2=0.5, t=0.5, div=rowwise, scale_by_batch=False, scale=1.0)'

# --- the six measurements

def test_measurements_of_nothing_and_of_everything():
    zs,z0 = torch.randn(3,64,8),torch.randn(64,8)
    same = z0.expand(3,64,8)
    assert agreement_gap(same, z0).max()<1e-6 and recognition_gap(same, z0)[0].max()<1e-6 and recognition_gap(same, z0)[1].eq(1).all()
    assert torch.equal(agreement_gap(zs, z0), agreement_gap(zs, z0).T) and agreement_gap(zs, z0)[0,1]>0 and agreement_gap(zs, z0, advs=zs.flip(0))[0,1]>0
    assert sum(variance_split(zs).values())==pytest.approx(1) and variance_split(same)['image']==pytest.approx(1)
    y = torch.arange(64)%4
    assert content_probe(torch.eye(4)[y], y)==1 and style_probe(unit(z0), unit(z0)@torch.randn(8,2)).min()>.9 and content_probe(torch.randn(64,4), y)<.6
    assert consistency(zs, zs[:1].expand(3,64,8))['spread']>0 and consistency(same, zs[:1].expand(3,64,8))['rank']==pytest.approx(1)
    p = torch.tensor([[1.,0.],[.5,.5]])
    assert jensen_shannon(p, p.flip(1))[0]==pytest.approx(.6931, abs=1e-3) and jensen_shannon(p, p).eq(0).all()

def test_measuring_leaves_no_trace():
    torch.manual_seed(0)
    net,x = Encoder(tiny(width=4)),torch.rand(16,1,8,8)
    before = copy.deepcopy(net.state_dict())
    points = independence_curves(net, x, aug, PGD(Linf(.1), steps=1), eps=(0,20), strengths=(1.,.1), n=2, content=torch.arange(16)%2)
    assert [(p['eps'],p['strength']) for p in points]==[(0,1.),(20,1.),(25.5,1.),(25.5,.1)]
    assert points[0]['distance']<=points[1]['distance']+1e-3 and points[3]['recognition_gap']<points[2]['recognition_gap']
    assert net.training and all(p.requires_grad for p in net.parameters()) and all(v.equal(before[k]) for k,v in net.state_dict().items())

# --- DynACL

def test_schedule_of_a_thousand_epochs():
    for e,s,w,released in ((1,1,0,0), (49,1,0,0), (50,1,0,1/30), (51,.95,.0333,1/30), (500,.55,.3,1/3), (501,.5,.3333,1/3), (951,.05,.6333,.6333), (1000,.05,.6333,2/3)):
        for within in (0,.3,.999):
            p = (e-1+within)/1000
            assert strength_at(p)==pytest.approx(s, abs=1e-4) and weight_at(p)==pytest.approx(w, abs=1e-4) and weight_at(p, lead=1/1000)==pytest.approx(released, abs=1e-4)

@pytest.mark.parametrize('T', [20,37,100,1000])
def test_schedule_equals_its_formula(T):
    for e in range(1, 1001): assert strength_at((e-1)/1000)==pytest.approx(1-(e-1)//50*.05)
    got = [strength_at(e/T) for e in range(T)]
    assert got==sorted(got, reverse=True) and len({round(s, 6) for s in got})==20 and got[-1]>0 and strength_at(1.)==got[-1]

def test_momentum_moves_parameters_and_no_buffer():
    dyn = DynACL(Encoder(tiny(width=4)), aug, pgd, momentum=.99)
    ps,bs = ([o.clone() for o in f()] for f in (dyn.follower.parameters,dyn.follower.buffers))
    with torch.no_grad():
        for q in (*dyn.net.parameters(),*[b for b in dyn.net.buffers() if b.is_floating_point()]): q.add_(1)
    dyn.stepped()
    for k,k0 in zip(dyn.follower.parameters(), ps): torch.testing.assert_close(k-k0, torch.full_like(k, .01), rtol=0, atol=1e-6)
    assert all(b.equal(b0) for b,b0 in zip(dyn.follower.buffers(), bs)) and dyn.encoder is dyn.follower
    assert DynACL(Encoder(tiny(width=4)), aug, pgd).encoder is not None

def test_dynacl_at_the_start_is_acl():
    net,x = Encoder(tiny(width=4)),torch.rand(16,1,8,8)
    still = lambda x,s=None: x
    go = lambda o: o(x)[0].item()
    o = PGD(Linf(.1), steps=2, start='none')
    assert go(DynACL(copy.deepcopy(net), still, o))==pytest.approx(go(ACL(copy.deepcopy(net), still, o)), rel=1e-5)
    late = DynACL(copy.deepcopy(net), still, o); late.progress = .975
    assert go(late)==pytest.approx(go(ACL(copy.deepcopy(net), still, o, weight=2/3*.95)), rel=1e-5)

# --- DeACL

def test_deacl_numbers(exact):
    rows,check = exact
    dtype = rows['z1'].dtype
    t,s,a = (torch.tensor(v, dtype=dtype) for v in ([[3,4],[1,0],[0,2]], [[4,3],[.6,.8],[0,1]], [[5,0],[.8,-.6],[3,4]]))
    s,a = s.requires_grad_(),a.requires_grad_()
    l = -cos(s,t)-2*cos(a,s)
    check(l.detach(), -1.92); check(-256*3*cos(a,t).detach()/1000, -.5632)
    gs,ga = torch.autograd.grad(l, (s,a))
    check(gs, [[-.0368,.0490667],[-.7466667,.56],[-.4,0]]); check(ga, [[0,-.08],[-.4,-.5333333],[.064,-.048]])

def test_deacl_is_bounded_and_blind_to_length():
    class Scaled(nn.Module):
        num_features = 6
        def __init__(self, c, seed=0): super().__init__(); self.c,self.w = c,nn.Parameter(torch.randn(64,6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
        def features(self, x, bn=None): return self.c*(x.flatten(1)@self.w)
        def forward(self, x): return self.features(x)
    x,still = torch.rand(12,1,8,8, dtype=torch.float64),lambda x: x
    o = PGD(Linf(.1), steps=2, start='none')
    got = [DeACL(Scaled(c), Scaled(d, 1), still, o, lam=2.)(x)[0].item() for c,d in ((1,1),(7,1),(1,.1))]
    assert got[0]==pytest.approx(got[1], abs=1e-5) and got[0]==pytest.approx(got[2], abs=1e-5) and -3-1e-5<=got[0]<=3
    p = torch.randperm(12)
    assert DeACL(Scaled(1), Scaled(1, 1), still, o)(x[p])[0].item()==pytest.approx(got[0], abs=1e-5)

def test_the_teacher_never_moves():
    net = Encoder(tiny(width=4), 'clean')
    o = DeACL(net, net, crop_flip(1, flip=0), pgd).train()
    before = copy.deepcopy(o.teacher.state_dict())
    o(torch.rand(8,1,8,8))[0].backward()
    assert all(v.equal(before[k]) for k,v in o.teacher.state_dict().items()) and all(p.grad is None and not p.requires_grad for p in o.teacher.parameters())
    assert o.net is net and all(p.requires_grad for p in net.parameters())

def test_teachers_of_other_people():
    from torchvision import models
    for make,d in ((models.resnet18,512), (models.mobilenet_v3_small,576)):
        with torch.no_grad(): assert Teacher(make(), size=32).eval()(torch.rand(2,3,16,16)).shape==(2,d)
    timm = pytest.importorskip('timm')
    t = Teacher(timm.create_model('resnet18', num_classes=10)).eval()
    with torch.no_grad(): assert t(torch.rand(2,3,32,32)).shape==(2,512)

# --- bad input

def test_bad_input():
    z,x = torch.randn(8,4),torch.rand(8,1,8,8)
    for zs in ((z,z[:4],z), (z,z,z[:,:2])):
        with pytest.raises(ValueError, match='equal batch and width'): sir(*zs)
        with pytest.raises(ValueError, match='equal batch and width'): air(z, z, *zs, div=rowwise)
    for t in (0,-1):
        for div in (kl,rowwise):
            with pytest.raises(ValueError, match='must be > 0'): sir(z, z, z, t, div)
        with pytest.raises(ValueError, match='must be > 0'): AIR(t=t)
    with pytest.raises(ValueError, match='whole number from 1'): DynACL(small(), aug, stages=2.5)
    with pytest.raises(ValueError, match=r'must be in \[0,1\)'): DynACL(small(), aug, momentum=1.)
    with pytest.raises(ValueError, match="have 128 numbers and the student's 64"): DeACL(small('clean'), Encoder(tiny(width=8)), aug)
    with pytest.raises(ValueError, match="have 64 numbers and the student's 128"): DeACL(Encoder(tiny(width=8)), nn.Flatten(), crop_flip(1), pgd)(x)
    with pytest.raises(ValueError, match='to cut off'): Teacher(nn.Flatten())
    with pytest.raises(ValueError, match="clusters through 'clean' and trains 'adv'"): lp_aft(small('adv'), digits()[0])

# --- recipes

def test_recipes():
    r = recipe('DynACL-AIR-RCS','cifar10')
    assert (r['epochs'],r['bs'],r['lr'],r['opt'],r['reg'],r['coreset']['every'])==(1000,512,5.,'lars',dict(lam1=.5,lam2=.5),20) and 'momentum' not in r['objective']
    assert recipe('a-infonce','cifar10')['method']=='AInfoNCE' and recipe('advcl-hn','cifar10')['asym']['tau_plus']==.12 and recipe('acl','stl10')['size']==96
    r['reg']['lam1'] = 9
    assert recipe('dynacl-air-rcs','cifar10')['reg']['lam1']==.5 and all(r['source'] for r in recipes.values())
    with pytest.raises(ValueError, match="did you mean .*'dynacl-air'"): recipe('dynacl-ari','cifar10')
    with pytest.raises(ValueError, match='there are some for cifar10, cifar100'): recipe('deacl','stl10')
    with pytest.raises(ValueError, match='learns from a teacher'): build(recipe('deacl','cifar10'), small('clean'))

@pytest.mark.parametrize('key', [k for k,r in recipes.items() if r['method'] and k[1]=='cifar10'], ids=lambda k: k[0])
def test_every_recipe_runs(key):
    r = recipe(*key)
    net = Encoder(tiny(3, 4), r['net']['branches'])
    loss,terms = build(r, net, teacher=net)(torch.rand(4,3,8,8), torch.zeros(4,5).long())
    assert loss.isfinite() and ('reg' not in r or {'sir','air'}<=set(terms))

def test_reference_results():
    board = reference_results(source='RobustSSL leaderboard')
    assert len(board)==114 and all(r['revision'] for r in reference_results()) and {r['method'] for r in board if '†' in r['flags']}=={'AdvCL','A-InfoNCE'}
    assert len([r for r in board if '‡' in r['flags']])==20 and all(bool(r['readme'])==('‡' in r['flags']) for r in board)
    for _,task in groupby(board, lambda r: (r['pretrain'],r['finetune'],r['mode'])): assert all(r['rank']==i+1 for i,r in enumerate(task))
    assert '&lt;b&gt;' in Table([dict(a='<b>')])._repr_html_()

def test_leaderboard_is_its_file():
    path = root.parent/'shared'/'papers'/'robustssl_leaderboard.csv'
    if not path.exists(): pytest.skip('the leaderboard file is not here')
    board = list(csv.DictReader(open(path)))
    for r,o in zip(reference_results(source='RobustSSL leaderboard'), board, strict=True):
        assert all(str(r[k])==o[k] for k in ('pretrain','finetune','mode','rank','method')) and r['autolora_shown']==(o['autolora_shown_on_site']=='yes')
        assert all(r[k]==(float(o[k]) if o[k] else None) for k in ('RA','CA','SA','autolora_RA','autolora_CA','autolora_SA'))
