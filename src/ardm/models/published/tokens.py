"""What models of published checkpoints share: token ids in, features at all places, logits of the sites asked.

The trunk runs over all places, the output layer at the sites asked only: 1,000 places of 150,000 tokens would be 600 MB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.digits import Alphabet, Digits, Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.heads import ValueHead
from ardm.inputs import number
from ardm.model import Model
from ardm.models.config import ModelConfig
from ardm.precision import wide
from ardm.settings import from_values

T = TypeVar("T")
MOST = 1 << 24
"""The largest whole number in a config.json, which may come from anybody."""


class Vocabulary(nn.Linear):
    """The first rows of an output layer, one for each value, computed in float32 or better.

    size: rows of the published layer.  rows: those that are values; later ones, such as the mask, are not computed.
    """

    def __init__(self, width: int, size: int, rows: int, bias: bool) -> None:
        super().__init__(width, size, bias)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """x (N, width) → (N, rows)."""
        dtype = torch.promote_types(wide(self.weight.dtype), x.dtype)
        bias = None if self.bias is None else self.bias[: self.rows].to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(dtype), self.weight[: self.rows].to(dtype), bias)


class TokenHead(ValueHead):
    """A softmax over a vocabulary, in which some tokens have probability zero.

    never: these tokens, such as the mask where it is among the values.
    """

    never: Tensor

    def __init__(self, alphabet: Alphabet, out: Vocabulary, never: Collection[int] = ()) -> None:
        super().__init__(alphabet, 0)
        self.out = out
        forbidden = torch.zeros(alphabet.classes, dtype=torch.bool, device="cpu")
        forbidden[list(never)] = True
        self.register_buffer("never", forbidden, persistent=False)

    def _theta(self, features: Features, value: Tensor, position: Tensor | None) -> Tensor:
        """(N, K): logits of the tokens; −inf for those that never occur."""
        theta: Tensor = self.out(features.hidden)
        return theta.masked_fill(self.never, -torch.inf)


class TokenBody(nn.Module):
    """Tokens, and a mask where nothing is known → features.  Items may have any length up to `longest`.

    trunk: token ids (B, L) → features (B, L, F).  config: shape and classes, for bundles.  mask: the id of the mask.
    longest: the most places; 0: any number.  before: ids in front of every item, of which they are no part.
    shift: how many places in front of a token stands the output that predicts it.
    """

    before: Tensor

    def __init__(
        self, trunk: nn.Module, config: ModelConfig, mask: int, longest: int = 0, before: Sequence[int] = (), shift: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunk, self.config, self.mask, self.longest, self.shift = trunk, config, mask, longest, shift
        self.register_buffer("before", torch.tensor(before, dtype=torch.long, device="cpu"), persistent=False)

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites."""
        if context is not None:
            raise ArdmError("published checkpoints take no context: a prompt is a part of the item (ardm.fill)")
        known = state.depth > 0
        refuse_longer(state.shape.numel() + len(self.before), self.longest)
        ids = torch.cat([self.before.expand(state.batch, -1), torch.where(known, state.value, self.mask)], 1)
        h, first = self.run(ids, known), len(self.before) - self.shift

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(h[batch_index, position + first])

        return features

    def run(self, ids: Tensor, known: Tensor) -> Tensor:
        """(B, L, F): the features of ids (B, L).  known: (B, D) bool, for networks that are told the time."""
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


def assembled(body: TokenBody, out: Vocabulary, never: Collection[int] = (), tied: bool = False) -> Model:
    """The model of a body and an output layer.  tied: the output layer is the embedding of the trunk."""
    classes = body.config.classes
    model = Model(
        Digits(classes, classes), tuple(body.config.shape), body, TokenHead(Digits(classes, classes), out, never)
    )
    if tied:
        tie(model)
    return model


def tie(model: Model) -> None:
    """Let the output layer be the embedding."""
    model.head.out.weight = model.body.trunk.embedding.weight  # type: ignore[union-attr]


def is_tied(model: Model) -> bool:
    """Whether the output layer is the embedding."""
    return model.head.out.weight is model.body.trunk.embedding.weight  # type: ignore[union-attr]


def settings_of(kind: type[T], values: Mapping[str, Any], tensors: int) -> T:
    """The settings in a config.json that a dataclass names; the others are of no concern here.

    tensors: how many the files hold, an upper bound on the layers.
    Raises ArdmError where one is missing, of another type, or out of range.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and values.get(f.name) is None]
    if missing:
        raise ArdmError(f"config.json has no {', '.join(missing)}")
    found = from_values(
        kind, {f.name: values[f.name] for f in fields if values.get(f.name) is not None}, "config.json: "
    )
    for f in fields:
        value = getattr(found, f.name)
        if isinstance(value, int) and not isinstance(value, bool):
            most = tensors if f.name in ("n_layers", "n_blocks", "num_hidden_layers") else MOST
            if number(value, f"config.json: {f.name}", 0) > most:
                raise ArdmError(f"config.json: {f.name} is {value}, and may be at most {most}")
    return found


def refuse_unless(right: bool, what: str) -> None:
    """Raise ArdmError unless a config.json is of the kind that is read here."""
    if not right:
        raise ArdmError(f"config.json: {what}, which the published models do not have and ardm does not compute")


def refuse_heads(width: int, heads: int, shared: int = 1) -> None:
    """Raise ArdmError unless heads divide the width into pairs, and share keys evenly."""
    if min(heads, shared) < 1 or width % (2 * max(heads, 1)) or heads % max(shared, 1):
        raise ArdmError(f"config.json: {heads} heads, {shared} of keys, do not fit a width of {width}")
