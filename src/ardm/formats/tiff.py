"""TIFF of one page: grey, RGB or a palette, with or without alpha, of 1, 8 or 16 bits; tags as they came.

Uncompressed, LZW, deflate and PackBits, in strips or tiles; written in one strip, uncompressed if it was, else deflated.
about "exif", as everywhere, is a TIFF without a picture: here all tags that say nothing of how samples are stored, but
for the profile and XMP, which go to "icc" and "xmp".  about "tiff": `_Ways`, where they are not the usual ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.content import Content, Samples
from ardm.errors import ArdmError
from ardm.formats.kit import Kept, Read, admit, image, indices, narrow, pack, pixels, unpack, widen

Tags: TypeAlias = dict[int, "tuple[int, bytes] | Tags"]
"""By number: type and bytes in the order of the file, or what a tag points to."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_POINTERS = (34665, 34853, 40965)  # EXIF, GPS, interoperability
(_WIDTH, _HEIGHT, _BITS, _METHOD, _MEANING, _FILL, _STRIPS, _CHANNELS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR, _COLOURS,
 _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_COUNTS, _SUB, _EXTRA, _FORMAT) = (
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339
)  # fmt: skip
_OWN = {_WIDTH, _HEIGHT, _BITS, _METHOD, _MEANING, _FILL, _STRIPS, _CHANNELS, _ROWS, _COUNTS, _PLANAR, _PREDICTOR,
        _COLOURS, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_COUNTS, _EXTRA, _FORMAT, 288, 289}  # fmt: skip
_XMP, _ICC = 700, 34675
_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 8, 32946, 32773
_DEEP = 4


# --- tags -------------------------------------------------------------------------------------------------------------


def _directory(data: bytes, at: int, order: str, depth: int = 0, budget: list[int] | None = None) -> tuple[Tags, int]:
    """Tags, and where the next directory is; budget: bytes that may still be read, which tags that overlap would pass."""
    budget = [2 * len(data)] if budget is None else budget
    if depth > _DEEP:
        raise Kept("its directories go in circles")
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: Tags = {}
    for k in range(count):
        place = at + 2 + 12 * k
        tag, kind, number = struct.unpack_from(order + "HHI", data, place)
        size = _SIZES.get(kind, 0) * number
        begin = place + 8 if size <= 4 else struct.unpack_from(order + "I", data, place + 8)[0]
        if kind not in _SIZES or begin + size > len(data) or tag in tags:
            raise Kept("its tags are damaged")
        budget[0] -= 12 + size
        if budget[0] < 0:
            raise Kept("its tags overlap")
        value = data[begin : begin + size]
        if tag in _POINTERS and size == 4:
            tags[tag] = _directory(data, struct.unpack(order + "I", value)[0], order, depth + 1, budget)[0]
        else:
            tags[tag] = kind, value
    return tags, struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]


def _written(tags: Tags, at: int, order: str) -> bytes:
    """A directory that stands at `at`, with all that it points to."""
    entries, after = list[bytes](), b""
    begin = at + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        value = tags[tag]
        if isinstance(value, dict):
            kind, body = 4, struct.pack(order + "I", begin + len(after))
            after += _written(value, begin + len(after), order)
        else:
            kind, body = value
        entries.append(struct.pack(order + "HHI", tag, kind, len(body) // _SIZES[kind]))
        if len(body) <= 4:
            entries.append(body.ljust(4, b"\0"))
        else:
            entries.append(struct.pack(order + "I", begin + len(after)))
            after += body + bytes(len(body) % 2)
        after += bytes(len(after) % 2)
    return b"".join((struct.pack(order + "H", len(tags)), *entries, bytes(4), after))


def _opened(data: bytes) -> tuple[Tags, int, str]:
    """The first directory, where the next one is, and the order of bytes."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4], "")
    if not order:
        raise Kept("only ordinary ones are read, no BigTIFF")
    tags, more = _directory(data, struct.unpack_from(order + "I", data, 4)[0], order)
    return tags, more, order


def _alone(tags: Tags, order: str) -> bytes:
    """Tags as a TIFF without a picture."""
    return _start(order) + struct.pack(order + "I", 8) + _written(tags, 8, order)


def _start(order: str) -> bytes:
    return b"II*\0" if order == "<" else b"MM\0*"


def _numbers(tags: Tags, tag: int, order: str, *default: int) -> tuple[int, ...]:
    """The value of a tag of integers."""
    value = tags.get(tag)
    if value is None:
        return default
    kind, body = (0, b"") if isinstance(value, dict) else value
    if kind not in (1, 3, 4) or not body:
        raise Kept("its tags are damaged")
    return struct.unpack(f"{order}{len(body) // _SIZES[kind]}{'BHI'[kind // 2]}", body)


# --- samples ----------------------------------------------------------------------------------------------------------


def _lzw(data: bytes, size: int) -> bytes:
    """LZW with the highest bit first, as far as `size` bytes."""
    base = [bytes([k]) for k in range(256)] + [b"", b""]
    table, width, before, out = base.copy(), 9, b"", bytearray()
    bits = state = 0
    for byte in data:
        state, bits = state << 8 | byte, bits + 8
        if bits < width:
            continue
        bits -= width
        code, state = state >> bits, state & (1 << bits) - 1
        if code == 256:
            table, width, before = base.copy(), 9, b""
            continue
        if code == 257 or code > len(table) or (code == len(table) and not before):
            break
        entry = table[code] if code < len(table) else before + before[:1]
        if before and len(table) < 4096:
            table.append(before + entry[:1])
        out += entry
        before = entry
        if len(table) >= (1 << width) - 1 and width < 12:
            width += 1
        if len(out) >= size:
            break
    return bytes(out)


def _packbits(data: bytes, size: int) -> bytes:
    out, at = bytearray(), 0
    while at + 1 < len(data) and len(out) < size:
        count = data[at]
        if count < 128:
            out += data[at + 1 : at + 2 + count]
            at += 2 + count
        else:
            out += data[at + 1 : at + 2] * (257 - count if count > 128 else 0)
            at += 2 if count > 128 else 1
    return bytes(out)


def _unpacked(data: bytes, method: int, size: int) -> bytes:
    """The bytes of a strip or tile; Kept unless there are `size` of them."""
    if method == _NONE:
        raw = data
    elif method == _LZW:
        raw = _lzw(data, size)
    elif method == _PACKBITS:
        raw = _packbits(data, size)
    elif method in (_DEFLATE, _OLD_DEFLATE):
        raw = zlib.decompressobj().decompress(data, size)
    else:
        raise Kept(f"it is compressed in a way that is not read (number {method})")
    if len(raw) < size:
        raise Kept("it ends early, or is damaged")
    return raw[:size]


@dataclass(frozen=True)
class _Shape:
    """What tags say of samples; pieces: of a plane, or of all where they are together, (height, width) each."""

    height: int
    width: int
    channels: int
    bits: int
    method: int
    apart: bool
    predicted: bool
    order: str
    piece: tuple[int, int]

    def samples(self, data: bytes, begins: tuple[int, ...], sizes: tuple[int, ...]) -> NDArray[Any]:
        """(H, W, C), of fewer than eight bits too."""
        h, w = self.piece
        boxes = [(y, x) for y in range(0, self.height, h) for x in range(0, self.width, w)]
        together = 1 if self.apart else self.channels
        if not len(begins) == len(sizes) == len(boxes) * (self.channels // together):
            raise Kept("its tags are damaged")
        out = np.zeros((self.height, self.width, self.channels), "u1" if self.bits <= 8 else "u2")
        tiled = w != self.width
        for k, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
            plane, (y, x) = k // len(boxes), boxes[k % len(boxes)]
            rows = h if tiled else min(h, self.height - y)
            part = self._piece(data[begin : begin + size], rows, w, together)[: self.height - y, : self.width - x]
            out[y : y + len(part), x : x + part.shape[1], plane * together : plane * together + together] = part
        return out

    def _piece(self, data: bytes, rows: int, width: int, channels: int) -> NDArray[Any]:
        """(rows, width, channels)."""
        stride = (width * channels * self.bits + 7) // 8
        raw: NDArray[Any] = np.frombuffer(_unpacked(data, self.method, rows * stride), np.uint8).reshape(rows, stride)
        if self.bits < 8:
            return unpack(raw, width * channels, self.bits).reshape(rows, width, channels)
        raw = raw.view(self.order + "u2").astype("u2") if self.bits == 16 else raw
        x = raw.reshape(rows, width, channels)
        return np.cumsum(x, axis=1, dtype=x.dtype) if self.predicted else x


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ways:
    """How a file was written.

    meaning: what TIFF calls its photometric interpretation.  extra: what its alpha is.  plain: not compressed.
    step: between the colours of a palette, 257 or, as some write it, 256.
    """

    meaning: int
    extra: int = 2
    order: str = "<"
    plain: bool = False
    step: int = 257

    @classmethod
    def usual(cls, channels: int, about: Mapping[str, bytes]) -> _Ways:
        """Of such a picture."""
        return cls(3 if "palette" in about else 2 if channels > 2 else 1)

    def write(self) -> bytes:
        """The bytes in about."""
        return bytes([self.meaning, self.extra, self.order == ">", self.plain, self.step - 256])

    @classmethod
    def parse(cls, data: bytes) -> _Ways:
        """The inverse of write."""
        meaning, extra, big, plain, step = data
        return cls(meaning, extra, ">" if big else "<", bool(plain), 256 + step)


def _shape(tags: Tags, order: str, size: int) -> _Shape:
    """Kept for what is not read; size: of the file."""

    def one(tag: int, default: int) -> int:
        return _numbers(tags, tag, order, default)[0]

    height, width, channels = one(_HEIGHT, 0), one(_WIDTH, 0), one(_CHANNELS, 1)
    bits = _numbers(tags, _BITS, order, 1)
    admit(channels, height, width)
    if len(set(bits)) != 1 or len(bits) not in (1, channels) or bits[0] not in (1, 8, 16):
        raise Kept(f"only 1, 8 and 16 bits are read; it has {', '.join(map(str, bits[:8]))}")
    if set(_numbers(tags, _FORMAT, order, 1)) != {1}:
        raise Kept("its samples are no unsigned integers")
    if one(_FILL, 1) != 1 or one(_PREDICTOR, 1) not in (1, 2) or (bits[0] == 1 and one(_PREDICTOR, 1) != 1):
        raise Kept("its samples are arranged in a way that is not read")
    tiled = _TILES in tags
    piece = (one(_TILE_HEIGHT, 0), one(_TILE_WIDTH, 0)) if tiled else (min(one(_ROWS, height), height), width)
    if min(piece) < 1 or piece[0] * piece[1] * channels * 2 > 64 * (height * width * channels + (1 << 20)):
        raise Kept("its tags are damaged")
    apart, predicted = channels > 1 and one(_PLANAR, 1) == 2, one(_PREDICTOR, 1) == 2
    method = one(_METHOD, 1)
    if method == _NONE and height * width * channels * bits[0] > 8 * size:
        raise Kept("it ends early")
    if method == _NONE:
        predicted = False  # as readers do
    return _Shape(height, width, channels, bits[0], method, apart, predicted, order, piece)


def read(data: bytes, strip: bool) -> Read:
    """A picture; strip drops its tags."""
    tags, more, order = _opened(data)
    if more or _SUB in tags:
        raise Kept("it holds several pictures")
    shape = _shape(tags, order, len(data))
    meaning = _numbers(tags, _MEANING, order, -1)[0]
    colour = {0: 1, 1: 1, 2: 3, 3: 1}.get(meaning)
    if colour is None or shape.channels - colour not in (0, 1) or (meaning == 3 and shape.channels > 1):
        raise Kept("its colours are neither grey, RGB nor a palette")
    if shape.bits == 1 and shape.channels > 1:
        raise Kept("only pictures of one plane are read with 1 bit")
    extra = _numbers(tags, _EXTRA, order, *([0] * (shape.channels - colour)))
    if len(extra) != shape.channels - colour or (extra and extra[0] > 2):
        raise Kept("its tags are damaged")
    places = (_TILES, _TILE_COUNTS) if _TILES in tags else (_STRIPS, _COUNTS)
    x: Samples = shape.samples(data, *(_numbers(tags, tag, order) for tag in places)).transpose(2, 0, 1)
    about: dict[str, bytes] = {}
    step = 257
    if shape.bits < 8:
        about["depth"] = bytes([shape.bits])
    if meaning == 3:
        about["palette"], step = _palette(tags, shape.bits, order)
    elif shape.bits < 8:
        x = widen(x, shape.bits)
    if meaning == 0:
        x = np.concatenate([~x[:1], x[1:]])
    ways = _Ways(meaning, extra[0] if extra else 2, order, shape.method == _NONE, step)
    if ways != _Ways.usual(shape.channels, about):
        about["tiff"] = ways.write()
    others = dict(_others(tags, about, strip))
    if others and not strip:
        about["exif"] = _alone(others, order)
    lost = {"colour profile": _ICC in tags, "XMP": _XMP in tags, "tags": bool(others)} if strip else {}
    return Read(image(x, "tiff", about), (), tuple(what for what, there in lost.items() if there))


def _others(tags: Tags, about: dict[str, bytes], strip: bool) -> Iterator[tuple[int, Any]]:
    """Tags that say nothing of how samples are stored; profile and XMP go to about."""
    names = {_ICC: ("icc", (1, 7)), _XMP: ("xmp", (1, 7))}
    for tag, value in tags.items():
        if tag in names:
            name, kinds = names[tag]
            if isinstance(value, dict) or value[0] not in kinds:
                raise Kept("its tags are damaged")
            if not strip:
                about[name] = value[1]
        elif tag not in _OWN and (tag, value) != (254, (4, bytes(4))):
            yield tag, value


def _palette(tags: Tags, bits: int, order: str) -> tuple[bytes, int]:
    """RGB, three bytes a colour, and the step between colours."""
    table = np.array(_numbers(tags, _COLOURS, order), np.uint16)
    step = next((step for step in (257, 256) if table.size == 3 << bits and not (table % step).any()), 0)
    if not step:
        raise Kept("its palette has more than 8 bits a colour")
    return (table // step).astype(np.uint8).reshape(3, -1).T.tobytes(), step


def render(content: Content) -> bytes:
    """The file; ArdmError for more than four planes, or four gigabytes."""
    x, about = content.samples, content.about
    channels, height, width = content.shape
    if channels > 4 or x.nbytes > 0xFFFFFFFF - (1 << 26):
        raise ArdmError(f"tiff holds up to four planes and four gigabytes; the picture has shape {x.shape}")
    own = content.origin == "tiff"
    if not own:
        about = _foreign(about)
    ways = _Ways.parse(about["tiff"]) if own and "tiff" in about else _Ways.usual(channels, about)
    order, bits = ways.order, about["depth"][0] if "depth" in about else 8 * x.itemsize
    table = about.get("palette", b"")
    tags, their = _kept(about)
    if tags and their != order:
        order = their  # tags are in the order of their own file
    if ways.meaning == 0:
        x = np.concatenate([~x[:1], x[1:]])
    predicted = not ways.plain and bits >= 8 and not table
    rows: NDArray[Any] = pack(indices(x, about), bits) if table else (
        pack(narrow(x, bits)[0], bits) if bits < 8 else pixels(x).reshape(height, width, -1)
    )  # fmt: skip
    if predicted:
        rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
    raw = rows.astype(order + "u2" if rows.itemsize > 1 else "u1").tobytes()
    body = raw if ways.plain else zlib.compress(raw, 9 if len(raw) < 1 << 20 else 6)

    def short(tag: int, *values: int) -> None:
        tags[tag] = 3, struct.pack(f"{order}{len(values)}H", *values)

    for tag, value in ((_WIDTH, width), (_HEIGHT, height), (_STRIPS, 8), (_ROWS, height), (_COUNTS, len(body))):
        tags[tag] = 4, struct.pack(order + "I", value)
    short(_BITS, *[bits] * channels)
    short(_METHOD, _NONE if ways.plain else _DEFLATE)
    short(_MEANING, ways.meaning)
    short(_CHANNELS, channels)
    if predicted:
        short(_PREDICTOR, 2)
    if channels in (2, 4):
        short(_EXTRA, ways.extra)
    if table:
        colour = np.zeros((1 << bits, 3), np.uint16)
        colour[: len(table) // 3] = np.frombuffer(table, np.uint8).reshape(-1, 3)
        short(_COLOURS, *(int(value) * ways.step for value in colour.T.reshape(-1)))
    at = 8 + len(body) + len(body) % 2
    start = _start(order) + struct.pack(order + "I", at)
    return b"".join((start, body, bytes(at - 8 - len(body)), _written(tags, at, order)))


def _foreign(about: Mapping[str, bytes]) -> dict[str, bytes]:
    """What TIFF takes of a picture that came in another format."""
    return {
        key: about[key] for key in ("icc", "exif", "xmp", "depth") if key in about and about[key] not in (b"\2", b"\4")
    }


def _kept(about: Mapping[str, bytes]) -> tuple[Tags, str]:
    """Tags besides those of the samples, and their order."""
    tags: Tags = {}
    order = "<"
    exif = about.get("exif", b"").removeprefix(b"Exif\0\0")
    if exif:
        try:
            tags, _, order = _opened(exif)
        except (Kept, struct.error):
            tags, order = {}, "<"  # of another format, and damaged
        tags = {tag: value for tag, value in tags.items() if tag not in _OWN and tag != _SUB}
    tags.update({tag: (kind, about[key]) for tag, kind, key in ((_ICC, 7, "icc"), (_XMP, 1, "xmp")) if key in about})
    return tags, order
