"""What a person at a terminal sees: results on standard output, one line for whatever went wrong on standard error."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import typer
from rich.console import Console
from safetensors import SafetensorError

from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported, out_of_memory
from ardm.whole import reasons

console = Console()
"""Results."""
errors = Console(stderr=True)
"""Everything else."""

FAILED, USAGE, DAMAGED, NO_MODEL, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes: something could not be done; wrong usage; a damaged file; a file whose model is not here; Ctrl-C."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: as Ctrl-C, so that nothing half-written is left."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def plain(text: str) -> str:
    """Text without what a terminal would obey: file names may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "replace").decode() for c in text)


def say(message: str) -> None:
    """A line of results."""
    console.print(plain(message), markup=False, highlight=False, emoji=False, soft_wrap=True)


def fail(message: str) -> None:
    """`ardm: message` on standard error."""
    errors.print(f"ardm: {plain(message)}", markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(message: str) -> None:
    """As `fail`, for what is worth knowing and is no failure."""
    fail(f"note: {message}")


def code(error: BaseException) -> int:
    """The exit code that an error asks for."""
    if isinstance(error, ModelMissing):
        return NO_MODEL
    return DAMAGED if isinstance(error, CodecError) and not isinstance(error, Unsupported) else FAILED


def explain(error: BaseException) -> str | None:
    """One line for an error that is not a fault of the program; None for one that is."""
    if isinstance(error, ArdmError):
        return str(error)
    if isinstance(error, (MemoryError, RuntimeError, ImportError, OSError)) and out_of_memory(error):
        return "out of memory: what was asked for is too large for this machine"
    if isinstance(error, SafetensorError):
        return f"a model file cannot be written or read: {error}"
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return where + (error.strerror or str(error))
    return None


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
            with reasons("cannot write standard output"):
                sys.stdout.flush()
    except Terminated as stop:
        fail("terminated")
        raise typer.Exit(128 + stop.number) from None
    except KeyboardInterrupt:
        fail("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever read our output has gone: be quiet
        _abandon_output()
        raise typer.Exit(FAILED) from None
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        fail(message)
        _abandon_output()
        raise typer.Exit(code(error)) from None


def _abandon_output() -> None:
    """What standard output still holds back is lost if it cannot be written; no second complaint at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # in tests it may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
