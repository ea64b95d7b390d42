"""A residual perceptron that reads the predictions of adaptive filters: sound on a laptop.

A bank of least-squares lattices learns from the item itself (`exact.operations.lattice`), at several rates and of several
orders; nothing of it is trained.  The perceptron reads, at each sample, how these predictions differ, how far each was off
lately, the last errors and the last samples, all in units of the running deviation; it gives each component of the mixture
its weight, its correction and its width in the same unit.  So it sees how the item differs from the training set, and
whispers and shouts look alike.  Everything up to the first layer is whole numbers, the same that an integer network reads.

B items of T samples, n columns of the bank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.residual import ResidualPerceptron
from ardm.precision import full

ORDER, FRACTION, ENERGY = 32, 6, 1 << 24
"""Of the bank: the highest order, the bits after the point of its numbers in half samples, and the least energy."""
RATES, ORDERS, PACES = (5, 6, 7, 8, 9), (2, 4, 8, 16, 24, 32), (4, 7)
"""Of the bank: a lattice of rate r forgets half in about 0.7 · 2^r samples; the orders that are read; the paces of deviations."""
CENTRAL = ((6, 16), (6, 32), (7, 16), (7, 32))
"""Rate and order of the predictions whose mean is the centre; the running deviation is the mean of theirs."""
ERRORS, SAMPLES = 16, 32
"""The last errors of the centre, and the last samples, that are read."""
FINE, COARSE, CLIP = 6, 3, 511
"""Bits after the point of ratios, of those of samples, and where both are clipped."""
LOG = 32
"""Units of a logarithm in a nat."""
LEVEL = 256.0
"""What the logarithm of the deviation is divided by as an input."""


def central() -> list[int]:
    """The columns of CENTRAL; those of their faster deviations stand as many further as there are predictions."""
    return [RATES.index(rate) * len(ORDERS) + ORDERS.index(order) for rate, order in CENTRAL]


def logarithms() -> tuple[list[int], int]:
    """The table of `log` (256,), of an octave, and the octave itself, with 16 bits after the point; the table rounds."""
    octave = [round(2**16 * LOG * math.log1p(i / 256)) + 2**15 for i in range(256)]
    return octave, round(2**16 * LOG * math.log(2))


def logarithm(x: Tensor) -> Tensor:
    """LOG · ln x, rounded, of whole numbers of at least 1."""
    table, octave = logarithms()
    n = torch.frexp(x.float())[1].long() - 1
    rest = torch.where(n > 8, x >> (n - 8).clamp(min=0), x << (8 - n).clamp(min=0)) - 256
    return n * octave + torch.tensor(table, device=x.device)[rest] >> 16


def before(x: Tensor, count: int) -> Tensor:
    """(…, T, count): the `count` numbers before each of x (…, T), the last first; 0 before the first."""
    return F.pad(x, (count, 0)).unfold(-1, count, 1)[..., : x.shape[-1], :].flip(-1)


def ratio(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """x (…, n) / scale (…), rounded down to so many bits after the point, within ±CLIP of its units."""
    return (x << bits).div(scale[..., None], rounding_mode="floor").clamp(-CLIP, CLIP)


class LatticePerceptron(nn.Module):
    """Features at the sites of a sound, around the centre of its predictions.

    classes: K.  width: F.  blocks: residual blocks.
    """

    def __init__(self, classes: int, width: int, blocks: int) -> None:
        super().__init__()
        self.classes, self.predictions = classes, len(RATES) * len(ORDERS)
        self.first = nn.Linear(self.predictions * (1 + len(PACES)) + ERRORS + SAMPLES + 1, width)
        self.blocks = ResidualPerceptron(width, blocks)

    def read(self, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, T, I), centre and deviation (B, T), all whole; said (B, T, 1 + n) int64: half samples, and the bank."""
        value, near, off = said[..., 0], said[..., 1 : 1 + self.predictions], said[..., 1 + self.predictions :]
        centre = near[..., central()].sum(-1) >> 2
        scale = (off[..., central()].sum(-1) >> 2) + (1 << FRACTION)
        samples = before(value, SAMPLES) << FRACTION
        errors = samples[..., :ERRORS] - before(centre, ERRORS)
        apart = torch.cat([near - centre[..., None], off, errors], -1)
        inputs = [
            ratio(apart, scale, FINE),
            ratio(samples - centre[..., None], scale, COARSE),
            logarithm(scale)[..., None],
        ]
        return torch.cat(inputs, -1), centre, scale

    def units(self) -> list[float]:
        """(I,): what each input is divided by."""
        return [float(1 << FINE)] * (self.first.in_features - 1) + [LEVEL]

    def everywhere(self, said: Tensor) -> Features:
        """Features of all sites, item by item; said as for `read`."""
        return self._features(*(x.flatten(0, 1) for x in self.read(said)))

    def forward(self, said: Tensor) -> FeaturesAt:
        """Features at sites; said as for `read`."""
        inputs, centre, scale = self.read(said)
        return lambda b, position: self._features(inputs[b, position], centre[b, position], scale[b, position])

    def _features(self, inputs: Tensor, centre: Tensor, scale: Tensor) -> Features:
        """Of rows (N, I), (N,), (N,)."""
        kind = self.first.weight.dtype
        divisor = torch.tensor(self.units(), dtype=kind, device=inputs.device)
        h = self.blocks(full(self.first, inputs.to(kind) / divisor))
        unit = (self.classes - 1) << FRACTION
        return Features(F.relu(h), centre.to(h.dtype) / unit, scale.to(h.dtype) / unit)
