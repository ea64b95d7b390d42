"""Samples of any size as training items of one size: texts in overlapping pieces, tiles of pictures, windows of sounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ardm.content import Content
from ardm.data.audio import Clips, cut
from ardm.data.dataset import ALL, Dataset
from ardm.data.image_folder import tiled
from ardm.data.records import rows
from ardm.data.samples import Samples, text_keys
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.schema import Schema
from ardm.symbols import Letters

PIECE, LEAD = 64, 20
"""The most bytes of a training item of text, and how many of those before it, which are given, it begins with."""
MOST = 1 << 23
"""The most bytes of text: twenty minutes read them once on a core; counting them takes half a minute and a gigabyte."""
TILE = 32
"""The side of a training item of pictures that are larger, or not all of one size."""
WINDOW = 2048
"""The samples of a training item of sound: filters learn from the beginning of an item."""
TILES = 1 << 15
"""About the most tiles."""


def training(samples: Samples, name: str, schema: Schema | None = None) -> Dataset:
    """The training items of samples of one kind; schema: of texts that are records, the columns that were found.

    Raises ArdmError for sounds that are all too short.
    """
    if schema is not None:
        return rows(samples.contents, schema, name)
    makers = {"text": _texts, "image": _pictures, "audio": _sounds, "table": _rows}
    return makers[samples.kind](samples.contents, name)


def texts(items: Sequence[bytes], name: str) -> Dataset:
    """Texts that are coded alone, as items of bytes: every text begins an item, and what is behind it is padding.

    A text longer than PIECE continues in further items, which begin with LEAD bytes of it that are given.  Of more than
    MOST bytes, evenly spread texts are taken.
    """
    items = items[:: max(1, -(-sum(map(len, items)) // MOST))]
    cuts = [(text, at) for text in items for at in range(0, max(1, len(text)), PIECE)]
    starts = [max(0, at - LEAD) for _, at in cuts]
    parts = [text[start : at + PIECE] for (text, at), start in zip(cuts, starts, strict=True)]
    longest = max(map(len, parts))
    values = np.zeros((len(parts), longest), np.uint8)
    given = np.full((len(parts), longest), PADDING, np.int8)
    for n, (part, (_, at), start) in enumerate(zip(parts, cuts, starts, strict=True)):
        values[n, : len(part)] = np.frombuffer(part, np.uint8)
        given[n, : len(part)], given[n, : at - start] = 0, ALL
    sizes = torch.tensor([len(text[at : at + PIECE]) for text, at in cuts], device="cpu")
    numbers = dict[str, int]()
    own = [numbers.setdefault(key, len(numbers)) for key in text_keys(items)]
    of = [number for number, text in zip(own, items, strict=True) for _ in range(0, max(1, len(text)), PIECE)]
    return Dataset(
        torch.from_numpy(values), 256, name, given=torch.from_numpy(given), symbols=Letters(), bytes=sizes, texts=torch.tensor(of, device="cpu"),
    )  # fmt: skip


def _texts(contents: Sequence[Content], name: str) -> Dataset:
    return texts([content.samples.tobytes() for content in contents], name)


def _rows(contents: Sequence[Content], name: str) -> Dataset:
    """Rows (N, K) of numbers; the values of a column end with the largest that a model learns from or chooses with."""
    values = np.concatenate([content.samples[:, 0] for content in contents])
    return Dataset(torch.from_numpy(values), 256, name)


def _pictures(contents: Sequence[Content], name: str) -> Dataset:
    """Tiles (C, h, w); of grey pictures among those in colour, every channel is the grey, as the codec shows it to a model."""
    channels = 3 if any(content.shape[0] > 2 for content in contents) else 1
    planes = [_planes(content.samples, channels) for content in contents]
    sizes = {x.shape for x in planes}
    alike = len(sizes) == 1 and max(planes[0].shape[1:]) <= 2 * TILE
    high, wide = planes[0].shape[1:] if alike else (min(TILE, *(x.shape[a] for x in planes)) for a in (1, 2))
    every = max(1, sum(x[0].size // (high * wide) for x in planes) // TILES)
    tiles = np.concatenate([tiled(x, high, wide) for x in planes])[::every]
    return Dataset(torch.from_numpy(np.ascontiguousarray(tiles)), 256, name)


def _planes(x: np.ndarray, channels: int) -> np.ndarray:
    """(channels, H, W): without alpha; grey in every channel."""
    colours = x[:3] if len(x) > 2 else x[:1]
    return np.broadcast_to(colours, (channels, *x.shape[1:]))


def _sounds(contents: Sequence[Content], name: str) -> Dataset:
    """Windows of every channel, the last ones of short clips padded."""
    clips: list[Tensor] = [
        channel for content in contents for channel in torch.from_numpy(content.samples[:, 0].astype(np.int32)).unbind()
    ]
    if not any(map(len, clips)):
        raise ArdmError("the sounds have no samples")
    rate = contents[0].rate
    return cut(Clips([clip for clip in clips if len(clip)], rate, []), name, WINDOW, WINDOW, True, True, True)
