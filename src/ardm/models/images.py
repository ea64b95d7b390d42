"""Bodies for images: the U-Net, the paper's U-Net, and the centred U-Net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.features import FeaturesAt
from ardm.models.body import Body, centred
from ardm.models.config import ModelConfig
from ardm.nets import Centred, PaperUNet, UNet
from ardm.nets.neighbours import unit
from ardm.precision import wide


class ImageBody(Body):
    """The base: input planes for a trunk, in its dtype widened to float32; half precision would merge values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, (4 if config.time else 1) * config.width)

    def planes(self, state: Partial, like: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B, C, H, W) each: the centre of what a site may be, the share of its digits known, and a mask for each stage."""
        dtype, S = wide(like.dtype), len(self.digits)
        masks = [(state.depth > s).to(dtype) for s in range(S)]
        return centred(state, self.digits, dtype), state.depth.to(dtype) / S, masks


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("levels", "attention", "dropout", "growth")}


class UNetBody(ImageBody):
    """Centres, masks and learnt embeddings of the known values → U-Net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C, S, learnt = config.shape[0], len(self.digits), config.embedding
        self.embedding = nn.Embedding(config.classes + 1, learnt) if learnt else None
        planes = C * (1 + S + learnt)
        self.trunk = UNet(planes, C, config.width, config.blocks, condition=self.condition_width, **_sizes(config))

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites, with the mean and spread of the known neighbours."""
        like = self.trunk.input.weight
        condition = self.conditioned(state, context, like)
        value, known, masks = self.planes(state, like)
        planes = [value, *masks]
        if self.embedding is not None:
            rows = torch.where(state.depth > 0, state.value, self.config.classes)  # an extra row says "unknown"
            planes.append(self.embedding(rows).permute(0, 1, 4, 2, 3).flatten(1, 2))
        return self.trunk(torch.cat(planes, 1), value, known, condition)


class PaperUNetBody(ImageBody):
    """Values, with the paper's absorbing values where nothing is known, and masks → the paper's U-Net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.head != "values":
            raise ArdmError(
                f"the U-Net of style classic predicts values: set model.head to values; got {config.head!r}"
            )
        if config.embedding >= config.width:
            raise ArdmError(f"embedding must be less than width {config.width}; got {config.embedding}")
        C, S = config.shape[0], len(self.digits)
        self.trunk = PaperUNet(
            C * S, C, config.classes, config.embedding or config.width // 4, config.width, config.blocks,
            condition=self.condition_width, **_sizes(config),
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Log-weights of the K values at sites."""
        like = self.trunk.input.weight
        condition = self.conditioned(state, context, like)
        absorbing = self.config.classes // 2
        shown = state.value if len(self.digits) > 1 else torch.where(state.depth > 0, state.value, absorbing)
        return self.trunk(shown, torch.cat(self.planes(state, like)[2], 1), condition)


class CentredBody(ImageBody):
    """Centres, shares known and masks → the U-Net centred on the known neighbours."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.trunk = Centred(
            config.shape[0], len(self.digits), config.width, config.blocks, config.levels, config.growth, config.features,
            self.condition_width, config.classes - 1 if config.rounded else 0, unit(config.classes),
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites, with the mean of the known neighbours."""
        like = self.trunk.window
        condition = self.conditioned(state, context, like)
        value, known, masks = self.planes(state, like)
        return self.trunk(value, known, torch.cat(masks, 1), condition)
