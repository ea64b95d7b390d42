"""Context: a class label or a vector, and how much is known, as one vector per item."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ardm.errors import ArdmError
from ardm.models.config import ModelConfig
from ardm.precision import full, wide

NO_LABEL = -(2**63)
"""The label of an item without one."""


class Condition(nn.Module):
    """Context → (B, width): a class label (B,) int64 or a vector (B, V), and the number of known digits.

    The number of known digits is embedded as in the paper: sinusoids, then two layers of four times the width.
    required: refuse items without a label, because the model never trained on any.
    """

    required = False

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.label = nn.Embedding(config.labels + 1, width) if config.labels else None
        self.vector = nn.Linear(config.vector, width) if config.vector else None
        self.time = None
        if config.time:
            self.time = nn.Sequential(nn.Linear(config.width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, depth: Tensor, context: Tensor | None, like: Tensor) -> Tensor:
        """(B, width) in the dtype of like.  Without context: the embedding of "no label", or no vector."""
        B = len(depth)
        out = like.new_zeros(B, self.width)
        if self.label is not None:
            out = out + self.label(self._rows(context, B, depth.device))
        elif self.vector is not None and context is not None:
            if context.shape != (B, self.config.vector):
                raise ArdmError(f"this model takes vectors ({B}, {self.config.vector}); got {tuple(context.shape)}")
            out = out + full(self.vector, context.to(wide(out.dtype))).to(out.dtype)
        elif context is not None:
            raise no_context()
        return out if self.time is None else out + self.time(self._known(depth, wide(out.dtype)).to(out.dtype))

    def _known(self, depth: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, config.width // 2 · 2): sinusoids of the share of digits that are known."""
        known = depth.flatten(1).sum(1).to(dtype) / depth[0].numel() / len(self.config.digits) * 1000
        half = self.config.width // 2
        rate = torch.exp(torch.arange(half, device=depth.device, dtype=dtype) * (-math.log(1e4) / (half - 1)))
        angle = known[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], 1)

    def _rows(self, context: Tensor | None, items: int, device: torch.device) -> Tensor:
        """(B,): the embedding row of each label; the last one for "no label"."""
        K = self.config.labels
        if context is None:
            if self.required:
                raise self._missing()
            return torch.full((items,), K, device=device)
        if context.shape != (items,) or context.dtype != torch.long:
            found = f"{str(context.dtype).removeprefix('torch.')} {tuple(context.shape)}"
            raise ArdmError(f"this model takes one class label per item, 0..{K - 1}, int64 ({items},); got {found}")
        none = context == NO_LABEL
        wrong = ~none & ((context < 0) | (context >= K))
        if context.device.type == "cpu":  # on a GPU the embedding refuses row K + 1, without waiting
            if wrong.any():
                raise ArdmError(f"class labels of this model lie in 0..{K - 1}; got {int(context[wrong][0])}")
            if self.required and none.any():
                raise self._missing()
        return context.masked_fill(none, K).masked_fill(wrong, K + 1)

    def _missing(self) -> ArdmError:
        return ArdmError(
            f"this model was trained with a label for every item: give labels 0..{self.config.labels - 1} (context, or "
            "--label)"
        )


def no_context() -> ArdmError:
    """The error for context given to an unconditional model."""
    return ArdmError("this model takes no context: set labels or vector in its configuration")
