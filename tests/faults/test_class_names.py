"Kind: a number that means one class to the classifier and another in the folder it is tested on"
import numpy as np, pytest, torch
from torch import nn
from torch.utils.data import DataLoader
from robustfm.data import Images, Pictures
from robustfm.datasets import images
from robustfm.evaluation import evaluate, robustness_curve
from robustfm.finetuning import Classifier, finetune
from robustfm.models import Encoder, tiny

FAULTS = [('bugs-ml-A7', 'names', 'test_a_folder_whose_classes_are_not_those_of_the_classifier')]

kw = dict(eps=.02, attacks=('pgd2',), checks=None, show=False)

def folder(root, names):
    "Six pictures a class: what they show follows from the name"
    from PIL import Image
    draw = np.random.default_rng(0)
    for name in names:
        (root/name).mkdir(parents=True)
        for k in range(6):
            grey = 40*(ord(name)-96) + draw.normal(0, 6, (8,8,3))
            Image.fromarray(grey.clip(0, 255).astype('uint8')).save(root/name/f'{k}.png')
    return root

@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    for part,names in dict(train='abc', test='abc', fewer='ac', other='bcd').items(): folder(root/part, names)
    return root

@pytest.fixture(scope='module')
def clf(root):
    torch.manual_seed(0)
    return finetune(Encoder(tiny(3, 2), 'clean'), images(root/'train', 8), epochs=1, show=False)

def reloaded(clf, tmp_path):
    clf.save(tmp_path/'c.safetensors')
    return Classifier.load(tmp_path/'c.safetensors')

ways = {'as it is': lambda c,p: c, 'from its file': reloaded, 'in a module': lambda c,p: nn.Sequential(c).eval()}

@pytest.mark.parametrize('way', ways.values(), ids=ways)
@pytest.mark.parametrize('part,classes,what', [('test', ['c','a','b'], "class 0 is 'a' to the model and 'c' in test"), ('test', ['a','c','b'], "class 1 is 'b'"),
    ('fewer', None, 'numbers its 2 classes otherwise than the model its 3'), ('other', None, "class 0 is 'a' to the model and 'b'"), ('test', ['a','b','c','d'], '3 outputs and test has 4')],
    ids=['bugs-ml-A7-other-order','own-two-swapped','bugs-ml-A7-fewer','bugs-ml-A7-other-classes','own-more'])
def test_a_folder_whose_classes_are_not_those_of_the_classifier(clf, root, tmp_path, way, part, classes, what):
    test = images(root/part, 8, classes)
    for f in (evaluate, robustness_curve):
        with pytest.raises(ValueError, match=what): f(way(clf, tmp_path), test, **kw) if f is evaluate else f(way(clf, tmp_path), test, (0,2), show=False)

def test_the_same_classes_are_measured(clf, root):
    assert clf.classes==['a','b','c']
    want = evaluate(clf, images(root/'test', 8), **kw)['pgd2'].accuracy
    assert evaluate(clf, images(root/'fewer', 8, ['a','b','c']), **kw)['pgd2'].n==12
    unnamed = images(root/'test', 8)
    unnamed.classes = None                      # nothing to compare: measured by number
    assert evaluate(clf, unnamed, **kw)['pgd2'].accuracy==want

@pytest.mark.parametrize('given', [lambda root: Pictures([(np.zeros((8,8,3), 'uint8'),0)]*4, [0,1,2,0], 8, ['c','b','a']), lambda root: DataLoader(Named(), 4)], ids=['own-pictures','own-loader'])
def test_names_of_whatever_holds_images(clf, root, given):
    with pytest.raises(ValueError, match="class 0 is 'a'"): evaluate(clf, given(root), **kw)

class Named(torch.utils.data.Dataset):
    "As torchvision's ImageFolder: it knows its classes"
    classes = ['c','b','a']
    def __len__(self): return 8
    def __getitem__(self, i): return torch.full((3,8,8), i/8), i%3

def test_a_wrapper_with_more_outputs_than_names():
    wrapped = nn.Sequential(nn.Flatten(), nn.Linear(3, 4)).eval()
    wrapped.classes = ['a','b','c']
    x = torch.zeros(4, 3, 1, 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match="class 3 is None to the model and 'd'"): evaluate(wrapped, Images(x, range(4), list('abcd')), **kw)
