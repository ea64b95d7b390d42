"""`ardm.Codec`: items to bytes and back, one at a time and many together, in threads, by name in numcodecs and Zarr."""

import copy
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import ardm
from ardm.codec.archive import open_archive
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.model import NAME
from ardm.files.compress import compress_file
from ardm.files.options import FileOptions
from ardm.files.restore import decompress_file
from bundles import exact, liked, noise
from linemodels import SCHEMA, items
from linemodels import codec as line_model
from test_codec import LIKED

PICTURE = exact(**dict(LIKED))
TEXTS = [b"the cat sat on the mat"[:n] for n in (22, 22, 5, 1, 0, 22)]
RECORDS = [SCHEMA.decode(items("table", 40).tolist()[a:b]).encode() for a, b in ((0, 9), (9, 18), (18, 19), (19, 40))]


def pictures():
    """Of one size and of others, some that the model likes and some that it does not; 8 and 16 bits."""
    likes = [liked(LIKED, 12, 12, seed).numpy() for seed in range(3)]
    return [*likes, noise(3, 9, 7).numpy(), likes[0][:1], likes[0].astype("u2") * 200]


def test_a_codec_prints_its_options():
    assert repr(ardm.Codec(level=2)) == "Codec(level=2, check=32)"
    assert repr(ardm.Codec("pictures", bare=True, check=8)) == "Codec(model='pictures', bare=True, check=8)"
    assert repr(ardm.Codec(line_model("text"))).startswith("Codec(model='")


def case(name):
    """A codec, and items for it."""
    return {
        "pictures": lambda: (ardm.Codec(PICTURE), pictures()),
        "text": lambda: (ardm.Codec(line_model("text"), check=8), TEXTS),
        "records": lambda: (ardm.Codec(line_model("table"), bare=True), RECORDS),
        "sound": lambda: (
            ardm.Codec(line_model("sound"), rate=8000),
            [np.arange(-40, 40, dtype="i2")[None] * k for k in (1, 400)] + [np.zeros((2, 30), "i2")],
        ),
        "no model": lambda: (ardm.Codec(line_model("text")), [b"\xff\0" * 30, pictures()[0], b""]),
    }[name]()


CASES = ["pictures", "text", "records", "sound", "no model"]


def same(one, other):
    if isinstance(other, bytes):
        return one == other
    return one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_many_together_are_each_alone(name):
    codec, given = case(name)
    data = codec.encode_many(given)
    assert data == [codec.encode(item) for item in given]
    assert all(map(same, codec.decode_many(data), given))
    assert all(map(same, map(codec.decode, data), given))
    assert codec.encode_many([]) == codec.decode_many([]) == []


def test_the_model_codes_what_it_likes():
    """Not one of these tests would notice a codec that stores everything."""
    for name, number in (("pictures", 0), ("records", 3)):
        codec, given = case(name)
        raw = len(given[number]) if isinstance(given[number], bytes) else given[number].nbytes
        assert len(codec.encode(given[number])) < raw * 0.8


@pytest.mark.parametrize("bare", [False, True])
def test_results_are_files(tmp_path, bare):
    PICTURE.save(tmp_path / NAME)
    codec = ardm.Codec(tmp_path, bare=bare)
    x = pictures()[0]
    (tmp_path / "x.ardm").write_bytes(codec.encode(x))
    options = FileOptions(codec._engine, bare=bare)
    decompress_file(tmp_path / "x.ardm", tmp_path / "x.png", options)
    assert torch.equal(ardm.decompress(codec.encode(x), tmp_path, bare=bare), torch.from_numpy(x))
    file = BytesIO()
    compress_file(tmp_path / "x.png", file, options)
    assert np.array_equal(codec.decode(file.getvalue()), x)


@pytest.mark.parametrize("name", ["pictures", "text", "records"])
def test_threads_share_a_codec(name):
    codec, given = case(name)
    data = codec.encode_many(given)
    broken = data[0][:-1] + bytes([data[0][-1] ^ 1])

    def work(k):
        if k % 4 == 3:  # a failure in one thread must not disturb the others
            with pytest.raises(CodecError):
                codec.decode_many([*data[1:], broken])
            return True
        return codec.encode_many(given) == data and all(map(same, codec.decode_many(data), given))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_copies_code_alike():
    codec, given = case("pictures")
    data = codec.encode_many(given)
    for other in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert other.encode_many(given) == data
        assert same(other.decode(data[0]), given[0])


@pytest.mark.parametrize("name", ["pictures", "text", "records"])
def test_the_damaged_one_is_named(name):
    codec, given = case(name)
    data = codec.encode_many(given)
    at = len(data) - 2
    for bad in (data[at][:-1], data[at][:-1] + bytes([data[at][-1] ^ 1]), b"", b"\x89PNG"):
        with pytest.raises(CodecError, match=f"^item {at}: "):
            codec.decode_many([*data[:at], bad, *data[at + 1 :]])


def test_what_is_refused():
    codec = ardm.Codec(PICTURE)
    for item, said in (
        ("text", "'text'.encode()"),
        (Path("x.png"), "reads no files"),
        (np.zeros((4, 4), "u1"), "three dimensions"),
        (np.zeros((3, 4, 4)), "whole numbers"),
        (np.full((1, 2, 2), 1 << 16), "0..65535"),
        (7, "a tensor or an array"),
    ):
        with pytest.raises(ArdmError, match=re.escape(said)):
            codec.encode(item)
        with pytest.raises(ArdmError, match=r"^item 1: "):
            codec.encode_many([b"", item])
    with pytest.raises(ArdmError, match=r"sound: channels and samples \(C, L\) of int16; got uint8"):
        ardm.Codec(rate=8000).encode(np.zeros((1, 4, 4), "u1"))
    with pytest.raises(ArdmError, match="item 0: what a codec decodes is bytes; got str"):
        codec.decode_many(["x"])
    for options, said in (
        ({"bare": True}, "name the model"),
        ({"level": 10}, "1 to 9"),
        ({"model": PICTURE, "level": 3}, "give a level, or model"),
        ({"check": 7}, "got 7"),
        ({"rate": -1}, "got -1"),
        ({"model": 5}, "got int"),
    ):
        with pytest.raises(ArdmError, match=said):
            ardm.Codec(**options)
    with pytest.raises(ModelMissing, match="no codec model 'nothing'"):
        ardm.Codec("nothing")


def test_frames_of_several_parts_and_archives_of_files_are_read_too(tmp_path):
    data, codec = bytes(range(256)) * 3, ardm.Codec(PICTURE)
    (tmp_path / "x").write_bytes(data)
    file = BytesIO()
    compress_file(tmp_path / "x", file, FileOptions(chunk=200))
    assert codec.decode_many([file.getvalue(), codec.encode(b"a")]) == [data, b"a"]


# --- arrays -----------------------------------------------------------------------------------------------------------


def arrays():
    x = np.stack(pictures()[:3])
    return [
        x, x[0], x[0].transpose(1, 2, 0), x[0, 0], np.asfortranarray(x[0, 0]), x.astype(">u2"), x[:, 0],
        np.arange(35).reshape(5, 7), np.array([True, False]), np.zeros((0, 3), "i2"), np.array(5, "u8"),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(11))
def test_arrays_come_back_as_they_were(number):
    x, codec = arrays()[number], ardm.Codec(PICTURE)
    assert same(codec.decode(codec.encode_array(x)), x)


def test_rows_of_pictures_are_an_archive():
    x, codec = arrays()[0], ardm.Codec(PICTURE)
    data = codec.encode_array(x)
    assert len(open_archive(data)) == 3
    assert len(data) < x.nbytes * 0.8
    with pytest.raises(ArdmError, match="never bare"):
        ardm.Codec(PICTURE, bare=True).encode_array(x)
    with pytest.raises(ArdmError, match="an array of integers is encoded; got float64"):
        codec.encode_array(np.zeros(3))


# --- numcodecs and Zarr -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    PICTURE.save(tmp_path / NAME)
    return str(tmp_path)


def declared(group):
    """The class that pyproject.toml gives for "ardm" in a group of entry points."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    return EntryPoint("ardm", re.search(rf'{re.escape(group)}"\]\nardm = "(.*)"', text)[1], group).load()


def test_numcodecs(folder):
    registry = pytest.importorskip("numcodecs.registry")
    registry.register_codec(declared("numcodecs.codecs"))
    codec = registry.get_codec({"id": "ardm", "model": folder, "check": 16})
    assert registry.get_codec(codec.get_config()) == codec
    for x in arrays():
        assert same(codec.decode(codec.encode(x)), x)
    x = arrays()[0]
    out = np.empty_like(x)
    codec.decode(codec.encode(x), out)
    assert same(out, x)
    assert codec.decode(codec.encode(np.array([1.5, -2]))) == np.array([1.5, -2]).tobytes()
    assert codec.decode(codec.encode(b"bytes")) == b"bytes"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["u1", ">u2", "f4"])
def test_zarr(folder, version, kind):
    zarr = pytest.importorskip("zarr", "3.0")
    declared("zarr.codecs")
    from zarr.registry import register_codec

    register_codec("ardm", declared("zarr.codecs"))
    pytest.importorskip("numcodecs.registry").register_codec(declared("numcodecs.codecs"))
    if version == 2:
        options = {"compressors": declared("numcodecs.codecs")(folder)}
    else:
        options = {"serializer": declared("zarr.codecs")(folder), "compressors": None}
    x, store = arrays()[0].astype(kind), zarr.storage.MemoryStore()
    zarr.create_array(store, data=x, chunks=(2, 3, 12, 12), zarr_format=version, **options)
    found = zarr.open_array(store, mode="r")
    assert np.array_equal(found[:], x)
    assert np.array_equal(found[2, 1], x[2, 1])
