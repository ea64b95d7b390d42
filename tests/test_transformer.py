"""The Transformer of text: what it may not see, positions, styles, stages, and sizes of the paper."""

import math

import numpy as np
import pytest
import torch

from ardm import plan as plans
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.nets.transformer import angles, turn, turned
from ardm.walk import sample, score
from sequences import (
    answers_belong_to_sites_and_items,
    every_parameter_is_trained,
    hidden_is_not_seen,
    items,
    nats_of_everything,
    small,
)
from toys import all_data, generator

VARIANTS = {
    "modern": {},
    "classic": {"style": "classic", "positions": "sinusoidal"},
    "learned": {"positions": "learned"},
    "classic rotary": {"style": "classic", "positions": "rotary"},
    "sinusoidal": {"positions": "sinusoidal"},
    "time": {"time": True},
    "labels": {"labels": 3, "dropout": 0.2},
    "vector": {"vector": 4, "style": "classic"},
    "stages": {"classes": 7, "base": 2, "head": "digits"},
    "stages of values": {"classes": 7, "base": 3},
    "mixture": {"classes": 30, "head": "mixture"},
    "image": {"shape": (2, 2, 2)},
    "columns": {"columns": (2, 5, 3, 1, 4), "positions": "learned"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_hidden_values_change_nothing(name):
    hidden_is_not_seen(small("transformer", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_answers_belong_to_their_sites(name):
    answers_belong_to_sites_and_items(small("transformer", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_trained(name):
    every_parameter_is_trained(small("transformer", **VARIANTS[name]))


@pytest.mark.parametrize("name", ["modern", "classic", "learned", "time"])
def test_the_probabilities_of_all_texts_sum_to_one(name):
    model = small("transformer", shape=(4,), classes=3, **VARIANTS[name])
    assert float(nats_of_everything(model, all_data(3, (4,))).neg().exp().sum()) == pytest.approx(1)


def reference(model, value, depth):
    """The modern network, written out: rotary halves, RMSNorm, gated swish."""
    net, head, heads = model.body.trunk, model.head.out, model.body.config.heads
    h = net.embedding(torch.where(depth > 0, value, model.digits.classes))
    L, half = value.shape[1], h.shape[2] // heads // 2
    angle = np.arange(L)[None] / 10_000.0 ** (np.arange(half) / half)[:, None]
    c, s = torch.from_numpy(np.cos(angle)).T, torch.from_numpy(np.sin(angle)).T
    for layer in net.layers:
        a = layer.norm1(h)
        q, k, v = (f(a).unflatten(2, (heads, -1)).transpose(1, 2) for f in (layer.q, layer.k, layer.v))
        q, k = (
            torch.cat([x[..., :half] * c - x[..., half:] * s, x[..., :half] * s + x[..., half:] * c], -1)
            for x in (q, k)
        )
        weight = (q @ k.transpose(2, 3) / math.sqrt(2 * half)).softmax(-1)
        h = h + layer.o((weight @ v).transpose(1, 2).flatten(2))
        a = layer.norm2(h)
        h = h + layer.down(layer.up(a) * torch.nn.functional.silu(layer.gate(a)))
    return head(net.norm(h))


def test_the_network_is_what_an_exporter_takes_it_for():
    model = small("transformer", shape=(6,))
    x = items(model)
    depth = (torch.rand(x.shape, generator=generator(1)) < 0.5).long()
    state = model.digits.truncate(x, depth)
    sites = Sites.where(torch.ones_like(x, dtype=torch.bool))
    expected = reference(model, state.value, depth).flatten(0, 1)
    torch.testing.assert_close(model(state)[sites], expected, rtol=1e-9, atol=1e-11)
    angle = np.arange(6)[None] / 10_000.0 ** (np.arange(2) / 2)[:, None]
    np.testing.assert_allclose(angles(torch.arange(6), 2).T.numpy(), angle, rtol=1e-14)


def test_rotary_positions_are_relative():
    q, k = torch.randn(2, 1, 8, 1, 6, generator=generator(0), dtype=torch.double)
    near, far = angles(torch.arange(8), 3), angles(torch.arange(100, 108), 3)
    a, b = (turned(q, turn(by, q.dtype))[0, :, 0] @ turned(k, turn(by, k.dtype))[0, :, 0].T for by in (near, far))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
def test_order_matters(positions):
    model = small("transformer", positions=positions)
    x = torch.tensor([[1, 2, 3, 4, 0]])
    depth = torch.tensor([[1, 1, 1, 1, 0]])
    site = Sites(torch.tensor([4]), 5)
    a, b = (model(model.digits.truncate(y, depth))[site] for y in (x, x[:, [1, 0, 2, 3, 4]]))
    assert (a - b).abs().max() > 1e-3


def test_other_lengths_than_it_was_made_for():
    for positions in ("rotary", "sinusoidal"):
        model = small("transformer", positions=positions)
        assert sample(model, plans.raster(1, (9,)), model.digits.blank(2, (9,)), generator()).shape == (2, 9)
    model = small("transformer", positions="learned")
    with pytest.raises(ArdmError, match="learned positions serve items of 5 sites; got 9"):
        model(model.digits.blank(1, (9,)))


@pytest.mark.parametrize("name", ["labels", "stages", "classic"])
def test_dropout_acts_in_training_only(name):
    model = small("transformer", **{**VARIANTS[name], "dropout": 0.5})
    state, sites = model.digits.blank(1, (5,)), Sites(torch.arange(5), 5)
    assert torch.equal(model(state)[sites], model(state)[sites])
    model.train()
    assert not torch.equal(model(state)[sites], model(state)[sites])


def test_the_paper_size_is_the_papers():
    """85.1 M parameters by the reference's count: 12 layers, width 768, perceptrons of 3072, 27 letters and a mask."""
    config = preset("text-paper", shape=(250,), classes=27)
    assert (config.attention_heads, config.inner_width) == (12, 3072)
    with torch.device("meta"):
        from ardm.models.build import BODIES, head_of

        number = sum(p.numel() for m in (BODIES["transformer"].body(config), head_of(config)) for p in m.parameters())
    assert number == pytest.approx(85.06e6, rel=1e-3)


def test_a_new_model_is_ignorant():
    model = build(preset("text-tiny", shape=(7,), classes=11)).eval()
    x = torch.arange(7)[None]
    assert float(score(model, plans.raster(1, (7,)), x)) == pytest.approx(7 * math.log(11), rel=1e-6)


def test_mixed_precision_keeps_the_answer():
    model = build(preset("text-tiny", shape=(8,), classes=11)).eval()
    torch.nn.init.normal_(model.head.out.weight)
    state, sites = model.digits.blank(2, (8,)), Sites(torch.arange(16), 8)
    exact = model(state)[sites]
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(state)[sites]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads must divide width 8; got 3"),
        ({"heads": 8}, "rotary positions need heads of an even width"),
        ({"width": 9, "heads": 1, "positions": "sinusoidal"}, "multiple of 2"),
        ({"positions": "relative"}, "positions must be one of rotary"),
        ({"style": "new"}, "style must be one of"),
        ({"shape": ()}, "shape of the data"),
        ({"shape": (0,)}, "positive sizes"),
        ({"heads": -1}, "heads must be at least 0; got -1"),
        ({"columns": (2, 3)}, "each of the 5 sites"),
        ({"columns": (2, 3, 0, 1, 1)}, "from 0 to 3"),
        ({"columns": (2, 3, 9, 1, 1)}, "1..5"),
        ({"columns": (2, 3, 4, 1, 1), "head": "digits"}, "head values"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ArdmError, match=message):
        build(
            ModelConfig(
                **{"shape": (5,), "classes": 5, "head": "values", "trunk": "transformer", "width": 8, **changes}
            )
        )


def test_stages_are_distinguished():
    """The value known so far, and how many digits of it: 0 known to one digit is not 0 known to two."""
    model = small("transformer", classes=4, base=2)
    assert model.digits == Digits(4, 2)
    value, site = torch.zeros(1, 5, dtype=torch.long), Sites(torch.tensor([4]), 5)
    depths = [torch.tensor([[d, d, d, d, 0]]) for d in (0, 1, 2)]
    answers = [model(model.digits.truncate(value, d))[site] for d in depths]
    assert min((a - b).abs().max() for a in answers for b in answers if a is not b) > 1e-3
