"""Which jobs of a coder run together: of the same shapes, or of any shapes in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ardm.codec.header import Shape

BATCH = 64
"""The most items that are decoded together."""
SIDE_BY_SIDE = 1 << 15
"""The most pixels of items that are decoded side by side, unless a single one has more."""

Job = TypeVar("Job")


def is_line(shapes: Sequence[Shape]) -> bool:
    """Whether the parts of a job are one row."""
    return len(shapes) == 1 and shapes[0][:2] == (1, 1)


def alike(shapes: list[tuple[Shape, ...]], cores: int, batch: int) -> list[list[int]]:
    """Batches of jobs of the same shapes, at most `batch` jobs each."""
    found: dict[tuple[Shape, ...], list[int]] = {}
    for k, shape in enumerate(shapes):
        found.setdefault(shape, []).append(k)
    runs: list[list[int]] = []
    for same in found.values():
        each = min(batch, -(-len(same) // cores))
        runs += [same[a : a + each] for a in range(0, len(same), each)]
    return runs


def in_turn(shapes: list[tuple[Shape, ...]], cores: int, batch: int) -> list[list[int]]:
    """Batches of jobs in their order, of any shapes, at most `batch` jobs each."""
    areas = [sum(h * w for _, h, w in parts) for parts in shapes]
    most = min(SIDE_BY_SIDE, -(-sum(areas) // cores))
    runs: list[list[int]] = [[]]
    total = 0
    for k, area in enumerate(areas):
        if runs[-1] and (total + area > most or len(runs[-1]) == batch):
            runs.append([])
            total = 0
        runs[-1].append(k)
        total += area
    return runs


def ahead(jobs: Iterable[Job], area: Callable[[Job], int], cores: int) -> Iterator[list[Job]]:
    """Lists of jobs that are taken from `jobs` at once."""
    taken: list[Job] = []
    total = 0
    for job in jobs:
        taken.append(job)
        total += area(job)
        if len(taken) == cores * BATCH or total >= cores << 20:
            yield taken
            taken, total = [], 0
    if taken:
        yield taken
