"""Orders by rates: every site has an exponential clock, and sites are revealed as their clocks ring (Plackett and Luce).

Site i has a rate w_i > 0 and rings at the time E_i / w_i, where E_i is a standard exponential number.  The order is σ with
probability

    p(σ) = Π_k w_σ(k) / (w_σ(k) + w_σ(k+1) + … + w_σ(D−1)):

given what is known, the next site is i with probability w_i / Σ_hidden w.  Equal rates make all orders equally likely, and a
common factor changes nothing.  In the time t = exp(−clock), which falls from 1 to 0, site i is still hidden with probability
t^w_i: the schedules α_i(t) = 1 − t^w_i of GenMD4 (Shi et al. 2024, 2406.04329) and LoMDM (Hong, Lee & Ye 2026, 2602.02112).
There the exponents depend on the values of the item, which a sampler must guess; a table of rates is known to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.inputs import tensor
from ardm.precision import finely

NOTHING = -1e9
"""The logarithm of a rate that is as good as 0, and has a gradient."""


def table(rates: object, shape: Sequence[int]) -> Tensor:
    """The rates of items of a shape, in the finest dtype of their device.

    Raises ArdmError for another shape, and on a CPU for rates that are not positive and finite.
    """
    found = tensor(rates, "rates")
    if tuple(found.shape) != tuple(shape):
        raise ArdmError(f"rates are one number for each site, {tuple(shape)}; got {tuple(found.shape)}")
    found = finely(found)
    if found.device.type == "cpu" and not ((found > 0) & (found < torch.inf)).all():
        raise ArdmError(f"rates must be positive and finite; got {float(found.min()):g}..{float(found.max()):g}")
    return found


def exponential(u: Tensor) -> Tensor:
    """Standard exponential numbers from uniform ones in [0, 1), increasing; a narrow float then keeps their precision."""
    return -torch.log1p(-u)


def clocks(rates: Tensor, numbers: Tensor) -> Tensor:
    """(…, D): the time at which each site rings, from rates (D,) and standard exponential numbers (…, D)."""
    return numbers / rates.to(numbers.device)


def ranks(rates: Tensor, numbers: Tensor) -> Tensor:
    """(B, D): the steps of sites in orders by rates (D,), from standard exponential numbers (B, D)."""
    return clocks(rates, numbers).argsort(1).argsort(1)


def shares(rates: Tensor, hidden: Tensor) -> Tensor:
    """(B, D): the probability that a site is the next one, given which are hidden (B, D) bool; 0 where it is known."""
    left = rates.where(hidden, 0.0)
    return left / left.sum(1, keepdim=True).where(hidden.any(1, keepdim=True), 1.0)


def log_probability(rates: Tensor, rank: Tensor, known: Tensor, out: Tensor | None = None) -> Tensor:
    """(B,): log p that an order begins with the `known` (B,) first sites of rank (B, D), in their order; with gradient.

    out: (B, D) bool, sites that take no part, whose ranks come last.
    """
    logs = rates.log().expand(rank.shape)
    logs = logs if out is None else logs.masked_fill(out, NOTHING)
    ordered = logs.gather(1, rank.argsort(1))
    left = ordered.flip(1).logcumsumexp(1).flip(1)
    return (ordered - left).where(torch.arange(rank.shape[1], device=rank.device) < known[:, None], 0.0).sum(1)
