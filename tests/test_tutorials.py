"The chapters of the course: each runs from top to bottom without an answer, says what it promises, and asserts what it claims"
import ast, os, re, subprocess, sys
import pytest
from house import lessons, name, read, source, number, execute, root

chapters = [p for p in lessons() if number(p) is not None]
each = pytest.mark.parametrize('path', chapters, ids=name)
def code(path): return [c for c in read(path)['cells'] if c['cell_type']=='code']
def text(path): return '\n'.join(source(c) for c in read(path)['cells'] if c['cell_type']=='markdown')
def said(o): return ''.join(o.get('text', [])) + ''.join(''.join(v) for k,v in o.get('data', {}).items() if k.startswith('text/'))

def test_the_course_is_whole(): assert [number(p) for p in chapters]==list(range(13))

@pytest.mark.slow
@each
def test_runs_at_laptop_budget(path, monkeypatch):
    "In a kernel, one thread, with nobody there to answer; nothing is said on stderr"
    monkeypatch.delenv('ROBUSTFM_BUDGET', raising=False)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    nb = execute(path, timeout=600)
    bad = [said(o)[:300] for c in nb.cells if c.cell_type=='code' for o in c.outputs if o.output_type=='error' or o.get('name')=='stderr' and '\r' not in o.text or re.search(r'\w*Warning:', said(o))]
    assert not bad

@each
def test_opens_and_closes_as_promised(path):
    cells,t = read(path)['cells'],text(path)
    assert re.match(r'# .+\n\n?> .+', source(cells[0])), 'first cell: a title and one sentence'
    opening = '\n'.join(source(c) for c in cells[:3] if c['cell_type']=='markdown')
    for words in ('You will be able to','You need','minutes'): assert words in opening, f'the opening lacks {words!r}'
    assert source(cells[-1]).startswith('## Takeaways') and '**Sources.**' in source(cells[-1]), 'last cell: takeaways and sources'
    calls = [n for c in code(path) for n in ast.walk(ast.parse(source(c))) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for f in ('budget','predict','reveal','exercise','progress'): assert f in {n.func.id for n in calls}, f'no {f}() in this chapter'
    asked,shown = ({n.args[0].value for n in calls if n.func.id==f and isinstance(n.args[0], ast.Constant)} for f in ('predict','reveal'))
    assert asked==shown, 'each guess is revealed, and each answer was asked for'

@each
def test_last_cell_asserts_the_claim(path):
    tree = ast.parse(source(code(path)[-1]))
    claims = [n for n in tree.body if isinstance(n, ast.Assert)]
    assert claims and not any(isinstance(n.test, ast.Constant) for n in claims)

@each
def test_outputs_are_stored_and_belong_to_everyone(path):
    cells,t = code(path),path.read_text(encoding='utf-8')
    assert path.stat().st_size<=700_000
    silent = [source(c)[:80] for c in cells if not c['outputs'] and re.search(r'^(print|reveal|predict|budget|check\w*|exercise|progress)\(', source(c), re.M)]
    assert not silent, f'run it once: `make notebooks ARGS={path.relative_to(root)}`'
    outs = [said(o) for c in cells for o in c['outputs']]
    assert not [o for c in cells for o in c['outputs'] if o['output_type']=='error' or o.get('name')=='stderr']
    assert not [o[:200] for o in outs if re.search(r'\w*Warning:|(?<![\w.:/~-])/(?:tmp|usr|opt|var)/', o)]
    assert any(k=='image/png' for c in cells for o in c['outputs'] for k in o.get('data', {})), 'no picture: on GitHub nobody sees a widget'

def exercises():
    "(chapter, the call, what the chapter imports and what it defines above)"
    for p in chapters:
        trees = [ast.parse(source(c)) for c in code(p)]
        above = [n for t in trees for n in ast.walk(t) if isinstance(n, (ast.Import,ast.ImportFrom))]
        for tree in trees:
            for n in ast.walk(tree):
                if isinstance(n, ast.Call) and getattr(n.func, 'id', '')=='exercise': yield p,n,list(above)
            above += [n for n in tree.body if isinstance(n, (ast.ClassDef,ast.FunctionDef))]

def test_there_are_exercises(): assert {number(p) for p,*_ in exercises()}==set(range(13))

@pytest.mark.parametrize('path,call,above', list(exercises()), ids=[f'{number(p)}-{c.args[0].value}' for p,c,_ in exercises()])
def test_a_chapter_names_an_exercise_and_its_solution_is_right(path, call, above):
    "The cell that everybody sees says `exercise('pgd')` and no more; what is folded there runs in the chapter as it stands"
    from robustfm.teach import checkers
    assert len(call.args)==1 and not call.keywords, 'task, hint and solution stand in 42_checks, not above the reader\'s empty cell'
    e,space = checkers[call.args[0].value],{}
    assert e.hint and e.text() and e.task!=e.key
    exec('from robustfm.all import *\nfrom robustfm.teach import *', space)
    for n in above: # what the chapter defined before; a default may need a value that only a run has
        try: exec(compile(ast.Module([n], []), path.name, 'exec'), space)
        except NameError: continue
    exec(e.text(), space)
    made = [n.name for n in ast.parse(e.text()).body if isinstance(n, (ast.FunctionDef,ast.ClassDef))]
    assert e.told(space[made[-1]])[0], e.told(space[made[-1]])

@each
def test_the_book_tells_demonstrations_from_tries(path):
    "What the chapter defines itself is demonstrated; `check` gets what the reader writes, which as it stands is empty"
    from robustfm.teach import checkers
    empty = lambda n: isinstance(n.body[-1], ast.Expr) or all(isinstance(f.body[-1], ast.Expr) or f.name=='__init__' for f in n.body if isinstance(f, ast.FunctionDef))
    trees = [ast.parse(source(c)) for c in code(path)]
    stubs = {n.name for t in trees for n in t.body if isinstance(n, (ast.FunctionDef,ast.ClassDef)) and empty(n)}
    doors = {'check':1} | {f'check_{k}':0 for k in checkers}
    given = [n.args[doors[n.func.id]] for t in trees for n in ast.walk(t) if isinstance(n, ast.Call) and getattr(n.func, 'id', '') in doors]
    assert given and all(isinstance(a, ast.Name) and a.id in stubs for a in given)

@each
def test_no_answer_stands_in_the_cell_after_its_question(path):
    "What `reveal` is given is computed"
    calls = [n for c in code(path) for n in ast.walk(ast.parse(source(c))) if isinstance(n, ast.Call) and getattr(n.func, 'id', '')=='reveal']
    assert calls and not [n.args[0].value for n in calls if isinstance(n.args[1], ast.Constant)]

@pytest.mark.slow
def test_a_newcomer_gets_the_course(tmp_path):
    "From the built wheel, in an environment without our checkout; `python tests/newcomer.py` does it with an empty one and chapters 1, 2 and 8"
    r = subprocess.run([sys.executable, str(root/'tests'/'newcomer.py'), '--shared', '--chapters', '1', '--folder', str(tmp_path)], capture_output=True, text=True)
    assert r.returncode==0, r.stdout[-2000:]+r.stderr[-2000:]
    assert len(list((tmp_path/'course').rglob('*.ipynb')))==len(lessons())
