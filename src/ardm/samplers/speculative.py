"""Speculative sampling along any order: several sites a call, and the distribution of one site a call.

    draft     x̃_j ~ q_j for all hidden sites at once
    verify    p_j = p(x_j | x̃ before j), all sites in one pass of the order-agnostic causal Transformer
    accept    the longest prefix in which u_j < p_j(x̃_j) / q_j(x̃_j), for uniform u_j
    correct   the first rejected site, drawn from max(0, p_j − q_j) / Σ

An accepted or corrected site has exactly the distribution p_j given the sites before it, whatever q_j is, as long as q_j was
fixed before x̃_j was drawn (Leviathan et al. 2023, Chen et al. 2023; for orders Guo & Ermon 2025, 2504.20456).  Here the
first drafts are the model's predictions when nothing is known, and later ones the p_j of the last verification, which follow
a draft that was wrong somewhere but cost nothing.  Every call yields at least one site: D + 1 calls at most.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ardm import inputs
from ardm.api import Array, bundle_of
from ardm.bundle import Bundle
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.heads import inverse_cdf
from ardm.model import Model
from ardm.models.causal import CausalModel
from ardm.plan import raster, shuffled
from ardm.precision import finely
from ardm.random_numbers import DRAWS, RandomNumbers


class Speculated(NamedTuple):
    """Samples, and what they took.

    value: (items, *shape) int64.  rank: (items, D), the step of each site: `likelihood.causal(model, value, rank)` scores
    the samples.  calls: network calls, of all items together; one site a call takes D.
    """

    value: Tensor
    rank: Tensor
    calls: int


def sample_speculative(
    bundle: Bundle | Model,
    items: int,
    order: str = "random",
    seed: int = 0,
    context: Array | None = None,
    first: int = 0,
) -> Speculated:
    """Draw new items from an order-agnostic causal model in few calls, distributed exactly as one site after the other.

    order: "random", another one for each item, or "raster".  seed, context, first: see `ardm.sample`.
    All logits (items, D, K) are held at once.  Raises ArdmError for other models and orders.
    """
    bundle, items = bundle_of(bundle), inputs.number(items, "items")
    model, numbers = bundle.model, RandomNumbers(seed, first)
    if not isinstance(model, CausalModel) or model.single:
        raise ArdmError(
            f"speculative sampling needs an order-agnostic causal model (causal: any); {bundle.name} is none"
        )
    if order not in ("random", "raster"):
        raise ArdmError(f"speculative sampling takes the orders random and raster; got {order!r}")
    device = inputs.device_of(model) or torch.device("cpu")
    context = inputs.context(context, items, device)
    plan = shuffled(1, model.shape, numbers, items) if order == "random" else raster(1, model.shape)
    rank = plan.when.flatten(1).expand(items, -1).to(device)
    along = rank.argsort(1)  # (items, D): the sites in their order; below, columns are steps
    value, calls = torch.zeros_like(rank), 1
    with torch.no_grad():
        q = _first(model, along, context)
        known = rank.new_zeros(items)  # so many steps of each item are decided
        while (known < prod(model.shape)).any():
            guess = inverse_cdf(q.flatten(0, 1), _uniform(numbers, calls, 0, along).flatten()).view_as(value)
            guess = torch.where(torch.arange(guess.shape[1], device=device) < known[:, None], value, guess)
            x = torch.zeros_like(guess).scatter(1, along, guess).view(items, *model.shape)
            p = _in_order(model.log_probs(x, rank, context), along)
            value, known = verified(
                p, q, guess, known, _uniform(numbers, calls, 1, along), _uniform(numbers, calls, 2, along)
            )
            q, calls = p, calls + 1
    return Speculated(torch.zeros_like(value).scatter(1, along, value).view(items, *model.shape), rank, calls)


def verified(p: Tensor, q: Tensor, guess: Tensor, known: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Accept the longest prefix of a draft and correct the site after it.

    p, q: (B, D, K), log-probabilities of the model and of the draft in the order of the steps.  guess: (B, D), the draft; its
    first known (B,) steps are decided.  u, v: (B, D), uniform numbers to accept with, and to correct with.
    Returns the values (B, D), and how many steps of each item are decided now.
    """
    steps = torch.arange(guess.shape[1], device=guess.device)
    at = guess[..., None]
    accepted = (u.log() < (p.gather(-1, at) - q.gather(-1, at))[..., 0]) | (steps < known[:, None])
    reject = torch.where(accepted, guess.shape[1], steps).amin(1)
    here = reject.clamp(max=guess.shape[1] - 1)[:, None]
    own, drafted = (t.gather(1, here[..., None].expand(-1, 1, t.shape[-1]))[:, 0] for t in (p, q))
    rest = (own.exp() - drafted.exp()).clamp(min=0).log()
    rest = torch.where((rest == -torch.inf).all(1, keepdim=True), own, rest)  # p = q, and rejected by rounding
    fixed = inverse_cdf(rest, v.gather(1, here)[:, 0])
    value = torch.where(steps == reject[:, None], fixed[:, None], guess)
    return value, (reject + 1).clamp(max=guess.shape[1])


def _uniform(numbers: RandomNumbers, call: int, use: int, along: Tensor) -> Tensor:
    """(B, D): the numbers of a call, for one of its three uses."""
    item = torch.arange(len(along), device=along.device)[:, None]
    return finely(numbers.child(DRAWS).child(3 * call + use).uniform(item, along), along.device)


def _first(model: CausalModel, along: Tensor, context: Tensor | None) -> Tensor:
    """(B, D, K): log-probabilities of every site when nothing is known."""
    blank = model.digits.blank(len(along), model.shape, along.device)
    sites = Sites(torch.arange(along.numel(), device=along.device), along.shape[1])
    return _in_order(finely(model(blank, context)[sites]).log_softmax(-1).view(*along.shape, -1), along)


def _in_order(logp: Tensor, along: Tensor) -> Tensor:
    """Log-probabilities (B, D, K) of sites, in the order of the steps."""
    return logp.gather(1, along[..., None].expand_as(logp))
