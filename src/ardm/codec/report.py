"""The report of the encoder, and the facts that a file states about itself.

NumPy, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ardm.codec.header import Method, Shape
from ardm.content import Kind


class Sizes:
    """What follows from the sizes of a file: samples and raw_bytes of its content, file_bytes of its own."""

    __slots__ = ()
    samples: int
    raw_bytes: int
    file_bytes: int

    @property
    def bits_per_sample(self) -> float:
        """Bits of the file per sample; 0 without samples."""
        return 8 * self.file_bytes / self.samples if self.samples else 0.0

    @property
    def ratio(self) -> float:
        """Raw size divided by file size."""
        return self.raw_bytes / self.file_bytes


@dataclass(frozen=True)
class Report(Sizes):
    """The outcome of compressing.

    kind, shape: of the content as stored; a file kept byte for byte is BYTES.  For an archive, those of its items, or
    BYTES and (0, 0, 0) where items differ.
    samples, raw_bytes: of the content.  original_bytes: of the file it came from, 0 if not given.
    file_bytes: of the result.  header_bytes: of everything but the pieces: headers, about, index, names, checks.
    bits: −log2 p of what a model coded.  model: its identity, 64 hex digits; "" if the file names none.
    calls: of the model, else 0.  methods: the number of parts by method, in lower case.
    items: of an archive, else 1.  regions: in total.  seconds: wall-clock time.
    refused: why the model was not used (for an archive: on the first such item); "" if it was.
    """

    kind: Kind
    shape: Shape
    samples: int
    raw_bytes: int
    original_bytes: int
    file_bytes: int
    header_bytes: int
    bits: float
    model: str
    calls: int
    methods: Mapping[str, int]
    items: int
    regions: int
    seconds: float
    refused: str = ""

    @property
    def stored(self) -> bool:
        """Whether no part is coded by a model."""
        return not self.methods.get("coded")


@dataclass(frozen=True, slots=True)
class FrameInfo(Sizes):
    """The facts that a frame, an archive or an item states about itself; only headers are verified, nothing is decoded.

    kind to layout: as in Content; None, (0, 0, 0), ... for an archive of items that differ.
    about: sizes of the about entries, by name; items that share a block share them.  model: 4 hex digits, "" without, and in a bare frame.  calls: of the model;
    0 without, and where its order follows from the size of an item.  coded: whether a model codes some of it.
    regions: how many.  items: of an archive, else None.  names: of the items, if they have names.
    samples, raw_bytes: of the content.  file_bytes: of the frame or item.  header_bytes: of everything but the pieces.
    methods: the number of regions in which each method appears, in lower case.  (Which parts of a mixed region are
    coded cannot always be seen without the model.)
    content_check: check of all samples; only frames with several regions have one.
    schedule: the first rank of each call, where the file holds a schedule of its own; else none.
    check: bits of the check of each region, 0 for none.
    lines: whether the items of an archive are the lines of a text.
    """

    kind: Kind | None
    shape: Shape
    is_16bit: bool
    origin: str
    rate: int
    layout: str
    about: Mapping[str, int]
    model: str
    calls: int
    regions: int
    items: int | None
    names: Sequence[str] | None
    samples: int
    raw_bytes: int
    file_bytes: int
    header_bytes: int
    methods: Mapping[str, int]
    content_check: int | None = None
    check: int = 32
    coded: bool = False
    schedule: Sequence[int] = ()
    lines: bool = False


def method_names(methods: Mapping[Method, int]) -> Mapping[str, int]:
    """Counts by method name in lower case, in the order of the methods' numbers; equal counts are one object."""
    return _named_methods(tuple(sorted(methods.items())))


@lru_cache(maxsize=1024)
def _named_methods(methods: tuple[tuple[Method, int], ...]) -> Mapping[str, int]:
    return {method.name.lower(): count for method, count in methods}
