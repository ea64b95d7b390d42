"""Autoregressive baselines: one pass is the chain rule, nothing later is seen, and the walk agrees."""

import math

import pytest
import torch

import ardm
from ardm import likelihood
from ardm import plan as plans
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.causal import CausalModel
from ardm.models.config import ModelConfig, preset
from ardm.objective import causal_step
from ardm.walk import sample, score
from sequences import gradients, small
from toys import all_data, all_orders, generator, only, some_data

SINGLE = {
    "transformer": {"trunk": "transformer"},
    "classic": {"trunk": "transformer", "style": "classic", "positions": "sinusoidal"},
    "learned": {"trunk": "transformer", "positions": "learned"},
    "wavenet": {"trunk": "wavenet", "head": "mixture"},
    "classic wavenet": {"trunk": "wavenet", "head": "mixture", "style": "classic", "kernel": 2},
    "wavenet of values": {"trunk": "wavenet", "head": "values"},
}
ANY = {
    "rotary": {},
    "learned": {"positions": "learned", "style": "classic"},
    "sinusoidal": {"positions": "sinusoidal", "style": "classic"},
}


def single(name, **changes):
    return small(**{"causal": "single", **SINGLE[name], **changes})


def permuted(name, **changes):
    return small(**{"trunk": "transformer", "causal": "any", **ANY[name], **changes})


# --- one order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_one_pass_scores_what_the_walk_does(name):
    model = single(name)
    x = some_data(model.digits, (5,), 4)
    nats = model.nats(x)
    assert nats.shape == (4, 5)
    torch.testing.assert_close(nats.sum(1).double(), score(model, plans.raster(1, (5,)), x), rtol=1e-9, atol=0)
    torch.testing.assert_close(
        likelihood.causal(model, x, chunk=3).nats, likelihood.exact(model, plans.raster(1, (5,)), x).nats
    )


@pytest.mark.parametrize("name", SINGLE)
def test_each_site_depends_on_what_comes_before_it(name):
    model = single(name)
    x = some_data(model.digits, (5,), 1)
    nats = model.nats(x)
    for j in range(5):
        y = x.clone()
        y[0, j] = (y[0, j] + 2) % 5
        other = model.nats(y)
        assert torch.equal(nats[0, :j], other[0, :j])
        assert j == 4 or not torch.equal(nats[0, j + 1], other[0, j + 1]), "the site before it is seen"


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_given_to_the_right_is_refused(name):
    """A model of one order would ignore it, and report the result as exact."""
    model = single(name, shape=(3,))
    x, left = torch.tensor([[1, 2, 3]]), torch.tensor([True, False, False])
    assert ardm.fill(model, x, left, order="raster")[0, 0] == 1
    assert torch.equal(ardm.fill(model, x, torch.ones(3, dtype=torch.bool), order="raster"), x)
    for known in ([False, False, True], [True, False, True]):
        depth = torch.tensor([known])
        with pytest.raises(ArdmError, match="has one order and ignores what is known behind a hole"):
            ardm.fill(model, x, depth, order="raster")
        start = model.digits.truncate(x, depth.long())
        with pytest.raises(ArdmError, match="ignores what follows"):
            likelihood.exact(model, plans.raster(1, (3,)).given(depth.long()), x, start)
    both = torch.tensor([[True, True, True], [True, False, False]])  # an item with nothing to tell is no obstacle
    assert torch.equal(ardm.fill(model, x.expand(2, 3), both, order="raster")[0], x[0])


@pytest.mark.parametrize("name", ["transformer", "wavenet"])
def test_the_default_order_of_a_one_order_model_is_raster(name):
    model = single(name, shape=(52,))
    x = ardm.sample(model, 2)
    assert x.shape == (2, 52)
    assert torch.equal(x, ardm.sample(model, 2, 10**6))
    told = ardm.score(model, x)
    assert (told.estimator, told.is_bound) == ("exact", False)
    torch.testing.assert_close(told.nats, likelihood.causal(model, x).nats)
    torch.testing.assert_close(told.nats, ardm.score(model, x, order="raster").nats)
    longer = torch.cat([x, x], 1)
    assert ardm.score(model, longer).sites == 104
    known = torch.arange(104) < 51
    assert torch.equal(ardm.fill(model, longer, known)[:, :51], longer[:, :51])
    with pytest.raises(ArdmError, match="one call per site, 52; got 50"):
        ardm.sample(model, 2, 50)


def test_an_image_in_one_order_is_told_site_by_site():
    model = single("transformer", shape=(3, 2, 2))
    x = ardm.sample(model, 2)
    torch.testing.assert_close(ardm.score(model, x, order="raster").nats, ardm.score(model, x).nats)


@pytest.mark.parametrize("name", SINGLE)
def test_the_probabilities_of_everything_sum_to_one(name):
    model = single(name, shape=(3,), classes=4)
    assert float(model.nats(all_data(4, (3,))).detach().sum(1).neg().exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_hidden_is_not_seen_and_gaps_are_refused(name):
    model = single(name)
    x, y = some_data(model.digits, (5,), 2), some_data(model.digits, (5,), 2, seed=9)
    depth = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    sites = Sites(torch.tensor([2, 8]), 5)
    a, b = (model(model.digits.truncate(torch.where(depth > 0, x, z), depth))[sites] for z in (x, y))
    assert torch.equal(a, b)
    state = model.digits.truncate(x, depth)
    with pytest.raises(ArdmError, match="asked for site 4, but site 2 before it is not known"):
        model(state)[Sites(torch.tensor([4]), 5)]
    depth[1, 4] = 1  # known, but after the site asked
    state = model.digits.truncate(x, depth)
    with pytest.raises(ArdmError, match="a site after the unknown site 3 is known"):
        model(state)[sites]
    torch.testing.assert_close(model(state)[Sites(sites.index[:1], 5)], a[:1])  # the item beside it is answered
    assert len(model(state)[Sites(torch.tensor([], dtype=torch.long), 5)]) == 0


@pytest.mark.parametrize("name", SINGLE)
def test_every_parameter_of_one_order_is_trained(name):
    model = single(name)
    causal_step(model, some_data(model.digits, (5,), 8)).nats.sum().backward()
    gradients(model)


def test_one_order_samples_along_raster_only():
    model = single("transformer")
    assert sample(model, plans.raster(1, (5,)), model.digits.blank(3, (5,)), generator()).shape == (3, 5)
    with pytest.raises(ArdmError, match="single order"):
        sample(model, plans.shuffled(1, (5,), generator(1)), model.digits.blank(1, (5,)), generator())
    with pytest.raises(ArdmError, match="raster order only"):
        model.nats(torch.zeros(1, 5, dtype=torch.long), torch.tensor([4, 3, 2, 1, 0]))


def test_samples_follow_the_probabilities():
    model = single("wavenet of values", shape=(2,), classes=3)
    x = sample(model, plans.raster(1, (2,)), model.digits.blank(4000, (2,)), generator())
    found = torch.bincount(x[:, 0] * 3 + x[:, 1], minlength=9) / 4000
    expected = model.nats(all_data(3, (2,))).sum(1).neg().exp()
    assert (found - expected).abs().max() < 0.03


# --- any order --------------------------------------------------------------------------------------------------------


def test_a_start_may_show_what_is_never_asked():
    model = permuted("rotary", shape=(4,))
    x = some_data(model.digits, (4,), 2)
    plan = only(plans.raster(1, (4,)), torch.tensor([[True, False, True, False]]))
    start = model.digits.truncate(x, torch.tensor([[0, 1, 0, 1]]).expand_as(x))
    torch.testing.assert_close(score(model, plan, x, start), likelihood.exact(model, plan, x, start).nats)


@pytest.mark.parametrize("name", ANY)
def test_every_order_is_a_distribution(name):
    model, data = permuted(name, shape=(3,), classes=3), all_data(3, (3,))
    nats = torch.stack([model.nats(data, rank).sum(1) for rank in all_orders(3)])
    torch.testing.assert_close(nats.neg().exp().sum(1), torch.ones(6, dtype=torch.double))
    assert nats.std(0).max() > 1e-2, "orders differ"


@pytest.mark.parametrize("name", ANY)
def test_raster_is_what_the_walk_gives(name):
    """Ascending order is the order of rank in raster; along other orders the known sites are presented differently."""
    model = permuted(name)
    x = some_data(model.digits, (5,), 4)
    walked = score(model, plans.raster(1, (5,)), x)
    torch.testing.assert_close(model.nats(x).sum(1), walked, rtol=1e-9, atol=0)
    torch.testing.assert_close(model.nats(x, torch.arange(5)).sum(1), walked, rtol=1e-9, atol=0)
    other = torch.tensor([3, 0, 4, 1, 2])
    along, ascending = model.nats(x, other), score(model, plans.ranked(other, (5,)), x)
    assert along.sum(1).sub(ascending).abs().max() > 1e-3
    torch.testing.assert_close(
        along[:, 1],
        likelihood.exact(model, only(plans.ranked(other, (5,)), torch.tensor([[0, 1, 0, 0, 0]]) > 0), x).nats,
    )


@pytest.mark.parametrize("name", ANY)
def test_conditionals_see_smaller_ranks_only(name):
    model = permuted(name)
    x, rank = some_data(model.digits, (5,), 1), torch.tensor([3, 0, 4, 1, 2])
    nats = model.nats(x, rank)
    for j in range(5):
        y = x.clone()
        y[0, j] = (y[0, j] + 2) % 5
        other = model.nats(y, rank)
        before, after = rank < rank[j], rank > rank[j]
        assert torch.equal(nats[0, before], other[0, before])
        assert (nats[0, after] != other[0, after]).all()


@pytest.mark.parametrize("name", ANY)
def test_hidden_values_change_nothing_and_groups_may_be_asked(name):
    model = permuted(name)
    x, y = some_data(model.digits, (5,), 3), some_data(model.digits, (5,), 3, seed=9)
    depth = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 0, 0]])
    one, two = (Partial(torch.where(depth > 0, x, z), depth) for z in (x, y))
    sites = Sites.where(depth == 0)
    whole = model(one)[sites]
    assert torch.equal(whole, model(two)[sites])
    alone = [model(Partial(one.value[b : b + 1], depth[b : b + 1]))[Sites(torch.tensor([i]), 5)] for b, i in zip(sites.batch_index, sites.position, strict=True)]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-9, atol=1e-11)
    assert whole[5:8].std(0).max() > 1e-3, "the target is seen"
    assert name == "rotary" or whole[:5].std(0).max() > 1e-3, "even where nothing is known; rotary ones are relative"
    assert len(model(one)[Sites(sites.index[:0], 5)]) == 0
    assert sample(model, plans.shuffled(1, (5,), generator(1)).coarsen([0, 2]), model.digits.blank(3, (5,)), generator()).shape == (3, 5)  # fmt: skip


@pytest.mark.parametrize("name", ANY)
def test_every_parameter_of_any_order_is_trained(name):
    model = permuted(name)
    rank = torch.rand(8, 5, generator=generator(0)).argsort(1)
    causal_step(model, some_data(model.digits, (5,), 8), rank).nats.sum().backward()
    gradients(model)


def test_the_bound_is_the_mean_over_orders():
    model = permuted("rotary", shape=(3,), classes=3)
    x = some_data(model.digits, (3,), 2)
    expected = torch.stack([model.nats(x, rank).sum(1) for rank in all_orders(3)]).mean(0)
    found = likelihood.causal_bound(model, x, 4000, generator(1), chunk=1000)
    assert found.is_bound
    assert ((found.nats - expected).abs() < 5 * found.error).all()
    ranks = torch.stack([torch.tensor([2, 0, 1]), torch.tensor([0, 2, 1])])
    each = likelihood.causal(model, x, ranks, chunk=1)
    torch.testing.assert_close(each.nats, model.nats(x, ranks).sum(1))
    assert each.estimator == "exact"


# --- both -------------------------------------------------------------------------------------------------------------


def test_context_is_heard():
    for changes in ({"causal": "single"}, {"causal": "any"}):
        model = small("transformer", labels=2, **changes)
        x = some_data(model.digits, (5,), 2)
        a, b = (model.nats(x, context=torch.full((2,), c)) for c in (0, 1))
        assert (a - b).abs().max() > 1e-3
        with pytest.raises(ArdmError, match="takes no context"):
            small("transformer", **changes).nats(x, context=torch.zeros(2, dtype=torch.long))


def test_causal_models_have_the_size_of_the_others():
    sizes = []
    for causal in ("", "single", "any"):
        model = build(preset("text-tiny", shape=(9,), classes=27, causal=causal))
        assert isinstance(model, CausalModel) == bool(causal)
        sizes.append(sum(p.numel() for p in model.parameters()))
    assert len(set(sizes)) == 1


def test_a_new_one_is_ignorant_of_any_length():
    for causal in ("single", "any"):
        model = build(preset("text-tiny", shape=(9,), classes=7, causal=causal)).eval()
        x = torch.randint(7, (2, 12), generator=generator(0))
        assert float(model.nats(x).detach().sum()) == pytest.approx(24 * math.log(7), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": "both"}, "causal must be one of"),
        ({"causal": "any", "trunk": "wavenet"}, "for trunk transformer; got 'wavenet'"),
        ({"causal": "single", "shape": (1, 2, 2), "trunk": "unet"}, "for trunk transformer or wavenet"),
        ({"causal": "single", "base": 2}, "whole values"),
        ({"causal": "any", "time": True}, "no time"),
        ({"causal": "any", "positions": "sinusoidal", "width": 10, "heads": 1}, "multiple of 4"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ArdmError, match=message):
        build(
            ModelConfig(
                **{"shape": (5,), "classes": 5, "head": "values", "trunk": "transformer", "width": 8, **changes}
            )
        )


def test_ranks_that_are_no_order_are_refused():
    model, x = permuted("rotary"), torch.zeros(1, 5, dtype=torch.long)
    with pytest.raises(ArdmError, match=r"each of 0\.\.4 once"):
        model.nats(x, torch.tensor([0, 1, 2, 3, 3]))
    with pytest.raises(ArdmError, match="learned positions serve items of 5"):
        permuted("learned").nats(torch.zeros(1, 6, dtype=torch.long))
