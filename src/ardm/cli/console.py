"""What a person at a terminal sees: results on standard output, one line for whatever went wrong on standard error."""

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
        """Whoever read this has gone: an error like any other, where rich would exit."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


console = _Screen()
"""Results."""
errors = _Screen(stderr=True)
"""Everything else."""

FAILED, USAGE, DAMAGED, NO_MODEL, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes: something could not be done; wrong usage; a damaged file; a file whose model is not here; Ctrl-C."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: as Ctrl-C, so that nothing half-written is left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def plain(text: str) -> str:
    """Text in one line, without what a terminal would obey: file names may hold anything.

    Control characters, line ends and marks that turn the direction of writing are written out.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def say(*lines: str) -> None:
    """Lines of results."""
    for line in lines:
        show(plain(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def show(what: RenderableType, **options: Any) -> None:
    """A table or a text, among the results.  What cannot be written stops nothing; `streams` reports it at the end."""
    with _kept():
        console.print(what, **options)


def dump(value: Any) -> None:
    """A value as JSON, among the results."""
    with _kept():
        sys.stdout.write(json.dumps(value, indent=1) + "\n")
        sys.stdout.flush()


def fail(message: str) -> None:
    """`ardm: message` on standard error."""
    with suppress(OSError):
        errors.print(f"ardm: {plain(message)}", markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(message: str) -> None:
    """As `fail`, for what is worth knowing and is no failure."""
    fail(f"note: {message}")


def live(screen: Console) -> bool:
    """Whether progress can be shown, which moves the cursor: on a terminal, and nowhere else.

    FORCE_COLOR asks for colours, and rich takes it for a terminal.
    """
    return screen.is_terminal and screen.file.isatty() and not screen.is_dumb_terminal


def code(error: BaseException) -> int:
    """The exit code that an error asks for."""
    if isinstance(error, ModelMissing):
        return NO_MODEL
    return DAMAGED if isinstance(error, CodecError) and not isinstance(error, Unsupported) else FAILED


def explain(error: BaseException) -> str:
    """One line for an error."""
    if isinstance(error, ArdmError):
        return str(error)
    if isinstance(error, (MemoryError, RuntimeError, ImportError, OSError)) and out_of_memory(error):
        return "out of memory: what was asked for is too large for this machine"
    if isinstance(error, SafetensorError):
        return f"a model file cannot be written or read: {error}"
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return where + (error.strerror or str(error))
    return _fault(error)


def _fault(error: BaseException) -> str:
    """What to say of a fault of the program itself, or of one of its libraries."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    where = f" in {Path(last.filename).name}, line {last.lineno}" if last is not None else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return f"{text}{where}; this is a fault of ardm, please report it ({TRACEBACK}=1 shows the traceback)"


TRACEBACK = "ARDM_TRACEBACK"
"""The variable of the environment that asks for it."""


def passes(error: BaseException) -> bool:
    """Whether an error is to go on as it is: it ends the command with a code, or shows usage; or a traceback is wanted."""
    ends = isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "format_message")
    return ends or bool(explain(error) == _fault(error) and os.environ.get(TRACEBACK))


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated, where nothing else was made of them."""

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
    """Turn what goes wrong in a command into one line and an exit code."""
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
    except BrokenPipeError:  # whoever read our output has gone: be quiet
        abandon()
        raise typer.Exit(FAILED) from None
    except Exception as error:
        if passes(error):
            raise
        fail(explain(error))
        if isinstance(error, Unwritten):
            abandon()
        raise typer.Exit(code(error)) from None


@contextmanager
def plainly() -> Iterator[None]:
    """What is said of wrong usage repeats what was given: without what a terminal would obey."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = plain(message)  # type: ignore[attr-defined]
        raise


# --- standard streams, whatever they are ------------------------------------------------------------------------------


class _Closed(io.RawIOBase):
    """In the place of a stream that was closed before we began."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class _Whole(io.RawIOBase):
    """A stream that takes all it is given, or raises.  dropped: it takes everything, and keeps nothing."""

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
    """For messages: nothing fails because they cannot be written."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


_lost: list[OSError] = []
"""Why results could not be written."""


@contextmanager
def _kept() -> Iterator[None]:
    """Standard output: collects what cannot be written, for `streams` to report; a reader who has gone ends the command."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _lost.append(error)


def abandon() -> None:
    """Forget what standard output still holds back, and all that will be written: the failure has been told."""
    _lost.clear()
    stream = getattr(sys.stdout, "buffer", None)
    raw = stream if isinstance(stream, _Whole) else getattr(stream, "raw", None)
    if isinstance(raw, _Whole):
        raw.dropped = True


@contextmanager
def streams() -> Iterator[None]:
    """Standard output that writes everything, in any encoding, or ends the program with an error.

    Standard error never fails.
    Without a buffer (PYTHONUNBUFFERED) Python drops what the system does not take at once.  Missing streams are
    replaced: output fails as the system says it, messages are lost.
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
    """Whether all results have been written; says so if not."""
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
    """A standard stream with a layer of this kind between its text and the system; others, as tests have, stay."""
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
    # what an encoding lacks is written out: a name is never worth a traceback
    lenient = "backslashreplace" if stream.errors in ("strict", "surrogateescape") else stream.errors
    settings = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return io.TextIOWrapper(layer, stream.encoding, lenient, newline=os.linesep, **settings)
