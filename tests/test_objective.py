"""One random step, scored: against sums over all steps and all orders, and against the other forms of the same loss."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ardm import likelihood
from ardm import plan as plans
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.losscurve import isotonic
from ardm.objective import Steps, absorbing_step, bound_step, draw, plan_step, spread
from ardm.plan import Plan
from ardm.schedule import absorbing_cost, continuous_cost, cost, optimal, uniform
from ardm.walk import score
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
    pairs,
    some_data,
    toy,
)

CASES = [(Digits(3, 3), 4), (Digits(4, 2), 3), (Digits(3, 2), 3), (Digits(5, 3), 2)]
ALL = [(h, a, D) for h in HEADS for a, D in CASES] + [
    (h, a, 2) for h in ("digits", "values") for a in (WILD, letters())
]


def every_step(x, stages, given=None):
    """Rows of every (stage, step, order) with every item: Steps, x repeated, and the number of rows an item."""
    D = x[0].numel()
    rows = list(itertools.product(range(stages), range(D), all_orders(D)))
    B = len(x)
    stage = torch.tensor([r[0] for r in rows]).repeat_interleave(B)
    known = torch.tensor([r[1] for r in rows]).repeat_interleave(B)
    rank = torch.stack([r[2] for r in rows]).view(-1, *x.shape[1:]).repeat_interleave(B, 0)
    return Steps(stage, known, rank), x.repeat(len(rows), *[1] * (x.ndim - 1)), len(rows)


def mean_bound(model, x, **kwargs):
    steps, repeated, n = every_step(x, len(model.digits))
    with torch.no_grad():
        return bound_step(model, repeated, steps, **kwargs).nats.view(n, len(x)).mean(0)


def mean_exact(model, x, policy=None, given=None):
    """The mean code length over every plan, by walking them all."""
    p = all_plans(len(model.digits), x.shape[1:])
    p = p if policy is None else p.coarsen(policy)
    rows, repeated = pairs(p, x)
    if given is None:
        return score(model, rows, repeated).view(-1, len(x)).mean(0)
    depth = given.repeat(len(p.when), *[1] * (x.ndim - 1))
    return score(model, rows.given(depth), repeated, model.digits.truncate(repeated, depth)).view(-1, len(x)).mean(0)


def loss_curve(model, x):
    """L_t by enumeration: (S, D) mean nats of one more symbol, over all orders and items."""
    S, D = len(model.digits), x[0].numel()
    steps, repeated, _ = every_step(x, S)
    with torch.no_grad():
        scored = bound_step(model, repeated, steps)
    curve = torch.zeros(S, D, dtype=torch.double)
    for s in range(S):
        for t in range(D):
            here = (steps.stage == s) & (steps.known == t)
            curve[s, t] = (scored.sums / scored.symbols)[here].mean()
    return curve


# --- unbiased ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "alphabet", "D"), ALL)
def test_the_mean_over_all_steps_is_the_mean_over_all_plans(head, alphabet, D):
    """C1: −log p's any-order bound, exactly, for a network that knows nothing of causality."""
    model, x = toy(alphabet, (D,), head), some_data(alphabet, (D,), 2)
    torch.testing.assert_close(mean_bound(model, x), mean_exact(model, x), rtol=0, atol=1e-10)


def test_the_bound_is_a_bound_and_items_may_have_any_shape():
    model, x = toy(Digits(3, 2), (2, 2), "values"), some_data(Digits(3, 2), (2, 2), 4)
    every, repeated = pairs(all_plans(2, (2, 2)), x)
    nats = score(model, every, repeated).view(-1, 4)
    torch.testing.assert_close(mean_bound(model, x), nats.mean(0), rtol=0, atol=1e-10)
    marginal = -(torch.logsumexp(-nats, 0) - math.log(len(nats)))
    assert (marginal < nats.mean(0)).all()


@pytest.mark.parametrize("head", ["digits", "values"])
def test_floor_maps_give_the_loss_of_digits(head):
    digits = Digits(7, 3)
    a, b = toy(digits, (3,), head), toy(floor_maps(digits), (3,), head)
    x = some_data(digits, (3,), 4)
    torch.testing.assert_close(mean_bound(a, x), mean_bound(b, x), rtol=0, atol=1e-12)


def test_what_is_given_is_shown_and_costs_nothing():
    """The bound on −log p(rest | given), with other digits given of every item."""
    for digits, D in ((Digits(3, 3), 4), (Digits(4, 2), 3)):
        model, x = toy(digits, (D,), "values"), some_data(digits, (D,), 4)
        given = torch.randint(len(digits) + 1, x.shape, generator=generator(5))
        given[0], given[1] = len(digits), 0  # all given, nothing given
        expected = mean_exact(model, x, given=given)
        # every step that `draw` can make: the orders of the free sites of the stage, and known below their number
        total = torch.zeros(4, dtype=torch.double)
        for i, s in itertools.product(range(4), range(len(digits))):
            free = (given[i] <= s).nonzero()[:, 0]
            rows = list(itertools.product(range(len(free)), all_orders(len(free))))
            if not rows:
                continue
            rank = torch.full((len(rows), D), D)
            rank[:, free] = torch.stack([r for _, r in rows])
            steps = Steps(torch.full((len(rows),), s), torch.tensor([k for k, _ in rows]), rank)
            many = x[i].expand(len(rows), D)
            with torch.no_grad():
                spy = Spy(model)
                scored = bound_step(spy, many, steps, given=given[i].expand(len(rows), D))
            assert (spy.seen[0].depth >= given[i]).all()
            assert torch.equal(scored.symbols + steps.known, torch.full((len(rows),), len(free)))
            total[i] += scored.nats.mean() / len(digits)
        torch.testing.assert_close(total, expected, rtol=0, atol=1e-10)
        assert total[0] == 0


def test_drawn_steps_reach_only_what_is_not_given():
    given = torch.tensor([[2, 1, 0, 0, 1]]).expand(600, 5)
    steps = draw(600, 2, (5,), generator(0), given)
    taken = given > steps.stage[:, None]
    free = (~taken).sum(1)
    assert set(zip(steps.stage.tolist(), free.tolist(), strict=True)) == {(0, 2), (1, 4)}
    assert (steps.known < free).all()
    assert torch.equal(steps.rank.sort(1).values, torch.arange(5).expand(600, 5))
    assert ((steps.rank < free[:, None]) == ~taken).all()
    assert steps.known[steps.stage == 1].bincount().tolist() == [75] * 4
    full = draw(8, 1, (3,), generator(0), torch.ones(8, 3, dtype=torch.long))
    assert (full.known == 0).all()


def test_a_random_subset_is_unbiased():
    """Every subset it can choose has the value it should, and each is chosen as often."""
    model, x = toy(Digits(3, 3), (5,)), some_data(Digits(3, 3), (5,), 1)
    rank, known, n = torch.tensor([3, 0, 4, 1, 2]), 1, 20_000
    steps = Steps(torch.zeros(1, dtype=torch.long), torch.tensor([known]), rank[None])
    state = model.digits.truncate(x, (rank < known).long()[None])
    hidden = Sites.where(state.depth == 0)
    with torch.no_grad():
        each = -model(state).log_prob(hidden, model.digits.read(x, state.depth, hidden))
        full = bound_step(model, x, steps)
        many = Steps(steps.stage.expand(n), steps.known.expand(n), rank.expand(n, 5))
        some = bound_step(model, x.expand(n, 5), many, subset=2, generator=generator(0))
        wide = bound_step(model, x, steps, subset=4, generator=generator(0))
    values = torch.stack([each[list(c)].sum() * 4 / 2 * 5 / 4 for c in itertools.combinations(range(4), 2)])
    torch.testing.assert_close(values.mean(), full.nats[0], rtol=0, atol=1e-12)
    gaps = (some.nats[:, None] - values).abs()
    assert (gaps.min(1).values < 1e-12).all()
    assert (gaps.argmin(1).bincount(minlength=6) - n / 6).abs().max() < 5 * math.sqrt(n / 6)
    assert (some.symbols.unique().tolist(), some.hidden.unique().tolist()) == ([2], [4])
    torch.testing.assert_close(wide.nats, full.nats)
    with pytest.raises(ArdmError, match="generator"):
        bound_step(model, x, steps, subset=2)


def test_what_was_scored_is_told():
    model, x = toy(Digits(4, 2), (4,)), some_data(Digits(4, 2), (4,), 3)
    steps = Steps(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 3]), all_orders(4)[[3, 7, 20]])
    with torch.no_grad():
        scored = bound_step(model, x, steps)
    assert scored.hidden.tolist() == scored.symbols.tolist() == [4, 3, 1]
    torch.testing.assert_close(scored.nats, scored.sums * 2 * 4 / torch.tensor([4, 3, 1]))


# --- a given plan -----------------------------------------------------------------------------------------------------


STEP_PLANS = [
    plans.raster(2, (3,)),
    plans.shuffled(2, (3,), generator(1)).coarsen([0, 2, 3, 4]),
    plans.unstaged(2, (3,), generator(1)),
    plans.shuffled(2, (3,), generator(1), batch=4),
    only(plans.shuffled(2, (3,), generator(1)), torch.tensor([[True, True, False]])),
]


@pytest.mark.parametrize("plan", STEP_PLANS)
def test_the_mean_over_the_steps_of_a_plan_is_its_code_length(plan):
    model, x = toy(Digits(4, 2), (3,), "values"), some_data(Digits(4, 2), (3,), 4)
    with torch.no_grad():
        scored = [plan_step(model, plan, x, torch.full((4,), k)) for k in range(len(plan))]
    torch.testing.assert_close(torch.stack([s.nats for s in scored]).mean(0), score(model, plan, x), rtol=0, atol=1e-10)
    assert sum(s.symbols for s in scored).tolist() == [int((plan.when < 2**20).sum()) // len(plan.when)] * 4


def test_steps_of_a_plan_may_differ_between_items():
    model, x = toy(Digits(4, 2), (3,)), some_data(Digits(4, 2), (3,), 4)
    plan, step = plans.shuffled(2, (3,), generator(1), batch=4), torch.tensor([5, 0, 3, 3])
    with torch.no_grad():
        together = plan_step(model, plan, x, step).nats
        alone = [plan_step(model, Plan(plan.when[i : i + 1]), x[i : i + 1], step[i : i + 1]).nats[0] for i in range(4)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-12)


# --- the symmetry behind parallel generation --------------------------------------------------------------------------


def test_every_hidden_site_has_the_same_expected_loss():
    """C5: E log p of the site revealed at t + k, given the first t, is L_t for every k."""
    model, x = toy(Digits(3, 3), (4,)), some_data(Digits(3, 3), (4,), 1)
    curve = loss_curve(model, x)[0]
    orders = all_orders(4)
    for t in range(4):
        state = model.digits.truncate(x.expand(24, 4), (orders < t).long())
        for k in range(4 - t):
            sites = Sites.where(orders == t + k)
            with torch.no_grad():
                loss = -model(state).log_prob(sites, model.digits.read(x.expand(24, 4), state.depth, sites)).mean()
            assert float(loss) == pytest.approx(float(curve[t]), abs=1e-10)


@pytest.mark.parametrize(("digits", "D"), [(Digits(3, 3), 4), (Digits(4, 2), 3)])
def test_any_budget_costs_width_times_loss(digits, D):
    """C5 and C24: one network, every policy: the mean code length over orders is Σ (t' − t) · L_t."""
    model, x = toy(digits, (D,)), some_data(digits, (D,), 2)
    curve = loss_curve(model, x)
    for cuts in itertools.product([False, True], repeat=D - 1):
        inner = [0] + [t + 1 for t, cut in enumerate(cuts) if cut]
        starts = [s * D + t for s in range(len(digits)) for t in inner]
        ends = [*inner[1:], D]
        price = sum((b - a) * float(curve[s, a]) for s in range(len(digits)) for a, b in zip(inner, ends, strict=True))
        assert float(mean_exact(model, x, starts).mean()) == pytest.approx(price, abs=1e-9)


# --- the diffusions it contains ---------------------------------------------------------------------------------------


def d3pm(curve, T):
    """D3PM-absorbing with T steps on a loss curve: Σ_i 1/i Σ_k Binom(k; D, i/T) · k · L_{D−k}."""
    D = len(curve)
    return sum(
        math.comb(D, k) * (i / T) ** k * (1 - i / T) ** (D - k) * k * float(curve[D - k]) / i
        for i in range(1, T + 1)
        for k in range(1, D + 1)
    )


@pytest.mark.parametrize("T", [1, 2, 3, 5])
def test_independent_reveal_times_are_d3pm(T):
    """C7: the mean over all T^D plans of independent times is the D3PM bound of that network, whatever the network."""
    model, x = toy(Digits(3, 3), (4,)), some_data(Digits(3, 3), (4,), 2)
    times = Plan(torch.tensor(list(itertools.product(range(T), repeat=4)))[:, None])
    exact = float(score(model, *pairs(times, x)).mean())
    curve = loss_curve(model, x)[0]
    assert exact == pytest.approx(d3pm(curve, T), abs=1e-9)
    assert exact == pytest.approx(absorbing_cost(curve, T), abs=1e-9)
    partitions = [[0, *c] for n in range(min(T, 4)) for c in itertools.combinations(range(1, 4), n)]
    best = min(sum((b - a) * float(curve[a]) for a, b in zip(p, [*p[1:], 4], strict=True)) for p in partitions)
    assert best <= exact + 1e-12  # the best policy of at most T calls


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_the_best_policy_is_not_worse_than_d3pm_on_one_network(budget):
    """C6 and C7: the planned policy is the best on a falling curve; walked in all orders, it costs its price."""
    model, x = toy(Digits(3, 3), (4,)), some_data(Digits(3, 3), (4,), 2)
    model.head.out.weight.data.mul_(0.2)
    curve = loss_curve(model, x)[0].numpy()
    falling = isotonic(curve, np.ones(4))
    starts = optimal(falling, budget)
    assert cost(falling, starts) <= absorbing_cost(falling, budget) + 1e-12
    assert cost(falling, starts) <= cost(falling, uniform(4, budget)) + 1e-12
    assert cost(curve, starts) == pytest.approx(float(mean_exact(model, x, starts).mean()), abs=1e-9)


def test_many_steps_of_d3pm_are_the_any_order_model():
    model, x = toy(Digits(3, 3), (4,)), some_data(Digits(3, 3), (4,), 2)
    curve = loss_curve(model, x)[0]
    assert d3pm(curve, 3000) == pytest.approx(float(curve.sum()), rel=1e-3)
    assert float(curve.sum()) == pytest.approx(float(mean_bound(model, x).mean()), abs=1e-10)
    assert continuous_cost(curve) == pytest.approx(float(curve.sum()), abs=1e-10)


def test_continuous_time_masked_diffusion_is_the_same_loss():
    """C21: ∫ 1/t E[Σ masked −log p] dt under independent masks, on the network itself, by exact quadrature."""
    D = 4
    model, x = toy(Digits(3, 3), (D,)), some_data(Digits(3, 3), (D,), 3)
    nodes, weights = np.polynomial.legendre.leggauss(D)  # exact up to degree 2D − 1
    loss = torch.zeros(3, dtype=torch.double)
    for masked in itertools.product([False, True], repeat=D):
        k = sum(masked)
        state = model.digits.truncate(x, (~torch.tensor(masked)).long().expand(3, D))
        sites = Sites.where(state.depth == 0)
        with torch.no_grad():
            logp = model(state).log_prob(sites, model.digits.read(x, state.depth, sites)) if k else torch.zeros(0)
        total = torch.zeros(3, dtype=torch.double).index_add(0, sites.batch_index, -logp.double())
        t = (nodes + 1) / 2
        loss += total * float((weights / 2 * t ** (k - 1.0) * (1 - t) ** (D - k)).sum() if k else 0)
    torch.testing.assert_close(loss, mean_bound(model, x), rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, mean_exact(model, x), rtol=0, atol=1e-10)


# --- no leaks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alphabet", [Digits(5, 5), Digits(9, 3), letters()])
def test_the_network_sees_nothing_that_is_hidden(alphabet):
    """C2: data that differ only in hidden digits make the same input, so every output is the same."""
    S = len(alphabet)
    x = some_data(alphabet, (6,), 8)
    steps = draw(8, S, (6,), generator(0))
    depth = steps.stage[:, None] + (steps.rank < steps.known[:, None]).long()
    known = alphabet.truncate(x, depth).value
    others = all_data(alphabet.classes, (1,))[:, 0]
    y = x.clone()
    for i, j in itertools.product(range(8), range(6)):
        same = others[alphabet.truncate(others, torch.full_like(others, int(depth[i, j]))).value == known[i, j]]
        y[i, j] = same[same != x[i, j]][0] if len(same) > 1 else x[i, j]
    assert (x != y).any()
    spy = Spy(toy(alphabet, (6,)))
    for data in (x, y):
        bound_step(spy, data, steps)
    a, b = spy.seen
    assert torch.equal(a.value, b.value)
    assert torch.equal(a.depth, b.depth)
    assert torch.equal(a.depth, depth)


def test_gradients_are_those_of_the_scored_sites_alone():
    """Only scored sites contribute: a plan's step gives the gradient of its own log-probabilities."""
    model, x = toy(Digits(4, 2), (3,), "values"), some_data(Digits(4, 2), (3,), 2)
    plan = plans.raster(2, (3,)).coarsen([0, 1, 3, 5])
    scored = plan_step(model, plan, x, torch.tensor([1, 1]))
    got = torch.autograd.grad(scored.nats.sum(), list(model.parameters()))
    state = model.digits.truncate(x, torch.tensor([[1, 0, 0], [1, 0, 0]]))
    theta = 0.0
    for j in (1, 2):
        sites = Sites.where(torch.arange(3).expand(2, 3) == j)
        logits = model(state)[sites].log_softmax(-1)
        theta = theta - 4 * logits[torch.arange(2), x[:, j] // 2].sum()
    for a, b in zip(got, torch.autograd.grad(theta, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# --- the draw of steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "D", "stages"), [(7, 10, 1), (100, 7, 1), (8, 5, 3), (3, 11, 2), (1, 6, 2), (16, 50, 1)]
)
def test_every_stage_and_step_is_equally_likely(batch, D, stages):
    """All shared offsets on a grid: each (stage, step) comes exactly as often, though batch and D share no factor."""
    grid = stages * D * 4
    u = (torch.arange(grid * batch, dtype=torch.double) + 0.5) / (grid * batch)
    steps = draw(len(u), stages, (D,), generator(0), place=u)
    counts = (steps.stage * D + steps.known).bincount(minlength=stages * D)
    assert counts.tolist() == [4 * batch] * (stages * D)


@pytest.mark.parametrize(("batch", "D", "stages"), [(7, 10, 1), (100, 7, 1), (8, 5, 3), (3, 11, 2), (64, 3072, 1)])
def test_one_batch_is_spread_over_stages_and_steps_jointly(batch, D, stages):
    for seed in range(20):
        steps = draw(batch, stages, (D,), generator(seed))
        counts = (steps.stage * D + steps.known).bincount(minlength=stages * D)
        fair = batch / (stages * D)
        assert set(counts.tolist()) <= {math.floor(fair), math.ceil(fair)}


def test_places_share_one_uniform_offset_and_are_shuffled():
    u, turns = [], set()
    for seed in range(400):
        place = spread(5, generator(seed))
        assert ((place >= 0) & (place < 1)).all()
        grid = place.sort().values * 5
        torch.testing.assert_close(grid - grid.floor(), (grid - grid.floor())[:1].expand(5), rtol=0, atol=1e-9)
        assert grid.long().tolist() == [0, 1, 2, 3, 4]
        u.append(float(grid[0]))
        turns.add(tuple((place * 5).long().tolist()))
    assert np.abs(np.sort(u) - np.linspace(0, 1, 400)).max() < 0.1  # Kolmogorov–Smirnov
    assert len(turns) > 100  # of 120


def test_drawn_orders_are_uniform():
    n = 6000
    rank = draw(n, 2, (2, 2), generator(1)).rank.flatten(1)
    counts = (rank * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - n / 24).square() / (n / 24)).sum() < 50  # chi-square, 23 degrees of freedom: p ≈ 1e-3


def test_the_draw_is_what_the_generator_says():
    a, b = draw(9, 2, (3,), generator(4)), draw(9, 2, (3,), generator(4))
    assert torch.equal(a.rank, b.rank)
    assert torch.equal(a.known, b.known)
    assert torch.equal(a.stage, b.stage)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subset", [0, -1, 1.5, True])
def test_a_subset_is_a_number_of_sites(subset):
    """Of none, the loss was 0 with a gradient; of 1.5, biased."""
    model = toy(Digits(3, 3), (4,))
    x = some_data(model.digits, (4,))
    calls = [
        lambda: bound_step(model, x, draw(3, 1, (4,), generator()), subset=subset, generator=generator()),
        lambda: absorbing_step(model, x, torch.ones(3), 4, torch.rand(3, 4), subset=subset),
        lambda: likelihood.curve(model, x, 2, generator(), subset=subset),
        lambda: likelihood.curve(model, x, 2, generator(), grid=2, subset=subset),
    ]
    for call in calls:
        with pytest.raises(ArdmError, match="subset must be"):
            call()


@pytest.mark.parametrize(("base", "stages"), [(2, 1), (2, 2), (5, 2)])
def test_steps_of_other_models_are_refused(base, stages):
    model = toy(Digits(5, base), (4,))
    with pytest.raises(ArdmError, match=rf"drawn for {stages} stages?, and the model has \d"):
        bound_step(model, some_data(model.digits, (4,)), draw(3, stages, (4,), generator()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: replace(s, stage=s.stage + 3, stages=0), r"stages of the model lie in 0\.\.2"),
        (lambda s: replace(s, stage=s.stage - 3), r"stages of the model lie in 0\.\.2"),
        (lambda s: replace(s, rank=s.rank[:, :1]), r"rank \(3, 4\); got"),
        (lambda s: replace(s, known=s.known[:1]), r"known \(3,\)"),
    ],
)
def test_steps_of_other_items_are_refused(change, words):
    model = toy(Digits(5, 2), (4,))
    with pytest.raises(ArdmError, match=words):
        bound_step(model, some_data(model.digits, (4,)), change(draw(3, 3, (4,), generator())))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (torch.tensor([0, 4, 0]), r"the steps 0\.\.3; got 0\.\.4"),
        (torch.tensor([-1, 0, 0]), r"got -1\.\.0"),
        (torch.tensor([0]), "one step per item"),
    ],
)
def test_a_step_beyond_the_plan_is_refused(step, words):
    """It revealed nothing, for 0 nats."""
    model = toy(Digits(3, 3), (4,))
    with pytest.raises(ArdmError, match=words):
        plan_step(model, plans.raster(1, (4,)), some_data(model.digits, (4,)), step)


def test_a_plan_that_looks_at_predictions_has_no_step_alone():
    model = toy(Digits(3, 3), (4,))
    with pytest.raises(ArdmError, match=r"only a Plan has steps .*; got Adaptive: use likelihood\.exact"):
        plan_step(model, confident((0, 1), 4), some_data(model.digits, (4,)), torch.zeros(3).long())


def test_vectors_of_context_get_gradients_and_arrays_are_taken():
    model = toy(Digits(3, 3), (4,), context=2)
    x, steps = some_data(model.digits, (4,)), draw(3, 1, (4,), generator())
    vector = torch.rand(3, 2, dtype=torch.double, generator=generator(1)).requires_grad_()
    scored = bound_step(model, x, steps, context=vector)
    scored.nats.sum().backward()
    assert vector.grad.abs().min() > 0
    assert torch.equal(bound_step(model, x, steps, context=vector.detach().numpy()).nats, scored.nats)
    with pytest.raises(ArdmError, match="context must be one class label or vector per item, 3 in all"):
        bound_step(model, x, steps, context=vector[:2])
