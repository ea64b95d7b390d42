"""Functions of one number, in float64, which fill the tables of a program."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import nn

from ardm.export.quantise import Floats


def swish(x: Floats) -> Floats:
    """x σ(x)."""
    return x / (1 + np.exp(-np.clip(x, -700, 700)))


def logistic(x: Floats) -> Floats:
    """σ(x)."""
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def gelu(x: Floats) -> Floats:
    """x Φ(x)."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0)


FUNCTIONS: dict[type[nn.Module], Callable[[Floats], Floats]] = {
    nn.SiLU: swish,
    nn.GELU: gelu,
    nn.ReLU: relu,
    nn.Sigmoid: logistic,
    nn.Tanh: np.tanh,
}
"""By module."""
