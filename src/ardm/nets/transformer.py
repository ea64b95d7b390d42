"""A Transformer over both sides, or causal: fused attention; rotary, learnt or sinusoidal positions; two styles.

    classic   LayerNorm before each part, GELU, no biases in attention: as in the paper's released code
    modern    RMSNorm, a gated swish perceptron, no biases

Every token has a *place* of its own, what it stands for, and a *target*, what it is to tell.  Both are its index in a
sequence; in a permuted one, half of the positional width goes to each (the paper's order-agnostic causal baseline).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10_000.0
"""The slowest turn of a rotary or sinusoidal position takes nearly 2π · BASE places."""
EPSILON = 1e-6


def angles(place: Tensor, half: int) -> Tensor:
    """place (…) → (…, half) float64."""
    rate = BASE ** (-torch.arange(half, dtype=torch.double, device=place.device) / half)
    return place[..., None] * rate


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Pairs of halves of x (B, heads, L, 2 · half), turned by angle (L, half) or (B, L, half)."""
    a, b = x.chunk(2, -1)
    angle = angle if angle.ndim == 2 else angle[:, None]
    c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def sinusoids(place: Tensor, width: int) -> Tensor:
    """(…, width) float64: sines, then cosines, of the angles of each place (…)."""
    angle = angles(place, width // 2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def norm_of(width: int, modern: bool) -> nn.Module:
    """The norm of a style."""
    return nn.RMSNorm(width, eps=EPSILON) if modern else nn.LayerNorm(width, eps=EPSILON)


class Perceptron(nn.Module):
    """The half of a layer that looks at no other place; its parts lie in the layer that inherits it."""

    def __init__(self, width: int, hidden: int, modern: bool, dropout: float, share: float) -> None:
        super().__init__()
        self.norm2 = norm_of(width, modern)
        self.up, self.down = nn.Linear(width, hidden, bias=not modern), nn.Linear(hidden, width, bias=not modern)
        self.gate = nn.Linear(width, hidden, bias=False) if modern else None
        self.hidden = nn.Dropout(dropout)
        for part in (self.up, self.gate):
            if part is not None:
                nn.init.normal_(part.weight, std=width**-0.5)
        nn.init.normal_(self.down.weight, std=hidden**-0.5 * share)

    def perceive(self, h: Tensor) -> Tensor:
        """What is added to h (…, width)."""
        a = self.norm2(h)
        u = F.gelu(self.up(a)) if self.gate is None else self.up(a) * F.silu(self.gate(a))
        return self.down(self.hidden(u))


class Layer(Perceptron):
    """Attention, then a perceptron, each on what its norm gives and added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, modern: bool, dropout: float, share: float) -> None:
        super().__init__(width, hidden, modern, dropout, share)
        self.heads, self.dropout = heads, dropout
        self.norm1 = norm_of(width, modern)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        for part in (self.q, self.k, self.v):
            nn.init.normal_(part.weight, std=width**-0.5)
        nn.init.normal_(self.o.weight, std=width**-0.5 * share)

    def forward(self, h: Tensor, turns: tuple[Tensor, Tensor] | None, causal: bool) -> Tensor:
        """h: (B, L, width); turns: angles of queries and of keys."""
        a = self.norm1(h)
        q, k, v = (f(a).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if turns is not None:
            q, k = turned(q, turns[0]), turned(k, turns[1])
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        h = h + F.dropout(self.o(seen), self.dropout, self.training)
        return h + self.perceive(h)


class Transformer(nn.Module):
    """Token embedding, positions, layers.

    rows: of the embedding.  stages: rows of a second embedding, of how much of a token is known (0: none).
    width, heads, layers, hidden: sizes.  positions: "rotary", "learned" or "sinusoidal"; length: of learnt ones.
    modern: the style.  causal: whether a place sees those before it only.  split: whether places and targets differ.
    """

    def __init__(
        self,
        rows: int,
        stages: int,
        width: int,
        heads: int,
        layers: int,
        hidden: int,
        positions: str = "rotary",
        length: int = 0,
        modern: bool = True,
        dropout: float = 0.0,
        causal: bool = False,
        split: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.pairs, self.causal = width, width // heads // 2, causal
        self.positions, self.split = positions, split
        self.embedding = nn.Embedding(rows, width)
        self.stage = nn.Embedding(stages, width) if stages else None
        learnt = positions == "learned"
        self.position = nn.Parameter(0.5 * torch.randn(length + split, width)) if learnt else None
        share = (2 * max(layers, 1)) ** -0.5
        self.layers = nn.ModuleList(Layer(width, heads, hidden, modern, dropout, share) for _ in range(layers))
        self.norm = norm_of(width, modern)

    def forward(
        self,
        rows: Tensor,
        stage: Tensor | None = None,
        condition: Tensor | None = None,
        place: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Tensor:
        """rows, stage: (B, L) int64 → the stream (B, L, width), to be read with `read`.

        place, target: (B, L) int64 of a split one; −1 stands before the first place.  condition: (B, width), added.
        """
        here = torch.arange(rows.shape[1], device=rows.device)
        place, target = here if place is None else place, here if target is None else target
        h = self.embedding(rows)
        if self.stage is not None and stage is not None:
            h = h + self.stage(stage)
        if self.positions != "rotary":
            h = h + self._added(place, target).to(h.dtype)
        if condition is not None:
            h = h + condition[:, None]
        turns = self._turns(place, target) if self.positions == "rotary" else None
        for layer in self.layers:
            h = layer(h, turns, self.causal)
        return h

    def read(self, h: Tensor, batch_index: Tensor, position: Tensor) -> Tensor:
        """(N, width): the normalised stream at the places asked, in the precision of the parameters."""
        rows = h.flatten(0, 1)[batch_index * h.shape[1] + position]
        return self.norm(rows).to(self.embedding.weight.dtype)

    def _added(self, place: Tensor, target: Tensor) -> Tensor:
        """(…, width): what learnt or sinusoidal positions add to the stream."""
        if self.position is not None:
            if not self.split:
                return self.position[place]
            half = self.width // 2  # index −1, the last row, is the place before the first
            return torch.cat([self.position[place][..., :half], self.position[target][..., half:]], -1)
        if not self.split:
            return sinusoids(place, self.width)
        return torch.cat([sinusoids(place, self.width // 2), sinusoids(target, self.width // 2)], -1)

    def _turns(self, place: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Angles of queries and keys.  Split: every other pair of a query is turned to its target."""
        keys = angles(place, self.pairs)
        if not self.split:
            return keys, keys
        even = torch.arange(self.pairs, device=place.device) % 2 == 0
        return torch.where(even, angles(target, self.pairs), keys), keys
