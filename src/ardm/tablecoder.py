"""Rows of CSV with a codec model of a table: text to values of columns and back, byte for byte.

The lines of a text that are rows as the model's schema writes them are coded by the model; what stands between them (a
header, a line with an unknown value, a last line without its end) is coded as bytes.  A part of L bytes is a sequence of

    3 bytes  how many plain bytes follow     · those bytes
    3 bytes  how many rows follow            · their values, walked as an item (1, rows, columns)

until L bytes are told; numbers most significant byte first, each byte a symbol of 256 equal frequencies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ardm.ans import PRECISION, Decoder, Ints
from ardm.codec import ModelCoder, Shape, Symbols
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError, CodecError
from ardm.schema import Schema

PART = 1 << 16
"""Rows that are walked together, at most."""
COUNT = 3
"""Bytes of a number."""


class TableCoder(ModelCoder):
    """A codec model of a table over bytes of text."""

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can."""
        if content.kind != Kind.BYTES:
            return f"model {self.model.name} codes tables as CSV text"
        if not any(len(rows) for _, rows in self._split(content.samples.tobytes())):
            return f"no line is a row of the columns of model {self.model.name}"
        return None

    @cached_property
    def _schema(self) -> Schema:
        if self.model.schema is None:
            raise ArdmError(f"model {self.model.name} of a table does not say what its columns are called")
        return dataclasses.replace(self.model.schema, header=False, trailing=True)

    def _split(self, data: bytes) -> list[tuple[bytes, Ints]]:
        """Plain bytes and the rows (n, columns) after them, again and again."""
        schema, known = self._schema, dict[bytes, "list[int] | None"]()
        out: list[tuple[bytes, Ints]] = []
        plain, rows = b"", list[list[int]]()

        def close() -> None:
            nonlocal plain, rows
            out.append((plain, np.array(rows, dtype=np.int64).reshape(len(rows), len(schema.names))))
            plain, rows = b"", []

        for line in data.splitlines(keepends=True):
            if line not in known:
                known[line] = _row(schema, line)
            row = known[line]
            if (row is None and rows) or len(rows) == PART:
                close()
            if row is None:
                plain += line
            else:
                rows.append(row)
        close()
        return out

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        return [[self._text(part.tobytes()) for part in job] for job in jobs]

    def _text(self, data: bytes) -> Symbols:
        pieces = []
        for plain, rows in self._split(data):
            pieces.append(_bytes(len(plain).to_bytes(COUNT, "big") + plain + len(rows).to_bytes(COUNT, "big")))
            if len(rows):
                pieces += self._symbols(rows[None, None])
        return Symbols(*(np.concatenate([getattr(p, name) for p in pieces]) for name in ("start", "width")))

    def _decoded(self, jobs: list[tuple[bytes, Sequence[Shape]]]) -> list[tuple[list[Samples], int]]:
        found = []
        for stream, shapes in jobs:
            decoder = Decoder(stream)
            parts = [self._told(decoder, length).reshape(1, 1, -1) for _, _, length in shapes]
            found.append((parts, decoder.close()))
        return found

    def _told(self, decoder: Decoder, length: int) -> Samples:
        text = b""
        while len(text) < length:
            text += _plain(decoder, self._count(decoder, length - len(text)))
            count = self._count(decoder, length - len(text))
            if count:
                text += self._lines(decoder, count)
        if len(text) != length:
            raise CodecError(f"damaged file: its rows make {len(text)} bytes where it has {length}")
        return np.frombuffer(text, np.uint8)

    def _count(self, decoder: Decoder, most: int) -> int:
        count = int.from_bytes(_plain(decoder, COUNT), "big")
        if count > most:
            raise CodecError(f"damaged file: {count} is more than the {most} bytes that are left")
        return count

    def _lines(self, decoder: Decoder, count: int) -> bytes:
        if count > PART:
            raise CodecError(f"damaged file: {count} rows at once, where {PART} are the most")
        wide = len(self._schema.names)
        values = self._walker((1, count, wide), 1, (count, wide)).decode([decoder])[0, 0]
        limits = np.array(self._schema.columns)
        if (values >= limits).any():
            raise CodecError("damaged file: a column has a value that it cannot take")
        return self._schema.decode(values.tolist()).encode()


def _row(schema: Schema, line: bytes) -> list[int] | None:
    """The values of a line; None where the schema would not write it just so."""
    try:
        text = line.decode()
        (row,) = schema.encode(text)
        return row if schema.decode([row]) == text else None
    except (ArdmError, UnicodeDecodeError, ValueError):
        return None


def _bytes(data: bytes) -> Symbols:
    """Bytes as symbols of equal frequencies."""
    x = np.frombuffer(data, np.uint8).astype(np.int32)
    return Symbols(x << PRECISION - 8, np.full(len(x), 1 << PRECISION - 8, dtype=np.int32))


def _plain(decoder: Decoder, count: int) -> bytes:
    """The inverse of `_bytes`."""
    if not count:
        return b""
    return decoder.pop(np.full((count, 256), 1 << PRECISION - 8, dtype=np.int64)).astype(np.uint8).tobytes()
