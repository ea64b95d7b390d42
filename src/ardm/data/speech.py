"""Spoken digits: the Free Spoken Digit Dataset, and SC09, the digits of Speech Commands."""

from __future__ import annotations

import re
import tarfile
import zlib
from pathlib import Path

import torch

from ardm.data.base import Dataset, Folder, check_sha256, fetch, first_folder, known, splits
from ardm.data.sounds import CLASSES, Clips, cut, read_clips
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
) -> Dataset:
    """The Free Spoken Digit Dataset, 8 kHz: items (N, length) int32 in 0..65535, silence 32768; labels: the digits.

    folder: holds `recordings`, or the repository does in it, or is it: files `{digit}_{speaker}_{take}.wav`.
    split: "test" (takes 0-4, the official 300 clips), "train" (takes 5-49, 2,700), or the parts of train: "fit" (takes
    10-49) and "valid" (takes 5-9).
    length, stride: as in `sounds`; clips have 1,148 to 18,262 samples, and `dropped` counts those shorter than length.
    verify: demand all 50 takes of ten digits by six speakers; False accepts any.
    Raises ArdmError for an unknown split, missing or broken files, clips all too short.
    """
    return cut(fsdd_clips(folder, split, verify), f"fsdd/{split}", length, stride, split in ("train", "fit"))


def fsdd_clips(folder: Folder, split: str | None, verify: bool = True) -> Clips:
    """The whole clips of `fsdd`, sorted by digit, speaker and take."""
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
            f"{home} has {len(keys)} recordings of the split {split!r}, expected {wanted}; get {_FSDD}, or set "
            f"data.verify=false (from Python: verify=False) if it is meant to differ"
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

    One second at 16 kHz; the shorter clips are filled with silence, 32768, at the end, as in the paper.  Training takes
    two gigabytes of memory.
    folder: holds `zero` … `nine`, `validation_list.txt` and `testing_list.txt`, or has them in `speech_commands_v0.02`,
    or holds `speech_commands_v0.02.tar.gz`, of which the digits are then unpacked there.
    split: "train" or "fit" (31,158: what no list names), "valid" (3,643) or "test" (4,107).
    download: fetch the archive (2.4 GB) into folder if the files are not there.
    verify: demand these numbers of clips, and of an archive its published SHA-256; False accepts any.
    length, stride: windows of the clips as they came, as in `sounds`, in the place of whole seconds (0).
    Raises ArdmError for an unknown split, missing or broken files, longer clips, a failed download.
    """
    whole = sc09_clips(folder, split, download, verify)
    if length:
        return cut(whole, f"sc09/{split}", length, stride, split in ("train", "fit"))
    items = torch.full((len(whole.clips), _SECOND), CLASSES // 2, dtype=torch.int32, device="cpu")
    for n, clip in enumerate(whole.clips):
        items[n, : len(clip)] = clip
    return Dataset(items, CLASSES, f"sc09/{split}", torch.tensor(whole.label, device="cpu"), rate=whole.rate)


def sc09_clips(folder: Folder, split: str | None, download: bool = False, verify: bool = True) -> Clips:
    """The clips of `sc09` as they came, of up to 16,000 samples, by digit and name."""
    split = splits("SC09", split, _SC09_COUNTS)
    home = _sc09_home(Path(folder).expanduser(), download, verify)
    listed = {part: set((home / name).read_text().split()) for part, name in _SC09_LISTS.items()}
    keys = [
        (digit, f"{word}/{path.name}")
        for digit, word in enumerate(WORDS)
        for path in sorted((home / word).glob("*.wav"))
    ]
    keys = [
        (digit, key)
        for digit, key in keys
        if (key in listed[split] if split in listed else not any(key in names for names in listed.values()))
    ]
    if not keys or (verify and len(keys) != _SC09_COUNTS[split]):
        raise ArdmError(
            f"{home} has {len(keys)} digits of the split {split!r}, expected {_SC09_COUNTS[split]}; get {_SC09_ARCHIVE} "
            f"(from {_SC09_URL}), or set data.verify=false (from Python: verify=False) if some are meant to lack"
        )
    clips, rate = read_clips([home / key for _, key in keys], _SECOND)
    if len(clips) != len(keys) or max(len(clip) for clip in clips) > _SECOND:
        raise ArdmError(f"{home} holds clips of several channels or more than {_SECOND} samples: not Speech Commands")
    return Clips(clips, rate, [digit for digit, _ in keys])


def _sc09_home(root: Path, download: bool, verify: bool) -> Path:
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
        f"no Speech Commands in {root}: expected {root / lists}, {_SC09_LISTS['valid']} and the folders zero..nine; set "
        f"data.download=true (from Python: download=True), or put {_SC09_ARCHIVE} (from {_SC09_URL}) there"
    )


def _sc09_unpack(archive: Path, home: Path) -> None:
    """Write the digits and, when they are all there, the two lists, by which an unpacked archive is known."""
    lists: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                word, _, file = member.name.removeprefix("./").rpartition("/")
                wanted = (word in WORDS and re.fullmatch(r"\w+\.wav", file)) or (
                    not word and file in _SC09_LISTS.values()
                )
                source = tar.extractfile(member) if wanted and member.isreg() else None
                if source is None:
                    continue
                if member.size > _LARGEST:
                    raise tarfile.TarError(f"{member.name} has {member.size} bytes")
                if not word:
                    lists[file] = source.read()
                    continue
                (home / word).mkdir(parents=True, exist_ok=True)
                (home / word / file).write_bytes(source.read())
        if len(lists) < len(_SC09_LISTS):
            raise tarfile.TarError("it lacks its lists")
        home.mkdir(parents=True, exist_ok=True)
        for file, content in sorted(lists.items(), reverse=True):
            (home / file).write_bytes(content)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ArdmError(f"cannot unpack {archive}: {error}; if it is damaged, delete it and fetch it again") from error
