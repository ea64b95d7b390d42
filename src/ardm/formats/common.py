"""Shared by all formats: the description of a format, the result of reading, palettes and packed bits.

The samples of an image are its displayed values: grey, grey and alpha, RGB or RGBA, with 0 for black.  One exception:
if about has a "palette" (RGB, three bytes per colour; "alpha", one byte each for the first colours), the samples are
one plane of indices into it, and `displayed` looks the colours up.  Indices compress to half the bytes of colours, even
with a model of photographs, which knows nothing of palettes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.content import MAX_CHANNELS, Content, Kind, Samples
from ardm.errors import ArdmError, out_of_memory
from ardm.formats.claims import ClaimReader

MAX_SAMPLES = 1 << 30
"""Most samples of a file that is decoded; a larger file is kept byte for byte."""


class KeepBytes(Exception):  # noqa: N818
    """The file cannot be decoded exactly, so it is kept byte for byte; the message is the reason in a few words."""


@contextmanager
def guarded() -> Iterator[None]:
    """Turn every exception of a parser into KeepBytes: the file is damaged.  Lack of memory stays a MemoryError."""
    try:
        yield
    except KeepBytes:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise KeepBytes("it is damaged") from error


@dataclass(frozen=True)
class Read:
    """A file as a content.

    notes: short sentences for the user.
    dropped: metadata that restoring will not bring back; do not delete the source if there is any.
    """

    content: Content
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """A file format.  Its module defines one as FORMAT; its name is one of `content.ORIGINS`.

    endings: of file names.
    start: a regular expression that matches the first bytes (up to 64) of a file.
    claim: reads the size from the header, before anything is allocated.
    read: (file, strip, most samples) to a content; raises KeepBytes.  strip: drop what is not a sample.
    render: a content to a file; raises ArdmError where the format cannot hold it.
    kind: what its samples are.
    held: bytes held at once for each byte of samples while such a file is read, checked, stored or written: of eight bits
    and more, and of fewer.  `python benchmarks/peaks.py` measures them.
    byte_for_byte: whether files come back with every byte; otherwise the samples and all metadata come back.
    """

    name: str
    endings: tuple[str, ...]
    start: bytes
    claim: ClaimReader
    read: Callable[[bytes, bool, int], Read]
    render: Callable[[Content], bytes]
    kind: Kind
    held: tuple[int, int]
    byte_for_byte: bool = False


def kept(data: bytes, why: str) -> Read:
    """A file kept as its bytes."""
    return Read(Content.of_bytes(data), (f"{why}: kept byte for byte",))


def admit(channels: int, height: int, width: int, most: int = MAX_SAMPLES) -> None:
    """Raise KeepBytes for a size that is not decoded; call it before allocating.  most: samples, after the claim."""
    if min(channels, height, width) < 1:
        raise KeepBytes("it has no samples")
    if channels > MAX_CHANNELS:
        raise KeepBytes(f"it has {channels} channels, more than {MAX_CHANNELS}")
    samples = channels * height * width
    if samples > MAX_SAMPLES:
        raise KeepBytes(f"it claims {samples} samples, more than {MAX_SAMPLES}")
    if samples > most:
        raise KeepBytes("its header is in the wrong place")


def image(samples: Samples, origin: str, about: Mapping[str, bytes]) -> Content:
    """An image of (C, H, W)."""
    return Content(Kind.IMAGE, np.ascontiguousarray(samples), origin, about)


def planes(x: NDArray[Any]) -> Samples:
    """(H, W) or (H, W, C) to (C, H, W)."""
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


def pixels(x: Samples) -> NDArray[Any]:
    """(C, H, W) to (H, W) or (H, W, C)."""
    return x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))


# --- palettes ---------------------------------------------------------------------------------------------------------


def colours(about: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """The palette in about as (n, 1), (n, 3) or (n, 4): grey, RGB or RGBA, the fewest channels that hold it."""
    table = np.frombuffer(about["palette"], np.uint8).reshape(-1, 3)
    alpha = np.frombuffer(about.get("alpha", b""), np.uint8)[: len(table)]
    if (alpha < 255).any():
        column = np.pad(alpha, (0, len(table) - len(alpha)), constant_values=255)
        return np.concatenate([table, column[:, None]], 1)
    return table[:, :1] if (table == table[:, :1]).all() else table


def displayed(content: Content) -> Samples:
    """The displayed values (C, H, W): palette indices become grey, RGB or RGBA; all other samples stay as they are."""
    if content.kind != Kind.IMAGE or "palette" not in content.about:
        return content.samples
    return np.ascontiguousarray(colours(content.about).T[:, indices(content.samples, content.about)])


def indices(x: Samples, about: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """The plane of palette indices (H, W); raises ArdmError for an index beyond the palette."""
    if len(x) != 1 or x.itemsize > 1 or x.max() >= len(about["palette"]) // 3:
        raise ArdmError("the image has samples that are not in its palette")
    return x[0]


# --- fewer than eight bits --------------------------------------------------------------------------------------------


def widen(x: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Scale greys of 1, 2 or 4 bits to 8."""
    return x * np.uint8(255 // ((1 << depth) - 1))


def narrow(x: Samples, depth: int) -> NDArray[np.uint8]:
    """The inverse of widen; raises ArdmError for other greys."""
    step = 255 // ((1 << depth) - 1)
    if x.itemsize > 1 or (x % step).any():
        raise ArdmError(f"the image has greys that {depth} bits cannot hold")
    return x // np.uint8(step)


def pack(x: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Pack numbers (H, W) of `depth` bits into rows of whole bytes, the first number in the highest bits."""
    if depth == 8:
        return x
    bits = (x[..., None] >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(len(x), -1), axis=1)


def unpack(rows: NDArray[np.uint8], width: int, depth: int) -> NDArray[np.uint8]:
    """The inverse of pack: (H, bytes) to (H, width)."""
    if depth == 8:
        return rows[:, :width]
    bits = np.unpackbits(rows, axis=1, count=width * depth).reshape(len(rows), width, depth)
    return (bits @ (1 << np.arange(depth - 1, -1, -1))).astype(np.uint8)
