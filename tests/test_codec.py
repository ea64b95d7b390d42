"""The codec: what is decoded is what was encoded, at the price that the model says; and no bytes whatever do harm."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ardm import ans, bundle, codec, container
from ardm import plan as plans
from ardm.bundle import Bundle
from ardm.codec import Decode, Encode, compress, decompress, pack, unpack
from ardm.container import Header, Method, Reader, read_header
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError, CodecError
from ardm.heads import MixtureHead
from ardm.model import Model
from ardm.orders import OrderConfig
from ardm.source import Draw
from ardm.walk import last, score, walk
from bundles import BAYER, by_formula, liked, noise, smooth, tiny
from test_walk import ALPHABETS, CASES, KINDS, every_kind
from toys import generator, some_data, toy

LN2 = math.log(2)
SLOW = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))


@pytest.fixture
def coded(monkeypatch):
    """The model is never found to be of no use: random networks lose to deflate on most images."""
    monkeypatch.setattr(codec, "store", lambda x: (Method.RAW, bytes(1 << 20)))


def encoded(model, plan, x, start=None):
    source, start = Encode(), start or model.digits.blank(len(x), x.shape[1:])
    last(walk(model, plan, source, start, truth=x), start)
    return source


def decoded(model, plan, data, start):
    source = Decode(data)
    return last(walk(model, plan, source, start), start).value, source.finish()


def both_ways(model, plan, x, start=None):
    source = encoded(model, plan, x, start)
    start = start or model.digits.blank(len(x), x.shape[1:])
    y, crc = decoded(model, plan, source.finish(0xDEADBEEF), start)
    assert torch.equal(x, y)
    assert crc == 0xDEADBEEF
    return source


# --- the two sources --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_the_four_sources_agree(head, alphabet, kind):
    """What chance draws scores nats, encodes to that many bits and a checksum, and decodes to itself."""
    if kind == "absorbing" and len(alphabet) > 1:
        return
    model, B, D = toy(alphabet, (5,), head), 12, 5
    plan = every_kind(alphabet, D, B)[kind]
    start = model.digits.blank(B, (D,))
    x = last(walk(model, plan, Draw(generator(1)), start), start).value
    nats = float(score(model, plan, x).sum())
    source = both_ways(model, plan, x)
    assert 8 * len(source.finish(0)) <= nats / LN2 * 1.001 + 41
    assert abs(source.bits - nats / LN2) <= 0.001 * nats / LN2 + 0.5


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_what_is_given_costs_nothing_and_stays(alphabet):
    model, x = toy(alphabet, (2, 3)), some_data(alphabet, (2, 3))
    depth = torch.randint(len(alphabet) + 1, (1, 2, 3), generator=generator(2)).expand_as(x)
    plan = plans.shuffled(len(alphabet), (2, 3), generator(3)).given(depth[:1])
    both_ways(model, plan, x, model.digits.truncate(x, depth))
    everything = plans.raster(len(alphabet), (2, 3)).given(torch.full((1, 2, 3), len(alphabet)))
    source = both_ways(model, everything, x, Partial(x, torch.full_like(x, len(alphabet))))
    assert source.bits == 0
    assert len(source.finish(0)) == 5


def test_random_bits_decode_to_samples():
    """Frequencies of what random bytes decode to are exp(−score): all 27 items, 6,000 draws from one stream."""
    alphabet, B = Digits(3, 3), 6000
    model, plan = toy(alphabet, (3,)), plans.shuffled(1, (3,), generator(4))
    stream = random.Random(5).randbytes(B) + b"\x7f"
    start = model.digits.blank(B, (3,))
    x = last(walk(model, plan, Decode(stream), start), start).value
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    p = score(model, plan, every).neg().exp()
    seen = torch.bincount(x @ torch.tensor([9, 3, 1]), minlength=27).double()
    wanted = p * B
    likely = wanted > 5
    chi2 = ((seen - wanted)[likely].square() / wanted[likely]).sum()
    assert likely.sum() > 8
    assert chi2 < 27 + 5 * math.sqrt(2 * 27)


def test_random_bits_of_a_confident_plan_too():
    alphabet, B = Digits(3, 3), 4000
    model, plan = toy(alphabet, (2,), seed=3), plans.Confident((0, 1), 2)
    start = model.digits.blank(B, (2,))
    x = last(walk(model, plan, Decode(random.Random(6).randbytes(B) + b"\1"), start), start).value
    p = score(model, plan, torch.cartesian_prod(torch.arange(3), torch.arange(3))).neg().exp()
    seen = torch.bincount(x @ torch.tensor([3, 1]), minlength=9).double() / B
    assert (seen - p).abs().max() < 0.04


def test_encoding_needs_data_and_refuses_the_impossible():
    source = Encode()
    with pytest.raises(ArdmError, match="truth"):
        source(torch.zeros(1, 2), torch.zeros(1).long(), None)
    with pytest.raises(ArdmError, match="symbol 1 cannot be coded"):
        source(torch.tensor([[0.0, -math.inf]]), torch.zeros(1).long(), torch.tensor([1]))
    assert len(source.finish()) == 5


def test_streams_of_several_sources_follow_each_other():
    model, plan = toy(Digits(4, 2), (3,)), plans.raster(2, (3,))
    a, b = (some_data(Digits(4, 2), (3,), seed=s) for s in (1, 2))
    encoder = ans.Encoder()
    for x in (a, b):
        encoded(model, plan, x).onto(encoder)
    source, start = Decode(encoder.finish(7)), model.digits.blank(3, (3,))
    for x in (a, b):
        assert torch.equal(last(walk(model, plan, source, start), start).value, x)
    assert source.finish() == 7


# --- images of any size -----------------------------------------------------------------------------------------------

MODELS = {
    "local mixture": {},
    "local values": {"head": "values"},
    "local digits of base 16": {"head": "digits", "base": 16},
    "local mixture of base 4": {"base": 4, "calls": (8,)},
    "unet mixture": {"trunk": "unet"},
    "unet values of base 16": {"trunk": "unet", "head": "values", "base": 16},
    "unet with attention, levels and time": {
        "trunk": "unet",
        "levels": 2,
        "attention": "middle",
        "time": True,
        "embedding": 2,
    },
    "any order": {"trunk": "unet", "order": OrderConfig(), "shape": (3, 4, 4)},
    "any order, local, base 4": {"order": OrderConfig(), "base": 4, "head": "digits"},
    "grey": {"shape": (1, 8, 8)},
    "two channels": {"shape": (2, 8, 8)},
    "raster of 8 in 20": {"order": OrderConfig("raster", (20,), cell=8), "trunk": "unet"},
}


def model(name):
    return tiny(**{k: v for k, v in MODELS[name].items() if k != "calls"})


def image_both_ways(x, model, calls=None):
    data, report = pack(x, model, calls)
    y, header = unpack(data, model)
    assert y.dtype == torch.uint8
    assert torch.equal(x.to(torch.uint8), y)
    assert report.shape == tuple(x.shape) == header.shape
    assert report.file_bytes == len(data)
    return data, report, header


@pytest.mark.parametrize("name", MODELS)
def test_images_of_several_sizes(name, coded):
    for seed, (h, w) in enumerate([(8, 8), (1, 1), (11, 5)]):
        data, report, header = image_both_ways(smooth(model(name).config.shape[0], h, w, seed), model(name))
        assert header.numerics == 1
        assert header.methods == ()
        assert 8 * len(data) <= report.bits + 41 + 8 * report.header_bytes
        assert report.header_bytes <= 16


def test_in_one_call_each():
    x = smooth(3, 8, 8)
    assert torch.equal(decompress(compress(x, tiny(), 8), tiny()), x)


@SLOW
@given(
    st.sampled_from(["local mixture", "unet values of base 16", "grey"]),
    st.integers(1, 40),
    st.integers(1, 37),
    st.integers(1, 5),
    st.integers(0, 9),
    st.sampled_from([None, 6, 10, 16]),
)
def test_images_of_any_kind(name, height, width, channels, seed, calls):
    """As they come: coded or stored, whichever is shorter; grey, RGB, with alpha, or more."""
    x = (smooth if seed % 2 else noise)(channels, height, width, seed=seed)
    data, _, _ = image_both_ways(x, model(name), calls)
    assert len(data) <= x.numel() + 40


@SLOW
@given(st.integers(1, 40), st.integers(1, 37), st.sampled_from(["local digits of base 16", "local values"]))
def test_coded_images_of_any_size(height, width, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "store", lambda x: (Method.RAW, bytes(1 << 20)))
        _, _, header = image_both_ways(smooth(3, height, width), model(name))
    assert header.numerics == 1


def count(monkeypatch):
    """Everything that the coder is given, symbol by symbol."""
    pushed, push = [], ans.Encoder.push

    def counting(self, start, width):
        pushed.append(len(start))
        push(self, start, width)

    monkeypatch.setattr(ans.Encoder, "push", counting)
    return pushed


@pytest.mark.parametrize("name", ["local mixture", "unet mixture"])
def test_what_lies_outside_costs_nothing(name, coded, monkeypatch):
    pushed = count(monkeypatch)
    pack(smooth(3, 13, 21), model(name))
    assert sum(pushed) == 3 * 13 * 21


@pytest.mark.parametrize(("channels", "planes"), [(1, 3), (2, 3), (4, 3), (3, 1), (3, 2), (5, 2)])
def test_other_channels_than_the_model_has(channels, planes, coded, monkeypatch):
    """Groups of planes, then plane after plane in the leading channel: nothing is coded twice."""
    bundle = tiny(shape=(planes, 8, 8))
    pushed = count(monkeypatch)
    image_both_ways(smooth(channels, 9, 10), bundle)
    assert sum(pushed) == channels * 90


def test_the_leading_channel_codes_what_is_left_over(coded):
    """The plane of a grey image is walked where the order leads, and costs what `score` says it costs."""
    bundle, x = tiny(order=OrderConfig("bayer", (8,), cell=4, lead=2)), smooth(1, 8, 8)
    _, report, _ = image_both_ways(x, bundle)
    lot = next(codec.tiling(bundle).lots(1, 8, 8))
    assert lot.channels == slice(2, 3)
    item = torch.zeros(1, 3, 8, 8, dtype=torch.long)
    item[0, 2] = x[0]
    nats = score(codec.FLOAT64.network(bundle), lot.plan, item)
    assert abs(float(nats) / LN2 - report.bits) < 0.002 * report.bits + 1


def test_large_images_are_walked_in_tiles_of_whole_cells(coded, monkeypatch):
    monkeypatch.setattr(codec, "TILE", 18)  # cells of 4: tiles of 16
    x, bundle = smooth(3, 35, 33), tiny()
    boxes = [box for lot in codec.tiling(bundle).boxes(35, 33) for box in lot]
    assert boxes[0] == (0, 0, 16, 16)
    assert boxes[-1] == (32, 32, 3, 1)
    assert sum(h * w for _, _, h, w in boxes) == 35 * 33
    image_both_ways(x, bundle)


def test_tiles_shrink_where_a_step_would_ask_too_much(coded, monkeypatch):
    bundle = tiny()
    assert codec.tiling(bundle).side() == 180  # isqrt(2^14 / 8) = 45 cells of 4: 8 pixels of a cell in a step
    assert codec.tiling(bundle, 3).side() < codec.tiling(bundle, 18).side() <= codec.TILE
    assert codec.tiling(tiny(order=OrderConfig("bayer", (8,), cell=512))).side() == 512
    monkeypatch.setattr(codec, "ASKED", 8)
    assert codec.tiling(bundle).side() == 4


def test_networks_are_asked_in_chunks(coded, monkeypatch):
    x = smooth(3, 20, 20)
    whole = compress(x, tiny())
    monkeypatch.setattr(codec, "CHUNK", 7)
    assert decompress(whole, tiny()).equal(x)
    assert codec.FLOAT64.network(tiny()).digits == tiny().model.digits


def test_batches_of_tiles_are_bounded(coded, monkeypatch):
    monkeypatch.setattr(codec, "BATCH", 3)
    lots = list(codec.tiling(model("unet mixture")).lots(3, 20, 30))
    assert [len(lot.boxes) for lot in lots] == [3, 3, 3, 3]
    image_both_ways(smooth(3, 20, 30), model("unet mixture"))
    big = replace(tiny(trunk="unet").config, shape=(3, 64, 64), width=512, blocks=16)
    assert [len(b) for b in codec.Tiling(replace(tiny(), config=big), BAYER, 8, codec.FLOAT64).boxes(64, 128)] == [1, 1]


def test_steps_without_symbols_are_left_out(coded):
    calls = []
    bundle = tiny(order=OrderConfig("bayer", (18,), cell=4))
    network = codec.FLOAT64.network(bundle)
    codec._networks[bundle.identity] = Counting(network, calls)
    try:
        compress(smooth(3, 1, 2), bundle)
    finally:
        codec._networks.pop(bundle.identity)
    assert len(calls) == 6  # two pixels far apart in the order, three channels one after the other


class Counting:
    def __init__(self, model, calls):
        self.model, self.calls, self.digits = model, calls, model.digits

    def __call__(self, state, context=None):
        self.calls.append(1)
        return self.model(state, context)


def test_fewer_calls_are_noted(coded):
    x = smooth(3, 8, 8)
    for calls in (3, 5, 18):
        _, report, header = image_both_ways(x, tiny(), calls)
        assert report.calls == header.calls == calls
    for calls in (2, 19, 10**6):
        with pytest.raises(ArdmError, match=f"3 to 18 calls.*got {calls}"):
            compress(x, tiny(), calls)


def test_any_order_models_code_along_a_bayer_order(coded):
    _, _, header = image_both_ways(smooth(3, 8, 8), model("any order"), 12)
    assert header.bayer
    assert header.calls == 12
    _, _, header = image_both_ways(smooth(3, 8, 8), model("any order, local, base 4"))
    assert header.calls == 48  # the nearest to 50 that four stages can share
    small = tiny(trunk="unet", order=OrderConfig(), shape=(1, 3, 3))
    assert codec.tiling(small, bayer=True).calls == 16  # all pixels of a cell of 4
    assert not image_both_ways(smooth(3, 8, 8), tiny())[2].bayer


def test_values_of_more_than_a_byte(coded):
    bundle = tiny(classes=1000)
    x = noise(3, 5, 4, classes=1000)
    y = decompress(compress(x, bundle), bundle)
    assert y.dtype == torch.int64
    assert torch.equal(x, y)


def test_values_of_more_than_a_byte_stored():
    bundle = tiny(classes=1000)
    for x in (noise(2, 5, 4, classes=1000), torch.full((2, 5, 4), 999)):
        data = compress(x, bundle)
        assert len(data) <= 2 * x.numel() + 40
        assert torch.equal(decompress(data), x)


def test_few_classes():
    bundle = tiny(classes=2, shape=(1, 8, 8), order=OrderConfig("checkerboard", (6,), cell=4))
    x = noise(1, 9, 9, classes=2)
    assert torch.equal(decompress(compress(x, bundle), bundle), x)


@pytest.mark.parametrize("x", [
    torch.zeros(8, 8).long(), torch.zeros(3, 0, 8).long(), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).bool(),
    torch.zeros(16, 2, 2).long(), torch.full((3, 8, 8), 256), torch.full((3, 8, 8), -1), np.zeros((3, 8, 8), int), [[[1]]],
], ids=str)  # fmt: skip
def test_what_is_no_image_is_refused(x):
    with pytest.raises(ArdmError, match=r"image|values") as error:
        compress(x, tiny())
    assert "\n" not in str(error.value)


# --- stored, where that is shorter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 2), (3, 32, 32), (4, 9, 7), (1, 40, 37), (15, 3, 3)])
def test_noise_never_grows_by_much(shape):
    x = noise(*shape)
    data, report, header = image_both_ways(x, tiny(scale=3.0))
    assert len(data) <= x.numel() + 20
    assert report.stored
    assert header.model == ""
    assert torch.equal(decompress(data), x)  # without a model


def test_flat_images_cost_nearly_nothing(monkeypatch):
    monkeypatch.setattr(codec, "_encode", None)  # and no time
    x = torch.tensor([10, 20, 30]).view(3, 1, 1).expand(3, 300, 200).to(torch.uint8)
    data, _, header = image_both_ways(x, tiny())
    assert len(data) <= 21
    assert header.methods == (Method.CONSTANT,)


def test_patterns_are_deflated():
    x = noise(3, 1, 40).expand(3, 30, 40)
    data, _, header = image_both_ways(x, tiny())
    assert len(data) < 400
    assert header.methods == (Method.DEFLATE,)


def test_an_alpha_plane_that_is_flat_costs_nearly_nothing():
    kind = (("head", "values"), ("scale", 2.0))
    bundle, rgb = tiny(**dict(kind)), liked(kind, 24, 24)
    alone, report, _ = image_both_ways(rgb, bundle)
    assert not report.stored
    both, _, header = image_both_ways(torch.cat([rgb, torch.full((1, 24, 24), 255, dtype=torch.uint8)]), bundle)
    assert header.methods == (Method.CODED, Method.CONSTANT)
    assert len(both) <= len(alone) + 3


def test_each_part_is_held_in_the_shorter_way():
    kind = (("head", "values"), ("scale", 2.0))
    bundle, rgb = tiny(**dict(kind)), liked(kind, 24, 24)
    shape = torch.zeros(1, 24, 24, dtype=torch.uint8)
    shape[:, 4:20, 5:11] = 255
    _, _, header = image_both_ways(torch.cat([rgb, shape]), bundle)
    assert header.methods == (Method.CODED, Method.DEFLATE)
    data, _, header = image_both_ways(torch.cat([noise(3, 24, 24), rgb]), bundle)
    assert header.methods == (Method.RAW,)  # trailing parts that are coded need no method
    assert len(data) <= 2 * 24 * 24 * 3


def test_a_model_that_fits_beats_storing():
    kind = (("head", "values"), ("scale", 2.0))
    x = liked(kind, 32, 32)
    data, report, _ = image_both_ways(x, tiny(**dict(kind)))
    assert report.ratio == x.numel() / len(data) > 1.05
    assert report.bits_per_dim == 8 * len(data) / x.numel() < 7.7


# --- the price --------------------------------------------------------------------------------------------------------


def test_header_checksum_and_flush_take_twenty_bytes():
    kind = (("head", "values"), ("scale", 2.0))
    for seed in range(5):
        _, report, _ = image_both_ways(liked(kind, 32, 32, seed), tiny(**dict(kind)))
        assert not report.stored
        assert report.header_bytes == 15
        assert report.file_bytes - report.bits / 8 <= 15 + 41 / 8


def test_bits_as_coded_are_those_of_the_model():
    kind = (("head", "values"), ("scale", 2.0))
    bundle, x = tiny(**dict(kind)), liked(kind, 32, 32)
    _, report, _ = image_both_ways(x, bundle)
    nats = float(score(codec.FLOAT64.network(bundle), codec.tiling(bundle).plan((3, 32, 32)), x.long()[None]))
    assert abs(report.bits - nats / LN2) < 0.001 * nats / LN2
    assert 8 * report.file_bytes <= nats / LN2 * 1.001 + 40 + 8 * report.header_bytes


@pytest.mark.parametrize("classes", [2, 7, 256, 1000])
def test_a_mixture_by_its_edges_has_the_same_frequencies(classes):
    """Of means near and far, and scales small and large; the gain is time alone."""
    head = by_formula(MixtureHead(Digits(classes, classes), 8, 3).double(), scale=3.0)
    features = (
        torch.randn(500, 8, generator=generator(3)).double(),
        torch.randn(500, generator=generator(4)).double(),
        torch.full((500,), 0.1).double(),
    )
    start = torch.zeros(500, dtype=torch.long)
    ours, theirs = (codec._rounded(h.logits(features, start, start)) for h in (codec._Edges(head), head))
    assert np.abs(ours - theirs).max() <= ans.TOTAL * 0.04  # a logit between two steps of the grid may fall to either
    assert (ours == theirs).mean() > 0.999


def test_later_digits_of_a_mixture_are_not_taken_from_its_cdf():
    """A block of mass 1e-20 still has its own distribution of the next digit."""
    several, one = (codec.FLOAT64.network(tiny(base=b))._model.head for b in (4, 0))
    assert isinstance(several, MixtureHead)
    assert isinstance(one, codec._Edges)


# --- the same bytes ---------------------------------------------------------------------------------------------------

GOLDEN = {
    "local mixture": "8941444d0001030504fedcba980856d3762341d39ee14122c3a4d95ba3d922580957042190f84024c655996437123d1000003d48"
    "4104588312004914cc1b625000007c24000050140000c11e01",
    "local digits of base 16": "8941444d0001030504fedcba98101edf6cdc433fd864082ff4177c1d656be504aa4a76e84f03ec21680083fe70b0"
    "68249e15b241a700aaa3751bce7a3902f8e66929975d070c847669a49a32460920cbd736d607d30df890abd801",
    "unet mixture": "8941444d0001030504fedcba980856acde81526ce59d6b6343e7b1edcab1f8900af062d0fc31673aa68f949a535d78cdcb6ec"
    "1343a0ab49d1bc20a",
}


def golden_image():
    y, x = torch.meshgrid(torch.arange(5), torch.arange(4), indexing="ij")
    return torch.stack([(y * x + 20 * c + 3 * y * y) % 256 for c in range(3)]).to(torch.uint8)


def fixed(name):
    """A model whose identity does not change with new settings that it leaves alone."""
    made = replace(model(name))
    made.__dict__["identity"] = "fedcba9876543210"
    codec._networks.pop(made.identity, None)
    return made


@pytest.mark.parametrize("name", ["local mixture", "local digits of base 16", "unet mixture"])
def test_golden_bytes(name, coded):
    """A change of these bytes is a change of the format, or of the network's arithmetic."""
    data = compress(golden_image(), fixed(name))
    assert data.hex() == GOLDEN[name]
    assert torch.equal(decompress(bytes.fromhex(GOLDEN[name]), fixed(name)), golden_image())


def test_golden_bytes_of_what_is_stored():
    """Written by hand: header, samples, and the state 2^32 + CRC-32; deflate in one stored block."""
    flat = "8941444d 00 04 03 05 04 03 73 010203 dc0c5643 01"
    raw = "8941444d 00 04 01 01 03 01 91 070809 df9ee251 01"
    deflated = "8941444d 00 04 01 01 03 02 98 08 01 0300 fcff 070809 522d4234 01"
    assert compress(torch.tensor([1, 2, 3]).view(3, 1, 1).expand(3, 5, 4), tiny()).hex() == flat.replace(" ", "")
    assert compress(torch.tensor([[[7, 8, 9]]]), tiny()).hex() == raw.replace(" ", "")
    for text in (raw, deflated):
        assert decompress(bytes.fromhex(text)).tolist() == [[[7, 8, 9]]]


def test_the_same_bytes_after_saving_and_loading(tmp_path, coded):
    x, made = smooth(3, 9, 10), model("unet mixture")
    loaded = bundle.load(made.save(tmp_path / "model"))
    assert loaded.model is not made.model
    codec._networks.clear()
    first = compress(x, made)
    codec._networks.clear()
    assert compress(x, tmp_path / "model") == first
    codec._networks.clear()
    assert torch.equal(decompress(first, str(tmp_path / "model")), x)


def test_weights_of_more_than_float32_are_rounded_as_saving_rounds_them(tmp_path, coded):
    made = tiny()
    fine = Bundle(by_formula(bundle.build(made.config)).double(), made.config, made.order)
    with torch.no_grad():
        for p in fine.model.parameters():
            p.mul_(1 + 1e-12)
    codec._networks.clear()
    first = compress(smooth(3, 8, 8), fine)
    codec._networks.clear()
    assert torch.equal(decompress(first, fine.save(tmp_path / "model")), smooth(3, 8, 8))
    codec._networks.clear()
    for mine, its in zip(fine.model.parameters(), codec.FLOAT64.network(fine)._model.parameters(), strict=True):
        assert torch.equal(mine.float().double(), its)
        assert not torch.equal(mine, its)  # the caller's model is left as it was


@pytest.mark.parametrize("name", ["local mixture", "unet with attention, levels and time"])
def test_one_thread_or_two(name, coded):
    """Not promised of floats, but so it is for small networks on the machines at hand."""
    x, threads = smooth(3, 6, 6), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = compress(x, model(name), 6)
        torch.set_num_threads(2)
        assert torch.equal(decompress(one, model(name)), x)
    finally:
        torch.set_num_threads(threads)


def test_what_the_caller_has_set_makes_no_difference(coded, monkeypatch):
    x, name, seen = smooth(3, 8, 8), "local digits of base 16", set()
    plain, forward = compress(x, model(name)), Model.forward

    def watched(self, state, context=None):
        seen.add((torch.get_default_dtype(), torch.is_inference_mode_enabled()))
        return forward(self, state, context)

    monkeypatch.setattr(Model, "forward", watched)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert compress(x, model(name)) == plain
        assert torch.get_default_dtype() == torch.float64
        y = decompress(plain, model(name))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(x, y)
    assert seen == {(torch.float32, True)}
    assert not y.is_inference()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_default_dtype_is_put_back_after_an_error(coded):
    data = compress(smooth(3, 8, 8), tiny())
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(CodecError):
            decompress(data[:-30], tiny())
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_networks_are_kept_a_few_at_a_time():
    codec._networks.clear()
    for seed in range(6):
        codec.FLOAT64.network(tiny(scale=1.0 + seed))
    assert len(codec._networks) == 4
    assert codec.FLOAT64.network(tiny(scale=6.0)) is codec.FLOAT64.network(tiny(scale=6.0))


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_file_names_its_model(coded):
    data = compress(smooth(3, 8, 8), tiny())
    other = tiny(scale=1.1)
    with pytest.raises(
        CodecError, match=rf"made by model {tiny().identity[:8]}, not by tiny local \({other.identity[:8]}\)"
    ):
        decompress(data, other)
    with pytest.raises(
        CodecError, match=rf"made by model {tiny().identity[:8]}, which is not here \(bundled: .*\); name its folder"
    ):
        decompress(data)
    with pytest.raises(ArdmError, match="there is no model 'nowhere'"):
        decompress(data, "nowhere")


def test_bundled_models_are_found_by_identity(tmp_path, coded, monkeypatch):
    shelf = {"one": tiny(), "two": tiny(scale=1.1), codec.DEFAULT_MODEL: tiny(scale=1.2)}
    loads = []

    def load(name):
        loads.append(name)
        return shelf[name]

    monkeypatch.setattr(codec, "bundled", lambda: sorted(shelf))
    monkeypatch.setattr(codec, "load", load)
    codec._shipped.cache_clear()
    x = smooth(3, 8, 8)
    try:
        for name in shelf:
            assert torch.equal(decompress(compress(x, name)), x)
        assert torch.equal(decompress(compress(x)), x)
        assert sorted(loads) == sorted(shelf)  # once each
        with pytest.raises(
            CodecError, match=rf"bundled: cifar10-codec \({shelf[codec.DEFAULT_MODEL].identity[:8]}\), one"
        ):
            decompress(compress(x, tiny(scale=1.3)))
    finally:
        codec._shipped.cache_clear()


def test_unknown_numerics_are_refused():
    header = Header(3, 8, 8, numerics=2, model="01234567", calls=8)
    with pytest.raises(CodecError, match="numerics 2"):
        decompress(header.write() + bytes(9), tiny())


# --- hostile bytes ----------------------------------------------------------------------------------------------------


def harmless(data, model, original):
    """An error, or, if damage is not damage, the image; never another image."""
    try:
        x = decompress(data, model)
    except CodecError as error:
        return one_line(error)
    assert torch.equal(x, original)
    return "intact"


def one_line(error):
    assert "\n" not in str(error)
    return str(error)


@pytest.fixture(scope="module")
def samples():
    """A coded file, a deflated one, a raw one, a flat one, and one of parts; in three calls, to be quick."""
    kind = (("head", "values"), ("scale", 2.0), ("order", OrderConfig("bayer", (3,), cell=4)))
    bundle, rgb = tiny(**dict(kind)), liked(kind, 4, 4)
    images = {
        "coded": rgb, "raw": noise(3, 2, 3), "deflated": noise(1, 1, 6).expand(1, 9, 6), "flat": noise(4, 1, 1).expand(4, 5, 200),
        "parts": torch.cat([rgb, (torch.arange(2000) // 1000 % 2).view(1, 500, 4)[:, 248:252].to(torch.uint8)]),
    }  # fmt: skip
    files = {name: (compress(x, bundle), x) for name, x in images.items()}
    methods = {name: read_header(Reader(data)).methods for name, (data, _) in files.items()}
    assert methods == {
        "coded": (), "raw": (Method.RAW,), "deflated": (Method.DEFLATE,), "flat": (Method.CONSTANT,),
        "parts": (Method.CODED, Method.DEFLATE),
    }  # fmt: skip
    return bundle, files


NAMES = ["coded", "raw", "deflated", "flat", "parts"]


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(samples, name):
    bundle, files = samples
    data, x = files[name]
    for at in range(len(data)):
        for bit in (0, 4, 7):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            assert harmless(bytes(broken), bundle, x) != "intact", (at, bit)


def test_damaged_headers_are_found_before_any_work(samples, monkeypatch):
    """A size with one bit more would otherwise be decoded for hours."""
    bundle, files = samples
    monkeypatch.setattr(codec, "_decoded", None)
    for data, x in files.values():
        length = len(read_header(Reader(data)).write())
        for at in range(length):
            for bit in range(8):
                broken = bytearray(data)
                broken[at] ^= 1 << bit
                assert harmless(bytes(broken), bundle, x) != "intact"


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_is_found(samples, name):
    bundle, files = samples
    data, x = files[name]
    chance = random.Random(8)
    for _ in range(40):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] ^= chance.randrange(1, 256)
        assert harmless(bytes(broken), bundle, x) != "intact"


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_and_extension_is_found(samples, name):
    bundle, files = samples
    data, x = files[name]
    for length in range(len(data)):
        assert harmless(data[:length], bundle, x) != "intact", length
    for more in (b"\0", b"\1", b"\xff", bytes(4), b"\1" * 4, bytes(9), data):
        assert harmless(data + more, bundle, x) != "intact"


def test_a_file_that_is_not_portable_says_what_else_may_be_wrong(samples):
    bundle, files = samples
    data, x = files["coded"]
    said = harmless(data[:30] + bytes([data[30] ^ 1]) + data[31:], bundle, x)
    assert said.endswith("or it was written with another version of PyTorch, kind of processor or number of threads")
    assert "PyTorch" not in harmless(files["raw"][0][:-1], bundle, x)
    parts, x = files["parts"]
    assert harmless(parts[:17], bundle, x) == "truncated file: it ends in its stored samples, after 17 bytes"


def with_check(header):
    return header + bytes([container.crc8(header)])


@SLOW
@given(st.binary(max_size=60))
def test_any_bytes_after_the_magic(data):
    harmless(container.MAGIC + data, tiny(), None)


@SLOW
@given(
    st.integers(0, 31),
    st.integers(0, 90),
    st.lists(st.integers(0, 300), max_size=2),
    st.integers(0, 30),
    st.binary(max_size=40),
)
def test_any_header_with_a_valid_check(flags, kind, size, calls, rest):
    head = container.MAGIC + bytes([0, flags, kind]) + b"".join(map(container.varint, size))
    if flags & 3:
        head += bytes.fromhex(tiny().identity[:8]) + container.varint(calls)
    if flags & 4:
        head += container.varint(calls % 16)
    try:
        x = decompress(with_check(head) + rest, tiny(), max_pixels=4000)
    except CodecError:
        return
    assert x.numel()  # a checksum of 32 bits was guessed: this does not happen


FOREIGN = {
    b"": "it is empty", b"\x89": "truncated", b"\x89AD": "truncated", b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff\xe0": "JPEG",
    b"RIFF\0\0\0\0WEBP": "WebP", b"\xff\x0a..": "JPEG XL", b"\0\0\0\x0cJXL \r\n": "JPEG XL", b"\x1f\x8b\x08\0": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip", b"GIF89a": "GIF", b"BM..": "BMP", b"BZh9": "bzip2",
    b"hello": "does not begin with", b"\x00" * 50: "does not begin with", b"\xc2\x89ADM": "copied as text",
}  # fmt: skip


@pytest.mark.parametrize(("start", "said"), FOREIGN.items())
def test_foreign_files_are_named(start, said):
    with pytest.raises(CodecError, match=said):
        decompress(start, tiny())


def test_sizes_are_not_believed():
    claims = [(1, 2**26 + 1, 1), (1, 2**31, 2**31), (3, 1, 2**62), (15, 2**13, 2**13)]
    for channels, height, width in claims:
        for header in (
            Header(channels, height, width, numerics=1, model=tiny().identity[:8], calls=8),
            Header(channels, height, width, methods=(Method.CONSTANT,)),
            Header(channels, height, width, methods=(Method.RAW,)),
        ):
            with pytest.raises(CodecError, match="more than the limit"):
                decompress(header.write() + bytes(20), tiny())
    with pytest.raises(CodecError, match="4x4 pixels of 3 channels, more than the limit of 15 pixels"):
        decompress(compress(smooth(3, 4, 4), tiny()), tiny(), max_pixels=15)
    assert decompress(compress(smooth(3, 4, 4), tiny()), tiny(), max_pixels=16).shape == (3, 4, 4)


def test_a_large_claim_over_a_short_stream_ends_soon(coded):
    """The stream runs out long before the claimed image does."""
    data = compress(smooth(3, 8, 8), tiny())
    header = replace(read_header(Reader(data)), height=4000, width=4000)
    with pytest.raises(CodecError, match="truncated stream"):
        decompress(header.write() + data[15:], tiny())


def test_raw_and_deflated_claims_are_bounded():
    for method in (Method.RAW, Method.DEFLATE):
        header = Header(1, 2**13, 2**13, methods=(method,))
        with pytest.raises(CodecError, match="truncated"):
            decompress(header.write() + container.varint(2**40) + bytes(20))
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(10**7)) + packer.flush()
    for size in (100, 10**4):  # more or fewer than it unpacks to
        header = Header(1, 1, 10**7 - size, methods=(Method.DEFLATE,))
        with pytest.raises(CodecError, match="not as many"):
            decompress(header.write() + container.varint(len(bomb)) + bomb + bytes(4) + b"\1")
    header = Header(1, 1, 10**7 + 1, methods=(Method.DEFLATE,))
    with pytest.raises(CodecError, match="not as many"):
        decompress(header.write() + container.varint(len(bomb)) + bomb + bytes(4) + b"\1")


@pytest.mark.parametrize("slack", [b"junk", None])
def test_nothing_hides_in_what_is_deflated(slack):
    """Checksums that agree do not excuse bytes after the end, or an end that is missing."""
    samples = np.array([[[7, 8, 9]]], np.uint8)
    packed = bytes.fromhex("01 0300 fcff 070809") + slack if slack else bytes.fromhex("00 0300 fcff 070809")
    before = Header(1, 1, 3, methods=(Method.DEFLATE,)).write() + container.varint(len(packed)) + packed
    with pytest.raises(CodecError, match="not as many"):
        decompress(before + ans.Encoder().finish(container.check(before, samples)))


def test_fields_that_contradict_each_other_are_refused():
    good = Header(3, 8, 8, numerics=1, model=tiny().identity[:8], calls=8)
    bad = {
        "contradict": [replace(good, channels=0), replace(good, height=0), replace(good, width=0), Header(3, 8, 8),
                       Header(3, 8, 8, methods=(Method.RAW, Method.RAW)), Header(3, 8, 8, bayer=True, methods=(Method.RAW,))],
        "3 to 18 calls": [replace(good, calls=0), replace(good, calls=2), replace(good, calls=2**60)],
        "more parts": [replace(good, methods=(Method.RAW, Method.RAW))],
        "not those of its model": [replace(good, wide=True)],
    }  # fmt: skip
    for said, headers in bad.items():
        for header in headers:
            with pytest.raises(CodecError, match=said):
                decompress(header.write() + bytes(300) + b"\1", tiny())


def test_the_bayer_flag_needs_no_order_of_its_own():
    with pytest.raises(CodecError, match="no fixed order"):
        decompress(
            Header(3, 8, 8, numerics=1, model=model("any order").identity[:8], calls=8).write() + b"12345",
            model("any order"),
        )


def test_headers_come_back():
    for header in (
        Header(1, 1, 1, methods=(Method.CONSTANT,)),
        Header(15, 127, 128, wide=True, suffix="ppm", methods=(Method.DEFLATE,)),
        Header(3, 16383, 16384 // 5, suffix="tiff", numerics=1, model="0011ff10", calls=300, bayer=True),
        Header(4, 5, 6, suffix="webp", numerics=1, model="00000000", calls=1, methods=(Method.CODED, Method.DEFLATE)),
        Header(15, 5, 6, numerics=1, model="00000000", calls=1, methods=(Method.CODED,) * 14 + (Method.RAW,)),
    ):
        file = Reader(header.write() + b"rest")
        assert read_header(file) == header
        assert file.data[file.at :] == b"rest"


def test_unknown_versions_and_flags_are_refused():
    good = bytearray(Header(3, 8, 8, methods=(Method.RAW,)).write()[:-1])
    for at, value, said in [
        (4, 1, "format 1"),
        (4, 255, "format 255"),
        (5, 0x24, "flags 0x24"),
        (5, 0x84, "flags 0x84"),
        (6, 0x53, "kind 0x53"),
    ]:
        broken = bytearray(good)
        broken[at] = value
        with pytest.raises(CodecError, match=said):
            decompress(with_check(bytes(broken)) + bytes(200))


def test_integers_are_canonical_and_bounded():
    for n in (0, 1, 127, 128, 16383, 16384, 2**62, 2**63 - 1):
        assert Reader(container.varint(n)).varint("n") == n
    assert len(container.varint(2**63 - 1)) == 9
    for bad in (b"\x80\0", b"\xff\x80\0", b"\x80" * 9 + b"\1", b"\xff" * 20, container.varint(2**63)):
        with pytest.raises(CodecError, match=r"shortest way|out of range"):
            Reader(bad).varint("n")
    with pytest.raises(CodecError, match="truncated"):
        Reader(b"\x80").varint("n")


def test_crc8_is_that_of_the_books():
    assert container.crc8(b"123456789") == 0xF4
    assert container.crc8(b"") == 0


def test_decoding_ends_on_any_stream(samples):
    """Random streams behind a good header: at most as many calls as the image has, then the checksum."""
    bundle, files = samples
    head = files["coded"][0][:15]
    chance = random.Random(9)
    for length in (0, 1, 4, 5, 9, 40, 400, 4000):
        assert harmless(head + chance.randbytes(length), bundle, None) != "intact"
