"Whatever test images, attacks and reports come as: converted, or refused in one sentence before the first attack"
import json
from functools import partial
import numpy as np
import pytest, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from robustfm.attacks import L2, PGD, Linf
from robustfm.data import Batches, Images
from robustfm.evaluation import evaluate, load_report, robustness_curve
from robustfm.searches import Attack

FAULTS = [('bugs-ml-A1', 'inference mode', 'test_inference_mode'), ('bugs-ml-A2', 'pixels', 'test_pixels_refused'), ('bugs-ml-A3', 'names', 'test_attacks_of_one_name'),
          ('bugs-ml-A7', 'names', 'test_other_classes'), ('bugs-ml-B3', 'numbers', 'test_numbers'), ('bugs-ml-B7', 'late refusals', 'test_refused_before_the_first_attack'),
          ('bugs-ml-B8', 'late refusals', 'test_an_unused_layer'), ('bugs-ml-B12', 'labels', 'test_forms'), ('bugs-ml-C', 'arguments', 'test_arguments'),
          ('breaker-4-reports', 'files', 'test_reports_of_strangers'), ('teacher-A1', 'marks', 'test_marks'), ('teacher-A4', 'marks', 'test_marks')]

torch.manual_seed(0)
x, y = torch.randint(256, (24,1,8,8), dtype=torch.uint8), torch.arange(24)%5
clf  = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval()
kw   = dict(eps=.02, show=False, checks=None)
want = evaluate(clf, (x, y), **kw).rows

def same(rows): return [(r.attack, r.accuracy) for r in rows]==[(r.attack, r.accuracy) for r in want]

forms = {'Images': Images(x, y), 'numpy': (x.numpy(), y.numpy()), 'lists': (x, y.tolist()), 'float': (x/255, y), 'float64': ((x/255.).double(), y), 'labels (N,1)': (x, y[:,None]),
         'uint8 labels': (x, y.to(torch.uint8)), 'float labels': (x, y.float()), 'int16 labels': (x, y.short()), 'list of two': [x, y], 'Dataset': TensorDataset(x, y),
         'DataLoader': DataLoader(TensorDataset(x/255, y), 7), 'Batches': Batches(Images(x, y), 8), 'batches': [(x[:9], y[:9]), (x[9:], y[9:])]}

@pytest.mark.parametrize('form', forms)
def test_forms(form): assert same(evaluate(clf, forms[form], **kw).rows)

refused = {'int64': (x.long(), y), 'int16': (x.short(), y), 'int32': (x.int(), y), 'bool': (x>9, y), 'complex': (x+0j, y), '0…255': (x.float(), y), '−1…1': (x/127.5-1, y),
           'NaN': (x/255*float('nan'), y), 'N,H,W,C': (x.permute(0,2,3,1), y), '3 axes': (x[:,0], y), 'no label': (x, y-1), 'half a label': (x, y+.5), 'fewer labels': (x, y[:5]),
           'NaN labels': (x, y.float()*float('nan')), 'a tensor': x, 'an array': x.numpy(), 'text': 'images', 'empty': (x[:0], y[:0]), 'label 9': (x, y+5)}

@pytest.mark.parametrize('what', refused)
def test_pixels_refused(what):
    for f in (evaluate, robustness_curve):
        if f is robustness_curve and what in ('0…255', '−1…1'): continue            # a verdict there
        with pytest.raises((ValueError, TypeError)): f(clf, refused[what], show=False)

def test_inference_mode():
    with torch.inference_mode(): rows = evaluate(clf, (x/255, y), **kw).rows
    assert same(rows)
    with torch.inference_mode(): assert same(evaluate(clf, (torch.rand(1)*0+x/255, y.clone()), **kw).rows)

def shift(clf, x, y, by): return (x+by).clamp(0, 1)

@pytest.mark.parametrize('pair', [(partial(shift, by=.02), partial(shift, by=0.)), (partial(shift, by=0.), partial(shift, by=.02)), (lambda c,x,y: x, lambda c,x,y: (x-.02).clamp(0,1)),
                                  (PGD(Linf(.02), steps=20), 'pgd20'), ('pgd20', Attack('pgd', Linf(.02), 20)), (PGD(Linf(.02), steps=3), PGD(Linf(.02), steps=3, start='none'))])
def test_attacks_of_one_name(pair):
    rows = {r.attack: r.accuracy for r in evaluate(clf, (x, y), pair, **kw).rows}
    assert len(rows)==3 and rows['worst case']<=min(rows.values())

def test_other_classes():
    named = nn.Sequential(clf)
    named.classes = list('abcde')
    evaluate(named, Images(x, y, classes=list('abcde')), **kw)
    for names in ('bcdef', 'edcba', 'abcdeg'):
        with pytest.raises(ValueError, match='class'): evaluate(named, Images(x, y, classes=list(names)), **kw)

def test_refused_before_the_first_attack():
    ran = []
    def spy(c, x, y):
        ran.append(1)
        return x
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    conv = nn.Sequential(nn.Conv2d(1, 5, 8), nn.Flatten()).eval()
    for model, late in ((two, 'dlr20'), (two, 'apgd-t'), (two, 'autoattack'), (conv, 'feature20')):
        with pytest.raises((ValueError, ImportError)): evaluate(model, (x, y%2), (spy, late), **kw)
    assert not ran

def test_an_unused_layer():
    class Carries(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.projector = clf, nn.Linear(3, 3)
        def forward(self, x): return self.head(x)
    assert evaluate(Carries().eval(), (x, y), ('feature5',), **kw).rows[0].n==24

@pytest.mark.parametrize('bad', [dict(norm='L3'), dict(eps=8), dict(eps=-1.), dict(eps=float('nan')), dict(eps=float('inf')), dict(attacks=('pgd20x0',)), dict(attacks=('pgd0',)), dict(attacks=('noise0',)),
                                 dict(attacks=(8/255,)), dict(attacks=(PGD(Linf(.5)),)), dict(checks='all'), dict(attacks=(lambda c,x,y: (x, y),))])
def test_arguments(bad):
    with pytest.raises((ValueError, TypeError)): evaluate(clf, (x, y), **kw|bad)

def test_radii():
    assert robustness_curve(clf, (x, y), torch.tensor([0,2,8]), checks=None, show=False).eps==[0,2,8]
    assert 'L2 ε=0.5' in evaluate(clf, (x, y), norm='l2', eps=.5, show=False, checks=None)['pgd20'].protocol
    for eps in ((), (float('nan'),), (-1,)):
        with pytest.raises(ValueError): robustness_curve(clf, (x, y), eps, show=False)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision(dtype):
    with pytest.raises(ValueError, match='call .float'): evaluate(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).to(dtype), (x, y), **kw)

def test_numbers(tmp_path):
    r = evaluate(clf, (x, y), seed=np.int64(1), eps=torch.tensor(.02), show=False, checks=None)
    r.save(tmp_path/'r.json')
    c = robustness_curve(clf, (x, y), np.array([0,2,8]), seed=np.int64(1), show=False)
    c.save(tmp_path/'c.json')
    assert (load_report(tmp_path/'r.json'), load_report(tmp_path/'c.json'))==(r, c)

def test_marks():
    class Blind(nn.Module):
        def forward(self, x): return clf(x.detach())
    test = x, clf(x/255).argmax(1)
    bad, good = evaluate(Blind(), test, eps=.02, show=False), evaluate(clf, test, **kw)
    assert 'gradients' in bad.mark and 'gradients' in bad.ra.text and 'gradients' in bad['pgd20'].failed and good.mark=='– unchecked'
    assert 'n = 24' in bad.ra.text and '±' in bad.ra.text and '5.1/255' in bad.ra.text
    c = robustness_curve(Blind(), test, (0, 8), show=False)
    assert 'gradients' in c.at(8).text and '8/255' in c.at(8).text and c.at(30) is None

strange = ['[1]', 'null', '{}', '['*100000, '{"kind": "Report"}', '{"kind": ["Report"], "rows": []}', '{"kind": "Nothing"}', '{"kind": "Report", "rows": {}, "verdicts": [], "about": {}}',
           '{"kind": "Report", "rows": [], "about": []}', '{"kind": "Report", "rows": [1]}', '{"kind": "Report", "rows": [], "verdicts": [], "about": {}, "more": 1}']

@pytest.mark.parametrize('text', strange, ids=range(len(strange)))
def test_reports_of_strangers(tmp_path, text):
    (tmp_path/'r.json').write_text(text)
    with pytest.raises(ValueError, match='not a report'): load_report(tmp_path/'r.json')

@pytest.mark.parametrize('field,value', [('accuracy', 7.), ('accuracy', 'all'), ('n', '9'), ('stderr', -1.), ('attack', 3), ('seconds', None)])
def test_rows_of_strangers(tmp_path, field, value):
    d = evaluate(clf, (x, y), **kw).to_dict()
    d['rows'][0][field] = value
    (tmp_path/'r.json').write_text(json.dumps(d))
    with pytest.raises(ValueError, match='not a report'): load_report(tmp_path/'r.json')

def test_what_strangers_wrote_is_printed_plainly(tmp_path):
    d = evaluate(clf, (x, y), show=False, eps=.02).to_dict()
    d['rows'][0]['attack'] = d['verdicts'][0]['seen'] = d['about']['data'] = '\x1b[31m\u202e<script>'
    (tmp_path/'r.json').write_text(json.dumps(d))
    r = load_report(tmp_path/'r.json')
    for text in (str(r), repr(r), r._repr_html_()): assert '\x1b' not in text and '\u202e' not in text
    assert '<script>' not in r._repr_html_()
    d['verdicts'][0]['status'] = 'fine'
    (tmp_path/'r.json').write_text(json.dumps(d))
    with pytest.raises(ValueError, match='status'): load_report(tmp_path/'r.json')
