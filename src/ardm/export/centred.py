"""The U-Net around the known neighbours' mean in integers: convolutions, relu, means over squares, and tables.

    mean       of the known neighbours, an integer as in the network, and the deviations of the window from it, exact
    stream     what blocks add to: RESIDUAL bits more than an activation, and one scale for each plane of a resolution
    matrices   read activations, make streams; those between resolutions read streams, as finely as pixels are read

The floor that takes the stream to an activation rounds to the nearest, because the stream is HALF a unit too large.
Pictures may have any size.  At the sites asked, numbers have RESIDUAL bits more than an activation: there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.exact.program import Program
from ardm.export.builder import Layers, Value
from ardm.export.calibrate import Examples, Moments, Ranges, moments_of, states, watched
from ardm.export.heads import PLACED, mixture, softmax, units
from ardm.export.neighbours import Neighbours
from ardm.export.parts import digits_of, expected, output_of, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import Floats, floats, scales
from ardm.export.stream import RESIDUAL, SINGLE
from ardm.heads import MixtureHead
from ardm.model import Model
from ardm.nets.centred import REACH, Block, Centred, Standardised
from ardm.nets.neighbours import FRACTION, unit

HALF = 1 << RESIDUAL - 1
"""Half an activation, in units of the stream."""
FINE = 1 << 10
"""The integer for the largest mean, at least: deviations of few levels would need weights too large for the others'."""
ROWS = 13
"""Bits of the numbers at the sites asked, which are few: one more than calibration needs."""
KNOWN = 1 << 8
"""The integer for a known digit, at the sites asked."""
LOG = 1 << 8
"""The integer for 1 nat, in logarithms of weights and spreads."""
SIDE = 2 * REACH + 1


def centred(model: Model, examples: Examples) -> Make:
    """The exporter of centred U-Nets without context.

    Raises ArdmError for another trunk, or one with context.
    """
    trunk = expected(trunk_of(model), Centred, "the network")
    if obstacle := context_obstacle(trunk):
        raise ArdmError(obstacle)
    seen = _calibrated(model, trunk, examples)
    return lambda bits: _Export(model, trunk, seen, bits).program()


def context_obstacle(trunk: nn.Module | None) -> str:
    """Why a network cannot be exported, if it is a centred one with context, as a sentence; "" otherwise."""
    conditional = isinstance(trunk, Centred) and any(
        isinstance(m, Block) and m.condition is not None for m in trunk.modules()
    )
    if not conditional:
        return ""
    return "a centred network with context cannot be exported, since files hold none: train without labels, vector and time"


# --- calibration --------------------------------------------------------------------------------------------------------


class Calibration(NamedTuple):
    """The ranges of all modules, and the moments of what the convolutions of blocks read."""

    ranges: Ranges
    moments: Moments


def _calibrated(model: Model, trunk: Centred, examples: Examples) -> Calibration:
    """Over states at random and along the orders, and over planes on their own in all channels."""
    layers = [conv for m in trunk.modules() if isinstance(m, Block) for conv in (m.conv1, m.conv2)]
    orders = list(examples.orders.values())
    every = states(model, examples.items, []) + (states(model, examples.items, orders) if orders else [])
    with torch.no_grad(), watched(model) as ranges, moments_of(layers) as moments:
        for n, state in enumerate(every):
            for one in (state, _alone(state, n % state.shape[0])):
                sites = Sites.where(one.depth < len(model.digits))
                if len(sites):
                    model(one).log_prob(sites, torch.zeros(len(sites), dtype=torch.long, device="cpu"))
    return Calibration(ranges, moments)


def _alone(state: Partial, channel: int) -> Partial:
    """A plane on its own: one channel in all channels."""
    value, depth = (x[:, channel : channel + 1].expand_as(x).contiguous() for x in (state.value, state.depth))
    return Partial(value, depth)


# --- the program --------------------------------------------------------------------------------------------------------


class Logs(NamedTuple):
    """Logarithms of the weight, in parts that add up but for an offset, and of the spread."""

    weight: Value
    parts: int
    offset: float
    spread: Value


class _Export:
    """The layers of one network."""

    def __init__(self, model: Model, trunk: Centred, seen: Calibration, bits: Precision) -> None:
        self.model, self.trunk, self.bits = model, trunk, bits
        self.ranges, self.moments = seen
        self.digits = digits_of(model)
        self.build = Layers(trunk.channels, self.digits, bits)
        K = self.digits.classes
        finer = FRACTION if trunk.rounding else max(1, FINE // (K - 1)).bit_length() - 1
        self.fraction = min(PLACED, max(FRACTION, finer))
        """Bits after the point of the mean, in half levels."""
        self.times = max(1, FINE // (K - 1 << self.fraction))
        """By how much deviations are larger than that."""
        self.unit = unit(K) * (K - 1)
        """The unit of deviations, in half levels."""

    def program(self) -> Program:
        """The whole network."""
        near = Neighbours(self.build, self.digits)
        mean = near.mean("mean", self.fraction)
        logs = self._logs(near)
        own, level = self._own(mean)
        h = self._through(self._stem(logs, mean, self._deviations(own, level)))
        self._head(self._features(h, own), mean)
        return self.build.program()

    # --- the input ------------------------------------------------------------------------------------------------------

    def _own(self, mean: Value) -> tuple[Value, Value]:
        """Known values less the mean, 0 where nothing is known; and the mean; both in the unit of deviations."""
        build, C, S = self.build, self.trunk.channels, len(self.digits)
        scale = np.full(C, self.unit * 2.0**self.fraction * self.times)
        self._conv("finer", "value", np.eye(C)[:, None] * self.times * 2**self.fraction)
        self._conv("level", mean.name, np.eye(C)[:, None] * self.times)
        build.op("table", "minus", ["depth"], {"table": [0] + [-1] * S}, low=0)
        build.op("product", "away", ["level", "minus"])
        return Value(build.op("add", "own", ["finer", "away"]), scale), Value("level", scale)

    def _deviations(self, own: Value, level: Value) -> Value:
        """(SIDE² · C planes): the filled window around each place less the mean there, cell after cell; 0 outside."""
        build, C, cells = self.build, self.trunk.channels, SIDE * SIDE
        build.op("add", "filled", [own.name, level.name])
        build.op("table", "ones", ["depth"], {"table": [1] * (len(self.digits) + 1)}, low=0)
        each = np.einsum("cd,tu->ctud", np.eye(C), np.eye(cells)).reshape(C, cells, -1)  # cell t of plane c → (t, c)
        self._conv("window", "filled", each)
        self._conv("inside", "ones", -each)
        build.op("product", "outside", ["inside", build.op("concat", "levels", [level.name] * cells)])
        return Value(build.op("add", "deviations", ["window", "outside"]), np.tile(own.scale, cells))

    def _conv(self, out: str, a: str, weight: Floats) -> None:
        """A convolution of integers (P, cells, O), without bias and shift."""
        side, zeros = (SIDE if weight.shape[1] > 1 else 1), np.zeros(weight.shape[2])
        tensors = {"weight": weight.reshape(-1, weight.shape[2]), "bias": zeros, "shift": zeros}
        self.build.op("conv", out, [a], tensors, tall=side, wide=side, step=1, top=side // 2, left=side // 2)

    def _logs(self, near: Neighbours) -> Logs:
        """The logarithms of weight and spread."""
        weight, parts, offset = near.log_weight("weights", LOG)
        spread = near.spread("spread", near.mean("centre", near.placed))
        each = self.build.function(
            "spreads", spread, lambda x: np.log(x + 0.5 / spread.one), LOG
        )  # it was rounded down
        return Logs(weight, parts, offset, each)

    def _stem(self, logs: Logs, mean: Value, deviations: Value) -> Value:
        """The stream before the blocks."""
        build, trunk, scale, bits = self.build, self.trunk, self._stream(0), self.bits.first
        coarse, bias = floats(trunk.coarse.weight)[:, :, 0, 0], floats(expected(trunk.coarse.bias, Tensor, "a bias"))
        window = floats(trunk.window).transpose(0, 2, 3, 1).reshape(len(scale), -1)
        level, weight, spread = np.split(coarse, 3, 1)
        matrix = np.concatenate([window, level, np.tile(weight / 4, logs.parts), spread], 1)
        bias = bias + weight.sum(1) * logs.offset / 4 + HALF / scale
        read = build.concat("read", deviations, mean, logs.weight, logs.spread)
        h = build.linear("around", read, matrix, bias, scale, bits=bits)
        return self._kept(build.add("stem", h, build.conv("told", self._masks(), trunk.masks, scale, bits=bits)))

    def _masks(self) -> Value:
        """Planes that say which digits are known, stage after stage."""
        build, C, S = self.build, self.trunk.channels, len(self.digits)
        tables = [{"table": np.arange(S + 1) > s} for s in range(S)]
        every = [Value(build.op("table", f"mask{s}", ["depth"], t, low=0), np.ones(C)) for s, t in enumerate(tables)]
        return build.concat("masks", *every)

    # --- blocks ---------------------------------------------------------------------------------------------------------

    def _stream(self, level: int) -> Floats:
        """The scale of the stream at a resolution, the same before and after all of its blocks."""
        blocks = [expected(b, Block, "a block") for b in chain(*(side[level].children() for side in self._sides))]
        reads = [self.ranges.columns(block.conv1) for block in blocks]
        if level == 0:
            reads.append(
                self.ranges.columns(self.trunk.own)[: self.trunk.own.weight.shape[1] - 2 * self.trunk.channels]
            )
        found: Floats = scales(reads, self.bits.top) * 2**RESIDUAL
        return found

    @cached_property
    def _sides(self) -> Sequence[nn.ModuleList]:
        return [self.trunk.down, self.trunk.up]

    def _through(self, h: Value) -> Value:
        """The blocks at all resolutions."""
        build, trunk, skips = self.build, self.trunk, list[Value]()
        for level, blocks in enumerate(trunk.down):
            if level:
                skips.append(h)
                pooled = Value(build.op("pool", f"pool{level}", [h.name]), h.scale)
                h = self._between(f"shrink{level}", pooled, trunk.shrink[level - 1], self._stream(level), HALF)
            h = self._blocks(f"down{level}", blocks, h)
        for level in reversed(range(len(trunk.up))):
            if level < len(skips):
                skip = skips[level]
                h = self._between(f"coarse{level}", h, trunk.grow[level], skip.scale, 0)
                grown = Value(build.op("grow", f"grow{level}", [h.name, skip.name]), h.scale)
                h = self._kept(build.add(f"joined{level}", skip, grown))
            h = self._blocks(f"up{level}", trunk.up[level], h)
        return h

    def _between(self, out: str, h: Value, layer: nn.Module, scale: Floats, half: int) -> Value:
        """A layer from a stream, which is HALF too large, to one of another resolution, `half` too large."""
        conv = expected(layer, nn.Conv2d, "a layer between resolutions")
        weight, bias = floats(conv.weight)[:, :, 0, 0], floats(expected(conv.bias, Tensor, "a bias"))
        bias = bias - weight @ (HALF / h.scale) + half / scale
        return self.build.linear(out, h, weight, bias, scale, SINGLE // 2, self.bits.first)

    def _blocks(self, name: str, blocks: nn.Module, h: Value) -> Value:
        for i, block in enumerate(blocks.children()):
            h = self._block(f"{name}.{i}", expected(block, Block, "a block of the network"), h)
        return h

    def _block(self, name: str, block: Block, h: Value) -> Value:
        """h + conv2(relu(conv1(relu(h)))): what matrices read is clamped at 0, which is the relu."""
        build, top = self.build, self.bits.top
        a = Value(build.op("shift", f"{name}.read", [h.name], by=RESIDUAL, lo=0, hi=top), h.scale / 2**RESIDUAL)
        inner, outer = _plain(block.conv1), _plain(block.conv2)
        hidden = self._filled(inner, a.scale, scales([self.ranges.columns(block.conv2)], top))
        u = build.conv(f"{name}.inner", a, inner, hidden, top, low=0, moments=self.moments[block.conv1])
        d = build.conv(f"{name}.outer", u, outer, h.scale, moments=self.moments[block.conv2])
        return self._kept(build.add(name, h, d))

    def _filled(self, conv: nn.Conv2d, given: Floats, made: Floats) -> Floats:
        """The scale of a result, up to a bit coarser, so that the largest weight of each plane uses all of its bits."""
        most = np.abs(floats(conv.weight)).max((2, 3))
        spare = np.log2(((1 << self.bits.weights - 1) - 1) / np.maximum((most / given).max(1) * made, 1e-30))
        found: Floats = made * 2.0 ** (spare - np.ceil(spare).clip(min=0))
        return found

    def _kept(self, h: Value) -> Value:
        """The stream, clamped where it could leave the exact range of float32."""
        return h if self.build.largest(h) < SINGLE // 2 else self.build.coarser(f"{h.name}.kept", h, 0, SINGLE // 2)

    # --- rows -----------------------------------------------------------------------------------------------------------

    def _features(self, h: Value, own: Value) -> Value:
        """The features at the sites asked, by the layer of each channel."""
        build, layer, C = self.build, self.trunk.own, self.trunk.channels
        top, spare, S = (1 << ROWS) - 1, max(0, self.bits.activations + RESIDUAL + 1 - ROWS), len(self.digits)
        row = build.channel("row", build.at("stream", h), np.repeat(((1 << spare >> 1) - HALF) / h.scale[None], C, 0))
        row = Value(build.op("shift", "positive", [row.name], by=spare, lo=0, hi=top), h.scale / 2**spare)
        digits = build.op(
            "table", "digits", [build.op("at", "depths", ["depth"])], {"table": np.arange(S + 1) * KNOWN}, low=0
        )
        known = Value(digits, np.full(C, float(S * KNOWN)))
        scale = scales([self.ranges.columns(output_of(self.model))], top // 2)
        weight, bias = floats(layer.weight).transpose(0, 2, 1), floats(layer.bias)
        read = build.concat("inputs", row, build.at("apart", own), known)
        return build.linear("features", read, weight, bias, scale, top, self.bits.first, low=0)

    def _head(self, features: Value, mean: Value) -> None:
        """The last layer, and the head."""
        build, head, output = self.build, self.model.head, output_of(self.model)
        made = units(head, output.out_features, self.unit)
        o = build.linear("output", features, floats(output.weight), floats(output.bias), made, 1 << 22, self.bits.first)
        if isinstance(head, MixtureHead):
            centre = build.op("pick", "place", [build.at("places", mean).name])
            mixture(build, head, self.unit, o.name, centre, PLACED - self.fraction)
        else:
            softmax(build, head, o.name)


def _plain(layer: Standardised) -> nn.Conv2d:
    """A convolution with the filters as they are."""
    weight = layer.weight.detach()
    made = nn.utils.skip_init(nn.Conv2d, *weight.shape[:2], 3, padding=1, dtype=torch.double)
    with torch.no_grad():
        made.weight.copy_(weight)
        expected(made.bias, Tensor, "a bias").copy_(layer.bias)
    return made
