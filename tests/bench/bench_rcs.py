"""One coreset selection: the released procedure, ours that picks the same, and the fast ones, in alternation on the same images

    python tests/bench/bench_rcs.py [--batches 8] [--bs 16] [--rounds 1] [--network resnet18] [--cpu-seconds] [--record] [--out FILE.json]

The released procedure is rebuilt from its description: views by PIL, one mini-batch after another, an attack by .backward() that leaves gradients of the
head's weights as well, the sketch beside the whole gradients, every validation image attacked anew after each pick, single precision. So that picks can be
compared it has the true divergence, the single step of the head, and the very views and starting points that `faithful` drew. One per cent of the images
would be held out; of so few images that is none, so the validation set is as large as makes its share of the cost that of CIFAR-10 at fraction 0.2
(19 picks × 500 images for 49,500). The last lines set the seconds of a selection beside those of the training that it steers: 20 epochs on a tenth."""
import argparse, json, sys, time
from pathlib import Path
import robustfm
import numpy as np, torch
from bench_step import Released, judge as regression, machine, pictures
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.tools import to_float
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import RCS,Head,GradientTable,_sketch
from robustfm.models import Encoder,resnet18,tiny
from robustfm.train import engine,optimizer,steps
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rcs_reference import recorded, selection

networks = dict(resnet18=resnet18, tiny=lambda: tiny(3))
ours = {'faithful': dict(mode='faithful'), 'faithful, bf16': dict(mode='faithful', precision='bf16'), 'fast, bf16, five attack steps': dict(precision='bf16', attack_steps=5), 'fast, bf16': dict(precision='bf16'),
        'fast, bf16, one attack step': dict(precision='bf16', attack_steps=1), 'fast, bf16, one step, pool ½': dict(precision='bf16', attack_steps=1, pool=.5)}

def measure(network='resnet18', batches=8, bs=16, fraction=.25, rounds=1, clock=time.perf_counter):
    "Seconds and picks of every procedure in every round, and seconds of a training step"
    n = batches*bs; k = round(fraction*batches); v = max(bs//2, round(19*500/49500*n/k))
    images = pictures(n+v); train,valid = images[:n],images[n:]
    torch.manual_seed(0)
    o = ACL(Encoder(networks[network]()), views(), PGD(Linf(8/255), alpha=2/255, steps=5))
    def training(precision): # seconds of a step in the middle of a training
        t = []
        for s in steps(o, Batches(train, bs, drop_last=True), optimizer(o, 'sgd', .01), 1, accelerator=engine(precision)):
            t.append(clock())
            if len(t)==3: return t[2]-t[1]
    rows,picks = [],{}
    for i in range(rounds):
        row = {f'training, {p}':training(p)/bs for p in ('fp32','bf16')} if i==0 else {}
        net = o.net
        pil = Released(net, train, bs, torch.device('cpu'), 5)
        t = clock(); [pil.data() for _ in range(batches)]; data = clock()-t
        for name,kw in ours.items():
            ob = ACL(net, views(), PGD(Linf(8/255), alpha=2/255, steps=5))
            if name=='faithful': recorded(ob)
            rcs = RCS(ob, train, valid, fraction, 0, bs=bs, seed=i, **kw)
            t = clock(); _,rec = rcs.select(0); row[name] = clock()-t
            picks.setdefault(name, []).append(rec['batches'].tolist())
            if name=='faithful':
                t = clock(); chosen,table,_ = selection(rcs, 0, ob.augment.said, ob.attack.said[:len(ob.augment.said)])
                (mean := _sketch(Head(net), 'mean')); GradientTable(mean(table), [bs]*batches, mean).gains(table[0]); row['released'] = clock()-t+data
                picks.setdefault('released', []).append(chosen)
        rows.append(row)
    return dict(machine=machine(torch.device('cpu')), network=network, batches=batches, bs=bs, valid=v, picks_made=k, rounds=rounds, clock=clock.__name__, images=images.name, rows=rows, picks=picks, **summed(rows, picks, n))

def summed(rows, picks, n):
    "Medians over rounds"
    med  = lambda f: float(np.median([f(r) for r in rows]))
    both = lambda a, b: float(np.mean([len(set(p)&set(q))/len(q) for p,q in zip(picks[a], picks[b])]))
    steered = {p:20*.1*n*rows[0][f'training, {p}'] for p in ('fp32','bf16')}
    return dict(ratio={k:med(lambda r: r['released']/r[k]) for k in ours}, same={k:both(k, 'released') for k in ours},
                share={k:med(lambda r: r[k])/steered['bf16' if 'bf16' in str(ours[k]) else 'fp32'] for k in ours})

def table(r):
    m = r['machine']
    out = [f"One selection: {r['picks_made']} of {r['batches']} mini-batches of {r['bs']} 32×32 images ({r['images']}), {r['valid']} validation images, {r['network']}; {m['cpu']}, {m['cores']} cores, {m['threads']} threads, torch {m['torch']}; {r['clock']}, median of {r['rounds']}", '',
           '|                                | seconds | times as fast | picks as the loop | of the training it steers |', '|---|---|---|---|---|',
           f"| released                       | {np.median([o['released'] for o in r['rows']]):.1f} | 1 | – | – |"]
    return '\n'.join(out+[f"| {k:30} | {np.median([o[k] for o in r['rows']]):.1f} | {r['ratio'][k]:.2f} | {r['same'][k]:.0%} | {r['share'][k]:.1%} |" for k in ours])

def floors(r):
    "What was hoped for and not reached, in words"
    share = min(r['share'].values())
    return ([] if share<=.1 else [f'the cheapest selection takes {share:.1%} of the training it steers, not 10 %'])+[f"{k} is {r['ratio'][k]:.2f} times as fast as the released procedure, not {least}"
            for k,least in {'faithful':1.5, 'fast, bf16':4.}.items() if r['ratio'][k]<least]

def judge(r, record=False, path=Path(__file__).with_suffix('.json')):
    "What is wrong with a measurement, in words: other picks than the loop, or slower than recorded"
    bad = [] if r['same']['faithful']==1 else [f"faithful shares {r['same']['faithful']:.0%} of the picks of the straightforward loop, not all"]
    return bad+regression(r|dict(rows={k:dict(ratio=v, same=r['same'][k], share=r['share'][k], executed_F=None) for k,v in r['ratio'].items()}), record, path)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--network', default='resnet18', choices=networks); p.add_argument('--batches', type=int, default=8); p.add_argument('--bs', type=int, default=16)
    p.add_argument('--rounds', type=int, default=1); p.add_argument('--cpu-seconds', action='store_true', help='processor seconds of one thread: for a machine that is not alone')
    p.add_argument('--record', action='store_true'); p.add_argument('--out', type=Path)
    a = p.parse_args()
    if a.cpu_seconds: torch.set_num_threads(1)
    r = measure(a.network, a.batches, a.bs, rounds=a.rounds, clock=time.process_time if a.cpu_seconds else time.perf_counter)
    print(table(r))
    if a.out: a.out.write_text(json.dumps(r, indent=1)+'\n')
    for f in floors(r): print('floor missed:', f)
    for b in (bad := judge(r, a.record)): print('worse:', b)
    return bool(bad)

if __name__=='__main__': sys.exit(main())
