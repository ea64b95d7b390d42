"""`operations.sequences` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.exact.frequencies import IMPOSSIBLE
from ardm.exact.kernels.kernel import Context, Kernel, Run, Step
from ardm.exact.operations.sequences import MODULUS, SPREAD, STEP, contexts, segments
from ardm.exact.program import Op


def _line(context: Context, op: Op, dtype: torch.dtype) -> Run:
    wide = op.integers["wide"]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        rows = given[0][step.batch_index, :, step.y, :wide]
        return F.pad(rows, (0, wide - rows.shape[2])).flatten(1)

    return run


def _hash(context: Context, op: Op, dtype: torch.dtype) -> Run:
    bits, every = op.integers["bits"], contexts(context.program, op)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        symbols = given[0].long()
        found = []
        for k, context_ in enumerate(every):
            h = torch.zeros_like(symbols[:, 0])
            for j in context_:
                h = (h * STEP + symbols[:, j] + 1) & (MODULUS - 1)
            found.append(((h * SPREAD & (MODULUS - 1)) >> 31 - bits) + (k << bits))
        return torch.stack(found, 1).to(dtype)

    return run


def _segment(context: Context, op: Op, dtype: torch.dtype) -> Run:
    every = torch.from_numpy(segments(context.program, op)).to(context.device)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        columns = every[step.x.clamp(max=len(every) - 1)]
        return given[0].gather(1, columns.clamp(min=0)).masked_fill_(columns < 0, IMPOSSIBLE)

    return run


SEQUENCES = {"line": Kernel(_line), "hash": Kernel(_hash), "segment": Kernel(_segment)}
