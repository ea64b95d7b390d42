"""The largest numbers that an operation can meet: what certificates are made of.

`Bound` describes a value: the range of each plane, and the *peak*, the largest absolute value that can occur inside the
operation that makes it, in partial sums of any order.  The helpers refuse operations that do not fit their inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.program import Op, Program

MAX_PLANES = 1 << 18
"""The most planes of a value."""
LIMIT = 1 << 53
"""float64 holds every integer below this; no number of a program may reach it."""
INNER = 1 << 62
"""Statistics are computed in int64 in every container, and stay below this."""


Kind: TypeAlias = Literal["map", "places", "rows"]
"""A value has planes at every place (a map), a row for every place, or a row for every site asked."""


@dataclass(frozen=True)
class Bound:
    """The range of a value: lo, hi (P,) of each plane.

    kind: what the value has a row or a place for.
    peak: the largest absolute value inside the operation that makes it.
    """

    lo: Ints
    hi: Ints
    kind: Kind
    peak: int

    @staticmethod
    def of(lo: Any, hi: Any, kind: Kind, peak: int = 0) -> Bound:
        """A bound whose peak covers lo and hi.  Raises ArdmError for numbers that no container holds exactly."""
        lo, hi = np.asarray(lo), np.asarray(hi)
        count_planes(lo.size)
        peak = max([peak, *(int(abs(end)) for ends in (lo, hi) for end in (ends.min(), ends.max()))])
        if peak >= LIMIT:
            raise ArdmError("an operation of a codec model leaves the exact range of every container")
        return Bound(lo.astype(np.int64), hi.astype(np.int64), kind, peak)

    @property
    def planes(self) -> int:
        """P."""
        return len(self.lo)

    @property
    def size(self) -> Ints:
        """(P,): the largest absolute values."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))


def largest(*values: Bound) -> int:
    """The largest absolute value of several values."""
    return max(int(a.size.max(initial=0)) for a in values)


def unlimited(a: Ints) -> Any:
    """a as Python integers, which do not overflow."""
    return a.astype(object)


def product_ends(a: Bound, b: Bound) -> tuple[Any, Any]:
    """The least and the largest product of two values, in Python integers."""
    corners = np.stack([unlimited(x) * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)])
    return corners.min(0), corners.max(0)


def with_zero(a: Bound) -> tuple[Ints, Ints]:
    """lo and hi of a map that is also read outside the item, where it is 0."""
    return np.minimum(a.lo, 0), np.maximum(a.hi, 0)


def clamped(op: Op, lo: Ints, hi: Ints, kind: Kind, peak: int) -> Bound:
    """The bound of a result that is clamped to the lo and hi of the operation, if it has them."""
    if "lo" in op.integers:
        lo, hi = np.clip(lo, *limits(op)), np.clip(hi, *limits(op))
    return Bound.of(lo, hi, kind, peak)


def limits(op: Op) -> tuple[int, int]:
    """The lo and hi of an operation."""
    if op.integers["lo"] > op.integers["hi"]:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model clamps to an empty range")
    return op.integers["lo"], op.integers["hi"]


def matrix_bound(op: Op, weight: Ints, bias: Ints, a: Bound) -> tuple[Ints, Ints, int]:
    """lo, hi (O,) of a · W + bias over all a, and the largest partial sum in any order."""
    expect(op, weight.ndim == 2 and weight.shape[0] == a.planes and bias.shape == weight.shape[1:], "does not fit")
    w, plus = weight.astype(np.float64), np.maximum(weight, 0).astype(np.float64)
    minus = w - plus  # exact: every number here stays below 2^53, or the certificate fails
    lo = a.lo @ plus + a.hi @ minus + bias
    hi = a.hi @ plus + a.lo @ minus + bias
    peak = (a.size @ np.abs(w) + np.abs(bias)).max(initial=0)
    expect(op, bool(peak < LIMIT), "leaves the exact range of every container")
    return lo.astype(np.int64), hi.astype(np.int64), int(peak)


# --- what an operation expects ----------------------------------------------------------------------------------------

NAMES: dict[Kind, str] = {"map": "a map", "places": "places", "rows": "rows"}
"""Kinds in messages."""


def expect(op: Op, good: bool, fault: str) -> None:
    """Raise ArdmError unless good; fault ends the sentence "the operation … "."""
    if not good:
        raise ArdmError(f"the operation {op.name} ({op.out}) of a codec model {fault}")


def expect_rows(op: Op, a: Bound) -> None:
    """Raise ArdmError unless a is rows."""
    expect(op, a.kind == "rows", f"takes rows but gets {NAMES[a.kind]}")


def expect_row_wise(op: Op, *given: Bound) -> Kind:
    """The kind of values that are all rows, or all places.  Raises ArdmError for others."""
    kind = given[0].kind
    expect(op, kind != "map", "takes rows or places but gets a map")
    expect(op, all(a.kind == kind for a in given), "is given rows and places")
    return kind


def expect_places(op: Op, a: Bound) -> None:
    """Raise ArdmError unless a is places."""
    expect(op, a.kind == "places", f"takes places but gets {NAMES[a.kind]}")


def expect_map(op: Op, a: Bound) -> None:
    """Raise ArdmError unless a is a map."""
    expect(op, a.kind == "map", f"takes a map but gets {NAMES[a.kind]}")


def expect_same(op: Op, a: Bound, b: Bound) -> None:
    """Raise ArdmError unless a and b have one shape."""
    expect(op, a.kind == b.kind and a.planes == b.planes, "is given values of different shapes")


def count_planes(planes: int) -> int:
    """The number itself.  Raises ArdmError for more than MAX_PLANES, before anything of that size is allocated."""
    if planes > MAX_PLANES:
        raise ArdmError(f"an operation of a codec model makes {planes} planes; the limit is {MAX_PLANES}")
    return planes


def integer(op: Op, name: str, least: int, most: int) -> int:
    """An integer of an operation.  Raises ArdmError unless it lies in least..most."""
    n = op.integers.get(name)
    if n is None or not least <= n <= most:
        raise ArdmError(
            f"the operation {op.name} ({op.out}) of a codec model has {name} {n}; it must lie in {least}..{most}"
        )
    return n


def places(program: Program, op: Op) -> int:
    """H · W of the items.  Raises ArdmError for a program whose items may have any size."""
    expect(op, min(program.size) > 0, "looks at a whole item, and needs items of one size")
    return program.size[0] * program.size[1]
