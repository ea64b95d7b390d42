"""Keyword arguments to a recipe: every setting by its name in recipes, and defaults by kind of data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ardm.data import Dataset
from ardm.data.memory import MEMORY
from ardm.data.registry import UNSET
from ardm.errors import ArdmError
from ardm.models.config import PRESETS, ModelConfig
from ardm.orders import OrderConfig
from ardm.settings import from_values, nearest
from ardm.train.recipe import DataConfig, Recipe, TrainConfig, load_recipe

KINDS = ("image", "text", "audio", "table")
"""Kinds of data, which decide the defaults."""
OWN = ("preset", *(f.name for f in fields(ModelConfig)))
SECTIONS: dict[str, tuple[str, ...]] = {
    "train": tuple(f.name for f in fields(TrainConfig)),
    "model": OWN,
    "order": tuple(f.name for f in fields(OrderConfig)),
    "data": tuple(f.name for f in fields(DataConfig)),
}
"""The settings of each section.  A name that several have, such as `rate`, means the first of them."""
FILES = {"name", "labels", "folder", "train", "valid", "download", *UNSET} - {"alphabet", "classes", "rate"}
"""Settings of the section "data" that are about files."""
SOUND = 1 << 16
"""Sequences of this many classes are taken for sound."""
MUCH = 1 << 21
"""Values of training data from which on the networks of codecs have their full width; of text, twice as many."""
FEW = 16
"""Pictures of at most so many classes get a softmax over them, others a mixture."""

_ANY: dict[str, dict[str, Any]] = {
    "image": {"preset": "centred", "width": 32},
    "text": {"preset": "text-small"},
    "audio": {"preset": "audio-small"},
    "table": {"preset": "table"},
}
_CODEC: dict[str, dict[str, Any]] = {
    "image": {"preset": "pictures-small"},
    "text": {"preset": "recurrent", "dropout": 0.1},
    "audio": {"preset": "lattice"},
    "table": {"preset": "table"},
}
_MUON = {"batch": 16, "optimiser": "muon", "rate": 3e-3, "precision": "auto", "valid_items": 64}
_TRAIN: dict[str, dict[str, Any]] = {
    "unet": {"batch": 32},
    "centred": {**_MUON, "muon_rate": 0.03, "subset": 512},
    "wavefront": {"batch": 16, "rate": 3e-3},
    "transformer": {"batch": 32},
    "wavenet": {"batch": 16},
    "recurrent": {**_MUON, "decay": "linear"},
    "lattice": {"batch": 4, "rate": 3e-3, "valid_items": 32, "valid_every": 250},
    "mlp": {"batch": 256, "weight_decay": 1e-2, "valid_items": 512},
}
"""Defaults by trunk; those of the shipped recipes."""
ALONE: dict[str, Any] = {"batch": 32, "rate": 6e-3, "valid_every": 250, "valid_items": 256}
"""The same for a recurrent network on texts that are coded alone, which are many and short."""
ORDERS = (3, 5, 8, 12, 20)
"""Lengths of the contexts that are counted in texts that are coded alone; `cuts.LEAD` is no shorter."""
STEPS = 3000


def recipe_of(
    settings: Mapping[str, Any],
    train_set: Dataset,
    kind: str = "",
    base: str | Recipe = "",
    codec: bool = False,
    name: str = "",
    labels: int = 0,
) -> Recipe:
    """The recipe of a fit.

    settings: by name (`steps`), by full name ("train.steps"), or a section of them (`train={…}`).
    kind: one of KINDS; "" guesses it from the data.  base: a recipe to change instead of the defaults.
    codec: by default a model that can be exported.  name: of the run.  labels: their number; 0: as in train_set.
    Raises ArdmError for an unknown setting, with the nearest one; for one about files; for two values of one setting;
    and for data that no default fits.
    """
    given = sections(settings)
    refuse_files(given["data"])
    if base:
        start = (base if isinstance(base, Recipe) else load_recipe(base)).to_dict()
        values = {**start, "data": {k: start["data"][k] for k in ("flip", "rotate", "labels")}}
        if {"preset", "trunk"} & given["model"].keys():
            values["model"] = {"shape": []}
    else:
        values = defaults(given, train_set, kind, codec)
    merged = {name: {**values.get(name, {}), **given[name]} for name in SECTIONS}
    merged["data"] |= {"name": MEMORY, "folder": "", "train": "train", "valid": "valid"}
    merged["data"]["classes"] = train_set.classes
    if train_set.labels is not None:
        merged["data"]["labels"] = True
        merged["model"]["labels"] = merged["model"].get("labels") or labels or int(train_set.labels.max()) + 1
    return from_values(Recipe, {"name": name or values.get("name", "unnamed"), **merged})


def sections(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by section.  Raises ArdmError for one that does not exist, or is given twice."""
    found: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for key, value in settings.items():
        if key in found and isinstance(value, Mapping):
            pairs = [(key, str(name), one) for name, one in value.items()]
        else:
            pairs = [(*_place(key), value)]
        for section, name, one in pairs:
            if name in found[section]:
                raise ArdmError(f"{section}.{name} is given twice")
            found[section][name] = one.item() if isinstance(one, np.generic) else one
    return found


def _place(key: str) -> tuple[str, str]:
    """The section and name of a setting.  Raises ArdmError for an unknown one, with the nearest."""
    section, dot, name = key.partition(".")
    if dot and section in SECTIONS:
        return section, name
    for section, names in SECTIONS.items():
        if key in names:
            return section, key
    known = [name for names in SECTIONS.values() for name in names]
    raise ArdmError(f"ardm.fit and recipes have no setting {key!r}{nearest(key, known)}")


def refuse_files(given: Mapping[str, Any]) -> None:
    """Raise ArdmError for settings of data that only files have."""
    if wrong := sorted(FILES & given.keys()):
        raise ArdmError(f"data.{wrong[0]} is a setting of data in files, and these are in memory: leave it out")


def defaults(given: Mapping[str, Mapping[str, Any]], train_set: Dataset, kind: str, codec: bool) -> dict[str, Any]:
    """Model and training by kind of data, where the caller names no preset and no trunk; training by trunk."""
    chosen = {"preset", "trunk"} & given["model"].keys()
    model = {"shape": []} if chosen else {**network(train_set, kind, codec), "shape": []}
    if not kind:
        refuse_channels_last(train_set)
    merged = {**model, **given["model"]}
    trunk = merged.get("trunk") or PRESETS.get(str(merged.get("preset")), {}).get("trunk", "unet")
    train = {"steps": STEPS, "ema": 0.998, "warmup": 50, "valid_every": 500, **_TRAIN.get(trunk, {})}
    if trunk == "recurrent" and train_set.given is not None:
        train |= ALONE
    if codec and not given["model"] and (begun := start(train_set, kind)):
        model, train = {**begun["model"], "shape": []}, train | begun["train"]
    train["batch"] = max(1, min(train.get("batch", 64), len(train_set)))
    return {"model": model, "train": train}


def network(train_set: Dataset, kind: str, codec: bool) -> dict[str, Any]:
    """The default network for items of a kind."""
    shape = tuple(train_set.shape)
    kind = kind or kind_of(train_set)
    axes = 3 if kind == "image" else 1
    if len(shape) != axes:
        raise ArdmError(f"an item of kind {kind} has {axes} ax{'e' if axes > 1 else 'i'}s; these have shape {shape}")
    found = {**_CODEC[kind], **sized(kind, train_set)} if codec else dict(_ANY[kind])
    if kind == "image" and not codec and train_set.classes <= FEW:
        found["head"] = "values"
    if kind == "audio" and train_set.classes <= FEW:
        raise ArdmError(f"sound has more than {FEW} classes; these items have {train_set.classes}: use kind='text'")
    return found


def sized(kind: str, train_set: Dataset) -> dict[str, Any]:
    """The size of a codec's network by the amount of data, so that few items pay its bytes back."""
    values = len(train_set) * train_set.predicted()
    if kind == "text":
        bits = min(16, max(10, int(math.log2(values)) - 8))  # rows of each table
        width = 96 if values < MUCH / 2 else 128 if values < 2 * MUCH else 192
        rows = min(17, max(10, int(math.log2(values)) - 5))
        counts = {"counts": ORDERS, "count_bits": rows} if train_set.texts is not None else {}
        return {"width": width, "hidden": width, "bits": bits, **counts}
    return {"width": {"image": 32, "audio": 64, "table": 128}[kind]} if values < MUCH else {}


def start(train_set: Dataset, kind: str) -> dict[str, dict[str, Any]]:
    """The network and the training of a codec of pictures of 8 bits that starts from a bundled one; {} for other items."""
    if (kind or kind_of(train_set)) != "image" or train_set.classes != 256:
        return {}
    name = {3: "pictures-small", 1: "grey"}.get(train_set.shape[0], "")
    return {"model": {"preset": name}, "train": {"init": name, "rate": 1e-3}} if name else {}


def kind_of(train_set: Dataset) -> str:
    """Guess the kind of data.  Raises ArdmError for items that look like none."""
    shape = tuple(train_set.shape)
    if train_set.columns:
        return "table"
    if len(shape) == 1:
        return "audio" if train_set.rate or train_set.classes == SOUND else "text"
    if len(shape) == 2:
        raise ArdmError(
            f"items of shape {shape}: for pictures give (N, C, H, W), such as x[:, None]; for sequences (N, D), such as "
            "x.reshape(len(x), -1); or name a preset or trunk for them"
        )
    if len(shape) == 3:
        return "image"
    raise ArdmError(f"items of shape {shape} are no pictures (C, H, W) and no sequences (D,): name a preset or trunk")


def refuse_channels_last(train_set: Dataset) -> None:
    """Raise ArdmError for pictures that look like (H, W, C)."""
    shape = tuple(train_set.shape)
    if len(shape) == 3 and shape[0] > 4 and shape[2] in (1, 3, 4):
        raise ArdmError(
            f"items of shape {shape} look like (H, W, C): give (C, H, W), with x.permute(0, 3, 1, 2) or "
            "x.transpose(0, 3, 1, 2); kind='image' takes them as they are"
        )


def is_table(settings: Mapping[str, Any], kind: str) -> bool:
    """Whether items are rows of a table: by kind, preset or trunk."""
    model = sections(settings)["model"]
    trunk = model.get("trunk") or PRESETS.get(str(model.get("preset")), {}).get("trunk")
    return kind == "table" or (not kind and trunk == "mlp")
