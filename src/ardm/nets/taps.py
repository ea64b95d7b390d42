"""The samples around each asked site of a sound, linear predictors, and a residual perceptron: sound on a laptop.

Every component of the mixture has a linear predictor of its own over the samples around a site, learnt with the rest;
the perceptron says how much each is to be believed, how far off it is, and how wide.  It is told differences of
neighbouring samples at four scales, each cut off where the next takes over, so that whispers and shouts are both seen.
What the perceptron reads are whole numbers, the same that a network in integers is told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets.residual import ResidualPerceptron
from ardm.nets.window import offsets
from ardm.precision import full

SHIFTS, CLIP = (0, 2, 4, 7), 127
"""Bits dropped from differences at each scale, and what is cut off beyond."""
SLOW = 0.25
"""How fast predictors are learnt, beside the rest: what they read are thousands."""
UNIT = 64.0
"""What means are corrected and scales are predicted in: half samples."""


class Taps(nn.Module):
    """Features at asked sites of a sound, and the centre of each component.

    classes: K.  width: F, of the perceptron.  blocks: its residual blocks.  reach: samples looked at to the left and to
    the right.  components: M of the mixture, each with a predictor.
    """

    def __init__(self, classes: int, width: int, blocks: int, reach: tuple[int, ...], components: int) -> None:
        super().__init__()
        self.classes, self.reach, self.offsets = classes, tuple(reach), offsets(reach)
        n = len(self.offsets)
        self.slow = nn.Parameter(torch.randn(components, n) * 0.02 / SLOW)
        with torch.no_grad():
            self.slow[:, 0] += 1.0 / SLOW  # at first: as the sample before
        self.first = nn.Linear(n * (len(SHIFTS) + 1), width)
        self.blocks = ResidualPerceptron(width, blocks)

    @property
    def filters(self) -> Tensor:
        """(M, T): the linear predictors."""
        return self.slow * SLOW

    def steps(self) -> Tensor:
        """(T, T): what turns samples into what the scales are made of: the nearest, then differences of neighbours."""
        left, n = self.reach[0], len(self.offsets)
        matrix = torch.eye(n, device="cpu")
        for i in range(1, n):
            nearer = i - 1 if i != left else 0  # to the right, the nearest is told against the nearest on the left
            matrix[i, nearer] = -1.0
        return matrix

    def forward(self, value: Tensor, known: Tensor) -> FeaturesAt:
        """value (B, D): 2x − (K − 1) where known, else 0; known (B, D): 0 or 1.  Float tensors."""
        left, right = self.reach
        padded, shown = F.pad(value, (left, right)), F.pad(known, (left, right))
        wide, flat, told = padded.shape[1], padded.reshape(-1), shown.reshape(-1)
        offset = torch.tensor(self.offsets, device=value.device) + left
        steps = self.steps().to(value)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            index = (batch_index * wide + position)[:, None] + offset
            near = flat[index]
            with torch.autocast(near.device.type, enabled=False):
                apart = near @ steps.T
                centre = near @ self.filters.to(near.dtype).T / (self.classes - 1)
            scales = [(apart / 2**by).floor().clamp(-CLIP - 1, CLIP) / (CLIP + 1) for by in SHIFTS]
            h = self.blocks(full(self.first, torch.cat([*scales, told[index]], 1)))
            return Features(F.relu(h), centre, torch.full_like(centre[:, 0], UNIT / (self.classes - 1)))

        return features
