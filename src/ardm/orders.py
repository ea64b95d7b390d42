"""Recipes of orders, and the plans that they make of images and sequences.

A recipe is a few names and integers that rebuild the same plan on any machine, for any image size.  It assigns each pixel
a group by its coordinates, periodically, so that images of any size take the same number of steps.  The channels follow
each other with a delay, and each can use those before it.  With a delay of one step, G groups of pixels in C channels take
G + C − 1 network calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ardm.errors import ArdmError
from ardm.plan import Plan, image
from ardm.ranks import LINES, RANKS, Ranks

LAG = 1 / 3
"""By how much of the order of its pixels a channel follows another, so that few calls do not reveal a pixel whole."""


@dataclass(frozen=True)
class OrderConfig:
    """The recipe of a plan for images or sequences.

    order: a name in `ranks.RANKS`, or for sequences in `ranks.LINES`; "random" (an any-order model, without a fixed plan).
    calls: network calls of each level, the default first; several levels share one model.
    cell: the side of the periodic cell, a power of two for "bayer".
    starts: ranks (0..cell²−1) at which the groups of the first level begin; empty: equal widths.
    lead: the first channel.  delay: steps by which each further channel follows.
    """

    order: str = "random"
    calls: tuple[int, ...] = (50,)
    cell: int = 32
    starts: tuple[int, ...] = ()
    lead: int = 1
    delay: int = 1

    def __post_init__(self) -> None:
        if self.order not in ("random", *RANKS):
            raise ArdmError(f"unknown order {self.order!r}; choose random, {', '.join(RANKS)}")
        if not self.calls or min(self.calls) < 1:
            raise ArdmError(f"calls must be positive numbers of network calls; got {self.calls}")

    @property
    def fixed(self) -> bool:
        """Whether this is a fixed order, not random ones."""
        return self.order != "random"


def image_plan(config: OrderConfig, shape: Sequence[int], calls: int | None = None, stages: int = 1) -> Plan:
    """The plan for images (C, H, W) in `calls` network calls; default the first level of the recipe.

    For sequences and tables (D,) see `line_plan`.  Raises ArdmError for random orders, and for an impossible number of calls.
    """
    if not config.fixed:
        raise ArdmError(
            "this recipe has no fixed order, because its model takes any order; name one to plan or code with"
        )
    if len(shape) == 1:
        return line_plan(config, shape[0], calls, stages)
    C, H, W = shape
    tail = config.delay * (C - 1)
    wanted = config.calls[0] if calls is None else calls
    groups, odd = divmod(wanted, stages)
    groups -= tail
    if odd or not 1 <= groups <= config.cell**2:
        least, most = stages * (tail + 1), stages * (tail + config.cell**2)
        raise ArdmError(f"this order takes {least} to {most} calls, a multiple of {stages}; got {wanted}")
    ranks = RANKS[config.order](config.cell, config.cell)
    edges = np.asarray(group_starts(config, groups, wanted))
    group = np.searchsorted(edges, ranks, side="right") - 1
    y, x = np.mgrid[:H, :W] % config.cell
    turn = (np.arange(C) - config.lead) % C * config.delay
    when = group[y, x][None] + turn[:, None, None]
    steps = groups + tail
    return Plan(torch.from_numpy(when[None] + steps * np.arange(stages)[:, None, None, None])[None].long())


def line_plan(config: OrderConfig, sites: int, calls: int | None = None, stages: int = 1) -> Plan:
    """The periodic plan for sequences and tables (D,), which takes the same number of calls at any length.

    "raster": pieces of `calls` sites, all from left to right at once, one site of each a call.
    "bayer": coarse to fine, by halves, in cells of `cell` sites.
    Raises ArdmError for other orders, and for an impossible number of calls.
    """
    wanted = config.calls[0] if calls is None else calls
    steps, odd = divmod(wanted, stages)
    cell = max(steps, 1) if config.order == "raster" else config.cell
    if odd or not 1 <= steps <= cell:
        most = "calls or more" if config.order == "raster" else f"to {stages * cell} calls"
        raise ArdmError(f"this order takes {stages} {most}, a multiple of {stages}; got {wanted}")
    if config.order not in LINES:
        raise ArdmError(f"sequences have the orders {', '.join(LINES)}; got {config.order!r}")
    group = LINES[config.order](cell) * steps // cell
    when = group[np.arange(sites) % cell] + steps * np.arange(stages)[:, None]
    return Plan(torch.from_numpy(when[None]).long())


def group_starts(config: OrderConfig, groups: int, calls: int) -> list[int]:
    """The ranks at which the groups of a level begin: the recipe's starts, thinned for fewer calls; else equal widths."""
    total = config.cell**2
    if not config.starts or calls > config.calls[0]:
        return [total * g // groups for g in range(groups)]
    if config.starts[0] != 0 or list(config.starts) != sorted(set(config.starts)) or config.starts[-1] >= total:
        raise ArdmError(f"starts must begin with 0 and increase strictly below {total}; got {config.starts[:8]}…")
    own = len(config.starts)
    return [config.starts[own * g // groups] for g in range(groups)]


def named(order: str, shape: tuple[int, ...], calls: int) -> OrderConfig:
    """The recipe of a named order of images or sequences of this shape.  Raises ArdmError for other names and shapes."""
    if len(shape) not in (1, 3):
        raise ArdmError(f"items of shape {shape} have the orders random and confident; got {order!r}")
    if order not in RANKS:
        raise ArdmError(f"unknown order {order!r}; choose random, rates, confident, own, {', '.join(RANKS)}")
    return OrderConfig(order, (calls,), cell=max(shape[1:] or shape))


def names(shape: Sequence[int]) -> list[str]:
    """The named orders of items (C, H, W) or (D,)."""
    return list(RANKS if len(shape) == 3 else LINES)


def item_ranks(name: str, shape: Sequence[int], lead: int = 0, lag: float = LAG) -> Ranks:
    """The ranks of all sites of an item (*shape) by a named order of pixels or of sequences.

    lead: the first channel of images.  lag: by how much of the order of its pixels each further channel follows the one
    before it; 1: channel after channel.
    """
    if len(shape) == 1:
        return LINES[name](shape[0])
    C, H, W = shape
    found: Ranks = image(1, shape, RANKS[name](H, W), lag, lead % C).when[0, 0].numpy()
    return found


def keys(config: OrderConfig, shape: tuple[int, ...]) -> tuple[Ranks, Ranks]:
    """(D,): the rank of the pixel of each site; (D,): by how many steps its channel follows the first."""
    if len(shape) == 1:
        if config.order not in LINES:
            raise ArdmError(f"sequences have the orders {', '.join(LINES)}; got {config.order!r}")
        return LINES[config.order](shape[0]), np.zeros(shape[0], dtype=np.int64)
    C, H, W = shape
    side = max(H, W)
    pixels = RANKS[config.order](side, side)[:H, :W]
    turn = (np.arange(C) - config.lead) % C * config.delay
    return np.tile(pixels.ravel(), C), np.repeat(turn, H * W)
