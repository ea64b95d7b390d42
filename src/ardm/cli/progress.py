"""A training run on the screen: a bar, the log's lines, and Ctrl-C that stops after a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from types import FrameType

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from ardm.cli.console import INTERRUPTED, console, live, note, plain, say
from ardm.train.log import Log
from ardm.train.trainer import Progress as Step
from ardm.train.trainer import Trainer


def follow(trainer: Trainer, steps: Iterable[Step], quiet: bool = False) -> None:
    """Run to the end, or until an interrupt: the first one saves a checkpoint, then exits with 130.

    steps: what iterates over the trainer.  quiet: only the log file.
    """
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
        hidden = quiet or not main or not live(console)
        with Log(trainer, main) as log, Progress(*columns, console=console, disable=hidden) as bar:
            task = bar.add_task(name, total=trainer.config.steps, completed=trainer.step)
            for progress in steps:
                line = log(progress)
                text = f"{name}  {progress.loss:.3f} bits/dim  {progress.speed:.0f} items/s"
                bar.update(task, completed=progress.step, description=text)
                if line and not quiet and main:
                    say(line)
                stopped = trainer.anyone(bool(stop))  # a signal reaches each process at a step of its own
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
            say(f"stopped after step {trainer.step}; go on with --resume")
        raise typer.Exit(INTERRUPTED)
