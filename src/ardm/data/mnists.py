"""MNIST and Fashion-MNIST from IDX files, grey or binarised, and the fixed binarised MNIST of Salakhutdinov."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ardm.data.binary import read_bits
from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder, splits
from ardm.data.published import Bytes, check_md5, fetch, how_to_get, read_file
from ardm.errors import ArdmError


@dataclass(frozen=True)
class _Idx:
    """Four published files: address, folders that may hold them, and {file: (MD5 of its .gz, MD5 of the file)}."""

    title: str
    url: str
    places: tuple[str, ...]
    md5: dict[str, tuple[str, str]]


_MNIST = _Idx(
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ("mnist", "MNIST/raw", "."),
    {
        "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    },
)
_FASHION = _Idx(
    "Fashion-MNIST",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ("fashion-mnist", "FashionMNIST/raw", "."),
    {
        "train-images-idx3-ubyte": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train-labels-idx1-ubyte": ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        "t10k-images-idx3-ubyte": ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        "t10k-labels-idx1-ubyte": ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    },
)
_SIDE, _SIZES = 28, (28, 14, 7)
_IDX_BYTES = 16 + 60_000 * _SIDE * _SIDE  # the largest of them


def mnist(
    folder: Folder,
    split: str | None,
    download: bool = False,
    verify: bool = True,
    binarize: str | None = None,
    size: int = _SIDE,
) -> Dataset:
    """MNIST from its IDX files: items (N, 1, size, size) uint8, 256 classes of value, labels 0..9.

    folder: holds `train-images-idx3-ubyte` and its three companions, gzipped or not (`train-images.idx3-ubyte` will
    do), directly or in `mnist` or `MNIST/raw`.
    split: "train" (60,000), "test" (10,000), or the parts of train: "fit" (the first 50,000) and "valid" (10,000).
    download: fetch missing files (11 MB) into folder/mnist.
    verify: demand the published MD5s (of the unpacked files); False accepts any number of items.
    binarize: two classes instead, ink 1.
        "threshold": ink where the pixel is above 127.
        "stochastic": one fixed sample, ink with probability pixel/255: where 255 u < pixel, with u in [0, 1) drawn in
        float32, item by item, from NumPy's PCG64 with seed 1 for fit, 2 for valid and 3 for test (train is fit, then
        valid).
        "dynamic": the grey items, which `binarize` samples again for each batch.
        The two random ones have the distribution of `binarized_mnist`, but are different samples.
    size: 28, or 14 or 7: means over squares of pixels, taken before binarisation.
    Raises ArdmError for an unknown split, binarisation or size, missing or damaged files, and a failed download.
    """
    return _idx_dataset(_MNIST, folder, split, download, verify, binarize, size)


def fashion_mnist(
    folder: Folder,
    split: str | None,
    download: bool = False,
    verify: bool = True,
    binarize: str | None = None,
    size: int = _SIDE,
) -> Dataset:
    """Fashion-MNIST from its IDX files: items (N, 1, size, size) uint8, 256 classes, labels 0..9.

    Everything as in `mnist`, except for the folders `fashion-mnist` and `FashionMNIST/raw` (30 MB).
    """
    return _idx_dataset(_FASHION, folder, split, download, verify, binarize, size)


def _idx_dataset(
    source: _Idx, folder: Folder, split: str | None, download: bool, verify: bool, binarize: str | None, size: int
) -> Dataset:
    if binarize is not None:
        known("binarisation", binarize, ("threshold", "stochastic", "dynamic"))
    if size not in _SIZES:
        raise ArdmError(f"size is {size}, expected one of {', '.join(map(str, _SIZES))}")
    known(f"split of {source.title}", split, ("train", "test", "fit", "valid"))
    images, labels = _idx_pair(source, Path(folder).expanduser(), split == "test", download, verify)
    if size != _SIDE:
        squares = images.reshape(len(images), size, _SIDE // size, size, _SIDE // size)
        images = (squares.mean((2, 4), dtype=np.float64) + 0.5).astype(np.uint8)
    cut = len(images) - len(images) // 6
    part = {"fit": slice(cut), "valid": slice(cut, None)}.get(str(split), slice(None))
    if binarize == "threshold":
        images = (images > 127).astype(np.uint8)
    elif binarize == "stochastic":
        seeds = ((images, 3),) if split == "test" else ((images[:cut], 1), (images[cut:], 2))
        images = np.concatenate([_sampled(some, seed) for some, seed in seeds])
    name, targets = source.title.lower().replace("-", "_"), torch.from_numpy(labels[part].astype(np.int64))
    made = Dataset(torch.from_numpy(images[part, None].copy()), 256, f"{name}/{split}", targets, shuffled=True)
    return made if binarize is None else replace(made, classes=2, grey=binarize == "dynamic")


def _idx_pair(source: _Idx, root: Path, test: bool, download: bool, verify: bool) -> tuple[Bytes, Bytes]:
    """The images (N, 28, 28) and labels (N,) of the training or the test files."""
    stem = "t10k" if test else "train"
    images = _idx_array(source, root, f"{stem}-images-idx3-ubyte", download, verify)
    labels = _idx_array(source, root, f"{stem}-labels-idx1-ubyte", download, verify)
    if len(images) != len(labels) or images.shape[1:] != (_SIDE, _SIDE):
        raise ArdmError(f"{source.title} in {root}: {len(labels)} labels, images {images.shape}; expected (N, 28, 28)")
    return images, labels


def _sampled(images: Bytes, seed: int) -> Bytes:
    """One Bernoulli sample of the intensities."""
    drawn = np.random.Generator(np.random.PCG64(seed)).random(images.shape, dtype=np.float32)
    return (drawn * np.float32(255) < images).astype(np.uint8)


def binarize(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Draw 0 or 1 for each intensity 0..255, independently: 1 with probability intensity/255.

    batch: integers of any shape; the result has the same shape, type and device.  All draws come from the generator.
    Sampling again for each training batch is the usual "dynamic" binarisation.
    """
    drawn = torch.rand(batch.shape, generator=generator, device=generator.device).to(batch.device)
    return (drawn * 255 < batch).to(batch.dtype)


def _idx_array(source: _Idx, root: Path, stem: str, download: bool, verify: bool) -> Bytes:
    """The array of one IDX file, downloaded first if necessary."""
    path = _idx_path(source, root, stem)
    if path is None and download:
        fetch(f"{source.url}{stem}.gz", source.md5[stem][0], root / source.places[0])
        path = _idx_path(source, root, stem)
    if path is None:
        home = root / source.places[0]
        get = how_to_get(f"{stem}.gz", source.url, home)
        raise ArdmError(f"no {source.title} in {root}: expected {home / stem}[.gz]; {get}")
    data = read_file(path, _IDX_BYTES)
    array = _idx_parse(path, data, 3 if "images" in stem else 1)
    if verify:
        check_md5(path, data, source.md5[stem][1])
    return array


def _idx_path(source: _Idx, root: Path, stem: str) -> Path | None:
    names = [name + end for name in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz")]
    paths = (root / place / name for place in source.places for name in names)
    return next((path for path in paths if path.is_file()), None)


def _idx_parse(path: Path, data: bytes, ndim: int) -> Bytes:
    """Parse two zero bytes, the type (8: uint8), the number of axes, their lengths (4 bytes, big-endian), and the values."""
    magic, header = data[:4], 4 + 4 * ndim
    if magic != bytes((0, 0, 8, ndim)):
        raise ArdmError(f"{path} begins with 0x{magic.hex()}, expected 0x0000080{ndim}: not an IDX file of {ndim} axes")
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
    if len(data) != header + math.prod(shape) or not all(shape):
        raise ArdmError(f"{path} has {len(data)} bytes, but its header announces {header} + {shape}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


_AMAT_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_AMAT_ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
_AMAT_MD5 = {
    "train": "0922fefc9a9d097e3b086b89107fafce",
    "valid": "65e8099613162b3110a7618037011617",
    "test": "0fa539ed8cb008880a61be77f744f06a",
}
"""Checksums of the first ten images with one byte per pixel, from the tests of the Fuel library."""


def binarized_mnist(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Dataset:
    """The fixed binarised MNIST of Salakhutdinov and Murray (2008) in Larochelle's files: items (N, 1, 28, 28) uint8.

    Two classes, ink 1, no labels.  Most published figures in nats per image are on this sample.
    folder: holds `binarized_mnist_train.amat` and its companions `_valid` and `_test`, gzipped or not, directly or in
    `binarized_mnist`: 784 digits 0 or 1 per line, with spaces between them.
    split: "train" or "fit" (50,000), "valid" (10,000) or "test" (10,000).
    download: fetch the missing file into folder/binarized_mnist.
    verify: demand the number of lines and the first ten images of the published file; False accepts any lines.
    Raises ArdmError for an unknown split, missing or damaged files, and a failed download.
    """
    split = splits("binarised MNIST", split, _AMAT_ROWS)
    root, name = Path(folder).expanduser(), f"binarized_mnist_{split}.amat"
    places = [place / (name + end) for place in (root, root / "binarized_mnist") for end in ("", ".gz")]
    if download and not any(path.is_file() for path in places):
        fetch(_AMAT_URL + name, None, root / "binarized_mnist")
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise ArdmError(f"no {name} in {root}; {how_to_get(name, _AMAT_URL, root / 'binarized_mnist')}")
    bits = read_bits(path, " ", 784, _AMAT_ROWS[split] if verify else None)
    if verify:
        check_md5(path, bits[:10].tobytes(), _AMAT_MD5[split])
    return Dataset(torch.from_numpy(bits.reshape(-1, 1, 28, 28)), 2, f"binarized_mnist/{split}")
