"The trainings on photographs, rehearsed: arm by arm, packed, resumed, refused where settings differ"
import sys
from pathlib import Path
import pytest
sys.path.insert(0, str(Path(__file__).resolve().parent/'bench'))
import photographs
from robustfm.runs import open_run
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
