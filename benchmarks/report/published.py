"""Figures of the literature, with their sources.

DENSITY: mean negative log-likelihood in nats per item on the test sets, of table 4 of Germain et al. 2015 (MADE, ICML) and
table 2 of Uria et al. 2016 (NADE, JMLR 17), written down from memory.  Neither the tables nor a repository that prints them
could be read, so the page calls all of them unconfirmed.  MNIST: each figure with its source, or unconfirmed.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A figure in nats, where it was read ("" if it is from memory), and the orders of the model: one, some or any."""

    nats: float
    source: str = ""
    orders: str = "any"

    @property
    def said(self) -> str:
        """The source, or that there is none."""
        return self.source or "unconfirmed"


DENSITY = {
    "NADE, one fixed order": {
        "adult": 13.19, "connect4": 11.99, "dna": 84.81, "mushrooms": 9.81, "nips": 273.08, "ocr_letters": 27.22,
    },
    "EoNADE, 16 orders": {
        "adult": 13.19, "connect4": 12.58, "dna": 82.31, "mushrooms": 9.69, "nips": 272.39, "ocr_letters": 27.32,
    },
    "MADE, one mask": {
        "adult": 13.12, "connect4": 11.90, "dna": 83.63, "mushrooms": 9.68, "nips": 280.25, "ocr_letters": 28.34,
    },
    "MADE, mask sampling": {
        "adult": 13.13, "connect4": 11.90, "dna": 79.66, "mushrooms": 9.69, "nips": 277.28, "ocr_letters": 30.04,
    },
}  # fmt: skip
ANY_ORDER = ("EoNADE, 16 orders", "MADE, mask sampling")
"""The models of any order, or of many: the ones to compare with."""

SPLITS = (
    "adult, connect4, mushrooms, nips and ocr_letters are split as here; dna has 1,400 items for training and 600 for validation, "
    "here 1,600 and 400"
)
"""Of that literature, by the sizes in two loaders of the sets."""

_NADE = "the authors' script [`deepnade/analyse_orderless_NADE.py`](https://github.com/MarcCote/NADE)"
_NADE_K = "[the authors' README](https://github.com/yaoli/nade_k)"
_LMCONV = "[the authors' README](https://github.com/ajayjain/lmconv)"
_QUOTED = "quoted from the paper by [pytorch-generative](https://github.com/EugenHotaj/pytorch-generative)"
MNIST = {
    "NADE, one fixed order": Published(88.33, _NADE, "one"),
    "EoNADE, 2 layers, 1 order": Published(89.17, _NADE),
    "EoNADE, 1 layer, 128 orders": Published(87.71, _NADE),
    "EoNADE, 2 layers, 128 orders": Published(85.10, _NADE),
    "NADE-k, 2 layers, mean of 10 orders": Published(87.13, _NADE_K),
    "MADE, 1 layer, 32 masks": Published(88.04, _QUOTED, "some"),
    "MADE, 2 layers, 32 masks": Published(86.64, "", "some"),
    "LMConv, 8 scan orders": Published(77.56, _LMCONV, "some"),
}
"""Models of some orders are trained on those few alone, and do not predict in others."""

TEXT = {"any order": 1.43, "any order, 20 calls": 1.51, "causal, any order": 1.64, "absorbing, 1000 steps": 1.45,
        "absorbing, 20 steps": 1.56, "one order": 1.35}  # fmt: skip
"""Paper, table 1: bits per character of text8, in 250 calls unless stated."""
IMAGES = {"any order": 2.69, "50 calls": 2.74, "upscale 4": 2.64, "upscale 4, 4 × 50 calls": 2.68,
          "absorbing, 1000 steps": 4.40}  # fmt: skip
"""Paper, table 2: bits per dimension of CIFAR-10."""
AUDIO = {"one order": 7.77, "any order": 7.93, "upscale 256": 6.36, "upscale 16": 6.30, "upscale 4": 6.29,
         "upscale 4, 8 × 50 calls": 6.32}  # fmt: skip
"""Paper, tables 4 and 7: bits per sample of SC09."""
CODING = {"any order, 500 calls": 2.73, "upscale 4, 500 calls": 2.71, "any order, 100 calls": 2.75,
          "upscale 4, 100 calls": 2.76, "FLIF": 4.19, "IDF++": 3.26}  # fmt: skip
"""Paper, table 3: bits per dimension of single CIFAR-10 images."""
