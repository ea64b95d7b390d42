"""The walk in integers.

NumPy, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from ardm.ans import Ints, intervals
from ardm.codec.header import Shape
from ardm.exact.ask import AskedSites
from ardm.exact.frequencies import Rows
from ardm.exact.model import CodecModel, Runner

PIXELS = 1 << 17
"""Pixels of states that a network is given at once, at most, unless a single state has more."""
Ask = tuple[Ints, Ints, AskedSites]
"""What a network is asked: values, what is known of them, and where."""
Result = TypeVar("Result")


class Told(Protocol):
    """What tells the symbols of an item: a `Decoder`, or `Chance`."""

    def pop(self, table: Ints) -> Ints: ...  # noqa: D102


class Walker:
    """A model with a number of calls over items (n, M, h, w) of one shape.

    shape: (M, h, w), what the network sees.  planes: M, or 1 for a plane on its own.  inside: (h, w) of what is coded.
    """

    def __init__(
        self, model: CodecModel, calls: int, run: Runner, shape: Shape, planes: int, inside: tuple[int, int]
    ) -> None:
        self.run, self.shape = run, shape
        S, self.base = model.program.digits, model.program.base
        self.place = np.array([self.base ** (S - 1 - d) for d in range(S)], dtype=np.int64)
        when = model.order(calls, *shape[1:]).when
        alone = planes != shape[0]
        self._writes = range(shape[0]) if alone else None
        coded = np.zeros(shape, dtype=np.bool_)
        coded[slice(model.lead, model.lead + 1) if alone else slice(None), : inside[0], : inside[1]] = True
        digit, site = np.nonzero(coded.reshape(1, -1) & np.ones((S, 1), dtype=np.bool_))
        step = when.reshape(S, -1)[digit, site]
        order = np.lexsort((site, step))
        step, digit, site = step[order], digit[order], site[order]
        ends = np.flatnonzero(np.diff(step)) + 1
        self.steps = list(zip(np.split(step, ends), np.split(digit, ends), np.split(site, ends), strict=True))
        self._when = np.where(coded, when, calls)  # never within the walk
        if alone:  # its channels are equal
            self._when = np.broadcast_to(self._when[:, model.lead, None], when.shape)

    def encode(self, items: Ints) -> list[tuple[Ints, Ints]]:
        """Of each item (n, M, h, w) the pieces of its symbols, in the order in which a decoder asks: start, width."""
        starts: list[list[Ints]] = [[] for _ in items]
        widths: list[list[Ints]] = [[] for _ in items]
        together = max(1, PIXELS // (len(items) * self.shape[1] * self.shape[2]))
        for first in range(0, len(self.steps), together):
            steps = self.steps[first : first + together]
            for k, (start, width) in enumerate(self._pieces(items, steps)):
                starts[k % len(items)].append(start)
                widths[k % len(items)].append(width)
        return [(np.concatenate(s), np.concatenate(w)) for s, w in zip(starts, widths, strict=True)]

    def _pieces(self, items: Ints, steps: list[tuple[Ints, Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
        """The pieces of some steps at once: for each step, for each item, stage after stage."""
        n, size = len(items), math.prod(self.shape)
        depth = np.repeat(np.stack([(self._when < step[0]).sum(0) for step, _, _ in steps]), n, axis=0)
        states = np.tile(items, (len(steps), 1, 1, 1))
        lane = np.concatenate([np.repeat(np.arange(k * n, k * n + n), len(s)) for k, (_, _, s) in enumerate(steps)])
        digit = np.concatenate([np.tile(d, n) for _, d, _ in steps])
        site = np.concatenate([np.tile(s, n) for _, _, s in steps])
        told = states.reshape(len(states), size)[lane, site] // self.place[digit] % self.base
        unit = np.append(self.base * self.place, 1)[depth]  # what is not known of a value
        rows = self.run(states // unit * unit, depth, self._asked(lane, site))
        start, width = symbol_intervals(rows, told)
        begin = 0
        for _, _, s in steps:
            for _ in range(n):
                mine = slice(begin, begin + len(s))
                begin += len(s)
                yield start[:, mine].reshape(-1), width[:, mine].reshape(-1)

    def decode(self, decoders: Sequence[Told]) -> Ints:
        """Items (n, M, h, w), each told by its decoder.  Raises CodecError where a stream ends."""
        return in_step([self.decoding(decoders)], lambda asks: [self.run(*ask) for ask in asks])[0]

    def decoding(self, decoders: Sequence[Told]) -> Generator[Ask, Rows, Ints]:
        """As decode, for who asks the network: yields what it is asked, and is sent what it says."""
        n, size = len(decoders), math.prod(self.shape)
        value = np.zeros((n, *self.shape), dtype=np.int64)
        depth = np.zeros_like(value)
        flat, known = value.reshape(n, size), depth.reshape(n, size)
        for _, digit, site in self.steps:
            rows = yield value, depth, self._asked(np.repeat(np.arange(n), len(site)), np.tile(site, n))
            told = np.zeros(n * len(site), dtype=np.int64)
            for stage, radix in enumerate(rows.radices):
                table = rows.table(stage, told).reshape(n, len(site), radix)
                told = told * radix + np.concatenate([d.pop(t) for d, t in zip(decoders, table, strict=True)])
            grown = told.reshape(n, -1) * self.place[digit]
            for where in self._written(site):
                flat[:, where] += grown
                known[:, where] += 1
        return value

    def _written(self, site: Ints) -> list[Ints]:
        """Where digits go: for a plane on its own, to every channel."""
        area = self.shape[1] * self.shape[2]
        return [site] if self._writes is None else [site % area + c * area for c in self._writes]

    def _asked(self, lane: Ints, site: Ints) -> AskedSites:
        _, h, w = self.shape
        return AskedSites(lane, site // (h * w), site // w % h, site % w)


def in_step(
    walks: Sequence[Generator[Ask, Rows, Result]], ask: Callable[[Sequence[Ask]], Sequence[Rows]]
) -> list[Result]:
    """What each of several walks comes to; all of them ask at the same time, as long as they go on."""
    found: dict[int, Result] = {}
    answers: dict[int, Rows | None] = dict.fromkeys(range(len(walks)))
    while answers:
        asks: dict[int, Ask] = {}
        for k, rows in answers.items():
            one, result = _on(walks[k], rows)
            if one is not None:
                asks[k] = one
            elif result is not None:
                found[k] = result
        answers = dict(zip(asks, ask(list(asks.values())), strict=True)) if asks else {}
    return [found[k] for k in range(len(walks))]


def _on(walk: Generator[Ask, Rows, Result], rows: Rows | None) -> tuple[Ask | None, Result | None]:
    """One step of a walk, the first without an answer: what it asks, or, at its end, what it has come to."""
    try:
        return (next(walk) if rows is None else walk.send(rows)), None
    except StopIteration as end:
        return None, end.value


def symbol_intervals(rows: Rows, told: Ints) -> tuple[Ints, Ints]:
    """The pieces of told symbols: start, width, (stages, N) each."""
    starts, widths = [], []
    prefix, finer = np.zeros_like(told), math.prod(rows.radices)
    for stage, radix in enumerate(rows.radices):
        finer //= radix
        digit = told // finer % radix
        start, width = intervals(rows.table(stage, prefix), digit)
        starts.append(start.astype(np.int32))  # images have many
        widths.append(width.astype(np.int32))
        prefix = prefix * radix + digit
    return np.stack(starts), np.stack(widths)
