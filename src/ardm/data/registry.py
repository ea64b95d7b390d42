"""Data sets by name, with the options that each takes, and those that a recipe names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from ardm.data.audio import Clips, sound_clips, sounds
from ardm.data.binary import density
from ardm.data.checks import known
from ardm.data.cifar import cifar10
from ardm.data.dataset import Dataset
from ardm.data.drawings import omniglot
from ardm.data.folders import Folder
from ardm.data.image_folder import images
from ardm.data.memory import MEMORY
from ardm.data.mixed import grey_pictures, pictures
from ardm.data.mnists import binarized_mnist, fashion_mnist, mnist
from ardm.data.npy import arrays
from ardm.data.speech import fsdd, fsdd_clips, sc09, sc09_clips
from ardm.data.tables import table
from ardm.data.texts import enwik8, text, text8
from ardm.errors import ArdmError
from ardm.schema import Schema
from ardm.symbols import Symbols

READERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "binarized_mnist": binarized_mnist,
    "omniglot": omniglot,
    "images": images,
    "pictures": pictures,
    "grey": grey_pictures,
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
"""Every data set by name: a function of folder, split and options."""
CLIPS: dict[str, Callable[..., Clips]] = {"fsdd": fsdd_clips, "sc09": sc09_clips, "sounds": sound_clips}
"""The same for whole clips of sound."""
UNSET: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("length", "stride", "alphabet", "set", "rate", "binarize"), (None, 0, "")),
    **dict.fromkeys(("size", "channels", "classes"), (None, 0, "")),
    **dict.fromkeys(("drop", "suffixes"), (None, ())),
    "each": (None, ""),
    **dict.fromkeys(("pad", "drop_spare"), (None, False)),
    "bins": (None, 0),
    "fit": (None, ""),
    "header": (None,),
    "verify": (None, True),
    "pixels": (None, ()),
    "photos": (None, ""),
    "crops": (None, 0),
    "reduce": (None, ()),
    **dict.fromkeys(("grey", "synthetic"), (None,)),
}
"""Settings of a recipe that are options of some data sets, and the values that leave them at their defaults."""


WITH_FIT = ("cifar10", "mnist", "fashion_mnist", "fsdd", "pictures", "grey")
"""Data sets whose split "train" holds "valid" too, and "fit" the rest of it; for the others "fit" is "train"."""


def share_items(name: str, one: str | None, two: str | None) -> bool:
    """Whether two splits of a data set have items in common."""
    mine, theirs = (_parts(name, split) for split in (one, two))
    return "all" in mine | theirs or bool(mine & theirs)


def _parts(name: str, split: str | None) -> set[str]:
    """The parts that a split is made of."""
    if split == "train" and name in WITH_FIT:
        return {"fit", "valid"}
    return {"train" if split == "fit" and name not in WITH_FIT else split or "all"}


class DataSource(Protocol):
    """Where items come from, in the form of `DataConfig`; it may also have any of the options."""

    @property
    def name(self) -> str:
        """The name of the data set."""

    @property
    def folder(self) -> str:
        """The folder of its files."""

    @property
    def train(self) -> str:
        """The split to train on."""

    @property
    def download(self) -> bool:
        """Whether to download it."""


def load(name: str, folder: Folder, split: str | None = None, download: bool = False, **options: Any) -> Dataset:
    """Load a data set by name: "cifar10", "mnist", "text8", "images", "sounds", "table", …

    folder, split, download and the options are those of the function of that name (of `arrays` for "array").
    Raises ArdmError for an unknown name or option, suggesting the nearest, and whatever that function raises.
    """
    return _call(READERS[known("data set", name, READERS)], name, folder, split, download, options)


def clips(name: str, folder: Folder, split: str | None = None, download: bool = False, **options: Any) -> Clips:
    """Load the whole clips, of all their lengths, of a data set of sounds: "fsdd", "sc09" or "sounds".

    As `load`, but without length and stride.
    """
    return _call(CLIPS[known("data set of sounds", name, CLIPS)], name, folder, split, download, options)


def _call(
    reader: Callable[..., Any], name: str, folder: Folder, split: str | None, download: bool, options: dict
) -> Any:
    if download:
        options["download"] = True
    for option in options:
        known(f"option of {name!r}", option, _options(reader))
    return reader(folder, split, **options)


def _options(reader: Callable[..., Any]) -> list[str]:
    """The parameters of a reader after folder and split."""
    return list(inspect.signature(reader).parameters)[2:]


def of_config(
    config: DataSource,
    split: str | None,
    symbols: Symbols | None = None,
    schema: Schema | None = None,
    training: bool = False,
) -> Dataset:
    """Load a split of the data set that a recipe names, with the options that it sets.

    symbols, schema: of a text and of a table, those of the training set or of a model, in place of their own.
    split: a name; "all" or None takes all items of your own folder or file.
    training: whether to train on the items.  With binarize "dynamic" they are then grey, and sampled again for each batch;
    to measure or calibrate on them they are the "stochastic" sample, as those of any other split.
    An option that is 0, empty or None, and verify = True, mean the data set's default.
    Raises ArdmError for an option that the data set does not have, and whatever `load` raises.
    """
    if config.name == MEMORY:
        raise ArdmError(
            "these data were in memory (ardm.fit): name a data set in files, such as data.name=array data.folder=FILE.npy, "
            "or resume the run by the same call of ardm.fit"
        )
    takes = _options(READERS[known("data set", config.name, READERS)])
    options = {key: value for key in UNSET if (value := getattr(config, key, None)) not in UNSET[key]}
    for key in options:
        if key not in takes:
            which = ", ".join(key for key in UNSET if key in takes) or "none"
            raise ArdmError(f"data.{key} is set, but {config.name!r} has no such option; a recipe can set {which}")
    options |= {k: v for k, v in (("symbols", symbols), ("schema", schema)) if v is not None and k in takes}
    if options.get("binarize") == "dynamic" and not training:
        options["binarize"] = "stochastic"
    return load(config.name, config.folder, None if split == "all" else split, config.download, **options)
