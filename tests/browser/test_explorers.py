"All nine explorers as their readers meet them: JupyterLab 4 and Voilà, offline, with a keyboard and a mouse; then the page that is saved, and the one that is sent around"
import os, time
from pathlib import Path
import pytest
from pages import Page, browsing, lab, voila
from stage import evil, explorers

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
names = list(explorers)
pictures = Path(__file__).resolve().parents[2]/'.data'/'pictures' # not in the repository: for the documentation, and to look at

def all_drawn(page, n=9, first=300000):
    for i in range(n): page.drawn(i, timeout=first if i==0 else 120000)

def moved(page, name, act):
    "Act on an explorer and wait for the redrawn figure"
    i = names.index(name); box = page.explorer(i); box.scroll_into_view_if_needed()
    n = page.drawn(i); act(box); page.drawn(i, n)
    return box

def press(key, times=1):
    def act(box):
        h = box.locator('.noUi-handle').first; h.focus()
        for _ in range(times): h.press(key)
    return act

def drag(page, start, *through):
    "With the mouse button down from one point of the page through others"
    m = page.page.mouse
    m.move(*start); m.down()
    for p in through: m.move(*p, steps=6)
    m.up()

def middle(locator): r = locator.bounding_box(); return r['x']+r['width']/2,r['y']+r['height']/2

def slide(page, label, by):
    "Drag a slider's handle"
    def act(box):
        x,y = middle(box.locator('.widget-slider', has_text=label).locator('.noUi-handle').first)
        drag(page, (x,y), (x+by,y))
    return act

def lasso(page):
    "Round the middle of the map"
    def act(box):
        plot = box.locator('.nsewdrag').first; r = plot.bounding_box(); (x,y),d = middle(plot),min(r['width'],r['height'])/3
        drag(page, (x-d,y-d), (x+d,y-d), (x+d,y+d), (x-d,y+d), (x-d,y-d))
    return act

def says(box, text): box.locator('.robustfm-title, .gtitle, .legendtext, .annotation-text').filter(has_text=text).first.wait_for(state='attached', timeout=20000)

def chosen(label, option):
    "Choose from a menu, behind `more` or in front"
    def act(box):
        more = box.locator('button.widget-toggle-button', has_text='more')
        menu = box.locator('.widget-dropdown', has_text=label).locator('select')
        if not menu.count() or not menu.first.is_visible(): more.click()
        menu.first.wait_for(state='visible')
        menu.first.select_option(option)
    return act

def behave(page):
    "Every control of ours has a name and keeps its keys from JupyterLab"
    bad = page.evaluate("""() => [...document.querySelectorAll('.robustfm-live :is(select, button, input, [contenteditable], .noUi-handle)')]
        .filter(c => c.dataset.lmSuppressShortcuts !== 'true' || !(c.ariaLabel || c.labels?.[0]?.textContent.trim())).map(c => c.outerHTML.slice(0, 200))""")
    assert bad==[], bad[:3]

def seen(page, i):
    "An explorer that has come into sight: only then JupyterLab gives it its place, and it is drawn to fit"
    box = page.explorer(i); box.scroll_into_view_if_needed()
    page.page.wait_for_timeout(700)
    return box

def fits(page, where):
    "No explorer is wider than its place"
    for i in range(page.page.locator('.robustfm-live').count()):
        sizes = seen(page, i).evaluate("e => [...e.querySelectorAll('.js-plotly-plot')].map(p => [p.parentElement.scrollWidth, p.parentElement.clientWidth])")
        assert not [s for s in sizes if s[0]>s[1]+1 and s[1]>0] or i==names.index('compare'), (where,i,sizes)   # a table is moved sideways

def keys_stay(page, box):
    "d d on a slider deletes no cell, and an arrow moves a menu"
    cells = lambda: page.evaluate('() => window.jupyterapp.shell.currentWidget.content.widgets.length')
    n = cells()
    handle = box.locator('.noUi-handle').first
    handle.focus()
    for key in 'ddbax': handle.press(key)
    assert cells()==n

def modebar(page):
    "What may be done with a figure: nothing that sends it away"
    titles = set(page.evaluate("() => [...document.querySelectorAll('.robustfm-live .modebar-btn')].map(b => b.dataset.title)"))
    assert titles and titles<={'Download plot as a PNG','Download plot as a png','Zoom','Pan','Lasso Select','Box Select','Reset axes'}, titles

def pictured(page, where):
    "A picture of each, and something on it"
    from PIL import Image
    pictures.mkdir(parents=True, exist_ok=True)
    for i,n in enumerate(names):
        seen(page, i).screenshot(path=pictures/f'{where}_{n}.png')
        im = Image.open(pictures/f'{where}_{n}.png').convert('RGB')
        assert im.width>600 and im.height>150 and len(im.getcolors(1<<24))>60, f'{n} is empty'

def names_are_text(page):
    assert page.evaluate('() => window.hacked ?? null') is None and page.locator('img[src="x"]').count()==0
    assert page.get_by_text(evil[:9]).count(), 'the name of a class does not show'

def test_jupyterlab(stage, chromium):
    with lab(stage) as base, browsing(chromium, base) as page:
        page.open('nine.ipynb').run('notebook:run-all-above', -1); all_drawn(page, 12)
        for i in range(12): assert page.explorer(i).is_visible()
        assert page.page.evaluate('() => [...document.querySelectorAll(".jp-OutputArea-child")].filter(o => o.querySelector(":scope > .jp-RenderedImage") && o.offsetParent).length')==0, 'a twin shows beside its living widget'
        pictured(page, 'lab')
        behave(page.page)
        modebar(page.page)
        keys_stay(page.page, page.explorer(0))
        contexts = '() => [...document.querySelectorAll("canvas")].filter(c => /gl-canvas-(context|focus)/.test(c.className) && c.isConnected).length'
        assert 0<page.page.evaluate(contexts)<=4

        says(moved(page, 'attack', slide(page, 'ε × 255', -300)), 'no pixel changed by more than 0.0/255')
        moved(page, 'dual_bn', press('ArrowRight', 3)); says(moved(page, 'stepper', press('ArrowRight', 2)), 'Step 2 of 5'); says(moved(page, 'coreset', press('ArrowRight')), 'Epoch 2')
        moved(page, 'robustness', lambda b: b.locator('option', has_text='ACL').click())
        moved(page, 'compare', chosen('show', 'overlay: loss'))
        says(moved(page, 'embedding', lasso(page)), 'selected (')
        time.sleep(1); says(page.explorer(names.index('embedding')), 'selected (')                   # and stays selected when it has been drawn
        says(moved(page, 'embedding', chosen('look at', 'class 3')), 'nearest to the first, attacked')
        moved(page, 'coreset', chosen('view', 'guess which'))
        says(moved(page, 'coreset', lambda b: b.locator('.nsewdrag').first.click(position=dict(x=60, y=60))), 'You have picked 1')
        moved(page, 'invariance', chosen('mode', 'circle'))
        def pull(box): x,y = middle(box.locator('.shapelayer path').first); drag(page, (x,y), (x-40,y-90))
        moved(page, 'invariance', pull)
        assert page.page.locator('.robustfm-bad', has_text='NaN').count()==1 and page.page.locator('text=Traceback').count()==0
        names_are_text(page.page)

        again(page)
        narrow(page)
        page.run('docmanager:save'); page.page.wait_for_function('() => !window.jupyterapp.shell.currentWidget.context.model.dirty')
        saved((stage/'nine.ipynb').read_text(encoding='utf-8'), stage/'nine.html', page)
        page.run('notebook:run-cell', -1); page.drawn(13, timeout=90000)                             # a training, and its Stop while it runs
        box = page.explorer(13); box.scroll_into_view_if_needed(); box.locator('button', has_text='Stop').click()
        page.page.get_by_text('ended early: True').wait_for(timeout=60000)
        assert page.outside==[] and page.errors==[]
        sent_around(stage/'attack.html', page)

@pytest.mark.skipif(not os.environ.get('PICTURES'), reason='make pictures asks for them')
def test_pictures_for_the_pages(stage, chromium):
    "What is shown to readers: every explorer as it opens, and no name of a stranger"
    with lab(stage) as base, browsing(chromium, base) as page:
        page.open('fair.ipynb').run('notebook:run-all-cells')
        all_drawn(page)
        assert page.page.get_by_text(evil[:9]).count()==0
        pictured(page, 'page')

def saved(text, path, page):
    "A notebook saved with its outputs, where no widget runs: nbconvert's page shows every twin, and nothing else of ours"
    import nbformat
    from nbconvert import HTMLExporter
    nb = nbformat.reads(text, as_version=4); assert 'widgets' not in nb['metadata']
    nb.cells = nb.cells[:10]
    html,_ = HTMLExporter().from_notebook_node(nb); path.write_text(html, encoding='utf-8')
    assert len(html.encode())<=2_000_000
    plain = page.page.context.new_page(); plain.route(lambda u: not u.startswith(('file:','data:')), lambda r: r.abort()) # nbconvert's own scripts
    plain.goto(path.as_uri(), wait_until='domcontentloaded')
    plain.wait_for_function('() => [...document.images].every(i => i.complete)')                         # a picture in the page is decoded after it
    assert plain.evaluate('() => [...document.images].filter(i => i.src.startsWith("data:image/png") && i.naturalWidth>200 && i.offsetParent).length')==9
    assert plain.locator('img[src="x"]').count()==0
    plain.screenshot(path=pictures/'saved.png', full_page=True); plain.close()

def sent_around(path, page):
    "One file with everything inside, opened from the disk"
    alone = Page(page.page.context.new_page(), path.as_uri())
    alone.page.goto(path.as_uri()); alone.page.wait_for_selector('.main-svg'); names_are_text(alone.page)
    alone.page.locator('input[type=range]').press('ArrowRight'); says(alone.page, 'no pixel changed by more than 64.0/255')
    assert alone.outside==[] and alone.errors==[]

def again(page):
    "A cell run again leaves no widget more, in the kernel or in the page, than it found"
    counts = []
    for _ in range(3):
        n = page.page.evaluate('() => document.querySelectorAll(".robustfm-live").length')
        page.run('notebook:run-cell', 1); page.drawn(0)
        page.page.wait_for_timeout(1500)
        counts.append(page.page.evaluate('() => { const m = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel; return m._comms?.size ?? -1 }'))
        assert page.page.evaluate('() => document.querySelectorAll(".robustfm-live").length')==n
    assert counts[1]==counts[2], counts

def narrow(page):
    "At 1024×768, light and dark: nothing is cut, and what is said can be read"
    page.page.set_viewport_size(dict(width=1024, height=768))
    page.page.wait_for_timeout(2500)
    fits(page, 'light')
    page.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.page.wait_for_timeout(2500)
    assert page.page.locator('.robustfm-bad').first.evaluate(contrast)>=4.5
    fits(page, 'dark')
    pictured(page, 'dark')
    page.page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    page.page.set_viewport_size(dict(width=1280, height=1400))
    page.page.wait_for_timeout(2000)

contrast = """e => {
    const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v/255).map(v => v <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4).reduce((s, v, i) => s + v*[.2126, .7152, .0722][i], 0)
    let b = e; while (b && /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(b).backgroundColor)) b = b.parentElement
    const [x, y] = [light(getComputedStyle(e).color), light(getComputedStyle(b ?? document.body).backgroundColor)]
    return (Math.max(x, y) + .05)/(Math.min(x, y) + .05) }"""

def test_voila(stage, chromium):
    with voila(stage, 'demo.ipynb') as base, browsing(chromium, base) as page:
        page.page.goto(base, wait_until='domcontentloaded'); all_drawn(page)
        assert page.page.locator('.jp-InputArea-editor:visible').count()==0, 'code shows'
        moved(page, 'attack', slide(page, 'ε × 255', -300)); says(moved(page, 'stepper', press('ArrowRight')), 'Step 1 of 5'); moved(page, 'coreset', press('ArrowRight')); moved(page, 'dual_bn', press('ArrowRight'))
        moved(page, 'robustness', lambda b: b.locator('option', has_text='ACL').click()); moved(page, 'compare', chosen('show', 'overlay: loss'))
        moved(page, 'invariance', chosen('mode', 'circle')); says(moved(page, 'embedding', lasso(page)), 'selected (')
        pictured(page, 'voila'); names_are_text(page.page)
        assert page.outside==[] and page.errors==[]
