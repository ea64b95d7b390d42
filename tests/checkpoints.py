"""Published checkpoints in little: for each architecture a random one, and a reference that gives its logits.

A case is a tiny random checkpoint in the published form (config.json and tensors under their published names), and a reference,
written from the published description or built with transformers, that gives logits at all places.
"""

import json
import math
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from ardm.models.published import evodiff


@dataclass
class Case:
    """A checkpoint.  logits: ids (B, L), hidden places masked, → (B, L, classes), of all values at all places."""

    config: dict
    weights: dict
    logits: object
    mask: int
    classes: int
    files: dict = field(default_factory=dict)

    def write(self, folder):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.config))
        for name, values in self.files.items():
            (folder / name).write_text(json.dumps(values))
        save_file({name: value.contiguous() for name, value in self.weights.items()}, folder / "model.safetensors")
        return folder


def drawn(shapes):
    """Random tensors of these shapes, by name; norms and matrices alike, so that none can be left out unnoticed."""
    chance = torch.Generator().manual_seed(7)
    return {k: torch.randn(*n, generator=chance) / (n[-1] ** 0.5 if len(n) > 1 else 1) for k, n in shapes.items()}


# --- the diffusion Transformer of MDLM and nanoDD, after models/dit.py and dit.py, in plain functions --------------------


def block_shapes(width, cond):
    return {
        "norm1.weight": (width,), "attn_qkv.weight": (3 * width, width), "attn_out.weight": (width, width),
        "norm2.weight": (width,), "mlp.0.weight": (4 * width, width), "mlp.0.bias": (4 * width,),
        "mlp.2.weight": (width, 4 * width), "mlp.2.bias": (width,),
        "adaLN_modulation.weight": (6 * width, cond), "adaLN_modulation.bias": (6 * width,),
    }  # fmt: skip


def rotated(x):
    """x (B, L, heads, d): pair (i, i + d/2) of place l turned by l · 10000^(−2i/d)."""
    d = x.shape[-1]
    angle = torch.arange(x.shape[1]).float()[:, None] / 10000 ** (torch.arange(0, d, 2).float() / d)
    c, s, a, b = angle.cos()[None, :, None], angle.sin()[None, :, None], x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([a * c - b * s, a * s + b * c], -1)


def dit(w, x, time, heads, blocks, final, out):
    """The network on embeddings x (B, L, C) at times (B,), from weights by name without their prefix."""
    half = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    waves = torch.cat([(time[:, None] * half).cos(), (time[:, None] * half).sin()], 1)
    name = "sigma_map" if "sigma_map.mlp.0.weight" in w else "c_embed"
    c = F.silu(F.linear(waves, w[f"{name}.mlp.0.weight"], w[f"{name}.mlp.0.bias"]))
    c = F.silu(F.linear(c, w[f"{name}.mlp.2.weight"], w[f"{name}.mlp.2.bias"]))

    def normed(x, prefix):
        return F.layer_norm(x, x.shape[-1:]) * w[f"{prefix}.weight"]

    for i in range(blocks):
        b = f"blocks.{i}."
        m = F.linear(c, w[f"{b}adaLN_modulation.weight"], w[f"{b}adaLN_modulation.bias"])[:, None].chunk(6, -1)
        qkv = F.linear(normed(x, f"{b}norm1") * (1 + m[1]) + m[0], w[f"{b}attn_qkv.weight"])
        q, k, v = (part.unflatten(2, (heads, -1)) for part in qkv.chunk(3, -1))
        score = torch.einsum("blhd,bmhd->bhlm", rotated(q), rotated(k)) / q.shape[-1] ** 0.5
        mixed = torch.einsum("bhlm,bmhd->blhd", score.softmax(-1), v).flatten(2)
        x = x + m[2] * F.linear(mixed, w[f"{b}attn_out.weight"])
        y = F.linear(normed(x, f"{b}norm2") * (1 + m[4]) + m[3], w[f"{b}mlp.0.weight"], w[f"{b}mlp.0.bias"])
        y = 0.5 * y * (1 + torch.tanh((2 / math.pi) ** 0.5 * (y + 0.044715 * y**3)))
        x = x + m[5] * F.linear(y, w[f"{b}mlp.2.weight"], w[f"{b}mlp.2.bias"])
    shift, scale = F.linear(c, w[f"{final}adaLN_modulation.weight"], w[f"{final}adaLN_modulation.bias"])[:, None].chunk(
        2, -1
    )
    return out(normed(x, f"{final}norm_final") * (1 + scale) + shift)


def mdlm_case(V=12):
    width, cond = 8, 6
    shapes = {
        "vocab_embed.embedding": (V, width), "sigma_map.mlp.0.weight": (cond, 256), "sigma_map.mlp.0.bias": (cond,),
        "sigma_map.mlp.2.weight": (cond, cond), "sigma_map.mlp.2.bias": (cond,), "rotary_emb.inv_freq": (2,),
        **{f"blocks.{i}.{k}": v for i in range(2) for k, v in block_shapes(width, cond).items()},
        "output_layer.norm_final.weight": (width,), "output_layer.linear.weight": (V, width),
        "output_layer.linear.bias": (V,), "output_layer.adaLN_modulation.weight": (2 * width, cond),
        "output_layer.adaLN_modulation.bias": (2 * width,),
    }  # fmt: skip
    w = drawn(shapes)
    config = {
        "model_type": "mdlm", "vocab_size": V, "model_length": 16, "hidden_dim": width, "cond_dim": cond, "n_blocks": 2,
        "n_heads": 2, "dropout": 0.1, "time_conditioning": False, "auto_map": {"AutoConfig": "configuration_mdlm.MDLMConfig"},
    }  # fmt: skip

    def logits(ids):
        def out(h):
            found = F.linear(h, w["output_layer.linear.weight"], w["output_layer.linear.bias"])
            found[..., V - 1] = -math.inf  # the forbidden mask
            return found[..., : V - 1]

        return dit(w, w["vocab_embed.embedding"][ids], torch.zeros(len(ids)), 2, 2, "output_layer.", out)

    return Case(config, {f"backbone.{k}": v for k, v in w.items()}, logits, V - 1, V - 1)


def nanodd_case():
    width, cond, T = 8, 6, 50
    shapes = {
        "vocab_embed.weight": (28, width), "c_embed.mlp.0.weight": (cond, 256), "c_embed.mlp.0.bias": (cond,),
        "c_embed.mlp.2.weight": (cond, cond), "c_embed.mlp.2.bias": (cond,), "rotary_emb.inv_freq": (2,),
        **{f"blocks.{i}.{k}": v for i in range(2) for k, v in block_shapes(width, cond).items()},
        "norm_final.weight": (width,), "adaLN_modulation.weight": (2 * width, cond), "adaLN_modulation.bias": (2 * width,),
    }  # fmt: skip
    w = drawn(shapes)
    config = {"vocab_size": 27, "n_embed": width, "n_heads": 2, "n_blocks": 2, "n_cond": cond, "dropout": 0.0, "T": T}

    def logits(ids):
        time = T * (ids == 27).sum(1) / ids.shape[1]
        return dit(w, w["vocab_embed.weight"][ids], time, 2, 2, "", lambda h: h @ w["vocab_embed.weight"][:27].T)

    buffers = {"betas": torch.zeros(T + 1), "alpha_bars": torch.zeros(T + 1)}
    return Case(config, {**{f"net.{k}": v for k, v in w.items()}, **buffers}, logits, 27, 27)


# --- EvoDiff, after sequence_models/convolutional.py ---------------------------------------------------------------------


def evodiff_case():
    width, inner, embed, kernel, layers = 8, 4, 3, 5, 3
    block = {
        "conv.weight": (inner, inner, kernel), "conv.bias": (inner,), "sequence1.0.weight": (width,),
        "sequence1.0.bias": (width,), "sequence1.2.conv.weight": (inner, width, 1), "sequence1.2.conv.bias": (inner,),
        "sequence1.3.weight": (inner,), "sequence1.3.bias": (inner,), "sequence2.0.weight": (inner,),
        "sequence2.0.bias": (inner,), "sequence2.2.conv.weight": (width, inner, 1), "sequence2.2.conv.bias": (width,),
    }  # fmt: skip
    w = drawn({
        "embedder.embedder.weight": (31, embed), "embedder.up_embedder.conv.weight": (width, embed, 1),
        "embedder.up_embedder.conv.bias": (width,), "last_norm.weight": (width,), "last_norm.bias": (width,),
        "decoder.conv.weight": (31, width, 1), "decoder.conv.bias": (31,),
        **{f"embedder.layers.{i}.{k}": v for i in range(layers) for k, v in block.items()},
    })  # fmt: skip
    for name in w:  # the decoder of so small a network says next to nothing otherwise
        w[name] = w[name] * (3 if "conv.weight" in name else 1)
    config = {
        "d_embed": embed, "d_model": width, "activation": "gelu", "slim": True, "n_layers": layers, "kernel_size": kernel,
        "r": 2, "lr": 1e-4, "diffusion_timesteps": 500,
    }  # fmt: skip

    def convolved(x, name, dilation=1):
        size = w[f"{name}.weight"].shape[2]
        return F.conv1d(
            x, w[f"{name}.weight"], w[f"{name}.bias"], padding=dilation * (size - 1) // 2, dilation=dilation
        )

    def normed(x, name):
        return F.layer_norm(x.mT, (x.shape[1],), w[f"{name}.weight"], w[f"{name}.bias"]).mT

    def logits(ids):
        h = convolved(w["embedder.embedder.weight"][ids].mT, "embedder.up_embedder.conv")
        for i in range(layers):
            b = f"embedder.layers.{i}."
            x = F.gelu(
                normed(convolved(F.gelu(normed(h, f"{b}sequence1.0")), f"{b}sequence1.2.conv"), f"{b}sequence1.3")
            )
            x = convolved(x, f"{b}conv", 2 ** (i % 2))
            h = h + convolved(F.gelu(normed(x, f"{b}sequence2.0")), f"{b}sequence2.2.conv")
        return convolved(normed(h, "last_norm"), "decoder.conv").mT[..., :26]

    assert evodiff.ALPHABET == "ACDEFGHIKLMNPQRSTVWYBZXJOU-*#@!"  # start 29, mask 28, stop 27
    return Case(config, {f"module.{k}": v for k, v in w.items()}, logits, 28, 26)


# --- LLaDA and Dream, as Llama and Qwen2 of transformers without their causal mask ---------------------------------------


def both_ways(network):
    """Ids (B, L) → logits (B, L, V) of a causal network that may look at all places."""

    @torch.no_grad()
    def logits(ids):
        return network(input_ids=ids, attention_mask=torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])).logits

    return logits


def shuffled_weights(network):
    """The weights of a network, drawn anew, so that norms and biases count too."""
    w = drawn({k: tuple(v.shape) for k, v in network.state_dict().items()})
    network.load_state_dict(w)
    return w


def llada_case(V=12):
    transformers = pytest.importorskip("transformers")
    rows, mask = V + 2, 9
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=False,
        attn_implementation="sdpa",
    )).eval()  # fmt: skip
    theirs = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ff_norm", "self_attn.q_proj": "q_proj",
        "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj", "self_attn.o_proj": "attn_out",
        "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj", "mlp.down_proj": "ff_out", "model.layers": "blocks",
        "model.embed_tokens": "wte", "model.norm": "ln_f", "lm_head": "ff_out",
    }  # fmt: skip

    def renamed(name):
        for ours, other in theirs.items():
            name = name.replace(ours, other)
        return f"model.transformer.{name}"

    w = {renamed(k): v for k, v in shuffled_weights(network).items()}
    config = {
        "model_type": "llada", "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "n_layers": 2, "vocab_size": V,
        "embedding_size": rows, "mlp_hidden_size": 24, "mask_token_id": mask, "max_sequence_length": 16,
        "rope_theta": 500000.0, "rms_norm_eps": 1e-05, "block_type": "llama", "layer_norm_type": "rms",
        "activation_type": "silu", "multi_query_attention": None, "include_bias": False, "weight_tying": False,
    }  # fmt: skip
    full = both_ways(network)

    def logits(ids):
        found = full(ids)[..., :V]
        found[..., mask] = -math.inf
        return found

    return Case(config, w, logits, mask, V)


def dream_case(tied=False):
    transformers = pytest.importorskip("transformers")
    V, mask, begin = 12, 11, 10
    sizes = {
        "vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied, "max_position_embeddings": 17,
    }  # fmt: skip
    network = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**sizes, rope_theta=1000000.0, attn_implementation="sdpa")
    ).eval()
    if tied:
        w = {k: v for k, v in network.state_dict().items() if k != "lm_head.weight"}
    else:
        w = shuffled_weights(network)
    full = both_ways(network)

    def logits(ids):
        """Output i − 1 predicts token i, and the begin of a text stands in front."""
        found = full(torch.cat([torch.full((len(ids), 1), begin), ids], 1))[:, :-1]
        found[..., mask] = -math.inf
        return found

    config = {"model_type": "Dream", **sizes, "rope_theta": 1000000.0, "mask_token_id": mask, "bos_token_id": 3}
    listed = {"bos_token": "<|beginoftext|>", "added_tokens_decoder": {"10": {"content": "<|beginoftext|>"}}}
    return Case(config, w, logits, mask, V, {"tokenizer_config.json": listed})


MAKERS = {"MDLM": mdlm_case, "LLaDA": llada_case, "Dream": dream_case, "EvoDiff": evodiff_case, "nanoDD": nanodd_case}


@cache
def case_of(name):
    return MAKERS[name]()
