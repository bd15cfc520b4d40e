"The script for a GPU machine, at toy size on a CPU: run folders small enough to ship, and nothing done twice"
import sys
from pathlib import Path
import robustfm
import numpy as np, pytest, torch
sys.path.insert(0, str(Path(__file__).parent/'bench'))
import bench_step, gpu_kit
from robustfm.rendering import shapes
from robustfm.runs import open_run

@pytest.mark.slow
def test_kit_at_toy_size(tmp_path, capsys):
    x = shapes(200)
    np.savez_compressed(tmp_path/'some.npz', x=x.x.permute(0,2,3,1).numpy(), y=x.y.numpy().astype(np.uint8))
    toy = dict(data=tmp_path/'some.npz', out=tmp_path/'runs', epochs=2, images=100, bs=8, network='tiny', bench_bs=4, rounds=1, bench=('fp32','bf16'))
    rows = gpu_kit.kit(**toy)
    assert [r['name'] for r in rows]==['simclr','acl','acl-air','dynacl-air','acl-rcs-0.2','acl-random-0.2','acl-rcs-0.1','acl-random-0.1']
    for r in rows:
        run = open_run(tmp_path/'runs'/r['name'])
        assert run.finished and not list(run.path.rglob('*.safetensors')) and sum(f.stat().st_size for f in run.path.rglob('*') if f.is_file())<gpu_kit.limit
        with np.load(run.path/'embeddings'/'test.npz') as z: assert len(z['h'])==len(z['y'])==20
    assert open_run(tmp_path/'runs'/'acl-rcs-0.2').selections
    assert gpu_kit.kit(**toy)==rows                                    # from the folders

def test_a_slower_step_is_noticed(tmp_path):
    row = lambda ratio,executed=31.7: dict(ratio=ratio, executed_F=executed)
    r = lambda *a: dict(machine=dict(gpu=None, cpu='a', cores=2), network='tiny', bs=4, needed_F=32, rows=dict(released=row(1., 42.), bf16=row(*a)))
    path = tmp_path/'recorded.json'
    assert not bench_step.judge(r(1.5), record=True, path=path) and not bench_step.judge(r(1.25), path=path)
    assert bench_step.judge(r(1.1), path=path)==['bf16: 1.10 times as fast, 1.50 were recorded']
    assert '42.0F executed' in bench_step.judge(r(1.5, 42.), path=path)[0]
