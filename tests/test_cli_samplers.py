"""The command line draws what the functions draw, and no command that prints a likelihood takes these samplers."""

import re

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import ardm
from ardm import data
from ardm.bundle import Bundle
from ardm.cli.app import app
from ardm.models.build import build
from ardm.models.config import ModelConfig
from toys import generator, randomise

LINE = {"trunk": "transformer", "shape": (6,), "classes": 5, "width": 8, "heads": 1, "blocks": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A labelled model, an order-agnostic causal one, and one of pictures, all with arbitrary weights."""
    path = tmp_path_factory.mktemp("samplers")
    configs = {
        "labels": ModelConfig(**LINE, labels=3),
        "causal": ModelConfig(**LINE, causal="any"),
        "pictures": ModelConfig(trunk="centred", shape=(1, 6, 6), classes=256, width=8, blocks=1),
    }
    for name, config in configs.items():
        Bundle(randomise(build(config), scale=0.7), config, card={"recipe": {"data": {"name": "array"}}}).save(
            path / name
        )
    return path


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output + str(result.exception)
    assert "Traceback" not in result.output
    return re.sub(r"\s+", " ", result.output)


def drawn(out, *words):
    run("sample", *words, "-o", out, "-f")
    return torch.from_numpy(np.load(out)).long()


def test_samples_are_those_of_the_functions(models, tmp_path):
    out, labels, causal = tmp_path / "s.npy", models / "labels", models / "causal"
    plain, any_order = ardm.load(str(labels)), ardm.load(str(causal))
    for words, wanted in [
        (("--remask", "cap=0.5"), ardm.sample_remasked(plain, 9, 4, 0.5, seed=2)),
        (("--remask", "rescale=0.9"), ardm.sample_remasked(plain, 9, 4, 0.9, seed=2, schedule="rescale")),
        (("--remask", "cap=0.5", "--label", 1), ardm.sample_remasked(plain, 9, 4, 0.5, seed=2, context=1)),
        (("--guidance", 2, "--label", 1), ardm.sample(ardm.guided(plain, 2.0), 9, 4, seed=2, context=1)),
        (
            ("--refine", 3, "--label", 1),
            ardm.refine(plain, ardm.sample(plain, 9, 4, seed=2, context=1), 3, calls=4, seed=2, context=1),
        ),
    ]:
        assert torch.equal(drawn(out, labels, "-n", 9, "--calls", 4, "--seed", 2, *words), wanted), words
    for order in ("random", "raster"):
        words = ("-n", 9, "--seed", 2, "--speculative", "--order", order)
        assert torch.equal(drawn(out, causal, *words), ardm.sample_speculative(any_order, 9, order, seed=2).value)
    assert re.search(r"[2-7] network calls for 6 sites", run("sample", causal, "--speculative", "-o", out, "-f"))


def test_remasking_is_animated(models, tmp_path):
    """A frame for each network call."""
    gif = tmp_path / "a.gif"
    words = ("--calls", 6, "--remask", "cap=1", "--gif", gif, "--scale", 1, "-o", tmp_path / "a.png")
    run("sample", models / "pictures", "-n", 1, *words)
    with Image.open(gif) as frames:
        assert frames.n_frames == 6


def test_filling_keeps_what_is_known_while_it_refines(models, tmp_path):
    picture, out = tmp_path / "p.png", tmp_path / "f.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(6, 6), dtype=np.uint8)).save(picture)
    words = ("fill", picture, "-m", models / "pictures", "-n", 1, "--scale", 1, "-o", out)
    shown = []
    for refine in (0, 3):
        run(*words, "--box", "0,0,3,6", "--refine", refine, "-f")
        shown.append(np.asarray(Image.open(out))[2:8, 10:16, 0])  # the completion, beside the given picture
        assert np.array_equal(shown[-1][:, 3:], np.asarray(Image.open(picture))[:, 3:])
    assert not np.array_equal(*shown)
    assert "whole values" in run(*words, "--digits", 1, "--refine", 1, "-f", code=1)
    assert "takes no context" in run(*words, "--box", "0,0,3,6", "--guidance", 1, "-f", code=1)


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("labels", ("--remask", "0.1"), "--remask takes cap=0.1 or rescale=0.1, for example; got '0.1'"),
        ("labels", ("--remask", "cap=-1"), "--remask takes"),
        ("labels", ("--remask", "cap=1.5"), "share must be a number above 0 and at most 1; got 1.5"),
        ("labels", ("--remask", "cap=.1", "--order", "raster"), "--remask reveals in random orders"),
        ("labels", ("--remask", "cap=.1", "--score", "margin"), "--remask reveals in random orders"),
        ("labels", ("--guidance", "1"), "guidance needs a context"),
        ("labels", ("--speculative",), "needs an order-agnostic causal model"),
        ("causal", ("--guidance", "1"), "takes no context"),
        ("causal", ("--speculative", "--remask", "cap=.1"), "give --remask or --speculative"),
        ("causal", ("--speculative", "--calls", "3"), "leave --calls"),
        ("causal", ("--speculative", "--top-k", "3"), "--top-k"),
        ("causal", ("--speculative", "--score", "margin"), "the orders random and raster"),
        ("causal", ("--speculative", "--order", "bayer"), "the orders random and raster"),
    ],
)
def test_options_that_contradict_each_other_are_refused(models, tmp_path, model, words, said):
    assert said in run("sample", models / model, "-n", 1, *words, "-o", tmp_path / "s.npy", code=1)
    assert not (tmp_path / "s.npy").exists()


def test_a_codec_model_takes_none_of_them(tmp_path):
    for words in (("--guidance", 1), ("--remask", "cap=.1"), ("--refine", 1), ("--speculative",)):
        assert "its own way" in run("sample", "text27", *words, "-o", tmp_path / "s.txt", code=1)


def test_no_command_that_prints_a_likelihood_has_them():
    beyond = {"--remask", "--refine", "--speculative"}
    for name, command in typer.main.get_command(app).commands.items():
        has = beyond & {option for parameter in command.params for option in parameter.opts}
        assert has == {"sample": beyond, "fill": {"--refine"}}.get(name, set()), name


def test_a_guided_model_has_a_likelihood(models, monkeypatch):
    x = torch.randint(5, (4, 6), generator=generator(1))
    labels = torch.tensor([0, 1, 2, 1])
    monkeypatch.setattr(data, "of_config", lambda *_, **__: data.Dataset(x, 5, "toy", labels))
    said = run("eval", models / "labels", "--calls", 6, "--order", "raster", "--guidance", 1.5)
    model = ardm.guided(ardm.load(str(models / "labels")), 1.5)
    wanted = ardm.score(model, x, 6, "raster", context=labels)
    assert f"{wanted.bits_per_dim:.3f} ± {wanted.bits_per_dim_error:.3f} bits/dim (exact" in said
