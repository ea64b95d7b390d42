"""The walk in integers: the loop of `ardm.walk` for integer networks, which compute the same on every machine.

    Walker(order, run, memory).encode(items)    → the intervals of each item's symbols
    Walker(order, run, memory).decode(sources)  → items, each from its source of symbols

The decoder takes one step of the order at a time: it asks the network at the sites of the step, in all items of a batch
at once, and each item's source supplies its symbols.  The encoder knows all digits, so it asks for many steps at once,
or for all of them where a causal network sweeps; an integer network answers with the frequencies that the decoder gets,
which a float network would not.

NumPy, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ardm.ans import Ints
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.frequencies import Rows
from ardm.exact.order import Order, Reveal

PIXELS = 1 << 17
"""The most pixels of states in one call of the encoder, unless a single state has more."""

Result = TypeVar("Result")


class SymbolSource(Protocol):
    """Supplies the symbols of one item: `ans.Decoder`, or `sampling.Chance`."""

    def pop(self, table: Ints) -> Ints: ...  # noqa: D102


class Walker:
    """An order and a network over items (n, C, H, W) of the order's shape.

    run, memory: of a `Runner`.  sweep: of a causal one, whose wavefronts the order follows.
    """

    def __init__(
        self,
        order: Order,
        run: Callable[[Ask], Rows],
        memory: Callable[[tuple[int, ...]], Memory],
        sweep: Callable[[Ints, int | None], Iterator[tuple[AskedSites, Rows]]] | None = None,
    ) -> None:
        self.order, self.run, self.memory, self.sweep = order, run, memory, sweep

    def encode(self, items: Ints) -> list[tuple[Ints, Ints]]:
        """The intervals of each item's symbols, start and width, in the order in which a decoder pops them."""
        if self.sweep is not None:
            return self._swept(items, self.sweep(items, self.order.plane))
        n, (_, H, W) = len(items), self.order.shape
        starts: list[list[Ints]] = [[] for _ in items]
        widths: list[list[Ints]] = [[] for _ in items]
        together = max(1, PIXELS // (n * H * W))
        for first in range(0, len(self.order.reveals), together):
            reveals = self.order.reveals[first : first + together]
            for k, (start, width) in enumerate(self._intervals(items, reveals)):
                starts[k % n].append(start)
                widths[k % n].append(width)
        return [(np.concatenate(s), np.concatenate(w)) for s, w in zip(starts, widths, strict=True)]

    def _swept(self, items: Ints, parts: Iterator[tuple[AskedSites, Rows]]) -> list[tuple[Ints, Ints]]:
        """The intervals from the frequencies at all sites, which come in any order."""
        found: Ints | None = None
        first, rank, count = self._turns
        for sites, rows in parts:
            each = np.stack(symbol_intervals(rows, items[sites.index]))  # (2, stages, N)
            stages, where = each.shape[1], np.ravel_multi_index(sites.index[1:], self.order.shape)
            if found is None:
                found = np.empty((2, len(items), stages * np.count_nonzero(count)), dtype=np.int32)
            at = stages * first[where] + rank[where] + np.arange(stages)[:, None] * count[where]
            found[:, sites.batch_index, at] = each
        nothing = np.empty((2, len(items), 0), dtype=np.int32)
        return list(zip(*(nothing if found is None else found), strict=True))

    @cached_property
    def _turns(self) -> NDArray[Any]:
        """(3, C · H · W): of the step that reveals each site, the sites before it, those before this one in it, and all."""
        sizes = np.array([len(reveal) for reveal in self.order.reveals])
        turns = np.zeros((3, math.prod(self.order.shape)), dtype=np.int32)  # images have many
        first, rank, count = turns
        site = np.concatenate([reveal.site for reveal in self.order.reveals])
        begin = np.cumsum(sizes) - sizes
        first[site], count[site] = np.repeat(begin, sizes), np.repeat(sizes, sizes)
        rank[site] = np.arange(len(site)) - first[site]
        return turns

    def _intervals(self, items: Ints, reveals: Sequence[Reveal]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """The intervals of some steps, from one call: for each step, for each item, stage after stage."""
        n = len(items)
        value, depth = map(np.concatenate, zip(*(self.order.before(r.step, items) for r in reveals), strict=True))
        symbols = np.concatenate([self.order.digits(items, reveal).reshape(-1) for reveal in reveals])
        rows = self.run(Ask(value, depth, _joined([self.order.sites(reveal, n) for reveal in reveals], n)))
        start, width = symbol_intervals(rows, symbols)
        begin = 0
        for reveal in reveals:
            for _ in range(n):
                mine = slice(begin, begin + len(reveal))
                begin += len(reveal)
                yield start[:, mine].reshape(-1), width[:, mine].reshape(-1)

    def decode(self, sources: Sequence[SymbolSource]) -> Ints:
        """Items (n, C, H, W), one from each source.  Raises CodecError where a stream ends early."""
        return side_by_side([self.decoding(sources)], lambda asks: [self.run(ask) for ask in asks])[0]

    def decoding(self, sources: Sequence[SymbolSource], digits: int | None = None) -> Generator[Ask, Rows, Ints]:
        """Decode, but let the caller run the network: yields each ask, and receives the answer.

        digits: stop when the first digits of all sites are known, and leave the others 0.
        """
        n, last = len(sources), len(self.order) if digits is None else self.order.until(digits)
        value = np.zeros((n, *self.order.shape), dtype=np.int64)
        depth, memory = np.zeros_like(value), self.memory(value.shape)
        for reveal in self.order:
            if reveal.step >= last:
                break
            rows = yield Ask(value, depth, self.order.sites(reveal, n), memory)
            symbols = np.zeros((n, len(reveal)), dtype=np.int64)
            for stage, radix in enumerate(rows.radices):
                table = rows.table(stage, symbols.reshape(-1)).reshape(n, len(reveal), radix)
                popped = [source.pop(t) for source, t in zip(sources, table, strict=True)]
                symbols = symbols * radix + np.stack(popped)
            self.order.write(reveal, symbols, value, depth)
        return value


def _joined(sites: Sequence[AskedSites], n: int) -> AskedSites:
    """The sites of several batches of n items as those of one batch."""
    index = zip(*(s.index for s in sites), strict=True)
    batch_index, channel, y, x = (np.concatenate(axis) for axis in index)
    first = np.repeat(np.arange(len(sites)) * n, [len(s) for s in sites])
    return AskedSites(batch_index + first, channel, y, x)


def side_by_side(
    walks: Sequence[Generator[Ask, Rows, Result]], ask: Callable[[Sequence[Ask]], Sequence[Rows]]
) -> list[Result]:
    """Run several walks side by side; ask answers one question of each walk that is still running."""
    found: dict[int, Result] = {}
    answers: dict[int, Rows | None] = dict.fromkeys(range(len(walks)))
    while answers:
        asks: dict[int, Ask] = {}
        for k, rows in answers.items():
            question, result = _advance(walks[k], rows)
            if question is not None:
                asks[k] = question
            elif result is not None:
                found[k] = result
        answers = dict(zip(asks, ask(list(asks.values())), strict=True)) if asks else {}
    return [found[k] for k in range(len(walks))]


def _advance(walk: Generator[Ask, Rows, Result], rows: Rows | None) -> tuple[Ask | None, Result | None]:
    """One step of a walk, the first without an answer: its next ask, or at its end its result."""
    try:
        return (next(walk) if rows is None else walk.send(rows)), None
    except StopIteration as end:
        return None, end.value


def symbol_intervals(rows: Rows, symbols: Ints) -> tuple[Ints, Ints]:
    """The intervals of symbols (N,): start and width, (stages, N) each, in 32 bits because images have many."""
    found: Any = rows.intervals(symbols)
    start, width = found
    return start.astype(np.int32), width.astype(np.int32)
