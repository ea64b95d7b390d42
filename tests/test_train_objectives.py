"""Objectives: one class each, chosen by name, model and order; a new one needs nothing but itself."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import ardm.train
from ardm import likelihood, objective
from ardm.errors import ArdmError
from ardm.models.config import ModelConfig, preset
from ardm.orders import OrderConfig
from ardm.train import objectives
from ardm.train.batch import Batch
from ardm.train.objectives import Absorbing, AlongPlan, AnyOrder, Causal, Objective, choose
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer

PLAN = OrderConfig("raster", (6,), cell=6)


class OneHidden(Objective):
    """Pseudolikelihood: one random site is hidden, all others are known."""

    names = ("one hidden",)

    def draw(self, items, generator, given=None):
        D = self.model.sites
        return {"rank": torch.rand(items, D, generator=generator, device="cpu").argsort(1)}

    def score(self, network, batch):
        stage = torch.zeros(len(batch.x), dtype=torch.long)
        steps = objective.Steps(stage, stage + self.model.sites - 1, batch.draws["rank"])
        return objective.bound_step(network, batch.x, steps, context=batch.labels)

    def validate(self, network, batch, generator):
        return likelihood.bound(network, batch.x, 1, generator, context=batch.labels)


@pytest.fixture
def recipe(tmp_path):
    rng = np.random.default_rng(0)
    for name, number in (("train", 64), ("valid", 16)):
        np.save(tmp_path / f"{name}.npy", ((rng.integers(6, size=(number, 1)) + np.arange(6)) % 6).astype(np.uint8))

    def make(**train):
        settings = {"steps": 40, "batch": 16, "warmup": 2, "rate": 1e-2, "valid_every": 20, "save_every": 20, **train}
        source = DataConfig("array", str(tmp_path), "train", "valid")
        return Recipe("tiny", preset("table", width=16, blocks=1), OrderConfig(), source, TrainConfig(**settings))

    return make


def test_a_new_objective_needs_only_its_class(recipe, tmp_path, monkeypatch):
    with pytest.raises(ArdmError, match=r"objective must be one of steps, absorbing, all; got 'one hidden'"):
        recipe(objective="one hidden")
    monkeypatch.setattr(objectives, "OBJECTIVES", [*objectives.OBJECTIVES, OneHidden])
    made = recipe(objective="one hidden")
    trainer = Trainer(made, tmp_path / "run", device="cpu")
    steps = list(trainer)
    assert isinstance(trainer.objective, OneHidden)
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].valid is not None
    assert trainer.bundle().curve is None, "it observes no losses of any order"

    parts = Trainer(made, tmp_path / "parts", device="cpu")
    for progress in parts:
        if progress.step == 21:
            break
    rest = list(Trainer(made, tmp_path / "parts", resume=True, device="cpu"))
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in steps[20:]]


@pytest.mark.parametrize(
    ("model", "order", "name", "kind"),
    [
        ({}, OrderConfig(), "steps", AnyOrder),
        ({"base": 2}, OrderConfig(), "steps", AnyOrder),
        ({}, PLAN, "steps", AlongPlan),
        ({}, OrderConfig(), "absorbing", Absorbing),
        ({"causal": "single"}, OrderConfig(), "steps", Causal),
        ({"causal": "any"}, OrderConfig(), "all", Causal),
    ],
)
def test_model_order_and_name_choose(model, order, name, kind):
    made = choose(preset("text-tiny", shape=(6,), classes=6, **model), order, TrainConfig(objective=name))
    assert type(made) is kind


@pytest.mark.parametrize("kind", [AnyOrder, Absorbing])
def test_what_is_observed_is_a_step_of_the_curve(kind):
    """Every item of every draw: the stage, and how many sites were left known."""
    config, options = ModelConfig(shape=(6,), classes=6, trunk="mlp", head="values"), TrainConfig(diffusion_steps=9)
    made, x = kind(config, OrderConfig(), options), torch.zeros(64, 6, dtype=torch.long)
    draws = made.draw(64, torch.Generator().manual_seed(0))
    hidden = torch.arange(64) % 7 if kind is Absorbing else 6 - draws["known"]
    scored = objective.Scored(x[:, 0].double(), hidden * 0.5, hidden, hidden)
    stage, known, nats, symbols = made.observe(Batch(x, draws, None), scored)
    assert torch.equal(stage, torch.zeros(64, dtype=torch.long))
    assert torch.equal(known[hidden > 0], 6 - hidden[hidden > 0])
    assert int(known.max()) == 5
    assert torch.equal(symbols, hidden)
    assert nats.dtype == torch.double


def test_only_the_objectives_know_their_names():
    """No other file of the wing compares a value with one of them, or asks for the class of an objective."""
    names, classes = set(objectives.names()), {kind.__name__ for kind in objectives.OBJECTIVES}
    for path in Path(ardm.train.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if path.stem != "objectives" and isinstance(node, ast.Compare):
                said = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not said & names, f"{path.name}:{node.lineno}"
            if path.stem != "objectives" and isinstance(node, ast.Name):
                assert node.id not in classes, f"{path.name}:{node.lineno}"
