"""The NumPy interpreter: a program run by the definitions of its operations, in int64.

Every backend must give the same integers.  It needs no PyTorch, and is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import Ask, Memory
from ardm.exact.certificate import certify
from ardm.exact.frequencies import Rows
from ardm.exact.operations import OPERATIONS
from ardm.exact.operations.heads import frequencies
from ardm.exact.program import Program


class Reference:
    """A program in int64: a `Runner`.  Raises ArdmError where the program is malformed."""

    def __init__(self, program: Program) -> None:
        self.program, self.bounds = program, certify(program)

    def memory(self, shape: tuple[int, ...]) -> Memory:
        """An empty memory for a walk over states of this shape."""
        return Memory(self, shape)

    def __call__(self, ask: Ask) -> Rows:
        """The frequencies at the sites asked."""
        memory = ask.remembered(self)
        values, (H, W) = inputs(self.program, ask.value, ask.depth), ask.value.shape[2:]
        sites = replace(ask.sites, size=(H, W))
        for op in self.program.ops:
            given, operation = [values[name] for name in op.inputs], OPERATIONS[op.name]
            if operation.resume is None:
                values[op.out] = operation.run(self.program, op, given, sites)
            else:
                values[op.out] = operation.resume(self.program, op, given, sites, memory.of(op.out))
        head = self.program.ops[-1]
        return frequencies(self.program, head, [values[name] for name in head.inputs], *ask.state)

    def together(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answer to each of several asks, one after the other."""
        return [self(ask) for ask in asks]


def inputs(program: Program, value: Ints, depth: Ints) -> dict[str, Ints]:
    """The two maps that a program begins with, from a state (B, C, H, W)."""
    block = np.array([program.base ** (program.digits - d) for d in range(program.digits + 1)], dtype=np.int64)[depth]
    last = np.minimum(value + block, program.classes) - 1  # the last value that a site may still have
    return {"value": value + last - (program.classes - 1), "depth": depth}
