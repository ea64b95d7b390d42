"""An archive out: a folder that appears whole or not at all, or the single array or text that its items came from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ardm import formats
from ardm.atomic import make_folders, reasons, refuse_target, whole_folder
from ardm.codec.archive import Archive, open_archive
from ardm.codec.report import FrameInfo
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported
from ardm.files.limits import UNLIMITED, admit, refuse_foreign, refuse_items
from ardm.files.lines import ends_of, whole_lines
from ardm.files.links import LONGEST_LINK, leading_out, note_renamed_targets, to_renamed
from ardm.files.names import WINDOWS, Naming, naming, safe_names
from ardm.files.options import FileOptions, finish, opened
from ardm.files.paths import SHOWN, is_ours, listed, path_of, refuse_same, restored_path
from ardm.files.restore import rendered, write_contents, write_to_stream
from ardm.files.results import FileResult, described
from ardm.files.streams import Sink, put

RESCUE = "ardm test names the damaged items, and ardm extract restores the others"
"""The advice for a damaged archive, of which nothing is restored."""


def restore_archive(
    source: Path | BinaryIO, target: Path | Sink | None = None, options: FileOptions | None = None
) -> FileResult:
    """Restore an archive as a folder, which appears whole or not at all; items of one array as that array, lines as their text.

    target: the new folder (or file), by default the source's name without .ardm; an existing folder, in which it is
    made; or a stream, which gets all files one after the other.
    Raises CodecError, and ArdmError where the target exists or cannot be written.
    """
    options, began = options or FileOptions(), time.perf_counter()
    with opened(source, None, options) as (file, before):
        refuse_foreign(file, is_ours(source))
        archive = open_archive(file, UNLIMITED)
        refuse_items(len(archive), options.budget)
        read = (archive.info(number) for number in range(len(archive)))
        infos = admit(read, options.budget, archive.file_bytes, options.format, item_paths(archive), ends_of(archive))

        def contents() -> Iterator[Content]:
            try:
                items = archive.items(options.engine.models, None, options.phase("decoding"))
                yield from items if archive.lines is None else whole_lines(archive, items)
            except (ModelMissing, Unsupported):
                raise
            except CodecError as error:
                raise CodecError(f"{error}; {RESCUE}") from None

        whole, folder, lines = _overview(archive, infos), _Folder(), archive.lines is not None
        if lines and options.format:
            raise ArdmError("the lines of a text are written as they are; leave out --format")
        array = (
            archive.names is None and all(info.kind == Kind.ARRAY for info in infos) and options.format in ("", "npy")
        )
        if array:
            admit([whole], options.budget, archive.file_bytes)
        one_file = array or lines  # and otherwise a folder
        if isinstance(source, Path) and (target is None or isinstance(target, Path)):
            single = replace(whole, items=None, origin="npy" * array)
            target = restored_path(source, single if one_file else whole, target)
        if target is None:
            raise ArdmError("standard input has no name; name the result with -o")
        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_same(source, target)
                refuse_target(target, one_file and options.force)
        if array:
            written = _joined(contents(), target, options)
        elif not isinstance(target, Path):
            written = write_to_stream(contents, infos, target, options)
        elif lines:
            written = write_contents(contents(), target, options)
        else:
            folder = _restored(contents(), target, options, archive, infos)
            written = folder.written
    removed, more = finish(source, before, options, folder.losses() or _format_losses(options.format))
    return FileResult(
        path_of(source), path_of(target), described(whole), archive.file_bytes, written,
        time.perf_counter() - began, notes=(*folder.notes, *more), removed=removed,
    )  # fmt: skip


def _format_losses(format: str) -> str:
    return f"the format {format} may not hold all of it" * bool(format)


def item_paths(archive: Archive) -> list[str]:
    """The names of items; those of folders end in "/"."""
    return [name + "/" * (archive.entry(k)[0] == "folder") for k, name in enumerate(archive.names or ())]


def converted_name(name: str, info: FrameInfo, format: str) -> str:
    """The name of an item in another format."""
    if not format or formats.ENDINGS.get(Path(name).suffix.lower()) == format or info.origin in ("", format):
        return name
    return f"{name.removesuffix(Path(name).suffix)}.{format}"


def _overview(archive: Archive, infos: Sequence[FrameInfo]) -> FrameInfo:
    """All items as one."""
    return replace(
        infos[0], items=len(infos), lines=archive.lines is not None, samples=sum(i.samples for i in infos), raw_bytes=sum(i.raw_bytes for i in infos),
        file_bytes=archive.file_bytes,
    )  # fmt: skip


def _joined(contents: Iterable[Content], target: Path | Sink, options: FileOptions) -> int:
    """Write the items of one array as that array; returns its size in bytes."""
    data = formats.joined(list(contents))
    if isinstance(target, Path):
        return write_contents([Content.of_bytes(data)], target, options)
    put(target, data)
    return len(data)


# --- the folder -------------------------------------------------------------------------------------------------------


class _Folder:
    """The result of a folder: bytes written, notes, items left out, and notes on renamed ones."""

    def __init__(self) -> None:
        self.written, self.notes, self.left, self.renamed = 0, list[str](), list[str](), list[str]()

    def losses(self) -> str:
        """Why the archive must not be deleted; "" if everything was restored unchanged."""
        counts = [f"{len(self.left)} left out"] * bool(self.left)
        counts += [f"{len(self.renamed)} under other names"] * bool(self.renamed)
        return f"not everything was restored unchanged ({', '.join(counts)})" * bool(counts)


def _restored(
    contents: Iterable[Content], target: Path, options: FileOptions, archive: Archive, infos: Sequence[FrameInfo]
) -> _Folder:
    """Write a folder.  Links come last, so that nothing is written through one."""
    made, links, folders = _Folder(), dict[str, str](), {""}
    entries = [archive.entry(number) for number in range(len(archive))]
    with whole_folder(target) as new:
        names, here = _names(archive, infos, entries, options, new, made)
        for content, name, (entry, leads) in zip(contents, names, entries, strict=True):
            if entry == "link":
                links[name] = os.fsdecode(leads)
                continue
            folder = name if entry == "folder" else name.rpartition("/")[0]
            with reasons(f"cannot write {_brief(name)}"):
                if folder not in folders:
                    make_folders(new / folder, new)
                    folders.add(folder)
                if not entry:
                    data = rendered(content, "" if content.origin == "" else options.format, options.budget)
                    _write_inside(f"{new}/{name}", data, options.verify)
                    made.written += len(data)
        made.left = _link(new, links, here)
        if made.left:
            made.notes.append(
                "links that lead out of the folder, in a circle or too far, or cannot be made, were left out "
                f"({len(made.left)}): {listed(made.left)}"
            )
        if options.progress is not None:
            options.progress("synchronising", 0, 1)
    return made


def _names(
    archive: Archive,
    infos: Sequence[FrameInfo],
    entries: Sequence[tuple[str, bytes]],
    options: FileOptions,
    new: Path,
    made: _Folder,
) -> tuple[list[str], Naming]:
    """Paths of the items inside a new folder, and the naming of its file system; notes what was renamed."""
    width = len(str(len(infos) - 1))
    given = archive.names or [f"{k:0{width}}.{info.origin or 'bin'}" for k, info in enumerate(infos)]
    wanted = [converted_name(name, info, options.format) for name, info in zip(given, infos, strict=True)]
    folders = [entry == "folder" for entry, _ in entries]
    here, names = WINDOWS, safe_names(wanted, WINDOWS, folders)
    if names != wanted or any(entry == "link" for entry, _ in entries):  # this folder may keep more
        here = naming(new)
        names = safe_names(wanted, here, folders)
    made.renamed = [f"{old!r} was written as {new!r}" for old, new in zip(wanted, names, strict=True) if old != new]
    made.notes += made.renamed if len(made.renamed) <= SHOWN else made.renamed[: SHOWN - 1]
    if len(made.renamed) > SHOWN:
        made.notes.append(f"{len(made.renamed) - SHOWN + 1} more were written under other names")
    links = {
        name: leads.decode("utf-8", "surrogateescape")
        for name, (entry, leads) in zip(given, entries, strict=True)
        if entry == "link"
    }
    made.notes += note_renamed_targets(to_renamed(links, given, names))
    return names, here


def _brief(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:100]}…{name[-50:]}"


def _write_inside(path: str, data: bytes, verify: bool) -> None:
    """Write a file in a folder that has no name yet, and that is synchronised as a whole."""
    with open(path, "x+b") as file:
        file.write(data)
        if verify:
            file.seek(0)
            if file.read() != data:
                raise ArdmError(f"{path} was not written: the disk returned different data")


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
            except OSError:  # not every system has links, or allows every user to make them
                left[name] = None
    root = os.path.realpath(new)
    for name in made:  # the path that the system follows counts, whatever the texts of the links
        if os.path.commonpath([root, os.path.realpath(new / name)]) != root:
            with suppress(OSError):
                os.unlink(new / name)
            left[name] = None
    return list(left)
