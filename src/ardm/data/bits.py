"""Rows of digits 0 and 1 in text files, and the binary density-estimation sets, which are published so."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch

from ardm.data.base import Bytes, Dataset, Folder, fetch, first_folder, known, read_file, splits
from ardm.errors import ArdmError

_MOST = 1 << 29
"""Bytes of a file of bits; the largest of the published ones has 78 million."""


def read_bits(path: Path, separator: str, width: int | None = None, rows: int | None = None) -> Bytes:
    """The digits of a text file as (rows, width) uint8: digits 0 and 1, one separator between two, a line for each row.

    width, rows: how many there must be; None: as many as there are.
    Raises ArdmError, naming the line, for anything else in the file or lines of another length.
    """
    data = (
        read_file(path, _MOST).replace(b"\r\n", b"\n").replace(separator.encode() + b"\n", b"\n").rstrip(b"\n") + b"\n"
    )
    first = data.index(b"\n") + 1
    if first < 2:
        raise ArdmError(f"{path} holds no digits")
    if width is not None and first != 2 * width:
        raise ArdmError(f"{path}: line 1 has {first // 2} values, expected {width}")
    lines = data.count(b"\n")
    cells = np.frombuffer(data, np.uint8)
    marks = np.full(first, ord(separator), np.uint8)
    marks[-1] = ord("\n")
    if len(cells) != lines * first or (cells.reshape(-1, first)[:, 1::2] != marks[1::2]).any():
        lengths = enumerate((len(line) + 1 for line in data.split(b"\n")[:-1]), 1)
        line = next((n for n, length in lengths if length != first), 1)
        raise ArdmError(f"{path}: line {line} is not {first // 2} digits 0 or 1 with {separator!r} between them")
    bits = cells.reshape(-1, first)[:, ::2] - np.uint8(ord("0"))
    if bits.max() > 1:
        line = int((bits > 1).any(1).argmax()) + 1
        raise ArdmError(f"{path}: line {line} holds another value than 0 and 1")
    if rows is not None and len(bits) != rows:
        raise ArdmError(
            f"{path} has {len(bits)} rows, expected {rows}; set data.verify=false (from Python: verify=False) if it is meant to differ"
        )
    return np.ascontiguousarray(bits)


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
    split: "train" or "fit", "valid" or "test".  set: NAME, such as "adult", "connect4", "dna" or "nips".
    download: fetch the missing file into folder.
    verify: demand the published numbers of rows and columns (no checksums are published); False accepts any.
    pixels: (C, H, W) of sets that are pictures, for networks of images: row by row, the C columns of a pixel together.
    So ocr_letters is (1, 16, 8), and connect4 (3, 7, 6): its board by files, each square empty, of one or of the other.
    Raises ArdmError for an unknown name or split, other pixels than columns, missing or damaged files, a failed download.
    """
    name = known("density-estimation set", set, _SETS)
    split = splits(name, split)
    root, file = Path(folder).expanduser(), f"{name}/{name}.{split}.data"
    home = first_folder(root, ("datasets",), file)
    if home is None and download:
        fetch(_URL + file, None, root / name)
        home = root
    if home is None:
        raise ArdmError(
            f"no {file} in {root}; set data.download=true (from Python: download=True), or put it (from {_URL}) there"
        )
    width, *rows = _SETS[name]
    wanted = dict(zip(("train", "valid", "test"), rows, strict=True))[split] if verify else None
    bits = read_bits(home / file, ",", width if verify else None, wanted)
    items = torch.from_numpy(bits)
    if pixels is None:
        return Dataset(items, 2, f"{name}/{split}")
    if len(pixels) != 3 or min(pixels) < 1 or prod(pixels) != items.shape[1]:
        raise ArdmError(
            f"pixels (C, H, W) must be {items.shape[1]} columns in all, those of {name}; got {tuple(pixels)}"
        )
    C, H, W = pixels
    return Dataset(items.view(-1, H, W, C).permute(0, 3, 1, 2).contiguous(), 2, f"{name}/{split}")
