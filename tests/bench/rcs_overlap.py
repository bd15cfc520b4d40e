"""How many picks do RCS's fast mode and its faithful mode share, on ResNet-18 with CIFAR-10 images?

    python tests/bench/rcs_overlap.py [--minutes 3] [--out nbs/tutorials/results/rcs_overlap.json]

Faithful picks from gradients under an attack of five steps, and attacks the validation images anew after every pick. Beside it: fast on the same gradients,
where only the new attacks are left out; fast on gradients under two steps and under one that go as far, from the same views and starting points; and the
noise floor, faithful with other starting points of the validation attack. Weights are after a short warm-up, another one for each seed.
What is finished is in the JSON; the same command goes on."""
import argparse, json, sys, time
from pathlib import Path
import robustfm
import torch
from rcs_cifar10 import root, store
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.datasets import cifar10
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import RCS
from robustfm.models import Encoder,resnet18,tiny
from robustfm.train import engine,optimizer,steps

here  = Path(__file__).resolve()
setup = dict(network='resnet18', batches=64, bs=16, valid=32, fraction=.2, warmup_steps=20, warmup_bs=16, warmup_attack_steps=1, rd_steps=3, precision='bf16', seeds=[0,1,2])

def picks(rcs, table, epoch, mode, draw):
    "The mini-batches that `mode` picks from `table`, in order, its attacks beginning where `draw` says"
    rcs.mode = mode
    return rcs.greedy(table, epoch, 'valid', draw)

def measure(s, seed):
    "One seed"
    train,_ = cifar10(root())
    train = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))]
    n,w = s['batches']*s['bs'],s['warmup_steps']*s['warmup_bs']
    some,valid,first = train[:n],train[n:n+s['valid']],train[n+s['valid']:n+s['valid']+w]
    torch.manual_seed(seed)
    o = ACL(Encoder(dict(resnet18=resnet18, tiny=lambda: tiny(3))[s['network']]()), views(), PGD(Linf(8/255), alpha=8/255, steps=s['warmup_attack_steps']))
    for st in steps(o, Batches(first, s['warmup_bs'], seed), optimizer(o, 'adam', 1e-3), 1, accelerator=engine(s['precision'])): pass
    o.attack = PGD(Linf(8/255), alpha=2/255, steps=5)
    rcs = RCS(o, some, valid, s['fraction'], 0, bs=s['bs'], rd_steps=s['rd_steps'], precision=s['precision'], seed=seed)
    def table(k): rcs.attack_steps = k; return rcs.table(0)
    five = table(5)
    chosen,rec = {},{}
    for name,how in dict(faithful=(five,'faithful',0), again=(five,'faithful',1), fast=(five,'fast',0), two_steps=(table(2),'fast',0), one_step=(table(1),'fast',0)).items():
        chosen[name],rec[name] = picks(rcs, how[0], 0, *how[1:])
    share = lambda a: round(len(set(chosen[a])&set(chosen['faithful']))/len(chosen[a]), 3)
    return dict(seed=seed, loss=round(float(st.loss), 3), picks=len(chosen['fast']), fast=share('fast'), two_steps=share('two_steps'), one_step=share('one_step'), floor=share('again'), chance=round(len(chosen['fast'])/len(five), 3),
                divergence=[rec['faithful'][f'divergence_{k}'] for k in ('before','after','random')], chosen=chosen)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--minutes', type=float, default=3); p.add_argument('--out', type=Path, default=here.parents[2]/'nbs'/'tutorials'/'results'/'rcs_overlap.json')
    p.add_argument('--toy', action='store_true', help='a small network, to see that it runs')
    a = p.parse_args()
    torch.set_num_threads(1)
    s,end = setup|(dict(network='tiny') if a.toy else {}),time.time()+60*a.minutes
    old = json.loads(a.out.read_text()) if a.out.exists() else {}
    if old and old['setup']!=s: sys.exit(f'{a.out} holds another setup')
    runs = old.get('runs', [])
    for seed in s['seeds']:
        if any(r['seed']==seed for r in runs): continue
        if time.time()>end: return print('to be continued')
        t = time.process_time(); runs.append(measure(s, seed)); runs[-1]['seconds'] = round(time.process_time()-t, 1)
        store(a.out, 'rcs_overlap', s, runs)
    print(f"picks shared with faithful, of {runs[0]['picks']} ({s['batches']} mini-batches of {s['bs']}, {s['network']}); chance {runs[0]['chance']:.0%}")
    for r in runs: print(f"seed {r['seed']}: fast {r['fast']:.0%}, under two steps {r['two_steps']:.0%}, under one {r['one_step']:.0%}, faithful with another draw {r['floor']:.0%}")

if __name__=='__main__': main()
