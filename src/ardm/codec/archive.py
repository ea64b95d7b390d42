"""Many items in one file, each of which is read alone.

    compress_archive(items, names, coder)        → the bytes of an archive, and a Report
    write_archive(out, scratch, items, …)        → the same into a file; also after the items of another archive
    open_archive(file)                           → an Archive, whose items are decoded by their number

NumPy, no torch.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import count
from shutil import copyfileobj
from typing import IO, Any, BinaryIO

import numpy as np

from ardm.codec.binary import Reader, check_bytes
from ardm.codec.decode import coder_of, decode_places
from ardm.codec.encode import (
    Body,
    Bytes,
    Encoding,
    StoredParts,
    Totals,
    body_of,
    encode_contents,
    raw_body,
    report_of,
    size_of,
    stored_body,
)
from ardm.codec.header import Form, Header, Limits, read_header, short
from ardm.codec.index import (
    LEAST_PIECE,
    name_fault,
    pack_directory,
    pack_lengths,
    read_directory,
    read_lengths,
    restored_bytes,
)
from ardm.codec.pieces import Place, about_of, info_of, sizes_of
from ardm.codec.regions import WAITING, Models, PartCoder, Progress
from ardm.codec.report import FrameInfo, Report
from ardm.content import Content, Kind, Lines
from ardm.errors import ArdmError, CodecError

ENTRIES = ("folder", "link")
"""Names in about that mark an item without bytes as an empty folder or a symbolic link, not a file."""


def compress_archive(
    items: Sequence[Content],
    names: Sequence[str] | None = None,
    coder: PartCoder[Any] | None = None,
    check: int = 32,
    lines: Lines | None = None,
) -> tuple[bytes, Report]:
    """Compress contents to one archive in memory, from which each can be read alone; as `write_archive`."""
    out = BytesIO()
    report = write_archive(out, BytesIO(), items, names, coder, check=check, lines=lines)
    return out.getvalue(), report


def write_archive(
    out: BinaryIO,
    scratch: IO[bytes],
    items: Sequence[Content],
    names: Sequence[str] | None = None,
    coder: PartCoder[Any] | None = None,
    originals: Sequence[bytes | None] | None = None,
    progress: Progress | None = None,
    dense: Callable[[int, int], bool] = lambda restored, size: False,
    check: int = 32,
    before: Archive | None = None,
    lines: Lines | None = None,
) -> Report:
    """Write contents to one archive, from which each can be read alone.

    scratch: an empty file for compressed items, since the index comes before them; memory holds only what the index says.
    items: at least one.  They are read one after another, and a second time if the model makes none of them shorter: a
    sequence that loads its items on demand need not hold them all.
    names: one per item, different relative paths with "/".  originals: one per item, as in `compress`.
    check: bits of the check of each item, as in `compress`.
    dense(restored, size): whether `size` bytes of the file must not restore to `restored`; if so, samples are kept raw.
    before: an archive whose items come first, byte for byte; then `check` is its own, `coder` has the model of its items,
    and names are those of the new items.  The report is about the new items alone.
    lines: how the items, contents of plain bytes without names, are the lines of a text.
    Raises ArdmError where these contradict each other.
    """
    began = time.perf_counter()
    _refuse_misfit(len(items), names, originals, before)
    if before is not None and (lines and lines.end) != (before.lines and before.lines.end):
        raise ArdmError("all items of an archive are lines that end alike, or none")
    packing = _Packing(items, originals, dense, check if before is None else before.check, scratch, before)
    packing.pack(coder, progress)
    if coder is not None and not packing.totals.bits:
        coder = None
        packing.pack(None, None)
    all_names = names if before is None or names is None else [*(before.names or ()), *names]
    size, form = packing.write(out, all_names, coder, lines)
    size -= 0 if before is None else before.file_bytes
    return report_of(packing.totals, form, coder, size, packing.original_bytes, began, packing.refused)


@dataclass(frozen=True)
class _Entry:
    """An item in the scratch file: its form, its about block, and the bytes of its body."""

    form: Form
    about: bytes
    size: int


class _Packing:
    """Items on their way into an archive; what is stored without a model is kept for a second pass without one.

    totals: of the new items.  original_bytes: of the files they came from.
    refused: the reason of the first item that the model refuses; "" if it refuses none.
    """

    def __init__(
        self,
        items: Sequence[Content],
        originals: Sequence[bytes | None] | None,
        dense: Callable[[int, int], bool],
        check: int,
        scratch: IO[bytes],
        before: Archive | None,
    ) -> None:
        self.totals, self.original_bytes, self.refused, self._check = Totals(), 0, "", check
        self._items, self._originals, self._dense, self._scratch = items, originals, dense, scratch
        self._stored, self._kept, self._room = StoredParts(), dict[int, Body](), 0
        self._before, self._first = before, 0 if before is None else len(before)
        self._restored = self._written = 0
        self._entries = list[_Entry]()

    def pack(self, coder: PartCoder[Any] | None, progress: Progress | None) -> None:
        """Write the bodies of all items to the scratch file."""
        self._begin()
        if coder is not None:
            self._stored, self._room = StoredParts(WAITING), WAITING
        numbers = count(self._first)
        for done in encode_contents(self._items, coder, numbers, stored=self._stored, check=self._check):
            content = done.content
            if coder is not None and not done.form.model:
                self.refused = self.refused or coder.refuses(content) or ""
            body = self._shortest(done)
            restored = content.raw_bytes + restored_bytes(sizes_of(content.about))
            if self._dense(self._restored + restored, self._written + len(body.about) + body.size):
                body = raw_body(content, done.item, check=self._check)
            self._add(body.form, body.about, body.data, restored)
            self.totals.add(body)
            if progress is not None:
                progress(self.totals.items, len(self._items))

    def _begin(self) -> None:
        """Start with an empty scratch file, or with the items of the archive before."""
        self.totals, self.original_bytes, self._restored, self._written = Totals(), 0, 0, 0
        self._entries.clear()
        self._scratch.seek(0)
        self._scratch.truncate()
        for number in range(self._first):
            assert self._before is not None
            form, about, data = self._before.body(number)
            self._add(form, about, [data], form.raw_bytes + len(about))

    def _add(self, form: Form, about: bytes, data: Sequence[Bytes], restored: int) -> None:
        """Write one body; items that are alike share their form and about block in memory."""
        if self._entries and (self._entries[-1].form, self._entries[-1].about) == (form, about):
            form, about = self._entries[-1].form, self._entries[-1].about
        self._entries.append(_Entry(form, about, size_of(data)))
        self._scratch.writelines(data)
        self._restored += restored
        self._written += len(about) + self._entries[-1].size

    def _shortest(self, done: Encoding) -> Body:
        """The body of an item, or of the file it came from, byte for byte, where that may be shorter."""
        number = done.item - self._first
        body, original = body_of(done), self._originals[number] if self._originals is not None else None
        self.original_bytes += len(original or b"")
        if original is None or len(original) + LEAST_PIECE >= body.size + len(body.about):
            return body
        kept = self._kept.get(number)
        if kept is None:
            content = Content.of_bytes(original, done.content.origin)
            kept = stored_body(content, done.item, check=self._check)
            if kept.size <= self._room:
                self._room -= kept.size
                self._kept[number] = kept
        return kept

    def write(
        self, out: BinaryIO, names: Sequence[str] | None, coder: PartCoder[Any] | None, lines: Lines | None
    ) -> tuple[int, Form | None]:
        """Write the archive; returns its size, and the form of all items if they share one."""
        entries, first = self._entries, self._entries[0]
        if lines is not None and (names is not None or not all(is_line(entry.form) for entry in entries)):
            raise ArdmError("lines are plain bytes, without names, origins and metadata")
        # one about block for all must not restore to too much
        share = not self._dense(self._restored, sum(entry.size for entry in entries))
        uniform = share and all(entry.form == first.form and entry.about == first.about for entry in entries)
        header = self._header(first.form if uniform else None, names is not None, coder, lines)
        index = pack_lengths([entry.size + (0 if uniform else len(entry.about)) for entry in entries])
        if names is not None or not uniform:
            index += pack_directory(names, None if uniform else [entry.form for entry in entries])
        start = header.write() + (first.about if uniform else b"") + index
        start += check_bytes(zlib.crc32(start))
        out.write(start)
        self._scratch.seek(0)
        if uniform:
            copyfileobj(self._scratch, out)
        else:
            for entry in entries:
                out.write(entry.about + self._scratch.read(entry.size))
        return len(start) + sum(entry.size + (0 if uniform else len(entry.about)) for entry in entries), header.form

    def _header(self, form: Form | None, named: bool, coder: PartCoder[Any] | None, lines: Lines | None) -> Header:
        """The header; its model is that of the archive before, if that has one."""
        model, steps = ("", 0) if self._before is None else (self._before.model, self._before.steps)
        if not model and coder is not None and any(entry.form.model for entry in self._entries):
            model, steps = short(coder.identity), coder.steps
        return Header(form, len(self._entries), named, model, steps, lines)


def is_line(form: Form) -> bool:
    """Whether a content of this form may be a line."""
    return form.kind == Kind.BYTES and not (form.origin or form.about)


def _refuse_misfit(
    count: int, names: Sequence[str] | None, originals: Sequence[bytes | None] | None, before: Archive | None
) -> None:
    """Raise ArdmError unless `count` items have as many valid names and originals, after those of the archive `before`."""
    if not count:
        raise ArdmError("an archive needs at least one item; got none")
    for what, given in (("name", names), ("original", originals)):
        if given is not None and len(given) != count:
            raise ArdmError(f"each item needs its {what}; got {count} items and {len(given)}")
    if before is not None and (names is None) != (before.names is None):
        raise ArdmError(
            f"all items of an archive have names, or none; those before {'do' if before.names else 'do not'}"
        )
    fault = name_fault([*((before.names if before is not None else None) or ()), *names]) if names is not None else ""
    if fault:
        raise ArdmError(fault)


class Archive:
    """The items of a file by their number; reading one reads and verifies nothing else.

    names: of the items, if they have names.  uniform: whether all have one form.  model, calls: as in FrameInfo; steps:
    of the model.  check: bits of the check of each item.  lines: how the items are the lines of a text, if they are.
    file_bytes: of the file; header_bytes: before its first item.  Made by `open_archive`.
    """

    def __init__(self, reader: Reader, limits: Limits) -> None:
        self.file_bytes, self._limits = reader.left, limits
        self._header = header = read_header(reader)
        if header.items is None:
            raise ArdmError("this file is a frame with one content, not an archive; read it with decompress")
        self._block, self._shared = about_of(header.form, reader) if header.form is not None else (b"", {})
        lengths = read_lengths(reader, header.items, "index")
        self.names: tuple[str, ...] | None = None
        self._forms: tuple[Form, ...] | None = None
        start = reader.at
        if header.names or header.form is None:
            reader.take(reader.varint("directory"), "directory")
        directory, crc = reader.since(start), reader.crc
        if reader.take(4, "index") != check_bytes(crc):
            raise CodecError("damaged file: the checksum of its index does not match")
        if directory:  # only now: damage may look like a later format
            self.names, self._forms = read_directory(Reader.open(directory), header)
        self.check, self.lines = self._common_check(), header.lines
        forms = self._forms or (header.form,)
        if self.lines is not None and not all(form is not None and is_line(form) for form in forms):
            raise CodecError("damaged file: its items are not the lines of a text")
        self._ends = np.cumsum(lengths)
        if self._ends[-1] != reader.left:
            what = "damaged" if self._ends[-1] < reader.left else "truncated"
            raise CodecError(f"{what} file: it promises {self._ends[-1]} bytes of items, and has {reader.left}")
        self._reader, self.header_bytes = reader, self.file_bytes - reader.left
        self.uniform, self.model = header.form is not None, header.model
        self.steps, self.calls = header.steps, header.calls

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def find(self, name: str) -> int:
        """The number of the item of this name; raises ArdmError if there is none."""
        if name not in self:
            raise ArdmError(f"no item of the archive is named {name!r}{'; they have no names' * (self.names is None)}")
        return self._numbers[name]

    @cached_property
    def _shared_sizes(self) -> dict[str, int]:
        return sizes_of(self._shared)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names or ())}

    def body(self, item: int) -> tuple[Form, bytes, bytes]:
        """Form, about block and compressed bytes of an item, which are verified only when it is decoded."""
        place = self._place(item)
        return place.form, place.block, place.file.take(place.file.left, "item")

    def entry(self, item: int) -> tuple[str, bytes]:
        """What an item is: ("", b"") for a file, ("folder", b"") for an empty folder, ("link", its target)."""
        place = self._place(item)
        if place.form.kind == Kind.BYTES and not place.form.samples:
            for entry in ENTRIES:
                if entry in place.about:
                    return entry, place.about[entry]
        return "", b""

    def info(self, item: int) -> FrameInfo:
        """The facts about an item; header_bytes counts only those at its place."""
        place = self._place(item)
        about = self._shared_sizes if self._forms is None else None
        return info_of(place, self._header, place.file.end - self._span(item)[1], about)

    def item(self, item: int, models: Models) -> Content:
        """Decode an item; raises CodecError as `decompress` does, ArdmError where there is no item of this number."""
        return next(self.items(models, [item]))

    def items(
        self, models: Models, which: Iterable[int] | None = None, progress: Progress | None = None
    ) -> Iterator[Content]:
        """Decode several items, by default all, in the order of `which`: one run of the model is faster than many."""
        wanted = range(len(self)) if which is None else list(which)
        forms = {self._form(item) for item in wanted}
        for form in forms:
            self._limits.refuse(form, self._header.calls)
        coder = coder_of(models, self._header) if any(form.model for form in forms) else None
        done = 0
        for _, content in decode_places((self._place(item) for item in wanted), coder, self.check):
            if content is not None:
                done += 1
                if progress is not None:
                    progress(done, len(wanted))
                yield content

    def _common_check(self) -> int:
        """The bits of the checks of all items."""
        first, *more = {form.check for form in (self._forms or [self._header.form]) if form is not None}
        if more:
            raise CodecError("damaged file: the checks of its items have different numbers of bits")
        return first

    def _form(self, item: int) -> Form:
        if not 0 <= item < len(self):
            raise ArdmError(f"the archive has items 0 to {len(self) - 1}; got {item}")
        form = self._header.form if self._forms is None else self._forms[item]
        assert form is not None
        return form

    def _span(self, item: int) -> tuple[int, int]:
        """Where an item begins, after the index, and its length."""
        start = int(self._ends[item - 1]) if item else 0
        return start, int(self._ends[item]) - start

    def _place(self, item: int) -> Place:
        form, (start, length) = self._form(item), self._span(item)
        at = self._reader.at + start
        reader = Reader(self._reader.file, at, at + length, whole=False)
        about = (self._block, self._shared) if self._forms is None else about_of(form, reader)
        return Place(form, item, reader, *about)


def open_archive(file: BinaryIO | bytes, limits: Limits = Limits()) -> Archive:
    """Open an archive: read and verify its header, index and names.  Keep the file open while you use it.

    limits: for each item that is decoded.
    Raises CodecError as `decompress` does, ArdmError where the file is not an archive.
    """
    return Archive(Reader.open(file), limits)
