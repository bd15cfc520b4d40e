"Kind: a number in the wrong unit is refused where it is written, in one sentence"
from fractions import Fraction
import numpy as np
import pytest, torch
from dataclasses import replace
from robustfm.attacks import L1,L2,PGD,Linf,fgsm

FAULTS = [('bugs-ml-C', 'units', 'test_refused'), ('bugs-ml-C', 'units', 'test_taken'), ('bugs-ml-C', 'units', 'test_printed_in_its_own_unit')]
nan,inf = float('nan'),float('inf')

wrong = {'Linf(8)': lambda: Linf(8), 'L2(128)': lambda: L2(128), 'alpha=2': lambda: PGD(alpha=2), 'eps=inf': lambda: Linf(inf), 'eps=nan': lambda: L2(nan),
         'eps=-1': lambda: L1(-1), 'eps=True': lambda: Linf(True), 'eps=text': lambda: Linf('8/255'), 'eps=None': lambda: L2(None), 'L1(3060)': lambda: L1(12*255),
         'alpha=nan': lambda: PGD(alpha=nan), 'alpha=-1': lambda: PGD(alpha=-.1), 'replace': lambda: replace(Linf(), eps=8), 'fgsm': lambda: fgsm(lambda a: a.sum(), torch.rand(2,1,4,4), eps=8),
         'PGD(8)': lambda: PGD(8), 'array': lambda: Linf(np.array([.1,.2]))}

@pytest.mark.parametrize('make', wrong.values(), ids=['bugs-ml-C-'+k for k in wrong])
def test_refused(make):
    with pytest.raises(ValueError, match=r'in units of the \[0,1\] pixel scale'): make()

@pytest.mark.parametrize('make,what', [(lambda: PGD('Linf'), 'is no ball'), (lambda: PGD(None), 'is no ball'), (lambda: PGD(steps=2.5), 'whole number'), (lambda: PGD(steps=True), 'whole number'),
    (lambda: PGD(start='random start'), "'random', 'near', 'none', 'unclipped'"), (lambda: PGD(start=True), 'is unknown')], ids=['bugs-ml-C-PGD(str)','PGD(None)','steps=2.5','steps=True','start','start=True'])
def test_refused_too(make, what):
    with pytest.raises((ValueError,TypeError), match=what): make()

@pytest.mark.parametrize('eps', [np.float32(.5), np.float64(.5), np.int64(1), torch.tensor(.5), 1, 0, Fraction(1,2)], ids=['numpy32','numpy64','numpy-int','tensor','one','zero','fraction'])
def test_taken(eps):
    for ball in (Linf,L2,L1): assert ball(eps).eps==float(eps) and type(ball(eps).eps) is float
    assert PGD(Linf(eps)).alpha==float(eps)/4

def test_a_number_is_a_ball(): assert PGD(8/255)==PGD(Linf(8/255)) and PGD(np.float64(8/255)).ball==Linf(8/255)

def test_numpy_steps_are_taken(): assert PGD(steps=np.int64(5)).steps==5

def test_generous_where_images_are_large(): assert L2(60).eps==60 and L1(900).eps==900 and PGD(L2(3.), alpha=1.5).alpha==1.5

@pytest.mark.parametrize('ball,text', [(Linf(8/255),'Linf ε=8/255'), (Linf(.15),'Linf ε=38.25/255'), (L2(.5),'L2 ε=0.5'), (L2(1),'L2 ε=1'), (L1(12),'L1 ε=12')], ids=str)
def test_printed_in_its_own_unit(ball, text): assert str(ball)==text and ball.say(ball.eps)==text.split('=')[1]

def test_a_subclass_that_overrides_start_is_told():
    class Old(PGD):
        def start(self, x): return x
    with pytest.raises(TypeError, match='start is an argument'): Old()

# --- the balls hold, in every shape and precision

def sizes(ball, d):
    d = d.flatten(1)
    return d.abs().amax(1) if isinstance(ball, Linf) else d.norm(dim=1, p=2 if isinstance(ball, L2) else 1)

@pytest.mark.parametrize('ball', [Linf(.1),L2(.7),L1(3.),L1(.5, share=.2)], ids=str)
@pytest.mark.parametrize('shape', [(4,1,3,5),(2,3,16,16)], ids=str)
@pytest.mark.parametrize('dtype', [torch.float32,torch.float64], ids=str)
def test_inside(ball, shape, dtype):
    torch.manual_seed(0)
    x,t = torch.rand(shape, dtype=dtype),torch.randn(shape, dtype=dtype)
    for start in ('random','near','none',lambda x,b: x+b.project(torch.randn_like(x))):
        a = PGD(ball, steps=3, start=start)(lambda a: (a*t).flatten(1).sum(1), x)
        assert (sizes(ball, a-x)<=ball.eps*(1+1e-5)).all() and a.min()>=0 and a.max()<=1 and a.dtype==dtype
    assert (sizes(ball, ball.random(x))<=ball.eps*(1+1e-5)).all()

@pytest.mark.parametrize('ball', [Linf(.1),L2(.7),L1(3.)], ids=str)
def test_the_nearest_point_of_the_ball(ball):
    "No point of the ball is nearer: for the projection p of d, (d-p)·(q-p) ≤ 0 for each q inside"
    torch.manual_seed(0)
    d = torch.randn(8,2,6,6, dtype=torch.float64)
    p = ball.project(d)
    for _ in range(30):
        q = ball.project(2*torch.randn_like(d)) if _%2 else ball.random(d)
        assert (((d-p)*(q-p)).flatten(1).sum(1)<=1e-9).all()

@pytest.mark.parametrize('ball', [Linf(.1),L2(.7),L1(3., share=0.)], ids=str)
def test_the_steepest_direction(ball):
    "No direction of its length climbs faster"
    torch.manual_seed(0)
    g,unit = torch.randn(8,2,6,6, dtype=torch.float64),type(ball)(1)
    best = (g*ball.steepest(g)).flatten(1).sum(1)
    for _ in range(30): assert ((g*unit.random(g)).flatten(1).sum(1)<=best+1e-9).all()

def test_random_starts_fill_the_l1_ball():
    "Uniform in the volume: the radius to the power of the dimension is uniform"
    torch.manual_seed(0)
    x = torch.zeros(4000,1,2,2)
    u = (sizes(L1(), L1(3.).random(x))/3)**4
    assert abs(u.mean()-.5)<.03 and abs((u<.25).float().mean()-.25)<.03

def test_l1_goes_around_pixels_that_cannot_move():
    "The pixel with the largest gradient is white already: the next one moves"
    x = torch.full((1,1,2,2), .5)
    x[0,0,0,0] = 1.
    w = torch.tensor([[4.,3.],[2.,1.]])
    a = PGD(L1(.2, share=0.), alpha=.1, steps=4, start='none')(lambda a: (a*w).flatten(1).sum(1), x)
    torch.testing.assert_close(a-x, torch.tensor([[[[0.,.2],[0.,0.]]]]))

def test_targeted_descends():
    x = torch.rand(4,1,4,4)
    up,down = (PGD(start='none', targeted=t)(lambda a: a.sum(), x).sum() for t in (False,True))
    assert down<x.sum()<up

def test_the_released_start_is_not_clipped():
    "D1: ACL, AIR, DynACL, AdvCL, DeACL and RCS add noise to white pixels and leave [0,1]"
    torch.manual_seed(0); a = PGD(steps=0, start='unclipped')(None, torch.ones(2,1,8,8))
    torch.manual_seed(0); d = Linf().random(torch.ones(2,1,8,8))
    assert torch.equal(a, 1+d) and a.max()>1
