"""Restore single items of an archive as files, and test all of them."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ardm.codec.archive import Archive, open_archive
from ardm.codec.binary import Reader
from ardm.codec.header import read_header
from ardm.codec.report import FrameInfo
from ardm.content import ENDING, Content
from ardm.errors import ArdmError, ModelMissing
from ardm.files.limits import UNLIMITED, admit, refuse_foreign, refuse_items
from ardm.files.lines import line_name
from ardm.files.names import safe_names
from ardm.files.options import FileOptions, opened
from ardm.files.paths import format_of, is_ours, path_of
from ardm.files.restore import rendered, write_contents
from ardm.files.results import FileResult, counted, described, failures
from ardm.files.streams import Sink, Unwritten, put
from ardm.files.unpack import converted_name, item_paths

WILD = "*?["
"""The characters that make a pattern of a name that no item has."""


def is_archive(file: BinaryIO, ours: bool) -> bool:
    """Whether a file is an archive; its position does not change.  ours: whether its name ends in .ardm."""
    refuse_foreign(file, ours)
    at = file.tell()
    try:
        return read_header(Reader.open(file)).items is not None
    finally:
        file.seek(at)


def extract(
    source: Path | BinaryIO,
    wanted: Sequence[str],
    target: Path | Sink | None = None,
    options: FileOptions | None = None,
) -> list[FileResult]:
    """Restore items, given by name, pattern or number, each as a file; reads only header, index and their bytes.

    wanted: names, numbers, or patterns of names as `fnmatch` has them (* also matches "/"), which stand for all files
    that match.  target: a file (for one item), an existing folder or a stream; by default files in the current folder, without the folders in
    their names.  Tries all items.  Raises Failures where some are missing, damaged, or have a target that exists or
    cannot be written; CodecError, ArdmError where the archive cannot be read at all.
    """
    options = options or FileOptions()
    done, failed = list[FileResult](), list[Exception]()
    with opened(source, None, options) as (file, _):
        if not is_archive(file, is_ours(source)):
            raise ArdmError("this is not an archive but a single file; ardm decompress restores it")
        archive = open_archive(file, UNLIMITED)
        refuse_items(len(archive), options.budget)
        items = list[tuple[int, FrameInfo]]()
        numbers, taken = list[int](), set[int]()
        for text in wanted:
            with _collected(failed):
                found = _numbers(archive, text)
                numbers += [k for k in found if len(found) == 1 or k not in taken]
                taken.update(found)
        if isinstance(target, Path) and len(numbers) > 1 and not target.is_dir():
            raise ArdmError(f"{target} is not a folder, and {len(numbers):,} items need one; nothing was written")
        for number in numbers:
            with _collected(failed):
                with _named(archive, number):
                    info = archive.info(number)
                    admit([info], options.budget, archive.file_bytes, options.format)
                items.append((number, info))
        admit((info for _, info in items), options.budget, archive.file_bytes, options.format)
        written = set[int]()
        decoded = _decoded(archive, [number for number, _ in items], options)
        for (number, info), content in zip(items, decoded, strict=True):
            with _collected(failed), _named(archive, number):
                if number in written and options.taken is not None and (target is None or isinstance(target, Path)):
                    raise ArdmError("this item was just written; name it once")
                done.append(_extracted(archive, number, info, content, source, target, options))
                written.add(number)
    if failed:
        raise failures(done, failed)
    return done


def check_archive(source: Path | BinaryIO, options: FileOptions) -> FileResult:
    """Decode every item and verify its checks; writes nothing.

    Raises Failures, which names all items that are damaged or too large; CodecError, ArdmError where the archive cannot
    be read at all.
    """
    began, size, failed = time.perf_counter(), 0, list[Exception]()
    with opened(source, None, options) as (file, _):
        refuse_foreign(file, is_ours(source))
        archive = open_archive(file, UNLIMITED)
        refuse_items(len(archive), options.budget)
        infos = dict[int, FrameInfo]()
        for number in range(len(archive)):
            with _collected(failed), _named(archive, number):
                info = archive.info(number)
                admit([info], options.budget, archive.file_bytes)
                infos[number] = info
        admit(infos.values(), options.budget, archive.file_bytes, names=item_paths(archive))
        for number, content in zip(infos, _decoded(archive, list(infos), options, "testing"), strict=True):
            with _collected(failed), _named(archive, number):
                size += _sound(content).raw_bytes
    if failed:
        raise failures([], failed)
    seconds = time.perf_counter() - began
    what = counted(len(archive), archive.lines is not None)
    return FileResult(path_of(source), None, what, archive.file_bytes, size, seconds)


def _decoded(
    archive: Archive, numbers: Sequence[int], options: FileOptions, phase: str = "decoding"
) -> Iterator[Content | ArdmError]:
    """Each item, or why it cannot be decoded: all together, which is faster; after a failure one alone, then the rest."""
    models, at = options.engine.models, 0
    while at < len(numbers):
        with suppress(ArdmError):
            for content in archive.items(models, numbers[at:], options.phase(phase)):
                at += 1
                yield content
        if at < len(numbers):
            try:
                alone: Content | ArdmError = archive.item(numbers[at], models)
            except ArdmError as error:
                alone = error
            at += 1
            yield alone


def _sound(content: Content | ArdmError) -> Content:
    """The content; raises the error if there is one instead."""
    if isinstance(content, ArdmError):
        raise content
    return content


def _extracted(
    archive: Archive,
    number: int,
    info: FrameInfo,
    content: Content | ArdmError,
    source: Path | BinaryIO,
    target: Path | Sink | None,
    options: FileOptions,
) -> FileResult:
    """Write one item to a file or a stream."""
    began = time.perf_counter()
    if archive.names:
        name = archive.names[number]
    elif archive.lines is not None:
        name = line_name(Path(_stem(source)), number)
    else:
        name = f"{_stem(source)}-{number}.{info.origin or 'bin'}"
    _refuse_entry(name, *archive.entry(number))
    name = safe_names([converted_name(name, info, options.format)])[0].split("/")[-1]
    named = isinstance(target, Path) and not target.is_dir()
    path: Path | Sink
    if target is None or isinstance(target, Path):
        path = target if named and target is not None else (target or Path()) / name
    else:
        path = target
    content = _sound(content)
    if archive.lines is not None:
        content = archive.lines.whole(content, number == len(archive) - 1)
    if isinstance(path, Path):
        written = write_contents([content], path, options, options.format or format_of(path, info, named))
    else:
        data = rendered(content, options.format, options.budget)
        written = len(data)
        put(path, data)
    seconds = time.perf_counter() - began
    return FileResult(path_of(source), path_of(path), described(info), info.file_bytes, written, seconds)


@contextmanager
def _collected(failed: list[Exception]) -> Iterator[None]:
    """Collect the failure of one item, so that the others are tried; where the output stream is full, raise it."""
    try:
        yield
    except (BrokenPipeError, Unwritten):
        raise
    except (ArdmError, OSError, MemoryError) as error:
        if str(error) not in map(str, failed):  # one line for a model that many items lack
            failed.append(error)


@contextmanager
def _named(archive: Archive, number: int) -> Iterator[None]:
    """Name the item in error messages."""
    try:
        yield
    except (Unwritten, ModelMissing):
        raise
    except ArdmError as error:
        name = f" ({archive.names[number]})" if archive.names else ""
        raise type(error)(f"item {number}{name}: {str(error).removesuffix(f' in item {number}')}") from None


def _refuse_entry(name: str, entry: str, leads: bytes) -> None:
    """Raise ArdmError for an item that is not a file."""
    if entry:
        what = "an empty folder" if entry == "folder" else f"a link to {os.fsdecode(leads)}"
        raise ArdmError(f"{name} is {what}; extract restores only files, decompress restores everything")


def _stem(source: object) -> str:
    return (source.name.removesuffix(ENDING) if isinstance(source, Path) else "") or "item"


def _numbers(archive: Archive, text: str) -> list[int]:
    """The numbers of items, from a name, a number, or a pattern of names; raises ArdmError where there is none."""
    with suppress(UnicodeEncodeError):  # names are UTF-8, whatever encoding the system has for arguments
        decoded = os.fsencode(text).decode("utf-8", "replace")
        text = decoded if decoded in archive or set(decoded) & set(WILD) else text
    if text in archive:
        return [archive.find(text)]
    if text.isascii() and text.isdigit():
        if int(text) >= len(archive):
            raise ArdmError(f"the archive has items 0 to {len(archive) - 1}; got {text}")
        return [int(text)]
    if archive.names is None or not set(text) & set(WILD):
        return [archive.find(text)]
    match = re.compile(fnmatch.translate(text)).match
    found = [number for number, name in enumerate(archive.names) if match(name) and not archive.entry(number)[0]]
    if not found:
        raise ArdmError(f"no file of the archive has a name like {text!r}; ardm list -v shows all names")
    return found
