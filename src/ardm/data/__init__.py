"""Data sets as integer tensors: images, text, sounds and tables, in published layouts or as folders of your own.

A data set is N items of one shape, every value in 0..K−1: what the paper's models are defined on (section 2).  Images
are (N, C, H, W); items of texts, sounds and tables (N, D).  `batches` and `augment` turn one into what a training run
reads.

    images   cifar10  mnist  fashion_mnist  binarized_mnist  omniglot  images (a folder)
    text     text8    enwik8  text (a file or folder)
    sound    fsdd     sc09   sounds (a folder of WAV and FLAC)
    tables   density (the binary density-estimation sets)  table (CSV)     array (any .npy)

Read me first:
* Published files are read in their published layout and checked by size and MD5 where those are known, so that a number
  measured here is measured on the same data as everybody's; pickles are never loaded.  `verify=False` accepts cut-down
  copies.
* "fit" and "valid" are the two parts of "train" where no validation set is published (45,000 + 5,000 of CIFAR-10,
  50,000 + 10,000 of the MNISTs); elsewhere "fit" is "train".  Choose with them, and leave "test" for the final
  measurement.
* Batch n of a run is a function of (items, batch, seed, n) alone: a resumed run sees what an unbroken one would have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from ardm.data.base import Dataset, Folder, known
from ardm.data.bits import density
from ardm.data.chars import enwik8, text, text8
from ardm.data.cifar import cifar10
from ardm.data.drawings import omniglot
from ardm.data.folders import images
from ardm.data.idx import binarize, binarized_mnist, fashion_mnist, mnist
from ardm.data.npy import arrays
from ardm.data.sounds import Clips, sound_clips, sounds, windows
from ardm.data.speech import fsdd, fsdd_clips, sc09, sc09_clips
from ardm.data.stream import augment, batches
from ardm.data.tables import table
from ardm.errors import ArdmError

__all__ = [
    "Clips",
    "Dataset",
    "Source",
    "arrays",
    "augment",
    "batches",
    "binarize",
    "binarized_mnist",
    "cifar10",
    "clips",
    "density",
    "enwik8",
    "fashion_mnist",
    "fsdd",
    "images",
    "load",
    "mnist",
    "of_config",
    "omniglot",
    "sc09",
    "sounds",
    "table",
    "text",
    "text8",
    "windows",
]

_READERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "binarized_mnist": binarized_mnist,
    "omniglot": omniglot,
    "images": images,
    "text8": text8,
    "enwik8": enwik8,
    "text": text,
    "fsdd": fsdd,
    "sc09": sc09,
    "sounds": sounds,
    "density": density,
    "table": table,
    "array": arrays,
}
_CLIPS: dict[str, Callable[..., Clips]] = {"fsdd": fsdd_clips, "sc09": sc09_clips, "sounds": sound_clips}
OPTIONS = (
    "length",
    "stride",
    "alphabet",
    "set",
    "rate",
    "binarize",
    "size",
    "channels",
    "classes",
    "header",
    "verify",
    "pixels",
)
"""Settings of a recipe that are options of some of the readers."""
_UNSET: dict[str, tuple[Any, ...]] = dict.fromkeys(OPTIONS, (None, 0, ""))
_UNSET |= {"header": (None,), "verify": (None, True), "pixels": (None, ())}


def load(name: str, folder: Folder, split: str | None = None, download: bool = False, **options: Any) -> Dataset:
    """A data set by its name: "cifar10", "mnist", "text8", "images", "sounds", "table" or another of those above.

    folder, split, download and the options are those of the function of that name (of `arrays` for "array").
    Raises ArdmError for an unknown name or option, suggesting the nearest, and whatever that function raises.
    """
    return _call(_READERS[known("data set", name, _READERS)], name, folder, split, download, options)


def clips(name: str, folder: Folder, split: str | None = None, download: bool = False, **options: Any) -> Clips:
    """The whole clips, of all their lengths, of a data set of sounds: "fsdd", "sc09" or "sounds".

    Everything as in `load`, but that there are no length and no stride.
    """
    return _call(_CLIPS[known("data set of sounds", name, _CLIPS)], name, folder, split, download, options)


def _call(
    reader: Callable[..., Any], name: str, folder: Folder, split: str | None, download: bool, options: dict
) -> Any:
    if download:
        options["download"] = True
    takes = list(inspect.signature(reader).parameters)[2:]
    for option in options:
        known(f"option of {name!r}", option, takes)
    return reader(folder, split, **options)


class Source(Protocol):
    """Where items come from, as `DataConfig` says it; it may have any of OPTIONS too."""

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def folder(self) -> str:
        """Where it lies."""

    @property
    def train(self) -> str:
        """The split to train on."""

    @property
    def download(self) -> bool:
        """Whether to fetch it."""


def of_config(config: Source, split: str | None) -> Dataset:
    """The split of a data set that a recipe names, with the options that it sets.

    split: a name; "all" or None takes all items of a folder or file of your own.
    An option that is 0, empty, None, or the default True of verify, is the reader's own.  With binarize "dynamic" only
    the training split is grey, to be drawn anew for each batch; the others are the "stochastic" sample.
    Raises ArdmError for an option that the data set has not, and whatever `load` raises.
    """
    reader = _READERS[known("data set", config.name, _READERS)]
    takes = list(inspect.signature(reader).parameters)[2:]
    options = {key: value for key in OPTIONS if (value := getattr(config, key, None)) not in _UNSET[key]}
    for key in options:
        if key not in takes:
            which = ", ".join(key for key in OPTIONS if key in takes) or "none"
            raise ArdmError(
                f"data.{key} is set, but {config.name!r} has no such option; of a recipe's it takes {which}"
            )
    if options.get("binarize") == "dynamic" and split != config.train:
        options["binarize"] = "stochastic"
    return load(config.name, config.folder, None if split == "all" else split, config.download, **options)
