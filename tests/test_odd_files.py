"""Odd files of other programs, through the whole way of a file: it comes back, and other programs see the same in it.

BMP, PNM, WAV, npy and TIFF come back byte for byte; PNG, WebP and FLAC as other programs see them; everything else byte
for byte, with a note.
"""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from ardm import formats
from ardm.codec import decode, encode
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.files.compress import compress_file
from ardm.files.load import parse
from ardm.files.options import FileOptions
from ardm.files.restore import decompress_file, rendered
from ardm.formats import BYTE_FOR_BYTE
from file_samples import chunk, header, loaded, noise, npy, picture, png, saved, several, sound
from fuzz_inputs import ADAM7, passes


def tif(x, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, x, **{"photometric": "minisblack", **options})
    return out.getvalue()


def thumbnailed():
    """A picture with a smaller one in a directory below its own."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(noise(40, 50), photometric="minisblack", subifds=1)
        file.write(noise(20, 25), photometric="minisblack", subfiletype=1)
    return out.getvalue()


def voice(subtype, format="WAV", channels=2, rate=8000):
    out = io.BytesIO()
    x = np.sin(np.arange(400 * channels) / 9).reshape(-1, channels) * 0.7
    soundfile.write(out, x, rate, subtype, format=format)
    return out.getvalue()


def chunked(data, *more):
    """A RIFF file with more chunks, and its size as it should be."""
    body = data[12:] + b"".join(name + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for name, b in more)
    return data[:4] + struct.pack("<I", 4 + len(body)) + data[8:12] + body


GREY, WIDE, RGB = noise(40, 50), noise(40, 50, dtype=np.uint16), noise(40, 50, 3)
IDAT = (b"IDAT", zlib.compress(b"\0abc\0def"))

ODD = {
    # TIFF, by tifffile: planes that no tag points to, strips, orders, tags, kinds of several pages
    "tiff-stack-without-tags": tif(noise(5, 64, 80, dtype=np.uint16), truncate=True),
    "tiff-zeros-without-tags": tif(np.zeros((5, 64, 80), "u2"), truncate=True),
    "tiff-two-planes-without-tags": tif(noise(2, 64, 80), truncate=True),
    "tiff-imagej": tif(noise(3, 40, 50), imagej=True),
    "tiff-imagej-one": tif(GREY, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "um"}),
    "tiff-ome": tif(noise(3, 40, 50), ome=True),
    "tiff-ome-one": tif(GREY, ome=True),
    "tiff-big": tif(GREY, bigtiff=True),
    "tiff-big-endian": tif(WIDE, byteorder=">"),
    "tiff-rows": tif(RGB, photometric="rgb", rowsperstrip=7),
    "tiff-row-each": tif(WIDE, rowsperstrip=1),
    "tiff-white-is-zero": tif(GREY, photometric="miniswhite"),
    "tiff-planar": tif(noise(3, 40, 50), photometric="rgb", planarconfig="separate"),
    "tiff-tiles": tif(GREY, tile=(16, 16)),
    "tiff-deflate": tif(WIDE, compression="zlib"),
    "tiff-deflate-predictor": tif(WIDE, compression="zlib", predictor=True),
    "tiff-float": tif(GREY.astype("f4")),
    "tiff-signed": tif(WIDE.astype("i2")),
    "tiff-32": tif(WIDE.astype("u4")),
    "tiff-bits": tif(GREY > 90),
    "tiff-alpha": tif(noise(40, 50, 4), photometric="rgb", extrasamples=["unassalpha"]),
    "tiff-five-planes": tif(noise(40, 50, 5), photometric="rgb", extrasamples=[0, 0]),
    "tiff-palette": tif(GREY, photometric="palette", colormap=noise(3, 256).astype("u2") * 257),
    "tiff-palette-of-16-bits": tif(GREY, photometric="palette", colormap=noise(3, 256, dtype=np.uint16)),
    "tiff-private-tags": tif(GREY, extratags=[(65000, "B", 900, noise(900).tobytes(), True)]),
    "tiff-thumbnail": thumbnailed(),
    "tiff-trailing": tif(GREY) + b"and what somebody wrote behind it",
    "tiff-trailing-much": tif(GREY) + noise(100_000).tobytes(),
    "tiff-cut": tif(GREY)[:-1],
    "tiff-pillow-palette": saved(picture("P"), "TIFF"),
    "tiff-pillow-pages": several("TIFF"),
    "tiff-pillow-tags": loaded("TIFF"),
    # WAV and FLAC, by soundfile
    **{f"wav-{s.lower()}": voice(s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "IMA_ADPCM")},
    "wav-extensible": voice("PCM_16", "WAVEX"),
    "wav-rf64": voice("PCM_16", "RF64"),
    "wav-chunks-behind": chunked(sound(1, 2, 99), (b"LIST", b"INFOISFT\4\0\0\0me\0\0"), (b"cue ", noise(28).tobytes())),
    "wav-two-data-chunks": chunked(sound(1, 2, 99), (b"data", noise(100).tobytes())),
    "wav-stopped": sound(1, 2, 99)[:-7],
    "wav-claims-all": sound(1, 2, 99)[:40] + b"\xff\xff\xff\xff" + sound(1, 2, 99)[44:],
    "wav-half-a-frame": sound(2, 2, 99) + b"xyz",
    "aiff": voice("PCM_16", "AIFF"),
    "flac": voice("PCM_16", "FLAC"),
    "flac-8": voice("PCM_S8", "FLAC"),
    "flac-24": voice("PCM_24", "FLAC"),
    "flac-behind-id3": b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + voice("PCM_16", "FLAC"),
    "flac-trailing": voice("PCM_16", "FLAC") + b"TAG" + bytes(125),
    "flac-ogg": voice("VORBIS", "OGG"),
    # PNG and WebP
    "png-everything": loaded("PNG"),
    "png-trailing": loaded("PNG") + b"PK\3\4 and so on",
    "png-two": loaded("PNG") * 2,
    "png-pieces": png(header(1, 1), *((b"IDAT", bytes([b])) for b in zlib.compress(b"\0abc")), (b"IEND", b"")),
    "png-no-end": png(header(1, 1), (b"IDAT", zlib.compress(b"\0abc"))),
    "png-bytes-behind-its-stream": png(header(1, 1), (b"IDAT", zlib.compress(b"\0abc") + b"more"), (b"IEND", b"")),
    "png-private": png(header(2, 1), (b"prVt", b"one"), (b"prVt", b"two"), IDAT, (b"prVt", b"three"), (b"IEND", b"")),
    "png-end-with-a-body": png(header(2, 1), IDAT)[:] + chunk(b"IEND", b"secret"),
    "png-two-profiles": png(header(2, 1), *[(b"iCCP", b"a\0\0" + zlib.compress(b"p"))] * 2, IDAT, (b"IEND", b"")),
    "png-profile-with-more": png(header(2, 1), (b"iCCP", b"a\0\0" + zlib.compress(b"p") + b"x"), IDAT, (b"IEND", b"")),
    "png-animation": several("PNG"),
    "webp-everything": loaded("WEBP"),
    "webp-unknown-chunk": chunked(loaded("WEBP"), (b"prVt", b"private")),
    "webp-trailing": loaded("WEBP") + b"more",
    "webp-animation": several("WEBP"),
    # BMP, PNM, npy
    "bmp-trailing": saved(picture("RGB"), "BMP") + b"more",
    "bmp-16-bits": saved(picture("RGB"), "BMP")[:28] + b"\x10" + saved(picture("RGB"), "BMP")[29:],
    "bmp-gap-between-header-and-rows": saved(picture("RGB"), "BMP")[:10]
    + struct.pack("<I", 60) + saved(picture("RGB"), "BMP")[14:54] + b"secret" + saved(picture("RGB"), "BMP")[54:],
    "bmp-rows-filled-up": bytes(saved(picture("RGB"), "BMP")[:-1]) + b"\7",
    "ppm-two-pictures": saved(picture("RGB"), "PPM") * 2,
    "ppm-comments": b"P6 # one\n# two\n2 1\n255\nabcdef",
    "pam": b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\nx",
    "pgm-as-text": b"P2\n2 1\n255\n3 4\n",
    "npy-trailing": npy(GREY) + b"more",
    "npy-version-2": npy(GREY, version=(2, 0)),
    "npy-fortran": npy(np.asfortranarray(WIDE)),
    "npy-records": npy(np.zeros(3, "i4,f4")),
    "npz": (lambda out: (np.savez(out, a=GREY), out.getvalue())[1])(io.BytesIO()),
}  # fmt: skip


def through(data):
    """A file, compressed without a model and restored."""
    one = parse(data, FileOptions())
    original = one.data if one.original else None
    compressed, _ = encode.compress(one.content, None, original)
    return rendered(decode.decompress(compressed, lambda *_: None))


FORMATS = sorted({name.partition("-")[0] for name in ODD})


def odd(format):
    """(name, bytes) of the odd files of a format."""
    return [(name, data) for name, data in ODD.items() if name.partition("-")[0] == format]


@pytest.mark.parametrize("format", FORMATS)
def test_odd_files_come_back(format):
    for name, data in odd(format):
        way = passes(data)
        assert way, name
        again = through(data)
        assert again == data or way == "agrees", name
        origin = parse(data, FileOptions()).content.origin
        assert again == data or origin not in (*BYTE_FOR_BYTE, ""), name


SAMPLES = {  # of these the samples are taken out: they are not merely kept
    "tiff-imagej-one", "tiff-ome-one", "tiff-big-endian", "tiff-rows", "tiff-row-each",
    "tiff-white-is-zero", "tiff-bits", "tiff-alpha", "tiff-palette", "tiff-private-tags", "tiff-trailing",
    "tiff-pillow-palette", "tiff-pillow-tags", "wav-pcm_u8", "wav-pcm_16", "wav-extensible", "wav-chunks-behind",
    "wav-two-data-chunks", "wav-stopped", "wav-claims-all", "wav-half-a-frame", "flac", "flac-8", "png-everything",
    "png-trailing", "png-pieces", "png-private", "png-two-profiles", "png-profile-with-more", "webp-everything",
    "webp-unknown-chunk", "bmp-trailing", "bmp-gap-between-header-and-rows", "ppm-two-pictures", "ppm-comments",
    "npy-trailing", "npy-version-2", "npy-fortran", "png-two", "aiff",
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_which_are_read(format):
    for name, data in odd(format):
        one = parse(data, FileOptions())
        assert (one.content.kind != Kind.BYTES) == (name in SAMPLES), (name, one.notes)
        if one.content.kind == Kind.BYTES and format in ("tiff", "wav", "flac", "png", "webp", "bmp", "pam", "pgm"):
            assert one.notes or name in ("flac-behind-id3", "flac-ogg"), f"{name}: a note says why"


def test_other_programs_see_the_samples_of_a_tiff():
    for name in sorted(n for n in SAMPLES if n.startswith("tiff")):
        x = parse(ODD[name], FileOptions()).content
        seen = tifffile.imread(io.BytesIO(ODD[name]), key=0)
        seen = seen.astype(np.uint8) * 255 if seen.dtype == bool else seen
        seen = seen[None] if seen.ndim == 2 else seen.transpose(2, 0, 1)
        assert np.array_equal(x.samples, 255 - seen if "white" in name else seen), name


def test_other_programs_hear_the_samples_of_a_wav():
    for name in sorted(n for n in SAMPLES if n.startswith("wav") and "two" not in n):
        x = parse(ODD[name], FileOptions()).content
        heard, rate = soundfile.read(io.BytesIO(ODD[name]), dtype="int16", always_2d=True)
        mine = x.samples[:, 0].T.astype(int) - (1 << 8 * x.samples.itemsize - 1)
        assert rate == x.rate, name
        assert np.array_equal(mine if x.is_16bit else mine << 8, heard[: len(mine)]), name
        assert len(mine) >= len(heard), name


def test_a_source_is_deleted_only_when_all_of_it_comes_back(tmp_path):
    """The stack whose planes no tag points to, through files, with --rm."""
    source = tmp_path / "t.tif"
    source.write_bytes(ODD["tiff-zeros-without-tags"])
    how = FileOptions(Engine(), keep=False)
    done = compress_file(source, options=how)
    assert done.removed
    assert not source.exists()
    decompress_file(done.target, options=how)
    assert source.read_bytes() == ODD["tiff-zeros-without-tags"]
    assert tifffile.imread(source).shape == (5, 64, 80)


def test_an_alpha_that_a_webp_says_is_not_used():
    """Whether it is used is a hint, in one bit of the stream: the alpha is there all the same."""
    data = bytearray(saved(Image.fromarray(noise(9, 13, 4)), "WEBP"))
    at = data.index(b"VP8L") + 12
    data[at] &= 0xEF
    one = parse(bytes(data), FileOptions())
    assert one.content.kind == Kind.BYTES
    assert "says that it has none" in one.notes[0]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_bits_that_fill_up_the_rows_of_a_png(depth, interlaced):
    width, passes = 9, ADAM7 if interlaced else ((0, 0, 1, 1),)
    for fill in (0, 1):
        raw = b""
        for y, x, dy, dx in passes:
            h, w = -(-(5 - y) // dy), -(-(width - x) // dx)
            if h > 0 and w > 0:
                row = bytearray((w * depth + 7) // 8)
                row[-1] |= fill if w * depth % 8 else 0
                raw += (b"\0" + bytes(row)) * h
        chunks = (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
        one = parse(png(header(5, width, depth, 0, int(interlaced)), *chunks), FileOptions())
        assert (one.content.kind == Kind.BYTES) == bool(fill), one.notes


@pytest.mark.slow
def test_files_that_would_take_long_or_much():
    """Each took tens of seconds or gigabytes: tags that share their bytes, chunks and gaps without number."""
    entries = b"".join(struct.pack("<HHII", 1000 + k, 1, 100_000, 250_000) for k in range(20_000))
    tags = b"II*\0" + struct.pack("<IH", 8, 20_000) + entries + bytes(4 + 200_000)
    packed = zlib.compress(bytes((1 << 24) + 10), 9)
    profiles = png(header(2, 1), *[(b"iCCP", b"n\0\0" + packed)] * 60, IDAT, (b"IEND", b""))
    crowd = png(header(2, 1), *[(b"prVt", b"")] * 70_000, IDAT, (b"IEND", b""))
    minus = "{'descr': '<i4', 'fortran_order': False, 'shape': " + "-" * 9000 + "1, }"
    nested = b"\x93NUMPY\1\0" + struct.pack("<H", 9990) + minus.encode().ljust(9989) + b"\n"
    tracemalloc.start()
    began = time.process_time()
    for data in (tags, profiles, crowd, nested):
        assert parse(data, FileOptions()).content.kind == Kind.BYTES or data is profiles
    gaps = Content(Kind.IMAGE, noise(1, 8, 8), "tiff", {"head": b"x", "tail": b"y", "gaps": bytes(1 << 20)})
    with pytest.raises(ArdmError):
        formats.render(gaps)
    assert time.process_time() - began < 30
    assert tracemalloc.get_traced_memory()[1] < 1 << 28
    tracemalloc.stop()


def test_no_webp_that_pillow_writes_is_taken_for_one_with_something_behind_it():
    rng, kept = np.random.default_rng(0), []
    for k in range(60):
        height, width = rng.integers(1, 40, 2)
        steps = rng.integers(0, 1 + k % 7, (height, width, 3 + k % 2)).cumsum(0).cumsum(1)
        data = saved(Image.fromarray(steps.astype(np.uint8)), "WEBP", method=k % 7)
        assert through(data) == data or passes(data) == "agrees"
        kept.append(parse(data, FileOptions()).content.kind == Kind.BYTES)
        size = struct.unpack_from("<I", data, 16)[0]
        for byte in (b"\0\0", b"\x5a"):  # bytes behind the picture
            odd = data[:20] + data[20 : 20 + size] + byte + bytes((size + len(byte)) % 2)
            more = (
                b"RIFF" + struct.pack("<I", len(odd) - 8) + odd[8:16] + struct.pack("<I", size + len(byte)) + odd[20:]
            )
            assert parse(more, FileOptions()).content.kind == Kind.BYTES
    assert not any(kept)


def test_pictures_of_pillow_come_back_whatever_the_mode():
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P", "I;16"):
        for format in ("PNG", "TIFF"):
            data = saved(picture(mode), format)
            with Image.open(io.BytesIO(data)) as a, Image.open(io.BytesIO(through(data))) as b:
                assert (a.mode, np.asarray(a).tolist()) == (b.mode, np.asarray(b).tolist())
