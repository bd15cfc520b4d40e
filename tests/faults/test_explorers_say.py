"Kind: a picture or a table of an explorer that says something false, or a story that begins at its end"
import json, os, threading, time
from pathlib import Path
import numpy as np, pytest, torch
from robustfm import figures, probes, widgets as w
from robustfm.augment import views
from robustfm.attacks import PGD,Linf
from robustfm.datasets import digits
from robustfm.methods.acl import ACL
from robustfm.models import Encoder,branch_of,tiny
from robustfm.objective import Objective,SimCLR
from robustfm.data import Batches
from robustfm.runs import Run,pretrain

FAULTS = [('teacher-A1', 'false picture', 'test_a_failed_check_reaches_every_screen'),
          ('teacher-A2', 'false picture', 'test_stored_embeddings_say_which_attack_made_them'),
          ('teacher-A4', 'false picture', 'test_robust_accuracy_of_a_table_is_that_of_a_radius_it_names'),
          ('teacher-A5', 'ends before it begins', 'test_the_stepper_opens_before_a_stranger_is_nearer'),
          ('teacher-A6', 'ends before it begins', 'test_the_attack_opens_on_an_image_that_is_right'),
          ('teacher-A8', 'cannot be stopped', 'test_what_no_pass_interrupts_can_be_left'),
          ('teacher-A11', 'false picture', 'test_a_selection_is_counted_whole'),
          ('aesthetics-2', 'two rules', 'test_explorers_and_classifiers_look_through_one_branch'),
          ('aesthetics-5', 'list of names', 'test_a_method_of_ones_own_has_a_cost'),
          ('bugs-nb-9', 'nowhere to write', 'test_umap_finds_a_place_to_cache'),
          ('bugs-ml-C', 'memory', 'test_neighbours_are_sought_in_parts')]

train,_,test = digits()
bad  = [dict(name='gradients', status='fail', number=1., cost=0, seen='', advice='')]
good = [dict(name='gradients', status='pass', number=0., cost=0, seen='', advice='')]
rows = [dict(attack='clean', accuracy=.9, n=50, protocol=''),dict(attack='pgd20', accuracy=.3, n=50, protocol='ε=8/255')]

def curve(verdicts, name='b', eps=(0,8,64)): return dict(kind='Curve', eps=list(eps), accuracy=[.9,.4,.01][:len(eps)], n=100, name=name, verdicts=verdicts)

def run(path, verdicts, **more):
    r = Run(path)
    r.write('config.json', dict(objective=dict(name='ACL', attack='PGD(steps=5)'), batches=dict(bs=8)))
    (r.path/'history.jsonl').write_text('{"epoch":0,"step":1,"progress":1.0,"seconds":1.0,"lr":0.1,"loss":3.0}\n')
    r.write('reports/r.json', dict(rows=rows, about=dict(epoch=1), verdicts=verdicts)|more)
    return r

def written(e): return json.dumps(json.loads(e.plot.figure), ensure_ascii=False)

@pytest.mark.parametrize('made', ['curve','report','run','comparison','export'], ids=lambda k: f'teacher-A1-{k}')
def test_a_failed_check_reaches_every_screen(made, tmp_path):
    for verdicts,words in ((bad,'✗'),(good,'✓')):
        home = tmp_path/words
        e = {'curve':lambda: w.robustness_explorer(curve(verdicts)), 'report':lambda: w.robustness_explorer({'a':dict(rows=rows, about={}, verdicts=verdicts)}),
             'run':lambda: w.robustness_explorer(run(home/'r', verdicts)), 'comparison':lambda: w.compare_runs(run(home/'r', verdicts)),
             'export':lambda: w.robustness_explorer(curve(verdicts))}[made]()
        assert e.first() is not None, e.error
        page = e.to_html(tmp_path/'e.html').read_text().split('</head>')[1] if made=='export' else written(e)
        assert (words in page or json.dumps(words)[1:-1] in page) and ('gradients' in page)==(words=='✗')

@pytest.mark.parametrize('report,says', [(curve(bad),'✗ do not believe'), (curve(good),'✓ 1 checks'), (curve([]),'– no checks'), (dict(rows=rows, verdicts=bad+good),'✗ do not believe'),
                                         (dict(rows=rows, verdicts=good*2),'✓ 2 checks'), (dict(rows=rows),'– no checks')], ids=lambda v: f'teacher-A1-{v}' if isinstance(v, str) else '')
def test_a_failed_check_is_read_of_all_that_has_checks(report, says): assert ' '.join(figures.checked(report)).startswith(says)

@pytest.mark.parametrize('stored,says', [(dict(eps=8.),'ε = 8/255, as stored'), (dict(eps=38.25),'ε = 38.25/255, as stored'), ({},'attacked, as stored'), (None,'no attack was stored')],
                         ids=lambda v: f'teacher-A2-{v}' if isinstance(v, str) else '')
def test_stored_embeddings_say_which_attack_made_them(stored, says, tmp_path):
    z = torch.randn(20, 4)
    arrays = dict(z=z) if stored is None else dict(z=z, a=z+.1, **stored)
    probes.write_embeddings(tmp_path, 3, **arrays)
    e = w.embedding_explorer({'3':probes.read_embeddings(tmp_path)[3]}, test[:20])
    e.first()
    if stored is None: assert e._applies('eps') is False or 'not attacked' in e.figure.layout.title.text
    else: assert says in e.figure.layout.title.text
    assert e.rows['eps'] not in (*e.front.children,*e.rest.children)

@pytest.mark.parametrize('eps,quoted', [((0,8,64),8), ((0,4,8),8), ((0,16,38.25,64),38.25), ((0,2,16),2), ((0,36,64),36)], ids=lambda v: f'teacher-A4-{v}')
def test_robust_accuracy_of_a_table_is_that_of_a_radius_it_names(eps, quoted, tmp_path):
    r = run(tmp_path/'r', good)
    (r.path/'reports'/'r.json').unlink()
    accuracy = [1-.01*e for e in eps]
    r.write('reports/c.json', curve(good)|dict(eps=list(eps), accuracy=accuracy))
    [row] = [w._run_row(r)]
    text  = written(w.compare_runs(r)) if w.compare_runs(r).first() is not None else ''
    wanted = min((e for e in eps if e), key=lambda e: abs(e-(8 if max(eps)<=32 else 38.25)))
    assert any(f'{wanted:g}/255' in k for k in row) or row.get('RA')==accuracy[list(eps).index(wanted)]
    assert f'{wanted:g}' in json.dumps(row) and accuracy[list(eps).index(wanted)] in row.values()

def trained(objective=SimCLR, **kw):
    torch.manual_seed(0)
    net = Encoder(tiny(width=8))
    pretrain(objective(net, views(flip=0), **kw), Batches(train[:256], bs=64), epochs=3, opt='adam', lr=5e-3, show=False)
    return net

@pytest.fixture(scope='module')
def net(): return trained(ACL, attack=PGD(Linf(.1), steps=2))

@pytest.mark.parametrize('eps', [8,38,60], ids=lambda e: f'teacher-A5-{e}')
def test_the_stepper_opens_before_a_stranger_is_nearer(net, eps):
    o = w._Steps(net, test, None, 24)
    e = w.pgd_stepper(net, test, n=24, eps=eps)
    assert e.values['step']==0
    path = o.path(eps, .25, 5, branch_of(net))[0]
    gap,i = path['positive']-path['negative'],e.values['image']
    falls = (gap[0]>0)&(gap[-1]<0)
    assert falls[i] if falls.any() else gap[0,i]==gap[0].max()

class Sure(torch.nn.Module):
    "Right from the k-th image on"
    def __init__(self, k): super().__init__(); self.k = k
    def forward(self, x):
        y = test.y[:len(x)].clone() if len(x)>1 else test.y[:1].clone()
        y[:self.k] = (y[:self.k]+1)%10
        return torch.nn.functional.one_hot(y, 10).float() + 0*x.flatten(1).sum(1, keepdim=True)

@pytest.mark.parametrize('ks,first', [((0,0),0), ((3,0),3), ((2,5),5), ((99,0),0), ((64,),0)], ids=lambda v: f'teacher-A6-{v}')
def test_the_attack_opens_on_an_image_that_is_right(ks, first):
    e = w.attack_explorer({str(i):Sure(k) for i,k in enumerate(ks)}, test[:64])
    assert e.values['image']==first
    assert w.attack_explorer(Sure(3), test[:64], image=1).values['image']==1

@pytest.mark.parametrize('how', ['stop','newer','cap'], ids=lambda k: f'teacher-A8-{k}')
def test_what_no_pass_interrupts_can_be_left(how, monkeypatch):
    "UMAP goes on in the background, and is drawn when it is done"
    go,calls = threading.Event(),[]
    def slow(z): calls.append(1) or go.wait(60); return np.zeros((len(z),2))
    monkeypatch.setattr(w, 'umap', slow)
    torch.manual_seed(0)
    e = w.embedding_explorer(Encoder(tiny(width=4)).eval(), test[:20])
    e.first()
    if how=='cap': e.cap = .5
    e.set(wait=False, basis='UMAP')
    t = time.monotonic()
    while not calls and time.monotonic()-t<30: time.sleep(.01)
    time.sleep(.4)
    if how=='stop': e._halt()
    if how=='newer': e.set(wait=False, basis='PCA')
    e.set()
    if how=='newer': assert e.error is None and e.status.value==''
    else: assert 'background' in e.status.value
    go.set()
    t = time.monotonic()
    while how!='newer' and e.status.value and time.monotonic()-t<30: time.sleep(.02)
    e.set()
    assert e.error is None and len(calls)==1
    if how!='newer': assert e.status.value=='' and e.values['basis']=='UMAP'

@pytest.mark.parametrize('n', [1,17,2001,5000], ids=lambda n: f'teacher-A11-{n}')
def test_a_selection_is_counted_whole(n):
    z = torch.randn(6000, 2, generator=torch.Generator().manual_seed(0))
    e = w.embedding_explorer({'a':dict(z=z)}, torch.zeros(6000,1,2,2))
    e.first()
    e._event(dict(new=dict(type='select', points=list(range(n)))))
    e.set()
    assert len(e.state['selected'])==n and f'{n:,}' in written(e)
    from house import lib
    assert 'slice(' not in (lib/'plot.js').read_text(encoding='utf-8').split('numbers =')[1].split('\n')[0]

@pytest.mark.parametrize('bn', [None,'clean','adv'], ids=lambda b: f'aesthetics-2-{b}')
def test_explorers_and_classifiers_look_through_one_branch(bn):
    net = trained() if bn is None else trained(bn=bn)
    e = w.pgd_stepper(net, test[:6])
    assert e.values['branch']==branch_of(net)
    assert w._Attack(net, test[:40]).clfs.popitem()[1].bn==branch_of(net)

class TwelveLines(Objective, cost=lambda k: 3*k+7):
    def terms(self, x, y=None): return dict(l=self.net(x).square().mean())

@pytest.mark.parametrize('name,f', [('TwelveLines',22),('SimCLR',6),('ACL',32),('AdvCL',35),('DeACL',17),('nobody',None)], ids=lambda v: f'aesthetics-5-{v}')
def test_a_method_of_ones_own_has_a_cost(name, f):
    said = probes.step_forwards(dict(objective=dict(name=name, attack='PGD(ball=Linf(eps=0.03), alpha=0.01, steps=5)'), batches=dict(bs=10)))
    assert said==(None if f is None else 10*f)

@pytest.mark.parametrize('package,home', [(True,True),(True,False),(False,True),(False,False)], ids=lambda b: f'bugs-nb-9-{b}')
def test_umap_finds_a_place_to_cache(package, home, monkeypatch):
    monkeypatch.delenv('NUMBA_CACHE_DIR', raising=False)
    monkeypatch.setattr(probes, '_writable', lambda p: home if Path(p)==Path.home() else package)
    probes._cache_somewhere()
    found = os.environ.pop('NUMBA_CACHE_DIR', None)
    assert (found is None)==(package or home)
    if found: assert os.access(found, os.W_OK) and not os.rmdir(found)

@pytest.mark.parametrize('n,k,bs', [(50,5,7),(50,60,50),(1,3,1),(10,3,1000),(33,1,16)], ids=lambda v: f'bugs-ml-C-{v}')
def test_neighbours_are_sought_in_parts(n, k, bs):
    z = torch.nn.functional.normalize(torch.randn(n, 6, generator=torch.Generator().manual_seed(1)))
    i,s = probes.neighbours(z, z, k, bs=bs)
    whole = (z@z.T).topk(min(k, n))
    assert torch.allclose(s, whole.values, atol=1e-6) and i.shape==whole.indices.shape
    if n>1: assert (probes.neighbours(z, z, k, torch.arange(n), bs=bs)[0]!=torch.arange(n)[:,None]).all()

def test_no_queries_have_no_neighbours(): assert probes.neighbours(torch.eye(4), torch.zeros(0,4), 2)[0].shape==(0,2)
