"""Training: a generator of progress, resumable at any moment as if nothing had happened.

Every random draw of step i comes from a generator seeded by (seed, i), and the data order from (seed, epoch): the state
of a run is its parameters, its optimiser, its average and its loss curve, and no hidden random state.  On many devices
every process draws for the whole batch and takes its share, so that the loss is that of one process; with `train.shard`
it keeps but its share of the parameters, too.  Checkpoints are the same whatever the number of processes.

A step has train.batch × train.accumulate items, in as many passes as `accumulate` says: what is drawn, the mean loss and
the update are those of one batch of that size.  A checkpoint holds the average that validated best beside the last one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.utils import GradientAccumulationPlugin
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ardm import data, likelihood, objective
from ardm.atomic import alone, recover, replacing
from ardm.bundle import OWN, Bundle, arrays, fit_weights, load
from ardm.errors import ArdmError, out_of_memory
from ardm.model import Model
from ardm.models.bodies import NO_LABEL
from ardm.models.build import build
from ardm.models.causal import CausalModel
from ardm.orders import image_plan
from ardm.plan import Plan
from ardm.precise import settled
from ardm.schedule import LossCurve
from ardm.train import sharding
from ardm.train.recipe import Recipe, TrainConfig


@dataclass(frozen=True)
class Progress:
    """One optimiser step, or a validation after it.

    loss: bits per dimension of the batch, averaged over recent steps.  speed: items a second.
    valid, error: validation bits per dimension and its standard error, when they were measured at this step.
    estimator: what valid estimates.
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
        """Seconds to go at the present speed."""
        return (self.steps - self.step) * self.seconds


def seeded(*key: int) -> torch.Generator:
    """A generator that depends on the key alone (and not on the platform)."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, then the decay the recipe names."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    done = min(1.0, step / max(config.steps, 1))
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.decay]
    return config.rate * warm * (config.final + (1 - config.final) * shape)


def fitted(recipe: Recipe, dataset: data.Dataset) -> Recipe:
    """The recipe with the shape, classes and columns of the data, where its model leaves them open: shape ().

    Raises ArdmError where it says them, and they do not fit.
    """
    model, name = recipe.model, recipe.data.name
    if not model.shape:
        shape = tuple(int(n) for n in dataset.shape)
        model = replace(model, shape=shape, classes=dataset.classes, columns=tuple(dataset.columns))
        return replace(recipe, model=model)
    if tuple(dataset.shape) != tuple(model.shape):
        raise ArdmError(
            f"the items of {name} have shape {tuple(dataset.shape)}; set model.shape to that (it is {model.shape})"
        )
    if dataset.classes > model.classes:
        raise ArdmError(f"the items of {name} have {dataset.classes} classes; set model.classes to that")
    if dataset.columns and tuple(dataset.columns) != tuple(model.columns):
        raise ArdmError(
            f"the columns of {name} have {dataset.columns} classes; set model.columns to that, or shape: []"
        )
    return recipe


def objective_of(recipe: Recipe) -> str:
    """ "steps", "absorbing" or "all", as the model and the order allow; ArdmError where the recipe says another."""
    causal, kind, fixed = recipe.model.causal, recipe.train.objective, recipe.order.fixed
    if causal and kind == "steps" and not fixed:
        return "all"
    if bool(causal) != (kind == "all"):
        raise ArdmError(
            f"train.objective {kind!r} is not for model.causal {causal!r}: causal models learn all positions at once, "
            "and no others do"
        )
    if fixed and kind != "steps":
        raise ArdmError(f"train.objective {kind!r} takes no fixed order; leave order.order at random")
    if kind == "absorbing" and len(recipe.model.digits) > 1:
        raise ArdmError("train.objective absorbing hides whole values: set model.base to 0")
    return kind


FOREIGN = {
    "ACCELERATE_USE_FSDP": DistributedType.FSDP,
    "ACCELERATE_USE_DEEPSPEED": DistributedType.DEEPSPEED,
    "ACCELERATE_USE_MEGATRON_LM": DistributedType.MEGATRON_LM,
}
"""Ways to launch under which accelerate would wrap the network and keep its parameters in forms of its own."""
FREE = {
    *("name", "data.folder", "data.download", "data.verify", "train.init", "train.steps", "train.shard"),
    *("train.save_every", "train.sample_every", "train.log_every", "train.tensorboard"),
}
"""Settings that may be others when a run goes on: how far, where things lie, and what is only shown or saved."""


@dataclass(frozen=True)
class Best:
    """The average that validated best so far: at which step, bits per dimension, its standard error, its loss curve.

    average: full tensors in memory; empty in all processes but the first.
    """

    step: int
    bits: float
    error: float
    average: Mapping[str, Tensor]
    curve: Mapping[str, Any]


def accelerator_of(recipe: Recipe, cpu: bool) -> Accelerator:
    """The devices of this process, with nothing taken from the environment that would change what the recipe says.

    Where to run (ACCELERATE_USE_CPU, the launcher's ranks) still comes from there.  Raises ArdmError where the launcher
    asks for a way to train that is not ours, or the environment for a device that is not here.
    """
    if "ACCELERATE_TORCH_DEVICE" in os.environ:
        _refuse_device(os.environ["ACCELERATE_TORCH_DEVICE"])
    asked = [kind.value for name, kind in FOREIGN.items() if os.environ.get(name, "").lower() == "true"]
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "").lower() == "true":
        asked.append("PARALLELISM_CONFIG")
    try:
        made = (
            None
            if asked
            else Accelerator(
                cpu=cpu,
                mixed_precision="no",  # precision is ours, and no compiler is asked for
                dynamo_backend="no",
                gradient_accumulation_plugin=GradientAccumulationPlugin(
                    num_steps=1
                ),  # the number alone bows to a variable
                kwargs_handlers=[  # vectors are given by callers only, so that in training nothing reaches their layer
                    DistributedDataParallelKwargs(find_unused_parameters=recipe.model.vector > 0)
                ],
            )
        )
    except ValueError as error:  # another precision or device was chosen in this process before
        raise ArdmError(f"accelerate cannot be set up as the recipe needs it: {' '.join(str(error).split())}") from None
    if made is None or made.distributed_type in FOREIGN.values():
        kind = asked[0] if made is None else made.distributed_type.value
        raise ArdmError(
            f"training was launched with accelerate's {kind}: launch it without, "
            "and set train.shard=true to share parameters out over the processes"
        )
    return made


def _refuse_device(name: str) -> None:
    """ArdmError for a device that holds no numbers here."""
    try:
        float(torch.zeros((), device=name))
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ArdmError(
            f"ACCELERATE_TORCH_DEVICE is {name!r}, on which nothing can be trained here ({reason}): "
            "set it to another device, such as cpu, or leave it unset"
        ) from None


class Objective(nn.Module):
    """The loss as a module, so that a wrapper for many devices sees one forward pass.

    together: call the network as often in every process, since the calls of a sharded one gather its parameters.
    """

    def __init__(self, model: Model, plans: list[Plan], config: TrainConfig, together: bool = False) -> None:
        super().__init__()
        self.model, self.plans, self.subset, self.steps = model, plans, config.subset, config.diffusion_steps
        self.together = together

    def forward(
        self, x: Tensor, draws: Mapping[str, Tensor], context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x: (B, *shape); draws: of `Trainer.draw`, the rows of this process.

        The fields of Scored, as a tuple: wrappers look for tensors in what they know.
        """
        scored = self._scored(x, draws, context)
        return scored.nats, scored.sums, scored.symbols, scored.hidden

    def _scored(self, x: Tensor, draws: Mapping[str, Tensor], context: Tensor | None) -> objective.Scored:
        if isinstance(self.model, CausalModel):
            return objective.causal_step(self.model, x, draws.get("rank"), context)
        if "time" in draws:
            return objective.absorbing_step(
                self.model, x, draws["time"], self.steps, draws["key"], context, self.subset or None
            )
        if not self.plans:
            steps = objective.Steps(draws["stage"], draws["known"], draws["rank"])
            return objective.bound_step(
                self.model, x, steps, context=context, subset=self.subset or None, key=draws.get("key")
            )
        parts, idle = [], []
        for level, plan in enumerate(self.plans):
            rows = (draws["level"] == level).nonzero()[:, 0]
            asked = rows if len(rows) or not self.together else rows.new_zeros(1)
            if len(asked):
                step = draws["step"][asked].clamp(max=len(plan) - 1)
                part = objective.plan_step(
                    self.model, plan, x[asked], step, None if context is None else context[asked]
                )
                parts.append((rows, part)) if len(rows) else idle.append(part)
        order = torch.cat([rows for rows, _ in parts]).argsort()
        scored = objective.Scored(
            *(torch.cat([getattr(p, f) for _, p in parts])[order] for f in ("nats", "sums", "symbols", "hidden"))
        )
        if not idle:
            return scored
        nothing = torch.stack([part.sums.sum() for part in idle]).sum() * 0.0  # backward passes as often, too
        return replace(scored, nats=scored.nats + nothing)


class Trainer:
    """A run in a folder: `for progress in Trainer(recipe, folder): …`.

    folder: gets checkpoint/ (atomic), model/ (the averaged model that validated best, the last one before the first
    validation) and model-last/; `trainlog.Log` adds recipe.json and metrics.jsonl.
    resume: go on from the checkpoint; without it a folder that has one is refused.  What was saved with other settings
    (but for FREE) or other data is refused, too.  A checkpoint that is due is written when the next step is asked for.
    written: the step whose average this process wrote into model/; -1: none.
    Raises ArdmError where another process trains in the folder, and for what does not fit together.
    """

    @settled()
    def __init__(self, recipe: Recipe, folder: str | Path, resume: bool = False, cpu: bool = False) -> None:
        self.config, self.folder = recipe.train, Path(folder)
        self.accelerator = accelerator_of(recipe, cpu)
        self.sharded = self.config.shard and self.accelerator.num_processes > 1
        if self.config.batch % self.accelerator.num_processes:
            raise ArdmError(
                f"train.batch {self.config.batch} must be a multiple of the {self.accelerator.num_processes} processes"
            )
        if self.accelerator.is_main_process:
            with alone(self.folder):
                recover(self.checkpoint)
                for name in ("model", "model-last"):
                    recover(self.folder / name, OWN)
        self.accelerator.wait_for_everyone()
        if (self.checkpoint / "state.json").is_file() and not resume:
            raise ArdmError(f"{self.folder} already holds a run: go on with --resume, or give another folder")
        source = recipe.data
        self.train_set, self.valid_set = data.of_config(source, source.train), data.of_config(source, source.valid)
        self.recipe = recipe = fitted(recipe, self.train_set)
        self.kind = objective_of(recipe)
        self._check_labels()
        S = len(recipe.model.digits)
        self.plans = (
            [image_plan(recipe.order, recipe.model.shape, calls, S) for calls in recipe.order.calls]
            if recipe.order.fixed
            else []
        )
        with torch.device("cpu"):  # whatever torch.set_default_device says
            self.model = build(recipe.model, self.config.seed)
        if self.config.init and not resume:
            fit_weights(self.model, load(self.config.init).model.state_dict(), self.config.init)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.curve = LossCurve(S, math.prod(recipe.model.shape), memory=self.config.memory)
        self.step, self.loss, self.seconds = 0, math.nan, math.nan
        self.best: Best | None = None
        self.checked: tuple[int, float] | None = None
        self.written = -1
        moments = self._restore() if resume else {}
        self._resumed = resume
        self._full: tuple[int, dict[str, Tensor]] = (-1, {})  # the step and full tensors of an average in shares
        made = Objective(self.model, self.plans, self.config, together=self.sharded)
        if self.sharded:
            sharding.shard(made, self.accelerator.device, self.accelerator.num_processes)
            self.objective, self.optimiser = made, self._optimiser(moments)
        else:
            self.objective, self.optimiser = self.accelerator.prepare(made, self._optimiser(moments))
        own = self.model.state_dict()
        self.average = {k: sharding.share(v.to(self.accelerator.device), own[k]) for k, v in self.average.items()}

    def _optimiser(self, moments: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """moments: full tensors by parameter and slot, of a checkpoint; none at the start."""
        optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.rate,
            betas=(0.9, self.config.beta2),
            weight_decay=self.config.weight_decay,
        )
        parameters = dict(self.model.named_parameters())
        names = list(parameters)
        saved: dict[int, dict[str, Tensor]] = {}
        for key, value in moments.items():
            name, slot = key.rsplit("/", 1)
            full = value.shape == parameters[name].shape  # others count steps
            saved.setdefault(names.index(name), {})[slot] = sharding.share(value, parameters[name]) if full else value
        if saved:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": saved})
        return optimiser

    def _check_labels(self) -> None:
        """ArdmError where the labels of the data and of the model are not the same, or a row would stay untrained."""
        source, K = self.recipe.data, self.recipe.model.labels
        if not source.labels:
            if K:
                raise ArdmError(
                    f"model.labels is {K}, but no label would be learned: set data.labels=true, or model.labels=0"
                )
            return
        if self.train_set.labels is None or not K:
            raise ArdmError("data.labels needs a data set with labels, and model.labels set to their number")
        for part in (self.train_set, self.valid_set):
            if part.labels is None:
                if not self.config.label_dropout:
                    raise ArdmError(
                        f"{part.name} has no labels: validate on data that have, or set train.label_dropout"
                    )
            elif len(part) and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < K:
                low, high = int(part.labels.min()), int(part.labels.max())
                raise ArdmError(
                    f"the labels of {part.name} are {low}..{high}, those of the model 0..{K - 1}: set model.labels"
                )

    @property
    def items(self) -> int:
        """The items of an optimiser step, over all processes and passes."""
        return self.config.batch * self.config.accumulate

    @property
    def any_order(self) -> bool:
        """Whether its steps are observations of the any-order loss curve."""
        return not self.plans and self.kind != "all"

    @property
    def checkpoint(self) -> Path:
        """Where the state of the run lies."""
        return self.folder / "checkpoint"

    def draw(self, step: int) -> dict[str, Tensor]:
        """The random step of every item of the whole batch, low-discrepancy."""
        generator = seeded(self.config.seed, step, 1)
        B, shape = self.items, tuple(self.recipe.model.shape)
        if self.kind == "all":
            if self.recipe.model.causal == "single":
                return {}
            return {
                "rank": torch.rand(B, math.prod(shape), generator=generator, dtype=torch.double, device="cpu").argsort(
                    1
                )
            }
        if self.kind == "absorbing":
            T = self.config.diffusion_steps
            time = (objective.spread(B, generator) * T).long().clamp(max=T - 1) + 1
            return {"time": time, "key": torch.rand(B, *shape, generator=generator, device="cpu")}
        if not self.plans:
            drawn = objective.draw(B, len(self.model.digits), shape, generator)
            draws = {"stage": drawn.stage, "known": drawn.known, "rank": drawn.rank}
            return (
                {**draws, "key": torch.rand(B, *shape, generator=generator, device="cpu")}
                if self.config.subset
                else draws
            )
        place = objective.spread(B, generator)
        share = self.config.first_level if len(self.plans) > 1 else 1.0
        edges = torch.tensor(
            [0.0] + [share + (1 - share) * i / max(len(self.plans) - 1, 1) for i in range(len(self.plans))],
            dtype=torch.double,
            device="cpu",
        )
        edges[-1] = 1.0
        level = torch.searchsorted(edges, place, right=True).sub(1).clamp(max=len(self.plans) - 1)
        within = (place - edges[level]) / (edges[level + 1] - edges[level])
        lengths = torch.tensor([len(p) for p in self.plans], device="cpu")[level]
        return {"level": level, "step": (within * lengths).long().clamp(min=0).minimum(lengths - 1)}

    def anyone(self, flag: bool) -> bool:
        """Whether any process says so; all must ask, at the same step.  So they can stop together, and save."""
        said = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(said, "sum") > 0)

    def __iter__(self) -> Iterator[Progress]:
        with alone(self.folder) if self.accelerator.is_main_process else nullcontext():
            yield from self._run()

    def _run(self) -> Iterator[Progress]:
        config = self.config
        if self._resumed:
            self._complete()
        stream = data.batches(len(self.train_set), self.items, config.seed, start=self.step)
        while self.step < config.steps:
            began = time.perf_counter()
            norm = self._update(next(stream))
            took = time.perf_counter() - began
            self.seconds = took if math.isnan(self.seconds) else 0.95 * self.seconds + 0.05 * took
            valid = self.validate() if self.step % config.valid_every == 0 or self.step == config.steps else None
            if valid is not None:
                self._weigh(valid)
            if config.sample_every and self.step % config.sample_every == 0:
                self.full_average()  # all processes together; the first will ask for it alone
            yield Progress(
                self.step,
                config.steps,
                self.loss,
                rate_at(config, self.step - 1),
                norm,
                self.items / self.seconds,
                self.seconds,
                *(() if valid is None else (valid.bits_per_dim, valid.bits_per_dim_error, valid.estimator)),
            )
            if self.due:  # after what was made of the progress: no line of a log is missing before its checkpoint
                self.save()

    @property
    def due(self) -> bool:
        """Whether a checkpoint follows the present step."""
        return self.step % self.config.save_every == 0 or self.step == self.config.steps

    @settled()
    def _weigh(self, valid: likelihood.Estimate) -> None:
        """Keep the average if no earlier one validated better."""
        bits, error = valid.bits_per_dim, valid.bits_per_dim_error
        self.checked = self.step, bits
        if bits < (math.inf if self.best is None else self.best.bits):
            average = self.full_average() if self.accelerator.is_main_process else {}
            curve = {k: np.array(v) for k, v in self.curve.state().items()}
            self.best = Best(self.step, bits, error, {k: v.clone() for k, v in average.items()}, curve)

    @property
    def parted(self) -> str:
        """What to tell of a run whose best validation is not its last; empty where it is."""
        if self.best is None or self.checked is None or self.checked[0] == self.best.step:
            return ""
        (step, bits), best = self.checked, self.best
        return (
            f"validation was best at step {best.step} ({best.bits:.4f}), which is model/; "
            f"at step {step} it was {bits:.4f}, and model-last/ holds the last step"
        )

    def labels(self, rows: Tensor) -> Tensor | None:
        """The labels of the items of a whole batch, of which this step leaves a share out; None without labels."""
        if not self.recipe.data.labels or self.train_set.labels is None:
            return None
        labels = self.train_set.labels[rows].long()
        place = objective.spread(len(rows), seeded(self.config.seed, self.step, 5))
        return labels.where(place >= self.config.label_dropout, NO_LABEL)

    @settled()
    def _update(self, rows: Tensor) -> float:
        """One optimiser step on the items `rows`, of which this process takes its share, in `accumulate` passes."""
        config, device = self.config, self.accelerator.device
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        share = slice(rank * len(rows) // world, (rank + 1) * len(rows) // world)
        generator = seeded(config.seed, self.step, 2)
        x = self.train_set.items[rows]
        if self.train_set.grey:
            x = data.binarize(x, generator)
        if self.recipe.data.flip or self.recipe.data.rotate:
            x = data.augment(x, generator, flip=self.recipe.data.flip, rot90=self.recipe.data.rotate)
        given = {"x": x, **self.draw(self.step)}
        labels = self.labels(rows)
        if labels is not None:
            given["labels"] = labels
        given = {k: v[share] for k, v in given.items()}
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(config, self.step)
        self.objective.train()
        self.optimiser.zero_grad()
        parts: list[tuple[dict[str, Tensor], objective.Scored]] = []
        nats = torch.zeros((), dtype=torch.double, device=device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(
                seeded(config.seed, self.step, 4, self.accelerator.process_index).initial_seed()
            )  # dropout
            for turn in range(config.accumulate):
                some = {k: v.chunk(config.accumulate)[turn].to(device) for k, v in given.items()}
                more = turn + 1 < config.accumulate and not self.sharded
                with self.accelerator.no_sync(self.objective) if more else nullcontext():
                    scored = self._pass(some)
                nats += scored.nats.double().mean() / config.accumulate
                parts.append((some, scored))
        norm = float(sharding.whole(self.accelerator.clip_grad_norm_(self.objective.parameters(), config.clip)))
        if not math.isfinite(norm):
            raise ArdmError(
                f"the gradient is not finite at step {self.step}; lower train.rate, or resume from {self.checkpoint}"
            )
        with torch.device("cpu"):  # where AdamW counts its steps, whatever torch.set_default_device says
            self.optimiser.step()
        self.step += 1
        nats = nats / math.prod(self.recipe.model.shape)
        self._follow(float(self.accelerator.reduce(nats, "mean")) / math.log(2))
        self._record(parts)
        return norm

    def _pass(self, given: Mapping[str, Tensor]) -> objective.Scored:
        """Forward and backward on items of one pass: adds its share of the gradient of the mean loss; no gradient left."""
        config = self.config
        draws = {k: v for k, v in given.items() if k not in ("x", "labels")}
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            scored = objective.Scored(*self.objective(given["x"].long(), draws, given.get("labels")))
        D = math.prod(self.recipe.model.shape)
        loss = scored.nats.double().mean() / D
        if config.cross_entropy:  # the released code's auxiliary term: the un-reweighted sum over hidden sites
            weight = scored.hidden / scored.symbols.clamp(min=1)
            loss = loss + config.cross_entropy * (scored.sums * weight).double().mean() / D
        if not torch.isfinite(loss):
            raise ArdmError(
                f"the loss is {float(loss)} at step {self.step}; lower train.rate, or resume from the checkpoint in {self.checkpoint}"
            )
        self.accelerator.backward((loss / config.accumulate).float())
        return replace(scored, nats=scored.nats.detach(), sums=scored.sums.detach())

    def _follow(self, bits: float) -> None:
        self.loss = bits if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * bits
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                mine, new = sharding.own(self.average[name]), sharding.own(value)
                mine.lerp_(new, 1 - decay) if value.is_floating_point() else mine.copy_(new)

    def _record(self, parts: list[tuple[dict[str, Tensor], objective.Scored]]) -> None:
        """Observations of L_t of the passes of a step: what was given, and what was scored."""
        if not self.any_order:
            return
        scored = objective.Scored(
            *(torch.cat([getattr(part, f) for _, part in parts]) for f in ("nats", "sums", "symbols", "hidden"))
        )
        if "stage" in parts[0][0]:
            stage, known = (torch.cat([given[f] for given, _ in parts]) for f in ("stage", "known"))
        else:  # sites hidden at random: an observation of what so many known ones leave
            stage, known = torch.zeros_like(scored.hidden), math.prod(self.recipe.model.shape) - scored.hidden
            known = known.clamp(max=math.prod(self.recipe.model.shape) - 1)  # none hidden, none scored: not counted
        rows = [stage, known, scored.sums.double(), scored.symbols]
        arrived = (self.accelerator.gather(r.contiguous()).cpu().numpy() for r in rows)
        self.curve.update(*arrived)

    def full_average(self) -> dict[str, Tensor]:
        """The averaged parameters in memory.  In shares, all processes call this; after that each may, until a step."""
        if not self.sharded:
            return {k: v.cpu() for k, v in self.average.items()}
        if self._full[0] != self.step:
            self._full = self.step, sharding.gathered(self.average)
        return self._full[1]

    def averaged(self) -> Model:
        """A copy of the model with the averaged parameters, of `full_average`."""
        return self._model(self.full_average())

    @settled()
    def _model(self, average: Mapping[str, Tensor]) -> Model:
        with torch.device("cpu"):
            model = build(self.recipe.model)
        fit_weights(model, average, "the average")
        return model.eval().requires_grad_(False)

    def bundle(self, **card: Any) -> Bundle:
        """The averaged model with its loss curve and a card, which has the names of columns and values of a table."""
        valid = {"valid": self.checked[1]} if self.checked and self.checked[0] == self.step else {}
        return self._bundle(self.averaged(), self.curve, {"steps": self.step, **valid, **card})

    def best_bundle(self) -> Bundle:
        """As `bundle`, of the step that validated best; of the present one before any validation."""
        best = self.best
        if best is None or best.step == self.step:
            return self.bundle()
        about = {"steps": best.step, "valid": best.bits}
        return self._bundle(self._model(best.average), LossCurve.from_state(best.curve), about)

    def _bundle(self, model: Model, curve: LossCurve, card: Mapping[str, Any]) -> Bundle:
        named = self.train_set.schema
        about: dict[str, Any] = {"name": self.recipe.name, "recipe": self.recipe.to_dict()}
        if named is not None:
            about["schema"] = named.to_values()
        if self.train_set.rate:
            about["rate"] = self.train_set.rate
        order, seen = self.recipe.order, curve if self.any_order else None
        return Bundle(model, self.recipe.model, order, seen, {**about, **card})

    @settled()
    def validate(self) -> likelihood.Estimate:
        """Bits per dimension of the averaged model on the first validation items.

        Along the plan, or the any-order bound; of a causal model, along raster or in one random order an item.
        """
        items = self.valid_set.items[: self.config.valid_items].long().to(self.accelerator.device)
        context = None
        if self.recipe.data.labels and self.valid_set.labels is not None:
            context = self.valid_set.labels[: self.config.valid_items].long().to(items.device)
        model = self.averaged().to(items.device)
        if self.plans:
            return likelihood.exact(model, self.plans[0].to(items.device), items, context=context)
        if isinstance(model, CausalModel):
            if model.single:
                return likelihood.causal(model, items, context=context)
            return likelihood.causal_bound(model, items, 1, seeded(self.config.seed, 3), context=context)
        return likelihood.bound(model, items, 4, seeded(self.config.seed, 3), context=context)

    @settled()
    def save(self) -> None:
        """Write checkpoint and models, each whole or not at all; only the first process writes.  In shares, all call."""
        main = self.accelerator.is_main_process
        if not (main or self.sharded):
            return
        inner = getattr(self.optimiser, "optimizer", self.optimiser)
        names = [n for n, _ in self.model.named_parameters()]
        moments = {
            f"{names[i]}/{key}": torch.as_tensor(value, device=getattr(value, "device", "cpu"))
            for i, state in inner.state_dict()["state"].items()
            for key, value in state.items()
        }
        weights, moments = sharding.gathered(self.model.state_dict(), main), sharding.gathered(moments, main)
        average = self.full_average()
        if not main:
            return
        with replacing(self.checkpoint) as new:
            save_file(weights, new / "model.safetensors")
            save_file({k: v.contiguous() for k, v in average.items()}, new / "average.safetensors")
            save_file(moments, new / "optimiser.safetensors")
            save_arrays(arrays(self.curve.state()), new / "curve.safetensors")
            if self.best is not None:
                save_file({k: v.contiguous() for k, v in self.best.average.items()}, new / "best.safetensors")
                save_arrays(arrays(self.best.curve), new / "best-curve.safetensors")
            (new / "state.json").write_text(json.dumps(self._state(), indent=2) + "\n")
        self.bundle().save(self.folder / "model-last")
        if self._best_step != self.written:
            self._save_best()

    @property
    def _best_step(self) -> int:
        return self.step if self.best is None else self.best.step

    def _save_best(self) -> None:
        self.best_bundle().save(self.folder / "model")
        self.written = self._best_step

    @settled()
    def _complete(self) -> None:
        """Write the models of a checkpoint that are not there: a kill came after it and before them, or they were deleted.

        In shares, all call.
        """
        self.full_average()
        if not self.accelerator.is_main_process:
            return
        if _step_in(self.folder / "model-last") != self.step:
            self.bundle().save(self.folder / "model-last")
        if _step_in(self.folder / "model") != self._best_step:
            self._save_best()

    def _state(self) -> dict[str, Any]:
        """What a checkpoint says beside its tensors."""
        best = self.best
        return {
            "step": self.step,
            "loss": self.loss,
            "recipe": self.recipe.to_dict(),
            "data": self._fingerprints(),
            "best": None if best is None else {"step": best.step, "bits": best.bits, "error": best.error},
            "checked": self.checked,
        }

    def _fingerprints(self) -> dict[str, Any]:
        parts = {"train": self.train_set, "valid": self.valid_set}
        return {name: {"items": len(part), "fingerprint": part.fingerprint} for name, part in parts.items()}

    def _restore(self) -> dict[str, Tensor]:
        """Everything but the optimiser, whose moments are returned, by parameter and slot."""
        where = self.checkpoint
        try:
            state = json.loads((where / "state.json").read_text())
            weights, average, moments = (
                load_file(where / f"{n}.safetensors") for n in ("model", "average", "optimiser")
            )
            self.curve = LossCurve.from_state(load_arrays(where / "curve.safetensors"))
        except FileNotFoundError as error:
            lacks = f"; {where} has no {Path(str(error.filename)).name}" if where.is_dir() and error.filename else ""
            raise ArdmError(f"{self.folder} holds no checkpoint to resume from{lacks}") from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ArdmError(f"the checkpoint in {where} cannot be read: {error}") from None
        self._refuse_others(state)
        if state["step"] > self.config.steps:
            raise ArdmError(
                f"the run in {self.folder} is at step {state['step']} already, beyond train.steps={self.config.steps}: "
                "give a larger number to go on"
            )
        fit_weights(self.model, weights, str(where))
        self.average = average
        self.step, self.loss = state["step"], state["loss"]
        if state.get("checked"):
            self.checked = (int(state["checked"][0]), float(state["checked"][1]))
        if state.get("best"):
            self.best = self._best(state["best"])
        return moments

    def _best(self, told: Mapping[str, Any]) -> Best:
        where, main = self.checkpoint, self.accelerator.is_main_process
        try:
            average = load_file(where / "best.safetensors") if main else {}
            return Best(
                told["step"], told["bits"], told["error"], average, load_arrays(where / "best-curve.safetensors")
            )
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise ArdmError(f"the checkpoint in {where} cannot be read: {error}") from None

    def _refuse_others(self, state: Mapping[str, Any]) -> None:
        """ArdmError where a checkpoint is of other settings or other data."""
        then, now = _flat(state["recipe"]), _flat(self.recipe.to_dict())
        then.setdefault("train.label_dropout", 0.0)  # there was none
        free = set(FREE)
        if not self.recipe.data.labels:
            free.add("train.label_dropout")
        if then["train.batch"] * then.get("train.accumulate", 1) == self.items:
            free |= {"train.batch", "train.accumulate"}  # the same items in other passes
        wrong = [
            f"{k}={_yaml(then[k])} (not {_yaml(v)})" for k, v in now.items() if k not in free and then.get(k, v) != v
        ]
        if wrong:
            raise ArdmError(
                f"the run in {self.folder} began with {', '.join(wrong)}: resume it so, or start another elsewhere (-o)"
            )
        for part, found in self._fingerprints().items():
            told = state.get("data", {}).get(part, found)
            if told != found:
                raise ArdmError(
                    f"the items of data.{part} are not those that the run in {self.folder} began with ({told['items']} "
                    f"then, {found['items']} now): give it the same data, or start another run elsewhere (-o)"
                )


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe by their full names."""
    return {
        full: value
        for key, inner in recipe.items()
        for full, value in (
            ((f"{key}.{name}", v) for name, v in inner.items()) if isinstance(inner, dict) else ((key, inner),)
        )
    }


def _step_in(folder: Path) -> int | None:
    """The step that the model in a folder is of; None where no whole model lies there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        step = json.loads((folder / "config.json").read_text())["card"]["steps"]
        return step if (folder / "model.safetensors").is_file() else None
    return None


def _yaml(value: Any) -> str:
    """A value as an override says it."""
    return value if isinstance(value, str) and value else json.dumps(value)
