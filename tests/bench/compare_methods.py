"""Every method on the same digits, with the same network, views, attack and epochs, then the same linear classifier, attacked

    python tests/bench/compare_methods.py --seeds 0 1 2 --out nbs/tutorials/results/methods_digits.json

Each run is written as soon as it is done, and a run that is there is not made again: the same command goes on where it was cut off.
The settings are those of `robustfm demo`. What differs by method is what its paper says: DeACL's student starts from the SimCLR encoder of
its seed and sees a weak view; AdvCL and A-InfoNCE cluster what that encoder sees."""
import argparse, json, platform, statistics, sys, time
from datetime import date
from functools import lru_cache
from pathlib import Path
import numpy, sklearn, torch
import robustfm
from robustfm.augment import crop_flip,views
from robustfm.data import Batches,Images
from robustfm.datasets import digits
from robustfm.demonstration import both,demo_methods,demo_settings
from robustfm.evaluation import evaluate
from robustfm.finetuning import finetune
from robustfm.methods.acl import ACL
from robustfm.methods.advcl import AdvCL,pseudo_labels
from robustfm.methods.ainfonce import AInfoNCE,Asymmetric
from robustfm.methods.air import AIR,kl_renorm,rowwise
from robustfm.methods.deacl import DeACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rocl import RoCL
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.runs import pretrain

setting = demo_settings['digits']
eps,ks,three = setting.attack.ball.eps,(2,10,50),('clean','adv','pseudo')
weak = crop_flip(1, flip=0)                            # 8×8: a pixel of shift, and a mirrored 2 is no 2
methods = {                                            # name → branches; objective of a network, views, attack and the SimCLR encoder of this seed
    **{k: (b, lambda net,aug,pgd,simclr,make=make: make(net, aug, pgd, dict(SimCLR=simclr))) for k,(b,make,_) in demo_methods.items() if k!='DeACL'},
    'DynACL':   (both,    lambda net,aug,pgd,simclr: DynACL(net, aug, pgd)),
    'AdvCL':    (three,   lambda net,aug,pgd,simclr: AdvCL(net, aug, pgd, ks, weak=weak)),
    'A-InfoNCE':(three,   lambda net,aug,pgd,simclr: AInfoNCE(net, aug, pgd, Asymmetric(.2, tau_plus=.1), ks=ks, weak=weak)),
    'DeACL':    ('clean', lambda net,aug,pgd,simclr: DeACL(net.load_state_dict(simclr.state_dict()) and net, simclr, weak, pgd)),
    'RoCL':     ('clean', lambda net,aug,pgd,simclr: RoCL(net, aug, pgd)),
}
variants = {                                           # further readings of AIR, by name only
    'ACL-AIR row-wise':  (both, lambda net,aug,pgd,simclr: ACL(net, aug, pgd, reg=AIR(div=rowwise))),
    'ACL-AIR loud':      (both, lambda net,aug,pgd,simclr: ACL(net, aug, pgd, reg=AIR(div=kl_renorm))),
}
needs_simclr,needs_labels = {'AdvCL','A-InfoNCE','DeACL'},{'AdvCL','A-InfoNCE'}

@lru_cache(4)
def encoder(name, seed, epochs, width):
    "A pre-trained `Encoder`, and the seconds that took, without those of the SimCLR encoder it may build on"
    train,(branches,make) = digits()[0],(methods|variants)[name]
    simclr = encoder('SimCLR', seed, epochs, width)[0] if name in needs_simclr else None
    t = time.time()
    images = Images(train.x, pseudo_labels(simclr, train, ks, seed=seed)) if name in needs_labels else train
    torch.manual_seed(seed)
    o = make(Encoder(tiny(width=width), branches), views(**setting.views), setting.attack, simclr)
    pretrain(o, Batches(images, setting.bs, seed), epochs, setting.lr, 'adam', seed=seed, show=False)
    return o.net.cpu(),time.time()-t

def run(name, seed=0, epochs=setting.epochs, width=16, checks='quick'):
    "One row: accuracy on the test images as they are (SA) and under PGD-20 through encoder and head (RA), each with one standard error of the n images"
    train,_,test = digits()
    net,seconds = encoder(name, seed, epochs, width)
    r = evaluate(finetune(net, train, seed=seed, show=False), test, eps=eps, checks=checks, seed=seed, show=False)
    sa,ra = r.rows
    return dict(method=name, seed=seed, SA=round(sa.accuracy, 4), RA=round(ra.accuracy, 4), SA_se=round(sa.stderr, 4), RA_se=round(ra.stderr, 4), n=ra.n,
                doubts=[f'{v.name}: {v.seen}' for v in r.verdicts if v.status in ('fail','warn')], seconds=round(seconds, 1), date=str(date.today()))

def provenance(epochs, width):
    "What decides the numbers, but for the seed"
    return dict(setting=dict(data='digits', network=f'tiny(width={width})', views=setting.views, attack=repr(setting.attack), bs=setting.bs, lr=setting.lr, opt='adam', epochs=epochs,
                             ks=ks, classifier="finetune(mode='slf')", RA=f'PGD-20, Linf, ε = {eps:g}'),
                versions=dict(python=platform.python_version(), torch=torch.__version__, numpy=numpy.__version__, sklearn=sklearn.__version__, robustfm=robustfm.__version__))

def write(path, o):
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix('.tmp')
    new.write_text(json.dumps(o, indent=1, ensure_ascii=False)+'\n', encoding='utf-8'); new.replace(path)

def table(rows):
    "Mean and standard deviation over seeds, and the distance to SimCLR of the same seed"
    by = {k:{r['seed']:r for r in rows if r['method']==k} for k in dict.fromkeys(r['method'] for r in rows)}
    def spread(v): return f'{100*statistics.mean(v):5.1f} ± {100*statistics.stdev(v) if len(v)>1 else 0:3.1f}'
    for k,rs in by.items():
        gap = [r['RA']-by['SimCLR'][s]['RA'] for s,r in rs.items() if s in by.get('SimCLR', {})]
        yield f"{k:18} SA {spread([r['SA'] for r in rs.values()])}   RA {spread([r['RA'] for r in rs.values()])}   over SimCLR {spread(gap) if gap else '-'}   seeds {len(rs)}"

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, nargs='+', default=[0,1,2])
    p.add_argument('--methods', default=','.join(methods), help=f'of {", ".join(methods|variants)}')
    p.add_argument('--epochs', type=int, default=setting.epochs)
    p.add_argument('--width', type=int, default=16)
    p.add_argument('--out', type=Path, help='JSON file, written after each run')
    p.add_argument('--minutes', type=float, default=float('inf'), help='begin no run after so many: the same command goes on')
    a = p.parse_args()
    t0 = time.time()
    o = dict(command='python tests/bench/compare_methods.py', runs=[]) | provenance(a.epochs, a.width)
    o = json.loads(json.dumps(o))
    if a.out and a.out.exists():
        old = json.loads(a.out.read_text(encoding='utf-8'))
        for k in ('setting','versions'):
            if old[k]!=o[k]: p.error(f'{a.out} was made with other {k}: {old[k]}; now {o[k]}. Give another --out')
        o = old
    for seed in a.seeds:
        for name in a.methods.split(','):
            if any(r['method']==name and r['seed']==seed for r in o['runs']): continue
            if time.time()-t0>60*a.minutes: sys.exit('not all runs are made: the same command goes on')
            o['runs'].append(run(name, seed, a.epochs, a.width))
            r = o['runs'][-1]
            print(f"{name:18} seed {seed}: SA {r['SA']:.1%}, RA {r['RA']:.1%}, {r['seconds']:.0f} s {r['doubts'] or ''}", flush=True)
            if a.out: write(a.out, o)
    print(*table(o['runs']), sep='\n')

if __name__=='__main__': main()
