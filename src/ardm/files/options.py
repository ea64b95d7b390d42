"""Options of compressing and restoring files; opening every source, and deleting it on request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ardm.ans import refuse_check
from ardm.atomic import reasons, refuse_source, refuse_target, remove
from ardm.codec import regions
from ardm.codec.selection import Engine
from ardm.errors import ArdmError
from ardm.files.limits import Budget
from ardm.files.paths import refuse_same

CHUNK = 1 << 28
"""The most bytes in a frame of a file that is kept byte for byte, which bounds memory."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the phase, the amount done, and the total."""


@dataclass(frozen=True)
class FileOptions:
    """How files are compressed and restored.

    engine: which model codes, and on what.  budget: limits, in both directions.  force: overwrite targets, and compress
    .ardm files again.  keep: False deletes a source once its result is verified.  verify: decode the result and compare.
    strip: drop metadata of images and sounds.  exact: keep files byte for byte, whatever they show.  format: of
    restored files.  chunk: most bytes in a frame of bytes.  taken: collects targets; none of them is overwritten, even
    by force.  check: bits of the check of each region, 32, 16, 8 or 0.  bare: files without what says which kind of
    file they are and which model made them; the engine names it.  digits: how many of each
    value to restore, as a preview from the front of a file; 0: all.
    """

    engine: Engine = field(default_factory=Engine)
    budget: Budget = field(default_factory=Budget)
    force: bool = False
    keep: bool = True
    verify: bool = True
    strip: bool = False
    exact: bool = False
    format: str = ""
    chunk: int = CHUNK
    progress: Progress | None = None
    taken: set[Path] | None = None
    check: int = 32
    bare: bool = False
    digits: int = 0

    def __post_init__(self) -> None:
        refuse_check(self.check)
        if self.bare and self.engine.model is None:
            raise ArdmError("a bare file does not say which model made it; name the model with -m, on both sides")
        if self.digits and not self.keep:
            raise ArdmError("a preview does not hold all of a file, so that it is not deleted; leave out --rm")
        if not (self.keep or self.verify):
            raise ArdmError("only a verified source can be deleted; leave out --rm or --no-verify")

    def refuse_taken(self, target: object) -> None:
        """Raise ArdmError for a target that this command has already written."""
        if isinstance(target, Path) and target.resolve() in (self.taken or ()):
            raise ArdmError(f"{target} was just written from another file; give one of them another name")

    def take(self, target: Path) -> None:
        """Remember a target that was written."""
        if self.taken is not None:
            self.taken.add(target.resolve())

    def phase(self, what: str) -> regions.Progress | None:
        """A callback for the progress of one phase."""
        return None if self.progress is None else partial(self.progress, what)


@contextmanager
def opened(
    source: Path | BinaryIO, target: object, options: FileOptions
) -> Iterator[tuple[BinaryIO, os.stat_result | None]]:
    """Validate source and target, then open the source; yields the file and its stat result."""
    if not isinstance(source, Path):
        yield source, None
        return
    refuse_source(source)
    if not options.keep and source.is_symlink():
        raise ArdmError(f"{source} is a link; only ordinary files are deleted")
    with reasons(f"cannot read {source}"):
        file = source.open("rb")
    with file:
        before = os.fstat(file.fileno())
        if isinstance(target, Path):
            with reasons(f"cannot write {target}"):
                refuse_same(source, target)
                options.refuse_taken(target)
                refuse_target(target, options.force)
        yield file, before


def finish(
    source: object, before: os.stat_result | None, options: FileOptions, spared: str = ""
) -> tuple[bool, tuple[str, ...]]:
    """Delete the source if the options say so; returns whether it is gone, and notes.  spared: a reason to keep it."""
    if options.keep or not isinstance(source, Path) or before is None:
        return False, ()
    if spared:
        return False, (f"it was not deleted: {spared}",)
    remove(source, before)
    return True, ()
