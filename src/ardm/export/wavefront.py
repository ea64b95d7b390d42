"""Causal networks along wavefronts in integers.

    stream ← stream + down(relu(up(relu(stream) at the taps)))

The trunk has a row for every place; the layer of a channel and the head have one for every site.  All blocks read the
stream in one scale for each plane, and weights absorb the scales.  What a matrix reads stays below 2^15 and its sums
below 2^24, so that float32 and products of 16 bits compute it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.errors import ArdmError
from ardm.exact.program import Program
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples, Scales
from ardm.export.coding import as_images
from ardm.export.heads import PLACED, mixture, units
from ardm.export.parts import digits_of, expected, output_of, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import floats, scales
from ardm.export.stream import RESIDUAL, SINGLE, Seen, affine, dense, kept, largest, rounding
from ardm.heads import MixtureHead
from ardm.model import Model
from ardm.nets.neighbours import FRACTION, UNIT
from ardm.nets.wavefront import SLOPE, Block, Wavefront

SUM = (1 << 31) - 1
"""The largest sum in the neighbours' mean: 32 bits hold it."""
OPERAND = 15
"""Bits of what a matrix reads, without the sign."""
ROOM = 2
"""How much further than on the pictures that calibrate activations may go: drawings reach further than photographs."""
KNOWN = 5
"""Bits by which the flags of known cells are raised."""
PIXELS = 1 << 13
"""Pixels that run through the network together, unless a picture has more."""


def wavefront(model: Model, examples: Examples) -> Make:
    """The exporter of causal networks along wavefronts."""
    export = WavefrontExport(model)
    if examples.scales:
        fixed = _fixed(export, model, examples.scales)
        return lambda bits: export.program(fixed, bits)
    seen = export.seen(examples.items)
    return lambda bits: export.program(export.scales(seen, bits), bits)


def _fixed(export: WavefrontExport, model: Model, scales: Mapping[str, Scales]) -> dict[nn.Module, Scales]:
    """The scales of layers by name, by layer.  Raises ArdmError where they belong to another network."""
    layers = dict(model.named_modules())
    found = {layers[name]: each for name, each in scales.items() if name in layers}
    if len(found) < len(scales) or {layer: (len(s.given), len(s.made)) for layer, s in found.items()} != export.sizes:
        raise ArdmError(
            "these scales belong to another network: layers or widths differ; use those of this one's own run"
        )
    return found


def measured(model: Model, items: Tensor, precision: Precision) -> dict[str, Scales]:
    """The scales of the trunk, its blocks and the last layer, by name; items as for `export`."""
    export = WavefrontExport(model)
    by = export.scales(export.seen(as_images(items)), precision)
    return {name: by[layer] for name, layer in model.named_modules() if layer in by}


class WavefrontExport:
    """The exporter of one model.  Raises ArdmError for other trunks and heads."""

    def __init__(self, model: Model) -> None:
        self.trunk = expected(trunk_of(model), Wavefront, "the network")
        self.head = expected(model.head, MixtureHead, "the head")
        self.blocks = [expected(block, Block, "a block of the network") for block in self.trunk.blocks]
        self.output, self.digits = output_of(model), digits_of(model)
        self.unit = UNIT * (self.digits.classes - 1)
        """The unit of deviations, in V."""

    @property
    def sizes(self) -> dict[nn.Module, tuple[int, int]]:
        """How many inputs and outputs have a scale, by layer."""
        W, output = self.trunk.width, self.output
        return {self.trunk: (W, W), output: (W, output.out_features)} | {b: (W, len(b.up)) for b in self.blocks}

    # --- scales ---------------------------------------------------------------------------------------------------------

    def seen(self, items: Tensor) -> Seen:
        """The ranges on items (N, C, H, W), and on each channel of some of them as a plane on its own."""
        C, last = self.trunk.channels, self.digits.classes - 1
        planes = items[: len(items) // 4] if C > 1 else items[:0]
        grey = [planes[:, c : c + 1].expand(-1, C, -1, -1) for c in range(C)]
        every, together = torch.cat([items, *grey]), max(1, PIXELS // (items.shape[2] * items.shape[3]))
        with torch.no_grad():
            return Seen.joined(self._seen(part.float() * (2 / last) - 1) for part in every.split(together))

    def _seen(self, value: Tensor) -> Seen:
        """The same on values (B, C, H, W) in [−1, 1]; all of them are read through a relu."""
        H, W = value.shape[2:]
        y, x = torch.cartesian_prod(*(torch.arange(n, device=value.device) for n in (H, W))).unbind(1)
        h = self.trunk.stream(value, y, x)[0]
        stream, inner = [largest(F.relu(h))], []
        for block in self.blocks:
            near = at_taps(F.relu(h).unflatten(1, (H, W)), block).flatten(1, 2)
            inner.append(largest(F.relu(F.linear(near, block.up, block.ub))))
            h = block.rows(h, near)
            stream.append(largest(F.relu(h)))
        return Seen(np.max(stream, axis=0), inner, largest(self.trunk.everywhere(value).hidden))

    def scales(self, seen: Seen, bits: Precision) -> dict[nn.Module, Scales]:
        """The scales of the stream, as blocks read and make it; of what is inside each block; and of the last layer."""
        output, top = self.output, bits.top // ROOM
        features = scales([seen.stream], top)
        made = units(self.head, output.out_features, self.unit)
        found: dict[nn.Module, Scales] = {
            self.trunk: Scales(features, features * 2**RESIDUAL),
            output: Scales(scales([seen.lifted], top), made),
        }
        each = zip(self.blocks, seen.inner, strict=True)
        return found | {block: Scales(features, scales([inner], top)) for block, inner in each}

    # --- the program ----------------------------------------------------------------------------------------------------

    def program(self, by: Mapping[nn.Module, Scales], bits: Precision) -> Program:
        """The whole network."""
        build = Builder(self.trunk.channels, self.digits, wave=SLOPE)
        mean, h = self._stem(build, by[self.trunk], bits)
        for i, block in enumerate(self.blocks):
            h = self._block(build, i, h, block, by, bits)
        features = build.op("shift", "features", [h], by=RESIDUAL, lo=0, hi=bits.top)
        self._sites(build, features, mean, by, bits)
        return build.program()

    def _stem(self, build: Builder, by: Scales, bits: Precision) -> tuple[str, str]:
        """The neighbours' mean, and the stream before the blocks."""
        C, K, cells = self.trunk.channels, self.digits.classes, np.array(self.trunk.cells)
        maps = build.op("concat", "maps", ["value", "depth"])
        near = build.op("causal_window", "near", [maps], {"cells": cells})
        weight = floats(self.trunk.near)
        room = math.floor(math.log2(SUM / (2 * (K - 1 << FRACTION) * weight.sum())))
        mean = build.op(
            "nearby", "mean", [near], {"weight0": np.rint(weight * 2.0 ** min(room, OPERAND - 1))},
            rise0=0, fraction=FRACTION, limit=K - 1 << FRACTION,
        )  # fmt: skip
        limit, drop = self._deviation
        read = build.op("contrast", "inputs", [near, mean], fraction=FRACTION, by=drop, limit=limit, known=KNOWN)
        apart, flag = self.unit * 2.0 ** (FRACTION - drop), 2.0**KNOWN
        reads = np.repeat([apart, flag], C * len(cells))
        flags = F.pad(self.trunk.known, (0, (C - 1) * len(cells)))  # the flags of all channels are equal
        every = torch.cat([self.trunk.first.flatten(1), flags], 1)
        made = dense(build, read, every, rounding(self.trunk.bias, by.given), reads, by.made, bits.first)
        return mean, affine(build, "stream", read, made)

    @property
    def _deviation(self) -> tuple[int, int]:
        """The largest deviation that matrices read, and the bits that it drops to fit OPERAND bits."""
        most = 2 * (self.digits.classes - 1) << FRACTION
        drop = max(0, most.bit_length() - OPERAND)
        return most >> drop, drop

    def _block(
        self, build: Builder, i: int, h: str, block: Block, by: Mapping[nn.Module, Scales], bits: Precision
    ) -> str:
        """The stream after block i."""
        (features, hidden), stream = by[block], by[self.trunk].made
        a = build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=0, hi=bits.top)
        near = build.op("causal_taps", f"near{i}", [a], {"cells": np.array(block.taps)})
        reads = np.tile(features, len(block.taps))
        up = dense(build, near, block.up, block.ub, reads, hidden, bits.weights)
        u = affine(build, f"up{i}", near, up, lo=0, hi=bits.top)
        d = affine(build, f"down{i}", u, dense(build, u, block.down, block.db, hidden, stream, bits.weights))
        return kept(build, f"kept{i + 1}", build.op("add", f"stream{i + 1}", [h, d]), SINGLE // 2)

    def _sites(self, build: Builder, features: str, mean: str, by: Mapping[nn.Module, Scales], bits: Precision) -> None:
        """The layer of each channel, and the head, from the features and means of all places."""
        trunk, output, C = self.trunk, self.output, self.trunk.channels
        limit, drop = self._deviation
        shown = build.op("earlier", "shown", ["value", mean], fraction=FRACTION, by=0, limit=limit << drop)
        read = build.op("shift", "apart", [shown], by=drop) if drop else shown
        joined = build.op("concat", "joined", [build.op("at_site", "own", [features]), read])
        reads = np.concatenate([by[trunk].given, np.full(C, self.unit * 2.0 ** (FRACTION - drop))])
        before = torch.ones(C, C, device="cpu").tril(-1)  # what a channel may read
        lifts = torch.cat([trunk.lift, trunk.own * before[:, None]], 2)
        each = [
            dense(build, joined, weight, bias, reads, by[output].given, bits.first)
            for weight, bias in zip(lifts, trunk.lift_bias, strict=True)
        ]
        z = affine(build, "lifted", joined, each, lo=0, hi=bits.top)
        last = dense(build, z, output.weight, output.bias, *by[output], bits.first)
        o = affine(build, "output", z, last, lo=-(1 << 22), hi=1 << 22)
        mixture(build, self.head, self.unit, o, self._centre(build, mean, shown), PLACED - FRACTION)

    def _centre(self, build: Builder, mean: str, shown: str) -> str:
        """The mean of the site's channel, and the deviation of the channel before it."""
        C, none = self.trunk.channels, [np.zeros(1, dtype=np.int64)]
        both = build.op("concat", "places", [build.op("at_site", "means", [mean]), shown])
        weight = np.concatenate([np.eye(C), np.eye(C, k=-1)], 1)
        tensors: dict[str, Any] = {"weight": weight[..., None], "bias": none * C, "shift": none * C}
        return build.op("linear", "centre", [both], tensors)


def at_taps(a: Tensor, block: Block) -> Tensor:
    """The rows of a map (B, H, W', P) at the taps of each place, tap after tap: (B, H, W', taps · P); 0 outside."""
    up, left, right = (max(abs(d) for d in side) for side in _sides(block))
    H, W = a.shape[1:3]
    padded = F.pad(a, (0, 0, left, right, up, 0))
    return torch.cat([padded[:, up + dy : up + dy + H, left + dx : left + dx + W] for dy, dx in block.taps], 3)


def _sides(block: Block) -> tuple[list[int], list[int], list[int]]:
    """The distances that taps reach up, to the left and to the right."""
    rows, columns = zip(*block.taps, strict=True)
    return list(rows), [min(dx, 0) for dx in columns], [max(dx, 0) for dx in columns]
