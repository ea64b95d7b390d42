"""Published files: found, downloaded, unpacked and checked; and what to do where one is missing."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ardm.errors import ArdmError

Bytes: TypeAlias = npt.NDArray[np.uint8]
ACCEPT = "set data.verify=false (from Python: verify=False) to accept it as it is"
"""Advice for files that are cut down on purpose."""


def how_to_get(name: str, url: str, folder: Path) -> str:
    """Advice where a published file is missing."""
    return f"set data.download=true (from Python: download=True), or put {name} (from {url}) into {folder}"


def fetch(url: str, md5: str | None, folder: Path) -> None:
    """Download a file into a folder, unless it is there, and check it.

    md5: its checksum; "sha256:…" for another kind; None if none is published, so that the caller must check the content.
    """
    import pooch

    try:
        known_hash = md5 if md5 is None or ":" in md5 else f"md5:{md5}"
        pooch.retrieve(url, known_hash=known_hash, fname=url.rsplit("/", 1)[1], path=folder)
    except (OSError, ValueError) as error:  # requests raises OSErrors, and a wrong checksum is a ValueError
        raise ArdmError(f"cannot download {url}: {error}; fetch it by other means and put it into {folder}") from error


def first_folder(root: Path, inside: Sequence[str], holds: str) -> Path | None:
    """The first of root and the given folders inside it that holds a file or folder of a name."""
    folders = [root, *(root / name for name in inside)]
    return next((folder for folder in folders if (folder / holds).exists()), None)


@contextmanager
def unpacking(path: Path, action: str = "read") -> Iterator[None]:
    """Turn every exception that an archive reader raises on a damaged file into an ArdmError that names the file."""
    try:
        yield
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error, zipfile.BadZipFile) as error:
        raise ArdmError(_damaged(action, path, error)) from error
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: unknown compression, an encrypted member
        raise ArdmError(_damaged(action, path, error)) from error


def _damaged(action: str, path: Path, error: Exception) -> str:
    return f"cannot {action} {path}: {error}; if it is damaged, delete it and fetch it again"


def read_file(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes, and gunzip it if its name ends in .gz."""
    with unpacking(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ArdmError(f"{path} holds more than {most} bytes: not the published file")
    return data


def check_md5(path: Path, data: bytes | Bytes, expected: str) -> None:
    """Raise ArdmError unless the bytes, read from a path, are the published ones."""
    content = data if isinstance(data, bytes) else data.data
    _same(path, "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest(), expected)


def check_sha256(path: Path, expected: str) -> None:
    """Raise ArdmError unless a file, which is read piece by piece, is the published one."""
    import pooch

    try:
        found = pooch.file_hash(str(path))
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error}") from error
    _same(path, "SHA-256", found, expected)


def _same(path: Path, kind: str, found: str, expected: str) -> None:
    if found != expected:
        raise ArdmError(
            f"{path} is not the published file: {kind} {found}, expected {expected}; delete it and fetch it again, "
            f"or {ACCEPT}"
        )
