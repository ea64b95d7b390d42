"""Many items in one file, each of which is read alone.

    compress_archive(items, names, coder)  → the bytes of an archive, and a Report
    open_archive(file)                     → an Archive, whose items are decoded by their number

NumPy, no torch.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from ardm.codec.binary import Reader, check_bytes
from ardm.codec.decode import coder_of, decode_places
from ardm.codec.encode import (
    Body,
    Bytes,
    Encoding,
    StoredParts,
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
)
from ardm.codec.pieces import Place, about_of, info_of
from ardm.codec.regions import WAITING, Models, PartCoder, Progress
from ardm.codec.report import FrameInfo, Report
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError

ENTRIES = ("folder", "link")
"""Names in about that mark an item without bytes as an empty folder or a symbolic link, not a file."""


def compress_archive(
    items: Sequence[Content],
    names: Sequence[str] | None = None,
    coder: PartCoder[Any] | None = None,
    originals: Sequence[bytes | None] | None = None,
    progress: Progress | None = None,
    dense: Callable[[int, int], bool] = lambda restored, size: False,
    check: int = 32,
) -> tuple[bytes, Report]:
    """Compress contents to one archive, from which each can be read alone.

    items: at least one.  They are read one after another, and a second time if the model makes none of them shorter: a
    sequence that loads its items on demand need not hold them all.
    names: one per item, different relative paths with "/".  originals: one per item, as in `compress`.
    check: bits of the check of each item, as in `compress`.
    dense(restored, size): whether `size` bytes of the file must not restore to `restored`; if so, samples are kept raw.
    """
    began = time.perf_counter()
    _refuse_misfit(len(items), names, originals)
    packing = _Packing(items, originals, dense, check)
    bodies = packing.bodies(coder, progress)
    if coder is not None and not any(body.bits for body in bodies):
        coder, bodies = None, packing.bodies(None, None)
    restored = packing.restored
    share = not dense(restored, sum(body.size for body in bodies))  # else one about block would restore to too much
    file, form = _joined(bodies, names, coder, share)
    size = size_of(file)
    return b"".join(file), report_of(bodies, form, coder, size, packing.original_bytes, began, packing.refused)


class _Packing:
    """Items on their way into an archive; what is stored without a model is kept for a second pass without one.

    restored, original_bytes: of the items, and of the files they came from.
    refused: the reason of the first item that the model refuses; "" if it refuses none.
    """

    def __init__(
        self,
        items: Sequence[Content],
        originals: Sequence[bytes | None] | None,
        dense: Callable[[int, int], bool],
        check: int,
    ) -> None:
        self.restored, self.original_bytes, self.refused, self._check = 0, 0, "", check
        self._items, self._originals, self._dense = items, originals, dense
        self._stored, self._kept = StoredParts(), dict[int, Body]()

    def bodies(self, coder: PartCoder[Any] | None, progress: Progress | None) -> list[Body]:
        """The bodies of all items."""
        self.restored = self.original_bytes = written = 0
        bodies = list[Body]()
        if coder is not None:
            self._stored = StoredParts(WAITING)
        for done in encode_contents(self._items, coder, stored=self._stored, check=self._check):
            content = done.content
            if coder is not None and not done.form.model:
                self.refused = self.refused or coder.refuses(content) or ""
            body = self._shortest(done)
            self.restored += content.raw_bytes + sum(map(len, content.about.values()))
            if self._dense(self.restored, written + len(body.about) + body.size):
                body = raw_body(content, done.item, check=self._check)
            written += len(body.about) + body.size
            bodies.append(body)
            if progress is not None:
                progress(len(bodies), len(self._items))
        return bodies

    def _shortest(self, done: Encoding) -> Body:
        """The body of an item, or of the file it came from, byte for byte, where that may be shorter."""
        body, original = body_of(done), self._originals[done.item] if self._originals is not None else None
        self.original_bytes += len(original or b"")
        if original is None or len(original) + LEAST_PIECE >= body.size + len(body.about):
            return body
        if done.item not in self._kept:
            kept = Content.of_bytes(original, done.content.origin)
            self._kept[done.item] = stored_body(kept, done.item, check=self._check)
        return self._kept[done.item]


def _refuse_misfit(count: int, names: Sequence[str] | None, originals: Sequence[bytes | None] | None) -> None:
    if not count:
        raise ArdmError("an archive needs at least one item; got none")
    for what, given in (("name", names), ("original", originals)):
        if given is not None and len(given) != count:
            raise ArdmError(f"each item needs its {what}; got {count} items and {len(given)}")
    if names is not None and name_fault(names):
        raise ArdmError(name_fault(names))


def _joined(
    bodies: Sequence[Body], names: Sequence[str] | None, coder: PartCoder[Any] | None, share: bool
) -> tuple[list[Bytes], Form | None]:
    """The bytes of an archive, and the form of all its items if they share one; share: whether they may."""
    first = bodies[0]
    uniform = share and all(body.form == first.form and body.about == first.about for body in bodies)
    coder = coder if any(body.form.model for body in bodies) else None
    model = short(coder.identity) if coder is not None else ""
    steps = coder.steps if coder is not None else 0
    header = Header(first.form if uniform else None, len(bodies), names is not None, model, steps)
    about = [b"" if uniform else body.about for body in bodies]
    index = pack_lengths([len(extra) + body.size for extra, body in zip(about, bodies, strict=True)])
    if names is not None or not uniform:
        index += pack_directory(names, None if uniform else [body.form for body in bodies])
    start = header.write() + (first.about if uniform else b"") + index
    file: list[Bytes] = [start, check_bytes(zlib.crc32(start))]
    for extra, body in zip(about, bodies, strict=True):
        file += [extra, *body.data]
    return file, header.form


class Archive:
    """The items of a file by their number; reading one reads and verifies nothing else.

    names: of the items, if they have names.  uniform: whether all have one form.  model, calls: as in FrameInfo.
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
        self._check = self._common_check()
        self._ends = np.cumsum(lengths)
        if self._ends[-1] != reader.left:
            what = "damaged" if self._ends[-1] < reader.left else "truncated"
            raise CodecError(f"{what} file: it promises {self._ends[-1]} bytes of items, and has {reader.left}")
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
        return info_of(place, self._header, place.file.end - self._span(item)[1])

    def item(self, item: int, models: Models, progress: Progress | None = None) -> Content:
        """Decode an item; raises CodecError as `decompress` does, ArdmError where there is no item of this number."""
        return next(self.items(models, [item], progress))

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
        for _, content in decode_places((self._place(item) for item in wanted), coder, self._check):
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
