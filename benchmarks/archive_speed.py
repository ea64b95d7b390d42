"""Time of archives: archive and decode a mix of small images, archive and restore many small files, and many small texts.

    python benchmarks/archive_speed.py [IMAGES] [FILES] [TEXTS]
    python benchmarks/archive_speed.py 0 0 10000 MODEL LINES    # lines of a file by a model of them, instead of texts by english
    python benchmarks/archive_speed.py 0 0 10000 pictures-small TILES    # a folder of pictures of one size

Images are 16 to 96 pixels wide and high, in PNG, WebP, JPEG and BMP; every fifth is grey.  CPU seconds count all
threads; if other programs run at the same time, they are more reliable than wall time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ardm
from ardm.codec.selection import Engine
from ardm.files.extract import check_archive
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import Found, walk
from ardm.files.unpack import restore_archive

DEMO = Path(str(resources.files("ardm") / "assets" / "demo"))
TEXT = Path(__file__).parents[1] / "examples" / "data" / "alice.txt"
FORMATS = ("png", "webp", "png", "jpg", "bmp")


def mix(folder: Path, count: int) -> None:
    """Crop pieces of the bundled photographs into files."""
    rng = np.random.default_rng(0)
    photos = [Image.open(DEMO / f"{name}.png").convert("RGB") for name in ("astronaut", "chelsea", "coffee")]
    for k in range(count):
        photo = photos[k % 3]
        w, h = (min(int(drawn), side) for drawn, side in zip(rng.integers(16, 97, 2), photo.size, strict=True))
        x, y = int(rng.integers(photo.width - w + 1)), int(rng.integers(photo.height - h + 1))
        picture = photo.crop((x, y, x + w, y + h))
        path = folder / "abc"[k % 3] / f"{k}.{FORMATS[k * 7 % 5]}"
        path.parent.mkdir(exist_ok=True)
        (picture.convert("L") if k % 5 == 4 else picture).save(
            path, **({"lossless": True} if "webp" in path.name else {})
        )


def took(what: str, work: Callable[[], object]) -> float:
    """Run some work and print its wall and CPU time; returns the latter."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    spent = time.process_time() - cpu
    print(f"{what}: {time.perf_counter() - wall:.1f} s, {spent:.1f} s of CPU time", flush=True)
    return spent


def texts_of(count: int) -> list[bytes]:
    """Pieces of a book."""
    text, rng = TEXT.read_bytes(), np.random.default_rng(0)
    return [text[a : a + 200] for a in rng.integers(0, len(text) - 200, count).tolist()]


def coded(folder: Path, items: list[bytes], model: str) -> None:
    """Texts that a model codes: creating (which decodes, too) and extracting all, beside coding the same in memory."""
    for k, item in enumerate(items):
        path = folder / "texts" / str(k % 20) / f"{k}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item)
    compared(list(walk([folder / "texts"])), items, model, folder)


def tiles(paths: list[Path], model: str) -> None:
    """The same for picture files."""
    arrays = [np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths]
    with tempfile.TemporaryDirectory() as name:
        compared([Found.named(path) for path in paths], arrays, model, Path(name))


def compared(found: Sequence[Found], items: Sequence[Any], model: str, folder: Path) -> None:
    """An archive of files, created, verified and restored, beside the same items coded in memory."""
    count, codec, data = len(items), ardm.Codec(model), list[bytes]()
    codec.decode(codec.encode(items[0]))  # loads everything
    coding = took(f"{count} items encoded in memory", lambda: data.extend(codec.encode_many(items)))
    coding += took("decoded", lambda: codec.decode_many(data))
    options = FileOptions(Engine(model))
    files = took(f"{count} items archived and verified", lambda: make_archive(found, folder / "t.ardm", options))
    files += took("restored", lambda: restore_archive(folder / "t.ardm", None, options))
    print(f"created and restored in {files / coding:.2f} times the coding time")


def main(
    pictures: str = "203", files: str = "1500", texts: str = "1000", model: str = "english", lines: str = ""
) -> None:
    """Run all measurements in a temporary folder; those of no items are left out."""
    if Path(lines).is_dir() and lines:
        tiles(sorted(Path(lines).iterdir())[: int(texts)], model)
        return
    items = Path(lines).read_bytes().splitlines()[: int(texts)] if lines else texts_of(int(texts))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if int(pictures):
            of_pictures(folder, int(pictures))
        if int(files):
            of_files(folder, int(files))
        if items:
            coded(folder, items, model)


def of_pictures(folder: Path, pictures: int) -> None:
    """Pictures of several sizes and formats."""
    (folder / "in").mkdir()
    mix(folder / "in", pictures)
    found = list(walk([folder / "in"], entries=True))
    took(f"{pictures} images archived", lambda: make_archive(found, folder / "p.ardm", FileOptions(verify=False)))
    took("decoded", lambda: check_archive(folder / "p.ardm", FileOptions()))


def of_files(folder: Path, files: int) -> None:
    """Files of noise, which are stored."""
    for k in range(files):
        path = folder / "many" / str(k % 20) / f"{k}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.random.default_rng(k).bytes(400))
    found = list(walk([folder / "many"]))
    took(f"{files} files archived", lambda: make_archive(found, folder / "m.ardm", FileOptions()))
    took("decoded", lambda: check_archive(folder / "m.ardm", FileOptions()))
    took("restored", lambda: restore_archive(folder / "m.ardm"))


if __name__ == "__main__":
    main(*sys.argv[1:6])
