"""Plans within a budget of network calls, for items that may be partly known.

A stage with t sites of D known has the losses L_t, …, L_{D−1} left, and `schedule.remaining` plans with these.  Every
item has a plan for its own hidden part: with n hidden digits and a budget of K calls, min(K, n) steps, none of them empty.
Nothing known is a special case.  A site of depth PADDING (−1) is never revealed, and its item is smaller by one site.

Orders of images and of sequences are those of `orders`, restricted to the hidden pixels.  Channels follow each other with
a delay as far as there are steps for it; a larger budget splits the widest steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.adaptive import Adaptive, PlannedNumber, following
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.model import PredictionLike
from ardm.orders import OrderConfig, keys
from ardm.plan import GIVEN, NEVER, AnyPlan, Plan, rated, refuse_misfit, shuffled
from ardm.random_numbers import Chance
from ardm.schedule import remaining

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

Counts: TypeAlias = tuple[int, ...]
"""The number of hidden digits in each stage of an item."""
Shares: TypeAlias = Callable[..., list[list[int]]]
"""From the hidden digits and the sites of an item to the starts of each stage, counted from the digits known."""


def hidden_counts(depth: Tensor, stages: int) -> list[Counts]:
    """For each item the number of hidden digits in each stage; depth (B, *shape)."""
    flat = depth.flatten(1)
    hidden = [((flat <= s) & (flat != PADDING)).sum(1) for s in range(stages)]
    return [tuple(row) for row in torch.stack(hidden, 1).tolist()]


def sites_of(depth: Tensor) -> list[int]:
    """For each item the number of sites that are not padding; depth (B, *shape)."""
    found: list[int] = (depth != PADDING).flatten(1).sum(1).tolist()
    return found


def shares(curve: Floats | None, sites: int, calls: int) -> Shares:
    """How items of D = `sites`, or of their own number of sites, best spend at most `calls` network calls on their hidden digits.

    curve: (S, any number of sites) from `LossCurve.monotone`, stretched to the sites of the item; None: evenly spaced starts, as also where
    the remaining losses are infinite, so that every plan costs the same.
    The returned function raises ArdmError for fewer calls than stages with hidden digits.
    """

    @cache
    def share(hidden: Counts, sites: int = sites) -> list[list[int]]:
        if curve is None:
            return _spread(None, hidden, calls)
        rows = [row[np.arange(sites - n, sites) * len(row) // sites] for row, n in zip(curve, hidden, strict=True)]
        return _spread(rows, hidden, calls)

    return share


def _spread(losses: list[Floats] | None, hidden: Counts, calls: int) -> list[list[int]]:
    """The starts of each part in min(calls, hidden digits) steps, by its losses (n,); evenly without finite ones."""
    budget, least = min(calls, sum(hidden)), sum(n > 0 for n in hidden)
    if calls < least:
        raise ArdmError(f"digits of {least} stages are unknown, which take at least as many calls; got {calls}")
    if losses is None or any(np.isinf(row).any() for row in losses):
        return [[n * k // c for k in range(c)] for n, c in zip(hidden, _parts(hidden, budget), strict=True)]
    return remaining(losses, budget)


def _parts(widths: Sequence[int], count: int) -> list[int]:
    """Into how many parts to cut each width, `count` in all, so that the widest part is as narrow as possible."""
    parts = [min(n, 1) for n in widths]
    widest = [(-float(n), i) for i, n in enumerate(widths) if n > 1]
    heapq.heapify(widest)
    for _ in range(count - sum(parts)):
        i = heapq.heappop(widest)[1]
        parts[i] += 1
        if parts[i] < widths[i]:
            heapq.heappush(widest, (-widths[i] / parts[i], i))
    return parts


def _distinct(depth: Tensor) -> Tensor:
    """One row if the same digits of all items are known."""
    return depth[:1] if (depth == depth[:1]).all() else depth


def random(depth: Tensor, stages: int, share: Shares, generator: Chance, rates: Tensor | None = None) -> Plan:
    """Each item in a random order of its own, stage after stage; depth (B, *shape).  The plan is on its device.

    rates: (*shape), of orders by rates; None: all orders are equally likely.
    """
    B, shape, device = len(depth), depth.shape[1:], depth.device
    drawn = shuffled(stages, shape, generator, B) if rates is None else rated(rates, stages, shape, generator, B)
    rank = drawn.when.view(B, stages, -1).to(device)
    known = depth.view(B, 1, -1)
    hidden = (known <= torch.arange(stages, device=device)[:, None]) & (known != PADDING)
    rank = rank.masked_fill(~hidden, stages * rank.shape[-1]).argsort(-1).argsort(-1)  # among the hidden ones
    when = torch.where(known == PADDING, NEVER, torch.full_like(rank, GIVEN))
    for i, own in enumerate(map(share, hidden_counts(depth, stages), sites_of(depth))):
        first = 0
        for s, starts in enumerate(own):
            if starts:
                step = torch.searchsorted(torch.tensor(starts, device=device), rank[i, s], right=True) - 1 + first
                when[i, s] = torch.where(hidden[i, s], step, when[i, s])
            first += len(starts)
    return Plan(when.view(B, stages, *shape))


def budgeted(order: object) -> bool:
    """Whether an order is planned for a number of calls: a name, None, or an adaptive plan without a selection."""
    return order is None or isinstance(order, str) or (isinstance(order, Adaptive) and order.selection is None)


def fitted(order: AnyPlan | str, depth: Tensor, stages: int, calls: int, curve: Floats | None) -> AnyPlan:
    """A plan of the user's, or "confident", for items where `depth` (B, *shape) digits are known.

    calls, curve: see `adaptive`, for an adaptive plan that does not say how many sites a step reveals.
    """
    plan: Any = Adaptive() if order == "confident" else order
    if isinstance(plan, Adaptive):
        never = _distinct(depth) == PADDING
        plan = replace(plan, stages=stages, never=never if never.any() else plan.never)
        plan = adaptive(plan, depth, calls, curve) if plan.selection is None else plan
    refuse_misfit(plan, stages, depth.shape[1:], len(depth))
    found: AnyPlan = plan.to(depth.device).given(_distinct(depth)) if isinstance(plan, Plan) else plan
    return found


def adaptive(plan: Adaptive, depth: Tensor, calls: int, curve: Floats | None) -> Adaptive:
    """The numbers of sites on which an adaptive plan best spends at most `calls` steps an item; depth (B, *shape).

    curve: (S, any number of sites) from `LossCurve.monotone`, or None.  Raises ArdmError for fewer calls than stages, or
    than blocks, with hidden digits.
    """
    rows = _distinct(depth).flatten(1)
    D = rows.shape[1]
    length = min(plan.block_length or D, D)

    @cache
    def until(hidden: tuple[Counts, ...], padding: int) -> Tensor:
        starts = _starts(hidden, D, calls, curve, plan.block_length, padding)
        return torch.stack([following(own, D) for own in starts])

    planned = torch.stack(
        [until(_hidden(row, plan.stages, length), D - n) for row, n in zip(rows.cpu(), sites_of(rows), strict=True)]
    )
    return replace(plan, selection=PlannedNumber(planned.to(depth.device)))


def _hidden(row: Tensor, stages: int, length: int) -> tuple[Counts, ...]:
    """The number of hidden digits of each block in each stage; row (D,), the depths of an item."""
    block = torch.arange(len(row), device="cpu") // length
    live = row != PADDING
    blocks = int(block[-1]) + 1
    return tuple(tuple(torch.bincount(block[(row <= s) & live], minlength=blocks).tolist()) for s in range(stages))


def _starts(
    hidden: tuple[Counts, ...], sites: int, calls: int, curve: Floats | None, length: int | None, padding: int = 0
) -> list[list[int]]:
    """The starts of each stage in known sites, where every block of a stage begins with a step of its own.

    A block that begins with t sites known and has n hidden ones has the losses L_t, …, L_{t+n−1}; sites that are padding
    are among those known, but not among those of the losses.
    """
    begins = [list(accumulate(row, initial=sites - sum(row)))[:-1] for row in hidden]
    flat, least = tuple(n for row in hidden for n in row), sum(n > 0 for row in hidden for n in row)
    if length is not None and calls < least:
        raise ArdmError(f"blocks of {length} sites take at least {least} calls for what is unknown; got {calls}")
    losses = None
    if curve is not None:
        parts = [
            (row, t, n) for row, ts, ns in zip(curve, begins, hidden, strict=True) for t, n in zip(ts, ns, strict=True)
        ]
        own = max(sites - padding, 1)
        losses = [row[np.arange(t - padding, t - padding + n) * len(row) // own] for row, t, n in parts]
    found = iter(_spread(losses, flat, calls))
    return [[t + start for t in row for start in next(found)] or [0] for row in begins]


def ordered(config: OrderConfig, depth: Tensor, stages: int, calls: int) -> Plan:
    """The hidden part of an order of images or sequences, in steps as even as possible; depth (B, *shape)."""
    shape, rows = tuple(depth.shape[1:]), _distinct(depth)
    rank, turn = keys(config, shape)
    apart = config.order == "raster" and len(shape) == 1
    share = shares(None, prod(shape), calls)
    when = np.full((len(rows), stages, prod(shape)), GIVEN, dtype=np.int64)
    for i, flat in enumerate(rows.flatten(1).cpu().numpy()):
        live = flat != PADDING
        when[i, :, ~live] = NEVER
        own = share(tuple(int(((flat <= s) & live).sum()) for s in range(stages)), int(live.sum()))
        first = 0
        for s, starts in enumerate(own):
            index = np.flatnonzero((flat <= s) & live)
            when[i, s, index] = first + _steps(rank[index], turn[index], len(starts), apart) if len(index) else GIVEN
            first += len(starts)
    return Plan(torch.from_numpy(when).view(len(rows), stages, *shape).to(depth.device))


def _steps(rank: Ints, turn: Ints, calls: int, apart: bool) -> Ints:
    """The step of each hidden site of a stage, 0..calls−1.  apart: put neighbours in rank a step apart, not together."""
    dense = np.unique(rank, return_inverse=True)[1].reshape(-1)
    pixels = int(dense.max()) + 1
    groups = min(max(calls - int(turn.max()), 1), pixels)
    step = (dense % groups if apart else dense * groups // pixels) + turn
    order = np.lexsort((turn, rank, step))
    widths = np.unique(step, return_counts=True)[1].tolist()
    while len(widths) > calls:  # fewer calls than channels
        pair = min(range(len(widths) - 1), key=lambda k: widths[k] + widths[k + 1])
        widths[pair : pair + 2] = [widths[pair] + widths[pair + 1]]
    cut = [w * (k + 1) // n - w * k // n for w, n in zip(widths, _parts(widths, calls), strict=True) for k in range(n)]
    found = np.empty(len(rank), dtype=np.int64)
    found[order] = np.repeat(np.arange(calls), cut)
    return found


@dataclass(frozen=True, eq=False)
class UntilEnd:
    """A plan of sequences with an end (`models.ending`): an item is over when everything before its known end is known.

    What is behind the end is certain, and left hidden.  end: the class.  Waits for a GPU once a step.
    """

    plan: AnyPlan
    end: int

    def items(self, k: int, state: Partial) -> list[int]:
        """The unfinished items of the plan in which something before the end is hidden."""
        ends = ((state.value == self.end) & (state.depth > 0)).int()
        before = ends.cumsum(1, dtype=torch.int32) == 0
        live = ((state.depth == 0) & before).any(1).tolist()
        return [item for item in self.plan.items(k, state) if live[item]]

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The sites that the plan reveals, of these items."""
        sites = self.plan.select(k, state, prediction)
        live = torch.zeros(state.batch, dtype=torch.bool, device=sites.index.device)
        live[self.items(k, state)] = True
        return Sites(sites.index[live[sites.batch_index]], sites.sites)

    def refuse_misfit(self, stages: int, shape: Sequence[int], batch: int) -> None:
        """Raise ArdmError where the plan does not fit such items."""
        self.plan.refuse_misfit(stages, shape, batch)
