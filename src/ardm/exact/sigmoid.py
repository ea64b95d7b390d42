"""The sigmoid as a table of integers, made with Python integers of any length: no mathematics library is involved.

SIGMOID[i] = ⌊2^30 / (1 + exp(−z))⌋ at z = i / 64 − 24,  i = 0..3072
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REACH = 24
"""Nats from 0 at which the table ends."""
KNOTS = 64
"""Knots of the table in a nat; a cdf is linear between two of them."""
FINE = 12
"""Arguments of the sigmoid are integers in units of 2^−FINE nats."""
REST = 6
"""Bits of such an argument below a knot of the table: 2^FINE / KNOTS = 2^REST."""
UNITY = 30
"""The sigmoid is an integer in units of 2^−UNITY."""


def _powers(step: int, count: int, one: int) -> list[int]:
    """exp(−i / step) for i = 0..count, in units of 1/one, a little below the truth."""
    ratio, term, k = 0, one, 0  # exp(−1 / step) = Σ (−1)^k / (step^k k!)
    while term:
        ratio += -term if k % 2 else term
        k += 1
        term //= step * k
    entries = [one]
    for _ in range(count):
        entries.append(entries[-1] * ratio // one)
    return entries


def _sigmoid() -> NDArray[np.int64]:
    one = 1 << 120
    down = _powers(KNOTS, REACH * KNOTS, one)  # exp(−z) for z ≥ 0
    upper = [(one << UNITY) // (one + e) for e in down]  # σ(z)
    lower = [(e << UNITY) // (one + e) for e in down[:0:-1]]  # σ(−z) = e / (1 + e)
    return np.array(lower + upper, dtype=np.int64)


SIGMOID = _sigmoid()
"""(2 · 24 · 64 + 1,): increasing, from 0 to 2^30 − 1."""
