"""Classical codecs: each restores its items from its bytes alone, and none gets more information than it may."""

import io
import sys
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ardm.bench import general, samples
from ardm.bench import sound as sound_codecs
from ardm.bench.classical import classical, cut, others
from ardm.bench.codec import Absent, Changed, Codec
from ardm.bench.general import UNTRAINED
from ardm.bench.samples import raw, unraw
from ardm.codec.header import Form
from ardm.content import Content, Kind

WORDS = [b"the ", b"order ", b"of ", b"any ", b"thing ", b"is ", b"a ", b"permutation ", b"and ", b"so "]


def image(C=3, H=12, W=9, wide=False, seed=0):
    """Smooth, with a little noise."""
    noise = np.random.default_rng(seed).integers(0, 9, (C, H, W))
    x = np.add.outer(np.arange(C) * 20, np.add.outer(np.arange(H) * 3, np.arange(W) * 5)) + noise
    return Content(Kind.IMAGE, (x * (251 if wide else 1)).astype(np.uint16 if wide else np.uint8))


def sound(C=1, L=700, wide=True, seed=0, rate=8000):
    noise = np.random.default_rng(seed).normal(0, 3, (C, 1, L))
    x = 100 * np.sin(np.arange(L) / 9) + noise + 128
    return Content(Kind.AUDIO, (x * 200 if wide else x.clip(0, 255)).astype(np.uint16 if wide else np.uint8), rate=rate)


def text(words=60, seed=0):
    return Content.of_bytes(b"".join(np.random.default_rng(seed).choice(WORDS, words)))


def array(seed=0):
    x = np.random.default_rng(seed).integers(0, 40, (1, 1, 500)).astype(np.uint8)
    return Content(Kind.ARRAY, x, layout="|u1 500")


CONTENTS = {
    "grey": lambda seed: image(1, seed=seed),
    "grey and alpha": lambda seed: image(2, seed=seed),
    "colour": lambda seed: image(3, seed=seed),
    "colour and alpha": lambda seed: image(4, seed=seed),
    "opaque": lambda seed: Content(Kind.IMAGE, np.concatenate([image().samples, np.full((1, 12, 9), 255, np.uint8)])),
    "one pixel": lambda seed: image(3, 1, 1, seed=seed),
    "five planes": lambda seed: image(5, seed=seed),
    "16-bit grey": lambda seed: image(1, wide=True, seed=seed),
    "16-bit colour": lambda seed: image(3, wide=True, seed=seed),
    "sound": lambda seed: sound(seed=seed),
    "stereo": lambda seed: sound(2, seed=seed),
    "8-bit sound": lambda seed: sound(2, wide=False, seed=seed),
    "one sample": lambda seed: sound(L=1, seed=seed),
    "text": lambda seed: text(seed=seed),
    "nothing": lambda seed: Content.of_bytes(b""),
    "one byte": lambda seed: Content.of_bytes(b"x"),
    "noise": lambda seed: Content.of_bytes(np.random.default_rng(seed).bytes(3000)),
    "array": lambda seed: array(seed),
    "array like a picture": lambda seed: Content(Kind.ARRAY, image(seed=seed).samples, layout="|u1 12,9,3 HWC"),
}
LEARNING = ("trained", "prefixed", "primed")


def make(name, items, training=()):
    """A codec by its name; the test is skipped if its library is not here, and only then."""
    found = {codec.name: codec for codec in classical(items, training)}[name]
    if isinstance(found, Absent) and found.why.startswith("not installed ("):
        pytest.skip(f"{name}: {found.why}")
    return found


def names(content, **more):
    return [codec.name for codec in classical([content], **more)]


CASES = [(name, what) for what, content in CONTENTS.items() for name in names(content(0))]


@pytest.mark.parametrize(("name", "what"), CASES)
def test_every_codec_gives_back_what_it_was_given(name, what):
    items = [CONTENTS[what](seed) for seed in range(3)]
    many = name.endswith("trained") and what in ("text", "array", "colour", "sound")  # enough for a dictionary
    training = [CONTENTS[what](seed) for seed in range(3, 400 if many else 10)]
    codec = make(name, items, training)
    if isinstance(codec, Absent):
        assert name.endswith(LEARNING)
        assert codec.why == UNTRAINED or codec.why.startswith("too little")
        return
    if codec.refuses(items[0]):
        assert what in ("five planes", "16-bit grey", "16-bit colour")
        return
    coding = codec.compress(items)
    files = [codec.encode(item) for item in items]
    assert coding.sizes == tuple(map(len, files))
    assert 0 <= coding.framing <= sum(coding.sizes)
    other = make(name, items, training)  # a decoder that has seen nothing of these items
    for item, file in zip(items, files, strict=True):
        back = other.decode(file, Form.of(item))
        assert back.dtype == item.samples.dtype
        np.testing.assert_array_equal(back, item.samples)


def test_what_is_coded_for_which_kind():
    assert {"PNG", "oxipng", "WebP lossless", "JPEG XL e7", "JPEG XL e9"} < set(names(image()))
    assert {"FLAC -8", "brotli -11", "xz -9e", "raw LZMA"} < set(names(sound()))
    assert {"PPMd", "PPMd, primed", "zstd -22", "zstd -22, trained", "zstd -22, prefixed"} < set(names(text()))
    assert not {"PNG", "FLAC -8"} & set(names(text()))
    assert "PNG" in names(CONTENTS["array like a picture"](0))
    assert "PNG" not in names(array())


@pytest.mark.parametrize(
    ("module", "package", "gone"),
    [
        ("oxipng", "pyoxipng", {"oxipng"}),
        ("imagecodecs", "imagecodecs", {"JPEG XL e7", "JPEG XL e9", "JPEG XL e10"}),
        ("brotli", "brotli", {"brotli -11"}),
        ("zstandard", "zstandard", {"zstd -22", "zstd -22, trained", "zstd -22, prefixed"}),
        ("pyppmd", "pyppmd", {"PPMd", "PPMd, primed"}),
        ("soundfile", "soundfile", {"FLAC -8"}),
    ],
)
def test_a_missing_library_is_told(monkeypatch, module, package, gone):
    monkeypatch.setitem(sys.modules, module, None)
    for item in (image(), text(), sound()):
        for codec in classical([item]):
            if codec.name in gone:
                assert codec == Absent(codec.name, f"not installed (pip install {package})")
                gone = gone - {codec.name}
    assert not gone


def test_a_missing_program_is_told(monkeypatch):
    monkeypatch.setattr(sound_codecs.shutil, "which", lambda program: None)
    assert Absent("FLAC -8ep", "not installed (the program flac)") in classical([sound()])


def test_a_codec_that_lies_is_caught():
    item = text()
    for wrong in (item.samples[..., :-1], item.samples ^ 1, item.samples.astype(np.uint16), item.samples[0]):
        liar = Codec("liar", "1", lambda content: b"short", lambda data, form, wrong=wrong: wrong)
        with pytest.raises(Changed, match="liar"):
            liar.compress([item])


def test_progress_is_told():
    told = []
    make("raw LZMA", [text()]).compress([text(seed=s) for s in range(4)], lambda: told.append(1))
    assert len(told) == 4


# --- the samples, as each codec sees them -----------------------------------------------------------------------------

shapes = st.one_of(
    st.builds(lambda C, H, W, wide: image(C, H, W, wide), *[st.integers(1, 5)] * 3, st.booleans()),
    st.builds(lambda C, L, wide: sound(C, L, wide), st.integers(1, 3), st.integers(0, 9), st.booleans()),
    st.builds(Content.of_bytes, st.binary(max_size=40)),
)


@given(shapes)
@settings(deadline=None)
def test_raw_and_back(content):
    data = raw(content)
    assert len(data) == content.raw_bytes
    np.testing.assert_array_equal(unraw(data, Form.of(content)), content.samples)
    if content.kind == Kind.AUDIO:
        y = samples.signed(content.samples)
        np.testing.assert_array_equal(samples.unsigned(y, Form.of(content)), content.samples)


def test_raw_pictures_are_as_in_a_ppm_file():
    item, buffer = image(), io.BytesIO()
    Image.fromarray(item.samples.transpose(1, 2, 0).copy()).save(buffer, "PPM")
    assert buffer.getvalue().endswith(raw(item))


@pytest.mark.parametrize("wide", [False, True])
def test_raw_sounds_are_as_in_a_wav_file(wide):
    item, buffer = sound(2, wide=wide), io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 1 + wide, 8000, 0, "NONE", ""))
        ints = item.samples[:, 0].T.astype(int) - (32768 if wide else 0)
        file.writeframes(ints.astype("<i2" if wide else "u1").tobytes())
    assert buffer.getvalue().endswith(raw(item))


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=300))
@settings(deadline=None, max_examples=25)
def test_ppmd_of_any_bytes_after_any_bytes(data, prime):
    item, before = Content.of_bytes(data), [Content.of_bytes(prime)]
    make("PPMd", [item]).compress([item])
    make("PPMd, primed", [item], before).compress([item])


def test_colours_under_transparency_survive():
    x = image(4).samples.copy()
    x[3] = 0
    item = Content(Kind.IMAGE, x)
    for name in ("PNG", "oxipng", "WebP lossless"):
        make(name, [item]).compress([item])


def test_what_cannot_be_held_is_refused():
    large = Content(Kind.IMAGE, np.zeros((1, 300, 300), np.uint8))
    wide = image(3, wide=True)
    assert make("WebP lossless", [wide]).refuses(wide) == "holds 8 bits per sample only"
    assert make("PNG", [wide]).refuses(wide)
    assert not make("PNG", [wide]).refuses(image(1, wide=True))
    assert make("WebP lossless", [large]).refuses(Content(Kind.IMAGE, np.zeros((1, 1, 16384), np.uint8)))
    assert "5 channels" in make("PNG", [large]).refuses(image(5))
    assert make("JPEG XL e10", [large]).refuses(large) == "takes minutes on images this large"
    assert not make("JPEG XL e9", [large]).refuses(large)
    assert make("FLAC -8", [sound()]).refuses(sound(rate=0))


# --- fairness ---------------------------------------------------------------------------------------------------------


def test_frames_of_files():
    png, small = make("PNG", [image()]), image()
    assert png.framing(png.encode(small)) == 8 + 25 + 12 + 12  # signature, IHDR, one IDAT, IEND
    webp = make("WebP lossless", [image()])
    assert webp.framing(webp.encode(small)) in (20, 21)  # chunks are padded to an even length
    xz, plain = make("xz -9e", [text()]), text(400)
    assert xz.framing(xz.encode(plain)) in range(44, 56)
    assert xz.framing(xz.encode(Content.of_bytes(b""))) == 32
    zstd = make("zstd -22", [text()])
    assert zstd.framing(zstd.encode(plain)) == 6  # magic number, descriptor, window


@pytest.mark.parametrize("name", ["FLAC -8", "FLAC -8ep"])
def test_flac_has_neither_padding_nor_comments(name):
    data = make(name, [sound()]).encode(sound())
    assert data[:5] == b"fLaC\x80"  # the first block is the last
    assert data[42:44] in (b"\xff\xf8", b"\xff\xf9")  # a frame's synchronisation


def test_learning_from_others_helps():
    items, training = [text(60, seed) for seed in range(5)], [text(60, seed) for seed in range(5, 600)]
    sizes = {
        codec.name: sum(codec.compress(items).sizes)
        for codec in classical(items, training)
        if not isinstance(codec, Absent)
    }
    for name, learned in [
        ("zstd -22", "zstd -22, trained"),
        ("zstd -22", "zstd -22, prefixed"),
        ("PPMd", "PPMd, primed"),
    ]:
        if name in sizes:
            assert sizes[learned] < 0.8 * sizes[name], learned


def test_what_the_decoder_needs_besides_is_counted_apart():
    items, training = [text(60, seed) for seed in range(5)], [text(60, seed) for seed in range(5, 600)]
    learned = {name: make(name, items, training) for name in names(items[0], training=training)}
    of_others = sum(len(raw(item)) for item in training)
    for name, codec in learned.items():
        if isinstance(codec, Codec) and not name.endswith(LEARNING):
            assert codec.shared == 0, name
    assert learned["zstd -22, prefixed"].shared == learned["PPMd, primed"].shared == of_others
    assert 0 < learned["zstd -22, trained"].shared <= general.DICTIONARY


def test_nothing_that_is_measured_is_learned_from():
    measured, training = [text(seed=1), text(seed=2)], [text(seed=s) for s in range(4)]
    assert [raw(item) for item in others(training, measured)] == [raw(training[0]), raw(training[3])]
    wide = Content(Kind.ARRAY, training[0].samples, layout="|u1")
    assert others([wide], [training[0]]) == [wide]  # the same bytes of another kind are another item


def test_cutting():
    whole = text(50)
    parts = cut(whole, 64)
    assert b"".join(map(raw, parts)) == raw(whole)
    assert {part.shape[2] for part in parts[:-1]} == {64}
    assert cut(whole, 0) == [whole]
    assert cut(image(), 64) == [image()]
    assert cut(Content.of_bytes(b""), 64) == []


# --- several items in one file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("PNG", [image(seed=s) for s in range(7)]),
        ("raw LZMA", [image(seed=s) for s in range(7)]),
        ("xz -9e", [text(seed=s) for s in range(7)]),
        ("PPMd", [text(seed=s) for s in range(7)]),
        ("FLAC -8", [sound(L=500 + s, seed=s) for s in range(7)]),
    ],
)
def test_together_is_smaller(name, items):
    codec = make(name, items)
    whole = codec.together(items)
    assert 0 < sum(whole.sizes) < sum(codec.compress(items).sizes)
    assert min(whole.encoding, whole.decoding) > 0


def test_what_does_not_go_together():
    assert make("PNG", [image()]).together([image(), image(H=3)]) is None
    assert make("FLAC -8", [sound()]).together([sound(), sound(rate=9000)]) is None
    assert make("raw LZMA", [image()]).together([image(), image(H=3)]) is not None
