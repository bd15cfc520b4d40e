"Kinds: an answer that is told before it is asked, text that becomes HTML on the way, a page or a demo that asks another server"
import json, re
import pytest
from robustfm.teach import classroom, course

pytest.importorskip('latex2mathml', reason='needs latex2mathml: pip install robustfm[classroom]')

FAULTS = [('learner-F3', 'answer told too early', 'test_copies_carry_no_answers'),
          ('bugs-nb-8', 'answer told too early', 'test_an_answer_waits_for_the_guess'),
          ('teacher-A3', 'answer told too early', 'test_slides_ask_first'),
          ('teacher-B13', 'does not fit the screen', 'test_slides_go_on_where_the_screen_ends'),
          ('breaker-1.4', 'one bad formula stops all', 'test_a_bad_formula_stays_text'),
          ('breaker-3.1', 'escaped text becomes HTML again', 'test_no_formula_becomes_html'),
          ('breaker-3.1', 'escaped text becomes HTML again', 'test_outputs_hold_no_formulas'),
          ('breaker-3.2', 'HTML of notebooks runs, pictures are fetched', 'test_what_stands_in_prose_is_sanitised'),
          ('teacher-A10', 'asks another server', 'test_the_demo_has_its_own_icons'),
          ('bugs-nb-1', 'control unheard', 'test_the_guess_is_heard'),
          ('bugs-nb-11', 'theme', 'test_grey_is_the_themes_grey')]

def prose(text): return dict(cell_type='markdown', metadata={}, source=text)
def code(text, *outputs): return dict(cell_type='code', metadata={}, source=text, outputs=list(outputs), execution_count=None)
def says(text): return dict(output_type='stream', name='stdout', text=text)
def rich(**data): return dict(output_type='display_data', metadata={}, data={k.replace('__','/'):v for k,v in data.items()})
png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

def book(folder, *cells, name='01_one'):
    folder.mkdir(exist_ok=True)
    (folder/f'{name}.ipynb').write_text(json.dumps(dict(cells=list(cells), metadata={}, nbformat=4, nbformat_minor=4)))
    return folder/f'{name}.ipynb'

@pytest.mark.parametrize('tex', [r'x^', '_', r'\begin{matrix}', r'\left( x', r'\frac', r'\frac{1', '}{', r'\sqrt[', r'x^{', r'\text{a<b}', '&', r'\hline'])
def test_a_bad_formula_stays_text(tex, tmp_path):
    "No exception; what is good beside it is drawn"
    page = classroom.mathml(f'<p>${tex}$ and $y$</p>'.replace('a<b', 'a&lt;b'))
    assert '<math' in page and page.count('<script')==0
    path = book(tmp_path/'c', prose('# One'), prose(f'A formula ${tex}$.'))
    assert len(classroom.handouts(tmp_path/'out', path.parent))==2

@pytest.mark.parametrize('tex', [r'\text{<svg/onload=window.x=1>}', r'\text{<svg onload="x"></svg>}', r'\color{"><img src=x onerror=x>}y', r'\href{javascript:x}{y}',
    r'\text{<script>x</script>}', r'\mbox{<iframe src=x></iframe>}', r'\operatorname{<b>}', r'\color{red" onclick="x}y', r'\textbf{<a href="javascript:x">y</a>}'])
def test_no_formula_becomes_html(tex):
    import html
    page = classroom.mathml(f'<p>${html.escape(tex)}$</p>')
    assert not re.search(r'<(?:svg|img|script|iframe|b|a)\b', page) and not re.search(r'<[^>]*(?:\son\w+\s*=|javascript:)[^>]*>', re.sub(r'="[^"]*"', '=""', page))
    assert 'href' not in re.sub(r'>[^<]*<', '><', page)

def test_outputs_hold_no_formulas(tmp_path):
    table = r'<table><tr><td>$\text{&lt;svg/onload=x&gt;}$</td><td>$5 and $6</td></tr></table>'
    page  = classroom.handout(book(tmp_path, prose('# One'), code('t', rich(text__html=table))))
    assert '<svg' not in page and '<math' not in page and '$5 and $6' in page

@pytest.mark.parametrize('text', ['<img src=x onerror="x()">', '<script>x()</script>', '<iframe src="https://e.example"></iframe>', '<a href="javascript:x()">y</a>',
    '![p](http://e.example/p.png)', '![](//e.example/p.png)', '<img src="https://e.example/p.png">', '<object data="x"></object>'])
def test_what_stands_in_prose_is_sanitised(text, tmp_path):
    for page in (classroom.handout, classroom.slides):
        out  = page(book(tmp_path, prose('# One'), prose(text)))
        body = out[out.index('<body>'):].split('<script>\nconst at')[0]
        assert not re.search(r'<(?:script|iframe|object)\b|<[^>]+\son\w+\s*=|<[^>]+javascript:|<[^>]+\ssrc\s*=\s*"?(?:https?:)?//', body)

quiz = [prose('# One'), code("predict('k', 'How many?', low=0, high=10)", rich(text__html='<b>Predict first.</b> How many?')),
        code("print(7)\nreveal('k', 7)", says('7\nno guess was locked: the answer is 7\n'), rich(image__png=png)),
        code("def f(): ...\n\ncheck('pgd', f);", says('✗ pgd: it returns None')), code("if check('pgd', f):\n    print(1)", says('✗ pgd: None')),
        code('progress()', rich(text__html='0 of 1')), code('print("kept")', says('kept\n'))]

def test_copies_carry_no_answers(tmp_path, monkeypatch):
    book(tmp_path/'from', *quiz)
    monkeypatch.setattr(classroom, 'tutorials_folder', lambda: tmp_path/'from')
    text = (classroom.copy_course(tmp_path/'to')/'01_one.ipynb').read_text()
    assert 'the answer is' not in text and '✗' not in text and '0 of 1' not in text
    assert png in text and 'kept' in text and 'How many' in text
    with pytest.raises(FileExistsError, match='not empty'): classroom.copy_course(tmp_path/'to')

def test_the_course_itself_is_copied_without_answers(tmp_path):
    for p in classroom.copy_course(tmp_path/'course').glob('*.ipynb'):
        assert not re.search(r'no guess was locked|you guessed|guesses locked', p.read_text(encoding='utf-8')), p.name

def test_handouts_tell_no_answers(tmp_path): assert 'the answer is' not in classroom.handout(book(tmp_path, *quiz))

def test_slides_ask_first(tmp_path):
    "The answer stands on the slide after its question, and what is for readers at their keyboard on none"
    deck = classroom.slides(book(tmp_path, *quiz)).split('<section>')[1:]
    asked,told = ([i for i,s in enumerate(deck) if w in s] for w in ('How many?','the answer is 7'))
    assert asked and told and max(asked)<min(told) and not any('✗' in s or '0 of 1' in s for s in deck)

def test_slides_go_on_where_the_screen_ends(tmp_path):
    page = classroom.slides(book(tmp_path, *quiz))
    assert 'scrollHeight>innerHeight' in page and page.count('<section><div>')==page.count('<section>')

# --- a demo without code cells

@pytest.fixture
def stage(monkeypatch):
    "As under Voilà"
    from types import SimpleNamespace
    monkeypatch.setenv('SERVER_SOFTWARE', 'voila/0.5')
    monkeypatch.setattr(course, '_book', SimpleNamespace(predictions={}, exercises={}, file=None))
    monkeypatch.setattr(course, '_waiting', {})
    monkeypatch.setattr(course, '_alive', lambda: True)
    shown = []
    monkeypatch.setattr(course, '_display_widget', shown.append)
    return shown

@pytest.mark.parametrize('how,words', [('lock','you guessed 3, it is 7'), ('skip','no guess was locked: the answer is 7')])
def test_an_answer_waits_for_the_guess(stage, capsys, how, words):
    p = course.predict('k', 'How many?', low=0, high=10)
    course.reveal('k', 7, tolerance=1)
    answer = stage[-1].children[0]
    assert '7' not in answer.value and 'the answer is' not in capsys.readouterr().out
    assert 'robustfm-told' not in p.shown._dom_classes and p.skip.layout.display!='none'
    p.control.value = 3
    (p.button if how=='lock' else p.skip).click()
    assert words in answer.value and 'locked after' not in answer.value and 'robustfm-told' in p.shown._dom_classes

def test_a_demo_shows_no_budget_and_no_exercise(stage, capsys):
    course.budget(dict(a=1))
    course.exercise('pgd') if 'pgd' in course.checkers else None
    from robustfm.teach import check
    assert check('pgd', lambda *a: None) is False
    course.progress()
    assert capsys.readouterr().out==''

def test_what_follows_an_open_question_is_hidden(stage, capsys):
    course.predict('k', 'How many?', low=0, high=10)
    assert 'robustfm-question' in course._curtain and ':has(.robustfm-told)' in course._curtain

def test_the_demo_has_its_own_icons():
    pytest.importorskip('voila')
    command = classroom.voila_command(1)
    assert '--template=offline' in command and 'serve()' in command[2]
    assert "replace('https://cdn.jsdelivr.net/npm/'" in classroom._template

def test_the_guess_is_heard():
    "Its controls go through the box that answers while a cell runs"
    p = course.predict('heard', 'How many?', low=0, high=10)
    p.box()
    for w in (p.control, p.button, p.skip):
        if hasattr(w.comm, '_reply_subshell_for'): assert w.comm._reply_subshell_for('data', 'asked')=='asked'
    assert 'robustfm-live' in p.shown._dom_classes

def test_grey_is_the_themes_grey():
    import inspect
    text = inspect.getsource(course)
    assert not re.search(r'color:\s*#|background:\s*#', text) and 'var(--jp-ui-font-color2' in text
