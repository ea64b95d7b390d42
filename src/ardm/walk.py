"""The one loop: from nothing known to all known, whoever tells the symbols.

    sampling = walk with Draw      likelihood = walk with Score      encoding, decoding = walk with Encode, Decode

(Algorithms 1 and 3 of the paper, and both directions of its compressor.)  Leakage is impossible by construction: the
state is built from what has been told, so the network never holds a digit that a decoder lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.inputs import columns, device_of, items
from ardm.inputs import context as side
from ardm.model import AnyModel
from ardm.plan import AnyPlan, refuse_misfit
from ardm.source import Draw, Faults, Score, Source, undefined

PATIENCE = 64
"""Steps after which a walk on a GPU looks whether all of them had distributions to tell from."""


def walk(
    model: AnyModel,
    plan: AnyPlan,
    source: Source,
    state: Partial,
    truth: Tensor | None = None,
    context: Tensor | None = None,
) -> Iterator[Partial]:
    """Yield the state after every step; the last one is as complete as the plan makes it.

    state: where to start, `model.digits.blank(B, shape)` for nothing known; a started state needs `plan.given(depth)`.
    truth: (B, *shape) the data, where the source does not know them itself.
    All of it is moved to the device of the model.
    Raises ArdmError where the plan is for other items or other digits, or the model writes into the state that it is
    shown; and where it gives NaN, +inf or nothing but −inf, with the step and how many sites; on a GPU when a few more
    steps have gone by, since to look is to wait.
    """
    faults = Faults()
    device = device_of(model) or state.value.device
    refuse_misfit(plan, len(model.digits), state.shape, state.batch)
    state, context = state.to(device), side(context, state.batch, device)
    columns(state.value, state.depth > 0, model, "the state", lazy=True)
    truth = None if truth is None else items(truth, model, "truth").to(device)
    for k in range(len(plan)):
        with torch.no_grad():
            before = _writes(state)
            prediction = model(state, context)
            _refuse_written(state, before, k)
            sites = plan.select(k, state, prediction)
            told = None if truth is None else model.digits.read(truth, state.depth, sites)
            if isinstance(source, Draw) and source.temperature == 1 and getattr(prediction, "wide", False):
                digit = prediction.quantile(sites, source.uniform(len(sites)).to(state.value.device))  # type: ignore[attr-defined]
                bad = digit < 0
                _watch(faults, bad, k, wait=bad.device.type == "cpu")
            else:
                logits = prediction[sites]
                bad = undefined(logits)
                if isinstance(source, Score):
                    bad = bad & ~source.excused(logits, sites.lane)
                _watch(faults, bad, k, wait=bad.device.type == "cpu" or not isinstance(source, (Draw, Score)))
                digit = source(logits, sites.lane, told)
            if told is None:
                digit = digit.masked_fill(bad, 0)  # a digit there is, until the error comes
            _refuse_written(state, before, k)  # what is asked of a prediction is computed only then
            state = model.digits.write(state, sites, digit)
        yield state
    faults.refuse()


def _writes(state: Partial) -> list[int]:
    """How often each tensor of a state was written into: PyTorch counts, so that nothing is waited for."""
    return [v._version for v in (state.value, state.depth) if not v.is_inference()]


def _refuse_written(state: Partial, before: list[int], step: int) -> None:
    if _writes(state) != before:
        raise ArdmError(f"the model wrote into the state that it was shown in step {step}: let it work on clones")


def _watch(faults: Faults, bad: Tensor, step: int, wait: bool) -> None:
    faults.see(bad.sum(), len(bad), step)
    if wait or step % PATIENCE == PATIENCE - 1:
        faults.refuse()


def last(states: Iterator[Partial], start: Partial) -> Partial:
    """The final state of a walk; `start` for a walk of no steps."""
    state = start
    for state in states:  # noqa: B007 (the last one is what is wanted)
        pass
    return state


def sample(
    model: AnyModel,
    plan: AnyPlan,
    start: Partial,
    generator: torch.Generator,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> Tensor:
    """Draw data: (B, *shape) int64.  start: blank, or what is given (infilling, bit-depth expansion)."""
    return last(walk(model, plan, Draw(generator, temperature), start, context=context), start).value


def score(
    model: AnyModel, plan: AnyPlan, x: Tensor, start: Partial | None = None, context: Tensor | None = None
) -> Tensor:
    """−log p(x | plan) in nats, (B,) float64, exact: the code length of x along this plan, step by step.

    start: given part of x, which costs nothing.  `likelihood.exact` gives the same numbers in batches of steps.
    """
    x = items(x, model)
    start = start or model.digits.blank(len(x), x.shape[1:], x.device)
    ledger = Score(len(x), x.device)
    last(walk(model, plan, ledger, start, truth=x, context=context), start)
    return ledger.nats
