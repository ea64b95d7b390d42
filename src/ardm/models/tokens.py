"""Models of tokens: ids in, features at all places, logits at the sites asked.

The network runs over all places, the output layer at the sites asked only: logits of 1,000 places and 150,000 tokens would
be 600 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import Alphabet, Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.heads import ValueHead
from ardm.models.config import ModelConfig
from ardm.precision import full


class TokenHead(ValueHead):
    """A softmax over the first K rows of an output layer, in which some tokens have probability zero.

    out: a linear layer of at least K rows, or the identity, where the features are the logits.  never: tokens that never
    occur, such as the mask where it is among the values.
    """

    never: Tensor

    def __init__(
        self, alphabet: Alphabet, out: nn.Module, never: Collection[int] = (), device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(alphabet, 0)
        self.out = out
        forbidden = torch.full((alphabet.classes,), False, device=device)
        forbidden[list(never)] = True
        self.register_buffer("never", forbidden, persistent=False)

    def _theta(self, features: Features, value: Tensor, position: Tensor | None) -> Tensor:
        """(N, K): logits of the tokens; −inf for those that never occur."""
        return full(self.out, features.hidden)[:, : self.alphabet.classes].masked_fill(self.never, -torch.inf)


class TokenBody(nn.Module):
    """Tokens, and a mask where nothing is known → features.  Items may have any length up to `longest`.

    trunk: token ids (B, L) → features (B, L, F).  config: shape and classes, for bundles.  mask: the id of the mask.
    longest: the most places; 0: any number.  before, after: ids around every item, of which they are no part.
    shift: how many places in front of a token stands the output that predicts it.
    """

    before: Tensor
    after: Tensor

    def __init__(
        self,
        trunk: Callable[..., Any],
        config: ModelConfig,
        mask: int,
        longest: int = 0,
        before: Sequence[int] = (),
        after: Sequence[int] = (),
        shift: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.trunk, self.config, self.mask, self.longest, self.shift = trunk, config, mask, longest, shift
        for name, ids in (("before", before), ("after", after)):
            self.register_buffer(name, torch.tensor(list(ids), dtype=torch.long, device=device), persistent=False)

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites."""
        if context is not None:
            raise ArdmError("models of tokens take no context: a prompt is a part of the item (ardm.fill)")
        known, B = state.depth > 0, state.batch
        shown = torch.where(known, state.value, self.mask)
        ids = torch.cat([self.before.expand(B, -1), shown, self.after.expand(B, -1)], 1)
        refuse_longer(ids.shape[1], self.longest)
        h, first = self.run(ids, known), len(self.before) - self.shift

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(h[batch_index, position + first])

        return features

    def run(self, ids: Tensor, known: Tensor) -> Tensor:
        """(B, L, F): the features of ids (B, L).  known: (B, D) bool, for networks that also read the time."""
        found: Tensor = self.trunk(ids)
        return found


def refuse_longer(places: int, longest: int) -> None:
    """Raise ArdmError for more places than a network has, where it has a limit."""
    if 0 < longest < places:
        raise ArdmError(
            f"this model takes at most {longest} tokens; got {places}: give a smaller length, or cut the items"
        )


def config_of(length: int, classes: int) -> ModelConfig:
    """The configuration of a bundle of sequences of tokens."""
    return ModelConfig(shape=(length,), classes=classes, trunk="transformer", head="values")
