"""Norms.

norm(a), over the N numbers x of a group of planes (`each` = 1: at one place; 0: at all places of the item), maps or rows,

    S = Σ x,  Q = Σ x²;   centre = 1:  V = N Q − S²,  d = N x − S;   centre = 0:  V = N Q,  d = N x
    R = ⌊√(4^rise · V + N² · epsilon)⌋,   q = ⌊gain · 2^up / R⌋,   y = clamp ⌊(d · q + bias) / 2^by⌋

It is GroupNorm, LayerNorm (`each`) or RMSNorm (`each`, without `centre`).
"""

from __future__ import annotations

import math

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import INNER, Bound, clamped, expect, integer, largest, places, unlimited
from ardm.exact.operations.operation import Operation, clamp, grouped, isqrt
from ardm.exact.program import Op, Program


def _norm_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    """|d| · gain / R ≤ (√N + 1/√N) · gain / 2^rise, for Σ d² ≤ N V, and R ≥ N because epsilon ≥ 1."""
    a = given[0]
    G, each, centred = integer(op, "groups", 1, 1 << 16), integer(op, "each", 0, 1), integer(op, "centre", 0, 1)
    up, rise, by = integer(op, "up", 0, 52), integer(op, "rise", 0, 16), integer(op, "by", 0, 52)
    gain, bias = program.tensor(op, "gain"), program.tensor(op, "bias")
    expect(op, a.planes % G == 0 and gain.shape == bias.shape == (a.planes,), "does not fit")
    N = a.planes // G * (1 if each or a.kind != "map" else places(program, op))
    size = largest(a)
    statistics = ((N * size) ** 2 << 2 * rise) + N * N * integer(op, "epsilon", 1, 1 << 40)
    expect(op, statistics < INNER, "has statistics that leave the exact range")
    far = N * (int(a.hi.max()) - int(a.lo.min()) if centred else size)
    # the floor of a negative q is one more
    most = ((math.isqrt(N) + 2) * np.abs(unlimited(gain)) << up >> rise) + 1 + far
    peak = max(int((most + np.abs(bias)).max()), int(np.abs(unlimited(gain)).max()) << up, N * size, far)
    inside = Bound.of(bias - most, bias + most, a.kind, peak)
    return clamped(op, inside.lo >> by, inside.hi >> by, a.kind, peak)


def _norm(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    n = op.integers
    x = grouped(given[0], n["groups"])
    axes = (2,) if n["each"] else (2, 3)
    N = int(np.prod([x.shape[axis] for axis in axes]))
    total, square = x.sum(axes, keepdims=True), (x * x).sum(axes, keepdims=True)
    V, d = N * square, N * x
    if n["centre"]:
        V, d = V - total * total, d - total
    R = isqrt((V << 2 * n["rise"]) + N * N * n["epsilon"])
    gain, bias = (program.tensor(op, role).reshape(1, n["groups"], -1, 1) for role in ("gain", "bias"))
    y = d * ((gain << n["up"]) // R) + bias >> n["by"]
    return clamp(op, y.reshape(given[0].shape))


NORM = {"norm": Operation(_norm_bound, _norm)}
