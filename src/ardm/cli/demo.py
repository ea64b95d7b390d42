"""`ardm demo`: small pictures file by file against PNG and lossless WebP, restored and verified; filling; sampling."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from rich.table import Table
from torch import Tensor

from ardm import api
from ardm.bundle import Bundle, load
from ardm.cli.console import say, show
from ardm.errors import ArdmError
from ardm.files.compress import compress_file
from ardm.files.options import FileOptions
from ardm.files.restore import decompress_file
from ardm.media.pictures import read_image, sheet, state_image, to_image

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
TILE = 32


@dataclass(frozen=True)
class Row:
    """One line of the table, in bytes."""

    name: str
    dims: int
    png: int
    webp: int
    ours: int
    seconds: float


def saved_size(path: Path, **options: object) -> int:
    """Bytes of a picture in another format."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, **options)
    return buffer.tell()


def code(path: Path, folder: Path) -> Row:
    """Compress a PNG file, restore it elsewhere, and compare every pixel."""
    began = time.perf_counter()
    packed, restored = folder / f"{path.name}.ardm", folder / f"restored-{path.name}"
    done = compress_file(
        path, packed, FileOptions(force=True, strip=True)
    )  # pixels against pixels: WebP drops profiles too
    decompress_file(packed, restored, FileOptions(force=True))
    x, again = read_image(path), read_image(restored)
    if not torch.equal(x, again):
        raise ArdmError(f"{path.name} came back changed: please report this")
    return Row(
        path.stem,
        x.numel(),
        saved_size(path, format="PNG", optimize=True, icc_profile=None),
        saved_size(path, format="WEBP", lossless=True, quality=100, method=6, exact=True),
        done.target_bytes,
        time.perf_counter() - began,
    )


def run(out: Path) -> None:
    """The whole demonstration; pictures and files go to `out`."""
    files, tiles = out / "files", out / "tiles"
    for folder in (files, tiles):
        folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows = []
    assets = resources.files("ardm") / "assets" / "demo"
    say("Compressing each picture to a file of its own, restoring it, comparing every pixel …")
    for name in PHOTOGRAPHS:
        (files / f"{name}.png").write_bytes((assets / f"{name}.png").read_bytes())
        rows.append(code(files / f"{name}.png", files))
    with Image.open(io.BytesIO((assets / "tiles.png").read_bytes())) as whole:
        boxes = [(x, y) for y in range(0, whole.height, TILE) for x in range(0, whole.width, TILE)]
        for i, (x, y) in enumerate(boxes):
            whole.crop((x, y, x + TILE, y + TILE)).save(tiles / f"tile{i:02}.png", optimize=True)
    each = [code(tiles / f"tile{i:02}.png", tiles) for i in range(len(boxes))]
    total = Row(
        f"{len(each)} tiles", *(sum(getattr(r, f) for r in each) for f in ("dims", "png", "webp", "ours", "seconds"))
    )
    smaller = sum(r.ours < min(r.png, r.webp) for r in [*rows, *each])
    show(_table([*rows, total]))
    say(
        f"All {len(rows) + len(each)} files restored bit for bit; {smaller} of them are smaller than both PNG and WebP."
    )
    for picture in _paint(out):
        say(f"wrote {picture}")
    seconds = time.perf_counter() - began
    say(f"{seconds:.0f} seconds on {torch.get_num_threads()} threads; files in {files} and {tiles}")


def _table(rows: list[Row]) -> Table:
    table = Table("picture", "PNG", "WebP", "ardm", "bits/dim", "of WebP", "seconds", box=None)
    for r in rows:
        table.add_row(
            r.name,
            str(r.png),
            str(r.webp),
            str(r.ours),
            f"{8 * r.ours / r.dims:.3f}",
            f"{r.ours / r.webp:.0%}",
            f"{r.seconds:.1f}",
        )
    return table


def _paint(out: Path) -> list[Path]:
    """A masked photograph filled three times, and samples: contact sheets."""
    bundle = load("cifar10-any-order")
    photograph = read_image(Path(str(resources.files("ardm") / "assets" / "demo" / "cat.png"))).long()
    filled = out / "filled.png"
    fill_sheet(bundle, photograph[:, 16:112, 16:112]).save(filled)
    samples = out / "samples.png"
    drawn = api.sample(bundle, 16, calls=100, order="bayer", seed=1, temperature=0.9)
    sheet([to_image(x, bundle.model.digits.classes, 3) for x in drawn]).save(samples)
    return [filled, samples]


def fill_sheet(bundle: Bundle, x: Tensor, calls: int = 100) -> Image.Image:
    """What is given (a square lattice of strokes is missing), three completions, and the original."""
    known = torch.ones_like(x, dtype=torch.bool)
    for start in range(8, x.shape[1], 24):
        known[:, start : start + 6] = False
        known[:, :, start : start + 6] = False
    S, K = len(bundle.model.digits), bundle.model.digits.classes
    batch = x.expand(3, -1, -1, -1)
    done = api.fill(bundle, batch, known.expand_as(batch), calls, "bayer", temperature=0.8)
    given = bundle.model.digits.truncate(x[None], known[None].long() * S)
    return sheet([state_image(given, 0, S, K, 2), *(to_image(d, K, 2) for d in done), to_image(x, K, 2)], 5)
