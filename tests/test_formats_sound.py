"""WAV, AIFF and FLAC: every sample comes back, or every byte does."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.formats import read, render
from file_samples import (
    aiff,
    back,
    flac,
    noise,
    sound,
    stays,
)


@given(channels=st.integers(1, 15), size=st.integers(1, 2), length=st.integers(1, 99), rate=st.integers(1, 200000))
@settings(max_examples=40, deadline=None)
def test_wav_comes_back_byte_for_byte(channels, size, length, rate):
    data = sound(channels, size, length, rate)
    content = read(data).content
    assert (content.kind, content.shape, content.rate) == (Kind.AUDIO, (channels, 1, length), rate)
    assert render(content) == data
    if channels * size * length % 2 == 0:  # the standard library leaves out what fills up an odd number
        assert not content.about


def test_samples_of_wav():
    data = sound(1, 2, 3)[:44] + struct.pack("<3h", -32768, 0, 32767)
    assert read(data).content.samples.tolist() == [[[0, 32768, 65535]]]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7])
def test_chunks_of_wav_stay_where_they_are(cut):
    plain = sound(2, 2, 9)
    data = plain[:12] + b"LIST\3\0\0\0abc\0" + plain[12:] + b"id3 \2\0\0\0xy"
    assert render(read(data).content) == data
    short = plain[: len(plain) - cut] if cut else plain
    assert render(read(short).content) == short  # a recording that was not closed
    assert read(short).content.shape[2] == 9 - -(-cut // 4)


def test_wav_that_is_not_read():
    for size in (3, 4):
        stays(sound(1, size, 5), f"of {8 * size} bits")
    stays(b"RIFX" + sound(1, 2, 5)[4:], "only RIFF")
    stays(sound(1, 2, 0), "no samples")
    stays(sound(1, 2, 5)[:30], "no samples")
    stays(sound(16, 1, 5), "16 channels")


@given(channels=st.integers(1, 8), size=st.integers(1, 2), length=st.integers(1, 9999), rate=st.integers(1, 65535))
@settings(max_examples=25, deadline=None)
def test_flac_comes_back(channels, size, length, rate):
    data, x = flac(channels, size, length, rate, title="a title", artist="someone")
    content = read(data).content
    assert content.rate == rate
    assert np.array_equal(content.samples[:, 0].T.astype(int) - (1 << 8 * size - 1), x)
    again = back(data)
    with soundfile.SoundFile(io.BytesIO(again)) as file:
        assert (file.title, file.artist, file.samplerate) == ("a title", "someone", rate)
    assert np.array_equal(read(render(content, "wav")).content.samples, content.samples)
    assert np.array_equal(read(render(read(render(content, "wav")).content, "flac")).content.samples, content.samples)


def test_flac_that_is_not_read(monkeypatch):
    data, _ = flac(2, 2, 999, title="a")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(9), 8000, format="FLAC", subtype="PCM_24")
    stays(out.getvalue(), "it has 24")
    stays(data + b"TAG" + bytes(125), "follow its samples")
    stays(data + b"\0", "follow its samples")
    stays(data + data, "follow its samples")
    rate = bytearray(data)
    rate[18:21] = (65537 << 4).to_bytes(3, "big")[:2] + bytes([(65537 << 4 & 0xF0) | data[20] & 15])
    stays(bytes(rate), "65537 samples per second")
    md5 = bytearray(data)
    md5[30] ^= 1
    stays(bytes(md5), "checksum")
    found = read(data, strip=True)
    assert (found.dropped, dict(found.content.about)) == (("tags",), {})
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    assert read(data).content == read(render(read(data).content)).content  # without libFLAC too


@pytest.mark.parametrize(
    ("channels", "rate", "why"), [(9, 8000, "8 channels"), (1, 0, "1 to 65535"), (1, 65537, "multiples of ten")]
)
def test_sound_that_flac_cannot_hold(channels, rate, why):
    with pytest.raises(ArdmError, match=why):
        render(Content(Kind.AUDIO, noise(channels, 1, 9), rate=rate), "flac")


# --- AIFF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [b"", b"NONE", b"twos", b"sowt"])
@pytest.mark.parametrize(("channels", "length"), [(1, 1), (2, 21), (3, 8)])
def test_aiff_comes_back_byte_for_byte_and_its_samples_are_right(coding, channels, length):
    data = aiff(channels, length, coding, offset=4)
    assert back(data) == data
    content = read(data).content
    raw = np.random.default_rng(length).integers(256, size=2 * channels * length, dtype=np.uint8)
    told = raw.view("<i2" if coding == b"sowt" else ">i2").reshape(length, channels).T.astype(int)
    assert np.array_equal(content.samples[:, 0].astype(int) - 32768, told)
    assert (content.rate, content.origin) == (44100, "aiff")


def test_eight_bits_of_aiff_have_a_sign():
    data = aiff(1, 3, bits=8)
    assert back(data) == data
    told = np.random.default_rng(3).integers(256, size=3, dtype=np.uint8).view("i1").astype(int)
    assert np.array_equal(read(data).content.samples[0, 0].astype(int) - 128, told)


@pytest.mark.parametrize("rate", [0, 1, 8000, 11025, 44100, 192000, (1 << 32) - 1])
@pytest.mark.parametrize("dtype", ["u1", "<u2"])
def test_sounds_become_aiff_and_come_back(rate, dtype):
    x = np.arange(10, dtype=dtype).reshape(2, 1, 5)
    data = render(Content(Kind.AUDIO, x, "wav", rate=rate), "aiff")
    found = read(data).content
    assert (found.origin, found.rate, dict(found.about)) == ("aiff", rate, {})
    assert np.array_equal(found.samples, x)
    assert render(read(render(found, "wav")).content, "aiff") == data
    if rate:
        again, told = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
        assert told == rate or rate > 1 << 31  # libsndfile keeps rates in 31 bits
        wide = x[:, 0].T.astype(int) - (32768 if dtype == "<u2" else 128)
        assert np.array_equal(again, wide if dtype == "<u2" else wide * 256)


def test_other_programs_write_the_same_aiff():
    for subtype, format in (("PCM_16", "AIFF"), ("PCM_S8", "AIFF")):
        out, x = io.BytesIO(), np.random.default_rng(0).integers(-9000, 9000, (50, 2)).astype(np.int16)
        soundfile.write(out, x, 22050, subtype, format=format)
        assert back(out.getvalue()) == out.getvalue()
        assert read(out.getvalue()).content.rate == 22050


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (aiff(1, 9, b"ulaw"), "it has ulaw of 16 bits"),
        (aiff(1, 9, bits=24), "of 24 bits"),
        (aiff(1, 9, rate=b"\x7f" * 10), "rate"),
        (aiff(1, 0), "no samples"),
        (aiff(0, 9), "no samples"),
        (aiff(1, 9)[:40], "no samples"),
    ],
)
def test_aiff_that_is_kept_as_bytes(data, why):
    stays(data, why)


def test_a_recording_cut_short_keeps_its_samples():
    data = aiff(2, 100)[:-40]
    assert read(data).content.shape == (2, 1, 90)
    assert back(data) == data
