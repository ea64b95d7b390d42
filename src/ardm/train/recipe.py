"""Recipes: everything that decides a training run, from a YAML file and "section.key=value" overrides."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ardm.errors import ArdmError
from ardm.models.build import readable
from ardm.models.config import PRESETS, ModelConfig
from ardm.orders import OrderConfig
from ardm.settings import NAMED, from_values, nearest, override
from ardm.train import objectives

RUN = "recipe.json"
"""The recipe of a run, in its folder."""
STATE = "checkpoint/state.json"
"""The settings and counters of a checkpoint, in the folder of the run; its "recipe" is that of the run."""


@dataclass(frozen=True)
class DataConfig:
    """Where the items come from.

    name: images cifar10, mnist, fashion_mnist, binarized_mnist, omniglot, images, pictures, grey; text text8, enwik8, text;
    sound fsdd, sc09, sounds; tables density, table; any .npy array.
    folder: the folder of the files; for text, table and array it may be the file itself.
    train, valid: names of splits.
    download: fetch missing files and check them against published checksums.
    flip, rotate: augment images by mirroring and by quarter turns.
    labels: train with the class labels as context.

    The remaining settings are options of some data sets and an error for the others.  0 and "" keep the default of the
    data set.
    length: characters or samples per item.
    stride: distance between items of the training split, which overlap.
    alphabet: of text, "bytes" (256 classes), "27" (a..z and space), "characters" (UTF-8), "tokens" (byte pairs learnt from
    the training split), or the path of a tokenizer.json.
    each: of text, "line" or "file": what a text is, which ends with a symbol of its own; "": items are cut from all.
    set: the name of a density set ("adult"), or the part of omniglot ("all", "background", "evaluation", "small").
    rate: samples per second that all sounds must have.
    pad: of sounds and fsdd, pad clips that are shorter than an item, and what is left of others, instead of leaving them out.
    drop_spare: of sounds and fsdd, leave out the low bits that are 0 in every sample of a clip, as the codec of sounds does.
    binarize: for MNIST and Fashion-MNIST, "threshold", "stochastic" (one fixed sample) or "dynamic" (a new sample for
    each batch).
    size: side of the images in a folder, of pictures, of omniglot (28 or 105) and of the MNISTs (28, 14 or 7).
    channels: of the images in a folder.
    classes: of arrays.
    pixels: (C, H, W) of a density set that holds images, such as ocr_letters.
    photos, crops, reduce: of pictures and grey: a folder of photographs, the number of crops from them, and factors by which crops
    are reduced.  grey, synthetic: the shares of grey copies and of synthetic pictures; null keeps the default.
    header: whether the first line of a table names its columns; null detects it.
    drop, bins: of a table, names of columns to leave out, and the number of bins of columns that have more numbers.
    fit: how images of mixed sizes come to `size`: "crop", "resize" or "tile".
    suffixes: of the files of a text folder, such as [.py, .c] for source code.
    verify: demand the published sizes and checksums; false accepts cut-down copies.
    """

    name: str = "cifar10"
    folder: str = "data"
    train: str = "fit"
    valid: str = "valid"
    download: bool = False
    flip: bool = False
    rotate: bool = False
    labels: bool = False
    length: int = 0
    stride: int = 0
    alphabet: str = ""
    set: str = ""
    rate: int = 0
    binarize: str = ""
    size: int = 0
    channels: int = 0
    classes: int = 0
    header: bool | None = None
    verify: bool = True
    pixels: tuple[int, ...] = ()
    photos: str = ""
    crops: int = 0
    reduce: tuple[int, ...] = ()
    grey: float | None = None
    synthetic: float | None = None
    drop: tuple[str, ...] = ()
    bins: int = 0
    fit: str = ""
    suffixes: tuple[str, ...] = ()
    each: str = ""
    pad: bool = False
    drop_spare: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise.

    steps: optimiser steps.
    minutes: train for this time instead of a number of steps; the decay of the rate follows the clock, and a resumed run
    uses what is left of it (0: steps count).
    batch: items per pass, over all devices.
    accumulate: passes per step.  The loss of a step is the mean over the items of all its passes, as for one batch that
    many times as large; steps, rates and logs count steps.
    optimiser: "adamw", or "muon", which moves the matrices and kernels inside the blocks of a network by orthogonalised momentum
    and all other parameters by AdamW.
    rate: peak learning rate of AdamW, reached after `warmup` steps; then `decay` ("constant", "linear" or "cosine") to
    `final` times the peak.  muon_rate: the same for the matrices of Muon.  order_rate: the same for the logarithms of the
    rates of sites (model.rates).
    weight_decay.  beta2: of AdamW.
    clip: largest gradient norm.
    ema: decay of the moving average of the parameters, which is evaluated and saved.
    cross_entropy: weight of the auxiliary term that is not reweighted.
    subset: score at most this many hidden sites per item (0: all).
    precision: "float32", "bf16" (input layers and mixtures stay in float32), or "auto": bf16 where the device multiplies
    faster in it.
    memory: number of steps after which an observation of L_t counts half, in long runs: it is never more than a tenth of
    the steps taken.
    valid_every, valid_items: steps between validations, and items in each, see `Dataset.some`.
    save_every: steps between checkpoints.
    sample_every: steps between samples (0: none).
    log_every: steps between lines of the log.
    tensorboard: also write scalars and samples for TensorBoard.
    init: a model to start from.  partial: take what fits of it by name and shape, and begin the rest anew.
    frozen: leave the network as `init` gives it, and train the rates of its sites alone (model.rates).
    first_level: for an order with several levels of calls, the fraction of items that train on the first.
    objective: "steps" (one random step, of any order or of the plan), "absorbing" (D3PM in `diffusion_steps` steps) or
    "all" (every position at once; causal models always use it).
    label_dropout: with data.labels, the fraction of items that train without their label, so that the model also
    predicts without one.  With 0 it always needs a label.
    shard: split parameters, moments and average over the processes (FSDP); no effect with one process.
    """

    steps: int = 20_000
    minutes: float = 0.0
    batch: int = 64
    optimiser: str = "adamw"
    rate: float = 2e-3
    muon_rate: float = 0.02
    order_rate: float = 0.02
    warmup: int = 200
    decay: str = "cosine"
    final: float = 0.02
    weight_decay: float = 1e-4
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.999
    cross_entropy: float = 0.0
    subset: int = 0
    precision: str = "float32"
    memory: int = 2000
    seed: int = 0
    valid_every: int = 1000
    valid_items: int = 128
    save_every: int = 500
    sample_every: int = 0
    log_every: int = 50
    tensorboard: bool = False
    init: str = ""
    partial: bool = False
    frozen: bool = False
    first_level: float = 0.5
    objective: str = "steps"
    diffusion_steps: int = 1000
    shard: bool = False
    accumulate: int = 1
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in {**CHOICES, "objective": objectives.names()}.items():
            if getattr(self, name) not in allowed:
                raise ArdmError(f"train.{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ArdmError(f"train.{name} must be at least 1; got {getattr(self, name)}")
        for name in AMOUNTS:
            if not getattr(self, name) >= 0:
                raise ArdmError(f"train.{name} must be 0 or more; got {getattr(self, name)}")
        for name, (inside, interval) in RANGES.items():
            if not inside(getattr(self, name)):
                raise ArdmError(f"train.{name} must lie in {interval}; got {getattr(self, name)}")


CHOICES = {
    "optimiser": ("adamw", "muon"),
    "decay": ("constant", "linear", "cosine"),
    "precision": ("float32", "bf16", "auto"),
}
COUNTS = (
    *("steps", "batch", "accumulate", "diffusion_steps", "valid_items"),
    *("log_every", "valid_every", "save_every", "memory"),
)
AMOUNTS = ("warmup", "weight_decay", "cross_entropy", "subset", "sample_every", "final")
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "minutes": (lambda value: 0 <= value < math.inf, "[0, ∞)"),
    "seed": (lambda value: 0 <= value < 1 << 64, "[0, 2⁶⁴)"),
    "beta2": (lambda value: 0 <= value < 1, "[0, 1)"),
    "ema": (lambda value: 0 <= value < 1, "[0, 1)"),
    "label_dropout": (lambda value: 0 <= value < 1, "[0, 1)"),
    "first_level": (lambda value: 0 < value <= 1, "(0, 1]"),
    "rate": (lambda value: value > 0, "(0, ∞)"),
    "muon_rate": (lambda value: value > 0, "(0, ∞)"),
    "order_rate": (lambda value: value > 0, "(0, ∞)"),
    "clip": (lambda value: value > 0, "(0, ∞)"),
}
"""Settings of TrainConfig: one of a few names, at least 1, at least 0, and in an interval."""


@dataclass(frozen=True)
class Recipe:
    """A whole run: model, order (any, or a plan to specialise on), data and optimisation."""

    name: str = "unnamed"
    model: ModelConfig = field(default_factory=ModelConfig, metadata={NAMED: {"preset": PRESETS}})
    order: OrderConfig = field(default_factory=OrderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, which `settings.from_values` turns back into this recipe."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def shipped() -> list[str]:
    """The recipes in the package: "laptop/…", which train in minutes to hours, and "paper/…"."""
    return sorted(
        f"{folder.name}/{p.name.removesuffix('.yaml')}"
        for folder in (resources.files("ardm") / "recipes").iterdir()
        if folder.is_dir()
        for p in folder.iterdir()
        if p.name.endswith(".yaml")
    )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by shipped name, YAML file or folder of a run, and apply "section.key=value" overrides.

    Where these choose another trunk, settings of the recipe that the new trunk does not read get their defaults; so do
    those of a run that its trunk does not read.
    Raises ArdmError, naming the file or key that is wrong and the nearest key or recipe that exists.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        values = _of_file(path)
    elif is_run(path):
        values = _of_run(path)
    else:
        values = yaml.safe_load((resources.files("ardm") / "recipes" / f"{_full(name_or_path)}.yaml").read_text())
    recipe = from_values(Recipe, override(values, overrides))
    given = {item.partition("=")[0].strip().removeprefix("model.") for item in overrides}
    if is_run(path) or ({"preset", "trunk"} & given and recipe.model.trunk != from_values(Recipe, values).model.trunk):
        return replace(recipe, model=readable(recipe.model, given))
    return recipe


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run: its recipe, or a checkpoint, which contains the recipe too."""
    return (folder / RUN).is_file() or (folder / STATE).is_file()


def _of_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArdmError(f"there is no recipe file {path}")
    try:
        return _sections(path, yaml.safe_load(path.read_text()) or {})
    except yaml.YAMLError as error:
        raise ArdmError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def _of_run(folder: Path) -> dict[str, Any]:
    """The recipe of a run, or that of its checkpoint if recipe.json is missing or damaged."""
    path = folder / RUN
    try:
        return _sections(path, json.loads(path.read_text()))
    except (OSError, ValueError, ArdmError) as error:
        wrong = error if isinstance(error, ArdmError) else ArdmError(f"{path} cannot be read: {error}")
    with suppress(OSError, ValueError, KeyError, TypeError, ArdmError):
        return _sections(folder / STATE, json.loads((folder / STATE).read_text())["recipe"])
    raise wrong


def _sections(path: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        names = ", ".join(f.name for f in dataclasses.fields(Recipe))
        found = "a list" if isinstance(values, list) else f"the value {str(values)[:40]!r}"
        raise ArdmError(f"{path} must hold sections ({names}), not {found}")
    return values


def _full(name: str) -> str:
    """The full name of a shipped recipe, whose folder may be left out."""
    names = shipped()
    found = [full for full in names if name in (full, full.partition("/")[2])]
    if not found:
        hint = nearest(name, names)
        raise ArdmError(f"unknown recipe {name!r}{hint}; a path must end in .yaml, or be the folder of a run")
    return found[0]
