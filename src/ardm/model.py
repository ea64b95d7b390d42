"""The contract between the core and a network: a partly known state in, a prediction to ask out.

    prediction = model(state)
    prediction[sites]                    # (N, b) logits of the next digits, for drawing and coding
    prediction.log_prob(sites, digit)    # (N,) nats of told digits, for training and scoring

The core knows nothing else of networks.  The head, and whatever of the trunk can be, runs at the asked sites only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from ardm.digits import Alphabet, Partial, Sites
from ardm.heads import Head
from ardm.precise import widened

Features = tuple[Tensor, Tensor, Tensor]
"""What a head is given: features (N, F), a centre (N,) and a spread (N,) of the values near each site."""


class Asks(Protocol):
    """A prediction, whoever makes it."""

    def __getitem__(self, sites: Sites) -> Tensor: ...

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probability in nats of the told next digits."""


class AnyModel(Protocol):
    """What the walk, the objective and the codec ask of a model."""

    @property
    def digits(self) -> Alphabet:
        """How values are refined."""

    def __call__(self, state: Partial, context: Tensor | None = None) -> Asks:  # noqa: D102
        ...


class ScoresAll(Protocol):
    """A model that scores every position along one order in one pass: the autoregressive baselines."""

    @property
    def digits(self) -> Alphabet:
        """How values are refined."""

    def nats(self, x: Tensor, rank: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """(B, D): −log p of each site given those of smaller rank, in nats."""


class Prediction:
    """What comes next, everywhere: ask it at sites.  Undefined at complete sites, so those are never asked."""

    def __init__(self, features: Callable[[Tensor, Tensor], Features], state: Partial, head: Head) -> None:
        self._features, self._state, self._head = features, state, head

    def _at(self, sites: Sites) -> tuple[Features, Tensor, Tensor, Tensor | None]:
        position = sites.position
        value, depth = sites.of(self._state.value), sites.of(self._state.depth)
        return self._features(sites.lane, position), value, depth, position if self._head.placed else None

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b): logits of the next digits; −inf where no value follows."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):  # heads keep full precision in mixed runs
            if position is None:
                return widened(self._head.logits(features, value, depth))
            return widened(self._head.logits(features, value, depth, position))

    @property
    def wide(self) -> bool:
        """Whether drawing goes by `quantile`, since listing all digits would be a waste."""
        return self._head.wide

    def quantile(self, sites: Sites, u: Tensor) -> Tensor:
        """(N,): the digits at which the cdf passes u (N,); of wide heads."""
        features, value, depth, _ = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):
            return self._head.quantile(features, value, depth, u)  # type: ignore[operator]

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probability in nats of the next digits (N,)."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):
            return widened(self._head.log_prob(features, value, depth, digit, position))


class Model(nn.Module):
    """A body (state, context → features at the sites asked) and a head (features → digits).

    body: a module called with (state, context) that returns a function (lane (N,), position (N,)) → Features.
    shape: of the items it is made for.
    """

    def __init__(self, digits: Alphabet, shape: tuple[int, ...], body: nn.Module, head: Head) -> None:
        super().__init__()
        self.digits, self.shape, self.body, self.head = digits, shape, body, head

    def forward(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """state: (B, *shape); context: whatever the body takes, passed through untouched."""
        return Prediction(self.body(state, context), state, self.head)
