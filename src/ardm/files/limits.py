"""Limits on memory, pixels, output and time, checked from headers before anything is allocated.

One table serves both directions: what compresses with default limits also restores with them.  Each error names the
option that raises its limit.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from ardm.codec.describe import describe
from ardm.codec.header import Limits, foreign, is_ours
from ardm.codec.index import MAX_ABOUT, restored_bytes
from ardm.codec.regions import PartCoder
from ardm.codec.report import FrameInfo
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.formats import FORMATS, MAX_SAMPLES, Claim

MEMORY, PIXELS = 2 << 30, 1 << 28
"""Default limits: estimated bytes of memory for one file, and pixels of one image."""
PATIENCE = 3600.0
"""Estimated seconds of coding beyond which nothing starts without `force`."""
DENSEST = 1040
"""Bytes that each byte of a file may become, whatever the limits: the highest ratio that deflate reaches."""
SECONDS_A_SAMPLE, SECONDS_A_CALL = 3e-5, 2e-7
"""Seconds for each sample that a model codes, and for each network call per sample: two cores, no GPU."""
SECONDS_ALONG = 1e-5
"""Seconds for each sample along wavefronts, native kernels on one core: 1.2e-6 to 2.8e-6 for 0.1 million multiplications a
pixel, 4e-6 to 1e-5 for 0.5 million; the larger ones for grey pictures, of which each pixel is one sample."""
FEW_CALLS, SECONDS_A_STEP = 100, 1e-3
"""Calls beyond which an item costs only sequential steps, since each site is evaluated once, and seconds of such a step."""
NETWORK = 600 << 20
"""Bytes that a network takes, with its runtime."""
SOURCE, READ = 6, 4
"""Copies of a file held at once: if it is kept byte for byte (read, in pieces, joined, compared), or beside samples."""
COPIES = 3
"""Copies of samples held at once without a format: decoded, laid out, and as a file."""
HELD: Mapping[str, tuple[int, int]] = MappingProxyType({name: format.held for name, format in FORMATS.items()})
"""Bytes held at once for each byte of samples in a file of this format: see `FileFormat`."""
BASE = 64 << 20
"""Further bytes that reading or writing such a file takes: rows in filters, dictionaries."""
FOLDER = 4096
"""Bytes that a folder takes on most file systems."""
INDEX = 512
"""Bytes of memory for each item of an archive that is read or written, beside the item."""
SMALL_INDEX = 1 << 20
"""Bytes that all items together may always take: the program itself takes many times as much."""
LEAST_CHUNK = 1 << 16
"""Bytes in a frame of bytes even with the least memory."""
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
"""Limits for files that were just written, or that `admit` has accepted."""


@dataclass(frozen=True)
class Budget:
    """Limits for one file, in both directions.

    memory: bytes.  pixels: of one image.  force: ignore PATIENCE, but no other limit.  output: bytes that restoring a
    file may write in all; 0: half the memory, or DENSEST times the file if that is more.
    """

    memory: int = MEMORY
    pixels: int = PIXELS
    force: bool = False
    output: int = 0

    def writes(self, file_bytes: int) -> int:
        """The most bytes that a file of this size may restore to."""
        return self.output or max(self.memory // 2, DENSEST * file_bytes)

    def chunk(self, most: int) -> int:
        """The most bytes in a frame of bytes, at most `most`."""
        return min(most, max(LEAST_CHUNK, self.memory // SOURCE))

    def whole(self, claim: Claim | None) -> int:
        """The most bytes of a file that is read at once; claim: of its header, None if that is unreadable."""
        if claim is None:
            return self.memory // SOURCE
        return max(0, self.memory - reading(claim, 0)) // READ

    def refuses(self, claim: Claim, size: int) -> str:
        """Why a file of `size` bytes is not decoded as its header claims; "" if it is."""
        pixels = claim.height * claim.width
        shape = f"{claim.width}x{claim.height} pixels" if claim.image else f"{claim.samples} samples"
        if claim.samples > MAX_SAMPLES:
            return f"it claims {claim.samples} samples, more than {MAX_SAMPLES}"
        if claim.image and self.pixels < pixels:
            return f"it claims {shape}, and the limit is {self.pixels}; --max-pixels {pixels} reads it"
        need = reading(claim, size)
        if need > self.memory:
            return (
                f"it claims {shape}, which need some {amount(need)} of memory, and the limit is "
                f"{amount(self.memory)}; -M {mebibytes(need)} reads it"
            )
        return ""


def held(format: str, fine: bool) -> int:
    """Bytes held at once for each byte of samples read from or written to a format; fine: of fewer than eight bits."""
    return HELD.get(format, (COPIES, COPIES))[fine]


def reading(claim: Claim, size: int) -> int:
    """Estimated bytes of memory to compress a file of `size` bytes; restoring it takes no more."""
    return held(claim.format, claim.bits < 8) * claim.raw_bytes + READ * size + MAX_ABOUT + NETWORK + BASE


def storing(size: int) -> int:
    """Estimated bytes of memory to compress a file as bytes in one piece."""
    return SOURCE * size


def refuse_stored(path: Path, size: int, budget: Budget) -> None:
    """Raise ArdmError for a file that is too large for an archive, where unlike a single file it is never cut into chunks."""
    need = storing(size)
    if need > budget.memory:
        raise ArdmError(
            f"{path} has {amount(size)}; an item of an archive is held in memory as a whole, which needs some "
            f"{amount(need)}, and the limit is {amount(budget.memory)}; raise it with -M {mebibytes(need)}, or "
            "compress this file alone"
        )


def mebibytes(count: int) -> str:
    """A number of bytes in the form that options take, rounded up."""
    return f"{(count >> 20) + 1}MiB"


def estimate(samples: int, calls: int) -> float:
    """Estimated seconds in which a model decodes; calls: 0 along wavefronts."""
    if not calls:
        return samples * SECONDS_ALONG
    work = samples * (SECONDS_A_SAMPLE + min(calls, FEW_CALLS) * SECONDS_A_CALL)
    return work + max(0, calls - FEW_CALLS) * SECONDS_A_STEP


def memory(info: FrameInfo, format: str = "") -> int:
    """Estimated bytes of memory to restore a frame or an item; format: if it is converted."""
    origin = "" if info.kind == Kind.BYTES else info.origin
    copies = max(held(name, "depth" in info.about) for name in (origin, format))
    base = BASE if origin or format else 0
    return copies * info.raw_bytes + sum(info.about.values()) + (NETWORK if info.coded else 0) + base


def written(info: FrameInfo) -> int:
    """Estimated bytes that a frame or an item restores to."""
    return info.raw_bytes + restored_bytes(info.about)


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def amount(count: int) -> str:
    """Bytes in words."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= 2 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def refuse_foreign(file: BinaryIO, ours: bool) -> None:
    """Raise ArdmError for a file of another program, CodecError for a damaged one of ours.

    ours: whether its name ends in .ardm.  The position in the file does not change.
    """
    at = file.tell()
    head = file.read(16)
    file.seek(at)
    if is_ours(head):
        return
    message = foreign(head)
    what = message.partition("it looks like ")[2]
    if what and "ardm" not in what:
        raise ArdmError(f"this is {what}, not an .ardm file")
    raise CodecError(message) if ours or not head or "truncated" in message or what else ArdmError(message)


def refuse_items(count: int, budget: Budget) -> None:
    """Raise ArdmError for an archive of so many items that memory cannot hold what is known of them."""
    need = INDEX * count
    if need > max(budget.memory, SMALL_INDEX):
        raise ArdmError(
            f"an archive of {count:,} items needs some {amount(need)} of memory for its index, and the limit is "
            f"{amount(budget.memory)}; -M {mebibytes(need)} allows it"
        )


def admit(
    infos: Iterable[FrameInfo],
    budget: Budget,
    file_bytes: int,
    format: str = "",
    names: Sequence[str] | None = None,
    ends: int = 0,
) -> list[FrameInfo]:
    """The frames or items; raises ArdmError where they claim more than the budget, with the option to raise.

    file_bytes: size of their file.  format: if they are converted.  names: of all items, if their folders are made.
    ends: bytes between the items.
    It reads all of `infos`, and holds no more of them than the budget allows.
    """
    folders = count_folders(names or ())
    seconds, output, admitted, most = 0.0, FOLDER * folders + ends, list[FrameInfo](), budget.writes(file_bytes)
    for info in infos:
        _, H, W = info.shape
        if info.kind == Kind.IMAGE and budget.pixels < H * W:
            raise ArdmError(
                f"this file claims {W}x{H} pixels, and the limit is {budget.pixels}; --max-pixels {H * W} allows it"
            )
        need = memory(info, format)
        if need > budget.memory:
            raise ArdmError(
                f"this file claims {amount(info.raw_bytes)} of samples, which need some {amount(need)} of memory, "
                f"and the limit is {amount(budget.memory)}; -M {mebibytes(need)} allows it"
            )
        seconds += estimate(info.samples, info.calls) if info.coded else 0.0
        output += written(info)
        if output <= most:
            admitted.append(info)
    if output > most:
        what = amount(output) + f" with its {folders} folders" * bool(folders)
        raise ArdmError(
            f"this file of {amount(file_bytes)} would become {what}, and the limit is "
            f"{amount(most)}; --max-output {mebibytes(output)} allows it"
        )
    if seconds > PATIENCE and not budget.force:
        raise ArdmError(f"decoding this file takes an estimated {duration(seconds)}; -f decodes it anyway")
    return admitted


def count_folders(names: Iterable[str]) -> int:
    """Number of folders that these paths lead through; a few bytes may name thousands.

    Paths that begin alike are neighbours once sorted: a folder is new where it ends after the common prefix of two.
    """
    count, before = 0, ""
    for name in sorted(names):
        alike, most = 0, min(len(name), len(before))
        while alike < most:  # the longest common prefix has alike to most characters
            middle = (alike + most + 1) // 2
            alike, most = (middle, most) if name.startswith(before[:middle]) else (alike, middle - 1)
        count += name.count("/", alike)
        before = name
    return count


def admitted(file: BinaryIO, budget: Budget, ours: bool, format: str = "", bare: bool = False) -> list[FrameInfo]:
    """Describe each frame of a file, after checking it against the budget; the position in the file does not change.

    bare: it is a bare frame.  An archive is only described: see `unpack`.  Raises ArdmError, CodecError.
    """
    if not bare:
        refuse_foreign(file, ours)
    at = file.tell()
    infos = describe(file, bare)
    file.seek(at)
    if infos[0].items is None:
        admit(infos, budget, sum(info.file_bytes for info in infos), format)
    return infos


# --- time to compress -------------------------------------------------------------------------------------------------


class Patience:
    """The time that models may take for all frames or items of one file: the default limit of decoding."""

    def __init__(self, budget: Budget) -> None:
        self.left = math.inf if budget.force else PATIENCE

    def coder(self, coder: PartCoder[Any] | None) -> PartCoder[Any] | None:
        """Wrap a coder, so that it refuses contents for which no time is left."""
        return None if coder is None else _Patient(coder, self)


class _Patient:
    """A `PartCoder` that charges each content to its patience."""

    def __init__(self, coder: PartCoder[Any], patience: Patience) -> None:
        self._coder, self._patience = coder, patience
        self._last: weakref.ref[Content] | None = None
        self.identity, self.planes = coder.identity, coder.planes
        self.steps, self.calls, self.usual = coder.steps, coder.calls, coder.usual
        self.encode, self.finish, self.decode = coder.encode, coder.finish, coder.decode

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can.  Asking again for the same content charges nothing."""
        why = self._coder.refuses(content)
        if why is not None or (self._last is not None and self._last() is content):
            return why
        seconds = estimate(content.samples.size, self.calls)
        if seconds > self._patience.left:
            took = duration(seconds)
            return f"coding it would take an estimated {took}, which makes more than an hour in all; -f codes it"
        self._patience.left -= seconds
        self._last = weakref.ref(content)
        return None


def dense(restored: int, size: int, budget: Budget) -> bool:
    """Whether a reader with default limits would refuse to restore `restored` bytes from a file of `size` bytes."""
    return restored > min(budget.memory, MEMORY) // 2 and restored > DENSEST * size


def ballast(raw: int, size: int, before: tuple[int, int], budget: Budget) -> int:
    """How many of `raw` bytes to store uncompressed so that readers accept the file despite its density; 0: none.

    size: of the frame that holds them.  before: bytes restored and bytes of the file so far.
    """
    if not dense(before[0] + raw, before[1] + size, budget):
        return 0
    return min(raw, -(-(before[0] + raw) // DENSEST) - before[1])
