"""Errors by who is at fault: the caller (ArdmError), or a file that is damaged or not ours (CodecError)."""

from collections.abc import Iterator
from contextlib import contextmanager


class ArdmError(ValueError):
    """What was asked cannot be done; the message says what was wrong, with which value, and what to do."""


class CodecError(ArdmError):
    """A compressed file that cannot be decoded: damaged, truncated, foreign, or beyond the reader's limits."""


class ModelMissing(CodecError):  # noqa: N818
    """A compressed file whose model is not at hand."""


class Unsupported(CodecError):  # noqa: N818
    """A compressed file of another format, or with features that this version lacks."""


@contextmanager
def parsing(failure: str) -> Iterator[None]:
    """Guard a parser of other people's files: whatever it raises becomes `ArdmError(failure: what it said)`.

    Parsers of other packages raise nearly anything on a damaged file.  Memory that is short is no damage: MemoryError.
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
    """What made a file unreadable, for a person: what was said of it, without the names that only a program knows."""
    if isinstance(error, KeyError):
        return f"it has no {str(error.args[0] if error.args else '')!r}"
    if isinstance(error, (ArdmError, OSError)):
        return getattr(error, "strerror", None) or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "a value in it is not what it should be" if isinstance(error, (AttributeError, TypeError)) else str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, whatever its type: libraries in C have their own ways to say so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("allocate memory", "out of memory", "malloc", "failed to map segment")
    )
