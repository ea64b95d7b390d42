"""The picture of an audit: reliability curves, and the planned against the measured cost of each budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

PANELS = {"share known": "by share of known sites", "at once": "by sites revealed at once"}
"""The two groupings of reliability curves."""
FEW = 20
"""A bin with fewer answers is not drawn."""


class Curve(Protocol):
    """A reliability curve."""

    by: str
    group: str
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error."""


class Cost(Protocol):
    """A budget of calls, with planned and measured nats of an item, its values, and the error of bits per value."""

    calls: int
    planned: float
    measured: float
    sites: float
    dim_error: float


class Audited(Protocol):
    """What is drawn of a report."""

    @property
    def calibration(self) -> Sequence[Any]:
        """Reliability curves."""

    @property
    def budgets(self) -> Sequence[Any]:
        """Budgets of calls."""

    @property
    def dim(self) -> str:
        """What a value is called."""

    def bits_per_dim(self, nats: float, sites: float = 0.0) -> float:
        """Nats of an item in bits per value."""


def plot_audit(found: Audited, path: Path, title: str) -> None:
    """Save a picture with a panel for each grouping of reliability, and one for budgets where there are any."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "ardm"}):
        count = len(PANELS) + bool(found.budgets)
        figure = Figure(figsize=(4.2 * count, 4.2), layout="constrained")
        panels = figure.subplots(1, count)
        for axes, (by, said) in zip(panels, PANELS.items(), strict=False):
            _reliability(axes, [r for r in found.calibration if r.by == by], said)
        if found.budgets:
            _budgets(panels[-1], found)
        figure.suptitle(title)
        figure.savefig(path, dpi=130)


def _reliability(axes: Any, curves: Sequence[Curve], said: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.75", lw=1, ls="--")
    for row, curve in enumerate(curves):
        label = f"{curve.group}: ECE {curve.ece:.3f}"
        rows = zip(curve.confidence, curve.accuracy, curve.count, strict=True)
        points = [(p, hit) for p, hit, n in rows if n >= FEW]
        axes.plot(
            *zip(*points or [(math.nan, math.nan)], strict=True), "o-", ms=3, lw=1.2, color=f"C{row}", label=label
        )
    axes.set(xlabel="confidence", ylabel="share that is right", title=said, xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(frameon=False, fontsize=8)


def _budgets(axes: Any, found: Audited) -> None:
    calls = [b.calls for b in found.budgets]
    planned, measured = (
        np.array([found.bits_per_dim(getattr(b, name), b.sites) for b in found.budgets])
        for name in ("planned", "measured")
    )
    error = np.array([b.dim_error for b in found.budgets])
    axes.errorbar(calls, measured, np.nan_to_num(error), fmt="o", ms=4, capsize=2, color="C3", label="measured ± error")
    axes.plot(calls, planned, "-", color="black", lw=1.2, label="planned")
    axes.set(xlabel="network calls", ylabel=f"bits/{found.dim}", title="cost of a budget", xscale="log")
    axes.minorticks_off()
    axes.set_xticks(calls, [str(n) for n in calls])
    axes.legend(frameon=False)
