"""Where files go: names made from names, folders walked through, and names of items that can do no harm.

Nothing is written or created here.  NumPy-free, torch-free.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ardm import formats
from ardm.content import Kind
from ardm.errors import ArdmError
from ardm.frames import FrameInfo

ENDING = ".ardm"
STEP_BYTES = 240
"""Bytes of one step of a name of an item: file systems take 255, and a name that is taken gets a number."""

_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]")
_WINDOWS = re.compile(r'[<>:"|?*]')


@dataclass(frozen=True)
class Found:
    """A file to work on: where it is; its path below the folder that was named, or its name; and what was named."""

    path: Path
    below: Path
    given: Path

    @classmethod
    def named(cls, path: Path) -> Found:
        """A file that was named itself."""
        return cls(path, Path(path.name), path)


# --- files in, files out ----------------------------------------------------------------------------------------------


def walk(given: Iterable[Path], packed: bool | None = None) -> Iterator[Found]:
    """Files as they were named, and those in folders, by name; links inside folders are not followed.

    packed: in folders, only files that end in .ardm (True), or only others (False).
    """
    for path in given:
        if not path.is_dir():
            yield Found.named(path)
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                inside = Path(folder, name)
                suits = packed is None or packed == (inside.suffix.lower() == ENDING)
                if suits and inside.is_file() and not inside.is_symlink() and not name.startswith(".ardm-"):
                    yield Found(inside, inside.relative_to(path), path)


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


# --- names of items ---------------------------------------------------------------------------------------------------


def item_name(found: Found) -> str:
    """The name of an item that is a file: with the folder that was named, and without what leads out of a folder."""
    if found.path != found.given:
        path = found.given.name / found.below
    else:
        path = Path(found.path.name) if found.path.is_absolute() else found.path
    return "/".join(step for step in path.parts if step not in (".", ".."))


def safe_names(names: Sequence[str], windows: bool = sys.platform == "win32") -> list[str]:
    """Names of items as paths that stay inside a folder, and that no system takes for one another or for a device.

    Names that are harmless stay as they are; of those that fold together (A and a, é in two writings) the first does.
    """
    made: list[str] = []
    taken: dict[str, bool] = {}  # folded path: whether it is a file
    numbers: dict[str, int] = {}  # folded path: the last number that was given beside it
    for name in names:
        steps = [_step(step, windows) for step in name.split("/") if step not in ("", ".", "..")] or ["item"]
        made.append(_free(steps, taken, numbers))
    return made


def _step(step: str, windows: bool) -> str:
    step = _NEVER.sub("_", step)
    if re.match(r"[A-Za-z]:", step):
        step = step.replace(":", "_", 1)
    if windows:
        step = _WINDOWS.sub("_", step)
    if step[-1] in " .":
        step = step[:-1] + "_"
    if _DEVICES.fullmatch(step) or step.startswith(".ardm-"):  # the latter are swept as leftovers
        step = "_" + step
    if len(step.encode()) > STEP_BYTES:
        suffix = Path(step).suffix
        suffix = suffix if len(suffix.encode()) < 16 else ""
        step = step.encode()[: STEP_BYTES - len(suffix.encode())].decode("utf-8", "ignore").rstrip(" .") + suffix
    return step


def _free(steps: list[str], taken: dict[str, bool], numbers: dict[str, int]) -> str:
    """A path for these steps beside those that are taken: a folder may be shared, and a file may not."""
    path = ""
    for k, step in enumerate(steps):
        last = k == len(steps) - 1
        stem, suffix = os.path.splitext(step) if last else (step, "")
        candidate = path + step
        first = _folded(candidate)
        number = numbers.get(first, 1)
        while (used := taken.get(_folded(candidate))) is not None and (last or used is True):
            number += 1
            candidate = f"{path}{stem} ({number}){suffix}"
        if number > 1 and last:
            numbers[first] = number
        taken[_folded(candidate)] = last
        path = candidate + "/"
    return path[:-1]


def _folded(path: str) -> str:
    """What a system that folds names takes a path for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()).casefold()
