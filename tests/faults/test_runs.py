"Run folders: what is kept, what is refused, and what survives"
import json, threading
from pathlib import Path
import robustfm
import numpy as np, pytest, torch
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches,Images
from robustfm.methods.acl import ACL
from robustfm.methods.dynacl import DynACL
from robustfm.models import Encoder,tiny
from robustfm.objective import SimCLR
from robustfm.rendering import shapes
from robustfm.runs import Run,open_run,pretrain

FAULTS = [('researcher-F0', 'wrong product', 'test_the_product_is_kept'), ('researcher-F7', 'wrong product', 'test_the_product_is_kept'),
          ('bugs-ml-B4', 'wrong product', 'test_an_own_backbone_comes_back'), ('breaker-1.2', 'not finite', 'test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint'),
          ('breaker-1.3', 'clocks', 'test_a_clock_set_back_changes_nothing'), ('breaker-1.5', 'file modes', 'test_everybody_may_read'),
          ('breaker-2.1', 'other images', 'test_other_images_are_noticed'), ('breaker-2.3', 'two at once', 'test_two_trainings_in_one_folder'),
          ('breaker-4', 'damaged files', 'test_a_damaged_file_is_one_sentence'), ('researcher-F4', 'identity by address', 'test_settings_have_no_address'),
          ('bugs-ml-B1', 'identity by address', 'test_settings_have_no_address'), ('researcher-F13', 'arguments', 'test_arguments'),
          ('researcher-F2', 'arguments', 'test_weight_decay'), ('bugs-nb-10', 'paths', 'test_home')]

def simclr(**kw):
    torch.manual_seed(0)
    return SimCLR(Encoder(tiny(3, 4), 'clean'), views(), **kw)
x = shapes(32, size=8)
batches = lambda: Batches(x, bs=8)
quick = dict(opt='adam', show=False)

@pytest.mark.parametrize('momentum', [pytest.param(.9, id='researcher-F0'), None])
def test_the_product_is_kept(tmp_path, momentum):
    torch.manual_seed(0)
    o = DynACL(Encoder(tiny(3, 4)), views(), PGD(Linf(.1), steps=1), momentum=momentum)
    pretrain(o, batches(), 2, run=tmp_path/'r', **quick)
    want = o.encoder.eval()(x.x[:4]/255., bn='adv')
    for where in ('file','checkpoint'):
        assert torch.allclose(open_run(tmp_path/'r').encoder()(x.x[:4]/255., bn='adv'), want, atol=1e-6), where
        (tmp_path/'r'/'encoder.safetensors').unlink(missing_ok=True)

def test_a_classifier_is_kept(tmp_path):
    from robustfm.finetuning import Classifier
    from robustfm.methods.rcs import SAT
    torch.manual_seed(0)
    clf = Classifier(Encoder(tiny(3, 4), 'clean'), 10)
    y   = Images(x.x, x.y%10)
    pretrain(SAT(clf, None, PGD(steps=1)), Batches(y, bs=8), 1, run=tmp_path/'r', **quick)
    run = open_run(tmp_path/'r')
    want = clf.net.eval().features(x.x[:4]/255.)
    assert torch.allclose(run.encoder().features(x.x[:4]/255.), want, atol=1e-6)
    assert torch.allclose(Classifier.load(run.path/'classifier.safetensors')(x.x[:4]/255.), clf.eval()(x.x[:4]/255.), atol=1e-5)

def test_an_own_backbone_comes_back(tmp_path):
    class Own(torch.nn.Sequential):
        num_features = 12
    make = lambda: Own(torch.nn.Flatten(), torch.nn.Linear(192, 12))
    torch.manual_seed(0)
    o = SimCLR(Encoder(make(), 'clean'), views())
    pretrain(o, batches(), 1, run=tmp_path/'r', **quick)
    run = open_run(tmp_path/'r')
    with pytest.raises(ValueError, match='backbone='): run.encoder()
    assert torch.allclose(run.encoder(make())(x.x[:4]/255.), o.net.eval()(x.x[:4]/255.), atol=1e-6)

class Sick(SimCLR):
    after = 6
    def __init__(self, *a): super().__init__(*a); self._n = 0
    def terms(self, x, y):
        self._n += 1
        return {k:v*(float('nan') if self._n>self.after else 1.) for k,v in super().terms(x, y).items()}

def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    torch.manual_seed(0)
    long = Batches(shapes(320, size=8), bs=8)
    with pytest.raises(FloatingPointError, match='lower lr .* another folder') as e:
        pretrain(Sick(Encoder(tiny(3, 4), 'clean'), views()), long, 3, run=tmp_path/'r', save_every=0., **quick)
    assert int(str(e.value).split('step ')[1].split(',')[0])<=16             # within ten steps
    assert all(v.isfinite().all() for v in open_run(tmp_path/'r').encoder().state_dict().values())

def test_a_clock_set_back_changes_nothing(tmp_path, monkeypatch):
    import time
    t = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, 'time', lambda: next(t))
    h = pretrain(simclr(), batches(), 3, run=tmp_path/'r', **quick)
    assert all(0<=a<=b for a,b in zip([0,*h['seconds']], h['seconds']))

def test_everybody_may_read(tmp_path):
    pretrain(simclr(), batches(), 1, run=tmp_path/'r', **quick)
    modes = {p.name:oct(p.stat().st_mode&0o777) for p in (tmp_path/'r').iterdir()}
    assert len(set(modes.values()))==1, modes

def stopping(h): return True

@pytest.mark.parametrize('other', [shapes(32, 5, 8), Images(x.x.flip(0), x.y), Images(x.x, x.y.flip(0))], ids=['breaker-2.1','order','labels'])
def test_other_images_are_noticed(tmp_path, other):
    other = Images(other.x, other.y, name=x.name, classes=x.classes)
    pretrain(simclr(), batches(), 3, run=tmp_path/'r', opt='adam', show=stopping)
    pretrain(simclr(), batches(), 3, run=tmp_path/'r', opt='adam', show=stopping)
    with pytest.raises(ValueError, match='data .* there'): pretrain(simclr(), Batches(other, bs=8), 3, run=tmp_path/'r', **quick)

def test_two_trainings_in_one_folder(tmp_path):
    said = []
    def within(h):
        try: pretrain(simclr(), batches(), 3, run=tmp_path/'r', **quick)
        except RuntimeError as e: said.append(str(e))
    pretrain(simclr(), batches(), 2, run=tmp_path/'r', opt='adam', show=within)
    assert len(said)==2 and 'another training' in said[0] and len(open_run(tmp_path/'r').history)==2
    assert not (tmp_path/'r'/'lock').exists()

def spoiled(tmp_path, name, data):
    run = Run(tmp_path/'r')
    run.write('config.json', dict(objective=dict(name='x'), epochs=3))
    p = run.path/name
    p.parent.mkdir(exist_ok=True)
    if data is None: p.mkdir() if not p.exists() else (p.unlink(), p.mkdir())
    else: p.write_bytes(data)
    return run

def zipped(**arrays):
    import io
    b = io.BytesIO(); np.savez_compressed(b, **arrays)
    return b.getvalue()

@pytest.mark.parametrize('name,data,get', [
    ('config.json', b'['*100000, 'config'), ('config.json', b'null', 'config'), ('config.json', b'[1]', 'config'), ('config.json', b'\xff\xfe', 'config'), ('config.json', None, 'config'),
    ('history.jsonl', b'{"epoch":0,"progress":0.1}\n{}\n', 'history'), ('history.jsonl', b'nonsense\n', 'history'), ('history.jsonl', b'"a"\n', 'history'), ('history.jsonl', None, 'history'),
    ('selections.npz', b'PK\x03\x04 no', 'selections'), ('selections.npz', zipped(**{'a/b':np.zeros(2)}), 'selections'), ('selections.npz', zipped(x=np.zeros(2)), 'selections'),
    ('selections.npz', zipped(**{'-1/a':np.zeros(2)}), 'selections'), ('selections.npz', zipped(**{'0/a':np.arange(9)})[:-30], 'selections'), ('reports/a.json', b'{"a":', 'reports'), ('reports/a.json', b'[]', 'reports')])
def test_a_damaged_file_is_one_sentence(tmp_path, name, data, get):
    run = spoiled(tmp_path, name, data)
    with pytest.raises(ValueError, match='damaged') as e: getattr(run, get)
    assert name in str(e.value) and '\n' not in str(e.value)

def test_a_huge_number_fills_no_memory(tmp_path):
    run = spoiled(tmp_path, 'selections.npz', zipped(**{'999999/a':np.arange(3)}))
    assert len(run.selections)==1
    run = spoiled(tmp_path, 'selections.npz', zipped(**{'99999999/a':np.arange(3)}))
    with pytest.raises(ValueError, match='damaged'): run.selections

def test_a_pipe_is_no_file(tmp_path):
    import os
    run = spoiled(tmp_path, 'history.jsonl', b'')
    (run.path/'history.jsonl').unlink(); os.mkfifo(run.path/'history.jsonl')
    with pytest.raises(ValueError, match='is not a file'): run.history

def test_names_are_printed_without_escapes(tmp_path):
    run = spoiled(tmp_path, 'config.json', json.dumps(dict(objective=dict(name='\x1b[31mred'))).encode())
    assert '\x1b' not in repr(run)

class Flip:
    def __call__(self, x): return x.flip(3)

def loader():
    d = torch.utils.data.TensorDataset(x.x/255., x.y)
    return torch.utils.data.DataLoader(d, batch_size=8)

@pytest.mark.parametrize('aug,source', [(lambda: Flip(), batches), (lambda: (lambda x: x.flip(3)), batches), (views, loader), (lambda: torch.nn.Identity(), batches), (lambda: torch.flip, batches)],
                         ids=['bugs-ml-B1-object','lambda','researcher-F4-loader','module','builtin'])
def test_settings_have_no_address(tmp_path, aug, source):
    class Own(SimCLR): pass
    def go(**kw):
        torch.manual_seed(0)
        a = aug()
        o = Own(Encoder(tiny(3, 4), 'clean'), (lambda v: a(v, [3])) if a is torch.flip else a)
        return pretrain(o, source(), 2, run=tmp_path/'r', opt='adam', **kw)
    go(show=stopping)
    assert '0x' not in (tmp_path/'r'/'config.json').read_text()
    assert len(go(show=False))==2

@pytest.mark.parametrize('kw,says', [(dict(epochs=-1), 'epochs=-1'), (dict(epochs=0), 'epochs=0'), (dict(epochs=2.5), 'epochs=2.5'), (dict(lr='0.1'), "lr='0.1'"), (dict(lr=-1.), 'lr=-1'), (dict(lr=True), 'lr=True'),
                                     (dict(run=''), "run=''"), (dict(checkpoint=''), "run=''")], ids=str)
def test_arguments(kw, says):
    with pytest.raises((ValueError,TypeError), match=says): pretrain(simclr(), batches(), **dict(dict(epochs=1), **kw), **quick)

@pytest.mark.parametrize('source', [x, loader, torch.zeros(3)], ids=['Images','DataLoader','tensor'])
def test_sources(source):
    source = source() if callable(source) else source
    if torch.is_tensor(source):
        with pytest.raises(TypeError, match='batches must be'): pretrain(simclr(), source, 1, **quick)
    else: assert len(pretrain(simclr(), source, np.int64(1), np.float32(.001), **quick))==1

def test_weight_decay(tmp_path):
    h = [pretrain(simclr(), batches(), 2, opt='sgd', show=False, weight_decay=w, run=tmp_path/str(w))['loss'][-1] for w in (0., .5, np.float64(.5))]
    assert h[0]!=h[1]==h[2] and open_run(tmp_path/'0.5').config['weight_decay']==.5

def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    pretrain(simclr(), batches(), 1, run='~/mine', **quick)
    assert open_run('~/mine').finished and (tmp_path/'mine').is_dir()

def test_a_film(tmp_path):
    torch.manual_seed(0)
    o = ACL(Encoder(tiny(3, 4)), views(), PGD(Linf(.1), steps=1))
    pretrain(o, batches(), 4, run=tmp_path/'r', embed=(x[:10], 2), **quick)
    e = open_run(tmp_path/'r').embeddings
    assert list(e)==[2,4] and e[4]['z'].dtype==np.float16 and e[4]['a'].shape==(10,64) and e[4]['branch']=='adv' and abs(e[2]['eps']-25.5)<1e-6

def test_it_says_what_stopped_it(tmp_path):
    assert pretrain(simclr(), batches(), 3, opt='adam', show=stopping).stopped=='show'
    assert pretrain(simclr(), batches(), 1, **quick).stopped is None
