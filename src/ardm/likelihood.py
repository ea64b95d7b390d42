"""Bounds and exact likelihoods, each with its standard error.

    bound            E over stage, step and order of one scored step; on average at least −log p(x)  (section 2, eq. 2);
                     also for orders by rates, `ardm.rates`
    policy_bound     the same for a policy that reveals several sites per step, in random orders       (section 3.1)
    exact            −log p(x | plan), by the chain rule along one plan: what a codec pays
    mixture          −log of the mean over plans of p(x | plan): at most the mean of their code lengths
    absorbing_bound  the bound of absorbing diffusion in T steps, for the same network               (appendix C)
    causal, causal_bound  exact and on average over random orders, for autoregressive models: one pass per item
    curve            the losses L_t that a planner needs

Only results named exact are exact.  Nats are per item, bits per dimension that is predicted: what is given and padding cost
nothing and do not count.  `given` in all of these is that of `objective`: digits known beforehand, PADDING (−1) where a site
is padding.  The likelihood is then that of the rest, given what is known and which sites are padding.  The data are known,
so the states of all steps are cut from x and evaluated in batches, without a walk.  The model is used as it is: call
`model.eval()` first if it has dropout, or counts of contexts, which leave out a text that they are trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.estimate import Estimate as Estimate
from ardm.faults import Faults
from ardm.inputs import PADDING, columns, depths, integers, items, number
from ardm.inputs import context as context_of
from ardm.inputs import generator as generator_of
from ardm.losscurve import LossCurve
from ardm.model import AnyModel, ScoresAll
from ardm.objective import (
    Scored,
    Steps,
    absorbing_step,
    bound_step,
    causal_step,
    draw,
    live_steps,
    observed_at,
    policy_step,
    rank_of,
    ranks_around,
    spread,
)
from ardm.plan import GIVEN, NEVER, AnyPlan, Plan, refuse_misfit
from ardm.precision import finely, home, keep_freed_memory, precise, uniform
from ardm.source import Score
from ardm.walk import last, walk

Rows: TypeAlias = Callable[[slice, Tensor, "Tensor | None", "Tensor | None"], tuple[Scored, "Tensor | int"]]
"""Score one step of each row (item × pass) of a slice, given their x, given and context; also return the steps (n,)."""


# --- bounds: one random step per pass ---------------------------------------------------------------------------------


def bound(
    model: AnyModel,
    x: Tensor,
    passes: int,
    generator: torch.Generator,
    given: Tensor | None = None,
    context: Tensor | None = None,
    chunk: int = 64,
    rates: Tensor | None = None,
) -> Estimate:
    """The any-order bound on −log p(x) from `passes` random steps per item (section 2, equation 2).

    x: (B, *shape).  given: (1 or B, *shape): the bound is then on −log p(rest | given).
    generator: on any device.  context: (B, …), whatever the model takes.  chunk: network inputs per call.
    rates: (*shape), of orders by rates, such as `model.rates`; None: all orders are equally likely.
    The steps of all items and passes are stratified together.  Raises ArdmError for values outside 0..K−1.
    """
    x, context = _taken(model, x, context, chunk, passes)
    given = _given(model, x, given)
    place = spread(len(x) * passes, generator)

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, Tensor]:
        steps, scored = _observed(model, data, place[rows], generator, known, context, rates=rates)
        return scored, _number(steps, data)

    name = "any-order bound" if rates is None else "bound of orders by rates"
    return _estimate(_each(nats, x, passes, given, context, chunk), x, name, given, model)


def policy_bound(
    model: AnyModel,
    x: Tensor,
    starts: Sequence[int],
    passes: int,
    generator: torch.Generator,
    given: Tensor | None = None,
    context: Tensor | None = None,
    chunk: int = 64,
) -> Estimate:
    """The bound of a parallel policy in random orders: E over orders of `exact` along `shuffled(…).coarsen(starts)`.

    Each pass draws one group and scores all hidden sites instead of the group's own: each is equally likely to be in it,
    so the mean is the same, with less noise (section 3.1).  starts: where groups begin, as stage · D + sites known;
    increasing, with one at the start of each stage.  Other arguments and errors: see `bound`.
    """
    x, context = _taken(model, x, context, chunk, passes)
    given = _given(model, x, given)
    D, total = math.prod(x.shape[1:]), len(x) * passes
    first = _groups(starts, len(model.digits), D).to(x.device)
    group = (spread(total, generator) * len(first)).long().clamp(max=len(first) - 1).to(x.device)

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, Tensor]:
        key = uniform((len(data), D), generator)
        rank = rank_of(key).view(data.shape).to(x.device)
        return policy_step(model, data, first, group[rows], rank, known, context), first[group[rows]]

    name = f"any-order bound of a policy of {len(first)} call{'s' * (len(first) > 1)}"
    return _estimate(_each(nats, x, passes, given, context, chunk), x, name, given, model)


def absorbing_bound(
    model: AnyModel,
    x: Tensor,
    steps: int,
    passes: int,
    generator: torch.Generator,
    context: Tensor | None = None,
    chunk: int = 64,
    given: Tensor | None = None,
) -> Estimate:
    """The bound on −log p(x) of absorbing diffusion in T = `steps` steps: D3PM with the linear schedule (appendix C).

    Its mean is `schedule.absorbing_cost` of the model's loss curve.  It falls with T, to the any-order bound.  Other
    arguments: see `bound`.  Raises ArdmError where values have several digits.
    """
    x, context = _taken(model, x, context, chunk, passes)
    given = _given(model, x, given)
    total, steps = len(x) * passes, number(steps, "the number of steps")
    time = (spread(total, generator) * steps).long().clamp(max=steps - 1) + 1

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, Tensor]:
        key, at = finely(uniform(data.shape, generator), x.device), time[rows].to(x.device)
        return absorbing_step(model, data, at, steps, key, context, given=known), steps - at

    name = f"bound of absorbing diffusion in {steps} step{'s' * (steps > 1)}"
    return _estimate(_each(nats, x, passes, given, context, chunk), x, name, given, model)


def causal_bound(
    model: ScoresAll,
    x: Tensor,
    passes: int,
    generator: torch.Generator,
    context: Tensor | None = None,
    chunk: int = 64,
    given: Tensor | None = None,
) -> Estimate:
    """The any-order bound on −log p(x) of an order-agnostic causal model, from `passes` random orders per item.

    What is given comes first in each order, and padding last.
    """
    x, context = _taken(model, x, context, chunk, passes)
    given = _given(model, x, given)
    D = math.prod(x.shape[1:])
    generator_of(generator)

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, int]:
        rank = ranks_around(uniform((len(data), D), generator), known).to(x.device)
        return causal_step(model, data, rank, context, given=known), -1

    return _estimate(_each(nats, x, passes, given, context, chunk), x, "any-order bound", given, model)


def curve(
    model: AnyModel,
    x: Tensor,
    passes: int,
    generator: torch.Generator,
    context: Tensor | None = None,
    chunk: int = 64,
    grid: int = 0,
    subset: int | None = None,
    given: Tensor | None = None,
    rates: Tensor | None = None,
) -> LossCurve:
    """Measure the loss curve L_t of every stage on x (B, *shape), from `passes` random steps per item.

    An observation is the mean −log p of the sites hidden at a step.  Fit a policy on one curve, and report it on another.
    grid: score `grid` steps of every stage, the same for all items, in one random order an item and pass, instead of one
    random step: S · grid network inputs per item and pass.  Then a costly item (a loud clip) raises the whole curve
    instead of the steps at which it happened to be drawn, which would mislead a planner.
    subset: score at most this many hidden sites, drawn at random: cheaper for networks that work at single sites.
    given: see `bound`; without a grid.  An item of n < D sites that are not padding observes L_t at t · D / n, rounded down.
    rates: see `bound`.
    """
    if grid and given is not None:
        raise ArdmError("a curve of items that are partly given, or padded, takes random steps: leave grid at 0")
    if grid < 0:
        raise ArdmError(f"grid is the number of steps of each stage, or 0 for random steps; got {grid}")
    x, context = _taken(model, x, context, chunk, passes)
    subset, given = None if subset is None else number(subset, "subset"), _given(model, x, given)
    D, S = math.prod(x.shape[1:]), len(model.digits)
    measured = LossCurve(S, D)
    place = spread(len(x) * passes, generator) if not grid else None

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, Tensor]:
        if place is not None:
            steps, scored = _observed(model, data, place[rows], generator, known, context, subset, rates)
            measured.update(*_seen(steps, scored, data, known))
            return scored, _number(steps, data)
        rank = draw(len(data), S, tuple(x.shape[1:]), generator, rates=rates).rank.to(x.device)
        for stage in range(S):
            for step in _grid(D, grid):
                at, known_sites = (torch.full((len(data),), n, device=x.device) for n in (stage, step))
                steps = Steps(at, known_sites, rank)
                scored = bound_step(model, data, steps, None, context, subset, generator, rates=rates)
                measured.update(*_seen(steps, scored, data))
        return scored, _number(steps, data)

    _each(nats, x, passes, given, context, chunk)
    return measured


def _number(steps: Steps, x: Tensor) -> Tensor:
    """(n,): the numbers of the steps in a walk of one site per step."""
    return steps.stage * x[0].numel() + steps.known


def _seen(steps: Steps, scored: Scored, x: Tensor, given: Tensor | None = None) -> list[NDArray[Any]]:
    """Observations for a loss curve; raises ArdmError where the model gave no distribution."""
    known = steps.known if given is None else observed_at(scored.hidden, given)
    seen = [v.cpu().numpy() for v in (steps.stage, known, scored.sums, scored.symbols)]
    if np.isnan(seen[2]).any() and scored.undefined is not None:
        faults = Faults()
        faults.see(scored.undefined, scored.symbols, _number(steps, x))
        faults.refuse()
    return seen


def _grid(D: int, grid: int) -> list[int]:
    """At most `grid` of the steps 0..D−1, with the first and the last: half evenly spaced, half geometrically.

    A curve falls fastest at its start, where small budgets spend all their calls.
    """
    even, ratio = (grid + 1) // 2, grid // 2
    steps = {round((D - 1) * k / max(even - 1, 1)) for k in range(even)}
    return sorted(steps | {round(D ** (k / max(ratio, 1))) - 1 for k in range(1, ratio + 1)})


def _observed(
    model: AnyModel,
    x: Tensor,
    place: Tensor,
    generator: torch.Generator,
    given: Tensor | None,
    context: Tensor | None,
    subset: int | None = None,
    rates: Tensor | None = None,
) -> tuple[Steps, Scored]:
    """One random step of each item, and its score."""
    steps = draw(len(x), len(model.digits), tuple(x.shape[1:]), generator, given, place, rates)
    steps = steps.to(x.device)
    return steps, bound_step(model, x, steps, given, context, subset, generator, rates=rates)


@torch.no_grad()
def _each(nats: Rows, x: Tensor, passes: int, given: Tensor | None, context: Tensor | None, chunk: int) -> Tensor:
    """(passes, B): nats of every item in every pass, in chunks of at most `chunk`; float64.

    Raises ArdmError where the model gave no distribution for an item without impossible symbols.
    """
    keep_freed_memory(x.device)
    B, faults = len(x), Faults()
    out = torch.empty(passes * B, dtype=torch.double, device=home(x.device))
    known = None if given is None else given.to(x.device).expand_as(x)
    for a in range(0, len(out), chunk):
        rows = slice(a, min(a + chunk, len(out)))
        item = torch.arange(rows.start, rows.stop, device=x.device) % B
        scored, step = nats(rows, x[item], *(None if v is None else v[item] for v in (known, context)))
        out[rows] = precise(scored.nats)
        if scored.undefined is not None:
            faults.see(scored.undefined, scored.symbols, step, item)
    return _settled(out.view(passes, B), faults)


def _settled(nats: Tensor, faults: Faults) -> Tensor:
    """nats (passes, B), with NaN replaced by +∞ in items that cost +∞ elsewhere; ArdmError for NaN in other items.

    After an impossible value, which costs +∞, further digits need no distribution.
    """
    impossible = (nats == torch.inf).any(0)
    faults.refuse(impossible)
    return nats.masked_fill(nats.isnan() & impossible, torch.inf)


def _estimate(nats: Tensor, x: Tensor, name: str, given: Tensor | None, model: AnyModel | ScoresAll) -> Estimate:
    """Mean and standard error over passes (passes, B) of a stochastic bound."""
    passes, mean = len(nats), nats.mean(0)
    error = nats.std(0) / math.sqrt(passes) if passes > 1 else torch.full_like(nats[0], torch.nan)
    error = error.masked_fill(mean == torch.inf, torch.inf)
    counted = _counted(model, x, given)
    return Estimate(mean, error, name, math.prod(x.shape[1:]), passes, is_bound=True, counted=counted)


def _counted(model: AnyModel | ScoresAll, x: Tensor, given: Tensor | None) -> Tensor | None:
    """(B,): how many sites of each item have a digit to be predicted, the first end included; None: all."""
    if given is None:
        return _number_of(model, x)
    return _number_of(model, x, (given != PADDING) & (given < len(model.digits)), given == PADDING)


def _number_of(
    model: AnyModel | ScoresAll, x: Tensor, live: Tensor | None = None, padding: Tensor | None = None
) -> Tensor | None:
    """(B,): how many sites of each item have a digit to be predicted; None: all.

    live, padding: (1 or B, *shape) bool, the sites that have one, and those whose values are nobody's concern; None: all,
    and none.
    """
    if (within := getattr(model, "within", None)) is not None:
        inside = within(x if padding is None else x.masked_fill(padding, 0))  # no end, which is the last class
        live = inside if live is None else live & inside
    return None if live is None else live.expand_as(x).flatten(1).sum(1)


def _given(model: AnyModel | ScoresAll, x: Tensor, given: Tensor | None) -> Tensor | None:
    """Digits known beforehand, or PADDING; raises ArdmError for values that a column does not have."""
    if given is None:
        return None
    known = depths(given, x, model.digits, "given", least=PADDING)
    columns(x, known > 0, model)
    return known


def _groups(starts: Sequence[int], stages: int, D: int) -> Tensor:
    first = torch.tensor([number(s, "starts", 0) for s in starts], dtype=torch.long, device="cpu")
    stage_starts = set(range(0, stages * D, D))
    if not stage_starts <= set(first.tolist()) or (first.diff() <= 0).any() or first[0] != 0 or first[-1] >= stages * D:
        raise ArdmError(
            f"starts must increase from 0, below {stages * D}, and hold the first step of each of {stages} stages "
            f"(a multiple of {D}); got {list(starts)[:8]}{'…' * (len(starts) > 8)}"
        )
    return first


def _taken(
    model: AnyModel | ScoresAll, x: Tensor, context: Tensor | None, chunk: int, passes: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Items and context as the model takes them; raises ArdmError for anything else."""
    number(passes, "passes")
    number(chunk, "chunk")
    x = items(x, model)
    return x, context_of(context, len(x), x.device)


# --- exact: along a plan ----------------------------------------------------------------------------------------------


def exact(
    model: AnyModel,
    plan: AnyPlan,
    x: Tensor,
    start: Partial | None = None,
    context: Tensor | None = None,
    chunk: int = 64,
) -> Estimate:
    """−log p(x | plan) of the digits that the plan reveals, given the rest: like `walk.score`, in batches.

    x: (B, *shape).  plan: shared, or one per item; an adaptive plan is walked step by step, for x decides its next step.
    start: what is known beforehand, x cut to a depth, for a plan made by `plan.given(depth)`; default what the plan takes
    as given.  Sites that the plan never reveals are padding.  context: (B, …), whatever the model takes.  chunk: network
    inputs per call.
    Raises ArdmError where the start is not a part of x, or the plan does not begin where it ends.
    """
    x, context = _taken(model, x, context, chunk)
    B, D = len(x), math.prod(x.shape[1:])
    zeros = torch.zeros(B, dtype=torch.double, device=home(x.device))
    start = None if start is None else start.to(x.device)
    if not isinstance(plan, Plan):
        if start is not None:
            _refuse_part(start, model, x)
            columns(x, start.depth > 0, model)
        ledger, begin = Score(B, x.device), start or model.digits.blank(B, x.shape[1:], x.device)
        end = last(walk(model, plan, ledger, begin, truth=x, context=context), begin)
        counted = _number_of(model, x, end.depth > begin.depth, end.depth == 0)
        return Estimate(ledger.nats, zeros, "exact, walked along an adaptive plan", D, counted=counted)
    when = _fitting(plan, model, x)
    begun = (when == GIVEN).sum(1).expand_as(x) if start is None else start.depth
    if start is not None:
        _refuse_start(start, when, model, x)
    columns(x, begun > 0, model)
    live = ((when != GIVEN) & (when != NEVER)).any(1)
    counted = _number_of(model, x, live, ~live & (begun == 0))
    nats = _teacher_forced(model, when, len(plan), x, begun, context, chunk)
    return Estimate(nats, zeros, "exact", D, counted=counted)


def causal(
    model: ScoresAll,
    x: Tensor,
    rank: Tensor | None = None,
    context: Tensor | None = None,
    chunk: int = 64,
    given: Tensor | None = None,
) -> Estimate:
    """−log p(x) of an autoregressive model along one order, exact: one pass per item, `chunk` items a call.

    x: (B, *shape).  rank: (D,) or (B, *shape), the step of each site; default raster.  Along it, what is given comes first
    and padding last, else ArdmError.
    """
    x, context = _taken(model, x, context, chunk)
    given = _given(model, x, given)
    rank = None if rank is None else integers(rank, "rank")

    def nats(rows: slice, data: Tensor, known: Tensor | None, context: Tensor | None) -> tuple[Scored, int]:
        along = rank if rank is None or rank.ndim == 1 else rank[rows]
        return causal_step(model, data, along, context, given=known), -1

    total = _each(nats, x, 1, given, context, chunk)[0]
    counted = _counted(model, x, given)
    return Estimate(total, torch.zeros_like(total), "exact", math.prod(x.shape[1:]), counted=counted)


def mixture(
    model: AnyModel, plans: Iterable[AnyPlan], x: Tensor, context: Tensor | None = None, chunk: int = 64
) -> Estimate:
    """−log of the mean over plans of p(x | plan): for random plans a bound on −log p(x), tighter than their mean.

    Given the plans nothing is random, so the error is 0.  Raises ArdmError for plans that reveal different digits, whose
    probabilities are of different things.
    """
    if isinstance(plans, Tensor) or not isinstance(plans, Iterable):
        raise ArdmError(f"a mixture takes a list of plans; got {type(plans).__name__}: use exact for one plan")
    plans = list(plans)
    if not plans:
        raise ArdmError("a mixture needs at least one plan")
    x = items(x, model)
    found = [exact(model, plan, x, context=context, chunk=chunk) for plan in plans]
    fixed = _fixed(plans[0], x, model)
    if any(not torch.equal(_fixed(plan, x, model), fixed) for plan in plans[1:]):
        raise ArdmError("the plans of a mixture must reveal the same digits: give or leave out the same of each")
    nats, counted = torch.stack([one.nats for one in found]), found[0].counted
    mixed = math.log(len(plans)) - torch.logsumexp(-nats, 0)
    name = f"bound by a mixture of {len(plans)} plan{'s' * (len(plans) > 1)}"
    return Estimate(mixed, torch.zeros_like(mixed), name, math.prod(x.shape[1:]), is_bound=True, counted=counted)


def _fixed(plan: AnyPlan, x: Tensor, model: AnyModel) -> Tensor:
    """(B, S, *shape): GIVEN or NEVER where a plan does not reveal a digit, else 0."""
    if isinstance(plan, Plan):
        when = plan.when.to(x.device)
        fixed = torch.where((when == GIVEN) | (when == NEVER), when, 0)
    else:
        never = getattr(plan, "never", None)
        fixed = NEVER * (torch.zeros_like(x[:1]) if never is None else never.to(x.device).long())[:, None]
    return fixed.expand(len(x), len(model.digits), *x.shape[1:])


@torch.no_grad()
def _teacher_forced(
    model: AnyModel, when: Tensor, length: int, x: Tensor, begun: Tensor, context: Tensor | None, chunk: int
) -> Tensor:
    """(B,): −log p of every digit revealed, given x cut to what is known before its step; float64.  length: of the plan."""
    nats, faults = torch.zeros(len(x), dtype=torch.double, device=home(x.device)), Faults()
    rows = live_steps(when, length).expand(len(x), -1).nonzero()
    for a in range(0, len(rows), chunk):
        items, steps = rows[a : a + chunk].unbind(1)
        at = steps.view(-1, *[1] * (when.ndim - 1))
        here = when[items] if len(when) > 1 else when
        depth = begun[items] + ((here >= 0) & (here < at)).sum(1)
        sites, data = Sites.where((here == at).any(1)), x[items]
        prediction = model(model.digits.truncate(data, depth), None if context is None else context[items])
        logp = prediction.log_prob(sites, model.digits.read(data, depth, sites))
        bad = logp.isnan()
        nats = nats.index_add(0, items[sites.batch_index].to(nats.device), -precise(logp.masked_fill(bad, 0.0)))
        none = steps.new_zeros(len(steps))
        lacking = none.index_add(0, sites.batch_index, bad.long())
        faults.see(lacking, none.index_add(0, sites.batch_index, torch.ones_like(sites.batch_index)), steps, items)
    return _settled(nats[None], faults)[0]


def _fitting(plan: Plan, model: AnyModel, x: Tensor) -> Tensor:
    refuse_misfit(plan, len(model.digits), x.shape[1:], len(x))
    return plan.when.to(x.device)


def _refuse_part(start: Partial, model: AnyModel, x: Tensor) -> None:
    if start.depth.shape != x.shape or not torch.equal(model.digits.truncate(x, start.depth).value, start.value):
        raise ArdmError("start must be x with some digits forgotten: digits.truncate(x, depth)")


def _refuse_start(start: Partial, when: Tensor, model: AnyModel, x: Tensor) -> None:
    _refuse_part(start, model, x)
    live = ((when != GIVEN) & (when != NEVER)).any(1)
    if (live & (start.depth != (when == GIVEN).sum(1))).any():
        raise ArdmError("the plan does not begin where the start ends; use plan.given(start.depth)")
