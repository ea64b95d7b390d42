"""One file after the other: where each comes from, where it goes, how far it is, and what is said of it.

All are tried; the exit code is that of the worst.  Nothing here imports PyTorch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ardm.atomic import make_folders, reasons, sweep
from ardm.cli.console import (
    DAMAGED,
    FAILED,
    NO_MODEL,
    abandon,
    code,
    errors,
    explain,
    fail,
    live,
    note,
    passes,
    plain,
    say,
)
from ardm.errors import ArdmError
from ardm.files.limits import amount
from ardm.files.paths import STREAM, Found
from ardm.files.results import Failures, FileResult
from ardm.files.streams import Sink, Unwritten, read_up_to, write_all

WORST = (DAMAGED, NO_MODEL, FAILED)
"""Exit codes of single files, the worst first."""


# --- where from, where to ---------------------------------------------------------------------------------------------


class Place:
    """Where results go: to a stream, a file or folder that was given, or beside their sources.

    writes: whether there are any.
    """

    def __init__(self, sink: Sink | None = None, given: Path | None = None, writes: bool = True) -> None:
        self.sink, self.given, self.writes = sink, given, writes

    def of(self, found: Found) -> Path | Sink | None:
        """Of one file; the files in a folder keep their places below it."""
        if self.sink is not None or self.given is None or len(found.below.parts) == 1:
            return self.sink or self.given
        with reasons(f"cannot write {self.given}"):
            folder = self.given / found.below.parent
            make_folders(folder, self.given)
        return folder


class Terminal:
    """Standard output, which refuses what would make a mess of a terminal."""

    def __init__(self, force: bool) -> None:
        self._out, self._care = sys.stdout.buffer, sys.stdout.isatty() and not force

    def write(self, data: bytes, /) -> int:
        """All of it; ArdmError for what is no text, on a terminal."""
        if self._care and not _readable(bytes(data[:4096])):
            raise ArdmError("this is no text, and is not written to a terminal; name a file with -o, or use -f")
        write_all(self._out, data)
        return len(data)


def _readable(data: bytes) -> bool:
    text = data.decode("utf-8", "replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(c.isprintable() or c in "\t\r\n" for c in text)


def standard_output(force: bool, bar: Bar) -> Terminal:
    """For data; on a terminal, progress would spoil them."""
    if sys.stdout.isatty():
        bar.hide()
    return Terminal(force)


def source_of(text: str, option: str = "FILE") -> Path:
    """A path as a person wrote it; "-", and no other way to write it, is STREAM."""
    if not text:
        raise typer.BadParameter("a name is empty; . is the folder where you are", param_hint=option)
    return STREAM if text == "-" else Path(text)


def place_of(found: Sequence[Found], output: str | None, stdout: bool, force: bool, bar: Bar) -> Place:
    """Where -o and -c say; several files need a folder that is there."""
    if stdout and output not in (None, "-"):
        raise typer.BadParameter("-c writes to standard output, and -o elsewhere; give one of them", param_hint="-o")
    if stdout or output == "-" or (output is None and any(one.path is STREAM for one in found)):
        return Place(standard_output(force, bar))
    if output is None:
        return Place()
    folder = source_of(output, "-o")
    if not folder.is_dir() and (len(found) > 1 or output.endswith("/") or any(len(f.below.parts) > 1 for f in found)):
        raise typer.BadParameter(f"{output} is not a folder, which several files need", param_hint="-o")
    return Place(given=folder)


# --- one after the other ----------------------------------------------------------------------------------------------


class Bar:
    """Progress of one file after the other, on a terminal and nowhere else."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.name = quiet, ""
        self._shown, self._what, self._bar = live(errors) and not quiet, "", None

    _bar: Progress | None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """What is being done, how much of it is done, and how much there is."""
        if not self._shown:
            return
        if self._bar is None:
            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=errors, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._bar.start()
        if what != self._what or not self._bar.task_ids:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(f"{escape(plain(self.name))}: {what}", total=total)
            self._what = what
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def hide(self) -> None:
        """For good."""
        self.stop()
        self._shown = False

    def stop(self) -> None:
        """Before anything else is said."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def each(
    found: Sequence[Found],
    place: Place,
    act: Callable[[Path | BinaryIO, Path | Sink | None], FileResult | list[FileResult] | None],
    line: Callable[[FileResult], list[str]] | None,
    bar: Bar,
    seekable: int = 0,
) -> None:
    """Do every file, whatever becomes of the others; exits with the code of the worst.

    Only where a stream takes no more there is nothing left to do.  line: what to say of one that is done.  seekable: standard input is read at once, if it has no more bytes than that.
    """
    codes, swept = set[int](), set[Path]()
    for one in found:
        bar.name = one.path.name
        try:
            target = place.of(one)
            if place.writes and place.sink is None:
                sweep_before(target if isinstance(target, Path) else one.path, swept)
            done = act(_source(one.path, seekable), target)
        except BrokenPipeError:
            raise
        except Exception as error:
            if passes(error):
                raise
            bar.stop()
            failures = error if isinstance(error, Failures) else Failures([], [error])
            codes.update(_told(failures, one.path))
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


def _told(failures: Failures, path: Path) -> Iterator[int]:
    """Say what failed of one file; the codes that it asks for."""
    for error in failures.errors:
        message = explain(error)
        fail(message if _tells(message, path) else f"{name_of(path)}: {message}")
        yield code(error)


def _tells(message: str, path: Path) -> bool:
    """Whether a message names the file already; a very short name may stand in it by chance."""
    return message.startswith(name_of(STREAM)) if path is STREAM else len(str(path)) > 3 and str(path) in message


def _source(path: Path, seekable: int) -> Path | BinaryIO:
    """A file, or standard input."""
    if path is not STREAM:
        return path
    if sys.stdin is None:
        raise ArdmError("standard input is closed; name a file")
    if not seekable:
        return sys.stdin.buffer
    data = read_up_to(sys.stdin.buffer, seekable + 1)
    if len(data) > seekable:
        raise ArdmError(f"standard input has more than the {amount(seekable)} of memory allowed; -M allows more")
    return BytesIO(data)


def bytes_of(text: str, option: str = "-M") -> int:
    """512MiB as a number of bytes."""
    found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?)(i?)(B?)", text.strip(), re.IGNORECASE)
    if not found or not int(found[1]):
        raise typer.BadParameter(f"give a number of bytes such as 512MiB or 2GiB; got {text!r}", param_hint=option)
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


def sweep_before(path: Path, swept: set[Path]) -> None:
    """What killed predecessors left where we are about to write, once for each folder."""
    folder = path if path.is_dir() else path.parent
    if folder not in swept and path is not STREAM:
        swept.add(folder)
        sweep(folder)


def name_of(path: Path | None) -> str:
    """What to call a source."""
    return "standard input" if path is None or path is STREAM else str(path)
