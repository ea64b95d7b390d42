"""`operations.attention` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.ans import EXP
from ardm.exact.kernels.kernel import Context, Kernel, Run, Step, clamp, halve, quotient, room, scaled, wide
from ardm.exact.operations.attention import FAR
from ardm.exact.operations.operation import grouped
from ardm.exact.program import Op


def _attention(context: Context, op: Op, dtype: torch.dtype) -> Run:
    n = op.integers
    exp = torch.from_numpy(EXP).to(context.device, torch.int64 if dtype == torch.int64 else torch.float64)

    def some(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (heads, planes, some places), k, v (heads, planes, n) → (heads, planes, some places)."""
        s = halve(torch.matmul(q.transpose(1, 2), k), n["by"])
        e = exp[(s.amax(2, keepdim=True) - s).clamp_(max=FAR).long()]
        p = quotient(scaled(e, n["bits"]), e.sum(2, keepdim=True))
        P = p.sum(2)[:, None]
        o = scaled(wide(torch.matmul(v, p.to(dtype).transpose(1, 2))), n["rise"])
        return clamp(op, quotient(o.add_(halve(P.clone(), 1)), P)).to(dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        q, k, v = (grouped(a, n["heads"]) for a in given)
        block = max(1, room(q) // (n["heads"] * q.shape[3]))
        made = [torch.cat([some(part, k[b], v[b]) for part in item.split(block, 2)], 2) for b, item in enumerate(q)]
        return torch.stack(made).view(given[2].shape) if made else given[2].clone()

    return run


ATTENTION = {"attention": Kernel(_attention)}
