"""Compare codecs on the same items: sizes, rates, seconds and memory, as rows and as a table.

    rows = [measure(codec, items) for codec in (*classical(items), ours("ardm -5", coder))]
    compared = Comparison(items, rows, facts())              .table() for people, .record() for JSON

Peak memory is that of the whole process, so measure the classical codecs before making one of our models, which loads
PyTorch.  Only Linux can measure it row by row.  Seconds depend on what else the machine does.

NumPy, no PyTorch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from ardm.bench.codec import Absent, Codec, Coding, same
from ardm.bench.machine import forget_peak, peak_memory
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.header import Form
from ardm.codec.model_coder import ModelCoder
from ardm.codec.regions import PartCoder
from ardm.codec.selection import Engine
from ardm.content import Content, Samples
from ardm.errors import ModelMissing

NOTHING = "–"
"""A cell without a number."""
PEAK = "Peak memory: the most that the whole process held while a row was measured, libraries and models included."
"""Explains the figure."""


@dataclass(frozen=True)
class Row:
    """One codec on all items, each coded alone, decoded and compared; or the reason why it was not measured.

    calls, shared: as in Codec.  sizes: bytes of each item's file.  framing: total bytes of them that hold no samples.
    encoding, decoding: seconds per item.  peak, held: peak memory and memory before, in bytes; None if unknown.
    together: all items in one file, if requested and possible, with the seconds for all of them.
    why: the reason why nothing was measured.  failed: whether that is an error.
    """

    name: str
    version: str = ""
    ours: bool = False
    calls: int = 0
    sizes: tuple[int, ...] = ()
    framing: int = 0
    encoding: float = math.nan
    decoding: float = math.nan
    peak: int | None = None
    together: Coding | None = None
    shared: int = 0
    held: int | None = None
    why: str = ""
    failed: bool = False

    @property
    def bytes(self) -> int:
        """Total size of all items."""
        return sum(self.sizes)

    @property
    def measured(self) -> bool:
        """Whether there is anything to compare."""
        return not self.why


def ours(name: str, coder: PartCoder[Any] | None, check: int = 32, bare: bool = False) -> Codec:
    """Our codec with a model at a number of calls; None: without a model, by classical methods alone.

    check, bare: as for `compress`; of single items.
    """

    def models(identity: str, steps: object) -> PartCoder[Any]:
        if coder is None or not coder.identity.startswith(identity) or (steps and coder.steps != steps):
            raise ModelMissing(f"{name} wrote a file for another model, {identity}, or in other calls")
        return coder

    def encode(content: Content) -> bytes:
        return compress(content, coder, check=check, bare=bare)[0]

    def decode(data: bytes, form: Form) -> Samples:
        return decompress(data, models, bare=bare).samples

    def framing(data: bytes) -> int:
        return sum(frame.header_bytes for frame in describe(data, bare))

    def together(items: Sequence[Content]) -> Coding:
        began = time.perf_counter()
        data = compress_archive(items, coder=coder)[0]
        middle = time.perf_counter()
        decoded = list(open_archive(data).items(models))
        ended = time.perf_counter()
        for item, back in zip(items, decoded, strict=True):
            same(name, item.samples, back.samples)
        return Coding((len(data),), 0, middle - began, ended - middle)

    about = f"ardm {version('ardm')}" + (f", model {coder.identity[:16]}" if coder else "")
    calls, shared = (coder.calls, weights(coder)) if coder else (0, 0)
    return Codec(name, about, encode, decode, framing=framing, together=together, calls=calls, shared=shared)


def weights(coder: PartCoder[Any]) -> int:
    """Bytes of the model that a decoder needs; 0 if unknown."""
    return sum(t.nbytes for t in coder.model.program.tensors.values()) if isinstance(coder, ModelCoder) else 0


def at_levels(engine: Engine, levels: Sequence[int], item: Content) -> tuple[list[Codec], str]:
    """Our codec with the engine's model for the item, at each level that is not the same as one before.

    If no model codes it, once without a model, and the reason.
    """
    made, seen = [], set[tuple[str, object]]()
    for level in levels:
        coder = replace(engine, level=level).coder(item)
        refused = "no model codes this kind" if coder is None else coder.refuses(item)
        if refused:
            return [ours("ardm, no model", None)], refused
        if coder is not None and (coder.identity, coder.steps) not in seen:
            seen.add((coder.identity, coder.steps))
            made.append(ours(f"ardm -{level}", coder))
    return made, ""


def bare(item: Content) -> Content:
    """The item without metadata, which no codec here has to keep."""
    return replace(item, about={}, origin="")


def measure(
    codec: Codec | Absent,
    items: Sequence[Content],
    own: bool = False,
    together: bool = False,
    done: Callable[[], object] = lambda: None,
) -> Row:
    """Measure one codec; an error in it becomes the reason of its row.

    items: of one kind, bare.  own: whether the codec is ours.  together: also code all items as one file.
    done: called after each item.
    """
    if isinstance(codec, Absent):
        return Row(codec.name, why=codec.why, ours=own)
    row = Row(codec.name, codec.version, own, codec.calls, shared=codec.shared)
    why = next(filter(None, map(codec.refuses, items)), "")
    if why:
        return replace(row, why=why)
    try:
        codec.compress([_small(items[0])])  # warm up: loading and compiling do not count
        known = not codec.outside and forget_peak()
        held = peak_memory() if known else None
        coding = codec.compress(items, done)
        peak = peak_memory() if known else None
        whole = codec.together(items) if together else None
    except Exception as error:  # one codec failed; continue with the others
        return replace(row, why=f"failed: {str(error) or type(error).__name__}", failed=True)
    count = len(items)
    return replace(
        row,
        sizes=coding.sizes,
        framing=coding.framing,
        encoding=coding.encoding / count,
        decoding=coding.decoding / count,
        peak=peak,
        held=held,
        together=whole,
    )


def _small(item: Content) -> Content:
    """A corner of an item, for warming up."""
    x = item.samples
    side = 32 if x.shape[1] > 1 else 1024
    return replace(item, samples=x[:, :side, :side])


# --- the comparison ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The rows for some items.  facts: see `machine.facts`."""

    items: Sequence[Content]
    rows: Sequence[Row]
    facts: dict[str, Any]

    @property
    def samples(self) -> int:
        """Samples of all items, at least 1."""
        return max(1, sum(item.samples.size for item in self.items))

    @property
    def raw_bytes(self) -> int:
        """Bytes of the samples."""
        return sum(item.raw_bytes for item in self.items)

    @property
    def best(self) -> Row | None:
        """The smallest classical codec."""
        return min((row for row in self.rows if row.measured and not row.ours), key=lambda row: row.bytes, default=None)

    @property
    def title(self) -> str:
        """A line about the items."""
        kinds = {"bytes": "item", "image": "image", "audio": "sound", "array": "array"}
        noun = kinds[self.items[0].kind.name.lower()] + "s" * (len(self.items) != 1)
        return (
            f"{len(self.items)} {noun}, {self.samples:,} samples, {self.raw_bytes:,} bytes raw, each a file of its own"
        )

    def rate(self, size: float) -> float:
        """Convert total bytes to bits per sample."""
        return 8 * size / self.samples

    def error(self, row: Row) -> float:
        """Standard error of a row's mean rate over items, in bits per sample; nan for a single item."""
        rates = [8 * s / max(1, item.samples.size) for s, item in zip(row.sizes, self.items, strict=True)]
        return float(np.std(rates, ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else math.nan

    def to_best(self, row: Row) -> float:
        """Size relative to the smallest classical codec: below 1 is smaller; nan if there is none."""
        return row.bytes / self.best.bytes if self.best and self.best.bytes else math.nan

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells; a row that was not measured has two cells, its name and the reason."""
        shared, whole = any(row.shared for row in self.rows), any(row.together is not None for row in self.rows)
        heads = ["codec", "bytes", "bits/sample", "headerless", "to best classical", "encode", "decode", "peak memory"]
        heads += ["shared data"] * shared + ["all in one", "encode", "decode"] * whole
        return heads, [self._cells(row, shared, whole) for row in self.rows]

    def _cells(self, row: Row, shared: bool, whole: bool) -> list[str]:
        if not row.measured:
            return [row.name, row.why]
        cells = [
            f"{row.name} ({row.calls} calls)" if row.calls else row.name,
            f"{row.bytes:,}",
            f"{self.rate(row.bytes):.4f}",
            f"{self.rate(row.bytes - row.framing):.4f}",
            NOTHING if math.isnan(self.to_best(row)) else f"{self.to_best(row):.3f}",
            seconds(row.encoding),
            seconds(row.decoding),
            NOTHING if row.peak is None else f"{row.peak / 2**20:,.0f} MiB",
        ]
        if shared:
            cells.append(f"{row.shared:,}" if row.shared else NOTHING)
        if whole and row.together is not None:
            times = (row.together.encoding, row.together.decoding)
            cells += [f"{self.rate(sum(row.together.sizes)):.4f}", *(seconds(t / len(self.items)) for t in times)]
        elif whole:
            cells += [NOTHING] * 3
        return cells

    def versions(self) -> list[str]:
        """The versions of all measured codecs."""
        return list(dict.fromkeys(row.version for row in self.rows if row.measured and row.version))

    def record(self) -> dict[str, Any]:
        """All figures for JSON; nan becomes null."""
        return {
            "kind": self.items[0].kind.name.lower(),
            "items": len(self.items),
            "samples": self.samples,
            "raw_bytes": self.raw_bytes,
            "best_classical": self.best.name if self.best else None,
            **self.facts,
            "peak_memory": PEAK,
            "rows": [self._record(row) for row in self.rows],
        }

    def _record(self, row: Row) -> dict[str, Any]:
        if not row.measured:
            return {"name": row.name, "version": row.version, "ours": row.ours, "why": row.why, "failed": row.failed}
        numbers: dict[str, Any] = {
            "bytes": row.bytes,
            "bits_per_sample": self.rate(row.bytes),
            "standard_error": self.error(row),
            "headerless_bits_per_sample": self.rate(row.bytes - row.framing),
            "to_best_classical": self.to_best(row),
            "together": None,
        }
        if row.together is not None:
            size, count = sum(row.together.sizes), len(self.items)
            numbers["together"] = {
                "bytes": size,
                "bits_per_sample": self.rate(size),
                "encoding": row.together.encoding / count,
                "decoding": row.together.decoding / count,
            }
        record = {**asdict(row), **numbers, "sizes": list(row.sizes)}
        clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}
        return {k: v for k, v in clean.items() if k not in ("why", "failed")}


def seconds(time: float) -> str:
    """Format a duration with three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if time >= size:
            return f"{time / size:.3g} {unit}" if time < 999.5 * size else f"{time / size:.0f} {unit}"
    return f"{1e6 * time:.3g} µs"


def markdown(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; short rows are padded."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    rows = [heads, rule, *([*row, *[""] * (len(heads) - len(row))] for row in cells)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def plain(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Format a table with aligned columns; a reason may span several."""
    full = [row for row in (heads, *cells) if len(row) == len(heads)]
    widths = [max(len(row[i]) for row in full) for i in range(len(heads))]
    widths[0] = max(len(row[0]) for row in (heads, *cells))
    lines = []
    for row in (heads, *cells):
        if len(row) < len(heads):
            lines.append(f"{row[0]:{widths[0]}}  {row[1]}")
        else:
            lines.append("  ".join([f"{row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]))
    return "\n".join(lines)
