"""`operations.causal` in PyTorch: what is computed of rows.  `exact.causal` reads the places."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.exact.kernels.kernel import Context, Kernel, Run, Step, halve, scaled
from ardm.exact.program import Op


def _earlier(context: Context, op: Op, dtype: torch.dtype) -> Run:
    """Of the values and means at the sites, (N, C) each."""
    C, n = context.program.channels, op.integers
    half, limit = (1 << n["by"]) >> 1, n["limit"]
    before = torch.ones(C, C, device=context.device).tril(-1).to(dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        if step.only == 0:
            return torch.zeros_like(given[1])
        apart = scaled(given[0], n["fraction"]).sub_(given[1]).add_(half)
        halve(apart, n["by"]).clamp_(-limit, limit)
        return apart.mul_(before[step.channel if step.only is None else step.only])

    return run


def carried(op: Op, z: Tensor, n: Tensor, before: Tensor) -> Tensor:
    """`carry` over the second axis of z, n (N, T, P), from the states before them (N, P), all in its container."""
    by, found = op.integers["by"], torch.empty_like(n)
    for t in range(n.shape[1]):
        moved = (n[:, t] - before).mul_(z[:, t]).add_(1 << by - 1)
        before = found[:, t] = halve(moved, by).add_(before)
    return found


CAUSAL = {"earlier": Kernel(_earlier)}
