"""Contents to files and back, whatever the model; and no bytes do harm."""

import io

import numpy as np
import pytest
from hypothesis import given

from ardm.ans import CHECKS
from ardm.codec import decode, regions
from ardm.codec import fallback as stored
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.binary import varint
from ardm.codec.decode import decompress, frames
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.header import Form, Header, Limits
from ardm.codec.steps import MAX_CALLS
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported
from contents import HOW, NONE, QUICK, Small, bound, coders, contents, image, models, some, values


def there_and_back(content, coder):
    data, report = compress(content, coder)
    steps = []
    assert [*frames(data, models(coder), progress=lambda done, all: steps.append((done, all)))] == [content]
    assert steps[-1] == (content.samples.size, content.samples.size)
    assert len(data) == report.file_bytes <= bound(content)
    (info,) = describe(data)
    for name in ("kind", "shape", "samples", "raw_bytes", "file_bytes", "header_bytes", "regions", "calls"):
        assert getattr(info, name) == getattr(report, name), name
    assert (info.origin, info.rate, info.layout) == (content.origin, content.rate, content.layout)
    assert info.about == {name: len(value) for name, value in content.about.items()}
    assert (info.model, info.is_16bit) == (report.model[:4], content.is_16bit)
    assert info.content_check is None if info.regions == 1 else info.content_check == regions.crc_of(content.samples)
    return report


@QUICK
@given(contents(), coders())
def test_what_comes_out_went_in(content, coder):
    there_and_back(content, coder)


@QUICK
@given(contents(most=80), coders())
def test_in_several_regions_too(cut, content, coder):
    there_and_back(content, coder)


def test_a_small_picture_has_ten_bytes_of_header():
    coder = Small()
    data, report = compress(image(), coder)
    assert report.header_bytes == 10
    assert report.methods == {"coded": 1}
    assert len(data) <= 10 + report.bits / 8 + 41 / 8
    assert report.model == coder.identity
    assert (report.calls, report.items, report.regions) == (7, 1, 1)
    assert not report.stored
    assert report.bits_per_sample == pytest.approx(8 * len(data) / 3072)
    assert report.ratio == pytest.approx(3072 / len(data))


@pytest.mark.parametrize(
    ("shape", "header"), [((3, 32, 32), 6), ((1, 28, 28), 6), ((3, 17, 17), 7), ((1, 127, 5), 8), ((3, 128, 5), 9)]
)
@pytest.mark.parametrize("check", CHECKS)
def test_what_a_small_picture_costs_beside_its_samples(shape, header, check):
    """Of a model without calls: header and stream, with any check; and bare."""
    coder, content = Small(shape[0], calls=0), image(shape)
    data, report = compress(content, coder, check=check)
    bare, told = compress(content, coder, check=check, bare=True)
    assert (report.header_bytes, told.header_bytes) == (header, header - 5)
    assert len(data) - len(bare) == 5
    assert len(data) - report.bits / 8 < header + (41 if check == 32 else 33) / 8
    assert decompress(data, models(coder)) == decompress(bare, models(coder), bare=True) == content
    (info,), (same,) = describe(data), describe(bare, bare=True)
    assert (info.check, info.coded, info.model, info.calls) == (check, True, coder.identity[:4], 0)
    assert (same.check, same.coded, same.model, same.shape) == (check, True, "", shape)


@pytest.mark.parametrize(
    ("planes", "channels", "methods"),
    [(3, 1, {"coded": 1}), (3, 2, {"coded": 2}), (3, 4, {"coded": 2}), (2, 5, {"coded": 3}), (1, 15, {"coded": 15})],
)
def test_planes_are_grouped_as_the_model_has_them(planes, channels, methods):
    assert there_and_back(image((channels, 20, 20)), Small(planes)).methods == methods


def test_each_part_is_held_the_shortest_way():
    x = np.concatenate([values("small", (3, 16, 16)), values("noise", (1, 16, 16)), values("constant", (1, 16, 16))])
    report = there_and_back(Content(Kind.IMAGE, x), Small(3))
    assert report.methods == {"coded": 1, "raw": 1, "constant": 1}


def test_a_model_that_is_of_no_use_is_not_named():
    for how in ("noise", "constant"):
        report = there_and_back(image(how=how), Small())
        assert (report.model, report.calls, report.bits, report.stored) == ("", 0, 0.0, True)
    report = there_and_back(image(), Small(refuse="too green"))
    assert (report.model, report.refused) == ("", "too green")
    report = there_and_back(image((1, 1, 3)), Small(1))  # its name would take more than it saves
    assert report.stored


def test_constant_regions_do_not_reach_the_model(cut):
    x = values("constant", (3, 64, 96))
    x[:, 32:, 32:64] = values("small", (3, 32, 32))
    coder = Small()
    report = there_and_back(Content(Kind.IMAGE, x), coder)
    assert coder.jobs == 2  # one there, one back
    assert (report.regions, report.methods) == (6, {"coded": 1, "constant": 5})


def test_jobs_are_taken_as_they_are_needed(cut):
    """A coder that takes one job at a time gives each result before it gets the next job."""
    open_jobs, most = 0, 0

    class Counting(Small):
        def encode(self, jobs):
            def counted():
                nonlocal open_jobs, most
                for job in jobs:
                    open_jobs += 1
                    most = max(most, open_jobs)
                    yield job

            nonlocal open_jobs
            for coded in super().encode(counted()):
                yield coded
                open_jobs -= 1

    there_and_back(image((3, 100, 100)), Counting(batch=1))
    assert most == 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("how", ["noise", "small"])
@pytest.mark.parametrize("size", [0, 1, 2, 100, 5000])
def test_no_file_grows_by_more_than_forty_bytes(cut, kind, how, size):
    wide = kind != Kind.BYTES
    if kind == Kind.IMAGE and size == 0:
        return
    content = Content(
        kind, values(how, (1, 1, size), wide), rate=44100 * (kind == Kind.AUDIO), layout="|u1" * (kind == 3)
    )
    original = values("noise", (1, 1, 3 * size // 4), seed=1).tobytes()
    for coder in (None, Small(1, wide=wide)):
        for given_original in (None, original):
            data, _report = compress(content, coder, given_original)
            assert len(data) <= bound(content, given_original)
            found = decompress(data, models(coder))
            assert found == content or found == Content.of_bytes(original)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (15, 1, 1), (1, 1100, 1300), (4, 1, 70000)])
@pytest.mark.parametrize("wide", [False, True])
def test_noise_of_any_shape_stays_what_it_is(shape, wide):
    content = image(shape, "noise", wide)
    data, _ = compress(content, Small(3, wide=wide) if shape[2] < 100 else None)
    assert len(data) <= content.raw_bytes + 24
    assert decompress(data, NONE) == content


def test_the_original_is_kept_where_it_is_shorter():
    content, original = image(how="noise"), b"\x89PNG and a few bytes"
    data, report = compress(content, Small(), original)
    assert (report.kind, report.original_bytes, report.raw_bytes) == (Kind.BYTES, 20, 20)
    assert len(data) <= 40 + 20
    assert decompress(data, NONE) == Content.of_bytes(original, "png")
    data, report = compress(image(), Small(), bytes(values("noise", (1, 1, 4000))))
    assert (report.kind, report.original_bytes) == (Kind.IMAGE, 4000)


def test_a_large_thing_of_one_value_is_a_few_bytes(cut):
    assert len(compress(image((3, 500, 700), "constant"))[0]) <= 25
    x = values("constant", (3, 500, 700))
    x[0, 0, 0] = 1
    assert len(compress(Content(Kind.IMAGE, x))[0]) <= 3500


def test_samples_are_not_copied_as_a_whole():
    """The model gets views of the content."""
    content, seen = image((3, 40, 40)), []

    class Watching(Small):
        def encode(self, jobs):
            for job in jobs:
                seen.extend(np.shares_memory(part, content.samples) for part in job)
                yield from super().encode([job])

    compress(content, Watching())
    assert seen == [True]


# --- several frames in one file ---------------------------------------------------------------------------------------


def test_frames_of_bytes_may_follow_one_another(cut):
    texts = [b"", b"one", b"two " * 99, bytes(values("noise", (1, 1, 999)))]
    data = b"".join(compress(Content.of_bytes(text))[0] for text in texts)
    assert decompress(data, NONE).samples.tobytes() == b"".join(texts)
    assert decompress(io.BytesIO(data), NONE).samples.tobytes() == b"".join(texts)
    assert [x.samples.tobytes() for x in decode.frames(data, NONE)] == texts
    assert [info.samples for info in describe(data)] == [len(text) for text in texts]
    assert decompress(data, NONE, Limits(max_bytes=1398)).raw_bytes == 1398
    with pytest.raises(CodecError, match="max_bytes"):
        decompress(data, NONE, Limits(max_bytes=1000))


def test_no_other_frames_may(cut):
    text, pixels = compress(Content.of_bytes(b"text"))[0], compress(image((3, 70, 70), "noise"))[0]
    split = compress(image((3, 70, 70)))[0]
    assert describe(split)[0].regions > 1
    for data in (text + pixels, split + text, split + split):
        for look in (describe, lambda data: decompress(data, NONE)):
            with pytest.raises(CodecError, match="only frames of bytes may follow"):
                look(data)
    with pytest.raises(CodecError):
        decompress(pixels + text, NONE)
    with pytest.raises(CodecError, match="not a frame"):
        decompress(text + b"garbage", NONE)


def test_files_that_cannot_be_sought_are_read_too():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *a):
            raise OSError("a pipe")

    data, _ = compress(image(), Small())
    assert decompress(Pipe(data), models(Small())) == image()


def test_a_file_is_read_from_where_it_stands():
    data, _ = compress(Content.of_bytes(b"here"))
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert decompress(file, NONE) == Content.of_bytes(b"here")


# --- models -----------------------------------------------------------------------------------------------------------


def test_another_model_never_passes():
    data, _ = compress(image(), Small())
    with pytest.raises(ModelMissing):
        decompress(data, NONE)
    with pytest.raises(ModelMissing, match="was made by model"):
        decompress(data, lambda name, calls: Small(name="another"))
    with pytest.raises(ModelMissing, match="7 calls"):
        decompress(data, lambda name, calls: Small(calls=8))
    alike = Small()
    alike.identity = alike.identity[:4] + Small(name="another").identity[4:]
    with pytest.raises(CodecError, match="checksum"):
        decompress(data, models(alike))


def test_what_a_model_tells_is_checked():
    data, _ = compress(image(), Small())

    class Loud(Small):
        def decode(self, jobs, bits):
            for parts, check in super().decode(jobs, bits):
                yield [part.astype(np.int64) + 1000 for part in parts], check

    class Silent(Small):
        def encode(self, jobs, bits=32):
            list(jobs)
            return iter(())

        decode = encode

    class Cross(Small):
        def decode(self, jobs, bits):
            raise ArdmError("7 calls cannot be had")

    with pytest.raises(CodecError, match="end at 255"):
        decompress(data, models(Loud()))
    with pytest.raises(ArdmError, match="fewer results"):
        decompress(data, models(Silent()))
    with pytest.raises(ArdmError, match="fewer results"):
        compress(image(), Silent())
    with pytest.raises(CodecError, match="damaged file: 7 calls"):
        decompress(data, models(Cross()))

    def impossible(name, calls):
        raise ArdmError("7 calls cannot be had")

    with pytest.raises(ArdmError, match="7 calls") as error:  # what a person asked for is not the file's fault
        decompress(data, impossible)
    assert not isinstance(error.value, CodecError)


# --- limits -----------------------------------------------------------------------------------------------------------


def claims(form, calls=5):
    coder = Small()
    header = Header(form, model=coder.identity[:4] if form.model else "", steps=calls if form.model else 0)
    return header.write() + bytes(range(1, 60))


@pytest.mark.parametrize(
    ("form", "calls", "said"),
    [
        (Form(Kind.IMAGE, (1, 1 << 20, 1 << 20)), 0, "1048576x1048576 pixels, above the limit max_pixels = 268435456"),
        (Form(Kind.IMAGE, (15, 1 << 14, 1 << 14), is_16bit=True), 0, "bytes of samples, above the limit max_bytes"),
        (Form(Kind.BYTES, (1, 1, 1 << 40)), 0, "max_bytes"),
        (Form(Kind.AUDIO, (1, 1, 1 << 62)), 0, "max_bytes"),
        (Form(Kind.IMAGE, (3, 1 << 10, 1 << 10), model=True), MAX_CALLS - 1, "in 1048575 calls each.*max_work"),
        (Form(Kind.IMAGE, (3, 1 << 14, 1 << 14), model=True, span=10), 50, "max_work = 17179869184; raise"),
    ],
)
def test_limits_are_kept_before_anything_is_made(monkeypatch, form, calls, said):
    monkeypatch.setattr(decode, "_allocate", None)
    with pytest.raises(CodecError, match=said):
        decompress(claims(form, calls), None)
    if form.span == 0 and form.kind != Kind.BYTES:
        assert describe(claims(form, calls))[0].shape == form.shape


def test_a_hundred_megapixels_in_fifty_calls_are_within_the_limits():
    Limits().refuse(Form(Kind.IMAGE, (3, 10_000, 10_000), model=True, span=10), 50)


def test_limits_can_be_raised_and_lowered():
    data, _ = compress(image(how="constant"))
    for limits in (Limits(max_pixels=1023), Limits(max_bytes=3071)):
        with pytest.raises(CodecError, match="raise the limit"):
            decompress(data, NONE, limits)
    data, _ = compress_archive(some(2), None, Small())
    with pytest.raises(CodecError, match="max_work"):
        open_archive(data, Limits(max_work=3072 * 7 - 1)).item(0, models(Small()))
    assert open_archive(data, Limits(max_work=3072 * 7)).item(0, models(Small())) == image()


def test_a_promise_of_regions_that_the_file_cannot_hold(monkeypatch):
    monkeypatch.setattr(decode, "_allocate", None)
    with pytest.raises(CodecError, match="truncated file"):
        decompress(claims(Form(Kind.IMAGE, (1, 1 << 13, 1 << 13), span=5)), NONE)


def test_memory_that_is_not_there_is_no_damage(monkeypatch):
    def none(*args):
        raise MemoryError

    data = compress(image())[0]
    monkeypatch.setattr(np, "empty", none)
    with pytest.raises(MemoryError):
        decompress(data, NONE)


# --- what a piece may say ---------------------------------------------------------------------------------------------


def framed(form, piece):
    length = varint(len(piece)) if form.kind == Kind.BYTES else b""
    coder = Small(2)
    return Header(form, model=coder.identity[:4] * form.model, steps=7 * form.model).write() + length + piece


@pytest.mark.parametrize(
    ("model", "piece", "error", "said"),
    [
        (False, b"\x07" + bytes(9), Unsupported, "method 7"),
        (False, b"\x0f" + bytes(9), Unsupported, "method 15"),
        (False, b"\0" + bytes(9), CodecError, "contradict its header"),
        (False, b"\x11" + bytes(9), CodecError, "contradict its header"),
        (False, b"\x81\0" + bytes(9), CodecError, "shortest"),
        (True, b"\0\0" + bytes(9), CodecError, "contradict its header"),
        (True, b"\0\x91\x22" + bytes(9), CodecError, "more parts than there are"),
        (True, b"\x01", CodecError, "truncated"),
        (True, b"", CodecError, "truncated"),
        (False, b"\x06\x02ab" + bytes(4), CodecError, "FLAC"),
        (False, b"\x05\x06\x06\x06\x01a" + bytes(4), CodecError, "damaged"),
    ],
)
def test_pieces_that_make_no_sense(model, piece, error, said):
    with pytest.raises(error, match=said):
        decompress(framed(Form(Kind.IMAGE, (3, 2, 2), model=model), piece), models(Small(2)))


# --- what is stored for comparison ------------------------------------------------------------------------------------


@pytest.fixture
def packed(monkeypatch):
    """The sizes of what LZMA2 is given."""
    seen, real = [], stored._pack
    monkeypatch.setattr(stored, "_pack", lambda data, *a, **o: seen.append(len(data)) or real(data, *a, **o))
    return seen


class Keyed(Small):
    """A model that knows the key of samples which look like noise to any other."""

    key = np.random.default_rng(0).integers(0, 256, 1 << 14, np.uint8)

    def hidden(self, x):
        return x ^ self.key[: x.size].reshape(x.shape)

    def encode(self, jobs):
        return super().encode([self.hidden(part) for part in job] for job in jobs)

    def decode(self, jobs, bits):
        for found, check in super().decode(jobs, bits):
            yield [self.hidden(part) for part in found], check


def test_a_region_that_the_model_clearly_wins_is_not_given_to_lzma(packed):
    made = Keyed()
    content = Content(Kind.IMAGE, made.hidden(np.zeros((3, 64, 64), np.uint8)), "png")
    data, report = compress(content, made)
    assert report.methods == {"coded": 1}
    assert packed == []
    assert decompress(data, models(made)) == content
    small = Content(Kind.IMAGE, made.hidden(np.zeros((3, 9, 9), np.uint8)), "png")
    compress(small, made)
    compress_archive([small, small], None, made)
    assert packed == []
    compress(image((3, 64, 64)), made)
    assert packed, "what the model does not clearly win is stored for comparison"


@pytest.mark.parametrize("how", HOW)
def test_files_are_no_larger_for_what_is_not_stored_for_comparison(how, monkeypatch):
    contents = [image((3, h, h), how, seed=h) for h in (4, 20, 40)]
    mine = [len(compress(content, Small())[0]) for content in contents]
    monkeypatch.setattr(stored, "CLEARLY", 0.0)
    assert mine == [len(compress(content, Small())[0]) for content in contents]


def test_nothing_is_stored_twice_where_the_model_is_of_no_use(packed):
    items = [image((3, 16, 16), "noise", seed=k) for k in range(4)]
    plain, _ = compress_archive(items)
    once = list(packed)
    packed.clear()
    data, report = compress_archive(items, None, Small())
    assert (data, report.model) == (plain, "")
    assert packed == once
    packed.clear()
    compress(items[0], Small())
    assert packed == once[: len(packed)]
    assert len(packed) == len(once) // 4
