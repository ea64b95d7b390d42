"""CIFAR-10 with one body, a small centred U-Net, and one budget: stages, output families and the auxiliary term."""

from __future__ import annotations

from common import Result, Setting, full, seeded, trained
from rates import held_out, shape, table

from ardm import data, likelihood

MODELS: dict[str, tuple[str, ...]] = {
    "any-order": (),
    "upscale-16": ("model.base=16", "model.head=digits"),
    "upscale-4": ("model.base=4", "model.head=digits"),
    "upscale-2": ("model.base=2", "model.head=digits"),
    "absorbing": ("train.objective=absorbing", "train.diffusion_steps=1000"),
    "upscale-4-values": ("model.base=4",),
    "any-order-ce": ("train.cross_entropy=0.1",),
    "any-order-mixture": ("model.head=mixture",),
    "upscale-4-mixture": ("model.head=mixture", "model.base=4"),
}
"""Overrides of laptop/compare-images."""
PRICED = ("any-order", "absorbing", "upscale-4", "any-order-mixture", "upscale-4-mixture")
"""Models whose loss curve is measured, for small numbers of calls."""
ITEMS = 400
"""Test items.  With 40, upscaling by 2 and by 4 differed by less than two standard errors."""


def measure(setting: Setting, name: str) -> Result:
    """Train and measure one model."""
    result = Result(f"images-{name}")
    small = ("model.width=8",)
    bundle = trained(setting, result, "laptop/compare-images", "cifar10", MODELS[name], small)
    model = bundle.model
    x, valid = (
        data.load("cifar10", setting.data / "cifar10", split).items[: setting.items(ITEMS)].long()
        for split in ("test", "valid")
    )
    S = len(model.digits)
    passes = 1 if setting.quick else max(12, 4 * S)
    full(result, likelihood.bound(model, x, passes, seeded(30), chunk=8))
    if name not in PRICED:
        return result
    curve, plan = (held_out(model, part, 1, seed, 8, subset=256) for part, seed in ((x, 11), (valid, 31)))
    shape(result, curve)
    table(result, bundle, curve, plan)
    if name == "absorbing":
        found = likelihood.absorbing_bound(model, x, 1000, 1 if setting.quick else 12, seeded(32), chunk=8)
        result.estimate("absorbing, 1000 steps", found)
    return result
