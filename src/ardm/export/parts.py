"""The parts of a model, as the kinds that exporters can handle."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import nn

from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.export.quantise import Floats, floats
from ardm.model import Model

Kind = TypeVar("Kind")


def expected(part: object, kind: type[Kind], name: str) -> Kind:
    """A part of a network as the kind it has to be.  Raises ArdmError for another kind; name: what it is."""
    if not isinstance(part, kind):
        raise ArdmError(
            f"{name} is a {type(part).__name__}, which cannot be exported here: a {kind.__name__} is needed"
        )
    return part


def trunk_of(model: Model) -> nn.Module | None:
    """The network of a model that is put together by recipe; None for others."""
    trunk = getattr(model.body, "trunk", None)
    return trunk if isinstance(trunk, nn.Module) else None


def digits_of(model: Model) -> Digits:
    """The digits of a model.  Raises ArdmError for user-defined maps."""
    return expected(model.digits, Digits, "the alphabet of the model")


def output_of(model: Model) -> nn.Linear:
    """The last layer of a model, which makes the parameters of its head."""
    return expected(getattr(model.head, "out", None), nn.Linear, "the last layer of the model")


def affine_of(layer: nn.Linear) -> tuple[Floats, Floats]:
    """The weight (O, I) and the bias (O,) of a linear layer; 0 where it has no bias."""
    return floats(layer.weight), np.zeros(layer.out_features) if layer.bias is None else floats(layer.bias)
