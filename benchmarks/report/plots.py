"""Plots of the report: rates and losses, and the density benchmark beside the literature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import Results
from published import ANY_ORDER, DENSITY

SETS = ("adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters")
OURS = {
    "1 order": "1 order, all items",
    "mean over random orders": "random orders, all items",
    "16 orders": "16 orders, all items",
    "128 orders": "128 orders, all items",
}
COLOURS = {"planned": "#0b6e4f", "split": "#7fb069", "uniform": "#c1666b", "absorbing": "#4b5d8f"}
CURVES = {
    "text": ("text-any-order", "Text, 27 letters", "bits per character"),
    "pictures": ("pictures-any-order", "MNIST at 14×14", "bits per pixel"),
    "images": ("bundled-curve", "CIFAR-10, the bundled any-order model", "bits per dimension"),
    "images-4": ("images-upscale-4-mixture", "CIFAR-10, upscaling by 4", "bits per dimension"),
    "speech": ("speech-any-order", "Speech, 16 bits", "bits per sample"),
    "speech-4": ("speech-upscale-4", "Speech, upscaling by 4", "bits per sample"),
}
"""Result, title and unit of the plots of rates and losses."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw every plot that has results."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    if any(f"density-{s}" in results for s in SETS):
        made.append(_bars(results, folder / "density.png"))
    for key, (name, title, unit) in CURVES.items():
        if name in results:
            made.append(_rates(results[name], title, unit, folder / f"rates-{key}.png"))
    return made


def _axes(ax: Any, title: str) -> None:
    ax.set_title(title, fontsize=11, loc="left")
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _rates(found: Mapping[str, Any], title: str, unit: str, path: Path) -> Path:
    """Left: rate against calls, by kind of schedule.  Right: losses by step, measured and fitted."""
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), constrained_layout=True)
    rates, labels = found["tables"]["rates"], {"planned": "planned", "split": "planned, split evenly over the stages"}
    for kind in ("absorbing", "uniform", "split", "planned"):
        if rates[kind][0] is None or (kind == "split" and found["tables"]["stages"] == 1):
            continue
        label = {**labels, "absorbing": "absorbing diffusion"}.get(kind, kind)
        left.plot(rates["calls"], rates[kind], color=COLOURS[kind], label=label, linewidth=1.8)
    marks = [(int(k.split()[0]), f) for k, f in found["figures"].items() if k.endswith(" calls") and k[0].isdigit()]
    if marks:
        at, values, errors = zip(*((n, f["value"], f.get("error", 0.0)) for n, f in marks), strict=True)
        left.errorbar(at, values, errors, fmt="o", color="#222222", markersize=4, label="planned, measured")
    left.set_xscale("log")
    left.set_xlabel("network calls")
    left.set_ylabel(unit)
    left.legend(frameon=False, fontsize=9)
    _axes(left, f"{title}: rate against calls")
    sites, offset = found["tables"]["sites"], 0
    for s, row in enumerate(found["tables"]["losses"]):
        at = [offset + k for k in row["known"]]
        right.plot(at, row["bits"], "o", color="#4b5d8f", markersize=4, label=None if s else "measured, in bins")
        right.plot(at, row["fitted"], color="#0b6e4f", label=None if s else "not increasing")
        offset += sites
    right.set_xlabel("known symbols, stage after stage" if len(found["tables"]["losses"]) > 1 else "known symbols")
    right.set_ylabel("bits for one more symbol")
    right.legend(frameon=False, fontsize=9)
    _axes(right, "Loss per step, held out")
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path


def _bars(results: Results, path: Path) -> Path:
    """One panel per set: the literature, and ours by number of orders."""
    from matplotlib import pyplot as plt

    fig, panels = plt.subplots(2, 3, figsize=(10.5, 6), constrained_layout=True)
    for ax, name in zip(panels.flat, SETS, strict=True):
        labels, values, errors, colours = [], [], [], []
        for rival in DENSITY:
            labels.append(rival)
            values.append(DENSITY[rival][name])
            errors.append(0.0)
            colours.append("#4b5d8f" if rival in ANY_ORDER else "#8d9bbd")
        figures = results.get(f"density-{name}", {}).get("figures", {})
        for ours, key in OURS.items():
            if key in figures:
                labels.append(f"ardm, {ours.replace('mean over random', 'random')}")
                values.append(figures[key]["value"])
                errors.append(figures[key].get("error", 0.0))
                colours.append("#0b6e4f")
        places = range(len(labels))
        ax.barh(places, values, xerr=errors, color=colours, error_kw={"linewidth": 1})
        ax.set_yticks(places, labels, fontsize=8)
        ax.invert_yaxis()
        low, high = min(values), max(values)
        left = low - 0.5 * (high - low) - 0.005 * low
        ax.set_xlim(left, high + 0.1 * (high - low))
        for place, v in zip(places, values, strict=True):
            ax.text(left, place, f" {v:.2f}", va="center", fontsize=8, color="white", fontweight="bold")
        _axes(ax, f"{name}, nats (axis cut)")
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path
