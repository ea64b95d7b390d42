"""The output of a network at a site: hidden features, and the location and scale of the values near it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """Features of N sites, which a head turns into a distribution.

    hidden: (N, F).  loc: (N,), or (N, M) with one location for each of M components.  scale: (N,).  Values are mapped to
    [−1, 1]; only logistic mixtures read loc and scale.
    """

    hidden: Tensor
    loc: Tensor
    scale: Tensor

    @classmethod
    def plain(cls, hidden: Tensor) -> Features:
        """Features that say nothing about neighbouring values: location 0, scale 1."""
        loc = hidden.new_zeros(len(hidden))
        return cls(hidden, loc, loc + 1)


FeaturesAt: TypeAlias = Callable[[Tensor, Tensor], Features]
"""(batch_index (N,), position (N,)) → the features of these sites.  Every body returns such a function."""
