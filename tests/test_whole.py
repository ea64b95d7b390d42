"""Atomic writing: files appear whole or not at all, none is lost, and only stale temporary files are removed."""

import ast
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ardm import atomic as whole
from ardm.atomic import remove, sweep, whole_folder, write_whole
from ardm.errors import ArdmError

FULL = OSError(errno.ENOSPC, "No space left on device")


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_appears_whole(tmp_path):
    path, seen = tmp_path / "x.txt", []

    def write(new):
        assert new.suffix == ".txt"
        assert not path.exists()
        new.write_text("a")

    write_whole(path, write, check=lambda new: seen.append(new.read_text()))
    assert path.read_text() == "a"
    assert seen == ["a"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    assert os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), RuntimeError("bug"), FULL, MemoryError()], ids=repr
)
@pytest.mark.parametrize("where", ["write", "fsync", "check", "link"])
def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch, error, where):
    def fail(*_):
        raise error

    write = fail if where == "write" else lambda new: new.write_text("half")
    if where in ("fsync", "link"):
        monkeypatch.setattr(os, where, fail)
        monkeypatch.setattr(Path, "replace", fail)
    old = tmp_path / "x"
    old.write_text("old")
    for force, path in ((False, tmp_path / "y"), (True, old)):
        with pytest.raises(ArdmError if isinstance(error, OSError) else type(error)) as caught:
            write_whole(path, write, force, check=fail if where == "check" else None)
        if isinstance(error, OSError):
            assert str(caught.value) == f"cannot write {path}: no space left on device"
    assert os.listdir(tmp_path) == ["x"]
    assert old.read_text() == "old"


@pytest.mark.parametrize("folder", [False, True])
def test_nothing_is_left_of_an_interruption_in_the_instant_of_creation(tmp_path, monkeypatch, folder):
    def interrupted(path):
        assert path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "_lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if folder:
            with whole_folder(tmp_path / "new"):
                pass
        else:
            write_whole(tmp_path / "new", lambda path: None)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_forced(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ArdmError, match="exists; give another name with -o, or overwrite it with -f"):
        write_whole(path, lambda new: new.write_text("new"))
    assert path.read_text() == "old"
    write_whole(path, lambda new: new.write_text("new"), force=True)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch, links):
    path = tmp_path / "x"
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links here")))
    with pytest.raises(ArdmError, match="exists"):
        write_whole(path, lambda new: new.write_text("new"), check=lambda new: path.write_text("other"))
    assert path.read_text() == "other"
    assert os.listdir(tmp_path) == ["x"]
    if links:  # then the system itself refuses, at the last moment too
        monkeypatch.setattr(Path, "replace", None)
    write_whole(tmp_path / "y", lambda new: new.write_text("new"))
    assert (tmp_path / "y").read_text() == "new"


def test_only_ordinary_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name, said in {"pipe": "not an ordinary file", "folder": "is a folder", "none/x": "there is no folder"}.items():
        with pytest.raises(ArdmError, match=said):
            write_whole(tmp_path / name, lambda new: new.write_text("new"), force=True)
    with pytest.raises(ArdmError, match="exists"):
        write_whole(tmp_path / "dangling", lambda new: new.write_text("new"))
    with pytest.raises(ArdmError, match="/dev/null is not an ordinary file"):
        write_whole("/dev/null", lambda new: new.write_text("new"), force=True)
    assert not (tmp_path / "gone").exists()
    assert len(os.listdir(tmp_path)) == 3


def test_links_are_replaced_and_never_written_through(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("old")
    (tmp_path / "link").symlink_to(kept)
    write_whole(tmp_path / "link", lambda new: new.write_text("new"), force=True)
    assert kept.read_text() == "old"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"


def test_long_and_strange_names_are_no_trouble(tmp_path):
    for name in ("x" * 200 + "." + "y" * 54, "x." + "é" * 14, "a.b\nc", os.fsdecode(b"caf\xe9.\xff")):
        write_whole(tmp_path / name, lambda new: new.write_text("new"))
        assert (tmp_path / name).read_text() == "new"


def test_permissions_and_times_are_taken_over(tmp_path):
    source = tmp_path / "source"
    source.write_text("secret")
    source.chmod(0o4640)
    os.utime(source, (1e9, 1e9))

    def write(new):
        assert stat.S_IMODE(new.stat().st_mode) == 0o600, "what is private stays so while it is being written"
        new.write_text("secret")

    write_whole(tmp_path / "x", write, like=source.stat())
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert (tmp_path / "x").stat().st_mtime == 1e9


def test_a_group_that_cannot_be_given_gets_what_everyone_may(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_text("")
    source.chmod(0o664)
    names = ("st_mode", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns")
    about = SimpleNamespace(**{name: getattr(source.stat(), name) for name in names})
    about.st_gid += 1
    asked = []

    def chown(path, user, group):
        asked.append((user, group))
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    write_whole(tmp_path / "x", lambda new: new.write_text("new"), like=about)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644
    assert asked[-1] == (-1, about.st_gid)


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    """Mocked: the superuser may write anywhere."""
    real = os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArdmError, match=r"cannot write .*x: permission denied"):
        write_whole(tmp_path / "x", lambda new: new.write_text("new"))


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "out") as new:
        (new / "a").mkdir()
        (new / "a" / "b").write_text("c")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a" / "b").read_text() == "c"
    assert os.listdir(tmp_path) == ["out"]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask()
    with pytest.raises(ArdmError, match="is a folder"), whole_folder(tmp_path / "out"):
        pass
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "other") as new:
        (new / "half").write_text("")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_appears_meanwhile_stays(tmp_path):
    with pytest.raises(ArdmError, match="is a folder"), whole_folder(tmp_path / "out") as new:
        (new / "mine").write_text("")
        (tmp_path / "out").mkdir()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == []


# --- leftovers --------------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from ardm.atomic import whole_folder, write_whole
folder = Path(sys.argv[1])
def wait(new):
    new.write_text("half")
    print(new.name, flush=True)
    time.sleep(100)
with whole_folder(folder / "folder") as inside:
    (inside / "x").write_text("half")
    write_whole(folder / "x.png", wait)
"""


def test_what_a_kill_leaves_is_swept_once_nobody_holds_it(tmp_path):
    """A real kill -9 in the middle of writing: the name was never given, and the next run cleans up."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert len(os.listdir(tmp_path)) == 2
    assert sweep(tmp_path) == [], "its writer lives"
    process.kill()
    process.communicate()
    assert name in os.listdir(tmp_path)
    assert len(sweep(tmp_path)) == 2
    assert os.listdir(tmp_path) == []


def test_nothing_else_is_swept(tmp_path):
    kept = [
        ".ardm-0123",
        ".ardm-0123456789abcdeg",
        "x.ardm-0123456789abcdef",
        ".ardm-0123456789abcdef" + "." + "x" * 16,
    ]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".ardm-00000000000000aa").symlink_to(tmp_path / kept[0])
    os.mkfifo(tmp_path / ".ardm-00000000000000bb")
    held = tmp_path / ".ardm-00000000000000cc.png"
    held.write_text("being written")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert held.exists()
    assert sweep(tmp_path) == [held]
    assert set(kept) < set(os.listdir(tmp_path))
    assert (tmp_path / ".ardm-00000000000000aa").is_symlink()
    assert (tmp_path / ".ardm-00000000000000bb").is_fifo()
    assert sweep(tmp_path / "nowhere") == []


def test_files_of_others_are_not_swept(tmp_path, monkeypatch):
    left = tmp_path / ".ardm-0123456789abcdef"
    left.write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    assert sweep(tmp_path) == []


def test_a_writer_outlives_any_number_of_sweeps(tmp_path):
    """The instant between making a file and locking it is seen, and another is made."""
    stop = threading.Event()

    def broom():
        while not stop.is_set():
            sweep(tmp_path)

    sweeping = threading.Thread(target=broom)
    sweeping.start()
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            write_whole(tmp_path / "x", lambda new: new.write_text("new"), force=True)
            assert (tmp_path / "x").read_text() == "new"
    finally:
        stop.set()
        sweeping.join()


def test_where_nothing_can_be_locked_files_are_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(whole.fcntl, "flock", refuse)
    write_whole(tmp_path / "x", lambda new: new.write_text("new"))
    assert (tmp_path / "x").read_text() == "new"
    (tmp_path / ".ardm-0123456789abcdef").write_text("perhaps being written")
    assert sweep(tmp_path) == []


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_only_what_was_read_is_deleted(tmp_path):
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_text("read")
    before = path.stat()
    link.symlink_to(path)
    with pytest.raises(ArdmError, match="is a link; only ordinary files are deleted"):
        remove(link, before)
    path.write_text("changed since")
    with pytest.raises(ArdmError, match="changed in the meantime, and is kept"):
        remove(path, before)
    assert path.read_text() == "changed since"
    remove(path, path.stat())
    assert not path.exists()
    with pytest.raises(ArdmError, match=r"cannot delete .*no such file"):
        remove(path, before)


def test_a_pipe_that_nobody_reads_is_no_failure_to_write():
    with pytest.raises(BrokenPipeError), whole.reasons("cannot write x"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


# --- in one place -----------------------------------------------------------------------------------------------------

WRITERS = {
    "os.replace", "os.rename", "os.link", "shutil.move", "mkstemp", "mkdtemp", "NamedTemporaryFile",
    "TemporaryDirectory", "tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile",
    "tempfile.TemporaryDirectory",
}  # fmt: skip
"""What renames files, or makes temporary ones."""


def test_only_one_module_renames_files_and_makes_temporary_ones():
    """Read from the source.  Paths are renamed by methods of one argument; `str.replace` has two."""
    for path in Path(whole.__file__).parent.rglob("*.py"):
        if path.name in ("atomic.py", "compile.py"):  # the latter runs before there is a package to import
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in WRITERS, (path, name)
                method = getattr(node.func, "attr", "")
                renames = method == "rename" or (method == "replace" and len(node.args) == 1 and not node.keywords)
                assert not renames, (path, ast.unparse(node))


def test_existing_targets_are_refused_in_one_place():
    for path in Path(whole.__file__).parent.rglob("*.py"):
        assert path.name == "atomic.py" or "exists; give" not in path.read_text(), path
