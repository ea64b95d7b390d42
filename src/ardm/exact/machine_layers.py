"""The operations of `layers` in PyTorch, on integers held in float32, float64 or int64.

Convolutions are cut into patches and multiplied as matrices, so that no library may choose Winograd's or Fourier's way,
which round.  Where a sum does not fit float32, it is split into parts that do, and those are added up in float64.
Quotients of integers below 2^53 are exact in float64 after the floor: the true quotient is an integer or at least one
divisor's part away from it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.ans import EXP, Ints
from ardm.exact.backend import EXACT, Machine, Run, Step, builder, clamp, halve
from ardm.exact.layers import FAR, INNER, blocks, grouped, near_sums
from ardm.exact.operations import Bound, largest
from ardm.exact.program import Op

PARTS = 12
"""The most parts into which a sum is split for float32; float64 costs about three times as much."""
ROOM = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Numbers that patches or scores may take at once, by kind of device."""


def room(x: Tensor) -> int:
    """ROOM where x is."""
    return ROOM.get(x.device.type, ROOM["cpu"])


def over(x: Tensor, by: Tensor) -> Tensor:
    """⌊x / by⌋ of integers, x below 2^53 in float64 and by positive."""
    return x.div(by, rounding_mode="floor") if x.dtype == torch.int64 else x.div(by).floor_()


def scaled(x: Tensor, bits: int) -> Tensor:
    """2^bits · x, a new tensor."""
    return x << bits if x.dtype == torch.int64 else x * 2.0**bits


def wide(x: Tensor) -> Tensor:
    """x in int64, or else in float64."""
    return x if x.dtype == torch.int64 else x.double()


def isqrt(x: Tensor) -> Tensor:
    """⌊√x⌋ of int64, 0 ≤ x < 2^62."""
    root = x.double().sqrt_().long()
    root -= (root * root > x).long()
    return root.add_(((root + 1) ** 2 <= x).long())


# --- places -----------------------------------------------------------------------------------------------------------


def patches(x: Tensor, op: Op) -> Tensor:
    """(B, P, H, W) → (B, P · tall · wide, H · W): what each place's kernel covers, zeros beyond the map."""
    n = op.integers
    (B, P, H, W), step = x.shape, n["step"]
    below, right = (n["tall"] - 1) * step, (n["wide"] - 1) * step
    if below or right:
        x = F.pad(x, (n["left"], right - n["left"], n["top"], below - n["top"]))
    a, b, c, d = x.stride()
    x = x.as_strided((B, P, n["tall"], n["wide"], H, W), (a, b, c * step, d * step, c, d))
    return x.reshape(B, -1, H * W)


def parts(weight: Ints, given: Bound, taps: int) -> list[slice]:
    """Runs of planes whose partial sums fit float32 for every output; none where more than PARTS would be needed."""
    each = np.abs(weight).reshape(given.planes, taps, -1).sum(1).astype(np.float64) * given.size[:, None]
    runs: list[slice] = []
    first, total = 0, np.zeros(each.shape[1])
    for p, share in enumerate(each):
        if (total + share).max(initial=0) > EXACT[torch.float32]:
            runs, first, total = [*runs, slice(first, p)], p, np.zeros(each.shape[1])
        total = total + share
        if total.max(initial=0) > EXACT[torch.float32] or len(runs) == PARTS:
            return []
    return [*runs, slice(first, given.planes)]


@builder("conv")
def _conv(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    weight, bound = machine.program.tensor(op, "weight"), machine.bound(op.inputs[0])
    taps = op.integers["tall"] * op.integers["wide"]
    runs = parts(weight, bound, taps) if dtype == torch.float64 and machine.container == "float32" else []
    held = torch.float32 if runs else dtype
    runs = runs or [slice(0, bound.planes)]
    each = torch.from_numpy(weight.T.copy()).to(machine.device, held).view(-1, bound.planes, taps)
    weights = [(run, each[:, run].flatten(1).contiguous()) for run in runs]
    bias = machine.tensor(op, "bias", dtype)[:, None]
    by = machine.tensor(op, "shift", torch.int64)[:, None]
    factor = torch.ldexp(torch.ones_like(by, dtype=torch.float64), -by).to(dtype) if dtype != torch.int64 else by

    def some(x: Tensor) -> Tensor:
        """(b, P, H, W) → (b, O, H · W)."""
        total = torch.matmul(weights[0][1], patches(x[:, weights[0][0]].to(held), op)).to(dtype)
        for run, matrix in weights[1:]:
            total += torch.matmul(matrix, patches(x[:, run].to(held), op))
        total += bias
        return clamp(op, total.bitwise_right_shift_(factor) if dtype == torch.int64 else total.mul_(factor).floor_())

    def run(step: Step, given: list[Tensor]) -> Tensor:
        x = given[0]
        size = x.shape[1] * taps * x.shape[2] * x.shape[3]
        made = [some(items) for items in x.split(max(1, room(x) // max(size, 1)))]
        return torch.cat(made).view(len(x), -1, *x.shape[2:])

    return run


@builder("pool")
def _pool(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    def sums(x: Tensor) -> Tensor:
        B, P, H, W = x.shape
        x = F.pad(x, (0, W % 2, 0, H % 2))
        return x.reshape(B, P, -(-H // 2), 2, -(-W // 2), 2).sum((3, 5), dtype=dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        inside = sums(torch.ones_like(given[0][:1, :1]))  # 1, 2 or 4
        return halve(sums(given[0]).mul_(over(torch.full_like(inside, 4), inside)).add_(2), 2)

    return run


@builder("grow")
def _grow(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    def run(step: Step, given: list[Tensor]) -> Tensor:
        (h, w), (H, W) = given[0].shape[2:], given[1].shape[2:]
        y, x = (torch.arange(n, device=given[0].device) for n in (H, W))
        return given[0][:, :, (y * h // H)[:, None], x * w // W]

    return run


@builder("gate")
def _gate(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: clamp(op, halve(given[0] * given[1], op.integers["by"]))


# --- norm -------------------------------------------------------------------------------------------------------------


@builder("norm")
def _norm(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    n, P = op.integers, machine.bound(op.out).planes
    axes = [2] if n["each"] else [2, 3]
    size = largest(machine.bound(op.inputs[0]))
    gain, bias = (machine.tensor(op, role, dtype).view(1, n["groups"], -1, 1) for role in ("gain", "bias"))
    gain = scaled(wide(gain), n["up"])

    def run(step: Step, given: list[Tensor]) -> Tensor:
        x = grouped(given[0], n["groups"])
        N = P // n["groups"] * (1 if n["each"] else x.shape[3])
        fits = dtype != torch.int64 and N * size * size < EXACT[torch.float64]
        counted = x.double() if fits else x.long()
        total = counted.sum(axes, keepdim=True).long()
        V = (counted * counted).sum(axes, keepdim=True).long() * N
        d = x * N
        if n["centre"]:
            V -= total * total
            d -= total.to(dtype)
        R = isqrt((V << 2 * n["rise"]) + N * N * n["epsilon"])
        q = over(gain, R.to(gain.dtype)).to(dtype)
        y = halve(d.mul_(q).add_(bias), n["by"])
        return clamp(op, y).reshape(given[0].shape)

    return run


# --- attention --------------------------------------------------------------------------------------------------------


@builder("attention")
def _attention(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    n = op.integers
    exp = torch.from_numpy(EXP).to(machine.device, torch.int64 if dtype == torch.int64 else torch.float64)

    def some(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (heads, planes, some places), k, v (heads, planes, n) → (heads, planes, some places)."""
        s = halve(torch.matmul(q.transpose(1, 2), k), n["by"])
        e = exp[(s.amax(2, keepdim=True) - s).clamp_(max=FAR).long()]
        p = over(scaled(e, n["bits"]), e.sum(2, keepdim=True))
        P = p.sum(2)[:, None]
        o = scaled(wide(torch.matmul(v, p.to(dtype).transpose(1, 2))), n["rise"])
        return clamp(op, over(o.add_(halve(P.clone(), 1)), P)).to(dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        q, k, v = (grouped(a, n["heads"]) for a in given)
        block = max(1, room(q) // (n["heads"] * q.shape[3]))
        made = [torch.cat([some(part, k[b], v[b]) for part in item.split(block, 2)], 2) for b, item in enumerate(q)]
        return torch.stack(made).view(given[2].shape) if made else given[2].clone()

    return run


@builder("rotary")
def _rotary(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    cos, sin = machine.tensor(op, "cos", dtype), machine.tensor(op, "sin", dtype)
    heads, by = op.integers["heads"], op.integers["by"]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        a, b = given[0].reshape(-1, heads, 2, *cos.shape).unbind(2)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], 2).add_((1 << by) >> 1)
        return clamp(op, halve(turned, by)).reshape(given[0].shape)

    return run


# --- tables -----------------------------------------------------------------------------------------------------------


@builder("known")
def _known(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    K, sizes = machine.program.classes, torch.from_numpy(blocks(machine.program)).to(machine.device)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        value, depth = (a.long() for a in given)
        block = sizes[depth]
        found = torch.where(value + block <= K, value + K - block >> 1, value)
        return found.masked_fill_(depth == 0, K).to(dtype)

    return run


@builder("embed")
def _embed(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    table = machine.tensor(op, "table", machine.dtype(machine.bounds[op.out].peak))

    def run(step: Step, given: list[Tensor]) -> Tensor:
        rows = table[given[0].long().clamp_(0, len(table) - 1)]
        return rows.flatten(1) if rows.ndim == 3 else rows.movedim(4, 2).flatten(1, 2).contiguous()

    return run


@builder("position")
def _position(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    table = machine.tensor(op, "table", dtype)
    return lambda step, given: given[0] + table.view(given[0].shape[1:])


@builder("count")
def _count(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    table = machine.tensor(op, "table", dtype)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        return table[given[0].long().sum((1, 2, 3)).clamp_(0, len(table) - 1)][:, :, None, None]

    return run


@builder("channel")
def _channel(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    table = machine.tensor(op, "table", dtype)
    return lambda step, given: given[0] + table[step.channel]


# --- what is known nearby ---------------------------------------------------------------------------------------------


@builder("centre")
def _centre(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    n, weight = op.integers, machine.program.tensor(op, "weight")

    def run(step: Step, given: list[Tensor]) -> Tensor:
        W, first, _ = near_sums(weight, n["prior"], [a.long() for a in given], machine.program.channels)
        return clamp(op, over((first << n["fraction"]) + (W >> 1), W)).to(dtype)

    return run


@builder("spread")
def _spread(machine: Machine, op: Op, dtype: torch.dtype) -> Run:
    n, weight = op.integers, machine.program.tensor(op, "weight")

    def run(step: Step, given: list[Tensor]) -> Tensor:
        centre, *near = (a.long() for a in given)
        W, _, second = near_sums(weight, n["prior"], near, machine.program.channels)
        variance = over((second << n["fine"]) + n["extra"], W) - (centre * centre >> n["coarse"])
        return clamp(op, isqrt((variance.clamp_(min=0) << 2 * n["rise"]) + n["floor"])).to(dtype)

    return run


assert EXACT[torch.int64] >= INNER  # statistics are computed in int64 in every container
