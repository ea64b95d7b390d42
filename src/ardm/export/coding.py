"""The orders that a model codes along, and the cost of coding in integers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ardm import likelihood
from ardm.ans import Ints
from ardm.bundle import Bundle
from ardm.codec.model_coder import ModelCoder
from ardm.codec.registry import machine
from ardm.exact.model import CodecModel
from ardm.exact.order import Order
from ardm.exact.planned import Planned, Starts
from ardm.export.quantise import Floats
from ardm.model import ScoresAll
from ardm.orders import OrderConfig, image_plan
from ardm.plan import Plan, shuffled

USUAL = (50, 20, 100, 500)
"""Network calls of images whose schedules a model of any order holds, the default first; files may have others."""
PIECES = OrderConfig("raster", (256, 128, 64, 32))
"""Texts and sounds of any order: pieces of so many sites, all at once, from left to right."""


@dataclass(frozen=True)
class Cost:
    """Bits per dimension of both models, on the same items along the same order.

    error: standard error of the difference, between items.  exact_error: standard error of `exact`.
    """

    exact: float
    model: float
    error: float
    exact_error: float

    @property
    def bits_per_dim(self) -> float:
        """The difference."""
        return self.exact - self.model


def cost(bundle: Bundle, codec: CodecModel, items: Tensor, calls: int | None = None) -> Cost:
    """The code length of items (N, C, H, W) by the codec model and by the model that it was made from."""
    coder = ModelCoder(codec, codec.steps(calls or codec.default), machine(codec), 0)
    D = items[0].numel()
    floats = [nats / math.log(2) / D for nats in _nats(bundle, codec.order(coder.steps, *items.shape[2:]), items)]
    letters = np.frombuffer(codec.alphabet, np.uint8) if codec.alphabet else np.arange(codec.program.classes)
    jobs = ([letters[x.numpy()]] for x in items)
    integers = [sum(part.bits for part in job) / D for job in coder.encode(jobs)]
    apart = np.subtract(integers, floats)
    return Cost(float(np.mean(integers)), float(np.mean(floats)), standard_error(apart), standard_error(integers))


def _nats(bundle: Bundle, order: Order, items: Tensor) -> Iterator[float]:
    """The code length of each item by the model in floats."""
    plan, model = Plan(torch.from_numpy(order.when).long()[None]), bundle.model
    for x in items:
        one = x.long()[None]
        found = likelihood.causal(model, one) if isinstance(model, ScoresAll) else likelihood.exact(model, plan, one)
        yield found.nats.item()


def standard_error(values: Sequence[float] | Floats) -> float:
    """Of the mean of independent values; NaN for a single one."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Coding:
    """How a model codes items.

    cells: by number of network calls, the steps of a cell; none for a model that codes along wavefronts.
    default: the number of calls if none is given.  lead: the channel that codes a plane on its own.
    planned: the order of the cells, and their schedules, of a model of any order.
    """

    cells: Mapping[int, Ints]
    default: int = 0
    lead: int = 0
    planned: Planned | None = None


def coding(bundle: Bundle) -> Coding:
    """How a model codes.

    Along the order that it was trained on, texts and sounds of any order from left to right, unless an order is stored
    (`Bundle.ranks`).  Every other model of any order along one order, by the schedules that its losses plan.
    """
    if bundle.config.causal == "wave":
        return Coding({})
    lead = bundle.order.lead % (bundle.config.shape[0] if len(bundle.config.shape) == 3 else 1)
    if not bundle.order.fixed and (bundle.ranks is not None or bundle.content in ("image", "table")):
        planned = _planned(bundle, _budgets(bundle))
        cells = {calls: planned.when(starts) for calls, starts in planned.schedules.items()}
        return Coding(cells, next(iter(cells)), lead, planned)
    order = bundle.order if bundle.order.fixed else PIECES
    return Coding({calls: _cell(bundle, order, calls) for calls in order.calls}, order.calls[0], lead)


def _cell(bundle: Bundle, order: OrderConfig, calls: int) -> Ints:
    """The steps of a cell: (S, C, cell, cell), or (S, 1, 1, cell) for sequences."""
    line, cell = len(bundle.config.shape) == 1, calls if order.order == "raster" else order.cell
    shape = (cell,) if line else (bundle.config.shape[0], order.cell, order.cell)
    found: Ints = image_plan(order, shape, calls, len(bundle.config.digits)).when[0].numpy()
    return found[:, None, None] if line else found


def _planned(bundle: Bundle, budgets: Sequence[int]) -> Planned:
    """The order of a model of any order with the schedules of some budgets, the default first."""
    stages, curve = len(bundle.config.digits), None if bundle.curve is None else bundle.curve.monotone()
    ranks = usual_ranks(bundle) if bundle.ranks is None else bundle.ranks
    C, H, W = (1, 1, *ranks.shape)[-3:]
    return Planned.of(ranks.reshape(C, H, W).astype(np.int64), curve, stages, budgets)


def starts_of(bundle: Bundle, calls: int) -> Starts:
    """The schedule of a model of any order in `calls` network calls, by its losses.  Raises ArdmError for too few or many."""
    return _planned(bundle, ()).starts(calls)


def _budgets(bundle: Bundle) -> tuple[int, ...]:
    """USUAL for images, as far as there are digits for them; for others a call a digit, and half, a quarter, an eighth."""
    stages, sites = len(bundle.config.digits), bundle.config.sites
    wanted = USUAL if bundle.content == "image" else [stages * -(-sites // n) for n in (1, 2, 4, 8)]
    return tuple(dict.fromkeys(min(max(calls, stages), stages * sites) for calls in wanted))


def usual_ranks(bundle: Bundle) -> Ints:
    """The ranks of an item (*shape) where no order is stored: the most likely order by rates, else a random one.

    The planner prices random orders.  Regular ones cost more in few calls, which reveal neighbours together.
    """
    if bundle.model.rates is not None:
        return fastest_first(bundle.model.rates)
    return random_ranks(bundle.config.shape, 1)[0]


def random_ranks(shape: Sequence[int], count: int, seed: int = 0) -> Ints:
    """(count, *shape): random orders of items, the k-th a function of seed and k alone."""
    found: Ints = shuffled(1, shape, torch.Generator().manual_seed(seed), count).when[:, 0].numpy()
    return found


def fastest_first(rates: Tensor) -> Ints:
    """The ranks of the most likely order by rates (*shape)."""
    found: Ints = (-rates.flatten()).argsort(stable=True).argsort().view(rates.shape).cpu().numpy()
    return found


def as_images(items: Tensor) -> Tensor:
    """Items (N, C, H, W); a sequence (N, D) is an item of one row."""
    return items[:, None, None] if items.ndim == 2 else items
