"""Every fault that people brought, by its id, with its kind and the test that would have caught it

    python tests/test_faults.py        the table

Each file of tests/faults/ is a kind or a few, and says in FAULTS = [(id, kind, test)] which faults its tests hold."""
import ast, re, sys
from pathlib import Path

here = Path(__file__).resolve().parent/'faults'

def _ids(report, words): return [f'{report}-{w}' for w in words.split()]

# the numbered faults of the reports of 30 November 2026
brought = [
    *_ids('bugs-ml',      'A1 A2 A3 A4 A5 A6 A7 A9 A10 B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B12 C'),
    *_ids('bugs-nb',      '1 2 3 4 5 6 7 8 9 10 11 12 13'),
    *_ids('differential', 'F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 D1'),
    *_ids('teacher',      'A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13'),
    *_ids('learner',      'F1 F2 F3 F4 F5 F6 F7 F8'),
    *_ids('researcher',   'F0 F1 F2 F3 F4 F5 F6 F7 F8 F9 F9b F10 F11 F13'),
    *_ids('breaker',      '1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.3 2.4 2.5 2.6 2.7 2.8 3.1 3.2 4'),
    *_ids('aesthetics',   '1 2 3 4 5 6'),
]
wishes = [*_ids('teacher', 'B3 B5 B7 B8 B9 B10 B13 colour-blind'), *_ids('learner', '1 2')]      # of layout: beside the numbered faults
not_mended = {}                                  # id: why

def table():
    "(id, kind, file, test) of every fault that a test holds"
    return [(i, kind, p, test) for p in sorted(here.glob('test_*.py')) for i,kind,test in _faults(p)]

def _faults(path):
    "FAULTS of a file: no other line of it is run"
    return next(eval(ast.unparse(n.value)) for n in ast.parse(path.read_text(encoding='utf-8')).body if isinstance(n, ast.Assign) and n.targets[0].id=='FAULTS')

def _names(path): return {n.name for n in ast.walk(ast.parse(path.read_text(encoding='utf-8'))) if isinstance(n, ast.FunctionDef)}

def test_every_fault_has_its_test():
    held = {i for i,*_ in table()}
    def known(b): return b in held or any(re.match(re.escape(b)+r'[-. (]', i) for i in held)
    missing = [b for b in brought if not known(b) and b not in not_mended]
    assert not missing, f'no test of tests/faults/ holds {missing}'
    both = sorted(set(not_mended) & held)
    assert not both, f'{both} are mended and not mended'

def test_the_tests_are_there():
    gone = [(i,p.name,t) for i,_,p,t in table() if t.split('[')[0] not in _names(p)]
    assert not gone

def test_ids_are_known():
    odd = [i for i,*_ in table() if not any(i==b or re.match(re.escape(b)+r'[-. (]', i) for b in (*brought,*wishes))]
    assert not odd, f'{odd} are in no report'

if __name__=='__main__':
    for i,kind,p,test in sorted(table()): print(f'{i:22}{kind:48}{p.name}::{test}')
    for i,why in not_mended.items(): print(f'{i:22}not mended: {why}')
    sys.exit(0)
