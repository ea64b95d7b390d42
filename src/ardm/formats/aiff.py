"""AIFF and uncompressed AIFF-C: integers of 8 or 16 bits, byte for byte, with all chunks around the samples."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.claims import MAX_HOPS, Claim, Part
from ardm.formats.common import MAX_SAMPLES, KeepBytes, admit
from ardm.formats.wav import signed, unsigned

_ORDERS = {b"NONE": ">i2", b"twos": ">i2", b"sowt": "<i2"}
"""Types of 16-bit samples by the compression that an AIFF-C names."""
_ONE = 16383 + 63
"""The exponent with which the lowest bit of the mantissa of a rate counts 1."""


def _rate(extended: bytes) -> int:
    """Samples per second from a positive 80-bit float, rounded down."""
    exponent, mantissa = struct.unpack(">HQ", extended)
    rate = mantissa >> min(_ONE - exponent, 64) if exponent <= _ONE else 1 << 64
    if rate >> 32:
        raise KeepBytes("its rate is not below 2^32")
    return int(rate)


def _extended(rate: int) -> bytes:
    """The inverse of _rate."""
    top = rate.bit_length() - 1
    return struct.pack(">HQ", 16383 + top, rate << 63 - top) if rate else bytes(10)


def _chunks(part: Part) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and size of the body of each chunk."""
    at = 12
    for _ in range(MAX_HOPS):
        if at + 8 > part.end:
            return
        name, size = struct.unpack(">4sI", part(at, 8))
        yield name, at + 8, size
        at += 8 + size + size % 2


@dataclass(frozen=True)
class _Placed:
    """The chunks.  dtype: of a sample."""

    channels: int
    length: int
    dtype: str
    rate: int
    begin: int

    @property
    def spans(self) -> list[ranges.Span]:
        return [(self.begin, self.begin + self.channels * self.length * np.dtype(self.dtype).itemsize)]

    def decode(self, raw: memoryview) -> Content:
        x = np.frombuffer(raw, self.dtype).reshape(self.length, self.channels)
        samples = unsigned(x) if self.dtype != "u1" else np.ascontiguousarray(x.T[:, None]) ^ np.uint8(0x80)
        return Content(Kind.AUDIO, samples, "aiff", rate=self.rate)

    def encode(self, content: Content) -> bytes:
        x = content.samples
        if (x.shape, content.is_16bit) != ((self.channels, 1, self.length), self.dtype != "u1"):
            said = f"{self.channels} channels of {self.length}"
            raise ArdmError(f"the header of this aiff says {said}, and the sound has {len(x)} of {x.shape[2]}")
        return signed(x).astype(self.dtype).tobytes() if content.is_16bit else (x[:, 0].T ^ np.uint8(0x80)).tobytes()


class _Layout:
    origin = "aiff"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        form, sound = b"", (0, 0)
        for name, begin, size in _chunks(Part(BytesIO(data), 0, len(data))):
            if name == b"COMM":
                form = data[begin : begin + size]
            elif name == b"SSND":
                sound = begin, min(size, len(data) - begin)
        if len(form) < 18 or sound[1] < 8:
            raise KeepBytes("it has no samples")
        channels, frames, bits = struct.unpack_from(">HIH", form)
        coding = form[18:22] if data[8:12] == b"AIFC" else b"NONE"
        if bits not in (8, 16) or coding not in _ORDERS or (bits == 8 and coding == b"sowt"):
            raise KeepBytes(
                f"only integers of 8 and 16 bits are read; it has {coding.decode('latin-1')} of {bits} bits"
            )
        begin, offset = sound[0] + 8, struct.unpack_from(">I", data, sound[0])[0]
        length = min(frames, max(0, sound[1] - 8 - offset) // (channels * bits // 8)) if channels else 0
        admit(channels, 1, length, most)
        return _Placed(channels, length, _ORDERS[coding] if bits == 16 else "u1", _rate(form[8:18]), begin + offset)

    def size(self, content: Content) -> int:
        return content.raw_bytes

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        (channels, _, length), count = content.shape, content.raw_bytes
        if count > 0xFFFFFFFF - 64:
            raise ArdmError(f"aiff holds up to four gigabytes; the samples take {count} bytes")
        pad = bytes(count % 2)
        form = struct.pack(">4sIHIH", b"COMM", 18, channels, length, 8 * content.samples.itemsize)
        sound = struct.pack(">4sIII", b"SSND", 8 + count, 0, 0)
        head = struct.pack(">4sI4s", b"FORM", 46 + count + len(pad), b"AIFF")
        return head + form + _extended(content.rate) + sound, pad


def _claim(part: Part) -> Claim | None:
    for name, begin, _ in _chunks(part):
        if name == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", part(begin, 8))
            most = part.end // max(1, channels * bits // 8)  # a damaged header claims more than the file holds
            return Claim("aiff", channels, 1, min(frames, most), bits, image=False)
    return None


FORMAT = ranges.file_format(_Layout(), (".aiff", ".aif", ".aifc"), rb"FORM....AIF[FC]", _claim, Kind.AUDIO)
