"Threads that share random numbers and modes of networks: a training, an evaluation, a second training"
import threading
import pytest, torch
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.evaluation import evaluate
from robustfm.finetuning import Classifier
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import RCS,divergence
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.rendering import shapes
from robustfm.runs import pretrain
from robustfm.tools import evaluating,measuring,seeded,turn
from robustfm.train import steps

FAULTS = [('breaker-2.5', 'threads', 'test_a_training_is_not_disturbed'), ('breaker-2.6', 'threads', 'test_two_at_once_are_as_one_after_the_other'),
          ('breaker-2.7', 'threads', 'test_two_at_once_are_as_one_after_the_other'), ('breaker-2.7', 'threads', 'test_a_training_is_not_disturbed')]

x,y = shapes(32, size=8),shapes(64, 1, 8)

def net():
    with seeded(0): return Encoder(tiny(3, 4), ('clean','adv'))
def clf(n=None):
    with seeded(0): return Classifier(n or net(), 10)
def some(n=16): return Images(y.x[:n], y.y[:n]%10)
def train(n=None, **kw):
    o = ACL(n or net(), views(), PGD(Linf(.1), steps=1))
    h = pretrain(o, Batches(x, bs=8), 4, opt='adam', show=False, **kw)
    return h['loss'],[v.clone() for v in o.state_dict().values()]

def same(a, b): return a[0]==b[0] and all(v.equal(w) for v,w in zip(a[1], b[1]))

def at_once(*fs):
    "Results of functions that ran in threads of their own, begun together"
    out,gate = [None]*len(fs),threading.Barrier(len(fs))
    def go(i):
        gate.wait(20)
        try: out[i] = fs[i]()
        except BaseException as e: out[i] = e
    ts = [threading.Thread(target=go, args=(i,), daemon=True) for i in range(len(fs))]
    for t in ts: t.start()
    for t in ts: t.join(100)
    for o in out:
        if isinstance(o, BaseException): raise o
    return out

@pytest.fixture(scope='module')
def alone(): return train()

def outside(f):
    "Does `f` in another thread, over and over, until told to stop"
    stop,done,failed = threading.Event(),[],[]
    def go():
        try:
            while not stop.is_set(): done.append(f())
        except BaseException as e: failed.append(e)
    t = threading.Thread(target=go, daemon=True)
    t.start()
    def end():
        stop.set(); t.join(60)
        if failed: raise failed[0]
        return done
    return end

def quick(c): return evaluate(c, some(), ('clean','pgd20'), eps=.1, checks=None, show=False)

def drawn(n):
    with seeded(3): return torch.rand(5)

others = {'breaker-2.5-evaluate-its-network': lambda n: quick(clf(n)), 'breaker-2.7-evaluate-another': lambda n: quick(clf()),
          'breaker-2.5-divergence': lambda n: divergence(n, y.x[:8], PGD(Linf(.1), steps=2)),
          'breaker-2.5-features': lambda n: measured(n), 'breaker-2.5-mode': lambda n: mode(n), 'breaker-2.7-seeded': drawn}

def measured(n):
    with measuring(n): return n.features(y.x[:8]/255.)
def mode(n):
    with evaluating(n): return n.training

@pytest.mark.parametrize('other', others.values(), ids=others)
def test_a_training_is_not_disturbed(alone, other):
    "Neither its losses nor the modes of its network, whatever another thread measures meanwhile"
    n   = net()
    end = outside(lambda: other(n))
    try: got = train(n)
    finally: done = end()
    assert done and same(got, alone) and all(m.training for m in n.modules())

def test_what_is_measured_is_of_one_moment():
    "No step is taken while an evaluation looks: both attacks see the same network"
    n = net()
    def look():
        with measuring(n): return [measured(n) for _ in range(5)]
    end = outside(look)
    try: train(n)
    finally: done = end()
    assert all(a.equal(b) for zs in done for a,b in zip(zs, zs[1:]))

def test_an_evaluation_in_a_callback():
    "The thread that trains may measure between its steps"
    n,found = net(),[]
    o = ACL(n, views(), PGD(Linf(.1), steps=1))
    pretrain(o, Batches(x, bs=8), 2, opt='adam', show=lambda h: found.append(quick(clf(n))))
    assert len(found)==2 and all(m.training for m in n.modules())

def rates(o, **kw): return [float(s.loss) for s in steps(o, Batches(x, bs=8), 'adam', 2, seed=0, **kw)]
def simclr(): return SimCLR(net(), views())
def coreset():
    o = ACL(net(), views(), PGD(Linf(.1), steps=1))
    return pretrain(o, RCS(o, x, y, .5, 1, 1, bs=8), 3, opt='adam', show=False)['loss']
def verdicts(): return [(v.name,v.status,v.seen) for v in evaluate(clf(), some(), ('clean','pgd20'), eps=.1, show=False).verdicts]
pairs = {'breaker-2.6-two-evaluations': (verdicts, verdicts), 'breaker-2.7-two-trainings': (lambda: train()[0], lambda: train()[0]),
         'breaker-2.7-a-training-and-an-evaluation': (lambda: train()[0], verdicts), 'breaker-2.7-a-coreset': (coreset, coreset),
         'breaker-2.7-another-method': (lambda: pretrain(simclr(), Batches(x, bs=8), 3, show=False)['loss'], lambda: train()[0])}

@pytest.mark.parametrize('fs', pairs.values(), ids=pairs)
def test_two_at_once_are_as_one_after_the_other(fs):
    assert at_once(*fs)==[f() for f in fs]

def test_a_generator_that_is_left_gives_the_turn_back():
    for _ in steps(simclr(), Batches(x, bs=8), 'adam', 2): break
    ended = []
    def take():
        if turn.acquire(timeout=10): turn.release(); ended.append(1)
    t = threading.Thread(target=take); t.start(); t.join(20)
    assert ended

def test_a_step_that_fails_gives_the_turn_back():
    class Broken(SimCLR):
        def terms(self, x, y): raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError): next(steps(Broken(net(), views()), Batches(x, bs=8), 'adam', 1))
    assert at_once(lambda: turn.acquire(timeout=10) and (turn.release(), True)[1])==[True]

def test_numbers_go_on_as_they_were_after_a_training():
    torch.manual_seed(5); want = torch.rand(3)
    torch.manual_seed(5)
    o = simclr(); torch.manual_seed(5)
    pretrain(o, Batches(x, bs=8), 1, show=False)
    assert torch.rand(3).equal(want)
