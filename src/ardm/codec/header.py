"""Frame and archive headers, and the limits of a reader.

    frame     magic and type 2 | form | [model 2] | [calls] | CRC-8 1 | [about] | [piece length v] | body
    archive   magic and type 2 | flags 1 | items v | [form] | [model 2 | calls] | CRC-8 1 | [about] | index | items
    bare      form | [calls] | [about] | body
    calls     calls v, or 2^20 + calls v | schedule v, …
    form      in short: 1 byte below 128 | [dims]
              of a run: 1 byte | length v     (in bare frames alone)
              in full:  flags 1 | [check 1] | planes and origin 1 | dims | [span 1]
    body      piece, or lengths of pieces | CRC-32 4 | pieces | check

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

from ardm.ans import CHECKS
from ardm.codec.binary import Reader, crc8, varint
from ardm.codec.foreign import looks_like
from ardm.codec.steps import pack_steps, read_steps, written
from ardm.content import LINE_ENDS, MAX_LAYOUT, ORIGINS, Content, Kind, Lines, misfit
from ardm.errors import CodecError, Unsupported
from ardm.exact.planned import Steps, calls_of

Shape: TypeAlias = tuple[int, int, int]
"""(channels, height, width)."""
Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width of a region."""
MAGIC = b"\xad"
"""The first byte of a file.  The second is FRAME or ARCHIVE and the version."""
FRAME, ARCHIVE = 0xD0, 0xA0
VERSION = 1
MODEL = 2
"""Bytes of a model's identity in a header."""
SPANS = range(5, 41)
"""Spans that a file may name: a region is a square of side 2^span, or a run of 2^span samples."""
MODEL_SITES = 1 << 22
"""The most sites per plane of a region that a model codes; a coder must be able to hold them at once."""
_ABOUT, _MODEL, _WIDE, _SPLIT, _CHECK, _FULL = 4, 8, 16, 32, 64, 128  # flags of a form in full
_RUN, _ROW = _FULL | _MODEL | _WIDE, _ABOUT  # of a run, which is no form in full: bytes have one byte a sample
_UNIFORM, _NAMES, _CODED, _LINES, _CRLF, _OPEN = 1, 2, 4, 16, 32, 64  # flags of an archive
_SIDES = (32, 28)  # of the square pictures that a form in short need not measure


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

    max_pixels: height times width of an image.  max_bytes: of the samples.  max_work: samples times network calls, at least one.
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
        elif form.model and form.samples * max(1, calls) > self.max_work:
            claim, limit = f"{form.samples} samples in {max(1, calls)} calls each", f"max_work = {self.max_work}"
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
    check: bits of the check of each region: 32, 16, 8 or 0.
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
    check: int = 32

    @classmethod
    def of(cls, content: Content, model: bool = False, span: int = 0, check: int = 32) -> Form:
        """The form of a content; its span is 0 where one region is enough."""
        c = content
        form = cls(c.kind, c.shape, c.is_16bit, c.origin, c.rate, c.layout, bool(c.about), model, span, check)
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

    @property
    def is_short(self) -> bool:
        """Whether it can be written in short: a picture, as most are, or a run."""
        plain = self.model and not (self.is_16bit or self.about or self.span)
        if self.kind == Kind.IMAGE:
            return plain and self.shape[0] in (1, 3) and ORIGINS.index(self.origin) < 4
        return plain and self.shape[:2] == (1, 1) and (self.kind, self.origin, self.layout) in _runs(self.shape[2])

    def write(self) -> bytes:
        """The bytes of the form, in short if possible."""
        return self._short() if self.is_short else self.full()

    def _short(self) -> bytes:
        C, H, W = self.shape
        if self.kind != Kind.IMAGE:
            return bytes([_RUN | _ROW * (self.kind == Kind.ARRAY) | CHECKS.index(self.check) << 5]) + varint(W)
        size = 3 if H != W else _SIDES.index(H) if H in _SIDES else 2
        number = (C == 3) | ORIGINS.index(self.origin) << 1 | size << 3 | CHECKS.index(self.check) << 5
        return bytes([number]) + b"".join(map(varint, (b"", b"", (W,), (H, W))[size]))

    def full(self) -> bytes:
        """The bytes of the form in full."""
        C, H, W = self.shape
        flags = self.kind | _ABOUT * self.about | _MODEL * self.model | _WIDE * self.is_16bit | _SPLIT * bool(self.span)
        out = bytes([_FULL | flags | _CHECK * (self.check < 32)]) + bytes([self.check // 8] * (self.check < 32))
        out += bytes([C | ORIGINS.index(self.origin) << 4])
        if self.kind == Kind.ARRAY:
            out += varint(len(self.layout)) + self.layout.encode("ascii")
        if self.kind == Kind.AUDIO:
            out += varint(self.rate)
        if self.kind in (Kind.IMAGE, Kind.ARRAY):
            out += varint(H)
        return out + varint(W) + bytes([self.span] if self.span else [])

    def describe(self, steps: Steps) -> bytes:
        """The bytes that every check of this content covers: the form in full and the steps, wherever they are stored."""
        return self.full() + (b"".join(written(steps)) if self.model else b"")

    def checked(self, crc: int) -> bytes:
        """The check of a CRC-32 as a file holds it: its low bits."""
        return crc.to_bytes(4, "little")[: self.check // 8]


def read_form(file: Reader, calls: bool = False) -> Form:
    """Read a form.  Raises CodecError where its fields contradict each other, or where it is longer than it need be.

    calls: whether it may stand in full although it could be short, because calls follow.
    """
    start, flags = file.at, file.byte("header")
    brief = _is_brief(flags)
    form = _read_short(file, flags) if brief else _sound(_read_full(file, flags), bool(flags & _SPLIT))
    if file.since(start) != (form.full() if calls and not brief else form.write()):
        raise CodecError("damaged header: its form is not written in the shortest way")
    return form


def _runs(length: int) -> tuple[tuple[Kind, str, str], ...]:
    """Kind, origin and layout of the runs of a length: bytes, and a row of numbers of 8 bits, as a .npy file has them."""
    return (Kind.BYTES, "", ""), (Kind.ARRAY, "npy", f"|u1 {length} C")


def _is_brief(flags: int) -> bool:
    """Whether a form that begins with these flags stands in short."""
    return not flags & _FULL or flags & ~(_SPLIT | _CHECK | _ROW) == _RUN


def _read_short(file: Reader, flags: int) -> Form:
    """A form in short, behind its flags."""
    if flags & _FULL:
        length = file.varint("length")
        kind, origin, layout = _runs(length)[bool(flags & _ROW)]
        check = CHECKS[flags >> 5 & 3]
        return _sound(Form(kind, (1, 1, length), origin=origin, layout=layout, model=True, check=check), False)
    size = flags >> 3 & 3
    sizes = [file.varint("height") for _ in range(size - 1)]
    H, W = (_SIDES[size], _SIDES[size]) if not sizes else (sizes[0], sizes[-1])
    C, origin, check = 1 + 2 * (flags & 1), ORIGINS[flags >> 1 & 3], CHECKS[flags >> 5]
    return _sound(Form(Kind.IMAGE, (C, H, W), origin=origin, model=True, check=check), False)


def _read_full(file: Reader, flags: int) -> Form:
    """A form in full, behind its flags; its fields may contradict each other."""
    bits = 8 * file.byte("header") if flags & _CHECK else 32
    if bits not in CHECKS:
        raise Unsupported(f"this file has checks of {bits} bits, which this version of ardm lacks")
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
    return Form(kind, shape, is_16bit, ORIGINS[byte >> 4], rate, layout, about, model, span, bits)


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
    model: the first 4 hex digits of its identity, "" without, or where a bare frame leaves it out.
    steps: of the model; 0 without, and where its order follows from the size of an item.
    lines: of an archive whose items are the lines of a text.
    """

    form: Form | None
    items: int | None = None
    names: bool = False
    model: str = ""
    steps: Steps = 0
    lines: Lines | None = None

    @classmethod
    def of(cls, form: Form, identity: str, steps: Steps) -> Header:
        """The header of a frame; identity, steps: of the model, if the form says that there is one."""
        return cls(form, model=short(identity), steps=steps) if form.model else cls(form)

    @property
    def calls(self) -> int:
        """The number of network calls."""
        return calls_of(self.steps)

    def write(self) -> bytes:
        """The bytes of the header, with its CRC-8."""
        model, what = bytes.fromhex(self.model), FRAME if self.items is None else ARCHIVE
        out = MAGIC + bytes([what | VERSION])
        if self.items is not None:
            flags = _UNIFORM * (self.form is not None) | _NAMES * self.names | _CODED * bool(model)
            if self.lines is not None:
                flags |= _LINES | _CRLF * LINE_ENDS.index(self.lines.end) | _OPEN * (not self.lines.ended)
            out += bytes([flags]) + varint(self.items) + (b"" if self.form is None else self.form.write())
            out += model + pack_steps(self.steps) if model else b""
        elif self.form is not None:
            form, calls = self._form()
            out += form + model + calls
        return out + bytes([crc8(out)])

    def bare(self, usual: bool = False) -> bytes:
        """The bytes of the header of a bare frame: the form, and the calls.

        usual: whether these are those that the model makes if none are named; then a form in short has none.
        """
        assert self.form is not None
        return self.form.write() if usual and self.form.is_short else b"".join(self._form())

    def _form(self) -> tuple[bytes, bytes]:
        """The bytes of the form of a frame, and the calls: with a form in short there are none."""
        assert self.form is not None
        if not self.form.model or (self.form.is_short and not self.steps):
            return self.form.write(), b""
        return self.form.full(), pack_steps(self.steps)


def short(identity: str) -> str:
    """The beginning of a model's identity that a header has: 4 hex digits."""
    return identity[: 2 * MODEL]


def is_ours(data: bytes) -> bool:
    """Whether a file begins like an ardm file of any version; data: its first two bytes or more."""
    return data[:1] == MAGIC and len(data) > 1 and data[1] & 0xF0 in (FRAME, ARCHIVE)


def is_archive(data: bytes) -> bool:
    """Whether a file begins like an archive of any version; data: its first two bytes or more."""
    return is_ours(data) and data[1] & 0xF0 == ARCHIVE


def read_header(file: Reader) -> Header:
    """Read the header of a frame or an archive and check every field; `Limits` are not applied.

    Raises CodecError for a foreign, damaged or truncated file, Unsupported for another format.
    """
    start, file.crc = file.at, 0
    head = file.take(min(2, file.left), "header")
    if not is_ours(head):
        file.at = start
        raise CodecError(foreign(file.take(min(16, file.left), "header")))
    version = head[1] & 15
    if version != VERSION:
        what = "which was never released" if version == 0 else "a later one"
        raise Unsupported(f"this file has format {version}, {what}; this version of ardm reads format {VERSION}")
    header = _read_archive(file) if head[1] & 0xF0 == ARCHIVE else _read_frame(file)
    if crc8(file.since(start)) != file.byte("header"):
        raise CodecError("damaged header: its checksum does not match")
    form, items = header.form, header.items
    if items is not None and (not items or (form is not None and form.model != bool(header.model))):
        raise CodecError("damaged header: its fields contradict each other")
    return header


def _read_archive(file: Reader) -> Header:
    """The header of an archive between its type and its checksum."""
    flags = file.byte("header")
    if flags & ~(_UNIFORM | _NAMES | _CODED | _LINES | _CRLF | _OPEN):
        raise Unsupported(f"this archive has features (flags {flags:#04x}) that this version of ardm lacks")
    items = file.varint("number of items")
    form = read_form(file) if flags & _UNIFORM else None
    model = file.take(MODEL, "header").hex() if flags & _CODED else ""
    lines = Lines(LINE_ENDS[bool(flags & _CRLF)], not flags & _OPEN) if flags & _LINES else None
    if flags & (_NAMES if lines else _CRLF | _OPEN):
        raise CodecError("damaged header: its fields contradict each other")
    return Header(form, items, bool(flags & _NAMES), model, read_steps(file) if model else 0, lines)


def _read_frame(file: Reader, bare: bool = False) -> Header:
    """The header of a frame between its type and its checksum.  bare: it names no model."""
    start = file.at
    form = read_form(file, calls=True)
    full = not _is_brief(file.since(start)[0])
    model = file.take(MODEL, "header").hex() if form.model and not bare else ""
    steps = read_steps(file) if form.model and full else 0
    if full and form.is_short and not steps:
        raise CodecError("damaged header: its form is not written in the shortest way")
    return Header(form, model=model, steps=steps)


def read_bare(file: Reader) -> Header:
    """Read the header of a bare frame, which names no model and has no checksum of its own.  Raises as `read_header`.

    Steps of 0 are those that the model makes if none are named.
    """
    start = file.at
    if is_ours(file.take(min(2, file.left), "header")):  # no form in full begins so
        raise CodecError("this file is not bare: it says what it is and which model made it; read it without --bare")
    file.at = start
    try:
        return _read_frame(file, bare=True)
    except CodecError as error:
        raise type(error)(f"{error}; or this file is not bare") from None


def foreign(data: bytes) -> str:
    """The error message for a file that is not an ardm file; data: its first bytes, 16 are enough."""
    if not data:
        return "not an ardm file: it is empty"
    if is_ours(data) or data == MAGIC:
        return f"truncated file: it ends in its header, after {len(data)} bytes"
    if name := looks_like(data):
        return f"not an ardm file: it looks like {name}"
    return "not an ardm file: it does not begin with AD D1 or AD A1, and a bare one is read with --bare"
