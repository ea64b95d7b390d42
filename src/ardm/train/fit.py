"""`ardm.fit`: train a model on data in memory, in one call.

bundle = ardm.fit(x, minutes=5)                   # x: integers (N, C, H, W) or (N, D)
bundle = ardm.fit(x, preset="text-small", steps=2000, batch=64, folder="runs/mine")  # the same call again resumes
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ardm.atomic import scratch_folder
from ardm.bundle import Bundle
from ardm.data import Dataset, memory
from ardm.errors import ArdmError
from ardm.export.convert import CALIBRATION, spread, unsupported, with_codec
from ardm.inputs import PADDING
from ardm.settings import nearest
from ardm.train import keywords
from ardm.train.bar import RunBar
from ardm.train.checkpoint import finished, of_same_length
from ardm.train.log import Log
from ardm.train.recipe import STATE, Recipe
from ardm.train.stopping import stopping
from ardm.train.trainer import Progress, Trainer

FEWEST = 32
"""The fewest items that calibrate integers; so many for each minute of training, up to CALIBRATION."""
EXPORTING = 0.2
"""The share of the minutes of a run after which its export tries no further precision."""


def fit(
    x: Any,
    valid: Any = None,
    *,
    labels: Any = None,
    given: Any = None,
    padding: Any = None,
    classes: int = 0,
    kind: str = "",
    recipe: str | Recipe = "",
    name: str = "",
    folder: str | Path | None = None,
    codec: bool = False,
    progress: bool = True,
    device: str | torch.device | None = None,
    interrupt: str = "raise",
    **settings: Any,
) -> Bundle:
    """Train a model on data in memory; returns the one that validated best.

    x: integers (N, *shape), 0..K−1: a tensor, an array, a map-style PyTorch data set or a list of items or (item, label), or
    an `ardm.data.Dataset`.  Pictures are (N, C, H, W); texts, sounds and tables (N, D).  A list of str is a list of texts, which
    end within their items: by characters, or by alphabet="bytes", "tokens" or a tokenizer.json; with codec, by bytes and
    without ends, or as rows of a table where they are records whose values repeat.
    valid: items to validate with, the same or (items, labels); None holds 5 % of x out, chosen by a hash of their numbers.
    labels: (N,) class labels as context; True takes those that come with x.
    given: of x, what is known beforehand, such as a prompt: a mask (N, *shape) of bool, or the number of digits known.
    padding: of x, the sites that are neither known nor predicted: a mask of bool, or the lengths (N,) of sequences.  A list of
    sequences of different lengths is padded.
    classes: K; 0: the largest value + 1, and 256 for pictures with a largest value of 16 to 255.
    kind: "image", "text", "audio" or "table", which decides the defaults; "" guesses: (C, H, W) are images, (D,) of 65,536
    classes audio, other (D,) text.
    recipe: one to start from, by name, file or value, instead of the defaults.
    name: on the card; by default that of the folder.
    folder: of the run, as `ardm train` makes it.  The same call again resumes it; a finished run trains on with more steps or
    minutes only.  None keeps nothing on disk.
    codec: train a network with a codec model by default, and export it: `ardm.compress(x, model=bundle)`.
    progress: show a bar on a terminal or in a notebook, and one line at the end.
    device: such as "cpu" or "cuda"; None for an accelerator if there is one.
    settings: of recipes, by the same names: steps, minutes, batch, rate, objective, seed, preset, width, order, flip, …; by
    full names, **{"train.rate": 1e-3}; or as sections, train={"rate": 1e-3}.
    interrupt: Ctrl-C stops after the present step, and saves it in the folder.  "raise" then raises KeyboardInterrupt; "keep"
    returns the best model so far.
    Raises ArdmError for data that are not such integers, for unknown settings with the nearest name, and for a folder that
    holds another run.
    """
    _refuse(kind, folder, settings, interrupt)
    table = keywords.is_table(settings, kind)
    alphabet = str(keywords.sections(settings)["data"].get("alphabet", ""))
    records = not (kind or recipe or {"preset", "trunk"} & keywords.sections(settings)["model"].keys())
    sets = memory.pair(x, valid, labels, classes, table, _rate(settings), given, padding, alphabet, codec, records)
    marks = [part.labels for part in sets if part.labels is not None]
    number = 1 + max((int(of.max()) for of in marks), default=-1)
    made = keywords.recipe_of(settings, sets[0], kind, recipe, codec, name or _name(folder), number)
    with ExitStack() as stack:
        home = stack.enter_context(scratch_folder()) if folder is None else Path(folder).expanduser()
        made = of_same_length(made, home, keywords.sections(settings)["train"])
        trainer = Trainer(made, home, resume=(home / STATE).is_file(), device=_named(device), sets=sets)
        _refuse_processes(trainer)
        if codec:
            _refuse_codec(trainer)
        show = stack.enter_context(_display(trainer, progress))
        try:
            _run(trainer, show, kept=folder is not None)
        except Stopped:
            if interrupt == "raise":
                raise
        return _finished(trainer, codec, kept=folder is not None)


def _finished(trainer: Trainer, codec: bool, kept: bool) -> Bundle:
    """The best model on the device of training, with its codec model if asked."""
    bundle = trainer.best_bundle()
    if codec:
        model = trainer.folder / "model"
        count, seconds = _exporting(trainer.config.minutes)
        bundle = with_codec(bundle, examples(trainer.train_set, count), model if kept else None, seconds)
    bundle.model.to(trainer.accelerator.device)
    return bundle


def _exporting(minutes: float) -> tuple[int, float]:
    """Items to calibrate integers with, and seconds for precisions: less in a run of few minutes, which exporting must not outlast."""
    if not minutes:
        return CALIBRATION, math.inf
    return min(CALIBRATION, max(FEWEST, int(FEWEST * minutes))), 60 * EXPORTING * minutes


def examples(part: Dataset, count: int) -> Tensor:
    """At most `count` items, evenly spread; of padded ones the longest, cut where the first of them ends."""
    if part.given is None:
        return spread(part.items, count)
    sizes = (part.given != PADDING).flatten(1).sum(1)
    shortest = int(sizes.sort(descending=True).values[:count][-1])
    return spread(part.items[sizes >= shortest][:, :shortest], count)


class Stopped(KeyboardInterrupt):
    """Ctrl-C between two steps; the state is saved, if there is a folder for it."""


def _run(trainer: Trainer, show: Callable[[Progress], None], kept: bool) -> None:
    """Train to the end, or to Ctrl-C, which saves a checkpoint and is raised as Stopped."""
    with ExitStack() as stack:
        log = stack.enter_context(Log(trainer)) if kept else None
        asked = stack.enter_context(stopping(signal.SIGINT))
        for step in trainer:
            if log is not None:
                log(step)
            show(step)
            if asked():
                if kept:
                    trainer.save()
                raise Stopped(f"stopped after step {trainer.step}" + "; the same call resumes" * kept)


# --- arguments ------------------------------------------------------------------------------------------------------------


def _refuse(kind: str, folder: str | Path | None, settings: dict[str, Any], interrupt: str) -> None:
    """Raise ArdmError for arguments that can be refused before the data are read."""
    if interrupt not in ("raise", "keep"):
        raise ArdmError(f'interrupt is "raise" or "keep"; got {interrupt!r}')
    if kind and kind not in keywords.KINDS:
        raise ArdmError(f"unknown kind {kind!r}{nearest(str(kind), keywords.KINDS)}")
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise ArdmError(f"a folder is named by a str or a Path; got {type(folder).__name__}")
    if folder is not None and Path(folder).expanduser().is_file():
        raise ArdmError(f"{folder} is a file; a run is a folder")
    train = keywords.sections(settings)["train"]
    if folder is None and (train.get("sample_every") or train.get("tensorboard")):
        raise ArdmError("train.sample_every and train.tensorboard write into the folder of the run: give folder=")


def _rate(settings: dict[str, Any]) -> int:
    """Samples per second, data.rate; 0 if it is not given."""
    rate = keywords.sections(settings)["data"].get("rate", 0)
    if not isinstance(rate, int) or rate < 0:
        raise ArdmError(f"data.rate is a number of samples per second; got {rate!r}")
    return rate


def _name(folder: str | Path | None) -> str:
    return "" if folder is None else Path(folder).expanduser().resolve().name


def _named(device: str | torch.device | None) -> str:
    """The device as the trainer takes it."""
    try:
        return "auto" if device is None else str(torch.device(device))
    except (RuntimeError, TypeError) as error:
        raise ArdmError(f"there is no device {device!r}: {str(error).splitlines()[0]}") from None


def _refuse_processes(trainer: Trainer) -> None:
    """Raise ArdmError for several processes."""
    if trainer.accelerator.num_processes > 1:
        raise ArdmError("ardm.fit trains in one process: write a recipe, and launch ardm train with accelerate")


def _refuse_codec(trainer: Trainer) -> None:
    """Raise ArdmError, before training, for a network that has no codec model, or too few items to calibrate one."""
    if len(trainer.train_set) < 2:
        raise ArdmError("codec=True needs at least 2 items to train on, to calibrate the codec model; got 1")
    if reasons := unsupported(Bundle(trainer.model, trainer.recipe.model, trainer.recipe.order)):
        raise ArdmError(f"codec=True, but {'; '.join(reasons)}: leave out codec, or the preset and trunk")


# --- display --------------------------------------------------------------------------------------------------------------


def _live(screen: Console) -> bool:
    """Whether a bar can be shown: on a terminal, and in a notebook that has widgets."""
    if screen.is_jupyter:
        return find_spec("ipywidgets") is not None
    return screen.is_terminal and screen.file.isatty() and not screen.is_dumb_terminal


@contextmanager
def _display(trainer: Trainer, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """A function that shows the progress of a run on standard error; the last line follows when the block ends well."""
    screen = Console(stderr=True)
    before = finished(trainer.folder, trainer.step, trainer.config.minutes) if trainer.finished else ""
    with RunBar(trainer, trainer.recipe.name, screen, transient=True, disable=not (shown and _live(screen))) as bar:
        yield bar.show
    for line in filter(None, (_summary(trainer), before)) if shown else ():
        screen.print(line, markup=False, highlight=False, soft_wrap=True)


def _summary(trainer: Trainer) -> str:
    """What a run came to, in one line."""
    best, items = trainer.best, min(len(trainer.valid_set), trainer.config.valid_items)
    measured = "" if best is None else f", {best.bits:.4f} ± {best.error:.4f} bits/dim on {items} items"
    took = f"{trainer.spent:.0f} s" if trainer.spent < 100 else f"{trainer.spent / 60:.1f} min"
    about = f" (best at step {best.step})" if best is not None and best.step != trainer.step else ""
    return f"{trainer.recipe.name}: {trainer.step:,} steps in {took}{measured}{about}"
