"""Who supplies the next digits: chance, the data, or a bit stream.

A source is called with a prediction, the N sites that a step reveals and, if the data are known, their digits there,
target (N,); it returns digits (N,).  It asks the prediction for what it needs: logits, log-probabilities or quantiles.

`Encode` and `Decode` turn any model into a codec, within one process.  A float network gives slightly different numbers
with another library, processor, batch size or number of threads, and one different frequency destroys the rest of a
stream.  Files are therefore coded by integer networks (`codec`).
"""

from __future__ import annotations

import math
import sys
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ardm.ans import PRECISION, Decoder, Encoder, Ints, frequencies, intervals, quantise
from ardm.digits import Sites, anywhere
from ardm.errors import ArdmError
from ardm.faults import readable, refuse, undefined
from ardm.heads import inverse_cdf
from ardm.inputs import number as whole
from ardm.model import PredictionLike, has_quantile, in_parts, known_digits, probabilities
from ardm.precision import home, precise
from ardm.random_numbers import DRAWS, Chance, RandomNumbers, chance, numbers_of


class Source(Protocol):
    """Anything that supplies digits."""

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """(N,): the digits of the sites."""


def truncated(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits (N, b) with −inf for the symbols that truncated sampling leaves out: first top-k, then top-p.

    top_k: keep the k most likely symbols (Fan et al. 2018).  top_p: of these, renormalised, keep the fewest, most likely
    first, whose probabilities sum to p or more (the nucleus, Holtzman et al. 2020).  Among equally likely symbols the
    smallest comes first.  The most likely symbol always stays.  None leaves nothing out.
    """
    if top_k is None and top_p is None:
        return logits
    ordered = _descending(logits) if top_k is None else logits.topk(min(top_k, logits.shape[-1])).values
    before = F.pad(ordered.double().softmax(-1).cumsum(-1)[..., :-1], (1, 0))
    number = (before < (math.inf if top_p is None else top_p)).sum(-1, keepdim=True).clamp(min=1)
    least = ordered.gather(-1, number - 1)
    above, equal = logits > least, logits == least
    kept = above | (equal & (equal.cumsum(-1) <= number - above.sum(-1, keepdim=True)))
    return logits.masked_fill(~kept, -torch.inf)


def _descending(x: Tensor) -> Tensor:
    """Each row of x from the largest number to the smallest; on a CPU by NumPy, which takes a tenth of the time."""
    if not readable(x):
        return x.sort(dim=-1, descending=True).values
    return torch.from_numpy(np.sort(x.numpy(), axis=-1)).flip(-1)


HOT = 10.0
"""Up to this temperature, probabilities below `heads.MOST` count for nothing: 65,536 of them have a share below 1e-16."""


class Draw:
    """Draw digits at random: sampling is decoding random bits.

    It inverts the cdf in float64.  Float32 Gumbel noise never exceeds about 16.6, so that it draws rare symbols too
    rarely; float64 sums keep every probability above 1e-15.
    generator: `RandomNumbers` draw a digit by its item, site and place alone, whatever the batch, the order of the sites
    and the device; a torch.Generator gives new ones at each call.
    temperature: divides the logits; 0 takes the most likely digit.  top_k, top_p: see `truncated`, applied after the
    temperature, to each digit; None: all digits.  Where digits are listed, sites are asked in parts that fit into memory.
    Raises ArdmError for a temperature that is negative, infinite or NaN, for k below 1, for p outside (0, 1], and where
    there is no distribution.
    """

    def __init__(
        self, generator: Chance, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
    ) -> None:
        self.temperature = _real(temperature)
        if not 0 <= self.temperature < math.inf:  # also refuses NaN
            raise ArdmError(
                f"temperature must be a finite number, 0 (the most likely symbol) or more; got {temperature!r}"
            )
        self.top_k = None if top_k is None else whole(top_k, "top_k")
        nucleus = 1.0 if top_p is None else _real(top_p)
        if not 0 < nucleus <= 1:
            raise ArdmError(f"top_p must be a probability above 0 and at most 1; got {top_p!r}")
        self.top_p = None if nucleus == 1 else nucleus
        self.generator = generator.child(DRAWS) if isinstance(generator, RandomNumbers) else chance(generator)

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """(N,): digits; impossible ones (−inf) are never drawn.  Logits are listed for some sites at a time."""
        u = numbers_of(self.generator).uniform(sites.batch_index, sites.position, known_digits(prediction, sites))
        if self._plain and has_quantile(prediction):
            found = prediction.quantile(sites, u)
        else:
            found = in_parts(prediction, sites, lambda part, rows: self._choose(prediction, part, u[rows]))
        refuse(found < 0)
        return found

    @property
    def _plain(self) -> bool:
        """Whether digits are drawn from the distribution as it is."""
        return self.temperature == 1 and self.top_k is None and self.top_p is None

    def _choose(self, prediction: PredictionLike, sites: Sites, u: Tensor) -> Tensor:
        """(N,): digits, chosen from a list of all for each site."""
        logits = self._logits(prediction, sites)
        if self.temperature == 0:
            found = logits.argmax(-1).masked_fill(undefined(logits), -1)
        else:
            found = inverse_cdf(truncated(self._scaled(logits), self.top_k, self.top_p), u)
        return found.to(sites.index.device)

    def _logits(self, prediction: PredictionLike, sites: Sites) -> Tensor:
        """(N, b): of many digits log-probabilities, which are listed faster, unless small ones count."""
        if has_quantile(prediction) and self.temperature <= HOT:
            return probabilities(prediction, sites).log()
        return prediction[sites]

    def _scaled(self, logits: Tensor) -> Tensor:
        """Logits divided by the temperature.  The largest becomes 0, so that no temperature is too small to divide by."""
        scaled = precise(logits)
        if self.temperature == 1:
            return scaled
        return (scaled - scaled.amax(-1, keepdim=True)) / max(self.temperature, sys.float_info.min)


def _real(value: Any) -> float:
    """A number as a float; NaN for anything else."""
    try:
        return math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


class Score:
    """Return the data, and add up their nats: likelihood is encoding without writing.

    An impossible digit costs +∞.
    """

    def __init__(self, batch: int, device: torch.device | str | None = None) -> None:
        self.nats = torch.zeros(batch, dtype=torch.double, device=home(anywhere(device)))

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """Return target, and add −log p(target) to `nats` (B,)."""
        if target is None:
            raise ArdmError("Score needs the data: pass truth to the walk")
        logp = precise(prediction.log_prob(sites, target))
        refuse(logp.isnan())
        self.nats = self.nats.index_add(0, sites.batch_index.to(logp.device), -logp)
        return target


def integer_frequencies(logits: Tensor) -> Ints:
    """(N, b): the frequencies with which the entropy coder codes."""
    return frequencies(quantise(logits.cpu().numpy()))


class Encode:
    """Return the data, and write them to a bit stream: one for all items, in the order of the walk.

    bits: −log2 of the coded probability of everything so far.
    """

    def __init__(self) -> None:
        self.bits = 0.0
        self._pieces: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """Return target, and remember its intervals; raise ArdmError for a digit that the model calls impossible."""
        if target is None:
            raise ArdmError("Encode needs the data: pass truth to the walk")
        start, width = intervals(integer_frequencies(prediction[sites]), target.cpu().numpy())
        if not width.all():
            raise ArdmError(f"symbol {int(target[width.argmin()])} cannot be coded: the model calls it impossible")
        self._pieces.append((start.astype(np.int32), width.astype(np.int32)))
        self.bits += float(PRECISION * len(width) - np.log2(width).sum())
        return target

    def finish(self, crc: int = 0) -> bytes:
        """The stream.  crc: 32 bits that the decoder finds at its end."""
        encoder = Encoder()
        for start, width in self._pieces:
            encoder.push(start, width)
        return encoder.finish(crc)


class Decode:
    """Read symbols from a bit stream: the inverse of `Encode`."""

    def __init__(self, stream: bytes) -> None:
        self._decoder = Decoder(stream)

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """(N,): digits; raises CodecError where the stream ends too early."""
        symbols = self._decoder.pop(integer_frequencies(prediction[sites]))
        return torch.from_numpy(symbols).to(sites.index.device)

    def finish(self) -> int:
        """The 32 bits given to the encoder; raises CodecError unless the stream ends here."""
        return self._decoder.close()
