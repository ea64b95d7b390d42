"""The whole method on four ternary sites: bring a network, train it, score exactly, plan few calls, sample, compress.

    python examples/toy.py        # half a minute on a laptop

The four sites depend on each other.  The network is our own, ten lines; the library only requires that
`network(state)` returns a prediction that can be evaluated at sites.
"""

import itertools
import math

import torch
from torch import nn

from ardm import likelihood, objective
from ardm.digits import Digits
from ardm.plan import shuffled
from ardm.schedule import Schedule
from ardm.source import Decode, Draw, Encode
from ardm.walk import last, walk

K, D = 3, 4
generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)


class Logits:
    """A prediction made of plain logits (B, D, K)."""

    def __init__(self, logits):
        self.logits = logits

    def __getitem__(self, sites):
        return self.logits.flatten(0, 1)[sites.index]

    def log_prob(self, sites, digit):
        return self[sites].log_softmax(-1).gather(1, digit[:, None])[:, 0]


class Network(nn.Module):
    """Any network: known values and their positions in, logits at every site out.  It need not be causal."""

    def __init__(self):
        super().__init__()
        self.digits = Digits(K, base=K)  # one digit per value: the order-agnostic ARDM
        self.layers = nn.Sequential(nn.Linear(2 * D, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, D * K))

    def forward(self, state, context=None):
        return Logits(self.layers(torch.cat([state.value, state.depth], 1).float()).view(-1, D, K))


def data(n):
    """A chain: each value copies its left neighbour with probability 3/4 and is drawn at random otherwise."""
    x = torch.randint(K, (n, D), generator=generator)
    for i in range(1, D):
        keep = torch.rand(n, generator=generator) < 0.75
        x[:, i] = torch.where(keep, x[:, i - 1], x[:, i])
    return x


network = Network()
optimiser = torch.optim.Adam(network.parameters(), 3e-3)
for _ in range(2000):
    x = data(128)
    scored = objective.bound_step(network, x, objective.draw(len(x), 1, (D,), generator))
    optimiser.zero_grad()
    scored.nats.mean().backward()
    optimiser.step()

x = data(4000)
stay = 0.75 + 0.25 / K
entropy = math.log(K) - (D - 1) * (stay * math.log(stay) + (1 - stay) * math.log((1 - stay) / (K - 1)))
print(f"entropy of the source  {entropy / D / math.log(2):.3f} bits/dim")
print(f"bound, any order       {likelihood.bound(network, x, 4, generator)}")
plan = shuffled(1, (D,), generator)
print(f"one random order       {likelihood.exact(network, plan, x)}")
everything = torch.tensor(list(itertools.product(range(K), repeat=D)))
print(f"sum over all {K**D} items  {likelihood.exact(network, plan, everything).nats.neg().exp().sum():.6f}")

curve = likelihood.curve(network, x, 4, generator).monotone()
for calls in range(1, D + 1):
    best = Schedule.optimal(curve, calls)
    print(f"{calls} calls, planned       {best.bits_per_dim():.3f} bits/dim, steps begin at {best.flat()}")

blank = network.digits.blank(40000, (D,))
drawn = last(walk(network, plan, Draw(generator), blank), blank).value
counts = torch.bincount((drawn * K ** torch.arange(D)).sum(1), minlength=K**D) / len(drawn)
model = likelihood.exact(network, plan, everything).nats.neg().exp()
print(f"sampled minus modelled {(counts[(everything * K ** torch.arange(D)).sum(1)] - model).abs().max():.4f} at most")

blank, source = network.digits.blank(len(x), (D,)), Encode()
last(walk(network, plan, source, blank, truth=x), blank)
stream = source.finish()
back = last(walk(network, plan, Decode(stream), blank), blank).value
print(f"compressed             {8 * len(stream) / x.numel():.3f} bits/dim; restored exactly: {torch.equal(back, x)}")
