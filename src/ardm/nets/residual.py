"""A residual perceptron on rows.

h ← h + down(relu(up(relu(h))))      for each block; down is 0 at the start
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ardm.nets.products import Linear


class ResidualBlock(nn.Module):
    """One block of `width`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = Linear(width, width), Linear(width, width)
        nn.init.zeros_(self.down.weight)

    def forward(self, h: Tensor) -> Tensor:
        """h (N, width): computed in the dtype of the weights, added in that of h."""
        return h + self.down(F.relu(self.up(F.relu(h).to(self.up.weight.dtype)))).to(h.dtype)


class ResidualPerceptron(nn.Sequential):
    """Several blocks, one after the other."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__(*(ResidualBlock(width) for _ in range(blocks)))

    @property
    def blocks(self) -> list[ResidualBlock]:
        """The blocks."""
        return [block for block in self if isinstance(block, ResidualBlock)]
