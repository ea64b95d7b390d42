"""WAV files of 8 or 16 bits, integers: the chunks around the samples as they came; byte for byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.common import Kept, admit

_PCM = bytes.fromhex("0100000000001000800000aa00389b71")  # the subformat of extensible headers


def signed(x: Samples) -> NDArray[np.int16]:
    """Samples (C, 1, L) of a content of two bytes as (L, C), signed."""
    return (x[:, 0].T ^ np.uint16(0x8000)).astype("<u2").view("<i2").astype(np.int16)


def unsigned(x: NDArray[np.int16]) -> Samples:
    """The inverse of signed."""
    return np.ascontiguousarray((x.astype("<i2").view("<u2") ^ np.uint16(0x8000)).T[:, None])


@dataclass(frozen=True)
class _Placed:
    """What the chunks say; size: of a sample in bytes."""

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
        return signed(x).astype("<i2").tobytes() if content.wide else x[:, 0].T.tobytes()


class _Format:
    origin = "wav"

    def describe(self, data: bytes) -> _Placed:
        if data[:4] != b"RIFF":
            raise Kept(f"only RIFF is read; it is {data[:4].decode('latin-1')}")
        at, form = 12, b""
        while True:
            name, size = struct.unpack_from("<4sI", data, at) if at + 8 <= len(data) else (b"", 0)
            if name == b"data" or not name:
                break
            if name == b"fmt ":
                form = data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2
        if not name or len(form) < 16:
            raise Kept("it has no samples")
        code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
        if code == 0xFFFE and form[24:40] == _PCM and struct.unpack_from("<H", form, 18)[0] == bits:
            code = 1
        if code != 1 or bits not in (8, 16) or block != channels * bits // 8:
            raise Kept(f"only integers of 8 and 16 bits are read; it has format {code} of {bits} bits")
        length = min(size, len(data) - at - 8) // block if block else 0  # recorders that were stopped claim too many
        admit(channels, 1, length)
        return _Placed(channels, length, bits // 8, rate, at + 8)

    def size(self, content: Content) -> int:
        return content.raw_bytes

    def anew(self, content: Content) -> tuple[bytes, bytes]:
        channels, size, count = len(content.samples), content.samples.itemsize, content.raw_bytes
        if count > 0xFFFFFFFF - 64:
            raise ArdmError(f"wav holds up to four gigabytes; the samples take {count} bytes")
        block, pad = channels * size, bytes(count % 2)
        head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + count + len(pad), b"WAVE", b"fmt ", 16, 1, channels,
                           content.rate, content.rate * block & 0xFFFFFFFF, block, 8 * size)  # fmt: skip
        return head + struct.pack("<4sI", b"data", count), pad


read = partial(ranges.read, _Format())
render = partial(ranges.render, _Format())
