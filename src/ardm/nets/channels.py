"""A linear layer for each channel of a picture, applied to rows that know their channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ardm.precision import wide


def by_channel(h: Tensor, channel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows h (N, I) through the layers of their channels (N,): weight (C, I, O), bias (C, O) → (N, O).

    In full precision: bfloat16 would blur the low digits.
    """
    dtype = torch.promote_types(h.dtype, wide(weight.dtype))
    h, weight, bias = h.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.autocast(h.device.type, enabled=False):
        if h.device.type != "cpu":  # C products instead of one, without waiting for counts
            each = torch.einsum("ni,cio->nco", h, weight) + bias
            return each[torch.arange(len(h), device=h.device), channel]
        out = h.new_empty(len(h), weight.shape[2])
        for c in range(len(weight)):
            mine = (channel == c).nonzero()[:, 0]
            out = out.index_put((mine,), torch.addmm(bias[c], h[mine], weight[c]))
        return out


class ChannelLinear(nn.Module):
    """Such layers.  weight: (C, inputs, outputs).  bias: (C, outputs)."""

    def __init__(self, channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels, outputs))

    def forward(self, h: Tensor, channel: Tensor) -> Tensor:
        """h (N, inputs), channel (N,) → (N, outputs), in full precision."""
        return by_channel(h, channel, self.weight, self.bias)
