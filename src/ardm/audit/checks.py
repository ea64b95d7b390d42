"""What would make a likelihood wrong, checked on a model at random moments.

A likelihood is wrong where the prediction for a site depends on something that a decoder does not have: the hidden values
of other sites, or other items of a batch.  A model of this library is given a state without them.  Three doors remain:
`log_prob`, which gets the values of all asked sites and might relate them; the batch, which in `likelihood.exact` holds
later states of the same item; and `nats`, the dense pass of an autoregressive model, which reads the whole item.

The first is a p(x₀ | x_t) with dependences between sites under the loss of masked diffusion: each hidden value is predicted
with the help of others, and the weighted sum of losses is no bound any more (docs/audit.md).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ardm import likelihood
from ardm.audit.claims import TOLERANCE
from ardm.audit.moments import Moment
from ardm.audit.results import Check
from ardm.digits import Sites
from ardm.model import AnyModel, ScoresAll
from ardm.plan import AnyPlan
from ardm.precision import finely

NEAR = 1e-2
"""How far the arithmetic of another batch may carry a log-probability, absolutely and relatively."""
ROWS, SITES = 4, 8
"""Moments that are checked, and sites of each where one site is checked at a time."""
LISTED = 1 << 8
"""Digits up to which all probabilities of a site are summed; of more, this many are compared with the logits."""
ITEMS, VALUES, MANY = 1 << 8, 8, 4
"""The most sub-items that are enumerated; the likely values of each site if there are more; the most sites."""
WHOLE = 1 << 10
"""The most items that are enumerated whole."""


def checks(model: AnyModel, at: Moment, any_order: bool, generator: torch.Generator) -> list[Check]:
    """Check a model at a few of the moments.  any_order: whether any set of sites may be known."""
    at = _spread(at)
    few = at.asking(SITES, generator)
    found = [_normalised(model, few), _repeatable(model, few), _hidden(model, at), _alone(model, few)]
    return [*found, *_sub_items(model, at, any_order), _dense(model, at)]


def _spread(at: Moment) -> Moment:
    """A few moments, from the one with most hidden sites to one with few."""
    hidden = at.hidden.flatten(1).sum(1)
    return at.of(
        hidden.argsort(descending=True, stable=True)[torch.arange(ROWS, device=hidden.device) * len(hidden) // ROWS]
    )


def whole(model: AnyModel, plan: AnyPlan, items: Tensor) -> Check:
    """Sum the probabilities of all items (N, *shape) along one plan."""
    total = float((-likelihood.exact(model, plan, items).nats).exp().sum())
    said = f"Σ p(x) = {total:.4f} over all {len(items)} items along the plan"
    return Check("all items sum to 1", abs(total - 1) <= TOLERANCE, said)


def _scored(model: AnyModel, at: Moment, digit: Tensor | None = None) -> Tensor:
    """(N,): −log p of the next digits at the moment's hidden sites, those of the data or others (N,); float64."""
    sites = at.sites()
    digit = model.digits.read(at.x, at.depth, sites) if digit is None else digit
    with torch.no_grad():
        return -finely(model(at.state(model), at.context).log_prob(sites, digit))


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference of nats that rounding does not explain; 0 if there is none."""
    far = torch.where(a == b, 0.0, (a - b).abs())  # +∞ equals itself
    far = torch.where(far > NEAR * (1 + torch.minimum(a.abs(), b.abs())), far, 0.0)
    return float(far.max()) if far.numel() else 0.0


@torch.no_grad()
def _normalised(model: AnyModel, at: Moment) -> Check:
    """The probabilities that are scored sum to 1 at each site, and are those that are drawn and coded."""
    sites, prediction = at.sites(), model(at.state(model), at.context)
    p = finely(prediction[sites]).softmax(-1)
    b = p.shape[1]
    listed = (torch.arange(min(b, LISTED), device=p.device) * b).div(min(b, LISTED), rounding_mode="floor")
    asked = Sites(sites.index.repeat_interleave(len(listed)), sites.sites)
    scored = finely(prediction.log_prob(asked, listed.repeat(len(sites)))).exp().view(len(sites), -1)
    drawn = p[:, listed]
    scored = torch.where(drawn > 0, scored, 0.0)
    total = scored.sum(1) if b <= LISTED else torch.ones_like(scored[:, 0])
    name, worst = "probabilities at a site sum to 1", float(total[(total - 1).abs().argmax()])
    if not abs(worst - 1) <= TOLERANCE:
        return Check(name, False, f"at one of {len(sites)} sites, log_prob sums to {worst:.4f} over the {b} values")
    far = float((scored - drawn).abs().max())
    if not far <= TOLERANCE:
        return Check(name, False, f"log_prob differs from the logits, which are drawn and coded, by {far:.4f}")
    return Check(name, True, f"within {max(abs(worst - 1), far):.0e} at {len(sites)} sites")


def _repeatable(model: AnyModel, at: Moment) -> Check:
    """The same state has the same prediction twice."""
    far = _apart(_scored(model, at), _scored(model, at))
    said = f"the same state is scored {far:.4f} nats apart: a decoder cannot follow; dropout? call model.eval()"
    return Check("a state has one prediction", not far, said if far else "equal in two calls")


def _hidden(model: AnyModel, at: Moment) -> Check:
    """The score of a site does not change with the values of the other sites that are scored with it."""
    name, sites = "hidden values do not matter", at.sites()
    if not (at.hidden.flatten(1).sum(1) > 1).any():
        return Check(name, None, "every step reveals one site")
    before, digit = _scored(model, at), model.digits.read(at.x, at.depth, sites)
    other, far = _other(model, at, digit), 0.0
    turn = torch.arange(len(sites), device=digit.device) % 2 == 0
    for kept in (turn, ~turn):
        after = _scored(model, at, torch.where(kept, digit, other))
        far = max(far, _apart(before[kept], after[kept]))
    if far:
        said = f"the score of a site moves by {far:.4f} nats when only hidden values of other sites change"
        return Check(name, False, f"{said}: sums of such scores are neither a likelihood nor a bound")
    return Check(name, True, f"scores of {len(sites)} sites are the same whatever the others hold")


@torch.no_grad()
def _other(model: AnyModel, at: Moment, digit: Tensor) -> Tensor:
    """(N,): another possible digit of each site: the least likely one, or a neighbour if there are very many.

    The same digit where no other is possible.
    """
    b = model.digits.base
    if b > LISTED:
        return torch.where(digit ^ 1 < b, digit ^ 1, digit - 1)
    logits = model(at.state(model), at.context)[at.sites()]
    others = logits.masked_fill(~logits.isfinite(), torch.inf).scatter(1, digit[:, None], torch.inf)
    return torch.where(others.isinf().all(-1), digit, others.argmin(-1))


def _alone(model: AnyModel, at: Moment) -> Check:
    """A state is scored alike alone and beside the complete items, as `likelihood.exact` has them in one batch."""
    complete = torch.full_like(at.depth, len(model.digits))
    context = None if at.context is None else torch.cat([at.context, at.context])
    both = [torch.cat(v) for v in ((at.x, at.x), (at.depth, complete), (at.hidden, torch.zeros_like(at.hidden)))]
    beside = Moment(both[0], both[1], both[2], at.share.repeat(2), context)
    alone = torch.cat([_scored(model, row) for row in at.rows(1)])
    far = _apart(alone, _scored(model, beside))
    said = (
        f"a score moves by {far:.4f} nats when the complete item stands in the same batch: batch statistics leak values"
    )
    return Check("items do not see each other", not far, said if far else "alone as in a batch with complete items")


# --- sub-items, enumerated ------------------------------------------------------------------------------------------


def _sub_items(model: AnyModel, at: Moment, any_order: bool) -> list[Check]:
    """Kraft's inequality over all values of a few sites, given what is known: asked together, and as any-order bound."""
    found = [_sums(model, row, any_order) for row in at.rows(1) if row.hidden.any()]
    together = max(found, key=lambda one: abs(one[1] - 1) if one[0] else one[1] - 1)
    full, total, _, about = together
    passed = total <= 1 + TOLERANCE and (not full or total >= 1 - TOLERANCE)
    checks = [Check("values revealed together sum to 1", passed, f"Σ p = {total:.4f} {about}")]
    if any_order:
        _, _, total, about = max(found, key=lambda one: one[2])
        said = f"Σ exp(−bound) = {total:.4f} {about}"
        beyond = f": more than 1, so that the bound falls {math.log2(max(total, 1)):.3f} bits below an entropy"
        passed = total <= 1 + TOLERANCE
        checks.append(Check("the any-order bound is a bound", passed, said if passed else said + beyond))
    return checks


@torch.no_grad()
def _sums(model: AnyModel, at: Moment, any_order: bool) -> tuple[bool, float, float, str]:
    """Whether all values are listed; Σ p of values asked together; Σ exp(−any-order bound); what was summed."""
    digits, full = _choices(model, at)
    m = digits.shape[1]
    together = _lengths(model, at, digits, ())
    bound = together / m
    if any_order:
        for t in range(1, m):
            share = 1 / ((m - t) * math.comb(m, t))  # t is uniform, as are the sets of t; weight m / (m − t)
            bound = bound + share * sum(_lengths(model, at, digits, k) for k in itertools.combinations(range(m), t))
    about = f"over {'all' if full else 'the most likely'} {len(digits)} values of {m} site{'s' * (m > 1)}"
    return full, float((-together).exp().sum()), float((-bound).exp().sum()), about


def _choices(model: AnyModel, at: Moment) -> tuple[Tensor, bool]:
    """(N, m): values of the first m hidden sites of one item; whether they are all that are possible."""
    sites = Sites(at.sites().index[:MANY], at.hidden[0].numel())
    logits = model(at.state(model), at.context)[sites]
    possible = logits.isfinite()
    most = max(2, int(possible.sum(1).max()))
    m = min(len(sites), int(math.log(ITEMS) / math.log(most) + 1e-9))
    full = m > 1 or (m == len(sites) == 1)
    m = m if full else min(2, len(sites))
    lists = [
        row.nonzero()[:, 0] if full else scores.topk(min(VALUES, int(row.sum()))).indices
        for row, scores in zip(possible[:m], logits[:m], strict=True)
    ]
    return torch.cartesian_prod(*lists).view(-1, m), full


def _lengths(model: AnyModel, at: Moment, digits: Tensor, known: tuple[int, ...]) -> Tensor:
    """(N,): nats of the other columns of digits (N, m), asked together once the columns `known` are revealed."""
    N, m = digits.shape
    state, D = model.digits.truncate(*(v.expand(N, *v.shape[1:]) for v in (at.x, at.depth))), at.hidden[0].numel()
    context = None if at.context is None else at.context.expand(N, *at.context.shape[1:])
    first = torch.arange(N, device=digits.device)[:, None] * D + at.sites().index[:m]
    rest = [j for j in range(m) if j not in known]
    if known:
        state = model.digits.write(state, Sites(first[:, known].flatten(), D), digits[:, known].flatten())
    logp = model(state, context).log_prob(Sites(first[:, rest].flatten(), D), digits[:, rest].flatten())
    return (
        -finely(logp).view(N, -1).sum(1).nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    )  # after an impossible value nothing is defined


# --- the dense pass of autoregressive models ------------------------------------------------------------------------


@torch.no_grad()
def _dense(model: AnyModel, at: Moment) -> Check:
    """One pass over an item scores as the walk does, and does not look ahead."""
    name = "one pass does not look ahead"
    if not isinstance(model, ScoresAll):
        return Check(name, None, "the model has no dense pass")
    x, shape = at.x, at.x.shape[1:]
    steps = getattr(model, "steps", None)
    rank = (
        (steps(shape) if steps else torch.arange(shape.numel(), device="cpu")).to(x.device).view(1, *shape).expand_as(x)
    )
    turn = (torch.arange(len(x), device=x.device) + 0.5) / len(x) * (rank.amax() + 1)
    step = turn.long().view(-1, *[1] * (x.ndim - 1))
    later = torch.where(rank > step, (x + 1) % model.digits.classes, x)
    dense, changed = (finely(model.nats(v, None, at.context)).view(x.shape) for v in (x, later))
    far = _apart(dense[rank <= step], changed[rank <= step])
    if far:
        said = f"the score of a site moves by {far:.4f} nats when only values that come later change"
        return Check(name, False, said)
    walked = Moment(x, (rank < step).long(), rank == step, at.share, at.context)
    far = _apart(dense[rank == step], _scored(model, walked))
    said = f"one pass and the walk differ by {far:.4f} nats at a site"
    return Check(name, not far, said if far else "equal to the walk, and to itself with other values behind")
