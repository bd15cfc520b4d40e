"Kind: pictures that lie, hide or cannot be read: somebody else's figures, failed verdicts, colours, selections, names that collide"
import json, re
import numpy as np, pytest
from robustfm import figures as f
from robustfm.marks import Figure,as_plotly,described,look,palette,static
from robustfm.marks import _dark,_narrow,_paper,_registered,_wide
from test_figures import eps,every,evil,images,layers,probs,rng

FAULTS = [('aesthetics-3', 'pictures lie', 'test_somebody_elses_figure_gets_a_sentence'),
          ('aesthetics-3', 'pictures lie', 'test_somebody_elses_figure_is_alive_in_a_page'),
          ('teacher-A9', 'figures upload', 'test_nothing_uploads'),
          ('bugs-nb-12', 'cannot be read', 'test_ten_colours_can_be_told_apart'),
          ('bugs-nb-11', 'cannot be read', 'test_text_and_marks_stand_out_from_the_paper'),
          ('teacher-B3', 'cannot be read', 'test_the_dark_page_is_the_light_one_in_other_colours'),
          ('teacher-A1', 'verdict lost', 'test_a_failed_verdict_reaches_every_figure_of_robustness'),
          ('teacher-A1', 'verdict lost', 'test_a_verdict_of_an_object'),
          ('teacher-A4', 'number without n', 'test_robust_accuracy_has_n_and_an_error'),
          ('teacher-A6', 'pictures lie', 'test_who_was_wrong_before_is_no_victim'),
          ('teacher-A11', 'hides what it shows', 'test_a_selection_dims_the_others'),
          ('teacher-B7', 'hides what it shows', 'test_names_of_classes_lie_apart'),
          ('teacher-B8', 'hides what it shows', 'test_fifty_thousand_points_stay_numbers'),
          ('teacher-colour-blind', 'cannot be read', 'test_a_hundred_classes_differ_in_colour_or_symbol'),
          ('teacher-B9', 'hides what it shows', 'test_bars_show_the_change'),
          ('teacher-B10', 'hides what it shows', 'test_small_readings_are_seen_beside_a_large_one'),
          ('aesthetics-5', 'lists of names', 'test_a_class_brings_its_colour'),
          ('learner-2', 'two look alike', 'test_own_methods_take_colours_that_are_free'),
          ('learner-2', 'cannot be read', 'test_titles_of_columns_do_not_collide'),
          ('learner-2', 'cannot be read', 'test_epochs_are_whole'),
          ('learner-F8', 'cannot be read', 'test_pages_show_no_name_of_a_stranger'),
          ('learner-1', 'hides what it shows', 'test_the_legend_is_above_the_panels')]

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

def test_pages_show_no_name_of_a_stranger(tmp_path, monkeypatch):
    "The hostile class of the browser tests is not in the notebook that pictures for readers are taken of, and others are not copied"
    import sys, house
    from PIL import Image
    monkeypatch.syspath_prepend(str(house.root/'tests'/'browser'))
    import stage
    stage.write(tmp_path)
    assert 'onerror' in (tmp_path/'nine.ipynb').read_text() and 'onerror' not in (tmp_path/'fair.ipynb').read_text()
    made = tmp_path/'.data'/'pictures'
    made.mkdir(parents=True)
    for name in ('page_one','lab_one','dark_two','voila_three','saved'): Image.new('RGB', (9,9)).save(made/f'{name}.png')
    (tmp_path/'pages').mkdir()
    monkeypatch.setattr(house, 'root', tmp_path)
    monkeypatch.setattr(house, 'nbs', tmp_path)
    house.pictures()
    assert [p.name for p in (tmp_path/'pages'/'explorers').iterdir()]==['one.png']

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

@pytest.mark.parametrize('found,says', [(['pass','warn','pass'], '2 checks passed, 1 to look at'), (['pass']*3, '3 checks passed'), (['warn']*2, '0 checks passed, 2 to look at'), (['pass','skip'], '1 checks passed')])
def test_what_is_to_be_looked_at_is_not_hidden(found, says):
    assert f.checked(dict(verdicts=[dict(name=str(i), status=s) for i,s in enumerate(found)]))==('✓',says)

def test_a_run_without_a_term_takes_nobodys_place_in_the_legend():
    "Each run is named once, though the first panel knows only one of them"
    runs = dict(SimCLR=[dict(epoch=e, loss=1., contrast=1.) for e in (1,2)], ACL=[dict(epoch=e, loss=1., adv=1.) for e in (1,2)], DeACL=[dict(epoch=e, loss=1.) for e in (1,2)])
    lines = as_plotly(f.history_figure(runs))['data']
    assert sorted(t['name'] for t in lines if t['showlegend'])==['ACL','DeACL','SimCLR'] and all(len(t['x']) for t in lines)

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
