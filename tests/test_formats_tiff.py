"""TIFF: every uncompressed arrangement comes back byte for byte, and all others are kept."""

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats import displayed, read, render
from file_samples import (
    ICC,
    SIZES,
    back,
    carried,
    exif,
    noise,
    opened,
    stays,
    tiff_of,
    tiff_with,
)


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
