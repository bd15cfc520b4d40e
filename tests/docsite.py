"""The documentation site: every notebook and every page of nbs/pages, as HTML that asks no server for anything.

nbdev makes tables of arguments from docments, smalldocs makes pages of the notebooks, and what follows here makes them complete offline and links
class, paper, tutorial and source to one another."""
import ast, html, json, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path
from house import root, nbs, lib, notebooks, rooms, lessons, name, number, read, source, directives, exported, module, settings

floors = {-1:'Ground', 0:'Ingredients', 1:'Papers', 2:'Running', 3:'Showing', 9:'Everything'}
site_pages = [nbs/'pages'/f'{n}.md' for n in ('which','explorers','glossary','cite')]

def title(path):
    "The title of a page: of a notebook its `# title`, of a text what its head says"
    if path.suffix=='.ipynb': return re.match(r'# (.+)', source(read(path)['cells'][0]))[1].strip()
    return re.search(r'^title: *(.+)$', path.read_text(encoding='utf-8'), re.M)[1].strip()

def html_name(path): return path.relative_to(nbs).with_suffix('.html').as_posix()

def papers():
    "{room: (method, reference, link)} from the table of nbs/pages/cite.md"
    rows = re.findall(r'^\| \[([^\]]+)\]\(\.\./(\w+)\.ipynb\) \| (.+?) \| \[.*?\]\((\S+)\) \|$', (nbs/'pages'/'cite.md').read_text(encoding='utf-8'), re.M)
    found = {}
    for method,room,reference,link in rows: found.setdefault(room, []).append((method,reference,link))
    return found

def public(path):
    "Names that a room defines for others"
    defined = [n.name for n in exported(path).body if isinstance(n, (ast.FunctionDef,ast.ClassDef))]
    return [n for n in defined if not n.startswith('_')]

def homes():
    "{public name: the room that defines it}; a command of the shell is not the function it calls"
    return {n:p for p in rooms() if module(p) not in (None,'robustfm.all','robustfm.cli') for n in public(p)}

def used(path):
    "Names that the code of a notebook mentions and does not define itself"
    found,own = set(),set()
    for c in read(path)['cells']:
        if c['cell_type']!='code': continue
        try: tree = ast.parse(re.sub(r'(?m)^\s*[%!].*$', '', source(c)))
        except SyntaxError: continue
        found |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)} | {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef,ast.ClassDef))}
    return found-own

# --- before rendering

def _only_imports(code): return all(isinstance(n, (ast.Import,ast.ImportFrom)) for n in ast.parse(re.sub(r'(?m)^\s*[%!].*$', '', code)).body)

_prepare = """from nbdev.quarto import refresh_quarto_yml, nbdev_sidebar
from nbdev.serve import proc_nbs
refresh_quarto_yml(); nbdev_sidebar.__wrapped__(); proc_nbs('nbs', n_workers=0, force=True)"""

def sidebar():
    "The menu: pages to begin with, the course, the rooms by floor"
    parts = [('Begin here', [nbs/'index.ipynb',*site_pages]), ('The course', sorted(lessons(), key=lambda p: (len(p.parts), p.name)))]
    for f,label in floors.items(): parts.append((label, [p for p in rooms() if p.name!='index.ipynb' and (-1 if (number(p) or 0)<0 else (number(p) or 0)//10)==f]))
    lines = ['website:','  sidebar:','    contents:']
    for label,paths in parts:
        if paths: lines += [f'      - section: "{label}"','        contents:'] + [f'          - text: {json.dumps(title(p), ensure_ascii=False)}\n            href: {p.relative_to(nbs).as_posix()}' for p in paths]
    return '\n'.join(lines)+'\n'

def docs(out=None):
    "_docs/: built without network, complete without one"
    out = Path(out or root/'_docs')
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for f in (nbs,lib): shutil.copytree(f, tmp/f.name, ignore=shutil.ignore_patterns('.*', '__pycache__'))
        shutil.copy(root/'settings.ini', tmp)
        (tmp/'nbs'/'styles.css').write_text(css, encoding='utf-8')
        for p in (tmp/'nbs').rglob('*.ipynb'): # nbdev runs exports and imports for its tables of arguments: not the examples beside an import
            nb = json.loads(p.read_text(encoding='utf-8'))
            for c in nb['cells']:
                if c['cell_type']=='code' and not {'export','exports','exporti'} & set(directives(c)) and not _only_imports(source(c)):
                    c['source'] = '#| eval: false\n'+source(c)
            p.write_text(json.dumps(nb), encoding='utf-8')
        subprocess.run([sys.executable, '-c', _prepare], cwd=tmp, check=True)
        render(tmp/'_proc', out)
    return out

# --- rendering, and what makes it complete

css = """math{font-family:"STIX Two Math","Cambria Math","Latin Modern Math","DejaVu Math TeX Gyre",math;font-size:1.08em}math[display=block]{margin:.6em 0;overflow-x:auto;overflow-y:hidden}
nav.related{font-size:.86em;border-left:3px solid #009E73;padding:.2em .9em;margin:.4em 0 1.2em;background:rgba(0,158,115,.05)}nav.related div{margin:.15em 0}
.cell-output img,.cell-output svg,main img{max-width:100%;height:auto}table{display:block;max-width:100%;overflow-x:auto}pre.src{font-size:.8em;line-height:1.45;overflow-x:auto}pre.src a{color:inherit;text-decoration:none}
pre.src :target{background:#fff3c4}dt{margin-top:.8em}@media(max-width:600px){main td,main th{min-width:8.5em}}
.smalldocs-search input{color:#fff}.smalldocs-search-results{background:#fff!important;color:#1b1b1b}.smalldocs-search-results .search-result{background:#fff!important;color:#123!important}
.smalldocs-search-results .search-result:is(:hover,.active,[aria-selected=true]){background:#e8f1fb!important}.search-result-section,.search-result-text{color:#444!important}.search-result-text mark{background:#ffe08a;color:#111}"""

# a page that is opened from a disk may not fetch a file, but may load a script
_search = """(()=>{const net=window.fetch;window.fetch=(u,...a)=>/(^|\\/)search\\.json$/.test(u)?new Promise((ok,no)=>{const s=document.createElement('script');
s.src=u.replace(/json$/,'js');s.onload=()=>ok({ok:true,json:async()=>window.searchIndex});s.onerror=no;document.head.append(s)}):net(u,...a)})();
"""

def render(made, out):
    "nbdev's processed notebooks in `made`, as pages in `out`"
    import plotly
    (made/'sidebar.yml').write_text(sidebar(), encoding='utf-8')
    shutil.copytree(nbs/'pages', made/'pages', dirs_exist_ok=True)
    r = subprocess.run([sys.executable, '-c', 'import sys; from smalldocs.cli import main; sys.exit(main())', 'render', str(made)], capture_output=True, text=True)
    if r.returncode or not (made/'_docs').is_dir(): raise RuntimeError(f'smalldocs: {(r.stdout+r.stderr)[-2000:]}')
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(str(made/'_docs'), out)
    shutil.copy(Path(plotly.__file__).parent/'package_data'/'plotly.min.js', out)
    for f in out.rglob('*.css'): f.write_text(re.sub(r'@import url\([^)]*\);?', '', f.read_text(encoding='utf-8')), encoding='utf-8') # a font from a server
    js = out/'site_libs'/'smalldocs.js'
    js.write_text(_search+js.read_text(encoding='utf-8'), encoding='utf-8')
    index = json.loads((out/'search.json').read_text(encoding='utf-8'))
    for e in index: e['text'] = re.sub(r'\[\s*`?([^\]`]+)`?\s*\]\s*\([^)\s]*\)', r'\1', e.get('text', '')).removesuffix('source').strip()  # links in comments of code
    (out/'search.js').write_text('window.searchIndex='+json.dumps(index, ensure_ascii=False), encoding='utf-8')
    sources(out)
    links,home = related(out),homes()
    for page in out.rglob('*.html'):
        if 'src' in page.relative_to(out).parts[:1]: continue
        text = complete(page, out, home)
        if box := links.get(page.relative_to(out).as_posix()): text = re.sub(r'(</h1>.*?</header>|</h1>)', lambda m: m[1]+box, text, count=1, flags=re.S)
        page.write_text(text, encoding='utf-8')

def complete(page, out, home):
    "The text of a page with formulas, links and scripts from this folder"
    from robustfm.teach.classroom import mathml
    up,site = os.path.relpath(out, page.parent).replace(os.sep, '/'),re.escape(settings()['doc_host']+settings()['doc_baseurl'])
    named = {re.sub(r'^\d+_', '', p.name):p.name for p in out.glob('*.html')}
    text = page.read_text(encoding='utf-8')
    text = re.sub(r'<span class="math (?:inline|display)">(.*?)</span>', lambda m: mathml(m[1]), text, flags=re.S)
    text = re.sub(r'<(?:link|script)[^>]*katex[^>]*>(?:</script>)?', '', text)
    text = re.sub(rf'{site}/([\w.]+)', lambda m: f'{up}/{named.get(m[1], m[1])}', text)
    text = re.sub(r'40_cli\.html#(\w+)', lambda m: f'{html_name(home[m[1]])}#{m[1].lower()}' if m[1] in home else m[0], text)      # nbdev takes the last room that has a name
    text = re.sub(r'\[`?([\w.()]+)`?\]\(((?:\.\./|\./)[\w./]+(?:#\w+)?)\)', r'<a href="\2">\1</a>', text)                    # a link that nbdev put into a comment of code
    has = lambda file,name: f'id="{name}"' in (page.parent/file).read_text(encoding='utf-8')
    text = re.sub(r'(?<=href=")([\w./]+\.html)#(\w+)\.(\w+)(?=")', lambda m: m[0] if has(m[1], f'{m[2]}.{m[3]}') else f'{m[1]}#{m[2]}', text) # a method without a heading of its own: to its class
    text = re.sub(rf'{re.escape(settings()["git_url"])}/blob/\w+/{lib.name}/([\w/]+)\.py(?:(#L\d+)|#LNone)?', lambda m: f'{up}/src/{m[1].replace("/", ".")}.html{m[2] or ""}', text)
    text = re.sub(rf'(href=")(?:\.\./)+(LICENSE|CITATION\.cff|[A-Z]+\.md)"', rf'\1{settings()["git_url"]}/blob/main/\2"', text)
    text = re.sub(r'https://cdn\.plot\.ly/plotly-[\w.-]*\.min(\.js)?', lambda m: f'{up}/plotly.min{m[1] or ""}', text)
    return re.sub(r'(<script[^>]*plotly\.min\.js"[^>]*?) integrity="[^"]*"', r'\1', text)

def sources(out):
    "src/: the modules as pages, a line an anchor"
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    (out/'src').mkdir()
    for p in sorted(lib.rglob('*.py')):
        name = p.relative_to(lib).with_suffix('').as_posix().replace('/', '.')
        lines = highlight(p.read_text(encoding='utf-8'), PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).splitlines()
        body = '\n'.join(f'<span id="L{i}"><a href="#L{i}">{i:5}</a>  {l}</span>' for i,l in enumerate(lines, 1))
        (out/'src'/f'{name}.html').write_text(f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>robustfm.{name}</title><style>body{{margin:1em;font-family:system-ui}}'
            f'{css}{HtmlFormatter(style="tango").get_style_defs("pre.src")}</style></head><body><p><a href="../index.html">robustfm</a> · robustfm/{html.escape(p.relative_to(lib).as_posix())}</p><pre class="src">{body}</pre></body></html>', encoding='utf-8')

def related(out):
    "{page: the box below its title}: the room's paper, source and tutorials; the tutorial's rooms"
    a = lambda up,page,text: f'<a href="{up}{page}">{html.escape(text)}</a>'
    cites,home,boxes = papers(),homes(),{}
    lesson_uses = {p:used(p) & home.keys() for p in lessons()}
    anchors = lambda page: set(re.findall(r'\bid="([^"]+)"', (out/page).read_text(encoding='utf-8')))
    known = {html_name(p):anchors(html_name(p)) for p in {*home.values()}}
    link = lambda up,n: a(up, html_name(home[n])+(f'#{n.lower()}' if n.lower() in known[html_name(home[n])] else ''), n)
    for p in rooms():
        if not module(p): continue
        rows,up = [],'../'*(len(p.relative_to(nbs).parts)-1)
        rows += [f'Paper: {html.escape(ref.replace("*", ""))} (<a href="{url}">text</a>)' for _,ref,url in cites.get(p.stem, [])]
        teach = [l for l in lessons() if lesson_uses[l] & set(public(p))]
        if teach: rows.append('Tutorials: '+' · '.join(a(up, html_name(l), title(l)) for l in teach))
        rows.append('Source: '+a(up, f'src/{module(p).removeprefix("robustfm.")}.html', module(p).replace('.', '/')+'.py')+' · '+a(up, 'pages/glossary.html', 'glossary')+' · '+a(up, 'pages/cite.html', 'how to cite'))
        boxes[html_name(p)] = f'<nav class="related">{"".join(f"<div>{r}</div>" for r in rows)}</nav>'
    for p in lessons():
        up = '../'*(len(p.relative_to(nbs).parts)-1)
        by = {}
        for n in sorted(lesson_uses[p], key=str.lower): by.setdefault(home[n], []).append(n)
        rows = [a(up, html_name(h), title(h))+': '+', '.join(link(up, n) for n in names) for h,names in sorted(by.items(), key=lambda o: o[0].name)]
        if rows: boxes[html_name(p)] = f'<nav class="related"><div>What it uses</div>{"".join(f"<div>{r}</div>" for r in rows)}</nav>'
    return boxes
