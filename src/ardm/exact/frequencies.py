"""Integer frequencies: from the numbers that a head gives at N sites to the frequencies of the symbols there.

A symbol of b values is coded in *stages* of at most 16 alternatives, so that a mixture is evaluated at 17 edges instead
of b + 1, and values of 16 bits need no table of 65,536.  A softmax has one stage of b alternatives.

    symbol = (d_1 · 16 + d_2) · 16 + …,     stage t codes d_t, given the digits before it

Discretised logistics (the paper's audio models), in integers.  A value x owns the interval between the edges x and
x + 1; positions are measured in V = 2·edge − K, with `fraction` bits after the point.  For component m:

    z = ⌊(2^f · V − μ_m) · inverse_m / 2^(f + bits − 12)⌋          in units of 2^−12 nats, kept within ±24 nats
    F_m = T[i] + ⌊(T[i + 1] − T[i]) · r / 64⌋                      with z + 24 · 2^12 = 64 i + r,  T = SIGMOID
    F = Σ π_m F_m                                                 Σ π_m = 2^14, so F is in units of 2^−44

F is 0 at the edge 0 and 2^44 at the edge K: open tails.  A stage splits a block of values at the edges x_0 < … < x_n
into its n ≤ 16 possible children.  Child e owns the interval [c(e), c(e + 1)) of 0..2^24:

    D(e) = F(x_e) − F(x_0);   if D(n) ≥ 2^38, every D is divided by 64, rounding down;   if D(n) = 0, D(e) = e
    c(e) = e + ⌊D(e) · (2^24 − n) / D(n)⌋

An encoder needs c at two edges only, so F at four: those of the block and those of the child.

In C, with >> and / that round down, and numbers of 64 bits throughout:

    F(x):  if (x <= 0) return 0;   if (x >= K) return 1 << 44;
           for (m = sum = 0; m < M; m++) {
               z = ((((2*x - K) << f) - mean[m]) * inverse[m] >> (f + bits - 12)) + (24 << 12);
               z = clamp(z, 0, (48 << 12) - 1);   i = z >> 6;
               sum += weight[m] * (T[i] + ((T[i + 1] - T[i]) * (z & 63) >> 6)); }
           return sum;
    c(e):  x = min(low + e*size, end);   e = min(e, n);   lo = F(low);   D = F(x) - lo;   all = F(end) - lo;
           if (all >> 38) D >>= 6, all >>= 6;   if (all == 0) D = e, all = n;
           return e + D * ((1 << 24) - n) / all;
    symbol of K = 256:   size = 16; low = 0; end = 256; n = 16;   d1 = the e with c(e) <= slot < c(e + 1);   pop it;
                         size = 1; low = 16*d1; end = low + 16;   d2 likewise;   the symbol is 16*d1 + d2
    in general:          size = place * 16^(later stages);   n = ceil((end - low) / size), at most 16
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ardm.ans import EXP, GRID, RANGE, TOTAL, Ints, intervals, widths
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

    def interval(self, stage: int, prefix: Ints, digit: Ints) -> tuple[Ints, Ints]:
        """Start and width of the digits (N,) of a stage, (N,) each: what `table` gives them, for encoders."""


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

    def interval(self, stage: int, prefix: Ints, digit: Ints) -> tuple[Ints, Ints]:
        """Start and width (N,) of the digits, from the table."""
        return intervals(self.table(stage, prefix), digit)


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

    def interval(self, stage: int, prefix: Ints, digit: Ints) -> tuple[Ints, Ints]:
        """Start and width (N,) of the digits, from the table."""
        return intervals(self.table(stage, prefix), digit)


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
        radix, out = self.radices[stage], np.empty((len(prefix), self.radices[stage]), dtype=np.int64)
        for rows in _blocks(len(out)):
            every = np.broadcast_to(np.arange(radix + 1), (len(prefix[rows]), radix + 1))
            np.subtract(*self._borders(rows, stage, prefix[rows], every), out=out[rows])
        return out

    def interval(self, stage: int, prefix: Ints, digit: Ints) -> tuple[Ints, Ints]:
        """Start and width (N,) of the digits; a width is 0 where no value follows."""
        start, width = np.empty_like(prefix), np.empty_like(prefix)
        for rows in _blocks(len(prefix)):
            ends, starts = self._borders(rows, stage, prefix[rows], np.stack([digit[rows], digit[rows] + 1], axis=1))
            start[rows], width[rows] = starts[:, 0], (ends - starts)[:, 0]
        return start, width

    def _borders(self, rows: slice, stage: int, prefix: Ints, child: Ints) -> tuple[Ints, Ints]:
        """c at the edges (n, e) before some children of a stage: all but the first, and all but the last."""
        size = RADIX ** (len(self.radices) - 1 - stage) * self.place[rows]
        low = self.value[rows] + prefix * (self.radices[stage] * size)
        end = np.minimum(self.value[rows] + self.place[rows] * self.base, self.classes)
        end = np.minimum(low + self.radices[stage] * size, end)[:, None]
        low, size = np.minimum(low[:, None], end), size[:, None]
        n = -((low - end) // size)
        cdf = self._cdf(rows, np.concatenate([low, end, np.minimum(low + child * size, end)], axis=1))
        borders = cumulative(cdf[:, 2:] - cdf[:, :1], cdf[:, 1:2] - cdf[:, :1], np.minimum(child, n), n)
        return borders[:, 1:], borders[:, :-1]

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


def cumulative(apart: Ints, whole: Ints, child: Ints, count: Ints) -> Ints:
    """c(e) of edges: apart = F(x_e) − F(x_0), whole = F(x_n) − F(x_0), child = e ≤ n, count = n; of shapes that fit."""
    shift = 6 * (whole >> 38 > 0)
    share, norm = apart >> shift, whole >> shift
    share, norm = np.where(norm, share, child), np.where(norm, norm, np.maximum(count, 1))
    return child + share * (TOTAL - count) // norm  # ≤ 2^62


def mixture_weights(logits: Ints) -> Ints:
    """Logits (N, M) in 32nds of a nat to weights that sum to 2^14; the first of the largest takes the remainder."""
    mass = _below(logits)
    weight = (mass << WEIGHT) // mass.sum(axis=1, keepdims=True)
    largest = weight.argmax(axis=1)
    weight[np.arange(len(weight)), largest] += (1 << WEIGHT) - weight.sum(axis=1)
    return weight
