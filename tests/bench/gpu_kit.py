"""What a machine with a GPU is asked to bring home: the benchmark, and timed pre-trainings on CIFAR-10 as run folders of at most 2 MB

    PYTHONPATH=. python tests/bench/gpu_kit.py --data CIFAR [--out gpu_runs] [--epochs 100] [--images 45000] [--minutes 25] [--compile]

CIFAR is a folder with cifar-10-batches-py, or an .npz file with x (N,32,32,3) uint8 and y, written by `--pack FILE.npz --images 15000` where the
data is: 15,000 images are some 40 MB. Without either, it runs on generated shapes and says so. It needs this folder, torch, torchvision
and accelerate (with the safetensors and tqdm that come with it), one GPU of 16 GB or more, and no network. Methods that no longer fit into `--minutes`
are left out by name; what is done is not done again by the same call, and what was cut short goes on. Bring home bench.json, summary.json and the
folders that have a provenance.json; one without it was cut short and is large."""
import argparse, json, sys, time
from pathlib import Path
import robustfm
import numpy as np, torch
sys.path.insert(0, str(Path(__file__).resolve().parent))
import bench_step
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.rendering import shapes
from robustfm.datasets import cifar10
from robustfm.tools import evaluating,to_float
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rcs import RCS,Random
from robustfm.models import Encoder
from robustfm.objective import SimCLR
from robustfm.train import engine
from robustfm.runs import open_run,pretrain

limit = 2_000_000                                                      # bytes of a run folder

def load(data, n):
    "Training and test images, and where they are from"
    if data is None: return shapes(n, 0),shapes(max(200, n//10), 1),'generated shapes'
    if Path(data).is_file():
        with np.load(data, allow_pickle=False) as z: all_ = Images(torch.from_numpy(z['x']).permute(0,3,1,2).contiguous(), z['y'].astype(np.int64), name='CIFAR-10')
        train,test = all_.split(.9)
    else: train,test = cifar10(data)
    return (train.split(n)[0] if n<len(train) else train),test,f'CIFAR-10, {min(n, len(train)):,} training images'

def pack(data, path, n):
    "The first n training images in one file to bring along"
    train,_ = cifar10(data)
    np.savez_compressed(path, x=train.x[:n].permute(0,2,3,1).numpy(), y=train.y[:n].numpy().astype(np.uint8))
    print(f'{path}: {n:,} images, {Path(path).stat().st_size/1e6:.0f} MB')

def plans(net, bs, epochs):
    "Name → (objective, source of batches) of the training and the held-out images"
    pgd,aug = PGD(Linf(8/255), alpha=2/255, steps=5),views()
    acl = lambda **kw: ACL(net(), aug, pgd, **kw)
    part = dict(warmup=max(1, epochs//10), every=max(1, epochs//10), bs=bs)
    def coreset(kind, f):
        def make(train, valid):
            o = acl()
            return o,RCS(o, train, valid, fraction=f, **part) if kind=='rcs' else Random(train, fraction=f, **part)
        return make
    every = lambda make: lambda train,valid: (make(),Batches(train, bs=bs))
    return {'simclr':every(lambda: SimCLR(net(), aug, bn='clean')), 'acl':every(acl), 'acl-air':every(lambda: acl(reg=AIR())),
            'dynacl-air':every(lambda: DynACL(net(), aug, pgd, reg=AIR())), 'acl-rcs-0.2':coreset('rcs', .2), 'acl-random-0.2':coreset('random', .2),
            'acl-rcs-0.1':coreset('rcs', .1), 'acl-random-0.1':coreset('random', .1)}

def embeddings(net, test, device, n=2000):
    "Of n test images, in half precision, with their labels: what an explorer of embeddings draws"
    net.to(device)
    with evaluating(net), torch.no_grad():
        h = torch.cat([net.features(to_float(x.to(device)), bn=net.branches[-1]).float().cpu() for x in test.x[:n].split(500)])
    _,_,v = torch.pca_lowrank(h, min(32, *h.shape))                    # 32 principal directions keep the folder small
    return dict(h=(h-h.mean(0))@v, y=test.y[:n])

def slim(run, net, test, device, extra):
    "Keep what tutorials show; weights and checkpoints stay behind"
    run = open_run(run)
    e = embeddings(net, test, device)
    (run.path/'embeddings').mkdir(exist_ok=True)
    np.savez_compressed(run.path/'embeddings'/'test.npz', h=e['h'].half().numpy(), y=e['y'].numpy().astype(np.uint8))
    run.write('provenance.json', extra)
    for f in (run.checkpoint,run.path/'encoder.safetensors'): f.unlink(missing_ok=True)
    size = sum(f.stat().st_size for f in run.path.rglob('*') if f.is_file())
    if size>limit: raise ValueError(f"{run.path} has {size:,} bytes, more than {limit:,}: fewer epochs between selections, or fewer images")
    return size

def kit(data=None, out='gpu_runs', epochs=100, images=45000, bs=512, network='resnet18', precision=None, minutes=25., bench_bs=256, rounds=10, bench=None, only=None, compile=False):
    "Benchmark, then every plan there is time for -> the rows of the summary"
    out,end = Path(out),time.time()+60*minutes
    out.mkdir(parents=True, exist_ok=True)
    acc = engine(); device = acc.device
    precision = precision or ('bf16' if device.type=='cuda' and torch.cuda.is_bf16_supported() else 'fp16' if device.type=='cuda' else 'fp32')
    if not (out/'bench.json').exists():
        (out/'bench.json').write_text(json.dumps(r := bench_step.measure(network, bench_bs, rounds, bench or ('fp32',precision,precision+'+compile')), indent=1))
        print(bench_step.table(r))
    train,test,origin = load(data, images)
    test,(valid,train) = test.to('cpu'),train.split(max(bs//2, 2))
    rows = []
    for name,make in plans(lambda: Encoder(bench_step.networks[network]()), bs, epochs).items():
        if only and name not in only: continue
        if (out/name/'provenance.json').exists(): rows.append(json.loads((out/name/'provenance.json').read_text())); continue
        if time.time()>end: print(f'{name}: left out, {minutes:g} minutes are over'); continue
        torch.manual_seed(0)
        objective,batches = make(train, valid)
        h = pretrain(objective, batches, epochs, opt='sgd', precision=precision, compile=compile, run=out/name, show=lambda h: time.time()>end)
        if not h or h[-1]['progress']<1: print(f'{name}: cut short, {minutes:g} minutes are over'); continue
        row = dict(name=name, images=origin, epochs=epochs, bs=bs, precision=precision, compile=compile, seconds=h[-1]['seconds'], seconds_per_epoch=h[-1]['seconds']/epochs, loss=h[-1]['loss'],
                   when=time.strftime('%Y-%m-%d'), **bench_step.machine(device))
        size = slim(out/name, objective.net, test, device, row)
        rows.append(row)
        print(f"{name:16} {row['seconds']:8.0f} s  {row['seconds_per_epoch']:7.2f} s an epoch  loss {row['loss']:.3f}  {size/1e3:.0f} kB", flush=True)
    (out/'summary.json').write_text(json.dumps(rows, indent=1))
    return rows

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data'); p.add_argument('--out', default='gpu_runs'); p.add_argument('--pack'); p.add_argument('--epochs', type=int, default=100); p.add_argument('--images', type=int, default=45000)
    p.add_argument('--bs', type=int, default=512); p.add_argument('--network', default='resnet18', choices=bench_step.networks); p.add_argument('--precision'); p.add_argument('--minutes', type=float, default=25.); p.add_argument('--compile', action='store_true')
    a = vars(p.parse_args())
    path = a.pop('pack')
    if path: pack(a['data'], path, a['images'])
    else: kit(**a)

if __name__=='__main__': main()
