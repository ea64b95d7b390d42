"""One optimiser step: forward and backward in passes, clipping, and the update, on one device or several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ardm.errors import ArdmError
from ardm.model import Model
from ardm.objective import Scored
from ardm.precision import finely, finest, has_bf16
from ardm.train import checkpoint, sharding
from ardm.train.batch import DROPOUT, Batch, seeded
from ardm.train.muon import Muon
from ardm.train.objectives import Loss, Objective, Observed
from ardm.train.recipe import TrainConfig

SHORTEST = 20
"""Steps after which an observation of L_t counts half at the beginning of a run."""


@dataclass(frozen=True)
class Done:
    """The result of a step: the gradient's norm, the loss in bits per dimension, and the observations of each pass."""

    norm: float
    bits: float
    observed: list[Observed]


def rate_at(config: TrainConfig, step: int, done: float | None = None) -> float:
    """The learning rate of AdamW at a step: linear warm-up, then the decay that the recipe names.

    done: the share of the run that is done, in [0, 1]; default that of the steps.
    """
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    done = min(1.0, step / max(config.steps, 1)) if done is None else done
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.decay]
    return config.rate * warm * (config.final + (1 - config.final) * shape)


def memory_at(config: TrainConfig, step: int) -> int:
    """The number of steps after which an observation of L_t counts half: a tenth of those taken, within limits.

    Early losses are many times as large as late ones.  With a constant memory the curve of a short run would be that of
    the beginning, and the prices of its schedules too high.
    """
    return min(config.memory, max(step // 10, SHORTEST))


def optimisers(network: Model, config: TrainConfig, fused: bool = False) -> list[torch.optim.Optimizer]:
    """AdamW of all parameters that train; or Muon of the matrices inside blocks, and AdamW of the rest.

    "relative" of a group: its rate divided by that of AdamW.  The rates of sites have a group of their own, without decay.
    fused: AdamW in one pass over memory, five times as fast on CPUs, with the same numbers up to rounding.
    Raises ArdmError for Muon where there are no such matrices.
    """
    decay, matrices = config.weight_decay, hidden_matrices(network) if config.optimiser == "muon" else []
    if config.optimiser == "muon" and not matrices:
        raise ArdmError("train.optimiser muon moves matrices inside blocks that train, and here are none: use adamw")
    theirs = {id(p) for p in (*matrices, network.log_rates)}
    rest = [p for p in network.parameters() if id(p) not in theirs and p.requires_grad]
    groups = [{"params": rest, "relative": 1.0}] if rest else []
    if network.log_rates is not None:
        slow = {"relative": config.order_rate / config.rate, "weight_decay": 0.0}
        groups.append({"params": [network.log_rates], **slow})
    betas = 0.9, config.beta2
    adamw = torch.optim.AdamW(groups, lr=config.rate, betas=betas, weight_decay=decay, fused=fused or None)
    if not matrices:
        return [adamw]
    group = {"params": matrices, "relative": config.muon_rate / config.rate}
    return [adamw, Muon([group], config.muon_rate, decay)]


def hidden_matrices(network: Model) -> list[nn.Parameter]:
    """The matrices and kernels inside the blocks of the body of a network: neither embeddings nor first and last layers."""
    lists = [m for m in network.body.modules() if isinstance(m, (nn.ModuleList, nn.Sequential))]
    inner = {id(m): m for blocks in lists for m in blocks.modules() if not isinstance(m, nn.Embedding)}
    own = (p for m in inner.values() for p in m.parameters(recurse=False))
    found = {id(p): p for p in own if p.ndim in (2, 4) and p.requires_grad}
    return list(found.values())


class Update:
    """Calling it takes one optimiser step.

    network: is moved to the devices of the accelerator, and sharded if `sharded`.
    moments: of the optimiser at the beginning, full tensors by parameter and slot; empty at step 0.
    sites: dimensions of an item that are predicted, on average over the data, by which losses are divided; 0: all.  A constant
    keeps the gradient that of the mean nats of an item.
    module: network and objective, as wrapped for several processes.
    bf16: whether the network multiplies in bfloat16.
    """

    def __init__(
        self,
        network: Model,
        objective: Objective,
        config: TrainConfig,
        accelerator: Accelerator,
        sharded: bool,
        moments: Mapping[str, Tensor],
        sites: float = 0,
    ) -> None:
        self.network, self.objective, self.config = network, objective, config
        self.accelerator, self.sharded, self.sites = accelerator, sharded, sites or math.prod(network.shape)
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16(accelerator.device))
        self.module = Loss(network, objective)
        if sharded:
            sharding.shard(self.module, accelerator.device, accelerator.num_processes)
            self.optimisers = self._optimisers(moments)
        else:
            self.module, *self.optimisers = accelerator.prepare(self.module, *self._optimisers(moments))

    def _optimisers(self, moments: Mapping[str, Tensor]) -> list[torch.optim.Optimizer]:
        made = optimisers(self.network, self.config, not self.sharded and self.accelerator.device.type == "cpu")
        for optimiser in made:
            checkpoint.restore_moments(optimiser, self.network, moments)
        return made

    def moments(self) -> dict[str, Tensor]:
        """The moments of the optimisers by parameter and slot, sharded like the network."""
        plain = [getattr(optimiser, "optimizer", optimiser) for optimiser in self.optimisers]
        return {k: v for optimiser in plain for k, v in checkpoint.moments_of(optimiser, self.network).items()}

    def __call__(self, batch: Batch, step: int, done: float | None = None) -> Done:
        """Take step number `step` on the items of this process; done: as for `rate_at`.

        Raises ArdmError where loss or gradient are not finite; the parameters then stay unchanged.
        """
        self.module.train(not self.config.frozen)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate_at(self.config, step, done) * group["relative"]
            optimiser.zero_grad()
        with self._dropout(step):
            nats, observed = self._passes(batch, step)
        norm = self._clip(step)
        with torch.device("cpu"):  # where AdamW counts its steps, whatever torch.set_default_device says
            for optimiser in self.optimisers:
                optimiser.step()
        bits = float(self.accelerator.reduce(nats / self.sites, "mean")) / math.log(2)
        return Done(norm, bits, observed)

    @contextmanager
    def _dropout(self, step: int) -> Iterator[None]:
        """Seed the global generators, from which dropout draws, and restore them afterwards."""
        device = self.accelerator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            key = (self.config.seed, step, DROPOUT, self.accelerator.process_index)
            torch.manual_seed(seeded(*key).initial_seed())
            yield

    def _passes(self, batch: Batch, step: int) -> tuple[Tensor, list[Observed]]:
        """Accumulate the gradient over all passes; returns the mean nats per item and the observations of L_t."""
        nats, observed = torch.zeros((), dtype=finest(self.accelerator.device), device=self.accelerator.device), []
        parts = batch.passes(self.config.accumulate)
        for turn, part in enumerate(parts, 1):
            here, more = part.to(self.accelerator.device), turn < len(parts) and not self.sharded
            with self.accelerator.no_sync(self.module) if more else nullcontext():
                scored = self._pass(here, step)
            nats += finely(scored.nats).mean() / len(parts)
            if (found := self.objective.observe(here, scored)) is not None:
                observed.append(found)
        return nats, observed

    def _pass(self, batch: Batch, step: int) -> Scored:
        """Forward and backward; adds this pass's part of the gradient of the mean loss, and detaches what it returns."""
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16):
            scored = Scored(*self.module(batch.x.long(), batch.draws, batch.labels, batch.given))
        loss = finely(scored.nats).mean() / self.sites
        if self.config.cross_entropy:  # the released code's auxiliary term: the sum over hidden sites, not reweighted
            weight = scored.hidden / scored.symbols.clamp(min=1)
            loss = loss + self.config.cross_entropy * finely(scored.sums * weight).mean() / self.sites
        if not torch.isfinite(loss):
            raise ArdmError(
                f"the loss is {loss.item()} at step {step}; lower train.rate, or resume from the last checkpoint"
            )
        self.accelerator.backward((loss / self.config.accumulate).float())
        return replace(scored, nats=scored.nats.detach(), sums=scored.sums.detach())

    def _clip(self, step: int) -> float:
        """Clip the gradients of the network and of the rates of sites, each on its own; returns the norm before that."""
        rates = [] if self.network.log_rates is None else [self.network.log_rates]
        others = [p for p in self.module.parameters() if all(p is not q for q in rates)]
        clipped = (self.accelerator.clip_grad_norm_(part, self.config.clip) for part in (others, rates) if part)
        norm = math.hypot(*(float(sharding.gather(norm)) for norm in clipped))
        if not math.isfinite(norm):
            raise ArdmError(
                f"the gradient is not finite at step {step}; lower train.rate, or resume from the last checkpoint"
            )
        return norm
