"""One file in, one file out: compressed, restored or tested, and compared before the new one gets its name.

A file is written beside its place, synchronised, *decoded again and compared* with what was read, and only then named
(`whole`).  What is restored is read again and compared likewise.  To a stream goes only what has been compared.

Read me first: what a content is, and which files of the world become which, is `formats`; how contents are held,
`frames`; where files go, `places`; what is not even tried, `admission`; several files in one, `archives`.  Nothing here
fails for what a file contains: what cannot be read as the picture or sound that it looks like is kept byte for byte,
and the result says so.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np

from ardm import formats
from ardm.atomic import reason, reasons, refuse_source, refuse_target, remove, write_whole
from ardm.codec import decode, encode, regions
from ardm.codec.header import MAGIC
from ardm.codec.regions import PartCoder
from ardm.codec.report import FrameInfo, Report
from ardm.codec.selection import Engine as Engine  # by this name others know it
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.files.limits import SOURCE, UNLIMITED, Budget, Patience, admitted, amount, ballast, mebibytes, memory
from ardm.files.paths import ENDING, compressed_path, format_of, refuse_same, restored_path

CHUNK = 1 << 28
"""Bytes of a frame, at most, where bytes are kept as they are: memory stays bounded."""
WORDS = {Kind.BYTES: "plain bytes", Kind.IMAGE: "pictures", Kind.AUDIO: "audio", Kind.ARRAY: "arrays"}

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Sink(Protocol):
    """Where bytes can be written, as a raw stream of `io`."""

    def write(self, data: bytes, /) -> int | None:
        """Write some or all of them; returns how many, None where it cannot take any at the moment."""
        ...


class Unwritten(ArdmError):  # noqa: N818
    """A stream takes no more: nothing that comes behind could be told from what is lost."""


# --- how it is to be done ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class How:
    """How files are to be treated.

    force: overwrite what is there, and compress what is compressed already.  keep: False deletes the source when all
    is verified.  verify: decode what was written, and compare.  strip: drop what pictures and sounds carry besides
    samples.  exact: keep every byte of the file, not what it shows.  format: that restored files are to have.
    budget: of both directions.  chunk: bytes of a frame of bytes, at most.  taken: grows by what is written, and none of
    that is overwritten, force or not.
    """

    engine: Engine = field(default_factory=Engine)
    budget: Budget = field(default_factory=Budget)
    force: bool = False
    keep: bool = True
    verify: bool = True
    strip: bool = False
    exact: bool = False
    format: str = ""
    chunk: int = CHUNK
    progress: Progress | None = None
    taken: set[Path] | None = None

    def __post_init__(self) -> None:
        if not (self.keep or self.verify):
            raise ArdmError("only what was verified is deleted; leave out --rm or --no-verify")

    def claim(self, target: object) -> None:
        """ArdmError where a target was written a moment ago."""
        if isinstance(target, Path) and target.resolve() in (self.taken or ()):
            raise ArdmError(f"{target} was written a moment ago, from another file")

    def wrote(self, target: Path) -> None:
        """Remember that."""
        if self.taken is not None:
            self.taken.add(target.resolve())

    def told(self, what: str) -> regions.Progress | None:
        """Progress of one phase."""
        return None if self.progress is None else partial(self.progress, what)


@dataclass(frozen=True)
class Done:
    """What became of a file.

    source, target: None for a stream.  what: its kind and size in words.  source_bytes, target_bytes: sizes.
    report: of compressing.  why: why no model coded it, in words.  notes: what is worth knowing.
    removed: whether the source is gone.
    """

    source: Path | None
    target: Path | None
    what: str
    source_bytes: int
    target_bytes: int
    seconds: float
    report: Report | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    removed: bool = False


class Failures(ArdmError):  # noqa: N818
    """Some items of an archive failed.  done: what became of the others.  errors: one an item, which it names."""

    def __init__(self, done: Sequence[Done], errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.done, self.errors = list(done), list(errors)


class DamagedItems(Failures, CodecError):  # noqa: N818
    """Failures, of which one at least is damage."""


def failures(done: Sequence[Done], errors: Sequence[Exception]) -> Failures:
    """The error to raise where some items failed."""
    damaged = any(isinstance(error, CodecError) for error in errors)
    return (DamagedItems if damaged else Failures)(done, errors)


def overview(infos: Sequence[FrameInfo]) -> FrameInfo:
    """All frames of a file as one; several are of bytes.  What they have not in common is left out, or joined by "+"."""
    first, *more = infos
    if not more:
        return first
    C, H, _ = first.shape
    sums = {name: sum(getattr(info, name) for info in infos) for name in _SUMMED}
    methods = sum((Counter(info.methods) for info in infos), Counter[str]())
    models = "+".join(dict.fromkeys(info.model for info in infos if info.model))
    calls = {info.calls for info in infos if info.model}
    return replace(
        first, shape=(C, H, sum(info.shape[2] for info in infos)), methods=dict(methods), model=models,
        calls=calls.pop() if len(calls) == 1 else 0, content_check=None,
        origin=first.origin if all(info.origin == first.origin for info in infos) else "",
        portable=all(info.portable for info in infos), **sums,
    )  # fmt: skip


_SUMMED = ["samples", "raw_bytes", "file_bytes", "header_bytes", "regions"]


def described(info: FrameInfo | Report, count: int = 1) -> str:
    """Kind and size in words; count: of the frames that the info is of."""
    if count > 1:
        return f"{info.raw_bytes} bytes in {count} frames"
    C, H, W = info.shape
    if info.items is not None and (isinstance(info, FrameInfo) or info.items != 1):
        return f"{info.items} items"
    if info.kind == Kind.IMAGE:
        return f"{W}x{H}x{C}"
    if info.kind == Kind.AUDIO:
        return f"{W}x{C} samples"
    return f"{info.raw_bytes} bytes"


# --- what files and streams have in common ----------------------------------------------------------------------------


@contextmanager
def opened(source: Path | BinaryIO, target: object, how: How) -> Iterator[tuple[BinaryIO, os.stat_result | None]]:
    """A source to read from, and the state that it was in; whatever can be refused before any work is refused."""
    if not isinstance(source, Path):
        yield source, None
        return
    refuse_source(source)
    if not how.keep and source.is_symlink():
        raise ArdmError(f"{source} is a link; only ordinary files are deleted")
    with reasons(f"cannot read {source}"):
        file = source.open("rb")
    with file:
        before = os.fstat(file.fileno())
        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_same(source, target)
                how.claim(target)
                refuse_target(target, how.force)
        yield file, before


def finish(source: object, before: os.stat_result | None, how: How, spared: str = "") -> tuple[bool, tuple[str, ...]]:
    """Delete a source that is to be; spared: why not.  Returns whether it is gone, and what to say."""
    if how.keep or not isinstance(source, Path) or before is None:
        return False, ()
    if spared:
        return False, (f"it was not deleted, as {spared}",)
    remove(source, before)
    return True, ()


def path_of(place: object) -> Path | None:
    """A file, or None for a stream."""
    return place if isinstance(place, Path) else None


def put(target: Sink, data: bytes) -> None:
    """All of the data to a stream, which may take them in parts; Unwritten where it does not take all."""
    try:
        write_all(target, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritten(f"cannot write standard output: {reason(error)}") from None


def write_all(target: Sink, data: bytes | memoryview) -> None:
    """All of the data to a stream; OSError where it does not take all.

    Streams take what the system takes: half of it where a disk is nearly full, nothing where a pipe that does not wait
    is full.  For such a pipe we wait.
    """
    left, idle = memoryview(data).cast("B"), 0
    while left:
        try:
            taken = target.write(left)  # type: ignore[arg-type]
        except BlockingIOError as full:
            taken = full.characters_written
        if taken is not None and not 0 <= taken <= len(left):
            raise OSError(errno.EIO, f"it claims to have taken {taken} of {len(left)} bytes")
        idle = 0 if taken else idle + 1
        if idle:
            _await(target, idle, reading=False)
        left = left[taken or 0 :]


IDLE = 100
"""How often a stream may give or take nothing although it could."""


def _await(stream: object, idle: int, reading: bool) -> None:
    """Wait until a stream that does not wait by itself can go on; OSError where none can tell when that is."""
    if idle > IDLE:
        raise OSError(errno.EAGAIN, f"it {'gives' if reading else 'takes'} nothing")
    try:
        handle = [stream.fileno()]  # type: ignore[attr-defined]
        select.select(handle if reading else [], [] if reading else handle, [])
    except (AttributeError, ValueError, OSError):
        raise OSError(errno.EAGAIN, f"it {'gives' if reading else 'takes'} nothing at the moment") from None


def read_up_to(file: BinaryIO, count: int) -> bytes:
    """`count` bytes, or all there are; what gives them in pieces is asked again."""
    parts, size, idle = list[bytes](), 0, 0
    with reasons("cannot read the source"):
        while size < count:
            part: bytes | None = file.read(min(count - size, CHUNK))
            if part is None:  # not now, which is not the end
                idle += 1
                _await(file, idle, reading=True)
                continue
            if not part:
                break
            idle = 0
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def fingerprint(content: Content) -> bytes:
    """SHA-256 of everything in a content."""
    c = content
    about = (int(c.kind), c.origin, c.rate, c.layout, c.shape, c.wide, sorted(c.about.items()))
    digest = hashlib.sha256(repr(about).encode())
    digest.update(c.samples.reshape(-1).view(np.uint8).data)
    return digest.digest()


# --- reading what is to be compressed ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """A content, the file that it was read from, what is worth knowing, and what restoring it will not bring back.

    data: the bytes of the file.  original: whether they may be kept in the place of the content.
    """

    content: Content
    data: bytes
    original: bool = True
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def fingerprints(self) -> set[bytes]:
        """What it may decode to: the content, or the bytes where they are shorter."""
        bytes_of = Content.of_bytes(self.data, self.content.origin)
        return {fingerprint(self.content)} | ({fingerprint(bytes_of)} if self.original else set())

    def lost(self, report: Report) -> tuple[str, ...]:
        """What is not in the result that a report is about."""
        return self.dropped if report.kind == self.content.kind else ()


def parse(data: bytes, how: How, name: str = "") -> Loaded:
    """What the bytes of a file are; name: of the file, which may help."""
    if how.exact:
        looks = formats.sniff(data[:64])
        return Loaded(Content.of_bytes(data, looks if looks in ORIGINS else ""), data)
    read = formats.read(data, name, how.strip, how.budget.refuses)
    if read.content.kind != Kind.BYTES and not rebuilt(read.content, data, how.strip):
        note = "it could not be rebuilt exactly: kept byte for byte"
        return Loaded(Content.of_bytes(data), data, True, (note,))
    original = read.content.kind == Kind.BYTES or not how.strip
    return Loaded(read.content, data, original, read.notes, read.dropped)


def rebuilt(content: Content, data: bytes, strip: bool) -> bool:
    """Whether the file that a content becomes again is what it was: byte for byte, or where its format is written anew in
    all that is read of it."""
    if content.origin in formats.BYTE_FOR_BYTE and not strip:
        return True  # its reader has put it together again already
    try:
        again = formats.render(content)
    except ArdmError:
        return False
    return again == data or fingerprint(formats.read(again).content) == fingerprint(content)


def load(file: BinaryIO, how: How, name: str = "") -> Iterator[Loaded]:
    """What a file or stream holds: one content, or bytes in several chunks where there are many, or limits say so.

    No more of it is read at once than the limits allow, and a file that claims more than they do is not decoded.
    """
    chunk = how.budget.chunk(how.chunk)
    size = _left(file)
    data = read_up_to(file, 64 if size is not None else chunk + 1)
    if data[: len(MAGIC)] == MAGIC and not how.force:
        raise ArdmError("this is an .ardm file already; -f compresses it once more")
    looks, notes = "" if how.exact else formats.sniff(data[:64]), tuple[str, ...]()
    if size is not None:
        file.seek(-len(data), 1)
        data, header = b"", file
    else:
        header = BytesIO(data)
        size = len(data) if len(data) <= chunk else None
    if looks:
        most, why = _whole(header, looks, size, how)
        data += read_up_to(file, max(0, most + 1 - len(data))) if not why else b""
        if not why and len(data) <= most:
            yield parse(data, how, name)
            return
        notes = (f"{looks.upper()}: {why or _large(most, how)}: kept byte for byte",)
    data += read_up_to(file, max(0, chunk + 1 - len(data)))
    if not looks and len(data) <= chunk:
        yield parse(data, how, name)
        return
    while data:
        part, data = data[:chunk], data[chunk:]
        yield Loaded(Content.of_bytes(part), part, True, notes)
        data += read_up_to(file, max(0, chunk - len(data)))
        notes = ()


def _left(file: BinaryIO) -> int | None:
    """Bytes that are left in a file; None for a stream, of which nobody knows."""
    if not file.seekable():
        return None
    at = file.tell()
    size = file.seek(0, 2) - at
    file.seek(at)
    return size


def _whole(header: BinaryIO, looks: str, size: int | None, how: How) -> tuple[int, str]:
    """Bytes up to which a file of a known format is read whole, and why it is not; size: if it is known."""
    known = 1 << 62 if size is None else size
    if looks in formats.PACKED and known > how.budget.chunk(how.chunk):
        return 0, f"{looks.upper()} pictures are already compressed"
    claimed = formats.claim(header, looks, known)
    why = how.budget.refuses(claimed, 0) if claimed is not None else ""
    most = how.budget.whole(claimed)
    return most, why or (_large(most, how, size) if size is not None and size > most else "")


def _large(most: int, how: How, size: int = 0) -> str:
    """What to say of a file that has more bytes than are read whole."""
    lift = f"; -M {mebibytes(how.budget.memory + SOURCE * (size - most))} reads it" * bool(size)
    return f"it has more than the {amount(most)} that {amount(how.budget.memory)} of memory allow{lift}"


# --- compressing ------------------------------------------------------------------------------------------------------


def compress_file(source: Path | BinaryIO, target: Path | Sink | None = None, how: How | None = None) -> Done:
    """Compress a file or a stream, decode what was written, compare, and only then give it its name.

    target: a file, a folder or a stream; by default the name of the source with .ardm after it.
    More than `chunk` bytes that are kept as bytes become several frames, so that memory stays bounded.
    Raises ArdmError where the source cannot be read, or the target is there or cannot be written.
    """
    how, began = how or How(), time.perf_counter()
    if isinstance(source, Path):
        refuse_source(source)  # before names are made of its own, which . and / have not
    if isinstance(source, Path) and (target is None or isinstance(target, Path)):
        target = compressed_path(source, target)
    if target is None:
        raise ArdmError("a stream has no name; say where to with -o")
    with opened(source, target, how) as (file, before):
        work = Compressing(how, source.name if isinstance(source, Path) else "")
        if isinstance(target, Path):
            check = partial(work.compare, f"{target} was not written") if how.verify else None
            write_whole(target, lambda new: work.write(file, new), how.force, check, before)
            how.wrote(target)
        else:
            for data in work.frames(file):
                if how.verify:
                    work.compare("nothing more was written", BytesIO(data))
                put(target, data)
    removed, more = finish(source, before, how, work.spared)
    return Done(
        path_of(source), path_of(target), described(work.report, work.count), work.read, work.report.file_bytes,
        time.perf_counter() - began, work.report, work.why, (*work.notes, *more), removed,
    )  # fmt: skip


class Compressing:
    """A source on its way into frames, and what they have to decode to.

    read: bytes taken.  notes: what is worth knowing.  spared: why the source is not to be deleted.  why: why no model
    coded it.
    """

    def __init__(self, how: How, name: str = "") -> None:
        self.read, self.notes, self.spared, self.why = 0, list[str](), "", ""
        self._how, self._name, self._reports, self._expected = how, name, list[Report](), list[set[bytes]]()
        self._patience, self._written = Patience(how.budget), (0, 0)

    def frames(self, file: BinaryIO) -> Iterator[bytes]:
        """One after the other."""
        for loaded in load(file, self._how, self._name):
            coder = self._patience.coder(self._how.engine.coder(loaded.content))
            original = loaded.data if loaded.original else None
            data, report = encode.compress(loaded.content, coder, original, self._how.told("encoding"))
            raw = ballast(report.raw_bytes, len(data), self._written, self._how.budget)
            if raw and loaded.content.kind == Kind.BYTES:
                yield from self._weighed(loaded, raw)
                continue
            self._take(loaded, report, why_stored(coder, loaded.content.kind, report))
            yield data

    def _weighed(self, loaded: Loaded, raw: int) -> Iterator[bytes]:
        """Bytes of which the first are stored as they are, lest a reader take so dense a file for an attack."""
        for part, pack in ((loaded.data[:raw], encode.plain), (loaded.data[raw:], encode.compress)):
            if part:
                data, report = pack(Content.of_bytes(part))
                self._take(replace(loaded, content=Content.of_bytes(part), data=part), report, "")
                yield data

    def _take(self, loaded: Loaded, report: Report, why: str) -> None:
        restored, size = self._written
        self._written = restored + report.raw_bytes, size + report.file_bytes
        most = self._how.budget.output
        if 0 < most < self._written[0]:
            raise ArdmError(
                f"restoring it writes more than the limit of {amount(most)}; a larger --max-output lets it be compressed"
            )
        self._reports.append(report)
        self._expected.append(loaded.fingerprints())
        self.read += len(loaded.data)
        self.notes += loaded.notes
        self.why = why
        lost = loaded.lost(report)
        if lost:
            self.spared = f"restoring will not bring back its {', '.join(lost)}"
            self.notes.append(self.spared)

    def write(self, file: BinaryIO, new: Path) -> None:
        """All frames, to a file."""
        with new.open("wb") as out:
            for data in self.frames(file):
                out.write(data)

    def compare(self, failure: str, written: Path | BinaryIO) -> None:
        """Decode the frames written since the last comparison; ArdmError unless they are what was read."""
        expected, self._expected = self._expected, []
        with written.open("rb") if isinstance(written, Path) else written as file:
            decoded = decode.frames(file, self._how.engine.models, UNLIMITED, self._how.told("verifying"))
            compare(failure, decoded, expected)

    @property
    def count(self) -> int:
        """Of frames."""
        return len(self._reports)

    @property
    def report(self) -> Report:
        """Of all frames."""
        first, *more = self._reports
        for report in more:
            methods = Counter(first.methods) + Counter(report.methods)
            sums = {name: getattr(first, name) + getattr(report, name) for name in _SUMS}
            C, H, W = first.shape
            first = replace(first, shape=(C, H, W + report.shape[2]), methods=methods, **sums)
        return first


_SUMS = ["raw_bytes", "original_bytes", "file_bytes", "header_bytes", "bits", "regions", "seconds", "samples"]


def why_stored(coder: PartCoder[Any] | None, kind: Kind, report: Report) -> str:
    """Why no model coded a content of this kind, in words; "" where one did, or there was nothing to code."""
    if not report.stored or not report.raw_bytes:
        return ""
    if coder is None:
        return f"no bundled model suits {WORDS[kind]}"
    return report.refused or "the model would have needed more"


def compare(failure: str, contents: Iterable[Content], expected: Sequence[set[bytes]]) -> None:
    """ArdmError unless the contents, in their order, are the expected ones."""
    try:
        for content, wanted in zip_longest(contents, expected):
            if content is None or not wanted or fingerprint(content) not in wanted:
                raise ArdmError(f"{failure}: it decodes to something else; please report this")
    except CodecError as error:
        raise ArdmError(f"{failure}: it does not decode ({error}); please report this") from None


# --- restoring --------------------------------------------------------------------------------------------------------


def decompress_file(source: Path | BinaryIO, target: Path | Sink | None = None, how: How | None = None) -> Done:
    """Restore a file, read what was written, compare, and only then give it its name.

    target: a file, whose ending says its format, a folder or a stream; by default the source's name without .ardm.
    A source that is a stream can be sought.
    Raises CodecError as `decode.decompress`, ArdmError where the target is there, or cannot be written or hold it.
    """
    how, began = how or How(), time.perf_counter()
    with opened(source, None, how) as (file, before):
        infos = admitted(file, how.budget, is_ours(source), how.format)
        info = overview(infos)
        if info.items is not None:
            raise ArdmError("this file is an archive; archives.restore takes it")
        named = isinstance(target, Path) and not target.is_dir()
        if isinstance(source, Path) and (target is None or isinstance(target, Path)):
            target = restored_path(source, info, target, how.format)
        if target is None:
            raise ArdmError("a stream has no name; say where to with -o")
        at = file.tell()

        def contents() -> Iterator[Content]:
            file.seek(at)
            return decode.frames(file, how.engine.models, UNLIMITED, how.told("decoding"))

        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_same(source, target)
            format = how.format or format_of(target, info, named)
            written = restore(contents(), target, how, format, before)
        else:
            format = how.format
            written = pour(contents, infos, target, how)
    converted = format not in ("", info.origin)
    spared = f"in another format ({format}) less may come back" if converted else ""
    removed, notes = finish(source, before, how, spared)
    notes += tuple(said(info, format, target))
    what, seconds = described(info, len(infos)), time.perf_counter() - began
    return Done(path_of(source), path_of(target), what, info.file_bytes, written, seconds, notes=notes, removed=removed)


def pour(contents: Callable[[], Iterable[Content]], infos: Sequence[FrameInfo], target: Sink, how: How) -> int:
    """Restore contents to a stream, which gets nothing of a file that is damaged; returns how many bytes it got.

    contents: begins with the first, each time.  What is small enough waits in memory until all is verified; the rest is
    decoded twice.
    """
    held = sum(info.raw_bytes for info in infos) + max(map(memory, infos)) if len(infos) > 1 else 0
    files: Iterable[bytes] = (rendered(content, how.format, how.budget) for content in contents())
    if held <= how.budget.memory:
        files = list(files)
    else:
        for _ in files:
            pass
        files = (rendered(content, how.format, how.budget) for content in contents())
    written = 0
    for data in files:
        put(target, data)
        written += len(data)
    return written


def said(info: FrameInfo, format: str, target: object) -> Iterator[str]:
    """What is worth knowing of a file that was restored as something else, or under a name that says something else."""
    if format not in ("", info.origin) and info.about:
        yield f"as {format} the samples come back; {', '.join(info.about)} may not, whole, as in {info.origin or 'bytes'}"
    meant = formats.ENDINGS.get(target.suffix.lower(), "") if isinstance(target, Path) else ""
    if info.kind == Kind.BYTES and meant and format != meant and info.origin != meant:
        yield f"the file inside was kept byte for byte; its bytes are unchanged, whatever {target} is called"


def is_ours(source: object) -> bool:
    """Whether the name of a source says that it is an .ardm file."""
    return isinstance(source, Path) and source.suffix.lower() == ENDING


def rendered(content: Content, format: str = "", budget: Budget = Budget()) -> bytes:
    """The file that a content becomes, by default in the format in which it came in."""
    if content.kind == Kind.BYTES and format not in ("", content.origin):
        # a file kept byte for byte, wanted in another format
        read = formats.read(content.samples.tobytes(), gate=budget.refuses)
        content = read.content
        if content.kind == Kind.BYTES:
            why = f" ({read.notes[0]})" if read.notes else ""
            raise ArdmError(f"this file holds plain bytes, which cannot be written as {format}{why}")
    return content.samples.tobytes() if content.kind == Kind.BYTES else formats.render(content, format)


def restore(
    contents: Iterable[Content], target: Path, how: How, format: str = "", like: os.stat_result | None = None
) -> int:
    """Write contents, one or several of bytes, as a file; returns its size in bytes."""
    written: list[tuple[int, bytes]] = []

    def write(new: Path) -> None:
        with new.open("wb") as out:
            for content in contents:
                data = rendered(content, format, how.budget)
                written.append((len(data), hashlib.sha256(data).digest()))
                out.write(data)

    def check(new: Path) -> None:
        with new.open("rb") as file:
            for size, digest in written:
                if hashlib.sha256(read_up_to(file, size)).digest() != digest:
                    raise ArdmError(f"{target} was not written: the disk gave back something else")

    how.claim(target)
    write_whole(target, write, how.force, check if how.verify else None, like)
    how.wrote(target)
    return sum(size for size, _ in written)


def check_file(source: Path | BinaryIO, how: How) -> Done:
    """Decode a file, and check everything in it; nothing is written.  Raises CodecError, ArdmError."""
    began = time.perf_counter()
    with opened(source, None, how) as (file, _):
        infos = admitted(file, how.budget, is_ours(source))
        size = 0
        for content in decode.frames(file, how.engine.models, UNLIMITED, how.told("testing")):
            size += content.raw_bytes
    seconds = time.perf_counter() - began
    info = overview(infos)
    return Done(path_of(source), None, described(info, len(infos)), info.file_bytes, size, seconds)
