"""When each digit is revealed: order, stages, policy and infilling as one tensor.

A plan is one integer tensor: when[·, s, site] is the step at which digit s of a site is revealed.  The generation order σ,
the stages of upscaling, the policy of parallel generation, raster order, block diffusion, D3PM's random jumps and
infilling are all values of this tensor.  `plan.coarsen(starts)` is the same order in fewer steps (section 3.1).

`when` holds *ranks* (the step of a site), not orders (the site of a step): the paper's σ as in m = (σ < t).  The two are
inverse permutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.inputs import counted, depths, finely, integers, uniform
from ardm.inputs import generator as generator_of
from ardm.model import PredictionLike
from ardm.ranks import dense, wavefront_steps

GIVEN = -1
"""The step of a digit that is known before the walk."""
NEVER = 2**31 - 1
"""The step of a digit that is never revealed, such as padding, which costs no step and no bit."""


class AnyPlan(Protocol):
    """What a walk asks of a plan; `Plan` and `Confident` are two."""

    def __len__(self) -> int: ...

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The sites that step k reveals."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Digit s of a site is revealed at step when[·, s, *site]; GIVEN: known before; NEVER: not revealed.

    when: (1 or B, S, *shape) int64; one row serves every item of a batch.  Raises ArdmError where a digit would be
    revealed before, or together with, a more significant digit of its site.
    """

    when: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.when, Tensor) or self.when.dtype != torch.long:
            object.__setattr__(self, "when", integers(self.when, "when, int64 steps,"))
        when = self.when
        if when.ndim < 3:
            raise ArdmError(f"when must be int64 of shape (1 or B, S, *shape); got {when.dtype} {tuple(when.shape)}")
        late, early = when[:, 1:], when[:, :-1]
        fixed = ((late == GIVEN) & (early == GIVEN)) | ((late == NEVER) & (early == NEVER))
        if not ((late > early) | fixed).all():
            raise ArdmError("a digit must be revealed after the more significant digits of its site, one per step")
        if when.min() < GIVEN:
            raise ArdmError(f"when holds steps, {GIVEN} (given) or {NEVER} (never); got {int(when.min())}")

    @cached_property
    def _steps(self) -> int:
        reached = self.when[self.when != NEVER]
        return int(reached.max()) + 1 if reached.numel() else 0

    def __len__(self) -> int:
        return self._steps

    @property
    def shape(self) -> torch.Size:
        """The shape of one item."""
        return self.when.shape[2:]

    @property
    def stages(self) -> int:
        """The number S of digits of a site."""
        return self.when.shape[1]

    def to(self, device: torch.device | str) -> Plan:
        """The same plan on another device; the plan itself if it lies there."""
        moved = self.when.to(device)
        if moved is self.when:
            return self
        made = object.__new__(Plan)  # checked already: the checks would wait for the device
        made.__dict__.update(when=moved, _steps=self._steps)
        return made

    def depth(self, k: int) -> Tensor:
        """(1 or B, *shape): how many digits of each site are known before step k."""
        return (self.when < k).sum(1)

    @cached_property
    def _groups(self) -> list[Tensor]:
        """The flat indices into (1 or B, *shape) of each step, ascending; computed once, so that no step waits for a GPU."""
        moment = self.when.transpose(0, 1).flatten(1)  # by stage, then by item and position
        position = torch.arange(moment.shape[1], device=moment.device).repeat(len(moment))
        moment = moment.flatten()
        order = torch.argsort(moment, stable=True)
        moment, position = moment[order], position[order]
        edges = torch.searchsorted(moment, torch.arange(len(self) + 1, device=moment.device)).tolist()
        return [position[a:b].sort().values for a, b in pairwise(edges)]

    def group(self, k: int) -> Tensor:
        """(n_k,): the flat positions that step k of a shared plan reveals, ascending."""
        if len(self.when) != 1:
            raise ArdmError("group needs one plan for all items; this one has a plan for each item: use select")
        return self._groups[k]

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The sites that step k reveals, item by item, positions ascending.

        Raises ArdmError at step 0 where the state is not the start of the plan.
        """
        D = prod(self.shape)
        if k == 0:
            self._refuse(state)
        if len(self.when) == 1:
            first = torch.arange(state.batch, device=state.value.device)[:, None] * D
            return Sites((first + self._groups[k].to(first.device)).flatten(), D)
        return Sites(self._groups[k].to(state.depth.device), D)

    def _refuse(self, state: Partial) -> None:
        """Raise ArdmError for a state of other items, or with another start: the values would be wrong."""
        if state.shape != self.shape or len(self.when) not in (1, state.batch):
            raise ArdmError(f"the plan is for {tuple(self.when.shape)}, the state has {tuple(state.depth.shape)}")
        live = ((self.when != GIVEN) & (self.when != NEVER)).any(1)
        if (live.to(state.depth.device) & (state.depth != self.depth(0).to(state.depth.device))).any():
            raise ArdmError("the plan does not begin where the state ends; use plan.given(state.depth)")

    def coarsen(self, starts: Sequence[int]) -> Plan:
        """The same order in fewer steps: new step j takes the old steps starts[j] .. starts[j + 1] − 1 together.

        Raises ArdmError unless starts begin at 0 and increase strictly below len(self).
        """
        first = list(starts)
        if not first or first[0] != 0 or any(a >= b for a, b in pairwise(first)):
            raise ArdmError(f"starts must begin with 0 and increase strictly; got {first[:8]}{'…' * (len(first) > 8)}")
        if first[-1] >= max(len(self), 1):
            raise ArdmError(f"starts must lie below the {len(self)} steps of the plan; got {first[-1]}")
        steps = torch.searchsorted(torch.as_tensor(first, device=self.when.device), self.when, right=True) - 1
        return Plan(torch.where((self.when == GIVEN) | (self.when == NEVER), self.when, steps))

    def given(self, depth: Tensor) -> Plan:
        """The plan for a walk from a state of this depth (1 or B, *shape): infilling, bit-depth expansion.

        Known digits become GIVEN, and steps that are empty for every item are removed.  A mask of bool or uint8 means all
        digits or none; one item needs no batch.  Raises ArdmError for other shapes, and for depths beyond the digits.
        """
        found = self._batched(counted(depth), "depth")
        here = self.when[:1, 0].expand(len(found), *self.shape)
        depth = depths(found, here, range(self.stages), "depth")
        stage = torch.arange(self.stages, device=self.when.device).view(1, -1, *[1] * len(self.shape))
        when = torch.where(
            stage < depth[:, None], GIVEN, self.when.expand(max(len(depth), len(self.when)), *self.when.shape[1:])
        )
        live = (when != GIVEN) & (when != NEVER)
        steps = torch.zeros(len(self), dtype=torch.bool, device=when.device)
        steps[when[live]] = True
        renumber = steps.cumsum(0) - 1
        when = when.clone()
        when[live] = renumber[when[live]]
        return Plan(when)

    def _batched(self, found: Tensor, name: str) -> Tensor:
        """Add the batch to a tensor of one item; raise ArdmError for a shape that does not fit the plan."""
        found = found[None] if found.shape == self.shape else found
        rows = len(found) if found.ndim else 0
        if (
            tuple(found.shape[1:]) != tuple(self.shape)
            or not rows
            or (len(self.when) > 1 and rows not in (1, len(self.when)))
        ):
            batch = "any number" if len(self.when) == 1 else f"1 or {len(self.when)}"
            raise ArdmError(
                f"{name} must have the shape {tuple(self.shape)} of an item of the plan, or of {batch} of them; got "
                f"{tuple(found.shape)}"
            )
        return found


@dataclass(frozen=True)
class Confident:
    """An adaptive plan: each step reveals the hidden sites of least entropy (ties: the smallest position).

    It depends on the predictions only, so that a decoder with the same predictions replays it: it samples, scores and
    codes.  Stage follows stage.  starts: as for `Plan.coarsen`, numbered stage · D + known.
    turns: instead of starts, if something is known beforehand: the stage and width of each step, for each item or for all;
    see `given`.
    """

    starts: tuple[int, ...]
    sites: int
    stages: int = 1
    turns: tuple[tuple[tuple[int, int], ...], ...] = ()

    def __post_init__(self) -> None:
        if self.turns:
            self._refuse_turns()
            return
        if not self.starts or self.starts[0] != 0 or any(a >= b for a, b in pairwise(self.starts)):
            raise ArdmError(f"starts must begin with 0 and increase strictly; got {self.starts[:8]}")
        missing = [s * self.sites for s in range(self.stages) if s * self.sites not in self.starts]
        if missing or self.starts[-1] >= self.stages * self.sites:
            raise ArdmError(f"each stage must begin with a step of its own, below {self.stages * self.sites} in all")

    def _refuse_turns(self) -> None:
        if self.starts:
            raise ArdmError("a confident plan has either starts, or turns if something is known; got both")
        for row in self.turns:
            in_turn = all(a[0] <= b[0] for a, b in pairwise(row))
            if not in_turn or any(not 0 <= s < self.stages or not 1 <= w <= self.sites for s, w in row):
                raise ArdmError(f"turns are (stage, width) with stages in order and widths from 1; got {row[:8]}")

    def __len__(self) -> int:
        return max(map(len, self.turns)) if self.turns else len(self.starts)

    def given(self, depth: Tensor) -> Confident:
        """The plan for a walk from a state of this depth (1 or B, *shape): the rest of its schedule.

        A stage with t known sites is revealed by the steps that begin at t or later, the first of them at t.
        """
        if self.turns:
            raise ArdmError(
                "this plan already starts from a state; call given on a plan that starts with nothing known"
            )
        D, found = self.sites, counted(depth)
        found = found[None] if found.ndim == 1 else found
        if not found.ndim or found[0].numel() != D:
            raise ArdmError(
                f"depth must have the shape (1 or B, *shape) with {D} sites per item; got {tuple(found.shape)}: "
                "of one item, give depth[None]"
            )
        flat = depths(found, found, range(self.stages), "depth").flatten(1)
        rows = []
        for known in zip(*((flat > s).sum(1).tolist() for s in range(self.stages)), strict=True):
            row = []
            for s, t in enumerate(known):
                edges = [t, *(v - s * D for v in self.starts if s * D + t < v < (s + 1) * D), D]
                row += [(s, b - a) for a, b in pairwise(edges) if b > a]
            rows.append(tuple(row))
        return Confident((), D, self.stages, tuple(rows))

    @cached_property
    def _turns(self) -> tuple[Tensor, Tensor]:
        """Stage and width (1 or B, steps) of each step; stage −1, which no site has, where an item has no more steps."""
        rows = self.turns or (
            tuple((a // self.sites, b - a) for a, b in pairwise((*self.starts, self.stages * self.sites))),
        )
        padded = [[*row, *[(-1, 0)] * (len(self) - len(row))] for row in rows]
        both = torch.tensor(padded, dtype=torch.long, device="cpu").view(len(rows), len(self), 2)
        return both[..., 0], both[..., 1]

    def _refuse(self, state: Partial) -> None:
        """Raise ArdmError unless the state is the one that turns were made for."""
        if len(self.turns) not in (1, state.batch) or state.shape.numel() != self.sites:
            raise ArdmError(
                f"the plan is for {len(self.turns)} items of {self.sites} sites, not {tuple(state.depth.shape)}"
            )
        flat, (stage, width) = state.depth.flatten(1).cpu(), self._turns
        for s in range(self.stages):
            if ((flat <= s).sum(1) != (width * (stage == s)).sum(1)).any():
                raise ArdmError(
                    "the plan does not begin where the state ends; "
                    "use plan.given(state.depth) of a plan that starts with nothing known"
                )

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The hidden sites with the least Shannon entropy of the next digit; asks the prediction at every hidden site.

        Raises ArdmError at step 0 unless the state is the one that turns were made for.
        """
        if k == 0 and self.turns:
            self._refuse(state)
        stage, width = (v[:, k].to(state.depth.device) for v in self._turns)
        hidden = state.depth == stage.view(-1, *[1] * len(state.shape))
        asked = Sites.where(hidden)
        p = finely(prediction[asked]).softmax(-1)
        entropy = torch.full(hidden.shape, torch.inf, dtype=p.dtype, device=hidden.device).flatten()
        found = torch.special.entr(p).sum(-1)
        entropy[asked.index] = found.masked_fill(
            found.isnan(), -torch.inf
        )  # no distribution: pick it, so that the walk raises
        pick = entropy.view(len(hidden), -1).argsort(dim=1, stable=True)
        first = (torch.arange(pick.shape[1], device=pick.device) < width[:, None]).expand_as(pick)
        chosen = torch.zeros_like(hidden).flatten(1).scatter(1, pick, first)
        return Sites.where(hidden & chosen.view_as(hidden))


def placed(plan: AnyPlan, device: torch.device) -> AnyPlan:
    """A plan on a device, so that no step copies a part of it; one that holds no tensor of steps stays as it is."""
    return plan.to(device) if isinstance(plan, Plan) else plan


def refuse_misfit(plan: AnyPlan, stages: int, shape: Sequence[int], batch: int) -> None:
    """Raise ArdmError unless a plan fits `batch` items of this shape with `stages` digits per site.

    A plan of fewer sites or digits would never reveal a part of the data, whose likelihood would look too good.  Other
    kinds of plan than `Plan` and `Confident` are not checked.
    """
    if isinstance(plan, Plan):
        if (plan.stages, *plan.shape) != (stages, *shape) or len(plan.when) not in (1, batch):
            raise ArdmError(
                f"the plan is for {tuple(plan.when.shape)}; the items and the model need "
                f"(1 or {batch}, {', '.join(map(str, (stages, *shape)))}): the digits of a site, and the shape"
            )
    elif isinstance(plan, Confident):
        if (plan.sites, plan.stages) != (prod(shape), stages):
            raise ArdmError(
                f"the plan is for {plan.sites} sites of {plan.stages} digit{'s' * (plan.stages > 1)} each; the items and the "
                f"model have {prod(shape)} of {stages}"
            )
    elif isinstance(plan, Tensor) or not (hasattr(plan, "select") and hasattr(plan, "__len__")):
        raise ArdmError(
            f"a plan is a Plan or Confident, for example from plan.raster(stages, shape) or ardm.make_plan; got "
            f"{type(plan).__name__}"
        )


def _staged(ranks: Tensor, stages: int, shape: Sequence[int]) -> Plan:
    """One order of D sites, the same in every stage."""
    D = prod(shape)
    return Plan((ranks.long() + D * torch.arange(stages, device=ranks.device)[:, None]).view(1, stages, *shape))


def ranked(ranks: Tensor, shape: Sequence[int], stages: int = 1) -> Plan:
    """The plan of a given order: ranks (D,) or (S, D), the step of each site within its stage."""
    D = prod(shape)
    ranks = integers(ranks, "ranks")
    rows = ranks.reshape(-1, D).expand(stages, D)
    if not torch.equal(rows.sort(-1).values, torch.arange(D, device=rows.device).expand(stages, D)):
        raise ArdmError(f"ranks must hold each of 0..{D - 1} once; ranks are steps of sites, not sites of steps")
    return Plan((rows + D * torch.arange(stages, device=ranks.device)[:, None]).reshape(1, stages, *shape).long())


def raster(stages: int, shape: Sequence[int]) -> Plan:
    """Site after site, stage after stage: the order of an ordinary autoregressive model."""
    return _staged(torch.arange(prod(shape), device="cpu"), stages, shape)


def shuffled(stages: int, shape: Sequence[int], generator: torch.Generator, batch: int = 1) -> Plan:
    """Stage after stage, each in a uniformly random order of its own, for each item (Algorithms 1 and 3)."""
    D, there = prod(shape), generator_of(generator).device
    ranks = torch.stack(
        [
            torch.stack([s * D + torch.randperm(D, generator=generator, device=there) for s in range(stages)])
            for _ in range(batch)
        ]
    )
    return Plan(ranks.view(batch, stages, *shape))


def unstaged(stages: int, shape: Sequence[int], generator: torch.Generator) -> Plan:
    """All digits of all sites in one random order that respects significance."""
    D = prod(shape)
    ranks = (
        torch.randperm(stages * D, generator=generator_of(generator), device=generator.device)
        .view(stages, D)
        .sort(0)
        .values
    )
    return Plan(ranks.view(1, stages, *shape))


def absorbing(steps: int, shape: Sequence[int], batch: int, generator: torch.Generator) -> Plan:
    """D3PM-absorbing with T = `steps`: every site jumps at its own random step, so that steps have random widths."""
    return Plan(torch.randint(steps, (batch, 1, *shape), generator=generator_of(generator), device=generator.device))


def blocks(stages: int, shape: Sequence[int], size: int, generator: torch.Generator) -> Plan:
    """Blocks of `size` consecutive sites one after the other, each shuffled inside (block diffusion)."""
    D, there = prod(shape), generator_of(generator).device
    key = uniform((D,), generator) + torch.arange(D, device=there) // size
    return _staged(key.argsort().argsort(), stages, shape)


# --- images: wavefronts, and channels offset from each other --------------------------------------------------------


def wavefront(shape: Sequence[int]) -> Plan:
    """Images (C, H, W) by x + 2y, the channels of a pixel one after the other; sequences (D,) from left to right.

    The order of models of trunk wavefront, in C · (W + 2H − 2) steps if W > 1; every step reveals a site.
    """
    steps = np.unique(wavefront_steps(shape), return_inverse=True)[1].reshape(shape)
    return Plan(torch.from_numpy(steps)[None, None])


def image(stages: int, shape: Sequence[int], pixels: np.ndarray, offset: float = 1 / 48, first: int = 0) -> Plan:
    """A plan for images (C, H, W) from an order of the pixels, with the channels offset from each other.

    pixels: (H, W), ranks of the pixels.  Each channel follows the one before it by `offset` of the whole order, so that it
    can use that channel at its pixel and around it; channel `first` leads (green, for photographs).
    offset = 0 reveals a whole pixel in consecutive steps.
    """
    C, H, W = shape
    turn = (np.arange(C) - first) % C
    key = pixels[None] + turn[:, None, None] * max(offset * H * W, 1e-6)
    return _staged(torch.from_numpy(dense(key)).flatten(), stages, shape)
