"""`operations.norm` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.exact.bounds import INNER, largest
from ardm.exact.kernels.kernel import EXACT, Context, Kernel, Run, Step, clamp, halve, isqrt, quotient, scaled, wide
from ardm.exact.operations.operation import grouped
from ardm.exact.program import Op

assert EXACT[torch.int64] >= INNER  # statistics are computed in int64 in every container


def _norm(context: Context, op: Op, dtype: torch.dtype) -> Run:
    n, P = op.integers, context.bounds[op.out].planes
    axes = [2] if n["each"] else [2, 3]
    size = largest(context.bounds[op.inputs[0]])
    gain, bias = (context.tensor(op, role, dtype).view(1, n["groups"], -1, 1) for role in ("gain", "bias"))
    gain = scaled(wide(gain), n["up"])

    def run(step: Step, given: list[Tensor]) -> Tensor:
        x = grouped(given[0], n["groups"])
        N = P // n["groups"] * (1 if n["each"] else x.shape[3])
        fits = dtype != torch.int64 and N * size * size < EXACT[torch.float64]
        counted = x.double() if fits else x.long()
        total = counted.sum(axes, keepdim=True).long()
        V = (counted * counted).sum(axes, keepdim=True).long() * N
        d = x * N
        if n["centre"]:
            V -= total * total
            d -= total.to(dtype)
        R = isqrt((V << 2 * n["rise"]) + N * N * n["epsilon"])
        q = quotient(gain, R.to(gain.dtype)).to(dtype)
        y = halve(d.mul_(q).add_(bias), n["by"])
        return clamp(op, y).reshape(given[0].shape)

    return run


NORM = {"norm": Kernel(_norm)}
