"""A codec model as a coder of parts: batches, tiles, threads.

    ModelCoder(model, steps, run, threads)  → a `PartCoder`

A part (c, h, w) of a content is one item for a model of any size, and is cut into tiles for a model of fixed size.

A plane on its own (a grey image, alpha) is coded as the model's leading channel, while the network sees it in all
channels.  Sites outside the part are never coded and cost nothing.

NumPy, no torch until a network runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from threading import Event
from typing import TypeVar

import numpy as np

from ardm.ans import PRECISION, Decoder, Encoder, Ints
from ardm.codec.batches import BATCH, Job, ahead, alike, in_turn, is_line
from ardm.codec.header import Shape
from ardm.codec.regions import parts_of
from ardm.codec.walk import Walker, side_by_side
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.exact import model as exact
from ardm.exact.ask import Ask, AskedSites, Runner, WholeWalks
from ardm.exact.frequencies import Rows
from ardm.exact.model import CodecModel
from ardm.exact.order import Order
from ardm.exact.planned import Steps, calls_of
from ardm.exact.reference import Reference

WAVE = 4
"""Batches per core between two reports of progress."""
FEW = 1 << 11
"""Sites of a network call per thread below which another thread does not pay."""
KEPT = 1 << 21
"""The most pixels of all orders that are kept."""

Result = TypeVar("Result")


def limits_of(model: CodecModel) -> tuple[int, ...]:
    """The number of values of each column of a table model.  Raises ArdmError where the model does not say."""
    if model.schema is not None:
        return model.schema.columns
    for op in model.program.ops:
        if op.name == "segment":
            return tuple(model.program.tensor(op, "size").tolist())
    raise ArdmError(f"model {model.name} of a table does not say what its columns are")


@dataclass(frozen=True)
class Symbols:
    """A part as a model codes it: the interval of each symbol."""

    start: Ints
    width: Ints

    @property
    def bits(self) -> float:
        """−log2 of its probability."""
        return float(PRECISION * len(self.width) - np.log2(self.width).sum())


class ModelCoder:
    """A codec model with a number of network calls, or with a schedule, as a `PartCoder`.

    threads: cores to use; 0: as many as PyTorch does, but one for small items.  Raises ArdmError for a number of calls
    that the model does not have, and for a schedule that is none of its order.
    """

    mixed = False  # whether jobs of different shapes are encoded together

    def __init__(self, model: CodecModel, steps: Steps, run: Runner, threads: int = 0) -> None:
        model.order(steps, 1, 1)
        self.model, self._steps, self._run, self._threads = model, steps, run, threads
        self._whole: WholeWalks | None = run if isinstance(run, WholeWalks) else None
        self._stop = Event()
        self._walkers: dict[tuple[Shape, int, tuple[int, int]], Walker] = {}
        self._measured: dict[tuple[Shape, bytes], Symbols] = {}
        self._batch = BATCH
        if max(model.size):  # else areas limit the batch
            self._batch = max(1, min(BATCH, exact.ROOM // max(1, exact.room(model, run.bounds))))
        self._letters = np.frombuffer(model.alphabet, np.uint8)
        self._values = np.full(256, -1, dtype=np.int64)
        self._values[self._letters] = np.arange(len(self._letters))

    @property
    def identity(self) -> str:
        """64 hex digits."""
        return self.model.identity

    @property
    def steps(self) -> Steps:
        """The number of network calls of an item, or a schedule."""
        return self._steps

    @property
    def calls(self) -> int:
        """Network calls of an item."""
        return calls_of(self._steps)

    @property
    def usual(self) -> bool:
        """Whether these are the steps that the model takes if none are named."""
        return not self._steps or self._steps == self.model.steps(self.model.default)

    @property
    def planes(self) -> int:
        """M."""
        return self.model.program.channels

    def refuses(self, content: Content) -> str | None:
        """The reason this content cannot be coded; None if it can."""
        kinds = {
            "image": (Kind.IMAGE, Kind.ARRAY),
            "text": (Kind.BYTES,),
            "audio": (Kind.AUDIO,),
            "table": (Kind.ARRAY,),
        }
        flat = content.kind == Kind.ARRAY and content.shape[:2] == (1, 1)
        if content.kind not in kinds[self.model.kind] or (self.model.kind == "image" and flat):
            return f"model {self.model.name} codes content of kind {self.model.kind}"
        most = self.model.program.classes
        if self.model.alphabet:
            strange = np.flatnonzero(self._values[content.samples.ravel()] < 0)
            if len(strange):
                byte = content.samples.ravel()[strange[0]]
                return f"model {self.model.name} codes {len(self.model.alphabet)} letters; byte {strange[0]} is {byte}"
            return None
        if content.is_16bit and most <= 256:
            return f"model {self.model.name} codes samples of 8 bits"
        if not content.is_16bit and most > 256:
            return f"model {self.model.name} codes samples of 16 bits"
        if content.samples.size and int(content.samples.max()) >= most:
            return f"model {self.model.name} codes values below {most}"
        if self.model.kind == "table":
            limits = np.array(limits_of(self.model))
            if content.shape[2] != len(limits) or (content.samples >= limits).any():
                return f"model {self.model.name} codes rows of {len(limits)} columns, each with values of its own"
        return None

    def measure(self, content: Content) -> float:
        """The bits of a content.  Keeps its symbols, so that encoding it next costs nothing."""
        self.forget()
        parts = parts_of(content, self.planes)
        coded = [symbols for (symbols,) in self.encode([part] for part in parts)]
        self._measured = {_key(part): symbols for part, symbols in zip(parts, coded, strict=True)}
        return sum(symbols.bits for symbols in coded)

    def forget(self) -> None:
        """Drop the symbols that `measure` kept."""
        self._measured = {}

    def encode(self, jobs: Iterable[Sequence[Samples]]) -> Iterator[list[Symbols]]:
        """The parts of each job as symbols; those measured a moment ago are not encoded again."""
        rest, measured = iter(jobs), self._measured
        self.forget()
        if measured:
            for job in rest:
                known = [measured.get(_key(part)) for part in job]
                if None in known:  # another content
                    rest = chain([job], rest)
                    break
                yield [symbols for symbols in known if symbols is not None]
        batches = in_turn if self.mixed else alike
        yield from self._batches(rest, lambda job: tuple(part.shape for part in job), self._encoded, batches)

    def finish(self, coded: Sequence[Symbols], check: int, bits: int = 32) -> bytes:
        """The stream of some parts, and of a check of 32, 16, 8 or 0 bits."""
        encoder = Encoder()
        for part in coded:
            encoder.push(part.start, part.width)
        return encoder.finish(check, bits)

    def decode(
        self, jobs: Iterable[tuple[bytes, Sequence[Shape]]], bits: int = 32
    ) -> Iterator[tuple[list[Samples], int]]:
        """The parts of each job, and the check at the end of its stream.  Raises CodecError where a stream is damaged."""
        return self._batches(jobs, lambda job: tuple(job[1]), partial(self._decoded, bits=bits), in_turn)

    @property
    def digits(self) -> int:
        """S, the digits of a value."""
        return self.model.program.digits

    def preview(
        self, jobs: Iterable[tuple[bytes, Sequence[Shape]]], digits: int
    ) -> Iterator[tuple[list[Samples], int]]:
        """The parts of each job from the front of its stream, which may lack its end; a check of 0 that means nothing.

        digits: how many of each value are read, 1 to S − 1; values are in the middle of those that begin so.  Tiles
        before the last of a stream have to be read whole.
        """
        read = partial(self._decoded, bits=0, digits=digits)
        return self._batches(jobs, lambda job: tuple(job[1]), read, in_turn)

    def walker(self, shape: Shape, planes: int, inside: tuple[int, int]) -> Walker:
        """The walker of items of this shape, of which the network sees all.

        planes: M, or 1 for a plane on its own.  inside: height and width of what is coded.
        """
        key = (shape, planes, inside)
        found = self._walkers.get(key)
        if found is None:
            held = sum(h * w for (_, h, w), _, _ in list(self._walkers))  # threads share it
            if len(self._walkers) >= 16 or held + shape[1] * shape[2] > KEPT:
                self._walkers.clear()
            order = self.model.order(self.steps, *shape[1:])
            order = order if planes == shape[0] else order.alone(self.model.lead)
            found = self._walkers[key] = Walker(
                order.inside(*inside), self._ask, self._run.memory, self._sweep if self.model.wave else None
            )
        return found

    # --- batches of jobs ----------------------------------------------------------------------------------------------

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        """Encode jobs of the same shapes."""
        parts = [self._symbols(np.stack([job[k] for job in jobs])) for k in range(len(jobs[0]))]
        return [list(job) for job in zip(*parts, strict=True)]

    def _symbols(self, part: Samples) -> list[Symbols]:
        """Encode parts (n, c, h, w)."""
        part = self._values[part] if self.model.alphabet else part
        pieces: list[list[tuple[Ints, Ints]]] = [[] for _ in part]
        for y, x, inside, size in self._tiles(*part.shape[2:]):
            items = np.zeros((len(part), self.planes, *size), dtype=np.int64)
            items[:, :, : inside[0], : inside[1]] = part[:, :, y : y + inside[0], x : x + inside[1]]
            for mine, more in zip(pieces, self._encode(items, part.shape[1], inside), strict=True):
                mine.append(more)
        return [Symbols(*(np.concatenate(x) for x in zip(*mine, strict=True))) for mine in pieces]

    def _encode(self, items: Ints, planes: int, inside: tuple[int, int]) -> list[tuple[Ints, Ints]]:
        """The intervals of each item's symbols."""
        if self._whole is not None:
            return self._whole.encode(items, self._plane(planes), self._refuse_stopped)
        return self.walker(items.shape[1:], planes, inside).encode(items)

    def _plane(self, planes: int) -> int | None:
        """The channel that codes a plane on its own; None for all planes."""
        return None if planes == self.planes else self.model.lead

    def _decoded(
        self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int, digits: int = 0
    ) -> list[tuple[list[Samples], int]]:
        """Decode jobs of any shapes, side by side; digits: as `preview`, 0 for all."""
        if self._whole is not None and self.planes == 1 and all(is_line(shapes) for _, shapes in jobs):
            return self._decoded_lines(jobs, bits)
        groups: dict[tuple[Shape, ...], list[int]] = {}
        for k, (_, shapes) in enumerate(jobs):
            groups.setdefault(tuple(shapes), []).append(k)
        walks = side_by_side(
            [self._decoding([jobs[k] for k in same], bits, digits) for same in groups.values()], self._ask_all
        )
        order = {
            k: done
            for same, walk in zip(groups.values(), walks, strict=True)
            for k, done in zip(same, walk, strict=True)
        }
        return [order[k] for k in range(len(jobs))]

    def _decoded_lines(self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int) -> list[tuple[list[Samples], int]]:
        """Decode jobs of one row each, of any lengths, in one walk."""
        assert self._whole is not None
        decoders = [Decoder(stream, bits=bits) for stream, _ in jobs]
        prefix, lengths = [self._prefix(decoder) for decoder in decoders], np.array([w for _, ((_, _, w),) in jobs])
        items = self._whole.decode(decoders, (1, int(lengths.max())), None, self._refuse_stopped, lengths)
        lines = [self._samples(x[:, :, :w], one) for x, w, one in zip(items, lengths.tolist(), prefix, strict=True)]
        return [([line], decoder.close()) for line, decoder in zip(lines, decoders, strict=True)]

    def _prefix(self, decoder: Decoder) -> int:
        """The symbol before the values of a part, which `_samples` needs; 0 without one."""
        return 0

    def _samples(self, items: Ints, prefix: int = 0) -> Samples:
        """Values as samples; prefix: of their part."""
        kind = np.dtype("u1" if self.model.program.classes <= 256 else "<u2")
        return self._letters[items] if self.model.alphabet else items.astype(kind)

    def _decoding(
        self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int, digits: int
    ) -> Generator[Ask, Rows, list[tuple[list[Samples], int]]]:
        """Decode jobs of the same shapes; digits: as `preview`, 0 for all."""
        decoders = [Decoder(stream, bits=bits) for stream, _ in jobs]
        parts: list[list[Samples]] = [[] for _ in jobs]
        left = sum(1 for _, h, w in jobs[0][1] for _ in self._tiles(h, w))
        for c, h, w in jobs[0][1]:
            prefix = [self._prefix(decoder) for decoder in decoders]
            part = self._samples(np.zeros((len(jobs), c, h, w), dtype=np.int64))
            for y, x, (tall, wide), size in self._tiles(h, w):
                if self._whole is not None:
                    items = self._whole.decode(decoders, size, self._plane(c), self._refuse_stopped)
                else:
                    walker, left = self.walker((self.planes, *size), c, (tall, wide)), left - 1
                    items = yield from walker.decoding(decoders, None if left else digits or None)
                    items = self._middle(walker.order, items, digits) if digits else items
                items = items[:, :c, :tall, :wide]  # all channels of a plane on its own are equal
                for mine, item, one in zip(part, items, prefix, strict=True):
                    mine[:, y : y + tall, x : x + wide] = self._samples(item, one)
            for own, samples in zip(parts, part, strict=True):
                own.append(samples)
        return [(own, 0 if digits else decoder.close()) for own, decoder in zip(parts, decoders, strict=True)]

    def _middle(self, order: Order, items: Ints, digits: int) -> Ints:
        """Items with the middle of the values that begin with their first digits."""
        depth = np.full_like(items, digits)
        return order.centre(order.truncate(items, depth), depth, self.model.program.classes)

    def _tiles(self, h: int, w: int) -> Iterator[tuple[int, int, tuple[int, int], tuple[int, int]]]:
        """Top and left of the tiles of a part, height and width of what is coded, and of all that the network sees.

        A model of any size takes a part as one tile.
        """
        tall, wide = self.model.size if max(self.model.size) else (h, w)
        for y in range(0, h, tall):
            for x in range(0, w, wide):
                yield y, x, (min(tall, h - y), min(wide, w - x)), (tall, wide)

    # --- batches on cores ---------------------------------------------------------------------------------------------

    def _batches(
        self,
        jobs: Iterable[Job],
        shapes: Callable[[Job], tuple[Shape, ...]],
        work: Callable[[list[Job]], list[Result]],
        batches: Callable[[list[tuple[Shape, ...]], int, int], list[list[int]]],
    ) -> Iterator[Result]:
        """Work on batches of jobs, one on each core at a time; yield results in order."""
        cores = self._cores()
        for taken in ahead(jobs, lambda job: sum(h * w for _, h, w in shapes(job)), cores):
            runs = batches([shapes(job) for job in taken], cores, self._batch)
            sites = max(sum(self._sites(shapes(taken[k])) for k in run) for run in runs)
            done, first = dict[int, Result](), 0
            for a in range(0, len(runs), WAVE * cores):
                wave = runs[a : a + WAVE * cores]
                results = self._each(work, [[taken[k] for k in run] for run in wave], cores, sites)
                for run, found in zip(wave, results, strict=True):
                    done.update(zip(run, found, strict=True))
                while first in done:
                    yield done.pop(first)
                    first += 1

    def _sites(self, shapes: tuple[Shape, ...]) -> int:
        """Sites of a plane in a network call of a decoder, for the largest of some parts."""
        if self.model.wave:
            return max((min(h, -(-w // self.model.wave)) for _, h, w in shapes), default=0)
        tall, wide = self.model.size
        return max((min(h, tall or h) * min(w, wide or w) for _, h, w in shapes), default=0)

    def _cores(self) -> int:
        if self._threads or isinstance(self._run, Reference):
            return self._threads or 1
        if self._whole is not None:
            return usable_cores()
        from torch import get_num_threads

        return get_num_threads()

    def _each(
        self, work: Callable[[list[Job]], list[Result]], batches: list[list[Job]], cores: int, sites: int
    ) -> list[list[Result]]:
        """The results of each batch, in order; sites: in a network call of the largest.

        An exception, such as Ctrl-C, stops the other threads too.
        """
        self._stop.clear()
        at_once = min(cores, len(batches))
        if self._whole is not None or isinstance(self._run, Reference):
            return self._at_once(work, batches, at_once if self._whole is not None else 1)
        from ardm.exact.device import threads

        within = cores // at_once if self._threads else min(cores // at_once, sites // FEW)
        with threads(max(1, within)):
            return self._at_once(work, batches, at_once)

    def _at_once(
        self, work: Callable[[list[Job]], list[Result]], batches: list[list[Job]], at_once: int
    ) -> list[list[Result]]:
        """The results of each batch, in order, on some threads."""
        if at_once == 1:
            return [work(batch) for batch in batches]
        pool = ThreadPoolExecutor(at_once)
        try:
            return list(pool.map(work, batches))
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask_all(self, asks: Sequence[Ask]) -> Sequence[Rows]:
        self._refuse_stopped()
        return self._run.together(asks)

    def _ask(self, ask: Ask) -> Rows:
        self._refuse_stopped()
        return self._run(ask)

    def _sweep(self, items: Ints, plane: int | None) -> Iterator[tuple[AskedSites, Rows]]:
        for part in self._run.sweep(items, plane):
            self._refuse_stopped()
            yield part

    def _refuse_stopped(self) -> None:
        """Raise InterruptedError after another thread failed, since nothing needs the result any more."""
        if self._stop.is_set():
            raise InterruptedError("another thread failed; its error says why")


def usable_cores() -> int:
    """As many as PyTorch would use: $OMP_NUM_THREADS, or those that this process may run on."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and int(named):
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(part: Samples) -> tuple[Shape, bytes]:
    """The shape and bytes that identify a part."""
    c, h, w = part.shape
    return (c, h, w), part.tobytes()
