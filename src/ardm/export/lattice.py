"""A perceptron that reads the predictions of adaptive lattices, in integers.

Everything before its first layer is whole numbers in the float network too.  Means and widths of the mixture are outputs of
the perceptron in units of the running deviation: means are multiplied by it, and its logarithm is added to widths.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ardm.ans import GRID
from ardm.exact.program import Program
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples, Ranges, watched
from ardm.export.heads import PLACED, mixture, units
from ardm.export.parts import digits_of, expected, output_of, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import Floats, floats, scales
from ardm.export.stream import RESIDUAL, SINGLE, affine, dense, rounding
from ardm.heads import MixtureHead
from ardm.model import Model, ScoresAll
from ardm.nets import lattice as nets
from ardm.nets.lattice import LatticePerceptron
from ardm.nets.wavefront import SLOPE

UNIT = 64.0
"""The middle of the widths that a head can have, in half samples."""
MEAN = 14
"""Bits after the point of a component's mean in units of the deviation: those of UNIT, and PLACED."""
TOGETHER = 1 << 16
"""Samples that run through the network together, unless an item has more."""


def lattice(model: Model, examples: Examples) -> Make:
    """The exporter of perceptrons on lattices."""
    trunk = expected(trunk_of(model), LatticePerceptron, "the network")
    seen = _seen(model, examples.items.flatten(1))
    return lambda bits: _Export(model, trunk, seen, bits).program()


def _seen(model: Model, items: torch.Tensor) -> Ranges:
    """Ranges over all samples of items (N, D)."""
    assert isinstance(model, ScoresAll)
    with torch.no_grad(), watched(model) as ranges:
        for part in items.split(max(1, TOGETHER // items.shape[1])):
            model.nats(part.long())
    return ranges


class _Export:
    """The program of one network."""

    def __init__(self, model: Model, trunk: LatticePerceptron, seen: Ranges, bits: Precision) -> None:
        self.trunk, self.head, self.output = trunk, expected(model.head, MixtureHead, "the head"), output_of(model)
        self.seen, self.bits = seen, bits
        self.build = Builder(1, digits_of(model), wave=SLOPE)

    def program(self) -> Program:
        """The whole network."""
        build, bits, blocks = self.build, self.bits, self.trunk.blocks.blocks
        features = scales(
            [self.seen.columns(layer) for layer in [*(block.up for block in blocks), self.output]], bits.top
        )
        h = self._stem(features)
        for i, block in enumerate(blocks):
            hidden = scales([self.seen.columns(block.down)], bits.top)
            a = build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=0, hi=bits.top)
            u = self._layer(f"up{i}", a, block.up, features, hidden, lo=0, hi=bits.top)
            d = self._layer(f"down{i}", u, block.down, hidden, features * 2**RESIDUAL)
            h = build.op("add", f"stream{i + 1}", [h, d])
        a = build.op("shift", "features", [h], by=RESIDUAL, lo=0, hi=bits.top)
        made, output = units(self.head, self.output.out_features, UNIT), self.output
        last = dense(build, a, output.weight, output.bias, features, made, bits.first, 1 << 53)
        self._end(affine(build, "output", a, last, lo=-(1 << 22), hi=1 << 22))
        return build.program()

    def _layer(self, out: str, a: str, layer: nn.Linear, reads: Floats, makes: Floats, **limits: int) -> str:
        """Append a layer inside the network; reads, makes: as for `dense`."""
        made = dense(self.build, a, layer.weight, layer.bias, reads, makes, self.bits.weights)
        return affine(self.build, out, a, made, **limits)

    def _stem(self, features: Floats) -> str:
        """The stream after the first layer; features: the scale of what reads it."""
        build, first, read = self.build, self.trunk.first, self._inputs()
        bias, makes, reads = rounding(first.bias, features), features * 2**RESIDUAL, np.array(self.trunk.units())
        made = dense(build, read, first.weight, bias, reads, makes, self.bits.first, 4 * SINGLE)
        return affine(build, "stream", read, made)

    def _inputs(self) -> str:
        """The inputs of the first layer, as `LatticePerceptron.read` makes them."""
        build, count = self.build, self.trunk.predictions
        bank = {"rates": nets.RATES, "orders": nets.ORDERS, "paces": nets.PACES}
        build.op("lattice", "bank", ["value"], bank, order=nets.ORDER, fraction=nets.FRACTION, energy=nets.ENERGY)
        columns = len(build.size("bank"))
        self._chosen("near", "bank", range(count))
        self._chosen("off", "bank", range(count, columns))
        self._mean("centre", "near", 0)
        self._mean("scale", "off", 1 << nets.FRACTION)
        self._past()
        apart = build.op("concat", "apart", [build.op("less", "beside", ["near", "centre"]), "off", "errors"])
        ratios = build.op("ratio", "ratios", [apart, "scale"], by=nets.FINE, lo=-nets.CLIP, hi=nets.CLIP)
        samples = build.op("less", "level", ["samples", "centre"])
        coarse = build.op("ratio", "coarse", [samples, "scale"], by=nets.COARSE, lo=-nets.CLIP, hi=nets.CLIP)
        table, octave = nets.logarithms()
        loudness = build.op("log", "loudness", ["scale"], {"table": table}, octave=octave, by=16)
        return build.op("concat", "inputs", [ratios, coarse, loudness])

    def _matrix(self, out: str, a: str, weight: Floats, bias: float | Floats = 0.0, shift: int = 0) -> str:
        """A linear operation of whole weights (I, O)."""
        tensors = {"weight": weight, "bias": bias + np.zeros(weight.shape[1]), "shift": np.full(weight.shape[1], shift)}
        return self.build.op("linear", out, [a], tensors)

    def _chosen(self, out: str, a: str, columns: range) -> None:
        """Some columns."""
        self._matrix(out, a, np.eye(len(self.build.size(a)))[:, columns])

    def _mean(self, out: str, a: str, least: int) -> None:
        """The mean of the central columns, and `least`."""
        weight = np.zeros((len(self.build.size(a)), 1))
        weight[nets.central()] = 1.0
        self._matrix(out, a, weight, 4.0 * least, 2)

    def _past(self) -> None:
        """The last samples, with FRACTION bits, and the last errors of the centre."""
        build, S, E = self.build, nets.SAMPLES, nets.ERRORS
        cells = np.array([[0, -i] for i in range(1, S + 1)])
        window = build.op("causal_window", "window", ["value"], {"cells": cells})
        self._matrix("samples", window, np.eye(S) * 2.0**nets.FRACTION)
        last = build.op("causal_taps", "centres", ["centre"], {"cells": cells[:E]})
        both = build.op("concat", "past", ["samples", last])
        self._matrix("errors", both, np.concatenate([np.eye(S)[:, :E], -np.eye(E)]))

    def _end(self, o: str) -> None:
        """The head from the outputs of the perceptron at all places."""
        build, M = self.build, self.head.components
        given, scale = build.op("at_site", "given", [o]), build.op("at_site", "unit", ["scale"])
        most, by = (2 * self.head.digits.classes) << PLACED, MEAN + nets.FRACTION - PLACED
        means = np.repeat([0.0, 1.0, 0.0], M)
        times = self._matrix("times", scale, means[None], (1 - means) * 2.0**by)
        units = build.op("gate", "units", [given, times], by=by, lo=-most, hi=most)
        both = build.op("concat", "both", [scale, build.op("at_site", "width", ["loudness"])])
        places = np.rint(floats(self.head.places) * 2.0 ** (PLACED - nets.FRACTION + 8))
        weight = np.zeros((2, 3 * M))
        weight[0, M : 2 * M], weight[1, 2 * M :] = places, 2.0**8
        begin = np.repeat([0.0, 0.0, -round(GRID * np.log(UNIT * 2.0**nets.FRACTION)) * 2.0**8], M)
        placed = build.op("add", "placed", [units, self._matrix("added", both, weight, begin, 8)])
        centre = build.op("at_site", "middle", ["centre"])
        mixture(build, self.head, UNIT, placed, centre, PLACED - nets.FRACTION, placed=True)
