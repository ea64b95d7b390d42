"""nanoDD: absorbing diffusion (D3PM) of the 27 letters of text8, by a diffusion Transformer that also reads the time.

Austin et al., arXiv 2107.03006.  Structure, names and settings after github.com/flukeskywalker/nanoDD, dit.py,
d3pm_absorbing.py and configs.py; the letters after data/prepare_text8.py there: a space, then a to z.

- There are T steps of time, and at step t a token is hidden with probability t/T.  So the time of a state is T times the
  share of its tokens that are hidden: a function of what is known, and the model has any order.
- The mask is the last token, and no value.
- The output layer is the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ardm.model import Model
from ardm.models.config import ModelConfig
from ardm.models.published.mdlm import LAYERS
from ardm.models.published.settings import assembled, refuse_heads, settings_of
from ardm.models.tokens import TokenBody, config_of
from ardm.nets import DiT

NAMES = (
    (r"^net\.", ""),
    *LAYERS,
    (r"^vocab_embed\.weight$", "body.trunk.embedding.weight"),
    (r"^c_embed\.", "body.trunk.time."),
    (r"^norm_final\.weight$", "body.trunk.norm"),
    (r"^adaLN_modulation\.", "body.trunk.modulation."),
)
TEXT8, OTHER = 256, 1024
"""The lengths of items that the published models were trained on: of letters, and of GPT-2 tokens."""


@dataclass(frozen=True)
class Settings:
    """The `model_args` of a checkpoint; the names are nanoDD's."""

    vocab_size: int
    n_embed: int
    n_heads: int
    n_blocks: int
    n_cond: int
    T: int = 1000


class TimedBody(TokenBody):
    """A body whose network also reads the time.  steps: T."""

    def __init__(self, trunk: nn.Module, config: ModelConfig, mask: int, steps: int) -> None:
        super().__init__(trunk, config, mask)
        self.steps = steps

    def run(self, ids: Tensor, known: Tensor) -> Tensor:
        """(B, L, F): the features of ids (B, L) at the time T · (share that is hidden)."""
        found: Tensor = self.trunk(ids, self.steps * (~known).float().mean(1))
        return found


def make(
    values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """The model, without its weights, and what its card says; see `registry.Architecture`."""
    s = settings_of(Settings, values, tensors)
    refuse_heads(s.n_embed, s.n_heads)
    letters = s.vocab_size == 27
    trunk = DiT(s.vocab_size + 1, s.n_embed, s.n_heads, s.n_blocks, s.n_cond)
    config = config_of(length or (TEXT8 if letters else OTHER), s.vocab_size)
    out = nn.Linear(s.n_embed, s.vocab_size + 1, bias=False)
    model = assembled(TimedBody(trunk, config, s.vocab_size, s.T), out, tied=True)
    return model, {"symbols": {"kind": "27", "end": False}} if letters else {}
