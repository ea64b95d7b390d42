"""FLAC of 8 and 16 bits: the samples, and all metadata blocks except STREAMINFO.

about "flac": those blocks in order.  STREAMINFO and the frames are encoded again, and so are the offsets of a seek
table.  The table keeps its target samples, rounded down to whole blocks.

`codec.flac_decode` reads and accounts for every bit.  libFLAC (package soundfile) writes where it is installed.
"""

from __future__ import annotations

import hashlib
import io
import struct
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from ardm.codec import flac_decode, flac_encode, flac_stream
from ardm.codec.flac_stream import SEEK, Broken, Head, Ints
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import wav
from ardm.formats.claims import Claim, Part
from ardm.formats.common import MAX_SAMPLES, FileFormat, KeepBytes, Read, admit

_PADDING = 1
_POINT = struct.Struct(">QQH")
"""A seek point: first sample of a frame, its byte offset from the first frame, number of its samples."""
_UNUSED = (1 << 64) - 1
"""The first sample of a placeholder point."""


def _writable(rate: int) -> bool:
    """Whether encoders accept the rate."""
    return 1 <= rate <= 65535 or (65535 < rate <= 655350 and rate % 10 == 0)


def read(data: bytes, strip: bool, most: int = MAX_SAMPLES) -> Read:
    """A file to sound of at most `most` samples; strip drops tags and pictures."""
    try:
        head, blocks, x = _decoded(data, most)
    except Broken as why:
        raise KeepBytes(str(why)) from None
    samples = wav.unsigned(x.T) if head.bits == 16 else (x[:, None] + 128).astype(np.uint8)
    kept = [(kind, _targets(body) if kind == SEEK else body) for kind, body in blocks]
    entries = b"".join(struct.pack(">I", kind << 24 | len(body)) + body for kind, body in kept)
    about = {"flac": entries} if kept else {}
    content = Content(Kind.AUDIO, samples, "flac", {} if strip else about, head.rate)
    tagged = any(kind not in (_PADDING, SEEK) for kind, _ in kept)
    return Read(content, (), ("tags",) if strip and tagged else ())


def _decoded(data: bytes, most: int) -> tuple[Head, list[tuple[int, bytes]], Ints]:
    """STREAMINFO, the other blocks, and the samples (C, n); KeepBytes unless the stream holds exactly n."""
    (first, *blocks), at = flac_stream.parts(data)
    head = Head.of(first[1])
    if head.bits not in (8, 16):
        raise KeepBytes(f"only 8 and 16 bits are read; it has {head.bits}")
    if not _writable(head.rate):
        raise KeepBytes(f"it has {head.rate} samples per second, which encoders do not accept")
    tables = [body for kind, body in blocks if kind == SEEK]
    if len(tables) > 1:
        raise KeepBytes(f"it has {len(tables)} seek tables, and only one is allowed")
    if any(len(table) % _POINT.size for table in tables):
        raise KeepBytes("its seek table is damaged")
    if head.total:
        admit(head.channels, 1, head.total, most)
    x = flac_decode.decode(data, at, head, head.total or min(MAX_SAMPLES, most) // head.channels)
    admit(head.channels, 1, x.shape[1], most)
    if head.total and head.total != x.shape[1]:
        raise KeepBytes(f"it ends early: it has {x.shape[1]} samples, and its first block says {head.total}")
    if head.md5 not in (bytes(16), hashlib.md5(flac_stream.raw(x, head.bits), usedforsecurity=False).digest()):
        raise KeepBytes("it is damaged: its checksum does not agree")
    return head, blocks, x


# --- seek tables ------------------------------------------------------------------------------------------------------


def _targets(table: bytes) -> bytes:
    """Keep the target blocks of a seek table, and set its offsets to zero."""
    points = [sample for sample, _, _ in _POINT.iter_unpack(table)]
    blocks = sorted({sample // flac_encode.BLOCK for sample in points if sample != _UNUSED})
    found = [_POINT.pack(block * flac_encode.BLOCK, 0, 0) for block in blocks]
    return b"".join(found) + _POINT.pack(_UNUSED, 0, 0) * (len(points) - len(found))


def _seek_table(table: bytes, begins: list[int], size: int, length: int) -> bytes:
    """Fill in the offsets for a stream of `length` samples whose blocks of `size` begin at the bytes `begins`."""
    points = sorted({sample // size for sample, _, _ in _POINT.iter_unpack(table) if sample < length})
    points = points[: bisect_right(points, len(begins) - 1)]
    found = [_POINT.pack(k * size, begins[k] - begins[0], min(size, length - k * size)) for k in points]
    return b"".join(found) + _POINT.pack(_UNUSED, 0, 0) * (len(table) // _POINT.size - len(found))


# --- writing ----------------------------------------------------------------------------------------------------------


def _render(content: Content) -> bytes:
    """Write a file; ArdmError above eight channels, and for rates that FLAC does not have."""
    x = content.samples
    if len(x) > 8 or not _writable(content.rate) or not x.shape[2]:
        said = f"{len(x)} channels, {content.rate} samples per second"
        raise ArdmError(
            f"flac holds up to 8 channels at 1 to 65535 samples per second, or multiples of ten up to 655350; got {said}"
        )
    data = _stream(x, content.rate)
    (first, *_), at = flac_stream.parts(data)
    entries = content.about.get("flac", b"") if content.origin == "flac" else b""
    size, begins, start = int.from_bytes(first[1][:2], "big"), list[int](), bytearray(flac_stream.joined([first]))
    last = len(flac_stream.MAGIC)
    for kind, body in _blocks(entries):  # lazily: a hostile file may have millions
        if kind == SEEK:
            begins = begins or flac_stream.places(data, at, -(-x.shape[2] // size))
            body = _seek_table(body, begins, size, x.shape[2])
        start[last] &= 127
        last = len(start)
        start += struct.pack(">I", (128 | kind) << 24 | len(body)) + body
    return bytes(start) + data[at:]


def _stream(x: Samples, rate: int) -> bytes:
    """Encode the samples, with libFLAC if it is installed and accepts them."""
    wide = x.itemsize > 1
    if (package := flac_stream.soundfile_package()) is not None:
        file = io.BytesIO()
        signed = wav.signed(x) if wide else ((x[:, 0].T.astype(np.int16) - 128) << 8).astype(np.int16)
        try:
            package.write(file, signed, rate, format="FLAC", subtype="PCM_16" if wide else "PCM_S8")
            return file.getvalue()
        except (RuntimeError, ValueError):  # soundfile.LibsndfileError is a RuntimeError
            pass
    return flac_encode.encode(x[:, 0].astype(np.int64) - (1 << 15 if wide else 1 << 7), rate, 16 if wide else 8)


def _blocks(entries: bytes) -> Iterator[tuple[int, bytes]]:
    """Parse the metadata blocks of about "flac"."""
    at = 0
    while at < len(entries):
        field = struct.unpack_from(">I", entries, at)[0]
        yield field >> 24 & 127, entries[at + 4 : at + 4 + (field & 0xFFFFFF)]
        at += 4 + (field & 0xFFFFFF)


def _claim(part: Part) -> Claim:
    fields = int.from_bytes(part(18, 8), "big")
    length = fields & (1 << 36) - 1
    return Claim("flac", (fields >> 41 & 7) + 1, 1, length, (fields >> 36 & 31) + 1, image=False, open=length == 0)


FORMAT = FileFormat("flac", (".flac",), rb"fLaC", _claim, read, _render, Kind.AUDIO, (8, 8))
