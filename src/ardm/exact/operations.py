"""What each operation of a program computes: by definition, in NumPy's int64; and the bounds of what it can give.

⌊·⌋ is the floor, also of what is negative; `clamp` keeps within lo..hi.  Outside an item, maps are 0.

    product(a, b)       a · b                                         maps or rows, elementwise
    add(a, b)           a + b
    less(a, b)          a − b                                         rows; b has one column
    concat(a, …)        planes one after the other
    shift(a)            clamp ⌊a / 2^by⌋
    table(a)            T[clamp(a − low, 0, last)]
    box(a)              sums over squares of odd side                 map → map
    window(a)           the cells around a site, row by row, `step` apart, plane after plane     map → rows
    at(a)               the planes at a site                          map → rows
    pick(a)             the column of the site's channel              rows (N, C) → (N, 1)
    nearby(w, …)        mean of the known values around a site, the nearest weighing most                    rows
    contrast(w, m)      a window less the mean of each channel        rows
    linear(a)           clamp ⌊(a · W + bias) / 2^shift⌋              rows; one W, bias and shift, or one for each channel
    mixture, softmax, values: heads, which end a program              rows → frequencies (`heads`)

A window of `value · depth` and `depth` (2 C planes) is told apart by nearby and contrast: with v and k its cells, and the
weights w of the cells,

    nearby:    m = clamp ⌊(2^fraction Σ 2^rise w v + ⌊Σ 2^rise w k / 2⌋) / Σ 2^rise w k⌋ to ±limit,   0 if nothing is known
    contrast:  v' = clamp ⌊(2^fraction v − m k + ⌊2^by / 2⌋) / 2^by⌋ to ±limit,   k' = 2^known · k

Networks of other kinds add operations in `layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.program import Op, Program


@dataclass(frozen=True)
class Bound:
    """What a value can be: lo, hi (P,) of each plane; rows: whether it is rows rather than a map.

    peak: the largest absolute value that can occur inside the operation that makes it.
    """

    lo: Ints
    hi: Ints
    rows: bool
    peak: int

    @property
    def planes(self) -> int:
        """P."""
        return len(self.lo)

    @property
    def size(self) -> Ints:
        """(P,): the largest absolute values."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))


@dataclass(frozen=True)
class Operation:
    """bound(program, op, bounds of its inputs); run(program, op, its inputs, the asked sites) in int64."""

    bound: Callable[[Program, Op, list[Bound]], Bound]
    run: Callable[[Program, Op, list[Ints], AskedSites], Ints]


OPERATIONS: dict[str, Operation] = {}
"""By name."""


def operation(name: str, bound: Callable[[Program, Op, list[Bound]], Bound]) -> Callable[[Any], Any]:
    """Register the definition of an operation."""

    def register(run: Callable[[Program, Op, list[Ints], AskedSites], Ints]) -> Any:
        OPERATIONS[name] = Operation(bound, run)
        return run

    return register


MAX_PLANES, MAX_ALL = 1 << 18, 1 << 20
"""Planes of a value, and of all values of a program."""


def many(planes: int) -> int:
    """As many planes as a value may have; ArdmError for more, which is asked before they are made."""
    if planes > MAX_PLANES:
        raise ArdmError(f"an operation of a codec model makes {planes} planes; the most is {MAX_PLANES}")
    return planes


def made(lo: Any, hi: Any, rows: bool, peak: int = 0) -> Bound:
    """A bound whose peak is at least what it bounds; ArdmError for what no container holds exactly."""
    lo, hi = np.asarray(lo), np.asarray(hi)
    many(lo.size)
    peak = max([peak, *(int(abs(end)) for ends in (lo, hi) for end in (ends.min(), ends.max()))])
    if peak >= 1 << 53:
        raise ArdmError("an operation of a codec model leaves the exact range of every container")
    return Bound(lo.astype(np.int64), hi.astype(np.int64), rows, peak)


def largest(*given: Bound) -> int:
    """The largest absolute value that several values can have."""
    return max(int(a.size.max(initial=0)) for a in given)


def _wide(a: Ints) -> Any:
    """a as Python's integers, which do not overflow."""
    return a.astype(object)


def clamped(op: Op, lo: Ints, hi: Ints, rows: bool, peak: int) -> Bound:
    """A bound after clamping to the operation's lo and hi, where it has them."""
    if "lo" in op.integers:
        lo, hi = np.clip(lo, *limits(op)), np.clip(hi, *limits(op))
    return made(lo, hi, rows, peak)


def limits(op: Op) -> tuple[int, int]:
    """The lo and hi of an operation."""
    if op.integers["lo"] > op.integers["hi"]:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model clamps to an empty range")
    return op.integers["lo"], op.integers["hi"]


def clamp(op: Op, x: Ints) -> Ints:
    """x within lo..hi, where the operation has them."""
    return np.clip(x, *limits(op)) if "lo" in op.integers else x


def integer(op: Op, name: str, least: int, most: int) -> int:
    """An integer of an operation; ArdmError unless it lies in least..most."""
    n = op.integers.get(name)
    if n is None or not least <= n <= most:
        raise ArdmError(
            f"the operation {op.name} ({op.out}) of a codec model has {name} {n}; it lies in {least}..{most}"
        )
    return n


def expect(op: Op, good: bool, what: str) -> None:
    """ArdmError unless good."""
    if not good:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model {what}")


def rowwise(op: Op, a: Bound) -> None:
    """ArdmError unless the operation is given rows."""
    expect(op, a.rows, "takes rows, and is given a map")


def mapwise(op: Op, a: Bound) -> None:
    """ArdmError unless the operation is given a map."""
    expect(op, not a.rows, "takes a map, and is given rows")


# --- elementwise ------------------------------------------------------------------------------------------------------


def _same(op: Op, a: Bound, b: Bound) -> None:
    expect(op, a.rows == b.rows and a.planes == b.planes, "is given values of different shapes")


def _product_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    _same(op, a, b)
    corners = np.stack([_wide(x) * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)])
    return made(corners.min(0), corners.max(0), a.rows)


@operation("product", _product_bound)
def _product(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0] * given[1]


def _add_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    _same(op, a, b)
    return made(a.lo + b.lo, a.hi + b.hi, a.rows, largest(a, b))  # a sum may be smaller than what is added


@operation("add", _add_bound)
def _add(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0] + given[1]


def _less_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    rowwise(op, a)
    rowwise(op, b)
    expect(op, b.planes == 1, "takes one column away")
    return made(a.lo - b.hi, a.hi - b.lo, True, largest(a, b))


@operation("less", _less_bound)
def _less(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0] - given[1]


def _concat_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect(op, bool(given) and len({a.rows for a in given}) == 1, "is given rows and maps")
    many(sum(a.planes for a in given))
    return made(np.concatenate([a.lo for a in given]), np.concatenate([a.hi for a in given]), given[0].rows)


@operation("concat", _concat_bound)
def _concat(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return np.concatenate(given, axis=1)


def _shift_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    by = integer(op, "by", 0, 52)
    return clamped(op, given[0].lo >> by, given[0].hi >> by, given[0].rows, int(given[0].size.max(initial=0)))


@operation("shift", _shift_bound)
def _shift(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return clamp(op, given[0] >> op.integers["by"])


def _table_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    table = program.tensor(op, "table")
    expect(op, table.ndim == 1 and 0 < len(table) <= 1 << 20, "has no table of 1 to 2^20 entries")
    low = integer(op, "low", -(1 << 40), 1 << 40)
    every = np.ones(given[0].planes, dtype=np.int64)
    peak = int(given[0].size.max(initial=0)) + abs(low)
    return made(every * table.min(), every * table.max(), given[0].rows, peak)


@operation("table", _table_bound)
def _table(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    found: Ints = table[np.clip(given[0] - op.integers["low"], 0, len(table) - 1)]
    return found


# --- around a site ----------------------------------------------------------------------------------------------------


def _box_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    side = integer(op, "side", 1, 255)
    expect(op, side % 2 == 1, "takes squares of odd side")
    lo, hi = np.minimum(given[0].lo, 0), np.maximum(given[0].hi, 0)
    return made(_wide(lo) * side**2, _wide(hi) * side**2, False)


def shifted(a: Ints, dy: int, dx: int) -> Ints:
    """a (B, P, H, W) so that its place (y, x) holds what was at (y + dy, x + dx), 0 outside."""
    H, W = a.shape[2:]
    out = np.zeros_like(a)
    if abs(dy) >= H or abs(dx) >= W:
        return out
    y, x = slice(max(0, -dy), min(H, H - dy)), slice(max(0, -dx), min(W, W - dx))
    out[:, :, y, x] = a[:, :, y.start + dy : y.stop + dy, x.start + dx : x.stop + dx]
    return out


@operation("box", _box_bound)
def _box(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    half = op.integers["side"] // 2
    out = np.zeros_like(given[0])
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            out += shifted(given[0], dy, dx)
    return out


def cells(radius: int, step: int) -> list[tuple[int, int]]:
    """The offsets of a window, row by row."""
    axis = range(-radius * step, radius * step + 1, step)
    return [(dy, dx) for dy in axis for dx in axis]


def _window_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    count = len(cells(integer(op, "radius", 0, 32), integer(op, "step", 1, 255)))
    many(given[0].planes * count)
    lo, hi = np.minimum(given[0].lo, 0), np.maximum(given[0].hi, 0)
    return made(np.repeat(lo, count), np.repeat(hi, count), True)


@operation("window", _window_bound)
def _window(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    H, W = given[0].shape[2:]
    out = []
    for dy, dx in cells(op.integers["radius"], op.integers["step"]):
        y, x = asked.y + dy, asked.x + dx
        inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
        cell = given[0][asked.batch_index, :, np.clip(y, 0, H - 1), np.clip(x, 0, W - 1)]
        out.append(np.where(inside[:, None], cell, 0))
    return np.stack(out, axis=2).reshape(len(asked), -1)


def _at_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    return made(given[0].lo, given[0].hi, True)


@operation("at", _at_bound)
def _at(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0][asked.batch_index, :, asked.y, asked.x]


def _pick_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    rowwise(op, given[0])
    expect(op, given[0].planes == program.channels, "picks from as many columns as an item has channels")
    return made(given[0].lo.min(keepdims=True), given[0].hi.max(keepdims=True), True)


@operation("pick", _pick_bound)
def _pick(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return np.take_along_axis(given[0], asked.channel[:, None], axis=1)


def _nearby_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    limit, fraction, peak = integer(op, "limit", 0, 1 << 40), integer(op, "fraction", 0, 16), 0
    C = program.channels
    for i, window in enumerate(given):
        rowwise(op, window)
        weight, rise = program.tensor(op, f"weight{i}"), integer(op, f"rise{i}", 0, 40)
        expect(op, weight.min() >= 0 and window.planes == 2 * C * len(weight), "weighs other windows than it is given")
        sums = (_wide(window.size).reshape(2 * C, len(weight)) * _wide(weight)).sum(1)
        peak += int(sums.max()) << rise + fraction
    return made([-limit] * C, [limit] * C, True, 2 * peak)


def halves(window: Ints, channels: int) -> tuple[Ints, Ints]:
    """A window (N, 2C · cells) as values and knowledge, each (N, C, cells)."""
    each = window.reshape(len(window), 2 * channels, -1)
    return each[:, :channels], each[:, channels:]


@operation("nearby", _nearby_bound)
def _nearby(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    value = np.zeros((len(asked), program.channels), dtype=np.int64)
    known = np.zeros_like(value)
    for i, window in enumerate(given):
        weight = program.tensor(op, f"weight{i}") << op.integers[f"rise{i}"]
        v, k = halves(window, program.channels)
        value += v @ weight
        known += k @ weight
    mean = ((value << op.integers["fraction"]) + known // 2) // np.maximum(known, 1)
    limit = op.integers["limit"]
    return np.clip(np.where(known > 0, mean, 0), -limit, limit)


def _contrast_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    window, mean = given
    rowwise(op, window)
    rowwise(op, mean)
    C, limit = program.channels, integer(op, "limit", 0, 1 << 40)
    expect(op, mean.planes == C and window.planes % (2 * C) == 0, "is given another window or mean than an item's")
    by, known = integer(op, "by", 0, 40), integer(op, "known", 0, 16)
    size = _wide(window.size).reshape(2 * C, -1)
    peak = int(((size[:C] << integer(op, "fraction", 0, 16)) + size[C:] * mean.size[:, None]).max()) + (1 << by)
    lo, hi = _wide(window.lo).reshape(2 * C, -1), _wide(window.hi).reshape(2 * C, -1)
    lo[:C], hi[:C] = -limit, limit
    lo[C:] <<= known
    hi[C:] <<= known
    return made(lo.reshape(-1), hi.reshape(-1), True, peak)


@operation("contrast", _contrast_bound)
def _contrast(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    n, by, limit = op.integers, op.integers["by"], op.integers["limit"]
    v, k = halves(given[0], program.channels)
    v = (v << n["fraction"]) - given[1][:, :, None] * k + ((1 << by) >> 1) >> by
    return np.concatenate([np.clip(v, -limit, limit), k << n["known"]], axis=1).reshape(len(asked), -1)


# --- linear -----------------------------------------------------------------------------------------------------------


def products(op: Op, weight: Ints, bias: Ints, given: Bound) -> tuple[Ints, Ints, int]:
    """Bounds of a · W + bias over all inputs: lo, hi (O,), and of every partial sum in any order."""
    expect(op, weight.ndim == 2 and weight.shape[0] == given.planes and bias.shape == weight.shape[1:], "does not fit")
    w, plus = weight.astype(np.float64), np.maximum(weight, 0).astype(np.float64)
    minus = w - plus  # exact: every number here stays below 2^53, or the certificate fails
    lo = given.lo @ plus + given.hi @ minus + bias
    hi = given.hi @ plus + given.lo @ minus + bias
    peak = (given.size @ np.abs(w) + np.abs(bias)).max(initial=0)
    expect(op, bool(peak < 1 << 53), "leaves the exact range of every container")
    return lo.astype(np.int64), hi.astype(np.int64), int(peak)


def _linear_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    rowwise(op, given[0])
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    expect(op, weight.ndim in (2, 3) and shift.shape == bias.shape, "does not fit")
    expect(op, weight.ndim == 2 or len(weight) == len(bias) == program.channels, "has not one matrix for each channel")
    expect(op, shift.min(initial=0) >= 0 and shift.max(initial=0) <= 40, "shifts by 0 to 40 bits")
    each = [(weight, bias, shift)] if weight.ndim == 2 else list(zip(weight, bias, shift, strict=True))
    bounds = [(*products(op, w, b, given[0]), s) for w, b, s in each]
    lo = np.min([lo >> s for lo, _, _, s in bounds], axis=0)
    hi = np.max([hi >> s for _, hi, _, s in bounds], axis=0)
    return clamped(op, lo, hi, True, max(peak for _, _, peak, _ in bounds))


@operation("linear", _linear_bound)
def _linear(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    if weight.ndim == 2:
        return clamp(op, given[0] @ weight + bias >> shift)
    out = np.empty((len(asked), weight.shape[2]), dtype=np.int64)
    for c in range(len(weight)):
        mine = asked.channel == c
        out[mine] = given[0][mine] @ weight[c] + bias[c] >> shift[c]
    return clamp(op, out)


# --- heads ------------------------------------------------------------------------------------------------------------


def _mixture_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    o, centre = given
    rowwise(op, o)
    rowwise(op, centre)
    M, f = integer(op, "components", 1, 64), integer(op, "fraction", 0, 16)
    rise, limit = integer(op, "rise", 0, 16), integer(op, "limit", 1, 1 << 30)
    inverse = program.tensor(op, "inverse")
    expect(op, o.planes == 3 * M and centre.planes == 1, "is not given three columns for each component")
    expect(
        op,
        inverse.ndim == 1 and inverse.min(initial=0) >= 0 and len(inverse) % 2 == 1,
        "has no table of inverse scales",
    )
    furthest = limit + (program.classes << f)
    expect(op, furthest * int(inverse.max()) < 1 << 62, "places its means too far off")
    expect(op, integer(op, "bits", 0, 48) + f >= 12, "has too coarse a unit")
    places = program.tensor(op, "places")
    expect(op, places.shape == (M,) and np.abs(places).max() < 1 << 40, "has not one place for each component")
    peak = (int(centre.size.max()) << rise) + int(o.size.max()) + int(np.abs(places).max())
    return made(o.lo, o.hi, True, max(peak, furthest))


def _softmax_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    rowwise(op, given[0])
    wide = program.base * program.digits if op.name == "softmax" else program.classes
    expect(op, given[0].planes == wide, f"is not given {wide} columns")
    return made(given[0].lo, given[0].hi, True)


def _head(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0]


for _name, _bound in (("mixture", _mixture_bound), ("softmax", _softmax_bound), ("values", _softmax_bound)):
    operation(_name, _bound)(_head)
HEADS = ("mixture", "softmax", "values")


# --- the certificate --------------------------------------------------------------------------------------------------


def certify(program: Program) -> dict[str, Bound]:
    """What every value of a program can be, and the peak inside each operation.

    Raises ArdmError where an operation is unknown, does not fit what it is given, or can leave ±2^53.
    """
    if [i for i, op in enumerate(program.ops) if op.name in HEADS] != [len(program.ops) - 1]:
        raise ArdmError("a codec model holds a program without a head at its end, or with one before it")
    for name, tensor in program.tensors.items():
        if tensor.size and not -(1 << 53) < int(tensor.min()) <= int(tensor.max()) < 1 << 53:
            raise ArdmError(f"the tensor {name} of a codec model leaves the exact range of every container")
    bounds, planes = given(program), 0
    for op in program.ops:
        bounds[op.out] = bound(program, op, bounds)
        planes += bounds[op.out].planes
        if planes > MAX_ALL:
            raise ArdmError(f"the operations of a codec model make more than {MAX_ALL} planes in all")
    return bounds


def given(program: Program) -> dict[str, Bound]:
    """What the two maps that a program begins with can be."""
    K, C = program.classes, program.channels
    return {"value": made([1 - K] * C, [K - 1] * C, False), "depth": made([0] * C, [program.digits] * C, False)}


def bound(program: Program, op: Op, bounds: Mapping[str, Bound]) -> Bound:
    """What an operation gives, from what those before it give.  Raises ArdmError as certify."""
    if op.name not in OPERATIONS:
        raise ArdmError(f"this codec model needs the operation {op.name!r}, which this version of ardm lacks")
    expect(op, op.out not in bounds and all(name in bounds for name in op.inputs), "reads what is not there")
    try:
        return OPERATIONS[op.name].bound(program, op, [bounds[name] for name in op.inputs])
    except ArdmError:
        raise
    except (ValueError, IndexError, KeyError) as error:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model is malformed: {error}") from None


def inputs(program: Program, value: Ints, depth: Ints) -> Mapping[str, Ints]:
    """The two maps a program begins with, from what is known: value, depth (B, C, H, W)."""
    block = np.array([program.base ** (program.digits - d) for d in range(program.digits + 1)], dtype=np.int64)[depth]
    last = np.minimum(value + block, program.classes) - 1  # the last value a site may still take
    return {"value": value + last - (program.classes - 1), "depth": depth}
