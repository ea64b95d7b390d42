"""CIFAR-10 from its binary version."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ardm.atomic import write_bytes
from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder
from ardm.data.published import Bytes, check_md5, fetch, how_to_get, read_file, unpacking
from ardm.errors import ArdmError

_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = "cifar-10-binary.tar.gz"
_URL = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
_RECORD = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes, row by row
_BYTES = 10_000 * _RECORD
_PICKLES = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")


def cifar10(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Dataset:
    """CIFAR-10 from its binary version: items (N, 3, 32, 32) uint8, 256 classes of value, labels 0..9.

    folder: `cifar-10-batches-bin`, or a folder that holds it or `cifar-10-binary.tar.gz`, which is then unpacked there.
    split: "train" (50,000), "test" (10,000), or the parts of train: "fit" (the first 45,000: batches 1-4 and half of
    batch 5) and "valid" (the last 5,000).
    download: fetch the archive (170 MB) into folder if the files are not there.
    verify: demand the published sizes and MD5s; False accepts cut-down copies with any number of records per file.
    Raises ArdmError for an unknown split, missing or damaged files, pickles instead of binaries, and a failed download.
    """
    files = list(_MD5)
    parts = {"train": files[:5], "fit": files[:5], "valid": files[4:5], "test": files[5:]}
    wanted = parts[known("split of CIFAR-10", split, parts)]
    home = _home(Path(folder).expanduser(), wanted, download)
    records = [_records(home / name, verify) for name in wanted]
    half = len(records[-1]) // 2
    records[-1] = {"fit": records[-1][:half], "valid": records[-1][half:]}.get(str(split), records[-1])
    items = np.concatenate([part[:, 1:] for part in records]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[:, 0] for part in records]).astype(np.int64)
    return Dataset(torch.from_numpy(items), 256, f"cifar10/{split}", torch.from_numpy(labels), shuffled=True)


def _home(folder: Path, wanted: Sequence[str], download: bool) -> Path:
    """The folder of the wanted files, downloaded and unpacked first if necessary."""
    home = folder / _FOLDER
    for place in (home, folder):
        if all((place / name).is_file() for name in wanted):
            return place
    if download:
        fetch(_URL + _ARCHIVE, _ARCHIVE_MD5, folder)
    if (folder / _ARCHIVE).is_file():
        _unpack(folder / _ARCHIVE, home)
        return home
    get = how_to_get(_ARCHIVE, _URL, folder)
    for pickled in _PICKLES:
        if (folder / pickled).exists():
            raise ArdmError(
                f"{folder / pickled} is the Python version of CIFAR-10: pickles, which can run any code, are never "
                f"loaded; the binary version holds the same images: {get}"
            )
    lost = next(name for name in wanted if not (home / name).is_file())
    raise ArdmError(f"no CIFAR-10 in {folder}: expected {home / lost}; {get}")


def _unpack(archive: Path, home: Path) -> None:
    """Write the six .bin files of the archive into home, and nothing else."""
    missing = {f"{_FOLDER}/{name}": home / name for name in _MD5 if not (home / name).is_file()}
    with unpacking(archive, "unpack"):
        home.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                target = missing.pop(member.name.removeprefix("./"), None)
                if target is not None:
                    _unpack_one(tar, member, target)
                if not missing:
                    return
    raise ArdmError(f"{archive} is not the binary version of CIFAR-10: it lacks {next(iter(missing))}")


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member) if member.isreg() else None
    if source is None or member.size > _BYTES:
        raise tarfile.TarError(f"{member.name} is not a file of at most {_BYTES} bytes")
    write_bytes(target, source.read(), force=True)  # another process never sees half a file


def _records(path: Path, verify: bool) -> Bytes:
    """The records of one file: (n, 3073)."""
    data = read_file(path, _BYTES)
    if len(data) % _RECORD or not data or (verify and len(data) != _BYTES):
        want = f"{_BYTES}" if verify else f"a multiple of {_RECORD}"
        raise ArdmError(f"{path} has {len(data)} bytes, expected {want}; delete it and fetch it again")
    if verify:
        check_md5(path, data, _MD5[path.name])
    records: Bytes = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise ArdmError(f"{path} holds label {records[:, 0].max()}, expected 0..9: not a file of CIFAR-10")
    return records
