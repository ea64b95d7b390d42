"""Orders by rates: their law, the bound and its gradient by enumeration; training, sampling, filling in, coding."""

import itertools
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ardm
import linemodels
from ardm import audit, likelihood, planning, rates
from ardm import plan as plans
from ardm.bundle import Bundle, load
from ardm.cli.app import app
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.models.config import preset
from ardm.objective import Steps, bound_step, draw, rates_step
from ardm.orders import OrderConfig
from ardm.plan import GIVEN, NEVER
from ardm.random_numbers import RandomNumbers
from ardm.source import Decode, Encode
from ardm.train.batch import Batch
from ardm.train.objectives import ByRates
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer
from ardm.walk import last, score, walk
from toys import all_data, all_orders, all_plans, generator, pairs, some_data, toy

RATES = torch.tensor([0.3, 1.0, 5.0, 0.05], dtype=torch.double)


def by_hand(rank, w, first=None):
    """The probability that an order begins with its `first` sites, one factor after the other."""
    order, found = torch.as_tensor(rank).argsort().tolist(), 1.0
    for k in range(len(order) if first is None else first):
        found *= float(w[order[k]]) / sum(float(w[i]) for i in order[k:])
    return found


def laws(w, stages=1):
    """(D!^S,): the probability of every staged plan of `all_plans`, with gradient."""
    every = all_orders(w.numel())
    one = rates.log_probability(w.flatten(), every, torch.full((len(every),), w.numel())).exp()
    return torch.stack([torch.stack(p).prod() for p in itertools.product(one, repeat=stages)])


def every_step(stages, shape):
    """Steps of every stage, number of known sites and order."""
    D = math.prod(shape)
    rows = list(itertools.product(range(stages), range(D), all_orders(D)))
    stage, known = (torch.tensor([r[i] for r in rows]) for i in (0, 1))
    return Steps(stage, known, torch.stack([r[2] for r in rows]).view(-1, *shape))


def along_all(model, x):
    """(plans, B): −log p(x | plan) of every plan."""
    every, repeated = pairs(all_plans(len(model.digits), x.shape[1:]), x)
    return score(model, every, repeated).view(-1, len(x))


# --- the law of orders --------------------------------------------------------------------------------------------


def test_every_order_has_the_probability_of_plackett_and_luce():
    every = all_orders(4)
    for first in range(5):
        found = rates.log_probability(RATES, every, torch.full((24,), first)).exp()
        expected = torch.tensor([by_hand(rank, RATES, first) for rank in every], dtype=torch.double)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert float(laws(RATES).sum()) == pytest.approx(1, abs=1e-12)
    assert torch.equal(laws(torch.ones(4).double()), laws(torch.full((4,), 8.0).double()))


def test_plans_are_drawn_from_that_law():
    B = 40_000
    when = plans.rated(RATES.view(2, 2), 1, (2, 2), generator(1), B).when.view(B, 4)
    for rank in all_orders(4):
        p = by_hand(rank, RATES)
        share = (when == rank).all(1).double().mean()
        assert abs(float(share) - p) < 5 * math.sqrt(p * (1 - p) / B) + 1e-9


def test_equal_rates_are_the_orders_of_shuffled():
    for w in (torch.ones(3, 4), torch.full((3, 4), 0.1)):
        for numbers in (RandomNumbers(5), generator(5)):
            again = RandomNumbers(5) if isinstance(numbers, RandomNumbers) else generator(5)
            found = plans.rated(w, 2, (3, 4), numbers, 6).when
            assert torch.equal(found, plans.shuffled(2, (3, 4), again, 6).when)


def test_a_site_is_hidden_at_time_t_with_probability_t_to_its_rate():
    """exp(−clock) ≤ t means hidden until t: u ≥ 1 − t^w, for a uniform u."""
    u, w = torch.rand(1000, 4, generator=generator(2), dtype=torch.double), RATES
    for t in (0.1, 0.5, 0.9):
        assert torch.equal((-rates.clocks(w, rates.exponential(u))).exp() < t, 1 - u < t**w)


def test_shares_are_the_chances_of_the_next_site():
    hidden = torch.tensor([[True, False, True, True], [False] * 4])
    left = RATES[[0, 2, 3]] / RATES[[0, 2, 3]].sum()
    torch.testing.assert_close(rates.shares(RATES, hidden)[0, [0, 2, 3]], left)
    assert rates.shares(RATES, hidden)[0, 1] == 0
    assert rates.shares(RATES, hidden)[1].tolist() == [0] * 4


@pytest.mark.parametrize("wrong", [[1.0, 0.0], [1.0, -2.0], [1.0, math.inf], [1.0, math.nan]])
def test_rates_are_positive_and_finite(wrong):
    with pytest.raises(ArdmError, match="rates must be positive and finite"):
        plans.rated(torch.tensor(wrong), 1, (2,), generator())
    with pytest.raises(ArdmError, match=r"rates are one number for each site, \(3,\); got \(2,\)"):
        draw(2, 1, (3,), generator(), rates=torch.ones(2))


# --- the bound, and its gradient ------------------------------------------------------------------------------------

CASES = [(Digits(3, 3), (2, 2)), (Digits(4, 2), (3,))]


@pytest.mark.parametrize(("digits", "shape"), CASES)
def test_the_bound_is_the_mean_of_all_plans_by_their_law(digits, shape):
    model, x = toy(digits, shape, "values"), some_data(digits, shape, 5)
    w, S, D = RATES[: math.prod(shape)].view(shape), len(digits), math.prod(shape)
    nats, law = along_all(model, x), laws(w, S)
    expected = (law[:, None] * nats).sum(0)
    steps = every_step(S, shape)
    n = len(steps.stage)
    weight = rates.log_probability(w.flatten(), steps.rank.flatten(1), torch.full((n,), D)).exp() / (S * D)
    rows = Steps(*(v.repeat_interleave(5, 0) for v in (steps.stage, steps.known, steps.rank)))
    with torch.no_grad():
        found = bound_step(model, x.repeat(n, *[1] * len(shape)), rows, rates=w).nats.view(n, 5)
    torch.testing.assert_close((weight[:, None] * found).sum(0), expected, rtol=0, atol=1e-10)
    marginal = -(law[:, None].log() - nats).logsumexp(0)
    assert (marginal < expected).all(), "it is a bound on −log of the mixture"


def test_the_mixture_of_plans_is_a_distribution():
    digits, shape = Digits(3, 3), (3,)
    model, x = toy(digits, shape, "values"), all_data(3, shape)
    law = laws(RATES[:3])
    assert float((law[:, None] * (-along_all(model, x)).exp()).sum()) == pytest.approx(1, abs=1e-9)


def test_equal_rates_give_the_any_order_bound():
    digits, shape = Digits(4, 2), (2, 3)
    model, x = toy(digits, shape, "values"), some_data(digits, shape, 7)
    same = torch.full(shape, 3.0)
    for given in (None, torch.randint(3, x.shape, generator=generator(4))):
        one, two = (draw(7, 2, shape, generator(1), given, rates=w) for w in (None, same))
        assert torch.equal(one.known, two.known)
        if given is None:
            assert torch.equal(one.rank, two.rank)
        a, b = (bound_step(model, x, steps, given, rates=w) for steps, w in ((one, None), (two, same)))
        for name in ("nats", "sums", "symbols"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-12)
    estimate = likelihood.bound(model, x, 3, generator(2), rates=same)
    torch.testing.assert_close(estimate.nats, likelihood.bound(model, x, 3, generator(2)).nats)
    assert estimate.is_bound


def test_an_observation_is_the_mean_loss_of_the_next_site():
    digits, shape = Digits(5, 5), (4,)
    model, x = toy(digits, shape, "values"), some_data(digits, shape, 1)
    steps = Steps(torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long), torch.tensor([[2, 0, 3, 1]]))
    scored = bound_step(model, x, steps, rates=RATES)
    state = digits.truncate(x, torch.tensor([[0, 1, 0, 0]]))
    losses = (
        -model(state)[Sites(torch.tensor([0, 2, 3]), 4)].double().log_softmax(-1).gather(1, x[0, [0, 2, 3], None])[:, 0]
    )
    expected = (losses * RATES[[0, 2, 3]]).sum() / RATES[[0, 2, 3]].sum()
    torch.testing.assert_close((scored.sums / scored.symbols)[0], expected)
    torch.testing.assert_close(scored.nats[0], 4 * expected)
    curve = likelihood.curve(model, x, 400, generator(1), grid=8, rates=RATES)
    mean = (laws(RATES) * along_all(model, x)[:, 0]).sum()
    assert float(curve.nats()) == pytest.approx(float(mean), rel=0.02), "the curve adds up to the bound of this law"


def test_a_subset_of_sites_is_unbiased():
    digits, shape = Digits(5, 5), (4,)
    model, x = toy(digits, shape, "values"), some_data(digits, shape, 1)
    steps = Steps(torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long), torch.tensor([[2, 0, 3, 1]]))
    whole = bound_step(model, x, steps, rates=RATES)
    keys = all_orders(4) / 4
    n = len(keys)
    many = Steps(steps.stage.expand(n), steps.known.expand(n), steps.rank.expand(n, 4))
    parts = bound_step(model, x.expand(n, 4), many, subset=2, key=keys, rates=RATES)
    torch.testing.assert_close(parts.nats.mean(0), whole.nats[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize(("digits", "shape"), CASES)
def test_the_gradient_for_the_rates_is_unbiased(digits, shape):
    """Over every stage, step and pair of orders, weighted by their law, against the derivative of the mean of all plans."""
    model, x = toy(digits, shape, "values").requires_grad_(False), some_data(digits, shape, 1)
    S, D = len(digits), math.prod(shape)
    logs = RATES[:D].log().view(shape).requires_grad_()
    expected = torch.autograd.grad((laws(logs.exp(), S) * along_all(model, x)[:, 0]).sum(), logs)[0]

    law = laws(logs.detach().exp())
    rows = [(s, t, a, b) for s in range(S) for t in range(D) for a in range(len(law)) for b in range(len(law))]
    stage, known, a, b = torch.tensor(rows).T
    rank = all_orders(D)[torch.cat([a, b])].view(-1, *shape)
    steps = Steps(torch.cat([stage, stage]), torch.cat([known, known]), rank)
    found = rates_step(model, x.expand(len(rows), *shape), steps, logs.exp())
    weight = law[a] * law[b] / (S * D)
    mean = (weight * found.nats).sum()
    torch.testing.assert_close(mean.detach(), (laws(logs.detach().exp(), S) * along_all(model, x)[:, 0]).sum())
    torch.testing.assert_close(torch.autograd.grad(mean, logs)[0], expected, rtol=0, atol=1e-10)
    assert expected.abs().max() > 1e-3, "the order matters here"
    assert abs(float(expected.sum())) < 1e-10, "a common factor changes nothing"


def test_given_sites_and_padding_take_no_part():
    """Site 1 is given and site 3 is padding: the law of orders is that of the other two, and so are bound and gradient."""
    digits, shape = Digits(5, 5), (4,)
    model, x = toy(digits, shape, "values").requires_grad_(False), some_data(digits, shape, 1)
    given = torch.tensor([[0, 1, 0, PADDING]])
    whens = torch.tensor([[0, GIVEN, 1, NEVER], [1, GIVEN, 0, NEVER]])
    along = torch.stack([likelihood.exact(model, plans.Plan(when.view(1, 1, 4)), x).nats[0] for when in whens])
    logs = RATES.log().requires_grad_()

    def law():
        w = logs.exp()
        return torch.stack([w[0], w[2]]) / (w[0] + w[2])

    expected = (law() * along).sum()
    a, b, known = torch.tensor(list(itertools.product(range(2), range(2), range(2)))).T
    rank = torch.tensor([[0, 2, 1, 3], [1, 3, 0, 2]])[torch.cat([a, b])]
    steps = Steps(torch.zeros(16, dtype=torch.long), torch.cat([known, known]), rank)
    found = rates_step(model, x.expand(8, 4), steps, logs.exp(), given.expand(8, 4))
    weight = (law()[a] * law()[b] / 2).detach()
    mean = (weight * found.nats).sum()
    torch.testing.assert_close(mean, expected)
    gradient, slope = (torch.autograd.grad(v, logs)[0] for v in (mean, expected))
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-10)
    assert slope.abs().max() > 1e-3
    drawn = draw(4000, 1, shape, generator(1), given.expand(4000, 4), rates=RATES)
    first = float((drawn.rank[:, 0] == 0).double().mean())
    assert first == pytest.approx(float(law()[0].detach()), abs=0.02)
    estimate = likelihood.bound(model, x, 4000, generator(2), given, rates=RATES)
    assert float(estimate.nats[0]) == pytest.approx(float(expected.detach()), abs=5 * float(estimate.error[0]))
    assert estimate.dims == 2


def test_given_sites_and_padding_are_no_part_of_the_order():
    """Five sites, of which one is given and one padding: bound and gradient are those of the law of the other three."""
    digits, shape = Digits(3, 3), (5,)
    model, x = toy(digits, shape, "values").requires_grad_(False), some_data(digits, shape, 1)
    given, free = torch.tensor([[0, 1, 0, PADDING, 0]]), torch.tensor([0, 2, 4])
    every = all_orders(3)
    whole = torch.full((6, 5), 3).index_copy(1, free, every) + torch.tensor([0, 0, 0, 1, 0])
    steps = whole.masked_fill(torch.tensor([False, True, False, False, False]), plans.GIVEN)
    nats = likelihood.exact(
        model, plans.Plan(steps.masked_fill(given == PADDING, plans.NEVER)[:, None]), x.expand(6, 5)
    ).nats
    logs = torch.tensor([0.5, 3.0, -0.7, 2.0, 0.1]).double().requires_grad_()
    expected = (laws(logs.exp()[free]) * nats).sum()

    law = laws(logs.detach().exp()[free])
    known, a, b = torch.tensor(list(itertools.product(range(3), range(6), range(6)))).T
    n, rows = len(known), torch.cat([a, b])
    pair = Steps(torch.zeros(2 * n, dtype=torch.long), torch.cat([known, known]), whole[rows])
    found = rates_step(model, x.expand(n, 5), pair, logs.exp(), given.expand(n, 5))
    mean = (law[a] * law[b] / 3 * found.nats).sum()
    torch.testing.assert_close(mean.detach(), expected.detach())
    mine, theirs = (torch.autograd.grad(value, logs)[0] for value in (mean, expected))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    options = TrainConfig()
    seen = ByRates(preset("text-tiny", shape=shape, classes=3, rates=True), OrderConfig(), options).observe(
        Batch(x.expand(n, 5), {"stage": known * 0, "known": known}, None, given.expand(n, 5)), found
    )
    assert torch.equal(seen[1], (1 + known) * 5 // 4), "L_t is observed at the share of the sites that are known"


def test_a_step_also_has_the_gradient_of_the_network():
    """That of the mean of both orders; the score of the orders has none."""
    digits, shape = Digits(3, 3), (4,)
    model, x = toy(digits, shape, "values"), some_data(digits, shape, 3)
    steps = [draw(3, 1, shape, generator(i), place=torch.tensor([0.1, 0.4, 0.8]), rates=RATES) for i in (1, 2)]
    both = Steps(*(torch.cat([getattr(s, name) for s in steps]) for name in ("stage", "known", "rank")))
    weights = list(model.parameters())
    found = torch.autograd.grad(rates_step(model, x, both, RATES).nats.sum(), weights, allow_unused=True)
    halves = [bound_step(model, x, s, rates=RATES).nats.sum() / 2 for s in steps]
    for mine, theirs in zip(found, torch.autograd.grad(sum(halves), weights, allow_unused=True), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs)


# --- sampling, filling in, scoring, coding ----------------------------------------------------------------------------


def with_rates(base=0, shape=(3,), classes=3):
    """A bundle of a network with arbitrary parameters and unequal rates."""
    config = preset(
        "text-tiny", shape=shape, classes=classes, base=base, head="digits" if base else "values", rates=True
    )
    model = ardm.build(config)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(p.numel())) * 0.4)
        model.log_rates.copy_(torch.linspace(-2, 2, math.prod(shape)).view(shape))
    return Bundle(model.eval().requires_grad_(False), config)


def test_the_default_order_is_by_rates_and_item_k_has_its_own():
    bundle = with_rates(shape=(6,))
    four = ardm.sample(bundle, 4, seed=3)
    assert torch.equal(four[:2], ardm.sample(bundle, 2, seed=3))
    assert torch.equal(four[2:], ardm.sample(bundle, 2, seed=3, first=2))
    assert torch.equal(four, ardm.sample(bundle, 4, order="rates", seed=3))
    when = ardm.make_plan(bundle, 6, "rates", generator=generator(1), batch=2000).when[:, 0]
    order = when.double().mean(0)
    assert (order.diff() < 0).all(), "the faster sites come first on average"


def test_scores_are_exact_along_the_drawn_order():
    for base in (0, 2):
        bundle = with_rates(base, classes=4)
        x = all_data(4, (3,))
        p = (-ardm.score(bundle, x, calls=6, order="rates", seed=5).nats).exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-5)
        bound = ardm.score(bundle, x, passes=4)
        assert bound.estimator == "bound of orders by rates"


def test_completions_of_every_state_end_complete():
    bundle = with_rates(2, (5,), 4)
    x = torch.randint(4, (6, 5), generator=generator(1))
    depth = torch.randint(3, (6, 5), generator=generator(2))
    assert torch.equal(ardm.fill(bundle, x, depth, calls=4)[depth == 2], x[depth == 2])
    share = planning.shares(None, 5, 4)
    made = planning.random(depth, 2, share, generator(3), bundle.model.rates)
    state = bundle.model.digits.truncate(x, depth)
    done = last(ardm.api.generate(bundle, made, state, generator(4)), state)
    assert (done.depth == 2).all()


def test_streams_decode():
    bundle = with_rates(shape=(7,))
    model, x = bundle.model, torch.randint(3, (2, 7), generator=generator(1))
    blank = model.digits.blank(2, (7,))
    plan = ardm.make_plan(bundle, 4, "rates", generator=RandomNumbers(9), batch=2)
    writer = Encode()
    last(walk(model, plan, writer, blank, truth=x), blank)
    again = ardm.make_plan(bundle, 4, "rates", generator=RandomNumbers(9), batch=2)
    reader = Decode(writer.finish(7))
    assert torch.equal(last(walk(model, again, reader, blank), blank).value, x)
    assert reader.finish() == 7
    bits = float(ardm.score(bundle, x, order=plan).nats.sum()) / math.log(2)
    assert writer.bits == pytest.approx(bits, rel=1e-3, abs=0.5)


def test_a_model_without_rates_has_no_such_order():
    bundle = Bundle(ardm.build(preset("text-tiny", shape=(3,), classes=3)), preset("text-tiny", shape=(3,), classes=3))
    with pytest.raises(ArdmError, match=r"has no rates: train them with model\.rates=true"):
        ardm.sample(bundle, 1, order="rates")
    with pytest.raises(ArdmError, match=r"take no time and no rates"):
        ardm.build(preset("text-tiny", shape=(3,), classes=3, causal="single", rates=True))
    with pytest.raises(ArdmError, match=r"rates are one number for each site, \(9,\); got \(6,\)"):
        ardm.make_plan(with_rates(shape=(6,)), 6, "rates", shape=9, generator=generator())


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path):
    """Five sites: the first decides the others, which are a hash of it."""
    key = np.random.default_rng(0).integers(8, size=(96, 1))
    x = np.concatenate([key, (key >> np.arange(4)) & 1], 1).astype(np.uint8)
    np.save(tmp_path / "train.npy", x[:80])
    np.save(tmp_path / "valid.npy", x[80:])

    def make(rates=True, **train):
        settings = {"steps": 40, "batch": 16, "warmup": 2, "rate": 1e-2, "valid_every": 20, "save_every": 20, **train}
        source = DataConfig("array", str(tmp_path), "train", "valid")
        model = preset("text-tiny", width=16, blocks=1, heads=1, rates=rates)
        return Recipe("tiny", model, OrderConfig(), source, TrainConfig(**settings))

    return make


def test_a_run_learns_rates_with_its_network_and_resumes_to_the_bit(recipe, tmp_path):
    whole = Trainer(recipe(), tmp_path / "whole", device="cpu")
    steps = list(whole)
    parts = Trainer(recipe(), tmp_path / "parts", device="cpu")
    for progress in parts:
        if progress.step == 21:
            break
    rest = list(Trainer(recipe(), tmp_path / "parts", resume=True, device="cpu"))
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in steps[20:]]
    one, two = (load(tmp_path / name / "model-last") for name in ("whole", "parts"))
    assert torch.equal(one.model.rates, two.model.rates)
    assert one.identity == two.identity
    assert float(one.model.rates.log().abs().max()) > 0.05
    assert steps[-1].estimator == "bound of orders by rates"
    assert whole.curve.seen.sum() == 40 * 16


@pytest.mark.slow
def test_frozen_rates_find_the_order_in_which_a_network_is_good(recipe, tmp_path):
    """The network stays to the bit, and the bound falls, by enumeration of all orders."""
    list(Trainer(recipe(rates=False, steps=150), tmp_path / "network", device="cpu"))
    network = load(tmp_path / "network" / "model")
    with pytest.raises(ArdmError, match=r"train\.frozen trains the rates of a given network"):
        Trainer(recipe(frozen=True), tmp_path / "none", device="cpu")
    made = recipe(frozen=True, init=str(tmp_path / "network" / "model"), steps=80, order_rate=0.1)
    list(Trainer(made, tmp_path / "rates", device="cpu"))
    found = load(tmp_path / "rates" / "model-last")
    theirs = found.model.state_dict()
    for name, value in network.model.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    x = torch.from_numpy(np.load(tmp_path / "train.npy")).long()
    with torch.no_grad():
        before, after = (along_some(network.model, x, w) for w in (torch.ones(5).double(), found.model.rates))
    assert after < before - 0.01


def along_some(model, x, w):
    """The exact bound of orders by rates: the mean over all 120 plans by their law, of the distinct items."""
    return float((laws(w)[:, None] * along_all(model, x.unique(dim=0))).sum(0).mean())


def test_objectives_and_models_with_rates_belong_together(recipe, tmp_path):
    with pytest.raises(ArdmError, match=r"train.objective 'absorbing' does not learn orders; set model.rates to false"):
        Trainer(recipe(objective="absorbing"), tmp_path / "run", device="cpu")


# --- audits, guidance, the command line -----------------------------------------------------------------------------------


def test_an_audit_measures_the_orders_that_were_learned():
    bundle = with_rates(shape=(5,), classes=3)
    x = ardm.sample(bundle, 48, calls=5)
    found = audit.report(bundle, x, calls=5, plans=4, passes=24, budgets=[1, 5], states=32)
    assert found.sound, found.reasons
    bound, multi, exact = (found.figure(n) for n in ("any-order bound", "multi-order bound", "exact along the plan"))
    assert (bound.plan, exact.plan) == ("orders by rates, one call a value", "rates, 5 calls")
    assert multi.plan == "4 orders by rates of 5 calls"
    assert multi.nats < exact.nats + 3 * exact.error
    every = laws(bundle.model.rates) @ along_all(bundle.model, x).mean(1)
    assert bound.nats == pytest.approx(float(every), rel=0.02)
    asked = audit.report(bundle, x, calls=5, order="random", plans=2, passes=24, budgets=[5], states=8)
    assert asked.figure("any-order bound").plan == "random orders, one call a value"


def test_a_guided_model_keeps_its_rates():
    config = preset("text-tiny", shape=(4,), classes=3, labels=2, rates=True)
    model = ardm.build(config).eval().requires_grad_(False)
    guided = ardm.guided(Bundle(model, config), 1.0)
    assert guided.model.rates is not None
    assert ardm.api.budget(guided, None, None) == (50, "rates")


def test_the_command_line_measures(recipe, tmp_path):
    list(Trainer(recipe(steps=2), tmp_path / "run", device="cpu"))
    model, data, said = str(tmp_path / "run" / "model"), f"data.folder={tmp_path}", []
    for more in ((), ("--order", "rates", "--calls", "3")):
        arguments = [model, data, "--split", "valid", "--items", "4", "--device", "cpu", "-q", *more]
        said.append(CliRunner().invoke(app, ["eval", *arguments]).output)
    assert "(bound of orders by rates, 4 passes, 4 items)" in said[0]
    assert "(exact, 4 items)" in said[1]
    planned = CliRunner().invoke(app, ["plan", model, "--calls", "2", "--show", "0"]).output
    assert "ardm eval --calls measures" in planned


def test_rows_are_coded_along_the_most_likely_order():
    bundle, made = linemodels.bundle("binary", rates=True), linemodels.exported("binary", rates=True)
    rank = (-bundle.model.rates).argsort().argsort()
    assert rank.tolist() != sorted(rank.tolist())
    assert {calls: made.codec.order(calls, 1, 6).when.ravel().tolist() for calls in made.codec.budgets} == {
        calls: (rank * calls // len(rank)).tolist() for calls in (6, 3, 2, 1)
    }
    assert abs(made.cost.bits_per_dim) < 0.02
    coder, rows = linemodels.coder("binary", 6, rates=True), linemodels.items("binary", 3).numpy()
    stream = coder.finish(next(iter(coder.encode([[rows[:1, None]]]))), 5)
    ((samples,), check) = next(iter(coder.decode([(stream, [(1, 1, 6)])])))
    assert np.array_equal(samples.ravel(), rows[0])
    assert check == 5
