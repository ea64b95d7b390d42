"""Arrays of integers from .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ardm.data.base import FEW, SHARES, Dataset, Folder, known, place, smallest, splits, survey
from ardm.errors import ArdmError, parsing


def arrays(path: Folder, split: str | None = None, classes: int | None = None) -> Dataset:
    """Non-negative integers from .npy: items (N, *shape) in the smallest of uint8, int16, int32 and int64; no labels.

    path: a file, or a folder that holds `train.npy`, `valid.npy`, `test.npy` or other splits by name.
    split: the name of the file in a folder, without its suffix; of a single file "train" or "fit", "valid" or "test", a
    share of 90, 5 and 5 % by a hash of the number of the item; None for all of it.
    classes: K; None takes the largest value + 1, over all the .npy files of a folder, or all of a file.
    Raises ArdmError for missing files, pickles (object arrays, never loaded), floats, negative values, values of K or
    more, and arrays of fewer than two axes or without items.
    """
    root = Path(path).expanduser()
    file, files = _array_file(root, split)
    values = integers(file)
    top = int(values.max())
    if classes is None:
        classes = 1 + max([top, *(int(integers(other).max()) for other in files if other != file)])
    if top >= classes:
        raise ArdmError(f"{file} holds the value {top}, but classes={classes} allows 0..{classes - 1}")
    if split is not None and not root.is_dir():
        low, high = SHARES[splits(str(root), split)]
        chosen = np.array([low <= place(f"row {n}") < high for n in range(len(values))])
        if not chosen.any():
            raise ArdmError(f"none of the {len(values)} items of {root} falls into the split {split!r}; {FEW}")
        values = values[chosen]
    items = torch.from_numpy(np.array(values, dtype=smallest(classes), order="C"))
    name = f"{root.stem if root.is_file() else root.name}/{split}" if split else root.stem
    return Dataset(items, classes, name, files=survey(root, [file], files.__contains__, "arrays"))


def _array_file(root: Path, split: str | None) -> tuple[Path, list[Path]]:
    """The file of a split, and all files that share its classes."""
    if not root.is_dir():
        return root, [root]
    files = {file.stem: file for file in sorted(root.glob("*.npy"))}
    if not files:
        raise ArdmError(f"no .npy files in {root}: expected train.npy, valid.npy, test.npy")
    return files[known(f"split in {root}", split, files)], list(files.values())


def integers(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read as it is used, if it is one of non-negative integers (N, *shape)."""
    if not path.exists():
        raise ArdmError(f"no file {path}: expected an .npy array of integers (N, *shape)")
    with parsing(f"{path} cannot be read as .npy, and pickles are never loaded"):
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        values.close()
        raise ArdmError(f"{path} is an .npz archive, expected .npy: save one array with numpy.save")
    if values.dtype.kind not in "biu":
        raise ArdmError(f"{path} holds {values.dtype}, expected non-negative integers 0..K−1: quantise them first")
    if values.ndim < 2 or not values.size:
        raise ArdmError(f"{path} has shape {values.shape}, expected (N, *shape) with at least one value")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**63 - 1:
        raise ArdmError(f"{path} holds values {low}..{high}, expected 0..K−1: add an offset first")
    return values
