"""Adaptive filters of a sequence: least-squares lattices in integers, which learn from the samples of the item itself.

    lattice(u)      at each place: predictions of what follows from the places before it, and how far each was off lately

A lattice of order M holds, for each m < M: the forward energy F and backward energy B, the reflection coefficients k and q,
the backward error b and the conversion factor g.  It predicts by every order at once: p_0 = 0, p_(m+1) = p_m − k_m b_m.
Once the sample y is known, with the forward errors e_m = y − p_m and the forgetting 1 − 2^−rate,

    F_m += g_m e_m² − 2^−rate F_m        k_m −= g_m b_m e_(m+1) / B_m        b'_0 = y,  b'_(m+1) = b_m + q_m e_m
    q_m −= g_m e_m b'_(m+1) / F_m        B'_m = B_m + g'_m b'_m² − 2^−rate B_m,  g'_0 = 1,  g'_(m+1) = g'_m − (g'_m b'_m)² / B'_m

This is recursive least squares ("a priori error LSL with error feedback", Haykin, Adaptive Filter Theory, chapter 16), at a
cost of M rather than M².  docs/exact.md has the same in integers.

R rows (sequences), L rates, J orders that are read, P paces, M the highest order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import Bound, expect, expect_map, integer
from ardm.exact.operations.operation import Operation
from ardm.exact.program import Op, Program

ERROR, COEFFICIENT, CONVERSION, DEVIATION = 24, 20, 16, 8
"""Bits of the largest error; bits after the point of coefficients, of conversion factors, and of deviations beyond outputs."""
STEEPEST, LEAST = 1 << 24, 1 << 6
"""The largest coefficient, 16; the smallest conversion factor, a thousandth."""
DENOMINATOR = 14
"""Bits of an energy that a division drops."""
FIRST = 6
"""Deviations begin at 2^6 units of a value."""
MAX_ORDER, MAX_RATE = 64, 10


@dataclass(frozen=True)
class Lattice:
    """The settings of a bank of lattices, one for each rate.

    order: M.  fraction: bits after the point of predictions and deviations.  energy: what all energies begin at, and what is
    added to them in the long run, so that silence is no division by 0.  limit: of predictions.
    rates (L,), orders (J,), paces (P,): a deviation forgets by 2^−pace.
    """

    order: int
    fraction: int
    energy: int
    limit: int
    rates: tuple[int, ...]
    orders: tuple[int, ...]
    paces: tuple[int, ...]

    @classmethod
    def of(cls, program: Program, op: Op) -> Lattice:
        """The settings of an operation.  Raises ArdmError where they are out of range."""
        order, fraction = integer(op, "order", 1, MAX_ORDER), integer(op, "fraction", 0, 16)
        most = {"rates": (1, MAX_RATE), "orders": (1, order), "paces": (0, 12)}
        lists = {role: program.tensor(op, role) for role in most}
        for role, (low, high) in most.items():
            a = lists[role]
            good = a.ndim == 1 and 0 < len(a) <= MAX_ORDER and low <= a.min() and a.max() <= high
            expect(op, bool(good), f"does not have 1 to {MAX_ORDER} {role} within {low}..{high}")
        limit = (program.classes - 1) << fraction
        expect(op, limit < 1 << ERROR - 1, f"has {fraction} bits after the point of values below {program.classes}")
        energy = integer(op, "energy", 0, 1 << 40)
        return cls(order, fraction, energy, limit, *(tuple(a.tolist()) for a in lists.values()))

    @property
    def columns(self) -> int:
        """L J predictions, rate after rate, and then as many deviations for each pace."""
        return len(self.rates) * len(self.orders) * (1 + len(self.paces))

    @property
    def state(self) -> int:
        """The numbers that a row remembers: F, B, k, q, b, g of each rate and m, then the deviations of each pace."""
        return len(self.rates) * (6 * self.order + len(self.paces) * len(self.orders))

    @property
    def bounds(self) -> tuple[Ints, Ints]:
        """The least and the largest number in each column."""
        predictions = len(self.rates) * len(self.orders)
        most = np.full(self.columns, max(2 * self.limit, 1 << self.fraction + FIRST))
        most[:predictions] = self.limit
        least = np.zeros_like(most)
        least[:predictions] = -self.limit
        return least, most


class Filters:
    """A bank of lattices on each of R sequences.  state: (R, lattice.state), laid out as in C."""

    def __init__(self, lattice: Lattice, rows: int) -> None:
        self.lattice = lattice
        L, J, M = len(lattice.rates), len(lattice.orders), lattice.order
        self.state = np.zeros((rows, lattice.state), dtype=np.int64)
        self._filters = self.state[:, : 6 * L * M].reshape(rows, L, 6, M)
        self._apart = self.state[:, 6 * L * M :].reshape(rows, len(lattice.paces), L, J)
        self._filters[:, :, :2] = lattice.energy
        self._filters[:, :, 5] = 1 << CONVERSION
        self._apart[:] = 1 << lattice.fraction + FIRST + DEVIATION

    @cached_property
    def _rate(self) -> Ints:
        return np.array(self.lattice.rates)[:, None]

    @cached_property
    def _pace(self) -> Ints:
        return np.array(self.lattice.paces)[:, None, None]

    def _sums(self) -> Ints:
        """(R, L, M): the predictions of orders 1 to M, without a limit."""
        k, b = self._filters[:, :, 2], self._filters[:, :, 4]
        return -(k * b + (1 << COEFFICIENT - 1) >> COEFFICIENT).cumsum(-1)

    def _read(self, sums: Ints) -> Ints:
        """(R, L, J): the predictions that are read."""
        orders = np.array(self.lattice.orders) - 1
        return np.clip(sums[..., orders], -self.lattice.limit, self.lattice.limit)

    def columns(self) -> Ints:
        """(R, columns): the predictions of the next sample, and the deviations so far."""
        rows = len(self.state)
        return np.concatenate(
            [self._read(self._sums()).reshape(rows, -1), self._apart.reshape(rows, -1) >> DEVIATION], 1
        )

    def absorb(self, value: Ints) -> None:
        """Learn from the next sample of each sequence (R,)."""
        y = (value << self.lattice.fraction)[:, None, None]
        sums = self._sums()
        off = np.abs(y - self._read(sums))[:, None] << DEVIATION
        self._apart += off - self._apart >> self._pace
        errors = np.clip(np.concatenate([np.broadcast_to(y, (*sums.shape[:2], 1)), y - sums], -1), *_WITHIN)
        self._adapt(y[..., 0], errors[..., :-1], errors[..., 1:])

    def _adapt(self, y: Ints, e: Ints, after: Ints) -> None:
        """Learn from the forward errors (R, L, M) of orders 0 to M − 1, and of 1 to M; y (R, 1)."""
        F, B, k, q, b, g = (self._filters[:, :, n] for n in range(6))
        front, back = g * e >> CONVERSION, g * b >> CONVERSION
        F += front * e - (F >> self._rate) + (self.lattice.energy >> self._rate)
        behind = np.clip(b + (q * e + (1 << COEFFICIENT - 1) >> COEFFICIENT), *_WITHIN)
        k[:] = np.clip(k - _share(back * after, B), -STEEPEST, STEEPEST)
        q[:] = np.clip(q - _share(front * behind, F), -STEEPEST, STEEPEST)
        b[..., 1:], b[..., 0] = behind[..., :-1], y
        B += (self.lattice.energy >> self._rate) - (B >> self._rate)
        factor = np.full(b.shape[:2], 1 << CONVERSION)
        for m in range(self.lattice.order):
            g[..., m] = factor
            part = factor * b[..., m] >> CONVERSION
            B[..., m] += part * b[..., m]
            factor = np.maximum(factor - part * part // ((B[..., m] >> CONVERSION) + 1), LEAST)

    def run(self, values: Ints) -> Ints:
        """(R, T, columns): the columns before each of T more samples, values (R, T)."""
        out = np.empty((*values.shape, self.lattice.columns), dtype=np.int64)
        for t, value in enumerate(values.T):
            out[:, t] = self.columns()
            self.absorb(value)
        return out


_WITHIN = (-(1 << ERROR), 1 << ERROR)


def _share(product: Ints, energy: Ints) -> Ints:
    """product / energy, rounded, with COEFFICIENT bits after the point."""
    by = (energy >> DENOMINATOR) + 1
    return ((product << COEFFICIENT - DENOMINATOR) + (by >> 1)) // by


def _bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    expect_map(op, given[0])
    expect(op, program.wave > 0 and program.channels == 1, "needs a program along wavefronts of one channel")
    expect(op, op.inputs == ("value",), "reads the map value")
    return Bound.of(*Lattice.of(program, op).bounds, "places")


def _run(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    B, _, H, W = given[0].shape
    filters = Filters(Lattice.of(program, op), B * H)
    return filters.run(given[0].reshape(B * H, W)).reshape(B * H * W, -1)


LATTICE = {"lattice": Operation(_bound, _run)}
