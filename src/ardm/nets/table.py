"""A residual perceptron over the columns of a table, and outputs with weights of their own for each column.

Every column has an embedding row for each of its values and one for "unknown".  The perceptron is evaluated once per
item, and one product gives the log-weights of all values of all columns; direct connections may add to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ardm.nets.products import Linear
from ardm.nets.transformer import Perceptron, norm_of
from ardm.precision import full, wide, widened


class Block(Perceptron):
    """norm → perceptron → dropout, added to its input."""

    def forward(self, h: Tensor) -> Tensor:
        """h: (B, width)."""
        return h + self.perceive(h)


class Direct(nn.Module):
    """Direct connections (MADE, Germain et al. 2015): every row of the input adds its own weights to every output.

    A weight is GAIN² u v, the product of two parameters.  Weight decay on both shrinks it much as a lasso would (Hoff 2017),
    so that useless connections stay near 0 while those between columns that exclude each other grow.  GAIN lets each
    parameter move ten times faster than a layer weight at the same learning rate.
    """

    GAIN, START = 10.0, 0.05

    def __init__(self, rows: int, outputs: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((rows, outputs), self.START))
        self.v = nn.Parameter(torch.zeros(rows, outputs))

    @property
    def weight(self) -> Tensor:
        """(rows, outputs), in float32 or better."""
        return self.GAIN**2 * widened(self.u) * widened(self.v)

    def forward(self, rows: Tensor) -> Tensor:
        """rows: (B, D) int64, different in every item → (B, outputs), the sum of their weights."""
        weight = self.weight
        with torch.autocast(rows.device.type, enabled=False):
            return weight.new_zeros(len(rows), len(weight)).scatter_(1, rows, 1.0) @ weight


class Table(nn.Module):
    """rows, columns: of the embedding and of an item.  outputs: log-weights of all columns together.

    stages: rows of a second embedding, of how much of a value is known (0: none).  embedding: width of both.
    direct: whether to add `Direct` connections.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        outputs: int,
        width: int,
        blocks: int,
        embedding: int,
        hidden: int,
        stages: int = 0,
        modern: bool = True,
        dropout: float = 0.0,
        direct: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, embedding)
        self.stage = nn.Embedding(stages, embedding) if stages else None
        self.first = Linear(columns * embedding, width)
        share = max(blocks, 1) ** -0.5
        self.layers = nn.ModuleList(Block(width, hidden, modern, dropout, share) for _ in range(blocks))
        self.norm, self.out = norm_of(width, modern), Linear(width, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.direct = Direct(rows, outputs) if direct else None

    def forward(self, rows: Tensor, stage: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """rows, stage: (B, D) int64; condition: (B, width), added → (B, outputs)."""
        e = self.embedding(rows)
        if self.stage is not None and stage is not None:
            e = e + self.stage(stage)
        h = self.first(e.flatten(1)).to(self.first.weight.dtype)
        if condition is not None:
            h = h + condition
        for layer in self.layers:
            h = layer(h)
        made = full(self.out, self.norm(h))
        return made if self.direct is None else made + self.direct(rows)


class ColumnOutput(nn.Module):
    """Features of single sites → log-weights of the values of their columns: weights (D, width, K)."""

    def __init__(self, limits: Sequence[int], width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(limits), width, max(limits)))
        self.bias = nn.Parameter(torch.zeros(len(limits), max(limits)))

    def forward(self, h: Tensor, position: Tensor) -> Tensor:
        """h (N, width), position (N,) → (N, K), by padded matrix products of rows of one column."""
        dtype = torch.promote_types(h.dtype, wide(self.weight.dtype))
        with torch.autocast(h.device.type, enabled=False):
            return self._made(h.to(dtype), position, self.weight.to(dtype), self.bias.to(dtype))

    def _made(self, h: Tensor, position: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`forward` in one dtype: rows go to padded blocks of one column each, and come back in their order."""
        if not len(h):
            return h @ weight[0] + bias[0]  # so that both have gradients in every process
        column, order = position.sort(stable=True)
        rank = torch.arange(len(column), device=column.device) - torch.searchsorted(column, column)  # within its column
        size, blocks = self._blocks(column, rank)
        block, slot = (rank % size == 0).cumsum(0) - 1, rank % size
        padded = h.new_zeros(blocks, size, h.shape[1]).index_put((block, slot), h[order])
        of = column.new_zeros(blocks).index_put((block,), column)
        made = torch.baddbmm(bias[of][:, None], padded, weight[of])[block, slot]
        return made.index_select(0, order.argsort())

    def _blocks(self, column: Tensor, rank: Tensor) -> tuple[int, int]:
        """Rows of a block, all of one column, and the number of blocks: one a column on a CPU.

        On a GPU the counts are not read, which would wait for it: blocks of the mean size, at most twice as many as needed.
        """
        if column.device.type == "cpu":
            return int(rank.max()) + 1, int((rank == 0).sum())
        most = min(len(column), len(self.bias))
        size = -(-len(column) // most)
        return size, len(column) // size + most
