"""Which way of making a finished encoder robust, at equal price: our own SimCLR encoders of CIFAR-10, mended without labels, judged by the head they had and by a new one

    python tests/bench/robustify_photographs.py --data CIFAR --encoders photograph_runs [--arms fare,deacl] [--seeds 0 1 2] [--precision bf16]

`--encoders` holds the run folders `simclr_0`, `simclr_1` … of photographs.py. Arm by arm and seed by seed: the encoder as it was; FARE, DeACL, ProFeAT,
LORE and Sim-CLIP, all with the same optimizer, rate and attack, and each with as many F (forwards of one image) as FARE has in `epochs` epochs: who
costs more an image sees a smaller random part of all images in each epoch. Then FARE on a part that RCS chooses, and on a random part, drawn anew
each epoch, that is larger by what RCS paid for choosing. Judged on the first `--test` test images by clean accuracy and PGD-20 at 1, 2 and 4/255
through the linear classifier of the original (the old head kept) and through one fitted anew, with verdicts; and by how far embeddings move.
What is there is not made again, and what was cut off goes on. An arm and seed costs ten minutes or so of one core, half of that in bf16 where the
processor multiplies matrices in it (AMX)."""
import argparse, json, math, platform, statistics, sys, time
from copy import deepcopy
from datetime import date
from pathlib import Path
import torch
import robustfm
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from house import tutorials
from robustfm.attacks import Linf,PGD
from robustfm.augment import crop_flip
from robustfm.datasets import cifar10
from robustfm.evaluation import robustness_curve
from robustfm.finetuning import finetune
from robustfm.foundation import embedding_shift,robustify
from robustfm.objective import methods
from robustfm.runs import open_run
from robustfm.tools import replacing

K,radii = 5,(1,2,4)
setting = dict(images=50_000, epochs=4, bs=128, lr=2e-3, opt='adamw', eps='4/255', attack=f'PGD, {K} steps of ε/4', test=2000, fraction=.2, every=2)
def price(method): return methods[method].cost(K, 1) if method=='lore' else methods[method].cost(K)
def views(method): return {} if method=='profeat' else dict(augment=crop_flip())      # ProFeAT's student has stronger ones of its own
def part(share): return dict(kind='random', fraction=share, every=1, refresh='refreshed')

def coreset(arm, s, rows):
    "What an arm trains on, as `robustify` is told it"
    if arm=='fare-rcs': return dict(fraction=s['fraction'], every=s['every'])
    if arm!='fare-random': return part(price('fare')/price(arm)) if price(arm)>price('fare') else None
    chosen = next((r for r in rows if r['arm']=='fare-rcs'), None)                     # of this seed
    if chosen is None: raise SystemExit('fare-random costs what fare-rcs cost: ask for that arm, too')
    return part(chosen['F']/(s['epochs']*s['images']*price('fare')))

arms = 'original','fare','deacl','profeat','lore','simclip','fare-rcs','fare-random'

def mended(arm, net, train, run, s, rows, seed, precision):
    "The encoder after an arm, and what it cost in F"
    if arm=='original': return net,0
    method = arm.split('-')[0]
    more = dict(descents=1) if method=='lore' else {}                              # one update for each attack, as the others
    new = robustify(net, train, method, 4/255, s['epochs'], s['bs'], s['lr'], K, coreset(arm, s, rows), run, opt=s['opt'], warmup=.1, seed=seed,
                    precision=precision, show=sys.stdout.isatty(), **views(method), **more)
    r = open_run(run)
    if arm=='fare-rcs': return new,sum(o['units'] for o in r.selections)+price('fare')*round(s['fraction']*s['images'])*s['epochs']
    share = (coreset(arm, s, rows) or dict(fraction=1))['fraction']
    return new,price(method)*share*s['images']*s['epochs']

def judged(clf, test, name):
    "Accuracy on images as they are and under PGD-20 at each radius, with errors and what the verdicts say"
    c = robustness_curve(clf, test, (0,*radii), show=False)
    row = {f'{name}_{e or "clean"}':round(a, 4) for e,a in zip(c.eps, c.accuracy)}
    return row | {f'{name}_{e or "clean"}_se':round(a, 4) for e,a in zip(c.eps, c.stderr)} | {f'{name}_doubts':[f'{v.name}: {v.seen}' for v in c.verdicts if v.status in ('fail','warn')]}

def with_head(clf, net):
    new = deepcopy(clf)
    new.net.load_state_dict(net.state_dict())
    return new.eval()

def write(path, o):
    with replacing(path) as new: new.write_text(json.dumps(o, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')

def table(rows):
    "Mean ± standard error over seeds, in %"
    def said(v): return f'{100*statistics.mean(v):5.1f} ± {100*statistics.stdev(v)/len(v)**.5:3.1f}' if len(v)>1 else f'{100*v[0]:5.1f}      '
    names = [f'{h}_{r}' for h in ('old','new') for r in ('clean',*radii)]
    yield f"{'':12}{'F, million':>12}"+''.join(f'{n:>14}' for n in names)+f"{'drift':>9}{'moved':>9}"
    for arm in dict.fromkeys(r['arm'] for r in rows):
        mine = [r for r in rows if r['arm']==arm]
        mean = {k:statistics.mean(r[k] for r in mine) for k in ('F','drift','moved')}
        yield f"{arm:12}{mean['F']/1e6:12.2f}"+''.join(f'{said([r[n] for r in mine]):>14}' for n in names)+f"{mean['drift']:9.3f}{mean['moved']:9.3f}   seeds {len(mine)}"

def differences(rows, base='fare'):
    "Each arm less FARE, seed by seed: mean ± standard error over seeds"
    for arm in dict.fromkeys(r['arm'] for r in rows):
        pairs = [(r,b) for r in rows for b in rows if r['arm']==arm and b['arm']==base and r['seed']==b['seed']]
        if arm==base or len(pairs)<2: continue
        for n in ('old_clean','old_4','new_clean','new_4'):
            d = [100*(r[n]-b[n]) for r,b in pairs]
            yield f'{arm:12} less {base}, {n:9}: {statistics.mean(d):+5.1f} ± {statistics.stdev(d)/math.sqrt(len(d)):.1f}'

def all_arms(data, encoders, names, seeds, runs, results, precision=None, **changed):
    "Every arm that is not there yet -> all rows"
    train,test = cifar10(data)
    s = setting | {k:v for k,v in changed.items() if v is not None}
    if s['images']<len(train): train = train.split(s['images'])[0]
    s,test = s|dict(images=len(train), precision=precision or 'fp32'),test[:s['test']]
    versions = dict(python=platform.python_version(), torch=torch.__version__, robustfm=robustfm.__version__)
    o = json.loads(results.read_text(encoding='utf-8')) if results.exists() else dict(command='python tests/bench/robustify_photographs.py', setting=s, versions=versions, runs=[])
    if o['setting']!=json.loads(json.dumps(s)): raise SystemExit(f"{results} was made with {o['setting']}, not {s}: give another --results and --runs")
    for seed in seeds:
        net = open_run(encoders/f'simclr_{seed}').encoder()
        clf = None
        for arm in names:
            if any((r['arm'],r['seed'])==(arm,seed) for r in o['runs']): continue
            began = time.time()
            if clf is None: clf = finetune(net, train, seed=seed, show=False)
            mine = [r for r in o['runs'] if r['seed']==seed]
            new,F = mended(arm, net, train, runs/f'{arm}_{seed}', s, mine, seed, precision)
            trained = time.time()-began
            moved = embedding_shift(new, test[:500], PGD(Linf(4/255), steps=20), net)
            row = dict(arm=arm, seed=seed, F=round(F), n=len(test))|judged(with_head(clf, new), test, 'old')|judged(finetune(new, train, seed=seed, show=False), test, 'new')
            row |= dict(drift=moved['clean']/moved['length'], moved=moved['attacked']/moved['length'], trained=round(trained, 1), measured=round(time.time()-began-trained, 1), date=str(date.today()))
            o['runs'].append(row)
            write(results, o)
            print(*table(o['runs']), sep='\n', flush=True)
    print(*differences(o['runs']), sep='\n')
    return o['runs']

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, required=True, help='folder with cifar-10-batches-py')
    p.add_argument('--encoders', type=Path, default=Path('photograph_runs'), help='where the run folders simclr_0 … are')
    p.add_argument('--arms', default=','.join(arms), help=f'of {", ".join(arms)}')
    p.add_argument('--seeds', type=int, nargs='+', default=[0,1,2])
    p.add_argument('--runs', type=Path, default=Path('robustify_runs'))
    p.add_argument('--results', type=Path, default=tutorials/'results'/'robustify_photographs.json')
    p.add_argument('--precision', choices=('fp32','bf16'), help='of the training; measured is in single precision')
    for k in ('images','epochs','test','every'): p.add_argument(f'--{k}', type=int, help=f'{setting[k]:,} if not given; fewer is a rehearsal')
    p.add_argument('--lr', type=float)
    a = p.parse_args()
    all_arms(a.data, a.encoders, a.arms.split(','), a.seeds, a.runs, a.results, a.precision, images=a.images, epochs=a.epochs, test=a.test, every=a.every, lr=a.lr)

if __name__=='__main__': main()
