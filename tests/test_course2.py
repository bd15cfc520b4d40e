"The exercises of chapters 7 to 12: what is right is accepted, and each usual mistake is told in a sentence of its own"
import math
import pytest, torch
import torch.nn.functional as F
from torch import nn
from robustfm import course
from robustfm.attacks import PGD
from robustfm.course import *
from robustfm.losses import cos, nt_xent
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rcs import speedup
from robustfm.methods.rocl import RoCL
from robustfm.models import evaluating
from robustfm.objective import Objective, SimCLR

@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    "Each test has a book of its own"
    from types import SimpleNamespace
    monkeypatch.setattr(course, '_book', SimpleNamespace(predictions={}, exercises={}, file=None))

def c(a, b): return F.cosine_similarity(a, b).mean()
def deacl(h, ha, ht, lam=2.): return -c(h, ht) - lam*c(ha, h)

def greedy(grads, q, k, move, again=True, keep=True, given=lambda grads,picks: grads[picks[-1]], sign=1):
    picks = []
    for _ in range(k):
        gains = sign*(grads@q)
        if keep: gains[picks] = -torch.inf
        picks.append(int(gains.argmax()))
        if again: q = move(given(grads, picks))
    return picks

def faster(E, W, k, every, c): return E/(W + (E-W)*k + math.ceil((E-W)/every)*c)

def natural(W, A, B, rank): return W + (B@A).view_as(W)/rank
def in_place(W, A, B, rank): W += (B@A).view_as(W)/rank; return W

def hours(images, epochs, passes, flop, peak, share, gpus): return images*epochs*passes*flop/(peak*share*gpus)/3600
def without(name): return lambda *a: hours(*[1 if n==name else v for n,v in zip('images epochs passes flop peak share gpus'.split(), a)])

def rounding(x): return x + ((x*8).round()/8-x).detach()

def slope(loss, x, t, none=0.):
    a = x.clone().requires_grad_()
    g, = torch.autograd.grad(loss(a), a)
    does,promised = (loss(x+t*g.sign())-loss(x-t*g.sign()))/2,t*g.abs().sum()
    return float(does/promised) if promised>0 else none

def planted(clf, x, y, eps=8/255, keep=True, ball=1, low=0.):
    "PGD that returns, for each image, the first point that was misclassified"
    a = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0,1)
    best,done = a.clone(),torch.zeros_like(y, dtype=torch.bool)
    for _ in range(21):
        a = a.detach().requires_grad_()
        z = clf(a)
        new = (z.argmax(1)!=y) & ~done
        if keep: best[new],done = a.detach()[new],done|new
        g, = torch.autograd.grad(F.cross_entropy(z, y, reduction='sum'), a)
        a = (x + (a.detach() + eps/4*g.sign() - x).clamp(-ball*eps, ball*eps)).clamp(low, 1-low)
    best[~done] = a.detach()[~done]
    return best

class Tether(Objective):
    "Chapter 11's method"
    def __init__(self, net, augment, attack=PGD(), lam=2., t=.5):
        super().__init__(net, augment, attack)
        self.lam,self.t = lam,t
    def terms(self, x, y=None):
        v1,v2 = self.augment(x),self.augment(x)
        with evaluating(self), torch.no_grad(): z = self.net(v1, bn='clean')
        a = self.perturb(lambda a: -cos(self.net(a, bn='adv'), z), v1)
        z1,z2 = self.net.embed(v1, v2, bn='clean')
        return dict(contrast=nt_xent(z1, z2, t=self.t), tether=-self.lam*cos(self.net(a, bn='adv'), z1))

def changed(**methods): return type('Changed', (Tether,), methods)
def terms(f): return changed(terms=lambda self, x, y=None: f(self, x, y, Tether.terms(self, x, y)))
def weighted(o, x, y, d): return d|dict(place=(torch.arange(len(x)).to(x)*o.net(x)[:,0]).mean())
def no_super(self, net, augment, attack): nn.Module.__init__(self)

answers = dict(
    deacl=(deacl, [lambda h,a,t,l: -deacl(h,a,t,l), lambda h,a,t,l: -c(h,t)-l*c(a,t), lambda h,a,t,l: -c(h,t)-c(a,h), lambda h,a,t,l: -l*c(h,t)-c(a,h), lambda h,a,t,l: len(h)*deacl(h,a,t,l),
                   lambda h,a,t,l: deacl(h,a,t,l).item(), lambda h,a,t,l: -c(h,t)-l*c(a,h.detach()), lambda h,a,t,l: -(h*t).sum(1).mean()-l*(a*h).sum(1).mean(), lambda h,a,t,l: -l*c(a,h)]),
    greedy=(greedy, [lambda *a: greedy(*a, again=False), lambda *a: greedy(*a, sign=-1), lambda *a: greedy(*a, keep=False, given=lambda g,p: 0*g[p[-1]]), lambda g,q,k,m: greedy(g,q,k-1,m),
                     lambda *a: greedy(*a, given=lambda g,p: -g[p[-1]]), lambda *a: greedy(*a, given=lambda g,p: g[p].sum(0)), lambda *a: {}]),
    speedup=(faster, [lambda E,W,k,every,c: 1/faster(E,W,k,every,c), lambda E,W,k,every,c: faster(E,W,k,every,0), lambda E,W,k,every,c: E/((E-W)*k+math.ceil((E-W)/every)*c),
                      lambda E,W,k,every,c: E/(W+E*k+math.ceil((E-W)/every)*c), lambda E,W,k,every,c: E/(W+(E-W)*k+(E-W)//every*c), lambda E,W,k,every,c: E/(W+(E-W)*k+math.ceil(E/every)*c)]),
    lora=(natural, [lambda W,A,B,r: W+(B@A).view_as(W), lambda W,A,B,r: (B@A).view_as(W)/r, lambda W,A,B,r: W-(B@A).view_as(W)/r, in_place, lambda W,A,B,r: natural(W,A,B,r).detach(), lambda W,A,B,r: W,
                    lambda W,A,B,r: (W+(B@A).view_as(W))/r, lambda W,A,B,r: W+(B@A)/r]),
    bpda=(rounding, [lambda x: (x*8).round()/8, lambda x: x, lambda x: ((x*8).round()/8).detach(), lambda x: 2*x+((x*8).round()/8-2*x).detach(), lambda x: rounding(x).sum()]),
    slope=(slope, [lambda *a: 2*slope(*a), lambda l,x,t: t*slope(l,x,t), lambda *a: abs(slope(*a)), lambda *a: slope(*a, none=1.), lambda *a: slope(*a, none=math.nan), lambda *a: 1+(slope(*a)<0)*-2.]),
    attack=(lambda *a: planted(*a), [lambda *a: planted(*a, keep=False), lambda clf,x,y: x, lambda *a: planted(*a, ball=3), lambda *a: planted(*a, low=-1.), lambda *a: planted(*a)[:1], lambda clf,x,y: planted(clf.train(), x, y)]),
    cost=(hours, [lambda *a: 3600*hours(*a), without('epochs'), without('passes'), without('share'), without('gpus'), lambda *a: hours(*a)*a[-1]**2, lambda *a: 1/hours(*a)]),
    objective=(Tether, [terms(lambda o,x,y,d: sum(d.values())), terms(lambda o,x,y,d: {k:v.detach() for k,v in d.items()}), changed(perturb=lambda o,l,*v: o.attack(l, *v)), changed(perturb=lambda o,l,*v: Tether.perturb(o,l,*v)+.3),
                        changed(perturb=lambda o,l,v: (v+3*(Tether.perturb(o,l,v)-v)).clamp(0,1)), terms(lambda o,x,y,d: d|dict(label=F.cross_entropy(o.net(x), y))), terms(weighted),
                        terms(lambda o,x,y,d: d|dict(tether=-d['tether'])), terms(lambda o,x,y,d: d|dict(near=F.cosine_similarity(*o.net.embed(x, o.augment(x))).mean())),
                        changed(terms=lambda o,x,y=None: Tether.terms(o.eval(), x, y)), changed(__init__=no_super), changed(terms=lambda o,x,y=None: None)]))

@pytest.mark.parametrize('key', answers)
def test_right_is_accepted(key, capsys):
    assert check(key, answers[key][0]), capsys.readouterr().out
    assert course._book.exercises[key]['solved']

@pytest.mark.parametrize('key', answers)
def test_wrong_ones_are_told_apart(key, capsys):
    said = set()
    for i,f in enumerate(answers[key][1]):
        assert not check(key, f), f'wrong answer {i} was accepted'
        out = capsys.readouterr().out
        assert out.startswith(f'✗ {key}: ') and out.count('\n')==1 and 'Traceback' not in out and 'cannot be used' not in out, (i, out)
        said.add(out)
    assert len(said)==len(answers[key][1])>=3 and not course._book.exercises[key]['solved'], said

@pytest.mark.parametrize('key', answers)
def test_bad_input_is_one_sentence(key, capsys):
    def stub(*a): ...
    def broken(*a): raise RuntimeError('boom\nsecond line')
    for f,says in ((None,'no function yet'), (stub,'returns None'), (broken,'boom; look first at its line `def broken(*a): raise'), (lambda: 1,'arguments, in number and order'),
                   (lambda *a: 'text',''), (lambda *a: torch.zeros(3,3,3),''), (lambda *a: float('nan'),''), (lambda *a: [1],'')):
        assert check(key, f) is False
        out = capsys.readouterr().out
        assert out.startswith(f'✗ {key}: ') and says in out and out.count('\n')==1, out

@pytest.mark.parametrize('make', [ACL, DynACL, RoCL, lambda n,a,p: ACL(n, a, p, reg=AIR())], ids=['ACL','DynACL','RoCL','ACL-AIR'])
def test_our_own_methods_pass_chapter_11(make, capsys): assert check('objective', make), capsys.readouterr().out

def test_a_method_without_attack_is_remarked(capsys):
    assert check('objective', lambda net, augment, attack: Still(net, augment, attack)) and 'never attacks' in capsys.readouterr().out

class Still(SimCLR):
    def __init__(self, net, augment, attack): super().__init__(net, augment); self.attack = attack

def test_attacked_images_in_the_clean_norms_are_remarked(capsys):
    class OneSet(Tether):
        def terms(self, x, y=None):
            v1,v2 = self.augment(x),self.augment(x)
            with evaluating(self), torch.no_grad(): z = self.net(v1)
            a = self.perturb(lambda a: -cos(self.net(a), z), v1)
            z1,z2 = self.net.embed(v1, v2)
            return dict(contrast=nt_xent(z1, z2), tether=-2*cos(self.net(a), z1))
    assert check('objective', OneSet) and 'clean norms' in capsys.readouterr().out

def test_the_price_is_the_ledger(): assert all(faster(E, W, k, e, p)==pytest.approx(speedup(E, W, k, e, p)) for E,W,k,e,p in ((1000,100,.05,20,24/42), (200,20,.1,10,.3), (50,50,.2,5,1.)))
