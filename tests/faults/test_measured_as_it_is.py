"Kind: a number that is not what it says: attacks that do not happen, pixels of another range, layouts that nobody has"
import numpy as np, pytest, torch
from robustfm.attacks import PGD,Linf
from robustfm.data import Images
from robustfm.datasets import digits
from robustfm.finetuning import accuracy,finetune,select_model
from robustfm.methods.autolora import AutoRate
from robustfm.models import Encoder,tiny

FAULTS = [('bugs-ml-A1', 'measured as it is', 'test_inference_mode_changes_no_number'),
          ('bugs-ml-A2', 'measured as it is', 'test_images_of_other_types_are_refused_or_right')]

train,valid,test = digits()
test = test[:128]
attack = PGD(Linf(.15), steps=5)

@pytest.fixture(scope='module')
def clf():
    torch.manual_seed(0)
    net = Encoder(tiny(1, 4), 'clean').train()
    for _ in range(3): net.features(train.x[:256].float()/255)
    return finetune(net, train, epochs=10, show=False)

@pytest.mark.parametrize('attack', [None,PGD(Linf(.05), steps=3),attack,PGD(Linf(.15), steps=2, start='none')], ids=['own-clean','own-small','bugs-ml-A1-inference-mode','own-no-start'])
@pytest.mark.parametrize('mode', [torch.inference_mode,torch.no_grad,torch.enable_grad], ids=['inference','no_grad','grad'])
def test_inference_mode_changes_no_number(clf, attack, mode):
    want = accuracy(clf, test, attack)
    with mode(): assert accuracy(clf, test, attack)==want
    with mode(): assert accuracy(clf, (test.x.float()/255,test.y.clone()), attack)==want   # tensors born within
    if attack is not None and attack.ball.eps>.1: assert want<accuracy(clf, test)-.1

def test_choosing_and_steering_are_measured_right_in_inference_mode(clf):
    with torch.inference_mode(): assert select_model([clf], test, attack) is clf
    with torch.inference_mode(): a = finetune(clf.net, train[:64], epochs=1, show=False)
    b = finetune(clf.net, train[:64], epochs=1, show=False)
    assert a.head.weight.equal(b.head.weight)

@pytest.mark.parametrize('cast', [lambda x: x, lambda x: x.float()/255, lambda x: x.double()/255, lambda x: (x.float()/255).half(), lambda x: (x.float()/255).bfloat16()],
                         ids=['own-bytes','own-float','own-double','own-half','own-bfloat16'])
def test_images_of_types_that_have_a_meaning(clf, cast):
    assert abs(accuracy(clf, (cast(test.x),test.y))-accuracy(clf, test))<.03

@pytest.mark.parametrize('cast', [lambda x: x.long(), lambda x: x.short(), lambda x: x.int(), lambda x: x.float(), lambda x: x.float()/255-.5, lambda x: x.permute(0,2,3,1).float()/255, lambda x: x[0].float()/255,
                                  lambda x: torch.full(x.shape, torch.nan)],
                         ids=['bugs-ml-A2-int64','bugs-ml-A2-int16','bugs-ml-A2-int32','bugs-ml-A2-0-255','own-centred','own-channels-last','own-one-image','own-nan'])
def test_images_of_other_types_are_refused_or_right(clf, cast):
    x = cast(test.x)
    try: got = accuracy(clf, (x,test.y[:len(x)]))
    except (ValueError,TypeError) as e: assert '\n' not in str(e) and len(str(e))>20
    else: assert got==accuracy(clf, test[:len(x)])

@pytest.mark.parametrize('data', [lambda: (test.x,test.y), lambda: Images(test.x, test.y), lambda: test], ids=['own-pair','own-images','own-named'])
def test_data_of_several_kinds_are_one_number(clf, data): assert accuracy(clf, data())==accuracy(clf, test)

def test_the_rate_sees_the_accuracy_it_is_told():
    r = AutoRate(.1, 8, every=4)
    for ra in (.2,.1,.1,.1): r.record(ra)
    assert r.lr==.05 and r.trace==[0.,.2,.1,.1,.1]
