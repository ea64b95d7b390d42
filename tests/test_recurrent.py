"""Recurrent networks of text: what they read, their states in integers, and the same bytes from every runner."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

import ardm
from ardm import likelihood, plan
from ardm.ans import Decoder, Encoder
from ardm.bundle import LETTERS, Bundle
from ardm.codec.model_coder import ModelCoder
from ardm.codec.walk import Walker
from ardm.errors import ArdmError
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.backend import Backend
from ardm.exact.bounds import Bound
from ardm.exact.certificate import certify
from ardm.exact.native import library as native
from ardm.exact.native.describe import describe
from ardm.exact.native.runner import NativeRunner
from ardm.exact.operations import OPERATIONS
from ardm.exact.order import Order
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.nets.recurrent import _Carry
from ardm.orders import OrderConfig
from bundles import by_formula
from exactly import table_of
from waves import need_library

TINY = {"trunk": "recurrent", "head": "values", "causal": "wave", "width": 10, "hidden": 7, "blocks": 2, "embedding": 3,
        "reach": (2,), "hashes": (1, 3), "bits": 4, "row": 2}  # fmt: skip
T = 24


@functools.cache
def tiny(classes=27, **changes):
    """A model with arbitrary parameters."""
    return by_formula(build(ModelConfig(shape=(T,), classes=classes, **{**TINY, **changes}))).eval()


def texts(count=6, length=T, classes=27, seed=0):
    return torch.randint(classes, (count, length), generator=torch.Generator().manual_seed(seed))


@functools.cache
def exported(classes=27):
    model = tiny(classes)
    config = ModelConfig(shape=(T,), classes=classes, **TINY)
    return export(
        Bundle(model, config, OrderConfig(), card={"name": "tiny"}), texts(8, classes=classes), Precision(8, 11)
    )


compiled = pytest.fixture(scope="module")(need_library)


# --- in floats ------------------------------------------------------------------------------------------------------------


def test_states_are_carried_as_the_formula_says_and_so_are_gradients():
    g = torch.Generator().manual_seed(0)
    f, n, first = (
        torch.rand(*s, dtype=torch.double, generator=g, requires_grad=True) for s in [(5, 2, 3)] * 2 + [(2, 3)]
    )
    h, found = first, _Carry.apply(f, n, first)
    for t in range(5):
        h = h + f[t] * (n[t] - h)
        assert torch.allclose(found[t], h, atol=1e-14)
    assert torch.autograd.gradcheck(_Carry.apply, (f, n, first))


def test_a_place_reads_all_before_it_and_nothing_else():
    model, x = tiny(), texts(1)
    every = model.log_probs(x)[0]
    for t in range(T):
        y = x.clone()
        y[0, t] = (y[0, t] + 1) % 27
        changed = (model.log_probs(y)[0] != every).any(-1)
        assert not changed[: t + 1].any(), "a place sees itself or what follows"
        assert changed[t + 1 :].all(), "states or contexts do not reach so far"


@pytest.mark.parametrize("length", [1, T, 40])
def test_a_walk_that_keeps_states_is_the_dense_pass(length):
    model, x = tiny(), texts(3, length)
    walked = likelihood.exact(model, plan.wavefront((length,)), x).nats
    assert torch.allclose(walked, model.nats(x).double().sum(1), rtol=1e-6)


def test_unseen_contexts_say_nothing_at_the_start():
    model = build(ModelConfig(shape=(T,), classes=27, **TINY))
    assert not model.body.trunk.table.weight.any()
    assert len(torch.unique(model.body.trunk.buckets(model.body.trunk.near(texts() + 1))[..., 0])) > 8


@pytest.mark.parametrize("changes", [{"reach": (2, 1)}, {"reach": (0,)}, {"hashes": (65,)}, {"bits": 0}, {"row": 0},
                                     {"counts": (3, 2)}, {"counts": (0,)}, {"counts": (65,)}, {"counts": tuple(range(1, 18))}])  # fmt: skip
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ArdmError, match=r"model\.(reach|bits|counts)"):
        build(ModelConfig(shape=(T,), classes=27, **{**TINY, **changes}))


# --- in integers ----------------------------------------------------------------------------------------------------------


def carry(z, n, by, wide):
    """carry by its definition, in Python's integers: z, n lists of rows, `wide` places a line."""
    found = []
    for i, (gate, new) in enumerate(zip(z, n, strict=True)):
        before = [0] * len(new) if i % wide == 0 else found[-1]
        found.append([h + (g * (v - h) + 2**by // 2) // 2**by for g, v, h in zip(gate, new, before, strict=True)])
    return found


def carried(z, n, by, wide):
    program, op = Program((), {}, 1, 2, 2, wave=1), Op("carry", "h", ("z", "n"), {"by": by})
    bound = OPERATIONS["carry"].bound(program, op, [Bound.of(a.min(0), a.max(0), "places") for a in (z, n)])
    where = np.zeros(0, dtype=np.int64)
    return OPERATIONS["carry"].run(program, op, [z, n], AskedSites(*[where] * 4, size=(len(z) // wide, wide))), bound


@pytest.mark.parametrize("by", [1, 5, 14])
def test_carry_stays_within_its_bound_and_reaches_it(by):
    rng, one = np.random.default_rng(by), 1 << by
    z = rng.integers(0, one + 1, (60, 4))
    n = rng.integers(-one, one + 1, (60, 4)) + np.array([0, 3, 2 * one, -2 * one])
    z[::7], n[3::9] = one, n.max(0)  # a gate that is open takes the new value as it is
    found, bound = carried(z, n, by, 20)
    assert found.tolist() == carry(z.tolist(), n.tolist(), by, 20)
    assert (found >= bound.lo).all()
    assert (found <= bound.hi).all()
    n[::2], n[1::2], z[:] = n.min(0), n.max(0), one
    found, bound = carried(z, n, by, 20)
    assert np.array_equal(bound.hi, np.maximum(found.max(0), 0))
    assert np.array_equal(bound.lo, np.minimum(found.min(0), 0))
    assert np.array_equal(found, n)
    assert bound.peak >= (one * (bound.hi - bound.lo)).max()


@pytest.mark.parametrize(("lo", "hi", "by"), [(-1, 4, 4), (0, 17, 4), (0, 4, 0), (0, 4, 31)])
def test_gates_that_are_none_are_refused(lo, hi, by):
    program, op = Program((), {}, 1, 2, 2, wave=1), Op("carry", "h", ("z", "n"), {"by": by})
    with pytest.raises(ArdmError, match="carry"):
        OPERATIONS["carry"].bound(program, op, [Bound.of([lo], [hi], "places"), Bound.of([0], [1], "places")])
    with pytest.raises(ArdmError, match="along wavefronts"):
        OPERATIONS["carry"].bound(replace(program, wave=0), op, [Bound.of([0], [1], "places")] * 2)


def test_weights_as_large_as_can_be_stay_within_32_bits():
    """The certificate of the largest weights that an export makes: C computes them in 32 bits."""
    model = by_formula(build(ModelConfig(shape=(T,), classes=256, **{**TINY, "blocks": 5})), 6.0)
    made = export(Bundle(model, ModelConfig(shape=(T,), classes=256, **{**TINY, "blocks": 5}), OrderConfig(),
                         card={"name": "huge"}), texts(4, classes=256), Precision(8, 11))  # fmt: skip
    bounds = certify(made.codec.program)
    assert max(bounds[op.out].peak for op in made.codec.program.ops if op.name != "hash") < 1 << 31
    assert len(describe(made.codec.program, bounds))


def test_integers_cost_little():
    assert abs(exported().cost.bits_per_dim) < 0.01
    assert exported().codec.budgets == ()


RUNNERS = {
    "float32": lambda program: Backend(program, "float32"),
    "int64": lambda program: Backend(program, "int64"),
    "native": NativeRunner,
    "plain": lambda program: NativeRunner(program, True),
}


def intervals(run, items):
    order = Order.wave(items.shape[1:], 1, run.program.base)
    return Walker(order, run, run.memory, run.sweep).encode(items)


@pytest.mark.parametrize(("name", "classes"), [*((name, 27) for name in RUNNERS), ("native", 256), ("float32", 256)])
def test_every_runner_has_the_integers_of_the_reference(name, classes, compiled):
    program = exported(classes).codec.program
    run, reference = RUNNERS[name](program), Reference(program)
    for n, H, W in [(1, 1, 1), (2, 1, 40), (2, 3, 5)]:
        items = texts(n * H, W, classes, seed=W).numpy().reshape(n, 1, H, W)
        expected = intervals(reference, items)
        for found in (intervals(run, items), run.encode(items) if isinstance(run, NativeRunner) else expected):
            assert all(
                np.array_equal(a, b) for pair in zip(found, expected, strict=True) for a, b in zip(*pair, strict=True)
            )
        rng = np.random.default_rng(0)
        depth = (rng.random(items.shape) < 0.7).astype(np.int64)
        ask = Ask(items * depth, depth, AskedSites(*(rng.integers(0, k, 9) for k in items.shape), size=(H, W)))
        assert all(np.array_equal(a, b) for a, b in zip(table_of(run(ask)), table_of(reference(ask)), strict=True))
        streams = []
        for pair in expected:
            encoder = Encoder()
            encoder.push(*pair)
            streams.append(encoder.finish(77, 32))
        decoders = [Decoder(stream) for stream in streams]
        assert np.array_equal(Walker(Order.wave((1, H, W), 1, classes), run, run.memory).decode(decoders), items)
        assert all(decoder.close() == 77 for decoder in decoders)


def test_a_sweep_in_parts_carries_its_states(monkeypatch):
    monkeypatch.setattr("ardm.exact.causal.PLACES", 16)
    program = exported().codec.program
    items = texts(2, 70).numpy()[:, None, None]
    for run in (Reference(program), Backend(program)):
        for (start, width), (a, b) in zip(intervals(run, items), whole(program, items), strict=True):
            assert np.array_equal(start, a)
            assert np.array_equal(width, b)


def whole(program, items):
    """The intervals by definition, all places at once."""
    run, found = Reference(program), []
    for item in items:
        W = item.shape[2]
        nothing = np.zeros(W, dtype=np.int64)
        rows = run(
            Ask(item[None], np.ones_like(item[None]), AskedSites(nothing, nothing, nothing, np.arange(W), (1, W)))
        )
        start, width = rows.intervals(item.reshape(-1))
        found.append((start[0], width[0]))
    return found


# --- as a codec -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["native", "float32"])
def codec(request, compiled, module_patch):
    model = replace(exported().codec, kind="text", alphabet=LETTERS)
    if request.param != "native":
        module_patch.setattr("ardm.codec.registry.machine", lambda *_, **__: Backend(model.program))
    return ardm.Codec(model)


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_many_texts_of_any_lengths_are_those_of_one_by_one(codec):
    lengths = [0, 1, 90, 5, 7, 7, 20, 1, 0]
    letters = np.frombuffer(LETTERS, np.uint8)
    many = [letters[texts(1, n, seed=n)[0].numpy()].tobytes() for n in lengths] + [b"No letters: \x00\xff", b"z" * 33]
    files = codec.encode_many(many)
    assert files == [codec.encode(text) for text in many]
    assert codec.decode_many(files) == many
    assert [codec.decode(file) for file in files] == many


def test_a_damaged_text_among_many_is_noticed(codec):
    files = codec.encode_many([b"the first text", b"another one, which is longer".replace(b",", b" ")])
    broken = files[1][:-1] + bytes([files[1][-1] ^ 1])
    with pytest.raises(ardm.CodecError, match="1"):
        codec.decode_many([files[0], broken])


def test_no_description_makes_it_leave_its_memory(compiled):
    """Every number of a description, changed: the net is refused, or it runs within its bounds."""
    program, rng = exported().codec.program, np.random.default_rng(2)
    text = describe(program, Reference(program).bounds)
    tables, refused = 5 + 1 + 768 + 1 + 3073, 0
    for at in [*range(5), *rng.permutation(np.arange(tables, len(text)))[:1500]]:
        changed = text.copy()
        changed[at] = rng.choice([-1, 0, 1, changed[at] + 1, 1 << 14, 1 << 40, -(1 << 62)])
        try:
            net = native.Net(changed, plain=bool(at % 2))
        except ArdmError:
            refused += 1
            continue
        if changed[0] == 1:
            walk = native.Walk(net, (2, 1, 1, 9), None, raster=False, lengths=np.array([9, int(at) % 11]))
            held = np.frombuffer(bytes(range(200)), dtype=np.uint8)
            walk.decode(100, np.array([((1 << 33) + 7, held.ctypes.data, 50)] * 2, dtype=native.STREAM))
    assert refused > 50


def test_threads_share_what_they_decode_with(codec):
    files = codec.encode_many([b"a text of many"] * 3)
    coder = codec._engine.coders(ardm.content.Content.of_bytes(b"a"))[0]
    assert isinstance(coder, ModelCoder)
    assert codec.decode_many(files * 30) == [b"a text of many"] * 90
