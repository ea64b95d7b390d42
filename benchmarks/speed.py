"""Speed of training steps, sampling and the planner, and the cost of a head at all positions.

    python benchmarks/speed.py

Prints a table and writes a plot.  Compare ratios within one run: absolute figures depend on the machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from ardm import api, objective
from ardm.bundle import Bundle
from ardm.digits import Sites
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig, image_plan
from ardm.schedule import joint, optimal


def seconds(work, least=3):
    """Time of the fastest of `least` runs, after a warm-up."""
    work()
    times = []
    while len(times) < least:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def training(rows):
    x = torch.randint(256, (16, 3, 32, 32))
    plan = image_plan(OrderConfig("bayer"), (3, 32, 32))
    for size, changes in [
        ("local", {}),
        ("tiny", {}),
        ("tiny", {"head": "values"}),
        ("tiny", {"head": "digits", "base": 16}),
        ("small", {}),
    ]:
        model = build(preset(size, **changes))
        stages = len(model.digits)
        kind = " ".join([size, *map(str, changes.values())])

        def any_order(model=model, stages=stages, subset=None):
            steps = objective.draw(16, stages, (3, 32, 32), torch.Generator().manual_seed(0))
            generator = torch.Generator().manual_seed(1)
            objective.bound_step(model, x, steps, subset=subset, generator=generator).nats.mean().backward()

        def on_plan(model=model):
            k = torch.arange(16) * 3
            objective.plan_step(model, plan, x, k).nats.mean().backward()

        rows.append((f"train step, {kind}, all hidden sites", 16 / seconds(any_order), "items/s"))
        rows.append((f"train step, {kind}, 64 hidden sites", 16 / seconds(lambda f=any_order: f(subset=64)), "items/s"))
        if stages == 1:
            rows.append((f"train step, {kind}, one step of a plan", 16 / seconds(on_plan), "items/s"))


def heads(rows):
    """Why the head runs only at requested sites: cost of a 256-way softmax at all positions, relative to the network."""
    model = build(preset("tiny", head="values"))
    state = model.digits.blank(8, (3, 32, 32))
    every, few = (Sites.where(torch.rand(8, 3, 32, 32) < share) for share in (2.0, 0.02))
    with torch.no_grad():
        trunk = seconds(lambda: model(state))
        prediction = model(state)
        rows.append(
            ("head at every position / rest of the network", seconds(lambda: prediction[every]) / trunk, "times")
        )
        rows.append(
            ("head at 61 of 3072 positions / rest of the network", seconds(lambda: prediction[few]) / trunk, "times")
        )


def sampling(rows):
    curve = LossCurve.exact(np.linspace(4, 2, 3072)[None])
    for size in ("local", "tiny"):
        config = preset(size)
        bundle = Bundle(build(config).eval().requires_grad_(False), config, OrderConfig(), curve)
        for calls in (10, 50):
            took = seconds(lambda b=bundle, c=calls: api.sample(b, 8, c), 1)
            rows.append((f"sampling, {size}, {calls} calls, 8 at a time", 8 / took, "images/s"))


def planner(rows):
    for sites, budget in [(3072, 50), (3072, 100), (16000, 100), (16000, 8000), (10**6, 100)]:
        curve = 1 + 3 * np.exp(-np.arange(sites) / sites * 5)
        rows.append(
            (f"planner, D = {sites}, {budget} calls", seconds(lambda c=curve, b=budget: optimal(c, b), 1), "seconds")
        )
    curves = 1 + 3 * np.exp(-np.arange(4 * 3072).reshape(4, 3072) / 3072)
    rows.append(
        (
            "planner, joint over 4 stages of 3072, 100 calls",
            seconds(lambda: joint(-np.sort(-curves, 1), 100), 1),
            "seconds",
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("speed.png"))
    options = parser.parse_args()
    rows = []
    for part in (training, heads, sampling, planner):
        part(rows)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, value, unit in rows:
        print(f"{name:55} {value:10.3f} {unit}")
    from matplotlib.figure import Figure

    shown = [r for r in rows if r[2] == "items/s"]
    figure = Figure(figsize=(9, 0.32 * len(shown) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([r[0] for r in shown][::-1], [r[1] for r in shown][::-1])
    axes.set(xlabel="items per second, batch 16", title="training steps")
    figure.savefig(options.out, dpi=120)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
