"""A program run fast, in PyTorch: integers held in float32 or float64, whichever the certificate allows, or in int64.

The result of an operation whose certificate stays below 2^24 (2^53) is the same integer in float32 (float64), whoever
adds the sum up and in whatever order: any number of threads, any batch, any instruction set, any device.  What may *not*
happen is rounding to fewer bits, so bfloat16, TF32 and autocast are switched off here, and nothing is compiled or fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.frequencies import Rows
from ardm.exact.operations import HEADS, Bound, cells, certify, inputs
from ardm.exact.program import Op, Program
from ardm.exact.reference import rows

CHUNK = 1 << 10
"""Sites at which rows are computed at once: what they need stays in the cache, and memory does not grow with an item."""
CONTAINERS = {"int8": torch.float32, "float32": torch.float32, "float64": torch.float64, "int64": torch.int64}
"""What integers can be held in; "int8" is float32 with products of bytes where those prove exact."""
ALONE = frozenset({"linear", "nearby", "pick", "less", "add", "product", "contrast", "concat", "shift", "table"})
"""Operations that take a row for itself, and of a site its channel at most: rows of different items go side by side."""
EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53, torch.int64: 1 << 62}
"""Up to which absolute value a container holds every integer."""


@dataclass
class Step:
    """What the operations of one call share: the asked sites, on the device, and what was prepared of the maps.

    batch_index, channel, y, x: (N,) int64.  kept: by the name of an operation, for as long as the maps do not change.
    """

    batch_index: Tensor
    channel: Tensor
    y: Tensor
    x: Tensor
    kept: dict[str, Any] = field(default_factory=dict)


Run = Callable[[Step, list[Tensor]], Tensor]
Build = Callable[["Machine", Op, torch.dtype], Run]
BUILDERS: dict[str, Build] = {}
"""By name of the operation: how to run it in a container."""
CAREFUL: set[str] = set()
"""Operations that are given values as they are stored, rather than in the container of their certificate."""


def builder(name: str, careful: bool = False) -> Callable[[Build], Build]:
    """Register how an operation is run; careful: it sees to the containers of what it is given itself."""

    def register(build: Build) -> Build:
        BUILDERS[name] = build
        if careful:
            CAREFUL.add(name)
        return build

    return register


class Machine:
    """A program, ready to run on a device.

    container: "float32" (float64 where the certificate asks for it), "int8", "float64" or "int64".
    Raises ArdmError where the program is malformed, or needs what this version lacks, or where this processor is not
    exact in any product of bytes, and those were asked for.
    """

    def __init__(self, program: Program, container: str = "float32", device: torch.device | str = "cpu") -> None:
        from ardm.exact import machine_layers, machine_lines  # noqa: F401 (register operations, and read this module)

        self.program, self.container, self.device = program, container, torch.device(device)
        self.bounds = certify(program)
        self.bytes = 0
        self._runs: list[tuple[Op, torch.dtype, Run | None]] = []
        for op in program.ops:
            if op.name not in BUILDERS and op.name not in HEADS:
                raise ArdmError(
                    f"this version of ardm cannot run the operation {op.name!r} of a codec model in PyTorch"
                )
            dtype = self.dtype(self.bounds[op.out].peak)
            self._runs.append((op, dtype, None if op.name in HEADS else BUILDERS[op.name](self, op, dtype)))
        rowed = [op for op, _, run in self._runs if run is not None and self.bounds[op.out].rows]
        self._near = {op.out for op in rowed if not any(self._of_rows(name) for name in op.inputs)}
        far = [op for op in rowed if op.out not in self._near]
        self._apart = all(op.name in ALONE and all(map(self._of_rows, op.inputs)) for op in far) and all(
            map(self._of_rows, program.ops[-1].inputs)
        )
        if container == "int8" and not self.bytes:
            raise ArdmError("this processor is exact in no product of bytes of this model")

    def _of_rows(self, name: str) -> bool:
        """Whether a value has a row for each asked site; others are maps."""
        return name in self.bounds and self.bounds[name].rows

    def dtype(self, peak: int) -> torch.dtype:
        """The container of sums of at most `peak` in absolute value."""
        dtype = CONTAINERS[self.container]
        return torch.float64 if dtype == torch.float32 and peak > EXACT[dtype] else dtype

    def tensor(self, op: Op, role: str, dtype: torch.dtype) -> Tensor:
        """A tensor of an operation, in a container, on the device."""
        return torch.from_numpy(self.program.tensor(op, role)).to(self.device, dtype)

    def stored(self, name: str) -> torch.dtype:
        """The container that a value is kept in, which may be narrower than the one it was computed in."""
        return self.dtype(int(self.bounds[name].size.max(initial=0)))

    def bound(self, name: str) -> Bound:
        """What a value can be."""
        return self.bounds[name]

    def __call__(self, value: Ints, depth: Ints, asked: AskedSites) -> Rows:
        """The frequencies at N sites of items of which the first `depth` digits are known: (B, C, H, W) int64 each.

        Maps are computed once, rows for a chunk of sites at a time.
        """
        with strict():
            maps = self._inputs(value, depth)
            none = torch.empty(0, dtype=torch.int64, device=self.device)
            for op, dtype, run in self._runs:
                if run is not None and not self.bounds[op.out].rows:
                    maps[op.out] = self._run(op, dtype, run, Step(none, none, none, none), maps)
            kept: dict[str, Any] = {}
            found = [self._rows(maps, asked[a : a + CHUNK], kept) for a in range(0, max(len(asked), 1), CHUNK)]
        given = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        at = (asked.batch_index, asked.channel, asked.y, asked.x)
        return rows(self.program, self.program.ops[-1], given, value[at], depth[at])

    def together(self, asks: Sequence[tuple[Ints, Ints, AskedSites]]) -> list[Rows]:
        """Of each of several calls what it gives, for items of different sizes: their rows go through the network together.

        That is faster than call by call where each asks for a few sites.
        """
        found: list[Rows] = []
        few: list[tuple[Ints, Ints, AskedSites]] = []
        for ask in asks:
            if not self._apart or len(ask[2]) >= CHUNK:
                found += [*self._side_by_side(few), self(*ask)]
                few = []
                continue
            few.append(ask)
            if sum(len(asked) for _, _, asked in few) >= CHUNK:
                found += self._side_by_side(few)
                few = []
        return found + self._side_by_side(few)

    def _side_by_side(self, asks: Sequence[tuple[Ints, Ints, AskedSites]]) -> list[Rows]:
        if len(asks) < 2:
            return [self(*ask) for ask in asks]
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        near: list[dict[str, Tensor]] = []
        channels = []
        with strict():
            for value, depth, asked in asks:
                maps = self._inputs(value, depth)
                sites = torch.from_numpy(np.stack([asked.batch_index, asked.channel, asked.y, asked.x])).to(self.device)
                at = Step(sites[0], sites[1], sites[2], sites[3])
                for op, dtype, run in self._runs:
                    rowed = self.bounds[op.out].rows
                    if run is not None and (not rowed or op.out in self._near):
                        step = at if rowed else Step(none, none, none, none)
                        maps[op.out] = self._run(op, dtype, run, step, maps)
                near.append({name: maps[name] for name in self._near})
                channels.append(sites[1])
            channel = torch.cat(channels)
            step = Step(channel, channel, channel, channel)  # only the channel is asked for, see ALONE
            values = {name: torch.cat([one[name] for one in near]) for name in self._near}
            for op, dtype, run in self._runs:
                if run is not None and self.bounds[op.out].rows and op.out not in self._near:
                    values[op.out] = self._run(op, dtype, run, step, values)
            head = self.program.ops[-1]
            given = [values[name].to("cpu", torch.int64).numpy() for name in head.inputs]
        ends = np.cumsum([len(asked) for _, _, asked in asks])[:-1]
        split = zip(*(np.split(x, ends) for x in given), strict=True)
        found = []
        for (value, depth, asked), mine in zip(asks, split, strict=True):
            where = (asked.batch_index, asked.channel, asked.y, asked.x)
            found.append(rows(self.program, head, list(mine), value[where], depth[where]))
        return found

    def _inputs(self, value: Ints, depth: Ints) -> dict[str, Tensor]:
        """The two maps a program begins with."""
        dtype = self.dtype(0)
        v, d = (torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in (value, depth))
        if self.program.digits == 1:  # what `inputs` says: a site holds its value, or nothing
            return {"value": (2 * v - (self.program.classes - 1)).mul_(d).to(dtype), "depth": d.to(dtype)}
        return {k: torch.from_numpy(a).to(self.device, dtype) for k, a in inputs(self.program, value, depth).items()}

    def _rows(self, maps: dict[str, Tensor], asked: AskedSites, kept: dict[str, Any]) -> list[Ints]:
        """What the head is given, at some of the sites."""
        sites = torch.from_numpy(np.stack([asked.batch_index, asked.channel, asked.y, asked.x])).to(self.device)
        step = Step(sites[0], sites[1], sites[2], sites[3], kept)
        values = dict(maps)
        for op, dtype, run in self._runs:
            if run is not None and self.bounds[op.out].rows:
                values[op.out] = self._run(op, dtype, run, step, values)
        return [values[name].to("cpu", torch.int64).numpy() for name in self.program.ops[-1].inputs]

    def _run(self, op: Op, dtype: torch.dtype, run: Run, step: Step, values: dict[str, Tensor]) -> Tensor:
        """One operation, in its container, or in those that it chooses."""
        given = [values[name] for name in op.inputs]
        if op.name not in CAREFUL:
            given = [x.to(dtype) for x in given]
        return run(step, given).to(self.stored(op.out))


def pick(device: str) -> torch.device:
    """A device by name; "auto" is the processor unless there is a CUDA device."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ArdmError(f"there is no device {device!r} here: {str(error).splitlines()[0]}") from None
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Operations on `count` cores each, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def strict() -> Iterator[None]:
    """Arithmetic in full precision, whatever the caller has set."""
    precision = torch.get_float32_matmul_precision()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


# --- elementwise ------------------------------------------------------------------------------------------------------


def halve(x: Tensor, by: int | Tensor) -> Tensor:
    """⌊x / 2^by⌋, in place; exact in every container, for scaling by a power of two is."""
    if x.dtype == torch.int64:
        return x.bitwise_right_shift_(by)
    return x.mul_(2.0**-by).floor_()


def clamp(op: Op, x: Tensor) -> Tensor:
    """x within lo..hi, where the operation has them, in place."""
    return x.clamp_(op.integers["lo"], op.integers["hi"]) if "lo" in op.integers else x


@builder("product")
def _times(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] * given[1]


@builder("add")
def _add(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] + given[1]


@builder("less")
def _less(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0] - given[1]


@builder("concat")
def _concat(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: torch.cat(given, 1)


@builder("shift")
def _shift(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    by = op.integers["by"]
    return lambda step, given: clamp(op, halve(given[0].clone(), by))


@builder("table")
def _table(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    table, low = machine.tensor(op, "table", dtype), op.integers["low"]
    return lambda step, given: table[(given[0].long() - low).clamp_(0, len(table) - 1)]


# --- around a site ----------------------------------------------------------------------------------------------------


@builder("box")
def _box(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    half = op.integers["side"] // 2

    def run(step: Step, given: list[Tensor]) -> Tensor:
        return _sums(_sums(given[0], half, 3), half, 2)

    return run


def _sums(a: Tensor, half: int, dim: int) -> Tensor:
    """Of each site and its `half` neighbours to either side: ten times faster than pooling, and as exact.

    Every partial sum is one of fewer sites, and so within the certified bound.
    """
    total, n = a.clone(), a.shape[dim]
    for d in range(1, min(half, n - 1) + 1):
        total.narrow(dim, d, n - d).add_(a.narrow(dim, 0, n - d))
        total.narrow(dim, 0, n - d).add_(a.narrow(dim, d, n - d))
    return total


@builder("window")
def _window(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    radius, distance = op.integers["radius"], op.integers["step"]
    pad = radius * distance

    def prepared(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The map with a margin, flat; where a window's cells lie in it; strides of items, rows."""
        P = a.shape[1]
        padded = F.pad(a, (pad, pad, pad, pad))
        tall, wide = padded.shape[2:]
        offset = torch.tensor([dy * wide + dx for dy, dx in cells(radius, distance)], device=a.device)
        offset = (offset + pad * (wide + 1) + (torch.arange(P, device=a.device) * (tall * wide))[:, None]).flatten()
        return padded.reshape(-1), offset, torch.tensor([P * tall * wide, wide], device=a.device)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        if op.out not in step.kept:
            step.kept[op.out] = prepared(given[0])
        flat, offset, stride = step.kept[op.out]
        corner = step.batch_index * stride[0] + step.y * stride[1] + step.x
        return flat.take(corner[:, None] + offset)

    return run


@builder("at")
def _at(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0].permute(0, 2, 3, 1)[step.batch_index, step.y, step.x]


@builder("pick")
def _pick(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0].gather(1, step.channel[:, None])


@builder("nearby", careful=True)
def _nearby(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    C, n = machine.program.channels, op.integers
    weights = []
    for i, name in enumerate(op.inputs):
        weight = machine.program.tensor(op, f"weight{i}")
        sums = machine.bound(name).size.reshape(2 * C, -1) @ weight  # far below 2^53: certified
        held = machine.dtype(int(sums.max()))
        weights.append((machine.tensor(op, f"weight{i}", held), n[f"rise{i}"]))

    def run(step: Step, given: list[Tensor]) -> Tensor:
        total = torch.zeros(len(step.batch_index), 2 * C, dtype=torch.int64, device=machine.device)
        for window, (weight, rise) in zip(given, weights, strict=True):
            sums = window.to(weight.dtype).view(len(window), 2 * C, -1) @ weight
            total += sums.long().bitwise_left_shift_(rise)
        value, known = total[:, :C] << n["fraction"], total[:, C:]
        mean = (value + (known >> 1)).div_(known.clamp(min=1), rounding_mode="floor")
        return mean.mul_(known > 0).clamp_(-n["limit"], n["limit"])

    return run


@builder("contrast")
def _contrast(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    C, n, limit = machine.program.channels, op.integers, op.integers["limit"]
    half, finer = (1 << n["by"]) >> 1, 1 << n["fraction"]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        window = given[0].view(len(given[0]), 2 * C, -1)
        out = torch.empty_like(window)
        v, k = window[:, :C], window[:, C:]
        deviation = torch.mul(k, given[1][:, :, None], out=out[:, :C])
        deviation.neg_().add_(v, alpha=finer).add_(half)
        halve(deviation, n["by"]).clamp_(-limit, limit)
        torch.mul(k, 1 << n["known"], out=out[:, C:])
        return out.view(len(out), -1)

    return run


# --- linear -----------------------------------------------------------------------------------------------------------


GROUPS = 16
"""Into how many parts a product is cut, at most, so that each stays exact in float32, before float64 is taken."""


def groups(weight: Ints, bias: Ints, size: Ints, peak: int = EXACT[torch.float32]) -> list[slice]:
    """The inputs (I,) in as few runs as keep every partial sum of every output within `peak`, the bias in the first."""
    reach = np.abs(weight) * size[:, None]
    runs, start, sums = [], 0, np.abs(bias)
    for i, row in enumerate(reach):
        if (sums + row).max(initial=0) > peak and i > start:
            runs.append(slice(start, i))
            start, sums = i, np.zeros_like(sums)
        sums = sums + row
        if sums.max(initial=0) > peak:
            return []  # one input alone is too much
    return [*runs, slice(start, len(reach))]


def small(
    weight: Ints, bias: Ints, shift: Ints, bound: Bound, device: torch.device
) -> Callable[[Tensor], Tensor] | None:
    """a → ⌊(a W + bias) / 2^shift⌋ by products of bytes; None where they cannot hold it, or this processor errs.

    It is put to the test with this very matrix, at the largest and the smallest sum of every output: an instruction that
    saturates (as those without VNNI do, which add pairs of products in 16 bits) saturates there if anywhere.
    """
    fits = device.type == "cpu" and int(bound.lo.min()) >= 0 and int(bound.hi.max()) <= 255
    if not fits or int(np.abs(weight).max(initial=0)) > 127 or len(weight) < 2:
        return None
    held = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.int8))
    scale = torch.ldexp(torch.ones(len(bias), device="cpu"), torch.from_numpy(-shift))
    offset, zero = (
        torch.from_numpy(bias.astype(np.float32)) * scale,
        torch.zeros(len(bias), dtype=torch.int32, device="cpu"),
    )
    try:
        packed = torch.ops.onednn.qlinear_prepack(held, [CHUNK, len(weight)])
    except (AttributeError, RuntimeError, NotImplementedError):
        return None

    def product(a: Tensor) -> Tensor:
        total: Tensor = torch.ops.onednn.qlinear_pointwise(
            a.to(torch.uint8), 1.0, 0, packed, scale, zero, offset, 1.0, 0, torch.float32, "none", [], ""
        )
        return total.floor_()

    most = torch.from_numpy(bound.hi)
    worst = torch.cat([torch.where(held > 0, most, 0), torch.where(held < 0, most, 0), most[None]])
    sums = worst @ held.long().T + torch.from_numpy(bias)
    try:
        exact = torch.equal(product(worst).long(), sums >> torch.from_numpy(shift))
    except (RuntimeError, NotImplementedError):
        return None
    return product if exact else None


def _product(
    machine: Machine, op: Op, weight: Ints, bias: Ints, shift: Ints, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """a → ⌊(a W + bias) / 2^shift⌋, whole in one container, or in parts that are each exact in float32."""
    bound = machine.bound(op.inputs[0])
    if machine.container == "int8" and dtype == torch.float32:
        found = small(weight, bias, shift, bound, machine.device)
        if found is not None:
            machine.bytes += 1
            return found
    size, single = bound.size, CONTAINERS[machine.container] == torch.float32
    runs = groups(weight, bias, size) if single and dtype == torch.float64 else []
    held = torch.float32 if 0 < len(runs) <= GROUPS else dtype
    w, b = (torch.from_numpy(x).to(machine.device, held) for x in (weight, bias))
    by = torch.from_numpy(shift).to(machine.device)
    if dtype != torch.int64:
        by = torch.ldexp(torch.ones_like(by, dtype=dtype), -by)
    parts = [w[run] for run in runs] if held != dtype else []
    down = torch.from_numpy(shift).to(machine.device, torch.int32)

    def whole(a: Tensor) -> Tensor:
        total = torch.addmm(b, a.to(held), w)
        return total.bitwise_right_shift_(by) if dtype == torch.int64 else total.mul_(by).floor_()

    def split(a: Tensor) -> Tensor:
        total = torch.addmm(b, a[:, runs[0]], parts[0]).to(torch.int32)  # 16 of 2^24 stay below 2^31
        for run, part in zip(runs[1:], parts[1:], strict=True):
            total += (a[:, run] @ part).to(torch.int32)
        return total.bitwise_right_shift_(down)

    return split if parts else whole


@builder("linear", careful=True)
def _linear(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    weight, bias, shift = (machine.program.tensor(op, role) for role in ("weight", "bias", "shift"))
    made = machine.stored(op.out)
    if weight.ndim == 2:
        product = _product(machine, op, weight, bias, shift, dtype)
        return lambda step, given: clamp(op, product(given[0])).to(made)
    each = [_product(machine, op, *parts, dtype) for parts in zip(weight, bias, shift, strict=True)]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        out = given[0].new_empty(len(step.batch_index), weight.shape[2], dtype=made)
        order = step.channel.argsort(stable=True)
        for product, mine in zip(each, order.split(step.channel.bincount(minlength=len(each)).tolist()), strict=True):
            out[mine] = clamp(op, product(given[0][mine])).to(made)
        return out

    return run
