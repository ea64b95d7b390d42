"""Codec models on images: what is decoded is what was encoded, whoever computes it, and it costs what the model says."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ardm
from ardm import ans, codec, frames
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.model import NAME
from ardm.exact.model import load as load_codec
from ardm.orders import OrderConfig
from bundles import coder, exact, liked, noise, smooth, tiny

SLOW = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))

MODELS = {
    "mixture": {},
    "values": {"head": "values"},
    "digits of base 16": {"head": "digits", "base": 16},
    "mixture of base 4": {"base": 4},
    "values of base 16": {"head": "values", "base": 16},
    "one scale": {"rings": 0},
    "any order": {"order": OrderConfig(), "shape": (3, 4, 4)},
    "grey": {"shape": (1, 8, 8)},
    "two channels": {"shape": (2, 8, 8)},
}
BACKENDS = ["float32", "float64", "int64", "numpy"]


def jobs(*parts):
    return [[np.ascontiguousarray(part)] for part in parts]


def both_ways(made, other, *parts):
    """Encode parts with one coder, decode them with another; returns the streams."""
    coded = [made.finish(job, 0x12345678) for job in made.encode(jobs(*parts))]
    back = list(other.decode([(stream, [part.shape]) for stream, part in zip(coded, parts, strict=True)]))
    for k, ((samples,), check) in enumerate(back):
        assert samples.dtype == parts[k].dtype
        assert np.array_equal(samples, parts[k])
        assert check == 0x12345678
    return coded


def pictures(count, channels=3, height=8, width=8, seed=0):
    return [smooth(channels, height, width, seed + k).numpy() for k in range(count)]


# --- what is decoded is what was encoded ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_images_of_several_sizes(name):
    made = coder(**MODELS[name])
    for seed, (h, w) in enumerate([(8, 8), (1, 1), (11, 5)]):
        (part,) = pictures(1, made.planes, h, w, seed)
        (symbols,) = next(iter(made.encode(jobs(part))))
        (stream,) = both_ways(made, made, part)
        assert 8 * len(stream) <= symbols.bits + 41


def test_every_height_and_width():
    """1 to 70 of each, with a width or height that differs: single rows, columns, borders of every kind."""
    made = coder(**MODELS["grey"])
    for n in range(1, 71):
        for h, w in ((n, n * 37 % 70 + 1), (n * 53 % 70 + 1, n)):
            both_ways(made, made, *pictures(1, 1, h, w, n))


def test_a_stream_has_forty_one_bits_more_than_the_model_says_at_most():
    """33 of them the check, in the coder's state, and up to a byte to round up; 36.5 on average."""
    made, rng = coder(), np.random.default_rng(0)
    parts = [noise(3, 8, 8, seed=seed).numpy() if seed % 2 else pictures(1, seed=seed)[0] for seed in range(100)]
    more = []
    for symbols in made.encode(jobs(*parts)):
        more.append(8 * len(made.finish(symbols, int(rng.integers(1 << 32)))) - symbols[0].bits)
        assert 8 * len(made.finish(symbols, 0xFFFFFFFF)) - symbols[0].bits < 41.001
    assert max(more) < 41
    assert 34 < np.mean(more) < 38


@SLOW
@given(
    st.sampled_from(["mixture", "values of base 16", "grey"]),
    st.integers(1, 40),
    st.integers(1, 37),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_files_of_any_kind(name, height, width, channels, seed):
    """As they come: coded or stored, whichever is shorter; grey, RGB, with alpha, or more."""
    x = (smooth if seed % 2 else noise)(channels, height, width, seed=seed)
    made = coder(**MODELS[name])
    content = Content(Kind.IMAGE, x.numpy(), "png")
    data, report = frames.compress(content, made)
    assert frames.decompress(data, lambda identity, calls: made) == content
    assert len(data) == report.file_bytes <= x.numel() + 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["mixture", "values", "mixture of base 4"])
def test_every_backend_writes_the_same_bytes(name, backend):
    parts = pictures(3, height=9, width=13)
    one, other = coder(**MODELS[name]), coder(backend=backend, **MODELS[name])
    assert both_ways(one, other, *parts) == both_ways(other, one, *parts)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_however_many_are_coded_together(batch, monkeypatch):
    parts = pictures(9)
    alone = [both_ways(coder(), coder(), part)[0] for part in parts]
    monkeypatch.setattr(codec, "BATCH", batch)
    assert both_ways(coder(threads=2), coder(threads=1), *parts) == alone


def test_however_many_steps_are_encoded_together(monkeypatch):
    parts = pictures(2)
    whole = both_ways(coder(), coder(), *parts)
    for pixels in (1, 64 * 3):
        monkeypatch.setattr(codec, "PIXELS", pixels)
        assert both_ways(coder(), coder(), *parts) == whole


def test_images_of_different_sizes_in_one_run():
    parts = [p for h, w in [(8, 8), (8, 8), (3, 20), (1, 1), (3, 20)] for p in pictures(1, 3, h, w, h + w)]
    assert both_ways(coder(threads=2), coder(), *parts) == [both_ways(coder(), coder(), p)[0] for p in parts]


@pytest.mark.parametrize("calls", [3, 5, 18])
def test_other_numbers_of_calls(calls):
    order = OrderConfig("bayer", (8, 3, 5, 18), cell=4)
    both_ways(coder(calls, order=order), coder(calls, order=order), *pictures(2))


def test_values_of_more_than_a_byte():
    x = np.random.default_rng(0).integers(0, 1000, (3, 5, 4)).astype("<u2")
    both_ways(coder(classes=1000), coder(classes=1000), x)


def test_few_classes():
    order = OrderConfig("checkerboard", (6,), cell=4)
    x = noise(1, 9, 9, classes=2).numpy()
    both_ways(*[coder(classes=2, shape=(1, 8, 8), order=order)] * 2, x)


# --- what it costs ----------------------------------------------------------------------------------------------------


def pushed(monkeypatch):
    """How many symbols the entropy coder is given, push by push."""
    seen, push = [], ans.Encoder.push

    def counting(self, start, width):
        seen.append(len(start))
        push(self, start, width)

    monkeypatch.setattr(ans.Encoder, "push", counting)
    return seen


@pytest.mark.parametrize("name", ["values of base 16", "digits of base 16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_lies_outside_costs_nothing(name, channels, monkeypatch):
    seen = pushed(monkeypatch)
    both_ways(*[coder(**MODELS[name])] * 2, *pictures(1, channels, 13, 21))
    assert sum(seen) == channels * 13 * 21 * 2  # digits of 16


def test_a_plane_on_its_own_is_the_leading_channel_and_the_others_equal_it():
    """A grey picture costs what its red costs when nothing else is known before, if red leads."""
    order = OrderConfig("bayer", (18,), cell=4, lead=1)
    made = coder(order=order)
    (grey,) = pictures(1, 1)
    assert made.model.lead == 1
    symbols = next(iter(made.encode(jobs(grey))))[0]
    walker = made._walker((3, 8, 8), 1, (8, 8))
    sites = np.concatenate([site for _, _, site in walker.steps])
    assert sorted(sites) == list(range(64, 128))
    assert symbols.bits > 0


def test_an_alpha_plane_that_is_flat_costs_nearly_nothing():
    kind = (("head", "values"), ("scale", 2.0))
    rgb = liked(kind, 24, 24).numpy()
    made = coder(**dict(kind))
    alone, report = frames.compress(Content(Kind.IMAGE, rgb, "png"), made)
    assert not report.stored
    both = Content(Kind.IMAGE, np.concatenate([rgb, np.full((1, 24, 24), 255, np.uint8)]), "png")
    data, report = frames.compress(both, made)
    assert len(data) <= len(alone) + 3
    assert frames.decompress(data, lambda i, c: made) == both


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 2), (3, 32, 32), (4, 9, 7), (1, 40, 37), (15, 3, 3)])
def test_noise_never_grows_by_much(shape):
    x = noise(*shape)
    data, report = frames.compress(Content(Kind.IMAGE, x.numpy(), "png"), coder(scale=3.0))
    assert len(data) <= x.numel() + 20
    assert report.stored


def test_fewer_calls_cost_more_on_what_the_model_likes():
    order = OrderConfig("bayer", (18, 3), cell=4)
    kind = (("head", "mixture"), ("scale", 2.0), ("order", order))
    parts = [liked(kind, 16, 16, seed).numpy() for seed in range(6)]
    bits = {}
    for calls in (18, 3):
        made = coder(calls, **dict(kind))
        bits[calls] = sum(job[0].bits for job in made.encode(jobs(*parts)))
    assert bits[18] != bits[3]


# --- models -----------------------------------------------------------------------------------------------------------


def test_what_a_model_refuses():
    made = coder()
    image = Content(Kind.IMAGE, smooth(3, 8, 8).numpy(), "png")
    assert made.refuses(image) is None
    assert "kind image" in made.refuses(Content.of_bytes(b"text"))
    assert "8 bits" in made.refuses(Content(Kind.IMAGE, np.full((3, 2, 2), 300, "<u2"), "png"))
    assert "16 bits" in coder(classes=1000).refuses(image)
    wide = Content(Kind.IMAGE, np.full((3, 2, 2), 1000, "<u2"), "png")
    assert "below 1000" in coder(classes=1000).refuses(wide)
    assert "below 2" in coder(classes=2, shape=(1, 8, 8)).refuses(image)


def test_calls_that_a_model_has_not():
    with pytest.raises(ArdmError, match="codes in 8 network calls; 9 is none"):
        coder(9)


def test_saved_and_loaded(tmp_path):
    model = exact()
    path = tmp_path / NAME
    model.save(path)
    again = load_codec(tmp_path)
    assert again.identity == model.identity
    assert again.golden == model.golden
    made = codec.coder(path, threads=1)
    assert both_ways(made, coder(), *pictures(2)) == both_ways(coder(), made, *pictures(2))


def test_one_changed_weight_is_another_model(tmp_path):
    model = exact()
    name = next(n for n in model.program.tensors if n.endswith("up0.weight"))
    changed = {**model.program.tensors, name: model.program.tensors[name].copy()}
    changed[name].flat[0] ^= 1
    other = replace(model, program=replace(model.program, tensors=changed))
    assert other.identity != model.identity
    other.save(tmp_path / NAME)
    with pytest.raises(ArdmError, match="does not give the frequencies") as error:
        codec.coder(tmp_path, threads=1)
    assert "--backend" in str(error.value)


def test_a_machine_that_computes_wrongly_is_not_used(monkeypatch):
    """auto falls back to what proves itself; what is named is refused."""
    from ardm.exact import machine as machines

    right = machines.Machine.__call__

    def wrong(self, value, depth, asked):
        if self.container == "float32":
            value = value.copy()
            value[..., 0] = np.where(depth[..., 0] > 0, value[..., 0] ^ 1, 0)
        return right(self, value, depth, asked)

    model = exact(head="values")
    monkeypatch.setattr(machines.Machine, "__call__", wrong)
    codec._machine.cache_clear()
    try:
        assert codec.machine(model, "auto", "cpu").container == "float64"
        with pytest.raises(ArdmError, match="float32 arithmetic on cpu"):
            codec.machine(model, "float32", "cpu")
        monkeypatch.setattr(machines.Machine, "__call__", lambda *a: 1 / 0)
    finally:
        codec._machine.cache_clear()


def test_unknown_names():
    with pytest.raises(ArdmError, match="no backend 'tpu'"):
        codec.machine(exact(), "tpu")
    with pytest.raises(ArdmError, match="no device 'abacus'"):
        codec.machine(exact(), "float32", "abacus")
    with pytest.raises(ModelMissing, match="no codec model 'nothing'"):
        codec.coder("nothing")


def test_a_file_finds_its_model(tmp_path):
    exact().save(tmp_path / NAME)
    kind = (("head", "values"), ("scale", 2.0))
    x = liked(kind, 24, 24)
    data = ardm.compress(x, exact(**dict(kind)))
    assert torch.equal(ardm.decompress(data, exact(**dict(kind))), x)
    with pytest.raises(ModelMissing, match=f"made by codec model {exact(**dict(kind)).identity[:8]}"):
        ardm.decompress(data, tmp_path)


@pytest.mark.parametrize("x", [
    torch.zeros(8, 8).long(), torch.zeros(3, 0, 8).long(), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).bool(),
    torch.zeros(16, 2, 2).long(), torch.full((3, 8, 8), 1 << 16), torch.full((3, 8, 8), -1), [[[1.5]]],
], ids=str)  # fmt: skip
def test_what_is_no_image_is_refused(x):
    with pytest.raises(ArdmError, match=r"image|channels") as error:
        ardm.compress(x, exact())
    assert "\n" not in str(error.value)


def test_a_wrong_model_of_the_same_first_digits_never_passes():
    """The whole identity is in the checks, not only the four bytes of the header."""
    kind = (("head", "values"), ("scale", 2.0))
    x = liked(kind, 24, 24)
    data = ardm.compress(x, exact(**dict(kind)))

    class Liar(codec.ModelCoder):
        @property
        def identity(self):
            right = super().identity
            return right[:8] + "0" * 56

    model = exact(**dict(kind))
    liar = Liar(model, model.default, codec.machine(model, "float32", "cpu"), 1)
    with pytest.raises(CodecError, match="damaged"):
        frames.decompress(data, lambda identity, calls: liar)


def test_any_stream_ends():
    """Whatever the bytes, decoding ends after the symbols of the image, or before."""
    made = coder()
    rng = np.random.default_rng(3)
    for length in (0, 1, 4, 5, 30, 2000):
        stream = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        with contextlib.suppress(CodecError):
            list(made.decode([(stream, [(3, 8, 8)])]))


def test_bits_are_those_of_the_widths():
    made = coder()
    symbols = next(iter(made.encode(jobs(*pictures(1)))))[0]
    assert math.isclose(symbols.bits, float(np.sum(24 - np.log2(symbols.width))), rel_tol=1e-9)
    assert tiny().config.rounded
