"What the browser is shown: small trained encoders in a folder, and notebooks with all nine explorers"
import torch
from pages import notebook

evil = '<img src=x onerror="window.hacked=1">' # the name of a class, as a stranger might write it

def train(home, epochs=4):
    "Run folders, classifiers and a coreset, as a training would leave them in `home`"
    from robustfm.attacks import Linf,PGD
    from robustfm.augment import views
    from robustfm.data import Batches
    from robustfm.datasets import digits
    from robustfm.tools import to_float
    from robustfm.evaluation import robustness_curve
    from robustfm.finetuning import finetune
    from robustfm.methods.acl import ACL
    from robustfm.methods.rcs import RCS
    from robustfm.models import Encoder,tiny
    from robustfm.objective import SimCLR
    from robustfm.probes import embed_pairs,write_embeddings
    from robustfm.runs import pretrain
    torch.manual_seed(0)
    data,valid,test = digits()
    data = data[:384]
    nets = {n: Encoder(tiny(width=8)) for n in ('SimCLR','ACL')}
    acl  = ACL(nets['ACL'], views(flip=0), PGD(Linf(.15), steps=2))
    for name,objective,source in (('SimCLR', SimCLR(nets['SimCLR'], views(flip=0), bn='clean'), Batches(data, bs=128)),
                                  ('ACL', acl, RCS(acl, data, valid[:32], fraction=.25, warmup=1, every=1, bs=32))):
        pretrain(objective, source, epochs=epochs, opt='adam', lr=5e-3, run=home/name, show=False)
        clf = finetune(nets[name], data, bn='clean' if name=='SimCLR' else 'adv', epochs=4, show=False)
        clf.save(home/f'{name}.safetensors')
        robustness_curve(clf, test[:50], eps=(0,16,48), attack='pgd3', name=name, show=False).save(home/name/'reports'/'curve.json')
    z,a = embed_pairs(nets['ACL'], to_float(test.x), PGD(Linf(.15), steps=2))
    for e in (1,epochs): write_embeddings(home/'ACL', e, z=z, a=a, y=test.y)

setup = f'''
import os, torch, numpy as np
torch.set_num_threads(1)
from robustfm.widgets import *
from robustfm.data import Batches,Images
from robustfm.rendering import shapes
from robustfm.datasets import digits
from robustfm.finetuning import Classifier
from robustfm.models import Encoder,tiny
from robustfm.runs import open_run
train, valid, test = digits()
test.classes = [{evil!r}, *test.classes[1:]]
clfs = {{n: Classifier.load(n+'.safetensors') for n in ('SimCLR','ACL')}}
acl = open_run('ACL')
'''
explorers = dict(
    attack      = 'w0 = attack_explorer(clfs, test); w0',
    stepper     = 'w1 = pgd_stepper(acl, test); w1',
    coreset     = 'w2 = coreset_explorer(acl, train[:384]); w2',
    embedding   = 'w3 = embedding_explorer(acl.encoder(), test[:300]); w3',
    robustness  = 'w4 = robustness_explorer(acl, open_run("SimCLR")); w4',
    invariance  = 'torch.manual_seed(0); w5 = invariance_explorer(Encoder(tiny(3, width=8)), shapes(32)); w5',
    dual_bn     = 'w6 = dual_bn_explorer(acl, test); w6',
    live        = 'w7 = Live(); w7(acl)',
    compare     = 'w8 = compare_runs("ACL", "SimCLR"); w8')

def many(n): return f'''
z = torch.randn({n}, 8, generator=torch.Generator().manual_seed(0))
x = Images(torch.zeros({n},1,8,8,dtype=torch.uint8), torch.arange({n})%10)
def cloud(): return embedding_explorer(dict(a=dict(z=z, a=z+.1), b=dict(z=z+.1, a=z)), x)
'''
wrong   = 'embedding_explorer({"a": dict(z=np.full((9,4), np.nan))}, test[:9])'
export  = 'print(w0.to_html("attack.html", most=2))'
trainee = '''
from robustfm.augment import views
from robustfm.objective import SimCLR
from robustfm.runs import pretrain
h = pretrain(SimCLR(Encoder(tiny(width=8)), views(flip=0), bn='clean'), Batches(train, bs=512), epochs=5000, opt='adam', show=Live(every=.1))
print('ended early:', len(h)<5000)
'''

def write(home):
    "demo.ipynb: all nine. fair.ipynb: the same with names as they are. nine.ipynb: and what only JupyterLab is asked: clouds of points, bad input, a page to send around, a training to stop"
    notebook(home/'demo.ipynb', setup, *explorers.values())
    notebook(home/'fair.ipynb', setup.replace(repr(evil), 'test.classes[0]'), *explorers.values())
    notebook(home/'nine.ipynb', setup, *explorers.values(), many(6000), *['cloud()']*3, wrong, export, trainee)
