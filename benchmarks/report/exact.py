"""Claims that are identities, checked by enumeration on networks so small that every order, step and mask is covered."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from common import Result, Setting, seeded
from torch import Tensor, nn

from ardm import objective, schedule
from ardm.digits import Digits, Partial, Sites
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.objective import Steps, bound_step
from ardm.plan import Plan
from ardm.walk import score


def arbitrary(config: ModelConfig, seed: int = 0) -> nn.Module:
    """An untrained network in float64 with random non-zero weights."""
    model = build(config, seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data = 0.4 * torch.randn(p.shape, generator=generator, dtype=torch.double)
    return model.requires_grad_(False)


def orders(D: int) -> Iterator[tuple[int, ...]]:
    """All orders of D sites, as ranks."""
    return itertools.permutations(range(D))


def _bound(model: nn.Module, x: Tensor) -> Tensor:
    """(B,) nats: the mean of `bound_step` over every stage, step and order."""
    D, S = x.shape[1], len(model.digits)
    nats = []
    for rank, stage, known in itertools.product(orders(D), range(S), range(D)):
        steps = Steps(*(torch.full((len(x),), n) for n in (stage, known)), torch.tensor(rank).expand(len(x), D))
        nats.append(bound_step(model, x, steps).nats)
    return torch.stack(nats).mean(0)


def _mean_over_plans(model: nn.Module, x: Tensor) -> Tensor:
    """(B,) nats: the mean over orders, a new one for each stage, of −log p(x | order), walked step by step."""
    D, S = x.shape[1], len(model.digits)
    nats = []
    for ranks in itertools.product(orders(D), repeat=S):
        plan = Plan((torch.tensor(ranks) + D * torch.arange(S)[:, None])[None])
        nats.append(score(model, plan, x))
    return torch.stack(nats).mean(0)


def objective_is_unbiased(setting: Setting) -> Result:
    """C1: the expectation of one training step, enumerated, is the any-order bound."""
    result = Result("enumeration")
    for name, config in {
        "one stage, D = 4, K = 3": preset("text-tiny", shape=(4,), classes=3),
        "two stages, D = 3, K = 4, base 2": preset("text-tiny", shape=(3,), classes=4, base=2),
    }.items():
        model = arbitrary(config)
        x = torch.randint(config.classes, (3, *config.shape), generator=seeded(1))
        gap = (_bound(model, x) - _mean_over_plans(model, x)).abs().max()
        result.add(f"greatest difference, {name}", float(gap), unit="nats")
    return result


def leak(setting: Setting) -> Result:
    """C2: hidden values change no output bit in any kind of network, none of which is causal."""
    result = Result("leak")
    kinds = {
        "transformer": preset("text-tiny", shape=(16,), classes=27),
        "wavenet": preset("audio-tiny", shape=(32,), classes=65536),
        "wavenet, digits of base 16": preset("audio-tiny", shape=(32,), classes=65536, base=16, head="digits"),
        "unet": preset("tiny", shape=(3, 8, 8)),
        "centred unet, base 4": preset("centred-tiny", shape=(3, 8, 8), base=4),
        "perceptron": preset("table", shape=(12,), classes=2, width=32),
    }
    for name, config in kinds.items():
        model, generator = arbitrary(config), seeded(2)
        D, S, K = config.sites, len(config.digits), config.classes
        x = torch.randint(K, (4, *config.shape), generator=generator)
        depth = torch.randint(S + 1, x.shape, generator=generator)
        keep = model.digits.truncate(x, depth).value
        block = model.digits.base ** (S - depth)
        other = (keep + torch.randint(1 << 30, x.shape, generator=generator) % block).clamp(max=K - 1)
        sites = Sites.where(depth < S)
        one, two = (model(model.digits.truncate(v, depth))[sites] for v in (x, other))
        changed = float((x != other).double().mean())
        gap = float(torch.nan_to_num((one - two).abs(), nan=0.0).max())
        result.add(
            f"greatest change of an output, {name}", gap, unit="log-odds", note=f"{changed:.0%} of {D} sites changed"
        )
    return result


def step_time(setting: Setting) -> Result:
    """C3: network calls per training step for several D and S, and the time of a step against S."""
    result = Result("step-time")
    models = {}
    for base in (0, 16, 4, 2):
        config = preset("tiny", shape=(3, 16, 16), base=base, head="mixture")
        models[len(config.digits)] = build(config)
    x = torch.randint(256, (8, 3, 16, 16), generator=seeded(3))
    taken: dict[int, list[float]] = {S: [] for S in models}
    for turn in range(3 if setting.quick else 24):
        for S, model in models.items():
            drawn = objective.draw(len(x), S, tuple(x.shape[1:]), seeded(4, turn))
            began = time.process_time()
            bound_step(model, x, drawn).nats.mean().backward()
            taken[S].append(time.process_time() - began)
    base_line = float(np.median(taken[1][2:]))
    for S, times in taken.items():
        median = float(np.median(times[2:]))
        spread = float(np.std(times[2:])) / math.sqrt(len(times) - 2)
        result.add(f"S = {S}", median / base_line, spread / base_line, "times S = 1", note="processor time, median")
    for side in (4, 16):
        for base in (0, 2):
            config = preset("tiny", shape=(3, side, side), base=base, head="mixture")
            model, calls = build(config), []
            model.body.register_forward_hook(lambda *_, seen=calls: seen.append(1))
            some = x[..., :side, :side]
            S = len(config.digits)
            bound_step(
                model, some, objective.draw(len(some), S, tuple(some.shape[1:]), seeded(5))
            ).nats.mean().backward()
            result.add(f"network calls of a step, D = {config.sites} and S = {S}", float(len(calls)))
    return result


def planner_is_optimal(setting: Setting) -> Result:
    """C6, first half: the planner against every possible schedule."""
    result = Result("planner")
    generator = np.random.default_rng(0)
    D, worst, schedules, better = 12, 0.0, 0, []
    for _ in range(3 if setting.quick else 20):
        curve = np.sort(generator.gamma(0.7, size=D))[::-1].copy()
        for budget in (2, 3, 5, 8):
            every = [(0, *rest) for rest in itertools.combinations(range(1, D), budget - 1)]
            costs = [schedule.cost(curve, list(starts)) for starts in every]
            best = schedule.cost(curve, schedule.optimal(curve, budget))
            worst, schedules = max(worst, abs(best - min(costs))), schedules + len(every)
            better.append(schedule.cost(curve, schedule.uniform(D, budget)) / best - 1)
    result.add("greatest difference to the best of all", worst, unit="nats", note=f"{schedules:,} schedules of D = {D}")
    result.add("uniform schedules cost more by, mean", 100 * float(np.mean(better)), unit="%")
    return result


def parametrisations(setting: Setting) -> Result:
    """C15, first half: the digit probabilities of the data parametrisation multiply back to its softmax."""
    result = Result("parametrisation")
    for K, base in ((256, 4), (256, 2), (100, 3)):
        digits = Digits(K, base)
        theta = torch.randn(5, K, generator=seeded(5), dtype=torch.double) * 3
        total = torch.zeros(5, K, dtype=torch.double)
        for value in range(K):
            x = torch.full((5, 1), value)
            for depth in range(len(digits)):
                state = digits.truncate(x, torch.full_like(x, depth))
                logits = digits.children(theta, state.value[:, 0], state.depth[:, 0]).log_softmax(-1)
                digit = x[:, 0] // digits.place(state.depth[:, 0]) % base
                total[:, value] += logits.gather(1, digit[:, None])[:, 0]
        gap = float((total - theta.log_softmax(-1)).abs().max())
        result.add(f"greatest difference, K = {K}, base {base}", gap, unit="nats")
    return result


def continuous_time(setting: Setting) -> Result:
    """C21: the weights of continuous-time absorbing diffusion, a Beta integral, equal those of the any-order bound."""
    result = Result("continuous-time")
    nodes, weights = np.polynomial.legendre.leggauss(64)
    u, w = (nodes + 1) / 2, weights / 2
    worst = 0.0
    for D in (4, 16, 64):
        for n in range(1, D + 1):
            ours = 1 / (n * math.comb(D, n))
            theirs = float(np.sum(w * u ** (n - 1) * (1 - u) ** (D - n)))
            worst = max(worst, abs(theirs / ours - 1))
    result.add(
        "greatest relative difference of a weight", worst, unit="", note="every number of hidden sites, D = 4, 16, 64"
    )
    config = preset("text-tiny", shape=(5,), classes=3)
    model = arbitrary(config)
    x = torch.randint(3, (4, 5), generator=seeded(6))
    by_time = _over_masks(model, x, lambda n: float(np.sum(w * u ** (n - 1) * (1 - u) ** (5 - n))))
    gap = float((by_time - _bound(model, x)).abs().max())
    result.add(
        "greatest difference of the two losses of one network", gap, unit="nats", note="all 32 masks, all 120 orders"
    )
    curve = np.sort(np.random.default_rng(1).gamma(0.7, size=64))[::-1].copy()
    for steps in (10, 100, 1000, 10000):
        over = schedule.absorbing_cost(curve, steps) / schedule.continuous_cost(curve) - 1
        result.add(
            f"absorbing diffusion in {steps} steps costs more by", 100 * over, unit="%", note="one curve, D = 64"
        )
    return result


def _over_masks(model: nn.Module, x: Tensor, weight: Callable[[int], float]) -> Tensor:
    """(B,) nats: the sum over all masks of weight(number hidden) · −log p of the hidden sites."""
    D, total = x.shape[1], torch.zeros(len(x), dtype=torch.double)
    for bits in itertools.product((0, 1), repeat=D):
        hidden = torch.tensor(bits, dtype=torch.bool).expand(len(x), D)
        if not any(bits):
            continue
        state: Partial = model.digits.truncate(x, (~hidden).long())
        sites = Sites.where(hidden)
        logp = model(state).log_prob(sites, sites.of(x))
        total = total.index_add(0, sites.batch_index, -logp * weight(sum(bits)))
    return total
