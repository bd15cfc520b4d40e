"""Nothing is lost when a training is cut short: killed, asked to stop, out of room, or continued from what is not its own.

    python tests/test_recovery.py FOLDER     run a tiny training in FOLDER/…, cutting it short in every way; what happened, into FOLDER/said.json

That process imports everything once and forks the trainings, so that twenty lives take seconds."""
import json, os, random, resource, select, signal, subprocess, sys, time
from pathlib import Path
import robustfm
import pytest, torch
from robustfm.attacks import Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.rendering import shapes
from robustfm.methods.acl import ACL
from robustfm.methods.rcs import Random
from robustfm.models import Encoder,tiny
from robustfm.runs import load_state,open_run,pretrain,save_state

epochs,each = 10,6                                                   # steps in an epoch

class Batches(Batches):
    "Tells `pipe` of every batch it hands out"
    _pipe = None
    def __iter__(self):
        for b in super().__iter__():
            if self._pipe: os.write(self._pipe, b'.')
            yield b

def train(run, pipe=None, save_every=0., opt='lars', width=4, epochs=epochs, **kw):
    "ACL on 96 images, 16 a step: every step draws views and a random start, LARS has its momentum"
    torch.manual_seed(1)
    acl = ACL(Encoder(tiny(3, width)), views(), PGD(Linf(.1), steps=1))
    batches = Batches(shapes(16*each, size=8), bs=16)
    batches._pipe = pipe
    return acl,pretrain(acl, batches, epochs, opt=opt, run=run, show=False, save_every=save_every, **kw)

class Life:
    "A training in a process of its own"
    def __init__(self, folder, prepare=None, **kw):
        read,write = os.pipe()
        self.log = folder.with_suffix('.log')
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(read)
            out = os.open(self.log, os.O_WRONLY|os.O_CREAT|os.O_TRUNC)
            os.dup2(out, 1); os.dup2(out, 2)
            code = 1
            try:
                if prepare: prepare()
                train(folder, write, **kw); code = 0
            except SystemExit as e: code = e.code
            except BaseException as e: print(f'{type(e).__name__}: {e}')
            finally: sys.stdout.flush(); os._exit(code)
        os.close(write)
        self.pipe = read
    def steps(self, n):
        "Wait for n more batches; False when it ended before"
        for _ in range(n):
            if not os.read(self.pipe, 1): return False
        return True
    def end(self, sig=None):
        "Its exit code, after the signal `sig`: minus the signal that killed it"
        if sig: os.kill(self.pid, sig)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pipe)
        return code
    def said(self): return self.log.read_text()

def everything(top):
    out,draw = {},random.Random(0)
    life = Life(top/'whole', save_every=1e9); t = time.time()
    out['whole'] = life.end(),life.said()
    pause = (time.time()-t)/epochs/each
    out['killed'],out['unreadable'] = [],[]
    while len(out['killed'])<20:                                     # at a random step, at a random moment within
        life = Life(top/'killed')
        if not life.steps(draw.randint(1, 4)): break
        time.sleep(draw.random()*pause)
        out['killed'].append(life.end(signal.SIGKILL))
        try: check(top/'killed')
        except Exception as e: out['unreadable'].append(str(e))
    out['last'] = (life := Life(top/'killed')).end(),life.said()
    for name,sig in (('term',signal.SIGTERM),('int',signal.SIGINT)):
        life = Life(top/name, save_every=1e9)
        life.steps(9)
        if name=='term': os.kill(life.pid, signal.SIGINT)            # as when a cluster and a launcher both pass it on
        out[name] = life.end(sig),life.said()
        out[name+' after'] = (life := Life(top/name, save_every=1e9)).end(),life.said()
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))   # no file may grow beyond: a disk that is full
    life = Life(top/'full'); life.steps(9)
    life.end(signal.SIGKILL)
    size = (top/'full'/'checkpoint.safetensors').stat().st_size
    before = load_state(top/'full'/'checkpoint.safetensors')['at']
    out['full'] = (life := Life(top/'full', small)).end(),life.said(),size>4096,before==load_state(top/'full'/'checkpoint.safetensors')['at'],hidden(top/'full')
    out['full after'] = (life := Life(top/'full')).end(),life.said()
    (top/'said.json').write_text(json.dumps(out))

def check(folder):
    "A run folder can be read at any moment"
    run = open_run(folder)
    for r in run.history: assert r['loss']==r['loss']
    if run.checkpoint.exists(): load_state(run.checkpoint); run.encoder()

def hidden(folder): return [p.name for p in folder.iterdir() if p.name.startswith('.')]

@pytest.fixture(scope='module')
def happened(tmp_path_factory):
    top = tmp_path_factory.mktemp('recovery')
    r = subprocess.run([sys.executable, __file__, top], capture_output=True, text=True, timeout=400, env=os.environ|dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''))
    assert r.returncode==0, r.stderr[-3000:]
    return top,json.loads((top/'said.json').read_text())

def same_run(a, b):
    "Bit for bit: weights, history, and the optimizer's momentum"
    a,b = open_run(a),open_run(b)
    assert a.finished and [{k:v for k,v in r.items() if k!='seconds'} for r in a.history]==[{k:v for k,v in r.items() if k!='seconds'} for r in b.history]
    for x,y in ((a.encoder().state_dict(),b.encoder().state_dict()), *zip(*(momentum(load_state(r.checkpoint)['opt']) for r in (a,b)))):
        if isinstance(x, torch.Tensor): assert x.equal(y)
        else: assert x.keys()==y.keys() and all(v.equal(y[k]) for k,v in x.items())

def momentum(opt):
    vs = [v['velocity'] for v in opt['state'].values()]
    assert vs and all(v.abs().max()>0 for v in vs)
    return vs

@pytest.mark.slow
def test_killed_twenty_times(happened):
    top,h = happened
    assert h['killed']==[-9]*20 and not h['unreadable']
    assert h['last'][0]==0, h['last'][1]
    same_run(top/'killed', top/'whole')
    assert not hidden(top/'killed'), 'what a killed process was writing stays behind'

@pytest.mark.slow
@pytest.mark.parametrize('name', ['term','int'])
def test_asked_to_stop(happened, name):
    "SIGTERM (which ends the program) and Ctrl-C end with a checkpoint and one line, and the next call goes on from there"
    top,h = happened
    code,said = h[name]
    assert code==dict(term=143, int=0)[name] and said.startswith('stopped at epoch 1.') and said.count('\n')==1 and str(top/name) in said, said
    assert h[name+' after'][0]==0, h[name+' after']
    same_run(top/name, top/'whole')

@pytest.mark.slow
def test_disk_full(happened):
    "One sentence, and the previous checkpoint is intact; with room again the run goes on"
    top,h = happened
    code,said,larger,intact,left = h['full']
    assert larger and code==1 and said.startswith('OSError: cannot write') and said.count('\n')==1 and 'checkpoint.safetensors' in said, said
    assert intact and not left
    assert h['full after'][0]==0
    same_run(top/'full', top/'whole')

@pytest.fixture
def begun(tmp_path):
    "A run with a checkpoint in the middle of its second epoch, to be spoiled"
    calls = []
    def stop(h): calls.append(1); return True
    torch.manual_seed(1)
    acl = ACL(Encoder(tiny(3, 4)), views(), PGD(Linf(.1), steps=1))
    pretrain(acl, Batches(shapes(16*each, size=8), bs=16), epochs, run=tmp_path/'run', show=stop)
    return open_run(tmp_path/'run')

@pytest.mark.parametrize('spoil,says', [
    (lambda p: p.write_bytes(p.read_bytes()[:1000]), 'not a whole safetensors file'),
    (lambda p: p.write_bytes(b'\x80\x04\x95pickled'), 'not a whole safetensors file'),
    (lambda p: Encoder(tiny(3, 4)).save(p), 'is not a checkpoint of this package'),
    (lambda p: save_state(p, dict(a=torch.zeros(2))), 'is of another run or version'),
    (lambda p: save_state(p, load_state(p)|dict(objective={'net.mean':torch.zeros(1)})), 'is of another run or version'),
])
def test_a_checkpoint_that_is_none(begun, spoil, says):
    "One sentence, and the folder stays as it is"
    spoil(begun.checkpoint)
    before = {p:p.read_bytes() for p in begun.path.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match=says) as e: train(begun.path)
    assert str(begun.checkpoint) in str(e.value) and '\n' not in str(e.value)
    assert before=={p:p.read_bytes() for p in begun.path.iterdir() if p.is_file()}

@pytest.mark.parametrize('other,says', [(dict(width=8), r'objective.net.backbone.width \(4 there, 8 here\)'), (dict(opt='sgd'), r"opt \('lars' there, 'sgd' here\)"),
                                        (dict(seed=3), r'seed \(0 there, 3 here\)'), (dict(epochs=11), r'epochs \(10 there, 11 here\)')])
def test_another_configuration_is_named_and_touches_nothing(begun, other, says):
    before = {p:p.read_bytes() for p in begun.path.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match=says): train(begun.path, **other)
    assert before=={p:p.read_bytes() for p in begun.path.iterdir() if p.is_file()}

def test_coresets_survive(tmp_path):
    "A run on coresets, cut in the middle of one, chooses the same and ends the same"
    def part(run, stop=None):
        torch.manual_seed(1)
        acl = ACL(Encoder(tiny(3, 4)), views(), PGD(Linf(.1), steps=1))
        batches = Random(shapes(96, size=8), fraction=.5, warmup=1, every=2, bs=16, refresh='refreshed')
        pretrain(acl, batches, 6, opt='adam', run=run, show=(lambda h: len(h)==stop) if stop else False)
        return acl,batches
    part(tmp_path/'cut', 4)
    (a,ba),(b,bb) = part(tmp_path/'cut'),part(tmp_path/'whole')
    assert [s['epoch'] for s in ba.selections]==[1,3,5] and all((x['indices']==y['indices']).all() for x,y in zip(ba.selections, bb.selections))
    assert all(v.equal(b.state_dict()[k]) for k,v in a.state_dict().items())

if __name__=='__main__': torch.set_num_threads(1); everything(Path(sys.argv[1]))
