"""Training objectives, one class each: it draws a step, scores it, and reports what it observed.

The trainer asks its objective for everything that depends on it, and never which one it is.  To add one, write a class
and append it to OBJECTIVES; `train.objective` then chooses it by one of its names.

given: (B, *shape) or None, what is known beforehand of each site, or PADDING; see `objective`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ardm import likelihood, objective
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.inputs import PADDING
from ardm.model import Model
from ardm.models.causal import CausalModel
from ardm.models.config import ModelConfig
from ardm.models.ending import behind_end
from ardm.objective import Scored
from ardm.orders import OrderConfig, image_plan
from ardm.precision import finely, uniform
from ardm.rates import exponential, ranks
from ardm.train.batch import Batch, Draws

Observed: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Observations of L_t, as `LossCurve.update` takes them: stage, known, nats and symbols, each (B,)."""
PASSES = 4
"""Random steps per item of a validation by the any-order bound."""


class Options(Protocol):
    """The settings of a recipe that objectives read; see `TrainConfig`."""

    @property
    def objective(self) -> str:
        """The name of the objective."""

    @property
    def subset(self) -> int:
        """The most hidden sites to score per item; 0: all."""

    @property
    def diffusion_steps(self) -> int:
        """T of absorbing diffusion."""

    @property
    def first_level(self) -> float:
        """The fraction of the items that train on the first of several levels of calls."""


class Objective(ABC):
    """One way to train: how a step is drawn and scored, and how the model is validated and sampled.

    names: values of train.objective that choose it.
    causal, fixed, rates: whether it trains causal models, along a fixed order, and models with rates; it takes no others.
    has_curve: whether its steps observe the any-order losses L_t.
    reads: the options that it reads, besides the objective.
    together: call the network equally often in every process, because each call gathers its sharded parameters.
    """

    names: ClassVar[tuple[str, ...]]
    causal: ClassVar[bool] = False
    fixed: ClassVar[bool] = False
    rates: ClassVar[bool] = False
    has_curve: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: ModelConfig, order: OrderConfig, options: Options, together: bool = False) -> None:
        self.model, self.order, self.options, self.together = model, order, options, together

    @classmethod
    def misfit(cls, model: ModelConfig, order: OrderConfig) -> str:
        """The reason why it cannot train such a model along such an order; empty if it can."""
        if bool(model.causal) != cls.causal:
            learn = "causal models learn all positions at once, and no others do"
            return f"is not for model.causal {model.causal!r}: {learn}"
        if model.rates != cls.rates:
            return "does not learn orders; set model.rates to false" if model.rates else "needs model.rates"
        if order.fixed and not cls.fixed:
            return "takes no fixed order; leave order.order at random"
        return "" if order.fixed == cls.fixed else "needs a fixed order; set order.order"

    def known(self, x: Tensor, given: Tensor | None) -> Tensor | None:
        """`given` of items x (B, *shape), with more padding where the objective need not predict all."""
        return given

    @abstractmethod
    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """Draw one random step for each item of a whole batch, evenly spread over all steps."""

    @abstractmethod
    def score(self, network: Model, batch: Batch) -> Scored:
        """Score the items of a batch at their draws; nats is an unbiased estimate of the loss."""

    @abstractmethod
    def validate(self, network: Model, batch: Batch, generator: torch.Generator) -> Estimate:
        """Measure the model on the items of a batch; its draws are not read."""

    def observe(self, batch: Batch, scored: Scored) -> Observed | None:
        """The any-order losses that a scored step observed; None for an objective without such a curve."""
        return None

    def sampling(self) -> tuple[int, str]:
        """How to draw samples during the run: network calls and the name of an order."""
        return self.calls, "bayer" if len(self.model.shape) == 3 else "random"

    @property
    def calls(self) -> int:
        """The network calls of the recipe's order, at least one for each digit."""
        return max(self.order.calls[0], len(self.model.digits))

    def _uniform(self, items: int, generator: torch.Generator) -> Tensor:
        """(items, *shape) float32 in [0, 1)."""
        return torch.rand(items, *self.model.shape, generator=generator, device="cpu")


class AnyOrder(Objective):
    """The any-order bound: one random step of one random order (section 2, equation 2; with stages, Algorithm 4)."""

    names = ("steps",)
    has_curve = True
    reads: ClassVar[tuple[str, ...]] = ("subset",)

    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """stage, known and rank, from `objective.draw`, and a key where a subset of sites is scored."""
        steps = objective.draw(items, len(self.model.digits), tuple(self.model.shape), generator, given)
        draws = {"stage": steps.stage, "known": steps.known, "rank": steps.rank}
        return {**draws, "key": self._uniform(items, generator)} if self.options.subset else draws

    def score(self, network: Model, batch: Batch) -> Scored:
        """One step of the bound."""
        draws, subset = batch.draws, self.options.subset or None
        steps = objective.Steps(draws["stage"], draws["known"], draws["rank"])
        return objective.bound_step(network, batch.x, steps, batch.given, batch.labels, subset, key=draws.get("key"))

    def validate(self, network: Model, batch: Batch, generator: torch.Generator) -> Estimate:
        """The any-order bound."""
        return likelihood.bound(network, batch.x, PASSES, generator, batch.given, batch.labels)

    def observe(self, batch: Batch, scored: Scored) -> Observed:
        """L_t of the stage and the number of known sites that were drawn."""
        known = batch.draws["known"] if batch.given is None else objective.observed_at(scored.hidden, batch.given)
        return batch.draws["stage"], known, finely(scored.sums), scored.symbols


class ByRates(AnyOrder):
    """The bound in orders by rates, and the rates themselves: the same step in two orders of each item (`rates_step`)."""

    rates = True

    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """stage and known, as for any order, and the exponential numbers of two orders: rates change from step to step."""
        draws = {name: value for name, value in super().draw(items, generator, given).items() if name != "rank"}
        shape = items, math.prod(self.model.shape)
        return draws | {name: exponential(uniform(shape, generator)).float() for name in ("first", "second")}

    def score(self, network: Model, batch: Batch) -> Scored:
        """The mean of one step of the bound in both orders."""
        assert network.rates is not None
        draws, given = batch.draws, batch.given
        numbers = torch.stack([draws["first"], draws["second"]])
        if given is not None:
            numbers = numbers.masked_fill(objective.taken(given, draws["stage"]), torch.inf)
        stage, known = (torch.cat([draws[name]] * 2) for name in ("stage", "known"))
        rank = ranks(network.rates.detach().flatten(), numbers.flatten(0, 1)).view(-1, *self.model.shape)
        steps, subset = objective.Steps(stage, known, rank), self.options.subset or None
        return objective.rates_step(
            network, batch.x, steps, network.rates, given, batch.labels, subset, draws.get("key")
        )

    def validate(self, network: Model, batch: Batch, generator: torch.Generator) -> Estimate:
        """The bound in orders by rates."""
        return likelihood.bound(network, batch.x, PASSES, generator, batch.given, batch.labels, rates=network.rates)

    def observe(self, batch: Batch, scored: Scored) -> Observed:
        """As for any order; what is scored counts the hidden sites of both orders."""
        return super().observe(batch, replace(scored, hidden=scored.hidden // 2))

    def sampling(self) -> tuple[int, str]:
        """In orders by rates."""
        return self.calls, "rates"


class AlongPlan(Objective):
    """One random step of a fixed plan, or of one of several levels of calls: the code length along the plan."""

    names = ("steps",)
    fixed = True
    reads = ("first_level",)

    def __init__(self, model: ModelConfig, order: OrderConfig, options: Options, together: bool = False) -> None:
        super().__init__(model, order, options, together)
        self.plans = [image_plan(order, model.shape, calls, len(model.digits)) for calls in order.calls]
        self._closes = model.end and all((plan.when.flatten().diff() > 0).all() for plan in self.plans)

    def known(self, x: Tensor, given: Tensor | None) -> Tensor | None:
        """What is behind the end of an item is padding, if all before it is revealed first: it is certain."""
        if not self._closes:
            return given
        given = torch.zeros_like(x, dtype=torch.long) if given is None else given
        return given.masked_fill(behind_end(x, self.model.classes - 1), PADDING)

    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """A level of calls for each item (`first_level` of the items take the first), and a step of that level."""
        place, edges = objective.spread(items, generator), self._edges()
        level = torch.searchsorted(edges, place, right=True).sub(1).clamp(max=len(self.plans) - 1)
        within = (place - edges[level]) / (edges[level + 1] - edges[level])
        lengths = torch.tensor([len(p) for p in self.plans], device="cpu")[level]
        if given is None:
            return {"level": level, "step": (within * lengths).long().clamp(min=0).minimum(lengths - 1)}
        step = torch.zeros_like(level)
        for n, plan in enumerate(self.plans):
            rows = level == n
            live = objective.live_steps(objective.without(plan.when, given[rows]), len(plan))
            count = live.sum(1)
            number = (within[rows] * count).long().clamp(min=0).minimum((count - 1).clamp(min=0))
            step[rows] = (live.cumsum(1) <= number[:, None]).sum(1).clamp(max=len(plan) - 1)
        return {"level": level, "step": step}

    def _edges(self) -> Tensor:
        """(levels + 1,) ascending from 0 to 1: level i takes the draws between edge i and the next."""
        more = len(self.plans) - 1
        first = self.options.first_level if more else 1.0
        edges = [0.0, *(first + (1 - first) * i / max(more, 1) for i in range(more)), 1.0]
        return torch.tensor(edges, dtype=torch.double, device="cpu")

    def score(self, network: Model, batch: Batch) -> Scored:
        """One step of the plan of each level, for the items that drew it."""
        parts, idle = [], []
        for level in range(len(self.plans)):
            rows = (batch.draws["level"] == level).nonzero()[:, 0]
            if len(rows):
                parts.append((rows, self._level(network, level, batch.at(rows))))
            elif self.together:
                idle.append(self._level(network, level, batch.at(rows.new_zeros(1))))
        scored = _in_order(parts)
        if not idle:
            return scored
        nothing = torch.stack([part.sums.sum() for part in idle]).sum() * 0.0  # as many backward passes, too
        return replace(scored, nats=scored.nats + nothing)

    def _level(self, network: Model, level: int, batch: Batch) -> Scored:
        plan = self.plans[level]
        step = batch.draws["step"].clamp(max=len(plan) - 1)
        return objective.plan_step(network, plan, batch.x, step, batch.labels, batch.given)

    def validate(self, network: Model, batch: Batch, generator: torch.Generator) -> Estimate:
        """The exact likelihood along the plan of the first level."""
        plan = self.plans[0].to(batch.x.device)
        plan = plan if batch.given is None else plan.given(batch.given)
        return likelihood.exact(network, plan, batch.x, context=batch.labels)

    def sampling(self) -> tuple[int, str]:
        """Along the first plan."""
        return self.calls, "own"


class Absorbing(AnyOrder):
    """Absorbing diffusion in T steps (D3PM; section 2 and appendix C), validated by the any-order bound, its limit for large T."""

    names = ("absorbing",)
    reads = ("subset", "diffusion_steps")

    @classmethod
    def misfit(cls, model: ModelConfig, order: OrderConfig) -> str:
        """As for all objectives; it also hides only whole values."""
        several = "hides whole values: set model.base to 0" if len(model.digits) > 1 else ""
        return super().misfit(model, order) or several

    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """time in 1..T, and a key in [0, 1) for each site, which is hidden where key < time / T."""
        T = self.options.diffusion_steps
        time = (objective.spread(items, generator) * T).long().clamp(max=T - 1) + 1
        return {"time": time, "key": self._uniform(items, generator)}

    def score(self, network: Model, batch: Batch) -> Scored:
        """One step of the T-step bound."""
        T, subset = self.options.diffusion_steps, self.options.subset or None
        time, key = batch.draws["time"], batch.draws["key"]
        return objective.absorbing_step(network, batch.x, time, T, key, batch.labels, subset, batch.given)

    def observe(self, batch: Batch, scored: Scored) -> Observed:
        """L_t at the number of known sites.  An item without hidden sites scores nothing and does not count."""
        D, stage = math.prod(self.model.shape), torch.zeros_like(scored.hidden)
        whole = (D - scored.hidden).clamp(max=D - 1)
        known = whole if batch.given is None else objective.observed_at(scored.hidden, batch.given)
        return stage, known, finely(scored.sums), scored.symbols


class Causal(Objective):
    """All positions at once, in the model's order or in a random order for each item: the likelihood of a causal model.

    "steps", the default of recipes, also chooses it, since causal models have no other objective.
    """

    names = ("all", "steps")
    causal = True

    @property
    def single(self) -> bool:
        """Whether the model has one order, raster or wavefronts."""
        return self.model.causal in ("single", "wave")

    def draw(self, items: int, generator: torch.Generator, given: Tensor | None = None) -> Draws:
        """rank (items, D), the order of each item; nothing for a model of one order.

        alone (items,) for pictures of several channels along wavefronts: a half of those that are grey train as one plane,
        as a file of one plane is coded, and the others as a picture whose channels are equal.
        """
        if self.single:
            planes = self.model.causal == "wave" and len(self.model.shape) == 3 and self.model.shape[0] > 1
            return {"alone": objective.spread(items, generator) < 0.5} if planes else {}
        D = math.prod(self.model.shape)
        key = torch.rand(items, D, generator=generator, dtype=torch.double, device="cpu")
        return {"rank": objective.ranks_around(key, given)}

    def score(self, network: Model, batch: Batch) -> Scored:
        """−log p(x) along the order of each item."""
        rank, alone = batch.draws.get("rank"), batch.draws.get("alone")
        return objective.causal_step(_causal(network), batch.x, rank, batch.labels, alone, batch.given)

    def validate(self, network: Model, batch: Batch, generator: torch.Generator) -> Estimate:
        """The exact likelihood in the model's order, or the any-order bound from one random order per item."""
        if self.single:
            return likelihood.causal(_causal(network), batch.x, context=batch.labels, given=batch.given)
        return likelihood.causal_bound(_causal(network), batch.x, 1, generator, batch.labels, given=batch.given)

    def sampling(self) -> tuple[int, str]:
        """All of its order for a model of one order."""
        order = "own" if self.model.causal == "wave" else "raster"
        return (len(self.model.digits) * self.model.sites, order) if self.single else super().sampling()


OBJECTIVES: list[type[Objective]] = [AnyOrder, ByRates, AlongPlan, Absorbing, Causal]
"""Every objective.  A recipe gets the first one that has the name it gives and fits its model and order."""


def names() -> tuple[str, ...]:
    """The values of train.objective."""
    return tuple(dict.fromkeys(name for kind in OBJECTIVES for name in kind.names))


def choose(model: ModelConfig, order: OrderConfig, options: Options, together: bool = False) -> Objective:
    """The objective of a recipe.  Raises ArdmError where it does not fit the model or the order."""
    return kind_of(model, order, options)(model, order, options, together)


def kind_of(model: ModelConfig, order: OrderConfig, options: Options) -> type[Objective]:
    """The class of the objective of a recipe, whose model may still lack a shape; raises as `choose` does."""
    named = [kind for kind in OBJECTIVES if options.objective in kind.names]
    for kind in named:
        if not kind.misfit(model, order):
            return kind
    raise ArdmError(f"train.objective {options.objective!r} {named[0].misfit(model, order)}")


class Loss(nn.Module):
    """The network and its objective as one module, so that wrappers for several devices see one forward pass."""

    def __init__(self, network: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = network, objective

    def forward(
        self, x: Tensor, draws: Draws, labels: Tensor | None, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score the fields of a batch; the fields of Scored as a tuple: wrappers look for tensors in both."""
        scored = self.objective.score(self.model, Batch(x, draws, labels, given))
        return scored.nats, scored.sums, scored.symbols, scored.hidden


def _causal(network: Model) -> CausalModel:
    assert isinstance(network, CausalModel)
    return network


def _in_order(parts: list[tuple[Tensor, Scored]]) -> Scored:
    """Items scored in several calls, (rows, scored) each, by row again."""
    order = torch.cat([rows for rows, _ in parts]).argsort()
    fields = ("nats", "sums", "symbols", "hidden")
    return Scored(*(torch.cat([getattr(part, name) for _, part in parts])[order] for name in fields))
