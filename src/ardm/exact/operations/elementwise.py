"""Operations on numbers one by one, on maps, places or rows.

product(a, b)       a · b
add(a, b)           a + b
less(a, b)          a − b                       rows or places; b has one column
gate(a, b)          clamp ⌊a · b / 2^by⌋
ratio(a, b)         clamp ⌊2^by a / max(b, 1)⌋  rows or places; b has one column
log(a)              ⌊(n · octave + T[⌊2^8 x / 2^n⌋ − 2^8]) / 2^by⌋, x = max(a, 1), n = ⌊log2 x⌋    rows or places
concat(a, …)        planes one after the other
shift(a)            clamp ⌊a / 2^by⌋
table(a)            T[clamp(a − low, 0, last)]
"""

from __future__ import annotations

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import (
    Bound,
    clamped,
    count_planes,
    expect,
    expect_row_wise,
    expect_same,
    integer,
    largest,
    product_ends,
    unlimited,
)
from ardm.exact.operations.operation import Operation, clamp
from ardm.exact.program import Op, Program

STEPS = 1 << 8
"""Entries of the table of a logarithm: steps of an octave."""


def _product_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    expect_same(op, a, b)
    return Bound.of(*product_ends(a, b), a.kind)


def _product(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0] * given[1]


def _add_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    expect_same(op, a, b)
    return Bound.of(a.lo + b.lo, a.hi + b.hi, a.kind, largest(a, b))  # a sum may be smaller than its terms


def _add(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0] + given[1]


def _less_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    kind = expect_row_wise(op, a, b)
    expect(op, b.planes == 1, "subtracts one column")
    return Bound.of(a.lo - b.hi, a.hi - b.lo, kind, largest(a, b))


def _less(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0] - given[1]


def _gate_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    expect_same(op, a, b)
    by = integer(op, "by", 0, 52)
    inside = Bound.of(*product_ends(a, b), a.kind, largest(a, b))
    return clamped(op, inside.lo >> by, inside.hi >> by, a.kind, inside.peak)


def _gate(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return clamp(op, given[0] * given[1] >> op.integers["by"])


def _ratio_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    kind = expect_row_wise(op, a, b)
    expect(op, b.planes == 1, "divides by one column")
    by = integer(op, "by", 0, 16)
    lo, hi = (unlimited(end) << by for end in (a.lo, a.hi))
    peak = Bound.of(lo, hi, kind).peak
    return clamped(op, np.minimum(lo, 0).astype(np.int64), np.maximum(hi, 0).astype(np.int64), kind, peak)


def _ratio(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return clamp(op, (given[0] << op.integers["by"]) // np.maximum(given[1], 1))


def _log_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    kind, table = expect_row_wise(op, given[0]), program.tensor(op, "table")
    octave, by = integer(op, "octave", 0, (1 << 31) - 1), integer(op, "by", 0, 40)
    good = table.shape == (STEPS,) and table.min() >= 0 and table.max() < 1 << 31
    expect(op, bool(good), f"has no table of {STEPS} entries below 2^31")
    most = 53 * octave + int(table.max())
    every = np.ones(given[0].planes, dtype=np.int64)
    return Bound.of(0 * every, (most >> by) * every, kind, max(most, largest(given[0])))


def _log(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    x = np.maximum(given[0], 1)
    n = np.frexp(x.astype(np.float64))[1].astype(np.int64) - 1  # below 2^53, so float64 holds x
    rest = np.where(n > 8, x >> np.maximum(n - 8, 0), x << np.maximum(8 - n, 0)) - STEPS
    found: Ints = n * op.integers["octave"] + program.tensor(op, "table")[rest] >> op.integers["by"]
    return found


def _concat_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect(op, bool(given) and len({a.kind for a in given}) == 1, "is given values of different kinds")
    count_planes(sum(a.planes for a in given))
    return Bound.of(np.concatenate([a.lo for a in given]), np.concatenate([a.hi for a in given]), given[0].kind)


def _concat(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return np.concatenate(given, axis=1)


def _shift_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    by = integer(op, "by", 0, 52)
    return clamped(op, given[0].lo >> by, given[0].hi >> by, given[0].kind, largest(given[0]))


def _shift(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return clamp(op, given[0] >> op.integers["by"])


def _table_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    table = program.tensor(op, "table")
    expect(op, table.ndim == 1 and 0 < len(table) <= 1 << 20, "has no table of 1 to 2^20 entries")
    low = integer(op, "low", -(1 << 40), 1 << 40)
    every = np.ones(given[0].planes, dtype=np.int64)
    return Bound.of(every * table.min(), every * table.max(), given[0].kind, largest(given[0]) + abs(low))


def _table(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    found: Ints = table[np.clip(given[0] - op.integers["low"], 0, len(table) - 1)]
    return found


ELEMENTWISE = {
    "product": Operation(_product_bound, _product),
    "add": Operation(_add_bound, _add),
    "less": Operation(_less_bound, _less),
    "gate": Operation(_gate_bound, _gate),
    "ratio": Operation(_ratio_bound, _ratio),
    "log": Operation(_log_bound, _log),
    "concat": Operation(_concat_bound, _concat),
    "shift": Operation(_shift_bound, _shift),
    "table": Operation(_table_bound, _table),
}
