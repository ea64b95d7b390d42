"""Compare every level of the bundled codecs of text and sound with the classical codecs on test items, one file each.

    python benchmarks/codec_rate.py --set english --data data --items 40
    python benchmarks/codec_rate.py --set fsdd --data data --items 30 --together

One run measures everything on the same items, headers included, and decodes and compares every file.  zstd's
dictionaries are trained on training items.  Writes docs/pictures/rate-SET.png and a JSON file with machine, versions,
date and the size of every file.  `ardm bench` does the same for any files, codec_pictures.py for pictures.
Needs pip install ".[bench]".
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path

import numpy as np

from ardm import data
from ardm.bench.classical import classical
from ardm.bench.compare import Comparison, at_levels, markdown, measure
from ardm.bench.machine import facts
from ardm.bench.plot import draw
from ardm.bundle import LETTERS
from ardm.codec.selection import Engine
from ardm.content import Content, Kind

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
TITLES = {
    "text27": "27-letter text, {} test items of 256 characters",
    "english": "English text, {} test items of 256 bytes",
    "fsdd": "Free Spoken Digits at 8 kHz, {} test clips",
    "sc09": "Speech Commands digits at 16 kHz, {} test clips",
}


def spread(items, number):
    """`number` items, evenly spread over all."""
    return [items[k * len(items) // number] for k in range(min(number, len(items)))]


def drawn(items, number):
    """`number` random items, always the same ones.

    fsdd is sorted by digit, speaker and take, so evenly spread items might cover only some speakers.
    """
    chosen = random.Random(0).sample(range(len(items)), min(number, len(items)))
    return [items[k] for k in sorted(chosen)]


def contents(name, folder, split, number):
    if name in ("fsdd", "sc09"):
        options = {} if name == "fsdd" else {"verify": False}
        whole = data.clips(name, folder, split, **options)
        sounds = [
            clip.numpy().astype("<u2")[None, None]
            for clip in (drawn if name == "fsdd" else spread)(whole.clips, number)
        ]
        return [Content(Kind.AUDIO, sound, "wav", rate=whole.rate) for sound in sounds]
    letters = np.frombuffer(LETTERS if name == "text27" else bytes(range(256)), np.uint8)
    alphabet = "27" if name == "text27" else "bytes"
    texts = data.load("text", folder, split, alphabet=alphabet, length=256).items
    return [Content.of_bytes(letters[item.numpy()].tobytes()) for item in spread(texts, number)]


def compare(options):
    items, training = (
        contents(options.set, options.data, split, number)
        for split, number in (("test", options.items), ("train", options.training))
    )
    engine = Engine(options.model, backend=options.backend, device=options.device, threads=options.threads)
    own, why = at_levels(engine, [int(level) for level in options.levels.split(",")], items[0])
    if why:
        sys.exit(f"no model codes these items: {why}")
    samples, rows = sum(item.samples.size for item in items), []
    for i, codec in enumerate((*own, *classical(items, training, options.threads or os.cpu_count()))):
        row = measure(codec, items, i < len(own), options.together)
        rows.append(row)
        print(row.name, row.why or f"{8 * row.bytes / samples:.4f}", flush=True)
    about = {"data": TITLES[options.set].format(len(items)), "model": str(options.model or "bundled")}
    return Comparison(items, rows, {**about, **facts(options.threads)})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=list(TITLES), default="english")
    parser.add_argument("--data", required=True, help="folder of the data set in its published layout")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument(
        "--training", type=int, default=5000, help="training items for zstd dictionaries and PPMd priming"
    )
    parser.add_argument("--model", help="bundled model, or folder of a model")
    parser.add_argument("--levels", default="1,2,3,4,5,6,7,8,9")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--together", action="store_true", help="also measure all items in one file")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for the picture and the JSON")
    options = parser.parse_args(arguments)
    compared = compare(options)
    name = f"rate-{options.set}"
    draw(compared, options.out / f"{name}.png")
    (options.out / f"{name}.json").write_text(json.dumps(compared.record(), indent=1) + "\n")
    print(f"\n{compared.title}\n\n{markdown(*compared.table())}\n\n{'; '.join(compared.versions())}")


if __name__ == "__main__":
    main()
