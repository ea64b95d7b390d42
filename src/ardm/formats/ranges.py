"""Formats that store plain samples at known byte ranges; every other byte of the file is kept as it is.

BMP, PNM, WAV, npy and uncompressed TIFF.  A format says where the samples of a file are and how bytes become samples
and back (`Placed`).  The rest is the same for all of them: `read` cuts the file at its ranges, and `render` joins the
pieces again, byte for byte.  No byte can be forgotten, because bytes that are not samples are kept without parsing.

    head | samples | gap | samples | ... | tail

about "head", "tail": the bytes before and after the samples, unless they equal those of a freshly written file.
about "gaps": for files of several ranges, two little-endian lengths of eight bytes for each gap (bytes of samples before
the gap, bytes of the gap), followed by the bytes of all gaps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol, TypeAlias

from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats.claims import ClaimReader
from ardm.formats.common import MAX_SAMPLES, FileFormat, KeepBytes, Read

Span: TypeAlias = tuple[int, int]
"""Where a range begins and ends."""

SLACK = 1 << 12
"""Bytes beside the samples that every file may have."""
MAX_SPANS = 1 << 16
"""Most ranges of a file."""


class Placed(Protocol):
    """The samples of one file: where they are and how they are stored."""

    @property
    def spans(self) -> Sequence[Span]:
        """Their ranges, in the order of the samples."""
        ...

    def decode(self, raw: memoryview) -> Content:
        """The bytes of all ranges to a content; about holds only what is needed to display it.  Raises KeepBytes."""
        ...

    def encode(self, content: Content) -> bytes:
        """The inverse of decode; raises ArdmError for a content of another size."""
        ...


class Layout(Protocol):
    """How files of one format are laid out."""

    origin: str

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> Placed:
        """Read the bytes around the samples, not the samples.  Raises KeepBytes, also above `most` samples."""
        ...

    def size(self, content: Content) -> int:
        """Bytes that the samples of a content take in a file."""
        ...

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        """The bytes before and after the samples of a freshly written file; raises ArdmError if none can hold it."""
        ...


def file_format(
    layout: Layout,
    endings: tuple[str, ...],
    start: bytes,
    claim: ClaimReader,
    kind: Kind = Kind.IMAGE,
    held: tuple[int, int] = (6, 6),
) -> FileFormat:
    """A byte-for-byte format; the arguments are the fields of `FileFormat`."""
    return FileFormat(
        layout.origin,
        endings,
        start,
        claim,
        lambda data, strip, most: read(layout, data, strip, most),
        lambda content: render(layout, content),
        kind,
        held,
        byte_for_byte=True,
    )


def read(layout: Layout, data: bytes, strip: bool = False, most: int = MAX_SAMPLES) -> Read:
    """Turn a file into a content, and check that it turns back; strip: drop the bytes around the samples."""
    placed = layout.describe(data, most)
    spans = _joined(placed.spans, len(data))
    view = memoryview(data)
    raw = view[slice(*spans[0])] if len(spans) == 1 else memoryview(b"".join(view[a:b] for a, b in spans))
    if len(data) - len(raw) > max(SLACK, len(raw)):
        raise KeepBytes("most of it is not samples")
    content = placed.decode(raw)
    around = dict(_around(layout, content, data, spans))
    whole = replace(content, about={**content.about, **around})
    if not _comes_back(layout, whole, data):
        raise KeepBytes("its rows end in bits that are not zero, or some bytes are both samples and tags")
    return Read(content, (), ("bytes around the samples",) if around else ()) if strip else Read(whole)


def _comes_back(layout: Layout, content: Content, data: bytes) -> bool:
    """Whether the content becomes the file again, byte for byte."""
    try:
        return render(layout, content) == data
    except ArdmError:
        return False


def render(layout: Layout, content: Content) -> bytes:
    """A content to a file; byte for byte the original if it came in this format.  Raises ArdmError."""
    about = content.about if content.origin == layout.origin else {}
    new = (b"", b"") if {"head", "tail"} <= set(about) else layout.fresh(content)
    head, tail = about.get("head", new[0]), about.get("tail", new[1])
    lengths, gaps = _gaps(about.get("gaps", b""))
    left = layout.size(content) - sum(lengths)
    if left < 0:
        raise ArdmError(f"the ranges of this {layout.origin} are longer than its samples")
    parts = [head]
    for length, gap in zip([*lengths, left], [*gaps, tail], strict=True):
        parts += [bytes(length), gap]
    file = bytearray(b"".join(parts))
    try:
        placed = layout.describe(bytes(file))
        spans = _joined(placed.spans, len(file))
    except KeepBytes as why:
        raise ArdmError(f"this cannot be written as {layout.origin}: {why}") from None
    raw, at = placed.encode(content), 0
    expected = [*_expected(len(head), [*lengths, left], gaps)]
    if _filled(spans) != _filled(expected) or sum(b - a for a, b in spans) != len(raw):
        raise ArdmError(f"the header of this {layout.origin} does not agree with its samples")
    for begin, end in spans:
        file[begin:end] = raw[at : at + end - begin]
        at += end - begin
    return bytes(file)


def _filled(spans: Sequence[Span]) -> list[Span]:
    """The spans that are not empty."""
    return [span for span in spans if span[0] < span[1]]


def _expected(at: int, lengths: Sequence[int], gaps: Sequence[bytes]) -> Iterator[Span]:
    """Where the gaps leave room for samples."""
    for length, gap in zip(lengths, [*gaps, b""], strict=True):
        yield at, at + length
        at += length + len(gap)


def _joined(spans: Sequence[Span], size: int) -> list[Span]:
    """Join adjacent ranges of a file of `size` bytes; raise KeepBytes if ranges overlap or leave the file."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin == found[-1][1]:
            found[-1] = found[-1][0], end
            continue
        if begin < (found[-1][1] if found else 0) or end < begin:
            raise KeepBytes("its samples overlap, or are out of order")
        found.append((begin, end))
        if len(found) > MAX_SPANS:
            raise KeepBytes(f"its samples are in more than {MAX_SPANS} places")
    if not found or found[-1][1] > size:
        raise KeepBytes("it ends early")
    return found


def _around(layout: Layout, content: Content, data: bytes, spans: Sequence[Span]) -> Iterator[tuple[str, bytes]]:
    """The entries for about: head and tail unless a fresh file has the same, and the gaps."""
    try:
        new = layout.fresh(content)
    except ArdmError:  # other programs write more channels than we do
        new = None
    for k, (name, own) in enumerate((("head", data[: spans[0][0]]), ("tail", data[spans[-1][1] :]))):
        if new is None or own != new[k]:
            yield name, own
    if len(spans) > 1:
        gaps = [(end - begin, data[end : after[0]]) for (begin, end), after in pairwise(spans)]
        yield "gaps", b"".join([*(struct.pack("<QQ", n, len(gap)) for n, gap in gaps), *(gap for _, gap in gaps)])


def _gaps(block: bytes) -> tuple[list[int], list[bytes]]:
    """Parse about "gaps": bytes of samples before each gap, and the gaps.  Raises ArdmError for a damaged block."""
    lengths, sizes, at, end = list[int](), list[int](), 0, 0
    while at + 16 <= len(block) and end < len(block) and len(sizes) < MAX_SPANS:
        length, size = struct.unpack_from("<QQ", block, at)
        lengths.append(length)
        sizes.append(size)
        at += 16
        end += 16 + size
    gaps = []
    for size in sizes:
        gaps.append(block[at : at + size])
        at += size
    if at != len(block):
        raise ArdmError("the bytes kept between its samples are damaged")
    return lengths, gaps
