"Kind: labels that are none, or that mean another class: missing, with gaps, of another shape or type, numbered by another folder"
import numpy as np, pytest, torch
from robustfm.attacks import PGD,Linf
from robustfm.data import Images
from robustfm.datasets import digits
from robustfm.finetuning import Classifier,accuracy,by_name,class_labels,finetune,select_model
from robustfm.models import Encoder,tiny

FAULTS = [('bugs-ml-B12', 'labels', 'test_labels_with_gaps_are_refused'),
          ('bugs-ml-B12', 'labels', 'test_an_identity_is_no_class_number'),
          ('bugs-ml-B12', 'labels', 'test_a_column_of_labels_is_a_row'),
          ('bugs-ml-B12', 'labels', 'test_what_is_no_label_is_refused'),
          ('bugs-ml-A7', 'labels', 'test_classes_are_compared_by_name'),
          ('bugs-ml-A7', 'labels', 'test_a_class_that_nobody_trained_on_is_named'),
          ('researcher-F13', 'names of modes', 'test_a_mode_is_a_name_in_any_case_or_a_class')]

train,valid,test = digits()
few,quick = train[:64],dict(epochs=1, show=False)
net = Encoder(tiny(1, 2), 'clean')

class Counting(Encoder):
    "An encoder that must not be asked before the labels were looked at"
    def features(self, *args, **kw): raise AssertionError('a forward pass before the refusal')

def untouched():
    torch.manual_seed(0)
    return Counting(tiny(1, 2), 'clean')

@pytest.mark.parametrize('y', [[5,100,7000], [1,2,3], [3,3,3]], ids=['bugs-ml-B12-identities','bugs-ml-B12-from-1','own-one-class'])
def test_labels_with_gaps_are_refused(y):
    with pytest.raises(ValueError, match='number the classes 0') as e: finetune(untouched(), Images(few.x[:3], y), **quick)
    assert 'classes=' in str(e.value)

@pytest.mark.parametrize('y', [[0,10**9,1], [2**40,0,1], [100_000,0,1]], ids=['bugs-ml-B12-1e9','own-2-to-the-40','own-least'])
def test_an_identity_is_no_class_number(y):
    with pytest.raises(ValueError, match='number the classes 0'): Images(few.x[:3], y)

def test_gaps_are_no_fault_where_the_classes_are_known():
    clf = finetune(net, Images(few.x[:3], [5,1,7], [str(i) for i in range(10)]), **quick)
    assert clf.n_classes==10 and finetune(net, Images(few.x[:3], [5,1,7]), classes=8, **quick).n_classes==8

@pytest.mark.parametrize('y', [few.y[:,None], few.y[:,None].byte(), few.y.byte(), few.y.int(), few.y.numpy()], ids=['bugs-ml-B12-column','own-bytes-column','own-bytes','own-int32','own-numpy'])
def test_a_column_of_labels_is_a_row(y):
    assert class_labels(y).equal(few.y)
    assert finetune(net, Images(few.x, y, few.classes), **quick).n_classes==10

@pytest.mark.parametrize('y', [torch.rand(64), torch.rand(64)>.5, few.y[:,None].repeat(1,2), torch.tensor(3), np.ones((64,1,1), int)], ids=['bugs-ml-B12-scores','own-bool','own-two-columns','own-one-number','own-three-axes'])
def test_what_is_no_label_is_refused(y):
    with pytest.raises(ValueError, match='one integer an image'): class_labels(y)

@pytest.mark.parametrize('f', [lambda: finetune(untouched(), Images(few.x), **quick), lambda: accuracy(Classifier(net, 10), Images(few.x)),
                               lambda: select_model([Classifier(net, 10)], Images(few.x)), lambda: finetune(untouched(), few[:0], **quick)], ids=['own-train','own-accuracy','own-choice','own-empty'])
def test_a_missing_label_is_named(f):
    with pytest.raises(ValueError, match='need'): f()

@pytest.mark.parametrize('names,y,want', [(['a','c'],[0,1],[0,2]), (['c','b','a'],[0,1,2],[2,1,0]), (['a','b','c'],[2,0],[2,0]), (None,[1],[1])], ids=['bugs-ml-A7-fewer','own-other-order','own-same','own-no-names'])
def test_classes_are_compared_by_name(names, y, want):
    clf = Classifier(net, 3, classes=['a','b','c'])
    images = Images(test.x[:len(y)], y, names)
    assert by_name(clf, images)(images.y).tolist()==want

def test_accuracy_of_a_folder_that_lacks_a_class():
    "Trained on a, b, c; tested on a and c, which the folder numbers 0 and 1"
    keep = few.y<3
    three = Images(few.x[keep], few.y[keep], ['a','b','c'])
    clf = finetune(net, three, epochs=20, show=False)
    two = three.y!=1
    x,y = three.x[two],three.y[two]
    assert accuracy(clf, Images(x, y//2, ['a','c']))==accuracy(clf, Images(x, y))

@pytest.mark.parametrize('measure', [lambda c,i: accuracy(c, i), lambda c,i: accuracy(c, i, PGD(Linf(.1), steps=1)), lambda c,i: select_model([c], i)], ids=['bugs-ml-A7-other-classes','own-attacked','own-choice'])
def test_a_class_that_nobody_trained_on_is_named(measure):
    with pytest.raises(ValueError, match='not trained on .d.: fine-tune a head'):
        measure(Classifier(net, 3, classes=['a','b','c']), Images(test.x[:3], [0,1,2], ['b','c','d']))

def test_names_travel_with_the_file(tmp_path):
    clf = finetune(net, few, **quick)
    clf.save(tmp_path/'c.safetensors')
    assert Classifier.load(tmp_path/'c.safetensors').classes==few.classes==clf.classes
    with pytest.raises(ValueError, match='2 names of classes for 3 outputs'): Classifier(net, 3, classes=['a','b'])

@pytest.mark.parametrize('mode', ['SLF','Slf','slf'], ids=['researcher-F13-capitals','own-mixed','own-small'])
def test_a_mode_is_a_name_in_any_case_or_a_class(mode):
    from robustfm.finetuning import SLF
    a,b = finetune(net, few, mode, **quick),finetune(net, few, SLF, **quick)
    assert a.head.weight.equal(b.head.weight) and a.card['mode']=='slf'

@pytest.mark.parametrize('kw,what', [(dict(epochs=-1),'epochs'), (dict(epochs=0),'epochs'), (dict(bs=1),'bs'), (dict(epochs=1.5),'epochs'), (dict(mode='lp'),"'slf', 'alf'"), (dict(schedule='cosine'),"'steps'")],
                         ids=['bugs-ml-C-epochs','own-none','own-bs','own-half','own-mode','own-schedule'])
def test_settings_are_refused_before_the_first_forward(kw, what):
    with pytest.raises(ValueError, match=what): finetune(untouched(), few, show=False, **kw)
