"""Norms that PyTorch computes slowly on CPUs: RMSNorm, and GroupNorm of images whose channels lie together in memory.

RMSNorm takes ten passes over memory, forward and back, where six suffice:

    y = w r x,  r = (mean x² + ε)^−½        ∂x = r w ∂y − x r³ mean(w x ∂y)        ∂w = Σ r x ∂y

The backward of GroupNorm takes a fifth of the training step of a small U-Net, and in bfloat16 nearly half; below 1,024 pixels its forward
is slow too.  With the sums of each channel over the pixels, both are one multiplication and one addition for each number:

    y = a x + c                           a = w / σ,   c = b − μ w / σ            (μ, σ: of a group; w, b: of a channel)
    ∂x = a ∂y + e x + f                   e = (μ ΣΣ w ∂y − ΣΣ w x ∂y) / (n σ³),   f = −μ e − ΣΣ w ∂y / (n σ)
    ∂w = Σ (Σ x ∂y − μ Σ ∂y) / σ          ∂b = Σ Σ ∂y                             (n: numbers of a group)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ardm.precision import widened

FEW_PIXELS = 1024
"""Below this number of pixels PyTorch's forward reads memory in jumps."""


class RMSNorm(nn.RMSNorm):
    """`nn.RMSNorm` of the last axis, fast on CPUs as well: the same numbers, up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, C), unchanged in shape."""
        if x.device.type != "cpu" or x.dtype != self.weight.dtype or widened(x).dtype != x.dtype:
            return super().forward(x)
        made: Tensor = _RMSNorm.apply(x, self.weight, self.eps)
        return made


class _RMSNorm(torch.autograd.Function):
    """See the module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        inverse = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return torch.mul(x, weight).mul_(inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        gx = g * weight
        slope = -(gx * x).mean(-1, keepdim=True) * inverse**3
        own = (g * x).mul_(inverse).reshape(-1, len(weight)).sum(0)  # a product would be in bfloat16 under autocast
        return gx.mul_(inverse).addcmul_(x, slope), own, None


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, fast on CPUs as well: the same numbers, up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W), in any layout → the same shape, in the layout of x."""
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return normalised(x, self.weight, self.bias, self.num_groups, self.eps)


def normalised(x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> Tensor:
    """GroupNorm of x (B, C, H, W) on a CPU, with channels last in memory; sums in float32 or better."""
    made: Tensor = _GroupNorm.apply(x, weight, bias, groups, epsilon)
    return made


class _GroupNorm(torch.autograd.Function):
    """See `normalised`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> Tensor:
        pixels = x.shape[2] * x.shape[3]
        if pixels >= FEW_PIXELS and x.dtype == weight.dtype:
            out, mean, inverse = torch.native_group_norm(x, weight, bias, len(x), x.shape[1], pixels, groups, epsilon)
        else:
            mean, inverse = _statistics(_rows(x), groups, epsilon)
            scale = _each(inverse, x) * weight
            out = _image(_affine(_rows(x), scale, bias - _each(mean, x) * scale), x)
        ctx.save_for_backward(x, weight, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        mean, inverse = widened(mean), widened(inverse)
        rows, g = _rows(x), _rows(gradient)
        plain, crossed = (t.sum(1) for t in (widened(g), widened(g) * rows))
        first, second = ((t * weight).unflatten(1, (mean.shape[1], -1)).sum(2) for t in (plain, crossed))
        count = rows[0].numel() // mean.shape[1]
        slope = (mean * first - second) * inverse**3 / count
        shift = -mean * slope - first * inverse / count
        gx = _affine(g, _each(inverse, x) * weight, _each(shift, x), rows, _each(slope, x))
        own = ((crossed - _each(mean, x) * plain) * _each(inverse, x)).sum(0)
        return _image(gx, x), own.to(weight.dtype), plain.sum(0).to(weight.dtype), None, None


def _rows(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as pixels (B, H · W, C), without a copy where channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_rows`, in the dtype and shape of an image."""
    return rows.to(like.dtype).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def _statistics(rows: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """(B, groups) each: the mean, and the inverse of the standard deviation."""
    x = widened(rows)
    mean, square = (t.mean(1).unflatten(1, (groups, -1)).mean(2) for t in (x, x.square()))
    return mean, (square - mean.square()).clamp(min=0).add(epsilon).rsqrt()


def _each(t: Tensor, x: Tensor) -> Tensor:
    """Numbers of groups (B, groups) for each channel of an image: (B, C)."""
    C = x.shape[1]
    return t.repeat_interleave(C // t.shape[1], 1, output_size=C)


def _affine(
    x: Tensor, scale: Tensor, shift: Tensor, other: Tensor | None = None, slope: Tensor | None = None
) -> Tensor:
    """scale x + shift + slope other, for pixels x and other (B, P, C) and numbers of channels (B, C)."""
    made = torch.addcmul(shift[:, None], x, scale[:, None])
    return made if other is None or slope is None else made.addcmul_(other, slope[:, None])
