"""The contract: a state in, a prediction out that is asked at sites.

    prediction = model(state)
    prediction[sites]                    # (N, b) logits of the next digits, for drawing and coding
    prediction.log_prob(sites, digit)    # (N,) nats of known digits, for training and scoring
    prediction.probabilities(sites)      # (N, b), for temperatures and adaptive plans

This is all that the method knows about networks.  The head, and as much of the network as possible, runs at the asked
sites only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from ardm.digits import Alphabet, Partial, Sites
from ardm.features import Features, FeaturesAt
from ardm.heads import TOGETHER, Head
from ardm.precision import finely, mixed, widened


class PredictionLike(Protocol):
    """What plans, sources and losses ask of a prediction: two methods."""

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b): logits of the next digits."""

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probabilities in nats of the next digits (N,)."""


class QuantilePrediction(PredictionLike, Protocol):
    """A prediction that can also invert its cdf, without listing all digits."""

    @property
    def by_quantile(self) -> bool:
        """Whether drawing should use `quantile`, because there are too many digits to list."""

    def quantile(self, sites: Sites, u: Tensor) -> Tensor:
        """(N,): the digits at which the cdf passes u (N,) in [0, 1); −1 where there is no distribution."""


def has_quantile(prediction: PredictionLike) -> TypeGuard[QuantilePrediction]:
    """Whether drawing should use the `quantile` of a prediction; False for one that has none."""
    return bool(getattr(prediction, "by_quantile", False))


def numbers(prediction: PredictionLike) -> int:
    """How many numbers a prediction computes for each site, at most; 1 where it does not say."""
    return int(getattr(prediction, "numbers", 1))


def known_digits(prediction: PredictionLike, sites: Sites) -> Tensor | int:
    """(N,): how many digits of the sites are known in the `state` of a prediction; 0 for one without a state."""
    state = getattr(prediction, "state", None)
    return 0 if state is None else sites.of(state.depth)


def in_parts(prediction: PredictionLike, sites: Sites, work: Callable[[Sites, slice], Tensor]) -> Tensor:
    """(N,): what `work` finds for some of the sites at a time, and where these stand among all.

    A part has `TOGETHER` numbers of the head, or one site; a prediction that does not say how many `numbers` it computes for
    a site is asked at all sites at once.  Results are written into one tensor: many small ones, allocated between large
    ones, would fragment the memory.
    """
    size, found = max(1, TOGETHER // numbers(prediction)), None
    for a in range(0, max(len(sites), 1), size):
        rows = slice(a, a + size)
        part = work(Sites(sites.index[rows], sites.sites), rows)
        found = part.new_empty(len(sites)) if found is None else found
        found[rows] = part
    assert found is not None
    return found


def probabilities(prediction: PredictionLike, sites: Sites) -> Tensor:
    """(N, b), in float64 where there is one: probabilities of the next digits; NaN where there is no distribution.

    From the method of this name, or from the logits of a prediction that has none.
    """
    known = getattr(prediction, "probabilities", None)
    return known(sites) if known else finely(prediction[sites]).softmax(-1)


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Within the block a network is in evaluation mode, without dropout; after it each module has the mode that it had."""
    modules = [m for m in network.modules() if m.training] if isinstance(network, nn.Module) else []
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module in modules:
            module.training = True


class AnyModel(Protocol):
    """What the walk, the losses and the codec ask of a model."""

    @property
    def digits(self) -> Alphabet:
        """How values are refined."""

    def __call__(self, state: Partial, context: Tensor | None = None) -> PredictionLike:
        """The prediction for a state."""


@runtime_checkable
class ScoresAll(Protocol):
    """A model that scores every position along one order in one pass: the autoregressive baselines."""

    @property
    def digits(self) -> Alphabet:
        """How values are refined."""

    def nats(self, x: Tensor, rank: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """(B, D): −log p in nats of each site given the sites of smaller rank."""


class Prediction:
    """The distributions of the next digits, computed at the sites that are asked.

    A complete site has no next digit: never ask there.
    state: what the distributions are given.  bf16: whether the network multiplies in bfloat16.
    """

    def __init__(self, features: FeaturesAt, state: Partial, head: Head, bf16: bool = False) -> None:
        self._features, self.state, self._head, self._bf16 = features, state, head, bf16

    def _at(self, sites: Sites) -> tuple[Features, Tensor, Tensor, Tensor]:
        """Features, value, depth and position at the sites."""
        position = sites.position
        value, depth = sites.of(self.state.value), sites.of(self.state.depth)
        with mixed(position.device, self._bf16):
            return self._features(sites.batch_index, position), value, depth, position

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b): logits of the next digits; −inf where no value follows."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):  # heads keep full precision in mixed runs
            return widened(self._head.logits(features, value, depth, position))

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probabilities in nats of the next digits (N,)."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):
            return widened(self._head.log_prob(features, value, depth, digit, position))

    @property
    def by_quantile(self) -> bool:
        """Whether drawing should use `quantile`, because there are too many digits to list."""
        return self._head.by_quantile

    def quantile(self, sites: Sites, u: Tensor) -> Tensor:
        """(N,): the digits at which the cdf passes u (N,) in [0, 1); −1 where there is no distribution."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):
            return self._head.quantile(features, value, depth, u, position)

    @property
    def numbers(self) -> int:
        """How many numbers the head computes for each site, at most."""
        return self._head.numbers

    def probabilities(self, sites: Sites) -> Tensor:
        """(N, b), in float64 where there is one: probabilities of the next digits; NaN where there is no distribution."""
        features, value, depth, position = self._at(sites)
        with torch.autocast(sites.index.device.type, enabled=False):
            return self._head.probabilities(features, value, depth, position)


class Wrapped:
    """A prediction around another one, which says how both are computed.  state: as for `PredictionLike`."""

    def __init__(self, prediction: PredictionLike, state: Partial) -> None:
        self._prediction, self.state = prediction, state

    @property
    def numbers(self) -> int:
        """How many numbers are computed for each site, at most; 1 where the prediction does not say."""
        return numbers(self._prediction)

    @property
    def by_quantile(self) -> bool:
        """Whether drawing should use `quantile`."""
        return has_quantile(self._prediction)


class Among(Wrapped):
    """The prediction for some items of a batch, asked at sites of the whole batch.

    items: (n,), ascending, the items that were shown to the model.  state: that of the whole batch.
    """

    def __init__(self, prediction: PredictionLike, items: Sequence[int], state: Partial) -> None:
        super().__init__(prediction, state)
        self._items = items

    def _there(self, sites: Sites) -> Sites:
        """The same sites, numbered among the shown items."""
        rows = torch.zeros(self.state.batch, dtype=torch.long, device=sites.index.device)
        rows[torch.tensor(self._items, device=rows.device)] = torch.arange(len(self._items), device=rows.device)
        return Sites(rows[sites.batch_index] * sites.sites + sites.position, sites.sites)

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b): logits of the next digits."""
        return self._prediction[self._there(sites)]

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probabilities in nats of the next digits (N,)."""
        return self._prediction.log_prob(self._there(sites), digit)

    def probabilities(self, sites: Sites) -> Tensor:
        """(N, b): probabilities of the next digits."""
        return probabilities(self._prediction, self._there(sites))

    def quantile(self, sites: Sites, u: Tensor) -> Tensor:
        """(N,): the digits at which the cdf passes u (N,) in [0, 1)."""
        assert has_quantile(self._prediction)
        return self._prediction.quantile(self._there(sites), u)


class Model(nn.Module):
    """A body (state, context → features at sites) and a head (features → distributions of digits).

    shape: of one item.  body: a module called with (state, context) that returns a function
    (batch_index (N,), position (N,)) → `Features`.  rates: whether it also has a rate for each site (`ardm.rates`), all equal
    at first.
    bf16: whether the body multiplies in bfloat16, with sums and the head in float32 (`Bundle.with_precision`).  It belongs to
    the model, so that whatever draws, scores or plans asks the same function.
    """

    bf16 = False

    def __init__(
        self, digits: Alphabet, shape: tuple[int, ...], body: nn.Module, head: Head, rates: bool = False
    ) -> None:
        super().__init__()
        self.digits, self.shape, self.body, self.head = digits, shape, body, head
        self.log_rates = nn.Parameter(torch.zeros(tuple(shape), device=torch.get_default_device())) if rates else None

    @property
    def rates(self) -> Tensor | None:
        """(*shape): the rates of the model's orders, of geometric mean 1, with gradient; None: all orders are alike."""
        if self.log_rates is None:
            return None
        logs = finely(self.log_rates)
        return (logs - logs.mean()).exp()

    def forward(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """The prediction for a state (B, *shape); the body gets the context unchanged."""
        with mixed(state.value.device, self.bf16):
            return Prediction(self.body(state, context), state, self.head, self.bf16)

    def with_bf16(self, on: bool) -> Model:
        """The same model, of the same weights, whose body multiplies in bfloat16 or does not."""
        made = copy(self)
        made.bf16 = on
        return made

    def walking(self) -> AnyModel:
        """The model for one walk, in which each state continues the one before; it may keep what it has computed."""
        return self


def begun(model: AnyModel) -> AnyModel:
    """A model for one walk (`Model.walking`); one that has nothing to remember is returned unchanged."""
    return model.walking() if isinstance(model, Model) else model
