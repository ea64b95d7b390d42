"""Recurrent networks of text in integers.

    state ← state + (σ(z) (tanh(n) − state)) >> GATE,     stream ← stream + down((state · relu(g)) >> …)

σ and tanh are tables.  All blocks read the stream in one scale for each plane, and weights absorb the scales.  What a
matrix reads stays below 2^15 and its sums below 2^30, so that products of 16 bits compute it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.ans import GRID
from ardm.exact.program import Program
from ardm.export.builder import Builder
from ardm.export.calibrate import Examples
from ardm.export.functions import logistic
from ardm.export.parts import digits_of, expected, output_of, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import Floats, floats, scales
from ardm.export.stream import RESIDUAL, Seen, affine, dense, kept, largest, rounding
from ardm.heads import ValueHead
from ardm.model import Model
from ardm.nets.counts import CHECK, LEVELS, WIDTH, Counts, level
from ardm.nets.recurrent import Block, Recurrent

SYMBOL = 127
"""The largest integer of a row of a table."""
GATE = 14
"""Bits after the point of gates and states."""
INDEX = 1 << 11
"""The tables of σ and tanh have so many entries on each side of 0."""
REACH = 8.0
"""σ(±REACH) ends the table of σ, and tanh(±REACH / 2) that of tanh."""
FINER = 2
"""Bits that the product of a state and its gate has beyond an activation."""
ROOM = 2
"""How much further than on the items that calibrate activations may go."""
SUM = 1 << 30
"""The largest sum of a matrix product."""
TRUST, WEIGHED = 1 << 11, 7
"""The largest trust in integers, and by how many bits its product with a code is shifted: 16 of them fit 16 bits."""
MOST = SUM // 2
"""The largest number of the stream."""
ITEMS = 8
"""Items that run through the network together."""


def recurrent(model: Model, examples: Examples) -> Make:
    """The exporter of recurrent networks of text."""
    export = RecurrentExport(model)
    seen = export.seen(examples.items.flatten(1))
    return lambda bits: export.program(seen, bits)


class RecurrentExport:
    """The exporter of one model.  Raises ArdmError for other trunks and heads."""

    def __init__(self, model: Model) -> None:
        expected(model.head, ValueHead, "the head")
        self.trunk = expected(trunk_of(model), Recurrent, "the network")
        self.blocks = [expected(block, Block, "a block of the network") for block in self.trunk.blocks]
        self.output, self.digits = output_of(model), digits_of(model)

    # --- scales ---------------------------------------------------------------------------------------------------------

    def seen(self, items: Tensor) -> Seen:
        """The ranges on items (N, T)."""
        with torch.no_grad():
            return Seen.joined(self._seen(part.long() + 1) for part in items.split(ITEMS))

    def _seen(self, symbols: Tensor) -> Seen:
        """The same on symbols (B, T); inside a block they are those of its gate."""
        near = self.trunk.near(symbols)
        expected = None if self.trunk.counts is None else self.trunk.counts(near)
        x, stream, gates = self.trunk.stream(near, expected), list[Floats](), list[Floats]()
        for block, first in zip(self.blocks, self.trunk.start(near), strict=True):
            stream.append(largest(x))
            gates.append(largest(F.relu(F.linear(x, block.up, block.ub)[..., 2 * block.inner :])))
            x = block(x, first)[0]
        return Seen(np.max([*stream, largest(x)], axis=0), gates, largest(self.trunk.read(x)))

    # --- the program ----------------------------------------------------------------------------------------------------

    def program(self, seen: Seen, bits: Precision) -> Program:
        """The whole network."""
        build, top = Builder(1, self.digits, wave=1), bits.top // ROOM
        reads = scales([seen.stream], top)
        maps = build.op("concat", "maps", ["value", "depth"])
        counts = [] if self.trunk.counts is None else [self._counts(build, maps, self.trunk.counts)]
        h = self._stem(build, maps, counts, reads, bits)
        for i, (block, gates) in enumerate(zip(self.blocks, seen.inner, strict=True)):
            h = self._block(build, i, h, block, reads, scales([gates], top), bits)
        features = build.op("shift", "features", [h], by=RESIDUAL, lo=0, hi=bits.top)
        lifted = scales([seen.lifted], top)
        z = _linear(build, "lifted", features, self.trunk.lift.weight, self.trunk.lift.bias, reads, lifted, bits.first,
                    lo=0, hi=bits.top)  # fmt: skip
        every = build.op("concat", "all", [z, *(name for name, _ in counts)]) if counts else z
        here, logits = build.op("at_site", "here", [every]), np.full(self.output.out_features, float(GRID))
        given = np.concatenate([lifted, *(scale for _, scale in counts)])
        o = _linear(build, "output", here, self.output.weight, self.output.bias, given, logits, bits.first,
                    lo=-(1 << 22), hi=1 << 22)  # fmt: skip
        build.op("values", "head", [o])
        return build.program()

    def _stem(self, build: Builder, maps: str, counts: list[tuple[str, Floats]], reads: Floats, bits: Precision) -> str:
        """The stream before the blocks: the symbols before the place, rows chosen by their hashes, and what counts expect."""
        trunk = self.trunk
        parts = [
            _rows(build, "embedding", trunk.embedding.weight[None], self._symbols(build, "last", maps, trunk.reach))
        ]
        if trunk.table is not None:
            longest = max(trunk.hashes)
            near = self._symbols(build, "near", maps, longest)
            contexts = [[*range(n), *[-1] * (longest - n)] for n in trunk.hashes]
            buckets = build.op("hash", "buckets", [near], {"contexts": contexts}, bits=trunk.bits)
            parts.append(_rows(build, "rows", trunk.table.weight.view(len(trunk.hashes), 1 << trunk.bits, -1), buckets))
        parts += counts
        given = np.concatenate([scale for _, scale in parts])
        read = build.op("concat", "inputs", [name for name, _ in parts])
        bias = rounding(trunk.first.bias, reads)
        first = _linear(build, "first", read, trunk.first.weight, bias, given, reads * 2**RESIDUAL, bits.first)
        return kept(build, "stream", first, MOST)

    def _counts(self, build: Builder, maps: str, counts: Counts) -> tuple[str, Floats]:
        """What the counts expect, and its scale.

        A context is known where the check of its row is its own; then the row says a value and the level of trust in it.
        """
        K, (orders, bits) = self.digits.classes, (len(counts.orders), counts.bits)
        longest = counts.orders[-1]
        near = self._symbols(build, "past", maps, longest)
        contexts = [[*range(n), *[-1] * (longest + 1 - n)] for n in counts.orders]
        again = [[*range(n), 0, *[-1] * (longest - n)] for n in counts.orders]
        places = build.op("hash", "contexts", [near], {"contexts": contexts}, bits=bits)
        checks = build.op("hash", "checks", [near], {"contexts": again}, bits=CHECK)
        check, one, _, first, _, every = counts.seen.long().unbind(-1)
        middle = K // 2
        rows = torch.stack([check, (one - 1 - middle) * (one > 0), level(first, every)], -1).flatten(0, 1)
        found = build.op("embed", "counted", [places], {"table": rows.numpy()})
        each = np.eye(orders)
        by_check, by_value, by_level = (np.kron(each, np.eye(3)[:, [k]]) for k in range(3))
        both = build.op("concat", "compared", [found, checks])
        apart = build.integers("apart", both, np.concatenate([-by_check, each]), -np.arange(orders) << CHECK)
        most = 1 << CHECK
        known = build.op("table", "known", [apart], {"table": np.arange(-most, most + 1) == 0}, low=-most)
        levels = build.op("gate", "levels", [build.integers("level", found, by_level, 0), known], by=0)
        none = build.op("table", "unknown", [levels], {"table": [1, 0]}, low=0)
        after = np.eye(orders, k=-1)  # the next longer context
        index = np.arange(orders) * 2 * LEVELS
        index = index + LEVELS - LEVELS * (np.arange(orders) == orders - 1)
        trusted = build.op("concat", "ranks", [levels, none])
        rank = build.integers("rank", trusted, np.concatenate([each, -LEVELS * after]), index)
        value = build.integers("counted.value", found, by_value, middle + 1)
        code, scale = _rows(build, "code", counts.code[None], value)
        return self._weighed(build, counts, code, rank, scale[:WIDTH])

    def _weighed(self, build: Builder, counts: Counts, code: str, rank: str, unit: Floats) -> tuple[str, Floats]:
        """The codes of the expected symbols times the trust in each, summed.  unit (G,): the scale of a code."""
        weight = floats(counts.trusted()).reshape(-1, 1)
        fine = TRUST / max(float(np.abs(weight).max()), 1e-9)
        table = np.repeat(np.rint(weight * fine), WIDTH, axis=1)
        trust = build.op("embed", "trust", [rank], {"table": table})
        orders, each = len(counts.orders), np.eye(WIDTH)
        part = build.op("gate", "weighed", [code, trust], by=WEIGHED)
        half = np.full(WIDTH, orders // 2)  # every part was rounded down
        total = build.integers("expected", part, np.tile(each, (orders, 1)), half)
        return total, unit * fine / 2.0**WEIGHED

    def _symbols(self, build: Builder, out: str, maps: str, count: int) -> str:
        """The symbols before the place: 1 + the value, 0 where there is none.  `value` is 2 v − (K − 1) there, and `depth` 1."""
        K = self.digits.classes
        cells = [(0, -1 - k) for k in range(count)]
        near = build.op("causal_window", f"{out}.window", [maps], {"cells": cells})
        weight = np.concatenate([np.eye(count), (K + 1) * np.eye(count)])
        return build.integers(out, near, weight, shift=1, lo=0, hi=K)

    def _block(
        self, build: Builder, i: int, h: str, block: Block, reads: Floats, gates: Floats, bits: Precision
    ) -> str:
        """The stream after block i."""
        V, a = block.inner, build.op("shift", f"read{i}", [h], by=RESIDUAL, lo=-bits.top, hi=bits.top)

        def part(out: str, k: int, made: Floats, lo: int, hi: int) -> str:
            mine = slice(k * V, (k + 1) * V)
            return _linear(
                build, f"{out}{i}", a, block.up[mine], block.ub[mine], reads, made, bits.weights, lo=lo, hi=hi
            )

        z = part("z", 0, np.full(V, INDEX / REACH), -INDEX, INDEX)
        n = part("n", 1, np.full(V, 2 * INDEX / REACH), -INDEX, INDEX)
        z = _table(build, f"keep{i}", z, logistic, INDEX / REACH)
        n = _table(build, f"new{i}", n, np.tanh, 2 * INDEX / REACH)
        state = build.op("carry", f"state{i}", [z, n], by=GATE)
        g = part("g", 2, gates, 0, bits.top)
        read = build.op("gate", f"shown{i}", [state, g], by=GATE - FINER)
        stream = reads * 2**RESIDUAL
        d = _linear(build, f"down{i}", read, block.down, block.db, gates * 2**FINER, stream, bits.weights)
        h = build.op("add", f"sum{i}", [h, d])
        return kept(build, f"stream{i + 1}", h, MOST)


def _table(build: Builder, out: str, a: str, f: Callable[[Floats], Floats], scale: float) -> str:
    """A function of a / scale, −INDEX ≤ a ≤ INDEX, with GATE bits after the point."""
    table = np.rint(f(np.arange(-INDEX, INDEX + 1) / scale) * 2.0**GATE)
    return build.op("table", out, [a], {"table": table}, low=-INDEX)


def _rows(build: Builder, out: str, tables: Tensor, index: str) -> tuple[str, Floats]:
    """Rows of tables (n, R, E), one for each run of columns of the index, and their scale."""
    weight = floats(tables)
    most = np.abs(weight).max(axis=1)
    unit = np.where(most > 0, SYMBOL / np.maximum(most, 1e-30), 1.0)
    made = np.rint(weight * unit[:, None]).reshape(-1, weight.shape[2])
    name = build.op("embed", out, [index], {"table": made})
    scale = np.tile(unit.reshape(-1), len(build.size(name)) // unit.size)
    return name, scale


def _linear(
    build: Builder,
    out: str,
    a: str,
    weight: Tensor,
    bias: Tensor,
    reads: Floats,
    makes: Floats,
    bits: int,
    **limits: int,
) -> str:
    """Append a layer, as for `dense`."""
    return affine(build, out, a, dense(build, a, weight, bias, reads, makes, bits, SUM), **limits)
