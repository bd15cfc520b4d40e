"Views are torchvision's: the same distributions (two-sample tests on fixed seeds) and the same pixels (given the same draw)"
import numpy as np, pytest, torch
from scipy.stats import chi2_contingency, chisquare, ks_2samp
from torchvision import transforms as T
from torchvision.transforms import functional as TF
from robustfm.augment import *
from robustfm.rendering import shapes
from robustfm.tools import to_float

P = 1e-3  # a test of many: a wrong distribution gives 1e-10 and less at these sizes

@pytest.fixture(scope='module')
def x(): return to_float(shapes(96, seed=5).x)

def drawn(n=20000, size=(32,32), seed=0, strength=None, **kw):
    torch.manual_seed(seed)
    return views(**kw).draw(torch.empty(n,3,1,1).expand(n,3,*size), strength)

def theirs(n, size=(32,32), scale=(.1,1.), ratio=(3/4,4/3), seed=1):
    "What torchvision draws: (n,4) top, left, height, width"
    torch.manual_seed(seed)
    img = torch.empty(3,1,1).expand(3,*size)
    return np.array([T.RandomResizedCrop.get_params(img, scale, ratio) for _ in range(n)])

def same(a, b):
    "p-value that two samples of integers have one distribution"
    v,i = np.unique(np.concatenate([a,b]), return_inverse=True)
    t = np.stack([np.bincount(i[:len(a)], minlength=len(v)),np.bincount(i[len(a):], minlength=len(v))])
    few = t.sum(0)<20                                                       # rare values together
    t = np.concatenate([t[:,~few], t[:,few].sum(1, keepdims=True)], 1)
    return chi2_contingency(t[:,t.sum(0)>0]).pvalue

## the crop's distribution

@pytest.mark.parametrize('size,scale,ratio', [((32,32),(.1,1.),(3/4,4/3)), ((32,32),(.9,1.),(3/4,4/3)), ((24,48),(.2,1.),(3/4,4/3)), ((8,8),(.1,1.),(1/3,3.))])
def test_crops_are_distributed_as_torchvisions(size, scale, ratio):
    n = 6000
    a = drawn(n, size, scale=scale, ratio=ratio).box.int().numpy()
    b = theirs(n, size, scale, ratio)
    for f in (lambda c: c[:,2]*c[:,3], lambda c: c[:,2], lambda c: c[:,3], lambda c: c[:,0], lambda c: c[:,1], lambda c: c[:,2]*100+c[:,3]): assert same(f(a), f(b)) > P
    assert ks_2samp(a[:,3]/a[:,2], b[:,3]/b[:,2]).pvalue > P                # aspect
    assert (a[:,:2]>=0).all() and (a[:,0]+a[:,2]<=size[0]).all() and (a[:,1]+a[:,3]<=size[1]).all() and (a[:,2:]>0).all()

@pytest.mark.parametrize('size', [(10,40), (40,10), (16,16)])
def test_a_box_that_never_fits_falls_back_to_the_centre(size):
    b = drawn(8, size, scale=(1.,1.), ratio=(2.9,3.) if size==(16,16) else (.95,1.05)).box
    want = T.RandomResizedCrop.get_params(torch.empty(3,*size), (1.,1.), (2.9,3.) if size==(16,16) else (.95,1.05))
    assert b.int().tolist()==[list(want)]*8

## the colours' distribution

def test_factors_are_distributed_as_torchvisions():
    d,n = drawn(),6000
    torch.manual_seed(1)
    j = T.ColorJitter(.4,.4,.4,.1)
    b = [T.ColorJitter.get_params(j.brightness, j.contrast, j.saturation, j.hue) for _ in range(n)]
    on = d.factor[:,3]!=0
    assert abs(on.float().mean()-.8) < .01
    for k in range(4):
        assert (d.factor[~on,k]==(k<3)).all()                               # those not jittered stay as they are
        assert ks_2samp(d.factor[on,k].numpy(), [p[k+1] for p in b]).pvalue > P
    code = lambda o: (o*torch.tensor([64,16,4,1])).sum(-1)
    assert same(code(d.order).numpy(), torch.stack([code(p[0]) for p in b]).numpy()) > P and len(code(d.order).unique())==24
    c = np.corrcoef(torch.cat([d.factor[on], d.order[on].float(), d.flip[on,None], d.gray[on,None], d.box[on,:2]], 1).T.numpy())
    independent = np.abs(c[:4,4:]).max(),np.abs(c[4:8,8:]).max(),np.abs(c[:4,:4]-np.eye(4)).max(),np.abs(c[8,9:]).max()
    assert max(independent) < .04

def test_order_is_uniform_in_small_batches_too():
    torch.manual_seed(0)
    a = views()
    for n in (1,2,3,5):
        o = torch.cat([a.draw(torch.empty(n,3,4,4)).order for _ in range(1000)])
        assert o.shape[1]==4 and (o.sort(1)[0]==torch.arange(4)).all()
        code = (o*torch.tensor([64,16,4,1])).sum(1)
        for k in range(n): assert chisquare(code[k::n].unique(return_counts=True)[1]).pvalue > P        # of image k, over 24 orders

def test_flip_and_gray_rates():
    d,n = drawn(),20000
    for p,v in ((.5,d.flip), (.2,d.gray)): assert abs(v.mean()-p) < 4*(p*(1-p)/n)**.5 and set(v.unique().tolist())=={0.,1.}

@pytest.mark.parametrize('s', [.05, .5, 1.])
def test_strength_is_dynacls(s):
    d = drawn(strength=s)
    assert same(d.box[:6000,2:].prod(1).int().numpy(), theirs(6000, scale=(1-.9*s,1.))[:,2:].prod(1)) > P
    on = d.factor[:,3]!=0
    assert abs(on.float().mean()-.8*s)<.015 and abs(d.gray.mean()-.2*s)<.015 and abs(d.flip.mean()-.5)<.015
    assert (d.factor[on,:3]-1).abs().max()<=.4*s+1e-6 and d.factor[on,3].abs().max()<=.1*s+1e-6 and (d.factor[on,:3]-1).abs().max()>.39*s

def test_no_strength_is_flips_alone(x):
    v = views(strength=0)(x)
    flipped = (v==x.flip(3)).flatten(1).all(1)
    assert ((v==x).flatten(1).all(1)|flipped).all() and .3<flipped.float().mean()<.7

## the same pixels

def reference(x, d, size=(32,32)):
    "What torchvision makes of the same draw, image by image"
    res = []
    for i,im in enumerate(x):
        t,l,h,w = d.box[i].int().tolist()
        v = TF.resized_crop(im, t, l, h, w, size, antialias=True)
        if d.flip[i]: v = TF.hflip(v)
        for k in d.order[i]: v = (TF.adjust_brightness,TF.adjust_contrast,TF.adjust_saturation,TF.adjust_hue)[k](v, float(d.factor[i,k]))
        res.append(TF.rgb_to_grayscale(v, 3) if d.gray[i] else v)
    return torch.stack(res)

@pytest.mark.parametrize('n', [1,2,7,96])
@pytest.mark.parametrize('size', [(32,32),(16,16),(40,20)])
def test_views_are_torchvisions_given_the_draw(x, n, size):
    torch.manual_seed(0)
    a = views(size=size, jitter=(.8,.8,.8,.4), p_jitter=1.)
    d = a.draw(x[:n])
    assert (a.apply(x[:n], d)-reference(x[:n], d, size)).abs().max() < 2e-3 # hue: a channel that rounds another way at a kink
    assert (a.apply(x[:n], d)-reference(x[:n], d, size)).abs().mean() < 1e-5

@pytest.mark.parametrize('f', [0., .3, 1., 1.7])
def test_blends_are_torchvisions(x, f):
    for k,g in enumerate((TF.adjust_brightness,TF.adjust_contrast,TF.adjust_saturation)):
        assert (blend(x, torch.full((96,), f), torch.full((96,), k))-g(x, f)).abs().max() < 1e-5

@pytest.mark.parametrize('s', [-.5,-.3,-.1,0.,.05,.25,.5])
def test_hue_is_torchvisions(x, s):
    y = torch.cat([x, torch.rand(8,3,32,32), torch.zeros(1,3,32,32), torch.ones(1,3,32,32), torch.full((1,3,32,32), .5)])
    y[96,1] = y[96,0]                                                       # two channels alike
    assert (shift_hue(y, torch.full((len(y),), s))-TF.adjust_hue(y, s)).abs().max() < 1e-4

def test_gray_is_torchvisions(x): assert (gray(x)-TF.rgb_to_grayscale(x)).abs().max() < 1e-6

@pytest.mark.parametrize('box,size', [((3,5,17,11),(32,32)), ((0,0,32,32),(32,32)), ((31,31,1,1),(32,32)), ((2,0,30,9),(8,50)), ((0,0,32,32),(7,7))])
def test_crop_is_torchvisions(x, box, size):
    b = torch.tensor([box]*96).float()
    shrinks = box[2]>size[0] or box[3]>size[1]
    for mode,I in (('bilinear',T.InterpolationMode.BILINEAR),('bicubic',T.InterpolationMode.BICUBIC)):
        want = TF.resized_crop(x, *box, size, I, antialias=shrinks or mode=='bicubic')
        assert (crop(x, b, size, mode=mode)-want.clamp(0,1)).abs().max() < 1e-5
        assert (crop(x, b, size, torch.ones(96), mode)-want.clamp(0,1).flip(3)).abs().max() < 1e-5

def test_shrinking_agrees_with_pil(x):
    b = torch.tensor([[0.,0.,32.,32.]]*96)
    for mode,I in (('bilinear',T.InterpolationMode.BILINEAR),('bicubic',T.InterpolationMode.BICUBIC)):
        pil = torch.stack([TF.to_tensor(TF.resize(TF.to_pil_image(i), (12,12), I)) for i in x])
        off = (crop(x, b, (12,12), mode=mode)-pil).abs()
        assert off.mean() < .5/255
        if mode=='bilinear': assert off.max() < 2/255                       # PIL cuts a cubic's overshoot off after each axis

## what a loop relies on

@pytest.mark.parametrize('c', [1,3,4])
@pytest.mark.parametrize('hw', [(8,8),(9,14)])
def test_any_channels_and_shapes(c, hw):
    x = torch.rand(13,c,*hw)
    for a in (views(), views(mode='bicubic'), crop_flip(2)):
        v = a(x)
        assert v.shape==x.shape and v.dtype==x.dtype and v.min()>=0 and v.max()<=1+1e-6 and not v.requires_grad
    assert views(size=(5,6))(x).shape==(13,c,5,6) and views(size=20)(x).shape==(13,c,20,20)
    assert views()(x[:0]).shape==x[:0].shape

def test_grey_images_get_brightness_and_contrast_only(x):
    torch.manual_seed(0)
    x,a = x.mean(1, keepdim=True),views()
    d = a.draw(x)
    for i,v in enumerate(crop(x, d.box, (32,32), d.flip)):
        for k in d.order[i]:
            if k<2: v = (TF.adjust_brightness,TF.adjust_contrast)[k](v, float(d.factor[i,k]))
        assert (a.apply(x, d)[i]-v).abs().max() < 1e-5

def test_the_input_is_left_alone_and_a_seed_repeats(x):
    keep,a = x.clone(),views()
    torch.manual_seed(3); v = a(x)
    torch.manual_seed(3); assert (a(x)==v).all() and (a(x)!=v).any() and (x==keep).all()

def test_each_image_has_its_own_draw(x): assert len({v.numpy().tobytes() for v in views()(x[:1].expand(64,-1,-1,-1))})>60

def test_no_size_depends_on_data():
    "Fake tensors have shapes and no numbers: whatever waits for a value fails here, as it would stall a GPU"
    from torch._subclasses import FakeTensorMode
    with FakeTensorMode():
        x = torch.empty(10,3,32,32)
        for a in (views(), views(size=16, mode='bicubic')): assert a.apply(x, a.draw(x)).shape[:2]==(10,3)
        assert crop_flip().shift(x, 4).shape==x.shape

def test_one_graph():
    "torch.compile takes the whole of it, without a break"
    a,x = torch.compile(views(), backend='eager', fullgraph=True),torch.rand(10,3,8,8)
    assert a(x).shape==x.shape and a(x, strength=.5).shape==x.shape

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_never_waits(x):
    x = x.cuda()
    for a in (views(), views(size=16, mode='bicubic'), crop_flip()):
        a(x); torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
        try: v = a(x)
        finally: torch.cuda.set_sync_debug_mode('default')
        assert v.device==x.device and 0<=v.min() and v.max()<=1+1e-6
    d = views().draw(x)
    here = Draw(**{k:None if v is None else v.cpu() for k,v in vars(d).items()})
    assert (views().apply(x, d).cpu()-views().apply(x.cpu(), here)).abs().mean() < 1e-5

def test_float64(x):
    torch.manual_seed(0); a = views(); d = a.draw(x)
    assert (a.apply(x.double(), d)-a.apply(x, d)).abs().mean() < 1e-5

def test_autocast_does_not_touch_pixels(x):
    a = views(); d = a.draw(x)
    with torch.autocast('cpu', torch.bfloat16): v = a.apply(x, d)
    assert v.dtype==torch.float32 and (v==a.apply(x, d)).all()

## crop_flip

def test_crop_flip_is_torchvisions(x):
    torch.manual_seed(0)
    v = crop_flip(4)(x)
    padded = torch.nn.functional.pad(x, (4,)*4)
    seen = []
    for i in range(96):
        found = [(t,l,f) for t in range(9) for l in range(9) for f in (0,1) if torch.equal(v[i], padded[i,:,t:t+32,l:l+32].flip(2) if f else padded[i,:,t:t+32,l:l+32])]
        assert found                                                        # pixels are moved, never mixed
        seen += found[:1]
    t,l,f = np.array(seen).T
    assert set(t)==set(l)==set(range(9)) and 30<f.sum()<66

def test_crop_flip_places_are_uniform():
    x = torch.zeros(20000,1,9,9); x[:,:,4,4] = 1
    torch.manual_seed(0)
    at = crop_flip(4)(x).flatten(1).argmax(1)
    assert chisquare(at.bincount(minlength=81).numpy()).pvalue > P
    assert ((crop_flip(4)(x, 0.)==x)|(crop_flip(4)(x, 0.)==x.flip(3))).all()

## bad input

@pytest.mark.parametrize('make,error,says', [
    (lambda: views(strength=1.1), ValueError, 'strength'), (lambda: views(p_gray=-1), ValueError, 'p_gray'), (lambda: views(mode='nearest'), ValueError, 'bicubic'),
    (lambda: views(scale=(0,1)), ValueError, 'scale'), (lambda: views(ratio=(2,1)), ValueError, 'ratio'), (lambda: views(jitter=(.4,.4,.4,.6)), ValueError, 'hue'),
    (lambda: views()(torch.rand(2,3,4,4), strength=-.1), ValueError, 'strength'), (lambda: views()(torch.rand(3,4,4)), ValueError, 'N,C,H,W'),
    (lambda: views()(torch.zeros(2,3,4,4, dtype=torch.uint8)), TypeError, 'uint8'), (lambda: views()(torch.rand(2,3,4,4)*255), ValueError, 'in .0,1'),
    (lambda: views()(torch.full((2,3,4,4), float('nan'))), ValueError, 'nan'), (lambda: crop_flip(-1), ValueError, 'pad'), (lambda: views()([1]), TypeError, 'list')])
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error, match=says) as e: make()
    assert '\n' not in str(e.value)
