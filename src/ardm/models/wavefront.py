"""The body of causal convolutional networks along wavefronts, and the model along one walk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.heads import Head
from ardm.model import Prediction
from ardm.models.body import Prefix, centred
from ardm.models.config import ModelConfig
from ardm.models.text import refuse_context, refuse_digits
from ardm.nets import Wavefront
from ardm.nets.wavefront import Memory, key
from ardm.precision import wide
from ardm.ranks import wavefront_steps


class WavefrontBody(nn.Module):
    """Pictures (C, H, W) of any height and width, or sequences (D,) of any length → wavefronts.

    trunk: the network.  remembers: whether a walk may keep the features of the last wavefronts (`Walking`).
    """

    trunk: Any
    remembers = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        refuse_digits(config)
        if len(config.shape) not in (1, 3):
            raise ArdmError(f"models of trunk wavefront take shape (C, H, W) or (D,); got {config.shape}")
        self.config, self.digits, line = config, config.digits, len(config.shape) == 1
        self.trunk = Wavefront(
            1 if line else config.shape[0], config.width, config.hidden or config.width, config.blocks, config.classes - 1,
            config.cycle if line else 0,
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites of which all that comes before them is known, from one pass over all pixels."""
        refuse_context(context)
        return self.guarded(state, self.trunk(self.planes(state)))

    def everywhere(self, x: Tensor, context: Tensor | None = None) -> Features:
        """Features of all sites of complete items x (B, *shape), item by item in the order of their positions."""
        refuse_context(context)
        return self.trunk.everywhere(self.planes(Partial(x, torch.ones_like(x))))

    def planes(self, state: Partial) -> Tensor:
        """(B, C, H, W) in [−1, 1]: the known values, 0 elsewhere; a sequence is a picture of one row."""
        value = centred(state, self.digits, wide(self.trunk.first.dtype))
        return value if value.ndim == 4 else value[:, None, None]

    def prefix(self, state: Partial) -> Prefix:
        """What is known along the wavefronts."""
        return Prefix.of(state, torch.from_numpy(wavefront_steps(state.shape)).flatten().to(state.depth.device))

    def guarded(self, state: Partial, features: FeaturesAt) -> FeaturesAt:
        """The same, but refuse sites of which not all that comes before is known."""
        before = self.prefix(state)

        def checked(batch_index: Tensor, position: Tensor) -> Features:
            found = features(batch_index, position)
            return replace(found, hidden=before.guarded(found.hidden, batch_index, position))

        return checked


class Walking:
    """A model along one walk: it computes the features of each pixel once, and keeps those of the last wavefronts."""

    def __init__(self, body: WavefrontBody, head: Head, bf16: bool = False) -> None:
        self.body, self.head, self.digits, self.bf16 = body, head, body.digits, bf16
        self._memory: Memory | None = None

    def __call__(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """The prediction for the next state of the walk."""
        refuse_context(context)
        return Prediction(self.body.guarded(state, self._features(state)), state, self.head, self.bf16)

    def _features(self, state: Partial) -> FeaturesAt:
        """Features at sites: from memory if they are of one wavefront, before which all items are known; else from all."""
        value, first = self.body.planes(state), self.body.prefix(state).first

        def features(batch_index: Tensor, position: Tensor) -> Features:
            pixel = position % value[0, 0].numel()
            front = key(pixel // value.shape[3], pixel % value.shape[3])
            fronts = [int(v) for v in torch.stack([front.min(), front.max(), first.min()])] if len(front) else []
            if not fronts or fronts[0] < fronts[1] or fronts[2] < fronts[0] * value.shape[1]:
                return self.body.trunk(value)(batch_index, position)
            return self._remembering(value, fronts[0])(value, batch_index, position)

        return features

    def _remembering(self, value: Tensor, front: int) -> Memory:
        """The memory, gone on to a wavefront."""
        if self._memory is None or self._memory.last > front:
            self._memory = Memory(self.body.trunk, value)
        self._memory.reach(front, value)
        return self._memory
