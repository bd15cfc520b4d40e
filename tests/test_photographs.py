"The trainings on photographs, rehearsed: arm by arm, packed, resumed, refused where settings differ"
import sys
from pathlib import Path
import numpy as np, pytest
from house import root,tutorials
sys.path.insert(0, str(Path(__file__).resolve().parent/'bench'))
import photographs
from robustfm.datasets import cifar10,photos
from robustfm.runs import open_run
from robustfm.widgets import _Map,embedding_explorer
from robustfm.zoo import pretrained

@pytest.mark.slow
@pytest.mark.data
def test_arms_are_trained_measured_and_packed_once(cifar10_root, tmp_path):
    pytest.importorskip('pyautoattack', reason="needs pyautoattack: pip install 'robustfm[autoattack]'")
    def go(names, **kw): return photographs.all_arms(cifar10_root, names, [0], tmp_path/'runs', tmp_path/'r.json', tmp_path/'w', tmp_path/'f', **dict(epochs=1, images=128, quick=True)|kw)
    rows = go(['simclr'])
    written = (tmp_path/'w'/'simclr_cifar10_0.safetensors').stat().st_mtime_ns
    rows = go(['simclr','deacl'])                                                       # its teacher is that of the first arm
    assert [r['arm'] for r in rows]==['simclr','deacl'] and (tmp_path/'w'/'simclr_cifar10_0.safetensors').stat().st_mtime_ns==written
    assert all(0<=r[f'pgd20_{e}']<=r['clean']<=1 and r[f'pgd20_{e}_se']>=0 for r in rows for e in photographs.radii)
    for r in rows:
        folder = tmp_path/'f'/f"{r['arm']}_0"
        assert r['bytes']<1_000_000 and not list(folder.rglob('*.safetensors')) and open_run(folder).embeddings[1]['z'].shape[1]<=24
        clf = pretrained(r['arm'], folder=tmp_path/'w')
        assert clf.card['evaluation']['clean']==r['clean'] and (tmp_path/'w'/f"{r['arm']}_cifar10_0.safetensors").stat().st_size<1_000_000
    with pytest.raises(SystemExit, match='was made with'): go(['simclr'], epochs=2)

@pytest.mark.data
def test_the_photographs_that_are_shown_were_not_trained_on(cifar10_root):
    pytest.importorskip('foolbox', reason='its photographs')
    train,test = cifar10(cifar10_root)
    def pixels(images): return {x.numpy().tobytes() for x in images.x}
    shown = pixels(photos()[0])
    assert not shown & pixels(train) and shown <= pixels(test)

def _arrays(path):
    if path.suffix=='.safetensors':
        from safetensors.numpy import load_file
        yield from load_file(path).values()
    else:
        found = np.load(path, allow_pickle=False)
        yield from (found[k] for k in found.files) if path.suffix=='.npz' else [found]

def test_nothing_that_travels_holds_images():
    "Neither weights nor run folders: no array of bytes with the shape of pictures, none of 32×32 pixels in colour"
    travels = [f for d in (root/'robustfm',tutorials) for k in ('safetensors','npz','npy') for f in d.rglob(f'*.{k}')]
    for f in travels:
        for a in _arrays(f):
            assert not (a.dtype==np.uint8 and a.ndim>2) and a.shape[-3:] not in ((3,32,32),(32,32,3)) and a.shape[-1:]!=(3072,), f
    others = [f for d in (root/'robustfm',tutorials) for k in ('png','jpg','jpeg','bin','pt','pth') for f in d.rglob(f'*.{k}')]
    assert not [f for f in others if '.ipynb_checkpoints' not in f.parts], others

@pytest.mark.parametrize('arm', ['simclr','acl'])
def test_run_folders_open_without_their_images(arm):
    run = open_run(tutorials/'runs'/f'cifar10_{arm}')
    assert run.finished and list(run.embeddings)==[2,4,6,8,10,12]
    o = _Map(run, None, None, 50_000)
    figure = o.draw('12', 8, 3, arm=='acl', 'fixed', 'stored', ())
    assert o.n==1000 and o.x is None and '1,000 images' in figure.title and (arm!='acl' or '8' in figure.title)

def test_a_network_cannot_be_shown_without_images():
    e = embedding_explorer(pretrained('acl'))
    assert e.first() is None and 'needs images' in str(e.error)
