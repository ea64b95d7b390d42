"""Guidance: a model of two contexts, normalised at each site, with the likelihood of what it draws."""

import itertools
import math

import pytest
import torch

import ardm
from ardm import api, audit, likelihood
from ardm import plan as plans
from ardm.adaptive import SCORES
from ardm.bundle import Bundle
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.random_numbers import RandomNumbers
from ardm.samplers.guidance import Guided, guide
from ardm.walk import sample, score
from toys import HEADS, WILD, all_data, everywhere, generator, randomise, some_data, tiny_image, toy

D, K = 3, 3
TABLE = torch.randn(3, 4**D, D, K, generator=generator(1), dtype=torch.double) * 2
"""Arbitrary logits for each label (the last one: no label) and each state."""


def net(value, depth, label=None):
    code = (torch.where(depth > 0, value, K) * 4 ** torch.arange(D)).sum(1)
    return TABLE[torch.full_like(code, 2) if label is None else label, code]


MODEL = ardm.wrap(net, (D,), K)
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize("scale", [-1.0, -0.3, 0, 0.5, 2.0, 30])
def test_each_site_is_guided_by_the_formula(scale):
    """Every state, site and label, by hand in Python."""
    values, known = all_data(K, (D,)), torch.tensor(list(itertools.product((0, 1), repeat=D)))
    x, depth = values.repeat_interleave(len(known), 0), known.repeat(len(values), 1)
    state = MODEL.digits.truncate(x, depth)
    sites = everywhere(MODEL, state)
    for label in (0, 1):
        found = ardm.guided(MODEL, scale).model(state, torch.full((len(x),), label))[sites]
        for row, item, site in zip(found.tolist(), sites.batch_index.tolist(), sites.position.tolist(), strict=True):
            given = net(state.value[item, None], state.depth[item, None], torch.tensor([label]))[0, site].tolist()
            none = net(state.value[item, None], state.depth[item, None])[0, site].tolist()
            p, q = ([math.exp(v) / math.fsum(map(math.exp, r)) for v in r] for r in (given, none))
            weight = [a ** (1 + scale) * b**-scale for a, b in zip(p, q, strict=True)]
            assert [math.exp(v) for v in row] == pytest.approx([w / math.fsum(weight) for w in weight], rel=1e-9)


def test_without_weight_it_is_the_model_given_the_context_and_at_minus_one_the_model_without():
    x, context = all_data(K, (D,)), torch.zeros(K**D, dtype=torch.long)
    plan = plans.shuffled(1, (D,), generator(0))
    for scale, side in ((0, context), (-1, None)):
        found = score(ardm.guided(MODEL, scale).model, plan, x, context=context)
        torch.testing.assert_close(found, score(MODEL, plan, x, context=side), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alphabet", [Digits(3, 3), Digits(4, 2), WILD])
@pytest.mark.parametrize("head", ["digits", "values", "mixture"])
def test_probabilities_of_all_data_sum_to_one_and_draws_are_scored(alphabet, head):
    """For any head and alphabet; what it scores is how often it is drawn."""
    if head == "mixture" and alphabet is WILD:
        return
    inner = toy(alphabet, (2,), head, context=2, scale=1.0)
    model = Guided(inner, 1.5, negative=torch.tensor([0.5, -1.0], dtype=torch.double))
    x = all_data(alphabet.classes, (2,))
    side = torch.tensor([[1.0, 2.0]], dtype=torch.double)
    plan = plans.shuffled(len(alphabet), (2,), generator(3))
    p = likelihood.exact(model, plan, x, context=side.expand(len(x), 2)).nats.neg().exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    n = 20_000
    drawn = sample(model, plan, alphabet.blank(n, (2,)), RandomNumbers(1), context=side.expand(n, 2))
    seen = (drawn @ torch.tensor([alphabet.classes, 1])).bincount(minlength=len(x)).double()
    often = p * n > 5
    chi = float(((seen - p * n).square() / (p * n))[often].sum())
    assert chi < int(often.sum()) + 5 * math.sqrt(2 * int(often.sum()))


def test_guidance_sharpens_towards_the_context():
    """With one site: more weight, more probability for what the label makes likelier."""
    logits = torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]])
    model = ardm.wrap(lambda value, depth, label=None: logits[torch.full((len(value),), 1) if label is None else label][:, None], (1,), 3)  # fmt: skip
    x = torch.tensor([[1]])
    nats = [float(ardm.score(ardm.guided(model, w), x, calls=1, context=0).nats) for w in (-1, 0, 1, 4)]
    assert nats == sorted(nats, reverse=True)
    assert nats[0] == pytest.approx(math.log(3))


def test_sample_fill_and_score_take_it_with_a_context():
    bundle = ardm.guided(MODEL, 2.0)
    x = ardm.sample(bundle, 4, 2, context=1)
    assert x.shape == (4, D)
    assert torch.equal(ardm.sample(bundle, 2, 2, context=1), x[:2])
    known = torch.tensor([True, False, False])
    assert torch.equal(ardm.fill(bundle, x, known, context=1)[:, 0], x[:, 0])
    assert ardm.score(bundle, x, calls=3, context=1).nats.isfinite().all()
    assert ardm.score(bundle, x, context=1).is_bound
    with pytest.raises(ArdmError, match="guidance needs a context"):
        ardm.sample(bundle, 1, 2)


def test_a_negative_context_takes_the_place_of_none():
    x = all_data(K, (D,))
    plan = plans.raster(1, (D,))
    context = torch.zeros(len(x), dtype=torch.long)
    against = ardm.guided(MODEL, 1.0, negative=1).model
    logits = [MODEL(MODEL.digits.blank(1, (D,)), c)[Sites(torch.tensor([0]), D)].log_softmax(-1) for c in (torch.tensor([0]), torch.tensor([1]))]  # fmt: skip
    expected = (2 * logits[0] - logits[1]).log_softmax(-1)
    blank = MODEL.digits.blank(1, (D,))
    torch.testing.assert_close(against(blank, torch.tensor([0]))[Sites(torch.tensor([0]), D)], expected)
    assert float(score(against, plan, x, context=context).neg().exp().sum()) == pytest.approx(1)


def test_what_either_calls_impossible_is_impossible():
    inf = math.inf
    given = torch.tensor([[-inf, 0.0, -1.0, -2.0]]).log_softmax(-1)
    without = torch.tensor([[0.0, -inf, -1.0, -1.0]]).log_softmax(-1)
    assert guide(given, without, 2.0).isfinite().tolist() == [[False, False, True, True]]
    assert torch.equal(guide(given, without, 0.0), given)
    assert torch.equal(guide(given, without, -1.0), without)
    none = guide(torch.tensor([[0.0, -inf]]), torch.tensor([[-inf, 0.0]]), 1.0)
    assert none.log_softmax(-1).isnan().all()  # no distribution, which a walk reports


def test_columns_keep_their_alphabets():
    config = ModelConfig(trunk="mlp", shape=(2,), classes=4, columns=(2, 4), head="values", labels=2, width=8, blocks=1)
    bundle = ardm.guided(randomise(build(config)).float(), 1.0)
    x = ardm.sample(bundle, 64, 2, context=0)
    assert int(x[:, 0].max()) == 1
    assert int(x[:, 1].max()) == 3


def test_many_values_are_listed_for_some_sites_at_a_time(monkeypatch):
    inner = toy(Digits(500, 500), (12,), "mixture", context=1)
    model = Guided(inner, 1.0, negative=torch.zeros(1, dtype=torch.double))
    x, side = some_data(model.digits, (12,), 2), torch.ones(2, 1, dtype=torch.double)
    plan = plans.Plan(torch.zeros(1, 1, 12, dtype=torch.long))
    whole = score(model, plan, x, context=side)
    blank = model.digits.blank(2, (12,))
    sites = everywhere(model, blank)
    monkeypatch.setattr("ardm.model.TOGETHER", 5 * 2 * inner.head.numbers)
    seen, logits = [], inner.head.logits
    monkeypatch.setattr(inner.head, "logits", lambda *asked: seen.append(len(asked[1])) or logits(*asked))
    torch.testing.assert_close(score(model, plan, x, context=side), whole, rtol=1e-12, atol=0)
    prediction = model(blank, side)
    torch.testing.assert_close(
        SCORES["entropy"](prediction, sites), torch.special.entr(prediction[sites].exp()).sum(-1)
    )
    assert max(seen[:-2]) == 5


@pytest.mark.parametrize("head", sorted(HEADS))
def test_models_that_know_no_context_are_refused(head):
    with pytest.raises(ArdmError, match="takes no context"):
        ardm.guided(tiny_image("centred", head=head, classes=4), 1.0)


def test_what_was_not_learned_is_refused():
    labelled = tiny_image("centred", labels=3)
    recipe = {"recipe": {"data": {"labels": True}, "train": {"label_dropout": 0.0}}}
    never = ardm.Bundle(labelled, labelled.body.config, card=recipe)
    with pytest.raises(ArdmError, match="label_dropout"):
        ardm.guided(never, 1.0)
    assert ardm.sample(ardm.guided(never, 1.0, negative=2), 1, 2, context=0).shape == (1, 2, 3, 3)
    recipe["recipe"]["train"]["label_dropout"] = 0.1
    learned = ardm.guided(ardm.Bundle(labelled, labelled.body.config, card=recipe), 1.0)
    assert ardm.sample(learned, 1, 2, context=0).shape == (1, 2, 3, 3)
    with pytest.raises(ArdmError, match="vector"):
        ardm.guided(tiny_image("centred", vector=2), 1.0)
    with pytest.raises(ArdmError, match="labels of this model lie in"):
        ardm.sample(ardm.guided(labelled, 1.0, negative=3), 1, 2, context=0)


def test_texts_with_an_end_are_counted_to_their_end():
    config = ModelConfig(shape=(4,), classes=3, trunk="transformer", head="values", width=8, blocks=1, labels=2, end=True)  # fmt: skip
    guided = ardm.guided(Bundle(randomise(build(config)), config), 1.0)
    x, context = torch.tensor([[0, 2, 2, 2], [0, 1, 2, 2], [0, 1, 1, 0]]), torch.tensor([0, 1, 1])
    for found in (ardm.score(guided, x, context=context), ardm.score(guided, x, 4, context=context)):
        assert found.counted.tolist() == [2, 3, 4]
    assert audit.report(guided, x, context=context, calls=4, states=8, streams=1).sites == 3


def test_a_guided_model_of_one_order_is_scored_along_it():
    config = ModelConfig(shape=(3,), classes=3, trunk="transformer", head="values", width=8, blocks=1, labels=2, causal="single")  # fmt: skip
    guided = ardm.guided(Bundle(randomise(build(config)), config), 1.0)
    x = all_data(3, (3,))
    context = torch.ones(len(x), dtype=torch.long)
    found = ardm.score(guided, x, context=context)
    assert (found.estimator, found.is_bound) == ("exact", False)
    torch.testing.assert_close(found.nats, score(guided.model, plans.raster(1, (3,)), x, context=context))
    assert float(found.nats.neg().exp().sum()) == pytest.approx(1)
    report = audit.report(guided, x, context=context, states=8, streams=2)
    assert report.sound, report.reasons
    assert [figure.kind for figure in report.figures] == ["exact", "coded"]


@pytest.mark.parametrize("scale", [math.nan, math.inf, "1", None, True])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(ArdmError, match="scale of guidance"):
        ardm.guided(MODEL, scale)


def test_it_is_neither_guided_twice_nor_saved_nor_planned_on_losses_of_another(tmp_path):
    labelled = tiny_image("centred", labels=3, shape=(1, 2, 2))
    curve = ardm.LossCurve.exact([[1.0] * 4])
    bundle = ardm.guided(ardm.Bundle(labelled, labelled.body.config, curve=curve), 1.0)
    with pytest.raises(ArdmError, match="guided already"):
        ardm.guided(bundle, 1.0)
    with pytest.raises(ArdmError, match="cannot be saved"):
        bundle.save(tmp_path / "m")
    with pytest.raises(ArdmError, match="no loss curve"):
        api.schedule(bundle, 2)


def test_a_precision_is_that_of_the_model_that_is_guided():
    config = ModelConfig(
        shape=(4,), classes=5, trunk="transformer", head="values", width=16, blocks=1, heads=2, labels=2
    )
    x, context = some_data(Digits(5, 5), (4,)), torch.tensor([0, 1, 1])

    def nats(bundle):
        return ardm.score(bundle, x, context=context).nats.tolist()

    fine = Bundle(randomise(build(config)).float(), config)
    rough = fine.with_precision("bf16")
    wanted = {"float32": nats(ardm.guided(fine, 1.5)), "bf16": nats(ardm.guided(rough, 1.5))}
    assert wanted["float32"] != wanted["bf16"]
    for bundle in (fine, rough):
        guided = ardm.guided(bundle, 1.5)
        assert {kind: nats(guided.with_precision(kind)) for kind in wanted} == wanted
        assert nats(guided) == wanted["bf16" if bundle is rough else "float32"]
    assert not fine.model.bf16
