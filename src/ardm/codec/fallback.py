"""Samples to bytes without a model: the shortest of a few ways, all of which NumPy and the standard library undo.

    RAW        the samples
    CONSTANT   one sample per plane
    DEFLATE    v length | deflate of the samples
    LZMA       distance 1 | v length | LZMA2 of the samples, each byte less the one `distance` before it
    FILTERED   filter 1 per plane | v length | LZMA2 of the residue, low bytes and high bytes apart
    FLAC       v length | a FLAC stream (sound; written where libFLAC is installed, with the package soundfile; read
               everywhere)

A filter subtracts a prediction from each sample, modulo 2^8 or 2^16; samples outside a plane count as 0:

    0 none       1 left, in the first column up       2 up, in the first row left       3 left + up − corner
    4 left of left: 1 twice                           + 8: before that, the same place of the previous plane

A residue r is written as 2r, or as −2r − 1 if it is negative: small numbers either way.

NumPy, no torch.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.codec import flac_decode, flac_stream
from ardm.codec.binary import Reader, deflate, inflate, varint
from ardm.codec.header import Method
from ardm.content import Kind, Samples
from ardm.errors import CodecError, Unsupported

CLEARLY = 4 / 5
"""A model clearly wins below this share of the estimate: LZMA2 made no photograph measured more than 14 % shorter."""
REDUNDANT = 1 / 4
"""The share of the samples' bytes below which an estimate says nothing about LZMA2."""
DICTIONARY = 1 << 22
"""How many bytes LZMA2 may look back, in every file."""
_FILTERS = range(5)
_BEFORE = 8
_SMALL = 1 << 15  # bytes up to which every way is tried; above, only the one that a quick estimate prefers
_CHUNK = 1 << 24  # bytes read at once
_DEFLATE_WINDOW = 1 << 15
_BLOCK = 1 << 18  # bytes hashed at once
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)  # multipliers of a hash


class Fallback:
    """Samples (c, h, w) of a content of this kind, to be stored without a model."""

    def __init__(self, x: Samples, kind: Kind) -> None:
        self.x, self.kind = x, kind

    @property
    def constant(self) -> bool:
        """Whether each plane holds one value throughout."""
        return bool(self.x.size) and bool((self.x == self.x[:, :1, :1]).all())

    @cached_property
    def raw(self) -> bytes:
        """The samples as bytes."""
        return self.x.tobytes()

    @cached_property
    def filtered(self) -> tuple[bytes, bytes]:
        """A filter for each plane and the residue; empty for bytes, which are never filtered."""
        return (b"", b"") if self.kind == Kind.BYTES else _filter(self.x)

    @cached_property
    def distance(self) -> int:
        """The best distance of LZMA2's delta filter; 0 for more than one run of samples."""
        return _distance(self.raw) if self.x.size == max(self.x.shape) else 0

    @cached_property
    def flac(self) -> bytes:
        """Sound as a FLAC stream, not yet decoded again; empty without libFLAC, and for other kinds."""
        return _write_flac(self.x) if self.kind == Kind.AUDIO else b""

    def estimate(self) -> float:
        """A cheap estimate of the bytes that `store` takes, rather low than high; it does not run LZMA2.

        Deflate stands in for LZMA2; repetitions farther back than deflate looks count as free.
        """
        if self.constant:
            return float(len(self.x) * self.x.itemsize)
        looks = [self.raw, self.filtered[1], _delta(self.raw, self.distance) if self.distance else b""]
        sizes = [len(zlib.compress(look, 6)) * (1 - _repeated(look)) for look in looks if look]
        if self.flac:
            sizes.append(len(self.flac))
        return min([float(len(self.raw)), *sizes])

    def clear(self) -> float:
        """Fewer bytes than this are so clearly fewer than storing takes that storing need not be tried.

        0 where deflate already finds many repetitions: LZMA2 may find far more.
        """
        estimate = self.estimate()
        return CLEARLY * estimate if estimate > len(self.raw) * REDUNDANT else 0.0

    def store(self) -> tuple[Method, bytes]:
        """The shortest way to store the samples, and its bytes."""
        if not self.x.size:
            return Method.RAW, b""
        if self.constant:
            return Method.CONSTANT, self.x[:, 0, 0].tobytes()
        # FLAC comes first, while little else is in memory
        flac = self.flac if self.x.shape[2] > 64 and self.flac and _decodes_alike(self.flac, self.x) else b""
        ways = [(Method.RAW, self.raw)]
        if len(self.raw) <= _SMALL:
            packed = deflate(self.raw)
            ways.append((Method.DEFLATE, varint(len(packed)) + packed))
        ways += self._packed()
        if flac:
            ways.append((Method.FLAC, varint(len(flac)) + flac))
        return min(ways, key=lambda way: len(way[1]))

    def _packed(self) -> Iterator[tuple[Method, bytes]]:
        """LZMA2 of the samples and of the residue; for many bytes only the one that a quick estimate prefers."""
        plain: list[tuple[int, bytes]] = [(d, self.raw) for d in {0, self.distance}]
        codes, residue = self.filtered
        if len(self.raw) > _SMALL:
            looks = {0: self.raw, self.distance: _delta(self.raw, self.distance), -1: residue or self.raw}
            best = min(looks, key=lambda d: len(zlib.compress(looks[d], 1)))
            plain = [(best, self.raw)] if best >= 0 else []
            residue = residue if best < 0 else b""
        for d, data in plain:
            packed = _pack(data, d)
            yield Method.LZMA, bytes([d]) + varint(len(packed)) + packed
        if residue:
            packed = _pack(residue, lc=4, lp=0, pb=0)
            yield Method.FILTERED, codes + varint(len(packed)) + packed


def restore(method: Method, file: Reader, out: Samples) -> None:
    """Fill samples `out` (c, h, w) from the bytes of `Fallback.store`; CodecError unless they hold exactly those."""
    if not out.size and method != Method.RAW:
        raise CodecError(f"damaged file: it stores no samples by method {int(method)}")
    if method == Method.CONSTANT:
        out[...] = np.frombuffer(file.take(out.shape[0] * out.itemsize, "samples"), out.dtype)[:, None, None]
    elif method == Method.RAW:
        _restore_raw(file, out)
    elif method == Method.DEFLATE:
        raw = inflate(file.take(file.varint("stored length"), "stored samples"), out.nbytes, "stored samples")
        _fill(out, raw)
    elif method == Method.LZMA:
        distance = file.byte("stored samples")
        _fill(out, _unpack(file.take(file.varint("stored length"), "stored samples"), out.nbytes, distance))
    elif method == Method.FILTERED:
        codes = file.take(out.shape[0], "filters")
        residue = _unpack(file.take(file.varint("stored length"), "stored samples"), out.nbytes)
        _unfilter(codes, residue, out)
    elif method == Method.FLAC:
        _restore_flac(file.take(file.varint("stored length"), "stored samples"), out)
    else:
        raise CodecError(f"damaged file: samples cannot be stored by method {int(method)}")


def _fill(out: Samples, raw: bytes) -> None:
    """Put bytes of samples into `out`.  Raises CodecError where there are too many or too few."""
    if len(raw) != out.nbytes:
        raise CodecError(f"damaged file: {len(raw)} bytes of samples are stored where {out.nbytes} belong")
    out[...] = np.frombuffer(raw, out.dtype).reshape(out.shape)


def _restore_raw(file: Reader, out: Samples) -> None:
    """Read samples into `out`, a chunk at a time where its memory is in one piece: they may be large."""
    if out.nbytes > file.left:
        raise file.short("samples")
    if not out.flags.c_contiguous:
        _fill(out, file.take(out.nbytes, "samples"))
        return
    flat = out.reshape(-1).view(np.uint8)  # a view: contiguous
    for at in range(0, len(flat), _CHUNK):
        here = flat[at : at + _CHUNK]
        here[:] = np.frombuffer(file.take(len(here), "samples"), np.uint8)


# --- LZMA2 ------------------------------------------------------------------------------------------------------------


def _chain(distance: int, **options: int) -> list[dict[str, Any]]:
    delta = [{"id": lzma.FILTER_DELTA, "dist": distance}] if distance else []
    return [*delta, {"id": lzma.FILTER_LZMA2, "dict_size": DICTIONARY, **options}]


def _pack(data: bytes, distance: int = 0, **options: int) -> bytes:
    """Raw LZMA2, with an end marker."""
    size = min(DICTIONARY, max(1 << 12, 1 << (len(data) - 1).bit_length()))  # a decoder may use a larger one
    return lzma.compress(data, lzma.FORMAT_RAW, filters=_chain(distance, **{"preset": 9, **options, "dict_size": size}))


def _unpack(data: bytes, size: int, distance: int = 0) -> bytes:
    """The inverse of _pack; CodecError unless data, to their end, unpack to exactly `size` bytes."""
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_chain(distance))
    try:
        raw = unpacker.decompress(data, size + 1)
    except lzma.LZMAError:
        raise CodecError("damaged file: its stored samples cannot be unpacked") from None
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise CodecError("damaged file: the number of its stored samples is not the one in its header")
    return raw


def _distance(raw: bytes) -> int:
    """The distance, of those of common records, at which bytes are most alike; 0 if none helps."""
    data = np.frombuffer(raw, np.uint8)
    entropies = {d: _entropy(data[d:] - data[:-d] if d else data) for d in (0, 1, 2, 3, 4, 8)}
    return min(entropies, key=lambda d: entropies[d])


def _delta(raw: bytes, distance: int) -> bytes:
    data = np.frombuffer(raw, np.uint8)
    return (data[distance:] - data[:-distance]).tobytes() if distance else raw


def _repeated(data: bytes) -> float:
    """The share of windows of 32 bytes that occurred before, at any distance; 0 where deflate sees all distances."""
    if len(data) <= _DEFLATE_WINDOW:
        return 0.0
    x = np.frombuffer(data, np.uint8)
    found = np.concatenate([_window_hashes(x[a : a + _BLOCK + 31]) for a in range(0, len(x), _BLOCK)])
    return 1 - len(np.unique(found)) / len(found) if len(found) else 0.0


def _window_hashes(x: Samples) -> NDArray[np.uint64]:
    """Hashes of one in 16 of the windows of 32 bytes, chosen by content: equal windows are chosen alike."""
    h = x.astype(np.uint64)
    for span in (1, 2, 4, 8, 16):  # the hash of 2, 4, … 32 bytes
        h = (h[:-span] * _ODD[0]) ^ ((h[span:] + np.uint64(span)) * _ODD[1])
        h ^= h >> np.uint64(29)
    return h[h & np.uint64(15) == 0]


def _entropy(data: Samples) -> float:
    """The order-0 entropy of bytes (n,), in bits per byte."""
    return float(_entropies(data[None])[0])


def _entropies(data: Samples) -> NDArray[np.float64]:
    """(n,): the order-0 entropy of n runs of bytes (n, …), in bits per byte."""
    runs = data.reshape(len(data), -1)
    apart = runs + 256 * np.arange(len(runs))[:, None]
    p = np.bincount(apart.ravel(), minlength=256 * len(runs)).reshape(len(runs), 256) / max(1, runs.shape[1])
    return np.asarray(-(p * np.log2(p, where=p > 0, out=np.zeros_like(p))).sum(1))


# --- filters ----------------------------------------------------------------------------------------------------------


def _left(x: Samples) -> Samples:
    """Planes (…, h, w) minus their left neighbours; in the first column, minus those above."""
    d = x.copy()
    d[..., 1:] -= x[..., :-1]
    d[..., 1:, 0] -= x[..., :-1, 0]
    return d


def _unleft(d: Samples) -> Samples:
    d = d.copy()
    d[:, 0] = np.cumsum(d[:, 0], dtype=d.dtype)
    return np.cumsum(d, axis=1, dtype=d.dtype)


def _predict(code: int, x: Samples) -> Samples:
    """Planes (…, h, w) minus the prediction of a filter."""
    if code == 0:
        return x
    if code == 1:
        return _left(x)
    if code == 2:
        return _left(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    if code == 3:
        d = x.copy()
        d[..., 1:, :] -= x[..., :-1, :]
        return np.diff(d, prepend=np.zeros_like(d[..., :1]))
    return _left(_left(x))


def _unpredict(code: int, d: Samples) -> Samples:
    """The inverse of _predict."""
    if code == 0:
        return d
    if code == 1:
        return _unleft(d)
    if code == 2:
        return _unleft(d.T).T
    if code == 3:
        return np.cumsum(np.cumsum(d, axis=1, dtype=d.dtype), axis=0, dtype=d.dtype)
    return _unleft(_unleft(d))


def _fold(d: Samples) -> Samples:
    """Differences modulo 2^bits: r to 2r, or to −2r − 1 if it is negative."""
    top = d >> (8 * d.itemsize - 1)
    return (d << 1) ^ (0 - top).astype(d.dtype)


def _unfold(r: Samples) -> Samples:
    """The inverse of _fold."""
    return (r >> 1) ^ (0 - (r & 1)).astype(r.dtype)


def _filter(x: Samples) -> tuple[bytes, bytes]:
    """Choose a filter for each plane of (c, h, w); the filters and the residue, per plane low bytes, then high bytes."""
    tried = _FILTERS if x.shape[1] > 1 else (0, 1, 4)
    looks = np.concatenate([x, x[1:] - x[:-1]])  # each plane, and each less the previous one
    costs = [sum(map(_entropies, _bytes(_fold(_predict(code, looks)))), np.zeros(len(looks))) for code in tried]
    codes, out = [], []
    for k in range(len(x)):
        own = [(0, k), (_BEFORE, len(x) + k - 1)][: 1 + (k > 0)]
        ways = [(costs[i][look], code | kind, look) for kind, look in own for i, code in enumerate(tried)]
        _, code, look = min(ways, key=lambda way: way[0])
        codes.append(code)
        out += [data.tobytes() for data in _bytes(_fold(_predict(code % _BEFORE, looks[look])))]
    return bytes(codes), b"".join(out)


def _bytes(x: Samples) -> list[Samples]:
    """The low bytes of samples, then their high bytes if they have two."""
    return [(x >> 8 * byte & 0xFF).astype(np.uint8) for byte in range(x.itemsize)]


def _unfilter(codes: bytes, residue: bytes, out: Samples) -> None:
    """The inverse of _filter; residue has as many bytes as out."""
    halves = np.frombuffer(residue, np.uint8).reshape(out.shape[0], out.itemsize, *out.shape[1:])
    for k, code in enumerate(codes):
        if code & ~(_BEFORE * (k > 0)) not in _FILTERS:
            raise Unsupported(f"a plane of this file has the filter {code}, which this version of ardm lacks")
        folded = halves[k, 0].astype(out.dtype)
        if out.itemsize > 1:
            folded |= halves[k, 1].astype(out.dtype) << 8
        plane = _unpredict(code % _BEFORE, _unfold(folded))
        out[k] = plane + out[k - 1] if code & _BEFORE else plane


# --- FLAC -------------------------------------------------------------------------------------------------------------


def _write_flac(x: Samples) -> bytes:
    """Sound (c, 1, n) as a FLAC stream; empty where libFLAC is not installed or cannot write it."""
    package = flac_stream.soundfile_package()
    if package is None or x.shape[0] > 8 or x.shape[1] != 1 or not x.size:
        return b""
    file, wide = io.BytesIO(), x.itemsize > 1
    signed = (x[:, 0].T.astype(np.int32) - (1 << 15 if wide else 1 << 7)) << (0 if wide else 8)
    try:
        package.write(file, signed.astype(np.int16), 44100, format="FLAC", subtype="PCM_16" if wide else "PCM_S8")
    except RuntimeError:  # soundfile.LibsndfileError is one
        return b""
    return file.getvalue()


def _decodes_alike(stream: bytes, x: Samples) -> bool:
    """Whether a stream decodes to x without libFLAC, as it must on every installation."""
    again = np.empty_like(x)
    try:
        _restore_flac_plainly(stream, again)
    except CodecError:
        return False
    return np.array_equal(x, again)


def _restore_flac(data: bytes, out: Samples) -> None:
    """Decode a FLAC stream into out (c, 1, n), with libFLAC where it is installed and finds nothing wrong."""
    package, (c, h, n) = flac_stream.soundfile_package(), out.shape
    if h != 1:
        raise CodecError("damaged file: FLAC cannot hold planes of several rows")
    if package is not None:
        with suppress(RuntimeError, TypeError), package.SoundFile(io.BytesIO(data)) as file:
            subtype = "PCM_16" if out.itemsize > 1 else "PCM_S8"
            if (file.format, file.subtype, file.channels, file.frames) == ("FLAC", subtype, c, n):
                signed = file.read(n + 1, dtype="int16", always_2d=True)
                if signed.shape == (n, c):
                    _unsigned(signed.T >> (0 if out.itemsize > 1 else 8), out)
                    return
    _restore_flac_plainly(data, out)


def _unsigned(x: Samples, out: Samples) -> None:
    out[:, 0] = (x.astype(np.int32) + (1 << 15 if out.itemsize > 1 else 1 << 7)).astype(out.dtype)


def _restore_flac_plainly(data: bytes, out: Samples) -> None:
    """_restore_flac with NumPy alone; CodecError unless the stream holds those samples and nothing else."""
    wide = out.itemsize > 1
    try:
        if data[:4] != flac_stream.MAGIC:
            raise flac_stream.Broken("it does not begin with fLaC")
        ((_, first), *_), at = flac_stream.parts(data)
        head = flac_stream.Head.of(first)
        if (head.channels, head.bits) != (out.shape[0], 16 if wide else 8) or head.total not in (0, out.shape[2]):
            raise CodecError("damaged file: the size of its FLAC stream is not the one in its header")
        x = flac_decode.decode(data, at, head, out.shape[2])
    except flac_stream.Broken as why:
        raise CodecError(f"damaged file: its FLAC stream cannot be decoded: {why}") from None
    if x.shape[1] != out.shape[2]:
        raise CodecError("damaged file: its FLAC stream ends early")
    _unsigned(x, out)
