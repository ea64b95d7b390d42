"""The smallest elements of a file: varints, checksums, deflate, and a reader that trusts nothing.

Any fault in the bytes of a file raises CodecError.

NumPy, no torch.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import BinaryIO

from ardm.errors import CodecError


def varint(n: int) -> bytes:
    """LEB128: seven bits per byte, the lowest first."""
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def crc8(data: bytes) -> int:
    """The remainder modulo x^8 + x^2 + x + 1: detects every burst of at most eight bits."""
    state = 0
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state << 1 ^ (0x107 if state & 128 else 0)
    return state


def check_bytes(crc: int) -> bytes:
    """A CRC-32 as a file holds it."""
    return crc.to_bytes(4, "little")


def deflate(data: bytes) -> bytes:
    """Raw deflate (RFC 1951), without the zlib wrapper."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, limit: int, what: str) -> bytes:
    """The inverse of deflate; CodecError unless data are exactly one deflate stream of at most `limit` bytes."""
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise CodecError(f"damaged file: its {what} cannot be unpacked") from None
    if len(raw) > limit:
        raise CodecError(f"damaged file: its {what} unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise CodecError(f"damaged file: its {what} does not end where it should")
    return raw


class Reader:
    """Bytes `at` to `end` of a file, taken from the front; CodecError where there are too few.

    crc: CRC-32 of the bytes taken so far.
    """

    def __init__(self, file: BinaryIO, at: int, end: int, whole: bool = True) -> None:
        self.file, self.at, self.end, self.crc, self._whole = file, at, end, 0, whole

    @classmethod
    def open(cls, file: BinaryIO | bytes) -> Reader:
        """A reader of the rest of a file.  A file that cannot seek, such as a pipe, is read into memory."""
        if isinstance(file, (bytes, bytearray, memoryview)):
            return cls(BytesIO(file), 0, len(file))
        if not file.seekable():
            return cls.open(file.read())
        at = file.tell()
        return cls(file, at, file.seek(0, 2))

    @property
    def left(self) -> int:
        """The number of bytes left."""
        return self.end - self.at

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes; what: their name in errors."""
        if count > self.left:
            raise self.short(what)
        self.file.seek(self.at)
        data = self.file.read(count)
        while len(data) < count:  # unbuffered files may return less than they have
            more = self.file.read(count - len(data))
            if not more:
                raise self.short(what)
            data += more
        self.at += count
        self.crc = zlib.crc32(data, self.crc)
        return data

    def byte(self, what: str) -> int:
        """The next byte."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """The next varint; CodecError for more than 63 bits, or for leading zeros."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte(what)
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    raise CodecError(f"damaged file: its {what} is not written in the shortest way")
                return value
        raise CodecError(f"damaged file: its {what} is out of range")

    def part(self, length: int, what: str) -> Reader:
        """A reader of the next `length` bytes, which this reader skips."""
        if length > self.left:
            raise self.short(what)
        self.at += length
        return Reader(self.file, self.at - length, self.at, whole=self._whole and not self.left)

    def since(self, at: int) -> bytes:
        """The bytes taken since position `at`."""
        self.file.seek(at)
        return self.file.read(self.at - at)

    def close(self, what: str) -> None:
        """Raise CodecError unless all bytes are taken."""
        if self.left:
            raise CodecError(f"damaged file: {self.left} bytes too many in its {what}")

    def short(self, what: str) -> CodecError:
        """The error of a file that has too few bytes."""
        if self._whole:
            return CodecError(f"truncated file: it ends in its {what}, at byte {self.end}")
        return CodecError(f"damaged file: its {what} does not fit its place")
