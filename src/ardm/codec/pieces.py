"""A content in its file: its header, its about block, and its pieces, read but not decoded.

NumPy, no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ardm.codec.binary import Reader, check_bytes
from ardm.codec.header import Form, Header, Method, read_bare, read_header
from ardm.codec.index import read_about, read_lengths
from ardm.codec.report import FrameInfo, method_names
from ardm.content import Kind
from ardm.errors import CodecError, Unsupported


@dataclass
class Place:
    """Where to read a content.  file: at its body.  about: its block and entries.

    frame: whether it is one, and not an item.  last: whether no other frame may follow.
    """

    form: Form
    item: int
    file: Reader
    block: bytes
    about: Mapping[str, bytes]
    frame: bool = False
    last: bool = False


def about_of(form: Form, file: Reader) -> tuple[bytes, dict[str, bytes]]:
    """The about block of a form, as it stands in the file and unpacked; empty if it has none."""
    if not form.about:
        return b"", {}
    start = file.at
    about = read_about(file)
    return file.since(start), about


def pieces_of(place: Place) -> tuple[Iterator[Reader], int | None]:
    """The pieces of a content, one after another, and the check of all samples, if any; the file moves past them."""
    form, file = place.form, place.file
    if not form.span:
        length = file.varint("length") if place.frame and not place.last and form.kind == Kind.BYTES else file.left
        return iter([file.part(length, "piece")]), None
    file.crc = 0
    lengths = read_lengths(file, form.regions, "index of regions")
    crc = file.crc
    if file.take(4, "index of regions") != check_bytes(crc):
        raise CodecError("damaged file: the checksum of its index of regions does not match")
    block = file.part(int(lengths.sum()), "pieces")
    check = int.from_bytes(file.take(form.check // 8, "checksum"), "little") if form.check else None
    return (block.part(length, "piece") for length in lengths.tolist()), check


def methods_of(form: Form, piece: Reader) -> list[Method]:
    """The methods of the first parts of a piece, up to the last stored one; empty: all parts are coded."""
    if form.model:
        crc, first = piece.crc, piece.byte("piece")
        if first:  # the start of a stream, which the check does not cover
            piece.at, piece.crc = piece.at - 1, crc
            return []
    number, methods = piece.varint("methods"), []
    while number:
        if number & 15 > max(Method):
            raise Unsupported(f"part of this file is stored by method {number & 15}, which this version of ardm lacks")
        methods.append(Method(number & 15))
        number >>= 4
    if not methods or (not form.model and (len(methods) > 1 or methods == [Method.CODED])):
        raise CodecError("damaged file: the methods of a piece contradict its header")
    return methods


def next_header(reader: Reader, before: Kind | None) -> Header:
    """The header of the first frame of a file, or of one that follows a frame of kind `before`."""
    if before is None:
        return read_header(reader)
    follow = f"damaged file: {reader.left} bytes follow its end"
    if before != Kind.BYTES:
        raise CodecError(f"{follow}; only frames of bytes may follow one another")
    try:
        header = read_header(reader)
    except Unsupported:
        raise
    except CodecError:
        raise CodecError(f"{follow}, and they are not a frame") from None
    if header.form is None or header.items is not None or header.form.kind != Kind.BYTES:
        raise CodecError(f"{follow}; only frames of bytes may follow one another")
    return header


def bare_place(file: Reader) -> tuple[Header, Place]:
    """The header of a bare frame, and where to read its content."""
    header = read_bare(file)
    assert header.form is not None
    return header, Place(header.form, 0, file, *about_of(header.form, file), frame=True, last=True)


def sizes_of(about: Mapping[str, bytes]) -> dict[str, int]:
    """The sizes of the entries of an about block, by name."""
    return {name: len(value) for name, value in about.items()}


def info_of(place: Place, header: Header, start: int, about: Mapping[str, int] | None = None) -> FrameInfo:
    """The facts about a frame or an item that begins at byte `start`.

    about: the sizes of its about entries where many items share them: a block of 4,096 entries may belong to each of a
    million items.
    """
    form, seen, size_of_pieces = place.form, Counter[Method](), 0
    pieces, check = pieces_of(place)
    for piece in pieces:
        size_of_pieces += piece.left
        seen.update(set(methods_of(form, piece) or [Method.CODED]))
    if not place.frame:
        place.file.close("item")
    size = place.file.at - start
    return FrameInfo(
        kind=form.kind, shape=form.shape, is_16bit=form.is_16bit, origin=form.origin, rate=form.rate, layout=form.layout,
        about=sizes_of(place.about) if about is None else about,
        model=header.model if form.model else "", calls=header.calls if form.model else 0,
        regions=form.regions, items=None, names=None, samples=form.samples, raw_bytes=form.raw_bytes,
        file_bytes=size, header_bytes=size - size_of_pieces, methods=method_names(seen), content_check=check,
        check=form.check, coded=form.model, schedule=() if isinstance(header.steps, int) or not form.model else header.steps,
    )  # fmt: skip
