"""Classifier-free guidance: a model made of one model and two contexts.

    log p̃(x | c) = (1 + w) · log p(x | c) − w · log p(x | ∅) − log Z        for each site and digit, given what is known

(Ho & Salimans 2022, "Classifier-free diffusion guidance", equation 6, for the distributions of discrete digits; w + 1 is the
γ of Schiff et al. 2024.)  Z normalises the digits of each site, so that a guided model is a model as any other: it samples,
fills in, codes, and has bounds and exact likelihoods, which are those of the guided model.  It is not the distribution
∝ p(x | c)^(1+w) p(x)^(−w) of whole items, whose normaliser nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ardm.api import Array, bundle_of
from ardm.bundle import Bundle
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.inputs import context as context_of
from ardm.model import Model, Prediction, in_parts
from ardm.models.config import ModelConfig
from ardm.models.context import Condition
from ardm.precision import finely


def guided(model: Bundle | Model, scale: float, negative: Array | None = None) -> Bundle:
    """The guided model, for `ardm.sample`, `fill` and `score` with a context; it costs two network calls for each of theirs.

    scale: w; 0 is the model given the context, −1 the model without it, and above 0 the context counts for more.
    negative: the label or the vector (V,) of all items in the place of ∅; default no context, which is what a model learns
    from `train.label_dropout`.
    Its losses are not those of the model, so that it has no loss curve: until you measure one (`likelihood.curve`), random
    orders are planned in even steps.
    Raises ArdmError for a scale that is no finite number, for a model that takes no context, and where ∅ was not learned.
    """
    bundle = bundle_of(model)
    return replace(bundle, model=Guided(bundle.model, scale, negative), curve=None)


class Guided(Model):
    """The model of this module; see `guided`."""

    def __init__(self, model: Model, scale: float, negative: Array | None = None) -> None:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
            raise ArdmError(f"the scale of guidance must be a finite number; got {scale!r}")
        if isinstance(model, Guided):
            raise ArdmError("this model is guided already; guide the model that it was made of")
        _refuse_unlearned(model, negative)
        super().__init__(model.digits, model.shape, model, model.head)
        self.log_rates, self.bf16 = model.log_rates, model.bf16
        if (within := getattr(model, "within", None)) is not None:
            self.within = within  # what is counted of items with an end
        self.scale = float(scale)
        self.negative = None if negative is None else context_of(_of_one(negative), 1)

    def with_bf16(self, on: bool) -> Model:
        """The same, made of the model that multiplies in bfloat16 or does not."""
        made, guides = super().with_bf16(on), self.body
        assert isinstance(guides, Model)
        made._modules = {
            **self._modules,
            "body": guides.with_bf16(on),
        }  # the copy shares this dictionary with its original
        return made

    def forward(self, state: Partial, context: Tensor | None = None) -> Prediction:
        """The prediction for a state (B, *shape), given context (B, …)."""
        if context is None:
            raise ArdmError("guidance needs a context: give a label or vectors (context, or --label)")
        other = self.negative
        if other is not None:
            other = other.to(context.device).expand(state.batch, *other.shape[1:])
        return GuidedPrediction(self.body(state, context), self.body(state, other), self.scale)


class GuidedPrediction(Prediction):
    """The guided distributions, from the predictions with and without the context."""

    def __init__(self, given: Prediction, without: Prediction, scale: float) -> None:
        self.state = given.state
        self._given, self._without, self._scale = given, without, scale

    def __getitem__(self, sites: Sites) -> Tensor:
        """(N, b), float64 where the device has it: log-probabilities of the next digits; −inf where no value follows."""
        given, without = (finely(p[sites]).log_softmax(-1) for p in (self._given, self._without))
        return guide(given, without, self._scale).log_softmax(-1)

    def log_prob(self, sites: Sites, digit: Tensor) -> Tensor:
        """(N,), likewise: log-probabilities in nats of the next digits (N,), for some sites at a time."""
        return in_parts(self, sites, lambda part, rows: self[part].gather(1, digit[rows, None])[:, 0])

    by_quantile = False

    @property
    def numbers(self) -> int:
        """How many numbers the heads compute for each site, at most."""
        return 2 * self._given.numbers

    def probabilities(self, sites: Sites) -> Tensor:
        """(N, b): probabilities of the next digits; NaN where there is no distribution."""
        return self[sites].exp()


def guide(given: Tensor, without: Tensor, scale: float) -> Tensor:
    """(1 + w) · given − w · without, for log-probabilities (N, b); a digit that either calls impossible is impossible.

    A term with the factor 0 does not count.
    """
    if scale == 0:
        return given
    if scale == -1:
        return without
    impossible = (given == -torch.inf) | (without == -torch.inf)
    return torch.where(impossible, -torch.inf, (1 + scale) * given - scale * without)


def _of_one(negative: Array) -> Array:
    """A label as it is; a vector (V,) as a batch of one."""
    return negative[None] if getattr(negative, "ndim", 0) == 1 else negative


def _refuse_unlearned(model: Model, negative: Array | None) -> None:
    """Raise ArdmError for a model that takes no context, or has not learned to do without one."""
    config, condition = (getattr(model.body, name, None) for name in ("config", "condition"))
    if not isinstance(config, ModelConfig):
        return  # a network of the user's
    if not config.labels and not config.vector:
        raise ArdmError("this model takes no context, and there is nothing to guide it by: train one with labels")
    if negative is None and config.vector and not config.labels:
        raise ArdmError(
            "this model has not learned to do without its vector: give a negative one, negative=vector (V,)"
        )
    if negative is None and isinstance(condition, Condition) and condition.required:
        raise ArdmError(
            "this model was trained with a label for every item, and has not learned to do without: train with "
            "train.label_dropout, or give a negative label, negative=0 for example"
        )
