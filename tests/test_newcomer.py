"""The first steps of a new user, without lost files, tracebacks, or advice that does not work."""

import numpy as np
import pytest
from typer.testing import CliRunner

from ardm.bundle import load
from ardm.cli.app import app
from ardm.models.config import preset
from ardm.orders import OrderConfig
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer


def ardm(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def trained(where, steps, resume=False, kind="text-tiny", shape=(6,), **changes):
    rng = np.random.default_rng(0)
    folder = where / "data"
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid"):
        np.save(folder / f"{split}.npy", rng.integers(5, size=(32, *shape)).astype(np.uint8))
    recipe = Recipe(
        "new",
        preset(kind, **{"width": 8, "heads": 1, "blocks": 1, **changes}),
        OrderConfig(),
        DataConfig("array", str(folder), "train", "valid"),
        TrainConfig(steps=steps, batch=4, valid_every=2, valid_items=4, save_every=2),
    )
    list(Trainer(recipe, where / "run", resume, device="cpu"))
    return where / "run" / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("new"), 2)


def test_resuming_keeps_a_codec_exported_into_the_model(tmp_path):
    model = trained(tmp_path, 2)
    before = (model / "model.safetensors").read_bytes()
    (model / "codec.safetensors").write_bytes(b"files depend on it")
    (model / "notes").mkdir()
    (model / "notes" / "mine.txt").write_text("mine")
    trained(tmp_path, 4, resume=True)
    assert (model / "codec.safetensors").read_bytes() == b"files depend on it"
    assert (model / "notes" / "mine.txt").read_text() == "mine"
    assert (model / "model.safetensors").read_bytes() != before
    assert not list(model.parent.glob(".model-*"))


def test_a_run_resumes_from_its_folder_alone(tmp_path):
    trained(tmp_path, 2)
    (tmp_path / "new.yaml").write_text(
        "name: new\nmodel: {preset: text-tiny, width: 8, heads: 1, blocks: 1}\n"
        f"data: {{name: array, folder: {tmp_path / 'data'}, train: train, valid: valid}}\n"
        "train: {steps: 2, batch: 4, valid_items: 4, warmup: 1}\n"
    )
    run = tmp_path / "elsewhere"
    assert ardm("train", tmp_path / "new.yaml", "-o", run, "--cpu", "-q").exit_code == 0
    result = ardm("train", run, "train.steps=4", "--resume", "--cpu", "-q")
    assert result.exit_code == 0, result.output
    assert load(run / "model").card["steps"] == 4


@pytest.mark.parametrize("order", ["raster", "bayer"])
def test_items_without_rows_and_columns_have_orders_too(model, order, tmp_path):
    out = tmp_path / "s.npy"
    result = ardm("sample", model, "-n", 3, "--calls", 2, "--order", order, "-o", out)
    assert result.exit_code == 0, result.output
    assert np.load(out).shape == (3, 6)
    assert np.load(out).max() < 5


@pytest.mark.parametrize(("order", "words"), [("spiral", "unknown order"), ("halton", "sequences have the orders")])
def test_an_unknown_order_is_refused_in_a_line(model, order, words, tmp_path):
    result = ardm("sample", model, "--calls", 2, "--order", order, "-o", tmp_path / "s.npy")
    assert result.exit_code == 1
    assert words in result.stderr
    assert not (tmp_path / "s.npy").exists()


def test_a_plan_without_budgets_fits_the_model(model, tmp_path):
    result = ardm("plan", model, "--save", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert "wrote" in result.output
    assert (tmp_path / "s.json").is_file()


def test_samples_of_an_array_keep_their_form(tmp_path):
    model = trained(tmp_path, 2, shape=(3, 2))
    assert ardm("sample", model, "-n", 4, "--calls", 3, "-o", tmp_path / "s.npy").exit_code == 0
    assert np.load(tmp_path / "s.npy").shape == (4, 3, 2)


def test_what_a_terminal_would_obey_is_not_printed(tmp_path, capsys):
    from ardm.cli.generate import _write

    letters = np.frombuffer(b"a\x1b[31mb\x9bc", np.uint8)[None].astype(np.int64)
    _write("text", letters, tmp_path / "s.txt", None, None, 0, False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b[31mb" in shown


def test_the_run_is_not_taken_for_its_model(model):
    result = ardm("eval", model.parent)
    assert result.exit_code == 1
    assert f"did you mean {model}?" in result.stderr.replace("\n", "")


def test_only_pictures_are_filled(model, tmp_path):
    from PIL import Image

    Image.new("L", (6, 6)).save(tmp_path / "p.png")
    result = ardm("fill", tmp_path / "p.png", "--box", "0,0,2,2", "-m", model, "-o", tmp_path / "f.png")
    assert result.exit_code == 1
    assert "is a model of array, and ardm fill completes images" in result.stderr.replace("\n", " ")
    result = ardm("fill", tmp_path / "p.png", "--box", "0,0,2,2", "-o", tmp_path / "f.json")
    assert result.exit_code == 1
    assert "ends in .png" in result.stderr


def test_a_kill_between_two_renames_loses_no_codec(tmp_path):
    """The old folder lies aside, with or without a new one in its place: the next save puts everything back."""
    model = trained(tmp_path, 2)
    bundle = load(model)
    aside = model.with_name(".model-old-77")
    for both in (False, True):
        (model / "codec.safetensors").write_bytes(b"files depend on it")
        model.rename(aside)
        if both:
            bundle.save(tmp_path / "spare").rename(model)
        bundle.save(model)
        assert (model / "codec.safetensors").read_bytes() == b"files depend on it"
        assert not aside.exists()


def test_a_model_behind_a_link_stays_behind_it(tmp_path):
    model = trained(tmp_path, 2)
    link = tmp_path / "link"
    link.symlink_to(model, target_is_directory=True)
    (model / "codec.safetensors").write_bytes(b"files depend on it")
    load(model).save(link)
    assert link.is_symlink()
    assert (model / "codec.safetensors").is_file()


def test_a_codec_of_an_earlier_state_is_not_sampled_for_the_model(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from ardm.cli import generate as cli_generate
    from ardm.codec import registry

    model = trained(tmp_path, 2)
    for of, expected in ((load(model).identity, False), ("0" * 16, False)):
        found = SimpleNamespace(kind="text", card={"of": of})
        monkeypatch.setattr(registry, "model", lambda _, found=found: found)
        assert (
            cli_generate._better_coded(str(model), load(model), (1.0, None, None, None, None)) is expected
        )  # its items are arrays
    monkeypatch.setattr("ardm.bundle.Bundle.written", "text")
    assert not cli_generate._better_coded(str(model), load(model), (1.0, None, None, None, None))
    found.card["of"] = load(model).identity
    assert cli_generate._better_coded(str(model), load(model), (1.0, None, None, None, None))
    assert not cli_generate._better_coded(str(model), load(model), (0.5, None, None, None, None))


def test_items_of_two_axes_have_no_named_orders(tmp_path):
    model = trained(tmp_path, 2, shape=(3, 2))
    result = ardm("sample", model, "--calls", 2, "--order", "raster", "-o", tmp_path / "s.npy")
    assert result.exit_code == 1
    assert "have the orders random and confident; got 'raster'" in result.stderr.replace("\n", " ")
