"""Two processes equal one: the same loss, gradients, statistics and coresets, whatever the method.

    python tests/test_distributed.py FILE     all methods on the processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT tell of; what came out, into FILE

The processes talk through gloo on this machine. There SyncBatchNorm does not run, so the statistics of the whole batch come from
`GlobalBatchNorm`; on GPUs they come from SyncBatchNorm, which this test does not see. Views are fixed functions of the image and attacks
start at the images: what is random differs from process to process, as it should."""
import json, os, socket, subprocess, sys
from pathlib import Path
import robustfm
import pytest, torch, torch.distributed as dist
from robustfm.attacks import L2, Linf, PGD
from robustfm.data import Batches, digits, shapes
from robustfm.losses import nt_xent
from robustfm.methods.acl import ACL
from robustfm.methods.advcl import AdvCL
from robustfm.methods.ainfonce import AdaptiveDegree, AInfoNCE, Asymmetric
from robustfm.methods.air import AIR
from robustfm.methods.deacl import DeACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rcs import RCS
from robustfm.methods.rocl import RoCL
from robustfm.models import DualBN, Encoder, tiny
from robustfm.objective import SimCLR
from robustfm.train import GlobalBatchNorm, distributed, engine, load_state, save_state, steps

class turns:
    "A view that only the image and the number of the call decide"
    def __init__(self): self.calls = 0
    def __call__(self, x, strength=1.):
        self.calls += 1
        return (.9*x+.05 if self.calls%2 else .3+.7*x.flip(-1)).clamp(0,1)

def net(*branches): return Encoder(tiny(width=4), branches)
pgd = PGD(Linf(.1), steps=3, random_start=False)
dual = 'clean','adv'
methods = dict(
    simclr=lambda: SimCLR(net(*dual), turns(), bn='clean'),       # the other branch gets no gradient
    acl=lambda: ACL(net(*dual), turns(), pgd),
    acl_air=lambda: ACL(net(*dual), turns(), pgd, reg=AIR()),
    acl_a2s=lambda: ACL(net(*dual), turns(), pgd, mode='A2S'),
    dynacl=lambda: DynACL(net(*dual), turns(), pgd, momentum=.9),
    advcl=lambda: AdvCL(net(*dual,'pseudo'), turns(), pgd, ks=(10,), weak=turns()),
    ainfonce=lambda: AInfoNCE(net(*dual,'pseudo'), turns(), pgd, asym=Asymmetric(tau_plus=.1), adaptive=AdaptiveDegree(), ks=(10,), weak=turns()),
    deacl=lambda: DeACL(net('clean'), net('clean').eval(), turns(), pgd),
    rocl=lambda: RoCL(net('clean'), turns(), pgd),
)

def double(objective):
    "In double precision, so that a difference is a mistake and not a rounding, which the sign in an attack would make large"
    objective.double().register_forward_pre_hook(lambda m,a: (a[0].double(),*a[1:]))
    return objective

def trained(objective, batches, acc, epochs=1):
    "Losses of each step, gradients of the first, everything else after the last"
    out = dict(loss=[], grad={})
    for s in steps(objective, batches, torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], .1, momentum=.9), epochs, accelerator=acc):
        out['loss'].append(acc.reduce(s.loss.double(), 'mean'))
        if s.step==0: out['grad'] = {k:p.grad.clone() for k,p in objective.named_parameters() if p.grad is not None}
    return out | dict(state={k:v.clone() for k,v in objective.state_dict().items()})

def everything():
    "All methods on the processes there are"
    from accelerate import Accelerator
    torch.set_num_threads(1)
    acc,(train,valid,_),out = Accelerator(cpu=True),digits(),{}
    for name,make in methods.items():
        torch.manual_seed(0)
        out[name] = trained(double(make()), Batches(train[:120], bs=32), acc)         # 3 full batches and a smaller one
    torch.manual_seed(0)
    acl = ACL(net(*dual), turns(), PGD(L2(.5), steps=3, random_start=False))          # RCS reckons in single precision; this attack has no sign
    batches = RCS(acl, train[:128], valid[:64], fraction=.5, warmup=1, every=1, bs=16)
    out['rcs'] = trained(acl, batches, acc, 3) | dict(chosen=[torch.as_tensor(s['indices']).long() for s in batches.selections])
    torch.manual_seed(0)
    out['single'] = trained(ACL(net(*dual), turns(), PGD(L2(.5), steps=3, random_start=False), reg=AIR()), Batches(train[:64], bs=32), acc)
    if acc.num_processes>1: out['hooks'] = hooks(acc, train)
    if acc.is_main_process: save_state(sys.argv[1], out)

def hooks(acc, train):
    "Gradient exchanges during the forward pass, attack and all; and during the backward pass"
    objective = methods['acl']()
    model,counts = distributed(objective.train(), acc.device),[0]
    def count(state, bucket):
        counts[0] += 1
        return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0])
    model.register_comm_hook(None, count)
    loss,_ = model(train.x[:16].float()/255, train.y[:16])
    before = counts[0]
    loss.backward()
    assert all(isinstance(b, GlobalBatchNorm) for m in objective.modules() if isinstance(m, DualBN) for b in m.bns.values())
    return dict(forward=before, backward=counts[0]-before)

def processes(n, *args, timeout=400):
    "Run `python *args` as n processes of one group"
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = lambda r: os.environ | dict(RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo', CUDA_VISIBLE_DEVICES='')
    ps = [subprocess.Popen([sys.executable, *map(str, args)], env=env(r) if n>1 else {k:v for k,v in env(0).items() if k not in ('RANK','LOCAL_RANK','WORLD_SIZE')}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for r in range(n)]
    try: outs = [p.communicate(timeout=timeout)[0] for p in ps]
    finally:
        for p in ps: p.kill()
    return [p.returncode for p in ps],outs

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder,out = tmp_path_factory.mktemp('distributed'),[]
    for n in (1,2):
        codes,said = processes(n, __file__, folder/f'{n}.safetensors')
        assert not any(codes), said[0][-3000:]+said[-1][-3000:]
        out.append(load_state(folder/f'{n}.safetensors'))
    return out

def far(a, b):
    "Relative distance of two tensors"
    a,b = a.double(),b.double()
    return float((a-b).norm()/a.norm().clamp_min(1e-12))

def apart(one, two):
    "The largest relative distance among losses, gradients and what is kept, and where"
    assert one['grad'].keys()==two['grad'].keys() and len(one['loss'])==len(two['loss'])
    pairs  = {f'loss {i}':far(a, b) for i,(a,b) in enumerate(zip(one['loss'], two['loss']))}
    pairs |= {f'gradient of {k}':far(g, two['grad'][k]) for k,g in one['grad'].items() if k!='net.g.0.bias'}     # a bias before a norm: rounding is all its gradient is
    pairs |= {k:far(v, two['state'][k]) for k,v in one['state'].items()}
    where = max(pairs, key=pairs.get)
    return pairs[where],where

@pytest.mark.slow
@pytest.mark.parametrize('name', methods)
def test_two_processes_equal_one(runs, name):
    distance,where = apart(*(r[name] for r in runs))
    print(f'{name}: {distance:.1e} ({where})')
    assert distance<1e-8, where

@pytest.mark.slow
@pytest.mark.parametrize('name', ['single','rcs'])
def test_two_processes_equal_one_in_single_precision(runs, name):
    a,b = (dict(r[name], state={}, loss=r[name]['loss'][:1]) for r in runs)
    distance,where = apart(a, b)
    print(f'{name}: {distance:.1e} ({where})')
    assert distance<1e-5, where

@pytest.mark.slow
def test_two_processes_choose_the_same_coresets_as_one(runs):
    one,two = (r['rcs']['chosen'] for r in runs)
    assert len(one)==2 and all(a.equal(b) for a,b in zip(one, two))

@pytest.mark.slow
def test_attacks_do_not_exchange_gradients(runs):
    assert runs[1]['hooks']['forward']==0 and runs[1]['hooks']['backward']>0

def test_shards_are_the_batches():
    b = Batches(shapes(50, size=8), bs=12)
    for e in (0,3):
        parts = [b.shard(r, 3) for r in range(3)]
        for o in (b,*parts): o.set_epoch(e)
        whole = b.indices()
        assert len({len(o) for o in parts})==1
        for i,idx in enumerate(zip(*(o.indices() for o in parts))):
            assert len({len(j) for j in idx})==1 and torch.cat(idx).equal(whole[i][:sum(map(len, idx))])

def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match='batch of 30 cannot be shared equally by 4 processes'): Batches(shapes(60, size=8), bs=30).shard(0, 4)

def launch(*args, timeout=300):
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    return subprocess.run([sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2', # with --cpu it would start one process; without a GPU it starts two on the CPU
                            '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
                           '--main_process_port', str(port), '-m', 'robustfm.cli', 'pretrain', *map(str, args)],
                          capture_output=True, text=True, timeout=timeout, env=os.environ | dict(OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo', CUDA_VISIBLE_DEVICES='', ACCELERATE_USE_CPU='true'))

@pytest.mark.slow
def test_command_line_under_accelerate_launch(tmp_path):
    "Two processes, one folder; it goes on, and refuses what it was not told before"
    from robustfm.train import open_run
    small = '--network','tiny','--data','digits','--images',256,'--opt','adam','--steps',1,'--bs',64
    r = launch('--run', tmp_path/'run', '--reg', 'air', '--epochs', 2, *small)
    assert r.returncode==0, r.stderr[-3000:]
    run = open_run(tmp_path/'run')
    assert run.finished and run.config['processes']==2 and len(run.history)==2 and r.stdout.count('100% done')==1
    assert run.encoder()(torch.rand(2,1,8,8), bn='adv').isfinite().all()
    r = launch('--run', tmp_path/'run', '--reg', 'air', '--epochs', 3, *small)
    assert r.returncode and 'epochs (2 there, 3 here)' in r.stderr, r.stderr[-3000:]
    r = launch('--run', tmp_path/'odd', '--epochs', 1, *small[:-1], 31)
    assert r.returncode and 'a batch of 31 cannot be shared equally by 2 processes' in r.stderr and not (tmp_path/'odd'/'checkpoint.safetensors').exists()

if __name__=='__main__': everything()
