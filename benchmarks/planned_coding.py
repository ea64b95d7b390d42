"""Measure the codec of a model of any order by its number of network calls, beside the bundled codec of pictures.

    python benchmarks/planned_coding.py MODEL --data data                  # test images of CIFAR-10
    python benchmarks/planned_coding.py MODEL --array items.npy --calls 20,50,100,500 --device cuda

MODEL: a folder with a codec model that codes in any number of calls (`ardm export`).

Every item is compressed as a file of its own, one after the other, and all of them to one archive, in which items are
coded side by side; everything is decoded and compared.  Rates are bits per value of the files, and of the code alone
(−log2 p), with the standard error over items.  Times are seconds per item by the clock, in brackets of the processor,
warm and without verification.

Prints Markdown, and writes planned-coding.png and planned-coding.json with machine, versions, date and command.  Needs
pip install ".[bench]".
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "report"))

from coded import alone, mean, together

from ardm import data
from ardm.bench.compare import markdown
from ardm.bench.machine import facts
from ardm.codec import registry
from ardm.codec.encode import compress
from ardm.content import Content, Kind

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BESIDE = "pictures"
"""The codec along wavefronts that stands beside."""


def pictures(options: argparse.Namespace) -> list[Content]:
    """The items: of an array (N, C, H, W), or the first test images of CIFAR-10."""
    if options.array is not None:
        items = np.load(options.array)[: options.items]
    else:
        items = data.load("cifar10", options.data, "test").items[: options.items].numpy()
    return [Content(Kind.IMAGE, np.ascontiguousarray(x, dtype=np.uint8)) for x in items]


def rows(options: argparse.Namespace, items: list[Content]) -> list[dict[str, Any]]:
    """One row for each number of calls, and one for the codec along wavefronts."""
    chosen: list[tuple[str, int | None]] = [(options.model, int(calls)) for calls in options.calls.split(",")]
    made = []
    for model, calls in [*chosen, (BESIDE, None)]:
        device = options.device if calls else "cpu"
        coder = registry.coder(model, calls, "auto", device, options.threads)
        compress(items[0], coder)  # warm up
        few, all_ = alone(coder, items[: options.alone]), together(coder, items)
        if few.lost or all_.lost:
            raise SystemExit("an item did not come back")
        made.append(
            {
                "name": f"{calls} calls" if calls else f"{BESIDE}, along wavefronts",
                "calls": calls or 0,
                "identity": coder.identity[:8],
                "device": device,
                "alone": {**asdict(few), "code": mean(few.code), "file": mean(few.file)},
                "together": asdict(all_),
            }
        )
        print(f"{made[-1]['name']}: {mean(few.code)[0]:.3f} bits per value", file=sys.stderr, flush=True)
    return made


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    one, all_ = row["alone"], row["together"]
    times = [
        f"{_time(way['wall'])} ({_time(way['cpu'])})"
        for part in (one, all_)
        for way in (part["encode"], part["decode"])
    ]
    rates = [_rate(*one[what]) for what in ("code", "file")]
    return [row["name"], *rates, f"{all_['file']:.3f}", *times]


def _rate(value: float, error: float | None) -> str:
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def draw(made: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Rate against time per item, to encode and to decode: items one by one, and many side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for place, way in enumerate(("encode", "decode")):
        axes = figure.add_subplot(1, 2, place + 1)
        for part, marker, label in (("alone", "o-", "one by one"), ("together", "s--", "side by side")):
            for planned, colour in ((True, "C0"), (False, "C1")):
                some = [row for row in made if bool(row["calls"]) == planned]
                x, y = [row[part][way]["wall"] for row in some], [row["alone"]["code"][0] for row in some]
                name = "any order, by network calls" if planned else some[0]["name"]
                axes.plot(x, y, marker, color=colour, ms=5, label=f"{name}, {label}")
        for row in made:
            slower = max(row[part][way]["wall"] for part in ("alone", "together"))
            said = str(row["calls"] or "")  # one label for both ways, right of the slower one
            axes.annotate(said, (slower, row["alone"]["code"][0]), (5, 4), textcoords="offset points", fontsize=8)
        axes.margins(0.12)
        axes.set(xscale="log", xlabel=f"seconds per item to {way}", ylabel="bits per value (−log2 p)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of the codec model")
    parser.add_argument("--data", help="folder of CIFAR-10 in its published layout")
    parser.add_argument("--array", type=Path, help="items (N, C, H, W) of your own instead, .npy")
    parser.add_argument("--calls", default="20,50,100,500")
    parser.add_argument("--items", type=int, default=64, help="items of the archive")
    parser.add_argument("--alone", type=int, default=16, help="of these, items that are also files of their own")
    parser.add_argument("--device", default="auto", help="of the model of any order; the other one runs on the CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for the picture and the JSON")
    options = parser.parse_args(given)
    if (options.data is None) == (options.array is None):
        parser.error("name the items: --data FOLDER of CIFAR-10, or --array FILE.npy")
    return options


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options = arguments(given)
    items = pictures(options)
    made = rows(options, items)
    words = [Path(word).name for word in (sys.argv[1:] if given is None else given)]
    found = {
        **facts(options.threads),
        "command": shlex.join(["python", "benchmarks/planned_coding.py", *words]),
        "items": len(items),
        "alone": min(options.alone, len(items)),
        "rows": made,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    draw(made, options.out / "planned-coding.png", f"{len(items)} items of {'x'.join(map(str, items[0].shape))}")
    (options.out / "planned-coding.json").write_text(json.dumps(found, indent=1) + "\n")
    heads = ["", "code", "files", "archive", "one by one: encode", "decode", "side by side: encode", "decode"]
    print(markdown(heads, list(map(cells, made))))
    print(f"\n{found['date']}; {found['machine']}; {found['versions']}; `{found['command']}`")


if __name__ == "__main__":
    main()
