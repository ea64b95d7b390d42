"""Small images (MNIST at 14×14, 8 bits), one body and one budget: any order, one order, causal, digits, absorbing.

The U-Net of `images` sees both sides of a site, so it cannot be restricted to one order; a Transformer over pixels
supports all five objectives.
"""

from __future__ import annotations

from common import Result, Setting, evenly, trained
from text import compare

from ardm import data

MODELS: dict[str, tuple[str, ...]] = {
    "any-order": (),
    "one-order": ("model.causal=single",),
    "causal": ("model.causal=any",),
    "upscale-4": ("model.base=4", "model.head=digits"),
    "absorbing": ("train.objective=absorbing", "train.diffusion_steps=1000"),
}
"""Overrides of laptop/compare-pictures."""
ITEMS = 64


def measure(setting: Setting, name: str) -> Result:
    """Train and measure one model."""
    result = Result(f"pictures-{name}")
    small = ("model.width=16", "model.blocks=1")
    bundle = trained(setting, result, "laptop/compare-pictures", "mnist", MODELS[name], small)
    x, valid = (
        evenly(data.load("mnist", setting.data / "mnist", split, size=14).items, setting.items(ITEMS))
        for split in ("test", "valid")
    )
    compare(setting, result, bundle, x, valid, 16, (10, 20, 40))
    return result
