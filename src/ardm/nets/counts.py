"""What followed contexts in the training texts, counted: for each, its most frequent next symbol, and how far to trust it.

A row of a table belongs to one context, the last n symbols, by its hash.  It holds a check of the context, the two symbols
that followed it in most texts, and in how many.  A text counts once, however often it repeats itself.  In training each
text is left out of its own counts, so that the network learns how far to trust them on texts that were not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.precision import wide, widened

STEP, SPREAD, MODULUS = 0x2F0B4C47, 0x5DEECE6D, 1 << 31
"""The hash: h ← (h · STEP + symbol + 1) mod 2^31 along a context, then the top bits of h · SPREAD mod 2^31."""
CHECK = 7
"""Bits of the check of a context: the hash of one symbol more, the last one again."""
SEVERAL, SHARES = 6, (0.98, 0.9, 0.7, 0.4)
"""Levels of trust: the binary logarithm of the texts that agree, below the first number, and their share among all."""
TOGETHER = 1 << 12
"""Texts that are hashed at once."""
LEVELS = 1 + SEVERAL * (len(SHARES) + 1)
"""The levels of trust; 0 where a context is unknown."""
GAIN = 10.0
"""The trust in a level is a parameter times this, so that it moves fast."""
WIDTH = 32
"""G, the width of a symbol's code."""

Ints = NDArray[np.int64]


def level(agree: Tensor, every: Tensor) -> Tensor:
    """The level of trust where `agree` of `every` texts went on alike."""
    several = torch.log2(agree.clamp(min=1).double()).long().clamp(max=SEVERAL - 1)
    share = agree / every.clamp(min=1)
    below = torch.stack([share <= edge for edge in SHARES]).sum(0)
    return (1 + several * (len(SHARES) + 1) + below) * (agree > 0)


class Counts(nn.Module):
    """Tables of counts, empty before `learn`.  orders: n of each table, ascending.  bits: log2 of their rows.

    seen (orders, rows, 6): check; the first and the second symbol, 1 + value; the texts of the first, of the second, of all.
    code (K + 1, G): of each symbol.  trust (orders, 2 · LEVELS): in the longest known context, behind that in others.
    """

    seen: Tensor

    def __init__(self, classes: int, orders: Sequence[int], bits: int) -> None:
        super().__init__()
        self.orders, self.bits = tuple(orders), bits
        self.register_buffer("seen", torch.zeros(len(orders), 1 << bits, 6, dtype=torch.int32))
        self.code = nn.Parameter(torch.randn(classes + 1, WIDTH) * WIDTH**-0.5)
        self.trust = nn.Parameter(_start().repeat(len(orders), 1) / GAIN)

    def forward(self, near: Tensor, target: Tensor | None = None) -> Tensor:
        """(T, B, G): the codes of the symbols that the tables expect, each times the trust in it.

        near (T, B, back): the symbols before each place, the nearest first.  target (T, B): the symbols there, of texts
        that were counted, and are to be left out.
        """
        symbol, found = self.expected(near, target)
        weight = torch.gather(self.trusted().T, 0, ranked(found).flatten(0, 1)).view(found.shape)
        return (F.embedding(symbol, self.code.to(wide(self.code.dtype))) * weight[..., None]).sum(-2)

    def trusted(self) -> Tensor:
        """(orders, 2 · LEVELS): the trust by rank; none in what is unknown."""
        known = torch.arange(2 * LEVELS, device=self.trust.device) % LEVELS > 0
        return GAIN * widened(self.trust) * known

    def expected(self, near: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(T, B, orders) twice: the symbol that each table expects, and the level of trust in it."""
        places, checks = hashes(near, self.orders, self.bits)
        rows = torch.stack([table[place] for table, place in zip(self.seen, places, strict=True)], -2).long()
        check, one, two, first, second, every = rows.unbind(-1)
        known = (check == torch.stack(checks, -1)) & (every > 0)
        if target is not None:
            own = target[..., None]
            first, second, every = first - (own == one).long(), second - (own == two).long(), every - 1
            swap = (second > first) | ((second == first) & (two < one) & (two > 0))
            one, first = torch.where(swap, two, one), torch.where(swap, second, first)
        return one, level(first, every) * known

    @torch.no_grad()
    def learn(self, symbols: Tensor, counted: Tensor, texts: Tensor, back: int) -> None:
        """Count the symbols (N, T), 1 + value, where `counted`; texts (N,): which text each row is of."""
        keys: list[list[Tensor]] = [[] for _ in self.orders]
        for some, which in zip(symbols.split(TOGETHER), counted.split(TOGETHER), strict=True):
            near = F.pad(some.long(), (back, 0)).unfold(1, back, 1)[:, :-1].flip(-1)[which]
            for found, place, check in zip(keys, *hashes(near, self.orders, self.bits), strict=True):
                found.append((place << CHECK | check).int())
        target, of = symbols[counted].long().numpy(), texts[:, None].expand(symbols.shape)[counted].numpy()
        for table, found in zip(self.seen, keys, strict=True):
            table.copy_(torch.from_numpy(_table(torch.cat(found).long().numpy(), target, of, self.bits)))


def ranked(found: Tensor) -> Tensor:
    """The index of the trust in levels (…, orders): that of a context that is not the longest known one comes behind."""
    longer = F.pad(found[..., 1:], (0, 1))
    return found + LEVELS * (longer > 0)


def _start() -> Tensor:
    """(2 · LEVELS,): the trust before training, log odds; high in the longest known context."""
    several, below = np.divmod(np.arange(LEVELS - 1), len(SHARES) + 1)
    share = np.array([1.0, 0.94, 0.8, 0.55, 0.3])[below]
    odds = np.log((2.0**several * share + 0.3) / (2.0**several * (1 - share) + 0.5))
    start = [[0.0], np.maximum(odds + 4, 0.5), [0.0], np.maximum(odds + 0.5, 0.0) * 0.1]
    return torch.from_numpy(np.concatenate(start)).float()


def _table(key: Ints, target: Ints, of: Ints, bits: int) -> NDArray[np.int32]:
    """The rows of one order.  key: place and check of each context.  target: what follows.  of: in which text."""
    texts, symbols = int(of.max()) + 1, int(target.max()) + 1
    votes = np.unique((key * symbols + target) * texts + of) // texts
    pairs, number = np.unique(votes, return_counts=True)
    key, symbol = pairs // symbols, pairs % symbols
    order = np.lexsort((symbol, -number, key))  # of each context, the most frequent symbol first
    key, symbol, number = key[order], symbol[order], number[order]
    begin = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    several, second = np.diff(np.r_[begin, len(key)]) > 1, np.minimum(begin + 1, len(key) - 1)
    every = np.add.reduceat(number, begin)
    check = key[begin] & (1 << CHECK) - 1
    rows = np.stack([check, symbol[begin], symbol[second] * several, number[begin], number[second] * several, every], 1)
    found = np.zeros((1 << bits, 6), np.int32)
    last = np.argsort(every, kind="stable")  # of contexts that share a row, the one that most texts have
    found[key[begin][last] >> CHECK] = rows[last]
    return found


def hashes(near: Tensor, orders: Sequence[int], bits: int) -> tuple[list[Tensor], list[Tensor]]:
    """For each n of the orders, the row of the last n symbols of near (…, back), and their check."""
    each = contexts(near, orders)
    return [top(h, bits) for h in each], [top(_next(h, near[..., 0]), CHECK) for h in each]


def contexts(near: Tensor, orders: Sequence[int]) -> list[Tensor]:
    """For each n of the orders, the hash of the last n symbols of near (…, back), the nearest first."""
    found, h = dict[int, Tensor](), torch.zeros_like(near[..., 0])
    for n in range(1, max(orders) + 1):
        h = found[n] = _next(h, near[..., n - 1])
    return [found[n] for n in orders]


def _next(h: Tensor, symbol: Tensor) -> Tensor:
    return h.mul(STEP).add_(symbol).add_(1).bitwise_and_(MODULUS - 1)


def top(h: Tensor, bits: int) -> Tensor:
    """The row of a hash in a table of 2^bits rows."""
    return h.mul(SPREAD).bitwise_and_(MODULUS - 1).bitwise_right_shift_(31 - bits)
