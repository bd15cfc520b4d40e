"The confusion set: every broken defence is named, no sound model fails"
import threading
from copy import deepcopy
import pytest, torch
from torch import nn
import torch.nn.functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from robustfm.attacks import PGD, Linf
from robustfm.datasets import digits
from robustfm.evaluation import evaluate

FAULTS = [('breaker-2.4-'+k, 'broken defences', 'test_broken') for k in ('partial', 'in-place', 'small-logits', 'cache', 'counter-attack')] + \
         [('breaker-4-'+k, 'sound models', 'test_sound') for k in ('jit-script', 'constant', 'blank')]
EPS = .1

def small(norm=lambda c: nn.Identity(), wrap=lambda m: m, act=nn.ReLU):
    return nn.Sequential(wrap(nn.Conv2d(1, 16, 3, padding=1)), norm(16), act(),
                         wrap(nn.Conv2d(16, 16, 3, padding=1, stride=2)), norm(16), act(), nn.Flatten(), wrap(nn.Linear(256, 10)))

def fit(model, steps=100, lr=.004):
    train = digits()[0]
    x, y = train.x/255, train.y
    opt = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    return model.eval()

@pytest.fixture(scope='module')
def plain():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fit(small())

@pytest.fixture(scope='module')
def few(): return digits()[2][:80]

class Wrap(nn.Module):
    def __init__(self, f, how=None):
        super().__init__()
        self.f, self.how = f, how
    def forward(self, x): return self.how(self.f, x)

def through(x, f):
    if x.requires_grad:
        x = x.clone()
        x.register_hook(f)
    return x

def mask(x, part):
    m = torch.zeros_like(x)
    m[part] = 1
    return m*x.detach() + (1-m)*x

def counter(f, x, sign=True):
    with torch.enable_grad():
        a = x.detach().clone().requires_grad_()
        z = f(a)
        g, = torch.autograd.grad(F.cross_entropy(z, z.argmax(1).detach(), reduction='sum'), a)
    return f((x-.15*g.sign()).clamp(0, 1))

def counter_backward(f, x):
    with torch.enable_grad():
        a = x.detach().clone().requires_grad_()
        z = f(a)
        F.cross_entropy(z, z.argmax(1).detach(), reduction='sum').backward()
    return f((x-.15*a.grad.sign()).clamp(0, 1))

def written(f, x, levels):
    x.data.copy_((x.data*levels).round()/levels)
    return f(x)

def moved(f, x):
    x.data.add_(.05*(x.data.mean((1,2,3), keepdim=True)-x.data))
    return f(x)

def seeded_noise(f, x):
    g = torch.Generator().manual_seed(int(x.detach().double().sum()*1e9)%2**40)
    return f((x+.2*torch.randn(x.shape, generator=g)).clamp(0, 1))

class Cache(nn.Module):
    "Knows the test images by heart: near one of them it is surer of what it says there, the same for all"
    def __init__(self, f, x):
        super().__init__()
        self.f, self.x = f, x
        with torch.no_grad(): self.said = F.one_hot(f(x).argmax(1), 10)
    def forward(self, x):
        d, i = (x.detach()[:,None]-self.x).abs().flatten(2).amax(2).min(1)
        return self.f(x) + 1e3*self.said[i]*(d<=.12)[:,None]

odd = torch.arange(8)%2==1
broken = {
    'nothing': lambda f, x: f(x.detach()), 'no_grad': lambda f, x: f(x.data),
    'bright': lambda f, x: f(torch.where(x>.5, x.detach(), x)), 'dark': lambda f, x: f(torch.where(x<.1, x.detach(), x)),
    'columns': lambda f, x: f(mask(x, (..., odd))), 'rows': lambda f, x: f(mask(x, (..., odd, slice(None)))),
    'centre': lambda f, x: f(mask(x, (..., slice(2,6), slice(2,6)))), 'upper half': lambda f, x: f(mask(x, (..., slice(4), slice(None)))),
    'straight-through on a half': lambda f, x: f(x + (((x*4).round()/4-x)*odd).detach()),
    'in place, 4 levels': lambda f, x: written(f, x, 4), 'in place, 16 levels': lambda f, x: written(f, x, 15), 'in place, moved': moved,
    'counter-attack': counter, 'counter-attack by backward': counter_backward,
    'rounding 4': lambda f, x: f((x*4).round()/4), 'rounding 16': lambda f, x: f((x*15).round()/15), 'bits': lambda f, x: f((x*255).round()/255),
    'threshold': lambda f, x: f((x>.5).float()), 'int': lambda f, x: f((x*10).int()/10), 'onehot': lambda f, x: 10*F.one_hot(f(x).argmax(1), 10).float(),
    'negative gradient': lambda f, x: f(through(x, torch.neg)), 'flipped gradient': lambda f, x: f(through(x, lambda g: g.flip(2, 3))),
    'random gradient': lambda f, x: f(through(x, torch.randn_like)), 'gradient of signs': lambda f, x: f(through(x, lambda g: g*torch.ones_like(g).cumsum(3).sub(4.5).sign())),
    'noise': lambda f, x: f(x+.1*torch.randn_like(x)), 'noise of the image': seeded_noise, 'dropout': lambda f, x: f(F.dropout(x, .2, training=True)),
    'batch statistics': lambda f, x: f(x-x.mean(0)+.3), 'large batches': lambda f, x: f(x) if len(x)<=40 else f(x-x.mean(0)+.3),
    'grad branch': lambda f, x: f(x.flip(3)) if x.requires_grad else f(x), 'saturated': lambda f, x: 20*torch.tanh(1e6*f(x)),
    'steep vote': lambda f, x: (1e4*f(x)).softmax(1)*30,
}

def report(model, few, **kw): return evaluate(model.eval(), few, eps=EPS, show=False, strict=False, **kw)

@pytest.mark.parametrize('name', broken)
def test_broken(plain, few, name):
    r = report(Wrap(plain, broken[name]), few)
    assert r.failed and r.mark.startswith('✗') and '✗' in r.ra.text, str(r)

def test_cache_of_test_images(plain, few):
    r = report(Cache(plain, few.x/255), few)
    assert r['pgd20'].accuracy>.9 and 'elsewhere' in r.failed, str(r)

@pytest.mark.parametrize('scale', [1e-2, 1e-6, 1e-12, 1e-20, 1e-30, 1e3, 1e6])
def test_scale_of_logits_gains_nothing(plain, few, scale):
    honest = report(plain, few, checks=None)['pgd20'].accuracy
    assert report(Wrap(plain, lambda f, x: f(x)*scale), few, checks=None)['pgd20'].accuracy<=honest+.05

class Two(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f
    def forward(self, x): return self.f(x)

sound = {
    'plain': lambda f: f, 'batch norm': lambda f: fit(small(nn.BatchNorm2d), 40), 'group norm': lambda f: fit(small(lambda c: nn.GroupNorm(4, c)), 40),
    'instance norm': lambda f: fit(small(nn.InstanceNorm2d), 40), 'spectral norm': lambda f: fit(small(wrap=spectral_norm), 40),
    'weight norm': lambda f: fit(small(wrap=weight_norm), 40), 'gelu': lambda f: fit(small(act=nn.GELU), 40), 'tanh': lambda f: fit(small(act=nn.Tanh), 40),
    'sigmoid': lambda f: fit(small(act=nn.Sigmoid), 100), 'silu': lambda f: fit(small(act=nn.SiLU), 40), 'elu': lambda f: fit(small(act=nn.ELU), 40),
    'softplus': lambda f: fit(small(act=nn.Softplus), 40), 'leaky': lambda f: fit(small(act=nn.LeakyReLU), 40), 'hardly trained': lambda f: fit(small(), 10),
    'untrained': lambda f: small(), 'linear': lambda f: fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 60),
    'zero weights': lambda f: _zero(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), 'dropout in eval': lambda f: nn.Sequential(nn.Dropout(.5), f),
    'frozen': lambda f: deepcopy(f).requires_grad_(False), 'temperature 10': lambda f: Wrap(f, lambda f, x: f(x)/10), 'temperature .1': lambda f: Wrap(f, lambda f, x: f(x)*10),
    'temperature 1e6': lambda f: Wrap(f, lambda f, x: f(x)/1e6), 'offset 1000': lambda f: Wrap(f, lambda f, x: f(x)+1000), 'log-softmax': lambda f: Wrap(f, lambda f, x: f(x).log_softmax(1)),
    'jit script': lambda f: torch.jit.script(f), 'jit trace': lambda f: torch.jit.trace(f, torch.rand(2,1,8,8)), 'double inside': lambda f: Wrap(deepcopy(f).double(), lambda f, x: f(x.double()).float()),
    'normalised inside': lambda f: Wrap(f, lambda f, x: f((x-.5)/.5*.5+.5)), 'ensemble': lambda f: Wrap(nn.ModuleList([f, f]), lambda f, x: (f[0](x)+f[1](x))/2),
    'wrapped': Two, 'data parallel': nn.DataParallel, 'fixed noises': lambda f: Wrap(f, _smoothed),
}

def _zero(m):
    for p in m.parameters(): nn.init.zeros_(p)
    return m

def _smoothed(f, x):
    g = torch.Generator().manual_seed(0)
    return sum(f(x+.05*torch.randn(x.shape[1:], generator=g)) for _ in range(4))/4

@pytest.mark.parametrize('name', sound)
def test_sound(plain, few, name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = sound[name](plain)
    assert report(model, few).failed==[]

def test_a_constant_output_is_called_so(few):
    r = report(sound['zero weights'](None), few)
    assert any('constant' in v.seen for v in r.verdicts if v.name=='logits') and not r.failed

def test_blank_images(plain, few):
    assert report(plain, (torch.zeros_like(few.x), few.y)).failed==[]

def test_two_threads_at_once(plain, few):
    out = {}
    ts  = [threading.Thread(target=lambda k=k: out.update({k: report(plain, few)})) for k in range(2)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert out[0].failed==out[1].failed==[] and out[0]['pgd20'].accuracy==out[1]['pgd20'].accuracy
    assert [v.status for v in out[0].verdicts]==[v.status for v in out[1].verdicts]
