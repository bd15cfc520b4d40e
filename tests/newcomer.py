"""What a newcomer does: install the wheel into an empty environment, ask for an encoder that came with it, copy the course out, run chapters of it.

    python tests/newcomer.py [--chapters 1,2,8] [--folder DIR] [--shared | --python 3.10]

--shared takes the dependencies from this environment, so that nothing is downloaded; --python asks uv for another Python. Prints the seconds of each part."""
import argparse, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent

def timed(what, *args, **kw):
    "Run a command; its output, or a failure that shows it"
    t = time.perf_counter()
    r = subprocess.run([*map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    print(f'{what:40} {time.perf_counter()-t:7.1f} s', flush=True)
    if r.returncode: sys.exit(f'{what} failed:\n{r.stdout[-4000:]}')
    return r.stdout

def wheel(folder):
    "Built from a copy, so that building leaves nothing in the checkout"
    copy = folder/'source'
    for d in ('robustfm','nbs/tutorials'): shutil.copytree(root/d, copy/d, ignore=shutil.ignore_patterns('__pycache__', '.*'))
    for f in 'settings.ini setup.py pyproject.toml MANIFEST.in README.md LICENSE constraints.txt'.split(): shutil.copy(root/f, copy)
    timed('building the wheel', sys.executable, '-m', 'build', '-q', '--wheel', '--no-isolation', '--outdir', folder/'dist', copy)
    return next((folder/'dist').glob('*.whl'))

def environment(folder, shared, python=None):
    "An empty environment; its python"
    env = folder/'env'
    if python: timed(f'an environment of Python {python}', sys.executable, '-m', 'uv', 'venv', '-q', '--seed', '--python', python, env)
    else: timed('making an environment', sys.executable, '-m', 'venv', *(['--without-pip'] if shared else []), env)
    py = env/('Scripts' if os.name=='nt' else 'bin')/'python'
    if shared:
        where = lambda p: subprocess.check_output([p, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], text=True).strip()
        (Path(where(py))/'shared.pth').write_text(where(sys.executable)+'\n') # a plain path: the editable install there stays unseen
    return py

def main():
    p = argparse.ArgumentParser()
    p.add_argument('--chapters', default='1,2,8'); p.add_argument('--folder'); p.add_argument('--shared', action='store_true'); p.add_argument('--python')
    a = p.parse_args()
    folder = Path(a.folder or tempfile.mkdtemp()).resolve()
    w,py = wheel(folder),environment(folder, a.shared, a.python)
    pip = [sys.executable, '-m', 'pip', '-q', '--python', py, 'install', '--no-deps', '--no-index'] if a.shared else [py, '-m', 'pip', '-q', '--disable-pip-version-check', 'install']
    timed('pip install', *pip, w)
    clean = {k:v for k,v in os.environ.items() if not k.startswith(('PYTHON','ROBUSTFM','JUPYTER'))} | dict(PATH=f'{py.parent}{os.pathsep}{os.environ["PATH"]}')
    ask = 'from robustfm.zoo import pretrained; import torch; print(pretrained("acl")(torch.rand(1,3,32,32)).shape)'
    timed('an encoder that came with it', py, '-c', ask, cwd=folder, env=clean)
    print(timed('robustfm tutorials ./course', py.parent/'robustfm', 'tutorials', 'course', cwd=folder, env=clean).strip())
    run = 'import sys, nbformat, robustfm\nfrom nbclient import NotebookClient\nnb = nbformat.read(sys.argv[1], 4)\nNotebookClient(nb, timeout=900, kernel_name="python3").execute()\nprint(robustfm.__file__)'
    spec = folder/'kernels'/'kernels'/'python3'; spec.mkdir(parents=True)
    (spec/'kernel.json').write_text('{"argv": ["%s", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "python3", "language": "python"}' % py.as_posix())
    for n in filter(None, a.chapters.split(',')):
        nb  = next(f for f in sorted((folder/'course').glob('*.ipynb')) if re.match(r'0*(\d+)_', f.name)[1]==n)
        out = timed(f'chapter {nb.stem}', py, '-c', run, nb, cwd=folder/'course', env=clean|dict(JUPYTER_PATH=str(folder/'kernels')))
        if not out.strip().splitlines()[-1].startswith(str(folder)): sys.exit(f'chapter {n} ran on another robustfm: {out}')

if __name__=='__main__': main()
