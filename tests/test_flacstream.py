"""FLAC streams: libFLAC agrees on every sample, no bit of a file is lost, and no header is trusted."""

import hashlib
import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from ardm.codec import flac_decode, flac_encode, flac_stream
from ardm.codec.flac_stream import SEEK, STREAM, Broken, Head
from ardm.content import Content, Kind
from ardm.formats import read, render

MOST = 1 << 24


def samples(kind, channels, bits, length):
    """Signed samples (C, n): noise, tones, silence, and samples whose low bits are 0."""
    rng, top, t = np.random.default_rng(0), 1 << bits - 1, np.arange(length)
    tones = np.sin(np.outer(np.arange(1, channels + 1), t) / 20) * top * 0.6
    return {
        "noise": rng.integers(-top, top, (channels, length)),
        "tones": (tones + rng.normal(0, top * 0.01, tones.shape)).round().astype(int),
        "alike": np.repeat(tones[:1].round().astype(int), channels, 0) + rng.integers(0, 2, (channels, length)),
        "silence": np.zeros((channels, length), int),
        "low": rng.integers(-top // 8, top // 8, (channels, length)) * 8,
        "peaks": np.where(rng.random((channels, length)) < 0.003, top - 1, 0),
    }[kind]


KINDS = ("noise", "tones", "alike", "silence", "low", "peaks")


def theirs(x, bits, level=0.5):
    """A stream written by libFLAC."""
    out = io.BytesIO()
    y = (x.T if bits == 16 else x.T << 8).astype(np.int16)
    soundfile.write(out, y, 44100, format="FLAC", subtype="PCM_16" if bits == 16 else "PCM_S8", compression_level=level)
    return out.getvalue()


def seen(data):
    """The samples (C, n) that libFLAC decodes."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.read(dtype="int16", always_2d=True).T >> (0 if file.subtype == "PCM_16" else 8)


def heard(data):
    """The samples (C, n) that we decode."""
    blocks, at = flac_stream.parts(data)
    return flac_decode.decode(data, at, Head.of(blocks[0][1]), MOST)


def headed(data, total=None, md5=bytes(16), **more):
    """A file with changes to its first block."""
    blocks, at = flac_stream.parts(data)
    head = bytearray(blocks[0][1])
    if total is not None:
        fields = int.from_bytes(head[10:18], "big")
        head[10:18] = (fields >> 36 << 36 | total).to_bytes(8, "big")
    head[18:34] = md5
    return flac_stream.joined([(STREAM, bytes(head)), *more.get("blocks", blocks[1:])]) + data[at:]


# --- against another program ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_what_libflac_writes_is_read_and_what_is_written_libflac_reads(kind, channels, bits):
    for length, level in ((1, 0.5), (3, 0.5), (17, 0.5), (4097, 0.0), (5001, 1.0)):
        x = samples(kind, channels, bits, length)
        data = theirs(x, bits, level)
        assert np.array_equal(heard(data), x)
        mine = flac_encode.encode(x, 44100, bits)
        assert np.array_equal(heard(mine), x)
        assert np.array_equal(seen(mine), x)
        assert len(mine) <= x.size * bits // 8 + 60 * (1 + length // flac_encode.BLOCK) + 20 * channels
        md5 = hashlib.md5(flac_stream.raw(x, bits), usedforsecurity=False).digest()
        assert Head.of(flac_stream.parts(data)[0][0][1]) == Head(44100, channels, bits, length, md5)


class Bits:
    """A writer of frames, bit by bit."""

    def __init__(self):
        self.all = []

    def put(self, value, n):
        self.all += [value >> k & 1 for k in range(n - 1, -1, -1)]
        return self

    def unary(self, n):
        self.all += [0] * n + [1]
        return self

    def bytes(self):
        return np.packbits(np.array(self.all + [0] * (-len(self.all) % 8), np.uint8)).tobytes()


def crc16(data):
    """The CRC-16 bit by bit, as in the specification."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
    return crc


def frame(body, size, number=0, varies=False, mode=0, sync=0xF8, extra=b""):
    """A frame of 16 bits around some subframes, with correct checks."""
    head = bytes([0xFF, sync | varies, 0x70, mode << 4 | 4 << 1]) + flac_stream.coded_number(number)
    head += (size - 1).to_bytes(2, "big")
    head += bytes([flac_stream.crc8(head)]) + body + extra
    return head + crc16(head).to_bytes(2, "big")


def verbatim(x):
    bits = Bits().put(2, 8)
    for value in x:
        bits.put(value & 0xFFFF, 16)
    return bits.bytes()


def stream(*frames, total=0, channels=1):
    fields = 44100 << 44 | channels - 1 << 41 | 15 << 36 | total
    head = struct.pack(">HH", 16, 65535) + bytes(6) + fields.to_bytes(8, "big") + bytes(16)
    return flac_stream.joined([(STREAM, head)]) + b"".join(frames)


def odd_bodies():
    """Subframes that libFLAC rarely writes: name → (body, samples)."""
    x = [5, -3, 100, -32768, 32767, 0, 7, -1] * 2
    escape = Bits().put(8 << 1, 8).put(0, 2).put(1, 4)  # fixed predictor 0, two parts
    escape.put(15, 4).put(16, 5)
    for value in x[:8]:
        escape.put(value & 0xFFFF, 16)
    escape.put(15, 4).put(0, 5)  # eight of no bits: zeros
    wide = Bits().put(8 << 1, 8).put(1, 2).put(0, 4).put(20, 5)  # five bits of a Rice parameter
    for value in x:
        folded = value << 1 ^ value >> 63
        wide.unary(folded >> 20).put(folded & (1 << 20) - 1, 20)
    wasted = Bits().put(1 << 1 | 1, 8).unary(3)
    for value in x:
        wasted.put((value // 16) & 0xFFF, 12)
    far = Bits().put(8 << 1, 8).put(0, 2).put(0, 4).put(0, 4)  # long runs of zeros
    for value in x:
        far.unary(value << 1 ^ value >> 63)
    linear = Bits().put((31 + 2) << 1, 8).put(3, 16).put(4, 16).put(4, 4).put(2, 5).put(8, 5).put(0b11100, 5)  # (2, −1)
    linear.put(0, 2).put(0, 4).put(0, 4)
    for _ in range(14):
        linear.unary(0)
    ramp = [3, 4]
    for _ in range(14):
        ramp.append((8 * ramp[-1] - 4 * ramp[-2]) >> 2)
    return {
        "escape": (escape.bytes(), x[:8] + [0] * 8),
        "wide": (wide.bytes(), x),
        "wasted": (wasted.bytes(), [v // 16 * 16 for v in x]),
        "far": (far.bytes(), x),
        "linear": (linear.bytes(), ramp),
        "constant": (Bits().put(0, 8).put(0xFFF0, 16).bytes(), [-16] * 16),
        "verbatim": (verbatim(x), x),
    }


@pytest.mark.parametrize("name", odd_bodies())
def test_subframes_of_every_type(name):
    body, x = odd_bodies()[name]
    data = stream(frame(body, 16), total=16)
    assert heard(data)[0].tolist() == x
    assert seen(data)[0].tolist() == x
    step = 1 + len(body) // 40
    for size in [*range(43, len(data), step), *range(len(data) - 5, len(data))]:  # wherever it is cut, that is noticed
        with pytest.raises(Broken):
            heard(data[:size])


def test_blocks_of_sizes_that_vary():
    sizes, x = (16, 300, 17, 4096, 20), []
    frames, at = [], 0
    for size in sizes:
        part = [(at + k) % 999 for k in range(size)]
        frames.append(frame(verbatim(part), size, at, varies=True))
        x += part
        at += size
    data = stream(*frames, total=at)
    assert heard(data)[0].tolist() == x
    assert seen(data)[0].tolist() == x


# --- no header is believed --------------------------------------------------------------------------------------------


def stays(data, why):
    found = read(data)
    assert found.content.kind == Kind.BYTES
    same = found.content.samples.tobytes() == data  # and no comparison of long bytes for a person to read
    assert same
    assert why in found.notes[0], found.notes


def test_as_many_samples_as_the_stream_has():
    """80,000 samples under a header that says 40,000, without MD5: believing it would lose half of the sound."""
    x = samples("tones", 1, 16, 80_000)
    data = flac_encode.encode(x, 8000, 16)
    stays(headed(data, 40_000), "more samples")
    stays(headed(data, 79_999), "more samples")
    stays(headed(data, 80_001), "80000 samples")
    for right in (data, headed(data), headed(data, 0)):  # 0: whoever wrote it did not know
        content = read(right).content
        assert np.array_equal(content.samples[:, 0].astype(int) - 32768, x)
        assert np.array_equal(heard(render(content)), x)
    stays(headed(data, md5=bytes(15) + b"\1"), "checksum")


def test_a_stream_of_unknown_length_is_read_up_to_the_limits(monkeypatch):
    """Without a number of samples in the header, decoding stops at the limit."""
    x = samples("tones", 2, 16, 10_000)
    data = headed(flac_encode.encode(x, 8000, 16), 0)

    def up_to(limit):
        return lambda claim, size: "too many" if claim.samples > limit else ""

    content = read(data, gate=up_to(20_000)).content
    assert np.array_equal(content.samples[:, 0].astype(int) - 32768, x)
    made = []
    monkeypatch.setattr(flac_decode, "_samples", lambda *a: made.append(a))
    for limit in (19_999, 3, 1, 0):
        found = read(data, gate=up_to(limit))
        assert (found.content.kind, made) == (Kind.BYTES, [])
        assert "more than the limits allow" in found.notes[0]


def test_small_frames_do_not_wait_by_the_million(monkeypatch):
    """A frame takes hundreds of bytes of memory, even for a single sample."""
    waited = []
    decoded = flac_decode._samples
    monkeypatch.setattr(
        flac_decode, "_samples", lambda several, bits: waited.append(len(several)) or decoded(several, bits)
    )
    monkeypatch.setattr(flac_decode, "_BATCH", 1 << 12)
    data = stream(*(frame(verbatim([k]), 1, k) for k in range(100)))
    assert heard(data).shape == (1, 100)
    assert max(waited) <= 16


def test_every_byte_of_the_frames_counts():
    """Every changed byte is noticed, even without MD5."""
    x = samples("tones", 2, 16, 50)
    data = headed(flac_encode.encode(np.concatenate([x, x[::-1]], 1), 8000, 16))
    at = flac_stream.parts(data)[1]
    for k in range(at, len(data)):
        for bit in (1, 16, 128):
            stays(data[:k] + bytes([data[k] ^ bit]) + data[k + 1 :], "FLAC")
    for k in range(at, len(data)):
        stays(data[:k], "FLAC")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (stream(frame(verbatim([1] * 16), 16), frame(verbatim([1] * 16), 16, 2)), "numbered"),
        (stream(frame(verbatim([1] * 16), 16, 1)), "numbered"),
        (stream(frame(verbatim([1] * 16), 16, extra=b"secret")), "damaged"),
        (stream(frame(verbatim([1] * 16), 16, extra=b"\0")), "damaged"),
        (stream(frame(Bits().put(0, 8).put(1, 16).bytes(), 16, extra=b"\0\0")), "damaged"),
        (stream(frame(verbatim([1] * 15), 16)), ""),
        (stream(frame(verbatim([1] * 16), 16), frame(verbatim([1] * 17), 17, 1)), "irregular"),
        (stream(*(frame(verbatim([1] * n), n, k) for k, n in enumerate((17, 16, 16)))), "irregular"),
        (stream(frame(verbatim([1] * 16), 16), frame(verbatim([1] * 16), 16, 16, True)), "irregular"),
        (stream(frame(verbatim([1] * 16) * 2, 16, mode=1)), "first block"),
        (stream(frame(verbatim([1] * 16), 16, mode=11)), "first block"),
        (stream(frame(Bits().put(13 << 1, 8).put(0, 16).bytes(), 16)), "damaged"),
        (stream(frame(Bits().put(128, 8).put(0, 16).bytes(), 16)), "damaged"),
        (stream(frame(Bits().put(8 << 1, 8).put(3, 2).put(0, 20).bytes(), 16)), "damaged"),
        (stream(frame(Bits().put(1 << 1 | 1, 8).unary(40).bytes() + bytes(40), 16)), "damaged"),
        (stream(), "no samples"),
        (stream()[:30], "early"),
    ],
)
def test_streams_that_are_not_quite_ones(data, why):
    stays(data, why)


def test_bits_between_a_frame_and_its_check():
    body = Bits().put(0, 8).put(7, 16).put(0, 0)
    assert read(stream(frame(body.bytes(), 16))).content.kind == Kind.AUDIO
    low = Bits().put((8 << 1), 8).put(0, 2).put(0, 4).put(0, 4)
    for _ in range(16):
        low.unary(0)
    stuffed = low.bytes()
    assert read(stream(frame(stuffed, 16))).content.kind == Kind.AUDIO
    assert len(low.all) % 8 == 2
    stays(stream(frame(stuffed[:-1] + bytes([stuffed[-1] | 1]), 16)), "more than samples")


@pytest.mark.parametrize(
    "tail", [b"\xff\xf8" * 16_000, b"\xff\xf9" * 16_000, b"\xff" * 32_000, bytes(32_000), b"TAG" + bytes(125), b"\0"]
)
def test_what_follows_is_seen_at_once(tail):
    data = flac_encode.encode(samples("tones", 1, 16, 9000), 8000, 16)
    began = time.process_time()
    stays(data + tail, "")
    stays(data + data[flac_stream.parts(data)[1] :] + tail, "numbered")
    stays(data + data, "follow")
    assert time.process_time() - began < 2
    assert read(b"ID3\3\0\0\0\0\0\0" + data).content.kind == Kind.BYTES


def test_time_grows_with_bytes():
    """A megabyte of frames that never end, or of headers, takes no longer than a megabyte of sound."""
    head = frame(b"", 4096)[:-2]
    began = time.process_time()
    for filler in (bytes(1 << 20), head * (80_000), (head + bytes(2)) * 70_000):
        stays(stream(head + Bits().put(8 << 1, 8).put(0, 10).bytes() + filler), "")
    assert time.process_time() - began < 6


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_every_metadata_block_stays_as_it_is():
    blocks = [
        (4, struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0)),
        (2, b"ABCDdata"),
        (1, bytes(9)),
        (1, b"not zero"),
        (5, bytes(range(99))),
        (6, b"a picture"),
        (60, b"reserved"),
        (126, b""),
        (4, b"a second of these"),
        (1, b""),
    ]
    data = headed(flac_encode.encode(samples("tones", 2, 16, 999), 8000, 16), blocks=blocks)
    found = read(data)
    assert (found.notes, found.dropped) == ((), ())
    again = render(found.content)
    assert flac_stream.parts(again)[0][1:] == blocks
    assert read(again).content == found.content
    stripped = read(data, strip=True)
    assert (stripped.dropped, dict(stripped.content.about)) == (("tags",), {})


@pytest.mark.parametrize("kind", [STREAM, 127])
def test_blocks_that_may_not_be_there(kind):
    data = flac_encode.encode(samples("tones", 1, 16, 99), 8000, 16)
    stays(headed(data, blocks=[(kind, bytes(34))]), "metadata blocks")
    first = flac_stream.parts(data)[0][0][1]
    stays(flac_stream.joined([(STREAM, first + b"\0")]) + data[42:], "first block")
    stays(headed(data, blocks=[(SEEK, bytes(17))]), "seek table")
    stays(headed(data, blocks=[(SEEK, b"")] * 2), "2 seek tables")


def test_blocks_beyond_number_are_not_gathered():
    """Each block of four bytes would take 150 bytes of memory, and time."""
    data = flac_encode.encode(samples("tones", 1, 16, 99), 8000, 16)
    many = (1, b"")
    assert read(headed(data, blocks=[many] * 4095)).content.kind == Kind.AUDIO
    stays(headed(data, blocks=[many] * 4096), "more than 4096 metadata blocks")


def test_what_is_kept_of_many_blocks_is_written_in_little_memory_and_time(monkeypatch):
    """Files that others made may hold streams that our own reader refuses."""
    asked = []
    places = flac_stream.places
    monkeypatch.setattr(flac_stream, "places", lambda *a: asked.append(1) or places(*a))
    x = np.zeros((1, 1, 9000), np.uint16)
    few = len(render(Content(Kind.AUDIO, x, "flac", {}, 8000)))
    data = render(Content(Kind.AUDIO, x, "flac", {"flac": b"\3\0\0\0" * 3000}, 8000))
    assert (len(data), len(asked)) == (few + 4 * 3000, 1)
    count = 20_000
    content = Content(Kind.AUDIO, x, "flac", {"flac": b"\1\0\0\0" * count}, 8000)
    tracemalloc.start()
    try:
        data = render(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * count
    assert data[42:46] == b"\1\0\0\0"
    assert data[42 + 4 * (count - 1) :][:6] == b"\x81\0\0\0\xff\xf8"


@pytest.mark.parametrize("library", [True, False])
def test_a_seek_table_leads_to_the_same_samples(library, monkeypatch):
    if not library:
        monkeypatch.setattr(flac_stream, "soundfile_package", lambda: None)
    length = 40_000
    x = samples("tones", 2, 16, length)
    targets = [0, 4096, 12_288, 20_000, 39_999, (1 << 64) - 1, (1 << 64) - 1]
    table = b"".join(struct.pack(">QQH", t, 12345, 7) for t in targets)
    data = headed(flac_encode.encode(x, 8000, 16), blocks=[(SEEK, table), (1, bytes(3))])
    found = read(data)
    assert read(data, strip=True).dropped == ()
    again = render(found.content)
    assert read(again).content == found.content
    blocks, at = flac_stream.parts(again)
    assert [kind for kind, _ in blocks] == [STREAM, SEEK, 1]
    points = list(struct.iter_unpack(">QQH", blocks[1][1]))
    assert [p[0] for p in points] == [0, 4096, 12_288, 16_384, 36_864, (1 << 64) - 1, (1 << 64) - 1]
    for sample, offset, size in points[:5]:
        number = flac_stream.coded_number(sample // 4096)
        assert again[at + offset : at + offset + 2] == b"\xff\xf8"
        assert again[at + offset + 4 : at + offset + 4 + len(number)] == number
        assert size == min(4096, length - sample)
    with soundfile.SoundFile(io.BytesIO(again)) as file:
        file.seek(20_000)
        assert np.array_equal(file.read(9, dtype="int16").T, x[:, 20_000:20_009])


def test_frames_are_numbered_as_the_specification_has_it():
    assert flac_stream.coded_number(127) == b"\x7f"
    for n in (128, 2047, 2048, 65535, 65536, 0x10FFFF):
        if not 0xD800 <= n < 0xE000:
            assert flac_stream.coded_number(n) == chr(n).encode()
    assert flac_stream.coded_number((1 << 36) - 1) == b"\xfe" + b"\xbf" * 6
