"""CSV text, coded by a model of its rows; `table_layout` says how rows and text share a stream.

No torch until a network runs.
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
from ardm.exact.ask import Runner
from ardm.exact.model import CodecModel
from ardm.exact.planned import Steps


class TableCoder(ModelCoder):
    """A codec model of a table, over CSV text."""

    def __init__(self, model: CodecModel, steps: Steps, run: Runner, threads: int = 0) -> None:
        super().__init__(model, steps, run, threads)
        if model.schema is None:
            raise ArdmError(f"model {model.name} of a table does not say what its columns are called")
        self._schema = table_layout.bare(model.schema)
        self.together = table_layout.together(self._schema, model.program.classes)

    def refuses(self, content: Content) -> str | None:
        """The reason this content cannot be coded; None if it can."""
        if content.kind != Kind.BYTES:
            return f"model {self.model.name} codes tables as CSV text"
        if not table_layout.has_rows(self._schema, content.samples.tobytes()):
            ends = self._schema.line_ending.encode("unicode_escape").decode()
            return (
                f"no line is a row of the columns of model {self.model.name}: {len(self._schema.names)} values, separated "
                f"by {self._schema.delimiter!r}, in lines that end in {ends}"
            )
        return None

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        return [[self._encoded_text(part.tobytes()) for part in job] for job in jobs]

    def _encoded_text(self, data: bytes) -> Symbols:
        pieces = list(table_layout.pieces(self._schema, data))
        found = [Symbols(*table_layout.symbols(table_layout.layout(pieces)))]
        rows = np.array([row for _, rows in pieces for row in rows], dtype=np.int64)
        for first in range(0, len(rows), self.together):
            found += self._symbols(rows[None, None, first : first + self.together])
        return Symbols(*(np.concatenate([getattr(p, name) for p in found]) for name in ("start", "width")))

    @property
    def digits(self) -> int:
        """1: half of a text is none."""
        return 1

    def _decoded(
        self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int, digits: int = 0
    ) -> list[tuple[list[Samples], int]]:
        found = []
        for stream, shapes in jobs:
            decoder = Decoder(stream, bits=bits)
            parts = [self._decoded_text(decoder, length).reshape(1, 1, -1) for _, _, length in shapes]
            found.append((parts, decoder.close()))
        return found

    def _decoded_text(self, decoder: Decoder, length: int) -> Samples:
        found = table_layout.read_layout(decoder, self._schema, length)
        values = self._rows(decoder, sum(rows for _, rows in found))
        return np.frombuffer(table_layout.written(self._schema, found, values, length), np.uint8)

    def _rows(self, decoder: Decoder, count: int) -> Ints:
        """Decode rows (count, columns)."""
        columns = len(self._schema.names)
        found = [np.zeros((0, columns), dtype=np.int64)]
        for first in range(0, count, self.together):
            size = (min(self.together, count - first), columns)
            found.append(self.walker((1, *size), 1, size).decode([decoder])[0, 0])
        return np.concatenate(found)
