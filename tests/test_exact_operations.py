"""Operations of windows and heads: by definition against every container and slow formulas, and bounds that hold."""

import math
from dataclasses import replace
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.ans import EXP, TOTAL
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.backend import Backend
from ardm.exact.bounds import Bound
from ardm.exact.certificate import certify
from ardm.exact.frequencies import RADIX, Blocks, Mixture, Softmax, mixture_weights, radices
from ardm.exact.operations.heads import frequencies
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference, inputs
from ardm.exact.sigmoid import FINE, REACH, REST, SIGMOID, UNITY
from exactly import Bench, ask, ends, random_sites, same, table_of, within

SEEDS = st.integers(0, 2**32 - 1)
BITS = st.sampled_from([4, 11, 12, 23, 24, 25, 40])


def clip(x, lo, hi):
    return max(lo, min(hi, x))


# --- elementwise ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, BITS, BITS, st.booleans())
def test_sums_products_and_differences(seed, one, other, as_rows):
    rng = np.random.default_rng(seed)
    shape = (3,) if as_rows else (2, 3, 4)
    a, b = ends(3, 1 << one), ends(3, 1 << other)
    for name, formula in (("add", lambda x, y: x + y), ("product", lambda x, y: x * y)):
        if name == "product" and one + other >= 53:
            continue
        bench = Bench(name, [a, b], rows=as_rows)
        x, y = bench.values(rng, *shape)
        found = bench([x, y])
        slow = [formula(int(p), int(q)) for p, q in zip(x.ravel(), y.ravel(), strict=True)]
        assert found.ravel().tolist() == slow
    bench = Bench("less", [a, ends(1, 1 << other)], rows=True)
    x, y = bench.values(rng, 5)
    assert bench([x, y]).tolist() == [[int(p) - int(q[0]) for p in row] for row, q in zip(x, y, strict=True)]


def test_a_sum_smaller_than_what_is_added_is_held_wide_enough():
    """2^25 + 1 − 2^25 is 1, but float32 holds no 2^25 + 1."""
    odd, even = np.array([(1 << 25) + 1]), np.array([1 << 25])
    for rows_ in (True, False):
        shape = (1, 1) if rows_ else (1, 1, 1, 1)
        value = [np.full(shape, odd), np.full(shape, -even)]
        assert Bench("add", [(odd, odd), (-even, -even)], rows=rows_)(value).item() == 1
    assert Bench("less", [(odd, odd), (even, even)], rows=True)([odd[None], even[None]]).item() == 1


@settings(max_examples=30, deadline=None)
@given(SEEDS, BITS, st.integers(0, 30), st.booleans())
def test_shift_rounds_down_and_clamps(seed, bits, by, limited):
    rng = np.random.default_rng(seed)
    limits = {"lo": -7, "hi": 200} if limited else {}
    bench = Bench("shift", [ends(3, (1 << bits) - 1)], by=by, **limits)
    (x,) = bench.values(rng, 2, 3, 4)
    slow = [math.floor(Fraction(int(v), 1 << by)) for v in x.ravel()]
    assert bench([x]).ravel().tolist() == [clip(v, -7, 200) if limited else v for v in slow]


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(-300, 300), st.integers(1, 300), BITS)
def test_table_reads_its_ends_beyond_them(seed, low, length, bits):
    rng = np.random.default_rng(seed)
    table = rng.integers(-(1 << bits), 1 << bits, length)
    bench = Bench("table", [ends(2, 400)], {"table": table}, low=low)
    (x,) = bench.values(rng, 2, 3, 4)
    assert bench([x]).ravel().tolist() == [int(table[clip(int(v) - low, 0, length - 1)]) for v in x.ravel()]


def test_concat_keeps_the_order():
    bench = Bench("concat", [ends(2, 5), ends(1, 1 << 30), ends(3, 7)])
    x = bench.values(np.random.default_rng(0), 2, 3, 4)
    found = bench(x)
    assert found.shape == (2, 6, 3, 4)
    assert (found[:, 2] == x[1][:, 0]).all()
    assert bench.made.hi.tolist() == [5, 5, 1 << 30, 7, 7, 7]


# --- around a site ----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 5, 17]), st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 20, 40]))
def test_box_sums_what_is_inside(seed, side, H, W, bits):
    rng = np.random.default_rng(seed)
    bench = Bench("box", [(np.array([0, -(1 << bits)]), np.array([255, 1 << bits]))], side=side)
    (x,) = bench.values(rng, 2, H, W)
    found, half = bench([x]), side // 2
    y0, x0 = rng.integers(H), rng.integers(W)
    inside = [(y, z) for y in range(H) for z in range(W) if abs(y - y0) <= half and abs(z - x0) <= half]
    assert found[1, 1, y0, x0] == sum(int(x[1, 1, y, z]) for y, z in inside)


def test_long_running_sums_of_large_numbers_stay_exact():
    """Sums along a row pass 2^53; their differences, the boxes, do not."""
    size = (1 << 50) // 9
    bench = Bench("box", [(np.array([size - 3]), np.array([size]))], side=3)
    (x,) = bench.values(np.random.default_rng(0), 1, 3, 400)
    bench([x])


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 3), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6))
def test_windows_are_read_row_by_row_plane_after_plane(seed, radius, step, H, W):
    rng = np.random.default_rng(seed)
    bench = Bench("window", [ends(2, 1 << 20)], radius=radius, step=step)
    (x,) = bench.values(rng, 2, H, W)
    sites = random_sites(rng, (2, 2, H, W), 7)
    found = bench([x], sites)
    axis = range(-radius * step, radius * step + 1, step)
    for n in range(7):
        b, y0, x0 = sites.batch_index[n], sites.y[n], sites.x[n]
        slow = [
            int(x[b, p, y0 + dy, x0 + dx]) if 0 <= y0 + dy < H and 0 <= x0 + dx < W else 0
            for p in range(2) for dy in axis for dx in axis
        ]  # fmt: skip
        assert found[n].tolist() == slow


def test_at_and_pick():
    rng = np.random.default_rng(1)
    bench = Bench("at", [ends(3, 1 << 30)])
    (x,) = bench.values(rng, 2, 4, 5)
    sites = random_sites(rng, (2, 2, 4, 5), 9)
    assert (bench([x], sites) == x[sites.batch_index, :, sites.y, sites.x]).all()
    bench = Bench("pick", [ends(2, 1 << 30)], rows=True)
    (x,) = bench.values(rng, 9)
    assert bench([x], sites)[:, 0].tolist() == [int(row[c]) for row, c in zip(x, sites.channel, strict=True)]


def halves(window, C):
    each = window.reshape(len(window), 2 * C, -1)
    return each[:, :C], each[:, C:]


def windows_of(rng, count, C, cells, value, known):
    lo = np.concatenate([np.full(C * n, -v) for n, v in ((cells, value),)] + [np.zeros(C * cells, dtype=np.int64)])
    hi = np.concatenate([np.full(C * cells, value), np.full(C * cells, known)])
    return (lo, hi), within(rng, lo, hi, count, len(lo))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 3), st.integers(0, 24), st.integers(1, 12), st.booleans())
def test_nearby_is_a_rounded_mean(seed, fraction, rise, bits, empty):
    rng = np.random.default_rng(seed)
    C, cells = 2, (9, 4)
    ranges, values, weights = zip(
        *((*windows_of(rng, 6, C, n, 255 * 9**i, 9**i), rng.integers(0, 1 << bits, n)) for i, n in enumerate(cells)),
        strict=True,
    )
    values = [v * (not empty) for v in values]
    bench = Bench(
        "nearby", ranges, {"weight0": weights[0], "weight1": weights[1]}, rows=True, C=C,
        limit=255 << fraction, fraction=fraction, rise0=rise, rise1=0,
    )  # fmt: skip
    found = bench(values)
    for n in range(6):
        for c in range(C):
            top = bottom = 0
            for v, w, r in zip(values, weights, (rise, 0), strict=True):
                v, k = halves(v, C)
                top += sum(int(a) * int(b) << r for a, b in zip(w, v[n, c], strict=True))
                bottom += sum(int(a) * int(b) << r for a, b in zip(w, k[n, c], strict=True))
            mean = ((top << fraction) + bottom // 2) // bottom if bottom else 0
            assert found[n, c] == clip(mean, -255 << fraction, 255 << fraction)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 3), st.integers(0, 12), st.integers(0, 4), st.sampled_from([8, 20]))
def test_contrast_takes_the_mean_away_where_something_is_known(seed, fraction, by, known, bits):
    rng = np.random.default_rng(seed)
    C = 2
    ends_, window = windows_of(rng, 5, C, 9, 1 << bits, 81)
    limit = 1 << bits
    bench = Bench(
        "contrast",
        [ends_, ends(C, 255 << fraction)],
        rows=True,
        C=C,
        fraction=fraction,
        by=by,
        limit=limit,
        known=known,
    )
    mean = within(rng, *ends(C, 255 << fraction), 5, C)
    found = bench([window, mean])
    v, k = halves(window, C)
    v1, k1 = halves(found, C)
    half = (1 << by) // 2
    for n, c, i in np.ndindex(v.shape):
        exact = Fraction((int(v[n, c, i]) << fraction) - int(mean[n, c]) * int(k[n, c, i]) + half, 1 << by)
        assert v1[n, c, i] == clip(math.floor(exact), -limit, limit)
        assert k1[n, c, i] == int(k[n, c, i]) << known


# --- linear -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([7, 12, 16]), st.sampled_from([7, 12, 20]), st.integers(0, 20), st.booleans())
def test_linear_at_its_worst(seed, wide, deep, by, limited):
    """Inputs aligned with the signs of each column reach the largest and the smallest sum."""
    rng = np.random.default_rng(seed)
    inputs, outputs = 40, 5
    weight = rng.integers(-(1 << wide), 1 << wide, (inputs, outputs))
    bias, shift = rng.integers(-(1 << 20), 1 << 20, outputs), rng.integers(0, by + 1, outputs)
    lo, hi = np.where(rng.random(inputs) < 0.5, 0, -(1 << deep)), np.full(inputs, 1 << deep)
    limits = {"lo": -999, "hi": 1 << 18} if limited else {}
    bench = Bench("linear", [(lo, hi)], {"weight": weight, "bias": bias, "shift": shift}, rows=True, **limits)
    most, least = np.where(weight.T > 0, hi, lo), np.where(weight.T > 0, lo, hi)
    x = np.concatenate([most, least, within(rng, lo, hi, 6, inputs)])
    found = bench([x])
    for n, o in np.ndindex(found.shape):
        total = sum(int(a) * int(w) for a, w in zip(x[n], weight[:, o], strict=True)) + int(bias[o])
        slow = math.floor(Fraction(total, 1 << int(shift[o])))
        assert found[n, o] == (clip(slow, -999, 1 << 18) if limited else slow)
    assert limited or (found[:outputs].diagonal() == bench.made.hi).all()  # the bound is reached
    assert limited or (found[outputs : 2 * outputs].diagonal() == bench.made.lo).all()


def test_linear_of_each_channel():
    rng = np.random.default_rng(3)
    weight, bias = rng.integers(-99, 99, (2, 6, 3)), rng.integers(-99, 99, (2, 3))
    shift = rng.integers(0, 9, (2, 3))
    bench = Bench("linear", [ends(6, 255)], {"weight": weight, "bias": bias, "shift": shift}, rows=True)
    (x,) = bench.values(rng, 20)
    sites = random_sites(rng, (1, 2, 1, 1), 20)
    found = bench([x], sites)
    for n, c in enumerate(sites.channel):
        assert (found[n] == (x[n] @ weight[c] + bias[c]) >> shift[c]).all()


# --- what is refused --------------------------------------------------------------------------------------------------

RANGE = "exact range"


@pytest.mark.parametrize(
    ("name", "ranges", "settings_", "message"),
    [
        ("product", [ends(1, 1 << 30), ends(1, 1 << 30)], {}, RANGE),
        ("add", [ends(1, (1 << 53) - 1)] * 2, {}, RANGE),
        ("box", [ends(1, 1 << 47)], {"side": 17}, RANGE),
        ("box", [ends(1, 1)], {"side": 4}, "odd side"),
        ("shift", [ends(1, 1)], {"by": -1}, "by -1"),
        ("shift", [ends(1, 1)], {"by": 0, "lo": 3, "hi": 2}, "empty range"),
        ("less", [ends(2, 1), ends(1, 1)], {}, "takes rows"),
        ("pick", [ends(3, 1)], {"rows": True}, "each channel"),
        ("product", [ends(2, 1), ends(3, 1)], {}, "different shapes"),
        ("at", [ends(2, 1)], {"rows": True}, "takes a map"),
        ("window", [ends(2, 1)], {"radius": 40, "step": 1}, "radius 40"),
    ],
)
def test_what_does_not_fit_is_refused(name, ranges, settings_, message):
    with pytest.raises(ArdmError, match=message):
        Bench(name, ranges, **settings_)


def test_sums_that_leave_the_range_are_refused():
    big = {"weight": np.full((4, 1), 1 << 40), "bias": [0], "shift": [40]}
    with pytest.raises(ArdmError, match=RANGE):
        Bench("linear", [ends(4, 1 << 12)], big, rows=True)
    Bench("linear", [ends(4, (1 << 11) - 1)], big, rows=True)
    with pytest.raises(ArdmError, match=RANGE):
        Bench("nearby", [ends(8, 1 << 20)], {"weight0": [1 << 20] * 2}, rows=True, limit=9, fraction=2, rise0=12)
    with pytest.raises(ArdmError, match=RANGE):
        Bench("contrast", [ends(36, 1 << 30), ends(2, 1 << 30)], rows=True, fraction=0, by=40, limit=9, known=0)


def minimal(**changes):
    op = Op("linear", "o", ("row",), {}, {"weight": "w", "bias": "b", "shift": "s"})
    tensors = {"w": np.ones((1, 4), dtype=np.int8), "b": np.zeros(4, dtype=np.int8), "s": np.zeros(4, dtype=np.int8)}
    ops = (Op("at", "row", ("value",)), op, Op("values", "head", ("o",)))
    return Program(ops, {**tensors, **changes}, 1, 4, 4)


def test_numbers_that_no_container_holds_are_refused():
    certify(minimal())
    for worst in (np.iinfo(np.int64).min, 1 << 53, -(1 << 53)):
        with pytest.raises(ArdmError, match="tensor b"):
            certify(minimal(b=np.array([worst, 0, 0, 0])))
    with pytest.raises(ArdmError, match="tensor b"):
        certify(minimal(b=np.array([2**64 - 1, 0, 0, 0], dtype=np.uint64)))


def test_a_program_ends_with_its_only_head():
    program = minimal()
    for ops in (program.ops[:-1], (*program.ops, program.ops[-1]), ()):
        with pytest.raises(ArdmError, match="head"):
            certify(replace(program, ops=ops))
    unknown = replace(program, ops=(Op("fft", "x", ("value",)), *program.ops))
    with pytest.raises(ArdmError, match="'fft'"):
        certify(unknown)
    with pytest.raises(ArdmError, match="does not exist"):
        certify(replace(program, ops=(Op("at", "row", ("nothing",)), *program.ops[1:])))


# --- heads ------------------------------------------------------------------------------------------------------------


def valid(table, possible=None):
    """Widths: they sum to 2^24, and are at least 1 where a symbol is possible, 0 elsewhere."""
    assert (table.sum(axis=1) == TOTAL).all()
    possible = np.ones(table.shape, dtype=bool) if possible is None else possible
    assert (table[possible] >= 1).all()
    assert (table[~possible] == 0).all()


def whole(make, K, base):
    """The widths of all values as products of the fractions of all their digits: (N, K)."""
    S = len(digits_of(0, K, base))
    out = None
    for x in range(K):
        p, value = None, 0
        for d, digit in enumerate(digits_of(x, K, base)):
            place = base ** (S - 1 - d)
            rows_ = make(value, d, place)
            prefix, finer = 0, math.prod(rows_.radices)
            for stage, radix in enumerate(rows_.radices):
                finer //= radix
                n = _rows(rows_)
                share = rows_.table(stage, np.full(n, prefix))[:, digit // finer % radix] / TOTAL
                p = share if p is None else p * share
                prefix = prefix * radix + digit // finer % radix
            value += digit * place
        out = [p] if out is None else [*out, p]
    return np.stack(out, axis=1)


def _rows(rows_):
    return len(rows_.weight if isinstance(rows_, Mixture) else rows_.logits)


def digits_of(x, K, base):
    S = 1
    while base**S < K:
        S += 1
    return [x // base ** (S - 1 - d) % base for d in range(S)]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([(7, 7), (256, 256), (256, 16), (200, 16), (9, 2), (1000, 10), (5000, 16)]))
def test_tables_of_values_are_valid_and_add_up(seed, sizes):
    K, base = sizes
    rng = np.random.default_rng(seed)
    S, N = len(digits_of(0, K, base)), 3
    logits = rng.integers(-900, 900, (N, K))
    program = Program((), {}, 1, K, base)
    head = Op("values", "head", ("o",))
    depth = rng.integers(0, S, N)
    known = rng.integers(0, K, N)
    place = base ** (S - 1 - depth)
    value = known // (place * base) * (place * base)
    found = frequencies(program, head, [logits], value, depth)
    table = found.table(0, np.zeros(N, dtype=np.int64))
    child = value[:, None] + np.arange(base) * place[:, None]
    valid(table, child < K)
    for n in range(N):  # against fractions: the table of exponentials, block by block
        block = range(value[n], min(value[n] + place[n] * base, K))
        top = max(int(logits[n, x]) for x in block)
        mass = [0] * base
        for x in block:
            mass[(x - value[n]) // place[n]] += int(EXP[min(top - int(logits[n, x]), len(EXP) - 1)])
        mass = [m >> max(0, (K - 1).bit_length() - 8) for m in mass] if S > 1 else mass
        C = int((child[n] < K).sum())
        slow = [(m * (TOTAL - C) // sum(mass) + 1) if c < K else 0 for m, c in zip(mass, child[n], strict=True)]
        slow[slow.index(max(slow))] += TOTAL - sum(slow)
        assert table[n].tolist() == slow


def test_digits_of_a_distribution_multiply_back_to_it():
    rng = np.random.default_rng(5)
    K = 60
    logits = rng.integers(-80, 80, (4, K))
    direct = Softmax(logits, np.ones(logits.shape, dtype=bool)).table(0, np.zeros(4, dtype=np.int64)) / TOTAL

    def make(value, d, place):
        return Blocks(logits, np.full(4, value), np.full(4, place), 8)

    split = whole(make, K, 8)
    assert np.allclose(split.sum(1), 1)
    assert np.abs(split - direct).max() < 1e-5


def test_a_softmax_of_digits_takes_the_stage_of_the_site():
    rng = np.random.default_rng(6)
    K, base, S, N = 200, 16, 2, 8
    o = rng.integers(-300, 300, (N, S * base))
    depth = np.arange(N) % 2
    value = np.where(depth == 1, rng.integers(0, 13, N) * base, 0)
    found = frequencies(Program((), {}, 1, K, base), Op("softmax", "head", ("o",)), [o], value, depth)
    table = found.table(0, np.zeros(N, dtype=np.int64))
    valid(table, value[:, None] + np.arange(base) * np.where(depth, 1, base)[:, None] < K)
    p = np.exp(o.reshape(N, S, base)[np.arange(N), depth] / 32.0) * (table > 0)
    assert np.abs(table / TOTAL - p / p.sum(1, keepdims=True)).max() < 1e-5


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(2, 40))
def test_widths_rise_with_logits(seed, b):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-100, 100, (1, b))
    j = rng.integers(b)
    higher = logits.copy()
    higher[0, j] += rng.integers(1, 50)
    none = np.zeros(1, dtype=np.int64)
    before, after = (Softmax(x, np.ones(x.shape, dtype=bool)).table(0, none) for x in (logits, higher))
    assert after[0, j] >= before[0, j] - b  # what is left over goes to the widest: at most one each
    others = np.arange(b) != j
    assert (after[0, others] <= before[0, others] + b).all()
    order = np.argsort(logits[0], kind="stable")
    assert (np.diff(before[0, order]) >= -b).all()


def mixture(rng, N, M, K, base, fraction=8, bits=24, far=1.5, sharp=True):
    weight = mixture_weights(rng.integers(-200, 200, (N, M)))
    mean = rng.integers(-int(far * K) << fraction, (int(far * K) << fraction) + 1, (N, M))
    inverse = np.exp2(rng.uniform(bits - 12, bits + (2 if sharp else -6), (N, M))).astype(np.int64)

    def make(value, d, place):
        value, place = np.broadcast_to(value, N), np.broadcast_to(place, N)
        return Mixture(weight, mean, inverse, fraction, bits, K, base, value.astype(np.int64), place.astype(np.int64))

    return make


def test_weights_sum_to_one():
    weight = mixture_weights(np.random.default_rng(0).integers(-(1 << 40), 1 << 40, (50, 7)))
    assert (weight.sum(1) == 1 << 14).all()
    assert weight.min() >= 0
    assert mixture_weights(np.array([[5, 5, 5]])).tolist() == [[5462, 5461, 5461]]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([(256, 256), (200, 200), (256, 4), (65536, 256), (65536, 16), (5, 5), (300, 300)]))
def test_tables_of_mixtures_are_valid(seed, sizes):
    K, base = sizes
    rng = np.random.default_rng(seed)
    S, N = len(digits_of(0, K, base)), 6
    depth = rng.integers(0, S, N)
    place = base ** (S - 1 - depth)
    value = rng.integers(0, K, N) // (place * base) * (place * base)
    found = mixture(rng, N, 3, K, base)(value, 0, place)
    assert found.radices == radices(base)
    assert math.prod(found.radices) >= base > math.prod(found.radices) // found.radices[0] or base == 1
    prefix, low = np.zeros(N, dtype=np.int64), value
    finer = math.prod(found.radices)
    for stage, radix in enumerate(found.radices):
        finer //= radix
        table = found.table(stage, prefix)
        child = low[:, None] + np.arange(radix) * finer * place[:, None]
        valid(table, child < np.minimum(value + base * place, K)[:, None])
        told = np.array([rng.choice(np.flatnonzero(row)) for row in table])
        prefix, low = prefix * radix + told, low + told * finer * place


@pytest.mark.parametrize(("K", "base"), [(256, 256), (256, 16), (100, 100)])
def test_nibbles_multiply_to_the_whole_distribution(K, base):
    """Against the logistic cdf in floats, whichever way the value is split."""
    rng = np.random.default_rng(7)
    make = mixture(rng, 5, 2, K, base, far=0.5, sharp=False)
    split = whole(make, K, base)
    assert np.allclose(split.sum(1), 1)
    head = make(0, 0, K // base)
    edges = np.arange(K + 1)
    z = ((2 * edges - K)[:, None, None] - head.mean / 2.0**head.fraction) * head.inverse / 2.0**head.bits
    cdf = (head.weight / 2.0**14 / (1 + np.exp(-z))).sum(2)
    cdf[0], cdf[K] = 0, 1
    expected = np.diff(cdf, axis=0).T
    assert np.abs(split - expected).max() < 2e-4
    kl = (expected * np.log2(np.maximum(expected, 1e-30) / split)).sum(1)
    assert kl.max() < 1e-3


def borders_by_the_page(found, k, stage, prefix):
    """c at every alternative of a stage of row k, in integers of any length."""
    K, f, radix = found.classes, found.fraction, found.radices[stage]

    def F(x):
        total = 0
        for pi, mu, nu in zip(*(a[k].tolist() for a in (found.weight, found.mean, found.inverse)), strict=True):
            z = (((2 * x - K) << f) - mu) * nu >> f + found.bits - 12
            i, r = divmod(clip(z + 24 * 4096, 0, 48 * 4096 - 1), 64)
            total += pi * (int(SIGMOID[i]) + ((int(SIGMOID[i + 1]) - int(SIGMOID[i])) * r >> 6))
        return 0 if x <= 0 else 1 << 44 if x >= K else total

    value, place = int(found.value[k]), int(found.place[k])
    size = place * RADIX ** (len(found.radices) - 1 - stage)
    low = value + prefix * radix * size
    end = min(low + radix * size, value + found.base * place, K)
    n = max(0, -(-(end - low) // size))
    D = [F(min(low + e * size, end)) - F(low) for e in range(n + 1)]
    D = [d >> 6 for d in D] if D[n] >> 38 else D
    D = D if D[n] else list(range(n + 1))
    c = [e + D[e] * (TOTAL - n) // max(D[n], 1) for e in range(n + 1)]
    return [*c[:n], *[TOTAL] * (radix + 1 - n)]


@settings(max_examples=100, deadline=None)
@given(
    SEEDS,
    st.sampled_from([(256, 256), (200, 200), (256, 4), (65536, 65536), (65536, 16), (5, 5), (300, 300), (2, 2)]),
    st.sampled_from([0, 2, 8]),
    st.sampled_from(["usual", "sharp", "flat", "far", "one"]),
)
def test_mixtures_by_the_page(seed, sizes, fraction, kind):
    """Tables and intervals, also far from every mean, with scales of 0 and with a single component that counts."""
    (K, base), rng = sizes, np.random.default_rng(seed)
    S, N = len(digits_of(0, K, base)), 5
    depth = rng.integers(0, S, N)
    place = base ** (S - 1 - depth)
    value = rng.integers(0, K, N) // (place * base) * (place * base)
    found = mixture(rng, N, 3, K, base, fraction, far=40 if kind == "far" else 1)(value, 0, place)
    if kind in ("sharp", "flat"):
        found = replace(found, inverse=np.full_like(found.inverse, 1 << 34 if kind == "sharp" else 0))
    if kind == "one":
        found = replace(found, weight=np.eye(3, dtype=np.int64)[rng.integers(0, 3, N)] << 14)
    prefix, low = np.zeros(N, dtype=np.int64), value
    finer = math.prod(found.radices)
    for stage, radix in enumerate(found.radices):
        finer //= radix
        wanted = np.array([borders_by_the_page(found, k, stage, int(prefix[k])) for k in range(N)])
        table = found.table(stage, prefix)
        assert np.array_equal(table, np.diff(wanted, axis=1))
        valid(
            table,
            low[:, None] + np.arange(radix) * finer * place[:, None] < np.minimum(value + base * place, K)[:, None],
        )
        for digit in range(radix):
            start, width = (a[stage] for a in found.intervals((prefix * radix + digit) * finer))
            assert np.array_equal(start, wanted[:, digit])
            assert np.array_equal(width, table[:, digit])
        told = np.array([rng.choice(np.flatnonzero(row)) for row in table])
        prefix, low = prefix * radix + told, low + told * finer * place


def test_a_prefix_that_no_value_has_leaves_nothing_possible():
    found = mixture(np.random.default_rng(0), 2, 3, 20, 20)(0, 0, 1)
    assert found.radices == (2, 16)
    assert found.table(1, np.array([1, 2])).sum(axis=1).tolist() == [TOTAL, 0]
    assert found.intervals(np.array([19, 20]))[1][1].tolist()[1] == 0


def test_a_cdf_by_the_page():
    """F from its definition in fractions, at every edge."""
    rng = np.random.default_rng(8)
    found = mixture(rng, 2, 3, 12, 12)(0, 0, 1)
    got = found._cdf(slice(None), np.tile(np.arange(13)[:, None], (1, 2))).T
    for n in range(2):
        for edge in range(1, 12):
            total = 0
            for m in range(3):
                apart = ((2 * edge - 12) << found.fraction) - int(found.mean[n, m])
                z = math.floor(Fraction(apart * int(found.inverse[n, m]), 1 << found.fraction + found.bits - 12))
                z = clip(z + 24 * 4096, 0, 48 * 4096 - 1)
                i, r = divmod(z, 64)
                F = int(SIGMOID[i]) + (int(SIGMOID[i + 1]) - int(SIGMOID[i])) * r // 64
                total += int(found.weight[n, m]) * F
            assert got[n, edge] == total
    assert (got[:, 0] == 0).all()
    assert (got[:, 12] == 1 << 44).all()
    assert (np.diff(got, axis=1) >= 0).all()


def test_the_sigmoid_is_what_it_says():
    getcontext().prec = 60
    assert (len(SIGMOID), FINE, REST, UNITY, REACH, RADIX) == (3073, 12, 6, 30, 24, 16)
    for i in range(0, 3073, 61):
        z = Decimal(i) / 64 - 24
        assert int(SIGMOID[i]) == int(Decimal(2) ** 30 / (1 + (-z).exp()))
    assert (np.diff(SIGMOID) >= 0).all()


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_a_mixture_is_asked_the_same_in_every_container(seed):
    """The whole head: centre, places, clamps; limits that no mean passes."""
    rng = np.random.default_rng(seed)
    M, K = 2, 256
    tensors = {
        "w": rng.integers(-99, 99, (2, 3 * M)), "b": rng.integers(-99, 99, 3 * M), "s": np.zeros(3 * M, dtype=np.int64),
        "inverse": (np.exp2(np.arange(129) / 8)).astype(np.int64), "places": np.array([-700, 700]),
    }  # fmt: skip
    ops = (
        Op("at", "row", ("value",)),
        Op("linear", "o", ("row",), {}, {"weight": "w", "bias": "b", "shift": "s"}),
        Op("pick", "own", ("row",)),
        Op("mixture", "head", ("o", "own"), {"components": M, "fraction": 8, "bits": 16, "rise": 8, "limit": 2 * K << 8},
           {"inverse": "inverse", "places": "places"}),
    )  # fmt: skip
    program = Program(ops, tensors, 2, K, K)
    depth = rng.integers(0, 2, (3, 2, 4, 5))
    value = rng.integers(0, K, depth.shape) * depth
    for table in same(program, value, depth, AskedSites(*np.nonzero(depth == 0))):
        valid(table)


# --- programs ---------------------------------------------------------------------------------------------------------


def test_rows_do_not_depend_on_who_else_is_asked():
    """More sites than are computed at once, in another order."""
    program = minimal()
    rng = np.random.default_rng(9)
    depth = rng.integers(0, 2, (3, 1, 20, 20))
    value = rng.integers(0, 4, depth.shape) * depth
    sites = random_sites(rng, depth.shape, 2500)
    every = same(program, value, depth, sites)[0]
    few = table_of(ask(Backend(program), value, depth, sites[2000:2007]))[0]
    assert (few == every[2000:2007]).all()
    none = table_of(ask(Backend(program), value, depth, sites[:0]))[0]
    assert none.shape == (0, 4)


def test_inputs_say_what_is_known():
    """Twice the centre of what a site may still be, less K − 1, for a K that is no power of b."""
    K, base, S = 11, 3, 3
    program = Program((), {}, 1, K, base)
    assert program.digits == S
    for depth in range(S + 1):
        block = base ** (S - depth)
        for value in range(0, K, block):
            left = range(value, min(value + block, K))
            found = inputs(program, np.full((1, 1, 1, 1), value), np.full((1, 1, 1, 1), depth))
            assert found["value"].item() == left[0] + left[-1] - (K - 1)
            assert found["depth"].item() == depth


def test_programs_survive_being_written():
    program = minimal()
    again = Program.parse(program.plain(), program.tensors)
    assert again == program
    with pytest.raises(ArdmError, match="version 2 of the arithmetic"):
        Program.parse({**program.plain(), "spec": 2}, program.tensors)
    with pytest.raises(ArdmError, match="integers only"):
        Program.parse(program.plain(), {**program.tensors, "w": np.zeros(3)})
    assert isinstance(Reference(again), Reference)
    assert Bound.of([0], [1], "rows").planes == 1
    assert len(AskedSites(*[np.zeros(2, dtype=np.int64)] * 4)) == 2
