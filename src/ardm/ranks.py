"""Orders of pixels and of sequences: a size in, the rank of each site out.

Rank 0 is revealed first.  The tables at the end name every order that recipes and commands know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ranks: TypeAlias = NDArray[np.int64]


def bayer_ranks(height: int, width: int) -> Ranks:
    """(height, width): the ordered-dither rank of each pixel; every prefix of the order is spread evenly.

    Level after level, coarse to fine, each pixel is refined into four, the diagonal neighbour first.
    """
    side = max(height, width, 2)
    bits = (side - 1).bit_length()
    y, x = np.mgrid[:height, :width]
    key = np.zeros((height, width), dtype=np.int64)
    for level in range(bits):  # the lowest coordinate bits decide the finest refinement, which comes last
        by, bx = (y >> level) & 1, (x >> level) & 1
        key += ((by ^ bx) * 2 + by) << (2 * (bits - 1 - level))
    return dense(key)


def halton_ranks(height: int, width: int) -> Ranks:
    """(height, width): pixels in the order in which the Halton sequence (bases 2 and 3) first visits their cell."""
    ranks = np.full((height, width), -1, dtype=np.int64)
    found, start = 0, 1
    while found < height * width:
        n = np.arange(start, start + 8 * height * width)
        cells = (_radical(n, 2) * height).astype(int) * width + (_radical(n, 3) * width).astype(int)
        fresh, first = np.unique(cells, return_index=True)
        for cell in fresh[np.argsort(first)]:
            if ranks.flat[cell] < 0:
                ranks.flat[cell], found = found, found + 1
        start += len(n)
    return ranks


def _radical(n: Ranks, base: int) -> NDArray[np.float64]:
    out, weight = np.zeros(len(n)), 1.0
    n = n.copy()
    while n.any():
        weight /= base
        out, n = out + weight * (n % base), n // base
    return out


def wavefront_ranks(height: int, width: int, slope: int = 1) -> Ranks:
    """(height, width): pixels ordered by x + slope · y, then row, as in a raster-like decoder that works in parallel."""
    y, x = np.mgrid[:height, :width]
    return dense((x + slope * y) * height + y)


def wavefront_steps(shape: Sequence[int], slope: int = 2) -> Ranks:
    """The step of each site of images (C, H, W): C · (x + slope · y) + channel; of sequences (D,): the place.

    A step reveals one channel of all pixels of one wavefront; every site of a smaller x + slope · y is known before.
    """
    if len(shape) == 1:
        return np.arange(shape[0], dtype=np.int64)
    channel, y, x = np.mgrid[tuple(slice(n) for n in shape)]
    return shape[0] * (x + slope * y) + channel


def checkerboard_ranks(height: int, width: int) -> Ranks:
    """(height, width): the even squares in raster order, then the odd ones."""
    y, x = np.mgrid[:height, :width]
    return dense(((x + y) % 2) * height * width + y * width + x)


def hilbert_ranks(height: int, width: int) -> Ranks:
    """(height, width): pixels along the Hilbert curve of the smallest square of side 2^k that covers them.

    In the square each pixel touches the one before it, and every aligned square of side 2^j is finished before the next
    begins.
    """
    y, x = np.mgrid[:height, :width]
    key = np.zeros((height, width), dtype=np.int64)
    for level in reversed(range((max(height, width) - 1).bit_length())):
        right, below, side = (x >> level) & 1, (y >> level) & 1, 1 << level
        key += (3 * right ^ below) << (2 * level)
        x, y = x & (side - 1), y & (side - 1)
        turned = (right & ~below & 1).astype(bool)
        x, y = np.where(turned, side - 1 - x, x), np.where(turned, side - 1 - y, y)
        x, y = np.where(below, x, y), np.where(below, y, x)
    return dense(key)


def dense(key: NDArray[Any]) -> Ranks:
    """Keys to ranks 0, 1, …; equal keys keep their place in the array."""
    order = np.argsort(key, axis=None, kind="stable")
    ranks = np.empty(key.size, dtype=np.int64)
    ranks[order] = np.arange(key.size)
    return ranks.reshape(key.shape)


def raster_ranks(height: int, width: int) -> Ranks:
    """(height, width): row by row, from left to right."""
    return np.arange(height * width, dtype=np.int64).reshape(height, width)


RANKS: dict[str, Callable[[int, int], Ranks]] = {
    "bayer": bayer_ranks,
    "halton": halton_ranks,
    "raster": raster_ranks,
    "wavefront": wavefront_ranks,
    "checkerboard": checkerboard_ranks,
    "hilbert": hilbert_ranks,
}
"""Orders of the pixels of a cell: (height, width) → ranks (height, width)."""
LINES: dict[str, Callable[[int], Ranks]] = {
    "raster": lambda n: raster_ranks(1, n)[0],
    "bayer": lambda n: bayer_ranks(1, n)[0],
}
"""Orders of the sites of a line: length → ranks."""
