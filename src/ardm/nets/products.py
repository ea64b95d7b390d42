"""Products with weights in float32, by the faster of the two libraries that PyTorch has on a CPU: MKL and oneDNN.

PyTorch multiplies float32 matrices with MKL, which uses AVX2 on AMD processors, and half of an AVX-512 unit stays idle.
oneDNN uses AVX-512 there (2.5 times the products a second), computes in true float32 as well, and both directions are the
same operation:

    y = x Wᵀ        ∂x = ∂y W        ∂W = ∂yᵀ x

With AVX2 alone, and on Intel's processors, MKL is at least as fast.  The choice depends on the processor only, so that a
process always computes the same numbers.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@cache
def is_amd() -> bool:
    """Whether the processor is AMD's, as Linux or Windows says."""
    listed = Path("/proc/cpuinfo")
    named = listed.read_text(errors="replace") if listed.is_file() else platform.processor()
    return "AuthenticAMD" in named


def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than PyTorch's default: with AVX-512 on AMD processors."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return has_both and torch.backends.cpu.get_cpu_capability() == "AVX512" and is_amd()


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, I) times the transpose of weight (O, I), through oneDNN: (N, O).  Both may be transposed views."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made


class _Linear(torch.autograd.Function):
    """x (N, I), weight (O, I), bias (O,) or None → (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return times(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        first, second, third = ctx.needs_input_grad
        return times(g, weight.T) if first else None, times(g.T, x.T) if second else None, g.sum(0) if third else None


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` through oneDNN: x (…, I), weight (O, I), bias (O,) → (…, O)."""
    rows: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return rows.view(*x.shape[:-1], len(weight))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by the faster library: x (…, I), weight (O, I) → (…, O)."""
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    if plain and onednn_is_faster() and not torch.is_autocast_enabled("cpu"):
        return by_onednn(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer whose products are those of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, I) → (…, O)."""
        return linear(x, self.weight, self.bias)


class Pointwise(nn.Conv2d):
    """A convolution of 1 × 1 pixels with bias, as a product of rows where pixels lie one after the other in memory."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, I, H, W) → (B, O, H, W), in the layout of x."""
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
