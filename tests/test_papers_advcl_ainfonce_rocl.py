"AdvCL, A-InfoNCE and RoCL: worked numbers in both readings, properties, bad input"
from functools import partial
import math
import pytest, torch
from robustfm.attacks import Linf,PGD
from robustfm.data import Batches,Images
from robustfm.datasets import digits
from robustfm.tools import evaluating,to_float
from robustfm.losses import gathering,minibatches,nt_xent,unit,view_pairs
from robustfm.methods.advcl import AdvCL,high_frequency,label_columns,pseudo_labels
from robustfm.methods.ainfonce import (AdaptiveDegree, Asymmetric, a_infonce, anchored, contrast_pairs, cosines, everyone,
    hard_negatives, inferior, modes, pair_losses)
from robustfm.methods.rocl import RoCL
from robustfm.models import Encoder,tiny
from test_papers_all import K, aug, branches, labelled, methods, pgd, small, variants, weak

T1 = [( 1, 0), ( 0, 1), (-1, 0)]
T2 = [(.8,.6), (-.6,.8), (-.8,-.6)]
AD = [(.6,-.8), (.6,.8), ( 0,-1)]
HF = [( 0, 1), (-1, 0), (.6,-.8)]

@pytest.fixture(params=[(torch.float64,1e-5), (torch.float32,1e-4)], ids=['float64','float32'])
def exact(request):
    "Rows of a given precision, and a comparison as strict as it allows"
    dtype,tol = request.param
    rows = lambda *vs: [torch.tensor(v, dtype=dtype) for v in vs]
    def check(got, want): torch.testing.assert_close(torch.as_tensor(got).double(), torch.as_tensor(want).double(), rtol=0, atol=tol)
    return rows,check

def hn(p, beta=1., mode='corrected'): return partial(hard_negatives, tau_plus=p, beta=beta, mode=mode)

# --- section 5.1: the blocks

def test_pair_losses(exact):
    rows,check = exact
    l = pair_losses(*rows(T1,T2,AD))
    for v,w,want in ((0,1,(1.055471,1.164091,.817053)), (0,2,(1.455471,1.164091,2.417053)), (1,0,(1.275401,.938625,.803171)),
                     (1,2,(2.875401,1.978625,1.203171)), (2,0,(1.240849,1.294014,2.408158)), (2,1,(2.440849,2.334014,1.208158))): check(l[v,w], want)
    check(l.sum(-1)[[0,0,1,1,2,2],[1,2,0,2,0,1]], (3.036615,5.036615,3.017197,6.057196,4.943021,5.983021))

# --- section 5.2: RoCL

def rocl(**kw): return RoCL(None, None, **kw)

def test_rocl_numbers(exact):
    rows,check = exact
    t1,t2,ad = rows(T1,T2,AD)
    check(nt_xent(t1,t2), .5690164)
    for detach in (False,True):
        o = rocl(detach=detach)
        check(2*o.contrast(ad,t1,t2), 3.1192962)
        check(o.pair(ad,t2)/o.lam, .0054152)
        check(2*o.contrast(ad,t1,t2)+o.pair(ad,t2)/o.lam, 3.1247114)

def test_rocl_inferior_positives_released(exact):
    rows,check = exact
    z = rows(AD,T1,T2)
    for alpha,want in ((0.,1.8866505), (.2,1.8903787), (.5,1.8959710), (1.,1.9052915)):
        check(2*rocl(asym=Asymmetric(alpha, mode='released_rocl')).contrast(*z), want)

@pytest.mark.parametrize('p,alone,both', [(.1,4.3385957,2.7850513), (.12,4.3400983,2.7877876)])
def test_rocl_hard_negatives_released(exact, p, alone, both):
    rows,check = exact
    z = rows(AD,T1,T2)
    check(2*rocl(asym=Asymmetric(None, tau_plus=p, mode='released_rocl')).contrast(*z), alone)
    check(2*rocl(asym=Asymmetric(.2, tau_plus=p, mode='released_rocl')).contrast(*z), both)

@pytest.mark.parametrize('p,alone,both', [(.1,3.8298737,2.4184896), (.12,3.8061838,2.4054261)])
def test_rocl_hard_negatives_corrected(exact, p, alone, both):
    rows,check = exact
    z = rows(AD,T1,T2)
    check(2*rocl(asym=Asymmetric(None, tau_plus=p)).contrast(*z), alone)
    check(2*a_infonce(*z, alpha=.2, logp=hn(p), mode='released_rocl'), both)     # the released weights of the pairs

def test_hard_negatives_of_two_views(exact):
    rows,check = exact
    for (p,beta),want in {(0.,0.):.5690164, (.1,0.):.3902982, (.1,1.):.7343611, (.12,1.):.6998797}.items():
        check(contrast_pairs(*rows(T1,T2), logp=hn(p,beta)), want)

def test_hard_negatives_by_hand(exact):
    "Anchor T1[0]: its positives' mean, and what its negatives come to"
    rows,check = exact
    s = cosines(unit(torch.cat(rows(T1,T2,AD))), 3)
    E = (s[0].view(3,3)/.5).exp()                           # (V,n) of this anchor
    check(E, [[7.389056,1,.135335], [4.953032,.301194,.201897], [3.320117,3.320117,1]])
    den = lambda mode,p: float((E[1,0].log()-hard_negatives(s, 3, tau_plus=p, mode=mode)[0,3]).exp())
    check(den('released_rocl',0.), 4.136575+11.866976)      # pos + S
    check(den('corrected',0.)-4.136575, 19.896937*6/9)      # the mean there is over all nine entries
    check(den('released_rocl',.12), 4.136575+10.10073)

def test_rocl_gradients():
    "Of un-normalised embeddings, in the order T1, T2, AD"
    z = [torch.tensor(v, dtype=torch.float64) for v in (T1,T2,AD)]
    def norms(loss):
        e = [v.clone().requires_grad_() for v in z]
        return torch.stack([g.norm() for g in torch.autograd.grad(loss(e[2],e[0],e[1]), e)])
    close = lambda a,b: torch.testing.assert_close(a, torch.tensor(b, dtype=torch.float64), rtol=0, atol=1e-6)
    released = lambda c: lambda *e: 2*a_infonce(*e, alpha=c, mode='released_rocl')
    close(norms(lambda *e: 2*rocl(detach=True).contrast(*e)), [.381998,.481978,.678379])
    assert abs(norms(lambda *e: 2*rocl().contrast(*e))[2]-1.373)<1e-3
    close(norms(released(0.)), [.229157,.218208,.678379])
    close(norms(released(.2)), [.232075,.254361,.542703])
    close(norms(released(.5)), [.268571,.330058,.339189])

# --- section 5.3: AdvCL

def test_advcl_numbers(exact):
    rows,check = exact
    z = rows(AD,T1,T2,HF)
    o = AdvCL(Encoder(tiny(),'clean'), None, ks=())
    scale = o.t/o.t_base
    check(scale, 7.142857)
    check(o.contrast(*z), 2.5009694); check(scale*o.contrast(*z), 17.8640668)
    l = pair_losses(*z)
    anchor = (l.sum(1)-l.diagonal().T)/3                                          # (V,n), over the three positives
    check(anchor, [[3.097313,2.853507,1.911683], [1.994502,2.130191,2.857538], [2.169213,1.927885,1.918090], [3.330191,2.990871,2.830647]])
    base = a_infonce(*z, alpha=None, mode='released')
    check(base, 2.4920355); check(scale*base, 17.8002535)
    attack = a_infonce(*z, alpha=None, weight=1.2, mode='released')               # w and w² by an alias
    check(attack, 2.9113690); check(scale*attack, 20.7954929)

@pytest.mark.parametrize('alpha,weight,want', [(.2,1.,2.4956090), (.2,1.2,2.7584074), (.5,1.,2.5009694), (.5,1.2,2.7648396)])
def test_advcl_inferior_positives_released(exact, alpha, weight, want):
    rows,check = exact
    check(a_infonce(*rows(AD,T1,T2,HF), alpha=alpha, weight=weight, mode='released'), want)

@pytest.mark.parametrize('p,alone,ones,light,full', [(.01,3.3481497,3.3862227,2.8345877,3.3633789), (.1,3.3859827,3.4263145,2.8673782,3.4021154), (.12,3.3950111,3.4358689,2.8751996,3.4113542)])
def test_advcl_hard_negatives_released(exact, p, alone, ones, light, full):
    rows,check = exact
    z = rows(AD,T1,T2,HF)
    check(Asymmetric(None, tau_plus=p, mode='released')(*z), alone)
    check(contrast_pairs(*z, logp=hn(p, mode='released')), ones)
    check(Asymmetric(.2, .7, p, mode='released')(*z), light)
    check(Asymmetric(.2, 1., p, mode='released')(*z), full)

@pytest.mark.parametrize('p,alone,light,full', [(.01,3.1042255,2.6189300,3.1094219), (.1,3.1385586,2.6487365,3.1451402), (.12,3.1468413,2.6559279,3.1537586)])
def test_advcl_hard_negatives_corrected(exact, p, alone, light, full):
    "With the released weights of the pairs; in the equation's form the value is that of all-ones weights, for every α"
    rows,check = exact
    z = rows(AD,T1,T2,HF)
    for alpha in (None,0.,.2,1.): check(Asymmetric(alpha, tau_plus=p)(*z), alone)
    check(a_infonce(*z, alpha=.2, weight=.7, logp=hn(p), mode='released'), light)
    check(a_infonce(*z, alpha=.2, logp=hn(p), mode='released'), full)

def test_advcl_classification(exact):
    "Uniform logits: the mean of ln K, times 0.2"
    rows,check = exact
    o = AdvCL(Encoder(tiny(), branches), None)
    for h in o.heads: torch.nn.init.zeros_(h.weight); torch.nn.init.zeros_(h.bias)
    ce = o.classify(torch.rand(4,1,8,8), torch.zeros(5,4, dtype=torch.long))
    check(ce, 3.5455067); check(o.lam*ce, .7091013)
    check(o.t/o.t_base*nt_xent(*rows(AD,T1,T2,HF))+o.lam*ce, 18.5731681)

def test_advcl_gradients():
    "Of unit embeddings, in the order AD, T1, T2, HF"
    z = [torch.tensor(v, dtype=torch.float64) for v in (AD,T1,T2,HF)]
    def norms(loss):
        e = [v.clone().requires_grad_() for v in z]
        gs = torch.autograd.grad(loss(torch.cat(e)), e)
        return torch.stack([g.norm() for g in gs])
    def mean(logp, sim, weights): return lambda z: -(view_pairs(logp(sim(z, 3), 3, .5), 3).mean(-1)*weights).sum()/12
    def released(c):
        pull = torch.zeros(4,4, dtype=torch.float64); pull[0,1:],pull[1:,0] = 2*(1-c),2*c
        rest = torch.zeros_like(pull); rest[1:,1:] = 1-torch.eye(3)
        return lambda z: mean(everyone, cosines, rest)(z)+mean(everyone, anchored, pull)(z)
    close = lambda a,b: torch.testing.assert_close(a, torch.tensor(b, dtype=torch.float64), rtol=0, atol=1e-6)
    close(norms(released(0.)), [.538547,.316982,.118215,.394131])
    close(norms(released(.2)), [.442081,.319194,.129533,.427494])
    close(norms(released(.5)), [.299573,.329664,.165229,.482773])
    close(norms(released(1.)), [.100692,.363989,.248354,.584352])
    close(norms(mean(everyone, cosines, 1-torch.eye(4, dtype=torch.float64))), [.499982,.365463,.231062,.601106])

# --- section 5.4: the equation's inferior positives

def test_inferior_positives_inside(exact):
    rows,check = exact
    ad,t1 = rows(AD,T1)
    for alpha in (0.,.2,.5,1.):
        l = pair_losses(ad, t1, sim=inferior(alpha)).mean(-1)
        check(l[1,0], .788546); check(l[0,1], 1.218916)
        e = [v.clone().requires_grad_() for v in (ad,t1)]
        a,n = torch.autograd.grad(inferior(alpha)(torch.cat(e), 3)[:3,3:].trace(), e)
        check(n.norm(), alpha*math.sqrt(3)); check(a.norm(), (1-alpha)*math.sqrt(3))

# --- section 5.6: the high frequencies

ramp  = (torch.arange(16, dtype=torch.float64)/16).view(4,4)
delta = torch.zeros(4,4, dtype=torch.float64); delta[1,2] = 1
q     = torch.tensor([[.2,.9,.4,.1],[.7,.3,.8,.5],[0,.6,1,.2],[.4,.1,.5,.9]], dtype=torch.float64)
fast  = {'ramp': (ramp, [[-.15625,-.09375,-.15625,-.09375],[.09375,.15625,.09375,.15625]]*2),
         'delta': (delta, [[.0625,-.0625,-.1875,-.0625],[.1875,-.1875,.4375,-.1875],[.0625,-.0625,-.1875,-.0625],[-.0625,.0625,.1875,.0625]]),
         'q': (q, [[-.275,.325,-.025,-.225],[.35,-.4,.1,.15],[-.125,.175,.125,-.375],[.15,-.2,-.1,.35]])}

@pytest.mark.parametrize('x,want', fast.values(), ids=fast)
def test_high_frequency_numbers(exact, x, want):
    rows,check = exact
    x = x.to(rows([0.])[0].dtype)[None,None]
    check(high_frequency(x,1)[0,0], x[0,0]-x.mean())
    for r in (1.5,2): check(high_frequency(x,r)[0,0], want)

@pytest.mark.parametrize('size,r', [((32,32),8), ((8,8),2), ((16,24),4), ((8,8),0)])
def test_high_frequency_properties(size, r):
    x,y = torch.rand(2,2,3,*size, dtype=torch.float64)
    hf = partial(high_frequency, r=r)
    zero = torch.zeros_like(x)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(hf(hf(x)), hf(x)); close(hf(2*x-3*y), 2*hf(x)-3*hf(y))                # idempotent, linear
    low = x-hf(x)
    close(hf(low), zero); assert torch.equal(hf(x)+low, x) or (hf(x)+low-x).abs().max()<1e-15
    if r: close(hf(torch.full_like(x,.3)), zero); close(hf(x).mean((2,3)), zero[:,:,0,0])
    else: close(hf(x), x)

def test_high_frequency_removes_193_of_1024():
    x = torch.zeros(1,1,32,32, dtype=torch.float64); x[0,0,3,5] = 1             # all frequencies are equally strong
    gone = (torch.fft.fft2(high_frequency(x)).abs()<1e-9).sum()
    assert gone==193
    assert torch.equal(high_frequency(x), high_frequency(x, 8))
    assert high_frequency(x.bfloat16()).dtype==torch.float32

@pytest.mark.parametrize('size', [(5,5), (8,7), (3,8)])
def test_high_frequency_of_odd_sizes(size):
    with pytest.raises(ValueError, match=f'needs even height and width, not {size[0]}×{size[1]}'): high_frequency(torch.rand(2,1,*size))

# --- section 5.7: properties

settings = {'symmetric': Asymmetric(None), 'ip': Asymmetric(.2), 'hn': Asymmetric(None, tau_plus=.1), 'ip+hn': Asymmetric(.2, tau_plus=.1)}
all_settings = [pytest.param(Asymmetric(s.alpha, s.weight, s.tau_plus, mode=m), id=f'{k}-{m}') for k,s in settings.items() for m in ('corrected','released','released_rocl')]

def data(*shape, seed=0, dtype=torch.float64): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)

@pytest.mark.parametrize('loss', all_settings)
@pytest.mark.parametrize('t', [.1,.5])
def test_loss_properties(loss, t):
    "Permutations of the batch and lengths of rows change nothing; many mini-batches side by side are their sum"
    z = data(4,12,16)
    p = torch.randperm(12)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    close(loss(*z, t=t), loss(*z[:,p], t=t)); close(loss(*z, t=t), loss(*(z*(1+torch.arange(12)[:,None])), t=t))
    close(loss(z[0], *z[1:], t=t), loss(z[0], *z[1:].flip(0), t=t))              # natural views are alike
    with minibatches(3): side_by_side = loss(*z, t=t)
    close(side_by_side, sum(loss(*part, t=t) for part in zip(*(v.chunk(3) for v in z))))

@pytest.mark.parametrize('loss', all_settings)
@pytest.mark.parametrize('t', [.01,.1,.5])
@pytest.mark.parametrize('kind', ['random','equal','opposite'])
def test_finite_in_single_precision(loss, t, kind):
    z = data(3,8,16, dtype=torch.float32)
    if kind=='equal': z = z[:1,:1].expand(3,8,16)
    if kind=='opposite': z = torch.stack([z[0],z[0],-z[0]])
    z = z.clone().requires_grad_()
    l = loss(*z, t=t)
    g, = torch.autograd.grad(l, z)
    assert l.isfinite() and g.isfinite().all()

def test_half_precision_is_left_at_the_door():
    z = data(3,16,32, dtype=torch.float32).bfloat16()
    for loss in settings.values():
        with torch.autocast('cpu', torch.bfloat16): l = loss(*z, t=.1)
        assert l.dtype==torch.float32
        torch.testing.assert_close(l, loss(*z.float(), t=.1), rtol=1e-6, atol=1e-6)

def test_hard_negatives_reduce_to_simclr():
    for t in (.1,.5):
        z = data(2,16,8)
        torch.testing.assert_close(contrast_pairs(*z, t=t, logp=hn(0.,0.)), nt_xent(*z, t=t), rtol=1e-10, atol=0)

def test_released_inferior_positives_at_a_half():
    z = data(4,16,8)
    torch.testing.assert_close(a_infonce(*z, alpha=.5, mode='released'), nt_xent(*z))
    for alpha in (0.,.2,1.): torch.testing.assert_close(a_infonce(*z, alpha=alpha), nt_xent(*z))

@pytest.mark.parametrize('v', [2,3,4])
def test_hard_negatives_are_local(v):
    "A similarity of images j and k is no business of an anchor of image i; in the released form it is"
    s = cosines(unit(data(v,6,8)).flatten(0,1), 6); moved = s.clone(); moved[7,2] += .2; moved[2,7] += .2
    for mode in ('corrected','released','released_rocl'):
        change = hard_negatives(s,6,tau_plus=.01,mode=mode)-hard_negatives(moved,6,tau_plus=.01,mode=mode)
        assert (view_pairs(change, 6)[...,[0,3,4,5]].abs().max()<1e-12)==(mode=='corrected')

def test_released_rocl_pulls_the_adversary_by_one_minus_alpha():
    z = data(3,16,8)
    def pull(alpha):
        e = z.clone().requires_grad_()
        return torch.autograd.grad(a_infonce(*e, alpha=alpha, mode='released_rocl'), e)[0][0]
    for alpha in (.2,.5,.9): torch.testing.assert_close(pull(alpha), (1-alpha)*pull(0.))

def test_adaptive_degree():
    d = AdaptiveDegree(.2, .4, warm=.1)
    assert d(torch.tensor([1.5,.9]), 0.)==pytest.approx(.2) and d(torch.full((4,),1.2), .05)==pytest.approx(.2)
    assert d.total/d.count==pytest.approx(1.2)
    for far,want in ((1.5,.2),(.8,.35),(.4,.5),(.3,.5)): assert d(torch.full((2,),far), .1)==pytest.approx(want)
    assert d.total/d.count==pytest.approx(1.2) and set(d.state_dict())=={'total','count'}
    assert AdaptiveDegree(.3, warm=0.)(torch.tensor([1.]), 0.)==pytest.approx(.3)          # nothing measured: fixed

# --- the methods

@pytest.fixture(scope='module')
def train(): return digits()[0]

def test_attack_works_and_leaves_no_trace(train):
    torch.manual_seed(0)
    o = methods['AdvCL']()
    x,y = next(iter(Batches(labelled(train), bs=32)))
    with torch.no_grad(): z = o.clean(x, x, high_frequency(x))
    ys = label_columns(y, 32, K)
    before = {k:v.clone() for k,v in o.state_dict().items()}
    a,p = o.attacked(x, ys, lambda: z)
    assert all(v.equal(before[k]) for k,v in o.state_dict().items()) and o.net.training and all(q.grad is None for q in o.parameters())
    for v in (a,p): assert (v-x).abs().max()<=.15+1e-6 and v.min()>=0 and v.max()<=1
    with evaluating(o), torch.no_grad():
        assert nt_xent(o.adv(a), *z)>nt_xent(o.adv(x), *z) and o.classify(p, ys)>o.classify(x, ys)
        assert not torch.equal(a, p)
    released = variants['AdvCL in train mode'](.5)
    before = {k:v.clone() for k,v in released.state_dict().items()}
    released.attacked(x, ys, lambda: z)
    moved = {k.split('.')[-2] for k,v in released.state_dict().items() if not v.equal(before[k])}
    assert moved=={'adv','pseudo'} and released.net.training                     # statistics of the attacked branches only

def test_two_attacks_are_independent(train):
    "Attacked together or each alone: the same images"
    torch.manual_seed(0)
    o = AdvCL(small(), aug, PGD(Linf(.15), .05, 3, start='none'), K, weak=weak)
    x,y = next(iter(Batches(labelled(train), bs=32)))
    ys  = label_columns(y, 32, K)
    with torch.no_grad(): z = o.clean(x, x, high_frequency(x))
    a,p = o.attacked(x, ys, lambda: z)
    assert torch.equal(a, o.perturb(lambda a: nt_xent(o.adv(a), *z), x)) and torch.equal(p, o.perturb(lambda p: o.classify(p, ys), x))

def test_embedding_before_the_attack_gives_the_same_gradient(train):
    "The clean views are embedded once, before the attack that needs them; their graph must survive it"
    torch.manual_seed(0)
    o = methods['AdvCL']()
    x,y = next(iter(Batches(labelled(train), bs=32)))
    seen = []
    o.attacked,attack = (lambda *args: seen.append(attack(*args)) or seen[-1]),o.attacked
    o.augment = o.weak = lambda x: x
    o(x, y)[0].backward()
    got = [p.grad.clone() for p in o.parameters() if p.requires_grad]
    a,p = seen[0]
    z = o.clean(x, x, high_frequency(x))
    want = torch.autograd.grad(o.t/o.t_base*nt_xent(o.adv(a), *z)+o.lam*o.classify(p, label_columns(y, 32, K)), [p for p in o.parameters() if p.requires_grad])
    for g,w in zip(got, want): torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5)

def test_rocl_detached_moves_only_anchors():
    "The gradient of a view is that of the losses of which it is the anchor"
    z = data(3,8,16)
    def grad(loss):
        e = z.clone().requires_grad_()
        return torch.autograd.grad(loss(e), e)[0][0]
    own = lambda e: pair_losses(*e, sim=anchored).mean(-1)[0,1:].sum()/6
    torch.testing.assert_close(grad(lambda e: rocl(detach=True).contrast(*e)), grad(own))
    assert not torch.allclose(grad(lambda e: rocl().contrast(*e)), grad(own), atol=1e-3)

# --- many processes

def _process(rank, folder):
    "Losses of half of the rows, and two steps of training under DistributedDataParallel"
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    try:
        got = {}
        for k,loss in settings.items():
            z = data(4,8,16)[:,4*rank:][:,:4].requires_grad_()
            with gathering(): l = loss(*z)
            g, = torch.autograd.grad(l, z)
            got[k] = l.detach(),g/2                                              # averaging over processes divides by two
        images = labelled(digits()[0])[:128]
        for name in ('AdvCL','A-InfoNCE','RoCL'):
            torch.manual_seed(0)
            wide = Encoder(tiny(width=8), branches if name!='RoCL' else 'clean')    # its projector has norms for every branch
            model = torch.nn.parallel.DistributedDataParallel(methods[name](net=wide))
            for i in range(2):
                part = images[32*(2*i+rank):][:32]
                model(to_float(part.x), part.y)[0].backward()                     # fails where a parameter never gets a gradient
                model.module.progress = .5
            got[name] = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        torch.save(got, f'{folder}/{rank}.pt')
    finally: dist.destroy_process_group()

@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    a,b = (torch.load(tmp_path/f'{r}.pt', weights_only=True) for r in (0,1))
    for k,loss in settings.items():
        z = data(4,8,16).requires_grad_()
        l = loss(*z)
        g, = torch.autograd.grad(l, z)
        assert a[k][0]==b[k][0]==pytest.approx(l.item(), rel=1e-9)
        torch.testing.assert_close(torch.cat([a[k][1],b[k][1]], 1), g, rtol=1e-9, atol=1e-12)
    for k in ('AdvCL','A-InfoNCE','RoCL'): assert torch.equal(a[k], b[k]) and a[k].isfinite().all()

# --- pseudo-labels

def test_pseudo_labels(train):
    torch.manual_seed(0)
    e = small('clean')
    before = {k:v.clone() for k,v in e.state_dict().items()}
    some = train[:200]
    y = pseudo_labels(e, some, (2,10), bs=64)
    assert y.shape==(200,2) and y.dtype==torch.int64 and [sorted(set(c.tolist())) for c in y.T]==[list(range(2)),list(range(10))]
    assert all(v.equal(before[k]) for k,v in e.state_dict().items()) and e.training
    assert torch.equal(y, pseudo_labels(e, some, (2,10), bs=200))                 # repeatable, whatever the batch size
    data = Images(some.x, y)
    i = torch.randperm(200)[:50]
    assert torch.equal(data[i].y, y[i])                                           # an image keeps its labels wherever it goes
    assert [labels.shape for x,labels in Batches(data, bs=50)]==[(50,2)]*4
    a,b = data.split(.3)
    assert len(a)==60 and a.y.shape==(60,2)

def test_bad_input(train):
    e = small('clean')
    with pytest.raises(ValueError, match='number of images, 20'): pseudo_labels(e, train[:20], (2,50))
    with pytest.raises(ValueError, match='must be from 2'): pseudo_labels(e, train[:20], (1,))
    x = to_float(train.x[:8])
    o = methods['AdvCL']()
    for y,error,what in ((None, ValueError, 'needs pseudo-labels for K'), (torch.zeros(8, dtype=torch.long), ValueError, r'must be \(8,3\), one column for each'),
                         (torch.zeros(7,3, dtype=torch.long), ValueError, r'must be \(8,3\)'), (torch.full((8,3),2), ValueError, r'must be in 0…K-1'),
                         (torch.full((8,3),-1), ValueError, 'must be in 0…K-1'), (torch.zeros(8,3), TypeError, 'must be integers')):
        with pytest.raises(error, match=what): o(x, y)
    assert AdvCL(small(), aug, pgd, (10,), weak=weak)(x, torch.arange(8))[0].isfinite()                  # one column needs no second axis
    with pytest.raises(ValueError, match="no branch 'pseudo'"): AdvCL(small('clean','adv'), aug, pgd, K, weak=weak)(x, torch.zeros(8,3, dtype=torch.long))
    with pytest.raises(ValueError, match="attack_mode='both'"): AdvCL(small(), aug, attack_mode='both')
    with pytest.raises(ValueError, match='even height and width, not 9×8'): AdvCL(small('clean','adv'), lambda x: x, pgd, (), weak=lambda x: x)(torch.rand(4,1,9,8))
    a,b = torch.rand(2,4,8)
    for f in (a_infonce, Asymmetric(), Asymmetric(None, tau_plus=.1), rocl().contrast, rocl(detach=True).contrast):
        with pytest.raises(ValueError, match='equal batch and width'): f(a, b[:3])
        with pytest.raises(ValueError, match='equal batch and width'): f(a, b[:,:5])
    for t in (0.,-1.):
        with pytest.raises(ValueError, match='must be > 0'): a_infonce(a, b, t=t)
        with pytest.raises(ValueError, match='must be > 0'): a_infonce(a, b, t=t, logp=hard_negatives)
        with pytest.raises(ValueError, match='must be > 0'): rocl(t=t).contrast(a, b)
    with pytest.raises(ValueError, match='two views or more'): a_infonce(a)
    with pytest.raises(ValueError, match="mode='paper' is unknown"): a_infonce(a, b, mode='paper')
    with pytest.raises(ValueError, match='is unknown'): Asymmetric(mode='old')
    with pytest.raises(ValueError, match='alpha=1.2 must be in'): Asymmetric(1.2)
    with pytest.raises(ValueError, match='would leave no negatives'): Asymmetric(tau_plus=1.)
    with pytest.raises(ValueError, match='two images or more'): a_infonce(a[:1], b[:1], logp=hard_negatives)
