"""Rows of CSV with a codec model of a table: text to values of columns and back, byte for byte.

The lines of a text that are rows as the model's schema writes them are coded by the model; what stands between them (a
header, a line with an unknown value, a last line without its end) is coded as bytes.  A part is first its plain bytes

    3 bytes  how many pieces follow
             of each:  3 bytes  how many plain bytes follow   · those bytes   · 3 bytes  how many rows stand after them

numbers most significant byte first, each byte a symbol of 256 equal frequencies; then all of its rows, walked as items
(1, rows, columns) of `TableCoder.together` rows each, the last of fewer.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from ardm.ans import PRECISION, Decoder, Ints
from ardm.codec import ModelCoder, Shape, Symbols
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError
from ardm.schema import Schema

PART = 1 << 10
"""Rows that are walked together, at most."""
ROOM = 1 << 24
"""Logits of the rows that are walked together, at most, unless one row has more."""
PIECE = 1 << 12
"""Plain bytes that are decoded at once, at most."""
COUNT = 3
"""Bytes of a number."""


class TableCoder(ModelCoder):
    """A codec model of a table over bytes of text."""

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can."""
        if content.kind != Kind.BYTES:
            return f"model {self.model.name} codes tables as CSV text"
        lines = content.samples.tobytes().splitlines(keepends=True)
        if not any(_row(self._schema, line) is not None for line in lines):
            return f"no line is a row of the columns of model {self.model.name}"
        return None

    @cached_property
    def together(self) -> int:
        """How many rows are walked together."""
        return max(1, min(PART, ROOM // (len(self._schema.names) * self.model.program.classes)))

    @cached_property
    def _schema(self) -> Schema:
        if self.model.schema is None:
            raise ArdmError(f"model {self.model.name} of a table does not say what its columns are called")
        return dataclasses.replace(self.model.schema, header=False, trailing=True)

    def _pieces(self, data: bytes) -> Iterator[tuple[bytes, list[list[int]]]]:
        """Plain bytes and the rows after them, again and again; one of both may be missing in the first and the last."""
        schema, known = self._schema, dict[bytes, "list[int] | None"]()
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

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        return [[self._text(part.tobytes()) for part in job] for job in jobs]

    def _text(self, data: bytes) -> Symbols:
        found = list(self._pieces(data))
        told = [_number(len(plain)) + plain + _number(len(rows)) for plain, rows in found]
        symbols = [_bytes(_number(len(found)) + b"".join(told))]
        every = np.array([row for _, rows in found for row in rows], dtype=np.int64)
        for first in range(0, len(every), self.together):
            symbols += self._symbols(every[None, None, first : first + self.together])
        return Symbols(*(np.concatenate([getattr(p, name) for p in symbols]) for name in ("start", "width")))

    def _decoded(self, jobs: list[tuple[bytes, Sequence[Shape]]]) -> list[tuple[list[Samples], int]]:
        found = []
        for stream, shapes in jobs:
            decoder = Decoder(stream)
            parts = [self._told(decoder, length).reshape(1, 1, -1) for _, _, length in shapes]
            found.append((parts, decoder.close()))
        return found

    def _told(self, decoder: Decoder, length: int) -> Samples:
        schema, left = self._schema, length
        pieces = list[tuple[bytes, int]]()
        for _ in range(self._count(decoder, length + 1)):
            plain = _plain(decoder, self._count(decoder, left))
            rows = self._count(decoder, (left - len(plain)) // len(schema.names))  # a column takes a byte at least
            left -= len(plain) + rows * len(schema.names)
            pieces.append((plain, rows))
        values = self._rows(decoder, sum(rows for _, rows in pieces))
        text, first = list[bytes](), 0
        for plain, count in pieces:
            text += [plain, schema.decode(values[first : first + count].tolist()).encode()]
            first += count
        found = b"".join(text)
        if len(found) != length:
            raise CodecError(f"damaged file: its rows make {len(found)} bytes where it has {length}")
        return np.frombuffer(found, np.uint8)

    def _count(self, decoder: Decoder, most: int) -> int:
        count = int.from_bytes(_plain(decoder, COUNT), "big")
        if count > most:
            raise CodecError(f"damaged file: it counts {count} where {most} are the most")
        return count

    def _rows(self, decoder: Decoder, count: int) -> Ints:
        """(count, columns)."""
        limits = np.array(self._schema.columns)
        found = [np.zeros((0, len(limits)), dtype=np.int64)]
        for first in range(0, count, self.together):
            size = (min(self.together, count - first), len(limits))
            found.append(self._walker((1, *size), 1, size).decode([decoder])[0, 0])
            if (found[-1] >= limits).any():
                raise CodecError("damaged file: a column has a value that it cannot take")
        return np.concatenate(found)


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


def _bytes(data: bytes) -> Symbols:
    """Bytes as symbols of equal frequencies."""
    x = np.frombuffer(data, np.uint8).astype(np.int32)
    return Symbols(x << PRECISION - 8, np.full(len(x), 1 << PRECISION - 8, dtype=np.int32))


def _plain(decoder: Decoder, count: int) -> bytes:
    """The inverse of `_bytes`."""
    sizes = [min(PIECE, count - first) for first in range(0, count, PIECE)]
    told = [decoder.pop(np.full((size, 256), 1 << PRECISION - 8, dtype=np.int64)) for size in sizes]
    return b"".join(symbols.astype(np.uint8).tobytes() for symbols in told)
