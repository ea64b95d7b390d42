"""`ardm decompress`, `cat`, `test` and `extract`: compressed files back to files, to a pipe, or only checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from ardm import formats
from ardm.atomic import reasons, refuse_source
from ardm.cli.batch import Place, for_each, found_in, name_of, place_of, reporting, source_of
from ardm.cli.compress import Verbose, budget_of, refuse_rm
from ardm.cli.console import EXITS, guard
from ardm.cli.options import (
    Backend,
    Bare,
    Device,
    Folders,
    Format,
    Keep,
    MaxOutput,
    Memory,
    Output,
    Packed,
    Pixels,
    Quiet,
    Recursive,
    Stdout,
    Threads,
    Verify,
    bytes_of,
)
from ardm.cli.progress import Bar
from ardm.codec.selection import Engine
from ardm.errors import ArdmError
from ardm.files.extract import check_archive, is_archive
from ardm.files.extract import extract as extract_items
from ardm.files.limits import PIXELS
from ardm.files.options import FileOptions
from ardm.files.paths import Found, is_ours
from ardm.files.restore import check_file, decompress_file
from ardm.files.results import FileResult
from ardm.files.streams import Sink
from ardm.files.unpack import restore_archive

Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files; ignore the time limit.")]
Digits = Annotated[
    int,
    typer.Option(
        help="Preview by this many digits of each value, for models that code several; 0: restore all.", min=0
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command(epilog=EXITS)(decompress)
    app.command("test", epilog=EXITS)(check)
    app.command(epilog=EXITS)(extract)
    app.command(epilog=EXITS)(cat)


def decompress(
    files: Packed,
    output: Output = None,
    stdout: Stdout = False,
    force: Force = False,
    keep: Keep = True,
    recursive: Recursive = False,
    format: Format = "",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: MaxOutput = "",
    model: Folders = None,
    bare: Bare = False,
    verify: Verify = True,
    digits: Digits = 0,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Restore files: photo.png.ardm becomes photo.png.

    An archive becomes a folder.  --format, or the ending of --out, converts to another format.  Of a damaged file
    nothing is written.
    """
    if format and format not in formats.ENDINGS.values():
        known = ", ".join(dict.fromkeys(formats.ENDINGS.values()))
        raise typer.BadParameter(f"a format is one of {known}; got {format!r}", param_hint="--format")
    refuse_rm(keep, stdout or output == "-" or "-" in files, verify)
    refuse_bare(bare, model)
    with guard(), Bar(quiet) as bar:
        engine = _engine(model, threads, backend, device, bare)
        budget = budget_of(memory, max_pixels, force, max_output)
        options = FileOptions(
            engine, budget, force, keep, verify, format=format, progress=bar, taken=set(), bare=bare, digits=digits
        )
        found, left = found_in(files, recursive, packed=True)
        place = place_of(found, output, stdout, force, bar)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            whole = not bare and _is_archive(source)
            if whole and digits:
                raise ArdmError("--digits is for single files, and this is an archive; leave it out")
            return (restore_archive if whole else decompress_file)(source, target, options)

        with reporting(left, bar):
            for_each(found, place, one, lambda done: _lines(done, verbose), bar, seekable=bytes_of(memory))


def cat(
    files: Packed,
    force: Force = False,
    format: Format = "",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: MaxOutput = "",
    model: Folders = None,
    bare: Bare = False,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Restore files to standard output.

    The same as decompress -c: one after the other, and nothing of a damaged one.
    """
    decompress(
        files, stdout=True, force=force, format=format, memory=memory, max_pixels=max_pixels, max_output=max_output,
        model=model, bare=bare, threads=threads, backend=backend, device=device, quiet=quiet,
    )  # fmt: skip


def check(
    files: Packed,
    recursive: Recursive = False,
    force: Force = False,
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: MaxOutput = "",
    model: Folders = None,
    bare: Bare = False,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Verify files without writing anything.

    Decodes everything and verifies every checksum; exits with 3 if a file is damaged.  Names every damaged item of an
    archive.
    """
    refuse_bare(bare, model)
    with guard(), Bar(quiet) as bar:
        engine = _engine(model, threads, backend, device, bare)
        options = FileOptions(engine, budget_of(memory, max_pixels, force, max_output), progress=bar, bare=bare)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            return (check_archive if not bare and _is_archive(source) else check_file)(source, options)

        def line(done: FileResult) -> list[str]:
            return [f"{name_of(done.source)}: good, {done.what}, {done.seconds:.1f} s"]

        found, left = found_in(files, recursive, packed=True)
        with reporting(left, bar):
            for_each(found, Place(writes=False), one, line, bar, seekable=bytes_of(memory))


def extract(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive made by ardm compress --archive.")],
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="ITEM...", help="Names, patterns such as '*.png', or numbers from 0; ardm list -v shows them."
        ),
    ],
    output: Output = None,
    stdout: Stdout = False,
    force: Force = False,
    format: Format = "",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: MaxOutput = "",
    model: Folders = None,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Restore single items of an archive.

    Reads only these items.  A pattern stands for all files whose names match; * also matches "/".  Reports those that are damaged or missing, and writes all others.
    """
    with guard(), Bar(quiet) as bar:
        engine = _engine(model, threads, backend, device)
        budget = budget_of(memory, max_pixels, force, max_output)
        options = FileOptions(engine, budget, force, format=format, progress=bar, taken=set())
        given = Found.named(source_of(archive, "ARCHIVE"))
        place = place_of([given] * len(items), output, stdout, force, bar)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> list[FileResult]:
            return extract_items(source, items, target, options)

        for_each([given], place, one, _lines, bar, seekable=bytes_of(memory))


def refuse_bare(bare: bool, models: list[Path] | None) -> None:
    """Refuse bare files without the one model that made them."""
    if bare and len(models or ()) != 1:
        why = "a bare file does not say which model made it; name that one model with -m"
        raise typer.BadParameter(why, param_hint="--bare")


def _engine(models: list[Path] | None, threads: int, backend: str, device: str, bare: bool = False) -> Engine:
    """An engine that decodes with the models that files name, in these folders or bundled; bare: with the one given."""
    model, folders = (str(models[0]), ()) if bare and models else (None, tuple(models or ()))
    return Engine(model, None, None, backend, device, threads, folders)


def _is_archive(source: Path | BinaryIO) -> bool:
    if not isinstance(source, Path):
        return is_archive(source, ours=False)
    refuse_source(source)
    with reasons(f"cannot read {source}"), source.open("rb") as file:
        return is_archive(file, is_ours(source))


def _lines(done: FileResult, verbose: bool = False) -> list[str]:
    """What to print of a result."""
    sizes = f", {done.source_bytes} -> {done.target_bytes} bytes" * verbose
    return [f"{name_of(done.source)} -> {done.target}: {done.what}{sizes}, {done.seconds:.1f} s"]
