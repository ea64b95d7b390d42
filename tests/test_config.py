"""Recipes: typed, checked, overridden; every shipped one is valid."""

import json
import tempfile
from pathlib import Path

import pytest

from ardm.errors import ArdmError
from ardm.models.build import PRESETS, ModelConfig, build, preset
from ardm.settings import from_values
from ardm.train.recipe import Recipe, load_recipe, shipped


def recipe_file(text):
    path = Path(tempfile.mkdtemp()) / "r.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_valid_and_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.name == name.partition("/")[2] or recipe.name == name.replace("/", "-")
    assert from_values(Recipe, json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_presets_are_settings_that_can_be_overridden():
    recipe = load_recipe(
        recipe_file("model: {preset: local, width: 32}"), ["model.blocks=1", "train.rate=1e-3", "data.flip=true"]
    )
    assert (recipe.model.trunk, recipe.model.width, recipe.model.blocks, recipe.model.radius) == ("local", 32, 1, 3)
    assert recipe.train.rate == 1e-3
    assert recipe.data.flip is True


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.bacth=3", r"unknown setting train\.bacth; did you mean 'train\.batch'\?"),
        ("steps=3", r"unknown setting steps; did you mean 'train\.steps'\?"),
        ("stpes=3", r"unknown setting stpes; did you mean 'train\.steps'\?"),
        ("model.steps=3", r"unknown setting model\.steps; did you mean 'train\.steps'\?"),
        ("train.widht=3", r"unknown setting train\.widht; did you mean 'model\.width'\?"),
        ("batch.size=3", r"unknown setting batch; did you mean 'train\.batch'\?"),
        ("labels=3", r"did you mean 'model\.labels' or 'data\.labels'\?"),
        ("train.preset=tiny", r"did you mean 'model\.preset'\?"),
        ("train.accumulate=0", r"train\.accumulate must be at least 1"),
        ("train.label_dropout=1", r"train\.label_dropout must lie in \[0, 1\)"),
        ("modle.width=3", "unknown setting modle; did you mean 'model'"),
        ("model.preset=locla", "did you mean 'local'"),
        ("train.batch=many", r"train\.batch must be of type int; got 'many'"),
        ("train.batch=true", r"train\.batch must be of type int; got True"),
        ("train.batch=0", r"train\.batch must be at least 1"),
        ("train.decay=cosin", "one of constant, linear, cosine"),
        ("train.batch.size=3", "is a value, not a section"),
        ("train=3", "must hold settings"),
        ("train.batch", "key=value"),
        ("train.batch=[", "not valid YAML"),
        ("order.order=spiral", "unknown order 'spiral'"),
        ("train.ema=1", r"train\.ema"),
        ("train.clip=.nan", r"train\.clip"),
        ("train.weight_decay=-1", r"train\.weight_decay must be 0 or more"),
        ("train.seed=-1", r"train\.seed"),
        ("train.beta2=2", r"train\.beta2"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override, words):
    with pytest.raises(ArdmError, match=words):
        load_recipe(recipe_file("train: {batch: 8}"), [override])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10-codex", "did you mean 'laptop/cifar10-codec'"),
        ("no/such.yaml", "no recipe file"),
    ],
)
def test_an_unknown_recipe_is_named(name, words):
    with pytest.raises(ArdmError, match=words):
        load_recipe(name)


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "just words"])
def test_a_file_that_is_no_recipe_is_refused(text):
    with pytest.raises(ArdmError):
        load_recipe(recipe_file(text))


def test_building_is_seeded_and_leaves_the_global_generator_alone():
    import torch

    before = torch.random.get_rng_state()
    config = preset("local-tiny", shape=(1, 8, 8))
    one, two, other = build(config, 1), build(config, 1), build(config, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_paper_size_is_the_papers():
    """124 M parameters by the reference's count: 32 + 33 blocks of 256 channels and one attention block."""
    import torch

    with torch.device("meta"):
        from ardm.models.build import ImageBody, _head

        config = preset("paper")
        number = sum(p.numel() for m in (ImageBody(config), _head(config)) for p in m.parameters())
    assert number == pytest.approx(123.9e6, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": "softmax"}, "head must be one of"),
        ({"trunk": "forest"}, "trunk"),
        ({"attention": "some"}, "attention"),
        ({"shape": (3, 32)}, "shape"),
        ({"width": 0}, "width"),
        ({"base": 300}, "base"),
        ({"labels": 2, "vector": 3}, "either"),
        ({"rings": -1}, "rings"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_models_are_refused(change, words):
    with pytest.raises(ArdmError, match=words):
        build(ModelConfig(**change))


def test_model_settings_from_a_newer_version_are_named():
    with pytest.raises(ArdmError, match=r"unknown setting model\.depthwise"):
        from_values(ModelConfig, {"depthwise": True}, "model.")
    assert set(PRESETS) >= {"tiny", "small", "medium", "paper", "local"}
