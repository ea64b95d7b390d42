"""Linear predictors over the samples around each asked site of a sound, and a residual perceptron: sound on a laptop.

Every component of the mixture has its own linear predictor over the samples around a site, learnt with the rest; the
perceptron gives each component its mixture weight, correction and width.  It reads differences of neighbouring samples at
four scales, each clipped where the next takes over, so that it sees both whispers and shouts.  These inputs are whole
numbers, the same that an integer network reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.residual import ResidualPerceptron
from ardm.precision import full

SHIFTS, CLIP = (0, 2, 4, 7), 127
"""Bits dropped from differences at each scale, and where they are clipped."""
SLOW = 0.25
"""The learning speed of the predictors beside the rest: their inputs are in the thousands."""
UNIT = 64.0
"""The unit of corrections to means, and of scales: half samples."""


def offsets(reach: tuple[int, ...]) -> list[int]:
    """The offsets of the samples within reach (left, right): nearest first, the left side before the right."""
    left, right = reach
    return [-i for i in range(1, left + 1)] + list(range(1, right + 1))


class Taps(nn.Module):
    """Features at the asked sites of a sound, and the prediction of each component.

    classes: K.  width: F, of the perceptron.  blocks: its residual blocks.  reach: samples read to the left and to the
    right.  components: M of the mixture, each with a predictor.
    """

    offset: Tensor
    differences: Tensor

    def __init__(self, classes: int, width: int, blocks: int, reach: tuple[int, ...], components: int) -> None:
        super().__init__()
        self.classes, self.reach, self.offsets = classes, tuple(reach), offsets(reach)
        n = len(self.offsets)
        self.register_buffer("offset", torch.tensor(self.offsets), persistent=False)
        self.register_buffer("differences", torch.tensor(self._differences()), persistent=False)
        self.slow = nn.Parameter(torch.randn(components, n) * 0.02 / SLOW)
        with torch.no_grad():
            self.slow[:, 0] += 1.0 / SLOW  # at first: as the sample before
        self.first = nn.Linear(n * (len(SHIFTS) + 1), width)
        self.blocks = ResidualPerceptron(width, blocks)

    @property
    def filters(self) -> Tensor:
        """(M, T): the linear predictors."""
        return self.slow * SLOW

    def _differences(self) -> list[list[float]]:
        """(T, T): the matrix from samples to the nearest sample and then differences of neighbours."""
        left, n = self.reach[0], len(self.offsets)
        matrix = [[float(i == j) for j in range(n)] for i in range(n)]
        for i in range(1, n):
            nearer = i - 1 if i != left else 0  # the nearest on the right minus the nearest on the left
            matrix[i][nearer] = -1.0
        return matrix

    def forward(self, value: Tensor, known: Tensor) -> FeaturesAt:
        """value (B, D): 2x − (K − 1) where known, else 0; known (B, D): 0 or 1.  Float tensors."""
        left, right = self.reach
        padded, mask = F.pad(value, (left, right)), F.pad(known, (left, right))
        wide, flat, is_known = padded.shape[1], padded.reshape(-1), mask.reshape(-1)
        offset = self.offset + left
        steps = self.differences.to(value.dtype)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            index = (batch_index * wide + position)[:, None] + offset
            near = flat[index]
            with torch.autocast(near.device.type, enabled=False):
                apart = near @ steps.T
                centre = near @ self.filters.to(near.dtype).T / (self.classes - 1)
            scales = [(apart / 2**by).floor().clamp(-CLIP - 1, CLIP) / (CLIP + 1) for by in SHIFTS]
            h = self.blocks(full(self.first, torch.cat([*scales, is_known[index]], 1)))
            return Features(F.relu(h), centre, torch.full_like(centre[:, 0], UNIT / (self.classes - 1)))

        return features
