"""What is let in: files of ours, within limits on memory, pixels and time, before anything is allocated for them.

One table for both directions: what is compressed by default is restored by default.  Headers are read and nothing else.
What a person may lift says by which option.  No torch.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

from ardm.codec import frames
from ardm.codec.container import MAGIC, MAX_ABOUT, Limits, foreign
from ardm.codec.frames import FrameInfo, PartCoder
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.formats import MAX_SAMPLES, Claim

MEMORY, PIXELS = 2 << 30, 1 << 28
"""Bytes that one file may need, by estimate, and pixels of one picture: what is not lifted by an option."""
PATIENCE = 3600.0
"""Seconds of coding, by estimate, that are not started without being forced."""
DENSEST = 1040
"""Bytes that may be written for each byte of a file, whatever the limits: deflate packs no denser."""
SECONDS_A_SAMPLE, SECONDS_A_CALL = 3e-5, 2e-7
"""What coding takes for each sample that a model codes, and for each network call a sample: two cores, no GPU."""
FEW_CALLS, SECONDS_A_STEP = 100, 1e-3
"""Calls beyond which an item is no more work, since each site is asked once, but as many steps one after the other."""
NETWORK = 600 << 20
"""Bytes that a network takes, with what runs it."""
SOURCE, READ = 6, 4
"""How often the bytes of a file are held at once: kept as bytes (read, in pieces, joined, compared), and beside samples."""
COPIES = 3
"""How often samples are held at once that are bytes, or come from elsewhere: as decoded, laid out, and as a file."""
HELD: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "png": (6, 14), "webp": (16, 16), "bmp": (6, 20), "tiff": (8, 20), "ppm": (6, 6), "wav": (6, 6),
        "flac": (8, 8), "npy": (6, 6),
    }
)  # fmt: skip
"""Bytes held at once for each byte of samples while a file of this format is read, checked, stored or written: of eight
bits and more, and of fewer.  `python benchmarks/peaks.py` measures them; tests/test_limits.py holds them against it."""
BASE = 64 << 20
"""Bytes that reading or writing such a file takes beside: rows on their way through filters, dictionaries."""
FOLDER = 4096
"""Bytes of a disk that a folder takes, as most file systems have it."""
LEAST_CHUNK = 1 << 16
"""Bytes of a frame of bytes, however little memory there is."""
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
"""Of one's own files, and of those that `admit` has let in."""


@dataclass(frozen=True)
class Budget:
    """What may be spent on one file, in either direction: one table of limits for compressing and restoring.

    memory: bytes.  pixels: of one picture.  force: go on beyond PATIENCE, but not beyond the others.  output: bytes that
    restoring a file may write in all; 0: half the memory, or DENSEST times the file if that is more.
    """

    memory: int = MEMORY
    pixels: int = PIXELS
    force: bool = False
    output: int = 0

    def writes(self, file_bytes: int) -> int:
        """Bytes that a file of this size may become."""
        return self.output or max(self.memory // 2, DENSEST * file_bytes)

    def chunk(self, most: int) -> int:
        """Bytes of a frame of bytes, at most `most`."""
        return min(most, max(LEAST_CHUNK, self.memory // SOURCE))

    def whole(self, claim: Claim | None) -> int:
        """Bytes up to which a file that claims this, or nothing that can be told, is read whole."""
        if claim is None:
            return self.memory // SOURCE
        return max(0, self.memory - reading(claim, 0)) // READ

    def refuses(self, claim: Claim, size: int) -> str:
        """Why a file of `size` bytes is not compressed as what it claims to be, in a sentence; "" if it is."""
        pixels = claim.height * claim.width
        shape = f"{claim.width}x{claim.height} pixels" if claim.picture else f"{claim.samples} samples"
        if claim.samples > MAX_SAMPLES:
            return f"it claims {claim.samples} samples, more than {MAX_SAMPLES}"
        if claim.picture and self.pixels < pixels:
            return f"it claims {shape}, and the limit is {self.pixels}; --max-pixels {pixels} reads it"
        need = reading(claim, size)
        if need > self.memory:
            return (
                f"it claims {shape}, for which some {amount(need)} of memory are needed, and the limit is "
                f"{amount(self.memory)}; -M {mebibytes(need)} reads it"
            )
        return ""


def held(format: str, fine: bool) -> int:
    """Bytes held at once for each byte of samples that come from a format or go to it; fine: of fewer than eight bits."""
    return HELD.get(format, (COPIES, COPIES))[fine]


def reading(claim: Claim, size: int) -> int:
    """Bytes that compressing a file takes, roughly, and no less than restoring it; size: of the file."""
    return held(claim.format, claim.bits < 8) * claim.raw_bytes + READ * size + MAX_ABOUT + NETWORK + BASE


def storing(size: int) -> int:
    """Bytes that compressing a file as bytes takes, if it is not cut."""
    return SOURCE * size


def mebibytes(count: int) -> str:
    """As an option takes them, none too few."""
    return f"{(count >> 20) + 1}MiB"


def estimate(samples: int, calls: int) -> float:
    """Seconds that decoding takes, roughly."""
    work = samples * (SECONDS_A_SAMPLE + min(calls, FEW_CALLS) * SECONDS_A_CALL)
    return work + max(0, calls - FEW_CALLS) * SECONDS_A_STEP if calls else 0.0


def memory(info: FrameInfo, format: str = "") -> int:
    """Bytes that restoring a frame or an item takes, roughly; format: another one that it is to have."""
    origin = "" if info.kind == Kind.BYTES else info.origin
    copies = max(held(name, "depth" in info.about) for name in (origin, format))
    beside = BASE if origin or format else 0
    return copies * info.raw_bytes + sum(info.about.values()) + (NETWORK if info.model else 0) + beside


def written(info: FrameInfo) -> int:
    """Bytes that a frame or an item becomes, about."""
    return info.raw_bytes + sum(info.about.values())


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def amount(count: int) -> str:
    """Bytes as a person says them."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= 2 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def refuse_foreign(file: BinaryIO, ours: bool) -> None:
    """Raise ArdmError for a file that is another program's, CodecError for one of ours that is damaged.

    ours: whether its name says that it is one.  The file is left where it was.
    """
    at = file.tell()
    head = file.read(16)
    file.seek(at)
    if head[: len(MAGIC)] == MAGIC:
        return
    said = foreign(head)
    what = said.partition("it looks like ")[2]
    if what and "ardm" not in what:
        raise ArdmError(f"this is {what}, not an .ardm file")
    raise CodecError(said) if ours or not head or "truncated" in said or what else ArdmError(said)


def admit(
    infos: Iterable[FrameInfo], budget: Budget, file_bytes: int, format: str = "", names: Sequence[str] | None = None
) -> None:
    """Raise ArdmError for frames or items that claim more than the budget; it says what would lift the limit.

    file_bytes: of the file that they are in.  format: that restored files are to have, if it is another.  names: of all
    items, if the folders that these lead through are made.
    """
    folders = count_folders(names or ())
    seconds, output = 0.0, FOLDER * folders
    for info in infos:
        _, H, W = info.shape
        if info.kind == Kind.IMAGE and budget.pixels < H * W:
            raise ArdmError(
                f"this file claims {W}x{H} pixels, and the limit is {budget.pixels}; --max-pixels {H * W} lets it in"
            )
        need = memory(info, format)
        if need > budget.memory:
            raise ArdmError(
                f"this file claims {amount(info.raw_bytes)} of samples, for which some {amount(need)} of memory "
                f"are needed, and the limit is {amount(budget.memory)}; -M {mebibytes(need)} lets it in"
            )
        seconds += estimate(info.samples, info.calls)
        output += written(info)
    if output > budget.writes(file_bytes):
        what = amount(output) + f" with its {folders} folders" * bool(folders)
        raise ArdmError(
            f"this file of {amount(file_bytes)} would become {what}, and the limit is "
            f"{amount(budget.writes(file_bytes))}; --max-output {mebibytes(output)} lets it in"
        )
    if seconds > PATIENCE and not budget.force:
        raise ArdmError(f"decoding this file takes {duration(seconds)}, by estimate; -f starts it all the same")


def count_folders(names: Iterable[str]) -> int:
    """Folders that these paths lead through; a few bytes may name thousands.

    In their order, all that begin alike follow one another: a folder is new where it ends behind what two have in common.
    """
    count, before = 0, ""
    for name in sorted(names):
        alike, most = 0, min(len(name), len(before))
        while alike < most:  # the longest common beginning has alike to most characters
            middle = (alike + most + 1) // 2
            alike, most = (middle, most) if name.startswith(before[:middle]) else (alike, middle - 1)
        count += name.count("/", alike)
        before = name
    return count


def admitted(file: BinaryIO, budget: Budget, ours: bool, format: str = "") -> list[FrameInfo]:
    """What each frame of a file says about itself, all of it within the budget; the file is left where it was.

    Of an archive only the overview, which obeys no budget: see `archives`.  Raises ArdmError, CodecError.
    """
    refuse_foreign(file, ours)
    at = file.tell()
    infos = frames.describe(file)
    file.seek(at)
    if infos[0].items is None:
        admit(infos, budget, sum(info.file_bytes for info in infos), format)
    return infos


# --- what compressing may take ----------------------------------------------------------------------------------------


class Patience:
    """The time that models may take over all frames or items of one file: what decoding may take by default."""

    def __init__(self, budget: Budget) -> None:
        self.left = math.inf if budget.force else PATIENCE

    def coder(self, coder: PartCoder[Any] | None) -> PartCoder[Any] | None:
        """A coder that refuses contents for which there is no time left."""
        return None if coder is None else _Patient(coder, self)


class _Patient:
    """A `PartCoder` whose every content takes of the time that there is."""

    def __init__(self, coder: PartCoder[Any], patience: Patience) -> None:
        self._coder, self._patience = coder, patience
        self._last: weakref.ref[Content] | None = None
        self.identity, self.calls, self.planes = coder.identity, coder.calls, coder.planes
        self.encode, self.finish, self.decode = coder.encode, coder.finish, coder.decode

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; the same content may be asked for again."""
        why = self._coder.refuses(content)
        if why is not None or (self._last is not None and self._last() is content):
            return why
        seconds = estimate(content.samples.size, self.calls)
        if seconds > self._patience.left:
            return f"coding it would take {duration(seconds)}, by estimate, and more than an hour in all; -f does it"
        self._patience.left -= seconds
        self._last = weakref.ref(content)
        return None


def dense(restored: int, size: int, budget: Budget) -> bool:
    """Whether a reader with default limits would take a file of `size` bytes for an attack, for what it becomes."""
    return restored > min(budget.memory, MEMORY) // 2 and restored > DENSEST * size


def ballast(raw: int, size: int, before: tuple[int, int], budget: Budget) -> int:
    """How many of `raw` bytes are to be stored as they are, for readers to let a file in that is the densest of all.

    size: of the frame that holds them.  before: bytes restored and bytes of the file so far.  0: none need be.
    """
    if not dense(before[0] + raw, before[1] + size, budget):
        return 0
    return min(raw, -(-(before[0] + raw) // DENSEST) - before[1])
