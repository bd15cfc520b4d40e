"What the browser is shown: small trained encoders in a folder, and a notebook with all nine explorers"
import numpy as np, torch
from pages import notebook

evil = '<img src=x onerror="window.hacked=1">' # the name of a class, as a stranger might write it

def train(home, epochs=2):
    "Run folders, classifiers and a selection, as a training would leave them in `home`"
    from robustfm.attacks import Linf, PGD
    from robustfm.augment import views
    from robustfm.data import Batches, digits
    from robustfm.evaluate import robustness_curve
    from robustfm.finetune import finetune
    from robustfm.methods.acl import ACL
    from robustfm.models import Encoder, tiny
    from robustfm.objective import SimCLR
    from robustfm.probes import embed_pairs, write_embeddings
    from robustfm.data import to_float
    from robustfm.train import open_run, pretrain
    torch.manual_seed(0)
    data,_,test = digits()
    aug,pgd = views(flip=0),PGD(Linf(.15), steps=2)
    for name,make in dict(SimCLR=lambda n: SimCLR(n, aug, bn='clean'), ACL=lambda n: ACL(n, aug, pgd)).items():
        net = Encoder(tiny(width=8))
        pretrain(make(net), Batches(data, bs=256), epochs=epochs, opt='adam', lr=5e-3, run=home/name, show=False)
        clf = finetune(net, data, bn='clean' if name=='SimCLR' else 'adv', epochs=10, show=False)
        clf.save(home/f'{name}.safetensors')
        robustness_curve(clf, test[:60], eps=(0,16,48), attack='pgd5', name=name, show=False).save(home/name/'reports'/'curve.json')
    z,a = embed_pairs(net, to_float(test.x), PGD(Linf(.15), steps=2))
    for e in (1,epochs): write_embeddings(home/'ACL', e, z=z, a=a, y=test.y)
    open_run(home/'ACL').write_selections([dict(epoch=2*i, indices=np.arange(60)+40*i, gains=np.linspace(1,-.2,8), batches=np.arange(2), seconds=.3, divergence_before=.2, divergence_after=.1, divergence_random=.15) for i in range(3)])

setup = f'''
import os, torch, threading, time, numpy as np
torch.set_num_threads(1)
from robustfm.widgets import *
from robustfm.data import digits, shapes, Batches
from robustfm.finetune import Classifier
from robustfm.train import open_run
from robustfm.models import Encoder, tiny
train, valid, test = digits()
test.classes = [{evil!r}, *test.classes[1:]]
clfs = {{n: Classifier.load(n+'.safetensors') for n in ('SimCLR','ACL')}}
acl = open_run('ACL')
'''
explorers = dict(
    attack      = 'w0 = attack_explorer(clfs, test); w0',
    stepper     = 'w1 = pgd_stepper(acl, test); w1',
    coreset     = 'w2 = coreset_explorer(acl, train[:256]); w2',
    embedding   = 'w3 = embedding_explorer(acl.encoder(), test); w3',
    robustness  = 'w4 = robustness_explorer(acl, open_run("SimCLR")); w4',
    invariance  = 'torch.manual_seed(0); w5 = invariance_explorer(Encoder(tiny(3, width=16)), shapes(64)); w5',
    dual_bn     = 'w6 = dual_bn_explorer(acl, test); w6',
    live        = 'w7 = Live(); w7(acl)',
    compare     = 'w8 = compare_runs("ACL", "SimCLR"); w8')

def write(home): notebook(home/'nine.ipynb', setup, *explorers.values())
