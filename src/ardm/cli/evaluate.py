"""`ardm eval`: bits per dimension of a model on a data set."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.cli.console import guard, say
from ardm.cli.items import items_of
from ardm.cli.options import (
    MOST,
    BlockLength,
    DataChanges,
    DataFolder,
    DataName,
    Device,
    Model,
    Precision,
    Score,
    Seed,
    Select,
    Split,
    Threads,
    ordering,
    use_threads,
)
from ardm.cli.progress import Bar
from ardm.cli.samplers import Guidance, guided
from ardm.errors import ArdmError

if TYPE_CHECKING:
    from ardm.bundle import Bundle
    from ardm.estimate import Estimate

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
    guidance: Guidance = None,
    passes: Annotated[int, typer.Option(help="Random steps per item, for the bound.", min=1, max=MOST)] = 4,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    record: Annotated[
        bool, typer.Option("--record", help="Measure what bf16 loses, and write it on the card of the model's folder.")
    ] = False,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure bits per dimension on a data set.

    Prints the mean with its standard error, and the name of the estimator.
    """
    with guard(), Bar(quiet) as bar:
        from ardm import api, estimate
        from ardm.bundle import load

        use_threads(threads)
        if record and guidance is not None:
            raise ArdmError("--record measures the model itself; leave --guidance out")
        plain = load(model, device, precision=precision)
        bundle = guided(plain, guidance)
        found = items_of(bundle, name, folder, split, items, changes or [])
        began = time.perf_counter()
        parts = found.x.split(CHUNK)
        labels, known = ([None] * len(parts) if v is None else v.split(CHUNK) for v in (found.labels, found.given))
        along = ordering(order, score, select, block_length)

        def scored(which: Bundle, label: str) -> Estimate:
            scores = (
                api.score(which, part, calls or None, along, seed + i, passes, context, given)
                for i, (part, context, given) in enumerate(zip(parts, labels, known, strict=True))
            )
            return estimate.Estimate.joined(list(bar.track(label, scores, len(parts))))

        result = scored(bundle, "scoring")
        say(f"{bundle.name} on {len(found.x)} items of {found.where}: {result}")
        if bundle.symbols is not None and found.bytes:
            say(_of_text(result, bundle.symbols.unit, found.bytes))
        if record or precision == "bf16":
            bf16 = plain.model.bf16
            other = scored(guided(plain.with_precision("float32" if bf16 else "bf16"), guidance), "other precision")
            _lost(plain, model, *((result, other) if bf16 else (other, result)), record)
        if bundle.content == "table":
            say(f"{-float(result.nats.mean()):.4f} nats per item (log-likelihood)")
        say(f"{time.perf_counter() - began:.1f} seconds")


def _lost(bundle: Bundle, model: str, rough: Estimate, fine: Estimate, record: bool) -> None:
    """Print what bf16 loses at the same random steps, and write it on the card of the model's folder."""
    from ardm.bundle import LITTLE

    lost = rough.less(fine)
    bits, error = lost.bits_per_dim, lost.bits_per_dim_error
    say(f"bf16 loses {bits:.5f} ± {error:.5f} bits/dim against float32 ({fine.bits_per_dim:.4f})")
    if record:
        if not Path(model).is_dir():
            raise ArdmError(f"--record writes into the folder of a model; {model} is none: save it into a folder first")
        card = {**bundle.card, "bf16_loss": round(bits, 6)}
        replace(bundle, card=card).save(model)
        chosen = "chosen automatically where it is faster" if abs(bits) < LITTLE else "not chosen automatically"
        say(f"wrote it on the card of {model}; bf16 is {chosen}")
