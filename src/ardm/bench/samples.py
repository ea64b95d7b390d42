"""Samples in the layouts that classical codecs expect, and several items joined into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.bench.codec import Codec, Coding, Decode, Encode, accept_all
from ardm.codec.header import Form
from ardm.content import Content, Kind, Samples


def raw(content: Content) -> bytes:
    """The samples as raw files hold them: pixels (H, W, C); sound (L, C), signed if 16-bit; anything else unchanged."""
    x = content.samples
    if content.kind == Kind.AUDIO:
        return signed(x).tobytes() if content.is_16bit else x[:, 0].T.tobytes()
    return bytes(x.transpose(1, 2, 0).tobytes())


def unraw(data: bytes, form: Form) -> Samples:
    """The inverse of raw."""
    C, H, W = form.shape
    flat = np.frombuffer(data, form.dtype)
    if form.kind == Kind.AUDIO and form.is_16bit:
        flat = flat ^ np.uint16(1 << 15)
    return np.ascontiguousarray(flat.reshape(H, W, C).transpose(2, 0, 1))


def planes(content: Content) -> bytes:
    """The samples plane by plane; sound as in raw."""
    return content.samples.tobytes() if content.kind != Kind.AUDIO else raw(content)


def unplanes(data: bytes, form: Form) -> Samples:
    """The inverse of planes."""
    if form.kind == Kind.AUDIO:
        return unraw(data, form)
    return np.frombuffer(data, form.dtype).reshape(form.shape)


def signed(x: Samples) -> NDArray[np.int16]:
    """Sound (C, 1, L) as (L, C) int16; 8 bits become the upper half of 16."""
    wide = x if x.itemsize == 2 else x.astype("<u2") << 8
    return np.ascontiguousarray((wide ^ np.uint16(1 << 15)).astype("<u2").view("<i2")[:, 0].T)


def unsigned(y: NDArray[Any], form: Form) -> Samples:
    """The inverse of signed."""
    x = (np.ascontiguousarray(y, "<i2").view("<u2") ^ np.uint16(1 << 15)).T[:, None]
    return np.ascontiguousarray(x if form.is_16bit else (x >> 8).astype(np.uint8))


def pixels(x: Samples) -> Samples:
    """(C, H, W) to (H, W) for one channel, otherwise to (H, W, C)."""
    return x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))


def channels(y: Samples, number: int) -> Samples:
    """The inverse of pixels; undoes what some formats change: grey to RGB, RGB to grey, opaque alpha dropped."""
    x = y[None] if y.ndim == 2 else y.transpose(2, 0, 1)
    if number >= 3 and len(x) <= 2:
        x = np.concatenate([x[[0, 0, 0]], x[1:]])
    if number <= 2 and len(x) >= 3:
        x = x[[0]] if number == 1 else x[[0, -1]] if len(x) == 4 else x[:1]
    if number in (2, 4) and len(x) == number - 1:
        x = np.concatenate([x, np.full_like(x[:1], np.iinfo(x.dtype).max)])
    return np.ascontiguousarray(x)


def in_one(
    name: str,
    encode: Encode,
    decode: Decode,
    join: Callable[[Sequence[Content]], Content | None],
    refuses: Callable[[Content], str] = accept_all,
) -> Callable[[Sequence[Content]], Coding | None]:
    """A `Codec.together` that joins the items to one content."""

    def together(items: Sequence[Content]) -> Coding | None:
        whole = join(items)
        return None if whole is None or refuses(whole) else Codec(name, "", encode, decode).compress([whole])

    return together


def chain(items: Sequence[Content]) -> Content:
    """Concatenate the bytes of all items."""
    return Content.of_bytes(b"".join(map(raw, items)))


def mosaic(items: Sequence[Content]) -> Content | None:
    """Tile images of one size to a near-square sheet; zeros fill the last row.  None for different sizes."""
    if len({(item.shape, item.is_16bit) for item in items}) > 1:
        return None
    C, H, W = items[0].shape
    across = int(np.ceil(len(items) ** 0.5))
    sheet = np.zeros((C, H * -(-len(items) // across), W * across), items[0].samples.dtype)
    for i, item in enumerate(items):
        y, x = i // across * H, i % across * W
        sheet[:, y : y + H, x : x + W] = item.samples
    return Content(Kind.IMAGE, sheet)


def reel(items: Sequence[Content]) -> Content | None:
    """Concatenate sounds of one rate and width; None for others."""
    if len({(item.shape[0], item.is_16bit, item.rate) for item in items}) > 1:
        return None
    return replace(items[0], samples=np.concatenate([item.samples for item in items], axis=2), about={})
