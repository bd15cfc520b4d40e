"""Does what a chapter claims hold for other seeds? Runs chapters with every `torch.manual_seed` shifted and keeps which claims held, and the numbers

    python tests/bench/chapter_seeds.py [CHAPTER ...] --seeds 0 1 2 3 4

A claim is an `assert` of a chapter's last cell. A chapter that wants its numbers kept puts them into a dict called `numbers`.
Seed 0 is the chapter as it stands. Each run is written as soon as it is done, and one that is there is not made again."""
import argparse, ast, json, sys
from datetime import date
from pathlib import Path
import nbformat
from nbclient import NotebookClient
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from house import lessons, name, number, skipped, source, tutorials

kept = tutorials/'results'/'chapter_seeds.json'
first = """import robustfm, torch
_seeded = torch.manual_seed
torch.manual_seed = lambda seed: _seeded(int(seed)+{shift})
torch.manual_seed(0)"""
last = """import json as _json
_json.dump(dict(claims=_claims, numbers={k:float(v) for k,v in globals().get('numbers', {}).items()}), open(%r, 'w'))"""

def noted(text):
    "The last cell, with each `assert` noted in place of being raised"
    lines = ['_claims = {}']
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assert): lines.append(f'_claims[{ast.unparse(node.test)!r}] = bool({ast.unparse(node.test)})')
        else: lines.append(ast.unparse(node))
    return '\n'.join(lines)

def run(path, seed, out):
    "Claims and numbers of the chapter at `path` under another seed"
    nb = nbformat.read(path, as_version=4)
    cells = [c for c in nb.cells if not (c.cell_type=='code' and skipped(c))]
    end = max(i for i,c in enumerate(cells) if c.cell_type=='code' and 'assert ' in source(c))
    cells[end].source = noted(cells[end].source)
    code = nbformat.v4.new_code_cell
    nb.cells = [code(first.format(shift=seed*7919)), *cells[:end+1], code(last % str(out))]
    NotebookClient(nb, timeout=1800, kernel_name='python3', store_widget_state=False, resources=dict(metadata=dict(path=str(path.parent)))).execute()
    return json.loads(out.read_text())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('chapters', nargs='*', type=int)
    p.add_argument('--seeds', nargs='+', type=int, default=[0,1,2,3,4])
    p.add_argument('--again', action='store_true', help='make runs anew that are there')
    a = p.parse_args()
    runs = json.loads(kept.read_text())['runs'] if kept.exists() else []
    out = kept.with_suffix('.part')
    for path in lessons():
        n = number(path)
        if n is None or (a.chapters and n not in a.chapters): continue
        for seed in a.seeds:
            old = next((r for r in runs if r['chapter']==n and r['seed']==seed), None)
            if old and not a.again: continue
            found = run(path, seed, out)
            runs = sorted([r for r in runs if r is not old] + [dict(chapter=n, seed=seed, date=str(date.today()), **found)], key=lambda r: (r['chapter'],r['seed']))
            command = 'python tests/bench/chapter_seeds.py'
            kept.write_text(json.dumps(dict(command=command, runs=runs), indent=1, ensure_ascii=False)+'\n', encoding='utf-8')
            broken = [k for k,v in found['claims'].items() if not v]
            print(f"{name(path)} seed {seed}: {len(found['claims'])} claims" + ''.join(f'\n    NOT: {k}' for k in broken), flush=True)
    out.unlink(missing_ok=True)

if __name__=='__main__': main()
