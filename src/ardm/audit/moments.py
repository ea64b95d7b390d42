"""Moments of generation: items cut at random steps, and the sites that may come next.

For a model of any order a moment is a random stage and number of known sites, and every hidden site may come next.  For a
model of one plan it is a random step of the plan, and only the sites of that step are asked about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.model import AnyModel
from ardm.plan import Plan
from ardm.precision import finest


@dataclass(frozen=True)
class Moment:
    """x (B, *shape), known to depth (B, *shape); hidden (B, *shape) bool, the sites that may be next.

    share: (B,), how much of the stage is known.  context: (B, …) or None.
    """

    x: Tensor
    depth: Tensor
    hidden: Tensor
    share: Tensor
    context: Tensor | None

    def state(self, model: AnyModel) -> Partial:
        """The state that the model is given."""
        return model.digits.truncate(self.x, self.depth)

    def sites(self) -> Sites:
        """The hidden sites."""
        return Sites.where(self.hidden)

    def asking(self, most: int, generator: torch.Generator) -> Moment:
        """The same moment with at most `most` of its hidden sites of each item, at random."""
        key = torch.rand(self.hidden.flatten(1).shape, generator=generator, dtype=torch.double, device=generator.device)
        key = key.to(self.hidden.device).masked_fill(~self.hidden.flatten(1), 2.0)
        chosen = (key.argsort(1).argsort(1) < most).view_as(self.hidden)
        return Moment(self.x, self.depth, self.hidden & chosen, self.share, self.context)

    def of(self, rows: slice | Tensor) -> Moment:
        """The moment of some of its items."""
        context = None if self.context is None else self.context[rows]
        return Moment(self.x[rows], self.depth[rows], self.hidden[rows], self.share[rows], context)

    def rows(self, chunk: int) -> Iterator[Moment]:
        """The moment in parts of at most `chunk` items."""
        return (self.of(slice(a, a + chunk)) for a in range(0, len(self.x), chunk))


def moments(
    model: AnyModel, x: Tensor, plan: Plan | None, count: int, generator: torch.Generator, context: Tensor | None = None
) -> Moment:
    """`count` moments, spread evenly over all steps; items take turns.  plan: of a model of one order, else None."""
    item = torch.arange(count, device=x.device) % len(x)
    place = (
        torch.randperm(count, generator=generator, device=generator.device).to(finest(generator.device)) + 0.5
    ) / count
    data, side = x[item], None if context is None else context[item]
    depth, hidden = (_along(plan, place, data) if plan else _anywhere(model, place, data, generator))[:2]
    stage = torch.where(hidden, depth, depth.amax()).flatten(1).amin(1)
    share = (depth.flatten(1) > stage[:, None]).to(finest(depth.device)).mean(1)
    return Moment(data, depth, hidden, share, side)


def _anywhere(model: AnyModel, place: Tensor, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Depth and hidden sites of random steps of random orders; place (n,) in [0, 1)."""
    D, S = x[0].numel(), len(model.digits)
    stage = (place * S).long()
    known = ((place * S - stage) * D).long()
    key = torch.rand(len(x), D, generator=generator, dtype=torch.double, device=generator.device)
    rank = key.argsort(1).argsort(1)
    hidden = (rank >= known[:, None]).view(x.shape).to(x.device)
    return stage.to(x.device).view(-1, *[1] * (x.ndim - 1)) + (~hidden).long(), hidden


def _along(plan: Plan, place: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and hidden sites of random steps of a plan."""
    when = plan.when.to(x.device)
    step = (place * len(plan)).long().to(x.device).view(-1, *[1] * (when.ndim - 1))
    return (when < step).sum(1), (when == step).any(1)
