"""A foveated window around each asked site, and a residual perceptron: no work at other sites.

A convolutional network computes features everywhere, though a step of a plan reads them at a fiftieth of the sites.  This
one gathers, for each asked site, its neighbourhood at three resolutions (pixels; means of 3×3; means of 9×9) and applies
a perceptron.  Coding an image then costs one evaluation per value, whatever the number of calls, and training wastes
nothing.  Context is local: good likelihoods, no global composition.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.channels import by_channel
from ardm.nets.neighbours import UNIT, box_mean, rounded
from ardm.nets.residual import ResidualPerceptron


def _offsets(radius: int, step: int) -> list[tuple[int, int]]:
    axis = range(-radius * step, radius * step + 1, step)
    return [(dy, dx) for dy in axis for dx in axis]


def _squares(radius: int) -> Tensor:
    """Squared distances over a square window, as integers, which a change of the module's dtype does not round."""
    return torch.tensor([dy * dy + dx * dx for dy, dx in _offsets(radius, 1)])


def _weights(squares: Tensor) -> Tensor:
    """distance^−3, 0 at the centre: the weight of each cell in the mean."""
    square = squares.float()
    return torch.where(square > 0, square.clamp(min=1.0) ** -1.5, 0.0)


class Local(nn.Module):
    """Foveated windows and a perceptron.

    channels: C of the images.  width: F, of the perceptron.  blocks: its residual blocks.
    radius: of the finest window, in pixels.  rings: radius of the two coarser windows, in cells of 3 and of 9 pixels.
    condition: width of a conditioning vector (0: none).
    levels: K − 1 rounds the neighbours' mean to an eighth of a level of K (0: no rounding), so that an integer network gets
    exactly the inputs on which this one was trained: values less that mean.
    """

    near_squares: Tensor
    far_squares: Tensor

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: int,
        radius: int = 3,
        rings: int = 2,
        condition: int = 0,
        levels: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.width, self.levels = channels, width, levels
        self.radius, self.rings = radius, rings
        cells = (2 * radius + 1) ** 2 + 2 * ((2 * rings + 1) ** 2 if rings else 0)
        inputs = cells * channels * 2 + 2 * channels
        self.first = nn.Parameter(torch.randn(channels, inputs, width) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels, width))
        self.condition = nn.Linear(condition, width) if condition else None
        self.blocks = ResidualPerceptron(width, blocks)
        self.register_buffer("near_squares", _squares(radius), persistent=False)
        self.register_buffer("far_squares", _squares(rings), persistent=False)

    @property
    def near(self) -> Tensor:
        """The weights of the cells of the finest window in the mean."""
        return _weights(self.near_squares)

    @property
    def far(self) -> Tensor:
        """The same for the two coarser windows."""
        return _weights(self.far_squares)

    def forward(self, value: Tensor, known: Tensor, condition: Tensor | None = None) -> FeaturesAt:
        """value in [−1, 1], known in [0, 1]: (B, C, H, W); condition (B, condition)."""
        C, H, W = value.shape[1:]
        maps = torch.cat([value * known, known], 1)
        scales = [(maps, self.radius, 1)]
        if self.rings:
            scales += [(box_mean(maps, cell), self.rings, cell) for cell in (3, 9)]
        grids = [self._grid(*scale) for scale in scales]

        def features(batch_index: Tensor, position: Tensor) -> Features:
            pixel, channel = position % (H * W), position // (H * W)
            y, x = pixel // W, pixel % W
            windows = [
                rows[((batch_index * tall + y + pad) * wide + x + pad)[:, None] + offset]
                for rows, offset, tall, wide, pad in grids
            ]
            mean = self._nearby(windows, C)
            centre = mean.gather(1, channel[:, None])
            inputs = [mean, (mean - centre) / UNIT]
            for cells in windows:
                inputs += [(cells[..., :C] - mean[:, None] * cells[..., C:]) / UNIT, cells[..., C:]]
            h = torch.cat([i.flatten(1) for i in inputs], 1)
            hidden = self._perceptron(h, channel, batch_index, condition)
            return Features(hidden, centre[:, 0], torch.full_like(centre[:, 0], UNIT))

        return features

    def _nearby(self, windows: list[Tensor], C: int) -> Tensor:
        """(N, C): the mean of the known values of each channel, weighted by nearness; 0 where nothing is known."""
        near, far = (w.to(windows[0].dtype) for w in (self.near, self.far))
        shares = (near, 1e-3 * far, 1e-6 * far)
        sums = [torch.einsum("nkc,k->nc", cells, near) for cells, near in zip(windows, shares, strict=False)]
        total = torch.stack(sums).sum(0)
        return rounded(total[:, :C] / (total[:, C:] + 1e-9), self.levels)

    def _grid(self, maps: Tensor, radius: int, step: int) -> tuple[Tensor, Tensor, int, int, int]:
        """Maps (B, P, H, W) as rows (B·H'·W', P) of a padded image, the row offsets of a window, H', W' and the padding."""
        pad = radius * step
        padded = F.pad(maps, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
        tall, wide = padded.shape[1:3]
        side = torch.arange(-radius, radius + 1, device=maps.device) * step
        offset = (side[:, None] * wide + side).flatten()
        return padded.reshape(-1, maps.shape[1]), offset, tall, wide, pad

    def _perceptron(self, h: Tensor, channel: Tensor, batch_index: Tensor, condition: Tensor | None) -> Tensor:
        out = by_channel(h, channel, self.first, self.bias)
        if self.condition is not None and condition is not None:
            out = out + self.condition(condition)[batch_index]
        return F.relu(self.blocks(out))
