"""Measure results of the report: python benchmarks/report/run.py NAME… --data FOLDER --runs FOLDER

Trains the models that a result needs with shipped recipes, unless the runs folder has them (an interrupted run is
resumed), and writes results/NAME.json.  Existing results are skipped without --again.  NAME may be a group: exact,
bundled, planned, density, density-others, text, speech, images, pictures, mnist, all.  The folder --data has one subfolder per
data set:

    cifar10    CIFAR-10, binary version
    debd       the binary density-estimation sets
    fsdd       the Free Spoken Digit Dataset
    mnist      MNIST
    text27     train.txt, valid.txt and test.txt of a-z and space
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bundled
import density
import exact
import images
import mnist
import pictures
import planned
import speech
import text
from common import RESULTS, Result, Setting

Measure = Callable[[Setting], Result]

GROUPS: dict[str, dict[str, Measure]] = {
    "exact": {
        "enumeration": exact.objective_is_unbiased,
        "leak": exact.leak,
        "step-time": exact.step_time,
        "planner": exact.planner_is_optimal,
        "parametrisation": exact.parametrisations,
        "continuous-time": exact.continuous_time,
    },
    "bundled": {
        "bundled-curve": bundled.curve,
        "bundled-orders": bundled.orders,
        "bundled-filling": bundled.filling,
        "bundled-coding": bundled.coding,
        "coding": bundled.rates,
    },
    "planned": {f"planned-{name}": partial(planned.measure, name=name) for name in planned.MODELS},
    "density": {f"density-{name}": partial(density.measure, name=name) for name in density.CHOSEN},
    "density-others": {f"density-{name}": partial(density.measure, name=name) for name in density.OTHERS},
    "text": {f"text-{name}": partial(text.measure, name=name) for name in text.MODELS},
    "speech": {f"speech-{name}": partial(speech.measure, name=name) for name in speech.MODELS},
    "images": {f"images-{name}": partial(images.measure, name=name) for name in images.MODELS},
    "pictures": {f"pictures-{name}": partial(pictures.measure, name=name) for name in pictures.MODELS},
    "mnist": {"binarized-mnist": mnist.measure},
}
ALL: dict[str, Measure] = {name: measure for group in GROUPS.values() for name, measure in group.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*ALL, *GROUPS, "all"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/report"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="measure existing results again")
    parser.add_argument("--quick", action="store_true", help="smoke test with a few steps and items")
    options = parser.parse_args(arguments)
    setting = Setting(options.data, options.runs, options.quick, partial(print, flush=True))
    failed: list[str] = []
    for wanted in options.names:
        chosen = ALL if wanted == "all" else GROUPS.get(wanted) or {wanted: ALL[wanted]}
        for name, measure in chosen.items():
            if (options.results / f"{name}.json").is_file() and not options.again:
                setting.log(f"{name}: exists; use --again to measure it again")
                continue
            try:
                result = measure(setting)
            except Exception:  # measure the others anyway
                setting.log(f"{name}: {traceback.format_exc()}")
                failed.append(name)
                continue
            path = result.save(f"python benchmarks/report/run.py {name}", options.results)
            setting.log(f"{name}: {path.name} after {result.budget or 'no training'}")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
