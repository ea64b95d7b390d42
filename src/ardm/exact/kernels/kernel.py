"""What a kernel is: how an operation runs in PyTorch, in the container that its certificate allows.

A *container* is the dtype that holds the integers of an operation: float32 holds every integer up to 2^24, float64 up to
2^53.  Below that, a sum is the same integer in any order: on any number of threads, in any batch, on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ardm.exact.ask import AskedSites, Memory
from ardm.exact.bounds import Bound, largest
from ardm.exact.program import Op, Program

CONTAINERS = {"int8": torch.float32, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
"""The dtype of each container; "int8" is float32 with products of bytes where those prove exact."""
EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53, torch.int64: 1 << 62}
"""Up to which absolute value a dtype holds every integer."""


@dataclass
class Context:
    """A program, its bounds, a container and a device: what kernels are built for.

    byte_products: how many matrix products are computed in bytes.
    """

    program: Program
    bounds: Mapping[str, Bound]
    container: str
    device: torch.device
    byte_products: int = 0

    def dtype(self, peak: int) -> torch.dtype:
        """The dtype of sums of at most `peak` in absolute value."""
        dtype = CONTAINERS[self.container]
        return torch.float64 if dtype == torch.float32 and peak > EXACT[dtype] else dtype

    def stored(self, name: str) -> torch.dtype:
        """The dtype that a value is kept in, which may be narrower than the one it was computed in."""
        return self.dtype(largest(self.bounds[name]))

    def tensor(self, op: Op, role: str, dtype: torch.dtype) -> Tensor:
        """A tensor of an operation on the device."""
        return torch.from_numpy(self.program.tensor(op, role)).to(self.device, dtype)


@dataclass(frozen=True)
class Step:
    """What the kernels of one ask share: the sites on the device, and what they keep.

    batch_index, channel, y, x: (N,) int64.
    only: the channel of all sites, if it is the same.
    shared: for all sites of this ask, by operation; an ask with many sites runs its rows in several steps.
    memory: for the whole walk.
    """

    batch_index: Tensor
    channel: Tensor
    y: Tensor
    x: Tensor
    memory: Memory
    only: int | None = None
    shared: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def at(sites: AskedSites, device: torch.device, memory: Memory) -> Step:
        """A step at some sites."""
        index = torch.from_numpy(np.stack(sites.index)).to(device)
        one = len(sites) > 0 and bool((sites.channel == sites.channel[0]).all())
        return Step(index[0], index[1], index[2], index[3], memory, int(sites.channel[0]) if one else None)

    def split(self, size: int) -> list[Step]:
        """Steps of at most `size` sites each, with the same memory; one if there are no sites."""
        index = (x.split(size) for x in (self.batch_index, self.channel, self.y, self.x))
        return [Step(b, c, y, x, self.memory, self.only, self.shared) for b, c, y, x in zip(*index, strict=True)]

    def once(self, op: Op, key: Any, make: Callable[[], Any]) -> Any:
        """make(), computed once a walk for each key: for what depends on the shape of the maps alone."""
        kept = self.memory.of(op.out)
        if key not in kept:
            kept[key] = make()
        return kept[key]


Run: TypeAlias = Callable[[Step, list[Tensor]], Tensor]
"""The step and the inputs of an operation → its result."""
Build: TypeAlias = Callable[[Context, Op, torch.dtype], Run]
"""An operation made ready to run; the dtype is the container of its certificate."""


@dataclass(frozen=True)
class Kernel:
    """An operation in PyTorch.

    as_stored: its inputs come as they are stored; otherwise in the container of its certificate.
    row_by_row: a row of its result depends on that row of its inputs and the site's channel, and on nothing else, so that
    rows of different asks can be computed side by side.
    """

    build: Build
    as_stored: bool = False
    row_by_row: bool = False


# --- arithmetic -------------------------------------------------------------------------------------------------------


def halve(x: Tensor, by: int | Tensor) -> Tensor:
    """⌊x / 2^by⌋, in place; exact in every container, because scaling by a power of two is."""
    if x.dtype == torch.int64:
        return x.bitwise_right_shift_(by)
    return x.mul_(2.0**-by).floor_()


def clamp(op: Op, x: Tensor) -> Tensor:
    """x within lo..hi, where the operation has them, in place."""
    return x.clamp_(op.integers["lo"], op.integers["hi"]) if "lo" in op.integers else x


def quotient(x: Tensor, by: Tensor) -> Tensor:
    """⌊x / by⌋ of integers, x below 2^53 in float64 and by positive.

    The floor of a float64 quotient is exact: the true quotient is an integer, or at least 1 / by away from one.
    """
    return x.div(by, rounding_mode="floor") if x.dtype == torch.int64 else x.div(by).floor_()


def scaled(x: Tensor, bits: int) -> Tensor:
    """2^bits · x, a new tensor."""
    return x << bits if x.dtype == torch.int64 else x * 2.0**bits


def wide(x: Tensor) -> Tensor:
    """x in int64, or else in float64."""
    return x if x.dtype == torch.int64 else x.double()


def isqrt(x: Tensor) -> Tensor:
    """⌊√x⌋ of int64, 0 ≤ x < 2^62."""
    root = x.double().sqrt_().long()
    root -= (root * root > x).long()
    return root.add_(((root + 1) ** 2 <= x).long())


ROOM = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Numbers that patches or scores may take at once, by kind of device."""


def room(x: Tensor) -> int:
    """ROOM on the device of x."""
    return ROOM.get(x.device.type, ROOM["cpu"])
