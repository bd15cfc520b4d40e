"What makes a step fast, as far as it can be checked without a GPU: nothing waits, nothing is kept, nothing is compiled twice, and half precision is kept from where it harms"
import json, shutil
from contextlib import nullcontext
from itertools import islice
import robustfm
import pytest, torch
from types import SimpleNamespace
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.rendering import shapes
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.methods.deacl import DeACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rocl import RoCL
from robustfm.models import Encoder,resnet18,tiny
from robustfm.objective import SimCLR
from robustfm.train import compiled,steps
from robustfm.runs import pretrain

def acl(net=None, **kw): return ACL(net or Encoder(tiny(3, 4)), views(), PGD(Linf(.03), steps=kw.pop('steps', 2)), **kw)
def on(device, precision='no'): return SimpleNamespace(device=torch.device(device), num_processes=1, process_index=0, mixed_precision=precision, scaler=None)

@pytest.mark.parametrize('make', [lambda: SimCLR(Encoder(tiny(3, 4)), views()), lambda: acl(reg=AIR()), lambda: DynACL(Encoder(tiny(3, 4)), views(), PGD(steps=2), momentum=.9),
                                  lambda: DeACL(Encoder(tiny(3, 4), 'clean'), Encoder(tiny(3, 4), 'clean').eval(), views(), PGD(steps=2)), lambda: RoCL(Encoder(tiny(3, 4), 'clean'), views())])
@pytest.mark.parametrize('opt', ['lars','sgd'])
def test_a_step_waits_for_nothing(make, opt, monkeypatch):
    "On the meta device there are no numbers to look at: .item(), bool(tensor), nonzero() and copies to the CPU raise"
    monkeypatch.setattr(torch, 'autocast', lambda *a,**k: nullcontext()); monkeypatch.setattr(torch, 'is_autocast_enabled', lambda *a: False) # meta knows none
    batches = [(torch.zeros(8, 3, 8, 8, device='meta'),torch.zeros(8, dtype=torch.long, device='meta'))]*2
    assert len(list(steps(make(), batches, opt, 1, accelerator=on('meta'))))==2

@pytest.mark.parametrize('name,units', dict(simclr=6, acl=32, air=35, deacl=17).items())
def test_no_arithmetic_is_wasted(name, units, monkeypatch):
    "A step of ResNet-18 in units of one image forward, K=5, counted where nothing is computed"
    from torch.utils.flop_counter import FlopCounterMode
    monkeypatch.setattr(torch, 'autocast', lambda *a,**k: nullcontext()); monkeypatch.setattr(torch, 'is_autocast_enabled', lambda *a: False)
    net = Encoder(resnet18()).to('meta')
    pgd = PGD(steps=5)
    make = dict(simclr=lambda: SimCLR(net, views()), acl=lambda: ACL(net, views(), pgd), air=lambda: ACL(net, views(), pgd, reg=AIR()),
                deacl=lambda: DeACL(net, Encoder(resnet18(), 'clean').to('meta').eval(), views(), pgd))
    objective,x = make[name](),torch.rand(16, 3, 32, 32, device='meta')
    def flops(f):
        with FlopCounterMode(display=False) as c: f()
        return c.get_total_flops()
    with torch.no_grad(): one = flops(lambda: net(x))
    got = flops(lambda: objective(x, torch.zeros(16, device='meta'))[0].backward())/one
    print(f'{name}: {got:.2f} F')
    assert abs(got-units)<.02*units

def test_losses_and_images_stay_in_single_precision():
    from robustfm.methods import ainfonce
    seen,images = [],[]
    def spy(s, n, t): seen.append(s.dtype); return ainfonce.everyone(s, n, t)
    objective = acl(steps=2)
    inner = objective.contrast
    objective.contrast = lambda *z: ainfonce.contrast_pairs(*z, logp=spy)
    objective.net.register_forward_pre_hook(lambda m,a: images.append(a[0].dtype))
    halves = []
    objective.net.f.register_forward_hook(lambda m,a,o: halves.append(o.dtype))
    for s in steps(objective, Batches(shapes(16, size=8), bs=8), 'sgd', 1, accelerator=on('cpu', 'bf16')): assert s.loss.dtype==torch.float32
    assert set(seen)=={torch.float32} and set(images)=={torch.float32} and torch.bfloat16 in halves

def test_fp16_attack_scales_its_loss_by_a_constant():
    "Gradients below fp16's smallest number would be 0, and the attack would stand still"
    x = torch.rand(4, 3, 8, 8)
    objective = acl(steps=3)
    objective.attack = PGD(Linf(.03), steps=3, start='none')
    weigh = lambda a: a.half().float().sum()*2.**-27
    assert objective.perturb(weigh, x).equal(x)
    with torch.autocast('cpu', torch.float16): assert (objective.perturb(weigh, x)-x).abs().max()>.02

def peak(f, folder):
    "Largest number of bytes that are held at once while f runs, beyond those before"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as prof: f()
    prof.export_chrome_trace(str(folder/'trace.json'))
    events = [e for e in json.loads((folder/'trace.json').read_text())['traceEvents'] if e.get('name')=='[memory]']
    held = top = 0
    for e in sorted(events, key=lambda e: e['ts']): held += e['args']['Bytes']; top = max(top, held)
    return top

def test_the_attack_leaves_no_graph(tmp_path):
    "The peak of a step with an attack is that of one without"
    x,y = torch.rand(32, 3, 16, 16),torch.zeros(32)
    def step(k):
        objective = acl(Encoder(tiny(3, 16)), steps=k)
        return peak(lambda: objective(x, y)[0].backward(), tmp_path)
    with_attack,without = step(3),step(0)
    print(f'{with_attack/1e6:.1f} MB with attack, {without/1e6:.1f} MB without')
    assert with_attack<=1.1*without

def test_images_stay_bytes(tmp_path):
    "50,000 images of 32×32 are 154 MB; of their floats never more than four batches are held"
    images = Images(torch.zeros(50000, 3, 32, 32, dtype=torch.uint8))
    top = peak(lambda: [None for _ in zip(range(3), Batches(images, bs=512))], tmp_path)
    print(f'{top/1e6:.1f} MB')
    assert images.x.nbytes==50000*3*32*32 and top<4*512*3*32*32*4

@pytest.mark.slow
def test_one_graph_for_each_use_and_none_later():
    "ACL: one to attack, one to train each branch; a smaller last batch and 200 more steps bring none"
    torch._dynamo.reset()
    torch.manual_seed(0)
    objective,graphs = acl(),[]
    from torch._dynamo.backends.debugging import aot_eager
    def count(gm, inputs): graphs.append(len(gm.graph.nodes)); return aot_eager(gm, inputs)
    with compiled(objective, count):
        probe = len(graphs)
        seen = [float(s.loss) for s in steps(objective, Batches(shapes(36, size=8), bs=16), 'sgd', 67, accelerator=on('cpu'))]
    assert len(seen)==201 and len(graphs)-probe==3, graphs
    assert '_embed' not in vars(objective.net)
    torch.manual_seed(0)
    eager = [float(s.loss) for s in islice(steps(acl(), Batches(shapes(36, size=8), bs=16), 'sgd', 67, accelerator=on('cpu')), 3)]
    assert max(abs(a-b) for a,b in zip(seen, eager))<1e-3

@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='no compiler: apt-get install g++')
def test_a_compiled_step_is_the_eager_one(capsys):
    "In half precision, with the compiler that `compile=True` means: as far apart as half precision is from single"
    def losses(precision, compile=False):
        torch.manual_seed(0)
        objective = SimCLR(Encoder(tiny(3, 4), 'clean'), views())
        with compiled(objective) if compile else nullcontext():
            return torch.tensor([float(s.loss) for s in steps(objective, Batches(shapes(32, size=8), bs=16), 'sgd', 1, accelerator=on('cpu', precision))])
    torch._dynamo.reset()
    exact,half,fast = losses('no'),losses('bf16'),losses('bf16', True)
    assert 'not compiled' not in capsys.readouterr().out
    assert (fast-exact).abs().max()<=2*(half-exact).abs().max()+1e-3, (exact,half,fast)

@pytest.mark.parametrize('net', [lambda: Encoder(tiny(3, 4)), lambda: Encoder(resnet18())])
def test_an_encoder_has_no_graph_breaks(net):
    torch._dynamo.reset()
    net = net(); net.route('adv')
    assert torch._dynamo.explain(net._embed)(torch.rand(4, 3, 16, 16)).graph_break_count==0

def test_without_a_compiler_one_line_and_on(capsys):
    torch._dynamo.reset()
    def none(gm, inputs): raise RuntimeError('no compiler found')
    torch.manual_seed(0)
    h = pretrain(acl(), Batches(shapes(16, size=8), bs=8), 1, compile=none, show=False)
    assert len(h)==1 and capsys.readouterr().out.count('not compiled, the compiler does not work here')==1

def test_out_of_memory_names_a_batch_size_that_fits():
    class Greedy(SimCLR):
        def terms(self, x, y=None):
            if len(x)>5: raise torch.OutOfMemoryError('CUDA out of memory.')
            return super().terms(x, y)
    with pytest.raises(ValueError, match='a batch of 16 does not fit into the memory of cpu: bs=4 would'):
        pretrain(Greedy(Encoder(tiny(3, 4)), views()), Batches(shapes(32, size=8), bs=16), 1, show=False)
