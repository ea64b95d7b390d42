"""What a config.json says, checked; and a model of a body and an output layer, whose weights may be tied."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from torch import nn

from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.inputs import number
from ardm.model import Model
from ardm.models.tokens import TokenBody, TokenHead
from ardm.settings import from_values

T = TypeVar("T")
MOST = 1 << 24
"""The largest whole number in a config.json, which may come from anybody."""


def assembled(body: TokenBody, out: nn.Linear, never: Collection[int] = (), tied: bool = False) -> Model:
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
    if min(width, heads, shared) < 1 or width % (2 * heads) or heads % shared:
        raise ArdmError(f"config.json: {heads} heads, {shared} of keys, do not fit a width of {width}")
