"""Samples of a codec model: sampling is decompressing random bits.

No torch until a network runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ardm.ans import PRECISION, Ints
from ardm.codec.model_coder import BATCH, limits_of
from ardm.codec.registry import coder
from ardm.exact.model import CodecModel


class Chance:
    """A stream of random bits, which decodes to a sample: sampling is decompressing random bits."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.PCG64(seed)  # whose raw numbers are the same in every version of NumPy

    def pop(self, table: Ints) -> Ints:
        """One symbol a row of frequencies (N, b)."""
        drawn = (self._random.random_raw(len(table)) >> np.uint64(64 - PRECISION)).astype(np.int64)
        symbols: Ints = (drawn[:, None] >= table.cumsum(axis=1)).sum(axis=1)
        return symbols


def sample(
    model: str | Path | CodecModel,
    items: int,
    size: tuple[int, int] | None = None,
    calls: int | None = None,
    seed: int = 0,
) -> Ints:
    """New items (items, C, H, W) of a codec model, by decoding random bits: the same on every machine.

    size: (H, W); by default that of its items, or 32 × 32 pixels, a line of 256 letters or 8000 samples, or a row.
    """
    coded = coder(model, calls)
    found = coded.model
    lines = {"image": (32, 32), "text": (1, 256), "audio": (1, 8000)}
    whole = (1, len(limits_of(found))) if found.kind == "table" else lines[found.kind]
    H, W = size or (found.size if max(found.size) else whole)
    walker = coded.walker((coded.planes, H, W), coded.planes, (H, W))
    return np.concatenate(
        [walker.decode([Chance(seed + i) for i in range(a, min(a + BATCH, items))]) for a in range(0, items, BATCH)]
    )
