"""Rows of CSV in a stream: text to plain bytes and rows of values, and back, byte for byte; `codec` walks the rows.

The lines of a text that are rows as the model's schema writes them are coded by the model; what stands between them (a
header, a line with an unknown value, a last line without its end) is coded as bytes.  A part is first its plain bytes

    3 bytes  how many pieces follow
             of each:  3 bytes  how many plain bytes follow   · those bytes   · 3 bytes  how many rows stand after them

numbers most significant byte first, each byte a symbol of 256 equal frequencies; then all of its rows, walked as items
(1, rows, columns) of `together` rows each, the last of fewer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ardm.ans import PRECISION, Decoder, Ints
from ardm.errors import CodecError
from ardm.schema import Schema

PART = 1 << 10
"""Rows that are walked together, at most."""
ROOM = 1 << 24
"""Logits of the rows that are walked together, at most, unless one row has more."""
PIECE = 1 << 12
"""Plain bytes that are decoded at once, at most."""
COUNT = 3
"""Bytes of a number."""


Piece = tuple[bytes, list[list[int]]]
"""Plain bytes, and the rows that stand after them."""


def bare(schema: Schema) -> Schema:
    """A schema whose text is lines of rows, and nothing else."""
    return replace(schema, header=False, trailing=True)


def together(schema: Schema, classes: int) -> int:
    """How many rows of a model of K classes are walked together."""
    return max(1, min(PART, ROOM // (len(schema.names) * classes)))


def has_rows(schema: Schema, data: bytes) -> bool:
    """Whether a line of a text is a row; schema: a bare one, here and below."""
    return any(_row(schema, line) is not None for line in data.splitlines(keepends=True))


def pieces(schema: Schema, data: bytes) -> Iterator[Piece]:
    """Plain bytes and the rows after them, again and again; one of both may be missing in the first and the last."""
    known = dict[bytes, "list[int] | None"]()
    plain, rows = list[bytes](), list[list[int]]()
    for line in data.splitlines(keepends=True):
        if line not in known:
            known[line] = _row(schema, line)
        row = known[line]
        if row is not None:
            rows.append(row)
            continue
        if rows:
            yield b"".join(plain), rows
            plain, rows = [], []
        plain.append(line)
    yield b"".join(plain), rows


def layout(found: Sequence[Piece]) -> bytes:
    """What is told of pieces before their rows."""
    told = [_number(len(plain)) + plain + _number(len(rows)) for plain, rows in found]
    return _number(len(found)) + b"".join(told)


def read_layout(decoder: Decoder, schema: Schema, length: int) -> list[tuple[bytes, int]]:
    """The inverse of `layout`, of a text of `length` bytes: plain bytes, and how many rows stand after them.

    Raises CodecError for what cannot be, before anything of that size is made.
    """
    found, left, columns = list[tuple[bytes, int]](), length, len(schema.names)
    for _ in range(_count(decoder, length + 1)):
        plain = _plain(decoder, _count(decoder, left))
        rows = _count(decoder, (left - len(plain)) // columns)  # a column takes a byte at least
        left -= len(plain) + rows * columns
        found.append((plain, rows))
    return found


def written(schema: Schema, found: Sequence[tuple[bytes, int]], values: Ints, length: int) -> bytes:
    """The text of pieces and of all their rows (n, columns).  Raises CodecError where that is none, or has not `length`."""
    if (values >= np.array(schema.columns)).any():
        raise CodecError("damaged file: a column has a value that it cannot take")
    text, first = list[bytes](), 0
    for plain, count in found:
        text += [plain, schema.decode(values[first : first + count].tolist()).encode()]
        first += count
    made = b"".join(text)
    if len(made) != length:
        raise CodecError(f"damaged file: its rows make {len(made)} bytes where it has {length}")
    return made


def _row(schema: Schema, line: bytes) -> list[int] | None:
    """The values of a line; None where the schema would not write it just so."""
    try:
        text = line.decode()
        (cells,) = csv.reader(io.StringIO(text, newline=""), delimiter=schema.delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    cells = cells or [""]  # an empty line, which is no row: it would be written as two quotes
    if len(cells) != len(schema.names):
        return None
    row = [code.get(cell, -1) for code, cell in zip(schema._codes, cells, strict=True)]
    return row if -1 not in row and schema.decode([row]) == text else None


def _number(count: int) -> bytes:
    return count.to_bytes(COUNT, "big")


def _count(decoder: Decoder, most: int) -> int:
    count = int.from_bytes(_plain(decoder, COUNT), "big")
    if count > most:
        raise CodecError(f"damaged file: it counts {count} where {most} are the most")
    return count


def symbols(data: bytes) -> tuple[Ints, Ints]:
    """Bytes as symbols of equal frequencies: start, width."""
    x = np.frombuffer(data, np.uint8).astype(np.int32)
    return x << PRECISION - 8, np.full(len(x), 1 << PRECISION - 8, dtype=np.int32)


def _plain(decoder: Decoder, count: int) -> bytes:
    """The inverse of `symbols`."""
    sizes = [min(PIECE, count - first) for first in range(0, count, PIECE)]
    told = [decoder.pop(np.full((size, 256), 1 << PRECISION - 8, dtype=np.int64)) for size in sizes]
    return b"".join(x.astype(np.uint8).tobytes() for x in told)
