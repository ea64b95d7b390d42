"""Small pictures (MNIST at 14×14, 8 bits) with one body and one budget: any order, one, causal in any, digits, absorbing.

The windows that the CIFAR-10 runs of `images` learn with see both sides of a site, so that no order of their own can be
forced on them; a Transformer over pixels can be had in all five ways.
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
    """Train and measure one of them."""
    result = Result(f"pictures-{name}")
    small = ("model.width=16", "model.blocks=1")
    bundle = trained(setting, result, "laptop/compare-pictures", "mnist", MODELS[name], small)
    x, valid = (
        evenly(data.load("mnist", setting.data / "mnist", split, size=14).items, setting.items(ITEMS))
        for split in ("test", "valid")
    )
    compare(setting, result, bundle, x, valid, 16, (10, 20, 40))
    return result
