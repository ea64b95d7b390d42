"""No damage passes in silence, and none does harm."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.binary import Reader
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.header import read_header
from ardm.codec.pieces import Place, pieces_of
from ardm.content import Content, Kind
from ardm.errors import CodecError
from contents import NONE, QUICK, Small, image, models, values


def small_files():
    """Files that use every feature of the format, and their contents."""
    about = {"icc": b"profile" * 9, "exif": b"e"}
    mixed = np.concatenate([values("small", (1, 9, 9)), values("noise", (1, 9, 9)), values("ramp", (2, 9, 9))])
    split = values("constant", (1, 34, 34))
    split[:, 31:] = values("small", (1, 3, 34))
    sound = Content(Kind.AUDIO, values("small", (2, 1, 70), True), "wav", rate=8000)
    array = Content(Kind.ARRAY, values("ramp", (1, 1, 40)), "npy", layout="<i4 10 A")
    return {
        "stored": (compress(image((2, 5, 7), "ramp"))[0], image((2, 5, 7), "ramp")),
        "constant": (compress(image((2, 5, 7), "constant"))[0], image((2, 5, 7), "constant")),
        "coded": (compress(image((3, 7, 9)), Small())[0], image((3, 7, 9))),
        "about": (compress(image((3, 7, 9), about=about), Small())[0], image((3, 7, 9), about=about)),
        "mixed": (compress(Content(Kind.IMAGE, mixed), Small(1))[0], Content(Kind.IMAGE, mixed)),
        "split": (compress(Content(Kind.IMAGE, split), Small(1))[0], Content(Kind.IMAGE, split)),
        "sound": (compress(sound)[0], sound),
        "array": (compress(array)[0], array),
        "bytes": (compress(Content.of_bytes(b"some bytes"))[0], Content.of_bytes(b"some bytes")),
        "long": (compress(Content.of_bytes(b"many bytes" * 9))[0], Content.of_bytes(b"many bytes" * 9)),
        "nothing": (compress(Content.of_bytes(b""))[0], Content.of_bytes(b"")),
    }


SMALL_FILES = list(small_files())


@pytest.mark.parametrize("name", SMALL_FILES)
def test_no_damage_passes_in_silence(cut, name):
    """Every flipped bit, truncation and extra byte is an error that blames the file."""
    data, content = small_files()[name]
    find = models(Small(1) if name in ("mixed", "split") else Small())
    assert decompress(data, find) == content
    hurt = [data[:k] for k in range(len(data))] + [data + b"\0", data + data[:7]]
    for k in range(len(data)):
        hurt += [data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :] for bit in range(8)]
        hurt += [data[:k] + data[k + 1 :], data[:k] + b"\x5a" + data[k:]]
    for bad in hurt:
        with pytest.raises(CodecError) as caught:
            decompress(bad, find)
        assert len(str(caught.value)) < 200
        with contextlib.suppress(CodecError):
            describe(bad)


@QUICK
@given(st.sampled_from(SMALL_FILES), st.data())
def test_nor_does_any_other(cut, name, data):
    file, content = small_files()[name]
    file, find = bytearray(file), models(Small(1) if name in ("mixed", "split") else Small())
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(file))), data.draw(st.integers(0, 9))
        file[at : at + length] = data.draw(st.binary(max_size=9))
    with contextlib.suppress(CodecError):
        assert decompress(bytes(file), find) == content


@pytest.mark.parametrize("uniform", [True, False])
def test_damage_to_an_archive_is_found_and_stays_where_it_is(uniform):
    items = [
        image((3, 2 + 2 * (k % 2) * (not uniform), 3), seed=k, about={} if uniform else {"x": b"y"}) for k in range(4)
    ]
    data, _ = compress_archive(items, list("abcd"), Small())
    find, good = models(Small()), open_archive(data)
    assert list(good.items(find)) == items
    ends = np.cumsum([good.header_bytes] + [good.info(k).file_bytes for k in range(4)])
    for k in range(len(data)):
        for bit in range(8):
            bad = data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :]
            if k < good.header_bytes:
                with pytest.raises(CodecError):
                    open_archive(bad)
                continue
            archive = open_archive(bad)
            for item in range(4):
                if ends[item] <= k < ends[item + 1]:
                    with pytest.raises(CodecError):
                        archive.item(item, find)
                else:
                    assert archive.item(item, find) == items[item]
    for bad in [data[:k] for k in range(len(data))] + [data + b"\0"]:
        with pytest.raises(CodecError):
            open_archive(bad)


def test_items_that_changed_places_are_found():
    items = [image((1, 4, 4), "noise", seed=k) for k in range(3)]
    data, _ = compress_archive(items)
    archive, size = open_archive(data), open_archive(data).info(0).file_bytes
    a, b = archive.header_bytes, archive.header_bytes + size
    swapped = open_archive(data[:a] + data[b : b + size] + data[a:b] + data[b + size :])
    for item in (0, 1):
        with pytest.raises(CodecError, match=f"item {item}"):
            swapped.item(item, NONE)
    assert swapped.item(2, NONE) == items[2]


def test_regions_that_changed_places_are_found(cut):
    x = values("small", (1, 32, 128))
    x[:, :, 32:64] = x[:, :, :32]
    data, report = compress(Content(Kind.IMAGE, x), Small(1))
    assert report.regions == 4
    pieces = list(pieces_of(source(data))[0])
    a, b = (data[p.at : p.end] for p in pieces[:2])
    assert len(a) == len(b) != 0
    assert a != b  # the same samples, and other checks
    swapped = data.replace(a + b, b + a)
    with pytest.raises(CodecError, match="checksum"):
        decompress(swapped, models(Small(1)))


def source(data):
    reader = Reader.open(data)
    return Place(read_header(reader).form, 0, reader, b"", {}, frame=True)


def test_a_piece_of_another_file_is_found():
    """The same samples under another header, about block or model are refused."""
    one, two = (compress(image((1, 6, 6), "noise", about={"icc": about}))[0] for about in (b"a", b"b"))
    assert len(one) == len(two)
    with pytest.raises(CodecError, match="checksum"):
        decompress(one[:-20] + two[-20:], NONE)
