"""The data of a recipe, and recipe and network matched to them: shape, classes, columns, labels and counts."""

from __future__ import annotations

from dataclasses import replace

from ardm import data
from ardm.data import Dataset
from ardm.data.memory import MEMORY
from ardm.errors import ArdmError
from ardm.model import Model
from ardm.models.wavefront import RecurrentBody
from ardm.train.objectives import kind_of
from ardm.train.recipe import DataConfig, Recipe, TrainConfig


def read(source: DataConfig) -> tuple[Dataset, Dataset]:
    """The training and the validation items that a recipe names."""
    train = data.of_config(source, source.train, training=True)
    named = train.symbols if train.symbols is not None and train.symbols.is_named else None
    return train, data.of_config(source, source.valid, symbols=named)  # the alphabet of the training set


def notes(recipe: Recipe) -> list[str]:
    """What a run should say at its start: it validates on items that it trains on, or settings change nothing."""
    source, found = recipe.data, list[str]()
    if source.name != MEMORY and data.share_items(source.name, source.train, source.valid):
        other = "; data.train=fit leaves them out" if (source.train, source.valid) == ("train", "valid") else ""
        both = f"data.train={source.train} holds data.valid={source.valid}"
        found.append(f"the run validates on items that it trains on: {both}{other}")
    if names := unread(recipe):
        found.append(f"without effect in this run: {', '.join(names)}")
    return found


def unread(recipe: Recipe) -> list[str]:
    """The settings of the section train that differ from their defaults, and that a run of this recipe does not read."""
    train, plain = recipe.train, TrainConfig()
    objective = kind_of(recipe.model, recipe.order, train)
    read = {
        "subset": "subset" in objective.reads,
        "diffusion_steps": "diffusion_steps" in objective.reads,
        "first_level": "first_level" in objective.reads and len(recipe.order.calls) > 1,
        "memory": objective.has_curve,
        "muon_rate": train.optimiser == "muon",
        "order_rate": recipe.model.rates,
        "label_dropout": recipe.data.labels,
        "final": train.decay != "constant",
    }
    return [f"train.{name}" for name, does in read.items() if not does and getattr(train, name) != getattr(plain, name)]


def count(model: Model, dataset: Dataset) -> None:
    """Count the training texts, where the network reads counts."""
    if isinstance(model.body, RecurrentBody):
        model.body.count(dataset.items, dataset.given, dataset.texts)


def fitted(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Return the recipe; if its model has shape (), fill in shape, classes and columns from the data.

    Raises ArdmError where the model has a shape of its own and the data do not fit it, and for data of a single value.
    """
    model, name = recipe.model, recipe.data.name
    if dataset.classes < 2:
        raise ArdmError(f"all values of {dataset.name} are the same: there is nothing to learn")
    if not model.shape:
        shape = tuple(int(n) for n in dataset.shape)
        model = replace(model, shape=shape, classes=dataset.classes, columns=tuple(dataset.columns))
        if dataset.symbols is not None and dataset.symbols.end:
            model = replace(model, end=True)
        return replace(recipe, model=model)
    if tuple(dataset.shape) != tuple(model.shape):
        raise ArdmError(
            f"the items of {name} have shape {tuple(dataset.shape)}; set model.shape to that (it is {model.shape})"
        )
    if dataset.classes > model.classes:
        raise ArdmError(f"the items of {name} have {dataset.classes} classes; set model.classes to that")
    if dataset.symbols is not None and dataset.symbols.end != model.end:
        raise ArdmError(
            f"the texts of {name} {'end' if dataset.symbols.end else 'do not end'} within items: set model.end to "
            f"{str(dataset.symbols.end).lower()}, or shape: []"
        )
    if dataset.columns and tuple(dataset.columns) != tuple(model.columns):
        raise ArdmError(
            f"the columns of {name} have {dataset.columns} classes; set model.columns to that, or shape: []"
        )
    return recipe


def check_valid(recipe: Recipe, train_set: Dataset, valid_set: Dataset) -> None:
    """Raise ArdmError, before training, where the validation items are of another form than the training items."""
    for name in ("shape", "columns", "rate"):
        mine, theirs = (getattr(part, name) for part in (train_set, valid_set))
        if mine != theirs:
            shown = [tuple(v) if name == "shape" else v for v in (theirs, mine)]
            raise ArdmError(
                f"the items of {valid_set.name} have {name} {shown[0]}, those of {train_set.name} {shown[1]}: give the same"
            )
    if valid_set.classes > recipe.model.classes:
        raise ArdmError(
            f"{valid_set.name} has {valid_set.classes} classes, and the model {recipe.model.classes}: set model.classes"
        )


def check_labels(recipe: Recipe, train_set: Dataset, valid_set: Dataset) -> None:
    """Raise ArdmError where the labels of the data do not fit the model, or where the model would never get a label."""
    classes = recipe.model.labels
    if not recipe.data.labels:
        if classes:
            raise ArdmError(
                f"model.labels is {classes}, but the data give no labels: set data.labels=true, or model.labels=0"
            )
        return
    if train_set.labels is None or not classes:
        raise ArdmError("data.labels needs a data set with labels, and model.labels set to their number")
    for part in (train_set, valid_set):
        if part.labels is None:
            if not recipe.train.label_dropout:
                raise ArdmError(f"{part.name} has no labels: validate on data with labels, or set train.label_dropout")
        elif len(part) and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < classes:
            low, high = int(part.labels.min()), int(part.labels.max())
            raise ArdmError(
                f"the labels of {part.name} are {low}..{high}, those of the model 0..{classes - 1}: set model.labels"
            )
