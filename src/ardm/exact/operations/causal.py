"""Operations of causal programs, which are evaluated along wavefronts: what a place may know of the places before it.

A program with `wave` = s reveals the pixel (y, x) of an item after all pixels of a smaller key x + s·y.  *Places* are
rows, one for each pixel of each item: row (b · H + y) · W + x.  With `cells` (n, 2), the offsets [dy, dx],

    causal_window(a)    a at (y + dy, x + dx) for every cell, plane after plane               map → places
    causal_taps(a)      the rows of the places (y + dy, x + dx), cell after cell              places → places
    carry(z, n)         h(x) = h(x − 1) + ⌊(z(x) (n(x) − h(x − 1)) + ⌊2^by / 2⌋) / 2^by⌋, along each row from h = 0
                        before its first place; 0 ≤ z ≤ 2^by                                  places → places
    at_site(a)          the row of the place of a site                                        places → rows
    earlier(v, m)       for j < channel of the site: clamp ⌊(2^fraction v_j − m_j + ⌊2^by / 2⌋) / 2^by⌋ to ±limit;
                        0 for other j                                   map, places → rows of C columns

Outside an item everything is 0.  Every cell has a smaller key than the place itself, but for the place itself, which
causal_taps may read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import (
    Bound,
    count_planes,
    expect,
    expect_map,
    expect_places,
    expect_same,
    integer,
    unlimited,
    with_zero,
)
from ardm.exact.operations.lattice import LATTICE
from ardm.exact.operations.operation import Operation, shifted
from ardm.exact.program import Op, Program

MAX_CELLS = 1 << 10
"""The most cells of an operation."""
MAX_REACH = 1 << 12
"""The furthest that an operation looks back, in rows, in columns and in wavefronts."""

Cells = list[tuple[int, int]]
"""Offsets (dy, dx)."""


def cells_of(program: Program, op: Op) -> Cells:
    """The cells of an operation; of `carry`, the place before."""
    if op.name == "carry":
        return [(0, -1)]
    return [(dy, dx) for dy, dx in program.tensor(op, "cells").tolist()]


def _causal_cells(program: Program, op: Op, itself: bool) -> Cells:
    """The cells of an operation.  Raises ArdmError for one that comes later than the place; itself: whether it may be it."""
    expect(op, program.wave > 0, "needs a program along wavefronts")
    table = program.tensor(op, "cells")
    good = table.ndim == 2 and table.shape[1] == 2 and 0 < len(table) <= MAX_CELLS
    expect(
        op, good and int(np.abs(table).max()) <= MAX_REACH, f"does not have 1 to {MAX_CELLS} cells within {MAX_REACH}"
    )
    cells = cells_of(program, op)
    for dy, dx in cells:
        key = dx + program.wave * dy
        known = dy <= 0 and -MAX_REACH <= key < 0
        expect(op, known or (itself and dy == dx == 0), f"reads the cell ({dy}, {dx}), which is not known in time")
    return cells


def _cells_bound(a: Bound, cells: Cells, each: Callable[[Ints, int], Ints]) -> Bound:
    """The bound of a at some cells, 0 outside an item; each: repeats the bounds of the planes in the order of columns."""
    count_planes(a.planes * len(cells))
    lo, hi = (each(end, len(cells)) for end in with_zero(a))
    return Bound.of(lo, hi, "places")


def _window_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    return _cells_bound(given[0], _causal_cells(program, op, itself=False), np.repeat)


def _window(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    cells = np.stack([shifted(given[0], dy, dx) for dy, dx in cells_of(program, op)], axis=-1)  # (B, P, H, W, n)
    return np.moveaxis(cells, 1, 3).reshape(-1, cells.shape[1] * cells.shape[4])


def _taps_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_places(op, given[0])
    return _cells_bound(given[0], _causal_cells(program, op, itself=True), np.tile)


def _taps(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    H, W = sites.size
    maps = np.moveaxis(given[0].reshape(-1, H, W, given[0].shape[1]), 3, 1)
    cells = np.concatenate([shifted(maps, dy, dx) for dy, dx in cells_of(program, op)], axis=1)
    return np.moveaxis(cells, 1, 3).reshape(len(given[0]), -1)


def _carry_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    """h lies between 0 and the values of n, because each step ends between h and n: with z = 0 at h, with z = 2^by at n."""
    z, n = given
    expect(op, program.wave > 0, "needs a program along wavefronts")
    expect_places(op, z)
    expect_same(op, z, n)
    one = 1 << integer(op, "by", 1, 30)
    expect(op, int(z.lo.min()) >= 0 and int(z.hi.max()) <= one, f"takes gates of 0 to {one}")
    lo, hi = with_zero(n)
    return Bound.of(lo, hi, "places", int((unlimited(hi) - lo).max()) * one + one // 2)


def carried(op: Op, z: Ints, n: Ints, before: Ints) -> Ints:
    """`carry` over places along the second axis of z, n (N, T, P), from the states before them (N, P): (N, T, P)."""
    by, found = op.integers["by"], np.empty_like(n)
    for t in range(n.shape[1]):
        before = found[:, t] = before + (z[:, t] * (n[:, t] - before) + (1 << by - 1) >> by)
    return found


def _carry(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    z, n = (a.reshape(-1, sites.size[1], a.shape[1]) for a in given)
    return carried(op, z, n, np.zeros_like(n[:, 0])).reshape(given[1].shape)


def _at_site_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_places(op, given[0])
    return Bound.of(given[0].lo, given[0].hi, "rows")


def _at_site(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    H, W = sites.size
    return given[0][(sites.batch_index * H + sites.y) * W + sites.x]


def _earlier_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    value, mean = given
    expect_map(op, value)
    expect_places(op, mean)
    C, limit = program.channels, integer(op, "limit", 0, 1 << 40)
    expect(op, value.planes == mean.planes == C, "is not given a value and a mean of each channel")
    fraction, by = integer(op, "fraction", 0, 16), integer(op, "by", 0, 40)
    peak = int(((unlimited(value.size) << fraction) + mean.size).max()) + (1 << by)
    return Bound.of([-limit] * C, [limit] * C, "rows", peak)


def deviations(op: Op, value: Ints, mean: Ints, channel: Ints) -> Ints:
    """`earlier` of the values and means (N, C) at sites of these channels (N,)."""
    n, by, limit = op.integers, op.integers["by"], op.integers["limit"]
    apart = (value << n["fraction"]) - mean + ((1 << by) >> 1) >> by
    return np.where(np.arange(value.shape[1]) < channel[:, None], np.clip(apart, -limit, limit), 0)


def _earlier(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    value = given[0][sites.batch_index, :, sites.y, sites.x]
    return deviations(op, value, _at_site(program, op, given[1:], sites), sites.channel)


CAUSAL = {
    "causal_window": Operation(_window_bound, _window),
    "causal_taps": Operation(_taps_bound, _taps),
    "carry": Operation(_carry_bound, _carry),
    "at_site": Operation(_at_site_bound, _at_site),
    "earlier": Operation(_earlier_bound, _earlier),
    **LATTICE,
}
PLACED = ("causal_window", "causal_taps", "carry", "at_site", "lattice")
"""The operations that read places."""
POINTWISE = ("concat", "product", "add", "gate", "shift", "table", "known", "embed")
"""The operations that make a map of a causal program: each place of the result depends on that place alone."""
