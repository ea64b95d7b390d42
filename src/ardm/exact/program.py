"""An integer network as a list of operations.

    {"op": "linear", "out": "u", "in": ["a"], "tensors": {"weight": "up.weight", …}, "lo": 0, "hi": 255}

Values are *maps*, (B, P, H, W): P planes at every place of an item (a text or a sound is an item of one row, H = 1),
*rows*, (N, P): one row for each site asked, or *places*, (B · H · W, P): one row for each place.  A program begins with two maps that describe the known digits of an item,

    "value"   2·c − (K − 1), where c is the centre of the values that a site may still have: 0 if nothing is known
    "depth"   the number of known digits

and ends with a head, which turns rows into frequencies (`frequencies`).  `operations` defines each operation.

Read me first: the *certificate* of an operation bounds the absolute value of everything that can occur inside it,
including partial sums in any order.  Up to 2^24 it may be computed in float32, up to 2^53 in float64, and the result is
the same integer.  `certificate` derives it from the weights, for every possible input; it is never read from a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.ans import Ints
from ardm.errors import ArdmError

Arrays = Mapping[str, NDArray[Any]]

SPEC = 1
"""The version of the arithmetic."""


MAX_SITES = 1 << 22
"""The most places of an item of fixed size."""
MAX_SLOPE = 16
"""The steepest wavefronts."""


@dataclass(frozen=True)
class Op:
    """One operation: its name, the names of its result and inputs, its integers, and the names of its tensors by role."""

    name: str
    out: str
    inputs: tuple[str, ...] = ()
    integers: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The operation as JSON values."""
        return {
            "op": self.name,
            "out": self.out,
            "in": list(self.inputs),
            "integers": dict(self.integers),
            "tensors": dict(self.tensors),
        }

    @staticmethod
    def parse(value: Any) -> Op:
        """The inverse of plain.  Raises ArdmError for anything else."""
        try:
            integers, tensors = value["integers"], value["tensors"]
            made = Op(value["op"], value["out"], tuple(value["in"]), dict(integers), dict(tensors))
            texts = [made.name, made.out, *made.inputs, *integers, *tensors, *tensors.values()]
            good = value.keys() == made.plain().keys() and all(isinstance(t, str) for t in texts)
            good = good and all(type(n) is int and abs(n) < 1 << 53 for n in integers.values())
        except (KeyError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            raise ArdmError(f"a codec model holds an operation that cannot be read: {str(value)[:80]}")
        return made


@dataclass(frozen=True)
class Program:
    """A network in integers.

    ops: in the order in which they run; the last is the head.  tensors: integers, by name.
    channels: C of the items.  classes: K.  base: of the digits.  size: (H, W) of the items; (0, 0): any size.
    wave: if not 0, the program is causal along wavefronts of this slope (`operations.causal`), and has places.
    """

    ops: tuple[Op, ...]
    tensors: Arrays
    channels: int
    classes: int
    base: int
    size: tuple[int, int] = (0, 0)
    wave: int = 0

    @property
    def digits(self) -> int:
        """S, the number of digits of a value."""
        count, reach = 0, 1
        while reach < self.classes:
            count, reach = count + 1, reach * self.base
        return count

    def plain(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON values."""
        wave = {"wave": self.wave} if self.wave else {}
        return {
            "spec": SPEC,
            **wave,
            "channels": self.channels,
            "classes": self.classes,
            "base": self.base,
            "size": list(self.size),
            "ops": [op.plain() for op in self.ops],
        }

    @staticmethod
    def parse(value: Any, tensors: Arrays) -> Program:
        """The inverse of plain.  Raises ArdmError for another version, or for anything but a program."""
        if not isinstance(value, dict) or value.get("spec") != SPEC:
            spec = value.get("spec") if isinstance(value, dict) else None
            raise ArdmError(
                f"this codec model uses version {spec} of the arithmetic; this version of ardm knows version {SPEC}"
            )
        channels, classes, base = (_count(value.get(name)) for name in ("channels", "classes", "base"))
        size: Any = value.get("size")
        ops: Any = value.get("ops")
        wave: Any = value.get("wave", 0)
        good = isinstance(ops, list) and isinstance(size, list) and len(size) == 2
        good = good and all(type(n) is int and n >= 0 for n in size) and size[0] * size[1] <= MAX_SITES
        if not good or not 2 <= base <= classes or (min(size) == 0) != (max(size) == 0):
            raise ArdmError("a codec model holds a program that cannot be read: its sizes do not fit")
        if type(wave) is not int or not 0 <= wave <= MAX_SLOPE:
            raise ArdmError(
                f"a codec model holds a program that cannot be read: its wavefronts have slope {str(wave)[:20]}"
            )
        made = Program(tuple(map(Op.parse, ops)), tensors, channels, classes, base, (size[0], size[1]), wave)
        for name, tensor in tensors.items():
            if tensor.dtype.kind not in "iu":
                raise ArdmError(f"a codec model holds integers only; its tensor {name} is {tensor.dtype}")
        return made

    def tensor(self, op: Op, role: str) -> Ints:
        """A tensor of an operation as int64.  Raises ArdmError if it is missing."""
        try:
            return self.tensors[op.tensors[role]].astype(np.int64)
        except KeyError:
            raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model lacks its {role}") from None


def _count(n: Any) -> int:
    if type(n) is not int or not 0 < n <= 1 << 16:
        raise ArdmError(f"a codec model holds a program that cannot be read: it counts {str(n)[:20]}")
    return n


def digest(values: Any, tensors: Arrays) -> str:
    """The SHA-256 of settings and integer tensors in a canonical form: 64 hex digits."""
    spelled = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    made = hashlib.sha256(len(spelled).to_bytes(8, "little") + spelled)
    for name, tensor in sorted(tensors.items()):
        about = f"{name}:{','.join(map(str, tensor.shape))};".encode()
        made.update(about + np.ascontiguousarray(tensor, dtype="<i8").tobytes())
    return made.hexdigest()
