"""Drawing and ranking 65,536 values: processor time and memory of temperature, top-k, top-p and the scores of adaptive plans.

    python benchmarks/many_values.py
    python benchmarks/many_values.py --sites 1000 16000 --head mixture --components 10

A random network asked at all its sites at once.  Each row is measured in a process of its own, with one thread: `seconds` is
processor time, `memory` the peak beyond what the process held before.  Needs Linux.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from ardm import adaptive
from ardm.digits import Digits, Partial, Sites
from ardm.features import Features
from ardm.heads import ChainHead, LaplaceHead, MixtureHead, ValueHead
from ardm.model import Prediction
from ardm.random_numbers import RandomNumbers
from ardm.source import Draw

DRAWS = {
    "as it is": {}, "temperature 0.8": {"temperature": 0.8}, "top-p 0.9": {"top_p": 0.9}, "top-k 50": {"top_k": 50},
    "temperature 0": {"temperature": 0},
}  # fmt: skip
TASKS = [*DRAWS, *adaptive.SCORES]
HEADS = {
    "mixture": lambda alphabet, components: MixtureHead(alphabet, 64, components),
    "laplace": lambda alphabet, components: LaplaceHead(alphabet, 64, components),
    "chain": lambda alphabet, components: ChainHead(alphabet, 64),
    "values": lambda alphabet, components: ValueHead(alphabet, 64),
}


def prediction(head, values, sites, components):
    """The prediction of random features: components of the mixture differ in weight, place and width."""
    torch.manual_seed(0)
    alphabet = Digits(values, values)
    made = HEADS[head](alphabet, components).requires_grad_(False)
    for name, parameter in made.named_parameters():
        parameter.normal_(0, 0.1 if name.endswith("weight") else 1.0)
    if head in ("mixture", "laplace"):
        made.out.bias[-components:] -= 4  # widths as of trained models: about 1/50 of the range
    hidden = torch.randn(sites, 64)
    zeros = torch.zeros(1, sites, dtype=torch.long)
    return Prediction(lambda item, site: Features.plain(hidden[site]), Partial(zeros, zeros), made)


def held(field):
    """VmRSS or VmHWM of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measured(task, options):
    """Processor seconds and MB of one task."""
    torch.set_num_threads(1)
    made = prediction(options.head, options.values, options.sites[0], options.components)
    sites = Sites(torch.arange(options.sites[0]), options.sites[0])
    before, began = held("VmRSS"), time.process_time()
    if task in DRAWS:
        Draw(RandomNumbers(0), **DRAWS[task])(made, sites, None)
    else:
        adaptive.SCORES[task](made, sites)
    return time.process_time() - began, held("VmHWM") - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[1000, 16000])
    parser.add_argument("--values", type=int, default=65536)
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--head", choices=HEADS, default="mixture")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(*measured(options.tasks[0], options))
        return
    print(f"{options.head}, {options.values} values, {options.components} components")
    for task in options.tasks:
        for sites in options.sites:
            given = ["--sites", sites, "--values", options.values, "--components", options.components]
            command = [sys.executable, __file__, "--here", "--head", options.head, "--tasks", task, *map(str, given)]
            seconds, memory = map(float, subprocess.check_output(command, text=True).split())
            print(f"{task:16} {sites:6} sites {seconds:8.2f} s {memory:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
