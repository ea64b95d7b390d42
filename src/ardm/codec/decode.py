"""Frames to contents, every check verified before a content is handed out.

    decompress(file, models)        → the content of a file
    decompress_many(files, models)  → the content of each of many small files, decoded together
    frames(file, models)            → the contents of its frames, one after another

Regions pass through the coder one after another, and lazily, as in `encode`.

NumPy, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from ardm.codec.binary import Reader
from ardm.codec.fallback import restore
from ardm.codec.header import Form, Header, Limits, Method, Shape, short
from ardm.codec.pieces import Place, about_of, bare_place, methods_of, next_header, pieces_of
from ardm.codec.regions import Models, PartCoder, Previews, Progress, content_crc, crc_of, parts, region_crc, through
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.planned import Steps


@dataclass
class _Decoding:
    """A content being decoded.  left: regions still to come.  check: of all samples, if there is one."""

    place: Place
    samples: Samples
    left: int
    check: int | None


@dataclass
class _Region:
    """A region being decoded: samples x (C, h, w) to fill from a piece.  coded: the parts that its stream holds."""

    owner: _Decoding
    x: Samples
    piece: Reader
    coded: list[slice] = field(default_factory=list)


def frames(
    file: BinaryIO | bytes,
    models: Models,
    limits: Limits = Limits(),
    progress: Progress | None = None,
    bare: bool = False,
    digits: int = 0,
) -> Iterator[Content]:
    """Decode the frames of a file, one after another; raises as `decompress` does.  bare: it is a bare frame.

    digits: a preview by so many digits of each value, from the front of each stream, whose check stays unverified; 0:
    all of them.  Raises ArdmError where the model has no more digits, or there is none.
    """
    reader, before = Reader.open(file), None
    if bare:
        yield _bare(reader, models, limits, progress, digits)
        return
    while before is None or reader.left:
        header, place = _placed(reader, before)
        limits.refuse(place.form, header.calls)
        coder = coder_of(models, header) if place.form.model else None
        yield _content(place, coder, progress, digits)
        before = place.form.kind


def _placed(reader: Reader, before: Kind | None) -> tuple[Header, Place]:
    """The header of the first frame of a file, or of one after a frame of kind `before`, and where to read its content."""
    header = next_header(reader, before)
    form = header.form
    if form is None or header.items is not None:
        raise ArdmError(f"this file is an archive of {header.items} items; read it with ardm.open_archive")
    return header, Place(form, 0, reader, *about_of(form, reader), frame=True)


def _bare(reader: Reader, models: Models, limits: Limits, progress: Progress | None, digits: int) -> Content:
    """The content of a bare frame, whose model has no name."""
    header, place = bare_place(reader)
    limits.refuse(place.form, header.calls)
    coder = _bare_coder(models, header, place.form, limits) if place.form.model else None
    try:
        return _content(place, coder, progress, digits)
    except CodecError as error:
        raise type(error)(f"{error}; or another model made it, or this file is not bare") from None


def _bare_coder(models: Models, header: Header, form: Form, limits: Limits) -> PartCoder[Any]:
    """The coder of a bare frame; the limits apply to the calls that it makes, which the frame may leave out."""
    coder = models("", header.steps)
    limits.refuse(form, coder.calls)
    return coder


def _content(place: Place, coder: PartCoder[Any] | None, progress: Progress | None, digits: int) -> Content:
    """The content of a frame."""
    if digits:
        _refuse_preview(coder, digits)
    done, found = 0, list[Content]()
    for samples, content in decode_places([place], coder, place.form.check, digits):
        done += samples
        if progress is not None:
            progress(done, place.form.samples)
        found += [content] if content is not None else []
    return found[0]


def _refuse_preview(coder: PartCoder[Any] | None, digits: int) -> None:
    """Raise ArdmError where the first digits of values are no preview."""
    if coder is None:
        raise ArdmError("no model coded this file, so that it has no preview by digits; restore all of it")
    if not isinstance(coder, Previews) or coder.digits == 1:
        raise ArdmError(
            "the model of this file codes values whole, in one digit: there is no preview; restore all of it"
        )
    if not 1 <= digits < coder.digits:
        raise ArdmError(
            f"the model of this file codes {coder.digits} digits a value; a preview reads 1 to {coder.digits - 1}, got {digits}"
        )


def decompress(
    file: BinaryIO | bytes,
    models: Models,
    limits: Limits = Limits(),
    bare: bool = False,
    digits: int = 0,
) -> Content:
    """Decode a file; several frames of bytes are joined, and together obey max_bytes.

    bare: it is a bare frame, and models("", steps) is the model that made it.  digits: a preview, as in `frames`.

    Raises CodecError where the file is damaged, foreign or beyond limits, its subclasses ModelMissing and Unsupported
    where it cannot be read here, and ArdmError for an archive.
    """
    contents, size = [], 0
    for content in frames(file, models, limits, bare=bare, digits=digits):
        contents.append(content)
        size += content.raw_bytes
        if size > limits.max_bytes:
            raise CodecError(
                f"this file holds more than the limit max_bytes = {limits.max_bytes}; raise it to continue"
            )
    if len(contents) == 1:
        return contents[0]
    origins = {content.origin for content in contents}
    together = np.concatenate([content.samples for content in contents], axis=2)
    return Content(Kind.BYTES, together, origins.pop() if len(origins) == 1 else "")


# --- many files -------------------------------------------------------------------------------------------------------


def decompress_many(
    files: Sequence[bytes], models: Models, limits: Limits = Limits(), bare: bool = False
) -> list[Content]:
    """Decode many small files; those of one model pass through it together, which takes far less time.

    bare: they are bare frames, as in `decompress`.  Raises as `decompress` does, with the number of the first file that
    cannot be decoded.
    """
    groups: dict[tuple[str, Steps, bool, int], list[tuple[int, Header, Place]]] = {}
    for number, file in enumerate(files):
        with numbered(number):
            reader = Reader.open(file)
            header, place = bare_place(reader) if bare else _placed(reader, None)
            limits.refuse(place.form, header.calls)
        key = (header.model, header.steps, place.form.model, place.form.check)
        groups.setdefault(key, []).append((number, header, place))
    found = dict[int, Content]()
    for group in groups.values():
        with suppress(ArdmError):  # one of them is damaged; below, each alone says which
            for number, content in _decoded_together(group, models, limits, bare):
                found[number] = content
    for number, file in enumerate(files):
        if number not in found:
            with numbered(number):
                found[number] = decompress(file, models, limits, bare=bare)
    return [found[number] for number in range(len(files))]


def _decoded_together(
    group: Sequence[tuple[int, Header, Place]], models: Models, limits: Limits, bare: bool
) -> Iterator[tuple[int, Content]]:
    """Number and content of files of one model, steps and check; not of those that hold more than one frame."""
    _, header, first = group[0]
    coder = None
    if first.form.model:
        largest = max((place.form for _, _, place in group), key=lambda form: form.samples)
        coder = _bare_coder(models, header, largest, limits) if bare else coder_of(models, header)
    contents = decode_places((place for _, _, place in group), coder, first.form.check)
    whole = (content for _, content in contents if content is not None)
    return ((number, content) for (number, _, place), content in zip(group, whole, strict=True) if not place.file.left)


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Name one of many items in error messages by its number."""
    try:
        yield
    except ArdmError as error:
        raise type(error)(f"item {number}: {error}") from None


# --- models -----------------------------------------------------------------------------------------------------------


def coder_of(models: Models, header: Header) -> PartCoder[Any]:
    """The coder that a header names; raises ModelMissing."""
    coder = models(header.model, header.steps)
    if short(coder.identity) != header.model:
        raise ModelMissing(f"this file was made by model {header.model}; got {short(coder.identity)}")
    if coder.steps != header.steps:
        raise ModelMissing(f"this file was made in {header.calls} calls; the model makes {coder.calls}")
    return coder


# --- regions ----------------------------------------------------------------------------------------------------------


def decode_places(
    places: Iterable[Place], coder: PartCoder[Any] | None, check: int, digits: int = 0
) -> Iterator[tuple[int, Content | None]]:
    """Decode contents region by region; yield the samples of each region, and the content after its last, verified.

    check: the bits of all their checks.  digits: a preview, as in `frames`, which cannot be verified.
    """

    def regions() -> Iterator[_Region]:
        for place in places:
            yield from _cut(place, coder)

    run = None if coder is None else _blaming_the_file(coder, check, digits)
    for region, result in through(regions(), lambda region: _job(region, coder), run, lambda region: region.x.nbytes):
        if result is not None:
            _fill(region, result[0])
            if not digits:
                _verify(region, region.piece.crc, result[1])
        owner = region.owner
        owner.left -= 1
        yield region.x.size, None if owner.left else _finished(owner, not digits)


def _cut(place: Place, coder: PartCoder[Any] | None) -> Iterator[_Region]:
    """The regions of a content and their pieces."""
    form, (steps, identity) = place.form, (coder.steps, coder.identity) if coder is not None else (0, "")
    pieces, check = pieces_of(place)
    owner = _Decoding(place, _allocate(form), form.regions, check)
    base = content_crc(identity, form, steps, place.block, place.item)
    for k, ((y, x, h, w), piece) in enumerate(zip(form.boxes(), pieces, strict=True)):
        piece.crc = region_crc(base, k)
        yield _Region(owner, owner.samples[:, y : y + h, x : x + w], piece)


def _allocate(form: Form) -> Samples:
    """Memory for all samples; MemoryError passes through, since it does not mean damage."""
    return np.empty(form.shape, form.dtype)


def _job(region: _Region, coder: PartCoder[Any] | None) -> tuple[bytes, list[Shape]] | None:
    """Fill the stored parts of a region; return the stream of its coded parts and their shapes, None without any."""
    form, piece = region.owner.place.form, region.piece
    channels, h, w = region.x.shape
    sections = parts(channels, coder.planes if form.model and coder is not None else channels)
    methods = methods_of(form, piece)
    if len(methods) > len(sections):
        raise CodecError("damaged file: a piece has methods for more parts than there are")
    methods += [Method.CODED] * (len(sections) - len(methods))
    for section, method in zip(sections, methods, strict=True):
        if method == Method.CODED:
            region.coded.append(section)
        else:
            restore(method, piece, region.x[section])
    crc = piece.crc
    if region.coded:
        stream = piece.take(piece.left, "stream")
        piece.crc = crc  # the check is inside the stream
        return stream, [(s.stop - s.start, h, w) for s in region.coded]
    _verify(region, crc, int.from_bytes(piece.take(form.check // 8, "checksum"), "little"))
    piece.close("piece")
    return None


def _blaming_the_file(
    coder: PartCoder[Any], check: int, digits: int
) -> Callable[[Iterable[tuple[bytes, list[Shape]]]], Iterator[Any]]:
    """coder.decode, or its preview, with every ArdmError turned into a CodecError."""

    def run(jobs: Iterable[tuple[bytes, list[Shape]]]) -> Iterator[Any]:
        try:
            if digits and isinstance(coder, Previews):
                yield from coder.preview(jobs, digits)
            else:
                yield from coder.decode(jobs, check)
        except CodecError:
            raise
        except ArdmError as error:
            raise CodecError(f"damaged file: {error}") from None

    return run


def _fill(region: _Region, found: Sequence[Samples]) -> None:
    """Put decoded parts into their region."""
    top = np.iinfo(region.x.dtype).max
    for section, x in zip(region.coded, found, strict=True):
        if x.dtype != region.x.dtype and (x.min() < 0 or x.max() > top):
            raise CodecError(f"damaged file: its model decodes values up to {x.max()}, and its samples end at {top}")
        region.x[section] = x


def _verify(region: _Region, crc: int, check: int) -> None:
    """Raise CodecError unless the check of a region matches its samples; crc: of everything before them."""
    place = region.owner.place
    if int.from_bytes(place.form.checked(crc_of(region.x, crc)), "little") != check:
        where = "" if place.frame else f" in item {place.item}"
        raise CodecError(f"damaged file: the checksum of its samples does not match{where}")


def _finished(owner: _Decoding, verify: bool) -> Content:
    """The content, all regions of which are decoded.  Raises CodecError where the check of all samples differs."""
    form = owner.place.form
    if (
        verify
        and owner.check is not None
        and int.from_bytes(form.checked(crc_of(owner.samples)), "little") != owner.check
    ):
        raise CodecError("damaged file: the checksum of all its samples does not match")
    return Content(form.kind, owner.samples, form.origin, owner.place.about, form.rate, form.layout)
