"Kind: controls that do not behave, or do nothing: unheard while a cell runs, unnamed, dead, or left behind when a cell is run again"
import gc, threading, time, weakref
import ipywidgets, numpy as np, pytest, torch
from robustfm import widgets as w
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.datasets import digits
from robustfm.figures import curve_figure
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.probes import write_embeddings
from robustfm.rendering import shapes
from robustfm.runs import Run,open_run,pretrain
from house import lib

FAULTS = [('bugs-nb-1', 'control unheard', 'test_every_widget_of_the_package_is_heard'),
          ('bugs-nb-2', 'left behind', 'test_a_cell_run_again_leaves_nothing_behind'),
          ('bugs-nb-2', 'left behind', 'test_the_network_goes_with_its_explorer'),
          ('bugs-nb-3', 'left behind', 'test_a_run_is_followed_once'),
          ('bugs-nb-4', 'control unheard', 'test_keys_and_names_are_looked_after_in_every_box'),
          ('bugs-nb-5', 'control unheard', 'test_keys_and_names_are_looked_after_in_every_box'),
          ('bugs-nb-11', 'theme', 'test_no_colour_is_written_into_a_widget'),
          ('teacher-A7', 'dead control', 'test_each_control_that_shows_changes_the_picture'),
          ('teacher-A7', 'dead control', 'test_one_value_is_no_choice'),
          ('teacher-A12', 'dead control', 'test_nothing_is_a_choice_of_none'),
          ('teacher-A13', 'left behind', 'test_a_new_round_of_the_game_is_new'),
          ('teacher-B5', 'dead control', 'test_two_controls_stand_in_front')]

train,_,test = digits()

class Clf(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
        for p in self.f.parameters(): torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(p.numel()))
    def forward(self, x): return self.f(x)

def encoder(channels=1):
    "With two branches that differ"
    torch.manual_seed(0)
    net = Encoder(tiny(channels, width=4)).eval()
    for name,b in net.named_buffers():
        if 'adv' in name and 'running_mean' in name: b.normal_()
    return net

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp('runs')/'a'
    pretrain(SimCLR(encoder(), views(flip=0), bn='clean'), Batches(train[:64], bs=32), epochs=2, opt='adam', run=home, show=False)
    r,z = open_run(home),torch.randn(40, 8)
    for epoch in (1,2): write_embeddings(r, epoch, z=z*epoch, a=z+.1*epoch, y=torch.arange(40)%10, eps=8., steps=5, branch='adv')
    for i,k in ((.9,'r'),(.8,'s')):
        rows = [dict(attack='clean', accuracy=i, n=50, protocol=''),dict(attack='pgd20', accuracy=.3, n=50, protocol='ε=8/255')]
        r.write(f'reports/{k}.json', dict(rows=rows, about=dict(epoch=int(10*i)-7), verdicts=[]))
    r.write_selections([dict(epoch=i, indices=np.arange(30)+i, gains=np.arange(9.)*(i+1), batches=np.arange(3), seconds=.1) for i in (0,1)])
    return r

def explorers(run):
    return dict(attack=lambda: w.attack_explorer({'a':Clf(), 'b':Clf()}, test[:12]), stepper=lambda: w.pgd_stepper(encoder(), test[:8]),
                coreset=lambda: w.coreset_explorer(run, train[:60]), embedding=lambda: w.embedding_explorer(encoder(), test[:40]),
                stored=lambda: w.embedding_explorer(run, test[:40]), one_stored=lambda: w.embedding_explorer({'x':dict(z=torch.randn(40, 8))}, test[:40]),
                robustness=lambda: w.robustness_explorer(run), invariance=lambda: w.invariance_explorer(encoder(3), shapes(8)),
                augmented=lambda: w.invariance_explorer(encoder(), test[:8]), dual_bn=lambda: w.dual_bn_explorer(encoder(), test[:40]),
                compare=lambda: w.compare_runs(run, run), own=lambda: w.explore(wave, v=(0,9), u=(1,5)))

names = 'attack stepper coreset embedding stored one_stored robustness invariance augmented dual_bn compare own'.split()
def wave(v, u=1): return curve_figure({'ACL':dict(eps=[0,1], accuracy=[1.,(v+u)/20])})

class Cell:
    "A front end that says which cell runs"
    def __init__(self, cell): self.cell,self.runs = cell,0
    def get_parent(self): return dict(metadata=dict(cellId=self.cell), msg_id=f'{self.cell} {self.runs}')

@pytest.fixture
def cell(monkeypatch):
    import IPython
    it = Cell('c1')
    monkeypatch.setattr(IPython, 'get_ipython', lambda: it)
    monkeypatch.setattr(w, '_cells', {})
    return it

def alive(): return {k:o for k,o in ipywidgets.widgets.widget._instances.items()}

def is_control(o): return isinstance(o, (ipywidgets.ValueWidget,ipywidgets.Button)) and not isinstance(o, (ipywidgets.HTML,ipywidgets.Layout)) or hasattr(o, '_esm')

@pytest.mark.parametrize('name', [*names,'live','predict'], ids=lambda n: f'bugs-nb-1-{n}')
def test_every_widget_of_the_package_is_heard(run, name, monkeypatch):
    "Whatever the package makes and a reader can use has passed through `_heard`"
    heard,before,true = set(),set(alive()),w._heard
    monkeypatch.setattr(w, '_heard', lambda *os: (heard.update(o.model_id for o in os), true(*os)) and None)
    if name=='live': made = w._Board()
    elif name=='predict':
        from robustfm.teach import course
        if not hasattr(course, 'answering'): pytest.skip('predictions are not boxed by `answering` yet')
        made = course.Prediction('q', 'how many?', None, 0, 100, '%')
        made = made,made.box()
    else: made = explorers(run)[name]()
    new = {k:o for k,o in alive().items() if k not in before and is_control(o) and type(o).__name__!='Manners'}
    assert new, 'it made no widget'
    assert not [type(o).__name__ for k,o in new.items() if k not in heard]

@pytest.mark.parametrize('name', names, ids=lambda n: f'bugs-nb-4-5-{n}')
def test_keys_and_names_are_looked_after_in_every_box(run, name):
    "By `controls.js`, which every box carries, and which knows all kinds of controls"
    e = explorers(run)[name]()
    assert [type(o).__name__ for o in w._within(e.box)].count('Manners')==1 and 'robustfm-live' in e.box._dom_classes
    script = (lib/'controls.js').read_text(encoding='utf-8')
    for word in ('lmSuppressShortcuts','ariaLabel','.noUi-handle','select','button','input'): assert word in script
    assert all(c.description for c in e.controls.values())

@pytest.mark.parametrize('name', [*names,'live'], ids=lambda n: f'bugs-nb-2-{n}')
def test_a_cell_run_again_leaves_nothing_behind(run, name, cell):
    make,counts = explorers(run)[name] if name!='live' else w._Board,[]
    kept = []                                             # as Out[…] of IPython keeps what a cell returned
    for cell.runs in range(12):
        kept.append(make())
        counts.append(len(alive()))
    assert len(set(counts[1:]))==1, counts

def test_a_loop_in_one_cell_keeps_all_it_makes(cell):
    a,b = (w.explore(wave, v=(0,9)) for _ in range(2))
    assert a.box.comm is not None and b.box.comm is not None
    cell.cell = 'c2'                                       # another cell
    c = w.explore(wave, v=(0,9))
    assert a.box.comm is not None and c.box.comm is not None
    cell.cell,cell.runs = 'c1',1                           # the first again
    w.explore(wave, v=(0,9))
    assert a.box.comm is None and b.box.comm is None and c.box.comm is not None

def test_the_network_goes_with_its_explorer(cell):
    "Also while IPython's Out keeps the explorer"
    net = Clf()
    e   = w.attack_explorer(net, test[:5])
    e.first()
    copies = [weakref.ref(n) for n in e.nets]
    cell.runs = 1
    again = w.attack_explorer(net, test[:5])
    gc.collect()
    assert copies and not any(c() for c in copies) and again.first() is not None
    assert e.set(eps=3).nets==[] and not net._forward_pre_hooks

def test_a_run_is_followed_once(tmp_path):
    "However often `live(run)` is called, one thread draws"
    r = Run(tmp_path/'unfinished')
    r.write('config.json', dict(objective=dict(name='ACL'), epochs=9))
    (r.path/'history.jsonl').write_text('{"epoch":0,"step":1,"progress":0.1,"seconds":1.0,"lr":0.1,"loss":3.0}\n')
    live,threads = w.Live(every=.02),[]
    for _ in range(4):
        live(r)
        threads.append(live.thread)
    for t in threads[:3]: t.join(20)
    assert [t.is_alive() for t in threads]==[False]*3+[True]
    live.stop()
    threads[3].join(20)
    assert live.board.says.value=='stopped' and not threads[3].is_alive()

def other(c):
    "Another value of a control"
    if isinstance(c, ipywidgets.SelectMultiple): return (c.options[0][1],)
    if hasattr(c, 'options'): return next(v for _,v in map(lambda o: o if isinstance(o, tuple) else (o,o), c.options) if v!=c.value and v!='UMAP')
    if isinstance(c.value, bool): return not c.value
    return c.max if c.value!=c.max else c.min

@pytest.mark.parametrize('name', names, ids=lambda n: f'teacher-A7-{n}')
def test_each_control_that_shows_changes_the_picture(run, name):
    "Every control in front or behind `more`, moved to another value, gives another picture"
    e = explorers(run)[name]()
    assert e.first() is not None, e.error
    shown = [k for k,row in e.rows.items() if row in (*e.front.children,*e.rest.children)]
    if name=='stored': e.set(checkpoint='1')                                # 'fixed' is PCA of the last one
    for k in shown:
        if k=='basis' and len(e.controls[k].options)==2: continue           # UMAP takes minutes
        before,old = e.figure.to_json(),e.controls[k].value
        e.set(**{k:other(e.controls[k])})
        assert e.error is None, (k,e.error)
        assert e.figure.to_json()!=before, f'{k} changed nothing'
        e.set(**{k:old})

@pytest.mark.parametrize('name,hidden', [('stored',{'eps','branch'}), ('one_stored',{'checkpoint','eps','branch','attack'}), ('augmented',{'what'}),
                                         ('embedding',{'checkpoint'})], ids=lambda v: f'teacher-A2-A7-{v}' if isinstance(v, str) else '')
def test_one_value_is_no_choice(run, name, hidden):
    e = explorers(run)[name]()
    shown = {k for k,row in e.rows.items() if row in (*e.front.children,*e.rest.children)}
    assert not shown & hidden
    assert name!='one_stored' or 'fixed' not in [v for _,v in e.controls['basis'].options]

def test_the_steps_of_an_attack_end_where_it_ends(run):
    e = explorers(run)['stepper']()
    assert e.controls['step'].max==5 and e.controls['step'].value==0
    e.set(steps=9)
    assert e.controls['step'].max==9
    e.set(step=9, steps=3)
    assert e.controls['step'].max==3 and e.values['step']==3 and e.error is None

@pytest.mark.parametrize('name', names, ids=lambda n: f'teacher-A12-{n}')
def test_nothing_is_a_choice_of_none(run, name):
    "A menu takes the value None for 'nothing chosen' and shows no label"
    for c in explorers(run)[name]().controls.values():
        assert None not in [o[1] if isinstance(o, tuple) else o for o in getattr(c, 'options', ())]
        if isinstance(c, ipywidgets.Dropdown): assert c.label

@pytest.mark.parametrize('name', names, ids=lambda n: f'teacher-B5-{n}')
def test_two_controls_stand_in_front(run, name):
    e = explorers(run)[name]()
    front = [r for r in e.front.children if r in e.rows.values()]
    assert len(front)<=2 and (not e.rest.children or len(front)==2)
    assert bool(e.rest.children)==(e.more in e.front.children) and e.rest.layout.display=='none'
    e.more.value = True
    assert e.rest.layout.display is None

def test_a_new_round_of_the_game_is_new(run):
    e = explorers(run)['coreset']()
    e.set(view='guess')
    e.set(guesses=(1,2,3), reveal=True)
    e.set(selection=1)
    assert e.values['guesses']==() and not e.values['reveal']

@pytest.mark.parametrize('name', names, ids=lambda n: f'bugs-nb-11-{n}')
def test_no_colour_is_written_into_a_widget(run, name):
    "Colours stand in controls.css, with others for a dark page"
    e = explorers(run)[name]()
    e.first()
    html = [o.value for o in w._within(e.box) if isinstance(o, ipywidgets.HTML)]
    assert not [h for h in html if 'color' in h or '#' in h]
    assert 'data-jp-theme-light=false' in (lib/'controls.css').read_text(encoding='utf-8')
