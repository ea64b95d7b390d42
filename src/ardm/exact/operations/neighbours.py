"""Operations on the known values around a site.

    nearby(w, …)        mean of the known values around a site, the nearest weighing most             rows or places
    contrast(w, m)      a window minus the mean of each channel                                       rows or places
    centre(near, …)     mean of the known values around every place                                   maps
    spread(m, near, …)  their standard deviation around every place                                   maps

nearby and contrast read windows of `value · depth` and `depth` (2 C planes).  With v and k their cells, and w the weights
of the cells,

    nearby:    m = clamp ⌊(2^fraction Σ 2^rise w v + ⌊Σ 2^rise w k / 2⌋) / Σ 2^rise w k⌋ to ±limit,   0 if nothing is known
    contrast:  v' = clamp ⌊(2^fraction v − m k + ⌊2^by / 2⌋) / 2^by⌋ to ±limit,   k' = 2^known · k

centre and spread read maps of 3 C planes (depth k, values · k, squares of values · k) summed over boxes, with one weight
w for each map,

    W = prior + Σ w k,   F = Σ w v,   Q = Σ w s
    centre = clamp ⌊(2^fraction · F + ⌊W / 2⌋) / W⌋
    spread = clamp ⌊√(4^rise · max(0, ⌊(2^fine · Q + extra) / W⌋ − ⌊centre² / 2^coarse⌋) + floor)⌋
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import (
    INNER,
    Bound,
    clamped,
    expect,
    expect_map,
    expect_row_wise,
    integer,
    largest,
    unlimited,
)
from ardm.exact.operations.operation import Operation, clamp, isqrt
from ardm.exact.program import Op, Program

# --- around the sites asked -------------------------------------------------------------------------------------------


def _nearby_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    limit, fraction, peak = integer(op, "limit", 0, 1 << 40), integer(op, "fraction", 0, 16), 0
    C, kind = program.channels, expect_row_wise(op, *given)
    for i, window in enumerate(given):
        weight, rise = program.tensor(op, f"weight{i}"), integer(op, f"rise{i}", 0, 40)
        expect(op, weight.ndim == 1, "does not have one weight for each cell")
        expect(
            op, weight.min() >= 0 and window.planes == 2 * C * len(weight), "has weights that do not fit its windows"
        )
        sums = (unlimited(window.size).reshape(2 * C, len(weight)) * unlimited(weight)).sum(1)
        peak += int(sums.max()) << rise + fraction
    return Bound.of([-limit] * C, [limit] * C, kind, 2 * peak)


def _halves(window: Ints, channels: int) -> tuple[Ints, Ints]:
    """A window (N, 2C · cells) as values and depths, each (N, C, cells)."""
    each = window.reshape(len(window), 2 * channels, -1)
    return each[:, :channels], each[:, channels:]


def _nearby(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    value = np.zeros((len(given[0]), program.channels), dtype=np.int64)
    known = np.zeros_like(value)
    for i, window in enumerate(given):
        weight = program.tensor(op, f"weight{i}") << op.integers[f"rise{i}"]
        v, k = _halves(window, program.channels)
        value += v @ weight
        known += k @ weight
    mean = ((value << op.integers["fraction"]) + known // 2) // np.maximum(known, 1)
    limit = op.integers["limit"]
    return np.clip(np.where(known > 0, mean, 0), -limit, limit)


def _contrast_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    window, mean = given
    kind = expect_row_wise(op, window, mean)
    C, limit = program.channels, integer(op, "limit", 0, 1 << 40)
    expect(op, mean.planes == C and window.planes % (2 * C) == 0, "gets a window or a mean that does not fit the item")
    by, known = integer(op, "by", 0, 40), integer(op, "known", 0, 16)
    size = unlimited(window.size).reshape(2 * C, -1)
    peak = int(((size[:C] << integer(op, "fraction", 0, 16)) + size[C:] * mean.size[:, None]).max()) + (1 << by)
    lo, hi = unlimited(window.lo).reshape(2 * C, -1), unlimited(window.hi).reshape(2 * C, -1)
    lo[:C], hi[:C] = -limit, limit
    lo[C:] <<= known
    hi[C:] <<= known
    return Bound.of(lo.reshape(-1), hi.reshape(-1), kind, peak)


def _contrast(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    n, by, limit = op.integers, op.integers["by"], op.integers["limit"]
    v, k = _halves(given[0], program.channels)
    v = (v << n["fraction"]) - given[1][:, :, None] * k + ((1 << by) >> 1) >> by
    return np.concatenate([np.clip(v, -limit, limit), k << n["known"]], axis=1).reshape(len(given[0]), -1)


# --- around every place -----------------------------------------------------------------------------------------------


def _largest_sums(program: Program, op: Op, near: list[Bound]) -> list[int]:
    """The largest |W|, |F| and |Q|."""
    weight, prior = program.tensor(op, "weight"), integer(op, "prior", 1, 1 << 50)
    C = program.channels
    expect(
        op, bool(near) and weight.shape == (len(near),) and weight.min() >= 0, "does not have one weight for each map"
    )
    sums = [0, 0, 0]
    for w, a in zip(weight, near, strict=True):
        expect_map(op, a)
        expect(op, a.planes == 3 * C and int(a.lo[:C].min()) >= 0, "is not given depths, values and squares")
        sums = [s + int(w) * int(size.max()) for s, size in zip(sums, a.size.reshape(3, C), strict=True)]
    return [sums[0] + prior, *sums[1:]]


def _centre_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    W, F, _ = _largest_sums(program, op, given)
    expect(op, (F << integer(op, "fraction", 0, 16)) + W < INNER, "has sums that leave the exact range")
    ends = np.full(program.channels, F << op.integers["fraction"], dtype=object)
    return clamped(op, -ends, ends, "map", largest(*given))


def near_sums(weight: Any, prior: int, near: list[Any], channels: int) -> tuple[Any, Any, Any]:
    """W, F, Q of maps (B, 3 C, H, W) int64, in NumPy or PyTorch."""
    total = sum(int(w) * a for w, a in zip(weight, near, strict=True))
    return total[:, :channels] + prior, total[:, channels : 2 * channels], total[:, 2 * channels :]


def _centre(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    n = op.integers
    W, F, _ = near_sums(program.tensor(op, "weight"), n["prior"], given, program.channels)
    return clamp(op, ((F << n["fraction"]) + W // 2) // W)


def _spread_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    centre, *near = given
    expect_map(op, centre)
    expect(op, centre.planes == program.channels, "is not given the centre of each channel")
    _, _, Q = _largest_sums(program, op, near)
    integer(op, "coarse", 0, 52)
    rise, floor = integer(op, "rise", 0, 16), integer(op, "floor", 1, 1 << 60)
    inside = (Q << integer(op, "fine", 0, 16)) + integer(op, "extra", 0, 1 << 60)
    most = (inside // op.integers["prior"] << 2 * rise) + floor
    expect(op, max(inside, most) < INNER and largest(centre) < 1 << 31, "has sums that leave the exact range")
    lo, hi = (np.full(program.channels, math.isqrt(end), dtype=object) for end in (floor, most))
    return clamped(op, lo, hi, "map", largest(*given))


def _spread(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    n = op.integers
    centre, *near = given
    W, _, Q = near_sums(program.tensor(op, "weight"), n["prior"], near, program.channels)
    variance = ((Q << n["fine"]) + n["extra"]) // W - (centre * centre >> n["coarse"])
    return clamp(op, isqrt((np.maximum(variance, 0) << 2 * n["rise"]) + n["floor"]))


NEIGHBOURS = {
    "nearby": Operation(_nearby_bound, _nearby),
    "contrast": Operation(_contrast_bound, _contrast),
    "centre": Operation(_centre_bound, _centre),
    "spread": Operation(_spread_bound, _spread),
}
