"""The network calls of a header: their number, or a schedule that the file holds itself.

NumPy, no torch.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from ardm.codec.binary import Reader, deflate, inflate, varint
from ardm.errors import ArdmError, CodecError
from ardm.exact.model import MAX_CALLS
from ardm.exact.planned import Steps

MAX_STARTS = 1 << 16
"""The most calls of a schedule that a file holds itself."""


def pack_steps(steps: Steps) -> bytes:
    """The calls of a header: a number, or a schedule as the deflated distances between its starts."""
    number, distances = written(steps)
    if isinstance(steps, int):
        return number
    _refuse_calls(len(steps), MAX_STARTS, "holds schedules")
    packed = deflate(distances)
    return number + varint(len(packed)) + packed


def written(steps: Steps) -> tuple[bytes, bytes]:
    """The number of calls as a header holds it, and the distances of a schedule, not deflated."""
    if isinstance(steps, int):
        _refuse_calls(steps, MAX_CALLS - 1, "names numbers")
        return varint(steps), b""
    return varint(MAX_CALLS + len(steps)), b"".join(varint(b - a) for a, b in pairwise(steps))


def _refuse_calls(calls: int, most: int, what: str) -> None:
    if calls > most:
        raise ArdmError(f"a file {what} of at most {most} network calls; got {calls}")


def read_steps(file: Reader) -> Steps:
    """The inverse of `pack_steps`.  A schedule increases from 0; only its model knows whether it fits."""
    calls = file.varint("number of calls")
    if calls < MAX_CALLS:
        return calls
    calls -= MAX_CALLS
    if not 1 <= calls <= MAX_STARTS:
        raise CodecError(f"damaged header: its schedule has {calls} network calls")
    packed = file.take(file.varint("schedule"), "schedule")
    inner = Reader.open(inflate(packed, 9 * calls, "schedule"))
    starts = tuple(accumulate((inner.varint("schedule") for _ in range(calls - 1)), initial=0))
    inner.close("schedule")
    if any(a == b for a, b in pairwise(starts)):
        raise CodecError("damaged header: its schedule has a call that reveals nothing")
    return starts
