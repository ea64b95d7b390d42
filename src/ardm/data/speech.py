"""Spoken digits: the Free Spoken Digit Dataset, and SC09, the digits of Speech Commands."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ardm.data.audio import CLASSES, Clips, cut, read_clips
from ardm.data.checks import known
from ardm.data.dataset import Dataset
from ardm.data.folders import Folder, splits
from ardm.data.published import ACCEPT, check_sha256, fetch, first_folder, how_to_get, unpacking
from ardm.errors import ArdmError

_FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_FSDD_FILE = re.compile(r"(\d)_([^_/]+)_(\d+)\.wav")
_FSDD_TAKES = {"train": range(5, 50), "fit": range(10, 50), "valid": range(5, 10), "test": range(5)}
_FSDD_SPEAKERS, _DIGITS = 6, 10


def fsdd(
    folder: Folder,
    split: str | None,
    length: int = 2048,
    stride: int | None = None,
    verify: bool = True,
    pad: bool = False,
    drop_spare: bool = False,
) -> Dataset:
    """The Free Spoken Digit Dataset, 8 kHz: items (N, length) int32 in 0..65535, silence 32768; labels: the digits.

    folder: `recordings` with files `{digit}_{speaker}_{take}.wav`, or a folder that holds it or the repository.
    split: "test" (takes 0-4, the official 300 clips), "train" (takes 5-49, 2,700), or the parts of train: "fit" (takes
    10-49) and "valid" (takes 5-9).
    length, stride, pad, drop_spare: as in `sounds`; clips have 1,148 to 18,262 samples, and `dropped` counts those shorter than length.
    verify: demand all 50 takes of ten digits by six speakers; False accepts any.
    Raises ArdmError for an unknown split, missing or damaged files, and clips that are all too short.
    """
    training = split in ("train", "fit")
    return cut(fsdd_clips(folder, split, verify), f"fsdd/{split}", length, stride, training, pad, drop_spare)


def fsdd_clips(folder: Folder, split: str | None, verify: bool = True) -> Clips:
    """Read the whole clips of `fsdd`, sorted by digit, speaker and take."""
    takes = _FSDD_TAKES[known("split of FSDD", split, _FSDD_TAKES)]
    root = Path(folder).expanduser()
    home = first_folder(root, ("free-spoken-digit-dataset", "free-spoken-digit-dataset-master"), "recordings")
    home = home / "recordings" if home else root
    found = [match for path in home.glob("*.wav") if (match := _FSDD_FILE.fullmatch(path.name))]
    keys = sorted((int(m[1]), m[2], int(m[3]), m[0]) for m in found if int(m[3]) in takes)
    wanted = _DIGITS * _FSDD_SPEAKERS * len(takes)
    if not keys:
        raise ArdmError(f"no recordings of FSDD in {home}: expected files such as 7_jackson_32.wav; get {_FSDD}")
    if verify and len(keys) != wanted:
        raise ArdmError(
            f"{home} has {len(keys)} recordings of the split {split!r}, expected {wanted}; get {_FSDD}, or {ACCEPT}"
        )
    clips, rate = read_clips([home / key[3] for key in keys], 8000)
    if len(clips) != len(keys):
        raise ArdmError(f"{home} holds recordings of more than one channel: not those of FSDD")
    return Clips(clips, rate, [key[0] for key in keys])


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SC09_COUNTS = {"train": 31_158, "valid": 3_643, "test": 4_107}
_SC09_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
_SC09_URL = "http://download.tensorflow.org/data/"
_SC09_ARCHIVE = "speech_commands_v0.02.tar.gz"
_SC09_SHA = "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
_SC09_FOLDERS = ("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
_SECOND = 16_000
_LARGEST = 1 << 23  # the lists have half a million bytes, the sounds 32,044


def sc09(
    folder: Folder,
    split: str | None,
    download: bool = False,
    verify: bool = True,
    length: int = 0,
    stride: int | None = None,
) -> Dataset:
    """SC09, the digits of Speech Commands v0.02: items (N, 16000) int32 in 0..65535; labels: the digits.

    One second at 16 kHz; shorter clips are padded with silence (32768) at the end, as in the paper.  Training takes two
    gigabytes of memory.
    folder: holds `zero` … `nine`, `validation_list.txt` and `testing_list.txt`, directly or in `speech_commands_v0.02`;
    or holds `speech_commands_v0.02.tar.gz`, whose digits are then unpacked there.
    split: "train" or "fit" (31,158: those in neither list), "valid" (3,643) or "test" (4,107).
    download: fetch the archive (2.4 GB) into folder if the files are not there.
    verify: demand these numbers of clips, and the published SHA-256 of an archive; False accepts any.
    length, stride: cut the clips into windows as in `sounds`; 0 takes whole seconds.
    Raises ArdmError for an unknown split, missing or damaged files, longer clips, and a failed download.
    """
    whole = sc09_clips(folder, split, download, verify)
    if length:
        return cut(whole, f"sc09/{split}", length, stride, split in ("train", "fit"))
    items = torch.full((len(whole.clips), _SECOND), CLASSES // 2, dtype=torch.int32, device="cpu")
    for n, clip in enumerate(whole.clips):
        items[n, : len(clip)] = clip
    return Dataset(items, CLASSES, f"sc09/{split}", torch.tensor(whole.label, device="cpu"), rate=whole.rate)


def sc09_clips(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Clips:
    """Read the whole clips of `sc09`, of up to 16,000 samples, sorted by digit and name."""
    split = splits("SC09", split, _SC09_COUNTS)
    home = _sc09_home(Path(folder).expanduser(), download, verify)
    keys = _sc09_keys(home, split)
    if not keys or (verify and len(keys) != _SC09_COUNTS[split]):
        raise ArdmError(
            f"{home} has {len(keys)} digits of the split {split!r}, expected {_SC09_COUNTS[split]}; get {_SC09_ARCHIVE} "
            f"(from {_SC09_URL}), or {ACCEPT}"
        )
    clips, rate = read_clips([home / key for _, key in keys], _SECOND)
    if len(clips) != len(keys) or max(len(clip) for clip in clips) > _SECOND:
        raise ArdmError(f"{home} holds clips of several channels or more than {_SECOND} samples: not Speech Commands")
    return Clips(clips, rate, [digit for digit, _ in keys])


def _sc09_keys(home: Path, split: str) -> list[tuple[int, str]]:
    """(digit, word/file) of the clips of a split; those in neither list are for training."""
    listed = {part: set((home / name).read_text().split()) for part, name in _SC09_LISTS.items()}
    keys = [
        (digit, f"{word}/{path.name}")
        for digit, word in enumerate(WORDS)
        for path in sorted((home / word).glob("*.wav"))
    ]
    if split in listed:
        return [(digit, key) for digit, key in keys if key in listed[split]]
    named = set().union(*listed.values())
    return [(digit, key) for digit, key in keys if key not in named]


def _sc09_home(root: Path, download: bool, verify: bool) -> Path:
    """The folder of the clips, downloaded and unpacked first if necessary."""
    lists = _SC09_LISTS["test"]
    home = first_folder(root, _SC09_FOLDERS, lists)
    if home is not None and (home / _SC09_LISTS["valid"]).is_file():
        return home
    if download:
        fetch(_SC09_URL + _SC09_ARCHIVE, _SC09_SHA, root)
    if (root / _SC09_ARCHIVE).is_file():
        if verify and not download:
            check_sha256(root / _SC09_ARCHIVE, _SC09_SHA.removeprefix("sha256:"))
        _sc09_unpack(root / _SC09_ARCHIVE, root / _SC09_FOLDERS[0])
        return root / _SC09_FOLDERS[0]
    raise ArdmError(
        f"no Speech Commands in {root}: expected {root / lists}, {_SC09_LISTS['valid']} and the folders zero..nine; "
        f"{how_to_get(_SC09_ARCHIVE, _SC09_URL, root)}"
    )


def _sc09_unpack(archive: Path, home: Path) -> None:
    """Write the digits, and last the two lists, which mark the folder as complete."""
    lists: dict[str, bytes] = {}
    with unpacking(archive, "unpack"):
        with tarfile.open(archive, "r|gz") as tar:
            for word, file, content in _sc09_members(tar):
                if word:
                    (home / word).mkdir(parents=True, exist_ok=True)
                    (home / word / file).write_bytes(content)
                else:
                    lists[file] = content
        if len(lists) < len(_SC09_LISTS):
            raise tarfile.TarError("it lacks its lists")
        home.mkdir(parents=True, exist_ok=True)
        for file, content in sorted(lists.items(), reverse=True):
            (home / file).write_bytes(content)


def _sc09_members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """(word, file, content) of the sounds of digits, and of the lists, whose word is empty."""
    for member in tar:
        word, _, file = member.name.removeprefix("./").rpartition("/")
        wanted = re.fullmatch(r"\w+\.wav", file) if word in WORDS else not word and file in _SC09_LISTS.values()
        source = tar.extractfile(member) if wanted and member.isreg() else None
        if source is None:
            continue
        if member.size > _LARGEST:
            raise tarfile.TarError(f"{member.name} has {member.size} bytes")
        yield word, file, source.read()
