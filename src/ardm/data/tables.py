"""Tables, whose columns have different numbers of classes, from CSV files and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ardm.data.dataset import Dataset, smallest
from ardm.data.folders import Folder, rows_in, splits, survey
from ardm.data.npy import integers
from ardm.errors import ArdmError
from ardm.schema import Schema, admit, classified, learn, numbered, read

_ENDINGS = (".csv", ".tsv", ".txt", ".npy")


def table(
    path: Folder,
    split: str | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    drop: Sequence[str] = (),
    bins: int = 0,
    schema: Schema | None = None,
) -> Dataset:
    """A table of values that repeat: items (N, D), `columns` the classes of each column, `schema` their names.

    path: a CSV file in UTF-8, or .npy of non-negative integers (N, D), or a folder with one such file.  The distinct
    values of a column in the whole file become its classes: numbers by size, texts by the alphabet.
    split: "train" or "fit" (90 %), "valid" (5 %) or "test" (5 %); None takes all.  A stable hash of its number assigns
    each row to a split, so that rows stay there when others are added at the end.
    header: whether the first line names the columns; None detects it: nothing in the line is empty or a number, occurs
    twice in it, or occurs again in its column.
    delimiter: between values; None takes the most frequent of comma, semicolon and tab in line 1.
    drop: names of columns to leave out; without a header they are "column 1", "column 2", ….
    bins: columns of numbers with more distinct values than this get at most so many bins of about equally many rows; the
    schema, which goes onto the card, holds their edges, and a bin is written as the median of its numbers.  0: no bins.
    schema: that of a model, in place of one learned from the file: its columns, found by their names, and its classes and bins.
    Raises ArdmError for missing files, rows of different lengths, an empty split, and columns that look like identifiers
    or measurements (more than 65,536 distinct values, or more than 1,000 and half as many as rows).
    """
    chosen = None if split is None else splits("a table", split)
    file, known = _file(Path(path).expanduser()), schema is not None
    if schema is not None:
        names, texts = _read(file, header, delimiter)
        wanted = range(len(texts)) if chosen is None else rows_in(len(texts), chosen, file, "rows")
        rows = np.array(schema.classes(names, texts, str(file), wanted), np.int64)
    elif file.suffix.lower() == ".npy":
        schema, rows = _array(file, drop, bins)
    else:
        schema, lists = learn(_text(file), header, delimiter, str(file), drop, bins)
        rows = np.array(lists, np.int64)
    if not known and chosen is not None:
        rows = rows[rows_in(len(rows), chosen, file, "rows")]
    items = torch.from_numpy(rows.astype(smallest(max(schema.columns))))
    name = f"{file.stem}/{chosen or 'all'}"
    files = survey(Path(path).expanduser(), [file], lambda other: other == file, "tables")
    return Dataset(items, max(schema.columns), name, columns=schema.columns, schema=schema, files=files)


def _read(file: Path, header: bool | None, delimiter: str | None) -> tuple[Sequence[str], list[list[str]]]:
    """The names of the columns of a file, and its rows as text."""
    if file.suffix.lower() != ".npy":
        return read(_text(file), header, delimiter, str(file))[:2]
    values = integers(file)
    if values.ndim != 2:
        raise ArdmError(f"{file} has shape {values.shape}, expected (rows, columns)")
    return numbered(values.shape[1]), [[str(int(v)) for v in row] for row in values]


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.glob("*") if file.suffix.lower() in _ENDINGS) if path.is_dir() else []
    if len(files) != 1:
        found = f"it holds {', '.join(file.name for file in files)}" if files else "there is none"
        raise ArdmError(f"{path} must be a table ({' '.join(_ENDINGS)}) or a folder with one; {found}")
    return files[0]


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ArdmError(f"{file} is not UTF-8: byte {error.object[error.start]} at position {error.start}") from None
    except OSError as error:
        raise ArdmError(f"cannot read {file}: {error}") from error


def _array(file: Path, drop: Sequence[str], bins: int) -> tuple[Schema, np.ndarray]:
    values = integers(file)
    if values.ndim != 2:
        raise ArdmError(f"{file} has shape {values.shape}, expected (rows, columns)")
    names = numbered(values.shape[1])
    if drop or bins:
        schema, lists = classified(names, [[str(int(v)) for v in row] for row in values], str(file), drop, bins)
        return schema, np.array(lists, np.int64)
    found = [np.unique(values[:, n], return_inverse=True) for n in range(values.shape[1])]
    for name, (kinds, _) in zip(names, found, strict=True):
        admit(str(file), name, len(kinds), len(values))
    categories = tuple(tuple(str(int(kind)) for kind in kinds) for kinds, _ in found)
    return Schema(names, categories, header=False), np.stack([codes.reshape(-1) for _, codes in found], 1)
