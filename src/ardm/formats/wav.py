"""WAV: integers of 8 or 16 bits, byte for byte, with all chunks around the samples."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.claims import MAX_HOPS, Claim, Part
from ardm.formats.common import MAX_SAMPLES, KeepBytes, admit

_PCM = bytes.fromhex("0100000000001000800000aa00389b71")
"""The subformat of extensible headers."""


def signed(x: Samples) -> NDArray[np.int16]:
    """16-bit samples (C, 1, L) of a content as signed (L, C)."""
    return (x[:, 0].T ^ np.uint16(0x8000)).astype("<u2").view("<i2").astype(np.int16)


def unsigned(x: NDArray[np.int16]) -> Samples:
    """The inverse of signed."""
    return np.ascontiguousarray((x.astype("<i2").view("<u2") ^ np.uint16(0x8000)).T[:, None])


@dataclass(frozen=True)
class _Placed:
    """The chunks.  size: bytes of a sample."""

    channels: int
    length: int
    size: int
    rate: int
    begin: int

    @property
    def spans(self) -> list[ranges.Span]:
        return [(self.begin, self.begin + self.channels * self.length * self.size)]

    def decode(self, raw: memoryview) -> Content:
        x = np.frombuffer(raw, "u1" if self.size == 1 else "<i2").reshape(self.length, self.channels)
        samples = np.ascontiguousarray(x.T[:, None]) if self.size == 1 else unsigned(x)
        return Content(Kind.AUDIO, samples, "wav", rate=self.rate)

    def encode(self, content: Content) -> bytes:
        x = content.samples
        if (x.shape, x.itemsize) != ((self.channels, 1, self.length), self.size):
            said = f"{self.channels} channels of {self.length}"
            raise ArdmError(f"the header of this wav says {said}, and the sound has {len(x)} of {x.shape[2]}")
        return signed(x).astype("<i2").tobytes() if content.is_16bit else x[:, 0].T.tobytes()


class _Layout:
    origin = "wav"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        if data[:4] != b"RIFF":
            raise KeepBytes(f"only RIFF is read; it is {data[:4].decode('latin-1')}")
        at, form = 12, b""
        while True:
            name, size = struct.unpack_from("<4sI", data, at) if at + 8 <= len(data) else (b"", 0)
            if name == b"data" or not name:
                break
            if name == b"fmt ":
                form = data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2
        if not name or len(form) < 16:
            raise KeepBytes("it has no samples")
        code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
        if code == 0xFFFE and form[24:40] == _PCM and struct.unpack_from("<H", form, 18)[0] == bits:
            code = 1
        if code != 1 or bits not in (8, 16) or block != channels * bits // 8:
            raise KeepBytes(f"only integers of 8 and 16 bits are read; it has format {code} of {bits} bits")
        length = min(size, len(data) - at - 8) // block if block else 0  # interrupted recordings claim too many
        admit(channels, 1, length, most)
        return _Placed(channels, length, bits // 8, rate, at + 8)

    def size(self, content: Content) -> int:
        return content.raw_bytes

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        channels, size, count = len(content.samples), content.samples.itemsize, content.raw_bytes
        if count > 0xFFFFFFFF - 64:
            raise ArdmError(f"wav holds up to four gigabytes; the samples take {count} bytes")
        block, pad = channels * size, bytes(count % 2)
        head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + count + len(pad), b"WAVE", b"fmt ", 16, 1, channels,
                           content.rate, content.rate * block & 0xFFFFFFFF, block, 8 * size)  # fmt: skip
        return head + struct.pack("<4sI", b"data", count), pad


def _claim(part: Part) -> Claim | None:
    at, channels, bits = 12, 0, 8
    for _ in range(MAX_HOPS):
        name, size = struct.unpack("<4sI", part(at, 8))
        if name == b"fmt ":
            _, channels, _, _, _, bits = struct.unpack("<HHIIHH", part(at + 8, 16))
        if name == b"data" and channels and bits >= 8:
            size = min(size, part.end - at - 8)  # streams claim the largest number there is
            return Claim("wav", channels, 1, size // (channels * bits // 8), bits, image=False)
        at += 8 + size + size % 2
    return None


FORMAT = ranges.file_format(_Layout(), (".wav",), rb"(RIFF|RIFX|RF64)....WAVE", _claim, Kind.AUDIO)
