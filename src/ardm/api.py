"""Samples, completions, likelihoods and plans of a trained model, in one call each.

Each function takes a `Bundle` (`ardm.load`) or a bare model (`ardm.wrap`, `ardm.build`), and values as `inputs` converts
them: tensors and arrays of any integer type, with or without a batch.  Results have the shape of the input, in int64.
A budget of more calls than there are digits means one call per digit.  A model whose dropout is on is refused: call
`model.eval()` first.

Everything is computed on the device of the model (`Bundle.to`): states, plans, and random numbers.  Item k of a batch has
random numbers and a random order of its own, which depend on the seed and on k alone (`random_numbers`): two samples are the
first two of four, and a seed gives the same samples on every device, up to the rounding of the network.
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
from ardm.estimate import Estimate
from ardm.model import Model
from ardm.models.causal import CausalModel
from ardm.models.config import ModelConfig
from ardm.models.ending import closed, refuse_open
from ardm.orders import image_plan, named
from ardm.plan import NEVER, AnyPlan, Plan, placed, ranked, raster, wavefront
from ardm.random_numbers import FILLING, Chance, RandomNumbers, chance
from ardm.schedule import Schedule
from ardm.walk import generate as walking
from ardm.walk import last

Array: TypeAlias = Any
"""A tensor or a NumPy array."""
Order: TypeAlias = str | AnyPlan
"""The name of an order, or a plan."""
CALLS = 50
"""The default number of network calls."""
DRAWN = ("random", "rates")
"""Orders that are drawn for each item: all alike, and by the rates of the model."""


def bundle_of(model: Bundle | Model) -> Bundle:
    """Return a bundle unchanged; wrap a bare model as a bundle of any order without losses.

    Raises ArdmError for anything else, and for a model whose dropout is on.
    """
    if isinstance(model, Bundle):
        inputs.refuse_training(model.model)
        return model
    if isinstance(model, Model):
        inputs.refuse_training(model)
        own, K = tuple(model.shape), int(model.digits.classes)
        base = model.digits.base if isinstance(model.digits, Digits) and len(model.digits) > 1 else 0
        return Bundle(model, getattr(model.body, "config", None) or ModelConfig(shape=own, classes=K, base=base))
    hint = f": ardm.load({str(model)!r})" if isinstance(model, (str, os.PathLike)) else ""
    raise ArdmError(f"give a bundle (ardm.load) or a model (ardm.wrap, ardm.build); got {type(model).__name__}{hint}")


def schedule(bundle: Bundle | Model, calls: int, kind: str = "joint") -> Schedule:
    """The best schedule of `calls` network calls, by dynamic programming over the measured losses (section 3.1).

    kind: "joint" (the stages share the budget), "optimal" (the same for each stage, as in the paper) or "uniform".
    Planned on the fitted losses, and priced on the observed ones (`LossCurve.expected`).  In orders by rates the sites of a
    step are not alike, so that the price of several a call is an estimate.
    Raises ArdmError where the model has no loss curve, or one for a different number of sites; where its losses are
    infinite; and for fewer calls than stages or more than digits.
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
    calls: int | None,
    order: Order = "random",
    shape: Sequence[int] | int | None = None,
    generator: Chance | None = None,
    batch: int = 1,
) -> AnyPlan:
    """Plan items of `shape` (default: the model's own) in about `calls` network calls, at most one per digit.

    order: "random", coarsened by the best schedule known; "rates", the same in the orders that a model with rates has
    learned (the default of such a model); "confident", least entropy first, short for `Adaptive()`; "own",
    the order of a specialised model, or the one stored in a model of any order (`ardm plan --orders`); or an order of images (a name in `ranks.RANKS`) or of sequences (in `ranks.LINES`),
    with the same number of calls in every stage; or a plan: an `Adaptive` without a selection gets the best numbers of
    sites for `calls`, any other says itself how many calls it takes, and needs calls=None.
    shape: a number for sequences of that length.  generator: for random orders, `RandomNumbers(seed)`, as in `sample`, or a
    torch.Generator on any device.  batch: the number of items with random orders, or a plan, of their own.
    """
    bundle, calls = bundle_of(bundle), _calls(calls, order)
    sizes = bundle.model.shape if shape is None else (shape,) if isinstance(shape, int) else shape
    own = tuple(inputs.number(n, "a size of shape") for n in sizes)
    oblong = len(own) == 3 and own[1] != own[2] and order != "own"  # a square cell has steps that such an image lacks
    if not isinstance(order, str) or oblong or order in (*DRAWN, "confident", _only(bundle)):
        blank = bundle.model.digits.blank(inputs.number(batch, "batch"), own, _device(bundle)).depth
        return _left(bundle, blank, calls, order, generator)
    stages = len(bundle.model.digits)
    if order == "own":
        return _own(bundle, own, calls).to(_device(bundle))
    config, most = named(order, own, calls), math.prod(own)
    if len(own) == 3:
        most = config.delay * (own[0] - 1) + config.cell**2
    calls = min(calls, stages * most)
    return image_plan(config, own, max(calls - calls % stages, 1), stages).to(_device(bundle))


def _device(bundle: Bundle) -> torch.device:
    """The device of the model; the CPU for a model that has none."""
    return inputs.device_of(bundle.model) or torch.device("cpu")


def _calls(calls: int | None, order: Order) -> int:
    """The number of calls to plan for; 0 for a plan that needs no budget.  Raises ArdmError if one is given anyway."""
    if planning.budgeted(order):
        return inputs.number(calls, "calls")
    if calls:
        raise ArdmError(f"this plan says itself how many calls it takes; leave calls out (got {calls})")
    return 0


def _left(bundle: Bundle, depth: Tensor, calls: int, order: Order, generator: Chance | None) -> AnyPlan:
    """Plan the hidden digits where `depth` (B, *shape) are known, or PADDING, in min(calls, hidden digits) steps per item."""
    stages, shape = len(bundle.model.digits), tuple(depth.shape[1:])
    if order == "confident" or not isinstance(order, str):
        curve = losses(bundle) if planning.budgeted(order) else None
        return planning.fitted(order, depth, stages, calls, curve)
    known = depth[:1] if (depth == depth[:1]).all() else depth
    if order == _only(bundle):
        return _whole(bundle, known, calls)
    if order == "own":
        return _own(bundle, shape, calls).to(depth.device).given(known)
    if order not in DRAWN:
        return planning.ordered(named(order, shape, calls), depth, stages, calls)
    if generator is None:
        raise ArdmError("a random order needs a generator: torch.Generator().manual_seed(0)")
    share = planning.shares(losses(bundle), math.prod(shape), calls)
    return planning.random(depth, stages, share, chance(generator), _rates(bundle, order))


def _own(bundle: Bundle, shape: tuple[int, ...], calls: int) -> Plan:
    """The order that a model was trained on; or that stored in one of any order, by the best schedule of the calls."""
    stages = len(bundle.model.digits)
    if bundle.ranks is None:
        return image_plan(bundle.order, shape, calls, stages)
    if shape != tuple(bundle.model.shape):
        raise ArdmError(f"the stored order of {bundle.name} is for items {tuple(bundle.model.shape)}; got {shape}")
    steps = schedule(bundle, min(calls, bundle.longest), "uniform" if bundle.curve is None else "joint")
    return ranked(torch.from_numpy(bundle.ranks).flatten(), shape, stages).coarsen(steps.flat())


def _rates(bundle: Bundle, order: str) -> Tensor | None:
    """The rates by which an order is drawn; None for "random".  Raises ArdmError for a model that has none."""
    if order == "rates" and bundle.model.rates is None:
        raise ArdmError(f"{bundle.name} has no rates: train them with model.rates=true, or use the order random")
    return None if order == "random" else bundle.model.rates


def drawn(bundle: Bundle) -> str:
    """The order of an any-order model that nobody names another for."""
    return "random" if bundle.model.rates is None else "rates"


def losses(bundle: Bundle) -> Any:
    """(S, D): the fitted losses of a model, for planning; None without them."""
    return None if bundle.curve is None else bundle.curve.monotone()


def _whole(bundle: Bundle, known: Tensor, calls: int) -> Plan:
    """The only order of a model, where it begins with `known` (1 or B, *shape)."""
    shape, single = known.shape[1:], bundle.config.causal == "single"
    full = (raster(1, shape) if single else wavefront(shape)).to(known.device)
    _refuse_behind(bundle, known, full)
    plan = full.given(known)
    if calls < len(plan):
        number = f"{'one call per site, ' * single}{len(plan)}{' calls' * (not single)}"
        raise ArdmError(f"{bundle.name} has a single order, which takes {number}; got {calls}")
    return plan


def _refuse_behind(bundle: Bundle, known: Tensor, plan: Plan) -> None:
    """Raise ArdmError where something is known behind a hidden site: a model of a single order could not look at it."""
    when, hidden = plan.when[:, 0], known == 0
    first = when.masked_fill(~hidden, NEVER).flatten(1).min(1).values.view(-1, *[1] * (when.ndim - 1))
    if ((known > 0) & (when > first)).any():
        fitting = bundle.config.shape[:1] == (3,) and bundle.config.classes == 256
        raise ArdmError(
            f"{bundle.name} has one order and ignores what is known behind a hole: "
            f"fill with a model of any order{', such as cifar10-any-order' * fitting}"
        )


def generate(
    bundle: Bundle | Model,
    plan: AnyPlan,
    start: Partial,
    generator: Chance,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Partial]:
    """Draw data step by step, yielding the state after every step; `.value` of the last one is the sample.

    generator: `RandomNumbers(seed)`, as in `sample`, or a torch.Generator on any device.  temperature, top_k, top_p: see
    `source.Draw`.  An item with an end is over when everything before it is known, and what is behind it stays hidden.
    """
    bundle = bundle_of(bundle)
    if bundle.config.end:
        plan = planning.UntilEnd(placed(plan, _device(bundle)), bundle.config.classes - 1)
    return walking(bundle.model, plan, start, generator, temperature, context, top_k, top_p)


def _only(bundle: Bundle) -> str | None:
    """The name of the only order of a causal model; None for a model of any order."""
    return {"single": "raster", "wave": "own"}.get(bundle.config.causal)


def budget(bundle: Bundle, calls: int | None, order: Order | None, sites: int = 0) -> tuple[int, Order]:
    """Fill in calls and order: the model's own; as many calls as a single order takes; else 50 calls in drawn orders.

    sites: of an item; 0: those of the model's items.  0 calls: as many as a plan takes that says so itself.
    """
    usual = "own" if bundle.order.fixed else _only(bundle) or drawn(bundle)
    chosen = usual if order is None else order
    if calls is not None or not planning.budgeted(chosen):
        return _calls(calls, chosen), chosen
    if chosen == "own" and bundle.order.fixed:
        return bundle.order.calls[0], chosen
    return (sites or bundle.longest) if chosen == _only(bundle) else CALLS, chosen


def sample(
    bundle: Bundle | Model,
    items: int,
    calls: int | None = None,
    order: Order | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first: int = 0,
) -> Tensor:
    """Draw new items: (items, *shape) int64, values 0..K−1, on the device of the model.

    calls: at most; default 50, or those of a specialised model.  order: a name or a plan, see `make_plan`; default the
    model's own, else drawn for each item.  A causal model of a single order takes by default "raster", one call per site, or its
    wavefronts, "own".  Behind the first end of an item everything is the end, if the model knows an end.
    context: a class label (or one per item), or vectors (items, V).
    temperature, top_k, top_p: which digits are drawn, see `source.Draw`; samples follow the model where they are left out.
    first: the number of the first item, to draw many in several calls: items 2 and 3 of four are `sample(model, 2, first=2)`.
    """
    bundle, items = bundle_of(bundle), inputs.number(items, "items")
    calls, order = budget(bundle, calls, order)
    generator = RandomNumbers(seed, first)
    plan = make_plan(bundle, calls, order, generator=generator, batch=rows(order, items))
    start = bundle.model.digits.blank(items, bundle.model.shape, _device(bundle))
    context = inputs.context(context, items)
    return in_closed_form(
        bundle, last(generate(bundle, plan, start, generator, temperature, context, top_k, top_p), start).value
    )


def in_closed_form(bundle: Bundle, x: Tensor) -> Tensor:
    """Items (B, *shape), of a model whose items have an end in their closed form: a parallel step may put symbols behind it."""
    return closed(x, bundle.config.classes - 1) if bundle.config.end else x


def rows(order: Order, items: int) -> int:
    """The number of items to plan for: all if each may have a plan of its own, otherwise one."""
    return items if order in DRAWN or not isinstance(order, str) else 1


def started(
    bundle: Bundle | Model,
    x: Array,
    known: Array,
    calls: int | None,
    order: Order,
    generator: Chance,
    padding: Array | None = None,
) -> tuple[Partial, AnyPlan]:
    """The state in which x (B, *shape) is known at the sites of `known`, and a plan for the rest of each item.

    known, padding: see `fill`.  Every plan for a number of calls but a model's own has min(calls, hidden digits)
    steps.
    """
    bundle, calls = bundle_of(bundle), _calls(calls, order)
    x = _fitting(bundle, inputs.items(x, bundle.model))
    if known is None:
        raise ArdmError(
            "known says what stays: a mask, or how many digits; ardm.sample draws items of which nothing is known"
        )
    depth = inputs.beforehand(x, bundle.model, known, padding, "known")
    assert depth is not None
    if bundle.config.end:
        refuse_open(x, bundle.config.classes - 1, "x", depth > 0)
    return bundle.model.digits.truncate(x, depth.clamp(min=0)), _left(bundle, depth, calls, order, generator)


def _fitting(bundle: Bundle, x: Tensor) -> Tensor:
    """Return x; raise ArdmError if the model takes items of one size only and these have another."""
    own = tuple(bundle.model.shape)
    if tuple(x.shape[1:]) != own and bundle.config.trunk in ("unet", "mlp"):
        raise ArdmError(f"{bundle.name} takes items of shape {own} only; got {tuple(x.shape[1:])}: crop or pad them")
    return x


def fill(
    bundle: Bundle | Model,
    x: Array,
    known: Array,
    calls: int | None = None,
    order: Order | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    padding: Array | None = None,
) -> Tensor:
    """Complete x (B, *shape), or one item, where it is not known; the result has its shape, in int64, on its device.

    known: of the shape of x, or of one item for all: a mask of bool (or of uint8, 0 and 1), or integers of another type
    that count the known digits of each site, for bit-depth expansion, −1 where it is padding.  Known values never change.
    Unknown values of x must be valid, and are ignored.
    padding: the sites that are left as they are without being known, a mask or lengths, see `score`.
    calls, order, temperature, context, top_k, top_p: see `sample`.  Each item takes min(calls, its hidden digits) steps,
    planned for what is known of it; only a model's own order keeps the steps that it was trained on.
    seed: x may be samples of the same seed; completions of completions need another one.
    """
    bundle = bundle_of(bundle)
    sites = inputs.items(x, bundle.model, lazy=True)[0].numel()
    calls, order = budget(bundle, calls, order, sites)
    generator = RandomNumbers(seed).child(FILLING)
    start, plan = started(bundle, x, known, calls, order, generator, padding)
    context = inputs.context(context, start.batch)
    done = in_closed_form(
        bundle, last(generate(bundle, plan, start, generator, temperature, context, top_k, top_p), start).value
    )
    kept = inputs.items(x, bundle.model)
    known = inputs.beforehand(kept, bundle.model, known, padding, "known")
    done = done if known is None else torch.where(known == inputs.PADDING, kept, done)
    done = done.to(x.device) if isinstance(x, Tensor) else done
    return done[0] if inputs.single(x, bundle.model) else done


def score(
    bundle: Bundle | Model,
    x: Array,
    calls: int | None = None,
    order: Order | None = None,
    seed: int = 0,
    passes: int = 1,
    context: Array | None = None,
    given: Array | None = None,
    padding: Array | None = None,
) -> Estimate:
    """The likelihood of x (B, *shape) or of one item: exact along a plan of `calls`; without calls, the any-order bound, over
    the orders that a model with rates has learned.

    order: a name or a plan, see `make_plan`; default the model's own plan, else a random one (exact for that one order).
    Along an adaptive plan the likelihood is exact too.  A causal model of a single order
    is scored exactly, in one pass per item (`likelihood.causal`).  passes: random steps per item of the bound.
    given: what is known beforehand, a mask or depths as `known` of `fill`.  padding: the sites that are neither known nor
    predicted: a mask of bool of the shape of x, or of one item, true where they are; or integers, the lengths (B,) of
    sequences.  The likelihood is that of the other sites, given these and their number, and these alone are counted.
    """
    bundle, passes = bundle_of(bundle), inputs.number(passes, "passes")
    generator = inputs.seeded(seed, _device(bundle))
    x = _fitting(bundle, inputs.items(x, bundle.model))
    context = inputs.context(context, len(x))
    known = inputs.beforehand(x, bundle.model, given, padding)
    if bundle.config.end:
        refuse_open(x, bundle.config.classes - 1, "x", None if known is None else known != inputs.PADDING)
    usual = calls is None and order is None and not bundle.order.fixed
    if usual and isinstance(bundle.model, CausalModel) and bundle.model.single:
        return likelihood.causal(bundle.model, x, context=context, given=known)
    if usual and _only(bundle) is None:
        return likelihood.bound(bundle.model, x, passes, generator, known, context, rates=bundle.model.rates)
    order = _only(bundle) if usual else order
    if calls is None and planning.budgeted(order) and order != _only(bundle):
        calls = bundle.order.calls[0]
    calls, order = budget(bundle, calls, order, x[0].numel())
    if known is None:
        plan = make_plan(bundle, calls, order, tuple(x.shape[1:]), generator, 1 if isinstance(order, str) else len(x))
        return likelihood.exact(bundle.model, plan, x, context=context)
    plan = _left(bundle, known, calls, order, generator)
    start = None if isinstance(plan, Plan) else bundle.model.digits.truncate(x, known.clamp(min=0))
    return likelihood.exact(bundle.model, plan, x, start, context=context)


def bf16_loss(bundle: Bundle | Model, x: Array, seed: int = 0, **options: Any) -> tuple[float, float]:
    """What a network loses by multiplying in bfloat16, on x (B, *shape): bits per dimension, and their standard error.

    Both precisions are scored at the same random steps and orders, so that only rounding differs.  options: of `score`.
    Below `bundle.LITTLE`, with "bf16_loss" on the card, `Bundle.with_precision("auto")` chooses bf16 where it is faster.
    """
    bundle = bundle_of(bundle)
    fine, rough = (score(bundle.with_precision(p), x, seed=seed, **options) for p in ("float32", "bf16"))
    lost = rough.less(fine)
    return lost.bits_per_dim, lost.bits_per_dim_error
