"""16-bit speech with one body and one budget: one order, any order, upscaling, and two output families.

The paper's step from 7.93 to 6.36 bits changes two things at once: digits instead of values, and a softmax instead of a
mixture of logistics.  Two controls separate them: `any-order-chain` predicts whole values without stages, as softmaxes
of 256 for the high byte and then the low byte given it; `upscale-256-mixture` has stages with the same mixture.
"""

from __future__ import annotations

import torch
from common import Result, Setting, evenly, full, seeded, trained
from rates import held_out, shape, table

from ardm import data, likelihood

MODELS: dict[str, tuple[str, ...]] = {
    "one-order": ("model.causal=single",),
    "any-order": (),
    "any-order-chain": ("model.head=chain",),
    "one-order-chain": ("model.causal=single", "model.head=chain"),
    "upscale-256-mixture": ("model.base=256",),
    "upscale-256": ("model.base=256", "model.head=digits"),
    "upscale-16": ("model.base=16", "model.head=digits"),
    "upscale-4": ("model.base=4", "model.head=digits"),
    "absorbing": ("train.objective=absorbing", "train.diffusion_steps=1000"),
    "any-order-30": ("model.components=30",),
    "any-order-3": ("model.components=3",),
}
"""Overrides of laptop/compare-speech."""
ITEMS = 600
"""Test windows.  With 150, upscaling differed from its controls by less than two standard errors."""


def spread_items(setting: Setting, length: int, split: str) -> torch.Tensor:
    """Windows evenly spread over the clips, to cover digits and speakers."""
    every = data.load("fsdd", setting.data / "fsdd", split, length=length).items
    return evenly(every, setting.items(ITEMS))


def measure(setting: Setting, name: str) -> Result:
    """Train and measure one model."""
    result = Result(f"speech-{name}")
    small = ("model.width=16", "model.blocks=2")
    bundle = trained(setting, result, "laptop/compare-speech", "fsdd", MODELS[name], small)
    model = bundle.model
    x, valid = (spread_items(setting, bundle.config.sites, split) for split in ("test", "valid"))
    if bundle.config.causal:
        full(result, likelihood.causal(model, x, chunk=16))
        return result
    S = len(model.digits)
    full(result, likelihood.bound(model, x, 1 if setting.quick else 4 * S, seeded(20), chunk=16))
    if name.startswith("any-order-") and name != "any-order-chain":
        return result
    curve, plan = held_out(model, x, 1, chunk=16), held_out(model, valid, 1, 21, chunk=16)
    shape(result, curve)
    table(result, bundle, curve, plan)
    if name == "absorbing":
        found = likelihood.absorbing_bound(model, x, 1000, 1 if setting.quick else 4, seeded(23), chunk=16)
        result.estimate("absorbing, 1000 steps", found)
    return result
