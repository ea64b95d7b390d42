"""Fine-tuning for integers: training continues with layers that compute what those of the codec model will.

Scales are measured once, at the start, and kept beside the checkpoint; the weights then adapt to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ardm.bundle import Bundle, load
from ardm.errors import ArdmError
from ardm.export.precision import Precision
from ardm.export.rounding import NAME, faked, read_scales, write_scales
from ardm.export.wavefront import measured
from ardm.settings import from_values, override
from ardm.train.recipe import Recipe
from ardm.train.trainer import Progress, Trainer


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
        self, recipe: Recipe, folder: str | Path, precision: Precision, resume: bool = False, device: str = "auto"
    ) -> None:
        if recipe.model.trunk != "wavefront":
            raise ArdmError(
                f"fine-tuning for integers is for trunk wavefront; this model has trunk {recipe.model.trunk}"
            )
        self.trainer, self.precision = Trainer(recipe, folder, resume, device), precision
        path = Path(folder) / NAME
        if resume:
            self.scales = read_scales(path)
        else:
            self.scales = measured(
                load(recipe.train.init, precision="float32").model, self.trainer.train_set.items[:256], precision
            )
            write_scales(path, self.scales)

    def __iter__(self) -> Iterator[Progress]:
        with faked(self.trainer.model, self.scales, self.precision):
            yield from self.trainer
