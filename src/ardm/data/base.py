"""What all data sets share: the type, names and splits, files that are read, checked and fetched."""

from __future__ import annotations

import gzip
import hashlib
import os
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.schema import Schema

Folder = str | os.PathLike[str]
Bytes = npt.NDArray[np.uint8]

SHARES = {"train": (0.0, 0.9), "valid": (0.9, 0.95), "test": (0.95, 1.0)}
"""Which part of what has no published splits belongs to which."""


@dataclass(frozen=True)
class Files:
    """Which files of a folder, or which file, a data set was read from.

    where: the folder or file.  noun: what they are.  used: names within it.  kind: how many there are of that kind, in
    all splits.  unused: how many others lie there, by ending; hidden ones are not counted.
    """

    where: str
    noun: str
    used: tuple[str, ...]
    kind: int
    unused: Mapping[str, int]

    def __str__(self) -> str:
        more = ", …" * (len(self.used) > _NAMED)
        used = f"{len(self.used)} of {self.kind} {self.noun} in {self.where}: {', '.join(self.used[:_NAMED])}{more}"
        others = sum(self.unused.values())
        if not others:
            return f"{used}; no other files"
        kinds = sorted(self.unused.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in kinds[:_NAMED])
        more = ", …" * (len(kinds) > _NAMED)
        return f"{used}; {others} other file{'s are' if others > 1 else ' is'} not used ({listed}{more})"


_NAMED = 4
"""Files and endings that a line names, at most."""


def survey(root: Path, used: Sequence[Path], kind: Callable[[Path], bool], noun: str) -> Files:
    """What a folder holds beside the files that are used; kind: whether a file belongs to the data, in whatever split."""
    if not root.is_dir():
        return Files(str(root.parent), noun, (root.name,), 1, {})
    belong, unused = 0, Counter[str]()
    for name in _visible(root):
        if kind(root / name):
            belong += 1
        else:
            unused[name.suffix.lower()] += 1
    return Files(str(root), noun, tuple(path.relative_to(root).as_posix() for path in used), belong, dict(unused))


@dataclass(frozen=True, eq=False)
class Dataset:
    """N items of one shape, every value in 0..classes−1.

    items: (N, *shape) integers, in the smallest type that holds them: uint8 up to 256 classes; images are (N, C, H, W).
    classes: K.  name: where they come from, for logs ("cifar10/test").  labels: (N,) int64, or None.
    columns: of a table, the number of classes of each position of an item, K the largest of them; empty elsewhere.
    schema: of a table, what its columns and values are called.  rate: of sounds, samples a second, 0 elsewhere.
    dropped: how many clips of sound were shorter than an item, and are in none.
    grey: the items are intensities 0..255 of which `binarize` draws the values for each batch anew; classes is then 2.
    files: of data of your own, what it was read from.
    Raises ArdmError where items and labels do not fit each other.
    """

    items: Tensor
    classes: int
    name: str
    labels: Tensor | None = None
    columns: tuple[int, ...] = ()
    schema: Schema | None = None
    rate: int = 0
    dropped: int = 0
    grey: bool = False
    files: Files | None = None

    def __post_init__(self) -> None:
        if self.items.ndim < 2 or self.items.is_floating_point():
            raise ArdmError(f"items must be integers (N, *shape); got {self.items.dtype} {tuple(self.items.shape)}")
        if self.labels is not None and self.labels.shape != self.items.shape[:1]:
            raise ArdmError(f"{len(self.items)} items, but labels of shape {tuple(self.labels.shape)}")
        if self.columns and (self.items.shape[1:] != (len(self.columns),) or max(self.columns) != self.classes):
            raise ArdmError(
                f"columns of {self.columns} classes need items (N, {len(self.columns)}) and {max(self.columns)} classes; "
                f"got {tuple(self.items.shape)} and {self.classes}"
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> torch.Size:
        """The shape of one item, (C, H, W) for images."""
        return self.items.shape[1:]

    @property
    def about(self) -> str:
        """A line on what there is, and where it comes from."""
        where = self.name if self.files is None else str(self.files)
        short = f"; {self.dropped} clips are shorter than an item, and left out" * (self.dropped > 0)
        return f"{len(self):,} item{'s' * (len(self) != 1)} of {'x'.join(map(str, self.shape))}, {where}{short}"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the items, labels, classes and names: others of other data.

        Beyond 256 MB it looks at 4,096 items, evenly spread, and at the number of all.
        """
        some = self.items
        if some.numel() * some.element_size() > 1 << 28:
            some = some[torch.linspace(0, len(some) - 1, 4096, device="cpu").long()]
        about = (tuple(self.items.shape), str(self.items.dtype), self.classes, self.columns, self.rate, self.grey)
        digest = hashlib.sha256(repr((about, self.schema and self.schema.to_values())).encode())
        for part in (some, self.labels):
            digest.update(b"" if part is None else part.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def subset(self, index: slice | Sequence[int] | Tensor) -> Dataset:
        """The items at a slice (no copy), at positions (n,) or where a mask (N,) is true."""
        where = index if isinstance(index, slice) else torch.as_tensor(index, device="cpu")
        labels = None if self.labels is None else self.labels[where]
        return replace(self, items=self.items[where], labels=labels)


def known(what: str, name: str | None, known: Iterable[str]) -> str:
    """The name, if it is among the known ones; otherwise an error that suggests the nearest."""
    names = list(known)
    if name in names:
        return str(name)
    near = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ArdmError(f"unknown {what}: {name!r}; {hint}there are {', '.join(map(repr, names)) or 'none'}")


def splits(of: str, split: str | None, names: Iterable[str] = SHARES) -> str:
    """The split, "fit" being another name of "train" where "valid" is no part of that."""
    return known(f"split of {of}", "train" if split == "fit" else split, names)


FEW = (
    "with so few, take all of them: data.train=all and data.valid=all in a recipe, --split all with ardm eval, "
    "split=None in Python"
)
"""What to do where a split has no items."""


def place(key: str) -> float:
    """A number in [0, 1) that belongs to a relative path, on every system."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def smallest(classes: int) -> type[np.integer[Any]]:
    """The type of items: the smallest of uint8, int16, int32 and int64 that holds 0..classes−1."""
    return next(kind for kind in (np.uint8, np.int16, np.int32, np.int64) if classes - 1 <= np.iinfo(kind).max)


def counted(**values: int | None) -> None:
    """ArdmError for a number below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ArdmError(f"{name} must be at least 1; got {value}")


def files_in(root: Path, endings: Iterable[str], noun: str, split: str | None = None) -> list[Path]:
    """The files of a folder and its subfolders with one of the endings, sorted by relative path; hidden ones are not.

    split: those whose path falls into it by `place`; None: all.  noun: what they are, for errors.
    Raises ArdmError for a missing folder, and where there are none.
    """
    if split is not None:
        split = splits("a folder", split)
    suffixes = " ".join(sorted(endings))
    if not root.is_dir():
        what = f"{root} is a file" if root.is_file() else f"no folder {root}"
        raise ArdmError(f"{what}: expected a folder of {noun} ({suffixes})")
    keys = sorted(name.as_posix() for name in _visible(root) if name.suffix.lower() in endings)
    if not keys:
        raise ArdmError(f"no {noun} in {root}: expected files ending in {suffixes}")
    low, high = SHARES.get(str(split), (0.0, 1.0))
    chosen = [root / key for key in keys if low <= place(key) < high]
    if not chosen:
        raise ArdmError(
            f"none of the {len(keys)} {noun} in {root} falls into the split {split!r}, which takes a share by a hash of their names; {FEW}"
        )
    return chosen


def _visible(root: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders that are not hidden, relative to it."""
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if not any(part.startswith(".") for part in name.parts) and path.is_file():
            yield name


def first_folder(root: Path, inside: Sequence[str], holds: str) -> Path | None:
    """The first of root and these folders in it that holds a file or folder of that name."""
    places = [root, *(root / name for name in inside)]
    return next((folder for folder in places if (folder / holds).exists()), None)


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file, gunzipped if its name ends in .gz: at most `most`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ArdmError(f"cannot read {path}: {error}; if it is damaged, delete it and fetch it again") from error
    if len(data) > most:
        raise ArdmError(f"{path} holds more than {most} bytes: not the published file")
    return data


def check_md5(path: Path, data: bytes | Bytes, expected: str) -> None:
    """ArdmError for bytes that are not the published ones."""
    content = data if isinstance(data, bytes) else data.data
    _same(path, "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest(), expected)


def check_sha256(path: Path, expected: str) -> None:
    """ArdmError for a file, read piece by piece, that is not the published one."""
    import pooch

    try:
        found = pooch.file_hash(str(path))
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error}") from error
    _same(path, "SHA-256", found, expected)


def _same(path: Path, kind: str, found: str, expected: str) -> None:
    if found != expected:
        raise ArdmError(
            f"{path} is not the published file: {kind} {found}, expected {expected}; delete it and fetch it again, "
            f"or set data.verify=false (from Python: verify=False) if it is meant to differ"
        )


def fetch(url: str, md5: str | None, folder: Path) -> None:
    """Download a file into a folder under its own name, unless it is there, and check it.

    md5: its checksum; "sha256:…" for another kind; None where none is published, and its content must be looked at.
    """
    import pooch

    try:
        known_hash = md5 if md5 is None or ":" in md5 else f"md5:{md5}"
        pooch.retrieve(url, known_hash=known_hash, fname=url.rsplit("/", 1)[1], path=folder)
    except (OSError, ValueError) as error:  # requests raises OSErrors, a wrong checksum is a ValueError
        raise ArdmError(
            f"cannot download {url}: {type(error).__name__}: {error}; fetch it by other means and put it into {folder}"
        ) from error
