"""CSV text as plain bytes and rows of values, and back, byte for byte; `table_coder` codes the rows.

The model codes each line that is a row exactly as its schema would write it.  Everything between (a header, a line with
an unknown value, a last line without its end) is coded as plain bytes.  A part begins with its plain bytes:

    3 bytes  how many pieces follow
             of each:  3 bytes  how many plain bytes follow   · those bytes   · 3 bytes  how many rows stand after them

Numbers have their most significant byte first, and each byte is a symbol of 256 equal frequencies.  Then come all rows,
as items (1, rows, columns) of `together` rows each; the last has the rest.

A model of records, whose schema has a frame, expects a text that is one record without the end of its line.  So before all
this stands a symbol of two, of the frequencies EXPECTED: 0 for such a text, of which only the row follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ardm.ans import PRECISION, TOTAL, Decoder, Ints
from ardm.errors import CodecError
from ardm.schema import Schema

PART = 1 << 10
"""The most rows of one item."""
ROOM = 1 << 24
"""The most logits of one item, unless a single row has more."""
PIECE = 1 << 12
"""The most plain bytes that are decoded at once."""
COUNT = 3
"""The bytes of a number."""

EXPECTED = (TOTAL - (1 << 12), 1 << 12)
"""Frequencies: one record takes 0.0004 bits beside its row, another text 12."""


Piece = tuple[bytes, list[list[int]]]
"""Plain bytes, and the rows after them."""


def bare(schema: Schema) -> Schema:
    """The schema without a header: its text is rows alone."""
    return replace(schema, header=False, trailing=True)


def together(schema: Schema, classes: int) -> int:
    """The number of rows of one item, for a model with this number of classes."""
    return max(1, min(PART, ROOM // (len(schema.names) * classes)))


def record(schema: Schema, data: bytes) -> list[int] | None:
    """The row of a text that is one record, as the model of this schema expects it; None for other texts and models."""
    return _row(schema, data + schema.line_ending.encode()) if schema.frame else None


def announced(schema: Schema, one: bool) -> tuple[list[int], list[int]]:
    """Start and width of the symbol that says whether a text is one record; none for models that expect no such text."""
    if not schema.frame:
        return [], []
    return ([0], [EXPECTED[0]]) if one else ([EXPECTED[0]], [EXPECTED[1]])


def read_announced(decoder: Decoder, schema: Schema) -> bool:
    """The inverse of `announced`: whether the text is one record."""
    return bool(schema.frame) and not decoder.pop(np.array([EXPECTED], dtype=np.int64))[0]


def has_rows(schema: Schema, data: bytes) -> bool:
    """Whether any line of a text is a row.  Here and below the schema is a bare one."""
    return record(schema, data) is not None or any(
        _row(schema, line) is not None for line in data.splitlines(keepends=True)
    )


def pieces(schema: Schema, data: bytes) -> Iterator[Piece]:
    """Cut a text into plain bytes and the rows after them; the first piece may lack bytes, the last may lack rows."""
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
    """The bytes that come before all rows."""
    parts = [_number(len(plain)) + plain + _number(len(rows)) for plain, rows in found]
    return _number(len(found)) + b"".join(parts)


def read_layout(decoder: Decoder, schema: Schema, length: int) -> list[tuple[bytes, int]]:
    """The inverse of `layout` for a text of `length` bytes: plain bytes, and the number of rows after them.

    Raises CodecError for impossible numbers, before it allocates anything of that size.
    """
    found, left, columns = list[tuple[bytes, int]](), length, len(schema.names)
    for _ in range(_count(decoder, length + 1)):
        plain = _plain(decoder, _count(decoder, left))
        rows = _count(decoder, (left - len(plain)) // columns)  # a column takes at least a byte
        left -= len(plain) + rows * columns
        found.append((plain, rows))
    return found


def written(schema: Schema, found: Sequence[tuple[bytes, int]], values: Ints, length: int, one: bool = False) -> bytes:
    """The text of pieces and of all their rows (n, columns).  Raises CodecError unless it is valid and `length` long.

    one: whether it is one record, without the end of its line.
    """
    if (values >= np.array(schema.columns)).any():
        raise CodecError("damaged file: a column has a value that it cannot take")
    text, first = list[bytes](), 0
    for plain, count in found:
        text += [plain, schema.decode(values[first : first + count].tolist()).encode()]
        first += count
    made = b"".join(text)
    made = made.removesuffix(schema.line_ending.encode()) if one else made
    if len(made) != length:
        raise CodecError(f"damaged file: its rows take {len(made)} bytes, and its header says {length}")
    return made


def _row(schema: Schema, line: bytes) -> list[int] | None:
    """The values of a line; None unless the schema would write exactly this line."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    return schema.row(text.removesuffix(schema.line_ending)) if text.endswith(schema.line_ending) else None


def _number(count: int) -> bytes:
    return count.to_bytes(COUNT, "big")


def _count(decoder: Decoder, most: int) -> int:
    count = int.from_bytes(_plain(decoder, COUNT), "big")
    if count > most:
        raise CodecError(f"damaged file: it counts {count} where at most {most} are possible")
    return count


def symbols(data: bytes) -> tuple[Ints, Ints]:
    """Bytes as symbols of equal frequencies: starts and widths."""
    x = np.frombuffer(data, np.uint8).astype(np.int32)
    return x << PRECISION - 8, np.full(len(x), 1 << PRECISION - 8, dtype=np.int32)


def _plain(decoder: Decoder, count: int) -> bytes:
    """The inverse of `symbols`."""
    sizes = [min(PIECE, count - first) for first in range(0, count, PIECE)]
    popped = [decoder.pop(np.full((size, 256), 1 << PRECISION - 8, dtype=np.int64)) for size in sizes]
    return b"".join(x.astype(np.uint8).tobytes() for x in popped)
