"""Peak memory of reading, checking, storing and writing a file of each format: the numbers of `limits.HELD`.

    python benchmarks/peaks.py [--reading] [MEGABYTES ...]        (Linux; default: 4 and 10 MB of samples; takes minutes)

Each row is one file of noise (n) or of slopes (s), whose samples take `raw` bytes.  `held` is what HELD must cover: the peak
growth of the process minus READ per byte of the file and minus BASE, per byte of raw.

--reading: only slopes and one kind per format, without storing; takes seconds.
"""

from __future__ import annotations

import ctypes
import gc
import io
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ardm import formats
from ardm.codec import decode, encode
from ardm.content import Content, Kind
from ardm.files.limits import BASE, HELD, READ, UNLIMITED
from ardm.files.load import fingerprint, parse
from ardm.files.options import FileOptions
from ardm.files.restore import rendered

KINDS = [("png", 1, 1), ("png", 4, 1), ("png", 8, 1), ("png", 8, 3), ("png", 8, 4), ("png", 16, 1), ("png", 16, 4),
         ("webp", 8, 3), ("webp", 8, 4), ("bmp", 1, 1), ("bmp", 8, 1), ("bmp", 8, 3), ("ppm", 8, 1), ("ppm", 16, 3),
         ("tiff", 1, 1), ("tiff", 8, 3), ("tiff", 16, 3), ("wav", 8, 2), ("wav", 16, 2), ("flac", 8, 2), ("flac", 16, 2),
         ("npy", 8, 3), ("npy", 16, 1)]  # fmt: skip
KINDS += [(name, 8, 1) for name in formats.FORMATS if name not in {kind[0] for kind in KINDS}]
"""Format, bits per sample, channels."""


def status(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def peak(work: Callable[[], Any]) -> int:
    """Peak growth of the process during some work, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def made(format: str, bits: int, channels: int, side: int, noise: bool) -> bytes:
    """The bytes of a file of noise or slopes."""
    if noise:
        x = np.random.default_rng(0).integers(0, 1 << bits, (channels, side, side))
    else:
        y, x = np.mgrid[:side, :side]
        x = np.stack([(y // 7 + x // 5 + c) % (1 << bits) for c in range(channels)])
    about = {}
    if bits < 8:
        x, about = x * (255 // ((1 << bits) - 1)), {"depth": bytes([bits])}
    samples = x.astype("u1" if bits <= 8 else "<u2")
    if formats.FORMATS[format].kind == Kind.AUDIO:
        return formats.render(Content(Kind.AUDIO, samples.reshape(channels, 1, -1), "wav", {}, 44100), format)
    return formats.render(Content(Kind.IMAGE, samples, "" if format == "npy" else format, about), format)


def through(data: bytes, reading: bool) -> None:
    """Read, check, store, decode and write a file; `reading`: only read and check it."""
    loaded = parse(data, FileOptions(), "")
    if reading:
        return
    packed, _ = encode.compress(loaded.content, None, loaded.data)
    loaded.fingerprints()
    del loaded
    for content in decode.frames(io.BytesIO(packed), _none, UNLIMITED):
        fingerprint(content)
        rendered(content)


def _none(identity: str, calls: int) -> Any:
    raise AssertionError("no model is needed here")


def measured(sizes: list[int], reading: bool) -> Iterator[tuple[str, int, int, str, int, int, int]]:
    """Yield format, bits, channels, n or s, bytes of samples and of the file, peak."""
    kinds = list({(format, bits < 8): (format, bits, channels) for format, bits, channels in KINDS}.values())
    for (format, bits, channels), size, noise in product(kinds if reading else KINDS, sizes, (True, False)):
        if noise and reading:
            continue
        each = channels * (1 + (bits > 8))
        side = int((size / each) ** 0.5)
        data = made(format, bits, channels, side, noise)
        most = peak(lambda data=data: through(data, reading)) + len(data)
        yield format, bits, channels, "ns"[not noise], side * side * each, len(data), most


if __name__ == "__main__":
    reading = "--reading" in sys.argv
    sizes = [int(float(text) * 1e6) for text in sys.argv[1:] if text != "--reading"] or [4_000_000, 10_000_000]
    print("format bits channels  kind      raw     file     peak   held   HELD")
    for format, bits, channels, kind, raw, size, most in measured(sizes, reading):
        held = max(0, most - BASE - READ * size) / raw
        print(
            f"{format:6}{bits:5}{channels:9}  {kind:4}{raw / 1e6:8.1f}M{size / 1e6:8.1f}M{most / 1e6:8.1f}M"
            f"{held:7.1f}{HELD[format][bits < 8]:7}",
            flush=True,
        )
