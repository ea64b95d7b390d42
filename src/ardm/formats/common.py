"""What the readers and writers of all formats share: what reading gives, reasons to keep a file as it is, palettes.

Samples of pictures are what one sees: grey, grey and alpha, RGB or RGBA, 0 black.  Only where about has a "palette"
(RGB, three bytes a colour; "alpha", a byte each, for the first of them) are they its indices, one plane; `shown` makes
colours of them.  Indices take half the bytes of colours, with a model of photographs too: it knows nothing of palettes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.content import MAX_CHANNELS, Content, Kind, Samples
from ardm.errors import ArdmError, out_of_memory

MAX_SAMPLES = 1 << 30
"""Samples of a file that is read as a picture, sound or array; larger ones are kept byte for byte."""

ALLOWED: ContextVar[int] = ContextVar("ALLOWED", default=MAX_SAMPLES)
"""Samples that a reader may allocate: less than MAX_SAMPLES while a file is read under limits."""


class Kept(Exception):  # noqa: N818
    """Why a file is kept byte for byte, in a few words."""


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever a parser stumbles over is the file's fault: Kept.  Memory that is not there never is."""
    try:
        yield
    except Kept:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise Kept("it is damaged") from error


@dataclass(frozen=True)
class Read:
    """A file as a content.

    notes: what a person should know, short sentences.
    dropped: what restoring will not bring back; if there is anything, the source should not be deleted.
    """

    content: Content
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def kept(data: bytes, why: str) -> Read:
    """A file that stays as it is."""
    return Read(Content.of_bytes(data), (f"{why}: kept byte for byte",))


def admit(channels: int, height: int, width: int) -> None:
    """Kept for a size that is not read; called before anything is allocated for it."""
    if min(channels, height, width) < 1:
        raise Kept("it has no samples")
    if channels > MAX_CHANNELS:
        raise Kept(f"it has {channels} channels, more than {MAX_CHANNELS}")
    samples = channels * height * width
    if samples > MAX_SAMPLES:
        raise Kept(f"it claims {samples} samples, more than {MAX_SAMPLES}")
    if samples > ALLOWED.get():
        raise Kept("its header is not where it should be")


def image(samples: Samples, origin: str, about: Mapping[str, bytes]) -> Content:
    """A picture of (C, H, W)."""
    return Content(Kind.IMAGE, np.ascontiguousarray(samples), origin, about)


def planes(x: NDArray[Any]) -> Samples:
    """(H, W) or (H, W, C) to (C, H, W)."""
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


def pixels(x: Samples) -> NDArray[Any]:
    """(C, H, W) to (H, W) or (H, W, C)."""
    return x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))


# --- palettes ---------------------------------------------------------------------------------------------------------


def colours(about: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """The palette in about as (n, 1), (n, 3) or (n, 4): grey, RGB or RGBA, whichever is enough."""
    table = np.frombuffer(about["palette"], np.uint8).reshape(-1, 3)
    alpha = np.frombuffer(about.get("alpha", b""), np.uint8)[: len(table)]
    if (alpha < 255).any():
        column = np.pad(alpha, (0, len(table) - len(alpha)), constant_values=255)
        return np.concatenate([table, column[:, None]], 1)
    return table[:, :1] if (table == table[:, :1]).all() else table


def shown(content: Content) -> Samples:
    """The samples of a picture as one sees them: those of a palette as grey, RGB or RGBA (C, H, W), others as they are."""
    if content.kind != Kind.IMAGE or "palette" not in content.about:
        return content.samples
    return np.ascontiguousarray(colours(content.about).T[:, indices(content.samples, content.about)])


def indices(x: Samples, about: Mapping[str, bytes]) -> NDArray[np.uint8]:
    """The plane of samples that stand for colours; raises ArdmError where there is no such colour."""
    if len(x) != 1 or x.itemsize > 1 or x.max() >= len(about["palette"]) // 3:
        raise ArdmError("the picture has samples that are not in its palette")
    return x[0]


# --- fewer than eight bits --------------------------------------------------------------------------------------------


def widen(x: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Greys of 1, 2 or 4 bits as those of 8."""
    return x * np.uint8(255 // ((1 << depth) - 1))


def narrow(x: Samples, depth: int) -> NDArray[np.uint8]:
    """The inverse of widen; raises ArdmError for other greys."""
    step = 255 // ((1 << depth) - 1)
    if x.itemsize > 1 or (x % step).any():
        raise ArdmError(f"the picture has greys that {depth} bits cannot hold")
    return x // np.uint8(step)


def pack(x: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Numbers (H, W) of `depth` bits as rows of whole bytes, the first in the highest bits."""
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
