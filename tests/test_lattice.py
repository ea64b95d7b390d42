"""Adaptive lattices: the integers of their plain definition, everywhere; least squares; sound coded with them and back."""

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch

from ardm.bundle import Bundle
from ardm.codec import decode, encode
from ardm.codec.sound_coder import SoundCoder
from ardm.content import Content, Kind, raised, spare_bits
from ardm.data.audio import Clips, cut
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.exact.ask import Ask
from ardm.exact.backend import Backend
from ardm.exact.certificate import certify
from ardm.exact.native import library
from ardm.exact.native.compile import compiler
from ardm.exact.native.runner import NativeRunner
from ardm.exact.operations.lattice import Filters, Lattice
from ardm.exact.program import Op
from ardm.exact.reference import Reference
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig
from exactly import Bench, table_of
from waves import renew_library

K, LENGTH = 1 << 16, 120
BANK = Lattice(6, 6, 1 << 24, (K - 1) << 6, (2, 5, 10), (1, 4, 6), (0, 3))


compiled = pytest.fixture(autouse=True, scope="module")(renew_library)


def native(bank, values):
    if compiler() is None:
        pytest.skip("there is no C compiler")
    return library.filtered(bank, values)


def sequences(T=LENGTH, top=K - 1):
    """Random, silence, both extremes, square waves of full scale, alternation, a walk, a sine, and one loud sample."""
    random, t = np.random.default_rng(0), np.arange(T)
    walk = random.normal(0, top / 100, T).cumsum().clip(-top, top)
    rows = [random.integers(-top, top + 1, T), 0 * t, top + 0 * t, -top + 0 * t, np.where(t // 7 % 2, top, -top)]
    rows += [np.where(t % 2, top, -top), walk, top * np.sin(t / 3), np.where(t == T // 2, top, 1)]
    return np.stack(rows).astype(np.int64)


def plainly(bank, values):
    """docs/exact.md, number by number, in Python's integers, with the largest that ever occurs."""
    largest = 0

    def seen(x):
        nonlocal largest
        largest = max(largest, abs(x))
        return x

    def within(x, most):
        return max(-most, min(most, x))

    def share(a, energy):
        by = (energy >> 14) + 1
        return (seen(a * 64) + by // 2) // by

    M, f, E = bank.order, bank.fraction, 1 << 24
    lattices = [
        {"F": [bank.energy] * M, "B": [bank.energy] * M, "k": [0] * M, "l": [0] * M, "b": [0] * M, "g": [1 << 16] * M}
        for _ in bank.rates
    ]
    off = [[1 << f + 14] * len(bank.rates) * len(bank.orders) for _ in bank.paces]
    out = []
    for value in values:
        y, predicted = value << f, []
        for rate, s in zip(bank.rates, lattices, strict=True):
            p = [0]
            for m in range(M):
                p.append(seen(p[m] - (seen(s["k"][m] * s["b"][m]) + (1 << 19) >> 20)))
            predicted += [within(p[order], bank.limit) for order in bank.orders]
            e = [within(y - one, E) for one in p]
            behind, factor = [y], 1 << 16
            for m in range(M):
                front, back = s["g"][m] * e[m] >> 16, s["g"][m] * s["b"][m] >> 16
                s["F"][m] = seen(s["F"][m] + front * e[m] - (s["F"][m] >> rate) + (bank.energy >> rate))
                behind.append(within(s["b"][m] + (seen(s["l"][m] * e[m]) + (1 << 19) >> 20), E))
                s["k"][m] = within(s["k"][m] - share(back * e[m + 1], s["B"][m]), 1 << 24)
                s["l"][m] = within(s["l"][m] - share(front * behind[m + 1], s["F"][m]), 1 << 24)
            for m in range(M):
                s["b"][m], s["g"][m] = behind[m], factor
                part = factor * behind[m] >> 16
                s["B"][m] = seen(s["B"][m] + part * behind[m] - (s["B"][m] >> rate) + (bank.energy >> rate))
                factor = max(64, factor - part * part // ((s["B"][m] >> 16) + 1))
        out.append(predicted + [d >> 8 for deviations in off for d in deviations])
        for pace, deviations in zip(bank.paces, off, strict=True):
            for c, p in enumerate(predicted):
                deviations[c] += seen((abs(y - p) << 8) - deviations[c]) >> pace
    return np.array(out), largest


# --- the filters ------------------------------------------------------------------------------------------------------


@functools.cache
def expected():
    found = [plainly(BANK, row.tolist()) for row in sequences()]
    return np.stack([out for out, _ in found]), max(largest for _, largest in found)


def test_filters_are_their_definition_and_stay_within_64_bits():
    out, largest = expected()
    assert np.array_equal(Filters(BANK, len(out)).run(sequences()), out)
    assert 1 << 50 < largest < 1 << 62  # the loudest sequences come near the limit


def test_native_filters_are_their_definition():
    assert np.array_equal(native(BANK, sequences()), expected()[0])


def test_numbers_lie_within_their_bounds():
    out, (low, high) = expected()[0], BANK.bounds
    assert (out >= low).all()
    assert (out <= high).all()
    assert np.abs(out[..., :9]).max() == BANK.limit


@pytest.mark.parametrize("pieces", [1, 7])
def test_filters_go_on_where_they_stopped(pieces):
    filters, values = Filters(BANK, 2), sequences(49)[:2]
    parts = [filters.run(part) for part in np.split(values, pieces, 1)]
    assert np.array_equal(np.concatenate(parts, 1), Filters(BANK, 2).run(values))


def test_predictions_are_those_of_weighted_least_squares():
    """Of an autoregressive sequence: within a thousandth of what solving the normal equations gives."""
    random, T, rate = np.random.default_rng(1), 700, 6
    x = np.zeros(T)
    for t in range(2, T):
        x[t] = 1.6 * x[t - 1] - 0.8 * x[t - 2] + random.normal(0, 500)
    values = np.rint(x).astype(np.int64)
    bank = dataclasses.replace(BANK, order=4, rates=(rate,), orders=(2, 4), paces=(3,), energy=1 << 16)
    found = Filters(bank, 1).run(values[None])[0, -1, :2] / 2**bank.fraction
    for order, got in zip(bank.orders, found, strict=True):
        past = np.stack([np.concatenate([np.zeros(i), values[:-i]]) for i in range(1, order + 1)], 1)[:-1]
        weight = np.sqrt((1 - 2.0**-rate) ** np.arange(T - 1)[::-1])
        best = np.linalg.lstsq(past * weight[:, None], values[:-1] * weight, rcond=None)[0]
        assert got == pytest.approx(best @ values[-2 : -2 - order : -1], abs=2.0 + 1e-3 * np.abs(values).max())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"order": 65}, "order 65"),
        ({"fraction": 9}, "bits after the point"),
        ({"energy": 1 << 41}, "energy"),
        ({"rates": [0]}, "rates within 1..10"),
        ({"orders": [1, 4]}, "orders within 1..3"),
        ({"paces": []}, "paces within"),
        ({"wave": 0}, "program along wavefronts"),
        ({"channels": 2}, "of one channel"),
    ],
)
def test_settings_are_refused(change, fault):
    program = codec().codec.program
    lists = {role: np.array(change.get(role, [3]), dtype=np.int64) for role in ("rates", "orders", "paces")}
    n = {"order": 3, "fraction": 6, "energy": 1 << 20, **{k: v for k, v in change.items() if isinstance(v, int)}}
    sizes = {name: n.pop(name) for name in ("wave", "channels") if name in n}
    changed = dataclasses.replace(program, tensors={**program.tensors, **lists}, **sizes)
    op = Op("lattice", "bank", ("value",), n, {role: role for role in lists})
    with pytest.raises(ArdmError, match=fault):
        certify(dataclasses.replace(changed, ops=(op, *program.ops[1:])))


# --- ratios and logarithms --------------------------------------------------------------------------------------------


def test_ratios_and_logarithms():
    """Of rows, in NumPy and in every container of PyTorch, against Python's integers."""
    random, table = np.random.default_rng(2), [round(2**16 * 32 * math.log1p(i / 256)) for i in range(256)]
    a = np.concatenate([random.integers(-(1 << 23), 1 << 23, 60), [0, 1, -1, (1 << 23) - 1, -(1 << 23)]])[:, None]
    b = np.concatenate([random.integers(1, 1 << 20, 60), [1, 1, 3, 1, 1]])[:, None]
    ends = (np.array([-(1 << 23)]), np.array([1 << 23]))
    ratio = [[max(-300, min(300, (x << 6) // max(1, y)))] for (x,), (y,) in zip(a.tolist(), b.tolist(), strict=True)]
    found = Bench("ratio", [ends, ends], rows=True, by=6, lo=-300, hi=300)([a, b])
    assert np.array_equal(found, ratio)
    octave = round(2**16 * 32 * math.log(2))
    found = Bench("log", [ends], {"table": table}, rows=True, octave=octave, by=16)([b])
    assert np.abs(found - 32 * np.log(b)).max() < 1.2


# --- programs ---------------------------------------------------------------------------------------------------------


@functools.cache
def bundle():
    """A small model with weights that matter."""
    config = preset("lattice", shape=(40,), classes=K, width=8, blocks=1, components=3)
    model, random = build(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=random) * 0.03)
    return Bundle(model, config, OrderConfig())


def sound(length, seed=0, loud=4000.0):
    """(length,): something like a voice, around the middle."""
    random = np.random.default_rng(seed)
    wave = loud * np.sin(np.arange(length) * 0.21) + random.normal(0, loud / 30, length)
    return (np.rint(wave).clip(-(1 << 15), (1 << 15) - 1).astype(np.int64) + (1 << 15)).astype("<u2")


@functools.cache
def codec():
    items = torch.from_numpy(np.stack([sound(40, k, 10.0 ** (k % 3)) for k in range(24)]).astype(np.int32))
    return export(bundle(), items, Precision(12, 12, 14))


def test_integers_cost_little():
    assert abs(codec().cost.bits_per_dim) < 0.02


RUNNERS = {"native": lambda program: NativeRunner(program, plain=False)} | {
    name: lambda program, name=name: Backend(program, name) for name in ("float32", "int64")
}


@pytest.mark.parametrize("name", RUNNERS)
def test_runners_agree_with_the_reference(name):
    """In sweeps, along walks, and at once; items side by side."""
    if name == "native" and compiler() is None:
        pytest.skip("there is no C compiler")
    program = codec().codec.program
    reference, runner = Reference(program), RUNNERS[name](program)
    items = np.stack([sound(37), sound(37, 1, 3e4), np.full(37, 65535), 65535 * (np.arange(37) // 5 % 2)])
    items = items.astype(np.int64)[:, None, None]
    swept = [dict(rows_of(one, items)) for one in (reference, runner)]
    assert swept[0] == swept[1]
    order = codec().codec.order(0, 1, 37)
    memories = [one.memory(items.shape) for one in (reference, runner)]
    for reveal in list(order)[:12]:
        asks = [Ask(*order.before(reveal.step, items), order.sites(reveal, 4), memory) for memory in memories]
        tables = [table_of(one(ask)) for one, ask in zip((reference, runner), asks, strict=True)]
        assert all(map(np.array_equal, *tables))
    at_once = [table_of(one(Ask(items, np.ones_like(items), order.sites(reveal, 4)))) for one in (reference, runner)]
    assert all(map(np.array_equal, *at_once))


def rows_of(runner, items):
    """The frequencies at all sites, by site."""
    for sites, rows in runner.sweep(items):
        for k in range(len(sites)):
            where = tuple(int(axis[k]) for axis in sites.index)
            yield where, tuple(getattr(rows, part)[k].tobytes() for part in ("weight", "mean", "inverse"))


def test_nothing_depends_on_what_comes_later():
    runner, items = Reference(codec().codec.program), sound(30).astype(np.int64)[None, None, None]
    later = items.copy()
    later[..., 17:] = 12
    one, two = dict(rows_of(runner, items)), dict(rows_of(runner, later))
    same = [one[0, 0, 0, x] == two[0, 0, 0, x] for x in range(30)]
    assert same[:18] == [True] * 18
    assert not any(same[18:])


def test_items_of_several_rows_are_refused():
    with pytest.raises(ArdmError, match="one row"):
        list(Reference(codec().codec.program).sweep(np.zeros((1, 1, 2, 5), dtype=np.int64)))


def test_float_network_is_causal_and_exact():
    """Its likelihood is that of the walk, and the network knows the numbers of the bank as they are."""
    model, x = bundle().model, torch.from_numpy(sound(40).astype(np.int64))[None]
    every = model.nats(x)
    later = x.clone()
    later[:, 21:] = 30000
    assert torch.equal(model.nats(later)[:, :21], every[:, :21])
    prediction = model(model.digits.truncate(x, (torch.arange(40) < 20).long()[None]))
    one = -prediction.log_prob(Sites(torch.tensor([20]), 40), x[:, 20])
    assert one.item() == pytest.approx(every[0, 20].item(), abs=1e-5)


# --- sounds -----------------------------------------------------------------------------------------------------------


def coder():
    model = codec().codec
    run = NativeRunner(model.program) if compiler() else Backend(model.program)
    return SoundCoder(model, model.steps(0), run)


@pytest.mark.parametrize("bits", [0, 1, 8, 15])
def test_spare_bits(bits):
    samples = raised(np.array([[-1, 0, -1]]) + (1 << 15), bits)
    found = spare_bits(samples.astype("<u2"))
    assert found == bits
    assert np.array_equal(raised(raised(samples, -bits), bits), samples)


CONTENTS = {
    "one sample": sound(1)[None],
    "long": sound(700)[None],
    "stereo": np.stack([sound(60), sound(60, 1)]),
    "silence": np.full((1, 60), 1 << 15, dtype="<u2"),
    "extremes": np.where(np.arange(90) % 7 < 3, 0, 65535).astype("<u2")[None],
    "of 8 bits": ((sound(90) >> 8) << 8)[None],
    "nothing": np.zeros((1, 0), dtype="<u2"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_sounds_return(name):
    """As files; and as streams, whichever is shorter."""
    content, mine = Content(Kind.AUDIO, CONTENTS[name][:, None], "wav", rate=8000), coder()
    data, _ = encode.compress(content, mine)
    again = decode.decompress(data, lambda identity, steps: mine)
    assert np.array_equal(again.samples, content.samples)
    if content.samples.size:
        parts = [plane[None] for plane in content.samples]
        (coded,) = mine.encode([parts])
        stream = mine.finish(coded, 77)
        ((found, check),) = mine.decode([(stream, [part.shape for part in parts])])
        assert check == 77
        assert np.array_equal(np.concatenate(found), content.samples)


def test_training_items_have_no_spare_bits():
    clip = torch.from_numpy(raised(np.array([[40, -3, 7, 0, 12]]) + (1 << 15), 8)[0].astype(np.int32))
    found = cut(Clips([clip], 8000, []), "clips", 5, 5, True, drop_spare=True)
    assert (found.items - (1 << 15)).tolist() == [[40, -3, 7, 0, 12]]


def test_spare_bits_cost_half_a_byte_and_save_the_rest():
    mine = coder()
    fine = Content(Kind.AUDIO, raised(sound(400, loud=20.0), 0).astype("<u2")[None, None], rate=8000)
    coarse = dataclasses.replace(fine, samples=raised(fine.samples, 8).astype("<u2"))
    assert mine.measure(coarse) == mine.measure(fine)
