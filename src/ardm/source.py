"""Who tells the next symbols, given their logits: chance, or the data while nats are counted.

A source is called with logits (N, b), lane (N,) = the item of each symbol, and, if the data are known, told (N,); it
returns the symbols (N,).  The two sources that own bytes, Encode and Decode, live in `codec`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ardm.errors import ArdmError


class Source(Protocol):
    """Anything that tells symbols."""

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:  # noqa: D102
        ...


class Draw:
    """Chance.  Sampling is decompressing random bits.

    Inverse-cdf in float64: float32 Gumbel noise never reaches the tail (it cannot exceed about 16.6), so that rare
    symbols are drawn too rarely; float64 sums keep every probability above 1e-15.
    temperature: logits are divided by it; 0 takes the most likely symbol.
    """

    def __init__(self, generator: torch.Generator, temperature: float = 1.0) -> None:
        if temperature < 0:
            raise ArdmError(f"temperature must be 0 (the most likely symbol) or more; got {temperature}")
        self.generator, self.temperature = generator, temperature

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """(N,) symbols; impossible ones (−inf) are never drawn."""
        if self.temperature == 0:
            return logits.argmax(-1)
        p = (logits.double() / self.temperature).softmax(-1)
        cdf = p.cumsum(-1)
        u = torch.rand(len(p), 1, dtype=torch.double, generator=self.generator, device=self.generator.device)
        drawn = torch.searchsorted(cdf, u.to(p.device) * cdf[:, -1:], right=True)[:, 0]
        return drawn.clamp(max=p.shape[-1] - 1)


class Score:
    """The data, while nats are counted: likelihood is compressing without writing."""

    def __init__(self, batch: int, device: torch.device | str | None = None) -> None:
        self.nats = torch.zeros(batch, dtype=torch.double, device=device)

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """Returns told, and adds −log p(told) to `nats` (B,)."""
        if told is None:
            raise ArdmError("Score needs the data: give truth to the walk")
        logp = logits.double().log_softmax(-1).gather(1, told[:, None])[:, 0]
        self.nats = self.nats.index_add(0, lane, -logp)
        return told
