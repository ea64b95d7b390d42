"""27-letter text, one body and one budget, five objectives: any order (OA-ARDM), one order, causal, digits, absorbing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from common import Result, Setting, evenly, full, seeded, trained
from rates import held_out, policies, shape, symmetry, table
from torch import Tensor

from ardm import data, likelihood
from ardm.bundle import Bundle
from ardm.schedule import Schedule

MODELS: dict[str, tuple[str, ...]] = {
    "any-order": (),
    "one-order": ("model.causal=single",),
    "causal": ("model.causal=any",),
    "upscale-3": ("model.base=3", "model.head=digits"),
    "absorbing": ("train.objective=absorbing", "train.diffusion_steps=1000"),
}
"""Overrides of laptop/compare-text; everything else is the same."""
ITEMS = 192
CALLS = (5, 10, 20)


def spread_items(setting: Setting, length: int, split: str) -> torch.Tensor:
    """Items evenly spread over the text, to cover every book."""
    x = data.load("text", setting.data / "text27", split, alphabet="27", length=length).items
    return evenly(x, setting.items(ITEMS))


def compare(
    setting: Setting, result: Result, bundle: Bundle, x: Tensor, valid: Tensor, passes: int, calls: Sequence[int]
) -> None:
    """Add the figures of one model: full calls and, if it is an any-order model, small numbers of `calls`.

    x: test items.  valid: items on whose losses schedules are planned.  passes: random orders per item and stage.
    """
    model = bundle.model
    if bundle.config.causal == "single":
        full(result, likelihood.causal(model, x))
        return
    if bundle.config.causal == "any":
        full(result, likelihood.causal_bound(model, x, 2 if setting.quick else passes, seeded(10)))
        return
    stages = len(model.digits)
    full(result, likelihood.bound(model, x, 2 if setting.quick else passes * stages, seeded(10)))
    few = 1 if setting.quick else 3
    curve, plan = held_out(model, x, few), held_out(model, valid, few, 15)
    shape(result, curve)
    table(result, bundle, curve, plan)
    if stages > 1:
        return
    passes = 1 if setting.quick else 4
    policies(result, bundle, plan, x, calls, passes)
    for steps in (20, 1000):
        found = likelihood.absorbing_bound(model, x, steps, passes, seeded(14, steps))
        result.estimate(f"absorbing, {steps} steps", found)
    for n in calls:
        planned = Schedule.joint(plan.monotone(), n).priced(curve.monotone())
        result.add(f"{n} calls, as planned on held-out losses", planned.bits_per_dim(), unit="bits/dim", bound=True)
    symmetry(result, model, x, bundle.config.sites // 4, 1 if setting.quick else 3)


def measure(setting: Setting, name: str) -> Result:
    """Train and measure one model."""
    result = Result(f"text-{name}")
    small = ("model.width=16", "model.blocks=1")
    bundle = trained(setting, result, "laptop/compare-text", "text27", MODELS[name], small)
    x, valid = (spread_items(setting, bundle.config.sites, split) for split in ("test", "valid"))
    compare(setting, result, bundle, x, valid, 32, CALLS)
    return result
