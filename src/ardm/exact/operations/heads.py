"""Heads, which end a program: from rows to the frequencies of the next digit.

softmax(a)          logits of the digits of each stage, S · b columns
values(a)           logits of the values, K columns, summed over the blocks that digits stand for
mixture(a, centre)  logits, means and scales of M logistics, 3 M columns, around a centre of one column
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import Bound, expect, expect_rows, integer
from ardm.exact.frequencies import IMPOSSIBLE, Blocks, Mixture, Rows, Softmax, mixture_weights
from ardm.exact.operations.operation import Operation
from ardm.exact.program import Op, Program


def _mixture_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    o, centre = given
    expect_rows(op, o)
    expect_rows(op, centre)
    M, f = integer(op, "components", 1, 64), integer(op, "fraction", 0, 16)
    rise, limit = integer(op, "rise", 0, 16), integer(op, "limit", 1, 1 << 30)
    inverse = program.tensor(op, "inverse")
    expect(op, o.planes == 3 * M and centre.planes == 1, "is not given three columns for each component")
    good = inverse.ndim == 1 and inverse.min(initial=0) >= 0 and len(inverse) % 2 == 1
    expect(op, bool(good), "has no table of inverse scales")
    furthest = limit + (program.classes << f)
    expect(op, furthest * int(inverse.max()) < 1 << 62, "places its means too far off")
    expect(op, 12 <= integer(op, "bits", 0, 48) + f <= 57, "has a unit that is too coarse, or too fine for 64 bits")
    places = program.tensor(op, "places")
    expect(op, places.shape == (M,) and np.abs(places).max() < 1 << 40, "does not have one place for each component")
    peak = (int(centre.size.max()) << rise) + int(o.size.max()) + int(np.abs(places).max())
    return Bound.of(o.lo, o.hi, "rows", max(peak, furthest))


def _softmax_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_rows(op, given[0])
    wide = program.base * program.digits if op.name == "softmax" else program.classes
    expect(op, given[0].planes == wide, f"is not given {wide} columns")
    return Bound.of(given[0].lo, given[0].hi, "rows")


def _same(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0]


HEADS = {
    "mixture": Operation(_mixture_bound, _same),
    "softmax": Operation(_softmax_bound, _same),
    "values": Operation(_softmax_bound, _same),
}


@cache
def _places(digits: int, base: int) -> Ints:
    """The number of values that a digit counts, by depth; 1 where all are known."""
    return np.array([base ** (digits - 1 - d) for d in range(digits)] + [1], dtype=np.int64)


def frequencies(program: Program, head: Op, given: list[Ints], value: Ints, depth: Ints) -> Rows:
    """The frequencies that a head makes of its inputs; value, depth (N,): the state of the sites asked."""
    o = given[0]
    S, b = program.digits, program.base
    place = _places(S, b)[depth]
    if head.name == "values":
        if S == 1:
            possible = o > IMPOSSIBLE
            return Softmax(o, possible | ~possible.any(axis=1, keepdims=True))  # something must be possible
        return Blocks(o, value, place, b)
    if head.name == "softmax":
        here = o.reshape(len(o), S, b)[np.arange(len(o)), np.minimum(depth, S - 1)]
        return Softmax(here, value[:, None] + np.arange(b) * place[:, None] < program.classes)
    return _mixture(program, head, o, given[1], value, place)


def _mixture(program: Program, head: Op, o: Ints, centre: Ints, value: Ints, place: Ints) -> Mixture:
    n, M = head.integers, head.integers["components"]
    inverse = program.tensor(head, "inverse")
    mean = (centre << n["rise"]) + o[:, M : 2 * M]
    mean += program.tensor(head, "places")
    np.minimum(np.maximum(mean, -n["limit"], out=mean), n["limit"], out=mean)
    return Mixture(
        weight=mixture_weights(o[:, :M]),
        mean=mean,
        inverse=inverse.take(o[:, 2 * M :] + len(inverse) // 2, mode="clip"),
        fraction=n["fraction"],
        bits=n["bits"],
        classes=program.classes,
        base=program.base,
        value=value,
        place=place,
    )
