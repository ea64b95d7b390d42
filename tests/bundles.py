"""Tiny bundles with arbitrary parameters, and images that they like: for the codec and all that stands on it."""

import functools

import torch

from ardm.bundle import Bundle
from ardm.codec.model_coder import ModelCoder
from ardm.codec.registry import machine
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.orders import OrderConfig
from ardm.plan import wavefront
from ardm.walk import sample
from toys import generator

SMALL = {"width": 8, "blocks": 1, "components": 2}
OWN = {"wavefront": {"causal": "wave"}}
"""Settings that a trunk has for itself."""
BAYER = OrderConfig("bayer", calls=(8,), cell=4)


def by_formula(model, scale=1.0):
    """Every parameter from integers alone, so that no library's random numbers are relied on."""
    seed = 1
    with torch.no_grad():
        for p in model.parameters():
            index = torch.arange(seed, seed + p.numel(), dtype=torch.long)
            noise = (index * 2654435761 % 65537 * 40503 % 65537).double() / 65537 - 0.5
            fan = p[0].numel() if p.ndim > 1 else 4
            p.copy_((noise * scale * 4 / fan**0.5).view(p.shape))
            seed += p.numel()
    return model.eval().requires_grad_(False)


@functools.cache
def tiny(trunk="wavefront", shape=(3, 8, 8), classes=256, base=0, head="mixture", order=None, scale=1.0, **changes):
    settings = {**SMALL, **OWN.get(trunk, {}), **changes}
    order = order or (OrderConfig() if trunk == "wavefront" else BAYER)
    config = ModelConfig(shape=shape, classes=classes, base=base, head=head, trunk=trunk, **settings)
    if base:
        S = len(config.digits)
        order = OrderConfig(order.order, tuple(S * c for c in order.calls), order.cell) if order.fixed else order
    return Bundle(by_formula(build(config), scale), config, order, card={"name": f"tiny {trunk}"})


def noise(*shape, classes=256, seed=0):
    return torch.randint(classes, shape, generator=generator(seed), dtype=torch.long).to(
        torch.uint8 if classes <= 256 else torch.long
    )


@functools.cache
def liked(bundle_args, height, width, seed=0):
    """An image drawn from a model along wavefronts, so that coding it pays."""
    bundle = tiny(**dict(bundle_args))
    shape = (bundle.config.shape[0], height, width)
    start = bundle.model.digits.blank(1, shape)
    plan = wavefront(shape)
    return sample(bundle.model, plan, start, generator(seed))[0].to(torch.uint8)


@functools.cache
def exact(precision=(10, 10), **changes):
    """The codec model of a tiny bundle."""
    bundle = tiny(**changes)
    C, H, W = bundle.config.shape
    items = torch.stack([smooth(C, H, W, seed) for seed in range(8)]).long()
    return export(bundle, items % bundle.config.classes, Precision(*precision)).codec


def coder(calls=None, backend="float32", threads=1, **changes):
    """A coder with that model."""
    model = exact(**changes)
    return ModelCoder(model, calls or model.default, machine(model, backend, "cpu"), threads)


def smooth(channels, height, width, seed=0):
    """Something like a photograph: a random walk, in uint8."""
    steps = torch.randn(channels, height, width, generator=generator(seed))
    return (steps.cumsum(1).cumsum(2) * 3 + 128).clamp(0, 255).to(torch.uint8)
