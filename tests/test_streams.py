"""Standard streams of any kind: no silent loss, no traceback, and no name that forges a line."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from ardm import formats
from ardm.cli import compress as compressing
from ardm.cli import demo
from ardm.cli.app import app
from ardm.codec.archive import Archive
from ardm.errors import CodecError, ModelMissing
from ardm.export import convert as export
from ardm.files.compress import compress_file
from ardm.files.extract import check_archive, extract
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import walk
from ardm.files.streams import Unwritten, put, read_up_to, write_all
from test_files import TEXT, write
from tests_support import make_data, make_model

EVIL = "a\nforged\rline\x1b[2J\u202e\u2066写真"
"""A folder whose name is several lines, clears a screen, turns the direction of writing, and is in no Latin encoding."""
pytestmark = pytest.mark.usefixtures("at_once")

SHORT = TEXT[:500]


class Raw(io.RawIOBase):
    """A stream that takes a few bytes at a time, as unbuffered ones may, and fails when it is full."""

    def __init__(self, most=7, room=1 << 40):
        self.most, self.room, self.taken = most, room, bytearray()

    def writable(self):
        return True

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = bytes(data[: min(self.most, self.room)])
        self.room -= len(part)
        self.taken += part
        return len(part)


# --- bytes to a stream, and from one ----------------------------------------------------------------------------------


def test_all_is_written_to_a_stream_that_takes_a_little():
    raw = Raw()
    put(raw, TEXT)
    assert raw.taken == TEXT
    with pytest.raises(Unwritten, match="cannot write standard output: no space left on device"):
        put(Raw(room=100), TEXT)


@pytest.mark.parametrize("answer", [0, None, -1, 1 << 20])
def test_what_was_not_taken_does_not_count(answer):
    class Odd:
        def write(self, data):
            return answer

    with pytest.raises(Unwritten):
        put(Odd(), TEXT)


@pytest.mark.parametrize("buffered", [False, True])
def test_a_pipe_that_does_not_wait_is_waited_for(buffered):
    read, into = os.pipe()
    os.set_blocking(into, False)
    data, found = os.urandom(1 << 20), bytearray()

    def reader():
        while part := os.read(read, 1 << 16):
            found.extend(part)

    thread = threading.Thread(target=reader)
    with open(into, "wb", buffering=1 << 13 if buffered else 0) as stream:
        assert os.write(into, bytes(1 << 16)) == 1 << 16  # it is full
        thread.start()
        write_all(stream, data)
        os.set_blocking(into, True)
    thread.join(60)
    os.close(read)
    assert found == bytes(1 << 16) + data


def test_a_pipe_that_has_nothing_yet_is_not_at_its_end():
    read, into = os.pipe()
    os.set_blocking(read, False)

    def writer():
        for k in range(0, len(TEXT), 4000):
            os.write(into, TEXT[k : k + 4000])
        os.close(into)

    timer = threading.Timer(0.05, writer)
    with open(read, "rb", buffering=0) as stream:
        timer.start()
        assert read_up_to(stream, 1 << 30) == TEXT
    timer.join()


# --- every command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Files and models, in a folder of an evil name."""
    folder = tmp_path_factory.mktemp("streams") / EVIL
    folder.mkdir()
    make_data(folder)
    make_model(folder / "any")
    make_model(folder / "wave", wave=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 16, (8, 8, 3), dtype=np.uint8)).save(folder / "i.png")
    write(folder / "notes.txt", SHORT)
    compress_file(folder / "notes.txt")
    make_archive(list(walk([folder / "notes.txt", folder / "i.png"])), folder / "all.ardm", FileOptions(exact=True))
    return folder


SMALL = [
    "data.name=array", "data.train=train", "data.valid=valid", "model.preset=centred-tiny", "model.shape=[3,8,8]",
    "model.classes=16", "train.valid_items=2", "train.batch=2", "train.steps=1", "train.log_every=1",
]  # fmt: skip

COMMANDS = {
    "compress": lambda w: ["-f", w / "notes.txt"],
    "decompress": lambda w: ["-f", w / "notes.txt.ardm"],
    "test": lambda w: [w / "notes.txt.ardm", w / "all.ardm"],
    "list": lambda w: ["-v", w / "notes.txt.ardm", w / "all.ardm"],
    "extract": lambda w: ["-f", w / "all.ardm", "0", "-o", w],
    "cat": lambda w: [w / "notes.txt.ardm", w / "notes.txt.ardm"],
    "bench": lambda w: [w / "notes.txt", "--levels", "none", "--json"],
    "export": lambda w: [w / "wave", "-o", w / "made", "--weights", "8", "--items", "8", "-f"],
    "train": lambda w: [
        "cifar10-any-order",
        f"data.folder={json.dumps(str(w))}",
        *SMALL,
        "--out",
        fresh(w / "run"),
        "--cpu",
    ],
    "eval": lambda w: [
        w / "any",
        "--data",
        "array",
        "--folder",
        w,
        "--split",
        "valid",
        "--items",
        "1",
        "--passes",
        "1",
    ],
    "audit": lambda w: [
        w / "any",
        "--data",
        "array",
        "--folder",
        w,
        "--split",
        "valid",
        "-n",
        "2",
        "--passes",
        "1",
        "--plans",
        "1",
        "--budgets",
        "2",
        "--streams",
        "1",
    ],
    "plan": lambda w: [w / "any", "--calls", "5", "--save", w / "s.json", "-f"],
    "models": lambda w: [],
    "sample": lambda w: [w / "any", "-n", "1", "--calls", "2", "-o", w / "s.png", "-f"],
    "fill": lambda w: [w / "i.png", "--box", "1,1,2,2", "-m", w / "any", "--calls", "2", "-o", w / "f.png", "-f"],
    "demo": lambda w: ["-o", w / "demo"],
}
"""Arguments with which each command prints something; what it names lies in the evil folder."""


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def test_every_command_is_here():
    slow = {"fit"}  # prints as train, export and bench do, and takes seconds
    assert set(COMMANDS) | slow == set(typer.main.get_command(app).commands)


EXPORT, MADE = export.export, []


def exported_once(bundle, items, precision, fixed, tried):
    """What `ardm export` makes, which takes a second: the first time, and again what was made then."""
    if not MADE:
        MADE.append(EXPORT(bundle, items, precision, fixed))
    tried(MADE[0])
    return MADE[0]


class Shown:
    """What became of a command: exit code, and bytes of both streams."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch):
    """The program in this process, with the given standard streams."""
    monkeypatch.setattr(demo, "code", lambda path, folder: demo.Row(path.stem, 1, 1, 1, 1, 0.0))
    monkeypatch.setattr(demo, "_paint", lambda out, seed: [out / "samples.png"])
    monkeypatch.setattr(export, "export", exported_once)

    def go(*arguments, raw=None, out="utf-8", err="utf-8", unbuffered=True):
        raw, error = raw or Raw(1 << 20), Raw(1 << 20)

        def stream(under, encoding):
            if encoding is None:
                return None
            under = under if unbuffered else io.BufferedWriter(under)
            return io.TextIOWrapper(under, encoding, "strict", write_through=unbuffered)

        with monkeypatch.context() as patch:
            for name, made in (("stdout", stream(raw, out)), ("stderr", stream(error, err))):
                patch.setattr(sys, name, made)
            with pytest.raises(SystemExit) as stop:
                app([str(a) for a in arguments])
        return Shown(stop.value.code or 0, bytes(raw.taken), bytes(error.taken))

    return go


def clean(shown, encoding="utf-8"):
    """Lines of a text that hold nothing that a terminal obeys, but colours."""
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.decode(encoding))
    assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
    lines = text.splitlines()
    assert not any(line.startswith("forged") for line in lines)
    return lines


each_command = pytest.mark.parametrize("command", COMMANDS)


@each_command
def test_a_name_forges_no_line_and_any_encoding_will_do(command, workshop, run, monkeypatch):
    """And FORCE_COLOR moves no cursor."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = run(command, *COMMANDS[command](workshop), out="cp1252", err="cp1252")
    assert shown.code == 0, shown.err
    clean(shown.err, "cp1252")
    if command != "cat":
        assert clean(shown.out, "cp1252")
    else:
        assert shown.out == SHORT * 2
    assert b"Traceback" not in shown.err


@each_command
def test_nothing_is_lost_where_output_is_taken_in_parts(command, workshop, run):
    def digits(data):
        return re.sub(rb"[\d.e+-]+|\s+", b"#", data)

    arguments = COMMANDS[command](workshop)
    whole = run(command, *arguments)
    parts = run(command, *COMMANDS[command](workshop), raw=Raw(7))
    assert (whole.code, parts.code) == (0, 0)
    assert whole.out
    assert digits(parts.out) == digits(whole.out)


@pytest.mark.parametrize(
    ("command", "unbuffered"), [*((name, True) for name in COMMANDS), ("cat", False), ("list", False)]
)
def test_full_output_is_reported_once_and_the_work_is_done(command, unbuffered, workshop, run):
    shown = run(command, *COMMANDS[command](workshop), raw=Raw(room=3), unbuffered=unbuffered)
    assert shown.code == 1
    assert re.fullmatch(r"ardm: (.*: )?cannot write standard output: no space left on device", clean(shown.err)[-1])
    assert shown.err.count(b"cannot write") == 1


@each_command
def test_missing_streams(command, workshop, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    shown = run(command, *COMMANDS[command](workshop), out=None)
    assert shown.code == 1
    assert re.fullmatch(r"ardm: (.*: )?cannot write standard output: bad file descriptor", clean(shown.err)[-1])
    assert run(command, *COMMANDS[command](workshop), err=None).code == 0
    assert run(command, "--nonsense", out=None, err=None).code == 2


@each_command
def test_what_goes_wrong_forges_no_line_and_shows_no_traceback(command, workshop, run, monkeypatch):
    """Of wrong usage, of files that are not there, and of third parties that fail in ways of their own."""
    assert len(clean(run(command, "--no\nforged\x1b[2J").err)) > 1
    bad = write(workshop / "bad.ardm", (workshop / "notes.txt.ardm").read_bytes()[:-1])
    lacking = {
        "fill": ["--box", "1,1,2,2"],
        "extract": ["0"],
        "export": ["--out", workshop / "no"],
        "bench": ["--levels", "none"],
    }
    for path in (workshop / "gone", bad, workshop):
        rest = lacking.get(command, [])
        if command in ("models", "demo"):
            continue
        shown = run(command, path, *rest)
        assert shown.code in {"bench": (0, 1), "audit": (2,)}.get(command, (1, 3)), (path, shown.err)
        assert all(line.startswith("ardm: ") for line in clean(shown.err))
        assert b"Traceback" not in shown.err


@pytest.mark.parametrize("option", ["--version", "--help", "--nonsense"])
def test_what_is_said_before_any_command(option, run):
    assert run(option, raw=Raw(7)).code == (2 if option == "--nonsense" else 0)
    if option != "--nonsense":
        full = run(option, raw=Raw(room=3))
        assert (full.code, full.err) == (1, b"ardm: cannot write standard output: no space left on device\n")
    assert run(option, err=None).code == (2 if option == "--nonsense" else 0)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), SyntaxError("unclosed\nforged"), EOFError(), AssertionError()]
)
def test_a_parser_that_fails_in_its_own_way_ends_nothing(error, workshop, run, monkeypatch):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(formats, "read", broken)
    image = workshop / "i.png"
    for arguments in (["compress", "-f", image, workshop / "gone"], ["bench", image, "--levels", "none"],
                      ["compress", "-f", "--archive", workshop / "x.ardm", image]):  # fmt: skip
        shown = run(*arguments)
        assert shown.code == 1
        lines = clean(shown.err)
        assert len(lines) == 1 + (workshop / "gone" in arguments)
        assert f"{type(error).__name__}" in lines[0]
        assert "please report it" in lines[0]


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["-10", "-0", "-k19f", "-99"])
def test_levels_that_are_none(level, workshop, run):
    shown = run("compress", level, workshop / "notes.txt", "-o", workshop / "x")
    number = re.sub(r"\D", "", level)
    assert shown.code == 2
    assert f"levels are -1 to -9; got -{number}" in " ".join(clean(shown.err))
    assert not (workshop / "x").exists()


@pytest.mark.parametrize("given", [["-T", "-1"], ["--threads", "-1"], ["-kT", "-1"]])
def test_the_value_of_an_option_is_no_level(given, workshop, run):
    shown = run("compress", *given, workshop / "notes.txt", "-o", workshop / "x")
    said = " ".join(clean(shown.err))
    assert (shown.code, "--threads" in said, "greater than or equal" in said) == (2, True, True), said
    assert run("compress", "-T", "1", "-1", "-c", workshop / "notes.txt").code == 0


# --- real streams -----------------------------------------------------------------------------------------------------

STREAMED = {
    "cat": ["cat", "notes.ardm"],
    "decompress": ["decompress", "-c", "notes.ardm"],
    "compress": ["compress", "-c", "noise"],
    "standard input": ["compress", "-"],
    "archive": ["compress", "--archive", "-", "noise"],
    "extract": ["extract", "-c", "all.ardm", "noise"],
    "list": ["list", "--json", *["all.ardm"] * 40],
}
"""Commands that write more than the limit below."""
LIMIT = 4_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    write(folder / "noise", os.urandom(12_000))
    write(folder / "notes", TEXT)
    compress_file(folder / "notes")
    make_archive(list(walk([folder / "noise"])), folder / "all.ardm", FileOptions(exact=True))
    return folder


SCRIPT = """
import os, resource, sys
import ardm.cli.app
from ardm.__main__ import main

for arguments, out in eval(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        if out == "limited":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 1)
        os.dup2(os.open("noise", os.O_RDONLY), 0)
        sys.argv = ["ardm", *arguments]
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(("out", "unbuffered"), [("limited", "1"), ("/dev/full", "")])
def test_a_full_disk_and_a_limit_on_files_are_failures(folder, out, unbuffered):
    """In processes of their own, which share their start."""
    if out == "/dev/full" and not Path(out).exists():
        pytest.skip("this system has no full device")
    asked = [(arguments, out) for arguments in STREAMED.values()]
    asked += [([option], out) for option in ("--version", "--help") if out != "limited"]
    command = [sys.executable, "-c", SCRIPT, repr(asked), str(LIMIT)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [line for line in done.stderr.splitlines() if "several files in one stream" not in line]
    assert len(said) == 2 * len(asked), done.stderr
    for (arguments, out), line, code in zip(asked, said[::2], said[1::2], strict=True):
        reason = "file too large" if out == "limited" else "no space left on device"
        assert re.fullmatch(rf"ardm: (.*: )?cannot write standard output: {reason}", line), (arguments, out, line)
        assert code == "1", (arguments, out)
    assert out != "limited" or (folder / out).stat().st_size <= LIMIT


def test_streams_that_were_closed(folder):
    """No file of ours gets the number of one, so that nothing else is written into it."""
    program = f'"{sys.executable}" -m ardm'
    script = f"""
        {program} compress -fq noise -o a >&- 2>&- <&-; echo $?
        {program} test a >&-; echo $?
        {program} compress -c - <&-; echo $?
    """
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["0", "1", "1"]
    assert done.stderr.splitlines() == [
        "ardm: cannot write standard output: bad file descriptor",
        "ardm: standard input is closed; name a file",
    ]
    assert (folder / "a").stat().st_size > 12_000


# --- one failure does not end the rest --------------------------------------------------------------------------------


@pytest.fixture
def forty(tmp_path, monkeypatch):
    """An archive of forty files without a model; and what breaks some of them."""
    monkeypatch.chdir(tmp_path)
    paths = [write(f"{k}.txt", os.urandom(50 + k)) for k in range(40)]
    make_archive(list(walk(paths)), Path("all.ardm"), FileOptions())
    data = Path("all.ardm").read_bytes()
    for path in paths:
        path.rename(path.with_suffix(".was"))

    def break_(*numbers):
        broken = bytearray(data)
        for k in numbers:
            broken[data.index(Path(f"{k}.was").read_bytes()) + 3] ^= 1
        return write("bad.ardm", bytes(broken))

    return break_


def test_extract_takes_what_is_good(forty, run):
    forty(39)
    shown = run("extract", "bad.ardm", "39", "0", "1.txt")
    assert shown.code == 3
    assert [line.split(": ")[0] for line in clean(shown.out)] == ["bad.ardm -> 0.txt", "bad.ardm -> 1.txt"]
    assert clean(shown.err) == [
        "ardm: bad.ardm: item 39 (39.txt): damaged file: the checksum of its samples does not match"
    ]
    for k in (0, 1):
        assert Path(f"{k}.txt").read_bytes() == Path(f"{k}.was").read_bytes()
    assert not Path("39.txt").exists()
    shown = run("extract", "bad.ardm", "-c", "5", "39", "none", "77", "6")
    assert shown.code == 3
    assert shown.out == Path("5.was").read_bytes() + Path("6.was").read_bytes()
    assert clean(shown.err)[1:] == [
        "ardm: bad.ardm: the archive has items 0 to 39; got 77",
        "ardm: bad.ardm: item 39 (39.txt): damaged file: the checksum of its samples does not match",
    ]
    shown = run("extract", "bad.ardm", "none", "0", "2")
    assert shown.code == 1
    assert clean(shown.err) == [
        "ardm: bad.ardm: no item of the archive is named 'none'",
        "ardm: bad.ardm: item 0 (0.txt): 0.txt exists; give another name with -o, or overwrite it with -f",
    ]
    assert Path("2.txt").read_bytes() == Path("2.was").read_bytes()
    assert run("extract", "all.ardm", "3", "4").code == 0


def test_an_item_that_is_too_large_does_not_end_the_rest(forty, run, monkeypatch):
    shown = run("extract", "all.ardm", "0", "39", "-M", "200")
    assert shown.code == 1
    assert re.fullmatch(
        r"ardm: all\.ardm: item 39 \(39\.txt\): .* the limit is 200 bytes; -M \d+MiB allows it", *clean(shown.err)
    )
    assert Path("0.txt").exists()


@pytest.mark.parametrize("broken", [(0,), (39,), (1, 2, 3), (0, 17, 18, 39), tuple(range(40))])
def test_all_items_that_are_damaged_are_named(forty, run, broken):
    forty(*broken)
    shown = run("test", "bad.ardm")
    assert (shown.code, shown.out) == (3, b"")
    assert clean(shown.err) == [
        f"ardm: bad.ardm: item {k} ({k}.txt): damaged file: the checksum of its samples does not match" for k in broken
    ]
    with pytest.raises(CodecError, match=f"item {broken[0]} "):
        check_archive(Path("bad.ardm"), FileOptions())
    with pytest.raises(CodecError, match=f"item {broken[-1]} "):
        extract(Path("bad.ardm"), [str(broken[-1])], None, FileOptions())


def test_a_model_that_is_missing_is_told_once(forty, run, monkeypatch):
    def missing(*_):
        raise ModelMissing("no such model")

    monkeypatch.setattr(Archive, "items", missing)
    shown = run("extract", "all.ardm", "0", "1", "2")
    assert (shown.code, clean(shown.err)) == (4, ["ardm: all.ardm: no such model"])


@pytest.mark.parametrize("memory", ["2GiB", "400"])
@pytest.mark.parametrize("stdin", [False, True])
def test_cat_writes_nothing_of_an_archive_that_is_damaged(forty, run, monkeypatch, memory, stdin):
    """Whether it is held until all is verified, or decoded twice."""
    decoded = []
    real = Archive.items
    monkeypatch.setattr(Archive, "items", lambda *rest: decoded.append(1) or real(*rest))
    good, bad = Path("all.ardm"), forty(38)
    for path, code in ((good, 0), (bad, 3)):
        if stdin:
            memory = memory if memory == "2GiB" else "10KiB"
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        shown = run("cat", "-" if stdin else path, "-M", memory)
        whole = b"".join(Path(f"{k}.was").read_bytes() for k in range(40))
        assert (shown.code, shown.out) == (code, whole if not code else b""), shown.err
    assert len(decoded) == (2 if memory == "2GiB" or stdin else 3)


def test_cat_writes_nothing_of_frames_one_of_which_is_damaged(tmp_path, run):
    data = os.urandom(5000)
    write(tmp_path / "x", data)
    how = FileOptions(chunk=1000, exact=True)
    packed = compress_file(tmp_path / "x", None, how).target
    assert run("cat", packed).out == data
    broken = bytearray(packed.read_bytes())
    broken[-100] ^= 1
    write(packed, bytes(broken))
    for memory in ("2GiB", "5KiB"):
        shown = run("cat", packed, "-M", memory)
        assert (shown.code, shown.out) == (3, b"")


# --- several frames ---------------------------------------------------------------------------------------------------


def test_all_frames_are_reported(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("q", SHORT)
    write("p", os.urandom(100))
    for name in "qp":
        compress_file(Path(name))
    write("two.ardm", Path("q.ardm").read_bytes() + Path("p.ardm").read_bytes())
    both = f"{len(SHORT) + 100} bytes in 2 frames"
    assert clean(run("test", "two.ardm").out)[0].startswith(f"two.ardm: good, {both}, ")
    assert clean(run("decompress", "two.ardm").out)[0].startswith(f"two.ardm -> two: {both}, ")
    assert Path("two").read_bytes() == SHORT + Path("p").read_bytes()
    found = json.loads(run("list", "--json", "-v", "two.ardm").out)[0]
    assert (found["size"], found["shape"], found["frames"], found["items"]) == (both, [1, 1, len(SHORT) + 100], 2, None)
    for field in ("samples", "raw_bytes", "file_bytes", "header_bytes", "regions"):
        assert found[field] == sum(entry[field] for entry in found["entries"]), field
    assert found["file_bytes"] == Path("two.ardm").stat().st_size
    assert found["ratio"] == found["raw_bytes"] / found["file_bytes"]
    assert sum(found["methods"].values()) == found["regions"]
    assert [entry["size"] for entry in found["entries"]] == [f"{len(SHORT)} bytes", "100 bytes"]
    _, first, *rest = clean(run("list", "-v", "two.ardm").out)
    assert both in first
    assert [line.split()[-2:] for line in rest] == [["frame", "0"], ["frame", "1"]]
    assert len(clean(run("list", "two.ardm").out)) == 2


def test_what_is_kept_as_several_frames_shows_its_whole_size(tmp_path, run, monkeypatch):
    monkeypatch.setattr(
        compressing, "FileOptions", lambda *rest, **named: replace(FileOptions(*rest, **named), chunk=1000)
    )
    source = write(tmp_path / "x", os.urandom(6500))
    packed = f"{source}.ardm"
    assert "6500 bytes in 7 frames, 6500 -> " in clean(run("compress", source).out)[0]
    assert "6500 bytes in 7 frames" in clean(run("test", packed).out)[0]
    assert "6500 bytes in 7 frames" in clean(run("list", packed).out)[1]
    assert "6500 bytes in 7 frames" in clean(run("decompress", "-f", packed).out)[0]
    assert source.stat().st_size == 6500
