"""The moving average of the parameters; this average is evaluated and saved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ardm.train import sharding


class Average:
    """The average of a model's state, by name; sharded like the model.

    tensors: full ones until `place`.  step: of the newest state in it.
    """

    def __init__(self, tensors: Mapping[str, Tensor], step: int = 0) -> None:
        self.tensors, self.step = {name: value.detach().clone() for name, value in tensors.items()}, step
        self._full: tuple[int, dict[str, Tensor]] = (-1, {})

    def place(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Move it to a device, and shard it like `state`."""
        self.tensors = {k: sharding.shard_of(v.to(device), state[k]) for k, v in self.tensors.items()}

    def follow(self, state: Mapping[str, Tensor], step: int, decay: float) -> None:
        """Move towards the state after `step` steps; early in a run the decay is smaller."""
        self.step, decay = step, min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in state.items():
                mine, new = sharding.local(self.tensors[name]), sharding.local(value)
                mine.lerp_(new, 1 - decay) if value.is_floating_point() else mine.copy_(new)

    def full(self, sharded: bool) -> dict[str, Tensor]:
        """The full tensors in memory.

        If it is sharded, all processes call this together; until the next step each may then call it alone.
        """
        if not sharded:
            return {name: value.cpu() for name, value in self.tensors.items()}
        if self._full[0] != self.step:
            self._full = self.step, sharding.gather_all(self.tensors)
        return self._full[1]
