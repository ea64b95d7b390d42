"""What a user asks of a trained model, in one call each: plans, samples, completions, likelihoods.

Each takes a `Bundle` (`ardm.load`) or a bare model (`ardm.wrap`, `ardm.build`), and values as `inputs` converts them:
tensors and arrays of any integer type, with or without a batch.  What comes back has the shape that came in, as int64.
Calls beyond one a digit are taken as one a digit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ardm import inputs, likelihood, planning
from ardm.bundle import Bundle
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.model import Model
from ardm.models.causal import CausalModel
from ardm.models.config import ModelConfig
from ardm.orders import OrderConfig, image_plan
from ardm.plan import AnyPlan, raster
from ardm.schedule import Schedule
from ardm.source import Draw
from ardm.walk import last, walk

Array: TypeAlias = Any
"""A tensor or a NumPy array."""
CALLS = 50
"""Network calls where none are asked for, or as many as there are digits."""


def bundle_of(model: Bundle | Model) -> Bundle:
    """A bare model as a bundle of any order, without losses; a bundle as it is.  Raises ArdmError for anything else."""
    if isinstance(model, Bundle):
        return model
    if isinstance(model, Model):
        own, K = tuple(model.shape), int(model.digits.classes)
        base = model.digits.base if isinstance(model.digits, Digits) and len(model.digits) > 1 else 0
        return Bundle(model, getattr(model.body, "config", None) or ModelConfig(shape=own, classes=K, base=base))
    hint = f": ardm.load({str(model)!r})" if isinstance(model, (str, os.PathLike)) else ""
    raise ArdmError(f"give a bundle (ardm.load) or a model (ardm.wrap, ardm.build); got {type(model).__name__}{hint}")


def schedule(bundle: Bundle | Model, calls: int, kind: str = "joint") -> Schedule:
    """How a model best spends `calls` network calls, by dynamic programming over its measured losses (section 3.1).

    kind: "joint" (the budget shared over the stages), "optimal" (the same for each stage, as in the paper) or "uniform".
    Planned on the fitted losses, and priced on those observed (`LossCurve.expected`).
    Raises ArdmError where the model has no loss curve or one of another number of sites, where its losses are infinite,
    and where it cannot take so few or so many calls.
    """
    if kind not in ("joint", "optimal", "uniform"):
        raise ArdmError(f"a schedule is joint, optimal or uniform; got {kind!r}")
    bundle, calls = bundle_of(bundle), inputs.number(calls, "calls")
    stages, sites = len(bundle.model.digits), math.prod(bundle.model.shape)
    if not stages <= calls <= stages * sites:
        raise ArdmError(f"this model takes {stages} to {stages * sites} calls; got {calls}")
    if bundle.curve is not None and bundle.curve.sites != sites:
        raise ArdmError(
            f"{bundle.name} has {sites} sites, and its loss curve {bundle.curve.sites}: measure one with likelihood.curve"
        )
    if kind == "uniform":
        even = Schedule.uniform(stages, sites, calls)
        return even if bundle.curve is None else even.priced(bundle.curve.expected())
    if bundle.curve is None:
        why = "it is specialised on one plan" if bundle.order.fixed else "likelihood.curve measures one"
        raise ArdmError(f"{bundle.name} has no loss curve ({why}); use kind 'uniform'")
    made = (Schedule.joint if kind == "joint" else Schedule.optimal)(bundle.curve.monotone(), calls)
    return made.priced(bundle.curve.expected())


def make_plan(
    bundle: Bundle | Model,
    calls: int,
    order: str = "random",
    shape: Sequence[int] | int | None = None,
    generator: torch.Generator | None = None,
    batch: int = 1,
) -> AnyPlan:
    """A plan for items of `shape` (default: the model's own) in about `calls` network calls, at most one a digit.

    shape: a number for lines of that length.
    order: "random", coarsened by the best schedule known; "confident", least entropy first; or the name of an order of
    images ("bayer", "halton", "raster", "wavefront", "checkerboard"), of which sequences have "bayer" and "raster".  A
    specialised model has its own order: "own".  An order of images has the same number of calls in every stage.
    """
    bundle, calls = bundle_of(bundle), inputs.number(calls, "calls")
    sizes = bundle.model.shape if shape is None else (shape,) if isinstance(shape, int) else shape
    own = tuple(inputs.number(n, "a size of shape") for n in sizes)
    if order in ("random", "confident") or (order == "raster" and _single(bundle)):
        blank = torch.zeros(inputs.number(batch, "batch"), *own, dtype=torch.long, device="cpu")
        return _left(bundle, blank, calls, order, generator)
    stages = len(bundle.model.digits)
    if order == "own":
        return image_plan(bundle.order, own, calls, stages)
    config, most = _named(order, own, calls), math.prod(own)
    if len(own) == 3:
        most = config.delay * (own[0] - 1) + config.cell**2
    calls = min(calls, stages * most)
    return image_plan(config, own, max(calls - calls % stages, 1), stages)


def _named(order: str, shape: tuple[int, ...], calls: int) -> OrderConfig:
    """An order of images or sequences by name, for items of one shape."""
    if len(shape) not in (1, 3):
        raise ArdmError(f"items of shape {shape} have the orders random and confident; got {order!r}")
    return OrderConfig(order, (calls,), cell=max(shape[1:] or shape))


def _left(bundle: Bundle, depth: Tensor, calls: int, order: str, generator: torch.Generator | None) -> AnyPlan:
    """A plan for what is hidden where `depth` (B, *shape) digits are known: for each item min(calls, hidden digits) steps."""
    stages, shape = len(bundle.model.digits), tuple(depth.shape[1:])
    if order == "own":
        plan = image_plan(bundle.order, shape, calls, stages)
        return plan.given(depth[:1] if (depth == depth[:1]).all() else depth)
    if _single(bundle) and order == "raster":
        hidden = int((depth == 0).flatten(1).sum(1).max())
        if calls < hidden:
            raise ArdmError(f"{bundle.name} is of a single order, which takes one call a site, {hidden}; got {calls}")
        return raster(stages, shape).given(depth)
    if order not in ("random", "confident"):
        return planning.ordered(_named(order, shape, calls), depth, stages, calls)
    curve = None if bundle.curve is None else bundle.curve.monotone()
    share = planning.shares(curve, math.prod(shape), calls)
    if order == "confident":
        return planning.confident(depth, stages, share)
    if generator is None:
        raise ArdmError("a random order needs a generator: torch.Generator().manual_seed(0)")
    return planning.random(depth, stages, share, inputs.generator(generator))


def generate(
    bundle: Bundle | Model,
    plan: AnyPlan,
    start: Partial,
    generator: torch.Generator,
    temperature: float = 1.0,
    context: Array | None = None,
) -> Iterator[Partial]:
    """Draw data step by step: yields every intermediate state, for pictures; `.value` of the last is the sample."""
    return walk(bundle_of(bundle).model, plan, Draw(generator, temperature), start, context=context)


def _single(bundle: Bundle) -> bool:
    """Whether a model knows raster order alone, a site a call."""
    return bundle.config.causal == "single"


def budget(bundle: Bundle, calls: int | None, order: str | None, sites: int = 0) -> tuple[int, str]:
    """Calls and order: as asked, or the model's own, or 50 in random orders; of a single order, one a site of `sites`.

    sites: of an item; 0: as many as the model's.
    """
    usual = "own" if bundle.order.fixed else "raster" if _single(bundle) else "random"
    chosen = usual if order is None else order
    if calls is not None:
        return inputs.number(calls, "calls"), chosen
    if chosen == "own" and bundle.order.fixed:
        return bundle.order.calls[0], chosen
    return (sites or bundle.longest) if chosen == "raster" and _single(bundle) else CALLS, chosen


def sample(
    bundle: Bundle | Model,
    items: int,
    calls: int | None = None,
    order: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
) -> Tensor:
    """New items: (items, *shape) int64, values 0..K−1, on the device of the model.

    calls: at most; default: 50, or as many as a specialised model takes.  order: as of `make_plan`; default: the model's
    own if it has one, else random.  A causal model of a single order takes "raster", one call a site, by default.
    context: a class label (or one an item), or vectors (items, V).
    """
    bundle, items = bundle_of(bundle), inputs.number(items, "items")
    calls, order = budget(bundle, calls, order)
    generator = inputs.seeded(seed)
    plan = make_plan(bundle, calls, order, generator=generator, batch=items if order == "random" else 1)
    start = bundle.model.digits.blank(items, bundle.model.shape, inputs.device_of(bundle.model))
    context = inputs.context(context, items)
    return last(generate(bundle, plan, start, generator, temperature, context), start).value


def started(
    bundle: Bundle | Model, x: Array, known: Array, calls: int, order: str, generator: torch.Generator
) -> tuple[Partial, AnyPlan]:
    """The state in which x (B, *shape) is known where `known` says so, and a plan for the rest of each item.

    known: a mask, or int64 depths, as of `fill`.  A plan that is no model's own has min(calls, hidden digits) steps.
    """
    bundle, calls = bundle_of(bundle), inputs.number(calls, "calls")
    x = _fitting(bundle, inputs.items(x, bundle.model))
    depth = inputs.depths(known, x, bundle.model.digits)
    inputs.columns(x, depth > 0, bundle.model)
    return bundle.model.digits.truncate(x, depth), _left(bundle, depth, calls, order, generator)


def _fitting(bundle: Bundle, x: Tensor) -> Tensor:
    """Items of the one size that a model takes, where it takes no other."""
    own = tuple(bundle.model.shape)
    if tuple(x.shape[1:]) != own and bundle.config.trunk in ("unet", "mlp"):
        raise ArdmError(f"{bundle.name} takes items of shape {own} only; got {tuple(x.shape[1:])}: crop or pad them")
    return x


def fill(
    bundle: Bundle | Model,
    x: Array,
    known: Array,
    calls: int | None = None,
    order: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
) -> Tensor:
    """Complete what is not known: x (B, *shape) or one item; what comes back has its shape, in int64, on its device.

    known: of the shape of x, or of one item for all: a mask of bool (or of uint8, 0 and 1), or integers of another type
    that count the known digits of each site, for bit-depth expansion.  What is given is never changed; values of x at
    sites that are not known have to be valid, and are not looked at.
    calls, order, context: as of `sample`.  Each item takes min(calls, its hidden digits) steps, planned for what is
    known of it; only a model's own order keeps the steps that it was trained on.
    """
    bundle = bundle_of(bundle)
    sites = inputs.items(x, bundle.model, lazy=True)[0].numel()
    calls, order = budget(bundle, calls, order, sites)
    generator = inputs.seeded(seed)
    start, plan = started(bundle, x, known, calls, order, generator)
    context = inputs.context(context, start.batch)
    done = last(generate(bundle, plan, start, generator, temperature, context), start).value
    done = done.to(x.device) if isinstance(x, Tensor) else done
    return done[0] if inputs.single(x, bundle.model) else done


def score(
    bundle: Bundle | Model,
    x: Array,
    calls: int | None = None,
    order: str | None = None,
    seed: int = 0,
    passes: int = 1,
    context: Array | None = None,
) -> likelihood.Estimate:
    """Likelihood of x (B, *shape): exact along a plan of `calls`, or the any-order bound where calls is None.

    order: default the model's own plan if it has one, else a random one (exact for that one order).  A causal model of a
    single order is scored exactly, in one pass an item (`likelihood.causal`).  One item without a batch has an estimate
    of one item.
    """
    bundle, passes = bundle_of(bundle), inputs.number(passes, "passes")
    generator = inputs.seeded(seed)
    x = _fitting(bundle, inputs.items(x, bundle.model))
    context = inputs.context(context, len(x))
    usual = calls is None and order is None and not bundle.order.fixed
    if usual and isinstance(bundle.model, CausalModel) and bundle.model.single:
        return likelihood.causal(bundle.model, x, context=context)
    if usual:
        return likelihood.bound(bundle.model, x, passes, generator, context=context)
    if calls is None and not (order == "raster" and _single(bundle)):
        calls = bundle.order.calls[0]
    calls, order = budget(bundle, calls, order, x[0].numel())
    plan = make_plan(bundle, calls, order, tuple(x.shape[1:]), generator)
    return likelihood.exact(bundle.model, plan, x, context=context)
