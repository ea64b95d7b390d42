"""Headers, indexes and directories: reading inverts writing, and every field is checked."""

import io
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.ans import CHECKS
from ardm.codec import index
from ardm.codec.binary import Reader, crc8, deflate, inflate, varint
from ardm.codec.header import MODEL_SITES, SPANS, Form, Header, foreign, read_bare, read_form, read_header
from ardm.codec.index import (
    LEAST_PIECE,
    name_fault,
    pack_about,
    pack_directory,
    pack_lengths,
    read_about,
    read_directory,
    read_lengths,
)
from ardm.codec.steps import MAX_CALLS
from ardm.content import LINE_ENDS, ORIGINS, Content, Kind, Lines, misfit
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported

QUICK = settings(deadline=None, max_examples=200)


# --- the smallest things ----------------------------------------------------------------------------------------------


@given(st.integers(0, (1 << 63) - 1))
def test_integers(n):
    data = varint(n)
    file = Reader.open(data + b"!")
    assert file.varint("number") == n
    assert file.left == 1
    assert len(data) == max(1, -(-n.bit_length() // 7))


@pytest.mark.parametrize("bad", [b"\x80\0", b"\xff" * 9, b"\x80" * 9 + b"\1", b"\xff", b""])
def test_integers_that_are_none(bad):
    with pytest.raises(CodecError):
        Reader.open(bad).varint("number")


@given(st.binary(min_size=1, max_size=40), st.data())
def test_the_checksum_of_a_header_finds_short_bursts(data, draw):
    """Code words are multiples of the polynomial; bursts of at most eight bits are not."""
    assert crc8(data + bytes([crc8(data)])) == 0
    at = draw.draw(st.integers(0, 8 * len(data)))
    burst = draw.draw(st.integers(1, 255)) << at
    word = int.from_bytes(data + bytes([crc8(data)]), "big") ^ burst
    assert word >> 8 * (len(data) + 1) or crc8(word.to_bytes(len(data) + 1, "big")) != 0


def test_the_checksum_is_the_one_of_the_page():
    assert crc8(b"123456789") == 0xF4  # CRC-8/SMBUS


@given(st.binary(max_size=200))
def test_deflated_bytes(data):
    assert inflate(deflate(data), len(data), "thing") == data
    if data:
        with pytest.raises(CodecError, match="more than"):
            inflate(deflate(data), len(data) - 1, "thing")
    for bad in (deflate(data)[:-1], deflate(data) + b"!", b""):
        with pytest.raises(CodecError, match="its thing"):
            inflate(bad, 200, "thing")


def test_a_reader_takes_what_is_there():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 2))

    file = Reader.open(Slow(b"abcdefgh"))
    assert (file.take(5, "start"), file.left, file.since(2)) == (b"abcde", 3, b"cd")
    inner = file.part(2, "part")
    assert (file.at, inner.left) == (7, 2)
    assert inner.take(2, "part") == b"fg"
    with pytest.raises(CodecError, match="damaged file: its part does not fit"):
        inner.take(1, "part")
    with pytest.raises(CodecError, match="truncated file: it ends in its end, at byte 8"):
        file.take(2, "end")
    with pytest.raises(CodecError, match="1 bytes too many"):
        file.close("end")
    with pytest.raises(CodecError):
        file.part(2, "end")


def test_a_file_that_shrinks_while_it_is_read():
    raw = io.BytesIO(b"abcdefgh")
    file = Reader.open(raw)
    raw.truncate(3)
    with pytest.raises(CodecError, match="truncated"):
        file.take(5, "start")


# --- contents ---------------------------------------------------------------------------------------------------------


def content(kind=Kind.IMAGE, shape=(3, 4, 5), dtype="u1", **kw):
    return Content(kind, np.zeros(shape, dtype), **kw)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: content(dtype="i4"), "uint8 or uint16; got int32"),
        (lambda: content(dtype="f4"), "uint8 or uint16"),
        (lambda: Content(Kind.BYTES, b"abc"), "got bytes"),
        (lambda: content(shape=(4, 5)), r"axes \(C, H, W\)"),
        (lambda: content(shape=(16, 4, 5)), "1 to 15 channels; got 16"),
        (lambda: content(shape=(0, 4, 5)), "got 0"),
        (lambda: content(shape=(3, 0, 5)), "at least one pixel"),
        (lambda: content(Kind.BYTES), r"\(1, 1, L\)"),
        (lambda: content(Kind.BYTES, (1, 1, 4), "u2"), "uint16"),
        (lambda: content(Kind.AUDIO), r"\(C, 1, L\)"),
        (lambda: content(Kind.ARRAY, (1, 0, 4), layout="x"), "H at least 1"),
        (lambda: content(rate=5), "a rate is for audio"),
        (lambda: content(Kind.AUDIO, (1, 1, 4), rate=1 << 32), "below 2"),
        (lambda: content(layout="x"), "a layout is for arrays"),
        (lambda: content(Kind.ARRAY), "layout"),
        (lambda: content(Kind.ARRAY, layout="x" * 256), "255"),
        (lambda: content(Kind.ARRAY, layout="ü"), "printable"),
        (lambda: content(origin="jpeg"), "'jpeg'"),
        (lambda: content(about={"No": b""}), "'No'"),
    ],
)
def test_contents_that_are_none(make, said):
    with pytest.raises(ArdmError, match=said):
        make()


def test_contents_are_equal_in_everything():
    about = {"icc": b"p"}
    base = content(about=about, origin="png")
    assert base == content(about=about, origin="png")
    assert base != "base"
    for other in (
        content(origin="png"), content(about=about), content(about=about, origin="png", shape=(3, 5, 4)),
        content(about=about, origin="png", dtype="u2"), content(Kind.ARRAY, about=about, origin="png", layout="x"),
    ):  # fmt: skip
        assert base != other
    big = Content(Kind.IMAGE, np.arange(60, dtype=">u2").reshape(3, 4, 5))
    assert big == Content(Kind.IMAGE, np.arange(60, dtype="<u2").reshape(3, 4, 5))
    assert big.samples.dtype == "<u2"
    assert Content(Kind.IMAGE, np.zeros((4, 5, 3), "u1").transpose(2, 0, 1)).samples.flags.c_contiguous
    for whole in (np.zeros((3, 4, 5), "u1"), np.zeros((3, 4, 5), "<u2")):
        assert np.shares_memory(Content(Kind.IMAGE, whole).samples, whole)
    assert (Content.of_bytes(b"ab").shape, Content.of_bytes(b"ab").raw_bytes) == ((1, 1, 2), 2)


# --- forms and headers ------------------------------------------------------------------------------------------------

SIZES = st.one_of(st.integers(1, 300), st.integers(1, 1 << 40))


@st.composite
def forms(draw):
    kind = draw(st.sampled_from(Kind))
    C = 1 if kind == Kind.BYTES else draw(st.integers(1, 15))
    H = draw(SIZES) if kind in (Kind.IMAGE, Kind.ARRAY) else 1
    W = draw(SIZES if kind == Kind.IMAGE else st.one_of(st.just(0), SIZES))
    wide = kind != Kind.BYTES and draw(st.booleans())
    rate = draw(st.integers(0, (1 << 32) - 1)) if kind == Kind.AUDIO else 0
    layout = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
    layout = layout if kind == Kind.ARRAY else ""
    form = Form(kind, (C, H, W), wide, draw(st.sampled_from(ORIGINS)), rate, layout, draw(st.booleans()))
    split = Form(**{**form.__dict__, "span": draw(st.sampled_from(SPANS))})
    form = split if draw(st.booleans()) and split.regions > 1 else form
    h, w = (min(a, b) for a, b in zip(form.cell, form.shape[1:], strict=True))
    check = draw(st.sampled_from(CHECKS))
    return Form(**{**form.__dict__, "model": draw(st.booleans()) and 1 <= h * w <= MODEL_SITES, "check": check})


SCHEDULES = st.lists(st.integers(1, 1 << 40), max_size=20).map(
    lambda gaps: tuple(itertools.accumulate(gaps, initial=0))
)
"""Starts of the calls of a file's own schedule."""


@st.composite
def headers(draw):
    form = draw(forms())
    items = draw(st.one_of(st.none(), st.integers(1, 1 << 50)))
    if items is not None and draw(st.booleans()):
        form = None
    model = draw(st.booleans()) if form is None else form.model
    steps = draw(st.one_of(st.just(0), st.integers(1, MAX_CALLS - 1), SCHEDULES)) if model else 0
    names = items is not None and draw(st.booleans())
    lines = Lines(draw(st.sampled_from(LINE_ENDS)), draw(st.booleans())) if items and not names else None
    lines = lines if draw(st.booleans()) else None
    return Header(form, items, names, random.Random(str(steps)).randbytes(2).hex() if model else "", steps, lines)


@QUICK
@given(headers())
def test_headers_are_read_as_they_were_written(header):
    data = header.write()
    file = Reader.open(data + b"more")
    assert read_header(file) == header
    assert file.at == len(data)
    for end in range(len(data)):
        with pytest.raises(CodecError, match=r"truncated|it is empty"):
            read_header(Reader.open(data[:end]))


@QUICK
@given(headers())
def test_bare_headers_are_read_as_they_were_written(header):
    if header.form is not None and header.items is None:
        file = Reader.open(header.bare() + b"more")
        found = read_bare(file)
        assert (found.form, found.steps, found.model, file.left) == (header.form, header.steps, "", 4)
        assert header.bare()[:2] not in (HEAD, ARCHIVED)


@QUICK
@given(headers(), st.data())
def test_no_flipped_bit_of_a_header_is_believed(header, data):
    raw = bytearray(header.write())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CodecError) as caught:
        read_header(Reader.open(bytes(raw)))
    assert len(str(caught.value)) < 400


@QUICK
@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_are_believed_unless_they_are_a_header(data, begun):
    data = HEAD * begun + data
    try:
        header = read_header(Reader.open(data))
    except CodecError:
        return
    assert data.startswith(header.write())


@QUICK
@given(forms())
def test_regions_cover_every_sample_once(form):
    assert Form.of(Content(Kind.BYTES, np.zeros((1, 1, 70), "u1")), span=5).regions == 3
    if form.regions > 500 or form.samples > 1 << 24:
        return
    seen = np.zeros(form.shape[1:], np.uint8)
    boxes = list(form.boxes())
    for y, x, h, w in boxes:
        assert h * w or not form.samples
        seen[y : y + h, x : x + w] += 1
    assert (seen == 1).all()
    assert len(boxes) == form.regions
    assert boxes == sorted(boxes)


def checked(data):
    return data + bytes([crc8(data)])


HEAD, ARCHIVED = b"\xad\xd1", b"\xad\xa1"


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"\xad\xd0" + bytes(20), Unsupported, "format 0, which was never released"),
        (b"\xad\xd2" + bytes(20), Unsupported, "format 2, a later one; this version of ardm reads format 1"),
        (checked(HEAD + b"\xc1\x03\x13\x05\x05"), Unsupported, "checks of 24 bits"),
        (checked(ARCHIVED + b"\x08\x01"), Unsupported, "flags 0x08"),
        (checked(ARCHIVED + b"\x80\x01"), Unsupported, "flags 0x80"),
        (checked(ARCHIVED + b"\x12\x01"), CodecError, "contradict"),  # lines have no names
        (checked(ARCHIVED + b"\x20\x01"), CodecError, "contradict"),  # only lines end
        (checked(ARCHIVED + b"\x40\x01"), CodecError, "contradict"),
        (checked(HEAD + bytes([129, len(ORIGINS) << 4 | 3, 5, 5])), Unsupported, rf"format \({len(ORIGINS)}\)"),
        (checked(HEAD + b"\x81\xf3\x05\x05"), Unsupported, r"format \(15\)"),  # never used: a golden file has it
        (HEAD + b"\x81\x13\x05\x05\x00", CodecError, "checksum does not match"),
        (checked(HEAD + b"\x81\x10\x05\x05"), CodecError, "channels; got 0"),
        (checked(HEAD + b"\x81\x13\x00\x05"), CodecError, "at least one pixel"),
        (checked(HEAD + b"\x80\x02\x05"), CodecError, r"bytes are samples \(1, 1, L\)"),
        (checked(HEAD + b"\x90\x01\x05"), CodecError, "uint16"),
        (checked(HEAD + b"\x82\x01\x80\x80\x80\x80\x10\x05"), CodecError, "rate"),
        (checked(HEAD + b"\x83\x01\x00\x05\x05"), CodecError, "layout"),
        (checked(HEAD + b"\x83\x01\x80\x02" + bytes(256) + b"\x05\x05"), CodecError, "256 characters"),
        (checked(HEAD + b"\x83\x01\x01\x07\x05\x05"), CodecError, "printable"),
        (checked(HEAD + b"\xa1\x13\x40\x40\x04"), CodecError, "span 4"),
        (checked(HEAD + b"\xa1\x13\x40\x40\x29"), CodecError, "span 41"),
        (checked(HEAD + b"\xa1\x13\x40\x40\x06"), CodecError, "not cut into regions of span 6"),
        (checked(HEAD + b"\x89\x13\x80\x20\x80\x20ab\x05"), CodecError, "sites; got 16777216"),
        (checked(HEAD + b"\x88\x01\x00ab\x05"), CodecError, "sites; got 0"),
        (checked(HEAD + b"\x89\x13\x05\x05ab\x00"), CodecError, "shortest"),  # no calls: the form could be short
        (checked(ARCHIVED + b"\x00\x00"), CodecError, "contradict"),
        (checked(ARCHIVED + b"\x05\x02\x81\x13\x05\x05ab\x05"), CodecError, "contradict"),  # a model, and the form none
        (checked(ARCHIVED + b"\x01\x02\x13\x05"), CodecError, "contradict"),
        (checked(HEAD + b"\x81\x13\x85\x00\x05"), CodecError, "shortest"),
        (checked(HEAD + b"\x81\x13" + b"\xff" * 8 + b"\xff\x7f\x05"), CodecError, "out of range"),
    ],
)
def test_headers_that_make_no_sense(data, error, said):
    with pytest.raises(error, match=said):
        read_header(Reader.open(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\xad", "truncated file: it ends in its header, after 1 bytes"),
        (b"\x89PNG\r\n", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"RIFF1234WAVE", "a WAV file"),
        (b"\xc2\xad\xc3\x91", "an ardm file that was copied as text"),
        (b"\xef\xbf\xbd", "a binary file that was copied as text"),
        (b"hello world", "does not begin with AD D1 or AD A1"),
    ],
)
def test_files_that_are_not_ours(data, said):
    assert said in foreign(data)
    with pytest.raises(CodecError, match=said):
        read_header(Reader.open(data))


def test_errors_say_who_is_at_fault():
    assert issubclass(ModelMissing, CodecError)
    assert issubclass(Unsupported, CodecError)
    assert issubclass(CodecError, ArdmError)
    assert misfit(Kind.IMAGE, (3, 5, 5), False, 0, "") == ""


# --- between header and pieces ----------------------------------------------------------------------------------------


@QUICK
@given(st.lists(st.integers(LEAST_PIECE, 1 << 40), min_size=1, max_size=50), st.integers(0, 5))
def test_lengths(lengths, more):
    data = pack_lengths(lengths)
    file = Reader(io.BytesIO(data), 0, len(data))
    file.end += sum(lengths) + more  # as if the pieces were there
    assert read_lengths(file, len(lengths), "index").tolist() == lengths
    assert file.at == len(data)
    spread = max(lengths) - min(lengths)
    assert len(data) == len(varint(min(lengths))) + 1 + -(-len(lengths) * spread.bit_length() // 8)
    file.at, file.end = 0, len(data) + sum(lengths) - 1
    with pytest.raises(CodecError):
        read_lengths(file, len(lengths), "index")


def test_many_lengths_take_no_more_room_than_they_need(monkeypatch):
    monkeypatch.setattr(index, "_ROWS", 16)
    lengths = np.random.default_rng(0).integers(5, 4000, 999).tolist()
    data = pack_lengths(lengths)
    file = Reader.open(data + bytes(sum(lengths)))
    assert read_lengths(file, 999, "index").tolist() == lengths
    assert len(data) == 1 + 1 + -(-999 * 12 // 8)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (varint(5) + b"\0" + bytes(9), 3),
        (varint(5) + b"\0" + bytes(99), 1 << 60),
        (varint(0) + b"\0" + bytes(99), 2),
        (varint(5) + b"\x3f" + bytes(99), 2),
        (varint(1 << 62) + b"\0" + bytes(99), 2),
        (varint(5) + b"\x3e" + b"\xff" * 99, 2),
        (varint(5) + b"\x08" + b"\x01", 2),
        (varint(90) + b"\0" + bytes(99), 2),
    ],
)
def test_lengths_that_the_file_cannot_hold(data, count):
    with pytest.raises(CodecError):
        read_lengths(Reader.open(data), count, "index")


@QUICK
@given(
    st.dictionaries(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), st.binary(max_size=30), min_size=1, max_size=4)
)
def test_about_blocks(about):
    file = Reader.open(pack_about(about) + b"more")
    assert read_about(file) == about
    assert file.left == 4


def block(data):
    packed = deflate(data)
    return varint(len(packed)) + packed


@pytest.mark.parametrize(
    "data",
    [
        b"", block(b""), b"\x05ab", block(b"\x03icc"), block(b"\x03icc\x05ab"), block(b"\x03ICC\0"), block(b"\0\0"),
        block(b"\x03icc\0\x03icc\0"), block(b"\x21" + b"a" * 33 + b"\0"), varint(1 << 40), b"\x02\xff\xff",
    ],
)  # fmt: skip
def test_about_blocks_that_make_no_sense(data):
    with pytest.raises(CodecError):
        read_about(Reader.open(data))


def test_about_blocks_are_bounded(monkeypatch):
    assert pack_about({}) == b""
    data = pack_about({"icc": bytes(2000)})
    monkeypatch.setattr(index, "MAX_ABOUT", 1000)
    with pytest.raises(CodecError, match="more than 1000"):
        read_about(Reader.open(data))
    with pytest.raises(ArdmError, match="may have 1000 bytes"):
        pack_about({"icc": bytes(2000)})
    monkeypatch.setattr(index, "MAX_DIRECTORY", 1000)
    with pytest.raises(ArdmError, match="several archives"):
        pack_directory(["a" * 2000], None)


NAMES = st.from_regex(r"[a-zé世 .:]{1,9}(/[a-z]{1,3}){0,2}", fullmatch=True).filter(lambda name: not name_fault([name]))


@QUICK
@given(st.lists(st.tuples(NAMES, forms()), min_size=1, max_size=5, unique_by=lambda pair: pair[0]), st.integers(0, 2))
def test_directories(items, what):
    names, every = [name for name, _ in items], [form for _, form in items]
    header = Header(every[0] if what == 0 else None, len(items), what != 1, "0000", 1)
    data = pack_directory(names if header.names else None, every if header.form is None else None)
    file = Reader.open(data + b"more")
    found = read_directory(file, header)
    assert found == (tuple(names) if header.names else None, tuple(every) if header.form is None else None)
    assert file.left == 4


PIXELS = Form(Kind.IMAGE, (3, 4, 5)).write()


@pytest.mark.parametrize(
    ("data", "named", "mixed", "said"),
    [
        (b"a\0b\0", True, True, "truncated"),
        (b"a\0b", True, False, "too few names|too many"),
        (b"a\0", True, False, "too few names"),
        (b"a\0b\0c", True, False, "too many"),
        (b"a\0a\0", True, False, "two items"),
        (b"a\0../b\0", True, False, "cannot be the name"),
        (b"a\0/etc\0", True, False, "cannot be the name"),
        (b"a\0\xff\0", True, False, "cannot be the name"),
        (PIXELS, False, True, "truncated"),
        (PIXELS * 2 + b"!", False, True, "too many"),
        (PIXELS + Form(Kind.IMAGE, (3, 4, 5), model=True).write(), False, True, "header names none"),
        (PIXELS + b"\xc0\x03\x01\x05", False, True, "checks of 24 bits"),
    ],
)
def test_directories_that_make_no_sense(data, named, mixed, said):
    header = Header(None if mixed else Form(Kind.IMAGE, (3, 4, 5)), 2, named)
    with pytest.raises(CodecError, match=said):
        read_directory(Reader.open(block(data)), header)


def test_names_stay_inside():
    for good in ("a", "a/b.png", "été/世界", "a b", "..a", "a..", "con:figuration"):
        assert name_fault([good]) == ""
    for bad in (
        *["/", ".", "..", "a/../b", "/a", "a//b", "a/", "a\\b", "c:/x", "C:x", "a\x00b", "a\x7f", "a\x1fb", "�"],
        "",
    ):
        assert "cannot be the name" in name_fault([bad]), bad


def test_forms_are_read_as_they_were_written():
    form = Form(Kind.ARRAY, (3, 4, 5), True, "npy", 0, "<u2 4,5,3 HWC")
    file = Reader.open(form.write())
    assert read_form(file) == form
    assert form.describe(50) == form.write() == form.full()
    coded = Form(Kind.IMAGE, (3, 4, 5), model=True)
    assert coded.describe(300) == coded.full() + varint(300)
    assert (len(coded.write()), len(coded.full())) == (3, 4)
    assert coded.describe(0) == coded.full() + b"\0"
    for check, first in ((32, 0x98), (16, 0xB8), (8, 0xD8), (0, 0xF8)):
        text = Form(Kind.BYTES, (1, 1, 200), model=True, check=check)
        assert text.write() == bytes([first, 0xC8, 1])
        assert text.full()[0] & 0x9F != text.write()[0] & 0x9F
        assert read_form(Reader.open(text.write())) == text
