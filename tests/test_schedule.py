"""Loss curves, what schedules cost, and the best of them: by brute force, and as laws of any non-increasing curve."""

import ast
import inspect
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.errors import ArdmError
from ardm.losscurve import LossCurve, isotonic
from ardm.schedule import (
    Schedule,
    absorbing_cost,
    continuous_cost,
    cost,
    joint,
    optimal,
    remaining,
    uniform,
)

VECTOR = [5, 4, 3, 2.85, 2.8]


# --- helpers ----------------------------------------------------------------------------------------------------------


def frontier(curve, budgets):
    return {budget: optimal(curve, budget) for budget in budgets}


def falling(most, least=1, stages=None):
    """Non-increasing curves of least..most steps; few different values, so that ties are common."""
    level = st.one_of(st.integers(0, 4).map(float), st.floats(0, 10, allow_subnormal=False))
    if stages is None:
        return st.lists(level, min_size=least, max_size=most).map(lambda v: sorted(v, reverse=True))
    rows = st.tuples(st.integers(1, stages), st.integers(least, most))
    return rows.flatmap(
        lambda n: st.lists(falling(n[1], n[1]), min_size=n[0], max_size=n[0]),
    )


def random_curve(D, seed=0):
    return np.sort(np.random.default_rng(seed).exponential(size=D))[::-1]


def increasing(starts, D):
    return starts[0] == 0 and starts[-1] < D and all(a < b for a, b in itertools.pairwise(starts))


def price(curve, starts):
    """The cost of one stage by its definition."""
    return sum((end - start) * curve[start] for start, end in zip(starts, [*starts[1:], len(curve)], strict=True))


def brute(curve, budget):
    """The least cost over all strictly increasing starts."""
    return min(price(curve, (0, *rest)) for rest in itertools.combinations(range(1, len(curve)), budget - 1))


def published(curve, budgets):
    """C[k, D], k = 1..budgets, by the recurrence over the whole matrix of transition costs."""
    D = len(curve)
    s, t = np.ogrid[:D, : D + 1]
    W = np.where(s < t, (t - s) * np.asarray(curve)[:, None], np.inf)
    C, out = np.array([0.0] + [np.inf] * D), []
    for _ in range(budgets):
        C = (C[:-1, None] + W).min(0)
        out.append(C[D])
    return out


def close(value):
    return pytest.approx(value, rel=1e-9, abs=1e-9)


# --- isotonic regression ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), min_size=1, max_size=12))
def test_isotonic_is_the_least_squares_fit(pairs):
    v, w = map(np.array, zip(*pairs, strict=True))
    D, fit = len(v), isotonic(v, w)
    mean = {(a, b): np.average(v[a : b + 1], weights=w[a : b + 1]) for a in range(D) for b in range(a, D)}
    expected = [min(max(mean[a, b] for b in range(i, D)) for a in range(i + 1)) for i in range(D)]  # min-max formula
    np.testing.assert_allclose(fit, expected, atol=1e-12)
    assert (np.diff(fit) <= 0).all()
    assert w @ fit == close(w @ v)
    np.testing.assert_array_equal(isotonic(fit, w), fit)


def test_isotonic_by_hand():
    np.testing.assert_array_equal(isotonic([3, 2, 1], [1, 5, 1]), [3, 2, 1])
    np.testing.assert_allclose(isotonic([5, 1, 4], [1, 1, 2]), [5, 3, 3])
    np.testing.assert_allclose(isotonic([1, 2, 3], [1, 1, 2]), [2.25, 2.25, 2.25])


def test_isotonic_no_other_fit_is_nearer():
    rng = np.random.default_rng(0)
    v, w = rng.normal(size=20), rng.exponential(size=20)
    fit = isotonic(v, w)
    for _ in range(200):
        other = np.sort(fit + rng.normal(size=20) * 0.05)[::-1]
        assert w @ (other - v) ** 2 >= w @ (fit - v) ** 2


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1, 2], [1], "one shape"),
        ([[1]], [[1]], "one shape"),
        ([1, math.nan], [1, 1], "finite"),
        ([1, 2], [1, 0], "positive"),
    ],
)
def test_isotonic_refuses(values, weights, message):
    with pytest.raises(ArdmError, match=message):
        isotonic(values, weights)


# --- loss curves ------------------------------------------------------------------------------------------------------


def test_a_curve_is_nats_over_symbols():
    curve = LossCurve(2, 3)
    curve.update([0, 1], [2, 0], [6.0, 1.0], [3, 1])
    curve.update([0], [2], [5.0], [2])
    assert curve.mean()[0, 2] == close(11 / 5)
    assert curve.mean()[1, 0] == 1
    assert np.isnan(curve.mean()).sum() == 4
    np.testing.assert_array_equal(curve.seen, [[0, 0, 2], [1, 0, 0]])
    np.testing.assert_array_equal(curve.count, [[0, 0, 5], [1, 0, 0]])
    np.testing.assert_array_equal(curve.total, [[0, 0, 11], [1, 0, 0]])


def test_a_step_may_occur_twice_in_a_batch():
    curve = LossCurve(1, 2)
    curve.update(np.zeros(3, int), np.array([1, 1, 1]), np.array([1.0, 2.0, 6.0]), np.array([1, 1, 1]))
    assert curve.mean()[0, 1] == 3
    assert curve.seen[0, 1] == 3


def test_a_step_without_symbols_is_not_seen():
    curve = LossCurve(1, 2)
    curve.update([0, 0], [0, 1], [0.0, 2.0], [0, 1])
    assert curve.seen.tolist() == [[0, 1]]
    assert np.isnan(curve.mean()[0, 0])
    before = curve.state()
    curve.update([], [], [], [])
    assert all((before[k] == v).all() for k, v in curve.state().items())


@given(
    st.one_of(st.none(), st.integers(1, 5)),
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 10), st.integers(1, 9)), max_size=20),
)
def test_memory_halves_after_so_many_updates(memory, rows):
    curve = LossCurve(1, 2, memory)
    for known, nats, symbols in rows:
        curve.update([0], [known], [nats], [symbols])
    for t in range(2):
        weight = [
            0.0 if k != t else 0.5 ** ((len(rows) - i) / (memory or math.inf)) for i, (k, _, _) in enumerate(rows)
        ]
        if any(weight):
            total = sum(w * nats for w, (_, nats, _) in zip(weight, rows, strict=True))
            expected = total / sum(w * symbols for w, (_, _, symbols) in zip(weight, rows, strict=True))
            assert curve.mean()[0, t] == close(expected)
        assert curve.seen[0, t] == sum(k == t for k, _, _ in rows)


@pytest.mark.parametrize("memory", [1, 7, 100])
def test_a_curve_follows_a_model_and_never_fades_away(memory):
    curve = LossCurve(1, 2, memory)
    curve.update([0], [0], [8.0], [1])
    for _ in range(20 * memory):
        curve.update([0], [1], [3.0], [1])
    for _ in range(3000 if memory == 1 else 20 * memory):
        curve.update([0], [1], [2.0], [1])
    assert curve.mean()[0, 0] == close(8.0)
    assert curve.mean()[0, 1] == pytest.approx(2.0, abs=1e-5)
    assert 0 < curve.count.max() < 4 * memory


def test_monotone_weighs_by_symbols_and_fills_what_was_not_seen():
    curve = LossCurve(2, 7)
    curve.update([0] * 4, [1, 3, 4, 5], [6.0, 2.0, 12.0, 1.0], [2, 1, 3, 1])  # means 3, 2 and 4 (pooled to 3.5 > 3), 1
    curve.update([1], [3], [5.0], [2])
    pooled = 20 / 6
    np.testing.assert_allclose(curve.monotone()[0], [pooled] * 5 + [1, 1])
    np.testing.assert_allclose(curve.monotone()[1], [2.5] * 7)
    curve = LossCurve(1, 5)
    curve.update([0, 0], [0, 4], [3.0, 1.0], [1, 1])
    np.testing.assert_allclose(curve.monotone(), [[3, 2.5, 2, 1.5, 1]])
    assert curve.nats() == close(10.0)


def test_the_price_sums_to_what_was_observed_where_the_losses_rise():
    rises = LossCurve(1, 3)
    rises.update([0] * 3, [0, 1, 2], [3 * 1.39, 2 * 3.76, 3.87], [3, 2, 1])
    assert rises.monotone().sum() == close(7.78)  # weighed by symbols, the dear steps at the end hardly count
    assert rises.nats() == rises.expected().sum() == close(1.39 + 3.76 + 3.87)
    part = LossCurve(2, 3)
    part.update([0, 0, 1], [0, 2, 1], [3 * 4.0, 2.0, 2 * 1.5], [3, 1, 2])
    np.testing.assert_allclose(part.expected(), [[4, 3, 2], [1.5, 1.5, 1.5]])  # what was never seen is as fitted


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_price_is_the_sum_of_the_observed_and_no_lower_where_a_planner_begins(seed, D):
    rng = np.random.default_rng(seed)
    curve, n = LossCurve(1, D), np.arange(D, 0, -1)
    curve.update([0] * D, np.arange(D), n * (2 + rng.normal(size=D) / 10), n)
    assert curve.nats() == close(curve.mean().sum())
    levels = curve.monotone()[0]
    for level in np.unique(levels):
        np.testing.assert_allclose(curve.expected()[0][levels == level], curve.mean()[0][levels == level].mean())


def test_where_each_symbol_has_a_call_nothing_is_planned():
    """Not even of losses that no plan could be made of."""
    endless = [[math.inf, 1.0], [1.0, 2.0, math.nan]]
    assert remaining(endless, 5) == [[0, 1], [0, 1, 2]]
    with pytest.raises(ArdmError):
        remaining(endless, 4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_monotone_is_what_the_planner_takes(seed, D):
    rng = np.random.default_rng(seed)
    curve = LossCurve(1, D, memory=3)
    for _ in range(5):
        curve.update(
            [0] * 4, rng.integers(0, D, 4), rng.normal(size=4) * 1e-3 + rng.choice([0, 1]), rng.integers(1, 5, 4)
        )
    fitted = curve.monotone()
    assert (np.diff(fitted) <= 0).all()
    assert (fitted >= 0).all()
    optimal(fitted[0], 1)


def test_an_unseen_stage_is_told():
    curve = LossCurve(2, 2)
    curve.update([0], [0], [1.0], [1])
    with pytest.raises(ArdmError, match=r"stage 1 of 2 .* train longer"):
        curve.monotone()


def test_an_exact_curve_is_itself():
    values = np.array([[3.0, 2, 1], [2, 2, 0]])
    curve = LossCurve.exact(values)
    np.testing.assert_array_equal(curve.monotone(), values)
    assert curve.nats() == 10
    curve.update([0], [0], [1.0], [1])
    assert values[0, 0] == 3
    for bad in ([1.0, 2.0], [[math.nan]], [[math.inf]]):
        with pytest.raises(ArdmError, match="finite, of shape"):
            LossCurve.exact(bad)


def observe(curve, updates, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        s, t = rng.integers(0, curve.stages, 6), rng.integers(0, curve.sites, 6)
        curve.update(s, t, rng.exponential(size=6), rng.integers(1, 4, 6))
    return curve


@pytest.mark.parametrize("memory", [None, 1, 4])
@pytest.mark.parametrize("updates", [0, 3, 9])
def test_a_saved_curve_goes_on_exactly(memory, updates, tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    curve = observe(LossCurve(2, 3, memory), updates)
    numpy_files.save_file(curve.state(), tmp_path / "curve.safetensors")
    again = LossCurve.from_state(numpy_files.load_file(tmp_path / "curve.safetensors"))
    assert (again.memory, again.stages, again.sites) == (memory, 2, 3)
    observe(curve, 5, seed=1)
    observe(again, 5, seed=1)
    for name, value in curve.state().items():
        np.testing.assert_array_equal(again.state()[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seen": None}, "no seen"),
        ({"total": np.zeros(6)}, "three arrays"),
        ({"count": np.ones((3, 2))}, "three arrays"),
        ({"memory": np.zeros(1, int)}, "memory"),
        ({"memory": np.array([math.nan, 0.0])}, "of integers"),
        ({"memory": np.array([-1, 0])}, "positive number"),
        ({"total": np.full((2, 3), np.nan)}, "damaged"),
        ({"count": -np.ones((2, 3))}, "damaged"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    state = {k: v for k, v in {**observe(LossCurve(2, 3), 2).state(), **change}.items() if v is not None}
    with pytest.raises(ArdmError, match=message):
        LossCurve.from_state(state)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (([0], [0], [1.0], [1, 1]), r"four arrays \(B,\)"),
        ((0, 0, 1.0, 1), r"four arrays \(B,\)"),
        (([2], [0], [1.0], [1]), r"stage holds integers in 0..1"),
        (([0], [-1], [1.0], [1]), r"known holds integers in 0..2; got int64 -1"),
        (([0], [3], [1.0], [1]), r"known holds integers"),
        (([0], [1.0], [1.0], [1]), r"known holds integers"),
        (([0], [0], [math.nan], [1]), "finite"),
        (([0], [0], [1.0], [-1]), "counts >= 0"),
    ],
)
def test_a_wrong_update_changes_nothing(row, message):
    curve = LossCurve(2, 3)
    with pytest.raises(ArdmError, match=message):
        curve.update(*row)
    assert not curve.total.any()
    assert not curve.count.any()
    assert not curve.seen.any()


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (1, 1, 0)])
def test_an_empty_curve_is_refused(size):
    with pytest.raises(ArdmError, match=r"at least one|positive number"):
        LossCurve(*size)


# --- costs ------------------------------------------------------------------------------------------------------------


def test_cost_by_hand():
    assert cost(VECTOR, [0, 2]) == close(2 * 5 + 3 * 3)
    assert cost([VECTOR, VECTOR], [[0], [0, 4]]) == close(25 + 20 + 2.8)
    assert cost(np.array([VECTOR]), ((0, 1, 2, 3, 4),)) == close(17.65)


@pytest.mark.parametrize(
    ("curve", "starts"),
    [
        (VECTOR, []),
        (VECTOR, [1, 2]),
        (VECTOR, [0, 0]),
        (VECTOR, [0, 3, 2]),
        (VECTOR, [0, 5]),
        (VECTOR, [[0], [0, 1]]),
        ([VECTOR], [0, 1]),
        ([VECTOR], [[0], [0]]),
        ([VECTOR], [[]]),
    ],
)
def test_cost_refuses(curve, starts):
    with pytest.raises(ArdmError, match="starts"):
        cost(curve, starts)


@pytest.mark.parametrize("T", [1, 2, 3, 5])
@pytest.mark.parametrize("D", [1, 2, 4])
def test_absorbing_cost_is_the_mean_over_all_jump_times(D, T):
    curve = random_curve(D)
    expected = 0.0
    for times in itertools.product(range(T), repeat=D):
        known = 0
        for i in range(T):
            width = times.count(i)
            expected += width * curve[known] if width else 0.0
            known += width
    assert absorbing_cost(curve, T) == close(expected / T**D)


@pytest.mark.parametrize(("D", "T"), [(40, 30), (12, 200), (7, 1)])
def test_absorbing_cost_is_the_binomial_formula(D, T):
    curve = random_curve(D)
    expected = sum(
        math.comb(D, k) * (i / T) ** k * (1 - i / T) ** (D - k) * k * curve[D - k] / i
        for i in range(1, T + 1)
        for k in range(1, D + 1)
    )
    assert absorbing_cost(curve, T) == close(expected)


def test_absorbing_cost_is_stable_and_taken_in_parts():
    assert absorbing_cost(np.full(3072, 2.0), 1000) == pytest.approx(6144, rel=1e-9)
    line = np.arange(3072)[::-1]  # linear: E[L_t] = others · i / T
    assert absorbing_cost(line, 1000) == pytest.approx(3072 * 3071 * 1001 / 2000, rel=1e-9)


@given(falling(30))
def test_the_best_schedule_is_never_worse_than_d3pm_of_as_many_steps(curve):
    """The paper's headline comparison, on one network."""
    for K, starts in frontier(curve, range(1, len(curve) + 1)).items():
        assert cost(curve, starts) <= absorbing_cost(curve, K) + 1e-9


def test_d3pm_falls_to_the_continuous_cost():
    for seed in range(5):
        curve = random_curve(12, seed)
        costs = [absorbing_cost(curve, 2**n) for n in range(14)]
        assert (np.diff(costs) < 0).all()
        assert costs[-1] > continuous_cost(curve) == close(curve.sum())
        assert costs[-1] == pytest.approx(curve.sum(), rel=1e-3)


@pytest.mark.parametrize("steps", [0, -1])
def test_d3pm_takes_a_step(steps):
    with pytest.raises(ArdmError, match="at least one step"):
        absorbing_cost(VECTOR, steps)


# --- the best schedule ------------------------------------------------------------------------------------------------


def test_the_known_answers():
    assert [cost(VECTOR, optimal(VECTOR, k)) for k in range(1, 6)] == close([25, 19, 18, 17.7, 17.65])


@given(falling(8))
def test_optimal_is_brute_force(curve):
    for K in range(1, len(curve) + 1):
        starts = optimal(curve, K)
        assert len(starts) == K
        assert increasing(starts, len(curve))
        assert price(curve, starts) == close(brute(curve, K))


@settings(max_examples=40, deadline=None)
@given(falling(60, least=9))
def test_optimal_is_the_published_recurrence(curve):
    D = len(curve)
    best = frontier(curve, range(1, D + 1))
    assert all(len(starts) == K and increasing(starts, D) for K, starts in best.items())
    assert [cost(curve, best[K]) for K in range(1, D + 1)] == close(published(curve, D))


@pytest.mark.parametrize("pooled", [False, True])
def test_optimal_on_a_long_curve(pooled):
    D = 600
    curve = 3 * np.exp(-np.arange(D) / 80) + 1 + 0.02 * np.random.default_rng(0).normal(size=D)
    curve = isotonic(curve, np.ones(D)) if pooled else np.sort(curve)[::-1]
    assert [cost(curve, starts) for starts in frontier(curve, range(1, 13)).values()] == close(published(curve, 12))


def test_ties_waste_no_call():
    assert optimal([3, 2, 2, 2], 4) == [0, 1, 2, 3]
    for K in range(1, 7):
        for curve in ([2] * 6, [0] * 6, [1, 1, 1, 0, 0, 0]):
            assert increasing(optimal(curve, K), 6)


@given(falling(40))
def test_the_optimal_cost_is_convex_in_the_budget(curve):
    D = len(curve)
    costs = np.array([cost(curve, starts) for starts in frontier(curve, range(1, D + 1)).values()])
    assert (np.diff(costs) <= 1e-9).all()
    assert (np.diff(costs, 2) >= -1e-9).all()
    assert costs[0] == close(D * curve[0])
    assert costs[-1] == close(sum(curve))


@settings(max_examples=60)
@given(falling(4, stages=3))
def test_joint_is_the_best_split(curves):
    S, D = len(curves), len(curves[0])
    least = [[math.inf, *(brute(row, k) for k in range(1, D + 1))] for row in curves]
    for budget in range(S, S * D + 1):
        starts = joint(curves, budget)
        splits = (n for n in itertools.product(range(1, D + 1), repeat=S) if sum(n) == budget)
        expected = min(sum(row[k] for row, k in zip(least, n, strict=True)) for n in splits)
        assert sum(map(len, starts)) == budget
        assert all(increasing(own, D) for own in starts)
        assert cost(curves, starts) == close(expected)


def test_joint_gives_nothing_to_a_flat_stage():
    assert list(map(len, joint([VECTOR, [2.0] * 5], 6))) == [5, 1]


@given(st.integers(1, 300), st.integers(1, 300))
def test_uniform_is_even(D, K):
    if K > D:
        with pytest.raises(ArdmError, match=rf"in 1..{D} here; got {K}"):
            uniform(D, K)
        return
    starts = uniform(D, K)
    assert len(starts) == K
    assert increasing(starts, D)
    widths = np.diff([*starts, D])
    assert widths.max() - widths.min() <= 1


@pytest.mark.parametrize(
    ("curve", "budget", "message"),
    [
        (VECTOR, 0, r"in 1..5 here; got 0"),
        (VECTOR, 6, r"in 1..5 here; got 6"),
        ([1, 2, 1], 2, r"rises after 1 of its steps, first after 0; .*LossCurve.monotone"),
        ([-1, -2, -3], 2, "sign error"),
        ([3, math.nan, 1], 2, r"LossCurve.monotone"),
        ([math.inf, 1], 2, "not finite"),
        ([[3, 2]], 1, r"shape \(D,\); got \(1, 2\)"),
        ([], 1, r"shape \(D,\)"),
    ],
)
def test_what_cannot_be_planned_is_refused(curve, budget, message):
    with pytest.raises(ArdmError, match=message):
        optimal(curve, budget)


def test_joint_refuses():
    for budget in (1, 11):
        with pytest.raises(ArdmError, match=r"in 2..10 here"):
            joint([VECTOR, VECTOR], budget)
    for curves in (VECTOR, [[]]):
        with pytest.raises(ArdmError, match=r"shape \(S, D\)"):
            joint(curves, 2)


# --- schedules --------------------------------------------------------------------------------------------------------


TWO = Schedule(((0, 2), (0, 1, 4)), 5, "given", 40.0)


def test_a_schedule_by_hand():
    assert (TWO.calls, TWO.stages) == (5, 2)
    assert TWO.widths() == ((2, 3), (1, 3, 1))
    assert TWO.flat() == [0, 2, 5, 6, 9]
    assert TWO.bits_per_dim() == close(40 / 5 / math.log(2))
    assert math.isnan(Schedule.given([[0, 2]], 5).bits_per_dim())
    assert Schedule.given([[0, 2]], 5) == Schedule(((0, 2),), 5)


def test_schedules_by_method():
    curves = np.array([VECTOR, [3, 1, 0.5, 0.2, 0.1], [2] * 5])
    for calls in range(3, 16):
        even, paper, best = (
            Schedule.uniform(3, 5, calls),
            Schedule.optimal(curves, calls),
            Schedule.joint(curves, calls),
        )
        assert even.calls == paper.calls == best.calls == calls
        assert (even.kind, paper.kind, best.kind) == ("uniform", "optimal", "joint")
        split = [len(own) for own in paper.starts]
        assert max(split) - min(split) <= 1
        assert split == sorted(split, reverse=True) == [len(own) for own in even.starts]
        assert [list(own) for own in paper.starts] == [optimal(c, k) for c, k in zip(curves, split, strict=True)]
        assert best.nats <= paper.nats + 1e-9 <= even.priced(curves).nats + 2e-9
        assert best.nats == cost(curves, best.starts)
    assert Schedule.joint(curves, 15).nats == close(curves.sum())
    assert all(type(n) is int for own in best.starts for n in own)


def test_a_schedule_prices_on_another_curve():
    held_out = [[4.0, 4, 3, 3, 3]] * 2
    assert TWO.priced(held_out) == Schedule(TWO.starts, 5, "given", cost(held_out, TWO.starts))


@pytest.mark.parametrize("calls", [0, 1, 11])
def test_a_budget_out_of_reach_is_refused(calls):
    curves = np.array([VECTOR, VECTOR])
    for make in (
        lambda: Schedule.uniform(2, 5, calls),
        lambda: Schedule.optimal(curves, calls),
        lambda: Schedule.joint(curves, calls),
    ):
        with pytest.raises(ArdmError, match=rf"in 2..10 here; got {calls}"):
            make()


def test_a_schedule_coarsens_a_plan():
    torch = pytest.importorskip("torch")
    from ardm.plan import shuffled

    plan = shuffled(2, (5,), torch.Generator().manual_seed(0)).coarsen(TWO.flat())
    assert len(plan) == TWO.calls
    assert tuple(len(plan.group(k)) for k in range(5)) == sum(TWO.widths(), ())


def known_before(text):
    """The starts of each stage, read back from the table."""
    stages = []
    for line in text.splitlines()[2:]:
        head, tail = line[:27], line[27:]
        if head.strip():
            stages.append([])
        stages[-1] += tail.split()
    return stages


@pytest.mark.parametrize("stages", [1, 4])
def test_the_table_is_compact_and_complete(stages):
    plan = Schedule.joint(np.stack([random_curve(3072, s) for s in range(stages)]), 100)
    lines = str(plan).splitlines()
    assert len(lines) < 14
    assert max(map(len, lines)) <= 110
    assert lines[0].startswith("joint schedule: 100 calls for ")
    assert f"{plan.bits_per_dim():.4f} bits/dim" in lines[0]
    assert ("4 stages of 3072 sites" in lines[0]) == (stages == 4)
    assert known_before(str(plan)) == [[str(n) for n in own] for own in plan.starts]


def test_the_table_of_very_many_calls_is_cut():
    text = str(Schedule.uniform(1, 3072, 3072))
    assert len(text.splitlines()) < 14
    (shown,) = known_before(text)
    assert "…" in shown
    assert (shown[0], shown[-1]) == ("0", "3071")
    assert "bits" not in text


def test_the_table_of_one_call():
    assert str(Schedule.uniform(1, 9, 1)).splitlines()[0] == "uniform schedule: 1 call for 9 sites"


# --- schedules as files -----------------------------------------------------------------------------------------------


@given(falling(12, stages=3), st.data())
def test_a_schedule_survives_json(curves, data):
    budget = data.draw(st.integers(len(curves), len(curves) * len(curves[0])))
    for plan in (Schedule.joint(curves, budget), Schedule.uniform(len(curves), len(curves[0]), budget)):
        assert Schedule.from_json(plan.to_json()) == plan


def test_a_schedule_survives_a_file(tmp_path):
    TWO.save(tmp_path / "plan.json")
    assert Schedule.load(tmp_path / "plan.json") == TWO
    assert hash(Schedule.load(str(tmp_path / "plan.json"))) == hash(TWO)


def altered(**changes):
    return json.dumps({k: v for k, v in {**json.loads(TWO.to_json()), **changes}.items() if v != "gone"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "JSON object with"),
        ("null", "JSON object with"),
        (altered(sites="gone"), "JSON object with"),
        (altered(extra=1), "JSON object with"),
        (altered(**{"ardm-schedule": 2}), "has format 2"),
        (altered(kind="best"), "one of uniform, optimal, joint, given; got 'best'"),
        (altered(kind=["given"]), "kind is a string"),
        (altered(sites="5"), "whole number"),
        (altered(sites=True), "whole number"),
        (altered(sites=4), "strictly below 4"),
        (altered(sites=-1), "strictly below -1"),
        (altered(nats="1"), "number or null"),
        (altered(nats=math.nan), "finite number of nats"),
        (altered(nats=-1), "finite number of nats"),
        (altered(starts=[]), "at least one stage"),
        (altered(starts=[[]]), "begin with 0"),
        (altered(starts=[[0, 1.0]]), "whole numbers"),
        (altered(starts=[[0, "1"]]), "whole numbers"),
        (altered(starts=[0, 1]), "list of lists"),
        (altered(starts={"0": [0]}), "list of lists"),
        (altered(starts=[[0, 2, 2]]), "increase strictly"),
        (altered(starts=[[1, 2]]), "begin with 0"),
    ],
)
def test_a_bad_schedule_file_says_why(text, message, tmp_path):
    with pytest.raises(ArdmError, match=message):
        Schedule.from_json(text)
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ArdmError, match=r"bad.json: .*" + message):
        Schedule.load(tmp_path / "bad.json")


def test_files_out_of_reach(tmp_path):
    with pytest.raises(ArdmError, match="cannot read the schedule"):
        Schedule.load(tmp_path / "none.json")
    with pytest.raises(ArdmError, match="cannot write the schedule"):
        TWO.save(tmp_path / "none" / "plan.json")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ArdmError, match="not text"):
        Schedule.load(tmp_path / "picture.png")


# --- architecture -----------------------------------------------------------------------------------------------------


def test_the_module_never_imports_torch():
    tree = ast.parse(Path(inspect.getfile(LossCurve)).read_text(encoding="utf-8"))
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    foreign = {
        "__future__",
        "collections.abc",
        "dataclasses",
        "itertools",
        "json",
        "math",
        "pathlib",
        "textwrap",
        "typing",
    }
    assert set(names) - foreign == {"numpy", "numpy.typing", "ardm.errors"}
