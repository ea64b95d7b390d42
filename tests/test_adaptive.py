"""Score × select: every adaptive plan is a distribution, replayable, exact, the same in every batch, and ends by itself."""

import itertools
import math

import numpy as np
import pytest
import torch

import ardm
from ardm import likelihood
from ardm.adaptive import SCORES, Adaptive, EntropyBudget, FixedNumber, PlannedNumber, Ranking, Threshold
from ardm.digits import Digits, Partial, Sites
from ardm.errors import ArdmError
from ardm.model import Model
from ardm.source import Decode, Draw, Encode
from ardm.walk import last, sample, score, walk
from toys import WILD, Spy, all_data, confident, generator, some_data, tiny_image, toy


def planned(D, S):
    return PlannedNumber.starting([[t for t in (0, 1, 3) if t < D]] * S, D)


SELECTIONS = {
    "one": lambda D, S: FixedNumber(),
    "two": lambda D, S: FixedNumber(2),
    "planned": planned,
    "threshold": lambda D, S: Threshold(0.5),
    "budget": lambda D, S: EntropyBudget(0.4),
}
PLANS = [*itertools.product(SCORES, SELECTIONS, (None, 2))]
CASES = {
    "a sequence": (Digits(3, 3), (4,)),
    "two stages": (Digits(4, 2), (3,)),
    "a picture": (Digits(2, 2), (2, 1, 3)),
    "a picture of two stages": (Digits(3, 2), (1, 2, 2)),
    "three maps": (WILD, (2,)),
}


def made(case, score, select, block_length):
    digits, shape = CASES[case]
    D, S = math.prod(shape), len(digits)
    selection = Threshold(0.75) if (score, select) == ("probability", "threshold") else SELECTIONS[select](D, S)
    return Adaptive(score, selection, block_length, S)


def network(case, seed=0):
    """A small network that is sure in some places and not in others, as what is known decides."""
    digits, shape = CASES[case]
    model = toy(digits, shape, "values", seed, scale=1.5)
    with torch.no_grad():
        model.body.first.weight.mul_(3)
        model.body.second.bias.zero_()
        model.head.out.bias.zero_()
    return model


class Sure:
    """A prediction of two digits with these log-odds (B, D)."""

    def __init__(self, odds):
        self.odds = odds

    def __getitem__(self, sites):
        return sites.of(self.odds)[:, None] * torch.tensor([1.0, 0.0])


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "select", "block_length"), PLANS)
@pytest.mark.parametrize("case", CASES)
def test_probabilities_of_all_items_sum_to_one(case, name, select, block_length):
    """By enumeration, for several networks: no item is counted twice and none is left out."""
    plan, x = made(case, name, select, block_length), all_data(CASES[case][0].classes, CASES[case][1])
    for seed in range(3):
        mass = score(network(case, seed), plan, x).neg().exp()
        assert float(mass.sum()) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("select", ["threshold", "budget"])
@pytest.mark.parametrize("case", CASES)
def test_items_take_different_numbers_of_steps(case, select):
    """What the tests of this page rest on: among all items of three networks some end sooner than others."""
    x, batches = all_data(CASES[case][0].classes, CASES[case][1]), set()
    for name, seed in itertools.product(SCORES, range(3)):
        spy = Spy(network(case, seed))
        score(spy, made(case, name, select, None), x)
        batches |= {state.batch for state in spy.seen}
    assert len(batches) > 1


class Tries:
    """A source that tries all digits: item i of b^(D·S) gets the digits of i in base b, in the order they are revealed.

    logp: (B,), the log-probability of the digits.
    """

    def __init__(self, batch, base):
        self.number, self.base, self.logp = torch.arange(batch), base, torch.zeros(batch, dtype=torch.double)

    def __call__(self, prediction, sites, target):
        digit = torch.zeros(len(sites), dtype=torch.long)
        for j, item in enumerate(sites.batch_index.tolist()):
            digit[j], self.number[item] = self.number[item] % self.base, self.number[item] // self.base
        self.logp.index_add_(0, sites.batch_index, prediction.log_prob(sites, digit).double())
        return digit


@pytest.mark.parametrize(("name", "select", "block_length"), PLANS)
@pytest.mark.parametrize("case", ["a sequence", "two stages", "a picture"])
def test_what_can_be_drawn_is_what_is_scored(case, name, select, block_length):
    """All branches of sampling, listed: every item comes out once, with the probability that it is scored at."""
    digits, shape = CASES[case]
    plan, model, x = made(case, name, select, block_length), network(case), all_data(digits.classes, shape)
    every, start = Tries(len(x), digits.base), digits.blank(len(x), shape)
    drawn = last(walk(model, plan, every, start), start)
    assert (drawn.depth == len(digits)).all()
    place = digits.classes ** torch.arange(math.prod(shape) - 1, -1, -1)
    number = drawn.value.flatten(1) @ place
    assert sorted(number.tolist()) == list(range(len(x)))
    torch.testing.assert_close(every.logp, -score(model, plan, x)[number], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "select", "block_length"), PLANS)
@pytest.mark.parametrize("case", CASES)
def test_what_was_drawn_decodes_to_itself(case, name, select, block_length):
    digits, shape = CASES[case]
    plan, model, start = made(case, name, select, block_length), network(case), digits.blank(9, shape)
    x = last(walk(model, plan, Draw(generator(1)), start), start).value
    writer = Encode()
    last(walk(model, plan, writer, start, truth=x), start)
    reader = Decode(writer.finish(7))
    assert torch.equal(last(walk(model, plan, reader, start), start).value, x)
    assert reader.finish() == 7
    bits = float(likelihood.exact(model, plan, x).nats.sum()) / math.log(2)
    assert writer.bits == pytest.approx(bits, rel=1e-3, abs=0.5)


@pytest.mark.parametrize(("name", "select", "block_length"), PLANS)
@pytest.mark.parametrize("case", ["two stages", "three maps"])
def test_every_state_can_be_completed(case, name, select, block_length):
    """From every depth of every site: Σ over completions of p(completion | given) = 1, and given digits stay."""
    digits, shape = CASES[case]
    plan, model, x = made(case, name, select, block_length), network(case), all_data(digits.classes, shape)
    place = digits.states if hasattr(digits, "states") else digits.classes
    for depth in itertools.product(range(len(digits) + 1), repeat=math.prod(shape)):
        start = digits.truncate(x, torch.tensor(depth).expand_as(x))
        group = (start.value @ place ** torch.arange(x.shape[1])).unique(return_inverse=True)[1]
        mass = score(model, plan, x, start).neg().exp()
        sums = torch.zeros(int(group.max()) + 1, dtype=torch.double).index_add(0, group, mass)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        drawn = digits.truncate(sample(model, plan, start, generator()), start.depth)
        assert torch.equal(drawn.value, start.value)


# --- scores and selections, by the book ----------------------------------------------------------------------------------


def test_scores_are_what_they_are_called():
    logits = torch.randn(7, 5, generator=generator(), dtype=torch.double)
    logits[0], logits[1, 1:] = 0.0, -math.inf
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    top = np.sort(p, 1)
    plain = {
        "entropy": [-sum(v * math.log(v) for v in row if v) for row in p],
        "margin": top[:, -2] - top[:, -1],
        "probability": -top[:, -1],
    }

    class Given:
        def __getitem__(self, sites):
            return logits[sites.index]

    for name in SCORES:
        found = SCORES[name](Given(), Sites(torch.arange(7), 7))
        np.testing.assert_allclose(found.numpy(), plain[name], atol=1e-12)


def test_many_values_are_listed_a_few_sites_at_a_time(monkeypatch):
    """65,536 values at all sites would be one large table; the figures do not depend on the parts."""
    logits, asked = torch.randn(500, 40, generator=generator()), []

    class Given:
        numbers = 40

        def __getitem__(self, sites):
            asked.append(len(sites))
            return logits[sites.index]

    whole = {name: score(Given(), Sites(torch.arange(500), 500)) for name, score in SCORES.items()}
    monkeypatch.setattr("ardm.model.TOGETHER", 40 * 100)
    asked.clear()
    for name, expected in whole.items():
        assert torch.equal(SCORES[name](Given(), Sites(torch.arange(500), 500)), expected)
        assert not len(SCORES[name](Given(), Sites(torch.arange(0), 500)))
    assert max(asked) == 100


def test_the_surest_come_first_and_ties_go_to_the_smallest_position():
    prediction, state = Sure(torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 9.0]])), Digits(2, 2).blank(2, (4,))
    for name in SCORES:
        assert Adaptive(name, FixedNumber(2)).select(0, state, prediction).index.tolist() == [1, 3, 4, 7]
        assert Adaptive(name, FixedNumber()).select(0, state, prediction).index.tolist() == [1, 7]
        assert Adaptive(name, FixedNumber(), 2).select(0, state, prediction).index.tolist() == [1, 4]


def ranked(odds, score="entropy"):
    odds = torch.as_tensor(odds)
    return Ranking(torch.ones_like(odds, dtype=torch.bool), *torch.zeros(2, len(odds)).long(), Sure(odds), score)


def test_the_three_scores_rank_differently():
    """Three digits: most likely, by margin, and by entropy another site comes first."""
    p = torch.tensor([[0.50, 0.26, 0.24], [0.48, 0.48, 0.04], [0.52, 0.47, 0.01], [0.49, 0.255, 0.255]]).log()

    class Given:
        def __getitem__(self, sites):
            return p[sites.index]

    state = Digits(3, 3).blank(1, (4,))
    order = {
        name: Ranking(torch.ones(1, 4, dtype=torch.bool), *torch.zeros(2, 1).long(), Given(), name).order[0].tolist()
        for name in SCORES
    }
    assert order == {"entropy": [2, 1, 0, 3], "margin": [0, 3, 2, 1], "probability": [2, 0, 3, 1]}
    for name, first in (("entropy", 2), ("margin", 0), ("probability", 2)):
        assert Adaptive(name, FixedNumber()).select(0, state, Given()).index.tolist() == [first]


@pytest.mark.parametrize("seed", range(4))
def test_an_entropy_budget_takes_the_longest_prefix(seed):
    odds = torch.randn(5, 8, generator=generator(seed), dtype=torch.double) * 3
    for name, nats in itertools.product(SCORES, (0.0, 0.2, 1.0, 9.0)):
        ranking = ranked(odds, name)
        h = ranking.entropy()
        for item, width in enumerate(EntropyBudget(nats)(ranking).tolist()):
            sizes = [n for n in range(1, 9) if float(h[item, :n].sum() - h[item, :n].max()) <= nats]
            assert width == max(sizes)
            assert sizes == list(range(1, width + 1))


def test_a_threshold_takes_all_that_are_sure():
    odds = torch.tensor([[0.1, 2.0, -3.0, 0.0], [0.2, 0.1, 0.0, 0.3]], dtype=torch.double)
    p = torch.maximum(odds.sigmoid(), 1 - odds.sigmoid())
    state = Digits(2, 2).blank(2, (4,))
    for name, value, sure in (
        ("probability", 0.8, p >= 0.8),
        ("margin", 0.7, 2 * p - 1 >= 0.7),
        ("entropy", 0.5, -p * p.log() - (1 - p) * (1 - p).log() <= 0.5),
    ):
        assert sure[0].tolist() == [False, True, True, False]
        assert not sure[1].any()
        picked = Adaptive(name, Threshold(value)).select(0, state, Sure(odds))
        assert picked.index.tolist() == [1, 2, 7], "all that are sure; at least one"
    certain = torch.tensor([[1e9, 0.0, 1e9]])
    assert Adaptive("probability", Threshold(1.0)).select(
        0, Digits(2, 2).blank(1, (3,)), Sure(certain)
    ).index.tolist() == [0, 2]


def test_blocks_go_from_left_to_right_and_stages_one_after_the_other():
    prediction, digits = Sure(torch.arange(10.0).view(2, 5)), Digits(4, 2)
    plan = Adaptive("entropy", FixedNumber(5), 2, 2)
    depth = torch.tensor([[0, 1, 0, 0, 0], [2, 1, 1, 1, 1]])
    seen = []
    while left := plan.items(0, Partial(torch.zeros_like(depth), depth)):
        sites = plan.select(0, Partial(torch.zeros_like(depth), depth), prediction)
        seen.append((left, sites.index.tolist()))
        depth = depth.flatten().index_add(0, sites.index, torch.ones_like(sites.index)).view_as(depth)
    assert seen == [
        ([0, 1], [0, 6]),
        ([0, 1], [2, 3, 7, 8]),
        ([0, 1], [4, 9]),
        ([0], [0, 1]),
        ([0], [2, 3]),
        ([0], [4]),
    ]
    assert len(digits) == 2


def test_a_user_writes_a_selection_of_their_own():
    """Fast-dLLM's factor: the largest n with (n + 1)(1 − c_n) < f, where c_n is the n-th largest probability."""

    def factor(ranking):
        n = torch.arange(1, ranking.score.shape[1] + 1)
        return ((n + 1) * (1 + ranking.score) < 1.0).cumprod(1).sum(1)

    digits = Digits(3, 3)
    model, x = toy(digits, (4,), scale=3.0), all_data(3, (4,))
    plan = Adaptive("probability", factor)
    assert float(score(model, plan, x).neg().exp().sum()) == pytest.approx(1, abs=1e-10)


# --- one item, in any company -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["threshold", "budget"])
@pytest.mark.parametrize("case", CASES)
def test_an_item_fares_the_same_alone_and_among_others(case, select):
    digits, shape = CASES[case]
    plan, model, x = made(case, "entropy", select, None), network(case), some_data(digits, shape, 12)
    depth = torch.randint(len(digits) + 1, x.shape, generator=generator(2))
    start = digits.truncate(x, depth)
    together = score(model, plan, x, start)
    for i in range(12):
        alone = Partial(start.value[i : i + 1], start.depth[i : i + 1])
        torch.testing.assert_close(score(model, plan, x[i : i + 1], alone), together[i : i + 1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("score", SCORES)
def test_rounding_decides_no_tie(score):
    """A network that predicts the same everywhere until something is known, and rounds otherwise in each row of a batch."""
    table = torch.randn(4, 5, generator=generator(2), dtype=torch.double)

    def net(value, depth):
        left = torch.where(depth > 0, value + 1, 0).roll(1, 1)
        noise = 1e-6 * torch.arange(left.numel() * 5, dtype=torch.double).sin().view(*left.shape, 5)
        return table[left.clamp(max=3)] + noise

    model, plan = ardm.wrap(net, (6,), 5), Adaptive(score, FixedNumber(2))
    x = ardm.sample(model, 5, order=plan)
    assert torch.equal(ardm.sample(model, 2, order=plan, first=3), x[3:])
    alone = torch.cat([ardm.score(model, item, order=plan).nats for item in x])
    torch.testing.assert_close(ardm.score(model, x, order=plan).nats, alone, rtol=0, atol=1e-4)


def test_what_is_finished_costs_nothing():
    """Inputs of the network: one for each step of each item, and the steps of an item are those it takes alone."""
    spy, x = Spy(network("a sequence", 1)), all_data(3, CASES["a sequence"][1])
    plan = Adaptive("entropy", EntropyBudget(0.4))
    score(spy, plan, x)
    sizes = [state.batch for state in spy.seen]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 81 > sizes[-1]
    assert all((state.depth == 0).flatten(1).any(1).all() for state in spy.seen)
    alone = Spy(spy.model)
    for i in range(81):
        score(alone, plan, x[i : i + 1])
    assert len(alone.seen) == sum(sizes)
    start = Partial(x, torch.ones_like(x))
    spy.seen.clear()
    assert torch.equal(sample(spy, plan, start, generator()), x)
    assert not spy.seen


def test_contexts_stay_with_their_items():
    digits = Digits(3, 3)
    model, x = toy(digits, (4,), scale=3.0, context=2), some_data(digits, (4,), 10)
    context = torch.randn(10, 2, generator=generator(), dtype=torch.double)
    plan = Adaptive("margin", Threshold(0.5))
    together = score(model, plan, x, context=context)
    apart = [score(model, plan, x[i : i + 1], context=context[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=1e-10)


def test_a_finished_item_does_not_confuse_a_model_that_remembers():
    """A causal model along its wavefronts keeps features from step to step, of the items that were there."""
    config = ardm.ModelConfig(shape=(6,), classes=3, trunk="wavefront", causal="wave", width=8, blocks=1)
    model = ardm.build(config).double().eval()
    x = some_data(Digits(3, 3), (6,), 3)
    depth = torch.tensor([[1, 1, 1, 0, 0, 0], [0] * 6, [1] * 6])
    along = Adaptive("entropy", FixedNumber(), block_length=1)
    start = model.digits.truncate(x, depth)
    together = score(model, along, x, start)
    alone = [score(model, along, x[i : i + 1], Partial(start.value[i : i + 1], depth[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-10)


@pytest.mark.parametrize("select", ["two", "threshold", "budget"])
def test_a_real_network_of_pictures_goes_along(select):
    model = tiny_image(shape=(1, 2, 2), classes=3)
    plan, x = Adaptive("entropy", SELECTIONS[select](4, 1)), all_data(3, (1, 2, 2))
    assert isinstance(model, Model)
    assert float(score(model, plan, x).neg().exp().sum()) == pytest.approx(1, abs=1e-9)


# --- exact likelihoods --------------------------------------------------------------------------------------------------


def test_the_likelihood_is_exact_and_says_so():
    model, x = network("two stages"), all_data(4, CASES["two stages"][1])
    plan = made("two stages", "margin", "budget", 2)
    found = likelihood.exact(model, plan, x)
    assert found.estimator.startswith("exact")
    assert "adaptive" in found.estimator
    assert not found.is_bound
    assert torch.equal(found.nats, score(model, plan, x))


def test_confidence_beats_a_random_order_where_one_site_tells_the_other():
    """A coin, and a copy of it that can be read only after the coin: the surest first needs ln 2, in two steps or one."""

    def net(value, depth):
        known, seen = depth[:, 0] > 0, value[:, 0]
        odds = torch.stack([torch.zeros(len(value)), torch.where(known, 40.0 * seen - 20.0, 0.5)], 1)
        return torch.stack([torch.zeros_like(odds), odds], -1)

    model, x = ardm.wrap(net, (2,), 2), torch.tensor([[0, 0], [1, 1]])
    plan = Adaptive("entropy", EntropyBudget(0.1))
    nats = ardm.score(model, x, order=plan).nats
    assert nats.mean() > math.log(2), "the second site looks surer at first"
    left = ardm.score(model, x, order=Adaptive("entropy", EntropyBudget(0.1), block_length=1)).nats
    torch.testing.assert_close(left, torch.full((2,), math.log(2), dtype=torch.double))


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adaptive("surprise"), "unknown score 'surprise'; choose entropy, margin, probability"),
        (lambda: Adaptive("entropy", 4), "a selection is FixedNumber, Threshold.*got 4"),
        (lambda: Adaptive(block_length=0), "block_length must be at least 1"),
        (lambda: Adaptive(stages=0), "stages must be at least 1"),
        (lambda: FixedNumber(0), "number of sites of a step must be at least 1"),
        (lambda: FixedNumber(1.5), "must be a whole number"),
        (lambda: Threshold(math.nan), "a threshold must be a finite number of at least 0; got nan"),
        (lambda: Threshold("0.9"), "a threshold must be a finite number"),
        (lambda: EntropyBudget(-0.1), "an entropy budget must be a finite number of at least 0; got -0.1"),
        (lambda: EntropyBudget(math.inf), "finite"),
        (lambda: PlannedNumber.starting([], 4), "starts of a stage begin with 0"),
        (lambda: PlannedNumber.starting([()], 4), "starts of a stage begin with 0"),
        (lambda: PlannedNumber.starting([(1,)], 4), "starts of a stage begin with 0"),
        (lambda: PlannedNumber.starting([(0, 0)], 4), "starts of a stage begin with 0"),
        (lambda: PlannedNumber.starting([(0, 4)], 4), "increase strictly below 4"),
        (lambda: PlannedNumber(torch.zeros(4).long()), r"shape \(1 or B, S, D\); got Tensor \(4,\)"),
        (lambda: PlannedNumber(torch.tensor([[[1, 1]]])), r"must lie in t \+ 1\.\.2"),
        (lambda: PlannedNumber(torch.tensor([[[1, 3]]])), r"must lie in t \+ 1\.\.2"),
    ],
)
def test_what_is_no_adaptive_plan_is_refused(make, message):
    with pytest.raises(ArdmError, match=message):
        make()


@pytest.mark.parametrize(
    ("returns", "said"),
    [(1.5, "got 1.5"), (None, "got None"), (torch.tensor([math.nan, 1.0]), r"got torch.float32 \(2,\)"), (torch.ones(3, dtype=torch.long), r"got torch.int64 \(3,\)"), (True, "got True")],
)  # fmt: skip
def test_a_selection_that_says_no_number_is_refused(returns, said):
    """NaN would reveal nothing, and the walk would never end."""
    model = toy(Digits(3, 3), (4,))
    with pytest.raises(ArdmError, match=f"a selection returns whole numbers of sites.*{said}"):
        ardm.sample(model, 2, order=Adaptive("entropy", lambda ranking: returns))
    with pytest.raises(ArdmError, match="a selection is FixedNumber"):
        Adaptive("entropy", FixedNumber)


@pytest.mark.parametrize("number", [2, torch.tensor(2), torch.tensor([2, 2])])
def test_a_selection_may_say_its_number_in_any_way(number):
    model = toy(Digits(3, 3), (4,))
    found = ardm.sample(model, 2, order=Adaptive("entropy", lambda ranking: number))
    assert torch.equal(found, ardm.sample(model, 2, order=Adaptive("entropy", FixedNumber(2))))


def test_a_plan_without_a_selection_must_be_planned():
    model = toy(Digits(3, 3), (4,))
    with pytest.raises(ArdmError, match=r"give a selection, such as FixedNumber\(1\), or let ardm\.make_plan plan it"):
        score(model, Adaptive(), some_data(model.digits, (4,)))


def test_a_start_that_is_no_part_of_the_data_is_refused():
    digits = Digits(4, 2)
    model, x = toy(digits, (3,)), some_data(digits, (3,), 2)
    start = digits.truncate(x, torch.tensor([[1, 0, 2]]).expand_as(x))
    with pytest.raises(ArdmError, match="digits forgotten"):
        likelihood.exact(model, confident((0, 1, 3), 3, 2), (x + 2) % 4, start)
