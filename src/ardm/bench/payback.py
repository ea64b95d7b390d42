"""What a model of one's own items is worth: bytes and time of an item beside other codecs, and when its own bytes are paid back.

    rows = [measure(codec, items) for codec in usual(items, training)]
    found = Payback(items, rows, fitted(name, coder, items, seconds), size of the model)
    found.table(), found.verdict

NumPy, no PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ardm.bench.classical import classical
from ardm.bench.codec import Absent, Codec, Coding
from ardm.bench.compare import NOTHING, Row, ours, seconds
from ardm.codec.encode import compress_many
from ardm.codec.model_coder import ModelCoder
from ardm.codec.selection import Engine
from ardm.content import Content

USUAL = (
    *("PNG", "WebP lossless", "JPEG XL e9", "FLAC -8"),
    *("brotli -11", "zstd -22", "zstd -22, trained", "xz -9e"),
)
"""The codecs that one would use for such items."""
CHECK = 8
"""Bits of the check of each item of the model."""
FEWEST, FEW = 10, 20
"""The fewest items of the model that are encoded, and the most that are also decoded."""
WARM = 16
"""The side of the piece of an item with which a codec is warmed up."""
COUNTED = (
    "Counted: the bare items of models, with a check of 8 bits; zstd's frames without magic number, size, dictionary number and "
    "check; complete files of the others. Once: what both sides need beforehand, a model or a dictionary."
)


def usual(items: Sequence[Content], training: Sequence[Content]) -> list[Codec | Absent]:
    """USUAL, as far as they suit the items; training: what zstd trains its dictionary on."""
    return classical(items, training, names=USUAL, bare=True)


def fitted(name: str, coder: ModelCoder, items: Sequence[Content], room: float) -> Row:
    """The row of a model: bare files of the first items, as many as about `room` seconds allow; at least FEWEST.

    In half of the time, items are coded one by one, decoded, compared and timed, at most FEW; in the other, more are encoded.
    """
    codec = ours(name, coder, CHECK, bare=True)
    row = Row(name, codec.version, True, codec.calls, shared=codec.shared)
    try:
        corner = replace(items[0], samples=items[0].samples[:, :WARM, :WARM])
        codec.compress([items[0] if coder.refuses(corner) else corner])  # loading does not count
        timed = _timed(codec, items[:FEW], room / 2)
        encoding, decoding = (sum(x) / len(timed) for x in zip(*((c.encoding, c.decoding) for c in timed), strict=True))
        more = max(FEWEST - len(timed), int((room - len(timed) * (encoding + decoding)) / encoding), 0)
        rest = compress_many(items[len(timed) :][:more], coder, CHECK, bare=True)
        sizes = (*(size for coding in timed for size in coding.sizes), *map(len, rest))
    except Exception as error:  # the other codecs are measured nevertheless
        return replace(row, why=f"failed: {str(error) or type(error).__name__}", failed=True)
    return replace(row, sizes=sizes, encoding=encoding, decoding=decoding)


def bundled(items: Sequence[Content], room: float) -> Row | None:
    """The row of the bundled model that codes all items; None where there is none.  Both sides have it, so nothing is shared."""
    able = [coder for coder in Engine().coders(items[0]) if not any(map(coder.refuses, items))]
    if not able:
        return None
    best = min(able, key=lambda coder: coder.measure(items[0]))
    return replace(fitted(f"{best.model.name}, bundled", best, items, room), shared=0)


def _timed(codec: Codec, items: Sequence[Content], room: float) -> list[Coding]:
    """The coding of each of the first items, decoded and compared: one at least, and no further one after `room` seconds."""
    found, left = list[Coding](), room
    for item in items:
        if found and left < 0:
            break
        found.append(codec.compress([item]))
        left -= found[-1].encoding + found[-1].decoding
    return found


@dataclass(frozen=True)
class Payback:
    """A model beside other codecs, on the same items.

    rows: of the other codecs.  ours: of the model.  once: bytes of the model.
    """

    items: Sequence[Content]
    rows: Sequence[Row]
    ours: Row
    once: int

    def mean(self, row: Row) -> float:
        """Bytes an item."""
        return row.bytes / len(self.items)

    def after(self, row: Row) -> int | None:
        """The fewest items n ≥ 1 for which once + n·ours ≤ shared + n·theirs; None: for no number, however large."""
        gain, debt = row.bytes - self.ours.bytes, (self.once - row.shared) * len(self.items)
        if gain <= 0:
            return 1 if debt <= gain else None
        return max(1, -(-debt // gain))

    @property
    def best(self) -> Row | None:
        """The smallest of the others."""
        return min((row for row in self.rows if row.measured), key=lambda row: row.bytes, default=None)

    @property
    def verdict(self) -> str:
        """Who wins, in a sentence."""
        best, mine = self.best, self.mean(self.ours)
        if not self.ours.measured:
            return f"The model could not be measured: {self.ours.why}."
        if best is None:
            return "No other codec is installed to compare with (pip install zstandard brotli)."
        theirs = self.mean(best)
        if self.ours.bytes >= best.bytes:
            return f"{best.name} wins: {theirs:,.1f} bytes an item, the model {mine:,.1f}. Use it, or train longer (--resume)."
        return (
            f"The model wins: {mine:,.1f} bytes an item, {1 - mine / theirs:.0%} less than {best.name}; its own {self.once:,} bytes "
            f"are paid back after {self.after(best):,} items."
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells; a row that was not measured has two cells, its name and the reason."""
        heads = ["codec", "bytes an item", "of raw", "encode", "decode", "once", "model pays after"]
        rows = sorted((row for row in self.rows if row.measured), key=lambda row: row.bytes)
        absent = [[row.name, row.why] for row in self.rows if not row.measured]
        return heads, [self._cells(row) for row in (self.ours, *rows)] + absent

    def _cells(self, row: Row) -> list[str]:
        if not row.measured:
            return [row.name, row.why]
        mine = row is self.ours
        share, once = row.bytes / max(1, sum(item.raw_bytes for item in self.items)), self.once if mine else row.shared
        after = NOTHING if mine else _items(self.after(row))
        cells = [row.name, f"{self.mean(row):,.1f}", f"{share:.1%}", seconds(row.encoding), seconds(row.decoding)]
        return [*cells, f"{once:,}" if once else NOTHING, after]


def _items(number: int | None) -> str:
    return "never" if number is None else f"{number:,} item{'s' * (number != 1)}"
