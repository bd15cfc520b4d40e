"Coreset selection as one would write it down: one mini-batch after another, every adversary of the validation images found again after every pick"
import copy, time
from dataclasses import dataclass
import torch, torch.nn.functional as F
from torch import nn
from robustfm.attacks import PGD
from robustfm.tools import seeded,to_float

class Recording:
    "Views, and what they were"
    def __init__(self, augment): self.augment,self.said = augment,[]
    def __call__(self, x, *a): self.said.append(self.augment(x, *a)); return self.said[-1]

@dataclass(frozen=True)
class RecordingPGD(PGD):
    said: list = None
    def begin(self, x): self.said.append(super().begin(x)); return self.said[-1]

def recorded(o):
    "The same objective, which remembers its views and where its attacks began"
    o.augment,o.attack = Recording(o.augment),RecordingPGD(**{k:getattr(o.attack, k) for k in ('ball','alpha','steps','start')}, said=[])
    return o

def embed(net, x, bn):
    "In the layout of the released code, whatever `Encoder` prefers"
    net.route(bn)
    return net.g(net.f((x-net.mean)/net.std))

def _head_gradient(net):
    ls = [m for m in net.g if isinstance(m, nn.Linear)]
    res = torch.cat([p.grad.flatten() for l in ls for p in l.parameters()])
    net.zero_grad()
    return res

def batch_gradient(o, v1, v2, a1, a2):
    "One mini-batch: attack by .backward(), the loss by hand, .backward(), read .grad"
    net,eps,alpha = o.net,o.attack.ball.eps,o.attack.alpha
    def nt(z):
        n = len(z)//2
        s = F.cosine_similarity(z[:,None], z[None], dim=-1)/.5
        s = s.masked_fill(torch.eye(2*n, dtype=torch.bool), -torch.inf)
        return F.cross_entropy(s, torch.arange(2*n).roll(n))
    x,a = torch.cat([v1,v2]),torch.cat([a1,a2])
    for _ in range(o.attack.steps):
        a = a.detach().requires_grad_()
        nt(embed(net, a, 'adv')).backward()                            # gradients of the head's weights, too
        a = (x + (a.detach()+alpha*a.grad.sign()-x).clamp(-eps, eps)).clamp(0,1)
    net.zero_grad(); a = a.detach()
    (.5*nt(embed(net, a, 'adv')) + .5*nt(embed(net, x, 'clean'))).backward()
    return _head_gradient(net)

def selection(rcs, epoch, said, starts):
    "Picks, table and seconds of the loop, given the views and starts of attacks that `rcs` drew for `epoch`"
    t = time.perf_counter()
    o = copy.deepcopy(rcs.objective); o.augment = None
    net,x,eps = o.net.eval().requires_grad_(False),to_float(rcs.valid.x),o.attack.ball.eps
    ls = [m for m in net.g if isinstance(m, nn.Linear)]
    for l in ls: l.requires_grad_(True)
    batches,cut = rcs.candidates(epoch),lambda ts: torch.cat(ts).split(rcs.bs)
    table = [batch_gradient(o, *args) for args in zip(cut(said[::2]), cut(said[1::2]), cut(starts[::2]), cut(starts[1::2]))]
    def kl(a, z): return (z.softmax(1)*(z.log_softmax(1)-a.log_softmax(1))).sum(1)
    def q():
        adv = []
        for b in x.split(rcs.at_once or 512):
            z,a = embed(net, b, 'clean').detach(),(b+torch.empty_like(b).uniform_(-eps, eps)).clamp(0,1)
            for _ in range(rcs.rd_steps):
                a = a.detach().requires_grad_()
                kl(embed(net, a, 'adv'), z).sum().backward()
                a = (b+(a.detach()+1.25*eps/rcs.rd_steps*a.grad.sign()-b).clamp(-eps, eps)).clamp(0,1)
            adv.append(a.detach())
        net.zero_grad()
        kl(embed(net, torch.cat(adv), 'adv'), embed(net, x, 'clean')).mean().backward()
        return _head_gradient(net)
    picks,n = [],0
    with seeded((rcs.seed, epoch, 'valid',), torch.device('cpu')):
        while True:
            g = q()
            gains = torch.stack([t@g for t in table])
            gains[picks] = -torch.inf
            picks.append(int(gains.argmax())); n += len(batches[picks[-1]])
            if n>=rcs.budget: return picks,torch.stack(table),time.perf_counter()-t
            i = 0
            for p in (p for l in ls for p in l.parameters()):
                p.data -= rcs.eta*table[picks[-1]][i:i+p.numel()].view_as(p)
                i += p.numel()
