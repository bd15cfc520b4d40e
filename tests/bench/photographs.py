"""CIFAR-10 without a GPU: every method on all 50,000 photographs with one small network, measured, and packed for chapters and the wheel

    python tests/bench/photographs.py --data CIFAR [--arms simclr,acl] [--seeds 0 1 2] [--runs photograph_runs] [--precision bf16]

Arm by arm and seed by seed: pre-train (a run folder of `pretrain`, continued where it was cut off), a linear classifier on frozen features,
accuracy on all test images as they are and under PGD-20 at four radii with every verdict, AutoAttack on 1,000, and what is packed: the numbers
into nbs/tutorials/results/photographs.json, encoder and head in half precision without projector, and the run folder without checkpoints.
What is there is not made again, and what another process is at is left to it: start the command once a core. A run made with other settings is refused.
A seed of an attack arm costs about an hour of one core, half of that in bf16 where the processor multiplies matrices in it (AMX).

The arms `coreset-…` ask what a part of the images is worth at equal price: an epoch on everything, then four more on everything, or what those
four cost on a part that RCS chooses, choices included, on a random part that is drawn anew as often, or on one that stays."""
import argparse, json, platform, shutil, statistics, sys, time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
import torch
from filelock import FileLock,Timeout
import robustfm
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from house import tutorials
from robustfm.attacks import Linf,PGD
from robustfm.augment import crop_flip,views
from robustfm.data import Batches,Images
from robustfm.datasets import cifar10
from robustfm.evaluation import evaluate
from robustfm.finetuning import Classifier,finetune
from robustfm.methods.acl import ACL
from robustfm.methods.air import AIR
from robustfm.methods.advcl import AdvCL,pseudo_labels
from robustfm.methods.ainfonce import AInfoNCE,Asymmetric
from robustfm.methods.deacl import DeACL
from robustfm.methods.dynacl import DynACL
from robustfm.methods.rcs import RCS,Random
from robustfm.methods.rocl import RoCL
from robustfm.models import Encoder,projector,small
from robustfm.objective import SimCLR
from robustfm.runs import open_run,pretrain
from robustfm.tools import replacing

setting = dict(network='small(width=32)', images=50_000, epochs=12, bs=128, lr=1e-3, opt='adam', attack='PGD, Linf 8/255, 3 steps of 4/255', classifier="finetune(mode='slf')", precision='fp32')
pgd  = PGD(Linf(8/255), alpha=4/255, steps=3)
both,three = ('clean','adv'),('clean','adv','pseudo')
ks   = (2,10,50,100,500)                                   # clusters of SimCLR's features, the labels of AdvCL and A-InfoNCE
radii,aa_radius = (1,2,4,8),4

def _student(net, aug, teacher):
    net.load_state_dict(teacher.state_dict())
    return DeACL(net, teacher, crop_flip(), pgd)

arms = {                                                   # branches; objective of a network, views and the SimCLR encoder of the seed
    'simclr':     ('clean', lambda net,aug,simclr: SimCLR(net, aug, bn='clean')),
    'acl':        (both,    lambda net,aug,simclr: ACL(net, aug, pgd)),
    'acl-air':    (both,    lambda net,aug,simclr: ACL(net, aug, pgd, reg=AIR())),
    'dynacl':     (both,    lambda net,aug,simclr: DynACL(net, aug, pgd)),
    'dynacl-air': (both,    lambda net,aug,simclr: DynACL(net, aug, pgd, reg=AIR())),
    'deacl':      ('clean', lambda net,aug,simclr: _student(net, aug, simclr())),
    'rocl':       ('clean', lambda net,aug,simclr: RoCL(net, aug, pgd)),
    'advcl':      (three,   lambda net,aug,simclr: AdvCL(net, aug, pgd, ks)),
    'a-infonce':  (three,   lambda net,aug,simclr: AInfoNCE(net, aug, pgd, Asymmetric(.2, tau_plus=.1), ks=ks)),
}
needs_simclr,needs_labels = {'deacl','advcl','a-infonce'},{'advcl','a-infonce'}
plain = tuple(arms)
price,first,choice = 5,1,1/3                               # epochs on everything: in all, of the warm-up, and what a choice costs: 8F an image beside the step's 24F
for share in (.2,.1):
    for kind in ('rcs','anew','fixed'): arms[f'coreset-{kind}-{share}'] = arms['acl']
arms['coreset-everything'] = arms['acl']

def source(arm, train, objective, s, seed):
    "Where an arm takes its batches from, and for how many epochs: all coreset arms for the price of `price` epochs on everything"
    if not arm.startswith('coreset'): return Batches(train, s['bs'], seed),s['epochs']
    train,valid = train.split(len(train)*99//100)
    _,kind,*share = arm.split('-')
    if kind=='everything': return Batches(train, s['bs'], seed),price
    k = float(share[0])
    every = round(1/k)                                     # epochs on the part that cost as much as one on everything
    kw = dict(fraction=k, warmup=first, every=every, bs=s['bs'], seed=seed)
    if kind=='rcs': return RCS(objective, train, valid, **kw, attack_steps=1),first+every*round((price-first)/(1+choice))
    return Random(train, refresh=dict(anew='refreshed', fixed='fixed')[kind], **kw),first+every*(price-first)

def encoder(arm, seed, train, test, runs, s):
    "Pre-trained, or continued, in its run folder"
    branches,make = arms[arm]
    torch.manual_seed(seed)
    def simclr(): return encoder('simclr', seed, train, test, runs, s)
    objective = make(Encoder(small(), branches), views(), simclr)
    if arm in needs_labels: train = Images(train.x, pseudo_labels(simclr(), train, ks, seed=seed))
    run = runs/f'{arm}_{seed}'
    batches,epochs = source(arm, train, objective, s, seed)
    pretrain(objective, batches, epochs, s['lr'], s['opt'], run=run, seed=seed, precision=s['precision'], embed=(test[:2000], max(1, round(epochs/6))), save_every=120)
    return open_run(run).encoder()

def bare(clf):
    "The classifier without the projector, which is thrown away after training"
    old = clf.net
    net = Encoder(small(), old.branches, projector(old.num_features, layers=0))
    net.load_state_dict({k:v for k,v in old.state_dict().items() if not k.startswith('g.')}, strict=False)
    out = Classifier(net, clf.n_classes, clf.bn, clf.size, clf.classes)
    out.head.load_state_dict(clf.head.state_dict())
    out.seen,out.card = clf.seen,clf.card
    return out.eval()

def measure(clf, test, quick=False):
    "Accuracy on images as they are, under PGD-20 at each radius with verdicts, under AutoAttack, each with its error"
    few,rows = test[:20] if quick else test[:1000],{}
    for r in radii:
        report = evaluate(clf, test[:100] if quick else test, eps=r/255)
        sa,ra = report.rows
        rows |= dict(clean=round(sa.accuracy, 4), clean_se=round(sa.stderr, 4), n=sa.n)
        rows |= {f'pgd20_{r}':round(ra.accuracy, 4), f'pgd20_{r}_se':round(ra.stderr, 4)}
        rows.setdefault('doubts', []).extend(f'{r}/255: {v.status}, {v.name}: {v.seen}' for v in report.verdicts if v.status in ('fail','warn'))
    aa = evaluate(clf, few, ('clean','autoattack'), eps=aa_radius/255, checks=None).rows[-1]
    full = evaluate(clf, test[:20] if quick else test[:500], eps=aa_radius/255, checks='full')
    rows['doubts'] += [f'in full: {v.status}, {v.name}: {v.seen}' for v in full.verdicts if v.status in ('fail','warn')]
    return rows | {f'autoattack_{aa_radius}':round(aa.accuracy, 4), f'autoattack_{aa_radius}_se':round(aa.stderr, 4), 'autoattack_n':aa.n}

def pack(clf, row, run, weights, folders):
    "Encoder and head in half precision with their card; the run folder without checkpoints"
    weights.mkdir(parents=True, exist_ok=True)
    bare(clf).save(weights/f"{row['arm']}_cifar10_{row['seed']}.safetensors", half=True, method=row['arm'], data='CIFAR-10, 50,000 images', seed=row['seed'], evaluation=row,
                   note=f"a small network, {row['epochs']} epochs on a CPU: not the numbers of the papers")
    to = folders/run.name
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to, ignore=shutil.ignore_patterns('*.safetensors', '*.pt', '.*', '*.lock', '*.tmp'))
    slim(open_run(to))
    return sum(f.stat().st_size for f in to.rglob('*') if f.is_file())

def slim(run, n=1000, d=24):
    "Embeddings of n images along the d main directions of the last epoch: what a film shows, in 100 kB an epoch"
    kept = run.embeddings
    if not kept: return
    z = torch.from_numpy(kept[max(kept)]['z'][:n]).float()
    _,_,v = torch.pca_lowrank(z, min(d, *z.shape))
    for epoch,e in kept.items():
        smaller = {k:(torch.from_numpy(a[:n]).float()@v).numpy() if k in 'za' else a[:n] if k=='y' else a for k,a in e.items()}
        run.write_embeddings(epoch, **smaller)

def write(path, o):
    with replacing(path) as new: new.write_text(json.dumps(o, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')

def table(rows):
    "Mean and standard deviation over seeds, in %"
    def said(v): return f'{100*statistics.mean(v):5.1f} ± {100*statistics.stdev(v) if len(v)>1 else 0:3.1f}'
    names = ['clean',*(f'pgd20_{r}' for r in radii),f'autoattack_{aa_radius}']
    yield ' '*12+''.join(f'{n:>15}' for n in names)
    for arm in dict.fromkeys(r['arm'] for r in rows):
        mine = [r for r in rows if r['arm']==arm]
        yield f'{arm:12}'+''.join(f'{said([r[n] for r in mine]):>15}' for n in names)+f'   seeds {len(mine)}'

def opened(results, s):
    "What is there, or the start of it"
    versions = dict(python=platform.python_version(), torch=torch.__version__, robustfm=robustfm.__version__)
    o = json.loads(results.read_text(encoding='utf-8')) if results.exists() else dict(command='python tests/bench/photographs.py', setting=s, versions=versions, runs=[])
    if o['setting']!=json.loads(json.dumps(s)): raise SystemExit(f"{results} was made with {o['setting']}, not {s}: give another --results")
    return o

def one(arm, seed, train, test, runs, s, weights, folders, quick):
    "Train, measure and pack -> a row"
    began = time.time()
    net = encoder(arm, seed, train, test, runs, s)
    clf = finetune(net, train, seed=seed)
    run = open_run(runs/f'{arm}_{seed}')
    row = dict(arm=arm, seed=seed, epochs=run.config['epochs'])|measure(clf, test, quick)
    row |= dict(seconds=round(run.history[-1]['seconds'], 1), measured=round(time.time()-began, 1), date=str(date.today()))
    if run.selections: row['choices'] = [{k:o[k] for k in ('divergence_before','divergence_after','divergence_random','units') if k in o} for o in run.selections]
    row['bytes'] = pack(clf, row, runs/f'{arm}_{seed}', weights, folders)
    return row

def all_arms(data, names, seeds, runs, results, weights, folders, epochs=setting['epochs'], images=None, quick=False, precision=setting['precision']):
    "Every arm that is not there yet and that nobody else is at -> all rows"
    train,test = cifar10(data)
    if images: train = train.split(images)[0]
    s = setting|dict(epochs=epochs, images=len(train), precision=precision)
    runs.mkdir(parents=True, exist_ok=True)
    writing = FileLock(runs/'results.lock')
    for seed in seeds:
        for arm in names:
            needed = [arm,'simclr'] if arm in needs_simclr else [arm]
            with ExitStack() as held:
                try:
                    for n in needed: held.enter_context(FileLock(runs/f'{n}_{seed}.lock', timeout=0))
                except Timeout: continue
                if any((r['arm'],r['seed'])==(arm,seed) for r in opened(results, s)['runs']): continue
                row = one(arm, seed, train, test, runs, s, weights, folders, quick)
                with writing:
                    o = opened(results, s)
                    o['runs'] = sorted([*o['runs'],row], key=lambda r: (list(arms).index(r['arm']), r['seed']))
                    write(results, o)
                print(*table(o['runs']), sep='\n', flush=True)
    return opened(results, s)['runs']

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, required=True, help='folder with cifar-10-batches-py')
    p.add_argument('--arms', default=','.join(plain), help=f'of {", ".join(arms)}')
    p.add_argument('--seeds', type=int, nargs='+', default=[0,1,2])
    p.add_argument('--runs', type=Path, default=Path('photograph_runs'))
    p.add_argument('--results', type=Path, default=tutorials/'results'/'photographs.json')
    p.add_argument('--weights', type=Path, default=Path(robustfm.__file__).parent/'weights')
    p.add_argument('--folders', type=Path, default=tutorials/'runs')
    p.add_argument('--epochs', type=int, default=setting['epochs'])
    p.add_argument('--precision', default=setting['precision'], choices=('fp32','bf16'))
    p.add_argument('--images', type=int, help='train on so many only: a rehearsal')
    p.add_argument('--quick', action='store_true', help='measure on a hundred images: a rehearsal')
    a = p.parse_args()
    all_arms(a.data, a.arms.split(','), a.seeds, a.runs, a.results, a.weights, a.folders, a.epochs, a.images, a.quick, a.precision)

if __name__=='__main__': main()
