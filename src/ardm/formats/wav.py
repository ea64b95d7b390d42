"""WAV files of 8 or 16 bits, integers: the chunks around the samples as they came; byte for byte."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats.kit import Kept, Read, admit

_PCM = bytes.fromhex("0100000000001000800000aa00389b71")  # the subformat of extensible headers


def signed(x: Samples) -> NDArray[np.int16]:
    """Samples (C, 1, L) of a content of two bytes as (L, C), signed."""
    return (x[:, 0].T ^ np.uint16(0x8000)).astype("<u2").view("<i2").astype(np.int16)


def unsigned(x: NDArray[np.int16]) -> Samples:
    """The inverse of signed."""
    return np.ascontiguousarray((x.astype("<i2").view("<u2") ^ np.uint16(0x8000)).T[:, None])


def _canonical(channels: int, rate: int, size: int, bytes_: int) -> bytes:
    """A header of 44 bytes; bytes_: of all samples."""
    block = channels * size
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + bytes_ + bytes_ % 2 & 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1,
                       channels, rate, rate * block & 0xFFFFFFFF, block, 8 * size)  # fmt: skip
    return head + struct.pack("<4sI", b"data", bytes_ & 0xFFFFFFFF)


def read(data: bytes, strip: bool) -> Read:
    """Sound; strip drops all chunks but format and samples."""
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
    begin = at + 8
    length = min(size, len(data) - begin) // block if block else 0
    admit(channels, 1, length)
    end = begin + length * block
    x = np.frombuffer(data, "u1" if bits == 8 else "<i2", length * channels, begin).reshape(length, channels)
    about = {}
    if data[:begin] != _canonical(channels, rate, bits // 8, end - begin):
        about["head"] = data[:begin]
    if data[end:] != bytes((end - begin) % 2):
        about["tail"] = data[end:]
    samples = np.ascontiguousarray(x.T[:, None]) if bits == 8 else unsigned(x)
    content = Content(Kind.AUDIO, samples, "wav", {} if strip else about, rate)
    return Read(content, (), ("chunks besides the samples",) if strip and about else ())


def render(content: Content) -> bytes:
    """The file; ArdmError for more than fits four gigabytes."""
    x = content.samples
    raw = x[:, 0].T.tobytes() if not content.wide else signed(x).astype("<i2").tobytes()
    about = content.about if content.origin == "wav" else {}
    if "head" not in about and len(raw) > 0xFFFFFFFF - 64:
        raise ArdmError(f"wav holds up to four gigabytes; the samples take {len(raw)} bytes")
    head = about.get("head", _canonical(len(x), content.rate, x.itemsize, len(raw)))
    return b"".join((head, raw, about.get("tail", bytes(len(raw) % 2))))
