"""`ardm fit` on many small pictures and sounds: tiles of CIFAR-10, spoken digits at 8 kHz and at 16 kHz.

    python benchmarks/tiles_and_clips.py --cifar10 data/cifar10 --fsdd data/fsdd --minutes 4
    python benchmarks/tiles_and_clips.py --speech sc09_digits_16k.npz.xz --minutes 6

--cifar10   the published layout; 2,000 tiles of its test part as PNG, which no bundled model has seen
--fsdd      the published layout; 500 clips as WAV, evenly spread
--speech    clips of one length at 16 kHz: an .npz, perhaps in xz, whose `lo` and `hi` are the bytes of zigzagged differences

Writes a folder NAME and NAME.model into --out, and prints the table of `ardm fit`.  benchmarks/records.py is for lines.
"""

from __future__ import annotations

import argparse
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from records import fit, unpacked

from ardm import data


def spread(number: int, most: int) -> range:
    """Positions of at most so many of a number of items, evenly spread."""
    return range(0, number, max(1, number // most)) if number > most else range(number)


def tiles(source: Path, folder: Path, items: int) -> None:
    """PNG files of test images."""
    images = data.load("cifar10", source, "test").items.numpy()
    for n in list(spread(len(images), items))[:items]:
        Image.fromarray(images[n].transpose(1, 2, 0)).save(folder / f"{n:05}.png")


def digits(source: Path, folder: Path, items: int) -> None:
    """WAV files of clips of all lengths."""
    found = data.clips("fsdd", source, "train")
    for n in list(spread(len(found.clips), items))[:items]:
        sound(folder / f"{n:05}.wav", (found.clips[n].numpy() - (1 << 15)).astype("<i2"), found.rate)


def speech(source: Path, folder: Path, items: int) -> None:
    """WAV files of clips at 16 kHz."""
    held = unpacked(source)
    zigzag = held["lo"].astype(np.int32) | held["hi"].astype(np.int32) << 8
    clips = np.cumsum((zigzag >> 1) ^ -(zigzag & 1), axis=1).astype("<i2")
    for n in list(spread(len(clips), items))[:items]:
        sound(folder / f"{n:05}.wav", clips[n], 16000)


def sound(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """Write a WAV file of one channel."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


SOURCES: dict[str, tuple[Callable[[Path, Path, int], None], int]] = {
    "cifar10": (tiles, 2000), "fsdd": (digits, 500), "speech": (speech, 500),
}  # fmt: skip
"""For each, what writes its files, and how many at most."""


def main() -> None:
    """Write the files, and fit a codec to them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    for name, (make, items) in SOURCES.items():
        source = getattr(options, name)
        if source is None:
            continue
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        make(source, folder, items)
        fit(folder, name, options.out, options.minutes)


if __name__ == "__main__":
    main()
