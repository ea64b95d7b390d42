"""`operations.elementwise` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.exact.kernels.kernel import Context, Kernel, Run, Step, clamp, halve, quotient, scaled
from ardm.exact.operations.elementwise import STEPS
from ardm.exact.program import Op


def _product(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] * given[1]


def _add(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] + given[1]


def _less(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] - given[1]


def _gate(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: clamp(op, halve(given[0] * given[1], op.integers["by"]))


def _ratio(context: Context, op: Op, dtype: torch.dtype) -> Run:
    wider = dtype if dtype == torch.int64 else torch.float64  # a quotient of float32 may be rounded up to an integer
    by = op.integers["by"]
    return lambda step, given: clamp(
        op, quotient(scaled(given[0].to(wider), by), given[1].to(wider).clamp(min=1)).to(dtype)
    )


def _log(context: Context, op: Op, dtype: torch.dtype) -> Run:
    table, octave, by = context.tensor(op, "table", torch.int64), op.integers["octave"], op.integers["by"]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        x = given[0].long().clamp(min=1)
        n = torch.frexp(x.double())[1].long() - 1
        rest = torch.where(n > 8, x >> (n - 8).clamp(min=0), x << (8 - n).clamp(min=0)) - STEPS
        return (n * octave + table[rest] >> by).to(dtype)

    return run


def _concat(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: torch.cat(given, 1)


def _shift(context: Context, op: Op, dtype: torch.dtype) -> Run:
    by, limited = op.integers["by"], "lo" in op.integers
    if dtype == torch.int64:
        return lambda step, given: clamp(op, given[0] >> by)
    if not by:
        return lambda step, given: given[0].clamp(op.integers["lo"], op.integers["hi"]) if limited else given[0]
    return lambda step, given: clamp(op, (given[0] * 2.0**-by).floor_())


def _table(context: Context, op: Op, dtype: torch.dtype) -> Run:
    table, low = context.tensor(op, "table", dtype), op.integers["low"]
    return lambda step, given: table[(given[0].long() - low).clamp_(0, len(table) - 1)]


ELEMENTWISE = {
    "product": Kernel(_product, row_by_row=True),
    "add": Kernel(_add, row_by_row=True),
    "less": Kernel(_less, row_by_row=True),
    "gate": Kernel(_gate, row_by_row=True),
    "ratio": Kernel(_ratio, row_by_row=True),
    "log": Kernel(_log, row_by_row=True),
    "concat": Kernel(_concat, row_by_row=True),
    "shift": Kernel(_shift, row_by_row=True),
    "table": Kernel(_table, row_by_row=True),
}
