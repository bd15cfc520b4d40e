"""Views per second: ours against torchvision on PIL images, in alternation, on the same images

    python tests/bench/bench_views.py [--n 256] [--rounds 7] [--threads 2] [--record]

torchvision runs in as many forked processes as we have threads. Its processes already hold the images and send nothing back,
which is kinder to it than any DataLoader. One round times both, so that what else the machine does touches both. `--record` stores this
machine's ratio in bench_views.json; without it, one more than 20 % below that fails."""
import argparse, os, sys
from pathlib import Path
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--n', type=int, default=256, help='images in a batch')
parser.add_argument('--rounds', type=int, default=7)
parser.add_argument('--threads', type=int, default=2)
parser.add_argument('--record', action='store_true')
args = parser.parse_args()
os.environ['OMP_NUM_THREADS'] = str(args.threads)
sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_step import judge, machine, pictures
import multiprocessing as mp, time
import numpy as np, torch
from PIL import Image
from torchvision import transforms as T
from robustfm.augment import views
from robustfm.tools import to_float

def torchvision_worker(x, go, done):
    torch.set_num_threads(1)
    pil = [Image.fromarray(i) for i in x]
    t = T.Compose([T.RandomResizedCrop(32, scale=(.1,1.)), T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(.4,.4,.4,.1)], .8), T.RandomGrayscale(.2), T.ToTensor()])
    while go.recv():
        torch.stack([t(i) for i in pil])
        done.send(True)

def main():
    images = pictures(args.n)
    parts = np.array_split(images.x.permute(0,2,3,1).contiguous().numpy(), args.threads)
    ctx,workers = mp.get_context('fork'),[]
    for p in parts:                                     # before torch has started its threads
        (theirs,go),(done,ours) = ctx.Pipe(False),ctx.Pipe(False)
        workers.append((go,done,ctx.Process(target=torchvision_worker, args=(p,theirs,ours), daemon=True)))
        workers[-1][2].start()
    x,aug = to_float(images.x),views(scale=(.1,1.))
    def torchvision():
        for go,_,_ in workers: go.send(True)
        for _,done,_ in workers: done.recv()
    def robustfm(times=4):
        for _ in range(times): aug(x)
    def rate(f, times=1):
        t = time.perf_counter(); f()
        return args.n*times/(time.perf_counter()-t)
    rate(torchvision); rate(robustfm)                   # once to warm up
    pairs = np.array([(rate(torchvision),rate(robustfm, 4)) for _ in range(args.rounds)])
    for go,_,p in workers: go.send(False); p.join()
    pairs = np.c_[pairs, pairs[:,1]/pairs[:,0]]
    lo,mid,hi = np.percentile(pairs, (25,50,75), axis=0)
    print(f'{args.n} of {images.name}, {args.threads} threads, {args.rounds} rounds: median [quartiles]')
    for k,name in enumerate((f'torchvision/PIL, {args.threads} processes', 'robustfm.views')): print(f'{name:30} {mid[k]:10,.0f} views/s [{lo[k]:,.0f} … {hi[k]:,.0f}]')
    print(f'{"ratio":30} {mid[2]:10.1f} ×       [{lo[2]:.1f} … {hi[2]:.1f}]    floor 2.5, aim 5')
    r = dict(machine=machine(torch.device('cpu')), when=time.strftime('%Y-%m-%d'), network='views', bs=args.n,
             rows=dict(views=dict(ratio=mid[2], quartiles=[lo[2],hi[2]], ours=mid[1], torchvision=mid[0], executed_F=None)))
    bad = judge(r, args.record, Path(__file__).with_suffix('.json'))
    if mid[2]<2.5: bad.append('below the floor')
    for b in bad: print('worse:', b)
    return bool(bad)

if __name__=='__main__': sys.exit(main())
