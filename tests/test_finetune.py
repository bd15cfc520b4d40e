"Fine-tuning: what moves and what must not, which way images go, and what a file or a label may not do"
from copy import deepcopy
import pytest, torch
import torch.nn.functional as F
from robustfm.attacks import PGD,Linf,worst_case
from robustfm.data import Batches,Images
from robustfm.datasets import digits
from robustfm.finetuning import (AFF, ALF, Classifier, accuracy, select_model, logit_kl, finetune, 
                               multistep, protocols, semi_supervised, )
from robustfm.methods.autolora import AutoLoRa,AutoRate
from robustfm.tools import fingerprints,measuring
from robustfm.models import Encoder,one_branch,tiny

quick = dict(epochs=1, show=False)
near,pgd = PGD(Linf(.1), steps=2, start='near'),PGD(Linf(.1), steps=2)

@pytest.fixture(scope='module')
def data(): return digits()

@pytest.fixture(scope='module')
def net(data):
    "Random weights, and statistics of its own in each branch"
    torch.manual_seed(0)
    net = Encoder(tiny())
    for x,_ in Batches(data[0], 128):
        net.features(x, 'clean'); net.features((x+.2*torch.randn_like(x)).clamp(0,1), 'adv')
    return net.eval()

def same(a, b): return set(a)==set(b) and all(v.equal(b[k]) for k,v in a.items())
def state(m): return deepcopy(m.state_dict())

@pytest.mark.parametrize('mode,attack', [('slf',None),('alf',pgd),('aff',near),('sff',None),('autolora',near)])
def test_the_encoder_given_stays_bit_identical(net, data, mode, attack):
    before,modes = state(net),[m.training for m in net.modules()]
    kw = {} if attack is None else dict(attack=attack)
    clf = finetune(net, data[0][:256], mode, valid=data[1][:64], **quick, **kw)
    assert same(before, net.state_dict()) and modes==[m.training for m in net.modules()]
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    if mode in ('slf','alf'): assert same(before, clf.net.state_dict())
    else: assert not same({k:v for k,v in before.items() if k in clf.net.state_dict()}, clf.net.state_dict())

def test_slf_with_views_leaves_statistics_alone_too(net, data):
    clf = finetune(net, data[0][:256], augment=lambda x: x+.01*torch.randn_like(x), **quick)
    assert same(state(net), clf.net.state_dict())

def test_slf_learns_digits_quickly(net, data):
    assert accuracy(finetune(net, data[0], show=False), data[2])>.8 # of random features

def test_alf_attacks_through_the_encoder(net, data):
    clf = Classifier(deepcopy(net), 10); torch.nn.init.normal_(clf.head.weight)
    x,y = next(iter(Batches(data[0], 64)))
    a = ALF(clf, attack=PGD(Linf(.1), steps=5)).inputs(x, y)
    clf.eval()
    assert (a-x).abs().max()<=.1+1e-6 and F.cross_entropy(clf(a), y)>F.cross_entropy(clf(x), y)+.1
    with measuring(clf): assert (clf.features(a)-clf.features(x)).abs().max()>1e-3

def test_a_zero_head_gives_the_attack_a_zero_gradient(net, data):
    clf = Classifier(deepcopy(net), 10).eval()
    x,y = next(iter(Batches(data[0], 64)))
    a = x.clone().requires_grad_()
    assert torch.autograd.grad(F.cross_entropy(clf(a), y), a)[0].abs().max()==0

def moved(clf, dual):
    "Which branches' statistics a step of AFF moves"
    before = state(clf.net)
    AFF(clf, attack=near, dual=dual).train()(torch.rand(16,1,8,8), torch.arange(16)%10)
    return {b for b in clf.net.branches for k,v in clf.net.state_dict().items() if f'bns.{b}.running_mean' in k and not v.equal(before[k])}

def test_aff_routes(net):
    assert moved(Classifier(deepcopy(net), 10), None)=={'clean','adv'}
    assert moved(Classifier(deepcopy(net), 10), False)=={'adv'}

def test_aff_loss_is_trades(net):
    clf = Classifier(deepcopy(net), 10); torch.nn.init.normal_(clf.head.weight)
    x,y = torch.rand(16,1,8,8),torch.arange(16)%10
    aff = AFF(clf, attack=near).eval() # statistics stay, so that the same can be computed again
    torch.manual_seed(0); loss,terms = aff(x, y)
    torch.manual_seed(0); p = clf(x, 'clean'); a = aff.perturb(lambda a: logit_kl(p.detach(), clf(a)), x)
    want = F.cross_entropy(p, y)+6*F.kl_div(clf(a).log_softmax(1), p.softmax(1), reduction='batchmean')
    assert (loss-want).abs()<1e-4*want.abs() and set(terms)=={'ce','kl'}
    loss.backward(); assert clf.net.f[0].weight.grad.abs().max()>0

@pytest.mark.parametrize('bn', ['clean','adv'])
def test_one_branch_is_the_same_function(net, bn):
    x = torch.rand(8,1,8,8)
    one = one_branch(net, bn)
    assert (one.features(x)-net.features(x, bn)).abs().max()<1e-6 and one.branches==(bn,) and net.branches==('clean','adv')

def test_autolora(net):
    clf = Classifier(one_branch(net), 10); torch.nn.init.normal_(clf.head.weight)
    x,y,names = torch.rand(16,1,8,8),torch.arange(16)%10,set(clf.state_dict())
    lora = AutoLoRa(clf, attack=near).eval()
    with lora.natural(): natural = clf(x)
    assert (natural-clf(x)).abs().max()<1e-6              # both routes are one function at the start
    assert [c.rank for *_,c in lora.places]==[8,8] and (lora.lam1,lora.lam2)==(.9,pytest.approx(.6))
    def reached(route):
        lora.zero_grad()
        if route=='nat':
            with lora.natural(): z = clf(x)
        else: z = clf(x)
        F.cross_entropy(z, y).backward()
        return {n for n,p in clf.named_parameters() if p.grad is not None and p.grad.abs().max()>0}
    nat,adv = reached('nat'),reached('adv')
    low = {n for n,_ in clf.named_parameters() if n.endswith(('.A','.B'))}
    assert nat-low=={'head.weight','head.bias'} and nat&low=={n for n in low if n.endswith('.B')}  # A: none yet, for B is zero
    assert not adv&low and {'net.f.0.weight','net.f.3.layer.weight','net.f.1.bns.adv.weight','head.weight'}<=adv
    for *_,c in lora.places: torch.nn.init.normal_(c.B, std=.1)
    assert low<=reached('nat') and not reached('adv')&low
    plain = clf(x); lora.end()
    assert set(clf.state_dict())==names and clf(x).equal(plain)

def test_autolora_weights_follow_accuracy(net, data):
    lora = AutoLoRa(Classifier(one_branch(net), 10)); lora.weigh(.75)
    assert (lora.lam1,lora.lam2)==(.25,4.5)
    clf = finetune(net, data[0][:128], 'autolora', epochs=2, attack=near, valid=0, route='adv', show=False)   # as released
    assert 'ra' in clf.history[0] and len(clf.history)==2

def test_linear_rows_of_autolora_are_the_rate_rule(net, data):
    clf = finetune(net, data[0][:256], schedule='auto', epochs=8, valid=data[1][:64], show=False)
    assert clf.card['schedule']=='auto' and all('ra' in h for h in clf.history) and same(state(net), clf.net.state_dict())

@pytest.mark.parametrize('trace,want', [([e/50 for e in range(1,51)], [.1]*50), ([.3]*50, None)])
def test_learning_rate_rule(trace, want):
    r = AutoRate(.1, 50); lrs,back = [],[]
    for ra in trace: back.append(r.record(ra)); lrs.append(r.lr)
    assert r.checkpoints==[16,24,28,36,40,42,44,46,48,50]
    if want: assert lrs==want and not any(back)
    else: assert [e+1 for e,b in enumerate(back) if b]==r.checkpoints and lrs[-1]==pytest.approx(.1/2**10)

def test_learning_rate_rule_second_condition():
    "Three of four epochs improve, but not on the best: halved only by the second condition, at the second checkpoint"
    r = AutoRate(.1, 8, every=4)
    assert [r.record(a) for a in (.2,.3,.4,.9, .1,.2,.3,.4)]==[False]*7+[True]

def test_multistep(): assert [round(multistep(1., (10,20))(e), 4) for e in (1,10,10.01,20,20.5)]==[1,1,.1,.1,.01]

def test_search_keeps_the_best_iterate(data):
    "A point that is adversarial in the middle of the way only"
    class Band(torch.nn.Module):
        def forward(self, x): m = (x.mean((1,2,3))-.55).abs()-.02; return torch.stack([m,-m], 1)
    x,y = torch.full((4,1,8,8), .5),torch.zeros(4, dtype=torch.long)
    for k in range(2,9):
        ok,adv = worst_case(Band().eval(), x, y, PGD(Linf(.1), alpha=.025, steps=k, start='none'))
        assert not ok.any() and (Band()(adv).argmax(1)!=y).all()

def test_accuracy_leaves_everything_as_it_was(net, data):
    clf = finetune(net, data[0], **quick).train()
    before,rng = state(clf),torch.get_rng_state()
    a,b = (accuracy(clf, data[2], pgd, bs=bs) for bs in (64,64))
    assert a==b and clf.training and same(before, clf.state_dict()) and torch.get_rng_state().equal(rng)
    assert all(p.requires_grad and p.grad is None for p in clf.parameters())

@pytest.mark.parametrize('share,labelled', [(.01,11),(.1,108)])
def test_few_labels(net, data, share, labelled):
    clf = semi_supervised(net, data[0], share, epochs=1, attack=pgd, standard=dict(epochs=1), show=False)
    assert clf.card['mode']=='distilled' and clf.teacher[0].bn=='clean' and len(clf.teacher[0].seen)==labelled
    assert not any('teacher' in k for k in clf.state_dict())

@pytest.mark.parametrize('channels,shape', [(3,(4,1,8,8)),(1,(4,3,32,32)),(3,(4,3,12,12))])
def test_images_of_another_data_set_fit(channels, shape):
    clf = Classifier(Encoder(tiny(channels)), 5, size=16)
    assert clf.fitted(torch.rand(shape)).shape==(4,channels,16,16) and clf(torch.rand(shape)).shape==(4,5)

def test_area_averaging_keeps_the_ball():
    "An attack on 96 pixels reaches exactly what one on 32 does"
    clf = Classifier(Encoder(tiny(3)), 5, size=32)
    x = torch.rand(2,3,96,96)*.8+.1; d = (torch.rand(2,3,32,32)*2-1)*.05
    assert (clf.fitted(x+d.repeat_interleave(3, 2).repeat_interleave(3, 3))-clf.fitted(x)-d).abs().max()<1e-6

def test_files(net, data, tmp_path):
    clf = finetune(net, data[0], **quick); clf.save(tmp_path/'c.safetensors', note='<b>')
    again = Classifier.load(tmp_path/'c.safetensors')
    x = torch.rand(4,1,8,8)
    assert again(x).equal(clf(x)) and again.card['note']=='<b>' and again.seen.equal(clf.seen) and not again.training
    (tmp_path/'cut.safetensors').write_bytes((tmp_path/'c.safetensors').read_bytes()[:3000])
    with pytest.raises(ValueError, match='not a whole safetensors file'): Classifier.load(tmp_path/'cut.safetensors')
    net.save(tmp_path/'n.safetensors')
    with pytest.raises(ValueError, match='not written by Classifier.save'): Classifier.load(tmp_path/'n.safetensors')

def test_who_was_seen(net, data):
    train,valid,test = data
    clf = finetune(net, train, **quick)
    assert clf.seen.equal(fingerprints(train.x)) and fingerprints(train.x).unique().numel()>.99*len(train)
    assert fingerprints(train.x[:9]).equal(fingerprints(train.x[:9].float()/255))
    assert torch.isin(fingerprints(valid.x), select_model([clf], valid).seen).all()

def test_bad_input(net, data):
    train = data[0]
    for f,what in [(lambda: finetune(net, train, 'lp'), 'unknown'), (lambda: finetune(net, Images(train.x)), 'have none'), (lambda: finetune(net, train, classes=3), 'outside classes'),
                   (lambda: finetune(net, train, bn='pgd'), "no branch 'pgd'"), (lambda: finetune(net, train[:0]), 'needs a label')]:
        with pytest.raises(ValueError, match=what): f()
    with pytest.raises(FloatingPointError, match='smaller lr'): finetune(net, train, 'sff', lr=1e12, **quick)

def test_published_settings():
    assert protocols['deacl','cifar10','slf']['milestones']==(15,20) and protocols['dynacl','stl10','aff']['milestones']==(10,20)
    assert protocols['acl-air','cifar10','slf']['lr']==.005 and protocols['dynacl-air++','cifar10','alf']['epochs']==4
