"""Windows of text, taps of sound and perceptrons of tables as programs in integers: what `export` makes of sequences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ardm.ans import GRID
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.exact.program import Program
from ardm.export.builder import Bits, Builder, Layers, Seen, Value, gelu, swish, watched
from ardm.export.quantise import Floats
from ardm.model import Model
from ardm.nets.table import Direct, Table
from ardm.nets.taps import CLIP, SHIFTS, UNIT, Taps
from ardm.nets.window import Window

SYMBOL = 127
"""The largest integer of a row of a table."""
FINE = 18
"""Bits after the point of the weights of a linear predictor."""


def window(build: Builder, trunk: Window, classes: int) -> tuple[str, Floats]:
    """What the first layer of a window reads: the value, and the scale of each of its columns."""
    known = build.op("known", "told", ["value", "depth"])
    symbols = build.op("table", "symbols", [known], {"table": [*range(1, classes + 1), 0]}, low=0)
    left, right = trunk.reach
    near = build.op("taps", "near", [symbols], left=left, right=right)
    parts, scale = [], []
    for name, table, rows in (("embedding", trunk.embedding, near), ("rows", trunk.table, "")):
        if table is None:
            continue
        if not rows:
            longest = max(map(len, trunk.contexts))
            columns = [context + [-1] * (longest - len(context)) for context in trunk.contexts]
            rows = build.op("hash", "buckets", [near], {"contexts": columns}, bits=trunk.bits)
        weight = table.weight.detach().double().numpy()
        unit = SYMBOL / max(float(np.abs(weight).max()), 1e-9)
        parts.append(build.op("embed", name, [rows], {"table": np.rint(weight * unit)}))
        scale.append(np.full(len(build.size(parts[-1])), unit))
    return build.op("concat", "inputs", parts) if len(parts) > 1 else parts[0], np.concatenate(scale)


def taps(build: Builder, trunk: Taps) -> tuple[str, Floats, str]:
    """What the first layer of taps reads, the scale of its columns, and the samples near the site."""
    left, right = trunk.reach
    near = build.op("taps", "near", ["value"], left=left, right=right)
    steps = trunk.steps().double().numpy()
    n = len(steps)
    none = np.zeros(n)
    apart = build.op("linear", "apart", [near], {"weight": steps.T, "bias": none, "shift": none})
    parts = [build.op("shift", f"scale{by}", [apart], by=by, lo=-CLIP - 1, hi=CLIP) for by in SHIFTS]
    shown = build.op("table", "shown", ["depth"], {"table": [0, CLIP + 1]}, low=0)
    parts.append(build.op("taps", "known", [shown], left=left, right=right))
    return build.op("concat", "inputs", parts), np.full((len(SHIFTS) + 1) * n, CLIP + 1.0), near


def predictors(build: Builder, trunk: Taps, near: str, classes: int, placed: int) -> str:
    """(N, 3 M): what the predictors of the components add to the means of a mixture, `placed` bits after the point."""
    filters = trunk.filters.detach().double().numpy()
    M, n = filters.shape
    weight = np.zeros((n, 3 * M))
    weight[:, M : 2 * M] = np.rint(filters.T * 2.0**FINE)
    shift = np.full(3 * M, FINE - placed)
    most = 2 * classes << placed
    tensors = {"weight": weight, "bias": np.full(3 * M, 2.0 ** (FINE - placed - 1)), "shift": shift}
    return build.op("linear", "predicted", [near], tensors, lo=-most, hi=most)


def nowhere(build: Builder, near: str) -> str:
    """(N, 1): zeros, the centre of a mixture whose components have centres of their own."""
    n = len(build.size(near))
    return build.op("linear", "nowhere", [near], {"weight": np.zeros((n, 1)), "bias": [0], "shift": [0]})


# --- tables -----------------------------------------------------------------------------------------------------------


def table(model: Model, items: Tensor, bits: Bits) -> Program:
    """The whole program of a perceptron over columns; items (N, 1, 1, D) calibrate it."""
    body, head = model.body, model.head
    trunk, limits = body.trunk, head.limits.tolist()  # type: ignore[operator]
    if not isinstance(trunk, Table) or not isinstance(model.digits, Digits):
        raise ArdmError(f"a network of kind {type(trunk).__name__} is no perceptron of a table")
    if trunk.stage is not None or body.condition is not None:
        raise ArdmError("a table with stages, labels or time cannot be exported: leave base, labels and time alone")
    seen = _watched(model, items)
    D, K = len(limits), model.digits.classes
    build = Layers(1, model.digits, bits)
    told = build.op("known", "told", ["value", "depth"])
    line = build.op("line", "line", [told], wide=D)
    steps = {"weight": np.eye(D), "bias": np.arange(D) * (K + 1), "shift": np.zeros(D)}
    rows = build.op("linear", "index", [line], steps)
    e = build.embed("embedding", rows, *_rows(trunk.embedding.weight, limits, K, build.top))
    inner = [seen.made(layer.down) for layer in trunk.layers]
    reach = 2 * (seen.made(trunk.first) + sum(inner))
    scale = np.array([2.0 ** math.floor(math.log2(build.high / reach))])
    h = build.linear("first", e, *_affine(trunk.first), scale, build.high, bits.first)
    for i, layer in enumerate(trunk.layers):
        h = _layer(build, f"{i}", h, layer, seen, scale)
    a = build.norm("norm", h, trunk.norm, build.scale(seen.planes(trunk.norm), build.look))
    o = build.linear("output", a, *_affine(trunk.out), np.array([float(GRID)]), 1 << 22, bits.first)
    if trunk.direct is not None:
        o = build.add("both", o, _direct(build, rows, trunk.direct, limits, K), 1 << 22)
    first = np.cumsum([0, *limits[:-1]])
    o_name = build.op("segment", "column", [o.name], {"first": first, "size": limits}, wide=K)
    build.op("values", "head", [o_name])
    return build.program()


def _watched(model: Model, items: Tensor) -> Seen:
    """What the network makes of items of which more and more is known."""
    items = items[torch.arange(max(len(items), 64), device="cpu") % len(items)].long()
    share = torch.linspace(0, 1, len(items), device="cpu").view(-1, 1, 1, 1)
    place = torch.arange(items.shape[3], device="cpu") * 0.6180339887 % 1.0
    with torch.no_grad(), watched(model) as seen:
        for roll in (0.0, 0.25, 0.5, 0.75):
            depth = ((place + roll) % 1.0 < share).long().expand_as(items)
            model(model.digits.truncate(items, depth))[Sites.where(depth == 0)]
    return seen


def _direct(build: Layers, rows: str, direct: Direct, limits: list[int], K: int) -> Value:
    """Direct connections: every row as digits of 0 and 1, of which a matrix reads those of each column."""
    hot = build.embed("hot", rows, np.tile(np.eye(K + 1), (len(limits), 1)), 1.0)
    weight, _ = _rows(direct.weight, limits, K, build.top)
    return build.linear("direct", hot, weight.T, np.zeros(weight.shape[1]), np.array([float(GRID)]), 1 << 22, 16)


def _rows(weights: Tensor, limits: list[int], K: int, top: int) -> tuple[Floats, float]:
    """Rows of the input as a table of K + 1 rows for each column, the last for "not known", and its scale."""
    weight = weights.detach().double().numpy()
    out = np.zeros((len(limits), K + 1, weight.shape[1]))
    first = np.cumsum([0, *limits])
    for c, size in enumerate(limits):
        out[c, :size] = weight[first[c] : first[c] + size]
        out[c, K] = weight[first[-1] + c]
    return out.reshape(-1, weight.shape[1]), top / max(float(np.abs(weight).max()), 1e-9)


def _affine(layer: nn.Linear) -> tuple[Floats, Floats]:
    bias = torch.zeros(layer.out_features, device="cpu") if layer.bias is None else layer.bias
    return layer.weight.detach().double().numpy(), bias.detach().double().numpy()


def _layer(build: Layers, name: str, h: Value, layer: Any, seen: Seen, scale: Floats) -> Value:
    """norm → gated or plain perceptron, added to its input."""
    a = build.norm(f"{name}.norm", h, layer.norm2, build.scale(seen.planes(layer.norm2)), build.top)
    hidden = float(build.scale(seen.given(layer.hidden))[0])
    up = build.linear(f"{name}.up", a, *_affine(layer.up), build.scale(seen.made(layer.up), build.look), build.look)
    if layer.gate is None:
        u = build.function(f"{name}.gelu", up, gelu, hidden)
    else:
        wide = build.scale(seen.made(layer.gate), build.look)
        g = build.linear(f"{name}.gate", a, *_affine(layer.gate), wide, build.look)
        g = build.function(f"{name}.swish", g, swish, float(build.scale(seen.made(layer.gate))[0]))
        u = build.gate(f"{name}.gated", up, g)
    down = build.linear(f"{name}.down", u, *_affine(layer.down), scale, build.high)
    return build.add(f"{name}.out", h, down, build.high)


__all__ = ["UNIT", "nowhere", "predictors", "table", "taps", "window"]
