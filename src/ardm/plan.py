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
from ardm.inputs import PADDING, counted, depths, integers, number
from ardm.model import PredictionLike
from ardm.precision import home
from ardm.random_numbers import ORDERS, Chance, numbers_of
from ardm.ranks import dense, wavefront_steps
from ardm.rates import clocks, exponential, table

GIVEN = -1
"""The step of a digit that is known before the walk."""
NEVER = 2**31 - 1
"""The step of a digit that is never revealed, such as padding, which costs no step and no bit."""


class AnyPlan(Protocol):
    """What a walk asks of a plan; `Plan` and `adaptive.Adaptive` are two."""

    def items(self, k: int, state: Partial) -> Sequence[int]:
        """The unfinished items of step k, ascending; the walk ends when there are none."""

    def select(self, k: int, state: Partial, prediction: PredictionLike) -> Sites:
        """The sites that step k reveals; the prediction may be asked at the sites of `items` only."""

    def refuse_misfit(self, stages: int, shape: Sequence[int], batch: int) -> None:
        """Raise ArdmError where the plan would not reveal all it should of such items."""


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
        if when.ndim < 3 or not when.numel():
            raise ArdmError(
                f"when must be int64 of shape (1 or B, S, *shape), no size 0; got {when.dtype} {tuple(when.shape)}"
            )
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
        made = object.__new__(Plan)  # checked already: the checks would wait for the device, and so would what is read
        made.__dict__.update(when=moved, _steps=self._steps, _known=self._known)
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

    @cached_property
    def _known(self) -> list[int]:
        when = self.when[:, 0].masked_fill(self.when[:, 0] == NEVER, GIVEN)  # a start may show what is never revealed
        first = when.flatten(1).sort(1).values
        steps = torch.arange(len(self), device=first.device).expand(len(first), -1).contiguous()
        found: list[int] = torch.searchsorted(first, steps).amax(0).tolist()
        return found

    def known(self, k: int) -> int:
        """The most known sites of an item before step k; read for all steps at once, so that no step waits for a GPU."""
        return self._known[k]

    def group(self, k: int) -> Tensor:
        """(n_k,): the flat positions that step k of a shared plan reveals, ascending."""
        if len(self.when) != 1:
            raise ArdmError("group needs one plan for all items; this one has a plan for each item: use select")
        return self._groups[k]

    def items(self, k: int, state: Partial) -> range:
        """All items while there are steps; known without a look at the state, so that no step waits for a GPU."""
        return range(state.batch if k < len(self) else 0)

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

    def refuse_misfit(self, stages: int, shape: Sequence[int], batch: int) -> None:
        """Raise ArdmError unless the plan is for `batch` items of this shape with `stages` digits per site."""
        if (self.stages, *self.shape) != (stages, *shape) or len(self.when) not in (1, batch):
            raise ArdmError(
                f"the plan is for {tuple(self.when.shape)}; the items and the model need "
                f"(1 or {batch}, {', '.join(map(str, (stages, *shape)))}): the digits of a site, and the shape"
            )

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
        first = [number(start, "starts", 0) for start in starts]
        if not first or first[0] != 0 or any(a >= b for a, b in pairwise(first)):
            raise ArdmError(f"starts must begin with 0 and increase strictly; got {first[:8]}{'…' * (len(first) > 8)}")
        if first[-1] >= max(len(self), 1):
            raise ArdmError(f"starts must lie below the {len(self)} steps of the plan; got {first[-1]}")
        steps = torch.searchsorted(torch.as_tensor(first, device=self.when.device), self.when, right=True) - 1
        return Plan(torch.where((self.when == GIVEN) | (self.when == NEVER), self.when, steps))

    def given(self, depth: Tensor) -> Plan:
        """The plan for a walk from a state of this depth (1 or B, *shape): infilling, bit-depth expansion.

        Known digits become GIVEN, sites of depth PADDING (−1) NEVER, and steps that are empty for every item are removed.  A
        mask of bool or uint8 means all digits or none; one item needs no batch.  Raises ArdmError for other shapes, and for depths beyond the digits.
        """
        found = self._batched(counted(depth), "depth")
        here = self.when[:1, 0].expand(len(found), *self.shape)
        depth = depths(found, here, range(self.stages), "depth", least=PADDING)
        stage = torch.arange(self.stages, device=self.when.device).view(1, -1, *[1] * len(self.shape))
        when = torch.where(
            stage < depth[:, None], GIVEN, self.when.expand(max(len(depth), len(self.when)), *self.when.shape[1:])
        )
        when = when.masked_fill((depth == PADDING)[:, None], NEVER)
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


def placed(plan: AnyPlan, device: torch.device) -> AnyPlan:
    """A plan on a device, so that no step copies a part of it; one that holds no tensor of steps stays as it is."""
    return plan.to(device) if isinstance(plan, Plan) else plan


def known(plan: AnyPlan, k: int) -> int | None:
    """The most known sites of an item before step k of a plan; None for a plan whose steps are not known before."""
    return plan.known(k) if isinstance(plan, Plan) else None


def refuse_misfit(plan: AnyPlan, stages: int, shape: Sequence[int], batch: int) -> None:
    """Raise ArdmError for what is no plan, and for a plan that does not fit `batch` items of this shape and `stages` digits.

    A plan of fewer sites or digits would never reveal a part of the data, whose likelihood would look too good.
    """
    if isinstance(plan, type) or not all(hasattr(plan, name) for name in ("items", "select", "refuse_misfit")):
        raise ArdmError(
            f"a plan is a Plan or Adaptive, for example from plan.raster(stages, shape) or ardm.make_plan; got "
            f"{plan if isinstance(plan, type) else type(plan).__name__}"
        )
    plan.refuse_misfit(stages, shape, batch)


def _staged(ranks: Tensor, stages: int, shape: Sequence[int]) -> Plan:
    """One order of D sites, the same in every stage."""
    D = prod(shape)
    return Plan((ranks.long() + D * torch.arange(stages, device=ranks.device)[:, None]).view(1, stages, *shape))


def ranked(ranks: Tensor, shape: Sequence[int], stages: int = 1) -> Plan:
    """The plan of a given order: ranks (D,) or (S, D), the step of each site within its stage."""
    D = prod(shape)
    ranks = integers(ranks, "ranks")
    fits = ranks.numel() in (D, stages * D)
    rows = ranks.reshape(-1, D).expand(stages, D) if fits else ranks
    if not fits or not torch.equal(rows.sort(-1).values, torch.arange(D, device=rows.device).expand(stages, D)):
        raise ArdmError(f"ranks must hold each of 0..{D - 1} once; ranks are steps of sites, not sites of steps")
    return Plan((rows + D * torch.arange(stages, device=ranks.device)[:, None]).reshape(1, stages, *shape).long())


def raster(stages: int, shape: Sequence[int]) -> Plan:
    """Site after site, stage after stage: the order of an ordinary autoregressive model."""
    return _staged(torch.arange(prod(shape), device="cpu"), stages, shape)


def shuffled(stages: int, shape: Sequence[int], generator: Chance, batch: int = 1) -> Plan:
    """Stage after stage, each in a uniformly random order of its own, for each item (Algorithms 1 and 3)."""
    return _ascending(_keys(generator, batch, stages, prod(shape)), shape)


def rated(rates: Tensor, stages: int, shape: Sequence[int], generator: Chance, batch: int = 1) -> Plan:
    """Stage after stage, each in an order of its own by rates (*shape), for each item: the faster sites tend to come first.

    The law of orders is that of `ardm.rates`; with equal rates the plan is that of `shuffled`.  Raises ArdmError for rates
    of another shape, or not positive and finite.
    """
    found = table(rates, shape).flatten()
    return _ascending(clocks(found, exponential(_keys(generator, batch, stages, prod(shape)))), shape)


def _ascending(keys: Tensor, shape: Sequence[int]) -> Plan:
    """Stage after stage, each by its keys (batch, stages, D), the smallest first."""
    batch, stages, D = keys.shape
    ranks = keys.argsort(dim=-1, stable=True).argsort(-1)
    return Plan((ranks + D * torch.arange(stages, device=ranks.device)[:, None]).view(batch, stages, *shape))


def unstaged(stages: int, shape: Sequence[int], generator: Chance) -> Plan:
    """All digits of all sites in one random order that respects significance."""
    stages = number(stages, "stages")
    ranks = _keys(generator, 1, 1, stages * prod(shape)).argsort(dim=-1, stable=True).argsort(-1)
    return Plan(ranks.view(stages, -1).sort(0).values.view(1, stages, *shape))


def absorbing(steps: int, shape: Sequence[int], batch: int, generator: Chance) -> Plan:
    """D3PM-absorbing with T = `steps`: every site jumps at its own random step, so that steps have random widths."""
    steps = number(steps, "steps")
    when = (_keys(generator, batch, 1, prod(shape)) * steps).long().clamp(max=steps - 1)
    return Plan(when.view(batch, 1, *shape))


def blocks(stages: int, shape: Sequence[int], size: int, generator: Chance) -> Plan:
    """Blocks of `size` consecutive sites one after the other, each shuffled inside (block diffusion)."""
    key = _keys(generator, 1, 1, prod(shape))[0, 0]
    key = key + torch.arange(len(key), device=key.device) // number(size, "size")
    return _staged(key.argsort(stable=True).argsort(), stages, shape)


def _keys(generator: Chance, items: int, stages: int, sites: int) -> Tensor:
    """(items, stages, sites): random numbers, the same for item i of any batch.

    On the `home` of a generator's device, else on the CPU.
    """
    there = home(generator.device) if isinstance(generator, torch.Generator) else "cpu"
    return numbers_of(generator).child(ORDERS).grid(items, stages, sites, there)


def dilated(stages: int, shape: Sequence[int], size: int, base: int = 2) -> Plan:
    """Blocks of `size` sites one after the other, each in steps of ever closer sites (DUS, Luxembourg et al. 2025).

    Step j = 1, 2, … of a block reveals the sites at multiples of max(1, size // base^j) that are still hidden: about
    log_base(size) steps; for base 2 and blocks of 4, 8, 16, … sites none of them reveals neighbours.  Stage follows stage.
    """
    size, base, D = number(size, "size"), number(base, "base", 2), prod(shape)
    place, step, strides = np.arange(D) % size, np.full(D, -1), [max(1, size // base)]
    while strides[-1] > 1:
        strides.append(max(1, size // base ** (len(strides) + 1)))
    for j, stride in enumerate(strides):
        step[(place % stride == 0) & (step < 0)] = j
    ranks = np.unique(np.arange(D) // size * len(strides) + step, return_inverse=True)[1].reshape(-1)
    when = ranks + (int(ranks.max()) + 1) * np.arange(stages)[:, None]
    return Plan(torch.from_numpy(when).view(1, stages, *shape))


# --- images: wavefronts, and channels offset from each other --------------------------------------------------------


def wavefront(shape: Sequence[int]) -> Plan:
    """Images (C, H, W) by x + 2y, the channels of a pixel one after the other; sequences (D,) from left to right.

    The order of models of trunk wavefront, in C · (W + 2H − 2) steps if W > 1; every step reveals a site.
    """
    if len(shape) not in (1, 3):
        raise ArdmError(f"wavefronts run through images (C, H, W) and sequences (D,); got {tuple(shape)}")
    steps = np.unique(wavefront_steps(shape), return_inverse=True)[1].reshape(shape)
    return Plan(torch.from_numpy(steps)[None, None])


def image(stages: int, shape: Sequence[int], pixels: np.ndarray, offset: float = 1 / 48, first: int = 0) -> Plan:
    """A plan for images (C, H, W) from an order of the pixels, with the channels offset from each other.

    pixels: (H, W), ranks of the pixels.  Each channel follows the one before it by `offset` of the whole order, so that it
    can use that channel at its pixel and around it; channel `first` leads (green, for photographs).
    offset = 0 reveals a whole pixel in consecutive steps.
    """
    C, H, W = shape
    if pixels.shape != (H, W):
        raise ArdmError(f"pixels are the ranks of images of {H} x {W}, ({H}, {W}); got {pixels.shape}")
    turn = (np.arange(C) - first) % C
    key = pixels[None] + turn[:, None, None] * max(offset * H * W, 1e-6)
    return _staged(torch.from_numpy(dense(key)).flatten(), stages, shape)
