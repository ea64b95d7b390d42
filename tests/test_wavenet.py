"""The WaveNet of sound: what it may not see, how far it sees, known neighbours, 16 bits, and the size of the paper."""

import math

import pytest
import torch

from ardm import plan as plans
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.models.build import BODIES, build, head_of
from ardm.models.config import ModelConfig, preset
from ardm.nets.wavenet import BOXES, PRIOR, nearby
from ardm.objective import Steps, bound_step
from ardm.walk import sample, score
from sequences import (
    answers_belong_to_sites_and_items,
    every_parameter_is_trained,
    hidden_is_not_seen,
    nats_of_everything,
    small,
)
from toys import all_data, generator

VARIANTS = {
    "modern": {"head": "mixture", "classes": 40},
    "classic": {"head": "mixture", "classes": 40, "style": "classic"},
    "paper": {"head": "mixture", "classes": 40, "style": "classic", "time": True},
    "digits": {"head": "digits", "classes": 81, "base": 3},
    "values in stages": {"head": "values", "classes": 7, "base": 2, "style": "classic"},
    "labels": {"head": "mixture", "labels": 3, "dropout": 0.2},
    "vector": {"head": "values", "vector": 4},
    "plain values": {"head": "mixture", "classes": 600},
    "wide kernel": {"head": "mixture", "kernel": 5, "embedding": 3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_hidden_values_change_nothing(name):
    hidden_is_not_seen(small("wavenet", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_answers_belong_to_their_sites(name):
    answers_belong_to_sites_and_items(small("wavenet", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_trained(name):
    every_parameter_is_trained(small("wavenet", **VARIANTS[name]))


@pytest.mark.parametrize("name", ["modern", "paper", "values in stages"])
def test_the_probabilities_of_all_sounds_sum_to_one(name):
    model = small("wavenet", **{**VARIANTS[name], "shape": (3,), "classes": 4})
    assert float(nats_of_everything(model, all_data(4, (3,))).neg().exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("causal", [False, True])
def test_neighbours_are_means_of_what_is_known(causal):
    value = torch.rand(2, 40, generator=generator(0), dtype=torch.double) * 2 - 1
    known = (torch.rand(value.shape, generator=generator(1)) < 0.2).double()
    mean, spread = nearby(value, known, 0.01, causal)
    for b, i in ((0, 0), (0, 20), (1, 39), (1, 7)):
        sums = torch.zeros(3, dtype=torch.double)
        for side, share in BOXES:
            low, high = (i - side + 1, i) if causal else (i - side // 2, i + side // 2)
            for j in range(max(low, 0), min(high, 39) + 1):
                v = value[b, j]
                sums += share / side * known[b, j] * torch.stack([v.new_ones(()), v, v * v])
        weight = sums[0] + PRIOR
        m = sums[1] / weight
        assert float(mean[b, i]) == pytest.approx(float(m), abs=1e-9)
        variance = max(float(sums[2] / weight - m * m), 0) + 0.01**2 + 0.25 * PRIOR / float(weight)
        assert float(spread[b, i]) == pytest.approx(math.sqrt(variance), abs=1e-9)


def test_where_nothing_is_known_the_mean_is_zero():
    known = torch.zeros(1, 400)
    mean, spread = nearby(torch.ones_like(known), known, 1e-4)
    assert mean.abs().max() == 0
    torch.testing.assert_close(spread, torch.full_like(spread, math.sqrt(0.25 + 1e-8)))
    known[0, 0] = 1
    mean, spread = nearby(torch.full_like(known, 0.3), known, 1e-4)
    assert float(mean[0, 1]) == pytest.approx(0.3)
    assert mean[0, 65:].abs().max() == 0


@pytest.mark.parametrize("causal", ["", "single"])
def test_how_far_it_sees(causal):
    """Blocks of dilation 1, 2, 1, 2 with kernel 3 and a first convolution see 7 to each side, or 14 back and the place."""
    model = small("wavenet", shape=(60,), classes=40, head="mixture", style="classic", blocks=4, causal=causal)
    x = torch.randint(40, (1, 60), generator=generator(0))
    depth = torch.ones_like(x)
    depth[0, 30 : 60 if causal else 31] = 0
    site = Sites(torch.tensor([30]), 60)
    first = model(model.digits.truncate(x, depth))[site]
    changes = []
    for j in range(60):
        if j != 30:
            y = x.clone()
            y[0, j] = (y[0, j] + 20) % 40
            changes.append((j, float((model(model.digits.truncate(y, depth))[site] - first).detach().abs().max())))
    seen = [j for j, change in changes if change > 0]
    assert seen == (list(range(15, 30)) if causal else [*range(23, 30), *range(31, 38)])


def test_sixteen_bits_are_seen_to_the_last():
    """Neighbouring levels differ by 0.00003 of the range; the mean of the neighbours follows them, and so does the mixture."""
    model = build(preset("audio-tiny", shape=(33,), classes=65536)).eval()
    x = torch.full((1, 33), 40_000)
    depth = torch.ones_like(x)
    depth[0, 16] = 0
    site = Sites(torch.tensor([16]), 33)
    with torch.no_grad():
        for shift in (0, 1, 5):
            state = model.digits.truncate(x + shift, depth)
            prediction = model(state)
            digit = torch.tensor([40_000 + shift])
            assert float(prediction.log_prob(site, digit)) > math.log(0.02)
            assert int(prediction[site].argmax()) in range(40_000 + shift - 2, 40_000 + shift + 3)
            total = prediction[site].double().logsumexp(-1)
            assert float(total) == pytest.approx(0, abs=1e-4)


def test_a_mixture_of_65536_values_needs_no_enumeration():
    model = build(preset("audio-tiny", shape=(2000,), classes=65536, width=8, blocks=1))
    x = torch.randint(65536, (2, 2000), generator=generator(0))
    rank = torch.stack([torch.randperm(2000, generator=generator(i)) for i in (1, 2)])
    scored = bound_step(model, x, Steps(torch.zeros(2, dtype=torch.long), torch.tensor([0, 500]), rank))
    assert scored.nats.isfinite().all()
    assert model.head.out.weight.shape[0] == 9


def test_any_length():
    model = small("wavenet", shape=(5,), head="mixture")
    assert sample(model, plans.raster(1, (13,)), model.digits.blank(2, (13,)), generator()).shape == (2, 13)
    assert score(model, plans.raster(1, (1,)), torch.tensor([[3]])).isfinite().all()


def test_the_paper_size_is_the_papers():
    """36 blocks of 256 channels, dilations up to 2048; 192 channels of values and masks, 64 of an embedding."""
    config = preset("audio-paper", shape=(16000,), classes=65536)
    with torch.device("meta"):
        body, head = BODIES["wavenet"].body(config), head_of(config)
    assert [block.gated.dilation[0] for block in body.trunk.layers] == [2 ** (i % 12) for i in range(36)]
    assert body.trunk.input.out_channels == 192
    assert body.embedding.weight.shape == (65537, 64)
    assert sum(p.numel() for m in (body, head) for p in m.parameters()) == pytest.approx(33.96e6, rel=0.001)
    assert small("wavenet", classes=16, base=4, head="digits").body.embedding.weight.shape == (2 * 5, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 4, 4)}, r"shape \(D,\)"),
        ({"kernel": 4}, "odd width"),
        ({"cycle": 0}, "at least 1"),
        ({"embedding": 8}, "less than width 8"),
        ({"columns": (2,) * 5, "head": "values"}, "trunk transformer or mlp"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ArdmError, match=message):
        build(ModelConfig(**{"shape": (5,), "classes": 5, "trunk": "wavenet", "width": 8, **changes}))
