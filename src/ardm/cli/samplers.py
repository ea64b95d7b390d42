"""Options of `ardm sample` and `ardm fill` for samplers beyond one plan: guidance, remasking, refinement, speculative sampling.

What is drawn by remasking or refinement has no likelihood, so that no command that prints one takes them.  A guided model
has one, and `ardm eval` takes --guidance too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ardm.cli.console import say
from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch

    from ardm import Adaptive, Partial
    from ardm.bundle import Bundle
    from ardm.samplers.remasking import Remask

Guidance = Annotated[
    float | None,
    typer.Option(
        help="Strengthen the effect of the label by this scale; doubles the network calls.", show_default=False
    ),
]
Refine = Annotated[
    int, typer.Option(help="Then hide and draw a random tenth again, this many times (Gibbs); no likelihood.", min=0)
]
RemaskBy = Annotated[
    str,
    typer.Option(
        "--remask",
        help="Hide some known digits again while sampling: cap=0.1 or rescale=0.1 (ReMDM); no likelihood.",
        show_default=False,
    ),
]
Speculative = Annotated[
    bool, typer.Option("--speculative", help="Draft and verify many sites a call (models with causal: any).")
]


class Drawing(NamedTuple):
    """How samples are drawn: what the options of both commands say."""

    calls: int | None
    along: str | Adaptive | None
    seed: int
    temperature: float
    top_k: int | None
    top_p: float | None
    context: torch.Tensor | None


def guided(bundle: Bundle, scale: float | None) -> Bundle:
    """The bundle, guided if a scale is given."""
    if scale is None:
        return bundle
    import ardm

    return ardm.guided(bundle, scale)


def sampling(
    bundle: Bundle, items: int, how: Drawing, remask: str, speculative: bool
) -> tuple[Iterator[Partial], int | None]:
    """The states of new items, and how many there will be, if that is known."""
    from ardm import api, inputs
    from ardm.random_numbers import RandomNumbers

    if remask or speculative:
        _refuse_mixed(how, remask, speculative)
    if remask:
        return _remasked(bundle, items, how, remask)
    if speculative:
        return _speculated(bundle, items, how), None
    calls, chosen = api.budget(bundle, how.calls, how.along)
    numbers = RandomNumbers(how.seed)
    plan = api.make_plan(bundle, calls, chosen, generator=numbers, batch=api.rows(chosen, items))
    start = bundle.model.digits.blank(items, bundle.model.shape, inputs.device_of(bundle.model))
    states = api.generate(bundle, plan, start, numbers, how.temperature, how.context, how.top_k, how.top_p)
    return states, len(plan) if isinstance(plan, Sized) else None


def _refuse_mixed(how: Drawing, remask: str, speculative: bool) -> None:
    """Raise ArdmError for options that do not belong to remasking or to speculative sampling."""
    if remask and speculative:
        raise ArdmError("give --remask or --speculative: speculative samples follow the model, remasked ones do not")
    if remask and how.along not in (None, "random"):
        raise ArdmError("--remask reveals in random orders; leave --order, --score, --select and --block-length out")
    if speculative and (how.calls, how.temperature, how.top_k, how.top_p) != (None, 1.0, None, None):
        raise ArdmError("--speculative follows the model, in as few calls as it can; leave --calls, --temperature, --top-k and --top-p out")  # fmt: skip
    if speculative and not isinstance(how.along, str | None):
        raise ArdmError("--speculative takes the orders random and raster; leave --score, --select and --block-length out")  # fmt: skip


def _remasked(bundle: Bundle, items: int, how: Drawing, text: str) -> tuple[Iterator[Partial], int]:
    from ardm import api
    from ardm.samplers.remasking import remasking

    calls = min(api.budget(bundle, how.calls, "random")[0], bundle.longest)
    drawing = how.temperature, how.context, how.top_k, how.top_p
    return remasking(bundle, items, _remask(text), calls, how.seed, *drawing), calls


def _remask(text: str) -> Remask:
    """Parse a schedule such as cap=0.1."""
    from ardm.samplers.remasking import SCHEDULES, Remask

    schedule, _, share = text.partition("=")
    try:
        found = float(share)
    except ValueError:
        found = -1.0
    if schedule not in SCHEDULES or found < 0:
        raise ArdmError(f"--remask takes cap=0.1 or rescale=0.1, for example; got {text!r}")
    return Remask(found, schedule=schedule)


def _speculated(bundle: Bundle, items: int, how: Drawing) -> Iterator[Partial]:
    import torch

    from ardm.digits import Partial
    from ardm.samplers.speculative import sample_speculative

    drawn = sample_speculative(bundle, items, str(how.along or "random"), how.seed, how.context)
    say(f"{drawn.calls} network calls for {drawn.rank.shape[1]} sites")
    yield Partial(drawn.value, torch.ones_like(drawn.value))


def refined(
    bundle: Bundle, state: Partial, sweeps: int, how: Drawing, known: torch.Tensor | None = None
) -> list[Partial]:
    """The state after `sweeps` of Gibbs refinement; none without sweeps."""
    if not sweeps:
        return []
    from ardm.digits import Partial
    from ardm.samplers.redraw import refine

    value = refine(
        bundle,
        state.value,
        sweeps,
        known=known,
        calls=how.calls,
        order=how.along,
        seed=how.seed,
        temperature=how.temperature,
        context=how.context,
        top_k=how.top_k,
        top_p=how.top_p,
    )
    return [Partial(value, state.depth)]
