"""One operation, or a whole program, in every container: what the tests of the exact networks compare."""

import math

import numpy as np
import torch

from ardm.digits import Sites
from ardm.exact.ask import Ask, AskedSites, Memory
from ardm.exact.backend import Backend, prepare
from ardm.exact.bounds import Bound
from ardm.exact.certificate import operation_bound
from ardm.exact.device import strict
from ardm.exact.frequencies import RADIX
from ardm.exact.kernels.kernel import Context, Step
from ardm.exact.operations import OPERATIONS
from ardm.exact.program import Op, Program
from ardm.exact.reference import Reference
from toys import generator

CONTAINERS = ("float32", "float64", "int64")


def random_sites(rng, shape, count):
    """Random sites of maps (B, C, H, W)."""
    return AskedSites(*(rng.integers(0, n, count) for n in shape))


def within(rng, lo, hi, *shape, axis=1):
    """Integers within lo..hi (P,) of each plane, half of them at one of the ends."""
    where = [1] * len(shape)
    where[axis] = -1
    lo, hi = np.asarray(lo, dtype=np.int64).reshape(where), np.asarray(hi, dtype=np.int64).reshape(where)
    middle = lo + (rng.random(shape) * (hi - lo + 1)).astype(np.int64).clip(0, hi - lo)
    end = np.where(rng.random(shape) < 0.5, lo, hi)
    return np.where(rng.random(shape) < 0.5, end, middle)


def ends(planes, size):
    """The bounds −size..size of each plane."""
    return np.full(planes, -size), np.full(planes, size)


class Bench:
    """One operation: its bound, what it gives by definition, and that every container gives the same.

    ranges: (lo, hi) of each input; rows: which of them are rows.
    """

    def __init__(self, name, ranges, tensors=None, rows=False, C=2, K=256, base=None, size=(0, 0), **integers):
        tensors = {role: np.asarray(t, dtype=np.int64) for role, t in (tensors or {}).items()}
        self.op = Op(name, "out", tuple(f"in{i}" for i in range(len(ranges))), integers, {r: r for r in tensors})
        self.program = Program((self.op,), tensors, C, K, base or K, size)
        flags = rows if isinstance(rows, (list, tuple)) else [rows] * len(ranges)
        self.bounds = {
            f"in{i}": Bound.of(*ends, "rows" if flag else "map")
            for i, (ends, flag) in enumerate(zip(ranges, flags, strict=True))
        }
        self.bounds["out"] = operation_bound(self.program, self.op, self.bounds)
        self.ranges, self.flags = ranges, flags

    @property
    def made(self):
        """What the result can be."""
        return self.bounds["out"]

    def values(self, rng, *shape):
        """Inputs, many of them at their ends: maps (B, P, H, W), or rows (B, P)."""
        out = []
        for (lo, hi), rows in zip(self.ranges, self.flags, strict=True):
            sizes = (shape[0], len(lo)) if rows else (shape[0], len(lo), *shape[1:])
            out.append(within(rng, lo, hi, *sizes))
        return out

    def __call__(self, values, sites=None, containers=CONTAINERS):
        """The result by definition, after everything was compared with it."""
        none = np.zeros(len(values[0]) if self.flags[0] else 0, dtype=np.int64)
        sites = sites or AskedSites(none, none, none, none)
        found = OPERATIONS[self.op.name].run(self.program, self.op, list(values), sites)
        assert found.dtype == np.int64
        axes = (0, *range(2, found.ndim))
        assert (found.min(axis=axes, initial=1 << 60) >= self.made.lo).all(), "the certificate is not sound"
        assert (found.max(axis=axes, initial=-1 << 60) <= self.made.hi).all(), "the certificate is not sound"
        assert self.made.peak >= np.abs(found).max(initial=0)
        for container in containers:
            assert np.array_equal(self.run(container, values, sites), found), container
        return found

    def run(self, container, values, sites):
        """The result in one container."""
        context = Context(self.program, self.bounds, container, torch.device("cpu"))
        given = {}
        for i, value in enumerate(values):
            given[f"in{i}"] = torch.from_numpy(value).to(context.stored(f"in{i}"))
            assert np.array_equal(given[f"in{i}"].long().numpy(), value)
        with strict():
            prepare(context, self.op)(Step.at(sites, context.device, Memory(None, ())), given)
        return given["out"].long().numpy()


def table_of(rows):
    """All stages of some rows, each given the likeliest symbol of the stages before it."""
    out, prefix = [], None
    for stage, radix in enumerate(rows.radices):
        prefix = np.zeros(len(out[0]) if out else _count(rows), dtype=np.int64) if prefix is None else prefix
        table = rows.table(stage, prefix)
        out.append(table)
        prefix = prefix * radix + table.argmax(axis=1)
    return out


def _count(rows):
    return len(rows.weight if hasattr(rows, "weight") else rows.logits)


def ask(runner, value, depth, sites):
    """The rows of one ask without a memory."""
    return runner(Ask(value, depth, sites))


def same(program, value, depth, sites, containers=CONTAINERS):
    """The tables of a program by the reference, after every container has given the same."""
    expected = table_of(ask(Reference(program), value, depth, sites))
    for container in containers:
        found = table_of(ask(Backend(program, container), value, depth, sites))
        assert len(found) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), container
    return expected


# --- networks in integers beside those in floats ------------------------------------------------------------------------


def items_of(model, count=24, seed=0):
    """Random walks, a little like pictures."""
    C, H, W = model.shape
    K = model.digits.classes
    steps = torch.randn(count, C, H, W, generator=generator(seed), dtype=torch.double)
    walk = steps.cumsum(2).cumsum(3) * K / 40 + K / 2
    return walk.clamp(0, K - 1).long()


def states_of(model, count=7, seed=5):
    """States of which everything between nothing and nearly all is known, and the sites that are not complete."""
    S = len(model.digits)
    x = items_of(model, count, seed)
    share = torch.linspace(0, 0.95, count, dtype=torch.double)[:, None, None, None] * S
    known = torch.rand(x.shape, generator=generator(seed), dtype=torch.double) < share % 1
    depth = (share.floor() + known).long().clamp(max=S).expand(x.shape).contiguous()
    return model.digits.truncate(x, depth)


def asked_of(depth, S):
    return AskedSites(*np.nonzero(depth < S))


def probabilities(rows, base):
    """(N, b) of the next digit."""
    radices = rows.radices
    out = None
    for stage, radix in enumerate(radices):
        prefixes = 1 if out is None else out.shape[1]
        count = len(rows.weight if hasattr(rows, "weight") else rows.logits)
        tables = [rows.table(stage, np.full(count, p)) / 2.0**24 for p in range(prefixes)]
        if out is None:
            out = tables[0]
        else:
            out = np.stack([out[:, p, None] * tables[p] for p in range(prefixes)], 1).reshape(count, prefixes * radix)
    assert math.prod(radices) >= base or base <= RADIX
    return out[:, :base]


def kl(model, program, state):
    """Mean KL, in bits per digit, of the exact network's probabilities from the float network's, at all hidden sites."""
    value, depth = state.value.numpy(), state.depth.numpy()
    sites = asked_of(depth, program.digits)
    found = probabilities(ask(Backend(program, "float64"), value, depth, sites), program.base)
    with torch.no_grad():
        logits = model(state)[Sites.where(state.depth < program.digits)]
    p = logits.softmax(1).numpy()
    assert p.shape == found.shape
    seen = p > 0
    assert ((found > 0) == seen).all() or (p[found == 0] < 1e-6).all()
    return float((p[seen] * np.log2(p[seen] / np.maximum(found[seen], 2.0**-26))).sum() / len(p))
