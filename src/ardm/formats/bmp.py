"""BMP of 1, 4, 8, 24 and 32 bits, uncompressed; byte for byte.

The fourth byte of 32 bits is an alpha unless it is zero everywhere; then there are three planes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from ardm.content import Content, Samples
from ardm.errors import ArdmError
from ardm.formats.kit import Kept, Read, admit, image, indices, narrow, pack, pixels, planes, unpack, widen

_RAMP = bytes(value for grey in range(256) for value in (grey, grey, grey, 0))
_MASKS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)


def _canonical(height: int, width: int, bits: int, about: Mapping[str, bytes]) -> bytes:
    """The header that most programs write, palette included."""
    table = _RAMP if bits == 8 else b"\0\0\0\0\xff\xff\xff\0" if bits == 1 else b""
    if "palette" in about:
        rgb = np.frombuffer(about["palette"], np.uint8).reshape(-1, 3)
        table = np.pad(rgb[:, ::-1], ((0, 0), (0, 1))).tobytes()
    elif bits == 4:
        table = b"".join(bytes([17 * grey] * 3 + [0]) for grey in range(16))
    size, begin, count = height * _stride(width, bits), 54 + len(table), len(table) // 4
    head = struct.pack("<2sIII", b"BM", (begin + size) & 0xFFFFFFFF, 0, begin)
    return head + struct.pack("<IiiHHIIIIII", 40, width, height, 1, bits, 0, size, 3780, 3780, count, count) + table


def _stride(width: int, bits: int) -> int:
    """Bytes of a row."""
    return (width * bits + 31) // 32 * 4


def _described(head: bytes) -> tuple[int, int, int, bool]:
    """Height, width and bits of a pixel, and whether the first row is at the top; Kept for what is not read."""
    size, width, height, _, bits, method = struct.unpack_from("<IiiHHI", head, 14)
    if size < 40:
        raise Kept("its header is of a kind that is not read")
    if method == 3 and bits == 32:
        masks = head[54:70] if size > 52 else head[54:66] + bytes(4)
        if masks[:12] != _MASKS or masks[12:] not in (b"", bytes(4), b"\0\0\0\xff"):
            raise Kept("its colours are arranged in a way that is not read")
    elif method or bits not in (1, 4, 8, 24, 32):
        raise Kept(f"only uncompressed ones of 1, 4, 8, 24 and 32 bits are read; it has {bits} bits, method {method}")
    return abs(height), width, bits, height < 0


def _palette(head: bytes, bits: int) -> bytes:
    """RGB, three bytes a colour."""
    size = struct.unpack_from("<I", head, 14)[0]
    count = struct.unpack_from("<I", head, 46)[0] or 1 << bits
    table = head[14 + size : 14 + size + 4 * count]
    if count > 1 << bits or len(table) < 4 * count:
        raise Kept("its palette is damaged")
    return np.frombuffer(table, np.uint8).reshape(-1, 4)[:, 2::-1].tobytes()


def read(data: bytes, strip: bool) -> Read:
    """A picture; strip drops what follows the samples."""
    begin = struct.unpack_from("<I", data, 10)[0]
    head = data[:begin]
    height, width, bits, top = _described(head)
    admit(max(1, bits // 8), height, width)
    stride = _stride(width, bits)
    end = begin + height * stride
    if begin < 54 or end > len(data):
        raise Kept("it ends early")
    rows = np.frombuffer(data, np.uint8, height * stride, begin).reshape(height, stride)
    about: dict[str, bytes] = {}
    if bits <= 8:
        x, about = _indexed(unpack(rows, width, bits), _palette(head, bits), bits)
    else:
        x = planes(rows[:, : width * bits // 8].reshape(height, width, bits // 8))
        x = x[[2, 1, 0]] if bits == 24 or not x[3].any() else x[[2, 1, 0, 3]]
    x = x if top else x[:, ::-1]
    if not np.array_equal(_rows(x, bits, about, top), rows):
        raise Kept("there is something between its rows")
    if head != _canonical(height, width, bits, about) or bits == 32:
        about["head"] = head
    if end < len(data) and not strip:
        about["tail"] = data[end:]
    return Read(image(x, "bmp", about), (), ("bytes after the picture",) if end < len(data) and strip else ())


def _indexed(index: Samples, palette: bytes, bits: int) -> tuple[Samples, dict[str, bytes]]:
    """Samples (1, H, W) and what about says of them."""
    ramp = bytes(255 * k // ((1 << bits) - 1) for k in range(1 << bits) for _ in range(3))
    about = {"depth": bytes([bits])} if bits < 8 else {}
    if palette == ramp:
        return widen(index[None], bits), about
    if index.max() >= len(palette) // 3:
        raise Kept("it has pixels without a colour")
    return index[None], {**about, "palette": palette}


def _rows(x: Samples, bits: int, about: Mapping[str, bytes], top: bool) -> Samples:
    """Samples (C, H, W) as rows of bytes with what fills them up."""
    x = x if top else x[:, ::-1]
    if bits <= 8:
        index = indices(x, about) if "palette" in about else narrow(x, bits)[0]
        rows = pack(index, bits)
    else:
        y = x[[2, 1, 0, 3]] if len(x) == 4 else x[[2, 1, 0]]
        y = np.concatenate([y, np.zeros_like(y[:1])]) if len(y) < bits // 8 else y
        rows = pixels(y).reshape(x.shape[1], -1)
    return np.pad(rows, ((0, 0), (0, _stride(x.shape[2], bits) - rows.shape[1])))


def render(content: Content) -> bytes:
    """The file; ArdmError for 16 bits, and for grey with alpha."""
    x, about = content.samples, dict(content.about)
    channels, height, width = content.shape
    if content.wide or channels not in (1, 3, 4) or max(height, width) >= 1 << 31:
        raise ArdmError(f"bmp holds grey, RGB or RGBA of 8 bits; the picture has {channels} planes, {x.dtype}")
    if content.origin != "bmp":
        about.pop("head", None), about.pop("tail", None)
        if about.get("depth") == b"\2":
            about = {}
    bits, top = (about["depth"][0] if "depth" in about else 8) if channels == 1 else 8 * channels, False
    if "head" in about:
        high, wide, bits, top = _described(about["head"])
        if (high, wide) != (height, width):
            raise ArdmError(f"the header of this bmp says {wide}x{high}, and the picture is {width}x{height}")
    head = about.get("head", _canonical(height, width, bits, about))
    return b"".join((head, _rows(x, bits, about, top).tobytes(), about.get("tail", b"")))
