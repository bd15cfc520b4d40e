"Explorers without a browser: the newest value wins, what goes wrong is a sentence, networks and dice are left alone, runs do as well as live objects"
import html, json, threading, time
import numpy as np, pytest, torch
from robustfm import widgets as w
from robustfm.attacks import PGD,Linf
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.rendering import shapes
from robustfm.datasets import digits
from robustfm.figures import curve_figure
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.probes import write_embeddings
from robustfm.runs import History,Run,open_run,pretrain

evil = '<img src=x onerror=alert(1)>'
train,_,test = digits()
def line(v=1.): return curve_figure({'ACL':dict(eps=[0,1], accuracy=[1.,v])}, title=f'{v:.2f}')
def until(true, seconds=60):
    for _ in range(100*seconds):
        if true(): return
        time.sleep(.01)
    raise TimeoutError
def encoder(): torch.manual_seed(0); return Encoder(tiny(width=8)).eval()
def elsewhere(): net = encoder(); net.g.to('meta'); return net # half of a network on another device
class Clf(torch.nn.Module):
    def __init__(self): super().__init__(); torch.manual_seed(0); self.net,self.head = Encoder(tiny(width=8)),torch.nn.Linear(Encoder(tiny(width=8)).num_features,10)
    def forward(self, x): return self.head(self.net.features(x, 'adv'))

@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Two finished runs, one with a report, embeddings and a selection"
    home = tmp_path_factory.mktemp('runs')
    for n in ('a',evil[:4].strip('<')): pretrain(SimCLR(Encoder(tiny(width=8)), views(flip=0), bn='clean'), Batches(train[:256], bs=128), epochs=2, opt='adam', run=home/n, show=False)
    a = open_run(home/'a')
    a.write('reports/r.json', dict(rows=[dict(attack='clean',accuracy=.9,n=50,protocol=evil),dict(attack='pgd20',accuracy=.3,n=50,protocol='ε=8/255')], about=dict(epoch=2), verdicts=[]))
    z = torch.randn(50,8)
    for e in (1,2): write_embeddings(a, e, z=z, a=z+.1, y=torch.arange(50)%10)
    a.write_selections([dict(epoch=i, indices=np.arange(30)+i, gains=np.arange(9.), batches=np.arange(3), seconds=.1) for i in (0,1)])
    return home

def nine(runs):
    a = open_run(runs/'a')
    return dict(attack=lambda: w.attack_explorer({'x':Clf(),evil:Clf()}, test[:20]), stepper=lambda: w.pgd_stepper(a, test[:20]), coreset=lambda: w.coreset_explorer(a, train[:60]),
                embedding=lambda: w.embedding_explorer(encoder(), test[:60]), robustness=lambda: w.robustness_explorer(a), invariance=lambda: w.invariance_explorer(Encoder(tiny(3, width=8)), shapes(12)),
                dual_bn=lambda: w.dual_bn_explorer(encoder(), test[:80]), compare=lambda: w.compare_runs(*sorted(p for p in runs.iterdir())))

@pytest.mark.parametrize('name', 'attack stepper coreset embedding robustness invariance dual_bn compare'.split())
def test_every_explorer_draws_moves_and_exports(runs, name, tmp_path):
    e = nine(runs)[name]()
    assert e.static()[:4]==b'\x89PNG', e.error
    for k,c in e.controls.items():                       # each control, to another of its values
        old = c.value
        if hasattr(c, 'options'): new = c.options[-1][1] if isinstance(c.options[-1], tuple) else c.options[-1]
        else: new = not old if isinstance(old, bool) else c.max if old!=c.max else c.min
        if isinstance(old, tuple): new = (new,)
        if new!='UMAP' and new!=old: e.set(**{k:new}); assert e.error is None, (k,new,e.error); e.set(**{k:old})
    page = e.to_html(tmp_path/'e.html', most=2).read_text()
    assert '<img' not in page[page.index('</head>'):]
    json.loads(e.plot.figure)
    assert all(c.description for c in e.controls.values()), 'a control without a label'

def test_the_newest_value_wins_and_the_moves_between_are_skipped():
    seen = []
    def slow(v): seen.append(v); time.sleep(.1); return line(v)
    e = w.explore(slow, v=(0.,1.,.01,0.))
    for v in np.linspace(.1, .9, 30): e.set(wait=False, v=float(v))
    e.set()
    assert e.figure.layout.title.text=='0.90' and len(seen)<12

def test_work_that_nobody_waits_for_is_given_up():
    net,calls = torch.nn.Linear(1,1),[]
    def long(v):
        for i in range(400): calls.append(v); net(torch.zeros(1,1)); time.sleep(.01)
        return line(v)
    e = w.explore(long, nets=[net], v=(0.,1.,.1,0.))
    e._ask(); until(lambda: len(calls)>40); e.set(wait=False, v=.5); until(lambda: .5 in calls); e._stop = True; e.set()
    assert calls.count(0.)<200 and .5 in calls and e.figure is None and e.error is None and 'stopped' in e.status.value
    assert not net._forward_pre_hooks

def test_work_is_capped():
    net = torch.nn.Linear(1,1)
    def endless(v):
        while True: net(torch.zeros(1,1)); time.sleep(.01)
    e = w.explore(endless, nets=[net], cap=.3, v=(0.,1.,.1,0.)); e._ask(); e.set()
    assert 'longer than 0.3 seconds' in e.status.value

def test_it_says_that_it_works():
    go = threading.Event()
    e = w.explore(lambda v: line(v*go.wait(60)), v=(0.,1.,.1,0.)); e._ask()
    until(lambda: 'working' in e.status.value and e.button.layout.display is None)
    go.set(); e.set(); assert e.status.value=='' and e.button.layout.display=='none'

@pytest.mark.parametrize('error,says', [(ValueError(evil), '&lt;img'), (RuntimeError('a\nstack'), 'could not be drawn: a (RuntimeError)'), (ZeroDivisionError(), 'could not be drawn'), (torch.OutOfMemoryError('x'), 'fewer images')])
def test_what_goes_wrong_is_one_escaped_sentence(error, says):
    def bad(v):
        if v: raise error
        return line()
    e = w.explore(bad, v=(0,1)); e.set(v=1)
    assert says in e.status.value and '<img' not in e.status.value and 'Traceback' not in e.status.value and e.plot.layout.display=='none'
    e.set(v=0); assert not e.status.value and e.plot.layout.display is None

def test_networks_and_dice_are_left_alone():
    clf = Clf().train(); state = {k:v.clone() for k,v in clf.state_dict().items()}; dice = torch.get_rng_state()
    e = w.attack_explorer(clf, test[:5]); e.set(eps=30); e.set(ball='ℓ2'); assert e.error is None
    assert clf.training and all(p.requires_grad and p.grad is None for p in clf.parameters()) and torch.equal(dice, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k,v in clf.state_dict().items())

def test_what_a_reader_does_in_the_figure_arrives():
    e = w.embedding_explorer(encoder(), test[:60]); e.first()
    e._event(dict(new=dict(type='select', points=[3,5]))); e.set()
    assert e.state['selected']==(3,5) and any('selected (2)'==t.name for t in e.figure.data)
    e._event(dict(new=dict(type='select', points=[]))); e.set()          # an empty selection
    assert e.error is None and e.state['selected']==()
    e.set(look_at=3); assert f'selected ({int((test.y[:60]==3).sum())})' in [t.name for t in e.figure.data]     # by keyboard: a class
    e._event(dict(new=dict(type='click', point=7, x=0, y=0))); e.set(); assert e.state['selected']==(7,) and e.controls['look_at'].value=='lasso' and e.controls['look_at'].label=='the lasso'
    e = w.invariance_explorer(encoder(), test[:8]); e.set(mode='circle')
    e._event(dict(new=dict(type='drag', shape=4, x=-1., y=0.))); e.set()
    assert e.state['circle'][1][1]==180. and e.values['point']=='view 1 of 2' and e.error is None

def test_guesses_by_click_and_by_key(runs):
    e = w.coreset_explorer(open_run(runs/'a'), train[:60]); e.set(view='guess')
    for x,y in ((0,0),(11,11),(0,0)): e._event(dict(new=dict(type='click', point=[y,x], x=x, y=y))); e.set()
    assert e.controls['guesses'].value==(8,) and 'picked 1' in e.figure.layout.title.text
    e.set(guesses=(1,2,3), reveal=True); assert 'with 3 guesses; blind guesses find 1.5' in e.figure.layout.title.text

def test_a_run_or_an_encoder_can_be_attacked(runs):
    "With a head fitted on images that are not shown"
    e = w.attack_explorer({'run':open_run(runs/'a'), 'net':encoder()}, test[:80])
    assert e.first() is not None and e.controls['image'].max==39, e.error

@pytest.mark.parametrize('x', [torch.rand(1,1,8,8), torch.rand(3,3,224,224), (torch.rand(5,3,32,32)*255).byte()], ids=['one grey','224','bytes'])
def test_any_images(x):
    net = Encoder(tiny(x.shape[1], width=4)).eval()
    clf = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(16*x.shape[1], 7))
    assert w.attack_explorer(clf, x).first() is not None
    if len(x)>1: assert w.embedding_explorer(net, x).first() is not None and w.pgd_stepper(net, x).first() is not None

def test_ten_thousand_images():
    e = w.embedding_explorer(encoder(), Images(test.x.repeat(19,1,1,1), test.y.repeat(19)))
    assert e.first() is not None, e.error

@pytest.mark.parametrize('make,says', [
    (lambda r: w.embedding_explorer({'x':dict(z=np.full((9,4),np.nan))}, test[:9]), 'NaN'), (lambda r: w.embedding_explorer(encoder(), test[:1]), 'two images'),
    (lambda r: w.coreset_explorer(Run(r/'half'), train), 'nothing has been selected'), (lambda r: w.robustness_explorer(Run(r/'half')), 'no evaluation'),
    (lambda r: w.pgd_stepper(encoder(), test[:1]), 'two images'), (lambda r: w.compare_runs(), 'no run'), (lambda r: w.attack_explorer(Clf(), torch.zeros(0,1,8,8)), 'at least one'),
    (lambda r: w.dual_bn_explorer(encoder(), test.x), 'labels'), (lambda r: w.coreset_explorer(open_run(r/'a'), train[:5]), 'beyond the 5'),
    (lambda r: w.attack_explorer(encoder(), test.x), 'no classes'), (lambda r: w.embedding_explorer(elsewhere(), test[:9]), 'on cpu and meta'), (lambda r: w.pgd_stepper(elsewhere(), test[:9]), 'move the whole'), (lambda r: w.attack_explorer(torch.nn.Sequential(elsewhere()), test[:9]), 'move the whole'),
    (lambda r: w.attack_explorer(encoder(), shapes(9)), 'images must be'), (lambda r: w.compare_runs(r/'nowhere'), 'not a run folder')])
def test_bad_input_is_one_sentence(runs, make, says):
    e = make(runs); e.first(); said = w._sentence(e.error)
    assert says in said and '\n' not in said and html.escape(says) in e.status.value and e.plot.layout.display=='none'
    assert [d.get('text/plain') for d in displayed(e)]==[w._sentence(e.error),'']

def test_a_call_that_is_wrong_stays_an_error():
    with pytest.raises(TypeError): w.attack_explorer()

@pytest.mark.slow # numba compiles UMAP
def test_umap_needs_points_and_is_the_same_twice():
    e = w.embedding_explorer(encoder(), test[:4]); e.set(basis='UMAP'); assert 'five images' in str(e.error)
    e = w.embedding_explorer(encoder(), test[:40]); e.cap = 300; e.set(basis='UMAP'); a = np.array(e.figure.data[-1].x)
    e = w.embedding_explorer(encoder(), test[:40]); e.cap = 300; e.set(basis='UMAP'); assert np.allclose(a, e.figure.data[-1].x, equal_nan=True)

def test_a_run_half_written_can_be_compared_and_followed(runs, tmp_path):
    r = Run(tmp_path/'half'); r.write('config.json', dict(objective=dict(name=evil), epochs=9))
    (r.path/'history.jsonl').write_text('{"epoch":0,"step":1,"progress":0.1,"seconds":1.0,"lr":0.1,"loss":3.0}\n{"epoch":1,"st')
    e = w.compare_runs(r, open_run(runs/'a')); assert e.first() is not None, e.error
    live = w.Live(every=.05); live(r); until(lambda: live.board.figure is not None); live.stop(); live.thread.join(60)
    assert len(live.board.figure.data) and live.board.says.value=='stopped'

def test_the_stop_button_ends_a_training_cleanly(tmp_path):
    live = w.Live(every=0.); seen = []
    def show(h):
        seen.append(len(h))
        if len(h)==2: live.stop()                                       # a click
        return live(h)
    h = pretrain(SimCLR(Encoder(tiny(width=8)), views(flip=0), bn='clean'), Batches(train[:256], bs=128), epochs=9, opt='adam', run=tmp_path/'r', show=show)
    assert len(h)==2 and open_run(tmp_path/'r').checkpoint.exists() and live.board.button.disabled
    assert len(pretrain(SimCLR(Encoder(tiny(width=8)), views(flip=0), bn='clean'), Batches(train[:256], bs=128), epochs=9, opt='adam', run=tmp_path/'r', show=False))==9

def test_the_script_of_a_figure_is_a_file_beside_the_modules():
    "and what anywidget sends to the page is that file"
    from house import lib
    script = (lib/'plot.js').read_text(encoding='utf-8')
    assert str(w._plot()._esm)==script and 'export default' in script

def displayed(o, **env):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    InteractiveShell.instance()
    with capture_output() as c: o._ipython_display_()
    shown = {}
    for d in c.outputs: shown[(d.transient or {}).get('display_id', len(shown))] = d.data       # a later one in the place of an earlier one
    return list(shown.values())

def test_the_twin_comes_first_and_alone_where_asked(monkeypatch):
    both = displayed(w.explore(line, 'look', v=(0.,1.,.1,1.)))
    assert ['image/png' in d for d in both]==[True,False] and 'application/vnd.jupyter.widget-view+json' in both[1]
    monkeypatch.setenv('ROBUSTFM_STATIC', '1')
    alone = displayed(w.explore(line, 'look', v=(0.,1.,.1,1.)))
    assert len(alone)==1 and {'image/png','application/vnd.plotly.v1+json'} <= set(alone[0])
