"""What a user asks of a trained model, in one call each: plans, samples, completions, likelihoods."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ardm import likelihood
from ardm.bundle import Bundle
from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.orders import OrderConfig, image_plan
from ardm.plan import AnyPlan, Confident, Plan, shuffled
from ardm.schedule import Schedule
from ardm.source import Draw
from ardm.walk import last, walk


def schedule(bundle: Bundle, calls: int, kind: str = "joint") -> Schedule:
    """How a model best spends `calls` network calls, by dynamic programming over its measured losses (section 3.1).

    kind: "joint" (the budget shared over the stages), "optimal" (the same for each stage, as in the paper) or "uniform".
    Raises ArdmError where the model has no loss curve, or cannot take so few or so many calls.
    """
    if kind not in ("joint", "optimal", "uniform"):
        raise ArdmError(f"a schedule is joint, optimal or uniform; got {kind!r}")
    stages, sites = len(bundle.model.digits), math.prod(bundle.model.shape)
    if not stages <= calls <= stages * sites:
        raise ArdmError(f"this model takes {stages} to {stages * sites} calls; got {calls}")
    if kind == "uniform":
        even = Schedule.uniform(stages, sites, calls)
        return even if bundle.curve is None else even.priced(bundle.curve.monotone())
    if bundle.curve is None:
        raise ArdmError(f"{bundle.name} has no loss curve (it is specialised on one plan); use kind 'uniform'")
    return (Schedule.joint if kind == "joint" else Schedule.optimal)(bundle.curve.monotone(), calls)


def make_plan(
    bundle: Bundle,
    calls: int,
    order: str = "random",
    shape: tuple[int, ...] | None = None,
    generator: torch.Generator | None = None,
    batch: int = 1,
) -> AnyPlan:
    """A plan for items of `shape` (default: the model's own) in about `calls` network calls.

    order: "random", coarsened by the best schedule known; "confident", least entropy first; or the name of an order of
    images ("bayer", "halton", "raster", "wavefront", "checkerboard"), of which sequences have "bayer" and "raster".  A
    specialised model has its own order: "own".
    """
    shape = tuple(shape or bundle.model.shape)
    stages, sites = len(bundle.model.digits), math.prod(shape)
    if order == "own":
        return image_plan(bundle.order, shape, calls, stages)
    if order not in ("random", "confident"):
        if len(shape) not in (1, 3):
            raise ArdmError(f"items of shape {shape} have the orders random and confident; got {order!r}")
        return image_plan(OrderConfig(order, (calls,), cell=max(shape[1:] or shape)), shape, calls, stages)
    best = schedule(bundle, calls, "joint" if bundle.curve is not None else "uniform")
    starts = sorted({start * sites // best.sites for start in best.flat()})  # another size: the same fractions
    if order == "confident":
        return Confident(tuple(starts), sites, stages)
    if generator is None:
        raise ArdmError("a random order needs a generator")
    return shuffled(stages, shape, generator, batch).coarsen(starts)


def generate(
    bundle: Bundle,
    plan: AnyPlan,
    start: Partial,
    generator: torch.Generator,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> Iterator[Partial]:
    """Draw data step by step: yields every intermediate state, for pictures; `.value` of the last is the sample."""
    return walk(bundle.model, plan, Draw(generator, temperature), start, context=context)


def sample(
    bundle: Bundle,
    items: int,
    calls: int = 50,
    order: str = "random",
    seed: int = 0,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> Tensor:
    """New items: (items, *shape) int64, values 0..K−1."""
    generator = torch.Generator().manual_seed(seed)
    plan = make_plan(bundle, calls, order, generator=generator, batch=items if order == "random" else 1)
    start = bundle.model.digits.blank(items, bundle.model.shape)
    return last(generate(bundle, plan, start, generator, temperature, context), start).value


def started(
    bundle: Bundle, x: Tensor, depth: Tensor, calls: int, order: str, generator: torch.Generator
) -> tuple[Partial, AnyPlan]:
    """The state that knows the first `depth` digits of x (both (B, *shape)), and a plan for the rest of it."""
    if x.shape != depth.shape:
        raise ArdmError(f"x and depth must have one shape; got {tuple(x.shape)} and {tuple(depth.shape)}")
    digits = bundle.model.digits
    if x.min() < 0 or x.max() >= digits.classes:
        raise ArdmError(f"values must lie in 0..{digits.classes - 1}; got {int(x.min())}..{int(x.max())}")
    start = digits.truncate(x, depth)
    if order == "confident":
        raise ArdmError("a confident order begins from nothing; fill along a random or an image order")
    plan = make_plan(bundle, calls, order, tuple(x.shape[1:]), generator, len(x) if order == "random" else 1)
    if not isinstance(plan, Plan):
        raise ArdmError(f"order {order!r} cannot be started from a partly known item")
    return start, plan.given(depth[:1] if (depth == depth[:1]).all() else depth)


def fill(
    bundle: Bundle,
    x: Tensor,
    known: Tensor,
    calls: int = 50,
    order: str = "random",
    seed: int = 0,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> Tensor:
    """Complete what is not known: x (B, *shape), known (B, *shape) bool, or int64 depths for bit-depth expansion.

    What is given is never changed.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = known.long() * len(bundle.model.digits) if known.dtype == torch.bool else known
    start, plan = started(bundle, x, depth, calls, order, generator)
    return last(generate(bundle, plan, start, generator, temperature, context), start).value


def score(
    bundle: Bundle,
    x: Tensor,
    calls: int | None = None,
    order: str | None = None,
    seed: int = 0,
    passes: int = 1,
    context: Tensor | None = None,
) -> likelihood.Estimate:
    """Likelihood of x (B, *shape): exact along a plan of `calls`, or the any-order bound where calls is None.

    order: default the model's own plan if it has one, else a random one (exact for that one order).
    """
    generator = torch.Generator().manual_seed(seed)
    if calls is None and not bundle.order.fixed and order is None:
        return likelihood.bound(bundle.model, x, passes, generator, context=context)
    order = order or ("own" if bundle.order.fixed else "random")
    plan = make_plan(bundle, calls or bundle.order.calls[0], order, tuple(x.shape[1:]), generator)
    return likelihood.exact(bundle.model, plan, x, context=context)
