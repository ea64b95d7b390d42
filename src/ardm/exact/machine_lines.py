"""The operations of `lines` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.exact.backend import Machine, Run, Step, builder
from ardm.exact.frequencies import IMPOSSIBLE
from ardm.exact.lines import MODULUS, SPREAD, STEP, contexts, offsets, segments
from ardm.exact.program import Op


def _read(step: Step, name: str, a: Tensor, left: int, right: int, columns: Tensor) -> Tensor:
    """A map (B, P, H, W), zeros around it, at columns (N or 1, n) of the rows of the sites: (N, P · n)."""
    if name not in step.kept:
        step.kept[name] = F.pad(a, (left, right)).contiguous()
    padded = step.kept[name]
    P, H, W = padded.shape[1:]
    corner = (step.batch_index * (P * H) + step.y) * W
    plane = torch.arange(P, device=padded.device) * (H * W)
    index = corner[:, None, None] + plane[:, None] + (columns + left)[:, None]
    return padded.reshape(-1).take(index).flatten(1)


@builder("taps")
def _taps(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    offset = torch.tensor(offsets(op), device=machine.device)
    left, right = op.integers["left"], op.integers["right"]
    return lambda step, given: _read(step, op.out, given[0], left, right, step.x[:, None] + offset)


@builder("line")
def _line(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    wide = op.integers["wide"]
    columns = torch.arange(wide, device=machine.device)[None]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        missing = max(0, wide - given[0].shape[3])
        return _read(step, op.out, given[0], 0, missing, columns)

    return run


@builder("hash")
def _hash(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    bits, every = op.integers["bits"], contexts(machine.program, op)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        symbols = given[0].long()
        found = []
        for k, context in enumerate(every):
            h = torch.zeros_like(symbols[:, 0])
            for j in context:
                h = (h * STEP + symbols[:, j] + 1) & (MODULUS - 1)
            found.append(((h * SPREAD & (MODULUS - 1)) >> 31 - bits) + (k << bits))
        return torch.stack(found, 1).to(dtype)

    return run


@builder("segment")
def _segment(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    every = torch.from_numpy(segments(machine.program, op)).to(machine.device)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        columns = every[step.x.clamp(max=len(every) - 1)]
        return given[0].gather(1, columns.clamp(min=0)).masked_fill_(columns < 0, IMPOSSIBLE)

    return run
