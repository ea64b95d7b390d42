"""The contract of an integer network: a state, the sites asked and a memory in; integer frequencies out.

    memory = runner.memory(value.shape)                     once, at the start of a walk
    rows = runner(Ask(value, depth, sites, memory))         at every step

Read me first:

* A memory belongs to one walk of one batch.  From one ask to the next the shape and the items stay the same, and digits
  are only revealed: a known digit never changes.  So a runner may keep whatever depends on the shape alone, or on digits
  that were known when it was computed, and compute it once.  Only the runner reads what it keeps.
* Frequencies never depend on the memory.  Asking with one, with an empty one or with none gives the same integers; only
  the time differs.  An encoder that knows all digits asks about many steps at once, without a memory.
* The caller keeps one memory for each walk and does not share it between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ardm.ans import Decoder, Ints
from ardm.errors import ArdmError
from ardm.exact.bounds import Bound
from ardm.exact.frequencies import Rows


@dataclass(frozen=True)
class AskedSites:
    """N sites: the item of the batch, channel, row and column of each, (N,) int64; size: (H, W) of the items."""

    batch_index: Ints
    channel: Ints
    y: Ints
    x: Ints
    size: tuple[int, int] = (0, 0)

    def __getitem__(self, rows: slice | Ints) -> AskedSites:
        return AskedSites(self.batch_index[rows], self.channel[rows], self.y[rows], self.x[rows], self.size)

    @staticmethod
    def joined(parts: Sequence[AskedSites]) -> AskedSites:
        """The sites of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        batch_index, channel, y, x = (np.concatenate(axis) for axis in zip(*(p.index for p in parts), strict=True))
        return AskedSites(batch_index, channel, y, x, parts[0].size)

    def __len__(self) -> int:
        return len(self.batch_index)

    @property
    def index(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The sites as an index of arrays (B, C, H, W)."""
        return self.batch_index, self.channel, self.y, self.x


@dataclass(frozen=True, eq=False)
class Memory:
    """What a runner keeps from one step of a walk to the next; opaque to the caller.

    runner: the one that made it.  shape: (B, C, H, W) of the states.
    """

    runner: object
    shape: tuple[int, ...]
    _kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, operation: str) -> dict[str, Any]:
        """What the operation with this result has kept, to be read and changed."""
        return self._kept.setdefault(operation, {})


@dataclass(frozen=True, eq=False)
class Ask:
    """One question to an integer network.

    value, depth: (B, C, H, W) int64, the values with unknown digits 0, and the number of known digits.
    sites: where the frequencies of the next digit are wanted.  memory: of the walk; None: nothing is kept.
    """

    value: Ints
    depth: Ints
    sites: AskedSites
    memory: Memory | None = None

    @property
    def state(self) -> tuple[Ints, Ints]:
        """value and depth at the sites, (N,) each."""
        return self.value[self.sites.index], self.depth[self.sites.index]

    def remembered(self, runner: object) -> Memory:
        """The memory of the walk, or an empty one.  Raises ArdmError for that of another runner or shape."""
        if self.memory is None:
            return Memory(runner, self.value.shape)
        if self.memory.runner is not runner or self.memory.shape != self.value.shape:
            raise ArdmError(
                f"a memory serves the runner that made it and states of shape {self.memory.shape}; "
                f"got {self.value.shape}: make one at the start of each walk"
            )
        return self.memory


class Runner(Protocol):
    """An integer network, ready to run."""

    @property
    def bounds(self) -> Mapping[str, Bound]:
        """The certificate: the bound of every value of the program."""

    @property
    def causal(self) -> bool:
        """Whether the program is causal along wavefronts, so that the runner can sweep."""

    def memory(self, shape: tuple[int, ...]) -> Memory:
        """An empty memory for a walk over states of this shape."""

    def __call__(self, ask: Ask) -> Rows:
        """The frequencies at the sites asked."""

    def together(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answer to each of several asks, whose items may have different sizes."""

    def sweep(self, value: Ints, plane: int | None = None) -> Iterator[tuple[AskedSites, Rows]]:
        """The frequencies at all sites of items (B, C, H, W) whose digits are all known, some sites of one channel at a
        time: each of the state that knows everything before it.  plane: only at the sites of this channel, for a plane
        on its own, which every channel holds.  Raises ArdmError unless the program is causal.
        """


@runtime_checkable
class WholeWalks(Protocol):
    """A runner that also takes whole walks of a causal program, entropy coding included.

    plane: the only channel that is coded, every channel holding the same values.  pause: called now and then; what it
    raises ends the walk.
    """

    def encode(self, items: Ints, plane: int | None, pause: Callable[[], None]) -> list[tuple[Ints, Ints]]:
        """The intervals of the symbols of items (n, C, H, W): start and width of each item, as `Walker.encode`."""

    def decode(
        self,
        decoders: Sequence[Decoder],
        size: tuple[int, int],
        plane: int | None,
        pause: Callable[[], None],
        lengths: Ints | None = None,
    ) -> Ints:
        """Items (n, C, H, W) of H, W = size, one from each decoder, as `Walker.decode`.

        lengths: (n,), of items of one row that end before the longest; what is behind them means nothing.
        """
