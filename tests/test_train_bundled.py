"""The script that trains bundled models further: from nothing, from a checkpoint, and after it was stopped."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ardm.bundle import load
from ardm.train.trainer import Trainer

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_bundled.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="needs the checkout")


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("train_bundled", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cifar(tmp_path):
    """Smooth pictures, eight a file."""
    rng, home = np.random.default_rng(1), tmp_path / "data"
    home.mkdir()
    y, x = np.mgrid[:32, :32]
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        a, b, c = rng.uniform(-3, 3, (3, 8, 3, 1, 1))
        pictures = (128 + a * x + b * y + 10 * c).clip(0, 255).astype(np.uint8).reshape(8, -1)
        np.concatenate([np.zeros((8, 1), np.uint8), pictures], 1).tofile(home / name)
    return home


SMALL = [
    "data.verify=false",
    "model.width=8",
    "model.blocks=1",
    "model.components=2",
    "train.valid_every=3",
    "train.warmup=1",
]


def arguments(cifar, tmp_path, minutes=0.02, *more):
    where = ["--data", cifar, "--from", tmp_path / "made", "--to", tmp_path / "made", "--runs", tmp_path / "runs"]
    given = ["pictures", "--minutes", minutes, "--device", "cpu", *where, *more, "--set", *SMALL, "train.save_every=2"]
    return [str(part) for part in given]


def test_a_model_is_trained_further_by_one_command(script, cifar, tmp_path, capsys):
    script.main(arguments(cifar, tmp_path))
    first = load(tmp_path / "made" / "pictures")
    assert first.card["minutes"] >= 0.02
    assert first.card["recipe"]["data"]["folder"] == "data"
    assert str(tmp_path) not in json.dumps(first.card)
    assert "state no licence" in (tmp_path / "made" / "pictures" / "README.md").read_text()
    assert not list((tmp_path / "runs").iterdir())
    script.main(arguments(cifar, tmp_path))
    second, said = load(tmp_path / "made" / "pictures"), capsys.readouterr().out
    assert second.card["valid"] <= first.card["valid"]
    assert (second.identity == first.identity) == ("the checkpoint stays" in said)
    if second.identity != first.identity:
        assert second.card["minutes"] > first.card["minutes"]


def test_a_worse_checkpoint_replaces_none(script, cifar, tmp_path, capsys):
    script.main(arguments(cifar, tmp_path))
    first = load(tmp_path / "made" / "pictures")
    script.main(arguments(cifar, tmp_path, 0.005, "--rate", "1000"))
    assert "the checkpoint stays" in capsys.readouterr().out
    assert load(tmp_path / "made" / "pictures").identity == first.identity


def test_a_stopped_run_goes_on(script, cifar, tmp_path):
    given = script.options(arguments(cifar, tmp_path, 60))
    trainer = Trainer(script.recipe_of("pictures", given), tmp_path / "runs" / "bundled-pictures", device="cpu")
    for progress in trainer:
        if progress.step == 3:
            break
    begun = json.loads((tmp_path / "runs" / "bundled-pictures" / "checkpoint" / "state.json").read_text())
    more = arguments(cifar, tmp_path, begun["spent"] / 60 + 0.02)
    again = script.train("pictures", script.options(more))
    assert again.step > begun["step"] >= 2
    assert again.spent > begun["spent"] > 0
