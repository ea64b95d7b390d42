"""CSV text, coded by a model of its rows; `table_layout` says how rows and text share a stream.

No torch until a network runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

    mixed = True

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
                if not self._schema.frame
                else f"this is no record of the form that model {self.model.name} knows"
            )
        return None

    def _encoded(self, jobs: list[Sequence[Samples]]) -> list[list[Symbols]]:
        found = iter(self._encoded_texts([part.tobytes() for job in jobs for part in job]))
        return [[next(found) for _ in job] for job in jobs]

    def _encoded_texts(self, texts: Sequence[bytes]) -> list[Symbols]:
        """The symbols of each text: its layout, then its rows."""
        found, rows = list[list[Symbols]](), list[Ints]()
        for text in texts:
            one = table_layout.record(self._schema, text)
            announced = Symbols(*(np.array(x, np.int64) for x in table_layout.announced(self._schema, one is not None)))
            laid = list(table_layout.pieces(self._schema, text)) if one is None else [(b"", [one])]
            layout = table_layout.layout(laid) if one is None else b""
            found.append([announced, Symbols(*table_layout.symbols(layout))])
            rows.append(np.array([row for _, some in laid for row in some], dtype=np.int64))
        for first, count, which in self._batches_of_rows([len(some) for some in rows]):
            coded = self._symbols(np.stack([rows[k][None, first : first + count] for k in which]))
            for k, symbols in zip(which, coded, strict=True):
                found[k].append(symbols)
        return [Symbols(*(np.concatenate([getattr(p, name) for p in f]) for name in ("start", "width"))) for f in found]

    def _batches_of_rows(self, counts: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
        """Which rows of which texts pass through the network together: the first row, how many, and the texts.

        counts: rows of each text.  At most as many rows as fit, of each text in their order.
        """
        for first in range(0, max(counts, default=0), self.together):
            alike: dict[int, list[int]] = {}
            for k, rows in enumerate(counts):
                if rows > first:
                    alike.setdefault(min(self.together, rows - first), []).append(k)
            for count, which in alike.items():
                most = max(1, self.together // count)
                yield from ((first, count, which[a : a + most]) for a in range(0, len(which), most))

    @property
    def digits(self) -> int:
        """1: half of a text is none."""
        return 1

    def _decoded(
        self, jobs: list[tuple[bytes, Sequence[Shape]]], bits: int, digits: int = 0
    ) -> list[tuple[list[Samples], int]]:
        """Decode texts side by side, the k-th part of all jobs together."""
        decoders, parts = [Decoder(stream, bits=bits) for stream, _ in jobs], [list[Samples]() for _ in jobs]
        for k in range(max(len(shapes) for _, shapes in jobs)):
            which = [job for job, (_, shapes) in enumerate(jobs) if len(shapes) > k]
            texts = self._decoded_texts([decoders[job] for job in which], [jobs[job][1][k][2] for job in which])
            for job, text in zip(which, texts, strict=True):
                parts[job].append(np.frombuffer(text, np.uint8).reshape(1, 1, -1))
        return [(mine, decoder.close()) for mine, decoder in zip(parts, decoders, strict=True)]

    def _decoded_texts(self, decoders: Sequence[Decoder], lengths: Sequence[int]) -> list[bytes]:
        """Texts of these lengths, one from each decoder."""
        ones = [table_layout.read_announced(decoder, self._schema) for decoder in decoders]
        together = zip(decoders, lengths, ones, strict=True)
        found = [[(b"", 1)] if one else table_layout.read_layout(d, self._schema, n) for d, n, one in together]
        values = self._rows(decoders, [sum(rows for _, rows in laid) for laid in found])
        every = zip(found, values, lengths, ones, strict=True)
        return [table_layout.written(self._schema, laid, rows, length, one) for laid, rows, length, one in every]

    def _rows(self, decoders: Sequence[Decoder], counts: Sequence[int]) -> list[Ints]:
        """Decode rows (count, columns) from each decoder."""
        columns = len(self._schema.names)
        found = [[np.zeros((0, columns), dtype=np.int64)] for _ in decoders]
        for _, count, which in self._batches_of_rows(counts):
            size = (count, columns)
            rows = self.walker((1, *size), 1, size).decode([decoders[k] for k in which])
            for k, mine in zip(which, rows, strict=True):
                found[k].append(mine[0])
        return [np.concatenate(mine) for mine in found]
