"""What a run leaves to read: train.log (text), metrics.jsonl, and scalars and pictures for tensorboard if asked."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import torch

from ardm import api
from ardm.config import RUN
from ardm.errors import ArdmError
from ardm.train import Progress, Trainer


class Log:
    """Call it with each `Progress`; it returns the line it wrote, or "" between two lines."""

    def __init__(self, trainer: Trainer, active: bool = True) -> None:
        self.trainer, self.active, self.began = trainer, active, time.time()
        self.writer: Any = None
        if not active:
            return
        trainer.folder.mkdir(parents=True, exist_ok=True)
        self.text = (trainer.folder / "train.log").open("a")
        self.metrics = (trainer.folder / "metrics.jsonl").open("a")
        values = trainer.recipe.to_dict()
        self._write(
            f"# {trainer.recipe.name}: {sum(p.numel() for p in trainer.model.parameters()):,} parameters, from step {trainer.step}"
        )
        (trainer.folder / RUN).write_text(json.dumps(values, indent=2) + "\n")
        if trainer.config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ArdmError("train.tensorboard needs tensorboard: pip install tensorboard") from None
            self.writer = SummaryWriter(trainer.folder / "tensorboard")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
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
            self._pictures(progress.step)
        if progress.step % config.log_every and progress.valid is None:
            return ""
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

    def _pictures(self, step: int) -> None:
        """A sheet of samples of the averaged model, as a file and for tensorboard."""
        import numpy as np

        from ardm.pictures import sheet, to_image

        bundle = self.trainer.bundle()
        calls = self.trainer.recipe.order.calls[0]
        order = "own" if self.trainer.plans else "bayer"
        labels = bundle.config.labels
        context = torch.arange(16) % labels if labels else None
        drawn = api.sample(bundle, 16, calls, order, seed=step, context=context)
        picture = sheet([to_image(x, bundle.model.digits.classes, 2) for x in drawn])
        folder = self.trainer.folder / "samples"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{step:07d}.png")
        if self.writer:
            self.writer.add_image("samples", np.asarray(picture), step, dataformats="HWC")
