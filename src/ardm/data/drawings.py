"""Omniglot: binary drawings of 1,623 characters from 50 alphabets, each by twenty people."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder, splits
from ardm.data.published import ACCEPT, Bytes, check_md5, fetch, first_folder, how_to_get, unpacking
from ardm.errors import ArdmError, parsing

_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
    "images_background_small1": None,
    "images_background_small2": None,
}
_SETS = {  # folders, and the number of drawings in them
    "all": (("images_background", "images_evaluation"), 32_460),
    "background": (("images_background",), 19_280),
    "evaluation": (("images_evaluation",), 13_180),
    "small": (("images_background_small1", "images_background_small2"), 4_840),
    "small1": (("images_background_small1",), 2_720),
    "small2": (("images_background_small2",), 3_120),
}
_PLACES = ("omniglot", "omniglot-py", "omniglot/python", "python")
_DRAWERS = {"train": range(1, 17), "valid": range(17, 19), "test": range(19, 21)}
_FILE = re.compile(r"([^/]+/[^/]+)/\d+_(\d+)\.png")
_SIDE = 105
_MOST = 1 << 16  # bytes of a drawing; the published ones have a few hundred


def omniglot(
    folder: Folder,
    split: str | None,
    set: str = "all",
    size: int = 28,
    download: bool = False,
    verify: bool = True,
) -> Dataset:
    """Omniglot: items (N, 1, size, size) uint8, 2 classes, ink 1; labels: the number of the character in the set.

    folder: holds `images_background` and `images_evaluation`, or their .zip files, directly or in `omniglot`,
    `omniglot-py` or `omniglot/python`: alphabet/character/nnnn_dd.png, 105x105.
    split: by drawer dd: "train" or "fit" (1-16), "valid" (17, 18) or "test" (19, 20), so that each split has every
    character.
    set: "all", "background", "evaluation", "small1", "small2", or "small" (both small ones, each drawing once).
    size: 105, as drawn, or 28: the mean of each box, ink where at least a quarter of it is ink.
    download: fetch the missing archives into folder.
    verify: demand the published MD5s of the archives and the number of drawings; False accepts any.
    Raises ArdmError for an unknown split, set or size, missing or damaged files, and a failed download.
    """
    split = splits("Omniglot", split)
    names, count = _SETS[known("set of Omniglot", set, _SETS)]
    if size not in (28, _SIDE):
        raise ArdmError(f"size is {size}, expected 28 or {_SIDE}")
    root = Path(folder).expanduser()
    found = {key: drawing for name in names for key, drawing in _drawings(root, name, download, verify)}
    if not found or (verify and len(found) != count):
        raise ArdmError(
            f"{root} holds {len(found)} drawings of the set {set!r}, expected {count}; get {_URL}{names[0]}.zip, or {ACCEPT}"
        )
    characters = {name: n for n, name in enumerate(sorted({key.rpartition("/")[0] for key in found}))}
    keys = [key for key in sorted(found) if _drawer(key) in _DRAWERS[split]]
    if not keys:
        raise ArdmError(f"none of the {len(found)} drawings in {root} is by a drawer of the split {split!r}")
    items = np.stack([_pixels(found[key], key, size) for key in keys])
    labels = torch.tensor([characters[key.rpartition("/")[0]] for key in keys], device="cpu")
    return Dataset(torch.from_numpy(items[:, None]), 2, f"omniglot-{set}/{split}", labels)


def _drawer(key: str) -> int:
    return int(key.rpartition("_")[2].removesuffix(".png"))


def _drawings(root: Path, name: str, download: bool, verify: bool) -> Iterator[tuple[str, Path | bytes]]:
    """(alphabet/character/file, the drawing) for all of a folder or an archive."""
    home = first_folder(root, _PLACES, name)
    if home is None:
        yield from _zipped(_archive(root, name, download), name, verify)
        return
    for path in (home / name).glob("*/*/*.png"):
        key = path.relative_to(home / name).as_posix()
        if _FILE.fullmatch(key):
            yield key, path


def _archive(root: Path, name: str, download: bool) -> Path:
    """The archive of a folder, downloaded first if necessary."""
    file = f"{name}.zip"
    home = first_folder(root, _PLACES, file)
    if home is None and download:
        fetch(_URL + file, _MD5[name], root)
        home = root
    if home is None:
        raise ArdmError(f"no {name} in {root}; {how_to_get(file, _URL, root)}")
    return home / file


def _zipped(archive: Path, name: str, verify: bool) -> Iterator[tuple[str, bytes]]:
    with unpacking(archive):
        if verify and (md5 := _MD5[name]) is not None:
            check_md5(archive, archive.read_bytes(), md5)
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                key = info.filename.removeprefix(f"{name}/")
                if _FILE.fullmatch(key):
                    with file.open(info) as member:
                        yield key, member.read(_MOST)


def _pixels(drawing: Path | bytes, key: str, size: int) -> Bytes:
    """The pixels (size, size) of a drawing, ink 1; the files hold black ink on white, 1."""
    file = io.BytesIO(drawing) if isinstance(drawing, bytes) else drawing
    with parsing(f"{key} cannot be read as an image"), Image.open(file, formats=("PNG",)) as image:
        image.load()
    if image.size != (_SIDE, _SIDE) or image.mode not in ("1", "L"):
        raise ArdmError(
            f"{key} is {image.width} x {image.height} of mode {image.mode!r}, expected {_SIDE} x {_SIDE} in black"
        )
    ink = Image.fromarray((np.asarray(image.convert("L")) < 128).astype(np.float32))
    if size != _SIDE:
        ink = ink.resize((size, size), Image.Resampling.BOX)
    return (np.asarray(ink) >= 0.25).astype(np.uint8)
