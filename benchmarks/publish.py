"""Turn a finished run into a model folder with a card; measures its figures on the test set, once.

A model of one order: export its codec model first (ardm export RUN/model --out ASSETS/NAME); its figures are those of the
integers.  A model of any order: publish it, then export what was published (ardm export ASSETS/NAME), and publish again, which
adds the figures of the integers on the first images.

python benchmarks/publish.py runs/pictures src/ardm/assets --data data --items 10000 --minutes "90 on one core"
"""

import argparse
import dataclasses
import datetime
import json
import platform
import time
from pathlib import Path
from typing import NamedTuple

import torch

from ardm import api, data, likelihood
from ardm.bundle import load
from ardm.codec import registry
from ardm.estimate import Estimate
from ardm.exact.model import NAME
from ardm.export.coding import cost

CARD = """# {name}

{summary}

| | |
| --- | --- |
| parameters | {parameters:,} |
| identity | `{identity}` |
| data | {data} |
| licence | {licence} |
| command | `{command}` |
| training | {steps:,} steps, {minutes} |
| measured | {date}, {machine} |

## Figures on the CIFAR-10 test set

{table}

No test image was used for training or for any choice. The model does not suit images unlike small photographs; its
samples have local texture and little global composition.
"""
PARTS = {
    "train": "CIFAR-10, all 50,000 training images",
    "fit": "CIFAR-10, the first 45,000 training images",
}


def codec_figures(bundle, x, items):
    """Code length of the codec model at each of its numbers of calls, if it has several, and the cost of exactness."""
    codec_model, figures = registry.model(bundle.name), {}
    usual = codec_model.default
    for calls in codec_model.budgets or [usual]:
        part = x[: items if calls == usual else min(items, 200)]
        found, named = cost(bundle, codec_model, part, calls), f", {calls} calls" * bool(calls)
        figures[f"codec model{named}"] = Figure(found.exact, found.exact_error, len(part))
        if calls == usual:
            figures[f"the network in floats{named}"] = Figure(found.model, found.exact_error, len(part))
            figures["cost of exactness"] = Figure(found.bits_per_dim, found.error, len(part))
    return figures


class Figure(NamedTuple):
    """A figure: bits per dimension, standard error, number of images."""

    bits: float
    error: float
    images: int


def figure(estimate):
    return Figure(estimate.bits_per_dim, estimate.bits_per_dim_error, len(estimate.nats))


def planned_figures(bundle, codec_model, x):
    """Code length of a codec model of any order along its planned schedules, and the cost of exactness."""
    usual, figures = codec_model.default, {}
    for calls in (20, usual):
        found = cost(bundle, codec_model, x, calls)
        figures[f"codec model, {calls} calls along one order"] = Figure(found.exact, found.exact_error, len(x))
    figures[f"cost of exactness, {usual} calls"] = Figure(found.bits_per_dim, found.error, len(x))
    return figures


def measured_curve(bundle, x):
    """The loss curve on validation items: what was observed in training lags behind the network."""
    stages, grid = len(bundle.model.digits), 64
    return likelihood.curve(
        bundle.model, x, 1, torch.Generator().manual_seed(0), chunk=8, grid=grid // stages, subset=256
    )


def any_order_figures(bundle, x, items):
    part, calls = x[: min(items, 200)], len(bundle.model.digits) * bundle.config.sites
    figures = {
        f"any-order bound, {calls} calls": Estimate.joined(
            [
                likelihood.bound(bundle.model, c, 2, torch.Generator().manual_seed(i))
                for i, c in enumerate(part.split(100))
            ]
        )
    }
    for calls in (10, 20, 50, 100):
        starts = api.schedule(bundle, calls).flat()
        figures[f"bound under the best schedule of {calls} calls"] = Estimate.joined(
            [
                likelihood.policy_bound(bundle.model, c, starts, 2, torch.Generator().manual_seed(i))
                for i, c in enumerate(part.split(100))
            ]
        )
    return {name: figure(estimate) for name, estimate in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("assets", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--items", type=int, default=10000)
    parser.add_argument(
        "--coded", type=int, default=40, help="images that the codec model of a model of any order codes"
    )
    parser.add_argument("--minutes", default="")
    parser.add_argument("--summary", default="")
    parser.add_argument("--command", default="", help="the training command, if it was not a single one")
    options = parser.parse_args()
    run = options.run / "model" if (options.run / "model").is_dir() else options.run
    bundle = load(run).to(dtype=torch.bfloat16).to(dtype=torch.float32)  # what a folder in bfloat16 holds
    x = data.load("cifar10", options.data, "test").items.long()
    began = time.perf_counter()
    is_codec = bundle.order.fixed or bundle.config.causal == "wave"
    if not is_codec:
        held_out = data.load("cifar10", options.data, "valid").items[:64].long()
        bundle = dataclasses.replace(bundle, curve=measured_curve(bundle, held_out))
    figures = (codec_figures if is_codec else any_order_figures)(bundle, x, options.items)
    folder = options.assets / bundle.name
    made = registry.model(folder) if (folder / NAME).is_file() else None
    if not is_codec and made is not None and made.card.get("of") == bundle.identity:
        figures |= planned_figures(bundle, made, x[: options.coded])
    for name, estimate in figures.items():
        print(f"{name}: {estimate}", flush=True)
    print(f"{time.perf_counter() - began:.0f} seconds")
    recipe = bundle.card["recipe"]
    recipe["data"]["folder"], recipe["train"]["init"] = "data", ""  # drop local paths
    card = {
        **bundle.card,
        "summary": options.summary,
        "data": PARTS[recipe["data"]["train"]] + (" and their mirror images" if recipe["data"]["flip"] else ""),
        "licence": "Apache-2.0",
        "command": options.command or f"ardm train {bundle.name} data.folder=FOLDER train.steps={bundle.card['steps']}",
        "figures": {k: [round(e.bits, 4), round(e.error, 4), e.images] for k, e in figures.items()},
    }
    folder = dataclasses.replace(bundle, card=card).to(dtype=torch.bfloat16).save(options.assets / bundle.name)
    if made is not None:
        dataclasses.replace(made, card={**made.card, **card}).save(folder / NAME)
    table = "| | bits/dim | standard error | images |\n| --- | --- | --- | --- |\n" + "\n".join(
        f"| {name} | {bits:.4f} | {error:.4f} | {n:,} |" for name, (bits, error, n) in card["figures"].items()
    )
    (folder / "README.md").write_text(
        CARD.format(
            **{k: card[k] for k in ("name", "summary", "data", "licence", "command", "steps")},
            table=table,
            parameters=sum(p.numel() for p in bundle.model.parameters()),
            identity=bundle.identity,
            minutes=options.minutes,
            date=datetime.date.today().isoformat(),
            machine=f"{platform.machine()}, torch {torch.__version__}",
        )
    )
    print(json.dumps(card["figures"], indent=1))


if __name__ == "__main__":
    main()
