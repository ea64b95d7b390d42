"""Names of archive items as paths that stay inside a folder and that its file system keeps apart.

Names in an archive may be hostile; `safe_names` turns them into safe paths.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ardm.atomic import is_temporary

_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]")
_WINDOWS = re.compile(r'[<>:"|?*]')


# --- what file systems do to names ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Naming:
    """How a file system treats names.

    folds: it does not distinguish A from a, or two Unicode forms of é.  strict: it refuses or changes names of devices,
    `: ? * < > | "`, and dots or spaces at the end of a step, as Windows does.  longest: length of a step in bytes
    (strict: in UTF-16 units).  A step is one component of a path.
    """

    folds: bool = False
    strict: bool = False
    longest: int = 255


WINDOWS = Naming(folds=True, strict=True, longest=240)
"""The strictest naming: every system keeps a name that Windows keeps."""
HERE = WINDOWS if sys.platform == "win32" else Naming(folds=sys.platform == "darwin")
"""The usual naming of this system; `naming` asks a folder for its own."""


def naming(folder: Path) -> Naming:
    """Find out how the file system of a folder treats names, by making files in it and removing them again."""
    if sys.platform == "win32":
        return WINDOWS
    with suppress(OSError):  # if no file can be made, assume the strictest naming
        longest = min(255, os.pathconf(folder, "PC_NAME_MAX"))
        own = f"ardm-{secrets.token_hex(8)}" + "-é" * encodes("é")
        others = {own.upper(), unicodedata.normalize("NFD", own)} - {own}
        folds = any(_finds(folder, own, other) for other in others)
        return Naming(folds, not _finds(folder, f'{own}:?*<>|". ', f'{own}:?*<>|". '), longest)
    return WINDOWS


def encodes(name: str) -> bool:
    """Whether the system can encode a name: in an ASCII locale there is no é."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _finds(folder: Path, name: str, other: str) -> bool:
    """Whether a file made as `name` is found as `other`; if both are equal, whether it keeps its name."""
    try:
        (folder / name).touch(exist_ok=False)
    except OSError:
        return False
    try:
        return os.path.lexists(folder / other) if other != name else name in os.listdir(folder)
    finally:
        (folder / name).unlink()


def folded(path: str, here: Naming) -> str:
    """The key under which a file system looks up a path: two paths with one key are one file."""
    if not here.folds:
        return path
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()).casefold()


# --- safe names -------------------------------------------------------------------------------------------------------


def safe_names(names: Sequence[str], here: Naming = HERE, folders: Sequence[bool] | None = None) -> list[str]:
    """Turn names of items into relative paths that stay inside a folder, and that its file system keeps apart.

    here: its naming.  Names that it keeps stay unchanged; of several that it cannot tell apart (A and a, two forms of
    é), only the first stays.  folders: which names are those of folders, and so may begin other names.
    """
    made: list[str] = []
    taken: dict[str, bool] = {}  # folded path: whether it is a file
    numbers: dict[str, int] = {}  # folded path: the last number that was appended to it
    beside: dict[str, str] = {}  # folded path wanted for a folder: the path that it got, with "/"
    shared: dict[str, str] = {"": ""}  # folder as it is named: the path that it got, with "/"
    for k, name in enumerate(names):
        steps = [step for step in name.split("/") if step not in ("", ".", "..")] or ["item"]
        file = folders is None or not folders[k]
        inside = "/".join(steps[:-1] if file else steps)
        if inside not in shared:
            path = ""
            for i, step in enumerate(steps[:-1] if file else steps):
                wanted = path + safe_step(step, here, first=not i)
                if folded(wanted, here) not in beside:
                    beside[folded(wanted, here)] = _free(wanted, taken, {}, here, file=False) + "/"
                path = beside[folded(wanted, here)]
            shared[inside] = path
        path = shared[inside]
        if file:
            made.append(_free(path + safe_step(steps[-1], here, first=not path), taken, numbers, here))
        else:
            made.append(path[:-1])
    return made


def safe_step(step: str, here: Naming, first: bool) -> str:
    """One step of a path without characters that the file system refuses or changes; first: it begins the path."""
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
    if is_temporary(step):  # `sweep` would delete it
        step = "_" + step
    if _length(step, here) <= here.longest:
        return step
    stem, suffix = os.path.splitext(step)
    return _short(stem, suffix, here) if _length(suffix, here) <= 16 else _short(step, "", here)


def _length(step: str, here: Naming) -> int:
    return len(step.encode("utf-16-le")) // 2 if here.strict else len(step.encode())


def _short(stem: str, end: str, here: Naming) -> str:
    """As much of a stem as fits in front of a short end."""
    room = here.longest - _length(end, here)
    if here.strict:
        stem = stem.encode("utf-16-le")[: 2 * room].decode("utf-16-le", "ignore")
    else:
        stem = stem.encode()[:room].decode("utf-8", "ignore")
    return (stem.rstrip(" .") or "_") + end


def _free(path: str, taken: dict[str, bool], numbers: dict[str, int], here: Naming, file: bool = True) -> str:
    """A path that is not taken, with a number if necessary; several items may share a folder, but not a file."""
    folder, step = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
    stem, suffix = os.path.splitext(step) if file else (step, "")
    candidate, first = path, folded(path, here)
    number, key = numbers.get(first, 1), first
    while (used := taken.get(key)) is not None and (file or used):
        number += 1
        candidate = folder + _numbered(stem, f" ({number})", suffix, here)
        key = folded(candidate, here)
    if number > 1:
        numbers[first] = number
    taken[key] = file
    return candidate


def _numbered(stem: str, number: str, suffix: str, here: Naming) -> str:
    whole = stem + number + suffix
    end = number + suffix * (_length(suffix, here) <= 16)
    return whole if _length(whole, here) <= here.longest else _short(stem, end, here)
