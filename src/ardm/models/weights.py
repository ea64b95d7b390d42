"""Whether a file or a dictionary of weights fits a configuration, before memory is spent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.exact.stores import Claims, claims
from ardm.models.build import outline
from ardm.models.config import ModelConfig
from ardm.precision import pytorch_defaults

MAX_WEIGHTS = 1 << 33
"""The largest size in bytes of the weights in memory."""


def refuse_size(path: Path, config: ModelConfig) -> None:
    """Raise ArdmError, before any weight is allocated, if the file does not hold the weights that the configuration needs."""
    found, where = claims(path), str(path.parent)
    if config.blocks * config.levels > len(found):
        raise ArdmError(
            f"the weights in {where} do not fit its configuration: {config.blocks} blocks have more tensors"
        )
    with pytorch_defaults():
        sketch = outline(config)
    refuse_shapes({name: tuple(tensor.shape) for name, tensor in sketch.state_dict().items()}, found, where)
    size = sum(t.numel() * t.element_size() for t in (*sketch.parameters(), *sketch.buffers()))
    if size > MAX_WEIGHTS:
        raise ArdmError(f"the model in {where} takes {size} bytes; the limit is {MAX_WEIGHTS}")


def fit_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights; raises ArdmError with the names of those that do not fit."""
    refuse_shapes(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        where,
    )
    model.load_state_dict(dict(weights))


def refuse_shapes(own: Claims, found: Claims, where: str) -> None:
    """Raise ArdmError unless the tensors found are those of the model, by name and shape."""
    wrong = [k for k in own if found.get(k) != own[k]] + [k for k in found if k not in own]
    if wrong:
        raise ArdmError(
            f"the weights in {where} do not fit its configuration: {', '.join(wrong[:3])} ({len(wrong)} in all)"
        )
