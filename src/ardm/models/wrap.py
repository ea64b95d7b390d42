"""Networks of your own, by a protocol of one function; and any masked language model of Hugging Face.

    model = ardm.wrap(net, shape=(16,), classes=5)          # net(value, depth) → logits (B, 16, 5)
    x = ardm.sample(model, 8)                               # and ardm.fill, ardm.score

The protocol: `net(value, depth)`, both (B, *shape) int64.  depth says how many digits of each site are known (of an
order-agnostic model, base 0: 1 where known, 0 elsewhere), and value what they say; unknown digits of value are 0, so a
network that does not look at depth cannot tell "unknown" from "0".  It may write into what it is given.  It returns
logits at every site: (B, *shape, K) of the values, or with head="digits" (B, *shape, S·b) of the digits of every stage,
the most significant first.  With context, `net(value, depth, context)`.  No constraint on the network: what is hidden
never reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import Digits, Partial, anywhere
from ardm.errors import ArdmError, out_of_memory
from ardm.features import Features, FeaturesAt
from ardm.heads import DigitHead, ValueHead
from ardm.inputs import device_of, number
from ardm.model import Model


class Wrapped(nn.Module):
    """A body whose features are the logits of a network; its parameters are those of the network."""

    def __init__(self, net: Callable[..., Tensor], outputs: int) -> None:
        super().__init__()
        self.net, self.outputs = net, outputs

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Logits at the sites asked."""
        given = (state.value, state.depth, *(() if context is None else (context,)))
        logits = self.net(*(v.clone() for v in given))  # a network may write into what it is given
        wanted = (*state.value.shape, self.outputs)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ArdmError(f"the network must return logits {wanted}, those of each site last; it returned {found}")
        D = prod(state.shape)
        rows = logits.reshape(-1, self.outputs)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(rows[batch_index * D + position])

        return features


def wrap(net: Callable[..., Tensor], shape: Sequence[int], classes: int, base: int = 0, head: str = "values") -> Model:
    """A model of the network `net`, a function or a module; see the protocol at the top of this module.

    shape: of one item.  classes K.  base b: 0 tells whole values; otherwise depth upscaling in S digits of base b.
    head: "values" (logits of the K values) or "digits" (of S·b digits, stage after stage).
    `ardm.sample`, `fill` and `score` take it as it is; `walk`, `likelihood` and `objective.bound_step` too.  With a loss
    curve: `ardm.Bundle(model, ardm.ModelConfig(shape=shape, classes=classes), curve=likelihood.curve(…))`, which cannot
    be saved, since only you can build the network again.
    Raises ArdmError for other heads and bases, and when it is called and the logits have another shape.
    """
    if not callable(net):
        raise ArdmError(f"net must be a function or a module net(value, depth) → logits; got {type(net).__name__}")
    shape = tuple(number(n, "a size of shape") for n in ((shape,) if isinstance(shape, int) else shape))
    if not shape:
        raise ArdmError("shape must have at least one axis; got ()")
    classes, base = number(classes, "classes", 2), number(base, "base", 0)
    digits = Digits(classes, base or classes)
    if head not in ("values", "digits"):
        raise ArdmError(f"head must be values or digits; got {head!r}")
    body = Wrapped(net, classes if head == "values" else len(digits) * digits.base)
    return Model(digits, shape, body, (ValueHead if head == "values" else DigitHead)(digits, 0))


class MaskedLanguageModel(nn.Module):
    """Token ids and what is known of them → logits over the vocabulary, −inf for ids that are never told."""

    never: Tensor
    before: Tensor
    after: Tensor

    def __init__(
        self, network: nn.Module, mask: int, classes: int, never: Collection[int], around: tuple[Sequence[int], ...]
    ) -> None:
        super().__init__()
        self.network, self.mask, self.classes = network, mask, classes
        there = next((p.device for p in network.parameters()), None) if isinstance(network, nn.Module) else None
        there = anywhere(there)  # where the network lies
        refused = torch.zeros(classes, dtype=torch.bool, device=there)
        refused[[v for v in {mask, *never} if v < classes]] = True
        self.register_buffer("never", refused, persistent=False)
        for name, ids in zip(("before", "after"), around, strict=True):
            self.register_buffer(name, torch.tensor(list(ids), dtype=torch.long, device=there), persistent=False)

    def forward(self, value: Tensor, depth: Tensor) -> Tensor:
        """value, depth: (B, L) → (B, L, V)."""
        B, L = value.shape
        told = torch.where(depth > 0, value, self.mask)
        ids = torch.cat([self.before.expand(B, -1), told, self.after.expand(B, -1)], 1)
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
    """A masked language model of Hugging Face (`AutoModelForMaskedLM`) as a model of any order of `length` token ids.

    mask_token_id: what stands for an unknown token (`tokenizer.mask_token_id`); it is itself never told.
    vocabulary: V, the number of tokens; by default that of the network's configuration.
    never: further ids that are never told (`tokenizer.all_special_ids`).  before, after: ids put around every item, such
    as [CLS] and [SEP], which are not part of it.
    The module is used as it is, not copied: call `.eval()` on it or on the model; training the model trains it.
    Raises ArdmError where an id lies outside the vocabulary, an item is longer than the network's positions, for a
    network without logits (`AutoModel`), and for one that looks to the left only: that of a causal language model (GPT),
    which is found by calling it on a few tokens.
    """
    if not callable(masked_lm):
        raise ArdmError(
            f"masked_lm must be a network, as of AutoModelForMaskedLM.from_pretrained(…); got {type(masked_lm).__name__}"
        )
    if mask_token_id is None:
        raise ArdmError(
            "mask_token_id is None: a tokenizer without a mask token belongs to a causal language model, which looks at the "
            "tokens to the left only and is no model of any order; give a masked one (AutoModelForMaskedLM) and its tokenizer"
        )
    length, mask = number(length, "length"), number(mask_token_id, "mask_token_id", 0)
    config = getattr(masked_lm, "config", None)
    own = int(getattr(config, "vocab_size", None) or 0)
    size = own if vocabulary is None else number(vocabulary, "vocabulary", 2)
    if size < 2:
        raise ArdmError("the network says no vocabulary size: give vocabulary=")
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
    """Token ids, of any collection of whole numbers."""
    try:
        found = list(given)
    except TypeError:
        raise ArdmError(f"{name} must be a collection of token ids; got {given!r}: leave it out for none") from None
    return [number(v, f"{name}: token ids", 0) for v in found]


@torch.no_grad()
def _refuse_causal(network: Any, mask: int) -> None:
    """ArdmError for a network whose outputs depend on what stands to the left of them, and never on what is to the right."""
    modules = [(m, m.training) for m in network.modules()] if isinstance(network, nn.Module) else []
    first = torch.full((1, 4), mask, device=device_of(network))
    left, right = first.clone(), first.clone()
    left[0, 0] = right[0, -1] = 1 if mask == 0 else 0
    try:
        for module, _ in modules:
            module.training = False  # dropout would look like context
        plain, early, late = (_logits(network, ids) for ids in (first, left, right))
    finally:
        for module, was in modules:
            module.training = was
    if torch.equal(plain[:, :-1], late[:, :-1]) and not torch.equal(plain[:, 1:], early[:, 1:]):
        raise ArdmError(
            f"{type(network).__name__} is a causal language model: it looks at the tokens to the left only, and was never "
            "taught what a mask is, so it is no model of any order. Give a masked language model (AutoModelForMaskedLM); "
            "the likelihood of a causal one is the sum of its own losses"
        )


def _logits(network: Any, ids: Tensor) -> Tensor:
    try:
        out = network(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # whatever a network of others raises
        if out_of_memory(error):
            raise
        raise ArdmError(
            f"the network cannot be called as network(input_ids=…, attention_mask=…): {type(error).__name__}: {error}"
        ) from error
    found = getattr(out, "logits", out)
    if not isinstance(found, Tensor) or found.shape[:2] != ids.shape or found.ndim != 3:
        what = f"logits {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(out).__name__} without them"
        raise ArdmError(
            f"{type(network).__name__} returns no logits of each token, ({ids.shape[0]}, {ids.shape[1]}, V), but {what}: give a masked language "
            "model (AutoModelForMaskedLM, not AutoModel)"
        )
    return found
