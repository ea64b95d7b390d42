"""The head of an integer program: the units of its inputs, and the operation that ends the program."""

from __future__ import annotations

import math

import numpy as np

from ardm.ans import GRID
from ardm.export.builder import Builder
from ardm.export.quantise import Floats, floats
from ardm.heads import Head, MixtureHead, ValueHead

PLACED = 8
"""Bits after the point of a component's mean."""


def units(head: Head, outputs: int, unit: float) -> Floats:
    """(outputs,): the units of a head's inputs: 32nds of a nat; for the means of a mixture, levels with PLACED bits."""
    if not isinstance(head, MixtureHead):
        return np.full(outputs, float(GRID))
    return np.repeat([float(GRID), unit * 2**PLACED, float(GRID)], head.components)


def softmax(build: Builder, head: Head, logits: str) -> None:
    """Append the head of values or digits, from its logits in 32nds of a nat."""
    build.op("values" if isinstance(head, ValueHead) else "softmax", "head", [logits])


def mixture(
    build: Builder, head: MixtureHead, unit: float, o: str, centre: str, rise: int, placed: bool = False
) -> None:
    """Append the head of a mixture: o in `units`, and the column that its means are relative to, with PLACED − rise bits.

    placed: whether the means of components are apart already.
    """
    M, K = head.components, head.digits.classes
    places = np.zeros(M) if placed else np.rint(floats(head.places) * unit * 2**PLACED)
    fine = max(0, min(48, 30 - math.ceil(math.log2(math.exp(7.0) / unit))))
    clipped = np.clip(np.arange(-8 * GRID, 8 * GRID + 1) / GRID - 0.5, -7.0, 7.0)
    tensors = {"inverse": np.rint(np.exp(-clipped) / unit * 2.0**fine), "places": places}
    build.op(
        "mixture", "head", [o, centre], tensors,
        components=M, fraction=PLACED, bits=fine, rise=rise, limit=(2 * K) << PLACED,
    )  # fmt: skip
