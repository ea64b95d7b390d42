"""Where a network is asked."""

from __future__ import annotations

from dataclasses import dataclass

from ardm.ans import Ints


@dataclass(frozen=True)
class AskedSites:
    """N sites: the item of the batch, channel, row and column of each, (N,) int64."""

    batch_index: Ints
    channel: Ints
    y: Ints
    x: Ints

    def __getitem__(self, rows: slice) -> AskedSites:
        return AskedSites(self.batch_index[rows], self.channel[rows], self.y[rows], self.x[rows])

    def __len__(self) -> int:
        return len(self.batch_index)

    @property
    def index(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The sites as an index of arrays (B, C, H, W)."""
        return self.batch_index, self.channel, self.y, self.x
