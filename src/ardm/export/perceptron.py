"""Residual perceptrons in integers: the part that works on rows.

    stream ← stream + down(relu(up(relu(stream))))

The stream has RESIDUAL bits more than an activation.  Networks differ in the stem before the blocks, and in how a mixture
is made of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ardm.ans import GRID
from ardm.errors import ArdmError
from ardm.exact.program import Program
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples, Ranges, Scales, along_orders
from ardm.export.parts import output_of
from ardm.export.precision import Precision
from ardm.export.quantise import Floats, Matrix, matrix, scales
from ardm.heads import Head, MixtureHead, ValueHead
from ardm.model import Model
from ardm.nets.residual import ResidualPerceptron

RESIDUAL = 4
"""Bits that the residual stream has beyond an activation."""
SINGLE = 1 << 24
"""The largest sum inside the network, so that float32 holds it."""
PLACED = 8
"""Bits after the point of a component's mean."""

ByLayer = Mapping[nn.Module, Scales]
Make = Callable[[Precision], Program]


@dataclass(frozen=True)
class Stem:
    """A program up to its residual blocks.

    stream: the value that the blocks add to.  end: appends the mixture, from the outputs; None for other heads.
    peak: the largest sum inside the blocks.
    """

    build: Builder
    stream: str
    end: Callable[[str], None] | None = None
    peak: int = SINGLE


@dataclass(frozen=True)
class PerceptronExport:
    """The exporter of a network with residual blocks.

    stem: from the scale of the stream (F,) and the precision.  unit: of the means and scales of a mixture.
    """

    model: Model
    blocks: ResidualPerceptron
    unit: float
    stem: Callable[[Floats, Precision], Stem]

    def maker(self, examples: Examples) -> Make:
        """Calibrate along the orders; the result makes the program of a precision."""
        ranges, fixed = along_orders(self.model, examples), self.fixed(examples)
        return lambda bits: self.program(fixed or self.scales(ranges, bits), bits)

    def fixed(self, examples: Examples) -> dict[nn.Module, Scales]:
        """The scales that fine-tuning has fixed."""
        layers = dict(self.model.named_modules())
        return {layers[name]: scales for name, scales in examples.scales.items()}

    def scales(self, ranges: Ranges, bits: Precision) -> dict[nn.Module, Scales]:
        """The scales of the inputs and outputs of each layer; the head's outputs have those of its units."""
        output, blocks = output_of(self.model), self.blocks.blocks
        reads = [ranges.columns(layer) for layer in [*(block.up for block in blocks), output]]
        features = scales(reads, bits.top)
        found: dict[nn.Module, Scales] = {
            output: Scales(features, units(self.model.head, output.out_features, self.unit))
        }
        for block in blocks:
            hidden = scales([ranges.columns(block.down)], bits.top)
            found[block.up] = Scales(features, hidden)
            found[block.down] = Scales(hidden, features * 2**RESIDUAL)
        return found

    def program(self, by: ByLayer, bits: Precision) -> Program:
        """The whole network."""
        stem = self.stem(by[output_of(self.model)].given, bits)
        build, h = stem.build, stem.stream
        for i, block in enumerate(self.blocks.blocks):
            a = build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=0, hi=bits.top)
            u = _linear(build, f"up{i}", a, block.up, by, bits.weights, stem.peak, lo=0, hi=bits.top)
            d = _linear(build, f"down{i}", u, block.down, by, bits.weights, stem.peak)
            h = build.op("add", f"stream{i + 1}", [h, d])
        a = build.op("shift", "features", [h], by=RESIDUAL, lo=0, hi=bits.top)
        o = _linear(build, "output", a, output_of(self.model), by, bits.first, 1 << 53, lo=-(1 << 22), hi=1 << 22)
        if isinstance(self.model.head, MixtureHead):
            if stem.end is None:
                raise ArdmError("a mixture needs a network that places its means: trunk lattice or wavefront")
            stem.end(o)
        else:
            build.op("values" if isinstance(self.model.head, ValueHead) else "softmax", "head", [o])
        return build.program()


def units(head: Head, outputs: int, unit: float) -> Floats:
    """(outputs,): the units of a head's inputs: 32nds of a nat; for the means of a mixture, levels with PLACED bits."""
    if not isinstance(head, MixtureHead):
        return np.full(outputs, float(GRID))
    return np.repeat([float(GRID), unit * 2**PLACED, float(GRID)], head.components)


def mixture(
    build: Builder, head: MixtureHead, unit: float, o: str, centre: str, rise: int, placed: bool = False
) -> None:
    """Append the head of a mixture: o in `units`, and the column that its means are relative to, with PLACED − rise bits.

    placed: whether the means of components are apart already.
    """
    M, K = head.components, head.digits.classes
    places = np.zeros(M) if placed else np.rint(head.places.double().numpy() * unit * 2**PLACED)
    fine = max(0, min(48, 30 - math.ceil(math.log2(math.exp(7.0) / unit))))
    clipped = np.clip(np.arange(-8 * GRID, 8 * GRID + 1) / GRID - 0.5, -7.0, 7.0)
    tensors = {"inverse": np.rint(np.exp(-clipped) / unit * 2.0**fine), "places": places}
    build.op(
        "mixture", "head", [o, centre], tensors,
        components=M, fraction=PLACED, bits=fine, rise=rise, limit=(2 * K) << PLACED,
    )  # fmt: skip


def first_matrix(
    build: Builder, read: str, reads: Floats, weight: Floats, bias: Floats, features: Floats, bits: int
) -> Matrix:
    """The first layer, weight (I, F) and bias (F,), which makes the stream; reads (I,): the scale of what it reads."""
    rounding = bias + 0.5 / features  # so that the floor of the stream rounds
    return matrix(weight, rounding, build.size(read), reads, features * 2**RESIDUAL, bits, 4 * SINGLE)


def affine(build: Builder, out: str, a: str, made: Matrix | Sequence[Matrix], **limits: int) -> str:
    """Append a linear operation of one matrix, or of one for each channel; returns the name of its result."""
    each = [made] if isinstance(made, Matrix) else list(made)
    stacked: dict[str, Any] = {role: np.stack([getattr(m, role) for m in each]) for role in ("weight", "bias", "shift")}
    if isinstance(made, Matrix):
        stacked = {role: tensor[0] for role, tensor in stacked.items()}
    return build.op("linear", out, [a], stacked, **limits)


def _linear(
    build: Builder, out: str, a: str, layer: nn.Linear, by: ByLayer, bits: int, peak: int, **limits: int
) -> str:
    weight, bias = layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy()
    return affine(build, out, a, matrix(weight, bias, build.size(a), *by[layer], bits, peak), **limits)
