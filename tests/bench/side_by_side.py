"""Is this version slower than another? Both do the same in turns, each in a process of its own

    python tests/bench/side_by_side.py --before FOLDER      of a second checkout

An ACL step (ResNet-18, batch 32), views of 256 photographs, one selection of RCS at batch 512 and at batch 32 (a small network), and the import
beyond torch's. What counts is the ratio of the medians; generated images, for nothing here looks at what is on them."""
import argparse, os, statistics, subprocess, sys
from pathlib import Path

worker = '''
import sys, time
import robustfm, torch, torchvision, numpy
began = time.perf_counter()
from robustfm.all import *
from robustfm.methods.rcs import RCS
from robustfm.models import resnet18, tiny
importing = time.perf_counter()-began
torch.manual_seed(0)
torch.set_num_threads({threads})
stored = torch.randint(0, 256, (1536,3,32,32), dtype=torch.uint8)
x = stored[:256].float()/255
images,valid = Images(stored[:1024], torch.zeros(1024, dtype=torch.int64)),Images(stored[1024:], torch.zeros(512, dtype=torch.int64))
big = ACL(Encoder(resnet18()), views(), PGD(Linf(8/255), alpha=2/255, steps=5))
few = ACL(Encoder(tiny(3, 32)), views(), PGD(Linf(8/255), alpha=2/255, steps=5))
aug = views()
def step(): sum(big.terms(x[:32]).values()).backward()
def view():
    for _ in range(4): aug(x)
def rcs(bs): return lambda: RCS(few, images, valid, fraction=.5, warmup=0, every=1, bs=bs).select(0)
tasks = dict(step=step, views=view, rcs512=rcs(512), rcs32=rcs(32))
for line in sys.stdin:
    name = line.strip()
    if name=='import': print(importing, flush=True); continue
    t = time.perf_counter()
    tasks[name]()
    print(time.perf_counter()-t, flush=True)
'''

class Checkout:
    "A process that works in a checkout"
    def __init__(self, folder, threads):
        self.env  = os.environ|dict(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE='')
        self.code = worker.replace('{threads}', str(threads))
        self.start()

    def start(self): self.p = subprocess.Popen([sys.executable, '-c', self.code], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, name):
        self.p.stdin.write(name+'\n')
        self.p.stdin.flush()
        return float(self.p.stdout.readline())

    def again(self):
        self.p.stdin.close()
        self.p.wait()
        self.start()

limits = {'step':1.03, 'views':1.05, 'rcs512':1.05, 'rcs32':2.}
many   = dict(views=15)                                                            # a short task is asked more often

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--before', type=Path, required=True)
    p.add_argument('--rounds', type=int, default=9)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--tasks', default=','.join(limits))
    a = p.parse_args()
    two = [Checkout(f, a.threads) for f in (Path(__file__).resolve().parents[2],a.before.resolve())]
    slow = []
    for name in a.tasks.split(','):
        for c in two: c(name)                                                         # warm
        times = [[c(name) for c in (two if i%2 else two[::-1])][::1 if i%2 else -1] for i in range(a.rounds*many.get(name, 1))]
        now,old = (statistics.median(t) for t in zip(*times))
        ratio = statistics.median(n/o for n,o in times)
        print(f'{name:8} now {now:7.3f} s  before {old:7.3f} s  ratio {ratio:.3f} (at most {limits[name]})', flush=True)
        if ratio>limits[name]: slow.append(name)
    loads = []
    for _ in range(5):
        for c in two: c.again()
        loads.append([c('import') for c in two])
    print('import   now {:7.3f} s  before {:7.3f} s beyond torch and torchvision (at most 0.15)'.format(*(statistics.median(t) for t in zip(*loads))))
    if slow: print('slower than allowed:', ', '.join(slow))

if __name__=='__main__': main()
