"""Fine-tuning for integers: training continues with layers that compute what those of the codec model will.

Scales are measured once, at the start, and kept beside the checkpoint; the weights then adapt to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.bundle import Bundle, load
from ardm.errors import ArdmError
from ardm.export.calibrate import Scales
from ardm.export.parts import output_of
from ardm.export.precision import Precision
from ardm.export.quantise import Floats, levels, rounded
from ardm.export.wavefront import at_taps, measured
from ardm.model import Model
from ardm.nets.wavefront import Block
from ardm.settings import from_values, override
from ardm.train.recipe import Recipe
from ardm.train.trainer import Progress, Trainer

NAME = "scales.safetensors"
"""The file of the scales, in the folder of the run."""


def recipe_of(bundle: Bundle, source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a bundle, changed to continue from it; changes: "section.key=value".

    The learning rates become a third, warm-up a hundred steps; steps count, not minutes.  Raises ArdmError where the card holds no recipe.
    """
    known = bundle.card.get("recipe")
    if not isinstance(known, dict):
        raise ArdmError(f"the card of {bundle.name} holds no recipe; fine-tuning needs one for its data")
    train = from_values(Recipe, known).train
    rates = [f"train.rate={train.rate / 3}", f"train.muon_rate={train.muon_rate / 3}"]
    own = [f"train.init={source}", *rates, "train.warmup=100", "train.minutes=0"]
    return from_values(Recipe, override(known, [*own, *changes]))


class Finetuning:
    """A run in a folder, as `Trainer`: `for progress in Finetuning(…): …`.

    recipe: with `train.init`, the model to start from.  precision: bits of weights and activations.
    scales: by the name of a layer, for `export`.
    Raises ArdmError for networks that cannot be fine-tuned this way.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        precision: Precision,
        resume: bool = False,
        cpu: bool = False,
        device: str = "auto",
    ) -> None:
        if recipe.model.trunk != "wavefront":
            raise ArdmError(
                f"fine-tuning for integers is for trunk wavefront; this model has trunk {recipe.model.trunk}"
            )
        self.trainer, self.precision = Trainer(recipe, folder, resume, cpu, device), precision
        path = Path(folder) / NAME
        if resume:
            self.scales = read_scales(path)
        else:
            self.scales = measured(load(recipe.train.init).model, self.trainer.train_set.items[:256], precision)
            write_scales(path, self.scales)

    def __iter__(self) -> Iterator[Progress]:
        with faked(self.trainer.model, self.scales, self.precision):
            yield from self.trainer


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

    def forward(h: Tensor) -> Tensor:
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
