"""PNG of every depth and colour type, with all its chunks in their order.

Pillow reads only 8 of 16 bits, so it is used only to undo the filters.  PNG filters work on bytes one pixel apart; hence
the high bytes of 16-bit samples are an 8-bit image, filters included, and the low bytes are another one.

about "png": the chunks in order, name 4 | length 4 | body.  Placeholders stand for entries that about holds under names
of their own: "=icc" (body: the name of the profile), "=exi", "=xmp", "=plt", "=alp", "=dat".  Absent if the order is
the usual one.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from ardm.codec.index import MAX_ABOUT
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats.claims import Claim, Part
from ardm.formats.common import FileFormat, KeepBytes, Read, admit, image, indices, narrow, pack, pixels, planes, widen

Chunk: TypeAlias = tuple[bytes, bytes]

_MAX_CHUNKS = 1 << 16
"""Most chunks of a file; half a gigabyte of samples alone may have as many."""
_START = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"
_PROFILE = b"ICC Profile"
_WORDS = {b"=icc": "colour profile", b"=exi": "EXIF", b"=xmp": "XMP", b"tEXt": "text", b"zTXt": "text", b"iTXt": "text"}
_LEVEL = {True: 9, False: 6}  # of deflate; True: a small image


def _chunks(data: bytes) -> tuple[list[Chunk], bytes]:
    """All chunks, and the bytes after the last; KeepBytes for a damaged file."""
    at, chunks, beside = len(_START), list[Chunk](), 0
    while not chunks or chunks[-1][0] != b"IEND":
        if beside > MAX_ABOUT or len(chunks) > _MAX_CHUNKS:
            raise KeepBytes(f"it has more than {MAX_ABOUT} bytes, or {_MAX_CHUNKS} chunks, besides its samples")
        if at + 12 > len(data):
            raise KeepBytes("it ends early")
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if data[at + 8 + size : at + 12 + size] != struct.pack(">I", zlib.crc32(name + body)):
            raise KeepBytes("it is damaged, or ends early")
        chunks.append((name, body))
        beside += 0 if name == b"IDAT" else 12 + size
        at += 12 + size
    return chunks, data[at:]


def _write(name: bytes, body: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))))


# --- samples ----------------------------------------------------------------------------------------------------------


def _passes(height: int, width: int, interlaced: int) -> list[tuple[int, int]]:
    """Height and width of each stored image: one, or the passes of an interlaced file."""
    if not interlaced:
        return [(height, width)]
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, x, dy, dx in _ADAM7]
    return [(h, w) for h, w in sizes if h > 0 and w > 0]


def _inflate(data: bytes, size: int) -> bytes:
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(data, size + 1)
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise KeepBytes("its samples are not as many as its header says")
    return raw


def _samples(data: bytes, height: int, width: int, depth: int, colour: int, interlaced: int) -> NDArray[Any]:
    """Decode the body of IDAT to numbers (H, W) or (H, W, C)."""
    channels = _CHANNELS[colour]
    sizes = [(h, 1 + (w * channels * depth + 7) // 8) for h, w in _passes(height, width, interlaced)]
    size = sum(h * row for h, row in sizes)
    if size > 1040 * len(data) + 1024:  # deflate cannot expand any further
        raise KeepBytes("its samples are not as many as its header says")
    raw = _inflate(data, size)
    if depth < 8:
        _refuse_ends(raw, _passes(height, width, interlaced), depth)
    if depth < 16:
        return _unfilter(raw, height, width, depth, colour, interlaced)
    halves: list[list[bytes]] = [[], []]
    at = 0
    for h, row in sizes:
        rows = np.frombuffer(raw, np.uint8, h * row, at).reshape(h, row)
        for k, half in enumerate(halves):
            half.append(np.concatenate([rows[:, :1], rows[:, 1 + k :: 2]], axis=1).tobytes())
        at += h * row
    high, low = (_unfilter(b"".join(half), height, width, 8, colour, interlaced) for half in halves)
    return high.astype(np.uint16) << 8 | low


def _refuse_ends(raw: bytes, passes: Sequence[tuple[int, int]], depth: int) -> None:
    """KeepBytes if padding bits at the ends of rows are not zero: they are not samples, and we write zeros."""
    at = 0
    for height, width in passes:
        row = (width * depth + 7) // 8
        whole = 8 * row // depth  # samples of a row, counting the padding
        if whole > width:
            part = raw[at : at + height * (1 + row)]
            if _unfilter(part, height, whole, depth, 0, 0)[:, width:].any():
                raise KeepBytes("its rows end in bits that are not zero")
        at += height * (1 + row)


def _unfilter(raw: bytes, height: int, width: int, depth: int, colour: int, interlaced: int) -> NDArray[np.uint8]:
    """Undo the filters with Pillow, up to 8 bits; below 8 bits as palette indices, since Pillow scales greys."""
    indexed = depth < 8 or colour == 3
    head = struct.pack(">IIBBBBB", width, height, depth, 3 if indexed else colour, 0, 0, interlaced)
    file = [_START, _write(b"IHDR", head), _write(b"PLTE", bytes(3 << depth)) if indexed else b""]
    file += [_write(b"IDAT", zlib.compress(raw, 0)), _write(b"IEND", b"")]
    with PngImageFile(io.BytesIO(b"".join(file))) as picture:  # Image.open has a global limit
        return np.array(picture)


def _filter(rows: NDArray[np.uint8], pixel: int) -> Iterator[bytes]:
    """Filter each row with the filter of the smallest residue; pixel: bytes of a pixel."""
    step = max(1, (1 << 20) // rows.shape[1])
    for at in range(0, len(rows), step):
        x = rows[at : at + step].astype(np.int16)
        up, left, corner = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
        up[1:] = x[:-1]
        if at:
            up[0] = rows[at - 1]
        left[:, pixel:], corner[:, pixel:] = x[:, :-pixel], up[:, :-pixel]
        a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        residues = np.stack([(x - p).astype(np.uint8) for p in (0, left, up, (left + up) >> 1, paeth)])
        best = abs(residues.view(np.int8).astype(np.int16)).sum(-1, dtype=np.int64).argmin(0)
        yield np.concatenate([best[:, None].astype(np.uint8), residues[best, np.arange(len(x))]], 1).tobytes()


# --- files ------------------------------------------------------------------------------------------------------------


def _read(data: bytes, strip: bool, most: int) -> Read:
    """A file to an image; strip leaves palette and transparency only."""
    chunks, tail = _chunks(data)
    names = [name for name, _ in chunks]
    first = names.index(b"IDAT") if b"IDAT" in names else 0
    body = [body for name, body in chunks if name == b"IDAT"]
    if names[0] != b"IHDR" or len(chunks[0][1]) != 13 or not first:
        raise KeepBytes("its header cannot be read")
    width, height, depth, colour, method, filters, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if b"acTL" in names:
        raise KeepBytes("it is an animation")
    strange = {name for name in names if not name[0] & 32} - {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
    if not all(re.fullmatch(rb"[A-Za-z]{4}", name) for name in names) or chunks[-1][1]:
        raise KeepBytes("its chunks have invalid names")
    if depth not in _DEPTHS.get(colour, ()) or method or filters or interlaced > 1 or strange:
        raise KeepBytes("its depth, colour type, method or critical chunks are not supported")
    if names[first : first + len(body)] != [b"IDAT"] * len(body) or names.count(b"PLTE") > 1:
        raise KeepBytes("its chunks are out of order")
    admit(_CHANNELS[colour], height, width, most)
    about: dict[str, bytes] = {}
    others = list(_others([*chunks[1:first], (b"=dat", b""), *chunks[first + len(body) : -1]], about, colour))
    x = planes(_samples(b"".join(body), height, width, depth, colour, interlaced))
    if colour == 3 and x.max() >= len(about["palette"]) // 3:
        raise KeepBytes("it has pixels without a colour")
    if depth < 8:
        x = x if colour == 3 else widen(x, depth)
        about["depth"] = bytes([depth])
    if tail:
        about["tail"] = tail
    lost: list[str] = []
    if strip:
        stays = (b"tRNS", b"=plt", b"=alp", b"=dat")
        lost = [_WORDS.get(name, name.decode("latin-1")) for name, _ in others if name not in stays]
        lost += ["bytes after the image"] * bool(tail)
        others = [chunk for chunk in others if chunk[0] in stays]
        about = {key: value for key, value in about.items() if key in ("palette", "alpha", "depth")}
    if others != _usual(about):
        about["png"] = b"".join(name + struct.pack(">I", len(body)) + body for name, body in others)
    return Read(image(x, "png", about), (), tuple(dict.fromkeys(lost)))


def _others(chunks: Sequence[Chunk], about: dict[str, bytes], colour: int) -> Iterator[Chunk]:
    """The chunks for about "png"; profile, EXIF, XMP, palette and alpha go into about under their own names."""
    names: set[bytes] = set()
    for name, body in chunks:
        profile, _, packed = body.partition(b"\0")
        first = name not in names
        names.add(name)
        if name == b"iCCP" and first and len(profile) < 80 and (icc := _profile(packed)):
            about["icc"] = icc
            yield b"=icc", profile
        elif name == b"eXIf" and "exif" not in about:
            about["exif"] = body
            yield b"=exi", b""
        elif name == b"iTXt" and "xmp" not in about and body.startswith(_XMP):
            about["xmp"] = body[len(_XMP) :]
            yield b"=xmp", b""
        elif name == b"PLTE" and colour == 3:
            if not body or len(body) % 3 or len(body) > 768:
                raise KeepBytes("its palette is damaged")
            about["palette"] = body
            yield b"=plt", b""
        elif name == b"tRNS" and colour == 3 and "alpha" not in about:
            about["alpha"] = body
            yield b"=alp", b""
        else:
            yield name, body
    if colour == 3 and "palette" not in about:
        raise KeepBytes("it has no palette")


def _profile(packed: bytes) -> bytes:
    """The colour profile; b"" if it cannot be read, and then the chunk is kept as it is."""
    unpacker = zlib.decompressobj()
    try:
        icc = unpacker.decompress(packed[1:], 1 << 24)
    except zlib.error:
        return b""
    return icc if packed[:1] == b"\0" and unpacker.eof and not unpacker.unused_data else b""


def _usual(about: Any) -> list[Chunk]:
    """Chunks in the usual order."""
    places = (("icc", b"=icc"), ("palette", b"=plt"), ("alpha", b"=alp"), ("exif", b"=exi"), ("xmp", b"=xmp"))
    chunks = [(name, _PROFILE if name == b"=icc" else b"") for key, name in places if key in about]
    return [*chunks, (b"=dat", b"")]


def _entries(data: bytes) -> Iterator[Chunk]:
    """Parse the chunks of about "png"."""
    at = 0
    while at < len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size


def _render(content: Content) -> bytes:
    """Write a file; ArdmError above four channels."""
    x, about = content.samples, content.about
    channels, height, width = content.shape
    if channels > 4 or max(height, width) >= 1 << 31:
        raise ArdmError(f"png holds up to four channels; the image has shape {content.shape}")
    others = list(_entries(about["png"])) if "png" in about and content.origin == "png" else _usual(about)
    depth = about["depth"][0] if "depth" in about else 8 * x.itemsize
    rows: NDArray[np.uint8]
    if "palette" in about:
        colour, rows = 3, pack(indices(x, about), depth)
    elif depth < 8:
        colour, rows = 0, pack(narrow(x, depth)[0], depth)
    else:
        colour, rows = (0, 4, 2, 6)[channels - 1], _bytes(x)
    packer = zlib.compressobj(_LEVEL[rows.size < 1 << 20])
    plain = colour == 3 or depth < 8  # filters do not help indices and packed bits
    filtered = [np.pad(rows, ((0, 0), (1, 0))).tobytes()] if plain else _filter(rows, channels * depth // 8)
    packed = b"".join([*(packer.compress(part) for part in filtered), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    out = [_START, _write(b"IHDR", head)]
    for name, body in others:
        out += _placed(name, body, about, packed)
    return b"".join([*out, _write(b"IEND", b""), about.get("tail", b"") if content.origin == "png" else b""])


def _bytes(x: Samples) -> NDArray[np.uint8]:
    """Samples (C, H, W) to rows of bytes, high bytes first."""
    y = pixels(x).astype(">u2" if x.itemsize > 1 else "u1")
    return y.reshape(len(y), -1).view(np.uint8)


def _placed(name: bytes, body: bytes, about: Any, packed: bytes) -> Iterator[bytes]:
    if name == b"=dat":
        yield from (_write(b"IDAT", packed[at : at + (1 << 30)]) for at in range(0, len(packed), 1 << 30))
    elif name == b"=icc" and "icc" in about:
        yield _write(b"iCCP", body + b"\0\0" + zlib.compress(about["icc"], 9))
    elif name == b"=exi" and "exif" in about:
        yield _write(b"eXIf", about["exif"])
    elif name == b"=xmp" and "xmp" in about:
        yield _write(b"iTXt", _XMP + about["xmp"])
    elif name == b"=plt" and "palette" in about:
        yield _write(b"PLTE", about["palette"])
    elif name == b"=alp" and "alpha" in about:
        yield _write(b"tRNS", about["alpha"])
    elif name[:1] != b"=":
        yield _write(name, body)


def _claim(part: Part) -> Claim:
    width, height, depth, colour = struct.unpack(">IIBB", part(16, 10))
    return Claim("png", _CHANNELS.get(colour, 4), height, width, depth)


FORMAT = FileFormat("png", (".png",), re.escape(_START), _claim, _read, _render, Kind.IMAGE, (6, 14))
