"""The command line: what it prints and where, what it leaves behind, and how it exits."""

import io
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ardm import formats
from ardm.cli import console
from ardm.cli.app import app
from ardm.cli.arguments import aliased
from ardm.codec import decode as decoding
from ardm.codec import encode
from ardm.codec.binary import varint
from ardm.codec.header import Form, Header
from ardm.codec.selection import Engine
from ardm.content import Kind
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.model import NAME
from ardm.files import limits
from ardm.files.compress import compress_file
from ardm.files.options import FileOptions
from ardm.files.restore import check_file
from bundles import exact, liked
from contents import Small, models
from test_files import TEXT, content_of, picture, pixels, write


@pytest.fixture
def ardm(tmp_path, monkeypatch):
    """The program, run in a folder with a photo and a text; its small model reports the requested level."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    picture("photo.png", (40, 40, 3))
    write("notes.txt", TEXT)

    def coder(self, content):
        calls = self.calls if self.level is None else self.level
        return Small(calls=calls or 7) if content.kind == Kind.IMAGE else None

    monkeypatch.setattr(Engine, "coder", coder)
    monkeypatch.setattr(Engine, "models", lambda self, name, calls: models(Small(calls=calls))(name, calls))

    def run(*arguments, given=None):
        result = CliRunner().invoke(app, [*map(str, arguments)], input=given, env={"COLUMNS": "400"})
        assert "Traceback" not in result.output
        return result

    return run


def good(result):
    assert result.exit_code == 0, result.output
    return result


AT_ONCE = """
from ardm.cli import progress
progress.DELAY = 0
from ardm.__main__ import main
main()
"""


def process(*arguments, at_once=False, **options):
    """The program in a process of its own.  at_once: its progress bar does not wait."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(
        [sys.executable, *(("-c", AT_ONCE) if at_once else ("-m", "ardm")), *map(str, arguments)], **pipes
    )


# --- the table, row by row --------------------------------------------------------------------------------------------


def test_the_input_is_kept_unless_it_is_to_go(ardm):
    for keep in ([], ["-k"], ["--keep"]):
        good(ardm("compress", "-f", *keep, "photo.png"))
        assert sorted(os.listdir()) == ["notes.txt", "photo.png", "photo.png.ardm"]
    good(ardm("compress", "--rm", "-f", "photo.png"))
    assert sorted(os.listdir()) == ["notes.txt", "photo.png.ardm"]
    good(ardm("decompress", "photo.png.ardm", "--keep"))
    good(ardm("decompress", "photo.png.ardm", "--rm", "-f"))
    assert sorted(os.listdir()) == ["notes.txt", "photo.png"]
    for arguments in (["--rm", "-c", "notes.txt"], ["--rm", "-"], ["--rm", "--no-verify", "notes.txt"],
                      ["--rm", "--archive", "a.ardm", "notes.txt"]):  # fmt: skip
        assert ardm("compress", *arguments).exit_code == 2
    assert sorted(os.listdir()) == ["notes.txt", "photo.png"]


def test_nothing_is_overwritten_without_force(ardm):
    write("photo.png.ardm", b"mine")
    result = ardm("compress", "photo.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "ardm: photo.png.ardm exists; give another name with -o, or overwrite it with -f\n"
    assert Path("photo.png.ardm").read_bytes() == b"mine"
    good(ardm("compress", "photo.png", "-f"))
    assert ardm("decompress", "photo.png.ardm").exit_code == 1
    good(ardm("decompress", "photo.png.ardm", "--force"))
    result = ardm("decompress", "photo.png.ardm")
    assert (
        result.stderr == "ardm: photo.png.ardm: photo.png exists; give another name with -o, or overwrite it with -f\n"
    )


def test_streams(ardm):
    packed = good(ardm("compress", "-c", "notes.txt"))
    assert packed.stderr == ""
    assert good(ardm("decompress", "-c", "-", given=packed.stdout_bytes)).stdout_bytes == TEXT
    piped = good(ardm("compress", "-", given=TEXT)).stdout_bytes
    assert piped == packed.stdout_bytes
    assert good(ardm("decompress", "-", given=piped)).stdout_bytes == TEXT
    assert good(ardm("decompress", "-o", "-", "-", given=piped)).stdout_bytes == TEXT
    good(ardm("decompress", "-", "-o", "x", given=piped))
    assert Path("x").read_bytes() == TEXT
    good(ardm("compress", "-", "-o", "y.ardm", given=TEXT))
    assert Path("y.ardm").read_bytes() == piped
    shown = good(ardm("compress", "-", given=Path("photo.png").read_bytes())).stdout_bytes
    back = good(ardm("decompress", "-", "--format", "ppm", given=shown)).stdout_bytes
    assert np.array_equal(pixels(io.BytesIO(back)), pixels("photo.png"))
    assert good(ardm("test", "-", given=piped)).stdout.startswith("standard input: good, ")
    assert "bytes" in good(ardm("list", "-", given=piped)).stdout
    assert good(ardm("cat", "y.ardm", "y.ardm")).stdout_bytes == TEXT * 2
    assert "-" not in os.listdir()
    assert ardm("compress", "-c", "-o", "z", "notes.txt").exit_code == 2


def test_a_file_called_dash_is_no_stream(ardm):
    """Only the argument - itself means standard input or output; ./- and what a folder holds are files."""
    os.makedirs("-/in")
    write("-/-", b"in a folder")
    write("-/in/-", b"deeper")
    os.mkdir("out")
    good(ardm("compress", "-r", "./-", "-o", "out", given=b"piped"))
    assert sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.ardm")) == ["-.ardm", "in/-.ardm"]
    assert good(ardm("compress", "-r", "-", given=b"piped")).stdout_bytes  # the stream, though there is such a folder
    os.chdir("-")
    good(ardm("compress", "-r", ".", given=b"piped"))
    good(ardm("compress", "./-", "-f", given=b"piped"))
    os.rename("-", "plain")
    good(ardm("decompress", "./-.ardm", "-o", "./-", given=b"piped"))
    assert Path("-").read_bytes() == b"in a folder"
    os.replace("-.ardm", "-")
    assert good(ardm("test", "./-", given=b"piped")).stdout.startswith("-: good")
    assert json.loads(good(ardm("list", "--json", "./-", given=b"piped")).stdout)[0]["file"] == "-"
    assert good(ardm("cat", "./-", given=b"piped")).stdout_bytes == b"in a folder"
    good(ardm("compress", "plain", "--archive", "./-", "-f", given=b"piped"))
    assert good(ardm("extract", "./-", "plain", "-c", given=b"piped")).stdout_bytes == b"in a folder"


@pytest.mark.parametrize("folder", [".", "..", "/", "./"])
def test_folders_without_a_name_are_folders(ardm, folder):
    os.mkdir("out")
    for arguments in (["compress"], ["decompress"], ["test"], ["list"], ["compress", "-o", "out"]):
        result = ardm(*arguments, folder)
        assert result.exit_code == 1
        assert result.stderr.endswith(f"{folder.rstrip('/') or '/'} is a folder; -r takes the files in it\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress", ""],
        ["compress", "-r", ""],
        ["compress", "notes.txt", "-o", ""],
        ["compress", "notes.txt", "--archive", ""],
        ["decompress", ""],
        ["test", ""],
        ["list", ""],
        ["extract", "", "0"],
        ["decompress", "photo.png.ardm", "-o", ""],
    ],
)
def test_an_empty_name_is_refused(ardm, arguments):
    """It is no other way to say the folder where one is: a variable of a script is empty."""
    write("photo.png.ardm", b"")
    before = sorted(os.listdir())
    result = ardm(*arguments)
    assert result.exit_code == 2
    assert "a name is empty" in result.stderr
    assert sorted(os.listdir()) == before


def test_several_files_in_one_stream_can_be_told_from_damage(ardm):
    result = good(ardm("compress", "-c", "photo.png", "notes.txt"))
    assert (
        result.stderr == "ardm: note: several files in one stream are kept byte for byte; --archive keeps them apart\n"
    )
    both = Path("photo.png").read_bytes() + TEXT
    assert good(ardm("decompress", "-", given=result.stdout_bytes)).stdout_bytes == both
    assert good(ardm("compress", "-c", "--bytes", "photo.png", "notes.txt")).stderr == ""


@pytest.mark.parametrize(("said", "meant"), [
    ("-d x", "decompress x"), ("-dc x", "decompress -c x"), ("-cd x", "decompress -c x"), ("-t x", "test x"), ("-l x y", "list x y"),
    ("-d -f x", "decompress -f x"), ("-f -d x", "decompress -f x"), ("--decompress x", "decompress x"), ("--list x", "list x"),
    ("compress -d x", "compress -d x"), ("--version", "--version"), ("-V", "-V"), ("--help", "--help"), ("", ""),
    ("-o y -d x", "decompress -o y x"), ("-- -d", "-- -d"), ("list -l", "list -l"),
    ("-9 x", "compress -9 x"), ("-k9 x", "compress -k9 x"), ("-10 x", "compress -10 x"), ("-f -1 x", "compress -f -1 x"),
    ("-9 -t x", "test -9 x"), ("-- -9", "-- -9"), ("train -9", "train -9"), ("-V -- -9", "-V -- -9"),
])  # fmt: skip
def test_aliases(said, meant):
    assert aliased(said.split()) == meant.split()


def test_flags_as_of_other_compressors(ardm):
    good(ardm("compress", "-kqf9", "notes.txt"))
    good(ardm("compress", "-f", "-9", "-T1", "notes.txt"))
    assert good(ardm("-t", "notes.txt.ardm")).stdout.startswith("notes.txt.ardm: good, ")
    assert "notes.txt.ardm" in good(ardm("-l", "notes.txt.ardm")).stdout
    assert good(ardm("-dc", "notes.txt.ardm")).stdout_bytes == TEXT
    good(ardm("-df", "notes.txt.ardm"))
    assert re.fullmatch(r"ardm \d+\.\d+\.\d+\S*\n", good(ardm("-V")).stdout)


@pytest.mark.parametrize("how", ["truncated", "two bytes overwritten", "trailing garbage", "another frame"])
@pytest.mark.parametrize("name", ["photo.png", "notes.txt", "all"])
def test_damage_is_found_and_restores_nothing(ardm, how, name):
    if name == "all":
        good(ardm("compress", "--archive", "all.ardm", "photo.png", "notes.txt"))
    else:
        good(ardm("compress", name))
    data = Path(f"{name}.ardm").read_bytes()
    broken = {
        "truncated": data[:-7], "two bytes overwritten": data[:70] + bytes([data[70] ^ 1, data[71] ^ 1]) + data[72:],
        "trailing garbage": data + b"garbage", "another frame": data + data,
    }[how]  # fmt: skip
    write("bad.ardm", broken)
    before = sorted(os.listdir())
    if (how, name) == ("another frame", "notes.txt"):
        assert good(ardm("-dc", "bad.ardm")).stdout_bytes == TEXT * 2
        return
    for arguments in (["test", "bad.ardm"], ["decompress", "bad.ardm", "-o", "out"], ["-dc", "bad.ardm"]):
        result = ardm(*arguments)
        assert (result.exit_code, result.stdout) == (3, ""), arguments
        assert re.fullmatch(r"ardm: bad\.ardm: (item 0 .*: )?(damaged|truncated) [^\n]*\n", result.stderr)
    assert sorted(os.listdir()) == before


def test_nothing_becomes_something_valid(ardm):
    write("empty", b"")
    good(ardm("compress", "empty"))
    assert 0 < Path("empty.ardm").stat().st_size < 40
    os.remove("empty")
    good(ardm("decompress", "empty.ardm"))
    assert Path("empty").read_bytes() == b""


def test_times_and_permissions_come_along(ardm):
    os.chmod("notes.txt", 0o604)
    os.utime("notes.txt", (1e9, 1e9))
    good(ardm("compress", "notes.txt", "--rm"))
    good(ardm("decompress", "notes.txt.ardm"))
    for name in ("notes.txt", "notes.txt.ardm"):
        about = os.stat(name)
        assert (stat.S_IMODE(about.st_mode), about.st_mtime) == (0o604, 1e9)


def test_files_of_others_are_named(ardm):
    for command in (["decompress"], ["test"], ["list"], ["cat"], ["-d"]):
        result = ardm(*command, "photo.png")
        assert (result.exit_code, result.stderr) == (1, "ardm: photo.png: this is a PNG image, not an .ardm file\n")
        result = ardm(*command, "notes.txt")
        assert result.exit_code == 1
        why = "not an ardm file: it does not begin with AD D1 or AD A1, and a bare one is read with --bare"
        assert result.stderr == f"ardm: notes.txt: {why}\n"
    result = ardm("extract", "photo.png", "0")
    assert (result.exit_code, result.stderr) == (1, "ardm: photo.png: this is a PNG image, not an .ardm file\n")


def test_limits_say_what_lifts_them(ardm):
    good(ardm("compress", "photo.png"))
    result = ardm("decompress", "photo.png.ardm", "-o", "y.png", "--max-pixels", "1599")
    assert result.exit_code == 1
    assert "claims 40x40 pixels, and the limit is 1599; --max-pixels 1600 allows it" in result.stderr
    result = ardm("test", "photo.png.ardm", "-M", "1KiB")
    assert result.exit_code == 1
    option = re.search(r"-M \d+MiB", result.stderr)
    assert option
    good(ardm("test", "photo.png.ardm", *option[0].split(), "--max-pixels", "1600"))
    write("bomb.ardm", Header(Form(Kind.BYTES, (1, 1, 1 << 40))).write() + varint(6) + b"\3" + bytes(5))
    result = ardm("decompress", "bomb.ardm")
    assert result.exit_code == 1
    assert "claims 1024.0 GiB of samples" in result.stderr
    for text in ("lots", "-1", "0", "2 parsecs"):
        assert ardm("decompress", "photo.png.ardm", "-M", text).exit_code == 2
    result = ardm("decompress", "-M", "1", "-", given=bytes(100))
    assert "standard input has more than 1 bytes; a larger -M allows more" in result.stderr


def test_work_that_takes_long_is_not_begun(ardm, monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE", 60.0)
    result = good(ardm("compress", "photo.png", "-K", "1000000"))
    assert re.search(
        r"coding it would take an estimated \d+ minutes, which makes more than an hour in all; -f codes it",
        result.stdout,
    )
    good(ardm("decompress", "photo.png.ardm", "-o", "x.png"))
    good(ardm("compress", "photo.png", "-K", "1000000", "-f"))
    result = ardm("decompress", "photo.png.ardm", "-o", "y.png")
    assert result.exit_code == 1
    assert re.search(r"takes an estimated \d+ minutes; -f decodes it anyway", result.stderr)
    good(ardm("decompress", "photo.png.ardm", "-o", "y.png", "-f"))


def test_what_was_written_is_verified_unless_told_otherwise(ardm, monkeypatch):
    seen = []
    real = decoding.frames
    monkeypatch.setattr(decoding, "frames", lambda *rest: seen.append(1) or real(*rest))
    good(ardm("compress", "notes.txt"))
    assert seen == [1]
    good(ardm("compress", "-f", "--no-verify", "notes.txt"))
    assert seen == [1]


def test_folders(ardm):
    for name in ("in/a", "in/b/c", "in/b/old.ardm"):
        write(name, name.encode())
    result = ardm("compress", "in")
    assert (result.exit_code, result.stderr) == (1, "ardm: in: in is a folder; -r takes the files in it\n")
    good(ardm("compress", "-r", "--rm", "in"))
    assert sorted(content_of(Path("in"))) == ["a.ardm", "b/c.ardm", "b/old.ardm"]
    write("in/not", b"")
    os.remove("in/b/old.ardm")
    assert len(good(ardm("test", "-r", "in")).stdout.splitlines()) == 2
    os.mkdir("out")
    good(ardm("decompress", "-r", "in", "-o", "out"))
    assert content_of(Path("out")) == {"a": b"in/a", "b/c": b"in/b/c"}
    assert len(good(ardm("list", "-r", "in")).stdout.splitlines()) == 4  # headings, two files, totals
    result = good(ardm("decompress", "-r", "out"))
    assert result.stderr == "ardm: note: no file in these folders ends in .ardm\n"


def test_output_is_a_file_or_a_folder(ardm):
    os.mkdir("out")
    good(ardm("compress", "photo.png", "-o", "x"))
    good(ardm("compress", "photo.png", "notes.txt", "-o", "out"))
    assert sorted(os.listdir("out")) == ["notes.txt.ardm", "photo.png.ardm"]
    good(ardm("decompress", "out/notes.txt.ardm", "out/photo.png.ardm", "--output", "out/"))
    assert sorted(os.listdir("out")) == ["notes.txt", "notes.txt.ardm", "photo.png", "photo.png.ardm"]
    good(ardm("decompress", "x", "-o", "y.tiff"))
    assert Image.open("y.tiff").format == "TIFF"
    for output in ("none", "x", "none/"):
        result = ardm("compress", "notes.txt", "photo.png", "-o", output)
        assert result.exit_code == 2
        assert "is not a folder" in result.stderr
    result = ardm("compress", "notes.txt", "-o", "none/x")
    assert (result.exit_code, result.stderr) == (1, "ardm: notes.txt: there is no folder none\n")


def test_two_files_never_go_to_one_place(ardm):
    for name in ("one/x", "two/x"):
        write(name, name.encode())
    os.mkdir("out")
    result = ardm("compress", "one/x", "two/x", "-o", "out", "-f")
    assert result.exit_code == 1
    assert "was just written from another file" in result.stderr
    assert good(ardm("cat", "out/x.ardm")).stdout == "one/x"


# --- what is said -----------------------------------------------------------------------------------------------------


def test_lines(ardm):
    result = good(ardm("compress", "photo.png", "notes.txt"))
    first, second = result.stdout.splitlines()
    assert re.fullmatch(
        r"photo\.png -> photo\.png\.ardm: 40x40x3, \d+ -> \d+ bytes \(\d+\.\d%\), \d\.\d{3} bits per sample, 81db, 7 calls, \d\.\d s",
        first,
    )
    assert re.fullmatch(
        r"notes\.txt -> .*: 8690 bytes, 8690 -> .* bits per sample, stored with lzma: no bundled model suits plain bytes, \d\.\d s",
        second,
    )
    assert result.stderr == ""
    result = good(ardm("compress", "-vf", "photo.png"))
    assert re.search(
        r"model [0-9a-f]{16}, \d+ bytes of model code; 1 regions; parts: 1 coded; \d+ bytes of headers", result.stdout
    )
    result = good(ardm("decompress", "-f", "photo.png.ardm"))
    assert re.fullmatch(r"photo\.png\.ardm -> photo\.png: 40x40x3, \d\.\d s\n", result.stdout)


def test_quiet_says_nothing(ardm):
    assert good(ardm("compress", "-q", "photo.png")).output == ""
    assert good(ardm("decompress", "--quiet", "photo.png.ardm", "-o", "y.png")).output == ""
    assert good(ardm("test", "-q", "photo.png.ardm")).output == ""
    result = ardm("compress", "-q", "nothing.png")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "ardm: there is no file nothing.png\n")


def test_lists(ardm):
    good(ardm("compress", "photo.png", "notes.txt", "-5"))
    good(ardm("compress", "--archive", "all.ardm", "photo.png", "notes.txt"))
    lines = good(ardm("list", "photo.png.ardm", "notes.txt.ardm", "all.ardm")).stdout.splitlines()
    assert lines[0].split() == [
        "kind", "size", "bytes", "raw", "ratio", "bits/sample", "model", "calls", "methods", "check", "file",
    ]  # fmt: skip
    identity = Small().identity[:4]
    size = Path("photo.png.ardm").stat().st_size
    assert lines[1].split()[:5] == ["image", "(png)", "40x40x3", str(size), "4800"]
    assert lines[1].split()[5:] == [
        f"{4800 / size:.2f}",
        f"{size / 600:.3f}",
        identity,
        "5",
        "coded",
        "32",
        "bits",
        "photo.png.ardm",
    ]
    assert lines[2].split()[7:] == ["-", "-", "lzma", "32", "bits", "notes.txt.ardm"]
    assert "2 items" in lines[3]
    verbose = good(ardm("list", "-v", "all.ardm")).stdout.splitlines()
    assert [line.split()[-2:] for line in verbose[2:]] == [["0", "photo.png"], ["1", "notes.txt"]]
    records = json.loads(good(ardm("list", "--json", "-v", "photo.png.ardm", "all.ardm")).stdout)
    assert records[0]["file"] == "photo.png.ardm"
    assert (records[0]["kind"], records[0]["shape"], records[0]["calls"], records[0]["model"]) == (
        "image",
        [3, 40, 40],
        5,
        identity,
    )
    assert records[0]["methods"] == {"coded": 1}
    assert [entry["name"] for entry in records[1]["entries"]] == ["photo.png", "notes.txt"]
    result = ardm("list", "--json", "photo.png", "notes.txt.ardm", "gone")
    assert result.exit_code == 1
    assert [record["file"] for record in json.loads(result.stdout)] == ["notes.txt.ardm"]
    assert len(result.stderr.splitlines()) == 2
    write("two.ardm", Path("notes.txt.ardm").read_bytes() * 2)
    assert json.loads(good(ardm("list", "--json", "two.ardm")).stdout)[0]["raw_bytes"] == 2 * len(TEXT)


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(ardm):
    names = ["[bold]x", "new\nline", "\x1b[31mred", ":smile:", "ü ß", "-dash", "x" * 250]
    for name in names:
        write(f"./{name}", b"x")
    result = good(ardm("compress", "-o", "../", "--", *names))
    shown = [line.partition(" -> ")[0] for line in result.stdout.splitlines()]
    for name in ("[bold]x", ":smile:", "ü ß", "\\x1b[31mred", "new\\nline", "x" * 250):
        assert name in shown
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == len(names)


def test_names_that_are_no_text(ardm):
    name = os.fsdecode(b"caf\xe9.txt")
    write(name, TEXT)
    good(ardm("compress", "--rm", name))
    good(ardm("decompress", name + ".ardm"))
    assert Path(name).read_bytes() == TEXT
    assert json.loads(good(ardm("list", "--json", name + ".ardm")).stdout)
    good(ardm("compress", "--archive", "a.ardm", name))
    good(ardm("decompress", "a.ardm"))
    assert os.listdir("a") == ["caf_.txt"]


def test_names_that_are_too_long(ardm):
    write("x" * 253, b"x")
    result = ardm("compress", "x" * 253)
    assert result.exit_code == 1
    assert result.stderr.endswith("file name too long\n")
    assert sorted(os.listdir()) == ["notes.txt", "photo.png", "x" * 253]


def test_notes(ardm, monkeypatch):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save("x.jpg")
    before = Path("x.jpg").read_bytes()
    result = good(ardm("compress", "--rm", "x.jpg"))
    assert "JPEG" in result.stderr
    assert result.stderr.startswith("ardm: note: x.jpg: ")
    good(ardm("decompress", "x.jpg.ardm"))
    assert Path("x.jpg").read_bytes() == before
    real = formats.read
    monkeypatch.setattr(formats, "read", lambda *rest: formats.Read(real(*rest).content, (), ("gamma",)))
    result = good(ardm("compress", "--rm", "-q", "photo.png"))
    assert result.stderr == ("ardm: note: photo.png: it was not deleted: restoring will not bring back its gamma\n")
    assert Path("photo.png").exists()


def test_usage(ardm):
    for arguments in (["compress", "x", "--nothing"], ["compress", "x", "--calls", "0"],
                      ["compress", "x", "-9", "-K", "5"], ["compress", "x", "-9", "-m", "y"], ["compress", "x", "--bare"],
                      ["compress", "x", "--check", "24"], ["compress", "--archive", "a", "--bare", "-m", "y", "x"],
                      ["decompress", "x", "--bare"], ["test", "x", "--bare"], ["cat", "x", "--bare", "-m", "a", "-m", "b"], ["compress", "x", "--strip", "--bytes"], ["nothing"], ["extract", "x"],
                      ["decompress", "x", "--format", "jpg"], ["compress", "--archive", "a", "-o", "b", "notes.txt"],
                      ["compress", "--archive", "a", "-"]):  # fmt: skip
        assert ardm(*arguments).exit_code == 2, arguments
    assert sorted(os.listdir()) == ["notes.txt", "photo.png"]
    common = ("--force", "--threads", "--quiet", "--model", "--backend", "--device")
    more = {
        "compress": ("--output", "--keep", "--rm", "--calls", "--level", "-1 ... -9", "--archive", "--bytes", "--strip", "--no-verify", "--recursive", "--bare", "--check", *common),
        "decompress": ("--output", "--keep", "--rm", "--format", "--memory", "--max-pixels", "--recursive", *common),
        "test": ("--memory", *common), "cat": ("--format", *common), "extract": ("--output", "--stdout", *common), "list": ("--json",),
    }  # fmt: skip
    for command, options in more.items():
        shown = good(ardm(command, "--help")).stdout
        for option in options:
            assert option in shown, (command, option)
    for command in ("compress", "decompress", "test", "list", "extract"):
        assert "3 a damaged file" in good(ardm(command, "--help")).stdout


# --- which model ------------------------------------------------------------------------------------------------------


def test_levels_and_calls(ardm):
    for arguments, calls in {"-1": 1, "-9": 9, "--level=5": 5, "-K 13": 13, "--calls=14": 14, "-9f": 9}.items():
        good(ardm("compress", "-f", *arguments.split(), "photo.png"))
        assert json.loads(good(ardm("list", "--json", "photo.png.ardm")).stdout)[0]["calls"] == calls


def test_models_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("photo.png", (40, 40, 3))
    run = CliRunner().invoke
    result = run(app, ["compress", "photo.png", "-m", "nowhere"])
    assert result.exit_code == 4
    assert result.stderr.startswith("ardm: photo.png: there is no codec model 'nowhere'")
    assert os.listdir() == ["photo.png"]
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "coder", lambda self, content: Small())
        patch.setattr(Engine, "models", lambda self, name, calls: Small())
        good(run(app, ["compress", "photo.png"]))
    result = run(app, ["decompress", "photo.png.ardm", "-o", "y.png"])
    assert result.exit_code == 4
    assert f"made by codec model {Small().identity[:4]}, which is not here" in result.stderr
    assert run(app, ["test", "photo.png.ardm"]).exit_code == 4
    assert run(app, ["list", "photo.png.ardm"]).exit_code == 0
    assert sorted(os.listdir()) == ["photo.png", "photo.png.ardm"]


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    """An exact network, on every backend: the same file, which decodes wherever the model is named."""
    monkeypatch.chdir(tmp_path)
    changes = {"components": 3}
    os.mkdir("model")
    exact(**changes).save(Path("model") / NAME)
    x = liked(tuple(changes.items()), 12, 12)
    Image.fromarray(x.numpy().transpose(1, 2, 0).copy()).save("x.png")

    def ardm(*arguments):
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "400"})

    for backend in ("numpy", "float64"):
        assert "tiny" in good(ardm("compress", "x.png", "-m", "model", "-o", backend, "--backend", backend)).stdout
    assert Path("numpy").read_bytes() == Path("float64").read_bytes()
    assert exact(**changes).identity[:4] in good(ardm("list", "numpy")).stdout
    result = ardm("decompress", "numpy", "-o", "y.png")
    assert result.exit_code == 4
    assert "which is not here" in result.stderr
    good(ardm("test", "float64", "-m", "model"))
    good(ardm("decompress", "numpy", "-o", "y.png", "--model", "model", "--rm"))
    assert np.array_equal(pixels("y.png"), pixels("x.png"))
    result = ardm("compress", "x.png", "-m", "model", "-K", "9999")
    assert (result.exit_code, result.stderr.count("\n"), "9999" in result.stderr) == (1, 1, True)
    good(ardm("compress", "--archive", "two.ardm", "x.png", "y.png", "-m", "model"))
    good(ardm("decompress", "two.ardm", "-m", "model"))
    assert np.array_equal(pixels("two/y.png"), pixels("x.png"))


# --- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_there_and_back(ardm):
    for k in range(3):
        (Path("in") / "deep").mkdir(parents=True, exist_ok=True)
        picture(f"in/deep/{k}.png", (40, 40, 3), seed=k)
    write("in/x", b"x")
    before = content_of(Path("in"))
    result = good(ardm("compress", "--archive", "all.ardm", "in", "notes.txt"))
    assert re.match(r"5 items -> all\.ardm: \d+ -> \d+ bytes \(\d+\.\d%\), ", result.stdout)
    assert good(ardm("test", "all.ardm")).stdout.startswith("all.ardm: good, 5 items, ")
    good(ardm("decompress", "all.ardm"))
    assert content_of(Path("all") / "in") == before
    result = ardm("decompress", "all.ardm", "-f")
    assert (result.exit_code, result.stderr) == (1, "ardm: all.ardm: all is a folder; give another name with -o\n")
    good(ardm("decompress", "all.ardm", "-o", "elsewhere"))
    assert content_of(Path("elsewhere/in")) == before
    good(ardm("extract", "all.ardm", "in/deep/1.png", "4", "-o", "in"))
    assert np.array_equal(pixels("in/1.png"), pixels("in/deep/1.png"))
    assert Path("in/notes.txt").read_bytes() == TEXT
    assert good(ardm("extract", "-c", "all.ardm", "notes.txt")).stdout_bytes == TEXT
    result = good(ardm("extract", "all.ardm", "in/x", "-o", "z"))
    assert result.stdout.startswith("all.ardm -> z: 1 bytes, ")
    result = ardm("extract", "all.ardm", "none")
    assert (result.exit_code, result.stderr) == (1, "ardm: all.ardm: no item of the archive is named 'none'\n")
    piped = good(ardm("compress", "--archive", "-", "notes.txt")).stdout_bytes
    assert good(ardm("decompress", "-", given=piped)).stdout_bytes == TEXT
    good(ardm("decompress", "--rm", "all.ardm", "-o", "last"))
    assert not Path("all.ardm").exists()


def test_an_array(ardm):
    x = np.random.default_rng(0).integers(0, 9, (5, 4, 4, 3)).astype(np.uint8)
    np.save("x.npy", x)
    good(ardm("compress", "--archive", "x.npy.ardm", "x.npy"))
    os.remove("x.npy")
    good(ardm("decompress", "x.npy.ardm"))
    assert np.array_equal(np.load("x.npy"), x)
    good(ardm("extract", "x.npy.ardm", "2"))
    assert "x.npy-2.npy" in os.listdir()


# --- how it exits -----------------------------------------------------------------------------------------------------


def test_one_of_several_fails_and_the_others_are_done(ardm):
    write("a", b"a")
    os.mkdir("folder")
    result = ardm("compress", "a", "folder", "gone", "photo.png")
    assert result.exit_code == 1
    assert [line.split(" ")[0] for line in result.stdout.splitlines()] == ["a", "photo.png"]
    assert result.stderr.splitlines() == [
        "ardm: folder is a folder; -r takes the files in it",
        "ardm: there is no file gone",
    ]


def test_the_worst_exit_code_wins(ardm, monkeypatch):
    good(ardm("compress", "notes.txt", "photo.png"))
    data = Path("notes.txt.ardm").read_bytes()
    write("bad.ardm", data[:-1])
    monkeypatch.setattr(Engine, "models", lambda self, name, calls: models()(name, calls))
    for names, worst in {"notes.txt.ardm": 0, "gone": 1, "photo.png.ardm": 4, "bad.ardm": 3, "gone photo.png.ardm": 4,
                         "bad.ardm photo.png.ardm gone": 3, "photo.png.ardm bad.ardm notes.txt.ardm": 3}.items():  # fmt: skip
        result = ardm("test", *names.split())
        assert result.exit_code == worst, names
        assert len(result.stderr.splitlines()) == len(names.split()) - ("notes.txt.ardm" in names)


@pytest.mark.parametrize(("error", "code", "said"), [
    (OSError(28, "No space left on device", "x.ardm"), 1, "cannot write photo.png.ardm: no space left on device"),
    (MemoryError(), 1, "photo.png: out of memory: this is too large for this machine"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 1, "photo.png: out of memory: this is"),
    (ArdmError("a sentence"), 1, "photo.png: a sentence"), (CodecError("a sentence"), 3, "photo.png: a sentence"),
    (ModelMissing("a sentence"), 4, "photo.png: a sentence"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line(ardm, monkeypatch, error, code, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(encode, "compress", fail)
    result = ardm("compress", "photo.png", "photo.png")
    assert result.exit_code == code
    assert result.stderr.count("\n") == 2
    assert result.stderr.startswith(f"ardm: {said}")
    assert sorted(os.listdir()) == ["notes.txt", "photo.png"]
    with pytest.raises(typer.Exit), console.guard():
        raise error


def test_a_bug_is_a_line_too_and_the_others_are_done(ardm, monkeypatch):
    real = encode.compress

    def broken(content, *rest):
        return 1 / 0 if content.kind == Kind.IMAGE else real(content, *rest)

    monkeypatch.setattr(encode, "compress", broken)
    result = ardm("compress", "photo.png", "notes.txt")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"ardm: photo\.png: ZeroDivisionError: division by zero in test_cli_codec\.py, line \d+; this is a bug in "
        r"ardm, please report it \(ARDM_TRACEBACK=1 shows the traceback\)\n",
        result.stderr,
    )
    assert sorted(os.listdir()) == ["notes.txt", "notes.txt.ardm", "photo.png"]
    with pytest.raises(typer.Exit), console.guard():
        raise RuntimeError("a bug")
    monkeypatch.setenv("ARDM_TRACEBACK", "1")
    assert isinstance(ardm("compress", "photo.png").exception, ZeroDivisionError)
    with pytest.raises(RuntimeError, match="a bug"), console.guard():
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "terminated")],
)
def test_signals_end_it_and_leave_nothing(ardm, monkeypatch, number, code, said):
    def decode(*_):
        assert len(os.listdir()) == 3
        os.kill(os.getpid(), number)
        for _ in range(10**6):
            pass

    before = signal.getsignal(number)
    if before == signal.SIG_IGN:
        pytest.skip("whoever started this, nohup for one, has it ignored")
    monkeypatch.setattr(decoding, "frames", decode)
    result = ardm("compress", "photo.png", "photo.png", "--rm")
    assert (result.exit_code, result.stderr) == (code, f"ardm: {said}\n")
    assert sorted(os.listdir()) == ["notes.txt", "photo.png"]
    assert signal.getsignal(number) == before


# --- processes of their own -------------------------------------------------------------------------------------------

GREEK = "καλημέρα κόσμε\n".encode() * 9
"""No bundled model is tried on this, so that a process need not import PyTorch."""


def large(path):
    """What takes many seconds."""
    return write(path, np.random.default_rng(0).integers(0, 9, 24 << 20, dtype=np.uint8).tobytes())


def when_writing(folder, child):
    """Wait until a file is being written in a folder."""
    until = time.monotonic() + 60
    while not any(name.startswith(".ardm-") for name in os.listdir(folder)):
        assert time.monotonic() < until
        assert child.poll() is None
        time.sleep(0.01)


def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        pytest.skip("whoever started this, nohup for one, has it ignored")
    source = large(tmp_path / "x")
    child = process("compress", "--rm", source)
    when_writing(tmp_path, child)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60) == (b"", b"ardm: interrupted\n")
    assert child.returncode == 130
    assert os.listdir(tmp_path) == ["x"]


def test_kill_9_leaves_no_partial_file_and_the_next_run_cleans_up(tmp_path):
    source = large(tmp_path / "x")
    child = process("compress", "--rm", source)
    when_writing(tmp_path, child)
    child.kill()
    child.communicate()
    assert source.exists()
    assert not (tmp_path / "x.ardm").exists()
    assert len(os.listdir(tmp_path)) == 2
    write(tmp_path / "y", GREEK)
    assert process("compress", tmp_path / "y").wait(60) == 0
    assert sorted(os.listdir(tmp_path)) == ["x", "y", "y.ardm"]


def test_two_processes_on_one_file(tmp_path):
    source = write(tmp_path / "x", os.urandom(1 << 20))
    children = [process("compress", source) for _ in range(2)]
    said = [child.communicate(timeout=60)[1] for child in children]
    assert sorted(child.returncode for child in children) == [0, 1]
    assert f"ardm: {source}.ardm exists; give another name with -o, or overwrite it with -f\n".encode() in said
    assert sorted(os.listdir(tmp_path)) == ["x", "x.ardm"]
    assert check_file(tmp_path / "x.ardm", FileOptions()).target_bytes == 1 << 20


def test_a_reader_who_has_gone(tmp_path):
    source = write(tmp_path / "x", os.urandom(10**5))
    compress_file(source)
    for arguments in (["compress", "-f", source], ["-dc", tmp_path / "x.ardm"]):
        read, write_end = os.pipe()
        os.close(read)
        child = process(*arguments, stdout=write_end)
        os.close(write_end)
        assert child.communicate(timeout=60)[1] == b""
        assert child.returncode == 1
    with open("/dev/full", "wb") as full:
        child = process("-dc", tmp_path / "x.ardm", stdout=full)
        said = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert said.endswith(b"cannot write standard output: no space left on device\n")


def test_standard_input_is_meant_where_no_file_is_named(tmp_path):
    packed = process("compress", stdin=subprocess.PIPE).communicate(GREEK, timeout=60)[0]
    assert process("-dc", stdin=subprocess.PIPE).communicate(packed, timeout=60)[0] == GREEK
    assert process("-z", stdin=subprocess.PIPE).communicate(GREEK, timeout=60)[0] == packed


def test_what_needs_no_model_starts_without_pytorch(tmp_path):
    write(tmp_path / "x", bytes(range(256)) * 20)
    script = """
import sys
from ardm.cli.app import app
for arguments in (["compress", "x"], ["list", "x.ardm"], ["-t", "x.ardm"], ["-df", "x.ardm"], ["--help"]):
    try:
        app(arguments)
    except SystemExit as stop:
        assert not stop.code, arguments
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=60)


# --- on a terminal ----------------------------------------------------------------------------------------------------


def on_terminal(*arguments, out=True, **options):
    """What a terminal shows of a process whose standard error, and output, is one; and the exit code."""
    master, slave = pty.openpty()
    child = process(*arguments, stdout=slave if out else subprocess.DEVNULL, stderr=slave, **options)
    os.close(slave)
    shown = b""
    while child.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 1 << 16)
            except OSError:  # the terminal has been closed
                break
    os.close(master)
    return shown.decode(errors="replace"), child.wait(60)


def test_a_terminal_gets_no_binary_data(tmp_path):
    write(tmp_path / "x.txt", GREEK)
    shown, code = on_terminal("compress", "-c", tmp_path / "x.txt")
    assert code == 1
    assert "binary data is not written to a terminal; name a file with -o, or use -f" in " ".join(shown.split())
    assert "\ufffd" not in shown
    shown, code = on_terminal("compress", "-cf", tmp_path / "x.txt")
    assert (code, "\ufffd" in shown) == (0, True)
    compress_file(tmp_path / "x.txt")
    shown, code = on_terminal("cat", tmp_path / "x.txt.ardm")
    assert (code, shown) == (0, GREEK.decode().replace("\n", "\r\n"))


def test_progress_is_for_terminals(tmp_path):
    source = write(tmp_path / "x", TEXT * 600)
    shown, code = on_terminal("compress", source, at_once=True)
    assert code == 0
    assert "x: encoding" in shown
    assert "x: verifying" in shown
    assert re.search(r"\d+%", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)
    shown, code = on_terminal("test", "-q", tmp_path / "x.ardm")
    assert (shown, code) == ("", 0)


# --- checks and bare files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("check", "shown"), [(32, "32 bits"), (16, "16 bits"), (8, "8 bits"), (0, "none")])
def test_checks_are_listed(ardm, check, shown):
    good(ardm("compress", "photo.png", "notes.txt", "--check", check))
    for name in ("photo.png.ardm", "notes.txt.ardm"):
        assert f"  {shown}  " in good(ardm("list", name)).stdout
        assert json.loads(good(ardm("list", "--json", name)).stdout)[0]["check"] == check
    good(ardm("decompress", "photo.png.ardm", "-o", "y.png"))
    assert np.array_equal(np.asarray(Image.open("y.png")), np.asarray(Image.open("photo.png")))
    good(ardm("compress", "--archive", "all.ardm", "photo.png", "notes.txt", "--check", check))
    assert f"  {shown}  " in good(ardm("list", "all.ardm")).stdout
    good(ardm("test", "all.ardm"))


def test_bare_files(ardm):
    good(ardm("compress", "photo.png", "-m", "small", "-o", "whole.ardm"))
    good(ardm("compress", "photo.png", "-m", "small", "--bare"))
    whole, bare = (Path(name).read_bytes() for name in ("whole.ardm", "photo.png.ardm"))
    assert len(whole) - len(bare) == 5
    assert "40x40x3" in good(ardm("list", "--bare", "photo.png.ardm")).stdout
    good(ardm("test", "--bare", "-m", "small", "photo.png.ardm"))
    good(ardm("decompress", "--bare", "-m", "small", "photo.png.ardm", "-o", "y.png"))
    assert np.array_equal(np.asarray(Image.open("y.png")), np.asarray(Image.open("photo.png")))
    result = ardm("decompress", "photo.png.ardm", "-o", "z.png")
    assert (result.exit_code, "is read with --bare" in result.stderr) == (3, True)
    result = ardm("decompress", "--bare", "-m", "small", "whole.ardm", "-o", "z.png")
    assert (result.exit_code, "this file is not bare" in result.stderr) == (3, True)
    for arguments in (["compress", "--bare", "photo.png"], ["decompress", "--bare", "photo.png.ardm"]):
        result = ardm(*arguments)
        assert (result.exit_code, "a bare file does not say which model made it" in result.stderr) == (2, True)
    result = ardm("compress", "--bare", "-m", "small", "-c", "photo.png", "notes.txt")
    assert (result.exit_code, "could not be told apart" in result.stderr) == (1, True)
    assert not Path("z.png").exists()
