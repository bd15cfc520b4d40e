"""One whole step of every recipe, in double precision on a tiny network, against recorded values: terms, their gradient, and what the norms saw

    python tests/test_recipe_steps.py        records anew

Views are a shift, so that no number hangs on how a processor rounds single precision; attacks start and climb as each recipe says."""
import itertools, json, sys
from pathlib import Path
import robustfm
import pytest, torch
from robustfm.models import Encoder,tiny
from robustfm.recipes import build,recipe,recipes

kept = Path(__file__).resolve().parent/'data'/'recipe_steps.json'
keys = [k for k,r in recipes.items() if r['method'] and k[1]=='cifar10' and not r.get('coreset')]

def shifts():
    "Views: each call shifts by another amount"
    n = itertools.count(1)
    return lambda x, *_: x.roll(next(n), 3)

def step(name, data):
    "Terms, length of the gradient, sum of all running means"
    torch.manual_seed(0)
    r = recipe(name, data)
    net,teacher = (Encoder(tiny(3, 4), r['net']['branches']) for _ in range(2))
    o = build(r, net, teacher=teacher, classes=5).double()
    o.augment = shifts()
    if hasattr(o, 'weak'): o.weak = lambda x: x
    x,y = torch.rand(8,3,8,8, dtype=torch.float64),(torch.arange(40).view(8,5)*7%5)
    loss,terms = o(x, y if r['method']!='SAT' else y[:,0])
    loss.backward()
    length = sum(p.grad.square().sum() for p in o.parameters() if p.grad is not None).sqrt()
    seen   = sum(m.running_mean.abs().sum() for m in net.modules() if getattr(m, 'running_mean', None) is not None)
    return dict(loss=loss.item(), gradient=length.item(), seen=seen.item(), **{k:float(v) for k,v in terms.items()})

@pytest.mark.parametrize('key', keys, ids='-'.join)
def test_a_step_is_what_it_was(key):
    want = json.loads(kept.read_text())['-'.join(key)]
    got  = step(*key)
    assert got.keys()==want.keys()
    for k,v in want.items(): assert got[k]==pytest.approx(v, rel=1e-6, abs=1e-9), k

def test_every_recipe_is_recorded(): assert set(json.loads(kept.read_text()))=={'-'.join(k) for k in keys}

if __name__=='__main__': kept.write_text(json.dumps({'-'.join(k):step(*k) for k in keys}, indent=1)+'\n'); sys.exit(0)
