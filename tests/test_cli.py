"""The command line on a tiny model: every command does its work, and every mistake is one clear line."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ardm.cli import app
from ardm.schedule import Schedule
from tests_support import make_data, make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    make_data(path)
    make_model(path / "any")
    make_model(path / "codec", fixed=True)
    return path


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + str(result.exception)
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


def refused(*arguments, code=1):
    said = run(*arguments, code=code)
    assert said.startswith("ardm: ")
    return said


def test_train_resume_eval(folder, tmp_path):
    data = [
        f"data.folder={folder}",
        "data.name=array",
        "data.train=train",
        "data.valid=valid",
        "model.preset=local-tiny",
        "model.shape=[3,8,8]",
        "model.classes=16",
        "train.valid_items=4",
        "train.batch=4",
        "train.valid_every=2",
    ]
    run("train", "cifar10-any-order", *data, "train.steps=3", "--out", tmp_path / "run", "--cpu")
    assert "already holds a run" in refused(
        "train", "cifar10-any-order", *data, "train.steps=3", "--out", tmp_path / "run"
    )
    run("train", "cifar10-any-order", *data, "train.steps=5", "--out", tmp_path / "run", "--resume", "--quiet", "--cpu")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "valid" in log
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 5
    said = run(
        "eval", tmp_path / "run" / "model", "--data", "array", "--folder", folder, "--split", "valid", "--items", 4
    )
    assert "bits/dim" in said
    assert "bound" in said
    assert "exact" in run(
        "eval", folder / "codec", "--data", "array", "--folder", folder, "--split", "valid", "--items", 4
    )


def test_tensorboard_and_samples(folder, tmp_path):
    pytest.importorskip("tensorboard")
    run(
        "train",
        "cifar10-codec",
        f"data.folder={folder}",
        "data.name=array",
        "data.train=train",
        "data.valid=valid",
        "model.preset=local-tiny",
        "model.width=16",
        "model.shape=[3,8,8]",
        "model.classes=16",
        "order.cell=8",
        "order.calls=[6]",
        "train.steps=2",
        "train.batch=4",
        "train.valid_items=4",
        "train.sample_every=2",
        "train.tensorboard=true",
        "train.log_every=1",
        "--out",
        tmp_path / "run",
        "--cpu",
    )
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert list((tmp_path / "run" / "samples").glob("*.png"))


def test_plan(folder, tmp_path):
    said = run(
        "plan",
        folder / "any",
        "--calls",
        "5,10",
        "--show",
        5,
        "--save",
        tmp_path / "s.json",
        "--picture",
        tmp_path / "p.png",
    )
    assert "D3PM" in said
    assert Schedule.load(tmp_path / "s.json").calls == 10
    assert Image.open(tmp_path / "p.png").size[0] > 400
    assert "no per-step losses" in refused("plan", folder / "codec")
    assert "whole numbers" in refused("plan", folder / "any", "--calls", "few")


def test_sample(folder, tmp_path):
    out, gif = tmp_path / "s.png", tmp_path / "s.gif"
    run("sample", folder / "any", "-n", 4, "--calls", 6, "-o", out, "--gif", gif, "--scale", 1)
    assert Image.open(out).size == (22, 22)
    assert Image.open(gif).n_frames > 3
    assert "exists" in refused("sample", folder / "any", "-o", out)
    run("sample", folder / "codec", "-n", 1, "--calls", 6, "--order", "own", "-o", out, "-f")
    assert "takes no label" in refused("sample", folder / "any", "--label", 3, "-o", tmp_path / "t.png")
    assert "there is no folder" in refused("sample", folder / "any", "-o", tmp_path / "no" / "t.png")
    assert not (tmp_path / "t.png").exists()


def test_fill(folder, tmp_path):
    rng = np.random.default_rng(0)
    image, mask, odd = tmp_path / "i.png", tmp_path / "m.png", tmp_path / "odd.png"
    pixels = rng.integers(0, 16, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    Image.fromarray(np.repeat([[0] * 4 + [255] * 4], 8, 0).astype(np.uint8)).save(mask)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(odd)
    out = tmp_path / "f.png"
    run(
        "fill",
        image,
        "--mask",
        mask,
        "-m",
        folder / "any",
        "-n",
        2,
        "--calls",
        6,
        "-o",
        out,
        "--scale",
        1,
        "--gif",
        tmp_path / "f.gif",
    )
    shown = np.asarray(Image.open(out))
    original = shown[2:10, 2 + 3 * 10 : 10 + 3 * 10]
    assert np.array_equal(original, pixels * 17)
    for k in (1, 2):
        assert np.array_equal(shown[2:10, 2 + k * 10 + 4 : 10 + k * 10], original[:, 4:]), "what is given is kept"
    run("fill", image, "--box", "2,2,3,3", "-m", folder / "any", "-n", 1, "--calls", 6, "-o", out, "-f")
    for arguments, words in [
        (("--mask", odd), "must agree"),
        (("--box", "1,2"), "a box is"),
        (("--box", "7,7,4,4"), "does not lie inside"),
        ((), "one of --mask"),
        (("--box", "0,0,2,2", "--digits", "1"), "one of --mask"),
        (("--digits", "9"), "keeps fewer"),
        (("--mask", tmp_path / "none.png"), "none.png"),
    ]:
        assert words in refused("fill", image, *arguments, "-m", folder / "any", "-o", tmp_path / "g.png")
    assert "channels" in refused("fill", odd, "--box", "0,0,2,2", "-m", folder / "any", "-o", tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "nowhere"), "there is no model"),
        (("train", "no-such-recipe"), "unknown recipe"),
        (("train", "cifar10-codec", "train.bacth=2"), "did you mean 'batch'"),
        (("train", "cifar10-codec", "data.folder=/nonexistent"), "nonexistent"),
        (("sample", "/etc"), "not a model"),
    ],
)
def test_mistakes_are_one_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(*arguments)
    assert words in said
    assert len(said) < 400
    assert not list(tmp_path.iterdir())


def test_usage_and_version():
    assert "Usage" in run("--help")
    assert "ardm 0." in run("--version")
    run("sample", "--calls", "0", code=2)
    assert "recipes" in run("models")
    assert torch.get_num_threads() >= 1
