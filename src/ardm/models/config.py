"""The settings of a model, and presets by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import Any

from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.nets.counts import WIDTH
from ardm.settings import nearest


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the parameters of a model.

    Each trunk reads some of these settings; `build` refuses the others unless they have their defaults.

    All trunks:
    shape: of one item: images (C, H, W), sequences and tables (D,); () takes shape, classes and columns from the data.
    classes: K.  base: b, for depth upscaling; 0: b = K, the order-agnostic ARDM.
    head: a name in `build.HEADS`: "values" (softmax over K, data parametrisation), "digits" (softmax over b a stage, direct
    parametrisation), "mixture" (of `components` discretised logistics), "laplace" (the same of Laplace distributions) or
    "chain" (for whole values of very many classes: a softmax of the high half, then one of the low half given it).
    trunk: for images "unet" (the paper's), "centred" (a plain U-Net around the known neighbours' mean; any size) or
    "wavefront" (causal; any size); for text "transformer" or "recurrent"; for sound
    "wavenet" or "lattice"; for tables "mlp" or "transformer".
    width.  blocks: the number of blocks or layers.

    Several trunks:
    dropout.  labels: number of class labels (0: unconditional).  vector: width of a conditioning vector (0: none).
    time: also feed the number of known digits (redundant; the paper does).
    rates: learn a rate for each site, which makes some orders more likely than others; any-order models of one shape.
    style: "modern" (RMSNorm, gated swish perceptron, no biases; a WaveNet also gets the mean of the known neighbours) or
    "classic" (as in the paper: LayerNorm, GELU; plain values for a WaveNet; the paper's inputs and C·K outputs for a U-Net).
    embedding: width of a learnt embedding of values, where unknown values have their own row.  0: none; width // 4 in a
    WaveNet (of base at most 256, or classic) and in a classic U-Net; 16 in a table or a recurrent network.
    hidden: width inside a perceptron (0: 4 · width; modern 8/3 · width, rounded up to a multiple of 8).
    columns: the number of classes of each column of a table (none: K for all); impossible values get probability 0.
    causal: "" (any order, both sides), "single" (raster order only), "any" (causal over permuted items, as XLNet) or "wave"
    (along wavefronts only; of a sequence, from left to right).
    end: of sequences, whether the last class ends an item and fills what is behind it: see `models.ending`.
    reach: symbols before a place that a recurrent network embeds (1).

    centred: levels, growth (how many times as wide the levels below the first are), hidden (0: 2 · width), rounded (round the neighbours' mean to an eighth of a
    level, as an exported model does).
    unet: levels, growth (of the width from one level to the next), attention ("none", "middle" or "all").
    wavefront: hidden (0: width), cycle (of a sequence: block i has dilation 2^(i mod cycle)).
    transformer: heads (0: width // 64, at least 1), positions ("rotary", "learned" or "sinusoidal").
    wavenet: kernel, cycle (block i has dilation 2^(i mod cycle)).
    recurrent: hidden (of the states; 0: width), hashes (numbers of symbols of contexts, each hashed to a row of a table of
    its own), bits (log2 of the rows of each table), row (width of a row), counts (numbers of symbols of contexts of
    which the training texts are counted beforehand), count_bits (log2 of the rows of each table of counts).
    mlp: direct (sparse connections from every value to every output, beside the perceptron).
    """

    shape: tuple[int, ...] = (3, 32, 32)
    classes: int = 256
    base: int = 0
    head: str = "mixture"
    components: int = 5
    trunk: str = "unet"
    width: int = 64
    blocks: int = 4
    levels: int = 1
    growth: int = 1
    attention: str = "none"
    dropout: float = 0.0
    embedding: int = 0
    labels: int = 0
    vector: int = 0
    time: bool = False
    rates: bool = False
    rounded: bool = True
    heads: int = 0
    hidden: int = 0
    positions: str = "rotary"
    style: str = "modern"
    cycle: int = 10
    kernel: int = 3
    direct: bool = False
    columns: tuple[int, ...] = ()
    causal: str = ""
    reach: tuple[int, ...] = ()
    hashes: tuple[int, ...] = ()
    bits: int = 16
    row: int = 16
    counts: tuple[int, ...] = ()
    count_bits: int = 14
    end: bool = False

    @property
    def digits(self) -> Digits:
        """The alphabet."""
        return Digits(self.classes, self.base or self.classes)

    @property
    def sites(self) -> int:
        """D, the number of sites of an item."""
        return prod(self.shape)

    @property
    def limits(self) -> tuple[int, ...]:
        """The number of classes of every site: `columns`, or K for all."""
        return self.columns or (self.classes,) * self.sites

    @property
    def modern(self) -> bool:
        """Whether the style is modern."""
        return self.style == "modern"

    @property
    def is_paper_unet(self) -> bool:
        """Whether it is the paper's U-Net, with its inputs and C·K outputs."""
        return self.trunk == "unet" and not self.modern

    @property
    def attention_heads(self) -> int:
        """The number of heads of a Transformer."""
        return self.heads or max(1, self.width // 64)

    @property
    def features(self) -> int:
        """The width of the features that the head reads."""
        if self.trunk == "recurrent" and self.counts:
            return self.width + WIDTH
        return self.hidden or 2 * self.width if self.trunk == "centred" else self.width

    @property
    def inner_width(self) -> int:
        """The width inside perceptrons."""
        if self.hidden:
            return self.hidden
        return -(-self.width * 8 // 24) * 8 if self.modern else 4 * self.width

    def changed(self) -> list[str]:
        """The settings that differ from their defaults."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]


_WAVE: dict[str, Any] = {"trunk": "wavefront", "causal": "wave", "components": 10}
_TEXT: dict[str, Any] = {"shape": (), "trunk": "transformer", "head": "values"}
_SOUND: dict[str, Any] = {"shape": (), "trunk": "wavenet", "head": "mixture", "components": 10}
_TABLE: dict[str, Any] = {"shape": (), "trunk": "mlp", "head": "values"}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"trunk": "unet", "width": 32, "blocks": 2, "levels": 1, "attention": "none"},
    "small": {"trunk": "unet", "width": 64, "blocks": 3, "levels": 2, "attention": "middle"},
    "medium": {"trunk": "unet", "width": 128, "blocks": 8, "levels": 1, "attention": "middle"},
    "paper": {
        "trunk": "unet",
        "width": 256,
        "blocks": 32,
        "levels": 1,
        "attention": "middle",
        "head": "values",
        "style": "classic",
        "time": True,
    },
    "centred-tiny": {"trunk": "centred", "width": 16, "blocks": 1, "levels": 2, "growth": 2},
    "centred": {"trunk": "centred", "width": 64, "blocks": 2, "levels": 3, "growth": 2},
    # Codecs of pictures.
    "grey": {**_WAVE, "shape": (1, 28, 28), "width": 48, "blocks": 8},
    "pictures-small": {**_WAVE, "width": 64, "blocks": 3},
    "pictures": {**_WAVE, "width": 96, "blocks": 8},
    "pictures-large": {**_WAVE, "width": 192, "blocks": 12},
    # Text.  The paper's has 12 heads of 64 and perceptrons of 3072 (its main text misprints the width as 786).
    "text-paper": {**_TEXT, "width": 768, "blocks": 12, "style": "classic", "positions": "sinusoidal"},
    "text": {**_TEXT, "width": 256, "blocks": 6},
    "text-small": {**_TEXT, "width": 128, "blocks": 4, "heads": 4},
    "text-tiny": {**_TEXT, "width": 32, "blocks": 2, "heads": 2},
    # Sound.  Dilations as in the released code; the paper's text gives a cycle of 11 (both reach 2048).
    "audio-paper": {
        **_SOUND,
        "width": 256,
        "blocks": 36,
        "cycle": 12,
        "components": 30,
        "style": "classic",
        "time": True,
    },
    "audio": {**_SOUND, "width": 64, "blocks": 20},
    "audio-small": {**_SOUND, "width": 32, "blocks": 10},
    "audio-tiny": {**_SOUND, "width": 16, "blocks": 4, "cycle": 4, "components": 3},
    # Codecs of text and of sound: one order.
    "recurrent": {
        **_TEXT,
        "trunk": "recurrent",
        "causal": "wave",
        "width": 256,
        "hidden": 256,
        "blocks": 3,
        "embedding": 32,
        "hashes": (2, 3, 4, 5, 6),
        "bits": 17,
        "row": 8,
    },
    "lattice": {**_SOUND, "trunk": "lattice", "causal": "wave", "width": 96, "blocks": 2, "components": 8},
    # Tables; "density" is for data sets of binary columns.
    "table": {**_TABLE, "width": 256, "blocks": 3},
    "density": {**_TABLE, "width": 512, "blocks": 3, "dropout": 0.1},
}
"""Settings of named sizes; every one can be overridden."""


def preset(name: str, **changes: Any) -> ModelConfig:
    """The settings of a named size, with changes.  Raises ArdmError for an unknown name or setting."""
    if name not in PRESETS:
        raise ArdmError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    known = [f.name for f in dataclasses.fields(ModelConfig)]
    for key in changes.keys() - set(known):
        raise ArdmError(f"unknown setting {key!r}{nearest(key, known)}")
    return dataclasses.replace(ModelConfig(**PRESETS[name]), **changes)
