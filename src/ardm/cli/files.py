"""The commands on files: compress, decompress, test, list, extract, cat; one file after the other, all of them tried.

Results go to standard output, unless data go there; everything else goes to standard error, one line each.

Read me first: what becomes of a file is `files` and `archives`.  Here is what a person asks for, and what is said.
Nothing here imports PyTorch: what no model is needed for starts without it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from typer.core import TyperCommand, TyperGroup

from ardm import formats
from ardm.atomic import reasons, refuse_source
from ardm.cli.batch import (
    Bar,
    Place,
    bytes_of,
    each,
    name_of,
    place_of,
    source_of,
    standard_output,
    sweep_before,
)
from ardm.cli.console import FAILED, dump, fail, guard, note, plainly, say, streams
from ardm.cli.listing import record, table
from ardm.cli.options import Threads
from ardm.codec.selection import Engine
from ardm.files.compress import compress_file
from ardm.files.extract import check_archive, is_archive
from ardm.files.extract import extract as extract_items
from ardm.files.limits import PIXELS, Budget
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import ENDING, STREAM, Found, LeftOut, is_ours, summary, walk
from ardm.files.restore import check_file, decompress_file
from ardm.files.results import FileResult
from ardm.files.streams import Sink
from ardm.files.unpack import restore_archive


def _piped() -> list[str]:
    """What is meant where no file is named: standard input, if something comes in by it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise typer.BadParameter("name a file, or give - and the data by standard input", param_hint="FILE...")
    return ["-"]


# texts, not paths: - is standard input, and ./- a file
_ARGUMENT: dict[str, Any] = {"default_factory": _piped, "show_default": False}
Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Files, or - for standard input.", **_ARGUMENT)]
Packed = Annotated[list[str], typer.Argument(metavar="FILE", help="Files made by ardm compress, or -.", **_ARGUMENT)]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A bundled model, or the folder of one.")]
Folders = Annotated[
    list[Path] | None, typer.Option("--model", "-m", help="The folder of a model that is not bundled; several times.")
]
Calls = Annotated[
    int | None, typer.Option("--calls", "-K", help="Network calls: fewer are faster, more are smaller.", min=1)
]
Level = Annotated[
    int | None,
    typer.Option("--level", min=1, max=9, help="Also -1 ... -9: 8, 11, 14, 20, 26, 36, 50, 70 or 98 network calls."),
]
Output = Annotated[str | None, typer.Option("--output", "-o", help="A file, a folder for all of them, or -.")]
Stdout = Annotated[bool, typer.Option("--stdout", "-c", help="To standard output; the files stay.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there, and do what is refused for care.")]
Keep = Annotated[bool, typer.Option("--keep/--rm", "-k", help="Keep the input, or delete it when all is verified.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Decode and compare before a file gets its name.")]
Strip = Annotated[bool, typer.Option("--strip", help="Drop colour profiles, EXIF and the like.")]
Exact = Annotated[bool, typer.Option("--bytes", help="Keep every byte of a file, not the picture or sound in it.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take the files in folders.")]
Together = Annotated[str | None, typer.Option("--archive", help="All files and folders in one, of this name.")]
Backend = Annotated[str, typer.Option(help="What computes: auto, int8, float32, float64, int64 or numpy; all alike.")]
Device = Annotated[str, typer.Option(help="Where it computes: auto, cpu, cuda, ...")]
Format = Annotated[str, typer.Option(help="Another format: png, webp, bmp, tiff, ppm, wav, flac, npy.")]
Memory = Annotated[str, typer.Option("--memory", "-M", help="Refuse what needs more memory, such as 512MiB.")]
Pixels = Annotated[int, typer.Option("--max-pixels", help="Refuse larger pictures.", min=1)]
Written = Annotated[
    str, typer.Option("--max-output", help="Refuse what would become more, such as 10GiB; see the documentation.")
]
Spent = Annotated[
    str, typer.Option("--memory", "-M", help="Keep byte for byte what needs more memory, such as 512MiB.")
]
Seen = Annotated[int, typer.Option("--max-pixels", help="Keep larger pictures byte for byte.", min=1)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only say what goes wrong.")]


EXITS = (
    "Exit codes: 0 all is done; 1 something could not be done, and the other files are; 2 wrong usage; 3 a damaged file; "
    "4 a model that is not here; 130 interrupted."
)


_LEVEL = re.compile(r"-([kfcrvq]*)([0-9]+)([kfcrvq]*)")


class Levels(TyperCommand):
    """A command that takes its level as -1 ... -9, as compressors do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write them out; BadParameter for numbers that are no level."""
        valued = {name for p in self.params if not getattr(p, "is_flag", True) for name in p.opts}
        return super().parse_args(ctx, list(_levels(args, valued)))


def _levels(args: Sequence[str], valued: Collection[str]) -> Iterator[str]:
    """Arguments with levels written out; valued: options that take a value, which is no level."""
    for k, arg in enumerate(args):
        if arg == "--":
            yield from args[k:]
            return
        found = _LEVEL.fullmatch(arg)
        if found is None or (k and re.sub("^-[kfcrvq]+(?=[a-zA-Z]$)", "-", args[k - 1]) in valued):
            yield arg
            continue
        if found[2] not in "123456789":
            raise typer.BadParameter(f"levels are -1 to -9; got -{found[2]} (a file of this name stands behind --)")
        yield f"--level={found[2]}"
        if found[1] or found[3]:
            yield f"-{found[1]}{found[3]}"


class Aliases(TyperGroup):
    """A program whose commands can also be asked for as zstd's: -z, -d, -t, -l, with other flags before or behind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write them out."""
        return super().parse_args(ctx, aliased(args))

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run; standard streams may be missing, full, narrow or in parts."""
        with streams():
            return super().main(*args, **settings)

    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Read the arguments before the command."""
        with plainly():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Read the arguments of a command, and run it."""
        with plainly():
            return super().invoke(ctx)


_COMMANDS = {"z": "compress", "d": "decompress", "t": "test", "l": "list"}


def aliased(args: Sequence[str]) -> list[str]:
    """Arguments with the command first, where a flag asks for it: -dc FILE is decompress -c FILE, -9 FILE compress -9."""
    flags = args if args and args[0].startswith("-") else []
    flags = flags[: flags.index("--")] if "--" in flags else flags
    for k, arg in enumerate(flags):
        found = re.fullmatch(r"-([a-zA-Z]*)", arg)
        letters = found[1] if found else ""
        for letter, command in _COMMANDS.items():
            if letter in letters or arg == f"--{command}":
                rest = letters.replace(letter, "", 1)
                return [command, *args[:k], *([f"-{rest}"] if rest else []), *args[k + 1 :]]
    return ["compress", *args] if any(map(_LEVEL.fullmatch, flags)) else list(args)


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command(cls=Levels, epilog=EXITS)(compress)
    app.command(epilog=EXITS)(decompress)
    app.command("test", epilog=EXITS)(check)
    app.command("list", epilog=EXITS)(list_files)
    app.command(epilog=EXITS)(extract)
    app.command(epilog=EXITS)(cat)


def use_threads(number: int) -> None:
    """Processor threads for this command; 0 leaves the default."""
    if number:
        import torch

        torch.set_num_threads(number)


# --- the commands -----------------------------------------------------------------------------------------------------


def compress(
    files: Files,
    output: Output = None,
    stdout: Stdout = False,
    force: Force = False,
    keep: Keep = True,
    recursive: Recursive = False,
    archive: Together = None,
    model: Model = None,
    calls: Calls = None,
    level: Level = None,
    exact: Exact = False,
    strip: Strip = False,
    verify: Verify = True,
    memory: Spent = "2GiB",
    max_pixels: Seen = PIXELS,
    max_output: Written = "",
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compress files without loss: photo.png becomes photo.png.ardm.

    Pictures and sounds come back sample for sample, with profiles and EXIF; everything else, and what is kept with
    --bytes, byte for byte.  Each result is decoded again and compared before it gets its name.
    What is too large to be read as a picture or sound is kept byte for byte too, and a note says what lifts the limit.
    """
    if calls is not None and level is not None:
        raise typer.BadParameter("a level stands for a number of calls; give one of them", param_hint="--calls")
    if strip and exact:
        raise typer.BadParameter("--bytes keeps everything, and --strip does not; give one of them")
    _refuse_rm(keep, stdout or output == "-" or archive is not None or "-" in files, verify)
    with guard(), Bar(quiet) as bar:
        engine = Engine(model, calls, level, backend, device, threads)
        budget = _budget(memory, max_pixels, force, max_output)
        how = FileOptions(engine, budget, force, keep, verify, strip, exact, progress=bar, taken=set())
        if archive is not None:
            _archive(files, source_of(archive, "--archive"), output is not None or stdout, how, verbose, bar)
            return
        found, left = _found(files, recursive, packed=False)
        place = place_of(found, output, stdout, force, bar)
        if place.sink is not None and len(found) > 1 and not exact:
            note("several files in one stream are kept byte for byte; --archive keeps them apart")
            how = replace(how, exact=True)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            return compress_file(source, target, how)

        with _telling(left, bar):
            each(found, place, one, lambda done: _compressed(done, verbose), bar)


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
    max_output: Written = "",
    model: Folders = None,
    verify: Verify = True,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Restore files: photo.png.ardm becomes photo.png again; the ending given to -o, or --format, says another format.

    An archive becomes a folder.  Nothing is written of a file that is damaged.
    """
    if format and format not in formats.ENDINGS.values():
        known = ", ".join(dict.fromkeys(formats.ENDINGS.values()))
        raise typer.BadParameter(f"a format is one of {known}; got {format!r}", param_hint="--format")
    _refuse_rm(keep, stdout or output == "-" or "-" in files, verify)
    with guard(), Bar(quiet) as bar:
        engine = Engine(None, None, None, backend, device, threads, tuple(model or ()))
        budget = _budget(memory, max_pixels, force, max_output)
        how = FileOptions(engine, budget, force, keep, verify, format=format, progress=bar, taken=set())
        found, left = _found(files, recursive, packed=True)
        place = place_of(found, output, stdout, force, bar)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            act = restore_archive if _holds_items(source) else decompress_file
            return act(source, target, how)

        with _telling(left, bar):
            each(found, place, one, lambda done: _restored(done, verbose), bar, seekable=bytes_of(memory))


def cat(
    files: Packed,
    force: Force = False,
    format: Format = "",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: Written = "",
    model: Folders = None,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Restore files to standard output, one after the other: decompress -c.  Nothing is written of a damaged one."""
    decompress(
        files, stdout=True, force=force, format=format, memory=memory, max_pixels=max_pixels,
        max_output=max_output, model=model,
        threads=threads, backend=backend, device=device, quiet=quiet,
    )  # fmt: skip


def check(
    files: Packed,
    recursive: Recursive = False,
    force: Force = False,
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: Written = "",
    model: Folders = None,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Decode files and check everything in them, writing nothing; exits with 3 if one is damaged.

    Of an archive every damaged item is named.
    """
    with guard(), Bar(quiet) as bar:
        engine = Engine(None, None, None, backend, device, threads, tuple(model or ()))
        how = FileOptions(engine, _budget(memory, max_pixels, force, max_output), progress=bar)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            return (check_archive if _holds_items(source) else check_file)(source, how)

        def line(done: FileResult) -> list[str]:
            return [f"{name_of(done.source)}: good, {done.what}, {done.seconds:.1f} s"]

        found, left = _found(files, recursive, packed=True)
        with _telling(left, bar):
            each(found, Place(writes=False), one, line, bar, seekable=bytes_of(memory))


def extract(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive made by ardm compress --archive.")],
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Names, or numbers from 0.")],
    output: Output = None,
    stdout: Stdout = False,
    force: Force = False,
    format: Format = "",
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: Written = "",
    model: Folders = None,
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Take items out of an archive, of which nothing else is read; ardm list -v names them.

    All are tried: what is damaged or not there is named, and the others are written.
    """
    with guard(), Bar(quiet) as bar:
        engine = Engine(None, None, None, backend, device, threads, tuple(model or ()))
        how = FileOptions(
            engine, _budget(memory, max_pixels, force, max_output), force, format=format, progress=bar, taken=set()
        )
        given = Found.named(source_of(archive, "ARCHIVE"))
        place = place_of([given] * len(items), output, stdout, force, bar)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> list[FileResult]:
            return extract_items(source, items, target, how)

        each([given], place, one, _restored, bar, seekable=bytes_of(memory))


def list_files(
    files: Packed,
    recursive: Recursive = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also the items of archives, and frames.")] = False,
    memory: Annotated[str, typer.Option("--memory", "-M", help="Of standard input, at most.")] = "2GiB",
) -> None:
    """What files say about themselves; nothing is decoded, and no model is needed."""
    with guard(), Bar(quiet=True) as bar:
        records: list[dict[str, Any]] = []

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> None:
            records.append(record(source, verbose))

        found, left = _found(files, recursive, packed=True)
        try:
            with _telling(left, bar):
                each(found, Place(writes=False), one, None, bar, seekable=bytes_of(memory))
        finally:
            if as_json:
                dump(records)
            elif records:
                table(records)


# --- what is asked for ------------------------------------------------------------------------------------------------


def _found(files: Sequence[str], recursive: bool, packed: bool) -> tuple[list[Found], list[LeftOut]]:
    """The files that are meant, with -r those in folders; and what is left out there."""
    left: list[LeftOut] = []
    if not recursive:
        return [Found.named(source_of(text)) for text in files], left
    found = list(walk(map(source_of, files), packed, left=left))
    if not found:
        note("there is no file in these folders" if packed is False else f"no file in these folders ends in {ENDING}")
    return found, left


@contextmanager
def _telling(left: Sequence[LeftOut], bar: Bar) -> Iterator[None]:
    """At the end, what was left out of folders; where that is a failure, it is one of the command."""
    try:
        yield
    finally:
        bar.stop()
        failed = [one for one in left if one.failed]
        if failed:
            fail(summary(failed))
        if len(failed) < len(left) and not bar.quiet:
            note(summary([one for one in left if not one.failed]))
    if failed:
        raise typer.Exit(FAILED)


def _refuse_rm(keep: bool, stays: bool, verify: bool) -> None:
    if not keep and stays:
        raise typer.BadParameter("only a source that has become a file of its own is deleted", param_hint="--rm")
    if not keep and not verify:
        raise typer.BadParameter("only what was verified is deleted", param_hint="--rm")


def _budget(memory: str, pixels: int, force: bool, output: str) -> Budget:
    """The limits that the options name."""
    return Budget(bytes_of(memory), pixels, force, bytes_of(output, "--max-output") if output else 0)


def _holds_items(source: Path | BinaryIO) -> bool:
    """Whether it is an archive."""
    if not isinstance(source, Path):
        return is_archive(source, ours=False)
    refuse_source(source)
    with reasons(f"cannot read {source}"), source.open("rb") as file:
        return is_archive(file, is_ours(source))


def _archive(files: Sequence[str], target: Path, elsewhere: bool, how: FileOptions, verbose: bool, bar: Bar) -> None:
    """Everything in one file."""
    if elsewhere:
        raise typer.BadParameter("--archive names the file; leave out -o and -c", param_hint="--archive")
    if "-" in files:
        raise typer.BadParameter("an archive is made of files, and standard input is none", param_hint="FILE")
    bar.name = target.name
    if target is not STREAM:
        sweep_before(target, set())
    left: list[LeftOut] = []
    found = list(walk(map(source_of, files), entries=True, left=left))
    with _telling(left, bar):
        done = make_archive(found, standard_output(how.force, bar) if target is STREAM else target, how)
        bar.stop()
        if bar.quiet:
            return
        if target is not STREAM:
            say(*_compressed(done, verbose))
        for text in done.notes:
            note(text)


# --- what is said -----------------------------------------------------------------------------------------------------


def _compressed(done: FileResult, verbose: bool) -> list[str]:
    report = done.report
    assert report is not None
    how = f"{report.calls} calls" if not report.stored else f"stored with {' and '.join(report.methods)}"
    how += f": {done.why}" * bool(done.why)
    ratio = f"{done.source_bytes} -> {done.target_bytes} bytes"
    if done.source_bytes:
        ratio += f" ({done.target_bytes / done.source_bytes:.1%})"
    rate = f"{report.bits_per_sample:.3f} bits a sample, " if report.samples else ""
    lines = [f"{done.source or 'all'} -> {done.target}: {done.what}, {ratio}, {rate}{how}, {done.seconds:.1f} s"]
    if verbose:
        held = ", ".join(f"{count} {name}" for name, count in report.methods.items())
        model = f"model {report.model[:16]}, {report.bits / 8:.0f} bytes by its own count; " if report.model else ""
        lines.append(f"  {model}{report.regions} regions; parts: {held}; {report.header_bytes} bytes around them")
    return lines


def _restored(done: FileResult, verbose: bool = False) -> list[str]:
    sizes = f", {done.source_bytes} -> {done.target_bytes} bytes" * verbose
    return [f"{name_of(done.source)} -> {done.target}: {done.what}{sizes}, {done.seconds:.1f} s"]
