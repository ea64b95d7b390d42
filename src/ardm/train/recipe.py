"""Recipes: typed, frozen configuration read from YAML, with `key=value` overrides and errors that suggest the key."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ardm.errors import ArdmError
from ardm.models.build import PRESETS, ModelConfig
from ardm.orders import OrderConfig

T = TypeVar("T")
RUN = "recipe.json"
"""The recipe of a run, in its folder."""
STATE = "checkpoint/state.json"
"""What the checkpoint of a run says beside its tensors, in the folder of the run; its "recipe" is that of the run."""
SHOWN = 12
"""Names that an error lists, at most."""


@dataclass(frozen=True)
class DataConfig:
    """Where the items come from.

    name: images cifar10, mnist, fashion_mnist, binarized_mnist, omniglot, images; text text8, enwik8, text; sound fsdd,
    sc09, sounds; tables density, table; any .npy array.  folder: where the files lie; a file itself for text, table and
    array.
    train, valid: names of splits.  download: fetch missing files, checked against published checksums.
    flip, rotate: augmentation by mirror images and quarter turns.
    labels: train with the class labels as context.

    The others are options of some data sets, and an error for the rest; 0 and "" leave them as the data set has them.
    length: characters or samples an item.  stride: from item to item of the training split, which overlap.
    alphabet: of text, "bytes" (256 classes) or "27" (a..z and space).
    set: of density its name ("adult"), of omniglot the part ("all", "background", "evaluation", "small").
    rate: samples a second that sounds must have.
    binarize: of the MNISTs, "threshold", "stochastic" (one fixed sample) or "dynamic" (a sample for each batch).
    size, channels: of images in a folder; size of omniglot (28 or 105) and the MNISTs (28, 14 or 7) too.  classes: of arrays.
    pixels: (C, H, W) of a density set that holds pictures, such as ocr_letters.
    header: whether the first line of a table names its columns; null finds out.
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


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise.

    steps: optimiser steps.  batch: items of a pass, over all devices.  accumulate: passes of a step, whose loss is the
    mean over the items of all of them, as of one batch that many times as large; steps, rates and logs count steps.  rate: peak learning rate after `warmup` steps, then
    "constant", "linear" or "cosine" decay to `final` times the peak.  clip: of the gradient norm.  ema: decay of the
    average of parameters that is evaluated and saved.  cross_entropy: weight of the auxiliary un-reweighted term.
    subset: score at most this many hidden sites an item (0: all).  precision: "float32" or "bf16" (input layers and
    mixtures stay in float32).  memory: steps after which an observation of L_t counts half.
    valid_every, valid_items: validation.  save_every: checkpoints.  sample_every: samples in the kind of the data (0: none).  log_every: lines.
    tensorboard: also write scalars and samples for it.  init: a model to continue from.
    first_level: where an order has several levels of calls, the share of the items that train on the first.
    objective: "steps" (a random step of any order, or of the plan), "absorbing" (D3PM in `diffusion_steps` steps) or
    "all" (every position at once: causal models, for which it is taken without being named).
    label_dropout: with data.labels, the share of the items of a step that go without their label, so that the model
    learns to answer without one, too; 0: it then refuses to.
    shard: every process keeps but its share of parameters, moments and average (FSDP); of no effect with one process.
    """

    steps: int = 20_000
    batch: int = 64
    rate: float = 2e-3
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
    first_level: float = 0.5
    objective: str = "steps"
    diffusion_steps: int = 1000
    shard: bool = False
    accumulate: int = 1
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.decay not in ("constant", "linear", "cosine"):
            raise ArdmError(f"train.decay must be constant, linear or cosine; got {self.decay!r}")
        if self.precision not in ("float32", "bf16"):
            raise ArdmError(f"train.precision must be float32 or bf16; got {self.precision!r}")
        if self.objective not in ("steps", "absorbing", "all"):
            raise ArdmError(f"train.objective must be steps, absorbing or all; got {self.objective!r}")
        for name in (
            "steps",
            "batch",
            "accumulate",
            "diffusion_steps",
            "valid_items",
            "log_every",
            "valid_every",
            "save_every",
            "memory",
        ):
            if getattr(self, name) < 1:
                raise ArdmError(f"train.{name} must be at least 1; got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "cross_entropy", "subset", "seed", "sample_every", "final"):
            if not getattr(self, name) >= 0:
                raise ArdmError(f"train.{name} must be 0 or more; got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ArdmError(f"train.beta2 must lie in [0, 1); got {self.beta2}")
        if not (0 <= self.ema < 1 and self.rate > 0 and self.clip > 0):
            raise ArdmError("train.ema must lie in [0, 1), train.rate and train.clip above 0")
        if not 0 <= self.label_dropout < 1:
            raise ArdmError(f"train.label_dropout is a share in [0, 1); got {self.label_dropout}")
        if not 0 < self.first_level <= 1:
            raise ArdmError(f"train.first_level is a share in (0, 1]; got {self.first_level}")


@dataclass(frozen=True)
class Recipe:
    """A whole run: model, order (any, or a plan to specialise on), data and optimisation."""

    name: str = "unnamed"
    model: ModelConfig = field(default_factory=ModelConfig)
    order: OrderConfig = field(default_factory=OrderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """JSON values that `from_values` reads back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def shipped() -> list[str]:
    """The names of the recipes in the package: "laptop/…", which take minutes to hours, and "paper/…"."""
    return sorted(
        f"{folder.name}/{p.name.removesuffix('.yaml')}"
        for folder in (resources.files("ardm") / "recipes").iterdir()
        if folder.is_dir()
        for p in folder.iterdir()
        if p.name.endswith(".yaml")
    )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by shipped name, path of a YAML file or folder of a run, changed by "section.key=value" overrides.

    Raises ArdmError naming the file or key that is wrong, and the nearest key or recipe there is.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ArdmError(f"there is no recipe file {path}")
        text = path.read_text()
    elif is_run(path):
        return from_values(Recipe, override(_of_run(path), overrides))
    else:
        text = (resources.files("ardm") / "recipes" / f"{_full(name_or_path)}.yaml").read_text()
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ArdmError(f"{name_or_path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ArdmError(
            f"{name_or_path} must hold sections ({', '.join(_fields(Recipe))}), not a {type(values).__name__}"
        )
    return from_values(Recipe, override(values, overrides))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: it has a recipe, or a checkpoint, which holds it too."""
    return (folder / RUN).is_file() or (folder / STATE).is_file()


def _of_run(folder: Path) -> dict[str, Any]:
    """The recipe of a run; where it is missing or damaged, that of its checkpoint."""
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
        raise ArdmError(f"{path} must hold sections ({', '.join(_fields(Recipe))}), not a {type(values).__name__}")
    return values


def _full(name: str) -> str:
    """The name of a shipped recipe, of which the folder may be left out."""
    names = shipped()
    found = [full for full in names if name in (full, full.partition("/")[2])]
    if not found:
        raise ArdmError(
            f"unknown recipe {name!r}{_nearest(name, names)}; a path must end in .yaml, or be the folder of a run"
        )
    return found[0]


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Values changed by "section.key=value", the value being YAML.  Raises ArdmError naming what is not that."""
    changed = copy.deepcopy(dict(values))
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise ArdmError(f"an override is written key=value, such as train.batch=32; got {item!r}")
        try:
            _put(changed, key.strip().split("."), yaml.safe_load(value))
        except yaml.YAMLError:
            raise ArdmError(f"the value of {key} is not valid YAML: {value!r}") from None
    return changed


def from_values(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """A configuration dataclass from JSON or YAML values, checked by name and type, nested ones too."""
    if not isinstance(values, Mapping):
        raise ArdmError(f"{where or kind.__name__} must hold settings, not {values!r}")
    values = dict(values)
    if kind is ModelConfig and "preset" in values:
        name = values.pop("preset")
        if name not in PRESETS:
            raise ArdmError(f"unknown {where}preset {name!r}{_nearest(str(name), list(PRESETS))}")
        values = {**PRESETS[name], **values}
    types = typing.get_type_hints(kind)
    for key in values:
        if key not in types:
            raise ArdmError(f"unknown setting {where}{key}{_nearest_setting(where, key, list(types))}")
    made = {
        key: from_values(types[key], value or {}, f"{where}{key}.")
        if dataclasses.is_dataclass(types[key])
        else _typed(types[key], value, where + key)
        for key, value in values.items()
    }
    return kind(**made)


def _typed(wanted: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_typed(typing.get_args(wanted)[0], v, where) for v in items)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(typing.get_args(wanted)[0], value, where)
    if wanted is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            pass
    if wanted is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # YAML reads the name 27 as a number
    if isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise ArdmError(f"{where} must be of type {wanted.__name__}; got {value!r}")


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for i, part in enumerate(path[:-1]):
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ArdmError(f"{'.'.join(path[: i + 1])} is a value, not a section")
        values = inner
    values[path[-1]] = value


def _fields(kind: type) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _nearest_setting(where: str, key: str, own: list[str]) -> str:
    """Settings by their full names: of the same name in another section, else the nearest here, else the nearest there."""
    sections = [f for f in dataclasses.fields(Recipe) if f.name in ("model", "order", "data", "train")]
    types_ = typing.get_type_hints(Recipe)
    every = {f"{s.name}.{name}": name for s in sections for name in _fields(types_[s.name])} | {
        "model.preset": "preset"
    }
    same = [full for full, name in every.items() if name == key]
    if same:
        return f"; did you mean {' or '.join(map(repr, same))}?"
    close = difflib.get_close_matches(key, own, 1, 0.6)
    if close:
        return f"; did you mean {where + close[0]!r}?"
    close = difflib.get_close_matches(key, sorted(set(every.values())), 1, 0.7)
    if close:
        return f"; did you mean {' or '.join(repr(full) for full, name in every.items() if name == close[0])}?"
    return _nearest(key, own)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f", … ({len(known)} in all)" if len(known) > SHOWN else ""
    return f"; there are {', '.join(known[:SHOWN])}{more}"
