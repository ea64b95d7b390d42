"""`ardm fit`: samples of your own to a codec model of them, and a table of what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from ardm.atomic import refuse_target, write_whole
from ardm.bench.codec import Absent, Codec
from ardm.bench.compare import Row, measure, plain
from ardm.bench.payback import CHECK, COUNTED, Payback, bundled, fitted, usual
from ardm.cli.console import guard
from ardm.cli.options import Force, Quiet, Threads, use_threads
from ardm.cli.progress import Bar
from ardm.content import Content
from ardm.errors import ArdmError

if TYPE_CHECKING:
    from ardm.bundle import Bundle
    from ardm.data.samples import Samples
    from ardm.exact.model import CodecModel

RUN = ".run"
"""The ending of the folder of a run, beside its model."""
TRAINING = 0.6
"""The least share of the time in which the network trains; the rest is for exporting and measuring."""
REST, REST_SOUND = 1.5, 4.0
"""The most minutes for exporting and measuring; sounds take longer."""
LEAST = 0.1
"""The least share of the time for measuring, however long everything before it took."""
MOST = 200
"""The most held-out items that are measured, if the time allows."""
DICTIONARY = 4000
"""The most items that zstd trains its dictionary on."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(fit)


def fit(
    samples: Annotated[
        list[Path],
        typer.Argument(metavar="SAMPLES...", help="Files or folders: lines, texts, pictures, sounds, .npy."),
    ],
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="The codec model to write, such as my.model.")],
    minutes: Annotated[
        float, typer.Option(help="About how long it may take, exporting and measuring included.", min=0.05)
    ] = 10.0,
    each: Annotated[
        str,
        typer.Option(
            help="What an item of text is: line or file (default: a line of .jsonl, .csv, .log or a single text)."
        ),
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run beside the model.")] = False,
    device: Annotated[str, typer.Option(help="Device to train on: auto, cpu, cuda, mps, ...")] = "auto",
    threads: Threads = 0,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Fit a codec to many small items of your own.

    Recognises what the samples are, holds some of them out, trains a network for the time given, exports it as a codec
    model for `ardm compress -m`, and prints a table of the held-out items: the model beside zstd with a trained dictionary
    and other codecs.

    Ctrl-C ends the training early: the best model so far is exported and measured.  --resume continues; give more --minutes.
    """
    with guard(), Bar(quiet) as bar:
        end = monotonic() + 60 * minutes
        run = _refuse(out, force, resume)
        use_threads(threads)
        with bar.busy("reading"):
            from ardm.data.samples import read

            found = read(samples, each)
            parts = found.parts()
        _tell(bar, found, parts)
        training = max(TRAINING * minutes, minutes - (REST_SOUND if found.kind == "audio" else REST))
        bundle = _trained(parts, run, out.stem, training, device, quiet, resume)
        codec = bundle.codec
        assert codec is not None
        write_whole(out, codec.save, force or resume)
        _show(bar, _measured(codec, out, parts, max(end - monotonic(), 60 * LEAST * minutes), bar))
        bar.say(f"wrote {out}: ardm compress -m {out} FILE, ardm decompress -m {out} FILE.ardm")
        bar.say(f"for these sizes add --bare --check {CHECK}; items of an archive with --check {CHECK} come close")
        early = float(bundle.card.get("minutes", 0)) < 0.99 * training
        bar.say(f"{'stopped early; ' if early else ''}--resume with more --minutes trains on from {run}")


def _refuse(out: Path, force: bool, resume: bool) -> Path:
    """The folder of the run.  Raises ArdmError, before any work, for a model or a run that is or is not there."""
    if out.is_dir():
        raise ArdmError(f"{out} is a folder, and the model is one file; name it, such as {out / 'my.model'}")
    run = out.with_name(out.name + RUN)
    refuse_target(out, force or resume)
    if resume and not run.is_dir():
        raise ArdmError(f"there is no run {run} to resume; leave out --resume")
    if not resume and run.exists():
        _refuse_run(run, force)
    return run


def _refuse_run(run: Path, force: bool) -> None:
    """Raise ArdmError for an earlier run that is not to be given up, and for any other folder or file."""
    from ardm.train.recipe import is_run

    if not force:
        raise ArdmError(f"{run} holds an earlier run: go on with --resume, or begin anew with -f")
    if not is_run(run):
        raise ArdmError(f"{run} is not a run of ardm, and is kept; give another name with -o")


def _tell(bar: Bar, found: Samples, parts: dict[str, Samples]) -> None:
    """Say what the samples are, and how they are split."""
    if bar.quiet:
        return
    train, valid, test = (len(parts[name]) for name in ("train", "valid", "test"))
    bar.say(f"{found.about}: {train:,} to learn from, {valid:,} to choose with, {test:,} held out to measure")
    bar.say(f"the parts share no {found.promise}")


def _trained(
    parts: dict[str, Samples], run: Path, name: str, minutes: float, device: str, quiet: bool, resume: bool
) -> Bundle:
    """The best model that training finds, with its codec model; without `resume` an earlier run is given up."""
    from ardm.data.cuts import training
    from ardm.data.records import learned
    from ardm.train.devices import accelerator
    from ardm.train.fit import fit as train

    kind, both = parts["train"].kind, [parts[part] for part in ("train", "valid")]
    schema = learned(*(part.contents for part in both)) if kind == "text" else None
    sets = [training(part, f"{name}/{which}", schema) for which, part in zip(("train", "valid"), both, strict=True)]
    accelerator(device)  # refuses what is no device
    if run.exists() and not resume:
        rmtree(run)  # only now, when nothing is wrong with samples and options
    return train(
        sets[0], sets[1], kind="table" if schema else kind, name=name, folder=run, codec=True, progress=not quiet,
        device=None if device == "auto" else device, interrupt="keep", minutes=minutes,
    )  # fmt: skip


# --- measuring --------------------------------------------------------------------------------------------------------


def _measured(codec: CodecModel, out: Path, parts: dict[str, Samples], room: float, bar: Bar) -> Payback:
    """The model and the usual codecs on held-out items, as many as fit into about `room` seconds."""
    from ardm.codec.registry import coder

    held = parts["test"].contents
    drawn = [held[n] for n in np.random.default_rng(0).permutation(len(held))[:MOST]]
    with bar.busy(f"measuring {out.name}"):
        mine = fitted(out.name, coder(codec), drawn, room / 2)
    items = drawn[: len(mine.sizes) or len(drawn)]
    with bar.busy("measuring the bundled model"):
        base = None if parts["test"].kind == "table" else bundled(items, room / 4)
    if base is not None and base.measured:
        items = items[: len(base.sizes)]
        mine = replace(mine, sizes=mine.sizes[: len(items)])
    codecs = usual(items, _spread(parts["train"].contents, DICTIONARY))
    rows = [*([] if base is None else [base]), *(_row(each, items, bar) for each in codecs)]
    return Payback(items, rows, mine, out.stat().st_size)


def _row(codec: Codec | Absent, items: Sequence[Content], bar: Bar) -> Row:
    with bar.busy(f"measuring {codec.name}"):
        return measure(codec, items, done=bar.ticker(f"measuring {codec.name}", len(items)))


def _spread(items: Sequence[Content], most: int) -> list[Content]:
    """At most so many of the items, evenly spread."""
    number = min(len(items), most)
    return [items[n * len(items) // number] for n in range(number)]


def _show(bar: Bar, found: Payback) -> None:
    """Print the table, what it counts, and who wins."""
    heads, cells = found.table()
    raw = sum(item.raw_bytes for item in found.items) / len(found.items)
    bar.say(f"{len(found.items):,} held-out items of {raw:,.1f} bytes on average:")
    bar.say(*plain(heads, cells).split("\n"), COUNTED, found.verdict)
