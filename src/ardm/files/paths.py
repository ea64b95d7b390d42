"""Where files come from and go to: folders walked, names of targets, names of items.

Nothing is written here.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ardm import formats
from ardm.atomic import is_temporary, reason
from ardm.codec.report import FrameInfo
from ardm.content import ENDING, Kind
from ardm.errors import ArdmError

STREAM = Path("-")
"""Standard input or output.  Compare with `is`, because a file may also be called "-"."""


@dataclass(frozen=True)
class Found:
    """A file to work on: its path, its path below the folder given by the user (or its name), and the path given.

    entry: "folder" for an empty folder, "link" for a symbolic link, "" for a file.
    """

    path: Path
    below: Path
    given: Path
    entry: str = ""

    @classmethod
    def named(cls, path: Path) -> Found:
        """A file given by the user directly."""
        return cls(path, Path(path.name), path)


@dataclass(frozen=True)
class LeftOut:
    """A skipped entry of a folder: its path, its kind, and whether skipping is an error (such as no permission)."""

    path: Path
    what: str
    failed: bool = False


# --- folders walked ---------------------------------------------------------------------------------------------------


def walk(
    given: Iterable[Path], packed: bool | None = None, entries: bool = False, left: list[LeftOut] | None = None
) -> Iterator[Found]:
    """Yield the given files, STREAM included, and those in given folders, sorted; never follows links in folders.

    packed: in folders, only files that end in .ardm (True), or only others (False).  entries: also yield empty folders
    and links.  left: collects everything else in folders.
    """
    left = [] if left is None else left
    for path in given:
        if path is STREAM or not path.is_dir():
            yield Found.named(path)
            continue
        yield from _inside(path, packed, entries, left)


def _inside(given: Path, packed: bool | None, entries: bool, left: list[LeftOut]) -> Iterator[Found]:
    """The contents of a folder.  A loop, not recursion: folders may be 2,000 levels deep."""
    waiting = [(given, Path())]
    while waiting:
        folder, below = waiting.pop()
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            left.append(LeftOut(folder, f"unreadable folder ({reason(error)})", failed=True))
            continue
        folders, taken = [], 0
        for name in names:
            path, inside = folder / name, below / name
            kind, failed = _kind(path)
            if kind == "folder":
                folders.append((path, inside))
            elif packed is not None and packed != (path.suffix.lower() == ENDING):
                continue
            elif kind == "file" or (kind == "link" and entries):
                taken += 1
                yield Found(path, inside, given, "link" if kind == "link" else "")
            else:
                left.append(LeftOut(path, kind, failed))
        if entries and not folders and not taken:
            yield Found(folder, below, given, "folder")
        waiting += reversed(folders)


def _kind(path: Path) -> tuple[str, bool]:
    """The kind of a directory entry ("file", "folder", "link") or a reason to skip it; and whether that is an error."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return f"out of reach ({reason(error)})", True
    if stat.S_ISLNK(mode):
        return "link", False
    if is_temporary(path.name):
        return "left by an interrupted run", False
    if stat.S_ISDIR(mode):
        return "folder", False
    if stat.S_ISREG(mode):
        return ("file", False) if os.access(path, os.R_OK) else ("unreadable file", True)
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "not an ordinary file"), False


SHOWN = 5
"""Most names in a message about several."""


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def summary(left: Sequence[LeftOut]) -> str:
    """A sentence on skipped entries: how many of which kind, and their names; "" if there are none."""
    if not left:
        return ""
    kinds = Counter(one.what for one in left)
    counts = ", ".join(f"{count} x {what}" for what, count in sorted(kinds.items()))
    return f"{len(left)} left out ({counts}): {listed([str(one.path) for one in left])}"


# --- targets ----------------------------------------------------------------------------------------------------------


def compressed_path(source: Path, target: Path | None = None) -> Path:
    """The path of a compressed file: by default beside its source, with .ardm appended."""
    name = source.name + ENDING
    if target is None:
        return source.with_name(name)
    return target / name if target.is_dir() else target


def restored_path(source: Path, info: FrameInfo, target: Path | None = None, format: str = "") -> Path:
    """The path of a restored file or folder: by default beside its source, without .ardm.

    A name without an ending gets that of its format.  Raises ArdmError where no name can be derived.
    """
    if target is not None and not target.is_dir():
        return target
    plain = source.name[: -len(ENDING)] if source.suffix.lower() == ENDING else ""
    if source.name.lower() == ENDING:
        plain = "restored"
    name = plain or source.name
    if info.items is not None:
        name += ".items" * (not plain)
    elif format and formats.ENDINGS.get(Path(name).suffix.lower()) != format:
        name = (Path(name).stem if Path(name).suffix.lower() in formats.ENDINGS else name) + f".{format}"
    elif info.origin and not Path(name).suffix:
        name += f".{info.origin}"
    elif not plain:
        raise ArdmError(f"{source} does not end in {ENDING}; name the restored file with -o")
    return source.with_name(name) if target is None else target / name


def format_of(target: Path, info: FrameInfo, named: bool) -> str:
    """The format that the ending of a target selects; "" for the one that the content came in.

    named: whether the user gave this name.  Raises ArdmError where the ending fits no possible format.
    """
    suffix = target.suffix.lower()
    if not named or not suffix or not info.origin:  # it may come from a file with a wrong ending
        return ""
    if suffix not in formats.ENDINGS and info.kind != Kind.BYTES:
        what = {Kind.IMAGE: "image", Kind.AUDIO: "sound"}.get(info.kind or Kind.ARRAY, "array")
        raise ArdmError(f"{target}: a restored {what} ends in one of {', '.join(sorted(formats.ENDINGS))}")
    return formats.ENDINGS.get(suffix, "")


def refuse_same(source: Any, target: Any) -> None:
    """Raise ArdmError where a file would be overwritten by its own result."""
    if isinstance(source, Path) and isinstance(target, Path) and target.exists() and os.path.samefile(source, target):
        raise ArdmError(f"{source} would be overwritten by itself; give another name with -o")


def path_of(place: object) -> Path | None:
    """The path of a file; None for a stream."""
    return place if isinstance(place, Path) else None


def is_ours(source: object) -> bool:
    """Whether the name of a source ends in .ardm."""
    return isinstance(source, Path) and source.suffix.lower() == ENDING


def item_name(found: Found) -> str:
    """The name of a file as an item: it begins with the folder that the user gave, and never leads out of a folder."""
    if found.path != found.given:
        path = found.given.name / found.below
    else:
        path = Path(found.path.name) if found.path.is_absolute() else found.path
    return "/".join(step for step in path.parts if step not in (".", ".."))
