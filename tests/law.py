"""The law of lines: how wide, how long and how dense exported code may be, and how much of it may refuse

    python tests/law.py            a line a module, and every place where the law is broken"""
import ast, io, sys, tokenize
from house import root, lib, lessons, read, source, name

COLUMNS,CHAPTER_COLUMNS,LINES,NODES,RAISE = 110,100,30,350,.12
WHOLE,CORE = 420_000,160_000      # characters: all exported code, and what one reads in a sitting
core = ('tools data shapes datasets augment models attacks losses objective methods/acl methods/air methods/dynacl methods/advcl '
        'methods/ainfonce methods/deacl methods/rocl methods/rcs train finetuning evaluation').split()

def modules():
    "The exported modules by name, without nbdev's index"
    return {p.relative_to(lib).with_suffix('').as_posix(): p.read_text(encoding='utf-8') for p in sorted(lib.rglob('*.py')) if p.name!='_modidx.py'}

def functions(text): return [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef,ast.AsyncFunctionDef))]

def body_lines(f):
    "Lines below the signature and the docstring"
    told = isinstance(getattr(f.body[0], 'value', None), ast.Constant) and len(f.body)>1
    return f.end_lineno-f.body[told].lineno+1

def nodes(f): return sum(1 for _ in ast.walk(f))

def raised(text):
    "Share of the characters that raise errors"
    return sum(len(ast.get_source_segment(text, n) or '') for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Raise))/max(len(text), 1)

def broken(text):
    "Where the law is broken: (line, what)"
    for i,l in enumerate(text.splitlines(), 1):
        if len(l)>COLUMNS: yield i,f'{len(l)} columns'
    for t in tokenize.generate_tokens(io.StringIO(text).readline):
        if t.type==tokenize.OP and t.string==';': yield t.start[0],'two statements on a line'
    for f in functions(text):
        if body_lines(f)>LINES: yield f.lineno,f'{f.name} has {body_lines(f)} lines'
        if nodes(f)>NODES: yield f.lineno,f'{f.name} has {nodes(f)} syntax nodes'
    if raised(text)>RAISE: yield 1,f'{raised(text):.0%} of the characters raise errors'

def wide_cells(path):
    "Code lines of a chapter that a notebook would cut off"
    return [l for c in read(path)['cells'] if c['cell_type']=='code' for l in source(c).splitlines() if len(l)>CHAPTER_COLUMNS]

def mean_columns(text):
    "Characters of a line of code"
    lines = [l for l in text.splitlines() if l.strip() and not l.lstrip().startswith('#')]
    return sum(map(len, lines))/max(len(lines), 1)

def main():
    ms,bad = modules(),0
    for m,text in ms.items():
        found = list(broken(text))
        bad += len(found)
        print(f'{m:22}{len(text):8,} characters{mean_columns(text):6.0f} a line   {len(found) or "-"}')
        for line,what in found: print(f'    {m}.py:{line}: {what}')
    for p in lessons():
        if w := wide_cells(p): bad += len(w); print(f'    {name(p)}: {len(w)} lines wider than {CHAPTER_COLUMNS} columns')
    everything = '\n'.join(ms.values())
    print(f'{sum(map(len, ms.values())):,} characters (at most {WHOLE:,}), the core {sum(len(ms[m]) for m in core if m in ms):,} (at most {CORE:,}); '
          f'{mean_columns(everything):.0f} a line of code; largest function {max(nodes(f) for t in ms.values() for f in functions(t))} syntax nodes; {bad} places')
    return bad

if __name__=='__main__': sys.exit(bool(main()))
