"""Samples that take revealed digits back: Gibbs refinement, and sampling with remasking.  Neither has a likelihood.

Along a plan every digit is revealed once, and the probabilities of these steps multiply to the likelihood of the item.  Here
a digit may be drawn many times.  What counts is the last one, and its probability is a sum over all paths that end in the
same item, which cannot be listed.  These are therefore functions, and no plans: nothing that scores or codes takes them.

`refine` is block Gibbs sampling.  If the conditional distributions of a model agree with one joint distribution, and the
hidden digits are redrawn one per call, then this distribution stays what it is, and any other comes closer to it.  A trained
network agrees only roughly, and several digits per call are drawn as if they were independent: then it is a heuristic, as
remasking is (ReMDM, Wang et al. 2025, 2503.00307).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ardm import inputs, planning
from ardm.api import Array, Order, budget, bundle_of, generate, losses, started
from ardm.bundle import Bundle
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.model import Model, PredictionLike
from ardm.plan import GIVEN, NEVER, Plan
from ardm.precision import finely, finest, home, precise
from ardm.random_numbers import HIDING, RandomNumbers
from ardm.source import Draw
from ardm.walk import last, walk

CONFIDENCE, RANDOM = "confidence", "random"


def refine(
    bundle: Bundle | Model,
    x: Array,
    sweeps: int = 1,
    share: float = 0.1,
    known: Array | None = None,
    calls: int | None = None,
    order: Order | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Hide a random share of x (B, *shape), or of one item, draw it again given the rest, and repeat: block Gibbs sampling.

    sweeps: how often.  share: of the values that are not known beforehand, in (0, 1]; a sweep hides this share of each
    item, at least one value.  known: a mask of values that stay, of the shape of x or of one item.
    calls: per sweep, at most; as many as hidden digits for exact conditional draws.  Other arguments: see `ardm.fill`.
    The result has the shape of x, in int64, on its device, and no likelihood.
    Raises ArdmError for models of a single order, which cannot fill in the middle.
    """
    bundle, sweeps, share = bundle_of(bundle), inputs.number(sweeps, "sweeps"), _share(share)
    _refuse_single(bundle, "refined")
    now = inputs.items(x, bundle.model)
    kept = inputs.depths(torch.zeros_like(now, dtype=torch.bool) if known is None else known, now, bundle.model.digits)
    if known is not None and inputs.tensor(known).dtype not in (torch.bool, torch.uint8):
        raise ArdmError("known must be a mask of bool (or of uint8, 0 and 1): refinement hides whole values")
    spent, chosen = budget(bundle, calls, order, now[0].numel())
    context = inputs.context(context, len(now))
    for sweep in range(sweeps):
        numbers = RandomNumbers(seed).child(sweep)
        start, plan = started(bundle, now, ~_hidden(kept > 0, share, numbers), spent, chosen, numbers)
        drawn = generate(bundle, plan, start, numbers, temperature, context, top_k, top_p)
        now = last(drawn, start).value
    now = now.to(x.device) if isinstance(x, Tensor) else now
    return now[0] if inputs.single(x, bundle.model) else now


def _hidden(kept: Tensor, share: float, numbers: RandomNumbers) -> Tensor:
    """(B, *shape) bool: a random share of the sites of each item that are not kept, at least one if there is one."""
    flat = kept.flatten(1).to(home(kept.device))
    key = numbers.child(HIDING).grid(len(flat), 1, flat.shape[1], flat.device)[:, 0].masked_fill(flat, 2.0)
    count = ((~flat).sum(1) * share).round().long().clamp(min=1)
    chosen = key.argsort(dim=1, stable=True).argsort(1) < count[:, None]
    return (chosen & ~flat).view(kept.shape).to(kept.device)


def sample_remasked(
    bundle: Bundle | Model,
    items: int,
    calls: int | None = None,
    share: float = 0.1,
    by: str = CONFIDENCE,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first: int = 0,
) -> Tensor:
    """Draw new items with remasking: (items, *shape) int64, in the same number of network calls as `ardm.sample`.

    The best plan for `calls` says how many digits are known after each step.  Step k also hides some known digits again,
    and reveals as many more of the hidden ones, so that these numbers stay: of n known digits of the stage at most
    share · n, and no more than are hidden after the step (the schedule "cap" of ReMDM; its σ_t is the fraction hidden again).
    by: "confidence", digits that had a small probability p when they were drawn are hidden rather, with weights exp(−p)
    (ReMDM-conf); or "random", all alike.  Hidden digits are revealed in a random order.
    Other arguments: see `ardm.sample`.  The result has no likelihood.
    """
    bundle, items, share = bundle_of(bundle), inputs.number(items, "items"), _share(share, 0.0)
    if by not in (CONFIDENCE, RANDOM):
        raise ArdmError(f"values are hidden again by {CONFIDENCE} or {RANDOM}; got {by!r}")
    _refuse_single(bundle, "sampled with remasking")
    calls = budget(bundle, calls, "random")[0]
    model, numbers = bundle.model, RandomNumbers(seed, first)
    stages, sites = len(model.digits), math.prod(model.shape)
    state = model.digits.blank(items, model.shape, inputs.device_of(model))
    context = inputs.context(context, items)
    sure = torch.ones(items, sites, device=state.value.device, dtype=finest(state.value.device))
    step = 0
    for stage, starts in enumerate(planning.shares(losses(bundle), sites, calls)((sites,) * stages)):
        hidden = state.value  # of all sites, when their digit of this stage is hidden
        for before, after in pairwise([*starts, sites]):
            own, step = numbers.child(step), step + 1
            again = min(int(share * before), sites - after)
            weight = sure.neg().exp() if by == CONFIDENCE else torch.ones_like(sure)
            hide = _chosen(state.depth > stage, again, weight, own.child(HIDING))
            show = _chosen(state.depth == stage, after - before + again, torch.ones_like(sure), own)
            source = Recorded(Draw(own, temperature, top_k, top_p), sure)
            state = last(walk(model, _one_step(state, show, stages), source, state, context=context), state)
            state = Partial(torch.where(hide, hidden, state.value), state.depth - hide.long())
    return state.value


def _chosen(among: Tensor, count: int, weight: Tensor, numbers: RandomNumbers) -> Tensor:
    """(B, *shape) bool: `count` sites of each item, drawn without replacement in proportion to weight (B, D).

    The smallest of exponential variables with these rates (Efraimidis & Spirakis 2006).
    """
    flat = among.flatten(1).to(home(among.device))
    u = numbers.child(HIDING).grid(len(flat), 1, flat.shape[1], flat.device)[:, 0]
    key = (-torch.log1p(-u) / precise(weight)).masked_fill(~flat, torch.inf)
    rank = key.argsort(dim=1, stable=True).argsort(1)
    return ((rank < count) & flat).view(among.shape).to(among.device)


def _one_step(state: Partial, show: Tensor, stages: int) -> Plan:
    """The plan of a single step that reveals the next digit of the sites of `show`."""
    stage = torch.arange(stages, device=show.device).view(1, -1, *[1] * (show.ndim - 1))
    depth = state.depth[:, None]
    later = torch.where((stage == depth) & show[:, None], 0, NEVER)
    return Plan(torch.where(stage < depth, GIVEN, later))


class Recorded:
    """A source that also notes how likely each digit was when it was drawn, in `sure` (B, D)."""

    def __init__(self, source: Draw, sure: Tensor) -> None:
        self._source, self._sure = source, sure

    def __call__(self, prediction: PredictionLike, sites: Sites, target: Tensor | None) -> Tensor:
        """(N,): the digits of the source."""
        digit = self._source(prediction, sites, target)
        self._sure.view(-1)[sites.index] = finely(prediction.log_prob(sites, digit)).exp()
        return digit


def _share(share: float, least: float | None = None) -> float:
    """A share in (0, 1]; from `least` on, where given."""
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not (0 < share <= 1 or share == least):
        raise ArdmError(f"share must be a number above 0 and at most 1; got {share!r}")
    return float(share)


def _refuse_single(bundle: Bundle, what: str) -> None:
    """Raise ArdmError for a model of a single order."""
    if bundle.config.causal in ("single", "wave"):
        raise ArdmError(f"{bundle.name} has a single order, and cannot be {what}: use a model of any order")
