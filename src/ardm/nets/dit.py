"""The diffusion Transformer of text: attention over all places, modulated by a vector of the time (adaLN).

Written after the architecture of `DIT` (github.com/kuleshov-group/mdlm, models/dit.py), which `DiT` of
github.com/flukeskywalker/nanoDD, dit.py, shares; both descend from Peebles and Xie (arXiv 2212.09748).  With c the vector
of the time, and scales, shifts and gates from a linear map of it:

    h ← h + gate1 · out(attention(norm1(h) · (1 + scale1) + shift1))
    h ← h + gate2 · perceptron(norm2(h) · (1 + scale2) + shift2)          features = norm(h) · (1 + scale) + shift

Norms have a weight and no bias; positions are rotary; the perceptron has GELU in its approximation by tanh.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.nets.products import Linear
from ardm.nets.transformer import Turn, angles, turn, turned
from ardm.precision import wide

FREQUENCIES = 256
"""Numbers that describe a time: cosines, then sines, of half as many frequencies."""
PERIOD = 10_000.0
EPSILON = 1e-5


class TimeEmbedding(nn.Module):
    """Times → vectors, by a perceptron of cosines and sines; swish at the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """time (B,), of any float → (B, width)."""
        half = FREQUENCIES // 2
        rate = torch.exp(-math.log(PERIOD) * torch.arange(half, dtype=torch.float32, device=time.device) / half)
        angle = time.float()[:, None] * rate
        first: Any = self.mlp[0]
        return F.silu(self.mlp(torch.cat([angle.cos(), angle.sin()], 1).to(first.weight.dtype)))


def modulated(x: Tensor, weight: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (B, L, C), normalised, times weight (C,); then scaled and shifted by vectors (B, 1, C)."""
    normed = F.layer_norm(x.to(wide(x.dtype)), x.shape[-1:], eps=EPSILON).to(x.dtype)
    return normed * weight * (1 + scale) + shift


class DiTLayer(nn.Module):
    """Attention, then a perceptron, each on a modulated input, gated, and added to it."""

    def __init__(self, width: int, heads: int, time: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.Parameter(torch.ones(width)) for _ in range(2))
        self.qkv, self.out = Linear(width, 3 * width, bias=False), Linear(width, width, bias=False)
        self.up, self.down = Linear(width, 4 * width), Linear(4 * width, width)
        self.modulation = nn.Linear(time, 6 * width)

    def forward(self, h: Tensor, by: Turn, c: Tensor) -> Tensor:
        """h (B, L, width) → the same shape.  c: (B, time), or (1, time) for all."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, 2)
        n = modulated(h, self.norm1, shift1, scale1)
        q, k, v = self.qkv(n).unflatten(2, (3, self.heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (turned(q, by), turned(k, by), v))
        h = h + gate1 * self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        m = modulated(h, self.norm2, shift2, scale2)
        return h + gate2 * self.down(F.gelu(self.up(m), approximate="tanh"))


class DiT(nn.Module):
    """Token ids and a time → modulated features at all places.

    rows: of the embedding.  time: width of the vector of the time.
    """

    def __init__(self, rows: int, width: int, heads: int, layers: int, time: int) -> None:
        super().__init__()
        self.pairs = width // heads // 2
        self.embedding, self.time = nn.Embedding(rows, width), TimeEmbedding(time)
        self.layers = nn.ModuleList(DiTLayer(width, heads, time) for _ in range(layers))
        self.norm = nn.Parameter(torch.ones(width))
        self.modulation = nn.Linear(time, 2 * width)

    def forward(self, ids: Tensor, time: Tensor) -> Tensor:
        """ids (B, L) int64, time (B,) or (1,) → (B, L, width)."""
        h, c = self.embedding(ids), self.time(time)
        by = turn(angles(torch.arange(ids.shape[1], device=ids.device), self.pairs), wide(h.dtype))
        for layer in self.layers:
            h = layer(h, by, c)
        return modulated(h, self.norm, *self.modulation(c)[:, None].chunk(2, 2))
