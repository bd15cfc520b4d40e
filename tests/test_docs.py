"The documentation site: built without network, no link leads nowhere, nothing is asked of a server, and it fits a telephone"
import json, os, re, shutil, subprocess, sys, time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import pytest
from house import root, nbs, lessons, rooms, module
import docsite

class Page(HTMLParser):
    "What a page names (ids), links to, and loads"
    def __init__(self, text):
        super().__init__(); self.ids,self.links,self.loads = set(),[],[]
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {v for k in ('id','name') if (v := a.get(k))}
        if tag=='a' and a.get('href'): self.links.append(a['href'])
        elif tag in ('script','img','iframe','source','video') and a.get('src'): self.loads.append(a['src'])
        elif tag=='link' and a.get('href') and a.get('rel') not in ('canonical','license'): self.loads.append(a['href'])

# --- what needs no building

def test_papers_of_the_rooms_are_on_the_page_that_says_how_to_cite():
    found = docsite.papers()
    missing = [p.name for p in rooms() if p.name[:1]=='1' and module(p) and 'methods.' in module(p) and p.stem not in found]
    assert not missing and sum(map(len, found.values()))>=10
    assert all(url.startswith('https://arxiv.org/abs/') for rows in found.values() for _,_,url in rows)

def test_numbers_of_which_method_when_are_the_published_ones():
    from robustfm.recipes import reference_results
    rows = re.findall(r'^\| \[([\w-]+)\]\(\.\./\w+\.ipynb\)†? \| (\S+) / (\S+) \| (\S+) / (\S+) \| (\S+) / (\S+) \|$', (nbs/'pages'/'which.md').read_text(encoding='utf-8'), re.M)
    assert len(rows)==7
    for method,*said in rows:
        for mode,ra,sa in zip(('SLF','ALF','AFF'), said[::2], said[1::2]):
            known = [r for r in reference_results(pretrain='cifar10', finetune='cifar10', mode=mode, method=method) if r['rank']]
            assert [(r['RA'],r['SA']) for r in known]==[(float(ra),float(sa))], (method,mode)

def test_every_formula_of_the_notebooks_can_be_drawn():
    pytest.importorskip('latex2mathml', reason='needs latex2mathml: pip install robustfm[classroom]')
    from house import notebooks, read, source
    from robustfm.teach.classroom import mathml
    n = 0
    for p in notebooks():
        for c in read(p)['cells']:
            if c['cell_type']!='markdown': continue
            text = re.sub(r'```.*?```|`[^`\n]*`', '', source(c), flags=re.S)
            for tex in re.findall(r'\$\$.+?\$\$|\$[^$\n]+?\$', text, re.S):
                drawn = mathml(tex.replace('&', '&amp;').replace('<', '&lt;')); n += 1
                assert drawn.startswith('<math') and not re.search(r'>\\[A-Za-z]+<', drawn), (p.name,tex)
    assert n>100

# --- the site

@pytest.fixture(scope='module')
def site(tmp_path_factory, worker_id):
    "Built once for all workers"
    pytest.importorskip('smalldocs', reason='the site is made by smalldocs: pip install robustfm[dev]')
    pytest.importorskip('latex2mathml', reason='needs latex2mathml: pip install robustfm[classroom]')
    from filelock import FileLock
    base = tmp_path_factory.getbasetemp()
    out  = (base if worker_id=='master' else base.parent)/'docs'/'site'
    out.parent.mkdir(exist_ok=True)
    with FileLock(out.parent/'lock'):
        if not (out.parent/'complete').exists():
            built(out)
            (out.parent/'complete').touch()
    return out

def built(out):
    "Where there is no network, if this machine lets us take it away"
    offline = ['unshare','-n'] if shutil.which('unshare') and subprocess.run(['unshare','-n','true'], capture_output=True).returncode==0 else []
    r = subprocess.run([*offline, sys.executable, '-c', f'import sys; sys.path.insert(0, {str(root/"tests")!r}); import docsite; docsite.docs({str(out)!r})'],
                       cwd=root, capture_output=True, text=True, env=os.environ|dict(http_proxy='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9', PYTHONPATH=os.pathsep.join(filter(None, (str(root),os.environ.get('PYTHONPATH'))))))
    assert r.returncode==0, r.stderr[-3000:]

@pytest.fixture(scope='module')
def pages(site): return {p.relative_to(site).as_posix(): Page(p.read_text(encoding='utf-8')) for p in site.rglob('*.html')}

@pytest.mark.slow
def test_every_notebook_and_text_is_a_page(pages):
    assert {docsite.html_name(p) for p in (*rooms(),*lessons(),*docsite.site_pages)} <= pages.keys()

@pytest.mark.slow
def test_every_internal_link_leads_somewhere(site, pages):
    lost = []
    for name,page in pages.items():
        for link in page.links+page.loads:
            u = urlsplit(link)
            if u.scheme or link.startswith('//'): continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(u.path))) if u.path else name
            if target not in pages: lost += [] if (site/target).is_file() else [f'{name}: {link}']
            elif u.fragment and unquote(u.fragment) not in pages[target].ids: lost.append(f'{name}: {link}')
    assert not lost, lost[:20]
    assert sum(len(p.links) for p in pages.values())>1000

@pytest.mark.slow
def test_no_page_loads_from_a_server_and_every_formula_is_drawn(site, pages):
    outside = [f'{n}: {l}' for n,p in pages.items() for l in p.loads if re.match(r'(?:https?:)?//', l)]
    assert not outside, outside[:10]
    assert not [f.name for f in site.rglob('*.css') if re.search(r'(?:@import|url\()\s*["\']?(?:https?:)?//', f.read_text(encoding='utf-8'))]
    text = {n:(site/n).read_text(encoding='utf-8') for n in pages}
    assert not [n for n,t in text.items() if 'class="math' in t or 'katex' in t.lower().replace('smalldocs', '') and n!='src/docsite.html']
    assert sum(t.count('<math') for t in text.values())>100

@pytest.mark.slow
def test_class_paper_tutorial_and_source_lead_to_one_another(site):
    acl,first = ((site/f).read_text(encoding='utf-8') for f in ('102_acl.html','tutorials/02_from_simclr_to_acl.html'))
    box = lambda t: re.search(r'<nav class="related">.*?</nav>', t, re.S)[0]
    assert 'arxiv.org/abs/2010.13337' in box(acl) and 'tutorials/02_from_simclr_to_acl.html' in box(acl) and 'src/methods.acl.html' in box(acl)
    assert '../102_acl.html#acl' in box(first) and '../05_models.html#encoder' in box(first)

@pytest.mark.slow
@pytest.mark.browser
def test_opened_from_a_disk_it_searches_asks_nobody_and_fits(site, chromium):
    from playwright.sync_api import sync_playwright
    asked,wide,errors = [],[],[]
    keep = os.environ.get('ROBUSTFM_PICTURES')                     # a folder in which to keep the pictures
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=['--no-sandbox','--disable-gpu','--disable-dev-shm-usage'])
        page = b.new_page()
        page.on('request', lambda r: asked.append(r.url) if not r.url.startswith(('file:','data:','blob:')) else None)
        page.on('pageerror', lambda e: errors.append(str(e)))
        for width in (1280,390):
            page.set_viewport_size(dict(width=width, height=900))
            for name in ('index.html','pages/which.html','pages/glossary.html','pages/cite.html','102_acl.html','103_air.html','210_zoo.html','tutorials/01_attack_without_labels.html'):
                page.goto((site/name).as_uri()); page.wait_for_load_state()
                over = page.evaluate('document.documentElement.scrollWidth-innerWidth')
                if over>1: wide.append((name,width,over))
                if keep: page.screenshot(path=f'{keep}/{name.replace("/", "-")[:-5]}-{width}.png')
                if name=='103_air.html': assert page.evaluate("[...document.querySelectorAll('math')].every(m=>m.getBoundingClientRect().width>0)")
        page.set_viewport_size(dict(width=1280, height=900))
        page.goto((site/'index.html').as_uri())
        box = page.locator('.smalldocs-search input:visible').first
        box.fill('coreset'); page.wait_for_selector('.search-result', timeout=20_000)
        found = page.locator('.search-result').count(); href = page.locator('.search-result').first.get_attribute('href')
        b.close()
    assert not asked and not errors and not wide, (asked[:5],errors[:3],wide)
    assert found>2 and (site/href.split('#')[0]).is_file()
