"""Pictures for a codec as one data set, of several kinds in chosen shares.

pictures        CIFAR-10, crops of photographs of any size, grey copies, synthetic pictures
grey_pictures   MNIST, crops of photographs in grey, synthetic pictures: one channel
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image

from ardm.data.cifar import cifar10
from ardm.data.dataset import Dataset
from ardm.data.drawn import drawn
from ardm.data.folders import SHARES, Files, Folder, files_in, in_split, splits, survey
from ardm.data.image_folder import PICTURES
from ardm.data.mnists import mnist
from ardm.data.published import Bytes
from ardm.errors import ArdmError, parsing

GREY = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in a grey copy."""
JPEG = (".jpg", ".jpeg")
PUBLISHED, DIGIT = 32, 28
"""The sides of the pictures of CIFAR-10 and of MNIST."""


def pictures(
    folder: Folder,
    split: str | None = "train",
    download: bool = False,
    verify: bool = True,
    size: int = PUBLISHED,
    photos: str = "",
    crops: int = 50_000,
    reduce: Sequence[int] = (1, 2, 3),
    grey: float = 0.05,
    synthetic: float = 0.05,
) -> Dataset:
    """Pictures of several kinds: items (N, 3, size, size) uint8, 256 classes, in a random order that is always the same.

    folder, split, download, verify: of CIFAR-10, see `cifar10`; it takes part if size is 32 and folder is not "".
    photos: a folder of photographs of any size, searched with its subfolders; "": none.  A stable hash assigns each file
    to a split, as in `images`; "fit" is "train" for them.  None takes all of them, and CIFAR-10's training set.
    crops: of all training photographs together, equally many of each; of validation and test photographs a twentieth.
    reduce: each crop is reduced by one of these factors, as means of squares of pixels.  JPEG files are never taken
    unreduced, because a network would learn their blocks; leave out 1 for other files with such a past.
    grey: the share of all items that are grey copies of others, with three equal channels.
    synthetic: the share that is drawn: flat areas, gradients, lines, marks like text.
    Raises ArdmError for settings out of range, where no picture is found, and what `cifar10` and Pillow raise.
    """
    _refuse(size, crops, reduce, grey, synthetic)
    generator = np.random.default_rng([size, crops, *(split or "").encode()])
    parts: list[Bytes] = []
    if str(folder) and size == PUBLISHED:
        parts.append(cifar10(folder, split or "train", download, verify).items.numpy())
    more, files = _all_crops(photos, split, crops, size, reduce, generator)
    parts += more
    taken = sum(map(len, parts))
    if not taken:
        raise ArdmError(
            f"no pictures of {size} x {size}: give a folder with CIFAR-10 (side 32), or photographs of at least that size"
        )
    total = taken / (1 - grey - synthetic)
    parts.append(_grey(parts, round(grey * total), generator))
    parts.append(drawn(round(synthetic * total), size, generator))
    name = f"pictures/{split or 'all'}"
    return Dataset(torch.from_numpy(_shuffled(parts, generator)), 256, name, files=files, shuffled=True)


def grey_pictures(
    folder: Folder,
    split: str | None = "train",
    download: bool = False,
    verify: bool = True,
    photos: str = "",
    crops: int = 50_000,
    reduce: Sequence[int] = (1, 2, 3),
    synthetic: float = 0.05,
) -> Dataset:
    """Grey pictures of two kinds: items (N, 1, 28, 28) uint8, 256 classes, in a random order that is always the same.

    folder, split, download, verify: of MNIST, see `mnist`.  photos, crops, reduce: as in `pictures`, then made grey.
    synthetic: the share of all items that is drawn.
    Raises ArdmError for settings out of range, and what `mnist` and Pillow raise.
    """
    _refuse(DIGIT, crops, reduce, 0.0, synthetic)
    generator = np.random.default_rng([DIGIT, crops, *(split or "").encode()])
    digits = mnist(folder, split or "train", download, verify).items.numpy()
    colour, files = _all_crops(photos, split, crops, DIGIT, reduce, generator)
    total = (len(digits) + sum(map(len, colour))) / (1 - synthetic)
    colour.append(drawn(round(synthetic * total), DIGIT, generator))
    parts = [digits, *(_light(part)[:, None] for part in colour)]
    name = f"grey/{split or 'all'}"
    return Dataset(torch.from_numpy(_shuffled(parts, generator)), 256, name, files=files, shuffled=True)


def _refuse(size: int, crops: int, reduce: Sequence[int], grey: float, synthetic: float) -> None:
    if size < 1 or crops < 1 or min(reduce, default=0) < 1 or min(grey, synthetic) < 0 or grey + synthetic >= 1:
        raise ArdmError(
            "size, crops and the factors of reduce are at least 1, and grey and synthetic are shares of less than 1 together; "
            f"got size {size}, crops {crops}, reduce {tuple(reduce)}, grey {grey}, synthetic {synthetic}"
        )


def _photographs(photos: str, split: str | None) -> tuple[list[Path], Files]:
    """The photographs of a split, which may be none, and a survey of their folder."""
    root = Path(photos).expanduser()
    part = None if split is None else splits("photographs", split, SHARES)
    every = files_in(root, PICTURES, "photographs")
    found = [path for path in every if part is None or in_split(path.relative_to(root).as_posix(), part)]
    return found, survey(root, found, lambda path: path.suffix.lower() in PICTURES, "photographs")


def _all_crops(
    photos: str, split: str | None, crops: int, size: int, reduce: Sequence[int], generator: Generator
) -> tuple[list[Bytes], Files | None]:
    """Crops of every photograph of a split, equally many of each, and a survey of their folder."""
    found, files = _photographs(photos, split) if photos else ([], None)
    each = max(1, crops // max(1, len(found)) // (20 if split in ("valid", "test") else 1))
    return [_crops(path, each, size, reduce, generator) for path in found], files


def _crops(path: Path, count: int, size: int, reduce: Sequence[int], generator: Generator) -> Bytes:
    """(count, 3, size, size): random crops of a photograph, each reduced by a random factor; none if it is too small."""
    with parsing(f"{path} cannot be read as an image"), Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ArdmError(f"{path} has more than 8 bits per channel: convert it to 8 bits first")
        pixels = np.asarray(image.convert("RGB"))
    side, jpeg = min(pixels.shape[:2]), path.suffix.lower() in JPEG
    factors = [f for f in reduce if size * f <= side and not (f == 1 and jpeg)]
    items = np.empty((count if factors else 0, 3, size, size), np.uint8)
    for item, factor in zip(items, generator.choice(factors or [1], len(items)), strict=True):
        y, x = (int(generator.integers(n - size * factor + 1)) for n in pixels.shape[:2])
        square = pixels[y : y + size * factor, x : x + size * factor].reshape(size, factor, size, factor, 3)
        item[:] = np.floor(square.mean((1, 3)) + 0.5).astype(np.uint8).transpose(2, 0, 1)
    return items


def _grey(parts: Sequence[Bytes], count: int, generator: Generator) -> Bytes:
    """(count, 3, H, W): grey copies of random items, whose channels are equal."""
    edges = np.cumsum([0, *map(len, parts)])
    at = np.sort(generator.integers(edges[-1], size=count))
    chosen = [part[at[(at >= a) & (at < a + len(part))] - a] for part, a in zip(parts, edges, strict=False)]
    return np.repeat(_light(np.concatenate(chosen))[:, None], 3, 1)


def _light(items: Bytes) -> Bytes:
    """Items (n, 3, H, W) in grey, (n, H, W)."""
    return np.floor(np.tensordot(items.astype(np.float64), GREY, (1, 0)) + 0.5).astype(np.uint8)


def _shuffled(parts: Sequence[Bytes], generator: Generator) -> Bytes:
    """All items in one array, in random order."""
    items = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.uint8)
    place, first = generator.permutation(len(items)), 0
    for part in parts:
        items[place[first : first + len(part)]] = part
        first += len(part)
    return items
