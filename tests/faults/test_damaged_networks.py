"Kind: files of networks that load as something else: flipped bits, values that no weight has, wrong descriptions, pointers and wrappers"
import json, random, zipfile
import pytest, torch
from pathlib import Path
from safetensors.torch import load_file,save_file
from safetensors import safe_open
from robustfm.finetuning import Classifier
from robustfm.models import Encoder,tiny
from robustfm.zoo import load_own,load_released,pretrained,read_card,read_checkpoint
import zoo_reference as ref

FAULTS = [('breaker-2.2', 'damaged networks', 'test_flipped_bits_of_a_classifier_are_noticed'),
          ('breaker-2.2', 'damaged networks', 'test_values_that_no_weight_has_are_refused'),
          ('breaker-2.2', 'damaged networks', 'test_a_flipped_bit_of_a_released_file_is_noticed'),
          ('breaker-4', 'damaged networks', 'test_wrong_descriptions_are_one_sentence'),
          ('bugs-ml-C', 'wrapped networks', 'test_wrapped_networks_open'),
          ('bugs-ml-C', 'wrapped networks', 'test_a_pointer_of_git_lfs_is_named'),
          ('bugs-ml-B3', 'numbers of numpy', 'test_numbers_of_numpy_are_numbers_in_a_card')]

data = Path(__file__).parent.parent/'data'

@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    Classifier(Encoder(tiny(1, 2)), 3, classes=list('abc')).save(tmp_path/'c.safetensors')
    return tmp_path/'c.safetensors'

def sentence(e): return '\n' not in str(e) and 20<len(str(e))<700

def rewritten(path, change):
    "The same file with a change of its tensors and its description, without a digest"
    with safe_open(path, 'pt') as f: meta = json.loads(f.metadata()['robustfm'])
    tensors = load_file(path)
    meta.pop('digest')
    change(tensors, meta)
    save_file(tensors, path, dict(robustfm=json.dumps(meta)))

@pytest.mark.parametrize('seed', range(6), ids=lambda s: f'breaker-2.2-bits-{s}')
def test_flipped_bits_of_a_classifier_are_noticed(file, seed):
    whole,r = file.read_bytes(),random.Random(seed)
    for _ in range(20):
        b = bytearray(whole)
        b[r.randrange(len(b))] ^= 1<<r.randrange(8)
        file.write_bytes(bytes(b))
        with pytest.raises(ValueError) as e: Classifier.load(file)
        assert sentence(e.value)

def put(name, value):
    def change(tensors, meta): tensors[name] = torch.full_like(tensors[name], value)
    return change

@pytest.mark.parametrize('change', [put('head.weight', float('nan')), put('net.f.0.weight', float('inf')), put('net.f.1.bns.adv.running_var', -1.), put('net.std', 0.), put('net.g.0.weight', -float('inf'))],
                         ids=['breaker-2.2-nan','breaker-2.2-inf','breaker-2.2-variance','breaker-2.2-std','own-projector'])
def test_values_that_no_weight_has_are_refused(file, change):
    rewritten(file, change)
    with pytest.raises(ValueError, match='no weight has') as e: Classifier.load(file)
    assert sentence(e.value)

def test_integers_are_no_weights(file):
    rewritten(file, lambda t,m: t.update({'head.weight':t['head.weight'].int()}))
    with pytest.raises(ValueError, match='head.weight'): Classifier.load(file)

@pytest.mark.parametrize('change', [
    lambda t,m: m['spec']['proj'].update(out=2**31), lambda t,m: m['spec']['proj'].update(out=10**30), lambda t,m: m.update(spec=None),
    lambda t,m: m.update(n_classes='many'), lambda t,m: m.update(n_classes=-1), lambda t,m: m.update(bn='pgd'), lambda t,m: m['spec'].update(branches=5), lambda t,m: t.pop('head.bias'),
    lambda t,m: t.update(more=torch.ones(1)), lambda t,m: m.pop('size')],
    ids=['breaker-4-2**31','breaker-4-10**30','own-spec','own-text','own-negative','own-branch','own-branches','own-missing','own-extra','own-no-size'])
def test_wrong_descriptions_are_one_sentence(file, change):
    rewritten(file, change)
    with pytest.raises(ValueError) as e: Classifier.load(file)
    assert sentence(e.value)

@pytest.mark.parametrize('at', [.3,.5,.7,.9], ids=lambda a: f'breaker-2.2-zip-{a}')
def test_a_flipped_bit_of_a_released_file_is_noticed(tmp_path, at):
    torch.save({'state_dict':{'w':torch.rand(4000)}}, tmp_path/'w.pt')
    b = bytearray((tmp_path/'w.pt').read_bytes())
    with zipfile.ZipFile(tmp_path/'w.pt') as z: i = next(i for i in z.infolist() if i.file_size==16000)
    b[i.header_offset+200+int(at*15000)] ^= 16
    (tmp_path/'w.pt').write_bytes(bytes(b))
    torch.load(tmp_path/'w.pt', weights_only=True)                          # other weights, and no error
    with pytest.raises(ValueError, match='checksum') as e: read_checkpoint(tmp_path/'w.pt')
    assert sentence(e.value)

def test_a_file_without_checksums_opens(tmp_path):
    torch.serialization.set_crc32_options(False)
    try: torch.save({'w':torch.ones(3)}, tmp_path/'w.pt')
    finally: torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path/'w.pt')['w'].sum()==3

def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path/'b.pt', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('archive/data.pkl', b'\0'*50_000_000)
    with pytest.raises(ValueError, match='multiple of its size'): read_checkpoint(tmp_path/'b.pt')

@pytest.mark.parametrize('wrap', [lambda sd: dict(model_state_dict=sd, epoch=3), lambda sd: dict(ema=sd), lambda sd: dict(ema=dict(module=sd)), lambda sd: dict(net=sd, optimizer={'state':{}}),
                                  lambda sd: {'model_state_dict':{k:v.half() for k,v in sd.items()}}, lambda sd: dict(student=sd)],
                         ids=['bugs-ml-C-model_state_dict','bugs-ml-C-ema','own-two-boxes','own-net','bugs-ml-C-half','own-student'])
def test_wrapped_networks_open(wrap):
    torch.manual_seed(0)
    sd = ref.dynaclpp().file['state_dict']
    n  = load_released(wrap(sd))
    assert n.report.box and n.report.family=='acl-one'
    want = sd['conv1.weight']
    assert (n.net.f.conv1.weight-want).abs().max()<=1e-3*want.abs().max()

def test_two_networks_are_asked_about():
    sd = ref.dynaclpp().file['state_dict']
    with pytest.raises(ValueError, match="'model', 'ema'"): load_released(dict(model=sd, ema=sd))

def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path/'w.pt').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n')
    with pytest.raises(ValueError, match='git lfs pull') as e: load_released(tmp_path/'w.pt')
    assert sentence(e.value)

def test_the_first_files_still_open():
    "Written before files had digests and classifiers names"
    want = json.loads((data/'format-1.json').read_text())
    from robustfm.datasets import digits
    x = digits()[2].x[:4].float()/255
    with torch.no_grad():
        clf,net = load_own(data/'classifier-1.safetensors'),load_own(data/'encoder-1.safetensors')
        assert (clf(x)-torch.tensor(want['logits'])).abs().max()<1e-4 and len(clf.seen)==want['seen'] and clf.classes==[]
        assert (net.features(x, 'adv')-torch.tensor(want['features'])).abs().max()<1e-4
    assert clf.card['note']=='written before there were digests' and read_card(data/'encoder-1.safetensors')['card']['data']=='digits'

def test_numbers_of_numpy_are_numbers_in_a_card(tmp_path):
    import numpy as np
    Classifier(Encoder(tiny(1, 2)), 3).save(tmp_path/'c.safetensors', v=np.float32(1), n=np.int64(2), t=torch.ones(2), p=tmp_path)
    assert read_card(tmp_path/'c.safetensors')['card']==dict(v=1., n=2, t=[1.,1.], p=str(tmp_path))

def test_half_a_file_is_the_same_network(tmp_path):
    torch.manual_seed(0)
    clf = Classifier(Encoder(tiny(1, 2)), 3)
    torch.nn.init.normal_(clf.head.weight)
    clf.save(tmp_path/'acl_digits_0.safetensors', half=True)
    x,again = torch.rand(4,1,8,8),pretrained('ACL', 'digits', folder=tmp_path)
    assert all(p.dtype==torch.float32 for p in again.parameters()) and (again(x)-clf.eval()(x)).abs().max()<.05
    with pytest.raises(FileNotFoundError, match='acl_digits_0'): pretrained('simclr', 'digits', folder=tmp_path)
    with pytest.raises(FileNotFoundError): pretrained('../../acl', 'digits', folder=tmp_path)

def test_statistics_are_those_of_the_tensors(file):
    "breaker-4: a header without statistics is no crash, and the tensors decide"
    want = Classifier.load(file).net.mean
    rewritten(file, lambda t,m: m['spec'].update(stats=None))
    assert Classifier.load(file).net.mean.equal(want)
