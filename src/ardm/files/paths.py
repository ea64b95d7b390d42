"""Where files go: names made from names, folders walked through, and names of items that can do no harm.

Nothing is written or created here.  NumPy-free, torch-free.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ardm import formats
from ardm.atomic import HERE, Naming, encodes, is_leftover, reason
from ardm.codec.report import FrameInfo
from ardm.content import Kind
from ardm.errors import ArdmError

ENDING = ".ardm"
STREAM = Path("-")
"""Standard input or output: this very object, for a file or a folder may have that name.  Compare it with `is`."""

_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]")
_WINDOWS = re.compile(r'[<>:"|?*]')


@dataclass(frozen=True)
class Found:
    """A file to work on: where it is; its path below the folder that was named, or its name; and what was named.

    entry: "folder" for an empty folder, "link" for a symbolic link, "" for a file.
    """

    path: Path
    below: Path
    given: Path
    entry: str = ""

    @classmethod
    def named(cls, path: Path) -> Found:
        """A file that was named itself."""
        return cls(path, Path(path.name), path)


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not taken: where, what it is, and whether that is a failure rather than its nature."""

    path: Path
    what: str
    failed: bool = False


# --- files in, files out ----------------------------------------------------------------------------------------------


def walk(
    given: Iterable[Path], packed: bool | None = None, entries: bool = False, left: list[LeftOut] | None = None
) -> Iterator[Found]:
    """Files as they were named, STREAM among them, and those in folders, by name; links inside folders are not followed.

    packed: in folders, only files that end in .ardm (True), or only others (False).  entries: also empty folders and
    links, as what they are.  left: grows by everything else in folders that is not taken.
    """
    left = [] if left is None else left
    for path in given:
        if path is STREAM or not path.is_dir():
            yield Found.named(path)
            continue
        yield from _inside(path, packed, entries, left)


def _inside(given: Path, packed: bool | None, entries: bool, left: list[LeftOut]) -> Iterator[Found]:
    """What a folder holds.  No function calls itself here, for folders may be 2,000 deep."""
    waiting = [(given, Path())]
    while waiting:
        folder, below = waiting.pop()
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            left.append(LeftOut(folder, f"a folder that cannot be read ({reason(error)})", failed=True))
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
    """What something in a folder is: "file", "folder", "link" or a reason to leave it out; whether that is a failure."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return f"out of reach ({reason(error)})", True
    if stat.S_ISLNK(mode):
        return "link", False
    if is_leftover(path.name):
        return "left by an interrupted run", False
    if stat.S_ISDIR(mode):
        return "folder", False
    if stat.S_ISREG(mode):
        return ("file", False) if os.access(path, os.R_OK) else ("a file that may not be read", True)
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "no ordinary file"), False


SHOWN = 5
"""Names that a note about several lists, at most."""


def told(names: Sequence[str]) -> str:
    """Names, as many as a person reads."""
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)


def said_of(left: Sequence[LeftOut]) -> str:
    """What was left out, in one sentence: how many of which, and their names; "" for nothing."""
    if not left:
        return ""
    kinds = Counter(one.what for one in left)
    counts = ", ".join(f"{count} x {what}" for what, count in sorted(kinds.items()))
    return f"{len(left)} left out ({counts}): {told([str(one.path) for one in left])}"


def compressed_path(source: Path, target: Path | None = None) -> Path:
    """Where a compressed file goes: by default beside its source."""
    name = source.name + ENDING
    if target is None:
        return source.with_name(name)
    return target / name if target.is_dir() else target


def restored_path(source: Path, info: FrameInfo, target: Path | None = None, format: str = "") -> Path:
    """Where a restored file, or the folder of an archive, goes: by default beside its source, without .ardm.

    A file whose name says no format gets the ending of its own.  Raises ArdmError where no name can be made.
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
        raise ArdmError(f"{source} does not end in {ENDING}; say with -o where it is to go")
    return source.with_name(name) if target is None else target / name


def format_of(target: Path, info: FrameInfo, named: bool) -> str:
    """The format that the ending of a target asks for, "" for that in which the content came in.

    named: whether a person gave this very name.  Raises ArdmError where nothing could be written under it.
    """
    suffix = target.suffix.lower()
    if not named or not suffix or not info.origin:  # it may come from a file that was named wrongly
        return ""
    if suffix not in formats.ENDINGS and info.kind != Kind.BYTES:
        what = {Kind.IMAGE: "picture", Kind.AUDIO: "sound"}.get(info.kind or Kind.ARRAY, "array")
        raise ArdmError(f"{target}: a restored {what} ends in one of {', '.join(sorted(formats.ENDINGS))}")
    return formats.ENDINGS.get(suffix, "")


def refuse_same(source: Any, target: Any) -> None:
    """ArdmError where a file would be replaced by what is made from it."""
    if isinstance(source, Path) and isinstance(target, Path) and target.exists() and os.path.samefile(source, target):
        raise ArdmError(f"{source} would be overwritten by itself; give another name with -o")


# --- links of archives ------------------------------------------------------------------------------------------------

FOLLOWED = 40
"""Links that lead to one another, at most: as many as systems follow."""
LONGEST_LINK = 4096
"""Bytes of where a link leads, at most, and steps on the way."""


def leading_out(links: Mapping[str, str], here: Naming = HERE) -> list[str]:
    """The links of an archive that, followed through all others, lead out of its folder, in a circle, or too far.

    links: by the path of each, where it leads.  here: what the file system makes of names.  Only texts are looked at.
    """
    return list(why_left(links, here))


OUT, ROUND, LONG = (
    "lead out of the archive",
    f"lead in a circle, or through more than {FOLLOWED} others",
    "are too long",
)


def why_left(links: Mapping[str, str], here: Naming = HERE) -> dict[str, str]:
    """The links that `leading_out` names, and what is wrong with each: OUT, ROUND or LONG."""
    ways = _Ways(links, here)
    found = {name: ways.fault(name) for name in links}
    return {name: why for name, why in found.items() if why}


class _Ways:
    """The links of an archive as a tree of steps, through which one goes step by step."""

    def __init__(self, links: Mapping[str, str], here: Naming) -> None:
        self._here = here
        self._steps = dict[str, tuple[str, bool]]()  # each step: what the system takes it for, and whether for another
        self._below = dict[tuple[int, str], int]()  # places on the way to links: the root is 0, and all others are -1
        self._targets = dict[int, str]()
        for path, target in links.items():
            place = 0
            for step in path.split("/"):
                place = self._below.setdefault((place, self._step(step)[0]), len(self._below) + 1)
            self._targets[place] = target

    def _step(self, step: str) -> tuple[str, bool]:
        if step not in self._steps:
            other = self._here.strict and ("~" in step or _step(step, self._here, first=True) != step)
            self._steps[step] = _folded(step, self._here), other
        return self._steps[step]

    def fault(self, name: str) -> str:
        """What is wrong with a link, "" for nothing."""
        *folders, last = name.split("/")
        inside = [0]
        for step in folders:
            inside.append(self._below[inside[-1], self._step(step)[0]])
        ahead, followed, steps = [last], 0, 0
        while ahead:
            step = ahead.pop()
            steps += 1
            if steps > LONGEST_LINK:
                return LONG
            if step in ("", "."):
                continue
            if step == "..":
                if len(inside) == 1:
                    return OUT
                inside.pop()
                continue
            taken, other = self._step(step)
            if other:
                return OUT
            place = self._below.get((inside[-1], taken), -1)
            target = self._targets.get(place)
            if target is None:
                inside.append(place)
                continue
            followed += 1
            if target.startswith("/"):
                return OUT
            if followed > FOLLOWED:
                return ROUND
            ahead += target.split("/")[::-1]
        return ""


def astray(links: Mapping[str, str], before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The links to items, or to folders of items, that have other names now, of which no link knows.

    links: by the path of each before, where it leads.  before, after: names of all items.
    """
    changed = sorted((old, new) for old, new in zip(before, after, strict=True) if old != new)

    def moved(path: str) -> bool:
        for begins in (path, path + "/"):
            k = bisect_left(changed, (begins, ""))
            if k < len(changed) and changed[k][0].startswith(begins) and f"{changed[k][0]}/".startswith(path + "/"):
                return not f"{changed[k][1]}/".startswith(path + "/")
        return False

    return [
        name
        for name, leads in links.items()
        if changed and moved(posixpath.normpath(posixpath.join(posixpath.dirname(name), leads)))
    ]


# --- names of items ---------------------------------------------------------------------------------------------------


def item_name(found: Found) -> str:
    """The name of an item that is a file: with the folder that was named, and without what leads out of a folder."""
    if found.path != found.given:
        path = found.given.name / found.below
    else:
        path = Path(found.path.name) if found.path.is_absolute() else found.path
    return "/".join(step for step in path.parts if step not in (".", ".."))


def safe_names(names: Sequence[str], here: Naming = HERE, folders: Sequence[bool] | None = None) -> list[str]:
    """Names of items as paths that stay inside a folder, and that the file system there does not mistake.

    here: what it makes of names.  Names that it takes stay as they are; of those that it takes for one another (A and a,
    é in two writings) the first does.  folders: which are those of folders, whose names may begin others.
    """
    made: list[str] = []
    taken: dict[str, bool] = {}  # path as the system takes it: whether it is a file
    numbers: dict[str, int] = {}  # such a path: the last number that was given beside it
    beside: dict[str, str] = {}  # such a path that is wanted for a folder: the one that it has, with "/"
    shared: dict[str, str] = {"": ""}  # a folder as it is named: the same
    for k, name in enumerate(names):
        steps = [step for step in name.split("/") if step not in ("", ".", "..")] or ["item"]
        file = folders is None or not folders[k]
        inside = "/".join(steps[:-1] if file else steps)
        if inside not in shared:
            path = ""
            for i, step in enumerate(steps[:-1] if file else steps):
                whole = path + _step(step, here, first=not i)
                if _folded(whole, here) not in beside:
                    beside[_folded(whole, here)] = _free(whole, taken, {}, here, file=False) + "/"
                path = beside[_folded(whole, here)]
            shared[inside] = path
        path = shared[inside]
        made.append(_free(path + _step(steps[-1], here, first=not path), taken, numbers, here) if file else path[:-1])
    return made


def _step(step: str, here: Naming, first: bool) -> str:
    step = _NEVER.sub("_", step)
    if not encodes(step):
        step = "".join(character if encodes(character) else "_" for character in step)
    if first and re.match(r"[A-Za-z]:", step):
        step = step.replace(":", "_", 1)
    if here.strict:
        step = _WINDOWS.sub("_", step)
        if step[-1] in " .":
            step = step[:-1] + "_"
        if _DEVICES.fullmatch(step):
            step = "_" + step
    if is_leftover(step):  # it would be swept
        step = "_" + step
    if _length(step, here) <= here.longest:
        return step
    stem, suffix = os.path.splitext(step)
    return _short(stem, suffix, here) if _length(suffix, here) <= 16 else _short(step, "", here)


def _length(step: str, here: Naming) -> int:
    return len(step.encode("utf-16-le")) // 2 if here.strict else len(step.encode())


def _short(stem: str, end: str, here: Naming) -> str:
    """As much of a stem as fits before a short end."""
    room = here.longest - _length(end, here)
    if here.strict:
        stem = stem.encode("utf-16-le")[: 2 * room].decode("utf-16-le", "ignore")
    else:
        stem = stem.encode()[:room].decode("utf-8", "ignore")
    return (stem.rstrip(" .") or "_") + end


def _free(path: str, taken: dict[str, bool], numbers: dict[str, int], here: Naming, file: bool = True) -> str:
    """A path beside those that are taken: a folder may be shared, and a file may not."""
    folder, step = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
    stem, suffix = os.path.splitext(step) if file else (step, "")
    candidate, first = path, _folded(path, here)
    number, as_taken = numbers.get(first, 1), first
    while (used := taken.get(as_taken)) is not None and (file or used):
        number += 1
        candidate = folder + _numbered(stem, f" ({number})", suffix, here)
        as_taken = _folded(candidate, here)
    if number > 1:
        numbers[first] = number
    taken[as_taken] = file
    return candidate


def _numbered(stem: str, number: str, suffix: str, here: Naming) -> str:
    whole = stem + number + suffix
    end = number + suffix * (_length(suffix, here) <= 16)
    return whole if _length(whole, here) <= here.longest else _short(stem, end, here)


def _folded(path: str, here: Naming) -> str:
    """What the system takes a path for."""
    if not here.folds:
        return path
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()).casefold()
