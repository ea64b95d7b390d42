"""What an operation is: the bound of its result, and its definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ardm.ans import Ints
from ardm.exact.ask import AskedSites
from ardm.exact.bounds import Bound, limits
from ardm.exact.program import Op, Program


@dataclass(frozen=True)
class Operation:
    """An operation in NumPy.

    bound(program, op, bounds of its inputs): the certificate.
    run(program, op, inputs, sites): the definition, in int64, on whole maps or on the rows of the sites.
    resume(program, op, inputs, sites, memory): the same result, from what `memory` holds since the last step of the walk;
    None: nothing is kept.  memory: a dict of the operation's own.
    """

    bound: Callable[[Program, Op, list[Bound]], Bound]
    run: Callable[[Program, Op, list[Ints], AskedSites], Ints]
    resume: Callable[[Program, Op, list[Ints], AskedSites, dict[str, Any]], Ints] | None = None


def clamp(op: Op, x: Ints) -> Ints:
    """x within the lo and hi of the operation, if it has them."""
    return np.clip(x, *limits(op)) if "lo" in op.integers else x


def shifted(a: Ints, dy: int, dx: int) -> Ints:
    """A map (B, P, H, W) whose place (y, x) holds a at (y + dy, x + dx), 0 outside."""
    H, W = a.shape[2:]
    out = np.zeros_like(a)
    if abs(dy) >= H or abs(dx) >= W:
        return out
    y, x = slice(max(0, -dy), min(H, H - dy)), slice(max(0, -dx), min(W, W - dx))
    out[:, :, y, x] = a[:, :, y.start + dy : y.stop + dy, x.start + dx : x.stop + dx]
    return out


def isqrt(x: Ints) -> Ints:
    """⌊√x⌋ for 0 ≤ x < 2^62: the float64 root is off by one at most."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root


def grouped(a: Any, groups: int) -> Any:
    """Maps or rows as (B, groups, planes of a group, places), in NumPy or PyTorch; rows are maps of one place."""
    return a.reshape(len(a), groups, a.shape[1] // groups, math.prod(a.shape[2:]))
