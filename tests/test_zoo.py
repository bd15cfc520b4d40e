"Released checkpoints: every family against an independent network, every way of being wrong, and the ways out"
import argparse, functools, io, pickle, random, re, subprocess, sys, types
from copy import deepcopy
from pathlib import Path
import pytest
import torch
from torch import nn
import zoo_reference as ref
from robustfm.finetuning import Classifier
from robustfm.models import Encoder,resnet18,tiny
from robustfm import zoo
from robustfm.zoo import (card_text, families, from_pretrained, load_own, load_released, make_card, plain, pretrained, push_to_hub, read_card, read_checkpoint, released,
                          save_pretrained)

refusals = ValueError,FileNotFoundError
torch.set_num_threads(1)

@pytest.fixture(scope='module')
def x(): return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

def close(a, b, tol=1e-5): return (a-b).abs().max()<=tol*max(1, b.abs().max().item())

def encoder(n): return n.net if isinstance(n, Classifier) else n

def same(a, b): return a.state_dict().keys()==b.state_dict().keys() and all(torch.equal(v, b.state_dict()[k]) for k,v in a.state_dict().items())

def sentence(e): return '\n' not in str(e) and 20<len(str(e))<1500

# --- what is right

@pytest.mark.parametrize('name', ref.cases)
def test_family_computes_what_its_own_network_computes(name, x):
    torch.manual_seed(0)
    case = ref.cases[name]()
    if name in ('SAT ImageNet-224','ACL on STL-10, large stem'): x = torch.rand(2, 3, 48, 48)
    if '32' in name: x = x[:1,:,:8,:8]                            # 36 million weights
    with torch.no_grad():
        for bn,out in case.out.items():
            n = load_released(case.file, bn, case.family if case.asks else 'auto', case.also)
            assert isinstance(n, Classifier)==bool(case.classes) and not n.training
            assert close(n(x), out(x)) if case.classes else close(n.features(x), out(x)) and close(n.features(x, bn), out(x))
            if case.embed: assert close(n(x), case.embed[bn](x))
            r = n.report
            assert (r.family,r.taken,r.classes)==(case.family,bn,case.classes)
            assert not any(p.is_meta for p in n.parameters()) and all(p.requires_grad for p in n.parameters())
            assert f'{r.mapped} mapped, 0 missing' in str(r)
        others = [b for b in case.out if b!=bn]                   # every branch is there, whichever was taken
        for b in others: assert close(n(x, b), case.out[b](x)) if case.classes else close(n.features(x, b), case.out[b](x))

def test_documented_counts_of_tensors_and_parameters():
    "256 tensors and 11,971,520 parameters of ACL; 224 after fine-tuning; 124 of DynACL++; 357 and 12.67 M of AdvCL; 120 of RoCL"
    norm = re.compile(r'running_|num_batches|normalize')
    count = lambda sd: sum(v.numel() for k,v in sd.items() if not norm.search(k))
    acl,advcl = ref.acl().file['state_dict'],ref.advcl().file['model']
    assert len(acl)==256 and count(acl)==11_971_520
    assert len(ref.acl(10).file['state_dict'])==224 and len(ref.dynaclpp().file['state_dict'])==124
    assert len(advcl)==357 and round(count(advcl)/1e6, 2)==12.67
    assert len(ref.rocl().file['model'])==120
    n = load_released(ref.acl().file)
    assert n.report.mapped==256 and sum(p.numel() for p in n.parameters())==11_971_520
    assert load_released(ref.advcl().file).report.dropped=={'heads of pseudo-classes':10, 'heads of the contrast':27}
    assert load_released(ref.deacl().file).report.dropped=={'momentum copy, projector, predictor or queue':122, 'online probe':4}

def test_the_order_of_branches_is_that_of_the_family(x):
    sd = ref.acl().file['state_dict']
    swapped = {re.sub(r'bn_list\.([01])', lambda m: f'bn_list.{1-int(m[1])}', k):v for k,v in sd.items()}
    a,b = load_released(sd, 'adv'),load_released(swapped, 'adv')
    with torch.no_grad():
        assert close(a.features(x, 'clean'), b.features(x, 'adv')) and close(a.features(x, 'adv'), b.features(x, 'clean'))
        assert not close(a.features(x), b.features(x), 1e-2)
    assert a.report.branches==['clean','adv']

def test_rcs_on_imagenet32_has_the_adversarial_branch_first():
    case = ref.rcs_imagenet32()
    n = load_released(case.file)
    assert n.report.branches==['adv','clean']
    assert torch.equal(encoder(n).f.bn.bns['adv'].weight, case.file['state_dict']['module.bn1.bn_list.0.weight'])

def test_files_on_disk_in_every_format(tmp_path, x):
    from safetensors.torch import save_file
    case = ref.acl(10)
    torch.save(case.file, tmp_path/'new.bin')
    torch.save(case.file, tmp_path/'old', _use_new_zipfile_serialization=False)
    save_file(case.file['state_dict'], tmp_path/'safe.pt')
    for f in ('new.bin','old','safe.pt'):
        with torch.no_grad(): assert close(load_released(tmp_path/f)(x), case.out['adv'](x))

def test_what_was_loaded_is_a_copy():
    case = ref.dynaclpp()
    n = load_released(case.file)
    before = n.net.f.conv1.weight.detach().clone()
    case.file['state_dict']['conv1.weight'].zero_()
    assert torch.equal(n.net.f.conv1.weight, before)

def test_stem_padding_is_not_in_the_file(x):
    case = ref.deacl()
    n = load_released(case.file)
    assert n.f.conv1.padding==(2,2) and n.report.stem=='solo' and not load_released(ref.dynaclpp().file).net.f.conv1.padding==(2,2)
    assert n.report.stats[0]==pytest.approx(ref.cifar[0])

# --- what is wrong: right or a sentence

acl10 = functools.cache(lambda: ref.acl(10))
def flat(): return dict(acl10().file['state_dict'])

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load(dtype, x):
    case = ref.acl(10)
    sd = {k:v.to(dtype) for k,v in case.file['state_dict'].items()}                # counters too, as a hasty conversion does: 98,000 overflows
    n = load_released(sd)
    assert all(p.dtype==torch.float32 for p in n.parameters()) and n.report.notes
    with torch.no_grad(): assert close(n(x), case.out['adv'](x), .05)

@pytest.mark.parametrize('prefix', ['module.','module.module.','model.','_orig_mod.','foo.bar.'])
def test_other_prefixes_load(prefix, x):
    case = ref.acl(10)
    n = load_released(ref.prefixed(case.file['state_dict'], prefix))
    with torch.no_grad(): assert close(n(x), case.out['adv'](x))
    assert n.report.prefix==prefix

def without(sd, pattern): return {k:v for k,v in sd.items() if not re.search(pattern, k)}

@pytest.mark.parametrize('spoil,words', {
    'a layer is gone':    (lambda sd: without(sd, r'layer4\.1'), ('2-2-2-1','cut or renamed')),
    'a norm is gone':     (lambda sd: without(sd, r'layer3\.1\.bn2'), ('missing','layer3.1.bn2')),
    'a branch is gone':   (lambda sd: without(sd, r'layer3.*bn_list\.1'), ('missing','bns.adv')),
    'the first is gone':  (lambda sd: without(sd, r'^conv1'), ('conv1.weight',)),
    'normalisation gone': (lambda sd: without(sd, r'^normalize'), ('2 of','mean, std')),
    'head cut in half':   (lambda sd: without(sd, r'^fc\.bias'), ('1 are not explained','head.weight')),
    'renumbered':         (lambda sd: {k.replace('bn_list.1','bn_list.2'):v for k,v in sd.items()}, ('[0, 2]','renumbered')),
    'renamed':            (lambda sd: {k.replace('conv2','second'):v for k,v in sd.items()}, ('missing','not explained','second')),
    'unknown tensor':     (lambda sd: sd|{'layer1.0.extra':torch.zeros(3)}, ('not explained','extra')),
    'wrong shape':        (lambda sd: sd|{'layer1.0.conv1.weight':torch.zeros(64,64,1,1)}, ('(64, 64, 1, 1)','(64, 64, 3, 3)')),
    'integers':           (lambda sd: sd|{'layer1.0.conv1.weight':torch.zeros(64,64,3,3, dtype=torch.int32)}, ('int32',)),
    'complex weights':    (lambda sd: sd|{'normalize.mean':torch.zeros(3, dtype=torch.complex64)}, ('complex64','floating point')),
    'complex counter':    (lambda sd: sd|{'bn1.bn_list.1.num_batches_tracked':torch.tensor(1j)}, ('complex64',)),
    'NaN':                (lambda sd: sd|{'layer1.0.conv1.weight':torch.full((64,64,3,3), float('nan'))}, ('not finite','layer1.0.conv1')),
    'negative variance':  (lambda sd: sd|{'bn1.bn_list.1.running_var':-torch.ones(64)}, ('running_var','below 0')),
    'no deviation':       (lambda sd: sd|{'normalize.std':torch.zeros(3)}, ('std',)),
    'sparse':             (lambda sd: sd|{'fc.weight':torch.zeros(10,512).to_sparse()}, ('plain',)),
    'no bytes behind':    (lambda sd: sd|{'fc.weight':torch.zeros(1,1).expand(10,512)}, ('plain',)),
    'a list':             (lambda sd: sd|{'fc.bias':[0.]*10}, ('plain',)),
    'two names for one':  (lambda sd: sd|{k.replace('downsample.conv','downsample.0'):v for k,v in sd.items()}, ('twice',)),
    'another network':    (lambda sd: tiny(3).state_dict(), ('no network of these papers',)),
    'nothing':            (lambda sd: {}, ('no network',)),
    'large kernel':       (lambda sd: sd|{'conv1.weight':torch.zeros(64,3,5,5)}, ('5×5',)),
    'terminal codes':     (lambda sd: sd|{'\x1b[31mred\n':torch.zeros(1)}, ('x1b',)),
}.values(), ids=lambda v: None)
def test_what_is_wrong_is_named(spoil, words, recwarn):
    with pytest.raises(ValueError) as e: load_released(spoil(flat()))
    assert not recwarn.list
    assert all(w in str(e.value) for w in words) and sentence(e.value) and '\x1b' not in str(e.value), e.value

@pytest.mark.parametrize('args,words', [
    (dict(bn='pseudo'), ("'clean', 'adv'",)), (dict(bn='pgd'), ("'pseudo'",)), (dict(family='simclr'), ('rcs-imagenet32',)), (dict(family='advcl'), ('[0, 1, 2]',)), (dict(family='rocl'), ('[0, 1]|not explained',))])
def test_wrong_arguments_list_the_choices(args, words):
    try: load_released(flat(), **args)
    except ValueError as e: assert any(re.search(w, str(e)) or w in str(e) for w in words) and sentence(e)
    else: assert args==dict(family='rocl')

def test_ambiguity_lists_the_choices():
    bare = ref.shake(ref.resnet(), 1).state_dict()
    with pytest.raises(ValueError, match="'advcl-one'.*'solo'"): load_released(bare)
    with pytest.raises(ValueError, match="'acl-one'.*'deacl'"): load_released(ref.normalize(ref.cifar)|bare)              # DeACL without its prefix
    two = dict(state_dict=flat(), model=flat())
    with pytest.raises(ValueError, match="'state_dict', 'model'"): load_released(two)
    with pytest.raises(ValueError, match="2 networks"): load_released(ref.prefixed(flat(), 'a.')|ref.prefixed(flat(), 'b.'))
    assert load_released(two['state_dict']).report.family=='acl'

# --- untrusted files

class Call:
    def __init__(self, f, *args): self.f,self.args = f,args
    def __reduce__(self): return self.f,self.args

@pytest.mark.parametrize('old', [False,True])
@pytest.mark.parametrize('make', [
    lambda p: Call(Path.touch, p), lambda p: Call(eval, f'open({str(p)!r},"w")'), lambda p: Call(exec, f'open({str(p)!r},"w")'), lambda p: Call(__import__('os').system, f'touch {p}'),
    lambda p: Call(subprocess.call, ['touch',str(p)]), lambda p: Call(getattr, Path, 'touch'), lambda p: Call(open, str(p), 'w'), lambda p: Call(torch.load, str(p)), lambda p: Call(torch.save, 1, str(p))])
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(tmp_path, make, old):
    evil,proof = tmp_path/'evil.pt',tmp_path/'ran'
    torch.save(dict(state_dict={'layer1.0.conv1.weight':torch.zeros(2)}, x=make(proof)), evil, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match='refused|not a whole') as e: load_released(evil)
    assert not proof.exists() and sentence(e.value)

def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path/'p.pt').write_bytes(pickle.dumps(Call(Path.touch, tmp_path/'ran')))
    with pytest.raises(ValueError): load_released(tmp_path/'p.pt')
    assert not (tmp_path/'ran').exists()

def test_settings_of_a_training_framework_do_no_harm_and_are_not_imported(tmp_path, x, monkeypatch):
    "Lightning files carry a Namespace, an AttributeDict and callbacks by class: opened without Lightning"
    m = types.ModuleType('pytorch_lightning.utilities.parsing')
    class AttributeDict(dict): pass
    AttributeDict.__module__,AttributeDict.__qualname__ = m.__name__,'AttributeDict'
    m.AttributeDict = AttributeDict
    parents = {n:types.ModuleType(n) for n in ('pytorch_lightning','pytorch_lightning.utilities')}
    case,known = ref.solo(),set(torch.serialization.get_safe_globals())
    import numpy as np
    with monkeypatch.context() as p:
        for n,mod in (parents|{m.__name__:m}).items(): p.setitem(sys.modules, n, mod)
        torch.save(case.file|dict(hyper_parameters=AttributeDict(lr=.1, args=argparse.Namespace(a=[1,2])), best=np.float64(.5)), tmp_path/'l.ckpt')
    with torch.no_grad(): assert close(load_released(tmp_path/'l.ckpt').features(x), case.out['adv'](x))
    assert 'pytorch_lightning' not in sys.modules and set(torch.serialization.get_safe_globals())==known

def test_no_unsafe_load_in_the_repository():
    root = Path(zoo.__file__).parent.parent
    bad = re.compile('weights_only *= *'+'False|pickle_module|'+'add_safe_globals')
    files = [p for d in ('nbs','robustfm','tests') for p in (root/d).rglob('*') if p.suffix in ('.py','.ipynb') and '.ipynb_checkpoints' not in p.parts]
    hits = [p.name for p in files if bad.search(p.read_text(encoding='utf-8')) and p.name!='test_zoo.py']
    assert len(files)>20 and not hits
    loads = [p.name for p in (root/'robustfm').rglob('*.py') if 'torch.load(' in p.read_text()]
    assert set(loads)<={'zoo.py'}, 'torch.load belongs in zoo.read_checkpoint'

def test_truncated_and_foreign_files(tmp_path):
    torch.save(ref.dynaclpp().file, tmp_path/'whole.pt')
    data = (tmp_path/'whole.pt').read_bytes()
    for n,name in ((0,'empty'),(7,'seven'),(1000,'kilo'),(len(data)//2,'half'),(len(data)-100,'end')):
        (tmp_path/name).write_bytes(data[:n])
        with pytest.raises(ValueError, match='empty|whole') as e: load_released(tmp_path/name)
        assert sentence(e.value)
    (tmp_path/'page').write_text('<html>sign in</html>')
    with pytest.raises(ValueError, match='web page'): load_released(tmp_path/'page')
    torch.save([1,2], tmp_path/'list')
    with pytest.raises(ValueError, match='list'): load_released(tmp_path/'list')
    with pytest.raises(FileNotFoundError, match='is not there'): load_released(tmp_path/'none')
    with pytest.raises(FileNotFoundError): load_released(tmp_path)

def whole(n):
    "Nothing of it came from anywhere but a file"
    sd = n.state_dict()
    return all(v.device.type=='cpu' and (v.dtype in (torch.float32,torch.int64)) for v in sd.values()) and not n.training

def mutant(sd, r):
    "One of the ways in which a state dict can be spoilt"
    k = r.choice(list(sd)); v = sd[k]
    kind = r.choice(('drop','rename','shape','dtype','value','object','extra','prefix','duplicate','key'))
    d = dict(sd)
    if kind=='drop':
        for k in r.sample(list(sd), r.choice((1,1,2,20,100))): d.pop(k)
    elif kind=='rename': d[r.choice((k[::-1], k+'.x', k.replace('.','..'), k.upper(), k.replace('layer','block')))] = d.pop(k)
    elif kind=='shape': d[k] = r.choice((v[None], v.flatten()[:-1] if v.numel()>1 else v[None], torch.zeros(0), torch.zeros((1,)*5), v.transpose(0, -1) if v.dim() else v))
    elif kind=='dtype': d[k] = v.to(r.choice((torch.float16,torch.bfloat16,torch.float64,torch.int8,torch.int64,torch.bool,torch.complex64,torch.float8_e5m2)))
    elif kind=='value':
        if v.is_floating_point(): d[k] = torch.full_like(v, r.choice((float('nan'),float('inf'),-float('inf'),-1e30,1e38)))
    elif kind=='object': d[k] = r.choice((None, 3, 'text', [1,2], {}, torch.zeros(1).expand(v.shape) if v.dim() else 0, torch.empty(v.shape, device='meta'), v.to_sparse() if v.dim()>1 else ()))
    elif kind=='extra': d[r.choice(('epoch','layer9.0.conv1.weight','bn1.bn_list.7.weight','bn1.bn_list.99999999999.weight','fc.fc1.weight','linear.bn1.bias','','\n','encoder_q.x','block1.layer.0.conv1.weight','head.weight'))] = v
    elif kind=='prefix': d[r.choice(('module.','encoder_k.','backbone.'))+k] = d.pop(k)
    elif kind=='duplicate': d['module.'+k] = v
    elif kind=='key': d[r.choice((3, None, (1,2), b'x', 2.5))] = v
    return kind,d

def narrowed(sd): return {k:v[tuple(slice(n//8 if n>=64 else n) for n in v.shape)].clone() for k,v in sd.items()}

@pytest.fixture
def narrow(monkeypatch):
    "Networks with an eighth of the channels under every name they had: files of 0.7 MB instead of 45"
    @functools.cache
    def made(stem, channels):
        f = resnet18(stem=stem, channels=channels)
        for n,m in list(f.named_modules()):
            parent,_,last = n.rpartition('.')
            if isinstance(m, nn.Conv2d): new = nn.Conv2d(m.in_channels//8 or m.in_channels, m.out_channels//8, m.kernel_size, m.stride, m.padding, bias=False)
            elif isinstance(m, nn.BatchNorm2d): new = nn.BatchNorm2d(m.num_features//8)
            else: continue
            setattr(f.get_submodule(parent), last, new)
        f.num_features //= 8
        return f
    monkeypatch.setitem(zoo.backbones, 'resnet18', lambda stem, channels: deepcopy(made(stem, channels)))

def numbers(v): return torch.as_tensor(v).detach().flatten().float().numpy().tobytes()

def comes_from(n, sd):
    "Every tensor of the network is, number by number, one of the file; normalisation may be the family's, and a counter may have overflowed in the file"
    there = {numbers(v) for v in sd.values() if torch.is_tensor(v) and v.device.type=='cpu' and v.layout==torch.strided and not v.is_complex()}
    return all(numbers(v) in there for k,v in n.state_dict().items() if not k.endswith('num_batches_tracked') and (n.report.inside or k.rpartition('.')[2] not in ('mean','std')))

@pytest.mark.slow
def test_two_thousand_spoilt_files_load_right_or_raise_one_sentence(tmp_path, narrow, recwarn, monkeypatch):
    "Names, shapes, types and values changed in 1,000 state dicts, bytes in 1,000 files of three formats: a network comes back whole and from the file, or not at all"
    from safetensors.torch import save
    r,outcome,inside,path = random.Random(0),{},{},tmp_path/'f'
    whole_sd = [narrowed(next(v for v in (c.file.get('state_dict'),c.file.get('model'),c.file) if isinstance(v, dict))) for c in (ref.dynaclpp(),ref.acl(),ref.advcl(),ref.rocl(),ref.deacl())]
    monkeypatch.setattr(zoo, 'read_checkpoint', lambda p: inside.update(sd=read_checkpoint(p)) or inside['sd']) # what was in the file that was opened last
    def attempt(kind, source, sd):
        tally = outcome.setdefault(kind, [0,0])
        try: n = load_released(source)
        except refusals as e: assert sentence(e), e; tally[1] += 1
        else: assert whole(n) and comes_from(n, sd or inside['sd'].get('state_dict', inside['sd'])), kind; tally[0] += 1
    for sd in whole_sd: attempt('untouched', sd, sd)
    assert outcome.pop('untouched')==[5,0]
    for i in range(1000):
        kind,d = mutant(whole_sd[(0,0,1,0,3,0,0,4,3,2)[i%10]], r)                     # two and three branches take twice the time
        attempt(kind, d if i%2 else dict(state_dict=d), d)
    data = {}
    for name,old in (('zip',False),('legacy',True)):
        f = io.BytesIO(); torch.save(dict(state_dict=whole_sd[0]), f, _use_new_zipfile_serialization=not old); data[name] = f.getvalue()
    data['safetensors'] = save(whole_sd[0])
    for i in range(1000):
        name = ('zip','legacy','safetensors')[i%3]
        b = bytearray(data[name])
        for _ in range(r.choice((1,1,2,8,64))): b[r.choice((r.randrange(len(b)), r.randrange(20_000), -1-r.randrange(20_000)))] = r.randrange(256) # names are at the ends
        if r.random()<.2: b = b[:r.randrange(len(b))]
        path.write_bytes(b)
        attempt(name, path, None)
    assert sum(map(sum, outcome.values()))==2000 and all(refused for _,refused in outcome.values())
    assert all(outcome[k][0] for k in ('dtype','value','object','extra','legacy','safetensors')) # most files with other *numbers* are still networks
    assert not [w for w in recwarn if 'complex' in str(w.message) or 'torch' in w.filename]

def test_bytes_of_a_whole_file_flipped(tmp_path):
    "In a real file: checksums of the archive find most of it, and what they let pass is a whole network"
    case = ref.dynaclpp()
    torch.save(case.file, tmp_path/'w.pt')
    data = (tmp_path/'w.pt').read_bytes()
    r = random.Random(1)
    for _ in range(6):
        b = bytearray(data); i = r.choice((r.randrange(2000), len(data)-r.randrange(1,2000), r.randrange(len(data)))); b[i] ^= 1<<r.randrange(8)
        (tmp_path/'m.pt').write_bytes(bytes(b))
        try: n = load_released(tmp_path/'m.pt')
        except refusals as e: assert sentence(e); continue
        assert whole(n)

# --- the lists

def test_released_names_each_file_once_with_its_source():
    rows = released()
    assert len({r['name'] for r in rows})==len(rows)==29 and sum(r['robust'] for r in rows)==27 and all(r['family'] in families and r['host'] for r in rows)
    assert all(r['source'] for r in rows if r['claims'])

def test_released_claims_agree_with_the_published_table(data_folder):
    import csv
    table = data_folder.parent/'papers'/'robustssl_leaderboard.csv'
    if not table.exists(): pytest.skip('no published table beside the data')
    method = dict(ACL_DS='ACL', AInfoNCE='A-InfoNCE', DynACL_IR='DynACL-AIR', **{'DynACL++_IR':'DynACL-AIR++'}, DynACL_RCS='DynACL-RCS')
    known = {(r['pretrain'],r['mode'].lower(),r['method']):(float(r['RA']),float(r['SA'])) for r in csv.DictReader(table.open()) if r['pretrain']==r['finetune']}
    n = 0
    for r in (r for r in released() if r['data'] in ('cifar10','cifar100','stl10')):
        name = re.sub(r'(_CIFAR100|_STL10)?\.pt$', '', r['name'])
        for mode,claim in r['claims'].items(): assert known[r['data'],mode,method.get(name, name)]==claim, (r['name'],mode); n += 1
    assert n==69

# --- ours

def test_round_trips_are_bit_identical(tmp_path):
    n = load_released(ref.acl().file)
    n.save(tmp_path/'a.safetensors', **n.card)
    assert same(n, load_own(tmp_path/'a.safetensors')) and same(n, Encoder.load(tmp_path/'a.safetensors'))
    c = load_released(ref.dynaclpp().file)
    c.save(tmp_path/'c.safetensors')
    again = load_own(tmp_path/'c.safetensors')
    assert isinstance(again, Classifier) and same(c, again) and again.card['released']['family']=='acl-one'
    d = load_released(ref.deacl().file)
    d.save(tmp_path/'d.safetensors')
    assert same(d, load_own(tmp_path/'d.safetensors'))

def test_a_card_says_what_was_told_and_is_safe_to_print(tmp_path):
    from robustfm.evaluation import Report,Row
    from robustfm.verdicts import Verdict
    report = Report([Row('pgd20', .5, 100, .05, 1., 20., 'PGD-20')], [Verdict('steps', 'pass', .5, 10, 'more steps find no more', '')])
    Encoder(tiny()).save(tmp_path/'a.safetensors', **make_card(method='ACL', data='digits', seed=0, report=report, by='\x1b[31m<script>'))
    card = read_card(tmp_path/'a.safetensors')
    text = card_text(card)
    assert card['card']['method']=='ACL' and card['card']['evaluation']['verdicts'][0]['name']=='steps' and '\x1b' not in text and 'pgd20' in text
    torch.save({}, tmp_path/'x.pt')
    with pytest.raises(ValueError): read_card(tmp_path/'x.pt')

def test_torchvision_gets_its_own_names(x):
    "What `plain` hands out for a ResNet is torchvision's, name by name"
    case = ref.acl(10)
    n = load_released(case.file)
    with torch.no_grad():
        for bn in ('clean','adv'):
            norm,f,head = plain(n, bn)
            f.fc = head
            assert close(f(norm(x)), case.out[bn](x), 1e-4)
            assert f.state_dict().keys()==ref.resnet(classes=10).state_dict().keys()
    assert isinstance(n.net.f.bn1, nn.Module) and len(n.net.f.bn1.bns)==2                       # the network itself is untouched

def test_torch_export_and_plain(x):
    n = Encoder(tiny(3), stats=((.5,)*3,(.5,)*3)).eval()
    p = torch.export.export(plain(n, 'adv'), (x,), dynamic_shapes=({0:torch.export.Dim('n')},)).module()
    with torch.no_grad(): assert close(p(x[:1]), n.features(x[:1], 'adv'))
    clf = Classifier(n, 3, 'adv', size=16)
    with pytest.raises(ValueError, match='resize'): plain(clf)

def test_hub_round_trip_through_a_folder(tmp_path):
    for n in (Encoder(tiny()), Classifier(Encoder(tiny()), 10, 'adv')):
        f = save_pretrained(n, tmp_path/type(n).__name__, data='digits')
        again = from_pretrained(f)
        assert type(again) is type(n) and same(n, again) and again.card['data']=='digits' and 'robustfm' in (f/'README.md').read_text()
    with pytest.raises(FileNotFoundError): (tmp_path/'empty').mkdir() or from_pretrained(tmp_path/'empty')

def test_push_sends_that_folder(tmp_path, monkeypatch):
    "Without a server: what would be uploaded is a network that loads"
    import huggingface_hub
    sent = {}
    class Api:
        def __init__(self, **kw): pass
        def create_repo(self, repo_id, **kw): return types.SimpleNamespace(repo_id=repo_id)
        def upload_folder(self, *, repo_id, folder_path, **kw):
            sent[repo_id] = load_own(Path(folder_path)/'model.safetensors')
            return 'there'
    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    n = Encoder(tiny())
    assert push_to_hub(n, 'you/net')=='there' and same(sent['you/net'], n)

def test_import_and_card_from_a_shell(tmp_path):
    from typer.testing import CliRunner
    from robustfm.cli import app
    torch.save(ref.dynaclpp().file, tmp_path/'r.pt')
    run = lambda *a: CliRunner().invoke(app, [str(o) for o in a])
    r = run('import', tmp_path/'r.pt', '--out', tmp_path/'n.safetensors')
    assert r.exit_code==0 and 'acl-one' in r.output, r.exception
    r = run('card', tmp_path/'n.safetensors')
    assert r.exit_code==0 and 'released' in r.output, r.exception
    r = run('card', tmp_path/'r.pt')                                      # `main` prints the sentence
    assert isinstance(r.exception, ValueError) and sentence(r.exception)
