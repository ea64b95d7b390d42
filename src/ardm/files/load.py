"""Read a file as contents: one image, sound or array, or bytes in chunks, with notes on anything not understood.

No file fails because of its content: one that looks like an image or a sound and cannot be read as such is kept byte
for byte, with a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from typing import BinaryIO

import numpy as np

from ardm import formats
from ardm.codec.binary import Reader
from ardm.codec.header import read_header
from ardm.codec.report import Report
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.files.limits import SOURCE, amount, mebibytes
from ardm.files.options import FileOptions
from ardm.files.streams import read_up_to

HEAD = 512
"""Bytes that hold the whole header of an ardm file."""


@dataclass(frozen=True)
class Loaded:
    """A content, the bytes of its file, notes, and metadata that restoring will not bring back.

    original: whether the file may be kept instead of the content, if it is shorter.
    """

    content: Content
    data: bytes
    original: bool = True
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def fingerprints(self) -> set[bytes]:
        """Fingerprints of what it may decode to: the content, or the bytes of the file."""
        bytes_of = Content.of_bytes(self.data, self.content.origin)
        return {fingerprint(self.content)} | ({fingerprint(bytes_of)} if self.original else set())

    def lost(self, report: Report) -> tuple[str, ...]:
        """Metadata that the file of a report lacks."""
        return self.dropped if report.kind == self.content.kind else ()


def load(file: BinaryIO, options: FileOptions, name: str = "") -> Iterator[Loaded]:
    """Read a file or stream: yields one content, or bytes in chunks for a large file or where the limits require it.

    Never reads more at once than the limits allow, and never decodes a file that claims more than that.
    """
    chunk = options.budget.chunk(options.chunk)
    size = _left(file)
    data = read_up_to(file, HEAD if size is not None else chunk + 1)
    if not options.force and _is_compressed(data[:HEAD]):
        raise ArdmError("this is already an .ardm file; -f compresses it again")
    looks, notes = "" if options.exact else formats.sniff(data[:64]), tuple[str, ...]()
    if size is not None:
        file.seek(-len(data), 1)
        data, header = b"", file
    else:
        header = BytesIO(data)
        size = len(data) if len(data) <= chunk else None
    if looks:
        most, why = _limit(header, looks, size, options)
        data += read_up_to(file, max(0, most + 1 - len(data))) if not why else b""
        if not why and len(data) <= most:
            yield parse(data, options, name)
            return
        notes = (f"{looks.upper()}: {why or _too_large(most, options)}: kept byte for byte",)
    data += read_up_to(file, max(0, chunk + 1 - len(data)))
    if not looks and len(data) <= chunk:
        yield parse(data, options, name)
        return
    while data:
        part, data = data[:chunk], data[chunk:]
        yield Loaded(Content.of_bytes(part), part, True, notes)
        data += read_up_to(file, max(0, chunk - len(data)))
        notes = ()


def parse(data: bytes, options: FileOptions, name: str = "") -> Loaded:
    """Parse the bytes of a file; its name may help."""
    if options.exact:
        looks = formats.sniff(data[:64])
        return Loaded(Content.of_bytes(data, looks if looks in ORIGINS else ""), data)
    read = formats.read(data, name, options.strip, options.budget.refuses)
    if read.content.kind != Kind.BYTES and not rebuilt(read.content, data, options.strip):
        note = "it could not be rebuilt exactly: kept byte for byte"
        return Loaded(Content.of_bytes(data), data, True, (note,))
    original = read.content.kind == Kind.BYTES or not options.strip
    return Loaded(read.content, data, original, read.notes, read.dropped)


def rebuilt(content: Content, data: bytes, strip: bool) -> bool:
    """Whether rendering a content gives back its file: byte for byte, or at least everything that its reader reads."""
    if content.origin in formats.BYTE_FOR_BYTE and not strip:
        return True  # its reader has already compared the bytes
    try:
        again = formats.render(content)
    except ArdmError:
        return False
    return again == data or fingerprint(formats.read(again).content) == fingerprint(content)


def _is_compressed(head: bytes) -> bool:
    """Whether a file begins with the whole header of an ardm file: two bytes alone may be chance."""
    try:
        read_header(Reader.open(head))
    except CodecError:
        return False
    return True


def _left(file: BinaryIO) -> int | None:
    """The number of bytes left in a file; None for a stream."""
    if not file.seekable():
        return None
    at = file.tell()
    size = file.seek(0, 2) - at
    file.seek(at)
    return size


def _limit(header: BinaryIO, looks: str, size: int | None, options: FileOptions) -> tuple[int, str]:
    """The most bytes of a file of a known format to read at once, and why it is kept byte for byte ("" if it is not).

    size: of the file, if known.
    """
    known = 1 << 62 if size is None else size
    if looks in formats.PACKED and known > options.budget.chunk(options.chunk):
        return 0, f"{looks.upper()} images are already compressed"
    claimed = formats.claim(header, looks, known)
    why = options.budget.refuses(claimed, 0) if claimed is not None else ""
    most = options.budget.whole(claimed)
    return most, why or (_too_large(most, options, size) if size is not None and size > most else "")


def _too_large(most: int, options: FileOptions, size: int = 0) -> str:
    """Why a file of more than `most` bytes is not read at once."""
    memory = options.budget.memory
    lift = f"; -M {mebibytes(memory + SOURCE * (size - most))} reads it" * bool(size)
    return f"it has more than the {amount(most)} that {amount(memory)} of memory allow{lift}"


# --- comparing --------------------------------------------------------------------------------------------------------


def fingerprint(content: Content) -> bytes:
    """SHA-256 of everything in a content."""
    c = content
    about = (int(c.kind), c.origin, c.rate, c.layout, c.shape, c.is_16bit, sorted(c.about.items()))
    digest = hashlib.sha256(repr(about).encode())
    digest.update(c.samples.reshape(-1).view(np.uint8).data)
    return digest.digest()


def compare(failure: str, contents: Iterable[Content], expected: Sequence[set[bytes]]) -> None:
    """Raise ArdmError unless the contents, in order, have the expected fingerprints."""
    try:
        for content, wanted in zip_longest(contents, expected):
            if content is None or not wanted or fingerprint(content) not in wanted:
                raise ArdmError(f"{failure}: it decodes to different data; please report this")
    except CodecError as error:
        raise ArdmError(f"{failure}: it does not decode ({error}); please report this") from None
