"""Causal convolutions of 2 × 3 cells as matrix products of shifted rows: a fifth less time on a CPU than convolutions.

Pictures lie in memory pixel after pixel, with one pixel of zeros after each row, and a row of zeros before the first:

    0 0 0 … 0   x x … x 0   x x … x 0   …          `head` zeros, then H rows of `across` + 1 pixels

so that a neighbour of every pixel is a fixed number of places away, and one product takes all pixels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Weights: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""up (V, 5 · W) of the taps NW, N, NE, W and the pixel itself, its bias (V,), down (W, V) and its bias (W,)."""


def head(across: int) -> int:
    """How many zeros precede the first pixel of a picture `across` pixels wide."""
    return across + 2


def laid(h: Tensor) -> Tensor:
    """Pictures (B, H, W', W), channels last, in this layout (B, rows, W)."""
    return F.pad(F.pad(h, (0, 0, 0, 1)).flatten(1, 2), (0, 0, head(h.shape[2]), 0))


def pixels(rows: Tensor, across: int) -> Tensor:
    """The inverse of `laid`: (B, H, W', W)."""
    return rows[:, head(across) :].unflatten(1, (-1, across + 1))[:, :, :-1]


def block(rows: Tensor, weights: Weights, across: int) -> Tensor:
    """h ← h + down · relu(up · relu(h at the taps)) of pictures (B, rows, W) in this layout."""
    out: Tensor = _Block.apply(rows, *weights, across)
    return out


def _places(across: int, length: int) -> list[slice]:
    """Where each tap of all pixels lies."""
    first, line = head(across), across + 1
    return [slice(first + by, length + by) for by in (-line - 1, -line, -line + 1, -1, 0)]


class _Block(torch.autograd.Function):
    """Picture by picture, whose features then stay in the cache from one product to the next.

    What stands between the rows is 0 before and after, and so is its gradient: relu has none at 0.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, up: Tensor, ub: Tensor, down: Tensor, db: Tensor, across: int) -> Tensor:
        places, taps, a = _places(across, h.shape[1]), up.view(len(up), 5, -1).unbind(1), h.relu()
        own = places[-1]
        inner, out = h.new_empty(len(h), own.stop - own.start, len(up)), torch.zeros_like(h)
        for x, t, y in zip(a, inner, out[:, own], strict=True):
            torch.addmm(ub, x[own], taps[-1].T, out=t)
            for place, tap in zip(places[:-1], taps[:-1], strict=True):
                t.addmm_(x[place], tap.T)
            torch.addmm(db, t.relu_(), down.T, out=y)
        out[:, own] += h[:, own]
        out[:, own].unflatten(1, (-1, across + 1))[:, :, -1] = 0
        ctx.save_for_backward(a, inner, up, down)
        ctx.across = across
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        a, inner, up, down = ctx.saved_tensors
        places, taps = _places(ctx.across, a.shape[1]), up.view(len(up), 5, -1).unbind(1)
        own, g = places[-1], g.contiguous()
        gh, gup, gdown = torch.zeros_like(a), torch.zeros_like(up), torch.zeros_like(down)
        gub, gtaps = up.new_zeros(len(up)), gup.view(len(up), 5, -1).unbind(1)
        for x, t, y, gx in zip(a, inner, g[:, own], gh, strict=True):
            gdown.addmm_(y.T, t)
            gt = torch.ops.aten.threshold_backward(y @ down, t, 0.0)
            gub += gt.sum(0)
            for place, tap, gtap in zip(places, taps, gtaps, strict=True):
                gx[place].addmm_(gt, tap)
                gtap.addmm_(gt.T, x[place])
        gh.mul_(a > 0).add_(g)
        return gh, gup, gub, gdown, g.sum((0, 1)), None
