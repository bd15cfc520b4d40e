"Norms on several processes: as on one, or refused in a sentence"
import copy
import robustfm
import pytest, torch, torch.distributed as dist
from torch import nn
from robustfm.train import GlobalBatchNorm,_check_norms

FAULTS = [('bugs-ml-A4', 'fused or unusual norms', 'test_a_norm_that_does_more_is_refused'), ('bugs-ml-A4', 'fused or unusual norms', 'test_a_global_norm_is_the_plain_one')]

@pytest.fixture
def alone(tmp_path):
    "A group of one process"
    dist.init_process_group('gloo', init_method=f'file://{tmp_path/"store"}', rank=0, world_size=1)
    yield
    dist.destroy_process_group()

@pytest.mark.parametrize('kw', [dict(), dict(affine=False), dict(momentum=None), dict(eps=.1), dict(momentum=.5)], ids=['plain','bugs-ml-A4-affine','cumulative','eps','momentum'])
def test_a_global_norm_is_the_plain_one(alone, kw):
    torch.manual_seed(0)
    a = nn.BatchNorm2d(3, **kw)
    if a.affine: nn.init.uniform_(a.weight); nn.init.uniform_(a.bias)
    b = copy.deepcopy(a); b.__class__ = GlobalBatchNorm
    _check_norms(b)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(a(x), b(x), rtol=1e-5, atol=1e-5)
    for k,v in a.state_dict().items(): torch.testing.assert_close(v, b.state_dict()[k], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.eval()(x), b.eval()(x))

class Act(nn.BatchNorm2d):
    def forward(self, x): return super().forward(x).relu()

@pytest.mark.parametrize('make', [lambda: Act(3), lambda: nn.BatchNorm2d(3, track_running_stats=False), lambda: nn.utils.parametrizations.weight_norm(nn.BatchNorm2d(3), dim=None), lambda: nn.LazyBatchNorm2d()],
                         ids=['bugs-ml-A4-activation','bugs-ml-A4-untracked','parametrised','lazy'])
def test_a_norm_that_does_more_is_refused(make):
    with pytest.raises(ValueError, match='several processes cannot share'): _check_norms(nn.Sequential(nn.Conv2d(3,3,1), make()))
