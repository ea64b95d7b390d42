"""Operations of sequences and tables: the items of a line, hashed contexts, columns of a table.

    line(a)     a at x = 0 … wide − 1 of the row of the site, plane after plane; 0 outside                 map → rows
    hash(a)     column k:  k · 2^bits + ⌊(h_k · SPREAD mod 2^31) / 2^(31 − bits)⌋                 rows or places
                h_k over the columns j of context k, which ends at the first −1:  h ← (h · STEP + a_j + 1) mod 2^31
    segment(a)  columns first_c … first_c + size_c − 1 of a, c = min(x of the site, columns − 1), padded to `wide`
                columns with −2^22 − 1, the logit of an impossible value                                    rows

with STEP = 0x2F0B4C47 and SPREAD = 0x5DEECE6D.
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
    expect_row_wise,
    expect_rows,
    integer,
    largest,
    with_zero,
)
from ardm.exact.frequencies import IMPOSSIBLE
from ardm.exact.operations.operation import Operation
from ardm.exact.program import Op, Program

STEP, SPREAD, MODULUS = 0x2F0B4C47, 0x5DEECE6D, 1 << 31
"""Constants of the hash."""


def _line_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    wide = integer(op, "wide", 1, 1 << 12)
    count_planes(given[0].planes * wide)
    lo, hi = with_zero(given[0])
    return Bound.of(np.repeat(lo, wide), np.repeat(hi, wide), "rows")


def _line(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    wide, planes, W = op.integers["wide"], given[0].shape[1], given[0].shape[3]
    found = np.zeros((len(sites), planes, wide), dtype=np.int64)
    found[:, :, :W] = given[0][sites.batch_index, :, sites.y, :wide]
    return found.reshape(len(sites), planes * wide)


def contexts(program: Program, op: Op) -> list[list[int]]:
    """The columns of each context."""
    return [[int(j) for j in row[: int((row < 0).argmax()) if (row < 0).any() else len(row)]]
            for row in program.tensor(op, "contexts")]  # fmt: skip


def _hash_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    kind = expect_row_wise(op, given[0])
    bits, table = integer(op, "bits", 1, 20), program.tensor(op, "contexts")
    expect(op, table.ndim == 2 and 0 < table.size <= 1 << 12 and len(table) << bits <= 1 << 24, "has no contexts")
    expect(op, bool((table < given[0].planes).all()), "reads columns that do not exist")
    expect(op, bool((given[0].lo >= 0).all()) and largest(given[0]) < 1 << 17, "must read symbols of 0 to 2^17")
    first = np.arange(len(table)) << bits
    return Bound.of(first, first + (1 << bits) - 1, kind, MODULUS)


def _hash(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    bits, found = op.integers["bits"], []
    for k, context in enumerate(contexts(program, op)):
        h = np.zeros(len(given[0]), dtype=np.int64)
        for j in context:
            h = (h * STEP + given[0][:, j] + 1) % MODULUS
        found.append((h * SPREAD % MODULUS >> 31 - bits) + (k << bits))
    return np.stack(found, axis=1)


def segments(program: Program, op: Op) -> Ints:
    """(columns, wide): which column of a is read, −1 for none."""
    first, size = program.tensor(op, "first"), program.tensor(op, "size")
    wide = np.arange(op.integers["wide"])
    return np.where(wide < size[:, None], first[:, None] + wide, -1)


def _segment_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_rows(op, given[0])
    wide = integer(op, "wide", 1, 1 << 16)
    first, size = program.tensor(op, "first"), program.tensor(op, "size")
    expect(
        op,
        first.ndim == 1 and first.shape == size.shape and len(first) > 0,
        "does not have one segment for each column",
    )
    expect(op, bool((first >= 0).all() and (size >= 1).all() and (size <= wide).all()), "has invalid segments")
    expect(op, int((first + size).max()) <= given[0].planes, "reads columns that do not exist")
    lo, hi = min(int(given[0].lo.min()), IMPOSSIBLE), max(int(given[0].hi.max()), IMPOSSIBLE)
    return Bound.of([lo] * wide, [hi] * wide, "rows")


def _segment(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    columns = segments(program, op)
    columns = columns[np.minimum(sites.x, len(columns) - 1)]
    return np.where(columns < 0, IMPOSSIBLE, np.take_along_axis(given[0], np.maximum(columns, 0), axis=1))


SEQUENCES = {
    "line": Operation(_line_bound, _line),
    "hash": Operation(_hash_bound, _hash),
    "segment": Operation(_segment_bound, _segment),
}
