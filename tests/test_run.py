"""A run in its folder: which weights are kept, recovery after a kill, what may change on resuming, labels, passes."""

import json
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from typer.testing import CliRunner

from ardm import api, data, likelihood
from ardm.bundle import Bundle, load
from ardm.cli.app import app
from ardm.data import Dataset
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.models.context import NO_LABEL
from ardm.orders import OrderConfig
from ardm.train.log import Log
from ardm.train.recipe import DataConfig, Recipe, TrainConfig, load_recipe
from ardm.train.trainer import Trainer

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def folder(tmp_path):
    """Rows that count: 0 1 2 3 4 5 0 1, from anywhere."""
    path, rng = tmp_path / "data", np.random.default_rng(0)
    path.mkdir()
    for name, number in (("train", 64), ("valid", 16)):
        np.save(path / f"{name}.npy", ((rng.integers(6, size=(number, 1)) + np.arange(6)) % 6).astype(np.uint8))
    return path


def recipe(folder, model=None, order=None, size="table", source=None, **train):
    settings = {"steps": 8, "batch": 8, "warmup": 2, "rate": 5e-3, "valid_every": 2, "valid_items": 8, "save_every": 4}
    return Recipe(
        "tiny",
        preset(size, **{"width": 8, "blocks": 1, **(model or {})}),
        order or OrderConfig(),
        DataConfig("array", str(folder), "train", "valid", **(source or {})),
        TrainConfig(**{**settings, **train}),
    )


def run(made, where, resume=False, until=None):
    """Its progress; until: the step at which a kill comes, before a checkpoint of that step."""
    trainer, seen = Trainer(made, where, resume, device="cpu"), []
    for progress in trainer:
        seen.append(progress)
        if progress.step == until:
            break
    return trainer, seen


def weights(where):
    return load(where).model.state_dict()


def same(one, two):
    return all(torch.equal(one[k], two[k]) for k in one) and one.keys() == two.keys()


# --- what a run validates on ---------------------------------------------------------------------------------------------


def test_validation_items_stand_for_all(folder, tmp_path):
    """The first half is one value, the second another, as in a folder for each class."""
    np.save(folder / "valid.npy", np.repeat([[0] * 6, [5] * 6], 20, 0).astype(np.uint8))
    trainer = Trainer(recipe(folder, valid_items=4), tmp_path / "run", device="cpu")
    seen = []
    trainer.objective.validate = lambda network, batch, generator: seen.append(batch.x[:, 0].tolist())
    trainer.validate()
    assert seen == [[0, 0, 5, 5]]


def test_validation_items_of_another_form_are_refused_before_training(folder, tmp_path):
    np.save(folder / "valid.npy", np.zeros((9, 5), np.uint8))
    with pytest.raises(ArdmError, match=r"items of data/valid have shape \(5,\), those of data/train \(6,\)"):
        Trainer(recipe(folder), tmp_path / "run", device="cpu")
    train, valid = (data.load("array", folder, "train").subset(slice(8)) for _ in range(2))
    made = recipe(folder, {"shape": (6,), "classes": 6})
    with pytest.raises(ArdmError, match="9 classes, and the model 6"):
        Trainer(made, tmp_path / "run", device="cpu", sets=(train, replace(valid, classes=9)))
    with pytest.raises(ArdmError, match="have rate 8000, those of data/train 0"):
        Trainer(made, tmp_path / "run", device="cpu", sets=(train, replace(valid, rate=8000)))
    silent = replace(valid, given=torch.full(valid.items.shape, -1, dtype=torch.int8))
    with pytest.raises(ArdmError, match=r"nothing of .* is to be predicted"):  # a validation of NaN would never be best
        Trainer(made, tmp_path / "run", device="cpu", sets=(train, silent))


def test_data_of_a_single_value_are_refused(folder, tmp_path):
    for name in ("train", "valid"):
        np.save(folder / f"{name}.npy", np.zeros((9, 6), np.uint8))
    with pytest.raises(ArdmError, match="all values of data/train are the same: there is nothing to learn"):
        Trainer(recipe(folder), tmp_path / "run", device="cpu")


def test_taking_what_fits_of_nothing_is_refused(folder, tmp_path):
    """It would train from scratch without a word."""
    with pytest.raises(ArdmError, match=r"set train\.init"):
        Trainer(recipe(folder, partial=True), tmp_path / "run", device="cpu")


def test_measuring_on_items_of_training_is_said(folder, tmp_path):
    file = folder / "train.npy"
    made = f"data.folder={file}", "model.width=8", "model.blocks=1", "train.steps=2", "train.batch=4"
    base = tmp_path / "tiny.yaml"
    base.write_text("name: tiny\nmodel: {preset: table}\ndata: {name: array}\n")

    def said(*arguments):
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    both = ("data.train=all", "data.valid=all")
    shared = "validates on items that it trains on: data.train=all holds data.valid=all"
    assert shared in said("train", base, *made, *both, "-o", tmp_path / "all", "--cpu")
    assert shared in (tmp_path / "all" / "train.log").read_text()
    assert "validates on items" not in said("train", base, *made, "-o", tmp_path / "apart", "--cpu")
    assert "was trained on items of array/test" in said("eval", tmp_path / "all" / "model")
    assert "was trained on" not in said("eval", tmp_path / "apart" / "model")
    assert "was trained on" in said("eval", tmp_path / "apart" / "model", "--split", "train")


# --- the best and the last --------------------------------------------------------------------------------------------


@pytest.fixture
def scripted(monkeypatch):
    """Validation says what the list says, by step."""
    bits = {2: 2.5, 4: 2.0, 6: 2.25, 8: 2.125}

    def validate(trainer):
        nats = torch.full((4,), bits[trainer.step] * np.log(2) * 6, dtype=torch.double)
        return Estimate(nats, torch.zeros(4), "told", 6)

    monkeypatch.setattr(Trainer, "validate", validate)
    return bits


def test_the_model_is_the_best_by_validation_and_the_last_lies_beside_it(folder, tmp_path, scripted):
    averages, trainer = {}, Trainer(recipe(folder), tmp_path / "run", device="cpu")
    for progress in trainer:
        averages[progress.step] = {k: v.clone() for k, v in trainer.average.tensors.items()}
    assert same(weights(tmp_path / "run" / "model"), averages[4])
    assert same(weights(tmp_path / "run" / "model-last"), averages[8])
    best, last = (load(tmp_path / "run" / name) for name in ("model", "model-last"))
    assert (best.card["steps"], last.card["steps"]) == (4, 8)
    assert (best.card["valid"], last.card["valid"]) == (pytest.approx(2.0), pytest.approx(2.125))
    assert best.curve.seen.sum() == 4 * 8, "its loss curve is that of its step"
    assert "best at step 4 (2.0000)" in trainer.best_note
    assert "at step 8 it was 2.1250" in trainer.best_note


def test_no_note_where_the_last_step_is_the_best(folder, tmp_path, scripted):
    scripted[8] = 1.5
    trainer, _ = run(recipe(folder), tmp_path / "run")
    assert trainer.best_note == ""
    assert same(weights(tmp_path / "run" / "model"), weights(tmp_path / "run" / "model-last"))


def test_before_any_validation_the_model_is_the_last(folder, tmp_path):
    trainer, _ = run(recipe(folder, valid_every=100), tmp_path / "run", until=5)
    assert load(tmp_path / "run" / "model").card["steps"] == 4
    assert trainer.best is None


@pytest.mark.parametrize("killed", [3, 5, 7])
def test_the_best_survives_a_kill(folder, tmp_path, scripted, killed):
    made = recipe(folder, save_every=3)
    run(made, tmp_path / "whole")
    run(made, tmp_path / "parts", until=killed)
    if killed < 4:
        trainer = Trainer(made, tmp_path / "parts", device="cpu")  # no checkpoint yet
        list(trainer)
    else:
        trainer, _ = run(made, tmp_path / "parts", resume=True)
    assert trainer.best.step == 4
    for name in ("model", "model-last"):
        assert same(weights(tmp_path / "whole" / name), weights(tmp_path / "parts" / name))
        assert load(tmp_path / "whole" / name).card == load(tmp_path / "parts" / name).card
    again = Trainer(made, tmp_path / "parts", resume=True, device="cpu")
    assert again.best_note == trainer.best_note != ""


def test_a_future_that_a_kill_undid_leaves_no_model(folder, tmp_path, scripted):
    """The best of a checkpoint is in it: what was better after it, and never came again, is not kept."""
    made = recipe(folder, save_every=2)
    trainer = Trainer(made, tmp_path / "run", device="cpu")
    for progress in trainer:
        if progress.step == 3:
            trainer.save = lambda: None  # from here on, as if killed
    scripted.update({4: 3.0, 6: 3.0, 8: 3.0})
    resumed, _ = run(made, tmp_path / "run", resume=True)
    assert resumed.best.step == 2
    assert load(tmp_path / "run" / "model").card["steps"] == 2


def test_the_command_says_when_best_and_last_part_and_that_a_codec_is_of_other_weights(
    folder, tmp_path, scripted, monkeypatch
):
    from types import SimpleNamespace

    from ardm.codec import registry

    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe(folder, steps=4).to_dict()))
    go = ["train", str(path), "-o", str(tmp_path / "run"), "--cpu"]
    first = CliRunner().invoke(app, go)
    assert first.exit_code == 0, first.output
    assert "validation was best" not in first.stderr
    (tmp_path / "run" / "model" / "codec.safetensors").write_bytes(b"of step 4")
    of = load(tmp_path / "run" / "model").identity
    monkeypatch.setattr(registry, "model", lambda _: SimpleNamespace(card={"of": of}))
    scripted.update({6: 1.0, 8: 1.5})
    second = CliRunner().invoke(app, [*go, "train.steps=8", "--resume"])
    assert second.exit_code == 0, second.output
    told = " ".join(second.stderr.split())
    assert "validation was best at step 6 (1.0000)" in told
    assert "codec.safetensors was exported from other weights" in told
    assert (tmp_path / "run" / "model" / "codec.safetensors").read_bytes() == b"of step 4", "files depend on it"
    assert "validation was best at step 6" in (tmp_path / "run" / "train.log").read_text()
    third = CliRunner().invoke(app, [*go, "train.steps=8", "--resume"])
    assert "codec.safetensors was exported from other weights" in " ".join(third.stderr.split())


# --- kills ------------------------------------------------------------------------------------------------------------


def test_new_folders_that_a_kill_left_are_removed_and_those_of_a_living_process_stay(folder, tmp_path):
    where = tmp_path / "run"
    run(recipe(folder, steps=4), where)
    for name in ("checkpoint", "model", "model-last"):
        for kind in ("dead", "living"):
            (where / f".{name}-new-{kind}").mkdir()
            (where / f".{name}-new-{kind}" / "model.safetensors").write_bytes(b"half")
    handles = [os.open(where / f".{name}-new-living", os.O_RDONLY) for name in ("checkpoint", "model", "model-last")]
    for handle in handles:
        fcntl.flock(handle, fcntl.LOCK_EX)
    Trainer(recipe(folder, steps=4), where, resume=True, device="cpu")
    assert sorted(p.name for p in where.glob(".*-new-*")) == sorted(
        f".{name}-new-living" for name in ("checkpoint", "model", "model-last")
    )
    for handle in handles:
        os.close(handle)
    load(where / "model").save(where / "model")
    assert not (where / ".model-new-living").exists(), "a save sweeps, too"


def test_other_files_of_a_model_folder_stay_when_a_run_resumes(folder, tmp_path):
    """Also where the kill came between two renames, so that the old folder lies aside."""
    model = tmp_path / "run" / "model"
    run(recipe(folder, steps=4), tmp_path / "run")
    (model / "codec.safetensors").write_bytes(b"files depend on it")
    aside = model.with_name(".model-old-77")
    model.rename(aside)
    shutil.copytree(aside, model, ignore=shutil.ignore_patterns("codec*"))
    run(recipe(folder, steps=8), tmp_path / "run", resume=True)
    assert (model / "codec.safetensors").read_bytes() == b"files depend on it"
    assert not aside.exists()


@pytest.mark.parametrize(
    ("killed", "best"), [("before model-last", 4), ("before model", 8), ("all deleted", 4)], ids=str
)
def test_models_missing_after_a_kill_are_written_on_resuming(folder, tmp_path, scripted, monkeypatch, killed, best):
    """The kill comes in the last save, so that no step is left which would write them."""
    if best == 8:
        scripted[8] = 1.5
    made, save, step = recipe(folder), Bundle.save, []

    def dying(bundle, where):
        if step == [8] and killed == f"before {Path(where).name}":
            raise KeyboardInterrupt
        return save(bundle, where)

    run(made, tmp_path / "whole")
    trainer = Trainer(made, tmp_path / "run", device="cpu")
    monkeypatch.setattr(Bundle, "save", save if killed == "all deleted" else dying)
    with suppress(KeyboardInterrupt):
        for progress in trainer:
            step[:] = [progress.step]
    monkeypatch.setattr(Bundle, "save", save)
    for name in ("model", "model-last") if killed == "all deleted" else ():
        shutil.rmtree(tmp_path / "run" / name)
    path = tmp_path / "run" / "recipe.json"
    path.write_text(json.dumps(made.to_dict()))
    result = CliRunner().invoke(app, ["train", str(tmp_path / "run"), "--resume", "--cpu"])
    assert result.exit_code == 0, result.output
    wrote = killed == "all deleted" or best == 8
    assert (f"wrote {tmp_path / 'run' / 'model'}" in result.stdout.replace("\n", "")) == wrote
    for name in ("model", "model-last"):
        assert load(tmp_path / "run" / name).card == load(tmp_path / "whole" / name).card
        assert same(weights(tmp_path / "run" / name), weights(tmp_path / "whole" / name))
    again = CliRunner().invoke(app, ["train", str(tmp_path / "run"), "--resume", "--cpu"])
    assert "is finished, after 8 steps;" in again.stdout
    assert "wrote" not in again.stdout


@pytest.mark.parametrize("length", ["train.steps=6", "train.minutes=0.00005"])
def test_a_finished_run_trains_on_only_if_it_is_asked_to(folder, tmp_path, length):
    path, where = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe(folder, steps=16).to_dict()))
    command = ["train", str(path), "-o", str(where), "--cpu"]
    first = CliRunner().invoke(app, [*command, length])
    assert first.exit_code == 0, first.output
    assert "is finished" not in first.output
    end = load(where / "model-last").card["steps"]
    assert end < 16
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    said, name = " ".join(again.stdout.split()), length.partition("=")[0]
    assert f"is finished, after {end} steps" in said
    assert f"resume it with a larger {name}=…, or start another run from it with train.init={where}" in said
    assert load(where / "model-last").card["steps"] == end
    asked = CliRunner().invoke(app, [*command, "--resume", "train.steps=16"])  # that of the recipe
    assert asked.exit_code == 0, asked.output
    assert load(where / "model-last").card["steps"] == 16


def test_an_interrupted_run_keeps_its_length_unless_another_is_named(folder, tmp_path):
    path, where = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe(folder).to_dict()))
    run(recipe(folder, steps=12), where, until=5)  # the checkpoint is that of step 4
    command = ["train", str(path), "-o", str(where), "--cpu", "--resume"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "is finished" not in result.output
    assert "keeps its length, train.steps=12, which is not the recipe's" in " ".join(result.stderr.split())
    assert load(where / "model-last").card["steps"] == 12
    run(recipe(folder, minutes=1000.0), tmp_path / "timed", until=5)
    command[3] = str(tmp_path / "timed")
    result = CliRunner().invoke(app, [*command, "train.minutes=0", "train.steps=8"])
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "timed" / "model-last").card["steps"] == 8


def test_a_run_beyond_the_requested_steps_is_left_unchanged(folder, tmp_path):
    path, where = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe(folder).to_dict()))
    assert CliRunner().invoke(app, ["train", str(path), "-o", str(where), "--cpu"]).exit_code == 0
    before = (where / "recipe.json").read_bytes()
    result = CliRunner().invoke(app, ["train", str(where), "train.steps=4", "--resume", "--cpu"])
    assert result.exit_code == 1
    assert "at step 8 already, beyond train.steps=4" in " ".join(result.stderr.split())
    assert "wrote" not in result.output
    assert (where / "recipe.json").read_bytes() == before


@pytest.mark.parametrize("left", ["", '{"name": "ti', "[]", "deleted"], ids=repr)
def test_a_run_resumes_although_its_recipe_is_damaged_or_missing(folder, tmp_path, left):
    path, where = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe(folder, steps=4).to_dict()))
    assert CliRunner().invoke(app, ["train", str(path), "-o", str(where), "--cpu"]).exit_code == 0
    written = (where / "recipe.json").read_bytes()
    if left == "deleted":
        (where / "recipe.json").unlink()
    else:
        (where / "recipe.json").write_text(left)
    result = CliRunner().invoke(app, ["train", str(where), "--resume", "--cpu"])
    assert result.exit_code == 0, result.output
    assert (where / "recipe.json").read_bytes() == written
    (where / "recipe.json").write_text("")
    (where / "checkpoint" / "state.json").write_text("{")
    with pytest.raises(ArdmError, match=r"recipe\.json cannot be read"):
        load_recipe(str(where))


def test_a_kill_while_a_recipe_is_written_leaves_the_older_one(folder, tmp_path, monkeypatch):
    trainer = Trainer(recipe(folder), tmp_path / "run", device="cpu")
    with Log(trainer):
        pass
    before, write = (tmp_path / "run" / "recipe.json").read_bytes(), Path.write_bytes

    def half(path, data):
        write(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        Log(Trainer(recipe(folder, log_every=3), tmp_path / "run", device="cpu"))
    assert (tmp_path / "run" / "recipe.json").read_bytes() == before


def test_two_processes_do_not_train_in_one_folder(folder, tmp_path):
    run(recipe(folder, steps=4), tmp_path / "run")
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ArdmError, match="another process is training in"):
        Trainer(recipe(folder), tmp_path / "run", resume=True, device="cpu")
    os.close(handle)
    trainer = iter(Trainer(recipe(folder), tmp_path / "run", resume=True, device="cpu"))
    next(trainer)
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    trainer.close()
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def logged(made, where, resume=False, kill=None):
    """Train with a log; kill: at that step, after its line ("line"), or after its checkpoint ("save")."""
    trainer = Trainer(made, where, resume, device="cpu")
    save, at = trainer.save, kill or (0, "")

    def stopping():
        save()
        if (trainer.step, "save") == at:
            raise KeyboardInterrupt

    trainer.save = stopping
    with suppress(KeyboardInterrupt), Log(trainer) as log:
        for progress in trainer:
            log(progress)
            if (progress.step, "line") == at:
                raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kill", "half"),
    [
        ((4, "line"), ""),
        ((4, "save"), ""),
        ((5, "line"), ""),
        ((8, "line"), ""),
        ((7, "line"), '{"step": 8, "lo'),
        ((4, "save"), "nonsense\n"),
    ],
    ids=str,
)
def test_the_log_has_every_step_once_whenever_a_kill_comes(folder, tmp_path, kill, half):
    made, where = recipe(folder, log_every=1, save_every=2), tmp_path / "run"
    logged(made, tmp_path / "whole")
    logged(made, where, kill=kill)
    with (where / "metrics.jsonl").open("a") as file:
        file.write(half)
    logged(made, where, resume=True)
    one, two = (
        [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (tmp_path / "whole", where)
    )
    assert [line["step"] for line in two] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [(a["loss"], a.get("valid")) for a in one] == [(b["loss"], b.get("valid")) for b in two]


# --- going on with another recipe -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 4}, "train.batch=8 (not 4)"),
        ({"accumulate": 2}, "train.accumulate=1 (not 2)"),
        ({"seed": 3}, "train.seed=0 (not 3)"),
        ({"objective": "absorbing"}, "train.objective=steps (not absorbing)"),
        ({"rate": 1e-3}, "train.rate=0.005 (not 0.001)"),
        ({"valid_items": 4}, "train.valid_items=8 (not 4)"),
        ({"ema": 0.5}, "train.ema=0.999 (not 0.5)"),
        ({"model": {"width": 16}}, "model.width=8 (not 16)"),
        ({"order": OrderConfig("raster", (6,))}, "order.order=random (not raster)"),
        ({"source": {"classes": 7}}, "data.classes=0 (not 7)"),
    ],
    ids=str,
)
def test_a_run_resumes_only_with_its_own_settings(folder, tmp_path, change, words):
    run(recipe(folder), tmp_path / "run")
    with pytest.raises(ArdmError) as refusal:
        Trainer(recipe(folder, **change), tmp_path / "run", resume=True, device="cpu")
    assert words in str(refusal.value)


def test_a_run_may_resume_longer_elsewhere_and_in_other_passes(folder, tmp_path):
    run(recipe(folder, steps=4), tmp_path / "run")
    moved = shutil.copytree(folder, tmp_path / "moved")
    free = {"save_every": 1, "log_every": 3, "sample_every": 0, "tensorboard": False, "shard": True}
    made = recipe(moved, steps=6, batch=2, accumulate=4, **free)
    assert run(made, tmp_path / "run", resume=True)[1][-1].step == 6


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("change", ["one value", "another number"])
def test_a_run_resumes_only_with_its_own_data(folder, tmp_path, part, change):
    run(recipe(folder), tmp_path / "run")
    items = np.load(folder / f"{part}.npy")
    if change == "one value":
        items[len(items) // 3, 0] ^= 1
    np.save(folder / f"{part}.npy", items if change == "one value" else items[1:])
    with pytest.raises(ArdmError, match=rf"items of data\.{part} are not those"):
        Trainer(recipe(folder), tmp_path / "run", resume=True, device="cpu")


def test_a_run_that_began_with_settings_of_another_trunk_resumes(folder, tmp_path):
    run(recipe(folder), tmp_path / "r", until=6)
    state = tmp_path / "r" / "checkpoint" / "state.json"
    values = json.loads(state.read_text())
    values["recipe"]["model"]["bits"] = 9
    state.write_text(json.dumps(values))
    (tmp_path / "r" / "recipe.json").unlink(missing_ok=True)
    run(load_recipe(str(tmp_path / "r")), tmp_path / "r", resume=True)


def test_a_checkpoint_of_an_earlier_version_resumes(folder, tmp_path):
    run(recipe(folder, steps=4), tmp_path / "run")
    path = tmp_path / "run" / "checkpoint" / "state.json"
    state = json.loads(path.read_text())
    for key in ("data", "best", "checked"):
        del state[key]
    for key in ("accumulate", "label_dropout"):
        del state["recipe"]["train"][key]
    path.write_text(json.dumps(state))
    for name in ("best", "best-curve"):
        (path.parent / f"{name}.safetensors").unlink()
    trainer, seen = run(recipe(folder, steps=6), tmp_path / "run", resume=True)
    assert [p.step for p in seen] == [5, 6]
    assert trainer.best.step == 6


# --- passes of a step, and what stands in the environment -------------------------------------------------------------


IMAGE = {"shape": (1, 4, 4), "classes": 6}
PASSES = {
    "any order": {},
    "a few sites": {"subset": 2},
    "auxiliary term": {"cross_entropy": 0.3},
    "absorbing": {"objective": "absorbing", "diffusion_steps": 9},
    "clipped": {"clip": 0.05},
    "one order": {"size": "text-tiny", "model": {"heads": 1, "causal": "single"}},
    "levels": {"size": "text-tiny", "model": {"heads": 1}, "order": OrderConfig("raster", (6, 2))},
    "stages": {"size": "text-tiny", "model": {"heads": 1, "base": 2, "head": "digits"}},
}


@pytest.mark.parametrize("kind", PASSES)
def test_passes_add_up_to_one_large_batch(folder, tmp_path, kind):
    one, steps = run(recipe(folder, batch=32, weight_decay=0.1, **PASSES[kind]), tmp_path / "one")
    four, seen = run(recipe(folder, batch=8, accumulate=4, weight_decay=0.1, **PASSES[kind]), tmp_path / "four")
    assert [(p.step, p.steps, p.rate) for p in seen] == [(p.step, p.steps, p.rate) for p in steps]
    for name in ("loss", "norm", "valid"):
        for a, b in zip(steps, seen, strict=True):
            assert getattr(a, name) == (None if getattr(b, name) is None else pytest.approx(getattr(b, name), rel=1e-4))
    a, b = (torch.cat([p.detach().flatten() for p in trainer.model.parameters()]) for trainer in (one, four))
    assert float((a - b).norm()) < 1e-3 * float(a.norm()), "of all: Adam makes large steps of the smallest gradients"
    for key, value in one.curve.state().items():
        np.testing.assert_allclose(four.curve.state()[key], value, rtol=1e-3)


@contextmanager
def fresh():
    """As in a new process, which has not read the environment yet."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


SETTINGS = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_DYNAMO_BACKEND": "eager",
    "ACCELERATE_DYNAMO_MODE": "max-autotune",
}


def test_the_environment_changes_nothing_that_the_recipe_says(folder, tmp_path, monkeypatch):
    made = recipe(folder, size="text-tiny", model={"heads": 1})
    one, steps = run(made, tmp_path / "one")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    with fresh():
        two, seen = run(made, tmp_path / "two")
        assert two.update.module is not None
        assert type(two.update.module) is type(one.update.module), "not compiled"
    assert [(p.loss, p.norm, p.valid) for p in seen] == [(p.loss, p.norm, p.valid) for p in steps]
    assert same(one.model.state_dict(), two.model.state_dict())


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_other_ways_to_train_are_refused(folder, tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with fresh(), pytest.raises(ArdmError, match=f"accelerate's {name}"):
        Trainer(recipe(folder), tmp_path / "run", device="cpu")


@pytest.mark.parametrize("name", ["meta", "nonsense", ""])
def test_devices_that_hold_no_numbers_are_refused(folder, tmp_path, monkeypatch, name):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", name)
    with fresh(), pytest.raises(ArdmError, match=f"ACCELERATE_TORCH_DEVICE is '{name}', on which nothing can be"):
        Trainer(recipe(folder), tmp_path / "run")


@pytest.mark.parametrize("name", ["meta", "nonsense"])
def test_a_named_device_that_holds_no_numbers_is_refused(folder, tmp_path, name):
    with fresh(), pytest.raises(ArdmError, match=f"the device is '{name}', on which nothing can be"):
        Trainer(recipe(folder), tmp_path / "run", device=name)


def test_a_named_device_is_trained_on_and_the_environment_stays(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
    with fresh():
        assert Trainer(recipe(folder), tmp_path / "run", device="cpu:0").accelerator.device == torch.device("cpu", 0)
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cpu"


def test_a_precision_chosen_in_this_process_before_is_an_error(folder, tmp_path):
    from accelerate import Accelerator

    with fresh():
        Accelerator(cpu=True, mixed_precision="bf16")
        with pytest.raises(ArdmError, match="accelerate cannot be set up"):
            Trainer(recipe(folder), tmp_path / "run", device="cpu")


# --- labels -----------------------------------------------------------------------------------------------------------


BODIES = {
    "unet": ModelConfig(trunk="unet", width=8, blocks=1, components=2, **IMAGE),
    "paper": preset("paper", width=8, blocks=1, attention="none", **IMAGE),
    "centred": ModelConfig(trunk="centred", width=8, blocks=1, components=2, **IMAGE),
    "transformer": preset("text-tiny", width=8, heads=1, shape=(4,), classes=6),
    "wavenet": preset("audio-tiny", shape=(4,), classes=6),
    "mlp": preset("table", width=8, blocks=1, shape=(4,), classes=6),
    "causal": preset("text-tiny", width=8, heads=1, causal="single", shape=(4,), classes=6),
}
WRONG = {
    "-1": torch.tensor([0, -1]),
    "K": torch.tensor([3, 0]),
    "K + 1": torch.tensor([4, 0]),
    "too many": torch.tensor([0, 1, 2]),
    "a column": torch.tensor([[0], [1]]),
    "fractions": torch.tensor([0.0, 1.0]),
}


def use(name, bundle, context):
    shape = bundle.model.shape
    x = torch.zeros(2, *shape, dtype=torch.long)
    if name == "score":
        return api.score(bundle, x, calls=4, order="raster", context=context)
    if name == "sample":
        return api.sample(bundle, 2, 4, "raster", context=context)
    return api.fill(bundle, x, torch.arange(x[0].numel()).view(shape).expand_as(x) < 2, 4, "raster", context=context)


@pytest.mark.parametrize("name", ["score", "sample", "fill"])
@pytest.mark.parametrize("trunk", BODIES)
def test_labels_that_are_none_are_errors(trunk, name):
    config = replace(BODIES[trunk], labels=3)
    bundle = Bundle(build(config).eval(), config)
    for what, labels in WRONG.items():
        with pytest.raises(
            ArdmError, match=r"class label.* 0\.\.2|class label or vector per item, 2 in all"
        ) as refusal:
            use(name, bundle, labels)
        if what in ("-1", "K", "K + 1"):
            assert str(int(labels[(labels < 0) | (labels > 2)])) in str(refusal.value).partition("got")[2]
    use(name, bundle, torch.tensor([0, 2]))


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 2]), torch.tensor([0])], ids=["too many", "too few"])
def test_likelihoods_take_a_label_an_item_and_no_more(labels):
    """They read rows of it in chunks, so that others would go unnoticed."""
    config = replace(BODIES["transformer"], labels=3)
    model, x = build(config).eval(), torch.zeros(2, 4, dtype=torch.long)
    plan = api.make_plan(Bundle(model, config), 4, "raster")
    with pytest.raises(ArdmError, match="one class label or vector per item, 2 in all"):
        likelihood.exact(model, plan, x, context=labels)
    with pytest.raises(ArdmError, match="one class label or vector per item, 2 in all"):
        likelihood.bound(model, x, 1, torch.Generator().manual_seed(0), context=labels)


@pytest.mark.parametrize("trunk", BODIES)
def test_no_label_is_one_row_for_a_batch_or_for_an_item(trunk):
    config = replace(BODIES[trunk], labels=3)
    model = build(config).eval()
    with torch.no_grad():
        model.body.condition.label.weight.copy_(torch.randn(model.body.condition.label.weight.shape))
        x = torch.arange(2 * model.digits.blank(1, config.shape).value.numel()).view(2, *config.shape) % 6
        bundle = Bundle(model, config)
        none = api.score(bundle, x, 4, "raster").nats
        some = api.score(bundle, x, 4, "raster", context=torch.tensor([NO_LABEL, 1])).nats
        given = api.score(bundle, x, 4, "raster", context=torch.tensor([1, 1])).nats
    torch.testing.assert_close(some, torch.stack([none[0], given[1]]))


def labelled(number, seed, labels=3):
    """All six sites of an item say its label."""
    label = torch.randint(labels, (number,), generator=torch.Generator().manual_seed(seed))
    return Dataset(label[:, None].expand(-1, 6).to(torch.uint8), 3, f"labelled {seed}", label)


@pytest.fixture
def of_labels(monkeypatch):
    """A data set with labels, by split; each may be replaced."""
    parts = {"train": labelled(96, 0), "valid": labelled(24, 1)}
    monkeypatch.setattr(data, "of_config", lambda config, split, **_: parts[split])
    return parts


def label_recipe(model=None, source=None, **train):
    return recipe(".", {"labels": 3, "width": 32, **(model or {})}, source={"labels": True, **(source or {})}, **train)


def test_without_a_label_a_model_of_labels_answers_as_well_as_it_can(of_labels, tmp_path):
    made = label_recipe(steps=150, batch=32, rate=1e-2, ema=0.9, valid_every=50)
    trainer, _ = run(made, tmp_path / "run")
    bundle, x, label = load(tmp_path / "run" / "model"), of_labels["valid"].items.long(), of_labels["valid"].labels
    assert api.score(bundle, x, passes=8, context=label).bits_per_dim < 0.1
    assert np.log2(3) / 6 - 0.1 < api.score(bundle, x, passes=8).bits_per_dim < 0.5, "log2(3) / 6 = 0.26"
    assert api.sample(bundle, 4, 6).shape == (4, 6)
    again = load(Bundle(bundle.model, bundle.config).save(tmp_path / "again"))
    assert torch.equal(api.score(again, x).nats, api.score(bundle, x).nats)
    assert trainer.config.label_dropout == 0.1


def test_the_items_without_labels_are_drawn_by_seed_and_step(of_labels, tmp_path):
    trainer = Trainer(label_recipe(batch=60), tmp_path / "run", device="cpu")
    rows, drawn = torch.arange(60), []
    for trainer.step in range(20):
        labels = trainer.labels(rows)
        drawn.append(labels == NO_LABEL)
        assert torch.equal(labels[~drawn[-1]], of_labels["train"].labels[rows][~drawn[-1]])
        assert 5 <= int(drawn[-1].sum()) <= 7
        assert torch.equal(trainer.labels(rows) == NO_LABEL, drawn[-1])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.stack(drawn).any(0).float().mean() > 0.6, "now these items, now those"
    trainer.step, before = 3, trainer.draw(3)
    bare = Trainer(label_recipe(batch=60, label_dropout=0.0), tmp_path / "bare", device="cpu")
    assert all(torch.equal(v, before[k]) for k, v in bare.draw(3).items()), "no other draw is moved"
    assert torch.equal(bare.labels(rows), of_labels["train"].labels[rows])


def test_labels_stop_and_resume_as_if_nothing_had_happened(of_labels, tmp_path):
    _, steps = run(label_recipe(batch=16), tmp_path / "whole")
    run(label_recipe(batch=16), tmp_path / "parts", until=6)
    _, rest = run(label_recipe(batch=16), tmp_path / "parts", resume=True)
    assert [(p.step, p.loss, p.valid) for p in rest] == [(p.step, p.loss, p.valid) for p in steps[4:]]


def test_a_model_that_never_trained_without_labels_needs_one(of_labels, tmp_path):
    run(label_recipe(label_dropout=0.0), tmp_path / "run")
    bundle = load(tmp_path / "run" / "model")
    for name in ("score", "sample", "fill"):
        with pytest.raises(ArdmError, match=r"with a label for every item: give labels 0\.\.2"):
            use(name, bundle, None)
        use(name, bundle, torch.tensor([0, 1]))
    with pytest.raises(ArdmError, match="a label for every item"):
        use("score", bundle, torch.tensor([0, NO_LABEL]))
    assert "needs_label" in json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    for card in ({}, {"name": "another's"}):
        again = load(Bundle(bundle.model, bundle.config, card=card).save(tmp_path / "again"))
        with pytest.raises(ArdmError, match="a label for every item"):
            use("score", again, None)
        assert again.identity == Bundle(bundle.model, bundle.config).identity
    path = Path(tmp_path / "run" / "model" / "config.json")
    config = json.loads(path.read_text())
    del config["needs_label"], config["card"]["recipe"]["train"]["label_dropout"]  # as an earlier version wrote it
    path.write_text(json.dumps(config))
    with pytest.raises(ArdmError, match="a label for every item"):
        use("sample", load(tmp_path / "run" / "model"), None)
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "run" / "model"), "-o", str(tmp_path / "s.csv")])
    assert result.exit_code == 1
    assert "give labels 0..2" in " ".join(result.stderr.split())
    for label, code in (("-1", 1), ("3", 1), ("4", 1), ("2", 0)):
        out = ["-n", "2", "--calls", "2", "--label", label, "-o", str(tmp_path / "s.csv")]
        assert CliRunner().invoke(app, ["sample", str(tmp_path / "run" / "model"), *out]).exit_code == code, label


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": replace(labelled(8, 0), labels=torch.tensor([0, 1, 2, 3] * 2))}, r"labels of .* are 0\.\.3"),
        ({"valid": replace(labelled(8, 0), labels=torch.tensor([0, 1, 2, -1] * 2))}, r"labels of .* are -1\.\.2"),
        ({"train": replace(labelled(8, 0), labels=None)}, "a data set with labels"),
    ],
    ids=["above", "below", "none"],
)
def test_labels_of_data_that_do_not_fit_the_model_are_refused(of_labels, tmp_path, change, words):
    of_labels.update(change)
    with pytest.raises(ArdmError, match=words):
        Trainer(label_recipe(), tmp_path / "run", device="cpu")


def test_labels_that_the_model_would_never_learn_are_refused(of_labels, tmp_path):
    with pytest.raises(ArdmError, match=r"set data\.labels=true, or model\.labels=0"):
        Trainer(label_recipe(source={"labels": False}), tmp_path / "run", device="cpu")
    of_labels["valid"] = replace(of_labels["valid"], labels=None)
    with pytest.raises(ArdmError, match=r"validate on data with labels, or set train\.label_dropout"):
        Trainer(label_recipe(label_dropout=0.0), tmp_path / "run", device="cpu")
    assert run(label_recipe(), tmp_path / "run")[1][-1].valid is not None
