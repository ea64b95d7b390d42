"""Models that give no distribution at all (an error that says where), and models that call a symbol impossible (+∞)."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import ardm
from ardm import faults
from ardm import plan as plans
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.faults import Faults, undefined
from ardm.features import Features
from ardm.heads import ChainHead, MixtureHead
from ardm.likelihood import (
    Estimate,
    absorbing_bound,
    bound,
    causal,
    causal_bound,
    curve,
    exact,
    mixture,
    policy_bound,
)
from ardm.losscurve import LossCurve
from ardm.model import Model
from ardm.models.config import ModelConfig
from ardm.schedule import absorbing_cost, continuous_cost, cost, optimal
from ardm.source import Decode, Draw, Encode, Score
from ardm.walk import last, sample, score, walk
from toys import asked, confident, generator

D, K = 6, 4
SHAPE = (D,)
BAD = {"nan": math.nan, "+inf": math.inf, "all -inf": -math.inf}


def broken(value, sites=(3,), base=0):
    """A network that gives good logits, but at some sites `value` as soon as three others are known."""

    def net(state, depth, context=None):
        logits = torch.linspace(0, 1, K).expand(*state.shape, K).clone()
        late = (depth > 0).sum(1) >= 3
        for site in sites:
            logits[late, site] = value if value == -math.inf else torch.tensor([0.0, value, 0.0, 0.0])
        return logits

    return ardm.wrap(net, SHAPE, K, base)


class OneOrder:
    """A model of one order, for `causal`: NaN at one site of one item."""

    digits = Digits(K, K)

    def nats(self, x, rank=None, context=None):
        nats = torch.full(x.shape, math.log(K))
        nats[1, 3] = math.nan
        return nats


X = torch.tensor([[0, 1, 2, 3, 0, 1], [1, 2, 3, 0, 1, 2]])
RASTER = plans.raster(1, SHAPE)
PLAN = RASTER.coarsen([0, 1, 2, 3])
"""Its step 3 reveals three sites per item, of which one is broken."""


def blank(model, batch=2):
    return model.digits.blank(batch, SHAPE)


def encoded(model, source=None, truth=X):
    last(walk(model, PLAN, source or Encode(), blank(model), truth=truth), blank(model))


def bundle_of(model):
    return ardm.Bundle(model, ardm.ModelConfig(shape=SHAPE, classes=K))


WALKS = {
    "sample": lambda m: sample(m, PLAN, blank(m), generator()),
    "greedy": lambda m: sample(m, PLAN, blank(m), generator(), 0.0),
    "cool": lambda m: sample(m, PLAN, blank(m), generator(), 0.5),
    "score": lambda m: score(m, PLAN, X),
    "exact": lambda m: exact(m, PLAN, X),
    "exact in small chunks": lambda m: exact(m, PLAN, X, chunk=1),
    "mixture": lambda m: mixture(m, [PLAN, PLAN], X),
    "encode": encoded,
}
"""What goes along a plan, so that the error names its step."""
ANY = {
    "bound": lambda m: bound(m, X, 60, generator()),
    "policy bound": lambda m: policy_bound(m, X, [0, 3], 60, generator()),
    "absorbing bound": lambda m: absorbing_bound(m, X, 20, 60, generator()),
    "curve": lambda m: curve(m, X, 60, generator()),
    "curve on a grid": lambda m: curve(m, X, 8, generator(), grid=D),
    "score of a bundle": lambda m: ardm.score(bundle_of(m), X, passes=60),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", WALKS)
def test_no_distribution_is_an_error_that_names_step_and_sites(name, value):
    with pytest.raises(ArdmError, match=r"no distribution at 2 of 6 sites in step 3\b"):
        WALKS[name](broken(value))


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_bundles_refuse_too(value):
    bundle, known = bundle_of(broken(value)), torch.arange(D).expand(2, -1) < 3
    for run in (
        lambda: ardm.sample(bundle, 2, D, "raster"),
        lambda: ardm.fill(bundle, X, known, D, "raster"),
        lambda: ardm.score(bundle, X, calls=D, order="raster"),
    ):
        with pytest.raises(ArdmError, match=r"no distribution at 2 of 2 sites in step \d\b"):
            run()


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", ANY)
def test_no_distribution_is_an_error_of_every_bound(name, value):
    with pytest.raises(ArdmError, match=r"no distribution at \d+ of \d+ sites in step \d+\b"):
        ANY[name](broken(value))


@pytest.mark.parametrize("base", [0, 2])
@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_sites_are_counted_whatever_the_stages(base, value):
    model = broken(value, sites=range(D), base=base)
    S = len(model.digits)
    plan = plans.raster(S, SHAPE).coarsen([0, 3, *range(D, S * D, D)])
    with pytest.raises(ArdmError, match=r"at 6 of 6 sites in step 1\b"):
        sample(model, plan, blank(model), generator())
    with pytest.raises(ArdmError, match=r"at 6 of 6 sites in step 1\b"):
        exact(model, plan, X)


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_a_confident_plan_refuses_at_once(value):
    """Also where the site without a distribution would not have been its turn yet."""
    model = broken(value, sites=(5,))
    plan = confident(tuple(range(D)), D)
    for run in (
        lambda: sample(model, plan, blank(model), generator()),
        lambda: score(model, plan, X),
        lambda: exact(model, plan, X),
    ):
        with pytest.raises(ArdmError, match=r"2 of 2 sites in step 3\b"):
            run()


def test_causal_models_without_distributions_are_refused():
    for run in (lambda: causal(OneOrder(), X), lambda: causal_bound(OneOrder(), X, 2, generator())):
        with pytest.raises(ArdmError, match=r"no distribution at [12] of (12|24) sites:"):
            run()


@pytest.mark.parametrize("make", [lambda a: MixtureHead(a, 3, 2), lambda a: ChainHead(a, 3)], ids=["mixture", "chain"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_wide_families_that_draw_by_their_own_cdf_refuse_too(make, value):
    alphabet = Digits(5000, 5000)
    head = make(alphabet)
    for layer in (m for m in head.modules() if isinstance(m, nn.Linear)):
        nn.init.ones_(layer.weight)
    assert head.by_quantile

    class Body(nn.Module):
        def forward(self, state, context=None):
            def features(batch_index, position):
                h = torch.ones(len(batch_index), 3)
                h[position == 2] = value
                return Features.plain(h)

            return features

    model = Model(alphabet, SHAPE, Body(), head)
    for temperature in (1.0, 0.7, 0.0):
        with pytest.raises(ArdmError, match=r"2 of 2 sites in step 2\b"):
            sample(model, RASTER, blank(model), generator(), temperature)
    with pytest.raises(ArdmError, match=r"2 of 2 sites in step 2\b"):
        exact(model, RASTER, X)


def test_decoding_refuses_as_encoding_does():
    good = Encode()
    encoded(broken(0.0), good)
    with pytest.raises(ArdmError, match=r"step 3\b"):
        encoded(broken(math.nan), Decode(good.finish()), truth=None)


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_sources_refuse_predictions_without_a_distribution_when_called_directly(value):
    logits = torch.zeros(3, K)
    logits[1] = value
    target = torch.zeros(3, dtype=torch.long)
    assert undefined(logits).tolist() == [False, True, False]
    for source in (Draw(generator()), Draw(generator(), 0), Draw(generator(), 0.3), Score(1)):
        with pytest.raises(ArdmError, match="1 of 3 sites"):
            source(*asked(logits, target), target)
    for source in (Encode(), Decode(Encode().finish())):
        with pytest.raises(ArdmError):
            source(*asked(logits, target), target)


def test_a_gpu_is_not_waited_for_at_each_step(monkeypatch):
    """Where a check would wait for the device, steps continue with a valid symbol; the error names its step later."""
    looks = []

    class Counting(Faults):
        def refuse(self, excused=None):
            looks.append(len(self._seen))
            super().refuse(excused)

    monkeypatch.setattr(faults, "Faults", Counting)
    monkeypatch.setattr(faults, "readable", lambda x: False)
    monkeypatch.setattr(faults, "PATIENCE", 4)
    assert sample(broken(0.0), RASTER, blank(broken(0.0)), generator()).shape == (2, D)
    assert looks == [4, 2]
    for value in BAD.values():
        with pytest.raises(ArdmError, match=r"2 of 2 sites in step 3\b"):
            sample(broken(value), RASTER, blank(broken(value)), generator())


# --- temperatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [math.nan, -1.0, -1e-310, math.inf, -math.inf])
def test_temperatures_that_are_none_are_refused(temperature):
    with pytest.raises(ArdmError, match="temperature must be a finite number"):
        Draw(generator(), temperature)
    with pytest.raises(ArdmError, match="temperature"):
        ardm.sample(bundle_of(broken(0.0)), 1, calls=D, temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-310, 5e-324, 1e-300, 1e-30, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_small_temperatures_go_to_the_most_likely(temperature, dtype):
    logits = torch.tensor(
        [[0.0, 3.0, 2.5, -torch.inf], [-60.0, -50.0, -torch.inf, -70.0], [5.0, 1e4, 2e4, 0.0]], dtype=dtype
    )
    drawn = Draw(generator(), temperature)(*asked(logits.repeat(50, 1)), None)
    assert (drawn.view(50, 3) == torch.tensor([1, 1, 2])).all()


def test_ties_share_a_small_temperature_and_a_large_one_is_uniform():
    logits = torch.tensor([[1.0, 1.0, 0.0, -torch.inf]]).expand(20_000, -1)
    cold = Draw(generator(), 1e-310)(*asked(logits), None).bincount(minlength=4) / 20_000
    torch.testing.assert_close(cold, torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=0.02, rtol=0)
    hot = Draw(generator(), 1e300)(*asked(logits), None).bincount(minlength=4) / 20_000
    torch.testing.assert_close(hot, torch.tensor([1.0, 1.0, 1.0, 0.0]) / 3, atol=0.02, rtol=0)


# --- impossible symbols -----------------------------------------------------------------------------------------------

NEVER = torch.tensor([2, 3])
"""Values that the model below calls impossible; in base 2, a block of them."""
Y = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 1, 1]])
"""The first item holds one of them, the second none."""


def narrow(base=0):
    def net(state, depth):
        return torch.zeros(*state.shape, K).index_fill(-1, NEVER, -torch.inf)

    return ardm.wrap(net, SHAPE, K, base)


class Narrow:
    digits = Digits(K, K)

    def nats(self, x, rank=None, context=None):
        return torch.where(torch.isin(x, NEVER), torch.inf, math.log(2))


IMPOSSIBLE = {
    "exact": lambda m, S: exact(m, plans.raster(S, SHAPE), Y),
    "exact, all at once": lambda m, S: exact(m, plans.raster(S, SHAPE).coarsen(range(0, S * D, D)), Y),
    "exact, adaptive": lambda m, S: exact(m, confident(tuple(range(S * D)), D, S), Y),
    "walk": lambda m, S: Estimate(score(m, plans.raster(S, SHAPE), Y), torch.zeros(2), "walk", D),
    "mixture": lambda m, S: mixture(m, [plans.shuffled(S, SHAPE, generator(i)) for i in range(3)], Y),
    "bound": lambda m, S: bound(m, Y, 40, generator()),
    "policy bound": lambda m, S: policy_bound(m, Y, [*range(0, S * D, D // 2)], 40, generator()),
}
WHOLE = {
    "absorbing bound": lambda m, S: absorbing_bound(m, Y, 8, 40, generator()),
    "causal": lambda m, S: causal(Narrow(), Y),
    "causal bound": lambda m, S: causal_bound(Narrow(), Y, 3, generator()),
}


@pytest.mark.parametrize(("name", "base"), [*((n, b) for n in IMPOSSIBLE for b in (0, 2)), *((n, 0) for n in WHOLE)])
def test_an_impossible_symbol_costs_infinity(name, base):
    model = narrow(base)
    got = {**IMPOSSIBLE, **WHOLE}[name](model, len(model.digits))
    assert got.nats[0] == math.inf
    assert got.nats[1].isfinite()
    assert not got.error.isnan().any()
    assert got.bits_per_dim == got.bits_per_dim_error == math.inf
    assert str(got).startswith("inf bits/dim")
    if got.passes:
        assert got.error[0] == math.inf
    joined = Estimate.joined([got, got])
    assert joined.bits_per_dim == joined.bits_per_dim_error == math.inf


def test_the_standard_error_of_a_possible_item_is_its_own():
    got = bound(narrow(), Y, 40, generator())
    assert 0 <= float(got.error[1]) < math.inf
    assert got.nats[1] == pytest.approx(D * math.log(2))


@pytest.mark.parametrize("base", [0, 2])
@pytest.mark.parametrize("grid", [0, D])
def test_a_curve_is_infinite_where_an_impossible_symbol_was_seen(grid, base):
    model = narrow(base)
    told = curve(model, Y, 60, generator(), grid=grid)
    mean = told.mean()
    assert (np.isnan(mean) == (told.seen == 0)).all()
    assert (mean[0] == math.inf).any()
    fitted = told.monotone()
    assert not np.isnan(fitted).any()
    assert (np.diff(np.nan_to_num(fitted[0], posinf=1e300)) <= 0).all()
    assert fitted[0, 0] == told.nats() == math.inf
    assert continuous_cost(fitted[0]) == absorbing_cost(fitted[0], 1) == absorbing_cost(fitted[0], 50) == math.inf
    assert cost(fitted, [[0, 2]] * len(fitted)) == math.inf
    with pytest.raises(ArdmError, match="calls symbols impossible"):
        optimal(fitted[0], 2)
    again = LossCurve.from_state(told.state())
    np.testing.assert_array_equal(again.mean(), mean)


def test_infinities_in_a_curve_reach_back_and_not_forward():
    told = LossCurve(1, 8, memory=2)
    told.update([0, 0, 0], [1, 3, 6], [2.0, math.inf, 1.0], [1, 1, 1])
    for _ in range(6):
        told.update([0, 0], [3, 7], [1.0, 0.5], [1, 1])
    assert told.monotone()[0].tolist() == [math.inf] * 6 + [1.0, 0.5]
    told.update([0], [2], [math.inf], [0])  # nothing was scored: nothing was seen
    assert np.isnan(told.mean()[0, 2])
    for nats in (math.nan, -math.inf):
        with pytest.raises(ArdmError, match="finite nats"):
            told.update([0], [0], [nats], [1])
    only = LossCurve(1, 3)
    only.update([0], [1], [math.inf], [2])
    assert only.monotone().tolist() == [[math.inf] * 3]


def test_columns_and_special_tokens_cost_infinity_where_they_cannot_be():
    table = ardm.build(
        ModelConfig(shape=(3,), classes=4, trunk="mlp", head="values", columns=(2, 4, 3), width=8, blocks=1)
    )
    x = torch.tensor([[3, 1, 1], [1, 3, 2]])
    for got in (exact(table, plans.raster(1, (3,)), x), bound(table, x, 20, generator())):
        assert got.nats[0] == math.inf
        assert got.nats[1].isfinite()

    class Network(nn.Module):
        def forward(self, input_ids, attention_mask):
            return torch.zeros(*input_ids.shape, 9)

    model = ardm.huggingface(Network(), 8, 3, vocabulary=9, never=(0,))
    got = exact(model, plans.raster(1, (3,)), torch.tensor([[1, 0, 3], [1, 2, 3]]))
    assert got.nats[0] == math.inf
    assert got.nats[1] == pytest.approx(3 * math.log(7))
    with pytest.raises(ArdmError, match="cannot be coded"):
        last(
            walk(model, plans.raster(1, (3,)), Encode(), model.digits.blank(1, (3,)), truth=torch.tensor([[1, 0, 3]])),
            None,
        )
