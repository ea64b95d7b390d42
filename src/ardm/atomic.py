"""Files and folders that appear whole or not at all.

A writer gets a temporary file or folder beside the target; it is synchronised, checked, and only then renamed.  After an
error or an interruption nothing is left behind.  After a kill -9 or a power cut a `.ardm-` file with sixteen hex digits
may remain: it is locked for as long as its writer lives, and `sweep` removes those that nobody holds.

This module alone renames files, makes temporary ones, and decides whether an existing target is replaced.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ardm.errors import ArdmError

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\.ardm-[0-9a-f]{16}(\..{1,15})?", re.DOTALL)


def write_whole(
    path: str | Path,
    write: Callable[[Path], None],
    force: bool = False,
    check: Callable[[Path], None] | None = None,
    like: os.stat_result | None = None,
) -> None:
    """Write a file atomically: `write` fills a temporary file, and `check` may still reject what it wrote.

    force: replace an existing file; of a link, the link itself and never its target.  like: copy permissions, owner and
    times from this state of another file.  Raises ArdmError where the file exists, or cannot be written.
    """
    path = Path(path)
    ending = path.suffix if len(os.fsencode(path.suffix)) < 16 else ""
    with reasons(f"cannot write {path}"):
        refuse_target(path, force)
        # a private file stays private while it is being written
        with _temporary(path.parent, ending, 0o666 if like is None else 0o600) as new:
            write(new)
            _synchronise(new, os.O_RDWR)
            if check is not None:
                check(new)
            if like is not None:
                _copy_attributes(like, new)
            _place(new, path, force)


def write_bytes(path: str | Path, data: bytes, force: bool = False) -> None:
    """Write bytes to a file atomically.  Raises ArdmError as `write_whole` does."""

    def write(new: Path) -> None:
        new.write_bytes(data)

    write_whole(path, write, force)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Make a new folder, which gets its name when the block ends without an error.

    Everything that the block writes into it is synchronised in one go before that.  Raises ArdmError where `path` exists.
    """
    with reasons(f"cannot write {path}"):
        refuse_target(path, force=False)
        with _temporary(path.parent, "", None) as new:
            yield new
            _synchronise_all(new)
            refuse_target(path, force=False)
            new.rename(path)
            _synchronise_names(path.parent)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder among the temporary files of the system, which is removed when the block ends."""
    with TemporaryDirectory(prefix="ardm-") as folder:
        yield Path(folder)


def make_folders(path: Path, below: Path) -> None:
    """Make the folder `path` inside the existing folder `below`, and those between.

    `Path.mkdir(parents=True)` and `os.makedirs` recurse once per step, and a name may have 2,000 steps.
    """
    missing = []
    while path != below and not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


# --- folders that are replaced ----------------------------------------------------------------------------------------


class replacing:  # noqa: N801 (used like a function)
    """Context manager: a new folder that replaces `folder` when the block ends without an error.

    own: names that belong to the new folder; everything else in the old one is moved over.  None: nothing is.
    """

    def __init__(self, folder: Path, own: Sequence[str] | None = None) -> None:
        self.folder, self.own = folder, own

    def __enter__(self) -> Path:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            recover(self.folder, self.own)
            lock = None
            while lock is None:  # try again if another process sweeps the folder just before it is locked
                self.new = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-new-", dir=self.folder.parent))
                lock = _lock(self.new)
            self.lock = lock
            self.new.chmod(0o755)
        except OSError as error:
            raise ArdmError(f"cannot write {self.folder}: {error.strerror}") from None
        return self.new

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish(kind is not None)
        finally:
            if self.lock >= 0:
                os.close(self.lock)

    def _finish(self, failed: bool) -> None:
        if failed:
            _discard(self.new)
            return
        for file in self.new.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
            _synchronise(file, os.O_RDONLY)
        old = self.folder.with_name(f".{self.folder.name}-old-{os.getpid()}")
        if self.folder.exists():
            self.folder.rename(old)
        self.new.rename(self.folder)
        _move_over(old, self.folder, self.own)


def recover(folder: Path, own: Sequence[str] | None = None) -> None:
    """Finish a replacement of `folder` that was killed, and remove new folders that no process is writing any more."""
    for old in sorted(folder.parent.glob(f".{folder.name}-old-*")):
        if folder.exists():
            _move_over(old, folder, own)
        else:
            old.rename(folder)
    for new in sorted(folder.parent.glob(f".{folder.name}-new-*")):
        _remove_abandoned(str(new))


def _move_over(old: Path, folder: Path, own: Sequence[str] | None) -> None:
    """Move what is not `own` from the old folder to the new one, then remove the old one."""
    if own is not None and old.is_dir():
        foreign = [other for other in old.iterdir() if other.name not in own and not (folder / other.name).exists()]
        try:
            for other in foreign:
                other.rename(folder / other.name)
        except OSError:
            return  # `recover` tries again
    _discard(old)


_HELD = set[Path]()
"""Folders that this process holds."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that hold it so; one process may hold it several times.

    Raises ArdmError where another process holds it.  On file systems without locks nothing is held.
    """
    folder = folder.resolve()
    if sys.platform == "win32" or folder in _HELD or not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ArdmError(f"another process is training in {folder}; wait for it, or give another folder") from None
    except OSError:
        pass
    _HELD.add(folder)
    try:
        yield
    finally:
        _HELD.discard(folder)
        os.close(handle)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file that is going to be replaced; waits for others that hold it so, who may replace it first.

    Raises ArdmError where it is gone.  On file systems without locks nothing is held.
    """
    handle: int | None = None
    while handle is None:  # try again if it was replaced before it was locked
        refuse_source(path)
        handle = _lock(Path(os.path.realpath(path)))
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


# --- stale temporary files --------------------------------------------------------------------------------------------


def is_temporary(name: str) -> bool:
    """Whether a name is that of a temporary file or folder of ours, which `sweep` may remove."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files of killed writers from a folder; returns their paths.

    Never fails, and never touches a file that is still being written.
    """
    swept = []
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            ours = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
            if ours and is_temporary(entry.name) and _remove_abandoned(entry.path):
                swept.append(Path(entry.path))
    return swept


# --- targets, sources and reasons -------------------------------------------------------------------------------------


def refuse_target(path: Path, force: bool) -> None:
    """Raise ArdmError unless `path` can be written: a new name in an existing folder, or with `force` an ordinary file."""
    if not path.parent.is_dir():
        raise ArdmError(f"there is no folder {path.parent}")
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise ArdmError(f"{path} is a folder; give another name with -o")
    if path.exists() and not path.is_file():
        raise ArdmError(f"{path} is not an ordinary file; give another name with -o")
    if not force:
        raise ArdmError(f"{path} exists; give another name with -o, or overwrite it with -f")


def refuse_source(path: Path) -> None:
    """Raise ArdmError unless `path` is an ordinary file."""
    with reasons(f"cannot read {path}"):
        if path.is_dir():
            raise ArdmError(f"{path} is a folder; -r takes the files in it")
        if not path.exists():
            raise ArdmError(f"there is no file {path}")
        if not path.is_file():
            raise ArdmError(f"{path} is not an ordinary file; it can be read through a pipe")


def remove(source: Path, before: os.stat_result) -> None:
    """Delete a source that has not changed since `before`.  Raises ArdmError, and keeps it, if it has, or is a link."""
    with reasons(f"cannot delete {source}"):
        now = source.lstat()
        if stat.S_ISLNK(now.st_mode):
            raise ArdmError(f"{source} is a link; only ordinary files are deleted")
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise ArdmError(f"{source} changed in the meantime, and is kept")
        source.unlink()


@contextmanager
def reasons(failure: str) -> Iterator[None]:
    """Turn an OSError into `ArdmError(failure: reason)`.  BrokenPipeError passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ArdmError(f"{failure}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """The message of an error as the second half of a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]


# --- temporary names and locks ----------------------------------------------------------------------------------------


@contextmanager
def _temporary(folder: Path, ending: str, mode: int | None) -> Iterator[Path]:
    """Make a locked temporary file (mode None: a folder), which is removed when the block ends unless it was renamed."""
    handle, new = None, folder
    try:  # around everything: an interruption may come between any two lines
        while handle is None:  # try again if another process sweeps the file just before it is locked
            new = folder / f".ardm-{secrets.token_hex(8)}{ending}"
            if mode is None:
                new.mkdir()
            else:
                os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            handle = _lock(new)
        yield new
    finally:
        if new != folder:
            _discard(new)
        if handle is not None and handle >= 0:
            os.close(handle)


def _lock(path: Path) -> int | None:
    """A handle that locks a file while it is open; -1 where the system has no locks; None if the file is gone."""
    if sys.platform == "win32":
        return -1
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks: nothing is swept there either
        fcntl.flock(handle, fcntl.LOCK_EX)
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), os.lstat(path)):
            return handle
    os.close(handle)
    return None


def _remove_abandoned(path: str) -> bool:
    """Remove a temporary file or folder of this user that nobody holds; returns whether it did."""
    if sys.platform == "win32":
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_uid != os.geteuid():
            return False
        _discard(Path(path))
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _discard(path: Path) -> None:
    try:
        path.unlink()
    except (IsADirectoryError, PermissionError):  # some systems say the latter of folders
        _discard_folder(path)
    except OSError:
        pass


def _discard_folder(path: Path) -> None:
    """Remove a folder and everything in it, as far as the system allows.

    A loop, not `shutil.rmtree`, which recurses once per level: there may be 2,000 levels.
    """
    emptied: list[str] = []
    left = [os.fspath(path)]
    while left:
        folder = left.pop()
        emptied.append(folder)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                    continue
                with suppress(OSError):
                    os.unlink(entry.path)
    for folder in reversed(emptied):
        with suppress(OSError):
            os.rmdir(folder)


def _place(new: Path, path: Path, force: bool) -> None:
    """Rename a temporary file; without force, a file that appeared in the meantime is not replaced."""
    try:
        if force:
            raise OSError
        os.link(new, path)
    except FileExistsError:
        refuse_target(path, force)
    except OSError:  # forced, or a file system without hard links
        refuse_target(path, force)
        new.replace(path)
    _synchronise_names(path.parent)


# --- synchronising ----------------------------------------------------------------------------------------------------


def _synchronise_names(folder: Path) -> None:
    """Synchronise the names in a folder, so that they too survive a power cut; not every system can."""
    with suppress(OSError):
        _synchronise(folder, os.O_RDONLY)


def _synchronise_all(folder: Path) -> None:
    """Synchronise everything in a folder: with one system call where there is one, else file by file.

    The call cannot be interrupted, so another thread makes it.
    """
    failed: list[OSError] = []

    def work() -> None:
        try:
            if not _synchronise_system(folder):
                _synchronise_each(folder)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]


def _synchronise_system(folder: Path) -> bool:
    """Synchronise the file system that holds a folder, with Linux's `syncfs`; returns whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(handle) == 0:
            return True
        number = ctypes.get_errno()
    except AttributeError:  # a C library without it
        return False
    finally:
        os.close(handle)
    if number in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # forbidden, as in some containers
        return False
    raise OSError(number, os.strerror(number))


def _synchronise_each(folder: Path) -> None:
    left = [folder]
    while left:
        here = left.pop()
        for entry in os.scandir(here):
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                _synchronise(Path(entry.path), os.O_RDWR)
        _synchronise_names(here)


def _synchronise(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_attributes(like: os.stat_result, new: Path) -> None:
    """Copy owner, permissions and times as far as the system allows; never grant more than the source did."""
    mode = stat.S_IMODE(like.st_mode) & 0o777
    with suppress(OSError):
        mine = new.stat()
        if hasattr(os, "chown") and (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
            with suppress(OSError):
                os.chown(new, like.st_uid, -1)
            try:
                os.chown(new, -1, like.st_gid)
            except OSError:  # another group: it gets the permissions that everyone has
                both = mode >> 3 & mode & 0o7
                mode = mode & 0o700 | both << 3 | both
        new.chmod(mode)
        os.utime(new, ns=(like.st_atime_ns, like.st_mtime_ns))
