"""Data to bytes and back with a codec model: integer networks, so the same bytes from every machine.

    coder(model, calls) → a `PartCoder` for `frames`: parts of images (or of anything) to streams and back

A part (M, h, w) of a content is an item of a model that serves any size, or is cut into tiles of the model's own.  The
decoder walks the steps of the model's order: the network is asked at the sites of a step, in all items of a batch at
once, and each item's stream tells its digits.  The encoder knows all digits, so it asks about many steps at once; an
integer network gives it the same frequencies as the decoder, which a float network would not.

A plane on its own (a grey picture, alpha) is coded as the model's leading channel, all channels being equal to it.
What lies outside an item is never asked for and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from ardm.ans import PRECISION, Decoder, Encoder, Ints, intervals
from ardm.codec import tables as tablecoder
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact import model as exact
from ardm.exact.ask import Ask, AskedSites, Memory, Runner
from ardm.exact.frequencies import Rows
from ardm.exact.model import CodecModel
from ardm.exact.reference import Reference

if TYPE_CHECKING:
    from ardm.exact.backend import Backend

LEVELS = {1: 8, 2: 11, 3: 14, 4: 20, 5: 26, 6: 36, 7: 50, 8: 70, 9: 98}
"""Network calls of an item, by level: more calls are smaller and slower."""
DEFAULT_LEVEL = 7
BACKENDS = ("auto", "int8", "float32", "float64", "int64", "numpy")
"""What integers are held in: bytes and float32 where certified; "numpy" is the arbiter, in int64 without PyTorch."""
BATCH = 64
"""Items that are decoded together, at most."""
WAVE = 4
"""Batches a core between two looks at what is done: progress is shown then."""
FEW = 1 << 11
"""Sites that a network call sees for each thread: for fewer, waking a thread takes as long as what it would do."""
PIXELS = 1 << 17
"""Pixels of states that a network is given at once, at most, unless a single state has more."""

SIDE_BY_SIDE = 1 << 15
"""Pixels of items that are decoded side by side, at most, unless a single one has more."""

Shape = tuple[int, int, int]
Job = TypeVar("Job")
Result = TypeVar("Result")
DEFAULT_MODEL = "cifar10-codec"
"""The bundled model that codes pictures."""


# --- models and machines ----------------------------------------------------------------------------------------------


def bundled() -> dict[str, Path]:
    """The codec models in the package: name → file."""
    assets = resources.files("ardm") / "assets"
    folders = sorted(Path(str(p)) for p in assets.iterdir()) if assets.is_dir() else []
    return {folder.name: folder / exact.NAME for folder in folders if (folder / exact.NAME).is_file()}


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> CodecModel:
    return exact.load(path)


def model(name_or_path: str | Path | CodecModel) -> CodecModel:
    """A codec model by the name of a bundled one, by its file, or by the folder that holds it.

    Raises ModelMissing where there is none, ArdmError where it is damaged.
    """
    if isinstance(name_or_path, CodecModel):
        return name_or_path
    known = bundled()
    path = known.get(str(name_or_path), Path(name_or_path))
    path = path / exact.NAME if path.is_dir() else path
    if not path.is_file():
        names = ", ".join(known) or "none"
        hint = ""
        if Path(name_or_path).is_dir():
            inside = Path(name_or_path) / "model"
            within = inside if not (path.parent / "config.json").is_file() and inside.is_dir() else Path(name_or_path)
            hint = (
                f"; did you mean {within}?"
                if (within / exact.NAME).is_file()
                else f"; `ardm export {within}` makes one"
            )
        raise ModelMissing(f"there is no codec model {str(name_or_path)!r}{hint} (bundled: {names})")
    return _read(path, path.stat().st_mtime_ns)


def calls_of(model: CodecModel, level: int) -> int:
    """The number of network calls that a level 1..9 stands for: LEVELS where the model has all of them, else spread.

    7, the default, is the model's own choice; 1 its fewest and 9 its most.
    """
    has = sorted(model.orders)
    if all(calls in model.orders for calls in LEVELS.values()):
        return LEVELS[level]
    own = has.index(model.default)
    if level <= DEFAULT_LEVEL:
        return has[own * (level - 1) // (DEFAULT_LEVEL - 1)]
    return has[own + -(-(len(has) - 1 - own) * (level - DEFAULT_LEVEL) // (9 - DEFAULT_LEVEL))]


def limits_of(model: CodecModel) -> tuple[int, ...]:
    """The number of values of each column that a model of a table codes.  Raises ArdmError where it does not say so."""
    if model.schema is not None:
        return model.schema.columns
    for op in model.program.ops:
        if op.name == "segment":
            return tuple(model.program.tensor(op, "size").tolist())
    raise ArdmError(f"model {model.name} of a table does not say what its columns are")


def machine(model: CodecModel, backend: str = "auto", device: str = "auto") -> Runner:
    """Something that runs a model's network, after it has reproduced the model's golden frequencies.

    "auto" takes the fastest that proves itself.  Raises ArdmError for one that is named and fails, or is unknown.
    """
    if backend not in BACKENDS:
        raise ArdmError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
    return _machine(model.identity, _Held(model), backend, device)


class _Held:
    """A model as an argument that a cache takes: equal to every other, for the identity stands beside it."""

    def __init__(self, model: CodecModel) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=8)
def _machine(identity: str, held: _Held, backend: str, device: str) -> Runner:
    model = held.model
    tried = [backend] if backend != "auto" else ["int8", "float32", "float64", "numpy"]
    for name in tried:
        try:
            made = _made(model, name, device)
        except ArdmError:
            if name != "int8" or backend == "int8":
                raise
            continue
        exact.refuse_room(model, made.bounds)
        if exact.fingerprint(model, made) == model.golden:
            return made
    raise ArdmError(
        f"{backend} arithmetic on {device} does not give the frequencies of model {model.name} ({identity[:8]}): either "
        "the model's file is damaged, or this machine does not compute as it should; try --backend numpy"
    )


def _made(model: CodecModel, backend: str, device: str) -> Reference | Backend:
    if backend == "numpy":
        return Reference(model.program)
    from ardm.exact.backend import Backend
    from ardm.exact.device import pick

    return Backend(model.program, backend, pick(device))


# --- items ------------------------------------------------------------------------------------------------------------


class Told(Protocol):
    """What tells the symbols of an item: a `Decoder`, or `Chance`."""

    def pop(self, table: Ints) -> Ints: ...  # noqa: D102


class Walker:
    """A model with a number of calls over items (n, M, h, w) of one shape.

    shape: (M, h, w), what the network sees.  planes: M, or 1 for a plane on its own.  inside: (h, w) of what is coded.
    """

    def __init__(
        self,
        model: CodecModel,
        calls: int,
        run: Callable[[Ask], Rows],
        memory: Callable[[tuple[int, ...]], Memory],
        shape: Shape,
        planes: int,
        inside: tuple[int, int],
    ) -> None:
        self.run, self.memory, self.shape = run, memory, shape
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
        rows = self.run(Ask(states // unit * unit, depth, self._asked(lane, site)))
        start, width = _stages(rows, told)
        begin = 0
        for _, _, s in steps:
            for _ in range(n):
                mine = slice(begin, begin + len(s))
                begin += len(s)
                yield start[:, mine].reshape(-1), width[:, mine].reshape(-1)

    def decode(self, decoders: Sequence[Told]) -> Ints:
        """Items (n, M, h, w), each told by its decoder.  Raises CodecError where a stream ends."""
        return in_step([self.decoding(decoders)], lambda asks: [self.run(ask) for ask in asks])[0]

    def decoding(self, decoders: Sequence[Told]) -> Generator[Ask, Rows, Ints]:
        """As decode, for who asks the network: yields what it is asked, and is sent what it says."""
        n, size = len(decoders), math.prod(self.shape)
        value = np.zeros((n, *self.shape), dtype=np.int64)
        depth, memory = np.zeros_like(value), self.memory(value.shape)
        flat, known = value.reshape(n, size), depth.reshape(n, size)
        for _, digit, site in self.steps:
            sites = self._asked(np.repeat(np.arange(n), len(site)), np.tile(site, n))
            rows = yield Ask(value, depth, sites, memory)
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


def _stages(rows: Rows, told: Ints) -> tuple[Ints, Ints]:
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


# --- parts ------------------------------------------------------------------------------------------------------------


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
        if max(model.size):  # else areas say how many go together
            self._batch = max(1, min(BATCH, exact.ROOM // max(1, exact.room(model, run.bounds))))
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
                yield y, x, inside, self._walker((self.planes, tall, wide), c, inside)

    def _walker(self, shape: Shape, planes: int, inside: tuple[int, int]) -> Walker:
        key = (shape, planes, inside)
        found = self._walkers.get(key)
        if found is None:
            if len(self._walkers) >= 16:
                self._walkers.clear()
            found = self._walkers[key] = Walker(
                self.model, self.calls, self._ask, self._run.memory, shape, planes, inside
            )
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
        if self._threads or isinstance(self._run, Reference):
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
        if isinstance(self._run, Reference):
            return [work(batch) for batch in batches]
        from ardm.exact.device import threads

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
        self._go_on()
        return self._run.together(asks)

    def _go_on(self) -> None:
        """Unless nobody waits for it any more."""
        if self._stop.is_set():
            raise InterruptedError("nobody waits for this any more")

    def _ask(self, ask: Ask) -> Rows:
        self._go_on()
        return self._run(ask)


class TableCoder(ModelCoder):
    """A codec model of a table over CSV text: see `tablecoder`."""

    def __init__(self, model: CodecModel, calls: int, run: Runner, threads: int = 0) -> None:
        super().__init__(model, calls, run, threads)
        if model.schema is None:
            raise ArdmError(f"model {model.name} of a table does not say what its columns are called")
        self._schema = tablecoder.bare(model.schema)
        self.together = tablecoder.together(self._schema, model.program.classes)

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can."""
        if content.kind != Kind.BYTES:
            return f"model {self.model.name} codes tables as CSV text"
        if not tablecoder.has_rows(self._schema, content.samples.tobytes()):
            ends = self._schema.line_ending.encode("unicode_escape").decode()
            return (
                f"no line is a row of the columns of model {self.model.name}: {len(self._schema.names)} of them with "
                f"{self._schema.delimiter!r} between, and lines that end in {ends}"
            )
        return None

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        return [[self._text(part.tobytes()) for part in job] for job in jobs]

    def _text(self, data: bytes) -> Symbols:
        found = list(tablecoder.pieces(self._schema, data))
        told = [Symbols(*tablecoder.symbols(tablecoder.layout(found)))]
        rows = np.array([row for _, rows in found for row in rows], dtype=np.int64)
        for first in range(0, len(rows), self.together):
            told += self._symbols(rows[None, None, first : first + self.together])
        return Symbols(*(np.concatenate([getattr(p, name) for p in told]) for name in ("start", "width")))

    def _decoded(self, jobs: list[tuple[bytes, Sequence[Shape]]]) -> list[tuple[list[Samples], int]]:
        found = []
        for stream, shapes in jobs:
            decoder = Decoder(stream)
            parts = [self._told(decoder, length).reshape(1, 1, -1) for _, _, length in shapes]
            found.append((parts, decoder.close()))
        return found

    def _told(self, decoder: Decoder, length: int) -> Samples:
        found = tablecoder.read_layout(decoder, self._schema, length)
        values = self._rows(decoder, sum(rows for _, rows in found))
        return np.frombuffer(tablecoder.written(self._schema, found, values, length), np.uint8)

    def _rows(self, decoder: Decoder, count: int) -> Ints:
        """(count, columns)."""
        columns = len(self._schema.names)
        found = [np.zeros((0, columns), dtype=np.int64)]
        for first in range(0, count, self.together):
            size = (min(self.together, count - first), columns)
            found.append(self._walker((1, *size), 1, size).decode([decoder])[0, 0])
        return np.concatenate(found)


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


# --- what others ask for ----------------------------------------------------------------------------------------------


def _coder_of(model: CodecModel, calls: int, run: Runner, threads: int) -> ModelCoder:
    kind = ModelCoder if model.schema is None else TableCoder
    return kind(model, calls, run, threads)


def coder(
    name: str | Path | CodecModel | None = None,
    calls: int | None = None,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 0,
) -> ModelCoder:
    """A codec model, ready to code.

    name: a bundled model, a folder or a file; by default the bundled one for pictures.  calls: one of the model's
    numbers of network calls; by default its own choice.  Raises ModelMissing, ArdmError.
    """
    found = model(DEFAULT_MODEL if name is None else name)
    return _coder_of(found, found.default if calls is None else calls, machine(found, backend, device), threads)


def maker(
    backend: str = "auto", device: str = "auto", threads: int = 0, names: Sequence[str | Path | CodecModel] = ()
) -> Callable[[str, int], ModelCoder]:
    """Finds the coder of a file by the first digits of its model's identity: among `names`, then the bundled ones."""

    @lru_cache(maxsize=8)
    def find(identity: str, calls: int) -> ModelCoder:
        known = {}
        for name in [*names, *bundled()]:
            found = model(name)
            if found.identity.startswith(identity):
                try:
                    return _coder_of(found, calls, machine(found, backend, device), threads)
                except ModelMissing:
                    raise
                except ArdmError as error:
                    if calls in found.orders:
                        raise
                    raise CodecError(f"damaged file: {error}") from None
            known[found.name] = found.identity[:8]
        listed = ", ".join(f"{name} ({short})" for name, short in known.items()) or "none"
        raise ModelMissing(
            f"this file was made by codec model {identity}, which is not here (known: {listed}); name its folder with -m"
        )

    return find


class Chance:
    """A stream of random bits, which decodes to a sample: sampling is decompressing random bits."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.PCG64(seed)  # whose raw numbers are the same in every version of NumPy

    def pop(self, table: Ints) -> Ints:
        """One symbol a row of frequencies (N, b)."""
        drawn = (self._random.random_raw(len(table)) >> np.uint64(64 - PRECISION)).astype(np.int64)
        symbols: Ints = (drawn[:, None] >= table.cumsum(axis=1)).sum(axis=1)
        return symbols


def sample(
    model: str | Path | CodecModel,
    items: int,
    size: tuple[int, int] | None = None,
    calls: int | None = None,
    seed: int = 0,
) -> Ints:
    """New items (items, C, H, W) of a codec model, by decoding random bits: the same on every machine.

    size: (H, W); by default that of its items, or 32 × 32 pixels, a line of 256 letters or 8000 samples, or a row.
    """
    coded = coder(model, calls)
    found = coded.model
    lines = {"image": (32, 32), "text": (1, 256), "audio": (1, 8000)}
    whole = (1, len(limits_of(found))) if found.kind == "table" else lines[found.kind]
    H, W = size or (found.size if max(found.size) else whole)
    walker = coded._walker((coded.planes, H, W), coded.planes, (H, W))
    return np.concatenate(
        [walker.decode([Chance(seed + i) for i in range(a, min(a + BATCH, items))]) for a in range(0, items, BATCH)]
    )
