"""Samples stored without a model: every method restores them, none grows, and none trusts its bytes."""

import contextlib
import lzma
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ardm.codec import fallback as stored
from ardm.codec import flac_encode
from ardm.codec.binary import Reader, deflate, varint
from ardm.codec.fallback import restore
from ardm.codec.header import Method
from ardm.content import Kind
from ardm.errors import CodecError, Unsupported

QUICK = settings(deadline=None, max_examples=100)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))


def store(x, kind):
    return stored.Fallback(x, kind).store()


def planes(shapes=SHAPES):
    """Noise, few values, and ramps, of one or two bytes."""
    dtype = st.sampled_from(["u1", "<u2"])
    return st.builds(
        lambda x, ramp: x + (np.add.outer(np.arange(x.shape[1]), np.arange(x.shape[2])) * ramp).astype(x.dtype),
        st.one_of(
            npst.arrays(dtype, shapes),
            npst.arrays(dtype, shapes, elements=st.integers(0, 2), fill=st.just(1)),
        ),
        st.sampled_from([0, 1, 300]),
    )


def back(method, payload, shape, dtype):
    out, file = np.zeros(shape, dtype), Reader.open(payload)
    restore(method, file, out)
    file.close("samples")
    return out


def there_and_back(x, kind=Kind.IMAGE):
    method, payload = store(x, kind)
    assert np.array_equal(back(method, payload, x.shape, x.dtype), x)
    assert len(payload) <= x.nbytes
    return method


# --- every way --------------------------------------------------------------------------------------------------------


@QUICK
@given(planes(), st.sampled_from(Kind))
def test_what_is_stored_comes_back(x, kind):
    there_and_back(x, kind)


@QUICK
@given(planes(), st.data())
def test_every_filter_can_be_undone(x, data):
    plane = x[0]
    assert np.array_equal(stored._unfold(stored._fold(plane)), plane)
    for code in range(5):
        assert np.array_equal(stored._unpredict(code, stored._predict(code, plane)), plane), code
    codes, residue = stored._filter(x)
    out = np.empty_like(x)
    stored._unfilter(codes, residue, out)
    assert np.array_equal(out, x)


def test_what_a_filter_leaves_is_what_the_page_says():
    x = np.array([[10, 12, 15], [20, 23, 21]], np.uint8)
    expect = {
        0: [[10, 12, 15], [20, 23, 21]],
        1: [[10, 2, 3], [10, 3, -2]],
        2: [[10, 2, 3], [10, 11, 6]],
        3: [[10, 2, 3], [10, 1, -5]],
        4: [[10, -8, 1], [0, -7, -5]],
    }
    for code, residue in expect.items():
        assert stored._predict(code, x).astype(np.int8).tolist() == residue, code
    assert stored._fold(np.array([0, 1, 255, 2, 254, 127, 128], np.uint8)).tolist() == [0, 2, 1, 4, 3, 254, 255]
    assert stored._fold(np.array([0, 1, 65535, 32768], np.uint16)).tolist() == [0, 2, 1, 65535]


def test_each_way_is_the_shortest_of_something():
    rng = np.random.default_rng(0)
    walk = rng.integers(-3, 4, (64, 64)).cumsum(0).cumsum(1)
    text = np.frombuffer("".join(f"line {k} of many, " for k in range(99)).encode(), np.uint8).reshape(1, 1, -1)
    records = np.arange(9000, dtype="<i4").cumsum(dtype="<i4").view(np.uint8).reshape(1, 1, -1)
    cases = {
        Method.CONSTANT: (np.full((3, 9, 9), 7, np.uint8), Kind.IMAGE),
        Method.RAW: (rng.integers(0, 256, (1, 20, 20), np.uint8), Kind.IMAGE),
        Method.DEFLATE: (np.tile(np.arange(3, dtype=np.uint8), (1, 1, 20)), Kind.BYTES),
        Method.LZMA: (text, Kind.BYTES),
        Method.FILTERED: (walk[None].astype(np.uint8), Kind.IMAGE),
    }
    for method, (x, kind) in cases.items():
        assert there_and_back(x, kind) == method
    method, payload = store(records, Kind.ARRAY)
    assert (method, payload[0]) == (Method.LZMA, 4)  # each byte less that of the record before
    assert len(payload) < 0.3 * records.size
    assert there_and_back(walk[None].astype("<u2"), Kind.ARRAY) == Method.FILTERED


def test_colours_are_told_from_one_another():
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (1, 64, 64), np.uint8)
    x = np.concatenate([grey, grey + rng.integers(0, 2, grey.shape, np.uint8), grey])
    assert len(store(x, Kind.IMAGE)[1]) < 4096 * 1.4


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.BYTES, Kind.AUDIO])
def test_large_ones_are_only_looked_at(kind):
    """Large samples are stored by the method that a quick look prefers, and restored exactly."""
    ramp = (np.arange(300_000) // 7 % 256).astype(np.uint8).reshape((1, 500, 600) if kind == Kind.IMAGE else (1, 1, -1))
    method, payload = store(ramp, kind)
    assert len(payload) < 3000
    assert np.array_equal(back(method, payload, ramp.shape, ramp.dtype), ramp)
    noise = np.random.default_rng(0).integers(0, 256, ramp.shape, np.uint8)
    assert store(noise, kind)[0] == Method.RAW


def test_samples_may_be_a_view_into_others():
    x = np.arange(3 * 20 * 20, dtype="<u2").reshape(3, 20, 20) % 400
    whole = np.zeros_like(x)
    for method, payload in (store(x[1:, 3:9, 5:], Kind.IMAGE), (Method.RAW, x[1:, 3:9, 5:].tobytes())):
        restore(method, Reader.open(payload), whole[1:, 3:9, 5:])
        assert np.array_equal(whole[1:, 3:9, 5:], x[1:, 3:9, 5:])
    assert not whole[0].any()


# --- hostile bytes ----------------------------------------------------------------------------------------------------


def wrapped(payload):
    return varint(len(payload)) + payload


@pytest.mark.parametrize("method", [Method.DEFLATE, Method.LZMA, Method.FILTERED])
@pytest.mark.parametrize(("have", "want"), [(99, 100), (101, 100), (0, 1), (1 << 20, 16)])
def test_as_many_samples_as_there_should_be(method, have, want):
    raw = bytes(have)
    payload = {
        Method.DEFLATE: lambda: wrapped(deflate(raw)),
        Method.LZMA: lambda: b"\0" + wrapped(stored._pack(raw)),
        Method.FILTERED: lambda: b"\0" + wrapped(stored._pack(raw)),
    }[method]()
    with pytest.raises(CodecError):
        back(method, payload, (1, 1, want), np.uint8)


@pytest.mark.parametrize("method", [Method.DEFLATE, Method.LZMA])
def test_a_bomb_does_not_burst(method):
    raw = bytes(1 << 26)
    packed = deflate(raw) if method == Method.DEFLATE else stored._pack(raw)
    payload = b"\0" * (method == Method.LZMA) + wrapped(packed)
    tracemalloc.start()
    with pytest.raises(CodecError):
        back(method, payload, (1, 8, 8), np.uint8)
    assert tracemalloc.get_traced_memory()[1] < 6 << 20  # LZMA2 looks back 4 MiB
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("method", "payload", "error"),
    [
        (Method.RAW, bytes(11), CodecError),
        (Method.CONSTANT, b"", CodecError),
        (Method.CODED, bytes(20), CodecError),
        (Method.DEFLATE, b"", CodecError),
        (Method.DEFLATE, wrapped(deflate(bytes(12)) + b"\0"), CodecError),
        (Method.DEFLATE, wrapped(b"\xff\xff\xff"), CodecError),
        (Method.LZMA, b"\0" + wrapped(stored._pack(bytes(12)) + b"\0"), CodecError),
        (Method.LZMA, b"\0" + wrapped(stored._pack(bytes(12))[:-1]), CodecError),
        (Method.LZMA, b"\0\xff\xff\xff\xff\x7f", CodecError),
        (Method.FILTERED, b"\x05\0" + wrapped(stored._pack(bytes(12))), Unsupported),
        (Method.FILTERED, b"\x08\0" + wrapped(stored._pack(bytes(12))), Unsupported),  # nothing is before the first
        (Method.FILTERED, b"\0\x10" + wrapped(stored._pack(bytes(12))), Unsupported),
        (Method.FLAC, wrapped(b"fLaC" + bytes(40)), CodecError),
    ],
)
def test_bytes_that_are_not_samples(method, payload, error):
    with pytest.raises(error):
        back(method, payload, (2, 2, 3), np.uint8)


@QUICK
@given(st.sampled_from(Method), st.binary(max_size=40), SHAPES, st.sampled_from(["u1", "<u2"]), st.booleans())
def test_no_bytes_do_harm(method, payload, shape, dtype, empty):
    with contextlib.suppress(CodecError):
        back(method, payload, (*shape[:2], 0 if empty else shape[2]), dtype)


@QUICK
@given(planes(), st.data())
def test_nor_does_damage(x, data):
    method, payload = store(x, Kind.IMAGE)
    bad = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        back(method, bytes(bad), x.shape, x.dtype)


def test_decoders_look_back_as_far_as_any_encoder():
    """A stream may refer 4 MiB back, the size of the reader's dictionary."""
    piece = np.random.default_rng(0).bytes(5000)
    raw = piece + bytes(stored.DICTIONARY - 10_000) + piece
    packed = lzma.compress(raw, lzma.FORMAT_RAW, filters=stored._chain(0, preset=1))
    assert len(packed) < 7000
    assert stored._unpack(packed, len(raw)) == raw


# --- FLAC -------------------------------------------------------------------------------------------------------------


def tone(channels=2, wide=True, length=5000):
    t = np.arange(length)
    x = np.sin(np.outer(np.arange(1, channels + 1), t) / 20) * 90 * (1 if not wide else 200)
    x += np.random.default_rng(0).normal(0, 3 if wide else 0.3, x.shape) * (20 if wide else 1)
    return (x + (1 << 15 if wide else 1 << 7)).astype("<u2" if wide else "u1")[:, None]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 8, 9])
def test_sound_is_kept_as_flac_where_that_can_be_had(channels, wide):
    x = tone(channels, wide)
    method = there_and_back(x, Kind.AUDIO)
    assert method == (Method.FLAC if channels < 9 else Method.FILTERED) or not wide
    assert there_and_back(x, Kind.IMAGE) == Method.FILTERED
    flac = stored._write_flac(x)
    assert bool(flac) == (channels < 9)
    if flac:
        assert stored._decodes_alike(flac, x)
        assert np.array_equal(back(Method.FLAC, wrapped(flac), x.shape, x.dtype), x)
        for shape in ((channels, 1, 4999), (channels, 1, 5001), (channels + 1, 1, 5000), (channels, 5, 1000)):
            with pytest.raises(CodecError):
                back(Method.FLAC, wrapped(flac), shape, x.dtype)
        for size in (10, 100, len(flac) // 2):
            with pytest.raises(CodecError):
                back(Method.FLAC, wrapped(flac[:size]), x.shape, x.dtype)


def test_and_otherwise_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert there_and_back(tone(), Kind.AUDIO) == Method.FILTERED
    with pytest.raises(CodecError, match="FLAC stream cannot be decoded"):
        back(Method.FLAC, wrapped(b"fLaC" + bytes(40)), (2, 1, 50), np.uint8)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_flac_is_read_with_and_without_the_package(channels, wide, library, monkeypatch):
    x = tone(channels, wide)
    signed = x[:, 0].astype(int) - (1 << 15 if wide else 1 << 7)
    streams = [*filter(None, [stored._write_flac(x)]), flac_encode.encode(signed, 44100, 16 if wide else 8)]
    if not library:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    for flac in streams:
        assert np.array_equal(back(Method.FLAC, wrapped(flac), x.shape, x.dtype), x)
        for shape in ((channels, 1, 4999), (channels, 1, 5001), (channels, 5, 1000), (channels, 5000, 1)):
            with pytest.raises(CodecError):
                back(Method.FLAC, wrapped(flac), shape, x.dtype)
        with pytest.raises(CodecError):
            back(Method.FLAC, wrapped(flac[: len(flac) // 2]), x.shape, x.dtype)
        with pytest.raises(CodecError):
            back(Method.FLAC, wrapped(flac), x.shape, np.uint8 if wide else np.dtype("<u2"))


PROSE = b" ".join(b"%d times %d is %d;" % (a, b, a * b) for a in range(60) for b in range(40))


# --- what is stored for comparison ------------------------------------------------------------------------------------


SAMPLES = {
    "text": (np.frombuffer(PROSE, np.uint8).reshape(1, 1, -1), Kind.BYTES),
    "repeats far back": (np.tile(np.random.default_rng(0).integers(0, 256, 40_000, np.uint8), 2)[None, None], Kind.BYTES),
    "lines of a log": (
        np.frombuffer(b"".join(b'{"t": %d, "id": %d}\n' % (k * 7, k * k % 9973) for k in range(3000)), np.uint8)[None, None],
        Kind.BYTES,
    ),
    "numbers of four bytes": (np.cumsum(np.arange(8000) % 97).astype("<i4").view(np.uint8)[None, None], Kind.ARRAY),
    "a smooth picture": ((np.add.outer(np.arange(90), np.arange(80)) % 256).astype("u1")[None].repeat(3, 0), Kind.IMAGE),
    "squares": (np.kron(np.random.default_rng(1).integers(0, 256, (2, 9, 9)), np.ones((8, 8))).astype("u1"), Kind.IMAGE),
    "noise": (np.random.default_rng(2).integers(0, 256, (1, 70, 70), np.uint8), Kind.IMAGE),
    "a tone": ((32768 + 9000 * np.sin(np.arange(9000) / 9)).astype("<u2")[None, None], Kind.AUDIO),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_clearly_beaten_would_not_have_been_shorter(name):
    x, kind = SAMPLES[name]
    part = stored.Fallback(x, kind)
    size = len(part.store()[1])
    assert size >= part.clear()
    assert bool(part.clear()) == (name in ("noise", "repeats far back"))


def test_estimating_does_not_run_lzma(monkeypatch):
    monkeypatch.setattr(stored, "_pack", None)
    for x, kind in SAMPLES.values():
        assert stored.Fallback(x, kind).estimate() > 0
