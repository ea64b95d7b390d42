"""Output families: features at the asked sites → next-digit logits, and log-probabilities of told digits.

Three families, one contract: `logits` gives all b digits (N, b), for drawing and coding; `log_prob` gives one (N,),
for training and scoring, and for the mixture needs two cdf values instead of K classes.  A fourth, for tables, knows
how many values each column can take; a fifth is a softmax of very many classes in two parts.
All of them compute in float32 at least, whatever the dtype of features and weights: see `precise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.digits import Alphabet, Digits
from ardm.errors import ArdmError
from ardm.precise import full, wide, widened


class Head(nn.Module):
    """The contract.  A head is given features (N, F), a centre and a spread (N,), and the state at the sites (N,).

    position: (N,), where the sites lie in their items, for families that differ from site to site (`placed`).
    """

    placed = False
    wide = False
    """Whether so many digits may follow that drawing one goes by `quantile`, without listing them."""

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        self.alphabet = alphabet

    def logits(
        self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N, b) logits of the next digit; −inf where no value follows."""
        raise NotImplementedError  # abstract: one of the three families below

    def log_prob(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        value: Tensor,
        depth: Tensor,
        digit: Tensor,
        position: Tensor | None = None,
    ) -> Tensor:
        """(N,) log-probability in nats of the told digit."""
        return widened(self.logits(features, value, depth, position)).log_softmax(-1).gather(1, digit[:, None])[:, 0]


def _output(width: int, outputs: int) -> nn.Module:
    """A linear layer that is zero at the start; of width 0, none: the features are the outputs."""
    if not width:
        return nn.Identity()
    out = nn.Linear(width, outputs)
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    return out


class DigitHead(Head):
    """The direct parametrisation: a softmax over the b digits of each stage, S·b outputs (section 3.2).

    width: F, of the features; 0: they are the outputs themselves.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        self.out = _output(width, len(alphabet) * alphabet.base)

    def logits(
        self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """The slice of the current stage."""
        S, b = len(self.alphabet), self.alphabet.base
        all_stages = full(self.out, features[0]).view(-1, S, b)
        here = all_stages.gather(1, depth.clamp(max=S - 1)[:, None, None].expand(-1, 1, b))[:, 0]
        return here.masked_fill(~self.alphabet.possible(value, depth), -torch.inf)


class ValueHead(Head):
    """The data parametrisation: a softmax θ over the K values; digits are sums of blocks of it (section 3.2).

    width: F, of the features; 0: they are θ themselves.  Within a block of values none of which can be, all logits are
    −inf, and every told digit has the log-probability −inf.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        self.out = _output(width, alphabet.classes)

    def logits(
        self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """Block log-sum-exp of θ."""
        return self.alphabet.children(self._theta(features, value, position), value, depth)

    def log_prob(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        value: Tensor,
        depth: Tensor,
        digit: Tensor,
        position: Tensor | None = None,
    ) -> Tensor:
        """As of `logits`; −inf in a block that cannot be."""
        theta = self._theta(features, value, position)
        logits = self.alphabet.children(theta, value, depth)
        told = logits.log_softmax(-1).gather(1, digit[:, None])[:, 0]
        if len(self.alphabet) == 1:
            return told
        nowhere = (logits.detach().amax(-1) == -torch.inf) & theta.detach().amax(-1).isfinite()
        return told.masked_fill(nowhere, -torch.inf)

    def _theta(self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, position: Tensor | None) -> Tensor:
        """(N, K) log-weights of the values."""
        return full(self.out, features[0])


class ColumnHead(ValueHead):
    """The data parametrisation where site d takes only the values 0..limits[d]−1: the others have no probability.

    The features are θ (N, K) themselves, since the weights of a column are its own; what they say beyond its limit is
    not looked at.
    """

    limits: Tensor
    placed = True

    def __init__(self, alphabet: Alphabet, limits: Sequence[int]) -> None:
        super().__init__(alphabet, 0)
        self.register_buffer("limits", torch.tensor(limits), persistent=False)

    def _theta(self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, position: Tensor | None) -> Tensor:
        """Log-weights of the values that the column has; −inf of the others."""
        if position is None:
            raise ArdmError("the columns of a table differ: say the position of each site")
        theta = widened(features[0])
        limit = self.limits[position][:, None]
        beyond = torch.arange(theta.shape[1], device=theta.device) >= limit
        beyond &= value[:, None] < limit  # after a digit that cannot be, which cost ∞, any digit does
        return theta.masked_fill(beyond, -torch.inf)


WIDE = 1 << 10
"""Digits beyond which a mixture or a chain is not listed to draw from it."""


class ChainHead(Head):
    """A softmax of the high part of a value, then one of the low part given it: 2·√K outputs where K were too many.

    Values v = high · r + low with r = ⌈√K⌉ are told whole, so that there is no stage to refine: for 16-bit sound it is
    the control that has the upscaling ARDM's softmaxes of 256 without its stages.
    width: F, of the features.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        if len(alphabet) > 1:
            raise ArdmError("head chain tells values whole: leave base at 0, or take head digits")
        self.root = math.isqrt(alphabet.classes - 1) + 1
        self.wide = alphabet.base > WIDE
        self.high, self.low = _output(width, self.root), _output(width, self.root)
        self.given = nn.Embedding(self.root, width)

    def _high(self, h: Tensor) -> Tensor:
        """(N, r) log-probabilities of the high part."""
        beyond = torch.arange(self.root, device=h.device) * self.root >= self.alphabet.classes
        return full(self.high, h).masked_fill(beyond, -torch.inf).log_softmax(-1)

    def _low(self, h: Tensor, high: Tensor) -> Tensor:
        """(…, r) log-probabilities of the low part given high parts (…)."""
        beyond = high[..., None] * self.root + torch.arange(self.root, device=h.device) >= self.alphabet.classes
        return full(self.low, F.silu(widened(h) + self.given(high))).masked_fill(beyond, -torch.inf).log_softmax(-1)

    def logits(
        self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N, K) log-probabilities of all values: r² evaluations a site, so drawing from many goes by `quantile`."""
        h, used = features[0], -(-self.alphabet.classes // self.root)
        every = torch.arange(used, device=h.device).expand(len(h), -1)
        both = self._high(h)[:, :used, None] + self._low(h[:, None], every)
        return both.flatten(1)[:, : self.alphabet.classes]

    def log_prob(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        value: Tensor,
        depth: Tensor,
        digit: Tensor,
        position: Tensor | None = None,
    ) -> Tensor:
        """Two softmaxes of r."""
        h, high = features[0], digit // self.root
        first = self._high(h).gather(1, high[:, None])
        return (first + self._low(h, high).gather(1, (digit % self.root)[:, None]))[:, 0]

    def quantile(self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, u: Tensor) -> Tensor:
        """(N,) values: the first whose cdf passes u (N,) in [0, 1), −1 where there is none; in float64."""
        h, parts = features[0], list[Tensor]()
        for part in range(2):
            p = (self._low(h, parts[0]) if part else self._high(h)).double().exp()
            cdf = p.cumsum(-1)
            last = p.shape[1] - 1 - (p > 0).flip(-1).int().argmax(-1)  # what u passes by rounding is the last there is
            found = (cdf <= u[:, None]).sum(-1).minimum(last)
            mass = p.gather(1, found[:, None])[:, 0]
            u = ((u - cdf.gather(1, found[:, None])[:, 0] + mass) / mass).clamp(0.0, 1.0)
            parts.append(found)
        return (parts[0] * self.root + parts[1]).masked_fill(u.isnan(), -1)


BEYOND = 1e6
"""A cdf edge beyond every value at every scale, in units of the range: finite, so that gradients are."""


class MixtureHead(Head):
    """A mixture of M discretised logistics (the paper's audio models): 3·M outputs, any K.

    Means are centre + spread · output, scales spread · exp(output): the neighbours' mean and spread when the trunk
    gives them.  The mass of values a..b−1 is the difference of the cdf at the block's edges, with open tails at 0 and
    K−1.  With L(z) = log σ(z):   log(σ(zb) − σ(za)) = L(zb) + L(−za) + log(1 − exp(za − zb)),   which never cancels.
    """

    places: Tensor

    def __init__(self, alphabet: Alphabet, width: int, components: int) -> None:
        super().__init__(alphabet)
        if not isinstance(alphabet, Digits):
            raise ArdmError("a logistic mixture needs values that are ordered: use Digits, or another output family")
        self.digits, self.components = alphabet, components
        self.wide = alphabet.base > WIDE
        self.out = nn.Linear(width, 3 * components)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        places = torch.linspace(-1.5, 1.5, components) if components > 1 else torch.zeros(1)
        self.register_buffer("places", places, persistent=False)

    def _mixture(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        h, centre, spread = features
        weight, mean, scale = full(self.out, h).view(len(h), 3, self.components).unbind(1)
        centre, spread = centre.to(mean.dtype), spread.to(mean.dtype)
        centre = centre if centre.ndim == 2 else centre[:, None]  # one for each component, or for all
        mean = centre + spread[:, None] * (mean + self.places)
        inverse = torch.exp(-(scale - 0.5).clamp(-7.0, 7.0)) / spread[:, None]
        return weight.log_softmax(-1), mean, inverse

    def _edge(self, value: Tensor) -> Tensor:
        """The cdf edge below a value, values being mapped to 2x/(K−1) − 1; open tails at both ends."""
        K = self.digits.classes
        edge = (2 * value - K).to(wide(self.out.weight.dtype)) / (K - 1)
        return torch.where(value <= 0, -BEYOND, torch.where(value >= K, BEYOND, edge))

    def _mass(self, mixture: tuple[Tensor, Tensor, Tensor], low: Tensor, high: Tensor) -> Tensor:
        """log-mass of values low..high−1, each (N, j): (N, j); −inf where the block is empty."""
        weight, mean, inverse = (t[:, None] for t in mixture)
        za = (self._edge(low)[..., None] - mean) * inverse
        zb = (self._edge(high)[..., None] - mean) * inverse
        empty = low >= self.digits.classes
        gap = torch.where(empty[..., None], 1.0, zb - za)
        gap = gap.clamp(min=torch.finfo(gap.dtype).tiny)  # a mean so far off that both edges round to one number
        log_mass = F.logsigmoid(zb) + F.logsigmoid(-za) + torch.log(-torch.expm1(-gap))
        return torch.logsumexp(weight + log_mass, -1).masked_fill(empty, -torch.inf)

    def logits(
        self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """Log-masses of the b child blocks."""
        place = self.digits.place(depth)[:, None]
        low = value[:, None] + torch.arange(self.digits.base, device=value.device) * place
        return self._mass(self._mixture(features), low, low + place)

    def log_prob(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        value: Tensor,
        depth: Tensor,
        digit: Tensor,
        position: Tensor | None = None,
    ) -> Tensor:
        """log-mass of the child less log-mass of the current block: two or four cdf values a component."""
        place = self.digits.place(depth)
        mixture = self._mixture(features)
        low = value + digit * place
        child = self._mass(mixture, low[:, None], (low + place)[:, None])[:, 0]
        if len(self.digits) == 1:
            return child
        return child - self._mass(mixture, value[:, None], (value + place * self.digits.base)[:, None])[:, 0]

    def quantile(self, features: tuple[Tensor, Tensor, Tensor], value: Tensor, depth: Tensor, u: Tensor) -> Tensor:
        """(N,) digits: the first whose cdf in the current block passes u (N,) in [0, 1), −1 where there is none.

        In float64, by bisection.
        """
        weight, mean, inverse = (t.double() for t in self._mixture(features))
        place, weight = self.digits.place(depth), weight.exp()

        def cdf(edge: Tensor) -> Tensor:
            z = (self._edge(edge).double()[:, None] - mean) * inverse
            return (weight * torch.sigmoid(z)).sum(-1)

        below, above = cdf(value), cdf((value + place * self.digits.base).clamp(max=self.digits.classes))
        wanted = below + u * (above - below)
        last = (self.digits.classes - 1 - value) // place
        low, high = torch.zeros_like(value), last.clamp(max=self.digits.base - 1)
        for _ in range((self.digits.base - 1).bit_length()):
            middle = (low + high) // 2
            reached = cdf(value + (middle + 1) * place) > wanted
            low, high = torch.where(reached, low, (middle + 1).minimum(high)), torch.where(reached, middle, high)
        return low.masked_fill(wanted.isnan(), -1)
