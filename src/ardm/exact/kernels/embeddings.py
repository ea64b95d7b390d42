"""`operations.embeddings` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.exact.kernels.kernel import Context, Kernel, Run, Step
from ardm.exact.operations.embeddings import block_sizes
from ardm.exact.program import Op


def _known(context: Context, op: Op, dtype: torch.dtype) -> Run:
    K, sizes = context.program.classes, torch.from_numpy(block_sizes(context.program)).to(context.device)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        value, depth = (a.long() for a in given)
        block = sizes[depth]
        found = torch.where(value + block <= K, value + K - block >> 1, value)
        return found.masked_fill_(depth == 0, K).to(dtype)

    return run


def _embed(context: Context, op: Op, dtype: torch.dtype) -> Run:
    table = context.tensor(op, "table", dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        rows = table[given[0].long().clamp_(0, len(table) - 1)]
        return rows.flatten(1) if rows.ndim == 3 else rows.movedim(4, 2).flatten(1, 2).contiguous()

    return run


def _count(context: Context, op: Op, dtype: torch.dtype) -> Run:
    table = context.tensor(op, "table", dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        return table[given[0].long().sum((1, 2, 3)).clamp_(0, len(table) - 1)][:, :, None, None]

    return run


def _channel(context: Context, op: Op, dtype: torch.dtype) -> Run:
    table = context.tensor(op, "table", dtype)
    return lambda step, given: given[0] + table[step.channel if step.only is None else step.only]


EMBEDDINGS = {
    "known": Kernel(_known),
    "embed": Kernel(_embed),
    "count": Kernel(_count),
    "channel": Kernel(_channel, row_by_row=True),
}
