"""A matrix product of rows.

    linear(a)           clamp ⌊(a · W + bias) / 2^shift⌋      one W, bias and shift, or one for each channel

rows → rows, and places → places with one W.
"""

from __future__ import annotations

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import Bound, clamped, expect, expect_row_wise, matrix_bound
from ardm.exact.operations.operation import Operation, clamp
from ardm.exact.program import Op, Program


def _linear_bound(program: Program, op: Op, given: list[Bound]) -> Bound:
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    expect(op, weight.ndim in (2, 3) and shift.shape == bias.shape, "does not fit")
    expect(
        op,
        weight.ndim == 2 or len(weight) == len(bias) == program.channels,
        "does not have one matrix for each channel",
    )
    kind = expect_row_wise(op, given[0])
    expect(op, kind == "rows" or weight.ndim == 2, "has one matrix for each channel and needs rows")
    expect(op, shift.min(initial=0) >= 0 and shift.max(initial=0) <= 40, "must shift by 0 to 40 bits")
    each = [(weight, bias, shift)] if weight.ndim == 2 else list(zip(weight, bias, shift, strict=True))
    bounds = [(*matrix_bound(op, w, b, given[0]), s) for w, b, s in each]
    lo = np.min([lo >> s for lo, _, _, s in bounds], axis=0)
    hi = np.max([hi >> s for _, hi, _, s in bounds], axis=0)
    return clamped(op, lo, hi, kind, max(peak for _, _, peak, _ in bounds))


def _linear(program: Program, op: Op, given: list[Ints], sites: AskedSites) -> Ints:
    weight, bias, shift = (program.tensor(op, role) for role in ("weight", "bias", "shift"))
    if weight.ndim == 2:
        return clamp(op, given[0] @ weight + bias >> shift)
    out = np.empty((len(sites), weight.shape[2]), dtype=np.int64)
    for c in range(len(weight)):
        mine = sites.channel == c
        out[mine] = given[0][mine] @ weight[c] + bias[c] >> shift[c]
    return clamp(op, out)


LINEAR = {"linear": Operation(_linear_bound, _linear)}
