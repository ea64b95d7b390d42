"""Plans within a budget of network calls, for items that may be partly known.

A stage with t sites of D known has the losses L_t, …, L_{D−1} left, and `schedule.remaining` plans with these.  Every
item has a plan for its own hidden part: with n hidden digits and a budget of K calls, min(K, n) steps, none of them empty.
Nothing known is a special case.

Orders of images and of sequences are those of `orders`, restricted to the hidden pixels.  Channels follow each other with
a delay as far as there are steps for it; a larger budget splits the widest steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.losscurve import Floats, Ints
from ardm.orders import OrderConfig
from ardm.plan import GIVEN, Confident, Plan, shuffled
from ardm.random_numbers import Chance
from ardm.ranks import LINES, RANKS
from ardm.schedule import remaining

Counts: TypeAlias = tuple[int, ...]
"""The number of hidden digits in each stage of an item."""
Shares: TypeAlias = Callable[[Counts], list[list[int]]]
"""The starts of each stage, counted from the digits known."""


def hidden_counts(depth: Tensor, stages: int) -> list[Counts]:
    """For each item the number of hidden digits in each stage; depth (B, *shape)."""
    flat = depth.flatten(1)
    return [tuple(row) for row in torch.stack([(flat <= s).sum(1) for s in range(stages)], 1).tolist()]


def shares(curve: Floats | None, sites: int, calls: int) -> Shares:
    """How items of D = `sites` best spend at most `calls` network calls on their hidden digits.

    curve: (S, any number of sites) from `LossCurve.monotone`, stretched to D; None: evenly spaced starts, as also where
    the remaining losses are infinite, so that every plan costs the same.
    The returned function raises ArdmError for fewer calls than stages with hidden digits.
    """

    @cache
    def share(hidden: Counts) -> list[list[int]]:
        budget, least = min(calls, sum(hidden)), sum(n > 0 for n in hidden)
        if calls < least:
            raise ArdmError(f"digits of {least} stages are unknown, which take at least as many calls; got {calls}")
        endless = curve is not None and any(
            np.isinf(row[(sites - n) * len(row) // sites :]).any() for row, n in zip(curve, hidden, strict=True) if n
        )
        if curve is None or endless:
            return [[n * k // c for k in range(c)] for n, c in zip(hidden, _parts(hidden, budget), strict=True)]
        rows = [row[np.arange(sites - n, sites) * len(row) // sites] for row, n in zip(curve, hidden, strict=True)]
        return remaining(rows, budget)

    return share


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


def random(depth: Tensor, stages: int, share: Shares, generator: Chance) -> Plan:
    """Each item in a random order of its own, stage after stage; depth (B, *shape).  The plan is on its device."""
    B, shape, device = len(depth), depth.shape[1:], depth.device
    rank = shuffled(stages, shape, generator, B).when.view(B, stages, -1).to(device)
    hidden = depth.view(B, 1, -1) <= torch.arange(stages, device=device)[:, None]
    rank = rank.masked_fill(~hidden, stages * rank.shape[-1]).argsort(-1).argsort(-1)  # among the hidden ones
    when = torch.full_like(rank, GIVEN)
    for i, own in enumerate(map(share, hidden_counts(depth, stages))):
        first = 0
        for s, starts in enumerate(own):
            if starts:
                step = torch.searchsorted(torch.tensor(starts, device=device), rank[i, s], right=True) - 1 + first
                when[i, s] = torch.where(hidden[i, s], step, GIVEN)
            first += len(starts)
    return Plan(when.view(B, stages, *shape))


def confident(depth: Tensor, stages: int, share: Shares) -> Confident:
    """The hidden sites of least entropy first, stage after stage; depth (B, *shape)."""
    D = prod(depth.shape[1:])
    if not depth.any():
        return Confident(tuple(s * D + t for s, own in enumerate(share((D,) * stages)) for t in own), D, stages)
    rows = []
    for hidden in hidden_counts(_distinct(depth), stages):
        edges = [[*starts, n] for starts, n in zip(share(hidden), hidden, strict=True)]
        rows.append(tuple((s, b - a) for s, own in enumerate(edges) for a, b in pairwise(own)))
    return Confident((), D, stages, tuple(rows))


def ordered(config: OrderConfig, depth: Tensor, stages: int, calls: int) -> Plan:
    """The hidden part of an order of images or sequences, in steps as even as possible; depth (B, *shape)."""
    shape, rows = tuple(depth.shape[1:]), _distinct(depth)
    rank, turn = _keys(config, shape)
    apart = config.order == "raster" and len(shape) == 1
    share = shares(None, prod(shape), calls)
    when = np.full((len(rows), stages, prod(shape)), GIVEN, dtype=np.int64)
    for i, flat in enumerate(rows.flatten(1).cpu().numpy()):
        own = share(tuple(int((flat <= s).sum()) for s in range(stages)))
        first = 0
        for s, starts in enumerate(own):
            index = np.flatnonzero(flat <= s)
            when[i, s, index] = first + _steps(rank[index], turn[index], len(starts), apart) if len(index) else GIVEN
            first += len(starts)
    return Plan(torch.from_numpy(when).view(len(rows), stages, *shape).to(depth.device))


def _keys(config: OrderConfig, shape: tuple[int, ...]) -> tuple[Ints, Ints]:
    """(D,): the rank of the pixel of each site; (D,): by how many steps its channel follows the first."""
    if len(shape) == 1:
        if config.order not in LINES:
            raise ArdmError(f"sequences have the orders {', '.join(LINES)}; got {config.order!r}")
        return LINES[config.order](shape[0]), np.zeros(shape[0], dtype=np.int64)
    C, H, W = shape
    side = max(H, W)
    pixels = RANKS[config.order](side, side)[:H, :W]
    turn = (np.arange(C) - config.lead) % C * config.delay
    return np.tile(pixels.ravel(), C), np.repeat(turn, H * W)


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
