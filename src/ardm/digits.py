"""State: values as digit strings, known to some depth (x_t).

A value x in 0..K−1 is written with S digits of base b, the most significant first.  Knowing its first d digits means
knowing x^(d) = floor(x / b^(S−d)) · b^(S−d): the destructive maps P^(s) of the paper (section 3.2) are "forget the last
digit", and need no matrices.  With b = K there is one digit and the model is the plain order-agnostic ARDM (section 2);
with b < K it is the depth-upscaling ARDM.

A distribution θ over the K values gives the next digit by summing over blocks (the *data parametrisation*):

    p(digit = j | first d digits) = Σ_{x in child block j} θ_x / Σ_{x in current block} θ_x

which `children` computes as a log-sum-exp over blocks.  `Maps` follows the same protocol for maps that are not digits.

A state is `(value, depth)`: unknown digits of `value` are zero, and `depth`, the number of known digits, stands for the
mask, the stage, the absorbing state and the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.inputs import counted, depths, integers


def anywhere(device: torch.device | str | None) -> torch.device:
    """The device; if None, the default device of PyTorch, or the CPU where that is meta, which holds no values."""
    found = torch.get_default_device() if device is None else torch.device(device)
    return torch.device("cpu") if device is None and found.type == "meta" else found


@dataclass(frozen=True)
class Partial:
    """A batch of partly known data, the paper's x_t.

    value: (B, *shape) int64, what the known digits say.  depth: (B, *shape) int64, how many digits are known.  For a mask
    of known sites use `Digits.truncate`.  most: an upper bound on the known sites of an item, where the host has one: a
    network that needs it does not wait for a GPU.  Raises ArdmError where the shapes differ, and for a mask as depth.
    """

    value: Tensor
    depth: Tensor
    most: int | None = None

    def __post_init__(self) -> None:
        if getattr(self.depth, "dtype", None) in (torch.bool, np.dtype(bool)):
            raise ArdmError(
                "depth counts known digits; got a mask of bool: write mask.long() * len(digits), or digits.truncate(x, mask)"
            )
        for name in ("value", "depth"):
            if getattr(self, name).__class__ is not Tensor or getattr(self, name).dtype != torch.long:
                object.__setattr__(self, name, integers(getattr(self, name), name))
        if self.value.shape != self.depth.shape:
            raise ArdmError(
                f"value and depth must have the same shape; got {tuple(self.value.shape)} and {tuple(self.depth.shape)}"
            )

    @property
    def batch(self) -> int:
        """The number of items B."""
        return self.value.shape[0]

    @property
    def shape(self) -> torch.Size:
        """The shape of one item."""
        return self.value.shape[1:]

    def to(self, device: torch.device | str) -> Partial:
        """The same state on another device."""
        return Partial(self.value.to(device), self.depth.to(device))


@dataclass(frozen=True)
class Sites:
    """The N sites that a step asks about, as flat indices, so that counting them does not wait for a GPU.

    index: (N,) int64, into a flattened (B, *shape) tensor, in the order in which symbols are coded.
    sites: D, the number of sites of one item.
    """

    index: Tensor
    sites: int

    @staticmethod
    def where(mask: Tensor) -> Sites:
        """The sites where mask (B, *shape) is true, item by item.  Waits for a GPU."""
        return Sites(mask.flatten().nonzero()[:, 0], mask.shape[1:].numel())

    @property
    def batch_index(self) -> Tensor:
        """(N,): the item of each site."""
        return self.index // self.sites

    @property
    def position(self) -> Tensor:
        """(N,): the flat position of each site within its item."""
        return self.index % self.sites

    def __len__(self) -> int:
        return self.index.shape[0]

    def of(self, x: Tensor) -> Tensor:
        """(N,): the entries of x (B, *shape) at the sites."""
        return x.reshape(-1)[self.index]


class Alphabet(Protocol):
    """A refinement of values; `Digits` and `Maps` are two."""

    @property
    def classes(self) -> int:
        """The number K of values."""

    @property
    def base(self) -> int:
        """The largest number of children b of any value at any depth."""

    def __len__(self) -> int: ...

    def blank(self, batch: int, shape: Sequence[int], device: torch.device | str | None = None) -> Partial:
        """The state in which nothing is known."""

    def truncate(self, x: Tensor, depth: Tensor) -> Partial:
        """The state in which the first `depth` digits of x are known: the destructive process q(x_t | x)."""

    def read(self, x: Tensor, depth: Tensor, sites: Sites) -> Tensor:
        """(N,): the digit of x (B, *shape) that follows its first `depth` digits."""

    def write(self, state: Partial, sites: Sites, digit: Tensor) -> Partial:
        """The state with one more digit, digit (N,), at `sites`; the inverse of read."""

    def children(self, logits: Tensor, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b): log-weights of the next digits from log-weights of values (N, K); −inf for impossible digits."""

    def possible(self, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b) bool: the next digits that lead to some value."""


def _cut(x: Tensor, depth: Tensor, digits: Alphabet) -> tuple[Tensor, Tensor]:
    """Values, and how many of their digits to keep, from a depth or a mask.  The range is checked on a CPU only."""
    x, depth = integers(x), counted(depth)
    return x, depths(depth, x, digits, "depth", lazy=True)


def powers(base: int, exponent: Tensor) -> Tensor:
    """base^exponent for whole exponents of at least 0, computed where they lie: a table would be copied there each time."""
    return torch.pow(base, exponent)


def block_logsumexp(logits: Tensor, slot: Tensor, blocks: int) -> Tensor:
    """log Σ exp over the entries of each block: logits (N, K), slot (N, K) in 0..blocks → (N, blocks).

    Slot `blocks` means "in no block".  An empty block gives −inf.  Each block is shifted by its own maximum, so that a
    block of tiny weight beside a heavy one keeps its precision (the released code adds 1e-10 instead).  NaN stays NaN.
    """
    rows = len(logits)
    top = logits.new_full((rows, blocks + 1), -torch.inf).scatter_reduce(1, slot, logits.detach(), "amax")
    shift = torch.where(top.isfinite(), top, 0.0)
    mass = torch.zeros_like(top).scatter_add(1, slot, (logits - shift.gather(1, slot)).exp())
    return torch.where(mass == 0, 1.0, mass).log().add(shift).masked_fill(mass == 0, -torch.inf)[:, :blocks]


@dataclass(frozen=True)
class Digits:
    """Values 0..classes−1 written with `len(self)` digits of base `base`, most significant first (section 3.2).

    Raises ArdmError unless 2 <= base <= classes.
    """

    classes: int
    base: int

    def __post_init__(self) -> None:
        if not 2 <= self.base <= self.classes:
            raise ArdmError(f"base must lie in 2..{self.classes}, the number of classes; got {self.base}")

    @cached_property
    def _length(self) -> int:
        depth, reach = 0, 1
        while reach < self.classes:  # in integers: a logarithm in floats gives one digit too many for (125, 5)
            depth, reach = depth + 1, reach * self.base
        return depth

    def __len__(self) -> int:
        """The number S of digits, the paper's number of stages."""
        return self._length

    def place(self, depth: Tensor) -> Tensor:
        """The weight b^(S−1−depth) of the digit after the first `depth` digits; 1 at a complete site."""
        if len(self) == 1:
            return torch.ones_like(depth)
        return powers(self.base, (len(self) - 1 - depth).clamp(min=0))

    def blank(self, batch: int, shape: Sequence[int], device: torch.device | str | None = None) -> Partial:
        """The state in which nothing is known: value and depth 0, (batch, *shape); device: see `anywhere`."""
        zeros = torch.zeros(batch, *shape, dtype=torch.long, device=anywhere(device))
        return Partial(zeros, zeros.clone())  # two tensors, in case one is written into

    def truncate(self, x: Tensor, depth: Tensor) -> Partial:
        """The state in which the first `depth` digits of x are known, both (B, *shape); a mask keeps all digits or none."""
        x, depth = _cut(x, depth, self)
        return Partial(x * depth if len(self) == 1 else x - x % powers(self.base, len(self) - depth), depth)

    def read(self, x: Tensor, depth: Tensor, sites: Sites) -> Tensor:
        """(N,): the digit of x (B, *shape) that follows its first `depth` (B, *shape) digits."""
        x, depth = integers(x), integers(depth, "depth")
        return sites.of(x) // self.place(sites.of(depth)) % self.base

    def write(self, state: Partial, sites: Sites, digit: Tensor) -> Partial:
        """The state with one more digit, digit (N,), at `sites`; the inverse of read."""
        value, depth = state.value.flatten(), state.depth.flatten()
        step = digit * self.place(depth[sites.index])
        value = value.index_add(0, sites.index, step)
        depth = depth.index_add(0, sites.index, torch.ones_like(step))
        return Partial(value.view_as(state.value), depth.view_as(state.depth))

    def children(self, logits: Tensor, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b): log-weights of the next digits from log-weights of values (N, K), by block log-sum-exp."""
        if self.base == self.classes:
            return logits
        slot = (torch.arange(self.classes, device=logits.device) - value[:, None]).div(
            self.place(depth)[:, None], rounding_mode="floor"
        )
        return block_logsumexp(logits, torch.where((slot < 0) | (slot >= self.base), self.base, slot), self.base)

    def possible(self, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b) bool: the next digits that lead to a value below `classes`."""
        return value[:, None] + torch.arange(self.base, device=value.device) * self.place(depth)[:, None] < self.classes


@dataclass(frozen=True)
class Maps:
    """Values refined along user-defined deterministic maps, the paper's P^(1) .. P^(S) (section 3.2).

    `maps[s][w]` is the state at depth s that follows from forgetting one digit of state w at depth s + 1: `maps[-1]`
    applies to data, and `maps[0]` must send everything to one absorbing state.  States need not be data: with K classes, a
    map to K, K+1, … adds absorbing or intermediate classes.  `Maps(K, [[a] * K])` is the order-agnostic ARDM with
    absorbing value a; a = K is an extra class.

    Digit j of a state means its j-th smallest child.  Raises ArdmError where a map is too short or negative, or where the
    first does not absorb.
    """

    classes: int
    maps: tuple[tuple[int, ...], ...]

    def __init__(self, classes: int, maps: Sequence[Sequence[int]]) -> None:
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "maps", tuple(tuple(int(v) for v in m) for m in maps))
        known = list(range(classes))
        for s in reversed(range(len(self.maps))):
            for w in set(known):
                if w >= len(self.maps[s]) or self.maps[s][w] < 0:
                    raise ArdmError(f"maps[{s}] has no valid entry for value {w}; give a value >= 0 for each input")
            known = [self.maps[s][w] for w in known]
        if not self.maps or len(set(known)) != 1:
            raise ArdmError(f"the maps must send every value to one absorbing state; they end in {sorted(set(known))}")

    @cached_property
    def states(self) -> int:
        """The number of states, data and absorbing classes together."""
        return 1 + max(self.classes - 1, *(max(m) for m in self.maps))

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """known (S+1, K): each value at depth d; digit (S, K): its next digit; child (S, states, b): the children."""
        S = len(self.maps)
        known = [list(range(self.classes))]
        for m in reversed(self.maps):
            known.insert(0, [m[w] for w in known[0]])
        families: list[dict[int, list[int]]] = [{} for _ in range(S)]
        for d in range(S):
            for w in sorted(set(known[d + 1])):
                families[d].setdefault(self.maps[d][w], []).append(w)
        base = max(len(c) for family in families for c in family.values())
        child = torch.full((S, self.states, base), -1, dtype=torch.long, device="cpu")
        for d, family in enumerate(families):
            for parent, members in family.items():
                child[d, parent, : len(members)] = torch.tensor(members, device="cpu")
        digit = [[families[d][known[d][x]].index(known[d + 1][x]) for x in range(self.classes)] for d in range(S)]
        return torch.tensor(known, device="cpu"), torch.tensor(digit, device="cpu"), child

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The tables on a device, copied there once."""
        if device not in self._copies:
            known, digit, child = self._tables
            self._copies[device] = known.to(device), digit.to(device), child.to(device)
        return self._copies[device]

    @property
    def base(self) -> int:
        """The largest number of children of any state."""
        return self._tables[2].shape[-1]

    def __len__(self) -> int:
        return len(self.maps)

    def blank(self, batch: int, shape: Sequence[int], device: torch.device | str | None = None) -> Partial:
        """The state in which every site is absorbed; device: see `anywhere`."""
        zeros = torch.zeros(batch, *shape, dtype=torch.long, device=anywhere(device))
        return Partial(zeros + int(self._tables[0][0, 0]), zeros)

    def truncate(self, x: Tensor, depth: Tensor) -> Partial:
        """The state after applying to x all but the first `depth` maps."""
        x, depth = _cut(x, depth, self)
        return Partial(self._on(x.device)[0][depth, x], depth)

    def read(self, x: Tensor, depth: Tensor, sites: Sites) -> Tensor:
        """(N,): which child of the state at `depth` leads to x."""
        x, depth = integers(x), integers(depth, "depth")
        return self._on(x.device)[1][sites.of(depth).clamp(max=len(self) - 1), sites.of(x)]

    def write(self, state: Partial, sites: Sites, digit: Tensor) -> Partial:
        """The state in which each of `sites` has moved to its child number `digit`."""
        value, depth = state.value.flatten(), state.depth.flatten()
        child = self._on(value.device)[2][depth[sites.index], value[sites.index], digit]
        value = value.index_put((sites.index,), child)
        depth = depth.index_add(0, sites.index, torch.ones_like(child))
        return Partial(value.view_as(state.value), depth.view_as(state.depth))

    def children(self, logits: Tensor, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b): log-weights of the children from log-weights of values (N, K): the paper's θ^(s), without matrices."""
        known, digit, _ = self._on(logits.device)
        slot = torch.where(known[depth] == value[:, None], digit[depth.clamp(max=len(self) - 1)], self.base)
        return block_logsumexp(logits, slot, self.base)

    def possible(self, value: Tensor, depth: Tensor) -> Tensor:
        """(N, b) bool: which children exist."""
        return self._on(value.device)[2][depth.clamp(max=len(self) - 1), value] >= 0
