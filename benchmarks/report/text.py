"""One body, one budget, five ways to learn 27-letter text: any order (OA-ARDM), one, causal in any, digits, absorbing."""

from __future__ import annotations

import torch
from common import Result, Setting, evenly, full, seeded, trained
from rates import held_out, policies, shape, symmetry, table

from ardm import data, likelihood
from ardm.schedule import Schedule

MODELS: dict[str, tuple[str, ...]] = {
    "any-order": (),
    "one-order": ("model.causal=single",),
    "causal": ("model.causal=any",),
    "upscale-3": ("model.base=3", "model.head=digits"),
    "absorbing": ("train.objective=absorbing", "train.diffusion_steps=1000"),
}
"""Overrides of laptop/compare-text; steps, batch, rate and everything else are the same."""
ITEMS = 192
CALLS = (5, 10, 20)


def spread_items(setting: Setting, length: int, split: str) -> torch.Tensor:
    """Items evenly spread over the text, so that every book is among them."""
    x = data.load("text", setting.data / "text27", split, alphabet="27", length=length).items
    return evenly(x, setting.items(ITEMS))


def measure(setting: Setting, name: str) -> Result:
    """Train and measure one of them."""
    result = Result(f"text-{name}")
    small = ("model.width=16", "model.blocks=1")
    bundle = trained(setting, result, "laptop/compare-text", "text27", MODELS[name], small)
    model = bundle.model
    x, valid = (spread_items(setting, bundle.config.sites, split) for split in ("test", "valid"))
    if name == "one-order":
        full(result, likelihood.causal(model, x))
        return result
    if name == "causal":
        full(result, likelihood.causal_bound(model, x, 2 if setting.quick else 32, seeded(10)))
        return result
    full(result, likelihood.bound(model, x, 2 if setting.quick else 32 * len(model.digits), seeded(10)))
    if name == "upscale-3":
        return result
    passes = 1 if setting.quick else 3
    curve, plan = held_out(model, x, passes), held_out(model, valid, passes, 15)
    shape(result, curve)
    table(result, bundle, curve, plan)
    passes = 1 if setting.quick else 4
    policies(result, bundle, plan, x, CALLS, passes)
    for steps in (20, 1000):
        found = likelihood.absorbing_bound(model, x, steps, passes, seeded(14, steps))
        result.estimate(f"absorbing, {steps} steps", found)
    for calls in CALLS:
        planned = Schedule.joint(plan.monotone(), calls).priced(curve.monotone())
        result.add(f"{calls} calls, as planned on held-out losses", planned.bits_per_dim(), unit="bits/dim", bound=True)
    symmetry(result, model, x, bundle.config.sites // 4, 1 if setting.quick else 3)
    return result
