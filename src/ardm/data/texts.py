"""Texts as items of a fixed number of symbols: text8, enwik8, and text files of your own."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ardm.data.checks import known, positive
from ardm.data.dataset import Dataset, smallest
from ardm.data.folders import FEW, SHARES, Files, Folder, files_in, splits, survey
from ardm.data.published import Bytes, check_md5, fetch, how_to_get, unpacking
from ardm.errors import ArdmError
from ardm.symbols import BYTES, LETTERS, Characters, Ints, Letters, Symbols, Tokens, ended

ALPHABETS = {"bytes": BYTES, "27": LETTERS}
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
    each: str = "",
    symbols: Symbols | None = None,
) -> Dataset:
    """Texts of your own: items (N, length) of the smallest integer type, no labels.

    folder: a file; or a folder with `train.txt`, `valid.txt` and `test.txt`; or else a folder whose files (also in
    subfolders, sorted by relative path) are joined.
    suffixes: of the files in a folder; (".py", ".pyi") takes source code.  Hidden files and folders are skipped.
    split: "train" or "fit", "valid" or "test"; without such files, the first 90 %, the next 5 % and the last 5 % of the
    bytes of each file.  None takes all.
    length, stride: as in `text8`, in symbols; an item may cross from one file into the next.
    alphabet: "bytes" (256 classes, any encoding); "27" (space 0, a..z 1..26, and nothing else); "characters" (UTF-8: those of
    the training split, and 256 bytes, which write all others); "tokens" (UTF-8: byte pairs learnt from the training split;
    needs tokenizers); or the path of a tokenizer.json.
    each: "line" or "file": each of them is a text, which ends with a symbol of its own, the last class, and is filled with it;
    a longer one is cut into several items.  Files then belong to splits by a hash of their paths.  "": no ends.
    symbols: those of a model, in place of the alphabet.
    Raises ArdmError for missing files, an unknown split or alphabet, a text shorter than an item, and, naming file,
    position and byte, for a character outside of the alphabet.
    """
    known("data.each", each, ("", "line", "file"))
    chosen = None if split is None else splits("a text", split)
    source = _Source(Path(folder).expanduser(), tuple(_suffixes(suffixes)), each)
    name = f"{source.root.resolve().stem}/{chosen or 'all'}"
    plain = symbols.alphabet if isinstance(symbols, Letters) else ALPHABETS.get(alphabet) if symbols is None else None
    if plain is not None and not each:
        alphabet = "bytes" if plain == BYTES else "27"
        shares = [_share(encode(path, alphabet), low, high) for path, (low, high) in source.shares(chosen)]
        found = _items(np.concatenate(shares), len(plain), name, chosen, length, stride)
        found = replace(found, bytes=torch.full((len(found),), length, device="cpu"), symbols=Letters(False, plain))
    else:
        symbols = symbols or symbols_of(alphabet, bool(each), lambda: source.training(split))
        if symbols.end != bool(each):
            raise ArdmError(
                f"these symbols {'end' if symbols.end else 'do not end'} texts: data.each must be {'line or file' if symbols.end else 'left out'}"
            )
        found = _texts(source, symbols, name, chosen, length, stride)
    return replace(found, files=source.survey(chosen))


@dataclass(frozen=True)
class _Source:
    """The files of a text, and which part of each belongs to a split."""

    root: Path
    suffixes: tuple[str, ...]
    each: str

    @property
    def _named(self) -> list[Path]:
        """train.txt, valid.txt and test.txt."""
        return [path for name in SHARES if (path := self.root / f"{name}.txt").is_file()] if self.root.is_dir() else []

    def files(self, split: str | None) -> list[Path]:
        """The files that hold a split, or parts of it."""
        if named := self._named:
            if split is None:
                return named
            if self.root / f"{split}.txt" not in named:
                raise ArdmError(
                    f"no {self.root / split}.txt beside {named[0].name}: there must be a file for each split"
                )
            return [self.root / f"{split}.txt"]
        if self.root.is_file() and self.each != "file":
            return [self.root]
        return files_in(self.root, self.suffixes, "texts", split if self.each == "file" else None)

    def shares(self, split: str | None) -> list[tuple[Path, tuple[int, int]]]:
        """The files with the per cent of each that belong to a split: the first 90, the next 5, the last 5, or all."""
        whole = split is None or bool(self._named) or self.each == "file"
        cuts = {"train": (0, 90), "valid": (90, 95), "test": (95, 100)}
        return [(path, (0, 100) if whole else cuts[str(split)]) for path in self.files(split)]

    def read(self, split: str | None) -> list[tuple[Path, bytes]]:
        """The part of each file that belongs to a split, cut where a character, or a line, begins."""
        found = []
        for path, cuts in self.shares(split):
            data = _bytes(path)
            low, high = (_begins(data, len(data) * cut // 100, self.each) for cut in cuts)
            found.append((path, data[low:high]))
        return found

    def training(self, split: str | None) -> bytes:
        """The text of the training split, or of all where that is asked for."""
        return b"".join(data for _, data in self.read(split and "train"))

    def survey(self, split: str | None) -> Files:
        """The files that are used, and the others."""
        kind = set(self._named or ([self.root] if self.root.is_file() else files_in(self.root, self.suffixes, "texts")))
        return survey(self.root, self.files(split), kind.__contains__, "texts")


def _begins(data: bytes, at: int, each: str) -> int:
    """The first place from `at` on where a character, or with each "line" a line, begins."""
    if each == "line" and 0 < at < len(data):
        return (data.find(b"\n", at - 1) + 1) or len(data)
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return at


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error}") from error


def symbols_of(alphabet: str, end: bool, text: Callable[[], bytes]) -> Symbols:
    """The symbols that an alphabet names.  text: reads the training text, whose characters they may be."""
    if alphabet in ALPHABETS:
        return Letters(end, ALPHABETS[alphabet])
    if alphabet.endswith(".json"):
        return Tokens(end, tokenizer=_bytes(Path(alphabet).expanduser()).decode("utf-8", "replace"))
    known("alphabet", alphabet, (*ALPHABETS, "characters", "tokens", "tokenizer.json"))
    return Tokens.of(text(), end) if alphabet == "tokens" else Characters.of(text(), end)


def _texts(source: _Source, symbols: Symbols, name: str, split: str | None, length: int, stride: int | None) -> Dataset:
    """Items of symbols: windows, or texts that end."""
    positive(length=length, stride=stride)
    parts = source.read(split)
    if source.each:
        pieces = [(path, text) for path, data in parts for text in (_lines(data) if source.each == "line" else [data])]
        if not pieces:
            raise ArdmError(f"{name} has no text; {FEW}")
        values, sizes = ended([symbols.encode(t, str(p)) for p, t in pieces], length, symbols, source.each == "line")
        items = torch.from_numpy(values.astype(smallest(symbols.classes)))
        return Dataset(items, symbols.classes, name, symbols=symbols, bytes=torch.from_numpy(sizes))
    both = [symbols.encode(data, str(path)) for path, data in parts]
    values, own = (np.concatenate(rows) for rows in zip(*both, strict=True))
    found = _items(values.astype(smallest(symbols.classes)), symbols.classes, name, split, length, stride, symbols.unit)
    step = _stride(split, length, stride)
    begin = np.arange(len(found)) * step
    reach = np.concatenate([[0], own.cumsum()])
    return replace(found, symbols=symbols, bytes=torch.from_numpy(reach[begin + length] - reach[begin]))


def _lines(data: bytes) -> list[bytes]:
    """The lines of a text, without their ends."""
    found = data.split(b"\n")
    return found if found[-1] else found[:-1]


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


def _share(data: Bytes, low: int, high: int) -> Bytes:
    """The part of a text between two per cents."""
    return data[len(data) * low // 100 : len(data) * high // 100]


def _items(
    data: Ints | Bytes,
    classes: int,
    name: str,
    split: str | None,
    length: int,
    stride: int | None,
    unit: str = "character",
) -> Dataset:
    """Items as windows into one buffer."""
    positive(length=length, stride=stride)
    if len(data) < length:
        hint = f"; {FEW}" if split else ""
        raise ArdmError(
            f"{name} has {len(data)} {unit}s, fewer than an item of length {length}: take shorter items (data.length){hint}"
        )
    step = _stride(split, length, stride)
    return Dataset(torch.from_numpy(data).unfold(0, length, step), classes, name, overlapping=step < length)


def _stride(split: str | None, length: int, stride: int | None) -> int:
    """The distance between items: training items overlap, others follow each other."""
    return (stride or max(1, length // 4)) if split == "train" else length


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
    cuts = {"train": (0, 90), "valid": (90, 95), "test": (95, 100)}[chosen]
    data, letters = _share(_classes(path, raw, alphabet), *cuts), ALPHABETS[alphabet]
    found = _items(data, len(letters), f"{name}/{chosen}", chosen, length, stride)
    return replace(found, symbols=Letters(False, letters), bytes=torch.full((len(found),), length, device="cpu"))


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
