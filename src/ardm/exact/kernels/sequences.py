"""`operations.sequences` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.exact.frequencies import IMPOSSIBLE
from ardm.exact.kernels.kernel import Context, Kernel, Run, Step
from ardm.exact.operations.sequences import MODULUS, SPREAD, STEP, contexts, segments, tap_offsets
from ardm.exact.program import Op


def _read(step: Step, op: Op, a: Tensor, left: int, right: int, columns: Tensor) -> Tensor:
    """A map (B, P, H, W), padded with zeros, at columns (N or 1, n) of the rows of the sites: (N, P · n)."""
    if op.out not in step.shared:
        step.shared[op.out] = F.pad(a, (left, right)).contiguous()
    padded = step.shared[op.out]
    P, H, W = padded.shape[1:]
    corner = (step.batch_index * (P * H) + step.y) * W
    plane = step.once(op, "planes", lambda: torch.arange(P, device=padded.device)[:, None] * (H * W))
    index = corner[:, None, None] + plane + (columns + left)[:, None]
    return padded.view(-1).take(index).flatten(1)


def _taps(context: Context, op: Op, dtype: torch.dtype) -> Run:
    offset = torch.tensor(tap_offsets(op), device=context.device)
    left, right = op.integers["left"], op.integers["right"]
    return lambda step, given: _read(step, op, given[0], left, right, step.x[:, None] + offset)


def _line(context: Context, op: Op, dtype: torch.dtype) -> Run:
    wide = op.integers["wide"]
    columns = torch.arange(wide, device=context.device)[None]
    return lambda step, given: _read(step, op, given[0], 0, max(0, wide - given[0].shape[3]), columns)


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


SEQUENCES = {"taps": Kernel(_taps), "line": Kernel(_line), "hash": Kernel(_hash), "segment": Kernel(_segment)}
