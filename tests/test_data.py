"Images, their order and their shards; published archives that are missing, damaged, web pages, or fetched from a mirror"
import hashlib, io, os, sys, tarfile, threading
from functools import partial
from robustfm.tools import check_images,to_float
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import numpy as np, pytest, torch
from PIL import Image
import robustfm.datasets as D
from robustfm.data import *
from robustfm.rendering import *
from robustfm.datasets import *

def some(n=10, c=3, s=4, k=3): return Images(torch.arange(n*c*s*s).remainder(256).to(torch.uint8).view(n,c,s,s), torch.arange(n)%k, 'abc'[:k], 'some')
def pixels(i): return {p.numpy().tobytes() for p in i.x}

## Images

@pytest.mark.parametrize('x,kw,error,says', [
    (torch.rand(4,3,2,2), {}, TypeError, 'uint8'),
    (torch.zeros(4,2,2, dtype=torch.uint8), {}, ValueError, '(N,C,H,W)'),
    (torch.zeros(4,3,2,2, dtype=torch.uint8), dict(y=[0,1]), ValueError, 'one row for each'),
    (torch.zeros(4,3,2,2, dtype=torch.uint8), dict(y=[0.,1,2,3]), TypeError, 'integer'),
    (torch.zeros(4,3,2,2, dtype=torch.uint8), dict(y=[0,1,2,3], classes=['a']), ValueError, 'no name'),
    (torch.zeros(4,3,2,2, dtype=torch.uint8), dict(style=torch.zeros(3,2)), ValueError, 'style')])
def test_images_says_what_is_wrong(x, kw, error, says):
    with pytest.raises(error, match=says.replace('(','\\(').replace(')','\\)')) as e: Images(x, **kw)
    assert '\n' not in str(e.value)

def test_indexing_gives_images():
    i = some()
    for k,n in ((3,1), (-1,1), (slice(2,5),3), ([1,4],2), ([],0), (torch.tensor([0,9]),2), (np.array([1,2,3]),3), (i.y==0,4)):
        assert isinstance(i[k], Images) and len(i[k])==n==len(i[k].y)
    assert (i[3].x==i.x[3:4]).all() and i[-1].y==i.y[-1] and i[[4,1]].y.tolist()==[1,1]
    with pytest.raises(IndexError): i[10]

def test_unlabelled():
    i = Images(np.zeros((5,1,2,2), np.uint8))
    assert i.y.tolist()==[-1]*5 and i.y.dtype==torch.int64 and 'no labels' in repr(i)

def test_split_is_disjoint_complete_stratified_and_repeatable():
    g = torch.Generator().manual_seed(0)
    y = torch.cat([torch.full((n,), k) for k,n in enumerate((500,300,7))])
    i = Images(torch.randint(256, (807,1,4,8), generator=g, dtype=torch.uint8), y)
    for n,want in ((.1,81), (80,80), (.5,404), (1,1), (806,806)):
        a,b = i.split(n, seed=3)
        assert len(a)==want and pixels(a)|pixels(b)==pixels(i) and not pixels(a)&pixels(b)
        assert ((a.y.bincount(minlength=3) - y.bincount()*want/807).abs()<=1).all()
        assert (a.x==i.split(n, seed=3)[0].x).all()
    assert (i.split(80, 1)[0].x!=i.split(80, 2)[0].x).any()
    for n in (0, 807, -1, 1.5, 0.):
        with pytest.raises(ValueError, match='split'): i.split(n)

def test_ties_between_classes_are_broken_at_random():
    i = Images(torch.zeros(100,1,1,1, dtype=torch.uint8), torch.arange(100)%10)
    alone = torch.cat([i.split(1, seed=s)[0].y for s in range(200)]).bincount(minlength=10)
    assert alone.min() > 5

def test_split_keeps_content_and_style():
    a,b = shapes(100).split(.3)
    assert (render_shapes(a.content, a.style)==a.x).all() and (render_shapes(b.content, b.style)==b.x).all()

def test_several_pseudo_labels_an_image():
    i = Images(torch.zeros(6,1,2,2, dtype=torch.uint8), torch.arange(12).view(6,2)%4)
    assert i[[1,2]].y.tolist()==[[2,3],[0,1]] and sorted(len(p) for p in i.split(2))==[2,4]
    assert next(iter(Batches(i, 4)))[1].shape==(4,2)

## pixels

def test_to_float_is_to_tensor():
    from torchvision.transforms.functional import to_tensor
    a = np.arange(256, dtype=np.uint8).reshape(16,16)
    assert (to_float(torch.from_numpy(a))==to_tensor(a)[0]).all()
    with pytest.raises(TypeError, match='uint8'): to_float(torch.rand(3))

@pytest.mark.parametrize('x,error,says', [(torch.zeros(2,3,4,4, dtype=torch.uint8), TypeError, 'float'), (torch.zeros(3,4,4), ValueError, 'N,C,H,W'),
    (torch.full((1,1,2,2), -.01), ValueError, 'in .0,1'), (torch.full((1,1,2,2), 1.01), ValueError, 'in .0,1'), (torch.full((1,1,2,2), float('nan')), ValueError, 'nan'),
    (torch.zeros(0,3,4,4), ValueError, 'no pixel'), (np.zeros((1,1,2,2)), TypeError, 'Tensor')])
def test_check_images(x, error, says):
    with pytest.raises(error, match=says): check_images(x)

def test_check_images_tolerates_rounding():
    x = torch.tensor([[[[-5e-7, 1+5e-7]]]])
    assert check_images(x) is x

## Batches

@pytest.mark.parametrize('n,bs,drop,want', [(10,4,False,[4,4,2]), (10,4,True,[4,4]), (9,4,False,[4,4]), (10,16,False,[10]), (2,2,False,[2])])
def test_batch_sizes(n, bs, drop, want):
    b = Batches(some(n), bs, drop_last=drop)
    assert [len(y) for _,y in b]==want==[len(i) for i in b.indices()] and len(b)==len(want)

def test_order_is_a_function_of_seed_and_epoch():
    b = Batches(some(100), 10)
    def order(): return torch.cat(b.indices()).tolist()
    first,state = order(),torch.get_rng_state()
    assert sorted(first)==list(range(100))
    b.set_epoch(1); second = order()
    b.set_epoch(0); torch.rand(3)
    assert order()==first!=second and order()!=torch.cat(Batches(some(100), 10, seed=1).indices()).tolist()
    torch.set_rng_state(state); list(b)
    assert (torch.get_rng_state()==state).all()                             # the global generator is not touched

def test_batches_are_the_images_at_indices():
    i = some(20)
    b = Batches(i, 8)
    for k,(x,y) in zip(b.indices(), b):
        assert x.dtype==torch.float32 and (x==to_float(i.x[k])).all() and (y==i.y[k]).all()
    assert torch.cat(Batches(i, 8, shuffle=False).indices()).tolist()==list(range(20))

@pytest.mark.parametrize('n', range(8,30))
def test_shards_side_by_side_are_the_batches(n):
    b = Batches(some(n), 8, seed=n)
    b.set_epoch(2)
    for world in (2,4):
        parts = [b.shard(r, world) for r in range(world)]
        assert len({len(p) for p in parts})==1
        for k,ix in enumerate(zip(*(p.indices() for p in parts))):
            assert len({len(i) for i in ix})==1 and len(ix[0])>=2           # equal shares, never of one image
            whole = b.indices()[k].tolist()
            assert torch.cat(ix).tolist()==whole[:sum(map(len, ix))] and len(whole)-sum(map(len, ix))<2*world
            if k<n//8: assert len(whole)==sum(map(len, ix))

@pytest.mark.parametrize('make,says', [(lambda: Batches(some(), 1), 'bs=1'), (lambda: Batches(some(1)), 'fewer than 2'), (lambda: Batches(some(3), 8, drop_last=True), 'drop_last'),
    (lambda: Batches(some(), 6).shard(0,4), 'multiple of 4'), (lambda: Batches(some(), 4).shard(0,4), 'at least 8'), (lambda: Batches(some(), 4).shard(2,2), 'rank 2'),
    (lambda: Batches(some(), 8).shard(0,2).shard(0,2), 'already shard'), (lambda: Batches(some(3), 8).shard(0,2), 'no batch')])
def test_batches_says_what_is_wrong(make, says):
    with pytest.raises(ValueError, match=says): make()

## digits and shapes

def test_digits():
    from sklearn.datasets import load_digits
    parts = digits()
    assert [len(p) for p in parts]==[1078,180,539] and all(p.x.shape[1:]==(1,8,8) for p in parts)
    x = torch.cat([p.x for p in parts])
    assert x.min()==0 and x.max()==255
    want = np.sort(np.round(load_digits().images*255/16).astype(np.uint8).reshape(1797,64).view('V64').ravel().tolist())
    assert (np.sort(x.numpy().reshape(1797,64).view('V64').ravel().tolist())==want).all()
    assert (digits(1)[0].x!=digits(0)[0].x).any()

def test_shapes_are_balanced_varied_and_in_range():
    s = shapes(2000)
    lo,hi = torch.tensor(list(style_ranges.values())).T
    assert (s.style>=lo).all() and (s.style<=hi).all() and s.style_names==list(style_ranges) and (s.content==s.y).all()
    assert s.y.bincount().min()>200 and len(pixels(s))==2000
    assert s.x.float().amax((1,2,3)).min() > 150                            # the shape is lighter than any background

@pytest.mark.parametrize('name', list(style_ranges))
def test_every_style_factor_shows(name):
    s,k = shapes(16, seed=1),list(style_ranges).index(name)
    style = s.style.clone()
    style[:,list(style_ranges).index('stripes')] = .3                       # so that tilt has stripes and grain has noise to act on
    style[:,list(style_ranges).index('noise')] = .05
    content = s.content.clamp(min=2)                                        # a turned circle is the same circle
    a = render_shapes(content, style)
    lo,hi = style_ranges[name]
    style[:,k] = torch.where(style[:,k]<(lo+hi)/2, style[:,k]+(hi-lo)*.3, style[:,k]-(hi-lo)*.3)
    assert (a!=render_shapes(content, style)).flatten(1).any(1).all()

def test_outlines_are_anti_aliased():
    "A large rendering, averaged down, is the small one"
    s = shapes(64, seed=2)
    style = s.style.clone()
    style[:,list(style_ranges).index('noise')] = 0
    big,small = (to_float(render_shapes(s.content, style, n)) for n in (128,32))
    assert (torch.nn.functional.avg_pool2d(big, 4)-small).abs().mean() < .01

def test_render_shapes_says_what_is_wrong():
    with pytest.raises(ValueError, match='circle'): render_shapes([8], torch.zeros(1,12))
    with pytest.raises(ValueError, match='N,12'): render_shapes([0], torch.zeros(1,11))

def test_contact_sheet(): assert contact_sheet(some(10, c=1), cols=4, zoom=2).size==(4*5*2, 3*5*2)

## published sets: a tiny one, with its own checksums, from a server of ours

def md5(b): return hashlib.md5(b).hexdigest()

@pytest.fixture
def tiny(tmp_path):
    "An archive of two files, as bytes, and its record"
    files = dict(a=b'A'*5000, b=os.urandom(5000))
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode='w:gz') as t:
        for n,blob in {**{f'tiny/{k}':v for k,v in files.items()}, '../evil':b'!', 'tiny/extra':b'?'}.items():
            m = tarfile.TarInfo(n); m.size = len(blob)
            t.addfile(m, io.BytesIO(blob))
        m = tarfile.TarInfo('tiny/link'); m.type,m.linkname = tarfile.SYMTYPE,'/etc/passwd'
        t.addfile(m)
    raw = raw.getvalue()
    return raw,Archive('Tiny', 'tiny.tar.gz', len(raw), md5(raw), 'tiny', {k:md5(v) for k,v in files.items()}, ())

@pytest.fixture
def server():
    "Serves what `pages` holds: path → bytes, or (bytes, length it claims)"
    pages = {}
    class H(BaseHTTPRequestHandler):
        def do_GET(self):
            p = pages.get(self.path)
            if p is None: return self.send_error(404)
            body,n = p if isinstance(p, tuple) else (p,len(p))
            self.send_response(200); self.send_header('Content-Length', str(n)); self.end_headers(); self.wfile.write(body)
        def log_message(self, *a): pass
    s = ThreadingHTTPServer(('127.0.0.1',0), H)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    pages['url'] = f'http://127.0.0.1:{s.server_port}'
    yield pages
    s.shutdown(); s.server_close()

def with_urls(a, *urls): return Archive(a.name, a.file, a.size, a.md5, a.folder, a.files, urls)
def tree(d): return sorted(str(p.relative_to(d)) for p in d.rglob('*'))

def test_archive_in_the_folder_is_unpacked(tiny, tmp_path):
    raw,a = tiny
    (tmp_path/'tiny.tar.gz').write_bytes(raw)
    assert D._find(a, tmp_path)==tmp_path
    assert tree(tmp_path)==['tiny','tiny.tar.gz','tiny/a','tiny/b']            # no evil, no extra, no link, nothing temporary
    assert D._find(a, tmp_path/'tiny')==tmp_path                            # its own folder will do
    (tmp_path/'tiny/a').unlink(); D._find(a, tmp_path)                      # a half-written folder is completed
    assert md5((tmp_path/'tiny/a').read_bytes())==a.files['a']

def test_missing_says_which_where_and_how(tiny, tmp_path):
    with pytest.raises(FileNotFoundError) as e: D._find(with_urls(tiny[1], 'https://example.org/x'), tmp_path/'nowhere')
    for w in ('Tiny', 'a, b', str(tmp_path/'nowhere'), 'ROBUSTFM_DATA', 'download=True', 'example.org'): assert w in str(e.value)
    assert '\n' not in str(e.value) and not (tmp_path/'nowhere').exists()

@pytest.mark.parametrize('spoil,says', [(lambda b: b'\n<!DOCTYPE html><p>log in'+b'.'*len(b), 'web page'), (lambda b: b[:100], 'truncated: 100 of'), (lambda b: b[:-1]+b'x', 'MD5')])
def test_a_spoilt_archive_is_named_and_never_opened(tiny, tmp_path, spoil, says):
    raw,a = tiny
    (tmp_path/'tiny.tar.gz').write_bytes(spoil(raw))
    with pytest.raises(ValueError, match=says): D._find(a, tmp_path)
    assert tree(tmp_path)==['tiny.tar.gz']

def test_download_goes_on_to_the_mirror_that_has_it(tiny, server, tmp_path):
    raw,a = tiny
    server |= {'/page':b'<html>captive portal</html>', '/short':(raw[:50],len(raw)), '/other':raw[:-1]+b'x', '/good':raw}
    D._find(with_urls(a, *(server['url']+p for p in ('/nothing','/page','/short','/other','/good'))), tmp_path, download=True)
    assert tree(tmp_path)==['tiny','tiny.tar.gz','tiny/a','tiny/b']

def test_download_says_what_each_mirror_did_and_leaves_nothing(tiny, server, tmp_path):
    raw,a = tiny
    server |= {'/page':b'<html>captive portal</html>', '/short':(raw[:50],len(raw)), '/long':raw+bytes(2**20)}
    with pytest.raises(ConnectionError) as e: D._find(with_urls(a, *(server['url']+p for p in ('/nothing','/page','/short','/long')), 'http://127.0.0.1:9/closed'), tmp_path, download=True)
    for w in ('Not Found', 'not the published file', 'MD5', 'refused', 'by other means'): assert w in str(e.value)
    assert tree(tmp_path)==[]

def test_download_replaces_a_spoilt_archive(tiny, server, tmp_path):
    raw,a = tiny
    server['/good'] = raw
    (tmp_path/'tiny.tar.gz').write_bytes(b'<html>')
    D._find(with_urls(a, server['url']+'/good'), tmp_path, download=True)
    assert (tmp_path/'tiny.tar.gz').read_bytes()==raw

def test_a_folder_that_cannot_be_written(tiny, server, tmp_path):
    server['/good'] = tiny[0]
    (tmp_path/'file').write_text('')
    with pytest.raises(OSError, match='cannot write to .*another root') as e: D._find(with_urls(tiny[1], server['url']+'/good'), tmp_path/'file', download=True)
    assert '\n' not in str(e.value)

def test_old_pythons_without_tar_filters(tiny, tmp_path, monkeypatch):
    "3.10 and 3.11 before their security releases"
    monkeypatch.delattr(tarfile, 'data_filter')
    real = tarfile.TarFile.extract
    monkeypatch.setattr(tarfile.TarFile, 'extract', lambda self, m, path: real(self, m, path))      # knows no filter=
    (tmp_path/'tiny.tar.gz').write_bytes(tiny[0])
    D._find(tiny[1], tmp_path)
    assert tree(tmp_path)==['tiny','tiny.tar.gz','tiny/a','tiny/b']

def test_mirrors_are_https_and_named_after_the_archive():
    for a in archives.values(): assert a.urls and all(u.startswith('https://') and a.file in u for u in a.urls)

def test_checksums_are_torchvisions():
    from torchvision import datasets as T
    for k,t in dict(cifar10=T.CIFAR10, cifar100=T.CIFAR100, stl10=T.STL10).items():
        a = archives[k]
        want = dict(t.train_list+t.test_list) | ({t.meta['filename']:t.meta['md5']} if hasattr(t, 'meta') else {})
        assert (a.file,a.md5,a.folder,a.files)==(t.filename,t.tgz_md5,t.base_folder,want)

def test_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('ROBUSTFM_DATA', str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path)): cifar10()
    with pytest.raises(FileNotFoundError, match='val_data.npz|train_data'): imagenet32()
    monkeypatch.delenv('ROBUSTFM_DATA')
    assert data_root()==__import__('pathlib').Path.home()/'.cache/robustfm/data' and data_root('x').name=='x'

## CIFAR, as torchvision reads it

@pytest.mark.data
def test_cifar10_pixel_for_pixel(cifar10_root):
    train,test = cifar10(cifar10_root)
    assert train.x.shape==(50000,3,32,32) and test.x.shape==(10000,3,32,32) and train.x.is_contiguous()
    assert train.classes[:2]==['airplane','automobile'] and train.y.bincount().tolist()==[5000]*10
    for i,sha in ((train,'47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a'), (test,'f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04')):
        assert hashlib.sha256(i.x.permute(0,2,3,1).contiguous().numpy().tobytes()).hexdigest()==sha
    from torchvision.datasets import CIFAR10
    tv = CIFAR10(cifar10_root, train=False, download=False)
    assert (torch.from_numpy(tv.data).permute(0,3,1,2)==test.x).all() and tv.targets==test.y.tolist()

@pytest.mark.data
def test_a_damaged_batch_is_named(cifar10_root, tmp_path):
    d = tmp_path/'cifar-10-batches-py'; d.mkdir()
    for f in archives['cifar10'].files: (d/f).symlink_to(cifar10_root/'cifar-10-batches-py'/f)
    blob = (d/'data_batch_3').read_bytes()
    (d/'data_batch_3').unlink(); (d/'data_batch_3').write_bytes(blob[:-1])
    with pytest.raises(ValueError, match='data_batch_3 in .* damaged') as e: cifar10(tmp_path)
    assert 'data_batch_2' not in str(e.value)

@pytest.mark.data
def test_cifar10_from_its_archive_alone(cifar10_root, tmp_path, monkeypatch):
    "The official .tar.gz itself cannot be rebuilt byte for byte, so its checksum is replaced"
    with tarfile.open(tmp_path/'cifar-10-python.tar.gz', 'w:gz', compresslevel=0) as t: t.add(cifar10_root/'cifar-10-batches-py', 'cifar-10-batches-py')
    blob,a = (tmp_path/'cifar-10-python.tar.gz').read_bytes(),archives['cifar10']
    monkeypatch.setitem(archives, 'cifar10', Archive(a.name, a.file, len(blob), md5(blob), a.folder, a.files, a.urls))
    assert [len(i) for i in cifar10(tmp_path)]==[50000,10000]

## STL-10, ImageNet-32, any folder

def test_stl10(tmp_path, monkeypatch):
    d,rng = tmp_path/'stl10_binary',np.random.default_rng(0)
    d.mkdir()
    x = {s:rng.integers(0, 256, (n,3,96,96), dtype=np.uint8) for s,n in (('train',6),('test',4),('unlabeled',5))}
    for s,v in x.items():
        (d/f'{s}_X.bin').write_bytes(v.transpose(0,1,3,2).tobytes())
        if s!='unlabeled': (d/f'{s}_y.bin').write_bytes((np.arange(len(v), dtype=np.uint8)%10+1).tobytes())
    a = archives['stl10']
    monkeypatch.setitem(archives, 'stl10', Archive(a.name, a.file, 0, '', a.folder, {f.name:md5(f.read_bytes()) for f in d.iterdir()}, ()))
    train,test,un = stl10(tmp_path)
    assert (train.x.numpy()==x['train']).all() and train.y.tolist()==[0,1,2,3,4,5] and (un.x.numpy()==x['unlabeled']).all() and (un.y==-1).all()
    from torchvision.transforms.functional import resize
    assert (stl10(tmp_path, size=32)[1].x.int()-resize(torch.from_numpy(x['test']), (32,32), antialias=True).int()).abs().max()<=1
    (d/'test_X.bin').write_bytes(b'?')
    with pytest.raises(ValueError, match='test_X.bin in .* damaged'): stl10(tmp_path)

def test_imagenet32(tmp_path):
    rng = np.random.default_rng(0)
    def save(name, n, **kw):
        d = dict(data=rng.integers(0, 256, (n,3072), dtype=np.uint8), labels=rng.integers(1, 1001, n))
        np.savez(tmp_path/name, **(d|kw))
        return d
    parts = {k:save(f'train_data_batch_{k}.npz', k+1) for k in (1,2,10)}
    val = save('val_data.npz', 3)
    train,test = imagenet32(tmp_path)
    assert (train.x.numpy()==np.concatenate([parts[k]['data'] for k in (1,2,10)]).reshape(-1,3,32,32)).all()
    assert (test.y.numpy()==val['labels']-1).all() and len(train)==2+3+11
    save('val_data.npz', 3, labels=np.array([object()]*3, dtype=object))        # a pickle in disguise is not opened
    with pytest.raises(ValueError, match='val_data.npz cannot be read'): imagenet32(tmp_path)
    (tmp_path/'val_data.npz').write_bytes((tmp_path/'train_data_batch_1.npz').read_bytes()[:200])
    with pytest.raises(ValueError, match='val_data.npz cannot be read'): imagenet32(tmp_path)

def test_images_from_folders(tmp_path):
    def save(f, size, mode='RGB', color=(200,10,10), **kw): f.parent.mkdir(exist_ok=True, parents=True); Image.new(mode, size, color).save(f, **kw)
    save(tmp_path/'b <i>cat'/'1.PNG', (64,32)); save(tmp_path/'b <i>cat'/'deep'/'2.jpg', (300,400)); save(tmp_path/'a'/'3.webp', (32,32)); save(tmp_path/'a'/'4.png', (9,9), 'L', 77)
    (tmp_path/'a'/'notes.txt').write_text('not a picture'); (tmp_path/'empty').mkdir()
    i = images(tmp_path, 16)
    assert i.x.shape==(4,3,16,16) and i.classes==['a','b <i>cat'] and i.y.tolist()==[0,0,1,1]
    assert (i.x[1]==77).all() and (i.x.float().mean((2,3))[[0,2,3],0]-200).abs().max()<3
    flat = images(tmp_path/'a', 8)
    assert flat.y.tolist()==[-1,-1] and flat.classes is None
    save(tmp_path/'loose.png', (4,4))
    with pytest.raises(ValueError, match='both'): images(tmp_path)
    with pytest.raises(ValueError, match='holds no picture'): images(tmp_path/'empty')
    (tmp_path/'a'/'5.png').write_bytes(b'<html>')
    with pytest.raises(ValueError, match='5.png is not a picture'): images(tmp_path/'a')

def test_images_cut_the_centre_and_turn_upright(tmp_path):
    a = np.zeros((32,64,3), np.uint8); a[:,16:48] = 255                         # white exactly where the central square is
    Image.fromarray(a).save(tmp_path/'1.png')
    b = np.zeros((64,32,3), np.uint8); b[16:32] = 255
    ex = Image.Exif(); ex[0x112] = 3                                            # taken upside down
    Image.fromarray(b).save(tmp_path/'2.png', exif=ex)
    i = images(tmp_path, 32)
    assert (i.x[0]==255).all()
    assert (i.x[1,:,17:]==255).all() and (i.x[1,:,:15]==0).all()

def test_a_worker_decodes_the_same_batches(tmp_path):
    for split in ('train','val'):
        for i,x in enumerate(shapes(12, size=40).x):
            f = tmp_path/split/f'class{i%2}'/f'{i:02}.png'
            f.parent.mkdir(parents=True, exist_ok=True); contact_sheet(x[None], 1, 1).crop((0,0,40,40)).save(f)
    pictures,_ = imagenet(tmp_path, size=16)
    a,b = (list(Stream(pictures, bs=4, workers=n)) for n in (1,0))
    assert len(a)==len(b)==3 and all(x.equal(u) and y.equal(v) for (x,y),(u,v) in zip(a, b))
