"""Training: a generator of progress, resumable at any moment as if nothing had happened.

Every random draw of step i comes from a generator seeded by (seed, i), and the data order from (seed, epoch): the state
of a run is its parameters, its optimiser, its average and its loss curve, and no hidden random state.  On many devices
every process draws for the whole batch and takes its share, so that the loss is that of one process; with `train.shard`
it keeps but its share of the parameters, too.  Checkpoints are the same whatever the number of processes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ardm import data, likelihood, objective, sharding
from ardm.bundle import Bundle, arrays, fit_weights, load, recover, replacing
from ardm.causal import CausalModel
from ardm.config import Recipe, TrainConfig
from ardm.errors import ArdmError
from ardm.model import Model
from ardm.orders import image_plan
from ardm.plan import Plan
from ardm.schedule import LossCurve
from ardm.zoo import build


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


FOREIGN = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
"""Ways to launch under which accelerate would wrap the network and keep its parameters in forms of its own."""


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

    folder: gets checkpoint/ (atomic), model/ (the averaged model); `trainlog.Log` adds recipe.json and metrics.jsonl.
    resume: go on from the checkpoint; without it a folder that has one is refused.
    """

    def __init__(self, recipe: Recipe, folder: str | Path, resume: bool = False, cpu: bool = False) -> None:
        self.config, self.folder = recipe.train, Path(folder)
        self.accelerator = Accelerator(  # precision is ours: accelerate keeps its own for the whole process
            cpu=cpu,
            kwargs_handlers=[  # vectors are given by callers only, so that in training nothing reaches their layer
                DistributedDataParallelKwargs(find_unused_parameters=recipe.model.vector > 0)
            ],
        )
        if self.accelerator.distributed_type in FOREIGN:
            raise ArdmError(
                f"training was launched with accelerate's {self.accelerator.distributed_type.value}: launch it without, "
                "and set train.shard=true to share parameters out over the processes"
            )
        self.sharded = self.config.shard and self.accelerator.num_processes > 1
        if self.config.batch % self.accelerator.num_processes:
            raise ArdmError(
                f"train.batch {self.config.batch} must be a multiple of the {self.accelerator.num_processes} processes"
            )
        if self.accelerator.is_main_process:
            recover(self.checkpoint)
        self.accelerator.wait_for_everyone()
        if (self.checkpoint / "state.json").is_file() and not resume:
            raise ArdmError(f"{self.folder} already holds a run: go on with --resume, or give another folder")
        source = recipe.data
        self.train_set, self.valid_set = data.of_config(source, source.train), data.of_config(source, source.valid)
        self.recipe = recipe = fitted(recipe, self.train_set)
        self.kind = objective_of(recipe)
        if source.labels and (self.train_set.labels is None or not recipe.model.labels):
            raise ArdmError("data.labels needs a data set with labels, and model.labels set to their number")
        S = len(recipe.model.digits)
        self.plans = (
            [image_plan(recipe.order, recipe.model.shape, calls, S) for calls in recipe.order.calls]
            if recipe.order.fixed
            else []
        )
        self.model = build(recipe.model, self.config.seed)
        if self.config.init:
            fit_weights(self.model, load(self.config.init).model.state_dict(), self.config.init)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.curve = LossCurve(S, math.prod(recipe.model.shape), memory=self.config.memory)
        self.step, self.loss, self.seconds = 0, math.nan, math.nan
        moments = self._restore() if resume else {}
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
        B, shape = self.config.batch, tuple(self.recipe.model.shape)
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
        config = self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        share = slice(rank * config.batch // world, (rank + 1) * config.batch // world)
        stream = data.batches(len(self.train_set), config.batch, config.seed, start=self.step)
        while self.step < config.steps:
            began = time.perf_counter()
            rows = next(stream)
            norm = self._update(rows, share)
            took = time.perf_counter() - began
            self.seconds = took if math.isnan(self.seconds) else 0.95 * self.seconds + 0.05 * took
            valid = self.validate() if self.step % config.valid_every == 0 or self.step == config.steps else None
            if config.sample_every and self.step % config.sample_every == 0:
                self.full_average()  # all processes together; the first will ask for it alone
            if self.step % config.save_every == 0 or self.step == config.steps:
                self.save()
            yield Progress(
                self.step,
                config.steps,
                self.loss,
                rate_at(config, self.step - 1),
                norm,
                config.batch / self.seconds,
                self.seconds,
                *(() if valid is None else (valid.bits_per_dim, valid.bits_per_dim_error, valid.estimator)),
            )

    def _update(self, rows: Tensor, share: slice) -> float:
        """One optimiser step on the items `rows`, of which this process takes its share."""
        config, device = self.config, self.accelerator.device
        generator = seeded(config.seed, self.step, 2)
        x = self.train_set.items[rows]
        if self.train_set.grey:
            x = data.binarize(x, generator)
        if self.recipe.data.flip or self.recipe.data.rotate:
            x = data.augment(x, generator, flip=self.recipe.data.flip, rot90=self.recipe.data.rotate)
        x = x[share].long().to(device)
        labels = (
            self.train_set.labels[rows][share].long().to(device)
            if self.recipe.data.labels and self.train_set.labels is not None
            else None
        )
        draws = {k: v[share].to(device) for k, v in self.draw(self.step).items()}
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(config, self.step)
        self.objective.train()
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"),
        ):
            torch.manual_seed(
                seeded(config.seed, self.step, 4, self.accelerator.process_index).initial_seed()
            )  # dropout
            scored = objective.Scored(*self.objective(x, draws, labels))
        D = math.prod(self.recipe.model.shape)
        nats = scored.nats.double().mean() / D
        loss = nats
        if config.cross_entropy:  # the released code's auxiliary term: the un-reweighted sum over hidden sites
            weight = scored.hidden / scored.symbols.clamp(min=1)
            loss = loss + config.cross_entropy * (scored.sums * weight).double().mean() / D
        if not torch.isfinite(loss):
            raise ArdmError(
                f"the loss is {float(loss)} at step {self.step}; lower train.rate, or resume from the checkpoint in {self.checkpoint}"
            )
        self.optimiser.zero_grad()
        self.accelerator.backward(loss.float())
        norm = float(sharding.whole(self.accelerator.clip_grad_norm_(self.objective.parameters(), config.clip)))
        if not math.isfinite(norm):
            raise ArdmError(
                f"the gradient is not finite at step {self.step}; lower train.rate, or resume from {self.checkpoint}"
            )
        with torch.device("cpu"):  # where AdamW counts its steps, whatever torch.set_default_device says
            self.optimiser.step()
        self.step += 1
        self._follow(float(self.accelerator.reduce(nats.detach(), "mean")) / math.log(2))
        self._record(draws, scored)
        return norm

    def _follow(self, bits: float) -> None:
        self.loss = bits if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * bits
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                mine, new = sharding.own(self.average[name]), sharding.own(value)
                mine.lerp_(new, 1 - decay) if value.is_floating_point() else mine.copy_(new)

    def _record(self, draws: Mapping[str, Tensor], scored: objective.Scored) -> None:
        if not self.any_order:
            return
        stage, known = draws.get("stage"), draws.get("known")
        if stage is None or known is None:  # sites hidden at random: an observation of what so many known ones leave
            stage, known = torch.zeros_like(scored.hidden), math.prod(self.recipe.model.shape) - scored.hidden
            known = known.clamp(max=math.prod(self.recipe.model.shape) - 1)  # none hidden, none scored: not counted
        rows = [stage, known, scored.sums.detach().double(), scored.symbols]
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
        model = build(self.recipe.model)
        fit_weights(model, self.full_average(), "the average")
        return model.eval().requires_grad_(False)

    def bundle(self, **card: Any) -> Bundle:
        """The averaged model with its loss curve and a card, which has the names of columns and values of a table."""
        named = self.train_set.schema
        about = {"name": self.recipe.name, "recipe": self.recipe.to_dict(), "steps": self.step}
        if named is not None:
            about["schema"] = named.to_values()
        if self.train_set.rate:
            about["rate"] = self.train_set.rate
        return Bundle(
            self.averaged(),
            self.recipe.model,
            self.recipe.order,
            self.curve if self.any_order else None,
            {**about, **card},
        )

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

    def save(self) -> None:
        """Write checkpoint and model, each whole or not at all; only the first process writes.  In shares, all call."""
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
            state = {"step": self.step, "loss": self.loss, "recipe": self.recipe.to_dict()}
            (new / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        self.bundle().save(self.folder / "model")

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
        for part in ("model", "order", "data"):
            if state["recipe"][part] != self.recipe.to_dict()[part]:
                raise ArdmError(
                    f"the run in {self.folder} has other {part} settings; resume with those, or start elsewhere"
                )
        fit_weights(self.model, weights, str(where))
        self.average = average
        self.step, self.loss = state["step"], state["loss"]
        return moments
