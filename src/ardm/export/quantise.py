"""Weights to integers: as fine as a number of bits and the exact range of a container allow.

A layer y = x W + b gives integers Y ≈ scale_y · y from integers X = scale_x · x.  Output o is computed as

    Y_o = clamp ⌊(Σ_i X_i w_io + b_o) / 2^s_o⌋,     w_io = round(W_io · scale_y_o / scale_x_i · 2^s_o)

with the largest shift s_o for which no weight exceeds its bits and no partial sum the container.  Scales of inputs and
outputs cost nothing, because weights absorb them: every channel of every activation uses its whole range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.ans import Ints

Floats = NDArray[np.float64]

DAMPING = 0.01
"""The share of their mean that is added to the second moments of all inputs, so that they have an inverse."""
PAIR = (1 << 15) - 1
"""The largest sum of two products in int8 instructions without VNNI."""


def floats(x: Tensor) -> Floats:
    """A tensor as an array of float64."""
    found: Floats = x.detach().double().cpu().numpy()
    return found


@dataclass(frozen=True)
class Matrix:
    """weight (I, O), bias (O,), shift (O,): integers of a linear operation."""

    weight: Ints
    bias: Ints
    shift: Ints


def matrix(
    weight: Floats,
    bias: Floats,
    size: Ints,
    scale_in: Floats,
    scale_out: Floats,
    bits: int = 8,
    peak: int = 1 << 24,
    moments: Floats | None = None,
) -> Matrix:
    """The integers of y = x W + b.

    weight (I, O), bias (O,): in floats.  size (I,): the largest |X|.  scale_in (I,), scale_out (O,).  bits: of a
    weight, sign included.  peak: the largest partial sum allowed.  moments (I, I): of the integers X, sums of X_i X_j over
    examples, with which weights make up for each other's rounding (`compensated`).
    Where inputs and weights have 8 bits, the products of two neighbouring inputs fit 16 bits together, which int8
    instructions of processors without VNNI need (`PAIR`).
    """
    paired = bits <= 8 and int(size.max(initial=0)) < 1 << 8
    real = weight * (scale_out[None] / scale_in[:, None])
    offset = bias * scale_out + 0.5
    shift = np.full(real.shape[1], 24)
    for _ in range(64):
        w = np.rint(real * 2.0**shift)
        total = size @ np.abs(w) + np.abs(np.rint(offset * 2.0**shift))
        over = (np.abs(w).max(axis=0, initial=0) > (1 << bits - 1) - 1) | (total > peak)
        if paired:
            over |= _pairs(w * size[:, None]) > PAIR
        over &= shift > 0
        if not over.any():
            break
        shift = shift - over
    if moments is not None and not paired:
        better = compensated(real * 2.0**shift, moments, np.abs(w).max(axis=0, initial=(1 << bits - 1) - 1))
        w = np.where(size @ np.abs(better) + np.abs(np.rint(offset * 2.0**shift)) <= peak, better, w)
    return Matrix(w.astype(np.int64), np.rint(offset * 2.0**shift).astype(np.int64), shift.astype(np.int64))


def compensated(real: Floats, moments: Floats, most: Floats) -> Floats:
    """Weights (I, O) rounded one input after the other, while the inputs that follow make up for the error.

    With moments (I, I) the sum of squared errors of the outputs over the examples is smaller than by rounding alone, mostly
    by a factor of two to four.  most (O,): the largest weight of each output.  From "GPTQ" (Frantar et al., 2022), with its
    order: the inputs with the largest second moments first.
    """
    mean = float(np.diag(moments).mean())
    if mean <= 0:
        return np.rint(real)
    order = np.argsort(-np.diag(moments), kind="stable")
    damped = moments[np.ix_(order, order)] / mean + DAMPING * np.eye(len(order))
    after = np.linalg.cholesky(np.linalg.inv(damped)).T  # row i: how the inputs after i make up for an error of i
    rest, made = real[order], np.empty_like(real)
    for i, row in enumerate(after):
        made[order[i]] = np.rint(rest[i]).clip(-most, most)
        error = (rest[i] - made[order[i]]) / row[i]
        rest[i + 1 :] -= row[i + 1 :, None] * error
    return made


def _pairs(products: Floats) -> Floats:
    """(O,): the largest absolute sum of the products of inputs 2k and 2k + 1, whichever inputs are not 0."""
    odd = np.pad(products, ((0, len(products) % 2), (0, 0))).reshape(-1, 2, products.shape[1])
    most: Floats = np.maximum(odd.clip(min=0).sum(1), (-odd).clip(min=0).sum(1)).max(axis=0, initial=0)
    return most


def scales(largest: Iterable[Floats], top: int) -> Floats:
    """The scales that take the largest of several ranges (F,) to `top`.

    A channel that hardly moved during calibration counts with a 64th of the widest range: it may move later, and a very
    fine scale would leave no bits to the weights of the other channels.
    """
    most = np.max(list(largest), axis=0)
    widest = most.max(initial=0) or float(top)
    return top / np.maximum(most, widest / 64)


def levels(x: Tensor, scale: Tensor, top: int) -> Tensor:
    """Activations x (…, P) rounded as integers of at most `top` hold them; gradients ignore the rounding."""
    level = (x * scale).clamp(0, top)
    return (level + ((level + 0.5).floor() - level).detach()) / scale


def rounded(weight: Tensor, given: Tensor, made: Tensor, bits: int, top: int) -> Tensor:
    """Weights (O, I) rounded as integers of a number of bits hold them; gradients ignore the rounding.

    given (I,), made (O,): the scales of inputs and outputs.  top: the largest input.
    """
    ratio = made[:, None] / given
    real = weight * ratio
    pair = PAIR / top if bits <= 8 and top < 1 << 8 else math.inf
    with torch.no_grad():
        reach = torch.maximum(real.abs().amax(1) / ((1 << bits - 1) - 0.5), _paired(real) / pair)
        unit = torch.exp2(reach.clamp(min=1e-30).log2().ceil())[:, None]
        apart = (real / unit).round().mul_(unit) - real
    return (real + apart) / ratio


def _paired(real: Tensor) -> Tensor:
    """(O,): the largest sum of two neighbouring weights of one sign; real (O, I)."""
    two = torch.nn.functional.pad(real, (0, real.shape[1] % 2)).view(len(real), -1, 2)
    return torch.maximum(two.clamp(min=0).sum(2), (-two).clamp(min=0).sum(2)).amax(1)


def narrow(tensors: Mapping[str, Ints]) -> dict[str, NDArray[np.signedinteger]]:
    """Each tensor in the smallest of int8, int16, int32 and int64 that holds it."""
    out = {}
    for name, x in tensors.items():
        reach = int(np.abs(x).max(initial=0))
        kind = next(k for k in (np.int8, np.int16, np.int32, np.int64) if reach <= np.iinfo(k).max)
        out[name] = np.ascontiguousarray(x, dtype=kind)
    return out
