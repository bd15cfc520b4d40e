"What travels: the wheel holds every module and the tutorials, nothing else, and works where there is no checkout"
import os, shutil, subprocess, sys, zipfile
from email import message_from_string
import pytest
from house import root, lib, tutorials, settings
pytestmark = pytest.mark.slow

def sh(*args, **kw):
    "Run a command; its output, or a failure that shows it"
    r = subprocess.run([*map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    assert r.returncode==0, r.stdout[-4000:]
    return r.stdout

def travelling(folder): return {f.relative_to(folder).as_posix() for f in folder.rglob('*') if f.is_file() and not any(p.startswith(('.','_')) for p in f.relative_to(folder).parts)}

@pytest.fixture(scope='module')
def source(tmp_path_factory):
    "A copy of what is needed to build, so that building leaves nothing in the checkout; with a tutorial even while there is none"
    top = tmp_path_factory.mktemp('source')/'robustfm'
    top.mkdir()
    for f in 'settings.ini setup.py pyproject.toml MANIFEST.in README.md LICENSE constraints.txt'.split(): shutil.copy(root/f, top)
    skip = shutil.ignore_patterns('__pycache__', '.*')
    shutil.copytree(lib, top/'robustfm', ignore=skip)
    shutil.copytree(tutorials, top/'nbs'/'tutorials', ignore=skip) if tutorials.is_dir() else (top/'nbs'/'tutorials').mkdir(parents=True)
    run = top/'nbs'/'tutorials'/'runs'/'small'
    run.mkdir(parents=True)
    (run/'history.jsonl').write_text('{}\n')
    (top/'nbs'/'tutorials'/'.ipynb_checkpoints').mkdir()
    (top/'nbs'/'tutorials'/'.ipynb_checkpoints'/'old.ipynb').write_text('{}')
    return top

@pytest.fixture(scope='module')
def built(source):
    "(wheel, sdist): the sdist from the source, and the wheel from the sdist, as a registry would"
    sh(sys.executable, '-m', 'build', '-q', '--no-isolation', '--outdir', source.parent/'dist', source)
    [wheel],[sdist] = (source.parent/'dist').glob('*.whl'),(source.parent/'dist').glob('*.tar.gz')
    return wheel,sdist

def test_wheel_holds_modules_and_tutorials_and_nothing_else(built, source):
    files = set(zipfile.ZipFile(built[0]).namelist())
    modules = {f'robustfm/{p.relative_to(lib).as_posix()}' for p in lib.rglob('*') if p.suffix in ('.py','.js','.css','.toml','.csv','.safetensors')}
    assert modules <= files, 'a folder of robustfm/ without __init__.py? `make export` adds it'
    lessons = {f'robustfm/tutorials/{f}' for f in travelling(source/'nbs'/'tutorials')}
    assert 'robustfm/tutorials/runs/small/history.jsonl' in lessons and lessons <= files
    rest = {f for f in files-modules-lessons if '.dist-info/' not in f}
    assert not rest
    assert built[0].stat().st_size < 6e6

def test_metadata(built):
    z,ini = zipfile.ZipFile(built[0]),settings()
    info = next(f for f in z.namelist() if f.endswith('.dist-info/METADATA')).rsplit('/', 1)[0]
    m = message_from_string(z.read(f'{info}/METADATA').decode())
    assert (m['Name'],m['Version'],m['License-Expression'],m['Requires-Python']) == ('robustfm', ini['version'], 'Apache-2.0', '>='+ini['min_python'])
    needs = m.get_all('Requires-Dist')
    assert {f'torch>=2.10','torchvision>=0.25'} <= {n.replace(' ', '') for n in needs}
    core = [n for n in needs if 'extra ==' not in n]
    assert not [n for n in core if '<' in n.split(';')[0] or '==' in n.split(';')[0]], 'a library that caps its dependencies breaks beside everything else its users have'
    assert not [n for n in core if n.startswith(('fastcore','nbdev'))]
    assert {'dev','autoattack','timm'} <= set(m.get_all('Provides-Extra'))
    assert 'robustfm = robustfm.cli:main' in z.read(f'{info}/entry_points.txt').decode()
    assert any(f.endswith('LICENSE') for f in z.namelist())

def test_installed_wheel_works_alone(built, tmp_path):
    "In an environment that shares our dependencies but not our checkout"
    env = tmp_path/'env'
    sh(sys.executable, '-m', 'venv', '--without-pip', env)
    scripts = env/('Scripts' if os.name=='nt' else 'bin')
    py = scripts/'python'
    sh(sys.executable, '-m', 'pip', '-q', '--python', py, 'install', '--no-deps', '--no-index', built[0])
    ours = sh(sys.executable, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip()
    theirs = sh(py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip()
    with open(os.path.join(theirs, 'shared.pth'), 'w') as f: f.write(ours+'\n') # a plain path: the editable install there stays unseen
    clean = {k: v for k,v in os.environ.items() if not k.startswith('PYTHON')}
    out = sh(py, '-c', 'import robustfm.all, robustfm._compat as c; print(robustfm.__file__, robustfm.__version__, c.tutorials_folder(), sep="\\n")', cwd=tmp_path, env=clean)
    where,version,folder = out.split('\n')[-4:-1]
    assert where.startswith(str(env)) and folder.startswith(str(env)) and version==settings()['version']
    assert (tmp_path/folder/'runs'/'small'/'history.jsonl').exists()
    ask = 'import torch; from robustfm.zoo import pretrained; c = pretrained("acl"); print(c.card["method"], *c(torch.rand(2,3,32,32)).shape)'
    lonely = clean|dict(HF_HUB_OFFLINE='1', HTTPS_PROXY='http://127.0.0.1:9', HTTP_PROXY='http://127.0.0.1:9', HOME=str(tmp_path/'nobody'))
    assert sh(py, '-c', ask, cwd=tmp_path, env=lonely).split()[-3:]==['acl','2','10']    # what travels with it, without network
    if (lib/'cli.py').exists(): assert 'tutorials' in sh(scripts/'robustfm', '--help', cwd=tmp_path, env=clean)

def test_editable_install_reads_tutorials_where_they_are_edited():
    from robustfm._compat import tutorials_folder
    assert tutorials_folder()==tutorials
