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

    Parsers of other packages raise nearly anything on a damaged file.  Memory that is not there is no damage.
    """
    try:
        yield
    except (ArdmError, MemoryError):
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        raise ArdmError(f"{failure}: {said[0].lower()}{said[1:]}") from error
