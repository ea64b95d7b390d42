"""A memory between the steps of a walk changes no frequency, and saves computing what it keeps."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.errors import ArdmError
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.backend import Backend
from ardm.exact.bounds import Bound, expect_map
from ardm.exact.kernels import KERNELS
from ardm.exact.kernels.kernel import Kernel
from ardm.exact.operations import OPERATIONS
from ardm.exact.operations.operation import Operation
from ardm.exact.order import Order
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference
from bundles import coder
from exactly import same, table_of
from test_codec import MODELS
from test_exact_layers import SEEDS, Chain


def random_order(rng, program, shape):
    """Digits in turn, sites at random, several of them in a step."""
    first = rng.integers(0, 4, shape)
    return Order(np.cumsum([first, *rng.integers(1, 3, (program.digits - 1, *shape))], axis=0), program.base)


def walk(runner, order, items, keep):
    """The tables of every step, with one memory for all of them or with none."""
    memory = runner.memory(items.shape) if keep else None
    for reveal in order:
        value, depth = order.before(reveal.step, items)
        yield table_of(runner(Ask(value, depth, order.sites(reveal, len(items)), memory)))


def alike(runners, order, items):
    """Every runner gives the same tables with a memory and without."""
    first, *others = (list(walk(runner, order, items, keep)) for runner in runners for keep in (False, True))
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


# --- the law ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([(5, 5), (8, 2), (16, 4)]), st.integers(2, 8))
def test_random_programs_along_random_orders(seed, sizes, length):
    rng = np.random.default_rng(seed)
    K, base = sizes
    H, W = (int(n) for n in rng.integers(1, 6, 2))
    chain = Chain(rng, 2, K, base, (H, W))
    for _ in range(length):
        with contextlib.suppress(ArdmError):  # one that could have left the exact range
            chain.grow()
    program = chain.end()
    order = random_order(rng, program, (2, H, W))
    alike([Reference(program), Backend(program)], order, rng.integers(0, K, (2, 2, H, W)))


@pytest.mark.parametrize("name", MODELS)
def test_models_along_their_orders(name):
    model = coder(**MODELS[name]).model
    order, program = model.order(model.default, 7, 5), model.program
    items = np.random.default_rng(0).integers(0, program.classes, (2, *order.shape))
    alike([Backend(program, "float32"), Backend(program, "int64")], order, items)


# --- features that are kept -------------------------------------------------------------------------------------------


class Trail:
    """An operation that keeps features: h(x) = (known(x − 1) + 3 h(x − 1)) mod 97 along a row.

    h(x) never changes once everything to its left is known.  columns: how often a column was computed.
    """

    def __init__(self):
        self.columns = 0

    def bound(self, program, op, given):
        expect_map(op, given[0])
        return Bound.of([0] * given[0].planes, [96] * given[0].planes, "map", 3 * 96 + int(given[0].hi.max()))

    def compute(self, a, depth, digits, memory, last):
        """Columns up to `last`, the kept ones excepted; in NumPy or PyTorch."""
        h, done = memory.get("h"), memory.get("done", 0)
        h = a * 0 if h is None else h
        for x in range(done, last + 1):
            h[..., x] = (a[..., x - 1] + 3 * h[..., x - 1]) % 97 if x else 0
            self.columns += 1
        unknown = np.flatnonzero((np.asarray(depth) < digits).any(axis=(0, 1, 2)))
        settled = min(int(unknown[0]) if len(unknown) else last, last) + 1
        memory.update(h=h, done=max(done, settled))
        return h

    def run(self, program, op, given, sites):
        return self.compute(*given, program.digits, {}, given[0].shape[3] - 1)

    def resume(self, program, op, given, sites, memory):
        return self.compute(*given, program.digits, memory, int(sites.x.max(initial=0))).copy()

    def build(self, context, op, dtype):
        def run(step, given):
            last = int(step.x.max()) if len(step.x) else 0
            return self.compute(*given, context.program.digits, step.memory.of(op.out), last).clone()

        return run


@pytest.fixture
def trail(monkeypatch):
    made = Trail()
    monkeypatch.setitem(OPERATIONS, "trail", Operation(made.bound, made.run, made.resume))
    monkeypatch.setitem(KERNELS, "trail", Kernel(made.build))
    return made


K, WIDE = 5, 9


def trail_program():
    rng = np.random.default_rng(3)
    tensors = {"w": rng.integers(-9, 9, (1, K)), "b": rng.integers(-9, 9, K), "s": np.zeros(K, dtype=np.int64)}
    ops = (
        Op("known", "known", ("value", "depth")),
        Op("trail", "h", ("known", "depth")),
        Op("at", "row", ("h",)),
        Op("linear", "o", ("row",), {}, {"weight": "w", "bias": "b", "shift": "s"}),
        Op("values", "head", ("o",)),
    )
    return Program(ops, tensors, 1, K, K)


RUNNERS = [Reference, Backend]


def lines(count=2):
    return np.random.default_rng(1).integers(0, K, (count, 1, 1, WIDE))


@pytest.mark.parametrize("kind", RUNNERS)
def test_features_that_are_kept_are_computed_once(trail, kind):
    order, runner = Order(np.arange(WIDE).reshape(1, 1, 1, WIDE), K), kind(trail_program())
    expected = list(walk(Reference(trail_program()), order, lines(), False))
    for keep, columns in ((True, WIDE), (False, WIDE * (WIDE + 1) // 2)):
        trail.columns = 0
        found = list(walk(runner, order, lines(), keep))
        assert trail.columns == columns
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(expected, found, strict=True))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_features_are_kept_only_once_they_are_settled(seed):
    trail, program = Trail(), trail_program()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATIONS, "trail", Operation(trail.bound, trail.run, trail.resume))
        patch.setitem(KERNELS, "trail", Kernel(trail.build))
        order = random_order(np.random.default_rng(seed), program, (1, 1, WIDE))
        alike([Reference(program), Backend(program)], order, lines())


@pytest.mark.parametrize("kind", RUNNERS)
def test_walks_side_by_side_keep_memories_of_their_own(trail, kind):
    runner, order = kind(trail_program()), Order(np.arange(WIDE).reshape(1, 1, 1, WIDE), K)
    batches = [lines(1), (lines(2) + 1) % K]
    memories = [runner.memory(items.shape) for items in batches]
    for reveal in order:
        asks = [
            Ask(*order.before(reveal.step, items), order.sites(reveal, len(items)), memory)
            for items, memory in zip(batches, memories, strict=True)
        ]
        for ask, found in zip(asks, runner.together(asks), strict=True):
            assert np.array_equal(table_of(found)[0], same(trail_program(), ask.value, ask.depth, ask.sites)[0])


# --- what every walk keeps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_memory_of_another_walk_is_refused(kind):
    made = coder()
    runner, other = kind(made.model.program), kind(made.model.program)
    value = np.zeros((1, 3, 4, 4), dtype=np.int64)
    corner = AskedSites(*[np.zeros(1, dtype=np.int64)] * 4)
    runner(Ask(value, value, corner, runner.memory(value.shape)))
    for memory in (other.memory(value.shape), runner.memory((2, 3, 4, 4))):
        with pytest.raises(ArdmError, match="start of each walk"):
            runner(Ask(value, value, corner, memory))
