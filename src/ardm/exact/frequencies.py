"""Integer frequencies: from the numbers that a head gives at N sites to the frequencies of the symbols there.

A symbol of b values is coded in *stages* of at most 16 alternatives, so that a mixture is evaluated at 17 edges instead
of b + 1, and values of 16 bits need no table of 65,536.  A softmax has one stage of b alternatives.

    symbol = (d_1 · 16 + d_2) · 16 + …,     stage t codes d_t, given the digits before it

Discretised logistics (the paper's audio models), in integers.  A value x owns the interval between the edges x and
x + 1; positions are measured in V = 2·edge − K, with `fraction` bits after the point.  For component m:

    z = ⌊(2^f · V − μ_m) · inverse_m / 2^(f + bits − 12)⌋          in units of 2^−12 nats, kept within ±24 nats
    F_m = T[i] + ⌊(T[i + 1] − T[i]) · r / 64⌋                      with z + 24 · 2^12 = 64 i + r,  T = SIGMOID
    F = Σ π_m F_m                                                 Σ π_m = 2^14, so F is in units of 2^−44

F is 0 at the edge 0 and 2^44 at the edge K: open tails.  The masses of a stage are differences of F at its edges,
relative to the mass of the block that the stage splits; when that is 2^38 or more, F is first divided by 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ardm.ans import EXP, GRID, RANGE, Ints, widths
from ardm.exact.sigmoid import FINE, REACH, REST, SIGMOID, UNITY

RADIX = 16
"""The most alternatives of one stage of a mixture."""
IMPOSSIBLE = -(1 << 22) - 1
"""The logit of an impossible value, which has no frequency."""
WEIGHT = 14
"""The weights of a mixture are integers in units of 2^−WEIGHT."""
_BLOCK = 1 << 12  # rows worked on at once


class Rows(Protocol):
    """The frequencies of the symbols at N sites, stage by stage."""

    @property
    def radices(self) -> tuple[int, ...]:
        """Alternatives of each stage; their product is at least b."""

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, radices[stage]), rows summing to 2^24, given the digits of the stages before it: prefix (N,)."""


def radices(base: int) -> tuple[int, ...]:
    """The alternatives of each stage of a symbol of `base` values; the first stage has the fewest."""
    out: list[int] = []
    while base > 1:
        out.append(min(base, RADIX))
        base = -(-base // RADIX)
    return tuple(reversed(out)) or (1,)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(a, a + _BLOCK) for a in range(0, count, _BLOCK))


def _below(x: Ints) -> Ints:
    """32nds of a nat below the largest of each row, to entries of the table of exponentials."""
    return EXP[np.minimum(x.max(axis=1, keepdims=True) - x, GRID * RANGE - 1)]


# --- softmax ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Softmax:
    """Logits (N, b) in 32nds of a nat; possible: (N, b), which digits lead to a value below K."""

    logits: Ints
    possible: NDArray[np.bool_]

    @property
    def radices(self) -> tuple[int, ...]:
        """One stage."""
        return (self.logits.shape[1],)

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, b)."""
        out = np.empty(self.logits.shape, dtype=np.int64)
        for rows in _blocks(len(out)):
            grid, possible = self.logits[rows], self.possible[rows]
            grid = np.where(possible, grid, grid.min(axis=1, keepdims=True, initial=0) - GRID * RANGE)
            widths(np.where(possible, _below(grid), 0), possible, out=out[rows])
        return out


@dataclass(frozen=True)
class Blocks:
    """Logits of values (N, K) in 32nds of a nat, summed over the blocks that digits stand for.

    value, place: (N,): the values known so far, and the number of values in each child block.  base: digits.
    """

    logits: Ints
    value: Ints
    place: Ints
    base: int

    @property
    def radices(self) -> tuple[int, ...]:
        """One stage."""
        return (self.base,)

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, b)."""
        K = self.logits.shape[1]
        out = np.empty((len(self.logits), self.base), dtype=np.int64)
        for rows in _blocks(len(out)):
            value, place = self.value[rows, None], self.place[rows, None]
            inside = (np.arange(K) >= value) & (np.arange(K) < value + place * self.base)
            grid = self.logits[rows]
            grid = np.where(inside, grid, grid.min(axis=1, keepdims=True) - GRID * RANGE)
            running = np.zeros((len(grid), K + 1), dtype=np.int64)
            np.cumsum(np.where(inside, _below(grid), 0), axis=1, out=running[:, 1:])
            edges = np.minimum(value + place * np.arange(self.base + 1), K)
            mass = np.diff(np.take_along_axis(running, edges, axis=1), axis=1)
            mass >>= max(0, (K - 1).bit_length() - 8)  # a row of more than 256 values would pass 2^38
            widths(mass, edges[:, :-1] < K, out=out[rows])
        return out


# --- mixtures of logistics --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """Discretised logistics of N sites.

    weight (N, M): integers that sum to 2^14.  mean (N, M): in V, `fraction` bits after the point.
    inverse (N, M): 1 / scale, in units of 2^−bits per V.  classes: K.
    value, place (N,): the values known so far, and the number of values in each child block.
    """

    weight: Ints
    mean: Ints
    inverse: Ints
    fraction: int
    bits: int
    classes: int
    base: int
    value: Ints
    place: Ints

    @property
    def radices(self) -> tuple[int, ...]:
        """Of the next digit."""
        return radices(self.base)

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, radices[stage]); 0 where no value follows."""
        radix, finer = self.radices[stage], RADIX ** (len(self.radices) - 1 - stage)
        out = np.empty((len(self.weight), radix), dtype=np.int64)
        for rows in _blocks(len(out)):
            low = self.value[rows] + prefix[rows] * (finer * radix * self.place[rows])
            child = np.arange(radix + 1) * finer
            end = np.minimum(self.value[rows] + self.place[rows] * self.base, self.classes)[:, None]
            edges = np.minimum(low[:, None] + child * self.place[rows, None], end)
            possible = edges[:, :-1] < end
            cdf = self._cdf(rows, edges)
            cdf -= cdf[:, :1]
            cdf >>= 6 * (cdf[:, -1:] >> 38 > 0)
            mass = np.diff(cdf, axis=1)
            mass[~mass.any(axis=1)] = 1  # a block too improbable to distinguish its values
            mass *= possible
            widths(mass, None if possible.all() else possible, out=out[rows])
        return out

    def _cdf(self, rows: slice, edges: Ints) -> Ints:
        """F at the edges (n, e) of some rows, in units of 2^−44."""
        place = (2 * edges - self.classes) << self.fraction
        z = place[:, None] - self.mean[rows, :, None]
        z *= self.inverse[rows, :, None]
        z >>= self.fraction + self.bits - FINE
        z += REACH << FINE
        np.clip(z, 0, (2 * REACH << FINE) - 1, out=z)
        knot, rest = z >> REST, z & ((1 << REST) - 1)
        cdf = SIGMOID[knot]
        cdf += (SIGMOID[knot + 1] - cdf) * rest >> REST
        total: Ints = (cdf * self.weight[rows, :, None]).sum(axis=1)
        total[edges <= 0] = 0
        total[edges >= self.classes] = 1 << UNITY + WEIGHT
        return total


def mixture_weights(logits: Ints) -> Ints:
    """Logits (N, M) in 32nds of a nat to weights that sum to 2^14; the first of the largest takes the remainder."""
    mass = _below(logits)
    weight = (mass << WEIGHT) // mass.sum(axis=1, keepdims=True)
    largest = weight.argmax(axis=1)
    weight[np.arange(len(weight)), largest] += (1 << WEIGHT) - weight.sum(axis=1)
    return weight
