"""The one loop; sample and score are two calls of it.

    sampling = walk with Draw      likelihood = walk with Score      encoding, decoding = walk with Encode, Decode

(Algorithms 1 and 3 of the paper, and both directions of its compressor.)  The state holds only digits that have been
revealed, so that the network cannot see a digit that a decoder does not have yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.faults import Watch
from ardm.inputs import columns, device_of, items
from ardm.inputs import context as context_of
from ardm.model import Among, AnyModel, begun
from ardm.plan import AnyPlan, known, placed, refuse_misfit
from ardm.precision import keep_freed_memory
from ardm.random_numbers import Chance
from ardm.source import Draw, Score, Source


def walk(
    model: AnyModel,
    plan: AnyPlan,
    source: Source,
    state: Partial,
    truth: Tensor | None = None,
    context: Tensor | None = None,
) -> Iterator[Partial]:
    """Yield the state after every step; the last one is as complete as the plan makes it.

    The plan names the unfinished items of each step (`AnyPlan.items`), and the walk ends when there are none.  The model sees
    these items only: one that is finished costs nothing, and an item takes the same steps in every batch.

    state: the start, `model.digits.blank(B, shape)` for nothing known; for any other, a fixed plan needs `plan.given(depth)`.
    truth: (B, *shape), the data, for sources that need them.
    All of it is moved to the device of the model.
    Raises ArdmError where the plan is for other items or other digits, where the model writes into the state that it is
    given, and where it gives no distribution (`faults`), with the step and the number of sites.
    """
    device = device_of(model) or state.value.device
    keep_freed_memory(device)
    refuse_misfit(plan, len(model.digits), state.shape, state.batch)
    plan = placed(plan, device)
    state, context = state.to(device), context_of(context, state.batch, device)
    columns(state.value, state.depth > 0, model, "the state", lazy=True)
    truth = None if truth is None else items(truth, model, "truth").to(device)
    watch = Watch(state.batch, device)
    left: Sequence[int] = range(state.batch)
    memory = begun(model)
    for k in count():
        before, left = left, plan.items(k, state)
        if not left:
            break
        if left != before:
            memory = begun(model)  # what it remembers is of other items
        state = replace(state, most=known(plan, k))
        with torch.no_grad():
            shown, side = (state, context) if len(left) == state.batch else _part(left, state, context)
            writes = _writes(shown)
            prediction = memory(shown, side)
            _refuse_written(shown, writes, k)
            prediction = prediction if shown is state else Among(prediction, left, state)
            sites = plan.select(k, state, prediction)
            target = None if truth is None else model.digits.read(truth, state.depth, sites)
            try:
                digit = source(watch.over(prediction, k, state), sites, target)
            except ArdmError:
                watch.refuse()  # a fault of the model explains an error of the source
                raise
            _refuse_written(shown, writes, k)  # a prediction may run parts of the network only when asked
            state = model.digits.write(state, sites, digit)
        yield state
    watch.refuse()


def _part(items: Sequence[int], state: Partial, context: Tensor | None) -> tuple[Partial, Tensor | None]:
    """The state and context of some items."""
    rows = torch.tensor(items, device=state.value.device)
    return Partial(state.value[rows], state.depth[rows]), None if context is None else context[rows]


def _writes(state: Partial) -> list[int]:
    """How often each tensor of a state has been written into; PyTorch counts this on the host."""
    return [v._version for v in (state.value, state.depth) if not v.is_inference()]


def _refuse_written(state: Partial, before: list[int], step: int) -> None:
    if _writes(state) != before:
        raise ArdmError(f"the model wrote into the state that it was given in step {step}: let it work on clones")


def last(states: Iterator[Partial], start: Partial) -> Partial:
    """The final state of a walk; `start` if the walk has no steps."""
    state = start
    for state in states:  # noqa: B007 (only the last one is wanted)
        pass
    return state


def generate(
    model: AnyModel,
    plan: AnyPlan,
    start: Partial,
    generator: Chance,
    temperature: float = 1.0,
    context: Tensor | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Partial]:
    """Draw data, yielding the state after every step.  start: blank, or what is known (infilling, bit-depth expansion).

    generator, temperature, top_k, top_p: see `source.Draw`.
    """
    return walk(model, plan, Draw(generator, temperature, top_k, top_p), start, context=context)


def sample(
    model: AnyModel,
    plan: AnyPlan,
    start: Partial,
    generator: Chance,
    temperature: float = 1.0,
    context: Tensor | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draw data: (B, *shape) int64; see `generate`."""
    return last(generate(model, plan, start, generator, temperature, context, top_k, top_p), start).value


def score(
    model: AnyModel, plan: AnyPlan, x: Tensor, start: Partial | None = None, context: Tensor | None = None
) -> Tensor:
    """−log p(x | plan) in nats, (B,) float64, exact: the code length of x along this plan, step by step.

    start: the part of x that is given, which costs nothing.  `likelihood.exact` computes the same in batches of steps.
    """
    x = items(x, model)
    start = start or model.digits.blank(len(x), x.shape[1:], x.device)
    ledger = Score(len(x), x.device)
    last(walk(model, plan, ledger, start, truth=x, context=context), start)
    return ledger.nats
