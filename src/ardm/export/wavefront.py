"""Causal networks along wavefronts in integers.

    stream ← stream + down(relu(up(relu(stream) at the taps)))

The trunk has a row for every place; the layer of a channel and the head have one for every site.  All blocks read the
stream in one scale for each plane, and weights absorb the scales.  What a matrix reads stays below 2^15 and its sums
below 2^24, so that float32 and products of 16 bits compute it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.ans import Ints
from ardm.digits import Digits
from ardm.exact.program import Program
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples, Scales
from ardm.export.coding import as_images
from ardm.export.parts import digits_of, expected, output_of, trunk_of
from ardm.export.perceptron import PLACED, RESIDUAL, SINGLE, Make, affine, mixture, units
from ardm.export.precision import Precision
from ardm.export.quantise import Floats, Matrix, matrix, scales
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
    export, layers = WavefrontExport(model), dict(model.named_modules())
    fixed = {layers[name]: scales for name, scales in examples.scales.items()}
    seen = None if fixed else export.seen(examples.items)
    return lambda bits: export.program(export.scales(seen, bits) if seen else fixed, bits)


def measured(model: Model, items: Tensor, precision: Precision) -> dict[str, Scales]:
    """The scales of the trunk, its blocks and the last layer, by name; items as for `export`."""
    export = WavefrontExport(model)
    by = export.scales(export.seen(as_images(items)), precision)
    return {name: by[layer] for name, layer in model.named_modules() if layer in by}


@dataclass
class Seen:
    """The largest values of each plane: of the stream (W,), inside each block (V,), and of the channels' layers (W,)."""

    stream: Floats
    inner: list[Floats]
    lifted: Floats


@dataclass(frozen=True)
class WavefrontExport:
    """The exporter of one model.  Raises ArdmError for other trunks and heads."""

    model: Model

    @cached_property
    def trunk(self) -> Wavefront:
        """The network."""
        return expected(trunk_of(self.model), Wavefront, "the network")

    @cached_property
    def head(self) -> MixtureHead:
        """The head."""
        return expected(self.model.head, MixtureHead, "the head")

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks of the network."""
        return [expected(block, Block, "a block of the network") for block in self.trunk.blocks]

    @property
    def digits(self) -> Digits:
        """The alphabet."""
        return digits_of(self.model)

    # --- scales ---------------------------------------------------------------------------------------------------------

    def seen(self, items: Tensor) -> Seen:
        """The ranges on items (N, C, H, W), and on each channel of some of them as a plane on its own."""
        C, last = self.trunk.channels, self.digits.classes - 1
        planes = items[: len(items) // 4] if C > 1 else items[:0]
        grey = [planes[:, c : c + 1].expand(-1, C, -1, -1) for c in range(C)]
        every, together = torch.cat([items, *grey]), max(1, PIXELS // (items.shape[2] * items.shape[3]))
        with torch.no_grad():
            parts = [self._seen(part.float() * (2 / last) - 1) for part in every.split(together)]
        return Seen(
            np.max([part.stream for part in parts], axis=0),
            [np.max(block, axis=0) for block in zip(*(part.inner for part in parts), strict=True)],
            np.max([part.lifted for part in parts], axis=0),
        )

    def _seen(self, value: Tensor) -> Seen:
        """The same on values (B, C, H, W) in [−1, 1]."""
        H, W = value.shape[2:]
        y, x = torch.cartesian_prod(*(torch.arange(n, device=value.device) for n in (H, W))).unbind(1)
        h = self.trunk.stream(value, y, x)[0]
        stream, inner = [_largest(h)], []
        for block in self.blocks:
            near = at_taps(F.relu(h).unflatten(1, (H, W)), block).flatten(1, 2)
            inner.append(_largest(F.linear(near, block.up, block.ub)))
            h = block.rows(h, near)
            stream.append(_largest(h))
        return Seen(np.max(stream, axis=0), inner, _largest(self.trunk.everywhere(value).hidden))

    def scales(self, seen: Seen, bits: Precision) -> dict[nn.Module, Scales]:
        """The scales of the stream, as blocks read and make it; of what is inside each block; and of the last layer."""
        output, top = output_of(self.model), bits.top // ROOM
        features = scales([seen.stream], top)
        made = units(self.head, output.out_features, self._unit)
        found: dict[nn.Module, Scales] = {
            self.trunk: Scales(features, features * 2**RESIDUAL),
            output: Scales(scales([seen.lifted], top), made),
        }
        each = zip(self.blocks, seen.inner, strict=True)
        return found | {block: Scales(features, scales([inner], top)) for block, inner in each}

    @property
    def _unit(self) -> float:
        """The unit of deviations, in V."""
        return UNIT * (self.digits.classes - 1)

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
        weight = self.trunk.near.double().numpy()
        room = math.floor(math.log2(SUM / (2 * (K - 1 << FRACTION) * weight.sum())))
        mean = build.op(
            "nearby", "mean", [near], {"weight0": np.rint(weight * 2.0 ** min(room, OPERAND - 1))},
            rise0=0, fraction=FRACTION, limit=K - 1 << FRACTION,
        )  # fmt: skip
        limit, drop = self._deviation
        read = build.op("contrast", "inputs", [near, mean], fraction=FRACTION, by=drop, limit=limit, known=KNOWN)
        apart, flag = (
            np.full(C * len(cells), self._unit * 2.0 ** (FRACTION - drop)),
            np.full(C * len(cells), 2.0**KNOWN),
        )
        flags = np.zeros((C, len(cells), self.trunk.width))  # the flags of all channels are equal
        flags[0] = _floats(self.trunk.known).T
        first = np.concatenate(
            [_floats(self.trunk.first).reshape(self.trunk.width, -1).T, flags.reshape(-1, self.trunk.width)]
        )
        bias = _floats(self.trunk.bias) + 0.5 / by.given  # so that the floor of the stream rounds
        made = matrix(first, bias, build.size(read), np.concatenate([apart, flag]), by.made, bits.first)
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
        """The stream after block i.  It is clamped where it could leave the exact range of float32."""
        (features, hidden), stream = by[block], by[self.trunk].made
        a = build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=0, hi=bits.top)
        near = build.op("causal_taps", f"near{i}", [a], {"cells": np.array(block.taps)})
        reads = np.tile(features, len(block.taps))
        up = _matrix(build, near, block.up, block.ub, reads, hidden, bits.weights)
        u = affine(build, f"up{i}", near, up, lo=0, hi=bits.top)
        d = affine(build, f"down{i}", u, _matrix(build, u, block.down, block.db, hidden, stream, bits.weights))
        h = build.op("add", f"stream{i + 1}", [h, d])
        if build.size(h).max() < SINGLE // 2:
            return h
        return build.op("shift", f"kept{i + 1}", [h], by=0, lo=-SINGLE // 2, hi=SINGLE // 2)

    def _sites(self, build: Builder, features: str, mean: str, by: Mapping[nn.Module, Scales], bits: Precision) -> None:
        """The layer of each channel, and the head, from the features and means of all places."""
        trunk, output, C = self.trunk, output_of(self.model), self.trunk.channels
        limit, drop = self._deviation
        shown = build.op("earlier", "shown", ["value", mean], fraction=FRACTION, by=0, limit=limit << drop)
        read = build.op("shift", "apart", [shown], by=drop) if drop else shown
        joined = build.op("concat", "joined", [build.op("at_site", "own", [features]), read])
        reads = np.concatenate([by[trunk].given, np.full(C, self._unit * 2.0 ** (FRACTION - drop))])
        before = torch.ones(C, C, device="cpu").tril(-1)  # what a channel may read
        lifts = torch.cat([trunk.lift, trunk.own * before[:, None]], 2)
        each = [
            _matrix(build, joined, weight, bias, reads, by[output].given, bits.first)
            for weight, bias in zip(lifts, trunk.lift_bias, strict=True)
        ]
        z = affine(build, "lifted", joined, each, lo=0, hi=bits.top)
        last = _matrix(build, z, output.weight, output.bias, *by[output], bits.first)
        o = affine(build, "output", z, last, lo=-(1 << 22), hi=1 << 22)
        mixture(build, self.head, self._unit, o, self._centre(build, mean, shown), PLACED - FRACTION)

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


def _largest(rows: Tensor) -> Floats:
    """(P,): the largest positive values of rows (…, P); what comes next is a relu."""
    found: Floats = F.relu(rows).flatten(0, -2).amax(0).double().numpy()
    return found


def _floats(x: Tensor) -> Floats:
    found: Floats = x.detach().double().numpy()
    return found


def _matrix(build: Builder, a: str, weight: Tensor, bias: Tensor, reads: Floats, makes: Floats, bits: int) -> Matrix:
    """The integers of a layer, weight (O, I) and bias (O,)."""
    size: Ints = build.size(a)
    return matrix(_floats(weight).T, _floats(bias), size, reads, makes, bits)
