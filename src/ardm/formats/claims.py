"""The size a file claims in its header, read before anything is allocated for it.

Each format has a small function that looks at the beginning of a file and never calls the reader.  (TIFF keeps its
directory elsewhere in the file; the function follows the pointer.)  It trusts nothing and never fails: a file whose size
it cannot tell is not decoded.  This module needs neither NumPy nor Pillow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

MAX_HOPS = 1 << 12
"""Most chunks, blocks or tags to look at."""


@dataclass(frozen=True)
class Claim:
    """The format of a file and the samples (C, H, W), of `bits` bits each, that its header claims.

    image: whether the samples are pixels.
    open: whether the header leaves the number of samples open (a FLAC encoder that writes to a stream puts 0).
    sample_bytes: bytes of a sample in memory; 0 stands for one byte up to 8 bits, and two above.
    """

    format: str
    channels: int
    height: int
    width: int
    bits: int
    image: bool = True
    open: bool = False
    sample_bytes: int = 0

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.channels * self.height * self.width

    @property
    def raw_bytes(self) -> int:
        """Bytes of the samples in memory."""
        return self.samples * (self.sample_bytes or 1 + (self.bits > 8))


class Part:
    """Random access to a file that begins at `at` of another one; end: its length."""

    def __init__(self, file: BinaryIO, at: int, end: int) -> None:
        self._file, self._at, self.end = file, at, end

    def __call__(self, begin: int, size: int) -> bytes:
        """`size` bytes from `begin` on; fewer where the file ends."""
        self._file.seek(self._at + begin)
        return self._file.read(size)


ClaimReader: TypeAlias = Callable[[Part], "Claim | None"]
"""The beginning of a file to its claim; None, or an ordinary parsing error, where it cannot be read."""


def claim_at(file: BinaryIO, reader: ClaimReader, end: int | None = None) -> Claim | None:
    """Read the claim of the file that begins at the current position; None where it cannot be read.

    end: the length of the file, if `file` holds only its beginning.  The position of `file` is restored.
    """
    at = file.tell()
    try:
        return reader(Part(file, at, file.seek(0, 2) - at if end is None else end))
    except (struct.error, ValueError, OverflowError, LookupError, OSError):
        return None
    finally:
        file.seek(at)
