"""TIFF: one uncompressed page of 1, 4, 8 or 16 bits, grey, RGB or palette, with or without alpha; byte for byte.

The strips are the samples; directories, tags and everything else stay in place.  Compressed, tiled and planar files, and
files of several pages, are kept byte for byte.  An image that came in another format is written as one strip, with its
profile, EXIF and XMP.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.content import Content, Samples
from ardm.errors import ArdmError
from ardm.formats import ranges
from ardm.formats.claims import Claim, Part
from ardm.formats.common import MAX_SAMPLES, KeepBytes, admit, image, indices, narrow, pack, pixels, unpack, widen

Tags: TypeAlias = dict[int, tuple[int, memoryview]]
"""Tags by number: type and bytes.  The bytes are parsed on demand, since several tags may share them."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
(_WIDTH, _HEIGHT, _BITS, _METHOD, _MEANING, _FILL, _STRIPS, _CHANNELS, _ROWS, _COUNTS, _PLANAR, _COLOURS, _TILES, _SUB,
 _EXTRA, _FORMAT) = (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 320, 324, 330, 338, 339)  # fmt: skip
_SAMPLES = {_WIDTH, _HEIGHT, _BITS, _METHOD, _MEANING, _FILL, _STRIPS, _CHANNELS, _ROWS, _COUNTS, _PLANAR, 317, _COLOURS,
            322, 323, _TILES, 325, _SUB, _EXTRA, _FORMAT, 288, 289}  # fmt: skip
"""Tags that describe how the samples are stored."""
_XMP, _ICC = 700, 34675
_STARTS = {b"II*\0": "<", b"MM\0*": ">"}


def _directory(data: bytes) -> tuple[str, Tags, list[bytes], int]:
    """Byte order, tags and raw entries of the first directory, and the offset of the next.  Raises KeepBytes."""
    order = _STARTS.get(data[:4], "")
    if not order:
        raise KeepBytes("BigTIFF and other variants are not read")
    view = memoryview(data)
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    entries = [data[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(count)]
    tags: Tags = {}
    for entry in entries:
        tag, kind, number = struct.unpack_from(order + "HHI", entry)
        size = _SIZES.get(kind, 0) * number
        (begin,) = struct.unpack_from(order + "I", entry, 8)
        value = memoryview(entry)[8 : 8 + size] if size <= 4 else view[begin : begin + size]
        if kind not in _SIZES or len(value) < size or tag in tags:
            raise KeepBytes("its tags are damaged")
        tags[tag] = kind, value
    return order, tags, entries, struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]


def _numbers(tags: Tags, tag: int, order: str, *default: int) -> tuple[int, ...]:
    """The values of a tag of integers."""
    if tag not in tags:
        return default
    kind, body = tags[tag]
    if kind not in (1, 3, 4) or not body:
        raise KeepBytes("its tags are damaged")
    return struct.unpack(f"{order}{len(body) // _SIZES[kind]}{'BHI'[kind // 2]}", body)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """The tags.  inverted: 0 is white.  palette: RGB, three bytes per colour."""

    height: int
    width: int
    channels: int
    bits: int
    order: str
    inverted: bool
    palette: bytes
    spans: tuple[ranges.Span, ...]

    @property
    def _dtype(self) -> str:
        return self.order + "u2" if self.bits == 16 else "u1"

    def decode(self, raw: memoryview) -> Content:
        about: dict[str, bytes] = {"depth": bytes([self.bits])} if self.bits < 8 else {}
        if self.bits < 8:
            rows = np.frombuffer(raw, np.uint8).reshape(self.height, -1)
            x: Samples = unpack(rows, self.width, self.bits)[None]
        else:
            y = np.frombuffer(raw, self._dtype).reshape(self.height, self.width, self.channels)
            x = y.astype("<u2" if self.bits == 16 else "u1").transpose(2, 0, 1)
        if self.palette:
            if x.max() >= len(self.palette) // 3:
                raise KeepBytes("it has pixels without a colour")
            about["palette"] = self.palette
        elif self.bits < 8:
            x = widen(x, self.bits)
        return image(self._seen(x), "tiff", about)

    def _seen(self, x: Samples) -> Samples:
        """Make 0 black; its own inverse."""
        return np.concatenate([~x[:1], x[1:]]) if self.inverted else x

    def encode(self, content: Content) -> bytes:
        if content.shape != (self.channels, self.height, self.width) or content.is_16bit != (self.bits == 16):
            said = f"{self.width}x{self.height}x{self.channels}, {self.bits} bits"
            raise ArdmError(f"the tags of this tiff say {said}, and the image has shape {content.shape}")
        x = self._seen(content.samples)
        if self.palette:
            return pack(indices(x, content.about), self.bits).astype(self._dtype).tobytes()
        rows: NDArray[Any] = pack(narrow(x, self.bits)[0], self.bits) if self.bits < 8 else pixels(x)
        return rows.astype(self._dtype).tobytes()


class _Layout:
    origin = "tiff"

    def describe(self, data: bytes, most: int = MAX_SAMPLES) -> _Placed:
        order, tags, _, more = _directory(data)
        if more or _SUB in tags:
            raise KeepBytes("it holds several images")

        def one(tag: int, default: int) -> int:
            return _numbers(tags, tag, order, default)[0]

        if one(_METHOD, 1) != 1:
            raise KeepBytes(f"it is compressed already (method {one(_METHOD, 1)})")
        height, width, channels, bits = (
            one(_HEIGHT, 0),
            one(_WIDTH, 0),
            one(_CHANNELS, 1),
            _numbers(tags, _BITS, order, 1),
        )
        admit(channels, height, width, most)
        if len(set(bits)) != 1 or len(bits) not in (1, channels) or bits[0] not in (1, 4, 8, 16):
            raise KeepBytes(f"only 1, 4, 8 and 16 bits are read; it has {', '.join(map(str, bits[:8]))}")
        if set(_numbers(tags, _FORMAT, order, 1)) != {1}:
            raise KeepBytes("its samples are not unsigned integers")
        if one(_FILL, 1) != 1 or _TILES in tags or (channels > 1 and one(_PLANAR, 1) != 1):
            raise KeepBytes("its samples are in tiles, in planes, or have their bits reversed")
        meaning = one(_MEANING, -1)
        colours = {0: 1, 1: 1, 2: 3, 3: 1}.get(meaning)
        if colours is None or channels - colours not in (0, 1) or (meaning == 3 and channels > 1):
            raise KeepBytes("its colours are neither grey, RGB nor a palette")
        if bits[0] < 8 and channels > 1:
            raise KeepBytes("only images of one channel are read with fewer than 8 bits")
        palette = _palette(tags, bits[0], order) if meaning == 3 else b""
        spans = _strips(tags, order, height, (width * channels * bits[0] + 7) // 8)
        return _Placed(height, width, channels, bits[0], order, meaning == 0, palette, spans)

    def size(self, content: Content) -> int:
        channels, height, width = content.shape
        return height * ((width * channels * _bits(content) + 7) // 8)

    def fresh(self, content: Content) -> tuple[bytes, bytes]:
        return _fresh(content, self.size(content))


def _strips(tags: Tags, order: str, height: int, stride: int) -> tuple[ranges.Span, ...]:
    """The ranges of the rows: a strip may claim more bytes than its rows take, never fewer."""
    begins, counts = _numbers(tags, _STRIPS, order), _numbers(tags, _COUNTS, order)
    rows = min(_numbers(tags, _ROWS, order, height)[0], height)
    if rows < 1 or not len(begins) == len(counts) == -(-height // rows):
        raise KeepBytes("its tags are damaged")
    sizes = [min(rows, height - k * rows) * stride for k in range(len(begins))]
    if any(count < size for count, size in zip(counts, sizes, strict=True)):
        raise KeepBytes("its strips are shorter than its rows")
    return tuple((begin, begin + size) for begin, size in zip(begins, sizes, strict=True))


def _palette(tags: Tags, bits: int, order: str) -> bytes:
    """RGB, three bytes per colour: 8 of the 16 bits; the other 8 repeat them, or are zero as some programs write it."""
    table = np.array(_numbers(tags, _COLOURS, order), np.uint16)
    step = next((step for step in (257, 256) if table.size == 3 << bits and not (table % step).any()), 0)
    if not step or bits > 8:
        raise KeepBytes("its palette has more than 8 bits per colour")
    return (table // step).astype(np.uint8).reshape(3, -1).T.tobytes()


# --- writing a fresh file ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Storage:
    """How samples are stored: about "tiff" in files compressed by the first versions of this module.

    meaning: the photometric interpretation.  extra: the kind of alpha.  step: between the colours of a palette.
    """

    meaning: int
    extra: int = 2
    order: str = "<"
    step: int = 257

    @classmethod
    def of(cls, content: Content) -> _Storage:
        """From about, or the defaults."""
        if content.origin == "tiff" and "tiff" in content.about:
            meaning, extra, big, _, step = content.about["tiff"]
            return cls(meaning, extra, ">" if big else "<", 256 + step)
        return cls(3 if "palette" in content.about else 2 if content.shape[0] > 2 else 1)


def _bits(content: Content) -> int:
    """Bits of a sample: greys of 2 bits are written as 8, and those of 4 bits too unless they came as a TIFF."""
    depth = content.about.get("depth", b"\0")[0]
    fits = (1, 4) if content.origin == "tiff" else (1,)
    return depth if depth in fits else 8 * content.samples.itemsize


def _fresh(content: Content, size: int) -> tuple[bytes, bytes]:
    """The bytes before and after samples of `size` bytes; ArdmError above four channels or four gigabytes."""
    channels, height, width = content.shape
    if channels > 4 or size > 0xFFFFFFFF - (1 << 26):
        raise ArdmError(f"tiff holds up to four channels and four gigabytes; the image has shape {content.shape}")
    stored, about = _Storage.of(content), content.about
    head, entries, order = _exif(about, stored.order)
    head += bytes(len(head) % 2)
    tags: dict[int, tuple[int, bytes]] = {}

    def short(tag: int, *values: int) -> None:
        tags[tag] = 3, struct.pack(f"{order}{len(values)}H", *values)

    for tag, value in ((_WIDTH, width), (_HEIGHT, height), (_STRIPS, len(head)), (_ROWS, height), (_COUNTS, size)):
        tags[tag] = 4, struct.pack(order + "I", value)
    short(_BITS, *[_bits(content)] * channels)
    short(_METHOD, 1)
    short(_MEANING, stored.meaning)
    short(_CHANNELS, channels)
    if channels in (2, 4):
        short(_EXTRA, stored.extra)
    if "palette" in about:
        colour = np.zeros((1 << _bits(content), 3), np.uint16)
        table = np.frombuffer(about["palette"], np.uint8).reshape(-1, 3)
        colour[: len(table)] = table
        short(_COLOURS, *(int(value) * stored.step for value in colour.T.reshape(-1)))
    tags.update({tag: (kind, about[key]) for tag, kind, key in ((_ICC, 7, "icc"), (_XMP, 1, "xmp")) if key in about})
    at = len(head) + size + size % 2
    begin = at + 2 + 12 * (len(tags) + len(entries)) + 4  # values that do not fit into their entries
    after = b""
    for tag, (kind, body) in tags.items():
        place = body.ljust(4, b"\0") if len(body) <= 4 else struct.pack(order + "I", begin + len(after))
        after += b"" if len(body) <= 4 else body + bytes(len(body) % 2)
        entries[tag] = struct.pack(order + "HHI", tag, kind, len(body) // _SIZES[kind]) + place
    written = b"".join(entries[tag] for tag in sorted(entries))
    tail = b"".join((bytes(size % 2), struct.pack(order + "H", len(entries)), written, bytes(4), after))
    return head[:4] + struct.pack(order + "I", at) + head[8:], tail


def _exif(about: Mapping[str, bytes], order: str) -> tuple[bytes, dict[int, bytes], str]:
    """The beginning of the file, entries for its directory, and the byte order.

    EXIF is a TIFF without an image.  The file begins with it unchanged, so that everything its entries point to is in
    place; the directory is written again at the end, together with the tags of the samples.
    """
    data = about.get("exif", b"").removeprefix(b"Exif\0\0")
    try:
        order, _, entries, _ = _directory(data)
    except (KeepBytes, struct.error):  # there is none, or another program has damaged it
        return (b"II*\0" if order == "<" else b"MM\0*") + bytes(4), {}, order
    kept = {struct.unpack_from(order + "H", entry)[0]: entry for entry in entries}
    return data, {tag: entry for tag, entry in kept.items() if tag not in (*_SAMPLES, _XMP, _ICC)}, order


def carried(data: bytes) -> dict[str, bytes]:
    """Profile and XMP of a TIFF by their names in about, for writing other formats."""
    try:
        tags = _directory(data)[1]
    except (KeepBytes, struct.error):
        return {}
    return {name: tags[tag][1].tobytes() for tag, name in ((_ICC, "icc"), (_XMP, "xmp")) if tag in tags}


def _claim(part: Part) -> Claim:
    order = {b"II": "<", b"MM": ">"}[part(0, 2)]
    (at,) = struct.unpack(order + "I", part(4, 4))
    (count,) = struct.unpack(order + "H", part(at, 2))
    found = {_WIDTH: 0, _HEIGHT: 0, _BITS: 1, _CHANNELS: 1}
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", part(at + 2, 12 * count)):
        if tag not in found or kind not in (1, 3, 4):
            continue
        letter, size = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}[kind]
        if number * size > 4:
            (begin,) = struct.unpack(order + "I", value)
            value = part(begin, size)
        (found[tag],) = struct.unpack_from(order + letter, value)
    return Claim("tiff", found[_CHANNELS], found[_HEIGHT], found[_WIDTH], found[_BITS])


FORMAT = ranges.file_format(_Layout(), (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]", _claim, held=(8, 20))
