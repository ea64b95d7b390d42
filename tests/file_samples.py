"""Small files of every format, made by other programs or byte by byte, for the tests of formats."""

import io
import struct
import wave
import zlib

import numpy as np
import soundfile
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from ardm.content import Kind
from ardm.formats import BYTE_FOR_BYTE, read, render

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


def palette_png(index, rgb, alpha=b"", depth=8):
    rows = b"".join(b"\0" + row.tobytes() for row in index)
    extra = [(b"tRNS", alpha)] if alpha else []
    return png(header(*index.shape, depth, 3), (b"PLTE", rgb), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


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


def several(format, **options):
    pages = [picture("RGB", seed=seed) for seed in range(3)]
    return saved(pages[0], format, save_all=True, append_images=pages[1:], **options)


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


def sound(channels, size, length, rate=44100, seed=0):
    """A WAV file by the standard library."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(rate)
        file.writeframes(noise(length * channels * size, seed=seed).tobytes())
    return out.getvalue()


def flac(channels, size, length, rate=44100, **tags):
    out = io.BytesIO()
    x = noise(length, channels, dtype=np.uint16).view(np.int16)
    with soundfile.SoundFile(out, "w", rate, channels, "PCM_16" if size == 2 else "PCM_S8", format="FLAC") as file:
        for key, value in tags.items():
            setattr(file, key, value)
        file.write(x if size == 2 else x << 8)
    return out.getvalue(), x if size == 2 else x.astype(np.int8)


def npy(x, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, x, **options)
    return out.getvalue()


def aiff(channels, length, coding=b"", bits=16, offset=0, rate=b"\x40\x0e\xac\x44" + bytes(6)):
    """A file from the standard alone: COMM, an odd comment, SSND.  coding: of an AIFF-C; rate: 44100."""
    x = np.random.default_rng(length).integers(256, size=channels * length * bits // 8, dtype=np.uint8).tobytes()
    name = coding + b"\x0enot compressed\0" if coding else b""
    form = struct.pack(">HIH", channels, length, bits) + rate + name
    parts = [(b"COMM", form), (b"ANNO", b"odd"), (b"SSND", struct.pack(">II", offset, 0) + bytes(offset) + x)]
    chunks = b"".join(key + struct.pack(">I", len(body)) + body + bytes(len(body) % 2) for key, body in parts)
    return b"FORM" + struct.pack(">I", 4 + len(chunks)) + (b"AIFC" if coding else b"AIFF") + chunks


SAMPLES = {
    "png": [saved(picture(m), "PNG") for m in ("1", "L", "P", "RGBA", "I;16")] + [loaded("PNG"), several("PNG")],
    "webp": [saved(picture("RGB"), "WEBP"), loaded("WEBP"), several("WEBP")],
    "bmp": [saved(picture(m), "BMP") for m in ("1", "L", "P", "RGB", "RGBA")],
    "tiff": [saved(picture("P"), "TIFF"), loaded("TIFF"), several("TIFF"), tiff_of(noise(20, 20, 3), ">", True, True)]
    + [tiff_of(noise(20, 20, 3), ">"), *(saved(picture(m), "TIFF") for m in ("1", "L", "RGB", "RGBA", "I;16"))]
    + [saved(picture("RGB"), "TIFF", compression=c) for c in ("tiff_lzw", "packbits", "tiff_deflate", "jpeg")],
    "ppm": [saved(picture(m), "PPM") for m in ("1", "L", "RGB", "I;16")],
    "wav": [sound(1, 1, 20), sound(2, 2, 20), sound(1, 3, 20)],
    "flac": [flac(1, 2, 200, title="t")[0], flac(2, 1, 100)[0]],
    "aiff": [aiff(1, 20), aiff(2, 21), aiff(1, 3, b"NONE", 8), aiff(2, 5, b"sowt")],
    "npy": [npy(noise(9, 9)), npy(np.arange(5)), npy(np.zeros(3))],
    "jpeg": [saved(picture("RGB"), "JPEG")],
    "gif": [saved(picture("P"), "GIF")],
}
