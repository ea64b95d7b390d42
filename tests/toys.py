"""Small models with random parameters in float64, and all data and all orders to sum over.

Nothing here is trained: an identity of the method holds for every network, so that an arbitrary one tests it.
"""

import itertools
import math
from types import SimpleNamespace

import torch
from torch import nn

from ardm import plan as plans
from ardm.adaptive import Adaptive, PlannedNumber
from ardm.digits import Maps, Sites
from ardm.features import Features
from ardm.model import Model
from ardm.models.build import BODIES, SHARED, build
from ardm.models.build import HEADS as MAKERS
from ardm.models.config import ModelConfig

WIDTH = 6


def maker(name):
    """(alphabet, width) → a head of that name."""
    return lambda alphabet, width: MAKERS[name](SimpleNamespace(digits=alphabet, features=width, components=2))


HEADS = {name: maker(name) for name in MAKERS if name != "chain"}
"""The heads that go with every alphabet of `Digits`; "chain" takes whole values alone."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Body(nn.Module):
    """A perceptron on all values and depths of an item (and on a context vector, where one is taken)."""

    def __init__(self, digits, shape, context=0):
        super().__init__()
        self.scale, D = digits.classes, math.prod(shape)
        self.first = nn.Linear(2 * D + context, 24)
        self.second = nn.Linear(24, D * (WIDTH + 2))

    def forward(self, state, context=None):
        parts = [state.value.flatten(1) / self.scale, state.depth.flatten(1), *([] if context is None else [context])]
        h = self.first(torch.cat(parts, 1).to(self.first.weight.dtype)).tanh()
        rows = self.second(h).view(-1, WIDTH + 2)
        D = math.prod(state.shape)

        def features(batch_index, position):
            row = rows[batch_index * D + position]
            return Features(row[:, :WIDTH], row[:, WIDTH].tanh(), row[:, WIDTH + 1].sigmoid() + 0.1)

        return features


def randomise(model, seed=0, scale=1.0):
    """Draw every parameter at random, so that none stays zero as initialised; in float64."""
    g, model = generator(seed), model.double()
    with torch.no_grad():
        for p in model.parameters():
            fan = max(1, p[0].numel()) if p.ndim > 1 else 1
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.double) * scale / math.sqrt(fan))
    return model.eval()


def toy(digits, shape, head="digits", seed=0, scale=2.0, context=0):
    """An arbitrary any-order model of items of this shape."""
    model = Model(digits, tuple(shape), Body(digits, shape, context), HEADS[head](digits, WIDTH))
    return randomise(model, seed, scale)


def read_by(trunk, **settings):
    """Those of the settings that a trunk reads."""
    return {name: value for name, value in settings.items() if name in (*SHARED, *BODIES[trunk].reads)}


def tiny_image(trunk="unet", shape=(2, 3, 3), classes=5, base=0, head="values", seed=0, **changes):
    """A real image model, as small as may be, with random parameters."""
    small = read_by(trunk, width=8, blocks=1, components=2)
    return randomise(
        build(ModelConfig(shape=shape, classes=classes, base=base, head=head, trunk=trunk, **{**small, **changes})),
        seed,
    )


def floor_maps(digits):
    """`Maps` that say the same as digits."""
    S = len(digits)
    return Maps(
        digits.classes,
        [[v // digits.base ** (S - s) * digits.base ** (S - s) for v in range(digits.classes)] for s in range(S)],
    )


WILD = Maps(7, [[3, 3, 9, 3, 3, 9, 3, 3, 9], [8, 3, 2, 3, 8, 5], [0, 0, 2, 0, 4, 5, 2]])
"""Three maps that are no digits: states beyond the data, unequal families, values renamed on the way."""


def letters():
    """The released code's text maps, in small: 9 letters → 3 kinds (classes 9, 10, 11) → absorbing 12."""
    return Maps(9, [[12] * 12, [9, 10, 10, 11, 11, 11, 11, 11, 10]])


def all_data(classes, shape):
    """Every item: (classes^D, *shape)."""
    return torch.tensor(list(itertools.product(range(classes), repeat=math.prod(shape)))).view(-1, *shape)


def some_data(digits, shape, batch=3, seed=3):
    return torch.randint(digits.classes, (batch, *shape), generator=generator(seed))


def all_orders(D):
    """Every order as ranks: (D!, D)."""
    return torch.tensor(list(itertools.permutations(range(D))))


def all_plans(stages, shape):
    """Every staged plan, one per item: batch (D!)^S."""
    D = math.prod(shape)
    rows = [torch.stack(p) for p in itertools.product(all_orders(D), repeat=stages)]
    return plans.Plan((torch.stack(rows) + D * torch.arange(stages)[:, None]).view(-1, stages, *shape))


def everywhere(model, state):
    """All sites that are not complete."""
    return Sites.where(state.depth < len(model.digits))


def confident(starts, sites, stages=1):
    """Least entropy first, in steps with these starts, counted as stage · D + known sites."""
    rows = [[t - s * sites for t in starts if s <= t / sites < s + 1] for s in range(stages)]
    return Adaptive("entropy", PlannedNumber.starting(rows, sites), stages=stages)


def only(plan, inside):
    """The plan in which sites outside `inside` (1 or B, *shape) bool are never revealed; steps keep their number."""
    return plans.Plan(torch.where(inside[:, None], plan.when, plans.NEVER))


def pairs(plan, x):
    """Each plan of a batch with each item: a plan of P·B items, and x to go with it."""
    P, B = len(plan.when), len(x)
    return plans.Plan(plan.when.repeat_interleave(B, 0)), x.repeat(P, *[1] * (x.ndim - 1))


class Fixed:
    """A prediction that gives these logits, whatever the sites."""

    def __init__(self, logits):
        self.logits = logits

    def __getitem__(self, sites):
        return self.logits

    def log_prob(self, sites, digit):
        return self.logits.double().log_softmax(-1).gather(1, digit[:, None])[:, 0]


def asked(logits, batch_index=None):
    """A prediction of logits (N, b), and the sites to ask it at: one per item, or of the items batch_index (N,)."""
    return Fixed(logits), Sites(torch.arange(len(logits)) if batch_index is None else batch_index, 1)


class Spy:
    """A model that records its inputs."""

    def __init__(self, model):
        self.model, self.seen = model, []

    @property
    def digits(self):
        return self.model.digits

    def __call__(self, state, context=None):
        self.seen.append(state)
        return self.model(state, context)
