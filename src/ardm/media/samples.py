"""Samples as files that people can open: text, WAV, CSV and arrays; `pictures` draws images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ardm import formats
from ardm.atomic import write_bytes, write_whole
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.schema import Schema
from ardm.symbols import Letters, Symbols

ENDINGS = {"image": ".png", "text": ".txt", "audio": ".wav", "table": ".csv", "array": ".npy"}
"""The ending of a file of samples, by kind."""
GAP = 0.2
"""Seconds of silence between sounds."""
RATE = 8000
"""Samples per second where no rate is known."""
FASTEST = 1_000_000
"""The most samples per second; the gaps between sounds take memory in proportion."""


def write(
    kind: str,
    values: NDArray[np.int64],
    path: Path,
    symbols: Symbols | None,
    schema: Schema | None,
    rate: object,
    force: bool,
) -> Sequence[str]:
    """Write items (n, D) of a kind, or (n, *shape) of arrays, atomically; returns lines to show to a person.

    rate: of sounds, samples per second as the card of their model says; 0: RATE.  Raises ArdmError where it is none.
    """
    if kind == "array":
        write_whole(path, lambda new: _array(new, values), force)
        return [" ".join(map(str, item.ravel().tolist())) for item in values]
    if kind == "audio":
        a_second = _rate(rate)
        write_bytes(path, wav_of(values, a_second), force)
        return [f"{len(values)} sounds of {values.shape[1] / a_second:.2f} seconds, {GAP} seconds apart"]
    if kind == "text":
        texts = [(symbols or Letters()).text(item) for item in values.tolist()]
        write_bytes(path, ("\n\n".join(texts) + "\n").encode(), force)
        return texts
    table = csv_of(values, schema)
    write_bytes(path, table.encode(), force)
    return table.splitlines()


def _rate(said: object) -> int:
    if type(said) is not int or not 0 <= said <= FASTEST:
        raise ArdmError(
            f"the card of this model gives {said!r:.40} as the rate of its sounds; it must be a whole number of samples per "
            f"second, at most {FASTEST:,}"
        )
    return said or RATE


def _array(path: Path, values: NDArray[np.int64]) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def wav_of(values: NDArray[np.int64], rate: int) -> bytes:
    """Items (n, D) of 16-bit samples, one after the other with gaps; 32768 is silence."""
    gap = np.full((len(values), int(GAP * rate)), 1 << 15)
    joined = np.concatenate([values, gap], axis=1).reshape(1, 1, -1).astype("<u2")
    return formats.render(Content(Kind.AUDIO, joined, "wav", rate=rate))


def csv_of(values: NDArray[np.int64], schema: Schema | None) -> str:
    """Rows (n, columns) as CSV: the texts of a schema, or the numbers themselves."""
    if schema is None:
        return "".join(",".join(map(str, row)) + "\n" for row in values.tolist())
    return schema.decode(values.tolist())
