"""The bodies of causal networks along wavefronts, convolutional and recurrent, and the model along one walk."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.heads import Head
from ardm.inputs import PADDING
from ardm.model import Prediction
from ardm.models.body import Prefix, centred
from ardm.models.config import ModelConfig
from ardm.models.text import refuse_context, refuse_digits
from ardm.nets import LatticePerceptron, Recurrent, Wavefront
from ardm.nets.recurrent import States
from ardm.nets.wavefront import Memory, key
from ardm.precision import wide
from ardm.ranks import wavefront_steps


class Remembering(Protocol):
    """What a network along one walk keeps of the places behind it.  last: the last wavefront, −1 before the first."""

    last: int

    def reach(self, front: int, planes: Tensor, /) -> None:
        """Go on to a wavefront, no earlier than the last one; all before it is known."""

    def __call__(self, planes: Tensor, batch_index: Tensor, position: Tensor, /) -> Features:
        """Features of sites in the last wavefront."""


class WalkedBody(nn.Module):
    """A body along wavefronts, around a network `trunk` of which the features of a site never change once it is reached.

    remembers: whether a walk may keep the features of the last wavefronts (`Walking`).
    """

    trunk: Wavefront | Recurrent | LatticePerceptron
    remembers = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        refuse_digits(config)
        self.config, self.digits = config, config.digits

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites of which all that comes before them is known, from one pass over all places."""
        refuse_context(context)
        return self.guarded(state, self.trunk(self.planes(state)))

    def everywhere(self, x: Tensor, context: Tensor | None = None) -> Features:
        """Features of all sites of complete items x (B, *shape), item by item in the order of their positions."""
        refuse_context(context)
        return self.trunk.everywhere(self.planes(Partial(x, torch.ones_like(x))))

    def planes(self, state: Partial) -> Tensor:
        """(B, C, H, W): what the network reads of a state; a sequence is a picture of one row."""
        raise NotImplementedError

    def memory(self, planes: Tensor) -> Remembering:
        """An empty memory of a walk."""
        raise NotImplementedError

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


class WavefrontBody(WalkedBody):
    """Pictures (C, H, W) of any height and width, or sequences (D,) of any length → wavefronts."""

    trunk: Wavefront

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if len(config.shape) not in (1, 3):
            raise ArdmError(f"models of trunk wavefront take shape (C, H, W) or (D,); got {config.shape}")
        line = len(config.shape) == 1
        self.trunk = Wavefront(
            1 if line else config.shape[0], config.width, config.hidden or config.width, config.blocks, config.classes - 1,
            config.cycle if line else 0,
        )  # fmt: skip

    def planes(self, state: Partial) -> Tensor:
        """The known values in [−1, 1], 0 elsewhere."""
        value = centred(state, self.digits, wide(self.trunk.lift.dtype))
        return value if value.ndim == 4 else value[:, None, None]

    def memory(self, planes: Tensor) -> Memory:
        """The features of the last wavefronts."""
        return Memory(self.trunk, planes)


class RecurrentBody(WalkedBody):
    """Sequences (D,) of any length → a recurrent network."""

    trunk: Recurrent

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        reach = config.reach or (1,)
        if len(reach) != 1 or reach[0] < 1:
            raise ArdmError(f"model.reach of trunk recurrent is one number of symbols, at least 1; got {config.reach}")
        if any(not 1 <= n <= MOST_SYMBOLS for n in (*reach, *config.hashes)):
            raise ArdmError(
                f"model.reach and model.hashes hold numbers of symbols, 1..{MOST_SYMBOLS}; got {config.reach} and {config.hashes}"
            )
        if not 1 <= config.bits <= 20 or config.row < 1:
            raise ArdmError(f"model.bits lies in 1..20, and model.row is positive; got {config.bits} and {config.row}")
        if config.counts != tuple(sorted({n for n in config.counts if 1 <= n <= MOST_SYMBOLS})[:MOST_COUNTS]):
            raise ArdmError(
                f"model.counts holds at most {MOST_COUNTS} ascending numbers of symbols, 1..{MOST_SYMBOLS}; got {config.counts}"
            )
        self.trunk = Recurrent(
            config.classes, config.width, config.hidden or config.width, config.blocks, config.embedding or 16, reach[0],
            config.hashes, config.bits, config.row, config.dropout, config.counts, config.count_bits,
        )  # fmt: skip

    def start(self, head: Head) -> None:
        """Let the outputs of a new head begin with what the counts expect."""
        counts, out = self.trunk.counts, next(iter(head.children()), None)
        if counts is not None and isinstance(out, nn.Linear) and not out.weight.is_meta and not counts.code.is_meta:
            with torch.no_grad():
                out.weight[:, self.config.width :] = counts.code[1:]

    def planes(self, state: Partial) -> Tensor:
        """The symbols: 1 + the value, 0 where nothing is known."""
        symbols: Tensor = (state.value + 1) * (state.depth > 0)
        return symbols.flatten(1)[:, None, None]

    def count(self, items: Tensor, given: Tensor | None, texts: Tensor | None) -> None:
        """Count what follows contexts in training items (N, T), where nothing is given; texts (N,): which text each is of."""
        if self.trunk.counts is not None:
            of = torch.arange(len(items), device="cpu") if texts is None else texts
            none = torch.zeros(items.shape, dtype=torch.int8, device="cpu") if given is None else given
            symbols = (items.int() + 1).masked_fill(none == PADDING, 0)
            self.trunk.counts.learn(symbols, none == 0, of, self.trunk.back)

    def memory(self, planes: Tensor) -> States:
        """The states after the last place."""
        return States(self.trunk, planes)


MOST_COUNTS = 16
MOST_SYMBOLS = 64
"""The longest context of a recurrent network, in symbols."""


class Walking:
    """A model along one walk: it computes the features of each pixel once, and keeps those of the last wavefronts."""

    def __init__(self, body: WalkedBody, head: Head, bf16: bool = False) -> None:
        self.body, self.head, self.digits, self.bf16 = body, head, body.digits, bf16
        self._memory: Remembering | None = None

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

    def _remembering(self, value: Tensor, front: int) -> Remembering:
        """The memory, gone on to a wavefront."""
        if self._memory is None or self._memory.last > front:
            self._memory = self.body.memory(value)
        self._memory.reach(front, value)
        return self._memory
