"""Formats: every sample comes back, or every byte does; and nothing in a file makes reading it fail."""

import io
import struct
import warnings
import wave
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from ardm import formats
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ArdmError
from ardm.formats import BYTE_FOR_BYTE, ENDINGS, displayed, read, render, sniff
from fuzz_inputs import checked

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def picture(mode, height=9, width=13, seed=0):
    if mode == "1":
        return Image.fromarray(noise(height, width, seed=seed) > 127)
    if mode == "P":
        image = Image.fromarray(noise(height, width, seed=seed) % 23, "P")
        image.putpalette(np.random.default_rng(1).permutation(69).astype(np.uint8).tobytes())
        return image
    if mode == "I;16":
        return Image.fromarray(noise(height, width, dtype=np.uint16, seed=seed))
    x = noise(height, width, CHANNELS[mode], seed=seed)
    return Image.fromarray(x[..., 0] if mode == "L" else x)


def saved(image, format, **options):
    if format == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def same(one, two):
    """Whether two files show the same to another program."""
    a, b = opened(one), opened(two)
    assert (a.mode, a.size, a.getpalette(None)) == (b.mode, b.size, b.getpalette(None))
    assert np.array_equal(np.asarray(a), np.asarray(b))


def back(data, **options):
    """Read, written and read again: the file as it was written."""
    found = read(data, **options)
    assert found.content.kind != Kind.BYTES, found.notes
    again = render(found.content)
    assert read(again, **options).content == found.content
    assert render(read(again).content) == again
    assert again == data or options or found.content.origin not in BYTE_FOR_BYTE
    return again


def stays(data, why):
    """A file that is kept byte for byte."""
    found = read(data)
    assert (found.content.kind, found.content.origin, found.dropped) == (Kind.BYTES, "", ())
    assert found.content.samples.tobytes() == data
    assert len(found.notes) == 1
    assert why in found.notes[0], found.notes
    return found


# --- every mode of every format, against another program --------------------------------------------------------------

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


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks, tail=b""):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks) + tail


def header(height, width, depth=8, colour=2, interlaced=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def filtered(rows, pixel, kinds):
    """Rows of bytes by the text of the standard, one byte at a time."""
    out, above = bytearray(), bytes(len(rows[0]))
    for row, kind in zip(rows, kinds, strict=True):
        out.append(kind)
        for k, x in enumerate(row):
            a, b = (row[k - pixel] if k >= pixel else 0), above[k]
            c = above[k - pixel] if k >= pixel else 0
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((x - (0, a, b, (a + b) // 2, near)[kind]) % 256)
        above = row
    return bytes(out)


def encoded(x, depth, colour, interlaced, seed=0):
    """A PNG of numbers (H, W, C), filters at random."""
    raw, rng = b"", np.random.default_rng(seed)
    for y0, x0, dy, dx in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = x[y0::dy, x0::dx]
        if part.size:
            bits = (part.reshape(len(part), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
            rows = [row.tobytes() for row in np.packbits(bits.astype(np.uint8).reshape(len(part), -1), axis=1)]
            raw += filtered(rows, max(1, x.shape[2] * depth // 8), rng.integers(0, 5, len(rows)).tolist())
    packed = zlib.compress(raw)
    chunks = [header(*x.shape[:2], depth, colour, int(interlaced))]
    if colour == 3:
        chunks.append((b"PLTE", np.random.default_rng(2).permutation(768).astype(np.uint8)[: 3 << depth].tobytes()))
    return png(*chunks, (b"IDAT", packed[:9]), (b"IDAT", packed[9:]), (b"IEND", b""))


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


def palette_png(index, rgb, alpha=b"", depth=8):
    rows = b"".join(b"\0" + row.tobytes() for row in index)
    extra = [(b"tRNS", alpha)] if alpha else []
    return png(header(*index.shape, depth, 3), (b"PLTE", rgb), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


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


def exif():
    tags = Image.Exif()
    tags[274], tags[271] = 6, "A camera"
    tags.get_ifd(34665)[36867] = "2026:01:02 03:04:05"
    tags.get_ifd(34853)[1] = "N"
    return tags


def carried(data):
    """What another program reads besides the samples."""
    info = Image.open(io.BytesIO(data))
    tags = info.getexif()
    if info.format == "PNG":  # for what stands behind the samples; a TIFF would be turned
        info.load()
    return {
        "icc": info.info.get("icc_profile"), "xmp": info.info.get("xmp"), "dpi": info.info.get("dpi"),
        "gamma": info.info.get("gamma"), "transparency": info.info.get("transparency"),
        "text": dict(getattr(info, "text", {})), "exif": dict(tags), "camera": tags.get_ifd(34665),
        "place": tags.get_ifd(34853),
    }  # fmt: skip


def loaded(format, mode="RGB"):
    """A picture with everything that the format has room for."""
    options = {"icc_profile": ICC, "exif": exif(), "dpi": (300, 300)}
    if format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add(b"gAMA", struct.pack(">I", 45455))
        text.add_text("Author", "nobody")
        text.add_text("Comment", "x" * 300, zip=True)
        text.add_itxt("Title", "тест")
        text.add(b"prVt", b"private", after_idat=True)
        options["pnginfo"] = text
    if format == "WEBP":
        options["xmp"] = b"<x/>"
    if format == "TIFF":
        options["exif"][700] = b"<x/>"
    return saved(picture(mode), format, **options)


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


# --- files that stay as they are --------------------------------------------------------------------------------------


COMPRESSIONS = ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits")


def several(format, **options):
    pages = [picture("RGB", seed=seed) for seed in range(3)]
    return saved(pages[0], format, save_all=True, append_images=pages[1:], **options)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (saved(picture("RGB"), "JPEG"), "JPEG images are already compressed"),
        (saved(picture("P"), "GIF"), "GIF images are already compressed"),
        (several("PNG"), "animation"),
        (several("WEBP"), "animation"),
        (several("TIFF"), "several images"),
        (saved(picture("RGB"), "WEBP", lossless=False), "it is lossy"),
        (saved(picture("RGBA"), "WEBP", lossless=False), "it is lossy"),
        (saved(Image.new("CMYK", (3, 3)), "TIFF"), "neither grey, RGB"),
        (saved(Image.new("F", (3, 3)), "TIFF"), "it has 32"),
        (saved(Image.new("I", (3, 3)), "TIFF"), "it has 32"),
        (saved(picture("RGB"), "TIFF", compression="jpeg"), "compressed already (method 7)"),
        *((saved(picture("RGB"), "TIFF", compression=c), "compressed already") for c in COMPRESSIONS),
        (saved(picture("RGB"), "TIFF", big_tiff=True), "BigTIFF"),
        (saved(picture("1"), "PPM"), "only P5 and P6"),
        (b"P5 2 2 99 abcd", "up to 99"),
        (b"P6 2 2 255 abcd", "ends early"),
        (png(header(1 << 30, 1 << 30), (b"IDAT", b""), (b"IEND", b"")), "samples, more than"),
        (png(header(16000, 16000), (b"IDAT", zlib.compress(b"a")), (b"IEND", b"")), "not as many"),
        (png(header(1, 1), (b"IDAT", zlib.compress(b"\0abcd")), (b"IEND", b"")), "not as many"),
        (png(header(0, 1), (b"IDAT", zlib.compress(b"\0abcd")), (b"IEND", b"")), "no samples"),
        (png(header(1, 1, 4, 2), (b"IDAT", zlib.compress(b"\0abc")), (b"IEND", b"")), "not supported"),
        (png(header(1, 1), (b"NEWC", b""), (b"IDAT", zlib.compress(b"\0abc")), (b"IEND", b"")), "not supported"),
        (png(header(1, 1, 8, 3), (b"IDAT", zlib.compress(b"\0a")), (b"IEND", b"")), "no palette"),
        (png(header(1, 1), (b"IDAT", zlib.compress(b"\x09abc")), (b"IEND", b"")), "damaged"),
        (saved(picture("RGB"), "PNG")[:-20], "ends early"),
        (saved(picture("RGB"), "PNG").replace(b"IDATx", b"IDATy"), "damaged"),
        (b"P5 99999 99999 255\n", "samples, more than"),
        (saved(picture("P"), "BMP", bits=8)[:30] + b"\1" + saved(picture("P"), "BMP")[31:], "only uncompressed"),
    ],
)
def test_files_that_stay_as_they_are(data, why):
    stays(data, why)


def test_text_and_empty_files_are_bytes_without_a_note():
    for data in (b"", b"a", b"BMW is a maker of cars", b"P5 is a format", bytes(100)):
        assert read(data).content == Content.of_bytes(data)
        assert read(data).notes == ()
    assert "not the PNG file that its name says" in read(b"text", "x.PNG").notes[0]


def test_no_more_is_kept_than_a_file_may_hold():
    big = noise(1 << 24).tobytes()
    stays(png(header(1, 1), (b"prVt", big), (b"IDAT", zlib.compress(b"\0abc")), (b"IEND", b"")), "besides its samples")


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_large_pictures_give_no_warning(format, monkeypatch, capfd):
    """Pillow's limit is for others; where it cannot be passed by, a note says so."""
    data = saved(picture("RGB"), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    if format == "WEBP":
        stays(data, "more than the 20 pixels")
        with pytest.raises(ArdmError, match="up to 20 pixels"):
            render(Content(Kind.IMAGE, noise(3, 9, 9)), "webp")
    else:
        back(data)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert capfd.readouterr() == ("", "")


# --- TIFF -------------------------------------------------------------------------------------------------------------


def tiff_of(x, order="<", tiled=False, apart=False, method=1, extra=None, **tags):
    """(H, W, C) as a TIFF, strips of 3 rows or tiles of 16."""
    height, width, channels = x.shape
    raw = x.astype(order + "u2" if x.itemsize > 1 else "u1")
    parts = [raw[..., k : k + 1] for k in range(channels)] if apart else [raw]
    pieces = []
    for part in parts:
        for y in range(0, height, 16 if tiled else 3):
            for left in range(0, width, 16) if tiled else [0]:
                piece = part[y : y + 16, left : left + 16] if tiled else part[y : y + 3]
                if tiled:
                    piece = np.pad(piece, ((0, 16 - piece.shape[0]), (0, 16 - piece.shape[1]), (0, 0)))
                pieces.append(piece.tobytes() if method == 1 else zlib.compress(piece.tobytes()))
    begins = np.cumsum([8] + [len(piece) for piece in pieces])
    numbers = {
        256: [width], 257: [height], 258: [8 * x.itemsize] * channels, 259: [method],
        262: [2 if channels > 2 else 1], 277: [channels], 284: [1 + apart],
    }  # fmt: skip
    numbers |= {322: [16], 323: [16]} if tiled else {278: [3]}
    numbers |= {324 if tiled else 273: begins[:-1], 325 if tiled else 279: [len(piece) for piece in pieces]}
    numbers |= {338: [extra]} if extra is not None else {}
    numbers |= {int(tag[1:]): value for tag, value in tags.items()}
    return tiff_with(b"".join(pieces), numbers, order)


def tiff_with(body, numbers, order="<", tail=b""):
    """A TIFF of some bytes from byte 8, and a directory of tags of integers."""
    at, entries, after = 8 + len(body), b"", b""
    begin = at + 2 + 12 * len(numbers) + 4
    for tag in sorted(numbers):
        value = struct.pack(f"{order}{len(numbers[tag])}I", *map(int, numbers[tag]))
        place = value if len(value) == 4 else struct.pack(order + "I", begin + len(after))
        entries += struct.pack(order + "HHI", tag, 4, len(numbers[tag])) + place
        after += value if len(value) > 4 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return b"".join((start, body, struct.pack(order + "H", len(numbers)), entries, bytes(4), after, tail))


@given(size=SIZES, channels=st.integers(1, 4), order=st.sampled_from("<>"), wide=st.booleans(), extra=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_every_uncompressed_tiff(size, channels, order, wide, extra):
    x = noise(*size, channels, dtype=np.uint16 if wide else np.uint8)
    data = tiff_of(x, order, extra=extra if channels in (2, 4) else None)
    assert np.array_equal(read(data).content.samples, x.transpose(2, 0, 1))
    assert back(data) == data
    assert np.array_equal(tifffile.imread(io.BytesIO(render(read(data).content, "tiff"))).reshape(x.shape), x)
    anew = render(Content(Kind.IMAGE, read(data).content.samples), "tiff")
    assert np.array_equal(tifffile.imread(io.BytesIO(anew)).reshape(x.shape), x)


@pytest.mark.parametrize(("tiled", "apart", "method"), [(True, False, 1), (False, True, 1), (False, False, 8)])
def test_other_ways_to_arrange_a_tiff_stay(tiled, apart, method):
    stays(tiff_of(noise(20, 20, 3), "<", tiled, apart, method), "compressed" if method > 1 else "in tiles, in planes")


def test_white_is_zero():
    x = noise(4, 5, 1)
    data = tiff_of(x, t262=[0])
    assert np.array_equal(read(data).content.samples[0], 255 - x[..., 0])
    assert back(data) == data


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"t339": [2]}, "unsigned"), ({"t266": [2]}, "reversed"), ({"t259": [7]}, "compressed already (method 7)"),
        ({"t262": [6]}, "neither grey"), ({"t330": [8]}, "several"), ({"t258": [8, 16, 8]}, "4, 8 and 16 bits"),
        ({"t256": [1 << 31]}, "samples, more than"), ({"t277": [99]}, "99 channels"), ({"t278": [0]}, "damaged"),
        ({"t257": [50]}, "damaged"), ({"t273": [8]}, "damaged"), ({"t279": [44, 15]}, "shorter than its rows"),
        ({"t273": [8, 9]}, "overlap"), ({"t273": [53, 8]}, "out of order"), ({"t273": [8, 1 << 31]}, "ends early"),
        ({"t262": [3], "t277": [1], "t258": [8]}, "palette"),
    ],
)  # fmt: skip
def test_a_tiff_that_is_not_read(tags, why):
    stays(tiff_of(noise(4, 5, 3), **tags), why)


def test_strips_between_other_bytes():
    """Each row a strip, private bytes between and behind them."""
    x = noise(5, 7, 3)
    body, begins = b"first", []
    for k, row in enumerate(x):
        begins.append(8 + len(body))
        body += row.tobytes() + b"%d" % 10**k
    tags = {256: [7], 257: [5], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3], 278: [1], 273: begins, 279: [99] * 5}
    data = tiff_with(body, tags, tail=b"last")
    content = read(data).content
    assert np.array_equal(content.samples, x.transpose(2, 0, 1))
    assert {"head", "tail", "gaps"} <= set(content.about)
    assert back(data) == data
    wrong = Content(Kind.IMAGE, content.samples, "tiff", {**content.about, "gaps": content.about["gaps"][:-1]})
    with pytest.raises(ArdmError, match="between its samples are damaged"):
        render(wrong)
    wrong = Content(Kind.IMAGE, content.samples, "tiff", {**content.about, "head": content.about["head"] + b"x"})
    with pytest.raises(ArdmError):
        render(wrong)


def test_what_tags_do_not_say_is_kept():
    """Planes behind the first, by which some programs save a stack: no tag says where they are."""
    out = io.BytesIO()
    tifffile.imwrite(out, noise(9, 64, 80, dtype=np.uint16), truncate=True, photometric="minisblack", bigtiff=False)
    stays(out.getvalue(), "most of it is not samples")
    data = tiff_of(noise(64, 80, 1)) + noise(64, 80).tobytes()[:-600]
    assert read(data).content.kind == Kind.IMAGE
    assert back(data) == data


def test_a_directory_among_the_samples():
    """Bytes that are samples and tags at once come back unchanged, or the file is kept byte for byte."""
    data = tiff_of(noise(4, 5, 3))
    inside = data[:4] + struct.pack("<I", 8) + data[8:]
    body = bytearray(data)
    at = struct.unpack_from("<I", data, 4)[0]
    strips = tiff_of(noise(4, 5, 3), t273=[at - 20, at - 20 + 45])
    for file in (inside, bytes(body), strips):
        found = read(file)
        if found.content.kind != Kind.BYTES:
            try:
                assert render(found.content) == file
            except ArdmError:
                assert file is strips


def test_tiffs_that_earlier_versions_compressed():
    """about has tags as a TIFF without a picture, and five bytes that say how samples were stored."""
    tags = exif().tobytes().removeprefix(b"Exif\0\0")
    about = {"tiff": bytes([0, 2, tags[:2] == b"MM", 1, 1]), "exif": tags, "icc": ICC, "xmp": b"<x/>"}
    x = noise(1, 9, 13)
    data = render(Content(Kind.IMAGE, x, "tiff", about))
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), 255 - x[0])  # which does not turn white into zero
    there = carried(data)
    assert (there["icc"], there["xmp"], there["exif"][271]) == (ICC, b"<x/>", "A camera")
    assert there["camera"][36867] == "2026:01:02 03:04:05"
    palette = Content(
        Kind.IMAGE, noise(1, 9, 13) % 4, "tiff", {"palette": bytes(range(12)), "tiff": bytes([3, 2, 0, 1, 0])}
    )
    assert np.array_equal(np.asarray(opened(render(palette)).convert("RGB")), displayed(palette).transpose(1, 2, 0))


# --- sound ------------------------------------------------------------------------------------------------------------


def sound(channels, size, length, rate=44100, seed=0):
    """A WAV file by the standard library."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(rate)
        file.writeframes(noise(length * channels * size, seed=seed).tobytes())
    return out.getvalue()


@given(channels=st.integers(1, 15), size=st.integers(1, 2), length=st.integers(1, 99), rate=st.integers(1, 200000))
@settings(max_examples=40, deadline=None)
def test_wav_comes_back_byte_for_byte(channels, size, length, rate):
    data = sound(channels, size, length, rate)
    content = read(data).content
    assert (content.kind, content.shape, content.rate) == (Kind.AUDIO, (channels, 1, length), rate)
    assert render(content) == data
    if channels * size * length % 2 == 0:  # the standard library leaves out what fills up an odd number
        assert not content.about


def test_samples_of_wav():
    data = sound(1, 2, 3)[:44] + struct.pack("<3h", -32768, 0, 32767)
    assert read(data).content.samples.tolist() == [[[0, 32768, 65535]]]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7])
def test_chunks_of_wav_stay_where_they_are(cut):
    plain = sound(2, 2, 9)
    data = plain[:12] + b"LIST\3\0\0\0abc\0" + plain[12:] + b"id3 \2\0\0\0xy"
    assert render(read(data).content) == data
    short = plain[: len(plain) - cut] if cut else plain
    assert render(read(short).content) == short  # a recording that was not closed
    assert read(short).content.shape[2] == 9 - -(-cut // 4)


def test_wav_that_is_not_read():
    for size in (3, 4):
        stays(sound(1, size, 5), f"of {8 * size} bits")
    stays(b"RIFX" + sound(1, 2, 5)[4:], "only RIFF")
    stays(sound(1, 2, 0), "no samples")
    stays(sound(1, 2, 5)[:30], "no samples")
    stays(sound(16, 1, 5), "16 channels")


try:
    import soundfile
except (ImportError, OSError):
    soundfile = None
needs_soundfile = pytest.mark.skipif(soundfile is None, reason="needs soundfile")


def flac(channels, size, length, rate=44100, **tags):
    out = io.BytesIO()
    x = noise(length, channels, dtype=np.uint16).view(np.int16)
    with soundfile.SoundFile(out, "w", rate, channels, "PCM_16" if size == 2 else "PCM_S8", format="FLAC") as file:
        for key, value in tags.items():
            setattr(file, key, value)
        file.write(x if size == 2 else x << 8)
    return out.getvalue(), x if size == 2 else x.astype(np.int8)


@needs_soundfile
@given(channels=st.integers(1, 8), size=st.integers(1, 2), length=st.integers(1, 9999), rate=st.integers(1, 65535))
@settings(max_examples=25, deadline=None)
def test_flac_comes_back(channels, size, length, rate):
    data, x = flac(channels, size, length, rate, title="a title", artist="someone")
    content = read(data).content
    assert content.rate == rate
    assert np.array_equal(content.samples[:, 0].T.astype(int) - (1 << 8 * size - 1), x)
    again = back(data)
    with soundfile.SoundFile(io.BytesIO(again)) as file:
        assert (file.title, file.artist, file.samplerate) == ("a title", "someone", rate)
    assert np.array_equal(read(render(content, "wav")).content.samples, content.samples)
    assert np.array_equal(read(render(read(render(content, "wav")).content, "flac")).content.samples, content.samples)


@needs_soundfile
def test_flac_that_is_not_read(monkeypatch):
    data, _ = flac(2, 2, 999, title="a")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(9), 8000, format="FLAC", subtype="PCM_24")
    stays(out.getvalue(), "it has 24")
    stays(data + b"TAG" + bytes(125), "follow its samples")
    stays(data + b"\0", "follow its samples")
    stays(data + data, "follow its samples")
    rate = bytearray(data)
    rate[18:21] = (65537 << 4).to_bytes(3, "big")[:2] + bytes([(65537 << 4 & 0xF0) | data[20] & 15])
    stays(bytes(rate), "65537 samples per second")
    md5 = bytearray(data)
    md5[30] ^= 1
    stays(bytes(md5), "checksum")
    found = read(data, strip=True)
    assert (found.dropped, dict(found.content.about)) == (("tags",), {})
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    assert read(data).content == read(render(read(data).content)).content  # without libFLAC too


@needs_soundfile
@pytest.mark.parametrize(
    ("channels", "rate", "why"), [(9, 8000, "8 channels"), (1, 0, "1 to 65535"), (1, 65537, "multiples of ten")]
)
def test_sound_that_flac_cannot_hold(channels, rate, why):
    with pytest.raises(ArdmError, match=why):
        render(Content(Kind.AUDIO, noise(channels, 1, 9), rate=rate), "flac")


# --- arrays -----------------------------------------------------------------------------------------------------------

TYPES = ["u1", "i1", "?", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<i8", ">u8"]


def npy(x, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, x, **options)
    return out.getvalue()


@given(type=st.sampled_from(TYPES), shape=st.lists(st.integers(0, 12), max_size=5), fortran=st.booleans(),
       version=st.sampled_from([None, (2, 0), (3, 0)]), seed=st.integers(0, 9))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_arrays_come_back_byte_for_byte(type, shape, fortran, version, seed):
    raw = noise(int(np.prod(shape, dtype=int)) * np.dtype(type).itemsize, seed=seed)
    x = (raw % 2 if type == "?" else raw).view(type).reshape(shape, order="F" if fortran else "C")
    data = npy(x, version=version)
    if version == (3, 0):
        stays(data, "header")
        return
    content = read(data).content
    assert content.kind == Kind.ARRAY
    assert render(content) == data
    assert set(content.about) == ({"head"} if version else set())
    if content.samples.size and content.layout.endswith(" C"):
        assert content.samples.tobytes() == x.astype(x.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        ((8, 9), (1, 8, 9)), ((8, 9, 3), (3, 8, 9)), ((8, 9, 1), (1, 8, 9)), ((4, 8, 9), (4, 8, 9)),
        ((7, 9), None), ((8, 9, 5), None), ((5, 8, 9), None), ((1, 4, 8, 9), None), ((100,), None), ((3, 9, 7), None),
    ],
)  # fmt: skip
def test_arrays_that_look_like_pictures(shape, samples):
    for dtype, order in product(("u1", "<u2", ">u2"), "CF"):
        x = np.asarray(noise(*shape, dtype=np.uint16).astype(dtype), order=order)
        content = read(npy(x)).content
        assert content.shape == (samples or (1, 1, x.nbytes)), (dtype, order)
        assert render(content) == npy(x), (dtype, order)
        if samples:
            assert np.array_equal(read(render(content, "png")).content.samples, content.samples), (dtype, order)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (npy(np.zeros(3)), "integers"),
        (npy(np.zeros(3, complex)), "integers"),
        (npy(np.array(["a"])), "integers"),
        (npy(np.zeros(3, "i4,f4")), "integers"),
        (npy(np.array([{}]), allow_pickle=True), "integers"),
        (npy(np.zeros(3, int))[:-1], "ends early"),
        (npy(np.zeros(3, np.int8)).replace(b"(3,), }" + b" " * 12, b"(1099511627776,), }"), "more than"),
        (npy(np.zeros(3, np.int8)).replace(b"(3,), }", b"(2000,)}"), "ends early"),
        (b"\x93NUMPY\1\0\4\0abcd", "header"),
        (b"\x93NUMPY", "header"),
    ],
)
def test_arrays_that_stay_as_they_are(data, why):
    stays(data, why)


def test_an_array_may_be_followed_by_something():
    data = npy(np.arange(9)) + b"more"
    assert render(read(data).content) == data


@given(type=st.sampled_from(TYPES), shape=st.lists(st.integers(1, 12), min_size=2, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_items_of_an_array(type, shape, seed):
    raw = noise(int(np.prod(shape)) * np.dtype(type).itemsize, seed=seed)
    x = (raw % 2 if type == "?" else raw).view(type).reshape(shape)
    found = formats.items(npy(x))
    assert len(found) == len(x)
    assert formats.joined(found) == npy(x)
    for item, row in zip(found, x, strict=True):
        assert item == read(npy(row)).content


def test_files_without_items():
    x = np.arange(24).reshape(4, 6)
    for data in (npy(x[0]), npy(x[:0]), npy(x.astype(float)), npy(x, version=(2, 0)), npy(np.asfortranarray(x)),
                 npy(x) + b"1", npy(x)[:-1], b"", b"text", saved(picture("L"), "PNG")):  # fmt: skip
        assert formats.items(data) is None


def test_joined_refuses_what_does_not_fit():
    one, two = formats.items(npy(np.zeros((1, 9), int))), formats.items(npy(np.zeros((1, 8), int)))
    for wrong in ([], one + two, [Content.of_bytes(b"a")]):
        with pytest.raises(ArdmError, match="only arrays of one layout"):
            formats.joined(wrong)


# --- AIFF -------------------------------------------------------------------------------------------------------------


def aiff(channels, length, coding=b"", bits=16, offset=0, rate=b"\x40\x0e\xac\x44" + bytes(6)):
    """A file from the standard alone: COMM, an odd comment, SSND.  coding: of an AIFF-C; rate: 44100."""
    x = np.random.default_rng(length).integers(256, size=channels * length * bits // 8, dtype=np.uint8).tobytes()
    name = coding + b"\x0enot compressed\0" if coding else b""
    form = struct.pack(">HIH", channels, length, bits) + rate + name
    parts = [(b"COMM", form), (b"ANNO", b"odd"), (b"SSND", struct.pack(">II", offset, 0) + bytes(offset) + x)]
    chunks = b"".join(key + struct.pack(">I", len(body)) + body + bytes(len(body) % 2) for key, body in parts)
    return b"FORM" + struct.pack(">I", 4 + len(chunks)) + (b"AIFC" if coding else b"AIFF") + chunks


@pytest.mark.parametrize("coding", [b"", b"NONE", b"twos", b"sowt"])
@pytest.mark.parametrize(("channels", "length"), [(1, 1), (2, 21), (3, 8)])
def test_aiff_comes_back_byte_for_byte_and_its_samples_are_right(coding, channels, length):
    data = aiff(channels, length, coding, offset=4)
    assert back(data) == data
    content = read(data).content
    raw = np.random.default_rng(length).integers(256, size=2 * channels * length, dtype=np.uint8)
    told = raw.view("<i2" if coding == b"sowt" else ">i2").reshape(length, channels).T.astype(int)
    assert np.array_equal(content.samples[:, 0].astype(int) - 32768, told)
    assert (content.rate, content.origin) == (44100, "aiff")


def test_eight_bits_of_aiff_have_a_sign():
    data = aiff(1, 3, bits=8)
    assert back(data) == data
    told = np.random.default_rng(3).integers(256, size=3, dtype=np.uint8).view("i1").astype(int)
    assert np.array_equal(read(data).content.samples[0, 0].astype(int) - 128, told)


@pytest.mark.parametrize("rate", [0, 1, 8000, 11025, 44100, 192000, (1 << 32) - 1])
@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_sounds_become_aiff_and_come_back(rate, dtype):
    x = np.arange(10, dtype=dtype).reshape(2, 1, 5)
    data = render(Content(Kind.AUDIO, x, "wav", rate=rate), "aiff")
    found = read(data).content
    assert (found.origin, found.rate, dict(found.about)) == ("aiff", rate, {})
    assert np.array_equal(found.samples, x)
    assert render(read(render(found, "wav")).content, "aiff") == data
    if soundfile and rate:
        again, told = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
        assert told == rate or rate > 1 << 31  # libsndfile keeps rates in 31 bits
        wide = x[:, 0].T.astype(int) - (32768 if dtype == "<u2" else 128)
        assert np.array_equal(again, wide if dtype == "<u2" else wide * 256)


def test_other_programs_write_the_same_aiff():
    if not soundfile:
        pytest.skip("needs soundfile")
    for subtype, format in (("PCM_16", "AIFF"), ("PCM_S8", "AIFF")):
        out, x = io.BytesIO(), np.random.default_rng(0).integers(-9000, 9000, (50, 2)).astype(np.int16)
        soundfile.write(out, x, 22050, subtype, format=format)
        assert back(out.getvalue()) == out.getvalue()
        assert read(out.getvalue()).content.rate == 22050


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (aiff(1, 9, b"ulaw"), "it has ulaw of 16 bits"),
        (aiff(1, 9, bits=24), "of 24 bits"),
        (aiff(1, 9, rate=b"\x7f" * 10), "rate"),
        (aiff(1, 0), "no samples"),
        (aiff(0, 9), "no samples"),
        (aiff(1, 9)[:40], "no samples"),
    ],
)
def test_aiff_that_is_kept_as_bytes(data, why):
    stays(data, why)


def test_a_recording_cut_short_keeps_its_samples():
    data = aiff(2, 100)[:-40]
    assert read(data).content.shape == (2, 1, 90)
    assert back(data) == data


# --- what is known by the first bytes ---------------------------------------------------------------------------------

SAMPLES = {
    "png": [saved(picture(m), "PNG") for m in ("1", "L", "P", "RGBA", "I;16")] + [loaded("PNG"), several("PNG")],
    "webp": [saved(picture("RGB"), "WEBP"), loaded("WEBP"), several("WEBP")],
    "bmp": [saved(picture(m), "BMP") for m in ("1", "L", "P", "RGB", "RGBA")],
    "tiff": [saved(picture("P"), "TIFF"), loaded("TIFF"), several("TIFF"), tiff_of(noise(20, 20, 3), ">", True, True)]
    + [tiff_of(noise(20, 20, 3), ">"), *(saved(picture(m), "TIFF") for m in ("1", "L", "RGB", "RGBA", "I;16"))]
    + [saved(picture("RGB"), "TIFF", compression=c) for c in ("tiff_lzw", "packbits", "tiff_deflate", "jpeg")],
    "ppm": [saved(picture(m), "PPM") for m in ("1", "L", "RGB", "I;16")],
    "wav": [sound(1, 1, 20), sound(2, 2, 20), sound(1, 3, 20)],
    "flac": [flac(1, 2, 200, title="t")[0], flac(2, 1, 100)[0]] if soundfile else [b"fLaC" + bytes(60)],
    "aiff": [aiff(1, 20), aiff(2, 21), aiff(1, 3, b"NONE", 8), aiff(2, 5, b"sowt")],
    "npy": [npy(noise(9, 9)), npy(np.arange(5)), npy(np.zeros(3))],
    "jpeg": [saved(picture("RGB"), "JPEG")],
    "gif": [saved(picture("P"), "GIF")],
}


def test_sniff():
    assert set(SAMPLES) == {*ORIGINS[1:], "jpeg", "gif"}
    assert set(ENDINGS.values()) == set(ORIGINS[1:])
    for name, files in SAMPLES.items():
        assert {sniff(data[:64]) for data in files} == {name}
    assert sniff(b"") == sniff(b"RIFF") == sniff(b"BMW, a maker of cars") == ""


def never_fails(data):
    """Reading gives a content, which can be written, and read again."""
    found = read(data)
    if found.content.kind == Kind.BYTES:
        assert found.content.samples.tobytes() == data
    else:
        try:
            again = render(found.content)
        except ArdmError:  # WebP, FLAC: what a library reads and does not write
            pytest.fail(f"{found.content.origin} is read and not written")
        assert read(again).content == found.content
        assert again == data or found.content.origin not in BYTE_FOR_BYTE


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_files_are_read_too(name, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in SAMPLES[name]:
            for end in {*range(0, min(len(data), 200), 3), *range(0, len(data), max(1, len(data) // 60))}:
                never_fails(data[:end])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_too(name, data):
    file = bytearray(data.draw(st.sampled_from(SAMPLES[name])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(4, min(len(file), 400) - 1) | st.integers(4, len(file) - 1))
        file[at] = data.draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    if name == "png" and data.draw(st.booleans()):
        file = checked(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        never_fails(bytes(file))


# --- one guard around every parser ------------------------------------------------------------------------------------

UNCLOSED = b"\x93NUMPY\1\0\x36\0" + b"{'descr': '<i4', 'shape': (3, 4), ".ljust(53) + b"\n" + bytes(48)


@pytest.mark.parametrize("name", sorted(ORIGINS[1:]))
def test_whatever_a_parser_raises_the_bytes_are_kept(name, monkeypatch):
    for error in (RecursionError("deep"), SyntaxError("odd"), KeyError("a"), struct.error("short")):

        def read_(*_, error=error):
            raise error

        monkeypatch.setattr(formats, "FORMATS", {**formats.FORMATS, name: replace(formats.FORMATS[name], read=read_)})
        stays(SAMPLES[name][0], f"{name.upper()}: it is damaged")


@pytest.mark.parametrize("name", sorted(ORIGINS[1:]))
def test_memory_that_is_not_there_is_no_damage(name, monkeypatch):
    def read_(*_):
        raise MemoryError

    monkeypatch.setattr(formats, "FORMATS", {**formats.FORMATS, name: replace(formats.FORMATS[name], read=read_)})
    with pytest.raises(MemoryError):
        read(SAMPLES[name][0])


def test_a_header_that_is_not_closed():
    stays(UNCLOSED, "header cannot be read")
    assert formats.items(UNCLOSED) is None
