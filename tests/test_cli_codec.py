"""The command line: what it prints and where, what it leaves behind, and how it exits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from ardm import cli_codec, console, files
from ardm.errors import ArdmError
from ardm.files import read_image
from bundles import noise, smooth, tiny
from test_files import picture

app = typer.Typer(add_completion=False)
cli_codec.register(app)


@pytest.fixture
def ardm(tmp_path, monkeypatch):
    """The command, run in a folder with a photo, a model and nothing else."""
    tiny().save(tmp_path / "model")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    picture("photo.png", smooth(3, 9, 8))

    def run(*arguments):
        model = [] if "-m" in arguments or "--help" in arguments else ["-m", str(tmp_path / "model")]
        return CliRunner().invoke(app, [*arguments, *model], env={"COLUMNS": "400"})

    return run


def test_there_and_back(ardm):
    before = read_image("photo.png")
    result = ardm("compress", "photo.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("photo.png -> photo.png.ardm: 8x9x3, ")
    for word in ("bits/dim", "to the file", "to raw", " s\n"):
        assert word in result.stdout
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
    assert sorted(os.listdir()) == ["photo.png", "photo.png.ardm"]
    os.remove("photo.png")
    result = ardm("decompress", "photo.png.ardm")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("photo.png.ardm -> photo.png: 8x9x3, ")
    assert torch.equal(read_image("photo.png"), before)


def test_quiet_says_nothing(ardm):
    assert ardm("compress", "-q", "photo.png").output == ""
    assert ardm("decompress", "--quiet", "photo.png.ardm", "-o", "y.png").output == ""
    result = ardm("compress", "-q", "nothing.png")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "ardm: there is no file nothing.png\n")


def test_calls_and_threads(ardm):
    threads = torch.get_num_threads()
    try:
        assert ardm("compress", "photo.png", "--calls", "5", "--threads", "1").exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    result = ardm("compress", "photo.png", "--calls", "99", "-f")
    assert result.exit_code == 1
    assert result.stderr == "ardm: photo.png: this order takes 3 to 18 calls, a multiple of 1; got 99\n"


def test_nothing_is_overwritten_without_force(ardm):
    Path("photo.png.ardm").write_text("mine")
    result = ardm("compress", "photo.png")
    assert result.exit_code == 1
    assert result.stderr == "ardm: photo.png.ardm exists; give another name with -o, or overwrite it with -f\n"
    assert Path("photo.png.ardm").read_text() == "mine"
    assert ardm("compress", "photo.png", "-f").exit_code == 0
    assert ardm("decompress", "photo.png.ardm").exit_code == 1
    assert ardm("decompress", "photo.png.ardm", "--force").exit_code == 0


def test_keep_and_rm(ardm):
    assert ardm("compress", "-k", "photo.png").exit_code == 0
    assert sorted(os.listdir()) == ["photo.png", "photo.png.ardm"]
    assert ardm("compress", "--rm", "-f", "photo.png").exit_code == 0
    assert os.listdir() == ["photo.png.ardm"]
    assert ardm("decompress", "photo.png.ardm", "--keep").exit_code == 0
    assert ardm("decompress", "photo.png.ardm", "--rm", "-f").exit_code == 0
    assert os.listdir() == ["photo.png"]


def test_what_is_not_kept_is_said(ardm):
    picture("b.png", smooth(3, 5, 5), icc_profile=b"profile")
    result = ardm("compress", "b.png")
    assert result.exit_code == 0
    assert result.stderr == "ardm: note: b.png carries colour profile, which the compressed file does not\n"
    os.remove("b.png.ardm")
    result = ardm("compress", "b.png", "--rm", "-q")
    assert result.stderr.endswith("does not, so it was not deleted (-f deletes it)\n")
    assert Path("b.png").exists()


def test_one_of_several_fails_and_the_others_are_done(ardm):
    picture("a.png", noise(1, 4, 4))
    Path("bad.png").write_bytes(b"nothing")
    result = ardm("compress", "a.png", "bad.png", "gone.png", "photo.png")
    assert result.exit_code == 1
    assert [line.split(" ")[0] for line in result.stdout.splitlines()] == ["a.png", "photo.png"]
    assert len(result.stderr.splitlines()) == 2
    assert all(line.startswith("ardm: ") for line in result.stderr.splitlines())
    result = ardm("decompress", "a.png.ardm", "bad.png", "photo.png.ardm", "-f")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "ardm: bad.png: not an ardm file: it does not begin with 89 41 44 4D\n"


def test_output_is_a_file_or_a_folder(ardm):
    os.mkdir("out")
    picture("a.png", noise(1, 4, 4))
    assert ardm("compress", "photo.png", "-o", "x").exit_code == 0
    assert ardm("compress", "photo.png", "a.png", "-o", "out").exit_code == 0
    assert sorted(os.listdir("out")) == ["a.png.ardm", "photo.png.ardm"]
    assert ardm("decompress", "out/a.png.ardm", "out/photo.png.ardm", "--output", "out/").exit_code == 0
    assert sorted(os.listdir("out")) == ["a.png", "a.png.ardm", "photo.png", "photo.png.ardm"]
    assert ardm("decompress", "x", "-o", "y.tiff").exit_code == 0
    assert Image.open("y.tiff").format == "TIFF"
    for arguments in (
        ["a.png", "photo.png", "-o", "none"],
        ["a.png", "photo.png", "-o", "x"],
        ["a.png", "-o", "none/"],
    ):
        result = ardm("compress", *arguments)
        assert result.exit_code == 2
        assert "is not a folder" in result.stderr
    result = ardm("compress", "a.png", "-o", "-")
    assert (result.exit_code, os.path.exists("-")) == (2, False)
    result = ardm("compress", "a.png", "-o", "none/x")
    assert (result.exit_code, result.stderr) == (1, "ardm: a.png: there is no folder none\n")


def test_two_files_never_go_to_one_place(ardm):
    for name in ("one", "two", "out"):
        os.mkdir(name)
    for name in ("one", "two"):
        picture(f"{name}/x.png", noise(1, 4, 4, seed=len(name)))
    result = ardm("compress", "one/x.png", "two/x.png", "-o", "out", "-f")
    assert result.exit_code == 1
    assert "was written a moment ago, from another file" in result.stderr
    assert os.listdir("out") == ["x.png.ardm"]


def test_usage(ardm):
    for arguments in (
        ["compress"],
        ["compress", "x", "--nothing"],
        ["decompress"],
        ["compress", "x", "--calls", "0"],
        ["nothing"],
    ):
        assert ardm(*arguments).exit_code == 2
    for command in ("compress", "decompress"):
        shown = ardm(command, "--help")
        assert shown.exit_code == 0
        for option in ("--output", "--force", "--keep", "--rm", "--threads", "--max-pixels", "--model", "--quiet"):
            assert option in shown.stdout
    assert "--calls" in ardm("compress", "--help").stdout


def test_models_that_are_not_there(ardm):
    result = ardm("compress", "photo.png", "-m", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("ardm: there is no model 'nowhere'")
    assert os.listdir() == ["photo.png"]


def test_limits(ardm):
    result = ardm("compress", "photo.png", "--max-pixels", "71")
    assert (result.exit_code, result.stderr) == (1, "ardm: photo.png has 8x9 pixels, more than the limit of 71\n")
    assert ardm("compress", "photo.png").exit_code == 0
    result = ardm("decompress", "photo.png.ardm", "-o", "y.png", "--max-pixels", "71")
    assert result.exit_code == 1
    assert "more than the limit of 71" in result.stderr


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "terminated")],
)
def test_signals_end_it_and_leave_nothing(ardm, monkeypatch, number, code, said):
    def unpack(*_):
        assert len(os.listdir()) == 2
        os.kill(os.getpid(), number)
        for _ in range(10**6):
            pass

    before = signal.getsignal(number)
    monkeypatch.setattr(files, "unpack", unpack)
    result = ardm("compress", "photo.png", "photo.png", "--rm")
    assert (result.exit_code, result.stderr) == (code, f"ardm: {said}\n")
    assert os.listdir() == ["photo.png"]
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("error", "said"), [
    (OSError(28, "No space left on device", "x.ardm"), "x.ardm: No space left on device"),
    (MemoryError(), "out of memory: the image is too large for this machine"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: the image"),
    (ArdmError("a sentence"), "a sentence"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line(ardm, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(files, "pack", fail)
    result = ardm("compress", "photo.png", "photo.png")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 2
    assert result.stderr.startswith(f"ardm: photo.png: {said}")
    with pytest.raises(typer.Exit), console.guard():
        raise error


def test_a_bug_is_shown_as_one(ardm, monkeypatch):
    monkeypatch.setattr(files, "pack", lambda *_: 1 / 0)
    assert isinstance(ardm("compress", "photo.png").exception, ZeroDivisionError)
    with pytest.raises(RuntimeError, match="a bug"), console.guard():
        raise RuntimeError("a bug")


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(ardm):
    names = ["[bold]x.png", "new\nline.png", "\x1b[31mred.png", ":smile:.png", "ü ß.png", "-dash.png"]
    for name in names:
        picture(f"./{name}", noise(1, 3, 3))
    result = CliRunner().invoke(app, ["compress", "-m", "../model", "--", *names], env={"COLUMNS": "40"})
    assert result.exit_code == 0, result.output
    shown = [line.partition(" -> ")[0] for line in result.stdout.splitlines()]
    assert "[bold]x.png" in shown
    assert ":smile:.png" in shown
    assert "ü ß.png" in shown
    assert "\\x1b[31mred.png" in shown
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == len(names) + 1 + 1  # one name has two lines


def test_names_that_are_no_text(ardm):
    name = os.fsdecode(b"caf\xe9.png")
    Path(name).write_bytes(Path("photo.png").read_bytes())
    result = ardm("compress", name)
    assert result.exit_code == 0, result.output
    assert "caf" in result.stdout
    assert os.path.exists(name + ".ardm")


SCRIPT = """
import sys, typer
from ardm import cli_codec
app = typer.Typer()
cli_codec.register(app)
app()
"""


def run(*arguments, **options):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], text=True, stderr=subprocess.PIPE, **options)


def test_a_process_of_its_own_may_be_interrupted(tmp_path):
    """A real signal while a large image is coded; and a reader of our output who has gone."""
    tiny().save(tmp_path / "model")
    (tmp_path / "work").mkdir()
    picture(tmp_path / "work" / "a.png", noise(1, 4, 4))
    picture(tmp_path / "work" / "b.png", smooth(3, 2000, 2000))
    files = [str(tmp_path / "work" / name) for name in ("a.png", "b.png")]
    process = run("compress", "-m", str(tmp_path / "model"), *files, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert "a.png.ardm" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "ardm: interrupted\n")
    assert sorted(os.listdir(tmp_path / "work")) == ["a.png", "a.png.ardm", "b.png"]
    read, write = os.pipe()
    os.close(read)
    process = run("compress", "-f", "-m", str(tmp_path / "model"), files[0], stdout=write)
    os.close(write)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 1
