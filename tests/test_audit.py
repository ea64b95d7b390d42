"""The audit: what it must let pass, and what it must find, with sums over all items as the judge."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ardm
from ardm import audit, likelihood
from ardm.audit.coding import by_codec
from ardm.audit.results import Check, Reliability
from ardm.cli.app import app
from ardm.codec import registry
from ardm.heads import ValueHead
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from tests_support import make_data, make_model
from toys import all_plans, generator, randomise

X = audit.source("fair")[0]
LN2 = math.log(2)


def conditional(name):
    """A network on four coins that knows a source: the exact probabilities of each coin given the known ones."""
    items, p = audit.source(name)

    def net(value, depth):
        fits = ((items == value[:, None]) | (depth[:, None] == 0)).all(-1).double() * p  # (B, 16)
        ones = fits @ items.double()
        return torch.stack([fits.sum(1, keepdim=True) - ones, ones], -1).clamp(min=0).log()

    return ardm.wrap(net, (4,), 2)


def masked(name, dependent):
    """The expected masked-diffusion loss of each item, D/(D−t) · −log p(hidden | known), over all masks.

    p(hidden | known) is a product of single sites, or, dependent, the joint distribution of the source.
    """
    items, p = audit.source(name)
    model, D = conditional(name), 4

    def claim(x):
        total = torch.zeros(len(x), dtype=torch.double)
        for mask in itertools.product((0, 1), repeat=D):
            known, t = torch.tensor(mask), sum(mask)
            if t == D:
                continue
            state = model.digits.truncate(x, known.expand_as(x))
            if dependent:
                same = ((items == x[:, None]) | (known == 0)).all(-1).double() @ p
                nats = same.log() - ((items == x[:, None]).all(-1).double() @ p).log()
            else:
                sites = ardm.digits.Sites.where(state.depth == 0)
                logp = model(state).log_prob(sites, sites.of(x)).double()
                nats = torch.zeros(len(x), dtype=torch.double).index_add(0, sites.batch_index, -logp)
            total += nats.nan_to_num(math.inf, math.inf) / ((D - t) * math.comb(D, t))
        return total

    return claim


# --- claims ------------------------------------------------------------------------------------------------------------


ENTROPIES = {"fair": 4.0, "equal": 1.0, "parity": 3.0, "chain": 2.406987}


@pytest.mark.parametrize("name", audit.SOURCES)
def test_a_perfect_model_costs_the_entropy_and_not_less(name):
    plan = all_plans(1, (4,)).when[7:8]
    model = conditional(name)
    verdict = audit.coins(lambda x: likelihood.exact(model, ardm.Plan(plan), x).nats, name)
    assert verdict.sound, verdict
    assert verdict.kraft == pytest.approx(1, abs=1e-9)
    (row,) = verdict.averages
    assert row.entropy == pytest.approx(ENTROPIES[name], abs=1e-6)
    assert row.bits == pytest.approx(row.entropy, abs=1e-9)


@pytest.mark.parametrize("name", audit.SOURCES)
def test_a_dependent_loss_falls_below_the_entropy(name):
    """By Han's inequality, unless the coins are independent; the same loss with single sites never does."""
    assert audit.coins(masked(name, dependent=False)).sound
    verdict = audit.coins(masked(name, dependent=True), name)
    expected = {"fair": 4.0, "equal": 0.25, "parity": 3 / 4 + 2 / 3 + 1 / 2}
    if name in expected:
        assert verdict.averages[0].bits == pytest.approx(expected[name], abs=1e-9)
    assert verdict.sound == (name == "fair")
    assert ("less than the entropy" in " ".join(verdict.reasons)) == (name != "fair")


def test_kraft_needs_no_source():
    """A claim that is below the entropy of no named source is found by the sum alone, at the limit."""
    logits = torch.randn(16, generator=generator(), dtype=torch.double) * 4
    nats = -logits.log_softmax(0)
    index = torch.tensor([8, 4, 2, 1])

    def at(scale):
        return audit.coins(lambda x: scale * nats[(x * index).sum(1)])

    assert at(1.0).sound
    assert at(1.01).sound
    assert at(0.99).kraft > 1.005
    assert not at(0.99).sound


@pytest.mark.parametrize("dependent", [False, True])
def test_random_claims_are_averaged(dependent):
    """One random mask a call, for all items together; no accident is taken for a fault."""
    p = audit.source("equal")[1]
    draw = generator(3)

    def claim(x):
        t = int(torch.randint(4, (), generator=draw))
        known = torch.randperm(4, generator=draw) < t
        agree = (x == x[:, :1]).all(1)
        seen = torch.where(known, x, -1).amax(1)
        if t:
            nats = torch.where(torch.where(known, x == seen[:, None], True).all(1) & agree, 0.0, 30.0)
        else:
            nats = torch.where(agree, LN2 * (1 if dependent else 4), 30.0)
        return nats * 4 / (4 - t)

    verdict = audit.coins(claim, p)
    assert verdict.repeats == audit.claims.REPEATS
    assert 0 < verdict.error < 0.2
    assert verdict.sound != dependent, verdict


def test_noise_raises_no_alarm():
    noise = generator(5)
    for _ in range(40):
        verdict = audit.coins(lambda x: 4 * LN2 + torch.randn(len(x), generator=noise).double(), repeats=50)
        assert verdict.kraft == pytest.approx(1, abs=5 * verdict.error + 1e-9)
        assert not [r for r in verdict.reasons if "Σ" in r]


def test_a_claim_is_a_function_of_the_item():
    verdict = audit.coins(lambda x: torch.full((len(x),), 4 * LN2) + 0.1 * len(x))
    assert "beside it" in verdict.reasons[0]
    assert "at least 0" in audit.coins(lambda x: 5 - 6.0 * (x.sum(1) == 4)).reasons[0]


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (lambda x: x.sum(), "one number of nats per item"),
        (lambda x: x.sum(1) * math.nan, "NaN"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: "many", "what the claim returns"),
    ],
)
def test_claims_that_cannot_be_tested(claim, said):
    with pytest.raises(ardm.ArdmError, match=said):
        audit.coins(claim)


def test_sources_that_are_none():
    with pytest.raises(ardm.ArdmError, match="fair, equal"):
        audit.coins(lambda x: x.sum(1), "biased")
    with pytest.raises(ardm.ArdmError, match="16 probabilities"):
        audit.coins(lambda x: x.sum(1), torch.ones(16))
    with pytest.raises(ardm.ArdmError, match="at most 4096"):
        audit.kraft(lambda x: x.sum(1), (3, 5), 2)


# --- models ------------------------------------------------------------------------------------------------------------


def drawn(name, n=24, seed=0):
    items, p = audit.source(name)
    return items[torch.multinomial(p, n, replacement=True, generator=generator(seed))]


def test_a_sound_model_passes_and_its_figures_agree():
    model, x = conditional("chain"), drawn("chain", 64)
    found = audit.report(model, x, calls=4, plans=6, passes=64, streams=64, budgets=[1, 2, 4], data="coins")
    assert found.sound, found.reasons
    assert {c.name for c in found.checks if c.passed is None} == {"one pass does not look ahead"}
    bound, multi, exact, coded = (
        found.figure(n) for n in ("any-order bound", "multi-order bound", "exact along the plan", "coded by the model")
    )
    assert [f.kind for f in (bound, multi, exact, coded)] == ["bound", "bound", "exact", "coded"]
    assert [f.calls for f in (bound, multi, exact, coded)] == [64, 24, 4, 4]
    true = audit.source("chain")
    nats = float(-true[1].log()[(x * torch.tensor([8, 4, 2, 1])).sum(1)].mean())
    assert exact.nats == pytest.approx(nats, abs=1e-6)  # every order of the exact conditionals has the same probability
    assert multi.nats == pytest.approx(nats, abs=1e-6)
    assert bound.nats == pytest.approx(nats, abs=5 * bound.error)
    assert exact.nats - 0.01 < coded.nats < exact.nats + 64 * LN2 / 64 * 1.5
    json.dumps(found.to_values(), allow_nan=False)


def test_a_report_prints_its_figures_and_its_verdict():
    found = audit.report(conditional("chain"), drawn("chain"), calls=4, plans=1, states=8, streams=2)
    exact, said = found.figure("exact along the plan"), str(found).splitlines()
    rate, error = found.bits_per_dim(exact.nats), found.bits_per_dim(exact.error)
    assert f"exact along the plan: {rate:.4f} ± {error:.4f} bits/dim, exact, 4 calls; random, 4 calls" in said
    assert all(any(line.startswith(f"{c.name}: ") for line in said) for c in found.checks)
    assert "nan" not in str(found).lower()
    assert said[-1] == "sound: no check failed"
    failed = replace(found, checks=(Check("a law", False, "it fails"),))
    assert str(failed).splitlines()[-2:] == ["a law: NO, it fails", "unsound: a law: it fails"]


def test_budgets_cost_what_was_planned():
    """On the exact model of a source; four at once cost the sum of the marginals, four bits."""
    found = audit.report(conditional("chain"), drawn("chain", 400), budgets=[1, 2, 4], plans=1, states=8, streams=1)
    for b in found.budgets:
        assert b.items == 200
        assert b.measured == pytest.approx(b.planned, abs=0.15)
    assert found.budgets[0].measured == pytest.approx(4 * LN2, abs=1e-6)
    assert found.budgets[2].measured < 2.6 * LN2


def test_calibration_falls_with_what_is_revealed_at_once():
    """Equal coins: each alone is right as often as it says, and four at once far more often."""
    found = audit.report(conditional("equal"), drawn("equal", 200), states=400, plans=1, streams=1, budgets=[4])
    by = {r.group: r for r in found.calibration}
    assert by["1 at once"].ece < 5 * by["1 at once"].chance + 0.01
    (share,) = (h for c, h in zip(by["4 at once"].confidence, by["4 at once"].accuracy, strict=True))
    assert by["4 at once"].confidence == (1 / 16,)
    assert share == pytest.approx(0.5, abs=0.2)
    assert by["0–20 % known"].confidence == (0.5,)
    assert by["20–40 % known"].accuracy == (1.0,)


def test_reliability_is_the_mean_distance():
    curve = Reliability.of("at once", "1", [0.05, 0.95, 0.92, 1.0], [0, 1, 0, 1])
    assert curve.count == (1, 3)
    assert curve.accuracy == pytest.approx((0, 2 / 3))
    assert curve.ece == pytest.approx((0.05 + 3 * (2.87 / 3 - 2 / 3)) / 4)
    p = np.random.default_rng(0).random(4000)
    calm = [Reliability.of("", "", p, np.random.default_rng(s).random(4000) < p) for s in range(1, 21)]
    assert np.mean([c.ece for c in calm]) == pytest.approx(calm[0].chance, rel=0.25)


def test_multi_order_bounds_lie_between():
    """An inconsistent model: by enumeration of all orders, −log of the mean ≤ figure of a few ≤ mean of code lengths."""
    net = randomise(torch.nn.Linear(8, 12), 3, 3.0)
    model = ardm.wrap(lambda v, d: net(torch.cat([v, d], 1).double()).view(-1, 4, 3), (4,), 3)
    x = torch.randint(3, (6, 4), generator=generator(1))
    found = audit.report(model, x, calls=4, plans=8, passes=4, states=8)
    assert found.sound, found.reasons
    every = torch.stack([likelihood.exact(model, ardm.Plan(w[None]), x).nats for w in all_plans(1, (4,)).when])
    least, mean = float((math.log(len(every)) - (-every).logsumexp(0)).mean()), float(every.mean())
    assert least < found.figure("multi-order bound").nats < mean + 0.5
    assert least < mean


def reasons(model, x, **options):
    return " · ".join(audit.report(model, x, states=16, passes=2, plans=2, **options).reasons)


def joint(self, features, value, depth, digit, position=None):
    """A head that relates the values it is asked about: each is more likely to equal the one before it in its item."""
    logits = self.logits(features, value, depth, position)
    follows = (position > position.roll(1))[:, None]
    logits = logits + 3 * follows * torch.nn.functional.one_hot(digit.roll(1), logits.shape[1])
    return logits.log_softmax(-1).gather(1, digit[:, None])[:, 0]


def test_dependent_values_are_found(monkeypatch):
    """The bound of a dependent p(x0 | xt) lies below the entropy, no stream is as short, and each check says so."""
    monkeypatch.setattr(ValueHead, "log_prob", joint)
    model, x = conditional("equal"), drawn("equal")
    assert float(likelihood.bound(model, x, 64, generator()).nats.mean()) < LN2 / 2  # the entropy of equal coins is LN2
    said = reasons(model, x, calls=2)
    for name in (
        "hidden values do not matter",
        "the any-order bound is a bound",
        "code lengths",
    ):
        assert name in said
    assert "below an entropy" in said


def test_what_is_not_normalised_is_found(monkeypatch):
    def raw(self, features, value, depth, digit, position=None):
        return self.logits(features, value, depth, position).gather(1, digit[:, None])[:, 0]

    monkeypatch.setattr(ValueHead, "log_prob", raw)
    model = ardm.wrap(lambda v, d: torch.zeros(*v.shape, 2) - 0.5, (4,), 2)
    assert "log_prob sums to 1.21" in reasons(model, drawn("fair"))


def test_what_changes_from_call_to_call_is_found():
    noise = generator(1)
    model = ardm.wrap(lambda v, d: torch.randn(*v.shape, 2, generator=noise), (4,), 2)
    said = reasons(model, drawn("fair"))
    assert "a state has one prediction" in said
    assert "a stream decodes to the items" in said


def test_items_that_see_each_other_are_found():
    """`likelihood.exact` puts the later states of an item into one batch: batch statistics show what is hidden."""
    model = ardm.wrap(
        lambda v, d: (v * 2.0 - d).mean(0)[None, :, None] * torch.tensor([-3.0, 3.0]) + torch.zeros(*v.shape, 2),
        (4,),
        2,
    )
    assert "items do not see each other" in reasons(model, drawn("equal"))


def causal():
    config = ModelConfig(shape=(6,), classes=3, trunk="transformer", causal="single", width=8, blocks=1, heads=1)
    return randomise(build(config).float(), 2).float()


def test_a_causal_model_is_scored_in_one_pass_and_checked_against_the_walk():
    model, x = causal(), torch.randint(3, (5, 6), generator=generator(2))
    found = audit.report(model, x, states=16)
    assert found.sound, found.reasons
    assert [f.name for f in found.figures] == ["exact along the plan", "coded by the model"]
    assert found.figures[0].calls == 1
    assert not found.budgets
    assert found.checks[6].passed, found.checks[6]


def test_a_pass_that_looks_ahead_is_found(monkeypatch):
    model, x = causal(), torch.randint(3, (5, 6), generator=generator(2))
    honest = type(model).nats
    monkeypatch.setattr(type(model), "nats", lambda self, x, *rest: honest(self, x, *rest) - 0.3 * (x.roll(-1, 1) == 1))
    said = reasons(model, x)
    assert "only values that come later change" in said
    assert "the figure is too low" in said or "code lengths" not in said


@pytest.mark.parametrize(
    ("order", "calls"),
    [(ardm.Adaptive("entropy", ardm.Threshold(0.95)), None), (ardm.Adaptive("margin"), 3), ("confident", 3)],
)
def test_adaptive_plans_are_scored_and_coded(order, calls):
    net = randomise(torch.nn.Linear(8, 12), 3, 3.0)
    model = ardm.wrap(lambda v, d: net(torch.cat([v, d], 1).double()).view(-1, 4, 3), (4,), 3)
    x = torch.randint(3, (6, 4), generator=generator(1))
    found = audit.report(model, x, calls=calls, order=order, states=8)
    assert found.sound, found.reasons
    exact, coded = found.figure("exact along the plan"), found.figure("coded by the model")
    assert exact.nats == pytest.approx(float(ardm.score(model, x, calls, order).nats.mean()))
    assert 1 <= coded.calls == exact.calls <= 4
    several = found.figure("multi-order bound")  # of random orders, whatever the sampler's plan
    assert (several.kind, several.plan) == ("bound", f"4 random orders of {calls or 4} calls")
    assert several.calls == 4 * (calls or 4)


def test_text_has_a_perplexity_and_bits_a_byte():
    model = ardm.wrap(lambda v, d: torch.zeros(*v.shape, 8), (4,), 8)
    x = torch.randint(8, (3, 4), generator=generator())
    found = audit.report(model, x, states=4, decode=lambda ids: "ab" * len(ids))
    nats = found.figure("exact along the plan").nats
    assert found.perplexity(nats) == pytest.approx(8)
    assert found.bits_per_byte(nats) == pytest.approx(12 / 8)
    assert found.to_values()["figures"][0]["perplexity"] == pytest.approx(8)


def test_rates_of_texts_of_different_lengths_are_those_of_the_items_of_a_figure():
    """Streams are of the first items, budgets of the second half: each is divided by the values of its own items."""
    config = preset("text-tiny", shape=(6,), classes=3, end=True)
    model = ardm.Bundle(randomise(build(config)), config)
    x = torch.tensor([[0, 1, 0, 1, 1, 2], [1, 1, 1, 0, 0, 1], [2] * 6, [1, 2, 2, 2, 2, 2]])
    found = audit.report(model, x, calls=6, order="raster", streams=1, states=8, passes=4, budgets=[6])
    exact, coded, (budget,) = found.figure("exact along the plan"), found.figure("coded by the model"), found.budgets
    assert (exact.sites, coded.sites, budget.sites) == (15 / 4, 6, 3 / 2)
    scored = ardm.score(model, x, 6, "raster")
    assert exact.dim_error == scored.bits_per_dim_error < found.bits_per_dim(exact.error) / 2
    values = found.to_values()
    figure = {one["name"]: one for one in values["figures"]}
    assert figure["exact along the plan"]["bits_per_dim"] == pytest.approx(scored.bits_per_dim)
    assert figure["exact along the plan"]["bits_per_dim_error"] == scored.bits_per_dim_error
    assert figure["coded by the model"]["bits_per_dim"] == pytest.approx(coded.nats / 6 / LN2)
    assert values["budgets"][0]["bits_per_dim"] == pytest.approx(budget.measured / 1.5 / LN2)
    assert f"exact along the plan: {scored.bits_per_dim:.4f} ± {scored.bits_per_dim_error:.4f} bits/dim" in str(found)


def test_streams_of_a_codec_model_decode_and_cost_their_bits():
    x = torch.randint(256, (2, 3, 8, 8), generator=generator())
    nats, _, same = by_codec("pictures-small", x)
    made = registry.coder("pictures-small")
    bits = [one.bits for (one,) in made.encode([v.numpy().astype("u1")] for v in x)]
    assert same
    assert all(b < n / LN2 < b + 80 for n, b in zip(nats.tolist(), bits, strict=True))


def test_impossible_values_are_infinite_and_stop_nothing():
    model = ardm.wrap(lambda v, d: torch.tensor([0.0, -math.inf]).expand(*v.shape, 2), (4,), 2)
    found = audit.report(model, X[3:7], states=8)
    assert found.figure("exact along the plan").nats == math.inf
    assert "impossible" in next(c.detail for c in found.checks if c.name.startswith("a stream"))
    assert found.sound
    assert json.dumps(found.to_values(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"x": torch.zeros(2, 5).long()}, "items of shape"),
        ({"x": torch.rand(2, 4)}, "whole numbers"),
        ({"x": torch.full((2, 4), 2)}, "values in 0..1"),
        ({"passes": 0}, "passes"),
        ({"budgets": [9]}, "1 to 4 calls"),
        ({"budgets": 9}, "1 to 4 calls"),
        ({"decode": 3}, "decode is a function from the ids of an item to its text; got 3"),
        ({"order": "spiral"}, "spiral"),
    ],
)
def test_bad_input_is_refused(options, said):
    model = ardm.wrap(lambda v, d: torch.zeros(*v.shape, 2), (4,), 2)
    with pytest.raises(ardm.ArdmError, match=said):
        audit.report(model, **({"x": X[:4], "states": 4} | options))


# --- the command -------------------------------------------------------------------------------------------------------


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    make_data(folder)
    for name, options in {"any": {}, "fixed": {"fixed": True}, "wave": {"wave": True}}.items():
        make_model(folder / name, **options)
    return folder


SMALL = ("--data", "array", "--items", 3, "--streams", 1, "--passes", 2, "--plans", 2, "--calls", 6)


def test_the_command_prints_writes_and_draws(folder, tmp_path):
    out, picture = tmp_path / "a.json", tmp_path / "a.png"
    said = run(folder / "any", *SMALL, "--folder", folder, "--budgets", "3,6", "--json", out, "--plot", picture)
    for text in ("any-order bound", "multi-order bound", "exact", "coded", "planned", "ECE", "sound: no check failed"):
        assert text in said
    values = json.loads(out.read_text())
    assert values["sound"]
    assert [b["calls"] for b in values["budgets"]] == [3, 6]
    assert values["about"]["versions"]["ardm"] == ardm.__version__
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "exists" in run(folder / "any", *SMALL, "--folder", folder, "--json", out, code=2)


@pytest.mark.parametrize("name", ["fixed", "wave"])
def test_models_of_one_order_have_no_bound(folder, name):
    options = [o for o in SMALL if o not in ("--calls", 6)]
    said = run(folder / name, *options, "--folder", folder)
    assert "any-order bound" not in said
    assert "sound: no check failed" in said


def test_the_command_exits_with_1_and_the_reason(folder, monkeypatch):
    def near(self, features, value, depth, digit, position=None):
        return -features.hidden[:, 0].abs() * 0 - 0.5 * (digit != digit.roll(1))

    monkeypatch.setattr(type(ardm.load(folder / "any").model.head), "log_prob", near)
    said = run(folder / "any", *SMALL, "--folder", folder, code=1)
    assert "unsound: hidden values do not matter" in said


CLAIM = """
import math, torch

def honest(x):
    return torch.full((len(x),), 4 * math.log(2))

def dependent(x):  # masked loss of equal coins with their joint distribution: 1/4 of the entropy
    return torch.where((x == x[:, :1]).all(1), math.log(2) / 4, math.inf)
"""


def test_the_command_tests_claims(tmp_path):
    (tmp_path / "mine.py").write_text(CLAIM)
    assert "sound" in run(f"{tmp_path / 'mine.py'}:honest")
    out = tmp_path / "claim.json"
    said = run(f"{tmp_path / 'mine.py'}:dependent", "--json", out, code=1)
    assert "equal: the claim averages 0.2500" in said
    assert json.loads(out.read_text())["sound"] is False
    assert "no function" in run(f"{tmp_path / 'mine.py'}:none", code=2)
    assert "no Python file" in run(f"{tmp_path / 'yours.py'}:none", code=2)


def test_what_prevents_an_audit_exits_with_2(folder, tmp_path):
    assert "no float model" in run("nowhere", code=2)
    assert run(folder / "any", "--data", "array", "--folder", tmp_path / "none", code=2)
    run(folder / "any", "--items", "many", code=2)
