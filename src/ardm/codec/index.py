"""Lengths, about blocks and directories: everything between a header and its pieces.

NumPy, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ardm.codec.binary import Reader, deflate, inflate, varint
from ardm.codec.header import Form, Header, read_form
from ardm.errors import ArdmError, CodecError

MAX_ABOUT = 1 << 24
"""The most bytes of an about block, unpacked."""
MAX_NAME = 4096
"""The most bytes of the name of an item."""
MAX_ENTRIES = 4096
"""The most entries of an about block."""
ENTRY = 256
"""Bytes that an entry of an about block counts for beside its value: a few bytes of a file may hold thousands."""
MAX_DIRECTORY = 1 << 26
"""The most bytes of the directory of an archive, unpacked."""
LEAST_PIECE = 1
"""Bytes of the shortest piece: a method, or a coder's state.  A check comes on top."""
_ROWS = 1 << 16  # lengths packed at once; a multiple of 8, so that their bits fill whole bytes


def pack_about(about: Mapping[str, bytes]) -> bytes:
    """An about block: its length, then the deflated names and values of its entries; empty without entries."""
    if not about:
        return b""
    entries = ((varint(len(name)), name.encode("ascii"), varint(len(value)), value) for name, value in about.items())
    data = b"".join(chain.from_iterable(entries))
    if len(data) > MAX_ABOUT:
        raise ArdmError(f"the metadata of a file may have {MAX_ABOUT} bytes; got {len(data)}")
    packed = deflate(data)
    return varint(len(packed)) + packed


def read_about(file: Reader) -> dict[str, bytes]:
    """The inverse of pack_about, for a block with entries."""
    packed = file.take(file.varint("about block"), "about block")
    inner = Reader.open(inflate(packed, MAX_ABOUT, "about block"))
    about: dict[str, bytes] = {}
    while inner.left:
        name = inner.take(inner.varint("about block"), "about block").decode("latin-1")
        if not re.fullmatch(r"[a-z0-9-]{1,32}", name) or name in about:
            raise CodecError(f"damaged file: its about block names {name[:40]!r}")
        if len(about) == MAX_ENTRIES:
            raise CodecError(f"damaged file: its about block has more than {MAX_ENTRIES} entries")
        about[name] = inner.take(inner.varint("about block"), "about block")
    if not about:
        raise CodecError("damaged file: its about block is empty")
    return about


def restored_bytes(about: Mapping[str, int]) -> int:
    """Bytes that about entries of these sizes count for in limits on what a file restores to."""
    return sum(about.values()) + ENTRY * len(about)


def pack_lengths(lengths: Sequence[int]) -> bytes:
    """Pack lengths: the least, a width in bits, and the difference of each from the least, lowest bit first."""
    least = min(lengths)
    width = (max(lengths) - least).bit_length()
    out = [varint(least), bytes([width])]
    for at in range(0, len(lengths), _ROWS):
        above = np.array(lengths[at : at + _ROWS], dtype=np.int64)[:, None] - least
        out.append(np.packbits((above >> np.arange(width) & 1).astype(np.uint8), bitorder="little").tobytes())
    return b"".join(out)


def read_lengths(file: Reader, count: int, what: str) -> NDArray[np.int64]:
    """The inverse of pack_lengths: (count,).  Raises CodecError where pieces of these lengths do not fit the file."""
    if count * LEAST_PIECE > file.left:
        raise file.short(what)
    least, width = file.varint(what), file.byte(what)
    if width > 62 or least > file.left:
        raise CodecError(f"damaged file: its {what} is out of range")
    lengths = np.full(count, least, dtype=np.int64)
    for at in range(0, count, _ROWS):
        here = lengths[at : at + _ROWS]
        data = np.frombuffer(file.take((len(here) * width + 7) // 8, what), np.uint8)
        bits = np.unpackbits(data, count=len(here) * width, bitorder="little").reshape(len(here), width)
        above = bits @ (1 << np.arange(width, dtype=np.int64))
        if above.max() > file.left:
            raise CodecError(f"damaged file: its {what} is out of range")
        here += above
    total = (int((lengths >> 32).sum()) << 32) + int((lengths & 0xFFFFFFFF).sum())  # cannot overflow
    if lengths.min() < LEAST_PIECE or total > file.left:
        raise CodecError(f"truncated or damaged file: its {what} promises {total} bytes; {file.left} are left")
    return lengths


def pack_directory(names: Sequence[str] | None, forms: Sequence[Form] | None) -> bytes:
    """The directory of an archive: its length, then, deflated, names that each end in a zero byte, and forms."""
    data = b"".join(name.encode("utf-8") + b"\0" for name in names or ())
    data += b"".join(form.write() for form in forms or ())
    if len(data) > MAX_DIRECTORY:
        raise ArdmError(
            f"the directory of an archive may have {MAX_DIRECTORY} bytes; these names and forms have {len(data)}: make several archives"
        )
    packed = deflate(data)
    return varint(len(packed)) + packed


def read_directory(file: Reader, header: Header) -> tuple[tuple[str, ...] | None, tuple[Form, ...] | None]:
    """The inverse of pack_directory: the names and the forms, each None if the header says there are none."""
    packed, count = file.take(file.varint("directory"), "directory"), header.items or 0
    data, names, forms = inflate(packed, MAX_DIRECTORY, "directory"), None, None
    if header.names:
        *texts, data = data.split(b"\0", count)
        names = tuple(text.decode("utf-8", "replace") for text in texts)
        if len(names) != count or name_fault(names):
            raise CodecError(f"damaged file: {name_fault(names) or 'its directory has too few names'}")
    inner = Reader.open(data)
    if header.form is None:
        forms = tuple(read_form(inner) for _ in range(count))
        if any(form.model for form in forms) and not header.model:
            raise CodecError("damaged file: a model codes an item, and the header names none")
    inner.close("directory")
    return names, forms


def name_fault(names: Sequence[str]) -> str:
    """The reason that names are invalid, as a sentence; "" if they are different relative paths that stay inside."""
    seen: set[str] = set()
    for name in names:
        if len(name.encode("utf-8", "replace")) > MAX_NAME:
            return f"the name {name[:40]!r}… has more than {MAX_NAME} bytes"
        steps = name.split("/")
        if {"", ".", ".."} & set(steps) or re.search(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]|^[A-Za-z]:", name):
            return f"{name!r} cannot be the name of an item; names are relative paths without '.', '..' or special characters"
        if name in seen:
            return f"two items are named {name!r}; names must differ"
        seen.add(name)
    return ""
