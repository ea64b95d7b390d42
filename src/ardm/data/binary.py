"""Text files of digits 0 and 1, and the binary density-estimation sets, which are published in such files."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch

from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder, splits
from ardm.data.published import ACCEPT, Bytes, fetch, first_folder, how_to_get, read_file
from ardm.errors import ArdmError

_MOST = 1 << 29
"""The most bytes of a file; the largest published one has 78 million."""


def read_bits(path: Path, separator: str, width: int | None = None, rows: int | None = None) -> Bytes:
    """Read the digits 0 and 1 of a text file as (rows, width) uint8: a line for each row, a separator between digits.

    width, rows: the expected numbers; None: any.
    Raises ArdmError, naming the line, for anything else in the file and for lines of another length.
    """
    data = read_file(path, _MOST).replace(b"\r\n", b"\n").replace(separator.encode() + b"\n", b"\n")
    data = data.rstrip(b"\n") + b"\n"
    line = data.index(b"\n") + 1
    if line < 2:
        raise ArdmError(f"{path} holds no digits")
    if width is not None and line != 2 * width:
        raise ArdmError(f"{path}: line 1 has {line // 2} values, expected {width}")
    bits = _cells(path, data, line, separator)[:, ::2] - np.uint8(ord("0"))
    if bits.max() > 1:
        number = int((bits > 1).any(1).argmax()) + 1
        raise ArdmError(f"{path}: line {number} holds a value other than 0 and 1")
    if rows is not None and len(bits) != rows:
        raise ArdmError(f"{path} has {len(bits)} rows, expected {rows}; {ACCEPT}")
    return np.ascontiguousarray(bits)


def _cells(path: Path, data: bytes, line: int, separator: str) -> Bytes:
    """The characters of a file as (rows, line), every second one being a separator or the end of its line."""
    cells = np.frombuffer(data, np.uint8)
    marks = np.full(line // 2, ord(separator), np.uint8)
    marks[-1] = ord("\n")
    if len(cells) == data.count(b"\n") * line and (cells.reshape(-1, line)[:, 1::2] == marks).all():
        return cells.reshape(-1, line)
    lengths = enumerate((len(text) + 1 for text in data.split(b"\n")[:-1]), 1)
    number = next((n for n, length in lengths if length != line), 1)
    raise ArdmError(f"{path}: line {number} is not {line // 2} digits 0 or 1 with {separator!r} between them")


_URL = "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/"
_SETS = {  # columns, and rows of train, valid and test
    "accidents": (111, 12758, 1700, 2551),
    "ad": (1556, 2461, 327, 491),
    "adult": (123, 5000, 1414, 26147),
    "baudio": (100, 15000, 2000, 3000),
    "bbc": (1058, 1670, 225, 330),
    "binarized_mnist": (784, 50000, 10000, 10000),
    "bnetflix": (100, 15000, 2000, 3000),
    "book": (500, 8700, 1159, 1739),
    "c20ng": (910, 11293, 3764, 3764),
    "connect4": (126, 16000, 4000, 47557),
    "cr52": (889, 6532, 1028, 1540),
    "cwebkb": (839, 2803, 558, 838),
    "dna": (180, 1600, 400, 1186),
    "jester": (100, 9000, 1000, 4116),
    "kdd": (65, 180092, 19907, 34955),
    "kosarek": (190, 33375, 4450, 6675),
    "moviereview": (1001, 1600, 150, 250),
    "msnbc": (17, 291326, 38843, 58265),
    "msweb": (294, 29441, 3270, 5000),
    "mushrooms": (112, 2000, 500, 5624),
    "nips": (500, 400, 100, 1240),
    "nltcs": (16, 16181, 2157, 3236),
    "ocr_letters": (128, 32152, 10000, 10000),
    "plants": (69, 17412, 2321, 3482),
    "pumsb_star": (163, 12262, 1635, 2452),
    "rcv1": (150, 40000, 10000, 150000),
    "tmovie": (500, 4525, 1002, 591),
    "tretail": (135, 22041, 2938, 4408),
    "voting": (1359, 1214, 200, 350),
}


def density(
    folder: Folder,
    split: str | None,
    set: str | None = None,
    download: bool = False,
    verify: bool = True,
    pixels: Sequence[int] | None = None,
) -> Dataset:
    """One of the binary density-estimation sets: items (N, D) uint8, 2 classes, no labels.

    folder: holds `NAME/NAME.train.data` and its companions, or has them in `datasets`, as the repository
    UCLA-StarAI/Density-Estimation-Datasets does: digits 0 or 1, commas between them, a line for each item.
    split: "train" or "fit", "valid" or "test".
    set: NAME, such as "adult", "connect4", "dna" or "nips".
    download: fetch the missing file into folder.
    verify: demand the published numbers of rows and columns (no checksums are published); False accepts any.
    pixels: (C, H, W) of a set of images, for networks of images; the columns are the pixels row by row, the C values
    of a pixel together.  ocr_letters is (1, 16, 8); connect4 is (3, 7, 6), the files of its board, each square empty or
    of one of two players.
    Raises ArdmError for an unknown name or split, pixels that do not match the columns, missing or damaged files, and a
    failed download.
    """
    name = known("density-estimation set", set, _SETS)
    split = splits(name, split)
    root, file = Path(folder).expanduser(), f"{name}/{name}.{split}.data"
    home = first_folder(root, ("datasets",), file)
    if home is None and download:
        fetch(_URL + file, None, root / name)
        home = root
    if home is None:
        raise ArdmError(f"no {file} in {root}; {how_to_get(file, _URL, root)}")
    width, *rows = _SETS[name]
    wanted = dict(zip(("train", "valid", "test"), rows, strict=True))[split] if verify else None
    bits = read_bits(home / file, ",", width if verify else None, wanted)
    items = torch.from_numpy(bits)
    if pixels is None:
        return Dataset(items, 2, f"{name}/{split}", shuffled=True)
    if len(pixels) != 3 or min(pixels) < 1 or prod(pixels) != items.shape[1]:
        raise ArdmError(
            f"pixels (C, H, W) must be {items.shape[1]} columns in all, those of {name}; got {tuple(pixels)}"
        )
    C, H, W = pixels
    return Dataset(items.view(-1, H, W, C).permute(0, 3, 1, 2).contiguous(), 2, f"{name}/{split}", shuffled=True)
