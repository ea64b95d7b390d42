"""What coding many small items together gains: milliseconds an item with `ardm.Codec`, one by one and together.

    OMP_NUM_THREADS=1 python benchmarks/many_items.py [TOGETHER] [ALONE]

Texts of 256 characters and pictures of 32x32 pixels from the package; TOGETHER of them at once, the first ALONE of them
one by one.  CPU seconds count all threads: on several cores, wall time gains more, because one item uses one core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import ardm

DEMO = Path(str(resources.files("ardm") / "assets" / "demo"))
TEXT = Path(__file__).parents[1] / "examples" / "data" / "alice.txt"


def texts(count: int) -> list[bytes]:
    """Pieces of 256 characters."""
    text = TEXT.read_bytes()
    return [text[start : start + 256] for start in np.random.default_rng(0).integers(0, len(text) - 256, count)]


def pictures(count: int) -> list[np.ndarray]:
    """Squares (3, 32, 32) of the bundled photographs."""
    rng = np.random.default_rng(0)
    photos = [
        np.asarray(Image.open(DEMO / f"{name}.png").convert("RGB")) for name in ("astronaut", "chelsea", "coffee")
    ]
    found = []
    for k in range(count):
        photo = photos[k % 3]
        y, x = (int(rng.integers(side - 31)) for side in photo.shape[:2])
        found.append(photo[y : y + 32, x : x + 32].transpose(2, 0, 1))
    return found


def milliseconds(work: Callable[[], object], items: int) -> tuple[float, float]:
    """CPU and wall milliseconds an item."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return 1000 * (time.process_time() - cpu) / items, 1000 * (time.perf_counter() - wall) / items


def compare(what: str, model: str, items: Sequence[object], alone: int) -> None:
    """Print one row for encoding, one for decoding, and one for both."""
    codec = ardm.Codec(model)
    data = codec.encode_many(items)
    assert [codec.encode(item) for item in items[:alone]] == data[:alone]  # which also loads everything
    rows = {
        "encode": (lambda: [codec.encode(item) for item in items[:alone]], lambda: codec.encode_many(items)),
        "decode": (lambda: [codec.decode(one) for one in data[:alone]], lambda: codec.decode_many(data)),
    }
    sums = np.zeros((2, 2))
    for name, (one_by_one, together) in rows.items():
        times = np.array([milliseconds(one_by_one, alone), milliseconds(together, len(items))])
        sums += times
        show(what, name, times)
    show(what, "both", sums)


def show(what: str, name: str, times: np.ndarray) -> None:
    """Print one row."""
    (cpu, wall), (cpu_many, wall_many) = times
    print(
        f"{what:>8} {name:>6}: CPU {cpu:8.2f} -> {cpu_many:7.2f} ms, {cpu / cpu_many:5.1f} times; "
        f"wall {wall:8.2f} -> {wall_many:7.2f} ms, {wall / wall_many:5.1f} times",
        flush=True,
    )


def main(together: int = 128, alone: int = 8) -> None:
    """Print all rows."""
    compare("text", "english", texts(together), alone)
    compare("picture", "pictures", pictures(together), alone)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
