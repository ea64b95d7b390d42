"""Convolutions, norms, attention and the rest: by definition against every container and slow formulas."""

import contextlib
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ardm.ans import EXP
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.backend import Backend
from ardm.exact.certificate import input_bounds, operation_bound
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference, inputs
from exactly import Bench, ask, ends, same, table_of, within

SEEDS = st.integers(0, 2**32 - 1)


def clip(x, lo, hi):
    return max(lo, min(hi, x))


def floor(top, bottom):
    return math.floor(Fraction(int(top), int(bottom)))


# --- places -----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6),
    st.sampled_from([7, 12, 20]), st.sampled_from([7, 12, 20]), st.booleans(),
)  # fmt: skip
def test_conv_by_the_page(seed, tall, wide, step, H, W, deep, heavy, limited):
    rng = np.random.default_rng(seed)
    P, outputs = 3, 2
    top, left = (int(rng.integers(0, (n - 1) * step + 1)) for n in (tall, wide))
    weight = rng.integers(-(1 << heavy), 1 << heavy, (P * tall * wide, outputs))
    bias, shift = rng.integers(-(1 << 16), 1 << 16, outputs), rng.integers(0, 12, outputs)
    lo, hi = np.array([0, -(1 << deep), 1]), np.full(3, (1 << deep) - 1)
    limits = {"lo": -1000, "hi": 1 << 20} if limited else {}
    bench = Bench(
        "conv", [(lo, hi)], {"weight": weight, "bias": bias, "shift": shift},
        tall=tall, wide=wide, step=step, top=top, left=left, **limits,
    )  # fmt: skip
    (x,) = bench.values(rng, 2, H, W)
    found = bench([x])
    for b, o, y, z in itertools.product((0, 1), range(outputs), (0, H - 1), (0, W - 1)):
        total = int(bias[o])
        for p, i, j in itertools.product(range(P), range(tall), range(wide)):
            v, u = y + i * step - top, z + j * step - left
            if 0 <= v < H and 0 <= u < W:
                total += int(x[b, p, v, u]) * int(weight[(p * tall + i) * wide + j, o])
        slow = floor(total, 1 << int(shift[o]))
        assert found[b, o, y, z] == (clip(slow, -1000, 1 << 20) if limited else slow)


@pytest.mark.parametrize(("deep", "heavy"), [(8, 8), (12, 8), (12, 12), (16, 16)])
def test_conv_at_its_worst(deep, heavy):
    """Patches aligned with the signs of a filter reach the bound; in parts of float32, and where float64 is needed."""
    rng = np.random.default_rng(0)
    P, H, outputs = 40, 5, 3
    weight = rng.integers(1 - (1 << heavy - 1), 1 << heavy - 1, (P * 9, outputs))
    tensors = {"weight": weight, "bias": rng.integers(-99, 99, outputs), "shift": [0, 3, 7]}
    hi = np.full(P, (1 << deep) - 1)
    bench = Bench("conv", [(-hi, hi)], tensors, tall=3, wide=3, step=1, top=1, left=1)
    for o, sign in itertools.product(range(outputs), (1, -1)):
        x = np.zeros((1, P, H, H), dtype=np.int64)
        x[0, :, 1:4, 1:4] = np.sign(weight[:, o]).reshape(P, 3, 3) * hi[0] * sign
        found = bench([x])
        assert found[0, o, 2, 2] == (bench.made.hi if sign > 0 else bench.made.lo)[o]
    x = np.sign(rng.normal(size=(2, P, H, H))).astype(np.int64) * hi[0]
    real = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight.T.reshape(outputs, P, 3, 3).copy()), padding=1).numpy()
    shift = np.array([0, 3, 7])[:, None, None]
    assert (bench([x]) == real + np.array(tensors["bias"])[:, None, None] >> shift).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 7), st.integers(1, 7), st.sampled_from([7, 22, 24, 48]))
def test_pool_is_the_rounded_mean_of_what_is_inside(seed, H, W, bits):
    rng = np.random.default_rng(seed)
    bench = Bench("pool", [(np.array([-(1 << bits), 5]), np.array([1 << bits, 1 << bits]))])
    (x,) = bench.values(rng, 2, H, W)
    found = bench([x])
    assert found.shape == (2, 2, -(-H // 2), -(-W // 2))
    for b, p, y, z in np.ndindex(found.shape):
        square = x[b, p, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2]
        mean = Fraction(sum(map(int, square.ravel())), square.size)
        assert found[b, p, y, z] == math.floor(mean + Fraction(1, 2))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.integers(0, 1), st.integers(0, 1))
def test_grow_undoes_pool(seed, h, w, odd, even):
    rng = np.random.default_rng(seed)
    H, W = 2 * h - odd, 2 * w - even
    bench = Bench("grow", [ends(2, 1 << 30), ends(1, 3)])
    x, like = within(rng, *ends(2, 1 << 30), 2, 2, h, w), np.zeros((2, 1, H, W), dtype=np.int64)
    found = bench([x, like])
    for y, z in itertools.product(range(H), range(W)):
        assert (found[:, :, y, z] == x[:, :, y * h // H, z * w // W]).all()
    real = F.interpolate(torch.from_numpy(x).double(), size=(H, W), mode="nearest").long().numpy()
    assert (found == real).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 30), st.sampled_from([8, 12, 25]), st.booleans(), st.booleans())
def test_gate(seed, by, bits, as_rows, limited):
    rng = np.random.default_rng(seed)
    limits = {"lo": -5, "hi": 1000} if limited else {}
    bench = Bench(
        "gate", [ends(2, 1 << bits), (np.array([0, -7]), np.array([1 << bits, 9]))], rows=as_rows, by=by, **limits
    )
    a, b = bench.values(rng, *((4,) if as_rows else (2, 3, 4)))
    slow = [floor(int(x) * int(y), 1 << by) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    assert bench([a, b]).ravel().tolist() == [clip(v, -5, 1000) if limited else v for v in slow]


# --- norm -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    SEEDS, st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 2), (5, 5)]), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from([1, 7, 12, 18]), st.sampled_from([0, 3, 6]), st.integers(1, 1 << 20), st.sampled_from([8, 15, 20]),
)  # fmt: skip
def test_norm_by_the_page(seed, sizes, each, centre, as_rows, bits, rise, epsilon, gains):
    rng = np.random.default_rng(seed)
    P, G = sizes
    H, W = (1, 1) if as_rows else (2, 3)
    gain, bias = rng.integers(-(1 << gains), 1 << gains, P), rng.integers(-(1 << 24), 1 << 24, P)
    up, by = 20, 12
    bench = Bench(
        "norm", [ends(P, (1 << bits) - 1)], {"gain": gain, "bias": bias}, rows=as_rows, size=(2, 3),
        groups=G, each=int(each), centre=int(centre), up=up, rise=rise, by=by, epsilon=epsilon,
    )  # fmt: skip
    (x,) = bench.values(rng, *((9,) if as_rows else (3, H, W)))
    x[0] = 0
    x[1] = np.asarray(bench.ranges[0][1]).reshape(-1, *[1] * (x.ndim - 2))  # constant at the end
    x[2] = x[2] * (np.arange(x[2].size).reshape(x[2].shape) == x[2].size - 1)  # one number alone
    found = bench([x])
    maps, out = (a.reshape(len(a), G, P // G, H * W) for a in (x, found))
    for b, g, p, i in np.ndindex(maps.shape):
        numbers = [int(v) for v in (maps[b, g, :, i] if each else maps[b, g].ravel())]
        N, S, Q = len(numbers), sum(numbers), sum(v * v for v in numbers)
        V, d = (N * Q - S * S, N * int(maps[b, g, p, i]) - S) if centre else (N * Q, N * int(maps[b, g, p, i]))
        R = math.isqrt((V << 2 * rise) + N * N * epsilon)
        q = (int(gain[g * (P // G) + p]) << up) // R
        assert out[b, g, p, i] == d * q + int(bias[g * (P // G) + p]) >> by


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 9, 30, 1000])
def test_a_norm_stays_within_its_bound_whatever_is_normed(N):
    """One number alone, and what is nearly alone, is as far from the mean as can be."""
    for size, rise, centre in itertools.product((1, 2, 9, 1000), (0, 2), (0, 1)):
        bench = Bench(
            "norm", [(np.full(N, -size), np.full(N, size))], {"gain": [1 << 12, -(1 << 12)] * (N // 2) + [1] * (N % 2),
            "bias": [0] * N}, rows=True, groups=1, each=1, centre=centre, up=8, rise=rise, by=0, epsilon=1,
        )  # fmt: skip
        x = np.zeros((4, N), dtype=np.int64)
        x[0, 0], x[1, 0], x[2] = size, -size, size
        x[3] = -size
        x[3, 0] = size
        bench([x])


def test_norm_is_group_norm():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 4, 4, generator=g, dtype=torch.double) * 3
    layer = torch.nn.GroupNorm(4, 8, eps=1e-6).double()
    with torch.no_grad():
        layer.weight.normal_(generator=g)
        layer.bias.normal_(generator=g)
        real = layer(x).numpy()
    scale, made, rise, up, lift = 1 << 10, 1 << 10, 4, 26, 5
    by = up - rise + lift
    tensors = {
        "gain": np.rint(layer.weight.detach().numpy() * made * 2.0**lift),
        "bias": np.rint((layer.bias.detach().numpy() * made + 0.5) * 2.0**by),
    }
    integers = {"groups": 4, "each": 0, "centre": 1, "up": up, "rise": rise, "by": by}
    bench = Bench("norm", [ends(8, 1 << 15)], tensors, size=(4, 4), epsilon=268, **integers)
    found = bench([np.rint(x.numpy() * scale).astype(np.int64)])
    assert np.abs(found / made - real).max() < 5e-3


# --- attention --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    SEEDS, st.sampled_from([1, 2]), st.integers(1, 3), st.integers(1, 3), st.sampled_from([3, 8, 14]), st.integers(0, 8),
    st.sampled_from([4, 12, 16, 22]), st.sampled_from([0, 4]), st.sampled_from([4, 8, 16]),
)  # fmt: skip
def test_attention_by_the_page(seed, heads, deep, tall, bits, by, fine, rise, values):
    rng = np.random.default_rng(seed)
    W, P, out = 3, heads * deep, 2 * heads
    bench = Bench(
        "attention", [ends(P, 1 << bits), ends(P, 1 << bits), (np.full(out, -3), np.full(out, 1 << values))],
        size=(tall, W), heads=heads, by=by, bits=fine, rise=rise,
    )  # fmt: skip
    q, k, v = bench.values(rng, 2, tall, W)
    found = bench([q, k, v]).reshape(2, heads, 2, -1)
    q, k, v = (a.reshape(2, heads, -1, tall * W) for a in (q, k, v))
    n = tall * W
    for b, h, d, i in np.ndindex(found.shape):
        s = [sum(int(q[b, h, e, i]) * int(k[b, h, e, j]) for e in range(deep)) >> by for j in range(n)]
        e = [int(EXP[min(max(s) - x, len(EXP) - 1)]) for x in s]
        p = [(x << fine) // sum(e) for x in e]
        top = (sum(a * int(x) for a, x in zip(p, v[b, h, d], strict=True)) << rise) + sum(p) // 2
        assert found[b, h, d, i] == top // sum(p)


def test_attention_is_attention():
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 30, 8, generator=g, dtype=torch.double) for _ in range(3))
    real = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(1, 16, 5, 6).numpy()
    scale = 1 << 9
    by = 10
    other = 32 * 2.0**by / math.sqrt(8) / scale
    maps = [np.rint(a.transpose(2, 3).reshape(1, 16, 5, 6).numpy() * s).astype(np.int64)
            for a, s in ((q, scale), (k, other), (v, 256))]  # fmt: skip
    bench = Bench("attention", [ends(16, 1 << 13)] * 3, size=(5, 6), heads=2, by=by, bits=22, rise=4)
    assert np.abs(bench(maps) / 256 / 16 - real).max() < 0.03


def test_attention_is_done_in_pieces(monkeypatch):
    from ardm.exact.kernels.kernel import ROOM

    monkeypatch.setitem(ROOM, "cpu", 100)
    bench = Bench("attention", [ends(4, 99)] * 3, size=(5, 6), heads=2, by=4, bits=16, rise=2)
    bench(bench.values(np.random.default_rng(0), 3, 5, 6))


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "base"), [(256, 256), (11, 3), (27, 3), (256, 16), (5, 2), (200, 16)])
def test_known_is_the_value_that_is_known(K, base):
    program = Program((), {}, 1, K, base)
    S = program.digits
    bench = Bench("known", [ends(1, K - 1), (np.array([0]), np.array([S]))], C=1, K=K, base=base)
    x, depth = (a.reshape(1, 1, 1, -1) for a in np.meshgrid(np.arange(K), np.arange(S + 1)))
    unit = base ** (S - depth)
    value = x // unit * unit
    maps = inputs(program, value, depth)
    assert (bench([maps["value"], maps["depth"]]) == np.where(depth > 0, value, K)).all()


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([5, 20, 30]))
def test_tables_of_rows(seed, bits):
    rng = np.random.default_rng(seed)
    table = rng.integers(-(1 << bits), 1 << bits, (7, 3))
    bench = Bench("embed", [ends(2, 9)], {"table": table})
    (x,) = bench.values(rng, 2, 2, 3)
    found = bench([x])
    for b, c, y, z in np.ndindex(x.shape):
        assert found[b, c * 3 : c * 3 + 3, y, z].tolist() == table[clip(int(x[b, c, y, z]), 0, 6)].tolist()
    bench = Bench("count", [ends(2, 1)], {"table": table}, size=(2, 3))
    (x,) = bench.values(rng, 4, 2, 3)
    found = bench([x])
    assert found.shape == (4, 3, 1, 1)
    assert found[:, :, 0, 0].tolist() == [table[clip(int(a.sum()), 0, 6)].tolist() for a in x]
    each = rng.integers(-(1 << bits), 1 << bits, (2, 4))
    bench = Bench("channel", [ends(4, 1 << bits)], {"table": each}, rows=True)
    (x,) = bench.values(rng, 6)
    sites = AskedSites(*[rng.integers(0, 2, 6)] * 4)
    assert (bench([x], sites) == x + each[sites.channel]).all()


def test_what_a_table_adds_is_held_wide_enough():
    low = np.array([-(1 << 24)])
    x = np.full((1, 1, 1, 1), low)
    sites = AskedSites(*[np.zeros(1, dtype=np.int64)] * 4)
    bench = Bench("channel", [(low, low)], {"table": [[(1 << 25) - 1]]}, rows=True, C=1)
    assert bench([x[:, :, 0, 0]], sites).item() == (1 << 24) - 1


# --- what is known nearby ---------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 1 << 30), st.integers(1, 20), st.integers(0, 6), st.integers(0, 6), st.integers(0, 4))
def test_centre_and_spread_by_the_page(seed, prior, heavy, fraction, fine, rise):
    rng = np.random.default_rng(seed)
    C = 2
    lo = np.concatenate([[0] * C, [-255 * 9] * C, [0] * C])
    hi = np.concatenate([[9] * C, [255 * 9] * C, [255 * 255 * 9] * C])
    weight = rng.integers(0, 1 << heavy, 2)
    coarse, limit, extra, least = 2 * fraction - fine if 2 * fraction > fine else 0, 255 << fraction, 77, 1 << 9
    sums = {"weight": weight}
    first = Bench("centre", [(lo, hi)] * 2, sums, C=C, prior=prior, fraction=fraction, lo=-limit, hi=limit)
    near = first.values(rng, 2, 2, 3)
    centre = first(near)
    second = Bench(
        "spread", [ends(C, limit), (lo, hi), (lo, hi)], sums, C=C, prior=prior, fine=fine, extra=extra, coarse=coarse,
        rise=rise, floor=least, lo=1, hi=1 << 20,
    )  # fmt: skip
    spread = second([centre, *near])
    for b, c, y, z in np.ndindex(centre.shape):
        W, v, s = (
            sum(int(w) * int(a[b, part * C + c, y, z]) for w, a in zip(weight, near, strict=True)) for part in range(3)
        )
        W += prior
        assert centre[b, c, y, z] == clip(((v << fraction) + W // 2) // W, -limit, limit)
        variance = max(0, ((s << fine) + extra) // W - (int(centre[b, c, y, z]) ** 2 >> coarse))
        assert spread[b, c, y, z] == clip(math.isqrt((variance << 2 * rise) + least), 1, 1 << 20)


# --- what is refused --------------------------------------------------------------------------------------------------

NORM = {"groups": 1, "each": 0, "centre": 1, "up": 20, "rise": 3, "by": 10, "epsilon": 1}
GAIN = {"gain": [1 << 10], "bias": [0]}
CONV = {"tall": 3, "wide": 3, "step": 1, "top": 1, "left": 1}
ATTENTION = {"heads": 1, "by": 0, "bits": 16, "rise": 0}


@pytest.mark.parametrize(
    ("name", "ranges", "tensors", "more", "message"),
    [
        ("conv", [ends(1, 1 << 30)], {"weight": [[1 << 20]] * 9, "bias": [0], "shift": [0]}, CONV, "exact range"),
        ("conv", [ends(2, 1)], {"weight": [[1]] * 9, "bias": [0], "shift": [0]}, CONV, "does not fit"),
        ("conv", [ends(1, 1)], {"weight": [[1]] * 9, "bias": [0], "shift": [41]}, CONV, "0 to 40 bits"),
        ("conv", [ends(1, 1)], {"weight": [[1]] * 9, "bias": [0], "shift": [0]}, {**CONV, "top": 3}, "top 3"),
        ("gate", [ends(1, 1 << 30)] * 2, {}, {"by": 0}, "exact range"),
        ("gate", [ends(1, 1), ends(2, 1)], {}, {"by": 0}, "different shapes"),
        ("norm", [ends(1, 1 << 30)], GAIN, {**NORM, "size": (8, 8)}, "exact range"),
        ("norm", [ends(1, 9)], {"gain": [1 << 40], "bias": [0]}, {**NORM, "size": (8, 8)}, "exact range"),
        ("norm", [ends(1, 9)], GAIN, NORM, "items of one size"),
        ("norm", [ends(1, 9)], GAIN, {**NORM, "epsilon": 0, "size": (8, 8)}, "epsilon 0"),
        ("attention", [ends(1, 1 << 28)] * 3, {}, {**ATTENTION, "size": (2, 2)}, "exact range"),
        ("attention", [ends(1, 9)] * 3, {}, {**ATTENTION, "bits": 4, "size": (5, 5)}, "too few bits"),
        ("attention", [ends(2, 9), ends(3, 9), ends(2, 9)], {}, {**ATTENTION, "size": (2, 2)}, "unequal size"),
        ("attention", [ends(1, 9)] * 3, {}, ATTENTION, "items of one size"),
        ("channel", [ends(1, 9)], {"table": [[1], [2]]}, {}, "takes rows"),
        ("known", [ends(2, 256), (np.zeros(2), np.ones(2))], {}, {}, "two maps"),
        ("embed", [ends(1, 9)], {"table": [1, 2]}, {}, "no table"),
        ("pool", [ends(1, 1 << 52)], {}, {}, "exact range"),
        ("centre", [ends(6, 1)], {"weight": [1]}, {"prior": 1, "fraction": 0}, "depths"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name, ranges, tensors, more, message):
    with pytest.raises(ArdmError, match=message):
        Bench(name, ranges, tensors, **more)


# --- whole programs ---------------------------------------------------------------------------------------------------


class Chain:
    """A random program: whatever its operations are given, they are appended if their certificate holds."""

    def __init__(self, rng, C, K, base, size):
        self.rng, self.tensors, self.ops = rng, {}, []
        self.program = Program((), self.tensors, C, K, base, size)
        self.bounds = input_bounds(self.program)
        self.maps = ["value", "depth"]

    def add(self, name, inputs_, tensors=None, **integers):
        out = f"{name}{len(self.ops)}"
        roles = {role: f"{out}.{role}" for role in tensors or {}}
        self.tensors |= {roles[role]: np.asarray(t, dtype=np.int64) for role, t in (tensors or {}).items()}
        op = Op(name, out, tuple(inputs_), integers, roles)
        self.bounds[out] = operation_bound(self.program, op, self.bounds)
        self.ops.append(op)
        return out

    def grow(self):
        """One more map."""
        rng = self.rng
        a = self.maps[rng.integers(len(self.maps))]
        P = self.bounds[a].planes
        kind = rng.choice(["conv", "norm", "attention", "gate", "table", "pool", "shift", "concat"])
        limits = {"lo": -(1 << int(rng.integers(3, 14))), "hi": 1 << int(rng.integers(3, 14))}
        if kind == "conv":
            tall, wide, half = (int(x) for x in rng.integers(1, 4, 3))
            weight = rng.integers(-(1 << 9), 1 << 9, (P * tall * wide, 2 * half))
            tensors = {
                "weight": weight,
                "bias": rng.integers(-999, 999, 2 * half),
                "shift": rng.integers(0, 14, 2 * half),
            }
            made = self.add(
                "conv", [a], tensors, tall=tall, wide=wide, step=int(rng.integers(1, 3)), top=tall - 1, left=0, **limits
            )
        elif kind == "norm":
            tensors = {"gain": rng.integers(-(1 << 12), 1 << 12, P), "bias": rng.integers(-(1 << 20), 1 << 20, P)}
            each, centre = (int(x) for x in rng.integers(0, 2, 2))
            made = self.add(
                "norm", [a], tensors, groups=1, each=each, centre=centre, up=18, rise=2, by=12, epsilon=9, **limits
            )
        elif kind == "attention":
            made = self.add("attention", [a, a, a], heads=1, by=int(rng.integers(0, 12)), bits=16, rise=2, **limits)
        elif kind == "gate":
            made = self.add("gate", [a, a], by=int(rng.integers(0, 12)), **limits)
        elif kind == "table":
            made = self.add("table", [a], {"table": rng.integers(-300, 300, 64)}, low=-32)
        elif kind == "shift":
            made = self.add("shift", [a], by=int(rng.integers(0, 9)), **limits)
        elif kind == "pool":
            made = self.add("grow", [self.add("pool", [a]), a])
        else:
            made = self.add("concat", [a, self.maps[-1]])
        self.maps.append(made)

    def end(self):
        """Rows of the last map, and a head."""
        K, row = self.program.classes, self.add("at", [self.maps[-1]])
        P = self.bounds[row].planes
        row = self.add("channel", [row], {"table": self.rng.integers(-99, 99, (self.program.channels, P))})
        weight = self.rng.integers(-99, 99, (P, K))
        tensors = {"weight": weight, "bias": [0] * K, "shift": [4] * K}
        self.add("values", [self.add("linear", [row], tensors, lo=-3000, hi=3000)])
        return Program(
            tuple(self.ops), self.tensors, *[getattr(self.program, n) for n in ("channels", "classes", "base", "size")]
        )


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([(5, 5), (8, 2), (16, 4)]), st.integers(2, 8))
def test_random_programs_are_the_same_in_every_container(seed, sizes, length):
    rng = np.random.default_rng(seed)
    K, base = sizes
    H, W = (int(n) for n in rng.integers(1, 6, 2))
    chain = Chain(rng, 2, K, base, (H, W))
    for _ in range(length):
        with contextlib.suppress(ArdmError):  # one that could have left the exact range
            chain.grow()
    program = chain.end()
    S = program.digits
    depth = rng.integers(0, S + 1, (3, 2, H, W))
    depth[:, 0, 0, 0] = 0
    unit = base ** (S - depth)
    value = rng.integers(0, K, depth.shape) // unit * unit
    sites = AskedSites(*np.nonzero(depth < S))
    every = same(program, value, depth, sites)
    one = ask(Backend(program), value[1:2], depth[1:2], AskedSites(*np.nonzero(depth[1:2] < S)))
    for alone, among in zip(table_of(one), every, strict=True):
        assert (alone == among[sites.batch_index == 1]).all()
    Reference(Program.parse(program.plain(), program.tensors))
