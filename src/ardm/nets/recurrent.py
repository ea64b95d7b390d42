"""A gated recurrent network with hashed contexts: text, left to right.

A block carries a state h from place to place and reads only the stream x of its own place:

    h ← h + σ(z) (tanh(n) − h),     x ← x + down · (h · relu(g)),     (z, n, g) = up · x

No product of matrices waits for the place before, so training computes all places at once, except for the one line that
carries h ("minimal gated unit"; Feng et al. 2024, "Were RNNs All We Needed?"; Lei et al. 2018, "Simple Recurrent Units").
The stream begins with the last symbols and with rows of learnt tables, each chosen by a hash of the symbols before the
place: what a context compressor (PPM) would count there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.counts import WIDTH, Counts, contexts, top
from ardm.nets.products import linear
from ardm.precision import wide, widened

SLOW = -1.5, 1.5
"""Mean and spread of the logits of gates at the start: memories of one to a hundred places."""


class _Carry(torch.autograd.Function):
    """h_t = h_(t−1) + f_t (n_t − h_(t−1)) along the first axis of f, n (T, …), from h_0 = first (…).

    The backward pass carries the gradient back: g_t ← g_t + (1 − f_(t+1)) g_(t+1).
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, n: Tensor, first: Tensor) -> Tensor:
        keep, h = 1 - f, f * n
        before = first
        for t in range(len(h)):
            before = h[t].addcmul_(keep[t], before)
        ctx.save_for_backward(f, n, first, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, n, first, h = ctx.saved_tensors
        keep, g = 1 - f, grads[0].clone()
        for t in range(len(g) - 2, -1, -1):
            g[t].addcmul_(keep[t + 1], g[t + 1])
        before = torch.cat([first[None], h[:-1]])
        return g * (n - before), g * f, g[0] * keep[0]


class Block(nn.Module):
    """One block.  width: W, of the stream.  inner: V, of the state.  down is 0 at the start."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.up = nn.Parameter(torch.randn(3 * inner, width) * width**-0.5)
        bias = torch.zeros(3 * inner)
        nn.init.normal_(bias[:inner], *SLOW)
        self.ub = nn.Parameter(bias)
        self.down = nn.Parameter(torch.zeros(width, inner))
        self.db = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, W), and the state before it (B, V) → x after the block, and the states (T, B, V)."""
        z, n, g = linear(x.to(self.up.dtype), self.up, self.ub).split(self.inner, -1)
        h: Tensor = _Carry.apply(widened(z).sigmoid(), widened(n).tanh(), first)
        read = h.to(g.dtype) * F.relu(g)
        return x + linear(read, self.down, self.db).to(x.dtype), h


class Recurrent(nn.Module):
    """Features of the places of sequences.

    classes: K.  width: W, of the stream.  inner: V, of the states.  blocks: their number.  embedding: width of a symbol.
    reach: how many symbols before a place are embedded.  hashes: numbers of symbols of the hashed contexts.  bits: log2 of
    the rows of each table.  row: width of a row.  dropout: share of rows, and of features, hidden in training; without it the network trusts the
    tables too much, since it has trained on every rare context already.  counts, count_bits: orders and bits of `Counts`, whose
    codes follow the features; none for ().
    """

    def __init__(
        self,
        classes: int,
        width: int,
        inner: int,
        blocks: int,
        embedding: int,
        reach: int,
        hashes: tuple[int, ...],
        bits: int,
        row: int,
        dropout: float = 0.0,
        counts: tuple[int, ...] = (),
        count_bits: int = 14,
    ) -> None:
        super().__init__()
        self.width, self.reach, self.hashes, self.bits, self.dropout = width, reach, tuple(hashes), bits, dropout
        self.embedding = nn.Embedding(classes + 1, embedding)
        nn.init.normal_(self.embedding.weight, 0.0, 0.5)
        self.table = nn.Embedding(len(hashes) << bits, row) if hashes else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight)  # what was never seen says nothing
        self.counts = Counts(classes, counts, count_bits) if counts else None
        inputs = reach * embedding + len(hashes) * row + (WIDTH if counts else 0)
        self.first = nn.Linear(inputs, width)
        nn.init.normal_(self.first.weight, 0.0, (reach * embedding / 2) ** -0.5)
        self.blocks = nn.ModuleList(Block(width, inner) for _ in range(blocks))
        self.lift = nn.Linear(width, width)

    @property
    def back(self) -> int:
        """How many symbols before a place are read."""
        return max(self.reach, *self.hashes, *(() if self.counts is None else self.counts.orders), 0)

    def forward(self, symbols: Tensor) -> FeaturesAt:
        """symbols (B, 1, 1, T): 0 where nothing is known, else 1 + the value → features at sites, of the symbols before."""
        hidden = self._dense(symbols)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(hidden[position, batch_index])

        return features

    def everywhere(self, symbols: Tensor) -> Features:
        """Features of all sites, item by item."""
        return Features.plain(self._dense(symbols).transpose(0, 1).flatten(0, 1))

    def _dense(self, symbols: Tensor) -> Tensor:
        """(T, B, W), with counts (T, B, W + G): the features of every place."""
        near = self.near(symbols.flatten(1))
        target = symbols.flatten(1).T if self.training else None  # a training text is left out of the counts
        return self.along(near, self.start(near), target)[0]

    def near(self, symbols: Tensor) -> Tensor:
        """(T, B, back): the symbols before each place of symbols (B, T), the nearest first; 0 before the first."""
        return F.pad(symbols, (self.back, 0)).T.unfold(0, self.back, 1)[:-1].flip(-1)

    def start(self, near: Tensor) -> list[Tensor]:
        """The states before the first place, (B, V) for each block; near: as for `along`."""
        dtype = wide(self.lift.weight.dtype)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return [torch.zeros(near.shape[1], b.inner, dtype=dtype, device=near.device) for b in blocks]

    def along(self, near: Tensor, states: list[Tensor], target: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Go on over T places: features (T, B, W), and the states after them.

        near (T, B, back): the symbols before each place, the nearest first.  states: as `start`, before the places.
        target: as for `Counts`.
        """
        expected = None if self.counts is None else self.counts(near, target)
        x, after = self.stream(near, expected), []
        for block, state in zip(self.blocks, states, strict=True):
            x, h = block(x, state)
            after.append(h[-1] if len(h) else state)
        found = [self.read(x)] if expected is None else [self.read(x), expected]
        return torch.cat(found, -1), after

    def read(self, x: Tensor) -> Tensor:
        """The features, from the stream after the blocks."""
        found = F.relu(widened(linear(F.relu(x).to(self.lift.weight.dtype), self.lift.weight, self.lift.bias)))
        return F.dropout(found, self.dropout, self.training)

    def stream(self, near: Tensor, expected: Tensor | None = None) -> Tensor:
        """x (T, B, W) before the blocks; expected: what the counts say."""
        parts = [self.embedding(near[..., : self.reach]).flatten(-2)]
        if self.table is not None:
            rows = self.table(self.buckets(near))
            shown = F.dropout(rows.new_ones(*rows.shape[:-1], 1), self.dropout, self.training)
            parts.append((rows * shown).flatten(-2))
        if expected is not None:
            parts.append(expected)
        return widened(self.first(torch.cat(parts, -1)))

    def buckets(self, near: Tensor) -> Tensor:
        """(…, contexts): the row of each context of symbols (…, back); context k owns rows k · 2^bits … (k + 1) · 2^bits − 1."""
        each = contexts(near, self.hashes)
        return torch.stack([top(h, self.bits) + (k << self.bits) for k, h in enumerate(each)], -1)


class States:
    """The states of a batch along one walk, so that each place is computed once."""

    def __init__(self, trunk: Recurrent, symbols: Tensor) -> None:
        self.trunk, self.last = trunk, -1
        self._states = trunk.start(symbols.new_zeros(1, len(symbols), 1))
        self._features = torch.empty(0)

    def reach(self, front: int, symbols: Tensor) -> None:
        """Go on to a place, no earlier than the last one; all before it is known in symbols (B, 1, 1, T)."""
        if front == self.last:
            return
        padded = F.pad(symbols.flatten(1), (self.trunk.back, 0)).T
        near = padded[self.last + 1 : front + self.trunk.back].unfold(0, self.trunk.back, 1).flip(-1)
        found, self._states = self.trunk.along(near, self._states)
        self._features, self.last = found[-1], front

    def __call__(self, symbols: Tensor, batch_index: Tensor, position: Tensor) -> Features:
        """Features of sites at the last place."""
        return Features.plain(self._features[batch_index])
