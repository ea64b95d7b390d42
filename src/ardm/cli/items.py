"""The items that a command measures a model on: those of its recipe, or of other data with the same values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ardm.cli.console import note
from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch

    from ardm.bundle import Bundle
    from ardm.data import Dataset
    from ardm.symbols import Symbols
    from ardm.train.recipe import DataConfig


@dataclass(frozen=True)
class Items:
    """Items x (n, *shape) int64 and where they come from.

    labels: (n,), if the model takes them.  given: (n, *shape), what is known beforehand, or padding; None: all is predicted.
    bytes: of text in all items together; 0: none, or unknown.
    """

    x: torch.Tensor
    labels: torch.Tensor | None
    given: torch.Tensor | None
    where: str
    bytes: int = 0


def items_of(bundle: Bundle, name: str, folder: Path | None, split: str, count: int, changes: list[str]) -> Items:
    """At most `count` items (0: all) of a split, see `Dataset.some`.

    name, folder, changes: the data set, default that of the model's recipe, and settings of it.
    Raises ArdmError for data that the model does not fit.
    """
    from ardm import data

    source = _source(bundle, name, folder, changes)
    chosen = data.of_config(source, split, symbols=_symbols(bundle, changes), schema=bundle.schema)
    if chosen.files is not None:
        note(f"data: {chosen.about}")
    if _trained_on(bundle, source, split, chosen.files is None):
        note(
            f"{bundle.name} was trained on items of {source.name}/{split}: its training split was {_recipe(bundle)['train']}"
        )
    chosen = chosen.some(count)
    x = chosen.items.long()
    if tuple(x.shape[1:]) != tuple(bundle.model.shape):
        raise ArdmError(
            f"{bundle.name} models items of shape {bundle.model.shape}; those of {source.name} have "
            f"{tuple(x.shape[1:])}"
        )
    _refuse_other(bundle, x, chosen)
    labels = chosen.labels.long() if bundle.config.labels and chosen.labels is not None else None
    given = chosen.known(slice(None), len(bundle.model.digits))
    size = 0 if chosen.bytes is None else int(chosen.bytes.sum())
    return Items(x, labels, given, f"{source.name}/{split}", size)


def _recipe(bundle: Bundle) -> dict[str, Any]:
    """The section "data" of a model's recipe; empty for a model without one."""
    known = bundle.card.get("recipe")
    return dict(known.get("data", {})) if isinstance(known, dict) else {}


def _trained_on(bundle: Bundle, source: DataConfig, split: str, published: bool) -> bool:
    """Whether the training split of the model's recipe holds items of a split of the same data, which own data have by folder."""
    from ardm import data
    from ardm.train.recipe import DataConfig

    known = {**asdict(DataConfig()), **_recipe(bundle)}
    told = ("name", "set") if published else ("name", "folder")
    same = bool(_recipe(bundle)) and all(known[key] == getattr(source, key) for key in told)
    return same and data.share_items(source.name, known["train"], split)


def _symbols(bundle: Bundle, changes: list[str]) -> Symbols | None:
    """The symbols of the model, by which text is read; None where the user asks for an alphabet."""
    return None if any(c.startswith("data.alphabet") for c in changes) else bundle.symbols


def _refuse_other(bundle: Bundle, x: torch.Tensor, chosen: Dataset) -> None:
    """Raise ArdmError for values that the model does not know, and for text of another alphabet."""
    K = bundle.config.classes
    if int(x.max()) >= K or (bundle.content == "text" and chosen.classes != K):
        raise ArdmError(f"{bundle.name} models {K} values; {chosen.name} has {chosen.classes}")
    if any(int(n) >= limit for n, limit in zip(x.flatten(1).amax(0), bundle.config.columns, strict=False)):
        raise ArdmError(f"a column of {chosen.name} has more values than {bundle.name} models")


def _source(bundle: Bundle, name: str, folder: Path | None, changes: list[str]) -> DataConfig:
    """The data of the model's recipe, or of another name, with changes."""
    from ardm.settings import from_values, override
    from ardm.train.recipe import DataConfig, Recipe

    values: dict[str, Any] = {} if name else dict(_recipe(bundle))
    values |= {key: str(value) for key, value in (("name", name), ("folder", folder)) if value}
    wrong = [c for c in changes if not c.startswith("data.")]
    if wrong:
        raise ArdmError(f"settings of the data begin with data., such as data.folder=FOLDER; got {wrong[0]!r}")
    whole = override({"data": {**asdict(DataConfig()), **values}}, changes)
    return from_values(Recipe, whole).data
