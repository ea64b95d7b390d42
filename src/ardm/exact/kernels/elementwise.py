"""`operations.elementwise` in PyTorch."""

from __future__ import annotations

import torch

from ardm.exact.kernels.kernel import Context, Kernel, Run, clamp, halve
from ardm.exact.program import Op


def _product(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] * given[1]


def _add(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] + given[1]


def _less(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] - given[1]


def _gate(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: clamp(op, halve(given[0] * given[1], op.integers["by"]))


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
    "concat": Kernel(_concat, row_by_row=True),
    "shift": Kernel(_shift, row_by_row=True),
    "table": Kernel(_table, row_by_row=True),
}
