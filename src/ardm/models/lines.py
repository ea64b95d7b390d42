"""The bodies of `window` and `taps`, which look at what stands near a site of a sequence and work only where asked.

An item may have any length, and any shape whose last axis is the sequence: (D,), or (1, 1, D) as files have it.
"""

from __future__ import annotations

from torch import Tensor, nn

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.features import FeaturesAt
from ardm.models.config import ModelConfig
from ardm.nets import Taps, Window
from ardm.precise import wide


def _refuse_context(context: Tensor | None) -> None:
    if context is not None:
        raise ArdmError("models of trunk window or taps take no context")


def _reach(config: ModelConfig, default: tuple[int, ...]) -> tuple[int, ...]:
    reach = config.reach or default
    if len(reach) != 2 or min(reach) < 0 or reach[0] < 2:
        raise ArdmError(f"model.reach is (sites to the left, at least 2; sites to the right); got {reach}")
    return reach


class WindowBody(nn.Module):
    """Symbols → window."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        reach = _reach(config, (20, 0))
        for code in config.hashes:
            if code < 1 or code // 10 > reach[0] or code % 10 > reach[1]:
                raise ArdmError(
                    f"model.hashes says {code}: tens are symbols to the left, ones to the right, and reach is {reach}"
                )
        if not 1 <= config.bits <= 20 or config.row < 1:
            raise ArdmError(f"model.bits lies in 1..20, and model.row is positive; got {config.bits} and {config.row}")
        self.trunk = Window(
            config.classes, config.width, config.blocks, reach, config.embedding or 16, config.hashes, config.bits, config.row,
            config.dropout,
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at the sites asked."""
        _refuse_context(context)
        symbols: Tensor = (state.value + 1) * (state.depth > 0)
        return self.trunk(symbols.flatten(1))


class TapsBody(nn.Module):
    """Samples → taps."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.classes = config.classes
        self.trunk = Taps(config.classes, config.width, config.blocks, _reach(config, (32, 0)), config.components)

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at the sites asked, and the centre of every component."""
        _refuse_context(context)
        dtype = wide(self.trunk.slow.dtype)
        known = (state.depth > 0).flatten(1).to(dtype)
        value = (2 * state.value - (self.classes - 1)).flatten(1).to(dtype)
        return self.trunk(value * known, known)
