"""A certified program as the list of numbers that `wave.c` reads.

    channels, classes, slope, values, operations
    tables of exponentials and of the sigmoid
    of each value:      kind, planes, whether it needs 32 bits
    of each operation:  code, result, inputs, integers, tensors; each list after its length

Maps are not computed: `value` and `depth` are the state itself, so a map is a list of its planes.  Places come before
rows.  Programs with other operations, or with numbers beyond 32 bits, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.ans import EXP, Ints
from ardm.errors import ArdmError
from ardm.exact.bounds import Bound
from ardm.exact.program import Op, Program
from ardm.exact.sigmoid import SIGMOID

CODES = {
    "causal_window": 1, "nearby": 2, "contrast": 3, "linear": 4, "shift": 5, "add": 6, "less": 7, "concat": 8,
    "causal_taps": 9, "at_site": 10, "earlier": 11, "pick": 12, "mixture": 13,
    "values": 14, "carry": 15, "gate": 16, "table": 17, "hash": 18, "embed": 19,
    "ratio": 20, "log": 21, "lattice": 22,
}  # fmt: skip
"""The operations of `wave.c`."""
TENSORS = {
    "linear": ["weight", "bias", "shift"],
    "table": ["table"],
    "hash": ["contexts"],
    "log": ["table"],
    "lattice": ["rates", "orders", "paces"],
    "mixture": ["inverse", "places"],
}
"""Their tensors, in the order of wave.c."""
KINDS = {"places": 1, "rows": 2}
MOST_INPUTS = 16
MOST_PLANES = 1 << 14
SMALL, WHOLE = np.iinfo(np.int16), np.iinfo(np.int32)


def describe(program: Program, bounds: Mapping[str, Bound]) -> Ints:
    """The description of a program.  Raises ArdmError for one that `wave.c` cannot run."""
    if not program.wave:
        raise ArdmError("the native kernels run models along wavefronts only; choose another backend")
    return _Description(program, bounds).numbers()


def _within(bound: Bound, kind: np.iinfo) -> bool:
    return bool(bound.lo.min() >= kind.min and bound.hi.max() <= kind.max)


def _refuse(op: Op, good: bool, fault: str = "") -> None:
    if not good:
        what = fault or "cannot be run by the native kernels"
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model {what}; choose another backend")


class _Description:
    """A description in the making.  maps: the planes of the state that a map consists of.  number: of each value."""

    def __init__(self, program: Program, bounds: Mapping[str, Bound]) -> None:
        self.program, self.bounds = program, bounds
        C = program.channels
        self.maps = {"value": list(range(C)), "depth": list(range(C, 2 * C))}
        self.number: dict[str, int] = {}

    def numbers(self) -> Ints:
        """All of it."""
        ops = [op for op in self.program.ops if not self._is_map(op)]
        ops.sort(key=lambda op: self.bounds[op.out].kind == "rows")
        self.number = {op.out: i for i, op in enumerate(ops)}
        program = self.program
        parts = [
            [program.channels, program.classes, program.wave, len(ops), len(ops)],
            *map(_counted, (EXP_END, SIGMOID)),
        ]
        parts += [self._value(op) for op in ops]
        for op in ops:
            parts += self._operation(op)
        return np.concatenate([np.asarray(part, dtype=np.int64).reshape(-1) for part in parts])

    def _is_map(self, op: Op) -> bool:
        """Whether the result is a map, which is then noted."""
        if self.bounds[op.out].kind != "map":
            return False
        _refuse(op, op.name == "concat")
        self.maps[op.out] = [plane for name in op.inputs for plane in self.maps[name]]
        return True

    def _value(self, op: Op) -> list[int]:
        bound = self.bounds[op.out]
        _refuse(op, op.name in CODES)
        _refuse(op, _within(bound, WHOLE), "needs more than 32 bits, which the native kernels lack")
        if op.name in ("carry", "table"):
            _refuse(op, bound.peak <= WHOLE.max, "needs more than 32 bits, which the native kernels lack")
        _refuse(op, bound.planes <= MOST_PLANES and len(op.inputs) <= MOST_INPUTS)
        return [KINDS[bound.kind], bound.planes, int(not _within(bound, SMALL))]

    def _operation(self, op: Op) -> list[Ints]:
        integers, tensors = self._integers(op), self._tensors(op)
        inputs = [self.number[name] for name in op.inputs if name not in self.maps]
        lists = [_counted(inputs), _counted(integers), np.array([len(tensors)]), *map(_counted, tensors)]
        return [np.array([CODES[op.name], self.number[op.out]]), *lists]

    def _integers(self, op: Op) -> list[int]:
        """The integers of an operation, in the order of wave.c."""
        n = op.integers
        if op.name == "nearby":
            return [n["limit"], n["fraction"], *(n[f"rise{i}"] for i in range(len(op.inputs)))]
        if op.name == "linear":
            return self._linear(op)
        if op.name in ("shift", "ratio", "gate"):
            return [min(n["by"], 31) if op.name == "shift" else n["by"], *_limits(op)]
        if op.name == "hash":
            return [n["bits"], self.program.tensor(op, "contexts").shape[1]]
        if op.name == "embed":
            table = self._table(op)
            return [*table.shape, table.itemsize]
        order = {
            "contrast": ("limit", "fraction", "by", "known"),
            "earlier": ("fraction", "by", "limit"),
            "carry": ("by",),
            "table": ("low",),
            "log": ("octave", "by"),
            "lattice": ("order", "fraction", "energy"),
            "mixture": ("components", "fraction", "bits", "rise", "limit"),
        }
        return [n[name] for name in order.get(op.name, ())]

    def _linear(self, op: Op) -> list[int]:
        """Matrices, inputs, outputs, lo, hi, and whether 16-bit numbers and 32-bit sums hold the product."""
        weight, bias = self.program.tensor(op, "weight"), self.program.tensor(op, "bias")
        held = bool(weight.min() >= SMALL.min and weight.max() <= SMALL.max) and int(np.abs(bias).max()) <= WHOLE.max
        held = held and _within(self.bounds[op.inputs[0]], SMALL) and self.bounds[op.out].peak <= WHOLE.max
        count = len(weight) if weight.ndim == 3 else 1
        return [count, *weight.shape[-2:], *_limits(op), int(held)]

    def _table(self, op: Op) -> NDArray[Any]:
        """The table of `embed` in as few bytes as it is stored in."""
        table = self.program.tensors[op.tensors["table"]]
        signed = np.promote_types(table.dtype, np.int8)
        return np.ascontiguousarray(table, dtype=signed if signed.itemsize < 8 else np.int32)

    def _tensors(self, op: Op) -> list[Ints]:
        if op.name in ("causal_window", "causal_taps"):
            planes = [np.array(self.maps[op.inputs[0]])] if op.name == "causal_window" else []
            return [*planes, self.program.tensor(op, "cells")]
        if op.name == "earlier":
            _refuse(op, self.maps.get(op.inputs[0]) == list(range(self.program.channels)))
        if op.name == "embed":
            held = np.zeros(-(-self._table(op).nbytes // 8), dtype=np.int64)
            held.view(np.uint8)[: self._table(op).nbytes] = self._table(op).reshape(-1).view(np.uint8)
            return [held]
        roles = TENSORS.get(op.name, [])
        roles = [f"weight{i}" for i in range(len(op.inputs))] if op.name == "nearby" else roles
        return [self.program.tensor(op, role) for role in roles]


EXP_END = EXP[:768]
"""The exponentials of a mixture's weights: 24 nats."""


def _limits(op: Op) -> tuple[int, int]:
    """lo and hi, within 32 bits, where every result lies."""
    lo, hi = op.integers.get("lo", WHOLE.min), op.integers.get("hi", WHOLE.max)
    return max(lo, WHOLE.min), min(hi, WHOLE.max)


def _counted(numbers: Iterable[int] | Ints) -> Ints:
    held = np.asarray(numbers, dtype=np.int64).reshape(-1)
    return np.concatenate([[len(held)], held])
