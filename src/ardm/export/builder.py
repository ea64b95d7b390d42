"""A program in the making: layers of networks in floats as operations on integers.

A `Value` is an integer value of a program and what it stands for: plane p holds about scale_p times a real number.
The methods of `Layers` append the operations of a layer and return the Value of its result.  The scales that a matrix
reads and makes cost nothing, because its weights absorb them; norms and tables need one scale for all planes.

Scales follow from the largest values that `calibrate` saw in the float network; larger ones are clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ardm.ans import GRID, Ints
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.exact.bounds import INNER
from ardm.exact.certificate import input_bounds, operation_bound
from ardm.exact.program import Op, Program
from ardm.export.obstacles import conv_obstacle
from ardm.export.precision import Precision
from ardm.export.quantise import Floats, floats, matrix, narrow

HEADROOM = 5
"""Bits that sums of many layers, and the inputs of norms, have beyond an activation."""
LOOK = (1 << 13) - 1
"""The largest index of a table, by the scales chosen here."""
GAIN = 15
"""Bits of the gain of a norm."""
EPSILON = 2.0**-23
"""RMSNorm's epsilon where it names none: that of float32."""
TABLE = 1 << 17
"""The most entries of the table of a function."""
RISE = 4
"""Bits that the result of attention has beyond its values."""
WIDE = 1 << 45
"""The largest sum of a convolution; beyond 2^24 it is split, or held in float64."""


@dataclass(frozen=True)
class Value:
    """An integer value of a program by name; plane p is about scale[p] times a real number.  scale: (P,)."""

    name: str
    scale: Floats

    @property
    def one(self) -> float:
        """The scale of all planes.  Raises ArdmError where they differ."""
        if np.ptp(self.scale) > 0:
            raise ArdmError(f"the planes of {self.name} have different scales, where one is needed")
        return float(self.scale[0])


class Builder:
    """A program in the making: operations and their tensors, with their bounds.

    channels, digits, size: of the items.  wave: the slope of the wavefronts of a causal program.
    """

    def __init__(self, channels: int, digits: Digits, size: tuple[int, int] = (0, 0), wave: int = 0) -> None:
        self.ops: list[Op] = []
        self.tensors: dict[str, Ints] = {}
        self._program = Program((), self.tensors, channels, digits.classes, digits.base, size, wave)
        self.bounds = input_bounds(self._program)

    def op(self, name: str, out: str, inputs: Sequence[str], tensors: Any = None, **integers: int) -> str:
        """Append an operation; returns the name of its result.  Raises ArdmError where its certificate fails."""
        names = {role: f"{out}.{role}" for role in tensors or {}}
        self.tensors |= {names[role]: np.asarray(x, dtype=np.int64) for role, x in (tensors or {}).items()}
        op = Op(name, out, tuple(inputs), integers, names)
        try:
            self.bounds[out] = operation_bound(self._program, op, self.bounds)
        except ArdmError:
            for name in names.values():
                del self.tensors[name]
            raise
        self.ops.append(op)
        return out

    def program(self) -> Program:
        """The finished program."""
        return replace(self._program, ops=tuple(self.ops), tensors=narrow(self.tensors))

    def size(self, name: str) -> Ints:
        """(P,): the largest absolute values that a value's planes can have."""
        return self.bounds[name].size


class Layers(Builder):
    """A program in the making, whose layers have a precision."""

    def __init__(self, channels: int, digits: Digits, bits: Precision, size: tuple[int, int] = (0, 0)) -> None:
        super().__init__(channels, digits, size)
        self.bits = bits

    @property
    def top(self) -> int:
        """The largest activation."""
        return self.bits.top

    @property
    def high(self) -> int:
        """The largest sum of many layers."""
        return self.top << HEADROOM

    @property
    def table_top(self) -> int:
        """The largest index of a table."""
        return min(self.high, LOOK)

    def largest(self, a: Value) -> int:
        """The largest absolute value that a can have."""
        return int(self.bounds[a.name].size.max(initial=0))

    def scale(self, largest: float | Floats, top: int | None = None) -> Floats:
        """The scale that takes `largest` to `top`, by default the largest activation; 1 where it is 0."""
        most = np.atleast_1d(np.asarray(largest, dtype=np.float64))
        return np.where(most > 0, (self.top if top is None else top) / np.where(most > 0, most, 1.0), 1.0)

    # --- matrices -----------------------------------------------------------------------------------------------------

    def conv(
        self,
        out: str,
        a: Value,
        layer: nn.Conv2d | nn.Conv1d | nn.Linear,
        scale: Floats,
        top: int | None = None,
        bits: int | None = None,
        low: int | None = None,
        moments: Floats | None = None,
    ) -> Value:
        """A convolution that keeps the size, or a linear layer at every place, of a map.

        scale: (O,) or (1,), of the result.  top: the result is clamped to low..top, by default ±top; None: not at all.
        bits: of a weight.  moments (I, I): of what the cells of the kernel read in the float network, plane after plane.
        Raises ArdmError for strides, groups, or padding that is not zeros.
        """
        weight = layer.weight.detach().double()
        weight = weight[..., None, None] if weight.ndim == 2 else weight[:, :, None] if weight.ndim == 3 else weight
        outputs, planes, tall, wide = weight.shape
        step, pad = 1, (0, 0)
        if not isinstance(layer, nn.Linear):
            obstacle = conv_obstacle(layer)
            if obstacle:
                raise ArdmError(f"{out} cannot be exported: {obstacle}")
            step = layer.dilation[-1]
            pad = _padding(layer, tall, wide, step)
        reads = np.repeat(np.broadcast_to(a.scale, planes), tall * wide)
        size = np.repeat(self.bounds[a.name].size, tall * wide)
        seen = None if moments is None else moments * reads[:, None] * reads
        made = self._matrix(weight.reshape(outputs, -1).T.numpy(), layer.bias, size, reads, scale, bits, seen)
        places = {"tall": tall, "wide": wide, "step": step, "top": pad[0], "left": pad[1]}
        self.op("conv", out, [a.name], made, **places, **_limits(top, low))
        return Value(out, np.broadcast_to(scale, outputs))

    def linear(
        self,
        out: str,
        a: Value,
        weight: Floats,
        bias: Floats,
        scale: Floats,
        top: int | None = None,
        bits: int | None = None,
        low: int | None = None,
    ) -> Value:
        """A linear layer of rows, or at every place of a map; weight (O, I), bias (O,), the rest as for conv.

        weight (C, O, I), bias (C, O): of rows, one layer for each channel.
        """
        reads = np.broadcast_to(a.scale, weight.shape[-1])
        each = [
            self._matrix(w.T, torch.from_numpy(b), self.bounds[a.name].size, reads, scale, bits)
            for w, b in zip(*((weight, bias) if weight.ndim == 3 else (weight[None], bias[None])), strict=True)
        ]
        made = {role: np.stack([m[role] for m in each]) for role in each[0]} if weight.ndim == 3 else each[0]
        if self.bounds[a.name].kind == "map":
            self.op("conv", out, [a.name], made, tall=1, wide=1, step=1, top=0, left=0, **_limits(top, low))
        else:
            self.op("linear", out, [a.name], made, **_limits(top, low))
        return Value(out, np.broadcast_to(scale, weight.shape[-2]))

    def _matrix(
        self,
        weight: Floats,
        bias: Tensor | None,
        size: Ints,
        reads: Floats,
        scale: Floats,
        bits: int | None,
        moments: Floats | None = None,
    ) -> dict[str, Ints]:
        """weight (I, O)."""
        plus = np.zeros(weight.shape[1]) if bias is None else floats(bias)
        scale = np.broadcast_to(scale, weight.shape[1])
        # at least 2^8, because there are no products of bytes here: neighbouring weights need not fit 16 bits together
        made = matrix(weight, plus, np.maximum(size, 1 << 8), reads, scale, bits or self.bits.weights, WIDE, moments)
        return {"weight": made.weight, "bias": made.bias, "shift": made.shift}

    # --- elementwise --------------------------------------------------------------------------------------------------

    def function(self, out: str, a: Value, f: Callable[[Floats], Floats], scale: float) -> Value:
        """A function of one number, by a table over the range of a; scale: of the result."""
        lo, hi = int(self.bounds[a.name].lo.min()), int(self.bounds[a.name].hi.max())
        if hi - lo >= TABLE:
            raise ArdmError(f"{a.name} lies in {lo}..{hi}, too wide a range for the table {out}; clamp it first")
        table = np.rint(f(np.arange(lo, hi + 1) / a.one) * scale)
        self.op("table", out, [a.name], {"table": table}, low=lo)
        return Value(out, np.broadcast_to(np.float64(scale), len(a.scale)))

    def coarser(self, out: str, a: Value, by: int, top: int | None = None) -> Value:
        """a with `by` bits fewer, clamped to ±top; a itself where there is nothing to do."""
        if by == 0 and (top is None or self.largest(a) <= top):
            return a
        return Value(self.op("shift", out, [a.name], by=by, **_limits(top)), a.scale / 2.0**by)

    def alike(self, out: str, a: Value, b: Value) -> tuple[Value, Value]:
        """a and b in the coarser of their scales, which have to be a power of two apart."""
        apart = round(math.log2(a.one / b.one))
        if apart > 0:
            a = self.coarser(f"{out}.one", a, apart)
        elif apart < 0:
            b = self.coarser(f"{out}.other", b, -apart)
        if not math.isclose(a.one, b.one, rel_tol=1e-9):
            raise ArdmError(f"the scales of {a.name} and {b.name} are not a power of two apart")
        return a, b

    def add(self, out: str, a: Value, b: Value, top: int | None = None) -> Value:
        """a + b, clamped to ±top; their scales may differ by a power of two."""
        if not np.array_equal(a.scale, b.scale):
            a, b = self.alike(out, a, b)
        total = Value(self.op("add", out, [a.name, b.name]), a.scale)
        return self.coarser(f"{out}.kept", total, 0, top)

    def gate(self, out: str, a: Value, b: Value) -> Value:
        """a · b, with just enough bits dropped to bring it within ±high."""
        most = int((self.bounds[a.name].size.astype(object) * self.bounds[b.name].size).max())
        by = max(0, (most // self.high).bit_length())
        return Value(self.op("gate", out, [a.name, b.name], by=by), a.scale * b.scale / 2.0**by)

    def concat(self, out: str, *every: Value) -> Value:
        """Planes or columns one after the other."""
        scale = np.concatenate([a.scale for a in every])
        return Value(self.op("concat", out, [a.name for a in every]), scale)

    # --- norms --------------------------------------------------------------------------------------------------------

    def norm(
        self,
        out: str,
        a: Value,
        layer: nn.Module,
        scale: Floats,
        top: int | None = None,
    ) -> Value:
        """GroupNorm over an item's places; LayerNorm and RMSNorm over the planes of each place, or over rows.

        scale: (P,) or (1,), of the result.  top: the result is clamped to ±top; by default `table_top`.
        Raises ArdmError where its statistics cannot be exact.
        """
        integers, eps = _norm_kind(out, layer)
        planes, (H, W) = len(a.scale), self._program.size
        N = planes // integers["groups"] * (1 if integers["each"] or self.bounds[a.name].kind != "map" else H * W)
        rise, epsilon = _statistics(out, N, self.largest(a), eps * a.one * a.one)
        gain, bias = (
            _vector(getattr(layer, name, None), planes, default) * scale
            for name, default in (("weight", 1.0), ("bias", 0.0))
        )
        lift = GAIN - math.ceil(math.log2(max(np.abs(gain).max(), 2.0**-20)))
        most = self.table_top if top is None else top
        for up in range(44, max(-1, rise - lift - 1), -1):  # as many bits as the containers hold
            by = up - rise + lift
            tensors = {"gain": np.rint(gain * 2.0**lift), "bias": np.rint((bias + 0.5) * 2.0**by)}
            integers |= {"up": up, "rise": rise, "by": by, "epsilon": epsilon, "lo": -most, "hi": most}
            try:
                self.op("norm", out, [a.name], tensors, **integers)
            except ArdmError:
                continue
            return Value(out, np.broadcast_to(scale, planes))
        raise ArdmError(
            f"{out} takes a norm of {N} numbers up to {self.largest(a)}, which no container holds; use fewer bits"
        )

    # --- attention ----------------------------------------------------------------------------------------------------

    def scores(self, q: float, k: float, width: int, top: int) -> tuple[Floats, Floats, int]:
        """The scales of queries and keys whose largest values are q and k, and the shift of their products in bits.

        width: of a head.  Scores become 32nds of a nat after division by √width.
        """
        s = float(self.scale(q, top)[0])
        room = float(self.scale(k, top)[0]) * s * math.sqrt(width) / GRID
        by = min(40, max(0, math.floor(math.log2(room))))
        other = GRID * 2.0**by / math.sqrt(width) / s
        return np.array([s]), np.array([other]), by

    def attention(self, out: str, q: Value, k: Value, v: Value, heads: int, by: int) -> Value:
        """Attention over all places.  The scales of q and k, and by, are those of `scores`."""
        bits = min(22, 2 * self.bits.activations)
        self.op("attention", out, [q.name, k.name, v.name], heads=heads, by=by, bits=bits, rise=RISE)
        return Value(out, v.scale * 2.0**RISE)

    # --- tables -------------------------------------------------------------------------------------------------------

    def embed(self, out: str, a: str, table: Floats, scale: float) -> Value:
        """A row of table (R, E) for the integer of every plane and place of a map."""
        self.op("embed", out, [a], {"table": np.rint(table * scale)})
        return Value(out, np.full(table.shape[1] * self.bounds[a].planes, scale))

    def channel(self, out: str, a: Value, table: Floats) -> Value:
        """Rows a + table[channel of the site]; table (C, P)."""
        return Value(self.op("channel", out, [a.name], {"table": np.rint(table * a.scale)}), a.scale)

    def at(self, out: str, a: Value) -> Value:
        """The planes of a map at the asked sites."""
        return Value(self.op("at", out, [a.name]), a.scale)


def _limits(top: int | None, low: int | None = None) -> dict[str, int]:
    """The lo and hi of an operation that clamps to low..top, by default ±top; none where it does not clamp."""
    return {} if top is None else {"lo": -top if low is None else low, "hi": top}


def _norm_kind(out: str, layer: nn.Module) -> tuple[dict[str, int], float]:
    """What a norm divides by, as integers of the operation, and its epsilon.  Raises ArdmError for other layers."""
    if not isinstance(layer, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)):
        kind = type(layer).__name__
        raise ArdmError(f"{out} cannot be exported: {kind} is not a norm that has an operation in integers")
    group, eps = isinstance(layer, nn.GroupNorm), layer.eps if layer.eps is not None else EPSILON
    groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
    return {"groups": groups, "each": int(not group), "centre": int(not isinstance(layer, nn.RMSNorm))}, eps


def _statistics(out: str, N: int, size: int, eps: float) -> tuple[int, int]:
    """rise and epsilon of a norm over N numbers up to `size`: as fine as the exact range allows; eps: in their unit."""
    rise, epsilon = -1, 1
    while rise < 8:
        finer = max(1, round(eps * 4.0 ** (rise + 1)))
        if ((N * size) ** 2 << 2 * (rise + 1)) + N * N * finer >= INNER:
            break
        rise, epsilon = rise + 1, finer
    if rise < 0:
        raise ArdmError(
            f"{out} takes the norm of {N} numbers up to {size}: the sum of their squares is too large; use fewer bits"
        )
    return rise, epsilon


def _vector(x: Tensor | None, planes: int, default: float) -> Floats:
    return np.full(planes, default) if x is None else floats(x)


def _padding(layer: nn.Conv1d | nn.Conv2d, tall: int, wide: int, step: int) -> tuple[int, int]:
    """Rows above and columns to the left of a place that a kernel covers."""
    if isinstance(layer.padding, str):
        pad: tuple[int, ...] = (step * (tall - 1) // 2, step * (wide - 1) // 2)
    else:
        pad = tuple(int(n) for n in layer.padding)
    return (0, pad[0]) if len(pad) == 1 else (pad[0], pad[1])
