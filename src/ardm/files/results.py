"""Results and failures of files, and sizes in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ardm.codec.regions import PartCoder
from ardm.codec.report import FrameInfo, Report
from ardm.content import Kind
from ardm.errors import ArdmError, CodecError

WORDS = {Kind.BYTES: "plain bytes", Kind.IMAGE: "images", Kind.AUDIO: "audio", Kind.ARRAY: "arrays"}


@dataclass(frozen=True)
class FileResult:
    """The result of one file.

    source, target: None for a stream.  what: its kind and size in words.  source_bytes, target_bytes: sizes.
    report: of the encoder, where it ran.  why: why no model coded it.  notes: for the user.
    removed: whether the source was deleted.
    """

    source: Path | None
    target: Path | None
    what: str
    source_bytes: int
    target_bytes: int
    seconds: float
    report: Report | None = None
    why: str = ""
    notes: tuple[str, ...] = ()
    removed: bool = False


class Failures(ArdmError):  # noqa: N818
    """Some items of an archive failed.  done: results of the others.  errors: one per item, which it names."""

    def __init__(self, done: Sequence[FileResult], errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.done, self.errors = list(done), list(errors)


class DamagedItems(Failures, CodecError):  # noqa: N818
    """Failures, at least one of them damage."""


def failures(done: Sequence[FileResult], errors: Sequence[Exception]) -> Failures:
    """The error to raise where some items failed."""
    damaged = any(isinstance(error, CodecError) for error in errors)
    return (DamagedItems if damaged else Failures)(done, errors)


def counted(items: int, lines: bool) -> str:
    """The number of items of an archive, or of lines."""
    return f"{items} {'line' if lines else 'item'}{'s' * (items != 1)}"


def described(info: FrameInfo | Report, count: int = 1) -> str:
    """Kind and size in words; count: number of frames that the info sums up."""
    if count > 1:
        return f"{info.raw_bytes} bytes in {count} frames"
    C, H, W = info.shape
    if info.items is not None and (isinstance(info, FrameInfo) or info.items != 1):
        return counted(info.items, isinstance(info, FrameInfo) and info.lines)
    if info.kind == Kind.IMAGE:
        return f"{W}x{H}x{C}"
    if info.kind == Kind.AUDIO:
        return f"{W}x{C} samples"
    return f"{info.raw_bytes} bytes"


def why_stored(coder: PartCoder[Any] | None, kind: Kind, report: Report) -> str:
    """Why no model coded a content of this kind; "" where one did, or where the content is empty."""
    if not report.stored or not report.raw_bytes:
        return ""
    if coder is None:
        return f"no bundled model suits {WORDS[kind]}"
    return report.refused or "the model would have needed more"


_SUMMED = ("samples", "raw_bytes", "file_bytes", "header_bytes", "regions")


def overview(infos: Sequence[FrameInfo]) -> FrameInfo:
    """All frames of a file as one; differing fields are left out, or joined by "+".  Only bytes have several frames."""
    first, *more = infos
    if not more:
        return first
    C, H, _ = first.shape
    sums = {name: sum(getattr(info, name) for info in infos) for name in _SUMMED}
    methods = sum((Counter(info.methods) for info in infos), Counter[str]())
    models = "+".join(dict.fromkeys(info.model for info in infos if info.model))
    calls = {info.calls for info in infos if info.model}
    return replace(
        first, shape=(C, H, sum(info.shape[2] for info in infos)), methods=dict(methods), model=models,
        calls=calls.pop() if len(calls) == 1 else 0, schedule=(), content_check=None,
        origin=first.origin if all(info.origin == first.origin for info in infos) else "",
        coded=any(info.coded for info in infos), check=min(info.check for info in infos), **sums,
    )  # fmt: skip


def total(reports: Sequence[Report]) -> Report:
    """All frames of a file as one report."""
    first, *more = reports
    for report in more:
        methods = Counter(first.methods) + Counter(report.methods)
        sums = {name: getattr(first, name) + getattr(report, name) for name in _TOTALLED}
        C, H, W = first.shape
        first = replace(first, shape=(C, H, W + report.shape[2]), methods=methods, **sums)
    return first


_TOTALLED = (*_SUMMED, "original_bytes", "bits", "seconds")
