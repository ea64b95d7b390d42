"""One optimiser step: forward and backward in passes, clipping, and the update, on one device or several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor

from ardm.errors import ArdmError
from ardm.model import Model
from ardm.objective import Scored
from ardm.train import checkpoint, sharding
from ardm.train.batch import DROPOUT, Batch, seeded
from ardm.train.objectives import Loss, Objective, Observed
from ardm.train.recipe import TrainConfig


@dataclass(frozen=True)
class Done:
    """The result of a step: the gradient's norm, the loss in bits per dimension, and the observations of each pass."""

    norm: float
    bits: float
    observed: list[Observed]


def rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, then the decay that the recipe names."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    done = min(1.0, step / max(config.steps, 1))
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.decay]
    return config.rate * warm * (config.final + (1 - config.final) * shape)


class Update:
    """Calling it takes one optimiser step.

    network: is moved to the devices of the accelerator, and sharded if `sharded`.
    moments: of the optimiser at the beginning, full tensors by parameter and slot; empty at step 0.
    module: network and objective, as wrapped for several processes.
    """

    def __init__(
        self,
        network: Model,
        objective: Objective,
        config: TrainConfig,
        accelerator: Accelerator,
        sharded: bool,
        moments: Mapping[str, Tensor],
    ) -> None:
        self.network, self.objective, self.config = network, objective, config
        self.accelerator, self.sharded, self.sites = accelerator, sharded, math.prod(network.shape)
        self.module = Loss(network, objective)
        if sharded:
            sharding.shard(self.module, accelerator.device, accelerator.num_processes)
            self.optimiser = self._optimiser(moments)
        else:
            self.module, self.optimiser = accelerator.prepare(self.module, self._optimiser(moments))

    def _optimiser(self, moments: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.config.rate,
            betas=(0.9, self.config.beta2),
            weight_decay=self.config.weight_decay,
        )
        checkpoint.restore_moments(optimiser, self.network, moments)
        return optimiser

    def moments(self) -> dict[str, Tensor]:
        """The moments of the optimiser by parameter and slot, sharded like the network."""
        return checkpoint.moments_of(getattr(self.optimiser, "optimizer", self.optimiser), self.network)

    def __call__(self, batch: Batch, step: int) -> Done:
        """Take step number `step` on the items of this process.

        Raises ArdmError where loss or gradient are not finite; the parameters then stay unchanged.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.config, step)
        self.module.train()
        self.optimiser.zero_grad()
        with self._dropout(step):
            nats, observed = self._passes(batch, step)
        norm = self._clip(step)
        with torch.device("cpu"):  # where AdamW counts its steps, whatever torch.set_default_device says
            self.optimiser.step()
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
        nats, observed = torch.zeros((), dtype=torch.double, device=self.accelerator.device), []
        parts = batch.passes(self.config.accumulate)
        for turn, part in enumerate(parts, 1):
            here, more = part.to(self.accelerator.device), turn < len(parts) and not self.sharded
            with self.accelerator.no_sync(self.module) if more else nullcontext():
                scored = self._pass(here, step)
            nats += scored.nats.double().mean() / len(parts)
            if (found := self.objective.observe(here.draws, scored)) is not None:
                observed.append(found)
        return nats, observed

    def _pass(self, batch: Batch, step: int) -> Scored:
        """Forward and backward; adds this pass's part of the gradient of the mean loss, and detaches what it returns."""
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            scored = Scored(*self.module(batch.x.long(), batch.draws, batch.labels))
        loss = scored.nats.double().mean() / self.sites
        if self.config.cross_entropy:  # the released code's auxiliary term: the sum over hidden sites, not reweighted
            weight = scored.hidden / scored.symbols.clamp(min=1)
            loss = loss + self.config.cross_entropy * (scored.sums * weight).double().mean() / self.sites
        if not torch.isfinite(loss):
            raise ArdmError(
                f"the loss is {float(loss)} at step {step}; lower train.rate, or resume from the last checkpoint"
            )
        self.accelerator.backward((loss / self.config.accumulate).float())
        return replace(scored, nats=scored.nats.detach(), sums=scored.sums.detach())

    def _clip(self, step: int) -> float:
        """Clip the gradient; returns the norm before that."""
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip)
        norm = float(sharding.gather(norm))
        if not math.isfinite(norm):
            raise ArdmError(
                f"the gradient is not finite at step {step}; lower train.rate, or resume from the last checkpoint"
            )
        return norm
