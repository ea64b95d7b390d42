"""The progress bar of a run: steps, loss and speed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from ardm.train.trainer import Progress as Step
from ardm.train.trainer import Trainer


class RunBar(Progress):
    """A bar of one run.  name: of the run.  options: see `rich.progress.Progress`."""

    def __init__(self, trainer: Trainer, name: str, screen: Console, **options: Any) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=screen, redirect_stdout=False, **options)
        self.name = escape(name)
        self.run = self.add_task(self.name, total=trainer.steps or None, completed=trainer.step)

    def show(self, step: Step) -> None:
        """Show a step."""
        about = f"{self.name}  {step.loss:.3f} bits/dim  {step.speed:.0f} items/s"
        self.update(self.run, completed=step.step, total=step.steps, description=about)
