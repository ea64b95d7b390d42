"""BMP: uncompressed, 1, 4, 8, 24 or 32 bits, byte for byte.

The fourth byte of 32 bits is alpha, unless it is zero everywhere; then the image has three channels.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ardm.content import Content, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.claims import Claim, Part
from ardm.formats.common import (
    MAX_SAMPLES,
    KeepBytes,
    admit,
    image,
    indices,
    narrow,
    pack,
    pixels,
    planes,
    unpack,
    widen,
)

_RAMP = bytes(value for grey in range(256) for value in (grey, grey, grey, 0))
_MASKS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)


def _stride(width: int, bits: int) -> int:
    """Bytes of a row."""
    return (width * bits + 31) // 32 * 4


@dataclass(frozen=True)
class _Placed:
    """The header.  top: whether the first row is the top one.  palette: RGB, three bytes per colour, up to 8 bits."""

    height: int
    width: int
    bits: int
    top: bool
    begin: int
    palette: bytes

    @property
    def spans(self) -> list[ranges.Span]:
        return [(self.begin, self.begin + self.height * _stride(self.width, self.bits))]

    def decode(self, raw: memoryview) -> Content:
        rows = np.frombuffer(raw, np.uint8).reshape(self.height, -1)
        about: dict[str, bytes] = {}
        if self.bits <= 8:
            x, about = self._indexed(unpack(rows, self.width, self.bits))
        else:
            x = planes(rows[:, : self.width * self.bits // 8].reshape(self.height, self.width, self.bits // 8))
            x = x[[2, 1, 0]] if self.bits == 24 or not x[3].any() else x[[2, 1, 0, 3]]
        return image(x if self.top else x[:, ::-1], "bmp", about)

    def _indexed(self, index: Samples) -> tuple[Samples, dict[str, bytes]]:
        """Samples (1, H, W) and the entries of about that describe them."""
        bits = self.bits
        ramp = bytes(255 * k // ((1 << bits) - 1) for k in range(1 << bits) for _ in range(3))
        about = {"depth": bytes([bits])} if bits < 8 else {}
        if self.palette == ramp:
            return widen(index[None], bits), about
        if index.max() >= len(self.palette) // 3:
            raise KeepBytes("it has pixels without a colour")
        return index[None], {**about, "palette": self.palette}

    def encode(self, content: Content) -> bytes:
        x, about = content.samples, content.about
        if x.shape[1:] != (self.height, self.width):
            said = f"{self.width}x{self.height}"
            raise ArdmError(f"the header of this bmp says {said}, and the image is {x.shape[2]}x{x.shape[1]}")
        x = x if self.top else x[:, ::-1]
        if self.bits <= 8:
            rows = pack(indices(x, about) if "palette" in about else narrow(x, self.bits)[0], self.bits)
        else:
            y = x[[2, 1, 0, 3]] if len(x) == 4 else x[[2, 1, 0]]
            y = np.concatenate([y, np.zeros_like(y[:1])]) if len(y) < self.bits // 8 else y
            rows = pixels(y).reshape(self.height, -1)
        return np.pad(rows, ((0, 0), (0, _stride(self.width, self.bits) - rows.shape[1]))).tobytes()


class _Layout:
    origin = "bmp"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        begin = struct.unpack_from("<I", data, 10)[0]
        head = data[:begin]
        size, width, height, _, bits, method = struct.unpack_from("<IiiHHI", head, 14)
        if size < 40:
            raise KeepBytes("its header has an unsupported version")
        if method == 3 and bits == 32:
            masks = head[54:70] if size > 52 else head[54:66] + bytes(4)
            if masks[:12] != _MASKS or masks[12:] not in (b"", bytes(4), b"\0\0\0\xff"):
                raise KeepBytes("its channels have an unsupported order")
        elif method or bits not in (1, 4, 8, 24, 32):
            raise KeepBytes(
                f"only uncompressed files of 1, 4, 8, 24 and 32 bits are read; it has {bits} bits, method {method}"
            )
        admit(max(1, bits // 8), abs(height), width, most)
        if begin < 54:
            raise KeepBytes("it ends early")
        return _Placed(abs(height), width, bits, height < 0, begin, _palette(head, bits) if bits <= 8 else b"")

    def size(self, content: Content) -> int:
        _, height, width = content.shape
        return height * _stride(width, _bits(content))

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        channels, height, width = content.shape
        if content.is_16bit or channels not in (1, 3, 4) or max(height, width) >= 1 << 31:
            raise ArdmError(f"bmp holds grey, RGB or RGBA of 8 bits; the image has {channels} channels, "
                            f"{content.samples.dtype}")  # fmt: skip
        about, bits = _own(content), 8 * channels if channels > 1 else _depth(content)
        table = _RAMP if bits == 8 else b"\0\0\0\0\xff\xff\xff\0" if bits == 1 else b""
        if "palette" in about:
            rgb = np.frombuffer(about["palette"], np.uint8).reshape(-1, 3)
            table = np.pad(rgb[:, ::-1], ((0, 0), (0, 1))).tobytes()
        elif bits == 4:
            table = b"".join(bytes([17 * grey] * 3 + [0]) for grey in range(16))
        size, begin, count = height * _stride(width, bits), 54 + len(table), len(table) // 4
        head = struct.pack("<2sIII", b"BM", (begin + size) & 0xFFFFFFFF, 0, begin)
        head += struct.pack("<IiiHHIIIIII", 40, width, height, 1, bits, 0, size, 3780, 3780, count, count)
        return head + table, b""


def _palette(head: bytes, bits: int) -> bytes:
    """RGB, three bytes per colour."""
    size = struct.unpack_from("<I", head, 14)[0]
    count = struct.unpack_from("<I", head, 46)[0] or 1 << bits
    table = head[14 + size : 14 + size + 4 * count]
    if count > 1 << bits or len(table) < 4 * count:
        raise KeepBytes("its palette is damaged")
    return np.frombuffer(table, np.uint8).reshape(-1, 4)[:, 2::-1].tobytes()


def _own(content: Content) -> Mapping[str, bytes]:
    """The entries of about that BMP can hold: 2 bits are written as 8."""
    return {} if content.about.get("depth") == b"\2" else content.about


def _depth(content: Content) -> int:
    """Bits of a pixel of one channel."""
    return _own(content)["depth"][0] if "depth" in _own(content) else 8


def _bits(content: Content) -> int:
    """Bits of a pixel: from the header if it was kept, because pixels of 32 bits may have three channels."""
    if content.origin == "bmp" and "head" in content.about:
        return int(struct.unpack_from("<H", content.about["head"], 28)[0])
    return _depth(content) if content.shape[0] == 1 else 8 * content.shape[0]


def _claim(part: Part) -> Claim:
    width, height, _, bits = struct.unpack("<iiHH", part(18, 12))
    return Claim("bmp", max(1, bits // 8), abs(height), abs(width), min(bits, 8))


_START = rb"BM.{4}\0\0\0\0.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"
FORMAT = ranges.file_format(_Layout(), (".bmp",), _START, _claim, held=(6, 20))
