"""Sounds, coded by a causal model: the low bits that are 0 in every sample of a part are left out.

Recordings of 8 bits, or turned down before they were stored, are multiples of a power of two.  A part begins with one of
BITS equally likely symbols, the number of such bits; the model codes the samples without them.

No torch until a network runs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from ardm.ans import PRECISION, Decoder, Ints
from ardm.codec.header import Shape
from ardm.codec.model_coder import ModelCoder, Symbols
from ardm.content import Samples, raised, spare_bits
from ardm.exact.ask import Ask
from ardm.exact.frequencies import Rows

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

    def _decoding(
        self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int, digits: int
    ) -> Generator[Ask, Rows, list[tuple[list[Samples], int]]]:
        decoders = [Decoder(stream, bits=bits) for stream, _ in jobs]
        parts: list[list[Samples]] = [[] for _ in jobs]
        for planes, high, wide in jobs[0][1]:
            spare = [self._told(decoder) for decoder in decoders]
            items = yield from self._items(decoders, planes, (high, wide))
            for mine, item, count in zip(parts, items, spare, strict=True):
                mine.append(self._samples(item[:planes], count))
        return [(mine, decoder.close()) for mine, decoder in zip(parts, decoders, strict=True)]

    def _told(self, decoder: Decoder) -> int:
        """The number of low bits that were left out."""
        return int(decoder.pop(np.full((1, BITS), WIDTH))[0])

    def _samples(self, items: Ints, told: int = 0) -> Samples:
        return raised(items, told).astype("<u2")

    def _items(self, decoders: Sequence[Decoder], planes: int, size: tuple[int, int]) -> Generator[Ask, Rows, Ints]:
        """One item from each decoder."""
        if self._whole is not None:
            return self._whole.decode(decoders, size, self._plane(planes), self._refuse_stopped)
        return (yield from self.walker((self.planes, *size), planes, size).decoding(decoders))
