"""LLaDA: masked diffusion by a Llama that looks both ways, with tensor names of its own.

Nie et al., arXiv 2502.09992.  Structure, names and settings after modeling_llada.py and config.json of the checkpoint
GSAI-ML/LLaDA-8B-Base (`LLaDALlamaBlock`; code at github.com/ML-GSAI/LLaDA).  Tensors are named model.transformer.blocks.N,
`ff_out` in a block and after the last one.

- The mask is the token `mask_token_id`, 126336, in the middle of the vocabulary; it has probability zero.
- The vocabulary has more rows than tokens (126464); the rest were never trained, and keep what probability they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ardm.model import Model
from ardm.models.published.settings import assembled, refuse_heads, refuse_unless, settings_of
from ardm.models.tokens import TokenBody, config_of
from ardm.nets import Decoder

_LAYER = {
    "attn_norm": "norm1", "ff_norm": "norm2", "q_proj": "q", "k_proj": "k", "v_proj": "v", "attn_out": "o",
    "ff_proj": "gate", "up_proj": "up", "ff_out": "down",
}  # fmt: skip
NAMES = (
    (r"^model\.transformer\.", ""),
    *((rf"^blocks\.(\d+)\.{theirs}\.", rf"body.trunk.layers.\1.{ours}.") for theirs, ours in _LAYER.items()),
    (r"^wte\.", "body.trunk.embedding."),
    (r"^ln_f\.", "body.trunk.norm."),
    (r"^ff_out\.", "head.out."),
)


@dataclass(frozen=True)
class Settings:
    """What config.json says of the network; the names are LLaDA's."""

    d_model: int
    n_heads: int
    n_layers: int
    vocab_size: int
    mlp_hidden_size: int
    mask_token_id: int
    rope_theta: float
    max_sequence_length: int = 4096
    n_kv_heads: int = 0
    multi_query_attention: bool = False
    embedding_size: int = 0
    rms_norm_eps: float = 1e-5
    include_bias: bool = False
    include_qkv_bias: bool = False
    weight_tying: bool = False
    block_type: str = "llama"
    layer_norm_type: str = "rms"
    activation_type: str = "silu"
    block_group_size: int = 1
    rope: bool = True
    alibi: bool = False
    attention_layer_norm: bool = False
    bias_for_layer_norm: bool = False
    input_emb_norm: bool = False
    scale_logits: bool = False


FIXED = (
    "multi_query_attention", "include_bias", "block_type", "layer_norm_type", "activation_type", "block_group_size", "rope",
    "alibi", "attention_layer_norm", "bias_for_layer_norm", "input_emb_norm", "scale_logits",
)  # fmt: skip
"""Settings that have their defaults in every published model."""


def make(
    values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """The model, without its weights, and what its card says; see `registry.Architecture`."""
    s = settings_of(Settings, values, tensors)
    for name in FIXED:
        usual, found = getattr(Settings, name), getattr(s, name)
        refuse_unless(found == usual, f"{name} is {found!r}")
    size, shared = s.embedding_size or s.vocab_size, s.n_kv_heads or s.n_heads
    refuse_heads(s.d_model, s.n_heads, shared)
    refuse_unless(
        s.mask_token_id < s.vocab_size <= size, f"mask_token_id is {s.mask_token_id} of {s.vocab_size} tokens"
    )
    trunk = Decoder(
        size, s.d_model, s.n_heads, shared, s.n_layers, s.mlp_hidden_size, s.rope_theta, s.rms_norm_eps, s.include_qkv_bias
    )  # fmt: skip
    longest = s.max_sequence_length
    body = TokenBody(trunk, config_of(length or longest, s.vocab_size), s.mask_token_id, longest)
    out = nn.Linear(s.d_model, size, bias=False)
    return assembled(body, out, [s.mask_token_id], s.weight_tying), {}
