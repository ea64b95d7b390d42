"""Causal programs: by definition, along wavefronts and in sweeps, they give the same integers in every container."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm import ans
from ardm.codec import model_coder
from ardm.codec.model_coder import ModelCoder
from ardm.codec.walk import Walker
from ardm.errors import ArdmError
from ardm.exact import causal
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.backend import Backend
from ardm.exact.certificate import certify
from ardm.exact.kernels.kernel import Step
from ardm.exact.model import CodecModel, fingerprint, load, room
from ardm.exact.operations import OPERATIONS
from ardm.exact.order import Order
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference, inputs
from exactly import table_of
from waves import NEAR, picture, values_program, wave_model, wave_program, window_cells

SEEDS = st.integers(0, 2**32 - 1)
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (5, 7)]
PROGRAMS = {
    "mixture": wave_program(),
    "values": values_program(),
    "grey": wave_program(1, C=1, K=4, slope=3),
    "slope 1": wave_program(2, slope=1, blocks=1),
    "far": wave_program(3, near=[[(0, -1), (0, -2), (0, -16), (0, 0)], [(-2, 3), (0, 0), (-1, 0)]]),
    "a line": wave_program(4, C=1, slope=1, cells=[(0, -1), (0, -2)], near=[[(0, -1), (0, 0)], [(0, -4), (0, 0)]]),
}
RUNNERS = {
    "reference": Reference,
    **{name: lambda program, name=name: Backend(program, name) for name in ("float32", "float64", "int64")},
}


def order_of(program, height, width):
    return Order.wave((program.channels, height, width), program.wave, program.base)


def items_of(program, height, width, count=2, seed=0):
    shape = (program.channels, height, width)
    return np.stack([picture(*shape, program.classes, seed + k) for k in range(count)])


def walked(runner, order, items, keep=True):
    """The tables of every step."""
    memory = runner.memory(items.shape) if keep else None
    for reveal in order:
        yield table_of(runner(Ask(*order.before(reveal.step, items), order.sites(reveal, len(items)), memory)))


def swept(runner, order, items):
    """The tables of every step, from a sweep."""
    found = {}
    for sites, rows in runner.sweep(items, order.plane):
        for k, (*site, stages) in enumerate(zip(*sites.index, zip(*table_of(rows), strict=True), strict=True)):
            assert tuple(site) not in found, k
            found[tuple(site)] = stages
    for reveal in order:
        here = [found.pop(site) for site in zip(*order.sites(reveal, len(items)).index, strict=True)]
        yield [np.stack(stage) for stage in zip(*here, strict=True)]
    assert not found


def equal(one, two):
    for k, (mine, other) in enumerate(zip(one, two, strict=True)):
        assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True)), f"step {k}"


@functools.cache
def defined(name, height, width):
    """The tables of every step, by definition."""
    program = PROGRAMS[name]
    return list(
        walked(Reference(program), order_of(program, height, width), items_of(program, height, width), keep=False)
    )


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNNERS)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_walks_and_sweeps_follow_the_definition(name, kind, size, monkeypatch):
    """With a memory, without one, and in sweeps of any number of places at once."""
    program = PROGRAMS[name]
    runner, order, items = RUNNERS[kind](program), order_of(program, *size), items_of(program, *size)
    equal(walked(runner, order, items), defined(name, *size))
    if size != (5, 7):
        equal(walked(runner, order, items, keep=False), defined(name, *size))
    for places in (10, 1 << 11):
        monkeypatch.setattr(causal, "PLACES", places)
        equal(swept(runner, order, items), defined(name, *size))


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_random_programs_of_any_cells(seed, slope, C, H, W):
    rng = np.random.default_rng(seed)
    every = [(dy, dx) for dy in range(-4, 1) for dx in range(-5, 6) if dx + slope * dy < 0]
    cells = [every[k] for k in rng.choice(len(every), min(len(every), 6), replace=False)]
    near = [[*(every[k] for k in rng.choice(len(every), 2)), (0, 0)] for _ in range(2)]
    program = wave_program(seed, C, 16, slope=slope, cells=cells, near=near)
    order, items = order_of(program, H, W), items_of(program, H, W)
    expected = list(walked(Reference(program), order, items, keep=False))
    for runner in (Reference(program), Backend(program)):
        equal(walked(runner, order, items), expected)
        equal(swept(runner, order, items), expected)


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_larger_picture(kind):
    program = PROGRAMS["mixture"]
    runner, order, items = RUNNERS[kind](program), order_of(program, 33, 20), items_of(program, 33, 20, 1)
    equal(walked(runner, order, items), swept(Reference(program), order, items))


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_plane_on_its_own(kind):
    program = PROGRAMS["mixture"]
    runner, order = RUNNERS[kind](program), order_of(program, 6, 5).alone(0)
    items = np.repeat(items_of(program, 6, 5)[:, :1], 3, axis=1)
    expected = list(walked(Reference(program), order, items, keep=False))
    equal(walked(runner, order, items), expected)
    equal(swept(runner, order, items), expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_depends_on_later_digits(name):
    """Frequencies of a step stay when everything that it reveals, and everything after it, changes."""
    program = PROGRAMS[name]
    order, items = order_of(program, 5, 6), items_of(program, 5, 6, 1)
    first = list(swept(Backend(program), order, items))
    for k, reveal in list(enumerate(order.reveals))[:: len(order.reveals) // 5]:
        other = items.copy()
        later = order.when[0] >= reveal.step
        other[0][later] = (other[0][later] + 1 + np.arange(later.sum()) % (program.classes - 1)) % program.classes
        equal(list(swept(Backend(program), order, other))[: k + 1], first[: k + 1])


def values_of(program, value, depth, sites=None):
    """All values by definition."""
    nowhere = np.zeros(0, dtype=np.int64)
    sites = replace(sites or AskedSites(nowhere, nowhere, nowhere, nowhere), size=value.shape[2:])
    values = inputs(program, value, depth)
    for op in program.ops:
        values[op.out] = OPERATIONS[op.name].run(program, op, [values[name] for name in op.inputs], sites)
    return values


def test_places_by_hand():
    """causal_window, causal_taps, at_site and earlier, place by place."""
    program = PROGRAMS["mixture"]
    items = items_of(program, 4, 5)
    sites = AskedSites(np.array([1, 0, 1]), np.array([0, 1, 2]), np.array([3, 0, 2]), np.array([4, 2, 0]))
    values = values_of(program, items, np.ones_like(items), sites)
    maps, a, cells = values["maps"], values["a0"].reshape(2, 4, 5, -1), window_cells()
    for b, y, x in np.ndindex(2, 4, 5):
        window = [
            int(maps[b, p, y + dy, x + dx]) if y + dy >= 0 and 0 <= x + dx < 5 else 0
            for p in range(6)
            for dy, dx in cells
        ]
        taps = [
            int(a[b, y + dy, x + dx, p]) if y + dy >= 0 and 0 <= x + dx < 5 else 0 for dy, dx in NEAR for p in range(8)
        ]
        assert values["window"][(b * 4 + y) * 5 + x].tolist() == window
        assert values["taps0"][(b * 4 + y) * 5 + x].tolist() == taps
    mean = values["mean"].reshape(2, 4, 5, 3)
    by, limit = (next(op for op in program.ops if op.out == "near").integers[n] for n in ("by", "limit"))
    for n, (b, c, y, x) in enumerate(zip(*sites.index, strict=True)):
        assert (values["means"][n] == mean[b, y, x]).all()
        apart = [4 * int(values["value"][b, j, y, x]) - int(mean[b, y, x, j]) for j in range(3)]
        rounded = [min(max((d + (1 << by) // 2) // (1 << by), -limit), limit) for d in apart]
        assert values["near"][n].tolist() == [d if j < c else 0 for j, d in enumerate(rounded)]


def test_bounds_hold_on_pictures():
    for program in PROGRAMS.values():
        items = np.concatenate([items_of(program, 6, 7), items_of(program, 6, 7, 2) * 0 + program.classes - 1])
        sites = AskedSites(*np.nonzero(np.ones_like(items)))
        bounds = certify(program)
        for name, value in values_of(program, items, np.ones_like(items), sites).items():
            axes = (0, 2, 3) if value.ndim == 4 else 0
            assert (bounds[name].kind == "map") == (value.ndim == 4)
            assert (value.min(axes) >= bounds[name].lo).all(), name
            assert (value.max(axes) <= bounds[name].hi).all(), name


# --- other asks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNNERS)
def test_asks_out_of_turn_are_answered_by_definition(kind):
    """Sites of several wavefronts, of one that is past, of one whose past is not known; then the walk goes on."""
    program = PROGRAMS["mixture"]
    runner, reference, order = RUNNERS[kind](program), Reference(program), order_of(program, 5, 7)
    items = items_of(program, 5, 7)
    memory, rng = runner.memory(items.shape), np.random.default_rng(0)
    for reveal in order.reveals[::2]:
        value, depth = order.before(reveal.step, items)
        holes = (rng.random(depth.shape) < 0.7).astype(np.int64)
        scattered = AskedSites(*(rng.integers(0, n, 6) for n in items.shape))
        for ask in (
            Ask(value * holes, depth * holes, order.sites(reveal, 2), runner.memory(items.shape)),
            Ask(value, depth, scattered, memory),
            Ask(value, depth, scattered[:0], memory),
            Ask(value, depth, order.sites(reveal, 2)[:1], memory),
            Ask(value, depth, order.sites(reveal, 2), memory),
        ):
            equal([table_of(runner(ask))], [table_of(reference(replace(ask, memory=None)))])


@pytest.mark.parametrize("kind", RUNNERS)
def test_walks_side_by_side(kind):
    """Pictures of different sizes, some of which end early; one of them without a memory."""
    program = PROGRAMS["values"]
    runner, batches = (
        RUNNERS[kind](program),
        [items_of(program, h, w, 1 + h % 2, h) for h, w in ((3, 4), (6, 2), (1, 5))],
    )
    orders = [order_of(program, *items.shape[2:]) for items in batches]
    memories = [runner.memory(batches[0].shape), None, runner.memory(batches[2].shape)]
    expected = [list(walked(Reference(program), order, x, False)) for order, x in zip(orders, batches, strict=True)]
    for k in range(max(len(order.reveals) for order in orders)):
        running = [b for b in range(3) if k < len(orders[b].reveals)]
        asks = []
        for b in running:
            reveal = orders[b].reveals[k]
            sites = orders[b].sites(reveal, len(batches[b]))
            asks.append(Ask(*orders[b].before(reveal.step, batches[b]), sites, memories[b]))
        equal([table_of(rows) for rows in runner.together(asks)], [expected[b][k] for b in running])


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_walk_that_begins_later(kind):
    program = PROGRAMS["mixture"]
    runner, order, items = RUNNERS[kind](program), order_of(program, 5, 7), items_of(program, 5, 7)
    memory = runner.memory(items.shape)
    for reveal in order.reveals[20::5]:
        ask = Ask(*order.before(reveal.step, items), order.sites(reveal, 2), memory)
        equal([table_of(runner(ask))], [table_of(Reference(program)(replace(ask, memory=None)))])


@pytest.mark.parametrize("kind", ["reference", "float32"])
def test_every_place_is_computed_once(kind, monkeypatch):
    program = PROGRAMS["mixture"]
    runner, order, items = RUNNERS[kind](program), order_of(program, 5, 7), items_of(program, 5, 7)
    counted = []
    real = causal.Causal._beside
    monkeypatch.setattr(
        causal.Causal, "_beside", lambda *given: counted.append((given[1].out, given[2][0].count)) or real(*given)
    )
    for found in (walked(runner, order, items), runner.sweep(items)):
        counted.clear()
        for _ in found:
            pass
        assert sum(count for out, count in counted if out == "taps1") == 2 * 5 * 7


@pytest.mark.parametrize("kind", ["reference", "float32"])
def test_a_walk_keeps_a_few_wavefronts_of_a_picture(kind):
    runner, value = RUNNERS[kind](PROGRAMS["mixture"]), np.zeros((2, 3, 40, 500), dtype=np.int64)
    memory, origin = runner.memory(value.shape), AskedSites(*[np.zeros(1, dtype=np.int64)] * 4)
    runner(Ask(value, value, origin, memory))
    held = memory.of("wavefronts")["walk"].held
    assert [tuple(a.shape) for a in held.values()] == [(1 + 2 * 10 * 40, 6), *[(1 + 2 * 4 * 40, 8)] * 2]


def test_no_step_asks_for_more_than_its_channel():
    step = Step.at(AskedSites(*[np.array([1, 1, 0])] * 4), "cpu", None)
    assert step.only is None
    assert step.split(2)[0].only is None
    assert Step.at(AskedSites(*[np.array([1, 1])] * 4), "cpu", None).only == 1


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(program, out, **tensors):
    """A program with other cells."""
    return replace(
        program, tensors={**program.tensors, **{f"{out}.{role}": np.array(t) for role, t in tensors.items()}}
    )


@pytest.mark.parametrize(
    ("out", "cells", "message"),
    [
        ("window", [[0, 0]], r"cell \(0, 0\)"),
        ("window", [[-1, 2]], r"cell \(-1, 2\)"),
        ("window", [[1, -5]], r"cell \(1, -5\)"),
        ("taps0", [[0, 1]], r"cell \(0, 1\)"),
        ("taps0", [[-1, 2]], r"cell \(-1, 2\)"),
        ("taps0", [[0, -5000]], "cells within"),
        ("taps0", [[-4000, 0]], "not known in time"),
        ("taps0", np.zeros((0, 2), dtype=np.int64), "cells within"),
        ("taps0", [[0, -1, 0]], "cells within"),
        ("taps0", [0, -1], "cells within"),
    ],
)
def test_cells_that_come_later_are_refused(out, cells, message):
    with pytest.raises(ArdmError, match=message):
        certify(changed(PROGRAMS["mixture"], out, cells=cells))


def test_operations_that_read_what_comes_later_are_refused():
    program = PROGRAMS["values"]
    first, *rest = program.ops
    for op, message in (
        (Op("at", "x", ("value",)), "not known in time"),
        (Op("window", "x", ("value",), {"radius": 1, "step": 1}), "not known in time"),
        (Op("box", "x", ("value",), {"side": 3}), "not known in time"),
        (Op("line", "x", ("value",), {"wide": 3}), "not known in time"),
        (Op("at_site", "x", ("codes",)), "takes places but gets a map"),
        (Op("pick", "x", ("codes",)), "takes rows but gets a map"),
    ):
        with pytest.raises(ArdmError, match=message):
            certify(replace(program, ops=(first, op, *rest)))
    places = Op("causal_window", "p", ("value",), {}, {"cells": "window.cells"})
    for op, message in (
        (Op("add", "x", ("p", "codes")), "different shapes"),
        (Op("concat", "x", ("p", "codes")), "different kinds"),
        (Op("pick", "x", ("p",)), "takes rows but gets places"),
        (Op("channel", "x", ("p",), {}, {"table": "tinted.table"}), "takes rows but gets places"),
        (Op("conv", "x", ("p",)), "takes a map but gets places"),
        (Op("earlier", "x", ("value", "value"), {"fraction": 0, "by": 0, "limit": 9}), "takes places but gets a map"),
        (
            Op("earlier", "x", ("value", "p"), {"fraction": 0, "by": 0, "limit": 9}),
            "a value and a mean of each channel",
        ),
        (Op("causal_taps", "x", ("p",)), "lacks its cells"),
    ):
        with pytest.raises(ArdmError, match=message):
            certify(replace(program, ops=(first, places, op, *rest)))


def test_wavefronts_have_one_digit_and_any_size():
    program = PROGRAMS["values"]
    with pytest.raises(ArdmError, match="one digit"):
        certify(replace(program, base=3))
    with pytest.raises(ArdmError, match="any size"):
        certify(replace(program, size=(4, 4)))
    with pytest.raises(ArdmError, match="needs a program along wavefronts"):
        certify(replace(program, wave=0))
    with pytest.raises(ArdmError, match="one matrix for each channel and needs rows"):
        certify(
            changed(
                program,
                "h",
                **{role: np.stack([program.tensors[f"h.{role}"]] * 2) for role in ("weight", "bias", "shift")},
            )
        )
    for wave in (-1, 17, True, 1.0, "2"):
        with pytest.raises(ArdmError, match="wavefronts have slope"):
            Program.parse({**program.plain(), "wave": wave}, program.tensors)
    assert Program.parse(program.plain(), program.tensors) == program


def test_only_causal_programs_are_swept():
    from test_exact_operations import minimal

    for runner in (Reference(minimal()), Backend(minimal())):
        assert not runner.causal
        with pytest.raises(ArdmError, match="only a causal program"):
            list(runner.sweep(np.zeros((1, 1, 2, 2), dtype=np.int64)))


# --- models -----------------------------------------------------------------------------------------------------------


def test_the_order_of_wavefronts():
    order = Order.wave((2, 3, 4), 2, 256)
    assert order.when[0, 1].tolist() == [[1, 3, 5, 7], [5, 7, 9, 11], [9, 11, 13, 15]]
    assert len(order) == 2 * (4 + 2 * 2)
    assert all(reveal.digit.max() == 0 for reveal in order)
    for reveal in Order.wave((3, 5, 6), 3, 4):
        c, y, x = np.unravel_index(reveal.site, (3, 5, 6))
        assert set(x + 3 * y) == {reveal.step // 3}
        assert set(c) == {reveal.step % 3}


def test_models_are_saved_and_loaded(tmp_path):
    model = wave_model(values_program(), data="none")
    model = replace(model, golden=fingerprint(model, Reference(model.program)))
    model.save(tmp_path / "codec.safetensors")
    again = load(tmp_path)
    assert (again.wave, again.orders, again.default, again.identity) == (2, {}, 0, model.identity)
    assert again.program.plain() == model.program.plain()
    assert replace(model, program=replace(model.program, wave=3)).identity != model.identity
    assert "wave" not in replace(model.program, wave=0).plain()
    for name in ("float32", "float64", "int64"):
        assert fingerprint(again, Backend(again.program, name)) == again.golden
    other = changed(model.program, "o", bias=model.program.tensors["o.bias"] + 30 * np.arange(7))
    assert fingerprint(wave_model(other), Reference(other)) != model.golden


def test_models_along_wavefronts_have_nothing_else():
    program, cell = values_program(), np.arange(2).reshape(1, 2, 1, 1)
    for settings_ in ({"orders": {2: cell}}, {"default": 2}, {"lead": 1}, {"kind": "film"}, {"card": None}):
        with pytest.raises(ArdmError, match="along wavefronts"):
            CodecModel(**{"program": program, "orders": {}, "default": 0, **settings_})
    with pytest.raises(ArdmError, match="not in 3 network calls"):
        wave_model().order(3, 4, 4)
    model = wave_model()
    assert np.array_equal(model.order(0, 4, 5).when, Order.wave((3, 4, 5), 2, 256).when)
    assert 0 < room(model, certify(model.program)) < 1 << 30


# --- coding -----------------------------------------------------------------------------------------------------------


def coder(program=None, kind="float32", threads=1):
    model = wave_model(program)
    return ModelCoder(model, 0, RUNNERS[kind](model.program), threads)


def streams(made, parts):
    return [made.finish(job, 7) for job in made.encode([part] for part in parts)]


def decoded(made, coded, parts):
    jobs = [(stream, [part.shape]) for stream, part in zip(coded, parts, strict=True)]
    return [samples for (samples,), check in made.decode(jobs) if check == 7]


@pytest.mark.parametrize("kind", RUNNERS)
def test_pictures_of_many_sizes_are_coded_and_decoded_together(kind):
    made = coder(kind=kind)
    sizes = [(3, 5, 7), (3, 1, 1), (1, 4, 4), (3, 1, 12), (1, 7, 1), (3, 5, 7), (1, 4, 4)]
    parts = [picture(*size, seed=k).astype(np.uint8) for k, size in enumerate(sizes)]
    coded = streams(made, parts)
    assert coded == streams(coder(kind="reference"), parts)
    found = decoded(made, coded, parts)
    assert all(np.array_equal(one, two) for one, two in zip(found, parts, strict=True))
    for part, stream in zip(parts, coded, strict=True):  # alone, as in a batch
        assert streams(made, [part]) == [stream]


def test_a_sweep_gives_the_intervals_of_the_steps():
    program = PROGRAMS["mixture"]
    runner, order, items = Backend(program), order_of(program, 9, 6), items_of(program, 9, 6, 3)
    for mine, what in ((order, items), (order.alone(0), np.repeat(items[:, :1], 3, axis=1))):
        step_by_step = Walker(mine, runner, runner.memory).encode(what)
        at_once = Walker(mine, runner, runner.memory, runner.sweep).encode(what)
        for (start, width), (s, w) in zip(step_by_step, at_once, strict=True):
            assert np.array_equal(start, s)
            assert np.array_equal(width, w)


def test_the_walk_that_codes_is_stopped():
    made = coder()
    made._stop.set()
    walker = made.walker((3, 4, 4), 3, (4, 4))
    with pytest.raises(InterruptedError):
        walker.encode(np.zeros((1, 3, 4, 4), dtype=np.int64))
    with pytest.raises(InterruptedError):
        walker.decode([ans.Decoder(b"\1" * 9)])


def test_orders_of_large_pictures_are_not_all_kept(monkeypatch):
    monkeypatch.setattr(model_coder, "KEPT", 200)
    made = coder()
    for size in ((10, 10), (10, 9), (11, 10), (3, 3)):
        made.walker((3, *size), 3, size)
        assert sum(h * w for (_, h, w), _, _ in made._walkers) <= 200


def test_a_model_takes_no_more_steps_than_can_be_checked():
    with pytest.raises(ArdmError, match="at most 256 channels; got 257"):
        certify(wave_program(C=257))


def test_mixtures_stay_within_64_bits():
    program = wave_program()
    head = program.ops[-1]
    for fraction, bits, good in ((9, 48, True), (10, 48, False), (16, 48, False), (4, 7, False)):
        op = replace(head, integers={**head.integers, "fraction": fraction, "bits": bits, "limit": 1 << 20})
        changed = replace(program, ops=(*program.ops[:-1], op))
        if good:
            certify(changed)
        else:
            with pytest.raises(ArdmError, match="too coarse, or too fine"):
                certify(changed)


@pytest.mark.parametrize("shape", [(), (-1, 1), (1, -1)])
def test_a_mean_has_one_weight_for_each_cell(shape):
    program = wave_program()
    weight = program.tensors["mean.weight0"]
    changed = weight.reshape(shape) if shape else weight[0]
    with pytest.raises(ArdmError, match="one weight for each cell"):
        certify(replace(program, tensors={**program.tensors, "mean.weight0": np.asarray(changed)}))
