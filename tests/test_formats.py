"""Formats: every sample comes back, or every byte does; and nothing in a file makes reading it fail."""

import struct
import warnings
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ardm import formats
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ArdmError
from ardm.formats import BYTE_FOR_BYTE, ENDINGS, read, render, sniff
from file_samples import SAMPLES, back, header, noise, picture, png, saved, several, stays
from fuzz_inputs import checked

COMPRESSIONS = ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits")


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


# --- what is known by the first bytes ---------------------------------------------------------------------------------


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
