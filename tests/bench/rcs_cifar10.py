"""RCS on CIFAR-10 beside all images and two random coresets: accuracy, robustness and what they cost

    python tests/bench/rcs_cifar10.py [--minutes 14] [--out nbs/tutorials/results/rcs_cifar10.json]

What is finished is in the JSON, so the same command goes on where it stopped. All runs of a seed share their warm-up: it is trained once, and its
cost counts for each. Seconds are processor seconds of one thread; other programs still lengthen them, so units F stand beside them. Each encoder is judged by a linear
classifier on its frozen features (branch 'adv', 8,000 labelled images) on test images that nothing else has seen."""
import argparse, hashlib, itertools, json, os, platform, sys, time
from functools import lru_cache
from pathlib import Path
import robustfm
import torch, torch.nn.functional as F
from filelock import FileLock, Timeout
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.datasets import cifar10
from robustfm.finetuning import accuracy,finetune
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import RCS,Random
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.train import engine,optimizer,steps,warmup_cosine
from robustfm.runs import load_state,save_state

here = Path(__file__).resolve()
setup = dict(n=2000, valid=200, labelled=8000, test=2000, size=16, width=16, epochs=16, warmup=2, every=3, bs=50, attack_steps=3, table_steps=1, precision='bf16', lr=2e-3, seeds=[0,1,2])
arms  = dict(full=None, **{f'{name} {k}':(name,k) for k in (.1,.2) for name in ('random fixed','random refreshed','RCS')})
F_step = 2*(2*setup['attack_steps']+6) # F an image in training: two views, attack, two branches forward and backward

def root(): return next(p for p in (os.environ.get('ROBUSTFM_DATA'), here.parents[2]/'.data') if p and (Path(p)/'cifar-10-batches-py').is_dir())

def small(images, size):
    "The same images, averaged down to `size` × `size`"
    x = torch.cat([F.interpolate(x.float(), (size,size), mode='area') for x in images.x.split(1000)])
    return Images(x.round().byte(), images.y, images.classes, f'{images.name} at {size}×{size}')

@lru_cache
def whole(): return cifar10(root())

def pictures(s, seed):
    "Images to train on, to hold out, with labels, to test on"
    train,test = whole()
    g = torch.Generator().manual_seed(seed)
    i = torch.randperm(len(train), generator=g)
    train = small(train[i[:s['labelled']+s['valid']]], s['size'])
    test  = small(test[torch.randperm(len(test), generator=g)[:s['test']]], s['size'])
    return train[:s['n']],train[s['labelled']:],train[:s['labelled']],test

def acl(s): return ACL(Encoder(tiny(3, s['width'])), views(), PGD(Linf(8/255), alpha=10/s['attack_steps']/255, steps=s['attack_steps']))

def source(arm, objective, train, valid, s, seed):
    if arm is None: return Batches(train, s['bs'], seed)
    name,k = arm
    kw = dict(fraction=k, warmup=s['warmup'], every=s['every'], bs=s['bs'], seed=seed)
    return RCS(objective, train, valid, attack_steps=s['table_steps'], precision=s['precision'], **kw) if name=='RCS' else Random(train, refresh=name.split()[1], **kw)

class Clock:
    "Processor and wall seconds spent within, in all"
    def __init__(self, cpu=0., wall=0.): self.cpu,self.wall = cpu,wall
    def __enter__(self): self.t = time.process_time(),time.perf_counter()
    def __exit__(self, *a): self.cpu += time.process_time()-self.t[0]; self.wall += time.perf_counter()-self.t[1]

def train_on(objective, opt, batches, s, first, last):
    "Epochs `first` … `last`-1 of the run; a `Clock` of all of it, one of choosing"
    all_,choosing = Clock(),Clock()
    if hasattr(batches, 'select'):
        select = batches.select
        def timed(e):
            with choosing: return select(e)
        batches.select = timed
    with all_:
        for st in steps(objective, batches, opt, s['epochs'], warmup_cosine(s['lr'], s['epochs']), engine(s['precision']), (first,0,0)):
            if st.i==st.n-1 and st.epoch==last-1: break
    if not st.loss.isfinite(): raise FloatingPointError('the loss is not finite')
    return all_,choosing

def judged(net, labelled, test, seed, bn=None):
    clf = finetune(net, labelled, 'slf', bn, seed=seed, show=False)
    n,pgd = len(test),lambda e: PGD(Linf(e/255), alpha=e/4/255, steps=20)
    a = dict(SA=accuracy(clf, test), RA8=accuracy(clf, test, pgd(8), seed=seed), RA4=accuracy(clf, test, pgd(4), seed=seed))
    return {k:round(v, 4) for k,v in a.items()}|{f'{k}_se':round((v*(1-v)/n)**.5, 4) for k,v in a.items()}

def work(s):
    "Where what is under way is kept: warm-ups, and who computes what"
    path = here.parents[2]/'runs'/'rcs_cifar10'/hashlib.sha256(repr(s).encode()).hexdigest()[:8]
    path.mkdir(parents=True, exist_ok=True)
    return path

def warmed(train, s, seed):
    "What all runs of a seed begin with; kept in runs/, so that it is computed once"
    path = work(s)/f'{seed}.safetensors'
    with FileLock(f'{path}.lock'):
        if not path.exists():
            torch.manual_seed(seed); o = acl(s); opt = optimizer(o, 'adam', s['lr'])
            clock,_ = train_on(o, opt, Batches(train, s['bs'], seed), s, 0, s['warmup'])
            save_state(path, dict(objective=o.state_dict(), opt=opt.state_dict(), seconds=[clock.cpu,clock.wall]))
    return load_state(path)

def one_run(s, seed, arm):
    "The result of one arm: 'SimCLR', 'warm-up' (where all others begin) or one of `arms`"
    (train,valid,labelled,test),b,picked,choosing = pictures(s, seed),None,[],Clock()
    if arm=='SimCLR':
        torch.manual_seed(seed); o = SimCLR(Encoder(tiny(3, s['width']), 'clean'), views())
        clock,_ = train_on(o, optimizer(o, 'adam', s['lr']), Batches(train, s['bs'], seed), s, 0, s['epochs'])
        units = 6*s['n']*s['epochs']
    else:
        start = warmed(train, s, seed)
        o = acl(s); opt = optimizer(o, 'adam', s['lr'])
        o.load_state_dict(start['objective']); opt.load_state_dict(start['opt']); torch.manual_seed(1000+seed)
        clock,units = Clock(*start['seconds']),F_step*s['n']*s['warmup']
        if arm!='warm-up':
            b = source(arms[arm], o, train, valid, s, seed)
            more,choosing = train_on(o, opt, b, s, s['warmup'], s['epochs'])
            clock.cpu += more.cpu; clock.wall += more.wall
            picked = getattr(b, 'selections', [])
            units += F_step*(s['epochs']-s['warmup'])*(len(picked[0]['indices']) if picked else s['n'])+sum(int(p.get('units', 0)) for p in picked)
    tell = ('epoch','divergence_before','divergence_after','divergence_random','overlap_previous','overlap_random')
    return dict(arm=arm, seed=seed, seconds=round(clock.cpu, 2), wall=round(clock.wall, 2), choosing=round(choosing.cpu, 2), units=units, **judged(o.net, labelled, test, seed),
                selections=[{k:round(float(p[k]), 6) for k in tell if k in p and p[k]==p[k]} for p in picked])

def store(path, name, s, runs):
    "Results beside where they come from"
    path.parent.mkdir(parents=True, exist_ok=True)
    where = dict(command=f'python tests/bench/{name}.py', date=time.strftime('%Y-%m-%d'), machine=f'{os.cpu_count()} cores shared with other programs, CPU, one thread', torch=torch.__version__, python=platform.python_version(), robustfm=robustfm.__version__)
    path.write_text(json.dumps(dict(provenance=where, setup=s, runs=runs), indent=1)+'\n')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--minutes', type=float, default=14); p.add_argument('--out', type=Path, default=here.parents[2]/'nbs'/'tutorials'/'results'/'rcs_cifar10.json')
    p.add_argument('--seeds', type=int, nargs='*', help='only these; several processes may work side by side')
    p.add_argument('--set', nargs='*', default=[], metavar='KEY=VALUE', help='change the setup, for a trial')
    a = p.parse_args()
    torch.set_num_threads(1)
    s,end = setup|{k:type(setup[k])(json.loads(v) if isinstance(setup[k], list) else v) for k,v in (o.split('=') for o in a.set)},time.time()+60*a.minutes
    def runs():
        old = json.loads(a.out.read_text()) if a.out.exists() else dict(setup=s, runs=[])
        if old['setup']!=s: sys.exit(f'{a.out} holds runs of another setup')
        return old['runs']
    for part in ([a for a in ('warm-up',*arms) if a!='full'],['SimCLR'],['full']):     # what the question is about first
        for seed,arm in itertools.product(a.seeds or s['seeds'], part):
            busy = FileLock(work(s)/f'{arm} {seed}.lock')
            try: busy.acquire(timeout=0)
            except Timeout: continue                                                       # another process is at it
            with busy:
                if any((r['arm'],r['seed'])==(arm,seed) for r in runs()): continue
                r = one_run(s, seed, arm)
                print({k:v for k,v in r.items() if k!='selections'}, flush=True)
                with FileLock(work(s)/'lock'):
                    store(a.out, 'rcs_cifar10', s, [*runs(),r])
            if time.time()>end: return print('to be continued')

if __name__=='__main__': main()
