"""The lines of a text as the items of an archive, and the text again.

TextLines(data)                 each line as a content, made when it is asked for
whole_lines(archive, contents)  decoded lines with their ends, as they stand in the text
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ardm.atomic import reasons
from ardm.codec.archive import Archive
from ardm.content import Content, Lines, line_end
from ardm.errors import ArdmError
from ardm.files.limits import refuse_items, refuse_stored
from ardm.files.options import FileOptions
from ardm.files.paths import Found


class TextLines(Sequence[Content]):
    """The lines of a text, without their ends; at least one, which is empty in an empty text.

    end: of a line; by default the one that the text has.  lines: how they are the text.
    """

    def __init__(self, data: bytes, end: bytes = b"") -> None:
        end = end or line_end(data)
        chars = np.frombuffer(data, np.uint8)
        found = chars == end[-1]
        if len(end) > 1:  # LF alone ends no line
            found[:1], found[1:] = False, found[1:] & (chars[:-1] == end[0])
        stops = np.flatnonzero(found) + 1
        ended = bool(len(stops)) and int(stops[-1]) == len(data)
        self._data, self.lines = data, Lines(end, ended)
        self._stops = stops if ended else np.append(stops, len(data) + len(end))

    def __len__(self) -> int:
        return len(self._stops)

    def __getitem__(self, number: Any) -> Any:
        start = int(self._stops[number - 1]) if number else 0
        return Content.of_bytes(self._data[start : int(self._stops[number]) - len(self.lines.end)])


def read_lines(found: Sequence[Found], options: FileOptions, before: Archive | None) -> TextLines:
    """The lines of one file; before: an archive of lines to which they go.  Raises ArdmError."""
    if before is not None and before.lines is None:
        raise ArdmError(
            "the items of this archive are not the lines of a file; leave out --each, or make another archive"
        )
    one = found[0]
    if len(found) > 1 or one.entry or one.path != one.given:
        what = f"{len(found):,} files" if len(found) > 1 else "a folder"
        raise ArdmError(f"--each line takes the lines of one file, and this is {what}; make an archive of each file")
    with reasons(f"cannot read {one.path}"):
        refuse_stored(one.path, one.path.stat().st_size, options.budget)
        data = one.path.read_bytes()
    refuse_items(data.count(b"\n") + (0 if before is None else len(before)), options.budget)
    end = b"" if before is None or before.lines is None else before.lines.end
    if end and end != b"\n" and line_end(data) != end and b"\n" in data:
        raise ArdmError(
            f"the lines of this archive end in CR LF, and not all of {one.path} do; convert it, or make another archive"
        )
    return TextLines(data, end)


def whole_lines(archive: Archive, contents: Iterable[Content]) -> Iterator[Content]:
    """All lines of an archive with their ends, as they stand in its text."""
    assert archive.lines is not None
    last = len(archive) - 1
    return (archive.lines.whole(content, number == last) for number, content in enumerate(contents))


def ends_of(archive: Archive) -> int:
    """Bytes of the ends of all lines of an archive, if its items are lines."""
    return 0 if archive.lines is None else archive.lines.end_bytes(len(archive))


def line_name(text: Path, number: int) -> str:
    """The name of a file for one line of a text."""
    return f"{text.stem}-{number}{text.suffix or '.txt'}"
