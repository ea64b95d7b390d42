"""Folders and files of your own: splits by a stable hash, and a survey of the other files in the folder."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ardm.data.checks import known
from ardm.errors import ArdmError

Folder: TypeAlias = str | os.PathLike[str]
SHARES = {"train": (0.0, 0.9), "valid": (0.9, 0.95), "test": (0.95, 1.0)}
"""The part of [0, 1) that belongs to each split of data without published splits."""
FEW = (
    "with so few, take all of them: data.train=all and data.valid=all in a recipe, --split all with ardm eval, "
    "split=None in Python"
)
"""What to do where a split has no items."""
_NAMED = 4
"""The most files, and the most endings, that a line lists."""


@dataclass(frozen=True)
class Files:
    """The files that a data set was read from, and the others beside them.

    where: the folder or file.  noun: what the files are.  used: their names within the folder.
    kind: how many files of that kind there are, in all splits.
    unused: how many others there are, by ending; hidden files are not counted.
    """

    where: str
    noun: str
    used: tuple[str, ...]
    kind: int
    unused: Mapping[str, int]

    def __str__(self) -> str:
        used = f"{len(self.used)} of {self.kind} {self.noun} in {self.where}: {_listed(self.used)}"
        others = sum(self.unused.values())
        if not others:
            return f"{used}; no other files"
        kinds = sorted(self.unused.items(), key=lambda item: (-item[1], item[0]))
        listed = _listed([f"{count} {ending or 'without ending'}" for ending, count in kinds])
        return f"{used}; {others} other file{'s are' if others > 1 else ' is'} not used ({listed})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", …" * (len(names) > _NAMED)


def survey(root: Path, used: Sequence[Path], kind: Callable[[Path], bool], noun: str) -> Files:
    """List the files of a folder that are used, and count the others.

    kind: whether a file belongs to the data, in any split.
    """
    if not root.is_dir():
        return Files(str(root.parent), noun, (root.name,), 1, {})
    belong, unused = 0, Counter[str]()
    for name in visible(root):
        if kind(root / name):
            belong += 1
        else:
            unused[name.suffix.lower()] += 1
    return Files(str(root), noun, tuple(path.relative_to(root).as_posix() for path in used), belong, dict(unused))


def files_in(root: Path, endings: Iterable[str], noun: str, split: str | None = None) -> list[Path]:
    """Find the files with one of the endings in a folder and its subfolders, sorted by relative path.

    Hidden files are skipped.  split: those that `in_split` assigns to it; None: all.  noun: what they are, for errors.
    Raises ArdmError for a folder that does not exist or has no such files.
    """
    if split is not None:
        split = splits("a folder", split)
    suffixes = " ".join(sorted(endings))
    if not root.is_dir():
        what = f"{root} is a file" if root.is_file() else f"no folder {root}"
        raise ArdmError(f"{what}: expected a folder of {noun} ({suffixes})")
    keys = sorted(name.as_posix() for name in visible(root) if name.suffix.lower() in endings)
    if not keys:
        raise ArdmError(f"no {noun} in {root}: expected files ending in {suffixes}")
    chosen = [root / key for key in keys if split is None or in_split(key, split)]
    if not chosen:
        raise ArdmError(
            f"none of the {len(keys)} {noun} in {root} falls into the split {split!r}, which a hash of their names "
            f"decides; {FEW}"
        )
    return chosen


def visible(root: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders that are not hidden, relative to it."""
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield name


def splits(of: str, split: str | None, names: Iterable[str] = SHARES) -> str:
    """The split under its own name: "fit" means "train" where "valid" is not a part of "train"."""
    return known(f"split of {of}", "train" if split == "fit" else split, names)


def in_split(key: str, split: str) -> bool:
    """Whether a stable hash assigns a relative path, or the number of a row, to a split."""
    low, high = SHARES[split]
    return low <= fraction(key) < high


def fraction(key: str) -> float:
    """A hash in [0, 1), the same on every system."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def rows_in(count: int, split: str, where: Path, noun: str) -> list[int]:
    """The rows of 0..count−1 that belong to a split.  Raises ArdmError where there are none."""
    rows = [n for n in range(count) if in_split(f"row {n}", split)]
    if not rows:
        raise ArdmError(f"none of the {count} {noun} of {where} falls into the split {split!r}; {FEW}")
    return rows
