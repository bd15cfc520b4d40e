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

def kinds_of_theirs():
    "Figures of plotly as readers make them, one of each kind that once died or lied"
    import plotly.graph_objects as go
    z = rng.normal(size=(8,8))
    return dict(histogram=go.Figure(go.Histogram(x=z[0])), contour=go.Figure(go.Contour(z=z)), box=go.Figure(go.Box(y=z[0])), pie=go.Figure(go.Pie(labels=['a','b'], values=[1,2])),
                violin=go.Figure(go.Violin(y=z[0])), surface=go.Figure(go.Surface(z=z)), errors=go.Figure(go.Scatter(y=[1,2], error_y=dict(array=[.5,.5]))),
                stacked=go.Figure([go.Bar(y=[1,2]),go.Bar(y=[3,4])], dict(barmode='stack')), nothing=go.Figure(), polar=go.Figure(go.Scatterpolar(r=[1,2], theta=[0,90])),
                titled=go.Figure(go.Histogram(x=z[0]), dict(title_text=f'<b>{evil}</b> $x$')), foreign='not a figure')

@pytest.mark.parametrize('name', ['histogram','contour','box','pie','violin','surface','errors','stacked','nothing','polar','titled','foreign'])
def test_somebody_elses_figure_gets_a_sentence(name):
    fig = kinds_of_theirs()[name]
    said = described(fig)
    assert 'not in this picture' in said and '\n' not in said
    for fmt,head in (('png',b'\x89PNG'),('svg',b'<?xml')): assert static(fig, fmt).startswith(head)

def test_somebody_elses_figure_is_alive_in_a_page(tmp_path):
    import plotly.graph_objects as go
    page = f.to_html([kinds_of_theirs()['contour']], tmp_path/'page.html').read_text()
    assert '"type": "contour"' in page and as_plotly(go.Figure())['config']['modeBarButtons']

def test_nothing_uploads():
    "The buttons are those that are named, none of plotly's own choice"
    for make in every.values():
        c = make().plotly()['config']
        assert set(sum(c['modeBarButtons'], []))<={'zoom2d','pan2d','resetScale2d','toImage','lasso2d','select2d'} and 'modeBarButtonsToAdd' not in c

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

# --- what eyes can tell apart

def lab(color, seen=np.eye(3)):
    "A colour in CIELAB, as seen by an eye whose cones are mixed so (Machado, Oliveira, Fernandes 2009, severity 1)"
    c = np.array([int(color[i:i+2], 16) for i in (1,3,5)])/255
    c = np.clip(seen@np.where(c<=.04045, c/12.92, ((c+.055)/1.055)**2.4), 0, 1)
    m = np.array([[.4124564,.3575761,.1804375],[.2126729,.7151522,.0721750],[.0193339,.1191920,.9503041]])
    t = m@c/m.sum(1)
    t = np.where(t>.008856, np.cbrt(t), 7.787*t+16/116)
    return np.array([116*t[1]-16, 500*(t[0]-t[1]), 200*(t[1]-t[2])])

def luminance(color):
    c = np.array([int(color[i:i+2], 16) for i in (1,3,5)])/255
    return np.where(c<=.04045, c/12.92, ((c+.055)/1.055)**2.4)@[.2126,.7152,.0722]

def contrast(a, b):
    hi,lo = sorted((luminance(a),luminance(b)), reverse=True)
    return (hi+.05)/(lo+.05)

eyes = dict(normal=np.eye(3), protanope=np.array([[.152286,1.052583,-.204868],[.114503,.786281,.099216],[-.003882,-.048116,1.051998]]),
            deuteranope=np.array([[.367322,.860646,-.227968],[.280085,.672501,.047413],[-.011820,.042940,.968881]]))

@pytest.mark.parametrize('theme', ['light','dark'])
@pytest.mark.parametrize('eye', eyes)
def test_ten_colours_can_be_told_apart(eye, theme):
    colors = [_dark[c] if theme=='dark' else c for c in palette]
    seen = [lab(c, eyes[eye]) for c in colors]
    near = min((np.linalg.norm(a-b),i,j) for i,a in enumerate(seen) for j,b in enumerate(seen) if i<j)
    assert len(set(palette))==10 and near[0]>=19, near

@pytest.mark.parametrize('theme', ['light','dark'])
def test_text_and_marks_stand_out_from_the_paper(theme):
    "4.5 for text, 3 for marks (WCAG 2.2), in every text that a figure has"
    paper = _dark[_paper] if theme=='dark' else _paper
    for c in palette: assert contrast(_dark[c] if theme=='dark' else c, paper)>=3
    texts = {}
    for name,make in every.items():
        l = make().plotly(theme)['layout']
        for a in l['annotations']: texts[a['font']['color']] = name
        texts[l['template']['layout']['font']['color']] = name
        assert l['paper_bgcolor']==paper
    for c,name in texts.items(): assert contrast(c, paper)>=4.5, (c,name)

def test_the_dark_page_is_the_light_one_in_other_colours():
    fig = every['curve']()
    text = lambda o: json.dumps({k:o[k] for k in ('data','layout')}, sort_keys=True)
    light,night = fig.plotly('light'),fig.plotly('dark')
    here = re.sub('#[0-9A-Fa-f]{6}', lambda m: fig.plotly()['dark'][m[0].upper()], text(light))
    assert here==text(night) and text(light)!=text(night)
    assert np.mean(np.asarray(image(fig.png(theme='dark'))))<90<160<np.mean(np.asarray(image(fig.png())))

def image(png):
    import io
    from PIL import Image
    return Image.open(io.BytesIO(png)).convert('L')

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

# --- what figures say of robustness

def failing(**kw): return dict(eps=eps, accuracy=[1.,.9,.8,.7], n=100, **kw)

@pytest.mark.parametrize('bad', [dict(verdicts=[dict(name='slope', status='fail')]), dict(failed=['slope']), dict(failed=True)])
def test_a_failed_verdict_reaches_every_figure_of_robustness(bad):
    curve  = f.curve_figure({'x':failing(**bad), 'fine':failing(failed=[])})
    points = f.tradeoff_figure({'x':dict(SA=[.9], RA=[.5], **bad)})
    table  = f.runs_figure({'x':dict(SA=.9, RA=.5, **bad)}, {})
    for fig in (curve,points,table):
        assert any('do not believe' in t and t.startswith('✗') for t in fig.foot)
        assert '\\u2717 x' in fig.to_json()
    assert '✗ fine' not in [t.name for t in curve.data]

def test_a_verdict_of_an_object():
    from types import SimpleNamespace as S
    c = S(eps=eps, accuracy=[1.,.9,.8,.7], stderr=[0]*4, n=9, protocol='p', chance=.1, failed=['bound'], verdicts=[S(name='bound', status='fail')], name='c')
    assert 'bound' in f.curve_figure(c).foot[0]
    c = S(eps=eps, accuracy=[1.,.9,.8,.7], stderr=[0]*4, n=9, protocol='p', chance=.1, verdicts=[S(name='bound', status='pass')]*3, name='c')
    assert f.curve_figure(c).foot==['✓ c: 3 checks passed']
    assert 'no checks ran' in f.curve_figure({'a':failing()}).foot[0]

def test_robust_accuracy_has_n_and_an_error():
    fig = f.tradeoff_figure({'a':dict(SA=[.9], RA=[.5], n=100, eps=8)})
    assert np.allclose(fig.data[0].error_y.array, [.05]) and '8/255' in fig.layout.yaxis.title.text and '100 images' in fig.foot[-1]
    fig = f.branches_figure(rng.random((2,2)), [[.5,.5],[.5,.5]], ['a','b'], layers, n=100)
    assert fig.data[1].text[0][0]=='50 ± 5 %'
    assert '50.0 ± 5.0 %' in [a.text for a in f.runs_figure({'a':dict(SA=.9, RA=.5, n=100)}, {}).layout.annotations]

def test_who_was_wrong_before_is_no_victim():
    p = np.eye(10)[[3]]
    def titles(p, pa, y): return [q.title for q in f.attack_figure(images(1)[0], images(1), p, pa, y=y).panels],[q.alarm for q in f.attack_figure(images(1)[0], images(1), p, pa, y=y).panels]
    said,alarm = titles(p, p, 5)
    assert 'wrong already' in said[0] and not any(alarm)
    assert titles(p, np.eye(10)[[4]], 3)[1]==[False,False,True,False] and titles(p, np.eye(10)[[4]], None)[1][2]

# --- what a selection, a scale, a name does

def test_a_selection_dims_the_others():
    z = rng.random((60,2))
    fig = f.embedding_figure(z, z+.1, np.arange(60)%3, None, [1,2])
    by = {t.name:t for t in fig.data}
    assert by['image'].opacity<.2 and by['selected (2)'].opacity==1 and by['selected (2)'].marker.symbol=='circle' and by['selected (2)'].marker.color.tolist()==[1,2]
    many = f.embedding_figure(rng.random((6000,2)), None, np.arange(6000)%10, None, np.arange(5000))
    assert any(t.name=='selected (5,000)' and len(t.x)==5000 for t in many.data)

def test_names_of_classes_lie_apart():
    z = np.repeat(rng.random((10,2))*.02, 30, 0)+rng.normal(size=(300,2))*.3
    at = np.array([[n.x,n.y] for n in f._class_names(z, np.repeat(np.arange(10), 30), list('abcdefghij'))])
    d = np.abs(at[:,None]-at[None])/np.ptp(z, 0)
    assert len(at)==10 and ((d[...,0]>=.12)|(d[...,1]>=.05)|np.eye(10, dtype=bool)).all()

def test_a_hundred_classes_differ_in_colour_or_symbol():
    t = f.embedding_figure(rng.random((200,2)), None, np.arange(200)%100).data[0]
    assert len(set(zip(t.marker.color.tolist(), t.marker.symbol)))==100

def test_fifty_thousand_points_stay_numbers():
    fig = f.embedding_figure(rng.random((50_000,2)), rng.random((50_000,2)), np.arange(50_000)%10)
    text = fig.to_json()
    assert {t.type for t in fig.data if len(t.x)>5000}=={'scattergl'} and len(text)<2_500_000
    assert sum(len(t.x) for t in fig.data if t.mode=='lines')<=450                     # segments: some, above the points

def test_bars_show_the_change():
    fig = f.coreset_figure([0], 3, bars={'divergence':{'before':.345,'after RCS':.336,'after random':.34}, 'overlap':{'chance':.02}})
    assert len(fig.panels)==1 and np.allclose(fig.data[0].y, [-.009,-.005])

@pytest.mark.parametrize('readings,cut', [(dict(kl=.02, a=.03, released=-4.), True), (dict(kl=.02, released=-.03), False), (dict(kl=.02), False), (dict(kl=0., a=0.), False), (dict(kl=float('nan'), a=1.), False)])
def test_small_readings_are_seen_beside_a_large_one(readings, cut):
    fig = Figure([[f._readings(readings)]])
    lo,hi = fig.layout.yaxis.range or (0,1)
    assert fig.png() and cut==('cut off' in fig.to_json()) and np.array_equal(fig.data[0].y, list(readings.values()), equal_nan=True)
    if cut: assert hi-lo<20*.03

@pytest.mark.parametrize('name,method', [('ACL','acl'),('acl','acl'),('ACL-AIR, seed 1','aclair'),('dynacl-air-rcs','dynaclair'),('A-InfoNCE','ainfonce'),('ACL: report','acl'),('aclarinet',None),('my ACL',None),('',None),('SimCLR (2)','simclr')])
def test_a_method_is_known_by_its_name(name, method):
    from robustfm.marks import _method_of
    assert _method_of(name, _registered())==method

def test_a_class_brings_its_colour(monkeypatch):
    from robustfm import objective
    class Mine: look = '#123456'
    monkeypatch.setattr(objective, 'methods', {**getattr(objective, 'methods', {}), 'mine':Mine}, raising=False)
    assert look(['mine, seed 3'])[0]['color']=='#123456'
    fig = f.curve_figure({'mine':failing()})
    assert fig.data[1].line.color=='#123456' and '#123456' in fig.plotly()['dark']

def test_own_methods_take_colours_that_are_free():
    colors = [s['color'] for s in look(['ACL','noise','mine','SimCLR'])]
    assert len(set(colors))==4

@pytest.mark.parametrize('titles', [['view 1','its worst neighbour','view 2','its worst neighbour'], ['a'*50]*4, ['one two three four five six seven']*4])
def test_titles_of_columns_do_not_collide(titles):
    fig = f.views_figure(images(4), images(4), images(4), images(4), titles=titles)
    for width in (_narrow,_wide):
        b, = fig.boxes(width)[0]
        part = min(b.right-b.left, (b.bottom-b.top)/b.panel.ratio)/4
        heads = b.panel.headings(b.right-b.left, b.bottom-b.top, fig.font)
        assert all(len(l)*.57*fig.font<=max(part, 6*.57*fig.font)+1 for h in heads for l in h.split('\n'))

def test_epochs_are_whole():
    fig = f.history_figure([dict(epoch=e, loss=1.) for e in range(8)])
    assert fig.layout.xaxis.dtick==2 and all(float(v).is_integer() for v in fig.matplotlib().axes[0].get_xticks())

def test_the_legend_is_above_the_panels():
    fig = every['curve']()
    l = fig.layout
    assert l.legend.yanchor=='top' and l.legend.y>l.yaxis.domain[1]

def test_a_figure_shows_itself(capsys):
    every['curve']().show()
    assert 'Accuracy under attack' in repr(every['curve']())
