"""Who tells the next symbols, given their logits: chance, the data while nats are counted, or bits.

A source is called with logits (N, b), lane (N,) = the item of each symbol, and, if the data are known, told (N,); it
returns the symbols (N,).

`Encode` and `Decode` make a codec of any model at once, with one caveat: a float network gives slightly other numbers
with another library, processor, batch or number of threads, and one frequency that differs destroys the rest of a stream.
So streams are for the process that wrote them.  Files are coded by networks in integers (`codec`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.ans import PRECISION, Decoder, Encoder, Ints, frequencies, intervals, quantise
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

    def uniform(self, count: int) -> Tensor:
        """(count,) float64 in [0, 1), for families that draw by their own cdf."""
        return torch.rand(count, dtype=torch.double, generator=self.generator, device=self.generator.device)

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


def _frequencies(logits: Tensor) -> Ints:
    return frequencies(quantise(logits.cpu().numpy()))


class Encode:
    """The data, while bits are written.  All symbols go to one stream, in the order in which they are told.

    bits: −log2 of the probability of what was told, as coded.
    """

    def __init__(self) -> None:
        self.bits = 0.0
        self._pieces: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """Returns told, and remembers its pieces; raises ArdmError for a symbol that the model calls impossible."""
        if told is None:
            raise ArdmError("Encode needs the data: give truth to the walk")
        start, width = intervals(_frequencies(logits), told.cpu().numpy())
        if not width.all():
            raise ArdmError(f"symbol {int(told[width.argmin()])} cannot be coded: the model calls it impossible")
        self._pieces.append((start.astype(np.int32), width.astype(np.int32)))
        self.bits += float(PRECISION * len(width) - np.log2(width).sum())
        return told

    def finish(self, crc: int = 0) -> bytes:
        """The stream; crc: 32 bits that the decoder finds at its end."""
        encoder = Encoder()
        for start, width in self._pieces:
            encoder.push(start, width)
        return encoder.finish(crc)


class Decode:
    """A bit stream, symbol after symbol; the inverse of Encode."""

    def __init__(self, stream: bytes) -> None:
        self._decoder = Decoder(stream)

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """(N,) symbols; raises CodecError where the stream ends."""
        return torch.from_numpy(self._decoder.pop(_frequencies(logits))).to(logits.device)

    def finish(self) -> int:
        """The 32 bits that the encoder was given; raises CodecError unless the stream ends here."""
        return self._decoder.close()
