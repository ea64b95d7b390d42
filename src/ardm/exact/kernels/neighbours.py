"""`operations.neighbours` in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.exact.kernels.kernel import Context, Kernel, Run, Step, clamp, halve, isqrt, quotient
from ardm.exact.operations.neighbours import near_sums
from ardm.exact.program import Op


def _nearby(context: Context, op: Op, dtype: torch.dtype) -> Run:
    C, n = context.program.channels, op.integers
    weights = []
    for i, name in enumerate(op.inputs):
        weight = context.program.tensor(op, f"weight{i}")
        sums = context.bounds[name].size.reshape(2 * C, -1) @ weight  # far below 2^53: certified
        held = context.dtype(int(sums.max()))
        weights.append((context.tensor(op, f"weight{i}", held), n[f"rise{i}"]))

    def run(step: Step, given: list[Tensor]) -> Tensor:
        total = torch.zeros(len(given[0]), 2 * C, dtype=torch.int64, device=context.device)
        for window, (weight, rise) in zip(given, weights, strict=True):
            sums = window.to(weight.dtype).view(len(window), 2 * C, -1) @ weight
            total += sums.long().bitwise_left_shift_(rise)
        value, known = total[:, :C] << n["fraction"], total[:, C:]
        mean = (value + (known >> 1)).div_(known.clamp(min=1), rounding_mode="floor")
        return mean.mul_(known > 0).clamp_(-n["limit"], n["limit"])

    return run


def _contrast(context: Context, op: Op, dtype: torch.dtype) -> Run:
    C, n, limit = context.program.channels, op.integers, op.integers["limit"]
    half, finer = (1 << n["by"]) >> 1, 1 << n["fraction"]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        window = given[0].view(len(given[0]), 2 * C, -1)
        out = torch.empty_like(window)
        v, k = window[:, :C], window[:, C:]
        deviation = torch.mul(k, given[1][:, :, None], out=out[:, :C])
        deviation.neg_().add_(v, alpha=finer).add_(half)
        halve(deviation, n["by"]).clamp_(-limit, limit)
        torch.mul(k, 1 << n["known"], out=out[:, C:])
        return out.view(len(out), -1)

    return run


def _centre(context: Context, op: Op, dtype: torch.dtype) -> Run:
    n, weight = op.integers, context.program.tensor(op, "weight")

    def run(step: Step, given: list[Tensor]) -> Tensor:
        W, first, _ = near_sums(weight, n["prior"], [a.long() for a in given], context.program.channels)
        return clamp(op, quotient((first << n["fraction"]) + (W >> 1), W)).to(dtype)

    return run


def _spread(context: Context, op: Op, dtype: torch.dtype) -> Run:
    n, weight = op.integers, context.program.tensor(op, "weight")

    def run(step: Step, given: list[Tensor]) -> Tensor:
        centre, *near = (a.long() for a in given)
        W, _, second = near_sums(weight, n["prior"], near, context.program.channels)
        variance = quotient((second << n["fine"]) + n["extra"], W) - (centre * centre >> n["coarse"])
        return clamp(op, isqrt((variance.clamp_(min=0) << 2 * n["rise"]) + n["floor"])).to(dtype)

    return run


NEIGHBOURS = {
    "nearby": Kernel(_nearby, as_stored=True, row_by_row=True),
    "contrast": Kernel(_contrast, row_by_row=True),
    "centre": Kernel(_centre),
    "spread": Kernel(_spread),
}
