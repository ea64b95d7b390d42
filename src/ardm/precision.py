"""The two ends of a network, which half precision would blur: computed in float32 at least, whatever weights are held in.

bfloat16 has 8 binary digits and float16 no room for small weights.  In the middle of a network that costs little; at its
input it merges neighbouring values, and at its output it is an error in every probability.  So a network runs in the
dtype of its parameters, or in that of `torch.autocast`, between a first and a last layer that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def settled() -> Iterator[None]:
    """Floats are float32 by default and gradients are taken, whatever the program around us has set; that comes back."""
    before = torch.get_default_dtype()
    try:
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 of float64."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """x in float32 at least."""
    return x.to(wide(x.dtype))


def full(layer: nn.Module, x: Tensor) -> Tensor:
    """What a linear layer or a convolution (with zero padding) makes of x, in float32 at least and without autocast."""
    if isinstance(layer, nn.Identity):
        return widened(x)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))  # noqa: PT018 (for mypy)
    dtype = torch.promote_types(wide(weight.dtype), x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if weight.dtype == dtype:
            made: Tensor = layer(x.to(dtype))
            return made
        parts = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        if isinstance(layer, nn.Linear):
            return F.linear(*parts)
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
        convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        return convolve(*parts, layer.stride, layer.padding, layer.dilation, layer.groups)
