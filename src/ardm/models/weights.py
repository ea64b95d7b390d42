"""Whether weights and configuration fit each other: files before memory is spent, and models before they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.exact.stores import Claims, claims
from ardm.model import Model
from ardm.models.build import build, outline
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


def refuse_foreign(model: Model, config: ModelConfig) -> None:
    """Raise ArdmError if the configuration builds a different model, which could not be loaded again."""
    fits = tuple(model.shape) == tuple(config.shape) and model.digits == config.digits
    expected = _blueprint(config) if fits else None
    same = expected is not None and all(
        type(a) is type(b) for a, b in ((model, expected), (model.body, expected.body), (model.head, expected.head))
    )
    settings = getattr(model.body, "config", config)
    if expected is None or not same or settings != config or _shapes(model) != _shapes(expected):
        raise ArdmError(
            f"this model cannot be saved: its configuration (trunk {config.trunk!r}) does not build its network, so that "
            "ardm.load could not read it. Save the weights of your network with torch.save(network.state_dict(), path) "
            "and wrap it again; or add a trunk for it to ardm.models.build.BODIES"
        )


def _blueprint(config: ModelConfig) -> Model | None:
    """The model of a configuration, without memory for its weights if its layers allow; None if it cannot be built."""
    for make in (outline, build):
        with suppress(ArdmError):
            return make(config)
    return None


def _shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def fit_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights; raises ArdmError with the names of those that do not fit."""
    refuse_shapes(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        where,
    )
    model.load_state_dict(dict(weights))


def fit_some(model: torch.nn.Module, weights: Mapping[str, Tensor], where: str) -> list[str]:
    """Load the weights that the model has in the same shape; returns the names of its other parameters, which begin anew.

    A convolution that reads more planes than the given one gives its filters to the last of them, and reads nothing of the
    others at first: bodies put the masks of further stages before that of the last, which says known in full.
    Raises ArdmError where nothing fits.
    """
    own = model.state_dict()
    found = {name: _widened(weights[name], tensor) for name, tensor in own.items() if name in weights}
    taken = {name: tensor for name, tensor in found.items() if tensor.shape == own[name].shape}
    if not taken:
        raise ArdmError(f"the weights in {where} have nothing in common with this network")
    model.load_state_dict({**own, **taken})
    return [name for name in own if name not in taken]


def _widened(given: Tensor, own: Tensor) -> Tensor:
    """Filters (P, Q, …) as those of more planes (P, Q', …), of which the last Q are read; anything else as it is."""
    if given.ndim != 4 or own.ndim != 4 or own.shape[:1] + own.shape[2:] != given.shape[:1] + given.shape[2:]:
        return given
    more = own.shape[1] - given.shape[1]
    return torch.cat([given.new_zeros(given.shape[0], more, *given.shape[2:]), given], 1) if more > 0 else given


def refuse_shapes(own: Claims, found: Claims, where: str) -> None:
    """Raise ArdmError unless the tensors found are those of the model, by name and shape."""
    wrong = [k for k in own if found.get(k) != own[k]] + [k for k in found if k not in own]
    if wrong:
        raise ArdmError(
            f"the weights in {where} do not fit its configuration: {', '.join(wrong[:3])} ({len(wrong)} in all)"
        )
