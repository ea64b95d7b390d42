"""Learned orders against random, Bayer and left-to-right ones, on small pictures and on text.

python benchmarks/learned_orders.py text --data FOLDER --runs FOLDER [--out docs/pictures]

Trains three models by shipped recipes with one body and one budget (a finished run is used again, an interrupted one
resumed): a network of any order; rates for that network, which stays as it is; and a network together with its rates, in
half the batch, since each item is scored in two orders.  Prints a table, in bits per dimension of the same test items, and
writes learned-orders-NAME.json and a picture of the rates.  FOLDER has mnist and text27, as for benchmarks/report/run.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "report"))

import numpy as np
import torch
from common import Result, Setting, evenly, seeded, trained
from torch import Tensor

from ardm import data, likelihood
from ardm import plan as plans
from ardm.bundle import Bundle
from ardm.model import Model
from ardm.plan import Plan
from ardm.ranks import LINES, RANKS

ITEMS = 96
PASSES = 32
"""Test items, and random steps of each of them for a bound."""


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    recipe, folder: of the data.  changes: overrides of the recipe.  rates: how to train rates alone.  joint: how to train
    both together.  orders: named orders to compare with.
    """

    recipe: str
    folder: str
    changes: tuple[str, ...]
    rates: tuple[str, ...]
    joint: tuple[str, ...]
    orders: tuple[str, ...]


KINDS = {
    "text": Kind(
        "laptop/compare-text",
        "text27",
        ("data.length=64", "train.steps=4000", "train.valid_every=1000"),
        ("train.steps=2500",),
        ("train.batch=8", "train.steps=4000"),
        ("raster", "bayer"),
    ),
    "pictures": Kind(
        "laptop/compare-pictures",
        "mnist",
        ("train.steps=1500", "train.valid_every=500"),
        ("train.steps=1200",),
        ("train.batch=8", "train.steps=1500"),
        ("raster", "bayer"),
    ),
}


def items_of(name: str, folder: Path) -> Tensor:
    """Test items, evenly spread over the set."""
    if name == "text":
        x = data.load("text", folder, "test", alphabet="27", length=64).items
    else:
        x = data.load("mnist", folder, "test", size=14).items
    return evenly(x, ITEMS)


def along(order: str, shape: tuple[int, ...]) -> Plan:
    """The plan of a named order, one site a call."""
    if len(shape) == 1:
        return plans.ranked(torch.from_numpy(LINES[order](shape[0])), shape)
    return plans.image(1, shape, RANKS[order](*shape[1:]))


def sorted_by(rates: Tensor) -> Plan:
    """The most likely order: the fastest site first, one a call."""
    return plans.ranked((-rates.flatten()).argsort().argsort(), tuple(rates.shape))


def measure(result: Result, name: str, model: Model, x: Tensor, rates: Tensor | None, orders: tuple[str, ...]) -> None:
    """Add the figures of one model: bounds of random orders and of orders by rates, and exact ones along fixed orders."""
    shape = tuple(x.shape[1:])
    result.estimate(f"{name}, random orders", likelihood.bound(model, x, PASSES, seeded(1)))
    if rates is not None:
        result.estimate(f"{name}, orders by rates", likelihood.bound(model, x, PASSES, seeded(1), rates=rates))
        result.estimate(f"{name}, sorted by rates", likelihood.exact(model, sorted_by(rates), x))
    for order in orders:
        result.estimate(f"{name}, {order}", likelihood.exact(model, along(order, shape), x))


def run(setting: Setting, name: str) -> tuple[Result, dict[str, Tensor]]:
    """Train and measure the models of one kind; also returns the two tables of rates."""
    kind, x = KINDS[name], items_of(name, setting.data / KINDS[name].folder)
    x = x[: setting.items(len(x))]
    small = ("model.width=16", "model.blocks=1", "model.heads=1")

    def train(part: str, *more: str) -> tuple[Bundle, Result]:
        own = Result(f"learned-orders-{name}-{part}")
        return trained(setting, own, kind.recipe, kind.folder, (*kind.changes, *more), small), own

    network, one = train("network")
    init = setting.runs / one.name / "model"
    frozen, two = train("rates", "model.rates=true", "train.frozen=true", f"train.init={init}", *kind.rates)
    joint, three = train("joint", "model.rates=true", *kind.joint)
    result = Result(f"learned-orders-{name}")
    result.budget = {part.name.rsplit("-", 1)[1]: part.budget for part in (one, two, three)}
    measure(result, "network", network.model, x, frozen.model.rates, kind.orders)
    measure(result, "together", joint.model, x, joint.model.rates, kind.orders)
    tables = {"for a given network": frozen.model.rates, "together with a network": joint.model.rates}
    found = {title: rates for title, rates in tables.items() if rates is not None}
    result.tables = {title: np.round(rates.flatten().numpy(), 4).tolist() for title, rates in found.items()}
    return result, found


def draw(tables: dict[str, Tensor], path: Path) -> None:
    """A picture of tables of rates, on a logarithmic scale: maps of images, curves of sequences."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (title, rates) in zip(figure.subplots(1, len(tables)), tables.items(), strict=True):
        logs = rates.log2().numpy()
        axes.set_title(title)
        if logs.ndim == 1:
            axes.plot(logs, ".-", color="black", lw=0.8)
            axes.set(xlabel="site", ylabel="log2 of the rate")
        else:
            image = axes.imshow(logs.mean(0), cmap="RdBu_r", vmin=-abs(logs).max(), vmax=abs(logs).max())
            figure.colorbar(image, label="log2 of the rate")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table of one kind of data, and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(KINDS))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/learned-orders"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--quick", action="store_true", help="smoke test with a few steps and items")
    options = parser.parse_args()
    setting = Setting(options.data, options.runs, options.quick, partial(print, flush=True))
    result, tables = run(setting, options.name)
    result.save(f"python benchmarks/learned_orders.py {options.name}", options.out)
    draw(tables, options.out / f"learned-orders-{options.name}.png")
    for label, figure in result.figures.items():
        kind = "bound" if figure["is_bound"] else "exact"
        print(f"| {label} | {figure['value']:.3f} ± {figure['error']:.3f} | {kind} |")


if __name__ == "__main__":
    main()
