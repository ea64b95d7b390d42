"""Which steps to take together: dynamic programming over L_t.

Let L_t be the expected −log p, in nats, of one more symbol when t of D are known.  In a random order every hidden symbol
is equally likely to come next, so that revealing k of them by one call at t known costs exactly k · L_t in expectation.
A schedule with K calls, 0 = t_0 < t_1 < … < t_{K−1} < t_K = D, therefore costs

    Σ_j (t_{j+1} − t_j) · L_{t_j}                                      (Hoogeboom et al. 2022, section 3.1)

and the best one is found by dynamic programming over the loss curve (the same section; Watson et al. 2021):

    C[0, 0] = 0,     C[k, t] = min over s < t of  C[k−1, s] + (t − s) · L_s,     answer C[K, D].

L does not increase, since more context cannot hurt a calibrated model.  Then C[K, D] is convex in K, each further call
gains no more than the one before, and no table of K rows is needed: with a fee for each call instead of a budget, one row
is left, and `cheapest` searches for the fee that makes K calls worth while.  Several stages (depth upscaling, section 3.2)
share a budget best if they share the fee.

D3PM-absorbing with T steps lets every symbol jump at its own step, uniform over the T.  When a symbol jumps with a share
i/T hidden, each other symbol is hidden with that probability, so the same network would cost

    (D / T) Σ_{i=1..T} E[L_{D−1−n}],  n ~ Binomial(D − 1, i/T)         = Σ_i 1/i Σ_k Binomial(k; D, i/T) · k · L_{D−k},

a mean over random partitions into at most T groups: never better than the best schedule of T calls.  As T → ∞ it falls
to Σ_t L_t, the cost of one call a symbol: continuous time and a random order are the same model (appendix C).

All costs are nats of an item; only `Schedule.bits_per_dim` divides.  `starts` count the symbols known *before* a call,
within their stage; `Schedule.flat` numbers them through all stages.  NumPy, no torch.  S stages, D sites.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ardm.cheapest import cheapest
from ardm.errors import ArdmError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

KINDS = ("uniform", "optimal", "joint", "given")
"""How the steps of a schedule were chosen."""


# --- what a schedule costs --------------------------------------------------------------------------------------------


def cost(curve: ArrayLike, starts: Sequence[int] | Sequence[Sequence[int]]) -> float:
    """Σ width · L_start, the expected nats of an item.

    curve: (D,) with the starts of one stage, or (S, D) with one list of starts for each stage.
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
    """Raise ArdmError unless 0 = first < … < last < sites."""
    first = list(starts)
    whole = all(isinstance(start, (int, np.integer)) for start in first)
    if not whole or not first or first[0] != 0 or first[-1] >= sites or any(a >= b for a, b in pairwise(first)):
        shown = ", ".join(map(str, first[:8])) + ", …" * (len(first) > 8)
        raise ArdmError(f"the starts of a stage begin with 0 and increase strictly below {sites}; got [{shown}]")


def absorbing_cost(curve: ArrayLike, steps: int) -> float:
    """The expected nats of an item under D3PM-absorbing with T = `steps` uniform steps of the same network; curve (D,)."""
    values = _loss(curve)
    if not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ArdmError(f"D3PM takes at least one step, and no part of one; got {steps}")
    if np.isinf(values if steps > 1 else values[:1]).any():  # every step may occur
        return math.inf
    D, others = len(values), len(values) - 1
    n = np.arange(D)  # how many other sites are hidden
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
    """The expected nats of an item under absorbing diffusion in continuous time, T → ∞: Σ L_t; curve (D,)."""
    return math.fsum(_loss(curve))


def _loss(curve: ArrayLike) -> Floats:
    """A curve of one stage (D,); raises ArdmError for NaN and negative losses."""
    values = np.asarray(curve, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ArdmError(f"this takes the loss curve of one stage, of shape (D,); got {values.shape}")
    if np.isnan(values).any():
        raise ArdmError("the loss curve has steps that are NaN (never seen?); use LossCurve.monotone()")
    if values.min() < 0:
        raise ArdmError(f"losses are −log p >= 0; the curve falls to {values.min():.6g}: a sign error?")
    return values


# --- the best schedule ------------------------------------------------------------------------------------------------


def uniform(sites: int, budget: int) -> list[int]:
    """`budget` evenly spaced starts in 0..sites−1."""
    _check_budget(budget, 1, sites)
    return [k * sites // budget for k in range(budget)]


def optimal(curve: ArrayLike, budget: int) -> list[int]:
    """The `budget` starts of least cost for one stage; curve (D,) in nats, non-increasing.  In O(D) memory.

    Raises ArdmError unless the curve is finite, non-negative and non-increasing, and 1 <= budget <= D.
    """
    values = _falling(curve)
    _check_budget(budget, 1, len(values))
    return cheapest([values], budget)[0]


def joint(curves: ArrayLike, budget: int) -> list[list[int]]:
    """The starts of least cost if the stages share the budget, with at least one call each; curves (S, D)."""
    return remaining(list(_staged(curves)), budget)


def remaining(curves: Sequence[ArrayLike], budget: int) -> list[list[int]]:
    """`joint` where some symbols are known already: the starts of each stage, counted from those known.

    curves: for each stage the losses L_t of the remaining steps, from t = the number known: rows of any length.  A stage
    that is fully known has an empty row, and gets no call.
    """
    sites = [int(np.size(row)) for row in curves]
    live = [s for s, n in enumerate(sites) if n]
    _check_budget(budget, len(live), sum(sites))
    if budget == sum(sites):  # one call a symbol, whatever the losses
        return [list(range(n)) for n in sites]
    starts: list[list[int]] = [[] for _ in sites]
    for s, own in zip(live, cheapest([_falling(curves[s]) for s in live], budget), strict=True):
        starts[s] = own
    return starts


def _staged(curves: ArrayLike) -> Floats:
    values = np.asarray(curves, dtype=float)
    if values.ndim != 2 or not values.size:
        raise ArdmError(f"this takes the loss curves of all stages, of shape (S, D); got {values.shape}")
    return values


def _check_budget(budget: int, least: int, most: int) -> None:
    if not isinstance(budget, (int, np.integer)) or not least <= budget <= most:
        raise ArdmError(f"the budget of network calls must be in {least}..{most} here; got {budget}")


def _falling(curve: ArrayLike) -> Floats:
    """A curve of one stage (D,) to plan with; raises ArdmError where a loss is infinite or rises."""
    values = _loss(curve)
    endless = int(np.isinf(values).sum())
    if endless:
        raise ArdmError(
            f"{endless} of the {len(values)} losses are not finite: the model calls symbols impossible that do occur, "
            "so that every plan costs the same"
        )
    rises = np.flatnonzero(np.diff(values) > 0)
    if len(rises):
        raise ArdmError(
            f"the loss curve rises after {len(rises)} of its steps, first after {rises[0]}; a planner would mistake "
            "noise for gain: call LossCurve.monotone() first"
        )
    return values


# --- schedules as text and as files ---------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """Which steps are taken together, stage by stage.

    starts: for each stage, how many symbols are known before each call: 0 = first < … < last < sites.  sites: D.
    kind: how it was chosen: "uniform", "optimal" (each stage alone, with an equal share of the budget), "joint" (the
    stages share the budget) or "given".  nats: the expected cost of an item; None without a curve or with infinite losses.
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
        """Evenly spaced starts; each stage gets an equal share of the budget, and the first ones the remainder."""
        return cls(_tuples(uniform(sites, n) for n in _split(stages, sites, budget)), sites, "uniform")

    @classmethod
    def optimal(cls, curve: ArrayLike, budget: int) -> Schedule:
        """The best schedule with an equal share of the budget for each stage, as in the paper; curve (S, D), from `monotone`.

        Its cost is on that curve; `priced(curve.expected())` prices it without the weights of the fit.
        """
        values = _staged(curve)
        shares = _split(len(values), values.shape[1], budget)
        starts = _tuples(optimal(row, n) for row, n in zip(values, shares, strict=True))
        return cls(starts, values.shape[1], "optimal", _finite(cost(values, starts)))

    @classmethod
    def joint(cls, curve: ArrayLike, budget: int) -> Schedule:
        """The best schedule whose stages share the budget; curve (S, D), from `monotone`; priced as `optimal`."""
        values = _staged(curve)
        starts = _tuples(joint(values, budget))
        return cls(starts, values.shape[1], "joint", _finite(cost(values, starts)))

    @classmethod
    def given(cls, starts: Sequence[Sequence[int]], sites: int) -> Schedule:
        """The schedule with these starts for each stage."""
        return cls(_tuples(starts), sites)

    def priced(self, curve: ArrayLike) -> Schedule:
        """The same schedule with its cost on another curve (S, D), such as one of held-out data."""
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
        """How many sites each call reveals, stage by stage."""
        return _tuples(_widths(own, self.sites) for own in self.starts)

    def flat(self) -> list[int]:
        """The starts numbered through all stages, stage · sites + start: what `Plan.coarsen` takes."""
        return [s * self.sites + start for s, own in enumerate(self.starts) for start in own]

    def bits_per_dim(self) -> float:
        """Expected bits per site, all stages together; NaN where the cost is unknown."""
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
        """The inverse of `to_json`; raises ArdmError for anything else."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArdmError(f"the schedule is not JSON: {error}") from None
        wanted = {"ardm-schedule", "kind", "sites", "nats", "starts"}
        if not isinstance(values, dict) or set(values) != wanted:
            raise ArdmError(f"a schedule is a JSON object with exactly {', '.join(sorted(wanted))}")
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
        """Read what `save` wrote; raises ArdmError for a file that is missing or no schedule."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ArdmError(f"cannot read the schedule {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ArdmError(f"{path} is not a schedule: it is not text") from None
        except ArdmError as error:
            raise ArdmError(f"{path}: {error}") from None


_TITLES = ("stage", "calls", "widths", "known before each call")


def _finite(nats: float) -> float | None:
    return nats if nats < math.inf else None


def _row(stage: str, calls: str, widths: str, starts: str) -> str:
    """A line of the table; long starts wrap."""
    left = f"{stage:>5}  {calls:>5}  {widths:>11}  "
    return textwrap.fill(starts, width=110, initial_indent=left, subsequent_indent=" " * len(left))


def _listed(starts: Sequence[int]) -> str:
    """The numbers; only the first and last 64 if there are too many."""
    shown = [str(start) for start in starts]
    if len(shown) > 128:
        shown = [*shown[:64], "…", *shown[-64:]]
    return " ".join(shown)


def _tuples(lists: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    try:
        return tuple(tuple(index(n) for n in own) for own in lists)
    except TypeError:
        raise ArdmError("starts are lists of whole numbers, one for each stage") from None


def _split(stages: int, sites: int, budget: int) -> list[int]:
    """The budget in equal parts, the larger ones first."""
    if stages < 1:
        raise ArdmError(f"a schedule has at least one stage; got {stages}")
    _check_budget(budget, stages, stages * sites)
    return [budget // stages + (s < budget % stages) for s in range(stages)]


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise ArdmError for JSON values of the wrong type."""
    starts, sites, nats = values["starts"], values["sites"], values["nats"]
    if not isinstance(values["kind"], str):
        raise ArdmError(f"kind is a string; got {values['kind']!r}")
    if type(sites) is not int:
        raise ArdmError(f"sites is a whole number; got {sites!r}")
    if nats is not None and type(nats) not in (int, float):
        raise ArdmError(f"nats is a number or null; got {nats!r}")
    lists = isinstance(starts, list) and all(isinstance(own, list) for own in starts)
    if not lists or any(type(start) is not int for own in starts for start in own):
        raise ArdmError("starts is a list of lists of whole numbers, one list per stage")
