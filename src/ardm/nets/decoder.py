"""The Transformer of Llama and Qwen2, looking both ways: RMSNorm, rotary positions, gated swish perceptrons, shared keys.

Written after the architecture of `LlamaModel` and `Qwen2Model` (github.com/huggingface/transformers,
models/llama/modeling_llama.py and models/qwen2/modeling_qwen2.py), without their causal mask:

    h ← h + o(attention(q(n), k(n), v(n))),  n = norm1(h)          h ← h + down(swish(gate(m)) · up(m)),  m = norm2(h)

Several queries may share a pair of keys and values (grouped attention).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.nets.norms import RMSNorm
from ardm.nets.products import Linear
from ardm.nets.transformer import Turn, angles, turn, turned
from ardm.precision import wide, widened


class DecoderLayer(nn.Module):
    """Attention over all places, then a gated perceptron, each on a normalised input and added to it.

    heads: of queries.  shared: of keys and values, a divisor of heads.  bias: of queries, keys and values.
    """

    def __init__(self, width: int, heads: int, shared: int, hidden: int, epsilon: float, bias: bool) -> None:
        super().__init__()
        self.each = width // heads
        self.norm1, self.norm2 = RMSNorm(width, eps=epsilon), RMSNorm(width, eps=epsilon)
        self.q = Linear(width, heads * self.each, bias=bias)
        self.k, self.v = (Linear(width, shared * self.each, bias=bias) for _ in range(2))
        self.o = Linear(heads * self.each, width, bias=False)
        self.gate, self.up = (Linear(width, hidden, bias=False) for _ in range(2))
        self.down = Linear(hidden, width, bias=False)
        self.copies = heads // shared

    def forward(self, h: Tensor, by: Turn) -> Tensor:
        """h (B, L, width) → the same shape."""
        n = self.norm1(h)
        q, k = (self._turned(part(n), by) for part in (self.q, self.k))
        v = self.v(n).unflatten(2, (-1, self.each))
        k, v = (part.repeat_interleave(self.copies, 2) for part in (k, v))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        h = h + self.o(mixed.transpose(1, 2).flatten(2))
        m = self.norm2(h)
        return h + self.down(F.silu(self.gate(m)) * self.up(m))

    def _turned(self, x: Tensor, by: Turn) -> Tensor:
        """x (B, L, heads · each) as (B, L, heads, each), turned in float32 or better."""
        return turned(widened(x).unflatten(2, (-1, self.each)), by).to(x.dtype)


class Decoder(nn.Module):
    """Token ids → normalised features at all places.

    rows: of the embedding.  base: of the rotary positions, `rope_theta`.  epsilon: of the norms.  The rest: see `DecoderLayer`.
    """

    def __init__(
        self, rows: int, width: int, heads: int, shared: int, layers: int, hidden: int, base: float, epsilon: float,
        bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.pairs = base, width // heads // 2
        self.embedding = nn.Embedding(rows, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, shared, hidden, epsilon, bias) for _ in range(layers))
        self.norm = RMSNorm(width, eps=epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, L) int64 → (B, L, width)."""
        h = self.embedding(ids)
        by = turn(angles(torch.arange(ids.shape[1], device=ids.device), self.pairs, self.base), wide(h.dtype))
        for layer in self.layers:
            h = layer(h, by)
        out: Tensor = self.norm(h)
        return out
