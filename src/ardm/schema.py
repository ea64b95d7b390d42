"""Tables as CSV text: the names of columns and values; rows of text to rows of classes and back.

The class of a value is its position among the categories of its column.  Canonical text comes back byte for byte: it is
quoted only where it must be, and has one kind of line ending.  Standard library only.
"""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from math import isfinite
from typing import Any

from ardm.errors import ArdmError

MAX_CATEGORIES = 1 << 16
_FEW = 1000
"""A column may have this many distinct values whatever the number of rows."""
_BOM = "\ufeff"
"""Byte-order mark; some programs put it before a text, and it is not part of the first name."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Schema:
    """The names of the columns of a table and of their values, and how its text is written.

    names: of the D columns.  categories: for each column its distinct values; the position of a value is its class.
    header: whether the text begins with the names.  delimiter: one character.  line_ending: "\\n" or "\\r\\n".
    trailing: whether the last line ends with one.
    edges: for each column the ascending edges of its bins, none for a column without bins; () if no column has any.  Bin i
    holds the numbers from edge i − 1 to below edge i, and its category is the median of the numbers that made it: bins lose
    what distinguishes the numbers inside them.
    frame: of records, such as JSON lines, the D + 1 texts before, between and behind the values of a line, instead of a
    delimiter and quotes; each record is a text of its own, most often, and then without the end of its line.
    Raises ArdmError where these contradict each other.
    """

    names: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    header: bool = True
    delimiter: str = ","
    line_ending: str = "\n"
    trailing: bool = True
    edges: tuple[tuple[float, ...], ...] = ()
    frame: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.categories):
            raise ArdmError(f"a schema needs categories for each column; got {len(self.categories)} for {self.names!r}")
        for text in (*self.names, *(kind for kinds in self.categories for kind in kinds)):
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ArdmError(f"names and categories are text that UTF-8 can encode; got {text[:20]!r}")
        for name, kinds in zip(self.names, self.categories, strict=True):
            if not 1 <= len(kinds) <= MAX_CATEGORIES or len(set(kinds)) != len(kinds):
                raise ArdmError(f"column {name!r} needs 1 to {MAX_CATEGORIES} distinct categories; got {len(kinds)}")
        self._check_edges()
        if self.frame and (len(self.frame) != len(self.names) + 1 or not all(self.frame[1:-1]) or self.header):
            raise ArdmError(
                f"a frame has a text around each of {len(self.names)} columns, and no header; got {self.frame}"
            )
        if len(self.delimiter) != 1 or self.delimiter in '\r\n"' or self.line_ending not in ("\n", "\r\n"):
            raise ArdmError(
                f"a delimiter is one character, a line ending \\n or \\r\\n; got {self.delimiter!r}, {self.line_ending!r}"
            )

    def _check_edges(self) -> None:
        if self.edges and len(self.edges) != len(self.names):
            raise ArdmError(f"a schema needs edges for each column, or none; got {len(self.edges)}")
        for name, kinds, cuts in zip(self.names, self.categories, self.edges, strict=False):
            ascending = all(a < b for a, b in pairwise(cuts)) and all(map(isfinite, cuts))
            if cuts and (len(cuts) != len(kinds) - 1 or not ascending):
                raise ArdmError(f"column {name!r} has {len(kinds)} bins, and its edges do not fit: {cuts[:8]}")

    @property
    def columns(self) -> tuple[int, ...]:
        """The number of classes of each column."""
        return tuple(len(kinds) for kinds in self.categories)

    @cached_property
    def codes(self) -> tuple[dict[str, int], ...]:
        """For each column, its classes by value."""
        return tuple({kind: n for n, kind in enumerate(kinds)} for kinds in self.categories)

    def encode(self, text: str) -> list[list[int]]:
        """Read the rows of a text as classes: n rows of D.

        Raises ArdmError for other names or lengths, and for an unknown value; it names row (from 1, without the header),
        column and value.
        """
        rows = _parse(text.removeprefix(_BOM), self.delimiter, "the table")
        if self.header:
            if not rows or tuple(rows[0]) != self.names:
                found = rows[0] if rows else "nothing"
                raise ArdmError(f"the first line must name the columns {', '.join(self.names)}; it is {found}")
            rows = rows[1:]
        return [self._row(n, row) for n, row in enumerate(rows, 1)]

    def classes(
        self, names: Sequence[str], rows: Sequence[Sequence[str]], source: str, wanted: Sequence[int]
    ) -> list[list[int]]:
        """The wanted rows of a text as classes, of those columns alone that the schema has; names: of all columns of the rows.

        Raises ArdmError for a column that is not there, and as `encode`.
        """
        missing = [name for name in self.names if name not in names]
        if missing:
            raise ArdmError(f"{source} has no column {missing[0]!r}, which the model knows; it has {_some(names)}")
        kept = [list(names).index(name) for name in self.names]
        return [self._row(n + 1, [rows[n][k] for k in kept], f"{source}: ") for n in wanted]

    def _row(self, number: int, row: list[str], source: str = "") -> list[int]:
        _check_length(row, len(self.names), f"row {number}")
        codes = [self._code(column, value) for column, value in enumerate(row)]
        if -1 in codes:
            at = codes.index(-1)
            near = get_close_matches(row[at], self.categories[at], 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {_some(self.categories[at])}"
            raise ArdmError(f"{source}row {number}, column {self.names[at]!r}: {row[at]!r} is not a known value{hint}")
        return codes

    def _code(self, column: int, value: str) -> int:
        """The class of a value; -1 for an unknown one."""
        cuts = self.edges[column] if self.edges else ()
        if cuts and _is_number(value):
            return bisect_right(cuts, float(value))
        return self.codes[column].get(value, -1)

    def row(self, line: str) -> list[int] | None:
        """The classes of a line without its end; None unless this schema would write exactly this line."""
        cells = self._cut(line) if self.frame else _cells(line, self.delimiter)
        if len(cells) != len(self.names):
            return None
        classes = [code.get(cell, -1) for code, cell in zip(self.codes, cells, strict=True)]
        return classes if -1 not in classes and self._line(cells) == line else None

    def _cut(self, line: str) -> list[str]:
        """The values between the texts of the frame, each of which is looked for from left to right; [] where one is missing."""
        first, *marks, last = self.frame
        if not line.startswith(first) or not line.endswith(last):
            return []
        at, stop, cells = len(first), len(line) - len(last), list[str]()
        for mark in marks:
            end = line.find(mark, at, stop)
            if end < 0:
                return []
            cells.append(line[at:end])
            at = end + len(mark)
        return [*cells, line[at:stop]] if at <= stop else []

    def decode(self, rows: Iterable[Sequence[int]]) -> str:
        """Write rows of classes as canonical text.  Raises ArdmError for a class that a column does not have."""
        lines = [self._line(self.names)] if self.header else []
        for number, row in enumerate(rows, 1):
            if len(row) != len(self.names):
                raise ArdmError(f"row {number} has {len(row)} classes, expected {len(self.names)}")
            for name, kinds, value in zip(self.names, self.categories, row, strict=True):
                if not 0 <= value < len(kinds):
                    raise ArdmError(f"row {number}, column {name!r}: class {value} is not in 0..{len(kinds) - 1}")
            lines.append(self._line([kinds[value] for kinds, value in zip(self.categories, row, strict=True)]))
        text = self.line_ending.join(lines)
        return text + self.line_ending if self.trailing and lines else text

    def _line(self, values: Sequence[str]) -> str:
        """A line of text.  csv.writer is not used: what it quotes differs between versions of Python."""
        if self.frame:
            return self.frame[0] + "".join(part for pair in zip(values, self.frame[1:], strict=True) for part in pair)
        if tuple(values) == ("",):
            return '""'  # an empty line would not be a row
        return self.delimiter.join(map(self._cell, values))

    def _cell(self, value: str) -> str:
        quoted = any(sign in value for sign in (self.delimiter, '"', "\r", "\n"))
        return '"' + value.replace('"', '""') + '"' if quoted else value

    def to_values(self) -> dict[str, Any]:
        """The schema as JSON values, which `from_values` reads."""
        bins = {"edges": [list(cuts) for cuts in self.edges]} if self.edges else {}
        frame = {"frame": list(self.frame)} if self.frame else {}
        return (
            bins
            | frame
            | {
                "names": list(self.names),
                "categories": [list(kinds) for kinds in self.categories],
                "header": self.header,
                "delimiter": self.delimiter,
                "line_ending": self.line_ending,
                "trailing": self.trailing,
            }
        )

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> Schema:
        """The schema from JSON values.  Raises ArdmError for anything else."""
        names, categories = values.get("names"), values.get("categories")
        flags = {key: values[key] for key in ("header", "trailing") if key in values}
        signs = {key: values[key] for key in ("delimiter", "line_ending") if key in values}
        edges, frame = values.get("edges", []), values.get("frame", [])
        unknown = set(values) - {"names", "categories", "edges", "frame", *flags, *signs}
        good = _texts(names) and isinstance(categories, list) and all(_texts(kinds) for kinds in categories)
        good = good and all(isinstance(flag, bool) for flag in flags.values()) and _texts(list(signs.values()))
        good = good and _texts(frame) and isinstance(edges, list) and all(_numbers(cuts) for cuts in edges)
        if not good or unknown:
            raise ArdmError(
                "a schema has names, categories, header, delimiter, line_ending, trailing, edges and frame; these values are not a schema"
            )
        assert isinstance(names, list) and isinstance(categories, list)  # noqa: PT018
        bins = tuple(tuple(map(float, cuts)) for cuts in edges)
        return Schema(
            tuple(names), tuple(tuple(kinds) for kinds in categories), **flags, **signs, edges=bins, frame=tuple(frame)
        )


def learn(
    text: str,
    header: bool | None = None,
    delimiter: str | None = None,
    source: str = "the table",
    drop: Sequence[str] = (),
    bins: int = 0,
) -> tuple[Schema, list[list[int]]]:
    """Learn the schema of a text; returns it and the rows as classes.

    header: whether the first line names the columns; None: yes, unless it has numbers, empty or repeated values, or
    values that occur again in their column.  delimiter: None: the most frequent of comma, semicolon and tab in the first
    line.  Categories are sorted: numbers by size, other values alphabetically.  source: the name of the text in errors.
    drop: names of columns to leave out; without a header "column 1", "column 2", ….
    bins: columns of numbers that have more distinct values get at most so many bins of about equally many rows (0: none).
    Raises ArdmError for no rows, rows of unequal lengths, broken quotes, unknown columns, and columns that `admit` refuses.
    """
    names, body, form = read(text, header, delimiter, source)
    return classified(names, body, source, drop, bins, form)


def read(
    text: str, header: bool | None = None, delimiter: str | None = None, source: str = "the table"
) -> tuple[tuple[str, ...], list[list[str]], tuple[bool, str, str, bool]]:
    """The names of the columns of a text, its rows, and its form (header, delimiter, line_ending, trailing); see `learn`."""
    text = text.removeprefix(_BOM)
    first = text.partition("\n")[0]
    delimiter = delimiter or max(",;\t", key=first.count)
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise ArdmError(f"a delimiter is one character, such as a comma; got {delimiter!r}")
    rows = _parse(text, delimiter, source)
    if header is None:
        header = _is_header(rows)
    body = rows[1:] if header else rows
    if not body:
        raise ArdmError(f"{source} has no rows")
    width = len(rows[0]) or 1
    rows[0] = rows[0] or [""]
    for number, row in enumerate(body, 1):
        _check_length(row, width, f"{source}: row {number}")
    names = tuple(rows[0]) if header else numbered(width)
    last = text if text.endswith("\n") else first + "\n"
    ending = "\r\n" if last.endswith("\r\n") else "\n"
    return names, body, (header, delimiter, ending, text.endswith(ending))


def numbered(width: int) -> tuple[str, ...]:
    """The names of columns that have none."""
    return tuple(f"column {n}" for n in range(1, width + 1))


def classified(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    source: str,
    drop: Sequence[str] = (),
    bins: int = 0,
    form: tuple[bool, str, str, bool] = (False, ",", "\n", True),
) -> tuple[Schema, list[list[int]]]:
    """The schema of rows of text, and the rows as classes; arguments as for `learn`.

    form: header, delimiter, line_ending and trailing of the schema.
    """
    for name in drop:
        if name not in names:
            near = get_close_matches(name, names, 1)
            raise ArdmError(
                f"{source} has no column {name!r} to drop; "
                + (f"did you mean {near[0]!r}?" if near else f"there are {_some(names)}")
            )
    if bins == 1 or bins < 0:
        raise ArdmError(f"data.bins must be 0 (none) or at least 2; got {bins}")
    kept = [n for n, name in enumerate(names) if name not in drop]
    if not kept:
        raise ArdmError(f"{source} has no columns left: drop fewer of {_some(names)}")
    found = [_kinds(source, names[n], [row[n] for row in rows], bins) for n in kept]
    edges = tuple(cuts for _, cuts in found)
    own = tuple(names[n] for n in kept)
    schema = Schema(own, tuple(kinds for kinds, _ in found), *form, edges=edges if any(edges) else ())
    return schema, [schema._row(number, [row[n] for n in kept]) for number, row in enumerate(rows, 1)]


def _kinds(source: str, name: str, column: Sequence[str], bins: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The categories of a column, and the edges of its bins if it gets any."""
    distinct = set(column)
    words = [value for value in distinct if not _is_number(value)]
    if bins and len(distinct) > bins and not words:
        return binned(column, bins)
    try:
        admit(source, name, len(distinct), len(column))
    except ArdmError as error:
        if not (bins and words):
            raise
        raise ArdmError(
            f"{error}; data.bins takes only columns of numbers, and this one holds {min(words)!r}"
        ) from None
    return tuple(_sorted(distinct)), ()


def binned(column: Sequence[str], bins: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """At most `bins` bins of about equally many numbers: the median of each as written, and the edges between them.

    Equal numbers share a bin, so there may be fewer bins.
    """
    order = sorted(column, key=lambda value: (float(value), value))
    numbers = [float(value) for value in order]
    n = len(numbers)
    cuts = tuple(sorted({numbers[n * k // bins] for k in range(1, bins)} - {numbers[0]}))
    starts = [bisect_left(numbers, cut) for cut in (numbers[0], *cuts)]
    ends = [*starts[1:], n]
    return tuple(order[(a + b - 1) // 2] for a, b in zip(starts, ends, strict=True)), cuts


def admit(source: str, name: str, distinct: int, rows: int) -> None:
    """Raise ArdmError for a column with too many distinct values to be classes."""
    if distinct > MAX_CATEGORIES or (distinct > _FEW and 2 * distinct > rows):
        raise ArdmError(
            f"{source}: column {name!r} has {distinct} distinct values in {rows} rows, like identifiers or "
            f"measurements; leave it out (data.drop), or bin its numbers (data.bins)"
        )


def _parse(text: str, delimiter: str, source: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        raise ArdmError(f"{source} is not CSV: line {reader.line_num}: {error}") from None


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line of CSV without its end; [] for what is none.  An empty line is no row: it would be two quotes."""
    try:
        (cells,) = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return []
    return cells or [""]


def _check_length(row: list[str], width: int, where: str) -> None:
    if not row and width == 1:
        row.append("")  # CSV writes a single empty value as an empty line
    if len(row) != width:
        raise ArdmError(f"{where} has {len(row)} values, expected {width}")


def _is_header(rows: list[list[str]]) -> bool:
    first, rest = (rows[0], rows[1:]) if rows else ([], [])
    named = len(set(first)) == len(first) and not any(not value or _NUMBER.fullmatch(value.strip()) for value in first)
    again = any(value == row[n] for row in rest for n, value in enumerate(first) if n < len(row))
    return bool(rest) and named and not again


def _is_number(value: str) -> bool:
    """Whether a value is a number, perhaps among spaces: many files have one behind each comma."""
    return _NUMBER.fullmatch(value.strip(" ")) is not None


def _sorted(values: set[str]) -> list[str]:
    if all(_NUMBER.fullmatch(value) for value in values):
        return sorted(values, key=lambda value: (float(value), value))
    return sorted(values)


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _some(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:8])) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
