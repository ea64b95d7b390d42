"""NumPy arrays of integers, as planes where they look like pictures, else as their bytes; byte for byte.

A layout says type, shape and axes, "<u2 480,640 HW" or "<i4 10,3 C": HW, HWC and CHW are planes; C and F are bytes in
the order of the file, of each number the lowest first.  An "F" before HW, HWC or CHW: the file has its first axis last.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from ardm.content import MAX_LAYOUT, Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges, wav
from ardm.formats.common import MAX_SAMPLES, Kept, guarded, image, pixels

_TYPE = re.compile(r"\|[bui]1|[<>][ui][248]")
_SIDE = 8  # least side of what is taken for a picture


@dataclass(frozen=True)
class _Layout:
    """type: as NumPy writes it.  axes: see the head of this module."""

    type: str
    shape: tuple[int, ...]
    fortran: bool
    axes: str

    @classmethod
    def of(cls, type: str, shape: tuple[int, ...], fortran: bool) -> _Layout:
        """Planes where it looks like a picture."""
        axes = ""
        if type[1:] in ("u1", "u2"):
            axes = next((a for a, hw in (("HW", shape), ("HWC", shape[:2]), ("CHW", shape[1:])) if len(a) == len(shape)
                         and min(hw) >= _SIDE and (a == "HW" or 1 <= shape[a.index("C")] <= 4)), "")  # fmt: skip
        return cls(type, shape, fortran, axes)

    @classmethod
    def parse(cls, text: str) -> _Layout:
        """From a content; raises ArdmError."""
        match = re.fullmatch(r"(\S{3}) (\.|\d{1,18}(?:,\d{1,18})*) (C|F|F?(?:HW|HWC|CHW))", text)
        if not match or not _TYPE.fullmatch(match[1]):
            raise ArdmError(f"the layout of an array must say type, shape and axes; got {text!r}")
        shape = () if match[2] == "." else tuple(int(n) for n in match[2].split(","))
        axes = match[3].removeprefix("F")
        return cls(match[1], shape, axes != match[3], "" if axes == "C" else axes)

    def __str__(self) -> str:
        axes = ("F" if self.fortran else "") + self.axes
        return f"{self.type} {','.join(map(str, self.shape)) or '.'} {axes or 'C'}"

    @property
    def _own(self) -> np.dtype:
        """The type of the file; truth values as numbers, which may be any."""
        return np.dtype("u1" if self.type == "|b1" else self.type)

    @property
    def little(self) -> np.dtype:
        """The type, with the lowest byte first."""
        return self._own.newbyteorder("<")

    def samples(self, raw: bytes | memoryview) -> Samples:
        """From the bytes of a file."""
        x = np.frombuffer(raw, self._own).astype(self.little)
        if not self.axes:
            return x.view(np.uint8).reshape(1, 1, -1)
        x = x.reshape(self.shape, order="F" if self.fortran else "C")
        return np.ascontiguousarray(x[None] if self.axes == "HW" else x if self.axes == "CHW" else x.transpose(2, 0, 1))

    def raw(self, x: Samples) -> bytes:
        """The inverse of samples; ArdmError where the shapes differ."""
        if self.axes:
            x = x[0] if self.axes == "HW" else x if self.axes == "CHW" else x.transpose(1, 2, 0)
            fits = x.shape == self.shape and x.dtype == self.little
            x = x.reshape(-1, order="F" if self.fortran else "C") if fits else x
        else:
            fits = x.dtype == np.uint8 and x.size == prod(self.shape) * self.little.itemsize
            x = x.reshape(-1).view(self.little) if fits else x
        if not fits:
            raise ArdmError(f"samples {x.shape} of {x.dtype} are no array {self}")
        return x.astype(self._own).tobytes()


def _header(type: str, shape: tuple[int, ...], fortran: bool) -> bytes:
    """What np.save writes before such an array; by hand, so that it never changes."""
    text = f"{{'descr': {type!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    if shape:
        text = text.ljust(len(text) + 21 - len(str(shape[-1 if fortran else 0])))  # room for longer arrays
    text = text.ljust((len(text) + 11) // 64 * 64 + 53) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("ascii")


def _parse(data: bytes) -> tuple[str, tuple[int, ...], bool, int]:
    """Type, shape, whether the first axis is last, and where the array begins; Kept for what is not read."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, fortran, dtype = reader(file)
    except (ValueError, KeyError, SyntaxError, TokenError, RecursionError, MemoryError):
        # so Python's parser says, too, that a header is nested too deeply; it has ten thousand letters at most
        raise Kept("its header cannot be read") from None
    if not all(type(n) is int and 0 <= n < 10**18 for n in shape):
        raise Kept(f"its shape is {shape}")
    if not _TYPE.fullmatch(dtype.str):
        raise Kept(f"only arrays of integers are read; it has {dtype}")
    if prod(shape) * dtype.itemsize > MAX_SAMPLES:
        raise Kept(f"it claims {prod(shape) * dtype.itemsize} bytes, more than {MAX_SAMPLES}")
    if prod(shape) * dtype.itemsize + file.tell() > len(data):
        raise Kept("it ends early")
    return dtype.str, shape, fortran, file.tell()


@dataclass(frozen=True)
class _Placed:
    """What a header says."""

    layout: _Layout
    begin: int

    @property
    def spans(self) -> list[ranges.Span]:
        return [(self.begin, self.begin + prod(self.layout.shape) * self.layout.little.itemsize)]

    def decode(self, raw: memoryview) -> Content:
        return Content(Kind.ARRAY, self.layout.samples(raw), "npy", layout=str(self.layout))

    def encode(self, content: Content) -> bytes:
        if content.layout != str(self.layout):
            raise ArdmError(f"the header of this npy says {self.layout}, and the array is {content.layout}")
        return self.layout.raw(content.samples)


class _Format:
    origin = "npy"

    def describe(self, data: bytes) -> _Placed:
        type, shape, fortran, begin = _parse(data)
        layout = _Layout.of(type, shape, fortran)
        if len(str(layout)) > MAX_LAYOUT:
            raise Kept(f"it has {len(shape)} axes")
        return _Placed(layout, begin)

    def size(self, content: Content) -> int:
        return content.raw_bytes

    def anew(self, content: Content) -> tuple[bytes, bytes]:
        layout = _Layout.parse(content.layout)
        return _header(layout.type, layout.shape, layout.fortran), b""


read = partial(ranges.read, _Format())


def render(content: Content) -> bytes:
    """The file of an array; pictures become (H, W) or (H, W, C), sound (L, C)."""
    if content.kind == Kind.ARRAY:
        return ranges.render(_Format(), content)
    x = pixels(content.samples)
    if content.kind == Kind.AUDIO:
        x = wav.signed(content.samples).astype("<i2") if content.wide else content.samples[:, 0].T
    return _header(x.dtype.str, x.shape, False) + x.tobytes()


def picture(content: Content) -> Content:
    """An array that looks like a picture as one; raises ArdmError for others."""
    if not _Layout.parse(content.layout).axes:
        raise ArdmError(f"the array {content.layout} is no picture; it can be written as npy only")
    return image(content.samples, "", {})


# --- many small arrays in one -----------------------------------------------------------------------------------------


def items(data: bytes) -> list[Content] | None:
    """The rows of a .npy file of integers (N, ...), each a content; None for other files.

    Those that np.save would write otherwise are others too: `joined` gives back what np.save writes.
    """
    try:
        with guarded():
            type, shape, fortran, begin = _parse(data)
    except Kept:
        return None
    if len(shape) < 2 or not prod(shape) or fortran or data[:begin] != _header(type, shape, fortran):
        return None
    layout = _Layout.of(type, shape[1:], False)
    size = prod(shape[1:]) * layout.little.itemsize
    if len(data) != begin + shape[0] * size or len(str(layout)) > MAX_LAYOUT:
        return None
    rows = (memoryview(data)[at : at + size] for at in range(begin, len(data), size))
    return [Content(Kind.ARRAY, layout.samples(row), "npy", layout=str(layout)) for row in rows]


def joined(items: Sequence[Content]) -> bytes:
    """The inverse of `items`: one .npy file.  Raises ArdmError unless they are arrays of one layout."""
    layouts = {content.layout for content in items}
    if len(layouts) != 1 or any(content.kind != Kind.ARRAY for content in items):
        raise ArdmError(f"only arrays of one layout make one array; got {len(items)} items of {len(layouts)} layouts")
    layout = _Layout.parse(layouts.pop())
    if layout.fortran:
        raise ArdmError("arrays whose first axis is last cannot be joined")
    head = _header(layout.type, (len(items), *layout.shape), False)
    return b"".join((head, *(layout.raw(content.samples) for content in items)))
