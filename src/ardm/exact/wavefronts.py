"""Where the places of a causal program are kept while their neighbours need them: in NumPy and in PyTorch alike.

    Lookup   the last wavefronts of a walk, in the rows of one array for each value
    Strip    the last rows of a sweep

The wavefront of key k is the places with x + slope · y = k, from the top down: one place in each of the rows `front(k)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ardm.ans import Ints
from ardm.exact.operations.causal import Cells

Array: TypeAlias = Any
"""An array of NumPy, or a tensor."""
Zeros: TypeAlias = Callable[[tuple[int, ...]], Array]
"""Makes an array of this shape that is 0."""


@dataclass(frozen=True)
class Field:
    """The places of a batch: items of H rows and W columns, and the slope of their wavefronts."""

    items: int
    H: int
    W: int
    slope: int

    def front(self, key: int) -> tuple[int, int]:
        """The rows first..last − 1 of a wavefront; none if first ≥ last."""
        return max(0, -((self.W - 1 - key) // self.slope)), min(self.H, key // self.slope + 1)

    def places(self, key: int) -> tuple[Ints, Ints]:
        """The rows and columns (n,) of a wavefront."""
        y = np.arange(*self.front(key))
        return y, key - self.slope * y

    def inside(self, cells: Cells) -> Cells:
        """The cells that lie inside an item for some place."""
        return [(dy, dx) for dy, dx in cells if abs(dy) < self.H and abs(dx) < self.W]


class Lookup:
    """Where the last wavefronts keep their places, and where the cells of a place are found: rows of a `ring`.

    Row 0 is for what lies outside an item, and stays 0.
    """

    def __init__(self, places: Field, cells: Cells) -> None:
        self.places = places
        self._dy, self._dx = np.array(cells, dtype=np.int64).T
        inside = places.inside(cells)
        self._fronts = max((-dx - places.slope * dy for dy, dx in inside), default=0) + 1
        self.rows = 1 + places.items * self._fronts * places.H

    def own(self, key: int) -> Ints:
        """The rows (items · n,) of a wavefront."""
        y, _ = self.places.places(key)
        return self._all(key % self._fronts * self.places.H + y)

    def near(self, key: int) -> Ints:
        """The rows (items · n · cells,) of the cells of a wavefront."""
        f = self.places
        y, x = (axis[:, None] for axis in f.places(key))
        y, x = y + self._dy, x + self._dx
        row = self._all((x + f.slope * y) % self._fronts * f.H + y)
        return row * np.tile(((y >= 0) & (x >= 0) & (x < f.W)).reshape(-1), f.items)

    def _all(self, row: Ints) -> Ints:
        """Rows of the first item, as those of every item."""
        first = 1 + np.arange(self.places.items)[:, None] * (self._fronts * self.places.H)
        found: Ints = (first + row.reshape(-1)).reshape(-1)
        return found


class Strip:
    """Values of some rows of items, of those above them that their cells reach, and zeros beside.

    rows: the most rows at once.  An item of one row is turned into a column, so that any part of it is some rows.
    """

    def __init__(self, zeros: Zeros, field: Field, cells: Cells, planes: int, rows: int) -> None:
        self.field = field
        inside = set(field.inside(cells))
        self._reads = [(cell if field.H > 1 else cell[::-1]) if cell in inside else None for cell in cells]
        used = [read for read in self._reads if read is not None]
        self._top = max((-dy for dy, _ in used), default=0)
        self._left = max([0, *(-dx for _, dx in used)])
        self._wide = field.W if field.H > 1 else 1
        right = max([0, *(dx for _, dx in used)])
        self._held = zeros((field.items, self._top + rows, self._left + self._wide + right, planes))
        if len(used) < len(cells):
            self._nothing = zeros((field.items, rows, self._wide, planes))

    def put(self, a: Array) -> None:
        """Add the next rows: a (items · rows · W, P), or (items, rows · W, P)."""
        a = a.reshape(self.field.items, -1, self._wide, a.shape[-1])
        self._rows = a.shape[1]
        self._held[:, self._top : self._top + self._rows, self._left : self._left + self._wide] = a

    def cells(self) -> list[Array]:
        """The neighbours of the places of the current rows: (items, rows, W, P) for each cell."""
        found = []
        for read in self._reads:
            if read is None:
                found.append(self._nothing[:, : self._rows])
            else:
                y, x = self._top + read[0], self._left + read[1]
                found.append(self._held[:, y : y + self._rows, x : x + self._wide])
        return found

    def turn(self) -> None:
        """Keep what the rows after these reach of them."""
        for y in range(0, self._top, self._rows):  # in runs that do not overlap
            last = min(y + self._rows, self._top)
            self._held[:, y:last] = self._held[:, y + self._rows : last + self._rows]
