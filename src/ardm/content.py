"""What is compressed: planes of integer samples, and the metadata from which their file is rebuilt.

    kind    samples (C, H, W)                                        metadata
    BYTES   (1, 1, L) uint8: any file, text included
    IMAGE   (C, H, W) uint8 or uint16                                about: "icc", "exif", ... unchanged
    AUDIO   (C, 1, L) uint8, or 16-bit signed samples + 32768        rate; about: "head", "tail" of a WAV file
    ARRAY   (1, 1, n) uint8: the little-endian bytes of an array,    layout: type, shape and order of axes
            or (C, H, W) where the array looks like an image

NumPy, no torch.  A content is immutable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.errors import ArdmError

Samples: TypeAlias = NDArray[Any]
"""Unsigned integers, (channels, height, width)."""

ORIGINS = ("", "png", "webp", "bmp", "tiff", "ppm", "wav", "flac", "npy", "aiff")
"""Formats that a content can come from and go back to, by their code in a file (below 15); "": plain bytes.  Never renumber."""
ENDING = ".ardm"
"""Of the names of compressed files."""
MAX_CHANNELS = 15
"""The most planes of a content."""
MAX_LAYOUT = 255
"""The most characters of a layout."""

_NAME = re.compile(r"[a-z0-9-]{1,32}")
_LAYOUT = re.compile(r"[ -~]+")


class Kind(IntEnum):
    """What samples are; files contain these numbers."""

    BYTES = 0
    IMAGE = 1
    AUDIO = 2
    ARRAY = 3


@dataclass(frozen=True, eq=False)
class Content:
    """Samples to compress, or decompressed ones, with their metadata.

    kind: what the samples are.
    samples: (C, H, W), C-contiguous, uint8 or little-endian uint16; see the table in this module.
    origin: the format that it came from and goes back to, one of ORIGINS.
    about: metadata of the file, by name (1 to 32 lower-case letters, digits and "-").
    rate: samples per second (AUDIO only).
    layout: how samples become the array again (ARRAY only): printable ASCII, at most 255 characters.

    Raises ArdmError where one of these does not suit the kind.
    """

    kind: Kind
    samples: Samples
    origin: str = ""
    about: Mapping[str, bytes] = field(default_factory=dict)
    rate: int = 0
    layout: str = ""

    def __post_init__(self) -> None:
        x = self.samples
        if not isinstance(x, np.ndarray) or x.dtype.kind != "u" or x.dtype.itemsize > 2:
            raise ArdmError(f"samples must be an array of uint8 or uint16; got {getattr(x, 'dtype', type(x).__name__)}")
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("<"))
        object.__setattr__(self, "samples", x)
        object.__setattr__(self, "about", MappingProxyType({k: bytes(v) for k, v in self.about.items()}))
        if self.origin not in ORIGINS:
            raise ArdmError(f"origin must be one of {', '.join(ORIGINS[1:])} or empty; got {self.origin!r}")
        for name in self.about:
            if not _NAME.fullmatch(name):
                raise ArdmError(f"names in about are 1 to 32 of a-z, 0-9 and '-'; got {name!r}")
        fault = misfit(self.kind, x.shape, x.itemsize > 1, self.rate, self.layout)
        if fault:
            raise ArdmError(fault)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content):
            return NotImplemented
        mine = (self.kind, self.origin, self.rate, self.layout, dict(self.about), self.samples.dtype)
        theirs = (other.kind, other.origin, other.rate, other.layout, dict(other.about), other.samples.dtype)
        return mine == theirs and np.array_equal(self.samples, other.samples)

    @classmethod
    def of_bytes(cls, data: bytes, origin: str = "") -> Content:
        """The content of plain bytes; origin: their file format, if it is known."""
        return cls(Kind.BYTES, np.frombuffer(data, np.uint8).reshape(1, 1, -1), origin)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        C, H, W = self.samples.shape
        return C, H, W

    @property
    def is_16bit(self) -> bool:
        """Whether a sample has 16 bits."""
        return self.samples.itemsize > 1

    @property
    def raw_bytes(self) -> int:
        """Bytes of the samples."""
        return self.samples.nbytes


def misfit(kind: Kind, shape: tuple[int, ...], is_16bit: bool, rate: int, layout: str) -> str:
    """The error in this description of a content, as a sentence; "" if it is valid."""
    if len(shape) != 3:
        return f"samples must have the axes (C, H, W); got shape {shape}"
    C, H, W = shape
    if not 1 <= C <= MAX_CHANNELS:
        return f"samples must have 1 to {MAX_CHANNELS} channels; got {C}"
    if kind == Kind.BYTES and ((C, H) != (1, 1) or is_16bit):
        return f"bytes are samples (1, 1, L) of uint8; got shape {shape} of {'uint16' if is_16bit else 'uint8'}"
    if kind == Kind.IMAGE and not H * W:
        return f"an image has at least one pixel; got shape {shape}"
    if kind == Kind.AUDIO and H != 1:
        return f"audio is samples (C, 1, L); got shape {shape}"
    if kind == Kind.ARRAY and not H:
        return f"an array is samples (C, H, W) with H at least 1; got shape {shape}"
    if rate if kind != Kind.AUDIO else not 0 <= rate < 1 << 32:
        return f"a rate is for audio, and below 2^32; got {rate} for {kind.name.lower()}"
    if layout if kind != Kind.ARRAY else not (_LAYOUT.fullmatch(layout) and len(layout) <= MAX_LAYOUT):
        return f"a layout is for arrays, 1 to {MAX_LAYOUT} printable characters; got {layout!r} for {kind.name.lower()}"
    return ""


LINE_ENDS = (b"\n", b"\r\n")
"""What may end the lines of a text."""


@dataclass(frozen=True)
class Lines:
    """How contents are the lines of a text.

    end: of each of them, one of LINE_ENDS, which is not part of the content.  ended: whether the last line has it, too.
    """

    end: bytes = b"\n"
    ended: bool = True

    def end_bytes(self, count: int) -> int:
        """Bytes of the ends of so many lines."""
        return len(self.end) * count

    def whole(self, line: Content, last: bool) -> Content:
        """A line as it stands in its text, with its end; last: whether it is the last one."""
        return line if last and not self.ended else Content.of_bytes(line.samples.tobytes() + self.end)


def line_end(text: bytes) -> bytes:
    """What ends the lines of a text: CR LF if every LF follows a CR, else LF."""
    both = text.count(b"\r\n")
    return b"\r\n" if both and both == text.count(b"\n") else b"\n"


MIDDLE = 1 << 15
"""A sample of 16 bits of a sound that is silence."""
MOST_SPARE = 15
"""The most low bits that a sound can do without."""


def spare_bits(sound: Samples) -> int:
    """How many of the low bits are 0 in every sample of 16 bits; MOST_SPARE for silence."""
    union = int(np.bitwise_or.reduce(sound, axis=None)) | 1 << MOST_SPARE
    return (union & -union).bit_length() - 1


def raised(sound: NDArray[Any], bits: int) -> NDArray[Any]:
    """Samples of 16 bits times 2^bits, counted from the middle, in int64; bits below 0 divide by spare bits."""
    signed = sound.astype(np.int64) - MIDDLE
    return (signed << bits if bits > 0 else signed >> -bits) + MIDDLE
