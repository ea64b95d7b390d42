"""Contents to files and back, whatever the model; and no bytes do harm."""

import contextlib
import io
import re
import zlib
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import by_the_page
from ardm import ans
from ardm.ans import CHECKS
from ardm.codec import decode, encode, index, regions
from ardm.codec import fallback as stored
from ardm.codec.archive import compress_archive, open_archive, write_archive
from ardm.codec.binary import Reader, check_bytes, crc8, varint
from ardm.codec.decode import decompress, decompress_many, frames
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.header import MODEL_SITES, SPANS, Form, Header, Limits, Method, read_header
from ardm.codec.pieces import Place, pieces_of
from ardm.codec.steps import MAX_CALLS, MAX_STARTS
from ardm.content import ORIGINS, Content, Kind, Lines
from ardm.errors import ArdmError, CodecError, ModelMissing, Unsupported
from ardm.exact.planned import calls_of

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


# --- a model that likes small numbers ---------------------------------------------------------------------------------


@dataclass
class Coded:
    start: np.ndarray
    width: np.ndarray

    @property
    def bits(self):
        return float(24 * len(self.width) - np.log2(self.width).sum())


class Small:
    """A model of independent bytes: byte v is 2^(-v/8) times as likely as byte 0.  Takes `batch` jobs at once."""

    def __init__(self, planes=3, name="small", calls=7, batch=3, refuse=None, wide=False):
        self.identity, self.planes = sha256(name.encode()).hexdigest(), planes
        self.steps, self.calls, self.usual = calls, calls_of(calls), False
        self.batch, self.refuse, self.dtype, self.jobs = batch, refuse, np.dtype("<u2" if wide else "u1"), 0
        self.row = ans.frequencies((np.arange(256) * -32 * np.log(2) / 8).astype(int)[None])
        self.first = ans.cumulative(self.row)[0]

    def refuses(self, content):
        return "two bytes" if content.samples.dtype != self.dtype else self.refuse

    def _batches(self, jobs):
        jobs = iter(jobs)
        while some := list(islice(jobs, self.batch)):
            self.jobs += len(some)
            yield from some

    def encode(self, jobs):
        for job in self._batches(jobs):
            data = [np.frombuffer(part.tobytes(), np.uint8) for part in job]
            yield [Coded(self.first[d], self.row[0, d]) for d in data]

    def finish(self, coded, check, bits):
        encoder = ans.Encoder()
        for part in coded:
            encoder.push(part.start, part.width)
        return encoder.finish(check, bits)

    def decode(self, jobs, bits):
        for stream, shapes in self._batches(jobs):
            decoder, out = ans.Decoder(stream, bits=bits), []
            for shape in shapes:
                count = int(np.prod(shape)) * self.dtype.itemsize
                data = decoder.pop(np.repeat(self.row, count, axis=0)).astype(np.uint8)
                out.append(data.view(self.dtype).reshape(shape))
            yield out, decoder.close()


def models(*coders):
    """A `Models` that finds these coders."""

    def find(name, calls):
        for coder in coders:
            if coder is not None and coder.identity[:4] in (name, name or coder.identity[:4]):
                return coder
        raise ModelMissing(f"no model {name}")

    return find


NONE = models()


# --- things to compress -----------------------------------------------------------------------------------------------


def values(how, shape, wide=False, seed=0):
    """Samples, each kind of which another method stores best."""
    rng, dtype = np.random.default_rng(seed), np.dtype("<u2" if wide else "u1")
    C, H, W = shape
    x = {
        "small": lambda: np.minimum(rng.geometric(0.08, shape) - 1, 255),  # by the model
        "noise": lambda: rng.integers(0, 1 << 8 * dtype.itemsize, shape),
        "constant": lambda: np.broadcast_to(np.arange(C)[:, None, None] * 9 + 5, shape),
        "ramp": lambda: np.add.outer(np.arange(C), np.add.outer(np.arange(H) * 3, np.arange(W) * 2)) % 251,
    }[how]()
    return np.ascontiguousarray(x, dtype=dtype)


HOW = ("small", "noise", "constant", "ramp")


def image(shape=(3, 32, 32), how="small", wide=False, seed=0, origin="png", about=None):
    return Content(Kind.IMAGE, values(how, shape, wide, seed), origin, about or {})


@st.composite
def contents(draw, most=40):
    kind, how, seed = draw(st.sampled_from(Kind)), draw(st.sampled_from(HOW)), draw(st.integers(0, 99))
    C, H, W = (draw(st.integers(1, n)) for n in (5, most, most))
    wide = kind != Kind.BYTES and draw(st.booleans())
    about = draw(st.dictionaries(st.sampled_from(["icc", "exif", "x-1"]), st.binary(max_size=20), max_size=2))
    origin = draw(st.sampled_from(ORIGINS))
    if kind == Kind.BYTES:
        return Content(kind, values(how, (1, 1, draw(st.integers(0, 99)) * most // 8), seed=seed), origin, about)
    if kind == Kind.AUDIO:
        length = draw(st.integers(0, 9)) * W
        return Content(kind, values(how, (C, 1, length), wide, seed), origin, about, rate=draw(st.integers(0, 48000)))
    if kind == Kind.ARRAY:
        shape = draw(st.sampled_from([(1, 1, W * draw(st.integers(0, 9))), (C, H, W)]))
        return Content(kind, values(how, shape, wide, seed), origin, about, layout="<u2 3,4 HWC")
    return Content(kind, values(how, (C, H, W), wide, seed), origin, about)


@st.composite
def coders(draw):
    if draw(st.booleans()):
        return None
    return Small(planes=draw(st.integers(1, 4)), batch=draw(st.sampled_from([1, 2, 100])), wide=draw(st.booleans()))


@pytest.fixture
def cut(monkeypatch):
    """Regions of 32, or 32×32, so that small contents have several."""
    monkeypatch.setattr(encode, "span_of", lambda content, model: 5)


def bound(content, original=None):
    """The most bytes that a file may have."""
    about = sum(len(k) + len(v) + 2 for k, v in content.about.items()) + 5 * bool(content.about)
    return min(content.raw_bytes + len(content.layout) + about, 1 << 60 if original is None else len(original)) + 40


# --- frames -----------------------------------------------------------------------------------------------------------


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


# --- archives ---------------------------------------------------------------------------------------------------------


def some(count, **kw):
    return [image(seed=k, **kw) for k in range(count)]


class Counting(io.BytesIO):
    """A file that records which bytes are read."""

    def __init__(self, data):
        super().__init__(data)
        self.seen = set()

    def read(self, size=-1):
        at = self.tell()
        data = super().read(size)
        self.seen |= set(range(at, at + len(data)))
        return data


def archived(items, names=None, coder=None, originals=None, progress=None):
    """As `compress_archive`, with all that an archive may keep."""
    out = io.BytesIO()
    report = write_archive(out, io.BytesIO(), items, names, coder, originals, progress)
    return out.getvalue(), report


@QUICK
@given(st.lists(contents(most=20), min_size=1, max_size=5), coders(), st.booleans())
def test_an_archive_gives_back_every_item(items, coder, named):
    names = [f"a/{k}" for k in range(len(items))] if named else None
    steps = []
    data, report = archived(items, names, coder, progress=lambda done, all: steps.append((done, all)))
    archive = open_archive(io.BytesIO(data))
    assert steps == [(k + 1, len(items)) for k in range(len(items))]
    assert (len(archive), archive.file_bytes, report.items) == (len(items), len(data), len(items))
    assert list(archive.items(models(coder))) == items
    order = [*[*range(len(items))][::-1], 0]
    assert list(archive.items(models(coder), order)) == [items[k] for k in order]
    assert [archive.item(k, models(coder)) for k in range(len(items))] == items
    assert archive.names == (None if names is None else tuple(names))
    if named:
        assert archive.find(names[-1]) == len(items) - 1
    (info,) = describe(data)
    assert (info.items, info.names) == (len(items), archive.names)
    for name in ("samples", "raw_bytes", "file_bytes", "header_bytes", "regions"):
        assert getattr(info, name) == getattr(report, name), name
    infos = [archive.info(k) for k in range(len(items))]
    assert [i.shape for i in infos] == [c.shape for c in items]
    assert sum(i.file_bytes for i in infos) + archive.header_bytes == len(data)


def test_items_of_several_regions(cut):
    for items in (some(3, shape=(3, 70, 40)), [*some(1, shape=(3, 70, 40)), Content.of_bytes(b"text" * 99)]):
        data, report = compress_archive(items, None, Small())
        archive = open_archive(io.BytesIO(data))
        assert list(archive.items(models(Small()))) == items
        assert archive.info(0).regions == 6
        assert archive.info(0).content_check == regions.crc_of(items[0].samples)
        assert report.regions == describe(data)[0].regions > 6


def test_at_most_three_bytes_an_item_stand_beside_its_stream():
    streams = []

    class Measuring(Small):
        def finish(self, coded, check, bits):
            streams.append(len(super().finish(coded, check, bits)))
            return super().finish(coded, check, bits)

    items = some(200)
    data, report = compress_archive(items, None, Measuring())
    archive = open_archive(io.BytesIO(data))
    assert archive.uniform
    assert len(data) - sum(streams) <= 3 * 200
    assert report.header_bytes == archive.header_bytes == len(data) - sum(streams)


def test_an_item_that_is_stored_costs_the_others_nothing():
    items = [*some(20), image(how="noise"), image(how="constant")]
    data, report = compress_archive(items, None, Small())
    archive = open_archive(io.BytesIO(data))
    assert archive.uniform
    assert report.methods == {"coded": 20, "raw": 1, "constant": 1}
    assert archive.info(20).file_bytes == 3072 + 6
    assert list(archive.items(models(Small()))) == items


def test_what_items_share_stands_once():
    about = {"icc": values("noise", (1, 1, 500)).tobytes()}
    data, _ = compress_archive([image(about=about, seed=k) for k in range(10)], None, Small())
    assert len(data) < compress_archive(some(10), None, Small())[1].file_bytes + 600
    archive = open_archive(io.BytesIO(data))
    assert archive.item(7, models(Small())) == image(about=about, seed=7)
    assert archive.info(3).about == {"icc": 500}


@pytest.mark.parametrize("uniform", [True, False])
def test_an_item_is_read_without_the_others(uniform):
    items = some(30) if uniform else [image((3, 20 + k, 30), seed=k, about={"exif": b"x" * k}) for k in range(30)]
    data, _ = compress_archive(items, [f"{k}.png" for k in range(30)], Small())
    file = Counting(data)
    archive = open_archive(file)
    assert archive.uniform == uniform
    assert file.seen == set(range(archive.header_bytes))
    sizes = [archive.info(k).file_bytes for k in range(30)]
    file.seen.clear()
    assert archive.item(11, models(Small())) == items[11]
    start = archive.header_bytes + sum(sizes[:11])
    assert file.seen == set(range(start, start + sizes[11]))


def test_originals_are_kept_in_archives_too():
    items, originals = some(2), [b"short", None]
    data, report = archived(items, ["a.png", "b.png"], Small(), originals)
    archive = open_archive(io.BytesIO(data))
    assert list(archive.items(models(Small()))) == [Content.of_bytes(b"short", "png"), items[1]]
    assert report.original_bytes == 5


def test_a_model_that_is_of_no_use_to_any_item_is_not_named():
    data, report = compress_archive([image(how="noise", seed=k) for k in range(3)], None, Small())
    assert report.model == describe(data)[0].model == ""
    assert len(list(open_archive(data).items(NONE))) == 3
    data, report = compress_archive(some(2), None, Small(refuse="too green"))
    assert report.refused == "too green"


def test_items_are_loaded_one_by_one():
    """A sequence may load its items on demand without keeping them."""

    class Loading(list):
        def __getitem__(self, k):
            raise AssertionError("not asked for by number")

        def __iter__(self):
            return (image(seed=k) for k in range(len(self)))

    data, _ = compress_archive(Loading([None] * 5), None, Small())
    assert list(open_archive(data).items(models(Small()))) == some(5)


@pytest.mark.parametrize(
    ("items", "names", "originals", "said"),
    [
        (0, None, None, "at least one"),
        (2, ["a"], None, "2 items and 1"),
        (2, None, [None], "original"),
        (2, ["a", "a"], None, "two items are named 'a'"),
        (2, ["a", "../b"], None, "'../b' cannot be"),
        (2, ["a", "/b"], None, "'/b'"),
        (2, ["a", "c:/b"], None, "'c:/b'"),
        (2, ["a", "b\\c"], None, "relative paths"),
        (2, ["a", "b\nc"], None, "relative paths"),
        (2, ["a", ""], None, "''"),
        (2, ["a", "caf\udce9"], None, "cannot be"),
    ],
)
def test_archives_that_cannot_be_made(items, names, originals, said):
    with pytest.raises(ArdmError, match=said.replace("/", "/")):
        archived(some(items), names, None, originals)


def test_the_two_kinds_of_file_know_each_other():
    one, several = compress(image())[0], compress_archive(some(2))[0]
    with pytest.raises(ArdmError, match="open_archive"):
        decompress(several, NONE)
    with pytest.raises(ArdmError, match="decompress"):
        open_archive(one)
    archive = open_archive(several)
    for item in (-1, 2):
        for look in (archive.info, lambda k: archive.item(k, NONE)):
            with pytest.raises(ArdmError, match="items 0 to 1"):
                look(item)
    with pytest.raises(ArdmError, match="no names"):
        archive.find("a")


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


# --- checks of fewer bits, and bare frames ----------------------------------------------------------------------------


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


# --- damage -----------------------------------------------------------------------------------------------------------


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


# --- the page ---------------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text()


def examples():
    red_blue = Content(Kind.IMAGE, np.array([[[255, 0]], [[0, 0]], [[0, 255]]], np.uint8), "png")
    red = Content(Kind.IMAGE, np.array([[[255, 255]], [[0, 0]], [[0, 0]]], np.uint8), "png")
    grey = Content(Kind.IMAGE, np.array([[[0, 1, 2, 3], [1, 2, 3, 4], [0, 0, 0, 1]]], np.uint8), "png")
    more = [[[2, 0, 1, 5], [3, 1, 0, 0], [1, 4, 2, 0], [0, 7, 1, 0], [0, 2, 6, 1]]]
    taller = replace(grey, samples=np.concatenate([grey.samples, np.array(more, np.uint8)], axis=1))
    halves = Content(Kind.IMAGE, np.repeat(np.array([[[0, 7]]], np.uint8), 32, 1).repeat(32, 2), "png")
    return {
        "stored": compress(red_blue)[0],
        "coded": compress(grey, Small(1, calls=0))[0],
        "calls": compress(grey, Small(1))[0],
        "schedule": compress(taller, Small(1, calls=(0, 1, 5)))[0],
        "bare": compress(grey, Small(1, calls=0), check=8, bare=True)[0],
        "split": compress(halves)[0],
        "lines": compress_archive([Content.of_bytes(b"a"), Content.of_bytes(b"bc")], lines=Lines(ended=False))[0],
        "archive": compress_archive([red_blue, red])[0],
    }


def test_the_examples_of_the_page_are_what_is_written(cut):
    blocks = dict(re.findall(r"<!-- example: (\w+) -->\n```text\n(.*?)```", PAGE, re.S))
    told = {
        name: "".join(re.match(r"(?:[0-9A-F]{2} {1,2})+", f"{line} ")[0] for line in block.splitlines())
        for name, block in blocks.items()
    }
    assert {name: bytes.fromhex(text) for name, text in told.items()} == examples()


def test_the_page_names_every_number_of_the_format():
    for number, method in enumerate(Method):
        assert f"| {number} | {method.name.lower()} |" in PAGE
    for kind in Kind:
        assert f"| {int(kind)} | {kind.name.lower()} |" in PAGE
    for code, origin in enumerate(ORIGINS):
        assert f"{code} {origin or 'none'}" in " ".join(PAGE.split())
    for exponent, number in (
        (16, MAX_STARTS), (20, MAX_CALLS), (22, stored.DICTIONARY), (22, MODEL_SITES), (24, index.MAX_ABOUT), (26, index.MAX_DIRECTORY),
        (28, Limits().max_pixels), (31, Limits().max_bytes), (34, Limits().max_work),
    ):  # fmt: skip
        assert number == 1 << exponent
        assert f"2{str(exponent).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}" in PAGE
    assert f"{SPANS[0]} to {SPANS[-1]}" in PAGE


def found(form, about, samples):
    dtype = "<u2" if form["size"] == 2 else "u1"
    x = np.frombuffer(samples, dtype).reshape(form["C"], form["H"], form["W"])
    return Content(Kind(form["kind"]), x, form["origin"], about, form["rate"], form["layout"])


@QUICK
@given(st.lists(contents(most=20), min_size=1, max_size=4), st.booleans())
def test_a_decoder_written_from_the_page_reads_the_same(monkeypatch, cut, items, named):
    monkeypatch.setattr(stored, "_write_flac", lambda x: b"")
    assert [found(*item) for item in by_the_page.read(compress(items[0])[0])[1]] == items[:1]
    names = [f"{k}/x" for k in range(len(items))] if named else None
    told, every = by_the_page.read(compress_archive(items, names)[0])
    assert (told, [found(*item) for item in every]) == (names, items)


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
