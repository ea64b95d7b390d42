"""Model folders: atomic, with the same identity after a round trip, and with clear errors."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from ardm.atomic import replacing
from ardm.bundle import Bundle, bundled, load
from ardm.errors import ArdmError
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import PRESETS, ModelConfig, preset
from ardm.orders import OrderConfig


def make(seed=0):
    config = preset("centred-tiny", shape=(1, 6, 6), classes=8)
    curve = LossCurve.exact(np.linspace(2, 1, 36)[None])
    return Bundle(build(config, seed).eval(), config, OrderConfig(), curve, {"name": "made"})


def test_a_round_trip_keeps_everything(tmp_path):
    made = make()
    made.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert (again.config, again.order, again.name, again.identity) == (made.config, made.order, "made", made.identity)
    assert np.array_equal(again.curve.monotone(), made.curve.monotone())
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    assert not any(p.requires_grad for p in again.model.parameters())


def test_it_prints_as_one_line():
    config = preset("text-tiny", shape=(6,), classes=5, width=8, blocks=1)
    made = Bundle(build(config), config, curve=LossCurve.exact(np.ones((1, 6))), card={"name": "mine"})
    weights = sum(p.numel() for p in made.model.parameters())
    assert repr(made) == f"Bundle('mine': {weights:,} weights, (6,) of 5 values, any order, with curve)"
    assert repr(made.curve) == "LossCurve(1 stage, 6 sites, 6 observations)"
    assert "one order, with codec" in repr(load("pictures-small"))
    assert "order bayer" in repr(dataclasses.replace(made, curve=None, order=OrderConfig("bayer", (3,))))


def test_identity_changes_with_any_weight_and_setting():
    made = make()
    assert made.identity == make().identity
    assert made.identity != make(1).identity
    assert made.identity != Bundle(made.model, made.config, OrderConfig("bayer")).identity
    other = make()
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1e-6
    assert made.identity != other.identity


def test_saving_replaces_whole_or_not_at_all(tmp_path):
    make().save(tmp_path / "m")

    def half():
        with replacing(tmp_path / "m") as new:
            (new / "config.json").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert load(tmp_path / "m").identity == make().identity
    make(1).save(tmp_path / "m")
    assert load(tmp_path / "m").identity == make(1).identity
    assert [p.name for p in tmp_path.iterdir()] == ["m"], "nothing else is left behind"


def test_a_model_saved_with_settings_of_other_trunks_loads(tmp_path):
    """Versions before this one saved them; they count for the identity that such a folder holds."""
    made = make()
    folder = made.save(tmp_path / "m")
    old = dataclasses.replace(made, config=dataclasses.replace(made.config, bits=9))
    change(folder, model=dataclasses.asdict(old.config), identity=old.identity)
    again = load(folder)
    assert again.config == made.config
    assert again.identity == made.identity != old.identity
    load(again.save(tmp_path / "again"))
    change(folder, model=dataclasses.asdict(old.config) | {"bits": 8})
    with pytest.raises(ArdmError, match="damaged"):
        load(folder)


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "not a readable model"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "not a readable model"),
        (lambda f: (f / "config.json").write_text("[]"), "not a readable model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), "not a readable model"),
        (lambda f: (f / "curve.safetensors").write_bytes(b""), "not a readable model"),
        (lambda f: change(f, ardm=99), "model format 99"),
        (lambda f: change(f, model={"depth": 3}), "unknown setting model.depth"),
        (lambda f: change(f, model={"shape": [1, 6, 6], "trunk": "centred", "width": 8}), "do not fit"),
    ],
)
def test_a_spoilt_model_is_refused_with_a_reason(tmp_path, spoil, words):
    make().save(tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(ArdmError, match=words):
        load(tmp_path / "m")


def test_one_changed_weight_is_found(tmp_path):
    make().save(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArdmError, match="damaged"):
        load(tmp_path / "m")


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(ArdmError, match="give a folder, or one of"):
        load("no-such-model")


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_model_loads_and_is_what_its_folder_says(name):
    bundle = load(name)
    assert bundle.name == name
    assert bundle.card["recipe"]["name"] == name
    for key in ("data", "licence", "command", "figures"):
        assert bundle.card[key]


# --- what is written is read, or not written ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in PRESETS if "paper" not in n and n not in ("medium", "recurrent")])
def test_what_save_writes_load_reads(tmp_path, name):
    """Over every kind of network, in half precision and double too."""
    small = {"width": 16, "blocks": 1}
    trunk = PRESETS[name]["trunk"]
    shape = (3, 8, 8) if trunk in ("unet", "centred") else (12,)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        config = preset(name, shape=shape, classes=16, **small)
        made = Bundle(build(config).to(dtype).eval(), config, card={"name": name})
        read = load(made.save(tmp_path / f"{name}-{str(dtype)[6:]}"))
        assert read.identity == made.identity
        for key, value in made.model.state_dict().items():
            assert torch.equal(read.model.state_dict()[key].float(), value.float())


def test_what_load_could_not_read_is_not_saved(tmp_path):
    config = ModelConfig(shape=(3, 8, 8), classes=16, trunk="centred", width=16, blocks=1)
    model = build(config)
    for other in (
        dataclasses.replace(config, width=32),
        dataclasses.replace(config, shape=(3, 8, 9)),
        dataclasses.replace(config, base=4),
        dataclasses.replace(config, rounded=False),
        dataclasses.replace(config, head="values"),
        dataclasses.replace(config, trunk="unet"),
        dataclasses.replace(config, trunk="of-my-own"),
    ):
        with pytest.raises(ArdmError, match=r"cannot be saved.*ardm\.load could not read it"):
            Bundle(model, other).save(tmp_path / "model")
    for card in ({"a": np.float32(1)}, {"a": {1, 2}}, {(1, 2): 3}):
        with pytest.raises(ArdmError, match="the card cannot be saved"):
            Bundle(model, config, card=card).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ArdmError, match="is a file; a model is saved as a folder"):
        Bundle(model, config).save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
