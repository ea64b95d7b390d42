"""Bits per dimension and seconds against network calls, each picture a file of its own, header included.

    python benchmarks/rate.py --data data --items 500          # CIFAR-10 test images (give the folder they lie in)
    python benchmarks/rate.py                                  # without it: the 32 tiles that the package ships

Prints a table and writes a plot.  Every file is decoded again and compared.  The classical codecs code the same
pictures, one by one; JPEG XL is measured where imagecodecs is installed (pip install "ardm[bench]").
"""

import argparse
import io
import math
import time
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ardm import data
from ardm.bundle import load
from ardm.codec import pack, unpack
from ardm.files import read_image


def pictures(folder, items):
    if folder:
        return data.load("cifar10", folder, "test").items[:items], "CIFAR-10 test"
    whole = read_image(Path(str(resources.files("ardm") / "assets" / "demo" / "tiles.png")))
    tiles = whole.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32)
    return tiles[:items], "bundled tiles"


def classical(x):
    """Mean bits per dimension of each codec, picture by picture."""

    def pillow(**options):
        def size(array):
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, **options)
            return buffer.tell()

        return size

    codecs = {
        "PNG": pillow(format="PNG", optimize=True),
        "WebP lossless": pillow(format="WEBP", lossless=True, quality=100, method=6, exact=True),
    }
    try:
        import imagecodecs

        for effort in (7, 9):
            codecs[f"JPEG XL e{effort}"] = lambda a, e=effort: len(
                imagecodecs.jpegxl_encode(a, lossless=True, effort=e)
            )
    except ImportError:
        pass
    arrays = [np.ascontiguousarray(item.permute(1, 2, 0).numpy()) for item in x]
    return {name: 8 * np.mean([size(a) for a in arrays]) / x[0].numel() for name, size in codecs.items()}


def measure(bundle, x, calls):
    """bits/dim, its standard error, overhead bits beyond the model's −log2 p, seconds to encode and decode a picture."""
    bits, over, coding, decoding = [], [], 0.0, 0.0
    for item in x:
        began = time.perf_counter()
        file, report = pack(item, bundle, calls)
        middle = time.perf_counter()
        assert torch.equal(unpack(file, bundle)[0], item)
        decoding += time.perf_counter() - middle
        coding += middle - began
        bits.append(8 * len(file) / item.numel())
        if not report.stored and report.bits:
            over.append((8 * (len(file) - report.header_bytes) - report.bits, report.bits))
    stream = np.array(over)
    worst = (stream[:, 0] - 0.001 * stream[:, 1]).max()
    return (
        np.mean(bits),
        np.std(bits) / math.sqrt(len(bits)),
        stream[:, 0].mean(),
        worst,
        coding / len(x),
        decoding / len(x),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10-codec")
    parser.add_argument("--data", help="folder of CIFAR-10 (binary version)")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--calls", default="8,14,26,50")
    parser.add_argument("--out", type=Path, default=Path("rate.png"))
    options = parser.parse_args()
    bundle = load(options.model)
    x, name = pictures(options.data, options.items)
    budgets = [int(c) for c in options.calls.split(",")]
    rows = {calls: measure(bundle, x, calls) for calls in budgets}
    others = classical(x)
    print(
        f"{len(x)} pictures ({name}), {bundle.name} {bundle.identity}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print("calls  bits/dim  ± s.e.   stream over −log2 p: mean, worst beyond 0.1 %   encode s  decode s")
    for calls, (bits, error, over, worst, coding, decoding) in rows.items():
        print(
            f"{calls:5}  {bits:8.4f}  {error:6.4f}  {over:10.1f} bits  {worst:10.1f} bits {coding:24.3f} {decoding:9.3f}"
        )
    for other, bits in others.items():
        print(f"{other:>14}  {bits:8.4f}")
    plot(rows, others, f"{bundle.name} on {len(x)} pictures ({name}), one file each", options.out)


def plot(rows, others, title, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    others = {n: b for n, b in others.items() if n != "JPEG XL e9" or b < others["JPEG XL e7"]}  # lines on one another
    bits = [r[0] for r in rows.values()]
    left.errorbar(list(rows), bits, [2 * r[1] for r in rows.values()], marker="o", capsize=3)
    left.set(xlabel="network calls", ylabel="bits per dimension, header included", xscale="log")
    left.set_xticks(list(rows), [str(c) for c in rows])
    left.minorticks_off()
    right.plot([r[5] for r in rows.values()], bits, "o-")
    right.set(xlabel="seconds to decode a picture")
    for axes in (left, right):
        for i, (name, value) in enumerate(others.items()):
            axes.axhline(value, color=f"C{i + 1}", lw=1, ls="--")
            axes.annotate(name, (0.99, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
