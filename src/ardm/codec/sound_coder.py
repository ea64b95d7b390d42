"""Sounds, coded by a causal model: the low bits that are 0 in every sample of a part are left out.

Recordings of 8 bits, or turned down before they were stored, are multiples of a power of two.  A part begins with one of
BITS equally likely symbols, the number of such bits; the model codes the samples without them.

No torch until a network runs.
"""

from __future__ import annotations

import numpy as np

from ardm.ans import PRECISION, Decoder, Ints
from ardm.codec.model_coder import ModelCoder, Symbols
from ardm.content import Samples, raised, spare_bits

BITS = 16
"""How many low bits may be left out, and one."""
WIDTH = (1 << PRECISION) // BITS
"""The width of each symbol."""


class SoundCoder(ModelCoder):
    """A causal codec model of sound, over samples of 16 bits."""

    def _symbols(self, part: Samples) -> list[Symbols]:
        spare = [spare_bits(item) for item in part]
        lowered = np.stack([raised(item, -bits) for item, bits in zip(part, spare, strict=True)])
        coded = super()._symbols(lowered)
        return [
            Symbols(np.append(np.int32(bits * WIDTH), one.start), np.append(np.int32(WIDTH), one.width))
            for bits, one in zip(spare, coded, strict=True)
        ]

    def _prefix(self, decoder: Decoder) -> int:
        """The number of low bits that were left out."""
        return int(decoder.pop(np.full((1, BITS), WIDTH))[0])

    def _samples(self, items: Ints, prefix: int = 0) -> Samples:
        return raised(items, prefix).astype("<u2")
