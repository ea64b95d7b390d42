"""The page of evidence: every claim has an entry, a verdict follows from figures, and the page is built of results alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

REPORT = Path(__file__).parents[1] / "benchmarks" / "report"

pytestmark = pytest.mark.skipif(not REPORT.is_dir(), reason="needs the checkout")


@pytest.fixture(scope="module")
def report():
    """The scripts, imported as they import each other."""
    sys.path.insert(0, str(REPORT))
    try:
        import claims
        import common
        import figures
        import page
        import rates
        import run

        yield {"claims": claims, "common": common, "figures": figures, "page": page, "rates": rates, "run": run}
    finally:
        sys.path.remove(str(REPORT))


def curve_of(D=32, low=0.5, high=3.0):
    from ardm.losscurve import LossCurve

    return LossCurve.exact(np.linspace(high, low, D)[None])


@pytest.fixture
def results(report, tmp_path):
    """Two stand-ins: a trained text model, and one set of the classic benchmark."""
    common, rates = report["common"], report["rates"]

    class Model:
        digits = (None,)
        shape = (32,)

    class Bundle:
        model = Model()

    text = common.Result(
        "text-any-order",
        budget={"steps": 9, "batch": 8, "parameters": 7, "processor_seconds": 60.0, "wall_seconds_last": 70.0},
    )
    text.add("full calls", 2.5, 0.01, "bits/dim", True)
    for calls in (5, 10, 20):
        text.add(f"{calls} calls, as planned on held-out losses", 2.6, unit="bits/dim")
    text.add("20 calls", 2.61, 0.02, "bits/dim", True)
    rates.shape(text, curve_of())
    rates.table(text, Bundle(), curve_of(), curve_of())
    text.add("difference, 8 known", 0.01, 0.02, "bits/symbol")
    text.save("python benchmarks/report/run.py text-any-order", tmp_path)
    density = common.Result(
        "density-dna",
        budget={"steps": 9, "batch": 8, "parameters": 7, "processor_seconds": 60.0, "wall_seconds_last": 70.0},
    )
    for key in report["page"].OURS.values():
        density.add(key, 81.0, 0.2, "nats/item", True)
    density.save("python benchmarks/report/run.py density-dna", tmp_path)
    return common.read(tmp_path)


def test_every_claim_has_an_entry_and_what_it_needs_can_be_measured(report):
    claims = report["claims"].CLAIMS
    assert [c.key for c in claims] == [f"C{n}" for n in range(1, 27)]
    assert {name for c in claims for name in c.needs} <= set(report["run"].ALL)


def test_a_claim_without_its_results_is_not_reached_and_says_what_would_measure_it(report):
    for claim in report["claims"].CLAIMS:
        verdict, why = claim.verdict({})
        assert verdict == report["figures"].UNREACHED
        assert why
        assert not claim.needs or all(name in claim.command for name in claim.needs)


def test_committed_results_say_their_circumstances_and_every_verdict_can_be_drawn(report):
    found = report["common"].read()
    for name, result in found.items():
        assert result["name"] == name
        assert {"command", "seed", "versions", "machine", "seconds", "date", "budget"} <= set(result)
        for figure in result["figures"].values():
            assert {"value", "unit", "is_bound"} <= set(figure)
    said = report["figures"]
    for claim in report["claims"].CLAIMS:
        assert claim.verdict(found)[0] in (said.HOLDS, said.FAILS, said.UNREACHED)


def test_verdicts_follow_from_figures(report, results):
    claims = {c.key: c for c in report["claims"].CLAIMS}
    holds, fails, unreached = (getattr(report["figures"], n) for n in ("HOLDS", "FAILS", "UNREACHED"))
    assert claims["C8"].verdict(results)[0] == holds
    assert claims["C11"].verdict(results)[0] == fails  # a straight line from 3 to 0.5 nats is dear in few calls
    flat = json.loads(json.dumps(results))
    for row in flat["text-any-order"]["tables"]["losses"]:
        row["bits"] = [4.0] * len(row["bits"])
    assert claims["C11"].verdict(flat)[0] == unreached  # one that learned nothing proves nothing


def test_planned_rates_lie_below_uniform_and_absorbing_ones_and_meet_them_at_full_calls(results):
    rates = results["text-any-order"]["tables"]["rates"]
    assert rates["calls"][0] == 1
    assert rates["calls"][-1] == 32
    for kind in ("uniform", "absorbing"):
        assert all(p <= q + 1e-5 for p, q in zip(rates["planned"], rates[kind], strict=True))
    assert rates["planned"][-1] == pytest.approx(rates["uniform"][-1])


def test_the_page_is_built_from_results_alone(report, results, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for name, found in results.items():
        (folder / f"{name}.json").write_text(json.dumps(found))
    report["page"].main(["--results", str(folder), "--docs", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "report.md").read_text()
    for n in range(1, 27):
        assert f"| C{n} |" in text
    assert "81.00 ± 0.20" in text
    assert "2.500 ± 0.010" in text
    assert "miniatures" in text
    for picture in ("density.png", "rates-text.png"):
        assert f"pictures/report/{picture}" in text
        assert (tmp_path / "docs" / "pictures" / "report" / picture).stat().st_size > 5000


def test_ensembles_are_means_of_likelihoods(report):
    import torch
    from density import mixed

    nats = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    wanted = -torch.log(torch.exp(-nats).mean(0))
    torch.testing.assert_close(mixed(nats), wanted)


def test_networks_together_are_the_normalised_geometric_mean_of_their_conditionals(report):
    import torch
    from density import together

    from ardm import likelihood
    from ardm.digits import Sites
    from ardm.models.build import build
    from ardm.models.config import preset
    from ardm.plan import Plan

    config = preset("density", shape=(5,), classes=2, width=8, blocks=1, embedding=2)
    models = [build(config, seed).eval() for seed in range(3)]
    for m, model in enumerate(models):
        model.body.trunk.out.weight.data = torch.randn(10, 8, generator=torch.Generator().manual_seed(m))
    one = together(models)
    x = torch.cartesian_prod(*[torch.arange(2)] * 5)
    rank = torch.tensor([3, 0, 4, 1, 2])
    nats = likelihood.exact(one, Plan(rank[None, None]), x).nats
    assert float(torch.exp(-nats).sum()) == pytest.approx(1)
    chain = torch.zeros(len(x), dtype=torch.double)
    for step in range(5):
        state = one.digits.truncate(x, (rank < step).long().expand_as(x))
        site = int((rank == step).nonzero())
        asked = Sites(torch.arange(len(x)) * 5 + site, 5)
        odds = torch.stack([m(state)[asked].double() for m in models]).mean(0)
        chain -= odds.log_softmax(-1).gather(1, x[:, site, None])[:, 0]
    torch.testing.assert_close(nats.double(), chain, rtol=1e-5, atol=1e-5)
    assert together(models[:1]) is models[0]


def test_what_a_few_items_gain_is_taken_from_the_figure_of_all(report):
    import torch
    from density import gained

    result = report["common"].Result("x")
    gained(result, "y", (10.0, 0.3), torch.tensor([1.0, 2.0, 3.0, 4.0]), "")
    found = result.figures["y"]
    assert found["value"] == pytest.approx(7.5)
    assert found["error"] == pytest.approx((0.3**2 + (5 / 3) / 4) ** 0.5, abs=1e-3)


def test_results_of_former_settings_are_named(report):
    page, found = report["page"], json.loads(json.dumps(report["common"].read()))
    budget = found["density-nips"]["budget"]
    assert "density-nips" not in page.former(found)
    budget["overrides"] = budget["overrides"][:1]
    assert "density-nips" in page.former(found)
    assert "text-causal" not in page.former(found)
    found["text-causal"]["budget"]["steps"] += 1
    assert "text-causal" in page.former(found)


def test_the_page_lists_what_differs_from_the_last_report(report, results):
    page = report["page"]
    text = page.changes(results)
    assert "| density-dna, 16 orders | 78.84 ± 0.13 | 81.00 ± 0.20 |" in text
    assert "| C8," not in text  # holds, as before
    assert "| C9, better than the causal order-agnostic Transformer | holds | not reached here |" in text


# --- every verdict can go the other way -------------------------------------------------------------------------------


def put(name, value, *keys):
    """Figures, by the beginning of their keys, get this value and no error."""

    def change(results):
        figures = results[name]["figures"]
        found = [k for k in figures if k.startswith(keys)]
        assert found, f"{name} has no figure {keys}"
        for key in found:
            figures[key]["value"] = value
            figures[key].pop("error", None)

    return change


def shift(**amounts):
    """Results (dashes as underscores), bits a dimension more at full calls, on every item."""

    def change(results):
        for name, amount in amounts.items():
            own = results[name.replace("_", "-")]
            own["figures"]["full calls"]["value"] += amount
            own["tables"]["items"] = [bits + amount for bits in own["tables"].get("items", [])]

    return change


def rates(name, kind, amount, calls=lambda n: True):
    """Rates of one kind of schedule, more by so many bits at some numbers of calls."""

    def change(results):
        table = results[name]["tables"]["rates"]
        for i, n in enumerate(table["calls"]):
            if calls(n):
                table[kind][i] += amount

    return change


def level(value, *names, key="headerless"):
    """Codecs of the table of CIFAR-10 files."""

    def change(results):
        for row in results["bundled-coding"]["tables"]["codecs"]:
            if row["name"] in names:
                row[key] = value

    return change


def coded(name, kind, calls, amount):
    """Bits of every item of a codec along planned schedules, more by so many."""

    def change(results):
        bits = results[name]["tables"]["bits"][kind]
        bits[calls] = [own + amount for own in bits[calls]]

    return change


def full(n):
    return n > 1000


TURNS = {
    "C1": (put("enumeration", 1e-3, "greatest difference"), "FAILS"),
    "C2": (put("leak", 0.1, "greatest change"), "FAILS"),
    "C3": (put("step-time", 2.0, "network calls"), "FAILS"),
    "C4": (put("text-any-order", 1.0, "greatest rise"), "FAILS"),
    "C5": (put("text-any-order", 1.0, "difference"), "FAILS"),
    "C6": (rates("bundled-curve", "uniform", -0.5), "FAILS"),
    "C7": (rates("text-any-order", "absorbing", -0.5), "FAILS"),
    "C8": (put("text-any-order", 9.0, "absorbing, same network"), "FAILS"),
    "C9": (shift(text_any_order=1.0), "FAILS"),
    "C10": (shift(text_one_order=2.0), "FAILS"),
    "C11": (rates("text-any-order", "planned", -0.08, lambda n: n < 100), "HOLDS"),
    "C12": (shift(images_upscale_2=0.5), "HOLDS"),
    "C13": (shift(speech_upscale_4=-0.5), "HOLDS"),
    "C14": (rates("speech-upscale-4", "planned", -0.4, lambda n: n < 20), "HOLDS"),
    "C15": (shift(images_upscale_4_values=0.3), "FAILS"),
    "C16": (shift(text_upscale_3=-2.0), "FAILS"),
    "C17": (put("bundled-coding", 1.0, "round trips that failed"), "FAILS"),
    "C18": (coded("planned-any-order", "code", "100", 1.0), "FAILS"),
    "C19": (put("bundled-orders", 1.0, "random orders, standard deviation without"), "FAILS"),
    "C20": (level(3.2, "ardm -7", key="bits"), "HOLDS"),
    "C21": (put("continuous-time", 1.0, "greatest"), "FAILS"),
    "C22": (shift(images_any_order_ce=0.1), "FAILS"),
    "C23": (put("bundled-filling", 1.0, "red and green: given values"), "FAILS"),
    "C24": (rates("bundled-curve", "planned", 1.0, full), "FAILS"),
    "C25": (shift(speech_any_order_3=0.5), "FAILS"),
    "C26": (rates("images-upscale-4", "planned", -1.0, lambda n: n < 200), "FAILS"),
}


@pytest.mark.parametrize("key", TURNS)
def test_every_verdict_turns_with_its_figures(report, key):
    claim = next(c for c in report["claims"].CLAIMS if c.key == key)
    found = json.loads(json.dumps(report["common"].read()))
    if any(name not in found for name in claim.needs):
        pytest.skip("not measured")
    change, expected = TURNS[key]
    expected = getattr(report["figures"], expected)
    assert claim.verdict(found)[0] != expected
    change(found)
    assert claim.verdict(found)[0] == expected


def test_the_page_in_the_repository_is_that_of_the_results_in_it(report):
    page = report["page"]
    assert (page.DOCS / "report.md").read_text() == page.page(report["common"].read()), "run benchmarks/report/page.py"


def test_the_spread_of_orders_is_freed_of_what_few_images_add(report):
    from bundled import between

    draw = np.random.default_rng(0)
    images, chance = draw.normal(3, 1, (1, 20)), draw.normal(0, 0.1, (4000, 20))
    assert between(images + chance) < 0.005  # the means over 20 images alone have 0.1 / √20 = 0.022
    assert between(images + chance + draw.normal(0, 0.05, (4000, 1))) == pytest.approx(0.05, rel=0.05)
