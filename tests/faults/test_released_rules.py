"Kind: lists of departures that miss some: each is an argument whose effect is recorded here"
import numpy as np, pytest, torch
from robustfm.attacks import PGD,Linf
from robustfm.augment import crop_flip
from robustfm.data import Batches
from robustfm.datasets import digits
from robustfm.finetuning import AFF,Classifier,finetune
from robustfm.methods import lp_aft as room
from robustfm.methods.autolora import AutoRate
from robustfm.models import Encoder,tiny

FAULTS = [('differential-F3', 'released rules', 'test_the_released_rate_is_reproduced_in_300_courses'),
          ('differential-F7', 'released rules', 'test_lp_aft_can_do_what_the_scripts_do'),
          ('researcher-F2', 'released rules', 'test_protocols_are_data')]

def as_published(ras, lr, marks):
    "The released schedule in other words: it looks after the epoch behind each mark, and only at the first mark does its rate count as changed"
    now,out,seen,low,at = lr,[],[],0,None
    marks = list(marks)
    for epoch,ra in enumerate(ras, 1):
        seen.append(ra)
        if marks and epoch==marks[0]+1:
            high = marks.pop(0)
            gains = sum(seen[j+1]>seen[j] for j in range(low, high))
            if gains<.75*(high-low) or (at is not None and max(seen)==at): now /= 2
            low,at = high,max(seen)
        out.append(now)
    return out

marks50 = 16,24,28,36,40,42,44,46,48,50

def rates(ras, **kw):
    r,out = AutoRate(.1, len(ras), **kw),[]
    for ra in ras:
        r.record(ra)
        out.append(r.lr)
    return out

def courses(n):
    g = np.random.default_rng(0)
    for i in range(n):
        if i%3==0: yield g.random(50).tolist()
        elif i%3==1: yield (np.cumsum(g.random(50))/50).tolist()
        else: yield np.minimum(np.cumsum(g.random(50)-.3)/20, .5).clip(0).tolist()

def test_the_released_rate_is_reproduced_in_300_courses():
    for ras in courses(300):
        assert rates(ras, released=True)==as_published(ras, .1, marks50)
        assert rates(ras, released=True, every=4)==as_published(ras, .1, range(4, 51, 4))

def test_the_two_rules_differ():
    apart = [rates(ras)!=rates(ras, released=True) for ras in courses(300)]
    assert sum(apart)>150

def test_flat_courses_halve_an_epoch_later_as_released():
    assert rates([.3]*50).index(.05)==15 and rates([.3]*50, released=True).index(.05)==16

train = digits()[0][:256]

@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = Encoder(tiny(1, 4))
    for x,_ in Batches(train, 64):
        net.features(x, 'clean')
        net.features((x+.2*torch.randn_like(x)).clamp(0,1), 'adv')
    return net.eval()

def test_one_rate_by_its_name(net):
    clf = finetune(net, train[:64], schedule='auto-released', epochs=5, valid=.2, show=False)
    assert clf.card['schedule']=='auto-released' and len(clf.history['ra'])==5

quick = dict(lp=dict(epochs=1, bs=96), aft=dict(epochs=1, bs=96, lr=.05, milestones=()), augment=crop_flip(1, flip=0), show=False)

@pytest.mark.parametrize('name', ['dynacl','air'], ids=['differential-F7-dynacl','differential-F7-air'])
def test_lp_aft_can_do_what_the_scripts_do(net, name):
    def run(**kw): return room.lp_aft(net, train, attack=PGD(Linf(.1), steps=1, start='near'), **quick, **kw).state_dict()
    own,kw = run(),room.scripts[name]
    for k,v in kw.items():
        if k=='attack': continue
        one = run(**{k:v})
        assert not all(w.equal(own[n]) for n,w in one.items()), f'{k}={v!r} changes nothing'

def test_the_first_step_of_trades_matters(net):
    "Without it divergence and gradient are zero at the images"
    clf = Classifier(net, 10, 'adv')
    torch.manual_seed(0)
    torch.nn.init.normal_(clf.head.weight, std=.1)
    x,y = next(iter(Batches(train, 128)))
    def kl(start):
        torch.manual_seed(0)
        return AFF(clf, attack=PGD(Linf(.1), steps=5, start=start), dual=False).eval()(x, y)[1]['kl'].item()
    assert kl('near')>1.05*kl('none')

def test_directions_and_features_are_other_clusters(net):
    from sklearn.metrics import adjusted_rand_score
    a,b = (room._clusters(net, train, 10, c, 0) for c in ('directions','features'))
    assert .1<adjusted_rand_score(a, b)<.999

def test_protocols_are_data():
    from robustfm.finetuning import protocols,transfers
    assert len(protocols)==111 and protocols['dynacl-air','cifar10','slf']==dict(bs=512, lr=.01, epochs=5, milestones=(10,20))
    assert protocols['autolora','cifar10','autolora']==dict(bs=128, lr=.1, epochs=50, valid=.05) and protocols['acl','stl10','aff']['milestones']==(40,60)
    assert len(transfers)==15 and transfers[0]==dict(pretrain='cifar10', finetune='cifar100', source='RCS, AIR')
