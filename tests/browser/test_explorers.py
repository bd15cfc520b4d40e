"All nine explorers as their readers meet them: JupyterLab 4 and Voilà, offline, with a keyboard and a mouse"
import time
import pytest
from pages import browsing, lab, voila
from stage import evil, explorers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
names = list(explorers)

def all_drawn(page, first=240000):
    for i in range(9): page.drawn(i, timeout=first if i==0 else 90000)

def moved(page, name, act):
    "Seconds from an action to the redrawn figure, seen from the page"
    i = names.index(name)
    n = page.drawn(i); t = time.perf_counter(); act(page.explorer(i)); page.drawn(i, n)
    return time.perf_counter()-t

def press(key, times=1):
    def act(box):
        h = box.locator('.noUi-handle').first; h.focus()
        for _ in range(times): h.press(key)
    return act

def lasso(page, name):
    "Round the middle of the map"
    box = page.explorer(names.index(name)); box.scroll_into_view_if_needed()
    r = box.locator('.nsewdrag').first.bounding_box(); x,y,d = r['x']+r['width']/2,r['y']+r['height']/2,min(r['width'],r['height'])/3
    m = page.page.mouse
    m.move(x-d, y-d); m.down()
    for a,b in ((d,-d),(d,d),(-d,d),(-d,-d)): m.move(x+a, y+b, steps=6)
    m.up()

def looks_like_something(page, tmp_path):
    from PIL import Image
    for i,n in enumerate(names):
        box = page.explorer(i); box.scroll_into_view_if_needed(); box.screenshot(path=tmp_path/f'{n}.png')
        im = Image.open(tmp_path/f'{n}.png').convert('RGB'); assert im.width>600 and im.height>150 and len(im.getcolors(1<<24))>60, f'{n} is empty'

def quiet(page):
    assert page.outside==[] and page.errors==[]
    assert page.page.evaluate('window.hacked')is None
    assert page.page.locator('img[src="x"]').count()==0

def test_jupyterlab(stage, chromium, tmp_path):
    with lab(stage) as base, browsing(chromium, base) as page:
        page.run_all('nine.ipynb'); all_drawn(page)
        for i in range(9): assert page.explorer(i).is_visible()
        hidden = page.page.evaluate('() => [...document.querySelectorAll(".jp-OutputArea-child")].filter(o => o.querySelector(":scope > .jp-RenderedImage") && o.offsetParent).length')
        assert hidden==0, 'a static twin shows beside its living widget'
        for name in ('attack','dual_bn'): moved(page, name, press('ArrowRight', 3))          # by keyboard
        moved(page, 'stepper', press('ArrowLeft', 2))
        moved(page, 'coreset', press('ArrowRight'))
        moved(page, 'robustness', lambda b: b.locator('option', has_text='ACL').click())
        moved(page, 'compare', lambda b: b.locator('select').nth(1).select_option('loss'))
        moved(page, 'invariance', lambda b: b.locator('select').first.select_option('circle'))
        n = page.drawn(names.index('embedding')); lasso(page, 'embedding'); page.drawn(names.index('embedding'), n)
        assert page.explorer(names.index('embedding')).locator('.legendtext', has_text='selected').count()
        assert page.explorer(0).get_by_text(evil[:9]).count(), 'the name of a class shows as text'
        webgl = page.page.evaluate('() => [...document.querySelectorAll("canvas")].filter(c => /gl-canvas-(context|focus)/.test(c.className.baseVal ?? c.className)).length')
        assert webgl<=4
        looks_like_something(page, tmp_path)
        quiet(page)

def test_voila(stage, chromium, tmp_path):
    with voila(stage, 'nine.ipynb') as base, browsing(chromium, base) as page:
        page.page.goto(base, wait_until='domcontentloaded'); all_drawn(page)
        assert page.page.locator('.jp-InputArea-editor:visible').count()==0, 'code shows'
        moved(page, 'attack', press('ArrowRight', 3)); moved(page, 'stepper', press('ArrowLeft'))
        n = page.drawn(names.index('embedding')); lasso(page, 'embedding'); page.drawn(names.index('embedding'), n)
        looks_like_something(page, tmp_path)
        quiet(page)

def test_many_points_and_the_stop_button(stage, chromium):
    from pages import notebook
    big = '''
import numpy as np, torch, time, threading
from robustfm.widgets import *
from robustfm.data import Images, Batches, digits
z = torch.randn(50_000, 8); x = Images(torch.zeros(50_000,1,8,8,dtype=torch.uint8), torch.arange(50_000)%10)
for i in range(3): embedding_explorer(dict(a=dict(z=z, a=z+.1), b=dict(z=z+.1, a=z)), x)._ipython_display_()
'''
    stop = '''
from robustfm.augment import views
from robustfm.models import Encoder, tiny
from robustfm.objective import SimCLR
from robustfm.train import pretrain
train = digits()[0]; live = Live(every=.1)
h = pretrain(SimCLR(Encoder(tiny(width=8)), views(flip=0), bn='clean'), Batches(train, bs=512), epochs=2000, opt='adam', show=live)
print('ended', len(h)<2000)
'''
    notebook(stage/'big.ipynb', big, stop)
    with lab(stage) as base, browsing(chromium, base) as page:
        page.run_all('big.ipynb')
        for i in range(4): page.drawn(i, timeout=240000 if i==0 else 90000)
        alive = page.page.evaluate('''() => [...document.querySelectorAll('canvas')].filter(c => /gl-canvas-(context|focus)/.test(c.className) && c.isConnected).length''')
        assert alive<=4, f'{alive} WebGL contexts'
        box = page.explorer(3); box.scroll_into_view_if_needed()
        box.locator('button', has_text='Stop').click()
        page.page.get_by_text('ended True').wait_for(timeout=60000)                          # the cell that trains has ended, by a button pressed while it ran
        assert page.errors==[] and page.outside==[]
