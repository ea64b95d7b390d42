"""Many small items of your own, for a codec of them: lines, files, pictures, sounds, arrays; their kind and their parts.

    found = read([Path("events.jsonl")])        `Samples`: contents of one kind
    parts = found.parts()                       {"train": …, "valid": …, "test": …}, near-duplicates in one part

What `parts` promises: a stable hash of an item's key assigns it to a part, and items with the same key are in the same part.
The key of a text is its form: lower case, one space for each run of white space, one zero for each number and each run of 8 or
more hexadecimal digits; where fewer than half of the distinct texts differ in form, as in logs of few messages, digits count.
The key of a picture or an array is which of 4 × 4 blocks are lighter than their median, and of a sound, which of 32 stretches
are louder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ardm import formats
from ardm.content import ENDING, Content, Kind, line_end
from ardm.data.checks import known
from ardm.data.folders import SHARES, fraction, visible
from ardm.errors import ArdmError

KINDS = {Kind.BYTES: "text", Kind.IMAGE: "image", Kind.ARRAY: "image", Kind.AUDIO: "audio"}
"""The kind of network for each kind of content; arrays of one row are rows of a table."""
NOUNS = {"text": "text", "image": "picture", "audio": "sound", "table": "row"}
LINES = (".jsonl", ".ndjson", ".csv", ".tsv", ".log")
"""Endings of files whose lines are the items."""
LEAST = 50
"""The fewest items."""
SOME, FEW = 1000, {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}
"""Of fewer items than the first number, a larger share is held out."""
MOST = 1 << 30
"""The most bytes that are read."""


@dataclass(frozen=True)
class Samples:
    """Items of one kind.

    kind: "text", "image", "audio" or "table".  contents: without metadata.  origins: the file of each.
    """

    kind: str
    contents: tuple[Content, ...]
    origins: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def about(self) -> str:
        """What they are, in a few words."""
        noun, size = NOUNS[self.kind], sum(content.raw_bytes for content in self.contents)
        files = len(set(self.origins))
        return f"{len(self):,} {noun}s, {size:,} bytes, from {files:,} file{'s' * (files != 1)}"

    def subset(self, rows: Sequence[int]) -> Samples:
        """The items at some positions."""
        contents, origins = tuple(self.contents[n] for n in rows), tuple(self.origins[n] for n in rows)
        return replace(self, contents=contents, origins=origins)

    def parts(self) -> dict[str, Samples]:
        """The parts "train", "valid" and "test": see this module.  Raises ArdmError where one has fewer than two items."""
        places, shares = [fraction(key) for key in self.keys], SHARES if len(self) >= SOME else FEW
        rows = {name: [n for n, at in enumerate(places) if low <= at < high] for name, (low, high) in shares.items()}
        small = min(rows, key=lambda name: len(rows[name]))
        if len(rows[small]) < 2:
            raise ArdmError(
                f"only {len(rows[small])} of the {len(self):,} {NOUNS[self.kind]}s fall into the part {small!r}, so nothing can "
                f"be measured: give more, and more different ones ({len(set(places)):,} are not near-duplicates)"
            )
        return {name: self.subset(found) for name, found in rows.items()}

    @property
    def keys(self) -> list[str]:
        """The key of each item: near-duplicates have the same."""
        if self.kind == "table":
            return [content.samples.tobytes().decode("latin-1") for content in self.contents]
        if self.kind != "text":
            return [shape_key(content) for content in self.contents]
        return text_keys([content.samples.tobytes() for content in self.contents])

    @cached_property
    def _vary(self) -> bool:
        """Whether texts differ by more than their numbers."""
        return vary({content.samples.tobytes() for content in self.contents})

    @property
    def promise(self) -> str:
        """What is never both in the training part and in another one."""
        if self.kind == "text":
            return f"{NOUNS[self.kind]}s that are equal up to case{', white space and numbers' if self._vary else ' and white space'}"
        if self.kind == "table":
            return "rows that are equal"
        return (
            "sounds with the same pattern of loud and soft 32nds"
            if self.kind == "audio"
            else "pictures with the same pattern of light and dark sixteenths"
        )


# --- keys -----------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"(?=[0-9a-f]*[0-9])[0-9a-f]{8,}|[0-9]+")
_SPACE = re.compile(rb"\s+")


def folded(text: bytes) -> str:
    """A text in lower case, with one space for each run of white space."""
    return _SPACE.sub(b" ", text.strip().lower()).decode("latin-1")


def form(text: bytes) -> str:
    """The same, with one zero for each number and each run of 8 or more hexadecimal digits."""
    return _NUMBER.sub(b"0", folded(text).encode("latin-1")).decode("latin-1")


def vary(texts: Collection[bytes]) -> bool:
    """Whether texts differ by more than their numbers: at least half of those that differ at all."""
    return 2 * len(set(map(form, texts))) >= len(set(map(folded, texts)))


def text_keys(texts: Sequence[bytes]) -> list[str]:
    """The key of each text."""
    return list(map(form if vary(set(texts)) else folded, texts))


def shape_key(content: Content) -> str:
    """Whatever the size: which of 4 × 4 blocks of a picture are lighter, or of 32 stretches of a sound louder, than the median."""
    x = content.samples.astype(np.float64).mean(0)
    if content.kind == Kind.AUDIO:
        x = np.abs(x - x.mean())
    down, across = (1, 32) if len(x) == 1 else (4, 4)
    blocks = [part for band in np.array_split(x, down) for part in np.array_split(band, across, 1)]
    means = np.array([part.mean() if part.size else 0.0 for part in blocks])
    return "".join(map(str, (means > np.median(means)).astype(int)))


# --- reading --------------------------------------------------------------------------------------------------------------


def read(paths: Sequence[Path], each: str = "") -> Samples:
    """Read the items of some files and folders.

    each: what an item of text is: "line" or "file"; "": a line in files of LINES and where there is one file, else a file.
    Pictures and sounds are an item each; a .npy file of several pictures (N, …), or of rows (N, K) if it is the only file, has
    N.  Hidden and compressed files in folders
    are left out.
    Raises ArdmError, with one reason: nothing to read, several kinds, what no model codes, and fewer than LEAST items.
    """
    known("kind of item (--each)", each, ("", "line", "file"))
    files = list(_files(paths))
    found = [(path, content) for path in files for content in _contents(path, each, len(files) == 1)]
    kinds = Counter(_kind(content) for _, content in found)
    if len(kinds) > 1:
        counts = ", ".join(f"{count:,} {NOUNS[kind]}s" for kind, count in kinds.items())
        raise ArdmError(f"a codec is fitted to items of one kind; there are {counts}: give one kind at a time")
    lines = any(_by_line(path, each, len(files) == 1) for path in files)
    if len(found) < LEAST:
        raise ArdmError(
            f"{len(found)} item{'s are' if len(found) != 1 else ' is'} too few to learn from and to measure with: give at least "
            f"{LEAST}, better thousands"
            + " (--each line takes every line of a text)"
            * (set(kinds) == {"text"} and not lines)
        )
    samples = Samples(next(iter(kinds)), tuple(content for _, content in found), tuple(path for path, _ in found))
    _refuse(samples)
    return samples


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those in folders."""
    total = 0
    for path in paths:
        try:
            inside = (
                [path / name for name in visible(path) if name.suffix.lower() != ENDING] if path.is_dir() else [path]
            )
            total += sum(p.stat().st_size for p in inside)
        except OSError as error:
            raise ArdmError(f"cannot read {path}: {error.strerror}") from None
        if not inside:
            raise ArdmError(f"there are no files in {path}")
        if total > MOST:
            raise ArdmError(f"these files have more than {MOST >> 20:,} MiB; a sample of them is enough to learn from")
        yield from sorted(inside)


def _contents(path: Path, each: str, alone: bool) -> list[Content]:
    """The items of a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error.strerror}") from None
    looks = formats.sniff(data[:64])
    several = formats.items(data) if looks == "npy" else None
    if several and (several[0].shape[1] > 1 or (alone and several[0].layout.count(",") == 0)):
        return several
    found = formats.read(data, path.name, strip=True)
    if found.content.kind != Kind.BYTES:
        return [replace(found.content, about={}, origin="")]
    if looks or found.notes:
        raise ArdmError(
            f"{path} cannot be learned from: {(found.notes or (looks,))[0].removesuffix(': kept byte for byte')}"
        )
    texts = data.split(line_end(data)) if _by_line(path, each, alone) else [data]
    return [Content.of_bytes(text) for text in texts if text]


def _by_line(path: Path, each: str, alone: bool) -> bool:
    """Whether each line of a text is an item."""
    return each == "line" or (not each and (alone or path.suffix.lower() in LINES))


def _kind(content: Content) -> str:
    """The kind of network for a content."""
    return "table" if content.kind == Kind.ARRAY and content.shape[1] == 1 else KINDS[content.kind]


def _refuse(samples: Samples) -> None:
    """Raise ArdmError, naming the file, for items that no model codes."""
    faults: dict[str, Callable[[Content], str]] = {"image": _picture_fault, "audio": _sound_fault, "table": _row_fault}
    rates = {content.rate for content in samples.contents}
    for path, content in zip(samples.origins, samples.contents, strict=True):
        if fault := faults.get(samples.kind, lambda _: "")(content):
            raise ArdmError(f"{path} {fault}")
    if len(rates) > 1:
        raise ArdmError(
            f"the sounds have {' and '.join(map(str, sorted(rates)))} samples per second: convert them to one rate"
        )


def _picture_fault(content: Content) -> str:
    if content.is_16bit:
        return "has 16 bits per sample, and models of pictures have 8: convert it first"
    if content.shape[0] > 4 or content.shape[1] < 2 or content.shape[2] < 2:
        return f"is an array {content.shape}; models of pictures take 1 to 4 planes of at least 2 x 2 samples"
    return ""


def _sound_fault(content: Content) -> str:
    return "" if content.is_16bit else "has 8 bits per sample, and models of sounds have 16: convert it first"


def _row_fault(content: Content) -> str:
    kind, columns, _ = content.layout.split()
    return (
        ""
        if kind == "|u1" and columns != "."
        else f"holds rows of {kind}; rows of a table are numbers 0 to 255: save it as uint8"
    )
