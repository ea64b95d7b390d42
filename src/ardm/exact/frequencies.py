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

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

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
ONE = 1 << UNITY + WEIGHT
"""F at the edge K."""
_BLOCK = 1 << 12  # rows worked on at once
_ENTRIES = 1 << 16  # arguments of the sigmoid computed at once: a few arrays of them fit the cache


class Rows(Protocol):
    """The frequencies of the symbols at N sites, stage by stage."""

    @property
    def radices(self) -> tuple[int, ...]:
        """Alternatives of each stage; their product is at least b."""

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, radices[stage]), rows summing to 2^24, given the digits of the stages before it: prefix (N,)."""

    def intervals(self, symbols: Ints) -> tuple[Ints, Ints]:
        """Start and width of symbols (N,) at all stages, (stages, N) each: what `table` gives them, for encoders."""


@cache
def radices(base: int) -> tuple[int, ...]:
    """The alternatives of each stage of a symbol of `base` values; the first stage has the fewest."""
    out: list[int] = []
    while base > 1:
        out.append(min(base, RADIX))
        base = -(-base // RADIX)
    return tuple(reversed(out)) or (1,)


def _blocks(count: int, step: int = _BLOCK) -> Iterator[slice]:
    step = max(1, step)
    return (slice(a, a + step) for a in range(0, count, step))


def _below(x: Ints) -> Ints:
    """32nds of a nat below the largest of each row, to entries of the table of exponentials, whose last is 0."""
    return EXP.take(np.maximum.reduce(x, axis=1, keepdims=True) - x, mode="clip")


def _from_table(rows: Rows, symbols: Ints) -> tuple[Ints, Ints]:
    """The intervals of symbols of one stage, from its table."""
    start, width = intervals(rows.table(0, symbols), symbols)
    return start[None], width[None]


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

    def intervals(self, symbols: Ints) -> tuple[Ints, Ints]:
        """Start and width (1, N)."""
        return _from_table(self, symbols)


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

    def intervals(self, symbols: Ints) -> tuple[Ints, Ints]:
        """Start and width (1, N)."""
        return _from_table(self, symbols)


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

    @property
    def _is_whole(self) -> bool:
        """Whether a digit is a value: every site asked has all K values before it."""
        return self.base == self.classes

    def table(self, stage: int, prefix: Ints) -> Ints:
        """Widths (N, radices[stage]); 0 where no value follows."""
        radix = self.radices[stage]
        out = np.empty((len(self.weight), radix), dtype=np.int64)
        borders = self._full_borders if _is_full(self.base, self.classes) else self._any_borders
        for rows in _blocks(len(out), _ENTRIES // (self.weight.shape[1] * (radix + 1))):
            c = borders(rows, stage, prefix[rows])
            np.subtract(c[:, 1:], c[:, :-1], out=out[rows])
        return out

    def intervals(self, symbols: Ints) -> tuple[Ints, Ints]:
        """Start and width (stages, N)."""
        start = np.empty((len(self.radices), len(symbols)), dtype=np.int64)
        width = np.empty_like(start)
        for rows in _blocks(len(symbols), _ENTRIES // (self.weight.shape[1] * 2)):
            for stage, c in enumerate(self._nested(rows, symbols[rows])):
                start[stage, rows] = c[0]
                np.subtract(c[1], c[0], out=width[stage, rows])
        return start, width

    def _any_borders(self, rows: slice, stage: int, prefix: Ints) -> Ints:
        """c at the edges between all children of a stage: (n, radix + 1)."""
        low, end, size = self._block(rows, stage, prefix)
        count = -((low - end) // size)
        child = np.minimum(np.arange(self.radices[stage] + 1)[:, None], count)
        cdf = self._cdf(rows, np.concatenate([[low, end], np.minimum(low + child * size, end)]))
        c: Ints = _cumulative(cdf[2:] - cdf[0], cdf[1] - cdf[0], child, count).T
        return c

    def _full_borders(self, rows: slice, stage: int, prefix: Ints) -> Ints:
        """The same in few calls, where no block lacks children: edges are multiples of a row's `size` above `low`."""
        low, end, size = self._block(rows, stage, prefix)
        step, start, radix = self._step[rows], self._start[rows], self.radices[stage]
        if stage or not self._is_whole:
            start = start + low[:, None] * step
        if not self._is_whole:
            step, size = step * size[:, None], 1
        share = self._sigmoid(_multiples(radix, size) * step.reshape(-1), start.reshape(-1))
        share = share.reshape(radix + 1, *step.shape).transpose(1, 0, 2)
        cdf = (share @ self._share[rows, :, None])[:, :, 0].astype(np.int64)
        child = _multiples(radix, 1)[:, 0]
        if self._is_whole and not stage:
            cdf[:, 0], cdf[:, -1] = 0, ONE
            return _cumulative(cdf, ONE, child, radix)
        cdf[:, 0] *= low > 0
        cdf[:, -1][end >= self.classes] = ONE
        cdf -= cdf[:, :1].copy()
        return _cumulative(cdf, cdf[:, -1:], child, radix)

    def _nested(self, rows: slice, symbols: Ints) -> Iterator[Ints]:
        """Stage by stage, c at the two edges of a symbol's child: (2, n).  Each child is the next stage's block."""
        value, place = self.value[rows], self.place[rows]
        block, finer = np.stack([value, np.minimum(value + self.base * place, self.classes)]), math.prod(self.radices)
        outer = self._cdf(rows, block)
        for radix in self.radices:
            finer //= radix
            (low, end), size, digit = block, finer * place, symbols // finer % radix
            count = -((low - end) // size)
            child = np.minimum([digit, digit + 1], count)
            block = np.minimum(low + child * size, end)
            inner = self._cdf(rows, block)
            yield _cumulative(inner - outer[0], outer[1] - outer[0], child, count)
            outer = inner

    def _block(self, rows: slice, stage: int, prefix: Ints) -> tuple[Ints, Ints, Any]:
        """The first and last edges (n,) of the blocks that a stage splits, and the size of their children."""
        value, place = (0, 1) if self._is_whole else (self.value[rows], self.place[rows])
        size = RADIX ** (len(self.radices) - 1 - stage) * place
        reach = self.radices[stage] * size
        low = value + prefix * reach
        if _is_full(self.base, self.classes):
            return low, low + reach, size
        last = np.minimum(value + self.base * place, self.classes)
        return np.minimum(low, last), np.minimum(low + reach, last), size

    @cached_property
    def _step(self) -> Ints:
        """What z gains, before it is divided, from one value to the next: (N, M)."""
        return self.inverse << (self.fraction + 1)

    @cached_property
    def _start(self) -> Ints:
        """z at the edge 0 before it is divided, from −24 nats: (N, M)."""
        start = self.mean + (self.classes << self.fraction)
        start *= self.inverse
        return np.subtract(REACH << self.fraction + self.bits, start, out=start)

    @cached_property
    def _share(self) -> NDArray[np.float64]:
        """The weights: (N, M)."""
        return self.weight.astype(np.float64)

    def _cdf(self, rows: slice, edges: Ints) -> Ints:
        """F at edges (e, n), in units of 2^−44."""
        step, start, weight = (x[rows].T.copy()[:, None] for x in (self._step, self._start, self._share))
        share = self._sigmoid(step * edges, start)
        share *= weight
        total: Ints = np.add.reduce(share, axis=0).astype(np.int64)
        total *= edges > 0
        np.copyto(total, ONE, where=edges >= self.classes)
        return total

    def _sigmoid(self, z: Ints, start: Ints) -> NDArray[np.float64]:
        """F_m where z lies above start, before they are divided; z is changed."""
        z += start
        z >>= self.fraction + self.bits - FINE
        return _fine().take(z, mode="clip")


@cache
def _is_full(base: int, classes: int) -> bool:
    """Whether every block of every stage has as many children as its radix."""
    reach = base
    while reach < classes:
        reach *= base
    return reach == classes and math.prod(radices(base)) == base


@cache
def _multiples(radix: int, size: int) -> Ints:
    """0, size, …, radix · size as a column."""
    return np.arange(radix + 1)[:, None] * size


@cache
def _fine() -> NDArray[np.float64]:
    """F_m at every z from −24 nats on, (48 · 2^12,): integers, so sums below 2^53 are exact."""
    knot, rest = np.divmod(np.arange(2 * REACH << FINE), 1 << REST)
    fine: Ints = SIGMOID[knot] + ((SIGMOID[knot + 1] - SIGMOID[knot]) * rest >> REST)
    return fine.astype(np.float64)


def _cumulative(apart: Ints, whole: Ints | int, child: Ints, count: Ints | int) -> Ints:
    """c(e) of edges: apart = F(x_e) − F(x_0), whole = F(x_n) − F(x_0), child = e ≤ n, count = n; of shapes that fit."""
    shift = (whole >> 38 > 0) * 6
    share, norm = apart >> shift, whole >> shift
    if not isinstance(norm, int) and not norm.all():
        share, norm = np.where(norm, share, child), np.where(norm, norm, np.maximum(count, 1))
    share *= TOTAL - count  # ≤ 2^62
    share //= norm
    share += child
    return share


def mixture_weights(logits: Ints) -> Ints:
    """Logits (N, M) in 32nds of a nat to weights that sum to 2^14; the first of the largest takes the remainder."""
    weight = _below(logits) << WEIGHT
    weight //= np.add.reduce(weight, axis=1, keepdims=True) >> WEIGHT
    largest = weight.argmax(axis=1) + np.arange(0, weight.size, weight.shape[1])
    weight.reshape(-1)[largest] += (1 << WEIGHT) - np.add.reduce(weight, axis=1)
    return weight
