"""Likelihoods: exact against the walk, bounds against sums over all orders, and errors that are what they say."""

import itertools
import math

import numpy as np
import pytest
import torch

from ardm import plan as plans
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.likelihood import bound, curve, exact, mixture, policy_bound
from ardm.objective import plan_step, policy_step
from ardm.plan import NEVER, Plan
from ardm.ranks import bayer_ranks
from ardm.schedule import cost
from ardm.walk import score
from test_objective import loss_curve, mean_bound, mean_exact
from toys import (
    HEADS,
    WILD,
    Spy,
    all_data,
    all_orders,
    all_plans,
    confident,
    floor_maps,
    generator,
    letters,
    only,
    some_data,
    tiny_image,
    toy,
)

SHAPE = (2, 2)


def make_plans(S, batch):
    inside = torch.tensor([[[True, False], [True, True]]])
    policy = [s * 4 + d for s in range(S) for d in (0, 1, 3)]
    return {
        "raster": plans.raster(S, SHAPE),
        "policy": plans.shuffled(S, SHAPE, generator(0)).coarsen(policy),
        "unstaged": plans.unstaged(S, SHAPE, generator(0)),
        "one per item": plans.shuffled(S, SHAPE, generator(0), batch),
        "ragged": Plan(
            torch.where(
                torch.rand(batch, 1, *SHAPE, generator=generator(3)) < 0.4,
                NEVER,
                plans.shuffled(S, SHAPE, generator(0), batch).when,
            )
        ),
        "inside": only(plans.shuffled(S, SHAPE, generator(0)), inside),
        "nothing": only(plans.raster(S, SHAPE), inside & False),
    }


# --- exact ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", make_plans(1, 5))
@pytest.mark.parametrize(
    ("head", "alphabet"),
    [(h, Digits(4, 2)) for h in HEADS] + [("digits", Digits(3, 3)), ("values", WILD), ("values", letters())],
)
def test_all_steps_at_once_are_the_walk(head, alphabet, kind):
    model, x = toy(alphabet, SHAPE, head), some_data(alphabet, SHAPE, 5)
    plan = make_plans(len(alphabet), 5)[kind]
    expected = score(model, plan, x)
    for chunk in (1, 7, 1000):
        got = exact(model, plan, x, chunk=chunk)
        torch.testing.assert_close(got.nats, expected, rtol=0, atol=1e-10)
        assert (got.estimator, got.is_bound, got.passes, got.sites) == ("exact", False, 0, 4)
        assert got.error.tolist() == [0.0] * 5
        assert not got.nats.requires_grad


@pytest.mark.parametrize("kind", ["raster", "policy", "unstaged", "one per item"])
@pytest.mark.parametrize("alphabet", [Digits(4, 2), Digits(7, 2), WILD])
def test_exact_counts_what_was_not_given(alphabet, kind):
    S, x = len(alphabet), some_data(alphabet, SHAPE, 6)
    model = toy(alphabet, SHAPE, "values")
    for depth in (
        torch.randint(S + 1, x.shape, generator=generator(1)),
        torch.randint(S + 1, (1, *SHAPE), generator=generator(2)).expand_as(x),
    ):
        plan, start = make_plans(S, 6)[kind].given(depth), alphabet.truncate(x, depth)
        expected = score(model, plan, x, start)
        torch.testing.assert_close(exact(model, plan, x, start, chunk=5).nats, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            exact(model, plan, x, chunk=5).nats, expected, rtol=0, atol=1e-10
        )  # the plan says it


def test_a_start_may_show_what_is_never_asked():
    digits = Digits(3, 3)
    model, x = toy(digits, (4,)), some_data(digits, (4,), 3)
    hidden, shown = digits.blank(3, (4,)), digits.truncate(x, torch.tensor([[0, 1, 0, 0]]).expand_as(x))
    plan = only(plans.raster(1, (4,)), torch.tensor([[True, False, True, True]]))
    for start in (hidden, shown):
        torch.testing.assert_close(exact(model, plan, x, start).nats, score(model, plan, x, start))
    assert (exact(model, plan, x, hidden).nats - exact(model, plan, x, shown).nats).abs().max() > 0.01


def test_an_adaptive_plan_is_walked_and_says_so():
    digits = Digits(4, 2)
    model, x, adaptive = toy(digits, (3,)), all_data(4, (3,)), confident((0, 1, 3, 5), 3, 2)
    got = exact(model, adaptive, x)
    assert "adaptive" in got.estimator
    assert not got.is_bound
    assert torch.equal(got.nats, score(model, adaptive, x))
    assert float(got.nats.neg().exp().sum()) == pytest.approx(1, abs=1e-10)


def test_exact_uses_one_input_for_each_step_that_asks():
    model, x = Spy(toy(Digits(3, 3), (20,))), some_data(Digits(3, 3), (20,), 3)
    exact(model, plans.absorbing(10_000, (20,), 3, generator(0)), x, chunk=8)
    assert sum(s.batch for s in model.seen) <= 60
    assert max(s.batch for s in model.seen) == 8


def test_exact_passes_the_context_of_each_item():
    model, x = toy(Digits(4, 2), SHAPE, context=3), some_data(Digits(4, 2), SHAPE, 5)
    side = torch.randn(5, 3, generator=generator(0), dtype=torch.double)
    for plan in (make_plans(2, 5)["policy"], make_plans(2, 5)["one per item"]):
        torch.testing.assert_close(
            exact(model, plan, x, context=side, chunk=3).nats, score(model, plan, x, context=side)
        )


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_image_models_score_in_batches_as_they_walk(trunk):
    model = tiny_image(trunk, (2, 3, 4), classes=7, base=3, head="mixture")
    x = some_data(model.digits, (2, 3, 4), 3)
    plan = plans.image(2, (2, 3, 4), bayer_ranks(3, 4)).coarsen([0, 2, 9, 24, 30])
    torch.testing.assert_close(exact(model, plan, x, chunk=4).nats, score(model, plan, x), rtol=1e-9, atol=0)


def test_exact_refuses_what_would_give_another_number():
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 2)
    plan = plans.raster(2, (3,))
    depth = torch.tensor([[1, 0, 2]]).expand_as(x)
    start = digits.truncate(x, depth)
    with pytest.raises(ArdmError, match=r"plan\.given"):
        exact(model, plan, x, start)
    with pytest.raises(ArdmError, match=r"plan\.given"):
        exact(model, plan.given(depth), x, digits.blank(2, (3,)))
    with pytest.raises(ArdmError, match="digits forgotten"):
        exact(model, plan.given(depth), (x + 2) % 4, start)
    with pytest.raises(ArdmError, match="digits forgotten"):
        exact(model, plan.given(depth), x, Partial(start.value[:1], start.depth[:1]))
    for bad in (plans.raster(2, (4,)), plans.raster(1, (3,)), plans.shuffled(2, (3,), generator(), batch=3)):
        with pytest.raises(ArdmError, match="the plan is for"):
            exact(model, bad, x)
    for wrong, message in (
        (x + 3, r"values in 0\.\.3"),
        (x - 4, "values in"),
        (x.float(), "whole numbers"),
        (x[:0], "at least one"),
        (x[None], "shape"),
    ):
        with pytest.raises(ArdmError, match=message):
            exact(model, plan, wrong)
    with pytest.raises(ArdmError, match="chunk"):
        exact(model, plan, x, chunk=0)


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alphabet", [Digits(3, 3), Digits(4, 2)])
def test_the_bound_is_the_mean_over_orders_within_its_error(alphabet):
    model, x = toy(alphabet, (3,)), some_data(alphabet, (3,), 6)
    got = bound(model, x, 4000, generator(0), chunk=3000)
    expected = mean_bound(model, x)
    assert ((got.nats - expected).abs() < 4 * got.error).all()
    assert (got.error < 0.05 * expected).all()
    assert (got.estimator, got.is_bound, got.passes, got.sites) == ("any-order bound", True, 4000, 3)


def test_the_bound_of_the_rest_costs_what_the_rest_costs():
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 5)
    given = torch.tensor([[0, 1, 2], [2, 2, 2], [0, 0, 0], [2, 0, 0], [1, 1, 1]])
    got = bound(model, x, 4000, generator(0), given=given, chunk=3000)
    expected = mean_exact(model, x, given=given)
    assert ((got.nats - expected).abs() <= 4 * got.error).all()
    assert (float(got.nats[1]), float(got.error[1])) == (0, 0)
    shared = bound(model, x[:1], 50, generator(0), given=given[:1])
    assert torch.equal(shared.nats, bound(model, x[:1], 50, generator(0), given=given[0]).nats)


def every_group(model, x, starts, given=None):
    """(B,): the mean of `policy_step` over every group of a policy and every order."""
    D = x.shape[1]
    rows = list(itertools.product(range(len(starts)), all_orders(D)))
    group, rank = torch.tensor([g for g, _ in rows]), torch.stack([r for _, r in rows])
    out = []
    for i in range(len(x)):
        known = None if given is None else given[i].expand(len(rows), D)
        with torch.no_grad():
            out.append(
                policy_step(model, x[i].expand(len(rows), D), torch.tensor(starts), group, rank, known).nats.mean()
            )
    return torch.stack(out)


POLICIES = [
    (Digits(3, 3), 4, [0]),
    (Digits(3, 3), 4, [0, 1, 3]),
    (Digits(3, 3), 4, [0, 1, 2, 3]),
    (Digits(4, 2), 3, [0, 3]),
    (Digits(4, 2), 3, [0, 2, 3, 4]),
    (Digits(4, 2), 3, [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("digits", "D", "starts"), POLICIES)
def test_a_policy_costs_its_mean_over_orders(digits, D, starts):
    """Exactly, over every group and order; and the drawn estimate agrees within its error."""
    model, x = toy(digits, (D,)), some_data(digits, (D,), 3)
    expected = mean_exact(model, x, starts)
    torch.testing.assert_close(every_group(model, x, starts), expected, rtol=0, atol=1e-10)
    got = policy_bound(model, x, starts, 3000, generator(0), chunk=4000)
    assert ((got.nats - expected).abs() < 4 * got.error + 1e-9).all()
    assert got.is_bound
    assert f"{len(starts)} call" in got.estimator


def test_a_policy_works_around_what_is_given():
    digits, starts = Digits(4, 2), [0, 1, 3, 5]
    model, x = toy(digits, (3,)), some_data(digits, (3,), 4)
    given = torch.tensor([[0, 1, 2], [2, 2, 2], [0, 0, 0], [2, 0, 0]])
    expected = mean_exact(model, x, starts, given=given)
    torch.testing.assert_close(every_group(model, x, starts, given), expected, rtol=0, atol=1e-10)
    got = policy_bound(model, x, starts, 2000, generator(0), given=given, chunk=4000)
    assert ((got.nats - expected).abs() <= 4 * got.error).all()


def test_the_policy_of_every_step_is_the_bound():
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 2)
    torch.testing.assert_close(mean_exact(model, x, range(6)), mean_bound(model, x), rtol=0, atol=1e-10)
    fine, policy = (
        f(model, x, *a, 2000, generator(0), chunk=4000) for f, a in ((bound, ()), (policy_bound, (range(6),)))
    )
    assert ((fine.nats - policy.nats).abs() < 4 * (fine.error + policy.error)).all()


def test_all_hidden_sites_are_less_noise_than_the_groups_own():
    """Why the policy bound does not score the sites of the group alone."""
    digits, starts = Digits(3, 3), [0, 1, 2, 4]
    model, x = toy(digits, (5,)), some_data(digits, (5,), 1)
    n = 4000
    ours = policy_bound(model, x, starts, n, generator(0), chunk=4000)
    shuffled = plans.shuffled(1, (5,), generator(1), batch=n).coarsen(starts)
    with torch.no_grad():
        own = plan_step(model, shuffled, x.expand(n, 5), torch.randint(4, (n,), generator=generator(2))).nats
    assert float(ours.error) < 0.9 * float(own.std() / math.sqrt(n))
    assert abs(float(ours.nats - own.mean())) < 4 * float(own.std() / math.sqrt(n))


@pytest.mark.parametrize("starts", [[], [1, 3], [0, 1], [0, 3, 2], [0, 3, 6], [0, 0, 3], [0, 2, 4], [-3, 0, 3]])
def test_a_policy_must_begin_each_stage(starts):
    model, x = toy(Digits(4, 2), (3,)), some_data(Digits(4, 2), (3,), 2)
    with pytest.raises(ArdmError, match=r"starts must (increase from 0|be at least 0)"):
        policy_bound(model, x, starts, 1, generator())


def test_passes_are_stratified_together():
    """Steps of items and passes cover all stages and sites, once each, however they are cut into calls."""
    seen = []

    class Watched(Spy):
        def __call__(self, state, context=None):
            seen.extend(zip(state.depth.min(1).values.tolist(), state.depth.sum(1).tolist(), strict=True))
            return super().__call__(state, context)

    model, x = Watched(toy(Digits(4, 2), (5,))), some_data(Digits(4, 2), (5,), 4)
    bound(model, x, 5, generator(0), chunk=3)
    assert sorted(known for _, known in seen) == sorted([*range(10)] * 2)
    assert len(model.seen) == 7


def test_bounds_of_images_and_context_come_out_in_order():
    model = tiny_image("centred", (1, 2, 3), classes=4, labels=3)
    x, labels = some_data(model.digits, (1, 2, 3), 4), torch.tensor([0, 1, 2, 0])
    together = bound(model, x, 300, generator(0), context=labels, chunk=50)
    for i in range(4):
        alone = bound(model, x[i : i + 1], 300, generator(1), context=labels[i : i + 1])
        assert abs(float(together.nats[i] - alone.nats[0])) < 5 * float(together.error[i] + alone.error[0])


def test_floor_maps_give_the_bound_of_digits():
    digits, x = Digits(7, 3), some_data(Digits(7, 3), (3,), 4)
    a, b = (bound(toy(d, (3,), "values"), x, 10, generator(0)) for d in (digits, floor_maps(digits)))
    torch.testing.assert_close(a.nats, b.nats, rtol=0, atol=1e-12)


def test_bounds_refuse_no_passes():
    model, x = toy(Digits(3, 3), (3,)), some_data(Digits(3, 3), (3,), 2)
    for call in (
        lambda n: bound(model, x, n, generator()),
        lambda n: policy_bound(model, x, [0], n, generator()),
        lambda n: curve(model, x, n, generator()),
    ):
        with pytest.raises(ArdmError, match="passes"):
            call(0)
    with pytest.raises(ArdmError, match="values in"):
        bound(model, x + 2, 1, generator())


# --- several orders ---------------------------------------------------------------------------------------------------


def test_a_mixture_of_orders_is_tighter_and_still_sums_to_one():
    digits = Digits(3, 2)
    model, x = toy(digits, (3,)), all_data(3, (3,))
    every = [Plan(p[None]) for p in all_plans(2, (3,)).when]
    nats = torch.stack([score(model, p, x) for p in every])
    got = mixture(model, every, x)
    torch.testing.assert_close(got.nats, -nats.neg().exp().mean(0).log(), rtol=0, atol=1e-10)
    assert (got.nats <= nats.mean(0)).all()
    assert float(got.nats.neg().exp().sum()) == pytest.approx(1, abs=1e-10)
    assert got.is_bound
    assert "36 plans" in got.estimator
    few = mixture(model, every[:4], x)
    assert (few.nats <= nats[:4].mean(0)).all()
    assert (few.nats > nats[:4].min(0).values - 1e-9).all()
    both = mixture(model, [every[0], confident((0, 1, 3), 3, 2)], x)
    assert float(both.nats.neg().exp().sum()) == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(mixture(model, every[:1], x).nats, nats[0])
    with pytest.raises(ArdmError, match="at least one"):
        mixture(model, [], x)


# --- the loss curve ---------------------------------------------------------------------------------------------------


def test_the_measured_curve_is_that_of_all_orders():
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 3)
    measured = curve(model, x, 6000, generator(0), chunk=6000)
    expected = loss_curve(model, x)
    assert (measured.seen == 3000).all()  # 3 items · 6000 passes over 6 steps
    torch.testing.assert_close(torch.from_numpy(measured.mean()), expected, rtol=0.06, atol=0)
    starts = [[0, 1], [0, 2]]
    priced = cost(measured.mean(), starts)
    told = policy_bound(model, x, [0, 1, 3, 5], 3000, generator(1), chunk=9000)
    assert priced == pytest.approx(float(told.nats.mean()), abs=4 * float(told.error.square().mean().sqrt()) + 0.1)
    assert priced == pytest.approx(float(mean_exact(model, x, [0, 1, 3, 5]).mean()), rel=0.03)


def test_a_grid_measures_every_item_at_the_same_steps():
    """So the spread of the items, however large, is common to all steps of a curve, and it is that of all orders."""
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 3)
    measured = curve(model, x, 4000, generator(0), chunk=6000, grid=6)
    assert (measured.seen == 12000).all()
    torch.testing.assert_close(torch.from_numpy(measured.mean()), loss_curve(model, x), rtol=0.04, atol=0)
    model, x = toy(Digits(3, 3), (40,)), some_data(Digits(3, 3), (40,), 5)
    few = curve(model, x, 2, generator(0), grid=8)
    steps = np.flatnonzero(few.seen[0])
    assert steps.tolist() == [0, 2, 5, 13, 15, 26, 39]
    assert (few.seen[0, steps] == 10).all()
    assert (few.count[0, steps] == 10 * (40 - steps)).all()
    assert np.flatnonzero(curve(model, x, 1, generator(0), grid=1).seen[0]).tolist() == [0]
    part = curve(model, x, 2, generator(0), grid=8, subset=7)
    assert part.count[0, steps].tolist() == [70, 70, 70, 70, 70, 70, 10]
    with pytest.raises(ArdmError, match="grid is the number of steps"):
        curve(model, x, 1, generator(0), grid=-1)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_say_what_they_are():
    nats = torch.tensor([10.0, 14.0], dtype=torch.double)
    value = Estimate(nats, torch.tensor([1.0, 3.0], dtype=torch.double), "any-order bound", 4, 4, is_bound=True)
    assert value.bits_per_dim == pytest.approx(12 / 4 / math.log(2))
    assert value.bits_per_dim_error == pytest.approx(
        math.sqrt(8) / math.sqrt(2) / 4 / math.log(2)
    )  # spread of the items
    assert str(value) == "4.328 ± 0.721 bits/dim (any-order bound, 4 passes, 2 items)"
    single = Estimate(nats[:1], value.error[:1], "any-order bound", 4, 2, is_bound=True)
    assert single.bits_per_dim_error == pytest.approx(1 / 4 / math.log(2))
    assert str(single).endswith("(any-order bound, 2 passes, 1 item)")
    once = Estimate(nats[:1], torch.tensor([math.nan]), "any-order bound", 4, 1, is_bound=True)
    assert str(once) == "3.607 bits/dim (any-order bound, 1 pass, 1 item)"
    assert str(Estimate(nats[:1], torch.zeros(1), "exact", 4)) == "3.607 ± 0.000 bits/dim (exact, 1 item)"


def test_an_impossible_item_has_an_infinite_error_in_nats_too():
    one = Estimate(torch.tensor([math.inf, 1.0]).double(), torch.zeros(2).double(), "exact", 4)
    assert (one.error_nats, one.bits_per_dim_error) == (math.inf, math.inf)


def test_the_error_of_a_difference_is_not_that_of_one_of_them():
    """Of several items it is the spread of their differences; of one, the passes of both would have to be known."""
    several = Estimate(torch.tensor([3.0, 5.0]).double(), torch.ones(2).double(), "any-order bound", 4, 2)
    assert several.less(several).bits_per_dim_error == 0
    one = Estimate(torch.tensor([3.0]).double(), torch.ones(1).double(), "any-order bound", 4, 2)
    assert math.isnan(one.less(one).bits_per_dim_error)
    exactly = Estimate(torch.tensor([3.0]).double(), torch.zeros(1).double(), "exact", 4)
    assert exactly.less(exactly).bits_per_dim_error == 0


def test_errors_are_those_of_repeated_runs():
    """The error of each item predicts how far whole runs differ; so does that of the mean over items."""
    model, x = toy(Digits(3, 3), (4,)), some_data(Digits(3, 3), (4,), 2)
    runs = [bound(model, x, 8, generator(seed)) for seed in range(300)]
    spread = torch.stack([r.nats for r in runs]).std(0)
    claimed = torch.stack([r.error for r in runs]).square().mean(0).sqrt()
    torch.testing.assert_close(claimed, spread, rtol=0.15, atol=0)
    alone = bound(model, x, 1, generator(0))
    assert alone.error.isnan().all()


def test_the_error_over_items_is_that_of_other_items():
    """Items are the sample: means over fresh items scatter as `bits_per_dim_error` says, pass noise included."""
    model = toy(Digits(3, 3), (4,))
    runs = [bound(model, some_data(model.digits, (4,), 40, seed=s), 2, generator(s), chunk=200) for s in range(120)]
    scatter = torch.tensor([r.bits_per_dim for r in runs]).std()
    claimed = torch.tensor([r.bits_per_dim_error for r in runs]).mean()
    assert float(claimed / scatter) == pytest.approx(1, abs=0.25)


def test_only_exact_values_are_called_exact():
    model, x = toy(Digits(3, 3), (3,)), some_data(Digits(3, 3), (3,), 2)
    plan = plans.raster(1, (3,))
    bounds = [
        bound(model, x, 2, generator()),
        policy_bound(model, x, [0, 1], 2, generator()),
        mixture(model, [plan, plan], x),
    ]
    for value in bounds:
        assert value.is_bound
        assert "bound" in value.estimator
        assert "exact" not in value.estimator
    for value in (exact(model, plan, x), exact(model, confident((0, 1), 3), x)):
        assert not value.is_bound
        assert value.estimator.startswith("exact")
