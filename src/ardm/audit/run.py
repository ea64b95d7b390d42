"""The audit of a model: every figure on the same items, what they cost, how calibrated it is, and whether it is sound.

Items, plans and steps come from one seed.  A figure is a mean over items with its standard error; its calls are the network
calls that computing it takes for an item.  Adaptive plans are scored and coded as any other, through `likelihood.exact` and
`walk`.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ardm import api, inputs, likelihood
from ardm.audit import checks as tests
from ardm.audit.calibration import calibration
from ardm.audit.claims import every
from ardm.audit.coding import by_codec, coded
from ardm.audit.moments import moments
from ardm.audit.results import Budget, Check, Figure, Reliability, Report
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.model import ScoresAll
from ardm.plan import AnyPlan, Plan

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called with what is being done, how much is done, and how much there is."""
BUDGETS = (2, 5, 10, 20, 50, 100)
"""Default numbers of calls whose planned cost is compared with the measured one."""
SLACK = 0.01
"""How much longer a stream may be than its figure, because frequencies are integers: a share, and bits of a digit."""
ORDERS = {"random": "random orders", "rates": "orders by rates"}
"""What drawn orders are called."""
UNITS = {"image": ("image", "dim"), "audio": ("sound", "sample"), "table": ("row", "cell"), "text": ("text", "byte")}
"""What an item and a value are called."""


def report(
    model: Any,
    x: Any,
    *,
    calls: int | None = None,
    order: Any = None,
    seed: int = 0,
    passes: int = 8,
    plans: int = 4,
    budgets: Sequence[int] | int | None = None,
    streams: int = 4,
    states: int = 256,
    context: Any = None,
    codec: str | Path | None = None,
    decode: Callable[[list[int]], str] | None = None,
    data: str = "",
    progress: Progress = lambda what, done, total: None,
    text_bytes: int = 0,
) -> Report:
    """Audit a model (a bundle, or one made by `ardm.wrap` or `ardm.build`) on items x (B, *shape).

    calls, order: the sampler's plan, as in `ardm.sample`.  passes: random steps per item of the bound.  plans: random
    orders of the multi-order bound.  budgets: numbers of calls whose planned cost is measured; default those of 2, 5, 10,
    20, 50 and 100 that items have.  streams: items that are encoded and decoded.  states: moments at which calibration is
    measured.  context: as in `ardm.score`.  codec: an exported codec model, whose streams are measured too.
    decode: from the ids of an item to its text, for bits a byte; text_bytes: or the bytes of all items together.  data: the name of the data, for the record.
    Without a loss curve, one is measured on the first half of the items, and budgets on the second.
    Raises ArdmError for items of another shape, floats, and numbers out of range.
    """
    bundle = api.bundle_of(model)
    found = inputs.items(x, bundle.model)
    if tuple(found.shape[1:]) != tuple(bundle.model.shape):
        raise ArdmError(f"an audit takes items of shape {tuple(bundle.model.shape)}; got {tuple(found.shape[1:])}")
    side = inputs.context(context, len(found), found.device)
    if decode is not None and not callable(decode):
        raise ArdmError(f"decode is a function from the ids of an item to its text; got {decode!r:.40}")
    counts = {"passes": passes, "plans": plans, "streams": streams, "states": states}
    numbers = {name: inputs.number(value, name) for name, value in counts.items()}
    subject = _Subject(bundle, found, side, inputs.seeded(seed), calls, order)
    given = [budgets] if isinstance(budgets, int) else budgets
    wanted = _budgets(subject) if given is None else [inputs.number(n, "budgets: calls") for n in given]
    progress("bounds", 0, 4)
    figures = _bounds(subject, passes, plans)
    progress("streams", 1, 4)
    streamed, stream_checks = _streams(subject, streams, codec)
    figures = _counted(figures, streamed)
    progress("budgets", 2, 4)
    measured = _measured(subject, wanted, passes)
    progress("calibration", 3, 4)
    reliability, state_checks = _seen(subject, states)
    about = _about(model, subject, seed, data) | numbers
    item, dim = _units(model, subject)
    return Report(
        about, _sites(bundle.model, found), item, dim, text_bytes / len(found) if text_bytes else _bytes(subject, dim, decode),
        (*figures, *streamed), tuple(measured), reliability, (*state_checks, *stream_checks),
    )  # fmt: skip


@dataclass(frozen=True)
class _Subject:
    """A model with the items that it is audited on, and the plan of its sampler."""

    bundle: Any
    x: Tensor
    context: Tensor | None
    generator: torch.Generator
    calls: int | None
    order: Any

    @property
    def one_order(self) -> bool:
        """Whether the model knows one plan only."""
        return bool(self.bundle.order.fixed or self.dense or self.bundle.config.causal in ("single", "wave"))

    @property
    def dense(self) -> bool:
        """Whether it is an autoregressive model of one order, scored in one pass."""
        return bool(getattr(self.bundle.model, "single", False))

    def plan(self, batch: int) -> AnyPlan:
        """The plan that sampling `batch` items follows."""
        calls, order = api.budget(self.bundle, self.calls, self.order, self.x[0].numel())
        return self.planned(calls, order, batch)

    def planned(self, calls: int, order: Any, batch: int) -> AnyPlan:
        """A plan of a budget."""
        return api.make_plan(self.bundle, calls, order, tuple(self.x.shape[1:]), self.generator, batch)

    def exact(self, plan: AnyPlan, x: Tensor, context: Tensor | None) -> Estimate:
        """−log p of items along a plan; of an autoregressive model of one order, in one pass."""
        if self.dense:
            return likelihood.causal(self.bundle.model, x, context=context)
        return likelihood.exact(self.bundle.model, plan, x, context=context)

    def figure(self, name: str, found: Estimate, calls: float, plan: str, kind: str = "") -> Figure:
        """An estimate as a figure."""
        kind = kind or ("bound" if found.is_bound else "exact")
        items = len(found.nats)
        return Figure(
            name, kind, float(found.nats.mean()), found.error_nats, items, calls, plan, found.dims / items,
            found.bits_per_dim_error,
        )  # fmt: skip

    @property
    def drawn(self) -> str:
        """The order of random plans: "rates" for a model that has learned some, unless random ones are asked for."""
        return "random" if self.order == "random" else api.drawn(self.bundle)

    @property
    def named(self) -> str:
        """The order of the sampler, in words."""
        order = api.budget(self.bundle, self.calls, self.order, self.x[0].numel())[1]
        return order if isinstance(order, str) else type(order).__name__


def _steps(plan: AnyPlan) -> float:
    """The number of calls of a plan; NaN where only a walk can say it."""
    return float(len(plan)) if isinstance(plan, Sized) else math.nan


# --- figures --------------------------------------------------------------------------------------------------------


def _bounds(subject: _Subject, passes: int, plans: int) -> list[Figure]:
    """The any-order and the multi-order bound, and the exact figure along the sampler's plan."""
    x, context = subject.x, subject.context
    figures = []
    if not subject.one_order:
        figures.append(_any_order(subject, passes))
    own = subject.plan(len(x))
    if not subject.one_order:
        figures.append(_multi_order(subject, own, plans))
    said = f"{subject.named}, {_steps(own):.0f} calls" if isinstance(own, Sized) else subject.named
    found = subject.exact(own, x, context)
    figures.append(subject.figure("exact along the plan", found, 1.0 if subject.dense else _steps(own), said))
    return figures


def _any_order(subject: _Subject, passes: int) -> Figure:
    """The bound of random orders, or of those that the model has learned."""
    model, x, generator = subject.bundle.model, subject.x, subject.generator
    if isinstance(model, ScoresAll):
        found = likelihood.causal_bound(model, x, passes, generator, context=subject.context)
    else:
        rates = model.rates if subject.drawn == "rates" else None
        found = likelihood.bound(model, x, passes, generator, context=subject.context, rates=rates)
    return subject.figure("any-order bound", found, passes, f"{ORDERS[subject.drawn]}, one call a value")


def _multi_order(subject: _Subject, own: AnyPlan, plans: int) -> Figure:
    """The importance-weighted bound: of orders as the sampler draws them, or of as many calls as it takes, or 50."""
    x, drawn = subject.x, subject.named in api.DRAWN
    order, least = subject.named if drawn else subject.drawn, len(subject.bundle.model.digits)
    known = len(own) if isinstance(own, Plan) else subject.calls or api.CALLS
    calls = min(max(known, least), least * x[0].numel())
    many = [own if drawn and not k else subject.planned(calls, order, len(x)) for k in range(plans)]
    found = likelihood.mixture(subject.bundle.model, many, x, context=subject.context)
    return subject.figure("multi-order bound", found, plans * calls, f"{plans} {ORDERS[order]} of {calls} calls")


def _counted(figures: list[Figure], streamed: list[Figure]) -> list[Figure]:
    """The figures along an adaptive plan with the calls that its walk took, of the item that takes most."""
    walked = next((f.calls for f in streamed if f.name == "coded by the model"), math.nan)
    return [replace(f, calls=walked) if math.isnan(f.calls) else f for f in figures]


def _streams(subject: _Subject, count: int, codec: str | Path | None) -> tuple[list[Figure], list[Check]]:
    """Coded figures, by the model itself and by its codec model, and whether both decode."""
    x, context = subject.x[:count], None if subject.context is None else subject.context[:count]
    plan, name = subject.plan(len(x)), "a stream decodes to the items"
    figures: list[Figure] = []
    try:
        found = coded(subject.bundle.model, plan, x, context)
    except ArdmError as error:
        checks = [Check(name, None, f"not coded: {error}")]
    else:
        nats = 8 * found.bytes * math.log(2) / len(x)
        said = f"{subject.named}, one stream of {found.bytes} bytes"
        sites = _sites(subject.bundle.model, x)
        figures.append(
            Figure("coded by the model", "coded", nats, math.nan, len(x), found.calls, said, sites, math.nan)
        )
        bits = float(subject.exact(plan, x, context).nats.sum()) / math.log(2)
        checks = [
            _decoded(name, found.restored, len(x)),
            _honest(found.bits, bits, x.numel() * len(subject.bundle.model.digits), len(x)),
        ]
    if codec is not None:
        nats_each, calls, same = by_codec(codec, subject.x)
        zeros, counted = torch.zeros_like(nats_each), _counted_sites(subject.bundle.model, subject.x)
        made = Estimate(nats_each, zeros, "coded", subject.x[0].numel(), counted=counted)
        said = f"{Path(codec).name}, a stream for each item"
        figures.append(subject.figure("coded by the codec model", made, calls or math.nan, said, "coded"))
        checks.append(_decoded("streams of the codec model decode", same, len(subject.x)))
    return figures, checks


def _decoded(name: str, restored: bool, items: int) -> Check:
    said = "other values come out: the prediction depends on something that a decoder does not have"
    return Check(name, restored, f"{items} item{'s' * (items > 1)}, every value" if restored else said)


def _honest(stream: float, claimed: float, digits: int, items: int) -> Check:
    """Whether a figure is as long as the stream that it promises."""
    said = f"{stream:.1f} bits coded, {claimed:.1f} bits by the figure, {items} item{'s' * (items > 1)}"
    short = stream > claimed + SLACK * (claimed + digits)
    return Check("figures are code lengths", not short, f"{said}: the figure is too low" if short else said)


# --- budgets and calibration ----------------------------------------------------------------------------------------


def _budgets(subject: _Subject) -> list[int]:
    """Budgets that items of the model have steps for; none for a model of one order."""
    least, most = len(subject.bundle.model.digits), len(subject.bundle.model.digits) * subject.x[0].numel()
    return [] if subject.one_order else [n for n in BUDGETS if least <= n <= most] or [least]


def _measured(subject: _Subject, budgets: Iterable[int], passes: int) -> list[Budget]:
    """What each budget costs by the plan and on the items, each in a random order of its own."""
    budgets = list(budgets)
    if not budgets:
        return []
    subject = _with_curve(subject, passes)
    found, curve = [], subject.bundle.curve
    kind = "uniform" if curve is None or math.isinf(curve.monotone().max()) else "joint"
    for calls in budgets:
        planned = api.schedule(subject.bundle, calls, kind).nats
        plan = subject.planned(calls, subject.drawn, len(subject.x))
        figure = subject.figure("", subject.exact(plan, subject.x, subject.context), calls, "")
        found.append(
            Budget(
                calls, math.nan if planned is None else planned, figure.nats, figure.error, figure.items, figure.sites,
                figure.dim_error,
            )
        )  # fmt: skip
    return found


def _with_curve(subject: _Subject, passes: int) -> _Subject:
    """The subject with a loss curve: its own, or one measured on the first half of the items, which are left out."""
    bundle, half = subject.bundle, len(subject.x) // 2
    D, S = subject.x[0].numel(), len(bundle.model.digits)
    if bundle.curve is not None or not half:
        return subject
    context = None if subject.context is None else subject.context[:half]
    passes = max(passes, -(-8 * S // half))
    rates = bundle.model.rates if subject.drawn == "rates" else None
    curve = likelihood.curve(bundle.model, subject.x[:half], passes, subject.generator, context=context, rates=rates)
    if (curve.seen.sum(1) == 0).any() or curve.sites != D:
        return subject
    rest = None if subject.context is None else subject.context[half:]
    return replace(subject, bundle=replace(bundle, curve=curve), x=subject.x[half:], context=rest)


def _seen(subject: _Subject, states: int) -> tuple[tuple[Reliability, ...], list[Check]]:
    """Reliability, and the checks at moments of generation."""
    model, plan = subject.bundle.model, subject.plan(1) if subject.one_order else None
    along = plan if isinstance(plan, Plan) else None
    at = moments(model, subject.x, along, states, subject.generator, subject.context)
    checks = tests.checks(model, at, plan is None, subject.generator)
    shape, K, D = tuple(subject.x.shape[1:]), model.digits.classes, subject.x[0].numel()
    if D * math.log(K) <= math.log(tests.WHOLE) and not subject.bundle.config.columns and subject.context is None:
        order = subject.plan(1) if subject.one_order else subject.planned(len(model.digits) * D, "random", 1)
        checks.append(tests.whole(model, order, every(shape, K).to(subject.x.device)))
    return calibration(model, at, subject.generator), checks


# --- the record -----------------------------------------------------------------------------------------------------


def _units(model: Any, subject: _Subject) -> tuple[str, str]:
    """What an item and a value are called; of a model without a recipe, nothing is known of them."""
    bundle = subject.bundle
    if model is not bundle or not isinstance(bundle.card.get("recipe"), dict) or bundle.written == "array":
        return "item", "dim"
    item, dim = UNITS[bundle.content]
    return item, dim if bundle.symbols is None else bundle.symbols.unit


def _sites(model: Any, x: Tensor) -> float:
    """The dimensions of an item; on average up to its end, if it has one."""
    counted = _counted_sites(model, x)
    return x[0].numel() if counted is None else float(counted.double().mean())


def _counted_sites(model: Any, x: Tensor) -> Tensor | None:
    """(B,): the dimensions of each item up to its end; None: all, of a model without an end."""
    within = getattr(model, "within", None)
    return None if within is None else within(x).sum(1)


def _bytes(subject: _Subject, dim: str, decode: Callable[[list[int]], str] | None) -> float:
    """The mean number of bytes of an item's text; 0 for other data."""
    own = subject.bundle.symbols
    if decode is None and own is not None and dim == own.unit:
        return sum(len(own.decode(item.tolist())) for item in subject.x.cpu()) / len(subject.x)
    if decode is None:
        return float(subject.x[0].numel()) if dim in ("byte", "letter") else 0.0
    return sum(len(str(decode(item.flatten().tolist())).encode()) for item in subject.x) / len(subject.x)


def _about(model: Any, subject: _Subject, seed: int, data: str) -> dict[str, Any]:
    bundle, shape = subject.bundle, tuple(subject.x.shape[1:])
    return {
        "model": bundle.name if model is bundle else type(bundle.model).__name__,
        "identity": bundle.identity if model is bundle else None,
        "shape": list(shape),
        "classes": bundle.model.digits.classes,
        "stages": len(bundle.model.digits),
        "data": data,
        "items": len(subject.x),
        "items_sha256": hashlib.sha256(subject.x.cpu().numpy().astype("<i8").tobytes()).hexdigest()[:16],
        "seed": seed,
        "plan": subject.named,
        "device": str(subject.x.device),
        "versions": {name: version(name) for name in ("ardm", "torch", "numpy")}
        | {"python": platform.python_version()},
    }
