"""The PyTorch backend: a program run fast, on integers held in float32, float64 or int64.

The certificate of an operation says which container is exact, so the result is that of `reference` for any number of
threads, any batch, instruction set or device.  Rounding to fewer bits would break this: bfloat16, TF32 and autocast are
switched off here, and nothing is compiled or fused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.causal import Causal, causal
from ardm.exact.certificate import certify
from ardm.exact.device import strict
from ardm.exact.frequencies import Rows
from ardm.exact.kernels import KERNELS
from ardm.exact.kernels.causal import carried
from ardm.exact.kernels.kernel import Context, Run, Step
from ardm.exact.operations.causal import PLACED
from ardm.exact.operations.heads import HEADS, frequencies
from ardm.exact.program import Op, Program
from ardm.exact.reference import inputs
from ardm.exact.space import last_read
from ardm.exact.stretches import Values

CHUNK = 1 << 10
"""Sites whose rows are computed at once: their values stay in the cache, and memory does not grow with an item."""


@dataclass(frozen=True)
class Prepared:
    """An operation ready to run in its container, and the dtype that its result is stored in."""

    op: Op
    run: Run
    dtype: torch.dtype
    stored: torch.dtype
    as_stored: bool

    def __call__(self, step: Step, values: dict[str, Tensor]) -> None:
        """Add the result to the values."""
        given = [values[name] for name in self.op.inputs]
        if not self.as_stored:
            given = [x if x.dtype == self.dtype else x.to(self.dtype) for x in given]
        made = self.run(step, given)
        values[self.op.out] = made if made.dtype == self.stored else made.to(self.stored)


def prepare(context: Context, op: Op) -> Prepared:
    """Build the kernel of an operation.  Raises ArdmError where there is none."""
    if op.name not in KERNELS:
        raise ArdmError(f"this version of ardm cannot run the operation {op.name!r} of a codec model in PyTorch")
    kernel, dtype = KERNELS[op.name], context.dtype(context.bounds[op.out].peak)
    return Prepared(op, kernel.build(context, op, dtype), dtype, context.stored(op.out), kernel.as_stored)


class Backend:
    """A program, ready to run on a device: a `Runner`.

    container: "float32" (float64 where the certificate asks for it), "int8", "float64" or "int64".
    Maps are computed first, then rows: from maps (`_near`), then from other rows (`_far`).
    byte_products: how many matrix products are computed in bytes.
    Raises ArdmError where the program is malformed or needs an operation that this version lacks, and for "int8" on a
    processor that computes no product of bytes exactly.
    """

    def __init__(self, program: Program, container: str = "float32", device: torch.device | str = "cpu") -> None:
        self.program, self.container, self.bounds = program, container, certify(program)
        self.device = torch.device(device)
        context = Context(program, self.bounds, container, self.device)
        every = [prepare(context, op) for op in program.ops if op.name not in HEADS and op.name not in PLACED]
        self._waves = Causal(program, self.bounds, _Kernels(self, context, every)) if program.wave else None
        self._maps = [step for step in every if not self._is_rows(step.op.out)]
        self._rows = [step for step in every if self._is_rows(step.op.out)]
        ordered = [*(one.op for one in self._maps), *(one.op for one in self._rows), program.ops[-1]]
        self._done = last_read(ordered)[: len(self._maps)]
        self._near = [step for step in self._rows if not any(map(self._is_rows, step.op.inputs))]
        self._far = [step for step in self._rows if any(map(self._is_rows, step.op.inputs))]
        self._dtype, self._head = context.dtype(0), program.ops[-1]
        self._joinable = all(
            KERNELS[step.op.name].row_by_row and all(map(self._is_rows, step.op.inputs)) for step in self._far
        ) and all(map(self._is_rows, self._head.inputs))
        self.byte_products = context.byte_products
        if container == "int8" and not self.byte_products:
            raise ArdmError("this processor computes none of this model's byte products exactly")

    def _is_rows(self, name: str) -> bool:
        return self.bounds[name].kind != "map"

    @property
    def causal(self) -> bool:
        """Whether it can sweep."""
        return self._waves is not None

    def memory(self, shape: tuple[int, ...]) -> Memory:
        """An empty memory for a walk over states of this shape."""
        return Memory(self, shape)

    def __call__(self, ask: Ask) -> Rows:
        """The frequencies at the sites asked: maps once, rows for CHUNK sites at a time."""
        if self._waves is not None:
            return self.together([ask])[0]
        with strict():
            step = Step.at(ask.sites, self.device, ask.remembered(self))
            maps = self._of_maps(ask, step)
            found = []
            for part in step.split(CHUNK):
                values = dict(maps)
                for one in self._rows:
                    one(part, values)
                found.append(self._given(values))
        given = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return frequencies(self.program, self._head, given, *ask.state)

    def together(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answer to each of several asks, whose items may have different sizes.

        Rows of small asks go through the network together, which is faster than ask by ask.
        """
        if self._waves is not None:
            with strict():
                return self._waves.answers(asks, [ask.remembered(self) for ask in asks])
        found: list[Rows] = []
        small: list[Ask] = []
        for ask in asks:
            if not self._joinable or len(ask.sites) >= CHUNK:
                found += [*self._side_by_side(small), self(ask)]
                small = []
                continue
            small.append(ask)
            if sum(len(one.sites) for one in small) >= CHUNK:
                found += self._side_by_side(small)
                small = []
        return found + self._side_by_side(small)

    def sweep(self, value: Ints, plane: int | None = None) -> Iterator[tuple[AskedSites, Rows]]:
        """The frequencies at all sites of items, or at those of one channel."""
        parts = causal(self._waves).sweep(value, plane)
        while True:
            with strict():  # not while the caller runs
                found = next(parts, None)
            if found is None:
                return
            yield found

    def _side_by_side(self, asks: Sequence[Ask]) -> list[Rows]:
        """The answers to asks whose rows are computed side by side."""
        if len(asks) < 2:
            return [self(ask) for ask in asks]
        with strict():
            near, steps = [], []
            for ask in asks:
                step = Step.at(ask.sites, self.device, ask.remembered(self))
                values = self._of_maps(ask, step)
                for one in self._near:
                    one(step, values)
                near.append({one.op.out: values[one.op.out] for one in self._near})
                steps.append(step)
            values = {name: torch.cat([rows[name] for rows in near]) for name in near[0]}
            channel = torch.cat([step.channel for step in steps])
            joined = Step(channel, channel, channel, channel, Memory(self, ()))  # `row_by_row`: only channels are read
            for one in self._far:
                one(joined, values)
            given = self._given(values)
        ends = np.cumsum([len(ask.sites) for ask in asks])[:-1]
        split = zip(*(np.split(x, ends) for x in given), strict=True)
        return [
            frequencies(self.program, self._head, list(mine), *ask.state) for ask, mine in zip(asks, split, strict=True)
        ]

    def _of_maps(self, ask: Ask, step: Step) -> dict[str, Tensor]:
        """The maps of a program that rows read; the others are dropped after their last use."""
        maps = self.inputs(ask.value, ask.depth)
        for one, done in zip(self._maps, self._done, strict=True):
            one(step, maps)
            for name in done:
                del maps[name]
        return maps

    def inputs(self, value: Ints, depth: Ints) -> dict[str, Tensor]:
        """The two maps that a program begins with."""
        v, d = (torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in (value, depth))
        if self.program.digits == 1:  # as `inputs`: a site holds its value, or nothing
            return {"value": (2 * v - (self.program.classes - 1)).mul_(d).to(self._dtype), "depth": d.to(self._dtype)}
        maps = inputs(self.program, value, depth)
        return {name: torch.from_numpy(a).to(self.device, self._dtype) for name, a in maps.items()}

    def _given(self, values: dict[str, Tensor]) -> list[Ints]:
        """The inputs of the head in NumPy."""
        return [values[name].to("cpu", torch.int64).numpy() for name in self._head.inputs]


class _Kernels:
    """The kernels of a causal program: an `Engine`."""

    def __init__(self, backend: Backend, context: Context, every: Sequence[Prepared]) -> None:
        self._backend, self._context = backend, context
        self._prepared = {one.op.out: one for one in every}
        self._memory = Memory(backend, ())

    def zeros(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape, dtype=self._context.stored(name), device=self._context.device)

    def inputs(self, value: Ints, depth: Ints) -> Values:
        return {**self._backend.inputs(value, depth)}

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(parts), axis)

    def stack(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts), -1)

    def index(self, rows: Ints) -> Tensor:
        return torch.from_numpy(rows).to(self._context.device)

    def take(self, a: Tensor, rows: Tensor) -> Tensor:
        return a.index_select(0, rows)

    def where(self, sites: AskedSites | None) -> Step:
        nowhere = np.zeros(0, dtype=np.int64)
        sites = AskedSites(nowhere, nowhere, nowhere, nowhere) if sites is None else sites
        return Step.at(sites, self._context.device, self._memory)

    def run(self, op: Op, values: Values, where: Step) -> None:
        self._prepared[op.out](where, values)

    def carry(self, op: Op, z: Tensor, n: Tensor, before: Tensor | None) -> Tensor:
        dtype = self._context.dtype(self._context.bounds[op.out].peak)
        z, n = z.to(dtype), n.to(dtype)
        first = torch.zeros_like(n[:, 0]) if before is None else before.to(dtype)
        return carried(op, z, n, first).to(self._context.stored(op.out))

    def plain(self, a: Tensor) -> Ints:
        return a.to("cpu", torch.int64).numpy()

    def array(self, name: str, a: Ints) -> Tensor:
        return torch.from_numpy(a).to(self._context.device, self._context.stored(name))
