"""Sequences with an end: the last class ends an item, and everything behind it is the end again.

An item of n < D symbols is x_1 … x_n, and then D − n times the end.  Two rules make this a distribution over texts of all lengths,
in every order, which a network that is free to put symbols behind an end would not be:

    behind a known end            the end has probability 1: it costs nothing
    before a known other symbol   the end has probability 0

Whatever is known of an item, some item fits it, so that along a plan of one site a step the probabilities of all texts sum to 1.
Of sites that a step reveals together, one may become an end and one behind it a symbol: `closed` cuts the item at its first end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.model import Model, Prediction, in_parts
from ardm.models.causal import CausalModel
from ardm.precision import finely


def behind_end(x: Tensor, end: int) -> Tensor:
    """(B, D) bool: the sites of x (B, D) behind the first end of their item."""
    return _before(x == end)


def closed(x: Tensor, end: int) -> Tensor:
    """x (B, D), in which everything behind the first end of an item is the end."""
    return x.masked_fill(behind_end(x, end), end)


def refuse_open(x: Tensor, end: int, name: str, known: Tensor | None = None) -> None:
    """Raise ArdmError where something follows the end of an item x (B, D); known (B, D) bool: looking at these sites alone."""
    known = torch.ones_like(x, dtype=torch.bool) if known is None else known
    wrong = (_before((x == end) & known) & (x != end) & known).nonzero()
    if len(wrong):
        item, site = wrong[0].tolist()
        raise ArdmError(
            f"item {item} of {name} has the value {int(x[item, site])} at {site}, behind its end: the last class, {end}, ends an "
            "item, and fills what is behind it"
        )


def _before(mask: Tensor) -> Tensor:
    """(B, D) bool: whether the mask (B, D) is true at an earlier site."""
    return mask.cumsum(1, dtype=torch.int32) - mask.int() > 0


class Ending(Prediction):
    """The distributions of a prediction under the two rules; state: one digit a site, (B, D).

    ended, inside: (B, D) bool, whether a site is behind a known end, and before another known symbol.
    """

    by_quantile = False

    def __init__(self, prediction: Prediction, ended: Tensor, inside: Tensor) -> None:
        self.state, self._prediction, self._ended, self._inside = prediction.state, prediction, ended, inside

    @classmethod
    def of(cls, prediction: Prediction, state: Partial, end: int) -> Ending:
        """Under what a state says."""
        known, last = state.depth > 0, state.value == end
        inside = _before((known & ~last).flip(1)).flip(1)
        return cls(prediction, _before(known & last), inside)

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, K): logits; −inf for what is impossible."""
        logits = self._prediction[sites]
        last = torch.arange(logits.shape[1], device=logits.device) == logits.shape[1] - 1
        ended, inside = (sites.of(v)[:, None] for v in (self._ended, self._inside))
        return logits.masked_fill(torch.where(ended, ~last, inside & last), -torch.inf)

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,): log-probabilities in nats of symbols (N,), for some sites at a time."""

        def scored(part: Sites, rows: slice) -> Tensor:
            return self[part].log_softmax(-1).gather(1, digit[rows, None])[:, 0]

        return in_parts(self, sites, scored)

    @property
    def numbers(self) -> int:
        """How many numbers the head computes for each site, at most."""
        return self._prediction.numbers

    def probabilities(self, sites: Sites) -> Tensor:
        """(N, K): probabilities of the next symbols; NaN where there is no distribution."""
        return finely(self[sites]).softmax(-1)


class EndingModel(Model):
    """A model of any order whose last class ends an item."""

    def forward(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """The prediction for a state (B, D)."""
        return Ending.of(super().forward(state, context), state, self.digits.classes - 1)

    def within(self, x: Tensor) -> Tensor:
        """(B, D) bool: the symbols of items x (B, D) and their first end, which alone are counted."""
        return ~behind_end(x, self.digits.classes - 1)


class EndingCausalModel(CausalModel):
    """A model of raster order whose last class ends an item."""

    def forward(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """The prediction for a state (B, D)."""
        return Ending.of(super().forward(state, context), state, self.digits.classes - 1)

    def within(self, x: Tensor) -> Tensor:
        """(B, D) bool: the symbols of items x (B, D) and their first end, which alone are counted."""
        return ~behind_end(x, self.digits.classes - 1)

    def _everywhere(self, x: Tensor, rank: Tensor, context: Tensor | None) -> tuple[Prediction, Sites]:
        prediction, sites = super()._everywhere(x, rank, context)
        ended = behind_end(x, self.digits.classes - 1)
        return Ending(prediction, ended, torch.zeros_like(ended)), sites
