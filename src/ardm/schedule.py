"""Spend a budget of network calls well: loss curves, and which steps to take together.

Let L_t be the expected −log p, in nats, of one more symbol when t of D are known.  In a random order every hidden
symbol is as likely to come next as any other, so that telling k of them from one call at t known costs exactly k · L_t
in expectation.  A schedule with K calls, 0 = t_0 < t_1 < … < t_{K−1} < t_K = D, therefore costs

    Σ_j (t_{j+1} − t_j) · L_{t_j}                                      (Hoogeboom et al. 2022, section 3.1)

and the best one is found by dynamic programming over the loss curve (the same section; Watson et al. 2021):

    C[0, 0] = 0,     C[k, t] = min over s < t of  C[k−1, s] + (t − s) · L_s,     answer C[K, D].

Seen from t, each candidate s is a line of slope L_s.  L does not increase, for more context cannot hurt a calibrated
model, so a line that joins later rises less: once it is the lowest of all it stays below the earlier ones.  A layer of
the table is thus the lower envelope of lines that arrive in order of slope, found in O(D); K calls take O(K · D) time.
The cost C[K, D] is convex in K: each further call gains no more than the one before.  So over several stages (depth
upscaling, section 3.2) a common budget is spent best by giving each next call to the stage that gains most from it.

D3PM-absorbing with T steps lets every symbol jump at a step of its own, uniform over the T.  A symbol that jumps when
a share i/T is hidden finds each other one hidden with that probability, so the same network would cost

    (D / T) Σ_{i=1..T} E[L_{D−1−n}],  n ~ Binomial(D − 1, i/T)         = Σ_i 1/i Σ_k Binomial(k; D, i/T) · k · L_{D−k},

a mean over random partitions into at most T groups: never better than the best schedule of T calls.  With T → ∞ it
falls to Σ_t L_t, the cost of one call a symbol: continuous time and a random order are the same model (appendix C).

Read me first:

* Nats, per item, everywhere; only `Schedule.bits_per_dim` divides.
* An observed curve is noisy, and the programme would seek out its lucky steps.  `LossCurve.monotone` fits before use.
  Plan on that fit, and price on `LossCurve.expected`, which sums to what was observed.
* `starts` count the symbols known *before* a call, within their stage; `Schedule.flat` numbers through all stages.

NumPy, no torch.  S stages, D sites.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ardm.errors import ArdmError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

KINDS = ("uniform", "optimal", "joint", "given")
"""What a schedule may call itself: how its steps were chosen."""
FAINT = 1e-200
"""A weight below which an observation is not forgotten any further: it may be the only one of its step."""


# --- Loss curves ------------------------------------------------------------------------------------------------------


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

    total: (S, D) weighted sum of nats, +∞ where a symbol was seen that the model calls impossible.
    count: (S, D) weighted number of symbols.  Their scale is common and arbitrary: the newest update has a weight between 1 and 2.  seen: (S, D) int64, how often a step was observed.
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

    @classmethod
    def exact(cls, values: ArrayLike) -> LossCurve:
        """The curve that holds L_t = values (S, D) in nats, each seen once."""
        array = np.array(values, dtype=float)
        if array.ndim != 2 or not np.isfinite(array).all():
            raise ArdmError(f"the values of a loss curve are finite, of shape (S, D); got shape {array.shape}")
        curve = cls(*array.shape)
        curve.total, curve.count, curve.seen = array, np.ones_like(array), np.ones_like(curve.seen)
        return curve

    def update(self, stage: ArrayLike, known: ArrayLike, nats: ArrayLike, symbols: ArrayLike) -> None:
        """Add one observation an item; all (B,).  A step may occur several times in a batch.

        stage, known: which L_t was observed.  nats: −log p summed over the scored symbols, +∞ where one of them is
        impossible.  symbols: how many; where none was scored, nothing was seen.
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
        """Indices below zero would count from the end, silently."""
        if not stage.shape == known.shape == nats.shape == symbols.shape or stage.ndim != 1:
            shapes = [a.shape for a in (stage, known, nats, symbols)]
            raise ArdmError(f"update takes four arrays (B,); got {shapes}")
        for name, index, end in (("stage", stage, self.stages), ("known", known, self.sites)):
            if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= end:
                found = f"{index.dtype} {index.min()}..{index.max()}"
                raise ArdmError(f"{name} holds integers in 0..{end - 1}; got {found}")
        if not ((nats > -np.inf).all() and np.isfinite(symbols).all() and symbols.min() >= 0):
            raise ArdmError(
                "update takes finite nats (or +inf) and symbol counts >= 0; a NaN would never leave the curve"
            )

    def _fade(self) -> float:
        """One update later: the weight 2^(age / memory) of the new; where it would be 2, the old is halved, exactly."""
        if self.memory is not None:
            self._age += 1
            if self._age >= self.memory:
                self._age = 0
                fade = np.where(self.count > FAINT, 0.5, 1.0)
                self.total *= fade
                self.count *= fade
        return self._weight

    @property
    def _weight(self) -> float:
        """The weight of the newest update: 1 to 2."""
        return 1.0 if self.memory is None else math.pow(2.0, self._age / self.memory)

    def mean(self) -> Floats:
        """(S, D) observed L_t in nats; NaN where a step was never seen."""
        return np.divide(self.total, self.count, out=np.full_like(self.total, np.nan), where=self.count > 0)

    def monotone(self) -> Floats:
        """(S, D) L_t in nats, non-increasing in each stage: what the planner takes.

        Isotonic regression of what was seen, weighted by its symbols.  Unseen steps lie on the line between their seen
        neighbours; those before the first and after the last share its level.  A loss of +∞ makes all steps before it
        infinite, too.  Raises ArdmError where a whole stage was never seen.
        """
        return np.stack([self._fitted(s, row) for s, row in enumerate(self.mean())])

    def _fitted(self, stage: int, mean: Floats) -> Floats:
        steps = np.flatnonzero(self.count[stage] > 0)
        if not len(steps):
            raise ArdmError(
                f"stage {stage} of {self.stages} (from 0) was never observed, so that nothing can be planned; train "
                "longer, or measure the curve on data (likelihood.curve)"
            )
        endless = int(np.flatnonzero(np.isinf(mean[steps])).max(initial=-1)) + 1  # of what was seen, up to the last +∞
        rest = steps[endless:]
        if not len(rest):
            return np.full(self.sites, np.inf)
        fit = np.interp(np.arange(self.sites), rest, isotonic(mean[rest], self.count[stage, rest]))
        fit = np.maximum(np.minimum.accumulate(fit), 0.0)  # against rounding
        fit[: rest[0] if endless else 0] = np.inf
        return fit

    def expected(self) -> Floats:
        """(S, D) L_t in nats, of each level of `monotone` the mean of what was observed: what a schedule is priced on.

        Its sum is that of the observed losses, also where they rise and the fit, which weighs by symbols, costs less; and
        no step is cheap by luck, as those are at which a planner begins.  Steps never seen are as fitted, and so are
        infinite losses.  Raises ArdmError as `monotone`.
        """
        fit, mean = self.monotone(), self.mean()
        for row, observed in zip(fit, mean, strict=True):
            seen = np.flatnonzero(np.isfinite(row) & ~np.isnan(observed))
            levels = np.unique(-row[seen], return_inverse=True)[1].reshape(-1)
            row[seen] = (np.bincount(levels, observed[seen]) / np.maximum(np.bincount(levels), 1))[levels]
        return np.maximum(fit, 0.0)

    def nats(self) -> float:
        """Σ L_t over all stages and steps, as `expected`: the expected bound of an item, one call a symbol."""
        return math.fsum(self.expected().ravel())

    def merge(self, other: LossCurve) -> None:
        """Add the observations of another curve of the same stages and sites, its newest weighing as much as ours."""
        if (self.stages, self.sites) != (other.stages, other.sites):
            raise ArdmError(f"curves of {self.total.shape} and {other.total.shape} stages and sites cannot be merged")
        scale = self._weight / other._weight
        self.total += scale * other.total
        self.count += scale * other.count
        self.seen += other.seen

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of the arrays, for safetensors: total, count, seen (S, D); memory = [updates or 0, age] (2,) int64."""
        memory = np.array([self.memory or 0, self._age], dtype=np.int64)
        return {"total": self.total.copy(), "count": self.count.copy(), "seen": self.seen.copy(), "memory": memory}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> LossCurve:
        """The curve of which this is the `state`; it goes on exactly as the saved one would have."""
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


# --- What a schedule costs --------------------------------------------------------------------------------------------


def cost(curve: ArrayLike, starts: Sequence[int] | Sequence[Sequence[int]]) -> float:
    """Σ width · L_start, the expected nats of an item.

    curve: (D,) with the starts of one stage, or (S, D) with a list of starts for each stage.
    """
    values = np.asarray(curve, dtype=float)
    if values.ndim == 1 and _numbers(starts):
        return _cost(values, starts)
    if values.ndim == 2 and _lists(starts) and len(starts) == len(values):
        return math.fsum(_cost(row, own) for row, own in zip(values, starts, strict=True))
    raise ArdmError(
        f"cost takes a curve (D,) with a list of starts, or (S, D) with S lists; got a curve of shape {values.shape} "
        f"and {len(starts)} entries"
    )


def _numbers(starts: Sequence[int] | Sequence[Sequence[int]]) -> TypeGuard[Sequence[int]]:
    return np.ndim(starts[0] if len(starts) else 0) == 0


def _lists(starts: Sequence[int] | Sequence[Sequence[int]]) -> TypeGuard[Sequence[Sequence[int]]]:
    return not _numbers(starts)


def _cost(curve: Floats, starts: Sequence[int]) -> float:
    _check_starts(starts, len(curve))
    return math.fsum(_widths(starts, len(curve)) * curve[np.asarray(starts)])


def _widths(starts: Sequence[int], sites: int) -> Ints:
    edges = np.asarray([*starts, sites], dtype=np.int64)
    return edges[1:] - edges[:-1]


def _check_starts(starts: Sequence[int], sites: int) -> None:
    """ArdmError unless 0 = first < … < last < sites."""
    first = list(starts)
    if not first or first[0] != 0 or first[-1] >= sites or any(a >= b for a, b in pairwise(first)):
        shown = ", ".join(map(str, first[:8])) + ", …" * (len(first) > 8)
        raise ArdmError(f"the starts of a stage begin with 0 and increase strictly below {sites}; got [{shown}]")


def absorbing_cost(curve: ArrayLike, steps: int) -> float:
    """Expected nats of an item under D3PM-absorbing with T = `steps` uniform steps of the same network; curve (D,)."""
    values = _loss(curve)
    if steps < 1:
        raise ArdmError(f"D3PM takes at least one step; got {steps}")
    if np.isinf(values if steps > 1 else values[:1]).any():  # every step has a chance to occur
        return math.inf
    D, others = len(values), len(values) - 1
    n = np.arange(D)  # how many of the other sites are hidden too
    choose = _log_factorials(others)
    choose = choose[-1] - choose - choose[::-1]
    means = [values[0]]  # i = T: all are hidden
    rows = max(1, 2**20 // D)
    for first in range(1, steps, rows):
        p = np.arange(first, min(first + rows, steps))[:, None] / steps
        means.extend(np.exp(choose + n * np.log(p) + (others - n) * np.log1p(-p)) @ values[::-1])
    return D / steps * math.fsum(means)


def _log_factorials(n: int) -> Floats:
    """(n + 1,): log 0!, …, log n!."""
    return np.array([math.lgamma(i + 1) for i in range(n + 1)])


def continuous_cost(curve: ArrayLike) -> float:
    """Expected nats of an item under absorbing diffusion in continuous time, T → ∞: Σ L_t; curve (D,)."""
    return math.fsum(_loss(curve))


def _loss(curve: ArrayLike) -> Floats:
    """One stage of non-negative losses (D,), or ArdmError."""
    values = np.asarray(curve, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ArdmError(f"this takes the loss curve of one stage, of shape (D,); got {values.shape}")
    if np.isnan(values).any():
        raise ArdmError("the loss curve has steps that are NaN (never seen?); use LossCurve.monotone()")
    if values.min() < 0:
        raise ArdmError(f"losses are −log p >= 0; the curve falls to {values.min():.6g}: a sign error?")
    return values


# --- The best schedule ------------------------------------------------------------------------------------------------


def uniform(sites: int, budget: int) -> list[int]:
    """`budget` starts at even distances over 0..sites−1."""
    _check_budget(budget, 1, sites)
    return [k * sites // budget for k in range(budget)]


def optimal(curve: ArrayLike, budget: int) -> list[int]:
    """The `budget` starts of least cost for one stage; curve (D,) non-increasing, in nats.  O(budget · D).

    Raises ArdmError unless the curve is finite, non-negative and non-increasing, and 1 <= budget <= D.
    """
    return frontier(curve, [budget])[budget]


def frontier(curve: ArrayLike, budgets: Iterable[int]) -> dict[int, list[int]]:
    """`optimal` for many budgets at the price of the largest."""
    table = _Table(curve)
    wanted = list(budgets)
    for budget in wanted:
        _check_budget(budget, 1, table.sites)
    return {budget: table.starts(budget) for budget in wanted}


def joint(curves: ArrayLike, budget: int) -> list[list[int]]:
    """The starts of least cost where the stages share the budget, each having one call at least; curves (S, D).

    Greedy, and optimal: a stage's cost is convex in its number of calls.  O((budget + S) · D).
    """
    return remaining(list(_staged(curves)), budget)


def remaining(curves: Sequence[ArrayLike], budget: int) -> list[list[int]]:
    """`joint` where something is known already: the starts of each stage, counted from what is known of it.

    curves: of each stage, the losses L_t of the steps that are left, t from the number known on: rows of any length, and
    a stage of which all is known has an empty row, and no call.
    """
    sites = [int(np.size(row)) for row in curves]
    live = [s for s, n in enumerate(sites) if n]
    _check_budget(budget, len(live), sum(sites))
    if budget == sum(sites):  # nothing to choose, whatever the losses
        return [list(range(n)) for n in sites]
    tables = [_Table(row) if n else None for row, n in zip(curves, sites, strict=True)]
    calls = [min(n, 1) for n in sites]

    def gain(stage: int) -> float:
        table = tables[stage]
        return 0.0 if table is None else table.cost(calls[stage]) - table.cost(calls[stage] + 1)

    gains = {s: gain(s) for s in live}
    for _ in range(budget - len(live)):
        best = max(live, key=lambda s: gains[s])
        calls[best] += 1
        gains[best] = gain(best)
    return [[] if table is None else table.starts(n) for table, n in zip(tables, calls, strict=True)]


def _staged(curves: ArrayLike) -> Floats:
    values = np.asarray(curves, dtype=float)
    if values.ndim != 2 or not values.size:
        raise ArdmError(f"this takes the loss curves of all stages, of shape (S, D); got {values.shape}")
    return values


def _check_budget(budget: int, least: int, most: int) -> None:
    if not least <= budget <= most:
        raise ArdmError(f"the budget of network calls must be in {least}..{most} here; got {budget}")


class _Table:
    """The layers of the dynamic programme over one curve, computed as far as they are asked for."""

    def __init__(self, curve: ArrayLike) -> None:
        values = _loss(curve)
        endless = int(np.isinf(values).sum())
        if endless:
            raise ArdmError(
                f"{endless} of the {len(values)} losses are not finite: the model calls symbols impossible that do occur, "
                "and no plan costs less than another"
            )
        rises = np.flatnonzero(np.diff(values) > 0)
        if len(rises):
            raise ArdmError(
                f"the loss curve rises after {len(rises)} of its steps, first after {rises[0]}; a planner would take "
                "noise for gain: call LossCurve.monotone() first"
            )
        self.sites = len(values)
        self._curve: list[float] = values.tolist()
        self._best = [0.0] + [math.inf] * self.sites  # C[k, ·] of the last layer
        self._costs: list[float] = [math.inf]  # C[·, D]
        self._back: list[NDArray[Any]] = []

    def cost(self, calls: int) -> float:
        """C[calls, D]; infinite for more calls than sites."""
        while len(self._costs) <= calls:
            self._best, back = _layer(self._curve, self._best, len(self._back))
            self._back.append(np.array(back, dtype=np.min_scalar_type(self.sites)))
            self._costs.append(self._best[-1])
        return self._costs[calls]

    def starts(self, calls: int) -> list[int]:
        """The way back from D."""
        self.cost(calls)
        path, t = [], self.sites
        for back in reversed(self._back[:calls]):
            t = int(back[t])
            path.append(t)
        return path[::-1]


def _layer(curve: list[float], cost: list[float], first: int) -> tuple[list[float], list[int]]:
    """One more call: best[t] = min over first <= s < t of cost[s] + (t − s) · curve[s], and the s of each t, in O(D).

    cost[s] is finite from s = first on.  `lines` holds, in order of slope, the lines that are yet to be lowest;
    since[i] is the t at which lines[i] falls below lines[i − 1], and lines[head] is the lowest at the present t.
    """
    D = len(curve)
    height = [c - s * slope for s, (c, slope) in enumerate(zip(cost, curve, strict=False))]
    best, back = [math.inf] * (D + 1), [0] * (D + 1)
    lines: list[int] = []
    since: list[float] = []
    head = 0
    for t in range(first + 1, D + 1):
        s, meet = t - 1, 0.0  # line s joins
        while lines:
            rise, fall = height[s] - height[lines[-1]], curve[lines[-1]] - curve[s]
            meet = rise / fall if fall > 0 else math.copysign(math.inf, rise)
            if meet > since[-1]:
                break
            lines.pop()
            since.pop()
        since.append(meet if lines else -math.inf)
        lines.append(s)
        head = min(head, len(lines) - 1)  # only rounding can remove the lowest line
        while head + 1 < len(lines) and since[head + 1] < t:
            head += 1
        s = lines[head]
        best[t], back[t] = cost[s] + (t - s) * curve[s], s
    return best, back


# --- A schedule with its name, for people and for files ---------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """Which steps are taken together, stage by stage.

    starts: of each stage, how many symbols are known before each call: 0 = first < … < last < sites.  sites: D.
    kind: how it was chosen, one of "uniform", "optimal" (each stage for itself, the budget being split evenly), "joint"
    (the stages share the budget) and "given".  nats: the expected cost of an item, None where no curve
    was at hand, or its losses are infinite.
    """

    starts: tuple[tuple[int, ...], ...]
    sites: int
    kind: str = "given"
    nats: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArdmError(f"the kind of a schedule is one of {', '.join(KINDS)}; got {self.kind!r}")
        if not self.starts:
            raise ArdmError("a schedule has at least one stage")
        if self.nats is not None and not 0 <= self.nats < math.inf:
            raise ArdmError(f"the cost of a schedule is a finite number of nats >= 0, or None; got {self.nats}")
        for own in self.starts:
            _check_starts(own, self.sites)

    @classmethod
    def uniform(cls, stages: int, sites: int, budget: int) -> Schedule:
        """Even distances; the budget is split evenly over the stages, earlier ones taking what is left over."""
        return cls(_tuples(uniform(sites, n) for n in _split(stages, sites, budget)), sites, "uniform")

    @classmethod
    def optimal(cls, curve: ArrayLike, budget: int) -> Schedule:
        """The best of each stage for an even split of the budget, as in the paper; curve (S, D), from `monotone`.

        Its cost is on that curve; `priced(curve.expected())` says it without the weights of the fit.
        """
        values = _staged(curve)
        shares = _split(len(values), values.shape[1], budget)
        starts = _tuples(optimal(row, n) for row, n in zip(values, shares, strict=True))
        return cls(starts, values.shape[1], "optimal", _finite(cost(values, starts)))

    @classmethod
    def joint(cls, curve: ArrayLike, budget: int) -> Schedule:
        """The best of all ways to spend the budget over the stages; curve (S, D), from `monotone`; priced as `optimal`."""
        values = _staged(curve)
        starts = _tuples(joint(values, budget))
        return cls(starts, values.shape[1], "joint", _finite(cost(values, starts)))

    @classmethod
    def given(cls, starts: Sequence[Sequence[int]], sites: int) -> Schedule:
        """The schedule with these starts, stage by stage."""
        return cls(_tuples(starts), sites)

    def priced(self, curve: ArrayLike) -> Schedule:
        """The same schedule with its cost on a curve (S, D): another's, that of held-out data, or its first."""
        return Schedule(self.starts, self.sites, self.kind, _finite(cost(curve, self.starts)))

    @property
    def stages(self) -> int:
        """The number S of stages."""
        return len(self.starts)

    @property
    def calls(self) -> int:
        """How often the network is called, over all stages."""
        return sum(map(len, self.starts))

    def widths(self) -> tuple[tuple[int, ...], ...]:
        """How many sites each call tells, stage by stage."""
        return _tuples(_widths(own, self.sites) for own in self.starts)

    def flat(self) -> list[int]:
        """The starts numbered through all stages, stage · sites + start: what `Plan.coarsen` takes."""
        return [s * self.sites + start for s, own in enumerate(self.starts) for start in own]

    def bits_per_dim(self) -> float:
        """Expected bits per site (all stages together); NaN where the cost is not known."""
        return math.nan if self.nats is None else self.nats / (self.sites * math.log(2))

    def __str__(self) -> str:
        price = "" if self.nats is None else f", {self.bits_per_dim():.4f} bits/dim"
        stages = f"{self.stages} stages of " * (self.stages > 1)
        calls = f"{self.calls} call{'s' * (self.calls > 1)}"
        lines = [f"{self.kind} schedule: {calls} for {stages}{self.sites} sites{price}", _row(*_TITLES)]
        for s, (own, widths) in enumerate(zip(self.starts, self.widths(), strict=True)):
            span = f"{min(widths)}–{max(widths)}" if min(widths) < max(widths) else str(widths[0])
            lines.append(_row(str(s), str(len(own)), span, _listed(own)))
        return "\n".join(lines)

    def to_json(self) -> str:
        """One line of JSON."""
        values = {"ardm-schedule": 1, "kind": self.kind, "sites": self.sites, "nats": self.nats, "starts": self.starts}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """The inverse of `to_json`; ArdmError says what is wrong."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArdmError(f"the schedule is not JSON: {error}") from None
        wanted = {"ardm-schedule", "kind", "sites", "nats", "starts"}
        if not isinstance(values, dict) or set(values) != wanted:
            raise ArdmError(f"a schedule is a JSON object with {', '.join(sorted(wanted))}, no more, no less")
        if values["ardm-schedule"] != 1:
            raise ArdmError(f"the schedule has format {values['ardm-schedule']!r}; this version of ardm reads 1")
        _check_types(values)
        return cls(_tuples(values["starts"]), values["sites"], values["kind"], values["nats"])

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file."""
        try:
            Path(path).write_text(self.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise ArdmError(f"cannot write the schedule to {path}: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Read what `save` wrote; ArdmError says what is wrong with the file."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ArdmError(f"cannot read the schedule {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ArdmError(f"{path} is no schedule: it is not text") from None
        except ArdmError as error:
            raise ArdmError(f"{path}: {error}") from None


_TITLES = ("stage", "calls", "widths", "known before each call")


def _finite(nats: float) -> float | None:
    return nats if nats < math.inf else None


def _row(stage: str, calls: str, widths: str, starts: str) -> str:
    """A line of the table; long starts go on below themselves."""
    left = f"{stage:>5}  {calls:>5}  {widths:>11}  "
    return textwrap.fill(starts, width=110, initial_indent=left, subsequent_indent=" " * len(left))


def _listed(starts: Sequence[int], most: int = 128) -> str:
    """The numbers, or the first and last of too many."""
    shown = [str(start) for start in starts]
    if len(shown) > most:
        shown = [*shown[: most // 2], "…", *shown[-most // 2 :]]
    return " ".join(shown)


def _tuples(lists: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(n) for n in own) for own in lists)


def _split(stages: int, sites: int, budget: int) -> list[int]:
    """The budget in equal parts, larger ones first."""
    if stages < 1:
        raise ArdmError(f"a schedule has at least one stage; got {stages}")
    _check_budget(budget, stages, stages * sites)
    return [budget // stages + (s < budget % stages) for s in range(stages)]


def _check_types(values: Mapping[str, Any]) -> None:
    """JSON knows many things that are no schedule."""
    starts, sites, nats = values["starts"], values["sites"], values["nats"]
    if not isinstance(values["kind"], str):
        raise ArdmError(f"kind is a string; got {values['kind']!r}")
    if type(sites) is not int:
        raise ArdmError(f"sites is a whole number; got {sites!r}")
    if nats is not None and type(nats) not in (int, float):
        raise ArdmError(f"nats is a number or null; got {nats!r}")
    lists = isinstance(starts, list) and all(isinstance(own, list) for own in starts)
    if not lists or any(type(start) is not int for own in starts for start in own):
        raise ArdmError("starts is a list of lists of whole numbers, one list a stage")
