"""Codec models of any order: one order, its schedules, and files of any number of calls (sections 3.1 and 4)."""

import functools
import itertools
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ardm
from ardm import likelihood
from ardm.codec import registry
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.binary import Reader, crc8, deflate, varint
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.sampling import sample
from ardm.codec.steps import MAX_CALLS, MAX_STARTS, pack_steps, read_steps
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.exact.model import NAME, fingerprint, load
from ardm.exact.planned import Planned
from ardm.exact.reference import Reference
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.losscurve import LossCurve
from ardm.orders import OrderConfig
from ardm.plan import Plan, ranked
from ardm.schedule import Schedule, cost
from bundles import exact, smooth, tiny
from by_the_page import Bytes
from exact_by_the_page import Model as Page
from linemodels import bundle as table
from waves import wave_model

QUICK = settings(deadline=None, max_examples=40)
SHAPE = (3, 8, 8)
CURVE = np.stack([np.linspace(3, 1, 192), np.geomspace(2.5, 1, 192)])


@functools.cache
def upscaling():
    """A U-Net of any order over values of two digits, with a loss curve, and its codec model."""
    bundle = replace(
        tiny("unet", SHAPE, order=OrderConfig(), head="digits", base=16, scale=1.8), curve=LossCurve.exact(CURVE)
    )
    items = torch.stack([smooth(*SHAPE, seed) for seed in range(8)]).long()
    return bundle, export(bundle, items, Precision(10, 10)).codec


@functools.cache
def pictures(count=3):
    """Pictures that the codec model likes."""
    return [
        Content(Kind.IMAGE, x, "png") for x in sample(upscaling()[1], count, calls=20, device="cpu").astype(np.uint8)
    ]


def coder(calls=None, model=None):
    return registry.coder(model or upscaling()[1], calls, "float32", "cpu", 1)


def models(*names):
    return registry.maker("float32", "cpu", 1, [*names, upscaling()[1]])


# --- orders and schedules ---------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 3), st.integers(2, 9), st.data())
def test_the_steps_are_those_of_a_coarsened_plan(stages, sites, data):
    ranks = np.array(data.draw(st.permutations(range(sites))))
    curve = -np.sort(-np.random.default_rng(sites).random((stages, sites)))
    calls = data.draw(st.integers(stages, stages * sites))
    planned = Planned.of(ranks.reshape(1, 1, sites), curve, stages, [calls])
    starts = planned.starts(calls)
    plan = ranked(torch.from_numpy(ranks), (1, 1, sites), stages).coarsen(starts)
    assert np.array_equal(planned.when(starts), plan.when[0].numpy())
    best = Schedule.joint(curve, calls)
    found = [[t - s * sites for t in starts if s * sites <= t < (s + 1) * sites] for s in range(stages)]
    assert cost(curve, found) == pytest.approx(cost(curve, best.starts), rel=1e-4), "as cheap as the planner in floats"


def test_without_losses_steps_are_as_even_as_possible():
    planned = Planned.of(np.arange(10).reshape(1, 2, 5), np.array([[np.inf] * 5 + [1.0] * 5] * 2), 2, [5, 20])
    assert planned.starts(5) == (0, 3, 6, 10, 15)
    assert planned.starts(20) == tuple(range(20))
    for calls in (1, 21):
        with pytest.raises(ArdmError, match=f"takes 2 to 20 network calls; got {calls}"):
            planned.starts(calls)


def test_a_codec_model_holds_its_order_its_losses_and_its_usual_schedules(tmp_path):
    _, model = upscaling()
    assert (model.budgets, model.default) == ((20, 50, 100, 384), 50)
    model.save(tmp_path / NAME)
    again = load(tmp_path)
    assert again.identity == model.identity
    assert np.array_equal(again.planned.ranks, model.planned.ranks)
    assert np.allclose(again.planned.curve / (1 << 16), CURVE, atol=1e-5)
    assert again.planned.schedules == model.planned.schedules
    other = replace(model, planned=replace(model.planned, ranks=model.planned.ranks[:, ::-1]))
    assert other.identity != model.identity
    wrong = [{"default": 49}, {"orders": {50: model.order(50, 8, 8).when}}, {"planned": None}]
    for changes in wrong:
        with pytest.raises(ArdmError, match="invalid orders"):
            replace(model, **changes)


# --- files of any number of calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [None, 2, 11])
def test_a_file_of_any_number_of_calls_comes_back(calls):
    """Two calls reveal all first digits, then all second ones."""
    content, made = pictures()[0], coder(calls)
    data, report = compress(content, made)
    (info,) = describe(data)
    assert info.methods == {"coded": 1}
    assert report.calls == info.calls == (calls or 50)
    assert decompress(data, models()) == content
    held = made.calls in upscaling()[1].budgets
    assert isinstance(made.steps, int) == held, "a file names a budget whose schedule the model holds"
    assert info.header_bytes == 9 + len(pack_steps(made.steps))
    assert info.schedule == (() if held else made.steps)


def test_a_schedule_costs_about_a_byte_a_call():
    losses = np.geomspace(6, 1.5, 3072)[None] + np.random.default_rng(0).random((1, 3072)) * 0.01
    planned = Planned.of(np.arange(3072).reshape(3, 32, 32), -np.sort(-losses), 1, [50])
    assert len(pack_steps(50)) == 1
    assert len(pack_steps(planned.starts(37))) <= 44
    assert len(pack_steps(planned.starts(500))) < 400


def test_an_archive_holds_the_schedule_once():
    made, items = coder(11), pictures()
    data, report = compress_archive(items, None, made)
    alone = [compress(item, made)[0] for item in items]
    archive = open_archive(data)
    assert (archive.calls, report.calls) == (11, 11)
    assert list(archive.items(models())) == items
    spared = sum(map(len, alone)) - len(data)
    assert spared > (len(items) - 1) * len(pack_steps(made.steps))
    mixed = [replace(items[0], about={"text": b"x"}), items[1]]
    assert list(open_archive(compress_archive(mixed, ["a", "b"], made)[0]).items(models())) == mixed


def test_bare_files_and_memory(monkeypatch):
    content, (_, model) = pictures()[0], upscaling()
    bare = compress(content, coder(11), bare=True, check=8)[0]
    assert decompress(bare, models(model), bare=True) == content
    monkeypatch.setattr(registry, "machine", lambda m, b="auto", d="auto": Reference(m.program))
    data = ardm.compress(content.samples, model, 5)
    assert np.array_equal(ardm.decompress(data, model).numpy(), content.samples)


def test_a_decoder_written_from_the_pages_reads_it(tmp_path):
    """The schedule by docs/format.md, the walk by docs/exact.md."""
    content, (_, model) = pictures()[1], upscaling()
    model.save(tmp_path / NAME)
    page = Page(tmp_path / NAME)
    assert page.identity == model.identity
    assert page.golden() == model.golden == fingerprint(model, Reference(model.program))
    data, _ = compress(content, coder(4))
    file = Bytes(data)
    assert file.take(6) == bytes([0xAD, 0xD1, 0x89, 0x13, 8, 8])
    assert file.take(2).hex() == model.identity[:4]
    number, unpacked = file.v(), zlib.decompress(file.take(file.v()), -15)
    assert number == 2**20 + 4
    inner = Bytes(unpacked)
    steps = list(itertools.accumulate((inner.v() for _ in range(3)), initial=0))
    assert file.byte() == crc8(data[: file.at - 1])
    samples, check = page.decode(data[file.at :], steps, SHAPE)
    assert np.array_equal(samples, content.samples)
    covered = bytes.fromhex(model.identity) + bytes([0x89, 0x13, 8, 8]) + varint(number) + unpacked
    assert check == zlib.crc32(covered + bytes(16) + content.samples.tobytes())


# --- damage -----------------------------------------------------------------------------------------------------------


def with_steps(data, made, steps):
    """The file with another schedule in its header."""
    old, head = pack_steps(made.steps), data[:8]
    start = head + steps
    return start + bytes([crc8(start)]) + data[8 + len(old) + 1 :]


def packed(number, distances):
    data = deflate(b"".join(map(varint, distances)))
    return varint(MAX_CALLS + number) + varint(len(data)) + data


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (packed(3, [0, 192]), "has a call that reveals nothing"),
        (packed(3, [180, 12, 1]), "bytes follow the end of its schedule|schedule"),
        (packed(4, [180, 12]), "ends in its schedule|schedule"),
        (packed(3, [180, 13]), "begins each of 2 stages of 192 sites with a call"),
        (packed(3, [192, 192]), "ever higher steps below 384"),
        (packed(3, [192, 1 << 60]), "ever higher steps below 384"),
        (packed(1, []), "begins each of 2 stages"),
        (varint(MAX_CALLS), "has 0 network calls"),
        (varint(MAX_CALLS + MAX_STARTS + 1), "has 65537 network calls"),
        (varint((1 << 62) + 5), "network calls"),
        (packed(3, [1] * (1 << 20)), "unpacks to more than 27 bytes"),
        (varint(MAX_CALLS + 3) + varint(1 << 50), "truncated"),
        (varint(MAX_CALLS + 3) + varint(2) + b"\xff\xff", "cannot be unpacked"),
    ],
)
def test_a_schedule_that_is_none_is_one_clear_error(steps, said):
    made = coder(11)
    data, _ = compress(pictures()[0], made)
    with pytest.raises(CodecError, match=said):
        decompress(with_steps(data, made, steps), models())


def test_another_schedule_or_model_is_damage():
    """Every check covers the schedule, and the schedule is a part of its model."""
    made = coder(11)
    data, _ = compress(pictures()[0], made)
    other = list(made.steps)
    other[5] += 1
    assert other[5] < other[6]
    with pytest.raises(CodecError):
        decompress(with_steps(data, made, pack_steps(tuple(other))), models())
    for at in range(8, 8 + len(pack_steps(made.steps))):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(CodecError):
            decompress(bytes(damaged), models())
    for another, said in (
        (wave_model(), "along wavefronts"),
        (exact(trunk="unet", head="values"), "in steps of its own"),
    ):
        with pytest.raises(ArdmError, match=said):
            another.order(made.steps, 8, 8)
    with pytest.raises(ArdmError, match="takes 2 to 384 network calls; got 385"):
        coder(385)
    with pytest.raises(ArdmError, match="at most 65536 network calls"):
        pack_steps(tuple(range(MAX_STARTS + 1)))


@QUICK
@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_steps_or_refused(data):
    """What is read is written as the same steps again."""
    try:
        steps = read_steps(Reader.open(data))
    except CodecError:
        return
    assert read_steps(Reader.open(pack_steps(steps))) == steps


# --- previews ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [20, 11])
def test_a_preview_reads_the_front_of_a_file(calls):
    """Its values are in the middle of those that begin with the same digits, and the end of the file may be missing."""
    content = pictures()[0]
    data, _ = compress(content, coder(calls))
    half = content.samples // 16 * 16 + 8
    assert np.array_equal(decompress(data, models(), digits=1).samples, half)
    front = data[: len(data) - 12]
    with pytest.raises(CodecError):
        decompress(front, models())
    assert np.array_equal(decompress(front, models(), digits=1).samples, half)


def test_a_preview_of_tiles_reads_all_but_the_last():
    x = np.concatenate([content.samples for content in pictures(2)], axis=2)[:, :, :13]
    content = Content(Kind.IMAGE, x, "png")
    data, _ = compress(content, coder(11))
    assert describe(data)[0].methods == {"coded": 1}
    assert np.array_equal(decompress(data, models(), digits=1).samples, x // 16 * 16 + 8)


def test_what_has_no_preview_is_refused_in_one_line():
    content, noise = pictures()[0], Content(Kind.IMAGE, np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8))
    data, stored = compress(content, coder(20))[0], compress(noise)[0]
    with pytest.raises(ArdmError, match="codes 2 digits a value; a preview reads 1 to 1, got 2"):
        decompress(data, models(), digits=2)
    with pytest.raises(ArdmError, match="no model coded this file"):
        decompress(stored, models(), digits=1)
    whole = registry.coder("pictures")
    smooth_ = Content(Kind.IMAGE, smooth(3, 16, 16).numpy())
    coded, _ = compress(smooth_, whole)
    with pytest.raises(ArdmError, match="codes values whole, in one digit"):
        decompress(coded, lambda identity, steps: whole, digits=1)


# --- C17: streams as long as the bound says ---------------------------------------------------------------------------


def test_streams_are_as_long_as_the_float_model_says():
    """Along the same plan, alone and together; the rounding of frequencies costs next to nothing."""
    bundle, model = upscaling()
    x = torch.from_numpy(np.stack([content.samples for content in pictures()])).long()
    for calls in (8, 50):
        made = coder(calls)
        plan = Plan(torch.from_numpy(model.order(made.steps, 8, 8).when)[None])
        nats = likelihood.exact(bundle.model, plan, x).nats
        bits = [part.bits for (part,) in made.encode([[c.samples] for c in pictures()])]
        assert np.allclose(bits, nats / math.log(2), atol=0.01 * 192)
        alone = [compress(content, made) for content in pictures()]
        for (data, report), own in zip(alone, bits, strict=True):
            assert report.bits == own
            assert own + 32 <= 8 * (len(data) - report.header_bytes) <= own + 42, "4 to 5.2 bytes above, with the check"
        _, together = compress_archive(pictures(), None, made)
        assert together.bits == pytest.approx(sum(bits))


def test_the_mean_over_all_orders_is_the_bound_of_the_policy():
    """Σ width · L_t, with the losses L_t of the integers by enumeration of what may be known: a table of four columns."""
    bundle = table("classic", 1.0, columns=(3, 2, 5))
    D = 3
    rows = np.array(list(itertools.product(range(3), range(2), range(5))))[::4]
    codec = export(bundle, torch.from_numpy(rows), Precision(10, 10)).codec
    run, steps = Reference(codec.program), list(itertools.permutations(range(D)))

    def bits(order, starts):
        ranks = np.array(order).reshape(1, 1, D)
        planned = Planned(ranks, np.zeros((1, D), dtype=np.int64), {3: (0, 1, 2)})
        made = registry.ModelCoder(replace(codec, orders={}, planned=planned, default=3), starts, run, 1)
        (coded,) = made.encode([[rows[None].astype(np.uint8)]])
        return coded[0].bits / len(rows)

    every = {starts: np.mean([bits(order, starts) for order in steps]) for starts in ((0, 1, 2), (0, 1), (0, 2), (0,))}
    first = every[(0,)] / D  # L_0
    second = (every[(0, 1)] - first) / 2  # L_1, in which one call reveals two symbols
    assert every[(0, 2)] == pytest.approx(2 * first + (every[(0, 1, 2)] - first - second), rel=1e-9)
    floats = [
        likelihood.exact(bundle.model, ranked(torch.tensor(order), (D,)).coarsen([0, 1]), torch.from_numpy(rows))
        for order in steps
    ]
    assert every[(0, 1)] == pytest.approx(np.mean([f.nats.mean() for f in floats]) / math.log(2), abs=0.02 * D)
