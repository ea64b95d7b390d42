"""The memory that the maps of a program take while it runs: a value is dropped after the last operation that reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ardm.exact.bounds import Bound, largest
from ardm.exact.program import Op, Program

SINGLE = 1 << 24
"""Up to here a number is held in 4 bytes, beyond in 8."""


def last_read(ops: Sequence[Op]) -> list[list[str]]:
    """The values that no operation after this one reads, for each operation; those of the last one, the head, stay."""
    later, found = set(ops[-1].inputs), list[list[str]]()
    for op in reversed(ops[:-1]):
        names = {op.out, *op.inputs} - later
        found.append(sorted(names))
        later |= names
    return [*reversed(found), []]


def maps_first(ops: Sequence[Op], bounds: Mapping[str, Bound]) -> list[Op]:
    """The operations in the order in which backends run them: those that make maps before those that make rows."""
    return sorted(ops, key=lambda op: bounds[op.out].kind != "map")


def map_bytes(program: Program, bounds: Mapping[str, Bound]) -> int:
    """Bytes at each place of an item for the maps that are held at once, and for copies of what an operation reads."""
    share = {"value": 1.0, "depth": 1.0}
    held, most = {name: _bytes(bounds[name]) for name in share}, 0.0
    ordered = maps_first(program.ops, bounds)
    for op, done in zip(ordered, last_read(ordered), strict=True):
        if bounds[op.out].kind != "map":
            break
        share[op.out] = _share(op, share)
        held[op.out] = share[op.out] * _bytes(bounds[op.out])
        wide = 4 if bounds[op.out].peak <= SINGLE else 8
        most = max(most, sum(held.values()) + wide * sum(share[name] * bounds[name].planes for name in op.inputs))
        for name in done:
            del held[name]
    return math.ceil(most)


def _bytes(bound: Bound) -> float:
    """Of one place of a map at full size."""
    return (4 if largest(bound) <= SINGLE else 8) * bound.planes


def _share(op: Op, share: Mapping[str, float]) -> float:
    """The places of the map that an operation makes, as a share of those of the item."""
    if op.name == "grow":
        return share[op.inputs[1]]
    most = max(share[name] for name in op.inputs)
    return {"pool": most / 4, "count": 0.0}.get(op.name, most)
