"The walls: who may import whom, that modules are what their notebooks say, and that nothing lies about that should not"
import ast, json, re, shutil, subprocess, sys
from collections import defaultdict
import pytest
import law
from house import root, nbs, lib, notebooks, rooms, lessons, name, read, source, exported, module, number, imports, cleaned, readme

exporting = [p for p in rooms() if module(p)]
floor_of = {module(p): number(p) for p in exporting}
of_floor = {'accelerate': '200_train only', **dict.fromkeys(('plotly','umap','ipywidgets','anywidget'), 'floor 3 only')}

def test_there_is_a_house(): assert exporting and number(nbs/'00_tools.ipynb')==0

@pytest.mark.parametrize('path', exporting, ids=name)
def test_imports_point_down(path):
    "Also those inside functions. The command line is the door to every room: inside its functions it may open all of them"
    here,tree = number(path),exported(path)
    assert here is not None, f'{path.name} exports a module, so its name must begin with its number'
    late = {n.lineno for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f) if hasattr(n, 'lineno')} if module(path)=='robustfm.cli' else ()
    for line,what in imports(tree):
        if what not in floor_of or line in late: continue
        there = floor_of[what]
        assert there<here, f'{path.name} imports {what}, which is not below it'

@pytest.mark.parametrize('path', exporting, ids=name)
def test_each_library_on_its_floor(path):
    here = number(path)
    for line,what in imports(exported(path)):
        package = what.split('.')[0]
        assert package!='fastcore', f'{path.name} exports an import of fastcore, which would hold back the environments of its users'
        if package=='accelerate': assert path.name.startswith('200_'), f'{path.name} imports accelerate: {of_floor[package]}'
        elif package in of_floor: assert here>=30, f'{path.name} imports {package}: {of_floor[package]}'

@pytest.mark.parametrize('path', exporting, ids=name)
def test_no_relative_imports_in_notebooks(path):
    assert not [n for n in ast.walk(exported(path)) if isinstance(n, ast.ImportFrom) and n.level], 'write `from robustfm.x import y`: a notebook has no package to be relative to'

def run(code): return subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)

def test_lower_floors_need_nothing_of_the_upper():
    "A training machine without plotly, umap, ipywidgets and fastcore imports all of floors 0-2"
    blocked = 'plotly umap ipywidgets anywidget fastcore nbdev IPython matplotlib jupyterlab'.split()
    names = [m for m,n in sorted(floor_of.items(), key=lambda o: o[1]) if n<30]
    r = run(f'import sys\nfor b in {blocked}: sys.modules[b] = None\nfrom importlib import import_module\nfor m in {names}: import_module(m)')
    assert r.returncode==0, r.stderr[-3000:]

def test_imports_are_light():
    "What costs seconds is imported where it is used, not where the room begins"
    heavy = 'sklearn plotly accelerate umap ipywidgets matplotlib huggingface_hub typer timm scipy'.split()
    r = run(f'import sys, robustfm, torch, torchvision.models\nbefore = set(sys.modules)\nimport robustfm.all\nprint(*[h for h in {heavy} if h in set(sys.modules)-before])')
    assert r.returncode==0, r.stderr[-3000:]
    assert r.stdout.split()==[], 'these must be imported inside functions'

def test_the_package_alone_loads_no_torch():
    "`robustfm --help` must not wait for torch"
    r = run("import sys, robustfm; assert 'torch' not in sys.modules")
    assert r.returncode==0, r.stderr[-3000:]

def test_all_is_what_one_wants_in_a_notebook():
    "About a hundred names, each of one room; whatever else is public is an attribute of `robustfm.all`, and no name stands in two rooms"
    from importlib import import_module
    import robustfm.all as everything
    owners,values = defaultdict(list),{}
    for m in floor_of:
        if m in ('robustfm.all','robustfm.cli') or m.startswith('robustfm.teach.') or m.split('.')[-1].startswith('_'): continue
        mod = import_module(m)
        for n in mod.__all__: owners[n].append(m); values[n] = getattr(mod, n)
    assert not {n: o for n,o in owners.items() if len(o)>1}, 'one name, two rooms'
    assert len(everything.__all__)<=110 and len(set(everything.__all__))==len(everything.__all__)
    unknown = [n for n in everything.__all__ if n not in values]
    assert not unknown, f'{unknown} are public in no room'
    assert all(getattr(everything, n) is v for n,v in values.items())

@pytest.fixture(scope='module')
def fresh(tmp_path_factory):
    "The package as exported now, into an empty folder"
    top = tmp_path_factory.mktemp('export')
    shutil.copytree(nbs, top/'nbs', ignore=shutil.ignore_patterns('.*', 'runs'))
    shutil.copy(root/'settings.ini', top)
    (top/'robustfm').mkdir()
    shutil.copy(lib/'__init__.py', top/'robustfm')
    r = subprocess.run([sys.executable, '-c', f'import sys; sys.path.insert(0, {str(root/"tests")!r}); import house; house.export()'], cwd=top, capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-3000:]
    return top/'robustfm'

def python_files(folder): return {p.relative_to(folder).as_posix() for p in folder.rglob('*.py') if '__pycache__' not in p.parts}

def test_modules_equal_notebooks(fresh):
    "What is committed is what the notebooks export: run `make export` after editing one"
    assert python_files(lib)==python_files(fresh)
    different = [f for f in sorted(python_files(lib)) if (lib/f).read_text(encoding='utf-8')!=(fresh/f).read_text(encoding='utf-8')]
    assert not different, f'{different} differ from their notebooks: edit the notebook, then `make export`'

@pytest.mark.parametrize('path', notebooks(), ids=name)
def test_notebook_is_clean(path):
    text,nb = path.read_text(encoding='utf-8'),read(path)
    assert text==cleaned(path), 'run `make export`: nbdev_clean would change it'
    assert 'widgets' not in nb['metadata'], 'it stores widget state: `make notebooks ARGS=...` stores outputs without'
    assert path.stat().st_size<=700_000, 'more than 700 kB, which each reader on GitHub downloads'
    ids = [c.get('id') for c in nb['cells']]
    assert len(set(ids))==len(ids), 'two cells have the same id'

@pytest.mark.parametrize('path', rooms(), ids=name)
def test_notebook_begins_with_its_title(path):
    first = read(path)['cells'][0]
    assert first['cell_type']=='markdown' and re.fullmatch(r'# .+\n\n?> .+', source(first).strip()), 'the first cell is `# title`, then `> one sentence`, and nothing else'

def test_readme_is_index(): assert (root/'README.md').read_text(encoding='utf-8')==readme(), 'run `make export`'

def committed():
    "The text files of the repository: (path, text)"
    r = subprocess.run(['git','ls-files','-z'], cwd=root, capture_output=True, text=True)
    paths = [root/f for f in r.stdout.split('\0') if f] if r.returncode==0 else [p for d in (nbs,lib,root/'tests') for p in d.rglob('*') if p.is_file()]
    for p in paths:
        try: yield p, p.read_text(encoding='utf-8')
        except (UnicodeDecodeError, FileNotFoundError): pass

def test_no_paths_of_one_machine():
    mine = re.compile(r'(?<![\w.:/~-])/' + '(?:work|root|Users|home)' + r'/[\w.]')
    found = [f'{p.relative_to(root)}: {m[0]}...' for p,text in committed() if (m := mine.search(text))]
    assert not found

def test_no_pickle_is_loaded():
    for p in lib.rglob('*.py'):
        text = p.read_text(encoding='utf-8')
        assert not re.search(r'weights_only\s*=\s*False|^\s*(?:import|from)\s+(?:pickle|dill|joblib|cloudpickle)\b|allow_pickle\s*=\s*True|pickle\.loads?\(', text, re.M), f'{p.name} reads pickles, which run code'
        for line in re.findall(r'torch\.load\([^\n]*', text): assert re.search(r'weights_only\s*=\s*True', line), f'{p.name}: {line}'

def test_one_version():
    from house import settings
    import robustfm
    assert robustfm.__version__==settings()['version']

# --- the law of lines

@pytest.mark.parametrize('module', sorted(law.modules()))
def test_the_law_of_lines(module):
    assert not list(law.broken(law.modules()[module]))

@pytest.mark.parametrize('path', lessons(), ids=name)
def test_chapters_fit_a_screen(path):
    assert not law.wide_cells(path)
