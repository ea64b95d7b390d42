"""Folders of images of one size, as integer tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder, files_in, survey
from ardm.data.published import Bytes
from ardm.errors import ArdmError, parsing

PICTURES = {".png", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".gif", ".jpg", ".jpeg"}
_FORMATS = ("PNG", "WEBP", "TIFF", "PPM", "BMP", "GIF", "JPEG")


def images(
    folder: Folder,
    split: str | None = None,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    fit: str = "",
) -> Dataset:
    """A folder of images of one size, or brought to one: items (N, C, H, W) uint8, 256 classes, no labels.

    folder: searched with its subfolders, in the order of the relative paths; hidden files and files without a suffix of
    images are skipped.
    split: "train" (90 %), "valid" (5 %) or "test" (5 %); None takes all.  A stable hash of its relative path assigns each
    file to a split, so that it stays there when other files come or go.
    size: the size of all images, H = W or (H, W); None takes that of the first.
    fit: how images of other sizes come to it: "crop" takes the middle, "resize" scales to cover it and takes the middle,
    "tile" cuts all tiles that fit, from the upper left, each an item of its own.  "" refuses them.
    channels: 1 for grey, 3 for RGB (grey images and palettes are then converted without loss); None takes those of the
    first image, and refuses palettes.
    Raises ArdmError for a missing folder, an empty split, and, naming the first such file, a damaged image, another
    size, other channels, an alpha channel, more than 8 bits per channel, and more than one frame.
    """
    root = Path(folder).expanduser()
    if channels not in (None, 1, 3):
        raise ArdmError(f"channels is {channels!r}, expected 1 (grey), 3 (RGB) or None (those of the first image)")
    paths = files_in(root, PICTURES, "images", split)
    if fit:
        known("way to fit images", fit, FITS)
        if size is None:
            raise ArdmError(f"data.fit={fit} needs the size that images shall have: set data.size")
    first = _pixels(paths[0], channels)
    expected = first.shape if size is None else (len(first), *_height_width(size))
    if fit:
        return _fitted(paths, root, split, channels, expected, FITS[fit])
    items = torch.empty((len(paths), *expected), dtype=torch.uint8, device="cpu")
    for n, path in enumerate(paths):
        image = _pixels(path, channels) if n else first
        if image.shape != expected:
            reason = "as requested" if size is not None else f"like {paths[0]}"
            raise ArdmError(
                f"{path} is {_extent(image.shape)}, expected {_extent(expected)} {reason}"
                + "; data.fit=crop, resize or tile takes images of mixed sizes" * (len(image) == expected[0])
            )
        items[n] = torch.from_numpy(image)
    return _dataset(items, paths, root, split)


def _dataset(items: Tensor, paths: list[Path], root: Path, split: str | None) -> Dataset:
    files = survey(root, paths, lambda path: path.suffix.lower() in PICTURES, "images")
    return Dataset(items, 256, f"{root.resolve().name}/{split or 'all'}", files=files)


# --- images of mixed sizes ------------------------------------------------------------------------------------------------


def _fitted(
    paths: list[Path], root: Path, split: str | None, channels: int | None, expected: tuple[int, ...], fit: Fit
) -> Dataset:
    """The images, each made into items of the expected shape."""
    parts = []
    for path in paths:
        image = _pixels(path, channels)
        if len(image) != expected[0]:
            raise ArdmError(f"{path} has {len(image)} channels, {paths[0]} {expected[0]}: set data.channels")
        made = fit(image, expected[1], expected[2])
        if not len(made):
            raise ArdmError(
                f"{path} is {_extent(image.shape)}, smaller than {expected[1]} x {expected[2]}: remove it, or take data.fit=resize"
            )
        parts.append(torch.from_numpy(made))
    return _dataset(torch.cat(parts), paths, root, split)


def cropped(image: Bytes, height: int, width: int) -> Bytes:
    """The middle of an image (C, H, W), as (1, C, height, width); (0, …) if it is smaller."""
    _, H, W = image.shape
    if height > H or width > W:
        return np.empty((0, len(image), height, width), np.uint8)
    y, x = (H - height) // 2, (W - width) // 2
    return np.ascontiguousarray(image[None, :, y : y + height, x : x + width])


def resized(image: Bytes, height: int, width: int) -> Bytes:
    """An image (C, H, W) scaled until it covers (height, width), by Lanczos, and its middle: (1, C, height, width)."""
    _, H, W = image.shape
    scale = max(height / H, width / W)
    size = max(width, round(W * scale)), max(height, round(H * scale))
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)) for plane in image]
    return cropped(np.stack(planes), height, width)


def tiled(image: Bytes, height: int, width: int) -> Bytes:
    """All tiles of an image (C, H, W) that fit, row by row from the upper left: (n, C, height, width)."""
    C, rows, columns = len(image), image.shape[1] // height, image.shape[2] // width
    cut = image[:, : rows * height, : columns * width].reshape(C, rows, height, columns, width)
    return np.ascontiguousarray(cut.transpose(1, 3, 0, 2, 4)).reshape(-1, C, height, width)


Fit: TypeAlias = Callable[[Bytes, int, int], Bytes]
"""An image (C, H, W) to items (n, C, height, width)."""
FITS: dict[str, Fit] = {"crop": cropped, "resize": resized, "tile": tiled}
"""Ways to bring images of mixed sizes to one."""


def _height_width(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ArdmError(f"size is {size!r}, expected a side or (height, width)")
    return sides[0], sides[1]


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]} (height x width) with {shape[0]} channel{'s' * (shape[0] > 1)}"


def _pixels(path: Path, channels: int | None) -> Bytes:
    """One image, (C, H, W)."""
    with parsing(f"{path} cannot be read as an image"), Image.open(path, formats=_FORMATS) as image:
        deep = _deep(image.tile)
        frames = getattr(image, "n_frames", 1)
        image.load()
    refusal = _refusal(image, deep, frames, channels)
    if refusal:
        raise ArdmError(f"{path} {refusal}")
    colour = channels == 3 or image.mode == "RGB"
    pixels = np.asarray(image.convert("RGB" if colour else "L"))
    planes = pixels.transpose(2, 0, 1) if colour else pixels[None]
    return np.array(planes, np.uint8)


def _deep(tiles: list[Any]) -> bool:
    """Whether an image that is not yet loaded has 16 bits per channel, of which Pillow would silently drop 8 for RGB."""
    ppm = any(tile[0].startswith("ppm") and isinstance(tile[3], tuple) and (tile[3][1] or 0) > 255 for tile in tiles)
    return ppm or re.search(";16[BLN]", str(tiles)) is not None


def _refusal(image: Image.Image, deep: bool, frames: int, channels: int | None) -> str:
    """Why an image is refused; empty if it is not."""
    mode = image.mode
    if frames > 1:
        return f"has {frames} frames: save each as an image of its own"
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return "has transparency (an alpha channel): flatten it onto a background, or save it without alpha"
    if deep or mode not in ("1", "L", "P", "RGB"):
        bits = "16 bits per channel" if deep else f"mode {mode!r}"
        return f"has {bits}, expected 8-bit grey or RGB: convert it first, or give the values as an .npy array"
    if mode == "P" and channels != 3:
        return "has a palette: set data.channels=3 (channels=3 in Python) to have it converted to RGB"
    return "is RGB, but channels is 1: convert it to grey first" if mode == "RGB" and channels == 1 else ""
