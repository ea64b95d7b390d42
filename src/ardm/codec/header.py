"""Frame and archive headers, and the limits of a reader.

    frame     magic 4 | version 1 | form | [model 4 | calls v] | CRC-8 1 | [about] | [piece length v] | body
    archive   magic 4 | version 1 | flags 1 | items v | [form] | [model 4 | calls v] | CRC-8 1 | [about] | index | items
    form      flags 1 | planes and origin 1 | dims | [span 1]
    body      piece, or lengths of pieces | CRC-32 4 | pieces | CRC-32 4

docs/format.md defines every field, the inside of a piece, and what each check covers.  v is a canonical LEB128 integer
below 2^63; everything is little-endian.

A reader checks every field before it uses it, and allocates nothing for a number that the bytes present could not
hold.  Any fault in a file raises CodecError, or Unsupported if a later version may allow it.

NumPy, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ardm.codec.binary import Reader, crc8, varint
from ardm.content import MAX_LAYOUT, ORIGINS, Content, Kind, misfit
from ardm.errors import CodecError, Unsupported

Shape: TypeAlias = tuple[int, int, int]
"""(channels, height, width)."""
Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width of a region."""
MAGIC = b"\x89ADM"
VERSION = 1
SPANS = range(5, 41)
"""Spans that a file may name: a region is a square of side 2^span, or a run of 2^span samples."""
MODEL_SITES = 1 << 22
"""The most sites per plane of a region that a model codes; a coder must be able to hold them at once."""
_ABOUT, _MODEL, _WIDE, _SPLIT, _LATER, _ARCHIVE = 4, 8, 16, 32, 64, 128  # flags of a form; the last: of an archive
_UNIFORM, _NAMES, _CODED = 1, 2, 4  # the other flags of an archive
FOREIGN = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"RIFF", "a WebP image or a WAV file"),
    (b"\xff\x0a", "a JPEG XL image"), (b"\0\0\0\x0cJXL ", "a JPEG XL image"), (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"), (b"MM\0*", "a TIFF image"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"PK\x03\x04", "a zip archive"), (b"%PDF", "a PDF"),
    (b"fLaC", "a FLAC file"), (b"OggS", "an Ogg file"), (b"ID3", "an MP3 file"), (b"\x93NUMPY", "a NumPy array"),
    (b"\xef\xbf\xbdADM", "an ardm file that was copied as text"), (b"\x09ADM", "an ardm file that lost its high bits"),
    (b"\xc2\x89ADM", "an ardm file that was copied as text"), (b"BM", "a BMP image"), (b"P5", "a PGM image"),
    (b"P6", "a PPM image"),
)  # fmt: skip
"""The first bytes of other kinds of files."""


class Method(IntEnum):
    """How a part is stored; files contain these numbers."""

    CODED = 0
    RAW = 1
    DEFLATE = 2
    CONSTANT = 3
    LZMA = 4
    FILTERED = 5
    FLAC = 6


@dataclass(frozen=True)
class Limits:
    """The most that a reader decodes for one content; it refuses a file beyond these limits before it does any work.

    max_pixels: height times width of an image.  max_bytes: of the samples.  max_work: samples times network calls.
    """

    max_pixels: int = 1 << 28
    max_bytes: int = 1 << 31
    max_work: int = 1 << 34

    def refuse(self, form: Form, calls: int) -> None:
        """Raise CodecError for a content beyond the limits; the message names the limit."""
        _, H, W = form.shape
        if form.kind == Kind.IMAGE and self.max_pixels < H * W:
            claim, limit = f"{W}x{H} pixels", f"max_pixels = {self.max_pixels}"
        elif form.raw_bytes > self.max_bytes:
            claim, limit = f"{form.raw_bytes} bytes of samples", f"max_bytes = {self.max_bytes}"
        elif form.model and form.samples * calls > self.max_work:
            claim, limit = f"{form.samples} samples in {calls} calls each", f"max_work = {self.max_work}"
        else:
            return
        raise CodecError(f"this file claims {claim}, above the limit {limit}; raise the limit to decode it")


# --- forms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """The description of one content in a header, without the model.

    kind to layout: as in Content.  is_16bit: two bytes per sample.  about: whether an about block follows.
    model: whether a model codes some of it.
    span: of its regions, or 0 for a single one.  Regions are squares of side 2^span, row by row, if the height is more
    than 1, else runs of 2^span samples of every plane.
    """

    kind: Kind
    shape: Shape
    is_16bit: bool = False
    origin: str = ""
    rate: int = 0
    layout: str = ""
    about: bool = False
    model: bool = False
    span: int = 0

    @classmethod
    def of(cls, content: Content, model: bool = False, span: int = 0) -> Form:
        """The form of a content; its span is 0 where one region is enough."""
        c = content
        form = cls(c.kind, c.shape, c.is_16bit, c.origin, c.rate, c.layout, bool(c.about), model, span)
        return form if form.regions > 1 else cls(**{**form.__dict__, "span": 0})

    @property
    def samples(self) -> int:
        """The number of samples."""
        return prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the samples."""
        return np.dtype("<u2" if self.is_16bit else "u1")

    @property
    def raw_bytes(self) -> int:
        """Bytes of the samples."""
        return self.samples * (1 + self.is_16bit)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a region that no border cuts."""
        _, H, W = self.shape
        side = 1 << self.span
        return (H, W) if not self.span else (side, side) if H > 1 else (1, side)

    @property
    def regions(self) -> int:
        """The number of regions; an empty content has one."""
        (_, H, W), (h, w) = self.shape, self.cell
        return 1 if not self.span else -(-H // h) * -(-W // w)

    def boxes(self) -> Iterator[Box]:
        """The regions, in order."""
        (_, H, W), (h, w) = self.shape, self.cell
        if not self.span:
            return iter([(0, 0, H, W)])
        return ((y, x, min(h, H - y), min(w, W - x)) for y in range(0, H, h) for x in range(0, W, w))

    def write(self) -> bytes:
        """The bytes of the form."""
        C, H, W = self.shape
        flags = self.kind | _ABOUT * self.about | _MODEL * self.model | _WIDE * self.is_16bit | _SPLIT * bool(self.span)
        out = bytes([flags, C | ORIGINS.index(self.origin) << 4])
        if self.kind == Kind.ARRAY:
            out += varint(len(self.layout)) + self.layout.encode("ascii")
        if self.kind == Kind.AUDIO:
            out += varint(self.rate)
        if self.kind in (Kind.IMAGE, Kind.ARRAY):
            out += varint(H)
        return out + varint(W) + bytes([self.span] if self.span else [])

    def describe(self, calls: int) -> bytes:
        """The bytes that every check of this content covers: the form and the calls, in a frame as in an archive."""
        return self.write() + (varint(calls) if self.model else b"")


def read_form(file: Reader, flags: int) -> Form:
    """Read a form whose flags have been read.  Raises CodecError where its fields contradict each other."""
    if flags & (_LATER | _ARCHIVE):
        raise Unsupported(f"this file has features (flags {flags:#04x}) that this version of ardm lacks")
    kind, byte = Kind(flags & 3), file.byte("header")
    if byte >> 4 >= len(ORIGINS):
        raise Unsupported(f"this file came in a format ({byte >> 4}) that this version of ardm lacks")
    layout, rate, H = "", 0, 1
    if kind == Kind.ARRAY:
        count = file.varint("layout")
        if count > MAX_LAYOUT:
            raise CodecError(f"damaged header: its layout has {count} characters")
        layout = file.take(count, "layout").decode("latin-1")
    if kind == Kind.AUDIO:
        rate = file.varint("rate")
    if kind in (Kind.IMAGE, Kind.ARRAY):
        H = file.varint("height")
    shape = byte & 15, H, file.varint("length" if H == 1 else "width")
    span = file.byte("header") if flags & _SPLIT else 0
    is_16bit, about, model = bool(flags & _WIDE), bool(flags & _ABOUT), bool(flags & _MODEL)
    return _sound(
        Form(kind, shape, is_16bit, ORIGINS[byte >> 4], rate, layout, about, model, span), bool(flags & _SPLIT)
    )


def _sound(form: Form, split: bool) -> Form:
    """The form, or CodecError where its fields contradict each other."""
    fault = misfit(form.kind, form.shape, form.is_16bit, form.rate, form.layout)
    if not fault and split and (form.span not in SPANS or form.regions < 2):
        fault = f"shape {form.shape} is not cut into regions of span {form.span}"
    if not fault and form.model:
        sites = min(form.cell[0], form.shape[1]) * min(form.cell[1], form.shape[2])
        if not 1 <= sites <= MODEL_SITES:
            fault = f"a model codes regions of 1 to {MODEL_SITES} sites; got {sites}"
    if fault:
        raise CodecError(f"damaged header: {fault}")
    return form


# --- headers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """The start of a frame or an archive.

    form: of a frame, or of every item; None for an archive of items that differ.
    items: of an archive, else None.  names: whether items have names.
    model: 8 hex digits, "" without.  calls: of the model, else 0.
    """

    form: Form | None
    items: int | None = None
    names: bool = False
    model: str = ""
    calls: int = 0

    def write(self) -> bytes:
        """The bytes of the header, with its CRC-8."""
        out = MAGIC + bytes([VERSION])
        if self.items is not None:
            flags = _ARCHIVE | _UNIFORM * (self.form is not None) | _NAMES * self.names | _CODED * bool(self.model)
            out += bytes([flags]) + varint(self.items)
        if self.form is not None:
            out += self.form.write()
        if self.model:
            out += bytes.fromhex(self.model) + varint(self.calls)
        return out + bytes([crc8(out)])


def read_header(file: Reader) -> Header:
    """Read the header of a frame or an archive and check every field; `Limits` are not applied.

    Raises CodecError for a foreign, damaged or truncated file, Unsupported for another format.
    """
    start, file.crc = file.at, 0
    if file.take(min(4, file.left), "header") != MAGIC:
        file.at = start
        raise CodecError(foreign(file.take(min(16, file.left), "header")))
    version, flags = file.byte("header"), file.byte("header")
    if version != VERSION:
        what = "which was never portable; decode it with the version that wrote it" if version == 0 else "a later one"
        raise Unsupported(f"this file has format {version}, {what}; this version of ardm reads format {VERSION}")
    items, form, names = None, None, False
    if flags & _ARCHIVE:
        if flags & ~(_ARCHIVE | _UNIFORM | _NAMES | _CODED):
            raise Unsupported(f"this archive has features (flags {flags:#04x}) that this version of ardm lacks")
        items, names, model = file.varint("number of items"), bool(flags & _NAMES), bool(flags & _CODED)
        if flags & _UNIFORM:
            form = read_form(file, file.byte("header"))
    else:
        form = read_form(file, flags)
        model = form.model
    name = file.take(4, "header").hex() if model else ""
    calls = file.varint("number of calls") if model else 0
    if crc8(file.since(start)) != file.byte("header"):
        raise CodecError("damaged header: its checksum does not match")
    contradiction = items is not None and (not items or (form is not None and form.model != model))
    if contradiction or (model and not calls):
        raise CodecError("damaged header: its fields contradict each other")
    return Header(form, items, names, name, calls)


def foreign(data: bytes) -> str:
    """The error message for a file that is not an ardm file; data: its first bytes, 16 are enough."""
    if not data:
        return "not an ardm file: it is empty"
    if MAGIC.startswith(data[:4]):
        return f"truncated file: it ends in its header, after {len(data)} bytes"
    for start, name in FOREIGN:
        if data.startswith(start):
            return f"not an ardm file: it looks like {name}"
    return "not an ardm file: it does not begin with 89 41 44 4D"
