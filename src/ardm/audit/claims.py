"""Whether a claimed code length can be one: Kraft's inequality over all items, and the entropy of four coins.

A function ℓ from items to nats bounds −log p for some distribution p over the items if and only if

    Σ_x exp(−ℓ(x)) ≤ 1                                              (Kraft 1949; McMillan 1956)

Where the sum is S > 1, items drawn with probability exp(−ℓ(x)) / S cost log S nats less than their entropy on average, which
no code does.  With few items the sum needs no trained network and no data: all items are enumerated.  A random ℓ, such as a
bound from random steps, is averaged over repeats, and the error of the sum is estimated by the jackknife over them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ardm.errors import ArdmError, out_of_memory
from ardm.inputs import number, tensor

Claim: TypeAlias = Callable[[Tensor], Any]
"""A function from items (N, *shape) int64 to their claimed code lengths in nats (N,): a tensor or an array."""
COINS = 4
REPEATS = 400
"""How often a random claim is evaluated."""
TRIES = 8
"""Equal answers after which a claim is taken not to be random."""
SIGMAS = 4.0
"""How many standard errors beyond a limit are no accident: less than one false alarm in 30,000."""
TOLERANCE = 1e-3
"""How far rounding may carry a sum of probabilities from 1."""
MOST = 1 << 12
"""The largest number of items that is enumerated."""
SOURCES = ("fair", "equal", "parity", "chain")
"""Four coins: independent; all alike; an even number of ones; each like the one before with probability 0.9."""


@dataclass(frozen=True)
class Average:
    """A claim on one source, in bits an item.  entropy: the least that is possible.  bits: the claimed average length."""

    source: str
    entropy: float
    bits: float
    error: float

    @property
    def below(self) -> bool:
        """Whether the claim is lower than the entropy, beyond chance and rounding."""
        return self.bits + SIGMAS * self.error < self.entropy - TOLERANCE


@dataclass(frozen=True)
class Verdict:
    """What enumerating all items says about a claim.

    kraft: Σ exp(−ℓ), which is at most 1 for a likelihood and for a bound.  error: its standard error, 0 if the claim is not
    random.  repeats: evaluations of each item.  averages: on sources of known entropy.  reasons: why it is none.
    """

    kraft: float
    error: float
    repeats: int
    averages: tuple[Average, ...]
    reasons: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against the claim."""
        return not self.reasons

    def __str__(self) -> str:
        lines = [f"Σ exp(−nats) over all items: {self.kraft:.4f} ± {self.error:.4f}, at most 1 for a likelihood"]
        lines += [f"{a.source}: {a.bits:.4f} ± {a.error:.4f} bits, entropy {a.entropy:.4f}" for a in self.averages]
        return "\n".join([*lines, *(self.reasons or ("sound",))])


def source(name: str) -> tuple[Tensor, Tensor]:
    """All items (16, 4) of four coins, and their probabilities (16,) float64 under one of `SOURCES`.

    The entropies are 4, 1, 3 and 1 + 3 · h(0.1) = 2.407 bits.  To draw items to train on:
    `items[torch.multinomial(probabilities, n, replacement=True, generator=…)]`.
    """
    x = every((COINS,), 2)
    weights = {
        "fair": torch.ones(len(x), device="cpu"),
        "equal": (x == x[:, :1]).all(1).double(),
        "parity": (x.sum(1) % 2 == 0).double(),
        "chain": torch.where(x[:, 1:] == x[:, :-1], 0.9, 0.1).double().prod(1),
    }
    if name not in weights:
        raise ArdmError(f"the sources of coins are {', '.join(SOURCES)}; got {name!r}")
    return x, weights[name].double() / weights[name].sum()


def coins(claim: Claim, source: str | Tensor | None = None, repeats: int = REPEATS) -> Verdict:
    """Test a claimed code length of four coins: `claim` takes items (N, 4) of 0 and 1, and returns nats (N,).

    source: the name of a source, or 16 probabilities in the order of the items read as binary numbers, on which the average
    length is compared with the entropy; default: all named ones.  repeats: evaluations of a random claim.
    The claim is sound if Kraft's inequality holds, whatever its network was trained on.  Raises ArdmError where the claim
    raises, or returns something else.
    """
    names = SOURCES if source is None else (source,)
    tables = {name if isinstance(name, str) else "given": _table(name) for name in names}
    return kraft(claim, (COINS,), 2, repeats, tables)


def kraft(
    claim: Claim,
    shape: Sequence[int],
    classes: int,
    repeats: int = REPEATS,
    sources: dict[str, Tensor] | None = None,
) -> Verdict:
    """Test a claimed code length on all classes^D items of a shape.

    sources: probabilities of all items, in the order of itertools.product, whose entropy is compared with the average.
    Raises ArdmError for more than 4,096 items, and as `coins`.
    """
    x = every(shape, classes)
    seen, random = _evaluated(claim, x, number(repeats, "repeats", 2 * TRIES))
    reasons = [] if random else _beside(claim, x, seen[0])
    if (seen < -TOLERANCE).any():
        reasons.append(f"a code length is at least 0, and the claim gives {float(seen.min()):.4f} nats to an item")
    total, error = _jackknife(seen)
    if total - SIGMAS * error > 1 + TOLERANCE:
        reasons.append(
            f"the {len(x)} items have Σ exp(−nats) = {total:.4f} ± {error:.4f}, and a likelihood or a bound at most 1: on "
            f"some data the claim falls {math.log2(total):.3f} bits below the entropy, so that no decoder could follow it"
        )
    averages = tuple(_average(name, table, seen) for name, table in (sources or {}).items())
    reasons += [
        f"{a.source}: the claim averages {a.bits:.4f} ± {a.error:.4f} bits an item, less than the entropy of {a.entropy:.4f}"
        for a in averages
        if a.below
    ]
    return Verdict(total, error, len(seen), averages, tuple(reasons))


def every(shape: Sequence[int], classes: int) -> Tensor:
    """(classes^D, *shape): every item."""
    sizes = [number(n, "a size of shape") for n in shape]
    D, K = math.prod(sizes), number(classes, "classes", 2)
    if not sizes or D * math.log2(K) > math.log2(MOST):
        raise ArdmError(f"at most {MOST} items are enumerated; {K} values at {D} sites make more: test a smaller item")
    return torch.tensor(list(itertools.product(range(K), repeat=D)), device="cpu").view(-1, *sizes)


def _table(given: str | Tensor) -> Tensor:
    """(16,): the probabilities of a source."""
    if isinstance(given, str):
        return source(given)[1]
    p = tensor(given, "source").double().cpu()
    if tuple(p.shape) != (1 << COINS,) or not (p >= 0).all() or abs(float(p.sum()) - 1) > TOLERANCE:
        raise ArdmError(f"a source is 16 probabilities that sum to 1; got shape {tuple(p.shape)}, sum {float(p.sum())}")
    return p


def _nats(claim: Claim, x: Tensor) -> Tensor:
    """(N,) float64: what the claim says of items."""
    try:
        found = tensor(claim(x.clone()), "what the claim returns").detach().double().cpu()
    except ArdmError:
        raise
    except Exception as error:  # code of others may raise anything
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"the claim fails on items {tuple(x.shape)} int64: {type(error).__name__}: {error}") from error
    if tuple(found.shape) != (len(x),) or found.isnan().any():
        what = f"shape {tuple(found.shape)}" if tuple(found.shape) != (len(x),) else "NaN"
        raise ArdmError(f"a claim returns one number of nats per item, {(len(x),)}; it returned {what}")
    return found


def _evaluated(claim: Claim, x: Tensor, repeats: int) -> tuple[Tensor, bool]:
    """(R, N): the claim on all items, R times if it is random, else once; whether it is random."""
    seen = [_nats(claim, x) for _ in range(TRIES)]
    if all(torch.equal(seen[0], other) for other in seen[1:]):
        return seen[0][None], False
    return torch.stack(seen + [_nats(claim, x) for _ in range(repeats - TRIES)]), True


def _beside(claim: Claim, x: Tensor, nats: Tensor) -> list[str]:
    """A reason if lengths depend on the other items of the batch, whose values a decoder may not have."""
    alone = torch.cat([_nats(claim, x[i : i + 1]) for i in range(0, len(x), max(1, len(x) // 16))])
    together = nats[:: max(1, len(x) // 16)]
    if torch.allclose(alone.exp().reciprocal(), together.exp().reciprocal(), atol=TOLERANCE):
        return []
    return ["the length of an item changes with the items that are scored beside it: it is not a function of the item"]


def _jackknife(seen: Tensor) -> tuple[float, float]:
    """Σ exp(−mean over repeats) of seen (R, N), without the bias of averaging, and its standard error."""
    finite = seen[:, ~torch.isinf(seen).any(0)]  # a mean of +∞ adds nothing
    total, R = float((-finite.mean(0)).exp().sum()), len(seen)
    if R == 1:
        return total, 0.0
    without = (-(finite.sum(0) - finite) / (R - 1)).exp().sum(1)
    error = math.sqrt((R - 1) / R * float((without - without.mean()).square().sum()))
    return R * total - (R - 1) * float(without.mean()), error


def _average(name: str, p: Tensor, seen: Tensor) -> Average:
    """The mean length under a source: only items that occur count."""
    here = p > 0
    means = (seen[:, here] * p[here]).sum(1) / math.log(2)
    error = float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    entropy = float(torch.special.entr(p).sum()) / math.log(2)
    return Average(name, entropy, float(means.mean()), error if math.isfinite(error) else math.inf)
