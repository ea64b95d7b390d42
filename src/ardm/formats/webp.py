"""WebP: still, lossless images.

Lossy files are kept byte for byte, since their samples take far more space.  about "webp": unknown chunks, unchanged.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats.claims import MAX_HOPS, Claim, Part
from ardm.formats.common import FileFormat, KeepBytes, Read, admit, image, pixels, planes

_KNOWN = {b"ICCP": "icc", b"EXIF": "exif", b"XMP ": "xmp"}
_FLAGS = {"icc": 0x20, "exif": 0x08, "xmp": 0x04}
_WORDS = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP", "webp": "unknown chunks"}
_SIDE = 1 << 14


def _limit() -> int:
    """Pixels above which Pillow refuses to decode WebP; there is no way around it."""
    return 2 * (Image.MAX_IMAGE_PIXELS or _SIDE * _SIDE)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and bodies of all chunks; KeepBytes if the file holds anything else."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data) or data[end:] not in (b"", bytes(end % 2)):
        raise KeepBytes("it ends early, or other bytes follow it")
    at = 12
    while at < end:
        name, size = struct.unpack_from("<4sI", data, at)
        after = at + 8 + size
        if after > end or data[after : after + size % 2] not in (b"", b"\0"):
            raise KeepBytes("its chunks do not fill it")
        yield name, data[at + 8 : after]
        at = after + size % 2


def _chunk(name: bytes, body: bytes) -> bytes:
    return b"".join((name, struct.pack("<I", len(body)), body, bytes(len(body) % 2)))


def _file(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _header(stream: bytes) -> tuple[int, int, bool]:
    """Height, width, and whether there is alpha."""
    if len(stream) < 5 or stream[0] != 0x2F:
        raise KeepBytes("it is damaged")
    fields = int.from_bytes(stream[1:5], "little")
    return (fields >> 14 & 0x3FFF) + 1, (fields & 0x3FFF) + 1, bool(fields >> 28 & 1)


def _decode(stream: bytes) -> Samples:
    with WebPImageFile(io.BytesIO(_file(_chunk(b"VP8L", stream)))) as picture:
        return planes(np.array(picture))


def _followed(stream: bytes, x: Samples) -> bool:
    """Whether extra bytes follow the image inside its stream, where decoders do not look.

    Decoders read missing bits of the last pixel as 0, so an image that decodes the same without its last byte may still
    use that byte.  It does if flipping some bit of the byte changes the image; otherwise the byte is extra.
    """

    def same(stream: bytes) -> bool:
        try:
            return np.array_equal(_decode(stream), x)
        except OSError:  # the missing or changed bits were needed
            return False

    if not same(stream[:-1]):
        return False
    if stream[-1] == 0:  # one zero byte may be padding
        return same(stream[:-2])
    return all(same(stream[:-1] + bytes([stream[-1] ^ 1 << bit])) for bit in range(8))


def _extended(about: Mapping[str, bytes], height: int, width: int, alpha: bool) -> bytes:
    """The extended header of an image with this metadata."""
    flags = sum(flag for key, flag in _FLAGS.items() if key in about)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes([flags | 0x10 * alpha, 0, 0, 0]) + sides


def _read(data: bytes, strip: bool, most: int) -> Read:
    """A file to an image; strip leaves the samples only."""
    chunks = list(_chunks(data))
    names = [name for name, _ in chunks]
    if b"ANIM" in names or b"ANMF" in names:
        raise KeepBytes("it is an animation")
    if b"VP8 " in names:
        raise KeepBytes("it is lossy")
    if names.count(b"VP8L") != 1 or names.count(b"VP8X") != (len(names) > 1) or names[0] not in (b"VP8X", b"VP8L"):
        raise KeepBytes("its chunks are out of order")
    stream = dict(chunks)[b"VP8L"]
    height, width, alpha = _header(stream)
    admit(3 + alpha, height, width, most)
    if height * width > _limit():
        raise KeepBytes(f"it has more than the {_limit()} pixels that Pillow reads")
    stream = (
        stream[:4] + bytes([stream[4] | 0x10]) + stream[5:]
    )  # the alpha bit is a hint, and decoders drop alpha without it
    x = _decode(stream)
    if x.shape != (4, height, width):
        raise KeepBytes("it is damaged")
    if _followed(stream, x):
        raise KeepBytes("other bytes follow its samples")
    if not alpha and (x[3] != 255).any():
        raise KeepBytes("it has alpha but its header says that it has none")
    x = x if alpha else x[:3]
    about, rest = dict[str, bytes](), b""
    for name, body in chunks:
        if name in _KNOWN and _KNOWN[name] not in about:
            about[_KNOWN[name]] = body
        elif name not in (b"VP8X", b"VP8L"):
            rest += _chunk(name, body)
    if rest:
        about["webp"] = rest
    if names[0] == b"VP8X" and chunks[0][1] != _extended(about, height, width, alpha):
        raise KeepBytes("its header does not agree with its chunks")
    return Read(image(x, "webp", {} if strip else about), (), tuple(_WORDS[key] for key in about) if strip else ())


def _render(content: Content) -> bytes:
    """Write a file; ArdmError for 16 bits and above 16,383 pixels a side.  Grey becomes RGB."""
    x = content.samples
    channels, height, width = content.shape
    if content.is_16bit or channels > 4 or max(height, width) >= _SIDE:
        raise ArdmError(
            f"webp holds 8 bits, up to four channels and 16383x16383 pixels; got shape {x.shape} of {x.dtype}"
        )
    if height * width > _limit():
        raise ArdmError(f"webp: Pillow reads up to {_limit()} pixels; the image has {width}x{height}")
    colour = x if channels > 2 else np.concatenate([x[:1], x[:1], x])
    out = io.BytesIO()
    Image.fromarray(pixels(colour)).save(out, "WEBP", lossless=True, exact=True, quality=80, method=4)
    stream = bytearray(dict(_chunks(out.getvalue()))[b"VP8L"])
    if len(colour) == 4:
        stream[4] |= 0x10  # alpha of 255 everywhere is alpha, too
    if not np.array_equal(_decode(bytes(stream)), colour):
        raise ArdmError(
            "the WebP library of this machine is not lossless: the decoded image differs from the encoded one"
        )
    about = content.about
    rest = about.get("webp", b"") if content.origin == "webp" else b""
    parts = [_chunk(b"VP8L", bytes(stream))]
    if rest or not about.keys().isdisjoint(_FLAGS):
        parts.insert(0, _chunk(b"VP8X", _extended(about, height, width, len(colour) == 4)))
        parts[1:1] = [_chunk(b"ICCP", about["icc"])] if "icc" in about else []
        parts += [_chunk(name, about[key]) for name, key in _KNOWN.items() if key != "icc" and key in about]
    return _file(b"".join([*parts, rest]))


def _claim(part: Part) -> Claim | None:
    at = 12
    for _ in range(MAX_HOPS):
        name, size = struct.unpack("<4sI", part(at, 8))
        if name == b"VP8L":
            fields = int.from_bytes(part(at + 9, 4), "little")
            return Claim("webp", 3 + (fields >> 28 & 1), (fields >> 14 & 0x3FFF) + 1, (fields & 0x3FFF) + 1, 8)
        at += 8 + size + size % 2
    return None


FORMAT = FileFormat("webp", (".webp",), rb"RIFF....WEBP", _claim, _read, _render, Kind.IMAGE, (16, 16))
