"""The command line on a tiny model: every command does its work, and every mistake is one clear line."""

import json
import re
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from ardm import Adaptive, EntropyBudget, FixedNumber, Threshold, api, data, formats
from ardm.bundle import Bundle, load
from ardm.cli.app import app
from ardm.cli.fill import window_of
from ardm.cli.options import ordering
from ardm.codec import sampling
from ardm.content import Content, Kind
from ardm.data.folders import fraction
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.exact.model import NAME
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import preset
from ardm.schedule import Schedule
from ardm.schema import learn
from bundles import tiny
from linemodels import SCHEMA, bundle, items, sound
from linemodels import codec as line_model
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
        "model.preset=centred-tiny",
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
        "cifar10-any-order",
        f"data.folder={folder}",
        "data.name=array",
        "data.train=train",
        "data.valid=valid",
        "model.preset=centred-tiny",
        "model.width=16",
        "model.shape=[3,8,8]",
        "model.classes=16",
        "order.order=bayer",
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
    assert "by the loss curve of the model" in said  # which need not come from training: publish.py measures it
    assert Schedule.load(tmp_path / "s.json").calls == 10
    assert Image.open(tmp_path / "p.png").size[0] > 400
    assert "no per-step losses" in refused("plan", folder / "codec")
    assert "whole numbers separated by commas" in refused("plan", folder / "any", "--calls", "few")


@pytest.mark.parametrize(("above", "noted"), [(1.0, False), (1.2, True)])
def test_plan_says_that_its_prices_are_those_of_an_earlier_model(tmp_path, above, noted):
    config = preset("text-tiny", shape=(6,), classes=5, width=8, blocks=1)
    curve = LossCurve.exact(np.full((1, 6), 2 * above * np.log(2)))
    Bundle(build(config), config, curve=curve, card={"valid": 2.0}).save(tmp_path / "model")
    result = CliRunner().invoke(app, ["plan", str(tmp_path / "model"), "--calls", "3"])
    assert ("validated at 2.0000 bits/dim: these prices are too high" in result.stderr) == noted


def test_a_model_of_one_order_samples_and_is_scored_without_being_told_how(tmp_path):
    config = preset("text-tiny", shape=(6,), classes=5, width=8, blocks=1, causal="single")
    Bundle(build(config), config, card={"recipe": {"data": {"name": "array"}}}).save(tmp_path / "model")
    np.save(tmp_path / "test.npy", np.arange(24, dtype=np.uint8).reshape(4, 6) % 5)
    run("sample", tmp_path / "model", "-n", 2, "-o", tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").shape == (2, 6)
    said = run("eval", tmp_path / "model", "--data", "array", "--folder", tmp_path)
    assert "(exact, 4 items)" in said


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
        assert np.array_equal(shown[2:10, 2 + k * 10 : 6 + k * 10], original[:, :4]), "what is given is kept"
    run("fill", image, "--box", "2,2,3,3", "-m", folder / "any", "-n", 1, "--calls", 6, "-o", out, "-f")
    for arguments, words in [
        (("--mask", odd), "one of the same size"),
        (("--box", "1,2"), "a box is"),
        (("--box", "7,7,4,4"), "is not inside"),
        ((), "one of --mask"),
        (("--box", "0,0,2,2", "--digits", "1"), "one of --mask"),
        (("--digits", "9"), "keeps fewer"),
        (("--mask", tmp_path / "none.png"), "none.png"),
    ]:
        assert words in refused("fill", image, *arguments, "-m", folder / "any", "-o", tmp_path / "g.png")
    assert "channels" in refused("fill", odd, "--box", "0,0,2,2", "-m", folder / "any", "-o", tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()
    for order in ("confident", "bayer", "raster"):
        run("fill", image, "--mask", mask, "-m", folder / "any", "-n", 1, "--calls", 999, "--order", order, "-o", out,
            "-f", "--scale", 1)  # fmt: skip
        assert np.array_equal(np.asarray(Image.open(out))[2:10, 12:16], original[:, :4])


def test_fill_takes_the_calls_that_the_image_needs(tmp_path):
    """A model with a single order fills an image larger than its own in as many steps as the image has."""
    image, mask, out = (tmp_path / name for name in ("i.png", "m.png", "f.png"))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    late = np.add.outer(2 * np.arange(12), np.arange(12)) >= 14
    Image.fromarray(pixels).save(image)
    Image.fromarray(255 * late.astype(np.uint8)).save(mask)
    tiny(shape=(1, 4, 4)).save(tmp_path / "wave")
    run("fill", image, "--mask", mask, "-m", tmp_path / "wave", "-n", 1, "-o", out, "--scale", 1)
    filled = np.asarray(Image.open(out).convert("L"))[2:14, 16:28]
    assert np.array_equal(filled[~late], pixels[~late])
    said = refused("fill", image, "--box", "2,2,3,3", "-m", tmp_path / "wave", "-o", out, "-f")
    assert said.rstrip().endswith("is known behind a hole: fill with a model of any order")
    Image.new("RGB", (20, 20)).save(tmp_path / "rgb.png")
    said = refused("fill", tmp_path / "rgb.png", "--box", "2,2,3,3", "-m", "pictures", "-o", out, "-f")
    assert said.rstrip().endswith("is known behind a hole: fill with a model of any order, such as cifar10-any-order")


def test_fill_of_a_photograph_looks_at_the_hole_and_its_surroundings(tmp_path, monkeypatch):
    """The network sees a window; everything outside of the hole stays, and what is inside depends on nothing farther away."""
    config = preset("centred-tiny", shape=(1, 8, 8), classes=16, width=8, blocks=1)
    model = build(config)
    Bundle(model, config, card={"recipe": {"data": {"name": "cifar10"}}}).save(tmp_path / "any")
    pixels = np.random.default_rng(0).integers(0, 16, (150, 200), dtype=np.uint8)
    far = pixels.copy()
    far[:, 150:] ^= 15
    seen = set()
    monkeypatch.setattr(type(model), "__call__", seeing(type(model).__call__, seen))
    shown = []
    for name, x in (("a", pixels), ("b", far)):
        Image.fromarray(x).save(tmp_path / f"{name}.png")
        run("fill", tmp_path / f"{name}.png", "--box", "50,60,6,5", "-m", tmp_path / "any", "-n", 1, "--calls", 3,
            "-o", tmp_path / f"{name}-out.png", "--scale", 1, "--gif", tmp_path / f"{name}.gif",
            "--whole", tmp_path / f"{name}-whole.png")  # fmt: skip
        one = np.asarray(Image.open(tmp_path / f"{name}-out.png").convert("L")).astype(int)
        done = one[2:152, 204:404]
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / f"{name}-whole.png")), done
        )  # grey, as the photograph is
        assert np.array_equal(done[:60] // 17, x[:60])
        assert np.array_equal(np.delete(done, np.s_[50:56], 1) // 17, np.delete(x, np.s_[50:56], 1))
        shown.append(done[60:65, 50:56])
    assert seen == {(73, 72)}, "rows 24 to 96, columns 16 to 87"
    assert np.array_equal(*shown)


def test_fill_writes_the_completions_themselves(folder, tmp_path):
    image, out, whole = (tmp_path / name for name in ("i.png", "f.png", "w.png"))
    pixels = np.random.default_rng(0).integers(0, 16, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    fill = ("fill", image, "--box", "2,2,3,3", "-m", folder / "any", "--calls", 4, "-o", out, "--whole", whole)
    said = run(*fill, "-n", 3, "--scale", 2)
    assert f"wrote {tmp_path / 'w-1.png'} to w-3.png" in said.replace("\n", "")
    assert sorted(p.name for p in tmp_path.glob("w*")) == ["w-1.png", "w-2.png", "w-3.png"]
    sheet, drawn = np.asarray(Image.open(out)), set()
    for k in range(3):
        one = np.asarray(Image.open(tmp_path / f"w-{k + 1}.png"))
        assert one.shape == (8, 8, 3)
        assert np.array_equal(np.delete(one, np.s_[2:5], 1) // 17, np.delete(pixels, np.s_[2:5], 1))
        assert np.array_equal(one, sheet[2:18:2, 20 + 18 * k : 36 + 18 * k : 2])
        drawn.add(one.tobytes())
    assert len(drawn) == 3
    run(*fill, "-n", 1, "-f")
    assert whole.is_file()
    for rest, words in [
        (("-n", 3), "exists"),
        (("-n", 1, "-f", "--whole", out), "both the contact sheet and a completion"),
        (("-f", "--whole", tmp_path / "w.jpg"), "w-1.jpg: give a name that ends in .png"),
    ]:
        assert words in " ".join(refused(*fill[:-2], "--whole", whole, *rest).split())


def test_a_window_predicts_what_the_whole_picture_does():
    model = load("cifar10-any-order")
    y, x = np.mgrid[:160, :176] / 20
    picture = torch.from_numpy((127 + 60 * np.sin(np.stack([y, x, x + y])) + 50 * np.cos(3 * x * y / 8)).astype(int))
    hidden = torch.zeros(3, 160, 176, dtype=torch.bool)
    hidden[:, 70:90, 80:96] = True
    window = window_of(model, hidden)
    whole, part = (
        model.model(model.model.digits.truncate(picture[at][None], ~hidden[at][None]))[Sites.where(hidden[at][None])]
        for at in ((slice(None),) * 3, window)
    )
    assert part.shape == whole.shape
    assert (whole.softmax(-1) - part.softmax(-1)).abs().sum(-1).max() < 2e-3


def seeing(call, seen):
    """The call of a model that notes the sizes of the pictures that it is given."""

    def noted(self, state, *rest, **more):
        seen.add(tuple(state.value.shape[-2:]))
        return call(self, state, *rest, **more)

    return noted


def test_adaptive_plans_by_options(folder, tmp_path):
    """sample, fill and eval along a score and a selection; options that contradict each other are refused."""
    image, out, model = tmp_path / "i.png", tmp_path / "s.png", folder / "any"
    pixels = np.random.default_rng(0).integers(0, 16, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    rule = ("--order", "confident", "--score", "margin", "--select", "threshold=0.3", "--block-length", 50)
    run("sample", model, "-n", 2, *rule, "-o", out)
    assert Image.open(out).size
    run("fill", image, "--box", "2,2,3,3", "-m", model, "-n", 1, *rule, "-o", out, "-f", "--scale", 1)
    assert np.array_equal(np.asarray(Image.open(out))[2:10, 12:14] // 17, pixels[:, :2])
    said = run("eval", model, "--data", "array", "--folder", folder, "--items", 2, *rule)
    assert "exact, walked along an adaptive plan, 2 items" in said
    run("sample", model, "-n", 1, "--score", "probability", "--calls", 5, "-o", out, "-f")
    for options, words in [
        (("--select", "entropy=1", "--calls", 5), "leave calls out (got 5)"),
        (("--order", "bayer", "--score", "margin"), "belong to --order confident; got --order bayer"),
        (("--select", "0.9"), "--select takes fixed=4"),
        (("--select", "fixed=0.5"), "--select takes fixed=4"),
        (("--select", "threshold=-1"), "a threshold must be a finite number"),
        (("--score", "surprise"), "unknown score 'surprise'"),
    ]:
        assert words in refused("sample", model, "-n", 1, *options, "-o", tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()


def test_the_options_of_a_rule_are_a_plan():
    kinds = {"fixed=4": FixedNumber(4), "threshold=0.9": Threshold(0.9), "entropy=.1": EntropyBudget(0.1), "": None}
    for text, selection in kinds.items():
        assert ordering("confident", "margin", text, 32) == Adaptive("margin", selection, 32)
    assert ordering("", "", "", 8) == Adaptive(block_length=8)
    assert ordering("bayer", "", "", None) == "bayer"
    assert ordering("", "", "", None) is None


def test_masks_say_black_or_white_or_are_refused(folder, tmp_path):
    """Mid-grey was cut at 128, colours and smooth edges too, and alpha was dropped without a word."""
    image, mask, out = tmp_path / "i.png", tmp_path / "m.png", tmp_path / "f.png"
    pixels = np.random.default_rng(0).integers(0, 16, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    half = np.repeat([[0] * 4 + [255] * 4], 8, 0).astype(np.uint8)
    grey, red, clear, opaque = half.copy(), np.stack([half] * 3, 2), np.stack([half] * 4, 2), np.stack([half] * 4, 2)
    grey[2, 3], red[4, 5], clear[..., 3], opaque[..., 3] = 128, (255, 0, 0), 255 - half, 255

    def ask(picture, way=run):
        picture.save(mask)
        return way(
            "fill", image, "--mask", mask, "-m", folder / "any", "-n", 1, "--calls", 4, "-o", out, "-f", "--scale", 1
        )

    assert "1 pixels that are neither white (fill) nor black (keep), the first (128,) at 3,2" in ask(
        Image.fromarray(grey), refused
    )
    assert "the first (255, 0, 0) at 5,4" in ask(Image.fromarray(red), refused)
    assert "32 transparent pixels" in ask(Image.fromarray(clear), refused)
    assert "32 transparent pixels" in ask(Image.fromarray(clear[..., 2:]), refused)
    assert not out.exists()
    nearly = np.where(half == 0, 9, 247).astype(np.uint8)  # as JPEG leaves it
    for fine in (half, nearly, opaque, opaque[..., 2:], np.stack([nearly] * 3, 2), half > 0):
        ask(Image.fromarray(fine))
        shown = np.asarray(Image.open(out))[2:10, 12:20]
        assert np.array_equal(shown[:, :4], pixels[:, :4] * 17)
        assert not np.array_equal(shown, pixels * 17)
        out.unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "nowhere"), "there is no float model"),
        (("train", "no-such-recipe"), "unknown recipe"),
        (("train", "cifar10-any-order", "train.bacth=2"), "did you mean 'train.batch'"),
        (("train", "cifar10-any-order", "data.folder=/nonexistent"), "nonexistent"),
        (("sample", "/etc"), "not a model"),
    ],
)
def test_mistakes_are_one_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(*arguments)
    assert words in said
    assert len(said) < 400
    assert not list(tmp_path.iterdir())


def commands(command, words=()):
    """The program and every command below it, with the words that call it."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(("ardm", *words)))
def test_every_command_has_help_on_every_option(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    said = run(*words, "--help")
    assert "Usage: " in said
    for option in COMMANDS[words].params:
        if option.param_type_name == "option" and not option.hidden:
            assert option.help, option.name
            assert option.opts[0] in said


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *product(["sample", "fill"], ["--items", "--scale", "--block-length"]),
        *product(["eval", "audit"], ["--passes", "--block-length"]),
        *product(["audit"], ["--plans", "--streams"]),
        ("export", "--items"),
    ],
)
def test_numbers_that_no_size_can_be_computed_from_are_usage_errors(command, option, tmp_path):
    for number in (2**31, 10**23):
        result = CliRunner().invoke(app, [command, str(tmp_path / "x"), f"{option}={number}"])
        assert result.exit_code == 2, result.output
        assert "less than or equal to" in " ".join(result.output.split())


def test_usage_and_version():
    assert "Usage" in run("--help")
    assert "ardm 0." in run("--version")
    run("sample", "--calls", "0", code=2)
    assert "recipes" in run("models")
    assert torch.get_num_threads() >= 1


# --- text, sounds and tables ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A folder of tiny models of text, sounds and rows, and the codecs made of them."""
    path = tmp_path_factory.mktemp("lines")
    for name in ("text", "bytes", "sound", "table", "classic"):
        bundle(name).save(path / name)
        (path / "codecs" / name).mkdir(parents=True)
        line_model(name).save(path / "codecs" / name / NAME)
    return path


@pytest.mark.parametrize("made", [".", "codecs"])
def test_samples_of_every_kind(lines, tmp_path, made, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = lines / made
    said = run("sample", models / "text", "-n", 2, "-o", "a.txt", "--seed", 1)
    written = (tmp_path / "a.txt").read_text()
    assert set(written) <= set(" abcdefghijklmnopqrstuvwxyz\n")
    assert len(written) == (2 * 24 + 3 if made == "." else 2 * 256 + 3)
    assert "wrote a.txt" in said
    run("sample", models / "text", "-n", 2, "--seed", 1)
    assert (tmp_path / "samples.txt").read_text() == written
    run("sample", models / "bytes", "-n", 1, "-o", "b.txt")
    assert (tmp_path / "b.txt").read_bytes().decode()
    run("sample", models / "table", "-n", 3)
    schema, rows = learn((tmp_path / "samples.csv").read_text(), header=True)
    assert schema.names == SCHEMA.names
    assert len(rows) == 3
    run("sample", models / "classic", "-n", 3, "-o", "c.csv")
    values = np.loadtxt(tmp_path / "c.csv", delimiter=",", dtype=int)
    assert values.shape == (3, 3)
    assert (values < [3, 1, 5]).all()


def test_samples_of_sounds(lines, tmp_path):
    said = run("sample", lines / "sound", "-n", 2, "-o", tmp_path / "a.wav")
    content = formats.read((tmp_path / "a.wav").read_bytes()).content
    assert (content.kind, content.rate, content.shape) == (Kind.AUDIO, 8000, (1, 1, 2 * (24 + 1600)))
    assert "2 sounds" in said


def test_a_codec_model_samples_what_it_decodes(lines, tmp_path):
    run("sample", lines / "codecs" / "text", "-n", 1, "-o", tmp_path / "a.txt", "--seed", 4)
    letters = np.frombuffer(line_model("text").alphabet, np.uint8)
    drawn = letters[sampling.sample(line_model("text"), 1, seed=4)].tobytes()
    assert (tmp_path / "a.txt").read_bytes() == drawn + b"\n"
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(ArdmError, match=f"items must be a whole number of at least 1; got {wrong!r}"):
            sampling.sample(line_model("text"), wrong)


def test_samples_that_cannot_be_written(lines, tmp_path):
    for name, ending in (("text", ".txt"), ("table", ".csv"), ("sound", ".wav")):
        for models in (lines, lines / "codecs"):
            said = refused("sample", models / name, "-o", tmp_path / "a.png")
            assert f"ends in {ending}" in said
            assert "no folder" in refused("sample", models / name, "-o", tmp_path / "no" / f"a{ending}")
            (tmp_path / f"old{ending}").write_bytes(b"old")
            assert "exists" in refused("sample", models / name, "-o", tmp_path / f"old{ending}")
            assert (tmp_path / f"old{ending}").read_bytes() == b"old"
    out = tmp_path / "a.txt"
    assert "only images can be animated" in refused("sample", lines / "text", "-o", out, "--gif", tmp_path / "a.gif")
    for option in (
        ["--temperature", 0.5],
        ["--top-k", 3],
        ["--top-p", 0.5],
        ["--order", "own"],
        ["--gif", tmp_path / "a.gif"],
        ["--label", 1],
    ):
        assert "its own way" in refused("sample", lines / "codecs" / "text", "-o", out, *option)
    assert "no number of calls; got 5" in refused("sample", lines / "codecs" / "text", "-o", out, "--calls", 5)
    assert "an item takes 1 to 4 network calls; got 5" in refused(
        "sample", lines / "codecs" / "table", "-o", tmp_path / "a.csv", "--calls", 5
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.csv", "old.txt", "old.wav"]


def test_eval_of_text(lines, tmp_path):
    (tmp_path / "test.txt").write_bytes(b"the cat sat on the mat " * 20)
    settings = ["data.name=text", f"data.folder={tmp_path}", "data.length=24"]
    said = run("eval", lines / "text", *settings, "data.alphabet='27'", "--items", 4)
    assert "4 items of text/test" in said
    assert "exact" in said
    assert "bits/dim" in said
    own = (*settings, "data.alphabet='27'", "--items", 4)
    model = shutil.copytree(lines / "text", tmp_path / "model")
    assert "bf16 loses" in run("eval", model, *own, "--precision", "bf16")
    assert "bf16_loss" not in load(model).card
    said = run("eval", model, *own, "--record")
    assert "bf16 loses" in said
    assert "wrote it on the card" in said
    assert isinstance(load(model).card["bf16_loss"], float)
    assert load(model).identity == load(lines / "text").identity
    assert "precision is auto, float32 or bf16; got 'half'" in refused("eval", model, *own, "--precision", "half")
    assert "models 27 values" in refused("eval", lines / "text", *settings, "data.alphabet=bytes", "--items", 4)
    assert "models 256 values" in refused("eval", lines / "bytes", *settings, "data.alphabet='27'", "--items", 4)
    assert "items of shape (24,)" in refused("eval", lines / "text", *settings, "data.length=20", "--items", 4)
    assert "begin with data." in refused("eval", lines / "text", *settings, "train.steps=3")
    assert "did you mean" in refused("eval", lines / "text", *settings, "data.lenght=3")  # codespell:ignore lenght


def test_eval_of_sounds(lines, tmp_path):
    heard = Content(Kind.AUDIO, sound(1, 24 * 40)[:, 0][:, None] % 4096, "wav", rate=8000)
    name = next(f"{n}.wav" for n in range(999) if fraction(f"{n}.wav") >= 0.95)  # of the test split
    (tmp_path / name).write_bytes(formats.render(heard))
    settings = ["data.name=sounds", f"data.folder={tmp_path}", "data.length=24"]
    assert "bits/dim" in run("eval", lines / "sound", *settings, "--items", 2)


def test_eval_of_a_table_goes_by_the_texts_of_its_values(lines, tmp_path):
    """A file that has fewer of them, or in which they come in another order, numbers them otherwise."""
    rows = items("table", 300, seed=3)
    (tmp_path / "all.csv").write_text(SCHEMA.decode(rows.tolist()))
    few = rows[(rows[:, 1] != 0) & (rows[:, 2] != 0)]
    (tmp_path / "few.csv").write_text(SCHEMA.decode(few.tolist()))
    said = run("eval", lines / "table", "--data", "table", "--folder", tmp_path / "few.csv", "--calls", 4, "--items", 0)
    assert "nats per item" in said
    x = data.table(tmp_path / "few.csv", "test").items.long()
    x[:, 1:3] += 1
    shown = float(re.search(r"-([\d.]+) nats per item", said).group(1))
    assert abs(shown - float(api.score(bundle("table"), x, 4, None, 0, 4, None).nats.mean())) < 1e-3
    (tmp_path / "more.csv").write_text(SCHEMA.decode(rows.tolist()).replace(",20,", ",21,"))
    assert "column 'age': '21' is not a known value" in refused(
        "eval", lines / "table", "--data", "table", "--folder", tmp_path / "more.csv", "--items", 0
    )
    (tmp_path / "other.csv").write_text(SCHEMA.decode(few.tolist()).replace("sex,age", "sex,years"))
    assert "has no column 'age', which the model knows" in refused(
        "eval", lines / "table", "--data", "table", "--folder", tmp_path / "other.csv"
    )
    np.save(tmp_path / "rows.npy", np.array([[4, 0, 1], [1, 0, 2], [0, 0, 3], [2, 0, 4], [3, 0, 0]] * 40))
    assert "more values" in refused("eval", lines / "classic", "--data", "table", "--folder", tmp_path / "rows.npy")
