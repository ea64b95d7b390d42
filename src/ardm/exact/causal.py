"""Causal programs, evaluated along wavefronts or some rows at a time: every place is computed once.

    Causal(program, bounds, engine).answers(asks, memories)    the frequencies at the sites of each ask
    Causal(program, bounds, engine).sweep(value, plane)        the frequencies at all sites, all digits known

A walk along the wavefronts of the program keeps, in its memory, the values of the last wavefronts (`wavefronts.Lookup`)
and those of the current one, which the channels of its places share.  Other asks compute all places, some rows at a
time.  An `Engine` does the arithmetic, in NumPy or in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.bounds import Bound
from ardm.exact.frequencies import Rows
from ardm.exact.operations.causal import cells_of
from ardm.exact.operations.heads import frequencies
from ardm.exact.operations.lattice import Filters, Lattice
from ardm.exact.program import Op, Program
from ardm.exact.stretches import Engine, Sweeping, Values, Walking
from ardm.exact.wavefronts import Array, Field, Lookup, Strip

PLACES = 1 << 11
"""Places that a sweep computes at once, unless a row has more: enough for fast products, few enough for the cache."""


@dataclass(frozen=True)
class Reading:
    """Sites, and the values of some places, of which those of the sites are the rows `index`; None: they are the same.

    value, depth: (N, C), the state at the pixel of each site.
    """

    sites: AskedSites
    kept: Values
    index: Ints | None
    value: Ints
    depth: Ints

    @staticmethod
    def of(sites: AskedSites, kept: Values, index: Ints | None, value: Ints, depth: Ints) -> Reading:
        """The same from a state (B, C, H, W)."""
        b, _, y, x = sites.index
        return Reading(sites, kept, index, value[b, :, y, x], depth[b, :, y, x])

    def __len__(self) -> int:
        return len(self.sites)


class Causal:
    """A causal program, run by an engine.  bounds: its certificate."""

    def __init__(self, program: Program, bounds: Mapping[str, Bound], engine: Engine) -> None:
        self.program, self.engine, self._nowhere = program, engine, engine.where(None)
        kinds: dict[str, list[Op]] = {"map": [], "places": [], "rows": []}
        for op in program.ops[:-1]:
            kinds[bounds[op.out].kind].append(op)
        self._maps, self._places, self._rows = kinds.values()
        near = [op for op in self._places if op.name in ("causal_window", "causal_taps", "carry")]
        self._near = {op.out: (op.inputs[-1], cells_of(program, op), bounds[op.inputs[-1]].planes) for op in near}
        self._windows = [op for op in near if op.name == "causal_window"]
        self._lattices = {op.out: Lattice.of(program, op) for op in self._places if op.name == "lattice"}
        given = [name for op in (*self._rows, program.ops[-1]) for name in op.inputs]
        self._kept = {name for name in given if bounds[name].kind == "places"}
        self._last = {name: op.out for op in self._places for name in (*op.inputs, op.out)}

    def answers(self, asks: Sequence[Ask], memories: Sequence[Memory]) -> list[Rows]:
        """The answer to each ask; those of walks along the wavefronts are computed side by side."""
        walks = [self._along(ask, memory) for ask, memory in zip(asks, memories, strict=True)]
        self._compute([walk for walk in walks if walk is not None and walk.kept is None])
        readings = [_reading(walk, ask) for walk, ask in zip(walks, asks, strict=True) if walk is not None]
        given = iter(self._given(readings))
        found = [self._all(ask) if walk is None else next(given) for walk, ask in zip(walks, asks, strict=True)]
        return [self._frequencies(mine, *ask.state) for mine, ask in zip(found, asks, strict=True)]

    def sweep(self, value: Ints, plane: int | None = None) -> Iterator[tuple[AskedSites, Rows]]:
        """The frequencies at all sites of items (B, C, H, W), or at those of one channel, each of a state that knows the
        digits before it.
        """
        depth = np.ones_like(value)
        H, W = value.shape[2:]
        for first, last, kept in self._bands(value, depth):
            b, y, x = np.unravel_index(np.arange(first, last), (len(value), H, W))
            nothing = np.zeros(last - first, dtype=np.int64)
            for c in range(self.program.channels) if plane is None else [plane]:
                sites = AskedSites(b, nothing + c, y, x)
                (given,) = self._given([Reading.of(sites, kept, None, value, depth)])
                yield sites, self._frequencies(given, nothing, nothing)

    # --- along wavefronts ---------------------------------------------------------------------------------------------

    def _along(self, ask: Ask, memory: Memory) -> Walking | None:
        """The walk of an ask, at its wavefront; None if the ask is not of a walk along wavefronts."""
        keys = ask.sites.x + self.program.wave * ask.sites.y
        if ask.memory is None or not len(keys) or (keys != keys[0]).any():
            return None
        kept = memory.of("wavefronts")
        if "walk" not in kept:
            kept["walk"] = self._walking(ask.value.shape)
        walk: Walking = kept["walk"]
        while walk.key < keys[0]:
            if walk.kept is None:
                self._compute([walk])
            if not self._enter(walk, ask):
                return None
        return walk if walk.key == keys[0] else None

    def _walking(self, shape: tuple[int, ...]) -> Walking:
        """A walk before its first wavefront."""
        places = Field(shape[0], shape[2], shape[3], self.program.wave)
        every = {tuple(cells): Lookup(places, cells) for _, cells, _ in self._near.values()}
        lookups = {out: every[tuple(cells)] for out, (_, cells, _) in self._near.items()}
        held = {out: self._zeros(out)((lookups[out].rows, planes)) for out, (_, _, planes) in self._near.items()}
        return Walking(self.engine, places, lookups, held, self._filters(shape[0], shape[2]))

    def _filters(self, items: int, H: int) -> dict[str, Filters]:
        """Lattices that have learnt nothing.  Raises ArdmError where items have several rows."""
        if self._lattices and H != 1:
            raise ArdmError(f"the adaptive filters of this codec model take items of one row; these have {H}")
        return {out: Filters(lattice, items) for out, lattice in self._lattices.items()}

    def _zeros(self, out: str) -> Any:
        """Makes what holds the input of an operation."""
        return lambda shape: self.engine.zeros(self._near[out][0], shape)

    def _enter(self, walk: Walking, ask: Ask) -> bool:
        """Go to the next wavefront, if everything of the current one is known."""
        y, x = walk.places.places(walk.key)
        value, depth = ask.value[:, :, y, x, None], ask.depth[:, :, y, x, None]
        if not depth.all():
            return False
        self._look(walk, value, depth)
        walk.enter()
        return True

    def _look(self, stretch: Walking | Sweeping, value: Ints, depth: Ints) -> None:
        """Add the current places to the maps that windows read; value, depth: (items, C, …), the state there."""
        if not stretch.count:
            return
        maps = self._maps_of(value, depth)
        for op in self._windows:
            a = maps[op.inputs[0]]
            stretch.put(op.out, a.reshape(*a.shape[:2], -1).swapaxes(1, 2).reshape(stretch.count, -1))
        for out in self._lattices:
            stretch.learn(out, self.engine.plain(maps["value"]).reshape(len(value), -1))

    def _maps_of(self, value: Ints, depth: Ints) -> Values:
        """The maps of a state."""
        values = self.engine.inputs(value, depth)
        for op in self._maps:
            self.engine.run(op, values, self._nowhere)
        return values

    # --- some rows at a time ------------------------------------------------------------------------------------------

    def _bands(self, value: Ints, depth: Ints) -> Iterator[tuple[int, int, Values]]:
        """All places of items, some at a time: number first..last − 1 of all places, and their values."""
        B, _, H, W = value.shape
        items = max(1, PLACES // max(1, H * W))
        for b in range(0, B, items):
            first = b * H * W
            for count, kept in self._down(value[b : b + items], depth[b : b + items]):
                yield first, first + count, kept
                first += count

    def _down(self, value: Ints, depth: Ints) -> Iterator[tuple[int, Values]]:
        """All places of some items, from the top down: their number, and their values."""
        B, C, H, W = value.shape
        places = Field(B, H, W, self.program.wave)
        if H == 1:  # a column, as strips hold it
            value, depth = value.reshape(B, C, W, 1), depth.reshape(B, C, W, 1)
        tall, wide = value.shape[2:]
        rows = min(tall, max(1, PLACES // (B * wide)))
        near = {op.out: self._near[op.out] for op in self._places if op.name in ("causal_window", "causal_taps")}
        strips = {out: Strip(self._zeros(out), places, *one[1:], rows) for out, one in near.items()}
        sweeping = Sweeping(self.engine, strips, self._filters(B, H), states={} if H == 1 else None)
        for y in range(0, tall, rows):
            part = slice(y, y + rows)
            here = min(rows, tall - y)
            sweeping.count, sweeping.lines = B * wide * here, B if H == 1 else B * here
            self._look(sweeping, value[:, :, part], depth[:, :, part])
            self._compute([sweeping])
            yield sweeping.count, sweeping.kept or {}
            for strip in strips.values():
                strip.turn()

    def _all(self, ask: Ask) -> list[Ints]:
        """The inputs of the head at the sites of an ask, when all places have to be computed."""
        H, W = ask.value.shape[2:]
        s = ask.sites
        number = (s.batch_index * H + s.y) * W + s.x
        found, order = [], []
        for first, last, kept in self._bands(ask.value, ask.depth):
            mine = np.flatnonzero((number >= first) & (number < last))
            if len(mine) or not len(number):
                found += self._given([Reading.of(s[mine], kept, number[mine] - first, ask.value, ask.depth)])
                order.append(mine)
        back = np.argsort(np.concatenate(order))
        return [np.concatenate(parts)[back] for parts in zip(*found, strict=True)]

    # --- operations ---------------------------------------------------------------------------------------------------

    def _compute(self, stretches: Sequence[Walking | Sweeping]) -> None:
        """Compute the values of the current places of some walks or sweeps."""
        for empty in (s for s in stretches if not s.count):
            empty.kept = {}
        stretches = [s for s in stretches if s.count]
        if not stretches:
            return
        ends = np.cumsum([s.count for s in stretches]).tolist()
        parts = [slice(last - s.count, last) for s, last in zip(stretches, ends, strict=True)]
        values: Values = {}
        for op in self._places:
            if op.out in self._near:
                values[op.out] = self._beside(op, stretches, parts, values)
            elif op.out in self._lattices:
                said = np.concatenate([stretch.columns(op.out) for stretch in stretches])
                values[op.out] = self.engine.array(op.out, said)
            else:
                self.engine.run(op, values, self._nowhere)
            for name in {*op.inputs, op.out} - self._kept:
                if self._last[name] == op.out:
                    values.pop(name, None)
        for stretch, part in zip(stretches, parts, strict=True):
            stretch.kept = {name: a[part] for name, a in values.items()}

    def _beside(self, op: Op, stretches: Sequence[Walking | Sweeping], parts: Sequence[slice], values: Values) -> Array:
        """causal_window, causal_taps or carry of some stretches."""
        found = []
        for stretch, part in zip(stretches, parts, strict=True):
            if op.name == "carry":
                found.append(stretch.carry(op, *(values[name][part] for name in op.inputs)))
                continue
            if op.name == "causal_taps":
                stretch.put(op.out, values[op.inputs[0]][part])
            found.append(stretch.cells(op.out, across=op.name == "causal_window"))
        return self._joined(found)

    def _given(self, readings: Sequence[Reading]) -> list[list[Ints]]:
        """The inputs of the head for each of several readings, which are computed side by side."""
        if not readings:
            return []
        where, values = self.engine.where(AskedSites.joined([r.sites for r in readings])), self._states(readings)
        for op in self._rows:
            here = values if op.name == "earlier" else {}
            for name in op.inputs:
                if name in self._kept:
                    here[name] = self._read(readings, name)
            if op.name == "at_site":
                values[op.out] = here[op.inputs[0]]
            else:
                self.engine.run(op, values, where)
        ends = np.cumsum([len(r) for r in readings])[:-1]
        split = [np.split(self.engine.plain(values[name]), ends) for name in self.program.ops[-1].inputs]
        return [list(mine) for mine in zip(*split, strict=True)]

    def _states(self, readings: Sequence[Reading]) -> Values:
        """The maps that `earlier` reads, as rows."""
        if not any(op.name == "earlier" for op in self._rows):
            return {}
        value, depth = (
            np.concatenate(x)[:, :, None, None] for x in zip(*((r.value, r.depth) for r in readings), strict=True)
        )
        return {name: a[..., 0, 0] for name, a in self._maps_of(value, depth).items()}

    def _read(self, readings: Sequence[Reading], name: str) -> Array:
        """A value of places at the sites."""
        take, index = self.engine.take, self.engine.index
        return self._joined([r.kept[name] if r.index is None else take(r.kept[name], index(r.index)) for r in readings])

    def _joined(self, parts: Sequence[Array]) -> Array:
        """Rows one after the other; one part is not copied."""
        return parts[0] if len(parts) == 1 else self.engine.join(parts, 0)

    def _frequencies(self, given: list[Ints], value: Ints, depth: Ints) -> Rows:
        return frequencies(self.program, self.program.ops[-1], given, value, depth)


def _reading(walk: Walking, ask: Ask) -> Reading:
    """The places of a walk at the sites of an ask."""
    index = walk.index(ask.sites)
    whole = len(index) == walk.count and bool((index[1:] > index[:-1]).all())
    return Reading.of(ask.sites, walk.kept or {}, None if whole else index, ask.value, ask.depth)


def causal(waves: Causal | None) -> Causal:
    """The evaluation of a causal program.  Raises ArdmError for another."""
    if waves is None:
        raise ArdmError("only a causal program can be swept: this model codes along orders")
    return waves


def numbers_held(program: Program, bounds: Mapping[str, Bound], side: int) -> int:
    """The most numbers that a walk or a sweep over a square item holds at once."""
    total = (PLACES + side) * sum(bound.planes for bound in bounds.values())
    for op in program.ops:
        if op.name in ("causal_window", "causal_taps", "carry"):
            cells = [(dy, dx) for dy, dx in cells_of(program, op) if max(-dy, abs(dx)) < side]
            lookup = Lookup(Field(1, side, side, program.wave), cells_of(program, op))
            top = max((-dy for dy, _ in cells), default=0)
            strip = (top + PLACES // side + 1) * 3 * side
            total += max(lookup.rows, strip) * bounds[op.inputs[-1]].planes
    return total
