"""What a file of a known format claims to hold, by its header alone, before anything is read or allocated for it.

No reader is asked: these few lines look at the beginning of a file (a TIFF says elsewhere what it holds, and is followed
there), believe nothing, and never fail.  What they cannot tell, no reader reads.  NumPy-free.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

_HOPS = 1 << 12
"""Chunks, blocks or tags that are looked at, at most."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG, by colour type
_PICTURES = ("png", "webp", "bmp", "tiff", "ppm")


@dataclass(frozen=True)
class Claim:
    """The format of a file, and the samples (C, H, W) of so many bits that it claims."""

    format: str
    channels: int
    height: int
    width: int
    bits: int

    @property
    def picture(self) -> bool:
        """Whether it has pixels."""
        return self.format in _PICTURES

    @property
    def samples(self) -> int:
        """How many."""
        return self.channels * self.height * self.width

    @property
    def open(self) -> bool:
        """Whether only reading tells how many samples: whoever wrote a FLAC to a stream left their number 0."""
        return self.format == "flac" and self.width == 0

    @property
    def raw_bytes(self) -> int:
        """What the samples take in memory: one byte or two each, those of an array what they take in its file."""
        return self.samples * (self.bits // 8 if self.format == "npy" else 1 + (self.bits > 8))


def claim(file: BinaryIO, format: str, end: int | None = None) -> Claim | None:
    """What a file of this format claims; None where that cannot be told.  The file is left where it was.

    end: where it ends at the latest, if only its beginning is here.
    """
    at, find = file.tell(), _FINDERS.get(format)
    try:
        return None if find is None else find(_Part(file, at, file.seek(0, 2) - at if end is None else end))
    except (struct.error, ValueError, OverflowError, LookupError, OSError):
        return None
    finally:
        file.seek(at)


class _Part:
    """Some bytes of a file: where they begin, how many; end: of all."""

    def __init__(self, file: BinaryIO, at: int, end: int) -> None:
        self._file, self._at, self.end = file, at, end

    def __call__(self, begin: int, size: int) -> bytes:
        self._file.seek(self._at + begin)
        return self._file.read(size)


def _png(part: _Part) -> Claim | None:
    width, height, depth, colour = struct.unpack(">IIBB", part(16, 10))
    return Claim("png", _CHANNELS.get(colour, 4), height, width, depth)


def _webp(part: _Part) -> Claim | None:
    at = 12
    for _ in range(_HOPS):
        name, size = struct.unpack("<4sI", part(at, 8))
        if name == b"VP8L":
            fields = int.from_bytes(part(at + 9, 4), "little")
            return Claim("webp", 3 + (fields >> 28 & 1), (fields >> 14 & 0x3FFF) + 1, (fields & 0x3FFF) + 1, 8)
        at += 8 + size + size % 2
    return None


def _bmp(part: _Part) -> Claim | None:
    width, height, _, bits = struct.unpack("<iiHH", part(18, 12))
    return Claim("bmp", max(1, bits // 8), abs(height), abs(width), min(bits, 8))


_SPACE = rb"(?:\s|#[^\n]*\n)"
_PNM = re.compile(rb"P([56])%b+(\d{1,20})%b+(\d{1,20})%b+(\d{1,20})\s" % ((_SPACE,) * 3))


def _ppm(part: _Part) -> Claim | None:
    match = _PNM.match(part(0, 1 << 16))
    if match is None:
        return None
    kind, width, height, top = (int(group) for group in match.groups())
    return Claim("ppm", 3 if kind == 6 else 1, height, width, 8 if top < 256 else 16)


def _tiff(part: _Part) -> Claim | None:
    order = {b"II": "<", b"MM": ">"}[part(0, 2)]
    (at,) = struct.unpack(order + "I", part(4, 4))
    (count,) = struct.unpack(order + "H", part(at, 2))
    found = {256: 0, 257: 0, 258: 1, 277: 1}  # width, height, bits, channels
    for entry in struct.iter_unpack(order + "HHI4s", part(at + 2, 12 * count)):
        tag, kind, number, value = entry
        if tag not in found or kind not in (1, 3, 4):
            continue
        letter, size = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}[kind]
        if number * size > 4:
            (begin,) = struct.unpack(order + "I", value)
            value = part(begin, size)
        (found[tag],) = struct.unpack_from(order + letter, value)
    return Claim("tiff", found[277], found[257], found[256], found[258])


def _wav(part: _Part) -> Claim | None:
    at, channels, bits = 12, 0, 8
    for _ in range(_HOPS):
        name, size = struct.unpack("<4sI", part(at, 8))
        if name == b"fmt ":
            _, channels, _, _, _, bits = struct.unpack("<HHIIHH", part(at + 8, 16))
        if name == b"data" and channels and bits >= 8:
            size = min(size, part.end - at - 8)  # streams claim as much as there can be
            return Claim("wav", channels, 1, size // (channels * bits // 8), bits)
        at += 8 + size + size % 2
    return None


def _flac(part: _Part) -> Claim | None:
    fields = int.from_bytes(part(18, 8), "big")
    return Claim("flac", (fields >> 41 & 7) + 1, 1, fields & (1 << 36) - 1, (fields >> 36 & 31) + 1)


_TYPE = re.compile(rb"'descr':\s*'[<>|=]?[a-zA-Z](\d{1,3})'")
_SHAPE = re.compile(rb"'shape':\s*\(([\d,\sL]*)\)")


def _npy(part: _Part) -> Claim | None:
    text = part(0, 1 << 16)
    kind, shape = _TYPE.search(text), _SHAPE.search(text)
    if kind is None or shape is None:
        return None
    numbers = [int(n) for n in re.findall(rb"\d{1,20}", shape[1])]
    return Claim("npy", 1, 1, prod(numbers), 8 * int(kind[1]))


_FINDERS: dict[str, Callable[[_Part], Claim | None]] = {
    "png": _png, "webp": _webp, "bmp": _bmp, "ppm": _ppm, "tiff": _tiff, "wav": _wav, "flac": _flac, "npy": _npy,
}  # fmt: skip
