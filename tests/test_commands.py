"""Laws over all commands, found by walking the program: options that users of other tools expect, help, completion."""

import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ardm.bundle import Bundle
from ardm.cli import console, progress
from ardm.cli.app import app
from ardm.cli.arguments import with_value
from ardm.cli.options import complete_any, complete_codec, complete_model, complete_recipe
from ardm.cli.progress import Bar
from ardm.codec import registry
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import ModelConfig
from emulated import Emulated
from toys import randomise

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)
READERS = {"cat", "eval", "list", "models", "test"}
"""Commands that write no file: everything they have to say is on standard output."""
LOOKERS = {"list", "models"}
"""Commands that compute nothing."""
DRAWERS = {"audit", "demo", "eval", "export", "fill", "plan", "sample", "train"}
"""Commands that draw random numbers."""


def options(command):
    return {name for parameter in GROUP.commands[command].params for name in parameter.opts}


def test_the_lists_name_commands():
    assert set(COMMANDS) >= READERS | LOOKERS | DRAWERS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_options_of_its_kind(command):
    found = options(command)
    assert ("--out" in found) == (command not in READERS), "what writes has --out"
    assert ("-o" in found) == (command not in READERS)
    assert ({"--threads", "-T"} <= found) == (command not in LOOKERS), "what computes has -T"
    assert ("--seed" in found) == (command in DRAWERS), "what draws has --seed"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    info = GROUP.commands[command]
    summary = info.help.split("\n\n")[0]
    assert summary[0].isupper()
    assert len(summary) <= 70, "one line"
    for parameter in info.params:
        assert parameter.help, f"{command} {parameter.name}"
        assert parameter.help[0].isupper()
        assert parameter.help.endswith("."), parameter.help


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)], ids=str)
def test_help_reads_well_in_80_columns(words):
    """With every version of typer: no {FILE}... and <int range>, no boxes, and most of each line for the text."""
    said = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}, prog_name="ardm").stdout
    usage = " ".join(said.split("\n\n")[0].split())
    assert re.fullmatch(
        r"Usage: ardm( \w+)? \[OPTIONS\]( \[?[A-Z]+(=VALUE)?(\.\.\.)?\]?)*( COMMAND \[ARGS\]\.\.\.)?", usage
    ), usage
    assert not re.search(r"[<{│]|RANGE|\b\d{10,}\b", re.sub(r"<=x<=|<=x|x<=", "", said))
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        ("-T, --threads <int range>", "-T, --threads INTEGER RANGE", "-T, --threads N"),
        ("--minutes <float>", "--minutes FLOAT", "--minutes X"),
        ("-m, --model <list[Path]>", "-m, --model PATH", "-m, --model PATH"),
        ("-o, --out <str>", "-o, --out TEXT", "-o, --out TEXT"),
        ("-M, --memory SIZE", "-M, --memory SIZE", "-M, --memory SIZE"),
        ("-k, --keep / --rm", "-k, --keep / --rm", "-k, --keep / --rm"),
    ],
)
def test_the_value_of_an_option_is_one_word(old, new, read):
    assert (with_value(old), with_value(new)) == (read, read)


def test_out_is_the_first_name_of_its_option():
    """Which is what help shows; older names stay."""
    for command in set(COMMANDS) - READERS:
        names = next(p.opts for p in GROUP.commands[command].params if "--out" in p.opts)
        assert names[0] == "--out"
        assert {"--output", "-o"} <= set(names)
    assert "--save" in options("plan")
    assert {"--picture", "-p"} <= options("bench")


def test_completion_names_models_recipes_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-run" / "model").mkdir(parents=True)
    assert complete_model("cifar") == ["cifar10-any-order", "cifar-run/"]
    assert complete_codec("") == [*registry.bundled(), "cifar-run/"]
    assert set(registry.bundled()) <= set(complete_any(""))
    assert complete_model("cifar-run/") == ["cifar-run/model/"]
    assert complete_model("none/at/all") == []
    assert "paper/cifar10" in complete_recipe("paper/")


def test_completion_passes_over_a_folder_that_may_not_be_read(monkeypatch):
    listed = Path.iterdir

    def closed(self):
        if self == Path():
            raise PermissionError
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", closed)
    assert complete_model("cifar") == ["cifar10-any-order"]


def test_the_shell_asks_and_gets_names():
    """As bash does, in a process of its own; without PyTorch it takes no longer than a person waits."""
    asked = {"_ARDM_COMPLETE": "complete_bash", "COMP_WORDS": "ardm sample cifar10-a", "COMP_CWORD": "2"}
    code = "import sys; sys.argv[0] = 'ardm'; from ardm.cli.app import app\ntry:\n app(prog_name='ardm')\nfinally:\n assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == ["cifar10-any-order"], done.stderr


# --- progress ---------------------------------------------------------------------------------------------------------


class Screen:
    """Stands in for rich's Progress: records its calls."""

    def __init__(self, *columns, **options):
        self.seen, self.task_ids = [], []
        SCREENS.append(self)

    def start(self):
        self.seen.append("start")

    def stop(self):
        self.seen.append("stop")

    def add_task(self, what, total):
        self.task_ids.append(len(self.task_ids))
        self.seen.append(what)

    def remove_task(self, task):
        self.task_ids.clear()

    def update(self, task, completed, total):
        self.seen.append((completed, total))


SCREENS: list[Screen] = []


@pytest.fixture
def terminal(monkeypatch):
    SCREENS.clear()
    monkeypatch.setattr(progress, "live", lambda screen: screen is console.errors)
    monkeypatch.setattr(progress, "Progress", Screen)


def test_nothing_is_shown_of_what_is_done_within_two_seconds(terminal, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Bar() as bar:
        bar.name, bar.count = "a[b]", "[1/2]"
        bar("encoding", 1, 10)
        assert SCREENS == []
        now[0] = 2.1
        bar("encoding", 2, 10)
        bar("verifying", 1, 10)
    assert SCREENS[0].seen == ["start", r"[1/2] a\[b]: encoding", (2, 10), r"[1/2] a\[b]: verifying", (1, 10), "stop"]


def test_work_without_a_total_shows_activity(terminal, monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.05)
    with Bar() as bar, bar.busy("sampling"):
        until = time.monotonic() + 10
        while not SCREENS and time.monotonic() < until:
            time.sleep(0.01)
        bar.say("a result")
    assert SCREENS[0].seen == ["start", "sampling", (0, None), "stop"]
    assert SCREENS[-1].seen[-1] == "stop"
    SCREENS.clear()
    with Bar() as bar, bar.busy("sampling"):
        pass
    time.sleep(0.2)
    assert SCREENS == [], "it was done before anything was shown"


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_without_a_terminal(monkeypatch, quiet):
    """Not on a terminal, or -q."""
    monkeypatch.setattr(progress, "Progress", None)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    if quiet:
        monkeypatch.setattr(progress, "live", lambda screen: True)
    with Bar(quiet) as bar:
        assert list(bar.track("counting", range(3), 3)) == [0, 1, 2]


# --- devices ----------------------------------------------------------------------------------------------------------


def test_sample_and_fill_work_where_the_model_lies(tmp_path, monkeypatch):
    """States, plans and generators too: a GPU that is only emulated refuses tensors of the host."""
    config = ModelConfig(trunk="centred", shape=(3, 8, 8), classes=4, base=2, head="mixture", width=8, blocks=1)
    model = randomise(build(config)).float()
    made = Bundle(model, config, curve=LossCurve.exact([[1.0] * 192] * len(config.digits)))
    monkeypatch.setattr("ardm.bundle.load", lambda name, device, **_: made)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    asked = {
        "sample": ["m", "-n", "2", "--order", "random", "--top-k", "2"],
        "fill": [str(tmp_path / "x.png"), "--box", "1,1,3,3", "-m", "m", "-n", "2", "--top-p", "0.9"],
    }
    for command, arguments in asked.items():
        with warnings.catch_warnings(), Emulated(model):
            warnings.simplefilter("ignore")  # autocast says that there is no such device
            shown = CliRunner().invoke(
                app, [command, *arguments, "--calls", "4", "-o", str(tmp_path / f"{command}.png")]
            )
        assert shown.exit_code == 0, shown.output
        assert (tmp_path / f"{command}.png").is_file()


@pytest.mark.parametrize("command", ["sample cifar10-any-order", "eval cifar10-any-order", "fill x.png --box 0,0,1,1"])
def test_a_device_that_is_not_there_is_an_error(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, [*command.split(), "--device", "abacus"])
    assert shown.exit_code == 1
    assert "there is no device 'abacus' here" in " ".join(shown.output.split())


def test_truncation_reaches_the_draws(tmp_path, monkeypatch):
    """--top-k 1 takes the most likely digit, whatever the seed; without it seeds differ.  --top-p 0 is refused."""
    config = ModelConfig(trunk="transformer", shape=(8,), classes=5, width=8, heads=1, blocks=1)
    made = Bundle(randomise(build(config)).float(), config, card={"recipe": {"data": {"name": "array"}}})
    monkeypatch.setattr("ardm.bundle.load", lambda name, device, **_: made)

    def drawn(seed, *options):
        out = tmp_path / "x.npy"
        words = [
            "sample",
            "m",
            "-n",
            "3",
            "--order",
            "raster",
            "--calls",
            "8",
            "--seed",
            seed,
            "-f",
            "-o",
            out,
            *options,
        ]
        shown = CliRunner().invoke(app, list(map(str, words)))
        return np.load(out) if not shown.exit_code else shown.output

    assert np.array_equal(drawn(0, "--top-k", 1), drawn(1, "--top-k", 1))
    assert np.array_equal(drawn(0, "--top-k", 1), drawn(1, "--top-p", 1e-9))
    assert not np.array_equal(drawn(0), drawn(1))
    assert "top_p" in drawn(0, "--top-p", 0)
