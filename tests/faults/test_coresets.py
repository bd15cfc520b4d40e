"Kind: coresets ranked wrongly, not at all, or out of memory: losses that look at the batch, objectives that end at features, tables"
import gc, pytest, torch, torch.nn.functional as F
from robustfm.attacks import PGD,Linf
from robustfm.datasets import digits
from robustfm.methods import rcs
from robustfm.methods.deacl import DeACL
from robustfm.methods.rcs import RCS,Head,gradients
from robustfm.models import Encoder,tiny
from robustfm.objective import Objective,methods

FAULTS = [('aesthetics-1', 'ranked wrongly', 'test_a_loss_of_ones_own_is_ranked_a_mini_batch_at_a_time'),
          ('researcher-F6', 'not ranked', 'test_objectives_that_end_at_features_are_ranked'),
          ('researcher-F6', 'not ranked', 'test_what_ends_at_features_is_told_how'),
          ('researcher-F11', 'out of memory', 'test_no_more_than_the_table_and_one_chunk_is_alive'),
          ('researcher-F11', 'out of memory', 'test_a_sketch_keeps_what_it_says')]

train,valid,_ = digits()
batches = list(torch.arange(256).split(32))

def off_diagonal(z):
    c = (z-z.mean(0)).T@(z-z.mean(0))/len(z)
    return c.square().sum()-c.diagonal().square().sum()

of_a_batch = {'spread': lambda z: -z.std(0).mean(), 'own-whitening': off_diagonal, 'own-largest': lambda z: z.norm(dim=1).max(), 'own-shared-norm': lambda z: (z/z.norm()).abs().sum(),
              'own-entropy': lambda z: (z.softmax(1).mean(0)*z.softmax(1).mean(0).log()).sum(), 'own-batch-norm': lambda z: F.batch_norm(z, None, None, training=True).abs().mean(),
              'own-all-pairs': lambda z: torch.pdist(z).mean()}

@pytest.fixture(params=of_a_batch)
def own(request):
    "A method of a reader's own that promises nothing"
    loss = of_a_batch[request.param]
    class Own(Objective):
        def terms(self, x, y=None): return dict(own=loss(self.net(self.augment(x))))
    yield Own
    del methods['own']

def test_a_loss_of_ones_own_is_ranked_a_mini_batch_at_a_time(own):
    torch.manual_seed(0)
    o = own(Encoder(tiny(width=4)), lambda x: x)
    many,one = gradients(o, train, batches),gradients(o, train, batches, at_once=32)
    torch.testing.assert_close(many.rows, one.rows, rtol=1e-4, atol=1e-6)

class Pull(Objective, name='', cost=lambda k: 3):
    "Features pulled to those of a fixed network, as those do who make a network robust that others trained"
    def __init__(self, net, teacher, how): super().__init__(net, lambda x: x); self.teacher,self.how = teacher.requires_grad_(False),how
    def terms(self, x, y=None): return dict(pull=self.how(self.net.features(x, 'clean'), self.teacher.features(x, 'clean')))

pulls = {'own-square': F.mse_loss, 'own-cosine': lambda a, b: -F.cosine_similarity(a, b).mean(), 'own-norm': lambda a, b: (a-b).norm(dim=1).mean(), 'own-smooth': F.smooth_l1_loss,
         'own-divergence': lambda a, b: F.kl_div(a.log_softmax(1), b.softmax(1), reduction='batchmean')}

def feature_objective(kind):
    torch.manual_seed(0)
    net,teacher = Encoder(tiny(width=4), 'clean'),Encoder(tiny(width=4), 'clean')
    if kind=='DeACL': return DeACL(net, teacher, lambda x: x, PGD(Linf(.15), steps=2))
    return Pull(net, teacher, pulls[kind])

@pytest.mark.parametrize('kind', ['DeACL',*pulls])
def test_objectives_that_end_at_features_are_ranked(kind):
    o = feature_objective(kind)
    table = gradients(o, train, batches, Head(o.net, 'features'))
    assert table.rows.isfinite().all() and (table.rows.norm(dim=1)>0).all() and len(table.rows.unique(dim=0))==len(batches)

@pytest.mark.parametrize('kind', ['DeACL',*pulls])
def test_what_ends_at_features_is_told_how(kind):
    with pytest.raises(ValueError, match="params='features'") as e: gradients(feature_objective(kind), train, batches)
    assert '\n' not in str(e.value)

def alive(width): return sum(t.numel() for t in gc.get_objects() if torch.is_tensor(t) and t.ndim==2 and t.shape[1]==width)

@pytest.mark.parametrize('sketch,at_once', [(None,32), (None,64), ('mean',64), (4,64), (8,512), (16,32)], ids=['researcher-F11-whole','own-two-at-once','researcher-F11-mean','own-4','own-8','researcher-F11-16'])
def test_no_more_than_the_table_and_one_chunk_is_alive(sketch, at_once, monkeypatch):
    o,seen,chunks,made = feature_objective('DeACL'),[],[],rcs._gradients
    head = Head(o.net, 'features')
    def watched(*args, **kw):
        gc.collect()
        seen.append(alive(head.size))
        found = made(*args, **kw)
        chunks.append(len(found))
        return found
    monkeypatch.setattr(rcs, '_gradients', watched)
    table = gradients(o, train, batches, head, sketch=sketch, at_once=at_once)
    whole = 0 if isinstance(sketch, int) else len(batches)
    assert max(chunks)*32<=at_once and max(seen)<=(whole+max(chunks))*head.size and len(table)==len(batches)

@pytest.mark.parametrize('sketch', [4,8,16,32], ids=['own-4','own-8','researcher-F11-16','own-32'])
def test_a_sketch_keeps_what_it_says(sketch):
    o = feature_objective('DeACL')
    head = Head(o.net, 'features')
    table = gradients(o, train, batches, head, sketch=sketch)
    said = RCS(o, train, valid, .25, bs=32, params='features', sketch=sketch).memory
    assert table.rows.shape==(len(batches), sketch**2*len(head.params)) and said/4/table.rows.shape[1]>=len(train)//32
