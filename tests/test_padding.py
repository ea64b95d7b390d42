"""Given sites and padding: bounds by enumeration, what is padding has no influence, and what is counted."""

import itertools
import math

import numpy as np
import pytest
import torch

import ardm
from ardm import api, data, inputs, likelihood, objective, planning
from ardm import plan as plans
from ardm.adaptive import Adaptive, EntropyBudget, FixedNumber
from ardm.data import audio, memory
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.inputs import PADDING
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig
from ardm.plan import GIVEN, NEVER
from ardm.train import objectives
from ardm.train.batch import Batch
from ardm.train.keywords import recipe_of
from ardm.train.recipe import TrainConfig
from ardm.train.trainer import Trainer
from ardm.walk import score
from toys import generator, randomise, toy

ALPHABETS = [Digits(3, 3), Digits(4, 2)]
GIVEN_OF = torch.tensor(
    [[0, 0, 0], [0, 0, -1], [0, -1, -1], [-1, -1, -1], [9, 0, -1], [0, -1, 9], [9, 9, 0], [1, 0, -1]]
)
"""Digits known of three sites, 9: all; −1: padding."""


def of(alphabet):
    """Eight items, and what is given of them."""
    x = torch.randint(alphabet.classes, (8, 3), generator=generator(1))
    return x, GIVEN_OF.clamp(max=len(alphabet))


def log_prob(model, x, depth, site):
    """−log p of the next digit of a site of x (D,), known to depth (D,)."""
    state = model.digits.truncate(x[None], depth[None])
    sites = Sites(torch.tensor([site]), len(x))
    with torch.no_grad():
        return -float(model(state).log_prob(sites, model.digits.read(x[None], depth[None], sites)))


def brute(model, x, given):
    """The mean of −log p over all orders of the predicted sites, stage after stage, and their number."""
    S, total, orders = len(model.digits), 0.0, 0
    for stages in itertools.product(
        *(list(itertools.permutations([i for i, g in enumerate(given.tolist()) if 0 <= g <= s])) for s in range(S))
    ):
        depth, orders = given.clamp(min=0).clone(), orders + 1
        for row in stages:
            for site in row:
                total += log_prob(model, x, depth, site)
                depth[site] += 1
    return total / orders


def every_step(model, x, given, subset=None):
    """The mean of `bound_step` over every step that `draw` may draw, each as often as it is likely."""
    S, means = len(model.digits), []
    for stage in range(S):
        free = [i for i, g in enumerate(given.tolist()) if 0 <= g <= stage]
        rest = [i for i in range(3) if i not in free]
        ranks = []
        for row in itertools.permutations(free):
            rank = torch.empty(3, dtype=torch.long)
            rank[list(row) + rest] = torch.arange(3)
            ranks.append(rank)
        rows = list(itertools.product(range(max(len(free), 1)), ranks))
        known, rank = torch.tensor([k for k, _ in rows]), torch.stack([r for _, r in rows])
        steps = objective.Steps(torch.full_like(known, stage), known, rank, S)
        n = len(rows)
        with torch.no_grad():
            found = objective.bound_step(model, x.expand(n, 3), steps, given.expand(n, 3), subset=subset, key=rank / 3)
        means.append(found.nats.mean())
    return float(torch.stack(means).mean())


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=repr)
def test_the_bound_is_unbiased_for_items_of_different_lengths(alphabet):
    model, (x, given) = toy(alphabet, (3,)), of(alphabet)
    for item, known in zip(x, given, strict=True):
        assert every_step(model, item, known) == pytest.approx(brute(model, item, known), abs=1e-9)


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=repr)
def test_draws_are_uniform_over_the_steps_of_each_item(alphabet):
    S, n = len(alphabet), 6000
    known = GIVEN_OF.clamp(max=S)
    steps = objective.draw(8 * n, S, (3,), generator(0), known.repeat(n, 1))
    for item in range(8):
        stage, at, rank = steps.stage[item::8], steps.known[item::8], steps.rank[item::8]
        for s in range(S):
            free = (known[item] >= 0) & (known[item] <= s)
            here, count = at[stage == s], max(int(free.sum()), 1)
            assert abs(len(here) / n - 1 / S) < 0.03
            shares = torch.bincount(here, minlength=count) / len(here)
            assert len(shares) == count
            assert (shares - 1 / count).abs().max() < 0.03
            assert (rank[stage == s][:, free] < free.sum()).all(), "what is predicted comes first"


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=repr)
def test_estimates_count_what_is_predicted(alphabet):
    model, (x, given) = toy(alphabet, (3,)), of(alphabet)
    rows = zip(x, given, strict=True)
    wanted = torch.tensor([brute(model, item, known) for item, known in rows], dtype=torch.double)
    found = likelihood.bound(model, x, 3000, generator(0), given=given, chunk=4000)
    assert ((found.nats - wanted).abs() <= 4 * found.error + 1e-9).all()
    predicted = ((given >= 0) & (given < len(alphabet))).sum(1)
    assert torch.equal(found.counted, predicted)
    assert found.bits_per_dim == pytest.approx(float(found.nats.sum()) / int(predicted.sum()) / math.log(2))
    assert f"{int(predicted.sum())} of 24 dimensions counted" in str(found)


def test_the_error_of_a_ratio_is_that_of_resampled_items():
    """To first order: against the spread over samples of items drawn again."""
    rng = np.random.default_rng(0)
    counted = rng.integers(1, 9, 400)
    nats = counted * 1.5 + rng.normal(0, 1, 400)
    make = lambda rows: Estimate(  # noqa: E731
        torch.tensor(nats[rows]), torch.zeros(len(rows)), "exact", 8, counted=torch.tensor(counted[rows])
    )
    many = [make(rng.integers(0, 400, 400)).bits_per_dim for _ in range(600)]
    assert make(np.arange(400)).bits_per_dim_error == pytest.approx(np.std(many), rel=0.15)
    same = Estimate(torch.tensor(nats), torch.zeros(400), "exact", 8)
    full = Estimate(torch.tensor(nats), torch.zeros(400), "exact", 8, counted=torch.full((400,), 8))
    assert full.bits_per_dim == pytest.approx(same.bits_per_dim)
    assert full.bits_per_dim_error == pytest.approx(same.bits_per_dim_error)


def test_items_without_counts_are_joined_as_whole_ones():
    whole = Estimate(torch.tensor([8.0, 8.0]), torch.zeros(2), "exact", 8)
    part = Estimate(torch.tensor([2.0]), torch.zeros(1), "exact", 8, counted=torch.tensor([2]))
    for parts, counted in (([whole, part], [8, 8, 2]), ([part, whole], [2, 8, 8])):
        assert Estimate.joined(parts).counted.tolist() == counted
        assert Estimate.joined(parts).dims == 18
    assert Estimate.joined([whole, whole]).counted is None


PLANNED = {
    "random": {"calls": 2, "order": "random"},
    "raster": {"calls": 2, "order": "raster"},
    "one call a digit": {"calls": 99, "order": "random"},
    "confident": {"calls": 2, "order": "confident"},
    "adaptive": {"order": Adaptive("margin", FixedNumber(2))},
    "budget in blocks": {"order": Adaptive("entropy", EntropyBudget(0.1), 2)},
    "bound": {},
    "several passes": {"passes": 5},
}


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=repr)
@pytest.mark.parametrize("kind", PLANNED)
def test_the_values_of_padding_do_not_matter(alphabet, kind):
    model, (x, given) = toy(alphabet, (3,)), of(alphabet)
    calls = dict(PLANNED[kind])
    if "calls" in calls:
        calls["calls"] = calls["calls"] * len(alphabet)
    one = ardm.score(model, x, given=given, **calls)
    other = ardm.score(model, torch.where(given == PADDING, (x + 1) % alphabet.classes, x), given=given, **calls)
    assert torch.equal(one.nats, other.nats)
    assert torch.equal(one.counted, ((given >= 0) & (given < len(alphabet))).sum(1))
    assert (one.nats[3], one.counted[3]) == (0, 0), "an item of padding alone"
    assert (one.nats[[0, 1, 2]] > 0).all()


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=repr)
def test_a_score_along_a_plan_is_that_of_the_walk(alphabet):
    model, (x, given) = toy(alphabet, (3,)), of(alphabet)
    start = model.digits.truncate(x, given.clamp(min=0))
    for calls in (len(alphabet), 2 * len(alphabet), 99):
        plan = planning.random(given, len(alphabet), planning.shares(None, 3, calls), generator(0))
        live = (plan.when != GIVEN) & (plan.when != NEVER)
        stage = torch.arange(len(alphabet))[:, None]
        assert torch.equal(live, (stage >= given[:, None]) & (given[:, None] >= 0))
        hidden = live.flatten(1).sum(1)
        steps = objective.live_steps(plan.when, len(plan)).sum(1)
        assert torch.equal(steps, hidden.clamp(max=calls)), "as many steps as calls, or as digits if these are fewer"
        found = likelihood.exact(model, plan, x)
        torch.testing.assert_close(found.nats, score(model, plan, x, start))


def test_lengths_are_masks():
    model, x = toy(Digits(3, 3), (3,)), of(Digits(3, 3))[0][:4]
    lengths, mask = torch.tensor([3, 2, 1, 0]), torch.arange(3) >= torch.tensor([[3], [2], [1], [0]])
    for calls in (None, 2):
        one, other = (ardm.score(model, x, calls, padding=p) for p in (lengths, mask))
        assert torch.equal(one.nats, other.nats)
        assert torch.equal(one.counted, lengths)
    alone = ardm.score(model, x[:1], padding=torch.tensor(2))
    assert alone.counted.tolist() == [2]
    for wrong in (
        torch.tensor([1, 2]),
        torch.tensor([4, 0, 0, 0]),
        torch.tensor([-1, 0, 0, 0]),
        torch.tensor([0.5] * 4),
    ):
        with pytest.raises(ArdmError, match=r"length|padding|whole"):
            ardm.score(model, x, padding=wrong)


@pytest.mark.parametrize("order", ["random", "raster", "confident", Adaptive("entropy", FixedNumber(1))])
def test_filling_leaves_padding_alone_and_never_reads_it(order):
    model, x = toy(Digits(3, 3), (3,)), of(Digits(3, 3))[0]
    known, padding = torch.tensor([True, False, False]), torch.tensor([3, 2, 1, 1, 3, 2, 2, 3])
    calls = {} if isinstance(order, Adaptive) else {"calls": 2}
    behind = torch.arange(3) >= padding[:, None]
    other = torch.where(behind, (x + 1) % 3, x)
    one, two = (ardm.fill(model, v, known, order=order, padding=padding, **calls) for v in (x, other))
    assert torch.equal(one[behind], x[behind])
    assert torch.equal(two[behind], other[behind])
    assert torch.equal(one[~behind], two[~behind])
    assert torch.equal(one[:, 0], x[:, 0])
    depths = torch.where(behind, PADDING, known.long())
    assert torch.equal(ardm.fill(model, x, depths, order=order, **calls), one), "said in one tensor"


def test_absorbing_diffusion_of_the_rest():
    """Every mask of three sites at every time, with its probability: the mean is the bound over the predicted sites."""
    model, (x, given), T = toy(Digits(3, 3), (3,)), of(Digits(3, 3)), 3
    for item, known in zip(x, given, strict=True):
        live = [i for i, g in enumerate(known.tolist()) if g == 0]
        wanted = found = 0.0
        for time in range(1, T + 1):
            for hidden in itertools.product([0, 1], repeat=3):
                p = math.prod(time / T if h else 1 - time / T for h in hidden)
                key = torch.tensor([[0.0 if h else 0.9999 for h in hidden]])
                key = key if time < T else torch.zeros(1, 3)
                if time == T and not all(hidden):
                    continue
                step = objective.absorbing_step(model, item[None], torch.tensor([time]), T, key, given=known[None])
                found += p / T * float(step.nats.detach())
                depth = torch.tensor(
                    [g if g > 0 else int(not h) if g == 0 else 0 for g, h in zip(known.tolist(), hidden, strict=True)]
                )
                wanted += p / T * T / time * sum(log_prob(model, item, depth, i) for i in live if hidden[i])
        assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("starts", [[0], [0, 1, 2], [0, 2]])
def test_the_bound_of_a_policy_of_the_rest(starts):
    model, (x, given) = toy(Digits(3, 3), (3,)), of(Digits(3, 3))
    rows = list(itertools.permutations(range(3)))
    means = []
    for row in rows:
        plan = plans.ranked(torch.tensor(row), (3,)).coarsen(starts)
        means.append(likelihood.exact(model, plan.given(given), x).nats)
    wanted = torch.stack(means).mean(0)
    got = likelihood.policy_bound(model, x, starts, 3000, generator(0), given=given, chunk=4000)
    assert ((got.nats - wanted).abs() <= 4.5 * got.error + 1e-9).all()


# --- causal models ----------------------------------------------------------------------------------------------------


def causal(kind):
    return randomise(build(preset("text-tiny", shape=(4,), classes=3, causal=kind)), 0)


def test_a_causal_model_scores_the_rest_of_each_item():
    model, x = causal("single"), torch.randint(3, (4, 4), generator=generator(2))
    given = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, -1], [1, 0, -1, -1]])
    each = model.nats(x)
    wanted = (each * (given == 0)).sum(1)
    found = ardm.score(model, x, given=given)
    torch.testing.assert_close(found.nats, wanted.double())
    assert found.counted.tolist() == [4, 2, 3, 1]
    other = torch.where(given == PADDING, (x + 1) % 3, x)
    torch.testing.assert_close(ardm.score(model, other, given=given).nats, found.nats, rtol=0, atol=0)
    for wrong in ([0, 1, 0, 0], [0, -1, 0, 0]):
        with pytest.raises(ArdmError, match=r"comes first and padding last"):
            ardm.score(model, x, given=torch.tensor(wrong))


def test_random_orders_of_a_causal_model_put_what_is_given_first():
    model, x = causal("any"), torch.randint(3, (3, 4), generator=generator(2))
    given = torch.tensor([[0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, -1, 1]])
    wanted = []
    for item, known in zip(x, given, strict=True):
        first, live, last = ([i for i, g in enumerate(known.tolist()) if g == v] for v in (1, 0, -1))
        orders = [torch.tensor([*first, *row, *last]).argsort() for row in itertools.permutations(live)]
        nats = torch.stack([model.nats(item[None], rank)[0].detach() for rank in orders])
        wanted.append(float((nats * (known == 0)).sum(1).mean()))
    got = likelihood.causal_bound(model, x, 400, generator(0), given=given)
    assert ((got.nats - torch.tensor(wanted)).abs() <= 5 * got.error + 1e-6).all()
    other = torch.where(given == PADDING, (x + 1) % 3, x)
    assert torch.equal(likelihood.causal_bound(model, other, 20, generator(0), given=given).nats,
                       likelihood.causal_bound(model, x, 20, generator(0), given=given).nats)  # fmt: skip


# --- along a plan, and the loss curve -----------------------------------------------------------------------------------


def test_a_step_of_a_plan_is_one_of_those_that_an_item_has():
    alphabet = Digits(4, 2)
    model, (x, given) = toy(alphabet, (3,)), of(alphabet)
    plan = plans.raster(2, (3,)).coarsen([0, 2, 3])
    own = objective.without(plan.when.expand(8, -1, -1), given)
    live = objective.live_steps(own, len(plan))
    wanted = likelihood.exact(model, plan.given(given), x).nats
    for i in range(8):
        steps = live[i].nonzero()[:, 0]
        if not len(steps):
            assert wanted[i] == 0
            continue
        rows = len(steps)
        found = objective.plan_step(model, plan, x[i].expand(rows, 3), steps, given=given[i].expand(rows, 3))
        torch.testing.assert_close(found.nats.mean(), wanted[i])


def test_training_draws_the_steps_of_each_item_alone():
    order = OrderConfig("raster", (3, 2), cell=3)
    made = objectives.AlongPlan(preset("text-tiny", shape=(3,), classes=3), order, TrainConfig())
    given = torch.tensor([[0, -1, -1], [0, 0, -1], [0, 0, 0], [1, 0, 0], [-1, -1, -1]]).repeat(2000, 1)
    draws = made.draw(len(given), generator(0), given)
    for n, plan in enumerate(made.plans):
        for item in range(5):
            steps = draws["step"][item::5][draws["level"][item::5] == n]
            live = objective.live_steps(objective.without(plan.when, given[item : item + 1]), len(plan))[0]
            shares = torch.bincount(steps, minlength=len(plan)) / len(steps)
            if live.any():
                assert (shares - live / live.sum()).abs().max() < 0.05


def test_losses_are_observed_at_the_share_that_is_known():
    given = torch.tensor([[0, 0, 0, 0], [0, 0, -1, -1], [1, 0, 0, -1], [-1, -1, -1, -1]])
    assert objective.observed_at(torch.tensor([3, 1, 2, 0]), given).tolist() == [1, 2, 1, 0]
    model = toy(Digits(3, 3), (4,))
    x = torch.randint(3, (4, 4), generator=generator(0))
    found = likelihood.curve(model, x, 50, generator(0), given=given)
    assert found.seen.sum() == 150, "an item of padding alone observes nothing"


# --- data, training, commands --------------------------------------------------------------------------------------------


def ragged(number=60, seed=0):
    """Sequences that count 0 1 2 0 1 2 …, of 2 to 8 numbers."""
    rng = np.random.default_rng(seed)
    return [(np.arange(rng.integers(2, 9)) + rng.integers(3)) % 3 for _ in range(number)]


def test_a_list_of_sequences_is_padded():
    train, valid = memory.pair(ragged(), [*ragged(10, 1), np.arange(9) % 3])
    assert (train.shape, valid.shape) == ((9,), (9,))
    assert torch.equal((train.given == 0).sum(1), torch.tensor([len(v) for v in ragged()]))
    assert train.classes == 3
    assert train.predicted() == pytest.approx(np.mean([len(v) for v in ragged()]))
    one, other = memory.pair(train.items, padding=(train.given == 0).sum(1))
    assert len(one) + len(other) == 60
    far = memory.pair(torch.where(train.given == 0, train.items.long(), -100), padding=train.given < 0)
    assert far[0].fingerprint == one.fingerprint, "whatever is in the padding"
    assert one.fingerprint != memory.pair(train.items)[0].fingerprint
    with pytest.raises(ArdmError, match=r"says itself"):
        memory.pair(train, padding=torch.zeros(60, 9, dtype=torch.bool))


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (4, 1), (4, 3), (7, 2), (1, 1)])
def test_padded_windows_of_sounds_hold_every_sample(length, stride):
    clips = [torch.arange(n, dtype=torch.int32) for n in (1, 3, 4, 5, 11)]
    for clip in clips:
        items, given = audio.filled(clip, length, stride)
        assert items.shape == given.shape
        starts = range(0, stride * len(items), stride)
        for row, behind, start in zip(items, given, starts, strict=True):
            live = behind == 0
            assert row[live].tolist() == clip[start : start + length].tolist()
            assert (row[~live] == 32768).all()
        assert (given == 0).any(1).all(), "no item of padding alone"
        assert int(items[given == 0].max()) == len(clip) - 1
    whole = audio.cut(audio.Clips(clips, 8000, [0, 1, 2, 3, 4]), "clips", 4, None, False, pad=True)
    assert (len(whole), whole.dropped, whole.predicted() * len(whole)) == (1 + 1 + 1 + 2 + 3, 0, 24)
    assert whole.labels.tolist() == [0, 1, 2, 3, 3, 4, 4, 4]


SETTINGS = {
    "any order": {},
    "subset": {"subset": 2},
    "upscaling": {"base": 2},
    "absorbing": {"objective": "absorbing"},
    "plan": {"order": "raster", "calls": [9, 3]},
    "causal": {"causal": "single"},
    "any causal": {"causal": "any"},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_training_learns_sequences_of_different_lengths(kind):
    settings = {"preset": "text-tiny", "steps": 60, "batch": 32, "rate": 1e-2, "progress": False, "device": "cpu"}
    train, valid = (data.Dataset(*_items(n, s)) for n, s in ((200, 0), (20, 1)))
    model = ardm.fit(train, valid, **settings, **SETTINGS[kind])
    found = ardm.score(model, valid.items[:20], given=valid.known(slice(20), len(model.model.digits)))
    assert found.dims == int((valid.given == 0).sum())
    assert found.bits_per_dim < 0.8 * math.log2(3), "only the first number is a surprise"


@pytest.mark.parametrize("kind", ["any order", "plan"])
def test_passes_and_resumed_runs_see_the_same_padding(kind, tmp_path):
    sets = tuple(data.Dataset(*_items(n, s)) for n, s in ((64, 0), (8, 1)))
    losses = []
    for name, batch, accumulate in (("one", 32, 1), ("two", 16, 2)):
        settings = {"preset": "text-tiny", "steps": 4, "batch": batch, "accumulate": accumulate, **SETTINGS[kind]}
        trainer = Trainer(recipe_of(settings, sets[0]), tmp_path / name, device="cpu", sets=sets)
        losses.append([progress.loss for progress in trainer])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    parts = Trainer(trainer.recipe, tmp_path / "parts", device="cpu", sets=sets)
    for progress in parts:
        if progress.step == 2:
            parts.save()
            break
    rest = Trainer(trainer.recipe, tmp_path / "parts", resume=True, device="cpu", sets=sets)
    assert [progress.loss for progress in rest] == losses[1][2:]


def _items(number, seed):
    rows = [torch.from_numpy(v) for v in ragged(number, seed)]
    items, given = data.padded(rows, 9)
    return items.byte(), 3, f"counting/{seed}", None, (), None, 0, 0, False, None, given


def test_the_gradient_is_the_same_whatever_lies_in_the_padding():
    given = torch.tensor([[0, 0, 0, -1], [0, -1, -1, -1]])
    x = torch.randint(3, (2, 4), generator=generator(0))
    other = torch.where(given == PADDING, (x + 1) % 3, x)
    for kind, options in (
        ("steps", {}),
        ("absorbing", {}),
        ("steps", {"causal": "single"}),
        ("steps", {"causal": "any"}),
    ):
        config = preset("text-tiny", shape=(4,), classes=3, **options)
        made = objectives.choose(config, OrderConfig(), TrainConfig(objective=kind))
        norms = []
        for v in (x, other):
            network = randomise(build(config), 0)
            draws = made.draw(2, generator(1), given)
            made.score(network, Batch(v, draws, None, given)).nats.sum().backward()
            norms.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        assert torch.equal(*norms), kind


def test_beforehand_says_what_is_wrong():
    model = toy(Digits(4, 2), (3,))
    x = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ArdmError, match=r"depths lie in -1\.\.2; got -2"):
        ardm.score(model, x, given=torch.full((2, 3), -2))
    with pytest.raises(ArdmError, match=r"same shape"):
        ardm.score(model, x, padding=torch.zeros(2, 2, dtype=torch.bool))
    both = inputs.beforehand(x, model, torch.ones(3, dtype=torch.bool), torch.tensor([2, 3]))
    assert both.tolist() == [[2, 2, -1], [2, 2, 2]]
    assert api.score(model, x, given=torch.ones(3, dtype=torch.bool)).nats.tolist() == [0, 0]
