"""Taps of sound and a perceptron in integers."""

from __future__ import annotations

import numpy as np

from ardm.export.builder import Builder
from ardm.export.calibrate import Examples
from ardm.export.parts import digits_of, expected, trunk_of
from ardm.export.perceptron import PLACED, Make, PerceptronExport, Stem, affine, first_matrix
from ardm.export.precision import Precision
from ardm.export.quantise import Floats
from ardm.model import Model
from ardm.nets.taps import CLIP, SHIFTS, UNIT, Taps

FINE = 18
"""Bits after the point of the weights of a linear predictor."""
LOUD = 1 << 30
"""The largest sum inside a network of sounds, which is small, and whose activations span five orders of magnitude."""


def taps(model: Model, examples: Examples) -> Make:
    """The exporter of networks with taps of sound."""
    trunk, digits = expected(trunk_of(model), Taps, "the network"), digits_of(model)

    def stem(features: Floats, bits: Precision) -> Stem:
        build = Builder(1, digits)
        read, scale, near = _inputs(build, trunk)
        weight, bias = trunk.first.weight.detach().double().numpy().T, trunk.first.bias.detach().double().numpy()
        first = first_matrix(build, read, scale, weight, bias, features, bits.first)

        def place(o: str) -> tuple[str, str]:
            o = build.op("add", "placed", [o, _predictors(build, trunk, near, digits.classes)])
            return o, _nowhere(build, near)

        return Stem(build, affine(build, "stream", read, first), place, peak=LOUD)

    return PerceptronExport(model, trunk.blocks, UNIT, stem).maker(examples)


def _inputs(build: Builder, trunk: Taps) -> tuple[str, Floats, str]:
    """The input of the first layer, the scale of its columns, and the samples near the site."""
    left, right = trunk.reach
    near = build.op("taps", "near", ["value"], left=left, right=right)
    steps = trunk.differences.double().numpy()
    n = len(steps)
    none = np.zeros(n)
    apart = build.op("linear", "apart", [near], {"weight": steps.T, "bias": none, "shift": none})
    parts = [build.op("shift", f"scale{by}", [apart], by=by, lo=-CLIP - 1, hi=CLIP) for by in SHIFTS]
    shown = build.op("table", "shown", ["depth"], {"table": [0, CLIP + 1]}, low=0)
    parts.append(build.op("taps", "known", [shown], left=left, right=right))
    return build.op("concat", "inputs", parts), np.full((len(SHIFTS) + 1) * n, CLIP + 1.0), near


def _predictors(build: Builder, trunk: Taps, near: str, classes: int) -> str:
    """(N, 3 M): what the predictors of the components add to the means of a mixture, PLACED bits after the point."""
    filters = trunk.filters.detach().double().numpy()
    M, n = filters.shape
    weight = np.zeros((n, 3 * M))
    weight[:, M : 2 * M] = np.rint(filters.T * 2.0**FINE)
    shift = np.full(3 * M, FINE - PLACED)
    most = 2 * classes << PLACED
    tensors = {"weight": weight, "bias": np.full(3 * M, 2.0 ** (FINE - PLACED - 1)), "shift": shift}
    return build.op("linear", "predicted", [near], tensors, lo=-most, hi=most)


def _nowhere(build: Builder, near: str) -> str:
    """(N, 1): zeros, the centre of a mixture whose components have centres of their own."""
    n = len(build.size(near))
    return build.op("linear", "nowhere", [near], {"weight": np.zeros((n, 1)), "bias": [0], "shift": [0]})
