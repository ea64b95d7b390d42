"""FLAC frames to samples, with NumPy alone.

    decode(data, at, head, most)  → the samples of all frames

Nothing in a stream is trusted.  Frames follow one another up to the last byte; each matches its checksums, its number
and its header; every bit belongs to a field, or is a zero that fills a byte.  Anything else is Broken, so that
encoding a stream again loses nothing.  Time is proportional to bytes and samples, whatever the bytes are.

Python walks the Rice codes of one frame; NumPy takes their low bits together, and undoes prediction for many blocks
at once.

NumPy, no torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.codec.flac_stream import BITS, Broken, Head, Ints, coded_number, crc8, crc16

_WINDOW, _WIDEST = 1 << 18, 1 << 21  # bytes in view, at first and at most; no frame is longer
_BATCH = 1 << 21  # samples whose prediction is undone at once
_FRAME = 256  # a frame takes the memory of this many samples, besides its own
_FIXED = ((), (1,), (2, -1), (3, -3, 1), (4, -6, 4, -1))
_RATES = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
Partition: TypeAlias = tuple[int, int, int, bool]
"""Of a residual: number of values, bits of their low parts, the first bit, and whether they are stored raw."""


class _Short(Exception):  # noqa: N818
    """A frame extends beyond the bytes in view."""


@dataclass
class Subframe:
    """A channel of a block.  values: samples; with coefficients, the warm-up samples and then the residual."""

    values: Ints
    coefficients: tuple[int, ...] = ()
    shift: int = 0
    wasted: int = 0


@dataclass
class Frame:
    """A block of samples of every channel.  joint: 8, 9 or 10 where two channels are coded jointly, else 0."""

    first: int
    size: int
    joint: int
    channels: list[Subframe]


class _Window:
    """Some bytes of a stream, and the positions of their 1 bits."""

    def __init__(self, data: bytes, at: int, size: int) -> None:
        self.at, self.data = at, data[at : at + size]
        self.last = at + size >= len(data)
        self.octets = np.frombuffer(self.data + bytes(8), np.uint8)
        self.end = 8 * len(self.data)
        self.ones = np.flatnonzero(np.unpackbits(self.octets[: len(self.data)]))
        ones = np.concatenate([[-1], self.ones, [self.end]]).astype(np.int32)
        self.next = array("i", np.repeat(ones[1:], np.diff(ones)).tobytes())
        """For every bit, the position of the next 1, at or after it; `end` if there is none."""

    def take(self, p: int, n: int) -> int:
        """The n bits from bit p, as a number."""
        if p + n > self.end:
            raise _Short
        return int.from_bytes(self.data[p >> 3 : p + n + 7 >> 3], "big") >> (-(p + n) & 7) & (1 << n) - 1

    def gather(self, p: Ints, n: Ints | int, most: int) -> Ints:
        """The n bits from each of the bits p (m,), as numbers; n is at most `most` ≤ 33."""
        if len(p) and int(p[-1]) + most > self.end + 64:
            raise _Short
        byte, size = p >> 3, (most + 14) >> 3
        found = self.octets[byte].astype(np.int64)
        for k in range(1, size):
            found = found << 8 | self.octets[byte + k]
        return found >> (8 * size - (p & 7) - n) & (np.int64(1) << n) - 1

    def run(self, p: int, count: int, n: int) -> Ints:
        """`count` signed numbers of n bits each, from bit p."""
        if p + count * n > self.end:
            raise _Short
        return _signed(self.gather(p + n * np.arange(count), n, n), n)


def _signed(x: Ints, n: Ints | int) -> Ints:
    """Numbers of n bits, read as two's complement."""
    half = np.int64(1) << n >> 1
    return (x ^ half) - half


def frames(data: bytes, at: int, head: Head) -> Iterator[Frame]:
    """The frames from byte `at` to the last byte of data; raises Broken if there is anything else."""
    window, size = _Window(data, at, _WINDOW), _WINDOW
    first = number = fixed = 0  # fixed: the size of all blocks but the last; −1: sizes vary
    ended = False
    while at < len(data):
        try:
            frame, end, varies = _frame(window, at, head, first, number)
        except (_Short, IndexError):
            if window.last:
                raise Broken("it ends early" if len(data) - at > 4 else "other bytes follow its samples") from None
            if window.at == at:
                size *= 2
                if size > _WIDEST:
                    raise Broken("a frame is too long") from None
            window = _Window(data, at, size)
            continue
        fixed = fixed or (-1 if varies else frame.size)
        if ended or varies != (fixed < 0) or frame.size > fixed > 0:
            raise Broken("its blocks are irregular")
        ended = frame.size < fixed
        yield frame
        first, number, at = first + frame.size, number + 1, end


def _frame(window: _Window, at: int, head: Head, first: int, number: int) -> tuple[Frame, int, bool]:
    """The frame at byte `at`, its end, and whether block sizes vary."""
    begin = at - window.at
    n, mode, varies, p = _frame_header(window.data, begin, head, first, number)
    p *= 8
    channels = []
    for c in range(head.channels):
        side = mode == 9 if c == 0 else mode in (8, 10)
        channel, p = _subframe(window, p, n, head.bits + side)
        channels.append(channel)
    end = (p + 7 >> 3) + 2
    if window.take(p, -p % 8):
        raise Broken("its frames hold more than samples")
    window.take(8 * end - 16, 16)
    ones = window.ones[slice(*np.searchsorted(window.ones, (8 * begin, 8 * end)))]
    if crc16(ones - 8 * begin, 8 * (end - begin)):
        raise Broken("it is damaged")
    return Frame(first, n, mode if mode > 7 else 0, channels), window.at + end, varies


def _frame_header(data: bytes, p: int, head: Head, first: int, number: int) -> tuple[int, int, bool, int]:
    """The header of the frame at byte p: its samples, how its channels are stored, whether block sizes vary, and its end."""
    begin = p
    if data[p] != 0xFF or data[p + 1] & 0xFE != 0xF8:
        raise Broken("other bytes follow its samples" if number else "it is damaged")
    varies, size, rate = bool(data[p + 1] & 1), data[p + 2] >> 4, data[p + 2] & 15
    mode, depth = data[p + 3] >> 4, data[p + 3] >> 1 & 7
    numbered = coded_number(first if varies else number)
    if data[p + 4 : p + 4 + len(numbered)] != numbered:
        if p + 4 + len(numbered) > len(data):
            raise _Short
        raise Broken("its frames are not numbered one after another")
    p += 4 + len(numbered)
    n = 192 if size == 1 else 144 << size if size < 6 else 1 << size
    if size in (6, 7):
        n = int.from_bytes(data[p : p + size - 5], "big") + 1
        p += size - 5
    hertz = head.rate
    if rate in (12, 13, 14):
        hertz = int.from_bytes(data[p : p + 1 + (rate > 12)], "big") * (1000, 1, 10)[rate - 12]
        p += 1 + (rate > 12)
    elif rate and rate < 12:
        hertz = _RATES[rate]
    if data[p] != crc8(data[begin:p]):
        raise Broken("it is damaged")
    if (
        not size or rate == 15 or data[begin + 3] & 1 or n > 65535 or (hertz, mode + 1 if mode < 8 else 2) != (
            head.rate, head.channels) or mode > 10 or (BITS[depth] or head.bits) != head.bits
    ):  # fmt: skip
        raise Broken("its frames differ from its first block")
    return n, mode, varies, p + 1


def _subframe(window: _Window, p: int, n: int, bits: int) -> tuple[Subframe, int]:
    """The channel of n samples from bit p, and its end."""
    kind, wasted = window.take(p, 8), 0
    p += 8
    if kind & 1:
        wasted = window.next[p] - p + 1
        p += wasted
    bits -= wasted
    if kind > 127 or bits < 1:
        raise Broken("it is damaged")
    kind >>= 1
    if kind == 0:
        window.take(p, bits)
        return Subframe(np.repeat(window.run(p, 1, bits), n), wasted=wasted), p + bits
    if kind == 1:
        return Subframe(window.run(p, n, bits), wasted=wasted), p + n * bits
    order = kind - 8 if kind < 32 else kind - 31
    if (not 8 <= kind <= 12 and kind < 32) or order > n:
        raise Broken("it is damaged")
    values = np.empty(n, np.int64)
    values[:order] = window.run(p, order, bits)
    p += order * bits
    coefficients, shift = _FIXED[order] if kind < 32 else (), 0
    if kind >= 32:
        wide, shift = window.take(p, 4) + 1, window.take(p + 4, 5)
        if wide == 16 or shift > 15:
            raise Broken("it is damaged")
        coefficients = tuple(window.run(p + 9, order, wide).tolist())
        p += 9 + order * wide
    values[order:], p = _residual(window, p, n, order)
    return Subframe(values, coefficients, shift, wasted), p


def _residual(window: _Window, p: int, n: int, order: int) -> tuple[Ints, int]:
    """The residual (n − order,) from bit p, and its end."""
    partitions, ones, p = _partitions(window, p, n, order)
    counts, lows, firsts, raw = (np.array(x, np.int64) for x in zip(*partitions, strict=True))
    at, n_low, whole = np.array(ones, np.int64), np.repeat(lows, counts), np.repeat(raw, counts).astype(bool)
    before = np.empty_like(at)
    before[1:] = at[:-1] + n_low[:-1] + 1
    some = counts > 0
    before[(np.cumsum(counts) - counts)[some]] = firsts[some]
    x = window.gather(at + 1, n_low, max(1, int(lows.max()))) if len(at) else at
    folded = (at - before) << n_low | x
    return np.where(whole, _signed(x, n_low), folded >> 1 ^ -(folded & 1)), p


def _partitions(window: _Window, p: int, n: int, order: int) -> tuple[list[Partition], list[int], int]:
    """The partitions of a residual, the bit before the low bits of each value, and where it ends.

    A value of a Rice code is as many zeros as its high part says, a one, and its low bits.
    """
    method, split = window.take(p, 2), window.take(p + 2, 4)
    size = n >> split
    if method > 1 or n & (1 << split) - 1 or size < order:
        raise Broken("it is damaged")
    wide = 4 + method
    escape = (1 << wide) - 1
    p += 6
    following = window.next
    ones: list[int] = []
    partitions: list[Partition] = []
    for k in range(1 << split):
        count = size - (0 if k else order)
        low = window.take(p, wide)
        p += wide
        if low == escape:
            low = window.take(p, 5)
            p += 5
            partitions.append((count, low, p, True))
            ones.extend(range(p - 1, p - 1 + count * low, low) if low else [p - 1] * count)
            p += count * low
            if p > window.end:
                raise _Short
        else:
            partitions.append((count, low, p, False))
            p -= low + 1
            ones += [p := following[p + low + 1] for _ in range(count)]
            p += low + 1
    if p > window.end:
        raise _Short
    return partitions, ones, p


# --- samples ----------------------------------------------------------------------------------------------------------


def _undo(subframes: list[Subframe]) -> None:
    """Turn residuals into samples, in place; blocks of similar size together."""
    sizes: dict[int, list[Subframe]] = {}
    for s in subframes:
        if s.coefficients:
            sizes.setdefault((len(s.values) - 1).bit_length(), []).append(s)
    for together in sizes.values():
        ahead = max(len(s.coefficients) for s in together)
        longest = max(len(s.values) - len(s.coefficients) for s in together)
        x = np.zeros((ahead + longest, len(together)), np.int64)
        weight = np.zeros((ahead, len(together)), np.int64)
        for k, s in enumerate(together):
            skip = ahead - len(s.coefficients)
            x[skip : skip + len(s.values), k] = s.values
            weight[skip:, k] = s.coefficients[::-1]
        shift = np.array([s.shift for s in together])
        for t in range(ahead, len(x)):
            x[t] += np.einsum("pk,pk->k", weight, x[t - ahead : t]) >> shift
        for k, s in enumerate(together):
            skip = ahead - len(s.coefficients)
            s.values, s.coefficients = x[skip : skip + len(s.values), k], ()


def _samples(several: list[Frame], bits: int) -> Ints:
    """The samples of some frames, (C, n) int16."""
    _undo([s for frame in several for s in frame.channels])
    channels = [
        np.concatenate([frame.channels[c].values << frame.channels[c].wasted for frame in several])
        for c in range(len(several[0].channels))
    ]
    joint = np.repeat([frame.joint for frame in several], [frame.size for frame in several])
    if joint.any():
        a, b = channels
        middle = a << 1 | b & 1
        left = np.select([joint == 9, joint == 10], [a + b, middle + b >> 1], a)
        right = np.select([joint == 8, joint == 10], [a - b, middle - b >> 1], b)
        channels = [left, right]
    x = np.stack(channels)
    half = 1 << bits - 1
    if x.min() < -half or x.max() >= half:
        raise Broken("it is damaged")
    return x.astype(np.int16)


def decode(data: bytes, at: int, head: Head, most: int) -> NDArray[np.int16]:
    """Decode all frames from byte `at`: samples (C, n).

    head: of a stream of at most 16 bits.  most: the most samples per channel.  Raises Broken.
    """
    done, waiting, held = [np.empty((head.channels, 0), np.int16)], list[Frame](), 0
    for frame in frames(data, at, head):
        if frame.first + frame.size > most:
            if not head.total:
                raise Broken(f"it does not say how many samples it has, and has more than the limits allow ({most})")
            raise Broken("it has more samples than its first block says")
        waiting.append(frame)
        held += max(frame.size, _FRAME) * head.channels
        if held >= _BATCH:
            done.append(_samples(waiting, head.bits))
            waiting, held = [], 0
    if waiting:
        done.append(_samples(waiting, head.bits))
    return np.concatenate(done, axis=1)
