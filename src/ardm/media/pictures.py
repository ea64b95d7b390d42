"""Pictures: image files as pixels; items, partly known states, contact sheets and animations as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ardm import formats
from ardm.atomic import reasons, refuse_source
from ardm.content import Kind
from ardm.digits import Partial
from ardm.errors import ArdmError, parsing

GREY = 118
"""The grey level of an unknown site."""


def read_image(path: str | Path) -> Tensor:
    """Read the pixels of an image file: (C, H, W) uint8, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises ArdmError for a file that is not an image, holds several, or has more than 8 bits per sample.
    """
    path = Path(path)
    refuse_source(path)
    with reasons(f"cannot read {path}"):
        data = path.read_bytes()
    content = formats.read(data, path.name).content
    if content.kind == Kind.IMAGE and content.is_16bit:
        raise ArdmError(f"{path} has 16 bits per sample; only 8 are supported")
    if content.kind == Kind.IMAGE and ("palette" in content.about or not {"depth", "alpha"} & set(content.about)):
        return torch.from_numpy(formats.displayed(content).copy())
    pixels = _shown(path, data)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def _shown(path: Path, data: bytes) -> NDArray[np.uint8]:
    """The pixels of a file whose samples `formats` does not read as 8 bits: JPEG, GIF, 1 bit per pixel, …"""
    with parsing(f"cannot read {path}"):
        try:
            picture = Image.open(BytesIO(data))
        except UnidentifiedImageError:
            raise ArdmError(f"{path} is not an image that can be read here") from None
        with picture as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ArdmError(f"{path} holds {image.n_frames} images; give a file with one")
            if image.mode in ("F", "I") or image.mode.startswith("I;"):
                raise ArdmError(f"{path} has pixels of mode {image.mode}; only 8 bits per sample are supported")
            grey = image.mode in ("1", "L", "LA")
            clear = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA")
            return np.array(image.convert(("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")))


def to_image(item: Tensor, classes: int = 256, scale: int = 1) -> Image.Image:
    """Draw one item (C, H, W), enlarged `scale` times: RGB if C = 3, otherwise its first channel."""
    array = (item.cpu().double().numpy() * (255 / (classes - 1))).round().astype(np.uint8)
    pixels = array.transpose(1, 2, 0) if len(array) == 3 else np.repeat(array[0][..., None], 3, 2)
    return Image.fromarray(pixels).resize((pixels.shape[1] * scale, pixels.shape[0] * scale), Image.Resampling.NEAREST)


def state_image(state: Partial, index: int, digits: int, classes: int = 256, scale: int = 1) -> Image.Image:
    """Draw one item of a partly known state: unknown sites grey, partly known ones at the centre of their values."""
    depth, value = (x[index].cpu() for x in (state.depth, state.value))
    known = depth.double() / digits
    value = value.double() + (1 - known) * GREY / 255 * (classes - 1) * (depth == 0)
    return to_image(value.clamp(max=classes - 1), classes, scale)


def sheet(pictures: Sequence[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Arrange pictures of one size in rows, on white."""
    columns = columns or max(1, int(np.ceil(len(pictures) ** 0.5)))
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        out.paste(picture, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return out


def save_gif(frames: Sequence[Image.Image], path: Path) -> None:
    """Write an animation of five seconds that holds its last frame for one of them."""
    times = [max(20, 4000 // len(frames))] * (len(frames) - 1) + [1200]
    frames[0].save(path, save_all=True, append_images=list(frames[1:]), duration=times, loop=0)
