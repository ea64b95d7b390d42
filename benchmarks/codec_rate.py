"""The README's picture: every level on CIFAR-10 test pictures, each a file of its own, beside the classical codecs.

    python benchmarks/codec_rate.py --data data --items 300

All in one run on the same pictures; every file is decoded again and compared; headers are included.  zstd's dictionaries
are trained on training pictures.  Writes docs/pictures/rate.png, and beside it rate.json: machine, versions, date, and
the size of every file.  `ardm bench` does the same for any files.  Needs pip install "ardm[bench]".
"""

import argparse
import json
import os
import sys
from pathlib import Path

from ardm import data
from ardm.baselines import classical
from ardm.bench import Comparison, at_levels, facts, markdown, measure
from ardm.content import Content, Kind
from ardm.files import Engine
from ardm.rateplot import draw

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def pictures(folder, split, number):
    return [Content(Kind.IMAGE, item.numpy()) for item in data.load("cifar10", folder, split).items[:number]]


def compare(options):
    items, training = (
        pictures(options.data, split, number)
        for split, number in (("test", options.items), ("train", options.training))
    )
    engine = Engine(options.model, backend=options.backend, device=options.device, threads=options.threads)
    own, why = at_levels(engine, [int(level) for level in options.levels.split(",")], items[0])
    if why:
        sys.exit(f"no model codes these pictures: {why}")
    samples, rows = sum(item.samples.size for item in items), []
    for i, codec in enumerate((*own, *classical(items, training, options.threads or os.cpu_count()))):
        row = measure(codec, items, i < len(own), options.together)
        rows.append(row)
        print(row.name, row.why or f"{8 * row.bytes / samples:.4f}", flush=True)
    about = {"data": f"CIFAR-10, the first {len(items)} test pictures", "model": str(options.model or "bundled")}
    return Comparison(items, rows, {**about, **facts(options.threads)})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 (binary version)")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--training", type=int, default=5000, help="training pictures for zstd's dictionaries")
    parser.add_argument("--model", help="a bundled model, or the folder of one")
    parser.add_argument("--levels", default="1,2,3,4,5,6,7,8,9")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--together", action="store_true", help="also all pictures in one file")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for rate.png and rate.json")
    options = parser.parse_args(arguments)
    compared = compare(options)
    draw(compared, options.out / "rate.png")
    (options.out / "rate.json").write_text(json.dumps(compared.record(), indent=1) + "\n")
    print(f"\n{compared.title}\n\n{markdown(*compared.table())}\n\n{'; '.join(compared.versions())}")


if __name__ == "__main__":
    main()
