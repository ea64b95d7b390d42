"""Measure the codec of pictures in one run: small photographs, whole photographs, digits, and speed.

    python benchmarks/codec_pictures.py --data data
    python benchmarks/codec_pictures.py --data data --photos a.png b.png --models runs/mine/model --out figures

rates    the first 300 test pictures of CIFAR-10 and 300 spread test digits of MNIST, each a file of its own, decoded and
         compared, beside every classical codec; headerless is −log2 p of the integer model, without header, check and flush
photos   each picture at full size beside PNG, WebP and JPEG XL; by default the three bundled photographs
speed    one picture of 32×32, one of 512×512 (the middle of the first photograph so large), and an archive of tiles;
         in this process, warm, encoding without verification; the median of several runs, by the clock and in CPU time,
         for every model on every backend

Prints Markdown, and writes rate.png, rate-mnist.png, their JSON and codec-pictures.json with machine, versions, date and
command.  The models are those of the levels 1, 7 and 9 unless named.  Needs pip install ".[bench]".
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ardm import data
from ardm.bench.classical import classical
from ardm.bench.compare import Comparison, markdown, measure, ours
from ardm.bench.machine import facts
from ardm.bench.plot import draw
from ardm.codec import registry
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.decode import decompress
from ardm.codec.encode import compress
from ardm.codec.model_coder import ModelCoder
from ardm.codec.regions import parts
from ardm.codec.selection import GREY
from ardm.content import Content, Kind
from ardm.errors import ArdmError

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
DEMO = Path(str(resources.files("ardm") / "assets" / "demo"))
PHOTOS = [DEMO / f"{name}.png" for name in ("astronaut", "chelsea", "coffee")]
FAMILIAR = ("PNG", "WebP lossless", "JPEG XL e7", "JPEG XL e9")
"""The codecs that photographs are compared with; the last is the one to beat."""
LEVELS = (1, 7, 9)
Coders = dict[str, ModelCoder]
Cells = list[list[str]]


# --- items ------------------------------------------------------------------------------------------------------------


def cifar(options: argparse.Namespace, split: str, number: int) -> list[Content]:
    """The first images of a split."""
    return [image(x.numpy()) for x in data.load("cifar10", options.data, split).items[:number]]


def digits(options: argparse.Namespace, split: str, number: int) -> list[Content]:
    """Digits, evenly spread over a split."""
    items = data.load("mnist", options.data, split).items
    return [image(items[k * len(items) // number].numpy()) for k in range(min(number, len(items)))]


def photo(path: Path, side: int = 0) -> Content:
    """A picture file in colours; side: only the middle of at most so many pixels."""
    x = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
    return middle(image(x), side) if side else image(x)


def middle(content: Content, side: int) -> Content:
    """The middle of a picture, at most side × side pixels."""
    y, x = (max(0, (n - side) // 2) for n in content.shape[1:])
    return image(content.samples[:, y : y + side, x : x + side])


def square(paths: Sequence[Path], side: int) -> Content:
    """The middle of the first picture that is large enough, side × side pixels; else the first one, repeated."""
    pictures = [photo(path) for path in paths]
    found = next((x for x in pictures if min(x.shape[1:]) >= side), None)
    if found is not None:
        return middle(found, side)
    first = pictures[0].samples
    return middle(image(np.tile(first, (1, *(-(-side // n) for n in first.shape[1:])))), side)


def image(samples: np.ndarray) -> Content:
    """Samples (C, H, W) of 8 bits as a content."""
    return Content(Kind.IMAGE, np.ascontiguousarray(samples, dtype=np.uint8))


# --- models -----------------------------------------------------------------------------------------------------------


def coders(options: argparse.Namespace, backend: str) -> Coders:
    """The coders of pictures by the names of their rows, the smallest model first."""
    named = {registry.model(name).name: name for name in options.models}
    chosen = named or {f"ardm -{level}": name for name, level in _levels().items()}
    return {row: registry.coder(name, None, backend, "cpu", options.threads) for row, name in chosen.items()}


def _levels() -> dict[str, int]:
    """The bundled models of pictures, each with the level that stands for it."""
    found: dict[str, int] = {}
    for level in LEVELS:
        found.setdefault(registry.pictures(level), level)
    return found


def headerless(coder: ModelCoder, items: Sequence[Content]) -> tuple[float, float]:
    """Bits per value by the model alone: the mean over items of one shape, and its standard error."""
    jobs = [[item.samples[part] for part in parts(item.shape[0], coder.planes)] for item in items]
    bits = [sum(part.bits for part in job) for job in coder.encode(jobs)]
    rates = np.array(bits) / items[0].samples.size
    return float(rates.mean()), float(rates.std(ddof=1) / len(rates) ** 0.5) if len(rates) > 1 else float("nan")


# --- rates ------------------------------------------------------------------------------------------------------------


def rates(models: Coders, items: list[Content], training: list[Content], title: str, threads: int) -> Comparison:
    """Every model and every classical codec on small items, each a file of its own, and all in one file."""
    own = [ours(name, coder) for name, coder in models.items()]
    rows = [measure(codec, items, True, True) for codec in own]
    rows += [measure(codec, items, False, True) for codec in classical(items, training, threads)]
    return Comparison(items, rows, {"data": title, "model": "bundled", **facts(threads)})


def small(compared: Comparison, models: Coders, first: int) -> tuple[list[str], Cells, list[dict[str, Any]]]:
    """The table of small items: without headers, as files, the first few of them, and in an archive."""
    cells, found = [], []
    for row in compared.rows:
        if not row.measured:
            continue
        bare = headerless(models[row.name], compared.items) if row.name in models else None
        values = compared.items[0].samples.size
        some = 8 * sum(row.sizes[:first]) / (len(row.sizes[:first]) * values)
        together = compared.rate(sum(row.together.sizes)) if row.together else None
        error, rate = compared.error(row), compared.rate(row.bytes)
        found.append(
            {
                "name": row.name, "headerless": bare and bare[0], "headerless_error": bare and bare[1],
                "files": rate, "files_error": error, "first": some, "archive": together,
                "overhead_bytes": bare and (rate - bare[0]) * values / 8,
            }
        )  # fmt: skip
        shown = f"{bare[0]:.3f} ± {bare[1]:.3f}" if bare else ""
        cells.append(
            [row.name, shown, f"{rate:.3f} ± {error:.3f}", f"{some:.3f}", f"{together:.3f}" if together else ""]
        )
    heads = ["", "headerless", f"files, {len(compared.items)}", f"files, the first {first}", "one archive"]
    return heads, cells, found


# --- photographs ------------------------------------------------------------------------------------------------------


def photographs(models: Coders, paths: Sequence[Path], options: argparse.Namespace) -> tuple[list[str], Cells, Any]:
    """The table of whole photographs: bytes by each codec, and relative to the last classical one."""
    items = [photo(path, options.crop) for path in paths]
    others = [codec for codec in classical(items, (), options.threads) if codec.name in FAMILIAR]
    rows = [measure(codec, items) for codec in others]
    rows += [measure(ours(name, coder), items, True) for name, coder in models.items()]
    whole = [row for row in rows if row.measured]
    best = next((row.bytes for row in whole if row.name == FAMILIAR[-1]), None)
    lines = [[path.stem, *(f"{row.sizes[k]:,}" for row in whole)] for k, path in enumerate(paths)]
    lines.append(["all", *(f"{row.bytes:,}" for row in whole)])
    if best:
        lines.append([f"relative to {FAMILIAR[-1]}", *(f"{row.bytes / best:.3f}" for row in whole)])
    keep = ("name", "version", "sizes", "encoding", "decoding", "peak", "why")
    record = [{key: getattr(row, key) for key in keep} for row in rows]
    return ["", *(row.name for row in whole)], lines, {"pictures": [path.name for path in paths], "rows": record}


# --- speed ------------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], object], repeat: int, warm: bool = True) -> dict[str, float]:
    """The median of several runs in seconds: of a clock on the wall, and of the processor."""
    walls, cpus = [], []
    for _ in range(repeat + warm):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": statistics.median(walls[warm:]), "cpu": statistics.median(cpus[warm:])}


def alone(coder: ModelCoder, item: Content, repeat: int) -> dict[str, dict[str, float]]:
    """One picture as a file of its own: encoding, and decoding."""
    file = compress(item, coder)[0]
    assert np.array_equal(decompress(file, lambda *_: coder).samples, item.samples)
    return {
        "encode": timed(lambda: compress(item, coder), repeat),
        "decode": timed(lambda: decompress(file, lambda *_: coder), repeat, False),
    }


def archived(coder: ModelCoder, tiles: list[Content]) -> dict[str, float]:
    """Seconds of decoding an archive of tiles."""
    archive = open_archive(compress_archive(tiles, coder=coder)[0])
    return timed(lambda: list(archive.items(lambda *_: coder)), 1, False)


def speeds(options: argparse.Namespace, tiles: list[Content]) -> Iterator[dict[str, Any]]:
    """A row for each model on each backend; a backend that cannot run a model has its reason instead."""
    large = square(options.photos, options.side)
    for backend in options.backends.split(","):
        try:
            models = coders(options, backend)
        except ArdmError as error:
            yield {"backend": backend, "why": str(error)}
            continue
        for name, coder in models.items():
            yield {
                "name": name, "model": coder.model.name, "identity": coder.identity[:8], "backend": backend,
                "tile": alone(coder, tiles[0], options.repeat), "photo": alone(coder, large, min(3, options.repeat)),
                "archive": archived(coder, tiles), "tiles": len(tiles),
            }  # fmt: skip


def speed_cells(row: dict[str, Any]) -> list[str]:
    """A row of the table of speeds, wall-clock time with CPU time in brackets."""
    if "why" in row:
        return ["", row["backend"], row["why"]]
    pairs = [row[what][way] for what in ("tile", "photo") for way in ("encode", "decode")]
    shown = [f"{_time(pair['wall'])} ({_time(pair['cpu'])})" for pair in pairs]
    rate = [f"{row['tiles'] / row['archive'][clock]:.0f}" for clock in ("wall", "cpu")]
    return [row["model"], row["backend"], *shown, f"{rate[0]} ({rate[1]})"]


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


# --- the run ----------------------------------------------------------------------------------------------------------


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of CIFAR-10 and MNIST in their published layout")
    parser.add_argument("--photos", type=Path, nargs="+", default=PHOTOS, help="picture files, coded at full size")
    parser.add_argument(
        "--models", nargs="+", default=[], help="models of pictures (names, folders), the smallest first"
    )
    parser.add_argument("--grey", default=GREY, help="model of grey pictures")
    parser.add_argument(
        "--backends", default="native,float32", help="whose speed is measured; the first one codes all else"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--items", type=int, default=300, help="test pictures of CIFAR-10 and of MNIST")
    parser.add_argument("--training", type=int, default=5000, help="training items for zstd's dictionaries")
    parser.add_argument("--repeat", type=int, default=9, help="runs, of which the median counts")
    parser.add_argument("--tiles", type=int, default=1000, help="tiles of the archive")
    parser.add_argument("--only", default="cifar10,mnist,photos,speed", help="parts to measure")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for pictures and JSON")
    parser.add_argument("--quick", action="store_true", help="a few small items, to see that everything works")
    options = parser.parse_args(given)
    options.first, options.side, options.crop = min(60, options.items), 512, 0
    if options.quick:
        options.items, options.first, options.training, options.tiles = 3, 2, 8, 4
        options.repeat, options.side, options.crop = 1, 16, 16
    return options


def command(given: Sequence[str]) -> str:
    """The command line, with the names of files and folders but not where they lie on this machine."""
    return shlex.join(["python", "benchmarks/codec_pictures.py", *(Path(word).name for word in given)])


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options, only = arguments(given), []
    only = options.only.split(",")
    backend = options.backends.split(",")[0]
    models = coders(options, backend)
    found: dict[str, Any] = {
        **facts(options.threads),
        "command": command(sys.argv[1:] if given is None else given),
        "models": {name: [coder.model.name, coder.identity] for name, coder in models.items()},
        "backend": backend,
    }
    for name, make, title in (
        ("cifar10", cifar, "CIFAR-10, the first {} test images"),
        ("mnist", digits, "MNIST, {} test images"),
    ):
        if name not in only:
            continue
        greys = {GREY: registry.coder(options.grey, None, backend, "cpu", options.threads)} if name == "mnist" else {}
        items, training = (
            make(options, split, n) for split, n in (("test", options.items), ("train", options.training))
        )
        compared = rates({**greys, **models}, items, training, title.format(len(items)), options.threads)
        file = options.out / ("rate" if name == "cifar10" else f"rate-{name}")
        draw(compared, file.with_suffix(".png"))
        file.with_suffix(".json").write_text(json.dumps(compared.record(), indent=1) + "\n")
        heads, cells, found[name] = small(compared, {**greys, **models}, options.first)
        print(f"\n## {title.format(len(items))}\n\nBits per value.\n\n{markdown(heads, cells)}", flush=True)
    if "photos" in only:
        heads, cells, found["photos"] = photographs(models, options.photos, options)
        print(f"\n## Photographs at full size\n\nBytes.\n\n{markdown(heads, cells)}", flush=True)
    if "speed" in only:
        tiles = cifar(options, "test", options.tiles)
        found["speed"] = list(speeds(options, tiles))
        heads = ["model", "backend", "32×32: encode", "decode", f"{options.side}×{options.side}: encode", "decode"]
        heads.append(f"archive of {len(tiles):,}: decode, tiles/s")
        about = f"{options.threads} thread(s), warm; wall-clock time, in brackets CPU time."
        print(f"\n## Speed\n\n{about}\n\n{markdown(heads, list(map(speed_cells, found['speed'])))}", flush=True)
    (options.out / "codec-pictures.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{found['date']}; {found['machine']}; {found['versions']}; {found['models']}; `{found['command']}`")


if __name__ == "__main__":
    main()
