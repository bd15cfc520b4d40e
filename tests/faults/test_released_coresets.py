"What mode='released' computes, and where attacks start, beside the released arithmetic written out; and what the pages say of it"
import json, re
import pytest, torch
import torch.nn.functional as F
from house import root
from robustfm.attacks import Linf,PGD
from robustfm.methods.acl import ACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rcs import distances,gradients
from robustfm.models import Encoder,tiny
from robustfm.rendering import shapes

FAULTS = [('differential-F9', 'released coresets', 'test_the_table_is_that_of_the_objective'), ('differential-F9', 'released coresets', 'test_the_pages_say_so'),
          ('differential-F10', 'released coresets', 'test_released_js_is_a_mean'), ('differential-F10', 'released coresets', 'test_released_ot_floors_its_logarithm'),
          ('differential-F11', 'released coresets', 'test_formulas_have_single_backslashes'),
          ('differential-D1', 'released coresets', 'test_a_start_outside_the_pixels'), ('differential-D1', 'released coresets', 'test_the_pages_say_so')]

def pair(n, d, scale=1., seed=0):
    g = torch.Generator().manual_seed(seed)
    return scale*torch.randn(n, d, generator=g, dtype=torch.float64), scale*torch.randn(n, d, generator=g, dtype=torch.float64)

sizes = [(3,5,1.), (8,16,1.), (8,512,1.), (2,4,8.), (16,32,.1), (1,7,3.)]

@pytest.mark.parametrize('n,d,scale', sizes, ids=[f'differential-F10-{n}x{d}-{s}' for n,d,s in sizes])
def test_released_js_is_a_mean(n, d, scale):
    "½ KLDivLoss(log p, m) + ½ KLDivLoss(log q, m), its default reduction the mean over all n·d numbers"
    a,z = pair(n, d, scale)
    p,q = z.softmax(1),a.softmax(1)
    m   = (p+q)/2
    want = (F.kl_div(p.log(), m, reduction='none')+F.kl_div(q.log(), m, reduction='none')).mean()/2
    assert torch.allclose(distances['released_js'](a, z).mean(), want, rtol=1e-9)

def sinkhorn(x, y, eps=.01, iters=100, tol=.1):
    "Entropic transport in the logarithmic domain as released: 1e-6 inside the logarithm, the gradient through every step"
    x,y  = (F.normalize(v.softmax(-1), dim=-1) for v in (x,y))
    cost = 1-x@y.T
    mu   = torch.full((len(x),), 1/len(x), dtype=x.dtype)
    u,v  = torch.zeros_like(mu),torch.zeros_like(mu)
    def plan(): return ((-cost+u[:,None]+v[None])/eps).exp()
    for _ in range(iters):
        old = u
        u = eps*(mu.log()-(plan().sum(1)+1e-6).log())+u
        v = eps*(mu.log()-(plan().sum(0)+1e-6).log())+v
        if (u-old).abs().sum()<tol: break
    return (plan()*cost).sum()

@pytest.mark.parametrize('n,d,scale', sizes, ids=[f'differential-F10-ot-{n}x{d}-{s}' for n,d,s in sizes])
def test_released_ot_floors_its_logarithm(n, d, scale):
    "Value and gradient, adversaries first"
    a,z   = (v.requires_grad_() for v in pair(n, d, scale))
    mine  = distances['released_ot'](a, z)
    other = sinkhorn(a, z)
    assert torch.allclose(mine, other, rtol=1e-6, atol=1e-9)
    for g,h in zip(torch.autograd.grad(mine, (a,z)), torch.autograd.grad(other, (a,z))):
        assert torch.allclose(g, h, rtol=1e-4, atol=1e-8)

def objective(cls, **kw):
    torch.manual_seed(0)
    return cls(Encoder(tiny(3, 4), ('clean','adv')), lambda x, strength=1.: x, PGD(Linf(.1), alpha=.05, steps=1, start='none'), **kw)

def row(o):
    "The head gradient of one mini-batch, as RCS ranks it"
    return gradients(o, shapes(16, size=8), [torch.arange(8)]).rows[0]

def weighted(w):
    o = objective(ACL)
    o.weight = w
    return row(o)

@pytest.mark.parametrize('progress', [0., .2, .5, .7, .85, .99], ids=lambda p: f'differential-F9-{p}')
def test_the_table_is_that_of_the_objective(progress):
    "Released: always ½(clean + adversarial). Here DynACL weighs by its ω what it ranks, as it does what it trains on"
    o = objective(DynACL)
    o.progress = progress
    plain,one,w = weighted(0.),weighted(1.),o.omega()
    assert torch.allclose(row(o), plain+w*(one-plain), rtol=1e-3, atol=1e-5*float(plain.abs().max()))
    assert w==0 or not torch.allclose(row(o), plain, rtol=.01)

def pages(): return sorted((root/'nbs').rglob('*.ipynb'))
def prose(path):
    return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='markdown']

@pytest.mark.parametrize('path', pages(), ids=lambda p: f'differential-F11-{p.stem}')
def test_formulas_have_single_backslashes(path):
    "In `$…$` of one line `\\\\cdot` is a line break and a word"
    for text in prose(path):
        for formula in re.findall(r'(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)', re.sub(r'```.*?```|`[^`]*`', '', text, flags=re.S)):
            assert not re.search(r'\\\\[a-zA-Z]', formula), formula

said = {'D1-acl': ('102_acl', 'unclipped'), 'D1-advcl': ('105_advcl', 'unclipped'), 'D1-deacl': ('107_deacl', 'unclipped'), 'D1-attacks': ('06_attacks', 'unclipped'),
        'D1-finetuning': ('202_finetuning', 'unclipped'), 'D1-rcs': ('109_rcs', 'unclipped'), 'F9-rcs': ('109_rcs', 'for DynACL and AIR')}

@pytest.mark.parametrize('page,word', said.values(), ids=[f'differential-{k}' for k in said])
def test_the_pages_say_so(page, word):
    assert any(word in text for text in prose(root/'nbs'/f'{page}.ipynb'))

images = {'noise': torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 'black': torch.zeros(4, 3, 8, 8), 'white': torch.ones(4, 3, 8, 8),
          'half': (torch.arange(8)<4).float().expand(4, 3, 8, 8).contiguous(), 'grey': torch.full((4, 3, 8, 8), .5), 'one': torch.zeros(1, 1, 1, 1)}

@pytest.mark.parametrize('x', images.values(), ids=[f'differential-D1-{k}' for k in images])
def test_a_start_outside_the_pixels(x):
    "The released attack: x plus noise, not clipped; then steps, projected and clipped"
    eps,alpha,w = 8/255,2/255,torch.linspace(-1, 1, x.numel()).view_as(x).contiguous()
    loss = lambda a: (w*(a-.3).pow(2)).flatten(1).sum(1)
    torch.manual_seed(3)
    mine = PGD(Linf(eps), alpha=alpha, steps=3, start='unclipped')(loss, x)
    torch.manual_seed(3)
    a = x+torch.empty_like(x).uniform_(-eps, eps)
    for _ in range(3):
        a = a.detach().requires_grad_()
        g, = torch.autograd.grad(loss(a).sum(), a)
        a = (x+(a.detach()+alpha*g.sign()-x).clamp(-eps, eps)).clamp(0, 1)
    assert torch.allclose(mine, a, atol=1e-6) and mine.min()>=0 and mine.max()<=1
    ours = PGD(Linf(eps), alpha=alpha, steps=0)(loss, x)
    assert ours.min()>=0 and ours.max()<=1
