"""`operations.spatial` in PyTorch.

Convolutions are cut into patches and multiplied as matrices, so that no library can choose Winograd or FFT convolution,
which round.  A sum that does not fit float32 is split into parts that do, and those are added in float64.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ardm.ans import Ints
from ardm.exact.bounds import Bound
from ardm.exact.kernels.kernel import EXACT, Context, Kernel, Run, Step, clamp, halve, quotient
from ardm.exact.operations.spatial import window_offsets
from ardm.exact.program import Op

BLOCK = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Numbers of patches that a convolution makes at once, by kind of device; on a processor they stay in its cache."""
PARTS = 12
"""The most parts into which a sum is split for float32; float64 costs about three times as much."""

# --- maps -------------------------------------------------------------------------------------------------------------


def _box(context: Context, op: Op, dtype: torch.dtype) -> Run:
    half = op.integers["side"] // 2
    return lambda step, given: _sums(_sums(given[0], half, 3), half, 2)


def _sums(a: Tensor, half: int, dim: int) -> Tensor:
    """Sums over each place and its `half` neighbours on either side: ten times faster than pooling.

    Every partial sum has fewer terms, and so lies within the certified bound.
    """
    n = a.shape[dim]
    if half >= n - 1:
        return a.sum(dim, keepdim=True, dtype=a.dtype).expand_as(a)
    total = a.clone()
    for d in range(1, min(half, n - 1) + 1):
        total.narrow(dim, d, n - d).add_(a.narrow(dim, 0, n - d))
        total.narrow(dim, 0, n - d).add_(a.narrow(dim, d, n - d))
    return total


def _padded(x: Tensor, op: Op) -> Tensor:
    """A map with the zeros outside that a kernel reads."""
    n = op.integers
    below, right = (n["tall"] - 1) * n["step"], (n["wide"] - 1) * n["step"]
    return F.pad(x, (n["left"], right - n["left"], n["top"], below - n["top"])) if below or right else x


def _patches(x: Tensor, op: Op, H: int, W: int) -> Tensor:
    """A padded map (B, P, …) → (B, P · tall · wide, H · W): the cells of the kernel at each place."""
    n, (a, b, c, d) = op.integers, x.stride()
    x = x.as_strided((*x.shape[:2], n["tall"], n["wide"], H, W), (a, b, c * n["step"], d * n["step"], c, d))
    return x.reshape(len(x), -1, H * W)


def _parts(weight: Ints, given: Bound, cells: int) -> list[slice]:
    """Runs of planes whose partial sums fit float32 for every output; none if more than PARTS are needed."""
    each = np.abs(weight).reshape(given.planes, cells, -1).sum(1).astype(np.float64) * given.size[:, None]
    runs: list[slice] = []
    first, total = 0, np.zeros(each.shape[1])
    for p, share in enumerate(each):
        if (total + share).max(initial=0) > EXACT[torch.float32]:
            runs, first, total = [*runs, slice(first, p)], p, np.zeros(each.shape[1])
        total = total + share
        if total.max(initial=0) > EXACT[torch.float32] or len(runs) == PARTS:
            return []
    return [*runs, slice(first, given.planes)]


def _conv(context: Context, op: Op, dtype: torch.dtype) -> Run:
    weight, bound = context.program.tensor(op, "weight"), context.bounds[op.inputs[0]]
    cells, below = op.integers["tall"] * op.integers["wide"], (op.integers["tall"] - 1) * op.integers["step"]
    runs = _parts(weight, bound, cells) if dtype == torch.float64 and context.container == "float32" else []
    held, runs = torch.float32 if runs else dtype, runs or [slice(0, bound.planes)]
    if held != dtype and context.bounds[op.out].peak < 1 << 31:
        dtype = torch.int32  # holds the sum of the parts in half the memory
    each = torch.from_numpy(weight.T.copy()).to(context.device, held).view(-1, bound.planes, cells)
    weights = [(run, each[:, run].flatten(1).contiguous()) for run in runs]
    bias = context.tensor(op, "bias", dtype)[:, None]
    by = context.tensor(op, "shift", torch.int32 if dtype == torch.int32 else torch.int64)[:, None]
    factor = by if not dtype.is_floating_point else torch.ldexp(torch.ones_like(by, dtype=torch.float64), -by).to(dtype)

    def some(x: Tensor, H: int, W: int) -> Tensor:
        """A padded map (b, P, …) → (b, O, H, W)."""
        total = torch.matmul(weights[0][1], _patches(x[:, weights[0][0]], op, H, W)).to(dtype)
        for run, matrix in weights[1:]:
            total += torch.matmul(matrix, _patches(x[:, run], op, H, W)).to(dtype)
        total += bias
        total = total.mul_(factor).floor_() if dtype.is_floating_point else total.bitwise_right_shift_(factor)
        return clamp(op, total).view(len(x), -1, H, W)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        (B, P, H, W), x = given[0].shape, _padded(given[0].to(held), op)
        tall = min(H, max(1, BLOCK.get(x.device.type, BLOCK["cpu"]) // (P * cells * W)))
        items = max(1, BLOCK.get(x.device.type, BLOCK["cpu"]) // (P * cells * W * H))
        made = torch.empty(B, len(each), H, W, dtype=context.stored(op.out), device=x.device)
        for first in range(0, B, items):
            for top in range(0, H, tall):
                rows = min(tall, H - top)
                band = x[first : first + items, :, top : top + rows + below]
                made[first : first + items, :, top : top + rows] = some(band, rows, W)
        return made

    return run


def _pool(context: Context, op: Op, dtype: torch.dtype) -> Run:
    def sums(x: Tensor) -> Tensor:
        B, P, H, W = x.shape
        x = F.pad(x, (0, W % 2, 0, H % 2))
        return x.reshape(B, P, -(-H // 2), 2, -(-W // 2), 2).sum((3, 5), dtype=dtype)

    def factor(x: Tensor) -> Tensor:
        """4 / the number of places of each square inside the map."""
        inside = sums(torch.ones_like(x[:1, :1]))  # 1, 2 or 4
        return quotient(torch.full_like(inside, 4), inside)

    def run(step: Step, given: list[Tensor]) -> Tensor:
        times = step.once(op, "factor", lambda: factor(given[0]))
        return halve(sums(given[0]).mul_(times).add_(2), 2)

    return run


def _grow(context: Context, op: Op, dtype: torch.dtype) -> Run:
    def source(a: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        (h, w), (H, W) = a.shape[2:], like.shape[2:]
        y, x = (torch.arange(n, device=a.device) for n in (H, W))
        return (y * h // H)[:, None], x * w // W

    def run(step: Step, given: list[Tensor]) -> Tensor:
        y, x = step.once(op, "source", lambda: source(*given))
        return given[0][:, :, y, x]

    return run


# --- at the sites asked -----------------------------------------------------------------------------------------------


def _window(context: Context, op: Op, dtype: torch.dtype) -> Run:
    pad = op.integers["radius"] * op.integers["step"]

    def cells(padded: Tensor) -> tuple[Tensor, int, int]:
        """Where the cells of a window lie in a padded map, from its corner; strides of items and rows."""
        P, tall, wide = padded.shape[1:]
        offset = torch.tensor([dy * wide + dx for dy, dx in window_offsets(op)], device=padded.device)
        plane = torch.arange(P, device=padded.device)[:, None] * (tall * wide)
        return (offset + pad * (wide + 1) + plane).flatten(), P * tall * wide, wide

    def run(step: Step, given: list[Tensor]) -> Tensor:
        if op.out not in step.shared:
            step.shared[op.out] = F.pad(given[0], (pad, pad, pad, pad))
        padded = step.shared[op.out]
        offset, item, row = step.once(op, "cells", lambda: cells(padded))
        corner = step.batch_index * item + step.y * row + step.x
        return padded.reshape(-1).take(corner[:, None] + offset)

    return run


def _at(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0].permute(0, 2, 3, 1)[step.batch_index, step.y, step.x]


def _pick(context: Context, op: Op, dtype: torch.dtype) -> Run:
    return lambda step, given: given[0].gather(1, step.channel[:, None])


SPATIAL = {
    "box": Kernel(_box),
    "conv": Kernel(_conv, as_stored=True),
    "pool": Kernel(_pool),
    "grow": Kernel(_grow),
    "window": Kernel(_window),
    "at": Kernel(_at),
    "pick": Kernel(_pick, row_by_row=True),
}
