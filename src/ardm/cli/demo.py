"""`ardm demo`: bundled images against PNG and lossless WebP, restored and verified; filling; sampling."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image
from rich.table import Table

from ardm.cli.console import guard, say, show
from ardm.cli.options import Seed, Threads, use_threads
from ardm.cli.progress import Bar
from ardm.errors import ArdmError
from ardm.files.compress import compress_file
from ardm.files.options import FileOptions
from ardm.files.restore import decompress_file

if TYPE_CHECKING:
    from torch import Tensor

    from ardm.bundle import Bundle

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


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Folder for pictures and files.")] = Path(
        "ardm-demo"
    ),
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """Compress, restore, fill and sample bundled images."""
    with guard(), Bar() as bar:
        use_threads(threads)
        run(out, seed, bar)


def saved_size(path: Path, **options: object) -> int:
    """Size of an image in another format, in bytes."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, **options)
    return buffer.tell()


def code(path: Path, folder: Path) -> Row:
    """Compress a PNG file, restore it under another name, and compare every pixel."""
    import torch

    from ardm.media.pictures import read_image

    began = time.perf_counter()
    packed, restored = folder / f"{path.name}.ardm", folder / f"restored-{path.name}"
    done = compress_file(path, packed, FileOptions(force=True, strip=True))  # pixels only: WebP drops profiles too
    decompress_file(packed, restored, FileOptions(force=True))
    x, again = read_image(path), read_image(restored)
    if not torch.equal(x, again):
        raise ArdmError(f"{path.name} came back changed; please report this")
    return Row(
        path.stem,
        x.numel(),
        saved_size(path, format="PNG", optimize=True, icc_profile=None),
        saved_size(path, format="WEBP", lossless=True, quality=100, method=6, exact=True),
        done.target_bytes,
        time.perf_counter() - began,
    )


def run(out: Path, seed: int, bar: Bar) -> None:
    """Run the whole demonstration; pictures and files go to `out`."""
    import torch

    files, tiles = out / "files", out / "tiles"
    for folder in (files, tiles):
        folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows = []
    assets = resources.files("ardm") / "assets" / "demo"
    say("Compressing each image to a file of its own, restoring it, comparing every pixel …")
    for name in bar.track("photographs", PHOTOGRAPHS, len(PHOTOGRAPHS)):
        (files / f"{name}.png").write_bytes((assets / f"{name}.png").read_bytes())
        rows.append(code(files / f"{name}.png", files))
    with Image.open(io.BytesIO((assets / "tiles.png").read_bytes())) as whole:
        boxes = [(x, y) for y in range(0, whole.height, TILE) for x in range(0, whole.width, TILE)]
        for i, (x, y) in enumerate(boxes):
            whole.crop((x, y, x + TILE, y + TILE)).save(tiles / f"tile{i:02}.png", optimize=True)
    each = [code(tiles / f"tile{i:02}.png", tiles) for i in bar.track("tiles", range(len(boxes)), len(boxes))]
    total = Row(
        f"{len(each)} tiles", *(sum(getattr(r, f) for r in each) for f in ("dims", "png", "webp", "ours", "seconds"))
    )
    smaller = sum(r.ours < min(r.png, r.webp) for r in [*rows, *each])
    show(_table([*rows, total]))
    say(
        f"All {len(rows) + len(each)} files restored bit for bit; {smaller} of them are smaller than both PNG and WebP."
    )
    with bar.busy("filling and sampling"):
        pictures = _paint(out, seed)
    for picture in pictures:
        say(f"wrote {picture}")
    seconds = time.perf_counter() - began
    threads = torch.get_num_threads()
    say(f"{seconds:.0f} seconds on {threads} thread{'s' * (threads > 1)}; files in {files} and {tiles}")


def _table(rows: list[Row]) -> Table:
    table = Table("image", "PNG", "WebP", "ardm", "bits/dim", "of WebP", "seconds", box=None)
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


def _paint(out: Path, seed: int) -> list[Path]:
    """Contact sheets: a masked photograph filled three times, and samples."""
    from ardm import api
    from ardm.bundle import load
    from ardm.media.pictures import read_image, sheet, to_image

    bundle = load("cifar10-any-order")
    photograph = read_image(Path(str(resources.files("ardm") / "assets" / "demo" / "cat.png"))).long()
    filled = out / "filled.png"
    fill_sheet(bundle, photograph[:, 16:112, 16:112], seed).save(filled)
    samples = out / "samples.png"
    drawn = api.sample(bundle, 16, calls=100, order="bayer", seed=seed + 1, temperature=0.9, top_p=0.95)
    sheet([to_image(x, bundle.model.digits.classes, 3) for x in drawn]).save(samples)
    return [filled, samples]


def fill_sheet(bundle: Bundle, x: Tensor, seed: int = 0, calls: int = 100) -> Image.Image:
    """An image with a lattice of strokes hidden, three completions, and the original."""
    import torch

    from ardm import api
    from ardm.media.pictures import sheet, state_image, to_image

    known = torch.ones_like(x, dtype=torch.bool)
    for start in range(8, x.shape[1], 24):
        known[:, start : start + 6] = False
        known[:, :, start : start + 6] = False
    S, K = len(bundle.model.digits), bundle.model.digits.classes
    batch = x.expand(3, -1, -1, -1)
    done = api.fill(bundle, batch, known.expand_as(batch), calls, "bayer", seed, 0.8, top_p=0.95)
    hidden = bundle.model.digits.truncate(x[None], known[None].long() * S)
    return sheet([state_image(hidden, 0, S, K, 2), *(to_image(d, K, 2) for d in done), to_image(x, K, 2)], 5)
