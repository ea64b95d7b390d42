"""One order of the digits of an item, and which of its steps are taken together: the policy of a few network calls.

    Planned(ranks, curve, schedules)    what a codec model of any order holds
    planned.starts(calls)               where each of this many calls begins: as held, or planned now
    planned.when(starts)                the step that reveals each digit of a cell, for `Order`

Stage after stage, the digits follow the same ranks 0 … D − 1.  A schedule is a tuple of starts, numbered through all
stages: t + s · D is where a call begins that finds s digits of every site known, and the next digit of t sites.  Planning
computes in floats, so only an encoder does it: a decoder reads the starts from the model or from the file.

NumPy, no torch.  S stages, D ranks of a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ardm.ans import Ints
from ardm.cheapest import cheapest
from ardm.errors import ArdmError

UNIT = 1 << 16
"""Losses are held in this part of a nat."""

Starts: TypeAlias = tuple[int, ...]
"""Where the calls of an item begin, numbered through all stages."""
Steps: TypeAlias = int | Starts
"""The steps of an item: those that its model holds for a number of network calls, or a schedule of the file's own."""


def calls_of(steps: Steps) -> int:
    """The number of network calls of some steps."""
    return steps if isinstance(steps, int) else len(steps)


def losses(curve: ArrayLike | None, stages: int, sites: int) -> Ints:
    """(S, D): a fitted loss curve (S, any number of sites) in nats as integers; 0, that is unknown, without one.

    Stretched to the sites of the cell.  Infinite losses are unknown too: every schedule costs the same.
    """
    values = np.zeros((stages, sites)) if curve is None else np.asarray(curve, dtype=float)
    values = values[:, np.arange(sites) * values.shape[1] // sites]
    return np.rint(np.where(np.isfinite(values).all(), values, 0) * UNIT).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Planned:
    """The order of a cell (C, h, w) that repeats across an item, and its schedules.

    ranks: (C, h, w), each of 0 … D − 1 once.  curve: (S, D), the losses L_t in UNIT, not increasing; all 0: unknown, and
    steps are planned as even as possible.  schedules: by number of calls, those that files need not repeat.
    Raises ArdmError where these contradict each other.
    """

    ranks: Ints
    curve: Ints
    schedules: Mapping[int, Starts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        D = self.ranks.size
        if self.ranks.ndim != 3 or not D or not np.array_equal(np.sort(self.ranks, axis=None), np.arange(D)):
            raise ArdmError(f"the ranks of an order are each of 0..{D - 1} once, (C, h, w); got {self.ranks.shape}")
        if self.curve.ndim != 2 or self.curve.shape[1] != D or not len(self.curve):
            raise ArdmError(f"the losses of an order are (S, {D}); got {self.curve.shape}")
        if self.curve.min() < 0 or (np.diff(self.curve) > 0).any():
            raise ArdmError("the losses of an order are not negative, and do not increase with what is known")
        for calls, starts in self.schedules.items():
            self.refuse(starts)
            if calls != len(starts):
                raise ArdmError(f"a schedule of {len(starts)} calls stands for {calls}")

    @classmethod
    def of(cls, ranks: Ints, curve: ArrayLike | None, stages: int, budgets: Sequence[int]) -> Planned:
        """The order with its schedules planned; curve: as in `losses`.  Raises ArdmError for impossible budgets."""
        bare = cls(ranks, losses(curve, stages, ranks.size))
        return cls(bare.ranks, bare.curve, {calls: bare.starts(calls) for calls in budgets})

    @property
    def most(self) -> int:
        """The largest number of calls, one for each digit of a cell."""
        return self.curve.size

    def refuse(self, starts: Starts) -> None:
        """Raise ArdmError for starts that are no schedule of this order."""
        S, D = self.curve.shape
        if not starts or starts[0] or any(a >= b for a, b in pairwise(starts)) or starts[-1] >= S * D:
            raise ArdmError(
                f"the calls of a schedule begin at 0 and at ever higher steps below {S * D}{_shown(starts)}"
            )
        if not {s * D for s in range(S)} <= set(starts):
            raise ArdmError(f"a schedule begins each of {S} stages of {D} sites with a call of its own{_shown(starts)}")

    def starts(self, calls: int) -> Starts:
        """The schedule of this many calls: the one held, or the cheapest by the losses.  Raises ArdmError if there is none."""
        if calls in self.schedules:
            return self.schedules[calls]
        S, D = self.curve.shape
        if not S <= calls <= S * D:
            raise ArdmError(f"an item takes {S} to {S * D} network calls; got {calls}")
        each = cheapest(list(self.curve.astype(float)), calls) if self.curve.any() else _even(S, D, calls)
        return tuple(s * D + t for s, own in enumerate(each) for t in own)

    def when(self, starts: Starts) -> Ints:
        """(S, C, h, w): the step that reveals each digit of the cell."""
        S, D = self.curve.shape
        steps = np.searchsorted(starts, np.arange(S * D), side="right") - 1
        return steps.reshape(S, D)[:, self.ranks]


def _even(stages: int, sites: int, calls: int) -> list[list[int]]:
    """Steps as even as possible, the larger numbers of them in the first stages."""
    each = [calls // stages + (s < calls % stages) for s in range(stages)]
    return [[k * sites // n for k in range(n)] for n in each]


def _shown(starts: Starts) -> str:
    return f"; got {', '.join(map(str, starts[:8]))}{', …' * (len(starts) > 8)}"
