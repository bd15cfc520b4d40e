"A method in twelve lines of a reader's own works with everything: loop, registry, costs, coresets, figures"
import torch
from house import root
from robustfm.attacks import PGD,Linf
from robustfm.augment import views
from robustfm.costs import step_cost
from robustfm.data import Batches
from robustfm.datasets import digits
from robustfm.losses import rows
from robustfm.methods.rcs import RCS,gradients
from robustfm.models import Encoder,tiny
from robustfm.objective import Objective,SimCLR,methods
from robustfm.train import steps

# twelve lines

class AdvBarlow(Objective, look='#333333', cost=lambda k: 2*k+6):
    "Barlow Twins whose second view is the worst neighbour of the first"
    def barlow(self, a, b, lam=5e-3):
        a,b = ((z-z.mean(0))/(z.std(0)+1e-6) for z in (a,b))
        c   = a.T@b/len(a)
        on  = c.diagonal()
        return dict(same=(on-1).square().sum(), other=lam*(c.square().sum()-on.square().sum()))

    def terms(self, x, y=None):
        v,w = self.augment(x),self.augment(x)
        z = self.net(v, 'clean').detach()
        a = self.perturb(lambda a: sum(self.barlow(self.net(a, 'adv'), z).values()), v)
        return self.barlow(self.net(a, 'adv'), self.net(w, 'clean'))

class Spread(Objective):
    "A loss that looks at the whole batch, and is not signed"
    def terms(self, x, y=None): return dict(spread=-self.net(self.augment(x)).std(0).mean())

@rows
def spread(z): return -z.std(0).mean()

class Signed(Objective):
    "The same, signed"
    side_by_side = True
    def terms(self, x, y=None): return dict(spread=spread(self.net(self.augment(x))))

pgd = PGD(Linf(.15), alpha=.1, steps=2)
def small(): return Encoder(tiny(width=4))
def same(x): return x

def test_it_trains():
    torch.manual_seed(0)
    o = AdvBarlow(small(), views(flip=0), pgd)
    log = [s.loss.item() for s in steps(o, Batches(digits()[0][:256], bs=64), 'adam', 6, lr=lambda e: 3e-3)]
    assert len(log)==24 and sum(log[-4:])<sum(log[:4])

def test_it_is_registered_with_a_look_and_a_cost():
    assert methods['advbarlow'] is AdvBarlow and AdvBarlow.look=='#333333' and AdvBarlow.cost(2)==10
    assert methods['spread'] is Spread and Spread.look is None and Spread.cost is None

def test_its_cost_is_measured():
    "Two forwards of the clean views, one of the adversary; the attack; and the first view's backward, which nobody wants, cut"
    from robustfm.models import resnet18
    got = step_cost(AdvBarlow(Encoder(resnet18()), views(), PGD(steps=2)), torch.rand(2,3,16,16))
    assert abs(got-(1+2*2+2*3))<.05*11

def test_a_name_is_taken_once():
    "A reader's own SimCLR stands beside the package's, under its module; a child of what is no method is none"
    own = type('SimCLR', (SimCLR,), dict(__module__='mine'))
    assert methods['simclr'] is SimCLR and methods['mine.simclr'] is own
    tool = type('Tool', (Objective,), {}, name='')
    child = type('Child', (tool,), {})
    named = type('Named', (tool,), {}, name='named')
    assert not {'tool','child'}&set(methods) and tool.name==child.name=='' and methods['named'] is named
    for k in ('mine.simclr','named'): del methods[k]

def picks(table): return table.gains(table.rows.mean(0)).topk(6).indices.tolist()

def test_a_loss_that_is_not_signed_is_computed_mini_batch_by_mini_batch():
    torch.manual_seed(0)
    train = digits()[0]
    o,bs = Spread(small(), same),list(torch.arange(1024).split(32))
    many,one = gradients(o, train, bs),gradients(o, train, bs, at_once=32)
    torch.testing.assert_close(many.rows, one.rows, rtol=1e-4, atol=1e-6)
    assert picks(many)==picks(one)

def test_a_signed_loss_may_be_merged():
    torch.manual_seed(0)
    train,net = digits()[0],small()
    bs = list(torch.arange(512).split(32))
    many,one = gradients(Signed(net, same), train, bs),gradients(Spread(net, same), train, bs)
    torch.testing.assert_close(many.rows, one.rows, rtol=1e-3, atol=1e-5)
    assert picks(many)==picks(one)

def test_the_promise_is_not_inherited():
    child = type('Child', (Signed,), {})
    assert Signed.side_by_side and not child.side_by_side
    del methods['child']

def test_a_coreset_is_selected_for_it():
    torch.manual_seed(0)
    train,valid,_ = digits()
    rcs = RCS(AdvBarlow(small(), views(flip=0), pgd), train[:256], valid[:64], .25, warmup=0, every=2, bs=64)
    rcs.set_epoch(0)
    assert sum(len(x) for x,_ in rcs)==64

def test_no_loss_of_the_package_is_unsigned_where_it_is_promised():
    "Each method of the package that promises: two halves side by side give the sum of the halves"
    from robustfm.losses import minibatches
    from robustfm.tools import evaluating
    from test_papers_all import K, labelled, methods as made, variants
    x = torch.rand(16,1,8,8)
    y = torch.stack([torch.arange(16)%k for k in K], 1)
    for name,make in (made|variants).items():
        o = make(.5)
        if not o.side_by_side: continue
        o.augment,o.attack = (lambda x,*_: x.roll(1, 3)),PGD(Linf(.1), steps=2, start='none')
        if hasattr(o, 'weak'): o.weak = same
        with evaluating(o):
            with minibatches(2): both = sum(o.terms(x, y).values())
            halves = sum(sum(o.terms(x[i], y[i]).values()) for i in (slice(8),slice(8,16)))
        torch.testing.assert_close(both, halves, rtol=2e-4, atol=2e-4, msg=lambda m: f'{name}: {m}')
