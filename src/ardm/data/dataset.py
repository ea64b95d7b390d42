"""A data set: N items of one shape, every value in 0..K−1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ardm.data.folders import Files
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.schema import Schema
from ardm.symbols import Symbols

ALL = 127
"""In `given`: all digits of a value, however many it has."""
LARGE, SOME = 1 << 28, 4096
"""A fingerprint of more bytes than the first number reads only as many items as the second."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """N items of one shape, every value in 0..classes−1.

    items: (N, *shape) integers of the smallest type that holds them, uint8 up to 256 classes; images are (N, C, H, W).
    classes: K.
    name: source and split, for logs ("cifar10/test").
    labels: (N,) int64, or None.
    columns: for a table, the number of classes of each column, of which K is the largest; otherwise empty.
    schema: for a table, the names of its columns and values.
    rate: for sounds, samples per second; otherwise 0.
    dropped: the number of sounds that are shorter than an item, and left out.
    grey: whether the items are intensities 0..255, which `binarize` samples again for each batch; classes is then 2.
    files: for data of your own, the files that were read.
    given: (N, *shape) int8, how many digits of each site are known beforehand, such as those of a prompt (ALL: the whole
    value), or PADDING (−1): a site that is not predicted and whose value does not matter; None: all is predicted.
    symbols: for text, what its values stand for.  bytes: (N,) int64, the bytes of text in each item; None: unknown.
    texts: (N,) int64, for texts that are cut into items, the number of the text; near-duplicates have one; None: an item each.
    shuffled: whether the items are in random order, so that the first of them are a sample; otherwise files, classes or texts
    follow each other.
    overlapping: whether items share parts, as training windows of a text or the channels of a sound do: none can be held out.
    Raises ArdmError where items and labels do not fit each other.
    """

    items: Tensor
    classes: int
    name: str
    labels: Tensor | None = None
    columns: tuple[int, ...] = ()
    schema: Schema | None = None
    rate: int = 0
    dropped: int = 0
    grey: bool = False
    files: Files | None = None
    given: Tensor | None = None
    symbols: Symbols | None = None
    bytes: Tensor | None = None
    texts: Tensor | None = None
    overlapping: bool = False
    shuffled: bool = False

    def __post_init__(self) -> None:
        if self.given is not None and (self.given.shape != self.items.shape or self.given.dtype != torch.int8):
            raise ArdmError(
                f"given holds int8 of the shape {tuple(self.items.shape)} of the items; got {self.given.dtype} "
                f"{tuple(self.given.shape)}"
            )
        if self.items.ndim < 2 or self.items.is_floating_point():
            raise ArdmError(f"items must be integers (N, *shape); got {self.items.dtype} {tuple(self.items.shape)}")
        if self.labels is not None and self.labels.shape != self.items.shape[:1]:
            raise ArdmError(f"{len(self.items)} items, but labels of shape {tuple(self.labels.shape)}")
        if self.columns and (self.items.shape[1:] != (len(self.columns),) or max(self.columns) != self.classes):
            raise ArdmError(
                f"columns of {self.columns} classes need items (N, {len(self.columns)}) and {max(self.columns)} classes; "
                f"got {tuple(self.items.shape)} and {self.classes}"
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> torch.Size:
        """The shape of one item, (C, H, W) for images."""
        return self.items.shape[1:]

    def known(self, rows: slice | Tensor, stages: int = 1) -> Tensor | None:
        """`given` of some items, int64, at most `stages`, the digits of a value; None where all is predicted."""
        return None if self.given is None else self.given[rows].long().clamp(max=stages)

    def predicted(self, stages: int = 1, end: bool = False) -> float:
        """The mean number of sites of an item that are neither padding nor fully known beforehand; values have `stages` digits.

        end: whether the last class ends an item; then only up to its first end.
        Raises ArdmError where there are none at all.
        """
        if self.given is None and not end:
            return float(self.shape.numel())
        live = torch.ones(self.items.shape, dtype=torch.bool, device="cpu")
        if self.given is not None:
            live &= (self.given != PADDING) & (self.given < stages)
        if end:
            over = self.items == self.classes - 1
            live &= over.cumsum(1, dtype=torch.int32) == over.int()
        number = int(live.sum())
        if not number:
            raise ArdmError(f"nothing of {self.name} is to be predicted: all is given, or padding")
        return number / len(self)

    @property
    def about(self) -> str:
        """The number of items and where they come from, in one line."""
        where = self.name if self.files is None else str(self.files)
        short = f"; {self.dropped} clips are shorter than an item, and left out" * (self.dropped > 0)
        return f"{len(self):,} item{'s' * (len(self) != 1)} of {'x'.join(map(str, self.shape))}, {where}{short}"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that differ for other items, labels, classes or names.

        Beyond 256 MB it covers only 4,096 evenly spread items, and the number of all.
        """
        some = self.items
        if some.numel() * some.element_size() > LARGE:
            some = some[torch.linspace(0, len(some) - 1, SOME, device="cpu").long()]
        about = (tuple(self.items.shape), str(self.items.dtype), self.classes, self.columns, self.rate, self.grey)
        named = [part.to_values() for part in (self.symbols,) if part is not None and part.is_named]
        digest = hashlib.sha256(repr((about, self.schema and self.schema.to_values(), *named)).encode())
        for part in (some, self.labels, self.given):
            digest.update(b"" if part is None else part.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def some(self, count: int) -> Dataset:
        """At most `count` items (0: all) that stand for all: the first if the order is random, otherwise evenly spread ones."""
        if not count or count >= len(self):
            return self
        return self.subset(slice(count) if self.shuffled else torch.arange(count, device="cpu") * len(self) // count)

    def subset(self, index: slice | Sequence[int] | Tensor) -> Dataset:
        """The items of a slice (not copied), at positions (n,), or where a mask (N,) is true."""
        where = index if isinstance(index, slice) else torch.as_tensor(index, device="cpu")
        parts = (self.labels, self.given, self.bytes, self.texts)
        labels, given, own, texts = (None if part is None else part[where] for part in parts)
        return replace(self, items=self.items[where], labels=labels, given=given, bytes=own, texts=texts)


def smallest(classes: int) -> type[np.integer[Any]]:
    """The smallest of uint8, int16, int32 and int64 that holds 0..classes−1."""
    return next(kind for kind in (np.uint8, np.int16, np.int32, np.int64) if classes - 1 <= np.iinfo(kind).max)
