"""What stands on the page of features works: every call, command, option, setting and name in its second column.

Calls and commands run as they stand, on tiny models and files that take the place of the reader's own.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import ardm
from ardm import api, objective, plan
from ardm.bundle import Bundle
from ardm.cli.app import app
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.train.recipe import load_recipe
from test_pages_name_code import resolves
from toys import generator

PAGE = Path(__file__).parents[1] / "docs" / "features.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the checkout")

COMMANDS = typer.main.get_command(app).commands
LINE = {"trunk": "transformer", "shape": (64,), "classes": 5, "width": 8, "heads": 1, "blocks": 1}
SHORT = {
    "minutes=5": "steps=2",
    '["one text", …]': "TEXTS",
    'device="cuda"': 'device="cpu"',
    "ardm.sample(…": "ardm.sample(model, 2",
}
"""Parts of calls that would take long, or need what not everyone has, and what takes their place."""
MORE = {
    "plan": ["--show", "0"],
    "eval": ["--items", "2"],
    "audit": ["--data", "array", "--folder", "data", "--items", "4", "--passes", "2", "--streams", "1"],
    "fill": ["-m", "PICTURES", "-n", "1", "--calls", "4"],
    "sample": ["-n", "2"],
    "decompress": ["photo.png.ardm", "-o", "back.png"],
    "extract": ["-o", "extracted"],
}
"""Words that make a command small, or that the page leaves to the reader."""
BEFORE = {
    "decompress": ["compress", "-1", "photo.png", "-f"],
    "extract": ["compress", "-1", "-r", "tiles", "--archive", "tiles.ardm", "-f"],
}
"""Commands that make the files of others."""
OTHER = {"--speculative": "CAUSAL", "data.folder=FILE": "TEXT"}
"""Words that need a model of another kind than MODEL."""
ELSEWHERE = {
    "accelerate": "test_distributed.py",
    "ardm decompress --digits 2": "test_planned_commands.py",
    "ardm.decompress(data, model, digits=2)": "test_planned_codec.py",
    'ardm.open_archive("tiles.ardm")[17]': "test_reading.py",
    'ardm.load("kuleshov-group/mdlm-owt", length=128)': "test_published.py",
}
"""Programs that other tests start, and calls that need a model of another kind."""


def rows():
    """(feature, code) for every piece of code in a second column."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) >= 2 and cells[0] != "feature":
            for code in re.findall(r"`([^`]+)`", cells[1]):
                yield pytest.param(cells[0], code, id=code)


ROWS = list(rows())


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """What a reader has: models, files, data, and the names that the calls use."""
    home = tmp_path_factory.mktemp("reader")
    x = torch.randint(5, (32, 64), generator=generator(0))
    config = ModelConfig(**LINE, labels=4)
    curve = LossCurve.exact(np.linspace(1.6, 1.0, 64)[None])
    model = Bundle(
        build(config), config, curve=curve, card={"recipe": {"data": {"name": "array", "folder": str(home / "data")}}}
    )
    model.save(home / "MODEL")
    causal = ModelConfig(**LINE, causal="any")
    Bundle(build(causal), causal).save(home / "CAUSAL")
    ranked = ModelConfig(**LINE, rates=True)
    Bundle(build(ranked), ranked).save(home / "RATES")
    text = ModelConfig(**{**LINE, "shape": (24,), "classes": 27})
    source = {"name": "text", "alphabet": "27", "length": 24}
    Bundle(build(text), text, card={"recipe": {"data": source}}).save(home / "TEXT")
    (home / "FILE").write_text("the cat sat on the mat " * 200)
    pictures = preset("centred-tiny", shape=(3, 8, 8), classes=256, width=8, blocks=1)
    Bundle(build(pictures), pictures).save(home / "PICTURES")
    (home / "data").mkdir()
    for split in ("train", "valid", "test"):
        np.save(home / "data" / f"{split}.npy", x.numpy().astype(np.uint8))
    rng = np.random.default_rng(0)
    (home / "tiles").mkdir()
    for name in ("photo", "picture", *(f"tiles/{i}" for i in range(18))):
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(home / f"{name}.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(home / "mask.png")
    (home / "mine.py").write_text("import math\n\ndef nats(x):\n    return math.log(2) * x.shape[1] + 0 * x.sum(1)\n")
    return home


def options(name):
    return {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}


def ran(words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output + str(result.exception)


def command(words):
    """Run a command of the page, after those that make its files, and with what the page leaves to the reader."""
    name = words[0]
    if name == "train":
        load_recipe(words[1], words[2:])  # test_train trains
    elif name == "export" or (name == "compress" and "-m" in words):
        own_codec(words)
    elif name == "audit" and "mine.py:nats" in words:
        ran(words)
    elif name == "bench":
        ran(["bench", "photo.png", "-o", "bench.json", "-f"])
    else:
        if name in BEFORE:
            ran(BEFORE[name])
        if other := next((OTHER[word] for word in words if word in OTHER), None):
            words = [word.replace("MODEL", other) for word in words]
        searches = name == "plan" and "--orders" in words  # such a plan shows no schedule and writes no file
        force = ["-f"] if "--force" in options(name) and not searches else []
        ran([*words, *([] if searches else MORE.get(name, [])), *force])


def own_codec(words):
    """`ardm export` and `ardm compress -m` on a model along wavefronts."""
    config = preset("pictures-small", shape=(3, 8, 8), classes=256, width=8, blocks=1)
    Bundle(build(config), config).save("wave")
    np.save("data/pictures.npy", np.random.default_rng(0).integers(256, size=(8, 3, 8, 8), dtype=np.uint8))
    source = ["data.name=array", "data.folder=data", "data.train=pictures"]
    ran(["export", "wave", "--items", "8", "-o", "exported", "-f", *source])
    if words[0] == "compress":
        ran(["compress", "-m", "exported", "photo.png", "-f"])


def call(code, space):
    """Evaluate a call, or an argument of `ardm.sample`."""
    for long, short in SHORT.items():
        code = code.replace(long, short)
    if "owner/name" in code:
        return resolves(re.sub(r"\(.*", "", code).replace("bundle.", "ardm.Bundle."))
    if code.startswith("ardm.fit(") and "steps" not in code:
        code = code[:-1] + ", steps=2, batch=4)"
    for part, other in {"sample_speculative": "CAUSAL", '"rates"': "RATES"}.items():
        if part in code:
            space = {**space, "model": ardm.load(other)}
    if re.match(r"\w+=", code):
        budget = "" if "Adaptive" in code else "calls=8, "
        code = f"ardm.sample(model, 2, {budget}{code})"
    return eval(code, space)


@pytest.mark.parametrize(("feature", "code"), ROWS)
def test_every_feature_works(reader, feature, code, monkeypatch, tmp_path, at_once):
    monkeypatch.chdir(reader)
    model = ardm.load("MODEL")
    x = torch.randint(5, (24, 64), generator=generator(1))
    space = {"ardm": ardm, "torch": torch, "api": api, "plan": plan, "objective": objective, "model": model, "x": x,
             "name": "MODEL", "known": x > 2, "mask": x > 3, "lengths": 1 + torch.arange(24), "TEXTS": ["one text", "two"] * 20}  # fmt: skip
    if "compress" in code or "Codec" in code:
        space["x"] = torch.zeros(3, 8, 8, dtype=torch.uint8)
        space["data"] = ardm.compress(space["x"])
    words = shlex.split(code)
    if code in ELSEWHERE or words[0] in ELSEWHERE:
        assert (Path(__file__).parent / ELSEWHERE.get(code, ELSEWHERE.get(words[0], ""))).is_file()
    elif words[0] == "ardm":
        command(words[1:])
    elif code.startswith("-"):
        known = set().union(*map(options, COMMANDS))
        for word in words:
            assert not word.startswith("-") or word in known or re.fullmatch("-[1-9]", word), word
    elif re.fullmatch(r"(train|model|data|order)\.\S+", code):
        assert setting(code) or hasattr(Bundle, code.removeprefix("model."))
    elif "(" in code or re.match(r"\w+=", code):
        assert call(code, space) is not None
    else:
        assert resolves(code if code.startswith("ardm") else f"ardm.{code}"), code


def setting(code):
    """Whether a recipe has a setting, and takes the value that the page gives it."""
    key, _, value = code.partition("=")
    recipe = load_recipe("laptop/images", [code] if value else [])
    section, name = key.split(".")
    return hasattr(getattr(recipe, section), name)  # model.encode is a method of a bundle


def test_the_page_has_rows():
    assert len(ROWS) > 50
