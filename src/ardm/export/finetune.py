"""Fine-tuning for integers: training continues with layers that compute what those of the codec model will.

Scales are measured once, at the start, and kept beside the checkpoint; the weights then adapt to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ardm.bundle import Bundle, load
from ardm.errors import ArdmError
from ardm.export.calibrate import Scales
from ardm.export.local import measured
from ardm.export.precision import Precision
from ardm.export.quantise import faked
from ardm.model import Model
from ardm.settings import from_values, override
from ardm.train.recipe import Recipe
from ardm.train.trainer import Progress, Trainer

NAME = "scales.safetensors"
"""The file of the scales, in the folder of the run."""


def recipe_of(bundle: Bundle, source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a bundle, changed to continue from it; changes: "section.key=value".

    The learning rate becomes a third, warm-up a hundred steps.  Raises ArdmError where the card holds no recipe.
    """
    known = bundle.card.get("recipe")
    if not isinstance(known, dict):
        raise ArdmError(f"the card of {bundle.name} holds no recipe; fine-tuning needs one for its data")
    rate = from_values(Recipe, known).train.rate / 3
    own = ["model.rounded=true", f"train.init={source}", f"train.rate={rate}", "train.warmup=100"]
    return from_values(Recipe, override(known, [*own, *changes]))


class Finetuning:
    """A run in a folder, as `Trainer`: `for progress in Finetuning(…): …`.

    recipe: with `train.init`, the model to start from.  precision: bits of weights and activations.
    scales: by the name of a layer, for `export`.
    Raises ArdmError for networks that cannot be fine-tuned this way.
    """

    def __init__(
        self, recipe: Recipe, folder: str | Path, precision: Precision, resume: bool = False, cpu: bool = False
    ) -> None:
        if recipe.model.trunk != "local":
            raise ArdmError(f"fine-tuning for integers is for local networks; this one is a {recipe.model.trunk}")
        self.trainer, self.precision = Trainer(recipe, folder, resume, cpu), precision
        path = Path(folder) / NAME
        if resume:
            self.scales = read_scales(path)
        else:
            source = load(recipe.train.init)
            items = self.trainer.train_set.items[:256]
            self.scales = measured(Bundle(self._rounded(source), recipe.model, recipe.order), items, precision)
            write_scales(path, self.scales)

    def _rounded(self, source: Bundle) -> Model:
        """The weights of a bundle in the network of the recipe."""
        model = self.trainer.averaged()
        model.load_state_dict(source.model.state_dict())
        return model

    def __iter__(self) -> Iterator[Progress]:
        layers = dict(self.trainer.model.named_modules())
        by = {layers[name]: scales for name, scales in self.scales.items()}
        with faked(by, self.precision.weights, (1 << self.precision.activations) - 1):
            yield from self.trainer


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
