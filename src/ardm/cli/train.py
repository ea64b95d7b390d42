"""`ardm train`: a training run with a progress bar, a log, and Ctrl-C that stops after a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

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
        list[str] | None, typer.Argument(help="Settings to change, such as train.batch=32 data.folder=~/data.")
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
        from ardm.train.recipe import is_run, load_recipe

        use_threads(threads)
        from ardm.train.trainer import Trainer

        changed = [*(changes or []), *([] if seed is None else [f"train.seed={seed}"])]
        plan = load_recipe(recipe, changed)
        run = Path(recipe)
        folder = out or (run if is_run(run) else Path("runs") / plan.name)
        trainer = Trainer(plan, folder, resume, cpu, device)
        speaks = trainer.accelerator.is_main_process and not quiet
        for part, of in (("train", trainer.train_set), ("valid", trainer.valid_set)):
            if speaks:
                say(f"data.{part}: {of.about}")
        if speaks and trainer.finished:
            more = "minutes" if plan.train.minutes else "steps"
            say(f"the run in {folder} is complete at step {trainer.step}; a larger train.{more} continues it")
        follow(trainer, trainer, quiet)
        if speaks:
            if trainer.written >= 0:
                say(f"wrote {folder / 'model'}")
            _note_stale_codec(folder / "model")


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
    from ardm.train.log import Log

    main, name = trainer.accelerator.is_main_process, escape(plain(trainer.recipe.name))
    stop: list[int] = []
    stopped = False

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)

    old = [(s, signal.signal(s, ask_to_stop)) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        screen = console if live(console) else errors  # on the one that prints the log's lines, or beside a pipe
        hidden = quiet or not main or not live(screen)
        with (
            Log(trainer, main) as log,
            Progress(*columns, console=screen, disable=hidden, redirect_stdout=False) as bar,
        ):
            task = bar.add_task(name, total=trainer.steps or None, completed=trainer.step)
            for progress in steps:
                line = log(progress)
                text = f"{name}  {progress.loss:.3f} bits/dim  {progress.speed:.0f} items/s"
                bar.update(task, completed=progress.step, total=progress.steps, description=text)
                if line and not quiet and main:
                    say(line)
                stopped = trainer.anyone(bool(stop))  # processes may receive the signal at different steps
                if stopped:
                    trainer.save()
                    break
    finally:
        for s, handler in old:
            signal.signal(s, handler)
    if main and trainer.best_note and not quiet:
        note(trainer.best_note)
    if stopped:
        if main:
            say(f"stopped after step {trainer.step}; resume with --resume")
        raise typer.Exit(INTERRUPTED)
