"""Threads: they sleep while waiting, are few for small work, and as many as the user asks for."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ardm.__main__ import WAITING
from ardm.cli.app import app
from ardm.exact import device as machine
from bundles import coder

SOURCE = Path(__file__).parent.parent / "src"
VARIABLES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
TORCH = f"""
import ctypes, os, sys
get = ctypes.CDLL(None).getenv
get.restype = ctypes.c_char_p
told = {{name: (get(name.encode()) or b"").decode() for name in {VARIABLES}}}  # as a library in C sees it
assert told == {{name: os.environ.get(name, "") for name in told}}
print("told", *told.values(), sep="|")
sys.stdout.flush()
os._exit(0)
"""


def told(tmp_path, *start, **mine):
    """The environment when PyTorch is first imported."""
    (tmp_path / "torch").mkdir(exist_ok=True)
    (tmp_path / "torch" / "__init__.py").write_text(TORCH)
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(SOURCE))), **mine}
    done = subprocess.run([sys.executable, *start], capture_output=True, text=True, env=environment, timeout=60)
    lines = [line for line in done.stdout.splitlines() if line.startswith("told|")]
    assert lines, done.stderr
    return dict(zip(VARIABLES, lines[-1].split("|")[1:], strict=True))


STARTS = {
    "python -m ardm sample": ("-m", "ardm", "sample", "cifar10-any-order", "-o", "x.png"),
    "ardm demo": ("-c", "import sys; sys.argv[1:] = ['demo']; from ardm.__main__ import main; main()"),
    "ardmcat": ("-c", "import sys; sys.argv[1:] = ['{}']; from ardm.__main__ import ardmcat; ardmcat()"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="asks the C library")
@pytest.mark.parametrize("start", STARTS)
def test_threads_sleep_where_they_wait(tmp_path, start):
    """Set before PyTorch is imported, which reads it once; what a person has set wins."""
    coded = Path(__file__).parents[1] / "docs" / "demo" / "samples" / "cat-any-order.ardm"  # its model runs in PyTorch
    command = [text.replace("{}", str(coded)) for text in STARTS[start]]
    assert told(tmp_path, *command) == {**WAITING, "GOMP_SPINCOUNT": ""}
    for name, value in {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "200", "GOMP_SPINCOUNT": "7"}.items():
        assert told(tmp_path, *command, **{name: value}) == {**dict.fromkeys(VARIABLES, ""), name: value}
        if start != "python -m ardm sample":
            break


def test_a_library_leaves_the_environment_alone():
    code = "import os; before = dict(os.environ); import ardm, ardm.codec, ardm.cli; assert before == dict(os.environ)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})


@pytest.mark.parametrize(
    ("jobs", "side", "asked", "expect"),
    [
        (1, 8, 0, 1),  # a tile
        (1, 64, 0, 1),  # and so is a wavefront of a larger picture
        (1, 128, 0, 1),
        (1, 8, 3, 3),  # a person knows better
        (2, 128, 0, 1),  # two at once
        (4, 128, 0, 1),
        (9, 8, 0, 1),
    ],
)
def test_few_threads_where_the_work_is_small(monkeypatch, jobs, side, asked, expect):
    import torch

    seen = []

    @contextmanager
    def noted(count):
        seen.append(count)
        yield

    monkeypatch.setattr(machine, "threads", noted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    made = coder(threads=asked)
    monkeypatch.setattr(made, "_encoded", lambda jobs: [[] for _ in jobs])  # only who works is of interest
    seen.clear()  # what making the model used
    part = np.zeros((3, side, side), np.uint8)
    assert len(list(made.encode([[part]] * jobs))) == jobs
    assert seen == [expect]


def test_a_number_of_cores_ends_with_the_last_thread_that_wanted_it():
    """A new thread begins with the number that another one has set, and takes that for the usual one."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(usual + 2)
    entered, left, seen = Event(), Event(), []

    def other():
        with machine.threads(1):
            entered.set()
            left.wait(10)
        seen.append(torch.get_num_threads())

    try:
        thread = Thread(target=other)
        with machine.threads(1):
            thread.start()
            assert entered.wait(10)
        left.set()
        thread.join()
        later = Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert [torch.get_num_threads(), *seen] == [usual + 2] * 3
    finally:
        torch.set_num_threads(usual)


COMPUTING = "train eval demo sample fill export bench compress decompress test cat extract"


@pytest.mark.parametrize("command", COMPUTING.split())
def test_every_command_that_computes_takes_threads(command):
    options = next(p for p in get_command(app).commands[command].params if p.name == "threads").opts
    assert set(options) == {"--threads", "-T"}


def test_bench_hands_threads_on(monkeypatch, tmp_path):
    from ardm.cli import bench as cli_bench

    seen = []
    monkeypatch.setattr(
        cli_bench, "Engine", lambda *a, **k: seen.append(k["threads"]) or (_ for _ in ()).throw(KeyError)
    )
    monkeypatch.setattr(cli_bench, "classical", lambda items, training, threads: seen.append(threads) or [])
    (tmp_path / "a.txt").write_bytes(b"text")
    CliRunner().invoke(app, ["bench", str(tmp_path / "a.txt"), "-T", "3"])
    assert seen == [3, 3]
