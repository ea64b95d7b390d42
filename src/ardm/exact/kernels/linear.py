"""`operations.linear` in PyTorch: in bytes where this processor proves exact, in parts of float32, or in one container."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ardm.ans import Ints
from ardm.exact.bounds import Bound
from ardm.exact.kernels.kernel import CONTAINERS, EXACT, Context, Kernel, Run, Step, clamp
from ardm.exact.program import Op

GROUPS = 16
"""The most parts into which a product is split for float32; beyond that float64 is faster."""
BATCH = 1 << 10
"""The number of rows that products of bytes are prepared for."""

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Rows a → ⌊(a W + bias) / 2^shift⌋."""


def groups(weight: Ints, bias: Ints, size: Ints) -> list[slice]:
    """The inputs (I,) in as few runs as let float32 hold every partial sum of every output, the bias in the first."""
    reach, peak = np.abs(weight) * size[:, None], EXACT[torch.float32]
    runs, start, sums = [], 0, np.abs(bias)
    for i, row in enumerate(reach):
        if (sums + row).max(initial=0) > peak and i > start:
            runs.append(slice(start, i))
            start, sums = i, np.zeros_like(sums)
        sums = sums + row
        if sums.max(initial=0) > peak:
            return []  # one input alone is too much
    return [*runs, slice(start, len(reach))]


def byte_product(weight: Ints, bias: Ints, shift: Ints, bound: Bound, device: torch.device) -> Product | None:
    """The product in bytes; None where bytes cannot hold it, or where this processor is not exact.

    It is tested with this very matrix, at the largest and the smallest sum of every output: an instruction that
    saturates (as those without VNNI do, which add pairs of products in 16 bits) saturates there if anywhere.
    """
    fits = device.type == "cpu" and int(bound.lo.min()) >= 0 and int(bound.hi.max()) <= 255
    if not fits or int(np.abs(weight).max(initial=0)) > 127 or len(weight) < 2:
        return None
    held = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.int8))
    try:
        product = _byte_product(held, bias, shift)
        most = torch.from_numpy(bound.hi)
        worst = torch.cat([torch.where(held > 0, most, 0), torch.where(held < 0, most, 0), most[None]])
        sums = worst @ held.long().T + torch.from_numpy(bias)
        exact = torch.equal(product(worst).long(), sums >> torch.from_numpy(shift))
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    return product if exact else None


def _byte_product(held: Tensor, bias: Ints, shift: Ints) -> Product:
    """By oneDNN; held (O, I) int8."""
    scale = torch.ldexp(torch.ones(len(bias), device="cpu"), torch.from_numpy(-shift))
    offset = torch.from_numpy(bias.astype(np.float32)) * scale
    zero = torch.zeros(len(bias), dtype=torch.int32, device="cpu")
    packed = torch.ops.onednn.qlinear_prepack(held, [BATCH, held.shape[1]])

    def product(a: Tensor) -> Tensor:
        total: Tensor = torch.ops.onednn.qlinear_pointwise(
            a.to(torch.uint8), 1.0, 0, packed, scale, zero, offset, 1.0, 0, torch.float32, "none", [], ""
        )
        return total.floor_()

    return product


def _product(context: Context, op: Op, weight: Ints, bias: Ints, shift: Ints, dtype: torch.dtype) -> Product:
    bound = context.bounds[op.inputs[0]]
    if context.container == "int8" and dtype == torch.float32:
        found = byte_product(weight, bias, shift, bound, context.device)
        if found is not None:
            context.byte_products += 1
            return found
    single = CONTAINERS[context.container] == torch.float32
    runs = groups(weight, bias, bound.size) if single and dtype == torch.float64 else []
    if 0 < len(runs) <= GROUPS:
        return _split(context, weight, bias, shift, runs)
    return _whole(context, weight, bias, shift, dtype)


def _whole(context: Context, weight: Ints, bias: Ints, shift: Ints, dtype: torch.dtype) -> Product:
    """In one container."""
    w, b = (torch.from_numpy(x).to(context.device, dtype) for x in (weight, bias))
    by = torch.from_numpy(shift).to(context.device)
    if dtype == torch.int64:
        return lambda a: torch.addmm(b, a.to(dtype), w).bitwise_right_shift_(by)
    w, b = (torch.ldexp(x, -by).contiguous() for x in (w, b))  # a power of two for each column rounds nothing
    return lambda a: torch.addmm(b, a.to(dtype), w).floor_()


def _split(context: Context, weight: Ints, bias: Ints, shift: Ints, runs: list[slice]) -> Product:
    """In parts that are each exact in float32, added in int32: 16 times 2^24 stay below 2^31."""
    w, b = (torch.from_numpy(x).to(context.device, torch.float32) for x in (weight, bias))
    parts = [w[run] for run in runs]
    down = torch.from_numpy(shift).to(context.device, torch.int32)

    def product(a: Tensor) -> Tensor:
        total = torch.addmm(b, a[:, runs[0]], parts[0]).to(torch.int32)
        for run, part in zip(runs[1:], parts[1:], strict=True):
            total += (a[:, run] @ part).to(torch.int32)
        return total.bitwise_right_shift_(down)

    return product


def _linear(context: Context, op: Op, dtype: torch.dtype) -> Run:
    weight, bias, shift = (context.program.tensor(op, role) for role in ("weight", "bias", "shift"))
    made = context.stored(op.out)
    if weight.ndim == 2:
        product = _product(context, op, weight, bias, shift, dtype)
        return lambda step, given: clamp(op, product(given[0])).to(made)
    each = [_product(context, op, *parts, dtype) for parts in zip(weight, bias, shift, strict=True)]

    def run(step: Step, given: list[Tensor]) -> Tensor:
        if step.only is not None:
            return clamp(op, each[step.only](given[0])).to(made)
        out = given[0].new_empty(len(given[0]), weight.shape[2], dtype=made)
        order = step.channel.argsort(stable=True)
        for product, mine in zip(each, order.split(step.channel.bincount(minlength=len(each)).tolist()), strict=True):
            out[mine] = clamp(op, product(given[0][mine])).to(made)
        return out

    return run


LINEAR = {"linear": Kernel(_linear, as_stored=True, row_by_row=True)}
