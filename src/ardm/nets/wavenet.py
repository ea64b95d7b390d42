"""DiffWave's network: gated dilated convolutions over both sides of a sound, or causal ones as in WaveNet.

The paper's audio network (section 5 and its released code): a block is tanh · σ of a dilated convolution, then a
residual path over √2 and a skip path; the skips are summed over √blocks, then ReLU, 1×1, ReLU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.precision import full, widened

BOXES = ((3, 1.0), (9, 1e-3), (33, 1e-6), (129, 1e-9))
"""Sides and weights of the boxes of neighbours, such that the nearest known values decide."""
PRIOR = 1e-14
"""The weight of the prior 0 ± 0.5, which decides where the largest box holds nothing known."""


def nearby(value: Tensor, known: Tensor, floor: float, causal: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and spread of the known neighbours of every place: value, known (B, L) → both (B, L) float64.

    value in [−1, 1].  known in [0, 1]: the share of its digits.  floor: the smallest spread.  In float64, because squares
    of 16-bit values need more digits than float32 has.  causal: only the place itself and neighbours to the left.
    """
    v, w = value.double(), known.double()
    maps = torch.stack([w, v * w, v * v * w], 1)
    sums = torch.zeros_like(maps)
    for side, share in BOXES:
        padded = F.pad(maps, (side - 1, 0) if causal else (side // 2, side // 2))
        sums = sums + share * F.avg_pool1d(padded, side, 1)
    weight, first, second = sums.unbind(1)
    weight = weight + PRIOR
    mean = first / weight
    return mean, ((second / weight - mean.square()).clamp(min=0) + floor**2 + 0.25 * PRIOR / weight).sqrt()


class Block(nn.Module):
    """(+ condition) → dilated convolution → tanh · σ → residual and skip."""

    def __init__(self, width: int, kernel: int, dilation: int, condition: int, dropout: float, causal: bool) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.pad = (reach, 0) if causal else (reach // 2, reach // 2)
        self.dropout = dropout
        self.condition = nn.Linear(condition, width) if condition else None
        self.gated = nn.Conv1d(width, 2 * width, kernel, dilation=dilation)
        self.out = nn.Conv1d(width, 2 * width, 1)
        for layer in (self.gated, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """x: (B, width, L) → the stream and the skip, both of that shape."""
        h = F.dropout(x, self.dropout, self.training)
        if self.condition is not None and condition is not None:
            h = h + self.condition(F.silu(condition))[:, :, None]
        a, b = self.gated(F.pad(h, self.pad)).chunk(2, 1)
        more, skip = self.out(a.tanh() * b.sigmoid()).chunk(2, 1)
        return (x + more) / math.sqrt(2), skip


class WaveNet(nn.Module):
    """Blocks with dilations 2^(i mod cycle).

    planes: of the input.  embedding: planes that are features already, and bypass the first convolution.
    width, blocks, kernel: sizes.  condition: width of a vector (0: none).
    """

    def __init__(
        self,
        planes: int,
        embedding: int,
        width: int,
        blocks: int,
        kernel: int = 3,
        cycle: int = 10,
        condition: int = 0,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.causal = width, causal
        self.input = nn.Conv1d(planes, width - embedding, 3)
        self.layers = nn.ModuleList(
            Block(width, kernel, 2 ** (i % cycle), condition, dropout, causal) for i in range(blocks)
        )
        self.end = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def forward(self, planes: Tensor, embedded: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """planes (B, P, L), embedded (B, E, L), condition (B, condition) → (B, L, width), to be read with `read`."""
        h = full(self.input, F.pad(planes, (2, 0) if self.causal else (1, 1))).to(self.input.weight.dtype)
        if embedded is not None:
            h = torch.cat([h, embedded], 1)
        total = torch.zeros_like(widened(h))
        for layer in self.layers:
            h, skip = layer(h, condition)
            total = total + skip
        return (total if len(self.layers) else h).transpose(1, 2) / math.sqrt(max(len(self.layers), 1))

    def read(self, h: Tensor, batch_index: Tensor, position: Tensor) -> Tensor:
        """(N, width): features at the places asked, in float32 or better."""
        rows = h.reshape(-1, self.width)[batch_index * h.shape[1] + position]
        return F.relu(full(self.end, F.relu(rows)))
