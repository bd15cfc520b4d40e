"""A release, built and tried: what is wrong with it is said before anybody can install it

    python tests/release.py [--pythons 3.10,3.14] [--chapters 1]

The checkout must be clean and its version the same everywhere; wheel and source are built into dist/; the wheel is installed into an empty environment of each Python,
where an encoder of it is asked for and chapters run. Nothing is uploaded: the last line says how."""
import argparse, re, shutil, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
most = 6_000_000                                            # bytes of the wheel

def stop(why): sys.exit(f'no release: {why}')

def version():
    "The one version, if all files agree on it"
    text = {f:(root/f).read_text(encoding='utf-8') for f in ('settings.ini','CITATION.cff','CHANGELOG.md','robustfm/__init__.py')}
    v = re.search(r'^version = (\S+)', text['settings.ini'], re.M)[1]
    for f,said in (('CITATION.cff',f'version: {v}'),('robustfm/__init__.py',f'"{v}"'),('CHANGELOG.md',f'## {v}, 20')):
        if said not in text[f]: stop(f"{f} does not say {said!r}, with the day of the release")
    return v

def build():
    "dist/ anew -> the wheel"
    shutil.rmtree(root/'dist', ignore_errors=True)
    subprocess.run([sys.executable, '-m', 'build', '-q', '--outdir', 'dist', '.'], cwd=root, check=True)
    [wheel] = (root/'dist').glob('*.whl')
    if wheel.stat().st_size>most: stop(f'{wheel.name} has {wheel.stat().st_size:,} bytes, more than {most:,}')
    return wheel

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--pythons', default='3.10,3.14', help='the oldest that is promised and the newest there is')
    p.add_argument('--chapters', default='1')
    a = p.parse_args()
    changed = subprocess.run(['git','status','--porcelain'], cwd=root, capture_output=True, text=True, check=True).stdout
    if changed: stop(f'the checkout has changes:\n{changed}')
    v,wheel = version(),build()
    for python in a.pythons.split(','):
        print(f'== Python {python}', flush=True)
        subprocess.run([sys.executable, root/'tests'/'newcomer.py', '--python', python, '--chapters', a.chapters], check=True)
    print(f'{wheel.name} works. To publish: git tag v{v} && git push --tags && twine upload dist/*')

if __name__=='__main__': main()
