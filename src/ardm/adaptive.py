"""Plans that look at the predictions: a score ranks the hidden sites, and a selection says how many of them to reveal.

    Adaptive("entropy", FixedNumber(4))           the 4 sites of least entropy at every step
    Adaptive("probability", Threshold(0.9))       all sites whose most likely digit has probability 0.9 or more (Fast-dLLM)
    Adaptive("entropy", EntropyBudget(0.1))       as many as depend little on each other (EB-sampler)
    Adaptive("margin", FixedNumber(1), 32)        one by one, within blocks of 32 sites from left to right

The choice depends on the state and on the predictions only, never on hidden or drawn values.  A decoder with the same
predictions therefore replays it: an adaptive plan samples, fills in from every state, codes, and scores exactly
(`likelihood.exact`; DUEL, 2603.01367, calls this the deterministic unmasking exact likelihood).

Each item of a batch goes its own way, stage after stage, and is over when nothing of it is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.inputs import number
from ardm.model import PredictionLike, in_parts, probabilities
from ardm.precision import finely

# --- scores: the smaller, the surer -----------------------------------------------------------------------------------


def entropy(prediction: PredictionLike, sites: Sites) -> Tensor:
    """(N,): the Shannon entropy of the next digit in nats."""
    return _scored(prediction, sites, lambda p: torch.special.entr(p).sum(-1))


def margin(prediction: PredictionLike, sites: Sites) -> Tensor:
    """(N,): the second largest probability less the largest."""
    return _scored(prediction, sites, lambda p: p.topk(2).values.diff(dim=-1)[:, 0])


def probability(prediction: PredictionLike, sites: Sites) -> Tensor:
    """(N,): the largest probability, negative."""
    return _scored(prediction, sites, lambda p: -p.amax(-1))


def _scored(prediction: PredictionLike, sites: Sites, score: Callable[[Tensor], Tensor]) -> Tensor:
    """(N,): a function of the probabilities (n, b) of each site, in parts that fit into memory."""
    found = in_parts(prediction, sites, lambda part, rows: score(probabilities(prediction, part)))
    return finely(found, sites.index.device)


SCORES: dict[str, Callable[[PredictionLike, Sites], Tensor]] = {
    "entropy": entropy, "margin": margin, "probability": probability
}  # fmt: skip
"""Scores by name: (N,), in float64 where there is one, smaller where the model is surer; NaN where there is no distribution."""


# --- selections: how many sites ---------------------------------------------------------------------------------------


GRAIN = 2.0**-16
"""Scores closer than about this are ties.  Where nothing is known, many networks predict the same at every site, and rounding,
which differs with the batch, would choose among them: about 1e-6 in float32.  Margins of 256 values differ by 1e-4."""


class Ranking:
    """The sites that a step may reveal, the surest of each item first: what a selection sees.

    candidates: (B, D) bool, these sites.  stage, known: (B,), the stage of each item and how many of its sites are known.
    order: (B, D), positions; ties (equal multiples of `GRAIN`): the smallest first.  score: (B, D) in this order, +∞ beyond
    the candidates.
    """

    def __init__(
        self, candidates: Tensor, stage: Tensor, known: Tensor, prediction: PredictionLike, score: str
    ) -> None:
        self.candidates, self.stage, self.known = candidates, stage, known
        self.sign = 1 if score == "entropy" else -1
        self._prediction, self._sites = prediction, Sites.where(candidates)
        found = self._table(score, -torch.inf, torch.inf)  # no distribution: pick it, so that the walk raises
        self.order = (found / GRAIN).round().argsort(dim=1, stable=True)
        self.score = found.gather(1, self.order)

    def entropy(self) -> Tensor:
        """(B, D): entropies in nats in this order, 0 beyond the candidates."""
        return self._table("entropy", 0.0, 0.0).gather(1, self.order)

    def _table(self, score: str, undefined: float, beyond: float) -> Tensor:
        found = SCORES[score](self._prediction, self._sites)
        table = torch.full(self.candidates.shape, beyond, dtype=found.dtype, device=found.device).flatten()
        table[self._sites.index] = found.masked_fill(found.isnan(), undefined)
        return table.view(self.candidates.shape)


class Selection(Protocol):
    """How many of the ranked sites a step reveals; at least one and at most all candidates, whatever it says."""

    def __call__(self, ranking: Ranking) -> Tensor:
        """(B,): a number for each item, or () for all."""


@dataclass(frozen=True)
class FixedNumber:
    """The same number of sites at every step."""

    sites: int = 1

    def __post_init__(self) -> None:
        number(self.sites, "the number of sites of a step")

    def __call__(self, ranking: Ranking) -> Tensor:
        """(): the number."""
        return torch.tensor(self.sites, device=ranking.stage.device)


@dataclass(frozen=True)
class Threshold:
    """All sites that are sure enough: probability or margin at least `value`, entropy at most `value` nats.

    With the largest probability this is the rule of Fast-dLLM (2505.22618).
    """

    value: float

    def __post_init__(self) -> None:
        _finite(self.value, "a threshold")

    def __call__(self, ranking: Ranking) -> Tensor:
        """(B,): the number of sites within the threshold."""
        return (ranking.score <= ranking.sign * self.value).sum(1)


@dataclass(frozen=True)
class EntropyBudget:
    """The most sites in order of the score with Σ entropy − max entropy ≤ nats (EB-sampler, 2505.24857).

    The difference bounds what is lost by drawing these sites independently: their dependence, a total correlation.
    """

    nats: float

    def __post_init__(self) -> None:
        _finite(self.nats, "an entropy budget")

    def __call__(self, ranking: Ranking) -> Tensor:
        """(B,): the longest prefix within the budget."""
        h = ranking.entropy()
        over = h.cumsum(1) - h.cummax(1).values > self.nats
        return (over.cumsum(1) == 0).sum(1)


@dataclass(frozen=True, eq=False)
class PlannedNumber:
    """The numbers that a schedule plans, from the number of sites already known (`api.make_plan` plans for `calls`).

    until: (1 or B, S, D) int64: a step that begins with t sites of stage s known goes on until until[·, s, t] are.
    A walk from any state thus takes the rest of the schedule.
    """

    until: Tensor

    def __post_init__(self) -> None:
        shown = tuple(getattr(self.until, "shape", ()))
        if not isinstance(self.until, Tensor) or self.until.dtype != torch.long or len(shown) != 3 or 0 in shown:
            raise ArdmError(f"until must be int64 of shape (1 or B, S, D); got {type(self.until).__name__} {shown}")
        t = torch.arange(shown[2], device=self.until.device)
        if (self.until <= t).any() or (self.until > shown[2]).any():
            raise ArdmError(f"until[·, s, t] must lie in t + 1..{shown[2]}, so that every step reveals a site")

    @staticmethod
    def starting(starts: Sequence[Sequence[int]], sites: int) -> PlannedNumber:
        """From the starts of each stage, in known sites, such as `Schedule.starts`; the same for all items."""
        for row in starts or [()]:
            if list(row) != sorted({0, *row}) or row[-1] >= sites:
                raise ArdmError(
                    f"the starts of a stage begin with 0 and increase strictly below {sites}; got {list(row)[:8]}"
                )
        return PlannedNumber(torch.stack([following(row, sites) for row in starts])[None])

    def __call__(self, ranking: Ranking) -> Tensor:
        """(B,): from the sites known to the next start."""
        rows, S, D = self.until.shape
        row = torch.arange(len(ranking.stage), device=ranking.stage.device) % rows
        stage, known = ranking.stage.clamp(max=S - 1), ranking.known.clamp(max=D - 1)
        return self.until.to(row.device)[row, stage, known] - known


def following(starts: Sequence[int], sites: int) -> Tensor:
    """(D,): for every t = 0..D−1 the first start beyond it, or D."""
    edges = torch.tensor([*starts, sites], device="cpu")
    return edges[torch.searchsorted(edges, torch.arange(sites, device="cpu"), right=True)]


def _finite(value: float, name: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ArdmError(f"{name} must be a finite number of at least 0; got {value!r}")


def _counted(found: object, like: Tensor) -> Tensor:
    """(B,), as like: what a selection says, at least 1; ArdmError unless it is one whole number, or one for each item."""
    if isinstance(found, int) and not isinstance(found, bool):
        return torch.full_like(like, max(found, 1))
    if not isinstance(found, Tensor) or found.is_floating_point() or found.shape not in ((), like.shape):
        said = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise ArdmError(
            f"a selection returns whole numbers of sites, () or one for each item {tuple(like.shape)}; got {said}"
        )
    return found.clamp(min=1).expand(like.shape)


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adaptive:
    """Each step reveals the surest hidden sites of every item that is not finished.

    score: "entropy", "margin" (between the two largest probabilities) or "probability" (the largest); ties: the smallest
    position.  selection: how many sites; None: as many as `api.make_plan` plans for a budget of calls.
    block_length: reveal blocks of so many consecutive sites from left to right (semi-autoregressive); None: no blocks.
    stages: the number of digits of a site; stage follows stage.  `api` fills it in.
    never: (1 or B, *shape) bool, sites that are padding, which are never revealed; None: no site is.
    """

    score: str = "entropy"
    selection: Selection | None = None
    block_length: int | None = None
    stages: int = 1
    never: Tensor | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ArdmError(f"unknown score {self.score!r}; choose {', '.join(SCORES)}")
        if self.selection is not None and (not callable(self.selection) or isinstance(self.selection, type)):
            raise ArdmError(
                "a selection is FixedNumber, Threshold, EntropyBudget or PlannedNumber, such as Threshold(0.9); got "
                f"{self.selection!r}"
            )
        number(self.stages, "stages")
        if self.block_length is not None:
            number(self.block_length, "block_length")

    def items(self, k: int, state: Partial) -> list[int]:
        """The items of which something is hidden.  Waits for a GPU."""
        found: list[int] = (self._depth(state) < self.stages).any(1).nonzero()[:, 0].tolist()
        return found

    def _depth(self, state: Partial) -> Tensor:
        """(B, D): the digits known of each site; all of them where it is padding."""
        depth = state.depth
        return (depth if self.never is None else depth.masked_fill(self.never.to(depth.device), self.stages)).flatten(1)

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The sites that a step reveals, item by item, positions ascending; asks the prediction at every candidate."""
        if self.selection is None:
            raise ArdmError(
                "this adaptive plan does not say how many sites a step reveals: give a selection, such as "
                "FixedNumber(1), or let ardm.make_plan plan it for a number of calls"
            )
        candidates, stage, known = self._candidates(state)
        ranking = Ranking(candidates, stage, known, prediction, self.score)
        width = _counted(self.selection(ranking), stage)
        first = torch.arange(candidates.shape[1], device=width.device) < width[:, None]
        return Sites.where(candidates & torch.zeros_like(candidates).scatter(1, ranking.order, first))

    def _candidates(self, state: Partial) -> tuple[Tensor, Tensor, Tensor]:
        """(B, D) bool: the sites that may be next, in the first block with hidden sites; (B,): stage and known sites."""
        depth = self._depth(state)
        stage = depth.amin(1)
        found = (depth == stage[:, None]) & (depth < self.stages)
        if self.block_length is not None:
            block = torch.arange(depth.shape[1], device=depth.device) // self.block_length
            found &= block == torch.where(found, block, depth.shape[1]).amin(1, keepdim=True)
        return found, stage, (depth > stage[:, None]).sum(1)

    def refuse_misfit(self, stages: int, shape: Sequence[int], batch: int) -> None:
        """Raise ArdmError unless the plan reveals `stages` digits per site, and its numbers are planned for such items."""
        D, digit = prod(shape), f"digit{'s' * (stages > 1)}"
        if self.never is not None and (
            tuple(self.never.shape[1:]) != tuple(shape) or len(self.never) not in (1, batch)
        ):
            raise ArdmError(
                f"the plan has padding for {tuple(self.never.shape)}; the items are {(batch, *shape)}, or (1, …) for all"
            )
        if self.stages != stages:
            raise ArdmError(
                f"the plan is for {self.stages} digits per site; the items and the model have {stages}: give "
                f"stages={stages}"
            )
        planned = self.selection
        if isinstance(planned, PlannedNumber):
            rows, *rest = planned.until.shape
            if rest != [stages, D] or rows not in (1, batch):
                raise ArdmError(
                    f"the plan is for {rows} items of {rest[1]} sites of {rest[0]} digits; the items and the model are "
                    f"{batch} of {D} sites of {stages} {digit}"
                )
