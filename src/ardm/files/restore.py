"""One file out: decode, verify every check, write, read again, compare, and only then name it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ardm import formats
from ardm.atomic import reasons, write_whole
from ardm.codec import decode
from ardm.codec.report import FrameInfo
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.files.limits import UNLIMITED, Budget, admitted, memory
from ardm.files.options import FileOptions, finish, opened
from ardm.files.paths import format_of, is_ours, path_of, refuse_same, restored_path
from ardm.files.results import FileResult, described, overview
from ardm.files.streams import Sink, put, read_up_to


def decompress_file(
    source: Path | BinaryIO, target: Path | Sink | None = None, options: FileOptions | None = None
) -> FileResult:
    """Restore a file, read it again, compare, and only then name it.

    target: a file, whose ending says its format, a folder or a stream; by default the source's name without .ardm.
    A source that is a stream must be seekable.
    Raises CodecError as `decode.decompress`; ArdmError where the target exists, cannot be written or has another format.
    """
    options, began = options or FileOptions(), time.perf_counter()
    with opened(source, None, options) as (file, before):
        infos = admitted(file, options.budget, is_ours(source), options.format, options.bare)
        info = overview(infos)
        if info.items is not None:
            raise ArdmError("this file is an archive; restore_archive restores it")
        named = isinstance(target, Path) and not target.is_dir()
        if isinstance(source, Path) and (target is None or isinstance(target, Path)):
            target = restored_path(source, info, target, options.format)
            target = target if named or not options.digits else target.with_stem(f"{target.stem}.preview")
        if target is None:
            raise ArdmError("standard input has no name; name the result with -o")
        at = file.tell()

        def contents() -> Iterator[Content]:
            file.seek(at)
            progress = options.phase("decoding")
            return decode.frames(file, options.engine.models, UNLIMITED, progress, options.bare, options.digits)

        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_same(source, target)
            format = options.format or format_of(target, info, named)
            written = write_contents(contents(), target, options, format, before)
        else:
            format = options.format
            written = write_to_stream(contents, infos, target, options)
    converted = format not in ("", info.origin)
    removed, notes = finish(source, before, options, f"the format {format} may not hold all of it" * converted)
    notes += tuple(_remarks(info, format, target, options.digits))
    what, seconds = described(info, len(infos)), time.perf_counter() - began
    return FileResult(
        path_of(source), path_of(target), what, info.file_bytes, written, seconds, notes=notes, removed=removed
    )


def check_file(source: Path | BinaryIO, options: FileOptions) -> FileResult:
    """Decode a file and verify every check in it; writes nothing.  Raises CodecError, ArdmError."""
    began = time.perf_counter()
    with opened(source, None, options) as (file, _):
        infos = admitted(file, options.budget, is_ours(source), bare=options.bare)
        size, progress = 0, options.phase("testing")
        for content in decode.frames(file, options.engine.models, UNLIMITED, progress, options.bare):
            size += content.raw_bytes
    seconds = time.perf_counter() - began
    info = overview(infos)
    return FileResult(path_of(source), None, described(info, len(infos)), info.file_bytes, size, seconds)


def write_contents(
    contents: Iterable[Content],
    target: Path,
    options: FileOptions,
    format: str = "",
    like: os.stat_result | None = None,
) -> int:
    """Write contents, one or several of bytes, as one file; returns its size in bytes."""
    written: list[tuple[int, bytes]] = []

    def write(new: Path) -> None:
        with new.open("wb") as out:
            for content in contents:
                data = rendered(content, format, options.budget)
                written.append((len(data), hashlib.sha256(data).digest()))
                out.write(data)

    def check(new: Path) -> None:
        with new.open("rb") as file:
            for size, digest in written:
                if hashlib.sha256(read_up_to(file, size)).digest() != digest:
                    raise ArdmError(f"{target} was not written: the disk returned different data")

    options.refuse_taken(target)
    write_whole(target, write, options.force, check if options.verify else None, like)
    options.take(target)
    return sum(size for size, _ in written)


def write_to_stream(
    contents: Callable[[], Iterable[Content]], infos: Sequence[FrameInfo], target: Sink, options: FileOptions
) -> int:
    """Write contents to a stream, or nothing at all if the file is damaged; returns the number of bytes.

    contents: each call starts again at the first.  A small file waits in memory until all of it is verified; a larger
    one is decoded twice.
    """
    held = sum(info.raw_bytes for info in infos) + max(map(memory, infos)) if len(infos) > 1 else 0

    def files() -> Iterator[bytes]:
        return (rendered(content, options.format, options.budget) for content in contents())

    verified: Iterable[bytes]
    if held <= options.budget.memory:
        verified = list(files())
    else:
        for _ in files():
            pass
        verified = files()
    written = 0
    for data in verified:
        put(target, data)
        written += len(data)
    return written


def rendered(content: Content, format: str = "", budget: Budget = Budget()) -> bytes:
    """Render a content as a file, by default in the format that it came in."""
    if content.kind == Kind.BYTES and format not in ("", content.origin):
        # a file that was kept byte for byte, wanted in another format
        read = formats.read(content.samples.tobytes(), gate=budget.refuses)
        content = read.content
        if content.kind == Kind.BYTES:
            why = f" ({read.notes[0]})" if read.notes else ""
            raise ArdmError(f"this file holds plain bytes, which cannot be written as {format}{why}")
    return content.samples.tobytes() if content.kind == Kind.BYTES else formats.render(content, format)


def _remarks(info: FrameInfo, format: str, target: object, digits: int) -> Iterator[str]:
    """Notes on a preview, on a file restored in another format, and on one under an ending of another format."""
    if digits:
        yield f"this is a preview by the first {digits} digit{'s' * (digits > 1)} of each value; its checksum was not verified"
    if format not in ("", info.origin) and info.about:
        yield f"{format} holds the samples, but perhaps not all metadata ({', '.join(info.about)})"
    meant = formats.ENDINGS.get(target.suffix.lower(), "") if isinstance(target, Path) else ""
    if info.kind == Kind.BYTES and meant and format != meant and info.origin != meant:
        yield f"the file inside was kept byte for byte; its bytes are unchanged, whatever {target} is called"
