"""A network as a list of operations on integers, with the proof that nothing in it leaves the exact range.

    {"op": "linear", "out": "u", "in": ["a"], "tensors": {"weight": "up.weight", …}, "lo": 0, "hi": 255}

Values are *maps*, (B, P, H, W): P planes at every place of an item (a text or a sound is an item of one row, H = 1), or
*rows*, (N, P): one row for each asked site.  A program begins with two maps, made of what is known of an item,

    "value"   2·c − (K − 1), c being the centre of what a site may still be: 0 where nothing is known
    "depth"   the number of known digits

and ends with a head, which turns rows into frequencies (`heads`).  `operations` says what each operation computes.

Read me first: the *certificate* of an operation bounds the absolute value of everything that can occur inside it, its
partial sums in any order included.  Up to 2^24 it may be computed in float32, up to 2^53 in float64, and the result is
the same integer.  It is derived from the weights themselves, for every input whatever, and never taken from a file.
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
"""Places of an item that a program may fix."""


@dataclass(frozen=True)
class Op:
    """One operation: its name, what it reads, what it is called, its integers and its tensors by role."""

    name: str
    out: str
    inputs: tuple[str, ...] = ()
    integers: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "op": self.name,
            "out": self.out,
            "in": list(self.inputs),
            "integers": dict(self.integers),
            "tensors": dict(self.tensors),
        }

    @staticmethod
    def parse(value: Any) -> Op:
        """The inverse of plain; ArdmError for anything else."""
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
    """

    ops: tuple[Op, ...]
    tensors: Arrays
    channels: int
    classes: int
    base: int
    size: tuple[int, int] = (0, 0)

    @property
    def digits(self) -> int:
        """S: how many digits of the base a value has."""
        count, reach = 0, 1
        while reach < self.classes:
            count, reach = count + 1, reach * self.base
        return count

    def plain(self) -> dict[str, Any]:
        """Everything but the tensors, as it is written."""
        return {
            "spec": SPEC,
            "channels": self.channels,
            "classes": self.classes,
            "base": self.base,
            "size": list(self.size),
            "ops": [op.plain() for op in self.ops],
        }

    @staticmethod
    def parse(value: Any, tensors: Arrays) -> Program:
        """The inverse of plain.  Raises ArdmError for another version, or anything that is no program."""
        if not isinstance(value, dict) or value.get("spec") != SPEC:
            spec = value.get("spec") if isinstance(value, dict) else None
            raise ArdmError(f"this codec model is written in arithmetic {spec}; this version of ardm knows {SPEC}")
        channels, classes, base = (_count(value.get(name)) for name in ("channels", "classes", "base"))
        size: Any = value.get("size")
        ops: Any = value.get("ops")
        good = isinstance(ops, list) and isinstance(size, list) and len(size) == 2
        good = good and all(type(n) is int and n >= 0 for n in size) and size[0] * size[1] <= MAX_SITES
        if not good or not 2 <= base <= classes or (min(size) == 0) != (max(size) == 0):
            raise ArdmError("a codec model holds a program that cannot be read: its sizes are not those of items")
        made = Program(tuple(map(Op.parse, ops)), tensors, channels, classes, base, (size[0], size[1]))
        for name, tensor in tensors.items():
            if tensor.dtype.kind not in "iu":
                raise ArdmError(f"a codec model holds integers only; its tensor {name} is {tensor.dtype}")
        return made

    def tensor(self, op: Op, role: str) -> Ints:
        """A tensor of an operation as int64; ArdmError where it is missing."""
        try:
            return self.tensors[op.tensors[role]].astype(np.int64)
        except KeyError:
            raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model lacks its {role}") from None


def _count(n: Any) -> int:
    if type(n) is not int or not 0 < n <= 1 << 16:
        raise ArdmError(f"a codec model holds a program that cannot be read: it counts {str(n)[:20]}")
    return n


def digest(values: Any, tensors: Arrays) -> str:
    """The SHA-256 of settings and integer tensors, in one canonical spelling: 64 hex digits."""
    spelled = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    made = hashlib.sha256(len(spelled).to_bytes(8, "little") + spelled)
    for name, tensor in sorted(tensors.items()):
        about = f"{name}:{','.join(map(str, tensor.shape))};".encode()
        made.update(about + np.ascontiguousarray(tensor, dtype="<i8").tobytes())
    return made.hexdigest()
