"""Windows of images and a perceptron in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ardm.ans import Ints
from ardm.bundle import Bundle
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples, Scales, along_orders
from ardm.export.coding import as_images, coding_cells, coding_order
from ardm.export.parts import digits_of, expected, trunk_of
from ardm.export.perceptron import PLACED, Make, PerceptronExport, Stem, affine, first_matrix
from ardm.export.precision import Precision
from ardm.export.quantise import Floats
from ardm.model import Model
from ardm.nets.local import FRACTION, UNIT, Local

REACH = 2047
"""The largest deviation from the neighbours' mean that the network sees, in eighths of grey levels of 256."""
SCALES = ((1, 0, 5), (3, 3, 3), (9, 6, 2))
"""Of each scale of windows: side of a cell, bits dropped from sums over it, bits by which the depth is raised."""


def local(model: Model, examples: Examples) -> Make:
    """The exporter of networks with windows of images."""
    return _exporter(model).maker(examples)


def measured(bundle: Bundle, items: Tensor, precision: Precision) -> dict[str, Scales]:
    """The scales of the layers inside the network, by name; items as for `export`."""
    examples = Examples(as_images(items), coding_cells(bundle, coding_order(bundle)))
    by = _exporter(bundle.model).scales(along_orders(bundle.model, examples), precision)
    return {name: by[layer] for name, layer in bundle.model.named_modules() if layer in by}


def _exporter(model: Model) -> PerceptronExport:
    trunk, digits = expected(trunk_of(model), Local, "the network"), digits_of(model)

    def stem(features: Floats, bits: Precision) -> Stem:
        build = Builder(trunk.channels, digits)
        read, own = _windows(build, trunk, digits)
        weight, bias = trunk.first.detach().double().numpy()[:, read.column], trunk.bias.detach().double().numpy()
        first = [
            first_matrix(build, read.name, read.scale, w, b, features, bits.first)
            for w, b in zip(weight, bias, strict=True)
        ]
        return Stem(build, affine(build, "stream", read.name, first), lambda o: (o, own), PLACED - FRACTION)

    return PerceptronExport(model, trunk.blocks, UNIT * (digits.classes - 1), stem)


@dataclass(frozen=True)
class _Read:
    """The input of the first layer: a value's name, and for each of its columns its scale and its column in `Local`."""

    name: str
    scale: Floats
    column: Ints


def _windows(build: Builder, trunk: Local, digits: Digits) -> tuple[_Read, str]:
    """The windows of a site, and the mean of its own channel."""
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
        whole = S * float(side * side)  # sums of digits, where Local takes means of their fraction
        scale += [np.full(n, finer * unit * whole / 2**drop), np.full(n, whole * 2**raised)]
        for _ in range(2):  # there cell after cell, here channel after channel
            column.append(start + np.arange(n).reshape(-1, C).T.ravel())
            start += n
    name = build.op("concat", "inputs", parts)
    return _Read(name, np.concatenate(scale), np.concatenate(column)), own


def _nearby(build: Builder, windows: list[str], trunk: Local, K: int) -> str:
    """The neighbours' mean: Local's weights, each scale of windows a thousand times and more lighter than the nearer."""
    near, far = trunk.near.double().numpy(), trunk.far.double().numpy()
    every = [near, far * 1e-3 / 9, far * 1e-6 / 81][: len(windows)]  # Local takes means of cells; these are sums
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
