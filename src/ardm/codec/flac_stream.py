"""FLAC streams: metadata blocks, checksums, and positions of frames.

    parts(data)   → the metadata blocks, and where the frames begin; `joined` is the inverse
    places(data)  → where each frame begins

RFC 9639 defines the fields.  `flac_decode` reads frames, `flac_encode` writes them.

NumPy, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

STREAM, SEEK = 0, 3
"""Types of metadata blocks: stream information, seek table."""
MAGIC = b"fLaC"
_BLOCKS = 1 << 12  # the most metadata blocks of a file; encoders write fewer than ten
BITS = (0, 8, 12, -1, 16, 20, 24, 32)  # bits per sample by code; 0: as the stream says
Ints = NDArray[Any]


class Broken(ValueError):  # noqa: N818
    """The reason that bytes are not a FLAC stream, in a few words."""


@dataclass(frozen=True)
class Head:
    """The first metadata block.  total: samples per channel, 0 if unknown.  md5: of the samples, or zeros."""

    rate: int
    channels: int
    bits: int
    total: int
    md5: bytes

    @classmethod
    def of(cls, body: bytes) -> Head:
        """Read a block of type STREAM."""
        if len(body) != 34:
            raise Broken("its first block is damaged")
        n = int.from_bytes(body[10:18], "big")
        return cls(n >> 44, (n >> 41 & 7) + 1, (n >> 36 & 31) + 1, n & (1 << 36) - 1, body[18:34])


def parts(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The types and bodies of the metadata blocks, and where the frames begin."""
    found, at, last = list[tuple[int, bytes]](), 4, False
    while not last:
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if at + 4 + size > len(data):
            raise Broken("it ends early")
        last, kind = data[at] > 127, data[at] & 127
        if kind == 127 or (kind == STREAM) != (at == 4):
            raise Broken("its metadata blocks are damaged")
        if len(found) == _BLOCKS:
            raise Broken(f"it has more than {_BLOCKS} metadata blocks")
        found.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found, at


def joined(blocks: list[tuple[int, bytes]]) -> bytes:
    """The inverse of parts: the beginning of a file, up to its frames."""
    last = len(blocks) - 1
    heads = ((128 * (k == last) | kind, len(body)) for k, (kind, body) in enumerate(blocks))
    return MAGIC + b"".join(
        bytes([kind]) + size.to_bytes(3, "big") + body for (kind, size), (_, body) in zip(heads, blocks, strict=True)
    )


def soundfile_package() -> Any:
    """The package soundfile, which writes shorter streams and reads faster; None where it or libsndfile is missing."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the package is installed, its library is not
        return None
    return soundfile


def places(data: bytes, at: int, count: int) -> list[int]:
    """The positions of `count` frames of equal block size, found by their headers; fewer where one is not found."""
    found = [at]
    while len(found) < count:
        number = coded_number(len(found))
        at += 1
        while (at := data.find(b"\xff\xf8", at)) >= 0:
            if data[at + 4 : at + 4 + len(number)] == number:
                size, rate = data[at + 2] >> 4, data[at + 2] & 15
                end = at + 4 + len(number) + {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
                if end < len(data) and crc8(data[at:end]) == data[end]:
                    break
            at += 1
        if at < 0:
            break
        found.append(at)
    return found


def raw(x: Ints, bits: int) -> bytes:
    """The bytes of samples (C, n) that the MD5 of a stream covers."""
    return np.ascontiguousarray(x.T).astype("<i2" if bits > 8 else "i1").tobytes()


# --- checks -----------------------------------------------------------------------------------------------------------


@cache
def _powers(bits: int) -> Ints:
    """The remainders of x^0, x^1, …, one for each of `bits` bits, modulo x¹⁶ + x¹⁵ + x² + 1."""
    period = 32767
    found, r = np.empty(period, np.uint16), 1
    for k in range(period):
        found[k] = r
        r = r << 1 ^ (0x18005 if r & 0x8000 else 0)
    return np.resize(found, bits)


def crc16(ones: Ints, size: int) -> int:
    """The CRC-16 of `size` bits that are 1 at the positions `ones`; 0 for a frame that includes its own CRC-16."""
    powers = _powers(max(1 << 18, 2 << size.bit_length()))
    return int(np.bitwise_xor.reduce(powers[size + 15 - ones], initial=0))


@cache
def _table8() -> list[int]:
    """The CRC-8 of each byte, modulo x⁸ + x² + x + 1."""
    found = []
    for crc in range(256):
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
        found.append(crc)
    return found


def crc8(data: bytes) -> int:
    """The CRC-8 of a frame's header."""
    table, crc = _table8(), 0
    for byte in data:
        crc = table[crc ^ byte]
    return crc


def coded_number(n: int) -> bytes:
    """A number below 2^36 as frames write theirs: UTF-8, extended."""
    if n < 128:
        return bytes([n])
    tail = []
    lead = 0x3F
    while n > lead:
        tail.append(0x80 | n & 0x3F)
        n >>= 6
        lead >>= 1
    return bytes([~(2 * lead + 1) & 0xFF | n, *reversed(tail)])
