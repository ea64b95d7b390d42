"""The log files of a run: train.log, metrics.jsonl, samples, and on request scalars for TensorBoard.

metrics.jsonl has each step once, however often the run was killed: a line is written before the checkpoint of its step,
and lines beyond the checkpoint are dropped when the run is resumed.  train.log records everything that happened,
repeated steps included.
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
from torch import Tensor

from ardm import api
from ardm.atomic import write_bytes, write_whole
from ardm.bundle import Bundle
from ardm.errors import ArdmError
from ardm.media import pictures, samples
from ardm.train.matching import shared_note
from ardm.train.recipe import RUN
from ardm.train.trainer import Progress, Trainer

NUMBER = 16
"""Samples drawn at a time."""
SCALARS = ("loss", "rate", "norm", "speed", "valid")
"""The scalars of a step that TensorBoard shows."""


class Log:
    """The files of a run.  Call it with each `Progress`; it returns the line that it wrote, or "".

    active: whether it writes; only the first process of a run does.
    """

    def __init__(self, trainer: Trainer, active: bool = True) -> None:
        self.trainer, self.active, self.began = trainer, active, time.time()
        self.writer: Any = None
        if active:
            self._open()

    def _open(self) -> None:
        trainer, folder = self.trainer, self.trainer.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.text = (folder / "train.log").open("a")
        _drop_after(folder / "metrics.jsonl", trainer.step)
        self.metrics = (folder / "metrics.jsonl").open("a")
        size = sum(p.numel() for p in trainer.model.parameters())
        self._write(f"# {trainer.recipe.name}: {size:,} parameters, from step {trainer.step}")
        for name, part in (("train", trainer.train_set), ("valid", trainer.valid_set)):
            self._write(f"# data.{name}: {part.about}")
        if shared := shared_note(trainer.recipe.data):
            self._write(f"# {shared}")
        _replace(folder / RUN, json.dumps(trainer.recipe.to_dict(), indent=2) + "\n")
        if trainer.config.tensorboard:
            self.writer = _tensorboard(folder / "tensorboard", trainer.step + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            if self.trainer.best_note:
                self._write(f"# {self.trainer.best_note}")
            self.text.close()
            self.metrics.close()
            if self.writer:
                self.writer.close()

    def __call__(self, progress: Progress) -> str:
        """Write the lines and samples that are due after a step."""
        config = self.trainer.config
        if not self.active:
            return ""
        if config.sample_every and progress.step % config.sample_every == 0:
            self._samples(progress.step)
        line = ""
        if progress.step % config.log_every == 0 or progress.valid is not None:
            line = self._line(progress)
        if self.trainer.due:  # the checkpoint of this step is written next, and its line must be on disk first
            os.fsync(self.metrics.fileno())
            if self.writer:
                self.writer.flush()
        return line

    def _line(self, progress: Progress) -> str:
        values = {k: v for k, v in asdict(progress).items() if v is not None and v != ""}
        self.metrics.write(json.dumps(values) + "\n")
        self.metrics.flush()
        if self.writer:
            for name in SCALARS:
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
        """Draw samples from the averaged model, and write them as a sheet of pictures or as `ardm sample` does."""
        bundle, folder = self._sampled(), self.trainer.folder / "samples"
        labels = bundle.config.labels
        context = torch.arange(NUMBER, device="cpu") % labels if labels else None
        calls, order = self.trainer.objective.sampling()
        drawn = api.sample(bundle, NUMBER, calls, order, seed=step, context=context)
        folder.mkdir(exist_ok=True)
        path = folder / f"{step:07d}{samples.ENDINGS[bundle.written]}"
        write = self._pictures if bundle.written == "image" else self._others
        write(bundle, drawn, path, step)

    def _sampled(self) -> Bundle:
        """The averaged model, without its loss curve while that has gaps, so that no steps are planned by it."""
        bundle = self.trainer.bundle()
        gaps = bundle.curve is not None and not (bundle.curve.count > 0).any(1).all()
        return replace(bundle, curve=None) if gaps else bundle

    def _pictures(self, bundle: Bundle, drawn: Tensor, path: Path, step: int) -> None:
        picture = pictures.sheet([pictures.to_image(x, bundle.model.digits.classes, 2) for x in drawn])
        write_whole(path, lambda new: picture.save(new, format="PNG"), force=True)
        if self.writer:
            self.writer.add_image("samples", np.asarray(picture), step, dataformats="HWC")

    def _others(self, bundle: Bundle, drawn: Tensor, path: Path, step: int) -> None:
        kind, rate = bundle.written, bundle.card.get("rate", 0)
        texts = samples.write(kind, drawn.numpy(), path, bundle.symbols, bundle.schema, rate, force=True)
        if self.writer and kind != "audio":
            shown = "\n".join(f"    {line}" for text in texts for line in text.split("\n"))  # as code, in Markdown
            self.writer.add_text("samples", shown, step)


def _tensorboard(folder: Path, first: int) -> Any:
    """A writer that drops what an earlier run wrote from step `first` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ArdmError("train.tensorboard needs tensorboard: pip install tensorboard") from None
    return SummaryWriter(folder, purge_step=first)


def _drop_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, and a last line that is incomplete."""
    if not path.is_file():
        return
    text = path.read_text(errors="replace")
    kept = "".join(line for line in text.splitlines(keepends=True) if line.endswith("\n") and _step(line) <= step)
    if kept != text:
        _replace(path, kept)


def _step(line: str) -> float:
    """The step of a line of metrics.jsonl; infinity for a line that has none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _replace(path: Path, text: str) -> None:
    write_bytes(path, text.encode(), force=True)
