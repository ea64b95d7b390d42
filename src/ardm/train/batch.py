"""The items of a step with their random draws, and generators that depend on a key alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

DRAW, AUGMENT, VALIDATE, DROPOUT, LABELS = 1, 2, 3, 4, 5
"""The purpose of a generator is part of its key, so that one kind of draw does not change another."""
Draws: TypeAlias = Mapping[str, Tensor]
"""The random draws of a step by name: tensors with a row for each item."""


@dataclass(frozen=True)
class Batch:
    """Items x (B, *shape), the draws of the objective for them, and their labels (B,) if the model takes any.

    given: (B, *shape) or None, what is known of them beforehand, or PADDING.
    """

    x: Tensor
    draws: Draws
    labels: Tensor | None
    given: Tensor | None = None

    def share(self, process: int, processes: int) -> Batch:
        """The part of one process; the parts are consecutive."""
        return self.at(slice(process * len(self.x) // processes, (process + 1) * len(self.x) // processes))

    def at(self, rows: slice | Tensor) -> Batch:
        """Some of the items."""
        draws = {name: values[rows] for name, values in self.draws.items()}
        return Batch(self.x[rows], draws, *(None if v is None else v[rows] for v in (self.labels, self.given)))

    def passes(self, number: int) -> list[Batch]:
        """Consecutive parts of equal size."""
        return [self.share(turn, number) for turn in range(number)]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        draws = {name: values.to(device) for name, values in self.draws.items()}
        return Batch(
            self.x.to(device), draws, *(None if v is None else v.to(device) for v in (self.labels, self.given))
        )


def seeded(*key: int) -> torch.Generator:
    """A generator that depends on the key alone, not on the platform."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
