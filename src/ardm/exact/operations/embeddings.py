"""Operations that read rows of tables.

known(value, depth) the value that the known digits stand for, K where none is known          maps
embed(a)            plane c · E + e is T[a_c, e]                                      maps, rows or places
count(a)            T[Σ a over an item], a map of one place, by rows of a table (R, P)
channel(a)          a + T[channel of the site], a table (C, P)                                rows
"""

from __future__ import annotations

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import (
    Bound,
    count_planes,
    expect,
    expect_map,
    expect_rows,
    largest,
    places,
    unlimited,
)
from ardm.exact.operations.operation import Operation
from ardm.exact.program import Op, Program


def block_sizes(program: Program) -> Ints:
    """(S + 1,): how many values a site may still have, by the number of its known digits."""
    return np.array([program.base**d for d in range(program.digits, -1, -1)], dtype=np.int64)


def _known_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    value, depth = given
    K, C = program.classes, program.channels
    good = value.planes == depth.planes == C and value.kind == depth.kind == "map"
    good = good and largest(value) < K and int(depth.lo.min()) >= 0 and int(depth.hi.max()) <= program.digits
    expect(op, good, "takes the two maps that a program begins with")
    return Bound.of([0] * C, [K] * C, "map", K + int(block_sizes(program)[0]))


def _known(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    """The last block may be cut short at K: there `value` is the first value of the block itself."""
    value, depth = given
    K, block = program.classes, block_sizes(program)[given[1]]
    whole = value + block <= K
    return np.where(depth > 0, np.where(whole, value + K - block >> 1, value), K)


def _embed_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    table = program.tensor(op, "table")
    expect(op, table.ndim == 2 and 0 < len(table) <= 1 << 24, "has no table of 1 to 2^24 rows")
    planes = given[0].planes
    count_planes(planes * table.shape[1])
    return Bound.of(np.tile(table.min(0), planes), np.tile(table.max(0), planes), given[0].kind, largest(given[0]))


def _embed(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    rows = table[np.clip(given[0], 0, len(table) - 1)]  # (B, P, H, W, E), or (N, P, E)
    if rows.ndim == 3:
        return rows.reshape(len(rows), -1)
    B, P, H, W, E = rows.shape
    return np.moveaxis(rows, 4, 2).reshape(B, P * E, H, W)


def _count_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    table = program.tensor(op, "table")
    expect(op, table.ndim == 2 and 0 < len(table) <= 1 << 20, "has no table of 1 to 2^20 rows")
    total = int(unlimited(given[0].size).sum()) * places(program, op)
    return Bound.of(table.min(0), table.max(0), "map", total)


def _count(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    rows: Ints = table[np.clip(given[0].sum((1, 2, 3)), 0, len(table) - 1)]
    return rows[:, :, None, None]


def _channel_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_rows(op, given[0])
    table = program.tensor(op, "table")
    expect(op, table.shape == (program.channels, given[0].planes), "does not have one row for each channel")
    peak = largest(given[0]) + int(np.abs(table).max())
    return Bound.of(unlimited(given[0].lo) + table.min(0), unlimited(given[0].hi) + table.max(0), "rows", peak)


def _channel(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0] + program.tensor(op, "table")[sites.channel]


EMBEDDINGS = {
    "known": Operation(_known_bound, _known),
    "embed": Operation(_embed_bound, _embed),
    "count": Operation(_count_bound, _count),
    "channel": Operation(_channel_bound, _channel),
}
