"""`ardm compress` and `ardm decompress`: image files, one after the other, each verified before it is reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import torch
import typer

from ardm.bundle import Bundle, load
from ardm.codec import DEFAULT_MODEL
from ardm.console import errors, explain, fail, guard, plain, say
from ardm.container import MAX_PIXELS
from ardm.errors import ArdmError
from ardm.files import Done, compress_file, compress_target, decompress_file, decompress_target

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures: PNG, WebP, BMP, TIFF, PPM, GIF.")]
Packed = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files made by ardm compress.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A bundled model, or the folder of one.")]
Maker = Annotated[str | None, typer.Option("--model", "-m", help="The model they were made with, if not bundled.")]
Calls = Annotated[int | None, typer.Option(help="Network calls a tile: fewer are faster, more are smaller.", min=1)]
Output = Annotated[str | None, typer.Option("--output", "-o", help="A file, or a folder for all of them.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Keep = Annotated[bool, typer.Option("--keep/--rm", "-k", help="Keep the input, or delete it when all is verified.")]
Threads = Annotated[int, typer.Option(help="Processor threads; 0: as many as there are cores.", min=0)]
Limit = Annotated[int, typer.Option("--max-pixels", help="Refuse larger pictures.", min=1)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only say what goes wrong.")]


def register(app: typer.Typer) -> None:
    """Add the two commands to an application."""
    app.command()(compress)
    app.command()(decompress)


def compress(
    files: Files,
    model: Model = DEFAULT_MODEL,
    output: Output = None,
    force: Force = False,
    keep: Keep = True,
    calls: Calls = None,
    threads: Threads = 0,
    max_pixels: Limit = MAX_PIXELS,
    quiet: Quiet = False,
) -> None:
    """Compress pictures without loss: photo.png becomes photo.png.ardm.

    Each file is decoded again and compared before it gets its name.  Only pixels are kept, not colour profiles or EXIF.
    """
    with guard():
        folder = _destination(files, output)
        use_threads(threads)
        bundle = load(model)

        def one(source: Path, target: Path) -> Done:
            return compress_file(source, target, bundle, calls, force, keep, max_pixels)

        _each(files, lambda source: compress_target(source, folder), one, _compressed, quiet)


def decompress(
    files: Packed,
    model: Maker = None,
    output: Output = None,
    force: Force = False,
    keep: Keep = True,
    threads: Threads = 0,
    max_pixels: Limit = MAX_PIXELS,
    quiet: Quiet = False,
) -> None:
    """Restore pictures: photo.png.ardm becomes photo.png again; the ending given to -o says the format."""
    with guard():
        folder = _destination(files, output)
        use_threads(threads)
        bundle: Bundle | None = None if model is None else load(model)

        def one(source: Path, target: Path) -> Done:
            return decompress_file(source, target, bundle, force, keep, max_pixels)

        _each(files, lambda source: decompress_target(source, folder, max_pixels), one, _restored, quiet)


def _destination(files: Sequence[Path], output: str | None) -> Path | None:
    """-o as a path; several files need a folder that is there."""
    if output is None:
        return None
    folder = Path(output)
    if output == "-":
        raise typer.BadParameter(
            "pictures are not written to standard output; name a file or a folder", param_hint="-o"
        )
    if not folder.is_dir() and (len(files) > 1 or output.endswith((os.sep, "/"))):
        raise typer.BadParameter(f"{output} is not a folder, which several files need", param_hint="-o")
    return folder


def use_threads(number: int) -> None:
    """Processor threads for this command; 0 leaves the default."""
    if number:
        torch.set_num_threads(number)


def _each(
    files: Sequence[Path],
    place: Callable[[Path], Path],
    one: Callable[[Path, Path], Done],
    line: Callable[[Done], str],
    quiet: bool,
) -> None:
    """Do every file; exit with 1 if one of them failed.  Two files never go to one place."""
    failed, written = False, set()
    for number, source in enumerate(files):
        waiting = f"{source.name} ({number + 1} of {len(files)})"
        try:
            target = place(source)
            if target.resolve() in written:
                raise ArdmError(f"{target} was written a moment ago, from another file")
            with errors.status(plain(waiting)) if errors.is_terminal and not quiet else nullcontext():
                done = one(source, target)
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            fail(message if source.name in message else f"{source}: {message}")
            failed = True
            continue
        written.add(target.resolve())
        if not quiet:
            say(line(done))
        if done.lost and (done.spared or not quiet):
            spared = ", so it was not deleted (-f deletes it)" if done.spared else ""
            fail(f"note: {source} carries {' and '.join(done.lost)}, which the compressed file does not{spared}")
    if failed:
        raise typer.Exit(1)


def _compressed(done: Done) -> str:
    report = done.report
    assert report is not None
    how = "stored" if report.stored else f"{report.calls} calls"
    C, H, W = report.shape
    ratio = f"ratio {done.source_bytes / done.target_bytes:.2f} to the file, {report.ratio:.2f} to raw"
    sizes = f"{W}x{H}x{C}, {report.bits_per_dim:.3f} bits/dim, {ratio}"
    return f"{done.source} -> {done.target}: {sizes}, {how}, {done.seconds:.1f} s"


def _restored(done: Done) -> str:
    C, H, W = done.shape
    return f"{done.source} -> {done.target}: {W}x{H}x{C}, {done.seconds:.1f} s"
