"""RCS and both random baselines at equal time on the real digits, several seeds: what chapter 8 of the course plots.

    python tests/bench/coresets_digits.py [--seeds 3] [--out nbs/tutorials/results/coresets_digits.json]

Writes after each seed. A network warms up on all images; from there each arm goes on alone. What RCS spends on choosing, the random arms train for."""
import argparse, json, time
from copy import deepcopy
from pathlib import Path
import torch
from robustfm.all import *

settings = dict(warmup=5, epochs=8, every=2, fraction=.2, bs=32, attack_steps=1, eps=.15, steps=3)
arms = {'RCS': None, 'random, fixed': 'fixed', 'random, refreshed': 'refreshed'}

def one(seed, s=settings):
    "{arm: SA, RA, F spent after the warm-up} and the records of RCS's choices"
    train,valid,test = digits()
    aug,pgd,hit = views(flip=0., scale=(.3,1.), p_jitter=0.),PGD(Linf(s['eps']), alpha=s['eps']/2, steps=s['steps']),PGD(Linf(s['eps']), steps=20)
    torch.manual_seed(seed)
    start = Encoder(tiny())
    pretrain(ACL(start, aug, pgd), Batches(train, 4*s['bs'], seed), s['warmup'], 5e-3, 'adam', seed=seed, show=False)
    step,out,choices,chosen = 2*(2*s['steps']+6),{},[],0
    for arm,kind in arms.items():
        net = deepcopy(start); acl = ACL(net, aug, pgd)
        kw  = dict(fraction=s['fraction'], warmup=0, every=s['every'], bs=s['bs'], seed=seed)
        more = round(chosen/(step*s['fraction']*len(train)))    # epochs on a part that all choices would have paid for
        epochs = s['epochs'] + more
        source = RCS(acl, train, valid, **kw, attack_steps=s['attack_steps']) if kind is None else Random(train, refresh=kind, **kw)
        t = time.perf_counter()
        pretrain(acl, source, epochs, 2e-3, 'adam', seed=seed, show=False)
        t = time.perf_counter()-t
        if kind is None:
            chosen  = sum(o['units'] for o in source.selections)
            choices = [{k:float(o[k]) for k in ('divergence_before','divergence_after','divergence_random')} for o in source.selections]
        clf = finetune(net, train, bn='adv', show=False)
        units = epochs*s['fraction']*len(train)*step + chosen*(kind is None)
        out[arm] = dict(SA=accuracy(clf, test), RA=accuracy(clf, test, hit), F=units, epochs=epochs, seconds=round(t, 1))
    return dict(seed=seed, n=len(test), arms=out, choices=choices)

def main():
    p = argparse.ArgumentParser(); p.add_argument('--seeds', type=int, default=3); p.add_argument('--out', default='nbs/tutorials/results/coresets_digits.json')
    a = p.parse_args()
    out,runs = Path(a.out),[]
    out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(a.seeds):
        runs.append(one(seed))
        out.write_text(json.dumps(dict(provenance=dict(command=f'python tests/bench/coresets_digits.py --seeds {a.seeds}', data='digits, 1,078 to train on, 539 to test', network='tiny', threads=torch.get_num_threads(), settings=json.dumps(settings)), runs=runs), indent=1)+'\n')
        print(seed, {k:f"{v['SA']:.3f} {v['RA']:.3f} {v['F']/1e6:.2f}MF {v['seconds']}s" for k,v in runs[-1]['arms'].items()}, flush=True)

if __name__=='__main__': main()
