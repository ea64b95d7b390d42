"""What is let in: files of ours, within limits on memory, pixels and time, before anything is allocated for them.

Headers are read and nothing else.  What a person may lift says by which option.  NumPy-free, torch-free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from ardm import frames
from ardm.container import MAGIC, Limits, foreign
from ardm.content import Kind
from ardm.errors import ArdmError, CodecError
from ardm.frames import FrameInfo

PATIENCE = 3600.0
"""Seconds of decoding, by estimate, that are not started without being forced."""
SECONDS_A_SAMPLE, SECONDS_A_CALL = 3e-5, 2e-7
"""What decoding takes for each sample that a model codes, and for each network call a sample: two cores, no GPU."""
FEW_CALLS, SECONDS_A_STEP = 100, 1e-3
"""Calls beyond which an item is no more work, since each site is asked once, but as many steps one after the other."""
NETWORK = 600 << 20
"""Bytes that a network takes, with what runs it."""
COPIES = 3
"""How often samples are held at once: as they are decoded, as they are laid out, and as a file."""
UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62)
"""Of one's own files, and of those that `admit` has let in."""


@dataclass(frozen=True)
class Budget:
    """What a reader is willing to spend on one file.

    memory: bytes.  pixels: of one picture.  force: go on beyond PATIENCE, but not beyond the other two.
    """

    memory: int = 2 << 30
    pixels: int = 1 << 28
    force: bool = False


def estimate(samples: int, calls: int) -> float:
    """Seconds that decoding takes, roughly."""
    work = samples * (SECONDS_A_SAMPLE + min(calls, FEW_CALLS) * SECONDS_A_CALL)
    return work + max(0, calls - FEW_CALLS) * SECONDS_A_STEP if calls else 0.0


def memory(info: FrameInfo) -> int:
    """Bytes that decoding a frame or an item takes, roughly."""
    return COPIES * info.raw_bytes + sum(info.about.values()) + (NETWORK if info.model else 0)


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


def admit(infos: Iterable[FrameInfo], budget: Budget) -> None:
    """Raise ArdmError for frames or items that claim more than the budget; it says what would lift the limit."""
    seconds = 0.0
    for info in infos:
        _, H, W = info.shape
        if info.kind == Kind.IMAGE and budget.pixels < H * W:
            raise ArdmError(
                f"this file claims {W}x{H} pixels, and the limit is {budget.pixels}; --max-pixels {H * W} lets it in"
            )
        if memory(info) > budget.memory:
            raise ArdmError(
                f"this file claims {amount(info.raw_bytes)} of samples, for which some {amount(memory(info))} of memory "
                f"are needed, and the limit is {amount(budget.memory)}; -M {(memory(info) >> 20) + 1}MiB lets it in"
            )
        seconds += estimate(info.samples, info.calls)
    if seconds > PATIENCE and not budget.force:
        raise ArdmError(f"decoding this file takes {duration(seconds)}, by estimate; -f starts it all the same")


def admitted(file: BinaryIO, budget: Budget, ours: bool) -> list[FrameInfo]:
    """What each frame of a file says about itself, all of it within the budget; the file is left where it was.

    Of an archive only the overview, which obeys no budget: see `archives`.  Raises ArdmError, CodecError.
    """
    refuse_foreign(file, ours)
    at = file.tell()
    infos = frames.describe(file)
    file.seek(at)
    if infos[0].items is None:
        admit(infos, budget)
    return infos
