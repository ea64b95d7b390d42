"""One call each: samples, completions, likelihoods, plans, on tiny random models of both trunks."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch

from ardm import api
from ardm.bundle import Bundle
from ardm.errors import ArdmError
from ardm.losscurve import LossCurve
from ardm.media.pictures import save_gif, sheet, state_image, to_image
from ardm.media.plots import plot_curve
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig
from ardm.ranks import RANKS
from ardm.walk import score


def make(size="centred-tiny", base=0, curve=True, order=None, **changes):
    config = preset(size, shape=(3, 8, 8), classes=16, base=base, **changes)
    model = build(config).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.head.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.5)
    stages = len(config.digits)
    values = np.sort(np.random.default_rng(0).uniform(0.1, 2, (stages, 192)), 1)[:, ::-1]
    return Bundle(model, config, order or OrderConfig(), LossCurve.exact(values) if curve else None, {"name": "tiny"})


BUNDLES = {"centred": make(), "unet": make("tiny", width=16, blocks=1), "stages": make(base=4)}
ORDERS = ["random", "confident", *RANKS]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", BUNDLES)
def test_samples_in_any_order_repeat_with_their_seed(name, order):
    one, two, other = (api.sample(BUNDLES[name], 2, 12, order, seed) for seed in (1, 1, 2))
    assert one.shape == (2, 3, 8, 8)
    assert one.min() >= 0
    assert one.max() < 16
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.1), torch.nn.BatchNorm2d(3), torch.nn.GRU(2, 2, 2, dropout=0.1)])
def test_a_model_whose_dropout_is_on_is_refused(layer):
    """It would give another number each time; layers without chance, and dropout of 0, are as they are in evaluation."""
    bundle = make("tiny", width=16, blocks=1)
    bundle.model.train()
    x = api.sample(bundle, 1, 3)
    bundle.model.body.add_module("more", layer)
    for call in (api.sample, api.score, api.fill):
        given = {api.sample: (1, 3), api.score: (x, 3), api.fill: (x, x < 0, 3)}[call]
        for model in (bundle, bundle.model):
            with pytest.raises(ArdmError, match=r"in body\.more: call model\.eval\(\)"):
                call(model, *given)
    bundle.model.eval()
    assert torch.equal(api.sample(bundle, 1, 3), x)


@pytest.mark.parametrize("calls", [2, 3, 10, 384])
def test_any_budget(calls):
    plan = api.make_plan(BUNDLES["stages"], calls, generator=torch.Generator().manual_seed(0))
    assert len(plan) == calls


@pytest.mark.parametrize("shape", [(3, 4, 10), (3, 10, 4), (3, 1, 7)])
@pytest.mark.parametrize("order", RANKS)
def test_images_that_are_not_square_take_the_calls_asked_and_no_call_is_empty(order, shape):
    for name, calls in [("centred", 5), ("centred", 17), ("centred", 1000), ("stages", 7)]:
        plan = api.make_plan(BUNDLES[name], calls, order, shape)
        digits = plan.when.numel()
        assert plan.when.unique().tolist() == list(range(min(calls, digits)))


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("order", ["random", "bayer", "raster"])
def test_filling_keeps_what_is_given(name, order):
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(16, (3, 3, 8, 8), generator=generator)
    known = torch.rand(x.shape, generator=generator) < 0.6
    done = api.fill(BUNDLES[name], x, known, 12, order)
    assert torch.equal(done[known], x[known])
    assert not torch.equal(done, x)


def test_filling_any_size_with_a_convolutional_model():
    x = torch.randint(16, (1, 3, 13, 21), generator=torch.Generator().manual_seed(0))
    known = torch.zeros_like(x, dtype=torch.bool)
    known[..., :10] = True
    done = api.fill(BUNDLES["centred"], x, known, 20)
    assert torch.equal(done[known], x[known])


def test_bit_depth_expansion_keeps_the_leading_digits():
    x = torch.randint(16, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    done = api.fill(BUNDLES["stages"], x, torch.ones_like(x), 12)
    assert torch.equal(done // 4, x // 4)


def test_everything_given_is_returned():
    x = torch.randint(16, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(api.fill(BUNDLES["centred"], x, torch.ones_like(x, dtype=torch.bool), 12), x)


def test_temperature_zero_needs_no_luck():
    assert torch.equal(
        api.sample(BUNDLES["centred"], 1, 12, "bayer", 1, 0.0), api.sample(BUNDLES["centred"], 1, 12, "bayer", 2, 0.0)
    )


def test_scores_name_their_estimator_and_agree_with_the_walk():
    x = torch.randint(16, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    bundle = BUNDLES["centred"]
    along = api.score(bundle, x, 12, "bayer")
    assert not along.is_bound
    plan = api.make_plan(bundle, 12, "bayer")
    torch.testing.assert_close(along.nats, score(bundle.model, plan, x))
    assert api.score(bundle, x).is_bound
    own = make(order=OrderConfig("bayer", (9,), cell=8))
    assert not api.score(own, x).is_bound


def test_schedules_know_their_price():
    bundle = BUNDLES["stages"]
    prices = {kind: api.schedule(bundle, 20, kind).nats for kind in ("joint", "optimal", "uniform")}
    assert prices["joint"] <= prices["optimal"] + 1e-9
    assert prices["optimal"] <= prices["uniform"] + 1e-9


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: api.schedule(BUNDLES["stages"], 1), "takes 2 to 384 calls"),
        (lambda: api.schedule(BUNDLES["centred"], 5, "best"), "joint, optimal or uniform"),
        (lambda: api.schedule(make(curve=False), 5), "no loss curve"),
        (lambda: api.make_plan(BUNDLES["centred"], 5, "own"), "any order"),
        (lambda: api.make_plan(BUNDLES["centred"], 9, "spiral"), "unknown order"),
        (lambda: api.make_plan(BUNDLES["centred"], 9, ""), "unknown order"),
        (lambda: api.fill(BUNDLES["centred"], torch.full((1, 3, 8, 8), 16), torch.ones(1, 3, 8, 8).bool()), "0..15"),
        (
            lambda: api.fill(BUNDLES["centred"], torch.zeros(1, 3, 8, 8).long(), torch.ones(1, 3, 8, 7).bool()),
            "the same shape",
        ),
        (
            lambda: api.fill(BUNDLES["stages"], torch.zeros(1, 3, 8, 8).long(), torch.zeros(1, 3, 8, 8).bool(), 1),
            "2 stages",
        ),
        (lambda: api.sample(BUNDLES["centred"], 1, context=torch.zeros(1).long()), "takes no context"),
    ],
)
def test_refusals_say_what_is_possible(ask, words):
    with pytest.raises(ArdmError, match=words):
        ask()


def test_class_labels_change_samples():
    bundle = make(labels=3)
    drawn = [api.sample(bundle, 1, 12, "bayer", 0, context=c) for c in (None, torch.tensor([0]), torch.tensor([2]))]
    assert all(d.shape == (1, 3, 8, 8) for d in drawn)
    with pytest.raises(ArdmError, match="one class label"):
        api.sample(bundle, 2, 12, "bayer", 0, context=torch.tensor([1]))


def test_pictures(tmp_path):
    bundle = BUNDLES["stages"]
    generator = torch.Generator().manual_seed(0)
    plan = api.make_plan(bundle, 12, generator=generator)
    start = bundle.model.digits.blank(2, (3, 8, 8))
    states = [start, *api.generate(bundle, plan, start, generator)]
    empty = np.asarray(state_image(states[0], 0, 2, 16))
    assert (empty == 118).all(), "nothing known is grey"
    x = states[-1].value[0]
    assert np.array_equal(np.asarray(state_image(states[-1], 0, 2, 16)), np.asarray(to_image(x, 16)))
    assert np.array_equal(np.asarray(to_image(x, 16)), (x.permute(1, 2, 0).numpy() * 17).astype(np.uint8))
    assert sheet([to_image(x, 16, 2)] * 5, 3).size == (3 * 18 + 2, 2 * 18 + 2)
    save_gif([state_image(s, 0, 2, 16) for s in states], tmp_path / "a.gif")
    before = dict(mpl.rcParams)
    plot_curve(bundle.curve, [api.schedule(bundle, 12)], tmp_path / "a.png", "title")
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.gif").read_bytes()[:3] == b"GIF"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_losses_that_are_infinite_stop_no_sample():
    """No plan costs less than another, so that the steps are even."""
    config = preset("text-tiny", shape=(12,), classes=5, width=8, blocks=1)
    curve = LossCurve(1, 12)
    curve.update([0, 0], [0, 6], [np.inf, 1.0], [1, 1])
    even = Bundle(build(config).eval(), config)
    bundle = replace(even, curve=curve)
    for calls in (5, 12):
        x = api.sample(even, 1, calls)
        assert torch.equal(api.sample(bundle, 1, calls), x)
        assert torch.equal(api.score(bundle, x, calls, "random").nats, api.score(even, x, calls, "random").nats)
    assert api.schedule(bundle, 5, "uniform").nats is None
    assert api.schedule(bundle, 12).nats is None
    with pytest.raises(ArdmError, match="not finite"):
        api.schedule(bundle, 5)


@pytest.mark.parametrize("kind", ["joint", "optimal", "uniform"])
def test_a_schedule_costs_what_was_observed(kind):
    """Fitted by weight of symbols, a curve that rises would cost less than its own sum."""
    curve = LossCurve(1, 192)
    t = np.arange(192)
    curve.update([0] * 192, t, (1 + t / 100) * (192 - t), 192 - t)
    observed = (1 + t / 100).sum()
    bundle = replace(BUNDLES["centred"], curve=curve)
    assert curve.monotone().sum() < 0.9 * observed
    for calls in (191, 192):
        assert api.schedule(bundle, calls, kind).nats == pytest.approx(observed)


def test_curves_of_another_model_are_refused():
    bundle = BUNDLES["centred"]
    with pytest.raises(ArdmError, match="the model has 1 stage, and its loss curve 2"):
        replace(bundle, curve=BUNDLES["stages"].curve)
    other = replace(bundle, curve=LossCurve.exact([[2.0, 1.0]]))
    for kind in ("joint", "optimal", "uniform"):
        with pytest.raises(ArdmError, match="tiny has 192 sites, and its loss curve 2"):
            api.schedule(other, 2, kind)
    assert api.sample(other, 1, 5).shape == (1, 3, 8, 8)  # other sizes take the losses in the same fractions


def test_a_folder_is_named_by_text_or_a_path():
    with pytest.raises(ArdmError, match="a str or a Path; got int"):
        BUNDLES["centred"].save(3)
