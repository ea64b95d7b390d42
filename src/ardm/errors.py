"""Errors by who is at fault: the caller (ArdmError), or a file that is damaged or foreign (CodecError)."""

from collections.abc import Iterator
from contextlib import contextmanager


class ArdmError(ValueError):
    """A request that cannot be met; the message says what is wrong, the value, and what to do."""


class CodecError(ArdmError):
    """A compressed file that cannot be decoded: damaged, truncated, foreign, or beyond the reader's limits."""


class ModelMissing(CodecError):  # noqa: N818
    """A compressed file whose model cannot be found."""


class Unsupported(CodecError):  # noqa: N818
    """A compressed file of another format, or one with features that this version lacks."""


@contextmanager
def parsing(failure: str) -> Iterator[None]:
    """Guard a third-party parser: turn every exception of it into `ArdmError(failure: its message)`.

    Parsers of other packages raise nearly anything on a damaged file.  Lack of memory stays a MemoryError.
    """
    try:
        yield
    except ArdmError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError from error
        said = str(error) or type(error).__name__
        raise ArdmError(f"{failure}: {said[0].lower()}{said[1:]}") from error


def cause(error: BaseException) -> str:
    """Why a file is unreadable, for people: the message of an error, without internal names."""
    if isinstance(error, KeyError):
        return f"it has no {str(error.args[0] if error.args else '')!r}"
    if isinstance(error, (ArdmError, OSError)):
        return getattr(error, "strerror", None) or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "a value in it has the wrong type" if isinstance(error, (AttributeError, TypeError)) else str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means lack of memory; libraries in C report it in types of their own."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("allocate memory", "out of memory", "malloc", "failed to map segment")
    )
