"""Attention over all places of an item.

attention(q, k, v), maps, for each of `heads` heads and each place i, j running over all places, EXP from `ardm.ans`,

    s_j = ⌊Σ_d q_d(i) k_d(j) / 2^by⌋,   e_j = EXP[min(max s − s_j, 767)],   p_j = ⌊2^bits · e_j / Σ e⌋,   P = Σ p
    o_d(i) = clamp ⌊(2^rise · Σ_j p_j v_d(j) + ⌊P / 2⌋) / P⌋
"""

from __future__ import annotations

import numpy as np

from ardm.ans import EXP, Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import Bound, clamped, expect, expect_map, integer, largest, places, unlimited
from ardm.exact.operations.operation import Operation, clamp, grouped
from ardm.exact.program import Op, Program

FAR = len(EXP) - 1
"""Attention ignores scores this many steps of the logit grid below the largest."""


def _attention_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    q, k, v = given
    for a in given:
        expect_map(op, a)
    heads, n = integer(op, "heads", 1, 1 << 12), places(program, op)
    by, bits, rise = integer(op, "by", 0, 40), integer(op, "bits", 1, 22), integer(op, "rise", 0, 16)
    fits = q.planes == k.planes and q.planes % heads == 0 and v.planes % heads == 0
    expect(op, fits, "has heads of unequal size")
    expect(op, n <= 1 << bits, "has too few bits for this many places")
    score = int((unlimited(q.size) * k.size).reshape(heads, -1).sum(1).max())
    mean = (largest(v) << bits) + (1 << bits)
    Bound.of(mean << rise, mean << rise, "map")  # the dividend stays in the exact range of float64
    return clamped(op, v.lo << rise, v.hi << rise, "map", max(score, 2 * (score >> by) + 2, mean, largest(*given)))


def _attention(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    n = op.integers
    q, k, v = (grouped(a, n["heads"]) for a in given)  # (B, heads, planes, places)
    s = np.swapaxes(q, 2, 3) @ k >> n["by"]
    e = EXP[np.minimum(s.max(axis=3, keepdims=True) - s, FAR)]
    p = (e << n["bits"]) // e.sum(axis=3, keepdims=True)
    P = p.sum(axis=3)[:, :, None]
    o = ((v @ np.swapaxes(p, 2, 3) << n["rise"]) + P // 2) // P
    return clamp(op, o.reshape(given[2].shape))


ATTENTION = {"attention": Operation(_attention_bound, _attention)}
