"""Speed of training, scoring and sampling on the devices of this machine, in float32 and in bfloat16.

    python benchmarks/devices.py
    python benchmarks/devices.py --devices cpu cuda --presets tiny centred --batch 16

Prints a table.  Compare figures within one run: absolute ones depend on the machine.
"""

import argparse
import time

import torch

from ardm import api, likelihood, objective
from ardm.bundle import Bundle
from ardm.models.build import build
from ardm.models.config import preset

SHAPE = (3, 32, 32)


def wait(device):
    """Wait for what the device still computes."""
    if device != "cpu":
        getattr(torch, torch.device(device).type).synchronize()


def seconds(work, device, runs):
    """The shortest time of `runs` runs, after one to warm up."""
    times = []
    for _ in range(runs + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def rates(bundle, device, batch, runs):
    """Items per second by what is done."""
    x = torch.randint(256, (batch, *SHAPE), device=device)
    stages = len(bundle.model.digits)

    def chance():
        return torch.Generator().manual_seed(0)

    def step():
        steps = objective.draw(batch, stages, SHAPE, chance()).to(device)
        objective.bound_step(bundle.model, x, steps).nats.mean().backward()

    works = {
        "training step": step,
        "bound, 1 pass": lambda: likelihood.bound(bundle.model, x, 1, chance()),
        "sample, 10 calls": lambda: api.sample(bundle, batch, 10),
        "sample, 50 calls": lambda: api.sample(bundle, batch, 50),
    }
    return {name: batch / seconds(work, device, runs) for name, work in works.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    parser.add_argument("--devices", nargs="+", default=[name for name, there in found.items() if there])
    parser.add_argument("--presets", nargs="+", default=["centred", "tiny"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"items/s, {'×'.join(map(str, SHAPE))}, batch {given.batch}, torch {torch.__version__}")
    for name in given.presets:
        config = preset(name, shape=SHAPE)
        made = Bundle(build(config), config)
        for device in given.devices:
            for dtype in (torch.float32, torch.bfloat16):
                found = rates(made.to(device, dtype), device, given.batch, given.runs)
                row = "  ".join(f"{what} {rate:8.1f}" for what, rate in found.items())
                print(f"{name:8} {device:6} {str(dtype).removeprefix('torch.'):9} {row}")


if __name__ == "__main__":
    main()
