"""Operations on the places of a map: sums, convolutions, changes of size, and reading a map at the sites asked.

    box(a)              sums over squares of odd side                                       map → map
    conv(a)             clamp ⌊(Σ_p,i,j a_p(y + i · step − top, x + j · step − left) · W + bias) / 2^shift⌋     map → map
    pool(a)             ⌊(m · sum over 2 × 2 + 2) / 4⌋,  m = 4 / the number of places of the square inside the map
    grow(a, like)       a at (⌊y h / H⌋, ⌊x w / W⌋); H × W is the size of `like`, h × w that of a
    window(a)           the cells around a site, row by row, `step` apart, plane after plane             map → rows
    at(a)               the planes at a site                                                map → rows
    pick(a)             the column of the site's channel                                    rows (N, C) → (N, 1)

Outside an item, maps are 0.
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
    expect_map,
    expect_rows,
    integer,
    largest,
    matrix_bound,
    unlimited,
    with_zero,
)
from ardm.exact.operations.operation import Operation, clamp, shifted
from ardm.exact.program import Op, Program

# --- maps -------------------------------------------------------------------------------------------------------------


def _box_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    side = integer(op, "side", 1, 255)
    expect(op, side % 2 == 1, "takes squares of odd side")
    lo, hi = with_zero(given[0])
    return Bound.of(unlimited(lo) * side**2, unlimited(hi) * side**2, "map")


def _box(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    half = op.integers["side"] // 2
    out = np.zeros_like(given[0])
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            out += shifted(given[0], dy, dx)
    return out


def kernel_offsets(op: Op) -> list[tuple[int, int]]:
    """The offsets (dy, dx) of a kernel, row by row."""
    n = op.integers
    return [(i * n["step"] - n["top"], j * n["step"] - n["left"]) for i in range(n["tall"]) for j in range(n["wide"])]


def _conv_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    tall, wide, step = integer(op, "tall", 1, 255), integer(op, "wide", 1, 255), integer(op, "step", 1, 1 << 16)
    integer(op, "top", 0, (tall - 1) * step)
    integer(op, "left", 0, (wide - 1) * step)
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    expect(op, shift.shape == bias.shape and bool(((shift >= 0) & (shift <= 40)).all()), "must shift by 0 to 40 bits")
    lo, hi = with_zero(given[0]) if tall * wide > 1 else (given[0].lo, given[0].hi)
    count_planes(given[0].planes * tall * wide)
    read = Bound.of(np.repeat(lo, tall * wide), np.repeat(hi, tall * wide), "map")
    lo, hi, peak = matrix_bound(op, weight, bias, read)
    return clamped(op, lo >> shift, hi >> shift, "map", max(peak, read.peak))


def _conv(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    a = given[0]
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    each = weight.reshape(a.shape[1], -1, len(bias))  # the cells of a plane's kernel one after the other
    total = np.zeros((len(a), *a.shape[2:], len(bias)), dtype=np.int64)
    for t, (dy, dx) in enumerate(kernel_offsets(op)):
        total += np.moveaxis(shifted(a, dy, dx), 1, 3) @ each[:, t]
    return clamp(op, np.moveaxis(total + bias >> shift, 3, 1))


def _pool_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    return Bound.of(given[0].lo, given[0].hi, "map", 4 * largest(given[0]) + 2)


def _pool(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    def sums(a: Ints) -> Ints:
        H, W = a.shape[2:]
        a = np.pad(a, ((0, 0), (0, 0), (0, H % 2), (0, W % 2)))
        return a[:, :, ::2, ::2] + a[:, :, 1::2, ::2] + a[:, :, ::2, 1::2] + a[:, :, 1::2, 1::2]

    inside = sums(np.ones_like(given[0][:1, :1]))
    return sums(given[0]) * (4 // inside) + 2 >> 2


def _grow_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, like = given
    expect_map(op, a)
    expect_map(op, like)
    return Bound.of(a.lo, a.hi, "map", largest(a, like))


def _grow(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    a, like = given
    (h, w), (H, W) = a.shape[2:], like.shape[2:]
    return a[:, :, (np.arange(H) * h // H)[:, None], np.arange(W) * w // W]


# --- at the sites asked -----------------------------------------------------------------------------------------------


def window_offsets(op: Op) -> list[tuple[int, int]]:
    """The offsets (dy, dx) of a window, row by row."""
    reach, step = op.integers["radius"] * op.integers["step"], op.integers["step"]
    axis = range(-reach, reach + 1, step)
    return [(dy, dx) for dy in axis for dx in axis]


def _window_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    radius, _ = integer(op, "radius", 0, 32), integer(op, "step", 1, 255)
    count = (2 * radius + 1) ** 2
    count_planes(given[0].planes * count)
    lo, hi = with_zero(given[0])
    return Bound.of(np.repeat(lo, count), np.repeat(hi, count), "rows")


def _window(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    H, W = given[0].shape[2:]
    out = []
    for dy, dx in window_offsets(op):
        y, x = sites.y + dy, sites.x + dx
        inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
        cell = given[0][sites.batch_index, :, np.clip(y, 0, H - 1), np.clip(x, 0, W - 1)]
        out.append(np.where(inside[:, None], cell, 0))
    return np.stack(out, axis=2).reshape(len(sites), -1)


def _at_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    return Bound.of(given[0].lo, given[0].hi, "rows")


def _at(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return given[0][sites.batch_index, :, sites.y, sites.x]


def _pick_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_rows(op, given[0])
    expect(op, given[0].planes == program.channels, "needs one column for each channel of an item")
    return Bound.of(given[0].lo.min(keepdims=True), given[0].hi.max(keepdims=True), "rows")


def _pick(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    return np.take_along_axis(given[0], sites.channel[:, None], axis=1)


SPATIAL = {
    "box": Operation(_box_bound, _box),
    "conv": Operation(_conv_bound, _conv),
    "pool": Operation(_pool_bound, _pool),
    "grow": Operation(_grow_bound, _grow),
    "window": Operation(_window_bound, _window),
    "at": Operation(_at_bound, _at),
    "pick": Operation(_pick_bound, _pick),
}
