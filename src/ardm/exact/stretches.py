"""What a causal program computes at once, and what it keeps: the places of one wavefront of a walk, or some rows of items.

An `Engine` does the arithmetic, in NumPy or in PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.operations.lattice import Filters
from ardm.exact.program import Op
from ardm.exact.wavefronts import Array, Field, Lookup, Strip

Values: TypeAlias = dict[str, Array]
"""Values by name."""


class Engine(Protocol):
    """The arithmetic of a program."""

    def zeros(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array for numbers of the value of this name."""

    def inputs(self, value: Ints, depth: Ints) -> Values:
        """The two maps that a program begins with, from a state."""

    def join(self, parts: Sequence[Array], axis: int) -> Array:
        """Arrays one after the other along an axis."""

    def stack(self, parts: Sequence[Array]) -> Array:
        """Arrays along a new last axis."""

    def index(self, rows: Ints) -> Array:
        """Numbers of rows, as `take` takes them."""

    def take(self, a: Array, rows: Array) -> Array:
        """Some rows."""

    def where(self, sites: AskedSites | None) -> Any:
        """Sites, as `run` takes them."""

    def run(self, op: Op, values: Values, where: Any) -> None:
        """Add the result of an operation to the values; `earlier` finds rows under the names of its inputs."""

    def carry(self, op: Op, z: Array, n: Array, before: Array | None) -> Array:
        """The operation `carry` over the second axis of z, n (N, T, P), from the states before (N, P), by default 0."""

    def plain(self, a: Array) -> Ints:
        """In NumPy."""

    def array(self, name: str, a: Ints) -> Array:
        """Numbers of the value of this name, from NumPy."""


@dataclass
class Walking:
    """What a walk keeps: the last wavefronts, and the values of the current one.

    held: values of the last wavefronts by operation, in the rows of its lookup.  key: of the current wavefront, −1 before
    the first.  rows: its own, and those of the cells of its places, by lookup.
    kept: values of the current places; None: still to be computed.  filters: the lattices of all items, by operation.
    """

    engine: Engine
    places: Field
    lookups: Mapping[str, Lookup]
    held: Mapping[str, Array]
    filters: Mapping[str, Filters]
    key: int = -1
    kept: Values | None = field(default_factory=dict)
    rows: dict[Lookup, tuple[Array, Array]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The current places."""
        first, last = self.places.front(self.key)
        return self.places.items * max(0, last - first)

    def enter(self) -> None:
        """Go to the next wavefront."""
        self.key, self.kept = self.key + 1, None
        index = self.engine.index
        self.rows = {one: (index(one.own(self.key)), index(one.near(self.key))) for one in {*self.lookups.values()}}

    def put(self, out: str, a: Array) -> None:
        """Add the values of the current places (count, P) for an operation."""
        self.held[out][self.rows[self.lookups[out]][0]] = a

    def cells(self, out: str, across: bool) -> Array:
        """The cells of the current places, cell after cell; across: plane after plane."""
        found = self.engine.take(self.held[out], self.rows[self.lookups[out]][1])
        if across:
            found = found.reshape(self.count, -1, found.shape[1]).swapaxes(1, 2)
        return found.reshape(self.count, -1)

    def carry(self, op: Op, z: Array, n: Array) -> Array:
        """The operation `carry` at the current places."""
        found = self.engine.carry(op, z[:, None], n[:, None], self.cells(op.out, across=False))[:, 0]
        self.put(op.out, found)
        return found

    def learn(self, out: str, value: Ints) -> None:
        """Let filters learn from the samples of the current places (items, 1)."""
        self.filters[out].absorb(value[:, 0])

    def columns(self, out: str) -> Ints:
        """What filters say about the current places."""
        return self.filters[out].columns()

    def index(self, sites: AskedSites) -> Ints:
        """The rows of the places of sites."""
        first, last = self.places.front(self.key)
        return sites.batch_index * (last - first) + sites.y - first


@dataclass
class Sweeping:
    """Some rows of items, and those before them that are still needed.

    held: by operation.  filters: likewise, and `said` what they say about the current places.  lines: how many there are at
    once of those along which states are carried; states: after the last place, where an item of one row goes on in the next
    stretch.  count: the current places.  kept: their values.
    """

    engine: Engine
    held: dict[str, Strip]
    filters: Mapping[str, Filters]
    said: dict[str, Ints] = field(default_factory=dict)
    lines: int = 0
    states: Values | None = None
    count: int = 0
    kept: Values | None = None

    def put(self, out: str, a: Array) -> None:
        """Add the values of the current places for an operation."""
        self.held[out].put(a)

    def cells(self, out: str, across: bool) -> Array:
        """The cells of the current places, cell after cell; across: plane after plane."""
        cells = self.held[out].cells()
        found = self.engine.stack(cells) if across else self.engine.join(cells, -1)
        return found.reshape(self.count, -1)

    def carry(self, op: Op, z: Array, n: Array) -> Array:
        """The operation `carry` at the current places."""
        z, n = (a.reshape(self.lines, -1, a.shape[1]) for a in (z, n))
        found = self.engine.carry(op, z, n, None if self.states is None else self.states.get(op.out))
        if self.states is not None:
            self.states[op.out] = found[:, -1]
        return found.reshape(self.count, -1)

    def learn(self, out: str, value: Ints) -> None:
        """Let filters learn from the samples of the current places (items, n), one after the other."""
        self.said[out] = self.filters[out].run(value)

    def columns(self, out: str) -> Ints:
        """What filters said about the current places."""
        return self.said[out].reshape(self.count, -1)
