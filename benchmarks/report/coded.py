"""Items coded by a codec model, each as a file of its own or all in one archive: sizes, times, and whether all came back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.decode import decompress
from ardm.codec.encode import compress
from ardm.codec.model_coder import ModelCoder
from ardm.content import Content

Made = TypeVar("Made")
Seconds = dict[str, float]
"""Seconds per item by the clock ("wall") and of the processor ("cpu")."""


@dataclass(frozen=True)
class Files:
    """Items as files of their own.

    code, file: bits per value of each item by the model (−log2 p), and of its file.  lost: how many did not come back.
    """

    code: list[float]
    file: list[float]
    encode: Seconds
    decode: Seconds
    lost: int


@dataclass(frozen=True)
class Together:
    """Items in one archive; file: its bits per value."""

    file: float
    encode: Seconds
    decode: Seconds
    lost: int


def alone(coder: ModelCoder, items: Sequence[Content]) -> Files:
    """Code each item as a file of its own, one after the other."""
    made, encode = timed(lambda: [_file(coder, item) for item in items], len(items))
    found, decode = timed(lambda: [decompress(file, lambda *_: coder) for _, file in made], len(items))
    code = [bits / item.samples.size for (bits, _), item in zip(made, items, strict=True)]
    file = [8 * len(file) / item.samples.size for (_, file), item in zip(made, items, strict=True)]
    return Files(code, file, encode, decode, _lost(items, found))


def _file(coder: ModelCoder, item: Content) -> tuple[float, bytes]:
    """The bits of an item by the model, whether or not that is the shortest way to store it, and its file."""
    bits = coder.measure(item)
    file, _ = compress(item, coder)  # encodes with what was measured
    coder.forget()
    return bits, file


def together(coder: ModelCoder, items: Sequence[Content]) -> Together:
    """Code all items in one archive, side by side."""
    (file, _), encode = timed(lambda: compress_archive(items, coder=coder), len(items))
    found, decode = timed(lambda: list(open_archive(file).items(lambda *_: coder)), len(items))
    size = 8 * len(file) / sum(item.samples.size for item in items)
    return Together(size, encode, decode, _lost(items, found))


def _lost(items: Sequence[Content], found: Sequence[Content]) -> int:
    return sum(not np.array_equal(a.samples, b.samples) for a, b in zip(items, found, strict=True))


def timed(work: Callable[[], Made], share: int) -> tuple[Made, Seconds]:
    """The result of the work, and the seconds of an item; share: the number of items."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return made, {clock: seconds / share for clock, seconds in spent.items()}


def mean(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, None for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
