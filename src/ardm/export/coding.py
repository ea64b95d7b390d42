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
from ardm.export.quantise import Floats
from ardm.model import ScoresAll
from ardm.orders import OrderConfig, image_plan
from ardm.plan import Plan


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
    coder = ModelCoder(codec, calls or codec.default, machine(codec), 0)
    D = items[0].numel()
    floats = [nats / math.log(2) / D for nats in _nats(bundle, codec.order(coder.calls, *items.shape[2:]), items)]
    letters = np.frombuffer(codec.alphabet, np.uint8) if codec.alphabet else np.arange(codec.program.classes)
    jobs = ([letters[x.numpy()]] for x in items)
    integers = [sum(part.bits for part in job) / D for job in coder.encode(jobs)]
    apart = np.subtract(integers, floats)
    return Cost(float(np.mean(integers)), float(np.mean(floats)), _standard_error(apart), _standard_error(integers))


def _nats(bundle: Bundle, order: Order, items: Tensor) -> Iterator[float]:
    """The code length of each item by the model in floats."""
    plan, model = Plan(torch.from_numpy(order.when).long()[None]), bundle.model
    for x in items:
        one = x.long()[None]
        found = likelihood.causal(model, one) if isinstance(model, ScoresAll) else likelihood.exact(model, plan, one)
        yield found.nats.item()


def _standard_error(values: Sequence[float] | Floats) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Coding:
    """How a model codes items.

    cells: by number of network calls, the steps of a cell; none for a model that codes along wavefronts.
    default: the number of calls if none is given.  lead: the channel that codes a plane on its own.
    """

    cells: Mapping[int, Ints]
    default: int = 0
    lead: int = 0


def coding(bundle: Bundle) -> Coding:
    """How a model codes."""
    if bundle.config.causal == "wave":
        return Coding({})
    order = coding_order(bundle)
    channels = bundle.config.shape[0] if len(bundle.config.shape) == 3 else 1
    return Coding(coding_cells(bundle, order), order.calls[0], order.lead % channels)


def coding_order(bundle: Bundle) -> OrderConfig:
    """The order that a model codes along: its own, or for a model of any order Bayer's over its items.

    Rows and texts go from left to right, in `coding_cells` those of a model with rates by these.
    """
    if bundle.order.fixed:
        return bundle.order
    if len(bundle.config.shape) == 1:
        sites = bundle.config.sites if bundle.config.trunk == "mlp" else 256
        return OrderConfig("raster", tuple(dict.fromkeys(-(-sites // n) for n in (1, 2, 4, 8))))
    C, *size = bundle.config.shape
    cell = 1 << max(1, (max(size) - 1).bit_length())
    stages, fewest = len(bundle.config.digits), bundle.order.delay * (C - 1) + 1
    calls = [stages * min(max(n, fewest), fewest - 1 + cell * cell) for n in (50, 100, 25, 12, 6)]
    return OrderConfig("bayer", tuple(dict.fromkeys(calls)), cell=cell)


def coding_cells(bundle: Bundle, order: OrderConfig) -> dict[int, Ints]:
    """By number of network calls, the steps of a cell: (S, C, cell, cell), or (S, 1, 1, cell) for sequences."""
    return {calls: _cell(bundle, order, calls) for calls in order.calls}


def _cell(bundle: Bundle, order: OrderConfig, calls: int) -> Ints:
    stages, rates = len(bundle.config.digits), bundle.model.rates
    if len(bundle.config.shape) == 1 and rates is not None:
        return _by_rates(rates, stages, calls)
    if len(bundle.config.shape) == 1:
        cell = calls if order.order == "raster" else order.cell
        line: Ints = image_plan(order, (cell,), calls, stages).when[0].numpy()
        return line[:, None, None]
    C = bundle.config.shape[0]
    found: Ints = image_plan(order, (C, order.cell, order.cell), calls, stages).when[0].numpy()
    return found


def _by_rates(rates: Tensor, stages: int, calls: int) -> Ints:
    """(S, 1, 1, D): a whole row in `calls` steps as even as possible, the fastest sites first: the most likely order."""
    D, steps = len(rates), calls // stages
    rank = (-rates).argsort(stable=True).argsort().cpu()
    when: Ints = (rank * steps // D + steps * torch.arange(stages, device="cpu")[:, None]).numpy()
    return when[:, None, None]


def as_images(items: Tensor) -> Tensor:
    """Items (N, C, H, W); a sequence (N, D) is an item of one row."""
    return items[:, None, None] if items.ndim == 2 else items
