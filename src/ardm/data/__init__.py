"""Data sets as integer tensors: images, text, sounds and tables, in published layouts or as folders of your own.

A data set is N items of one shape, every value in 0..K−1: what the paper's models are defined on (section 2).  Images
are (N, C, H, W); items of texts, sounds and tables (N, D).

    images   cifar10  mnist  fashion_mnist  binarized_mnist  omniglot  images (a folder)
             pictures (CIFAR-10, crops of photographs, grey and synthetic ones: for codecs)
             grey (MNIST, crops of photographs in grey, synthetic ones: for codecs)
    text     text8    enwik8  text (a file or folder)
    sound    fsdd     sc09   sounds (a folder of WAV, FLAC, AIFF)
    tables   density (the binary density-estimation sets)  table (CSV)     array (any .npy)

`load` reads one of them by name, `of_config` the one that a recipe names; `batches` and `augment` prepare it for
training.

Read me first:
* Published files are read in their published layout, and checked by size and MD5 where those are known, so that a number
  measured here is measured on the same data as elsewhere.  Pickles are never loaded.  `verify=False` accepts cut-down
  copies.
* Where no validation set is published, "fit" and "valid" are the two parts of "train" (45,000 + 5,000 for CIFAR-10,
  50,000 + 10,000 for the MNISTs); elsewhere "fit" is "train".  Choose with them, and keep "test" for the final
  measurement.
* Batch n of a run is a function of (items, batch, seed, n) alone: a resumed run gets the same batches as an unbroken
one.
"""

from ardm.data.audio import Clips, sounds, windows
from ardm.data.batching import augment, batches
from ardm.data.binary import density
from ardm.data.cifar import cifar10
from ardm.data.dataset import Dataset
from ardm.data.drawings import omniglot
from ardm.data.image_folder import images
from ardm.data.memory import padded
from ardm.data.mixed import grey_pictures, pictures
from ardm.data.mnists import binarize, binarized_mnist, fashion_mnist, mnist
from ardm.data.npy import arrays
from ardm.data.registry import DataSource, clips, load, of_config, share_items
from ardm.data.speech import fsdd, sc09
from ardm.data.tables import table
from ardm.data.texts import enwik8, text, text8

__all__ = [
    "Clips",
    "DataSource",
    "Dataset",
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
    "grey_pictures",
    "images",
    "load",
    "mnist",
    "of_config",
    "omniglot",
    "padded",
    "pictures",
    "sc09",
    "share_items",
    "sounds",
    "table",
    "text",
    "text8",
    "windows",
]
