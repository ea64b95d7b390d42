"""Mean and spread of the known neighbours of a site: averages over boxes, from near to far.

A logistic mixture placed around this mean starts from a fair predictor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FRACTION = 2
"""Bits after the point of the rounded neighbours' mean, in half grey levels."""
UNIT = 0.05
"""The unit of deviations from the neighbours' mean, as inputs and predictions: 6 grey levels of 256.

Dividing by the spread around a site instead (contrast normalisation) was 0.07 bits/dim worse at equal training.
"""
SPREAD_FLOOR = 0.02
"""The smallest spread, 2.5 grey levels of 256, since flat neighbourhoods have noise too."""
BOXES = ((3, 1.0), (7, 1e-2), (17, 1e-4), (65, 1e-6))
"""Sides of the boxes, and their shares."""
BANDED = 512
"""Up to this height and width, sums over boxes are products with matrices of bands: on CPUs ten times faster for 32 × 32."""


def unit(classes: int) -> float:
    """The unit of deviations for pixels of so many classes: UNIT, or half the distance of two values if that is more."""
    return max(UNIT, 1 / (classes - 1))


def box_mean(planes: Tensor, side: int) -> Tensor:
    """Each plane of (B, P, H, W) averaged over squares of odd `side`, zeros outside.

    From sums of windows, not differences of running sums, so that it is exactly 0 where nothing is known.
    """
    half = side // 2
    return F.avg_pool2d(F.avg_pool2d(planes, (side, 1), 1, (half, 0)), (1, side), 1, (0, half))


def rounded(mean: Tensor, levels: int) -> Tensor:
    """A mean in [−1, 1] rounded to an eighth of a level of levels + 1, so that an integer network gets the same; 0: as it is."""
    fine = levels * 2**FRACTION
    return (mean * fine + 0.5).floor() / fine if fine else mean


def _bands(size: int, like: Tensor) -> Tensor:
    """(boxes, size, size): 1 where two places lie within one side of each box."""
    place = torch.arange(size, device=like.device)
    half = torch.tensor([side // 2 for side, _ in BOXES], device=like.device)[:, None, None]
    return ((place - place[:, None]).abs() <= half).to(like.dtype)


def box_sums(planes: Tensor) -> Tensor:
    """The means of planes (B, P, H, W) over the boxes around each pixel, each times its share, added up.

    As products, all boxes at once: over the columns, then over the rows of all boxes.  Zeros add up to 0 exactly.
    """
    H, W = planes.shape[2:]
    if planes.device.type != "cpu" or max(H, W) > BANDED:
        return torch.stack([share * box_mean(planes, side) for side, share in BOXES]).sum(0)
    share = torch.tensor([s / side**2 for side, s in BOXES], dtype=planes.dtype, device=planes.device)
    across = (_bands(W, planes) * share[:, None, None]).transpose(0, 1).flatten(1)  # (W, boxes · W)
    down = _bands(H, planes).transpose(0, 1).flatten(1)  # (H, boxes · H)
    with torch.autocast("cpu", enabled=False):
        rows = (planes.flatten(0, 2) @ across).view(-1, H, len(BOXES), W)
        return (down @ rows.transpose(1, 2).flatten(1, 2)).view_as(planes)


def neighbours(value: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of the known neighbours of every site: value, known (B, C, H, W) → both (B, C, H, W)."""
    return nearby(value, known)[:2]


def nearby(value: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread and weight of the known neighbours of every site: value, known (B, C, H, W) → three (B, C, H, W).

    value in [−1, 1], known in [0, 1] (the share of its digits).  Each of the boxes of 3, 7, 17 and 65 pixels weighs a
    hundredth of the one before, so that the nearest known values decide; 0 where nothing is known.
    """
    maps = torch.cat([known, value * known, value.square() * known], 1)
    weight, first, second = box_sums(maps).chunk(3, 1)
    weight = weight + 1e-9
    mean = first / weight
    spread = (second / weight - mean.square()).clamp(min=0).add(SPREAD_FLOOR**2 + 0.25e-9 / weight).sqrt()
    return mean, spread, weight
