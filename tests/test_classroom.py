"The teacher's kit: pages that need nothing, demos that listen to nobody else, and a class without network"
import ast, hashlib, json, os, re, shutil, socket, subprocess, sys, time, urllib.error, urllib.request, zipfile
from pathlib import Path
import pytest
from house import root, tutorials
from robustfm.teach import classroom
from robustfm.teach.classroom import expected,handout,handouts,install_class,mathml,pack_class,rehearse,slides,voila_command

drawn = pytest.mark.skipif(not __import__('importlib.util').util.find_spec('latex2mathml'), reason='needs latex2mathml: pip install robustfm[classroom]')

def notebook(path, *cells):
    "A notebook: a string is prose, a tuple (code, outputs, metadata)"
    cells = [dict(cell_type='markdown', metadata={}, source=c) if isinstance(c, str) else
             dict(cell_type='code', metadata=c[2] if len(c)>2 else {}, source=c[0], outputs=list(c[1]), execution_count=None) for c in cells]
    path.write_text(json.dumps(dict(cells=cells, metadata=dict(kernelspec=dict(name='python3', display_name='p')), nbformat=4, nbformat_minor=4)))
    return path

def says(text): return dict(output_type='stream', name='stdout', text=text)
def shows(**data): return dict(output_type='display_data', metadata={}, data={k.replace('__','/').replace('_','+'):v for k,v in data.items()})
png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

@pytest.fixture
def course(tmp_path):
    (tmp_path/'c').mkdir()
    notebook(tmp_path/'c'/'01_one.ipynb', '# One\n\n> first', ('#| hide\nsecret = 1', []), '## A figure\n\nOf $n<3$ images, `$HOME` not.', ('draw()', [shows(text__html='<b>live</b>', image__png=png), says('ten\n')]),
             ('left_out', [], dict(slideshow=dict(slide_type='skip'))), '### Then\n\n$$a=\\arg\\max_x b$$')
    notebook(tmp_path/'c'/'02_two.ipynb', '# Two', ('1/0', []))
    return tmp_path/'c'

# --- pages

@drawn
@pytest.mark.parametrize('page,n', [('<p>$x$ and $$y$$</p>', 2), (r'\(x\) \[y\]', 2), ('<pre>$x$</pre><code>$y$</code>', 0), ('<a title="$x$ $y$">z</a><script>"$x$"</script>', 0), ('$ 5 $ no', 0), ('<p>$a&lt;b$</p>', 1), ('$x', 0)])
def test_formulas_are_drawn_and_code_is_left(page, n):
    out = mathml(page)
    assert out.count('<math')==n and (n or out==page)
    assert '<b$' not in out and '<mo><' not in out

@drawn
def test_a_handout_shows_stills_and_hides_what_is_hidden(course):
    page = handout(course/'01_one.ipynb')
    assert f'data:image/png;base64,{png}' in page and 'live' not in page and 'secret' not in page and 'ten' in page and '$HOME' in page
    assert page.count('<math')==2 and 'arg' in page

@drawn
def test_slides_begin_at_headings_and_skip_what_is_skipped(course):
    deck = slides(course/'01_one.ipynb')
    assert deck.count('<section>')==3 and 'left_out' not in deck and 'ArrowRight' in deck
    assert 'draw' not in slides(course/'01_one.ipynb', code=False) and png in slides(course/'01_one.ipynb', code=False)

@drawn
def test_every_chapter_prints_and_projects_without_a_server(tmp_path):
    made = handouts(tmp_path/'out')
    assert len(made)==2*len(list(tutorials.glob('[0-9]*.ipynb')))
    for p in made:
        page = p.read_text()
        assert not re.search(r'(?:src|href)="(?:https?:)?//', re.sub(r'<a [^>]*>', '', page)) and '@import' not in page, p.name
        assert '$$' not in re.sub(r'<pre.*?</pre>', '', page, flags=re.S)

@drawn
@pytest.mark.browser
def test_handout_as_pdf(course, tmp_path, chromium):
    pdf = handouts(tmp_path/'out', course, pdf=True)[2]
    assert pdf.suffix=='.pdf' and pdf.read_bytes().startswith(b'%PDF') and pdf.stat().st_size>5000

def test_without_a_browser_pdf_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(classroom, '_chromium', lambda: None)
    with pytest.raises(FileNotFoundError, match='print it'): classroom._print_pdf(tmp_path/'a.html', tmp_path/'a.pdf')

def test_a_folder_without_chapters_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no chapter'): handouts(tmp_path/'out', tmp_path)

# --- rehearsal

def test_expected_is_what_is_stored(course): assert expected(course/'01_one.ipynb')==[('A figure','ten\n',1)]

@pytest.mark.slow
def test_a_rehearsal_takes_the_time_and_names_what_failed(course, tmp_path):
    notebook(course/'01_one.ipynb', '# One', ('import time; time.sleep(.3)', []), ('print(1)', []))
    book = rehearse(course, save=tmp_path/'times.json')
    assert json.loads((tmp_path/'times.json').read_text())==book and list(book)==['01_one','02_two']
    assert not book['01_one']['failed'] and .3<=book['01_one']['slowest']<=book['01_one']['seconds'] and 'division' in book['02_two']['failed']
    assert rehearse(course, only=[7], save=tmp_path/'times.json')==book

# --- demos

def get(url):
    "Status and text"
    try:
        with urllib.request.urlopen(url, timeout=60) as r: return r.status,r.read().decode(errors='replace'),r.url
    except urllib.error.HTTPError as e: return e.code,'',url

@pytest.mark.slow
def test_a_demo_listens_here_only_and_wants_its_token(course):
    pytest.importorskip('voila')
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    answer = str(2**61-1)           # long enough that no random token of the login page holds it
    notebook(course/'01_one.ipynb', '# One', ("print(2**61-1)", []))
    log = course/'log'
    with open(log, 'w') as f: p = subprocess.Popen(voila_command(1, port, course, browser=False), stdout=f, stderr=subprocess.STDOUT, cwd=course)
    try:
        end = time.time()+120
        while not (m := re.search(r'http://\S+token=(\w+)', log.read_text())) and time.time()<end: assert p.poll() is None, log.read_text(); time.sleep(.3)
        status,text,url = get(f'http://127.0.0.1:{port}/')
        assert status in (401,403) or '/login' in url, (status,url)
        assert answer not in text
        while (page := get(f'http://127.0.0.1:{port}/?token={m[1]}'))[0]!=200 or answer not in page[1]: assert time.time()<end, page; time.sleep(1)
        assert 'print' not in page[1].split('<body')[1].split(answer)[0][-2000:]          # what it shows, not its code
        if Path('/proc/net/tcp').exists():
            listening = [l.split()[1] for f in ('/proc/net/tcp','/proc/net/tcp6') if Path(f).exists() for l in Path(f).read_text().splitlines()[1:] if l.split()[3]=='0A']
            assert {a.split(':')[0] for a in listening if a.endswith(f':{port:04X}')}=={'0100007F'}
    finally: p.terminate(); p.wait(20)

# --- without network

def test_what_a_class_needs_is_found_by_following_requirements():
    names = classroom._needed(['robustfm'])
    assert {'torch','numpy','jupyterlab','plotly','robustfm'} <= names.keys() and 'pytest' not in names
    with pytest.raises(FileNotFoundError, match='not installed here'): classroom._needed(['no-such-distribution'])

@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    "A pack of our own wheel and two small ones"
    f = tmp_path_factory.mktemp('p')/'pack'
    run = f.parent/'small'; run.mkdir(); (run/'config.json').write_text('{}')
    data = f.parent/'cifar'/'cifar-10-batches-py'; data.mkdir(parents=True); (data/'batches.meta').write_bytes(b'meta')
    m = pack_class(f, f.parent/'cifar', [run], only=['robustfm','tqdm','safetensors'], show=None)
    return f,m

def no_network():
    "Words before a command that take its network away, or None"
    if shutil.which('unshare') and subprocess.run(['unshare','-n','true'], capture_output=True).returncode==0: return ['unshare','-n']

@pytest.mark.slow
def test_a_pack_says_what_is_in_it(packed):
    f,m = packed
    assert len(m['wheels'])==3 and not m['complete'] and {'install.py','data/cifar-10-batches-py/batches.meta','course/runs/small/config.json'} <= m['files'].keys()
    assert any(n.startswith('course/01_') for n in m['files']) and 'manifest.json' not in m['files']
    for n,o in m['files'].items(): assert hashlib.sha256((f/n).read_bytes()).hexdigest()==o['sha256']
    assert any(n.startswith('robustfm/tutorials/') for n in zipfile.ZipFile(f/next(w for w in m['wheels'] if 'robustfm' in w)).namelist())
    assert not (root/'build').exists() or (root/'build').stat().st_mtime<f.stat().st_mtime-600  # built in a copy

@pytest.mark.slow
def test_a_class_is_set_up_with_the_network_cut_off(packed, tmp_path):
    "By install.py and by Python alone, as a student would"
    cut = no_network()
    if cut is None: pytest.skip('this system does not let us cut the network off: unshare -n needs root')
    assert subprocess.run([*cut, sys.executable, '-c', 'import socket; socket.create_connection(("127.0.0.1",9), 2)'], capture_output=True).returncode
    r = subprocess.run([*cut, sys.executable, '-I', str(packed[0]/'install.py'), 'env', 'course'], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode==0 and 'ROBUSTFM_DATA=' in r.stdout, r.stdout+r.stderr
    py = tmp_path/'env'/('Scripts' if os.name=='nt' else 'bin')/'python'
    r = subprocess.run([*cut, py, '-I', '-c', 'import robustfm,tqdm,safetensors; print(robustfm.__version__, robustfm.__file__)'], cwd=tmp_path, capture_output=True, text=True)
    from robustfm import __version__
    assert r.stdout.split()[0]==__version__ and str(tmp_path/'env') in r.stdout, r.stderr
    assert (py.parent/'tqdm').exists() and (tmp_path/'course'/'01_attack_without_labels.ipynb').exists()

def test_the_installer_needs_nothing_but_python(tmp_path):
    "Its imports are all of the standard library"
    import inspect
    tree = ast.parse('\n'.join(map(inspect.getsource, (install_class,classroom.check_pack,classroom.this_machine))))
    names = {a.name.split('.')[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names} | {n.module.split('.')[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names and names<=sys.stdlib_module_names

def empty_wheels(names, out):
    for n in names: (out/f'{n}-1.0-py3-none-any.whl').write_bytes(b'a wheel')

@pytest.fixture
def light(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, '_wheels', empty_wheels)
    m = pack_class(tmp_path/'pack', only=['tqdm'], show=None)
    def change(**new): (tmp_path/'pack'/'manifest.json').write_text(json.dumps(m|new))
    return tmp_path/'pack',m,change

spoilt = {
    'a damaged wheel':   (lambda f,m,change: (f/m['wheels'][0]).write_bytes(b'x'), 'checksum differs'),
    'a missing file':    (lambda f,m,change: (f/m['wheels'][0]).unlink(), 'is missing'),
    'no manifest':       (lambda f,m,change: (f/'manifest.json').unlink(), 'is no pack'),
    'half a manifest':   (lambda f,m,change: (f/'manifest.json').write_text((f/'manifest.json').read_text()[:200]), 'is no pack'),
    'not ours':          (lambda f,m,change: (f/'manifest.json').write_text('[]'), 'is no pack'),
    'another Python':    (lambda f,m,change: change(**{'for':m['for']|dict(python='3.1')}), 'is for 3.1'),
    'another machine':   (lambda f,m,change: change(**{'for':m['for']|dict(system='Windows')}), 'your kind of machine'),
    'a file outside':    (lambda f,m,change: change(files=m['files']|{'../evil.whl':dict(sha256='0')}), 'outside the pack'),
    'an unlisted wheel': (lambda f,m,change: change(wheels=[*m['wheels'],'wheels/other.whl']), 'without checksums'),
}

@pytest.mark.parametrize('spoil,words', spoilt.values(), ids=spoilt)
def test_a_spoilt_pack_installs_nothing(light, spoil, words, tmp_path):
    spoil(*light)
    with pytest.raises((ValueError,FileNotFoundError), match=words) as e: install_class(light[0], tmp_path/'env', tmp_path/'course')
    assert not (tmp_path/'env').exists() and not (tmp_path/'course').exists() and '\n' not in str(e.value)

def test_nothing_of_yours_is_overwritten(light, tmp_path):
    with pytest.raises(FileExistsError, match='not empty'): pack_class(light[0], only=['tqdm'])
    (tmp_path/'env').mkdir()
    with pytest.raises(FileExistsError, match='is there already'): install_class(light[0], tmp_path/'env')

def test_half_a_pack_is_removed(tmp_path):
    with pytest.raises(FileNotFoundError, match='no-such-thing is needed and not installed'): pack_class(tmp_path/'pack', only=['tqdm','no-such-thing'], show=None)
    assert not (tmp_path/'pack').exists()

@pytest.mark.parametrize('kw,words', [(dict(root='nowhere'), 'cifar-10-batches-py'), (dict(runs=['nowhere']), 'no run folder')])
def test_what_cannot_be_packed_is_said_before_the_work(tmp_path, kw, words):
    with pytest.raises(FileNotFoundError, match=words): pack_class(tmp_path/'pack', only=['tqdm'], **kw)
    assert not (tmp_path/'pack').exists()

# --- from a shell

def test_the_command_line(course, tmp_path, monkeypatch):
    from typer.testing import CliRunner
    from robustfm.cli import app
    sh = lambda *a: CliRunner().invoke(app, [str(o) for o in a])
    r = sh('classroom', 'pack', tmp_path/'p', '--only', 'tqdm'); assert r.exit_code==0 and '1 wheels' in r.output, r.output
    r = sh('classroom', 'install', tmp_path/'none'); assert isinstance(r.exception, ValueError)
    r = sh('demo-class', 99); assert isinstance(r.exception, (ValueError,ModuleNotFoundError))
    called = []
    monkeypatch.setattr('robustfm.cli._become', called.append)
    r = sh('demo-class', 1, '--source', course, '--no-browser'); assert r.exit_code==0 and '--Voila.ip=127.0.0.1' in called[0] and '--no-browser' in called[0]

def test_commands_of_the_timetable_exist():
    import typer.main
    from robustfm.cli import app
    top = typer.main.get_command(app)
    said = re.findall(r'robustfm ([a-z][\w -]*)', (tutorials/'teacher'/'timetable.md').read_text(encoding='utf-8'))
    assert len(said)>=5
    for line in said:
        c = top
        for word in line.split():
            if not hasattr(c, 'commands'): break
            assert word in c.commands, line
            c = c.commands[word]
