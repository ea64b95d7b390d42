"""Calibration: how often the most likely value is right, by the share of known sites and by how many are revealed at once.

A parallel step treats its sites as independent.  Its confidence that all n most likely values are right is the product of
theirs; where they depend on each other, that is wrong even if every single site is calibrated, and this is what few network
calls lose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.audit.moments import Moment
from ardm.audit.results import Reliability
from ardm.model import AnyModel
from ardm.precision import finely

SITES, ROOM = 32, 1 << 20
"""Sites that are asked of each moment, and the most logits of a call."""
CHUNK = 32
"""Moments of a network call."""
SHARES = 5
"""Groups of the share of known sites."""
AT_ONCE = (1, 2, 4, 8)
"""Numbers of sites revealed together."""


def calibration(model: AnyModel, at: Moment, generator: torch.Generator) -> tuple[Reliability, ...]:
    """Reliability at the moments, by share of known sites and by number of sites at once."""
    most = max(1, min(SITES, ROOM // model.digits.base // CHUNK))
    at, shares, groups = at.asking(most, generator), list[Tensor](), {n: list[Tensor]() for n in AT_ONCE}
    for part in at.rows(CHUNK):
        item, answers = _answers(model, part)
        shares.append(torch.cat([part.share.cpu()[item, None], answers], 1))
        for n in AT_ONCE:
            groups[n] += [_together(answers[item == i], n, generator) for i in range(len(part.x))]
    return (*_by_share(torch.cat(shares)), *_by_number(groups))


@torch.no_grad()
def _answers(model: AnyModel, at: Moment) -> tuple[Tensor, Tensor]:
    """(N,): the item of each hidden site; (N, 2): the probability of its most likely value, and whether it is right."""
    sites = at.sites()
    p, best = finely(model(at.state(model), at.context)[sites]).softmax(-1).max(-1)
    right = best == model.digits.read(at.x, at.depth, sites)
    return sites.batch_index.cpu(), torch.stack([p, right.to(p.dtype)], 1).cpu().double()


def _together(answers: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """(N // n, 2): products over random groups of n answers (N, 2) of one item."""
    order = torch.randperm(len(answers), generator=generator, device=generator.device).cpu()
    return answers[order[: len(answers) // n * n]].view(-1, n, 2).prod(1)


def _by_share(found: Tensor) -> list[Reliability]:
    """Reliability in equal intervals of the share known; found (N, 3): share, confidence, right."""
    group = (found[:, 0] * SHARES).long().clamp(max=SHARES - 1)
    rows = [(g, found[group == g]) for g in range(SHARES)]
    named = [(f"{100 * g // SHARES}–{100 * (g + 1) // SHARES} % known", r) for g, r in rows if len(r)]
    return [Reliability.of("share known", name, r[:, 1].numpy(), r[:, 2].numpy()) for name, r in named]


def _by_number(groups: dict[int, list[Tensor]]) -> list[Reliability]:
    rows = [(n, torch.cat(parts)) for n, parts in groups.items()]
    return [Reliability.of("at once", f"{n} at once", r[:, 0].numpy(), r[:, 1].numpy()) for n, r in rows if len(r)]
