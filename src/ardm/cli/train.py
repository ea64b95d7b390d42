"""`ardm train`: a training run with a progress bar, a log, and Ctrl-C that stops after a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.cli.console import INTERRUPTED, console, errors, guard, live, note, plain, say
from ardm.cli.options import Threads, complete_recipe, use_threads

if TYPE_CHECKING:
    from ardm.train.trainer import Progress as Step
    from ardm.train.trainer import Trainer


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="A bundled recipe, a YAML file, or the folder of a run.", autocompletion=complete_recipe),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings to change, such as train.batch=32 data.folder=~/data."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", "-o", help="Folder of the run (default: runs/NAME).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the checkpoint in the folder.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random draws (default: the recipe's train.seed).", min=0)
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device to train on: auto (an accelerator if there is one), cpu, cuda, mps, ...")
    ] = "auto",
    cpu: Annotated[bool, typer.Option("--cpu", help="The same as --device cpu.")] = False,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the log file only.")] = False,
) -> None:
    """Train a model by a recipe.

    Ctrl-C saves a checkpoint and stops; --resume continues exactly from there.  `ardm train runs/NAME --resume` resumes
    that run with its own recipe.
    """
    with guard():
        from ardm.train.checkpoint import finished, of_same_length
        from ardm.train.recipe import is_run, load_recipe

        use_threads(threads)
        from ardm.train.matching import shared_note
        from ardm.train.trainer import Trainer

        changed = [*(changes or []), *([] if seed is None else [f"train.seed={seed}"])]
        plan = load_recipe(recipe, changed)
        run = Path(recipe)
        folder = out or (run if is_run(run) else Path("runs") / plan.name)
        if resume:
            named = {item.partition("=")[0].strip().removeprefix("train.") for item in changed}
            asked, plan = plan, of_same_length(plan, folder, named)
        trainer = Trainer(plan, folder, resume, "cpu" if cpu else device)
        speaks = trainer.accelerator.is_main_process and not quiet
        for part, of in (("train", trainer.train_set), ("valid", trainer.valid_set)):
            if speaks:
                say(f"data.{part}: {of.about}")
        if speaks and (shared := shared_note(plan.data)):
            note(shared)
        if speaks and trainer.anew:
            say(
                f"{len(trainer.anew)} tensors do not fit {plan.train.init} and begin anew: {', '.join(trainer.anew[:5])}"
            )
        if speaks and trainer.finished:
            say(finished(folder, trainer.step, plan.train.minutes))
        elif speaks and resume and plan != asked:
            kept = f"train.minutes={plan.train.minutes:g}" if plan.train.minutes else f"train.steps={plan.train.steps}"
            note(f"the run keeps its length, {kept}, which is not the recipe's; name another length to change it")
        follow(trainer, trainer, quiet)
        if speaks:
            if trainer.written >= 0:
                say(f"wrote {folder / 'model'}")
            _note_stale_codec(folder / "model")
        _leave(trainer)


def _leave(trainer: Trainer) -> None:
    """End a process that is one of several, once all have finished; return where it is the only one.

    It ends without tearing down what connects them: with gloo that aborts a process now and then, after all is written.
    """
    if trainer.accelerator.num_processes > 1:
        trainer.accelerator.wait_for_everyone()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _note_stale_codec(folder: Path) -> None:
    """Print a note if the codec model in a model's folder was exported from other weights."""
    from ardm.bundle import load
    from ardm.codec import registry
    from ardm.exact.model import NAME

    if (folder / NAME).is_file() and registry.model(folder).card.get("of", "") != load(folder).identity:
        note(
            f"{folder / NAME} was exported from other weights than the model beside it now has: files made with it stay "
            "readable; export again for a codec model of these weights"
        )


def follow(trainer: Trainer, steps: Iterable[Step], quiet: bool = False) -> None:
    """Run to the end or the first interrupt, which saves a checkpoint and exits with 130.

    steps: iterates over the trainer.  quiet: write the log file only.
    """
    from ardm.train.bar import RunBar
    from ardm.train.log import Log
    from ardm.train.stopping import stopping

    main, name = trainer.accelerator.is_main_process, plain(trainer.recipe.name)
    stopped = False
    screen = console if live(console) else errors  # on the one that prints the log's lines, or beside a pipe
    hidden = quiet or not main or not live(screen)
    with (
        stopping(signal.SIGINT, signal.SIGTERM) as asked,
        Log(trainer, main) as log,
        RunBar(trainer, name, screen, disable=hidden) as bar,
    ):
        for progress in steps:
            line = log(progress)
            bar.show(progress)
            if line and not quiet and main:
                say(line)
            stopped = trainer.anyone(asked())  # processes may receive the signal at different steps
            if stopped:
                trainer.save()
                break
    if main and trainer.best_note and not quiet:
        note(trainer.best_note)
    if stopped:
        if main:
            say(f"stopped after step {trainer.step}; resume with --resume")
        raise typer.Exit(INTERRUPTED)
