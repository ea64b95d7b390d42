"""A trained model in floats to a program in integers (`exact`), which is what compressed files are made with.

Weights and activations are quantised after training: scales per channel from a few calibration states, 8 bits for both
inside a network, more where the certificate leaves room for them and they help.  `unsupported` says what stands in the
way of a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ardm import likelihood
from ardm.ans import GRID, Ints
from ardm.bundle import Bundle
from ardm.codec.model_coder import ModelCoder
from ardm.codec.registry import machine
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel, fingerprint
from ardm.exact.program import Program
from ardm.exact.reference import Reference
from ardm.export.builder import Builder
from ardm.export.builder import unsupported as obstacles
from ardm.export.quantise import Floats, Matrix, matrix, scales, watching
from ardm.export.sequences import UNIT as SOUND_UNIT
from ardm.export.sequences import nowhere, predictors, table, taps, window
from ardm.export.unet import unet
from ardm.heads import ChainHead, MixtureHead, ValueHead
from ardm.model import Model
from ardm.nets.local import FRACTION, UNIT, Local
from ardm.nets.table import Table
from ardm.nets.taps import Taps
from ardm.nets.unet import UNet
from ardm.nets.window import Window
from ardm.orders import OrderConfig, image_plan
from ardm.plan import Plan


class Scales(NamedTuple):
    """Of a layer: of its inputs (I,) and of its outputs (O,)."""

    given: Floats
    made: Floats


Largest = Callable[[nn.Module], Floats]
"""Of a linear layer: the largest |input| (I,) that calibration saw."""
Fixed = Mapping[str, Scales]
"""Scales by the name of a linear layer."""
AIM = 0.004
"""Bits a dimension that exactness may cost."""
RESIDUAL = 4
"""Bits that the residual stream has beyond an activation's."""


@dataclass(frozen=True)
class Precision:
    """Bits of weights and of activations inside the network, and of the weights that read pixels."""

    weights: int = 8
    activations: int = 8
    first: int = 14


SINGLE = 1 << 24
"""What sums inside the network stay within, so that float32 holds them."""
LOUD = 1 << 30
"""What they stay within in a network of sounds, which is small, and whose activations reach over five orders of magnitude."""
SEARCH = (Precision(8, 8), Precision(10, 10), Precision(12, 10), Precision(12, 12))
"""What is tried, one after the other."""


def affine(
    build: Builder, out: str, a: str, made: Matrix | Sequence[Matrix], lo: int | None = None, hi: int | None = None
) -> str:
    """Append a linear operation of one matrix, or of one for each channel; returns the name of its result."""
    if isinstance(made, Matrix):
        tensors = {"weight": made.weight, "bias": made.bias, "shift": made.shift}
    else:
        tensors = {"weight": np.stack([m.weight for m in made]), "bias": np.stack([m.bias for m in made])}
        tensors["shift"] = np.stack([m.shift for m in made])
    limits = {} if lo is None or hi is None else {"lo": lo, "hi": hi}
    return build.op("linear", out, [a], tensors, **limits)


@dataclass(frozen=True)
class Cost:
    """What exactness costs: bits a dimension of both models on the same items along the same order, and the error.

    error: standard error of the difference, between items.  exact_error: of `exact`.
    """

    exact: float
    model: float
    error: float
    exact_error: float

    @property
    def bits_per_dim(self) -> float:
        """The difference."""
        return self.exact - self.model


@dataclass(frozen=True)
class Exported:
    """A codec model, the bits it was made with, and what it costs on items it was not calibrated with."""

    codec: CodecModel
    precision: Precision
    cost: Cost


def export(
    bundle: Bundle,
    items: Tensor,
    precision: Precision | None = None,
    scales: Fixed | None = None,
    tried: Callable[[Exported], None] | None = None,
) -> Exported:
    """The codec model of a trained one.

    items: (N, C, H, W) integers, like those that will be coded; the first half calibrates, the cost is measured on the
    second.  precision: bits; by default the fewest of SEARCH that cost at most AIM bits a dimension.
    scales: by name of a layer, those of its inputs and outputs, where fine-tuning has fixed them.
    tried: called with every attempt.  Raises ArdmError where the network cannot be exported.
    """
    order = coding_order(bundle)
    orders = {calls: _when(bundle, order, calls) for calls in order.calls}
    items = items[:, None, None] if items.ndim == 2 else items  # a sequence is an item of one row
    half = len(items) // 2
    make = _maker(bundle.model, orders, items[:half], scales)
    for bits in [precision] if precision else SEARCH:
        program = make(bits)
        codec = CodecModel(
            program,
            orders,
            order.calls[0],
            bundle.content,
            order.lead % program.channels,
            {**bundle.card, "of": bundle.identity},
            alphabet=bundle.alphabet,
            schema=bundle.schema,
        )
        codec = replace(codec, golden=fingerprint(codec, Reference(program)))
        made = Exported(codec, bits, cost(bundle, codec, items[half:]))
        if tried is not None:
            tried(made)
        if made.cost.bits_per_dim <= AIM:
            break
    return made


def unsupported(bundle: Bundle) -> list[str]:
    """What stands in the way of exporting a model: a sentence for each obstacle; none: it can be exported."""
    if not isinstance(bundle.model.digits, Digits):
        return ["its values are maps of a user's own; only digits of a base can be exported"]
    trunk = getattr(bundle.model.body, "trunk", bundle.model.body)
    if isinstance(trunk, (Local, UNet, Window, Taps, Table)):
        return []
    return obstacles(trunk) or [f"a network of kind {type(trunk).__name__} is put together in a way that is not known"]


def measured(bundle: Bundle, items: Tensor, precision: Precision) -> dict[str, Scales]:
    """The scales of the layers inside the network, by their names, as `export` takes them.  items as there."""
    order = coding_order(bundle)
    orders = {calls: _when(bundle, order, calls) for calls in order.calls}
    items = items[:, None, None] if items.ndim == 2 else items
    largest = calibrate(bundle.model, orders, items)
    by = local_scales(bundle.model, _trunk(bundle.model), largest.__getitem__, precision)
    return {name: by[layer] for name, layer in bundle.model.named_modules() if layer in by}


def cost(bundle: Bundle, codec: CodecModel, items: Tensor, calls: int | None = None) -> Cost:
    """The code length of items (N, C, H, W) by the codec model, and by the model it was made of."""
    coder = ModelCoder(codec, calls or codec.default, machine(codec), 0)
    shape = items.shape[1:]
    plan = Plan(torch.from_numpy(codec.order(coder.calls, *shape[1:]).when).long()[None])
    D = math.prod(shape)
    floats = [likelihood.exact(bundle.model, plan, x.long()[None]).nats.item() / math.log(2) / D for x in items]
    letters = np.frombuffer(codec.alphabet, np.uint8) if codec.alphabet else np.arange(codec.program.classes)
    jobs = ([letters[x.numpy()]] for x in items)
    integers = [sum(part.bits for part in job) / D for job in coder.encode(jobs)]
    apart = np.subtract(integers, floats)
    return Cost(float(np.mean(integers)), float(np.mean(floats)), _standard_error(apart), _standard_error(integers))


def _standard_error(values: Sequence[float] | Floats) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def coding_order(bundle: Bundle) -> OrderConfig:
    """The order that a model codes along: its own, or Bayer's over its items for one that serves any order."""
    if bundle.order.fixed:
        return bundle.order
    if len(bundle.config.shape) == 1:
        sites = bundle.config.sites if bundle.config.trunk == "mlp" else 256
        return OrderConfig("raster", tuple(dict.fromkeys(-(-sites // n) for n in (1, 2, 4, 8))))
    C, *size = bundle.config.shape
    cell = 1 << max(1, (max(size) - 1).bit_length())
    stages, fewest = len(bundle.config.digits), bundle.order.delay * (C - 1) + 1
    calls = [stages * min(max(n, fewest), fewest - 1 + cell * cell) for n in (50, 100, 25, 12, 6)]
    return OrderConfig("bayer", tuple(dict.fromkeys(calls)), cell=cell)


def _when(bundle: Bundle, order: OrderConfig, calls: int) -> Ints:
    """(S, C, cell, cell)."""
    stages = len(bundle.config.digits)
    if len(bundle.config.shape) == 1:
        cell = calls if order.order == "raster" else order.cell
        line: Ints = image_plan(order, (cell,), calls, stages).when[0].numpy()
        return line[:, None, None]
    C = bundle.config.shape[0]
    found: Ints = image_plan(order, (C, order.cell, order.cell), calls, stages).when[0].numpy()
    return found


def calibrate(model: Model, orders: Mapping[int, Ints], items: Tensor) -> Mapping[nn.Module, Floats]:
    """The largest input of each linear layer, over all steps of all orders."""
    H, W = items.shape[2:]
    with torch.no_grad(), watching(model) as largest:
        for k, (calls, cell) in enumerate(orders.items()):
            y, x = np.arange(H) % cell.shape[2], np.arange(W) % cell.shape[3]
            when = torch.from_numpy(cell[:, :, y[:, None], x])
            for step in range(calls):
                few = items[(torch.arange(4, device="cpu") + 4 * step + k) % len(items)].long()
                depth = (when < step).sum(0).expand(len(few), -1, -1, -1)
                asked = (when == step).any(0).expand(len(few), -1, -1, -1)
                if asked.any():
                    model(model.digits.truncate(few, depth))[Sites.where(asked)]
        return {layer: largest(layer) for layer in model.modules() if isinstance(layer, nn.Linear)}


def _maker(
    model: Model, orders: Mapping[int, Ints], items: Tensor, fixed: Fixed | None
) -> Callable[[Precision], Program]:
    """What makes programs of some precision, calibrated once where that can be."""
    if isinstance(model.head, ChainHead):
        raise ArdmError("head chain cannot be exported: train with model.head=mixture, or with digits and a base")
    if isinstance(getattr(model.body, "trunk", None), UNet):
        return lambda bits: unet(model, items, bits, list(orders.values()))
    if isinstance(getattr(model.body, "trunk", None), Table):
        return lambda bits: table(model, items, bits)
    trunk, largest, names = _trunk(model), calibrate(model, orders, items), dict(model.named_modules())

    def make(bits: Precision) -> Program:
        by = local_scales(model, trunk, largest.__getitem__, bits)
        if fixed:
            by = {names[name]: scales for name, scales in fixed.items()}
        return _local(model, trunk, by, bits)

    return make


Trunk = Local | Window | Taps
"""What ends in residual blocks at asked sites."""


def _trunk(model: Model) -> Trunk:
    trunk = getattr(model.body, "trunk", None)
    if not isinstance(trunk, (Local, Window, Taps)) or not isinstance(model.digits, Digits):
        raise ArdmError(f"a network of kind {type(trunk).__name__} cannot be exported")
    return trunk


# --- windows and a perceptron -----------------------------------------------------------------------------------------

PLACED = 8
"""Bits after the point of a component's mean."""
REACH = 2047
"""The largest deviation from the neighbours' mean that the network is told, in eighths of grey levels of 256."""
SCALES = ((1, 0, 5), (3, 3, 3), (9, 6, 2))
"""Of each scale of windows: side of a cell, bits dropped from sums over it, bits by which what is known is raised."""


@dataclass(frozen=True)
class _Inputs:
    """What the first layer reads: a value, and of each of its columns the scale and the column in floats."""

    name: str
    scale: Floats
    column: Ints


def _windows(build: Builder, trunk: Local, digits: Digits) -> tuple[_Inputs, str]:
    """The windows of a site in integers, and the mean of its own channel."""
    C, S, K = trunk.channels, len(digits), digits.classes
    unit = UNIT * (K - 1)  # Local's unit, in V
    value = "value" if S == 1 else build.op("product", "spoken", ["value", "depth"])
    maps = build.op("concat", "maps", [value, "depth"])
    used = SCALES if trunk.rings else SCALES[:1]
    radii = [trunk.radius] + [trunk.rings] * (len(used) - 1)
    grids = [maps] + [build.op("box", f"box{side}", [maps], side=side) for side, _, _ in used[1:]]
    windows = [
        build.op("window", f"window{side}", [grid], radius=radius, step=side)
        for (side, _, _), grid, radius in zip(used, grids, radii, strict=True)
    ]
    mean = _nearby(build, windows, trunk, K)
    own = build.op("pick", "own", [mean])
    parts = [mean, build.op("less", "offset", [mean, own])]
    finer = 2**FRACTION
    scale, column, start = [np.full(C, finer * (K - 1.0)), np.full(C, finer * unit)], [np.arange(2 * C)], 2 * C
    for (side, drop, raised), radius, around in zip(used, radii, windows, strict=True):
        n = C * (2 * radius + 1) ** 2
        limit = REACH * S * side * side >> drop
        integers: dict[str, Any] = {"fraction": FRACTION, "by": drop, "limit": limit, "known": raised}
        parts.append(build.op("contrast", f"contrast{side}", [around, mean], **integers))
        whole = S * float(side * side)  # sums of digits known, where Local takes means of their fraction
        scale += [np.full(n, finer * unit * whole / 2**drop), np.full(n, whole * 2**raised)]
        for _ in range(2):  # there cell after cell, here channel after channel
            column.append(start + np.arange(n).reshape(-1, C).T.ravel())
            start += n
    name = build.op("concat", "inputs", parts)
    return _Inputs(name, np.concatenate(scale), np.concatenate(column)), own


def _nearby(build: Builder, windows: list[str], trunk: Local, K: int) -> str:
    """The neighbours' mean: Local's weights, each scale of windows a thousand times and more lighter than the nearer."""
    near, far = trunk.near.double().numpy(), trunk.far.double().numpy()
    every = [near, far * 1e-3 / 9, far * 1e-6 / 81][: len(windows)]  # Local takes means of cells, and here are sums
    for bits in (13, 11, 9, 7, 5):  # values of more than 8 bits leave room for coarser weights
        apart = 11 if bits > 11 else 9
        rises = [apart * (len(windows) - 1 - i) for i in range(len(windows))]
        weights = {
            f"weight{i}": np.rint(w * 2.0 ** (bits + rises[0] - rise))
            for i, (w, rise) in enumerate(zip(every, rises, strict=True))
        }
        settings: dict[str, Any] = {f"rise{i}": rise for i, rise in enumerate(rises)}
        try:
            return build.op(
                "nearby", "mean", windows, weights, limit=(K - 1) << FRACTION, fraction=FRACTION, **settings
            )
        except ArdmError as error:
            last = error
    raise last


def local_scales(model: Model, trunk: Trunk, largest: Largest, precision: Precision) -> dict[nn.Linear, Scales]:
    """By linear layer: the scales of its inputs and of its outputs; the head's are those of its units."""
    top = (1 << precision.activations) - 1
    blocks = [(block["up"], block["down"]) for block in trunk.blocks]  # type: ignore[index]
    output: nn.Linear = model.head.out  # type: ignore[assignment]
    features = scales([largest(layer) for layer in [*(up for up, _ in blocks), output]], top)
    found = {output: Scales(features, _units(model))}
    for up, down in blocks:
        hidden = scales([largest(down)], top)
        found |= {up: Scales(features, hidden), down: Scales(hidden, features * 2**RESIDUAL)}
    return found


def _local(model: Model, trunk: Trunk, by: Mapping[nn.Linear, Scales], precision: Precision) -> Program:
    """The whole network: what is near, a first layer (of each channel of images), residual blocks, head."""
    digits: Digits = model.digits  # type: ignore[assignment]
    features = by[model.head.out].given  # type: ignore[index]
    make = features * 2**RESIDUAL
    top = (1 << precision.activations) - 1
    peak = LOUD if isinstance(trunk, Taps) else SINGLE
    if isinstance(trunk, Local):
        build = Builder(trunk.channels, digits)
        read, own = _windows(build, trunk, digits)
        weight, bias = trunk.first.double().numpy()[:, read.column], trunk.bias.double().numpy()
        bias = bias + 0.5 / features  # so that the floor of the stream rounds
        first: Any = [
            matrix(w, b, build.size(read.name), read.scale, make, precision.first, 4 * SINGLE)
            for w, b in zip(weight, bias, strict=True)
        ]
        h = affine(build, "stream", read.name, first)
    else:
        build, near = Builder(1, digits), ""
        if isinstance(trunk, Taps):
            inputs, scale, near = taps(build, trunk)
        else:
            inputs, scale = window(build, trunk, digits.classes)
        weight, bias = trunk.first.weight.double().numpy().T, trunk.first.bias.double().numpy() + 0.5 / features
        first = matrix(weight, bias, build.size(inputs), scale, make, precision.first, 4 * SINGLE)
        h, own = affine(build, "stream", inputs, first), near
    for i, block in enumerate(trunk.blocks):
        a = build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=0, hi=top)
        u = _linear(build, f"up{i}", a, block["up"], by, precision.weights, (0, top), peak)  # type: ignore[index]
        d = _linear(build, f"down{i}", u, block["down"], by, precision.weights, (), peak)  # type: ignore[index]
        h = build.op("add", f"stream{i + 1}", [h, d])
    a = build.op("shift", "features", [h], by=RESIDUAL, lo=0, hi=top)
    return _head(build, model, a, own, by, precision.first)


def _unit(model: Model) -> float:
    """What means and scales of a mixture are predicted in, in V."""
    sound = isinstance(getattr(model.body, "trunk", None), Taps)
    return SOUND_UNIT if sound else UNIT * (model.digits.classes - 1)


def _linear(
    build: Builder,
    out: str,
    a: str,
    layer: nn.Linear,
    by: Mapping[nn.Linear, Scales],
    bits: int,
    within: Any = (),
    peak: int = SINGLE,
) -> str:
    weight, bias = layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy()
    return affine(build, out, a, matrix(weight, bias, build.size(a), *by[layer], bits, peak), *within)


# --- heads ------------------------------------------------------------------------------------------------------------


def _units(model: Model) -> Floats:
    """The units of the outputs of the last layer: 32nds of a nat; for the means of a mixture, levels with PLACED bits."""
    layer: nn.Linear = model.head.out  # type: ignore[assignment]
    if not isinstance(model.head, MixtureHead):
        return np.full(layer.out_features, float(GRID))
    unit = _unit(model)
    return np.repeat([float(GRID), unit * 2**PLACED, float(GRID)], model.head.components)


def _head(build: Builder, model: Model, a: str, own: str, by: Mapping[nn.Linear, Scales], bits: int) -> Program:
    """The last layer in the units of its head, and the head.

    own: the mean of the site's channel; of a sound, the samples near the site.
    """
    layer: nn.Linear = model.head.out  # type: ignore[assignment]
    o = _linear(build, "output", a, layer, by, bits, (-(1 << 22), 1 << 22), 1 << 53)
    if not isinstance(model.head, MixtureHead):
        build.op("values" if isinstance(model.head, ValueHead) else "softmax", "head", [o])
        return build.program()
    M, K = model.head.components, model.head.digits.classes
    unit, rise = _unit(model), PLACED - FRACTION
    trunk = model.body.trunk
    if isinstance(trunk, Taps):
        o = build.op("add", "placed", [o, predictors(build, trunk, own, K, PLACED)])
        own, rise = nowhere(build, own), 0
    places = np.rint((np.linspace(-1.5, 1.5, M) if M > 1 else np.zeros(1)) * unit * 2**PLACED)  # MixtureHead's
    fine = max(0, min(48, 30 - math.ceil(math.log2(math.exp(7.0) / unit))))
    clipped = np.clip(np.arange(-8 * GRID, 8 * GRID + 1) / GRID - 0.5, -7.0, 7.0)
    tensors = {"inverse": np.rint(np.exp(-clipped) / unit * 2.0**fine), "places": places}
    build.op(
        "mixture", "head", [o, own], tensors,
        components=M, fraction=PLACED, bits=fine, rise=rise, limit=(2 * K) << PLACED,
    )  # fmt: skip
    return build.program()
