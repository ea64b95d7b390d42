"""MDLM: masked diffusion of GPT-2 tokens by a diffusion Transformer without a time.

Sahoo et al., arXiv 2406.07524.  Structure and names of tensors after github.com/kuleshov-group/mdlm, models/dit.py; the
forbidden mask after `Diffusion._subs_parameterization` in diffusion.py there; settings after `MDLMConfig`
(configuration_mdlm.py of the checkpoint kuleshov-group/mdlm-owt).

- The time is switched off (`time_conditioning` false): the network always gets time 0.
- The logit of the mask is −∞.  Here the mask, the last token, is no value.
- Known tokens stay as they are ("carry over").  Here a known site is never asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ardm.model import Model
from ardm.models.published.settings import assembled, refuse_heads, refuse_unless, settings_of
from ardm.models.tokens import TokenBody, config_of
from ardm.nets import DiT

LAYERS = (
    (r"^blocks\.(\d+)\.norm(\d)\.weight$", r"body.trunk.layers.\1.norm\2"),
    (r"^blocks\.(\d+)\.attn_", r"body.trunk.layers.\1."),
    (r"^blocks\.(\d+)\.mlp\.0\.", r"body.trunk.layers.\1.up."),
    (r"^blocks\.(\d+)\.mlp\.2\.", r"body.trunk.layers.\1.down."),
    (r"^blocks\.(\d+)\.adaLN_modulation\.", r"body.trunk.layers.\1.modulation."),
)
"""Names in the layers of a diffusion Transformer, and ours."""
NAMES = (
    (r"^backbone\.", ""),
    *LAYERS,
    (r"^vocab_embed\.embedding$", "body.trunk.embedding.weight"),
    (r"^sigma_map\.", "body.trunk.time."),
    (r"^output_layer\.norm_final\.weight$", "body.trunk.norm"),
    (r"^output_layer\.adaLN_modulation\.", "body.trunk.modulation."),
    (r"^output_layer\.linear\.", "head.out."),
)


@dataclass(frozen=True)
class Settings:
    """What config.json says of the network; the names are MDLM's."""

    vocab_size: int
    model_length: int
    hidden_dim: int
    cond_dim: int
    n_blocks: int
    n_heads: int
    time_conditioning: bool = False


class TimelessBody(TokenBody):
    """A body whose network is always told time 0."""

    def run(self, ids: Tensor, known: Tensor) -> Tensor:
        """(B, L, F): the features of ids (B, L)."""
        found: Tensor = self.trunk(ids, torch.zeros(1, device=ids.device))
        return found


def make(
    values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """The model, without its weights, and what its card says; see `registry.Architecture`."""
    s = settings_of(Settings, values, tensors)
    refuse_unless(not s.time_conditioning, "time_conditioning is true")
    refuse_heads(s.hidden_dim, s.n_heads)
    mask = s.vocab_size - 1
    trunk = DiT(s.vocab_size, s.hidden_dim, s.n_heads, s.n_blocks, s.cond_dim)
    body = TimelessBody(trunk, config_of(length or s.model_length, mask), mask, s.model_length)
    return assembled(body, nn.Linear(s.hidden_dim, s.vocab_size, bias=True)), {}
