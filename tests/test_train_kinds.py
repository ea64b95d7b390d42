"""Training of texts, sounds, tables and baselines: what each objective learns, and that it resumes as if nothing happened."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ardm import data
from ardm.bundle import load
from ardm.data import Dataset
from ardm.errors import ArdmError
from ardm.models.causal import CausalModel
from ardm.models.config import ModelConfig, preset
from ardm.orders import OrderConfig
from ardm.settings import from_values
from ardm.train.log import Log
from ardm.train.matching import fitted
from ardm.train.objectives import Causal, choose
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts that count: 0 1 2 3 4 5 0 1 …, from anywhere, so that one symbol determines all others."""
    path = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, number in (("train", 64), ("valid", 16)):
        np.save(path / f"{name}.npy", ((rng.integers(6, size=(number, 1)) + np.arange(8)) % 6).astype(np.uint8))
    return path


def recipe(folder, size="text-tiny", model=None, order=None, **train):
    settings = {"steps": 12, "batch": 8, "warmup": 4, "rate": 5e-3, "valid_every": 6, "valid_items": 8, "save_every": 4}
    return Recipe(
        "tiny",
        preset(size, **{"width": 16, **({"heads": 2} if "text" in size else {}), **(model or {})}),
        order or OrderConfig(),
        DataConfig("array", str(folder), "train", "valid"),
        TrainConfig(**{**settings, **train}),
    )


def run(recipe, where, resume=False):
    trainer = Trainer(recipe, where, resume, device="cpu")
    return trainer, list(trainer)


KINDS = {
    "text": ("text-tiny", {}, {}, "any-order bound"),
    "classic": ("text-tiny", {"style": "classic", "positions": "learned"}, {}, "any-order bound"),
    "absorbing": ("text-tiny", {}, {"objective": "absorbing", "diffusion_steps": 20}, "any-order bound"),
    "single": ("text-tiny", {"causal": "single"}, {}, "exact"),
    "permuted": ("text-tiny", {"causal": "any"}, {"objective": "all"}, "any-order bound"),
    "sound": ("audio-tiny", {"head": "values"}, {}, "any-order bound"),
    "sound, single": ("audio-tiny", {"head": "values", "causal": "single"}, {}, "exact"),
    "table": ("table", {"blocks": 1}, {}, "any-order bound"),
}


QUICK = ("text", "single", "table")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in KINDS])
def test_it_learns(folder, tmp_path, name):
    size, model, train, estimator = KINDS[name]
    made = recipe(folder, size, model, steps=80, valid_every=80, batch=16, ema=0.9, rate=1e-2, **train)
    trainer, steps = run(made, tmp_path / "run")
    assert steps[-1].valid < (2.0 if name == "classic" else 1.6), "log2(6) = 2.58 bits know nothing"
    assert steps[-1].estimator == estimator
    assert trainer.recipe.model.shape == (8,)
    assert trainer.recipe.model.classes == 6
    bundle = load(tmp_path / "run" / "model")
    assert bundle.config == trainer.recipe.model
    assert (bundle.curve is None) == isinstance(bundle.model, CausalModel) == bool(bundle.config.causal)


@pytest.mark.parametrize("name", ["text", "absorbing", "single", "permuted", "table"])
def test_stopping_and_resuming_changes_nothing(folder, tmp_path, name):
    size, model, train, _ = KINDS[name]
    made = recipe(folder, size, {**model, "dropout": 0.1}, **train)
    whole, steps = run(made, tmp_path / "whole")
    first = Trainer(made, tmp_path / "parts", device="cpu")
    for progress in first:
        if progress.step == 5:
            break
    first.save()
    second, rest = run(made, tmp_path / "parts", resume=True)
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in steps[5:]]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    for key, value in whole.curve.state().items():
        assert np.array_equal(value, second.curve.state()[key]), key
    fit = from_values(Recipe, whole.recipe.to_dict())
    assert fit == whole.recipe, "with what it took from the data"


def test_absorbing_diffusion_observes_the_loss_curve(folder, tmp_path):
    made = recipe(folder, objective="absorbing", diffusion_steps=1000, steps=30, batch=32, valid_every=30)
    trainer, _ = run(made, tmp_path / "run")
    assert 800 < trainer.curve.seen.sum() <= 30 * 32
    drawn = trainer.draw(0)
    assert sorted(drawn["time"].tolist())[::31] == pytest.approx([16, 985], abs=16), "low-discrepancy over the steps"


def test_random_orders_are_drawn_for_the_whole_batch(folder, tmp_path):
    trainer = Trainer(recipe(folder, model={"causal": "any"}), tmp_path / "run", device="cpu")
    rank = trainer.draw(3)["rank"]
    assert torch.equal(rank.sort(1).values, torch.arange(8).expand(8, 8))
    assert not torch.equal(rank, trainer.draw(4)["rank"])
    assert len({tuple(r.tolist()) for r in rank}) > 1


@pytest.mark.parametrize(
    ("model", "train", "order", "message"),
    [
        ({}, {"objective": "all"}, None, "causal models learn all positions"),
        ({"causal": "single"}, {"objective": "absorbing"}, None, "causal models learn all positions"),
        ({"base": 2}, {"objective": "absorbing"}, None, "set model.base to 0"),
        ({}, {"objective": "absorbing"}, OrderConfig("raster"), "no fixed order"),
        ({"causal": "single"}, {}, OrderConfig("raster"), "causal models learn all positions"),
        ({"causal": "single"}, {"objective": "all"}, OrderConfig("raster"), "no fixed order"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(folder, tmp_path, model, train, order, message):
    with pytest.raises(ArdmError, match=message):
        Trainer(recipe(folder, model=model, order=order, **train), tmp_path / "run", device="cpu")


def test_unknown_objectives_are_refused():
    with pytest.raises(ArdmError, match="objective must be"):
        TrainConfig(objective="diffusion")
    with pytest.raises(ArdmError, match="diffusion_steps"):
        TrainConfig(diffusion_steps=0)
    assert isinstance(choose(ModelConfig(causal="any"), OrderConfig(), TrainConfig()), Causal)


# --- what is taken from the data --------------------------------------------------------------------------------------


TABLE = Dataset(torch.tensor([[0, 2, 1], [1, 0, 0], [1, 4, 1], [0, 3, 1]]), 5, "toy", columns=(2, 5, 2))


def test_a_recipe_takes_shape_classes_and_columns_of_the_data():
    made = fitted(Recipe(model=preset("table")), TABLE)
    assert (made.model.shape, made.model.classes, made.model.columns) == ((3,), 5, (2, 5, 2))
    assert fitted(made, TABLE) == made
    with pytest.raises(ArdmError, match=r"set model\.columns"):
        fitted(replace(made, model=replace(made.model, columns=())), TABLE)
    with pytest.raises(ArdmError, match=r"set model\.shape"):
        fitted(replace(made, model=replace(made.model, shape=(4,))), TABLE)
    with pytest.raises(ArdmError, match=r"set model\.classes"):
        fitted(replace(made, model=replace(made.model, classes=4)), TABLE)


def test_a_table_trains_with_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "of_config", lambda config, split, **_: TABLE)
    made = replace(recipe("."), model=preset("table", width=16, blocks=1))
    trainer, steps = run(made, tmp_path / "run")
    assert trainer.recipe.model.columns == (2, 5, 2)
    assert steps[0].valid is None
    assert np.isfinite(steps[-1].valid)
    assert load(tmp_path / "run" / "model").config.columns == (2, 5, 2)


def test_intensities_are_sampled_again_for_each_batch(tmp_path, monkeypatch):
    grey = Dataset(torch.tensor([[0, 128, 255, 64]] * 64, dtype=torch.uint8), 2, "grey", grey=True)
    fixed = Dataset(torch.randint(2, (8, 4), generator=torch.Generator().manual_seed(0)), 2, "fixed")
    made = replace(recipe(".", batch=64), model=preset("density", width=16, blocks=1))
    monkeypatch.setattr(data, "of_config", lambda config, split, **_: grey if split == "train" else fixed)
    trainer, seen = Trainer(made, tmp_path / "run", device="cpu"), []
    trainer.update.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    list(trainer)
    assert trainer.recipe.model.classes == 2
    x = torch.stack(seen).double()
    assert x[..., 0].max() == 0
    assert x[..., 2].min() == 1
    assert float(x[..., 1].mean()) == pytest.approx(0.5, abs=0.07)
    assert float(x[..., 3].mean()) == pytest.approx(0.25, abs=0.07)
    assert not torch.equal(x[0], x[1])


# --- samples on the way -----------------------------------------------------------------------------------------------


COUNTING = Dataset(torch.arange(97, 105).expand(8, 8), 128, "counting")
LOUD = Dataset((torch.arange(64).view(8, 8) * 1000), 1 << 16, "loud", rate=4000)
SQUARES = Dataset(torch.arange(16).view(1, 1, 4, 4).expand(8, -1, -1, -1), 16, "squares")
SAMPLES = {
    "text": (COUNTING, "text", preset("text-tiny", width=8, heads=1), ".txt"),
    "text of one order": (COUNTING, "text", preset("text-tiny", width=8, heads=1, causal="single"), ".txt"),
    "text in stages": (COUNTING, "text", preset("text-tiny", width=8, heads=1, base=2, head="digits"), ".txt"),
    "sound": (LOUD, "sounds", preset("audio-tiny", width=8, blocks=1), ".wav"),
    "table": (TABLE, "density", preset("table", width=8, blocks=1), ".csv"),
    "array": (COUNTING, "array", preset("text-tiny", width=8, heads=1), ".npy"),
    "picture": (SQUARES, "images", preset("centred-tiny", width=8, shape=(), classes=16), ".png"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_on_the_way_are_written_in_the_kind_of_the_data(tmp_path, monkeypatch, name):
    items, source, model, ending = SAMPLES[name]
    monkeypatch.setattr(data, "of_config", lambda config, split, **_: items)
    settings = {"steps": 2, "batch": 4, "valid_every": 9, "sample_every": 1, "save_every": 9, "tensorboard": True}
    made = replace(recipe("."), model=model, data=DataConfig(source), train=TrainConfig(**settings))
    for _ in range(2):  # a step that comes again after a kill writes its samples again
        trainer = Trainer(made, tmp_path, device="cpu")
        with Log(trainer) as log:
            for progress in trainer:
                log(progress)
                if progress.step == 2:
                    break
    found = {path.name: path for path in (tmp_path / "samples").iterdir()}
    assert sorted(found) == [f"000000{step}{ending}" for step in (1, 2)]
    path = found[f"0000002{ending}"]
    if ending == ".png":
        assert Image.open(path).size == (42, 42), "four by four pictures, twice as large, on a grid"
    elif ending == ".wav":
        assert int.from_bytes(path.read_bytes()[24:28], "little") == 4000, "the rate of the data"
    elif ending == ".csv":
        assert np.loadtxt(path, delimiter=",").shape == (16, 3)
    elif ending == ".npy":
        assert np.load(path).shape == (16, 8)
    else:
        assert path.read_bytes().decode().count("\n\n") >= 15, "sixteen texts"
