"""The columns of records that are texts of one line: JSON lines, CSV; learned from some, and found in others.

Where nearly all lines have one form, and what varies in it repeats its values, a table model codes a line as a row: a few
network calls instead of one for each byte.  Other lines, and files of other lines, are coded as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from ardm.content import Content
from ardm.data.dataset import Dataset, smallest
from ardm.errors import ArdmError
from ardm.schema import Schema, admit, numbered

COVERED = 0.95
"""The least share of other lines that have the form and the values that were learned."""
_JSON = re.compile(r'("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|\btrue\b|\bfalse\b|\bnull\b)')
_CELL = re.compile(r"([^,;\t]+)")


def learned(train: Sequence[Content], valid: Sequence[Content]) -> Schema | None:
    """The columns of lines; None unless they repeat their values, and COVERED of the validation lines fit."""
    lines = [_text(content) for content in train]
    values = _JSON if lines[0].startswith(("{", "[")) else _CELL
    cut = [values.split(line) for line in lines]
    (frame, _), *_ = Counter(tuple(parts[::2]) for parts in cut).most_common(1)
    schema = _schema(frame, [parts[1::2] for parts in cut if tuple(parts[::2]) == frame])
    fit = sum(schema.row(_text(content)) is not None for content in valid) if schema else 0
    return schema if fit >= COVERED * len(valid) else None


def rows(contents: Sequence[Content], schema: Schema, name: str) -> Dataset:
    """The lines that are rows of a schema, as items (N, D)."""
    found = [row for content in contents if (row := schema.row(_text(content))) is not None]
    if not found:
        raise ArdmError(f"{name}: no line is a row of the columns that were learned")
    values = np.array(found, smallest(max(schema.columns)))
    return Dataset(torch.from_numpy(values), max(schema.columns), name, columns=schema.columns, schema=schema)


def _text(content: Content) -> str:
    """A line; of bytes that are not UTF-8 the empty one, which is no row."""
    try:
        return content.samples.tobytes().decode()
    except UnicodeDecodeError:
        return ""


def _schema(frame: Sequence[str], cells: Sequence[Sequence[str]]) -> Schema | None:
    """The columns that vary, within what is the same in all lines; None for none, and for columns that hardly repeat."""
    marks, kinds = [frame[0]], list[tuple[str, ...]]()
    for column, mark in zip(zip(*cells, strict=True), frame[1:], strict=True):
        distinct = sorted(set(column))
        if len(distinct) == 1:
            marks[-1] += distinct[0] + mark
            continue
        try:
            admit("lines", "", len(distinct), len(column))
        except ArdmError:
            return None
        kinds.append(tuple(distinct))
        marks.append(mark)
    if not kinds or not all(marks[1:-1]):
        return None
    return Schema(numbered(len(kinds)), tuple(kinds), header=False, frame=tuple(marks))
