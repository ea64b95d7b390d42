"""Training along wavefronts: budgets of time, Muon, and grey pictures."""

import copy
import math
import time

import numpy as np
import pytest
import torch

from ardm.bundle import load
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.objective import causal_step
from ardm.train import trainer as training
from ardm.train.checkpoint import moments_of, restore_moments
from ardm.train.muon import Muon, orthogonal
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer
from ardm.train.update import hidden_matrices, optimisers, rate_at
from toys import generator, randomise, some_data, toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smooth pictures of three channels, 8 × 8, with 16 values; a third of them grey."""
    path, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    for name, number in (("train", 96), ("valid", 16)):
        a, b, c = rng.uniform(-1, 1, (3, number, 1, 1, 1))
        shift = rng.uniform(-2, 2, (number, 3, 1, 1)) * (np.arange(number) % 3 > 0)[:, None, None, None]
        values = 7.5 + 3 * (a * x + b * y) / 4 + 3 * c + shift
        np.save(path / f"{name}.npy", values.round().clip(0, 15).astype(np.uint8))
    return path


def recipe(folder, size="pictures", model=None, **train):
    settings = {
        "steps": 30,
        "batch": 8,
        "warmup": 4,
        "rate": 4e-3,
        "valid_every": 10,
        "valid_items": 16,
        "save_every": 10,
    }
    return Recipe(
        "tiny",
        preset(size, shape=(3, 8, 8), classes=16, **{"width": 12, "blocks": 2, "components": 3, **(model or {})}),
        data=DataConfig("array", str(folder), "train", "valid", flip=True),
        train=TrainConfig(**{**settings, "optimiser": "muon", **train}),
    )


def run(recipe, where, resume=False, until=None):
    trainer, seen = Trainer(recipe, where, resume, device="cpu"), []
    for progress in trainer:
        seen.append(progress)
        if progress.step == until:
            break
    return trainer, seen


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize(("size", "matrix"), [("pictures", ".up"), ("centred-tiny", ".conv1.kernel")])
def test_it_learns_and_resumes_exactly(folder, tmp_path, size, matrix, optimiser):
    made = recipe(folder, size, optimiser=optimiser, subset=0 if size == "pictures" else 64)
    whole, seen = run(made, tmp_path / "whole")
    assert seen[-1].valid < math.log2(16) - 1
    run(made, tmp_path / "run", until=11)
    again, rest = run(made, tmp_path / "run", resume=True)
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in seen[10:]]
    one, two = (t.update.moments() for t in (whole, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    slots = {key.rsplit("/", 1)[1] for key in one if f"{matrix}/" in key}
    assert slots == ({"momentum_buffer"} if optimiser == "muon" else {"exp_avg", "exp_avg_sq", "step"})


class Clock:
    """Time that goes on by `step` seconds whenever it is read."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


def test_a_budget_of_minutes_ends_the_run_and_sets_the_rate(folder, tmp_path, monkeypatch):
    """The first reading begins the clock; each step reads it once."""
    clock = Clock(6.0)
    monkeypatch.setattr(
        training, "time", type("", (), {"monotonic": clock.monotonic, "perf_counter": time.perf_counter})
    )
    made = recipe(folder, minutes=1.0, warmup=0, valid_every=100, save_every=100)
    trainer, seen = run(made, tmp_path / "run")
    assert [p.step for p in seen] == list(range(1, 11))
    assert [p.rate for p in seen] == [pytest.approx(rate_at(made.train, 0, k / 10)) for k in range(10)]
    assert seen[-1].valid is not None
    assert seen[-1].steps == 10
    assert load(tmp_path / "run" / "model").card["minutes"] == 1.0
    longer = recipe(folder, minutes=1.5, warmup=0, valid_every=100, save_every=100)
    again, rest = run(longer, tmp_path / "run", resume=True)
    assert [p.step for p in rest] == [11, 12, 13, 14, 15], "what the run has used counts"
    assert rest[0].rate == pytest.approx(rate_at(longer.train, 0, 60 / 90))
    assert run(longer, tmp_path / "run", resume=True)[1] == []
    assert trainer.finished
    assert again.finished


def test_the_matrices_of_muon_are_those_inside_blocks():
    model = build(ModelConfig((3, 8, 8), trunk="wavefront", causal="wave", width=8, blocks=2))
    names = {id(p): name for name, p in model.named_parameters()}
    found = sorted(names[id(p)] for p in hidden_matrices(model))
    assert found == [f"body.trunk.blocks.{i}.{name}" for i in range(2) for name in ("down", "up")]
    adamw, muon = optimisers(model, TrainConfig(optimiser="muon", rate=4e-3, muon_rate=0.02))
    assert (adamw.param_groups[0]["relative"], muon.param_groups[0]["relative"]) == (1.0, 5.0)
    count = sum(len(group["params"]) for optimiser in (adamw, muon) for group in optimiser.param_groups)
    assert count == len(names)
    text = build(preset("text-tiny", shape=(8,), classes=5))
    assert not any(p is text.body.trunk.embedding.weight for p in hidden_matrices(text))
    assert hidden_matrices(text)
    kernels = build(preset("centred-tiny", shape=(1, 4, 4), classes=4))
    names = {id(p): name for name, p in kernels.body.trunk.named_parameters()}
    parts = {names[id(p)].split(".")[0] for p in hidden_matrices(kernels)}
    assert parts == {"down", "up", "shrink", "grow"}
    with pytest.raises(ArdmError, match="here are none"):
        optimisers(toy(Digits(3, 3), (2,)), TrainConfig(optimiser="muon"))


def test_muon_moves_as_that_of_pytorch_does():
    """Up to its rounding to bfloat16."""
    g = generator()
    start = [torch.randn(n, m, generator=g) for n, m in ((6, 20), (6, 20), (20, 6))]
    made = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(2)]
    ours = Muon([{"params": made[0]}], 0.1, 0.01)
    theirs = torch.optim.Muon(made[1], lr=0.1, weight_decay=0.01)
    for _ in range(3):
        for one, two in zip(*made, strict=True):
            one.grad = torch.randn(one.shape, generator=g)
            two.grad = one.grad.clone()
        ours.step()
        theirs.step()
    for one, two, before in zip(*made, start, strict=True):
        assert float((one - two).detach().norm()) < 0.05 * float((two - before).detach().norm())
    spectrum = torch.linalg.svdvals(orthogonal(torch.stack(start[:2])))
    assert 0.5 < float(spectrum.detach().min()) <= float(spectrum.max()) < 1.5


def test_muon_moves_a_kernel_as_the_matrix_of_its_rows():
    g = generator()
    start = torch.randn(6, 5, 2, 3, generator=g)
    kernel, matrix = (torch.nn.Parameter(p.clone()) for p in (start, start.flatten(1)))
    for p in (kernel, matrix):
        p.grad = torch.arange(180.0).view(p.shape).cos()
        Muon([{"params": [p]}], 0.1, 0.01).step()
    assert torch.equal(kernel.flatten(1), matrix)
    assert not torch.equal(kernel, start)


def test_a_grey_picture_alone_costs_its_first_channel():
    model = randomise(build(ModelConfig((3, 4, 5), 16, trunk="wavefront", causal="wave", width=8, blocks=1)))
    x = some_data(model.digits, (3, 4, 5), 4)
    x[1:3] = x[1:3, :1]
    alone = torch.tensor([True, True, False, False])
    nats = model.nats(x)
    scored = causal_step(model, x, alone=alone)
    expected = nats.sum(1)
    expected[1] = nats[1, :20].sum()
    torch.testing.assert_close(scored.nats, expected)
    assert scored.symbols.tolist() == [60, 20, 60, 60]


def test_half_of_the_items_are_marked_alone(folder, tmp_path):
    trainer = Trainer(recipe(folder), tmp_path / "run", device="cpu")
    assert trainer.draw(0)["alone"].sum() == 4
    sequence = ModelConfig((8,), trunk="wavefront", causal="wave")
    assert type(trainer.objective)(sequence, trainer.recipe.order, trainer.config).draw(4, generator()) == {}


def test_samples_of_a_run_are_drawn_along_the_wavefronts(folder, tmp_path):
    trainer = Trainer(recipe(folder), tmp_path / "run", device="cpu")
    assert trainer.objective.sampling() == (192, "own")


def test_adamw_in_one_pass_takes_the_steps_of_adamw_and_resumes():
    """Also from the moments of the other: a run may go on where it began elsewhere."""
    config = TrainConfig(rate=1e-2, weight_decay=0.1)
    model = build(preset("text-tiny", shape=(8,), classes=5))
    networks = [copy.deepcopy(model) for _ in range(3)]
    made = [optimisers(network, config, fused)[0] for network, fused in zip(networks, (False, True, True), strict=True)]
    assert made[1].param_groups[0]["fused"]
    for step in range(6):
        if step == 3:
            networks[2].load_state_dict(networks[0].state_dict())
            saved = {name: value.clone() for name, value in moments_of(made[0], networks[0]).items()}
            restore_moments(made[2], networks[2], saved)
        for optimiser, network in zip(made, networks, strict=True):
            for i, p in enumerate(network.parameters()):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))
            optimiser.step()
    for network in networks[1:]:
        for a, b in zip(network.parameters(), networks[0].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
