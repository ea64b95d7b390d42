"""One file in: read, compressed, decoded again, compared, and only then named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ardm.atomic import refuse_source, write_whole
from ardm.codec import decode, encode
from ardm.codec.report import Report
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.files.limits import UNLIMITED, Patience, amount, ballast
from ardm.files.load import Loaded, compare, load
from ardm.files.options import FileOptions, finish, opened
from ardm.files.paths import compressed_path, path_of
from ardm.files.results import FileResult, described, total, why_stored
from ardm.files.streams import Sink, put


def compress_file(
    source: Path | BinaryIO, target: Path | Sink | None = None, options: FileOptions | None = None
) -> FileResult:
    """Compress a file or a stream, decode the result, compare, and only then name it.

    target: a file, a folder or a stream; by default the name of the source with .ardm appended.
    A file that is kept byte for byte becomes several frames of at most `options.chunk` bytes.
    Raises ArdmError where the source cannot be read, or the target exists or cannot be written.
    """
    options, began = options or FileOptions(), time.perf_counter()
    if isinstance(source, Path):
        refuse_source(source)  # first, because paths such as . and / have no name
    if isinstance(source, Path) and (target is None or isinstance(target, Path)):
        target = compressed_path(source, target)
    if target is None:
        raise ArdmError("standard input has no name; name the result with -o")
    with opened(source, target, options) as (file, before):
        encoder = _Encoder(options, source.name if isinstance(source, Path) else "")
        if isinstance(target, Path):
            check = partial(encoder.verify, f"{target} was not written") if options.verify else None
            write_whole(target, lambda new: encoder.write(file, new), options.force, check, before)
            options.take(target)
        else:
            for data in encoder.frames(file):
                if options.verify:
                    encoder.verify("nothing more was written", BytesIO(data))
                put(target, data)
    removed, more = finish(source, before, options, encoder.spared)
    report = total(encoder.reports)
    return FileResult(
        path_of(source), path_of(target), described(report, len(encoder.reports)), encoder.read, report.file_bytes,
        time.perf_counter() - began, report, encoder.why, (*encoder.notes, *more), removed,
    )  # fmt: skip


class _Encoder:
    """Encodes one source frame by frame, and remembers what the frames have to decode to.

    reports: one per frame.  read: bytes taken from the source.  notes: for the user.  spared: why the source must not
    be deleted.  why: why no model coded it.
    """

    def __init__(self, options: FileOptions, name: str = "") -> None:
        self.reports, self.read, self.notes, self.spared, self.why = list[Report](), 0, list[str](), "", ""
        self._options, self._name, self._expected = options, name, list[set[bytes]]()
        self._patience, self._written = Patience(options.budget), (0, 0)

    def frames(self, file: BinaryIO) -> Iterator[bytes]:
        """Encode the source; yields one frame after the other."""
        for loaded in load(file, self._options, self._name):
            coder = self._patience.coder(self._options.engine.coder(loaded.content))
            original = loaded.data if loaded.original else None
            options = self._options
            data, report = encode.compress(
                loaded.content, coder, original, options.phase("encoding"), options.check, options.bare
            )
            raw = ballast(report.raw_bytes, len(data), self._written, options.budget)
            if options.bare and (raw or self.reports):
                raise ArdmError("this file needs several frames, and a bare file has one; leave out --bare")
            if raw and loaded.content.kind == Kind.BYTES:
                yield from self._ballasted(loaded, raw)
                continue
            self._add(loaded, report, why_stored(coder, loaded.content.kind, report))
            yield data

    def _ballasted(self, loaded: Loaded, raw: int) -> Iterator[bytes]:
        """Store the first `raw` bytes uncompressed: a reader would take a denser file for an attack."""
        check = self._options.check
        for part, pack in ((loaded.data[:raw], encode.plain), (loaded.data[raw:], encode.compress)):
            if part:
                data, report = pack(Content.of_bytes(part), check=check)
                self._add(replace(loaded, content=Content.of_bytes(part), data=part), report, "")
                yield data

    def _add(self, loaded: Loaded, report: Report, why: str) -> None:
        restored, size = self._written
        self._written = restored + report.raw_bytes, size + report.file_bytes
        most = self._options.budget.output
        if 0 < most < self._written[0]:
            raise ArdmError(
                f"restoring it would write more than the limit of {amount(most)}; a larger --max-output allows it"
            )
        self.reports.append(report)
        self._expected.append(loaded.fingerprints())
        self.read += len(loaded.data)
        self.notes += loaded.notes
        self.why = why
        lost = loaded.lost(report)
        if lost:
            self.spared = f"restoring will not bring back its {', '.join(lost)}"
            self.notes.append(self.spared)

    def write(self, file: BinaryIO, new: Path) -> None:
        """Write all frames to a file."""
        with new.open("wb") as out:
            for data in self.frames(file):
                out.write(data)

    def verify(self, failure: str, written: Path | BinaryIO) -> None:
        """Decode the frames written since the last call; raises ArdmError unless they equal what was read."""
        expected, self._expected = self._expected, []
        with written.open("rb") if isinstance(written, Path) else written as file:
            progress = self._options.phase("verifying")
            options = self._options
            found = decode.frames(file, options.engine.models, UNLIMITED, progress, options.bare)
            compare(failure, found, expected)
