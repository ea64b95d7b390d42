"""Speed of training steps, bounds, sampling and the planner, beside what the processor does at best.

    python benchmarks/speed.py
    python benchmarks/speed.py --only text small --against ../ardm-before

Processor time (all threads together) of the fastest of some runs; and, in turns with another checkout if one is given, the
median of their ratios.  For the
networks also GFLOP/s of all their products and convolutions, and the share of what one bare product or convolution of
their shape reaches on this machine.  Compare ratios within one run: absolute figures depend on the machine.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

SHAPES = {"text": ((256,), 27), "text-small": ((256,), 27)}
"""Shape of an item and number of values, of the networks that are not for pictures."""
NETWORKS = ("text", "tiny", "small", "attention", "centred")
"""Presets; "attention" is `small` with attention in every block."""
SUBSETS = {"centred": 512}
"""Sites of an item that a training step scores, as in the recipes; of the others all that are hidden."""


@dataclass(frozen=True)
class Work:
    """What is timed.  amount: of `unit` in one run; 0: the time itself is reported.  bare: the product it is beside."""

    run: Callable[[], object]
    amount: float
    unit: str
    bare: str = ""


# --- in a process of its own for each checkout ------------------------------------------------------------------------


def network(name):
    """A model and the shape and number of values of its items."""
    import torch

    from ardm.models.build import build
    from ardm.models.config import preset

    shape, classes = SHAPES.get(name, ((3, 32, 32), 256))
    config = preset("small", attention="all") if name == "attention" else preset(name, shape=shape, classes=classes)
    torch.manual_seed(0)
    return config, build(config), shape, classes


def network_works(name, batch, calls):
    """Training step, bound and sampling of a network, and a bare product of its shape, forward and in both directions."""
    import numpy as np
    import torch

    from ardm import api, likelihood, objective
    from ardm.bundle import Bundle
    from ardm.losscurve import LossCurve
    from ardm.orders import OrderConfig

    config, model, shape, classes = network(name)
    chance = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    x = torch.randint(classes, (batch, *shape), generator=chance())

    def step():
        model.zero_grad()
        some = {"subset": SUBSETS[name], "generator": chance()} if name in SUBSETS else {}
        objective.bound_step(model, x, objective.draw(batch, 1, shape, chance()), **some).nats.mean().backward()

    curve = LossCurve.exact(np.linspace(4, 2, x[0].numel())[None])
    ready = Bundle(network(name)[1].eval().requires_grad_(False), config, OrderConfig(), curve)
    half = batch // 2
    forward, both = bare(config, shape, batch)
    return {
        f"{name}: training step, batch {batch}": Work(step, batch, "items/s", f"{name}: bare step"),
        f"{name}: bound, batch {batch}": Work(
            lambda: likelihood.bound(ready.model, x, 1, chance()), batch, "items/s", f"{name}: bare"
        ),
        f"{name}: sampling, {calls} calls, batch {half}": Work(
            lambda: api.sample(ready, half, calls), half, "items/s", f"{name}: bare"
        ),
        f"{name}: bare": Work(forward, 0, "s"),
        f"{name}: bare step": Work(both, 0, "s"),
    }


def bare(config, shape, batch):
    """One product (of sequences) or 3 × 3 convolution (of pictures) of a network's shape: forward, and in both directions."""
    import torch
    from torch.nn import functional as F

    pictures, width = len(shape) == 3, config.width
    if pictures:
        x, weight = torch.randn(batch, width, *shape[1:]), torch.randn(width, width, 3, 3)
        x = x.contiguous(memory_format=torch.channels_last)
    else:
        x, weight = torch.randn(batch * shape[0], width), torch.randn(config.inner_width, width)

    def forward(x=x, weight=weight):
        return F.conv2d(x, weight, padding=1) if pictures else F.linear(x, weight)

    def both():
        made = forward(x.detach().requires_grad_(), weight.detach().requires_grad_())
        made.backward(torch.ones_like(made))

    return forward, both


def training_works():
    """What training at fewer sites gains; and the blocks of causal networks as shifted rows, beside convolutions."""
    import torch

    from ardm import objective
    from ardm.models.build import build
    from ardm.models.config import preset
    from ardm.orders import OrderConfig, image_plan

    x, plan = torch.randint(256, (16, 3, 32, 32)), image_plan(OrderConfig("bayer"), (3, 32, 32))
    works = {}
    kinds = [("centred", {}), ("tiny", {}), ("tiny", {"head": "values"}), ("tiny", {"head": "digits", "base": 16})]
    for size, changes in kinds:
        model = build(preset(size, **changes))
        stages, kind = len(model.digits), " ".join([size, *map(str, changes.values())])

        def any_order(model=model, stages=stages, subset=None):
            steps = objective.draw(16, stages, (3, 32, 32), torch.Generator().manual_seed(0))
            generator = torch.Generator().manual_seed(1)
            objective.bound_step(model, x, steps, subset=subset, generator=generator).nats.mean().backward()

        def on_plan(model=model):
            objective.plan_step(model, plan, x, torch.arange(16) * 3).nats.mean().backward()

        works[f"train step, {kind}, all hidden sites"] = Work(any_order, 16, "items/s")
        works[f"train step, {kind}, 64 hidden sites"] = Work(lambda f=any_order: f(subset=64), 16, "items/s")
        if stages == 1:
            works[f"train step, {kind}, one step of a plan"] = Work(on_plan, 16, "items/s")
    return works


def causal_works():
    """All positions at once along wavefronts; and the blocks as products of shifted rows beside convolutions."""
    import torch

    from ardm import objective
    from ardm.models.build import build
    from ardm.models.config import preset

    x, works = torch.randint(256, (6, 3, 32, 32)), {}
    for size in ("pictures-small", "pictures"):
        model = build(preset(size))
        trunk = model.body.trunk
        h = torch.randn(6, 32, 32, trunk.width, requires_grad=True)

        def convolved(h=h, trunk=trunk):
            out = h.permute(0, 3, 1, 2)
            for block in trunk.blocks:
                out = block(out)
            out.sum().backward()

        def step(model=model):
            objective.causal_step(model, x).nats.mean().backward()

        works[f"train step, {size}, all positions"] = Work(step, 6, "items/s")
        works[f"blocks of {size}, convolutions"] = Work(convolved, 0, "s")
        works[f"blocks of {size}, shifted rows"] = Work(lambda h=h, t=trunk: t.deep(h).sum().backward(), 0, "s")
    return works


def head_works():
    """Why the head runs only at requested sites: a 256-way softmax at all positions, beside the network."""
    import torch

    from ardm.digits import Sites
    from ardm.models.build import build
    from ardm.models.config import preset

    model = build(preset("tiny", head="values")).requires_grad_(False)
    state = model.digits.blank(8, (3, 32, 32))
    every, few = (Sites.where(torch.rand(8, 3, 32, 32) < share) for share in (2.0, 0.02))
    prediction = model(state)
    return {
        "tiny, 8 items, without its head": Work(lambda: model(state), 0, "s"),
        "head at every position": Work(lambda: prediction[every], 0, "s"),
        "head at 61 of 3072 positions": Work(lambda: prediction[few], 0, "s"),
    }


def planner_works():
    """Schedules by dynamic programming."""
    import numpy as np

    from ardm.schedule import joint, optimal

    works = {}
    for sites, budget in [(3072, 50), (3072, 100), (16000, 100), (16000, 8000), (10**6, 100)]:
        curve = 1 + 3 * np.exp(-np.arange(sites) / sites * 5)
        works[f"planner, D = {sites}, {budget} calls"] = Work(lambda c=curve, b=budget: optimal(c, b), 0, "s")
    curves = -np.sort(-(1 + 3 * np.exp(-np.arange(4 * 3072).reshape(4, 3072) / 3072)), 1)
    works["planner, joint over 4 stages of 3072, 100 calls"] = Work(lambda: joint(curves, 100), 0, "s")
    return works


PARTS = {
    **{name: (lambda given, n=name: network_works(n, given.batch, given.calls)) for name in NETWORKS},
    "training": lambda given: training_works(),
    "causal": lambda given: causal_works(),
    "heads": lambda given: head_works(),
    "planner": lambda given: planner_works(),
}


def counted(run):
    """Floating-point operations of all products, convolutions and attention of one run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def linear(x, weight, *others, out_shape=None, **options):
        return 2 * x[0] * x[1] * weight[0]

    def attention(q, k, v, *others, out_shape=None, **options):
        return sdpa_flop_count(q, k, v)

    def attention_back(g, q, k, v, *others, out_shape=None, **options):
        return sdpa_backward_flop_count(g, q, k, v)

    aten = torch.ops.aten
    own = {  # operations of CPUs that PyTorch does not count
        torch.ops.mkldnn._linear_pointwise.default: linear,
        aten._scaled_dot_product_flash_attention_for_cpu.default: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default: attention_back,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        run()
    return counter.get_total_flops()


def serve(given):
    """Run what stands on each line of the standard input; answer with seconds of processor time."""
    import torch

    torch.set_num_threads(given.threads)
    parts = cache(lambda part: PARTS[part](given))
    for line in sys.stdin:
        task, part, name = json.loads(line)
        work = parts(part).get(name)
        if task == "list":
            answer = [(n, w.amount, w.unit, w.bare) for n, w in parts(part).items()]
        elif task == "count":
            answer = counted(work.run)
        else:
            began = time.process_time()
            work.run()
            answer = time.process_time() - began
        print(json.dumps(answer), flush=True)


# --- in the process that prints ---------------------------------------------------------------------------------------


class Checkout:
    """A process that runs the works with the code of one checkout."""

    def __init__(self, folder, options):
        environment = {**os.environ, "PYTHONPATH": str(Path(folder) / "src"), "OMP_NUM_THREADS": str(options.threads)}
        command = [sys.executable, __file__, "--serve", *sys.argv[1:]]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, task, part, name=""):
        """The answer to one line."""
        self._process.stdin.write(json.dumps([task, part, name]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def timed(checkouts, part, name, runs):
    """Seconds of this checkout's fastest run, and the median of the other's over this one's, run in turns; one to warm up."""
    times = [[c.ask("run", part, name) for c in checkouts] for _ in range(runs + 1)][1:]
    return min(row[0] for row in times), median(row[-1] / row[0] for row in times) if len(checkouts) > 1 else None


def rows(checkouts, part, runs):
    """(name, figure, unit, GFLOP/s, share of the bare operation, ratio to the other checkout) of each work of a part."""
    works = {name: rest for name, *rest in checkouts[0].ask("list", part)}
    seconds = {name: timed(checkouts, part, name, runs) for name in works}
    speed = {name: checkouts[0].ask("count", part, name) / seconds[name][0] / 1e9 for name in works if part in NETWORKS}
    for name, (amount, unit, beside) in works.items():
        own, ratio = seconds[name]
        share = speed[name] / speed[beside] if beside else None
        yield name, amount / own if amount else own, unit, speed.get(name), share, ratio


def written(name, figure, unit, speed, share, ratio):
    """A row as text."""
    cells = [f"{name:52} {figure:10.3f} {unit:8}", "" if speed is None else f"{speed:7.1f} GFLOP/s"]
    cells.append("" if share is None else f"{share:6.0%} of bare")
    cells.append("" if ratio is None else f"{ratio:6.2f} times as fast")
    return "".join(f"{cell:16}" for cell in cells).rstrip()


def plot(found, path):
    """A bar for each row that counts items."""
    from matplotlib.figure import Figure

    shown = [r for r in found if r[2] == "items/s"][::-1]
    figure = Figure(figsize=(9, 0.32 * len(shown) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([r[0] for r in shown], [r[1] for r in shown])
    axes.set(xlabel="items per second of processor time")
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts; default all")
    parser.add_argument("--against", type=Path, help="the folder of another checkout, run in turns with this one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also plot items per second")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given)
    folders = [Path(__file__).resolve().parents[1], *([given.against] if given.against else [])]
    checkouts = [Checkout(folder, given) for folder in folders]
    found = []
    print(f"processor time, {given.threads} thread(s), fastest of {given.runs} runs")
    for part in given.only:
        for row in rows(checkouts, part, given.runs):
            found.append(row)
            print(written(*row), flush=True)
    for checkout in checkouts:
        checkout.close()
    if given.out:
        plot(found, given.out)
    return None


if __name__ == "__main__":
    main()
