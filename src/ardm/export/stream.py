"""Networks whose blocks add to one stream: its scales, and the operations that read it and add to it.

    stream ← stream + down(relu(up(relu(stream))))

The stream has RESIDUAL bits more than an activation and one scale for each plane, which every block reads: weights absorb
the scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ardm.export.builder import Builder
from ardm.export.quantise import Floats, Matrix, floats, matrix

RESIDUAL = 4
"""Bits that the stream has beyond an activation."""
SINGLE = 1 << 24
"""The largest sum inside most networks, so that float32 holds it."""


@dataclass
class Seen:
    """The largest values of each plane: of the stream (W,), inside each block (V,), and of what the head reads (W,)."""

    stream: Floats
    inner: list[Floats]
    lifted: Floats

    @staticmethod
    def joined(parts: Iterable[Seen]) -> Seen:
        """What was seen in several parts of the items."""
        parts = list(parts)
        return Seen(
            np.max([part.stream for part in parts], axis=0),
            [np.max(block, axis=0) for block in zip(*(part.inner for part in parts), strict=True)],
            np.max([part.lifted for part in parts], axis=0),
        )


def largest(rows: Tensor) -> Floats:
    """(P,): the largest absolute values of rows (…, P)."""
    return floats(rows.abs().flatten(0, -2).amax(0))


def rounding(bias: Tensor, scale: Floats) -> Tensor:
    """The bias (P,) of the layer that begins the stream, half an activation larger: the floors that read it then round."""
    return torch.from_numpy(floats(bias) + 0.5 / scale)


def dense(
    build: Builder,
    a: str,
    weight: Tensor,
    bias: Tensor,
    reads: Floats,
    makes: Floats,
    bits: int,
    peak: int = SINGLE,
) -> Matrix:
    """The integers of a layer that reads `a`.

    weight (O, I), bias (O,).  reads (I,), makes (O,): the scales of its inputs and outputs.  bits: of a weight.
    peak: the largest sum allowed.
    """
    return matrix(floats(weight).T, floats(bias), build.size(a), reads, makes, bits, peak)


def affine(build: Builder, out: str, a: str, made: Matrix | Sequence[Matrix], **limits: int) -> str:
    """Append a linear operation of one matrix, or of one for each channel; returns the name of its result.

    limits: lo and hi, where the result is clamped.
    """
    each = [made] if isinstance(made, Matrix) else list(made)
    stacked: dict[str, Any] = {role: np.stack([getattr(m, role) for m in each]) for role in ("weight", "bias", "shift")}
    if isinstance(made, Matrix):
        stacked = {role: tensor[0] for role, tensor in stacked.items()}
    return build.op("linear", out, [a], stacked, **limits)


def kept(build: Builder, out: str, h: str, most: int) -> str:
    """The stream, clamped to ±most where it could leave that range and one more sum the exact range of its containers."""
    return build.op("shift", out, [h], by=0, lo=-most, hi=most) if build.size(h).max() > most else h
