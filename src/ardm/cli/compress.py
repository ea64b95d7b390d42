"""`ardm compress`: files to compressed files or one archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from ardm.cli.arguments import Levels
from ardm.cli.batch import for_each, found_in, place_of, reporting, source_of, standard_output, sweep_before
from ardm.cli.console import EXITS, guard, note, say
from ardm.cli.options import (
    Backend,
    CodecModel,
    Device,
    Files,
    Keep,
    MaxOutput,
    Output,
    Quiet,
    Recursive,
    Stdout,
    Threads,
    Verify,
    bytes_of,
)
from ardm.cli.progress import Bar
from ardm.codec.report import Report
from ardm.codec.selection import Engine
from ardm.errors import ArdmError
from ardm.files.compress import compress_file
from ardm.files.limits import PIXELS, Budget
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import STREAM, LeftOut, walk
from ardm.files.results import FileResult
from ardm.files.streams import Sink

Calls = Annotated[
    int | None,
    typer.Option("--calls", "-K", help="Network calls, for models with several numbers of them (ardm models).", min=1),
]
Level = Annotated[
    int | None,
    typer.Option(
        "--level", min=1, max=9, help="Also -1 ... -9: from fast to small; chooses the size of the model of pictures."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Overwrite files; ignore the time limit; compress .ardm files.")
]
Strip = Annotated[bool, typer.Option("--strip", help="Drop metadata: colour profiles, EXIF and the like.")]
Exact = Annotated[bool, typer.Option("--bytes", help="Keep files byte for byte, not only the image or sound.")]
Together = Annotated[
    str | None, typer.Option("--archive", help="Put all files and folders into one archive of this name.")
]
Append = Annotated[
    bool, typer.Option("--append", help="Add to the archive of this name, whose items stay as they are.")
]
Each = Annotated[
    str, typer.Option("--each", help="With --archive: what an item is: file, or line, of the one file (default: file).")
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory", "-M", metavar="SIZE", help="Keep files that need more memory, such as 512MiB, byte for byte."
    ),
]
Pixels = Annotated[int, typer.Option("--max-pixels", help="Keep images of more pixels byte for byte.", min=1)]
Check = Annotated[
    int,
    typer.Option("--check", help="Bits of the checksum: 32, 16, 8, or 0: then damage or a wrong model goes unseen."),
]
Bare = Annotated[
    bool,
    typer.Option("--bare", help="Leave out what says which model made the file: restoring it needs --bare and -m too."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more about each result.")]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command(cls=Levels, epilog=EXITS)(compress)


def compress(
    files: Files,
    output: Output = None,
    stdout: Stdout = False,
    force: Force = False,
    keep: Keep = True,
    recursive: Recursive = False,
    archive: Together = None,
    append: Append = False,
    each: Each = "",
    model: CodecModel = None,
    calls: Calls = None,
    level: Level = None,
    exact: Exact = False,
    strip: Strip = False,
    bare: Bare = False,
    check: Check = 32,
    verify: Verify = True,
    memory: Memory = "2GiB",
    max_pixels: Pixels = PIXELS,
    max_output: MaxOutput = "",
    threads: Threads = 0,
    backend: Backend = "auto",
    device: Device = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compress files without loss: photo.png becomes photo.png.ardm.

    Images and sounds come back sample for sample, with profiles and EXIF; everything else byte for byte.  Each result
    is decoded again and compared before it gets its name.
    """
    refuse_model(model, calls, level, bare)
    _refuse_check(check)
    if bare and archive is not None:
        raise typer.BadParameter("--bare is for single files; an archive names its model", param_hint="--bare")
    if append and archive is None:
        raise typer.BadParameter("--append adds to an archive; name it with --archive", param_hint="--append")
    if each not in ("", "line", "file"):
        raise typer.BadParameter(f"an item is a line or a file; got {each!r}", param_hint="--each")
    if each and archive is None:
        why = "--each says what the items of an archive are; name it with --archive"
        raise typer.BadParameter(why, param_hint="--each")
    if strip and exact:
        raise typer.BadParameter("--bytes keeps everything, and --strip does not; give one of them")
    refuse_rm(keep, stdout or output == "-" or archive is not None or "-" in files, verify)
    with guard(), Bar(quiet) as bar:
        engine = Engine(model, calls, level, backend, device, threads)
        budget = budget_of(memory, max_pixels, force, max_output)
        options = FileOptions(
            engine, budget, force, keep, verify, strip, exact, progress=bar, taken=set(), check=check, bare=bare
        )
        if archive is not None:
            elsewhere = output is not None or stdout
            _archive(files, source_of(archive, "--archive"), elsewhere, append, each, options, verbose, bar)
            return
        found, left = found_in(files, recursive, packed=False)
        place = place_of(found, output, stdout, force, bar)
        if bare and place.sink is not None and len(found) > 1:
            raise ArdmError("several bare files in one stream could not be told apart; write them to a folder with -o")
        if place.sink is not None and len(found) > 1 and not exact:
            note("several files in one stream are kept byte for byte; --archive keeps them apart")
            options = replace(options, exact=True)

        def one(source: Path | BinaryIO, target: Path | Sink | None) -> FileResult:
            return compress_file(source, target, options)

        with reporting(left, bar):
            for_each(found, place, one, lambda done: _lines(done, verbose, options.engine), bar)


def refuse_model(model: str | None, calls: int | None, level: int | None, bare: bool) -> None:
    """Refuse options that name a model, or its calls, twice; and a bare file without a model."""
    if model is not None and level is not None:
        raise typer.BadParameter(
            f"-m names a model and -{level} chooses one: give only one of them", param_hint="--model"
        )
    if calls is not None and level is not None:
        raise typer.BadParameter(
            f"-{level} chooses a model and -K its network calls: name the model with -m instead", param_hint="--calls"
        )
    if bare and model is None:
        why = "a bare file does not say which model made it; name one with -m, here and to restore it"
        raise typer.BadParameter(why, param_hint="--bare")


def _refuse_check(bits: int) -> None:
    """Refuse a check of a number of bits that no check has."""
    try:
        FileOptions(check=bits)
    except ArdmError as error:
        raise typer.BadParameter(str(error), param_hint="--check") from None


def refuse_rm(keep: bool, stays: bool, verify: bool) -> None:
    """Refuse --rm where no verified file of its own replaces a source."""
    if not keep and stays:
        raise typer.BadParameter("only a source that became a file of its own is deleted", param_hint="--rm")
    if not keep and not verify:
        raise typer.BadParameter("only a verified source can be deleted", param_hint="--rm")


def budget_of(memory: str, pixels: int, force: bool, output: str) -> Budget:
    """The limits that the options name."""
    return Budget(bytes_of(memory), pixels, force, bytes_of(output, "--max-output") if output else 0)


def _archive(
    files: Sequence[str],
    target: Path,
    elsewhere: bool,
    append: bool,
    each: str,
    options: FileOptions,
    verbose: bool,
    bar: Bar,
) -> None:
    """Compress everything into one file; append: after what it holds.  each: what an item is."""
    if elsewhere:
        raise typer.BadParameter("--archive names the file; leave out -o and -c", param_hint="--archive")
    if "-" in files:
        raise typer.BadParameter("an archive holds files, and standard input is not one", param_hint="FILE")
    bar.name = target.name
    if target is not STREAM:
        sweep_before(target, set())
    left: list[LeftOut] = []
    found = list(walk(map(source_of, files), entries=True, left=left))
    with reporting(left, bar):
        with bar.busy("working"):
            to = standard_output(options.force, bar) if target is STREAM else target
            done = make_archive(found, to, options, append, each)
        if bar.quiet:
            return
        if target is not STREAM:
            say(*_lines(done, verbose, options.engine, archive=True))
        for text in done.notes:
            note(text)


def model_in_words(report: Report, engine: Engine) -> str:
    """The model of a report, and its calls if it has several numbers of them."""
    name = engine.name_of(report.model)
    return f"{name}, {report.calls} calls" if report.calls else name


def _lines(done: FileResult, verbose: bool, engine: Engine, archive: bool = False) -> list[str]:
    """What to print of a result; archive: without a source, it is of several files."""
    report = done.report
    assert report is not None
    how = model_in_words(report, engine) if not report.stored else f"stored with {' and '.join(report.methods)}"
    how += f": {done.why}" * bool(done.why)
    ratio = f"{done.source_bytes} -> {done.target_bytes} bytes"
    if done.source_bytes:
        ratio += f" ({done.target_bytes / done.source_bytes:.1%})"
    rate = f"{report.bits_per_sample:.3f} bits per sample, " if report.samples else ""
    if archive and done.source is None:
        named = f"{done.what} -> {done.target}: "
    else:
        named = f"{done.source or 'standard input'} -> {done.target}: {done.what}, "
    lines = [f"{named}{ratio}, {rate}{how}, {done.seconds:.1f} s"]
    if verbose:
        held = ", ".join(f"{count} {name}" for name, count in report.methods.items())
        model = f"model {report.model[:16]}, {report.bits / 8:.0f} bytes of model code; " if report.model else ""
        lines.append(f"  {model}{report.regions} regions; parts: {held}; {report.header_bytes} bytes of headers")
    return lines
