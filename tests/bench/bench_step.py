"""One ACL step, ours and the released arithmetic, in alternation on the same images

    python tests/bench/bench_step.py [--bs 8] [--rounds 3] [--ours fp32,bf16] [--record] [--out FILE.json]

The released arithmetic, rebuilt from its description: views by PIL, one image at a time; an attack that calls .backward() and so computes
weight gradients as well; single precision throughout; five .item() a step. All have the same networks, sizes and numbers of steps. One round
times each in turn, so that what else the machine does touches all; ratios are medians over rounds. `--ours` names precisions, each also with
+compile. `--record` stores this machine's numbers in bench_step.json; without it, a ratio more than 20 % below the one recorded on a machine of
the same description fails."""
import argparse, copy, json, os, platform, resource, sys, time
from contextlib import ExitStack
from pathlib import Path
import robustfm
import numpy as np, torch, torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms as T
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.rendering import shapes
from robustfm.datasets import cifar10
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.models import Encoder,resnet18,tiny
from robustfm.train import compiled,engine,steps

here = Path(__file__).resolve()
sys.path.insert(0, str(here.parents[1]))
from rcs_reference import embed
networks = dict(resnet18=resnet18, tiny=lambda: tiny(3))
dtypes = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)

def pictures(n):
    "CIFAR-10's first n test images where they are, else generated ones"
    for root in (None, here.parents[2]/'.data'):
        try: return cifar10(root)[1][:n]
        except (FileNotFoundError,ValueError): pass
    return shapes(n)

def machine(device):
    "Who was measured, in words"
    info = Path('/proc/cpuinfo')
    cpu = next((l.split(':')[1].strip() for l in info.read_text().splitlines() if l.startswith('model name')), None) if info.exists() else None
    gpu = torch.cuda.get_device_name() if device.type=='cuda' else None
    units = gpu is None and [n for n,f in (('AMX','_is_amx_tile_supported'),('AVX-512 bf16','_is_avx512_bf16_supported')) if getattr(torch.cpu, f, bool)()]
    return dict(cpu=cpu or platform.processor(), cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpu, torch=torch.__version__, bf16_units=', '.join(units) if units else None)

def wait(device):
    if device.type=='cuda': torch.cuda.synchronize()

def peak_flops(device, dtype, seconds=.5):
    "FLOP/s of the fastest matrix product tried: what this machine can do"
    n,best = 4096 if device.type=='cuda' else 1024,0.
    a,b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    a@b; end = time.time()+seconds
    while time.time()<end: best = max(best, 2*n**3/timed(lambda: a@b, device)[0])
    return best

def bandwidth(device, n=2**26):
    "Bytes/s of the fastest copy of 256 MB tried"
    a = torch.zeros(n, device=device); b = torch.zeros_like(a)
    return max(2*4*n/timed(lambda: b.copy_(a), device)[0] for _ in range(5))

class Traffic(TorchDispatchMode):
    "Bytes that operations read and write, if none is fused with its neighbour and nothing stays in a cache"
    total = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        if not f.is_view: self.total += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor))
        return out

def counted(f):
    "What one call of f executes: FLOPs, bytes"
    with FlopCounterMode(display=False) as flops, Traffic() as bytes: f()
    return flops.get_total_flops(),bytes.total

def timed(f, device):
    "Seconds by the clock, and of the processor"
    wait(device); t,c = time.perf_counter(),time.process_time(); f(); wait(device)
    return time.perf_counter()-t,time.process_time()-c

class Released:
    "One step of the released arithmetic at a time"
    def __init__(self, net, images, bs, device, attack_steps, eps=8/255, alpha=2/255, t=.5):
        self.net,self.bs,self.device,self.k,self.eps,self.alpha,self.t = net.to(device),bs,device,attack_steps,eps,alpha,t
        self.opt,self.i = torch.optim.SGD(net.parameters(), .1, momentum=.9),0
        self.pil = [Image.fromarray(i) for i in images.x.permute(0,2,3,1).numpy()]
        self.view = T.Compose([T.RandomResizedCrop(32, scale=(.1,1.)), T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(.4,.4,.4,.1)], .8), T.RandomGrayscale(.2), T.ToTensor()])

    def loss(self, z):
        "NT-Xent of rows 2i and 2i+1, by four matrices of all pairs"
        z = F.normalize(z, dim=1)
        n,sim = len(z),z@z.T/self.t
        own = torch.eye(n, device=z.device); pos = torch.eye(n//2, device=z.device).repeat_interleave(2, 0).repeat_interleave(2, 1)-own
        e = sim.exp()
        return -((e*pos).sum(1)/((e*(1-own)).sum(1))).log().mean()

    def data(self):
        js = [(self.i*self.bs+j) % len(self.pil) for j in range(self.bs)]; self.i += 1
        return torch.stack([self.view(self.pil[j]) for j in js for _ in range(2)])

    def __call__(self):
        x,net = self.data().to(self.device),self.net
        net.eval()
        a = (x+torch.empty_like(x).uniform_(-self.eps, self.eps)).clamp(0, 1)
        for _ in range(self.k):
            a = a.detach().requires_grad_()
            self.loss(embed(net, a, 'adv')).backward()                     # gradients of all weights, too
            with torch.no_grad(): a = (x+(a+self.alpha*a.grad.sign()-x).clamp(-self.eps, self.eps)).clamp(0, 1)
        net.train(); self.opt.zero_grad()
        adv,clean = self.loss(embed(net, a.detach(), 'adv')),self.loss(embed(net, x, 'clean'))
        loss = (adv+clean)/2
        loss.backward(); self.opt.step()
        return [float(v.item()) for v in (loss, adv, clean, loss, loss)]

def ours(net, images, bs, acc, attack_steps, reg=None):
    "An objective, and its steps without an end"
    objective = ACL(net, views(scale=(.1,1.)), PGD(Linf(8/255), alpha=2/255, steps=attack_steps), reg=reg)
    return objective,steps(objective, Batches(images, bs=bs, drop_last=True), 'sgd', 10**6, accelerator=acc)

def measure(network='resnet18', bs=8, rounds=3, names=('fp32','bf16'), attack_steps=5, log=print):
    "All numbers of one comparison"
    torch.manual_seed(0)
    dev,images,net = engine(names[0].split('+')[0]).device,pictures(4*bs),Encoder(networks[network]())
    one,_ = counted(lambda: torch.no_grad()(net)(torch.zeros(2,3,32,32))); one /= 2             # F, one image forward
    need = 2*(2*attack_steps+2*3)                                                             # 2 views · (K·2 in the attack + 2 branches · 3 in training), in F
    runs,counts,memory = dict(released=Released(copy.deepcopy(net), images, bs, dev, attack_steps)),{},{}
    with ExitStack() as stack:
        for name in names:
            precision,*fast = name.split('+')
            objective,loop = ours(copy.deepcopy(net), images, bs, engine(precision), attack_steps)
            if fast: stack.enter_context(compiled(objective))
            runs[name] = lambda loop=loop: next(loop)
            runs[name]()                                                                      # here, while its precision is set
        for name,f in runs.items():
            if 'compile' not in name: counts[name] = counted(f)
        _,loop = ours(copy.deepcopy(net), images[:16], 4, engine('fp32'), attack_steps, AIR())
        air = counted(lambda: next(loop))[0]/one/4
        seconds = {name:[] for name in runs}
        for i in range(rounds):
            for name,f in runs.items():
                if dev.type=='cuda': torch.cuda.reset_peak_memory_stats()
                seconds[name].append(timed(f, dev))
                if dev.type=='cuda': memory[name] = torch.cuda.max_memory_allocated()
            log(f'round {i+1} of {rounds}: '+', '.join(f'{n} {s[-1][0]:.2f} s' for n,s in seconds.items()))
    seconds = {n:np.array(s) for n,s in seconds.items()}
    x = images.x[:bs].to(dev).float()/255
    share = lambda f: float(np.median([timed(f, dev)[0] for _ in range(5)]))
    pil,aug,batch = share(runs['released'].data),share(lambda: [objective.augment(x) for _ in range(2)]),share(lambda: next(iter(Batches(images, bs=bs))))
    peaks = {p:peak_flops(dev, dtypes[p]) for p in {'fp32',*(n.split('+')[0] for n in names)}}
    rows = {}
    for name,s in seconds.items():
        ratio,p,t = seconds['released']/s,'fp32' if name=='released' else name.split('+')[0],float(np.median(s[:,0]))
        f,b = counts.get(name) or counts.get(p) or (None,None)
        rows[name] = dict(seconds=t, ratio=float(np.median(ratio[:,0])), quartiles=np.percentile(ratio[:,0], (25,75)).tolist(), ratio_cpu=float(np.median(ratio[:,1])),
                          executed_F=None if '+' in name or f is None else f/one/bs, flops=f, bytes=b, mfu=need*one*bs/t/peaks[p], peak=peaks[p], memory=memory.get(name),
                          views=(pil if name=='released' else aug)/t, stall=(pil if name=='released' else batch)/t)
    return dict(machine=machine(dev), when=time.strftime('%Y-%m-%d'), network=network, bs=bs, rounds=rounds, attack_steps=attack_steps, images=images.name, F=one, needed_F=need,
                executed_F_air=air, bandwidth=bandwidth(dev), rows=rows, memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024)

def table(r):
    m,v = r['machine'],list(r['rows'].values())
    f = lambda k,fmt,scale=1: [('–' if o[k] is None else format(o[k]*scale, fmt)) for o in v]
    rows = [('',*r['rows']), ('seconds a step',*f('seconds','.3f')),
            ('times as fast, median [quartiles]',*(f"{o['ratio']:.2f} [{o['quartiles'][0]:.2f} … {o['quartiles'][1]:.2f}]" for o in v)), ('… in processor seconds',*f('ratio_cpu','.2f')),
            (f"FLOPs executed an image, in F ({r['needed_F']} needed)",*f('executed_F','.1f')), ('of the peak: MFU',*(f"{o['mfu']:.0%} of {o['peak']/1e9:,.0f} GFLOP/s" for o in v)),
            ('bytes moved, GB',*f('bytes','.1f',1e-9)), ('share spent on views',*f('views','.1%')), ('… on waiting for data',*f('stall','.1%')), ('peak memory, MB',*f('memory',',.0f',1e-6))]
    head = (f"ACL, K={r['attack_steps']}, {r['network']}, {r['bs']} × 32×32 ({r['images']}), {r['rounds']} rounds; {m['gpu'] or m['cpu']}, {m['cores']} cores, {m['threads']} threads"
            f"{', with '+m['bf16_units'] if m['bf16_units'] else ''}, torch {m['torch']}, {r['when']}")
    w = [max(len(o[i]) for o in rows) for i in range(len(rows[0]))]
    line = lambda o: '| '+' | '.join(s.ljust(k) for s,k in zip(o, w))+' |'
    return '\n'.join([head, '', line(rows[0]), '|'+'|'.join('-'*(k+2) for k in w)+'|', *map(line, rows[1:]), '', f"with AIR {r['executed_F_air']:.1f}F executed; the whole process held {r['memory']/1e6:,.0f} MB at most"])

def key(r): return ' '.join(str(v) for v in (r['machine']['gpu'] or r['machine']['cpu'], r['machine']['cores'], r['network'], r['bs']))

def judge(r, record=False, path=here.with_suffix('.json')):
    "What is wrong with a measurement, in words"
    old = json.loads(path.read_text()) if path.exists() else {}
    bad,known = [],old.get(key(r), {}).get('rows', {})
    for name,o in r['rows'].items():
        if name=='released': continue
        if o['executed_F'] and o['executed_F']>1.02*r['needed_F']: bad.append(f"{name}: {o['executed_F']:.1f}F executed, {r['needed_F']}F needed")
        k = 'ratio' if r['machine']['gpu'] or 'ratio_cpu' not in o else 'ratio_cpu'             # on a shared processor its seconds say more than the clock
        if not record and name in known and o[k]<.8*known[name][k]: bad.append(f"{name}: {o[k]:.2f} times as fast, {known[name][k]:.2f} were recorded")
    if record: path.write_text(json.dumps({**old, key(r):r}, indent=1)+'\n')
    elif not known: print('nothing was recorded on such a machine: --record keeps this for comparison')
    return bad

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    p.add_argument('--network', default='resnet18', choices=networks); p.add_argument('--bs', type=int, default=256 if gpu else 8); p.add_argument('--rounds', type=int, default=10 if gpu else 3)
    p.add_argument('--ours', default='fp32,bf16,bf16+compile' if gpu else 'fp32,bf16'); p.add_argument('--record', action='store_true'); p.add_argument('--out', type=Path)
    a = p.parse_args()
    r = measure(a.network, a.bs, a.rounds, a.ours.split(','))
    print(table(r))
    if a.out: a.out.write_text(json.dumps(r, indent=1))
    for b in (bad := judge(r, a.record)): print('worse:', b)
    return bool(bad)

if __name__=='__main__': sys.exit(main())
