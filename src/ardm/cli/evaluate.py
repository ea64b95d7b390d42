"""`ardm eval`: bits per dimension of a model on a data set."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ardm.cli.console import guard, note, say
from ardm.cli.options import Device, Model, Seed, Threads, use_threads
from ardm.cli.progress import Bar
from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch

    from ardm.bundle import Bundle
    from ardm.data import Dataset
    from ardm.train.recipe import DataConfig

CHUNK = 64
"""Items that are scored together."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("eval")(evaluate)


def evaluate(
    model: Model,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings of the data, such as data.folder=~/data or data.set=adult.")
    ] = None,
    name: Annotated[str, typer.Option("--data", help="Data set (default: that of the model's recipe).")] = "",
    folder: Annotated[Path | None, typer.Option(help="Folder of the data (default: that of the recipe).")] = None,
    split: Annotated[str, typer.Option(help="Split of the data.")] = "test",
    items: Annotated[int, typer.Option(help="Number of items; 0: all.", min=0)] = 256,
    calls: Annotated[
        int,
        typer.Option(
            help="Compute the exact code length in this many network calls; 0: the any-order bound, or the model's own plan.",
            min=0,
        ),
    ] = 0,
    order: Annotated[str, typer.Option(help="Order for --calls (default: the model's own, or random).")] = "",
    passes: Annotated[int, typer.Option(help="Random steps per item, for the bound.", min=1)] = 4,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure bits per dimension on a data set.

    Prints the mean with its standard error, and the name of the estimator.
    """
    with guard(), Bar(quiet) as bar:
        from ardm import api, data, likelihood
        from ardm.bundle import load

        use_threads(threads)
        bundle = load(model, device)
        source = _source(bundle, name, folder, changes or [])
        chosen = data.of_config(source, split)
        if chosen.files is not None:
            note(f"data: {chosen.about}")
        x = chosen.items[: items or None].long()
        if tuple(x.shape[1:]) != tuple(bundle.model.shape):
            raise ArdmError(
                f"{bundle.name} models items of shape {bundle.model.shape}; those of {source.name} have "
                f"{tuple(x.shape[1:])}"
            )
        x = _recoded(bundle, x, chosen)
        began = time.perf_counter()
        labels = chosen.labels[: len(x)].long() if bundle.config.labels and chosen.labels is not None else None
        parts = x.split(CHUNK)
        contexts = [None] * len(parts) if labels is None else list(labels.split(CHUNK))
        scores = (
            api.score(bundle, part, calls or None, order or None, seed + i, passes, context)
            for i, (part, context) in enumerate(zip(parts, contexts, strict=True))
        )
        result = likelihood.Estimate.joined(list(bar.track("scoring", scores, len(parts))))
        say(f"{bundle.name} on {len(x)} items of {source.name}/{split}: {result}")
        if bundle.content == "table":
            say(f"{-float(result.nats.mean()):.4f} nats per item (log-likelihood)")
        say(f"{time.perf_counter() - began:.1f} seconds")


def _recoded(bundle: Bundle, x: torch.Tensor, chosen: Dataset) -> torch.Tensor:
    """Items with the model's class numbers: table columns are matched by their values, which every file numbers afresh.

    Raises ArdmError for values that the model does not know, and for text of another alphabet.
    """
    ours, theirs = bundle.schema, chosen.schema
    if ours is not None and theirs is not None and ours.categories != theirs.categories:
        import torch

        if ours.names != theirs.names:
            raise ArdmError(f"{bundle.name} models the columns {', '.join(ours.names)}; got {', '.join(theirs.names)}")
        columns = []
        for values, name, known, kinds in zip(x.T, ours.names, ours.categories, theirs.categories, strict=True):
            number = {text: n for n, text in enumerate(known)}
            columns.append(torch.tensor([number.get(text, -1) for text in kinds], device="cpu")[values])
            if int(columns[-1].min()) < 0:
                strange = kinds[int(values[columns[-1].argmin()])]
                raise ArdmError(f"{bundle.name} does not know the value {strange!r} of column {name!r}")
        return torch.stack(columns, 1)
    K = bundle.config.classes
    if int(x.max()) >= K or (bundle.content == "text" and chosen.classes != K):
        raise ArdmError(f"{bundle.name} models {K} values; {chosen.name} has {chosen.classes}")
    if any(int(n) >= limit for n, limit in zip(x.flatten(1).amax(0), bundle.config.columns, strict=False)):
        raise ArdmError(f"a column of {chosen.name} has more values than {bundle.name} models")
    return x


def _source(bundle: Bundle, name: str, folder: Path | None, changes: list[str]) -> DataConfig:
    """The data of the model's recipe, or of another name, with changes."""
    from ardm.settings import from_values, override
    from ardm.train.recipe import DataConfig, Recipe

    known = bundle.card.get("recipe")
    values: dict[str, Any] = {} if name or not isinstance(known, dict) else dict(known.get("data", {}))
    values |= {key: str(value) for key, value in (("name", name), ("folder", folder)) if value}
    wrong = [c for c in changes if not c.startswith("data.")]
    if wrong:
        raise ArdmError(f"settings of the data begin with data., such as data.folder=FOLDER; got {wrong[0]!r}")
    whole = override({"data": {**asdict(DataConfig()), **values}}, changes)
    return from_values(Recipe, whole).data
