"""Plot a comparison: bits per sample against seconds; our levels are a line beside the classical codecs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from ardm.bench.compare import Comparison, Row, seconds

ENDINGS = (".png", ".svg", ".pdf")
OURS, THEIRS, TEXT, GRID = "#c2410c", "#33608c", "#333333", "#e4e4e4"
Box: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""
_LINE = 10.5
"""Points between two lines of labels."""


def draw(compared: Comparison, path: Path) -> None:
    """Save two panels with a common scale of rates: logarithmic time to encode and to decode an item."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in compared.rows if row.measured]
    with mpl.rc_context({"svg.hashsalt": "ardm", "font.size": 9, "axes.edgecolor": "#999999"}):
        figure = Figure(figsize=(11, 5.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, what in zip(panels, ("encode", "decode"), strict=True):
            _points(axes, compared, rows, [_time(row, what) for row in rows])
            axes.set_xlabel(f"time to {what} an item", color=TEXT)
        panels[0].set_ylabel("bits per sample, headers included: lower is smaller", color=TEXT)
        figure.suptitle(textwrap.fill(compared.title, 110), fontsize=10, color=TEXT)
        figure.canvas.draw()  # fixes the layout before labels are placed
        for axes, what in zip(panels, ("encode", "decode"), strict=True):
            _label(axes, compared, rows, [_time(row, what) for row in rows])
        figure.savefig(path, dpi=figure.dpi)


def _time(row: Row, what: str) -> float:
    return max(row.encoding if what == "encode" else row.decoding, 1e-7)


def _points(axes: Any, compared: Comparison, rows: Sequence[Row], times: Sequence[float]) -> None:
    own = [(t, compared.rate(row.bytes)) for row, t in zip(rows, times, strict=True) if row.ours]
    theirs = [(t, compared.rate(row.bytes)) for row, t in zip(rows, times, strict=True) if not row.ours]
    if theirs:
        axes.plot(*zip(*theirs, strict=True), "o", ms=6, color=THEIRS, mec="white", mew=0.8, zorder=3)
    if own:
        axes.plot(*zip(*own, strict=True), "o-", ms=6, lw=1.8, color=OURS, mec="white", mew=0.8, zorder=4)
    if compared.best:
        axes.axhline(compared.rate(compared.best.bytes), color=THEIRS, lw=0.8, ls=(0, (4, 3)), alpha=0.7, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda t, place: seconds(t))
    low, high = min(times), max(times)
    axes.set_xlim(low / 2, high * 8)  # room for labels to the right of the last points
    axes.margins(y=0.08)
    axes.grid(color=GRID, lw=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=TEXT, which="both", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Any, compared: Comparison, rows: Sequence[Row], times: Sequence[float]) -> None:
    """Write each name beside its point, and move names that would overlap another name or a point."""
    from matplotlib.patheffects import withStroke

    scale = 72 / axes.figure.dpi
    rates = [compared.rate(row.bytes) for row in rows]
    points = [tuple(axes.transData.transform(point) * scale) for point in zip(times, rates, strict=True)]
    inside = (axes.bbox.x0 * scale, axes.bbox.x1 * scale)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points] + _between(points, rows)
    first = next((row for row in rows if row.ours), None)
    for i in sorted(range(len(rows)), key=lambda i: (not rows[i].ours, -points[i][1])):
        row, (x, y) = rows[i], points[i]
        text = row.name if row is first or not row.calls else row.name.removeprefix("ardm ")
        colour = OURS if row.ours else THEIRS
        width = 5.0 * len(text) + 4
        dx, dy = _free(x, y, width, inside, taken)
        taken.append(_box(x + dx, y + dy, width))
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 4}
        mark = axes.annotate(
            text,
            (times[i], rates[i]),
            xytext=(dx, dy),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
            arrowprops=line if abs(dy) > _LINE else None,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
        )
        mark.set_in_layout(False)


def _between(points: Sequence[tuple[float, ...]], rows: Sequence[Row]) -> list[Box]:
    """Small boxes along the line through our points."""
    own = [point for point, row in zip(points, rows, strict=True) if row.ours]
    shares = [k / 16 for k in range(17)]
    centres = [(a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1])) for a, b in pairwise(own) for s in shares]
    return [(x - 1, y - 1, x + 1, y + 1) for x, y in centres]


def _box(x: float, y: float, width: float) -> Box:
    return x, y - _LINE / 2, x + width, y + _LINE / 2


def _free(x: float, y: float, width: float, inside: tuple[float, float], taken: Sequence[Box]) -> tuple[float, float]:
    """The nearest free offset for a label, in points: to the right, to the left, above or below."""
    steps = [sign * k * _LINE / 4 for k in range(40) for sign in (1, -1)]
    places = [(dx, dy) for dy in steps for dx in (7.0, -7.0 - width, -width / 2)]
    for dx, dy in sorted(places, key=lambda place: abs(place[1]) + (0 if place[0] > 0 else 6)):
        box = _box(x + dx, y + dy, width)
        if box[0] < inside[0] or box[2] > inside[1]:
            continue
        if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
            return dx, dy
    return 7.0, 0.0
