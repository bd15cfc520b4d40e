"Coresets against straightforward loops, across processes, and after being killed"
import copy, itertools, math
from dataclasses import replace
import numpy as np, pytest, torch
import torch.nn.functional as F
from torch import nn
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.datasets import digits
from robustfm.tools import evaluating,seeded,to_float
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import RCS,SAT,Head,Random,GradientTable,distances,divergence,gradients,greedy,ot_distance
from robustfm.costs import forecast,ledger,speedup
from robustfm.models import Encoder,projector,tiny
from robustfm.objective import Objective
from robustfm.train import steps
from robustfm.runs import open_run,pretrain
from rcs_reference import recorded, selection

train,valid,_ = digits()
train,valid = train[:540],valid[:96]
weak = PGD(Linf(.15), alpha=.05, steps=2)

def acl(seed=0, **kw):
    torch.manual_seed(seed)
    return ACL(Encoder(tiny(width=4)), views(flip=0), weak, **kw)

def warmed(seed=0, n=4, **kw):
    "An objective whose norms have seen images"
    o = acl(seed, **kw)
    opt = torch.optim.Adam(o.parameters(), 2e-3)
    for x,y in itertools.islice(Batches(train, 64, seed), n):
        opt.zero_grad(); o(x)[0].backward(); opt.step()
    opt.zero_grad()
    return o

def fingerprint(o): return {**{k:v.clone() for k,v in o.state_dict().items()}, **{f'{n}.mode':m.training for n,m in o.named_modules()}, **{f'{n}.grad':(p.requires_grad,p.grad) for n,p in o.named_parameters()}}
def same(a, b): return a.keys()==b.keys() and all(torch.equal(v, b[k]) if torch.is_tensor(v) else v==b[k] for k,v in a.items())

# --- the same numbers as a straightforward loop

@pytest.mark.parametrize('seed', range(3))
def test_faithful_is_the_straightforward_loop(seed):
    o = recorded(warmed(seed))
    rcs = RCS(o, train, valid, .25, 0, bs=16, mode='faithful', attack_steps=None, at_once=160, seed=seed, eta=.05)
    table = rcs.table(3)
    said,starts = list(o.augment.said),list(o.attack.said)
    _,rec = rcs.select(3)
    picks,naive,_ = selection(rcs, 3, said, starts)
    off = (table.rows-naive).norm(dim=1)/naive.norm(dim=1)
    assert (off<1e-5).double().mean()>.8 and off.max()<.1                   # a pixel whose gradient is nearly 0 may go the other way: in few batches, and of little weight
    assert len(picks)>=9 and rec['batches'].tolist()==picks

def test_table_does_not_depend_on_how_much_goes_at_once():
    o = warmed(); o.augment,o.attack = lambda x: x.roll(1, 3),replace(weak, start='none')
    batches = RCS(o, train, valid, .2, 0, bs=16).candidates(0)
    a,b = (gradients(o, train, batches, at_once=n).rows for n in (16,512))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)

def test_greedy_is_the_exhaustive_argmax_of_the_linearised_objective():
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        M,K,D = 9,4,12
        table = GradientTable(torch.randn(M, D, generator=g), [5]*M)
        q = torch.randn(D, generator=g)
        value = {s: float(sum(table.rows[i]@q for i in s)) for s in itertools.combinations(range(M), K)}
        best = max(value, key=value.get)
        for move in (None, lambda g: q):
            picks,*_ = greedy(table, q, 20, move)
            assert tuple(sorted(picks))==best and picks==table.gains(q).topk(K).indices.tolist()

# --- what was there is there

@pytest.mark.parametrize('kw', [dict(mode=m) for m in ('fast','faithful','released')] + [dict(sketch=8), dict(params='features'), dict(distance='ot'), dict(precision='bf16')], ids=str)
def test_choosing_leaves_no_trace(kw):
    o = warmed(); o.net.g.eval(); o.net.f[0].weight.requires_grad_(False)
    before,rng = fingerprint(o),torch.get_rng_state()
    rcs = RCS(o, train, valid, .2, 0, bs=32, at_once=128, **kw)
    rcs.set_epoch(0)
    s = rcs.selections[0]
    assert same(fingerprint(o), before) and rng.equal(torch.get_rng_state()) and o.attack is weak
    assert len(set(s['indices'].tolist()))==len(s['indices'])==(96 if kw.get('mode')=='released' else 108)
    assert np.isfinite([s[k] for k in ('divergence_before','divergence_after','divergence_random','seconds','units','overlap_random')]).all()
    again = RCS(o, train, valid, .2, 0, bs=32, at_once=128, **kw); again.set_epoch(0)
    assert (again.selections[0]['indices']==s['indices']).all()

def test_no_trace_even_when_it_fails():
    o = warmed(); before,old = fingerprint(o),o.terms
    o.net.g[0].weight.data[0,0] = float('nan')
    bad = fingerprint(o)
    with pytest.raises(FloatingPointError, match=r'gradient of batch 0 \(images'): RCS(o, train, valid, .2, 0, bs=32).set_epoch(0)
    assert {k for k,v in fingerprint(o).items() if k.endswith(('mode','grad')) and v!=bad[k]}==set() and o.attack is weak

def test_nan_names_the_batch_and_nothing_is_trained_on():
    o = warmed(); rcs = RCS(o, train, valid, .2, 0, bs=32)
    where = rcs.candidates(0)[5][3]
    real = o.augment
    def broken(x):
        v = real(x)
        v[(x==to_float(train.x[where])).all((1,2,3))] = float('nan')
        return v
    o.augment = broken
    with pytest.raises(FloatingPointError, match='gradient of batch 5 '): next(iter(pretrain(o, rcs, 1, show=False)))
    assert rcs.selections==[]

# --- released

def test_released_distances():
    a,z = torch.tensor([[0.,1,2,4],[3,1,0,1]]),torch.tensor([[0.,2,2,4],[3,0,1,1]])
    mm = lambda v: (v-v.min(1,True)[0])/(v.max(1,True)[0]-v.min(1,True)[0])+1e-8
    p,q = mm(a),mm(z)
    assert math.isclose(distances['released_kl'](a, z).mean(), (p*(p.log()-q.log())).mean(), rel_tol=1e-5)
    assert distances['released_kl'](torch.tensor([[0.,1,2]]), torch.tensor([[0.,1.9,2]]))<0              # no divergence is negative
    P,Q = z.softmax(1),a.softmax(1); m = (P+Q)/2
    assert torch.allclose(distances['released_js'](a, z), ((m*(m/P).log()).mean(1)+(m*(m/Q).log()).mean(1))/2, atol=1e-6)
    assert torch.allclose(distances['js'](a, z), ((P*(P/m).log()).sum(1)+(Q*(Q/m).log()).sum(1))/2, atol=1e-6)
    assert torch.allclose(distances['kl'](a, z), (P*(P/Q).log()).sum(1), atol=1e-6)

def test_optimal_transport_is_the_best_assignment():
    from scipy.optimize import linear_sum_assignment
    torch.manual_seed(0)
    a,z = 3*torch.randn(12,6),3*torch.randn(12,6)
    cost = 1-F.cosine_similarity(z.softmax(1)[:,None], a.softmax(1)[None], dim=-1)
    i,j = linear_sum_assignment(cost)
    best = float(cost[i,j].mean())
    assert abs(float(ot_distance(a, z, eps=1e-3, iters=5000, tol=1e-9))-best)<2e-3
    assert best<=float(cost.diagonal().mean()) and float(ot_distance(a, z[torch.randperm(12)], eps=1e-3, iters=5000))<=best+2e-3
    a.requires_grad_()
    g = torch.autograd.grad(ot_distance(a, z, eps=.1, iters=5000, tol=1e-9), a)[0]
    assert g.isfinite().all() and g.abs().max()>0

def test_released_sketch_and_doubled_step():
    o = warmed()
    rcs = RCS(o, train, valid, .5, 0, bs=32, mode='released')
    table,head = rcs.table(0),Head(o.net)
    d = o.net.num_features
    assert table.rows.shape==(17, 3*d+1)                                    # 1,537 for the paper's 512
    assert torch.allclose(table.rows[4], torch.cat([l.mean(0) for l in head.matrices(table.gradient(4))]))
    moved = []
    real = Head.move
    def spy(self, g, lr): moved.append(lr); real(self, g, lr)
    Head.move = spy
    try: rcs.select(0)
    finally: Head.move = real
    assert moved==[.02]*9                                                   # eight picks and no step after the last; then the two comparisons

# --- budgets, periods, sources

def test_budgets_are_exact_and_nothing_else_is_trained_on():
    o = warmed()
    for rcs in (RCS(o, train, valid, .1, 1, 2, bs=32), RCS(o, train, valid, .1, 1, 2, bs=32, sketch=4), Random(train, .1, 1, 2, 32, 'refreshed'), Random(train, .1, 1, 2, 32)):
        assert sum(len(x) for x,_ in rcs)==len(train) and len(rcs)==17
        for e in range(1,4):
            rcs.set_epoch(e)
            seen = torch.cat(rcs.indices())
            assert sum(len(x) for x,_ in rcs)==len(seen)==round(.1*len(train)) and set(seen.tolist())==set(rcs.selections[-1]['indices'].tolist())
            assert all(torch.equal(x, to_float(train.x[i])) and torch.equal(y, train.y[i]) for (x,y),i in zip(rcs, rcs.indices()))
        assert [s['epoch'] for s in rcs.selections]==([1] if getattr(rcs, 'refresh', '')=='fixed' else [1,3])
        rcs.set_epoch(0)
        assert sum(len(x) for x,_ in rcs)==len(train)

def test_warmup_is_that_of_plain_batches():
    b,r = Batches(train, 64, 3),Random(train, .2, 2, bs=64, seed=3)
    for e in (0,1):
        b.set_epoch(e); r.set_epoch(e)
        assert all(map(torch.equal, b.indices(), r.indices()))

def test_an_epoch_out_of_turn_is_chosen_for():
    r = RCS(warmed(), train, valid, .1, 2, 3, bs=32)
    r.set_epoch(6); assert r.selections[-1]['epoch']==6 and r._now.since==5
    r.set_epoch(7); assert len(r.selections)==1
    r.set_epoch(8); assert len(r.selections)==2
    r.set_epoch(2); assert [s['epoch'] for s in r.selections]==[2]          # the run begins again

@pytest.mark.parametrize('bad,says', [
    (dict(fraction=0.), 'must be in'), (dict(fraction=1.1), 'must be in'), (dict(fraction=.02, bs=32), 'less than one batch'), (dict(mode='quick'), 'unknown'), (dict(params='all'), 'unknown'),
    (dict(distance='l2'), 'unknown'), (dict(pool=.1), 'pool'), (dict(every=0), 'every'), (dict(valid=valid[:0]), 'hold out more'), (dict(valid=valid[:7]), 'hold out more'), (dict(valid=train), 'also in the training set')], ids=str)
def test_bad_input(bad, says):
    kw = dict(dict(objective=acl(), train=train, valid=valid, fraction=.2, warmup=2, every=2, bs=32), **bad)
    with pytest.raises(ValueError, match=says): RCS(**kw)

def test_no_projector():
    class Bare(nn.Module):
        def features(self, x, bn=None): return x.flatten(1)
    with pytest.raises(ValueError, match='projector'): RCS(Objective(Bare()), train, valid, .2, bs=32)
    class Features(Objective):
        def terms(self, x, y=None): return dict(a=self.net.features(x).square().mean())
    with pytest.raises(ValueError, match='no gradient of Features reaches the projector'): RCS(Features(Encoder(tiny())), train, valid, .2, 0, bs=32).set_epoch(0)
    with pytest.raises(ValueError, match='refresh'): Random(train, refresh='often', bs=32)
    with pytest.raises(ValueError, match='less than one batch'): Random(train, .02, bs=32)

# --- other objectives

def test_every_objective():
    from robustfm.methods.advcl import AdvCL
    from robustfm.methods.ainfonce import AInfoNCE
    from robustfm.methods.air import AIR
    from robustfm.methods.deacl import DeACL
    from robustfm.methods.dynacl import DynACL
    from robustfm.methods.rocl import RoCL
    from robustfm.objective import SimCLR
    net,some,v = lambda: Encoder(tiny(width=4)),train[:192],views(flip=0)
    supervised = Encoder(tiny(width=4), ('adv',), projector(64, out=10, layers=1, norm=False))
    for o in (ACL(net(), v, weak, reg=AIR()), DynACL(net(), v, weak), DynACL(net(), v, weak, momentum=.9), SAT(supervised, None, weak),
              SimCLR(net(), v), AdvCL(net(), v, weak, ks=()), AInfoNCE(net(), v, weak, ks=()), RoCL(net(), v, weak)):
        rcs = RCS(o, some, valid[:32], .34, 1, 1, bs=64)
        h = pretrain(o, rcs, 2, opt='adam', show=False)
        assert len(rcs.selections)==1 and np.isfinite(h['loss']).all()
    deacl = DeACL(net(), net(), v, weak)
    with pytest.raises(ValueError, match="no gradient of DeACL reaches the projector.* pass params='features'"): RCS(deacl, some, valid[:32], .34, 0, bs=64).set_epoch(0)
    rcs = RCS(deacl, some, valid[:32], .34, 0, 1, bs=64, params='features')
    assert np.isfinite(pretrain(deacl, rcs, 1, opt='adam', show=False)['loss']).all() and rcs.selections[0]['divergence_after']!=rcs.selections[0]['divergence_before']

def test_strength_of_dynacl_reaches_the_table():
    from robustfm.methods.dynacl import DynACL
    said = []
    class Spy:
        def __call__(self, x, s): said.append(s); return x
    o = DynACL(Encoder(tiny(width=4)), Spy(), weak); o.progress = .5
    RCS(o, train, valid, .2, 0, bs=64).set_epoch(0)
    assert set(said)=={.5}

# --- runs

@pytest.mark.parametrize('kw', [dict(), dict(sketch=8), dict(mode='faithful')], ids=str)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, kw):
    from robustfm.methods.dynacl import DynACL
    def go(folder, stop=None): # stopped after so many epochs
        torch.manual_seed(0)
        o = DynACL(Encoder(tiny(width=4)), views(flip=0), weak, stages=4)
        rcs = RCS(o, train, valid, .2, 2, 2, bs=64, **kw)
        n = []
        def show(h): n.append(1); return len(n)==stop
        pretrain(o, rcs, 6, opt='adam', run=folder, show=show, save_every=0)
        return o,rcs
    a,ra = go(tmp_path/'a')
    for stop in (2,1,2,None): b,rb = go(tmp_path/'b', stop)
    assert same({k:v for k,v in a.state_dict().items()}, b.state_dict())
    assert len(ra.selections)==len(rb.selections)==2
    for s,t in zip(ra.selections, rb.selections):
        for k in s: assert k=='seconds' or np.array_equal(s[k], t[k], equal_nan=True), k
    stored = open_run(tmp_path/'b').selections
    assert len(stored)==2 and (stored[1]['indices']==ra.selections[1]['indices']).all() and stored[0]['epoch']==2
    assert 'selections' not in open_run(tmp_path/'b').config['batches']

# --- many processes

def worker(rank, world, port, out, kw):
    import os, torch.distributed as dist
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    o = warmed() # alone: a loss would contrast the images of all processes
    dist.init_process_group('gloo', rank=rank, world_size=world)
    if rank: # its own running statistics, as after a step in which each process saw other images
        for b in o.buffers():
            if b.dtype.is_floating_point and b.dim()==1: b.add_(.01)
    before = fingerprint(o)
    rcs = RCS(o, train, valid, .2, 1, 2, bs=32, at_once=64, **kw)
    rcs = rcs.shard(rank, world)
    rcs.set_epoch(0); n = [len(rcs)]
    rcs.set_epoch(1); n.append(len(rcs))
    torch.save(dict(indices=torch.tensor(rcs.selections[0]['indices']), gains=torch.tensor(rcs.selections[0]['gains']), n=n, kept=same(before, fingerprint(o)),
                    mine=torch.cat(rcs.indices())), f'{out}/{rank}.pt')
    dist.destroy_process_group()

@pytest.mark.parametrize('kw', [dict(), dict(mode='faithful'), dict(params='features'), dict(sketch=16)], ids=str)
def test_two_processes_choose_as_one(tmp_path, kw):
    import socket
    import torch.multiprocessing as mp
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        mp.start_processes(worker, (2, port, str(tmp_path), kw), nprocs=2, start_method='fork' if threads==1 else 'spawn')
        one = RCS(warmed(), train, valid, .2, 1, 2, bs=32, at_once=64, **kw); one.set_epoch(1)
    finally: torch.set_num_threads(threads)
    rs = [torch.load(tmp_path/f'{r}.pt', weights_only=True) for r in (0,1)]
    for r in rs: assert r['kept'] and r['indices'].equal(torch.tensor(one.selections[0]['indices'])) and torch.allclose(r['gains'], torch.tensor(one.selections[0]['gains']), atol=1e-6) and r['n'][0]==17
    assert not set(rs[0]['mine'].tolist()) & set(rs[1]['mine'].tolist()) and set(torch.cat([r['mine'] for r in rs]).tolist())<=set(one.selections[0]['indices'].tolist())

# --- cost

def test_speedups_of_the_paper():
    assert abs(650.2/speedup(200, 20, .05, 10, 0)-94.3)<.05
    for k,rcs,rand in ((.05,5.68,6.65),(.1,4.64,5.21),(.2,3.33,3.66)):
        assert abs(speedup(1000, 100, k, 20, 24/42)/rcs-1)<.05 and abs(speedup(1000, 100, k, 20, 0)/rand-1)<.05

def test_forecast_leaves_no_trace_and_says_what_it_costs():
    o = warmed(); o.attack = PGD(Linf(.15), steps=5)
    before,rng = fingerprint(o),torch.get_rng_state()
    f = forecast(RCS(o, train, valid, .2, 100, 20, bs=64), 1000)
    assert same(before, fingerprint(o)) and rng.equal(torch.get_rng_state()) and o.attack.steps==5
    assert f['step']==32 and f['choices']==45 and abs(f['choice']-(12*len(train)+8*len(valid))/(32*len(train)))<1e-6 and 'faster' in f['says']
    for steps,units in ((None,12),(1,8),(5,24)):
        r = RCS(o, train, valid, .2, 0, bs=64, attack_steps=steps); r.set_epoch(0)
        assert r.selections[0]['units']==units*len(train)+8*len(valid)
    r = RCS(o, train, valid, .2, 0, bs=64, attack_steps=1, mode='faithful'); r.set_epoch(0)
    assert r.selections[0]['units']==8*len(train)+len(valid)*(1+7*len(r.selections[0]['batches']))

def test_divergence_of_nothing_is_nothing():
    net,x = warmed().net,to_float(valid.x)
    for d in ('kl','js','released_kl'):
        assert abs(divergence(net, x, PGD(Linf(0.), alpha=0., steps=1), d, ('clean','clean')))<1e-6
    assert divergence(net, x, PGD(Linf(0.), alpha=0., steps=1))!=0           # two branches differ without any attack
    assert divergence(net, x, weak, bn_pair=('adv','adv'))>1e-6>=abs(divergence(net, x, PGD(Linf(0.), alpha=0., steps=1), bn_pair=('adv','adv'))) # of this small net about 1.6e-5

def test_the_benchmark_picks_what_the_loop_picks(monkeypatch, tmp_path):
    import sys
    from pathlib import Path
    monkeypatch.syspath_prepend(str(Path(__file__).parent/'bench'))
    import bench_rcs
    from robustfm.rendering import shapes
    monkeypatch.setattr(bench_rcs, 'pictures', shapes)
    r = bench_rcs.measure('tiny', batches=4, bs=8, fraction=.5)
    assert r['same']['faithful']==1 and set(r['ratio'])==set(bench_rcs.ours) and all(v>0 for v in r['ratio'].values())
    assert 'released' in bench_rcs.table(r) and bench_rcs.judge(r, record=True, path=tmp_path/'r.json')==[] and bench_rcs.judge(r, path=tmp_path/'r.json')==[]
    slower = r|dict(ratio={k:v/2 for k,v in r['ratio'].items()})
    assert len(bench_rcs.judge(slower, path=tmp_path/'r.json'))==len(bench_rcs.ours) and 'not 4' in ''.join(bench_rcs.floors(slower|dict(ratio=slower['ratio']|{'fast, bf16':1.})))
