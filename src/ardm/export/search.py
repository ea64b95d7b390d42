"""The best of several orders for a planned schedule: what a model of any order codes along (section 4 of the paper).

    search(bundle, x, calls, orders)  → every candidate with its price, and what the best one gains

The price of an order is exact: the code length of items along it, in the steps of the schedule that the losses plan.  One
half of the items chooses.  The other half, which chose nothing, says what the choice gains over random orders: the least
of many prices is low by luck too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ardm import likelihood
from ardm.ans import Ints
from ardm.bundle import Bundle
from ardm.errors import ArdmError
from ardm.export.coding import fastest_first, random_ranks, starts_of
from ardm.likelihood import Estimate
from ardm.orders import item_ranks, names
from ardm.plan import ranked

TOGETHER = 8
"""Items that are priced at once."""
KNOWN = 32
"""Random orders of seed 0 that are recognised."""

Orders: TypeAlias = dict[str, Ints]
"""Ranks (*shape) of candidates by name."""
Track: TypeAlias = Callable[[str, Iterable[str], int], Iterable[str]]
"""Yields names, and shows what is done with them and how many there are."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    prices: of every candidate, on the items that chose.  random: the mean of the random orders, on the same items.
    best: the name of the cheapest.  ranks: its order (*shape).
    gain: the price of random orders less that of the best one, on the items that did not choose.
    """

    prices: dict[str, Estimate]
    random: Estimate
    best: str
    ranks: Ints
    gain: Estimate


def drawn(shape: Sequence[int], count: int, seed: int) -> Orders:
    """Random orders of items of this shape; the first of seed 0 is the usual one."""
    return {f"random {k}": ranks for k, ranks in enumerate(random_ranks(shape, count, seed), 1)}


def regular(shape: Sequence[int], lead: int) -> Orders:
    """The orders of `ardm.ranks`, for images of several channels twice.  lead: the first channel."""
    found = {name: item_ranks(name, shape, lead) for name in names(shape)}
    if len(shape) == 3 and shape[0] > 1:
        found |= {f"{name}, by channels": item_ranks(name, shape, lead, 1.0) for name in names(shape)}
    return found


def named(bundle: Bundle) -> Orders:
    """All other candidates: the recipes of `ardm.ranks`, learned rates, and the order that is stored."""
    found = regular(tuple(bundle.model.shape), bundle.order.lead)
    if bundle.model.rates is not None:
        found["rates"] = fastest_first(bundle.model.rates)
    if bundle.ranks is not None:
        found["stored"] = bundle.ranks
    return found


def name_of(ranks: Ints, rates: Tensor | None = None) -> str:
    """The name that a search of seed 0 has for an order (*shape); "" for another order."""
    shape, own = ranks.shape, {} if rates is None else {"rates": fastest_first(rates)}
    leads = range(shape[0] if len(shape) == 3 else 1)
    known = chain(own.items(), drawn(shape, KNOWN, 0).items(), *(regular(shape, lead).items() for lead in leads))
    return next((name for name, order in known if np.array_equal(order, ranks)), "")


def search(
    bundle: Bundle,
    x: Tensor,
    calls: int,
    orders: int,
    seed: int = 0,
    labels: Tensor | None = None,
    track: Track = lambda what, names, count: names,
) -> Found:
    """The cheapest of `orders` random orders and all others in `calls` network calls, by items x (n, *shape).

    Raises ArdmError for a model with one order, or without losses to plan with, for an impossible number of calls, and
    for fewer than four items.
    """
    if bundle.order.fixed or bundle.config.causal:
        raise ArdmError(f"{bundle.name} has an order of its own; only a model of any order has orders to choose from")
    if bundle.curve is None:
        raise ArdmError(f"{bundle.name} has no loss curve to plan with; likelihood.curve measures one")
    if len(x) < 4 or orders < 1:
        raise ArdmError(f"a search takes four items and one random order at least; got {len(x)} and {orders}")
    chance, starts = drawn(tuple(bundle.model.shape), orders, seed), starts_of(bundle, calls)
    every = {**named(bundle), **chance}

    def priced(what: str, names: Sequence[str], half: slice) -> dict[str, Estimate]:
        context = None if labels is None else labels[half]
        return {name: _price(bundle, every[name], starts, x[half], context) for name in track(what, names, len(names))}

    prices = priced("pricing orders", list(every), slice(0, None, 2))
    best = min(prices, key=lambda name: prices[name].bits_per_dim)
    again = priced("measuring the gain", list({best: 0, **chance}), slice(1, None, 2))
    random, other = (_mean([some[name] for name in chance]) for some in (prices, again))
    return Found(prices, random, best, every[best], other.less(again[best]))


def _mean(prices: Sequence[Estimate]) -> Estimate:
    """The mean of prices of the same items, item by item."""
    return replace(prices[0], nats=torch.stack([price.nats for price in prices]).mean(0))


def _price(bundle: Bundle, ranks: Ints, starts: Sequence[int], x: Tensor, labels: Tensor | None) -> Estimate:
    """The code lengths of items along an order, in the steps of a schedule."""
    stages, shape = len(bundle.model.digits), tuple(bundle.model.shape)
    plan = ranked(torch.from_numpy(ranks).flatten(), shape, stages).coarsen(starts)
    parts = [slice(k, k + TOGETHER) for k in range(0, len(x), TOGETHER)]
    return Estimate.joined(
        [
            likelihood.exact(bundle.model, plan, x[part], context=None if labels is None else labels[part])
            for part in parts
        ]
    )
