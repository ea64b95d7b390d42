"""Operations on numbers one by one, on maps, places or rows.

product(a, b)       a · b
add(a, b)           a + b
less(a, b)          a − b                       rows or places; b has one column
gate(a, b)          clamp ⌊a · b / 2^by⌋
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
)
from ardm.exact.operations.operation import Operation, clamp
from ardm.exact.program import Op, Program


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
    "concat": Operation(_concat_bound, _concat),
    "shift": Operation(_shift_bound, _shift),
    "table": Operation(_table_bound, _table),
}
