"""The cheapest schedule of K calls: a shortest path with a fee per call, and a search for the fee.

A schedule of one stage is a path 0 = t_0 < t_1 < … < t_K = D, whose edges cost w(s, t) = (t − s) · L_s.  With a fee of λ
nats for each call, the number of calls is free, and the cheapest path of all comes from one dynamic programme in O(D):

    f(0) = 0,     f(t) = min over s < t of  f(s) + λ + (t − s) · L_s.

As a function of t each s is a line of slope L_s.  Later lines are less steep, so that the lower envelope of the lines
grows at one end and is read at the other.

**Convexity.**  L does not increase, so that for a ≤ b < c ≤ d

    w(a, d) + w(b, c) − w(a, c) − w(b, d)  =  (d − c) · (L_a − L_b)  ≥  0        (the Monge inequality).

Let P be a path of p calls, Q one of q > p, and 0 < k < q − p.  There is a j with P_j ≤ Q_{j+k} < Q_{j+k+1} ≤ P_{j+1}: at
j = 0 the first inequality holds, and for the last call of P the third one does; take the first j where the third does.
So an edge of P encloses one of Q.  Exchange their ends: Q_0 … Q_{j+k}, P_{j+1} … has p + k calls, P_0 … P_j, Q_{j+k+1} …
has q − k, and by the inequality both together cost no more than P and Q.  Therefore

* the least cost C(K) of K calls is convex in K (q = p + 2, k = 1), and the paths that are best with a fee λ are those on
  the line of slope −λ that touches C from below: a larger fee, fewer calls;
* where P and Q are both best with one fee, so are the two new paths: between them, every number of calls is reached.

Several stages share λ.  Their costs add up, and the sum, too, is convex.

**The search.**  Keep a solution of too few calls and one of too many.  Take as λ the slope of the line through both.  If
the programme finds nothing below this line, both are best with this λ, and the exchange above gives K calls.  If it finds
something, that is a new corner of C, strictly between.  Steps that interpolate λ between those of the two solutions make
it fast: about ten programmes.  (Aggarwal, Schieber and Tokuyama 1994.)

**Levels.**  A start inside a run of equal losses may move to the beginning of its run: this shortens the edge before it,
whose loss is no less.  Only the first site of each run is therefore a candidate, and where there are no more runs than
calls every run gets one: the cost is Σ L_t, the least of all, wherever the other calls are.

NumPy, no torch.  D sites, losses in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TIE = 1e-14
"""What a programme finds by this much below the line, relatively, is rounding: the line is taken to touch."""


def cheapest(curves: Sequence[NDArray[np.float64]], calls: int) -> list[list[int]]:
    """The starts of least cost for each stage, with `calls` in all and at least one each.

    curves: for each stage its losses (D,) in nats, finite, non-negative and non-increasing; D > 0 may differ.
    calls: from the number of stages to that of sites.  O(D) memory, and time for each of some ten passes.
    """
    if calls == sum(map(len, curves)):
        return [list(range(len(curve))) for curve in curves]
    chains = [_Chain(curve) for curve in curves]
    if calls >= sum(len(chain.slopes) for chain in chains):
        return _filled(chains, calls)
    found = _Search(chains, calls).run()
    return [[chain.edges[k] for k in path] for chain, path in zip(chains, found.paths, strict=True)]


class _Chain:
    """The candidates of one stage: the first sites of its levels.  Paths are lists of levels, the first one 0."""

    def __init__(self, curve: NDArray[np.float64]) -> None:
        first = np.flatnonzero(np.diff(curve, prepend=np.inf))
        self.sites = len(curve)
        self.edges: list[int] = [*first.tolist(), self.sites]
        self.slopes: list[float] = curve[first].tolist()

    def fees(self) -> tuple[float, float]:
        """Fees from which on one call is best, and up to which a call for every level is; for two levels or more."""
        edges, slopes = np.array(self.edges, dtype=float), np.array(self.slopes)
        second = (edges[-1] - edges[:-1]) * (slopes[0] - slopes)  # what a second call gains
        level = np.diff(edges[1:]) * -np.diff(slopes)  # what leaving one out costs, if no other is
        return float(second.max()), float(level.min())

    def path(self, fee: float) -> list[int]:
        """The cheapest path with a fee for each call.

        height[j]: where line j would begin at t = 0, never below 0 since f(t) >= t · L_t.  `lines` holds, by slope, those
        that may still be lowest; lines[i] is below the one before it from since[i] on, and lines[head] is lowest now.
        """
        edges, slopes, end = self.edges, self.slopes, self.sites
        back, height = [0] * len(slopes), [fee] * len(slopes)
        lines, since, head = [0], [0.0], 0
        for j in range(1, len(slopes)):
            t, slope = edges[j], slopes[j]
            while head + 1 < len(lines) and since[head + 1] <= t:
                head += 1
            i = back[j] = lines[head]
            height[j] = here = height[i] + fee + t * (slopes[i] - slope)
            while True:
                last = lines[-1]
                meet = (here - height[last]) / (slopes[last] - slope)
                if meet > since[-1] or len(lines) == head + 1:
                    break
                lines.pop()
                since.pop()
            if meet < end:
                lines.append(j)
                since.append(meet)
        return _traced(back, lines[-1])

    def cost(self, path: list[int]) -> float:
        """Nats of a path, without fees."""
        starts = np.array([self.edges[k] for k in path] + [self.sites], dtype=float)
        return math.fsum((np.diff(starts) * np.array([self.slopes[k] for k in path])).tolist())


def _traced(back: list[int], last: int) -> list[int]:
    path = [last]
    while path[-1]:
        path.append(back[path[-1]])
    return path[::-1]


def _filled(chains: Sequence[_Chain], calls: int) -> list[list[int]]:
    """A call for each level of each chain, and the others at the first sites that have none."""
    spare, starts = calls - sum(len(chain.slopes) for chain in chains), []
    for chain in chains:
        others = np.setdiff1d(np.arange(chain.sites), chain.edges)[:spare]
        spare -= len(others)
        starts.append(sorted([*chain.edges[:-1], *others.tolist()]))
    return starts


@dataclass(frozen=True)
class _Found:
    """A path for each chain, best with some fee."""

    paths: list[list[int]]
    fee: float
    calls: int
    nats: float

    def total(self, fee: float) -> float:
        """The cost with another fee."""
        return self.nats + fee * self.calls


AIM, BEYOND, CHORD, MIDDLE = range(4)
"""How a fee is chosen: for the calls wanted, or as many on their other side; the slope of the line; halfway in log λ."""


class _Search:
    """The search for K calls; few and many bracket it.

    At the latest every third pass takes the slope of the line, which ends the search or finds a new corner of C.
    """

    def __init__(self, chains: Sequence[_Chain], calls: int) -> None:
        """Raise nothing: calls lies from the number of chains to one below that of their levels."""
        fees = [chain.fees() for chain in chains if len(chain.slopes) > 1]
        self.chains, self.calls = chains, calls
        self.few = self._found([[0] for _ in chains], max(most for most, _ in fees))
        self.many = self._found([list(range(len(c.slopes))) for c in chains], min(least for _, least in fees))
        self.how, self.aim = AIM, calls

    def run(self) -> _Found:
        """The best paths with that many calls."""
        if self.few.calls == self.calls:
            return self.few
        while True:
            chord = (self.few.nats - self.many.nats) / (self.many.calls - self.few.calls)
            fee = self._fee(chord)
            found = self._found([chain.path(fee) for chain in self.chains], fee)
            if found.calls == self.calls:
                return found
            inside = self.few.calls < found.calls < self.many.calls
            if fee == chord and not (inside and found.total(fee) < self.few.total(fee) * (1 - TIE)):
                return self._exchanged(fee)
            self._narrow(found)

    def _found(self, paths: list[list[int]], fee: float) -> _Found:
        nats = math.fsum(chain.cost(path) for chain, path in zip(self.chains, paths, strict=True))
        return _Found(paths, fee, sum(map(len, paths)), nats)

    def _fee(self, chord: float) -> float:
        """The fee of the next pass."""
        least, most = self.many.fee, self.few.fee
        if self.how == CHORD or not 0 < least < most:
            return chord
        share = 0.5
        if self.how != MIDDLE:  # λ ≈ a power of the number of calls
            share = math.log(self.aim / self.few.calls) / math.log(self.many.calls / self.few.calls)
        return most * math.exp(share * (math.log(least) - math.log(most)))

    def _narrow(self, found: _Found) -> None:
        """Put the solution in its place, and choose how to go on."""
        before, missed = self.many.calls - self.few.calls, 2 * self.calls - found.calls
        if self.few.calls <= found.calls < self.calls:
            self.few = found
        elif self.calls < found.calls <= self.many.calls:
            self.many = found
        self.aim = self.calls
        if self.how == AIM and self.few.calls < missed < self.many.calls:
            self.how, self.aim = BEYOND, missed
        elif self.how in (AIM, BEYOND):
            self.how = CHORD
        else:
            halved = 2 * (self.many.calls - self.few.calls) < before
            self.how = AIM if halved else MIDDLE if self.how == CHORD else CHORD

    def _exchanged(self, fee: float) -> _Found:
        """Chain after chain from the path of few calls to that of many, as far as the calls reach."""
        paths, count = list(self.few.paths), self.few.calls
        for s, many in enumerate(self.many.paths):
            few, wanted = paths[s], self.calls - count
            more = len(many) - len(few)
            paths[s] = many if more <= wanted else exchanged(few, many, wanted)
            if more >= wanted:
                break
            count += more
        return self._found(paths, fee)


def exchanged(few: Sequence[int], many: Sequence[int], more: int) -> list[int]:
    """The path of len(few) + `more` calls made of two by exchanging ends; 0 < more < len(many) − len(few).

    With the proof above: j is the first with P_{j+1} > Q_{j+k+1}, where P = few, Q = many, k = more.
    """
    j = next((j for j in range(len(few) - 1) if few[j + 1] > many[j + 1 + more]), len(few) - 1)
    return [*many[: j + more + 1], *few[j + 1 :]]
