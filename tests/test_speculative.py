"""Speculative sampling: the distribution of one site after the other, in fewer calls."""

import itertools
import math

import pytest
import torch

import ardm
from ardm import likelihood
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.samplers.speculative import verified
from toys import all_data, generator, randomise, toy


def causal(D=3, K=3, seed=0, scale=3.0, **changes):
    config = ModelConfig(
        trunk="transformer", shape=(D,), classes=K, width=8, heads=1, blocks=1, causal="any", **changes
    )
    return randomise(build(config), seed, scale)


@pytest.mark.parametrize("seed", range(4))
def test_an_accepted_or_corrected_site_has_the_distribution_of_the_model(seed):
    """Every draft and, for each, an even grid of the numbers that accept and correct: the mass of each value is p."""
    g, K, n = generator(seed), 4, 4000
    p, q = (torch.randn(K, generator=g, dtype=torch.double).mul(2).log_softmax(-1) for _ in range(2))
    if seed == 3:
        p = torch.tensor([0.0, 1.0, -math.inf, -math.inf], dtype=torch.double).log_softmax(-1)
    grid = (torch.arange(n, dtype=torch.double) + 0.5) / n
    mass = torch.zeros(K, dtype=torch.double)
    for guess in range(K):
        for low in (0.0, 0.5):  # corrections are independent of acceptance: two strata of the first, all of the second
            u, v = low + grid / 2, grid[torch.randperm(n, generator=g)]
            shape = (n, 1, K)
            value, known = verified(p.expand(shape), q.expand(shape), torch.full((n, 1), guess), torch.zeros(n, dtype=torch.long), u[:, None], v[:, None])  # fmt: skip
            assert (known == 1).all()
            mass += q[guess].exp() / 2 * value[:, 0].bincount(minlength=K).double() / n
    torch.testing.assert_close(mass, p.exp(), atol=0.01, rtol=0)


def test_the_rule_by_enumeration_of_two_sites():
    """Σ over drafts, acceptances and corrections of both rounds, in closed form, is p(x0) p(x1 | x0)."""
    K, g = 3, generator(7)
    p0, q0, q1 = (torch.randn(K, generator=g, dtype=torch.double).softmax(-1) for _ in range(3))
    p1 = torch.randn(K, K, generator=g, dtype=torch.double).softmax(-1)  # p(x1 | x0)
    law = torch.zeros(K, K, dtype=torch.double)

    def emitted(p, q, guess):
        """The probability to accept a guess, and (K,) to reject it and correct it to each value."""
        accept = min(1.0, float(p[guess] / q[guess]))
        if accept == 1:
            return accept, torch.zeros(K, dtype=torch.double)
        rest = (p - q).clamp(min=0)
        return accept, (1 - accept) * rest / rest.sum()

    for a, b in itertools.product(range(K), repeat=2):
        weight = q0[a] * q1[b]
        accept, corrected = emitted(p0, q0, a)
        second, other = emitted(p1[a], q1, b)
        law[a] += weight * accept * other
        law[a, b] += weight * accept * second
        for c in range(K):  # the first site was corrected to c; the next round drafts the second one from p1[a]
            for d in range(K):
                third, fixed = emitted(p1[c], p1[a], d)
                law[c] += weight * corrected[c] * p1[a, d] * fixed
                law[c, d] += weight * corrected[c] * p1[a, d] * third
    torch.testing.assert_close(law, p0[:, None] * p1)


@pytest.mark.parametrize("order", ["raster", "random"])
def test_samples_have_the_distribution_of_one_site_after_the_other(order):
    """All 27 items of three sites, against the exact likelihood along each item's own order."""
    model, n, every = causal(), 20_000, all_data(3, (3,))
    drawn = ardm.sample_speculative(model, n, order, seed=1)
    code = torch.tensor([9, 3, 1])
    for rank in drawn.rank.unique(dim=0):
        own = (drawn.rank == rank).all(1)
        wanted = likelihood.causal(model, every, rank).nats.neg().exp() * int(own.sum())
        seen = (drawn.value[own] @ code).bincount(minlength=27).double()
        often = wanted > 5
        chi = float(((seen - wanted)[often].square() / wanted[often]).sum())
        assert chi < int(often.sum()) + 5 * math.sqrt(2 * int(often.sum()))
        assert float(seen[~often].sum()) <= 5 * float(wanted[~often].sum()) + 10
    assert len(drawn.rank.unique(dim=0)) == (1 if order == "raster" else 6)


class Counted(torch.nn.Module):
    """A trunk that counts its calls."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.calls = trunk, 0

    def forward(self, *given):
        self.calls += 1
        return self.trunk(*given)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("trunk"), name)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_calls_are_counted_and_fewer_than_sites(scale):
    """A model that depends on nothing accepts its first draft; any model takes at most a call per site and the draft."""
    model = causal(12, 4, scale=scale)
    model.body.trunk = Counted(model.body.trunk)
    drawn = ardm.sample_speculative(model, 1, seed=2)
    assert drawn.calls == model.body.trunk.calls
    assert drawn.calls <= 13
    if scale == 0:
        assert drawn.calls == 2


def test_samples_do_not_depend_on_the_batch():
    model = causal(6, 5, scale=1.0)
    four = ardm.sample_speculative(model, 4, seed=3)
    two = ardm.sample_speculative(model, 2, seed=3, first=2)
    assert torch.equal(four.value[2:], two.value)
    assert torch.equal(four.rank[2:], two.rank)


def test_context_reaches_the_draft_and_the_verification():
    model = causal(3, 3, labels=2)
    n, every = 6000, all_data(3, (3,))
    drawn = ardm.sample_speculative(model, n, "raster", context=1)
    wanted = likelihood.causal(model, every, context=torch.ones(27, dtype=torch.long)).nats.neg().exp() * n
    seen = (drawn.value @ torch.tensor([9, 3, 1])).bincount(minlength=27).double()
    often = wanted > 5
    assert float(((seen - wanted)[often].square() / wanted[often]).sum()) < int(often.sum()) + 5 * math.sqrt(
        2 * int(often.sum())
    )


def test_other_models_and_orders_are_refused():
    single = build(ModelConfig(trunk="transformer", shape=(4,), classes=3, width=8, heads=1, blocks=1, causal="single"))
    for model in (single, toy(ardm.Digits(3, 3), (4,))):
        with pytest.raises(ArdmError, match="order-agnostic causal model"):
            ardm.sample_speculative(model, 1)
    with pytest.raises(ArdmError, match="random and raster"):
        ardm.sample_speculative(causal(), 1, "bayer")
