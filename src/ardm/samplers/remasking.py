"""Sampling that takes revealed digits back while it goes (ReMDM, Wang et al. 2025, 2503.00307).  It has no likelihood.

A step hides some known digits again and reveals as many more, so that the number of known digits stays that of the plan.
With n known digits of D before a step and m hidden ones after it, ReMDM hides each known digit with probability σ; here
exactly ⌊σ · n⌋ of them are hidden:

    cap        σ = min(η, σ_max)           σ_max = min(1, (1 − α_s)/α_t) = min(1, m/n)
    rescale    σ = η · σ_max
    switch     one of these within a window of n/D, elsewhere 0
    loop       one of these while n stays what it is for some calls, elsewhere 0

Hidden digits are revealed in random order.  Digits to hide are chosen at random, or rather where the digit had a small
probability when it was drawn, with weights exp(−p) (ReMDM-conf).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from ardm import inputs, planning
from ardm.api import Array, budget, bundle_of, in_closed_form, losses
from ardm.bundle import Bundle
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.model import Model, PredictionLike
from ardm.plan import GIVEN, NEVER, Plan
from ardm.precision import finely, finest, home, precise
from ardm.random_numbers import HIDING, REMASKING, RandomNumbers
from ardm.samplers.redraw import refuse_single, share_of
from ardm.source import Draw
from ardm.walk import last, walk

CONFIDENCE, RANDOM = "confidence", "random"
Hiding: TypeAlias = Callable[[int, int, int], float]
"""How many known digits a step hides again, rounded down: from the digits known before it and after it, and D."""
SCHEDULES: dict[str, Callable[[float], Hiding]] = {
    "cap": lambda share: lambda before, after, sites: min(share * before, sites - after),
    "rescale": lambda share: lambda before, after, sites: share * min(before, sites - after),
}
"""Schedules by name, from their η."""


def sample_remasked(
    bundle: Bundle | Model,
    items: int,
    calls: int | None = None,
    share: float = 0.1,
    by: str = CONFIDENCE,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first: int = 0,
    schedule: str | Hiding = "cap",
    between: tuple[float, float] = (0.0, 1.0),
    loop: int = 0,
    held: float = 0.9,
) -> Tensor:
    """Draw new items with remasking: (items, *shape) int64, in the same number of network calls as `ardm.sample`.

    share, by, schedule, between, loop, held: see `Remask`.  Other arguments: see `ardm.sample`.
    """
    how = Remask(share, by, schedule, between, loop, held)
    states = remasking(bundle, items, how, calls, seed, temperature, context, top_k, top_p, first)
    return in_closed_form(bundle_of(bundle), deque(states, maxlen=1).pop().value)


@dataclass(frozen=True)
class Remask:
    """Which known digits are hidden again, and when.

    share: η, in [0, 1].  by: "confidence" or "random".
    schedule: "cap", "rescale", or a function from the digits of the stage known before and after a step, and D, to a number.
    between: hide only where the share of known digits lies between these two.
    loop: so many calls of each stage, out of the budget, are spent where the share `held` of its digits is known, and reveal
    as many digits as they hide; then only they hide any.
    Raises ArdmError for other values.
    """

    share: float = 0.1
    by: str = CONFIDENCE
    schedule: str | Hiding = "cap"
    between: tuple[float, float] = (0.0, 1.0)
    loop: int = 0
    held: float = 0.9

    def __post_init__(self) -> None:
        share_of(self.share, 0.0)
        share_of(self.held, name="held")
        if self.by not in (CONFIDENCE, RANDOM):
            raise ArdmError(f"values are hidden again by {CONFIDENCE} or {RANDOM}; got {self.by!r}")
        if not callable(self.schedule) and self.schedule not in SCHEDULES:
            raise ArdmError(
                f"the schedule of remasking is {' or '.join(SCHEDULES)}, or a function; got {self.schedule!r}"
            )
        if isinstance(self.loop, bool) or not isinstance(self.loop, int) or self.loop < 0:
            raise ArdmError(f"loop is a number of calls of each stage, 0 or more; got {self.loop!r}")
        _refuse_no_window(self.between)

    def again(self, before: int, after: int, sites: int) -> int:
        """How many known digits a step hides again; at most as many as can be."""
        low, high = self.between
        if not low <= before / sites <= high or (self.loop and before != after):
            return 0
        rule = self.schedule if callable(self.schedule) else SCHEDULES[self.schedule](self.share)
        return max(0, min(int(rule(before, after, sites)), before, sites - after))

    def edges(self, bundle: Bundle, sites: int, calls: int) -> list[list[int]]:
        """The digits of each stage that are known before its first step and after each one, in `calls` steps together."""
        stages = len(bundle.model.digits)
        if self.loop and calls < (self.loop + 2) * stages:
            of = f" in each of {stages} stages" * (stages > 1)
            raise ArdmError(f"a loop of {self.loop} calls and two calls beside it{of} do not fit into {calls} calls")
        starts = planning.shares(losses(bundle), sites, calls - self.loop * stages)((sites,) * stages)
        return [_held([*row, sites], self.held * sites, self.loop) for row in starts]


def _refuse_no_window(between: tuple[float, float]) -> None:
    pair = isinstance(between, (tuple, list)) and len(between) == 2
    if not pair or not all(isinstance(n, (int, float)) for n in between) or not 0 <= between[0] <= between[1] <= 1:
        raise ArdmError(f"between must be two shares of known digits, 0 ≤ low ≤ high ≤ 1; got {between!r}")


def _held(edges: list[int], known: float, loop: int) -> list[int]:
    """Edges in which the inner one next to `known` occurs `loop` more times."""
    at = min(edges[1:-1] or edges[:1], key=lambda edge: abs(edge - known))
    return sorted([*edges, *[at] * loop])


def remasking(
    bundle: Bundle | Model,
    items: int,
    how: Remask,
    calls: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first: int = 0,
) -> Iterator[Partial]:
    """The states of `sample_remasked`, one after every network call."""
    bundle, items = bundle_of(bundle), inputs.number(items, "items")
    refuse_single(bundle, "sampled with remasking")
    model, numbers = bundle.model, RandomNumbers(seed, first).child(REMASKING)
    stages, sites = len(model.digits), math.prod(model.shape)
    rows = how.edges(bundle, sites, budget(bundle, calls, "random")[0])
    state = model.digits.blank(items, model.shape, inputs.device_of(model))
    context = inputs.context(context, items)
    sure = torch.ones(items, sites, device=state.value.device, dtype=finest(state.value.device))
    step = 0
    for stage, edges in enumerate(rows):
        hidden = state.value  # of all sites, when their digit of this stage is hidden
        for before, after in pairwise(edges):
            own, step, again = numbers.child(step), step + 1, how.again(before, after, sites)
            weight = sure.neg().exp() if how.by == CONFIDENCE else torch.ones_like(sure)
            hide = _chosen(state.depth > stage, again, weight, own.child(HIDING))
            show = _chosen(state.depth == stage, after - before + again, torch.ones_like(sure), own)
            source = Recorded(Draw(own, temperature, top_k, top_p), sure)
            state = last(walk(model, _one_step(state, show, stages), source, state, context=context), state)
            state = Partial(torch.where(hide, hidden, state.value), state.depth - hide.long())
            yield state


def _chosen(among: Tensor, count: int, weight: Tensor, numbers: RandomNumbers) -> Tensor:
    """(B, *shape) bool: `count` sites of each item, drawn without replacement in proportion to weight (B, D).

    The smallest of exponential variables with these rates (Efraimidis & Spirakis 2006).
    """
    flat = among.flatten(1).to(home(among.device))
    u = numbers.child(HIDING).grid(len(flat), 1, flat.shape[1], flat.device)[:, 0]
    key = (-torch.log1p(-u) / precise(weight)).masked_fill(~flat, torch.inf)
    rank = key.argsort(dim=1, stable=True).argsort(1)
    return ((rank < count) & flat).view(among.shape).to(among.device)


def _one_step(state: Partial, show: Tensor, stages: int) -> Plan:
    """The plan of a single step that reveals the next digit of the sites of `show`."""
    stage = torch.arange(stages, device=show.device).view(1, -1, *[1] * (show.ndim - 1))
    depth = state.depth[:, None]
    later = torch.where((stage == depth) & show[:, None], 0, NEVER)
    return Plan(torch.where(stage < depth, GIVEN, later))


class Recorded:
    """A source that also notes how likely each digit was when it was drawn, in `sure` (B, D)."""

    def __init__(self, source: Draw, sure: Tensor) -> None:
        self._source, self._sure = source, sure

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """(N,): the digits of the source."""
        digit = self._source(prediction, sites, target)
        self._sure.view(-1)[sites.index] = finely(prediction.log_prob(sites, digit)).exp()
        return digit
