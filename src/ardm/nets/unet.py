"""The paper's image network: residual blocks at one resolution, one attention block in the middle, skips.

Appendix B: 32 blocks down, attention, 33 blocks up, 256 channels, GroupNorm and swish, the second convolution of each
block zero at the start.  `levels` > 1 halves the resolution between groups of blocks, which makes small networks see
the whole image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.nets.local import Features
from ardm.nets.near import neighbours


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 32) if channels >= 32 else 1, channels, eps=1e-6)


class Block(nn.Module):
    """norm → swish → convolution → (+ condition) → norm → swish → dropout → convolution, added to its input."""

    def __init__(self, inputs: int, channels: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs), nn.Conv2d(inputs, channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(condition, channels) if condition else None
        self.dropout = dropout
        self.skip = nn.Conv2d(inputs, channels, 1) if inputs != channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x: (B, inputs, H, W) → (B, channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        if self.condition is not None and condition is not None:
            h = h + self.condition(F.silu(condition))[:, :, None, None]
        h = F.dropout(F.silu(self.norm2(h)), self.dropout, self.training)
        return self.skip(x) + self.conv2(h)


class Attention(nn.Module):
    """Self-attention over all pixels, one head as in the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = (
            _norm(channels),
            nn.Conv2d(channels, 3 * channels, 1),
            nn.Conv2d(channels, channels, 1),
        )
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, F, H, W), unchanged in shape."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, -1)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape_as(x))


def _through(pair: nn.Module, h: Tensor, condition: Tensor | None) -> Tensor:
    """A block, then attention or nothing."""
    block, extra = pair.children()
    out: Tensor = extra(block(h, condition))
    return out


class UNet(nn.Module):
    """Planes (B, P, H, W) to features at every pixel, read at the sites asked.

    planes: P of the input.  channels: C of the images; each adds a learnt vector, so that one head serves all.
    width: F.  blocks: on the way down, at each of `levels` resolutions.  attention: "none", "middle" (the paper's
    text) or "all" (the released configuration).  condition: width of the conditioning vector (0: none).
    """

    def __init__(
        self,
        planes: int,
        channels: int,
        width: int,
        blocks: int,
        levels: int = 1,
        attention: str = "middle",
        dropout: float = 0.0,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.levels = width, levels

        def block(inputs: int) -> nn.Module:
            return Block(inputs, width, condition, dropout)

        def extra() -> nn.Module:
            return Attention(width) if attention == "all" else nn.Identity()

        self.input = nn.Conv2d(planes, width, 3, padding=1)
        self.down = nn.ModuleList(nn.ModuleList([block(width), extra()]) for _ in range(levels * blocks))
        self.middle = nn.ModuleList(
            [block(width), nn.Identity() if attention == "none" else Attention(width), block(width)]
        )
        self.up = nn.ModuleList(nn.ModuleList([block(2 * width), extra()]) for _ in range(levels * (blocks + 1)))
        self.norm = _norm(width)
        self.channel = nn.Parameter(torch.randn(channels, width) * 0.02)
        self.turn = nn.Linear(width, width)

    def forward(self, planes: Tensor, value: Tensor, known: Tensor, condition: Tensor | None = None) -> Features:
        """planes (B, P, H, W); value in [−1, 1] and known in [0, 1] (B, C, H, W) place the centre of a mixture."""
        B, _, H, W = planes.shape
        with torch.autocast(planes.device.type, enabled=False):  # bfloat16 would blur the low digits
            h = self.input(planes)
        each = len(self.down) // self.levels
        skips, sizes = [h], []
        for i, pair in enumerate(self.down):
            h = _through(pair, h, condition)
            skips.append(h)
            if (i + 1) % each == 0 and i + 1 < len(self.down):
                sizes.append(h.shape[-2:])
                h = F.avg_pool2d(h, 2, ceil_mode=True)
                skips.append(h)
        h = self.middle[2](self.middle[1](self.middle[0](h, condition)), condition)
        for i, pair in enumerate(self.up):
            h = _through(pair, torch.cat([h, skips.pop()], 1), condition)
            if (i + 1) % (each + 1) == 0 and sizes:
                h = F.interpolate(h, size=sizes.pop(), mode="nearest")
        rows = self.norm(h).permute(0, 2, 3, 1).reshape(B * H * W, self.width).to(value.dtype)
        mean, spread = (m.flatten() for m in neighbours(value, known))

        def features(lane: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pixel, channel = position % (H * W), position // (H * W)
            site = lane * (H * W * value.shape[1]) + position
            with torch.autocast(value.device.type, enabled=False):
                out = F.silu(self.turn(F.silu(rows[lane * (H * W) + pixel] + self.channel[channel])))
            return out, mean[site], spread[site]

        return features
