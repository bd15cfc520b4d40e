"ACL on real photographs, in both precisions; the attack and the loss to the last digit"
import copy
import pytest, torch, torch.nn.functional as F
from robustfm.attacks import L2,Linf,PGD
from robustfm.augment import views
from robustfm.data import Batches
from robustfm.datasets import cifar10
from robustfm.losses import nt_xent
from robustfm.methods.acl import ACL
from robustfm.models import Encoder,resnet18,tiny
from robustfm.train import engine,steps

@pytest.mark.parametrize('precision', ['fp32','bf16'])
def test_resnet18_takes_steps_on_cifar10(cifar10_root, precision):
    train,_ = cifar10(cifar10_root)
    torch.manual_seed(0)
    acl = ACL(Encoder(resnet18()), views(), PGD(steps=1))
    before = copy.deepcopy(acl.state_dict())
    for s in steps(acl, Batches(train[:8], bs=4), 'lars', 1, accelerator=engine(precision)):
        assert s.loss.isfinite() and s.loss.dtype==torch.float32 and set(s.terms)=={'clean','adv'}
    assert s.step==1 and any(not v.equal(before[k]) for k,v in acl.state_dict().items())

@pytest.mark.parametrize('t', [.1,.5])
def test_nt_xent_is_the_interleaved_form(t):
    "Rows 2i and 2i+1 are partners, the self-similarity is subtracted from the sum: the layout and form of the released code"
    torch.manual_seed(0)
    z1,z2 = torch.randn(2, 33, 16, dtype=torch.float64)
    z = F.normalize(torch.stack([z1,z2],1).flatten(0,1), dim=1)
    e = (z@z.T/t).exp()
    partner = torch.arange(len(z))^1
    l = -(e[torch.arange(len(z)),partner]/(e.sum(1)-torch.exp(torch.tensor(1/t, dtype=torch.float64)))).log()
    assert abs(nt_xent(z1,z2,t=t)-l.mean())<1e-6
    assert abs(nt_xent(z1.float(),z2.float(),t=t)-l.mean())<1e-5

@pytest.mark.parametrize('ball', [Linf(8/255),Linf(.15),L2(.5)])
def test_an_attack_stays_inside_raises_the_loss_and_leaves_no_trace(ball):
    torch.manual_seed(0)
    acl = ACL(Encoder(tiny(3)), views(), PGD(ball, steps=5))
    acl.net.f[1].eval()                                               # a norm that its owner has frozen
    next(acl.parameters()).requires_grad_(False)
    v1,v2 = torch.rand(2, 16, 3, 16, 16)
    state,modes = copy.deepcopy(acl.state_dict()),[m.training for m in acl.modules()]
    wants = [p.requires_grad for p in acl.parameters()]
    loss = lambda *a: nt_xent(*acl.net.embed(*a, bn='adv'))
    acl.eval(); before = loss(v1,v2); [setattr(m, 'training', t) for m,t in zip(acl.modules(), modes)]
    a = acl.perturb(loss, v1, v2)
    assert all(v.equal(state[k]) for k,v in acl.state_dict().items())
    assert modes==[m.training for m in acl.modules()] and wants==[p.requires_grad for p in acl.parameters()]
    assert all(p.grad is None for p in acl.parameters()) and not any(o.requires_grad for o in a)
    for o,v in zip(a, (v1,v2)):
        size = (o-v).abs().max() if isinstance(ball, Linf) else (o-v).flatten(1).norm(dim=1).max()
        assert size<=ball.eps+1e-5 and o.min()>=0 and o.max()<=1
    acl.eval(); assert loss(*a)>before

def test_a_branch_never_touches_the_other():
    net = Encoder(tiny(3))
    stats = lambda b: {k:v.clone() for k,v in net.state_dict().items() if f'bns.{b}.' in k}
    for here,there in (('clean','adv'),('adv','clean')):
        mine,others = stats(here),stats(there)
        net(torch.rand(8,3,8,8), bn=here)
        assert all(v.equal(others[k]) for k,v in stats(there).items())
        assert any(not v.equal(mine[k]) for k,v in stats(here).items())
