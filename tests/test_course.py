"The course's own tools: every exercise accepts what is right and tells at least three mistakes apart; guesses are locked; nothing stops a run"
import json, math
from copy import deepcopy
import pytest, torch
import torch.nn.functional as F
from torch import nn
from robustfm.teach import course
from robustfm.attacks import PGD
from robustfm.teach import *
from robustfm.losses import cos,kl,nt_xent,unit
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR,agreement,kl_reversed,released_kl,rowwise,sir
from robustfm.methods.dynacl import DynACL,strength_at
from robustfm.costs import speedup
from robustfm.methods.rocl import RoCL
from robustfm.tools import evaluating
from robustfm.objective import Objective,SimCLR

@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    "Each test has a book of its own"
    from types import SimpleNamespace
    monkeypatch.setattr(course, '_book', SimpleNamespace(predictions={}, exercises={}, file=None))
    monkeypatch.setattr(course, '_waiting', {})

# --- right answers and wrong ones

def pgd(loss, x, eps, alpha, steps, sign=1, keep=True, clamp=True, anew=True, ball=True, grad=torch.sign, copy=True):
    a = x.clone() if copy else x
    for i in range(steps):
        if anew or not i:
            o = a.detach().clone().requires_grad_(); g, = torch.autograd.grad(loss(o), o)
        a = a.detach() if copy else a
        d = a + sign*alpha*grad(g) - x if copy else alpha*grad(g)
        if ball: d = d.clamp(-eps, eps)
        a = x+d if copy else x.add_(d)
        if clamp: a = a.clamp(0,1)
    return a

def with_(f, **kw): return lambda *a: f(*a, **kw)

def contrast(z1, z2, t, mine=True, norm=True, both=True, self=False, other=False, reduce=torch.mean):
    z = torch.cat([z1,z2]); z = unit(z) if norm else z
    n = len(z1); s = z@z.T/t
    if not self: s = s.masked_fill(torch.eye(2*n).bool(), -torch.inf)
    if other: s = s.masked_fill(torch.eye(2).bool().repeat_interleave(n,0).repeat_interleave(n,1), -torch.inf)
    i = torch.arange(2*n)
    l = -s.log_softmax(1)[i,(i+n)%(2*n)]
    return reduce(l if both else l[:n])

def acl(embed, contrast, attack, v1, v2, scale=.5, look='adv', through='adv', clean=True, adv=True, joint=True):
    l = lambda *a: contrast(*embed(*a, bn=look))
    a = attack(l, v1, v2) if joint else (attack(lambda a: l(a, v2), v1), attack(lambda a: l(v1, a), v2))
    return scale*(clean*contrast(*embed(v1, v2, bn='clean')) + adv*contrast(*embed(*a, bn=through)))

class Norms(nn.Module):
    def __init__(self, bn, make=deepcopy, keep=nn.ModuleDict, both=False, only=None):
        super().__init__(); self.bns,self.both,self.only = keep({b:make(bn) for b in ('clean','adv')}),both,only
    def forward(self, x, branch):
        if self.both: return [b(x) for b in self.bns.values()][branch=='adv']
        return self.bns[self.only or branch](x)

def plain_norm(bn): return nn.BatchNorm2d(bn.num_features)
def one_bn(bn): one = deepcopy(bn); return Norms(bn, make=lambda _: one)
def shared_weight(bn):
    m = Norms(bn); m.bns['adv'].weight = m.bns['clean'].weight; m.bns['adv'].bias = m.bns['clean'].bias
    return m

def my_sir(z1, z2, z0, t, div=kl, norm=True):
    u = unit if norm else (lambda z: z)
    p,q = (torch.softmax((u(z)*u(z0)).sum(1)/t, 0) for z in (z1,z2))
    return div(p, q)

def strength(p, stages): return 1-math.floor(min(p, 1-1e-6)*stages+1e-9)/stages

def false_negatives(y): n = len(y); return ((y[:,None]==y).sum()-n)/(n*(n-1))

answers = dict(
    pgd=(pgd, [with_(pgd, sign=-1), with_(pgd, ball=False), with_(pgd, grad=lambda g: g), with_(pgd, clamp=False), with_(pgd, anew=False), with_(pgd, copy=False),
               lambda l,x,e,a,s: x.clone(), lambda l,x,e,a,s: pgd(l,x,e,a,s)[:1], lambda l,x,e,a,s: pgd(l,x,e,a,1), lambda l,x,e,a,s: pgd(l,x,e,a,s).requires_grad_()]),
    nt_xent=(contrast, [with_(contrast, self=True), with_(contrast, norm=False), with_(contrast, both=False), with_(contrast, other=True), with_(contrast, reduce=torch.sum),
                        lambda a,b,t: contrast(a,b,.5), lambda a,b,t: -contrast(a,b,t), lambda a,b,t: contrast(a,b.roll(1,0),t), lambda a,b,t: contrast(a,b,t).item()]),
    acl=(acl, [with_(acl, scale=1.), with_(acl, clean=False), with_(acl, adv=False), with_(acl, through='clean'), with_(acl, look='clean'), with_(acl, joint=False),
               with_(acl, look='clean', through='clean'), lambda e,c,a,v1,v2: c(*e(v1,v2))]),
    dual_bn=(Norms, [lambda bn: bn, with_(Norms, make=plain_norm), with_(Norms, keep=dict), one_bn, shared_weight, with_(Norms, make=lambda b: b), with_(Norms, both=True), with_(Norms, only='clean')]),
    sir=(my_sir, [with_(my_sir, div=released_kl), with_(my_sir, div=kl_reversed), with_(my_sir, div=lambda p,q: kl(p,q)/len(p)), with_(my_sir, norm=False),
                  lambda *a: sir(*a, rowwise), lambda a,b,c,t: my_sir(a,b,c,1.), lambda a,b,c,t: my_sir(a,b,c,t)+.1]),
    strength=(strength, [lambda p,s: 1-p, lambda p,s: math.floor(p*s)/s, lambda p,s: 1., lambda p,s: 1-math.floor(p*s)/s, lambda p,s: 1-math.ceil(p*s)/s,
                         lambda p,s: 1-math.floor(min(p,1-1e-6)*(s-1)+1e-9)/(s-1)]),
    false_negatives=(false_negatives, [lambda y: (y[:,None]==y).float().mean(), lambda y: ((y[:,None]==y).sum()-len(y))/len(y)**2, lambda y: 1/len(y.unique()), lambda y: 1-false_negatives(y),
                                       lambda y: (y[:,None]==y).sum()/(len(y)*(len(y)-1))]))

# --- chapters 7 to 12

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

def step(loss_of, opt, x, order=('zero_grad','backward','step'), say=lambda l: l.item()):
    loss = loss_of(x)
    for do in order: loss.backward() if do=='backward' else getattr(opt, do)()
    return say(loss)

answers |= dict(
    step=(step, [lambda *a: step(*a, order=('backward','step')), lambda *a: step(*a, order=('step','zero_grad','backward')), lambda *a: step(*a, order=('zero_grad','backward')), lambda *a: step(*a, say=lambda l: 2*l.item())]),
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
                        terms(lambda o,x,y,d: d|dict(tether=-d['tether'])), type('Changed', (terms(lambda o,x,y,d: d|dict(near=F.cosine_similarity(*o.net.embed(x, o.augment(x))).mean())),), dict(side_by_side=True)),
                        changed(terms=lambda o,x,y=None: Tether.terms(o.eval(), x, y)), changed(__init__=no_super), changed(terms=lambda o,x,y=None: None)]))

# --- what holds of all

def test_every_exercise_has_answers_here():
    assert set(answers)==set(checkers)

@pytest.mark.parametrize('key', answers)
def test_right_is_accepted(key, capsys):
    assert check(key, answers[key][0]), capsys.readouterr().out
    assert course._book.exercises[key]['solved']

@pytest.mark.parametrize('key', answers)
def test_wrong_ones_are_told_apart(key, capsys):
    right,wrong = answers[key]
    said = set()
    for i,f in enumerate(wrong):
        assert not check(key, f), f'wrong answer {i} was accepted'
        out = capsys.readouterr().out
        assert out.startswith(f'✗ {key}: ') and out.count('\n')==1 and 'Traceback' not in out and 'cannot be used' not in out, (i, out)
        said.add(out)
    assert len(said)==len(wrong), said
    assert len(said)>=3 and not course._book.exercises[key]['solved']

@pytest.mark.parametrize('key', answers)
def test_bad_input_is_one_sentence(key, capsys):
    def stub(*a): ...
    def broken(*a): raise RuntimeError('boom\nsecond line')
    def divides(*a): return 1/0
    for f,says in ((None,'no function yet'), (3,'no function yet'), (stub,'returns None'), (broken,'boom; look first at its line `def broken(*a): raise'), (divides,'ZeroDivisionError'),
                   (lambda: 1,'arguments, in number and order'), (lambda *a: 'text',''), (lambda *a: torch.zeros(3,3,3),''), (lambda *a: float('nan'),''), (lambda *a: [1],''), (lambda *a: exit(),'SystemExit')):
        assert check(key, f) is False
        out = capsys.readouterr().out
        assert out.startswith(f'✗ {key}: ') and says in out and out.count('\n')==1, out

def test_the_random_state_of_the_reader_stays():
    torch.manual_seed(3); a = torch.rand(1); torch.manual_seed(3); check('sir', my_sir)
    assert torch.equal(torch.rand(1), a)

def test_weights_that_get_gradients_are_remarked(capsys):
    def f(loss, x, eps, alpha, steps):
        a = x.clone()
        for _ in range(steps):
            a = a.detach().requires_grad_(); loss(a).backward()
            a = (x+(a.detach()+alpha*a.grad.sign()-x).clamp(-eps, eps)).clamp(0,1)
        return a
    assert check('pgd', f) and 'weights' in capsys.readouterr().out

def test_unknown_exercise():
    with pytest.raises(ValueError, match="key='pdg' is unknown: choose one of .*'pgd'"): check('pdg', pgd)

# --- guesses

def test_a_click_locks(capsys):
    p = predict('k', 'how many <b>?', low=0, high=100, unit='%')
    box = p.box()
    p.control.value = 30; p.button.click()
    assert p.control.disabled and p.button.disabled and 'locked: 30 %' in p.says.value
    with pytest.raises(ValueError, match='is locked'): p.lock(31)
    reveal('k', 33.3, tolerance=5)
    assert 'you guessed 30 %, it is 33.3 %: right' in capsys.readouterr().out
    again = predict('k', 'how many?', low=0, high=100, unit='%')
    again.box()
    assert again.control.disabled and again.control.value==30

def test_choice_needs_a_choice(capsys):
    p = predict('c', 'which?', options=['a','b']); p.box(); p.button.click()
    assert 'choose one' in p.says.value and 'guess' not in p.entry
    p.control.value = 'b'; p.button.click()
    reveal('c', 'a')
    assert 'you guessed b, it is a: surprised' in capsys.readouterr().out

def test_run_all_never_stops(capsys):
    predict('k', '?', options=[1,2]); reveal('k', 1); reveal('never asked', torch.tensor(.5))
    assert capsys.readouterr().out.count('no guess was locked')==2
    course._book.predictions['k']; p = predict('k', '?', options=[1,2]); p.lock(1); reveal('k', 1)
    assert 'after the answer was shown' in capsys.readouterr().out

@pytest.mark.parametrize('kw,says', [({},'give options'), (dict(low=1),'give options'), (dict(low=1, high=1),'must be below'), (dict(options=[1], low=0, high=1),'give options')])
def test_a_question_must_be_answerable(kw, says):
    with pytest.raises(ValueError, match=says): predict('k', '?', **kw)

def test_progress_is_kept_and_read_again(tmp_path, capsys):
    file = tmp_path/'p.json'
    predict('one', 'first?', low=0, high=1).lock(.5)
    progress(save=file)
    exercise('sir')
    check('sir', my_sir)
    course._book.predictions,course._book.exercises,course._book.file = {},{},None
    progress(save=file)
    assert course._book.predictions['one']['guess']==.5 and course._book.exercises['sir']['solved']
    assert '1 of 1 guesses locked, 1 of 1 exercises solved' in capsys.readouterr().out
    file.write_text('[1]')
    with pytest.raises(ValueError, match='not a progress file'): progress(save=file)

def test_what_is_shown_is_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(course, '_show', lambda rich,plain: shown.append(rich))
    bad = '<script>x</script>'
    monkeypatch.setitem(checkers, 'k', course.Exercise('k', bad, bad, bad, None)); exercise('k'); predict('k', bad, options=[bad]); progress(); budget(dict(a=bad), note=bad)
    assert len(shown)==4 and all('<script' not in o for o in shown) and shown[0].count('<details>')==2

# --- budgets, stored results

def test_budget_by_environment(monkeypatch, capsys):
    rungs = dict(laptop=dict(n=1, minutes=.4), t4=dict(n=2, minutes=15), full=dict(n=3, minutes=6000))
    assert budget(**rungs).n==1
    assert 'laptop (two CPU cores, under a minute): n=1' in (out := capsys.readouterr().out) and 'estimated 15 minutes' in out and 'estimated 100 hours' in out
    monkeypatch.setenv('ROBUSTFM_BUDGET', 'T4'); b = budget(**rungs); assert (b.n,b.name)==(2,'t4')
    monkeypatch.setenv('ROBUSTFM_BUDGET', 'h100')
    with pytest.raises(ValueError, match="choose one of 'laptop', 't4', 'full'"): budget(**rungs)

def test_stored_results_say_where_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path); (tmp_path/'results').mkdir()
    monkeypatch.setattr(course, 'tutorials_folder', lambda: tmp_path) # whatever this checkout keeps
    put = lambda name,text: (tmp_path/'results'/f'{name}.json').write_text(text)
    put('good', json.dumps(dict(provenance=dict(command='x', seeds=5), rows=[1]))); put('bare', '{"rows":[1]}'); put('broken', '{')
    assert stored('good')['rows']==[1] and 'not computed here. command: x; seeds: 5' in capsys.readouterr().out
    for name,says in (('bare','does not say where'), ('broken','is not JSON'), ('none','known are bare, broken.*good'), ('../good','no name')):
        with pytest.raises((ValueError,FileNotFoundError), match=says): stored(name)

# --- chapter 11

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