"""Training: a generator of progress, resumable at any step as if nothing had happened.

Every random draw of step i comes from a generator seeded by (seed, i), and the order of the data from (seed, epoch): the
state of a run is its parameters, optimiser, average and loss curve, with no hidden random state.  On several devices
every process draws for the whole batch and takes its share, so that the loss equals that of one process; with
`train.shard` a process also keeps only its shard of the parameters.

A step takes train.batch × train.accumulate items in `accumulate` passes; draws, mean loss and update are those of one
batch of that size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ardm import data
from ardm.atomic import exclusive, recover
from ardm.bundle import OWN, Bundle, load
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.losscurve import LossCurve
from ardm.model import Model
from ardm.models.build import build
from ardm.models.context import NO_LABEL
from ardm.models.ending import refuse_open
from ardm.models.weights import fit_some, fit_weights
from ardm.objective import spread
from ardm.precision import pytorch_defaults
from ardm.train import checkpoint, sharding
from ardm.train.average import Average
from ardm.train.batch import AUGMENT, DRAW, LABELS, VALIDATE, Batch, Draws, seeded
from ardm.train.checkpoint import Best, Checkpoint
from ardm.train.devices import accelerator
from ardm.train.matching import check_labels, check_valid, count, fitted, read
from ardm.train.objectives import Observed, choose
from ardm.train.recipe import Recipe
from ardm.train.update import Update, memory_at, rate_at


@dataclass(frozen=True)
class Progress:
    """One optimiser step, and the validation after it if there was one.

    steps: of the whole run; with a budget of minutes, an estimate.
    loss: bits per dimension, a running mean over recent steps.  rate: learning rate.  norm: of the gradient.
    speed: items per second.  seconds: per step.
    valid, error, estimator: validation in bits per dimension, its standard error, and what it estimates.
    """

    step: int
    steps: int
    loss: float
    rate: float
    norm: float
    speed: float
    seconds: float
    valid: float | None = None
    error: float | None = None
    estimator: str = ""

    @property
    def left(self) -> float:
        """Seconds left at the present speed."""
        return (self.steps - self.step) * self.seconds


class Trainer:
    """A run in a folder: `for progress in Trainer(recipe, folder): …`.

    folder: gets checkpoint/ (replaced atomically), model/ (the averaged model that validated best, or the last one
    before the first validation) and model-last/; `train.log.Log` adds recipe.json, train.log and metrics.jsonl.
    resume: continue from the checkpoint; without it, a folder that has one is refused.  Settings (except
    `checkpoint.FREE`) and data that differ from those at the start are refused as well.
    device: where to train; "auto" is the accelerator of this machine or of the launcher, otherwise the CPU.
    sets: the training and validation items, for data in memory; None reads those that the recipe names.

    A checkpoint that is due is written when the caller asks for the next step.
    written: the step whose average this process wrote into model/; -1: none.
    Raises ArdmError where another process trains in the folder, and for settings that do not fit together.
    """

    @pytorch_defaults()
    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        resume: bool = False,
        device: str = "auto",
        sets: tuple[data.Dataset, data.Dataset] | None = None,
    ) -> None:
        self.config, self.folder = recipe.train, Path(folder)
        self.accelerator = accelerator(device, unused=recipe.model.vector > 0)  # training gives no vectors
        self.sharded = self.config.shard and self.accelerator.num_processes > 1
        if self.sharded and self.config.optimiser == "muon":
            raise ArdmError("train.optimiser muon needs whole matrices: set train.shard to false, or use adamw")
        self._open_folder(resume)
        self.train_set, self.valid_set = sets or read(recipe.data)
        self.recipe = recipe = fitted(recipe, self.train_set)
        self.objective = choose(recipe.model, recipe.order, recipe.train, together=self.sharded)
        check_valid(recipe, self.train_set, self.valid_set)
        check_labels(recipe, self.train_set, self.valid_set)
        if self.config.frozen and not (recipe.model.rates and (self.config.init or resume)):
            raise ArdmError("train.frozen trains the rates of a given network: set model.rates=true, and train.init")
        if recipe.model.end:
            for part in (self.train_set, self.valid_set):
                refuse_open(part.items, recipe.model.classes - 1, part.name)
        if self.config.partial and not (self.config.init or resume):
            raise ArdmError("train.partial takes what fits of a model: set train.init to one")
        self._resumed, self.anew = resume, list[str]()
        self._begin()
        moments: Mapping[str, Tensor] = {}
        if resume:
            moments = self._restore()
        elif self.config.init:
            self._start_from(self.config.init)
        if not resume:
            count(self.model, self.train_set)
            self.average = Average(self.model.state_dict())
        for parameter in self.model.parameters() if self.config.frozen else ():
            parameter.requires_grad_(parameter is self.model.log_rates)
        self._measured = self.valid_set.some(self.config.valid_items)
        sites = self.train_set.predicted(self._stages, recipe.model.end)
        self._measured.predicted(self._stages, recipe.model.end)  # refuses items of padding alone
        self.update = Update(self.model, self.objective, self.config, self.accelerator, self.sharded, moments, sites)
        self.average.place(self.model.state_dict(), self.accelerator.device)

    def _start_from(self, name: str) -> None:
        """Take the weights of a model; rates that it does not have begin as equal ones."""
        own = {} if self.model.log_rates is None else {"log_rates": torch.zeros_like(self.model.log_rates)}
        weights = {**own, **load(name).model.state_dict()}
        if self.config.partial:
            self.anew = fit_some(self.model, weights, name)
        else:
            fit_weights(self.model, weights, name)

    def _open_folder(self, resume: bool) -> None:
        """Clean up after a kill, and refuse a run that cannot start here."""
        if self.config.batch % self.accelerator.num_processes:
            raise ArdmError(
                f"train.batch {self.config.batch} must be a multiple of the {self.accelerator.num_processes} processes"
            )
        if self.accelerator.is_main_process:
            with exclusive(self.folder):
                recover(self.checkpoint)
                for name in ("model", "model-last"):
                    recover(self.folder / name, OWN)
        self.accelerator.wait_for_everyone()
        if (self.checkpoint / "state.json").is_file() and not resume:
            raise ArdmError(f"{self.folder} already holds a run: resume it with --resume, or give another folder")

    def _begin(self) -> None:
        """The state of step 0."""
        with torch.device("cpu"):  # whatever torch.set_default_device says
            self.model = build(self.recipe.model, self.config.seed)
        self.average = Average(self.model.state_dict())
        self.curve = LossCurve(len(self.recipe.model.digits), self.sites, memory=self.config.memory)
        self.step, self.loss, self.seconds, self.written = 0, math.nan, math.nan, -1
        self.spent, self._mark = 0.0, time.monotonic()
        self.best: Best | None = None
        self.checked: tuple[int, float] | None = None

    def _restore(self) -> Mapping[str, Tensor]:
        """The state of the checkpoint; returns the moments of the optimiser, full tensors by parameter and slot."""
        saved = checkpoint.read(self.checkpoint, self.accelerator.is_main_process)
        saved.refuse_other_run(self.recipe, self._fingerprints(), self.folder)
        fit_weights(self.model, saved.weights, str(self.checkpoint))
        self.step, self.loss, self.checked, self.best = saved.step, saved.loss, saved.checked, saved.best
        self.spent = saved.spent
        self.average, self.curve = Average(saved.average, saved.step), saved.curve
        return saved.moments

    @property
    def items(self) -> int:
        """The items of an optimiser step, over all processes and passes."""
        return self.config.batch * self.config.accumulate

    @property
    def _stages(self) -> int:
        """S, the digits of a value."""
        return len(self.recipe.model.digits)

    @property
    def sites(self) -> int:
        """D, the dimensions of an item."""
        return math.prod(self.recipe.model.shape)

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
        return self.folder / checkpoint.NAME

    @property
    def due(self) -> bool:
        """Whether a checkpoint follows the present step."""
        return self.step % self.config.save_every == 0 or self.finished

    @property
    def finished(self) -> bool:
        """Whether the run has taken all its steps, or used all its minutes."""
        return self.done >= 1 if self.config.minutes else self.step >= self.config.steps

    @property
    def done(self) -> float:
        """The share of the run that is done, in [0, 1]: of its minutes, or else of its steps."""
        minutes = self.config.minutes
        return min(1.0, self.spent / (60 * minutes) if minutes else self.step / self.config.steps)

    @property
    def steps(self) -> int:
        """The steps of the whole run; with a budget of minutes, an estimate."""
        if not self.config.minutes:
            return self.config.steps
        left = max(0.0, 60 * self.config.minutes - self.spent)
        return self.step + (0 if math.isnan(self.seconds) else math.ceil(left / self.seconds))

    def _tick(self) -> None:
        """Count the time since the last tick; all processes count their mean."""
        now = time.monotonic()
        self.spent, self._mark = self.spent + now - self._mark, now
        if self.config.minutes and self.accelerator.num_processes > 1:
            seconds = torch.tensor([self.spent], dtype=torch.float32, device=self.accelerator.device)
            self.spent = float(self.accelerator.reduce(seconds, "mean"))

    # --- the loop -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        with exclusive(self.folder) if self.accelerator.is_main_process else nullcontext():
            yield from self._run()

    def _run(self) -> Iterator[Progress]:
        if self._resumed:
            self._complete()
        self._stream = data.batches(len(self.train_set), self.items, self.config.seed, start=self.step)
        self._mark = time.monotonic()
        while not self.finished:
            began = time.perf_counter()
            norm = self._step()
            took = time.perf_counter() - began
            self._tick()
            self.seconds = took if math.isnan(self.seconds) else 0.95 * self.seconds + 0.05 * took
            progress = self._validated(self._progress(norm))
            if self.config.sample_every and self.step % self.config.sample_every == 0:
                self.full_average()  # all processes together; the first will ask for it alone
            yield progress
            if self.due:  # the caller has logged this step, so its line is on disk before its checkpoint
                self.save()

    def _progress(self, norm: float) -> Progress:
        return Progress(self.step, self.steps, self.loss, self.rate, norm, self.items / self.seconds, self.seconds)

    def _validated(self, progress: Progress) -> Progress:
        """Validate if it is due, and keep the average if no earlier one was better."""
        if self.step % self.config.valid_every and not self.finished:
            return progress
        valid = self.validate()
        self._keep_best(valid)
        return replace(progress, valid=valid.bits_per_dim, error=valid.bits_per_dim_error, estimator=valid.estimator)

    def anyone(self, flag: bool) -> bool:
        """Whether the flag is set in any process.  All must ask at the same step, so that they can stop together."""
        flags = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags, "sum") > 0)

    # --- one step -----------------------------------------------------------------------------------------------------

    @pytorch_defaults()
    def _step(self) -> float:
        """Take one optimiser step on the next items and update average and curve; returns the gradient's norm."""
        self.rate = rate_at(self.config, self.step, self.done)
        done = self.update(self.batch(next(self._stream)), self.step, self.done)
        self.step += 1
        self.loss = done.bits if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * done.bits
        self.average.follow(self.model.state_dict(), self.step, self.config.ema)
        self._record(done.observed)
        return done.norm

    def batch(self, rows: Tensor) -> Batch:
        """Draw and augment the whole batch, with labels and the objective's draws; return the share of this process."""
        source, generator = self.recipe.data, seeded(self.config.seed, self.step, AUGMENT)
        x, given = self.train_set.items[rows], self.train_set.known(rows, self._stages)
        if self.train_set.grey:
            x = data.binarize(x, generator)
        if source.flip or source.rotate:
            both = x if given is None else torch.cat([x.long(), given], 1)
            both = data.augment(both, generator, flip=source.flip, rot90=source.rotate)
            x, given = (both, None) if given is None else both.split(x.shape[1], 1)
        given = self.objective.known(x, given)
        whole = Batch(x, self.draw(self.step, given), self.labels(rows), given)
        return whole.share(self.accelerator.process_index, self.accelerator.num_processes)

    def draw(self, step: int, given: Tensor | None = None) -> Draws:
        """The objective's draws for every item of the whole batch."""
        return self.objective.draw(self.items, seeded(self.config.seed, step, DRAW), given)

    def labels(self, rows: Tensor) -> Tensor | None:
        """The labels of the items of a whole batch, of which this step leaves a fraction out; None without labels."""
        if not self.recipe.data.labels or self.train_set.labels is None:
            return None
        labels = self.train_set.labels[rows].long()
        place = spread(len(rows), seeded(self.config.seed, self.step, LABELS))
        return labels.where(place >= self.config.label_dropout, NO_LABEL)

    def _record(self, observed: list[Observed]) -> None:
        """Add the observations of all passes and processes to the loss curve."""
        if observed:
            rows = (torch.cat(values) for values in zip(*observed, strict=True))
            self.curve.memory = memory_at(self.config, self.step)
            self.curve.update(*(self.accelerator.gather(row.contiguous()).cpu().numpy() for row in rows))

    # --- measuring and saving -----------------------------------------------------------------------------------

    @pytorch_defaults()
    def validate(self) -> Estimate:
        """Measure the averaged model on some validation items with the objective's estimator."""
        part, device = self._measured, self.accelerator.device
        labels = None if part.labels is None or not self.recipe.data.labels else part.labels.long()
        batch = Batch(part.items.long(), {}, labels, part.known(slice(None), self._stages))
        network, generator = self.averaged().to(device), seeded(self.config.seed, VALIDATE)
        return self.objective.validate(network, batch.to(device), generator)

    @pytorch_defaults()
    def _keep_best(self, valid: Estimate) -> None:
        bits, error = valid.bits_per_dim, valid.bits_per_dim_error
        self.checked = self.step, bits
        if bits < (math.inf if self.best is None else self.best.bits):
            average = self.full_average() if self.accelerator.is_main_process else {}
            curve = {k: np.array(v) for k, v in self.curve.state().items()}
            self.best = Best(self.step, bits, error, {k: v.clone() for k, v in average.items()}, curve)

    @property
    def best_note(self) -> str:
        """A sentence for a run whose best validation is not its last; empty otherwise."""
        if self.best is None or self.checked is None or self.checked[0] == self.best.step:
            return ""
        (step, bits), best = self.checked, self.best
        return (
            f"validation was best at step {best.step} ({best.bits:.4f}), which is model/; "
            f"at step {step} it was {bits:.4f}, and model-last/ holds the last step"
        )

    def full_average(self) -> dict[str, Tensor]:
        """The averaged parameters in memory.

        In a sharded run all processes call this together; until the next step each may then call it alone.
        """
        return self.average.full(self.sharded)

    def averaged(self) -> Model:
        """A copy of the model with the averaged parameters."""
        return self._model(self.full_average())

    @pytorch_defaults()
    def _model(self, average: Mapping[str, Tensor]) -> Model:
        with torch.device("cpu"):
            model = build(self.recipe.model)
        fit_weights(model, average, "the average")
        return model.eval().requires_grad_(False)

    def bundle(self, **card: Any) -> Bundle:
        """The averaged model with its loss curve and a card."""
        valid = {"valid": self.checked[1]} if self.checked and self.checked[0] == self.step else {}
        return self._bundle(self.averaged(), self.curve, {"steps": self.step, **valid, **card})

    def best_bundle(self) -> Bundle:
        """The bundle of the model that validated best; before the first validation, the present one."""
        best = self.best
        if best is None or best.step == self.step:
            return self.bundle()
        about = {"steps": best.step, "valid": best.bits}
        return self._bundle(self._model(best.average), LossCurve.from_state(best.curve), about)

    def _bundle(self, model: Model, curve: LossCurve, card: Mapping[str, Any]) -> Bundle:
        about: dict[str, Any] = {"name": self.recipe.name, "recipe": self.recipe.to_dict()}
        if self.config.minutes:
            about["minutes"] = round(self.spent / 60, 2)
        if self.train_set.schema is not None:
            about["schema"] = self.train_set.schema.to_values()
        if self.train_set.symbols is not None:
            about["symbols"] = self.train_set.symbols.to_values()
        if self.train_set.rate:
            about["rate"] = self.train_set.rate
        kept = curve if self.objective.has_curve else None
        tokenizer = "" if self.train_set.symbols is None else self.train_set.symbols.tokenizer
        return Bundle(model, self.recipe.model, self.recipe.order, kept, {**about, **card}, tokenizer=tokenizer)

    @pytorch_defaults()
    def save(self) -> None:
        """Write the checkpoint and the models atomically.

        Only the first process writes; in a sharded run all must call this.
        """
        main = self.accelerator.is_main_process
        if not (main or self.sharded):
            return
        weights = sharding.gather_all(self.model.state_dict(), main)
        moments = sharding.gather_all(self.update.moments(), main)
        average = self.full_average()
        if not main:
            return
        counters, about = (self.step, self.loss, self.checked), (self.recipe.to_dict(), self._fingerprints())
        tensors = weights, average, moments
        Checkpoint(*counters, *about, *tensors, self.curve, self.best, self.spent).write(self.checkpoint)
        self.bundle().save(self.folder / "model-last")
        if self._best_step != self.written:
            self._save_best()

    @property
    def _best_step(self) -> int:
        return self.step if self.best is None else self.best.step

    def _save_best(self) -> None:
        self.best_bundle().save(self.folder / "model")
        self.written = self._best_step

    @pytorch_defaults()
    def _complete(self) -> None:
        """Write the model folders that a checkpoint lacks because the run was killed or they were deleted.

        In a sharded run all must call this.
        """
        self.full_average()
        if not self.accelerator.is_main_process:
            return
        if checkpoint.model_step(self.folder / "model-last") != self.step:
            self.bundle().save(self.folder / "model-last")
        if checkpoint.model_step(self.folder / "model") != self._best_step:
            self._save_best()

    def _fingerprints(self) -> dict[str, Any]:
        parts = {"train": self.train_set, "valid": self.valid_set}
        return {name: {"items": len(part), "fingerprint": part.fingerprint} for name, part in parts.items()}
