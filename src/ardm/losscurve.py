"""L_t observed: sums, counts, isotonic fit.

L_t is the expected −log p, in nats, of one more symbol when t of D are known; with stages there is one curve a stage.
An observed curve is noisy, and a planner would pick its lucky steps: plan on the fit, `LossCurve.monotone`, and price on
`LossCurve.expected`, which sums to what was observed.  NumPy, no torch.  S stages, D sites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ardm.errors import ArdmError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

FAINT = 1e-200
"""Observations of less weight are not forgotten any further, since one may be the only one of its step."""


def isotonic(values: ArrayLike, weights: ArrayLike) -> Floats:
    """The non-increasing sequence nearest to `values` in weighted least squares, by pooling adjacent violators, O(D).

    values, weights: (D,), finite, weights positive.  The weighted mean is preserved.
    """
    v, w = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    if v.ndim != 1 or v.shape != w.shape:
        raise ArdmError(f"isotonic takes values and weights of one shape (D,); got {v.shape} and {w.shape}")
    if not (np.isfinite(v).all() and np.isfinite(w).all() and (w > 0).all()):
        raise ArdmError("isotonic takes finite values and positive, finite weights; leave out what was never seen")
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for mean, mass in zip(v.tolist(), w.tolist(), strict=True):
        size = 1
        while means and means[-1] <= mean:
            last, before = masses.pop(), means.pop()
            mean = before + (mean - before) * (mass / (mass + last))
            mass, size = mass + last, size + sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(means, sizes)


class LossCurve:
    """Observed losses L_t of every stage: weighted sums and counts.

    stages, sites: S and D.  memory: the number of updates after which an observation counts half (None: for ever), so
    that the curve of a model in training follows the model.

    total: (S, D), weighted sums of nats; +∞ where the model called a symbol impossible that did occur.
    count: (S, D), weighted numbers of symbols, on a common and arbitrary scale: the newest update weighs 1 to 2.
    seen: (S, D) int64, how often each step was observed.
    """

    total: Floats
    count: Floats
    seen: Ints

    def __init__(self, stages: int, sites: int, memory: int | None = None) -> None:
        if stages < 1 or sites < 1:
            raise ArdmError(f"a loss curve has at least one stage and one site; got stages={stages}, sites={sites}")
        if memory is not None and memory < 1:
            raise ArdmError(f"memory is a positive number of updates, or None for all; got {memory}")
        self.stages, self.sites, self.memory = stages, sites, memory
        self.total = np.zeros((stages, sites))
        self.count = np.zeros((stages, sites))
        self.seen = np.zeros((stages, sites), dtype=np.int64)
        self._age = 0  # updates since the last halving

    def __repr__(self) -> str:
        size = f"{self.stages} stage{'s' * (self.stages > 1)}, {self.sites:,} sites"
        return f"LossCurve({size}, {int(self.seen.sum()):,} observations)"

    @classmethod
    def exact(cls, values: ArrayLike) -> LossCurve:
        """The curve with L_t = values (S, D) in nats, each seen once."""
        array = np.array(values, dtype=float)
        if array.ndim != 2 or not np.isfinite(array).all():
            raise ArdmError(f"the values of a loss curve are finite, of shape (S, D); got shape {array.shape}")
        curve = cls(*array.shape)
        curve.total, curve.count, curve.seen = array, np.ones_like(array), np.ones_like(curve.seen)
        return curve

    def update(self, stage: ArrayLike, known: ArrayLike, nats: ArrayLike, symbols: ArrayLike) -> None:
        """Add one observation per item; all (B,).  A step may occur several times in a batch.

        stage, known: which L_t was observed.  nats: −log p summed over the scored symbols, +∞ if one of them is
        impossible.  symbols: how many were scored; 0 means that nothing was observed.
        """
        s, t = np.asarray(stage), np.asarray(known)
        x, n = np.asarray(nats, dtype=float), np.asarray(symbols, dtype=float)
        if not s.size:
            return
        self._refuse(s, t, x, n)
        weight = self._fade()
        np.add.at(self.total, (s, t), weight * np.where(n > 0, x, 0.0))
        np.add.at(self.count, (s, t), weight * n)
        np.add.at(self.seen, (s, t), n > 0)

    def _refuse(self, stage: NDArray[Any], known: NDArray[Any], nats: Floats, symbols: Floats) -> None:
        """Raise ArdmError for misfits; a negative index would silently count from the end."""
        if not stage.shape == known.shape == nats.shape == symbols.shape or stage.ndim != 1:
            shapes = [a.shape for a in (stage, known, nats, symbols)]
            raise ArdmError(f"update takes four arrays (B,); got {shapes}")
        for name, index, end in (("stage", stage, self.stages), ("known", known, self.sites)):
            if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= end:
                found = f"{index.dtype} {index.min()}..{index.max()}"
                raise ArdmError(f"{name} holds integers in 0..{end - 1}; got {found}")
        if not ((nats > -np.inf).all() and np.isfinite(symbols).all() and symbols.min() >= 0):
            raise ArdmError(
                "update takes finite nats (or +inf) and symbol counts >= 0; a NaN would stay in the curve for ever"
            )

    def _fade(self) -> float:
        """Begin an update and return its weight, 2^(age / memory); at 2, halve all older weights instead, exactly."""
        if self.memory is None:
            return 1.0
        self._age += 1
        if self._age >= self.memory:
            self._age = 0
            fade = np.where(self.count > FAINT, 0.5, 1.0)
            self.total *= fade
            self.count *= fade
        return math.pow(2.0, self._age / self.memory)

    def mean(self) -> Floats:
        """(S, D): observed L_t in nats; NaN where a step was never seen."""
        return np.divide(self.total, self.count, out=np.full_like(self.total, np.nan), where=self.count > 0)

    def monotone(self) -> Floats:
        """(S, D): L_t in nats, non-increasing in each stage, for the planner.

        Isotonic regression of the observations, weighted by their symbols.  Unseen steps lie on the line between their
        seen neighbours; those before the first and after the last share its level.  A loss of +∞ makes all earlier steps
        infinite too.  Raises ArdmError where a whole stage was never seen.
        """
        return np.stack([self._fitted(s, row) for s, row in enumerate(self.mean())])

    def _fitted(self, stage: int, mean: Floats) -> Floats:
        steps = np.flatnonzero(self.count[stage] > 0)
        if not len(steps):
            raise ArdmError(
                f"stage {stage} of {self.stages} (from 0) was never observed, so that nothing can be planned; train "
                "longer, or measure the curve on data (likelihood.curve)"
            )
        endless = int(np.flatnonzero(np.isinf(mean[steps])).max(initial=-1)) + 1  # observations up to the last +∞
        rest = steps[endless:]
        if not len(rest):
            return np.full(self.sites, np.inf)
        fit = np.interp(np.arange(self.sites), rest, isotonic(mean[rest], self.count[stage, rest]))
        fit = np.maximum(np.minimum.accumulate(fit), 0.0)  # against rounding
        fit[: rest[0] if endless else 0] = np.inf
        return fit

    def expected(self) -> Floats:
        """(S, D): L_t in nats for pricing a schedule: on each level of `monotone`, the mean of the observations.

        It sums to the observed losses, also where they rise and the fit, which weighs by symbols, sums to less; and no
        step is cheap by luck, as the steps that a planner picks are.  Unseen steps and infinite losses are as fitted.
        Raises ArdmError as `monotone`.
        """
        fit, mean = self.monotone(), self.mean()
        for row, observed in zip(fit, mean, strict=True):
            seen = np.flatnonzero(np.isfinite(row) & ~np.isnan(observed))
            levels = np.unique(-row[seen], return_inverse=True)[1].reshape(-1)
            row[seen] = (np.bincount(levels, observed[seen]) / np.maximum(np.bincount(levels), 1))[levels]
        return np.maximum(fit, 0.0)

    def nats(self) -> float:
        """Σ L_t of `expected` over all stages and steps: the bound of an item, one call a symbol."""
        return math.fsum(self.expected().ravel())

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays, for safetensors: total, count, seen (S, D); memory = [updates or 0, age] (2,) int64."""
        memory = np.array([self.memory or 0, self._age], dtype=np.int64)
        return {"total": self.total.copy(), "count": self.count.copy(), "seen": self.seen.copy(), "memory": memory}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> LossCurve:
        """The curve saved as `state`, which continues exactly as the saved one would have."""
        names = ("total", "count", "seen", "memory")
        missing = [name for name in names if name not in state]
        if missing:
            raise ArdmError(f"this is not a saved loss curve: it has no {', '.join(missing)}")
        total, count, seen, memory = (np.asarray(state[name]) for name in names)
        whole = memory.dtype.kind == seen.dtype.kind == "i"
        if total.ndim != 2 or not total.shape == count.shape == seen.shape or memory.shape != (2,) or not whole:
            found = ", ".join(f"{name} {state[name].dtype} {state[name].shape}" for name in names)
            raise ArdmError(f"a saved loss curve has three arrays (S, D) and a memory (2,) of integers; got {found}")
        if not ((total > -np.inf).all() and np.isfinite(count).all() and (count >= 0).all()):
            raise ArdmError(
                "the saved loss curve is damaged: its sums are not all numbers, or its counts not all finite"
            )
        curve = cls(len(total), total.shape[1], int(memory[0]) or None)
        curve.total, curve.count = total.astype(np.float64), count.astype(np.float64)
        curve.seen, curve._age = seen.astype(np.int64), int(memory[1])
        return curve
