"""Operations of networks other than windows: convolutions, norms, attention, embeddings, and what is known nearby.

⌊·⌋ is the floor, also of what is negative; `clamp` keeps within lo..hi, where the operation has them.  Outside an item
maps are 0.  n is the number of places of a map, H · W.

    conv(a)             clamp ⌊(Σ_p,i,j a_p(y + i · step − top, x + j · step − left) · W + bias) / 2^shift⌋      map → map
    pool(a)             ⌊(m · sum over 2 × 2 + 2) / 4⌋,  m = 4 / the number of places of the square inside the map
    grow(a, like)       a at (⌊y h / H⌋, ⌊x w / W⌋), H × W being the size of `like` and h × w that of a
    gate(a, b)          clamp ⌊a · b / 2^by⌋                                       maps or rows, elementwise
    norm(a)             GroupNorm, LayerNorm, RMSNorm: below                        maps or rows
    attention(q, k, v)  every place looks at every place: below                    maps
    rotary(a)           pairs of planes turned by an angle of the place: below     map
    known(value, depth) the value that the known digits say, K where none is known  maps
    embed(a)            plane c · E + e is T[a_c, e]                                maps or rows
    position(a)         a + T, a table (P, H · W)                                   map
    count(a)            T[Σ a over an item], a map of one place, by rows of a table (R, P)
    channel(a)          a + T[channel of the site], a table (C, P)                  rows
    centre(near, …)     mean of what is known around every place: below            maps
    spread(m, near, …)  and its standard deviation                                  maps

norm, over the N numbers x of a group of planes (`each` = 1: at one place; 0: at all places of the item),

    S = Σ x,  Q = Σ x²;   centre = 1:  V = N Q − S²,  d = N x − S;   centre = 0:  V = N Q,  d = N x
    R = ⌊√(4^rise · V + N² · epsilon)⌋,   q = ⌊gain · 2^up / R⌋,   y = clamp ⌊(d · q + bias) / 2^by⌋

attention, for each of `heads` heads and each place i, j running over all places, EXP being the table of `ardm.ans`,

    s_j = ⌊Σ_d q_d(i) k_d(j) / 2^by⌋,   e_j = EXP[min(max s − s_j, 767)],   p_j = ⌊2^bits · e_j / Σ e⌋,   P = Σ p
    o_d(i) = clamp ⌊(2^rise · Σ_j p_j v_d(j) + ⌊P / 2⌋) / P⌋

rotary, the planes of each head being two halves a, b that are turned plane by plane, with tables (planes of a half, n)

    a' = clamp ⌊(a cos − b sin + half) / 2^by⌋,   b' = clamp ⌊(a sin + b cos + half) / 2^by⌋,   half = ⌊2^by / 2⌋

centre and spread, given maps of 3 C planes (knowledge k, values · k, squares of values · k) summed over boxes, with one
weight w for each map,

    W = prior + Σ w k,   F = Σ w v,   Q = Σ w s
    centre = clamp ⌊(2^fraction · F + ⌊W / 2⌋) / W⌋
    spread = clamp ⌊√(4^rise · max(0, ⌊(2^fine · Q + extra) / W⌋ − ⌊centre² / 2^coarse⌋) + floor)⌋
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ardm.ans import EXP, Ints
from ardm.exact.ask import AskedSites
from ardm.exact.operations import (
    Bound,
    clamp,
    clamped,
    expect,
    integer,
    largest,
    made,
    many,
    mapwise,
    operation,
    products,
    rowwise,
    shifted,
)
from ardm.exact.program import Op, Program

FAR = len(EXP) - 1
"""Steps of the logit grid below the largest at which attention ends."""
INNER = 1 << 62
"""What stays below it can be computed in int64, as statistics are in every container."""


def places(program: Program, op: Op) -> int:
    """The number of places of an item, where every item has the same; ArdmError where it may have any size."""
    expect(op, min(program.size) > 0, "looks at a whole item, and needs items of one size")
    return program.size[0] * program.size[1]


def isqrt(x: Ints) -> Ints:
    """⌊√x⌋ for 0 ≤ x < 2^62: the float64 root is off by one at most."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root


def _wide(a: Ints) -> Any:
    """a as Python's integers, which do not overflow."""
    return a.astype(object)


# --- places -----------------------------------------------------------------------------------------------------------


def taps(op: Op) -> list[tuple[int, int]]:
    """The offsets of a kernel, row by row."""
    n = op.integers
    return [(i * n["step"] - n["top"], j * n["step"] - n["left"]) for i in range(n["tall"]) for j in range(n["wide"])]


def _conv_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    tall, wide, step = integer(op, "tall", 1, 255), integer(op, "wide", 1, 255), integer(op, "step", 1, 1 << 16)
    integer(op, "top", 0, (tall - 1) * step)
    integer(op, "left", 0, (wide - 1) * step)
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    expect(op, shift.shape == bias.shape and bool(((shift >= 0) & (shift <= 40)).all()), "shifts by 0 to 40 bits")
    lo, hi = given[0].lo, given[0].hi
    if tall * wide > 1:  # a kernel may reach beyond the map, where there are zeros
        lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    many(given[0].planes * tall * wide)
    seen = made(np.repeat(lo, tall * wide), np.repeat(hi, tall * wide), False)
    lo, hi, peak = products(op, weight, bias, seen)
    return clamped(op, lo >> shift, hi >> shift, False, max(peak, seen.peak))


@operation("conv", _conv_bound)
def _conv(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    a = given[0]
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    each = weight.reshape(a.shape[1], -1, len(bias))  # a plane's taps one after the other
    total = np.zeros((len(a), *a.shape[2:], len(bias)), dtype=np.int64)
    for t, (dy, dx) in enumerate(taps(op)):
        total += np.moveaxis(shifted(a, dy, dx), 1, 3) @ each[:, t]
    return clamp(op, np.moveaxis(total + bias >> shift, 3, 1))


def _pool_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    return made(given[0].lo, given[0].hi, False, 4 * largest(given[0]) + 2)


@operation("pool", _pool_bound)
def _pool(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    def sums(a: Ints) -> Ints:
        H, W = a.shape[2:]
        a = np.pad(a, ((0, 0), (0, 0), (0, H % 2), (0, W % 2)))
        return a[:, :, ::2, ::2] + a[:, :, 1::2, ::2] + a[:, :, ::2, 1::2] + a[:, :, 1::2, 1::2]

    inside = sums(np.ones_like(given[0][:1, :1]))
    return sums(given[0]) * (4 // inside) + 2 >> 2


def _grow_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, like = given
    mapwise(op, a)
    mapwise(op, like)
    return made(a.lo, a.hi, False, largest(a, like))


@operation("grow", _grow_bound)
def _grow(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    a, like = given
    (h, w), (H, W) = a.shape[2:], like.shape[2:]
    return a[:, :, (np.arange(H) * h // H)[:, None], np.arange(W) * w // W]


def _gate_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a, b = given
    expect(op, a.rows == b.rows and a.planes == b.planes, "is given values of different shapes")
    by = integer(op, "by", 0, 52)
    corners = np.stack([_wide(x) * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)])
    lo, hi = corners.min(0), corners.max(0)
    inside = made(lo, hi, a.rows, largest(a, b))
    return clamped(op, inside.lo >> by, inside.hi >> by, a.rows, inside.peak)


@operation("gate", _gate_bound)
def _gate(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return clamp(op, given[0] * given[1] >> op.integers["by"])


# --- norm -------------------------------------------------------------------------------------------------------------


def _norm_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    """|d| · gain / R ≤ (√N + 1/√N) · gain / 2^rise, for Σ d² ≤ N V, and R ≥ N because epsilon ≥ 1."""
    a = given[0]
    G, each, centred = integer(op, "groups", 1, 1 << 16), integer(op, "each", 0, 1), integer(op, "centre", 0, 1)
    up, rise, by = integer(op, "up", 0, 52), integer(op, "rise", 0, 16), integer(op, "by", 0, 52)
    gain, bias = program.tensor(op, "gain"), program.tensor(op, "bias")
    expect(op, a.planes % G == 0 and gain.shape == bias.shape == (a.planes,), "does not fit")
    N = a.planes // G * (1 if each or a.rows else places(program, op))
    size = largest(a)
    statistics = ((N * size) ** 2 << 2 * rise) + N * N * integer(op, "epsilon", 1, 1 << 40)
    expect(op, statistics < INNER, "has statistics that leave the exact range")
    far = N * (int(a.hi.max()) - int(a.lo.min()) if centred else size)
    most = ((math.isqrt(N) + 2) * np.abs(_wide(gain)) << up >> rise) + 1 + far  # the floor of a negative q: one more
    peak = max(int((most + np.abs(bias)).max()), int(np.abs(_wide(gain)).max()) << up, N * size, far)
    inside = made(bias - most, bias + most, a.rows, peak)
    return clamped(op, inside.lo >> by, inside.hi >> by, a.rows, peak)


@operation("norm", _norm_bound)
def _norm(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
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


def grouped(a: Any, groups: int) -> Any:
    """Maps or rows as (B, groups, planes of a group, places); rows are maps of one place."""
    return a.reshape(len(a), groups, a.shape[1] // groups, math.prod(a.shape[2:]))


# --- attention --------------------------------------------------------------------------------------------------------


def _attention_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    q, k, v = given
    for a in given:
        mapwise(op, a)
    heads, n = integer(op, "heads", 1, 1 << 12), places(program, op)
    by, bits, rise = integer(op, "by", 0, 40), integer(op, "bits", 1, 22), integer(op, "rise", 0, 16)
    fits = q.planes == k.planes and q.planes % heads == 0 and v.planes % heads == 0
    expect(op, fits, "has heads of unequal size")
    expect(op, n <= 1 << bits, "has too few bits for so many places")
    score = int((_wide(q.size) * k.size).reshape(heads, -1).sum(1).max())
    mean = (largest(v) << bits) + (1 << bits)
    made(mean << rise, mean << rise, False)  # what is divided stays in float64's exact range
    return clamped(op, v.lo << rise, v.hi << rise, False, max(score, 2 * (score >> by) + 2, mean, largest(*given)))


@operation("attention", _attention_bound)
def _attention(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    n = op.integers
    q, k, v = (grouped(a, n["heads"]) for a in given)  # (B, heads, planes, places)
    s = np.swapaxes(q, 2, 3) @ k >> n["by"]
    e = EXP[np.minimum(s.max(axis=3, keepdims=True) - s, FAR)]
    p = (e << n["bits"]) // e.sum(axis=3, keepdims=True)
    P = p.sum(axis=3)[:, :, None]
    o = ((v @ np.swapaxes(p, 2, 3) << n["rise"]) + P // 2) // P
    return clamp(op, o.reshape(given[2].shape))


def _rotary_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    a = given[0]
    mapwise(op, a)
    heads, by, n = integer(op, "heads", 1, 1 << 12), integer(op, "by", 0, 30), places(program, op)
    cos, sin = program.tensor(op, "cos"), program.tensor(op, "sin")
    expect(op, a.planes % (2 * heads) == 0 and cos.shape == sin.shape, "does not fit")
    expect(op, cos.shape == (a.planes // heads // 2, n), "has not one angle for each pair and place")
    one, other = np.moveaxis(_wide(a.size).reshape(heads, 2, -1), 1, 0)
    c, s = (_wide(np.abs(t).max(axis=1)) for t in (cos, sin))
    most = np.stack([one * c + other * s, one * s + other * c], axis=1).reshape(-1) + (1 << by)
    inside = made(-most, most, False, largest(a))
    return clamped(op, inside.lo >> by, inside.hi >> by, False, inside.peak)


@operation("rotary", _rotary_bound)
def _rotary(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    heads, by = op.integers["heads"], op.integers["by"]
    cos, sin = program.tensor(op, "cos"), program.tensor(op, "sin")
    a, b = np.moveaxis(given[0].reshape(len(given[0]), heads, 2, *cos.shape), 2, 0)
    turned = np.stack([a * cos - b * sin, a * sin + b * cos], axis=2) + ((1 << by) >> 1) >> by
    return clamp(op, turned.reshape(given[0].shape))


# --- tables -----------------------------------------------------------------------------------------------------------


def blocks(program: Program) -> Ints:
    """(S + 1,): how many values a site may still be, by the number of its known digits."""
    return np.array([program.base**d for d in range(program.digits, -1, -1)], dtype=np.int64)


def _known_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    value, depth = given
    K, C = program.classes, program.channels
    good = value.planes == depth.planes == C and not value.rows and not depth.rows
    good = good and largest(value) < K and int(depth.lo.min()) >= 0 and int(depth.hi.max()) <= program.digits
    expect(op, good, "takes the two maps that a program begins with")
    return made([0] * C, [K] * C, False, K + int(blocks(program)[0]))


@operation("known", _known_bound)
def _known(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    """The last block may be cut short at K: there `value` is the first value of the block itself."""
    value, depth = given
    K, block = program.classes, blocks(program)[given[1]]
    whole = value + block <= K
    return np.where(depth > 0, np.where(whole, value + K - block >> 1, value), K)


def _embed_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    table = program.tensor(op, "table")
    expect(op, table.ndim == 2 and 0 < len(table) <= 1 << 24, "has no table of 1 to 2^24 rows")
    planes = given[0].planes
    many(planes * table.shape[1])
    return made(np.tile(table.min(0), planes), np.tile(table.max(0), planes), given[0].rows, largest(given[0]))


@operation("embed", _embed_bound)
def _embed(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    rows = table[np.clip(given[0], 0, len(table) - 1)]  # (B, P, H, W, E), or (N, P, E)
    if rows.ndim == 3:
        return rows.reshape(len(rows), -1)
    B, P, H, W, E = rows.shape
    return np.moveaxis(rows, 4, 2).reshape(B, P * E, H, W)


def _position_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    table = program.tensor(op, "table")
    expect(op, table.shape == (given[0].planes, places(program, op)), "has not one entry for each plane and place")
    peak = largest(given[0]) + int(np.abs(table).max())  # a sum may be smaller than what is added
    return made(_wide(given[0].lo) + table.min(1), _wide(given[0].hi) + table.max(1), False, peak)


@operation("position", _position_bound)
def _position(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0] + program.tensor(op, "table").reshape(given[0].shape[1:])


def _count_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    mapwise(op, given[0])
    table = program.tensor(op, "table")
    expect(op, table.ndim == 2 and 0 < len(table) <= 1 << 20, "has no table of 1 to 2^20 rows")
    total = int(_wide(given[0].size).sum()) * places(program, op)
    return made(table.min(0), table.max(0), False, total)


@operation("count", _count_bound)
def _count(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    table = program.tensor(op, "table")
    rows: Ints = table[np.clip(given[0].sum((1, 2, 3)), 0, len(table) - 1)]
    return rows[:, :, None, None]


def _channel_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    rowwise(op, given[0])
    table = program.tensor(op, "table")
    expect(op, table.shape == (program.channels, given[0].planes), "has not one row for each channel")
    peak = largest(given[0]) + int(np.abs(table).max())
    return made(_wide(given[0].lo) + table.min(0), _wide(given[0].hi) + table.max(0), True, peak)


@operation("channel", _channel_bound)
def _channel(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    return given[0] + program.tensor(op, "table")[asked.channel]


# --- what is known nearby ---------------------------------------------------------------------------------------------


def _near_bound(program: Program, op: Op, near: list[Bound]) -> list[int]:
    """The largest |W|, |F| and |Q|."""
    weight, prior = program.tensor(op, "weight"), integer(op, "prior", 1, 1 << 50)
    C = program.channels
    expect(op, bool(near) and weight.shape == (len(near),) and weight.min() >= 0, "has not one weight for each map")
    sums = [0, 0, 0]
    for w, a in zip(weight, near, strict=True):
        mapwise(op, a)
        expect(op, a.planes == 3 * C and int(a.lo[:C].min()) >= 0, "is not given knowledge, values and squares")
        sums = [s + int(w) * int(size.max()) for s, size in zip(sums, a.size.reshape(3, C), strict=True)]
    return [sums[0] + prior, *sums[1:]]


def _centre_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    W, F, _ = _near_bound(program, op, given)
    expect(op, (F << integer(op, "fraction", 0, 16)) + W < INNER, "has sums that leave the exact range")
    ends = np.full(program.channels, F << op.integers["fraction"], dtype=object)
    return clamped(op, -ends, ends, False, largest(*given))


def near_sums(weight: Any, prior: int, near: list[Any], channels: int) -> tuple[Any, Any, Any]:
    """W, F, Q of (B, 3 C, H, W) int64 each, in NumPy or PyTorch."""
    total = sum(int(w) * a for w, a in zip(weight, near, strict=True))
    return total[:, :channels] + prior, total[:, channels : 2 * channels], total[:, 2 * channels :]


@operation("centre", _centre_bound)
def _centre(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    n = op.integers
    W, F, _ = near_sums(program.tensor(op, "weight"), n["prior"], given, program.channels)
    return clamp(op, ((F << n["fraction"]) + W // 2) // W)


def _spread_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    centre, *near = given
    mapwise(op, centre)
    expect(op, centre.planes == program.channels, "is not given the centre of each channel")
    _, _, Q = _near_bound(program, op, near)
    integer(op, "coarse", 0, 52)
    rise, floor = integer(op, "rise", 0, 16), integer(op, "floor", 1, 1 << 60)
    inside = (Q << integer(op, "fine", 0, 16)) + integer(op, "extra", 0, 1 << 60)
    most = (inside // op.integers["prior"] << 2 * rise) + floor
    expect(op, max(inside, most) < INNER and largest(centre) < 1 << 31, "has sums that leave the exact range")
    lo, hi = (np.full(program.channels, math.isqrt(end), dtype=object) for end in (floor, most))
    return clamped(op, lo, hi, False, largest(*given))


@operation("spread", _spread_bound)
def _spread(program: Program, op: Op, given: list[Ints], asked: AskedSites) -> Ints:
    n = op.integers
    centre, *near = given
    W, _, Q = near_sums(program.tensor(op, "weight"), n["prior"], near, program.channels)
    variance = ((Q << n["fine"]) + n["extra"]) // W - (centre * centre >> n["coarse"])
    return clamp(op, isqrt((np.maximum(variance, 0) << 2 * n["rise"]) + n["floor"]))
