"""Losses of one step: any order, along a plan, absorbing diffusion, causal.

The order-agnostic bound (section 2, equation 2 and Algorithm 2; with stages, Algorithm 4):

    −log p(x)  ≤  E over stage s, step t, order σ of   S · D / (D − t) · Σ_{sites with σ ≥ t} −log p(digit s of the site | rest)

because, given what is known, every hidden site is equally likely to be next.  In orders by rates (`ardm.rates`) it is next with
the probability w_i / Σ_hidden w, which takes the place of 1 / (D − t).

    bound_step      the bound, from one drawn step (`draw`); unbiased for every network
    rates_step      the same in orders by rates, with the gradient for the rates
    plan_step       the exact code length along a given plan, from one of its steps; what a codec pays
    policy_step     the bound of a policy that reveals several sites per step (section 3.1)
    absorbing_step  the bound of absorbing diffusion in T steps (D3PM; section 2 and appendix C)
    causal_step     the likelihood of an autoregressive model, all positions at once

given, in all of them: (1 or B, *shape), the digits of each site that are known beforehand, which are shown and never scored
(a mask: all digits or none); PADDING (−1) where a site is padding, which is neither shown nor scored.  An item then has
n <= D sites to predict, which take the place of D in its weight: the losses are those of −log p(its n sites | given).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.inputs import PADDING, depths, integers, items, number
from ardm.inputs import context as context_of
from ardm.inputs import generator as generator_of
from ardm.model import AnyModel, ScoresAll
from ardm.plan import GIVEN, NEVER, Plan, refuse_misfit
from ardm.precision import finely, uniform
from ardm.rates import clocks, exponential, log_probability, table
from ardm.rates import shares as shares_of


@dataclass(frozen=True)
class Steps:
    """One random step per item: stage (B,), known (B,) = t, rank (B, *shape) = σ.

    stages: S of the models that they were drawn for; 0: unknown.
    """

    stage: Tensor
    known: Tensor
    rank: Tensor
    stages: int = 0

    def to(self, device: torch.device | str) -> Steps:
        """The same steps on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("stage", "known", "rank")})


@dataclass(frozen=True)
class Scored:
    """One scored step per item; nats in float64 (float32 on mps), whatever the network computes in.

    nats: (B,), unbiased estimates of the bound (or code length) in nats, with gradient.
    sums: (B,), −log p summed over the scored symbols.  symbols: (B,), how many were scored.
    hidden: (B,), how many symbols were unknown; sums / symbols is one observation of L_t.
    undefined: (B,), how many of the scored symbols have log-probability NaN, which makes nats and sums NaN.
    """

    nats: Tensor
    sums: Tensor
    symbols: Tensor
    hidden: Tensor
    undefined: Tensor | None = None


def spread(items: int, generator: torch.Generator) -> Tensor:
    """(items,): numbers in [0, 1), evenly spaced from a random offset and shuffled: each uniform, together stratified.

    On the generator's device, in its finest dtype.
    """
    there = generator_of(generator).device
    u = uniform((), generator)
    even = (u + torch.arange(items, dtype=u.dtype, device=there) / items) % 1.0
    return even[torch.randperm(items, generator=generator, device=there)]


def rank_of(key: Tensor) -> Tensor:
    """(B, D): the place of each key (B, D) among those of its item, in ascending order."""
    order = key.argsort(1)
    places = torch.arange(key.shape[1], device=key.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def taken(given: Tensor, stage: Tensor) -> Tensor:
    """(B, D) bool: the sites that are not predicted at the stage (B,) of each item: known beforehand, or padding."""
    digits = given.to(stage.device).flatten(1)
    return (digits > stage[:, None]) | (digits == PADDING)


def draw(
    batch: int,
    stages: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    given: Tensor | None = None,
    place: Tensor | None = None,
    rates: Tensor | None = None,
) -> Steps:
    """Draw a step for each of `batch` items, stratified jointly over stage and step, on the device of the generator.

    given: (batch, *shape), see above; the ranks of what is neither given at the drawn stage nor padding then come first.
    place: (batch,), in [0, 1), where in stages · steps each item falls; default `spread(batch)`.
    rates: (*shape), of orders by rates; None: all orders are equally likely.
    """
    generator_of(generator)
    D = 1
    for n in shape:
        D *= n
    place = (spread(batch, generator) if place is None else place) * stages
    stage = place.long().clamp(max=stages - 1)
    key = uniform((batch, D), generator)
    key = key if rates is None else clocks(table(rates, shape).flatten(), exponential(key))
    free = torch.full((batch,), D, device=key.device)
    if given is not None:
        out = taken(given, stage)
        key, free = key.masked_fill(out, torch.inf), D - out.sum(1)
    known = ((place - stage) * free).long().clamp(max=(free - 1).clamp(min=0))
    return Steps(stage, known, rank_of(key).view(batch, *shape), stages)


def ranks_around(key: Tensor, given: Tensor | None) -> Tensor:
    """(B, D): ranks of keys (B, D) in [0, 1) of causal models, those of given sites first and those of padding last."""
    if given is not None:
        key = key + 2.0 * _roles(given.to(key.device)).flatten(1)
    return rank_of(key)


def observed_at(hidden: Tensor, given: Tensor) -> Tensor:
    """(B,): the step t of a loss curve that items with this many hidden sites (B,) observe; given (B, *shape).

    An item of n sites that are not padding, of which t are known, observes L at t · D / n, rounded down: planning stretches
    curves to other sizes in the same way.  Where nothing is hidden, nothing is observed.
    """
    D = given[0].numel()
    own = (given != PADDING).flatten(1).sum(1)
    return ((own - hidden) * D // own.clamp(min=1)).clamp(max=D - 1)


def bound_step(
    model: AnyModel,
    x: Tensor,
    steps: Steps,
    given: Tensor | None = None,
    context: Tensor | None = None,
    subset: int | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    rates: Tensor | None = None,
) -> Scored:
    """Score one step of the any-order bound.

    x: (B, *shape).  Sites of rank < known have digit `stage`; the others are hidden, and all are scored, by symmetry.
    rates: (*shape), if the steps were drawn in orders by rates: each hidden site is scored by its chance of being next, and
    sums are weighted so that sums / symbols is still one observation of L_t.
    subset: score at most this many hidden sites per item, drawn at random and weighted: unbiased, and cheaper.
    key: (B, *shape), uniform draws that pick the subset; default from the generator.
    Raises ArdmError for steps of other items, or of models with more or fewer digits, and for a subset below 1.
    """
    x = items(x, model, lazy=True)
    S = len(model.digits)
    subset = None if subset is None else number(subset, "subset")
    _refuse_steps(steps, x, S)
    stage, known = (v.view(-1, *[1] * (x.ndim - 1)) for v in (steps.stage, steps.known))
    depth = stage + (steps.rank < known).long()
    mask = steps.rank >= known
    if given is not None:
        given = _given(given, x, model)
        depth = torch.maximum(depth, given).masked_fill(given == PADDING, 0)
        mask = mask & (given != PADDING)
    mask = mask & (depth == stage)
    hidden = mask.flatten(1).sum(1)
    share = None if rates is None else shares_of(table(rates, x.shape[1:]).flatten().to(x.device), mask.flatten(1))
    each = None if share is None else (share * hidden[:, None]).view(x.shape)
    free = hidden + steps.known
    scored = hidden
    if subset is not None:
        if key is None:
            if generator is None:
                raise ArdmError("a random subset of sites needs a generator")
            key = torch.rand(
                mask.shape, generator=generator_of(generator), device=generator.device, dtype=torch.float32
            )
        key = key.to(x.device).masked_fill(~mask, 2.0).flatten(1)
        mask = mask & (rank_of(key) < subset).view_as(mask)
        scored = hidden.clamp(max=subset)
    sums, undefined = _score(model, x, depth, Sites.where(mask), context, each)
    weight = S * finely(free) / scored.clamp(min=1)  # hidden / scored of the subset, S · free / hidden of the step
    return Scored(sums * weight, sums, scored, hidden, undefined)


def rates_step(
    model: AnyModel,
    x: Tensor,
    steps: Steps,
    rates: Tensor,
    given: Tensor | None = None,
    context: Tensor | None = None,
    subset: int | None = None,
    key: Tensor | None = None,
) -> Scored:
    """Score two orders of each item by `bound_step`; the gradient is unbiased for the rates as well as for the network.

    x: (B, *shape).  steps: (2B,), the steps of all items in one order, then the same steps in another one.
    rates: (*shape), by which both orders were drawn.  nats: (B,), the mean of both.  key: (B, *shape), for both.

    With nats n₁ and n₂ of the two orders, and the probability p(σ) of what is known, in its order, the gradient for the
    rates is

        ½ ∇(n₁ + n₂)  +  ½ (n₁ − n₂) ∇(log p(σ₁) − log p(σ₂)):

    the chance of each hidden site to be next, and the score function, where each order is the baseline of the other
    (leave-one-out; the estimator of GenMD4 and of LoMDM).  A network without gradient is left alone.
    """
    x = items(x, model, lazy=True)
    side, keys, begun = (None if v is None else torch.cat([v, v]) for v in (context, key, given))
    found = bound_step(model, torch.cat([x, x]), steps, begun, side, subset, key=keys, rates=rates)
    known, rank = steps.known.to(x.device), steps.rank.to(x.device).flatten(1)
    out = None if begun is None else taken(begun.to(x.device), steps.stage.to(x.device))
    log_p = log_probability(table(rates, x.shape[1:]).flatten().to(x.device), rank, known, out).view(2, -1)
    nats = found.nats.view(2, -1)
    score = (nats[0] - nats[1]).detach() * (log_p[0] - log_p[1]) / 2
    sums, symbols, hidden = (v.view(2, -1).sum(0) for v in (found.sums, found.symbols, found.hidden))
    undefined = None if found.undefined is None else found.undefined.view(2, -1).sum(0)
    return Scored(nats.mean(0) + score - score.detach(), sums, symbols, hidden, undefined)


def _refuse_steps(steps: Steps, x: Tensor, stages: int) -> None:
    """Raise ArdmError for steps of other items or other models; the values are checked on a CPU only."""
    if steps.stages not in (0, stages):
        raise ArdmError(
            f"the steps are drawn for {steps.stages} stage{'s' * (steps.stages > 1)}, and the model has {stages}: "
            "draw(len(x), len(model.digits), …)"
        )
    if steps.rank.shape != x.shape or any(tuple(v.shape) != (len(x),) for v in (steps.stage, steps.known)):
        found = ", ".join(str(tuple(v.shape)) for v in (steps.stage, steps.known, steps.rank))
        raise ArdmError(f"steps need stage ({len(x)},), known ({len(x)},) and rank {tuple(x.shape)}; got {found}")
    if steps.stage.device.type == "cpu" and ((steps.stage < 0) | (steps.stage >= stages)).any():
        raise ArdmError(
            f"stages of the model lie in 0..{stages - 1}; the steps have {int(steps.stage.min())}..{int(steps.stage.max())}"
        )


def _given(given: Tensor, x: Tensor, model: AnyModel | ScoresAll) -> Tensor:
    """(B, *shape): digits known beforehand, or PADDING."""
    return depths(given, x, model.digits, "given", lazy=True, least=PADDING)


def plan_step(
    model: AnyModel, plan: Plan, x: Tensor, step: Tensor, context: Tensor | None = None, given: Tensor | None = None
) -> Scored:
    """Score one step of a given plan an item: step (B,), uniform over 0..len(plan)−1 for an unbiased code length.

    With `given`, uniform over the steps that reveal something of the item (`live_steps`), along `plan` without the rest.
    `hidden` counts the digits that the step reveals, which are all scored.
    Raises ArdmError for a plan of other items or digits, for an adaptive plan, and for steps that it does not have.
    """
    x, step = items(x, model, lazy=True), integers(step, "step")
    refuse_misfit(plan, len(model.digits), x.shape[1:], len(x))
    if not isinstance(plan, Plan):
        raise ArdmError(
            f"only a Plan has steps that can be scored alone; got {type(plan).__name__}: use likelihood.exact"
        )
    if tuple(step.shape) != (len(x),):
        raise ArdmError(f"step must be one step per item, ({len(x)},); got {tuple(step.shape)}")
    if step.device.type == "cpu" and ((step < 0) | (step >= len(plan))).any():
        raise ArdmError(f"the plan has the steps 0..{len(plan) - 1}; got {int(step.min())}..{int(step.max())}")
    step = step.to(x.device)
    when = plan.when.to(x.device).expand(len(x), *plan.when.shape[1:])
    length: Tensor | int = len(plan)
    if given is not None:
        when = without(when, _given(given, x, model))
        length = live_steps(when, len(plan)).sum(1)
    at = step.view(-1, *[1] * (when.ndim - 1))
    depth = (when < at).sum(1)
    mask = (when == at).any(1)
    sums, undefined = _score(model, x, depth, Sites.where(mask), context)
    count = mask.flatten(1).sum(1)
    return Scored(sums * length, sums, count, count, undefined)


def without(when: Tensor, given: Tensor) -> Tensor:
    """(B, S, *shape): the steps of a plan where `given` (B, *shape) digits are known, and nothing of padding is revealed."""
    stage = torch.arange(when.shape[1], device=when.device).view(1, -1, *[1] * (when.ndim - 2))
    kept = when.masked_fill(stage < given[:, None], GIVEN)
    return kept.masked_fill((given == PADDING)[:, None], NEVER)


def live_steps(when: Tensor, steps: int) -> Tensor:
    """(B, steps) bool: the steps that reveal a digit of each item; when (B, S, *shape)."""
    flat = when.flatten(1)
    never = torch.where((flat == GIVEN) | (flat == NEVER), steps, flat)
    return torch.zeros(len(flat), steps + 1, dtype=torch.bool, device=when.device).scatter(1, never, True)[:, :steps]


def policy_step(
    model: AnyModel,
    x: Tensor,
    starts: Tensor,
    group: Tensor,
    rank: Tensor,
    given: Tensor | None = None,
    context: Tensor | None = None,
) -> Scored:
    """Score one group of a policy in one order (section 3.1), all hidden sites instead of the group's own, by symmetry.

    starts: (K,), where groups begin, as stage · D + sites known.  group: (B,), uniform over 0..K−1 for an unbiased bound.
    rank: (B, *shape), a random order.  The weight is K times the chance that a hidden site is in the group.
    """
    x = items(x, model, lazy=True)
    D = x[0].numel()
    ends = torch.cat([starts[1:], starts.new_tensor([len(model.digits) * D])]).to(x.device)
    begin = starts.to(x.device)[group]
    stage, known = begin // D, begin % D
    scored = bound_step(model, x, Steps(stage, known, rank), given, context)
    return replace(scored, nats=scored.sums * (ends[group] - begin) * len(starts) / (D - known))


def absorbing_step(
    model: AnyModel,
    x: Tensor,
    time: Tensor,
    steps: int,
    key: Tensor,
    context: Tensor | None = None,
    subset: int | None = None,
    given: Tensor | None = None,
) -> Scored:
    """Score one step of absorbing diffusion in T = `steps` steps with the linear schedule (D3PM; appendix C).

    x: (B, *shape).  time: (B,), in 1..T, uniform for an unbiased bound.  key: (B, *shape), uniform in [0, 1): a site is
    hidden where key < time / T.  nats = T / time · Σ_hidden −log p, whose mean over time is the bound of the T-step model:
    from time to time − 1 a hidden site is revealed with probability 1 / time.  Each step observes L_{D − hidden}, as in
    `bound_step`.
    subset: score at most this many hidden sites per item, those with the smallest keys, weighted: unbiased, and
    cheaper.
    Raises ArdmError where values have several digits, for which there is no such process.
    """
    if len(model.digits) != 1:
        raise ArdmError("absorbing diffusion hides whole values: use a model with base 0, or another objective")
    x = items(x, model, lazy=True)
    subset = None if subset is None else number(subset, "subset")
    time = finely(time)
    mask = finely(key) < time.view(-1, *[1] * (x.ndim - 1)) / steps
    known = (~mask).long()
    if given is not None:
        given = _given(given, x, model)
        mask = mask & (given == 0)
        known = torch.maximum(known, given).masked_fill(given == PADDING, 0)
    hidden = mask.flatten(1).sum(1)
    scored = hidden
    if subset is not None:
        last = key.masked_fill(~mask, 2.0).flatten(1)
        mask = mask & (rank_of(last) < subset).view_as(mask)
        scored = hidden.clamp(max=subset)
    sums, undefined = _score(model, x, known, Sites.where(mask), context)
    return Scored(sums * (steps / time) * hidden / scored.clamp(min=1), sums, scored, hidden, undefined)


def causal_step(
    model: ScoresAll,
    x: Tensor,
    rank: Tensor | None = None,
    context: Tensor | None = None,
    alone: Tensor | None = None,
    given: Tensor | None = None,
) -> Scored:
    """Score all positions along one order in one pass: exact for that order, unbiased for the bound if it is random.

    Along the order, what is given comes first and padding last, else ArdmError.
    rank: (B, *shape), the step of each site; default that of the model.
    alone: (B,) bool, score these images (C, H, W) as a plane on its own, coded as channel 0, if their channels are equal.
    """
    x = items(x, model, lazy=True)
    nats = model.nats(x, rank, context_of(context, len(x), x.device, lazy=True))
    count = torch.full((len(x),), x[0].numel(), device=x.device)
    if alone is not None:
        plane = alone & (x == x[:, :1]).flatten(1).all(1)
        first = torch.arange(nats.shape[1], device=x.device) < x[0, 0].numel()
        nats = nats.where(first | ~plane[:, None], 0.0)
        count = torch.where(plane, x[0, 0].numel(), count)
    if given is not None:
        role = _roles(_given(given, x, model)).flatten(1)
        _refuse_mixed(role, _along(model, x, rank))
        nats, count = nats.where(role == 1, 0.0), count.minimum((role == 1).sum(1))
    sums = finely(nats).sum(1)
    return Scored(sums, sums, count, count, nats.detach().isnan().sum(1))


def _roles(given: Tensor) -> Tensor:
    """0 where something is given, 1 where a site is predicted, 2 where it is padding."""
    return torch.where(given == PADDING, 2, (given == 0).long())


def _along(model: ScoresAll, x: Tensor, rank: Tensor | None) -> Tensor:
    """(B, D): the step of each site, in raster order for a model that does not say its own order."""
    known = getattr(model, "ranks", None)
    if known is not None:
        return known(x, rank)
    rank = torch.arange(x[0].numel(), device=x.device) if rank is None else rank
    return rank.flatten(1) if rank.ndim > 1 else rank.expand(len(x), -1)


def _refuse_mixed(role: Tensor, rank: Tensor) -> None:
    """Raise ArdmError unless the sites of each role (B, D) follow those of smaller ones along an order; rank (B, D).

    Sites of one step do not see each other.
    """
    beyond = rank.max() + 1
    first = torch.stack([torch.where(role == r, rank, beyond).amin(1) for r in (1, 2)])
    last = torch.stack([torch.where(role < r, rank, -1).amax(1) for r in (1, 2)])
    if (last > first).any():
        raise ArdmError(
            "a causal model scores along one order, in which what is given comes first and padding last; move them there, "
            "or use a model of any order"
        )


def _score(
    model: AnyModel, x: Tensor, depth: Tensor, sites: Sites, context: Tensor | None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(B,): −log p of the next digits at the sites in nats, with gradient; (B,): how many of them are NaN.

    weight: (B, *shape), by which each site counts; None: once.  In float64, where the device has it: summed in float32, a hundred thousand symbols would lose the fourth digit.
    """
    prediction = model(model.digits.truncate(x, depth), context_of(context, len(x), x.device, lazy=True))
    logp = finely(prediction.log_prob(sites, model.digits.read(x, depth, sites)))
    undefined = sites.batch_index.new_zeros(len(x)).index_add(0, sites.batch_index, logp.detach().isnan().long())
    each = logp if weight is None else logp * sites.of(weight)
    return logp.new_zeros(len(x)).index_add(0, sites.batch_index, -each), undefined
