"""Regions and parts: how a content is cut, who codes a part, and what each check covers.

A content is cut into regions, and the planes of a region into parts: groups of as many planes as the model has, and
what is left over one by one.  A `PartCoder` is a model that codes parts.

NumPy, no torch.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from ardm.codec.header import Form, Shape
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError
from ardm.exact.planned import Steps

SQUARE = 10
"""Span of the regions of images: squares of side 2^10."""
CODED_RUN = 16
"""Span of the regions of a content with one row that a model codes: runs of 2^16 samples."""
STORED_RUN = {Kind.BYTES: 22, Kind.IMAGE: 22, Kind.AUDIO: 20, Kind.ARRAY: 22}
"""Span of the regions of a content with one row that is stored, by kind; LZMA2 looks back 2^22 bytes."""
WAITING = 1 << 26
"""The most bytes of regions without a job that wait behind a region with one."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the amount done and the total: samples of a frame, items of an archive."""
Job = TypeVar("Job")
Result = TypeVar("Result")
R = TypeVar("R")


class Coded(Protocol):
    """One part as a model codes it, before any byte is written."""

    @property
    def bits(self) -> float:
        """The code length of the part, −log2 p."""
        ...


C = TypeVar("C", bound=Coded)


class PartCoder(Protocol[C]):
    """A model with a number of network calls, which codes parts (c, h, w) alike on every machine.

    identity: SHA-256 of the model, 64 hex digits.  steps: the network calls, or their schedule where the model holds none
    of that many; 0 if its order follows from the size.  calls: how many these are.  usual: whether these are the model's own
    choice.  planes: M, the planes of a full part; the planes left over when a content's planes are grouped by M come as parts of one plane.
    The first byte of a stream, of which there is one at least, is never 0; streams of `ardm.ans` satisfy this.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def steps(self) -> Steps: ...  # noqa: D102
    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def usual(self) -> bool: ...  # noqa: D102
    @property
    def planes(self) -> int: ...  # noqa: D102

    def refuses(self, content: Content) -> str | None:
        """The reason this content cannot be coded, in a few words; None if it can."""
        ...

    def encode(self, jobs: Iterable[Sequence[Samples]]) -> Iterator[Sequence[C]]:
        """Encode jobs, each the parts of one region; yield one entry per part, in the order of the jobs.

        jobs is lazy: take no more at once than you work on together, from one thread at a time.  Parts are views; do
        not change them.
        """
        ...

    def finish(self, coded: Sequence[C], check: int, bits: int) -> bytes:
        """The stream of some parts of one job, in order; check: 32, 16, 8 or 0 bits that the decoder gets back."""
        ...

    def decode(
        self, jobs: Iterable[tuple[bytes, Sequence[Shape]]], bits: int
    ) -> Iterator[tuple[Sequence[Samples], int]]:
        """Decode jobs, each a stream and the shapes of its parts, to the parts and the check.  Lazy, in order.

        Raises CodecError where a stream ends early or late.
        """
        ...


@runtime_checkable
class Previews(Protocol):
    """A `PartCoder` that also decodes the front of a stream: the first digits of every value.

    digits: of a value, S.
    """

    @property
    def digits(self) -> int: ...  # noqa: D102

    def preview(
        self, jobs: Iterable[tuple[bytes, Sequence[Shape]]], digits: int
    ) -> Iterator[tuple[Sequence[Samples], int]]:
        """Like `decode`, from streams that may lack their end, and without a check; digits: 1 to S − 1."""
        ...


Models: TypeAlias = Callable[[str, Steps], PartCoder[Any]]
"""Finds a coder by the first 4 hex digits of its identity ("" for a bare frame) and its steps (0: its own choice); raises ModelMissing."""


def parts(channels: int, planes: int) -> list[slice]:
    """The planes of a content in groups of `planes`, and the planes left over one by one."""
    whole = channels - channels % planes
    return [slice(a, a + planes) for a in range(0, whole, planes)] + [slice(a, a + 1) for a in range(whole, channels)]


def span_of(content: Content, model: bool) -> int:
    """The span of the regions of a content; model: whether a model codes it."""
    if content.shape[1] > 1:
        return SQUARE
    return CODED_RUN if model else STORED_RUN[content.kind]


def parts_of(content: Content, planes: int) -> list[Samples]:
    """All parts of a content, region after region, as a model with this number of planes codes them."""
    boxes = Form.of(content, True, span_of(content, True)).boxes()
    sections = parts(content.shape[0], planes)
    return [content.samples[section, y : y + h, x : x + w] for y, x, h, w in boxes for section in sections]


def through(
    regions: Iterable[R],
    job: Callable[[R], Job | None],
    run: Callable[[Iterable[Job]], Iterator[Result]] | None,
    size: Callable[[R], int],
) -> Iterator[tuple[R, Result | None]]:
    """Yield each region, in order, with the result of its job; regions without a job bypass `run`.

    A region waits only for earlier ones, and at most WAITING bytes of regions wait.  size: bytes of a region.
    """
    if run is None:
        for region in regions:
            if job(region) is not None:
                raise CodecError("damaged file: a region needs a model, and its header names none")
            yield region, None
        return
    waiting: deque[tuple[R, bool]] = deque()
    rest, more = iter(regions), True

    def jobs() -> Iterator[Job]:
        nonlocal more
        held = 0
        for region in rest:
            made = job(region)
            waiting.append((region, made is not None))
            if made is not None:
                yield made
                continue
            held += size(region)
            if held > WAITING:
                return  # let the run finish what it has, then start another
        more = False

    while more:
        for result in run(jobs()):
            while not waiting[0][1]:
                yield waiting.popleft()[0], None
            yield waiting.popleft()[0], result
        while waiting:
            region, has_job = waiting.popleft()
            if has_job:
                raise ArdmError("the coder of the model gave fewer results than it was given jobs")
            yield region, None


def crc_of(x: Samples, before: int = 0) -> int:
    """CRC-32 of samples in the order (C, H, W), continued from `before`."""
    return zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, before)


def content_crc(identity: str, form: Form, steps: Steps, about: bytes, item: int) -> int:
    """CRC-32 of what every check of a content covers: model identity, form, steps, about block and item number."""
    before = bytes.fromhex(identity) if form.model else b""
    return zlib.crc32(before + form.describe(steps) + about + item.to_bytes(8, "little"))


def region_crc(base: int, region: int) -> int:
    """The CRC-32 of `content_crc`, continued by the number of a region."""
    return zlib.crc32(region.to_bytes(8, "little"), base)
