"""Layers of networks in floats as operations on integers: what the exporters of whole networks are made of.

A `Value` is an integer value of a program, and what it stands for: plane p holds about scale_p times a real number.
The methods of `Layers` append the operations of a layer and give the Value that they make.  Scales of what a matrix
reads and makes cost nothing, for weights absorb them; norms and tables want one scale for all planes that they read.

Largest values, from which scales follow, are those that `watched` has seen while the network in floats was run on
examples; what is larger is clamped.

`unsupported` lists what of a foreign network has no operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ardm.ans import GRID, Ints
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.exact.certificate import input_bounds, operation_bound
from ardm.exact.program import Op, Program
from ardm.export.quantise import Floats, matrix, narrow

HEADROOM = 5
"""Bits that sums of many layers, and what norms read, have beyond an activation's."""
LOOK = (1 << 13) - 1
"""The largest number for which a table is asked, by the scales chosen here."""
INNER = 1 << 62
"""What the statistics of a norm stay below."""
GAIN = 15
"""Bits of the gain of a norm."""
TABLE = 1 << 17
"""The most entries of the table of a function."""
WIDE = 1 << 45
"""What sums of a convolution may reach; beyond 2^24 they are split, or held in float64."""


class Bits(Protocol):
    """How many bits weights and activations have, and the weights of the first and the last layer."""

    @property
    def weights(self) -> int: ...  # noqa: D102

    @property
    def activations(self) -> int: ...  # noqa: D102

    @property
    def first(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Value:
    """An integer value of a program, plane p of which is about scale[p] times what it stands for.

    name: of the value.  scale: (P,).
    """

    name: str
    scale: Floats

    @property
    def one(self) -> float:
        """The scale of all planes.  Raises ArdmError where they differ."""
        if np.ptp(self.scale) > 0:
            raise ArdmError(f"the planes of {self.name} have different scales, where one is needed")
        return float(self.scale[0])


def swish(x: Floats) -> Floats:
    """x σ(x)."""
    return x / (1 + np.exp(-np.clip(x, -700, 700)))


def logistic(x: Floats) -> Floats:
    """σ(x)."""
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def gelu(x: Floats) -> Floats:
    """x Φ(x)."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0)


FUNCTIONS: dict[type[nn.Module], Callable[[Floats], Floats]] = {
    nn.SiLU: swish,
    nn.GELU: gelu,
    nn.ReLU: relu,
    nn.Sigmoid: logistic,
    nn.Tanh: np.tanh,
}
"""Functions of one number, by their modules."""


class Builder:
    """A program in the making: operations and their tensors, with their bounds.

    channels, digits, size: of the items.
    """

    def __init__(self, channels: int, digits: Digits, size: tuple[int, int] = (0, 0)) -> None:
        self.ops: list[Op] = []
        self.tensors: dict[str, Ints] = {}
        self._program = Program((), self.tensors, channels, digits.classes, digits.base, size)
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
    """A program in the making, with the precision that its layers are given."""

    def __init__(self, channels: int, digits: Digits, bits: Bits, size: tuple[int, int] = (0, 0)) -> None:
        super().__init__(channels, digits, size)
        self.bits = bits

    @property
    def top(self) -> int:
        """The largest activation."""
        return (1 << self.bits.activations) - 1

    @property
    def high(self) -> int:
        """The largest sum of many layers."""
        return self.top << HEADROOM

    @property
    def look(self) -> int:
        """The largest number for which a table is asked."""
        return min(self.high, LOOK)

    def largest(self, a: Value) -> int:
        """The largest absolute value that a can have."""
        return int(self.bounds[a.name].size.max(initial=0))

    def scale(self, largest: float | Floats, top: int | None = None) -> Floats:
        """What takes `largest` to `top`, by default the largest activation; 1 for what is always 0."""
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
    ) -> Value:
        """A convolution that keeps the size, or a linear layer at every place, of a map.

        scale: (O,) or (1,), of what it makes.  top: what is larger is clamped; None: nothing.  bits: of a weight.
        Raises ArdmError for strides, groups, or padding that is not zeros.
        """
        weight = layer.weight.detach().double()
        weight = weight[..., None, None] if weight.ndim == 2 else weight[:, :, None] if weight.ndim == 3 else weight
        outputs, planes, tall, wide = weight.shape
        step, pad = 1, (0, 0)
        if not isinstance(layer, nn.Linear):
            obstacle = _conv_obstacle(layer)
            if obstacle:
                raise ArdmError(f"{out} cannot be exported: {obstacle}")
            step = layer.dilation[-1]
            pad = _padding(layer, tall, wide, step)
        reads = np.repeat(np.broadcast_to(a.scale, planes), tall * wide)
        size = np.repeat(self.bounds[a.name].size, tall * wide)
        made = self._matrix(weight.reshape(outputs, -1).T.numpy(), layer.bias, size, reads, scale, bits)
        limits = {} if top is None else {"lo": -top, "hi": top}
        self.op("conv", out, [a.name], made, tall=tall, wide=wide, step=step, top=pad[0], left=pad[1], **limits)
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
    ) -> Value:
        """A linear layer of rows; weight (O, I), bias (O,).  The rest as of conv."""
        reads = np.broadcast_to(a.scale, weight.shape[1])
        made = self._matrix(weight.T, torch.from_numpy(bias), self.bounds[a.name].size, reads, scale, bits)
        limits = {} if top is None else {"lo": -top, "hi": top}
        self.op("linear", out, [a.name], made, **limits)
        return Value(out, np.broadcast_to(scale, len(weight)))

    def _matrix(
        self, weight: Floats, bias: Tensor | None, size: Ints, reads: Floats, scale: Floats, bits: int | None
    ) -> dict[str, Ints]:
        """weight (I, O)."""
        plus = np.zeros(weight.shape[1]) if bias is None else bias.detach().double().numpy()
        scale = np.broadcast_to(scale, weight.shape[1])
        # no products of bytes here, so that neighbouring weights need not fit 16 bits together: no size is told below 2^8
        made = matrix(weight, plus, np.maximum(size, 1 << 8), reads, scale, bits or self.bits.weights, WIDE)
        return {"weight": made.weight, "bias": made.bias, "shift": made.shift}

    # --- elementwise --------------------------------------------------------------------------------------------------

    def function(self, out: str, a: Value, f: Callable[[Floats], Floats], scale: float) -> Value:
        """A function of one number by a table over all that a can be; scale: of what it makes."""
        lo, hi = int(self.bounds[a.name].lo.min()), int(self.bounds[a.name].hi.max())
        if hi - lo >= TABLE:
            raise ArdmError(f"{a.name} lies in {lo}..{hi}, which is too much for the table {out}; clamp it before")
        table = np.rint(f(np.arange(lo, hi + 1) / a.one) * scale)
        self.op("table", out, [a.name], {"table": table}, low=lo)
        return Value(out, np.broadcast_to(np.float64(scale), len(a.scale)))

    def coarser(self, out: str, a: Value, by: int, top: int | None = None) -> Value:
        """a with `by` bits fewer, kept within ±top; a itself where there is nothing to do."""
        if by == 0 and (top is None or self.largest(a) <= top):
            return a
        limits = {} if top is None else {"lo": -top, "hi": top}
        return Value(self.op("shift", out, [a.name], by=by, **limits), a.scale / 2.0**by)

    def alike(self, out: str, a: Value, b: Value) -> tuple[Value, Value]:
        """a and b in the coarser of their scales, which are a power of two apart."""
        apart = round(math.log2(a.one / b.one))
        if apart > 0:
            a = self.coarser(f"{out}.one", a, apart)
        elif apart < 0:
            b = self.coarser(f"{out}.other", b, -apart)
        if not math.isclose(a.one, b.one, rel_tol=1e-9):
            raise ArdmError(f"the scales of {a.name} and {b.name} are no power of two apart")
        return a, b

    def add(self, out: str, a: Value, b: Value, top: int | None = None) -> Value:
        """a + b, kept within ±top; where their scales differ, by a power of two."""
        if not np.array_equal(a.scale, b.scale):
            a, b = self.alike(out, a, b)
        total = Value(self.op("add", out, [a.name, b.name]), a.scale)
        return self.coarser(f"{out}.kept", total, 0, top)

    def gate(self, out: str, a: Value, b: Value, top: int | None = None) -> Value:
        """a · b, with as many bits dropped as take it within ±top."""
        most = int((self.bounds[a.name].size.astype(object) * self.bounds[b.name].size).max())
        by = max(0, (most // (self.high if top is None else top)).bit_length())
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
        layer: nn.GroupNorm | nn.LayerNorm | nn.RMSNorm,
        scale: Floats,
        top: int | None = None,
    ) -> Value:
        """GroupNorm over an item's places; LayerNorm and RMSNorm over the planes of each place, or over rows.

        scale: (P,) or (1,), of what it makes.  top: what is larger is clamped; by default `look`.
        Raises ArdmError where its statistics cannot be exact.
        """
        s, planes = a.one, len(a.scale)
        group, centre = isinstance(layer, nn.GroupNorm), not isinstance(layer, nn.RMSNorm)
        groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
        H, W = self._program.size
        N = planes // groups * (H * W if group and not self.bounds[a.name].rows else 1)
        eps = layer.eps if layer.eps is not None else 2.0**-23  # RMSNorm's default is that of float32
        size = self.largest(a)
        rise, epsilon = -1, 1
        while rise < 8:
            finer = max(1, round(eps * s * s * 4.0 ** (rise + 1)))
            if ((N * size) ** 2 << 2 * (rise + 1)) + N * N * finer >= INNER:
                break
            rise, epsilon = rise + 1, finer
        if rise < 0:
            raise ArdmError(
                f"{out} takes the norm of {N} numbers up to {size}: their squares are too many; use fewer bits"
            )
        gain = _vector(layer.weight, planes, 1.0) * scale
        bias = _vector(getattr(layer, "bias", None), planes, 0.0) * scale
        lift = GAIN - math.ceil(math.log2(max(np.abs(gain).max(), 2.0**-20)))
        most = self.look if top is None else top
        for up in range(44, max(-1, rise - lift - 1), -1):
            by = up - rise + lift
            tensors = {"gain": np.rint(gain * 2.0**lift), "bias": np.rint((bias + 0.5) * 2.0**by)}
            integers = {
                "groups": groups,
                "each": int(not group),
                "centre": int(centre),
                "up": up,
                "rise": rise,
                "by": by,
            }
            try:
                self.op("norm", out, [a.name], tensors, epsilon=epsilon, lo=-most, hi=most, **integers)
            except ArdmError:
                continue
            return Value(out, np.broadcast_to(scale, planes))
        raise ArdmError(f"{out} takes a norm of {N} numbers up to {size}, which no container holds; use fewer bits")

    # --- attention ----------------------------------------------------------------------------------------------------

    def scores(self, q: float, k: float, width: int, top: int) -> tuple[Floats, Floats, int]:
        """Scales of queries and keys whose largest values are q and k, and by how many bits their products are shifted.

        width: of a head.  Scores are to be 32nds of a nat after division by √width.
        """
        s = float(self.scale(q, top)[0])
        room = float(self.scale(k, top)[0]) * s * math.sqrt(width) / GRID
        by = min(40, max(0, math.floor(math.log2(room))))
        other = GRID * 2.0**by / math.sqrt(width) / s
        return np.array([s]), np.array([other]), by

    def attention(self, out: str, q: Value, k: Value, v: Value, heads: int, by: int, rise: int = 4) -> Value:
        """Attention over all places.  The scales of q and k, and by, are those of `scores`."""
        bits = min(22, 2 * self.bits.activations)
        self.op("attention", out, [q.name, k.name, v.name], heads=heads, by=by, bits=bits, rise=rise)
        return Value(out, v.scale * 2.0**rise)

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


def _vector(x: Tensor | None, planes: int, default: float) -> Floats:
    return np.full(planes, default) if x is None else x.detach().double().numpy()


def _padding(layer: nn.Conv1d | nn.Conv2d, tall: int, wide: int, step: int) -> tuple[int, int]:
    """Rows above and columns to the left of a place that a kernel covers."""
    if isinstance(layer.padding, str):
        pad: tuple[int, ...] = (step * (tall - 1) // 2, step * (wide - 1) // 2)
    else:
        pad = tuple(int(n) for n in layer.padding)
    return (0, pad[0]) if len(pad) == 1 else (pad[0], pad[1])


# --- what is seen in floats -------------------------------------------------------------------------------------------


class Seen:
    """The largest absolute values that modules were given, and made."""

    def __init__(self) -> None:
        self._given: dict[nn.Module, float] = {}
        self._made: dict[nn.Module, Floats] = {}

    def __call__(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:  # noqa: D102 (a forward hook)
        if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
            self._given[module] = max(self._given.get(module, 0.0), float(given[0].detach().abs().max()))
        if isinstance(made, Tensor):
            last = -1 if isinstance(module, (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)) else 1
            each = made.detach().abs().movedim(last, 0).flatten(1).amax(1) if made.ndim > 1 else made.detach().abs()
            before = self._made.get(module)
            found = each.double().cpu().numpy()
            self._made[module] = found if before is None else np.maximum(before, found)

    def given(self, module: nn.Module) -> float:
        """The largest number that a module was given."""
        return self._given[module]

    def made(self, module: nn.Module) -> float:
        """The largest number that a module made."""
        return float(self._made[module].max())

    def planes(self, module: nn.Module) -> Floats:
        """(P,): of each plane (of a convolution, a norm) or column (of a linear layer) that a module made."""
        return self._made[module]


@contextmanager
def watched(model: nn.Module) -> Iterator[Seen]:
    """Within the block, the largest values that every module of a network is given and makes."""
    seen = Seen()
    hooks = [module.register_forward_hook(seen) for module in model.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


# --- what has no operation --------------------------------------------------------------------------------------------

_PLAIN: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    *FUNCTIONS,
)
_HINTS = {
    "BatchNorm": "use GroupNorm or LayerNorm, or fold it into the layer before it",
    "InstanceNorm": "use GroupNorm with a group for each channel",
    "LSTM": "use convolutions or attention",
    "GRU": "use convolutions or attention",
    "RNN": "use convolutions or attention",
    "MultiheadAttention": "use linear layers and torch.nn.functional.scaled_dot_product_attention",
    "Transformer": "build it of linear layers, LayerNorm and torch.nn.functional.scaled_dot_product_attention",
    "ConvTranspose": "use nearest-neighbour Upsample and a convolution",
    "MaxPool": "use AvgPool2d(2, ceil_mode=True)",
    "Adaptive": "use AvgPool2d(2, ceil_mode=True)",
    "Conv3d": "use Conv1d or Conv2d",
    "GLU": "use SiLU, ReLU or GELU, and a product",
    "ReLU": "use SiLU, ReLU or GELU",
    "ELU": "use SiLU, ReLU or GELU",
    "Hard": "use SiLU, ReLU or GELU",
    "Soft": "use SiLU, ReLU or GELU",
    "Mish": "use SiLU, ReLU or GELU",
    "PReLU": "use SiLU, ReLU or GELU",
}


def unsupported(model: nn.Module, path: str = "") -> list[str]:
    """What of a foreign network has no operation: a sentence for each module, with its path, type and a way out.

    Modules that hold others are looked into; what they compute themselves, in functions rather than modules, cannot be
    seen and is theirs to answer for.  path: of the network within a larger one.
    """
    obstacle = _obstacle(model)
    if obstacle:
        return [f"{path or 'the network'}: {obstacle}"]
    inner = ((f"{path}.{name}" if path else name, child) for name, child in model.named_children())
    return [sentence for name, child in inner for sentence in unsupported(child, name)]


def _obstacle(module: nn.Module) -> str | None:
    kind = type(module)
    if kind.__module__.startswith("torch.") and kind.__name__.startswith(("MultiheadAttention", "Transformer")):
        return f"{kind.__name__} is not supported; {_hint(kind.__name__)}"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return _conv_obstacle(module)
    if isinstance(module, nn.AvgPool2d):
        plain = (module.kernel_size, module.stride, module.padding) in ((2, 2, 0), ((2, 2), (2, 2), 0))
        return None if plain else "AvgPool2d is supported with squares of 2; use AvgPool2d(2, ceil_mode=True)"
    if isinstance(module, nn.Upsample):
        plain = module.mode == "nearest"
        return None if plain else f"Upsample of mode {module.mode!r} is not supported; use mode 'nearest'"
    if (
        kind in _PLAIN
        or next(module.children(), None) is not None
        or isinstance(module, (nn.ModuleList, nn.ModuleDict))
    ):
        return None
    if isinstance(module, nn.Sequential):
        return None  # an empty one
    if not kind.__module__.startswith("torch."):
        return f"{kind.__name__} is not known; build it of Linear, Conv1d, Conv2d, norms and SiLU, ReLU or GELU"
    return f"{kind.__name__} is not supported; {_hint(kind.__name__)}"


def _hint(name: str) -> str:
    found = [hint for part, hint in _HINTS.items() if part in name]
    return found[0] if found else "use Linear, Conv1d, Conv2d, norms, attention and SiLU, ReLU or GELU"


def _conv_obstacle(layer: nn.Conv1d | nn.Conv2d) -> str | None:
    kind = type(layer).__name__
    if layer.padding_mode != "zeros":
        return f"{kind} with padding_mode {layer.padding_mode!r} is not supported; use 'zeros'"
    if layer.groups != 1:
        return f"{kind} with {layer.groups} groups is not supported; use groups=1"
    if set(layer.stride) != {1}:
        return f"{kind} with stride {layer.stride} is not supported; use AvgPool2d(2, ceil_mode=True) and stride 1"
    if len(set(layer.dilation)) != 1:
        return f"{kind} with dilation {layer.dilation} is not supported; use one for both directions"
    spans = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    if not isinstance(layer.padding, str) and any(2 * int(p) != s for p, s in zip(layer.padding, spans, strict=True)):
        return f"{kind} with padding {layer.padding} changes the size of a map; use padding='same'"
    if layer.padding == "valid" and any(spans):
        return f"{kind} with padding 'valid' changes the size of a map; use padding='same'"
    return None
