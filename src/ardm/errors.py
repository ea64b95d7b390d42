"""Errors by who is at fault: the caller (ArdmError), or a file that is damaged or not ours (CodecError)."""


class ArdmError(ValueError):
    """What was asked cannot be done; the message says what was wrong, with which value, and what to do."""


class CodecError(ArdmError):
    """A compressed file that cannot be decoded: damaged, truncated, foreign, or beyond the reader's limits."""


class ModelMissing(CodecError):  # noqa: N818
    """A compressed file whose model is not at hand."""


class Unsupported(CodecError):  # noqa: N818
    """A compressed file of another format, or with features that this version lacks."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, whatever its type: libraries in C have their own ways to say so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text for sign in ("allocate memory", "out of memory", "malloc", "failed to map segment")
    )
