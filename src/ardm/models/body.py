"""What the bodies share: context, embedding rows of values, and the rules of models of a single order.

A body turns a state into the input of a network, and its output into features at sites.  Each reads the state only,
which holds nothing that is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ardm.digits import Digits, Partial, powers
from ardm.errors import ArdmError
from ardm.models.config import ModelConfig
from ardm.models.context import Condition, no_context


class Body(nn.Module):
    """The base of all bodies that take context.

    width: of the vector that context becomes; 0: that of the network.
    """

    def __init__(self, config: ModelConfig, width: int = 0) -> None:
        super().__init__()
        self.config, self.digits = config, config.digits
        conditional = bool(config.labels or config.vector or config.time)
        self.condition_width = (width or config.width) if conditional else 0
        self.condition = Condition(config, self.condition_width) if conditional else None

    def conditioned(self, state: Partial, context: Tensor | None, like: Tensor) -> Tensor | None:
        """(B, condition_width) in the dtype of like, from the context and from how much is known; None: unconditional.

        Raises ArdmError for context given to an unconditional model.
        """
        if self.condition is not None:
            return self.condition(state.depth, context, like)
        if context is not None:
            raise no_context()
        return None


def centred(state: Partial, digits: Digits, dtype: torch.dtype) -> Tensor:
    """The centre of the values that each site may still take, on the scale of [−1, 1]: 0 where nothing is known."""
    S, K = len(digits), digits.classes
    spare = torch.minimum(powers(digits.base, S - state.depth), K - state.value) - 1
    return 2 * (state.value + spare.to(dtype) / 2) / (K - 1) - 1


class RowBody(Body):
    """The base of bodies that embed values: one table of K values and "unknown", or one table for each column."""

    limit: Tensor
    offset: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.tabular = bool(config.columns) or config.trunk == "mlp"
        if self.tabular:
            limits = torch.tensor(config.limits)
            self.register_buffer("limit", limits, persistent=False)
            self.register_buffer("offset", limits.cumsum(0) - limits, persistent=False)

    @property
    def number_of_rows(self) -> int:
        """How many rows the embedding needs."""
        return sum(self.config.limits) + self.config.sites if self.tabular else self.config.classes + 1

    @property
    def stages(self) -> int:
        """Rows of an embedding of depths; 0 where a site is either known or unknown."""
        return len(self.digits) + 1 if len(self.digits) > 1 else 0

    def rows(self, state: Partial) -> Tensor:
        """(B, D): the embedding row of every site."""
        value, known = state.value.flatten(1), state.depth.flatten(1) > 0
        if not self.tabular:
            return torch.where(known, value, self.config.classes)
        if value.shape[1] != len(self.offset):
            raise ArdmError(f"this model is for items of {len(self.offset)} columns; got {value.shape[1]}")
        unknown = sum(self.config.limits) + torch.arange(value.shape[1], device=value.device)
        possible = torch.minimum(value, self.limit - 1)  # else an impossible value would read the next column's rows
        return torch.where(known, self.offset + possible, unknown)


# --- a single order: raster, or wavefronts ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefix:
    """What is known of each item of a batch, along the one order of a model.

    when: (D,), the step of each site.  plan: the function that makes the order's plan.
    first: (B,), the step of the first site that is not known; D · D if all are.  site: (B,), that site.
    after: (B,) bool, is a site of a later step known?
    """

    when: Tensor
    plan: str
    first: Tensor
    site: Tensor
    after: Tensor

    @classmethod
    def of(cls, state: Partial, when: Tensor | None = None) -> Prefix:
        """The prefix of a state, in raster order or along the wavefronts whose steps are given, (D,)."""
        known = state.depth.flatten(1) > 0
        D, name = known.shape[1], "raster" if when is None else "wavefront"
        when = torch.arange(D, device=known.device) if when is None else when
        first, site = when.expand_as(known).masked_fill(known, D * D).min(1)
        return cls(when, name, first, site, (known & (when > first[:, None])).any(1))

    def guarded(self, hidden: Tensor, batch_index: Tensor, position: Tensor) -> Tensor:
        """hidden (N, F), features of sites; ArdmError unless all sites before the asked ones are known, and none after.

        On a GPU, where looking means waiting, the features of such sites become NaN instead: they have no distribution, and
        the walk reports them (`faults`).
        """
        early, late = self.when[position] > self.first[batch_index], self.after[batch_index]
        if hidden.device.type != "cpu":
            return hidden.masked_fill((early | late)[:, None], torch.nan)
        if early.any():
            gap, asked = int(self.site[batch_index][early][0]), int(position[early][0])
            raise ArdmError(
                f"a model of a single order was asked for site {asked}, but site {gap} before it is not known; walk along "
                f"plan.{self.plan}, or use a model of any order"
            )
        if late.any():
            raise ArdmError(
                f"a model of a single order ignores what follows, but a site after the unknown site "
                f"{int(self.site[batch_index][late][0])} is known; leave everything after the first unknown site unknown, or "
                "use a model of any order"
            )
        return hidden


def shifted(x: Tensor, start: float) -> Tensor:
    """x (…, L) shifted by one place: the value before each place, `start` before the first."""
    return torch.cat([torch.full_like(x[..., :1], start), x[..., :-1]], -1)
