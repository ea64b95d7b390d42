"""Data sets as integer tensors: CIFAR-10, MNIST, Fashion-MNIST, folders of images and .npy arrays.

A data set is N items of one shape, every value in 0..K−1: what the paper's models are defined on (section 2).  Images
are (N, C, H, W).  `batches` and `augment` turn one into what a training run reads.

Read me first:
* Published files are read in their published layout and checked by MD5, so that a number measured here is measured on
  the same data as everybody's; pickles are never loaded.  `verify=False` accepts cut-down copies.
* "fit" and "valid" are the two parts of "train" (45,000 + 5,000 of CIFAR-10, 50,000 + 10,000 of the MNISTs): choose
  with them, and leave "test" for the final measurement.
* Batch n of a run is a function of (items, batch, seed, n) alone: a resumed run sees what an unbroken one would have.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import math
import os
import re
import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ardm.errors import ArdmError

Folder = str | os.PathLike[str]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N items of one shape, every value in 0..classes−1.

    items: (N, *shape) integers, in the smallest type that holds them: uint8 up to 256 classes; images are (N, C, H, W).
    classes: K.  name: where they come from, for logs ("cifar10/test").  labels: (N,) int64, or None.
    Raises ArdmError where items and labels do not fit each other.
    """

    items: Tensor
    classes: int
    name: str
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.items.ndim < 2 or self.items.is_floating_point():
            raise ArdmError(f"items must be integers (N, *shape); got {self.items.dtype} {tuple(self.items.shape)}")
        if self.labels is not None and self.labels.shape != self.items.shape[:1]:
            raise ArdmError(f"{len(self.items)} items, but labels of shape {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> torch.Size:
        """The shape of one item, (C, H, W) for images."""
        return self.items.shape[1:]

    def subset(self, index: slice | Sequence[int] | Tensor) -> Dataset:
        """The items at a slice (no copy), at positions (n,) or where a mask (N,) is true."""
        where = index if isinstance(index, slice) else torch.as_tensor(index)
        labels = None if self.labels is None else self.labels[where]
        return replace(self, items=self.items[where], labels=labels)


def load(name: str, folder: Folder, split: str | None = None, download: bool = False, **options: Any) -> Dataset:
    """A data set by its name: "cifar10", "mnist", "fashion_mnist", "images" or "array".

    folder, split, download and the options are those of the function of that name (of `arrays` for "array").
    Raises ArdmError for an unknown name or option, suggesting the nearest, and whatever that function raises.
    """
    reader = _READERS[_known("data set", name, _READERS)]
    if download:
        options["download"] = True
    takes = list(inspect.signature(reader).parameters)[2:]
    for option in options:
        _known(f"option of {name!r}", option, takes)
    return reader(folder, split, **options)


# ----------------------------------------------------------------------------------------------------------- CIFAR-10

_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
_CIFAR_RECORD = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes, row by row
_CIFAR_BYTES = 10_000 * _CIFAR_RECORD
_CIFAR_PICKLES = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")


def cifar10(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Dataset:
    """CIFAR-10 from its binary version: items (N, 3, 32, 32) uint8, 256 classes of value, labels 0..9.

    folder: holds `cifar-10-batches-bin`, or is it, or holds `cifar-10-binary.tar.gz`, which is then unpacked there.
    split: "train" (50,000), "test" (10,000), or the parts of train: "fit" (the first 45,000: batches 1-4 and half of
    batch 5) and "valid" (the last 5,000).
    download: fetch the archive (170 MB) into folder if the files are not there.
    verify: demand the published sizes and MD5s; False accepts cut-down copies: any whole number of records a file.
    Raises ArdmError for an unknown split, missing or damaged files, pickles instead of binaries, a failed download.
    """
    files = list(_CIFAR_MD5)
    names = {"train": files[:5], "fit": files[:5], "valid": files[4:5], "test": files[5:]}
    wanted = names[_known("split of CIFAR-10", split, names)]
    home = _cifar_home(Path(folder).expanduser(), wanted, download)
    records = [_cifar_records(home / name, verify) for name in wanted]
    half = len(records[-1]) // 2
    records[-1] = {"fit": records[-1][:half], "valid": records[-1][half:]}.get(str(split), records[-1])
    items = np.concatenate([part[:, 1:] for part in records]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[:, 0] for part in records]).astype(np.int64)
    return Dataset(torch.from_numpy(items), 256, f"cifar10/{split}", torch.from_numpy(labels))


def _cifar_home(folder: Path, wanted: Sequence[str], download: bool) -> Path:
    """Where the wanted files lie, after unpacking and fetching what is needed for that."""
    home = folder / _CIFAR_FOLDER
    for place in (home, folder):
        if all((place / name).is_file() for name in wanted):
            return place
    if download:
        _fetch(_CIFAR_URL + _CIFAR_ARCHIVE, _CIFAR_ARCHIVE_MD5, folder)
    if (folder / _CIFAR_ARCHIVE).is_file():
        _cifar_unpack(folder / _CIFAR_ARCHIVE, home)
        return home
    get = f"pass download=True, or put {_CIFAR_ARCHIVE} (from {_CIFAR_URL}) into {folder}"
    for pickled in _CIFAR_PICKLES:
        if (folder / pickled).exists():
            raise ArdmError(
                f"{folder / pickled} is the Python version of CIFAR-10: pickles, which can run any code and are never "
                f"loaded; the binary version holds the same images: {get}"
            )
    lost = next(name for name in wanted if not (home / name).is_file())
    raise ArdmError(f"no CIFAR-10 in {folder}: expected {home / lost}; {get}")


def _cifar_unpack(archive: Path, home: Path) -> None:
    """Write the six .bin files of the archive into home, and nothing else, whatever names the archive holds."""
    missing = {f"{_CIFAR_FOLDER}/{name}": home / name for name in _CIFAR_MD5 if not (home / name).is_file()}
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                target = missing.pop(member.name.removeprefix("./"), None)
                if target is not None:
                    _cifar_unpack_one(tar, member, target)
                if not missing:
                    return
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ArdmError(f"cannot unpack {archive}: {error}; if it is damaged, delete it and fetch it again") from error
    raise ArdmError(f"{archive} is not the binary version of CIFAR-10: it lacks {next(iter(missing))}")


def _cifar_unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member) if member.isreg() else None
    if source is None or member.size > _CIFAR_BYTES:
        raise tarfile.TarError(f"{member.name} is not a file of at most {_CIFAR_BYTES} bytes")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        part.replace(target)  # in one go: another process never sees half a file
    finally:
        part.unlink(missing_ok=True)


def _cifar_records(path: Path, verify: bool) -> Bytes:
    """The records of one file: (n, 3073)."""
    data = _read(path, _CIFAR_BYTES)
    if len(data) % _CIFAR_RECORD or not data or (verify and len(data) != _CIFAR_BYTES):
        want = f"{_CIFAR_BYTES}" if verify else f"a multiple of {_CIFAR_RECORD}"
        raise ArdmError(f"{path} has {len(data)} bytes, expected {want}; delete it and fetch it again")
    if verify:
        _check_md5(path, data, _CIFAR_MD5[path.name])
    records: Bytes = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    if records[:, 0].max() > 9:
        raise ArdmError(f"{path} holds label {records[:, 0].max()}, expected 0..9: not a file of CIFAR-10")
    return records


# -------------------------------------------------------------------------------------------- MNIST and Fashion-MNIST


@dataclass(frozen=True)
class _Idx:
    """Four published files: {file: (MD5 of its .gz, MD5 unpacked)}, where they are had and where they may lie."""

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
_IDX_BYTES = 16 + 60_000 * 28 * 28  # the largest of them


def mnist(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Dataset:
    """MNIST from its IDX files: items (N, 1, 28, 28) uint8, 256 classes of value, labels 0..9.

    folder: holds `train-images-idx3-ubyte` and its three companions, gzipped or not (`train-images.idx3-ubyte` will
    do), or has them in `mnist` or `MNIST/raw`.
    split: "train" (60,000), "test" (10,000), or the parts of train: "fit" (the first 50,000) and "valid" (10,000).
    download: fetch missing files (11 MB) into folder/mnist.
    verify: demand the published MD5s (of the unpacked files); False accepts any number of items.
    Raises ArdmError for an unknown split, missing or damaged files, a failed download.
    """
    return _idx_dataset(_MNIST, folder, split, download, verify)


def fashion_mnist(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Dataset:
    """Fashion-MNIST, whose files are named as those of `mnist`: items (N, 1, 28, 28) uint8, 256 classes, labels 0..9.

    Everything as in `mnist`, but the folders are `fashion-mnist` and `FashionMNIST/raw` (30 MB).
    """
    return _idx_dataset(_FASHION, folder, split, download, verify)


def _idx_dataset(source: _Idx, folder: Folder, split: str | None, download: bool, verify: bool) -> Dataset:
    _known(f"split of {source.title}", split, ("train", "test", "fit", "valid"))
    stem = "t10k" if split == "test" else "train"
    root = Path(folder).expanduser()
    images = _idx_array(source, root, f"{stem}-images-idx3-ubyte", download, verify)
    labels = _idx_array(source, root, f"{stem}-labels-idx1-ubyte", download, verify)
    if len(images) != len(labels) or images.shape[1:] != (28, 28):
        raise ArdmError(f"{source.title} in {root}: {len(labels)} labels, images {images.shape}; expected (N, 28, 28)")
    cut = len(images) - len(images) // 6
    part = {"fit": slice(cut), "valid": slice(cut, None)}.get(str(split), slice(None))
    items, targets = torch.from_numpy(images[part, None].copy()), torch.from_numpy(labels[part].astype(np.int64))
    name = source.title.lower().replace("-", "_")
    return Dataset(items, 256, f"{name}/{split}", targets)


def _idx_array(source: _Idx, root: Path, stem: str, download: bool, verify: bool) -> Bytes:
    """The array of one IDX file, which is fetched first if need be."""
    path = _idx_path(source, root, stem)
    if path is None and download:
        _fetch(f"{source.url}{stem}.gz", source.md5[stem][0], root / source.places[0])
        path = _idx_path(source, root, stem)
    if path is None:
        raise ArdmError(
            f"no {source.title} in {root}: expected {root / source.places[0] / stem}[.gz]; pass download=True, or put "
            f"{stem}.gz (from {source.url}) there"
        )
    data = _read(path, _IDX_BYTES)
    array = _idx_parse(path, data, 3 if "images" in stem else 1)
    if verify:
        _check_md5(path, data, source.md5[stem][1])
    return array


def _idx_path(source: _Idx, root: Path, stem: str) -> Path | None:
    names = [name + end for name in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz")]
    paths = (root / place / name for place in source.places for name in names)
    return next((path for path in paths if path.is_file()), None)


def _idx_parse(path: Path, data: bytes, ndim: int) -> Bytes:
    """Two zero bytes, the type (8: uint8), the number of axes, their lengths (big-endian, 4 bytes each), the values."""
    magic, header = data[:4], 4 + 4 * ndim
    if magic != bytes((0, 0, 8, ndim)):
        raise ArdmError(f"{path} begins with 0x{magic.hex()}, expected 0x0000080{ndim}: not an IDX file of {ndim} axes")
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
    if len(data) != header + math.prod(shape) or not all(shape):
        raise ArdmError(f"{path} has {len(data)} bytes, but its header announces {header} + {shape}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


# ------------------------------------------------------------------------------------------------- images and arrays

_SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".gif", ".jpg", ".jpeg"}
_FORMATS = ("PNG", "WEBP", "TIFF", "PPM", "BMP", "GIF", "JPEG")
_SHARES = {"train": (0.0, 0.9), "valid": (0.9, 0.95), "test": (0.95, 1.0)}


def images(
    folder: Folder,
    split: str | None = None,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
) -> Dataset:
    """A folder of images of one size: items (N, C, H, W) uint8, 256 classes, no labels.

    folder: searched with its subfolders, in the order of the relative paths; what is not an image (by its suffix) or
    is hidden is passed over.
    split: "train" (90 %), "valid" (5 %) or "test" (5 %), decided for each file by a hash of its relative path, so that
    it stays where it is when others come or go; None takes all.
    size: the size that all must have, H = W or (H, W); None takes that of the first.  Nothing is resized.
    channels: 1 for grey, 3 for RGB (grey images and palettes are then converted, which loses nothing); None takes those
    of the first, and refuses palettes.
    Raises ArdmError for a missing folder, an empty split, and, naming the first such file, a broken image, another size
    or other channels, an alpha channel, more than 8 bits a channel, more than one frame.
    """
    root = Path(folder).expanduser()
    if channels not in (None, 1, 3):
        raise ArdmError(f"channels is {channels!r}, expected 1 (grey), 3 (RGB) or None (those of the first image)")
    paths = _image_paths(root, split)
    first = _pixels(paths[0], channels)
    expected = first.shape if size is None else (len(first), *_height_width(size))
    items = torch.empty((len(paths), *expected), dtype=torch.uint8)
    for n, path in enumerate(paths):
        image = _pixels(path, channels) if n else first
        if image.shape != expected:
            reason = "as asked" if size is not None else f"like {paths[0]}"
            raise ArdmError(f"{path} is {_extent(image.shape)}, expected {_extent(expected)} {reason}")
        items[n] = torch.from_numpy(image)
    return Dataset(items, 256, f"{root.resolve().name}/{split or 'all'}")


def _height_width(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ArdmError(f"size is {size!r}, expected a side or (height, width)")
    return sides[0], sides[1]


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]} (height x width) with {shape[0]} channel{'s' * (shape[0] > 1)}"


def _image_paths(root: Path, split: str | None) -> list[Path]:
    """The image files of a split, sorted by relative path."""
    if split is not None:
        _known("split of a folder", split, _SHARES)
    if not root.is_dir():
        raise ArdmError(f"no folder {root}: expected a folder of images ({' '.join(sorted(_SUFFIXES))})")
    names = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    keys = sorted(name.as_posix() for name in names if (root / name).is_file())
    if not keys:
        raise ArdmError(f"no images in {root}: expected files ending in {' '.join(sorted(_SUFFIXES))}")
    low, high = _SHARES.get(str(split), (0.0, 1.0))
    chosen = [root / key for key in keys if low <= _place(key) < high]
    if not chosen:
        raise ArdmError(f"none of the {len(keys)} images in {root} falls into the split {split!r}; use split=None")
    return chosen


def _place(key: str) -> float:
    """A number in [0, 1) that belongs to a relative path, on every system."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", key).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _pixels(path: Path, channels: int | None) -> Bytes:
    """One image, (C, H, W)."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            deep = _deep(image.tile)
            frames = getattr(image, "n_frames", 1)
            image.load()
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ArdmError(f"{path} cannot be read as an image: {error}") from error
    refusal = _refusal(image, deep, frames, channels)
    if refusal:
        raise ArdmError(f"{path} {refusal}")
    colour = channels == 3 or image.mode == "RGB"
    pixels = np.asarray(image.convert("RGB" if colour else "L"))
    planes = pixels.transpose(2, 0, 1) if colour else pixels[None]
    return np.array(planes, np.uint8)


def _deep(tiles: list[Any]) -> bool:
    """Whether an image not yet loaded has 16 bits a channel: of RGB, Pillow would drop the low bytes without a word."""
    ppm = any(tile[0].startswith("ppm") and isinstance(tile[3], tuple) and (tile[3][1] or 0) > 255 for tile in tiles)
    return ppm or re.search(";16[BLN]", str(tiles)) is not None


def _refusal(image: Image.Image, deep: bool, frames: int, channels: int | None) -> str:
    """Why an image is not taken, or an empty string."""
    mode = image.mode
    if frames > 1:
        return f"has {frames} frames: save each as an image of its own"
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return "has transparency (an alpha channel): flatten it onto a background, or save it without alpha"
    if deep or mode not in ("1", "L", "P", "RGB"):
        bits = "16 bits a channel" if deep else f"mode {mode!r}"
        return f"has {bits}, expected 8-bit grey or RGB: convert it first, or give the values as an .npy array"
    if mode == "P" and channels != 3:
        return "has a palette: pass channels=3 to have it converted to RGB"
    return "is RGB, but channels=1 was asked: convert it to grey first" if mode == "RGB" and channels == 1 else ""


def arrays(path: Folder, split: str | None = None, classes: int | None = None) -> Dataset:
    """Non-negative integers from .npy: items (N, *shape) in the smallest of uint8, int16, int32 and int64; no labels.

    path: a file, or a folder that holds `train.npy`, `valid.npy`, `test.npy` or other splits by name.
    split: the name of the file in a folder, without its suffix; None for a file.
    classes: K; None takes the largest value + 1, over all the .npy files of a folder.
    Raises ArdmError for missing files, pickles (object arrays, never loaded), floats, negative values, values of K or
    more, and arrays of fewer than two axes or without items.
    """
    root = Path(path).expanduser()
    file, files = _array_file(root, split)
    values = _integers(file)
    top = int(values.max())
    if classes is None:
        classes = 1 + max([top, *(int(_integers(other).max()) for other in files if other != file)])
    if top >= classes:
        raise ArdmError(f"{file} holds the value {top}, but classes={classes} allows 0..{classes - 1}")
    small = next(kind for kind in (np.uint8, np.int16, np.int32, np.int64) if classes - 1 <= np.iinfo(kind).max)
    items = torch.from_numpy(np.array(values, dtype=small, order="C"))
    return Dataset(items, classes, f"{root.name}/{split}" if split else root.stem)


def _array_file(root: Path, split: str | None) -> tuple[Path, list[Path]]:
    """The file of a split, and all files that share its classes."""
    if not root.is_dir():
        if split is not None:
            raise ArdmError(f"{root} is not a folder of splits: expected {root / split}.npy, or a file and split=None")
        return root, [root]
    files = {file.stem: file for file in sorted(root.glob("*.npy"))}
    if not files:
        raise ArdmError(f"no .npy files in {root}: expected train.npy, valid.npy, test.npy")
    return files[_known(f"split in {root}", split, files)], list(files.values())


def _integers(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read as it is used, if it is one of non-negative integers (N, *shape)."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArdmError(f"no file {path}: expected an .npy array of integers (N, *shape)") from error
    except (OSError, ValueError, EOFError) as error:
        raise ArdmError(f"{path} cannot be read as .npy, and pickles are never loaded: {error}") from error
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


# -------------------------------------------------------------------------------------------------- while training


def augment(batch: Tensor, generator: torch.Generator, flip: bool = True, rot90: bool = False) -> Tensor:
    """Images mirrored left to right with probability 1/2, and turned by 0, 90, 180 or 270 degrees, each item by itself.

    batch: (B, C, H, W).  All draws come from the generator; B coins, then (with rot90) B turns.  The paper's best image
    models are trained with both.  Raises ArdmError where batch is not a batch of images, or not square with rot90.
    """
    if batch.ndim != 4 or (rot90 and batch.shape[2] != batch.shape[3]):
        want = "(B, C, H, W) with H = W" if rot90 else "(B, C, H, W)"
        raise ArdmError(f"augment takes a batch of images {want}; got {tuple(batch.shape)}")
    if flip:
        batch = torch.where(_draw(2, batch, generator) == 1, batch.flip(-1), batch)
    if rot90:
        turns = _draw(4, batch, generator)
        still = batch
        for quarters in (1, 2, 3):
            batch = torch.where(turns == quarters, still.rot90(quarters, (-2, -1)), batch)
    return batch


def _draw(sides: int, batch: Tensor, generator: torch.Generator) -> Tensor:
    """One number in 0..sides−1 for each item: (B, 1, 1, 1)."""
    drawn = torch.randint(sides, (len(batch), 1, 1, 1), generator=generator, device=generator.device)
    return drawn.to(batch.device)


def batches(items: int, batch: int, seed: int, start: int = 0) -> Iterator[Tensor]:
    """An endless stream of index batches (batch,) int64, all full: epoch after epoch, each in an order of its own.

    Epoch e is a permutation of 0..items−1 drawn from (seed, e); a batch may end one epoch and begin the next (and an
    item may then come twice in it).  start: the number of the first batch; the stream goes on exactly as one from 0
    would after `start` batches, without walking there.  Raises ArdmError for counts below 1 or a negative start.
    """
    if items < 1 or batch < 1 or start < 0:
        raise ArdmError(f"batches needs items >= 1, batch >= 1, start >= 0; got {items}, {batch}, {start}")
    return _batches(items, batch, seed, start)


def _batches(items: int, batch: int, seed: int, start: int) -> Iterator[Tensor]:
    epoch, offset = divmod(start * batch, items)
    left = _epoch(items, seed, epoch)[offset:]
    while True:
        while len(left) < batch:
            epoch += 1
            left = torch.cat([left, _epoch(items, seed, epoch)])
        yield left[:batch].clone()
        left = left[batch:]


def _epoch(items: int, seed: int, epoch: int) -> Tensor:
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()  # so that (1, 2) and (2, 1) have nothing in common
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randperm(items, generator=generator)


# -------------------------------------------------------------------------------------------------------------- files


def _known(what: str, name: str | None, known: Iterable[str]) -> str:
    """The name, if it is among the known ones; otherwise an error that suggests the nearest."""
    names = list(known)
    if name in names:
        return str(name)
    near = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ArdmError(f"unknown {what}: {name!r}; {hint}there are {', '.join(map(repr, names)) or 'none'}")


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file, gunzipped if its name ends in .gz: at most `most`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ArdmError(f"cannot read {path}: {error}; if it is damaged, delete it and fetch it again") from error
    if len(data) > most:
        raise ArdmError(f"{path} holds more than {most} bytes: not the published file")
    return data


def _check_md5(path: Path, data: bytes, expected: str) -> None:
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ArdmError(
            f"{path} is not the published file: MD5 {found}, expected {expected}; delete it and fetch it again, "
            f"or pass verify=False if it is meant to differ"
        )


def _fetch(url: str, md5: str, folder: Path) -> None:
    """Download a file into a folder under its own name, unless it is there, and check it."""
    import pooch

    try:
        pooch.retrieve(url, known_hash=f"md5:{md5}", fname=url.rsplit("/", 1)[1], path=folder)
    except (OSError, ValueError) as error:  # requests raises OSErrors, a wrong checksum is a ValueError
        raise ArdmError(
            f"cannot download {url}: {type(error).__name__}: {error}; fetch it by other means and put it into {folder}"
        ) from error


_READERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "images": images,
    "array": arrays,
}
