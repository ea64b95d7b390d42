"""Samples of a codec model: sampling is decompressing random bits.

No torch until a network runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ardm.ans import PRECISION, Ints
from ardm.codec.batches import BATCH
from ardm.codec.model_coder import limits_of
from ardm.codec.registry import coder
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel


class Chance:
    """A stream of random bits, which decodes to a sample."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.PCG64(seed)  # its raw numbers are the same in every version of NumPy

    def pop(self, table: Ints) -> Ints:
        """Draw one symbol for each row of frequencies (N, b)."""
        drawn = (self._random.random_raw(len(table)) >> np.uint64(64 - PRECISION)).astype(np.int64)
        symbols: Ints = (drawn[:, None] >= table.cumsum(axis=1)).sum(axis=1)
        return symbols


def sample(
    model: str | Path | CodecModel,
    items: int,
    size: tuple[int, int] | None = None,
    calls: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Ints:
    """Draw items (items, C, H, W) from a codec model by decoding random bits; every machine draws the same.

    size: (H, W); by default that of the model's items, else 32 × 32 pixels, 256 letters, 8000 samples, or a row.
    Item k has the seed `seed` + k.
    """
    if not isinstance(items, (int, np.integer)) or isinstance(items, bool) or items < 1:
        raise ArdmError(f"items must be a whole number of at least 1; got {items!r}")
    coded = coder(model, calls, device=device)
    found = coded.model
    by_kind = {"image": (32, 32), "text": (1, 256), "audio": (1, 8000)}
    free = (1, len(limits_of(found))) if found.kind == "table" else by_kind[found.kind]
    H, W = size or (found.size if max(found.size) else free)
    walker = coded.walker((coded.planes, H, W), coded.planes, (H, W))
    return np.concatenate(
        [walker.decode([Chance(seed + i) for i in range(a, min(a + BATCH, items))]) for a in range(0, items, BATCH)]
    )
