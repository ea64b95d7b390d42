"""The value of context across tile borders: code an image whole, and as independent tiles.

python benchmarks/borders.py PICTURE... [--model pictures] [--crop 192]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ardm.codec import registry


def pixels(path: Path, crop: int) -> np.ndarray:
    """The middle of an image, (3, h, w) uint8."""
    x = np.asarray(Image.open(path).convert("RGB"))
    y, left = (max(0, (n - crop) // 2) for n in x.shape[:2])
    return np.ascontiguousarray(np.moveaxis(x[y : y + crop, left : left + crop], 2, 0))


def tiles(x: np.ndarray, side: int) -> list[list[np.ndarray]]:
    """One job per tile."""
    _, H, W = x.shape
    corners = [(y, left) for y in range(0, H, side) for left in range(0, W, side)]
    return [[np.ascontiguousarray(x[:, y : y + side, left : left + side])] for y, left in corners]


def main() -> None:
    """Print bits per dimension for each image and tile size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default=None)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--calls", type=int, default=None)
    options = parser.parse_args()
    coder = registry.coder(options.model, options.calls)
    sides = [n for n in (32, 64, 128) if n < options.crop]
    print("bits/dim".ljust(24), "whole".rjust(8), *(f"{n}x{n}".rjust(8) for n in sides))
    total = np.zeros(1 + len(sides))
    for path in options.pictures:
        x = pixels(path, options.crop)
        found = [
            sum(part.bits for job in coder.encode(tiles(x, n)) for part in job) / x.size for n in (options.crop, *sides)
        ]
        total += found
        print(path.name.ljust(24), *(f"{bits:8.4f}" for bits in found), flush=True)
    print("mean".ljust(24), *(f"{bits:8.4f}" for bits in total / len(options.pictures)))


if __name__ == "__main__":
    main()
