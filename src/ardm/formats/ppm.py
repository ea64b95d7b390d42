"""PGM and PPM: binary, 8 or 16 bits, byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ardm.content import Content
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.claims import Claim, Part
from ardm.formats.common import MAX_SAMPLES, KeepBytes, admit, image, pixels, planes

_SPACE = rb"(?:\s|#[^\n]*\n)"
_HEAD = re.compile(rb"P([56])%b+(\d{1,9})%b+(\d{1,9})%b+(\d{1,5})\s" % ((_SPACE,) * 3))
"""The samples begin after the one white space at the end."""
_CLAIM = re.compile(rb"P([56])%b+(\d{1,20})%b+(\d{1,20})%b+(\d{1,20})\s" % ((_SPACE,) * 3))
"""The same, with numbers too large to be read."""


@dataclass(frozen=True)
class _Placed:
    """The header.  size: bytes of a sample."""

    shape: tuple[int, int, int]
    size: int
    begin: int

    @property
    def spans(self) -> list[ranges.Span]:
        channels, height, width = self.shape
        return [(self.begin, self.begin + channels * height * width * self.size)]

    def decode(self, raw: memoryview) -> Content:
        channels, height, width = self.shape
        x = np.frombuffer(raw, "u1" if self.size == 1 else ">u2")
        samples = planes(x.reshape((height, width, 3) if channels == 3 else (height, width)))
        return image(samples.astype("<u2" if self.size == 2 else "u1"), "ppm", {})

    def encode(self, content: Content) -> bytes:
        if (content.shape, content.samples.itemsize) != (self.shape, self.size):
            raise ArdmError(f"the header of this ppm says {self.shape}, and the image is {content.shape}")
        return pixels(content.samples).astype(">u2" if self.size == 2 else "u1").tobytes()


class _Layout:
    origin = "ppm"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        match = _HEAD.match(data[: 1 << 16])
        if data[1:2] not in b"56":
            raise KeepBytes("only P5 and P6 are read")
        if not match:
            raise KeepBytes("its header cannot be read")
        kind, width, height, top = (int(group) for group in match.groups())
        if top not in (255, 65535):
            raise KeepBytes(f"its samples go up to {top}; only 255 and 65535 are read")
        channels = 3 if kind == 6 else 1
        admit(channels, height, width, most)
        return _Placed((channels, height, width), 1 if top == 255 else 2, match.end())

    def size(self, content: Content) -> int:
        return content.samples.nbytes

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        channels, height, width = content.shape
        if channels not in (1, 3):
            raise ArdmError(f"ppm holds grey or RGB, without alpha; the image has {channels} channels")
        top = 65535 if content.is_16bit else 255
        return b"P%d\n%d %d\n%d\n" % (6 if channels == 3 else 5, width, height, top), b""


def _claim(part: Part) -> Claim | None:
    match = _CLAIM.match(part(0, 1 << 16))
    if match is None:
        return None
    kind, width, height, top = (int(group) for group in match.groups())
    return Claim("ppm", 3 if kind == 6 else 1, height, width, 8 if top < 256 else 16)


FORMAT = ranges.file_format(_Layout(), (".ppm", ".pgm", ".pnm"), rb"P[1-7]\s\s*[#0-9W]|P[Ff]\s\s*[0-9]", _claim)
