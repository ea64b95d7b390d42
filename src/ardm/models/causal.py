"""Autoregressive baselines: one order, or any order by permuting the inputs (as XLNet).

    single   inputs shifted by one place, attention or convolutions to the left: p(x_i | x_<i), raster order only
    wave     convolutions or a recurrence over what lies before a site along wavefronts, that order only (`models.wavefront`)
    any      inputs in the order of their ranks, every token with its own place and that of the next, which it predicts

One pass scores all positions of an item: `CausalModel.nats`.  Both fit the model contract as well, so that `walk` samples
and scores with them, a single order along `plan.raster` or `plan.wavefront`, the other along any plan.  Its conditionals depend on the order
of what is known: `walk` shows it in ascending order of position, `nats` in order of rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.inputs import integers, items
from ardm.model import AnyModel, Model, Prediction
from ardm.models.body import RowBody
from ardm.models.config import ModelConfig
from ardm.models.text import refuse_length, transformer
from ardm.models.wavefront import WalkedBody, Walking
from ardm.precision import finely, mixed
from ardm.ranks import wavefront_steps


class PermutedBody(RowBody):
    """The order-agnostic causal Transformer: a sequence in the order of ranks, each token with the place of the next.

    Half of the positional width is for the current place, half for the target (section 5.1); no sequence is doubled.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.trunk = transformer(config, config.classes + 1, 0, causal=True, split=True)

    def along(self, x: Tensor, rank: Tensor, context: Tensor | None = None) -> FeaturesAt:
        """Features of every site given the sites of smaller rank: x (B, *shape), rank (B, D)."""
        refuse_length(self.config, rank.shape[1])
        condition = self.conditioned(Partial(x, torch.ones_like(x)), context, self.trunk.embedding.weight)
        order = rank.argsort(1)
        before, start = x.flatten(1).gather(1, order)[:, :-1], order.new_zeros(len(x), 1)
        rows = torch.cat([start + self.config.classes, before], 1)
        place = torch.cat([start - 1, order[:, :-1]], 1)
        h = self.trunk(rows, None, condition, place, order)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(self.trunk.read(h, batch_index, rank[batch_index, position]))

        return features

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites given all that is known, in ascending order: one sequence for each site."""
        value, known = state.value.flatten(1), state.depth.flatten(1) > 0
        D = value.shape[1]
        refuse_length(self.config, D)
        condition = self.conditioned(state, context, self.trunk.embedding.weight)
        first = torch.where(known, torch.arange(D, device=value.device), D - 1)
        order = torch.where(known, 0, 1).argsort(dim=1, stable=True)
        count, first = known.sum(1), first.gather(1, order)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            number = count[batch_index]
            longest = min(state.most, D - 1) if state.most is not None else int(number.max()) if len(number) else 0
            places = first[batch_index, :longest]  # entries beyond what is known are never read
            start = batch_index.new_zeros(len(batch_index), 1)
            rows = torch.cat([start + self.config.classes, value[batch_index].gather(1, places)], 1)
            target = torch.cat([places, start], 1).scatter(1, number[:, None], position[:, None])
            side = None if condition is None else condition[batch_index]
            h = self.trunk(rows, None, side, torch.cat([start - 1, places], 1), target)
            each = torch.arange(len(number), device=number.device)
            return Features.plain(self.trunk.read(h, each, number))

        return features


class CausalModel(Model):
    """A model that scores all positions of an item along one order, in one pass."""

    def nats(self, x: Tensor, rank: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """(B, D): −log p in nats of each site of x (B, *shape) given those of smaller rank; their sum is exact.

        rank: (D,), (B, D) or (B, *shape), the step of each site; default the order of a model of one order, else raster.
        Raises ArdmError where ranks are not an order, or not the order of the model.
        """
        x = items(x, self, lazy=True)
        rank = self.ranks(x, rank)
        prediction, sites = self._everywhere(x, rank, context)
        return -prediction.log_prob(sites, x.flatten()).view(rank.shape)

    def log_probs(self, x: Tensor, rank: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """(B, D, K), float64 where the device has it: log-probabilities of all values of each site given those of smaller rank; see `nats`."""
        x = items(x, self, lazy=True)
        rank = self.ranks(x, rank)
        prediction, sites = self._everywhere(x, rank, context)
        return finely(prediction[sites]).log_softmax(-1).view(*rank.shape, -1)

    def _everywhere(self, x: Tensor, rank: Tensor, context: Tensor | None) -> tuple[Prediction, Sites]:
        """The predictions at all sites, and these sites."""
        sites = Sites(torch.arange(x.numel(), device=x.device), rank.shape[1])
        blank = self.digits.blank(len(x), x.shape[1:], x.device)
        with mixed(x.device, self.bf16):
            return Prediction(self._features(x, rank, context), blank, self.head, self.bf16), sites

    def _features(self, x: Tensor, rank: Tensor, context: Tensor | None) -> FeaturesAt:
        """Features of all sites, asked in the order of their positions."""
        if isinstance(self.body, PermutedBody):
            return self.body.along(x, rank, context)
        if isinstance(self.body, WalkedBody):
            features = self.body.everywhere(x, context)
            return lambda batch_index, position: features
        return self.body(Partial(x, torch.ones_like(x)), context)

    @property
    def single(self) -> bool:
        """Whether it knows one order only: raster, or wavefronts."""
        return not isinstance(self.body, PermutedBody)

    def steps(self, shape: Sequence[int]) -> Tensor:
        """(D,): the step of each site of items of this shape, in the order that is used unless another is given."""
        along = wavefront_steps(shape) if isinstance(self.body, WalkedBody) else np.arange(prod(shape))
        return torch.from_numpy(along).flatten()

    def walking(self) -> AnyModel:
        """The model along one walk; along wavefronts it remembers the features of the last ones."""
        if isinstance(self.body, WalkedBody) and self.body.remembers:
            return Walking(self.body, self.head, self.bf16)
        return self

    def ranks(self, x: Tensor, rank: Tensor | None = None) -> Tensor:
        """(B, D): the step of each site of x along an order, see `nats`."""
        B, D = len(x), x[0].numel()
        own = self.steps(x.shape[1:]).to(x.device).expand(B, D)
        if rank is None:
            return own
        rank = integers(rank, "rank").to(x.device)
        rank = rank.flatten(1).expand(B, D) if rank.ndim > 1 else rank.expand(B, D)
        if torch.equal(rank, own):
            return rank
        if not torch.equal(rank.sort(1).values, torch.arange(D, device=x.device).expand(B, D)):
            raise ArdmError(f"ranks must hold each of 0..{D - 1} once per item; ranks are steps of sites")
        if self.single:
            order = "the wavefronts of plan.wavefront" if isinstance(self.body, WalkedBody) else "raster order"
            raise ArdmError(f"a model of a single order scores along {order} only")
        return rank
