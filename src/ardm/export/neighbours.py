"""Mean, spread and weight of the known neighbours of every place in integers: `nets.neighbours` as sums over boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ardm.digits import Digits
from ardm.export.builder import Layers, Value
from ardm.nets.neighbours import BOXES, SPREAD_FLOOR

NOTHING = 1e-9
"""What `nets.neighbours` adds to the weight of what is known."""
STEP = 6
"""Bits of the logarithm's index from one of its tables to the next; the table of each has 2^(2 · STEP) + 1 entries."""


class Neighbours:
    """The maps of known digits, values and squares summed over boxes, and what follows from them.

    Appends the boxes to the program; the methods append the rest, each a map of C planes.
    """

    def __init__(self, build: Layers, digits: Digits) -> None:
        self.build, self.K, self.S = build, digits.classes, len(digits)
        K, S = self.K, self.S
        self.placed = min(16, max(8, math.ceil(math.log2(8e4 / K))))
        """Bits after the point of means, in half levels: enough for squares of means to resolve the least spread."""
        fine = math.ceil(math.log2(64 / (SPREAD_FLOOR * (K - 1))))  # bits that make the least spread 64
        self.unit, self.power = max(0, fine), min(16, 2 * (fine - 3))  # of the spread, and of its square
        room = max((K - 1) ** 2 * S << max(0, self.power) >> max(0, -self.power), (K - 1) * S << self.placed)
        self.bits = min(38, 60 - room.bit_length())  # as finely as the exact range of sums allows
        self.weight = np.rint([share / side**2 * 2.0**self.bits for side, share in BOXES])
        self.prior = max(1, round(NOTHING * S * 2.0**self.bits))
        self.boxes = self._boxes()

    def _boxes(self) -> list[str]:
        """Sums of depths, of values times depths and of their squares, over each box."""
        build = self.build
        spoken = build.op("product", "spoken", ["value", "depth"])
        squares = build.op("product", "squares", ["value", spoken])
        if self.power < 0:
            squares = build.op("shift", "coarse", [squares], by=-self.power)
        maps = build.op("concat", "maps", ["depth", spoken, squares])
        return [build.op("box", f"box{side}", [maps], side=side) for side, _ in BOXES]

    def mean(self, out: str, fraction: int) -> Value:
        """The mean in half levels with `fraction` bits after the point, rounded to the nearest."""
        limit, scale = (self.K - 1) << fraction, np.full(self._planes, (self.K - 1) * 2.0**fraction)
        sums: dict[str, Any] = {"weight": self.weight}
        self.build.op("centre", out, self.boxes, sums, prior=self.prior, fraction=fraction, lo=-limit, hi=limit)
        return Value(out, scale)

    def spread(self, out: str, mean: Value) -> Value:
        """The spread in half levels with `unit` bits after the point, at least 1; mean: with `placed` bits."""
        K, S, power, unit = self.K, self.S, self.power, self.unit
        least = max(1, round((SPREAD_FLOOR * (K - 1) * 2.0**unit) ** 2))
        extra = round(0.25e-9 * (K - 1) ** 2 * S * 2.0 ** (self.bits + power))
        self.build.op(
            "spread", out, [mean.name, *self.boxes], {"weight": self.weight},
            prior=self.prior, fine=max(0, power), extra=extra, coarse=2 * self.placed - power, rise=unit - power // 2,
            floor=least, lo=1, hi=2 * (K - 1) << unit,
        )  # fmt: skip
        return Value(out, np.full(self._planes, (K - 1) * 2.0**unit))

    def log_weight(self, out: str, scale: float) -> tuple[Value, int, float]:
        """The logarithm of the weight, in nats, as a sum of planes and an offset: parts · C planes, parts, offset.

        Of a number x ≥ 2^STEP with bits far beyond a table, log x ≈ Σ_j T[⌊x / 2^(STEP j)⌋] + log 2^STEP, where T[i] is
        log(i + 1/2) − log 2^STEP from i = 2^STEP, 0 below, and log 2^STEP from i = 2^(2 STEP), where the next j goes on.
        """
        build, C = self.build, self._planes
        each = np.zeros((len(BOXES), 3, C, C))
        each[:, 0, range(C), range(C)] = self.weight[:, None]  # of the depths alone
        tensors = {"weight": each.reshape(-1, C), "bias": np.full(C, self.prior), "shift": np.zeros(C)}
        boxes = build.op("concat", f"{out}.boxes", self.boxes)
        total = build.op("conv", f"{out}.total", [boxes], tensors, tall=1, wide=1, step=1, top=0, left=0)
        spare, most = max(0, self.prior.bit_length() - 1 - STEP), int(build.size(total).max())
        parts = max(1, -(-((most >> spare).bit_length() - STEP) // STEP))
        top = 1 << 2 * STEP
        names = [build.op("shift", f"{out}.part{j}", [total], by=spare + STEP * j, lo=0, hi=top) for j in range(parts)]
        log = np.log((np.arange(top + 1) + 0.5) / 2**STEP)
        log[: 1 << STEP], log[top] = 0, math.log(2**STEP)
        table = np.rint(log * scale)
        build.op("table", out, [build.op("concat", f"{out}.parts", names)], {"table": table}, low=0)
        offset = (STEP + spare - self.bits) * math.log(2) - math.log(self.S)
        return Value(out, np.full(parts * C, scale)), parts, offset

    @property
    def _planes(self) -> int:
        """C."""
        return self.build.bounds["value"].planes
