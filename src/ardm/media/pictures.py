"""Pictures: contact sheets, generation in progress, loss curves with their schedules."""

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
from ardm.losscurve import LossCurve
from ardm.schedule import Schedule

GREY = 118
"""How an unknown site is shown."""


def read_image(path: str | Path) -> Tensor:
    """The pixels of an image file: (C, H, W) uint8, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises ArdmError for what is no picture, holds several, or has more than 8 bits a sample.
    """
    path = Path(path)
    refuse_source(path)
    with reasons(f"cannot read {path}"):
        data = path.read_bytes()
    content = formats.read(data, path.name).content
    if content.kind == Kind.IMAGE and content.wide:
        raise ArdmError(f"{path} has 16 bits a sample; only 8 are supported")
    if content.kind == Kind.IMAGE and ("palette" in content.about or not {"depth", "alpha"} & set(content.about)):
        return torch.from_numpy(formats.shown(content).copy())
    pixels = _shown(path, data)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def _shown(path: Path, data: bytes) -> NDArray[np.uint8]:
    """What a file shows whose samples are not kept, or not as 8 bits: JPEG, GIF, 1 bit a pixel, ..."""
    with parsing(f"cannot read {path}"):
        try:
            picture = Image.open(BytesIO(data))
        except UnidentifiedImageError:
            raise ArdmError(f"{path} is no picture that can be read here") from None
        with picture as image:
            if getattr(image, "n_frames", 1) > 1:
                raise ArdmError(f"{path} holds {image.n_frames} pictures; only files of one are taken")
            if image.mode in ("F", "I") or image.mode.startswith("I;"):
                raise ArdmError(f"{path} has pixels of kind {image.mode}; only those of 8 bits a sample are supported")
            grey = image.mode in ("1", "L", "LA")
            clear = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA")
            return np.array(image.convert(("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")))


def to_image(item: Tensor, classes: int = 256, scale: int = 1) -> Image.Image:
    """One item (C, H, W), C = 1 or 3 (others: the first), as a picture enlarged `scale` times."""
    array = (item.cpu().double().numpy() * (255 / (classes - 1))).round().astype(np.uint8)
    pixels = array.transpose(1, 2, 0) if len(array) == 3 else np.repeat(array[0][..., None], 3, 2)
    return Image.fromarray(pixels).resize((pixels.shape[1] * scale, pixels.shape[0] * scale), Image.Resampling.NEAREST)


def state_image(state: Partial, index: int, digits: int, classes: int = 256, scale: int = 1) -> Image.Image:
    """One item of a partly known state: unknown sites grey, half-known ones at the centre of what they may be."""
    known = state.depth[index].double() / digits
    value = state.value[index].double() + (1 - known) * GREY / 255 * (classes - 1) * (state.depth[index] == 0)
    return to_image(value.clamp(max=classes - 1), classes, scale)


def sheet(pictures: Sequence[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures of one size in rows, on white."""
    columns = columns or max(1, int(np.ceil(len(pictures) ** 0.5)))
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        out.paste(picture, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return out


def save_gif(frames: Sequence[Image.Image], path: Path, seconds: float = 4.0) -> None:
    """An animation that holds its last frame for a second."""
    times = [max(20, int(1000 * seconds / len(frames)))] * (len(frames) - 1) + [1200]
    frames[0].save(path, save_all=True, append_images=list(frames[1:]), duration=times, loop=0)


def plot_curve(curve: LossCurve, schedules: Sequence[Schedule], path: Path, title: str) -> None:
    """L_t in bits against t, stage after stage, with each schedule's steps as a staircase and ticks below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "ardm"
    bits = curve.monotone() / np.log(2)
    stages, sites = bits.shape
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    seen = curve.mean() / np.log(2)
    axes.plot(np.arange(stages * sites), seen.ravel(), ".", ms=2, color="0.75", label="observed $L_t$")
    axes.plot(np.arange(stages * sites), bits.ravel(), color="black", lw=1.2, label="isotonic fit")
    for i, plan in enumerate(schedules):
        starts = np.asarray(plan.flat())
        ends = np.append(starts[1:], stages * sites)
        level = bits.ravel()[starts]
        colour = f"C{i}"
        axes.step(
            np.append(starts, ends[-1]),
            np.append(level, level[-1]),
            where="post",
            color=colour,
            lw=1.2,
            label=f"{plan.calls} calls: {plan.bits_per_dim():.3f} bits/dim",
        )
        axes.plot(
            starts,
            np.full(len(starts), -0.02 - 0.05 * i),
            "|",
            color=colour,
            ms=7,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    axes.set(
        xlabel="known sites $t$" + (" (stage after stage)" if stages > 1 else ""),
        ylabel="bits per symbol",
        title=title,
        ylim=(0, None),
    )
    axes.tick_params(axis="x", pad=4 + 13 * len(schedules))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
