"""One ACL step, ours and the released arithmetic, in alternation on the same images

    python tests/bench/bench_step.py [--bs 8] [--rounds 3] [--precision fp32] [--compile] [--record] [--out FILE.json]

The released arithmetic, rebuilt from its description: views by PIL, one image at a time; an attack that calls .backward() and so computes
weight gradients as well; single precision throughout; five .item() a step. Both have the same networks, sizes and numbers of steps. One round
times both, in turns, so that what else the machine does touches both; ratios are medians over rounds. `--record` stores this machine's ratio in
bench_step.json; without it, a ratio more than 20 % below the one recorded on a machine of the same description fails."""
import argparse, copy, json, os, platform, sys, time
from contextlib import nullcontext
from pathlib import Path
import robustfm
import numpy as np, torch, torch.nn.functional as F
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms as T
from robustfm.attacks import Linf, PGD
from robustfm.augment import views
from robustfm.data import Batches, Images, cifar10, shapes
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.models import Encoder, evaluating, resnet18, tiny
from robustfm.train import compiled, engine, steps

here = Path(__file__).resolve()
networks = dict(resnet18=resnet18, tiny=lambda: tiny(3))

def pictures(n):
    "CIFAR-10's first n test images where they are, else generated ones"
    for root in (None, here.parents[2]/'.data'):
        try: return cifar10(root)[1][:n]
        except (FileNotFoundError,ValueError): pass
    return shapes(n)

def machine(device):
    "Who was measured"
    cpu = next((l.split(':')[1].strip() for l in Path('/proc/cpuinfo').read_text().splitlines() if l.startswith('model name')), platform.processor()) if Path('/proc/cpuinfo').exists() else platform.processor()
    gpu = torch.cuda.get_device_name() if device.type=='cuda' else None
    return dict(cpu=cpu, cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpu, torch=torch.__version__, bf16_units=torch.backends.cpu.get_cpu_capability()=='AVX512' if not gpu else True)

def wait(device):
    if device.type=='cuda': torch.cuda.synchronize()

def peak_flops(device, dtype, seconds=.5):
    "FLOP/s of the largest matrix product tried: what this machine can do"
    n,best = 4096 if device.type=='cuda' else 1024,0.
    a,b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    a@b; end = time.time()+seconds
    while time.time()<end:
        wait(device); t = time.perf_counter(); a@b; wait(device)
        best = max(best, 2*n**3/(time.perf_counter()-t))
    return best

class Released:
    "One step of the released arithmetic at a time"
    def __init__(self, net, images, bs, device, attack_steps, eps=8/255, alpha=2/255, t=.5):
        self.net,self.bs,self.device,self.k,self.eps,self.alpha,self.t = net.to(device),bs,device,attack_steps,eps,alpha,t
        self.opt = torch.optim.SGD(net.parameters(), .1, momentum=.9)
        self.pil = [Image.fromarray(i) for i in images.x.permute(0,2,3,1).numpy()]
        self.view = T.Compose([T.RandomResizedCrop(32, scale=(.1,1.)), T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(.4,.4,.4,.1)], .8), T.RandomGrayscale(.2), T.ToTensor()])

    def loss(self, z):
        "NT-Xent of rows 2i and 2i+1, by four matrices of all pairs"
        z = F.normalize(z, dim=1)
        n,sim = len(z),z@z.T/self.t
        own = torch.eye(n, device=z.device); pos = torch.eye(n//2, device=z.device).repeat_interleave(2, 0).repeat_interleave(2, 1)-own
        e = sim.exp()
        return -((e*pos).sum(1)/((e*(1-own)).sum(1))).log().mean()

    def data(self, i):
        js = [(i*self.bs+j) % len(self.pil) for j in range(self.bs)]
        return torch.stack([self.view(self.pil[j]) for j in js for _ in range(2)])

    def step(self, x):
        x,net = x.to(self.device),self.net
        net.eval()
        a = (x+torch.empty_like(x).uniform_(-self.eps, self.eps)).clamp(0, 1)
        for _ in range(self.k):
            a = a.detach().requires_grad_()
            self.loss(net(a, bn='adv')).backward()                     # gradients of all weights, too
            with torch.no_grad(): a = (x+(a+self.alpha*a.grad.sign()-x).clamp(-self.eps, self.eps)).clamp(0, 1)
        net.train(); self.opt.zero_grad()
        adv,clean = self.loss(net(a.detach(), bn='adv')),self.loss(net(x, bn='clean'))
        loss = (adv+clean)/2
        loss.backward(); self.opt.step()
        return [float(v.item()) for v in (loss, adv, clean, loss, loss)]

def ours(net, images, bs, acc, attack_steps, reg=None):
    "A generator of steps without an end"
    objective = ACL(net, views(scale=(.1,1.)), PGD(Linf(8/255), alpha=2/255, steps=attack_steps), reg=reg)
    return objective,steps(objective, Batches(images, bs=bs, drop_last=True), 'sgd', 10**6, accelerator=acc)

def flops(f):
    with FlopCounterMode(display=False) as c: f()
    return c.get_total_flops()

def timed(f, device):
    wait(device); t = time.perf_counter(); f(); wait(device)
    return time.perf_counter()-t

def measure(network='resnet18', bs=16, rounds=5, precision='fp32', compile=False, attack_steps=5):
    "All numbers of one comparison"
    torch.manual_seed(0)
    acc = engine(precision)
    dev,dtype = acc.device,dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)[precision]
    images = pictures(4*bs)
    net = Encoder(networks[network]())
    old = Released(copy.deepcopy(net), images, bs, dev, attack_steps)
    units = flops(lambda: torch.no_grad()(net)(torch.zeros(2,3,32,32)))/2                     # F, one image forward
    objective,loop = ours(net, images, bs, acc, attack_steps)
    with compiled(objective) if compile else nullcontext():
        next(loop); x = old.data(0); old.step(x)                                              # warm up
        ran = flops(lambda: next(loop)) if not compile else None
        wasted = flops(lambda: old.step(x))
        _,with_air = ours(copy.deepcopy(net), images, bs, acc, attack_steps, AIR())
        next(with_air); air = flops(lambda: next(with_air))
        if dev.type=='cuda': torch.cuda.reset_peak_memory_stats()
        rows = []
        for i in range(rounds):
            data = timed(lambda: old.data(i), dev); x = old.data(i)
            theirs = timed(lambda: old.step(x), dev)
            rows.append((data+theirs, data, timed(lambda: next(loop), dev), timed(lambda: [objective.augment(images.x[:bs].to(dev).float()/255) for _ in range(2)], dev)))
    rows = np.array(rows)
    ratio = rows[:,0]/rows[:,2]
    lo,mid,hi = np.percentile(ratio, (25,50,75))
    t_old,_,t_new,t_views = np.median(rows, 0)
    need = (2*2*attack_steps+3*4)*units*bs                                                      # 2 views · (2K attack + 3·2 training)
    peak = peak_flops(dev, dtype)
    return dict(machine=machine(dev), network=network, bs=bs, rounds=rounds, precision=precision, compile=compile, attack_steps=attack_steps, images=images.name,
                seconds_released=t_old, seconds=t_new, ratio=mid, ratio_quartiles=[lo,hi], ratio_without_data=float(np.median((rows[:,0]-rows[:,1])/rows[:,2])),
                F=units, executed_F=ran and ran/units/bs, executed_F_released=wasted/units/bs, executed_F_air=air/units/bs, needed_F=need/units/bs,
                peak_flops=peak, mfu=need/t_new/peak, mfu_released=need/t_old/peak, views_share=t_views/t_new, pil_share=float(np.median(rows[:,1]/rows[:,0])),
                peak_memory=torch.cuda.max_memory_allocated() if dev.type=='cuda' else __import__('resource').getrusage(__import__('resource').RUSAGE_SELF).ru_maxrss*1024)

def table(r):
    m,f = r['machine'],lambda v: '–' if v is None else f'{v:.1f}F'
    rows = [('', 'released arithmetic', 'robustfm'), ('seconds a step', f"{r['seconds_released']:.3f}", f"{r['seconds']:.3f}"),
            ('ratio, median [quartiles]', '1', f"{r['ratio']:.2f} [{r['ratio_quartiles'][0]:.2f} … {r['ratio_quartiles'][1]:.2f}]"),
            ('ratio without making views', '1', f"{r['ratio_without_data']:.2f}"),
            ('FLOPs executed, an image', f(r['executed_F_released']), f(r['executed_F'])), ('FLOPs needed', f(r['needed_F']), f(r['needed_F'])),
            ('… with AIR, executed', '–', f(r['executed_F_air'])),
            (f"MFU, of {r['peak_flops']/1e9:,.0f} GFLOP/s", f"{r['mfu_released']:.0%}", f"{r['mfu']:.0%}"), ('share spent on views', f"{r['pil_share']:.1%}", f"{r['views_share']:.1%}")]
    head = f"ACL, K={r['attack_steps']}, {r['network']}, {r['bs']} × 32×32 ({r['images']}), {r['precision']}{', compiled' if r['compile'] else ''}; {m['gpu'] or m['cpu']}, {m['cores']} cores, {m['threads']} threads, torch {m['torch']}"
    w = [max(len(o[i]) for o in rows) for i in range(3)]
    line = lambda o: '| '+' | '.join(v.ljust(k) for v,k in zip(o, w))+' |'
    return '\n'.join([head, '', line(rows[0]), '|'+'|'.join('-'*(k+2) for k in w)+'|', *map(line, rows[1:]), '', f"peak memory {r['peak_memory']/1e6:,.0f} MB"])

def key(r): return ' '.join(str(v) for v in (r['machine']['gpu'] or r['machine']['cpu'], r['machine']['cores'], r['network'], r['bs'], r['precision'], r['compile']))

def judge(r, record=False, path=here.with_suffix('.json')):
    "What is wrong with a measurement, in words"
    old = json.loads(path.read_text()) if path.exists() else {}
    bad = []
    if r['executed_F'] and r['executed_F']>1.02*r['needed_F']: bad.append(f"{r['executed_F']:.1f}F executed, {r['needed_F']:.0f}F needed")
    known = old.get(key(r))
    if record: path.write_text(json.dumps({**old, key(r):r}, indent=1)+'\n')
    elif known and r['ratio']<.8*known['ratio']: bad.append(f"{r['ratio']:.2f} times as fast as the released arithmetic, {known['ratio']:.2f} were recorded")
    return bad

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--network', default='resnet18', choices=networks); p.add_argument('--bs', type=int, default=8); p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--precision', default='fp32', choices=('fp32','bf16','fp16')); p.add_argument('--compile', action='store_true')
    p.add_argument('--record', action='store_true'); p.add_argument('--out', type=Path)
    a = p.parse_args()
    r = measure(a.network, a.bs, a.rounds, a.precision, a.compile)
    print(table(r))
    if a.out: a.out.write_text(json.dumps(r, indent=1))
    for b in (bad := judge(r, a.record)): print('worse:', b)
    return bool(bad)

if __name__=='__main__': sys.exit(main())
