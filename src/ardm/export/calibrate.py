"""Calibration: the largest values inside a network while it runs on examples, from which scales follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ardm.ans import Ints
from ardm.digits import Partial, Sites
from ardm.exact.order import Order
from ardm.export.parts import digits_of
from ardm.export.quantise import Floats, floats
from ardm.model import Model

Hook = TypeVar("Hook", bound=Callable[[nn.Module, tuple[Any, ...], Any], None])
STATES = 16
"""States for networks that see a whole item at once."""
EACH = 4
"""Items of each state."""
PLACES = 64
"""Places of a batch of maps at which moments are taken."""


class Scales(NamedTuple):
    """The scales of a linear layer: of its inputs (I,) and of its outputs (O,)."""

    given: Floats
    made: Floats


@dataclass(frozen=True)
class Examples:
    """What an exporter calibrates with.

    items: (N, C, H, W) integers, like those that will be coded.
    orders: by number of network calls, the steps of a cell (S, C, h, w); none: any order.
    scales: of linear layers by name, where fine-tuning has fixed them.
    """

    items: Tensor
    orders: Mapping[int, Ints] = field(default_factory=dict)
    scales: Mapping[str, Scales] = field(default_factory=dict)


class Ranges:
    """The largest absolute values of the inputs and outputs of modules."""

    def __init__(self) -> None:
        self._given: dict[nn.Module, Floats] = {}
        self._made: dict[nn.Module, Floats] = {}

    def __call__(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        """Record one evaluation of a module: a forward hook."""
        if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
            _grow(self._given, module, _largest(given[0], _planes(module, given[0].ndim)))
        if isinstance(made, Tensor):
            rows = isinstance(module, (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding))
            _grow(self._made, module, _largest(made, made.ndim - 1 if rows or made.ndim < 2 else 1))

    def columns(self, layer: nn.Module) -> Floats:
        """(I,): the largest number in each column of a linear layer's input, or in each plane of a convolution's."""
        return self._given[layer]

    def given(self, module: nn.Module) -> float:
        """The largest number in a module's input."""
        return float(self._given[module].max())

    def made(self, module: nn.Module) -> float:
        """The largest number in a module's output."""
        return float(self._made[module].max())

    def planes(self, module: nn.Module) -> Floats:
        """(P,): in each plane (of a convolution, a norm) or column (of a linear layer) of a module's output."""
        return self._made[module]


def _planes(module: nn.Module, axes: int) -> int | None:
    """The axis of the planes or columns that a module with weights reads; None for others."""
    if not isinstance(getattr(module, "weight", None), Tensor):
        return None
    return axes - 1 if isinstance(module, nn.Linear) or axes == 2 else 1 if axes == 4 else None


class Moments:
    """Second moments of what the kernels of convolutions read, at some places of every map."""

    def __init__(self) -> None:
        self._sums: dict[nn.Module, Tensor] = {}
        self._seen = 0

    def __call__(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        """Record one evaluation of a convolution that keeps the size of maps: a forward hook."""
        weight = module.weight
        assert isinstance(weight, Tensor)
        self._seen += PLACES + 1  # other places each time
        x, (tall, wide) = given[0].detach(), weight.shape[2:]
        B, _, H, W = x.shape
        place = (torch.arange(PLACES, device=x.device) * (B * H * W) // PLACES + self._seen) % (B * H * W)
        b, y, column = place // (H * W), place // W % H, place % W
        padded = nn.functional.pad(x, (wide // 2, wide // 2, tall // 2, tall // 2))
        read = torch.stack([padded[b, :, y + i, column + j] for i in range(tall) for j in range(wide)], 2).flatten(1)
        self._sums[module] = self._sums.get(module, 0) + read.T @ read

    def __getitem__(self, module: nn.Module) -> Floats:
        """(I, I): the moments of a convolution, cells of the kernel plane after plane."""
        return floats(self._sums[module])


def _largest(x: Tensor, dim: int | None) -> Floats:
    """The largest absolute values along a dimension, or of all (1,)."""
    size = x.detach().abs()
    found = size.amax().view(1) if dim is None else size.movedim(dim, 0).flatten(1).amax(1) if x.ndim > 1 else size
    return floats(found)


def _grow(ranges: dict[nn.Module, Floats], module: nn.Module, found: Floats) -> None:
    ranges[module] = np.maximum(ranges[module], found) if module in ranges else found


@contextmanager
def watched(model: nn.Module) -> Iterator[Ranges]:
    """Record the ranges of every module of a network within the block."""
    with _hooked(model.modules(), Ranges()) as ranges:
        yield ranges


@contextmanager
def moments_of(layers: Iterable[nn.Module]) -> Iterator[Moments]:
    """Record the second moments of some convolutions within the block."""
    with _hooked(layers, Moments()) as moments:
        yield moments


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Hook) -> Iterator[Hook]:
    hooks = [module.register_forward_hook(hook) for module in modules]
    try:
        yield hook
    finally:
        for one in hooks:
            one.remove()


def over_states(model: Model, examples: Examples) -> Ranges:
    """Ranges over some states, for networks that see a whole item at once."""
    with torch.no_grad(), watched(model) as ranges:
        for state in states(model, examples.items, list(examples.orders.values())):
            open_ = state.depth < len(model.digits)
            if open_.any():
                sites = Sites.where(open_)
                any_digit = torch.zeros(len(sites), dtype=torch.long, device="cpu")
                model(state).log_prob(sites, any_digit)
    return ranges


def states(model: Model, items: Tensor, orders: Sequence[Ints]) -> list[Partial]:
    """States from nothing known to nearly everything, along the orders or else at random; some items each."""
    S, (H, W) = len(digits_of(model)), items.shape[2:]
    random, out = torch.Generator().manual_seed(0), []
    for n in range(STATES):
        few, share = some_items(items, EACH * n), n / STATES
        if orders:
            order = Order.repeat(orders[n % len(orders)], model.digits.base, H, W)
            out.append(state_of(model, order, math.ceil(share * len(order)), few))
        else:
            known = torch.rand(few.shape, generator=random, dtype=torch.double, device="cpu") < share * S % 1
            out.append(model.digits.truncate(few, int(share * S) + known.long()))
    return out


def some_items(items: Tensor, first: int) -> Tensor:
    """EACH consecutive items, starting again at the first after the last."""
    return items[(torch.arange(EACH, device="cpu") + first) % len(items)].long()


def state_of(model: Model, order: Order, step: int, items: Tensor) -> Partial:
    """The state of items before a step."""
    depth = torch.from_numpy(order.depth(step)).expand(len(items), -1, -1, -1)
    return model.digits.truncate(items, depth)
