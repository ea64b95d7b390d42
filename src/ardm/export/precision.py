"""How many bits the integers of a network have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ardm.exact.program import Program


@dataclass(frozen=True)
class Precision:
    """Bits of weights and of activations inside the network, and of the weights that read pixels."""

    weights: int = 8
    activations: int = 8
    first: int = 14

    @property
    def top(self) -> int:
        """The largest activation."""
        return (1 << self.activations) - 1


Make = Callable[[Precision], Program]
"""What an exporter returns: the program of a precision."""
SEARCH = (Precision(8, 8), Precision(10, 10), Precision(12, 10), Precision(12, 12))
"""Precisions to try, the coarsest first."""
FINER = (Precision(8, 11), Precision(10, 11), Precision(12, 12))
"""The same where products of 16 bits are as fast as those of bytes."""
COMPENSATED = (Precision(8, 8), Precision(8, 10), Precision(10, 10), Precision(12, 12))
"""The same where weights make up for each other's rounding, so that activations may be the coarser part."""
