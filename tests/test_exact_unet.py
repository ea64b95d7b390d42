"""The U-Net in integers: close to the one in floats, the same in every container, and blind to hidden values."""

import functools
import math

import pytest
import torch

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.exact.backend import Backend
from ardm.exact.reference import Reference
from ardm.export.calibrate import Examples
from ardm.export.precision import Precision
from ardm.export.unet import unet
from ardm.models.build import build
from ardm.models.config import ModelConfig
from exactly import CONTAINERS, ask, asked_of, items_of, kl, same, states_of, table_of
from toys import generator, tiny_image

NETS = {
    "plain": {"attention": "none"},
    "middle": {"attention": "middle"},
    "all": {"attention": "all"},
    "two levels": {"attention": "middle", "levels": 2, "shape": (2, 7, 6)},
    "two levels, growing": {"attention": "middle", "levels": 2, "growth": 2, "shape": (2, 6, 6)},
    "two levels, all": {"attention": "all", "levels": 2, "head": "digits", "base": 4},
    "values": {"head": "values"},
    "stages of values": {"head": "values", "base": 4, "attention": "middle"},
    "stages of a mixture": {"base": 4},
    "embedding and time": {"embedding": 3, "time": True, "attention": "middle"},
    "labels": {"labels": 4},
    "groups": {"width": 64, "shape": (1, 6, 6), "attention": "middle"},
    "any grey": {"classes": 200, "shape": (1, 8, 8), "attention": "middle"},
    "bytes": {"classes": 256, "shape": (3, 6, 6)},
    "a thousand values": {"classes": 1000, "base": 10, "shape": (1, 6, 6)},
}
WIDE = Precision(12, 12, 14)


@functools.cache
def net(name):
    """A network with random parameters, the zero ones too, of a size at which it says something."""
    settings = {"shape": (2, 6, 6), "classes": 16, "head": "mixture", "width": 16, "blocks": 1, "levels": 1}
    model = build(ModelConfig(trunk="unet", **{**settings, "components": 3, **NETS[name]}))
    g = generator(1)
    model = model.double()
    with torch.no_grad():
        for path, p in model.named_parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            noise = torch.randn(p.shape, generator=g, dtype=torch.double)
            if p.ndim > 1:
                p.copy_(noise / math.sqrt(fan))
            else:
                p.copy_((1.0 if "norm" in path and path.endswith("weight") else 0.0) + noise * 0.1)
    return model.eval()


@functools.cache
def program_of(name, precision):
    model = net(name)
    return unet(model, Examples(items_of(model)))(precision)


def divergence(name, precision):
    """Mean KL, in bits per digit, of the exact network's probabilities from the float network's."""
    model, program = net(name), program_of(name, precision)
    return kl(model, program, states_of(model))


FEW = ("plain", "two levels, all", "embedding and time")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FEW)) for n in NETS])
def test_it_is_close_to_the_network_in_floats(name):
    rough, fine = divergence(name, Precision(8, 8)), divergence(name, WIDE)
    assert -1e-6 < fine < 2e-4  # the logit grid of 1/32 nat costs a part of it
    assert -1e-6 < rough < 1e-3
    assert fine < rough


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_same_in_every_container_and_batch(name):
    model, program = net(name), program_of(name, Precision(8, 8))
    state = states_of(model)
    value, depth = state.value.numpy(), state.depth.numpy()
    sites = asked_of(depth, program.digits)
    every = same(program, value, depth, sites)
    for n in (0, 3, 6):
        alone = ask(Backend(program), value[n : n + 1], depth[n : n + 1], asked_of(depth[n : n + 1], program.digits))
        for one, all_ in zip(table_of(alone), every, strict=True):
            assert (one == all_[sites.batch_index == n]).all()


@pytest.mark.parametrize("name", ["all", "two levels", "embedding and time"])
def test_more_bits_are_the_same_in_every_container(name):
    model, program = net(name), program_of(name, WIDE)
    state = states_of(model, 2)
    value, depth = state.value.numpy(), state.depth.numpy()
    same(program, value, depth, asked_of(depth, program.digits), CONTAINERS)


@pytest.mark.parametrize("name", ["all", "stages of values", "embedding and time"])
def test_what_is_masked_changes_nothing(name):
    """Two items that differ only where nothing, or only the first digit, is known."""
    model, program = net(name), program_of(name, Precision(8, 8))
    S = program.digits
    x, other = items_of(model, 3, 5), items_of(model, 3, 6)
    depth = torch.randint(0, S + 1, x.shape, generator=generator(2))
    told = model.digits.truncate(x, depth)
    unit = program.base ** (S - depth)
    hidden = (told.value + other % unit).clamp(max=program.classes - 1)
    assert (hidden != x).any()
    again = model.digits.truncate(hidden, depth)
    assert torch.equal(again.value, told.value)
    run = Backend(program)
    sites = asked_of(depth.numpy(), S)
    tables = [table_of(ask(run, state.value.numpy(), state.depth.numpy(), sites)) for state in (told, again)]
    for a, b in zip(*tables, strict=True):
        assert (a == b).all()
    maps = Reference(program)
    changed = Partial(told.value, depth.clone())
    where = tuple(int(n) for n in (depth == S).nonzero()[0])
    changed.value[where] = (changed.value[where] + 1) % program.classes
    after = table_of(ask(maps, changed.value.numpy(), depth.numpy(), sites))
    assert any((a != b).any() for a, b in zip(tables[0], after, strict=True))  # and what is told, does


def test_other_networks_are_refused():
    with pytest.raises(ArdmError, match="Centred, which cannot be exported here: a UNet is needed"):
        unet(tiny_image("centred"), Examples(torch.zeros(2, 2, 3, 3).long()))
