"""General-purpose codecs of bytes: zstd, brotli, LZMA and PPMd, plain, trained and primed."""

from __future__ import annotations

import lzma
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from ardm.bench.codec import Absent, Changed, Codec, Setting, frameless
from ardm.bench.samples import chain, in_one, planes, raw, unplanes, unraw
from ardm.codec.header import Form
from ardm.content import Content, Samples

UNTRAINED = "needs other files to train on: --train FOLDER or --split"
"""The reason given for a codec without training items."""
DICTIONARY = 112_640
"""Bytes of a trained zstd dictionary, the default of zstd."""
TRAINING = 1 << 25
"""About how many bytes to train it on; of more, every second, third, … piece is used."""
PREFIX = 1 << 23
"""Most bytes of other items that zstd looks back into."""
PRIME = 1 << 21
"""Most bytes of other items that PPMd reads before each item."""
PPMD = 8, 1 << 26
"""Order of PPMd, and the bytes of memory that it has."""


def _bytes(
    name: str,
    about: str,
    squeeze: Callable[[bytes], bytes],
    expand: Callable[[bytes, int], bytes],
    framing: Callable[[bytes], int] = frameless,
    planar: bool = False,
    shared: int = 0,
) -> Codec:
    """A codec of bytes; expand gets the length of its result.  planar: it gets images plane by plane."""
    ravel, unravel = (planes, unplanes) if planar else (raw, unraw)

    def encode(content: Content) -> bytes:
        return squeeze(ravel(content))

    def decode(data: bytes, form: Form) -> Samples:
        return unravel(expand(data, form.raw_bytes), form)

    together = in_one(name, encode, decode, chain)
    return Codec(name, about, encode, decode, framing=framing, together=together, shared=shared)


def zstd(name: str, setting: Setting) -> Codec:
    """zstd at its highest level."""
    return _zstd_with(name, None, setting.bare)


def zstd_trained(name: str, setting: Setting) -> Codec | Absent:
    """zstd with a trained dictionary."""
    import zstandard

    samples: list[Any] = [s[at : at + (1 << 17)] for s in setting.training for at in range(0, len(s), 1 << 17)]
    if not samples:
        return Absent(name, UNTRAINED)
    try:
        trained = zstandard.train_dictionary(DICTIONARY, samples[:: 1 + sum(map(len, samples)) // TRAINING], level=22)
    except zstandard.ZstdError as error:
        return Absent(name, f"too little to train on ({error})")
    return _zstd_with(name, trained, setting.bare)


def zstd_prefixed(name: str, setting: Setting) -> Codec | Absent:
    """zstd that looks back into other items."""
    import zstandard

    prefix = b"".join(setting.training)[-PREFIX:]
    if not prefix:
        return Absent(name, UNTRAINED)
    prefixed = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return _zstd_with(name, prefixed, setting.bare)


def _zstd_with(name: str, dictionary: Any, bare: bool) -> Codec:
    """zstd with a dictionary or none; bare: without the magic number, as in zstd's format for programs that need none."""
    import zstandard

    plain: dict[str, Any] = {"level": 22, "write_content_size": False, "write_dict_id": False}
    packer = zstandard.ZstdCompressor(dict_data=dictionary, **plain)
    unpacker = zstandard.ZstdDecompressor(dict_data=dictionary)

    magic = zstandard.FRAME_HEADER if bare else b""

    def squeeze(data: bytes) -> bytes:
        return bytes(packer.compress(data)[len(magic) :])

    def expand(data: bytes, length: int) -> bytes:
        return unpacker.decompressobj().decompress(magic + data)

    def framing(data: bytes) -> int:
        return zstandard.frame_header_size(magic + data) - len(magic)

    about = f"zstandard {version('zstandard')}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
    shared = len(dictionary.as_bytes()) if dictionary else 0
    return _bytes(name, about, squeeze, expand, framing, shared=shared)


def brotli(name: str, setting: Setting) -> Codec:
    """brotli at its highest level."""
    import brotli

    def squeeze(data: bytes) -> bytes:
        return bytes(brotli.compress(data, quality=11, lgwin=24))

    return _bytes(name, f"brotli {version('brotli')}", squeeze, lambda data, length: brotli.decompress(data))


def _lzma_filters(length: int, code: int = lzma.FILTER_LZMA2, **more: int) -> list[dict[str, Any]]:
    """The highest preset, with a dictionary no larger than the data, which saves most of the time."""
    size = max(4096, 1 << max(0, length - 1).bit_length())
    return [{"id": code, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(size, 1 << 26), **more}]


def xz(name: str, setting: Setting) -> Codec:
    """LZMA2 in an .xz container."""

    def squeeze(data: bytes) -> bytes:
        return lzma.compress(data, check=lzma.CHECK_NONE, filters=_lzma_filters(len(data)))

    def framing(data: bytes) -> int:
        """Bytes of header, block header, index and footer (xz file format, 2.1 and 3.1)."""
        block = 4 * (data[12] + 1) if data[12] else 0
        return 12 + block + 4 * (int.from_bytes(data[-8:-4], "little") + 1) + 12

    return _bytes(
        name, f"liblzma of Python {platform.python_version()}", squeeze, lambda d, n: lzma.decompress(d), framing
    )


def raw_lzma(name: str, setting: Setting) -> Codec:
    """LZMA2 without a container, plane by plane."""
    tuned = {"lc": 4, "lp": 0, "pb": 0}

    def squeeze(data: bytes) -> bytes:
        return lzma.compress(data, lzma.FORMAT_RAW, filters=_lzma_filters(len(data), **tuned))

    def expand(data: bytes, length: int) -> bytes:
        return lzma.decompress(data, lzma.FORMAT_RAW, filters=_lzma_filters(length, **tuned))

    return _bytes(name, f"liblzma of Python {platform.python_version()}", squeeze, expand, planar=True)


def ppmd(name: str, setting: Setting) -> Codec:
    """PPMd."""
    return _ppmd_after(name, b"")


def ppmd_primed(name: str, setting: Setting) -> Codec | Absent:
    """PPMd that has read other items."""
    import pyppmd  # noqa: F401  (report a missing package before missing training items)

    prime = b"".join(setting.training)[-PRIME:]
    return _ppmd_after(name, prime) if prime else Absent(name, UNTRAINED)


def _ppmd_after(name: str, prime: bytes) -> Codec:
    """PPMd (variant H) primed with `prime`; the decoder knows the bytes written for it, so they cost nothing."""
    import pyppmd

    known = pyppmd.Ppmd7Encoder(*PPMD).encode(prime) if prime else b""

    def squeeze(data: bytes) -> bytes:
        coder = pyppmd.Ppmd7Encoder(*PPMD)
        start = coder.encode(prime) if prime else b""
        if start != known:
            raise Changed(f"{name} is not deterministic")
        return bytes(coder.encode(data) + coder.flush()) if data else b""

    def expand(data: bytes, length: int) -> bytes:
        if not length:
            return b""
        return bytes(pyppmd.Ppmd7Decoder(*PPMD).decode(known + data, len(prime) + length)[len(prime) :])

    return _bytes(name, f"pyppmd {version('pyppmd')}", squeeze, expand, shared=len(prime))
