"""Codec models: every backend decodes what any backend encoded, at the cost that the model says."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ardm
from ardm import ans
from ardm.codec import decode, encode, model_coder, regions, registry, sampling, walk
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.model import NAME, fingerprint
from ardm.exact.model import load as load_codec
from ardm.orders import OrderConfig
from bundles import coder, exact, liked, noise, smooth
from linemodels import SCHEMA, sound
from linemodels import codec as line_model
from linemodels import coder as line_coder
from linemodels import items as line_items

SLOW = settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))

UNET = {"trunk": "unet"}
MODELS = {
    "mixture": {},
    "grey": {"shape": (1, 8, 8)},
    "two channels": {"shape": (2, 8, 8)},
    "values": {**UNET, "head": "values"},
    "digits of base 16": {**UNET, "head": "digits", "base": 16},
    "mixture of base 4": {**UNET, "base": 4},
    "values of base 16": {**UNET, "head": "values", "base": 16},
    "any order": {**UNET, "order": OrderConfig(), "shape": (3, 4, 4)},
}
"""Along wavefronts, at any size, or by U-Nets along other orders, in tiles."""
LIKED = (("components", 3),)
"""A model along wavefronts that codes its own samples in few bits."""
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
    """Up to 70 of each, against another width or height: single rows, single columns, every kind of border."""
    made = coder(**MODELS["grey"])
    for n in (*range(1, 11), 16, 17, 32, 33, 70):
        for h, w in ((n, n * 37 % 70 + 1), (n * 53 % 70 + 1, n)):
            both_ways(made, made, *pictures(1, 1, h, w, n))


def test_a_stream_has_forty_one_bits_more_than_the_model_says_at_most():
    """33 bits are the check in the coder's state, up to 8 round up to a byte; 36.5 on average."""
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
    """Coded or stored, whichever is shorter; grey, RGB, with alpha, or more channels."""
    x = (smooth if seed % 2 else noise)(channels, height, width, seed=seed)
    made = coder(**MODELS[name])
    content = Content(Kind.IMAGE, x.numpy(), "png")
    data, report = encode.compress(content, made)
    assert decode.decompress(data, lambda identity, calls: made) == content
    assert len(data) == report.file_bytes <= x.numel() + 40


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["mixture", "values", "mixture of base 4"])
def test_every_backend_writes_the_same_bytes(name, backend):
    parts = pictures(2, height=9, width=5)
    one, other = coder(**MODELS[name]), coder(backend=backend, **MODELS[name])
    assert both_ways(one, other, *parts) == both_ways(other, one, *parts)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_however_many_are_coded_together(batch, monkeypatch):
    parts = pictures(9)
    alone = [both_ways(coder(), coder(), part)[0] for part in parts]
    monkeypatch.setattr(model_coder, "BATCH", batch)
    assert both_ways(coder(threads=2), coder(threads=1), *parts) == alone


def test_however_many_steps_are_encoded_together(monkeypatch):
    parts = pictures(2)
    whole = both_ways(coder(), coder(), *parts)
    for pixels in (1, 64 * 3):
        monkeypatch.setattr(walk, "PIXELS", pixels)
        assert both_ways(coder(), coder(), *parts) == whole


def test_images_of_different_sizes_in_one_run():
    parts = [p for h, w in [(8, 8), (8, 8), (3, 20), (1, 1), (3, 20)] for p in pictures(1, 3, h, w, h + w)]
    assert both_ways(coder(threads=2), coder(), *parts) == [both_ways(coder(), coder(), p)[0] for p in parts]


@pytest.mark.parametrize("calls", [3, 5, 18])
def test_other_numbers_of_calls(calls):
    order = OrderConfig("bayer", (8, 3, 5, 18), cell=4)
    both_ways(*[coder(calls, order=order, **UNET)] * 2, *pictures(2))


def test_values_of_more_than_a_byte():
    x = np.random.default_rng(0).integers(0, 1000, (3, 5, 4)).astype("<u2")
    both_ways(coder(classes=1000), coder(classes=1000), x)


def test_few_classes():
    order = OrderConfig("checkerboard", (6,), cell=4)
    x = noise(1, 9, 9, classes=2).numpy()
    for kind in ({}, {**UNET, "order": order}):
        both_ways(*[coder(classes=2, shape=(1, 8, 8), **kind)] * 2, x)


# --- what it costs ----------------------------------------------------------------------------------------------------


def pushed(monkeypatch):
    """The number of symbols of each push to the entropy coder."""
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
    """A grey picture is coded at the sites of the leading channel alone."""
    order = OrderConfig("bayer", (18,), cell=4, lead=1)
    made = coder(order=order, **UNET)
    (grey,) = pictures(1, 1)
    assert made.model.lead == 1
    symbols = next(iter(made.encode(jobs(grey))))[0]
    walker = made.walker((3, 8, 8), 1, (8, 8))
    sites = np.concatenate([reveal.site for reveal in walker.order])
    assert sorted(sites) == list(range(64, 128))
    assert symbols.bits > 0


def test_an_alpha_plane_that_is_flat_costs_nearly_nothing():
    rgb = liked(LIKED, 12, 12).numpy()
    made = coder(**dict(LIKED))
    alone, report = encode.compress(Content(Kind.IMAGE, rgb, "png"), made)
    assert not report.stored
    both = Content(Kind.IMAGE, np.concatenate([rgb, np.full((1, 12, 12), 255, np.uint8)]), "png")
    data, more = encode.compress(both, made)
    assert more.header_bytes <= report.header_bytes + 3  # four planes have no header in short
    assert len(data) - more.header_bytes <= len(alone) - report.header_bytes + 3
    assert decode.decompress(data, lambda i, c: made) == both


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 2), (3, 32, 32), (4, 9, 7), (1, 40, 37), (15, 3, 3)])
def test_noise_never_grows_by_much(shape):
    x = noise(*shape)
    data, report = encode.compress(Content(Kind.IMAGE, x.numpy(), "png"), coder(scale=3.0))
    assert len(data) <= x.numel() + 20
    assert report.stored


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
    with pytest.raises(ArdmError, match="codes in 8 network calls, not in 9"):
        coder(9, **UNET)
    with pytest.raises(ArdmError, match="codes along wavefronts, and not in 9 network calls"):
        coder(9)


def test_saved_and_loaded(tmp_path):
    model = exact()
    path = tmp_path / NAME
    model.save(path)
    again = load_codec(tmp_path)
    assert again.identity == model.identity
    assert again.golden == model.golden
    made = registry.coder(path, threads=1)
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
        registry.coder(tmp_path, threads=1)
    assert "--backend" in str(error.value)


def test_a_machine_that_computes_wrongly_is_not_used(monkeypatch):
    """auto falls back to a backend that proves itself; a named one is refused."""
    from ardm.exact import backend as machines

    right = machines.Backend.__call__

    def wrong(self, ask):
        if self.container == "float32":
            value = ask.value.copy()
            value[..., 0] = np.where(ask.depth[..., 0] > 0, value[..., 0] ^ 1, 0)
            ask = replace(ask, value=value)
        return right(self, ask)

    model = exact(head="values", **UNET)
    monkeypatch.setattr(machines.Backend, "__call__", wrong)
    registry._machine.cache_clear()
    try:
        assert registry.machine(model, "auto", "cpu").container == "float64"
        with pytest.raises(ArdmError, match="float32 arithmetic on cpu"):
            registry.machine(model, "float32", "cpu")
        monkeypatch.setattr(machines.Backend, "__call__", lambda *a: 1 / 0)
    finally:
        registry._machine.cache_clear()


def test_unknown_names():
    with pytest.raises(ArdmError, match="no backend 'tpu'"):
        registry.machine(exact(), "tpu")
    with pytest.raises(ArdmError, match="no device 'abacus'"):
        registry.machine(exact(), "float32", "abacus")
    with pytest.raises(ModelMissing, match="no codec model 'nothing'"):
        registry.coder("nothing")


def test_a_file_finds_its_model(tmp_path):
    exact().save(tmp_path / NAME)
    x = liked(LIKED, 12, 12)
    data = ardm.compress(x, exact(**dict(LIKED)))
    assert torch.equal(ardm.decompress(data, exact(**dict(LIKED))), x)
    with pytest.raises(ModelMissing, match=f"made by codec model {exact(**dict(LIKED)).identity[:4]}"):
        ardm.decompress(data, tmp_path)


def test_checks_levels_and_bare_files_of_the_library():
    model, x = exact(**dict(LIKED)), liked(LIKED, 12, 12)
    for content in (x, x.numpy().tobytes()):
        sizes = []
        for check in ans.CHECKS:
            whole = ardm.compress(content, model, check=check)
            bare = ardm.compress(content, model, check=check, bare=True)
            for found in (ardm.decompress(whole, model), ardm.decompress(bare, model, bare=True)):
                assert found == content if isinstance(content, bytes) else torch.equal(found, content)
            sizes.append(len(bare))
            assert len(bare) < len(whole)
        assert sizes[0] > sizes[-1]
    for options, said in (
        ({"bare": True}, "does not say which model made it"),
        ({"level": 10}, "from 1 to 9; got 10"),
        ({"level": 5, "calls": 8}, "give a level, or model and calls"),
        ({"check": 12}, "32, 16, 8 or 0 bits; got 12"),
    ):
        with pytest.raises(ArdmError, match=said):
            ardm.compress(x, **options)
    with pytest.raises(ArdmError, match="does not say which model made it"):
        ardm.decompress(bare, bare=True)


@pytest.mark.parametrize("x", [
    torch.zeros(8, 8).long(), torch.zeros(3, 0, 8).long(), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).bool(),
    torch.zeros(16, 2, 2).long(), torch.full((3, 8, 8), 1 << 16), torch.full((3, 8, 8), -1), [[[1.5]]],
], ids=str)  # fmt: skip
def test_what_is_no_image_is_refused(x):
    with pytest.raises(ArdmError, match=r"image|channels") as error:
        ardm.compress(x, exact())
    assert "\n" not in str(error.value)


def test_a_wrong_model_of_the_same_first_digits_never_passes():
    """The checks cover the whole identity, not only the two bytes of the header."""
    x = liked(LIKED, 12, 12)
    data = ardm.compress(x, exact(**dict(LIKED)))

    class Liar(model_coder.ModelCoder):
        @property
        def identity(self):
            right = super().identity
            return right[:4] + "0" * 60

    model = exact(**dict(LIKED))
    liar = Liar(model, model.default, registry.machine(model, "float32", "cpu"), 1)
    with pytest.raises(CodecError, match="damaged"):
        decode.decompress(data, lambda identity, calls: liar)


def test_any_stream_ends():
    """Decoding random bytes ends, at the latest after the symbols of the image."""
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


# --- texts and sounds -------------------------------------------------------------------------------------------------


def text(*parts):
    return [np.frombuffer(part, np.uint8).reshape(1, 1, -1) for part in parts]


@pytest.mark.parametrize("backend", BACKENDS)
def test_text_of_an_alphabet(backend):
    one, two = line_coder("text"), line_coder("text", None, backend)
    parts = text(b"the cat sat on the mat", b"z", b" ", b"a" * 300)
    assert both_ways(one, two, *parts) == both_ways(two, one, *parts)


def test_letters_take_the_bits_of_their_values():
    x = line_items("text", 1, 40).numpy()
    letters = np.frombuffer(line_model("text").alphabet, np.uint8)[x][None]
    plain = registry.coder(replace(line_model("text"), alphabet=b""), None, "float32", "cpu", 1)
    (a,), (b,) = (
        next(iter(line_coder("text").encode(jobs(letters)))),
        next(iter(plain.encode(jobs(x[None].astype("u1"))))),
    )
    assert np.array_equal(a.start, b.start)
    assert np.array_equal(a.width, b.width)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_of_every_value(backend):
    one, two = line_coder("bytes"), line_coder("bytes", None, backend)
    both_ways(one, two, *text(bytes(range(256)), b"\0", b"\xff" * 70, np.random.default_rng(0).bytes(99)))


SOUNDS = {
    "mono": sound(1, 100)[:, 0],
    "stereo": sound(2, 50)[:, 0],
    "one sample": np.array([[12345]]),
    "two samples, stereo": np.array([[1, 65535], [65535, 1]]),
    "silence": np.full((1, 80), 32768),
    "lowest": np.zeros((1, 40)),
    "highest": np.full((1, 40), 65535),
    "from end to end": np.tile([[0, 65535]], 20),
    "noise": np.random.default_rng(0).integers(0, 65536, (1, 60)),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds(name):
    made, x = line_coder("sound"), SOUNDS[name].astype("<u2")[:, None]
    content = Content(Kind.AUDIO, x, "wav", rate=8000)
    assert made.refuses(content) is None
    for k in range(len(x)):
        both_ways(made, line_coder("sound", None, "float64"), x[k : k + 1])
    data, _ = encode.compress(content, made)
    assert decode.decompress(data, lambda identity, calls: made) == content


def test_a_sound_without_samples_and_a_text_without_letters():
    none = Content(Kind.AUDIO, np.zeros((2, 1, 0), "<u2"), "wav", rate=8000)
    for made, content in ((line_coder("sound"), none), (line_coder("text"), Content.of_bytes(b""))):
        data, report = encode.compress(content, made)
        assert report.stored
        assert decode.decompress(data, lambda identity, calls, made=made: made) == content


def test_what_models_of_texts_and_sounds_refuse():
    letters, heard = line_coder("text"), line_coder("sound")
    assert letters.refuses(Content.of_bytes(b"the cat")) is None
    assert "27 letters; byte 3 is 67" in letters.refuses(Content.of_bytes(b"theCat"))
    assert line_coder("bytes").refuses(Content.of_bytes(bytes(range(256)))) is None
    assert "values below 5" in line_coder("plain").refuses(Content.of_bytes(b"\1\5"))
    assert "kind text" in letters.refuses(Content(Kind.IMAGE, np.zeros((1, 2, 2), np.uint8), "png"))
    assert "16 bits" in heard.refuses(Content(Kind.AUDIO, np.zeros((1, 1, 4), np.uint8), "wav", rate=8000))
    assert "8 bits" in line_coder("8 bits").refuses(Content(Kind.AUDIO, np.zeros((1, 1, 4), "<u2"), "wav", rate=8000))
    assert "kind audio" in heard.refuses(Content.of_bytes(b"x"))


@pytest.mark.parametrize("kind", ["text", "sound"])
def test_every_damaged_byte_of_a_text_and_a_sound_is_found(kind):
    made = line_coder(kind)
    x = sampling.sample(made.model, 1, (1, 60 if kind == "text" else 16))[0]
    letters = np.frombuffer(line_model("text").alphabet, np.uint8)
    text = kind == "text" and Content.of_bytes(letters[x].tobytes())
    content = text or Content(Kind.AUDIO, x.astype("<u2"), "wav", rate=8000)
    data, report = encode.compress(content, made)
    assert report.methods["coded"]
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(CodecError):
            decode.decompress(bytes(damaged), lambda identity, calls: made)
    for length in range(0, len(data), 3):
        with pytest.raises(CodecError):
            decode.decompress(data[:length], lambda identity, calls: made)


def test_texts_in_batches_and_regions(monkeypatch):
    monkeypatch.setattr(regions, "CODED_RUN", 6)
    made = line_coder("text")
    data = np.frombuffer(line_model("text").alphabet, np.uint8)[line_items("text", 1, 500).numpy()].tobytes()
    file, report = encode.compress(Content.of_bytes(data), made)
    assert decode.decompress(file, lambda identity, calls: made).samples.tobytes() == data
    if not report.stored:
        assert report.regions == 8


# --- levels -----------------------------------------------------------------------------------------------------------


def levels(has, default):
    return [
        registry.calls_of(replace(exact(**MODELS["values"]), orders=_orders(has), default=default), n)
        for n in range(1, 10)
    ]


def _orders(calls):
    return {n: np.broadcast_to(np.arange(n), (1, 3, 1, n)) for n in calls}


def test_levels_of_a_model_with_nine_numbers_of_calls():
    assert levels([8, 11, 14, 20, 26, 36, 50, 70, 98], 50) == [8, 11, 14, 20, 26, 36, 50, 70, 98]


@pytest.mark.parametrize(
    "has", [[7], [3, 9], [1, 2, 4, 8], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [64, 128, 256]]
)
def test_levels_of_another_model(has):
    """Level 1 is the model's fewest calls, 7 its own choice, 9 its most; levels never decrease."""
    for default in has:
        found = levels(has, default)
        assert (found[0], found[6], found[8]) == (has[0], default, has[-1])
        assert found == sorted(found)
        assert set(found) <= set(has)
    if len(has) <= 3:
        assert set(levels(has, has[-1])) == set(has)


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "bytes", "sound", "table", "classic"])
def test_samples_are_the_same_from_every_backend(name, monkeypatch):
    model, size = line_model(name), None if "columns" in str(name) else (1, 9)
    size = (3, 4) if name == "table" else (2, 3) if name == "classic" else size
    found = [sampling.sample(model, 3, size, seed=5)]
    for backend in ("float64", "int64", "numpy"):
        right = registry.coder
        with monkeypatch.context() as patch:
            patch.setattr(registry, "coder", lambda m, c, b=backend, right=right: right(m, c, b, "cpu", 1))
            found.append(sampling.sample(model, 3, size, seed=5))
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert found[0].shape == (3, 1, *size)
    assert not np.array_equal(found[0], sampling.sample(model, 3, size, seed=6))
    assert np.array_equal(found[0][1:], sampling.sample(model, 2, size, seed=6)), "item k is that of seed + k"
    assert found[0].max() < model.program.classes


def test_samples_have_the_size_of_their_kind(monkeypatch):
    monkeypatch.setattr(model_coder, "BATCH", 2)
    limits = np.array(SCHEMA.columns)
    rows = sampling.sample(line_model("table"), 5)
    assert rows.shape == (5, 1, 1, 4)
    assert (rows < limits).all()
    few = sampling.sample(line_model("table"), 5, calls=2)
    assert few.shape == (5, 1, 1, 4), "whatever the period of the order"
    short = replace(line_model("table"), default=2)
    short = replace(short, golden=fingerprint(short, registry._made(short, "numpy", "cpu")))
    assert sampling.sample(short, 2).shape == (2, 1, 1, 4)
    assert sampling.sample(line_model("classic"), 2).shape == (2, 1, 1, 3)
    assert sampling.sample(line_model("text"), 1).shape == (1, 1, 1, 256)
    assert sampling.sample(exact(**MODELS["grey"]), 3).shape == (3, 1, 32, 32)
    with pytest.raises(ArdmError, match="not in 5"):
        sampling.sample(exact(**MODELS["values"]), 1, calls=5)
    with pytest.raises(ArdmError, match="no number of calls"):
        sampling.sample(line_model("sound"), 1, calls=5)


def test_sampling_is_decoding():
    """A sample can be encoded and decoded; and drawing is decoding random bits."""
    made = line_coder("text")
    x = sampling.sample(made.model, 2, (1, 30), seed=3)
    letters = np.frombuffer(made.model.alphabet, np.uint8)[x]
    both_ways(made, made, *letters)
    stream = b"\1" + np.random.default_rng(0).bytes(400)
    walker = made.walker((1, 1, 30), 1, (1, 30))
    drawn = walker.decode([ans.Decoder(stream)])
    assert drawn.shape == (1, 1, 1, 30)


def test_chance_draws_symbols_as_often_as_their_frequencies_say():
    table = np.array([[1 << 22, 0, 1 << 23, (1 << 22) - 1, 1]])
    n = 20000
    found = np.bincount(sampling.Chance(1).pop(np.repeat(table, n, 0)), minlength=5)
    wanted = n * table[0] / 2**24
    assert found[1] == 0
    assert found[4] <= 1
    big = [0, 2, 3]
    assert ((found[big] - wanted[big]) ** 2 / wanted[big]).sum() < 14  # 0.1 % with 2 degrees of freedom
    assert sampling.Chance(0).pop(np.array([[0, 1 << 24, 0]] * 5)).tolist() == [1] * 5
    assert np.array_equal(sampling.Chance(7).pop(table), sampling.Chance(7).pop(table))
    assert sampling.Chance(3).pop(np.repeat(table, 8, 0)).tolist() == [0, 0, 3, 2, 0, 2, 2, 0]


def test_samples_are_distributed_as_the_model_says():
    """Many draws from a small table against the probability of every row."""
    model = line_model("table")
    made = registry.coder(model, None, "numpy")
    n, drawn = 1500, sampling.sample(model, 1500, seed=11)[:, 0, 0]
    walker = made.walker((1, 1, 4), 1, (1, 4))
    every = np.array([[a, b, c, 0] for a in range(2) for b in range(5) for c in range(3)])
    pieces = walker.encode(every[:, None, None])
    p = np.array([np.prod(width / 2**24) for _, width in pieces])
    assert p.sum() == pytest.approx(1, abs=1e-9)
    found = np.array([(drawn == row).all(1).sum() for row in every])
    assert found.sum() == n
    likely = p * n >= 5
    chi = ((found - n * p)[likely] ** 2 / (n * p)[likely]).sum()
    assert chi < likely.sum() + 4 * np.sqrt(2 * likely.sum())
