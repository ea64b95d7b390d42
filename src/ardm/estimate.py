"""What was measured of a likelihood: nats of items, bits per dimension, and their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Estimate:
    """Nats of a batch of items, with their errors.

    nats: (B,) float64, the mean over passes; +∞ where an evaluated symbol is impossible (a random pass may miss it).
    error: (B,) float64, its standard error over passes: 0 without randomness, NaN after a single random pass, +∞ where the
    mean is.  estimator: what was estimated.  sites: D, data dimensions of an item.  passes: random passes (0: none needed).
    is_bound: whether it is a bound on −log p(x) rather than −log p(x).
    counted: (B,) int64, how many sites of each item are predicted, up to its end; None: all D.
    """

    nats: Tensor
    error: Tensor
    estimator: str
    sites: int
    passes: int = 0
    is_bound: bool = False
    counted: Tensor | None = None

    @property
    def dims(self) -> int:
        """The number of dimensions that are predicted, in all items together."""
        return len(self.nats) * self.sites if self.counted is None else int(self.counted.sum())

    @property
    def error_nats(self) -> float:
        """Standard error of the mean nats of an item, taking the items as the sample; for a single item, over its passes."""
        items = len(self.nats)
        if (self.nats == torch.inf).any():
            return math.inf
        return float(self.nats.std() / math.sqrt(items) if items > 1 else self.error.mean())

    @property
    def bits_per_dim(self) -> float:
        """Bits per predicted dimension: all bits, divided by `dims`; NaN where nothing is predicted."""
        return float(self.nats.sum()) / self.dims / math.log(2) if self.dims else math.nan

    @property
    def bits_per_dim_error(self) -> float:
        """Standard error of `bits_per_dim`, taking the items as the sample.

        The spread of the items' nats includes the noise of their passes.  For a single item, the error over its passes.
        Where items have different numbers of dimensions, `bits_per_dim` is a ratio of two means, whose error is that of the
        mean of nats − ratio · counted, to first order (Cochran 1977, section 6.4).
        """
        items = len(self.nats)
        if (self.nats == torch.inf).any():
            return math.inf
        if not self.dims:
            return math.nan
        apart = self.nats
        if self.counted is not None:
            apart = apart - self.nats.sum() / self.dims * self.counted.to(self.nats)
        error = apart.std() / math.sqrt(items) if items > 1 else self.error.mean()
        return float(error) * items / self.dims / math.log(2)

    @classmethod
    def joined(cls, parts: Sequence[Estimate]) -> Estimate:
        """One estimate of all items, from estimates of the same kind for some of them each."""
        nats, error = (torch.cat([getattr(p, name) for p in parts]) for name in ("nats", "error"))
        if all(p.counted is None for p in parts):
            return replace(parts[0], nats=nats, error=error)
        counted = [
            torch.full_like(p.nats, p.sites, dtype=torch.long) if p.counted is None else p.counted for p in parts
        ]
        return replace(parts[0], nats=nats, error=error, counted=torch.cat(counted))

    def less(self, other: Estimate) -> Estimate:
        """The difference from another estimate of the same items at the same random steps, item by item.

        Its error over passes is not known from those of the two, unless both are 0.
        """
        error = self.error.where((self.error == 0) & (other.error == 0), torch.nan)
        return replace(self, nats=self.nats - other.nats, error=error)

    def __str__(self) -> str:
        error = self.bits_per_dim_error
        value = f"{self.bits_per_dim:.3f} ± {error:.3f}" if math.isfinite(error) else f"{self.bits_per_dim:.3f}"
        counts = [f"{self.passes} pass{'es' * (self.passes > 1)}"] if self.passes else []
        items = f"{len(self.nats)} item{'s' * (len(self.nats) != 1)}"
        whole = len(self.nats) * self.sites
        part = [f"{self.dims:,} of {whole:,} dimensions counted"] if self.dims < whole else []
        return f"{value} bits/dim ({', '.join([self.estimator, *counts, items, *part])})"
