"""Masked language models of Hugging Face as models of any order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import anywhere
from ardm.errors import ArdmError, out_of_memory
from ardm.inputs import device_of, number
from ardm.model import Model
from ardm.models.wrap import described, wrap

MASKED = "a masked language model (AutoModelForMaskedLM)"


class MaskedLanguageModel(nn.Module):
    """Token ids and which are known → logits over the vocabulary, −inf for forbidden ids."""

    never: Tensor
    before: Tensor
    after: Tensor

    def __init__(
        self, network: nn.Module, mask: int, classes: int, never: Collection[int], around: tuple[Sequence[int], ...]
    ) -> None:
        super().__init__()
        self.network, self.mask, self.classes = network, mask, classes
        device = anywhere(device_of(network))
        forbidden = torch.zeros(classes, dtype=torch.bool, device=device)
        forbidden[[v for v in {mask, *never} if v < classes]] = True
        self.register_buffer("never", forbidden, persistent=False)
        for name, ids in zip(("before", "after"), around, strict=True):
            self.register_buffer(name, torch.tensor(list(ids), dtype=torch.long, device=device), persistent=False)

    def forward(self, value: Tensor, depth: Tensor) -> Tensor:
        """value, depth: (B, L) → (B, L, V)."""
        B, L = value.shape
        shown = torch.where(depth > 0, value, self.mask)
        ids = torch.cat([self.before.expand(B, -1), shown, self.after.expand(B, -1)], 1)
        logits = _logits(self.network, ids)[:, len(self.before) : len(self.before) + L]
        if logits.shape[-1] < self.classes:
            raise ArdmError(f"the network gives {logits.shape[-1]} logits, for a vocabulary of {self.classes} tokens")
        return logits[..., : self.classes].masked_fill(self.never, -torch.inf)


def huggingface(
    masked_lm: Any,
    mask_token_id: int | None,
    length: int,
    vocabulary: int | None = None,
    never: Collection[int] = (),
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> Model:
    """Make a model of any order, of `length` token ids, from a masked language model (`AutoModelForMaskedLM`).

    mask_token_id: stands for an unknown token (`tokenizer.mask_token_id`); the model never generates it.
    vocabulary: V, the number of tokens; default: from the configuration of the network.
    never: further ids that it never generates (`tokenizer.all_special_ids`).
    before, after: ids around every item, such as [CLS] and [SEP], which are not part of it.
    The network is not copied: call `.eval()` on it or on the model; training the model trains it.
    Raises ArdmError where an id lies outside the vocabulary, an item is longer than the network's positions, the network
    returns no logits (`AutoModel`), or a few test tokens show that it looks to the left only (GPT).
    """
    if not callable(masked_lm):
        raise ArdmError(
            f"masked_lm must be a network, such as AutoModelForMaskedLM.from_pretrained(…); got {described(masked_lm)}"
        )
    if mask_token_id is None:
        raise ArdmError(
            "mask_token_id is None: a tokenizer without a mask token belongs to a causal language model, which looks at the "
            f"tokens to the left only and has one order; use {MASKED} and its tokenizer"
        )
    length, mask = number(length, "length"), number(mask_token_id, "mask_token_id", 0)
    config = getattr(masked_lm, "config", None)
    own = int(getattr(config, "vocab_size", None) or 0)
    size = own if vocabulary is None else number(vocabulary, "vocabulary", 2)
    if size < 2:
        raise ArdmError("the network does not give the size of its vocabulary: pass vocabulary=")
    named = {"never": never, "before": before, "after": after}
    forbidden, first, last = (_ids(given, name) for name, given in named.items())
    for name, ids in {"mask_token_id": [mask], "never": forbidden, "before": first, "after": last}.items():
        if max(ids, default=0) >= max(size, own):
            raise ArdmError(f"{name}: token ids lie in 0..{max(size, own) - 1}, the vocabulary; got {max(ids)}")
    longest, total = int(getattr(config, "max_position_embeddings", None) or 0), length + len(first) + len(last)
    if 0 < longest < total:
        raise ArdmError(
            f"the network takes at most {longest} tokens; length {length}, with {total - length} around it, is too long"
        )
    _refuse_causal(masked_lm, mask)
    net = MaskedLanguageModel(masked_lm, mask, size, forbidden, (first, last))
    return wrap(net, (length,), size)


def _ids(given: Any, name: str) -> list[int]:
    """Token ids, from any collection of whole numbers."""
    try:
        found = list(given)
    except TypeError:
        raise ArdmError(f"{name} must be a collection of token ids; got {given!r}: leave it out for none") from None
    return [number(v, f"{name}: token ids", 0) for v in found]


@torch.no_grad()
def _refuse_causal(network: Any, mask: int) -> None:
    """Raise ArdmError if outputs change with tokens to their left and never with tokens to their right."""
    modules = [(m, m.training) for m in network.modules()] if isinstance(network, nn.Module) else []
    first = torch.full((1, 4), mask, device=device_of(network))
    left, right = first.clone(), first.clone()
    left[0, 0] = right[0, -1] = 1 if mask == 0 else 0
    try:
        for module, _ in modules:
            module.training = False  # dropout would look like a change
        plain, early, late = (_logits(network, ids) for ids in (first, left, right))
    finally:
        for module, was in modules:
            module.training = was
    if torch.equal(plain[:, :-1], late[:, :-1]) and not torch.equal(plain[:, 1:], early[:, 1:]):
        raise ArdmError(
            "this is a causal language model: it looks at the tokens to the left only and was never trained with masks, so "
            f"that it has one order. Use {MASKED}; the likelihood of a causal one is the sum of its own losses"
        )


def _logits(network: Any, ids: Tensor) -> Tensor:
    """(B, L, V): what the network returns for ids (B, L)."""
    try:
        out = network(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # a network of others may raise anything
        if out_of_memory(error):
            raise
        raise ArdmError(
            f"the network cannot be called as network(input_ids=…, attention_mask=…): {type(error).__name__}: {error}"
        ) from error
    found = getattr(out, "logits", out)
    if not isinstance(found, Tensor):
        raise ArdmError(f"the network returns no logits: it has no language model head. Use {MASKED}, not AutoModel")
    if found.shape[:2] != ids.shape or found.ndim != 3:
        raise ArdmError(
            f"the network must return logits of shape ({ids.shape[0]}, {ids.shape[1]}, vocabulary), one row per token; "
            f"got {tuple(found.shape)}. Use {MASKED}"
        )
    return found
