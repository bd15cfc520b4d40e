"""Two processes equal one, and four: the same loss, gradients, statistics and coresets, whatever the method.

    python tests/test_distributed.py FOLDER     the same trainings on one, two and four processes; what came out, into FOLDER/1.safetensors …

The processes are started by Accelerate's `notebook_launcher`, as from a cell, and talk through gloo on this machine. There SyncBatchNorm does not
run, so the statistics of the whole batch come from `GlobalBatchNorm`; on GPUs they come from SyncBatchNorm, which this test does not see. Views are
fixed functions of the image and attacks start at the images: what is random differs from process to process, as it should."""
import json, os, socket, subprocess, sys
from pathlib import Path
import robustfm
import pytest, torch, torch.distributed as dist
from robustfm.attacks import L2,Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.datasets import digits
from robustfm.losses import nt_xent
from robustfm.methods.acl import ACL
from robustfm.methods.advcl import AdvCL
from robustfm.methods.ainfonce import AdaptiveDegree,AInfoNCE,Asymmetric
from robustfm.methods.air import AIR
from robustfm.methods.deacl import DeACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.fare import FARE
from robustfm.methods.lore import LORE
from robustfm.methods.rcs import RCS
from robustfm.methods.rocl import RoCL
from robustfm.models import DualBN,Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.train import GlobalBatchNorm,distributed,engine,optimizer,steps
from robustfm.runs import load_state,open_run,pretrain,save_state

class turns:
    "A view that only the image and the number of the call decide"
    def __init__(self): self.calls = 0
    def __call__(self, x, strength=1.):
        self.calls += 1
        return (.9*x+.05 if self.calls%2 else .3+.7*x.flip(-1)).clamp(0,1)

def net(*branches): return Encoder(tiny(width=4), branches)
pgd = PGD(Linf(.1), steps=3, start='none')
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
    fare=lambda: FARE(net('clean'), turns(), pgd, net('clean')),
    lore=lambda: LORE(net('clean'), turns(), pgd, net('clean'), descents=2),     # and climbs in a second group of parameters
)

def double(objective):
    "In double precision, so that a difference is a mistake and not a rounding, which the sign in an attack would make large"
    objective.double().register_forward_pre_hook(lambda m,a: (a[0].double(),*a[1:]))
    return objective

def trained(objective, batches, acc, epochs=1):
    "Losses of each step, gradients of the first, everything else after the last"
    out = dict(loss=[], grad={})
    for s in steps(objective, batches, optimizer(objective, 'sgd', .1), epochs, accelerator=acc):
        out['loss'].append(acc.reduce(s.loss.double(), 'mean'))
        if s.step==0: out['grad'] = {k:p.grad.clone() for k,p in objective.named_parameters() if p.grad is not None}
    return out | dict(state={k:v.clone() for k,v in objective.state_dict().items()})

def everything(folder):
    "All methods on the processes there are"
    torch.set_num_threads(1)
    acc,(train,valid,_),out = engine(),digits(),{}
    for name,make in methods.items():
        torch.manual_seed(0)
        out[name] = trained(double(make()), Batches(train[:72], bs=32), acc)          # 2 full batches and a smaller one
    torch.manual_seed(0)
    acl = ACL(net(*dual), turns(), PGD(L2(.5), steps=3, start='none'))          # RCS reckons in single precision; this attack has no sign
    batches = RCS(acl, train[:128], valid[:64], fraction=.5, warmup=1, every=1, bs=16)
    out['rcs'] = trained(acl, batches, acc, 3) | dict(chosen=[torch.as_tensor(s['indices']).long() for s in batches.selections])
    torch.manual_seed(0)
    out['single'] = trained(ACL(net(*dual), turns(), PGD(L2(.5), steps=3, start='none'), reg=AIR()), Batches(train[:64], bs=32), acc)
    if acc.num_processes>1: out |= dict(hooks=hooks(acc, train), refused=refused(folder, train, acc))
    if acc.is_main_process: save_state(folder/f'{acc.num_processes}.safetensors', out)

def four(folder):
    "One method, on batches that four can share and on batches that they cannot"
    torch.set_num_threads(1)
    acc,(train,_,_) = engine(),digits()
    torch.manual_seed(0)
    out = dict(acl=trained(double(methods['acl']()), Batches(train[:72], bs=32), acc), refused=refused(folder, train, acc, bs=30))
    if acc.is_main_process: save_state(folder/'4.safetensors', out)

def refused(folder, train, acc, bs=32):
    "What each process says to a run that begins, goes on, and is called with another number of epochs"
    said = []
    def call(epochs):
        torch.manual_seed(0)
        try: pretrain(SimCLR(net('clean'), views(flip=0)), Batches(train[:72], bs=bs), epochs, run=folder/f'run{acc.num_processes}', show=False); said.append('')
        except ValueError as e: said.append(str(e))
    for epochs in (1,1,2): call(epochs); acc.wait_for_everyone()
    every = [None]*acc.num_processes
    dist.all_gather_object(every, said)
    return every

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

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return str(s.getsockname()[1])

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    r = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, timeout=400,
                       env=os.environ | dict(OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo', CUDA_VISIBLE_DEVICES=''))
    assert r.returncode==0, (r.stdout+r.stderr)[-3000:]
    return folder,{n:load_state(folder/f'{n}.safetensors') for n in (1,2,4)}

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
    distance,where = apart(*(runs[1][n][name] for n in (1,2)))
    print(f'{name}: {distance:.1e} ({where})')
    assert distance<1e-8, where

@pytest.mark.slow
@pytest.mark.parametrize('name', ['single','rcs'])
def test_two_processes_equal_one_in_single_precision(runs, name):
    a,b = (dict(r[name], state={}, loss=r[name]['loss'][:1]) for r in (runs[1][1],runs[1][2]))
    distance,where = apart(a, b)
    print(f'{name}: {distance:.1e} ({where})')
    assert distance<1e-5, where

@pytest.mark.slow
def test_four_processes_equal_one(runs):
    assert apart(runs[1][1]['acl'], runs[1][4]['acl'])[0]<1e-8

@pytest.mark.slow
def test_every_process_refuses_the_same(runs):
    "One run folder, that goes on and refuses other settings; and four processes cannot share a batch of 30"
    folder,r = runs
    assert all(a==b=='' and 'epochs (1 there, 2 here)' in c for a,b,c in r[2]['refused']) and open_run(folder/'run2').finished
    assert all('a batch of 30 cannot be shared equally by 4 processes' in c for four in r[4]['refused'] for c in four[:2]), r[4]['refused']
    assert len(r[4]['refused'])==4 and not open_run(folder/'run4').checkpoint.exists()

@pytest.mark.slow
def test_two_processes_choose_the_same_coresets_as_one(runs):
    one,two = (runs[1][n]['rcs']['chosen'] for n in (1,2))
    assert len(one)==2 and all(a.equal(b) for a,b in zip(one, two))

@pytest.mark.slow
def test_attacks_do_not_exchange_gradients(runs):
    h = runs[1][2]['hooks']
    assert h['forward']==0 and h['backward']>0

@pytest.mark.slow
@pytest.mark.parametrize('launcher', [('accelerate.commands.launch','--multi_gpu','--num_processes',2,'--num_machines',1,'--mixed_precision','no','--dynamo_backend','no','--main_process_port','{port}','-m'),
                                      ('torch.distributed.run','--nnodes',1,'--nproc_per_node',2,'--master_port','{port}','-m','--')])
def test_command_line_on_two_processes(launcher, tmp_path):
    "As the notebook says it: two processes on a machine without a GPU, one run folder, one line at the end"
    r = subprocess.run([sys.executable, '-m', *(str(o).format(port=free_port()) for o in launcher), 'robustfm.cli', 'pretrain', '--run', tmp_path/'run', '--epochs', '1',
                        *'--network tiny --data digits --images 128 --opt adam --steps 1 --bs 64 --reg air'.split()],
                       capture_output=True, text=True, timeout=400, env=os.environ | dict(OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='lo', CUDA_VISIBLE_DEVICES=''))
    assert r.returncode==0, r.stderr[-3000:]
    run = open_run(tmp_path/'run')
    assert run.finished and run.config['processes']==2 and len(run.history)==1 and r.stdout.count('100% done')==1
    assert run.encoder()(torch.rand(2,1,8,8), bn='adv').isfinite().all()

if __name__=='__main__':
    from accelerate import notebook_launcher
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for f,n in ((everything,2),(four,4)): notebook_launcher(f, (folder,), num_processes=n, use_port=free_port())
    everything(folder)
