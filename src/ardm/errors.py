"""Errors by who is at fault: the caller (ArdmError), or a file that is damaged or not ours (CodecError)."""


class ArdmError(ValueError):
    """What was asked cannot be done; the message says what was wrong, with which value, and what to do."""


class CodecError(ArdmError):
    """A compressed file that is damaged, truncated, foreign, or made by a model that is not at hand."""
