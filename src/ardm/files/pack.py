"""Many files in: load them one by one, compress them into an archive, decode it, compare, and only then name it.

Each item costs its own bytes and an entry of the index.  A `.npy` file of integers (N, ...) becomes N items without names, and
so do the lines of a text.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from ardm import formats
from ardm.atomic import held, reasons, refuse_source, refuse_target, write_whole
from ardm.codec import archive as codec_archive
from ardm.codec.archive import Archive, open_archive
from ardm.codec.index import name_fault
from ardm.codec.regions import PartCoder
from ardm.codec.report import Report
from ardm.codec.selection import known_name, suited
from ardm.content import Content, Kind
from ardm.errors import ArdmError, out_of_memory
from ardm.files.limits import (
    FOLDER,
    UNLIMITED,
    Patience,
    count_folders,
    dense,
    refuse_foreign,
    refuse_items,
    refuse_stored,
    storing,
)
from ardm.files.lines import TextLines, read_lines
from ardm.files.links import link_faults, note_renamed_targets, to_renamed
from ardm.files.load import compare, fingerprint, parse
from ardm.files.names import Naming, safe_names
from ardm.files.options import FileOptions
from ardm.files.paths import Found, is_ours, item_name, listed, path_of
from ardm.files.results import FileResult, counted, described, why_stored
from ardm.files.streams import Sink, put

KEPT = 1 << 26
"""The most bytes of items that were loaded to choose a model and are kept until they are coded; and of coded ones."""
LOOKED = 64
"""The most items that are loaded to choose a model."""


def make_archive(
    found: Sequence[Found], target: Path | Sink, options: FileOptions, append: bool = False, each: str = ""
) -> FileResult:
    """Compress files into one archive under their names; one `.npy` file of integers (N, ...) as N items without names.

    each: "line": the items are the lines of the one file.
    append: the archive is there already.  The result holds its items, byte for byte, and then the new ones, and replaces it.
    Writes nothing unless all of them can be read.  Raises ArdmError.
    """
    began = time.perf_counter()
    found = _wanted(found, target, options, append)
    with ExitStack() as stack:
        before = _opened(target, stack) if append else None
        items, names, renamed = _items(found, options, before, each)
        refuse_items(len(items) + (0 if before is None else len(before)), options.budget)
        packing = _Packing(found, items, names, target, options, before)
        if isinstance(target, Path):
            check, like = packing.verify if options.verify else None, target.stat() if append else None
            write_whole(target, packing.write, options.force or append, check, like)
            os.utime(target)  # of an older archive, its permissions are kept, and not its time
        else:
            whole = BytesIO()
            with reasons("cannot write a temporary file"):
                packing.write_to(whole, None)
            if options.verify:
                packing.check(whole)
            put(target, whole.getbuffer())
        left = [] if names is None else _left_out(found, names)
        report, notes = packing.report, (*renamed, *left, *packing.notes)
    records = items.records if isinstance(items, _Items) else {}
    if records:
        size = sum(record.size for record in records.values())
    else:
        size = sum(one.path.stat().st_size for one in found)
    why = _why(found, records, packing.coder, report)
    what = counted(len(items), True) if each == "line" else described(report)
    return FileResult(
        found[0].path if len(found) == 1 else None, path_of(target), what, size, report.file_bytes,
        time.perf_counter() - began, report, why, notes,
    )  # fmt: skip


class _Packing:
    """Items on their way into an archive.

    before: an archive whose items come first.  coder: of all items.  Once it is written: report, and notes on items.
    """

    report: Report
    notes: Sequence[str] = ()

    def __init__(
        self,
        found: Sequence[Found],
        items: Sequence[Content],
        names: Sequence[str] | None,
        target: Path | Sink,
        options: FileOptions,
        before: Archive | None,
    ) -> None:
        self._failure = f"{target if isinstance(target, Path) else 'the archive'} was not written"
        self._found, self._items, self._names, self._options, self._before = found, items, names, options, before
        self._first = 0 if before is None else len(before)
        coder = _coder(items, options) if before is None or not before.model else _coder_of(before, options)
        self.coder = Patience(options.budget).coder(coder)

    def write(self, new: Path) -> None:
        """Write a file; its folder has room for compressed items, too."""
        with new.open("w+b") as out:
            self.write_to(out, new.parent)

    def write_to(self, out: BinaryIO, folder: Path | None) -> None:
        """Write the archive; folder: for a temporary file, if memory does not hold all."""
        options, named = self._options, zip(self._names or (), self._found, strict=False)
        folders = FOLDER * count_folders([name + "/" * (one.entry == "folder") for name, one in named])

        lines = self._items.lines if isinstance(self._items, TextLines) else None
        ends = 0 if lines is None else lines.end_bytes(self._first + len(self._items))

        def too_dense(restored: int, size: int) -> bool:
            return dense(restored + folders + ends, size, options.budget)

        originals = _Originals(self._items, options.strip) if isinstance(self._items, _Items) else None
        with SpooledTemporaryFile(KEPT, dir=None if folder is None else str(folder)) as scratch:
            self.report = codec_archive.write_archive(
                out, scratch, self._items, self._names, self.coder, originals, options.phase("encoding"), too_dense,
                options.check, self._before, lines,
            )  # fmt: skip
        out.flush()
        self.notes = self._noted(open_archive(_begun(out), UNLIMITED))

    def verify(self, written: Path) -> None:
        """Verify a file."""
        with written.open("rb") as file:
            self.check(file)

    def check(self, file: BinaryIO) -> None:
        """Decode the new items of an archive and compare; raises ArdmError unless they and those before are right."""
        options, first = self._options, self._first
        archive = open_archive(_begun(file), UNLIMITED)
        for number in range(first):
            if self._before is None or self._before.body(number) != archive.body(number):
                raise ArdmError(f"{self._failure}: item {number} is not what it was; please report this")
        records = self._items.records if isinstance(self._items, _Items) else {}
        decoded = archive.items(options.engine.models, range(first, len(archive)), options.phase("verifying"))
        wanted = [
            records[k].fingerprints if records else {fingerprint(self._items[k])} for k in range(len(self._items))
        ]
        compare(self._failure, decoded, wanted)

    def _noted(self, archive: Archive) -> list[str]:
        """Notes on the items for the user."""
        notes, records = list[str](), self._items.records if isinstance(self._items, _Items) else {}
        for number, record in sorted(records.items()):
            path = self._found[number].path
            notes += [f"{path}: {note}" for note in record.notes]
            if record.dropped and archive.info(self._first + number).kind == record.kind:
                notes.append(f"{path}: restoring will not bring back its {', '.join(record.dropped)}")
        return notes


def _begun(file: BinaryIO) -> BinaryIO:
    """The same file, at its beginning."""
    file.seek(0)
    return file


def _opened(target: Path | Sink, stack: ExitStack) -> Archive:
    """The archive to append to, open until the stack closes."""
    if not isinstance(target, Path):
        raise ArdmError("standard output holds no archive to append to; name a file")
    if not target.exists():
        raise ArdmError(f"there is no archive {target} to append to; leave out --append to make it")
    stack.enter_context(held(target))  # or of two that append at once, the second would undo the first
    with reasons(f"cannot read {target}"):
        file = stack.enter_context(target.open("rb"))
    refuse_foreign(file, is_ours(target))
    return open_archive(file, UNLIMITED)


def _coder_of(before: Archive, options: FileOptions) -> PartCoder[Any]:
    """The coder of the items of an archive; raises ArdmError where another model is named, ModelMissing without it."""
    engine = options.engine
    coder = engine.models(before.model, before.steps)
    named = engine.coder(Content.of_bytes(b"")) if engine.model is not None else coder
    other = named is not None and (named.identity, named.steps) != (coder.identity, coder.steps)
    if other or engine.level is not None or engine.calls not in (None, before.calls):
        raise ArdmError(
            f"the items of this archive are coded by model {known_name(before.model)}{f' in {before.calls} calls' * bool(before.calls)}, "
            "and an archive has one model: leave out -m, -K and the level, or make another archive"
        )
    return coder


def _items(
    found: Sequence[Found], options: FileOptions, before: Archive | None, each: str
) -> tuple[Sequence[Content], list[str] | None, list[str]]:
    """Items, their names (None for rows of an array and lines), and notes on renamed ones; before: the archive they go to."""
    if each == "line":
        added = before is not None and before.lines is not None and not before.lines.ended
        notes = ["the last line of the archive had no end; it gets one"] * added
        return read_lines(found, options, before), None, notes
    if before is not None and before.lines is not None:
        raise ArdmError(
            "the items of this archive are the lines of a file; append those of another one with --each line"
        )
    rows = _rows([one.path for one in found], options) if not found[0].entry else None
    if before is not None and before.names is None:
        _refuse_rows(rows, before)
    if rows is not None and (before is None or before.names is None):
        return rows, None, []
    names = [item_name(one) for one in found]
    renamed = _rename(found, names)
    taken = set(names).intersection((before.names if before is not None else None) or ())
    if taken:
        raise ArdmError(
            f"the archive already holds {listed(sorted(taken))}; append files of other names, or make another archive"
        )
    return _Items(found, options), names, renamed


def _refuse_rows(rows: Sequence[Content] | None, before: Archive) -> None:
    """Raise ArdmError unless these are rows of an array like that of an archive without names."""
    layout = before.info(0).layout
    if rows is None or rows[0].layout != layout:
        raise ArdmError(
            f"the items of this archive are rows {layout or 'without names'}; append one .npy file (N, …) of such rows"
        )


def _why(found: Sequence[Found], records: dict[int, Record], coder: PartCoder[Any] | None, report: Report) -> str:
    """Why no model coded the items."""
    kinds = {record.kind for number, record in records.items() if not found[number].entry} or {report.kind}
    return why_stored(coder, kinds.pop(), report) if len(kinds) == 1 else "no bundled model suits them" * report.stored


def _wanted(found: Sequence[Found], target: Path | Sink, options: FileOptions, append: bool) -> Sequence[Found]:
    """Validate files and target; returns the files that become items, without an older archive at the target."""
    existing = target if isinstance(target, Path) and target.exists() else None
    if existing is not None:
        found = [one for one in found if one.entry or one.path == one.given or not one.path.samefile(existing)]
    found = [one for one in found if item_name(one)]
    if not found:
        raise ArdmError("an archive needs at least one file, and these folders hold none")
    if isinstance(target, Path):
        if target.is_file() and not (options.force or append):
            raise ArdmError(f"{target} exists; add to it with --append, name another archive, or overwrite it with -f")
        with reasons(f"cannot write {target}"):
            refuse_target(target, options.force or append)
    for path in (one.path for one in found if not one.entry):
        refuse_source(path)
        if existing is not None and path.samefile(existing):
            raise ArdmError(f"{path} would be overwritten by itself; give another name with -o")
    return found


# --- items ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """Everything but the samples of an item that was loaded."""

    kind: Kind
    size: int
    fingerprints: set[bytes]
    notes: tuple[str, ...]
    dropped: tuple[str, ...]


class _Items(Sequence[Content]):
    """Files, empty folders and links as contents, loaded on demand.

    records: of the items loaded so far, by number.
    """

    def __init__(self, found: Sequence[Found], options: FileOptions) -> None:
        self.records: dict[int, Record] = {}
        self._found, self._options, self._digests = found, options, dict[int, bytes]()
        self._kept, self._room = dict[int, Content](), KEPT

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, number: Any) -> Any:
        kept = self._kept.pop(number, None)
        if kept is not None:
            return kept
        one = self._found[number]
        if one.entry:
            content = _entry(one)
            self.records[number] = Record(Kind.BYTES, 0, {fingerprint(content)}, (), ())
            return content
        try:
            loaded = parse(self.data(number), self._options, one.path.name)
        except Exception as error:
            if isinstance(error, ArdmError) or not out_of_memory(error):
                raise
            raise ArdmError(f"cannot read {one.path}: out of memory; --bytes needs less, or leave it out") from error
        prints = loaded.fingerprints() if self._options.verify else set()
        self.records[number] = Record(loaded.content.kind, len(loaded.data), prints, loaded.notes, loaded.dropped)
        return loaded.content

    def is_entry(self, number: int) -> bool:
        """Whether an item stands for an empty folder or a link."""
        return bool(self._found[number].entry)

    def look(self, number: int) -> Content:
        """An item that will be needed again: it is kept in memory if there is room."""
        content: Content = self[number]
        if content.raw_bytes <= self._room:
            self._room -= content.raw_bytes
            self._kept[number] = content
        return content

    def data(self, number: int) -> bytes:
        """The bytes of a file; raises ArdmError where they have changed since it was first loaded."""
        path = self._found[number].path
        refuse_source(path)
        with reasons(f"cannot read {path}"):
            refuse_stored(path, path.stat().st_size, self._options.budget)
            data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if self._digests.setdefault(number, digest) != digest:
            raise ArdmError(f"{path} changed in the meantime")
        return data


def _entry(one: Found) -> Content:
    """The content that stands for an empty folder or a link."""
    about = {"folder": b""} if one.entry == "folder" else {"link": os.fsencode(_link_target(one.path))}
    return Content(Kind.BYTES, Content.of_bytes(b"").samples, "", about)


def _link_target(link: Path) -> str:
    """The target of a link, with "/" between its steps."""
    with reasons(f"cannot read {link}"):
        return os.readlink(link).replace(os.sep, "/")


class _Originals(Sequence["bytes | None"]):
    """The files of items, where they may be kept in place of the contents."""

    def __init__(self, items: _Items, strip: bool) -> None:
        self._items, self._strip = items, strip

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: Any) -> Any:
        may = not self._strip or self._items.records[number].kind == Kind.BYTES
        return self._items.data(number) if may and not self._items.is_entry(number) else None


def _rows(paths: Sequence[Path], options: FileOptions) -> list[Content] | None:
    """The items of a single .npy file; None if it has none."""
    if len(paths) != 1 or options.exact or paths[0].suffix.lower() != ".npy":
        return None
    with reasons(f"cannot read {paths[0]}"):
        if storing(paths[0].stat().st_size) > options.budget.memory:
            return None
        return formats.items(paths[0].read_bytes()) or None


def _coder(items: Sequence[Content], options: FileOptions) -> PartCoder[Any] | None:
    """One model for all items: the named one, or the one that suits most bytes of a sample of them."""
    if options.engine.model is not None:
        return options.engine.coder(items[0])
    weight: Counter[tuple[str, ...]] = Counter()
    first: dict[tuple[str, ...], Content] = {}
    for k in range(0, len(items), -(-len(items) // LOOKED)):
        content = items.look(k) if isinstance(items, _Items) else items[k]
        names = suited(content, options.engine.level)
        weight[names] += content.raw_bytes
        first.setdefault(names, content)
    found = (options.engine.coder(first[names]) for names, _ in weight.most_common() if names)
    return next((coder for coder in found if coder is not None), None)


# --- names and notes --------------------------------------------------------------------------------------------------


def _rename(found: Sequence[Found], names: list[str]) -> list[str]:
    """Replace names that no archive may hold, in place; returns notes on renamed items and on links to them."""
    before = list(names)
    names[:] = [name if not name_fault([name]) else safe_names([name])[0] for name in names]
    if name_fault(names):  # two names have become equal
        names[:] = safe_names(names)
    notes = [
        f"{old} is called {new} in the archive: "
        + ("an archive cannot hold its name" if name_fault([old]) else "two items have this name")
        for old, new in zip(before, names, strict=True)
        if old != new
    ]
    links = {name: _link_target(one.path) for one, name in zip(found, before, strict=True) if one.entry == "link"}
    return notes + note_renamed_targets(to_renamed(links, before, names))


def _left_out(found: Sequence[Found], names: Sequence[str]) -> list[str]:
    """Notes on links that will not be restored."""
    links = {name: _link_target(one.path) for one, name in zip(found, names, strict=True) if one.entry == "link"}
    kinds: dict[str, list[str]] = {}
    for name, why in link_faults(links, Naming()).items():
        kinds.setdefault(why, []).append(name)
    return [f"restoring leaves out links that {why} ({len(left)}): {listed(left)}" for why, left in kinds.items()]
