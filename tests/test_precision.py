"""Half precision, bfloat16 and autocast: every trunk and head gives nearly its float32 results."""

import itertools
import math
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from ardm import plan as plans
from ardm.api import bf16_loss, score
from ardm.bundle import Bundle, load
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.likelihood import bound, causal, curve, exact, mixture, policy_bound
from ardm.models.build import BODIES, HEADS, build
from ardm.models.config import PRESETS, ModelConfig, preset
from ardm.objective import Steps, absorbing_step, bound_step, causal_step, draw, plan_step
from ardm.orders import OrderConfig
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer
from ardm.walk import sample
from ardm.walk import score as walk_score
from bundles import smooth
from toys import all_data, generator, randomise, read_by

SMALL = {"width": 16, "blocks": 2, "heads": 2, "hidden": 24, "components": 3, "cycle": 2}
OWN = {
    "recurrent": {"reach": (2,), "hashes": (2, 3), "bits": 6, "row": 4},
    "lattice": {"classes": 65536},
    "wavenet": {"classes": 65536},
}
"""What a trunk cannot do without, or is for."""


def shape_of(trunk):
    return (2, 3, 3) if BODIES[trunk].axes == 3 else (8,)


def config_of(trunk, head, **changes):
    many = {"classes": 4000} if head in ("values", "digits", "chain") and trunk == "wavenet" else {}
    settings = {"classes": 64, **SMALL, **OWN.get(trunk, {}), **many, **changes}
    return ModelConfig(shape=shape_of(trunk), trunk=trunk, head=head, **read_by(trunk, **settings))


def every():
    """Every trunk with every head and every kind of order that it goes with, from the registry; then what else differs."""
    for trunk, kind in BODIES.items():
        for head, order in itertools.product(kind.heads, kind.causal):
            yield f"{trunk}-{head}-{order or 'any order'}", config_of(trunk, head, causal=order)
        if "columns" in kind.reads:
            yield f"{trunk}-columns", config_of(trunk, "values", columns=(2, 64, 3, 40, 5, 6, 7, 20))
    for trunk in ("unet", "centred", "transformer", "wavenet", "mlp"):
        base = {"classes": 64, "base": 4, "time": True}
        yield f"{trunk}-stages and time", config_of(trunk, "values", **base)
    for trunk, head in (("unet", "values"), ("transformer", "values"), ("wavenet", "mixture"), ("mlp", "values")):
        yield f"{trunk}-classic", config_of(trunk, head, style="classic", attention="all", positions="sinusoidal")
    yield "unet-of levels", config_of("unet", "mixture", levels=2, growth=2, attention="middle", embedding=3, labels=3)
    yield "transformer-learned", config_of("transformer", "values", positions="learned", labels=3)
    yield "wavenet-labels", config_of("wavenet", "mixture", labels=3)
    yield "centred-vector", config_of("centred", "mixture", vector=3)
    yield "mlp-direct", config_of("mlp", "values", direct=True, vector=3, classes=16)


EVERY = dict(every())

TOLERANCE = {"bfloat16": 0.01, "autocast": 0.01, "float16": 0.003}
"""Of all figures in bits, relative to those of float32 (measured: at most 0.003, 0.002 and 0.001)."""


def cast(model, kind):
    """The model as it is held, and the block in which it runs."""
    if kind == "autocast":
        return model, torch.autocast("cpu", torch.bfloat16)
    return deepcopy(model).to(getattr(torch, kind)), nullcontext()


def items(config, batch=4):
    limits = torch.tensor(config.limits).view(config.shape)
    if config.classes > 1000:  # a sound: 16 bits at random would be told by nobody
        steps = torch.randn(batch, *config.shape, generator=generator(1)) * config.classes / 500
        return (steps.cumsum(-1).long() + config.classes // 2) % limits
    return torch.randint(1 << 20, (batch, *config.shape), generator=generator(1)) % limits


def context_of(config, batch):
    if config.labels:
        return torch.arange(batch) % config.labels
    return torch.randn(batch, config.vector, generator=generator(8)) if config.vector else None


def figures(model, config):
    """Bits per dimension: exact, the bound, the loss curve; and samples, which must be values."""
    x, shape, S, D = items(config), config.shape, len(config.digits), config.sites
    side = context_of(config, len(x))
    found = []
    one_order = {"single": plans.raster(S, shape), "wave": plans.wavefront(shape)}.get(config.causal)
    plan = one_order or plans.shuffled(S, shape, generator(0)).coarsen(
        [s * D + t for s in range(S) for t in range(0, D, D // 4)]
    )
    found.append(exact(model, plan, x, context=side).bits_per_dim)
    if config.causal:
        found.append(causal(model, x, context=side).bits_per_dim)
    if config.causal not in ("single", "wave"):
        found.append(bound(model, x, 2, generator(2), context=side).bits_per_dim)
        found.append(curve(model, x, 2, generator(2), context=side).nats() / D)
    drawn = sample(model, plan, model.digits.blank(4, shape), generator(3), context=context_of(config, 4))
    assert (drawn >= 0).all()
    assert (drawn < torch.tensor(config.limits).view(shape)).all()
    sites = Sites.where(torch.ones_like(x[:1], dtype=torch.bool))
    if config.causal not in ("single", "wave"):
        assert model(model.digits.blank(1, shape))[sites].dtype in (torch.float32, torch.float64)
    return torch.tensor(found, dtype=torch.double)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_says_what_float32_says(name):
    config = EVERY[name]
    model = randomise(build(config)).float()
    wanted = figures(model, config)
    assert wanted.isfinite().all()
    for kind, tolerance in TOLERANCE.items():
        held, block = cast(model, kind)
        with block:
            got = figures(held, config)
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=0, msg=lambda text, kind=kind: f"{kind}: {text}")


def test_the_registry_is_covered():
    assert {c.trunk for c in EVERY.values()} == set(BODIES)
    assert {c.head for c in EVERY.values()} == set(HEADS)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "autocast"])
def test_the_bundled_model_says_in_half_precision_what_it_says_in_float32(kind):
    bundle = load("cifar10-any-order")
    x = torch.stack([smooth(3, 32, 32, seed) for seed in range(2)]).long()
    wanted = score(bundle, x)
    held, block = cast(bundle.model, kind)
    with block:
        got = score(replace(bundle, model=held), x)
    assert got.bits_per_dim == pytest.approx(wanted.bits_per_dim, rel=1e-3)


# --- bf16 chosen for a model ------------------------------------------------------------------------------------------


def in_both(name):
    """A bundle of random weights in float32, and the same in bf16."""
    config = EVERY[name]
    bundle = Bundle(randomise(build(config)).float(), config)
    return config, bundle, bundle.with_precision("bf16")


@pytest.mark.parametrize("name", ["transformer-values-any order", "unet-mixture-any order", "transformer-values-any"])
def test_a_model_in_bf16_is_the_network_under_autocast(name):
    config, fine, rough = in_both(name)
    x = items(config)
    assert not fine.model.bf16
    assert all(a is b for a, b in zip(fine.model.parameters(), rough.model.parameters(), strict=True))
    assert fine.identity == rough.identity
    with torch.autocast("cpu", torch.bfloat16):
        wanted = score(fine, x).nats
    assert torch.equal(score(rough, x).nats, wanted)
    assert not torch.equal(score(fine, x).nats, wanted)
    assert not torch.is_autocast_enabled("cpu")
    assert torch.equal(score(rough.with_precision("float32"), x).nats, score(fine, x).nats)


@pytest.mark.parametrize("name", ["transformer", "unet"])
def test_likelihoods_in_bf16_are_exact(name):
    """What is drawn and what is scored are one function: along a plan the probabilities of all items sum to 1."""
    shape = (3,) if name == "transformer" else (1, 1, 3)
    config = ModelConfig(shape=shape, trunk=name, classes=3, head="values", **read_by(name, **{**SMALL, "heads": 1}))
    model = Bundle(randomise(build(config)).float(), config).with_precision("bf16").model
    every = all_data(3, shape)
    plan = plans.raster(1, shape)
    walked = walk_score(model, plan, every)
    assert float(walked.neg().exp().sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(exact(model, plan, every).nats, walked, rtol=0, atol=1e-5)


def test_bf16_is_chosen_where_it_costs_little_and_is_faster(monkeypatch):
    _, fine, rough = in_both("transformer-values-any order")
    for card, hardware, dtype, chosen in [
        ({"bf16_loss": 0.001}, True, torch.float32, True),
        ({"bf16_loss": -0.001}, True, torch.float32, True),
        ({"bf16_loss": 0.003}, True, torch.float32, False),
        ({"bf16_loss": "none"}, True, torch.float32, False),
        ({}, True, torch.float32, False),
        ({"bf16_loss": 0.001}, False, torch.float32, False),
        ({"bf16_loss": 0.001}, True, torch.bfloat16, False),
    ]:
        monkeypatch.setattr("ardm.bundle.has_bf16", lambda device, hardware=hardware: hardware)
        found = replace(fine.to(dtype=dtype), card=card).with_precision("auto")
        assert found.model.bf16 == chosen, (card, hardware, dtype)
    assert rough.with_precision("auto").model.bf16 is False
    with pytest.raises(ArdmError, match="precision is auto, float32 or bf16; got 'half'"):
        fine.with_precision("half")


def test_what_bf16_loses_is_measured_at_the_same_steps():
    config, fine, rough = in_both("transformer-values-any order")
    x = items(config, 32)
    lost, error = bf16_loss(fine, x, seed=3, passes=2)
    apart = score(rough, x, seed=3, passes=2).bits_per_dim - score(fine, x, seed=3, passes=2).bits_per_dim
    assert lost == pytest.approx(apart, abs=1e-12)
    assert 0 < error < score(fine, x, seed=3, passes=2).bits_per_dim_error / 10
    assert bf16_loss(rough, x, seed=3, passes=2) == (lost, error)


def test_integers_are_made_of_the_model_in_float32(monkeypatch):
    """Exporting calibrates in float32, whatever the precision of the bundle."""
    config = preset("recurrent", shape=(8,), classes=5, width=8, hidden=8, blocks=1, bits=6, row=4)
    bundle = Bundle(randomise(build(config)).float().eval(), config, OrderConfig("raster", calls=(8,)))
    x = torch.randint(5, (16, 8), generator=generator(0))
    made = [export(b, x, Precision()).codec.identity for b in (bundle, bundle.with_precision("bf16"))]
    assert made[0] == made[1]


# --- sums -------------------------------------------------------------------------------------------------------------

MANY = 100_000


class Even:
    """A model that gives every symbol of every site the same probability, one that is no sum of powers of two."""

    digits = Digits(3, 3)

    def __call__(self, state, context=None):
        return Answer()

    def nats(self, x, rank=None, context=None):
        return torch.full((len(x), x[0].numel()), -P)


class Answer:
    def __getitem__(self, sites):
        return torch.zeros(len(sites), 3)

    def log_prob(self, sites, digit):
        return torch.full((len(sites),), P)


P = -math.log(3)
EXACTLY = -float(torch.tensor(P))
"""Nats of a symbol, as float32 has them."""


def test_a_hundred_thousand_nats_are_summed_in_float64():
    model, x = Even(), torch.zeros(2, MANY, dtype=torch.long)
    rank, zero = torch.arange(MANY).expand(2, -1), torch.zeros(2, dtype=torch.long)
    once = plans.raster(1, (MANY,)).coarsen([0])
    scored = {
        "bound": bound_step(model, x, Steps(zero, zero, rank)),
        "plan": plan_step(model, once, x, zero),
        "absorbing": absorbing_step(model, x, zero + 4, 4, torch.rand(2, MANY, generator=generator(0))),
        "causal": causal_step(model, x),
    }
    for name, got in scored.items():
        assert got.nats.dtype == got.sums.dtype == torch.double, name
        for nats in (got.nats, got.sums):
            assert nats.tolist() == pytest.approx([MANY * EXACTLY] * 2, rel=1e-12), name
    steps = absorbing_step(model, x, zero + 1, 3, torch.zeros(2, MANY))
    assert steps.nats.tolist() == pytest.approx([3 * MANY * EXACTLY] * 2, rel=1e-12)
    estimates = {
        "exact": exact(model, once, x),
        "causal": causal(model, x),
        "bound": bound(model, x, 2, generator(0)),
        "policy": policy_bound(model, x, [0], 2, generator(0)),
        "mixture": mixture(model, [once, once], x),
    }
    for name, got in estimates.items():
        assert got.nats.tolist() == pytest.approx([MANY * EXACTLY] * 2, rel=1e-12), name
    told = curve(model, x, 2, generator(0))
    assert told.nats() == pytest.approx(MANY * EXACTLY, rel=1e-12)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_network_learns_under_autocast(name):
    """train.precision=bf16: a loss in float64, and finite gradients of every parameter that float32 gives one."""
    config = EVERY[name]
    model = randomise(build(config)).float()
    x, side = items(config, 4), context_of(config, 4)
    S, D, grads = len(config.digits), config.sites, {}
    steps = Steps(torch.arange(4) % S, torch.arange(4) % D, draw(4, S, config.shape, generator(0)).rank)
    for kind in ("float32", "autocast"):
        held, block = cast(model, kind)
        with block:
            scored = causal_step(held, x, None, side) if config.causal else bound_step(held, x, steps, None, side)
        assert scored.nats.dtype == torch.double
        scored.nats.mean().div(D).backward()
        grads[kind] = [p.grad for p in held.parameters()]
        held.zero_grad()
    for one, two in zip(*grads.values(), strict=True):
        assert (one is None) == (two is None)
        assert one is None or (two.isfinite().all() and two.dtype == torch.float32)
    norms = [torch.stack([g.norm() for g in g_ if g is not None]).norm() for g_ in grads.values()]
    torch.testing.assert_close(*norms, rtol=0.05, atol=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Lines and pictures that count, which fit every size."""
    path = tmp_path_factory.mktemp("data")
    count = (np.arange(32)[:, None] + np.arange(64)) % 6
    np.save(path / "lines.npy", count[:, :8].astype(np.uint8))
    np.save(path / "pictures.npy", count.reshape(-1, 1, 8, 8).astype(np.uint8))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", PRESETS)
def test_every_preset_trains_in_bf16(folder, tmp_path, size):
    """The first steps of train.precision=bf16 have the losses of float32, and end in a model that validates as finite."""
    given = PRESETS[size]
    own = {"width": 16, "blocks": min(given.get("blocks", 1), 2), "bits": 6, "row": 4, "heads": 0, "embedding": 4}
    config = replace(
        preset(size),
        **read_by(preset(size).trunk, **own),
    )
    split = "lines" if config.shape == () else "pictures"
    config = config if split == "lines" else replace(config, shape=(1, 8, 8), classes=6)
    losses = {}
    for precision in ("float32", "bf16"):
        train = TrainConfig(
            steps=3, batch=8, warmup=1, valid_every=3, valid_items=4, save_every=3, precision=precision, rate=1e-3
        )
        source = DataConfig("array", str(folder), split, split)
        run = Trainer(Recipe("tiny", config, OrderConfig(), source, train), tmp_path / precision, device="cpu")
        losses[precision] = [(p.loss, p.valid or 0.0) for p in run]
    torch.testing.assert_close(*(torch.tensor(found) for found in losses.values()), rtol=0.01, atol=0)


@pytest.mark.parametrize("faster", [True, False])
def test_auto_multiplies_in_bf16_where_the_device_is_faster_in_it(folder, tmp_path, monkeypatch, faster):
    """train.precision=auto takes the same first step as the precision that suits the device."""
    monkeypatch.setattr("ardm.train.update.has_bf16", lambda device: faster)
    config = replace(preset("centred-tiny"), shape=(1, 8, 8), classes=6, head="values", width=8)
    losses = {}
    for precision in ("float32", "bf16", "auto"):
        train = TrainConfig(steps=2, batch=8, valid_every=2, valid_items=4, precision=precision)
        source = DataConfig("array", str(folder), "pictures", "pictures")
        run = Trainer(Recipe("tiny", config, OrderConfig(), source, train), tmp_path / precision, device="cpu")
        losses[precision] = [p.loss for p in run]
    assert losses["float32"] != losses["bf16"]
    assert losses["auto"] == losses["bf16" if faster else "float32"]
