"""NumPy arrays of integers (.npy), byte for byte: as planes if they look like images, otherwise as bytes.

A layout gives type, shape and axes, as in "<u2 480,640 HW" or "<i4 10,3 C".  HW, HWC and CHW are planes.  C and F are
bytes in the order of the file, each number with its lowest byte first.  "F" before HW, HWC or CHW marks Fortran order.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from ardm.content import MAX_LAYOUT, Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges, wav
from ardm.formats.claims import Claim, Part
from ardm.formats.common import MAX_SAMPLES, FileFormat, KeepBytes, Read, guarded, image, pixels

_TYPE = re.compile(r"\|[bui]1|[<>][ui][248]")
_SIDE = 8
"""Least side of an array that looks like an image."""


@dataclass(frozen=True)
class _Array:
    """The layout of an array.  type: as NumPy writes it.  axes: see the module; empty for bytes."""

    type: str
    shape: tuple[int, ...]
    fortran: bool
    axes: str

    @classmethod
    def of(cls, type: str, shape: tuple[int, ...], fortran: bool) -> _Array:
        """Choose the axes: planes if it looks like an image."""
        axes = ""
        if type[1:] in ("u1", "u2"):
            axes = next((a for a, hw in (("HW", shape), ("HWC", shape[:2]), ("CHW", shape[1:])) if len(a) == len(shape)
                         and min(hw) >= _SIDE and (a == "HW" or 1 <= shape[a.index("C")] <= 4)), "")  # fmt: skip
        return cls(type, shape, fortran, axes)

    @classmethod
    def parse(cls, text: str) -> _Array:
        """Parse the layout of a content; raises ArdmError."""
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
        """The dtype of the file; bool as uint8, because a file may hold any byte."""
        return np.dtype("u1" if self.type == "|b1" else self.type)

    @property
    def little(self) -> np.dtype:
        """The dtype, little-endian."""
        return self._own.newbyteorder("<")

    def samples(self, raw: bytes | memoryview) -> Samples:
        """The bytes of a file to samples."""
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
            raise ArdmError(f"samples {x.shape} of {x.dtype} are not the array {self}")
        return x.astype(self._own).tobytes()


def _header(type: str, shape: tuple[int, ...], fortran: bool) -> bytes:
    """The header that np.save writes; written here so that it never changes."""
    text = f"{{'descr': {type!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    if shape:
        text = text.ljust(len(text) + 21 - len(str(shape[-1 if fortran else 0])))  # room for longer arrays
    text = text.ljust((len(text) + 11) // 64 * 64 + 53) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("ascii")


def _parse(data: bytes) -> tuple[str, tuple[int, ...], bool, int]:
    """Type, shape, Fortran order, and where the array begins; KeepBytes if it is not supported."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            shape, fortran, dtype = reader(file)
    except (ValueError, KeyError, SyntaxError, TokenError, RecursionError, MemoryError):
        # Python's parser raises the last two for headers nested too deeply; NumPy limits them to 10,000 characters
        raise KeepBytes("its header cannot be read") from None
    if not all(type(n) is int and 0 <= n < 10**18 for n in shape):
        raise KeepBytes(f"its shape is {shape}")
    if not _TYPE.fullmatch(dtype.str):
        raise KeepBytes(f"only arrays of integers are read; it has {dtype}")
    if prod(shape) * dtype.itemsize > MAX_SAMPLES:
        raise KeepBytes(f"it claims {prod(shape) * dtype.itemsize} bytes, more than {MAX_SAMPLES}")
    if prod(shape) * dtype.itemsize + file.tell() > len(data):
        raise KeepBytes("it ends early")
    return dtype.str, shape, fortran, file.tell()


@dataclass(frozen=True)
class _Placed:
    """The header."""

    layout: _Array
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


class _Layout:
    origin = "npy"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        type, shape, fortran, begin = _parse(data)
        layout = _Array.of(type, shape, fortran)
        if len(str(layout)) > MAX_LAYOUT:
            raise KeepBytes(f"it has {len(shape)} axes")
        return _Placed(layout, begin)

    def size(self, content: Content) -> int:
        return content.raw_bytes

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        layout = _Array.parse(content.layout)
        return _header(layout.type, layout.shape, layout.fortran), b""


_LAYOUT = _Layout()


def _read(data: bytes, strip: bool, most: int) -> Read:
    return ranges.read(_LAYOUT, data, strip, most)


def _render(content: Content) -> bytes:
    """Write a file: arrays unchanged, images as (H, W) or (H, W, C), sound as (L, C)."""
    if content.kind == Kind.ARRAY:
        return ranges.render(_LAYOUT, content)
    x = pixels(content.samples)
    if content.kind == Kind.AUDIO:
        x = wav.signed(content.samples).astype("<i2") if content.is_16bit else content.samples[:, 0].T
    return _header(x.dtype.str, x.shape, False) + x.tobytes()


def as_image(content: Content) -> Content:
    """Turn an array that looks like an image into one; raises ArdmError for others."""
    if not _Array.parse(content.layout).axes:
        raise ArdmError(f"the array {content.layout} is not an image; it can be written as npy only")
    return image(content.samples, "", {})


# --- many arrays in one file ------------------------------------------------------------------------------------------


def items(data: bytes) -> list[Content] | None:
    """Split a .npy file of integers (N, ...) into its N rows; None for other files.

    A file that np.save would write differently counts as another file, because `joined` writes what np.save writes.
    """
    try:
        with guarded():
            type, shape, fortran, begin = _parse(data)
    except KeepBytes:
        return None
    if len(shape) < 2 or not prod(shape) or fortran or data[:begin] != _header(type, shape, fortran):
        return None
    layout = _Array.of(type, shape[1:], False)
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
    layout = _Array.parse(layouts.pop())
    if layout.fortran:
        raise ArdmError("arrays in Fortran order cannot be joined")
    head = _header(layout.type, (len(items), *layout.shape), False)
    return b"".join((head, *(layout.raw(content.samples) for content in items)))


_TYPE_CLAIM = re.compile(rb"'descr':\s*'[<>|=]?[a-zA-Z](\d{1,3})'")
_SHAPE_CLAIM = re.compile(rb"'shape':\s*\(([\d,\sL]*)\)")


def _claim(part: Part) -> Claim | None:
    text = part(0, 1 << 16)
    kind, shape = _TYPE_CLAIM.search(text), _SHAPE_CLAIM.search(text)
    if kind is None or shape is None:
        return None
    numbers, size = (int(n) for n in re.findall(rb"\d{1,20}", shape[1])), int(kind[1])
    return Claim("npy", 1, 1, prod(numbers), 8 * size, image=False, sample_bytes=size)


FORMAT = FileFormat("npy", (".npy",), rb"\x93NUMPY", _claim, _read, _render, Kind.ARRAY, (6, 6), byte_for_byte=True)
