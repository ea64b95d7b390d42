"""Recipes: typed, checked, overridden; every shipped one is valid."""

import dataclasses
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.models.build import BODIES, SHARED, build, outline
from ardm.models.config import PRESETS, ModelConfig, preset
from ardm.settings import NAMED, from_values
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
        recipe_file("model: {preset: centred, width: 32}"), ["model.blocks=1", "train.rate=1e-3", "data.flip=true"]
    )
    assert (recipe.model.trunk, recipe.model.width, recipe.model.blocks, recipe.model.levels) == ("centred", 32, 1, 3)
    assert recipe.train.rate == 1e-3
    assert recipe.data.flip is True


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.bacth=3", r"unknown setting train\.bacth; did you mean 'train\.batch'\?"),
        ("steps=3", r"unknown setting steps; did you mean 'train\.steps'\?"),
        ("stpes=3", r"unknown setting stpes; did you mean 'train\.steps'\?"),
        ("train.lr=3", r"unknown setting train\.lr; did you mean 'train\.rate'\?"),
        ("train.num_layers=3", r"unknown setting train\.num_layers; did you mean 'model\.blocks'\?"),
        ("data.epochs=3", r"unknown setting data\.epochs; did you mean 'train\.steps'\?"),
        ("model.steps=3", r"unknown setting model\.steps; did you mean 'train\.steps'\?"),
        ("train.widht=3", r"unknown setting train\.widht; did you mean 'model\.width'\?"),  # codespell:ignore widht
        ("batch.size=3", r"unknown setting batch; did you mean 'train\.batch'\?"),
        ("labels=3", r"did you mean 'model\.labels' or 'data\.labels'\?"),
        ("train.preset=tiny", r"did you mean 'model\.preset'\?"),
        ("train.accumulate=0", r"train\.accumulate must be at least 1"),
        ("train.label_dropout=1", r"train\.label_dropout must lie in \[0, 1\)"),
        ("modle.width=3", "unknown setting modle; did you mean 'model'"),  # codespell:ignore modle
        ("model.preset=centrd", "did you mean 'centred'"),  # codespell:ignore centrd
        ("model.preset=[centred]", "unknown model.preset"),
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
        ("train.minutes=.inf", r"train\.minutes must lie in \[0, ∞\)"),
        ("train.minutes=-1", r"train\.minutes must lie in \[0, ∞\)"),
        ("train.seed=18446744073709551616", r"train\.seed must lie in \[0, 2⁶⁴\)"),
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
        ("cifar10-unett", "did you mean 'laptop/cifar10-unet'"),
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

    before = torch.random.get_rng_state()
    config = preset("centred-tiny", shape=(1, 8, 8))
    one, two, other = build(config, 1), build(config, 1), build(config, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_paper_size_is_the_papers():
    """124 M parameters by the reference's count: 32 + 33 blocks of 256 channels and one attention block."""

    with torch.device("meta"):
        from ardm.models.build import head_of
        from ardm.models.images import PaperUNetBody

        config = preset("paper")
        number = sum(p.numel() for m in (PaperUNetBody(config), head_of(config)) for p in m.parameters())
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
        ({"cycle": -1}, "cycle"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_models_are_refused(change, words):
    with pytest.raises(ArdmError, match=words):
        build(ModelConfig(**change))


SOME = {
    "levels": 2, "growth": 2, "attention": "all", "dropout": 0.1, "embedding": 3, "labels": 2,
    "vector": 3, "time": True, "rounded": False, "heads": 2, "hidden": 5, "positions": "learned", "style": "classic",
    "cycle": 2, "kernel": 5, "direct": True, "columns": (4,) * 8, "causal": "single", "reach": (4, 0), "hashes": (20,),
    "bits": 6, "row": 4, "rates": True, "end": True, "counts": (2,), "count_bits": 5,
}  # fmt: skip
"""A value of each setting that is not its default."""
ONE_SIDE = {"recurrent": {"reach": (4,)}}
"""The same of a trunk that reads to the left only."""
BASE = {"width": 8, "blocks": 1, "classes": 4, "head": "values"}


@pytest.mark.parametrize(
    "change",
    [
        {"width": "a"},
        {"width": 8.5},
        {"dropout": "a"},
        {"shape": 3},
        {"shape": (3, "a", 4)},
        {"head": 1},
        {"time": "no"},
    ],
    ids=repr,
)
def test_values_of_another_type_are_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ArdmError, match=rf"{name} (must be of type|holds whole numbers).*got {re.escape(repr(value))}"):
        build(ModelConfig(**change))


def test_every_setting_is_read_by_a_trunk():
    names = {f.name for f in dataclasses.fields(ModelConfig)}
    assert set(SOME) == names - set(SHARED)
    assert set(SOME) == set().union(*(kind.reads for kind in BODIES.values()))


@pytest.mark.parametrize("trunk", BODIES)
def test_a_trunk_refuses_the_settings_of_others(trunk):
    kind = BODIES[trunk]
    shape = (1, 2, 4) if kind.axes == 3 else (8,)
    base = ModelConfig(shape=shape, trunk=trunk, causal=kind.causal[0], **{**BASE, "head": kind.heads[0]})
    build(base)
    for name, value in {**SOME, **ONE_SIDE.get(trunk, {}), "causal": kind.causal[-1] or "single"}.items():
        changed = dataclasses.replace(base, **{name: value})
        if name in kind.reads:
            build(changed)
            continue
        for make in (build, outline):
            with pytest.raises(
                ArdmError, match=f"trunk {trunk} has no setting {name} .*; it has .*{kind.reads[-1]}.*is for"
            ):
                make(changed)


@pytest.mark.parametrize("trunk", BODIES)
def test_a_trunk_declares_all_that_it_reads(trunk):
    """Making and calling a body looks up no setting that its kind does not name."""
    seen, kind = set(), BODIES[trunk]

    class Spied(ModelConfig):
        def __getattribute__(self, name):
            seen.add(name)
            return super().__getattribute__(name)

    shape = (1, 2, 4) if kind.axes == 3 else (8,)
    own = {name: SOME[name] for name in kind.reads if name in ("labels", "reach", "hashes", "counts")} | ONE_SIDE.get(
        trunk, {}
    )
    for order in kind.causal:
        body = kind.body(Spied(shape=shape, trunk=trunk, **BASE, causal=order, **own))
        state = body.digits.blank(2, shape) if hasattr(body, "digits") else Digits(4, 4).blank(2, shape)
        label = torch.tensor([0, 1]) if own.get("labels") else None
        body(state, label)(torch.tensor([0]), torch.tensor([0]))
    free = {"causal", "columns"}  # asked of every trunk: whether a single order, whether a table
    assert (seen & set(SOME)) - free <= set(kind.reads)


def test_settings_that_a_trunk_does_not_read_may_have_their_defaults():
    """A saved configuration holds every setting."""
    config = ModelConfig(shape=(5,), trunk="transformer", **BASE)
    assert build(from_values(ModelConfig, dataclasses.asdict(config), "model.")).body.config == config


def test_a_recipe_of_another_trunk_leaves_its_own_settings_behind(tmp_path):
    """`model.preset=text-small` on a recipe with bits: 15; what the override itself names stays, and is refused."""
    other = ["model.preset=text-small", "model.width=64"]
    model = load_recipe("laptop/text", other).model
    assert (model.trunk, model.width, model.dropout, model.bits) == ("transformer", 64, 0.1, ModelConfig().bits)
    assert load_recipe("laptop/text", ["model.trunk=transformer"]).model.hashes == ()
    assert load_recipe("laptop/text", ["model.width=64"]).model.bits == 15
    with pytest.raises(ArdmError, match=r"trunk transformer has no setting bits \(got 9\)"):
        build(dataclasses.replace(load_recipe("laptop/text", [*other, "model.bits=9"]).model, shape=(8,)))
    own = recipe_file("model: {preset: text-small, shape: [8], bits: 9}")
    with pytest.raises(ArdmError, match="trunk transformer has no setting bits"):
        build(load_recipe(own).model)
    (tmp_path / "recipe.json").write_text(json.dumps(load_recipe(own).to_dict()))
    build(load_recipe(str(tmp_path)).model)  # a run from before such settings were refused


def test_model_settings_from_a_newer_version_are_named():
    with pytest.raises(ArdmError, match=r"unknown setting model\.depthwise"):
        from_values(ModelConfig, {"depthwise": True}, "model.")
    assert set(PRESETS) >= {"tiny", "small", "medium", "paper", "centred"}


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ()
    header: bool | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner, metadata={NAMED: {"kind": {"fast": {"rate": 2}}}})
    count: int = 1


def test_settings_make_any_dataclass():
    assert from_values(Outer, {"inner": None}) == Outer()
    assert from_values(Outer, {"inner": {"rate": "1e-3", "names": 27}, "count": 3}) == Outer(Inner(1e-3, ("27",)), 3)
    assert from_values(Outer, {"inner": {"kind": "fast", "header": True}}) == Outer(Inner(2.0, (), True))
    assert from_values(Outer, {"inner": {"rate": 1, "kind": "fast"}}).inner.rate == 1.0, "a name yields to settings"
    for values, words in (
        ({"iner": {}}, "unknown setting iner; did you mean 'inner'"),
        ({"rate": 1}, r"unknown setting rate; did you mean 'inner\.rate'"),
        ({"inner": {"cout": 1}}, r"unknown setting inner\.cout; there are rate, names, header"),
        ({"inner": {"kind": "fats"}}, r"unknown inner\.kind 'fats'; did you mean 'fast'"),
        ({"inner": 3}, "inner must hold settings, not 3"),
        ([], r"a configuration must hold settings, not \[\]"),
        ({"count": 1.5}, "count must be of type int; got 1.5"),
    ):
        with pytest.raises(ArdmError, match=words):
            from_values(Outer, values)
