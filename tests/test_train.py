"""Training: it learns, stops and resumes as if nothing had happened, and counts the same on two processes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ardm.bundle import load
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.models.config import preset
from ardm.orders import OrderConfig
from ardm.train.batch import seeded
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer
from ardm.train.update import rate_at
from toys import generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smooth grey pictures of 8×8 with 16 values, so that there is something to learn."""
    path = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    for name, number in (("train", 96), ("valid", 16)):
        a, b, c = rng.uniform(-1, 1, (3, number, 1, 1))
        values = 7.5 + 3 * (a * x + b * y) / 4 + 3 * c
        np.save(path / f"{name}.npy", values.round().clip(0, 15).astype(np.uint8)[:, None])
    return path


def recipe(folder, order=None, size="centred-tiny", model=None, **train):
    settings = {
        "steps": 12,
        "batch": 8,
        "warmup": 4,
        "rate": 5e-3,
        "valid_every": 6,
        "valid_items": 8,
        "save_every": 4,
        **train,
    }
    return Recipe(
        "tiny",
        preset(size, shape=(1, 8, 8), classes=16, **(model or {})),
        order or OrderConfig(),
        DataConfig("array", str(folder), "train", "valid", flip=True),
        TrainConfig(**settings),
    )


def run(recipe, where, resume=False):
    trainer = Trainer(recipe, where, resume, device="cpu")
    return trainer, list(trainer)


ORDERS = {
    "any": OrderConfig(),
    "plan": OrderConfig("bayer", (8,), cell=8, lead=0),
    "levels": OrderConfig("bayer", (8, 4), cell=8, lead=0),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("size", "model"),
    [
        ("centred-tiny", {}),
        pytest.param("tiny", {"width": 16, "blocks": 1}, marks=pytest.mark.slow),
        pytest.param("centred-tiny", {"base": 4, "head": "digits"}, marks=pytest.mark.slow),
    ],
)
def test_it_learns(folder, tmp_path, order, size, model):
    settings = {"steps": 90, "valid_every": 45, "valid_items": 16, "batch": 16}
    _, steps = run(recipe(folder, ORDERS[order], size, model, **settings), tmp_path / "run")
    valid = [p.valid for p in steps if p.valid is not None]
    assert len(valid) == 2
    assert valid[-1] < 2.8, "4 bits is the uniform distribution over 16 values"


@pytest.mark.parametrize("order", ORDERS)
def test_stopping_and_resuming_changes_nothing(folder, tmp_path, order):
    whole, steps = run(recipe(folder, ORDERS[order]), tmp_path / "whole")
    first = Trainer(recipe(folder, ORDERS[order]), tmp_path / "parts", device="cpu")
    for progress in first:
        if progress.step == 5:
            break
    first.save()
    second, rest = run(recipe(folder, ORDERS[order]), tmp_path / "parts", resume=True)
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in steps[5:]]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
        assert torch.equal(whole.average.tensors[name], second.average.tensors[name]), name
    for name, value in whole.curve.state().items():
        assert np.array_equal(value, second.curve.state()[name]), name


def test_dropout_resumes_too(folder, tmp_path):
    made = recipe(folder, size="tiny", model={"width": 16, "blocks": 1, "dropout": 0.5}, steps=6)
    before = torch.random.get_rng_state()
    _, steps = run(made, tmp_path / "whole")
    assert torch.equal(before, torch.random.get_rng_state())
    first = Trainer(made, tmp_path / "parts", device="cpu")
    for progress in first:
        if progress.step == 3:
            break
    first.save()
    _, rest = run(made, tmp_path / "parts", resume=True)
    assert [p.loss for p in rest] == [p.loss for p in steps[3:]]


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(folder, tmp_path):
    run(recipe(folder, steps=4), tmp_path / "run")
    (tmp_path / "run" / "checkpoint").rename(tmp_path / "run" / ".checkpoint-old-123")
    with pytest.raises(ArdmError, match="already holds a run"):
        Trainer(recipe(folder, steps=4), tmp_path / "run", device="cpu")
    (tmp_path / "run" / ".checkpoint-new-half").mkdir()
    assert Trainer(recipe(folder, steps=6), tmp_path / "run", resume=True, device="cpu").step == 4
    assert not list((tmp_path / "run").glob(".checkpoint*"))


def test_a_gradient_that_is_not_finite_is_never_taken(folder, tmp_path, monkeypatch):
    trainer = Trainer(recipe(folder, steps=4), tmp_path / "run", device="cpu")
    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", lambda *_: float("nan"))
    with pytest.raises(ArdmError, match="gradient is not finite"):
        list(trainer)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_the_loss_curve_is_kept_and_saved_with_the_model(folder, tmp_path):
    trainer, _ = run(recipe(folder, batch=32, steps=40), tmp_path / "run")
    bundle = load(tmp_path / "run" / "model")
    assert bundle.curve is not None
    assert bundle.curve.seen.sum() == 32 * 40
    assert (np.diff(bundle.curve.monotone(), axis=1) <= 1e-12).all()
    assert np.array_equal(bundle.curve.monotone(), trainer.curve.monotone())


def test_the_loss_curve_follows_the_model(folder, tmp_path):
    """A planner's prices are those of the model at the end: early losses, many times as large, are forgotten."""
    trainer, steps = run(recipe(folder, batch=32, steps=150, rate=1e-2), tmp_path / "run")
    late = np.mean([p.loss for p in steps[-20:]])  # each is a mean with a memory of some 50 steps
    priced = trainer.curve.nats() / trainer.sites / np.log(2)
    assert priced < late, "the mean over the whole run is far above"


def test_the_model_folder_holds_the_average_and_its_recipe(folder, tmp_path):
    trainer, _ = run(recipe(folder, ORDERS["plan"]), tmp_path / "run")
    bundle = load(tmp_path / "run" / "model")
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(value, trainer.average.tensors[name])
    assert bundle.order == ORDERS["plan"]
    assert bundle.card["recipe"]["train"]["steps"] == 12
    assert bundle.identity == trainer.bundle().identity


KILLED = """
import os, sys, json
from ardm.settings import from_values
from ardm.train.recipe import Recipe
from ardm.train.trainer import Trainer
trainer = Trainer(from_values(Recipe, json.load(open(sys.argv[1]))), sys.argv[2], resume=len(sys.argv) > 3, device="cpu")
for progress in trainer:
    os.write(1, f"{progress.step} {progress.loss!r}\\n".encode())  # whole lines, also from two processes
"""


def test_kill_9_at_any_moment_loses_at_most_the_steps_since_the_checkpoint(folder, tmp_path):
    made = recipe(folder, steps=16, save_every=3)
    (tmp_path / "recipe.json").write_text(json.dumps(made.to_dict()))
    _, steps = run(made, tmp_path / "whole")
    expected = {p.step: repr(p.loss) for p in steps}
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.json"), str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if int(line.split()[0]) >= 8:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    time.sleep(0.1)
    again = subprocess.run([*arguments, "resume"], capture_output=True, text=True, env=environment, check=True)
    seen = dict(line.split() for line in again.stdout.splitlines())
    assert 6 < min(map(int, seen)) <= 16
    assert max(map(int, seen)) == 16
    assert {int(k): v for k, v in seen.items()} == {k: expected[k] for k in map(int, seen)}


def test_levels_share_the_items_as_the_recipe_says(folder, tmp_path):
    trainer = Trainer(recipe(folder, ORDERS["levels"], batch=200, first_level=0.8), tmp_path / "run", device="cpu")
    drawn = trainer.draw(3)
    assert int((drawn["level"] == 0).sum()) in (159, 160, 161)
    for level, plan in enumerate(trainer.objective.plans):
        steps = drawn["step"][drawn["level"] == level]
        counts = torch.bincount(steps, minlength=len(plan))
        assert len(counts) == len(plan)
        assert counts.max() - counts.min() <= 1, "low-discrepancy within a level"


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
def test_rates_warm_up_and_decay(decay):
    config = TrainConfig(steps=100, warmup=10, rate=1.0, decay=decay, final=0.1)
    rates = [rate_at(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, abs=0.01)
    assert max(rates) <= 1.0
    assert rates[100] == pytest.approx(1.0 if decay == "constant" else 0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_bf16_and_cross_entropy_and_subset_train(folder, tmp_path):
    for i, change in enumerate(({"precision": "bf16"}, {"cross_entropy": 0.01}, {"subset": 5})):
        _, steps = run(recipe(folder, size="tiny", model={"width": 16, "blocks": 1}, **change), tmp_path / str(i))
        assert np.isfinite(steps[-1].loss)


def test_class_labels_are_context(folder, tmp_path):
    """Without labels in the data set, a clear refusal."""
    made = recipe(folder, model={"labels": 3})
    with pytest.raises(ArdmError, match="labels"):
        Trainer(replace(made, data=replace(made.data, labels=True)), tmp_path / "run", device="cpu")


def test_refusals(folder, tmp_path):
    run(recipe(folder, steps=2), tmp_path / "run")
    with pytest.raises(ArdmError, match="already holds a run"):
        Trainer(recipe(folder), tmp_path / "run", device="cpu")
    with pytest.raises(ArdmError, match=r"model\.width=16 \(not 8\)"):
        Trainer(recipe(folder, model={"width": 8}), tmp_path / "run", resume=True, device="cpu")
    with pytest.raises(ArdmError, match="no checkpoint"):
        Trainer(recipe(folder), tmp_path / "nothing", resume=True, device="cpu")
    wrong = recipe(folder)
    with pytest.raises(ArdmError, match=r"set model\.shape"):
        Trainer(replace(wrong, model=replace(wrong.model, shape=(3, 32, 32))), tmp_path / "new", device="cpu")
    (tmp_path / "run" / "checkpoint" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArdmError, match="cannot be read"):
        Trainer(recipe(folder), tmp_path / "run", resume=True, device="cpu")


def test_seeds_are_platform_independent():
    assert (
        torch.randint(1 << 40, (2,), generator=seeded(1, 2, 3)).tolist()
        == torch.randint(1 << 40, (2,), generator=seeded(1, 2, 3)).tolist()
    )
    assert seeded(0, 1).initial_seed() != seeded(1, 0).initial_seed()


def test_a_twin_with_digits_begins_as_the_model_of_whole_values(folder, tmp_path):
    """Where sites are known in full or not at all, its first digit has the probability of the values that begin with it."""
    run(recipe(folder, steps=3), tmp_path / "whole")
    whole = load(tmp_path / "whole" / "model-last")
    start = {"init": str(tmp_path / "whole" / "model-last"), "steps": 1}
    twin = Trainer(recipe(folder, model={"base": 4}, partial=True, **start), tmp_path / "twin", device="cpu")
    assert twin.anew == []
    x = torch.from_numpy(np.load(folder / "valid.npy")).long()[:2]
    seen = torch.rand(x.shape, generator=generator(0)) < 0.5
    logs = []
    for model in (whole.model, twin.model.eval()):
        state = model.digits.truncate(x, seen * len(model.digits))
        with torch.no_grad():
            logs.append(model(state)[Sites.where(~seen)])
    torch.testing.assert_close(logs[0].view(-1, 4, 4).logsumexp(-1), logs[1], rtol=1e-4, atol=1e-4)
    other = Trainer(
        recipe(folder, model={"base": 4, "head": "digits"}, partial=True, **start), tmp_path / "other", device="cpu"
    )
    assert other.anew
    assert all(name.startswith("head.") for name in other.anew)
    with pytest.raises(ArdmError, match="do not fit its configuration"):
        Trainer(recipe(folder, model={"base": 4}, **start), tmp_path / "refused", device="cpu")
    with pytest.raises(ArdmError, match="nothing in common"):
        Trainer(recipe(folder, size="pictures-small", partial=True, **start), tmp_path / "none", device="cpu")
