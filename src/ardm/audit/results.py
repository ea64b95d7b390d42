"""What an audit finds: figures with their kind, budgets, reliability curves, checks; as values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = ("bound", "exact", "coded")
"""On average at least −log p · −log p along one plan · the length of a stream that was decoded again."""
WORDS = {True: "yes", False: "NO", None: "does not apply"}
"""Whether a check passed."""
BINS = 10
"""Intervals of confidence in a reliability curve."""


@dataclass(frozen=True)
class Figure:
    """One figure: the mean nats of an item with their standard error over items (NaN: unknown).

    kind: one of `KINDS`.  items: how many.  calls: network calls (NFE) of an item; NaN where they are unknown.
    plan: the order, in words.  sites: the mean number of dimensions of these items.  dim_error: the standard error of bits per
    dimension, a ratio where items differ in size (`Estimate.bits_per_dim_error`).
    """

    name: str
    kind: str
    nats: float
    error: float
    items: int
    calls: float
    plan: str
    sites: float
    dim_error: float


@dataclass(frozen=True)
class Budget:
    """A number of network calls: the nats of an item that were planned, and those measured along random orders.

    error, items, sites, dim_error: see `Figure`.
    """

    calls: int
    planned: float
    measured: float
    error: float
    items: int
    sites: float
    dim_error: float


@dataclass(frozen=True)
class Reliability:
    """How often the most likely value is right, by the probability that it was given.

    by: "share known" or "at once".  group: which share, or how many.  confidence, accuracy, count: of each bin that is not
    empty.  With n sites revealed at once, an answer is right if all n values are, and its confidence is the product of theirs,
    which is what a parallel step assumes.
    """

    by: str
    group: str
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]

    @classmethod
    def of(cls, by: str, group: str, confidence: ArrayLike, right: ArrayLike) -> Reliability:
        """Sort answers (N,) into bins of equal width."""
        p, hit = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
        bins = np.minimum((p * BINS).astype(int), BINS - 1)
        count = np.bincount(bins, minlength=BINS)
        full = np.flatnonzero(count)
        mean = [tuple((np.bincount(bins, v, BINS)[full] / count[full]).tolist()) for v in (p, hit)]
        return cls(by, group, mean[0], mean[1], tuple(count[full].tolist()))

    @property
    def answers(self) -> int:
        """How many were given."""
        return sum(self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of accuracy from confidence (Guo et al. 2017); NaN if empty."""
        p, hit, n = self._arrays()
        return float((n * np.abs(p - hit)).sum() / n.sum()) if n.size else math.nan

    @property
    def chance(self) -> float:
        """The error that a calibrated model shows by chance, because bins hold few answers."""
        p, _, n = self._arrays()
        return float(np.sqrt(2 / np.pi * p * (1 - p) * n).sum() / n.sum()) if n.size else math.nan

    def _arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return np.array(self.confidence), np.array(self.accuracy), np.array(self.count)


@dataclass(frozen=True)
class Check:
    """One property of a sound likelihood.  passed: None where it does not apply.  detail: what was found, in words."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Report:
    """Everything that an audit found.

    about: model, identity, data, seed, versions.  sites: D, or the mean where items have an end.  item, dim: what an item and a dimension are called.
    bytes_per_item: of a text, 0 for other data; NaN never.
    """

    about: Mapping[str, Any]
    sites: float
    item: str
    dim: str
    bytes_per_item: float
    figures: tuple[Figure, ...]
    budgets: tuple[Budget, ...]
    calibration: tuple[Reliability, ...]
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the model's likelihood cannot be trusted; empty if nothing was found."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if check.passed is False)

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against the likelihood."""
        return not self.reasons

    def figure(self, name: str) -> Figure | None:
        """The figure of this name."""
        return next((f for f in self.figures if f.name == name), None)

    def bits_per_dim(self, nats: float, sites: float = 0.0) -> float:
        """Nats of an item in bits per dimension; sites: of the items of a figure, where they are some of all (0: all)."""
        return nats / (sites or self.sites) / math.log(2)

    def perplexity(self, nats: float, sites: float = 0.0) -> float:
        """Perplexity of a token (a value) from the nats of an item; +∞ where it is beyond floats."""
        each = nats / (sites or self.sites)
        return math.exp(each) if each < 700 else math.inf

    def bits_per_byte(self, nats: float, sites: float = 0.0) -> float:
        """Bits a byte of text from the nats of an item; NaN for other data."""
        return self.bits_per_dim(nats, sites) * self.sites / self.bytes_per_item if self.bytes_per_item else math.nan

    def __str__(self) -> str:
        about = self.about
        identity = f" ({about['identity']})" if about.get("identity") else ""
        lines = [f"{about['model']}{identity} on {about['items']} items, seed {about['seed']}"]
        lines += [f"{f.name}: {self._rate(f, f.nats)}, {f.kind}, {f.calls:g} calls; {f.plan}" for f in self.figures]
        lines += [
            f"{b.calls} calls: {self._rate(b, b.measured)}, planned {self.bits_per_dim(b.planned, b.sites):.4f}"
            for b in self.budgets
        ]
        lines += [f"calibration, {r.group}: ECE {r.ece:.4f}, by chance {r.chance:.4f}" for r in self.calibration]
        lines += [f"{c.name}: {WORDS[c.passed]}, {c.detail}" for c in self.checks]
        return "\n".join([*lines, *(f"unsound: {reason}" for reason in self.reasons), *["sound: no check failed"] * self.sound])  # fmt: skip

    def _rate(self, of: Figure | Budget, nats: float) -> str:
        """Nats in bits per dimension, with their error where that is known."""
        known = "" if math.isnan(of.dim_error) else f" ± {of.dim_error:.4f}"
        return f"{self.bits_per_dim(nats, of.sites):.4f}{known} bits/{self.dim}"

    def to_values(self) -> dict[str, Any]:
        """All of it for JSON, every figure in all its units; unknown numbers are None, infinite ones "inf"."""
        values = {
            "about": dict(self.about) | {"sites": self.sites, "item": self.item, "dimension": self.dim},
            "sound": self.sound,
            "reasons": list(self.reasons),
            "figures": [self._units(f, f.nats) for f in self.figures],
            "budgets": [self._units(b, b.measured) | {"planned_bits_per_dim": self.bits_per_dim(b.planned, b.sites)} for b in self.budgets],
            "calibration": [asdict(r) | {"ece": r.ece, "ece_by_chance": r.chance} for r in self.calibration],
            "checks": [asdict(c) for c in self.checks],
            "units": UNITS,
        }  # fmt: skip
        found: dict[str, Any] = plain(values)
        return found

    def _units(self, of: Figure | Budget, nats: float) -> dict[str, Any]:
        """A figure with its nats in other units, for JSON."""
        found = asdict(of)
        found |= {"bits_per_dim": self.bits_per_dim(nats, of.sites), "bits_per_dim_error": found.pop("dim_error")}
        if self.bytes_per_item:
            found |= {
                "perplexity": self.perplexity(nats, of.sites),
                "bits_per_byte": self.bits_per_byte(nats, of.sites),
            }
        return found


UNITS = {
    "nats, error": "nats per item, mean and standard error over items",
    "sites": "dimensions (values) of an item, a mean over the items of the figure",
    "bits_per_dim": "bits per dimension (value) of an item",
    "perplexity": "of a token (value)",
    "bits_per_byte": "bits per byte of text",
    "planned, measured": "nats per item",
    "calls": "network calls (NFE) per item",
    "ece": "a probability",
}


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
