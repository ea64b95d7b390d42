"""A program run by definition, in NumPy's int64: what every faster way to run it is compared with.

Nothing here is fast, and nothing needs PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ardm.ans import Ints
from ardm.exact import layers, lines  # noqa: F401 (register their operations)
from ardm.exact.ask import AskedSites
from ardm.exact.frequencies import IMPOSSIBLE, Blocks, Mixture, Rows, Softmax, mixture_weights
from ardm.exact.operations import OPERATIONS, certify, inputs
from ardm.exact.program import Op, Program


class Arbiter:
    """A program in int64.  Raises ArdmError where the program is malformed."""

    def __init__(self, program: Program) -> None:
        self.program, self.bounds = program, certify(program)

    def __call__(self, value: Ints, depth: Ints, asked: AskedSites) -> Rows:
        """The frequencies at the asked sites of items of which the first `depth` digits are known: (B, C, H, W) each."""
        values: dict[str, Ints] = dict(inputs(self.program, value, depth))
        for op in self.program.ops:
            given = [values[name] for name in op.inputs]
            values[op.out] = OPERATIONS[op.name].run(self.program, op, given, asked)
        head = self.program.ops[-1]
        at = (asked.batch_index, asked.channel, asked.y, asked.x)
        return rows(self.program, head, [values[name] for name in head.inputs], value[at], depth[at])


def rows(program: Program, head: Op, given: list[Ints], value: Ints, depth: Ints) -> Rows:
    """What a head makes of its inputs; value, depth (N,): the state of the asked sites."""
    S, b = program.digits, program.base
    place = np.array([b ** (S - 1 - d) for d in range(S)] + [1], dtype=np.int64)[depth]
    o = given[0]
    if head.name == "values":
        if S == 1:
            possible = o > IMPOSSIBLE
            return Softmax(o, possible | ~possible.any(axis=1, keepdims=True))  # something must be possible
        return Blocks(o, value, place, b)
    if head.name == "softmax":
        here = o.reshape(len(o), S, b)[np.arange(len(o)), np.minimum(depth, S - 1)]
        return Softmax(here, value[:, None] + np.arange(b) * place[:, None] < program.classes)
    return _mixture(program, head, o, given[1], value, place)


def _mixture(program: Program, head: Op, o: Ints, centre: Ints, value: Ints, place: Ints) -> Mixture:
    n: Any = head.integers
    logits, mean, scale = o.reshape(len(o), 3, n["components"]).transpose(1, 0, 2)
    inverse = program.tensor(head, "inverse")
    mean = (centre << n["rise"]) + mean + program.tensor(head, "places")
    mean = np.clip(mean, -n["limit"], n["limit"])
    return Mixture(
        mixture_weights(logits), mean, inverse[np.clip(scale + len(inverse) // 2, 0, len(inverse) - 1)], n["fraction"], n["bits"],
        program.classes, program.base, value, place,
    )  # fmt: skip
