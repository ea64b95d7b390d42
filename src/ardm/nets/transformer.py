"""A Transformer, over both sides or causal: fused attention; rotary, learnt or sinusoidal positions; two styles.

    classic   LayerNorm before each part, GELU, no biases in attention: as in the paper's released code
    modern    RMSNorm, a gated swish perceptron, no biases

Every token has a *place*, where it stands, and a *target*, the place that it predicts.  In an ordinary sequence both are
its index; in a permuted one, half of the positional width goes to each (the paper's order-agnostic causal baseline).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ardm.nets.norms import RMSNorm
from ardm.nets.products import Linear
from ardm.precision import finest, wide

BASE = 10_000.0
"""The longest period of a rotary or sinusoidal position is nearly 2π · BASE places."""
EPSILON = 1e-6
"""Of the norms."""

Turn: TypeAlias = tuple[Tensor, Tensor]
"""Cosines and sines (…, L, 1, 2 · half) by which `turned` turns the queries or keys of all heads."""
Turns: TypeAlias = "tuple[Turn | None, Turn | None]"
"""Of queries and of keys."""
Places: TypeAlias = tuple[Tensor, Tensor]
"""Items (N,) and positions (N,)."""


def angles(place: Tensor, half: int, base: float = BASE) -> Tensor:
    """(…, half): the angle of each pair at places (…), place · base^(−i / half), in the finest dtype of their device."""
    rate = base ** (-torch.arange(half, dtype=finest(place.device), device=place.device) / half)
    return place[..., None] * rate


def turn(angle: Tensor, dtype: torch.dtype) -> Turn:
    """The turn by angles (…, L, half)."""
    both = torch.cat([angle, angle], -1)[..., None, :]
    return both.cos().to(dtype), both.sin().to(dtype)


def turned(x: Tensor, by: Turn) -> Tensor:
    """x (…, L, heads, 2 · half) with each pair (i, half + i) turned by its angle."""
    out: Tensor = _Turned.apply(x, *(t.to(x.dtype) for t in by))
    return out


class _Turned(torch.autograd.Function):
    """See `turned`; gradients turn back.  In one piece, since reading and writing memory is all it takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, c: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(c, s)
        a, b = x.chunk(2, -1)
        return torch.cat([-b, a], -1).mul_(s).addcmul_(x, c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        c, s = ctx.saved_tensors
        a, b = g.chunk(2, -1)
        return torch.cat([b, -a], -1).mul_(s).addcmul_(g, c), None, None


def sinusoids(place: Tensor, width: int) -> Tensor:
    """(…, width): sines, then cosines, of the angles at places (…)."""
    angle = angles(place, width // 2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def norm_of(width: int, modern: bool) -> nn.Module:
    """The norm of a style."""
    return RMSNorm(width, eps=EPSILON) if modern else nn.LayerNorm(width, eps=EPSILON)


class Perceptron(nn.Module):
    """The half of a layer that works on each place alone; subclasses add the rest."""

    def __init__(self, width: int, hidden: int, modern: bool, dropout: float, share: float) -> None:
        super().__init__()
        self.norm2 = norm_of(width, modern)
        self.up, self.down = Linear(width, hidden, bias=not modern), Linear(hidden, width, bias=not modern)
        self.gate = Linear(width, hidden, bias=False) if modern else None
        self.hidden = nn.Dropout(dropout)
        for part in (self.up, self.gate):
            if part is not None:
                nn.init.normal_(part.weight, std=width**-0.5)
        nn.init.normal_(self.down.weight, std=hidden**-0.5 * share)

    def perceive(self, h: Tensor) -> Tensor:
        """The perceptron's output for h (…, width), to be added to it."""
        a = self.norm2(h)
        u = F.gelu(self.up(a)) if self.gate is None else self._gated(self.up(a), self.gate(a))
        return self.down(self.hidden(u))

    def _gated(self, u: Tensor, gate: Tensor) -> Tensor:
        """u times the swish of a gate, in its memory where no gradient needs it."""
        return u * F.silu(gate) if torch.is_grad_enabled() else F.silu(gate, inplace=True).mul_(u)


class Layer(Perceptron):
    """Attention, then a perceptron, each on a normalised input and added to it."""

    def __init__(self, width: int, heads: int, hidden: int, modern: bool, dropout: float, share: float) -> None:
        super().__init__(width, hidden, modern, dropout, share)
        self.heads, self.dropout = heads, dropout
        self.norm1 = norm_of(width, modern)
        self.q, self.k, self.v, self.o = (Linear(width, width, bias=False) for _ in range(4))
        for part in (self.q, self.k, self.v):
            nn.init.normal_(part.weight, std=width**-0.5)
        nn.init.normal_(self.o.weight, std=width**-0.5 * share)

    def forward(
        self, h: Tensor, turns: Turns = (None, None), causal: bool = False, asked: Places | None = None
    ) -> Tensor:
        """h (B, L, width) → the same shape; or (N, width) if only N places are asked, for which nothing else is computed."""
        a = self.norm1(h)
        k, v = self._heads(self.k(a), turns[1]), self._heads(self.v(a), None)
        if asked is not None:
            return self._some(h, k, v, turns[0], *asked)
        q = self._heads(self.q(a), turns[0])
        return self._end(h, F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))

    def _some(self, h: Tensor, k: Tensor, v: Tensor, by: Turn | None, index: Tensor, position: Tensor) -> Tensor:
        """(N, width): the layer's output at some places of each item.

        The queries of an item lie in the first of as many slots as the item with most queries has.
        """
        rows = h.flatten(0, 1)[index * h.shape[1] + position]
        q = self.q(self.norm1(rows)).unflatten(1, (self.heads, -1))
        q = q if by is None else turned(q, (by[0][position], by[1][position]))
        slot, most = _slots(index, len(h))
        padded = q.new_zeros(len(h), most, *q.shape[1:]).index_put((index, slot), q)
        mixed = F.scaled_dot_product_attention(padded.transpose(1, 2), k, v).transpose(1, 2)
        return self._end(rows, mixed[index, slot].flatten(1))

    def _heads(self, x: Tensor, by: Turn | None) -> Tensor:
        """x (B, L, width), turned, as (B, heads, L, width / heads)."""
        parted = x.unflatten(2, (self.heads, -1))
        return (parted if by is None else turned(parted, by)).transpose(1, 2)

    def _end(self, h: Tensor, mixed: Tensor) -> Tensor:
        """h (…, width) with what attention has mixed, then with what the perceptron makes of it."""
        h = h + F.dropout(self.o(mixed), self.dropout, self.training)
        return h + self.perceive(h)


def _slots(index: Tensor, batch: int) -> tuple[Tensor, int]:
    """The number of each entry (N,) among those of the same item, in 0..most−1, and most, at least 1."""
    counts = torch.bincount(index, minlength=batch)
    order = index.argsort(stable=True)
    slot = torch.empty_like(order)
    slot[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[index[order]]
    return slot, max(1, int(counts.max()))


@dataclass(frozen=True)
class Stream:
    """The residual stream (B, L, width) of sequences, to be read at places.  last: a layer that is still to run there."""

    h: Tensor
    turns: Turns
    last: nn.Module | None


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
    ) -> Stream:
        """rows, stage: (B, L) int64 → the residual stream, to be read with `read`.

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
        turns = self._turns(place, target, wide(h.dtype)) if self.positions == "rotary" else (None, None)
        # a causal model is asked everywhere; and a GPU would wait for the number of places that are asked
        waits = self.causal or h.device.type != "cpu" or not self.layers
        for layer in self.layers if waits else self.layers[:-1]:
            h = layer(h, turns, self.causal)
        return Stream(h, turns, None if waits else self.layers[-1])

    def read(self, stream: Stream, batch_index: Tensor, position: Tensor) -> Tensor:
        """(N, width): the normalised stream at the places asked, in the dtype of the parameters."""
        h, last = stream.h, stream.last
        if last is None:
            rows = h.flatten(0, 1)[batch_index * h.shape[1] + position]
        else:
            rows = last(h, stream.turns, asked=(batch_index, position))
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

    def _turns(self, place: Tensor, target: Tensor, dtype: torch.dtype) -> Turns:
        """Turns of queries and keys.  With split, every other pair of a query turns to its target."""
        keys = angles(place, self.pairs)
        made = turn(keys, dtype)
        if not self.split:
            return made, made
        even = torch.arange(self.pairs, device=place.device) % 2 == 0
        return turn(torch.where(even, angles(target, self.pairs), keys), dtype), made
