"""Checks of fewer bits and bare frames: what they leave out, and what they still find."""

import contextlib
import zlib
from dataclasses import replace

import numpy as np
import pytest

from ardm import ans
from ardm.ans import CHECKS
from ardm.codec import index
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.binary import check_bytes, crc8, varint
from ardm.codec.decode import decompress, decompress_many
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.header import Form, Header, Limits
from ardm.content import Content, Kind
from ardm.errors import CodecError
from contents import NONE, Small, image, models, values


def checked_files():
    about = {"icc": b"profile"}
    return [image((3, 7, 9)), image((2, 5, 7), "ramp"), image((3, 7, 9), about=about), Content.of_bytes(b"some bytes " * 9),
            Content(Kind.AUDIO, values("small", (2, 1, 70), True), "wav", rate=8000)]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("calls", [0, 7])
def test_contents_come_back_with_any_check(cut, check, calls):
    coder = Small(calls=calls)
    for content in [*checked_files(), image((1, 50, 40)), image((1, 50, 40), "noise")]:
        data, _ = compress(content, coder, check=check)
        bare, _ = compress(content, coder, check=check, bare=True)
        assert decompress(data, models(coder)) == content
        assert decompress(bare, models(coder), bare=True) == content
        assert describe(data)[0].check == describe(bare, bare=True)[0].check == check
        assert len(bare) < len(data)
    items = checked_files()
    archive = open_archive(compress_archive(items, None, coder, check=check)[0])
    assert list(archive.items(models(coder))) == items
    assert {archive.info(k).check for k in range(len(items))} == {check}


def test_smaller_checks_find_nearly_all_damage():
    """All but one in 2^bits; no other exception, whatever the damage."""
    rng = np.random.default_rng(0)
    for check, share in ((8, 0.03), (16, 0.002), (0, 1.0)):
        unseen = tried = 0
        for content in checked_files():
            for bare in (False, True):
                data, _ = compress(content, Small(calls=0), check=check, bare=bare)
                for _ in range(100):
                    at = rng.integers(0, len(data))
                    bad = data[:at] + bytes([data[at] ^ 1 << rng.integers(0, 8)]) + data[at + 1 :]
                    tried += 1
                    with contextlib.suppress(CodecError):
                        unseen += (
                            decompress(bad, models(Small(calls=0)), Limits(1 << 16, 1 << 16), bare=bare) != content
                        )
        assert unseen <= share * tried


LOW = np.minimum(-8 * np.log2(np.random.default_rng(0).random((1, 1, 300))), 255).astype(np.uint8)
RUNS = {
    "bytes": Content.of_bytes(LOW.tobytes()),
    "row": Content(Kind.ARRAY, LOW[:, :, :100], "npy", layout="|u1 100 C"),
}


@pytest.mark.parametrize("check", ans.CHECKS)
@pytest.mark.parametrize("name", RUNS)
def test_a_bare_run_leaves_out_what_its_model_knows(name, check):
    content, made, before = RUNS[name], Small(planes=1), Small(planes=1)
    made.usual = True
    short, full = (compress(content, coder, check=check, bare=True)[0] for coder in (made, before))
    length = varint(content.samples.size)
    start = bytes([0x98 | 4 * (name == "row") | ans.CHECKS.index(check) << 5]) + length
    assert short.startswith(start)
    assert full[-len(short) + len(start) :] == short[len(start) :], "the same body"
    assert len(full) - len(short) >= 2 + (check < 32)
    for data in (short, full):
        assert decompress(data, lambda identity, steps: made, bare=True) == content
    assert decompress_many([short, full], lambda identity, steps: made, bare=True) == [content, content]
    with pytest.raises(CodecError, match="max_work"):
        decompress(short, lambda identity, steps: made, Limits(max_work=6 * content.samples.size), bare=True)


@pytest.mark.parametrize("changed", [{"about": {"x": b"y"}}, {"origin": "wav"}])
def test_what_is_no_run_has_its_form_in_full(changed):
    made = Small(planes=1)
    made.usual = True
    content = replace(RUNS["bytes"], **changed)
    data, _ = compress(content, made, bare=True)
    assert data[0] & 0x90 == 0x80
    assert decompress(data, lambda identity, steps: made, bare=True) == content


def test_a_bare_picture_in_the_usual_calls_has_its_form_in_short():
    made = Small()
    made.usual = True
    data, _ = compress(image(), made, bare=True)
    assert data[0] < 0x80
    assert decompress(data, lambda identity, steps: made, bare=True) == image()


def test_a_bare_frame_of_another_model_or_of_none():
    data, _ = compress(image(), Small(calls=0), bare=True)
    with pytest.raises(CodecError, match="another model made it"):
        decompress(data, lambda name, calls: Small(calls=0, name="another"), bare=True)
    with pytest.raises(CodecError, match="not an ardm file"):
        decompress(data, models(Small(calls=0)))
    whole, _ = compress(image(), Small(calls=0))
    with pytest.raises(CodecError, match="this file is not bare"):
        decompress(whole, models(Small(calls=0)), bare=True)
    with pytest.raises(CodecError, match="raise the limit"):
        decompress(data, models(Small(calls=0)), Limits(max_pixels=1023), bare=True)


@pytest.mark.parametrize(
    "header",
    [
        "89 13 20 20 81DB 00",  # could be short, and has no calls
        "1A 03 03 81DB",  # square
        "12 20 81DB",  # 32×32
        "12 A0 00 81DB",  # a long integer
        "C1 04 13 01 02",  # 32 bits, as without the flag
        "88 01 04 81DB 00",  # a text of no calls in full
        "98 84 00 81DB",  # a long length
    ],
)
def test_forms_are_written_in_the_shortest_way(header):
    data = bytes.fromhex("ADD1" + header)
    with pytest.raises(CodecError, match=r"lacks|shortest"):
        decompress(data + bytes([crc8(data)]) + b"\1" * 30, models(Small(calls=0)))


def test_items_of_an_archive_have_one_check():
    forms = [Form(Kind.BYTES, (1, 1, 4), check=check) for check in (32, 8)]
    start = Header(None, 2).write() + index.pack_lengths([9, 9]) + index.pack_directory(None, forms)
    with pytest.raises(CodecError, match="different numbers of bits"):
        open_archive(start + check_bytes(zlib.crc32(start)) + bytes(18))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("AD", "truncated file: it ends in its header, after 1 bytes"),
        ("ADD1", "truncated"),
        ("ADD2 00", "format 2, a later one"),
        ("ADAF 00", "format 15, a later one"),
        ("ADD0 00", "format 0, which was never released"),
        ("ADB1 00", "does not begin with AD D1 or AD A1"),
        ("C2ADC391 00", "an ardm file that was copied as text"),
        ("EFBFBDEFBFBD", "a binary file that was copied as text"),
        ("89504E47", "a PNG image"),
    ],
)
def test_what_begins_otherwise_is_named(start, said):
    with pytest.raises(CodecError, match=said):
        decompress(bytes.fromhex(start), NONE)
