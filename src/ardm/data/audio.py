"""Sounds of 16 bits, as windows of a fixed number of samples and as whole clips: folders of sound files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ardm.content import Kind, raised, spare_bits
from ardm.data.checks import positive
from ardm.data.dataset import Dataset
from ardm.data.folders import Files, Folder, files_in, survey
from ardm.errors import ArdmError, out_of_memory
from ardm.formats import ENDINGS, FORMATS, MAX_SAMPLES, KeepBytes
from ardm.inputs import PADDING

CLASSES, SILENCE = 1 << 16, 1 << 15
_ENDINGS = tuple(end for format in FORMATS.values() if format.kind == Kind.AUDIO for end in format.endings)


@dataclass(frozen=True)
class Clips:
    """Whole clips of sound, each (L,) int32 in 0..65535: a sample of 16 bits plus 2¹⁵, so that silence is 32768.

    label: a class for each, or empty.  rate: samples per second.  files: for a folder of your own, the files read.
    """

    clips: list[Tensor]
    rate: int
    label: list[int]
    files: Files | None = None


def read_sound(path: Path) -> tuple[Tensor, int]:
    """Read the channels (C, L) int32 in 0..65535 and the rate of a sound file of 16 bits.

    Raises ArdmError, naming the file, if it cannot be read or has other samples.
    """
    try:
        content = FORMATS[ENDINGS[path.suffix.lower()]].read(path.read_bytes(), True, MAX_SAMPLES).content
    except KeepBytes as reason:
        raise ArdmError(f"{path} cannot be read as sound: {reason}") from None
    except OSError as error:
        raise ArdmError(f"cannot read {path}: {error}") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{path} cannot be read as sound: {error}") from error
    if not content.is_16bit:
        raise ArdmError(f"{path} has 8 bits per sample, expected 16: convert it first")
    return torch.from_numpy(content.samples[:, 0].astype("int32")), content.rate


def read_clips(paths: Sequence[Path], rate: int | None) -> tuple[list[Tensor], int]:
    """Read every channel of every file as a clip, and their rate, which must be the given one or that of the first
    file.

    Raises ArdmError, naming the first file that cannot be read or has another rate.
    """
    clips: list[Tensor] = []
    positive(rate=rate)
    for path in paths:
        channels, own = read_sound(path)
        if rate is not None and own != rate:
            reason = f"like {paths[0]}" if clips else "as requested"
            raise ArdmError(f"{path} has {own} samples per second, expected {rate} {reason}: convert it first")
        rate = own
        clips.extend(channels.unbind())
    return clips, rate or 0


def windows(clip: Tensor, length: int, stride: int) -> Tensor:
    """Cut a clip (L,) into windows (n, length) at multiples of `stride`; the last one ends with the clip.

    They cover the clip if stride <= length, and nothing is padded.  A clip shorter than length has none.
    """
    if len(clip) < length:
        return clip.new_empty(0, length)
    some = clip.unfold(0, length, stride)
    return some if (len(clip) - length) % stride == 0 else torch.cat([some, clip[None, -length:]])


def filled(clip: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Cut a clip (L,) into windows (n, length) as `windows`, but with silence behind the clip in the last ones.

    Also returns (n, length) int8, PADDING behind the clip.  At stride = length every sample occurs once.
    """
    count = 1 + max(0, -(-(len(clip) - length) // stride))
    reach = length + stride * (count - 1)
    sound = torch.cat([clip, clip.new_full((reach - len(clip),), SILENCE)])
    behind = (torch.arange(reach, device="cpu") >= len(clip)).to(torch.int8) * PADDING
    return sound.unfold(0, length, stride), behind.unfold(0, length, stride)


def without_spare(clip: Tensor) -> Tensor:
    """A clip (L,) without the low bits that are 0 in every sample, as the codec of sounds codes it."""
    samples = clip.numpy()
    return torch.from_numpy(raised(samples, -spare_bits(samples)).astype("int32"))


def cut(
    whole: Clips,
    name: str,
    length: int,
    stride: int | None,
    training: bool,
    pad: bool = False,
    drop_spare: bool = False,
) -> Dataset:
    """Cut clips into items.  Windows overlap for training; otherwise only the last two of a clip may, unless they are padded."""
    whole = replace(whole, clips=[without_spare(clip) for clip in whole.clips]) if drop_spare else whole
    positive(length=length, stride=stride)
    step = (stride or max(1, length // 4)) if training else length
    both = [filled(clip, length, step) for clip in whole.clips] if pad else []
    parts = [sound for sound, _ in both] if pad else [windows(clip, length, step) for clip in whole.clips]
    items = torch.cat(parts)
    if not len(items):
        longest = max(len(clip) for clip in whole.clips)
        raise ArdmError(f"all {len(parts)} clips of {name} are shorter than length {length}; the longest has {longest}")
    counts = torch.tensor([len(part) for part in parts], device="cpu")
    labels = torch.tensor(whole.label, device="cpu").repeat_interleave(counts) if whole.label else None
    dropped = sum(not len(part) for part in parts)
    given = torch.cat([behind for _, behind in both]) if pad else None
    shifted = not pad and any((len(clip) - length) % step for clip in whole.clips if len(clip) > length)
    channels = whole.files is not None and len(whole.clips) > len(whole.files.used)
    return Dataset(
        items, CLASSES, name, labels, rate=whole.rate, dropped=dropped, files=whole.files, given=given,
        overlapping=step < length or shifted or channels,
    )  # fmt: skip


def sounds(
    folder: Folder,
    split: str | None = None,
    length: int = 2048,
    stride: int | None = None,
    rate: int | None = None,
    pad: bool = False,
    drop_spare: bool = False,
) -> Dataset:
    """A folder of sound files of 16 bits: items (N, length) int32 in 0..65535, silence 32768, no labels.

    folder: searched with its subfolders; every channel of a file is a clip.
    split: "train" or "fit" (90 %), "valid" (5 %) or "test" (5 %), by a stable hash of the relative path as in `images`;
    None takes all.
    length: samples per item.  Clips shorter than that are left out; `dropped` counts them.  pad: they are padded instead, and
    so are the last items of longer ones; what is padding is not predicted (`Dataset.given`).
    stride: distance between items of the training split, by default a quarter of length, so that training holds every
    sample four times.  Items of the other splits are consecutive, the last one of a clip shifted back to its end.
    rate: samples per second that all files must have; None takes that of the first.  Nothing is resampled.
    drop_spare: leave out the low bits that are 0 in every sample of a clip, as the codec of sounds does.
    Raises ArdmError for a missing folder, an empty split, clips that are all too short, and, naming the first such file,
    one that is damaged or has another rate or other bits.
    """
    root = Path(folder).expanduser()
    name = f"{root.resolve().name}/{split or 'all'}"
    return cut(sound_clips(folder, split, rate), name, length, stride, split in ("train", "fit"), pad, drop_spare)


def sound_clips(folder: Folder, split: str | None = None, rate: int | None = None) -> Clips:
    """Read the whole clips of `sounds`."""
    root = Path(folder).expanduser()
    paths = files_in(root, _ENDINGS, "sounds", split)
    clips, own = read_clips(paths, rate)
    return Clips(clips, own, [], survey(root, paths, lambda path: path.suffix.lower() in _ENDINGS, "sounds"))
