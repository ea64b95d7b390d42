"""Small causal programs along wavefronts with random weights, like those that the export makes, and models of them."""

import numpy as np
import pytest

from ardm.errors import ArdmError
from ardm.exact.model import CodecModel
from ardm.exact.native import library as native
from ardm.exact.native.compile import compile_library, compiler
from ardm.exact.program import Op, Program

NEAR = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]
"""NW, N, NE, W and the place itself: the cells of a block."""
FINE = 2
"""Bits after the point of the neighbours' mean."""


def renew_library():
    """Compile the native library where it is missing or of another source, if there is a compiler."""
    try:
        native.library(native._path())
    except ArdmError:
        assert compiler() is None or compile_library() is None
        native.library.cache_clear()


def need_library():
    """The same, or skip the tests."""
    if compiler() is None:
        pytest.skip("there is no C compiler")
    renew_library()


def window_cells(slope=2, tall=3, wide=3):
    """The cells (dy, dx) of a window that come before the place."""
    return [(dy, dx) for dy in range(-tall, 1) for dx in range(-wide, wide + 1) if dx + slope * dy < 0]


class Weave:
    """A program in the making: operations and tensors."""

    def __init__(self, rng, channels, classes, slope):
        self.rng, self.C, self.K, self.slope = rng, channels, classes, slope
        self.ops, self.tensors = [], {}

    def op(self, name, out, inputs, tensors=None, **integers):
        held = {role: f"{out}.{role}" for role in tensors or {}}
        self.tensors.update({held[role]: np.asarray(t, dtype=np.int64) for role, t in (tensors or {}).items()})
        self.ops.append(Op(name, out, tuple(inputs), integers, held))
        return out

    def linear(self, out, source, rows, columns, each=(), size=20, shift=6, **limits):
        weight = self.rng.integers(-size, size + 1, (*each, rows, columns))
        bias = self.rng.integers(-500, 500, (*each, columns))
        tensors = {"weight": weight, "bias": bias, "shift": np.full((*each, columns), shift)}
        return self.op("linear", out, [source], tensors, **limits)

    def end(self):
        return Program(tuple(self.ops), self.tensors, self.C, self.K, self.K, wave=self.slope)


def wave_program(
    seed=0, C=3, K=256, width=8, inner=6, blocks=2, hidden=7, components=2, slope=2, cells=None, near=None
):
    """A causal program: window, mean, blocks of a small width, a head for each channel.

    near: the cells of each block, by default those around the place.
    """
    w = Weave(np.random.default_rng(seed), C, K, slope)
    cells = cells or window_cells(slope)
    near = near or [[cell for cell in NEAR if cell[1] + slope * cell[0] < 0 or cell == (0, 0)]] * blocks
    limit, square = (K - 1) << FINE, np.array([dy * dy + dx * dx for dy, dx in cells])
    w.op("concat", "maps", ["value", "depth"])
    w.op("causal_window", "window", ["maps"], {"cells": cells})
    w.op("nearby", "mean", ["window"], {"weight0": np.rint(4096 * square**-1.5)}, fraction=FINE, limit=limit, rise0=0)
    by = max(0, limit.bit_length() - 7)
    w.op("contrast", "deviation", ["window", "mean"], fraction=FINE, by=by, limit=127, known=5)
    h = w.linear("h", "deviation", 2 * C * len(cells), width, lo=-(1 << 15), hi=1 << 15)
    for k in range(blocks):
        a = w.op("shift", f"a{k}", [h], by=2, lo=0, hi=255)
        taps = w.op("causal_taps", f"taps{k}", [a], {"cells": near[k]})
        t = w.linear(f"t{k}", taps, width * len(near[k]), inner, lo=0, hi=255)
        d = w.linear(f"d{k}", t, inner, width, shift=4, lo=-(1 << 14), hi=1 << 14)
        h = w.op("shift", f"h{k}", [w.op("add", f"sum{k}", [h, d])], by=0, lo=-(1 << 15), hi=1 << 15)
    return _heads(w, h, width, hidden, components, limit, by)


def _heads(w, h, width, hidden, M, limit, by):
    """A perceptron for each channel, and a mixture around the mean plus the deviation of the channel before."""
    C, K = w.C, w.K
    w.op("at_site", "row", [w.op("shift", "a", [h], by=2, lo=0, hi=255)])
    w.op("earlier", "near", ["value", "mean"], fraction=FINE, by=by, limit=127)
    z = w.linear("z", w.op("concat", "known", ["row", "near"]), width + C, hidden, (C,), lo=0, hi=255)
    o = w.linear("o", z, hidden, 3 * M, (C,), size=60, shift=4)
    w.op("earlier", "apart", ["value", "mean"], fraction=FINE, by=0, limit=2 * limit)
    w.op("concat", "own", [w.op("at_site", "means", ["mean"]), "apart"])
    pick = np.zeros((C, 2 * C, 1))
    for c in range(C):
        pick[c, [c] if c == 0 else [c, C + c - 1]] = 1
    zero = {"bias": np.zeros((C, 1)), "shift": np.zeros((C, 1))}
    w.op("linear", "centre", ["own"], {"weight": pick, **zero})
    places = np.linspace(-K, K, M + 2)[1:-1].astype(np.int64) << 4
    inverse = np.exp2(np.arange(129) / 16 + 8).astype(np.int64)
    w.op("mixture", "head", [o, "centre"], {"inverse": inverse, "places": places},
         components=M, fraction=8, bits=16, rise=8 - FINE, limit=2 * K << 8)  # fmt: skip
    return w.end()


def values_program(seed=0, C=2, K=7, slope=2, planes=5):
    """Another: embedded values, several windows and taps, a softmax of the values."""
    w = Weave(np.random.default_rng(seed), C, K, slope)
    w.op("known", "codes", ["value", "depth"])
    w.op("embed", "e", ["codes"], {"table": w.rng.integers(-90, 90, (K + 1, 2))})
    w.op("causal_window", "window", ["e"], {"cells": window_cells(slope, 2, 2)})
    w.op("causal_window", "beside", ["depth"], {"cells": [(0, -1), (-1, 0)]})
    w.linear("h", w.op("concat", "both", ["window", "beside"]), 2 * C * len(window_cells(slope, 2, 2)) + 2 * C, planes)
    w.op("causal_taps", "left", ["h"], {"cells": [(0, -1), (0, -4)]})
    w.op("causal_taps", "up", ["h"], {"cells": [(-2, 1), (0, 0), (-1, -1)]})
    w.linear("g", w.op("concat", "taps", ["left", "up"]), 5 * planes, planes, lo=-300, hi=300)
    w.op("at_site", "row", ["g"])
    w.op("channel", "tinted", ["row"], {"table": w.rng.integers(-50, 50, (C, planes))})
    w.linear("o", "tinted", planes, K, lo=-300, hi=300, shift=4)
    w.op("values", "head", ["o"])
    return w.end()


def wave_model(program=None, **card):
    """A codec model of a causal program."""
    return CodecModel(program or wave_program(), {}, 0, card={"name": "tiny waves", **card})


def picture(channels, height, width, classes=256, seed=0):
    """(C, H, W): a random walk, something like a photograph."""
    steps = np.random.default_rng(seed).normal(size=(channels, height, width))
    walk = steps.cumsum(1).cumsum(2) * classes / 85 + classes / 2
    return walk.clip(0, classes - 1).astype(np.int64)
