"""Lines, contexts, rows of tables: by definition against every container and slow formulas."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.backend import Backend
from ardm.exact.frequencies import IMPOSSIBLE
from ardm.exact.operations.heads import frequencies
from ardm.exact.operations.sequences import MODULUS, SPREAD, STEP
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference
from exactly import Bench, ask, ends, random_sites, same, table_of

SEEDS = st.integers(0, 2**32 - 1)
NONE = AskedSites(*[np.zeros(0, dtype=np.int64)] * 4)


def everywhere(B, C, H, W):
    return AskedSites(*(a.ravel() for a in np.meshgrid(*map(np.arange, (B, C, H, W)), indexing="ij")))


# --- lines ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.sampled_from([1, 24, 50]))
def test_line_by_the_page(seed, wide, P, H, W, bits):
    rng = np.random.default_rng(seed)
    bench = Bench("line", [(np.full(P, 1), np.full(P, 1 << bits))], wide=wide)
    (x,) = bench.values(rng, 2, H, W)
    sites = random_sites(rng, (2, 2, H, W), 9)
    found = bench([x], sites).reshape(9, P, wide)
    whole = np.concatenate([x, np.zeros((2, P, H, wide), dtype=np.int64)], axis=3)
    assert (found == whole[sites.batch_index, :, sites.y, :wide]).all()


def test_the_bounds_of_what_may_lie_outside():
    """Zeros belong to them, whatever the map."""
    made = Bench("line", [(np.array([5, -9]), np.array([7, -8]))], wide=3).made
    assert made.kind == "rows"
    assert made.lo.tolist() == [0] * 3 + [-9] * 3
    assert made.hi.tolist() == [7] * 3 + [0] * 3


def test_far_beyond_the_end():
    bench = Bench("line", [ends(1, 9)], C=1, wide=1 << 12)
    (x,) = bench.values(np.random.default_rng(0), 1, 1, 3)
    found = bench([x], everywhere(1, 1, 1, 3))
    assert np.count_nonzero(found) <= 9


def test_nothing_asked():
    bench = Bench("line", [ends(2, 9)], wide=3)
    assert bench([np.ones((1, 2, 1, 4), dtype=np.int64)], NONE).shape == (0, 6)
    bench = Bench("segment", [ends(2, 9)], {"first": [0], "size": [2]}, rows=True, wide=3)
    assert bench([np.ones((0, 2), dtype=np.int64)], NONE).shape == (0, 3)
    bench = Bench("hash", [(np.zeros(2), np.full(2, 9))], {"contexts": [[0, 1]]}, rows=True, bits=3)
    assert bench([np.ones((0, 2), dtype=np.int64)], NONE).shape == (0, 1)


# --- hashes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 20), st.sampled_from([1, 27, 256, (1 << 17) - 1]), st.integers(1, 4))
def test_hash_by_the_page(seed, bits, most, count):
    rng, P = np.random.default_rng(seed), 5
    contexts = rng.integers(-1, P, (min(count, 1 << 24 - bits), 6))
    bench = Bench("hash", [(np.zeros(P), np.full(P, most))], {"contexts": contexts}, rows=True, bits=bits)
    (x,) = bench.values(rng, 20)
    found = bench([x])
    for row, (k, context) in itertools.product(range(20), enumerate(contexts.tolist())):
        h = 0
        for j in itertools.takewhile(lambda j: j >= 0, context):
            h = (h * 0x2F0B4C47 + int(x[row, j]) + 1) % 2**31
        assert found[row, k] == k * 2**bits + (h * 0x5DEECE6D % 2**31) // 2 ** (31 - bits)
    assert bench.made.hi[-1] == len(contexts) * 2**bits - 1
    assert (STEP, SPREAD, MODULUS) == (0x2F0B4C47, 0x5DEECE6D, 2**31)


def test_hashes_of_the_largest_tables_are_held_exactly():
    """16 contexts of 20 bits: the last bucket is 2^24 − 1, which float32 still holds."""
    P = 3
    bench = Bench("hash", [(np.zeros(P), np.full(P, 255))], {"contexts": [[0, 1, 2]] * 16}, rows=True, bits=20)
    x = np.random.default_rng(0).integers(0, 256, (500, P))
    found = bench([x])
    assert bench.made.hi[-1] == (1 << 24) - 1
    assert len(np.unique(found[:, 0] % 1024)) > 200, "the low bits spread, too"
    assert (np.diff(found, axis=1) == 1 << 20).all()


def test_contexts_that_differ_at_one_place_rarely_share_a_bucket():
    bench = Bench("hash", [(np.zeros(4), np.full(4, 255))], {"contexts": [[0, 1, 2, 3]]}, rows=True, bits=16)
    x = np.zeros((1024, 4), dtype=np.int64)
    for column in range(4):
        x[column * 256 : column * 256 + 256, column] = np.arange(256)
    assert len(np.unique(bench([x]))) > 1000


# --- segments ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 22, 24, 40]))
def test_segment_by_the_page(seed, columns, most, bits):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, most + 1, columns)
    first = np.cumsum([0, *size[:-1]])
    wide, P, W = most + int(rng.integers(0, 3)), int(size.sum()), columns + 2
    bench = Bench("segment", [ends(P, 1 << bits)], {"first": first, "size": size}, rows=True, wide=wide)
    (x,) = bench.values(rng, 20)
    sites = random_sites(rng, (1, 2, 3, W), 20)
    found = bench([x], sites)
    for row, z in zip(range(20), sites.x, strict=True):
        c = min(z, columns - 1)
        assert found[row].tolist() == [*x[row, first[c] : first[c] + size[c]], *[-(2**22) - 1] * (wide - size[c])]


@pytest.mark.parametrize("bits", [23, 24, 30])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_bound_of_a_segment_holds_what_cannot_be(bits, sign):
    """Also where all inputs are below it."""
    value = np.full(2, sign << bits)
    bench = Bench("segment", [(value, value)], {"first": [0, 1], "size": [1, 1]}, rows=True, wide=2)
    sites = everywhere(1, 1, 1, 2)
    assert bench([np.full((2, 2), sign << bits)], sites)[:, 1].tolist() == [IMPOSSIBLE] * 2


# --- rows embedded ----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([3, 24, 25, 40]))
def test_embed_takes_rows(seed, bits):
    rng = np.random.default_rng(seed)
    table = rng.integers(-(1 << bits), 1 << bits, (7, 3))
    bench = Bench("embed", [ends(4, 9)], {"table": table}, rows=True)
    (x,) = bench.values(rng, 11)
    assert (bench([x]) == table[np.clip(x, 0, 6)].reshape(11, 12)).all()


def test_embed_takes_rows_of_a_large_table():
    table = np.arange(1 << 20).reshape(-1, 1)
    bench = Bench("embed", [(np.array([0]), np.array([(1 << 24) - 1]))], {"table": table}, rows=True)
    x = np.array([[0], [(1 << 20) - 2], [(1 << 20) - 1], [1 << 20], [(1 << 24) - 1]])
    assert bench([x]).ravel().tolist() == [0, (1 << 20) - 2, *[(1 << 20) - 1] * 3]


# --- what cannot be ---------------------------------------------------------------------------------------------------


def head(K=4, name="values", base=None):
    return Program((Op(name, "head", ("o",), {}, {}),), {}, 1, K, base or K)


def widths_of(logits):
    program = head(len(logits[0]))
    state = np.zeros(len(logits), dtype=np.int64)
    return frequencies(program, program.ops[0], [np.array(logits)], state, state).table(0, state)


def test_an_impossible_logit_has_no_frequency():
    found = widths_of([[0, IMPOSSIBLE, 0, IMPOSSIBLE], [IMPOSSIBLE + 1, IMPOSSIBLE, 0, IMPOSSIBLE - 5]])
    assert found[0].tolist() == [1 << 23, 0, 1 << 23, 0]
    assert found[1].tolist() == [1, 0, (1 << 24) - 1, 0]
    assert widths_of([[5, *[IMPOSSIBLE] * 3]]).tolist() == [[1 << 24, 0, 0, 0]]


def test_possible_symbols_are_scaled_by_their_own_largest_logit():
    """A logit far below those of other columns is not lost."""
    low = -(1 << 22)
    assert widths_of([[low, low, IMPOSSIBLE, IMPOSSIBLE]]).tolist() == [[1 << 23, 1 << 23, 0, 0]]


@pytest.mark.filterwarnings("error")
def test_where_nothing_is_possible_everything_is():
    """A malicious model cannot make a table without any symbol, or a division by zero."""
    assert widths_of([[IMPOSSIBLE, IMPOSSIBLE - 1, IMPOSSIBLE, IMPOSSIBLE]]).sum() == 1 << 24
    assert widths_of([[IMPOSSIBLE] * 4]).tolist() == [[1 << 22] * 4]


def test_only_values_of_one_digit_know_what_cannot_be():
    for name, base in (("softmax", 4), ("values", 2)):
        program = head(4, name, base)
        state = np.zeros(1, dtype=np.int64)
        o = np.array([[0, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE]])
        assert frequencies(program, program.ops[0], [o], state, state).table(0, state).min() >= 1


# --- what is refused --------------------------------------------------------------------------------------------------

SYMBOLS = [(np.zeros(3), np.full(3, 255))]


@pytest.mark.parametrize(
    ("name", "ranges", "tensors", "more", "message"),
    [
        ("line", [ends(1 << 9, 9)], {}, {"wide": 4096}, "planes; the limit is"),
        ("line", [ends(1, 9)], {}, {"wide": 0}, "wide 0"),
        ("line", [ends(1, 9)], {}, {"wide": 4097}, "wide 4097"),
        ("line", [ends(1, 9)], {}, {"wide": 2, "rows": True}, "takes a map"),
        ("hash", SYMBOLS, {"contexts": [[0]]}, {"bits": 3}, "takes rows"),
        ("hash", SYMBOLS, {"contexts": [[0]]}, {"bits": 0, "rows": True}, "bits 0"),
        ("hash", SYMBOLS, {"contexts": [[0]]}, {"bits": 21, "rows": True}, "bits 21"),
        ("hash", SYMBOLS, {"contexts": [[3]]}, {"bits": 3, "rows": True}, "do not exist"),
        ("hash", SYMBOLS, {"contexts": [0, 1]}, {"bits": 3, "rows": True}, "no contexts"),
        ("hash", SYMBOLS, {"contexts": np.zeros((0, 2))}, {"bits": 3, "rows": True}, "no contexts"),
        ("hash", SYMBOLS, {"contexts": [[0]] * 17}, {"bits": 20, "rows": True}, "no contexts"),
        ("hash", SYMBOLS, {"contexts": np.zeros((2, 4096))}, {"bits": 1, "rows": True}, "no contexts"),
        ("hash", SYMBOLS, {}, {"bits": 3, "rows": True}, "lacks its contexts"),
        ("hash", [(np.zeros(1), np.full(1, 1 << 17))], {"contexts": [[0]]}, {"bits": 3, "rows": True}, "must read symbols"),
        ("hash", [ends(1, 1)], {"contexts": [[0]]}, {"bits": 3, "rows": True}, "must read symbols"),
        ("segment", [ends(3, 9)], {"first": [0], "size": [2]}, {"wide": 2}, "takes rows"),
        ("segment", [ends(3, 9)], {"first": [0], "size": [3]}, {"wide": 2, "rows": True}, "invalid segments"),
        ("segment", [ends(3, 9)], {"first": [0], "size": [0]}, {"wide": 2, "rows": True}, "invalid segments"),
        ("segment", [ends(3, 9)], {"first": [-1], "size": [2]}, {"wide": 2, "rows": True}, "invalid segments"),
        ("segment", [ends(3, 9)], {"first": [2], "size": [2]}, {"wide": 2, "rows": True}, "do not exist"),
        ("segment", [ends(3, 9)], {"first": [0, 1], "size": [1]}, {"wide": 2, "rows": True}, "one segment for each"),
        ("segment", [ends(3, 9)], {"first": [], "size": []}, {"wide": 2, "rows": True}, "one segment for each"),
        ("segment", [ends(3, 9)], {"first": [[0]], "size": [[1]]}, {"wide": 2, "rows": True}, "one segment for each"),
        ("segment", [ends(3, 9)], {"first": [0], "size": [1]}, {"wide": 1 << 17, "rows": True}, "wide 131072"),
        ("segment", [ends(3, 9)], {"first": [0]}, {"wide": 2, "rows": True}, "lacks its size"),
        ("segment", [ends(3, 9)], {"first": [1 << 52], "size": [1]}, {"wide": 2, "rows": True}, "do not exist"),
        ("line", [], {}, {"wide": 1}, "malformed"),
        ("hash", [], {"contexts": [[0]]}, {"bits": 3}, "malformed"),
        ("segment", [], {"first": [0], "size": [1]}, {"wide": 2}, "malformed"),
        ("embed", [ends(3, 9)], {"table": np.zeros((0, 2))}, {"rows": True}, "no table"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name, ranges, tensors, more, message):
    with pytest.raises(ArdmError, match=message):
        Bench(name, ranges, tensors, **more)


# --- whole programs ---------------------------------------------------------------------------------------------------


def program(rng, kind, C=1):
    """A random program of lines: hashed contexts, or rows of a table."""
    K, tensors = int(rng.integers(2, 7)), {}
    ops = [Op("known", "told", ("value", "depth"), {}, {})]

    def add(name, out, inputs, given=None, **integers):
        given = {role: np.asarray(t, dtype=np.int64) for role, t in (given or {}).items()}
        tensors.update({f"{out}.{role}": t for role, t in given.items()})
        ops.append(Op(name, out, tuple(inputs), integers, {role: f"{out}.{role}" for role in given}))
        return out

    D = int(rng.integers(2, 5))
    near = add("line", "near", ["told"], wide=D)
    P, table = D * C, rng.integers(-127, 128, (K + 1, 4))
    if kind == "text":
        near = add("hash", "buckets", [near], {"contexts": rng.integers(-1, P, (3, 2))}, bits=4)
        P, table = 3, rng.integers(-127, 128, (48, 4))
    e = add("embed", "e", [near], {"table": table})
    size = rng.integers(1, K + 1, D) if kind == "table" else np.array([K])
    weight = rng.integers(-99, 99, (P * 4, size.sum()))
    o = add(
        "linear", "o", [e], {"weight": weight, "bias": [0] * size.sum(), "shift": [4] * size.sum()}, lo=-3000, hi=3000
    )
    if kind == "table":
        o = add("segment", "column", [o], {"first": np.cumsum([0, *size[:-1]]), "size": size}, wide=K)
    add("values", "head", [o])
    return Program(tuple(ops), tensors, C, K, K), size


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from(["text", "table"]), st.integers(1, 2), st.integers(1, 6))
def test_random_programs_are_the_same_in_every_container(seed, kind, C, W):
    rng = np.random.default_rng(seed)
    made, size = program(rng, kind, C)
    made = Program.parse(made.plain(), made.tensors)
    depth = rng.integers(0, 2, (3, C, 2, W))
    depth[:, 0, 0, 0] = 0
    value = rng.integers(0, made.classes, depth.shape) * depth
    sites = AskedSites(*np.nonzero(depth == 0))
    (every,) = same(made, value, depth, sites)
    if kind == "table":
        limits = size[np.minimum(sites.x, len(size) - 1)]
        assert ((every > 0) == (np.arange(made.classes) < limits[:, None])).all()
    (one,) = table_of(ask(Backend(made), value[1:2], depth[1:2], AskedSites(*np.nonzero(depth[1:2] == 0))))
    assert (one == every[sites.batch_index == 1]).all()
    dirty = np.where(depth == 0, rng.integers(0, made.classes, depth.shape), value)
    clean = table_of(ask(Reference(made), dirty * depth, depth, sites))[0]
    assert (clean == every).all(), "what is hidden changes nothing"
