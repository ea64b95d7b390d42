"""Perceptrons of tables in integers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ardm.ans import GRID
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.exact.program import Program
from ardm.export.builder import Layers, Value
from ardm.export.calibrate import Examples, Ranges, watched
from ardm.export.functions import gelu, swish
from ardm.export.parts import affine_of, digits_of, expected, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import Floats, floats
from ardm.model import Model
from ardm.nets.table import Block, Direct, Table


def table(model: Model, examples: Examples) -> Make:
    """The exporter of perceptrons over columns."""
    trunk = expected(trunk_of(model), Table, "the network")
    if trunk.stage is not None or getattr(model.body, "condition", None) is not None:
        raise ArdmError(
            "a table with stages, labels or time cannot be exported: leave base, labels and time at their defaults"
        )
    ranges = _watched(model, examples.items)
    return lambda bits: _program(model, trunk, ranges, bits)


def _program(model: Model, trunk: Table, seen: Ranges, bits: Precision) -> Program:
    """The whole network."""
    limits: list[int] = expected(model.head.limits, Tensor, "limits of the head").tolist()
    D, K = len(limits), model.digits.classes
    build = Layers(1, digits_of(model), bits)
    known = build.op("known", "told", ["value", "depth"])
    line = build.op("line", "line", [known], wide=D)
    rows = build.integers("index", line, np.eye(D), np.arange(D) * (K + 1))
    e = build.embed("embedding", rows, *_rows(trunk.embedding.weight, limits, K, build.top))
    inner = [seen.made(expected(layer, Block, "a layer of the network").down) for layer in trunk.layers]
    reach = 2 * (seen.made(trunk.first) + sum(inner))
    scale = np.array([2.0 ** math.floor(math.log2(build.high / reach))])
    h = build.linear("first", e, *affine_of(trunk.first), scale, build.high, bits.first)
    for i, layer in enumerate(trunk.layers):
        h = _block(build, f"{i}", h, expected(layer, Block, "a layer of the network"), seen, scale)
    a = build.norm("norm", h, trunk.norm, build.scale(seen.planes(trunk.norm), build.table_top))
    o = build.linear("output", a, *affine_of(trunk.out), np.array([float(GRID)]), 1 << 22, bits.first)
    if trunk.direct is not None:
        o = build.add("both", o, _direct(build, rows, trunk.direct, limits, K), 1 << 22)
    first = np.cumsum([0, *limits[:-1]])
    o_name = build.op("segment", "column", [o.name], {"first": first, "size": limits}, wide=K)
    build.op("values", "head", [o_name])
    return build.program()


def _watched(model: Model, items: Tensor) -> Ranges:
    """The ranges of the network on items with ever more known values."""
    items = items[torch.arange(max(len(items), 64), device="cpu") % len(items)].long()
    share = torch.linspace(0, 1, len(items), device="cpu").view(-1, 1, 1, 1)
    place = torch.arange(items.shape[3], device="cpu") * 0.6180339887 % 1.0
    with torch.no_grad(), watched(model) as seen:
        for roll in (0.0, 0.25, 0.5, 0.75):
            depth = ((place + roll) % 1.0 < share).long().expand_as(items)
            model(model.digits.truncate(items, depth))[Sites.where(depth == 0)]
    return seen


def _direct(build: Layers, rows: str, direct: Direct, limits: list[int], K: int) -> Value:
    """Direct connections: every row as a one-hot vector, which a matrix reads."""
    hot = build.embed("hot", rows, np.tile(np.eye(K + 1), (len(limits), 1)), 1.0)
    weight, _ = _rows(direct.weight, limits, K, build.top)
    return build.linear("direct", hot, weight.T, np.zeros(weight.shape[1]), np.array([float(GRID)]), 1 << 22, 16)


def _rows(weights: Tensor, limits: list[int], K: int, top: int) -> tuple[Floats, float]:
    """Rows of the input as a table of K + 1 rows for each column, the last for an unknown value, and its scale."""
    weight = floats(weights)
    out = np.zeros((len(limits), K + 1, weight.shape[1]))
    first = np.cumsum([0, *limits])
    for c, size in enumerate(limits):
        out[c, :size] = weight[first[c] : first[c] + size]
        out[c, K] = weight[first[-1] + c]
    return out.reshape(-1, weight.shape[1]), top / max(float(np.abs(weight).max()), 1e-9)


def _block(build: Layers, name: str, h: Value, layer: Block, seen: Ranges, scale: Floats) -> Value:
    """norm → gated or plain perceptron, added to its input."""
    a = build.norm(f"{name}.norm", h, layer.norm2, build.scale(seen.planes(layer.norm2)), build.top)
    hidden = float(build.scale(seen.given(layer.hidden))[0])
    up = build.linear(
        f"{name}.up", a, *affine_of(layer.up), build.scale(seen.made(layer.up), build.table_top), build.table_top
    )
    if layer.gate is None:
        u = build.function(f"{name}.gelu", up, gelu, hidden)
    else:
        wide = build.scale(seen.made(layer.gate), build.table_top)
        g = build.linear(f"{name}.gate", a, *affine_of(layer.gate), wide, build.table_top)
        g = build.function(f"{name}.swish", g, swish, float(build.scale(seen.made(layer.gate))[0]))
        u = build.gate(f"{name}.gated", up, g)
    down = build.linear(f"{name}.down", u, *affine_of(layer.down), scale, build.high)
    return build.add(f"{name}.out", h, down, build.high)
