"""The centred U-Net in integers: close to the one in floats, the same in every container, for pictures of any size."""

import functools

import numpy as np
import pytest
import torch

from ardm.bundle import Bundle
from ardm.codec import model_coder, registry
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.exact.ask import Ask
from ardm.exact.backend import Backend
from ardm.exact.certificate import certify
from ardm.exact.operations import OPERATIONS
from ardm.exact.program import Op
from ardm.exact.reference import Reference, inputs
from ardm.exact.space import last_read, map_bytes, maps_first
from ardm.export.builder import Layers
from ardm.export.calibrate import Examples, moments_of
from ardm.export.centred import centred
from ardm.export.convert import export, unsupported
from ardm.export.neighbours import Neighbours
from ardm.export.precision import Precision
from ardm.export.quantise import compensated, matrix
from ardm.models.body import centred as centres
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.nets.neighbours import nearby, rounded
from ardm.orders import OrderConfig
from bundles import BAYER, smooth
from exactly import Bench, asked_of, ends, items_of, kl, same, states_of, table_of
from toys import generator, randomise

NETS = {
    "colour, odd": {"shape": (3, 7, 5), "levels": 3},
    "grey, staged mixture": {"shape": (1, 4, 5), "levels": 2, "base": 4},
    "staged digits": {"shape": (2, 4, 4), "levels": 2, "growth": 2, "head": "digits", "base": 4},
    "black and white": {"shape": (1, 6, 6), "classes": 2},
    "values, mean as it is": {"shape": (2, 5, 5), "classes": 16, "head": "values", "rounded": False},
}


@functools.cache
def net(name):
    settings = {"classes": 256, "width": 16, "blocks": 1, "components": 3, "trunk": "centred", **NETS[name]}
    return randomise(build(ModelConfig(**settings)), 1)


@functools.cache
def maker(name):
    return centred(net(name), Examples(items_of(net(name), 8)))


@functools.cache
def program_of(name, precision=Precision()):
    return maker(name)(precision)


@pytest.mark.parametrize("name", NETS)
def test_it_is_close_to_the_network_in_floats(name):
    rough, fine = (
        kl(net(name), program_of(name, bits), states_of(net(name))) for bits in (Precision(), Precision(12, 12))
    )
    assert -1e-6 < fine < 2e-4  # the logit grid of 1/32 nat costs most of it
    assert -1e-6 < rough < 5e-4


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_same_in_every_container(name):
    program, state = program_of(name), states_of(net(name), 4)
    value, depth = state.value.numpy(), state.depth.numpy()
    same(program, value, depth, asked_of(depth, program.digits))


@pytest.mark.parametrize("size", [(1, 1), (9, 6)])
def test_any_size_is_taken(size):
    """A program of 7 × 5 pictures on others: as close to the network, and the same in the reference."""
    model, program = net("colour, odd"), program_of("colour, odd")
    x = torch.stack([smooth(3, *size, seed) for seed in range(3)]).long()
    known = torch.rand(x.shape, generator=generator(3)) < 0.4
    state = model.digits.truncate(x, known)
    assert -1e-6 < kl(model, program, state) < 1e-3
    value, depth = state.value.numpy(), state.depth.numpy()
    same(program, value, depth, asked_of(depth, 1), ("float32",))


def test_hidden_digits_change_nothing():
    model, program = net("staged digits"), program_of("staged digits")
    x, other = items_of(model, 2, 5), items_of(model, 2, 6)
    depth = torch.randint(0, 5, x.shape, generator=generator(2))
    told, unit = model.digits.truncate(x, depth), 4 ** (4 - depth)
    mixed = told.value + other % unit
    assert (mixed != x).any()
    again = model.digits.truncate(mixed, depth)
    sites, run = asked_of(depth.numpy(), 4), Backend(program)
    one, two = (table_of(run(Ask(s.value.numpy(), s.depth.numpy(), sites))) for s in (told, again))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    changed = Partial((told.value + 64 * (depth == 4)) % 256, depth)
    three = table_of(run(Ask(changed.value.numpy(), depth.numpy(), sites)))
    assert any((a != b).any() for a, b in zip(one, three, strict=True))  # and what is known does


def test_context_is_refused():
    config = preset("centred-tiny", shape=(1, 4, 4), labels=3)
    bundle = Bundle(build(config), config, OrderConfig())
    assert unsupported(bundle) == [
        "a centred network with context cannot be exported, since files hold none: train without labels, vector and time"
    ]
    with pytest.raises(ArdmError, match="files hold none"):
        export(bundle, torch.zeros(4, 1, 4, 4, dtype=torch.long))
    plain = preset("centred-tiny", shape=(1, 4, 4))
    assert unsupported(Bundle(build(plain), plain, OrderConfig())) == []


def test_it_becomes_a_codec():
    """Exported without further words: the fewest bits that cost little, one stream from every backend, any size, grey."""
    config = ModelConfig(shape=(3, 8, 8), trunk="centred", width=8, blocks=1, levels=2, components=2)
    bundle = Bundle(randomise(build(config), 3, 0.7), config, BAYER, card={"name": "tiny centred"})
    tried = []
    made = export(bundle, torch.stack([smooth(3, 8, 8, seed) for seed in range(4)]).long(), tried=tried.append)
    assert [one.precision for one in tried] == [Precision()]
    assert abs(made.cost.bits_per_dim) < 0.003
    assert made.codec.size == (0, 0)
    coders = [
        model_coder.ModelCoder(made.codec, made.codec.default, registry.machine(made.codec, backend, "cpu"), 1)
        for backend in ("auto", "numpy")
    ]
    for part in (smooth(3, 9, 5).numpy(), smooth(1, 3, 10).numpy()):
        streams = {coder.finish(next(iter(coder.encode([[part]]))), 5) for coder in coders}
        assert len(streams) == 1
        ((samples,), check) = next(iter(coders[0].decode([(streams.pop(), [part.shape])])))
        assert np.array_equal(samples, part)
        assert check == 5


# --- what it is made of -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "base"), [(256, 4), (2, 0), (1000, 10)])
def test_neighbours_are_those_of_the_network(K, base):
    digits = Digits(K, base or K)
    S = len(digits)
    depth = torch.randint(0, S + 1, (3, 2, 9, 8), generator=generator(1))
    depth *= torch.tensor([0, 1, 1])[:, None, None, None]
    depth[1, :, 1:] = 0  # from nothing known to far away to all around
    state = digits.truncate(torch.randint(K, depth.shape, generator=generator(0)), depth)
    build_ = Layers(2, digits, Precision())
    near = Neighbours(build_, digits)
    mean, fine = near.mean("mean", 2), near.mean("fine", near.placed)
    spread, (weight, parts, offset) = near.spread("spread", fine), near.log_weight("weight", 1 << 8)
    values = inputs(build_.program(), state.value.numpy(), depth.numpy())
    for op in build_.program().ops:
        values[op.out] = OPERATIONS[op.name].run(build_.program(), op, [values[name] for name in op.inputs], None)
    wanted = [a.numpy() for a in nearby(centres(state, digits, torch.double), depth.double() / S)]
    found = values["mean"] / mean.one
    assert np.abs(found - rounded(torch.from_numpy(wanted[0]), K - 1).numpy()).max() < 1e-12
    assert np.abs(np.log(values["spread"] / spread.one / wanted[1])).max() < 0.03
    logs = values["weight"].reshape(3, parts, 2, 9, 8).sum(1) / weight.one + offset
    assert np.abs(logs - np.log(wanted[2])).max() < 0.02


def test_weights_make_up_for_each_others_rounding():
    """The squared error over examples falls; with independent inputs nothing can be made up for."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 24)) + rng.normal(size=(400, 24)) / 4
    real, moments, most = rng.normal(size=(24, 7)) * 5, x.T @ x, np.full(7, 127.0)
    better = compensated(real, moments, most)
    errors = [np.square(x @ (w - real)).sum(0) for w in (better, np.rint(real))]
    assert (errors[0] < errors[1] / 2).all()
    assert np.array_equal(better, np.rint(better))
    assert np.array_equal(compensated(real, np.diag(np.diag(moments)), most), np.rint(real))
    assert np.array_equal(compensated(real, np.zeros((24, 24)), most), np.rint(real))
    assert np.abs(compensated(real, moments, np.full(7, 3.0))).max() == 3
    size, ones = np.full(24, 1 << 9), np.ones(24)
    made = matrix(real, np.zeros(7), size, ones, ones[:7], 8, 1 << 20, moments)
    assert np.abs(made.weight).max() <= 127
    assert (size @ np.abs(made.weight) + np.abs(made.bias)).max() <= 1 << 20


def test_moments_are_those_of_patches():
    """All places of a small map, each as often: Σ x xᵀ of what the kernel reads there."""
    conv = torch.nn.Conv2d(2, 3, 3, padding=1)
    x = torch.randn(1, 2, 4, 8, generator=generator(0))
    with moments_of([conv]) as moments:
        conv(x)
    patches = torch.nn.functional.unfold(x, 3, padding=1)[0].double()
    assert np.allclose(moments[conv], 2 * (patches @ patches.T).numpy(), atol=1e-4)  # 64 places of 32


def test_convolutions_in_bands_are_the_same(monkeypatch):
    from ardm.exact.kernels.spatial import BLOCK

    rng = np.random.default_rng(1)
    tensors = {
        "weight": rng.integers(-(1 << 14), 1 << 14, (36, 5)),
        "bias": rng.integers(-9, 9, 5),
        "shift": [0, 3, 1, 9, 2],
    }
    for block in (1, 300, 1000):
        monkeypatch.setitem(BLOCK, "cpu", block)
        for size in (99, 500):  # in float32, and in parts of it
            bench = Bench("conv", [ends(4, size)], tensors, tall=3, wide=3, step=2, top=2, left=1)
            bench(bench.values(rng, 3, 5, 6))


def test_values_are_dropped_after_their_last_use():
    ops = [
        Op("shift", "a", ("value",)),
        Op("add", "b", ("a", "depth")),
        Op("at", "r", ("a",)),
        Op("values", "h", ("r",)),
    ]
    assert last_read(ops) == [["value"], ["b", "depth"], ["a"], []]
    program = program_of("colour, odd")
    bounds, alive, most = certify(program), {"value", "depth"}, 0
    ordered = maps_first(program.ops, bounds)
    for k, op in enumerate(ordered):
        assert set(op.inputs) <= alive
        alive.add(op.out)
        most = max(most, sum(bounds[name].planes for name in alive if bounds[name].kind == "map"))
        alive -= set(last_read(ordered)[k])
    assert set(program.ops[-1].inputs) <= alive
    every = sum(bound.planes for bound in bounds.values() if bound.kind == "map")
    assert most < map_bytes(program, bounds) < min(8 * every, 16 * most)
    assert Reference(program).bounds.keys() == bounds.keys()
