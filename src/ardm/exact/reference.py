"""The NumPy interpreter: a program run by the definitions of its operations, in int64.

Every backend must give the same integers.  It needs no PyTorch, and is slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.causal import Causal, causal
from ardm.exact.certificate import certify
from ardm.exact.frequencies import Rows
from ardm.exact.operations import OPERATIONS
from ardm.exact.operations.causal import carried, deviations
from ardm.exact.operations.heads import frequencies
from ardm.exact.program import Op, Program
from ardm.exact.space import last_read
from ardm.exact.stretches import Values


class Reference:
    """A program in int64: a `Runner`.  Raises ArdmError where the program is malformed."""

    def __init__(self, program: Program) -> None:
        self.program, self.bounds = program, certify(program)
        self._waves = Causal(program, self.bounds, _Definitions(program)) if program.wave else None

    @property
    def causal(self) -> bool:
        """Whether it can sweep."""
        return self._waves is not None

    def memory(self, shape: tuple[int, ...]) -> Memory:
        """An empty memory for a walk over states of this shape."""
        return Memory(self, shape)

    def __call__(self, ask: Ask) -> Rows:
        """The frequencies at the sites asked: along wavefronts for a causal program with a memory, else by definition."""
        memory = ask.remembered(self)
        if self._waves is not None and ask.memory is not None:
            return self._waves.answers([ask], [memory])[0]
        values, (H, W) = inputs(self.program, ask.value, ask.depth), ask.value.shape[2:]
        sites = replace(ask.sites, size=(H, W))
        for op, done in zip(self.program.ops, last_read(self.program.ops), strict=True):
            given, operation = [values[name] for name in op.inputs], OPERATIONS[op.name]
            if operation.resume is None:
                values[op.out] = operation.run(self.program, op, given, sites)
            else:
                values[op.out] = operation.resume(self.program, op, given, sites, memory.of(op.out))
            for name in done:
                del values[name]
        head = self.program.ops[-1]
        return frequencies(self.program, head, [values[name] for name in head.inputs], *ask.state)

    def together(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answer to each of several asks, one after the other."""
        return [self(ask) for ask in asks]

    def sweep(self, value: Ints, plane: int | None = None) -> Iterator[tuple[AskedSites, Rows]]:
        """The frequencies at all sites of items, or at those of one channel."""
        return causal(self._waves).sweep(value, plane)


class _Definitions:
    """The definitions of operations: an `Engine`."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def zeros(self, name: str, shape: tuple[int, ...]) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    def inputs(self, value: Ints, depth: Ints) -> Values:
        return {**inputs(self.program, value, depth)}

    def join(self, parts: Sequence[Ints], axis: int) -> Ints:
        return np.concatenate(parts, axis=axis)

    def stack(self, parts: Sequence[Ints]) -> Ints:
        return np.stack(parts, axis=-1)

    def index(self, rows: Ints) -> Ints:
        return rows

    def take(self, a: Ints, rows: Ints) -> Ints:
        return a[rows]

    def where(self, sites: AskedSites | None) -> AskedSites:
        nowhere = np.zeros(0, dtype=np.int64)
        return AskedSites(nowhere, nowhere, nowhere, nowhere) if sites is None else sites

    def run(self, op: Op, values: Values, where: AskedSites) -> None:
        given = [values[name] for name in op.inputs]
        if op.name == "earlier":
            values[op.out] = deviations(op, given[0], given[1], where.channel)
        else:
            values[op.out] = OPERATIONS[op.name].run(self.program, op, given, where)

    def carry(self, op: Op, z: Ints, n: Ints, before: Ints | None) -> Ints:
        return carried(op, z, n, np.zeros_like(n[:, 0]) if before is None else before)

    def plain(self, a: Ints) -> Ints:
        return a

    def array(self, name: str, a: Ints) -> Ints:
        return a


def inputs(program: Program, value: Ints, depth: Ints) -> dict[str, Ints]:
    """The two maps that a program begins with, from a state (B, C, H, W)."""
    block = np.array([program.base ** (program.digits - d) for d in range(program.digits + 1)], dtype=np.int64)[depth]
    last = np.minimum(value + block, program.classes) - 1  # the last value that a site may still have
    return {"value": value + last - (program.classes - 1), "depth": depth}
