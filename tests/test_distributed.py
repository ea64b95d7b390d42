"""Several processes: the losses and parameters of one, replicated (DDP) and sharded (FSDP), with shared checkpoints."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ardm.bundle import load
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig
from ardm.train.recipe import DataConfig, Recipe, TrainConfig, load_recipe, shipped
from ardm.train.sharding import axis, blocks
from distributed import run

STEPS, HALF = 4, 2
PLAN = OrderConfig("bayer", (8, 4), cell=8, lead=0)
TEXT = {"shape": (12,), "classes": 27}
IMAGE = {"shape": (1, 8, 8), "classes": 16}
KINDS = {
    "text, steps": (preset("text-tiny", **TEXT), OrderConfig(), {}),
    "text, absorbing": (preset("text-tiny", **TEXT), OrderConfig(), {"objective": "absorbing", "diffusion_steps": 20}),
    "text, all": (preset("text-tiny", causal="any", **TEXT), OrderConfig(), {}),
    "pictures, steps": (preset("tiny", width=8, blocks=1, **IMAGE), OrderConfig(), {"subset": 9}),
    "pictures, plan of two levels": (preset("centred-tiny", **IMAGE), PLAN, {"first_level": 0.75}),
    "text, in passes": (preset("text-tiny", **TEXT), OrderConfig(), {"batch": 2, "accumulate": 2}),
    "text, by rates": (preset("text-tiny", rates=True, **TEXT), OrderConfig(), {}),
    "vector that never comes": (preset("text-tiny", vector=3, **TEXT), OrderConfig(), {}),
}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """Tiny arrays to train on, and a recipe of each kind, with gradients that are clipped at every step."""
    where, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, number in (("train", 24), ("valid", 4)):
        for kind, shape, classes in (("text", (12,), 27), ("image", (1, 8, 8), 16)):
            (where / kind).mkdir(exist_ok=True)
            np.save(where / kind / f"{name}.npy", rng.integers(classes, size=(number, *shape)).astype(np.uint8))
    made = {}
    for name, (model, order, train) in KINDS.items():
        config = TrainConfig(
            **{"steps": STEPS, "warmup": 1, "rate": 3e-3, "decay": "constant", "clip": 0.5, "beta2": 0.9},
            **{"valid_every": STEPS, "valid_items": 4, "save_every": 100, "weight_decay": 0.01, "batch": 4, **train},
        )
        folder = where / ("text" if len(model.shape) == 1 else "image")
        classes = 27 if len(model.shape) == 1 else 16
        data = DataConfig("array", str(folder), "train", "valid", classes=classes)
        made[name] = Recipe("tiny", model, order, data, config)
    return made


def job(recipe, folder, resume=False, until=STEPS):
    return {"recipe": recipe.to_dict(), "folder": str(folder), "resume": resume, "until": until}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def two_processes(jobs, where, seconds=900):
    """What two processes see of the jobs, by rank."""
    (where / "jobs.json").write_text(json.dumps(jobs))
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("distributed.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(where / "jobs.json"), str(where / "seen")],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [p.communicate(timeout=seconds)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(said)[-4000:]
    return [json.loads((where / f"seen-{rank}.json").read_text()) for rank in range(2)]


def in_shares(recipe):
    return replace(recipe, train=replace(recipe.train, shard=True))


@pytest.fixture(scope="module")
def runs(recipes, tmp_path_factory):
    """Every kind in one process and in two, whole and in shares; and runs stopped half way with one that take two up."""
    where = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = {kind: run(job(recipe, where / f"one {kind}")) for kind, recipe in recipes.items()}
        run(job(recipes["text, steps"], where / "one half", until=HALF))
        jobs = {("whole", kind): job(recipe, where / f"whole {kind}") for kind, recipe in recipes.items()}
        jobs |= {("shares", kind): job(in_shares(recipe), where / f"shares {kind}") for kind, recipe in recipes.items()}
        text = in_shares(recipes["text, steps"])
        jobs["half", "first"] = job(text, where / "half", until=HALF)
        jobs["half", "again"] = job(text, where / "half again", until=HALF)
        jobs["half", "on"] = job(text, where / "half again", resume=True)
        jobs["half", "of one"] = job(text, where / "one half", resume=True)
        jobs["odd", "batch"] = job(replace(text, train=replace(text.train, batch=3)), where / "odd")
        two = [dict(zip(jobs, seen, strict=True)) for seen in two_processes(list(jobs.values()), where)]
        one["from two"] = run(job(recipes["text, steps"], where / "half", resume=True))
    finally:
        torch.set_num_threads(threads)
    return where, one, two


def close(seen, expected):
    """Losses, gradient norms and validation agree to the precision of float32 sums."""
    assert [s[0] for s in seen] == [e[0] for e in expected]
    for a, b in zip(seen, expected, strict=True):
        assert a[1:3] == pytest.approx(b[1:3], rel=2e-4)
        assert (a[3] is None) == (b[3] is None)
        if a[3] is not None:
            assert a[3] == pytest.approx(b[3], rel=2e-4)


def same_files(one, two):
    """Checkpoints of one format, with equal tensors, and models of one configuration."""
    for name in ("model", "average", "optimiser"):
        a, b = (load_file(where / "checkpoint" / f"{name}.safetensors") for where in (one, two))
        assert {k: (v.shape, v.dtype) for k, v in a.items()} == {k: (v.shape, v.dtype) for k, v in b.items()}
        for key in a:
            # of the whole tensor: Adam makes steps of the same size out of the smallest gradients, noise included
            assert float((b[key] - a[key]).norm()) <= 2e-3 * float(a[key].norm()) + 1e-6, (name, key)
    first, second = (load(where / "model") for where in (one, two))
    assert first.config == second.config
    if first.curve is not None:
        for name, values in first.curve.state().items():
            np.testing.assert_allclose(second.curve.state()[name], values, rtol=1e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(runs, kind):
    where, one, two = runs
    for rank in (0, 1):
        close(two[rank]["whole", kind]["seen"], one[kind]["seen"])
    same_files(where / f"one {kind}", where / f"whole {kind}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one_in_shares(runs, kind):
    where, one, two = runs
    for rank in (0, 1):
        close(two[rank]["shares", kind]["seen"], one[kind]["seen"])
    same_files(where / f"one {kind}", where / f"shares {kind}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_process_keeps_its_share_alone(runs, kind):
    """Of parameters, of moments and of the average."""
    _, one, two = runs
    assert one[kind]["held"] == one[kind]["all"]
    for what in ("held", "moments", "average"):
        held = [two[rank]["shares", kind][what] for rank in (0, 1)]
        assert sum(held) == two[0]["whole", kind][what] == one[kind][what]
        assert max(held) < 0.55 * one[kind][what]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one", "whole", "shares"])
def test_passes_are_a_larger_batch_on_several_processes_too(runs, way):
    _, one, two = runs
    seen = one["text, in passes"] if way == "one" else two[0][way, "text, in passes"]
    close(seen["seen"], one["text, steps"]["seen"])


@pytest.mark.slow
def test_a_run_in_shares_goes_on_in_one_process(runs):
    _, one, two = runs
    whole = one["text, steps"]["seen"]
    close(two[0]["half", "first"]["seen"], whole[:HALF])
    close(one["from two"]["seen"], whole[HALF:])


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_shares(runs):
    where, one, two = runs
    close(two[1]["half", "of one"]["seen"], one["text, steps"]["seen"][HALF:])
    same_files(where / "one text, steps", where / "one half")


@pytest.mark.slow
def test_a_run_in_shares_resumes_as_if_nothing_had_happened(runs):
    _, _, two = runs
    for rank in (0, 1):
        assert two[rank]["half", "on"]["seen"] == two[rank]["shares", "text, steps"]["seen"][HALF:]


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_is_refused(runs):
    assert all("multiple of the 2 processes" in two["odd", "batch"]["error"] for two in runs[2])


@pytest.mark.slow
def test_processes_agree_when_one_of_them_is_asked_to_stop(runs):
    assert [two["half", "on"]["anyone"] for two in runs[2]] == [[True, False]] * 2


@pytest.mark.slow
def test_accelerate_launches_the_command_line(recipes, tmp_path):
    """In shares, with pictures that the first process draws by itself."""
    recipe = in_shares(recipes["pictures, plan of two levels"])
    recipe = replace(recipe, train=replace(recipe.train, steps=2, sample_every=1))
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.to_dict()))  # JSON is YAML
    options = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    launch = [sys.executable, "-m", "accelerate.commands.launch", *options.split(), "--main_process_port", "0"]
    command = ["-m", "ardm", "train", "recipe.yaml", "--cpu", "--quiet", "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())["step"] == 2
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2
    assert load(tmp_path / "run" / "model").card["recipe"]["train"]["shard"]


@pytest.mark.slow
def test_the_settings_of_the_run_say_whether_it_was_in_shares_and_one_process_takes_no_notice(recipes, runs, tmp_path):
    _, one, _ = runs
    seen = run(job(in_shares(recipes["text, steps"]), tmp_path / "run"))
    assert seen["held"] == seen["all"]
    close(seen["seen"], one["text, steps"]["seen"])
    assert load(tmp_path / "run" / "model").card["recipe"]["train"]["shard"]


def test_blocks_are_the_layers_of_the_network_one_by_one():
    text = build(preset("text-tiny", **TEXT))
    assert list(blocks(text)) == list(text.body.trunk.layers)
    picture = build(preset("tiny", width=8, blocks=1, attention="all", **IMAGE))
    found = list(blocks(picture))
    assert len(found) == len(set(found))
    assert not any(isinstance(b, (nn.ModuleList, nn.ModuleDict, nn.Identity)) for b in found), "those are never called"
    inside = sum(p.numel() for b in found for p in b.parameters())
    assert 0.8 * sum(p.numel() for p in picture.parameters()) < inside < sum(p.numel() for p in picture.parameters())


def test_the_first_axis_is_divided_unless_it_is_too_short():
    assert axis((27, 32), 8) == 0
    assert axis((3, 500, 64), 2) == 0
    assert axis((3, 500, 64), 8) == 2, "500 would not be divided evenly"
    assert axis((3, 5), 8) == 0


def test_the_large_recipes_are_trained_in_shares():
    for name in ("paper/cifar10", "paper/text8", "paper/enwik8", "paper/sc09"):
        recipe = load_recipe(name)
        assert {load_recipe(n).train.shard for n in shipped() if n.startswith((f"{name}-up", f"{name}-p"))} <= {
            recipe.train.shard
        }
        with torch.device("meta"):
            size = sum(p.numel() for p in build(recipe.model).parameters())
        assert recipe.train.shard == (size > 50e6), name
