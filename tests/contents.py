"""Contents of every kind, and a small model that codes them, for the tests of the file format."""

import io
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ardm import ans
from ardm.codec.archive import write_archive
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ModelMissing
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


def bound(content, original=None):
    """The most bytes that a file may have."""
    about = sum(len(k) + len(v) + 2 for k, v in content.about.items()) + 5 * bool(content.about)
    return min(content.raw_bytes + len(content.layout) + about, 1 << 60 if original is None else len(original)) + 40


def some(count, **kw):
    return [image(seed=k, **kw) for k in range(count)]


def archived(items, names=None, coder=None, originals=None, progress=None):
    """As `compress_archive`, with all that an archive may keep."""
    out = io.BytesIO()
    report = write_archive(out, io.BytesIO(), items, names, coder, originals, progress)
    return out.getvalue(), report


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
