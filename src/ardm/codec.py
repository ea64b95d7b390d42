"""Data to bytes and back: the two sources that own bytes, and images of any size as one file.

    walk(model, plan, Encode(), blank, truth)        the data tell the symbols, and bits are written
    walk(model, plan, Decode(stream), blank)         the bits tell the symbols

Both are one loop with one model and one plan, so the decoder makes the encoder's calls line by line.  Coding x costs
−log2 p(x | plan) bits and less than 41 more, of which 32 are a checksum (`ans`); random bits decode to samples.

An image is cut into *parts*: its planes in groups of as many as the model has, and what is left over one by one, each
as the model's leading channel (grey images, alpha).  A part is coded by the model, or stored where that is shorter.
Parts are cut into tiles: those of the model's own shape, a batch of them at a time; or, where a model looks at windows
and serves any size, tiles as large as memory allows.  What lies outside an image is never asked for and costs nothing.

Read me first: a float network gives slightly other numbers with another library, processor or number of threads, and
one frequency that differs destroys the rest of a stream.  So a file that was coded by one is not portable; the
checksum tells.  `Numerics` is the one place that says which network computes the logits, and how they become integers.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.ans import PRECISION, Decoder, Encoder, Ints, frequencies, intervals, quantise
from ardm.bundle import Bundle, bundled, load
from ardm.container import (
    MAX_CHANNELS,
    MAX_PIXELS,
    STORED,
    Header,
    Method,
    Reader,
    Samples,
    check,
    read_header,
    restore,
    store,
)
from ardm.digits import Alphabet, Partial, Sites
from ardm.errors import ArdmError, CodecError
from ardm.heads import Head, MixtureHead
from ardm.model import AnyModel, Asks, Features
from ardm.orders import OrderConfig, image_plan
from ardm.plan import Plan
from ardm.walk import last, walk

DEFAULT_MODEL = "cifar10-codec"
"""The bundled model that codes photographs of any size."""
DEFAULT_CALLS = 50
"""Network calls of a tile, for a model that has no order of its own."""
TILE = 256
"""The largest side of a tile of a model that serves any size."""
ASKED = 1 << 14
"""Sites that one step of such a tile asks about, at most."""
CHUNK = 1 << 12
"""Sites at which a network is asked at once: memory does not grow with the image."""
BATCH = 32
"""Tiles of a model of one size that are coded together, at most."""
UNPORTABLE = "; or it was written with another version of PyTorch, kind of processor or number of threads"
"""What else may be wrong with a file that is not portable."""


# --- numerics: the seam -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numerics:
    """Which network computes the logits of a file, and how they become integer frequencies.

    code: what the file says.  network: the model that encoder and decoder run.
    frequencies: its logits (N, b) to widths (N, b) that sum to 2^24.
    """

    code: int
    network: Callable[[Bundle], AnyModel]
    frequencies: Callable[[Tensor], Ints]
    portable: bool = False


_networks: dict[str, AnyModel] = {}


def _float64(bundle: Bundle) -> AnyModel:
    """The model in float64, of the weights as they are saved: float32.  A few are kept."""
    if bundle.identity not in _networks:
        while len(_networks) >= 4:
            _networks.pop(next(iter(_networks)))
        network = copy.deepcopy(bundle.model).to("cpu").float().double().eval().requires_grad_(False)
        if isinstance(network.head, MixtureHead) and len(network.digits) == 1:
            network.head = _Edges(network.head)
        _networks[bundle.identity] = _Bounded(network)
    return _networks[bundle.identity]


def _rounded(logits: Tensor) -> Ints:
    return frequencies(quantise(logits.numpy()))


FLOAT64 = Numerics(1, _float64, _rounded)
NUMERICS = {n.code: n for n in (FLOAT64,)}


class _Edges(Head):
    """A logistic mixture of one digit by differences of its cdf.

    float64 resolves them to 1e-16, far below the smallest frequency, 6e-8; and it takes an eighth of the time that
    logarithms take that never cancel.  Those are needed by a second digit, which may lie in a block of less mass.
    """

    def __init__(self, head: MixtureHead) -> None:
        super().__init__(head.alphabet)
        self.mixture = head

    def logits(self, features: Features, value: Tensor, depth: Tensor) -> Tensor:
        """(N, K): log-masses of the values, at least log 1e-300."""
        weight, mean, inverse = self.mixture._mixture(features)
        edges = self.mixture._edge(torch.arange(self.mixture.digits.classes + 1))
        scaled = (edges - mean[..., None]) * inverse[..., None]
        cdf = torch.einsum("nm,nmk->nk", weight.exp(), scaled.sigmoid())
        return cdf.diff(dim=1).clamp(min=1e-300).log()


class _Bounded:
    """A model that is asked at CHUNK sites at a time."""

    def __init__(self, model: AnyModel) -> None:
        self._model = model

    @property
    def digits(self) -> Alphabet:
        return self._model.digits

    def __call__(self, state: Partial, context: Tensor | None = None) -> Asks:
        return _BoundedPrediction(self._model(state, context))


class _BoundedPrediction:
    def __init__(self, prediction: Asks) -> None:
        self._prediction = prediction

    def __getitem__(self, sites: Sites) -> Tensor:
        if len(sites) <= CHUNK:
            return self._prediction[sites]
        return torch.cat([self._prediction[Sites(index, sites.sites)] for index in sites.index.split(CHUNK)])

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        return self._prediction.log_prob(sites, digit)


@contextmanager
def _calm() -> Iterator[None]:
    """Arithmetic as the codec means it, whatever the caller has set."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(dtype)


# --- the two sources --------------------------------------------------------------------------------------------------


class Encode:
    """The data, while bits are written.  All symbols go to one stream, in the order in which they are told.

    bits: −log2 of the probability of what was told, as coded.
    """

    def __init__(self, numerics: Numerics = FLOAT64) -> None:
        self.bits = 0.0
        self._frequencies = numerics.frequencies
        self._pieces: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """Returns told, and remembers its pieces; raises ArdmError for a symbol that the model calls impossible."""
        if told is None:
            raise ArdmError("Encode needs the data: give truth to the walk")
        start, width = intervals(self._frequencies(logits), told.numpy())
        if not width.all():
            raise ArdmError(f"symbol {int(told[width.argmin()])} cannot be coded: the model calls it impossible")
        self._pieces.append((start.astype(np.int32), width.astype(np.int32)))  # images have many
        self.bits += float(PRECISION * len(width) - np.log2(width).sum())
        return told

    def onto(self, encoder: Encoder) -> None:
        """Push everything told so far."""
        for start, width in self._pieces:
            encoder.push(start, width)

    def finish(self, crc: int = 0) -> bytes:
        """The stream; crc: 32 bits that the decoder finds at its end."""
        encoder = Encoder()
        self.onto(encoder)
        return encoder.finish(crc)


class Decode:
    """A bit stream, symbol after symbol; the inverse of Encode."""

    def __init__(self, stream: bytes, numerics: Numerics = FLOAT64) -> None:
        self._frequencies, self._decoder = numerics.frequencies, Decoder(stream)

    def __call__(self, logits: Tensor, lane: Tensor, told: Tensor | None) -> Tensor:
        """(N,) symbols; raises CodecError where the stream ends."""
        return torch.from_numpy(self._decoder.pop(self._frequencies(logits)))

    def finish(self) -> int:
        """The 32 bits that the encoder was given; raises CodecError unless the stream ends here."""
        return self._decoder.close()


# --- parts and tiles --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lot:
    """Tiles that are walked together.

    plan: of the items.  shape: of one item, (M, h, w).  boxes: top, left, height and width of each tile.
    channels: of the items, those that hold the part's planes.
    """

    plan: Plan
    shape: tuple[int, ...]
    boxes: tuple[tuple[int, int, int, int], ...]
    channels: slice

    def take(self, part: Samples) -> Tensor:
        """The tiles of a part (c, H, W) as items (n, M, h, w), zero outside."""
        items = np.zeros((len(self.boxes), *self.shape), dtype=np.int64)
        for item, (y, x, h, w) in zip(items, self.boxes, strict=True):
            item[self.channels, :h, :w] = part[:, y : y + h, x : x + w]
        return torch.from_numpy(items)

    def put(self, part: Samples, items: Tensor) -> None:
        """Write items (n, M, h, w) to their places in a part (c, H, W); the inverse of take."""
        for item, (y, x, h, w) in zip(items.numpy(), self.boxes, strict=True):
            part[:, y : y + h, x : x + w] = item[self.channels, :h, :w]


def parts(channels: int, planes: int) -> list[slice]:
    """The planes of an image in groups of as many as the model has channels; what is left over, one by one."""
    whole = channels - channels % planes
    return [slice(a, a + planes) for a in range(0, whole, planes)] + [slice(a, a + 1) for a in range(whole, channels)]


@dataclass(frozen=True)
class Tiling:
    """How a model codes images along an order in a number of calls."""

    bundle: Bundle
    order: OrderConfig
    calls: int
    numerics: Numerics

    def plan(self, shape: tuple[int, ...]) -> Plan:
        """The plan of one item (M, h, w)."""
        return image_plan(self.order, shape, self.calls, len(self.bundle.config.digits))

    def side(self) -> int:
        """The side of the tiles of a model that serves any size: cells of the order, few enough for one step."""
        cell = self.order.cell
        when = self.plan((self.bundle.config.shape[0], cell, cell)).when
        busiest = int(when.flatten().bincount().max())
        return cell * max(1, min(TILE // cell, math.isqrt(max(1, ASKED // busiest))))

    def boxes(self, height: int, width: int) -> Iterator[tuple[tuple[int, int, int, int], ...]]:
        """The tiles of an image, a lot at a time."""
        config = self.bundle.config
        if config.trunk == "local":
            h = w = self.side()
            lot = 1
        else:
            h, w = config.shape[1:]
            lot = max(1, min(BATCH, (1 << 25) // (config.width * config.blocks * h * w)))
        every = [(y, x, min(h, height - y), min(w, width - x)) for y in range(0, height, h) for x in range(0, width, w)]
        return (tuple(every[a : a + lot]) for a in range(0, len(every), lot))

    def lots(self, planes: int, height: int, width: int) -> Iterator[Lot]:
        """Everything that is walked to code a part of this many planes."""
        M, *size = self.bundle.config.shape
        lead = self.order.lead % M
        channels = slice(0, M) if planes == M else slice(lead, lead + 1)
        plans: dict[Any, Plan] = {}
        for boxes in self.boxes(height, width):
            any_size = self.bundle.config.trunk == "local"
            shape = (M, *(boxes[0][2:] if any_size else size))
            filled = tuple(box[2:] for box in boxes)
            if len(set(filled)) == 1:
                filled = filled[:1]  # one plan serves all
            if (shape, filled) not in plans:
                inside = torch.zeros(len(filled), *shape, dtype=torch.bool)
                for item, (h, w) in zip(inside, filled, strict=True):
                    item[channels, :h, :w] = True
                # given: steps in which nothing is told are left out
                plan = self.plan(shape).only(inside).given(torch.zeros(1, *shape, dtype=torch.long))
                plans = {key: kept for key, kept in plans.items() if len(key[1]) == 1} | {(shape, filled): plan}
            yield Lot(plans[shape, filled], shape, boxes, channels)


def tiling(bundle: Bundle, calls: int | None = None, bayer: bool = False, numerics: Numerics = FLOAT64) -> Tiling:
    """How a model codes images: along its own order, or, if `bayer`, Bayer's over its own size.

    calls: by default the first level of the order.  numerics: by default those of new files.
    Raises ArdmError where the calls cannot be had.
    """
    C, *size = bundle.config.shape
    order, stages = bundle.order, len(bundle.config.digits)
    if bayer:
        order = OrderConfig("bayer", cell=1 << max(1, (max(size) - 1).bit_length()))
    if bayer and calls is None:
        fewest = order.delay * (C - 1) + 1
        calls = stages * min(max(round(DEFAULT_CALLS / stages), fewest), fewest - 1 + order.cell**2)
    made = Tiling(bundle, order, order.calls[0] if calls is None else calls, numerics)
    made.plan((C, 1, 1))  # refuses calls that cannot be had
    return made


# --- a whole image ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What compressing an image came to.

    shape: (C, H, W).  raw_bytes, file_bytes: sizes.  header_bytes: what stands before the samples.
    bits: of the symbols coded by the model, −log2 p as coded.  calls: network calls a tile; 0: nothing is coded by it.
    stored: whether the model was of no use.  seconds: of wall-clock time.
    """

    shape: tuple[int, int, int]
    raw_bytes: int
    file_bytes: int
    header_bytes: int
    bits: float
    calls: int
    seconds: float

    @property
    def stored(self) -> bool:
        """Whether nothing is coded by the model."""
        return self.calls == 0

    @property
    def bits_per_dim(self) -> float:
        """Bits of the file a sample."""
        return 8 * self.file_bytes / math.prod(self.shape)

    @property
    def ratio(self) -> float:
        """Raw size to file size."""
        return self.raw_bytes / self.file_bytes


def compress(x: Tensor, model: Bundle | str | Path = DEFAULT_MODEL, calls: int | None = None) -> bytes:
    """An image x (C, H, W) of integers, of any size, as a file.

    model: a bundle, or what `ardm.load` takes.  calls: network calls a tile, fewer being faster and larger; by default
    those the model was made for.  Raises ArdmError where x is no such image, or the calls cannot be had.
    """
    return pack(x, model, calls)[0]


def decompress(data: bytes, model: Bundle | str | Path | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The image (C, H, W) of a file: uint8, or int64 for a model of more than 256 values.

    model: the one it was made with; by default a bundled one is looked for.  Raises CodecError where the file is
    damaged, foreign, larger than max_pixels, or made by a model that is not at hand.
    """
    return unpack(data, model, max_pixels)[0]


def pack(
    x: Tensor, model: Bundle | str | Path = DEFAULT_MODEL, calls: int | None = None, suffix: str = "png"
) -> tuple[bytes, Report]:
    """The file of an image x (C, H, W), and a report; suffix: the format that the picture came in."""
    began = time.perf_counter()
    bundle = _bundle(model)
    how = tiling(bundle, calls, bayer=not bundle.order.fixed)
    samples = _samples(x, bundle.config.classes)
    C, H, W = samples.shape
    header = Header(C, H, W, wide=samples.itemsize > 1, suffix=suffix)
    best = _assemble(header, samples, [store(samples)], [])
    if Method.CONSTANT not in best.header.methods:
        best = min(_coded(samples, header, how), best, key=lambda file: len(file.data))
    return best.data, Report(
        header.shape, header.raw_bytes, len(best.data), len(best.header.write()), best.bits, best.header.calls,
        time.perf_counter() - began,
    )  # fmt: skip


def unpack(
    data: bytes, model: Bundle | str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[Tensor, Header]:
    """The image (C, H, W) of a file, and its header."""
    file = Reader(bytes(data))
    header = read_header(file, max_pixels)
    if header.numerics == STORED:
        x = _decoded(file, header, [slice(0, header.channels)], None)
    else:
        bundle = _maker(header, model)
        try:
            how = tiling(bundle, header.calls, header.bayer, NUMERICS[header.numerics])
            x = _decoded(file, header, parts(header.channels, bundle.config.shape[0]), how)
        except CodecError:
            raise
        except ArdmError as error:
            raise CodecError(f"damaged file: {error}") from None
    return torch.from_numpy(x if x.itemsize == 1 else x.astype(np.int64)), header


@dataclass(frozen=True)
class _File:
    data: bytes
    header: Header
    bits: float


def _coded(samples: Samples, header: Header, how: Tiling) -> _File:
    """The file in which each part is coded by the model, or stored where that is shorter."""
    held, sources = [], []
    for section in parts(header.channels, how.bundle.config.shape[0]):
        method, payload = store(samples[section])
        if method != Method.CONSTANT:
            source = Encode(how.numerics)
            _encode(samples[section], how, source)
            if source.bits < 8 * len(payload):
                method, payload = Method.CODED, b""
                sources.append(source)
        held.append((method, payload))
    bayer = how.order != how.bundle.order
    header = replace(header, numerics=how.numerics.code, model=how.bundle.identity[:8], calls=how.calls, bayer=bayer)
    return _assemble(header, samples, held, sources)


def _assemble(header: Header, samples: Samples, held: list[tuple[Method, bytes]], sources: list[Encode]) -> _File:
    """Header, what is stored, and one stream for what is coded, with the checksum of everything in it."""
    methods = tuple(method for method, _ in held)
    header = replace(header, methods=methods if any(methods) else ())
    before = header.write() + b"".join(payload for _, payload in held)
    encoder = Encoder()
    for source in sources:
        source.onto(encoder)
    return _File(before + encoder.finish(check(before, samples)), header, sum(source.bits for source in sources))


def _decoded(file: Reader, header: Header, sections: list[slice], how: Tiling | None) -> Samples:
    """The samples: what is stored, then what the stream tells; the inverse of _assemble."""
    coded = (Method.CODED,) * (len(sections) - len(header.methods))
    methods = header.methods + coded
    if len(methods) != len(sections):
        raise CodecError("damaged header: it holds more parts than the image has")
    x = np.empty(header.shape, header.dtype)
    for section, method in zip(sections, methods, strict=True):
        if method != Method.CODED:
            x[section] = restore(method, file, x[section].shape, header.dtype)
    before, stream = file.data[: file.at], file.data[file.at :]
    try:
        source = Decode(stream, FLOAT64 if how is None else how.numerics)
        for section, method in zip(sections, methods, strict=True):
            if method == Method.CODED and how is not None:
                _decode(x[section], how, source)
        if source.finish() != check(before, x):
            raise CodecError("damaged file: its content does not agree with its checksum")
    except CodecError as error:
        raise CodecError(f"{error}{UNPORTABLE * (how is not None and not how.numerics.portable)}") from None
    return x


def _encode(part: Samples, how: Tiling, source: Encode) -> None:
    """Walk the lots of a part (c, H, W), which tells the symbols."""
    model = how.numerics.network(how.bundle)
    with _calm():
        for lot in how.lots(*part.shape):
            start = model.digits.blank(len(lot.boxes), lot.shape)
            last(walk(model, lot.plan, source, start, truth=lot.take(part)), start)


def _decode(part: Samples, how: Tiling, source: Decode) -> None:
    """Walk the lots of a part (c, H, W), which is written; the inverse of _encode."""
    model = how.numerics.network(how.bundle)
    with _calm():
        for lot in how.lots(*part.shape):
            start = model.digits.blank(len(lot.boxes), lot.shape)
            lot.put(part, last(walk(model, lot.plan, source, start), start).value)


def _samples(x: Tensor, classes: int) -> Samples:
    """An image as contiguous uint8 or uint16, or ArdmError."""
    if not isinstance(x, Tensor) or x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
        raise ArdmError(f"an image is a tensor of integers (C, H, W); got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 3 or not x.numel() or x.shape[0] > MAX_CHANNELS:
        raise ArdmError(f"an image is (C, H, W), of at most {MAX_CHANNELS} channels, none empty; got {tuple(x.shape)}")
    values = x.detach().cpu().numpy()
    if values.min() < 0 or values.max() >= classes:
        raise ArdmError(f"this model codes values 0..{classes - 1}; got {values.min()}..{values.max()}")
    if classes > 1 << 16:
        raise ArdmError(f"samples of up to {1 << 16} values can be written; this model has {classes}")
    return np.ascontiguousarray(values, dtype="u1" if classes <= 256 else "<u2")


# --- models by name ---------------------------------------------------------------------------------------------------


def _bundle(model: Bundle | str | Path) -> Bundle:
    if isinstance(model, Bundle):
        return model
    return _shipped(str(model)) if str(model) in bundled() else load(model)


@lru_cache(maxsize=4)
def _shipped(name: str) -> Bundle:
    return load(name)


def _maker(header: Header, model: Bundle | str | Path | None) -> Bundle:
    """The model that a file was made with."""
    if header.numerics not in NUMERICS:
        raise CodecError(f"this file was coded with numerics {header.numerics}, which this version of ardm lacks")
    bundle = _at_hand(header.model) if model is None else _bundle(model)
    if bundle.identity[:8] != header.model:
        raise CodecError(f"this file was made by model {header.model}, not by {bundle.name} ({bundle.identity[:8]})")
    if header.wide != (bundle.config.classes > 256):
        raise CodecError("damaged header: its samples are not those of its model")
    return bundle


def _at_hand(identity: str) -> Bundle:
    """The bundled model of an identity, the default first."""
    names = sorted(bundled(), key=lambda name: (name != DEFAULT_MODEL, name))
    for name in names:
        bundle = _shipped(name)
        if bundle.identity[:8] == identity:
            return bundle
    known = ", ".join(f"{name} ({_shipped(name).identity[:8]})" for name in names) or "none"
    raise CodecError(f"this file was made by model {identity}, which is not here (bundled: {known}); name its folder")
