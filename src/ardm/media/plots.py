"""Plots of loss curves with the schedules that were planned on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ardm.losscurve import LossCurve
from ardm.schedule import Schedule

MARGIN, ROW = -0.02, 0.05
"""Positions of the ticks of schedules below the plot, in fractions of its height."""


def plot_curve(curve: LossCurve, schedules: Sequence[Schedule], path: Path, title: str) -> None:
    """Plot L_t in bits against t, stage after stage, and each schedule as a staircase with ticks below the plot."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    fit = curve.monotone() / np.log(2)
    stages, t = len(fit), np.arange(fit.size)
    with mpl.rc_context({"svg.hashsalt": "ardm"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(t, (curve.mean() / np.log(2)).ravel(), ".", ms=2, color="0.75", label="observed $L_t$")
        axes.plot(t, fit.ravel(), color="black", lw=1.2, label="isotonic fit")
        for row, schedule in enumerate(schedules):
            _staircase(axes, schedule, fit.ravel(), row)
        sites = "known sites $t$" + (" (stage after stage)" if stages > 1 else "")
        axes.set(xlabel=sites, ylabel="bits per symbol", title=title, ylim=(0, None))
        axes.tick_params(axis="x", pad=4 + 13 * len(schedules))
        axes.legend(frameon=False)
        figure.savefig(path, dpi=130)


def _staircase(axes: Any, schedule: Schedule, fit: np.ndarray, row: int) -> None:
    """One schedule: each step at the loss of its first symbol, and a tick where it starts."""
    starts, colour = np.asarray(schedule.flat()), f"C{row}"
    level = fit[starts]
    label = f"{schedule.calls} calls: {schedule.bits_per_dim():.3f} bits/dim"
    edges, heights = np.append(starts, fit.size), np.append(level, level[-1])
    axes.step(edges, heights, where="post", color=colour, lw=1.2, label=label)
    below = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(starts, np.full(len(starts), MARGIN - ROW * row), "|", color=colour, ms=7, **below)
