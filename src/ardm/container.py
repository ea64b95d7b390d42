"""The bytes of a compressed image: a header, what is stored without a model, and one stream of the coder.

    magic     4   89 41 44 4D
    format    1   0: first light, not portable
    flags     1   bits 0-1: numerics, 0 nothing is coded by a model, 1 a float64 network; bit 2: methods follow;
                  bit 3: the Bayer order instead of the model's own; bit 4: samples of two bytes; the others 0
    kind      1   low half: channels, 1 to 15; high half: the file format that the picture came in
    height    v
    width     v
    model     4   the first bytes of the model's identity              (absent if numerics is 0)
    calls     v   network calls of one tile                            (absent if numerics is 0)
    methods   v   two bits a part, the first part lowest               (only with flag bit 2; otherwise all are coded)
    check     1   CRC-8 of all before it, so that a damaged size is found before it is believed
    stored        for each part that is not coded: its samples; or a length v and deflate; or one sample a channel
    stream        to the end: `ans`, whose 32-bit check is the CRC-32 of all bytes before it and of the samples

v is a canonical LEB128 integer below 2^63, samples are little-endian, planes one after the other, rows from the top.
A 32×32 RGB image has a header of 15 bytes, and the stream exceeds its content by 5 (the checksum included).

Read me first: nothing here is believed before it is checked, nothing is allocated for a size above the reader's limit,
and no byte may follow the stream.  Everything wrong is a CodecError.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.errors import CodecError

MAGIC = b"\x89ADM"
FORMAT = 0
MAX_PIXELS = 1 << 26
"""Height times width that a reader believes, unless it is told otherwise."""
MAX_CHANNELS = 15
SUFFIXES = ("png", "webp", "bmp", "tiff", "ppm")
"""Formats a picture can come in and go back to, by their code."""
STORED = 0
"""The numerics of a file in which nothing is coded by a model."""

Samples: TypeAlias = NDArray[Any]
"""uint8 or uint16, (channels, height, width)."""

_METHODS, _BAYER, _WIDE = 4, 8, 16
_KNOWN_FLAGS = 3 | _METHODS | _BAYER | _WIDE

FOREIGN = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"RIFF", "a WebP image or another RIFF file"),
    (b"\xff\x0a", "a JPEG XL image"), (b"\0\0\0\x0cJXL ", "a JPEG XL image"), (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"), (b"II*\0", "a TIFF image"), (b"MM\0*", "a TIFF image"), (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"PK\x03\x04", "a zip archive"),
    (b"%PDF", "a PDF"), (b"\xef\xbf\xbdADM", "an ardm file that was copied as text"),
    (b"\xc2\x89ADM", "an ardm file that was copied as text"), (b"\x09ADM", "an ardm file that lost its eighth bits"),
    (b"P5", "a PGM image"), (b"P6", "a PPM image"),
)  # fmt: skip
"""How other files begin."""


class Method(IntEnum):
    """How a part of an image is held."""

    CODED = 0
    RAW = 1
    DEFLATE = 2
    CONSTANT = 3


# --- reading and writing the smallest things --------------------------------------------------------------------------


def varint(n: int) -> bytes:
    """LEB128, seven bits a byte, the lowest first."""
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def crc8(data: bytes) -> int:
    """The remainder by x^8 + x^2 + x + 1: finds every burst of at most eight bits."""
    state = 0
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state << 1 ^ (0x107 if state & 128 else 0)
    return state


class Reader:
    """Bytes taken from the front; CodecError where there are too few."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.at:
            raise CodecError(f"truncated file: it ends in its {what}, after {len(self.data)} bytes")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self, what: str) -> int:
        """The next byte."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """The next integer; refuses more than 63 bits, and zeros that lead."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte(what)
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    raise CodecError(f"damaged header: its {what} is not written in the shortest way")
                return value
        raise CodecError(f"damaged header: its {what} is out of range")


# --- the header -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    methods: of each part; empty: all parts are coded.  suffix: the format that the picture came in.
    model: 8 hex digits.  calls: network calls a tile.  bayer: whether the order is Bayer's, not the model's own.
    """

    channels: int
    height: int
    width: int
    wide: bool = False
    suffix: str = "png"
    numerics: int = STORED
    model: str = ""
    calls: int = 0
    bayer: bool = False
    methods: tuple[Method, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples."""
        return np.dtype("<u2" if self.wide else "u1")

    @property
    def raw_bytes(self) -> int:
        """What the samples take."""
        return prod(self.shape) * self.dtype.itemsize

    def write(self) -> bytes:
        """The bytes, check included."""
        flags = self.numerics | _METHODS * bool(self.methods) | _BAYER * self.bayer | _WIDE * self.wide
        out = MAGIC + bytes([FORMAT, flags, self.channels | SUFFIXES.index(self.suffix) << 4])
        out += varint(self.height) + varint(self.width)
        if self.numerics != STORED:
            out += bytes.fromhex(self.model) + varint(self.calls)
        if self.methods:
            out += varint(sum(method << 2 * i for i, method in enumerate(self.methods)))
        return out + bytes([crc8(out)])


def read_header(file: Reader, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a file, every field of it checked.

    Raises CodecError for a foreign, damaged or truncated file, an unknown format, or more pixels than max_pixels.
    """
    if file.data[:4] != MAGIC:
        raise CodecError(foreign(file.data))
    file.take(4, "header")
    version, flags, kind = file.byte("header"), file.byte("header"), file.byte("header")
    if version != FORMAT:
        raise CodecError(f"this file has format {version}; this version of ardm reads format {FORMAT}")
    height, width = file.varint("height"), file.varint("width")
    numerics, model, calls = flags & 3, "", 0
    if numerics != STORED:
        model, calls = file.take(4, "header").hex(), file.varint("number of calls")
    bits = file.varint("methods") if flags & _METHODS else 0
    end = file.at
    if file.byte("header") != crc8(file.data[:end]):
        raise CodecError("damaged header: its checksum does not agree")
    channels, suffix = kind & 15, kind >> 4
    if flags & ~_KNOWN_FLAGS or suffix >= len(SUFFIXES):
        raise CodecError(f"this file has features (flags {flags:#04x}, kind {kind:#04x}) that this version lacks")
    methods = _methods(bits) if flags & _METHODS else ()
    stored = numerics == STORED  # then there is one part, and no order
    if not channels or not height or not width or (stored and (len(methods) != 1 or methods[0] == 0 or flags & _BAYER)):
        raise CodecError("damaged header: its fields contradict each other")
    if height * width > max_pixels or channels * height * width > 4 * max_pixels:
        claim = f"{width}x{height} pixels of {channels} channels"
        raise CodecError(f"this file claims {claim}, more than the limit of {max_pixels} pixels")
    wide, bayer = bool(flags & _WIDE), bool(flags & _BAYER)
    return Header(channels, height, width, wide, SUFFIXES[suffix], numerics, model, calls, bayer, methods)


def _methods(bits: int) -> tuple[Method, ...]:
    """Two bits a part; a trailing part that is coded is not seen here, and is added by `parts`."""
    out = []
    while bits:
        bits, method = bits >> 2, bits & 3
        out.append(Method(method))
    if not out:
        raise CodecError("damaged header: it announces methods and names none")
    return tuple(out)


def foreign(data: bytes) -> str:
    """What to say about a file that is not ours."""
    if not data:
        return "not an ardm file: it is empty"
    if MAGIC.startswith(data[:4]):
        return f"truncated file: it ends in its header, after {len(data)} bytes"
    for start, name in FOREIGN:
        if data.startswith(start):
            return f"not an ardm file: it looks like {name}"
    return "not an ardm file: it does not begin with 89 41 44 4D"


# --- what is stored without a model -----------------------------------------------------------------------------------


def store(x: Samples) -> tuple[Method, bytes]:
    """The shortest way to hold samples (c, h, w) without a model, and its bytes."""
    first = x[:, 0, 0]
    if (x == first[:, None, None]).all():
        return Method.CONSTANT, first.tobytes()
    raw = x.tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(raw) + packer.flush()
    packed = varint(len(packed)) + packed
    return (Method.DEFLATE, packed) if len(packed) < len(raw) else (Method.RAW, raw)


def restore(method: Method, file: Reader, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Samples:
    """The samples (c, h, w) again: the inverse of store."""
    size = prod(shape) * dtype.itemsize
    if method == Method.CONSTANT:
        first = np.frombuffer(file.take(shape[0] * dtype.itemsize, "samples"), dtype)
        return np.broadcast_to(first[:, None, None], shape)
    if method == Method.RAW:
        return np.frombuffer(file.take(size, "samples"), dtype).reshape(shape)
    packed = file.take(file.varint("stored length"), "stored samples")
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(packed, size + 1)
    except zlib.error:
        raise CodecError("damaged file: its stored samples do not unpack") from None
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise CodecError("damaged file: its stored samples are not as many as its size says")
    return np.frombuffer(raw, dtype).reshape(shape)


def check(before: bytes, x: Samples) -> int:
    """The CRC-32 of the bytes before the stream and of the samples (C, H, W)."""
    return zlib.crc32(np.ascontiguousarray(x).data, zlib.crc32(before))
