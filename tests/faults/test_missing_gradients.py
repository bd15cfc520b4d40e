"Kind: where no gradient reaches the images, an attack says so and its number is not believed"
import numpy as np
import pytest, torch
import torch.nn.functional as F
from robustfm.attacks import L2,PGD,Linf,ce_loss,fgsm,gradient,worst_case
from robustfm.finetuning import accuracy

FAULTS = [('bugs-ml-A1', 'missing gradient', 'test_inference_mode_changes_nothing'),
          ('bugs-ml-A1', 'missing gradient', 'test_a_cut_graph_is_refused'),
          ('bugs-ml-A1', 'missing gradient', 'test_a_masked_model_can_still_be_reported')]

torch.manual_seed(0)
w = torch.randn(64, 3)
x = torch.rand(24,1,8,8)
pgd = PGD(Linf(.05), steps=5, start='none')

class Model(torch.nn.Module):
    def __init__(self, before=lambda x: x):
        super().__init__()
        self.w,self.before = torch.nn.Parameter(w.clone()),before
    def forward(self, x): return self.before(x).flatten(1)@self.w

model = Model().eval()
y = model(x).argmax(1)
class data: pass
data.x,data.y = x,y

def by_pgd(x, y): return pgd(lambda a: ce_loss(model(a), y), x)
def by_l2(x, y): return PGD(L2(.5), start='none')(lambda a: ce_loss(model(a), y), x)
def by_fgsm(x, y): return fgsm(lambda a: ce_loss(model(a), y), x, eps=.05)
def by_accuracy(x, y): return torch.tensor(accuracy(model, data, pgd))
def by_worst_case(x, y): return worst_case(model, x, y, pgd)[0]
def by_worst_case_ce(x, y): return worst_case(model, x, y, pgd, ce_loss)[1]

ways = [by_pgd, by_l2, by_fgsm, by_accuracy, by_worst_case, by_worst_case_ce]

@pytest.mark.parametrize('off', [torch.inference_mode, torch.no_grad], ids=['bugs-ml-A1-inference-mode','bugs-ml-A1-no-grad'])
@pytest.mark.parametrize('way', ways, ids=lambda f: f.__name__)
def test_inference_mode_changes_nothing(way, off):
    want = way(x, y)
    with off(): got = way(x, y)
    torch.testing.assert_close(got.clone(), want)

def test_images_made_in_inference_mode_are_attacked():
    with torch.inference_mode():
        made,labels = x.clone(),y.clone()
        torch.testing.assert_close(worst_case(model, made, labels, pgd)[0], worst_case(model, x, y, pgd)[0])
        torch.testing.assert_close(pgd(lambda a: model(a)[:,0], made).clone(), pgd(lambda a: model(a)[:,0], x))

def test_labels_made_in_inference_mode_are_named():
    "Autograd would have to keep them, and cannot: a sentence, not torch's"
    with torch.inference_mode():
        labels = y.clone()
        with pytest.raises(ValueError, match='made in inference mode'): by_pgd(x, labels)

cuts = {'detach': lambda a: a.detach(), 'numpy': lambda a: torch.from_numpy(np.asarray(a.detach())), 'bytes': lambda a: (a*255).byte().float(),
        'no-grad': lambda a: torch.no_grad()(lambda: a+0)(), 'constant': lambda a: torch.ones_like(a), 'data': lambda a: a.data, 'list': lambda a: torch.tensor(a.tolist())}

@pytest.mark.parametrize('cut', cuts.values(), ids=['bugs-ml-A1-'+k for k in cuts])
def test_a_cut_graph_is_refused(cut):
    masked = Model(cut).eval()
    frozen = Model(cut).eval().requires_grad_(False)
    for m in (masked,frozen):
        with pytest.raises(ValueError, match='no gradient of the loss reaches the images'): pgd(lambda a: ce_loss(m(a), y), x)
        with pytest.raises(ValueError, match='no gradient of the loss reaches the images'): worst_case(m, x, y, pgd)
        with pytest.raises(ValueError, match='no gradient of the loss reaches the images'): accuracy(m, data, pgd)

def test_a_view_that_the_loss_forgets_is_refused():
    with pytest.raises(ValueError, match='no gradient'): pgd(lambda a,b: model(a).sum(), x, x)

@pytest.mark.parametrize('cut', cuts.values(), ids=['bugs-ml-A1-'+k for k in cuts])
def test_a_masked_model_can_still_be_reported(cut):
    "What measures models, and says which are masked, asks for zeros"
    m = Model(cut).eval()
    right = m(x).argmax(1)
    ok,adv = worst_case(m, x, right, pgd, missing='zero')
    assert ok.all() and torch.equal(adv, x)
    a = x.clone().requires_grad_()
    assert gradient(ce_loss(m(a), right), a, 'zero').eq(0).all()
    with pytest.raises(ValueError, match="missing='none' is unknown"): gradient(ce_loss(m(a), right), a, 'none')

def test_a_gradient_of_zero_is_a_gradient():
    "A head that starts at zero: the first attack stays where it is, and trains"
    assert torch.equal(pgd(lambda a: model(a).sum()*0, x), x)
    a = x.clone().requires_grad_()
    g = gradient((model(a)*torch.tensor([1.,0.,0.])).sum(1)*(torch.arange(24)>3), a)
    assert g[:4].eq(0).all() and g[4:].ne(0).any()

def test_a_gradient_that_is_no_number_is_zero_for_its_image_only():
    a = x.clone().requires_grad_()
    l = model(a)[:,0]*torch.where(torch.arange(24)==2, torch.nan, 1.)
    g = gradient(l, a)
    assert g[2].eq(0).all() and g[3].ne(0).any() and g.isfinite().all()

def test_weights_get_no_gradient():
    by_pgd(x, y)
    assert model.w.grad is None
