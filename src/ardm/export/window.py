"""Windows of text and a perceptron in integers."""

from __future__ import annotations

import numpy as np
from torch import nn

from ardm.export.builder import Builder
from ardm.export.calibrate import Examples
from ardm.export.parts import digits_of, expected, trunk_of
from ardm.export.perceptron import Make, PerceptronExport, Stem, affine, first_matrix
from ardm.export.precision import Precision
from ardm.export.quantise import Floats
from ardm.model import Model
from ardm.nets.window import Window

SYMBOL = 127
"""The largest integer of a row of a table."""


def window(model: Model, examples: Examples) -> Make:
    """The exporter of networks with windows of text."""
    trunk, digits = expected(trunk_of(model), Window, "the network"), digits_of(model)

    def stem(features: Floats, bits: Precision) -> Stem:
        build = Builder(1, digits)
        read, scale = _inputs(build, trunk, digits.classes)
        weight, bias = trunk.first.weight.detach().double().numpy().T, trunk.first.bias.detach().double().numpy()
        first = first_matrix(build, read, scale, weight, bias, features, bits.first)
        return Stem(build, affine(build, "stream", read, first))

    return PerceptronExport(model, trunk.blocks, 1.0, stem).maker(examples)


def _inputs(build: Builder, trunk: Window, classes: int) -> tuple[str, Floats]:
    """The input of the first layer: the value, and the scale of each of its columns."""
    known = build.op("known", "told", ["value", "depth"])
    symbols = build.op("table", "symbols", [known], {"table": [*range(1, classes + 1), 0]}, low=0)
    left, right = trunk.reach
    near = build.op("taps", "near", [symbols], left=left, right=right)
    parts = [_rows(build, "embedding", trunk.embedding, near)]
    if trunk.table is not None:
        longest = max(map(len, trunk.contexts))
        columns = [context + [-1] * (longest - len(context)) for context in trunk.contexts]
        buckets = build.op("hash", "buckets", [near], {"contexts": columns}, bits=trunk.bits)
        parts.append(_rows(build, "rows", trunk.table, buckets))
    names, scale = [name for name, _ in parts], np.concatenate([scale for _, scale in parts])
    return build.op("concat", "inputs", names) if len(names) > 1 else names[0], scale


def _rows(build: Builder, out: str, table: nn.Embedding, index: str) -> tuple[str, Floats]:
    """Rows of a table, and their scale."""
    weight = table.weight.detach().double().numpy()
    unit = SYMBOL / max(float(np.abs(weight).max()), 1e-9)
    name = build.op("embed", out, [index], {"table": np.rint(weight * unit)})
    return name, np.full(len(build.size(name)), unit)
