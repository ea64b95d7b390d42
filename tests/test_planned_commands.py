"""The commands of planned codec models: searching an order, any number of calls, previews."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ardm
from ardm import likelihood
from ardm.bundle import load
from ardm.cli.app import app
from ardm.cli.orders import folder_of
from ardm.codec import registry
from ardm.errors import ArdmError
from ardm.exact.model import NAME
from ardm.exact.reference import Reference
from ardm.export.coding import coding, fastest_first
from ardm.export.search import drawn, name_of, named, regular, search
from ardm.losscurve import LossCurve
from ardm.plan import ranked
from linemodels import bundle as table
from test_planned_codec import SHAPE, pictures, upscaling


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + str(result.exception)
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The folder of the upscaling model with its codec, run by the NumPy reference, which starts at once."""
    bundle, codec = upscaling()
    folder = bundle.save(tmp_path / "model")
    codec.save(folder / NAME)
    monkeypatch.setattr(registry, "_machine", lambda identity, argument, *how: Reference(argument.model.program))
    return folder


def rows():
    every = np.array(list(itertools.product(range(3), range(2), range(5))))
    return torch.from_numpy(np.random.default_rng(0).permutation(every)[:16])


def any_order_table():
    return ardm.Bundle(table("table", columns=(3, 2, 5)).model, table("table", columns=(3, 2, 5)).config,
                       curve=LossCurve.exact([[2.0, 1.5, 1.0]]))  # fmt: skip


# --- what a folder holds ----------------------------------------------------------------------------------------------


def test_orders_have_names():
    shape = (3, 8, 8)
    for name, ranks in [*regular(shape, 0).items(), *regular(shape, 2).items(), *drawn(shape, 32, 0).items()]:
        assert name_of(ranks) == name
    rates = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert name_of(fastest_first(rates), rates) == "rates"
    assert name_of(fastest_first(rates)) == ""
    assert name_of(drawn((5,), 3, 0)["random 3"]) == "random 3"


def test_models_shows_orders_and_schedules(model, tmp_path):
    bundle, codec = upscaling()
    held = ",".join(map(str, codec.budgets))
    said = run("models", model)
    assert f"{model} {bundle.identity} models image of {'x'.join(map(str, SHAPE))}" in said
    assert "in any order order: random 1, none is stored" in said
    assert f"order: random 1; holds the schedules of {held} calls, plans others from 2 to {codec.planned.most}" in said
    for name, ranks in {
        "halton": regular(SHAPE, 0)["halton"],
        "one of its own": drawn(SHAPE, 1, 7)["random 1"],
    }.items():
        dataclasses.replace(bundle, ranks=ranks, curve=None).save(tmp_path / "own")
        said = run("models", tmp_path / "own")
        assert f"order: {name}, stored; no losses to plan with" in said
    table("text").save(tmp_path / "text")
    assert "values, from left to right" in run("models", tmp_path / "text")
    assert "there is no codec model" in run("models", tmp_path, code=4)
    assert f"`ardm models {model}` shows its orders" in run("list", model, code=1)


# --- the search -------------------------------------------------------------------------------------------------------


def test_the_search_finds_the_cheapest_order():
    """Prices are exact code lengths in planned steps; the gain is that of items which did not choose."""
    bundle, x = any_order_table(), rows()
    starts = coding(bundle).planned.starts(2)
    found = search(bundle, x, 2, 24)

    def bits(ranks, items):
        plan = ranked(torch.from_numpy(ranks), (3,)).coarsen(starts)
        return likelihood.exact(bundle.model, plan, items).nats.numpy() / np.log(2) / 3

    orders = drawn((3,), 24, 0)
    assert len({tuple(ranks) for ranks in orders.values()}) == 6, "all of them"
    price = {name: bits(ranks, x[::2]).mean() for name, ranks in orders.items()}
    prices = {name: estimate.nats.numpy() / np.log(2) / 3 for name, estimate in found.prices.items()}
    assert found.prices[found.best].bits_per_dim == pytest.approx(min(price.values()))
    assert np.allclose(prices["random 3"], bits(orders["random 3"], x[::2]))
    assert np.allclose(
        found.random.nats.numpy() / np.log(2) / 3, np.mean([bits(r, x[::2]) for r in orders.values()], axis=0)
    )
    rest = np.mean([bits(r, x[1::2]) for r in orders.values()], axis=0) - bits(found.ranks, x[1::2])
    assert np.allclose(found.gain.nats.numpy() / np.log(2) / 3, rest)
    assert found.gain.bits_per_dim_error == pytest.approx(rest.std(ddof=1) / 8**0.5)


def test_candidates_are_orders_and_the_stored_one_is_among_them():
    bundle, _ = upscaling()
    stored = ardm.Bundle(bundle.model, bundle.config, curve=bundle.curve, ranks=drawn(SHAPE, 1, 7)["random 1"])
    found = named(stored)
    assert {"bayer", "halton, by channels", "stored"} < set(found)
    for ranks in found.values():
        assert np.array_equal(np.sort(ranks, axis=None), np.arange(192))
    assert np.array_equal(drawn(SHAPE, 3, 7)["random 1"], found["stored"]), "whatever their number"


def test_what_cannot_be_searched_is_refused():
    bundle, x = any_order_table(), rows()
    with pytest.raises(ArdmError, match="four items and one random order"):
        search(bundle, x[:3], 2, 4)
    with pytest.raises(ArdmError, match="1 to 3 network calls; got 4"):
        search(bundle, x, 4, 4)
    with pytest.raises(ArdmError, match="no loss curve"):
        search(ardm.Bundle(bundle.model, bundle.config), x, 2, 4)
    with pytest.raises(ArdmError, match="an order of its own"):
        search(table("classic"), x, 2, 4)


def test_a_stored_order_is_kept_sampled_along_and_exported(tmp_path):
    bundle, _ = upscaling()
    ranks = drawn(SHAPE, 1, 3)["random 1"]
    stored = ardm.Bundle(bundle.model, bundle.config, curve=bundle.curve, ranks=ranks)
    again = load(stored.save(tmp_path / "m"))
    assert np.array_equal(again.ranks, ranks)
    assert again.identity == stored.identity != bundle.identity
    assert np.array_equal(coding(again).planned.ranks, ranks)
    plan = ardm.make_plan(again, 20, "own")
    assert len(plan) == 20
    for when in plan.when[0].numpy():
        assert (np.diff(when.ravel()[np.argsort(ranks, axis=None)]) >= 0).all()
    with pytest.raises(ArdmError, match=r"each of 0\.\.191 once"):
        ardm.Bundle(bundle.model, bundle.config, ranks=ranks * 0)
    with pytest.raises(ArdmError, match="an order of its own"):
        ardm.Bundle(table("classic").model, table("classic").config, table("classic").order, ranks=np.arange(3))


def test_plan_searches_prints_and_stores(tmp_path, model):
    np.save(tmp_path / "valid.npy", np.stack([c.samples for c in pictures(4)]))
    data = ["--data", "array", "--folder", tmp_path, "--items", 4, "--orders", 1, "--calls", 2]
    said = run("plan", model, *data, "--into", tmp_path / "better")
    assert "less than random orders" in said
    assert "mean of random orders" in said
    best = re.search(r"stored the order '(.*?)'", said)[1]
    assert f"{best} *" in said
    assert load(tmp_path / "better").ranks is not None
    assert load(model).ranks is None
    assert folder_of("cifar10-any-order", None, store=False) is None
    assert "give one of them" in run("plan", model, *data, "--no-store", "--into", tmp_path / "x", code=1)
    unread = ["-o", "s.json", "--show", 0, "--kind", "joint"]
    assert "no use for --kind, --show, --out" in run("plan", model, *data, *unread, code=1)
    unread = ["data.folder=x", "--into", "y", "--device", "cpu", "--split", "valid"]
    assert "data., --split, --into, --device needs --orders" in run("plan", model, *unread, code=1)
    assert "no folder to store" in run("plan", "cifar10-any-order", *data, code=1)


# --- files ------------------------------------------------------------------------------------------------------------


def test_any_number_of_calls_and_a_preview_by_the_command_line(tmp_path, model):
    x = pictures()[0].samples
    picture = tmp_path / "x.png"
    Image.fromarray(x.transpose(1, 2, 0)).save(picture)
    said = run("compress", "-m", model, "-K", 6, picture)
    assert "6 calls" in said
    run("decompress", "-m", model, "x.png.ardm".join([f"{tmp_path}/", ""]), "-o", tmp_path / "y.png")
    assert np.array_equal(np.array(Image.open(tmp_path / "y.png")), x.transpose(1, 2, 0))
    said = run("decompress", "-m", model, f"{picture}.ardm", "--digits", 1)
    assert "preview by the first 1 digit of each value; its checksum was not verified" in said
    assert np.array_equal(np.array(Image.open(tmp_path / "x.preview.png")).transpose(2, 0, 1), x // 16 * 16 + 8)
    assert "reads 1 to 1, got 3" in run("decompress", "-m", model, f"{picture}.ardm", "--digits", 3, "-f", code=1)
    assert "leave out --rm" in run("decompress", "--digits", 1, "--rm", f"{picture}.ardm", "-m", model, code=1)
    assert "2 to 384 network calls; got 385" in run("compress", "-m", model, "-K", 385, picture, "-f", code=1)
    run("compress", "-m", model, picture, "--archive", tmp_path / "a.ardm")
    assert "--digits is for single files" in run("decompress", "-m", model, tmp_path / "a.ardm", "--digits", 1, code=1)
