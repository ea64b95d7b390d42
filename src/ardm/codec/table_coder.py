"""Tables as CSV text, coded by a model of their rows.

NumPy, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ardm.ans import Decoder, Ints
from ardm.codec import table_layout
from ardm.codec.header import Shape
from ardm.codec.model_coder import ModelCoder, Symbols
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel, Runner


class TableCoder(ModelCoder):
    """A codec model of a table over CSV text: see `table_layout`."""

    def __init__(self, model: CodecModel, calls: int, run: Runner, threads: int = 0) -> None:
        super().__init__(model, calls, run, threads)
        if model.schema is None:
            raise ArdmError(f"model {model.name} of a table does not say what its columns are called")
        self._schema = table_layout.bare(model.schema)
        self.together = table_layout.together(self._schema, model.program.classes)

    def refuses(self, content: Content) -> str | None:
        """Why this content cannot be coded; None if it can."""
        if content.kind != Kind.BYTES:
            return f"model {self.model.name} codes tables as CSV text"
        if not table_layout.has_rows(self._schema, content.samples.tobytes()):
            ends = self._schema.line_ending.encode("unicode_escape").decode()
            return (
                f"no line is a row of the columns of model {self.model.name}: {len(self._schema.names)} of them with "
                f"{self._schema.delimiter!r} between, and lines that end in {ends}"
            )
        return None

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        return [[self._text(part.tobytes()) for part in job] for job in jobs]

    def _text(self, data: bytes) -> Symbols:
        found = list(table_layout.pieces(self._schema, data))
        told = [Symbols(*table_layout.symbols(table_layout.layout(found)))]
        rows = np.array([row for _, rows in found for row in rows], dtype=np.int64)
        for first in range(0, len(rows), self.together):
            told += self._symbols(rows[None, None, first : first + self.together])
        return Symbols(*(np.concatenate([getattr(p, name) for p in told]) for name in ("start", "width")))

    def _decoded(self, jobs: list[tuple[bytes, Sequence[Shape]]]) -> list[tuple[list[Samples], int]]:
        found = []
        for stream, shapes in jobs:
            decoder = Decoder(stream)
            parts = [self._told(decoder, length).reshape(1, 1, -1) for _, _, length in shapes]
            found.append((parts, decoder.close()))
        return found

    def _told(self, decoder: Decoder, length: int) -> Samples:
        found = table_layout.read_layout(decoder, self._schema, length)
        values = self._rows(decoder, sum(rows for _, rows in found))
        return np.frombuffer(table_layout.written(self._schema, found, values, length), np.uint8)

    def _rows(self, decoder: Decoder, count: int) -> Ints:
        """(count, columns)."""
        columns = len(self._schema.names)
        found = [np.zeros((0, columns), dtype=np.int64)]
        for first in range(0, count, self.together):
            size = (min(self.together, count - first), columns)
            found.append(self.walker((1, *size), 1, size).decode([decoder])[0, 0])
        return np.concatenate(found)
