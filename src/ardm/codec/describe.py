"""The facts that a file states about itself, without decoding a sample.

NumPy, no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import BinaryIO

from ardm.codec.archive import Archive
from ardm.codec.binary import Reader
from ardm.codec.header import Limits
from ardm.codec.pieces import Place, about_of, bare_place, info_of, next_header
from ardm.codec.report import FrameInfo
from ardm.content import Kind


def describe(file: BinaryIO | bytes, bare: bool = False) -> list[FrameInfo]:
    """The facts that each frame of a file states about itself; an archive counts as one.  bare: it is a bare frame.

    No limits apply: a file that is too large to decode here can still be described.  Of an archive, the headers of all
    items are read.  Raises CodecError where a header is damaged.
    """
    reader, found = Reader.open(file), list[FrameInfo]()
    if bare:
        start = reader.at
        header, place = bare_place(reader)
        return [info_of(place, header, start)]
    while not found or reader.left:
        start = reader.at
        header = next_header(reader, found[-1].kind if found else None)
        if header.form is None or header.items is not None:
            reader.at = start
            return [_archive_info(Archive(reader, Limits()))]
        place = Place(header.form, 0, reader, *about_of(header.form, reader), frame=True)
        found.append(info_of(place, header, start))
    return found


_SUMMED = ("regions", "samples", "raw_bytes", "header_bytes")
"""The facts about an archive that are sums of those about its items."""
_MIXED = FrameInfo(None, (0, 0, 0), False, "", 0, "", {}, "", 0, 0, 0, None, 0, 0, 0, 0, {})


def _archive_info(archive: Archive) -> FrameInfo:
    """The facts about an archive, from the headers of its items, one after another: there may be millions."""
    items, names, size = len(archive), archive.names, archive.file_bytes
    mixed = _MIXED if archive.lines is None else replace(_MIXED, kind=Kind.BYTES)
    common, methods, sums = archive.info(0) if archive.uniform else mixed, Counter[str](), Counter[str]()
    for item in range(items):
        info = archive.info(item)
        methods.update(info.methods)
        sums.update({name: getattr(info, name) for name in _SUMMED})
    return replace(
        common, items=items, names=names, lines=archive.lines is not None, methods=dict(sorted(methods.items())), content_check=None, model=archive.model,
        calls=archive.calls, coded=bool(archive.model), check=archive.check, file_bytes=size, regions=sums["regions"],
        samples=sums["samples"], raw_bytes=sums["raw_bytes"], header_bytes=archive.header_bytes + sums["header_bytes"],
    )  # fmt: skip
