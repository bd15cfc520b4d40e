"Independent plain networks from torchvision's parts, and the files that each family's code would have written for them: documented names and shapes, random values"
import re
from copy import deepcopy
import torch
from torch import nn
import torch.nn.functional as F
from torchvision.models import resnet18 as tv18, resnet50 as tv50

imagenet = (.485,.456,.406),(.229,.224,.225)
cifar = (.4914,.4822,.4465),(.247,.243,.261)
bn_parts = 'weight','bias','running_mean','running_var','num_batches_tracked'

def shake(m, seed, norms_only=False):
    "Random weights and norms that have seen something"
    g,sd = torch.Generator().manual_seed(seed),m.state_dict()
    for k,v in sd.items():
        if norms_only and not is_norm(sd, k): continue
        if k.endswith('num_batches_tracked'): v.fill_(98000)
        elif k.endswith('running_var') or (k.endswith('weight') and v.dim()==1): v.copy_(.5+torch.rand(v.shape, generator=g))
        else: v.copy_(torch.randn(v.shape, generator=g)*(2/v[0].numel())**.5 if v.dim()>1 else .1*torch.randn(v.shape, generator=g))
    return m.eval()

def quick(make):
    "Without the usual initialisation, which `shake` overwrites"
    def made(*args, **kw):
        with torch.device('meta'): m = make(*args, **kw)
        return m.to_empty(device='cpu')
    return made

@quick
def resnet(kernel=3, padding=1, classes=None, deep=False):
    "torchvision's ResNet with another stem, by assignment"
    m = (tv50 if deep else tv18)()
    if kernel==3: m.conv1,m.maxpool = nn.Conv2d(3, 64, 3, 1, padding, bias=False),nn.Identity()
    m.fc = nn.Linear(m.fc.in_features, classes) if classes else nn.Identity()
    return m

class Block(nn.Module):
    def __init__(self, ni, nf, stride):
        super().__init__()
        self.bn1,self.conv1 = nn.BatchNorm2d(ni),nn.Conv2d(ni, nf, 3, stride, 1, bias=False)
        self.bn2,self.conv2 = nn.BatchNorm2d(nf),nn.Conv2d(nf, nf, 3, 1, 1, bias=False)
        if ni!=nf: self.convShortcut = nn.Conv2d(ni, nf, 1, stride, 0, bias=False)
    def forward(self, x):
        o = torch.relu(self.bn1(x))
        r = self.convShortcut(o) if hasattr(self, 'convShortcut') else x
        return r + self.conv2(torch.relu(self.bn2(self.conv1(o))))

class WRN(nn.Module):
    "Wide ResNet 28-10 in the names of the released one"
    def __init__(self, classes=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for i,(ni,nf,s) in enumerate(((16,160,1),(160,320,2),(320,640,2)), 1):
            b = nn.Module(); b.layer = nn.Sequential(*[Block(ni if j==0 else nf, nf, s if j==0 else 1) for j in range(4)])
            setattr(self, f'block{i}', b)
        self.bn1 = nn.BatchNorm2d(640)
        self.linear = nn.Linear(640, classes) if classes else nn.Identity()
    def forward(self, x):
        x = self.conv1(x)
        for b in (self.block1,self.block2,self.block3): x = b.layer(x)
        return self.linear(F.adaptive_avg_pool2d(torch.relu(self.bn1(x)), 1).flatten(1))

class Aside(nn.Module):
    "A head whose weights are kept, and that lets representations pass"
    def forward(self, h): return h

def head3(d=512, layers=3):
    "The projection head of ACL (three layers) or of its ImageNet-32 sibling (two), in the released names"
    m = Aside()
    for i in range(1, layers+1): setattr(m, f'fc{i}', nn.Linear(d, d, bias=i==1)); setattr(m, f'bn{i}', nn.BatchNorm1d(d))
    return m

def _run_head(m, h, layers):
    for i in range(1, layers+1):
        h = getattr(m, f'bn{i}')(getattr(m, f'fc{i}')(h))
        if i<layers: h = torch.relu(h)
    return h

def is_norm(sd, k): return k.rpartition('.')[0]+'.running_mean' in sd and k.rpartition('.')[2] in bn_parts

def branches(make, n, seed):
    "n networks that share all but their norms"
    first = shake(make(), seed)
    return [first]+[shake(deepcopy(first), seed+i, norms_only=True) for i in range(1, n)]

def multi(nets):
    "One state dict: shared weights once, every norm as bn_list.0, bn_list.1, …"
    sd = {}
    for i,net in enumerate(nets):
        own = net.state_dict()
        for k,v in own.items():
            if is_norm(own, k): a,_,b = k.rpartition('.'); sd[f'{a}.bn_list.{i}.{b}'] = v
            else: sd[k] = v
    return sd

def acl_names(sd): return {k.replace('downsample.0','downsample.conv').replace('downsample.1','downsample.bn'):v for k,v in sd.items()}
def prefixed(sd, p): return {p+k:v for k,v in sd.items()}
def normalize(stats): return {'normalize.mean':torch.tensor(stats[0]), 'normalize.std':torch.tensor(stats[1])}
def normed(x, stats): return (x-torch.tensor(stats[0]).view(1,3,1,1))/torch.tensor(stats[1]).view(1,3,1,1) if stats else x

class Case:
    "A file, and what each branch of it computes"
    def __init__(self, file, out, embed=None, classes=0, family=None, tensors=None, also=None):
        self.file,self.out,self.embed,self.classes,self.family,self.tensors,self.also = file,out,embed,classes,family,tensors,also
        self.asks = family=='sat-imagenet224' # nothing in the file tells it from torchvision's own

def outputs(nets, names, stats):
    return {n:(lambda x,net=net: net(normed(x, stats))) for n,net in zip(names, nets)}

def acl(classes=0, kernel=3, n=2, box='state_dict', prefix='', tail='', seed=0, family=None):
    "ACL, DynACL, AIR, RCS: two sets of norms, normalisation of ImageNet inside, three-layer head"
    def make():
        m = resnet(kernel)
        if classes: m.fc = nn.Linear(512, classes)
        else: m.fc = head3()
        return m
    nets = branches(make, n, seed)
    sd = normalize(imagenet)|acl_names(multi(nets))
    if n==1: sd = {k.replace('.bn_list.0', tail):v for k,v in sd.items()}
    names = ('clean','adv') if n==2 else ('adv',)
    out = outputs(nets, names, imagenet)
    embed = None if classes else {b:(lambda x,m=m: _run_head(m.fc, m(normed(x, imagenet)), 3)) for b,m in zip(names, nets)}
    return Case({box:prefixed(sd, prefix),'epoch':1000,'optim':{'state':{},'param_groups':[]}} if box else prefixed(sd, prefix), out, embed, classes, family or ('acl' if n==2 else 'acl-one'), len(sd))

def acl_oldest():
    case = acl(seed=3)
    sd = case.file['state_dict']
    case.file['state_dict'] = {re.sub(r'(bn\d?)\.bn_list\.([01])', lambda m: m[1]+('_adv' if m[2]=='1' else ''), k):v for k,v in sd.items()}
    case.family = 'acl-2020'
    return case

def dynacl_pair():
    q,k = acl(seed=5),acl(seed=7)
    k.file = {'epoch':1000, 'state_dict':prefixed(q.file['state_dict'], 'encoder_q.')|prefixed(k.file['state_dict'], 'encoder_k.')}
    return k

def dynaclpp(classes=10, box='state_dict', prefix=''):
    "One set of norms under torchvision's names"
    net = shake(resnet(classes=classes), 11)
    sd = normalize(imagenet)|net.state_dict()
    return Case({box:prefixed(sd, prefix)}, outputs([net], ['adv'], imagenet), classes=classes, family='acl-one', tensors=len(sd))

def autolora(stats=imagenet):
    net = shake(resnet(classes=10), 13)
    sd = {}
    for k,v in net.state_dict().items():
        m = re.fullmatch(r'(layer\d\.\d\.(?:conv\d|downsample\.0))\.weight', k)
        if not m: sd[k] = v; continue
        o,i,n,_ = v.shape
        sd |= {m[1]+'.conv.weight':v, m[1]+'.lora_A_nat':torch.randn(8*n, i*n), m[1]+'.lora_B_nat':torch.zeros(o*n, 8*n)}
    return Case({'state_dict':(normalize(stats) if stats else {})|sd}, outputs([net], ['adv'], stats), classes=10, family='autolora', tensors=122+2*bool(stats))

def rcs_imagenet32(prefix='module.', head=True):
    "Adversarial branch first, no normalisation, two-layer head"
    def make():
        m = quick(WRN)()
        if head: m.linear = head3(640, 2)
        return m
    nets = branches(make, 2, 17)
    sd = multi(nets)
    embed = {b:(lambda x,m=m: _run_head(m.linear, m(x), 2)) for b,m in zip(('adv','clean'), nets)} if head else None
    return Case({'state_dict':prefixed(sd, prefix),'epoch':200,'optim':{}}, outputs(nets, ('adv','clean'), None), embed, family='rcs-imagenet32', tensors=len(sd))

def sat_imagenet32(head='linear', prefix='module.', classes=1000):
    net = shake(quick(WRN)(classes), 19)
    sd = {k.replace('linear.', head+'.'):v for k,v in net.state_dict().items()}
    return Case({'state_dict':prefixed(sd, prefix)}, outputs([net], ['adv'], None), classes=classes, family='sat-imagenet32', tensors=len(sd))

def sat_imagenet224(prefix='module.'):
    net = shake(resnet(7, classes=1000, deep=True), 23)
    return Case({'state_dict':prefixed(net.state_dict(), prefix)}, outputs([net], ['adv'], None), classes=1000, family='sat-imagenet224', tensors=len(net.state_dict()))

def advcl(prefix='module.', box='model', classifier=False):
    "Three sets of norms, no normalisation, pseudo-class heads and projection heads; 357 tensors"
    nets = branches(lambda: resnet(), 3, 29)
    sd = acl_names(multi(nets))
    for k in (2,10,50,100,500): sd |= prefixed(nn.Linear(512, k).state_dict(), f'fc_{k:03}.')
    for name,(i,o) in dict(ce=(512,1000), proj=(512,128), pred=(128,128)).items():
        sd |= prefixed(nn.Sequential(nn.Linear(i, i), nn.BatchNorm1d(i), nn.ReLU(), nn.Linear(i, o)).state_dict(), f'head_{name}.')
    d = {box:prefixed(sd, prefix), 'epoch':1000, 'rng_state':torch.get_rng_state()}
    out = outputs(nets, ('clean','adv','pseudo'), None)
    if classifier:
        fc = nn.Linear(512, 10)
        d['classifier'] = prefixed(fc.state_dict(), 'module.fc.')
        out = {b:(lambda x,f=f: fc(f(x))) for b,f in out.items()}
    return Case(d, out, classes=10*classifier, family='advcl', tensors=len(sd))

def rocl(projector=False, linear=False):
    "kuangliu's names, no fc, no normalisation; projector and linear head in second files"
    net = shake(resnet(), 31)
    sd = {'module.'+k.replace('downsample','shortcut'):v for k,v in net.state_dict().items()}
    out,embed,also = outputs([net], ['adv'], None),None,None
    if projector:
        a,b = nn.Linear(512, 2048),nn.Linear(2048, 128)
        also = {'module.linear_1.'+k:v for k,v in a.state_dict().items()}|{'module.linear_2.'+k:v for k,v in b.state_dict().items()}
        embed = {'adv':lambda x: b(torch.relu(a(net(x))))}
    if linear:
        fc = nn.Linear(512, 10)
        also = {'module.0.'+k:v for k,v in fc.state_dict().items()}
        out = {'adv':lambda x: fc(net(x))}
    return Case({'epoch':1000, 'acc':0., 'model':sd, 'optimizer_state':{}, 'rng_state':torch.get_rng_state()}, out, embed, 10*linear, 'rocl', len(sd), also)

def deacl():
    "Lightning: student under backbone., teacher under momentum_backbone., probes; stem padding 2, normalisation of CIFAR in the file"
    net,teacher = shake(resnet(padding=2), 37),shake(resnet(padding=2), 38)
    probe = nn.Linear(512, 10)
    sd = prefixed(normalize(cifar)|net.state_dict(), 'backbone.')|prefixed(normalize(cifar)|teacher.state_dict(), 'momentum_backbone.') \
        |prefixed(probe.state_dict(), 'classifier.')|prefixed(probe.state_dict(), 'classifier_adv.')
    return Case({'state_dict':sd, 'epoch':99, 'pytorch-lightning_version':'1.5.3'}, outputs([net], ['adv'], cifar), family='deacl', tensors=122)

def solo(moco=False):
    "A standard teacher: backbone., projector., classifier.; MoCo's momentum copy and queue"
    net = shake(resnet(padding=2), 41)
    sd = prefixed(net.state_dict(), 'backbone.')|prefixed(nn.Linear(512, 10).state_dict(), 'classifier.')|prefixed(nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 32)).state_dict(), 'projector.')
    if moco: sd |= prefixed(shake(resnet(padding=2), 42).state_dict(), 'momentum_backbone.')|{'momentum_projector.0.weight':torch.rand(64, 512), 'queue':torch.rand(2, 32, 64), 'queue_ptr':torch.zeros(1, dtype=torch.long)}
    return Case({'state_dict':sd, 'epoch':999}, outputs([net], ['adv'], cifar), family='solo', tensors=120)

cases = {
    'ACL': acl, 'ACL after fine-tuning': lambda: acl(10), 'ACL on STL-10, large stem': lambda: acl(kernel=7), 'ACL, oldest names': acl_oldest,
    'RobustSSL repack, state_dict_dual': lambda: acl(10, box='state_dict_dual'), 'bare, DataParallel': lambda: acl(box='', prefix='module.'),
    'DynACL, momentum pair': dynacl_pair, 'DynACL, encoder_k alone': lambda: acl(prefix='encoder_k.'), 'DynACL, one set of norms': lambda: acl(n=1, tail=''),
    'wrapper without index': lambda: acl(n=1, tail='.bn_list'), 'wrapper with one index': lambda: acl(n=1, tail='.bn_list.0', family='acl'),
    'DynACL++': dynaclpp, 'DynACL++, encoder_k': lambda: dynaclpp(prefix='encoder_k.'), 'AutoLoRa': autolora, 'AutoLoRa without normalisation': lambda: autolora(None),
    'RCS ImageNet-32': rcs_imagenet32, 'RCS ImageNet-32 without DataParallel': lambda: rcs_imagenet32('', False), 'SAT ImageNet-32': sat_imagenet32,
    'SAT ImageNet-32, fc': lambda: sat_imagenet32('fc', ''), 'SAT ImageNet-224': sat_imagenet224, 'AdvCL': advcl, 'AdvCL fine-tuned': lambda: advcl(classifier=True),
    'A-InfoNCE, RobustSSL repack': lambda: advcl('', 'state_dict'), 'RoCL': rocl, 'RoCL with projector': lambda: rocl(True), 'RoCL with linear head': lambda: rocl(linear=True),
    'DeACL': deacl, 'solo-learn SimCLR': solo, 'solo-learn MoCo': lambda: solo(True),
}
