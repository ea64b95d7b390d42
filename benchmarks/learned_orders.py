"""Learned orders against random, Bayer and left-to-right ones, on small pictures and on text.

python benchmarks/learned_orders.py text --data FOLDER --runs FOLDER [--out docs/pictures]

Trains models with one body (a perceptron) and one budget; a finished run is used again, an interrupted one resumed: a
network of any order; rates for that network, which stays as it is; a network together with its rates, slow and fast ones,
in half the batch, since each item is scored in two orders; and a network for one order, left to right or row by row.  Prints a table, in bits per dimension of the same test items, and writes
learned-orders-NAME.json and a picture of the rates.  FOLDER has mnist and text27, as for benchmarks/report/run.py.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "report"))

import numpy as np
import torch
from common import Result, Setting, evenly, rounded, seeded
from torch import Tensor

import ardm
from ardm import data, likelihood
from ardm import plan as plans
from ardm.bundle import Bundle, load
from ardm.estimate import Estimate
from ardm.model import Model
from ardm.orders import OrderConfig, image_plan
from ardm.ranks import LINES, RANKS

LENGTH, SIDE, LEVELS = 16, 7, 8
"""Letters of a text; pixels and grey values of a picture: MNIST, means over squares of 4×4 pixels."""
ITEMS, PASSES = 2000, 48
"""Test items, and random steps of each of them for a bound."""
BODY = {
    "preset": "table",
    "width": 128,
    "blocks": 2,
    "kind": "text",
    "rate": 2e-3,
    "ema": 0.998,
    "valid_items": 1024,
    "valid_every": 500,
}
STEPS, FAST = 2000, 0.2
"""Steps of every run, and the learning rate of fast rates; that of slow ones is the default, 0.02."""


def items(name: str, setting: Setting, split: str) -> Tensor:
    """The items (N, D) of a split: letters, or pixels row by row."""
    if name == "text":
        return data.load("text", setting.data / "text27", split, alphabet="27", length=LENGTH).items
    part = "fit" if split == "train" else split
    return data.load("mnist", setting.data / "mnist", part, size=SIDE).items.flatten(1) // (256 // LEVELS)


def orders(name: str) -> dict[str, Tensor]:
    """Fixed orders to compare with, as ranks (D,)."""
    if name == "text":
        return {"left to right": torch.from_numpy(LINES["raster"](LENGTH))}
    found = {order: RANKS[order](SIDE, SIDE).ravel() for order in ("raster", "bayer")}
    return {order: torch.from_numpy(rank) for order, rank in found.items()}


def trained(setting: Setting, result: Result, name: str, part: str, **more: Any) -> Bundle:
    """One of the models, at its last step: the best validation of noisy bounds would be chosen by luck."""
    began, steps = time.process_time(), 4 if setting.quick else STEPS
    x, valid = items(name, setting, "train"), items(name, setting, "valid")
    classes = 27 if name == "text" else LEVELS
    folder = setting.runs / f"{name}-{part}"
    ardm.fit(x, valid, classes=classes, folder=folder, steps=steps, device="cpu", **BODY, **more)
    setting.log(f"{name}, {part}: {time.process_time() - began:.0f} s of processor time")
    result.budget[part] = {"steps": steps, "batch": more["batch"]}
    return load(folder / "model-last")


def measure(name: str, model: Model, x: Tensor, rates: Tensor) -> dict[str, Estimate]:
    """The figures of one model: bounds of random orders and of orders by rates, and exact ones along fixed orders."""
    return {
        "random orders": likelihood.bound(model, x, PASSES, seeded(1), chunk=1024),
        "orders by rates": likelihood.bound(model, x, PASSES, seeded(1), chunk=1024, rates=rates),
        "sorted by rates": exact(model, (-rates).argsort().argsort(), x),
        **{order: exact(model, rank, x) for order, rank in orders(name).items()},
    }


def exact(model: Model, rank: Tensor, x: Tensor) -> Estimate:
    """The exact likelihood along a fixed order, one site a call."""
    return likelihood.exact(model, plans.ranked(rank, tuple(x.shape[1:])), x, chunk=1024)


def run(setting: Setting, name: str) -> tuple[Result, dict[str, Tensor]]:
    """Train and measure the models of one kind of data; also returns the tables of rates."""
    result, x = Result(f"learned-orders-{name}"), evenly(items(name, setting, "test"), setting.items(ITEMS))
    train = partial(trained, setting, result, name)
    network, init = train("network", batch=256), str(setting.runs / f"{name}-network" / "model-last")
    given = train("rates", batch=256, rates=True, frozen=True, init=init)
    found, tables = {}, {"for a given network": rates_of(given)}
    for label, model in (
        ("network", network),
        ("together", train("together", batch=128, rates=True)),
        ("together, fast", train("together-fast", batch=128, rates=True, order_rate=FAST)),
    ):
        rates = rates_of(given if model is network else model)
        tables |= {} if model is network else {label: rates}
        found |= {f"{label}: {order}": e for order, e in measure(name, model.model, x, rates).items()}
    raster = OrderConfig("raster", (x.shape[1],))
    single = train("one-order", batch=256, order={"order": raster.order, "calls": raster.calls})
    plan = image_plan(raster, tuple(x.shape[1:]))
    found["one order: its own"] = likelihood.exact(single.model, plan, x, chunk=1024)
    report(result, found)
    result.tables = {title: [rounded(w, 4) for w in rates.tolist()] for title, rates in tables.items()}
    return result, tables


def rates_of(bundle: Bundle) -> Tensor:
    """The rates (D,) that a model has learned."""
    assert bundle.model.rates is not None
    return bundle.model.rates.detach()


def report(result: Result, found: dict[str, Estimate]) -> None:
    """Add figures, and by how much each is below random orders of the network of any order, on the same items."""
    base = found["network: random orders"]
    for label, estimate in found.items():
        result.estimate(label, estimate)
        less = (base.nats - estimate.nats) / estimate.sites / math.log(2)
        if estimate is not base:
            result.add(f"{label}, gain", float(less.mean()), float(less.std()) / math.sqrt(len(less)), "bits/dim")


def draw(name: str, tables: dict[str, Tensor], path: Path) -> None:
    """A picture of tables of rates, on a logarithmic scale: maps of pixels, curves of letters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, (title, rates) in zip(figure.subplots(1, len(tables)), tables.items(), strict=True):
        logs = rates.log2().numpy()
        axes.set_title(title)
        if name == "text":
            axes.plot(logs, ".-", color="black", lw=0.8)
            axes.set(xlabel="place of the letter", ylabel="log₂ of the rate")
        else:
            most = float(np.abs(logs).max())
            shown = axes.imshow(logs.reshape(SIDE, SIDE), cmap="RdBu_r", vmin=-most, vmax=most)
            figure.colorbar(shown, label="log₂ of the rate")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table of one kind of data, and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["text", "pictures"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/learned-orders"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--quick", action="store_true", help="smoke test with a few steps and items")
    options = parser.parse_args()
    setting = Setting(options.data, options.runs, options.quick, partial(print, flush=True))
    result, tables = run(setting, options.name)
    result.save(f"python benchmarks/learned_orders.py {options.name}", options.out)
    draw(options.name, tables, options.out / f"learned-orders-{options.name}.png")
    for label, figure in result.figures.items():
        if f"{label}, gain" in result.figures or label == "network: random orders":
            gain = result.figures.get(f"{label}, gain", {"value": 0.0, "error": 0.0})
            kind = "bound" if figure["is_bound"] else "exact"
            said = (f"{f['value']:.3f} ± {f['error']:.3f}" for f in (figure, gain))
            print(f"| {label} | {' | '.join(said)} | {kind} |")


if __name__ == "__main__":
    main()
