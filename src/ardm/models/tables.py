"""The body for tables: a residual perceptron over all columns."""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.digits import Partial
from ardm.features import Features, FeaturesAt
from ardm.models.body import RowBody
from ardm.models.config import ModelConfig
from ardm.nets import Table
from ardm.precision import widened


class TableBody(RowBody):
    """Columns → perceptron → log-weights of the values of every column."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.trunk = Table(
            self.number_of_rows, config.sites, sum(config.limits), config.width, config.blocks, config.embedding or 16,
            config.inner_width, self.stages, config.modern, config.dropout, config.direct,
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Log-weights (N, K) at sites; those of values beyond the limit of a column mean nothing."""
        condition = self.conditioned(state, context, self.trunk.out.weight)
        every = widened(self.trunk(self.rows(state), state.depth.flatten(1), condition))
        value = torch.arange(self.config.classes, device=every.device)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            column = torch.minimum(value, self.limit[position][:, None] - 1) + self.offset[position][:, None]
            index = batch_index[:, None] * every.shape[1] + column
            return Features.plain(every.flatten().gather(0, index.flatten()).view_as(index))

        return features
