"""The cheapest schedules of K calls: against the table of the dynamic programme, by exchange of paths, and by duality."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm import cheapest as module
from ardm.cheapest import cheapest, exchanged
from ardm.losscurve import isotonic
from ardm.schedule import Schedule, cost


def table(curve):
    """The least cost of each number of calls, 0..D: the recurrence C[k, t] over all pairs, O(D³)."""
    D = len(curve)
    s, t = np.ogrid[:D, : D + 1]
    width = np.where(s < t, (t - s) * np.asarray(curve, dtype=float)[:, None], np.inf)
    row, out = np.array([0.0] + [np.inf] * D), [np.inf]
    for _ in range(D):
        row = (row[:-1, None] + width).min(0)
        out.append(row[D])
    return np.array(out)


def shared(tables):
    """The least cost of each number of calls over several stages: every split is tried."""
    total = np.zeros(1)
    for own in tables:
        both = np.full(len(total) + len(own) - 1, np.inf)
        for k, v in enumerate(own):
            both[k : k + len(total)] = np.minimum(both[k : k + len(total)], total + v)
        total = both
    return total


def with_fee(curve, fee):
    """The least cost if each call costs a fee, in O(D²)."""
    D, best = len(curve), np.zeros(len(curve) + 1)
    for t in range(1, D + 1):
        s = np.arange(t)
        best[t] = (best[:t] + fee + (t - s) * curve[:t]).min()
    return best[D]


def check(curves, calls, least):
    starts = cheapest([np.asarray(c, dtype=float) for c in curves], calls)
    assert sum(map(len, starts)) == calls
    paid = math.fsum(cost(c, own) for c, own in zip(curves, starts, strict=True))  # refuses starts that do not increase
    assert paid == pytest.approx(least, rel=1e-12, abs=0)


def fitted(D, seed):
    rng = np.random.default_rng(seed)
    return isotonic(3 * np.exp(-np.arange(D) / 30) + rng.normal(size=D) / 5 + 2, rng.uniform(1, 5, D))


FAMILIES = {
    "random": lambda D, rng: np.sort(rng.gamma(2, 1, D))[::-1],
    "integers": lambda D, rng: np.sort(rng.integers(0, 6, D))[::-1].astype(float),
    "plateaus": lambda D, rng: np.sort(rng.choice(rng.uniform(size=5), D))[::-1],
    "fitted": lambda D, rng: fitted(D, rng),
    "linear": lambda D, rng: np.arange(D, 0, -1.0),
    "powers of two": lambda D, rng: 2.0 ** -np.arange(D),
    "power law": lambda D, rng: 1 / np.arange(1.0, D + 1),
    "two levels": lambda D, rng: np.repeat([2.0, 1.0], [1, D - 1]),
    "steps of one": lambda D, rng: np.repeat(np.arange(D, 0, -1.0), 3)[:D],
    "zero": lambda D, rng: np.zeros(D),
    "zero at the end": lambda D, rng: np.where(np.arange(D) < D // 2, 3.0, 0.0),
    "nearly equal": lambda D, rng: 5 + np.sort(rng.uniform(size=D))[::-1] * 1e-14,
    "many scales": lambda D, rng: np.sort(10 ** rng.uniform(-150, 150, D))[::-1],
    "tiny": lambda D, rng: np.sort(rng.uniform(size=D))[::-1] * 1e-300,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("D", [1, 2, 3, 7, 50])
def test_every_budget_costs_what_the_table_says(family, D):
    curve = FAMILIES[family](D, np.random.default_rng(D))
    for calls, least in enumerate(table(curve)[1:], 1):
        check([curve], calls, least)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_of_any_length_share_every_budget(family):
    rng = np.random.default_rng(8)
    curves = [FAMILIES[family](D, rng) for D in (9, 1, 14, 14)]
    least = shared([table(c) for c in curves])
    for calls in range(len(curves), len(least)):
        check(curves, calls, least[calls])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=4))
def test_ties_within_and_across_stages_are_resolved(rows):
    """Few whole numbers as losses: exact ties of many paths."""
    curves = [sorted(map(float, row), reverse=True) for row in rows]
    least = shared([table(c) for c in curves])
    for calls in range(len(curves), len(least)):
        check(curves, calls, least[calls])


def test_equal_stages_are_separated_by_an_exchange(monkeypatch):
    """Four equal stages gain the same by each fee, so that most budgets lie strictly between two solutions."""
    seen, curve = [], np.array([5.0, 4.0, 3.0, 2.85, 2.8, 1.0])
    search = module._Search._exchanged
    monkeypatch.setattr(module._Search, "_exchanged", lambda self, fee: seen.append(fee) or search(self, fee))
    least = shared([table(curve)] * 4)
    for calls in range(4, 25):
        check([curve] * 4, calls, least[calls])
    assert len(seen) > 8


@settings(deadline=None)
@given(st.data())
def test_exchanged_ends_cost_no_more_than_the_two_paths(data):
    """The law behind it, for any two paths of any non-increasing curve: the sum of the two new ones is no dearer."""
    D = data.draw(st.integers(3, 25))
    curve = np.array(sorted(data.draw(st.lists(st.floats(0, 9), min_size=D, max_size=D)), reverse=True))
    q = data.draw(st.integers(3, D))
    p = data.draw(st.integers(1, q - 2))
    few, many = (
        [0, *sorted(data.draw(st.permutations(range(1, D)))[: n - 1])] for n in (p, q)
    )  # any starts, not the best ones
    k = data.draw(st.integers(1, q - p - 1))
    one = exchanged(few, many, k)
    other = sorted({0, *few, *many} - set(one) | {0} | set(few) & set(many))
    assert (len(one), len(other)) == (p + k, q - k)
    assert cost(curve, one) + cost(curve, other) <= (cost(curve, few) + cost(curve, many)) * (1 + 1e-12)


@pytest.mark.parametrize("family", ["random", "fitted", "linear", "power law", "many scales", "integers"])
def test_a_long_curve_is_best_by_duality(family):
    """With λ between the gains of call K and of call K + 1, no schedule of any number of calls beats K calls."""
    D = 3000
    curve = FAMILIES[family](D, np.random.default_rng(2))
    for calls in (2, 30, 400, 2500):
        nats = [cost(curve, cheapest([curve], k)[0]) for k in (calls - 1, calls, calls + 1)]
        fee = (nats[0] - nats[2]) / 2
        assert nats[1] + fee * calls == pytest.approx(with_fee(curve, fee), rel=1e-12)


def counted(monkeypatch):
    passes, path = [], module._Chain.path
    monkeypatch.setattr(module._Chain, "path", lambda self, fee: passes.append(fee) or path(self, fee))
    return passes


@pytest.mark.parametrize("family", ["random", "fitted", "linear", "powers of two", "many scales", "integers"])
def test_few_passes_find_any_budget_of_sixteen_thousand_sites(family, monkeypatch):
    D, passes = 16_000, counted(monkeypatch)
    curve = FAMILIES[family](D, np.random.default_rng(3)) if family != "powers of two" else np.exp(-np.arange(D) / 50)
    for calls in (1, 2, 100, 8000, 15_000, D):
        passes.clear()
        assert len(cheapest([curve], calls)[0]) == calls
        assert len(passes) <= 25
        assert passes or calls in (1, D) or len(np.unique(curve)) <= calls


def test_the_only_schedule_and_a_call_for_every_level_need_no_pass(monkeypatch):
    passes, curve = counted(monkeypatch), np.repeat([3.0, 2.0, 1.0], 10_000)
    assert cheapest([curve], 3) == [[0, 10_000, 20_000]]
    assert cheapest([curve], 5) == [[0, 1, 2, 10_000, 20_000]]
    whole = cheapest([curve, curve[:7]], 30_007)
    assert [len(own) for own in whole] == [30_000, 7]
    assert Schedule.joint(curve[None], 30_000).nats == curve.sum()
    assert not passes


def test_a_million_sites_of_a_fitted_curve():
    """An isotonic fit has few levels, and only the first site of each can begin a call; the rest is looked at once."""
    levels = np.sort(np.random.default_rng(4).gamma(2, 1, 40))[::-1]
    curve = np.repeat(levels, 25_000)
    least = 25_000 * table(levels)  # of starts at the levels alone, in units of 25,000 sites
    for calls in (1, 2, 13, 39):
        check([curve], calls, least[calls])


def test_no_start_inside_a_level_is_ever_needed():
    """By brute force: the least cost over the first sites of levels is the least cost over all sites."""
    curve = [3.0, 3.0, 2.0, 2.0, 2.0, 0.5, 0.5, 0.5, 0.5]
    for calls in (1, 2, 3):
        every = [(0, *rest) for rest in itertools.combinations(range(1, 9), calls - 1)]
        firsts = [starts for starts in every if set(starts) <= {0, 2, 5}]
        assert min(cost(curve, s) for s in every) == min(cost(curve, s) for s in firsts)
