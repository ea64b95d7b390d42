"""Contents to frames and archives of the format, and back; a `PartCoder` does what a model does.

A content is cut into regions, a region's planes into parts: as many at once as the model has, what is left one by one.
Each part is coded by the model or stored, whichever is shorter.  Regions go through the coder one after the other, and
lazily, both ways: it may take several at once, and nobody holds more than those, the compressed bytes and the content.

    compress → a frame, which is a file → decompress           compress_archive → a file → open_archive → item

Read me first: a content is handed out only when every check of it has been verified; `describe` and `FrameInfo` repeat
what headers say.  Container and docs/format.md have the bytes.

NumPy, no torch.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeVar

import numpy as np

from ardm.codec.container import (
    LEAST_PIECE,
    Form,
    Header,
    Limits,
    Method,
    Reader,
    Shape,
    name_fault,
    pack_about,
    pack_directory,
    pack_lengths,
    read_about,
    read_directory,
    read_header,
    read_lengths,
    varint,
)
from ardm.codec.fallback import restore, store
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported

SQUARE = 10
"""Span of the regions of images."""
CODED_RUN = 16
"""Span of the regions of anything else that a model codes."""
STORED_RUN = {Kind.BYTES: 22, Kind.IMAGE: 22, Kind.AUDIO: 20, Kind.ARRAY: 22}
"""Span of the regions of what is stored and has one row, by kind; LZMA2 looks back 2^22 bytes."""
WAITING = 1 << 26
"""Bytes of regions without a job that wait for one with a job, at most."""
ENTRIES = ("folder", "link")
"""Names in about of an item without bytes that is no file: an empty folder; a symbolic link, with where it leads."""
SLIGHT = 1 << 12
"""Bytes of a file up to which it may matter that naming a model takes some."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do: samples of a frame, items of an archive."""
Bytes: TypeAlias = bytes | memoryview
Job = TypeVar("Job")
Result = TypeVar("Result")
R = TypeVar("R")


class Coded(Protocol):
    """One part as a model would code it, before any byte is written."""

    @property
    def bits(self) -> float:
        """−log2 p of the part: its code length."""
        ...


C = TypeVar("C", bound=Coded)


class PartCoder(Protocol[C]):
    """A model with a number of network calls: parts (c, h, w) to streams and back, on every machine alike.

    identity: SHA-256 of the model, 64 hex digits.  calls: network calls, at least 1.  planes: M, of a whole part; what
    is left over when a content's planes are grouped by M comes as parts of one plane.
    The first byte of a stream is never 0, and a stream has at least 5 bytes: those of `ardm.ans` are such.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def planes(self) -> int: ...  # noqa: D102

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded, in a few words; None if it can."""
        ...

    def encode(self, jobs: Iterable[Sequence[Samples]]) -> Iterator[Sequence[C]]:
        """A job is the parts of one region; its result, in the order of jobs, has one entry a part.

        jobs is lazy: take no more of them at once than are worked on together, and from one thread at a time.  Parts
        are views, not to be changed.
        """
        ...

    def finish(self, coded: Sequence[C], check: int) -> bytes:
        """The stream of some parts of one job, in their order; check: 32 bits that the decoder finds."""
        ...

    def decode(self, jobs: Iterable[tuple[bytes, Sequence[Shape]]]) -> Iterator[tuple[Sequence[Samples], int]]:
        """A job is a stream and the shapes of its parts; the result is the parts and the check.  Lazy, in order.

        Raises CodecError where a stream ends early or late.
        """
        ...


Models: TypeAlias = Callable[[str, int], PartCoder[Any]]
"""From the first 8 hex digits of an identity and a number of calls; raises ModelMissing."""


@dataclass(frozen=True)
class Report:
    """What compressing came to.

    kind, shape: of the content as it is held: a file that is kept byte for byte is BYTES.  Of an archive those of its
    items, or BYTES and (0, 0, 0) where they differ.
    samples, raw_bytes: of the content.  original_bytes: of what it came from, 0 if not given.
    file_bytes: of the result.  header_bytes: those beside the pieces, that is headers, about, index, names, checks.
    bits: −log2 p of what a model coded.  model: its identity, 64 hex digits, "" if the file names none.
    calls: of the model, else 0.  methods: how many parts are held how, by the method's name in small letters.
    items: of an archive, else 1.  regions: in all.  seconds: of wall-clock time.
    refused: why the model was not asked (of an archive: for the first such item), "" if it was.
    """

    kind: Kind
    shape: Shape
    samples: int
    raw_bytes: int
    original_bytes: int
    file_bytes: int
    header_bytes: int
    bits: float
    model: str
    calls: int
    methods: Mapping[str, int]
    items: int
    regions: int
    seconds: float
    refused: str = ""

    @property
    def stored(self) -> bool:
        """Whether nothing is coded by a model."""
        return not self.methods.get("coded")

    @property
    def bits_per_sample(self) -> float:
        """Bits of the file a sample; 0 if there is none."""
        return 8 * self.file_bytes / self.samples if self.samples else 0.0

    @property
    def ratio(self) -> float:
        """Raw size to file size."""
        return self.raw_bytes / self.file_bytes


@dataclass(frozen=True)
class FrameInfo:
    """What a frame, an archive or an item says about itself.  Nothing was decoded, so only headers are verified.

    kind to layout: as in Content; None, (0, 0, 0), ... of an archive of items that differ.
    about: sizes of what is kept besides, by name.  model: 8 hex digits, "" without.  calls: of the model, else 0.
    regions: how many.  items: of an archive, else None.  names: of its items, if they have any.
    samples, raw_bytes: of the content.  file_bytes: of the frame or item.  header_bytes: those beside the pieces.
    methods: in how many regions each method is seen, by its name in small letters (which parts of a mixed region are
    coded is not always to be seen without the model).
    content_check: CRC-32 of all samples, which only frames of several regions have.
    portable, check: of the format: every machine decodes the same, and each region has a check of this kind.
    """

    kind: Kind | None
    shape: Shape
    wide: bool
    origin: str
    rate: int
    layout: str
    about: Mapping[str, int]
    model: str
    calls: int
    regions: int
    items: int | None
    names: Sequence[str] | None
    samples: int
    raw_bytes: int
    file_bytes: int
    header_bytes: int
    methods: Mapping[str, int]
    content_check: int | None = None
    portable: bool = True
    check: str = "CRC-32"

    @property
    def bits_per_sample(self) -> float:
        """Bits of the file a sample; 0 if there is none."""
        return 8 * self.file_bytes / self.samples if self.samples else 0.0

    @property
    def ratio(self) -> float:
        """Raw size to file size."""
        return self.raw_bytes / self.file_bytes

    @property
    def work(self) -> int:
        """Samples times calls: what decoding takes, as `Limits.max_work` counts it."""
        return self.samples * self.calls


def parts(channels: int, planes: int) -> list[slice]:
    """The planes of a content in groups of as many as the model has; what is left over, one by one."""
    whole = channels - channels % planes
    return [slice(a, a + planes) for a in range(0, whole, planes)] + [slice(a, a + 1) for a in range(whole, channels)]


# --- what encoding and decoding share ---------------------------------------------------------------------------------


def _through(
    regions: Iterable[R],
    job: Callable[[R], Job | None],
    run: Callable[[Iterable[Job]], Iterator[Result]] | None,
    size: Callable[[R], int],
) -> Iterator[tuple[R, Result | None]]:
    """Each region, in order, with what became of its job; a region without one does not pass through the run.

    A region waits only while an earlier one is worked on, and no more than WAITING bytes of them do.  size: in bytes.
    """
    if run is None:
        for region in regions:
            if job(region) is not None:
                raise CodecError("damaged file: a region needs a model, and none is named")
            yield region, None
        return
    waiting: deque[tuple[R, bool]] = deque()
    rest, more = iter(regions), True

    def jobs() -> Iterator[Job]:
        nonlocal more
        held = 0
        for region in rest:
            made = job(region)
            waiting.append((region, made is not None))
            if made is not None:
                yield made
                continue
            held += size(region)
            if held > WAITING:
                return  # the run ends with what it has, and another one begins
        more = False

    while more:
        for result in run(jobs()):
            while not waiting[0][1]:
                yield waiting.popleft()[0], None
            yield waiting.popleft()[0], result
        while waiting:
            region, asked = waiting.popleft()
            if asked:
                raise ArdmError("the coder of the model gave fewer results than it was given jobs")
            yield region, None


def _crc(x: Samples, before: int = 0) -> int:
    """CRC-32 of samples in the order (C, H, W), begun with that of what came before."""
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, before)


def _base(identity: str, form: Form, calls: int, about: bytes, item: int) -> int:
    """CRC-32 of what enters every check of a content: the model's identity, form, calls, about block, item number."""
    before = bytes.fromhex(identity) if form.model else b""
    return zlib.crc32(before + form.describe(calls) + about + item.to_bytes(8, "little"))


def _numbered(base: int, region: int) -> int:
    return zlib.crc32(region.to_bytes(8, "little"), base)


# --- encoding ---------------------------------------------------------------------------------------------------------


@dataclass
class _Piece:
    """A region as it is held: its bytes, one after the other; the methods of its parts; bits that a model coded."""

    data: list[Bytes]
    methods: list[Method]
    bits: float

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.data)


@dataclass
class _Body:
    """A content as it is held, but for its header.  pieces: bytes of data that are pieces."""

    form: Form
    about: bytes
    data: list[Bytes]
    pieces: int
    methods: Counter[Method]
    bits: float

    @property
    def size(self) -> int:
        return sum(len(data) for data in self.data)


@dataclass
class _Encoding:
    """A content on its way."""

    content: Content
    form: Form
    about: bytes
    item: int
    base: int
    pieces: list[_Piece] = field(default_factory=list)


@dataclass
class _Region:
    """A region on its way: samples x (C, h, w), its parts, and how each is held best without the model."""

    whole: _Encoding
    x: Samples
    crc: int
    sections: list[slice]
    held: list[tuple[Method, bytes]] = field(default_factory=list)
    piece: _Piece | None = None


def _encoded(contents: Iterable[Content], coder: PartCoder[Any] | None, first: int = 0) -> Iterator[_Region]:
    """The regions of contents, in order, with their pieces; contents are numbered from `first`."""

    def regions() -> Iterator[_Region]:
        for item, content in enumerate(contents, first):
            model = coder is not None and content.samples.size > 0 and coder.refuses(content) is None
            form = Form.of(content, model, _span(content, model))
            about = pack_about(content.about)
            identity, calls, planes = ("", 0, form.shape[0])
            if model and coder is not None:
                identity, calls, planes = coder.identity, coder.calls, coder.planes
            whole = _Encoding(content, form, about, item, _base(identity, form, calls, about, item))
            for k, (y, x, h, w) in enumerate(form.boxes()):
                samples = content.samples[:, y : y + h, x : x + w]
                yield _Region(whole, samples, _numbered(whole.base, k), parts(form.shape[0], planes))

    def job(region: _Region) -> list[Samples] | None:
        region.held = [store(region.x[section], region.whole.content.kind) for section in region.sections]
        asked = [k for k, (method, _) in enumerate(region.held) if method != Method.CONSTANT]
        if asked and region.whole.form.model:
            return [region.x[region.sections[k]] for k in asked]
        region.piece = _sealed(region, [], coder)
        return None

    for region, coded in _through(
        regions(), job, None if coder is None else coder.encode, lambda region: region.x.nbytes
    ):
        region.piece = region.piece or _sealed(region, coded or [], coder)
        region.whole.pieces.append(region.piece)
        yield region


def _span(content: Content, model: bool) -> int:
    if content.shape[1] > 1:
        return SQUARE
    return CODED_RUN if model else STORED_RUN[content.kind]


def _sealed(region: _Region, coded: Sequence[Any], coder: PartCoder[Any] | None) -> _Piece:
    """The piece of a region, in which the coder has what it codes shorter; coded: of all parts that are not constant."""
    results, taken, methods, payloads = iter(coded), [], [], []
    for method, payload in region.held:
        result = next(results, None) if method != Method.CONSTANT else None
        if result is not None and result.bits < 8 * len(payload):
            taken.append(result)
            methods.append(Method.CODED)
        else:
            methods.append(method)
            payloads.append(payload)
    stored = b""
    if payloads:
        number = sum(method << 4 * k for k, method in enumerate(methods))
        stored = b"".join([b"\0" * region.whole.form.model, varint(number), *payloads])
    check = _crc(region.x, zlib.crc32(stored, region.crc))
    end = coder.finish(taken, check) if taken and coder is not None else _check(check)
    region.held = []
    return _Piece([stored, end], methods, float(sum(result.bits for result in taken)))


def _body(whole: _Encoding) -> _Body:
    """A content of which all pieces are there; where cutting it has made it longer than its samples, as those."""
    pieces, data = sum(piece.size for piece in whole.pieces), [part for piece in whole.pieces for part in piece.data]
    methods = Counter(method for piece in whole.pieces for method in piece.methods)
    if whole.form.span:
        lengths = pack_lengths([piece.size for piece in whole.pieces])
        data = [lengths, _check(zlib.crc32(lengths)), *data, _check(_crc(whole.content.samples))]
    body = _Body(whole.form, whole.about, data, pieces, methods, sum(piece.bits for piece in whole.pieces))
    if whole.form.span:
        plain = _plain(whole.content, whole.item, constant=set(methods) == {Method.CONSTANT})
        body = min(body, plain, key=lambda body: body.size)
    return body


def _check(crc: int) -> bytes:
    return crc.to_bytes(4, "little")


def _plain(content: Content, item: int, constant: bool = False) -> _Body:
    """The samples of a content as they are, in one piece and without a model; constant: or one of each plane."""
    x, form, about = content.samples, Form.of(content), pack_about(content.about)
    method, payload = Method.RAW, x.reshape(-1).view(np.uint8).data  # no copy: it may be large
    if constant and (x == x[:, :1, :1]).all():
        method, payload = Method.CONSTANT, memoryview(x[:, 0, 0].tobytes())
    crc = zlib.crc32(payload, zlib.crc32(bytes([method]), _numbered(_base("", form, 0, about, item), 0)))
    data: list[Bytes] = [bytes([method]), payload, _check(_crc(x, crc))]
    return _Body(form, about, data, len(payload) + LEAST_PIECE, Counter([method]), 0.0)


def _frame(body: _Body, coder: PartCoder[Any] | None) -> list[Bytes]:
    """The bytes of a frame."""
    model, calls = (coder.identity[:8], coder.calls) if body.form.model and coder is not None else ("", 0)
    start = Header(body.form, model=model, calls=calls).write() + body.about
    if body.form.kind == Kind.BYTES and not body.form.span:
        start += varint(body.pieces)
    return [start, *body.data]


def _size(data: list[Bytes]) -> int:
    return sum(len(part) for part in data)


def compress(
    content: Content,
    coder: PartCoder[Any] | None = None,
    original: bytes | None = None,
    progress: Progress | None = None,
) -> tuple[bytes, Report]:
    """A content as one frame, which is a file.

    coder: what a model codes is coded by it where that is shorter; without one, or where it refuses, all is stored.
    original: the file that the content came from; kept byte for byte (as BYTES, with the origin) if that is shorter.
    The result has at most 40 bytes more than the shorter of the samples, with about and layout, and the original.
    """
    began, done = time.perf_counter(), 0
    refused = "" if coder is None else coder.refuses(content) or ""
    for region in _encoded([content], None if refused else coder):
        done += region.x.size
        if progress is not None:
            progress(done, content.samples.size)
    body = _body(region.whole)
    if body.form.model and not (body.bits and body.size > SLIGHT):  # is the model worth its name?
        body = min(_alone(content), body, key=lambda body: _size(_frame(body, coder)))
    if original is not None and len(original) + LEAST_PIECE < body.size + len(body.about):
        body = min(
            _alone(Content.of_bytes(original, content.origin)), body, key=lambda body: _size(_frame(body, coder))
        )
    data = _frame(body, coder)
    return b"".join(data), _report([body], body.form, coder, _size(data), len(original or b""), began, refused)


def plain(content: Content) -> tuple[bytes, Report]:
    """A content as one frame that holds its samples as they are: no reader can take it for what unpacks to too much."""
    began, body = time.perf_counter(), _plain(content, 0)
    data = _frame(body, None)
    return b"".join(data), _report([body], body.form, None, _size(data), 0, began, "")


def _alone(content: Content, item: int = 0) -> _Body:
    """A content without a model."""
    return _body([region.whole for region in _encoded([content], None, item)][-1])


def _report(
    bodies: Sequence[_Body],
    form: Form | None,
    coder: PartCoder[Any] | None,
    size: int,
    original: int,
    began: float,
    refused: str,
) -> Report:
    methods = sum((body.methods for body in bodies), Counter[Method]())
    coder = coder if any(body.form.model for body in bodies) else None
    return Report(
        kind=form.kind if form else Kind.BYTES,
        shape=form.shape if form else (0, 0, 0),
        samples=sum(body.form.samples for body in bodies),
        raw_bytes=sum(body.form.raw_bytes for body in bodies),
        original_bytes=original,
        file_bytes=size,
        header_bytes=size - sum(body.pieces for body in bodies),
        bits=sum(body.bits for body in bodies),
        model=coder.identity if coder else "",
        calls=coder.calls if coder else 0,
        methods=_names(methods),
        items=len(bodies),
        regions=sum(body.form.regions for body in bodies),
        seconds=time.perf_counter() - began,
        refused=refused,
    )


def _names(methods: Mapping[Method, int]) -> dict[str, int]:
    return {method.name.lower(): methods[method] for method in sorted(methods)}


def compress_archive(
    items: Sequence[Content],
    names: Sequence[str] | None = None,
    coder: PartCoder[Any] | None = None,
    originals: Sequence[bytes | None] | None = None,
    progress: Progress | None = None,
    dense: Callable[[int, int], bool] = lambda restored, size: False,
) -> tuple[bytes, Report]:
    """Contents as one archive, each to be read alone.

    items: at least one.  They are asked for one after the other, and a second time where the model is of no use to any
    of them: a sequence that loads them when asked need not hold them all.
    names: one an item, different relative paths with "/".  originals: one an item, as in `compress`.
    dense: whether so many bytes restored are too many for so many bytes of the file; then samples are held as they are.
    """
    began, count = time.perf_counter(), len(items)
    if not count:
        raise ArdmError("an archive needs at least one item; got none")
    for what, given in (("name", names), ("original", originals)):
        if given is not None and len(given) != count:
            raise ArdmError(f"each item needs its {what}; got {count} items and {len(given)}")
    if names is not None and name_fault(names):
        raise ArdmError(name_fault(names))
    bodies, refused, size, restored, held = [], "", 0, 0, 0
    for region in _encoded(items, coder):
        whole = region.whole
        if len(whole.pieces) < whole.form.regions:
            continue
        if coder is not None and not whole.form.model:
            refused = refused or coder.refuses(whole.content) or ""
        body, original = _body(whole), originals[whole.item] if originals is not None else None
        if original is not None:
            size += len(original)
            if len(original) + LEAST_PIECE < body.size + len(body.about):
                body = _alone(Content.of_bytes(original, whole.content.origin), whole.item)
        restored += whole.content.raw_bytes + sum(map(len, whole.content.about.values()))
        if dense(restored, held + len(body.about) + body.size):
            body = _plain(whole.content, whole.item)
        held += len(body.about) + body.size
        bodies.append(body)
        if progress is not None:
            progress(len(bodies), count)
    if coder is not None and not any(body.bits for body in bodies):
        data, report = compress_archive(items, names, None, originals, None, dense)
        return data, replace(report, seconds=time.perf_counter() - began, refused=refused)
    shared = dense(restored, sum(body.size for body in bodies))  # too much would hang on one about block
    file, form = _archived(bodies, names, coder, not shared)
    return b"".join(file), _report(bodies, form, coder, _size(file), size, began, refused)


def _archived(
    bodies: Sequence[_Body], names: Sequence[str] | None, coder: PartCoder[Any] | None, share: bool = True
) -> tuple[list[Bytes], Form | None]:
    """The bytes of an archive, and the form of all its items if they have one."""
    first = bodies[0]
    uniform = share and all(body.form == first.form and body.about == first.about for body in bodies)
    coder = coder if any(body.form.model for body in bodies) else None
    model, calls = (coder.identity[:8], coder.calls) if coder is not None else ("", 0)
    header = Header(first.form if uniform else None, len(bodies), names is not None, model, calls)
    about = [b"" if uniform else body.about for body in bodies]
    index = pack_lengths([len(extra) + body.size for extra, body in zip(about, bodies, strict=True)])
    if names is not None or not uniform:
        index += pack_directory(names, None if uniform else [body.form for body in bodies])
    start = header.write() + (first.about if uniform else b"") + index
    file: list[Bytes] = [start, _check(zlib.crc32(start))]
    for extra, body in zip(about, bodies, strict=True):
        file += [extra, *body.data]
    return file, header.form


# --- decoding ---------------------------------------------------------------------------------------------------------


@dataclass
class _Source:
    """Where a content is read.  file: at its body; a frame's may have more behind it.  about: block and entries."""

    form: Form
    item: int
    file: Reader
    block: bytes
    about: Mapping[str, bytes]
    frame: bool = False


@dataclass
class _Decoding:
    """A content on its way.  left: regions to come.  check: of all samples, if there is one."""

    source: _Source
    samples: Samples
    left: int
    check: int | None


@dataclass
class _Hole:
    """A region on its way: samples x (C, h, w) to be filled from a piece.  coded: the parts that a stream holds."""

    whole: _Decoding
    x: Samples
    piece: Reader
    coded: list[slice] = field(default_factory=list)


def _pieces(form: Form, file: Reader, frame: bool) -> tuple[Iterator[Reader], int | None]:
    """The pieces of a body, one after the other, and the check of all samples; they are passed over in the file."""
    if not form.span:
        length = file.varint("length") if frame and form.kind == Kind.BYTES else file.left
        return iter([file.part(length, "piece")]), None
    file.crc = 0
    lengths = read_lengths(file, form.regions, "index of regions")
    crc = file.crc
    if file.take(4, "index of regions") != _check(crc):
        raise CodecError("damaged file: the checksum of its index of regions does not agree")
    block = file.part(int(lengths.sum()), "pieces")
    check = int.from_bytes(file.take(4, "checksum"), "little")
    return (block.part(length, "piece") for length in lengths.tolist()), check


def _methods(form: Form, piece: Reader) -> list[Method] | None:
    """How the first parts of a piece are held, as far as any is stored; None: all are coded."""
    if form.model:
        crc, first = piece.crc, piece.byte("piece")
        if first:  # of a stream, which is no part of what the check covers
            piece.at, piece.crc = piece.at - 1, crc
            return None
    number, methods = piece.varint("methods"), []
    while number:
        if number & 15 > max(Method):
            raise Unsupported(f"part of this file is held by method {number & 15}, which this version of ardm lacks")
        methods.append(Method(number & 15))
        number >>= 4
    if not methods or (not form.model and (len(methods) > 1 or methods == [Method.CODED])):
        raise CodecError("damaged file: the methods of a piece do not suit its header")
    return methods


def _decoded(sources: Iterable[_Source], coder: PartCoder[Any] | None) -> Iterator[tuple[int, Content | None]]:
    """After each region its samples, and the content if it was the last one; verified."""
    calls, identity = (coder.calls, coder.identity) if coder is not None else (0, "")

    def holes() -> Iterator[_Hole]:
        for source in sources:
            form = source.form
            pieces, check = _pieces(form, source.file, source.frame)
            whole = _Decoding(source, _room(form), form.regions, check)
            base = _base(identity, form, calls, source.block, source.item)
            for k, ((y, x, h, w), piece) in enumerate(zip(form.boxes(), pieces, strict=True)):
                piece.crc = _numbered(base, k)
                yield _Hole(whole, whole.samples[:, y : y + h, x : x + w], piece)

    def job(hole: _Hole) -> tuple[bytes, list[Shape]] | None:
        form, piece = hole.whole.source.form, hole.piece
        channels, h, w = hole.x.shape
        sections = parts(channels, coder.planes if form.model and coder is not None else channels)
        methods = _methods(form, piece) or []
        if len(methods) > len(sections):
            raise CodecError("damaged file: a piece has methods for more parts than there are")
        methods += [Method.CODED] * (len(sections) - len(methods))
        for section, method in zip(sections, methods, strict=True):
            if method == Method.CODED:
                hole.coded.append(section)
            else:
                restore(method, piece, hole.x[section])
        if hole.coded:
            crc = piece.crc
            stream = piece.take(piece.left, "stream")
            piece.crc = crc  # the check stands inside the stream
            return stream, [(s.stop - s.start, h, w) for s in hole.coded]
        crc = piece.crc
        _agree(hole, crc, int.from_bytes(piece.take(4, "checksum"), "little"))
        piece.close("piece")
        return None

    for hole, result in _through(holes(), job, None if coder is None else _damage(coder), lambda hole: hole.x.nbytes):
        if result is not None:
            _fill(hole, result[0])
            _agree(hole, hole.piece.crc, result[1])
        whole = hole.whole
        whole.left -= 1
        yield hole.x.size, None if whole.left else _finished(whole)


def _room(form: Form) -> Samples:
    """For all samples; that there is none is no damage, and is left a MemoryError."""
    return np.empty(form.shape, form.dtype)


def _damage(coder: PartCoder[Any]) -> Callable[[Iterable[tuple[bytes, list[Shape]]]], Iterator[Any]]:
    """Decoding, in which everything wrong is the file's fault."""

    def run(jobs: Iterable[tuple[bytes, list[Shape]]]) -> Iterator[Any]:
        try:
            yield from coder.decode(jobs)
        except CodecError:
            raise
        except ArdmError as error:
            raise CodecError(f"damaged file: {error}") from None

    return run


def _fill(hole: _Hole, found: Sequence[Samples]) -> None:
    """Put decoded parts into their region."""
    top = np.iinfo(hole.x.dtype).max
    for section, x in zip(hole.coded, found, strict=True):
        if x.dtype != hole.x.dtype and (x.min() < 0 or x.max() > top):
            raise CodecError(f"damaged file: its model tells values up to {x.max()}, and its samples end at {top}")
        hole.x[section] = x


def _agree(hole: _Hole, crc: int, found: int) -> None:
    """CodecError unless the check of a region is that of its samples; crc: of all that came before them."""
    if _crc(hole.x, crc) != found:
        source = hole.whole.source
        where = "" if source.frame else f" in item {source.item}"
        raise CodecError(f"damaged file: the checksum of its samples does not agree{where}")


def _finished(whole: _Decoding) -> Content:
    if whole.check is not None and _crc(whole.samples) != whole.check:
        raise CodecError("damaged file: the checksum of all its samples does not agree")
    form = whole.source.form
    return Content(form.kind, whole.samples, form.origin, whole.source.about, form.rate, form.layout)


def _coder(models: Models, header: Header) -> PartCoder[Any]:
    """The model that a header names."""
    coder = models(header.model, header.calls)
    if coder.identity[:8] != header.model:
        raise ModelMissing(f"this file was made by model {header.model}; got {coder.identity[:8]}")
    if coder.calls != header.calls:
        raise ModelMissing(f"this file was made in {header.calls} calls; the model makes {coder.calls}")
    return coder


def _about(form: Form, file: Reader) -> tuple[bytes, dict[str, bytes]]:
    """The about block of a form, if it has one, as it stands in the file and unpacked."""
    if not form.about:
        return b"", {}
    start = file.at
    about = read_about(file)
    return file.since(start), about


def _next_header(reader: Reader, before: Kind | None) -> Header:
    """The header of a frame that stands alone, or follows one of kind `before`."""
    if before is None:
        return read_header(reader)
    follow = f"damaged file: {reader.left} bytes follow its end"
    if before != Kind.BYTES:
        raise CodecError(f"{follow}; only frames of bytes may follow one another")
    try:
        header = read_header(reader)
    except Unsupported:
        raise
    except CodecError:
        raise CodecError(f"{follow}, and they are no frame") from None
    if header.form is None or header.items is not None or header.form.kind != Kind.BYTES:
        raise CodecError(f"{follow}; only frames of bytes may follow one another")
    return header


def frames(
    file: BinaryIO | bytes, models: Models, limits: Limits = Limits(), progress: Progress | None = None
) -> Iterator[Content]:
    """The contents of the frames of a file, one after the other; errors as of `decompress`."""
    reader, before = Reader.open(file), None
    while before is None or reader.left:
        header = _next_header(reader, before)
        form = header.form
        if form is None or header.items is not None:
            raise ArdmError(f"this file is an archive of {header.items} items; open_archive reads it")
        limits.refuse(form, header.calls)
        coder = _coder(models, header) if form.model else None
        source, done = _Source(form, 0, reader, *_about(form, reader), frame=True), 0
        for samples, content in _decoded([source], coder):
            done += samples
            if progress is not None:
                progress(done, form.samples)
            if content is not None:
                yield content
        before = form.kind


def decompress(
    file: BinaryIO | bytes, models: Models, limits: Limits = Limits(), progress: Progress | None = None
) -> Content:
    """The content of a file; of a file of several frames of bytes, all their bytes, which together obey max_bytes.

    Raises CodecError where the file is damaged, foreign or beyond limits, its subclasses ModelMissing and Unsupported
    where it cannot be read here, and ArdmError for an archive.
    """
    contents, size = [], 0
    for content in frames(file, models, limits, progress):
        contents.append(content)
        size += content.raw_bytes
        if size > limits.max_bytes:
            raise CodecError(f"this file holds more than the limit max_bytes = {limits.max_bytes}; raise it to go on")
    if len(contents) == 1:
        return contents[0]
    origins = {content.origin for content in contents}
    together = np.concatenate([content.samples for content in contents], axis=2)
    return Content(Kind.BYTES, together, origins.pop() if len(origins) == 1 else "")


# --- archives ---------------------------------------------------------------------------------------------------------


class Archive:
    """The items of a file by their number; each is read and checked alone, and nothing else is read.

    names: of the items, if they have any.  uniform: whether they are all of one form.  model, calls: as in FrameInfo.
    file_bytes, header_bytes: of the file, and before its first item.  Made by `open_archive`.
    """

    def __init__(self, reader: Reader, limits: Limits) -> None:
        self.file_bytes, self._limits = reader.left, limits
        self._header = header = read_header(reader)
        if header.items is None:
            raise ArdmError("this file is no archive but holds one content; decompress reads it")
        self._block, self._shared = _about(header.form, reader) if header.form is not None else (b"", {})
        lengths = read_lengths(reader, header.items, "index")
        self.names: tuple[str, ...] | None = None
        self._forms: tuple[Form, ...] | None = None
        start = reader.at
        if header.names or header.form is None:
            reader.take(reader.varint("directory"), "directory")
        directory, crc = reader.since(start), reader.crc
        if reader.take(4, "index") != _check(crc):
            raise CodecError("damaged file: the checksum of its index does not agree")
        if directory:  # it is read no sooner, for damage may look like a later format
            self.names, self._forms = read_directory(Reader.open(directory), header)
        self._ends = np.cumsum(lengths)
        if self._ends[-1] != reader.left:
            what = "damaged" if self._ends[-1] < reader.left else "truncated"
            raise CodecError(f"{what} file: {self._ends[-1]} bytes of items are promised, and {reader.left} are there")
        self._reader, self.header_bytes = reader, self.file_bytes - reader.left
        self.uniform, self.model, self.calls = header.form is not None, header.model, header.calls

    def __len__(self) -> int:
        return len(self._ends)

    def find(self, name: str) -> int:
        """The number of the item of this name; raises ArdmError if there is none."""
        if self.names is None or name not in self.names:
            raise ArdmError(f"no item of the archive is named {name!r}{'; they have no names' * (self.names is None)}")
        return self.names.index(name)

    def entry(self, item: int) -> tuple[str, bytes]:
        """What an item stands for: ("", b"") for a file, ("folder", b"") for an empty folder, ("link", where it leads)."""
        source = self._source(item)
        if source.form.kind == Kind.BYTES and not source.form.samples:
            for entry in ENTRIES:
                if entry in source.about:
                    return entry, source.about[entry]
        return "", b""

    def info(self, item: int) -> FrameInfo:
        """What an item says about itself; its header_bytes are those at its place."""
        source = self._source(item)
        return _info(source, self._header, source.file.end - self._place(item)[1])

    def item(self, item: int, models: Models, progress: Progress | None = None) -> Content:
        """An item; raises CodecError as `decompress`, ArdmError where there is none of this number."""
        return next(self.items(models, [item], progress))

    def items(
        self, models: Models, which: Iterable[int] | None = None, progress: Progress | None = None
    ) -> Iterator[Content]:
        """Several items, by default all, in the order asked, through one run of the model: faster than one by one."""
        wanted = range(len(self)) if which is None else list(which)
        forms = {self._form(item) for item in wanted}
        for form in forms:
            self._limits.refuse(form, self._header.calls)
        coder = _coder(models, self._header) if any(form.model for form in forms) else None
        done = 0
        for _, content in _decoded((self._source(item) for item in wanted), coder):
            if content is not None:
                done += 1
                if progress is not None:
                    progress(done, len(wanted))
                yield content

    def _form(self, item: int) -> Form:
        if not 0 <= item < len(self):
            raise ArdmError(f"the archive has items 0 to {len(self) - 1}; got {item}")
        form = self._header.form if self._forms is None else self._forms[item]
        assert form is not None
        return form

    def _place(self, item: int) -> tuple[int, int]:
        """Where an item begins, behind the index, and how long it is."""
        start = int(self._ends[item - 1]) if item else 0
        return start, int(self._ends[item]) - start

    def _source(self, item: int) -> _Source:
        form, (start, length) = self._form(item), self._place(item)
        at = self._reader.at + start
        reader = Reader(self._reader.file, at, at + length, whole=False)
        about = (self._block, self._shared) if self._forms is None else _about(form, reader)
        return _Source(form, item, reader, *about)


def open_archive(file: BinaryIO | bytes, limits: Limits = Limits()) -> Archive:
    """An archive, of which header, index and names are read and checked; the file is to stay open.

    limits: for each item that is decoded.
    Raises CodecError as `decompress`, ArdmError where the file is no archive.
    """
    return Archive(Reader.open(file), limits)


# --- what files say about themselves ----------------------------------------------------------------------------------


def describe(file: BinaryIO | bytes) -> list[FrameInfo]:
    """What each frame of a file says about itself, without decoding a sample; an archive is one.

    No limits apply: what is too large to decode here can still be described.  Of an archive every item is looked at.
    Raises CodecError where what is looked at is damaged.
    """
    reader, found = Reader.open(file), list[FrameInfo]()
    while not found or reader.left:
        start = reader.at
        header = _next_header(reader, found[-1].kind if found else None)
        if header.form is None or header.items is not None:
            reader.at = start
            return [_overview(Archive(reader, Limits()))]
        source = _Source(header.form, 0, reader, *_about(header.form, reader), frame=True)
        found.append(_info(source, header, start))
    return found


def _info(source: _Source, header: Header, start: int) -> FrameInfo:
    """Of a frame or an item that begins at byte `start`."""
    form, seen, held = source.form, Counter[Method](), 0
    pieces, check = _pieces(form, source.file, source.frame)
    for piece in pieces:
        held += piece.left
        seen.update(set(_methods(form, piece) or [Method.CODED]))
    if not source.frame:
        source.file.close("item")
    size = source.file.at - start
    return FrameInfo(
        kind=form.kind, shape=form.shape, wide=form.wide, origin=form.origin, rate=form.rate, layout=form.layout,
        about={name: len(value) for name, value in source.about.items()},
        model=header.model if form.model else "", calls=header.calls if form.model else 0,
        regions=form.regions, items=None, names=None, samples=form.samples, raw_bytes=form.raw_bytes,
        file_bytes=size, header_bytes=size - held, methods=_names(seen), content_check=check,
    )  # fmt: skip


_MIXED = FrameInfo(None, (0, 0, 0), False, "", 0, "", {}, "", 0, 0, 0, None, 0, 0, 0, 0, {})


def _overview(archive: Archive) -> FrameInfo:
    """Of an archive, by a look at each of its items."""
    items, names, size = len(archive), archive.names, archive.file_bytes
    infos, alike = [archive.info(item) for item in range(items)], archive.uniform
    methods = sum((Counter(info.methods) for info in infos), Counter[str]())
    common = infos[0] if alike else _MIXED
    return replace(
        common, items=items, names=names, methods=dict(sorted(methods.items())), content_check=None, model=archive.model,
        calls=archive.calls, file_bytes=size, regions=sum(info.regions for info in infos),
        samples=sum(info.samples for info in infos), raw_bytes=sum(info.raw_bytes for info in infos),
        header_bytes=archive.header_bytes + sum(info.header_bytes for info in infos),
    )  # fmt: skip
