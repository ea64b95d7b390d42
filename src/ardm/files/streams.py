"""Raw streams, which may take or give bytes in parts: write or read everything, or raise an error."""

from __future__ import annotations

import errno
import select
from typing import Any, BinaryIO, Protocol

from ardm.atomic import reason, reasons
from ardm.errors import ArdmError

IDLE = 100
"""The number of times that a stream may take or give nothing although it is ready."""
PIECE = 1 << 28
"""The most bytes that are read at once."""


class Sink(Protocol):
    """A place to write bytes to, as a raw stream of `io`."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Write some or all bytes; returns how many, or None where it cannot take any at the moment."""
        ...


class Unwritten(ArdmError):  # noqa: N818
    """A stream takes no more data; nothing else may be written, or the lost part would go unnoticed."""


def put(target: Sink, data: bytes | memoryview) -> None:
    """Write all data to standard output; raises Unwritten where it does not take all."""
    try:
        write_all(target, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritten(f"cannot write standard output: {reason(error)}") from None


def write_all(target: Sink, data: bytes | memoryview) -> None:
    """Write all data to a stream; raises OSError where it does not take all.

    A raw stream takes what the system takes: half of it on a disk that is nearly full, nothing on a full pipe that does
    not block.  This function waits for such a pipe.
    """
    left, idle = memoryview(data).cast("B"), 0
    while left:
        try:
            taken = target.write(left)
        except BlockingIOError as full:
            taken = full.characters_written
        if taken is not None and not 0 <= taken <= len(left):
            raise OSError(errno.EIO, f"it claims to have taken {taken} of {len(left)} bytes")
        idle = 0 if taken else idle + 1
        if idle:
            _wait(target, idle, reading=False)
        left = left[taken or 0 :]


def read_up_to(file: BinaryIO, count: int) -> bytes:
    """Read `count` bytes, or all there are; keeps reading from a stream that gives them in pieces."""
    parts, size, idle = list[bytes](), 0, 0
    with reasons("cannot read the source"):
        while size < count:
            part: bytes | None = file.read(min(count - size, PIECE))
            if part is None:  # no data at the moment is not the end
                idle += 1
                _wait(file, idle, reading=True)
                continue
            if not part:
                break
            idle = 0
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def _wait(stream: Any, idle: int, reading: bool) -> None:
    """Wait until a stream that does not block is ready; raises OSError where the system cannot tell."""
    if idle > IDLE:
        raise OSError(errno.EAGAIN, f"it {'gives' if reading else 'takes'} nothing")
    try:
        handle = [stream.fileno()]
        select.select(handle if reading else [], [] if reading else handle, [])
    except (AttributeError, ValueError, OSError):
        raise OSError(errno.EAGAIN, f"it {'gives' if reading else 'takes'} nothing at the moment") from None
