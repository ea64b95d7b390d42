"""Results on standard output; one line for each error on standard error; exit codes; streams that never lose data."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import typer
from rich.console import Console, RenderableType
from safetensors import SafetensorError

from ardm.atomic import reason
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported, out_of_memory
from ardm.files.streams import Unwritten, write_all


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Raise an ordinary error when a pipe has no reader any more; rich would exit."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


console = _Screen()
"""Results."""
errors = _Screen(stderr=True)
"""Everything else."""

FAILED, USAGE, DAMAGED, NO_MODEL, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes: failure; wrong usage; a damaged file; a file whose model is missing; Ctrl-C."""
EXITS = (
    "Exit codes: 0 success; 1 something failed, and the other files are done; 2 wrong usage; 3 a damaged file; "
    "4 a missing model; 130 interrupted."
)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, handled like Ctrl-C so that no half-written file is left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def plain(text: str) -> str:
    """Escape control characters, line ends and direction marks: file names may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def say(*lines: str) -> None:
    """Print lines of results."""
    for line in lines:
        show(plain(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def show(what: RenderableType, **options: Any) -> None:
    """Print a table or text among the results; a failure stops nothing, and `streams` reports it at the end."""
    with _kept():
        console.print(what, **options)


def dump(value: Any) -> None:
    """Print a value as JSON among the results."""
    with _kept():
        json.dump(value, sys.stdout, indent=1)  # piece by piece: items may repeat long facts
        sys.stdout.write("\n")
        sys.stdout.flush()


def fail(message: str) -> None:
    """Print `ardm: message` on standard error."""
    with suppress(OSError):
        errors.print(f"ardm: {plain(message)}", markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(message: str) -> None:
    """Print `ardm: note: message` on standard error."""
    fail(f"note: {message}")


def live(screen: Console) -> bool:
    """Whether progress can be shown: on a real terminal only.  With FORCE_COLOR, rich takes anything for a terminal."""
    return screen.is_terminal and screen.file.isatty() and not screen.is_dumb_terminal


def code(error: BaseException) -> int:
    """The exit code of an error."""
    if isinstance(error, ModelMissing):
        return NO_MODEL
    return DAMAGED if isinstance(error, CodecError) and not isinstance(error, Unsupported) else FAILED


def explain(error: BaseException) -> str:
    """The message of an error in one line."""
    if isinstance(error, ArdmError):
        return str(error)
    if isinstance(error, (MemoryError, RuntimeError, ImportError, OSError)) and out_of_memory(error):
        return "out of memory: this is too large for this machine"
    if isinstance(error, SafetensorError):
        return f"a model file cannot be written or read: {error}"
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return where + (error.strerror or str(error))
    return _fault(error)


def _fault(error: BaseException) -> str:
    """The message of a bug in the program, or in one of its libraries."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    where = f" in {Path(last.filename).name}, line {last.lineno}" if last is not None else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return f"{text}{where}; this is a bug in ardm, please report it ({TRACEBACK}=1 shows the traceback)"


TRACEBACK = "ARDM_TRACEBACK"
"""The environment variable that asks for tracebacks of bugs."""


def passes_through(error: BaseException) -> bool:
    """Whether an error passes through: it exits or shows usage, or it is a bug and a traceback is wanted."""
    ends = isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "format_message")
    return ends or bool(explain(error) == _fault(error) and os.environ.get(TRACEBACK))


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise Terminated on SIGTERM and SIGHUP, unless they are handled already."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    here = threading.current_thread() is threading.main_thread()
    names = [n for n in ("SIGTERM", "SIGHUP") if here and hasattr(signal, n)]
    mine = [number for number in map(signal.Signals.__getitem__, names) if signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def guard() -> Iterator[None]:
    """Turn any error of a command into one line and an exit code."""
    try:
        with _terminable():
            yield
    except Terminated as stop:
        abandon()
        fail("terminated")
        raise typer.Exit(128 + stop.number) from None
    except KeyboardInterrupt:
        abandon()
        fail("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone: no message
        abandon()
        raise typer.Exit(FAILED) from None
    except Exception as error:
        if passes_through(error):
            raise
        fail(explain(error))
        if isinstance(error, Unwritten):
            abandon()
        raise typer.Exit(code(error)) from None


@contextmanager
def plainly() -> Iterator[None]:
    """Escape control characters in usage errors, which quote arguments."""
    try:
        yield
    except Exception as caught:
        error: Any = caught
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = plain(message)
        raise


# --- standard streams: closed, full, narrow or without a buffer -------------------------------------------------------


class _Closed(io.RawIOBase):
    """Stands in for a stream that was closed before the program began."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class _Whole(io.RawIOBase):
    """A stream that writes everything, or raises.  dropped: it discards everything."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self.dropped = raw, False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Any, /) -> int:
        if not self.dropped:
            write_all(self._raw, data)
        return memoryview(data).nbytes


class _Lossy(_Whole):
    """A stream for messages, which may be lost without an error."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


_lost: list[OSError] = []
"""Errors of writing results."""


@contextmanager
def _kept() -> Iterator[None]:
    """Collect errors of standard output, for `streams` to report; BrokenPipeError passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _lost.append(error)


def abandon() -> None:
    """Discard what standard output has buffered, and all that follows: the failure was reported."""
    _lost.clear()
    stream = getattr(sys.stdout, "buffer", None)
    raw = stream if isinstance(stream, _Whole) else getattr(stream, "raw", None)
    if isinstance(raw, _Whole):
        raw.dropped = True


@contextmanager
def streams() -> Iterator[None]:
    """Replace the standard streams: output is written in full, in any encoding, or the program exits with an error.

    Messages never fail.  Without this, Python drops what the system does not take at once if output is unbuffered
    (PYTHONUNBUFFERED).  A closed standard output fails with the system's error; a closed standard error loses messages.
    """
    before, ended = (sys.stdout, sys.stderr), None
    sys.stdout, sys.stderr = _whole(sys.stdout, _Whole), _whole(sys.stderr, _Lossy)
    _lost.clear()
    try:
        try:
            yield
        except SystemExit as stop:
            ended = stop
        except OSError as error:  # of help, version or usage
            _lost.append(error)
        written = _flushed()
        if not written and (ended is None or not ended.code):
            raise SystemExit(FAILED)
        if ended is not None:
            raise ended
    finally:
        sys.stdout, sys.stderr = before


def _flushed() -> bool:
    """Whether all results were written; prints an error if not."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lost.append(error)
    if not _lost:
        return True
    if not isinstance(_lost[0], BrokenPipeError):
        fail(f"cannot write standard output: {reason(_lost[0])}")
    abandon()
    return False


def _whole(stream: TextIO | None, kind: type[_Whole]) -> TextIO:
    """Put a layer of this kind between a standard stream's text and the system; other streams, as in tests, stay."""
    if stream is None:
        nothing: Any = kind(_Closed())
        return io.TextIOWrapper(nothing, "utf-8", "backslashreplace", write_through=True)
    buffer: Any = getattr(stream, "buffer", None)
    raw: Any = buffer if isinstance(buffer, io.RawIOBase) else getattr(buffer, "raw", None)
    if not isinstance(raw, io.RawIOBase) or not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError):
        stream.flush()
    layer: Any = kind(raw) if buffer is raw else io.BufferedWriter(kind(raw))
    # characters that the encoding lacks are escaped, so that no file name causes a traceback
    lenient = "backslashreplace" if stream.errors in ("strict", "surrogateescape") else stream.errors
    settings = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(layer, stream.encoding, lenient, newline=os.linesep, **settings)
