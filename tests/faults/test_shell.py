"What the command line forgot, could not do, printed where it could not be printed, or left behind"
import json, os, signal, subprocess, sys, time
import pytest, torch
from PIL import Image
from typer.testing import CliRunner
from robustfm import cli
from robustfm.datasets import datasets
from robustfm.models import Encoder,tiny
from robustfm.objective import methods
from robustfm.recipes import build,recipe,recipes,settings_for
from robustfm.runs import open_run

FAULTS = [
    ('bugs-ml-A9',      'forgotten between commands',  'test_size_travels_from_command_to_command'),
    ('bugs-ml-B9',      'a command that cannot work',  'test_stl10_is_pretrained_on_without_labels_and_finetuned_with'),
    ('bugs-nb-6',       'signs a console has not',     'test_any_command_prints_on_any_console'),
    ('bugs-nb-7',       'processes left behind',       'test_a_server_is_ended_with_the_command'),
    ('bugs-nb-10',      'paths as people write them',  'test_home_is_expanded'),
    ('bugs-nb-13',      'paths as people write them',  'test_what_is_to_be_typed_is_quoted'),
    ('researcher-F1',   'lists beside the registry',   'test_the_shell_knows_every_method_and_recipe'),
    ('researcher-F2',   'a recipe not run',            'test_any_setting_is_an_option'),
    ('researcher-F8',   'names that clash',            'test_torchrun_takes_the_run_option'),
    ('differential-F4', 'notes older than the code',   'test_every_recipe_builds'),
    ('differential-F8', 'notes older than the code',   'test_recipes_say_where_the_training_differs'),
    ('aesthetics-4',    'a recipe not run',            'test_the_shell_knows_every_method_and_recipe'),
    ('aesthetics-6',    'rooms named like functions',  'test_no_room_hides_a_function'),
]

small = '--network tiny --images 64 --epochs 1 --bs 32 --opt adam --steps 1'.split()
def sh(*a): return CliRunner().invoke(cli.app, [str(o) for o in a])
def works(*a):
    r = sh(*a)
    assert r.exit_code==0, (r.output, r.exception)
    return r.output
def process(*a, **env): return subprocess.run([sys.executable, '-m', 'robustfm.cli', *map(str, a)], capture_output=True, env=os.environ|env, timeout=120)

def pictures(folder, n=40, size=20):
    for c in 'ab':
        (folder/c).mkdir(parents=True)
        for i in range(n): Image.fromarray(torch.randint(256, (size,size,3), dtype=torch.uint8).numpy()).save(folder/c/f'{i}.png')

# --- what a run saw is known to the commands after it

def test_size_travels_from_command_to_command(tmp_path):
    pictures(tmp_path/'p')
    works('pretrain', '--run', tmp_path/'r', '--data', tmp_path/'p', '--size', 12, *small)
    assert json.loads((tmp_path/'r'/'data.json').read_text())==dict(data=str(tmp_path/'p'), root=None, size=12)
    assert cli._data_of(open_run(tmp_path/'r'), None, None, None)==(str(tmp_path/'p'),None,12)
    assert cli._data_of(open_run(tmp_path/'r'), None, None, 16)[2]==16                  # unless told otherwise
    assert cli._data_of(open_run(tmp_path/'r'), 'digits', None, None)[0]=='digits'
    works('finetune', '--run', tmp_path/'r', '--epochs', 1)
    assert 'pgd2' in works('evaluate', '--run', tmp_path/'r', '--attacks', 'clean,pgd2')

def test_stl10_is_pretrained_on_without_labels_and_finetuned_with(monkeypatch):
    def load(root=None, size=None): return 'labelled','test','unlabelled'
    load.parts = datasets['stl10'].parts
    monkeypatch.setitem(datasets, 'stl10', load)
    assert cli.train_and_test('stl10')==('labelled','test') and cli.train_and_test('stl10', labelled=False)==('unlabelled','test')

# --- consoles

@pytest.mark.parametrize('encoding', ['cp1252','latin-1','ascii','cp437','utf-8'])
def test_any_command_prints_on_any_console(encoding):
    r = process('recipes', 'stl10', PYTHONIOENCODING=encoding)
    assert r.returncode==0 and b'dynacl-air-rcs' in r.stdout, r.stderr

@pytest.mark.parametrize('args', [('recipes',), ('doctor',), ('--help',), ('pretrain','--help'), ('runs','nowhere')])
def test_other_commands_on_a_cp1252_console(args):
    r = process(*args, PYTHONIOENCODING='cp1252')
    assert b'charmap' not in r.stderr and r.stderr.count(b'Traceback')==0

# --- processes

@pytest.mark.skipif(os.name!='posix', reason='signals')
@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGINT])
def test_a_server_is_ended_with_the_command(how):
    "A command that becomes a server is that process: what ends it leaves no child. (What runs in the background of a script ignores SIGINT, and so would its children.)"
    wait = "import time; print('up', flush=True); time.sleep(60)"
    p = subprocess.Popen([sys.executable, '-c', f'import signal, sys; signal.signal(2, signal.default_int_handler); from robustfm.cli import _become; _become([sys.executable, "-c", {wait!r}])'],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert p.stdout.readline()=='up\n'
    p.send_signal(how)
    assert p.wait(20)!=0
    with pytest.raises(ProcessLookupError): os.kill(p.pid, 0)

# --- paths

@pytest.mark.parametrize('path', ['~/runs/x','~/zwei Wörter','~'])
def test_home_is_expanded(path, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.chdir(tmp_path)
    if path!='~':
        works('tutorials', path)
        assert (tmp_path/path[2:]).is_dir()
    assert not (tmp_path/'~').exists()

def test_what_is_to_be_typed_is_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "robustfm lab 'zwei Wörter'" in works('tutorials', 'zwei Wörter')

# --- lists

def test_the_shell_knows_every_method_and_recipe():
    out = works('recipes')
    assert all(name in out for name,_ in recipes)
    for m in ('simclr','acl','dynacl','advcl','ainfonce','deacl','rocl'):
        assert m in methods and settings_for(m, 'digits')['method'].lower()==m

@pytest.mark.parametrize('said,path,value', [
    (('--set','epochs=3'), ('epochs',), 3), (('--set','attack.eps=4/255'), ('attack','eps'), 4/255), (('--lr','0.1'), ('lr',), .1),
    (('--eps','4'), ('attack','eps'), 4/255), (('--set','objective.lam=0.5'), ('objective','lam'), .5), (('--weight-decay','0'), ('weight_decay',), 0),
    (('--set','views.scale=[0.3,1]'), ('views','scale'), (.3,1))])
def test_any_setting_is_an_option(said, path, value, monkeypatch, tmp_path):
    got = {}
    monkeypatch.setattr('robustfm.recipes.pretrain_recipe', lambda r,*a,**k: got.update(r) or [])
    monkeypatch.setattr(cli, 'keep_data', lambda *a: None)
    works('pretrain', '--run', tmp_path/'r', '--recipe', 'dynacl', *said)
    for p in path: got = got[p]
    assert got==value

@pytest.mark.parametrize('said', [('--set','epoch=3'), ('--epoch','3'), ('--set','epochs'), ('--recipe','dynacl-ari'), ('--reg','iar'), ('--coreset','rsc')])
def test_a_slip_is_named_before_anything_is_computed(said, tmp_path):
    r = sh('pretrain', '--run', tmp_path/'r', *said)
    assert r.exit_code and isinstance(r.exception, ValueError) and not (tmp_path/'r').exists()

def test_torchrun_takes_the_run_option():
    "`--run` before the module's own arguments is torchrun's: the notebook shows `-m -- robustfm.cli`, and the option has no second name"
    from house import nbs
    assert '-- robustfm.cli' in (nbs/'200_train.ipynb').read_text(encoding='utf-8')+(nbs/'201_runs.ipynb').read_text(encoding='utf-8')+(nbs/'40_cli.ipynb').read_text(encoding='utf-8')

@pytest.mark.parametrize('name,data', [k for k in recipes if k[1] in ('cifar10','imagenet32','imagenet')], ids='-'.join)
def test_every_recipe_builds(name, data):
    r = recipe(name, data)
    net = Encoder(tiny(3, 4), r['net']['branches'])
    assert type(build(r, net, teacher=net, classes=5)).__name__==r['method'] and 'not a class' not in (r['note'] or '')

@pytest.mark.parametrize('name,words', [('rocl','outside the velocity'), ('advcl','floor 0.0005'), ('deacl','epoch 0 runs at 0.003'), ('dynacl','once an epoch')])
def test_recipes_say_where_the_training_differs(name, words): assert words in recipe(name, 'cifar10')['note']

@pytest.mark.parametrize('name', ['acl-rcs','dynacl-rcs','dynacl-air-rcs'])
def test_a_published_coreset_says_its_mode(name): assert recipe(name, 'cifar10')['coreset']['mode']=='faithful'

def test_no_room_hides_a_function():
    import importlib, pkgutil, robustfm, robustfm.all as everything
    for m in pkgutil.iter_modules(robustfm.__path__):
        importlib.import_module(f'robustfm.{m.name}')
        assert not callable(getattr(everything, m.name, None)) or m.name in ('all',), f'room and function are both called {m.name}'
