"""Several files in one: archives made, restored into a folder, tested, and single items taken out.

Items are loaded one after the other, and read one by one: an item costs its own bytes, and the index.  A `.npy` file of
integers (N, ...) becomes N items without names, and one file again.

Read me first: names in an archive are somebody else's; `places.safe_names` says where they may lead.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ardm import formats
from ardm.atomic import (
    WINDOWS,
    Naming,
    make_folders,
    naming,
    reasons,
    refuse_source,
    refuse_target,
    whole_folder,
    write_whole,
)
from ardm.codec import archive as codec_archive
from ardm.codec.archive import Archive
from ardm.codec.binary import Reader
from ardm.codec.header import read_header
from ardm.codec.index import name_fault
from ardm.codec.regions import PartCoder
from ardm.codec.report import FrameInfo
from ardm.codec.selection import suited
from ardm.content import Content, Kind
from ardm.errors import ArdmError, ModelMissing, out_of_memory
from ardm.files.limits import (
    FOLDER,
    UNLIMITED,
    Patience,
    admit,
    amount,
    count_folders,
    dense,
    mebibytes,
    refuse_foreign,
    storing,
)
from ardm.files.paths import (
    ENDING,
    LONGEST_LINK,
    Found,
    astray,
    format_of,
    item_name,
    leading_out,
    restored_path,
    safe_names,
    told,
    why_left,
)
from ardm.files.single import (
    Done,
    How,
    Sink,
    Unwritten,
    compare,
    described,
    failures,
    fingerprint,
    finish,
    is_ours,
    opened,
    parse,
    path_of,
    pour,
    put,
    rendered,
    restore,
    why_stored,
)


def holds_items(file: BinaryIO, ours: bool) -> bool:
    """Whether a file is an archive; it is left where it was.  ours: whether its name says that it is an .ardm file."""
    refuse_foreign(file, ours)
    at = file.tell()
    try:
        return read_header(Reader.open(file)).items is not None
    finally:
        file.seek(at)


# --- making -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What is remembered of an item that was loaded: all but its samples."""

    kind: Kind
    size: int
    fingerprints: set[bytes]
    notes: tuple[str, ...]
    dropped: tuple[str, ...]


KEPT = 1 << 26
"""Bytes of items that were loaded to choose a model and are kept until they are coded, at most."""


class Items(Sequence[Content]):
    """Files, empty folders and links as contents, loaded when they are asked for.

    records: of what was loaded, by number.
    """

    def __init__(self, found: Sequence[Found], how: How) -> None:
        self.records: dict[int, Record] = {}
        self._found, self._how, self._digests = found, how, dict[int, bytes]()
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
            loaded = parse(self.data(number), self._how, one.path.name)
        except Exception as error:
            if isinstance(error, ArdmError) or not out_of_memory(error):
                raise
            raise ArdmError(
                f"cannot read {one.path}: out of memory; --bytes keeps it byte for byte; or leave it out"
            ) from error
        prints = loaded.fingerprints() if self._how.verify else set()
        self.records[number] = Record(loaded.content.kind, len(loaded.data), prints, loaded.notes, loaded.dropped)
        return loaded.content

    def stands(self, number: int) -> bool:
        """Whether an item only stands for a folder or a link."""
        return bool(self._found[number].entry)

    def look(self, number: int) -> Content:
        """An item that will be asked for once more: where there is room, it is not loaded again."""
        content: Content = self[number]
        if content.raw_bytes <= self._room:
            self._room -= content.raw_bytes
            self._kept[number] = content
        return content

    def data(self, number: int) -> bytes:
        """The bytes of one of the files; ArdmError where they are others than when it was loaded first."""
        path = self._found[number].path
        refuse_source(path)
        with reasons(f"cannot read {path}"):
            refuse_size(path, path.stat().st_size, self._how)
            data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if self._digests.setdefault(number, digest) != digest:
            raise ArdmError(f"{path} was changed meanwhile")
        return data


def refuse_size(path: Path, size: int, how: How) -> None:
    """ArdmError for a file that is too large for an item, which no frame may cut."""
    need = storing(size)
    if need > how.budget.memory:
        raise ArdmError(
            f"{path} has {amount(size)}; an item of an archive is held whole, for which some {amount(need)} of memory are "
            f"needed, and the limit is {amount(how.budget.memory)}; -M {mebibytes(need)} lets it in, and a file of its own "
            "needs no more than a part of it"
        )


def _entry(one: Found) -> Content:
    """What stands for an empty folder or a link."""
    about = {"folder": b""} if one.entry == "folder" else {"link": os.fsencode(_leads(one.path))}
    return Content(Kind.BYTES, Content.of_bytes(b"").samples, "", about)


def _leads(link: Path) -> str:
    """Where a link leads, with "/" between its steps."""
    with reasons(f"cannot read {link}"):
        return os.readlink(link).replace(os.sep, "/")


class Originals(Sequence["bytes | None"]):
    """The files of items, as long as they may be kept in the place of those."""

    def __init__(self, items: Items, strip: bool) -> None:
        self._items, self._strip = items, strip

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: Any) -> Any:
        stays = not self._strip or self._items.records[number].kind == Kind.BYTES
        return self._items.data(number) if stays and not self._items.stands(number) else None


def make(found: Sequence[Found], target: Path | Sink, how: How) -> Done:
    """Files as one archive under their names; one `.npy` file of integers (N, ...) as N items without names.

    Nothing is written unless all of them can be read.  Raises ArdmError.
    """
    began = time.perf_counter()
    if isinstance(target, Path) and target.exists():  # in a folder that was named, it may be an older archive
        found = [one for one in found if one.entry or one.path == one.given or not one.path.samefile(target)]
    found = [one for one in found if item_name(one)]
    if not found:
        raise ArdmError("an archive needs at least one file; the folders hold none")
    if isinstance(target, Path):
        with reasons(f"cannot write {target}"):
            refuse_target(target, how.force)
    paths = [one.path for one in found]
    for path in (one.path for one in found if not one.entry):
        refuse_source(path)
        if isinstance(target, Path) and target.exists() and path.samefile(target):
            raise ArdmError(f"{path} would be overwritten by itself; give another name with -o")
    given = [item_name(one) for one in found]
    before = list(given)
    renamed = _legal(given)
    links = {name: _leads(one.path) for one, name in zip(found, before, strict=True) if one.entry == "link"}
    renamed += _astray(astray(links, before, given))
    names: list[str] | None = given
    items: Sequence[Content] = Items(found, how)
    rows = _rows(paths, how) if not found[0].entry else None
    if rows is not None:
        items, names = rows, None
    ends = [name + "/" * (one.entry == "folder") for name, one in zip(given, found, strict=True)]
    folders = FOLDER * count_folders(ends if names is not None else ())
    coder = Patience(how.budget).coder(_coder(items, how))
    originals = Originals(items, how.strip) if isinstance(items, Items) else None
    data, report = codec_archive.compress_archive(
        items,
        names,
        coder,
        originals,
        how.told("encoding"),
        lambda restored, size: dense(restored + folders, size, how.budget),
    )
    records = items.records if isinstance(items, Items) else {}
    notes = _notes(records, paths, data)
    if names is not None:
        notes = (*renamed, *_outside(found, names), *notes)

    def check(written: Path | BinaryIO) -> None:
        with written.open("rb") if isinstance(written, Path) else written as file:
            decoded = codec_archive.open_archive(file, UNLIMITED).items(how.engine.models, None, how.told("verifying"))
            wanted = [records[k].fingerprints if records else {fingerprint(items[k])} for k in range(len(items))]
            compare(f"{target if isinstance(target, Path) else 'the archive'} was not written", decoded, wanted)

    if isinstance(target, Path):
        write_whole(target, lambda new: _write(new, data), how.force, check if how.verify else None)
    else:
        if how.verify:
            check(BytesIO(data))
        put(target, data)
    size = (
        sum(record.size for record in records.values()) if rows is None else sum(path.stat().st_size for path in paths)
    )
    kinds = {record.kind for number, record in records.items() if not found[number].entry} or {report.kind}
    why = why_stored(coder, kinds.pop(), report) if len(kinds) == 1 else "no bundled model suits them" * report.stored
    return Done(
        paths[0] if len(paths) == 1 else None, path_of(target), described(report), size, len(data),
        time.perf_counter() - began, report, why, notes,
    )  # fmt: skip


def _rows(paths: Sequence[Path], how: How) -> list[Content] | None:
    """The items of a single .npy file, if it has any."""
    if len(paths) != 1 or how.exact or paths[0].suffix.lower() != ".npy":
        return None
    with reasons(f"cannot read {paths[0]}"):
        if storing(paths[0].stat().st_size) > how.budget.memory:
            return None
        return formats.items(paths[0].read_bytes()) or None


def _coder(items: Sequence[Content], how: How) -> PartCoder[Any] | None:
    """What codes the items, one model for all: the one named, or that which suits most of what is looked at."""
    if how.engine.model is not None:
        return how.engine.coder(items[0])
    weight: Counter[tuple[str, ...]] = Counter()
    first: dict[tuple[str, ...], Content] = {}
    for k in range(0, len(items), -(-len(items) // LOOKED)):
        content = items.look(k) if isinstance(items, Items) else items[k]
        names = suited(content)
        weight[names] += content.raw_bytes
        first.setdefault(names, content)
    found = (how.engine.coder(first[names]) for names, _ in weight.most_common() if names)
    return next((coder for coder in found if coder is not None), None)


LOOKED = 64
"""Items that are looked at to choose a model, at most."""


def _legal(names: list[str]) -> list[str]:
    """Change names that no archive may hold, in place; a sentence for each."""
    before = list(names)
    names[:] = [name if not name_fault([name]) else safe_names([name])[0] for name in names]
    if name_fault(names):  # two are equal now
        names[:] = safe_names(names)
    return [
        f"{old}: {'its name cannot stand in an archive' if name_fault([old]) else 'two items have this name'}; "
        f"it is {new} there"
        for old, new in zip(before, names, strict=True)
        if old != new
    ]


def _notes(records: dict[int, Record], paths: Sequence[Path], data: bytes) -> tuple[str, ...]:
    """What is worth knowing of the items of an archive."""
    notes = []
    archive = codec_archive.open_archive(data, UNLIMITED)
    for number, record in sorted(records.items()):
        notes += [f"{paths[number]}: {note}" for note in record.notes]
        if record.dropped and archive.info(number).kind == record.kind:
            notes.append(f"{paths[number]}: restoring will not bring back its {', '.join(record.dropped)}")
    return tuple(notes)


def _outside(found: Sequence[Found], names: Sequence[str]) -> list[str]:
    """Sentences on links that will not be restored."""
    links = {name: _leads(one.path) for one, name in zip(found, names, strict=True) if one.entry == "link"}
    kinds: dict[str, list[str]] = {}
    for name, why in why_left(links, Naming()).items():
        kinds.setdefault(why, []).append(name)
    return [f"restoring leaves out links that {why} ({len(left)}): {told(left)}" for why, left in kinds.items()]


def _astray(links: Sequence[str]) -> list[str]:
    """A sentence on links that do not know what an item is called now."""
    return [f"links to what has another name there lead nowhere ({len(links)}): {told(links)}"] * bool(links)


def _write(new: Path, data: bytes) -> None:
    new.write_bytes(data)


# --- restoring --------------------------------------------------------------------------------------------------------


def restore_archive(source: Path | BinaryIO, target: Path | Sink | None = None, how: How | None = None) -> Done:
    """An archive as a folder of files, which appears whole or not at all; items of one array as that array.

    target: what is to become the folder (or the array), by default the source's name without .ardm; a folder that is
    there already, in which it is made; or a stream, which gets all files one after the other.
    Raises CodecError, and ArdmError where the target is there or cannot be written.
    """
    how, began = how or How(), time.perf_counter()
    with opened(source, None, how) as (file, before):
        refuse_foreign(file, is_ours(source))
        archive = codec_archive.open_archive(file, UNLIMITED)
        infos = [archive.info(number) for number in range(len(archive))]
        admit(infos, how.budget, archive.file_bytes, how.format, _paths(archive))

        def contents() -> Iterator[Content]:
            return archive.items(how.engine.models, None, how.told("decoding"))

        overview, left, renamed = _overview(archive, infos), list[str](), list[str]()
        one = archive.names is None and all(info.kind == Kind.ARRAY for info in infos) and how.format in ("", "npy")
        if one:
            admit([overview], how.budget, archive.file_bytes)
        if isinstance(source, Path) and (target is None or isinstance(target, Path)):
            target = restored_path(source, _single(overview) if one else overview, target)
        if target is None:
            raise ArdmError("a stream has no name; say where to with -o")
        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_target(target, one and how.force)
        if one:
            written, notes = _joined(contents(), target, how), list[str]()
        elif isinstance(target, Path):
            written, notes, left, renamed = _folder(contents(), target, how, archive, infos)
        else:
            written, notes = pour(contents, infos, target, how), []
    spared = f"in another format ({how.format}) less may come back" * bool(how.format)
    if left or renamed:
        counts = [f"{len(left)} left out"] * bool(left) + [f"{len(renamed)} under other names"] * bool(renamed)
        spared = f"not all of it was restored as it was ({', '.join(counts)})"
    removed, more = finish(source, before, how, spared)
    return Done(
        path_of(source), path_of(target), f"{len(infos)} items", archive.file_bytes, written,
        time.perf_counter() - began, notes=(*notes, *more), removed=removed,
    )  # fmt: skip


def _paths(archive: Archive) -> list[str]:
    """The names of items; those of folders end in "/"."""
    return [name + "/" * (archive.entry(k)[0] == "folder") for k, name in enumerate(archive.names or ())]


def _overview(archive: Archive, infos: Sequence[FrameInfo]) -> FrameInfo:
    """All items as one."""
    return replace(
        infos[0], items=len(infos), samples=sum(i.samples for i in infos), raw_bytes=sum(i.raw_bytes for i in infos),
        file_bytes=archive.file_bytes,
    )  # fmt: skip


def _single(info: FrameInfo) -> FrameInfo:
    return replace(info, items=None, origin="npy")


def _joined(contents: Iterable[Content], target: Path | Sink, how: How) -> int:
    data = formats.joined(list(contents))
    if isinstance(target, Path):
        return restore([Content.of_bytes(data)], target, how)
    put(target, data)
    return len(data)


def _names(
    archive: Archive, infos: Sequence[FrameInfo], entries: Sequence[tuple[str, bytes]], how: How, new: Path
) -> tuple[list[str], list[str], list[str], Naming]:
    """Where items go inside a new folder, which of them could not keep their names and what of it is worth knowing, and
    what is made of names there."""
    width = len(str(len(infos) - 1))
    given = archive.names or [f"{k:0{width}}.{info.origin or 'bin'}" for k, info in enumerate(infos)]
    wanted = [_converted(name, info, how.format) for name, info in zip(given, infos, strict=True)]
    folders = [entry == "folder" for entry, _ in entries]
    here, made = WINDOWS, safe_names(wanted, WINDOWS, folders)
    if made != wanted or any(entry == "link" for entry, _ in entries):  # not every system takes them, but this one may
        here = naming(new)
        made = safe_names(wanted, here, folders)
    renamed = [f"{old!r} was written as {new!r}" for old, new in zip(wanted, made, strict=True) if old != new]
    notes = renamed
    if len(renamed) > 5:
        notes = [*renamed[:4], f"{len(renamed) - 4} more were written under other names"]
    links = {
        name: leads.decode("utf-8", "surrogateescape")
        for name, (entry, leads) in zip(given, entries, strict=True)
        if entry == "link"
    }
    return made, renamed, [*notes, *_astray(astray(links, given, made))], here


def _converted(name: str, info: FrameInfo, format: str) -> str:
    """The name of an item in another format."""
    if not format or formats.ENDINGS.get(Path(name).suffix.lower()) == format or info.origin in ("", format):
        return name
    return f"{name.removesuffix(Path(name).suffix)}.{format}"


def _folder(
    contents: Iterable[Content], target: Path, how: How, archive: Archive, infos: Sequence[FrameInfo]
) -> tuple[int, list[str], list[str], list[str]]:
    """Bytes written, what is worth knowing, the names of items that were left out, and what was renamed to what.

    Links come last, so that nothing is written through one.
    """
    written, links, folders = 0, dict[str, str](), {""}
    entries = [archive.entry(number) for number in range(len(archive))]
    with whole_folder(target) as new:
        made, renamed, notes, here = _names(archive, infos, entries, how, new)
        for content, name, (entry, leads) in zip(contents, made, entries, strict=True):
            if entry == "link":
                links[name] = os.fsdecode(leads)
                continue
            folder = name if entry == "folder" else name.rpartition("/")[0]
            with reasons(f"cannot write {_brief(name)}"):
                if folder not in folders:
                    make_folders(new / folder, new)
                    folders.add(folder)
                if not entry:
                    data = rendered(content, "" if content.origin == "" else how.format, how.budget)
                    _write_inside(f"{new}/{name}", data, how.verify)
                    written += len(data)
        left = _link(new, links, here)
        if left:
            notes = [
                *notes,
                "links that lead out of the folder, in a circle or too far, or cannot be made, were left out "
                f"({len(left)}): {told(left)}",
            ]
        if how.progress is not None:
            how.progress("synchronising", 0, 1)
    return written, notes, left, renamed


def _brief(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:100]}…{name[-50:]}"


def _write_inside(path: str, data: bytes, verify: bool) -> None:
    """A file in a folder that nobody sees yet, and that is synchronised as a whole."""
    with open(path, "x+b") as file:
        file.write(data)
        if verify:
            file.seek(0)
            if file.read() != data:
                raise ArdmError(f"{path} was not written: the disk gave back something else")


def _link(new: Path, links: Mapping[str, str], here: Naming) -> list[str]:
    """Make the links of an archive; returns the names of those that lead out of the folder, or cannot be made."""
    odd = [name for name, leads in links.items() if not 0 < len(os.fsencode(leads)) <= LONGEST_LINK or "\0" in leads]
    left = dict.fromkeys([*odd, *leading_out({k: v for k, v in links.items() if k not in odd}, here)])
    made = []
    for name, leads in links.items():
        if name not in left:
            try:
                make_folders((new / name).parent, new)
                os.symlink(leads, new / name, target_is_directory=(new / name).parent.joinpath(leads).is_dir())
                made.append(name)
            except OSError:  # not every system has links, or lets everyone make them
                left[name] = None
    root = os.path.realpath(new)
    for name in made:  # what the system makes of them counts, whatever their texts say
        if os.path.commonpath([root, os.path.realpath(new / name)]) != root:
            with suppress(OSError):
                os.unlink(new / name)
            left[name] = None
    return list(left)


# --- single items, and tests ------------------------------------------------------------------------------------------


def extract(
    source: Path | BinaryIO, wanted: Sequence[str], target: Path | Sink | None = None, how: How | None = None
) -> list[Done]:
    """Items by name or number, each as a file; of the archive only header, index and their bytes are read.

    target: a file (for one item), a folder or a stream; by default files here, under the last steps of their names.
    All items are tried.  Raises Failures where some could not be restored, are not there, or have a target that is there
    or cannot be written; CodecError, ArdmError where the archive cannot be read at all.
    """
    how = how or How()
    done, failed = list[Done](), list[Exception]()
    with opened(source, None, how) as (file, _):
        if not holds_items(file, is_ours(source)):
            raise ArdmError("this is no archive but holds one file; ardm decompress restores it")
        archive = codec_archive.open_archive(file, UNLIMITED)
        items = list[tuple[int, FrameInfo]]()
        for text in wanted:
            with _tried(failed):
                number = _number(archive, text)
                with _named(archive, number):
                    info = archive.info(number)
                    admit([info], how.budget, archive.file_bytes, how.format)
                items.append((number, info))
        admit((info for _, info in items), how.budget, archive.file_bytes, how.format)
        written = set[int]()
        for number, info in items:
            with _tried(failed), _named(archive, number):
                if number in written and how.taken is not None and (target is None or isinstance(target, Path)):
                    raise ArdmError("it was written a moment ago, from the same item; ask for it once")
                done.append(_extracted(archive, number, info, source, target, how))
                written.add(number)
    if failed:
        raise failures(done, failed)
    return done


def _extracted(
    archive: Archive, number: int, info: FrameInfo, source: Path | BinaryIO, target: Path | Sink | None, how: How
) -> Done:
    """One item as a file, or to a stream."""
    began = time.perf_counter()
    name = archive.names[number] if archive.names else f"{_stem(source)}-{number}.{info.origin or 'bin'}"
    _refuse_entry(name, *archive.entry(number))
    name = safe_names([_converted(name, info, how.format)])[0].split("/")[-1]
    named = isinstance(target, Path) and not target.is_dir()
    path: Path | Sink
    if target is None or isinstance(target, Path):
        path = target if named and target is not None else (target or Path()) / name
    else:
        path = target
    content = archive.item(number, how.engine.models)
    if isinstance(path, Path):
        written = restore([content], path, how, how.format or format_of(path, info, named))
    else:
        data = rendered(content, how.format, how.budget)
        written = len(data)
        put(path, data)
    seconds = time.perf_counter() - began
    return Done(path_of(source), path_of(path), described(info), info.file_bytes, written, seconds)


@contextmanager
def _tried(failed: list[Exception]) -> Iterator[None]:
    """What fails of one item is kept, and the others are tried; not where the stream for all of them takes no more."""
    try:
        yield
    except (BrokenPipeError, Unwritten):
        raise
    except (ArdmError, OSError, MemoryError) as error:
        if str(error) not in map(str, failed):  # one line for a model that many items lack
            failed.append(error)


@contextmanager
def _named(archive: Archive, number: int) -> Iterator[None]:
    """Say of which item an error is."""
    try:
        yield
    except (Unwritten, ModelMissing):
        raise
    except ArdmError as error:
        name = f" ({archive.names[number]})" if archive.names else ""
        raise type(error)(f"item {number}{name}: {str(error).removesuffix(f' in item {number}')}") from None


def _refuse_entry(name: str, entry: str, leads: bytes) -> None:
    """ArdmError for an item that is no file."""
    if entry:
        what = "an empty folder" if entry == "folder" else f"a link to {os.fsdecode(leads)}"
        raise ArdmError(f"{name} is {what}; extract takes files, and decompress restores everything")


def _stem(source: object) -> str:
    return (source.name.removesuffix(ENDING) if isinstance(source, Path) else "") or "item"


def _number(archive: Archive, text: str) -> int:
    """Of an item that is named, or given by its number."""
    with suppress(UnicodeEncodeError):  # names are UTF-8, whatever the system takes arguments for
        spoken = os.fsencode(text).decode("utf-8", "replace")
        text = spoken if spoken in (archive.names or ()) else text
    if archive.names is not None and text in archive.names:
        return archive.find(text)
    if text.isascii() and text.isdigit():
        if int(text) >= len(archive):
            raise ArdmError(f"the archive has items 0 to {len(archive) - 1}; got {text}")
        return int(text)
    return archive.find(text)


def check_archive(source: Path | BinaryIO, how: How) -> Done:
    """Decode every item, and check it; nothing is written.

    Raises Failures, which names all items that are damaged or too large; CodecError, ArdmError where the archive cannot
    be read at all.
    """
    began, size, failed = time.perf_counter(), 0, list[Exception]()
    with opened(source, None, how) as (file, _):
        refuse_foreign(file, is_ours(source))
        archive = codec_archive.open_archive(file, UNLIMITED)
        infos = dict[int, FrameInfo]()
        for number in range(len(archive)):
            with _tried(failed), _named(archive, number):
                info = archive.info(number)
                admit([info], how.budget, archive.file_bytes)
                infos[number] = info
        admit(infos.values(), how.budget, archive.file_bytes, names=_paths(archive))
        numbers, at, alone = list(infos), 0, False
        while at < len(numbers):  # all at once, which is faster; after a failure one by one, up to the item at fault
            which = numbers[at : at + 1] if alone else numbers[at:]
            try:
                for content in archive.items(how.engine.models, which, how.told("testing")):
                    size, at = size + content.raw_bytes, at + 1
            except ArdmError as error:
                if alone:
                    with _tried(failed), _named(archive, numbers[at]):
                        raise error
                    at += 1
                alone = not alone
    if failed:
        raise failures([], failed)
    seconds = time.perf_counter() - began
    return Done(path_of(source), None, f"{len(archive)} items", archive.file_bytes, size, seconds)
