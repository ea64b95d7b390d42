"""Work on many files, one after the other: sources, targets and messages.

Every file is tried; the exit code is that of the worst failure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import typer

from ardm.atomic import make_folders, reasons, sweep
from ardm.cli.console import (
    DAMAGED,
    FAILED,
    NO_MODEL,
    abandon,
    code,
    explain,
    fail,
    note,
    passes_through,
    say,
)
from ardm.cli.progress import Bar
from ardm.content import ENDING
from ardm.errors import ArdmError
from ardm.files.limits import amount
from ardm.files.paths import STREAM, Found, LeftOut, summary, walk
from ardm.files.results import Failures, FileResult
from ardm.files.streams import Sink, Unwritten, read_up_to, write_all

WORST = (DAMAGED, NO_MODEL, FAILED)
"""Exit codes of single files, the worst first."""


# --- sources ----------------------------------------------------------------------------------------------------------


def source_of(text: str, option: str = "FILE") -> Path:
    """The path that an argument names; exactly "-" is STREAM."""
    if not text:
        raise typer.BadParameter("a name is empty; . is the current folder", param_hint=option)
    return STREAM if text == "-" else Path(text)


def found_in(files: Sequence[str], recursive: bool, packed: bool) -> tuple[list[Found], list[LeftOut]]:
    """The given files, and with `recursive` those in folders; and the entries of folders that are skipped.

    packed: in folders, only files that end in .ardm (True), or only others (False).
    """
    left: list[LeftOut] = []
    if not recursive:
        return [Found.named(source_of(text)) for text in files], left
    found = list(walk(map(source_of, files), packed, left=left))
    if not found:
        note(f"no file in these folders ends in {ENDING}" if packed else "there is no file in these folders")
    return found, left


@contextmanager
def reporting(left: Sequence[LeftOut], bar: Bar) -> Iterator[None]:
    """Report skipped entries of folders at the end; exits with 1 where something could not be read."""
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


def name_of(path: Path | None) -> str:
    """The name of a source in messages."""
    return "standard input" if path is None or path is STREAM else str(path)


def _source(path: Path, seekable: int) -> Path | BinaryIO:
    """A file, or standard input; seekable: read the input into memory, at most this many bytes (0: do not)."""
    if path is not STREAM:
        return path
    if sys.stdin is None:
        raise ArdmError("standard input is closed; name a file")
    if not seekable:
        return sys.stdin.buffer
    data = read_up_to(sys.stdin.buffer, seekable + 1)
    if len(data) > seekable:
        raise ArdmError(f"standard input has more than {amount(seekable)}; a larger -M allows more")
    return BytesIO(data)


# --- targets ----------------------------------------------------------------------------------------------------------


class Place:
    """Where results go: to a stream, to a given file or folder, or beside their sources.

    writes: whether the command writes at all.
    """

    def __init__(self, sink: Sink | None = None, given: Path | None = None, writes: bool = True) -> None:
        self.sink, self.given, self.writes = sink, given, writes

    def of(self, found: Found) -> Path | Sink | None:
        """The target of one file; files in a folder keep their paths below it."""
        if self.sink is not None or self.given is None or len(found.below.parts) == 1:
            return self.sink or self.given
        with reasons(f"cannot write {self.given}"):
            folder = self.given / found.below.parent
            make_folders(folder, self.given)
        return folder


def place_of(found: Sequence[Found], output: str | None, stdout: bool, force: bool, bar: Bar) -> Place:
    """Where --out and -c send results; several files need an existing folder."""
    if stdout and output not in (None, "-"):
        raise typer.BadParameter("-c writes to standard output, and -o elsewhere; give one of them", param_hint="-o")
    if stdout or output == "-" or (output is None and any(one.path is STREAM for one in found)):
        return Place(standard_output(force, bar))
    if output is None:
        return Place()
    folder = source_of(output, "-o")
    if not folder.is_dir() and (len(found) > 1 or output.endswith("/") or any(len(f.below.parts) > 1 for f in found)):
        raise typer.BadParameter(f"{output} is not a folder, and several files need one", param_hint="-o")
    return Place(given=folder)


class Terminal:
    """Standard output, protected from binary data where it is a terminal."""

    def __init__(self, force: bool) -> None:
        self._out, self._care = sys.stdout.buffer, sys.stdout.isatty() and not force

    def write(self, data: bytes | memoryview, /) -> int:
        """Write all of it; raises ArdmError for binary data on a terminal."""
        if self._care and not _readable(bytes(data[:4096])):
            raise ArdmError("binary data is not written to a terminal; name a file with -o, or use -f")
        write_all(self._out, data)
        return len(data)


def _readable(data: bytes) -> bool:
    text = data.decode("utf-8", "replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(c.isprintable() or c in "\t\r\n" for c in text)


def standard_output(force: bool, bar: Bar) -> Terminal:
    """Standard output for data; hides the progress bar if that is a terminal."""
    if sys.stdout.isatty():
        bar.hide()
    return Terminal(force)


def sweep_before(path: Path, swept: set[Path]) -> None:
    """Remove stale temporary files from the folder of a target, once per folder."""
    folder = path if path.is_dir() else path.parent
    if folder not in swept and path is not STREAM:
        swept.add(folder)
        sweep(folder)


# --- one after the other ----------------------------------------------------------------------------------------------


def for_each(
    found: Sequence[Found],
    place: Place,
    act: Callable[[Path | BinaryIO, Path | Sink | None], FileResult | list[FileResult] | None],
    line: Callable[[FileResult], list[str]] | None,
    bar: Bar,
    seekable: int = 0,
) -> None:
    """Run `act(source, target)` on every file, even if others fail; exits with the code of the worst failure.

    Stops early only where standard output takes no more.  line: text for a result.  seekable: see `_source`.
    """
    codes, swept = set[int](), set[Path]()
    for number, one in enumerate(found, 1):
        bar.name, bar.count = one.path.name, f"[{number}/{len(found)}]" * (len(found) > 1)
        try:
            target = place.of(one)
            if place.writes and place.sink is None:
                sweep_before(target if isinstance(target, Path) else one.path, swept)
            with bar.busy("working"):
                done = act(_source(one.path, seekable), target)
        except BrokenPipeError:
            raise
        except Exception as error:
            if passes_through(error):
                raise
            bar.stop()
            failures = error if isinstance(error, Failures) else Failures([], [error])
            codes.update(_report(failures, one.path))
            if isinstance(error, Unwritten):
                abandon()
                break
            done = failures.done
        bar.stop()
        for made in done if isinstance(done, list) else [done] if done else []:
            if line is not None and place.sink is None and not bar.quiet:
                say(*line(made))
            for text in made.notes:
                if not bar.quiet or "not deleted" in text:
                    note(f"{name_of(one.path)}: {text}")
    worst = next((c for c in WORST if c in codes), 0)
    if worst:
        raise typer.Exit(worst)


def _report(failures: Failures, path: Path) -> Iterator[int]:
    """Print the failures of one file; yields their exit codes."""
    for error in failures.errors:
        message = explain(error)
        fail(message if _names(message, path) else f"{name_of(path)}: {message}")
        yield code(error)


def _names(message: str, path: Path) -> bool:
    """Whether a message names the file already; a very short name may appear by chance."""
    return message.startswith(name_of(STREAM)) if path is STREAM else len(str(path)) > 3 and str(path) in message
