"""Plans for hidden digits: as many steps as allowed for every mask, optimal, and completions that sum to one."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ardm
from ardm import api, likelihood, planning
from ardm import plan as plans
from ardm.adaptive import Adaptive, PlannedNumber, Threshold
from ardm.bundle import Bundle
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.losscurve import LossCurve
from ardm.orders import OrderConfig
from ardm.plan import GIVEN
from ardm.random_numbers import RandomNumbers
from ardm.ranks import LINES, RANKS
from ardm.schedule import cost, joint, optimal, remaining
from ardm.source import Draw
from ardm.walk import last, sample, score, walk
from toys import Spy, all_data, confident, generator, some_data, toy

IMAGE, LINE = (3, 4, 5), (17,)


def curve(stages, sites, seed=0):
    return np.sort(np.random.default_rng(seed).uniform(0.1, 3, (stages, sites)), 1)[:, ::-1]


def bundle(base=0, shape=IMAGE, order=None, curved=True):
    """A network that knows nothing, with losses that look as if it did."""
    digits = Digits(4, base or 4)

    def flat(value, depth):
        return torch.zeros(*value.shape, 4)

    losses = LossCurve.exact(curve(len(digits), math.prod(shape))) if curved else None
    config = ardm.ModelConfig(shape=shape, classes=4, base=base)
    return Bundle(ardm.wrap(flat, shape, 4, base), config, order or OrderConfig(), losses)


class Flat:
    """A prediction that is sure of low positions."""

    def __getitem__(self, sites):
        return torch.stack([sites.position.double(), torch.zeros(len(sites), dtype=torch.double)], 1)


def steps_of(plan, depth, stages):
    """Walk a plan with arbitrary digits: each item's sites by step; every digit comes once, in turn."""
    seen, rows = depth.clone(), [[] for _ in depth]
    for k in itertools.count():
        state = Partial(torch.zeros_like(seen), seen)
        if not plan.items(k, state):
            break
        sites = plan.select(k, state, Flat())
        assert len(sites) > 0, f"step {k} reveals nothing in any item"
        assert len(sites.index.unique()) == len(sites)
        seen = seen.flatten().index_add(0, sites.index, torch.ones_like(sites.index)).view_as(seen)
        for lane in sites.batch_index.unique().tolist():
            rows[lane].append(int((sites.batch_index == lane).sum()))
    assert (seen == stages).all()
    return rows


ORDERS = [*((o, IMAGE) for o in ("random", "confident", *RANKS)), *((o, LINE) for o in ("random", "confident", *LINES))]


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize(("order", "shape"), ORDERS)
@pytest.mark.parametrize("base", [0, 2])
def test_every_item_has_as_many_steps_as_are_allowed(base, order, shape, data):
    """The law: for every mask, the steps of an item that reveal something are min(calls, its hidden digits)."""
    model, g = bundle(base, shape, curved=data.draw(st.booleans())), generator(data.draw(st.integers(0, 999)))
    S, batch = len(model.model.digits), data.draw(st.integers(1, 3))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.97, 1.0]))
    depth = torch.where(
        torch.rand(batch, *shape, generator=g) < share, S, torch.randint(S, (batch, *shape), generator=g)
    )
    depth = depth[:1].expand_as(depth) if data.draw(st.booleans()) else depth
    hidden = [int(n) for n in (S - depth).flatten(1).sum(1)]
    stages = max(len({s for s in range(S) if (row <= s).any()}) for row in depth)
    calls = data.draw(st.integers(max(stages, 1), 2 * math.prod(shape) * S))
    x = some_data(model.model.digits, shape, batch)
    _, plan = api.started(model, x, depth, calls, order, generator(1))
    rows = steps_of(plan, depth, S)
    assert [len(row) for row in rows] == [min(calls, n) for n in hidden]
    assert [sum(row) for row in rows] == hidden
    assert isinstance(plan, Adaptive) or len(plan) == max(min(calls, n) for n in hidden)


def test_ten_hidden_of_many_take_ten_calls_of_one_site():
    """The example: 10 of 3,072 hidden and ten calls once took 5 steps, of up to 5 sites."""
    model, depth = bundle(0, (3, 32, 32)), torch.ones(1, 3, 32, 32, dtype=torch.long)
    depth.view(-1)[torch.randperm(3072, generator=generator())[:10]] = 0
    for order in ("random", "confident", *RANKS):
        _, plan = api.started(model, torch.zeros_like(depth), depth, 10, order, generator())
        assert steps_of(plan, depth, 1) == [[1] * 10]


def test_the_network_is_called_so_often_and_no_more():
    spied = toy(Digits(3, 3), (20,))
    spy, x = Spy(spied), some_data(spied.digits, (20,), 2)
    known = torch.ones(2, 20, dtype=torch.bool)
    known[0, :3] = known[1, 5:12] = False
    start, plan = api.started(
        ardm.Bundle(spied, ardm.ModelConfig(shape=(20,), classes=3)), x, known, 5, "random", generator()
    )
    last(walk(spy, plan, Draw(generator()), start), start)
    assert len(spy.seen) == 5


def best(rows, budget):
    """The cheapest schedule of all, by trying each: starts of each stage."""
    options = []
    for row in rows:
        D = len(row)
        cuts = [()] if not D else [(0, *c) for n in range(D) for c in itertools.combinations(range(1, D), n)]
        options.append([(len(c), cost(row, c) if D else 0.0) for c in cuts])
    return min(sum(c for _, c in pick) for pick in itertools.product(*options) if sum(n for n, _ in pick) == budget)


@pytest.mark.parametrize("seed", range(6))
def test_the_schedule_of_the_rest_is_the_best_of_all(seed):
    """The dynamic programme over t from the number of known sites, jointly over stages of any length."""
    rng = np.random.default_rng(seed)
    losses, D = curve(2, 6, seed), 6
    hidden = tuple(int(n) for n in rng.integers(0, 7, 2))
    rows = [row[D - n :] for row, n in zip(losses, hidden, strict=True)]
    for budget in range(sum(n > 0 for n in hidden), sum(hidden) + 1):
        starts = planning.shares(losses, D, budget)(hidden)
        assert sum(map(len, starts)) == budget
        paid = sum(cost(row, own) for row, own in zip(rows, starts, strict=True) if len(row))
        assert paid == pytest.approx(best(rows, budget), abs=1e-12)


def test_nothing_known_is_the_schedule_of_the_whole():
    losses = curve(3, 40)
    for budget in (3, 7, 50, 120):
        assert planning.shares(losses, 40, budget)((40, 40, 40)) == joint(losses, budget) == remaining(losses, budget)
    assert planning.shares(losses[:1], 40, 9)((40,)) == [optimal(losses[0], 9)]
    assert planning.shares(losses[:1], 40, 9)((25,)) == [optimal(losses[0, 15:], 9)]
    blank = bundle(2)
    x = torch.zeros(2, *IMAGE, dtype=torch.long)
    for order in ("random", "confident"):
        numbers = RandomNumbers(4)
        start, plan = api.started(blank, x, torch.zeros_like(x, dtype=torch.bool), 9, order, numbers)
        filled = last(api.generate(blank, plan, start, numbers), start).value
        assert torch.equal(filled, api.sample(blank, 2, 9, order, seed=4))


def test_the_early_steps_are_narrow_where_the_curve_is_steep():
    """What is known decides where in the curve a walk begins."""
    losses = np.concatenate([np.linspace(9, 1, 20), np.full(80, 1.0)])[None]
    fresh, late = planning.shares(losses, 100, 10)((100,))[0], planning.shares(losses, 100, 10)((60,))[0]
    assert max(np.diff(fresh)[:5]) < 5
    assert cost(losses[0, 40:], late) == pytest.approx(60)


def test_another_size_takes_the_curve_in_the_same_fractions():
    losses = curve(1, 10)
    assert planning.shares(losses, 20, 3)((20,)) == [optimal(np.repeat(losses[0], 2), 3)]
    big = planning.shares(losses, 1 << 18, 40)((1 << 18,))[0]  # looked at in places only
    assert len(set(big)) == 40
    assert big[0] == 0
    assert big[-1] < 1 << 18


def test_fewer_calls_than_stages_are_refused():
    with pytest.raises(ArdmError, match=r"2 stages are unknown.*got 1"):
        planning.shares(None, 5, 1)((3, 5))
    assert planning.shares(None, 5, 1)((0, 5)) == [[], [0]]


# --- orders that look at predictions, from any start -------------------------------------------------------------------


def starts_of(digits, D):
    """Every depth of an item."""
    return [torch.tensor([d]) for d in itertools.product(range(len(digits) + 1), repeat=D)]


@pytest.mark.parametrize("block_length", [None, 2])
@pytest.mark.parametrize("digits", [Digits(3, 3), Digits(4, 2)])
def test_planned_completions_of_every_start_sum_to_one(digits, block_length):
    """By enumeration: Σ over completions of p(completion | given) = 1, and given values never change."""
    D, K = 3, digits.classes
    model, x, S = toy(digits, (D,), "values"), all_data(K, (D,)), len(digits)
    whole = confident(tuple(s * D + k for s in range(S) for k in (0, 2)), D, S)
    open_ = Adaptive("margin", block_length=block_length, stages=S)
    for depth in starts_of(digits, D):
        start = digits.truncate(x, depth.expand_as(x))
        groups = start.value @ torch.tensor([K**2, K, 1])
        planned = planning.adaptive(open_, depth, 4, curve(S, D))
        for plan in (whole, planned):
            nats = score(model, plan, x, start)
            sums = torch.zeros(K**D, dtype=torch.double).index_add(0, groups, nats.neg().exp())[groups.unique()]
            torch.testing.assert_close(sums, torch.ones_like(sums))
            drawn = sample(model, plan, start, generator())
            assert torch.equal(digits.truncate(drawn, start.depth).value, start.value)
        assert torch.equal(likelihood.exact(model, planned, x, start).nats, nats)


def test_a_plan_for_nothing_known_serves_any_start():
    made, depth = api.make_plan(bundle(2), 20, "confident"), torch.randint(3, (2, *IMAGE), generator=generator())
    assert len(steps_of(made, torch.zeros(1, *IMAGE, dtype=torch.long), 2)[0]) == 20
    rows = steps_of(made, depth, 2)
    assert [sum(row) for row in rows] == (2 - depth).flatten(1).sum(1).tolist()
    assert max(map(len, rows)) <= 20


def test_items_with_different_known_parts_are_revealed_in_their_own_steps():
    digits, D = Digits(4, 2), 4
    model, x = toy(digits, (D,)), some_data(digits, (D,), 4)
    depth = torch.tensor([[0, 0, 0, 0], [2, 1, 0, 0], [2, 2, 2, 2], [2, 0, 1, 1]])
    start = digits.truncate(x, depth)
    for plan in (planning.adaptive(Adaptive(stages=2), depth, 5, None), confident((0, 1, 3, 4, 6), D, 2)):
        together, until = score(model, plan, x, start), plan.selection.until
        for i in range(4):
            alone = Adaptive("entropy", PlannedNumber(until[i : i + 1] if len(until) > 1 else until), stages=2)
            one = score(model, alone, x[i : i + 1], Partial(start.value[i : i + 1], depth[i : i + 1]))
            torch.testing.assert_close(one, together[i : i + 1])
        assert float(together[2]) == 0
        assert torch.equal(digits.truncate(sample(model, plan, start, generator()), depth).value, start.value)


def test_a_planned_schedule_is_cut_at_what_is_known():
    plan = confident((0, 1, 3, 5, 7), 5, 2)  # widths 1 2 2, then 2 3
    depth = torch.tensor([[1, 0, 0, 0, 0], [2, 2, 1, 1, 0], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
    assert steps_of(plan, depth, 2) == [[2, 2, 2, 3], [1, 3], [], [1, 2, 2, 2, 3]]


# --- planned within blocks ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_blocks_share_the_calls_and_follow_each_other(data):
    """For every mask: min(calls, hidden) steps, none of which crosses the end of a block or of a stage."""
    S, D, length = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 13)), data.draw(st.integers(1, 14))
    depth = torch.randint(S + 1, (2, D), generator=generator(data.draw(st.integers(0, 999))))
    parts = [[int((row[b : b + length] <= s).sum()) for s in range(S) for b in range(0, D, length)] for row in depth]
    least = max(sum(n > 0 for n in row) for row in parts)
    calls = data.draw(st.integers(max(least, 1), S * D + 3))
    losses = curve(S, D) if data.draw(st.booleans()) else None
    plan = planning.adaptive(Adaptive("entropy", None, length, S), depth, calls, losses)
    for steps, row in zip(steps_of(plan, depth, S), parts, strict=True):
        assert len(steps) == min(calls, sum(row))
        assert set(itertools.accumulate(row)) - {0} <= set(itertools.accumulate(steps))


def test_the_calls_of_blocks_are_spent_best():
    """Of all ways to spend the calls, each block beginning with its own, the cheapest; by trying each."""
    losses = curve(1, 7, 5)
    depth = torch.tensor([[1, 0, 0, 0, 0, 1, 0]])  # blocks of 3: two, two and one hidden, from t = 2
    rows = [losses[0, 2:4], losses[0, 4:6], losses[0, 6:7]]
    for budget in range(3, 6):
        plan = planning.adaptive(Adaptive(block_length=3), depth, budget, losses)
        starts = [*itertools.accumulate(steps_of(plan, depth, 1)[0], initial=2)]
        assert cost(losses[0, 2:], [t - 2 for t in starts[:-1]]) == pytest.approx(best(rows, budget), abs=1e-12)


def test_fewer_calls_than_blocks_are_refused():
    with pytest.raises(ArdmError, match="blocks of 3 sites take at least 2 calls for what is unknown; got 1"):
        planning.adaptive(Adaptive(block_length=3), torch.tensor([[0, 0, 1, 1, 1, 0, 1]]), 1, None)
    with pytest.raises(ArdmError, match=r"2 stages are unknown.*got 1"):
        planning.adaptive(Adaptive(stages=2), torch.zeros(1, 4, dtype=torch.long), 1, None)


# --- plans of the user's ------------------------------------------------------------------------------------------------


def test_plans_take_the_place_of_names():
    model, x = bundle(2, (6,)), torch.tensor([[0, 1, 2, 3, 0, 1], [3, 2, 1, 0, 3, 2]])
    known = torch.tensor([True, False, True, False, False, False])
    for order in (
        Adaptive("margin", Threshold(0.4), 4),
        plans.dilated(2, (6,), 3),
        plans.shuffled(2, (6,), generator(), 2),
    ):
        assert api.sample(model, 2, order=order).shape == (2, 6)
        assert torch.equal(api.fill(model, x, known, order=order)[:, known], x[:, known])
        assert api.score(model, x, order=order).estimator.startswith("exact")
        torch.testing.assert_close(api.score(model, x, order=order).nats, torch.full((2,), 12 * math.log(2)).double())
        with pytest.raises(ArdmError, match=r"says itself how many calls it takes; leave calls out \(got 5\)"):
            api.sample(model, 2, 5, order)
    planned = api.make_plan(model, 4, Adaptive("margin"), batch=2)
    assert planned.score == "margin"
    assert torch.equal(planned.selection.until, api.make_plan(model, 4, "confident").selection.until)
    with pytest.raises(ArdmError, match="the plan is for"):
        api.sample(model, 2, order=plans.raster(1, (6,)))
    with pytest.raises(ArdmError, match=r"a plan is a Plan or Adaptive"):
        api.sample(model, 2, order=[1, 2])


def test_filling_by_confidence_takes_the_surest_first():
    """`fill --order confident` was offered and always refused."""
    sure = torch.tensor([0.0, 4.0, 1.0, 9.0, 2.0])

    def net(value, depth):
        return torch.stack([sure.expand(value.shape), torch.zeros(value.shape)], -1)

    model = ardm.wrap(net, (5,), 2)
    known = torch.tensor([[True, False, False, True, False]])
    start, plan = api.started(model, torch.zeros(1, 5, dtype=torch.long), known, 2, "confident", generator())
    states = list(api.generate(model, plan, start, generator()))
    assert [s.depth[0].tolist() for s in states] == [[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]]


# --- named orders -------------------------------------------------------------------------------------------------------


def test_channels_follow_each_other_over_what_is_hidden():
    depth = torch.ones(1, 3, 8, 8, dtype=torch.long)
    depth[..., :4] = 0
    plan = planning.ordered(OrderConfig("raster", (12,), cell=8), depth, 1, 12)
    when = plan.when[0, 0]
    assert (when[:, :, 4:] == GIVEN).all()
    assert torch.equal(when[2, :, :4], when[1, :, :4] + 1)
    assert torch.equal(when[0, :, :4], when[1, :, :4] + 2)


def test_a_line_in_pieces_over_what_is_hidden():
    depth = torch.tensor([[1, 0, 1, 0, 0, 1, 0, 0, 0]])
    plan = planning.ordered(OrderConfig("raster", (3,)), depth, 1, 3)
    assert plan.when[0, 0].tolist() == [-1, 0, -1, 1, 2, -1, 0, 1, 2]
    with pytest.raises(ArdmError, match="sequences have the orders"):
        planning.ordered(OrderConfig("halton", (3,)), depth, 1, 3)


def test_a_model_of_its_own_order_keeps_its_steps():
    own = bundle(order=OrderConfig("bayer", (6,), cell=4))
    known = torch.zeros(1, *IMAGE, dtype=torch.bool)
    known[..., 2:] = True
    x = torch.zeros(1, *IMAGE, dtype=torch.long)
    _, plan = api.started(own, x, known, 6, "own", generator())
    expected = api.make_plan(own, 6, "own").given(known.long())
    assert torch.equal(plan.when, expected.when)
    assert isinstance(plan, plans.Plan)
