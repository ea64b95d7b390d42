"""FLAC of 8 and 16 bits, by the package soundfile.

about "flac": the metadata blocks as they came, but for the stream's own and its seek table, which are made anew.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.formats import wav
from ardm.formats.kit import Kept, Read, admit

_MISSING = "it needs another package, pip install 'ardm[audio]'"
_LONGEST = 1 << 18
"""Bytes from the end of a file in which its last frame begins; in longer ones the search would not end soon."""
_STREAM, _PADDING, _SEEK = 0, 1, 3


def _writable(rate: int) -> bool:
    """Whether encoders take it."""
    return 1 <= rate <= 65535 or (65535 < rate <= 655350 and rate % 10 == 0)


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the package is there and its library is not
        return None
    return soundfile


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and bodies of metadata blocks, then -1 and what follows them."""
    at, last = 4, False
    while not last:
        if at + 4 > len(data):
            raise Kept("it ends early")
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        yield kind & 127, data[at + 4 : at + 4 + size]
        at, last = at + 4 + size, kind > 127
    yield -1, data[at:]


def _raw(x: Samples) -> bytes:
    """Samples (C, 1, L) as the bytes of which a FLAC file has the MD5."""
    return wav.signed(x).astype("<i2").tobytes() if x.itemsize > 1 else (x[:, 0].T ^ np.uint8(128)).tobytes()


def _ends_with_frame(frames: bytes) -> bool:
    """Whether the last byte is the end of a frame: over a whole frame, its CRC-16 included, the CRC-16 is 0."""
    table, at = _table(), len(frames)
    while (at := max(frames.rfind(b"\xff\xf8", 0, at), frames.rfind(b"\xff\xf9", 0, at))) >= 0:
        before = crc = 0
        for byte in frames[at:]:
            before, crc = crc, (crc << 8 & 0xFFFF) ^ table[crc >> 8 ^ byte]
        if before and not crc:  # were it 0 before the last byte, zeros could follow
            return True
        if len(frames) - at > _LONGEST:
            break
    return False


def _table() -> list[int]:
    """Of the CRC-16 of FLAC, x¹⁶ + x¹⁵ + x² + 1."""
    table = []
    for crc in range(256):
        crc <<= 8
        for _ in range(8):
            crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return table


def read(data: bytes, strip: bool) -> Read:
    """Sound; strip drops tags and pictures."""
    *blocks, (_, frames) = _blocks(data)
    kind, stream = blocks[0]
    if kind != _STREAM or len(stream) < 34:
        raise Kept("it is damaged")
    fields = int.from_bytes(stream[10:18], "big")
    rate, channels, bits, length = fields >> 44, (fields >> 41 & 7) + 1, (fields >> 36 & 31) + 1, fields & (1 << 36) - 1
    if bits not in (8, 16):
        raise Kept(f"only 8 and 16 bits are read; it has {bits}")
    if not _writable(rate):
        raise Kept(f"it has {rate} samples a second, which cannot be written again")
    admit(channels, 1, length)
    if length > len(frames) << 13:  # a frame has up to 2^16 samples, and more than 8 bytes
        raise Kept("it ends early")
    package = _soundfile()
    if package is None:
        raise Kept(_MISSING)
    with package.SoundFile(io.BytesIO(b"".join((_head([(_STREAM, stream)]), frames)))) as file:
        signed = file.read(length + 1, dtype="int16", always_2d=True)
    if signed.shape != (length, channels):
        raise Kept("it is damaged")
    x = wav.unsigned(signed if bits == 16 else signed >> 8)
    x = x if bits == 16 else (x - 0x8000 + 128).astype(np.uint8)
    if stream[18:34] not in (bytes(16), hashlib.md5(_raw(x), usedforsecurity=False).digest()):
        raise Kept("it is damaged: its checksum does not agree")
    if b"fLaC" in frames or not _ends_with_frame(frames):  # two files one after the other are not one
        raise Kept("something follows its samples")
    rest = [(kind, body) for kind, body in blocks[1:] if kind not in (_STREAM, _SEEK)]
    about = {"flac": b"".join(struct.pack(">I", kind << 24 | len(body)) + body for kind, body in rest)} if rest else {}
    content = Content(Kind.AUDIO, x, "flac", {} if strip else about, rate)
    return Read(content, (), ("tags",) if strip and any(kind != _PADDING for kind, _ in rest) else ())


def _head(blocks: list[tuple[int, bytes]]) -> bytes:
    """The beginning of a file, up to its samples."""
    last = len(blocks) - 1
    parts = (
        struct.pack(">I", (128 * (k == last) | kind) << 24 | len(body)) + body for k, (kind, body) in enumerate(blocks)
    )
    return b"fLaC" + b"".join(parts)


def render(content: Content) -> bytes:
    """The file; ArdmError without the package, for more than eight channels, and for rates that FLAC lacks."""
    x = content.samples
    package = _soundfile()
    if package is None:
        raise ArdmError(f"flac: {_MISSING}")
    if len(x) > 8 or not _writable(content.rate) or not x.shape[2]:
        said = f"{len(x)} channels, {content.rate} samples a second"
        raise ArdmError(f"flac holds up to 8 channels at 1 to 65535 samples a second, or tens up to 655350; got {said}")
    signed = wav.signed(x) if content.wide else ((x[:, 0].T.astype(np.int16) - 128) << 8).astype(np.int16)
    file = io.BytesIO()
    try:
        package.write(file, signed, content.rate, format="FLAC", subtype="PCM_16" if content.wide else "PCM_S8")
    except (RuntimeError, ValueError) as error:
        raise ArdmError(f"flac cannot hold this sound: {error}") from None
    *blocks, (_, frames) = _blocks(file.getvalue())
    rest: list[tuple[int, bytes]] = []
    if content.origin == "flac" and "flac" in content.about:
        entries = content.about["flac"]
        at = 0
        while at < len(entries):
            field = struct.unpack_from(">I", entries, at)[0]
            size = field & 0xFFFFFF
            rest.append((field >> 24, entries[at + 4 : at + 4 + size]))
            at += 4 + size
    return _head([(_STREAM, blocks[0][1]), *rest]) + frames
