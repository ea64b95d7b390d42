"""A codec model as a coder: batches, tiles, threads.

NumPy, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

import numpy as np

from ardm.ans import PRECISION, Decoder, Encoder, Ints
from ardm.codec.header import Shape
from ardm.codec.walk import Ask, Walker, in_step
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.exact import model as exact
from ardm.exact.ask import AskedSites
from ardm.exact.frequencies import Rows
from ardm.exact.model import CodecModel, Runner
from ardm.exact.reference import Arbiter

BATCH = 64
"""Items that are decoded together, at most."""
WAVE = 4
"""Batches a core between two looks at what is done: progress is shown then."""
FEW = 1 << 11
"""Sites that a network call sees for each thread: for fewer, waking a thread takes as long as what it would do."""
SIDE_BY_SIDE = 1 << 15
"""Pixels of items that are decoded side by side, at most, unless a single one has more."""
Job = TypeVar("Job")
Result = TypeVar("Result")


def limits_of(model: CodecModel) -> tuple[int, ...]:
    """The number of values of each column that a model of a table codes.  Raises ArdmError where it does not say so."""
    if model.schema is not None:
        return model.schema.columns
    for op in model.program.ops:
        if op.name == "segment":
            return tuple(model.program.tensor(op, "size").tolist())
    raise ArdmError(f"model {model.name} of a table does not say what its columns are")


@dataclass(frozen=True)
class Symbols:
    """A part as a model would code it: the pieces of its symbols."""

    start: Ints
    width: Ints

    @property
    def bits(self) -> float:
        """−log2 of its probability."""
        return float(PRECISION * len(self.width) - np.log2(self.width).sum())


class ModelCoder:
    """A codec model with a number of calls, as `frames` asks for it (`PartCoder`).

    threads: how many cores are used; 0: as many as PyTorch does, and one where an item is small.  Raises ArdmError for
    calls that the model has not.
    """

    def __init__(self, model: CodecModel, calls: int, run: Runner, threads: int = 0) -> None:
        model.order(calls, 1, 1)
        self.model, self._calls, self._run, self._threads = model, calls, run, threads
        self._stop = Event()
        self._walkers: dict[tuple[Shape, int, tuple[int, int]], Walker] = {}
        self._batch = BATCH
        if max(model.size) and isinstance(getattr(run, "bounds", None), dict):  # else areas say how many go together
            self._batch = max(1, min(BATCH, exact.ROOM // max(1, exact.room(model, run.bounds))))  # type: ignore[attr-defined]
        self._letters = np.frombuffer(model.alphabet, np.uint8)
        self._values = np.full(256, -1, dtype=np.int64)
        self._values[self._letters] = np.arange(len(self._letters))

    @property
    def identity(self) -> str:
        """64 hex digits."""
        return self.model.identity

    @property
    def calls(self) -> int:
        """Network calls of an item."""
        return self._calls

    @property
    def planes(self) -> int:
        """M."""
        return self.model.program.channels

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can."""
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
        if content.wide and most <= 256:
            return f"model {self.model.name} codes samples of 8 bits"
        if not content.wide and most > 256:
            return f"model {self.model.name} codes samples of 16 bits"
        if content.samples.size and int(content.samples.max()) >= most:
            return f"model {self.model.name} codes values below {most}"
        if self.model.kind == "table":
            limits = np.array(limits_of(self.model))
            if content.shape[2] != len(limits) or (content.samples >= limits).any():
                return f"model {self.model.name} codes rows of {len(limits)} columns with values of their own"
        return None

    def encode(self, jobs: Iterable[Sequence[Samples]]) -> Iterator[list[Symbols]]:
        """The parts of each job as symbols."""
        return self._batches(jobs, lambda job: tuple(part.shape for part in job), self._encoded, _alike)

    def finish(self, coded: Sequence[Symbols], check: int) -> bytes:
        """The stream of some parts."""
        encoder = Encoder()
        for part in coded:
            encoder.push(part.start, part.width)
        return encoder.finish(check)

    def decode(self, jobs: Iterable[tuple[bytes, Sequence[Shape]]]) -> Iterator[tuple[list[Samples], int]]:
        """The parts of each job, and the check at the end of its stream.  Raises CodecError where a stream is damaged."""
        return self._batches(jobs, lambda job: tuple(job[1]), self._decoded, _in_turn)

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        """Jobs of the same shapes."""
        parts = [self._symbols(np.stack([job[k] for job in jobs])) for k in range(len(jobs[0]))]
        return [list(job) for job in zip(*parts, strict=True)]

    def _symbols(self, part: Samples) -> list[Symbols]:
        """part: (n, c, h, w)."""
        part = self._values[part] if self.model.alphabet else part
        pieces: list[list[tuple[Ints, Ints]]] = [[] for _ in part]
        for y, x, inside, walker in self._tiles(part.shape[1:]):
            items = np.zeros((len(part), *walker.shape), dtype=np.int64)
            items[:, :, : inside[0], : inside[1]] = part[:, :, y : y + inside[0], x : x + inside[1]]
            for mine, more in zip(pieces, walker.encode(items), strict=True):
                mine.append(more)
        return [Symbols(*(np.concatenate(x) for x in zip(*mine, strict=True))) for mine in pieces]

    def _decoded(self, jobs: list[tuple[bytes, Sequence[Shape]]]) -> list[tuple[list[Samples], int]]:
        """Jobs of any shapes, side by side."""
        alike: dict[tuple[Shape, ...], list[int]] = {}
        for k, (_, shapes) in enumerate(jobs):
            alike.setdefault(tuple(shapes), []).append(k)
        walks = in_step([self._decoding([jobs[k] for k in same]) for same in alike.values()], self._ask_all)
        order = {
            k: done
            for same, walk in zip(alike.values(), walks, strict=True)
            for k, done in zip(same, walk, strict=True)
        }
        return [order[k] for k in range(len(jobs))]

    def _decoding(
        self, jobs: list[tuple[bytes, Sequence[Shape]]]
    ) -> Generator[Ask, Rows, list[tuple[list[Samples], int]]]:
        """Jobs of the same shapes."""
        decoders = [Decoder(stream) for stream, _ in jobs]
        kind = np.dtype("u1" if self.model.program.classes <= 256 else "<u2")
        parts: list[list[Samples]] = [[] for _ in jobs]
        for c, h, w in jobs[0][1]:
            part = np.empty((len(jobs), c, h, w), dtype=kind)
            for y, x, (tall, wide), walker in self._tiles((c, h, w)):
                items = (yield from walker.decoding(decoders))[
                    :, :c, :tall, :wide
                ]  # of a plane on its own all channels are equal
                part[:, :, y : y + tall, x : x + wide] = self._letters[items] if self.model.alphabet else items
            for mine, samples in zip(parts, part, strict=True):
                mine.append(samples)
        return [(mine, decoder.close()) for mine, decoder in zip(parts, decoders, strict=True)]

    def _tiles(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[int, int], Walker]]:
        """Top, left and size of the tiles of a part (c, h, w), and what walks them; a model of any size takes it whole."""
        c, h, w = shape
        tall, wide = self.model.size if max(self.model.size) else (h, w)
        for y in range(0, h, tall):
            for x in range(0, w, wide):
                inside = (min(tall, h - y), min(wide, w - x))
                yield y, x, inside, self.walker((self.planes, tall, wide), c, inside)

    def walker(self, shape: Shape, planes: int, inside: tuple[int, int]) -> Walker:
        """The walker of items (c, h, w) of this shape; see `Walker`."""
        key = (shape, planes, inside)
        found = self._walkers.get(key)
        if found is None:
            if len(self._walkers) >= 16:
                self._walkers.clear()
            found = self._walkers[key] = Walker(self.model, self.calls, self._ask, shape, planes, inside)
        return found

    def _batches(
        self,
        jobs: Iterable[Job],
        shapes: Callable[[Job], tuple[Shape, ...]],
        work: Callable[[list[Job]], list[Result]],
        batches: Callable[[list[tuple[Shape, ...]], int, int], list[list[int]]],
    ) -> Iterator[Result]:
        """work on batches of jobs, as many at once as there are cores; results in order."""
        cores = self._cores()
        for ahead in _ahead(jobs, lambda job: sum(h * w for _, h, w in shapes(job)), cores):
            runs = batches([shapes(job) for job in ahead], cores, self._batch)
            sites = max(sum(self._sites(shapes(ahead[k])) for k in run) for run in runs)
            done, first = dict[int, Result](), 0
            for a in range(0, len(runs), WAVE * cores):
                wave = runs[a : a + WAVE * cores]
                for run, results in zip(
                    wave, self._each(work, [[ahead[k] for k in run] for run in wave], cores, sites), strict=True
                ):
                    done.update(zip(run, results, strict=True))
                while first in done:
                    yield done.pop(first)
                    first += 1

    def _sites(self, shapes: tuple[Shape, ...]) -> int:
        """Sites of a plane that a network call sees, in the largest of some parts."""
        tall, wide = self.model.size
        return max((min(h, tall or h) * min(w, wide or w) for _, h, w in shapes), default=0)

    def _cores(self) -> int:
        if self._threads or isinstance(self._run, Arbiter):
            return self._threads or 1
        from torch import get_num_threads

        return get_num_threads()

    def _each(
        self, work: Callable[[list[Job]], list[Result]], batches: list[list[Job]], cores: int, sites: int
    ) -> list[list[Result]]:
        """Of each batch, in order; sites: that a network call sees of the largest.

        What ends this early, such as Ctrl-C, ends the work of the other threads, too.
        """
        self._stop.clear()
        if isinstance(self._run, Arbiter):
            return [work(batch) for batch in batches]
        from ardm.exact.backend import threads

        at_once = min(cores, len(batches))
        within = cores // at_once if self._threads else min(cores // at_once, sites // FEW)
        with threads(max(1, within)):
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
        together = getattr(self._run, "together", None)
        if together is None or len(asks) < 2:
            return [self._ask(*ask) for ask in asks]
        self._go_on()
        found: Sequence[Rows] = together(asks)
        return found

    def _go_on(self) -> None:
        """Unless nobody waits for it any more."""
        if self._stop.is_set():
            raise InterruptedError("nobody waits for this any more")

    def _ask(self, value: Ints, depth: Ints, asked: AskedSites) -> Rows:
        self._go_on()
        return self._run(value, depth, asked)


def _alike(shapes: list[tuple[Shape, ...]], cores: int, batch: int) -> list[list[int]]:
    """Which jobs are worked on together: those of the same shapes, at most `batch`."""
    alike: dict[tuple[Shape, ...], list[int]] = {}
    for k, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(k)
    runs: list[list[int]] = []
    for same in alike.values():
        each = min(batch, -(-len(same) // cores))
        runs += [same[a : a + each] for a in range(0, len(same), each)]
    return runs


def _in_turn(shapes: list[tuple[Shape, ...]], cores: int, batch: int) -> list[list[int]]:
    """Which jobs are worked on together: as they come, of whatever shapes, at most `batch`."""
    areas = [sum(h * w for _, h, w in parts) for parts in shapes]
    most = min(SIDE_BY_SIDE, -(-sum(areas) // cores))
    runs: list[list[int]] = [[]]
    held = 0
    for k, area in enumerate(areas):
        if runs[-1] and (held + area > most or len(runs[-1]) == batch):
            runs.append([])
            held = 0
        runs[-1].append(k)
        held += area
    return runs


def _ahead(jobs: Iterable[Job], area: Callable[[Job], int], cores: int) -> Iterator[list[Job]]:
    """Jobs in lists of what is worked on together."""
    ahead: list[Job] = []
    total = 0
    for job in jobs:
        ahead.append(job)
        total += area(job)
        if len(ahead) == cores * BATCH or total >= cores << 20:
            yield ahead
            ahead, total = [], 0
    if ahead:
        yield ahead
