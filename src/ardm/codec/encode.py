"""Content to a frame: each part is coded by the model or stored, whichever is shorter.

    compress(content, coder)          → the bytes of a frame, and a Report
    compress_many(contents, coder)    → the bytes of a frame for each, coded together
    encode_contents(contents, coder)  → items with all their pieces, one after another (`archive` puts them together)

Regions pass through the coder one after another, and lazily: it may hold several at once, and nothing else is held but
those, the compressed bytes and the content.  docs/format.md has the bytes.

NumPy, no torch.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from typing import Any, TypeAlias

import numpy as np

from ardm.codec.binary import check_bytes, varint
from ardm.codec.fallback import Fallback
from ardm.codec.header import Box, Form, Header, Method
from ardm.codec.index import LEAST_PIECE, pack_about, pack_lengths
from ardm.codec.regions import (
    WAITING,
    PartCoder,
    Progress,
    content_crc,
    crc_of,
    parts,
    region_crc,
    span_of,
    through,
)
from ardm.codec.report import Report, method_names
from ardm.codec.steps import pack_steps
from ardm.content import Content, Kind, Samples
from ardm.exact.planned import Steps

SMALL_FILE = 1 << 12
"""Bytes of a file up to which the bytes that name a model may matter."""
MODEL_NAME = 2
"""Bytes that name a model in a header, about."""

Bytes: TypeAlias = bytes | memoryview


@dataclass
class Piece:
    """A region in its final form: chunks of bytes, the method of each part, and the bits that a model coded.

    clear: fewer bytes than this are clearly fewer than storing its only part takes (`Fallback.clear`), if that is known.
    """

    data: list[Bytes]
    methods: list[Method]
    bits: float
    clear: float = 0.0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.data))


@dataclass
class Body:
    """A content in its final form, without its header.  pieces: how many bytes of `data` are pieces."""

    form: Form
    about: bytes
    data: list[Bytes]
    pieces: int
    methods: Counter[Method]
    bits: float

    @property
    def size(self) -> int:
        """Bytes of data."""
        return sum(map(len, self.data))


@dataclass
class Encoding:
    """A content being encoded, the item of this number in its file.  stored: its parts that are stored."""

    content: Content
    form: Form
    about: bytes
    item: int
    base_crc: int
    stored: StoredParts
    pieces: list[Piece] = field(default_factory=list)


class StoredParts:
    """Parts stored without a model: up to `room` bytes of them are kept, so that none is stored twice."""

    def __init__(self, room: int = 0) -> None:
        self._room, self._kept = room, dict[tuple[int, Box, int, int], tuple[Method, bytes]]()

    def store(self, item: int, box: Box, section: slice, part: Fallback) -> tuple[Method, bytes]:
        """Method and bytes of a part: some planes of a region of an item."""
        key = (item, box, section.start, section.stop)
        found = self._kept.get(key) or part.store()
        if key not in self._kept and len(found[1]) <= self._room:
            self._room -= len(found[1])
            self._kept[key] = found
        return found


@dataclass
class _Region:
    """A region being encoded: its box, its samples x (C, h, w) and the parts that the planes are grouped in."""

    owner: Encoding
    box: Box
    x: Samples
    crc: int
    sections: list[slice]
    piece: Piece | None = None

    def parts(self) -> Iterator[tuple[slice, Fallback]]:
        """Each part, and how to store it."""
        return ((section, Fallback(self.x[section], self.owner.content.kind)) for section in self.sections)


def encode_contents(
    contents: Iterable[Content],
    coder: PartCoder[Any] | None,
    numbers: Iterable[int] | None = None,
    progress: Callable[[int], None] | None = None,
    stored: StoredParts | None = None,
    check: int = 32,
) -> Iterator[Encoding]:
    """Encode contents, the items of these numbers (by default 0, 1, …); yield each when all its pieces are there.

    progress: called with the samples of each region when its piece is there.
    stored: parts stored before, and room for those stored now, shared by items of different numbers; by default each
    content has its own.  check: bits of the check of each region.
    """
    for region in _encode_regions(contents, coder, count() if numbers is None else numbers, stored, check):
        if progress is not None:
            progress(region.x.size)
        if len(region.owner.pieces) == region.owner.form.regions:
            yield region.owner


def _encode_regions(
    contents: Iterable[Content],
    coder: PartCoder[Any] | None,
    numbers: Iterable[int],
    stored: StoredParts | None,
    check: int,
) -> Iterator[_Region]:
    """The regions of contents, in order, each with its piece; arguments as in `encode_contents`."""

    def regions() -> Iterator[_Region]:
        for content, item in zip(contents, numbers, strict=False):
            yield from _cut(content, item, coder, stored or StoredParts(WAITING), check)

    def job(region: _Region) -> list[Samples] | None:
        asked = [part.x for _, part in region.parts() if not part.constant] if region.owner.form.model else []
        if asked:
            return asked
        region.piece = _sealed(region, [], coder)
        return None

    run = None if coder is None else coder.encode
    for region, coded in through(regions(), job, run, lambda region: region.x.nbytes):
        region.piece = region.piece or _sealed(region, coded or [], coder)
        region.owner.pieces.append(region.piece)
        yield region


def _cut(
    content: Content, item: int, coder: PartCoder[Any] | None, stored: StoredParts, check: int
) -> Iterator[_Region]:
    """The regions of a content; with a coder that does not refuse it, those of a coded one."""
    model = coder is not None and content.samples.size > 0 and coder.refuses(content) is None
    form = Form.of(content, model, span_of(content, model), check)
    about = pack_about(content.about)
    identity, planes, steps = "", form.shape[0], coder.steps if model and coder is not None else 0
    if model and coder is not None:
        identity, planes = coder.identity, coder.planes
    owner = Encoding(content, form, about, item, content_crc(identity, form, steps, about, item), stored)
    for k, (y, x, h, w) in enumerate(form.boxes()):
        samples = content.samples[:, y : y + h, x : x + w]
        yield _Region(owner, (y, x, h, w), samples, region_crc(owner.base_crc, k), parts(form.shape[0], planes))


def _sealed(region: _Region, coded: Sequence[Any], coder: PartCoder[Any] | None) -> Piece:
    """The piece of a region, in which the model codes the parts it makes shorter; coded: all parts but constant ones.

    A part that the model clearly makes shorter is not stored for comparison.
    """
    results, chosen, methods, payloads, clear = iter(coded), [], [], [], 0.0
    for section, part in region.parts():
        result = next(results, None) if coded and not part.constant else None
        clear = 0.0 if result is None else part.clear()
        if result is not None and result.bits / 8 < clear:
            method, payload = Method.CODED, b""
        else:
            method, payload = region.owner.stored.store(region.owner.item, region.box, section, part)
        if result is not None and (method == Method.CODED or result.bits < 8 * len(payload)):
            chosen.append(result)
            methods.append(Method.CODED)
        else:
            methods.append(method)
            payloads.append(payload)
    head = b""
    if payloads:
        number = sum(method << 4 * k for k, method in enumerate(methods))
        head = b"".join([b"\0" * region.owner.form.model, varint(number), *payloads])
    form = region.owner.form
    end = form.checked(crc_of(region.x, zlib.crc32(head, region.crc)))
    if chosen and coder is not None:
        end = coder.finish(chosen, int.from_bytes(end, "little"), form.check)
    bits = float(sum(result.bits for result in chosen))
    return Piece([head, end], methods, bits, clear if len(methods) == 1 else 0.0)


# --- bodies -----------------------------------------------------------------------------------------------------------


def body_of(done: Encoding) -> Body:
    """The body of an encoded content; its raw samples where cutting it into regions made it longer than those."""
    pieces, data = sum(piece.size for piece in done.pieces), [part for piece in done.pieces for part in piece.data]
    methods = Counter(method for piece in done.pieces for method in piece.methods)
    if done.form.span:
        lengths = pack_lengths([piece.size for piece in done.pieces])
        data = [lengths, check_bytes(zlib.crc32(lengths)), *data, done.form.checked(crc_of(done.content.samples))]
    body = Body(done.form, done.about, data, pieces, methods, sum(piece.bits for piece in done.pieces))
    if done.form.span:
        raw = raw_body(done.content, done.item, set(methods) == {Method.CONSTANT}, done.form.check)
        body = min(body, raw, key=lambda body: body.size)
    return body


def stored_body(content: Content, item: int = 0, stored: StoredParts | None = None, check: int = 32) -> Body:
    """The body of a content without a model; stored: parts stored before."""
    (done,) = encode_contents([content], None, [item], stored=stored, check=check)
    return body_of(done)


def raw_body(content: Content, item: int, constant: bool = False, check: int = 32) -> Body:
    """The body of raw samples, in one piece; constant: one sample per plane if every plane is constant."""
    x, form, about = content.samples, Form.of(content, check=check), pack_about(content.about)
    method, payload = Method.RAW, x.reshape(-1).view(np.uint8).data  # no copy: it may be large
    if constant and (x == x[:, :1, :1]).all():
        method, payload = Method.CONSTANT, memoryview(x[:, 0, 0].tobytes())
    crc = zlib.crc32(payload, zlib.crc32(bytes([method]), region_crc(content_crc("", form, 0, about, item), 0)))
    data: list[Bytes] = [bytes([method]), payload, form.checked(crc_of(x, crc))]
    return Body(form, about, data, size_of(data), Counter([method]), 0.0)


# --- frames -----------------------------------------------------------------------------------------------------------


def compress(
    content: Content,
    coder: PartCoder[Any] | None = None,
    original: bytes | None = None,
    progress: Progress | None = None,
    check: int = 32,
    bare: bool = False,
) -> tuple[bytes, Report]:
    """Compress a content to one frame, which is a file.

    coder: codes the parts that it makes shorter; without one, or where it refuses, everything is stored.
    original: the file that the content came from; kept byte for byte (as BYTES, with the origin) if that is shorter.
    check: bits of the check of each region: 32, 16, 8 or 0, which leaves damage unnoticed.
    bare: leave out everything that says what kind of file it is, and which model made it.
    The result is at most 40 bytes longer than the shorter of the samples, with about and layout, and the original.
    """
    began, done = time.perf_counter(), 0
    refused = "" if coder is None else coder.refuses(content) or ""

    def count_samples(samples: int) -> None:
        nonlocal done
        done += samples
        if progress is not None:
            progress(done, content.samples.size)

    (encoding,) = encode_contents([content], coder, [0], count_samples, check=check)
    body = _shortest(encoding, coder, bare, original)
    data = _frame(body, coder, bare)
    return b"".join(data), report_of(
        Totals().add(body), body.form, coder, size_of(data), len(original or b""), began, refused
    )


def compress_many(
    contents: Iterable[Content], coder: PartCoder[Any] | None = None, check: int = 32, bare: bool = False
) -> Iterator[bytes]:
    """Compress contents to one frame each, with the bytes that `compress` gives; yield them in order.

    The coder gets the parts of many contents at once, which takes far less time than one content after another.
    """
    for done in encode_contents(contents, coder, repeat(0), check=check):
        yield b"".join(_frame(_shortest(done, coder, bare), coder, bare))


def _shortest(done: Encoding, coder: PartCoder[Any] | None, bare: bool, original: bytes | None = None) -> Body:
    """The body that makes the shortest frame: as encoded, stored, or the bytes of the file that it came from."""
    content, check, body = done.content, done.form.check, body_of(done)
    clear = done.pieces[0].clear if len(done.pieces) == 1 else 0.0
    if coder is not None and body.form.model and not _worth_naming(body, content, clear, coder.steps):
        body = _shorter(stored_body(content, 0, done.stored, check), body, coder, bare)
    if original is not None and len(original) + LEAST_PIECE < body.size + len(body.about):
        body = _shorter(stored_body(Content.of_bytes(original, content.origin), check=check), body, coder, bare)
    return body


def plain(content: Content, check: int = 32) -> tuple[bytes, Report]:
    """A frame that holds the samples of a content as they are; no reader can mistake it for a decompression bomb."""
    began, body = time.perf_counter(), raw_body(content, 0, check=check)
    data = _frame(body, None)
    return b"".join(data), report_of(Totals().add(body), body.form, None, size_of(data), 0, began, "")


def _worth_naming(body: Body, content: Content, clear: float, steps: Steps) -> bool:
    """Whether a frame that names the model and its steps is clearly shorter than one that does not.

    clear: of its only part, or 0.
    """
    named = body.size + len(pack_steps(steps)) + MODEL_NAME
    large = body.size > SMALL_FILE and isinstance(steps, int)
    return body.bits > 0 and (large or named < (clear or Fallback(content.samples, content.kind).clear()))


def _shorter(one: Body, other: Body, coder: PartCoder[Any] | None, bare: bool) -> Body:
    """The body that makes the shorter frame; the first if both are equal."""
    return min(one, other, key=lambda body: size_of(_frame(body, coder, bare)))


def _frame(body: Body, coder: PartCoder[Any] | None, bare: bool = False) -> list[Bytes]:
    """The bytes of a frame."""
    header = Header(body.form) if coder is None else Header.of(body.form, coder.identity, coder.steps)
    if bare:
        return [header.bare(coder is not None and coder.usual) + body.about, *body.data]
    start = header.write() + body.about
    if body.form.kind == Kind.BYTES and not body.form.span:
        start += varint(body.pieces)
    return [start, *body.data]


def size_of(data: Sequence[Bytes]) -> int:
    """Bytes of some chunks."""
    return sum(map(len, data))


@dataclass
class Totals:
    """Sums over bodies, for a report."""

    items: int = 0
    samples: int = 0
    raw_bytes: int = 0
    pieces: int = 0
    regions: int = 0
    bits: float = 0.0
    methods: Counter[Method] = field(default_factory=Counter)
    model: bool = False

    def add(self, body: Body) -> Totals:
        """Add a body; returns itself."""
        form = body.form
        self.items += 1
        self.samples += form.samples
        self.raw_bytes += form.raw_bytes
        self.pieces += body.pieces
        self.regions += form.regions
        self.bits += body.bits
        self.methods += body.methods
        self.model |= form.model
        return self


def report_of(
    totals: Totals,
    form: Form | None,
    coder: PartCoder[Any] | None,
    size: int,
    original: int,
    began: float,
    refused: str,
) -> Report:
    """The report of a file of `size` bytes; form: of every body, if they share one."""
    coder = coder if totals.model else None
    return Report(
        kind=form.kind if form else Kind.BYTES,
        shape=form.shape if form else (0, 0, 0),
        samples=totals.samples,
        raw_bytes=totals.raw_bytes,
        original_bytes=original,
        file_bytes=size,
        header_bytes=size - totals.pieces,
        bits=totals.bits,
        model=coder.identity if coder else "",
        calls=coder.calls if coder else 0,
        methods=method_names(totals.methods),
        items=totals.items,
        regions=totals.regions,
        seconds=time.perf_counter() - began,
        refused=refused,
    )
