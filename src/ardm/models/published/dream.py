"""Dream: masked diffusion by a Qwen2 that looks both ways, whose output at a place predicts the token after it.

Ye et al., arXiv 2508.15487.  Structure and names after modeling_dream.py of the checkpoint Dream-org/Dream-v0-Base-7B
(`DreamSdpaAttention`: is_causal is False; biases on queries, keys and values), which keeps the tensor names of Qwen2.

- The weights began as those of a causal model, so that output i − 1 predicts token i (generation_utils.py shifts the logits
  by one place).  Token 0 needs a token in front of it: the begin of a text, <|beginoftext|>, which is no part of an item.
- The mask is the token `mask_token_id`, 151666; it has probability zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ardm.errors import ArdmError
from ardm.model import Model
from ardm.models.published.settings import assembled, refuse_heads, refuse_unless, settings_of
from ardm.models.tokens import TokenBody, config_of
from ardm.nets import Decoder

_LAYER = {
    "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "self_attn.q_proj": "q", "self_attn.k_proj": "k",
    "self_attn.v_proj": "v", "self_attn.o_proj": "o", "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
}  # fmt: skip
NAMES = (
    (r"^model\.", ""),
    *((rf"^layers\.(\d+)\.{theirs}\.", rf"body.trunk.layers.\1.{ours}.") for theirs, ours in _LAYER.items()),
    (r"^embed_tokens\.", "body.trunk.embedding."),
    (r"^norm\.", "body.trunk.norm."),
    (r"^lm_head\.", "head.out."),
)
LENGTH = 2048
"""Tokens of an item that the published models were trained on; their config.json keeps Qwen2's 131,072 places."""


@dataclass(frozen=True)
class Settings:
    """What config.json says of the network; the names are those of Qwen2."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    mask_token_id: int
    rope_theta: float
    num_key_value_heads: int = 0
    max_position_embeddings: int = 131_072
    bos_token_id: int = -1
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False
    use_sliding_window: bool = False
    use_mrope: bool = False


def make(
    values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """The model, without its weights, and what its card says; see `registry.Architecture`."""
    for name in ("rope_scaling", "block_size"):  # the latter in models that look ahead one block, and shift nothing
        refuse_unless(not values.get(name), f"{name} is {values.get(name)!r}")
    first = begin(values, tokens)
    s = settings_of(Settings, {**values, "bos_token_id": first}, tensors)
    refuse_unless(s.hidden_act == "silu", f"hidden_act is {s.hidden_act!r}")
    refuse_unless(not (s.use_sliding_window or s.use_mrope), "use_sliding_window or use_mrope is true")
    shared = s.num_key_value_heads or s.num_attention_heads
    refuse_heads(s.hidden_size, s.num_attention_heads, shared)
    refuse_unless(max(s.mask_token_id, first) < s.vocab_size, f"mask {s.mask_token_id} or begin {first} is no token")
    trunk = Decoder(
        s.vocab_size, s.hidden_size, s.num_attention_heads, shared, s.num_hidden_layers, s.intermediate_size, s.rope_theta,
        s.rms_norm_eps, bias=True,
    )  # fmt: skip
    usual = min(LENGTH, s.max_position_embeddings - 1)
    body = TokenBody(
        trunk, config_of(length or usual, s.vocab_size), s.mask_token_id, s.max_position_embeddings, [first], shift=1
    )
    out = nn.Linear(s.hidden_size, s.vocab_size, bias=False)
    return assembled(body, out, [s.mask_token_id], s.tie_word_embeddings), {}


def begin(values: Mapping[str, Any], tokens: Mapping[str, Any]) -> int:
    """The id of the token that begins a text: the tokenizer's, else that of config.json, which may be the end of a text.

    tokens: tokenizer_config.json.
    """
    named, listed = tokens.get("bos_token"), tokens.get("added_tokens_decoder")
    entries = listed.items() if isinstance(listed, Mapping) else ()
    named = named.get("content") if isinstance(named, Mapping) else named
    for number, entry in entries:
        if named and isinstance(entry, Mapping) and entry.get("content") == named and str(number).isdigit():
            return int(number)
    found = values.get("bos_token_id")
    if not isinstance(found, int):
        raise ArdmError(
            "Dream needs a token before the first: give tokenizer_config.json, or bos_token_id in config.json"
        )
    return found
