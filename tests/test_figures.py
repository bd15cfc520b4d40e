"Figures as data: any number of images of any size, both mime types, nothing interpreted"
import os, json, re, subprocess, sys
import numpy as np, pytest, torch
from robustfm import figures as f
from robustfm.marks import Axis,Band,Bars,Figure,Heat,Line,Note,Panel,Picture,Points,as_plotly,described,look,palette,static
from robustfm.marks import _dark,_paper,_registered,_wide,_narrow

evil = '<img src=x onerror=alert(1)>'
rng  = np.random.default_rng(0)
def images(n, c=1, size=8): return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0))
def probs(n, k=10): return torch.rand(n, k).softmax(1)
eps = [0,8,16,32]
history = [dict(epoch=e, step=e, seconds=2.*e, loss=3/(e+1), clean=1/(e+1), adv=2/(e+1), lr=.1, progress=(e+1)/9) for e in range(9)]
layers = [dict(name=evil, mean=rng.normal(size=(2,8)), var=rng.random((2,8)), shift=.2)]*3

every = dict(
    views      = lambda: f.views_figure(images(4), images(4), titles=[evil,'b']),
    attack     = lambda: f.attack_figure(images(1)[0], images(2), probs(2), probs(2), [evil,*'bcdefghij'], 0, [evil,'ACL']),
    history    = lambda: f.history_figure({evil:history, 'ACL':history}),
    curve      = lambda: f.curve_figure({evil:dict(eps=eps, accuracy=[1.,.5,.2,0.], n=100, protocol=evil)}, .1, {evil:evil}),
    slice      = lambda: f.slice_figure(np.linspace(0,1,5), rng.random((5,5)), rng.random((4,2)), 2, images(2), images(2), rng.random(4), rng.random(4)),
    embedding  = lambda: f.embedding_figure(rng.random((60,2)), rng.random((60,2)), np.arange(60)%3, [evil,'b','c'], [1,2], [(evil,images(3))]),
    coreset    = lambda: f.coreset_figure(np.arange(9), 60, rng.random(20), 5, {evil:{evil:1.,'b':2.}}, rng.random((60,2)), [(evil,images(9)),('b',images(3))], {evil:[1,2],'all images':[3,4]}, [evil,'b'], evil),
    guess      = lambda: f.guess_figure(images(12), np.arange(12)%2, [1,2], True),
    tradeoff   = lambda: f.tradeoff_figure({evil:dict(SA=[.5,.9], RA=[.1,.3], epoch=[1,2])}, 'epoch'),
    invariance = lambda: f.invariance_figure(probs(3,8), torch.rand(3,8,3,16,16), [evil,'b','c'], {evil:1.,'kl':-2.}, evil),
    circle     = lambda: f.circle_figure(rng.random((3,3))*360, probs(1,3), probs(1,3), {evil:1.}),
    branches   = lambda: f.branches_figure(rng.random((2,2)), rng.random((2,2)), [evil,'adv'], layers),
    progress   = lambda: f.progress_figure(history, [dict(epoch=2, overlap_previous=.3)], {evil:np.ones(9)}, evil),
    runs       = lambda: f.runs_figure({evil:dict(SA=.5, method=evil)}, {evil:[3,2,1]}, 'SA'))

@pytest.mark.parametrize('name', every)
def test_shows_itself_interactively_and_as_a_picture(name):
    fig = every[name]()
    b = fig._repr_mimebundle_()
    assert {'application/vnd.plotly.v1+json','image/png'} <= set(b) and len(b['image/png'])*3/4<=50_000
    assert callable(getattr(fig, '_repr_html_', None)) is False, 'HTML would carry a CDN or 5 MB'
    json.dumps(b)

@pytest.mark.parametrize('name', every)
def test_names_are_text(name):
    "plotly reads tags; ours arrive as entities, in every corner of a figure"
    text = every[name]().to_json()
    assert '<img' not in text and '\\u003cimg' not in text

@pytest.mark.parametrize('n,c,size', [(1,1,8),(1,3,224),(10_000,1,8),(300,3,32)])
def test_any_number_and_size_of_images(n, c, size):
    x = images(n, c, size)
    assert f.views_figure(x, x).data[0].type=='image'
    a = f.attack_figure(x, x, probs(n), probs(n))
    assert sum(t.type=='image' for t in a.data)==3*min(n,4)
    z = rng.random((n,2))
    assert len(f.embedding_figure(z, z, np.arange(n)%10, None, [0], [('selected',x[:30])]).data)>=3
    assert f.coreset_figure(np.arange(n//2+1), n, z=z, sheets=[('chosen',x[:24])]).data
    f.invariance_figure(probs(2,n), torch.stack([x[:6]]*2), ['a','b'], dict(kl=1.))
    if n==1: assert len(static(a))<=50_000

def test_uint8_and_float_images_look_alike():
    x = (images(3,3,16)*255).round().to(torch.uint8)
    assert f.views_figure(x).data[0].source==f.views_figure(x.float()/255).data[0].source

def test_many_points_use_webgl_and_few_do_not():
    kinds = lambda n: {t.type for t in f.embedding_figure(rng.random((n,2)), rng.random((n,2))).data}
    assert kinds(500)=={'scatter'} and kinds(6000)=={'scattergl'}

def test_no_two_series_look_alike():
    known = _registered()
    names = [*known,*(f'other {i}' for i in range(20)),'ACL, seed 1','ACL, seed 2']
    seen = [tuple(s.values()) for s in look(names)]
    assert len(set(seen))==len(seen) and [s['color'] for s in look(['ACL','DeACL'])]==[known['acl'][0],known['deacl'][0]]

def test_the_twin_needs_neither_browser_nor_kaleido():
    code = "import sys; sys.modules['kaleido'] = None\nfrom robustfm.figures import curve_figure\nfrom robustfm.marks import static\nb = static(curve_figure({'ACL':dict(eps=[0,8], accuracy=[1.,.5], n=10)}))\nassert b[:4]==b'\\x89PNG' and 'matplotlib.pyplot' not in sys.modules"
    r = subprocess.run([sys.executable,'-c',code], capture_output=True, text=True, env={**os.environ,'PATH':''})
    assert r.returncode==0, r.stderr[-2000:]

def test_one_page_without_a_network(tmp_path):
    page = f.to_html([f'# {evil}', evil, *(make() for make in every.values()), {evil:every['curve'](), 'b':every['curve']()}, [{evil:evil,'n':1}]], tmp_path/'page.html', evil).read_text()
    body = page[page.index('</head>'):]
    assert '<img' not in body and page.count('* plotly.js v')==1 and not re.search(r'<(?:script|link|img)[^>]*(?:src|href)=', page)

def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path/'file').write_text('old')
    with pytest.raises(OSError, match='cannot write'): f.to_html([every['curve']()], tmp_path/'file'/'page.html')
    class Bad:
        def to_json(self): raise RuntimeError('half way')
    with pytest.raises(RuntimeError): f.to_html([Bad()], tmp_path/'file')
    assert (tmp_path/'file').read_text()=='old' and [p.name for p in tmp_path.iterdir()]==['file']

@pytest.mark.parametrize('make,says', [
    (lambda: f.history_figure([]), 'no record yet'), (lambda: f.progress_figure([]), 'no record yet'), (lambda: f.runs_figure({}, {}), 'no run'), (lambda: f.curve_figure({}), 'no curve'),
    (lambda: f.embedding_figure([[np.nan,0.]]), 'NaN'), (lambda: f.embedding_figure([1.,2.]), 'two coordinates'), (lambda: f.coreset_figure([], 0), 'nothing to show'),
    (lambda: f.tradeoff_figure({}), 'evaluated yet'), (lambda: f.views_figure(images(2), images(3)), 'as many images'), (lambda: f.attack_figure(images(1), images(1), probs(2), probs(2)), 'need probabilities'),
    (lambda: f.views_figure(torch.rand(2,4,8,8)), 'one channel or three')])
def test_one_clear_sentence(make, says):
    with pytest.raises(ValueError, match=says) as e: make()
    assert '\n' not in str(e.value)

# --- two back ends, one set of numbers

def numbers(ax):
    "What matplotlib's axes hold: of lines, points, bars and images"
    from matplotlib.container import BarContainer
    out = [np.stack(l.get_data(), 1).astype(float) for l in ax.lines if l.get_transform()==ax.transData]
    out += [np.asarray(c.get_offsets()) for c in ax.collections if len(np.asarray(c.get_offsets()))]
    for c in ax.containers:
        if isinstance(c, BarContainer): out.append(np.array([[r.get_width(),r.get_height()] for r in c]))
    return out

@pytest.mark.parametrize('name', every)
def test_the_picture_has_the_numbers_of_the_live_figure(name):
    fig = every[name]()
    drawn = fig.matplotlib()
    held = {p:numbers(ax) for p,ax in zip([b.panel for b in fig.boxes()[0]], drawn.axes)}
    assert len(held)==len(fig.panels)
    for p in fig.panels:
        got = held[p]
        alone = Figure([[Panel(p.marks)]]).data
        for t in alone:
            if t.type=='bar':
                values = np.asarray(t.x if t.orientation=='h' else t.y, float)
                assert any(len(g)==len(values) and np.allclose(g[:,0 if t.orientation=='h' else 1], values) for g in got), t.name
            elif t.type in ('scatter','scattergl') and not t.fill:
                xy = np.stack([t.x,t.y], 1).astype(float)
                whole = any(g.shape==xy.shape and np.allclose(g, xy, equal_nan=True) for g in got)
                parts = np.concatenate(got) if got else np.zeros((0,2))                   # points of several symbols are several collections
                assert whole or all(np.isclose(parts, q, equal_nan=True).all(1).any() for q in xy), t.name

@pytest.mark.parametrize('mark,axis', [(lambda e: Line([0,1,2], [1,2,3], err=e, symbol='circle'), 1), (lambda e: Points([0,1,2], [1,2,3], err=e), 1), (lambda e: Bars([1,2,3], err=e), 1),
                                       (lambda e: Bars([1,2,3], err=e, lying=True), 0)], ids=['line','points','bars','lying'])
def test_error_bars_in_both(mark, axis):
    e = [.1,.2,.3]
    fig = Figure([[Panel([mark(e)])]])
    t = fig.data[0]
    assert np.allclose((t.error_y if axis else t.error_x).array, e)
    ax = fig.matplotlib().axes[0]
    spans = [np.ptp(s[:,axis]) for c in ax.collections if hasattr(c, 'get_segments') for s in c.get_segments()]
    assert np.allclose(spans, 2*np.array(e))
    assert not [c for c in Figure([[Panel([mark(None)])]]).matplotlib().axes[0].collections if hasattr(c, 'get_segments')]

def test_the_numbers_arrive_as_they_are():
    "Arrays travel as bytes; decoded, they are the figure's own"
    import base64
    x = np.linspace(0, 1, 7)
    for y in (x**2, (x*10).astype(int), x.astype(np.float32), x>.5):
        t = Figure([[Panel([Line(x, y)])]]).plotly()['data'][0]['y']
        assert np.allclose(np.frombuffer(base64.b64decode(t['bdata']), t['dtype']), y)

def test_what_is_missing_is_a_gap():
    fig = f.history_figure([dict(epoch=0, loss=1.), dict(epoch=1, loss=None), dict(epoch=2, loss=3.)])
    assert list(fig.data[0].x)==[0,2] and fig.png()[:4]==b'\x89PNG'

# --- on a page

@pytest.mark.parametrize('name', every)
@pytest.mark.parametrize('width', [_narrow,_wide])
def test_panels_do_not_lie_on_one_another(name, width):
    "Nor do they leave the page, nor reach into the title"
    fig = every[name]()
    width = max(width, fig.least)
    boxes,height = fig.boxes(width)
    head = fig._heading(width)[2]
    for i,a in enumerate(boxes):
        assert 0<=a.left<a.right<=width and head<=a.top<a.bottom<=height
        for b in boxes[i+1:]: assert a.right<=b.left or b.right<=a.left or a.bottom<=b.top or b.bottom<=a.top

@pytest.mark.parametrize('name', every)
def test_a_page_decides_the_width(name):
    p = every[name]().plotly()
    assert 'width' not in p['layout'] and p['config']['responsive'] and p['layout']['height']<=760, p['layout']['height']
    assert set(p['narrow'])>={k for k in p['layout'] if 'axis' in k}, 'the same axes, elsewhere'

def test_fonts_for_a_projector():
    from dataclasses import replace
    fig = every['curve']()
    big = replace(fig, font=22.)
    assert big.plotly()['layout']['template']['layout']['font']['size']==22 and big.boxes()[1]>fig.boxes()[1] and big.png()

def test_a_legend_has_each_name_once():
    for make in every.values():
        named = [t.name for t in make().data if t.showlegend]
        assert len(set(named))==len(named)

def test_bars_with_one_name_are_two_bars():
    "Classes of the same name, or cut to the same, must not fall into one"
    fig = f.attack_figure(images(1)[0], images(1), probs(1), probs(1), ['a very long name, first','a very long name, second',*'cdefghij'])
    assert len(set(fig.data[3].y.tolist()))==10
