"""Absorbing diffusion in T steps: the step is unbiased for its bound, which the loss curve foretells."""

import itertools
import math

import pytest
import torch

from ardm import likelihood
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.objective import absorbing_step
from ardm.schedule import absorbing_cost
from toys import generator, some_data, toy

D, K = 4, 3


def enumerated(model, x, steps):
    """(B,): Σ_i 1/i Σ_masks p(mask at rate i/T) · Σ_hidden −log p, exactly; and the curve L_t of each item, (D, B)."""
    nats, losses = torch.zeros(len(x), dtype=torch.double), torch.zeros(D, len(x), dtype=torch.double)
    for mask in itertools.product([0, 1], repeat=D):
        hidden = sum(mask)
        if not hidden:
            continue
        depth = 1 - torch.tensor(mask).expand_as(x)
        sites = Sites.where(depth == 0)
        logp = model(model.digits.truncate(x, depth)).log_prob(sites, model.digits.read(x, depth, sites))
        sums = torch.zeros_like(nats).index_add(0, sites.batch_index, -logp.detach())
        losses[D - hidden] += sums / hidden / math.comb(D, hidden)
        for i in range(1, steps + 1):
            nats += sums / i * (i / steps) ** hidden * (1 - i / steps) ** (D - hidden)
    return nats, losses


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_loss_curve_foretells_the_bound(steps):
    model = toy(Digits(K, K), (D,))
    x = some_data(model.digits, (D,), 3)
    nats, losses = enumerated(model, x, steps)
    for b in range(3):
        assert absorbing_cost(losses[:, b].numpy(), steps) == pytest.approx(float(nats[b]), rel=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_step_is_unbiased(steps):
    """All times, all keys of a fine grid: the mean is the bound."""
    model, side = toy(Digits(K, K), (2,)), 6
    x = torch.tensor([[1, 2]])
    keys = torch.tensor(list(itertools.product([(k + 0.5) / side for k in range(side)], repeat=2)), dtype=torch.double)
    parts = []
    for i in range(1, steps + 1):
        time = torch.full((len(keys),), i)
        parts.append(absorbing_step(model, x.expand(len(keys), 2), time, steps, keys).nats.detach().mean())
    expected = torch.zeros((), dtype=torch.double)
    for mask in itertools.product([0, 1], repeat=2):
        depth = 1 - torch.tensor([mask])
        sites = Sites.where(depth == 0)
        state = model.digits.truncate(x, depth)
        sums = -model(state).log_prob(sites, model.digits.read(x, depth, sites)).detach().sum()
        for i in range(1, steps + 1):
            expected += sums / i * (i / steps) ** sum(mask) * (1 - i / steps) ** (2 - sum(mask))
    assert float(torch.stack(parts).mean()) == pytest.approx(float(expected), rel=1e-12)


def test_the_estimate_is_of_the_bound():
    model = toy(Digits(K, K), (D,))
    x = some_data(model.digits, (D,), 2)
    expected, losses = enumerated(model, x, 3)
    found = likelihood.absorbing_bound(model, x, 3, 4000, generator(0), chunk=2000)
    assert found.is_bound
    assert found.estimator == "bound of absorbing diffusion in 3 steps"
    assert ((found.nats - expected).abs() < 5 * found.error).all()
    fine, _ = enumerated(model, x, 400)
    torch.testing.assert_close(fine, losses.sum(0), rtol=2e-2, atol=0)  # T → ∞: the any-order bound


def test_observations_are_of_the_loss_curve():
    model = toy(Digits(K, K), (D,))
    x = some_data(model.digits, (D,), 2)
    key = torch.tensor([[0.1, 0.9, 0.4, 0.6], [0.9, 0.8, 0.9, 0.95]])
    scored = absorbing_step(model, x, torch.tensor([1, 1]), 2, key)
    assert scored.hidden.tolist() == scored.symbols.tolist() == [2, 0]
    assert float(scored.nats[0].detach()) == pytest.approx(2 * float(scored.sums[0].detach()))
    assert float(scored.nats[1].detach()) == 0


def test_values_of_several_digits_are_refused():
    model = toy(Digits(4, 2), (D,))
    x = some_data(model.digits, (D,), 2)
    with pytest.raises(ArdmError, match="base 0"):
        absorbing_step(model, x, torch.ones(2, dtype=torch.long), 2, torch.zeros(2, D))
    with pytest.raises(ArdmError, match="at least 1"):
        likelihood.absorbing_bound(model, x, 0, 1, generator())


def test_a_subset_of_the_hidden_sites_has_the_mean_of_all():
    """Over all arrangements of the keys, for the same hidden sites; no more sites are asked than allowed."""
    model, x = toy(Digits(K, K), (D,)), torch.tensor([[1, 2, 0, 2]])
    keys = torch.tensor(list(itertools.permutations([0.1, 0.2, 0.3])), dtype=torch.double)
    keys = torch.cat([keys, torch.full((6, 1), 0.9, dtype=torch.double)], 1)  # the last site is known
    time = torch.full((6,), 2)
    whole = absorbing_step(model, x.expand(6, D), time, 4, keys)
    for subset in (1, 2, 3, 4):
        some = absorbing_step(model, x.expand(6, D), time, 4, keys, subset=subset)
        assert some.symbols.tolist() == [min(subset, 3)] * 6
        assert some.hidden.tolist() == whole.hidden.tolist() == [3] * 6
        torch.testing.assert_close(some.nats.mean(), whole.nats.mean())
        assert subset > 2 or not torch.allclose(some.nats, whole.nats)
    nothing = absorbing_step(model, x, time[:1], 4, torch.full((1, D), 0.9, dtype=torch.double), subset=2)
    assert nothing.nats.tolist() == [0.0]
