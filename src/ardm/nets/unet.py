"""The paper's image network: residual blocks at one resolution, one attention block in the middle, skips.

Appendix B: 32 blocks down, attention, 33 blocks up, 256 channels, GroupNorm and swish, the second convolution of each
block initialised to zero (`PaperUNet`, with the inputs and outputs of the released code).  `UNet` has inputs for any
alphabet and one head for all channels, evaluated only at the sites asked.  `levels` > 1 halves the resolution between
groups of blocks, so that small networks see the whole image.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.neighbours import neighbours
from ardm.nets.norms import GroupNorm
from ardm.nets.products import Linear, Pointwise
from ardm.precision import full


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(math.gcd(channels, 32) if channels >= 32 else 1, channels, eps=1e-6)


def swish(x: Tensor) -> Tensor:
    """x σ(x), in the memory of x where no gradient needs it; so x must belong to nobody else."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Block(nn.Module):
    """norm → swish → convolution → (+ condition) → norm → swish → dropout → convolution, added to its input."""

    def __init__(self, inputs: int, channels: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inputs), nn.Conv2d(inputs, channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(condition, channels) if condition else None
        self.dropout = dropout
        self.skip = Pointwise(inputs, channels) if inputs != channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x: (B, inputs, H, W) → (B, channels, H, W)."""
        h = self.conv1(swish(self.norm1(x)))
        if self.condition is not None and condition is not None:
            h = h + self.condition(F.silu(condition))[:, :, None, None]
        h = F.dropout(swish(self.norm2(h)), self.dropout, self.training)
        return self.skip(x) + self.conv2(h)


class Attention(nn.Module):
    """Self-attention over all pixels, one head as in the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = (
            _norm(channels),
            Pointwise(channels, 3 * channels),
            Pointwise(channels, channels),
        )
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, F, H, W), unchanged in shape."""
        rows = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None]  # without an axis of heads, PyTorch is slow
        h = F.scaled_dot_product_attention(*rows.chunk(3, -1))[:, 0]
        return x + self.out(h.transpose(1, 2).reshape_as(x))


def _through(pair: nn.Module, h: Tensor, condition: Tensor | None) -> Tensor:
    """Apply a block, then attention or nothing."""
    block, extra = pair.children()
    out: Tensor = extra(block(h, condition))
    return out


class Residual(nn.Module):
    """Blocks down, a middle, blocks up with skips, and a norm: (B, F, H, W) → (B, F, H, W).

    width: F.  blocks: on the way down, at each of `levels` resolutions.  attention: "none", "middle" (the paper's text)
    or "all" (the released configuration).  condition: width of the conditioning vector (0: none).
    growth: factor by which the width grows from one level to the next, which has a quarter of the pixels.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        levels: int = 1,
        attention: str = "middle",
        dropout: float = 0.0,
        condition: int = 0,
        growth: int = 1,
    ) -> None:
        super().__init__()
        self.width, self.levels = width, levels
        widths = [width * growth**level for level in range(levels)]

        def block(inputs: int, outputs: int) -> nn.Module:
            return Block(inputs, outputs, condition, dropout)

        def pair(inputs: int, outputs: int) -> nn.Module:
            return nn.ModuleList([block(inputs, outputs), Attention(outputs) if attention == "all" else nn.Identity()])

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        deep, skips = width, [width]  # channels so far, and those of the skips
        for level, wide in enumerate(widths):
            if level:
                skips.append(deep)
            for _ in range(blocks):
                self.down.append(pair(deep, wide))
                deep = wide
                skips.append(deep)
        self.middle = nn.ModuleList(
            [block(deep, deep), nn.Identity() if attention == "none" else Attention(deep), block(deep, deep)]
        )
        for wide in reversed(widths):
            for _ in range(blocks + 1):
                self.up.append(pair(deep + skips.pop(), wide))
                deep = wide
        self.norm = _norm(width)

    def through(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """h (B, F, H, W) → (B, F, H, W), normalised."""
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
        out: Tensor = self.norm(h)
        return out


class UNet(Residual):
    """Planes (B, P, H, W) → features at every pixel, read at the sites asked.

    planes: P of the input.  channels: C of the images; each adds a learnt vector, so that one head serves all.
    Other arguments: see `Residual`.
    """

    def __init__(self, planes: int, channels: int, width: int, blocks: int, **sizes: Any) -> None:
        super().__init__(width, blocks, **sizes)
        self.input = nn.Conv2d(planes, width, 3, padding=1)
        self.channel = nn.Parameter(torch.randn(channels, width) * 0.02)
        self.turn = Linear(width, width)

    def forward(self, planes: Tensor, value: Tensor, known: Tensor, condition: Tensor | None = None) -> FeaturesAt:
        """planes (B, P, H, W).  value in [−1, 1] and known in [0, 1] (B, C, H, W) give the loc and scale of features."""
        B, _, H, W = planes.shape
        planes = planes.contiguous(memory_format=torch.channels_last)  # a tenth faster on processors
        h = self.through(full(self.input, planes).to(self.input.weight.dtype), condition)
        rows = h.permute(0, 2, 3, 1).reshape(B * H * W, self.width).to(value.dtype)
        mean, spread = (m.flatten() for m in neighbours(value, known))

        def features(batch_index: Tensor, position: Tensor) -> Features:
            pixel, channel = position % (H * W), position // (H * W)
            site = batch_index * (H * W * value.shape[1]) + position
            out = F.silu(full(self.turn, F.silu(rows[batch_index * (H * W) + pixel] + self.channel[channel])))
            return Features(out, mean[site], spread[site])

        return features


class PaperUNet(Residual):
    """The network of the paper, with the inputs and outputs of the released code.

    Values 2x/K − 1 and mask planes go through a 3×3 convolution to F − E channels; the embeddings (E) of the values of the
    C channels go through a linear map to E; together they are the F channels of the blocks.  At the end a 3×3 convolution,
    initialised to zero, makes C·K outputs: the features are the logits of the K values.
    masks: number of mask planes.  channels: C.  classes: K.  embedding: E.  Other arguments: see `Residual`.
    """

    def __init__(
        self, masks: int, channels: int, classes: int, embedding: int, width: int, blocks: int, **sizes: Any
    ) -> None:
        super().__init__(width, blocks, **sizes)
        self.classes = classes
        self.input = nn.Conv2d(channels + masks, width - embedding, 3, padding=1)
        self.embedding = nn.Embedding(classes, embedding)
        self.join = nn.Linear(channels * embedding, embedding)
        self.output = nn.Conv2d(width, channels * classes, 3, padding=1)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)

    def forward(self, shown: Tensor, masks: Tensor, condition: Tensor | None = None) -> FeaturesAt:
        """shown: (B, C, H, W) int64, with the absorbing value where nothing is known.  masks: (B, M, H, W), 1 where known."""
        B, C, H, W = shown.shape
        dtype, K = masks.dtype, self.classes
        h = full(self.input, torch.cat([2 * shown.to(dtype) / K - 1, masks], 1))
        rows = self.embedding(shown).permute(0, 2, 3, 1, 4).flatten(3)
        h = torch.cat([h, full(self.join, rows).permute(0, 3, 1, 2)], 1)
        h = F.silu(self.through(h.to(self.input.weight.dtype), condition))
        out = full(self.output, h).view(B, C, K, H * W)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(out[batch_index, position // (H * W), :, position % (H * W)])

        return features
