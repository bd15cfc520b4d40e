"The checkers of exercises: wrong answers that were accepted, right ones that were refused, and an argument that is not used"
import math
import pytest, torch
import torch.nn.functional as F
from torch import nn
from robustfm.attacks import Linf,PGD
from robustfm.losses import cos,kl,nt_xent,unit
from robustfm.methods.air import air,released_kl,sir
from robustfm.methods.dynacl import strength_at
from robustfm.teach import checkers,checks,course
from robustfm.teach.checks import (MyDualBN,faster,greedy,hours,loss,my_acl,my_attack,my_false_negatives,my_nt_xent,my_pgd,my_rounding,
                                   my_sir,my_slope,my_step,my_strength,natural)

FAULTS = [('learner-F4', 'the book does not tell demonstrations from tries', 'test_a_demonstration_is_not_a_try'),
          ('learner-F5', 'a checker accepts a wrong answer', 'test_wrong_is_refused'),
          ('learner-F5', 'an argument has no effect', 'test_an_argument_that_is_not_used_is_noticed'),
          ('learner-F6', 'a checker refuses a right answer', 'test_right_is_accepted')]

solutions = dict(nt_xent=my_nt_xent, pgd=my_pgd, acl=my_acl, dual_bn=MyDualBN, sir=my_sir, strength=my_strength, false_negatives=my_false_negatives,
                 deacl=loss, greedy=greedy, speedup=faster, lora=natural, cost=hours, bpda=my_rounding, slope=my_slope, attack=my_attack, step=my_step)

def ascent(loss, x, eps, alpha, steps, backward=False, delta=False):
    "PGD as others write it: by .backward(), or on the difference"
    d = torch.zeros_like(x)
    for _ in range(steps):
        d = d.detach().requires_grad_()
        if backward:
            loss(x+d).backward()
            g = d.grad
        else: g, = torch.autograd.grad(loss(x+d), d)
        d = (d.detach()+alpha*g.sign()).clamp(-eps, eps)
        d = (x+d).clamp(0, 1)-x
    return (x+d).clamp(0, 1)

def by_rows(z1, z2, t):
    "NT-Xent, anchor by anchor"
    z,n = F.normalize(torch.cat([z1,z2]), dim=1),len(z1)
    return sum(-(z[i]@z[(i+n)%(2*n)]/t)+torch.stack([z[i]@z[j]/t for j in range(2*n) if j!=i]).logsumexp(0) for i in range(2*n))/(2*n)

def acl_in_turns(embed, contrast, attack, v1, v2):
    def l(a1, a2):
        z1,z2 = embed(a1, a2, bn='adv')
        return contrast(z1, z2)
    a1,a2 = attack(l, v1, v2)
    return .5*contrast(*embed(v1, v2, bn='clean')) + .5*l(a1, a2)

class ByName(nn.Module):
    def __init__(self, bn):
        super().__init__()
        from copy import deepcopy
        self.clean,self.adv = deepcopy(bn),deepcopy(bn)
    def forward(self, x, branch): return getattr(self, branch)(x)

class ByState(nn.Module):
    def __init__(self, bn):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(bn.num_features) for _ in range(2)])
        for n in self.norms: n.load_state_dict(bn.state_dict())
    def forward(self, x, branch): return self.norms[0 if branch=='clean' else 1](x)

def sir_by_kl_div(z1, z2, z0, t):
    p = [(F.cosine_similarity(z, z0)/t).log_softmax(0) for z in (z1,z2)]
    return F.kl_div(p[1], p[0], reduction='sum', log_target=True)

def greedy_by_sets(grads, q, k, move):
    left,picks = set(range(len(grads))),[]
    while len(picks)<k:
        i = max(left, key=lambda j: float(grads[j]@q))
        left.remove(i)
        picks.append(i)
        q = move(grads[i].clone())
    return torch.tensor(picks)

class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return (x*8).round()/8
    @staticmethod
    def backward(ctx, g): return g

right = [ # id, exercise, a right answer
    ('learner-F6-strength-min', 'strength', lambda p, s: 1-min(math.floor(p*s), s-1)/s),
    ('learner-F6-strength-int', 'strength', lambda p, s: 1-min(int(p*s), s-1)/s),
    ('learner-F6-strength-max', 'strength', lambda p, s: max(1-math.floor(p*s)/s, 1/s)),
    ('learner-F6-deacl-constant', 'deacl', lambda h, ha, ht, lam: (1-F.cosine_similarity(h, ht)).mean()+lam*(1-F.cosine_similarity(ha, h)).mean()),
    ('deacl-constant-of-one', 'deacl', lambda h, ha, ht, lam: 1+loss(h, ha, ht, lam)),
    ('deacl-distance', 'deacl', lambda h, ha, ht, lam: (unit(h)-unit(ht)).square().sum(1).mean()/2+lam*(unit(ha)-unit(h)).square().sum(1).mean()/2),
    ('deacl-library', 'deacl', lambda h, ha, ht, lam: -cos(h, ht)-lam*cos(ha, h)),
    ('strength-library', 'strength', strength_at),
    ('strength-tensor', 'strength', lambda p, s: 1-torch.tensor(min(p, 1-1e-6)*s).floor()/s),
    ('strength-steps', 'strength', lambda p, s: next(1-k/s for k in reversed(range(s)) if p>=k/s)),
    ('learner-F6-pgd-library', 'pgd', lambda l, x, e, a, s: PGD(Linf(e), alpha=a, steps=s)(l, x)),
    ('pgd-difference', 'pgd', lambda *a: ascent(*a, delta=True)),
    ('pgd-backward', 'pgd', lambda *a: ascent(*a, backward=True)),
    ('pgd-random-start', 'pgd', lambda l, x, e, a, s: checks.my_pgd(l, (x+torch.empty_like(x).uniform_(-e, e)).clamp(0,1), 0, 0, 0) if not s else PGD(Linf(e), alpha=a, steps=s)(l, x)),
    ('pgd-minmax', 'pgd', lambda l, x, e, a, s: ascent(l, x, e, a, s).clamp(0,1)),
    ('nt_xent-library', 'nt_xent', lambda z1, z2, t: nt_xent(z1, z2, t=t)),
    ('nt_xent-rows', 'nt_xent', by_rows),
    ('nt_xent-half-sums', 'nt_xent', lambda z1, z2, t: my_nt_xent(z2, z1, t)),
    ('acl-library', 'acl', acl_in_turns),
    ('dual_bn-attributes', 'dual_bn', ByName),
    ('dual_bn-state', 'dual_bn', ByState),
    ('sir-library', 'sir', lambda z1, z2, z0, t: sir(z1, z2, z0, t)),
    ('sir-kl_div', 'sir', sir_by_kl_div),
    ('sir-kl', 'sir', lambda z1, z2, z0, t: kl(*[(F.cosine_similarity(z, z0)/t).softmax(0) for z in (z1,z2)])),
    ('false_negatives-loop', 'false_negatives', lambda y: sum(float((y==a).sum()-1)/(len(y)-1) for a in y)/len(y)),
    ('false_negatives-eye', 'false_negatives', lambda y: ((y[:,None]==y)&~torch.eye(len(y), dtype=torch.bool)).float().sum()/(len(y)*(len(y)-1))),
    ('greedy-sets', 'greedy', greedy_by_sets),
    ('greedy-tuple', 'greedy', lambda *a: tuple(greedy(*a))),
    ('speedup-floor', 'speedup', lambda E, W, k, every, c: E/(W+(E-W)*k-(-(E-W)//every)*c)),
    ('lora-reshape', 'lora', lambda W, A, B, rank: W.clone()+torch.matmul(B, A).reshape(W.shape).div(rank)),
    ('lora-torch-add', 'lora', lambda W, A, B, rank: torch.add(W, (B@A).reshape_as(W), alpha=1/rank)),
    ('cost-order', 'cost', lambda n, e, p, f, k, s, g: (n/g)*(e/3600)*(p/s)*(f/k)),
    ('bpda-function', 'bpda', Round.apply),
    ('bpda-other-order', 'bpda', lambda x: ((x*8).round()/8-x).detach()+x),
    ('slope-two-sided', 'slope', lambda l, x, t: my_slope(l, x, t)),
    ('attack-solution', 'attack', my_attack),
    ('attack-many', 'attack', lambda clf, x, y: my_attack(clf, x, y, steps=40)),
]
right += [(f'solution-{k}', k, f) for k,f in solutions.items()]

def no_projection_on_the_way(l, x, e, a, s):
    "learner F5, as it was given"
    b = x.clone()
    for _ in range(s):
        b = b.detach().requires_grad_()
        g, = torch.autograd.grad(l(b), b)
        b = b.detach()+a*g.sign()
    return (x+(b-x).clamp(-e, e)).clamp(0, 1)

class Lazy(ByName):
    def forward(self, x, branch): return self.clean(x)

def stepping(*order):
    "A step of training whose parts come in another order"
    def step(loss_of, opt, x):
        loss = loss_of(x)
        for do in order: loss.backward() if do=='backward' else getattr(opt, do)()
        return loss.item()
    return step

wrong = [ # id, exercise, a wrong answer
    ('step-keeps-old-gradients', 'step', stepping('backward','step')),
    ('step-forgets-what-it-found', 'step', stepping('backward','zero_grad','step')),
    ('step-twice', 'step', stepping('zero_grad','backward','step','step')),
    ('step-never', 'step', stepping('zero_grad','backward')),
    ('step-returns-nothing', 'step', lambda *a: my_step(*a) and None),
    ('learner-F5-pgd-projects-once', 'pgd', no_projection_on_the_way),
    ('learner-F5-pgd-always-50', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, e, a, 50)),
    ('learner-F5-sir-no-gradient', 'sir', lambda *a: sir(*a).item()),
    ('pgd-twice-the-steps', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, e, a, 2*s)),
    ('pgd-alpha-is-eps', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, e, e, s)),
    ('pgd-half-alpha', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, e, a/2, s)),
    ('pgd-eps-8', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, 8/255, a, s)),
    ('pgd-one-gradient', 'pgd', lambda l, x, e, a, s: my_pgd(l, x, e, e, 1)),
    ('pgd-noise', 'pgd', lambda l, x, e, a, s: (x+torch.empty_like(x).uniform_(-e, e)).clamp(0,1)),
    ('pgd-projects-onto-the-last', 'pgd', lambda l, x, e, a, s: my_pgd(l, my_pgd(l, x, e, a, s-1), e, a, 1)),
    ('sir-detached-second-view', 'sir', lambda a, b, c, t: my_sir(a, b.detach(), c, t)),
    ('sir-default-temperature', 'sir', lambda a, b, c, t: my_sir(a, b, c, .5)),
    ('sir-released', 'sir', lambda *a: sir(*a, released_kl)),
    ('sir-other-original', 'sir', lambda a, b, c, t: my_sir(a, b, a, t)),
    ('sir-symmetric', 'sir', lambda a, b, c, t: (my_sir(a, b, c, t)+my_sir(b, a, c, t))/2),
    ('nt_xent-detached', 'nt_xent', lambda a, b, t: my_nt_xent(a, b.detach(), t)),
    ('nt_xent-squared-temperature', 'nt_xent', lambda a, b, t: my_nt_xent(a, b, t**2*2)),
    ('nt_xent-clip', 'nt_xent', lambda a, b, t: F.cross_entropy(unit(a)@unit(b).T/t, torch.arange(len(a)))),
    ('nt_xent-constant', 'nt_xent', lambda a, b, t: torch.tensor(math.log(2*len(a)-1), requires_grad=True)),
    ('acl-own-contrast', 'acl', lambda e, c, a, v1, v2: my_acl(e, nt_xent, a, v1, v2)),
    ('acl-no-gradient', 'acl', lambda *a: my_acl(*a).item()),
    ('acl-detached-adv', 'acl', lambda e, c, a, v1, v2: my_acl(lambda *v, bn='clean': [z.detach() if bn=='adv' and not v[0].requires_grad else z for z in e(*v, bn=bn)], c, a, v1, v2)),
    ('dual_bn-one-used', 'dual_bn', Lazy),
    ('dual_bn-always-three', 'dual_bn', lambda bn: MyDualBN(nn.BatchNorm2d(3))),
    ('strength-always-four', 'strength', lambda p, s: strength_at(p, 4)),
    ('strength-rounds', 'strength', lambda p, s: 1-min(round(p*s), s-1)/s),
    ('strength-to-zero', 'strength', lambda p, s: 1-math.floor(p*s)/(s-1)),
    ('false_negatives-this-batch', 'false_negatives', lambda y: 8/42),
    ('false_negatives-first-anchor', 'false_negatives', lambda y: float((y==y[0]).sum()-1)/(len(y)-1)),
    ('deacl-lam-two', 'deacl', lambda h, ha, ht, lam: loss(h, ha, ht, 2.)),
    ('deacl-detached-view', 'deacl', lambda h, ha, ht, lam: loss(h, ha, ht, 0)+lam*(F.cosine_similarity(h, ha.detach())*0).mean()-lam*F.cosine_similarity(ha, h.detach()).mean()),
    ('deacl-item', 'deacl', lambda *a: loss(*a).item()),
    ('greedy-own-move', 'greedy', lambda g, q, k, move: greedy(g, q, k, lambda d: q-.6*d)),
    ('greedy-always-four', 'greedy', lambda g, q, k, move: greedy(g, q, 4, move)),
    ('greedy-changes-grads', 'greedy', lambda g, q, k, move: [int((g@q).argmax()), *[0]*0, *greedy(g.mul_(1.1), q, k, move)[1:]]),
    ('speedup-every-ten', 'speedup', lambda E, W, k, every, c: faster(E, W, k, 10, c)),
    ('speedup-share-fixed', 'speedup', lambda E, W, k, every, c: faster(E, W, .1, every, c)),
    ('lora-rank-four', 'lora', lambda W, A, B, rank: natural(W, A, B, 4)),
    ('lora-detached-A', 'lora', lambda W, A, B, rank: natural(W, A.detach(), B, rank)),
    ('lora-square-kernels-only', 'lora', lambda W, A, B, rank: W+(B@A).view(5,3,3,3)/rank),
    ('cost-one-gpu-less', 'cost', lambda *a: hours(*a[:6], a[6]-1)),
    ('bpda-other-levels', 'bpda', lambda x: x+((x*7).round()/7-x).detach()),
    ('bpda-shape', 'bpda', lambda x: my_rounding(x).view(4,1,8,8)),
    ('slope-fixed-t', 'slope', lambda l, x, t: my_slope(l, x, .01)),
    ('slope-always-one', 'slope', lambda l, x, t: 1.),
    ('slope-squared', 'slope', lambda *a: my_slope(*a)**2),
    ('learner-F6-attack-library-last-point', 'attack', PGD(Linf(8/255), steps=40)),
    ('attack-clean', 'attack', lambda clf, x, y: x),
]

def told(key, f): return checkers[key].told(f)

@pytest.mark.parametrize('key,f', [o[1:] for o in right], ids=[o[0] for o in right])
def test_right_is_accepted(key, f):
    passed,said = told(key, f)
    assert passed, said

@pytest.mark.parametrize('key,f', [o[1:] for o in wrong], ids=[o[0] for o in wrong])
def test_wrong_is_refused(key, f):
    passed,said = told(key, f)
    assert not passed and said.endswith('.') and '\n' not in said and 'Traceback' not in said

def arguments():
    for key,f in solutions.items():
        names = ['bn'] if key=='dual_bn' else f.__code__.co_varnames[:f.__code__.co_argcount]
        for i,name in enumerate(names[:3] if key=='attack' else names): yield key,i,name

class Stuck:
    "A solution that takes one argument as it was at its first call, ever after"
    def __init__(self, f, i): self.f,self.i,self.first = f,i,[]
    def __call__(self, *args):
        args = list(args)
        if self.i<len(args):
            self.first.append(args[self.i].clone() if isinstance(args[self.i], torch.Tensor) else args[self.i])
            args[self.i] = self.first[0]
        return self.f(*args)

@pytest.mark.parametrize('key,i', [(k,i) for k,i,_ in arguments()], ids=[f'{k}-{n}' for k,_,n in arguments()])
def test_an_argument_that_is_not_used_is_noticed(key, i):
    "Every argument of every exercise: a solution that keeps the first one it was given is refused"
    assert not told(key, Stuck(solutions[key], i))[0]

def test_it_is_this_room_that_is_walked():
    assert set(solutions)|{'objective'}==set(checkers)
    assert len(right)+len(wrong)+len(list(arguments()))>=79+60

def test_the_library_says_why_its_attack_returns_the_last_point():
    assert 'as PGD does for training' in told('attack', PGD(Linf(8/255), steps=40))[1]

def test_a_demonstration_is_not_a_try(monkeypatch, capsys):
    from types import SimpleNamespace
    monkeypatch.setattr(course, '_book', SimpleNamespace(predictions={}, exercises={}, file=None))
    course.exercise('sir')
    assert course.demonstrate('sir', my_sir) and checkers['sir'].demonstrate(my_sir)
    assert '✓ sir' in capsys.readouterr().out and course._book.exercises['sir']=={'title':checkers['sir'].task, 'tries':0, 'solved':False}
    course.progress()
    assert '0 of 1 exercises solved' in capsys.readouterr().out

@pytest.mark.parametrize('key', checkers)
def test_task_hint_and_solution_are_here(key):
    e = checkers[key]
    assert e.task!=e.key and e.hint and 'def ' in e.text()
