"""The one loop: chance and the data agree, probabilities sum to one, and the model sees only revealed digits."""

import inspect
import itertools
import math
import platform

import numpy as np
import pytest
import torch

from ardm import api, likelihood, objective
from ardm import plan as plans
from ardm import walk as walking
from ardm.adaptive import Adaptive, PlannedNumber, Threshold
from ardm.digits import Digits, Maps, Partial
from ardm.errors import ArdmError
from ardm.plan import Plan
from ardm.precision import keep_freed_memory
from ardm.random_numbers import RandomNumbers
from ardm.source import Draw, Score
from ardm.walk import last, sample, score, walk
from toys import (
    HEADS,
    WILD,
    Fixed,
    Spy,
    all_data,
    asked,
    confident,
    everywhere,
    floor_maps,
    generator,
    letters,
    only,
    pairs,
    some_data,
    tiny_image,
    toy,
)


def every_kind(alphabet, D, batch):
    """One plan of each kind for items (D,), those of one per item for `batch` items."""
    S, half = len(alphabet), D // 2
    policy = [s * D + d for s in range(S) for d in (0, half)]
    kinds = {
        "raster": plans.raster(S, (D,)),
        "shuffled": plans.shuffled(S, (D,), generator(1)),
        "coarsened": plans.shuffled(S, (D,), generator(2)).coarsen(policy),
        "unstaged": plans.unstaged(S, (D,), generator(3)),
        "blocks": plans.blocks(S, (D,), 2, generator(4)),
        "one per item": plans.shuffled(S, (D,), generator(5), batch),
        "confident": confident(tuple(policy), D, S),
    }
    return kinds | ({"absorbing": plans.absorbing(3, (D,), batch, generator(6))} if S == 1 else {})


KINDS = [*every_kind(Digits(4, 2), 3, 1), "absorbing"]
ALPHABETS = [Digits(3, 3), Digits(3, 2), Digits(4, 2), Digits(7, 3)]
CASES = [(h, a) for h in HEADS for a in ALPHABETS] + [
    (h, a) for h in ("digits", "values") for a in (WILD, letters(), Maps(3, [[3] * 3]))
]


# --- chance and the data agree ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_probabilities_of_all_data_sum_to_one(head, alphabet, kind):
    D = 3 if alphabet.classes <= 4 else 2
    model, x = toy(alphabet, (D,), head), all_data(alphabet.classes, (D,))
    if kind == "absorbing" and len(alphabet) > 1:
        return  # that plan is of one stage
    plan = every_kind(alphabet, D, len(x))[kind]
    if isinstance(plan, Plan) and len(plan.when) > 1:  # one plan an item: each plan against all data
        plan, x = pairs(Plan(plan.when[:4]), x)
    mass = score(model, plan, x).neg().exp()
    torch.testing.assert_close(mass.view(-1, alphabet.classes**D).sum(1), mass.new_ones(len(x) // alphabet.classes**D))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("head", "alphabet"),
    [("digits", Digits(5, 5)), ("values", Digits(5, 2)), ("mixture", Digits(65536, 256)), ("values", WILD)],
)
def test_what_was_drawn_can_be_scored(head, alphabet, kind):
    """The ledger of the data agrees with that of chance, along the very same walk."""
    model, shape = toy(alphabet, (4,), head), (4,)
    if kind == "absorbing" and len(alphabet) > 1:
        return  # that plan is of one stage
    plan = every_kind(alphabet, 4, 6)[kind]
    chance, ledger = Draw(generator(1)), Score(6)

    def both(prediction, sites, target):
        assert target is None
        return ledger(prediction, sites, chance(prediction, sites, target))

    blank = alphabet.blank(6, shape)
    x = last(walk(model, plan, both, blank), blank)
    assert (x.depth == len(alphabet)).all()
    assert int(x.value.max()) < alphabet.classes
    torch.testing.assert_close(score(model, plan, x.value), ledger.nats, rtol=0, atol=1e-10)
    assert torch.equal(sample(model, plan, blank, generator(1)), x.value)


@pytest.mark.parametrize(
    ("head", "alphabet"),
    [("digits", Digits(3, 3)), ("values", Digits(3, 2)), ("mixture", Digits(3, 2)), ("values", WILD)],
)
def test_data_are_drawn_as_often_as_they_are_likely(head, alphabet):
    n, K = 60_000, alphabet.classes
    model, x = toy(alphabet, (2,), head, scale=1.0), all_data(K, (2,))
    plan = plans.shuffled(len(alphabet), (2,), generator(0))
    p = score(model, plan, x).neg().exp()
    drawn = sample(model, plan, alphabet.blank(n, (2,)), generator(0))
    counts = (drawn[:, 0] * K + drawn[:, 1]).bincount(minlength=K * K).double()
    common = p * n > 5
    chi = ((counts - p * n).square() / (p * n))[common].sum()
    assert float(chi) < int(common.sum()) + 4 * math.sqrt(2 * int(common.sum()))
    assert float(counts[~common].sum()) < 5 * float(p[~common].sum() * n) + 10


@pytest.mark.parametrize("head", ["digits", "values"])
def test_floor_maps_walk_like_digits(head):
    digits = Digits(7, 3)
    a, b = toy(digits, (4,), head), toy(floor_maps(digits), (4,), head)
    plan, x = plans.unstaged(2, (4,), generator(0)), some_data(digits, (4,), 5)
    torch.testing.assert_close(score(a, plan, x), score(b, plan, x), rtol=0, atol=1e-12)
    assert torch.equal(*(sample(m, plan, m.digits.blank(9, (4,)), generator(2)) for m in (a, b)))


def test_the_loop_knows_no_special_source():
    text = inspect.getsource(walking)
    loop = inspect.getsource(walk)
    assert "isinstance" not in text
    for word in ("Draw", "Score", "Encode", "Decode", "temperature", "quantile", "logits"):
        assert word not in loop


def test_scoring_never_asks_for_logits():
    """A table of 65,536 classes for each site of 16-bit sound would cost more than the network."""

    class Answer:
        def __getitem__(self, sites):
            raise AssertionError("asked for logits")

        def log_prob(self, sites, digit):
            return torch.full((len(sites),), -math.log(65536), dtype=torch.double)

    class Uniform:
        digits = Digits(65536, 65536)

        def __call__(self, state, context=None):
            return Answer()

    x = some_data(Uniform.digits, (5,), 2)
    torch.testing.assert_close(
        score(Uniform(), plans.raster(1, (5,)), x), torch.full((2,), 5 * math.log(65536)).double()
    )


def test_sources_of_ones_own_are_watched_too():
    """Whatever a source asks for, a site without a distribution is an error that names the step."""

    class Broken:
        digits = Digits(3, 3)

        def __call__(self, state, context=None):
            late = (state.depth.sum(1) >= 2)[:, None]
            return Fixed(torch.where(late, math.nan, torch.zeros(2, 3)))

    plan, blank = plans.raster(1, (4,)), Digits(3, 3).blank(2, (4,))
    x = some_data(Digits(3, 3), (4,), 2)
    for own in (
        lambda prediction, sites, target: prediction[sites].argmax(-1),
        lambda prediction, sites, target: prediction.log_prob(sites, target).long().clamp(0, 0) + target,
    ):
        with pytest.raises(ArdmError, match=r"2 of 2 sites in step 2\b"):
            list(walk(Broken(), plan, own, blank, truth=x))


# --- what the network is shown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_is_the_data_cut_to_the_revealed_digits(kind):
    alphabet, D = Digits(5, 5) if kind == "absorbing" else Digits(7, 2), 4
    spy, x = Spy(toy(alphabet, (D,))), some_data(alphabet, (D,), 3)
    plan, blank = every_kind(alphabet, D, 3)[kind], alphabet.blank(3, (D,))
    states = list(walk(spy, plan, Score(3), blank, truth=x))
    assert len(states) == len(spy.seen) == (len(plan) if isinstance(plan, Plan) else 6)
    for shown, told in zip(spy.seen, [blank, *states], strict=False):
        assert torch.equal(shown.value, told.value)
        assert torch.equal(shown.depth, told.depth)
        assert torch.equal(told.value, alphabet.truncate(x, told.depth).value)
    assert torch.equal(states[-1].value, x)


def test_every_stop_is_a_coarser_datum():
    """Progressive: after each stage everything is known to one more digit, and scoring stops there too."""
    digits, x = Digits(8, 2), some_data(Digits(8, 2), (3,), 2)
    model, plan = toy(digits, (3,)), plans.raster(3, (3,))
    states = list(walk(model, plan, Score(2), digits.blank(2, (3,)), truth=x))
    for stage in range(3):
        assert torch.equal(states[3 * stage + 2].value, digits.truncate(x, torch.full_like(x, stage + 1)).value)


def test_nothing_to_do_is_the_start():
    model = toy(Digits(3, 3), (2,))
    x = some_data(model.digits, (2,), 2)
    full = model.digits.truncate(x, torch.ones_like(x))
    plan = plans.raster(1, (2,)).given(full.depth)
    assert len(plan) == 0
    assert torch.equal(sample(model, plan, full, generator()), x)
    assert score(model, plan, x, full).tolist() == [0.0, 0.0]


def test_context_reaches_the_network_untouched():
    model, x = toy(Digits(3, 3), (3,), context=2), all_data(3, (3,))
    plan = plans.raster(1, (3,))
    a, b = torch.randn(2, 1, 2, generator=generator(0), dtype=torch.double).expand(2, 27, 2)
    for side in (a, b):
        assert float(score(model, plan, x, context=side).neg().exp().sum()) == pytest.approx(1)
    assert (score(model, plan, x, context=a) - score(model, plan, x, context=b)).abs().max() > 0.1
    blank = model.digits.blank(27, (3,))
    assert not torch.equal(*(sample(model, plan, blank, generator(0), context=side) for side in (a, b)))


def test_walking_leaves_no_graph():
    model, x = toy(Digits(3, 3), (3,)), some_data(Digits(3, 3), (3,))
    assert not score(model, plans.raster(1, (3,)), x).requires_grad


# --- parts given ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alphabet", [Digits(8, 2), WILD])
def test_infilling_keeps_what_was_given(alphabet):
    """C23: any subset, to any depth, another one of each item."""
    S, x = len(alphabet), some_data(alphabet, (6,), 40)
    depth = torch.randint(S + 1, x.shape, generator=generator(1))
    start, model = alphabet.truncate(x, depth), toy(alphabet, (6,))
    for plan in (
        plans.shuffled(S, (6,), generator(0)),
        plans.shuffled(S, (6,), generator(0), 40),
        plans.unstaged(S, (6,), generator(0)),
    ):
        plan = plan.given(depth)
        y = sample(model, plan, start, generator(0))
        assert (y != x).any()
        assert torch.equal(alphabet.truncate(y, depth).value, start.value)
        for state in walk(model, plan, Draw(generator(0)), start):
            untouched = state.depth == depth
            assert (state.depth >= depth).all()
            assert torch.equal(state.value[untouched], start.value[untouched])
    adaptive = confident(tuple(s * 6 + k for s in range(S) for k in (0, 2, 3)), 6, S)
    y = sample(model, adaptive, start, generator(0))
    assert torch.equal(alphabet.truncate(y, depth).value, start.value)


def test_completions_of_what_is_given_sum_to_one():
    """Every order conditions on any subset: Σ over completions of p(completion | given) = 1."""
    digits = Digits(4, 2)
    model, x = toy(digits, (3,), "values"), all_data(4, (3,))
    for depth in itertools.product(range(3), repeat=3):
        depth = torch.tensor([depth])
        start = digits.truncate(x, depth.expand_as(x))
        plan = plans.shuffled(2, (3,), generator(0)).given(depth)
        mass = score(model, plan, x, start).neg().exp()
        groups = start.value @ torch.tensor([16, 4, 1])
        sums = torch.zeros(64, dtype=torch.double).index_add(0, groups, mass)[groups.unique()]
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_the_chain_rule_splits_at_what_is_given():
    """−log p(x) = −log p(first part) − log p(rest | first part), along one order."""
    digits, x = Digits(4, 2), some_data(Digits(4, 2), (4,), 5)
    model = toy(digits, (4,))
    plan = plans.shuffled(2, (4,), generator(0)).coarsen([0, 1, 3, 4, 6])
    whole = score(model, plan, x)
    for k in range(1, 5):
        depth = plan.depth(k)
        head = Plan(torch.where(plan.when < k, plan.when, plans.NEVER))
        first = score(model, head, x)
        rest = score(model, plan.given(depth), x, digits.truncate(x, depth.expand_as(x)))
        torch.testing.assert_close(first + rest, whole, rtol=0, atol=1e-10)


def test_what_lies_outside_is_not_asked():
    digits = Digits(3, 3)
    model, x = toy(digits, (2, 2)), some_data(digits, (2, 2), 4)
    inside = torch.tensor([[[True, False], [True, True]]])
    plan = only(plans.shuffled(1, (2, 2), generator(0)), inside)
    y = x.clone()
    y[:, 0, 1] = (x[:, 0, 1] + 1) % 3
    assert torch.equal(score(model, plan, x), score(model, plan, y))
    drawn = last(walk(model, plan, Draw(generator()), digits.blank(4, (2, 2))), digits.blank(4, (2, 2)))
    assert torch.equal(drawn.depth, inside.long().expand(4, 2, 2))
    assert (drawn.value[:, 0, 1] == 0).all()
    inner = all_data(3, (3,))
    full = torch.zeros(27, 4, dtype=torch.long)
    full[:, [0, 2, 3]] = inner
    assert float(score(model, plan, full.view(27, 2, 2)).neg().exp().sum()) == pytest.approx(1)


def test_a_start_that_the_plan_does_not_know_is_refused():
    digits, x = Digits(8, 2), some_data(Digits(8, 2), (3,), 2)
    model = toy(digits, (3,))
    start = digits.truncate(x, torch.tensor([[1, 0, 2]]).expand_as(x))
    with pytest.raises(ArdmError, match=r"plan\.given"):
        sample(model, plans.raster(3, (3,)), start, generator())
    with pytest.raises(ArdmError, match=r"plan\.given"):
        score(model, plans.raster(3, (3,)).given(start.depth), x)


# --- ranks, not orders ------------------------------------------------------------------------------------------------


class Causal:
    """A causal model in one order: p(x_site | sites before it in `order`) from a table; other sites are not read."""

    digits = Digits(3, 3)

    def __init__(self, order):
        self.order, D = order, len(order)
        self.table = torch.randn(D, 3**D, 3, generator=generator(7), dtype=torch.double) * 2

    def conditional(self, value, step):
        """(B, 3) log-probabilities of the site revealed at this step, given values (B, D)."""
        before = value[:, self.order[:step]]
        return self.table[step, (before * 3 ** torch.arange(step)).sum(1)].log_softmax(-1)

    def log_prob(self, x):
        return sum(self.conditional(x, t)[torch.arange(len(x)), x[:, self.order[t]]] for t in range(len(self.order)))

    def __call__(self, state, context=None):
        step = self.order.argsort()  # of each site
        rows = torch.stack([self.conditional(state.value, int(t)) for t in step], 1).flatten(0, 1)

        class Answer:
            def __getitem__(self, sites):
                return rows[sites.index]

            def log_prob(self, sites, digit):
                return rows[sites.index].gather(1, digit[:, None])[:, 0]

        return Answer()


def test_a_fixed_order_is_a_causal_model_and_its_inverse_is_not():
    order = torch.tensor([2, 0, 3, 1])  # the site of each step; its inverse, the step of each site, is another
    rank = order.argsort()
    assert not torch.equal(order, rank)
    model, x = Causal(order), all_data(3, (4,))
    exact = model.log_prob(x)
    assert float(exact.exp().sum()) == pytest.approx(1)
    torch.testing.assert_close(-score(model, plans.ranked(rank, (4,)), x), exact, rtol=0, atol=1e-12)
    assert (score(model, plans.ranked(order, (4,)), x) + exact).abs().max() > 0.1
    drawn = sample(model, plans.ranked(rank, (4,)), model.digits.blank(3000, (4,)), generator(0))
    assert float(-model.log_prob(drawn).mean()) == pytest.approx(float(-(exact.exp() * exact).sum()), abs=0.15)


# --- any budget -------------------------------------------------------------------------------------------------------


def test_one_network_takes_any_number_of_calls():
    """C24: from one call per stage to one per site, and each is a distribution."""
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), all_data(4, (3,))
    fine, spy = plans.shuffled(2, (3,), generator(0)), None
    for cuts in itertools.product([False, True], repeat=4):
        starts = [k for k, cut in zip(range(6), [True, *cuts[:2], True, *cuts[2:]], strict=True) if cut]
        spy = Spy(model)
        assert float(score(spy, fine.coarsen(starts), x).neg().exp().sum()) == pytest.approx(1)
        assert len(spy.seen) == len(starts) == 2 + sum(cuts)
        assert sample(model, fine.coarsen(starts), digits.blank(2, (3,)), generator()).shape == (2, 3)


def test_parallel_steps_are_independent_given_what_is_known():
    model, x = toy(Digits(3, 3), (3,)), all_data(3, (3,))
    at_once = score(model, plans.raster(1, (3,)).coarsen([0]), x)
    state = model.digits.blank(27, (3,))
    logp = model(state)[everywhere(model, state)].log_softmax(-1).view(27, 3, 3).gather(2, x[..., None])[..., 0]
    torch.testing.assert_close(at_once, -logp.sum(1).detach())


# --- chance -----------------------------------------------------------------------------------------------------------


def shares(monkeypatch, logits, low, high, n=200_000):
    """How often Draw takes each symbol when its uniform numbers fill [low, high) evenly: (b,) fractions."""
    grid = (low + (torch.arange(n, dtype=torch.double) + 0.5) / n * (high - low)).clamp(max=1 - 2.0**-53)
    monkeypatch.setattr(RandomNumbers, "uniform", lambda *index: grid)
    drawn = Draw(generator())(*asked(logits.expand(n, -1)), None)
    monkeypatch.undo()
    return drawn.bincount(minlength=logits.shape[-1]) / n


def gumbel_share(log_p):
    """How often the usual float32 Gumbel sampler takes the rare one of two symbols, over all its random numbers."""
    u = np.arange(1, 2**24, dtype=np.float32) * np.float32(2**-24)
    noise = -np.log(-np.log(u))  # ascending; at most 16.6
    best = noise[-(2**17) :] + np.float32(log_p)  # below these it never wins
    return float(np.searchsorted(noise, best).sum()) / 2.0**48


def test_rare_symbols_are_drawn_as_often_as_they_should_be(monkeypatch):
    """Float64 inverse cdf: the numbers that give a symbol of 1e-8 or 1e-12 measure that; float32 noise misses it."""
    for p in (1e-8, 1e-12):
        for logits in (torch.tensor([math.log(p), 0.0]), torch.tensor([0.0, math.log(p), -torch.inf]).double()):
            rare = int(logits.argsort()[-2])
            low, high = (0.0, 4 * p) if rare == 0 else (1 - 4 * p, 1.0)
            assert float(shares(monkeypatch, logits[None], low, high)[rare]) * 4 == pytest.approx(1, rel=2e-3)
    assert gumbel_share(math.log(1e-4)) == pytest.approx(1e-4, rel=1e-2)  # where it is good, this measure says so
    assert gumbel_share(math.log(1e-8)) < 0.1 * 1e-8
    assert gumbel_share(math.log(1e-12)) == 0


def test_impossible_symbols_are_never_drawn(monkeypatch):
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    for low, high in ((0.0, 1e-12), (0.0, 1.0), (1 - 1e-12, 1.0)):
        seen = shares(monkeypatch, logits, low, high)
        assert seen[[0, 2, 4]].sum() == 0
    for u in (0.0, 1 - 2.0**-53):
        monkeypatch.setattr(RandomNumbers, "uniform", lambda *index, u=u: torch.full((1,), u, dtype=torch.double))
        assert int(Draw(generator())(*asked(logits), None)) == (1 if u == 0 else 3)


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.0, -1.0, -2.0, -5.0, -9.0, 0.5])
    n = 1_000_000
    drawn = Draw(generator(0))(*asked(logits.expand(n, -1)), None).bincount(minlength=6)
    p = logits.double().softmax(-1) * n
    assert float(((drawn - p).square() / p).sum()) < 20  # chi-square, 5 degrees of freedom: p ≈ 1e-3


def test_temperature_sharpens_and_zero_takes_the_most_likely():
    logits = torch.tensor([[0.0, 1.0, 1.0, -torch.inf]]).expand(100_000, -1)
    half = Draw(generator(0), 0.5)(*asked(logits), None).bincount(minlength=4) / 1e5
    expected = (torch.tensor([0.0, 2.0, 2.0, -torch.inf])).softmax(-1)
    torch.testing.assert_close(half, expected, rtol=0, atol=0.01)
    assert (Draw(generator(0), 0)(*asked(logits), None) == 1).all()
    with pytest.raises(ArdmError, match="temperature"):
        Draw(generator(), -1.0)


def test_scores_are_added_up_in_float64():
    logits = torch.tensor([[0.0, 0.0]], dtype=torch.float32)
    ledger = Score(2)
    for _ in range(1000):
        assert ledger(*asked(logits, torch.tensor([1])), torch.tensor([0])).tolist() == [0]
    assert ledger.nats[0] == 0
    assert float(ledger.nats[1]) == pytest.approx(1000 * math.log(2), rel=1e-13)
    with pytest.raises(ArdmError, match="truth"):
        ledger(*asked(logits), None)


def test_a_seed_is_a_sample():
    model, blank = toy(Digits(5, 2), (4,)), Digits(5, 2).blank(6, (4,))
    plan = plans.shuffled(3, (4,), generator(0))
    first, again, other = (sample(model, plan, blank, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- the real networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["unet", "centred"])
@pytest.mark.parametrize("head", HEADS)
def test_image_models_are_distributions(trunk, head):
    model = tiny_image(trunk, (1, 2, 2), classes=3, base=2, head=head)
    x = all_data(3, (1, 2, 2))
    for plan in (plans.raster(2, (1, 2, 2)), plans.shuffled(2, (1, 2, 2), generator(0)).coarsen([0, 1, 4, 6])):
        assert float(score(model, plan, x).neg().exp().sum()) == pytest.approx(1, abs=1e-10)


def test_states_move_between_devices():
    state = Digits(3, 3).blank(1, (2,))
    assert isinstance(state.to("cpu"), Partial)
    assert Score(1, "cpu").nats.device.type == "cpu"
    assert torch.equal(plans.raster(1, (2,)).to("cpu").when, plans.raster(1, (2,)).when)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["value", "depth"])
def test_a_model_that_writes_into_the_state_is_named(field):
    class Writes(Spy):
        def __call__(self, state, context=None):
            getattr(state, field)[0, -1] = 1
            return super().__call__(state, context)

    digits = Digits(3, 3)
    plan, start = plans.raster(1, (2,)), digits.blank(1, (2,))
    with pytest.raises(ArdmError, match="wrote into the state that it was given in step 0: let it work on clones"):
        sample(Writes(toy(digits, (2,))), plan, start, generator())


MISFITS = {
    "a stage too few": plans.raster(2, (4,)),
    "a stage too many": plans.raster(4, (4,)),
    "a site too few": plans.raster(3, (3,)),
    "a site too many": plans.raster(3, (5,)),
    "another shape": plans.raster(3, (2, 2)),
    "two items": plans.shuffled(3, (4,), generator(), 2),
    "confident, half of the sites": confident((0, 1, 2, 4), 2, 3),
    "confident, of one stage": confident((0, 1, 2, 3), 4),
    "confident, of two stages": confident((0, 4), 4, 2),
    "by a threshold, of one stage": Adaptive("margin", Threshold(0.5)),
    "planned for two items": Adaptive("entropy", PlannedNumber(torch.full((2, 3, 4), 4)), stages=3),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_plan_for_other_items_is_refused(name):
    """A digit that is never revealed costs nothing, and stays 0."""
    plan, digits = MISFITS[name], Digits(5, 2)
    model, x, start = toy(digits, (4,)), some_data(digits, (4,)), digits.blank(3, (4,))
    calls = [
        lambda: score(model, plan, x),
        lambda: sample(model, plan, start, generator()),
        lambda: list(walk(model, plan, Draw(generator()), start)),
        lambda: list(api.generate(model, plan, start, generator())),
        lambda: likelihood.exact(model, plan, x),
        lambda: objective.plan_step(model, plan, x, torch.zeros(3, dtype=torch.long)),
    ]
    for call in calls:
        with pytest.raises(ArdmError, match=r"the plan is for .*the items and the"):
            call()


@pytest.mark.parametrize("plan", [[0, 1, 2, 3], torch.arange(4).view(1, 1, 4), None])
def test_what_is_no_plan_is_refused(plan):
    model = toy(Digits(3, 3), (4,))
    x = some_data(model.digits, (4,))
    for call in (lambda: score(model, plan, x), lambda: likelihood.exact(model, plan, x)):
        with pytest.raises(ArdmError, match=r"a plan is a Plan or Adaptive, .*; got (list|Tensor|NoneType)"):
            call()


def test_freed_memory_is_kept_where_glibc_runs():
    """Pieces of 4 MB freed and allocated again in turns come from memory that the process already has."""
    resource = pytest.importorskip("resource")
    if "glibc" not in platform.libc_ver():
        pytest.skip("another allocator")
    keep_freed_memory(torch.device("cpu"))

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            pieces = [torch.ones(1 << 20) for _ in range(5)]
            del pieces
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 20 * 5 * 1024 / 10  # a page of 4 KiB each, if it were returned
