"""Windows of text, taps of sound and perceptrons of tables as programs in integers: what `export` makes of sequences."""

from __future__ import annotations

import numpy as np

from ardm.exact import lines as _lines  # noqa: F401 (registers their operations)
from ardm.export_layers import Builder
from ardm.nets.taps import CLIP, SHIFTS, UNIT, Taps
from ardm.nets.window import Window
from ardm.quantise import Floats

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


__all__ = ["UNIT", "nowhere", "predictors", "taps", "window"]
