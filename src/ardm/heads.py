"""Output distributions: softmax, digits, columns, two-part softmax, logistic mixture.

One contract: `logits` lists all b digits (N, b), for drawing and coding; `log_prob` gives one (N,), for training and
scoring, for which a mixture needs two cdf values instead of K classes; `quantile` inverts the cdf; `probabilities` lists
the digits once more, for temperatures and adaptive plans, which a mixture does ten times faster than `logits`.
Every head computes in float32 or better, whatever the dtype of features and weights: see `precision`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.digits import Alphabet, Digits
from ardm.errors import ArdmError
from ardm.features import Features
from ardm.precision import finely, full, precise, wide, widened

MANY = 1 << 6
"""With more digits than this, a mixture or a chain is drawn by its quantile function instead of from a list."""
TOGETHER = 1 << 22
"""How many numbers a head computes at once where the sites of a step are asked in parts, as for 65,536 values."""


def inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """(N,): the first class of logits (N, b) at which the cdf passes u (N,) in [0, 1); −1 where there is no distribution.

    In float64, where `precise` puts it.  A class of probability 0 is never returned.
    """
    cdf = precise(logits).softmax(-1).cumsum(-1)
    total = cdf[:, -1]
    found = torch.searchsorted(cdf, (u.to(cdf.device) * total)[:, None], right=True)[:, 0]
    return found.clamp(max=cdf.shape[-1] - 1).masked_fill(total.isnan(), -1).to(logits.device)


class Head(nn.Module):
    """The contract: features of N sites, the state there and their positions in, distributions of the next digits out.

    value, depth: (N,), what is known.  position: (N,), the sites within their items, for heads that differ by site.
    """

    by_quantile = False
    """Whether drawing should use `quantile`, because there are too many digits to list."""

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        self.alphabet = alphabet

    @property
    def numbers(self) -> int:
        """How many numbers `logits` holds for each site, at most; asked sites are split by it, see `TOGETHER`."""
        return max(self.alphabet.classes, len(self.alphabet) * self.alphabet.base)

    def logits(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """(N, b): logits of the next digit; −inf where no value follows."""
        raise NotImplementedError

    def log_prob(
        self, features: Features, value: Tensor, depth: Tensor, digit: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): log-probability in nats of the next digit (N,)."""
        return widened(self.logits(features, value, depth, position)).log_softmax(-1).gather(1, digit[:, None])[:, 0]

    def quantile(
        self, features: Features, value: Tensor, depth: Tensor, u: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): the first digit at which the cdf passes u (N,) in [0, 1); −1 where there is no distribution."""
        return inverse_cdf(self.logits(features, value, depth, position), u)

    def probabilities(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """(N, b), in float64 where there is one: probabilities of the next digit; NaN where there is no distribution."""
        return finely(self.logits(features, value, depth, position)).softmax(-1)


def _output(width: int, outputs: int) -> nn.Module:
    """A linear layer initialised to zero; none for width 0, where the features are the outputs."""
    if not width:
        return nn.Identity()
    out = nn.Linear(width, outputs)
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    return out


class DigitHead(Head):
    """The direct parametrisation: a softmax over the b digits of each stage, S·b outputs (section 3.2).

    width: F, the number of features; 0: the features are the outputs.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        self.out = _output(width, len(alphabet) * alphabet.base)

    def logits(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """The b logits of the current stage."""
        S, b = len(self.alphabet), self.alphabet.base
        all_stages = full(self.out, features.hidden).view(-1, S, b)
        here = all_stages.gather(1, depth.clamp(max=S - 1)[:, None, None].expand(-1, 1, b))[:, 0]
        return here.masked_fill(~self.alphabet.possible(value, depth), -torch.inf)


class ValueHead(Head):
    """The data parametrisation: a softmax θ over the K values; digits are sums of blocks of it (section 3.2).

    width: F, the number of features; 0: the features are θ.  Logits and scores in a block of impossible values are −inf.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        self.out = _output(width, alphabet.classes)

    def logits(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """Block log-sum-exp of θ."""
        return self.alphabet.children(self._theta(features, value, position), value, depth)

    def log_prob(
        self, features: Features, value: Tensor, depth: Tensor, digit: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): log-probability in nats of the next digit; −inf in a block of impossible values."""
        theta = self._theta(features, value, position)
        logits = self.alphabet.children(theta, value, depth)
        logp = logits.log_softmax(-1).gather(1, digit[:, None])[:, 0]
        if len(self.alphabet) == 1:
            return logp
        impossible = (logits.detach().amax(-1) == -torch.inf) & theta.detach().amax(-1).isfinite()
        return logp.masked_fill(impossible, -torch.inf)

    def _theta(self, features: Features, value: Tensor, position: Tensor | None) -> Tensor:
        """(N, K): log-weights of the values."""
        return full(self.out, features.hidden)


class ColumnHead(ValueHead):
    """The data parametrisation for tables: site d takes only the values 0..limits[d]−1, the others have probability 0.

    The features are θ (N, K), since every column has its own output weights; entries beyond its limit are ignored.
    """

    limits: Tensor

    def __init__(self, alphabet: Alphabet, limits: Sequence[int]) -> None:
        super().__init__(alphabet, 0)
        self.register_buffer("limits", torch.tensor(limits), persistent=False)

    def _theta(self, features: Features, value: Tensor, position: Tensor | None) -> Tensor:
        """(N, K): log-weights of the values of the column; −inf for the others."""
        if position is None:
            raise ArdmError("the columns of a table have different values: give the position of each site")
        theta = widened(features.hidden)
        limit = self.limits[position][:, None]
        beyond = torch.arange(theta.shape[1], device=theta.device) >= limit
        beyond &= value[:, None] < limit  # after an impossible digit, which cost +∞, any digit will do
        return theta.masked_fill(beyond, -torch.inf)


class ChainHead(Head):
    """A softmax over the high part of a value, then one over the low part given it: 2·√K outputs instead of K.

    A value v = high · r + low, r = ⌈√K⌉, is revealed whole, in one stage.  For 16-bit sound this is the control
    experiment: the softmaxes of 256 of the upscaling ARDM without its stages.
    width: F, the number of features.  Raises ArdmError where values have several digits.
    """

    def __init__(self, alphabet: Alphabet, width: int) -> None:
        super().__init__(alphabet)
        if len(alphabet) > 1:
            raise ArdmError("head chain reveals whole values: leave base at 0, or use head digits")
        self.root = math.isqrt(alphabet.classes - 1) + 1
        self.by_quantile = alphabet.base > MANY
        self.high, self.low = _output(width, self.root), _output(width, self.root)
        self.given = nn.Embedding(self.root, width)

    @property
    def numbers(self) -> int:
        """For each high part its features, or all its low parts."""
        return self.root * max(self.root, self.given.embedding_dim)

    def _high(self, h: Tensor) -> Tensor:
        """(N, r): log-probabilities of the high part."""
        beyond = torch.arange(self.root, device=h.device) * self.root >= self.alphabet.classes
        return full(self.high, h).masked_fill(beyond, -torch.inf).log_softmax(-1)

    def _low(self, h: Tensor, high: Tensor) -> Tensor:
        """(…, r): log-probabilities of the low part given high parts (…)."""
        beyond = high[..., None] * self.root + torch.arange(self.root, device=h.device) >= self.alphabet.classes
        return full(self.low, F.silu(widened(h) + self.given(high))).masked_fill(beyond, -torch.inf).log_softmax(-1)

    def logits(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """(N, K): log-probabilities of all values, r² evaluations per site; `quantile` needs 2·r."""
        h, used = features.hidden, -(-self.alphabet.classes // self.root)
        every = torch.arange(used, device=h.device).expand(len(h), -1)
        both = self._high(h)[:, :used, None] + self._low(h[:, None], every)
        return both.flatten(1)[:, : self.alphabet.classes]

    def log_prob(
        self, features: Features, value: Tensor, depth: Tensor, digit: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): log-probability in nats of a value, from two softmaxes of r."""
        h, high = features.hidden, digit // self.root
        first = self._high(h).gather(1, high[:, None])
        return (first + self._low(h, high).gather(1, (digit % self.root)[:, None]))[:, 0]

    def quantile(
        self, features: Features, value: Tensor, depth: Tensor, u: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): the first value at which the cdf passes u; −1 where there is no distribution.  In float64."""
        h, parts = features.hidden, list[Tensor]()
        for part in range(2):
            p = precise(self._low(h, parts[0].to(h.device)) if part else self._high(h)).exp()
            cdf = p.cumsum(-1)
            last = p.shape[1] - 1 - (p > 0).flip(-1).int().argmax(-1)  # rounding may let u pass them all
            found = (cdf <= u[:, None]).sum(-1).minimum(last)
            mass = p.gather(1, found[:, None])[:, 0]
            u = ((u - cdf.gather(1, found[:, None])[:, 0] + mass) / mass).clamp(0.0, 1.0)
            parts.append(found)
        return (parts[0] * self.root + parts[1]).masked_fill(u.isnan(), -1).to(h.device)


ROW = 1 << 8
"""Values in a row of the tables of exponentials."""
MOST = 500.0
"""The largest exponent in these tables: what is further from a mean has probabilities below e^−500, and counts for nothing."""


def bounded_exp(z: Tensor) -> Tensor:
    """e^z, never 0 or ∞."""
    return z.clamp(-MOST, MOST).exp()


@dataclass(frozen=True)
class Rows:
    """The values 0..K−1 in rows of `ROW`, as M components of N sites see them: e^z at all edges from few exponentials.

    z of the lower edge of value i·ROW + j, in scales from the mean, is row[i] + column[c, j], and gap more at its upper edge.
    c is the kind of the row: before the mean, and measured from its end; around the mean; or after it, and measured from its
    start.  Both terms of a sum thus have one sign, and no product of exponentials is 0 · ∞.
    kind: (N, M, I, 3), 1 for the kind of row i, otherwise 0.  row: (N, M, I).  column: (N, M, 3, ROW).  gap: (N, M).
    """

    kind: Tensor
    row: Tensor
    column: Tensor
    gap: Tensor

    @classmethod
    def of(cls, mean: Tensor, inverse: Tensor, classes: int) -> Rows:
        """For means and inverse widths (N, M) on the scale of values in [−1, 1]."""
        gap = 2 * inverse / (classes - 1)
        centre = (mean * (classes - 1) + classes) / 2  # the mean, counted in edges
        first, j = (torch.arange(0, n, step, device=mean.device) for n, step in ((classes, ROW), (ROW, 1)))
        nearest = (centre[..., None] - first).clamp(0, ROW)  # the edge from which the row is measured
        kind = torch.stack([nearest == ROW, (nearest > 0) & (nearest < ROW), nearest == 0], -1).to(mean.dtype)
        origin = torch.stack([torch.full_like(centre, ROW), centre % ROW, torch.zeros_like(centre)], -1)
        row = (first + nearest - centre[..., None]) * gap[..., None]
        return cls(kind, row, (j - origin[..., None]) * gap[..., None, None], gap)

    def scaled(self, sign: int) -> Tensor:
        """(N, M, I, 3): e^(sign · row) for the kind of each row, otherwise 0."""
        return bounded_exp(sign * self.row)[..., None] * self.kind


BEYOND = 1e6
"""A cdf edge beyond all values, in units of their range; finite, so that gradients are finite."""


class MixtureHead(Head):
    """A mixture of M discretised logistics (the paper's audio models): 3·M outputs, any K.

    Means are loc + scale · output, and widths scale · exp(output), with the loc and scale of the features.  The mass of
    values a..b−1 is the difference of the cdf at the edges of the block, with open tails at 0 and K−1.  With
    L(z) = log σ(z):   log(σ(zb) − σ(za)) = L(zb) + L(−za) + log(1 − exp(za − zb)),   which never cancels.
    """

    places: Tensor

    def __init_subclass__(cls) -> None:
        """Raise TypeError for a subclass of another shape that takes a part of the numbers from logistics."""
        shape = {"_log_cdf", "_between", "_masses"}
        if 0 < len(shape & set(vars(cls))) < len(shape):
            raise TypeError(
                f"{cls.__name__} has another shape than logistics: override all of {', '.join(sorted(shape))}"
            )
        super().__init_subclass__()

    def __init__(self, alphabet: Alphabet, width: int, components: int) -> None:
        super().__init__(alphabet)
        if not isinstance(alphabet, Digits):
            raise ArdmError("a mixture needs values that are ordered: use Digits, or another head")
        self.digits, self.components = alphabet, components
        self.by_quantile = alphabet.base > MANY
        self.out = nn.Linear(width, 3 * components)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        places = torch.linspace(-1.5, 1.5, components) if components > 1 else torch.zeros(1)
        self.register_buffer("places", places, persistent=False)

    @property
    def numbers(self) -> int:
        """The mass of all digits under each component in whole rows, or the tables that they are made of (`Rows`)."""
        return max(self.digits.base // ROW + 1, 7) * ROW * self.components

    def _log_cdf(self, z: Tensor) -> Tensor:
        """The logarithm of the cdf of a component at z scales from its mean."""
        return F.logsigmoid(z)

    def _between(self, za: Tensor, zb: Tensor, gap: Tensor) -> Tensor:
        """log(cdf(zb) − cdf(za)) without cancellation; gap: zb − za, above 0 also where both round to one number."""
        return F.logsigmoid(zb) + F.logsigmoid(-za) + torch.log(-torch.expm1(-gap))

    def _mixture(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and inverse widths of the components, each (N, M)."""
        h = features.hidden
        weight, mean, width = full(self.out, h).view(len(h), 3, self.components).unbind(1)
        loc, scale = features.loc.to(mean.dtype), features.scale.to(mean.dtype)[:, None]
        loc = loc if loc.ndim == 2 else loc[:, None]  # one for each component, or one for all
        mean = loc + scale * (mean + self.places)
        inverse = torch.exp(-(width - 0.5).clamp(-7.0, 7.0)) / scale
        return weight.log_softmax(-1), mean, inverse

    def _edge(self, value: Tensor) -> Tensor:
        """The cdf edge below a value, on the scale 2x/(K−1) − 1; open tails at both ends."""
        K = self.digits.classes
        edge = (2 * value - K).to(wide(self.out.weight.dtype)) / (K - 1)
        return torch.where(value <= 0, -BEYOND, torch.where(value >= K, BEYOND, edge))

    def _mass(self, mixture: tuple[Tensor, Tensor, Tensor], low: Tensor, high: Tensor) -> Tensor:
        """(N, j): log-mass of the values low..high−1, each (N, j); −inf where the block is empty."""
        weight, mean, inverse = (t[:, None] for t in mixture)
        za = (self._edge(low)[..., None] - mean) * inverse
        zb = (self._edge(high)[..., None] - mean) * inverse
        empty = low >= self.digits.classes
        gap = torch.where(empty[..., None], 1.0, zb - za)
        gap = gap.clamp(min=torch.finfo(gap.dtype).tiny)  # a distant mean rounds both edges to one number
        return torch.logsumexp(weight + self._between(za, zb, gap), -1).masked_fill(empty, -torch.inf)

    def logits(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """(N, b): log-masses of the b child blocks."""
        place = self.digits.place(depth)[:, None]
        low = value[:, None] + torch.arange(self.digits.base, device=value.device) * place
        return self._mass(self._mixture(features), low, low + place)

    def log_prob(
        self, features: Features, value: Tensor, depth: Tensor, digit: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): log-mass of the child block less that of the current one, from two or four cdf values per component."""
        place = self.digits.place(depth)
        mixture = self._mixture(features)
        low = value + digit * place
        child = self._mass(mixture, low[:, None], (low + place)[:, None])[:, 0]
        if len(self.digits) == 1:
            return child
        return child - self._mass(mixture, value[:, None], (value + place * self.digits.base)[:, None])[:, 0]

    def quantile(
        self, features: Features, value: Tensor, depth: Tensor, u: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """(N,): the first digit at which the cdf within the current block passes u; −1 where there is no distribution.

        By bisection in float64.  Components below the block count by their upper tails, scaled up: no cdf rounds to 1 or 0.
        """
        weight, mean, inverse = (precise(t) for t in self._mixture(features))
        there, (value, depth, u) = value.device, (t.to(weight.device) for t in (value, depth, u))
        place = self.digits.place(depth)
        end = (value + place * self.digits.base).clamp(max=self.digits.classes)

        def scales(edge: Tensor) -> Tensor:
            return (self._edge(edge).double()[:, None] - mean) * inverse

        side = torch.where(scales(value) > 0, -1.0, 1.0)  # cdf(z) − 1 = −cdf(−z): components are symmetric

        def logs(edge: Tensor) -> Tensor:
            return weight + self._log_cdf(side * scales(edge))

        top = torch.maximum(logs(value), logs(end)).amax(-1, keepdim=True)
        top = top.where(top < -MOST, 0.0)

        def cdf(edge: Tensor) -> Tensor:  # up to a factor, and a constant, which cancels
            return (side * (logs(edge) - top).exp()).sum(-1)

        below = cdf(value)
        wanted = below + u * (cdf(end) - below)
        low, high = torch.zeros_like(value), (end - 1 - value) // place
        for _ in range((self.digits.base - 1).bit_length()):
            middle = (low + high) // 2
            reached = cdf(value + (middle + 1) * place) > wanted
            low, high = torch.where(reached, low, (middle + 1).minimum(high)), torch.where(reached, middle, high)
        return low.masked_fill(wanted.isnan(), -1).to(there)

    def probabilities(self, features: Features, value: Tensor, depth: Tensor, position: Tensor | None = None) -> Tensor:
        """(N, b) float64, where `precise` puts it: probabilities of the next digit; NaN where there is no distribution.

        Where whole values are too many to list, from tables of exponentials (`Rows`), within 1e-13 of the exact
        probability, relatively, down to `SMALLEST`; smaller ones are anything below it.
        """
        if len(self.digits) > 1 or not self.by_quantile:
            return super().probabilities(features, value, depth, position)
        weight, mean, inverse = (precise(t) for t in self._mixture(features))
        weight, K = weight.exp()[:, None], self.digits.classes
        p = (weight @ self._masses(Rows.of(mean, inverse, K)).flatten(2)[..., :K])[:, 0]
        for k, sign in ((0, 1), (K - 1, -1)):  # open tails, of distributions that are symmetric
            z = sign * (sign * (2 - K) / (K - 1) - mean) * inverse
            beyond = torch.full_like(z, BEYOND)
            p[:, k] = (weight[:, 0] * self._between(-beyond, z, beyond).exp()).sum(-1)
        return p

    def _masses(self, rows: Rows) -> Tensor:
        """(N, M, I, ROW): the mass of each value under each component, with closed tails.

        σ(zb) − σ(za) = (1 − e^−gap) / (1 + e^−gap + e^za + e^−zb): positive terms, of which a matrix product adds up four.
        """
        gap = rows.gap[..., None, None]
        away = torch.cat([rows.scaled(1), rows.scaled(-1), (1 + torch.exp(-gap)).expand(*rows.row.shape, 1)], -1)
        column = torch.cat(
            [bounded_exp(rows.column), bounded_exp(-rows.column - gap), torch.ones_like(rows.column[..., :1, :])], -2
        )
        return (away / -torch.expm1(-gap) @ column).reciprocal_()


class LaplaceHead(MixtureHead):
    """A mixture of M discretised Laplace distributions: a sharper peak and longer flanks than logistics of one width.

    F(z) = e^z / 2 below the mean and 1 − e^−z / 2 above it.  On one side of the mean, at the distance n = min(|za|, |zb|),
    log(F(zb) − F(za)) = −n − log 2 + log(1 − e^−gap);   around it, the difference is (1 − e^za + 1 − e^−zb) / 2.
    """

    def _log_cdf(self, z: Tensor) -> Tensor:
        """log F(z)."""
        return torch.where(z < 0, z - math.log(2), torch.log1p(-(-z.abs()).exp() / 2))

    def _between(self, za: Tensor, zb: Tensor, gap: Tensor) -> Tensor:
        """log(F(zb) − F(za)), on one side of the mean or around it."""
        around = (za < 0) & (zb > 0)
        beside = torch.log(-torch.expm1(-gap)) - torch.minimum(za.abs(), zb.abs())
        inside = -torch.expm1(za.clamp(max=0)) - torch.expm1(-zb.clamp(min=0))
        return torch.where(around, torch.log(torch.where(around, inside, 1.0)), beside) - math.log(2)

    def _masses(self, rows: Rows) -> Tensor:
        """(N, M, I, ROW): on one side of the mean a product of two exponentials, around it the difference of the cdf."""
        before, around, after = rows.column.unbind(-2)
        gap = rows.gap[..., None]
        flank = -torch.expm1(-gap) / 2
        inside = self._between(around, around + gap, gap).exp()
        column = torch.stack([flank * bounded_exp(before + gap), inside, flank * bounded_exp(-after)], -2)
        return bounded_exp(-rows.row.abs())[..., None] * rows.kind @ column
