"""When each digit of an item is revealed while it is coded: `plan.Plan` for codec models, in NumPy.

    when[s, c, y, x]    the step that reveals digit s of channel c at (y, x); NEVER: the digit is not coded

A codec model stores `when` for a small cell that repeats across an item.  Every question about an order is answered
here: the state before step k, what step k reveals, and how many steps there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites

NEVER = 2**31 - 1
"""The step of a digit that is not coded."""


@dataclass(frozen=True)
class Reveal:
    """One step: digit (n,) of site (n,) becomes known.  Sites are flat positions in an item (C, H, W), ascending."""

    step: int
    digit: Ints
    site: Ints

    def __len__(self) -> int:
        return len(self.site)


@dataclass(frozen=True, eq=False)
class Order:
    """The steps of an item (C, H, W) of S digits per site.

    when: (S, C, H, W).  base: of the digits.
    plane: if set, only this channel is coded and every channel holds the same values: a plane on its own.
    Raises ArdmError unless each digit of a site is revealed after the more significant ones.
    """

    when: Ints
    base: int
    plane: int | None = None

    def __post_init__(self) -> None:
        late, early = self.when[1:], self.when[:-1]
        if self.when.ndim != 4 or not ((late > early) | ((late == NEVER) & (early == NEVER))).all():
            raise ArdmError(f"an order is (S, C, H, W) steps that increase along S; got {self.when.shape}")
        if self.when.size and self.when.min() < 0:
            raise ArdmError(f"an order holds steps from 0, or NEVER; got {int(self.when.min())}")

    @staticmethod
    def repeat(cell: Ints, base: int, height: int, width: int) -> Order:
        """The order of items (C, height, width) from that of a cell (S, C, h, w)."""
        y, x = np.arange(height) % cell.shape[2], np.arange(width) % cell.shape[3]
        return Order(cell[:, :, y[:, None], x], base)

    @staticmethod
    def wave(shape: tuple[int, int, int], slope: int, base: int) -> Order:
        """The order of items (C, H, W) along wavefronts: the pixel (y, x) in C steps from C · (x + slope · y), channel by
        channel.  Values have one digit.
        """
        c, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
        return Order((shape[0] * (x + slope * y) + c)[None], base)

    def inside(self, height: int, width: int) -> Order:
        """The same steps, of which only the top left `height` × `width` of an item are coded."""
        if (height, width) == self.shape[1:]:
            return self
        when = np.full_like(self.when, NEVER)
        when[:, :, :height, :width] = self.when[:, :, :height, :width]
        return Order(when, self.base, self.plane)

    def alone(self, channel: int) -> Order:
        """The order of a plane on its own: coded as `channel`, and written to every channel."""
        return Order(np.broadcast_to(self.when[:, channel, None], self.when.shape), self.base, channel)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an item."""
        _, C, H, W = self.when.shape
        return C, H, W

    @cached_property
    def place(self) -> Ints:
        """(S,): what one unit of each digit is worth."""
        S = len(self.when)
        return np.array([self.base ** (S - 1 - s) for s in range(S)], dtype=np.int64)

    @cached_property
    def block(self) -> Ints:
        """(S + 1,): how many values agree in the first d digits, d = 0 … S."""
        return np.array([self.base ** (len(self.when) - d) for d in range(len(self.when) + 1)], dtype=np.int64)

    def __len__(self) -> int:
        """One more than the last step."""
        return self.until(len(self.when))

    def __iter__(self) -> Iterator[Reveal]:
        """The steps that reveal something."""
        return iter(self.reveals)

    @cached_property
    def reveals(self) -> tuple[Reveal, ...]:
        """The steps that reveal something, first to last."""
        C, H, W = self.shape
        first, count = (0, C) if self.plane is None else (self.plane * H * W, 1)
        when = self.when[:, :count].reshape(len(self.when), count * H * W)
        digit, site = np.nonzero(when != NEVER)
        step = when[digit, site]
        order = np.lexsort((site, step)) if len(when) > 1 else np.argsort(step, kind="stable")
        step, digit, site = step[order], digit[order], site[order] + first
        ends = np.flatnonzero(np.diff(step)) + 1
        steps = zip(np.split(step, ends), np.split(digit, ends), np.split(site, ends), strict=True)
        return tuple(Reveal(int(s[0]), d, where) for s, d, where in steps if len(s))

    def depth(self, k: int) -> Ints:
        """(C, H, W): how many digits of each site are known before step k."""
        return (self.when < k).sum(0)

    def before(self, k: int, items: Ints) -> tuple[Ints, Ints]:
        """The state of items (n, C, H, W) before step k: value, whose unknown digits are 0, and depth, both like items."""
        depth = self.depth(k)
        return self.truncate(items, depth), np.repeat(depth[None], len(items), axis=0)

    def truncate(self, value: Ints, depth: Ints) -> Ints:
        """Values with the digits beyond the first `depth` set to 0."""
        block = self.block[depth]
        kept = value // block
        kept *= block  # in place: large arrays are slow to allocate
        return kept

    def until(self, depth: int) -> int:
        """One more than the last step that reveals a digit of the first `depth`."""
        coded = self.when[:depth][self.when[:depth] != NEVER]
        return int(coded.max()) + 1 if coded.size else 0

    def centre(self, value: Ints, depth: Ints, classes: int) -> Ints:
        """The middle of the values below `classes` that a state allows: an unknown digit may have any value."""
        return value + np.minimum(self.block[depth], classes - value) // 2

    def digits(self, items: Ints, reveal: Reveal) -> Ints:
        """The symbols (n, len(reveal)) that a step reveals of items (n, C, H, W)."""
        return items.reshape(len(items), -1)[:, reveal.site] // self.place[reveal.digit] % self.base

    def write(self, reveal: Reveal, symbols: Ints, value: Ints, depth: Ints) -> None:
        """Add the symbols (n, len(reveal)) of a step to a state (n, C, H, W), in place."""
        C, H, W = self.shape
        flat, known = value.reshape(len(value), -1), depth.reshape(len(depth), -1)
        if not (np.shares_memory(flat, value) and np.shares_memory(known, depth)):
            raise ArdmError("a state is written in place and has to be contiguous")
        grown = symbols * self.place[reveal.digit]
        for c in range(C) if self.plane is not None else [0]:
            site = reveal.site if self.plane is None else reveal.site % (H * W) + c * H * W
            flat[:, site] += grown
            known[:, site] += 1

    def sites(self, reveal: Reveal, count: int) -> AskedSites:
        """Where a network is asked for a step of `count` items: item after item, positions ascending."""
        _, H, W = self.shape
        site = np.tile(reveal.site, count)
        return AskedSites(np.repeat(np.arange(count), len(reveal)), site // (H * W), site // W % H, site % W)
