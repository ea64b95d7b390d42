"""Pictures: every sample comes back, with palettes, profiles and what else a file carries."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats import ENDINGS, displayed, read, render, sniff
from file_samples import (
    ICC,
    SIZES,
    back,
    carried,
    encoded,
    exif,
    header,
    loaded,
    noise,
    opened,
    palette_png,
    picture,
    png,
    same,
    saved,
    sound,
    stays,
)

PICTURES = {
    "PNG": ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB", "P"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"),
    "PPM": ("L", "RGB", "I;16"),
}
"""The modes in which Pillow writes each format."""


@pytest.mark.parametrize("format", PICTURES)
@given(size=SIZES, seed=st.integers(0, 99))
@example(size=(1, 1), seed=0)
@example(size=(1, 40), seed=0)
@example(size=(65, 1), seed=0)
@example(size=(70, 67), seed=0)
@settings(max_examples=4, deadline=None)
def test_pictures_come_back(format, size, seed):
    for mode in PICTURES[format]:
        note(mode)
        image = picture(mode, *size, seed)
        data = saved(image, format)
        content = read(data).content
        assert content.origin == sniff(data[:64]) == ENDINGS[f".{format.lower()}"]
        assert content.shape[1:] == size
        assert content.is_16bit == (mode == "I;16")
        same(data, back(data))
        seen = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(mode, mode)))
        if format == "TIFF" and mode == "1":
            assert set(np.unique(content.samples)) <= {0, 255}
        assert np.array_equal(displayed(content), seen[None] if seen.ndim == 2 else seen.transpose(2, 0, 1))
        assert (len(content.samples) == 1) == (mode in ("1", "L", "P", "I;16"))


@pytest.mark.parametrize("format", ["BMP", "PPM"])
def test_simple_formats_come_back_byte_for_byte(format):
    for mode in PICTURES[format]:
        data = saved(picture(mode), format)
        assert render(read(data).content) == data, mode
        assert set(read(data).content.about) <= {"palette", "depth"}, mode
        assert render(read(data + b"more").content) == data + b"more", mode


KINDS = [(0, d) for d in (1, 2, 4, 8, 16)] + [(3, d) for d in (1, 2, 4)] + [(c, d) for c in (2, 4, 6) for d in (8, 16)]


@pytest.mark.parametrize(("colour", "depth"), KINDS)
@given(interlaced=st.booleans(), size=SIZES, seed=st.integers(0, 99))
@example(interlaced=False, size=(9, 13), seed=0)
@example(interlaced=True, size=(9, 13), seed=0)
@settings(max_examples=10, deadline=None)
def test_every_png_of_the_standard(colour, depth, interlaced, size, seed):
    """All depths and colours, all filters, interlaced or not: against an encoder that is written as the standard is."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    x = np.random.default_rng(seed).integers(0, 1 << depth, (*size, channels))
    data = encoded(x, depth, colour, interlaced, seed)
    content = read(data).content
    wanted = x * 255 // ((1 << depth) - 1) if depth < 8 else x
    if colour == 3:
        table = opened(data).palette.palette if (1 << depth) else b""
        wanted = np.frombuffer(table, np.uint8).reshape(-1, 3)[x[..., 0]]
    assert np.array_equal(displayed(content), wanted.transpose(2, 0, 1))
    again = back(data)
    assert again[24:29] == bytes([depth, colour, 0, 0, 0])
    if depth < 16 or colour == 0:
        same(data, again)


def test_png_of_16_bits_keeps_what_pillow_drops():
    x = noise(5, 7, 3, dtype=np.uint16)
    content = read(encoded(x.astype(int), 16, 2, False)).content
    assert content.samples.dtype == np.uint16
    assert np.array_equal(content.samples, x.transpose(2, 0, 1))


# --- palettes ---------------------------------------------------------------------------------------------------------


def test_a_palette_comes_back_with_its_order_and_what_nobody_uses():
    rgb = bytes([9, 9, 9, 200, 1, 1, 7, 7, 7, 200, 1, 1, 0, 0, 0])
    index = np.array([[1, 3], [4, 0]], np.uint8)
    data = palette_png(index, rgb)
    assert np.array_equal(read(data).content.samples[0], index)
    assert np.array_equal(np.asarray(opened(back(data))), index)
    assert bytes(opened(back(data)).getpalette()[:15]) == rgb


@pytest.mark.parametrize(
    ("rgb", "alpha", "seen"),
    [
        ([9, 9, 9, 4, 4, 4], [], [[9, 4]]),
        ([1, 2, 3, 4, 5, 6], [], [[1, 4], [2, 5], [3, 6]]),
        ([1, 2, 3, 4, 5, 6], [255], [[1, 4], [2, 5], [3, 6]]),
        ([9, 9, 9, 4, 4, 4], [7], [[9, 4], [9, 4], [9, 4], [7, 255]]),
    ],
)
def test_what_one_sees_of_a_palette(rgb, alpha, seen):
    data = palette_png(np.array([[0, 1]], np.uint8), bytes(rgb), bytes(alpha))
    content = read(data).content
    assert displayed(content)[:, 0].tolist() == seen
    same(data, back(data))
    for format in ("webp", "bmp", "tiff"):
        assert read(render(content, format)).content.shape[0] in (len(seen), 3)
    assert displayed(read(render(read(render(content, "tiff")).content, "png")).content)[:, 0].tolist() == seen


def test_pixels_without_a_colour():
    stays(palette_png(np.array([[0, 7]], np.uint8), bytes(6)), "without a colour")
    stays(palette_png(np.array([[0, 0]], np.uint8), b""), "palette is damaged")
    content = read(palette_png(np.array([[0, 1]], np.uint8), bytes([1, 2, 3, 4, 5, 6]))).content
    wrong = Content(Kind.IMAGE, content.samples ^ 64, "png", content.about)
    for format in ("png", "bmp"):
        with pytest.raises(ArdmError, match="not in its palette"):
            render(wrong, format)


# --- what is kept besides samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_what_a_picture_carries_comes_back(format):
    data = loaded(format)
    content, again = read(data).content, back(data)
    assert content.about.get("icc", ICC) == ICC
    assert carried(again) == {**carried(data), "exif": carried(again)["exif"]}
    for tag in (274, 271):
        assert carried(again)["exif"][tag] == exif()[tag]
    assert read(data).dropped == ()


def test_an_orientation_is_not_applied():
    assert read(loaded("PNG")).content.shape == (3, 9, 13)


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_comes_back(mode, colour):
    data = saved(picture(mode), "PNG", transparency=colour)
    assert carried(back(data))["transparency"] == colour


def test_png_chunks_keep_their_places():
    idat = (b"IDAT", zlib.compress(b"\0abc"))
    chunks = [header(1, 1), (b"tEXt", b"a\0b"), (b"gAMA", b"1234"), (b"iCCP", b"me\0\0" + zlib.compress(ICC, 1)),
              (b"eXIf", b"MM\0*\0\0\0\x08\0\0"), (b"zzZz", b""), idat, (b"tIME", b"1234567"),
              (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), (b"IEND", b"")]  # fmt: skip
    data = png(*chunks, tail=b"tail")
    about = read(data).content.about
    assert set(about) == {"icc", "exif", "xmp", "png", "tail"}
    assert (about["exif"], about["xmp"]) == (chunks[4][1], b"<x/>")
    again = back(data)
    names = [again[at - 4 : at] for at in _bodies(again)]
    assert names == [name for name, _ in chunks]
    assert again.endswith(b"tail")


def _bodies(data):
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        yield at + 8
        at += 12 + struct.unpack_from(">I", data, at)[0]
    yield at + 8


def test_plain_pictures_carry_nothing():
    for format in ("PNG", "WEBP", "BMP", "TIFF", "PPM"):
        about = read(saved(picture("RGB"), format)).content.about
        assert set(about) <= ({"head", "tail"} if format == "TIFF" else set()), format


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_strip(format):
    found = read(loaded(format), strip=True)
    wanted = {
        "PNG": {"colour profile", "text"},
        "WEBP": {"colour profile", "XMP"},
        "TIFF": {"bytes around the samples"},
    }
    assert wanted[format] <= set(found.dropped)
    assert {"icc", "exif", "xmp"}.isdisjoint(found.content.about)
    assert np.array_equal(found.content.samples, read(loaded(format)).content.samples)
    plain = carried(render(found.content))
    assert not any(plain[key] for key in ("icc", "xmp", "text", "camera"))
    assert read(saved(picture("RGB"), format), strip=True).dropped == ("bytes around the samples",) * (format == "TIFF")


def test_strip_leaves_palette_and_transparency():
    data = palette_png(np.array([[0, 1]], np.uint8), bytes([5, 5, 5, 5, 5, 6]), bytes([0, 255]))
    same(data, back(data, strip=True))
    for format in ("BMP", "TIFF"):
        data = saved(picture("P"), format)
        same(data, back(data, strip=True))


def test_strip_of_simple_formats():
    ppm = b"P5 # me\n1 1 255\nx and more"
    assert read(ppm).content.about == {"head": b"P5 # me\n1 1 255\n", "tail": b" and more"}
    found = read(ppm, strip=True)
    assert render(found.content) == b"P5\n1 1\n255\nx"
    assert found.dropped == ("bytes around the samples",)
    found = read(sound(2, 2, 9) + b"LIST", strip=True)
    assert (dict(found.content.about), found.dropped) == ({}, ("bytes around the samples",))


# --- other formats than that in which it came -------------------------------------------------------------------------


@pytest.mark.parametrize("format", PICTURES)
def test_pictures_in_other_formats(format):
    """The same samples, or a refusal."""
    for mode in PICTURES[format]:
        content = read(saved(picture(mode, 11, 17), format)).content
        x = displayed(content)
        refused = {
            "webp": content.is_16bit,
            "bmp": content.is_16bit or len(content.samples) == 2,
            "ppm": len(content.samples) in (2, 4),
        }
        for target in ("png", "webp", "bmp", "tiff", "ppm", "npy"):
            try:
                again = read(render(content, target)).content
            except ArdmError:
                assert refused.get(target), (mode, target)
                continue
            grey = target == "webp" and len(x) < 3  # WebP holds colours only
            assert np.array_equal(displayed(again), np.concatenate([x[:1], x[:1], x]) if grey else x), (mode, target)


@pytest.mark.parametrize("source", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("target", ["png", "webp", "tiff"])
def test_profile_and_exif_go_to_other_formats(source, target):
    there = carried(render(read(loaded(source)).content, target))
    assert there["icc"] == ICC
    if source == "TIFF":  # its EXIF is its directory, and no block that could be taken elsewhere
        assert there["xmp"] == b"<x/>"
        return
    assert there["exif"][274] == 6
    assert there["camera"][36867] == "2026:01:02 03:04:05"
    assert there["place"][1] == "N"


@pytest.mark.parametrize(
    ("content", "format", "why"),
    [
        (Content(Kind.IMAGE, noise(1, 3, 3, dtype=np.uint16)), "webp", "8 bits"),
        (Content(Kind.IMAGE, noise(3, 3, 3, dtype=np.uint16)), "bmp", "8 bits"),
        (Content(Kind.IMAGE, noise(2, 3, 3)), "bmp", "2 channels"),
        (Content(Kind.IMAGE, noise(4, 3, 3)), "ppm", "without alpha"),
        (Content(Kind.IMAGE, noise(5, 3, 3)), "png", "four channels"),
        (Content(Kind.IMAGE, noise(5, 3, 3)), "tiff", "four channels"),
        (Content(Kind.IMAGE, noise(1, 1, 20000)), "webp", "16383"),
        (Content(Kind.IMAGE, noise(3, 3, 3)), "wav", "cannot hold an image"),
        (Content(Kind.AUDIO, noise(1, 1, 9), rate=8000), "png", "cannot hold sound"),
        (Content(Kind.ARRAY, noise(1, 1, 8), layout="<i4 2 C"), "png", "not an image"),
        (Content(Kind.ARRAY, noise(1, 1, 8), layout="<i4 3 C"), "npy", "cannot be written as npy"),
        (Content(Kind.ARRAY, noise(1, 1, 8), layout="nonsense"), "npy", "must say type"),
        (Content(Kind.IMAGE, noise(3, 3, 3)), "gif", "must be one of"),
        (Content.of_bytes(b"abc"), "png", "plain bytes"),
        (Content(Kind.IMAGE, noise(3, 3, 3), "png", {"png": b"=dat"}), "png", "is damaged"),
        (Content(Kind.IMAGE, noise(3, 3, 3), "bmp", {"head": b"BM"}), "bmp", "is damaged"),
        (Content(Kind.IMAGE, noise(3, 3, 3), "tiff", {"tiff": b"1"}), "tiff", "is damaged"),
        (Content(Kind.IMAGE, noise(3, 3, 3), "png", {"palette": b"123"}), "png", "not in its palette"),
        (Content(Kind.IMAGE, noise(1, 3, 3), "png", {"palette": b"12"}), "ppm", "is damaged"),
    ],
)
def test_what_a_format_cannot_hold(content, format, why):
    with pytest.raises(ArdmError, match=why):
        render(content, format)


def test_formats_by_default():
    assert sniff(render(Content(Kind.IMAGE, noise(3, 3, 3)))) == "png"
    assert sniff(render(Content(Kind.AUDIO, noise(1, 1, 3), rate=1))) == "wav"
    assert sniff(render(Content(Kind.ARRAY, noise(1, 1, 8), layout="<i4 2 C"))) == "npy"
    assert render(Content.of_bytes(b"abc", "png"), "png") == b"abc"
