"""Samples to a FLAC stream, without libFLAC: fixed predictors, and one Rice code per block.

    encode(x, rate, bits)  → a stream

NumPy, no torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from ardm.codec.flac_stream import BITS, STREAM, Ints, coded_number, crc8, crc16, joined, raw

BLOCK = 4096
"""Samples of a block."""


def encode(x: Ints, rate: int, bits: int) -> bytes:
    """Write signed samples x (C, n) of 8 or 16 bits as a FLAC file; 1 ≤ C ≤ 8, 1 ≤ n < 2^36, 1 ≤ rate < 2^20."""
    C, n = x.shape
    found = [_written(x[:, a : a + BLOCK].astype(np.int64), k, bits) for k, a in enumerate(range(0, n, BLOCK))]
    fields = rate << 44 | C - 1 << 41 | bits - 1 << 36 | n
    sizes = (min(map(len, found)).to_bytes(3, "big"), max(map(len, found)).to_bytes(3, "big"))
    md5 = hashlib.md5(raw(x, bits), usedforsecurity=False).digest()
    return joined([(STREAM, BLOCK.to_bytes(2, "big") * 2 + b"".join(sizes) + fields.to_bytes(8, "big") + md5)]) + (
        b"".join(found)
    )


def _written(x: Ints, number: int, bits: int) -> bytes:
    """One frame."""
    C, n = x.shape
    head = bytes([0xFF, 0xF8, 0x70, C - 1 << 4 | BITS.index(bits) << 1]) + coded_number(number)
    head += (n - 1).to_bytes(2, "big")
    head += bytes([crc8(head)])
    writer = _Writer([np.unpackbits(np.frombuffer(head, np.uint8))])
    for channel in x:
        _write_subframe(writer, channel, bits)
    body = writer.bits()
    return np.packbits(body).tobytes() + crc16(np.flatnonzero(body), len(body)).to_bytes(2, "big")


@dataclass
class _Writer:
    """A writer of bits, which it holds one to a byte."""

    chunks: list[Ints] = field(default_factory=list)

    def put(self, value: int, n: int) -> None:
        """Append the n low bits of a number."""
        self.many(np.array([value]), n)

    def many(self, values: Ints, n: int) -> None:
        """Append the n low bits of each number."""
        self.chunks.append((values[:, None] >> np.arange(n - 1, -1, -1) & 1).astype(np.uint8).ravel())

    def rice(self, folded: Ints, low: int) -> None:
        """Append Rice codes: the high bits of each number in unary, then its `low` low bits."""
        high = folded >> low
        ends = np.cumsum(high + 1 + low)
        out = np.zeros(int(ends[-1]), np.uint8)
        out[ends - low - 1] = 1
        for k in range(low):
            out[ends - 1 - k] = folded >> k & 1
        self.chunks.append(out)

    def bits(self) -> Ints:
        """All bits, padded to whole bytes."""
        found = np.concatenate(self.chunks)
        return np.concatenate([found, np.zeros(-len(found) % 8, np.uint8)])


def _write_subframe(writer: _Writer, x: Ints, bits: int) -> None:
    """Write a channel with the fixed predictor and Rice code that make it shortest, or verbatim."""
    ways = []
    left = x
    for order in range(min(5, len(x))):
        folded = left << 1 ^ left >> 63
        low, size = min(((k, int((folded >> k).sum()) + len(left) * (k + 1)) for k in range(15)), key=lambda w: w[1])
        ways.append((size + order * bits + 10, order, low, folded))
        left = np.diff(left)
    size, order, low, folded = min(ways, key=lambda w: w[0])
    if size >= len(x) * bits:
        writer.put(1 << 1, 8)
        writer.many(x, bits)
        return
    writer.put(8 + order << 1, 8)
    writer.many(x[:order], bits)
    writer.put(low, 10)  # method and split 0
    writer.rice(folded, low)
