"""Keeps the notebooks in order: what they are, how they are run, and what is rendered from them.

    python tests/house.py export               notebooks -> robustfm/
    python tests/house.py run [NOTEBOOK ...]   execute in place, storing outputs (all notebooks, or those named)
    python tests/house.py readme               nbs/index.ipynb -> README.md
    python tests/house.py docs                 every notebook -> _docs/, pages that need no network (tests/docsite.py)"""
import ast, json, multiprocessing, os, posixpath, re, shutil, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
nbs,lib = root/'nbs',root/'robustfm'
tutorials = nbs/'tutorials'

def hidden(path): return any(p.startswith(('_','.')) for p in path.relative_to(root).parts)
def notebooks(): return sorted(p for p in nbs.rglob('*.ipynb') if not hidden(p))
def rooms(): return [p for p in notebooks() if tutorials not in p.parents]
def lessons(): return [p for p in notebooks() if tutorials in p.parents]
def name(path): return path.relative_to(nbs).as_posix()

# --- what a notebook says

def read(path): return json.loads(path.read_text(encoding='utf-8'))

def source(cell): return ''.join(cell['source'])

def directives(cell):
    "The `#|` lines of a cell: {word: rest of the line}"
    found = re.findall(r'^#\|[ \t]*([\w-]+):?[ \t]*(.*)$', source(cell), re.M) if cell['cell_type']=='code' else []
    return {k: v.strip() for k,v in found}

def exported(path):
    "The code that a notebook exports, as one syntax tree"
    code = [source(c) for c in read(path)['cells'] if {'export','exports','exporti'} & set(directives(c))]
    return ast.parse('\n\n'.join(code))

def module(path):
    "The module that a notebook writes, 'robustfm.data', or None"
    for c in read(path)['cells']:
        if 'default_exp' in (d := directives(c)): return 'robustfm.'+d['default_exp']

def number(path):
    "The number in a notebook's name: its place in the house, the tens digit is the floor (107 is room 7 of floor 1). One digit: the ground, below all rooms"
    m = re.match(r'(\d+)_', path.name)
    return None if m is None else -1 if len(m[1])==1 else int(m[1])/10 if len(m[1])==3 else int(m[1])

def imports(tree):
    "(line, module) of every import in `tree`; `from a import b` counts as a.b as well, for b may be a module"
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): yield from ((n.lineno, a.name) for a in n.names)
        elif isinstance(n, ast.ImportFrom) and not n.level:
            yield n.lineno, n.module
            yield from ((n.lineno, f'{n.module}.{a.name}') for a in n.names)

# --- writing the modules

def export():
    "What `nbdev_export` does, with `__all__` no wider than the rest"
    import textwrap
    from nbdev import maker
    from nbdev.doclinks import nbdev_export
    class Narrow(textwrap.TextWrapper):
        def __init__(self, width=0, **kw): super().__init__(width=99, **kw)    # `__all__ = ` stands before the first line
    maker.TextWrapper = Narrow
    nbdev_export.__wrapped__()

# --- running one

def settings():
    from configparser import ConfigParser
    ini = ConfigParser(delimiters=['=']); ini.read(root/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']

def skipped(cell):
    "Cells that a test run leaves out: those with a flag of settings.ini, and those never evaluated"
    d = directives(cell)
    return bool(set(d) & set(settings()['tst_flags'].split())) or d.get('eval')=='false' or 'nbdev_export(' in source(cell)

def _run_here(path, log):
    "In a process of its own: nbdev's runner on one notebook, everything it prints into `log`"
    out = os.open(log, os.O_WRONLY|os.O_CREAT|os.O_TRUNC)
    os.dup2(out, 1); os.dup2(out, 2)
    os.chdir(root)
    from nbdev.test import test_nb
    ok,_ = test_nb(Path(path), skip_flags=settings()['tst_flags'].split(), basepath=root)
    sys.stdout.flush(); sys.stderr.flush()
    os._exit(not ok) # a plain exit would wait for threads that a notebook left

def run_alone(path, log, timeout=600):
    "Run the notebook at `path` from a fresh interpreter. A server that has torch imported already forks it, so that it starts at once. -> (passed?, output)"
    fork = 'forkserver' in multiprocessing.get_all_start_methods()
    ctx = multiprocessing.get_context('forkserver' if fork else 'spawn')
    if fork: ctx.set_forkserver_preload(['robustfm','torch','torchvision','nbdev.test'])
    p = ctx.Process(target=_run_here, args=(str(path), str(log)))
    p.start(); p.join(timeout)
    if p.exitcode is None: p.kill(); p.join()
    text = Path(log).read_text(encoding='utf-8', errors='replace') if Path(log).exists() else ''
    return p.exitcode==0, text + (f'\nended with exit code {p.exitcode}' if p.exitcode not in (0,1) else '')

def execute(path, timeout=900):
    "The notebook at `path`, run in a kernel as JupyterLab does. Cells that a test run leaves out keep their outputs"
    import nbformat
    from nbclient import NotebookClient
    class Client(NotebookClient):
        async def async_execute_cell(self, cell, cell_index, **kw):
            return cell if skipped(cell) else await super().async_execute_cell(cell, cell_index, **kw)
    nb = nbformat.read(path, as_version=4)
    Client(nb, timeout=timeout, kernel_name='python3', store_widget_state=False, record_timing=False,
           resources=dict(metadata=dict(path=str(path.parent)))).execute()
    return nb

def _passing(o):
    "Progress bars and live widgets: what changes from run to run, or shows nothing in a stored notebook"
    return o['output_type']=='stream' and '\r' in ''.join(o['text']) or 'application/vnd.jupyter.widget-view+json' in o.get('data', {})

def _holds(d, key):
    "Is there a `key` anywhere in nested dicts and lists?"
    return key in d or any(_holds(v, key) for v in d.values()) if isinstance(d, dict) else isinstance(d, list) and any(_holds(v, key) for v in d)

def tidy(nb):
    "Without what passes, and what was printed in pieces in one piece. A figure with a 'source' inside keeps its picture only: nbdev_clean takes every 'source' for a cell's, and would break it"
    for c in nb['cells']:
        if c['cell_type']!='code': continue
        kept = []
        for o in c['outputs']:
            if _passing(o): continue
            if _holds(o.get('data', {}).get('application/vnd.plotly.v1+json', {}), 'source'): del o['data']['application/vnd.plotly.v1+json']
            if kept and o['output_type']=='stream' and kept[-1].get('name')==o['name']: kept[-1]['text'] = ''.join(kept[-1]['text'])+''.join(o['text'])
            else: kept.append(o)
        c['outputs'] = kept
    return nb

def cleaned(path, nb=None):
    "The text that `nbdev_clean` would write for the notebook at `path`"
    from execnb.nbio import dict2nb, nb2str
    from nbdev.clean import clean_nb
    nb = dict2nb(nb or read(path))
    clean_nb(nb, clean_ids=True)
    return nb2str(nb)

def store(path):
    "Execute the notebook at `path` and keep its outputs in it"
    nb = json.loads(json.dumps(tidy(execute(path))))
    new = path.with_suffix('.tmp')
    new.write_text(cleaned(path, nb), encoding='utf-8')
    new.replace(path)

# --- rendering

def _output(o):
    if o['output_type']=='stream': return f"```\n{''.join(o['text']).rstrip()}\n```"
    data = o.get('data', {})
    if 'text/markdown' in data: return _from_root(''.join(data['text/markdown']))
    if any(k.startswith('image/') for k in data): raise ValueError('a picture in the README must be a file beside index.ipynb, shown by a markdown cell')
    return f"```\n{''.join(data['text/plain']).rstrip()}\n```" if 'text/plain' in data else ''

def _from_root(text):
    "Links relative to nbs/ become relative to the folder of README.md"
    def fix(m): return m[1] + (m[2] if re.match(r'[a-z]+:|#|/', m[2]) else posixpath.normpath(posixpath.join('nbs', m[2]))) + m[3]
    return re.sub(r'(\]\(|(?:src|href)=")([^)"\s]+)(\)|")', fix, text)

def readme():
    "The text of README.md: index.ipynb with its stored outputs"
    parts = ['<!-- Made from nbs/index.ipynb by `make export`: edit that -->']
    for c in read(nbs/'index.ipynb')['cells']:
        d,text = directives(c),source(c)
        if c['cell_type']=='markdown': parts.append(_from_root(text))
        elif c['cell_type']=='code' and 'hide' not in d:
            if d.get('echo')!='false': parts.append(f"```python\n{re.sub(r'(?m)^#[|].*$', '', text).strip()}\n```")
            parts += filter(None, map(_output, c['outputs']))
    return '\n\n'.join(p.strip('\n') for p in parts) + '\n'

def pictures():
    "What the browser tests photographed, small enough to keep: for nbs/pages/explorers.md"
    from PIL import Image
    (nbs/'pages'/'explorers').mkdir(exist_ok=True)
    for p in (root/'.data'/'pictures').glob('page_*.png'):
        Image.open(p).convert('RGB').quantize(64, dither=Image.Dither.NONE).save(nbs/'pages'/'explorers'/p.name.removeprefix('page_'), optimize=True)

def main(what='', *names):
    if what=='readme': (root/'README.md').write_text(readme(), encoding='utf-8')
    elif what=='export': export()
    elif what=='pictures': pictures()
    elif what=='docs':
        from docsite import docs
        print(docs()/'index.html')
    elif what=='run':
        for p in [Path(n).resolve() for n in names] or notebooks():
            print(name(p), end=' ', flush=True); store(p); print(f'{p.stat().st_size/1000:.0f} kB')
    else: sys.exit(__doc__)

if __name__=='__main__': main(*sys.argv[1:])
