"""Texts as items of a fixed number of characters: text8, enwik8, and text files of your own."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ardm.data.checks import known, positive
from ardm.data.dataset import Dataset
from ardm.data.folders import FEW, SHARES, Folder, files_in, splits, survey
from ardm.data.published import Bytes, check_md5, fetch, how_to_get, unpacking
from ardm.errors import ArdmError

ALPHABETS = {"bytes": 256, "27": 27}
_ENDINGS = (".txt", ".text", ".md")
_URL = "http://mattmahoney.net/dc/"
_BYTES = 100_000_000
_MD5 = {"text8": "3bea1919949baf155f99411df5fada7e", "enwik8": "a1fa5ffddb56f4953e226637dabbb36a"}
_ZIPPED = {
    "text8": "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    "enwik8": "sha256:547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
}


def text8(
    folder: Folder,
    split: str | None,
    length: int = 250,
    stride: int | None = None,
    download: bool = False,
    verify: bool = True,
) -> Dataset:
    """text8, the first 10⁸ characters of a cleaned Wikipedia: items (N, length) uint8, 27 classes, no labels.

    Space is 0, a..z are 1..26.
    folder: holds `text8` or `text8.zip`, or is such a file.
    split: "train" or "fit" (the first 90 million characters), "valid" or "test" (5 million each).
    length: characters per item; the paper has 250, which divides the splits.
    stride: distance between items of the training split, which overlap (a view, without copies); None: a quarter of
    length.  The items of the other splits are consecutive, so that each character counts once.
    download: fetch the archive (31 MB) into folder.
    verify: demand the published size and MD5; False accepts any text of these characters, and splits it 90 : 5 : 5.
    Raises ArdmError for an unknown split, missing or damaged files, other characters, and a text shorter than an item.
    """
    return _published("text8", "27", folder, split, length, stride, download, verify)


def enwik8(
    folder: Folder,
    split: str | None,
    length: int = 256,
    stride: int | None = None,
    download: bool = False,
    verify: bool = True,
) -> Dataset:
    """enwik8, the first 10⁸ bytes of a Wikipedia dump: items (N, length) uint8, 256 classes, no labels.

    Everything as in `text8`; items of 256 bytes do not divide the splits, and the last, incomplete one is left out.
    """
    return _published("enwik8", "bytes", folder, split, length, stride, download, verify)


def text(
    folder: Folder,
    split: str | None = None,
    length: int = 256,
    stride: int | None = None,
    alphabet: str = "bytes",
    suffixes: Sequence[str] = _ENDINGS,
) -> Dataset:
    """Texts of your own: items (N, length) uint8, no labels.

    folder: a file; or a folder with `train.txt`, `valid.txt` and `test.txt`; or else a folder whose files (also in
    subfolders, sorted by relative path) are joined.
    suffixes: of the files in a folder; (".py", ".pyi") takes source code.  Hidden files and folders are skipped.
    split: "train" or "fit", "valid" or "test"; without such files, the first 90 %, the next 5 % and the last 5 % of the
    bytes of each file.  None takes all.
    length, stride: as in `text8`; an item may cross from one file into the next.
    alphabet: "bytes" (256 classes, any encoding) or "27" (space 0, a..z 1..26, and nothing else).
    Raises ArdmError for missing files, an unknown split or alphabet, a text shorter than an item, and, naming file,
    position and byte, for a character outside of the alphabet.
    """
    known("alphabet", alphabet, ALPHABETS)
    chosen = None if split is None else splits("a text", split)
    root = Path(folder).expanduser()
    files = [path for name in SHARES if (path := root / f"{name}.txt").is_file()] if root.is_dir() else []
    if files and chosen is not None:
        if root / f"{chosen}.txt" not in files:
            raise ArdmError(f"no {root / chosen}.txt beside {files[0].name}: there must be a file for each split")
        used = [root / f"{chosen}.txt"]
        parts = [encode(used[0], alphabet)]
    else:
        used = files = files or ([root] if root.is_file() else files_in(root, _suffixes(suffixes), "texts"))
        parts = [_share(encode(path, alphabet), chosen) for path in files]
    name = f"{root.resolve().stem}/{chosen or 'all'}"
    found = _items(np.concatenate(parts), ALPHABETS[alphabet], name, chosen, length, stride)
    return replace(found, files=survey(root, used, set(files).__contains__, "texts"))


def _suffixes(given: Sequence[str]) -> list[str]:
    """Endings of names, in lower case with their dot."""
    found = [f".{suffix.strip().lstrip('*').lstrip('.').lower()}" for suffix in given]
    if not found or "." in found:
        raise ArdmError(f"suffixes are endings of file names, such as .py; got {list(given)!r}")
    return found


def encode(path: Path, alphabet: str) -> Bytes:
    """Read the characters of a file as classes (n,) uint8.  Raises ArdmError for a missing file or other characters."""
    try:
        return _classes(path, np.fromfile(path, np.uint8), alphabet)
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error}") from error


def _classes(path: Path, raw: Bytes, alphabet: str) -> Bytes:
    if alphabet == "bytes":
        return raw
    table = np.full(256, 255, np.uint8)
    table[ord(" ")] = 0
    table[ord("a") : ord("z") + 1] = np.arange(1, 27)
    classes: Bytes = table[raw]
    if len(classes) and classes.max() == 255:
        at = int((classes == 255).argmax())
        raise ArdmError(
            f"{path}: byte {raw[at]} ({bytes(raw[at : at + 1])!r}) at position {at} is neither a..z nor a space; "
            f"use alphabet=bytes, or clean the text"
        )
    return classes


def _share(data: Bytes, split: str | None) -> Bytes:
    """The part of a text that belongs to a split: the first 90 %, the next 5 %, the last 5 %."""
    cuts = {"train": (0, 90), "valid": (90, 95), "test": (95, 100)}
    low, high = (0, 100) if split is None else cuts[split]
    return data[len(data) * low // 100 : len(data) * high // 100]


def _items(data: Bytes, classes: int, name: str, split: str | None, length: int, stride: int | None) -> Dataset:
    """Items as windows into one buffer."""
    positive(length=length, stride=stride)
    if len(data) < length:
        hint = f"; {FEW}" if split else ""
        raise ArdmError(
            f"{name} has {len(data)} characters, fewer than an item of length {length}: take shorter items (data.length){hint}"
        )
    step = (stride or max(1, length // 4)) if split == "train" else length
    return Dataset(torch.from_numpy(data).unfold(0, length, step), classes, name)


def _published(
    name: str,
    alphabet: str,
    folder: Folder,
    split: str | None,
    length: int,
    stride: int | None,
    download: bool,
    verify: bool,
) -> Dataset:
    chosen = splits(name, split)
    root = Path(folder).expanduser()
    path = _find(root, name)
    if path is None and download:
        fetch(f"{_URL}{name}.zip", _ZIPPED[name], root)
        path = _find(root, name)
    if path is None:
        raise ArdmError(f"no {name} in {root}; {how_to_get(f'{name}.zip', _URL, root)}")
    raw = _raw(path, name)
    if verify:
        if len(raw) != _BYTES:
            raise ArdmError(f"{path} holds {len(raw)} bytes, expected {_BYTES}; delete it and fetch it again")
        check_md5(path, raw, _MD5[name])
    data = _share(_classes(path, raw, alphabet), chosen)
    return _items(data, ALPHABETS[alphabet], f"{name}/{chosen}", chosen, length, stride)


def _find(root: Path, name: str) -> Path | None:
    places = (root, root / name, root / f"{name}.zip", root / name / name, root / name / f"{name}.zip")
    return next((path for path in places if path.is_file()), None)


def _raw(path: Path, name: str) -> Bytes:
    """The bytes of the file, unpacked, but at most one more than 10⁸: that one shows that the file is too long."""
    with unpacking(path, f"read {name} from"):
        if not zipfile.is_zipfile(path):
            return np.fromfile(path, np.uint8, _BYTES + 1)
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            return np.frombuffer(bytearray(member.read(_BYTES + 1)), np.uint8)
