"""Who tells the next symbols, given their logits: chance, the data while nats are counted, or bits.

A source is called with logits (N, b), lane (N,) = the item of each symbol, and, if the data are known, told (N,); it
returns the symbols (N,).

`Encode` and `Decode` make a codec of any model at once, with one caveat: a float network gives slightly other numbers
with another library, processor, batch or number of threads, and one frequency that differs destroys the rest of a stream.
So streams are for the process that wrote them.  Files are coded by networks in integers (`codec`).
"""

from __future__ import annotations

import math
import sys
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.ans import PRECISION, Decoder, Encoder, Ints, frequencies, intervals, quantise
from ardm.errors import ArdmError
from ardm.inputs import generator as random_of


def undefined(logits: Tensor) -> Tensor:
    """(N,) bool: rows of logits (N, b) that are no distribution: NaN or +inf among them, or −inf and nothing else."""
    return ~logits.amax(-1).isfinite()


def no_distribution(sites: int, asked: int, where: str = "") -> ArdmError:
    """The error of `sites` of the `asked` sites whose logits are no distribution."""
    return ArdmError(
        f"the model gives no distribution at {sites} of {asked} sites{where}: its logits are NaN or +inf, or −inf for "
        "every value; check weights and inputs, and whether half precision overflows"
    )


class Faults:
    """Sites without a distribution, counted where the model runs, so that no step waits for a GPU; told by `refuse`."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor | int, Tensor | int, Tensor | None]] = []

    def see(self, sites: Tensor, asked: Tensor | int, step: Tensor | int, item: Tensor | None = None) -> None:
        """sites, asked, step: (R,), or () and numbers: how many sites lack one, of how many, in which step (−1: in all).

        item: (R,), which item each row is of, where some items may be excused.
        """
        self._seen.append((sites, asked, step, item))

    def refuse(self, excused: Tensor | None = None) -> None:
        """Raise ArdmError if there were any, in items that are not excused (B,) bool; forget what was seen. Waits once."""
        seen, self._seen = self._seen, []
        if not seen:
            return
        counts = [
            sites if excused is None or item is None else torch.where(excused[item], 0, sites)
            for sites, _, _, item in seen
        ]
        bad = torch.cat([c.reshape(-1) for c in counts]).cpu()
        if not bad.any():
            return
        asked, step = (
            torch.cat([torch.as_tensor(row[k], device="cpu").reshape(-1).expand(row[0].numel()) for row in seen])
            for k in (1, 2)
        )
        first = int(step[bad > 0].min())
        here = step == first
        raise no_distribution(int(bad[here].sum()), int(asked[here].sum()), f" in step {first}" if first >= 0 else "")


class Source(Protocol):
    """Anything that tells symbols."""

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:  # noqa: D102
        ...


class Draw:
    """Chance.  Sampling is decompressing random bits.

    Inverse-cdf in float64: float32 Gumbel noise never reaches the tail (it cannot exceed about 16.6), so that rare
    symbols are drawn too rarely; float64 sums keep every probability above 1e-15.
    temperature: logits are divided by it; 0 takes the most likely symbol, to which the draws go as it falls.
    Raises ArdmError for a temperature that is negative, infinite or NaN, and for logits that are no distribution.
    """

    def __init__(self, generator: torch.Generator, temperature: float = 1.0) -> None:
        try:
            found = math.nan if isinstance(temperature, (str, bytes)) else float(temperature)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            found = math.nan
        if not 0 <= found < math.inf:  # NaN is not, either
            raise ArdmError(
                f"temperature must be a finite number, 0 (the most likely symbol) or more; got {temperature!r}"
            )
        self.generator, self.temperature = random_of(generator), found

    def uniform(self, count: int) -> Tensor:
        """(count,) float64 in [0, 1), for families that draw by their own cdf."""
        return torch.rand(count, dtype=torch.double, generator=self.generator, device=self.generator.device)

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """(N,) symbols; impossible ones (−inf) are never drawn."""
        _refuse(undefined(logits))
        if self.temperature == 0:
            return logits.argmax(-1)
        scaled = logits.double()
        if self.temperature != 1:  # the largest stays 0, so that no temperature is too small to divide by
            scaled = (scaled - scaled.amax(-1, keepdim=True)) / max(self.temperature, sys.float_info.min)
        p = scaled.softmax(-1)
        cdf = p.cumsum(-1)
        u = torch.rand(len(p), 1, dtype=torch.double, generator=self.generator, device=self.generator.device)
        drawn = torch.searchsorted(cdf, u.to(p.device) * cdf[:, -1:], right=True)[:, 0]
        return drawn.clamp(max=p.shape[-1] - 1)


def _refuse(bad: Tensor) -> None:
    """For those who ask a source themselves, at no wait for a GPU; a walk names the step."""
    if bad.device.type == "cpu" and bad.any():
        raise no_distribution(int(bad.sum()), len(bad))


class Score:
    """The data, while nats are counted: likelihood is compressing without writing.

    What the model calls impossible costs +∞.  After that an item may ask for digits of a value that cannot be, to which
    no digit may follow: they cost no more.
    """

    def __init__(self, batch: int, device: torch.device | str | None = None) -> None:
        self.nats = torch.zeros(batch, dtype=torch.double, device=device)

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """Returns told, and adds −log p(told) to `nats` (B,)."""
        if told is None:
            raise ArdmError("Score needs the data: give truth to the walk")
        excused = self.excused(logits, lane)
        _refuse(undefined(logits) & ~excused)
        logp = logits.double().log_softmax(-1).gather(1, told[:, None])[:, 0].masked_fill(excused, 0.0)
        self.nats = self.nats.index_add(0, lane, -logp)
        return told

    def excused(self, logits: Tensor, lane: Tensor) -> Tensor:
        """(N,) bool: rows of −inf alone, in items that cost +∞ already."""
        return (logits.amax(-1) == -torch.inf) & (self.nats[lane] == torch.inf)


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
