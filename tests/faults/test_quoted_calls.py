"A call that prose quotes names something that exists, with those arguments"
import ast, builtins, inspect, re
import pytest
from house import lessons, rooms, name, read, source, tutorials
from robustfm import all as library, teach

FAULTS = [('learner-F7-stale', 'promises of what is gone', 'test_a_quoted_call_exists')]

def quoted(text):
    "(the quotation, each call in it) of a text"
    for q in re.findall(r'`([^`\n]+)`', text):
        try: tree = ast.parse(q.replace('…', '...'), mode='eval')
        except SyntaxError: continue                                # a path, an equation, a half of a call
        yield from ((q, n) for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))

def refused(call, own):
    "Why a call cannot be made, or None"
    known = [getattr(m, call.func.id) for m in (library,teach,builtins) if hasattr(m, call.func.id)]
    if not known: return None if call.func.id in own else 'no such name'
    try: takes = inspect.signature(known[0]).parameters
    except ValueError: return None                                  # a class of C: its arguments are not told
    if any(p.kind is p.VAR_KEYWORD for p in takes.values()): return None
    return next((f'no argument {k.arg}' for k in call.keywords if k.arg and k.arg not in takes), None)

def written(path):
    "What a notebook says in prose, and the names that its own code knows"
    cells = read(path)['cells']
    code = '\n'.join(source(c) for c in cells if c['cell_type']=='code')
    return '\n'.join(source(c) for c in cells if c['cell_type']=='markdown'), set(re.findall(r'\w+', code))

texts = {name(p):written(p) for p in [*lessons(),*rooms()]} | {p.name:(p.read_text(encoding='utf-8'), set()) for p in sorted((tutorials/'teacher').glob('*.md'))}

@pytest.mark.parametrize('page', texts)
def test_a_quoted_call_exists(page):
    text,own = texts[page]
    assert not [(q, why) for q,call in quoted(text) if (why := refused(call, own))]

@pytest.mark.parametrize('call,why', [('RCS(…, unit="image")', 'no argument unit'), ('certificate(net)', 'no such name'), ('PGD(Linf(.3), steps=5)', None)])
def test_a_stale_call_is_seen(call, why): assert [refused(n, set()) for _,n in quoted(f'`{call}`')][0]==why
