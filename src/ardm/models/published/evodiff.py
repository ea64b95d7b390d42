"""EvoDiff: order-agnostic models of proteins (OA_DM_38M, OA_DM_640M), dilated convolutions over amino acids.

Alamdari et al., bioRxiv 2023.09.11.556673.  Structure and names after github.com/microsoft/protein-sequence-models,
sequence_models/convolutional.py; how it is used, and the settings, after github.com/microsoft/evodiff,
evodiff/pretrained.py (`load_sequence_checkpoint`), evodiff/constants.py and config/config38M.json.  Its objective is that of
the ARDM (`OAMaskCollater`, evodiff/collaters.py), and the network reads no time.

- The alphabet has 31 tokens: 26 letters of amino acids, of which B, Z, X, J, O, U are ambiguous or rare, then gap, stop,
  mask, start and padding.  Values are the 26 letters: sequences hold nothing else.
- A folder holds the project's config.json (config38M.json or config640M.json) and the weights as safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ardm.model import Model
from ardm.models.published.settings import assembled, refuse_unless, settings_of
from ardm.models.tokens import TokenBody, config_of
from ardm.nets import ByteNet

LETTERS = "ACDEFGHIKLMNPQRSTVWY" + "BZX" + "JOU"
"""The 20 amino acids, then the ambiguous, then the rare."""
ALPHABET = LETTERS + "-*#@!"
"""The letters, then gap, stop, mask, start and padding."""
MASK = ALPHABET.index("#")
LENGTH = 256
"""Letters of an item, where nothing else is asked for; the convolutions take any number."""
NAMES = (
    (r"^module\.", ""),
    (r"^embedder\.embedder\.", "body.trunk.embedding."),
    (r"^embedder\.up_embedder\.conv\.", "body.trunk.first."),
    (r"^embedder\.layers\.(\d+)\.conv\.", r"body.trunk.layers.\1.conv."),
    (r"^embedder\.layers\.(\d+)\.sequence1\.0\.", r"body.trunk.layers.\1.norm1."),
    (r"^embedder\.layers\.(\d+)\.sequence1\.2\.conv\.", r"body.trunk.layers.\1.narrow."),
    (r"^embedder\.layers\.(\d+)\.sequence1\.3\.", r"body.trunk.layers.\1.norm2."),
    (r"^embedder\.layers\.(\d+)\.sequence2\.0\.", r"body.trunk.layers.\1.norm3."),
    (r"^embedder\.layers\.(\d+)\.sequence2\.2\.conv\.", r"body.trunk.layers.\1.wide."),
    (r"^last_norm\.", "body.trunk.norm."),
    (r"^decoder\.conv\.", "head.out."),
)


@dataclass(frozen=True)
class Settings:
    """What config.json says of the network; the names are EvoDiff's."""

    d_embed: int
    d_model: int
    n_layers: int
    kernel_size: int
    r: int
    slim: bool = True
    activation: str = "relu"
    rank: int = 0


def make(
    values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """The model, without its weights, and what its card says; see `registry.Architecture`."""
    s = settings_of(Settings, values, tensors)
    refuse_unless(not s.rank, f"rank is {s.rank}")
    refuse_unless(s.activation in ("relu", "gelu"), f"activation is {s.activation!r}")
    refuse_unless(s.kernel_size % 2 == 1 and s.r > 0, f"kernel_size is {s.kernel_size}, and r {s.r}")
    inner = s.d_model // 2 if s.slim else s.d_model
    trunk = ByteNet(
        len(ALPHABET), s.d_embed, s.d_model, inner, s.n_layers, s.kernel_size, s.r.bit_length(), s.activation == "gelu"
    )
    body = TokenBody(trunk, config_of(length or LENGTH, len(LETTERS)), MASK)
    model = assembled(body, nn.Linear(s.d_model, len(ALPHABET), bias=True))
    return model, {"symbols": {"kind": "letters", "alphabet": LETTERS, "end": False}}
