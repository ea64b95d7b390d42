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
        import page
        import rates
        import run

        yield {"claims": claims, "common": common, "page": page, "rates": rates, "run": run}
    finally:
        sys.path.remove(str(REPORT))


def curve_of(D=32, low=0.5, high=3.0):
    from ardm.schedule import LossCurve

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

    text = common.Result("text-any-order", budget={"steps": 9, "batch": 8, "parameters": 7, "processor_seconds": 60.0})
    text.add("full calls", 2.5, 0.01, "bits/dim", True)
    for calls in (5, 10, 20):
        text.add(f"{calls} calls, as planned on held-out losses", 2.6, unit="bits/dim")
    text.add("20 calls", 2.61, 0.02, "bits/dim", True)
    rates.shape(text, curve_of())
    rates.table(text, Bundle(), curve_of(), curve_of())
    text.add("difference, 8 known", 0.01, 0.02, "bits/symbol")
    text.save("python benchmarks/report/run.py text-any-order", tmp_path)
    density = common.Result("density-dna", budget={"steps": 9, "batch": 8, "parameters": 7, "processor_seconds": 60.0})
    for key in report["page"].OURS.values():
        density.add(key, 81.0, 0.2, "nats/item", True)
    density.save("python benchmarks/report/run.py density-dna", tmp_path)
    return common.read(tmp_path)


def test_every_claim_has_an_entry_and_what_it_needs_can_be_measured(report):
    claims = report["claims"].CLAIMS
    assert [c.key for c in claims] == [f"C{n}" for n in range(1, 27)]
    assert {name for c in claims for name in c.needs} <= set(report["run"].ALL)


def test_a_claim_without_its_results_is_not_reached_and_says_what_would_measure_it(report):
    claims = report["claims"]
    for claim in claims.CLAIMS:
        verdict, why = claim.verdict({})
        assert verdict == claims.UNREACHED
        assert why
        assert not claim.needs or all(name in claim.command for name in claim.needs)


def test_committed_results_say_their_circumstances_and_every_verdict_can_be_drawn(report):
    found = report["common"].read()
    for name, result in found.items():
        assert result["name"] == name
        assert {"command", "seed", "versions", "machine", "seconds", "date", "budget"} <= set(result)
        for figure in result["figures"].values():
            assert {"value", "unit", "is_bound"} <= set(figure)
    claims = report["claims"]
    for claim in claims.CLAIMS:
        assert claim.verdict(found)[0] in (claims.HOLDS, claims.FAILS, claims.UNREACHED)


def test_verdicts_follow_from_figures(report, results):
    claims = {c.key: c for c in report["claims"].CLAIMS}
    holds, fails, unreached = (getattr(report["claims"], n) for n in ("HOLDS", "FAILS", "UNREACHED"))
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
