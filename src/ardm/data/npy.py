"""Arrays of non-negative integers from .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ardm.data.checks import known
from ardm.data.dataset import Dataset, smallest
from ardm.data.folders import Folder, rows_in, splits, survey
from ardm.errors import ArdmError, parsing


def arrays(path: Folder, split: str | None = None, classes: int | None = None) -> Dataset:
    """Arrays from .npy: items (N, *shape) in the smallest of uint8, int16, int32 and int64; no labels.

    path: a file, or a folder that holds `train.npy`, `valid.npy`, `test.npy` or other splits by name.
    split: in a folder, the name of the file without its suffix, where "fit" means "train" if there is no fit.npy; of a
    single file "train" or "fit" (90 %), "valid" (5 %) or "test" (5 %), to which a stable hash of its number assigns each
    item; None takes all.
    classes: K; None takes the largest value + 1, over all .npy files of the folder, or of the single file.
    Raises ArdmError for missing files, pickles (object arrays, never loaded), floats, negative values, values of K or
    more, and arrays with fewer than two axes or without items.
    """
    root = Path(path).expanduser()
    file, files = _array_file(root, split)
    split = file.stem if split is not None and root.is_dir() else split
    values = integers(file)
    top = int(values.max())
    if classes is None:
        classes = 1 + max([top, *(int(integers(other).max()) for other in files if other != file)])
    if top >= classes:
        raise ArdmError(f"{file} holds the value {top}, but classes={classes} allows 0..{classes - 1}")
    if split is not None and not root.is_dir():
        values = values[rows_in(len(values), splits(str(root), split), root, "items")]
    items = torch.from_numpy(np.array(values, dtype=smallest(classes), order="C"))
    name = f"{root.stem if root.is_file() else root.name}/{split}" if split else root.stem
    return Dataset(items, classes, name, files=survey(root, [file], files.__contains__, "arrays"))


def _array_file(root: Path, split: str | None) -> tuple[Path, list[Path]]:
    """The file of a split, and all files of the same classes."""
    if not root.is_dir():
        return root, [root]
    files = {file.stem: file for file in sorted(root.glob("*.npy"))}
    if not files:
        raise ArdmError(f"no .npy files in {root}: expected train.npy, valid.npy, test.npy")
    chosen = "train" if split == "fit" and "fit" not in files else split
    return files[known(f"split in {root}", chosen, files)], list(files.values())


def integers(path: Path) -> npt.NDArray[Any]:
    """Map a .npy file into memory.  Raises ArdmError unless it holds non-negative integers (N, *shape)."""
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
