"""The native runner: a causal program in C, whole walks included.

    runner = NativeRunner(program)
    runner(ask), runner.sweep(value)         as any `Runner`
    runner.encode(items)                     → the intervals of each item's symbols, in the order in which they are coded
    runner.decode(decoders, (H, W))          → items, each from its stream

The walks release the interpreter's lock, so that threads work side by side, and come back now and then to be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ardm.ans import Decoder, Ints
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.certificate import certify
from ardm.exact.frequencies import Rows, radices
from ardm.exact.native.describe import describe
from ardm.exact.native.library import STREAM, Net, Walk
from ardm.exact.operations.heads import frequencies
from ardm.exact.program import Program

SLICE = 1 << 14
"""Places computed between two chances to stop."""


def _go_on() -> None:
    """Never stop."""


class NativeRunner:
    """A causal program in C: a `Runner`.

    plain: without special instructions of the processor.  Raises ArdmError where there is no library, or where it lacks
    an operation of the program.
    """

    causal = True

    def __init__(self, program: Program, plain: bool = False) -> None:
        self.program, self.bounds = program, certify(program)
        self._net = Net(describe(program, self.bounds), plain)
        self._head = program.ops[-1]
        self._columns = self.bounds[self._head.inputs[0]].planes
        self._stages = len(radices(program.base)) if self._head.name == "mixture" else 1

    # --- whole walks --------------------------------------------------------------------------------------------------

    def encode(
        self, items: Ints, plane: int | None = None, pause: Callable[[], None] = _go_on
    ) -> list[tuple[Ints, Ints]]:
        """The intervals of the symbols of items (n, C, H, W): start and width of each item, as `Walker.encode`.

        plane: the only channel that is coded.  pause: called now and then; what it raises ends the walk.
        """
        n, C, H, W = items.shape
        walk = Walk(self._net, items.shape, plane, raster=True)
        walk.load(items)
        symbols = (C if plane is None else 1) * H * W * self._stages
        start, width = (np.empty((n, symbols), dtype=np.int32) for _ in range(2))
        while walk.encode(SLICE, start, width):
            pause()
        return list(zip(start, width, strict=True))

    def decode(
        self,
        decoders: Sequence[Decoder],
        size: tuple[int, int],
        plane: int | None = None,
        pause: Callable[[], None] = _go_on,
        lengths: Ints | None = None,
    ) -> Ints:
        """Items (n, C, H, W), one from each decoder, as `Walker.decode`; plane, pause: as for encode.

        lengths: (n,), of items of one row that end before the longest; what is behind them means nothing.
        Raises CodecError where a stream ends early.
        """
        walk = Walk(self._net, (len(decoders), self.program.channels, *size), plane, raster=False, lengths=lengths)
        words = [np.frombuffer(decoder.words, dtype=np.uint8) for decoder in decoders]
        streams = np.zeros(len(decoders), dtype=STREAM)
        for stream, decoder, held in zip(streams, decoders, words, strict=True):
            stream["state"], stream["words"], stream["left"] = decoder.state, held.ctypes.data, len(held) // 4
        more = True
        while more:
            pause()
            more = walk.decode(SLICE, streams)
            for stream, decoder in zip(streams, decoders, strict=True):
                decoder.resume(int(stream["state"]), int(stream["left"]))
        return walk.values()

    # --- step by step -------------------------------------------------------------------------------------------------

    def memory(self, shape: tuple[int, ...]) -> Memory:
        """An empty memory for a walk over states of this shape."""
        return Memory(self, shape)

    def together(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answer to each of several asks, one after the other."""
        return [self(ask) for ask in asks]

    def __call__(self, ask: Ask) -> Rows:
        """The frequencies at the sites asked: of a wavefront with a memory, or of the whole items."""
        ask.remembered(self)
        found = self._step(ask) or self._dense(ask)
        return frequencies(self.program, self._head, list(found), *ask.state)

    def _step(self, ask: Ask) -> tuple[Ints, Ints] | None:
        """The inputs of the head at sites of one channel of the wavefront that a walk has reached; None for other asks."""
        sites, slope = ask.sites, self.program.wave
        key = sites.x + slope * sites.y
        if ask.memory is None or not len(sites) or np.ptp(key) or np.ptp(sites.channel):
            return None
        kept = ask.memory.of("walk")
        walk = kept.get("walk") or kept.setdefault("walk", self._walk(ask.value.shape, False))
        o, centre = self._room(walk.capacity)
        n = walk.step(ask.value, ask.depth, int(key[0]), int(sites.channel[0]), o, centre)
        if n < 0:
            return None
        top = max(0, -(-(int(key[0]) - ask.value.shape[3] + 1) // slope))
        row = sites.batch_index * (n // len(ask.value)) + sites.y - top
        return o[row], centre[row, None]

    def _dense(self, ask: Ask) -> tuple[Ints, Ints]:
        """The inputs of the head at sites, from a sweep over the items that are asked about."""
        items, which = np.unique(ask.sites.batch_index, return_inverse=True)
        _, C, H, W = ask.value.shape
        o, centre = self._room(max(1, len(items)) * C * H * W)
        if len(items):
            walk = self._walk((len(items), C, H, W), True)
            walk.load(ask.value[items], ask.depth[items])
            for sites, *found in self._sweep(walk, range(C)):
                row = self._place(sites, H, W, C)
                o[row], centre[row] = found
        row = self._place(AskedSites(which, *ask.sites.index[1:]), H, W, C)
        return o[row], centre[row, None]

    @staticmethod
    def _place(sites: AskedSites, H: int, W: int, C: int) -> Ints:
        """The number of each site in (items, C, H, W)."""
        return ((sites.batch_index * C + sites.channel) * H + sites.y) * W + sites.x

    # --- all sites ----------------------------------------------------------------------------------------------------

    def sweep(self, value: Ints, plane: int | None = None) -> Iterator[tuple[AskedSites, Rows]]:
        """The frequencies at all sites of items (n, C, H, W) whose digits are all known; each site once, in any order.

        plane: of this channel only.
        """
        walk = self._walk(value.shape, True, plane)
        walk.load(value)
        for sites, o, centre in self._sweep(walk, range(value.shape[1]) if plane is None else [plane]):
            none = np.zeros(len(sites), dtype=np.int64)
            yield sites, frequencies(self.program, self._head, [o, centre[:, None]], none, none)

    def _sweep(self, walk: Walk, channels: Sequence[int]) -> Iterator[tuple[AskedSites, Ints, Ints]]:
        """Sites of a channel, and the inputs of the head there, front by front."""
        size = (walk.shape[2], walk.shape[3])
        while True:
            b, y, x = (np.empty(walk.capacity, dtype=np.int64) for _ in range(3))
            o = np.empty((len(channels), walk.capacity, self._columns), dtype=np.int64)
            centre = np.empty((len(channels), walk.capacity), dtype=np.int64)
            n = walk.heads(b, y, x, o, centre)
            if not n:
                return
            for k, c in enumerate(channels):
                yield AskedSites(b[:n], np.full(n, c), y[:n], x[:n], size), o[k, :n], centre[k, :n]

    def _walk(self, shape: tuple[int, ...], raster: bool, plane: int | None = None) -> Walk:
        return Walk(self._net, shape, plane, raster)

    def _room(self, count: int) -> tuple[Ints, Ints]:
        """Room for the inputs of the head at some sites."""
        return np.empty((count, self._columns), dtype=np.int64), np.empty(count, dtype=np.int64)
