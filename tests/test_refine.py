"""Gibbs refinement leaves a consistent model's distribution as it is; remasking keeps its calls and its counts."""

import itertools
import math
from functools import partial

import pytest
import torch

import ardm
from ardm import likelihood, walk
from ardm import plan as plans
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.models.ending import closed
from ardm.random_numbers import RandomNumbers
from ardm.samplers.remasking import Remask, _chosen, remasking
from toys import WILD, all_data, generator, toy

D, K = 3, 2
every = all_data(K, (D,))
JOINT = (torch.randn(K**D, generator=generator(3), dtype=torch.double) * 1.2).softmax(0)


def conditionals(value, depth):
    """Logits (B, D, K) of each value given what is known, from the joint distribution: a consistent model."""
    fits = ((every == value[:, None]) | (depth[:, None] == 0)).all(2)
    mass = torch.where(fits, JOINT, 0.0)
    return torch.stack([mass @ (every == k).double() for k in range(K)], -1).log()


MODEL = ardm.wrap(conditionals, (D,), K)


def code(x):
    return x @ (K ** torch.arange(D).flip(0))


def transition(hidden):
    """(K^D, K^D): one sweep that hides `hidden` random sites, by enumeration of the sites and of the values."""
    T, subsets = torch.zeros(K**D, K**D, dtype=torch.double), list(itertools.combinations(range(D), hidden))
    for sites in subsets:
        kept = torch.tensor([d not in sites for d in range(D)])
        plan = plans.raster(1, (D,)).given(kept)
        p = likelihood.exact(MODEL, plan, every).nats.neg().exp()  # of y at the hidden sites, given y elsewhere
        same = ((every[:, None] == every) | ~kept).all(2)
        T += same * p / len(subsets)
    return T


def chi_square(seen, wanted):
    """How far counts (R, k) lie from their expectation, in standard deviations of the chi-square statistic."""
    often = wanted > 0
    chi = float(((seen - wanted)[often].square() / wanted[often]).sum())
    free = int(often.sum()) - len(seen)
    return (chi - free) / math.sqrt(2 * free)


# --- Gibbs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_a_sweep_leaves_a_consistent_distribution_as_it_is(hidden):
    T = transition(hidden)
    torch.testing.assert_close(T.sum(1), torch.ones(K**D, dtype=torch.double))
    torch.testing.assert_close(JOINT @ T, JOINT)


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_refinement_makes_the_steps_of_this_matrix(hidden):
    """From every item, 3,000 times."""
    n = 3000
    x = every.repeat_interleave(n, 0)
    y = ardm.refine(MODEL, x, share=hidden / D, calls=hidden, seed=hidden)
    seen = (code(x) * K**D + code(y)).bincount(minlength=K ** (2 * D)).view(K**D, K**D).double()
    wanted = transition(hidden) * n
    assert seen[wanted == 0].sum() == 0
    assert abs(chi_square(seen, wanted)) < 5


def test_sweeps_come_closer_to_the_distribution_of_the_model():
    n = 6000
    worst = every[JOINT.argmin()].expand(n, D)
    y = ardm.refine(MODEL, worst, sweeps=12, share=0.5, calls=2)
    wanted = transition(2).matrix_power(12)[JOINT.argmin()] * n
    assert abs(chi_square(code(y).bincount(minlength=K**D).double()[None], wanted[None])) < 5
    torch.testing.assert_close(wanted / n, JOINT, atol=1e-3, rtol=0)


def test_known_values_stay_and_the_share_of_the_rest_changes():
    model = toy(Digits(64, 64), (20,))
    x = torch.randint(64, (5, 20), generator=generator(0))
    known = torch.rand(5, 20, generator=generator(1)) < 0.5
    y = ardm.refine(model, x, share=0.3, known=known, calls=20)
    assert torch.equal(y[known], x[known])
    changed = (y != x).sum(1)
    assert (changed <= ((~known).sum(1) * 0.3).round()).all()
    assert changed.sum() > 0
    assert torch.equal(ardm.refine(model, x[:2], share=0.3, known=known[:2], calls=20), y[:2])
    one = ardm.refine(model, x[0], share=0.3, known=known[0], calls=20)
    assert torch.equal(one, y[0])
    assert torch.equal(ardm.refine(model, x, known=torch.ones(20, dtype=torch.bool)), x)
    assert not torch.equal(
        ardm.refine(model, x, sweeps=2, share=0.3, seed=1), ardm.refine(model, x, sweeps=2, share=0.3, seed=2)
    )


@pytest.mark.parametrize("alphabet", [Digits(9, 3), WILD])
def test_values_of_several_digits_are_hidden_whole(alphabet):
    model = toy(alphabet, (4,))
    x = ardm.sample(model, 6, 8)
    y = ardm.refine(model, x, sweeps=3, share=0.5)
    assert int(y.max()) < alphabet.classes
    assert not torch.equal(x, y)
    z = ardm.sample_remasked(model, 40, 8, share=0.5)
    assert int(z.max()) < alphabet.classes


def test_arguments_that_are_none_are_refused():
    x = every[:2]
    for share in (0, 1.1, -1, "1", True, math.nan):
        with pytest.raises(ArdmError, match="share"):
            ardm.refine(MODEL, x, share=share)
    with pytest.raises(ArdmError, match="sweeps"):
        ardm.refine(MODEL, x, sweeps=0)
    with pytest.raises(ArdmError, match="mask"):
        ardm.refine(MODEL, x, known=torch.tensor([1, 0, 1]))
    with pytest.raises(ArdmError, match="by confidence or random"):
        ardm.sample_remasked(MODEL, 1, by="chance")
    for wrong, words in (
        ({"schedule": "none"}, "cap or rescale, or a function; got 'none'"),
        ({"between": (0.5, 0.2)}, "two shares of known digits"),
        ({"between": 0.5}, "two shares of known digits"),
        ({"loop": -1}, "0 or more; got -1"),
        ({"loop": 2.0}, "0 or more; got 2.0"),
        ({"loop": 2, "calls": 3}, "a loop of 2 calls and two calls beside it do not fit into 3 calls"),
        ({"held": 0}, "held must be a number"),
    ):
        with pytest.raises(ArdmError, match=words):
            ardm.sample_remasked(MODEL, 1, **wrong)


def test_models_of_a_single_order_are_refused():
    model = build(ModelConfig(trunk="transformer", shape=(4,), classes=3, width=8, heads=1, blocks=1, causal="single"))
    for call in (
        lambda: ardm.refine(model, torch.zeros(1, 4, dtype=torch.long)),
        lambda: ardm.sample_remasked(model, 1),
    ):
        with pytest.raises(ArdmError, match="single order"):
            call()


@pytest.mark.parametrize("taker", [likelihood.exact, walk.score])
@pytest.mark.parametrize("what", [ardm.refine, partial(ardm.refine, MODEL), ardm.sample_remasked])
def test_nothing_that_promises_a_likelihood_takes_them(what, taker):
    with pytest.raises(ArdmError, match="a plan is"):
        taker(MODEL, what, every)


# --- remasking --------------------------------------------------------------------------------------------------------


class Watched:
    """Conditionals that remember which sites were known at each call."""

    def __init__(self, net):
        self.net, self.known = net, []

    def __call__(self, value, depth):
        self.known.append(depth > 0)
        return self.net(value, depth)


@pytest.mark.parametrize("by", ["confidence", "random"])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_calls_and_counts_are_those_of_the_plan(by, share):
    """Evenly planned, 12 sites in 6 calls: 0, 2, 4, … are known; a share of them is hidden again while there is room."""
    spy = Watched(lambda value, depth: torch.zeros(*value.shape, 5))
    x = ardm.sample_remasked(ardm.wrap(spy, (12,), 5), 9, 6, share=share, by=by)
    assert x.shape == (9, 12)
    assert [row.sum(1).tolist() for row in spy.known] == [[2 * k] * 9 for k in range(6)]
    again = [(a & ~b).sum(1) for a, b in itertools.pairwise(spy.known)]
    assert [r.tolist() for r in again] == [[min(int(share * 2 * k), 12 - 2 * k - 2)] * 9 for k in range(5)]


FIVE = all_data(2, (5,))
JOINT5 = (torch.randn(2**5, generator=generator(8), dtype=torch.double) * 1.5).softmax(0)


def bits(value, depth):
    """Logits (B, 5, 2) of five binary sites, from one joint distribution."""
    fits = ((value[:, None] == FIVE) | (depth[:, None] == 0)).all(2)
    ones = torch.where(fits, JOINT5, 0.0) @ FIVE.double()
    return torch.stack([torch.where(fits, JOINT5, 0.0).sum(1, keepdim=True) - ones, ones], -1).log()


MODEL5 = ardm.wrap(bits, (5,), 2)


def chain(edges, again):
    """(32,): the distribution of sampling with remasking, by a sum over all sites hidden, shown, and all values."""
    states = {(None,) * 5: 1.0}
    for before, after in itertools.pairwise(edges):
        following = {}
        for state, mass in states.items():
            known, rest = ([d for d in range(5) if (state[d] is None) is none] for none in (False, True))
            value = torch.tensor([[v or 0 for v in state]])
            p = bits(value, torch.tensor([[int(v is not None) for v in state]])).softmax(-1)[0].tolist()
            hides = list(itertools.combinations(known, again(before, after)))
            shows = list(itertools.combinations(rest, after - before + again(before, after)))
            for hide, show in itertools.product(hides, shows):
                for drawn in itertools.product((0, 1), repeat=len(show)):
                    new = dict(enumerate(state)) | dict(zip(show, drawn, strict=True)) | dict.fromkeys(hide)
                    key = tuple(new.values())
                    chance = math.prod(p[d][v] for d, v in zip(show, drawn, strict=True)) / len(hides) / len(shows)
                    following[key] = following.get(key, 0.0) + mass * chance
        states = following
    return torch.tensor([states[tuple(x)] for x in FIVE.tolist()], dtype=torch.double)


ONE_BY_ONE = [0, 1, 2, 3, 4, 5]
WAYS = {
    "cap": (ONE_BY_ONE, lambda n, m: [0, 0, 1, 1, 0][n], {"share": 0.5}),
    "more than fits": (ONE_BY_ONE, lambda n, m: [0, 1, 2, 1, 0][n], {"share": 1.0}),
    "rescale": (ONE_BY_ONE, lambda n, m: [0, 0, 1, 0, 0][n], {"share": 0.5, "schedule": "rescale"}),
    "switch": (ONE_BY_ONE, lambda n, m: [0, 0, 0, 1, 0][n], {"share": 0.5, "between": (0.5, 0.9)}),
    "loop": ([0, 1, 2, 3, 3, 3, 4, 5], lambda n, m: int(n == m), {"share": 0.4, "loop": 2, "held": 0.6, "calls": 7}),
    "parallel": ([0, 2, 5], lambda n, m: [0, 0, 0][n], {"calls": 2}),
    "a rule of one's own": (
        ONE_BY_ONE,
        lambda n, m: int(n == 1),
        {"schedule": lambda n, m, D: n == 1 and 9 * (D == 5)},
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_samples_have_the_distribution_of_the_chain(name):
    """Every schedule, beside the sum over all paths; sites are hidden at random."""
    edges, again, arguments = WAYS[name]
    wanted, n = chain(edges, again), 20_000
    x = ardm.sample_remasked(MODEL5, n, **{"calls": 5, "by": "random", **arguments}, seed=4)
    seen = (x @ (2 ** torch.arange(5).flip(0))).bincount(minlength=32).double()
    assert abs(chi_square(seen[None], wanted[None] * n)) < 5
    if name != "loop":
        return
    torch.testing.assert_close(wanted, JOINT5)  # one digit a call, of a consistent model: nothing is lost


def test_a_loop_comes_closer_to_the_distribution_of_the_model():
    """A step draws four digits as if they were independent; a loop that redraws one by one mends it."""
    far, near = (chain([0, 4, *[4] * loop, 5], lambda n, m: int(n == m)) for loop in (0, 8))
    assert (near - JOINT5).abs().sum() < 0.5 * (far - JOINT5).abs().sum()


def test_a_loop_is_part_of_the_budget_of_every_stage():
    model = toy(Digits(9, 3), (6,))
    states = list(remasking(model, 3, Remask(0.5, loop=2, held=0.5), 12))
    assert len(states) == 12
    known = [int((state.depth > stage).sum()) / 3 for state, stage in zip(states, [0] * 6 + [1] * 6, strict=True)]
    assert known == [1, 3, 3, 3, 4, 6] * 2
    assert torch.equal(states[-1].value, ardm.sample_remasked(model, 3, 12, loop=2, held=0.5, share=0.5))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_independent_sites_keep_their_distribution(share):
    """Where nothing depends on anything, it does not matter how often a value is drawn."""
    p = torch.randn(4, 3, generator=generator(5)).softmax(-1)
    model, n = ardm.wrap(lambda value, depth: p.log().expand(len(value), 4, 3), (4,), 3), 6000
    x = ardm.sample_remasked(model, n, 4, share=share, by="random", seed=2)
    seen = torch.stack([x[:, d].bincount(minlength=3) for d in range(4)]).double()
    assert abs(chi_square(seen, p.double() * n)) < 5


def test_without_remasking_it_samples_the_model():
    n = 8000
    x = ardm.sample_remasked(MODEL, n, D, share=0.0)
    assert abs(chi_square(code(x).bincount(minlength=K**D).double()[None], JOINT[None] * n)) < 5


def test_samples_do_not_depend_on_the_batch():
    model = toy(Digits(9, 3), (6,))
    four = ardm.sample_remasked(model, 4, 6, share=0.4, seed=1)
    assert torch.equal(ardm.sample_remasked(model, 2, 6, share=0.4, seed=1), four[:2])
    assert torch.equal(ardm.sample_remasked(model, 2, 6, share=0.4, seed=1, first=2), four[2:])


def test_weights_say_how_likely_a_site_is_chosen():
    """One of three sites in proportion to its weight, two of them without replacement; never one that may not be."""
    n, weight = 20_000, torch.tensor([1.0, 2.0, 3.0, 100.0], dtype=torch.double)
    among = torch.tensor([True, True, True, False]).expand(n, 4)
    one = _chosen(among, 1, weight.expand(n, 4), RandomNumbers(0)).double().mean(0)
    torch.testing.assert_close(one, torch.tensor([1, 2, 3, 0]).double() / 6, atol=0.015, rtol=0)
    out = [sum(w / 6 * v / (6 - w) for w, v in itertools.permutations({1, 2, 3} - {left})) for left in (1, 2, 3)]
    two = _chosen(among, 2, weight.expand(n, 4), RandomNumbers(1)).double().mean(0)
    torch.testing.assert_close(two, torch.tensor([*(1 - v for v in out), 0.0]).double(), atol=0.015, rtol=0)


def test_unlikely_values_are_hidden_rather():
    """Values of probability 0.9 and 0.1: where one of eight sites is hidden again, weights are exp(−0.9) and exp(−0.1)."""
    p, values = torch.tensor([0.9, 0.1]), []
    spy = Watched(lambda value, depth: values.append(value) or p.log().expand(*value.shape, 2))
    ardm.sample_remasked(ardm.wrap(spy, (16,), 2), 3000, 4, share=0.13, by="confidence", seed=3)
    known = spy.known[2]
    hidden = known & ~spy.known[3]
    assert (hidden.sum(1) == 1).all()
    common, rare = (float((hidden & (values[2] == v)).sum() / (known & (values[2] == v)).sum()) for v in (0, 1))
    w, others = (math.exp(-0.9), math.exp(-0.1)), [math.comb(7, m) * 0.1**m * 0.9 ** (7 - m) for m in range(8)]
    wanted = [sum(c * v / (v + m * w[1] + (7 - m) * w[0]) for m, c in enumerate(others)) for v in w]
    assert rare / common == pytest.approx(wanted[1] / wanted[0], rel=0.15)
    assert rare / common > 1.5


def test_texts_with_an_end_stay_texts():
    """Steps of several symbols may put one behind an end; both samplers return items in their closed form."""
    config = ModelConfig(trunk="transformer", shape=(8,), classes=3, width=8, heads=1, blocks=1, end=True)
    bundle = ardm.Bundle(build(config, seed=1), config)
    x = ardm.sample_remasked(bundle, 200, 2, share=0.5)
    assert torch.equal(closed(x, 2), x)
    y = ardm.refine(bundle, x, sweeps=2, share=0.6, calls=1)
    assert torch.equal(closed(y, 2), y)
    assert not torch.equal(x, y)
