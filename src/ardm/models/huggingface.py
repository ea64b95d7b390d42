"""Masked language models of Hugging Face as models of any order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ardm.digits import Digits, anywhere
from ardm.errors import ArdmError, out_of_memory
from ardm.inputs import device_of, number
from ardm.model import Model, evaluating
from ardm.models.config import ModelConfig
from ardm.models.tokens import TokenBody, TokenHead, config_of
from ardm.models.wrap import described
from ardm.precision import widened

MASKED = "a masked language model (AutoModelForMaskedLM)"
Around: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Token ids before and after an item."""


class MaskedBody(TokenBody):
    """A masked language model: token ids → what its output layer reads, or, without such a layer, logits.

    out: the output layer, if the network returns what it gives, unchanged (`output_layer`); else None.
    """

    def __init__(self, network: Any, out: nn.Linear | None, config: ModelConfig, mask: int, around: Around) -> None:
        before, after = around
        super().__init__(network, config, mask, 0, before, after, device=anywhere(device_of(network)))
        self.out = out

    def run(self, ids: Tensor, known: Tensor) -> Tensor:
        """(B, L, F): the features, or logits, of ids (B, L)."""
        if self.out is not None:
            return features_of(self.trunk, self.out, ids)
        logits, K = _logits(self.trunk, ids), self.config.classes
        if logits.shape[-1] < K:
            raise ArdmError(f"the network gives {logits.shape[-1]} logits, for a vocabulary of {K} tokens")
        return logits


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

    Its output layer runs at the sites asked only, where transformers names a linear one that ends the network.
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
    out = output_layer(masked_lm, mask, size)
    body = MaskedBody(masked_lm, out, config_of(length, size), mask, (first, last))
    digits, device = Digits(size, size), anywhere(device_of(masked_lm))
    head = TokenHead(digits, nn.Identity() if out is None else out, {v for v in (mask, *forbidden) if v < size}, device)
    return Model(digits, (length,), body, head)


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
    first = torch.full((1, 4), mask, device=device_of(network))
    left, right = first.clone(), first.clone()
    left[0, 0] = right[0, -1] = 1 if mask == 0 else 0
    with evaluating(network):
        plain, early, late = (_logits(network, ids) for ids in (first, left, right))
    if torch.equal(plain[:, :-1], late[:, :-1]) and not torch.equal(plain[:, 1:], early[:, 1:]):
        raise ArdmError(
            "this is a causal language model: it looks at the tokens to the left only and was never trained with masks, so "
            f"that it has one order. Use {MASKED}; the likelihood of a causal one is the sum of its own losses"
        )


@torch.no_grad()
def output_layer(network: Any, mask: int, classes: int) -> nn.Linear | None:
    """The last layer of a network, if logits are what it gives: it may then run at the sites asked only.

    It is a plain linear layer of at least `classes` rows that runs once.  Whether the network changes its output, as by a
    cap on logits, is found by giving it another one.  None: anything else.
    """
    named = getattr(network, "get_output_embeddings", None)
    out = named() if callable(named) else None
    if type(out) is not nn.Linear or out.out_features < classes:
        return None
    ids, shown = torch.full((1, 2), mask, device=device_of(network)), list[Tensor]()

    def other(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        shown.append(torch.linspace(-99, 99, found.numel(), device=found.device).view(found.shape).to(found.dtype))
        return shown[-1]

    with evaluating(network), _hooked(out.register_forward_hook(other)):
        logits = _logits(network, ids)
    unchanged = len(shown) == 1 and torch.equal(widened(logits), widened(shown[0]))
    with suppress(ArdmError):  # a network that cannot do without logits
        if unchanged and features_of(network, out, ids).shape == (1, 2, out.in_features):
            return out
    return None


def features_of(network: Any, out: nn.Linear, ids: Tensor) -> Tensor:
    """(B, L, F): what the output layer of a network reads for ids (B, L); the layer itself computes no row."""
    seen, thread = list[Tensor](), get_ident()

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if get_ident() != thread:  # of a call in another thread
            return None
        seen.append(given[0])
        return (given[0][:, :0],)

    with _hooked(out.register_forward_pre_hook(keep)):
        _called(network, ids)
    return seen[0]


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    """Remove a hook at the end of the block."""
    try:
        yield
    finally:
        handle.remove()


def _called(network: Any, ids: Tensor) -> Any:
    """What the network returns for ids (B, L)."""
    try:
        return network(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # a network of others may raise anything
        if out_of_memory(error):
            raise
        raise ArdmError(
            f"the network cannot be called as network(input_ids=…, attention_mask=…): {type(error).__name__}: {error}"
        ) from error


def _logits(network: Any, ids: Tensor) -> Tensor:
    """(B, L, V): the logits that the network returns for ids (B, L)."""
    out = _called(network, ids)
    found = getattr(out, "logits", out)
    if not isinstance(found, Tensor):
        raise ArdmError(f"the network returns no logits: it has no language model head. Use {MASKED}, not AutoModel")
    if found.shape[:2] != ids.shape or found.ndim != 3:
        raise ArdmError(
            f"the network must return logits of shape ({ids.shape[0]}, {ids.shape[1]}, vocabulary), one row per token; "
            f"got {tuple(found.shape)}. Use {MASKED}"
        )
    return found
