"""What compressing spends besides coding: choosing between models, storing for comparison, making states.

    python benchmarks/compressing.py [--level 1]

choosing   CPU time of compressing with the model chosen automatically, over that of compressing with each candidate
storing    calls of LZMA2 and their share of the CPU time, beside those if every region were stored for comparison
states     share of the encoder's CPU time that goes into the states of its steps
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from ardm.codec import encode, fallback, registry
from ardm.codec.selection import Engine, suited
from ardm.content import Content, Kind
from ardm.exact.order import Order

ASSETS = Path(str(resources.files("ardm") / "assets"))
WORDS = "the of and to in a is that it was for on as with his he be at by i this had not are but from or have an they"


def contents() -> dict[str, Content]:
    """Something for every kind of model: letters, text, a drawing, a picture."""
    rng = np.random.default_rng(0)
    letters = " ".join(rng.choice(WORDS.split(), 1500))
    tiles = np.asarray(Image.open(ASSETS / "demo" / "tiles.png").convert("RGB"))[:64, :64].transpose(2, 0, 1)
    y, x = np.mgrid[:28, :28]
    drawing = np.clip(300 - 40 * abs(np.hypot(y - 14, x - 14) - 8), 0, 255).astype(np.uint8)
    prose = (Path(__file__).parent.parent / "README.md").read_bytes()[:6000]
    return {
        "letters": Content.of_bytes(letters.encode()),
        "text": Content.of_bytes(prose),
        "drawing": Content(Kind.IMAGE, drawing[None], "png"),
        "picture": Content(Kind.IMAGE, np.ascontiguousarray(tiles), "png"),
    }


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    """The least CPU time of several runs."""
    found = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def watched(owner: object, name: str, work: Callable[[], object]) -> tuple[int, float]:
    """How often a function is called by some work, and its share of the CPU time."""
    real, spent = getattr(owner, name), list[float]()

    def timed(*given: object, **named: object) -> object:
        began = time.process_time()
        try:
            return real(*given, **named)
        finally:
            spent.append(time.process_time() - began)

    began = time.process_time()
    with mock.patch.object(owner, name, timed):
        work()
    return len(spent), sum(spent) / (time.process_time() - began)


def measured(content: Content, level: int) -> str:
    """The three measurements of a content."""
    engine = Engine(level=level, threads=1)
    each = []
    for candidate in suited(content):
        model = registry.model(candidate)
        coder = registry.coder(model, registry.calls_of(model, level), threads=1)
        if coder.refuses(content) is None:
            each.append(seconds(partial(encode.compress, content, coder)))
    both = seconds(lambda: encode.compress(content, engine.coder(content)))
    coded = partial(encode.compress, content, engine.coder(content))
    size = len(coded()[0])  # and the symbols kept by the choice are used up
    calls, lzma = watched(fallback, "_pack", coded)
    with mock.patch.object(fallback, "CLEARLY", 0.0):
        always, always_lzma = watched(fallback, "_pack", coded)
    _, states = watched(Order, "before", coded)
    return (
        f"choosing {both / sum(each):5.2f} × one pass of each ({len(each)})   LZMA2 {calls} calls, {lzma:5.1%} "
        f"(stored for comparison: {always} calls, {always_lzma:5.1%})   states {states:5.1%}   {size} bytes"
    )


def main() -> None:
    """Print the three measurements for every content."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=1, help="level of the models")
    level = parser.parse_args().level
    torch.set_num_threads(1)
    for name, content in contents().items():
        print(f"{name:8}  {measured(content, level)}")


if __name__ == "__main__":
    main()
