"""`ardm eval`: bits per dimension of a model on a data set."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.cli.console import guard, say
from ardm.cli.items import items_of
from ardm.cli.options import (
    BlockLength,
    DataChanges,
    DataFolder,
    DataName,
    Device,
    Model,
    Score,
    Seed,
    Select,
    Split,
    Threads,
    ordering,
    use_threads,
)
from ardm.cli.progress import Bar

if TYPE_CHECKING:
    from ardm.likelihood import Estimate

CHUNK = 64
"""Items that are scored together."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("eval")(evaluate)


def _of_text(result: Estimate, unit: str, size: int) -> str:
    """The figures of text in the units of its field; size: bytes of the text."""
    nats = float(result.nats.sum())
    perplexity = math.exp(min(nats / result.dims, 700)) if result.dims else math.nan
    per_byte = nats / math.log(2) / size
    return f"perplexity {perplexity:.4g} a {unit}, {per_byte:.4f} bits a byte ({result.dims:,} {unit}s, {size:,} bytes)"


def evaluate(
    model: Model,
    changes: DataChanges = None,
    name: DataName = "",
    folder: DataFolder = None,
    split: Split = "test",
    items: Annotated[int, typer.Option(help="Number of items; 0: all.", min=0)] = 256,
    calls: Annotated[
        int,
        typer.Option(
            help="Compute the exact code length in this many network calls; 0: the any-order bound, or the model's own plan.",
            min=0,
        ),
    ] = 0,
    order: Annotated[str, typer.Option(help="Order for --calls (default: the model's own, or random).")] = "",
    score: Score = "",
    select: Select = "",
    block_length: BlockLength = None,
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
        from ardm import api, likelihood
        from ardm.bundle import load

        use_threads(threads)
        bundle = load(model, device)
        found = items_of(bundle, name, folder, split, items, changes or [])
        began = time.perf_counter()
        parts = found.x.split(CHUNK)
        labels, known = ([None] * len(parts) if v is None else v.split(CHUNK) for v in (found.labels, found.given))
        along = ordering(order, score, select, block_length)
        scores = (
            api.score(bundle, part, calls or None, along, seed + i, passes, context, given)
            for i, (part, context, given) in enumerate(zip(parts, labels, known, strict=True))
        )
        result = likelihood.Estimate.joined(list(bar.track("scoring", scores, len(parts))))
        say(f"{bundle.name} on {len(found.x)} items of {found.where}: {result}")
        if bundle.symbols is not None and found.bytes:
            say(_of_text(result, bundle.symbols.unit, found.bytes))
        if bundle.content == "table":
            say(f"{-float(result.nats.mean()):.4f} nats per item (log-likelihood)")
        say(f"{time.perf_counter() - began:.1f} seconds")
