"""A network that rounds as its integers will, so that its weights can adapt to that; and the file of its scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.errors import ArdmError
from ardm.export.calibrate import Scales
from ardm.export.parts import output_of
from ardm.export.precision import Precision
from ardm.export.quantise import Floats, levels, rounded
from ardm.export.wavefront import at_taps
from ardm.model import Model
from ardm.nets import shifted
from ardm.nets.wavefront import Block

NAME = "scales.safetensors"
"""The file of the scales, in the folder of the run."""


Forward: TypeAlias = Callable[[Tensor], Tensor]


@contextmanager
def faked(model: Model, scales: Mapping[str, Scales], precision: Precision) -> Iterator[None]:
    """Make a model of trunk wavefront compute what its integers would, within the block; gradients ignore the rounding.

    scales: from `measured`.  The first layer and those of channels keep their weights, which have more bits.
    """
    layers = dict(model.named_modules())
    by = {layers[name]: (_single(found.given), _single(found.made)) for name, found in scales.items()}
    blocks = [layer for layer in layers.values() if isinstance(layer, Block)]
    output = output_of(model)
    try:
        for block in blocks:
            block.__dict__["forward"] = _block(block, by[block], precision, last=block is blocks[-1])
        output.__dict__["forward"] = _layer(output, by[output][0], precision)
        yield
    finally:
        for layer in (*blocks, output):
            layer.__dict__.pop("forward", None)


def _block(block: Block, scales: tuple[Tensor, Tensor], precision: Precision, last: bool) -> Forward:
    """The block on rounded activations and weights; last: what it makes is read by the layers of channels alone."""
    bits, top, taps = precision.weights, precision.top, len(block.taps)

    def forward(h: Tensor, across: int = 0) -> Tensor:
        if across:
            return shifted.laid(forward(shifted.pixels(h, across).movedim(-1, 1)).movedim(1, -1))
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 holds fewer bits
            S, T = (scale.to(h.device) for scale in scales)
            near = at_taps(levels(F.relu(h.movedim(1, -1).float()), S, top), block)
            t = levels(F.relu(F.linear(near, rounded(block.up, S.repeat(taps), T, bits, top), block.ub)), T, top)
            h = h + F.linear(t, rounded(block.down, T, S, bits, top), block.db).movedim(-1, 1)
            return levels(F.relu(h.movedim(1, -1)), S, top).movedim(-1, 1) if last else h

    return forward


def _single(scale: Floats) -> Tensor:
    return torch.from_numpy(scale).float()


def _layer(layer: nn.Linear, given: Tensor, precision: Precision) -> Forward:
    """A linear layer on rounded activations."""
    return lambda x: F.linear(levels(x, given.to(x), precision.top), layer.weight, layer.bias)


def write_scales(path: Path, scales: Mapping[str, Scales]) -> None:
    """Write the scales of layers to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{n}.{k}": np.ascontiguousarray(v) for n, s in scales.items() for k, v in s._asdict().items()}, path)


def read_scales(path: Path) -> dict[str, Scales]:
    """Read the file of `write_scales`.  Raises ArdmError if it is missing or damaged."""
    try:
        kept = load_file(path)
        names = sorted({name.rpartition(".")[0] for name in kept})
        return {name: Scales(kept[f"{name}.given"], kept[f"{name}.made"]) for name in names}
    except (OSError, KeyError, SafetensorError) as error:
        raise ArdmError(f"{path} holds no scales to resume with: {type(error).__name__}") from None
