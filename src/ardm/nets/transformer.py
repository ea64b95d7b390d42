"""A Transformer, over both sides or causal: fused attention; rotary, learnt or sinusoidal positions; two styles.

    classic   LayerNorm before each part, GELU, no biases in attention: as in the paper's released code
    modern    RMSNorm, a gated swish perceptron, no biases

Every token has a *place*, where it stands, and a *target*, the place that it predicts.  In an ordinary sequence both are
its index; in a permuted one, half of the positional width goes to each (the paper's order-agnostic causal baseline).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.precision import finest

BASE = 10_000.0
"""The longest period of a rotary or sinusoidal position is nearly 2π · BASE places."""
EPSILON = 1e-6


def angles(place: Tensor, half: int) -> Tensor:
    """(…, half): the angle of each pair at places (…), place · BASE^(−i / half), in the finest dtype of their device."""
    rate = BASE ** (-torch.arange(half, dtype=finest(place.device), device=place.device) / half)
    return place[..., None] * rate


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """x (B, heads, L, 2 · half) with each pair (i, half + i) turned by angle (L, half) or (B, L, half)."""
    a, b = x.chunk(2, -1)
    angle = angle if angle.ndim == 2 else angle[:, None]
    c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def sinusoids(place: Tensor, width: int) -> Tensor:
    """(…, width): sines, then cosines, of the angles at places (…)."""
    angle = angles(place, width // 2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def norm_of(width: int, modern: bool) -> nn.Module:
    """The norm of a style."""
    return nn.RMSNorm(width, eps=EPSILON) if modern else nn.LayerNorm(width, eps=EPSILON)


class Perceptron(nn.Module):
    """The half of a layer that works on each place alone; subclasses add the rest."""

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
        """The perceptron's output for h (…, width), to be added to it."""
        a = self.norm2(h)
        u = F.gelu(self.up(a)) if self.gate is None else self.up(a) * F.silu(self.gate(a))
        return self.down(self.hidden(u))


class Layer(Perceptron):
    """Attention, then a perceptron, each on a normalised input and added to it."""

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
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
        h = h + F.dropout(self.o(mixed), self.dropout, self.training)
        return h + self.perceive(h)


class Transformer(nn.Module):
    """Token embedding, positions, layers.

    rows: of the embedding.  stages: rows of a second embedding, of how much of a token is known (0: none).
    width, heads, layers, hidden: sizes.  positions: "rotary", "learned" or "sinusoidal".  length: for learnt positions.
    modern: the style.  causal: each place sees only those before it.  split: places and targets differ.
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
        """rows, stage: (B, L) int64 → the residual stream (B, L, width), to be read with `read`.

        place, target: (B, L) int64, for split; −1 is the place before the first.  condition: (B, width), added.
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
        """(N, width): the normalised stream at the places asked, in the dtype of the parameters."""
        rows = h.flatten(0, 1)[batch_index * h.shape[1] + position]
        return self.norm(rows).to(self.embedding.weight.dtype)

    def _added(self, place: Tensor, target: Tensor) -> Tensor:
        """(…, width): learnt or sinusoidal positions, to be added to the stream."""
        if self.position is not None:
            if not self.split:
                return self.position[place]
            half = self.width // 2  # index −1, the last row, is the place before the first
            return torch.cat([self.position[place][..., :half], self.position[target][..., half:]], -1)
        if not self.split:
            return sinusoids(place, self.width)
        return torch.cat([sinusoids(place, self.width // 2), sinusoids(target, self.width // 2)], -1)

    def _turns(self, place: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Angles of queries and keys.  With split, every other pair of a query turns to its target."""
        keys = angles(place, self.pairs)
        if not self.split:
            return keys, keys
        even = torch.arange(self.pairs, device=place.device) % 2 == 0
        return torch.where(even, angles(target, self.pairs), keys), keys
