"""Muon: momentum whose matrices are orthogonalised, so that every direction of a layer moves equally far.

As in `torch.optim.Muon`, but for all matrices of a shape at once, and in float32 on devices without products in bfloat16,
where these take twenty times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ardm.precision import has_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz step a·X + (b·A + c·A²)·X with A = X·Xᵀ, which moves singular values from 0 quickly to about 1."""
STEPS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with all singular values near 1."""
    a, b, c = COEFFICIENTS
    x = matrices.to(torch.bfloat16 if has_bf16(matrices.device) else torch.float32)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Moves each matrix (rows, columns) by rate · √max(1, rows / columns) · orthogonal(Nesterov momentum).

    A kernel (outputs, inputs, tall, wide) is a matrix of so many rows.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            for shape, matrices in alike.items():
                moved = orthogonal(torch.stack([self._momentum(p, group["momentum"]).flatten(1) for p in matrices]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1:].numel()) ** 0.5
                for p, direction in zip(matrices, moved, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction.view_as(p), alpha=-rate)

    def _momentum(self, p: Tensor, decay: float) -> Tensor:
        """The gradient of a matrix, with what Nesterov's momentum adds."""
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        kept: Tensor = state["momentum_buffer"]
        kept.mul_(decay).add_(p.grad)
        return p.grad + decay * kept
