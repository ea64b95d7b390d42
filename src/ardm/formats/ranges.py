"""Files whose samples stand in them as they are: at known byte ranges, with every other byte kept as it stands.

BMP, PNM, WAV, npy and uncompressed TIFF.  A format says where the samples of a file stand and how bytes become samples
and back (`Placed`).  The rest is the same for all: `read` cuts a file at its ranges, `render` puts it together again,
byte for byte.  No byte can be forgotten, since what is not a sample is not looked at: it is kept.

    head | samples | gap | samples | ... | tail

about "head", "tail": the bytes before and after the samples, where they are not those of a file written anew.
about "gaps": for files of several ranges, two lengths of eight bytes for each gap (of the samples before it, and its
own), little-endian, then the bytes of all gaps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol, TypeAlias

from ardm.content import Content
from ardm.errors import ArdmError
from ardm.formats.common import Kept, Read

Span: TypeAlias = tuple[int, int]
"""Where a range begins and ends."""

SLACK = 1 << 12
"""Bytes beside the samples that any file may have."""
MAX_SPANS = 1 << 16
"""Ranges of a file, at most."""


class Placed(Protocol):
    """Where the samples of one file stand, and how."""

    @property
    def spans(self) -> Sequence[Span]:
        """Their ranges, in the order of the samples."""
        ...

    def decode(self, raw: memoryview) -> Content:
        """The content, from the bytes of all ranges; about has only what it needs to be shown.  Raises Kept."""
        ...

    def encode(self, content: Content) -> bytes:
        """The inverse of decode; raises ArdmError for a content of another size."""
        ...


class Format(Protocol):
    """A file format of this kind."""

    origin: str

    def describe(self, data: bytes) -> Placed:
        """Read the bytes around the samples; the samples are not looked at.  Raises Kept."""
        ...

    def size(self, content: Content) -> int:
        """Bytes that the samples of a content take in a file."""
        ...

    def anew(self, content: Content) -> tuple[bytes, bytes]:
        """The bytes before and after the samples of a file written anew; raises ArdmError where there is none."""
        ...


def read(format: Format, data: bytes, strip: bool) -> Read:
    """A file as a content, from which it has been put together again; strip: without what is around its samples."""
    placed = format.describe(data)
    spans = _joined(placed.spans, len(data))
    view = memoryview(data)
    raw = view[slice(*spans[0])] if len(spans) == 1 else memoryview(b"".join(view[a:b] for a, b in spans))
    if len(data) - len(raw) > max(SLACK, len(raw)):
        raise Kept("most of it is something else than its samples")
    content = placed.decode(raw)
    around = dict(_around(format, content, data, spans))
    whole = replace(content, about={**content.about, **around})
    if not _comes_back(format, whole, data):
        raise Kept("its rows end in bits that are not zero, or its samples are tags too")
    return Read(content, (), ("bytes around the samples",) if around else ()) if strip else Read(whole)


def _comes_back(format: Format, content: Content, data: bytes) -> bool:
    """Whether a content becomes a file again, byte for byte."""
    try:
        return render(format, content) == data
    except ArdmError:
        return False


def render(format: Format, content: Content) -> bytes:
    """The file of a content: as it was, byte for byte, if it came in this format; raises ArdmError."""
    about = content.about if content.origin == format.origin else {}
    new = (b"", b"") if {"head", "tail"} <= set(about) else format.anew(content)
    head, tail = about.get("head", new[0]), about.get("tail", new[1])
    lengths, gaps = _gaps(about.get("gaps", b""))
    left = format.size(content) - sum(lengths)
    if left < 0:
        raise ArdmError(f"the ranges of this {format.origin} are longer than its samples")
    parts = [head]
    for length, gap in zip([*lengths, left], [*gaps, tail], strict=True):
        parts += [bytes(length), gap]
    file = bytearray(b"".join(parts))
    try:
        placed = format.describe(bytes(file))
        spans = _joined(placed.spans, len(file))
    except Kept as why:
        raise ArdmError(f"this cannot be written as {format.origin}: {why}") from None
    raw, at = placed.encode(content), 0
    if _places(spans) != _places([*_expected(len(head), [*lengths, left], gaps)]) or sum(
        b - a for a, b in spans
    ) != len(raw):
        raise ArdmError(f"the header of this {format.origin} does not agree with its samples")
    for begin, end in spans:
        file[begin:end] = raw[at : at + end - begin]
        at += end - begin
    return bytes(file)


def _places(spans: Sequence[Span]) -> list[Span]:
    """Spans without those that are empty."""
    return [span for span in spans if span[0] < span[1]]


def _expected(at: int, lengths: Sequence[int], gaps: Sequence[bytes]) -> Iterator[Span]:
    """Where the samples of a file stand, by its gaps."""
    for length, gap in zip(lengths, [*gaps, b""], strict=True):
        yield at, at + length
        at += length + len(gap)


def _joined(spans: Sequence[Span], size: int) -> list[Span]:
    """The ranges of a file of `size` bytes, neighbours as one; Kept where they overlap, or leave the file."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin == found[-1][1]:
            found[-1] = found[-1][0], end
            continue
        if begin < (found[-1][1] if found else 0) or end < begin:
            raise Kept("its samples overlap, or are out of order")
        found.append((begin, end))
        if len(found) > MAX_SPANS:
            raise Kept(f"its samples stand in more than {MAX_SPANS} places")
    if not found or found[-1][1] > size:
        raise Kept("it ends early")
    return found


def _around(format: Format, content: Content, data: bytes, spans: Sequence[Span]) -> Iterator[tuple[str, bytes]]:
    """The bytes that are not samples, by their names in about, where they are not those of a file written anew."""
    try:
        new = format.anew(content)
    except ArdmError:  # files of other programs may have more planes than ours
        new = None
    for k, (name, own) in enumerate((("head", data[: spans[0][0]]), ("tail", data[spans[-1][1] :]))):
        if new is None or own != new[k]:
            yield name, own
    if len(spans) > 1:
        gaps = [(end - begin, data[end : after[0]]) for (begin, end), after in pairwise(spans)]
        yield "gaps", b"".join([*(struct.pack("<QQ", n, len(gap)) for n, gap in gaps), *(gap for _, gap in gaps)])


def _gaps(block: bytes) -> tuple[list[int], list[bytes]]:
    """Bytes of samples before each gap, and the gaps; raises ArdmError for what is no such block."""
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
        raise ArdmError("what is kept between its samples is damaged")
    return lengths, gaps
