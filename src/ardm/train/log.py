"""What a run leaves to read: train.log (text), metrics.jsonl, scalars and samples for tensorboard if asked.

metrics.jsonl has each step once, however often a run was killed: a line is written out before the checkpoint of its step,
and what lies beyond the checkpoint is dropped when the run goes on.  train.log tells what happened, repetitions included.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ardm import api
from ardm.atomic import write_whole
from ardm.bundle import Bundle
from ardm.errors import ArdmError
from ardm.media import pictures
from ardm.media import samples as outputs
from ardm.train.recipe import RUN
from ardm.train.trainer import Progress, Trainer

NUMBER = 16
"""Samples that are drawn at a time."""


class Log:
    """Call it with each `Progress`; it returns the line it wrote, or "" between two lines."""

    def __init__(self, trainer: Trainer, active: bool = True) -> None:
        self.trainer, self.active, self.began = trainer, active, time.time()
        self.writer: Any = None
        if not active:
            return
        trainer.folder.mkdir(parents=True, exist_ok=True)
        self.text = (trainer.folder / "train.log").open("a")
        _cut(trainer.folder / "metrics.jsonl", trainer.step)
        self.metrics = (trainer.folder / "metrics.jsonl").open("a")
        values = trainer.recipe.to_dict()
        self._write(
            f"# {trainer.recipe.name}: {sum(p.numel() for p in trainer.model.parameters()):,} parameters, from step {trainer.step}"
        )
        for name, part in (("train", trainer.train_set), ("valid", trainer.valid_set)):
            self._write(f"# data.{name}: {part.about}")
        recipe = json.dumps(values, indent=2) + "\n"

        def write(new: Path) -> None:
            new.write_text(recipe)

        write_whole(trainer.folder / RUN, write, force=True)
        if trainer.config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ArdmError("train.tensorboard needs tensorboard: pip install tensorboard") from None
            self.writer = SummaryWriter(trainer.folder / "tensorboard", purge_step=trainer.step + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            if self.trainer.parted:
                self._write(f"# {self.trainer.parted}")
            self.text.close()
            self.metrics.close()
            if self.writer:
                self.writer.close()

    def __call__(self, progress: Progress) -> str:
        """Write what is due."""
        config = self.trainer.config
        if not self.active:
            return ""
        if config.sample_every and progress.step % config.sample_every == 0:
            self._samples(progress.step)
        line = ""
        if progress.step % config.log_every == 0 or progress.valid is not None:
            line = self._line(progress)
        if self.trainer.due:  # the checkpoint of this step is written next, and no line of it comes after
            os.fsync(self.metrics.fileno())
            if self.writer:
                self.writer.flush()
        return line

    def _line(self, progress: Progress) -> str:
        values = {k: v for k, v in asdict(progress).items() if v is not None and v != ""}
        self.metrics.write(json.dumps(values) + "\n")
        self.metrics.flush()
        if self.writer:
            for name in ("loss", "rate", "norm", "speed", "valid"):
                if name in values:
                    self.writer.add_scalar(name, values[name], progress.step)
        line = (
            f"step {progress.step:>7}  {progress.loss:7.4f} bits/dim  lr {progress.rate:.2e}  norm {progress.norm:7.3f}  "
            f"{progress.speed:7.1f} items/s  {time.time() - self.began:8.0f} s  left {progress.left / 60:6.1f} min"
        )
        if progress.valid is not None:
            line += f"  valid {progress.valid:.4f} ± {progress.error:.4f} ({progress.estimator})"
        return self._write(line)

    def _write(self, line: str) -> str:
        self.text.write(line + "\n")
        self.text.flush()
        return line

    def _samples(self, step: int) -> None:
        """Samples of the averaged model in the kind of its data, as a file and for tensorboard: a sheet of pictures, or
        what `ardm sample` writes.
        """
        bundle = self.trainer.bundle()
        if bundle.curve is not None and not (bundle.curve.count > 0).any(1).all():
            bundle = replace(bundle, curve=None)  # early in a run: nothing to plan the steps by yet
        kind, labels = bundle.written, bundle.config.labels
        context = torch.arange(NUMBER, device="cpu") % labels if labels else None
        calls, order = self._order(bundle)
        drawn = api.sample(bundle, NUMBER, calls, order, seed=step, context=context)
        folder = self.trainer.folder / "samples"
        folder.mkdir(exist_ok=True)
        path = folder / f"{step:07d}{outputs.ENDINGS[kind]}"
        if kind == "image":
            picture = pictures.sheet([pictures.to_image(x, bundle.model.digits.classes, 2) for x in drawn])
            write_whole(path, lambda new: picture.save(new, format="PNG"), force=True)
            if self.writer:
                self.writer.add_image("samples", np.asarray(picture), step, dataformats="HWC")
            return
        rate = bundle.card.get("rate", 0)
        lines = outputs.write(kind, drawn.numpy(), path, bundle.alphabet, bundle.schema, rate, force=True)
        if self.writer and kind != "audio":
            self.writer.add_text(
                "samples", "\n".join(f"    {line}" for text in lines for line in text.split("\n")), step
            )

    def _order(self, bundle: Bundle) -> tuple[int, str]:
        """Calls and order of samples: the plan's, one that the model takes, or coarse to fine for pictures."""
        calls = max(self.trainer.recipe.order.calls[0], len(bundle.model.digits))
        if self.trainer.plans:
            return calls, "own"
        if bundle.config.causal == "single":
            return bundle.longest, "raster"
        return calls, "bayer" if bundle.content == "image" else "random"


def _cut(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and what a kill left of a line."""
    if not path.is_file():
        return
    whole = path.read_text(errors="replace")
    kept = "".join(line for line in whole.splitlines(keepends=True) if line.endswith("\n") and _step(line) <= step)
    if kept != whole:

        def write(new: Path) -> None:
            new.write_text(kept)

        write_whole(path, write, force=True)


def _step(line: str) -> float:
    """The step that a line tells; infinity where it tells none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
