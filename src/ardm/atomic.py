"""Files that appear whole or not at all: written beside their place, synchronised, checked, and only then named.

Whatever happens before that, an interruption included, leaves nothing behind.  What no program can clean up after, a
kill -9 or a power cut, leaves a file called `.ardm-` and sixteen hex digits beside the target: it is locked for as long
as its writer lives, and `sweep` removes those that nobody holds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import stat
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ardm.errors import ArdmError

if sys.platform != "win32":
    import fcntl

_UNNAMED = re.compile(r"\.ardm-[0-9a-f]{16}(\..{1,15})?", re.DOTALL)


def write_whole(
    path: str | Path,
    write: Callable[[Path], None],
    force: bool = False,
    check: Callable[[Path], None] | None = None,
    like: os.stat_result | None = None,
) -> None:
    """A file that appears whole or not at all: `write` is given another name, `check` may still refuse what it wrote.

    force: replace what is there; a link is replaced itself, never what it leads to.  like: the state of a file whose
    permissions, owner and times are taken over.  Raises ArdmError where there is a file already, or it cannot be written.
    """
    path = Path(path)
    ending = path.suffix if len(os.fsencode(path.suffix)) < 16 else ""
    with reasons(f"cannot write {path}"):
        refuse_target(path, force)
        # what is private stays so while it is being written
        with _unnamed(path.parent, ending, 0o666 if like is None else 0o600) as new:
            write(new)
            _synchronise(new, os.O_RDWR)
            if check is not None:
                check(new)
            if like is not None:
                _take_over(like, new)
            _place(new, path, force)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that gets its name when the block ends without an error; another until then.

    What the block writes into it is synchronised all at once, before the folder is named.
    """
    with reasons(f"cannot write {path}"):
        refuse_target(path, force=False)
        with _unnamed(path.parent, "", None) as new:
            yield new
            _synchronise_all(new)
            refuse_target(path, force=False)
            new.rename(path)
            _settle(path.parent)


def make_folders(path: Path, below: Path) -> None:
    """The folder `path` inside `below`, which is there, and those between.

    `Path.mkdir(parents=True)` and `os.makedirs` call themselves for each step, and names may have 2,000.
    """
    missing = []
    while path != below and not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Naming:
    """What a file system makes of names.

    folds: A is a, or é in one writing is é in the other.  strict: names of devices, `: ? * < > | "` and dots or spaces
    at the end of a step are refused or changed, as on Windows.  longest: of a step, in bytes (strict: UTF-16 units).
    """

    folds: bool = False
    strict: bool = False
    longest: int = 255


WINDOWS = Naming(folds=True, strict=True, longest=240)
"""What every system takes."""
HERE = WINDOWS if sys.platform == "win32" else Naming(folds=sys.platform == "darwin")
"""What this system usually takes; `naming` asks a folder."""


def naming(folder: Path) -> Naming:
    """What the file system of a folder makes of names, found by writing some into it; they are gone afterwards."""
    if sys.platform == "win32":
        return WINDOWS
    with suppress(OSError):  # where nothing can be tried, nothing is trusted
        longest = min(255, os.pathconf(folder, "PC_NAME_MAX"))
        own = f"ardm-{secrets.token_hex(8)}" + "-é" * encodes("é")
        others = {own.upper(), unicodedata.normalize("NFD", own)} - {own}
        folds = any(_takes(folder, own, other) for other in others)
        return Naming(folds, not _takes(folder, f'{own}:?*<>|". ', f'{own}:?*<>|". '), longest)
    return WINDOWS


def encodes(name: str) -> bool:
    """Whether Python can give a name to the system: where that speaks ASCII, it has no é."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _takes(folder: Path, name: str, other: str) -> bool:
    """Whether a file made under a name is there under another, or, if both are the same, keeps it."""
    try:
        (folder / name).touch(exist_ok=False)
    except OSError:
        return False
    try:
        return os.path.lexists(folder / other) if other != name else name in os.listdir(folder)
    finally:
        (folder / name).unlink()


def is_leftover(name: str) -> bool:
    """Whether a file of this name is one that `sweep` takes for half-written."""
    return _UNNAMED.fullmatch(name) is not None


def sweep(folder: Path) -> list[Path]:
    """Remove what killed writers have left in a folder; returns it.  Never fails, and never takes what is being written."""
    swept = []
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            ours = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
            if ours and _UNNAMED.fullmatch(entry.name) and _abandoned(entry.path):
                swept.append(Path(entry.path))
    return swept


def refuse_target(path: Path, force: bool) -> None:
    """ArdmError where nothing can or may be written: no folder, a folder, a device, or a file and no force."""
    if not path.parent.is_dir():
        raise ArdmError(f"there is no folder {path.parent}")
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise ArdmError(f"{path} is a folder; give another name with -o")
    if path.exists() and not path.is_file():
        raise ArdmError(f"{path} is not an ordinary file, and is left alone")
    if not force:
        raise ArdmError(f"{path} exists; give another name with -o, or overwrite it with -f")


def refuse_source(path: Path) -> None:
    """ArdmError for what is no ordinary file, or not there."""
    with reasons(f"cannot read {path}"):
        if path.is_dir():
            raise ArdmError(f"{path} is a folder; -r takes the files in it")
        if not path.exists():
            raise ArdmError(f"there is no file {path}")
        if not path.is_file():
            raise ArdmError(f"{path} is not an ordinary file; it can be read through a pipe")


def remove(source: Path, before: os.stat_result) -> None:
    """Delete a source that is still what was read, and no link.  Raises ArdmError, and leaves it, otherwise."""
    with reasons(f"cannot delete {source}"):
        now = source.lstat()
        if stat.S_ISLNK(now.st_mode):
            raise ArdmError(f"{source} is a link; only ordinary files are deleted")
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise ArdmError(f"{source} was changed meanwhile, and is kept")
        source.unlink()


@contextmanager
def reasons(what: str) -> Iterator[None]:
    """What the system refuses, in one sentence; a pipe that nobody reads any more is no such thing."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ArdmError(f"{what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What an error says, as the second half of a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]


# --- a name that nobody asked for -------------------------------------------------------------------------------------


@contextmanager
def _unnamed(folder: Path, ending: str, mode: int | None) -> Iterator[Path]:
    """A locked new file (mode None: a folder) under a name of its own, gone when the block ends."""
    handle, new = None, folder
    try:  # from before it is there: an interruption may come between any two lines
        while handle is None:  # again, if another process sweeps it in the instant before it is locked
            new = folder / f".ardm-{secrets.token_hex(8)}{ending}"
            if mode is None:
                new.mkdir()
            else:
                os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            handle = _locked(new)
        yield new
    finally:
        if new != folder:
            _discard(new)
        if handle is not None and handle >= 0:
            os.close(handle)


def _locked(path: Path) -> int | None:
    """A handle that locks a file for as long as it is open; -1 where nothing can be locked; None: it is gone."""
    if sys.platform == "win32":
        return -1
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # some file systems lock nothing; then nothing is swept there either
        fcntl.flock(handle, fcntl.LOCK_EX)
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), os.lstat(path)):
            return handle
    os.close(handle)
    return None


def _abandoned(path: str) -> bool:
    """Remove an unnamed file or folder, if nobody holds it."""
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
    except (IsADirectoryError, PermissionError):  # the latter is what some systems say of folders
        _discard_folder(path)
    except OSError:
        pass


def _discard_folder(path: Path) -> None:
    """Remove a folder and all in it, as far as the system lets us.

    Step by step: `shutil.rmtree` calls itself for each level of folders, and there may be 2,000.
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
    """Give a file its name; without force, a file that has appeared meanwhile is not replaced."""
    try:
        if force:
            raise OSError
        os.link(new, path)
    except FileExistsError:
        refuse_target(path, force)
    except OSError:  # forced, or there are no hard links here
        refuse_target(path, force)
        new.replace(path)
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Names, too, should survive a power cut; not every system can promise it."""
    with suppress(OSError):
        _synchronise(folder, os.O_RDONLY)


def _synchronise_all(folder: Path) -> None:
    """Everything in a folder, in one go where the system has a call for it: one wait for the disk, not one a file.

    The call cannot be interrupted, so it is waited for in another thread.
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
    """Whether the whole file system of a folder was synchronised: Linux has a call that waits and tells errors."""
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
    if number in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # not here, as in some containers
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
        _settle(here)


def _synchronise(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_over(like: os.stat_result, new: Path) -> None:
    """Owner, permissions and times, as far as the system lets us; never more permissions than the source gave."""
    mode = stat.S_IMODE(like.st_mode) & 0o777
    with suppress(OSError):
        mine = new.stat()
        if hasattr(os, "chown") and (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
            with suppress(OSError):
                os.chown(new, like.st_uid, -1)
            try:
                os.chown(new, -1, like.st_gid)
            except OSError:  # another group: it may do what everyone may
                both = mode >> 3 & mode & 0o7
                mode = mode & 0o700 | both << 3 | both
        new.chmod(mode)
        os.utime(new, ns=(like.st_atime_ns, like.st_mtime_ns))
